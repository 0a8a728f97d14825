"""Train a model, test it, and keep everything about the run in one directory.

Without options: LeNet-5 on the packaged handwritten digits."""

from __future__ import annotations

import argparse

from engine.cli.arguments import set_threads

HELP = "train a model; without options LeNet-5 on the packaged digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options, named as in torchvision's and timm's training scripts."""
    from engine.cli.options import add_training

    add_training(parser)
    parser.add_argument("--test-only", action="store_true", help="test the weights of --weights or --resume, and end")


def run(arguments: argparse.Namespace) -> int:
    """Trains, tests and saves."""
    import os

    from engine.cli import tasks, training
    from engine.cli.config import last_of

    set_threads(arguments.threads)
    if arguments.test_only and not (arguments.weights or arguments.pretrained or arguments.resume):
        raise ValueError("--test-only needs weights to test: --weights, --pretrained or --resume")
    made = training.setup(arguments)
    if arguments.test_only:
        trained = training.trainer(arguments, made, None)
        if arguments.resume:
            training.resume(trained, arguments)
        print(made.headline(), flush=True)
        print(f"\ntest {tasks.summarize(tasks.test(trained, made.test), made.classes)[0]}")
        return 0
    if arguments.resume:
        directory = os.path.dirname(os.path.abspath(last_of(arguments.resume)))
        arguments.output_dir = directory
    else:
        directory = training.make_directory(arguments, made.model_name)
    trained = training.trainer(arguments, made, directory)
    if arguments.resume:
        training.resume(trained, arguments)
    training.begin(arguments, directory)
    return training.fit(trained, made, arguments, directory)
