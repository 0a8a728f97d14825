"""Name what is on images, with probabilities."""

from __future__ import annotations

import argparse
import sys

from engine.cli.arguments import add_threads, integer, set_threads

HELP = "name what is on images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint file, or a run's directory for its best")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files (PNG, JPEG, ...)")
    parser.add_argument("--topk", type=integer(1), default=3, metavar="K", help="classes to show per image")
    parser.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="exchange dark and bright first; by default digits are inverted when the border is bright, as on paper",
    )
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predicts image by image; unreadable ones are reported, the others still answered."""
    import numpy as np

    from engine.autograd import no_grad
    from engine.cli import tasks
    from engine.data import ImageError, Preprocessing
    from engine.functional import softmax
    from engine.io import load_checkpoint
    from engine.tensor import from_numpy

    set_threads(arguments.threads)
    checkpoint = load_checkpoint(arguments.checkpoint)
    preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
    normalize = preprocessing.normalize()
    model = tasks.make_model(checkpoint.model_name, checkpoint.model_args)
    checkpoint.restore(model=model)
    model.eval()
    names = checkpoint.class_names
    failed = False
    for path in arguments.images:
        try:
            image = preprocessing.load(path, arguments.invert)
        except ImageError as error:
            print(f"engine predict: error: {' '.join(str(error).split())}", file=sys.stderr)
            failed = True
            continue
        with no_grad():
            shares = softmax(model(from_numpy(normalize(image[None]))), 1).numpy()[0]
        best = np.argsort(-shares, kind="stable")[: arguments.topk]
        print(f"{path}: {names[best[0]]}  (" + ", ".join(f"{names[k]} {100 * shares[k]:.2f} %" for k in best) + ")")
    return 1 if failed else 0
