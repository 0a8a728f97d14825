"""Find a learning rate: a short run in which it rises from step to step, until the loss does."""

from __future__ import annotations

import argparse

from engine.cli.arguments import integer, number, set_threads

HELP = "find a learning rate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a training, and those of the search."""
    from engine.cli.options import add_training

    add_training(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--start-lr", type=number(0, open_low=True), default=1e-6, metavar="RATE", help="the first rate")
    group.add_argument("--end-lr", type=number(0, open_low=True), default=10.0, metavar="RATE", help="the last rate")
    group.add_argument("--steps", type=integer(4), default=100, metavar="N", help="steps at most")


def run(arguments: argparse.Namespace) -> int:
    """Searches, prints the rate, and with --output-dir keeps the curve."""
    import os

    from engine.cli import tasks, training
    from engine.lr_finder import lr_find

    set_threads(arguments.threads)
    made = training.setup(arguments)
    trained = training.trainer(arguments, made, None)
    print(made.headline(), flush=True)
    found = lr_find(trained, made.train, arguments.start_lr, arguments.end_lr, arguments.steps)
    count = len(found.lrs)
    print(f"\n{'lr':>10}  {'loss':>8}  {'smoothed':>8}")
    for i in range(0, count, max(1, count // 12)):
        print(f"{found.lrs[i]:>10.3g}  {found.losses[i]:>8.4f}  {found.smoothed[i]:>8.4f}")
    suggestion = found.suggestion
    print(f"\nsuggested learning rate: {suggestion:.3g}   (bold: {found.minimum:.3g})")
    if arguments.output_dir:
        directory = training.make_directory(arguments, made.model_name)
        columns = {"lr": found.lrs, "loss": found.losses, "smoothed": found.smoothed}
        numbers = {name: [float(value) for value in values] for name, values in columns.items()}
        tasks.write_json(directory, "lr_find.json", {"suggestion": suggestion, "bold": found.minimum, **numbers})
        try:
            found.plot(os.path.join(directory, "lr_find.png"))
        except ImportError as error:
            print(f"no plot: {error}")
        print(f"saved in {directory}")
    return 0
