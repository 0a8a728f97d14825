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
    parser.add_argument("-j", "--workers", type=integer(0), default=0, metavar="N", help="threads that prepare batches")
    parser.add_argument("--output", metavar="FILE", help="also write the numbers to this file, as JSON")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluates and prints the report."""
    import engine
    from engine.cli import tasks
    from engine.data import DataLoader
    from engine.train import Trainer

    set_threads(arguments.threads)
    checkpoint, model, preprocessing = tasks.open_checkpoint(arguments.checkpoint)
    splits = tasks.reopen_data(checkpoint.data, arguments.data_path, exactly=arguments.split != "all")
    if splits.classes != checkpoint.class_names[: len(splits.classes)]:
        raise ValueError(f"the data have the classes {', '.join(splits.classes)}, the model knows other ones")
    tasks.prepare(splits, preprocessing)
    transform = tasks.evaluation_transform(splits, preprocessing)
    part = splits.part(arguments.split)
    loader = DataLoader(part, arguments.batch_size, transform=transform, num_workers=arguments.workers)
    smoothing = checkpoint.arguments.get("label_smoothing", 0.0)
    trainer = Trainer(model, engine.nn.CrossEntropyLoss(label_smoothing=smoothing))
    text, numbers = tasks.summarize(tasks.test(trainer, loader), checkpoint.class_names)
    where = splits.description["path"]
    print(f"{checkpoint.model_name}, epoch {checkpoint.epoch}, {arguments.split} part of {where}\n")
    print(f"{arguments.split} {text}")
    if arguments.output:
        tasks.write_json("", arguments.output, numbers)
    return 0
