"""Show a model's layers with shapes, parameters, operations and memory."""

from __future__ import annotations

import argparse
import re

from engine.cli.arguments import add_threads, integer, set_threads

HELP = "show a model's layers"


def _size(text: str) -> tuple[int, ...]:
    """One number for a square, or C,H,W, or N,C,H,W."""
    numbers = re.split("[x,]", text)
    if len(numbers) not in (1, 3, 4) or not all(part.isdigit() and int(part) for part in numbers):
        raise argparse.ArgumentTypeError(f"expected a size such as 224, 3x224x224 or 8x3x224x224, got {text!r}")
    return tuple(map(int, numbers))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("name", metavar="NAME", help="a model")
    parser.add_argument(
        "--input-size", type=_size, metavar="SIZE", help="224, 3x224x224 or 8x3x224x224 (default: the model's own)"
    )
    parser.add_argument("--num-classes", type=integer(1), metavar="N", help="outputs (default: the model's own)")
    parser.add_argument("--depth", type=integer(1), metavar="N", help="levels of modules to show (default: all)")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the model once and prints the table."""
    from engine import models
    from engine.cli import tasks
    from engine.models.summary import summarize

    set_threads(arguments.threads)
    options = {} if arguments.num_classes is None else {"num_classes": arguments.num_classes}
    with models.skip_init():  # the values do not matter
        model = tasks.make_model(arguments.name, options)
    size = arguments.input_size or (getattr(model, "image_size", 224),)
    if len(size) == 1:
        size = (tasks.input_channels(model), *size * 2)
    print(summarize(model, size, arguments.depth))
    return 0
