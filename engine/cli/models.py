"""List the models, and for those with pretrained weights how large and how good they are."""

from __future__ import annotations

import argparse

HELP = "list the models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the patterns."""
    parser.add_argument("pattern", metavar="PATTERN", nargs="*", help="names to list, with * and ? (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Prints a line per model."""
    from engine import models
    from engine.models import _weights

    names = models.list_models(include=arguments.pattern or None)
    if not names:
        raise ValueError(f"no model matches {' '.join(arguments.pattern)}: engine models lists all")
    table = _weights.table()
    width = max(map(len, names))
    print(f"{'model':<{width}}  {'parameters':>11}  {'acc@1':>6}  weights (* is the default)")
    for name in names:
        if name not in table:
            print(f"{name:<{width}}  {'':>11}  {'':>6}  none")
            continue
        row = table[name]
        default = next(line for line in row["weights"] if line["member"] == row["default"])
        members = [line["member"] + ("*" if line is default else "") for line in row["weights"]]
        print(f"{name:<{width}}  {row['params']:>11,}  {default['acc1']:>6.2f}  {', '.join(members)}")
    return 0
