"""Measure a checkpoint on the test part of the data it was made with."""

from __future__ import annotations

import argparse

from engine.cli.arguments import add_threads, integer, set_threads

HELP = "measure a checkpoint on its test part"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint file, or a run's directory for its best")
    parser.add_argument(
        "--split", choices=("train", "val", "test", "all"), default="test", help="which part of the data"
    )
    parser.add_argument("--data-path", metavar="PATH", help="where the data are now (default: where they were)")
    parser.add_argument("-b", "--batch-size", type=integer(1), default=256, metavar="N", help="images per step")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates and prints the report."""
    import engine
    from engine.cli import tasks
    from engine.data import DataLoader, Preprocessing
    from engine.io import load_checkpoint
    from engine.train import Trainer

    set_threads(arguments.threads)
    checkpoint = load_checkpoint(arguments.checkpoint)
    splits = tasks.reopen_data(checkpoint.data, arguments.data_path)
    preprocessing = Preprocessing.from_dict(checkpoint.preprocessing)
    tasks.prepare(splits, preprocessing)
    model = tasks.make_model(checkpoint.model_name, checkpoint.model_args)
    checkpoint.restore(model=model)
    loader = DataLoader(splits.part(arguments.split), arguments.batch_size, transform=preprocessing.normalize())
    smoothing = checkpoint.arguments.get("label_smoothing", 0.0)
    trainer = Trainer(model, engine.nn.CrossEntropyLoss(label_smoothing=smoothing))
    text, _ = tasks.report(trainer.evaluate(loader), checkpoint.class_names)
    print(f"{checkpoint.model_name}, epoch {checkpoint.epoch}, {arguments.split} part of {checkpoint.data['path']}\n")
    print(f"{arguments.split} {text}")
    return 0
