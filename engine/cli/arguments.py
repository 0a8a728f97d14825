"""Types of command-line arguments, with messages that say what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Callable


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults where there is something to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def integer(low: int) -> Callable[[str], int]:
    """Returns a type that accepts whole numbers from `low` up."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, got {text!r}")
        return value

    return convert


def number(low: float, high: float = float("inf"), open_low: bool = False) -> Callable[[str], float]:
    """Returns a type that accepts numbers from `low` (or above it, when open) to below `high`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (low < value if open_low else low <= value) or not value < high:
            bounds = f"{'above' if open_low else 'of at least'} {low:g}"
            if high != float("inf"):
                bounds += f" and below {high:g}"
            raise argparse.ArgumentTypeError(f"expected a number {bounds}, got {text!r}")
        return value

    return convert


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def add_threads(parser: argparse._ActionsContainer) -> None:
    """Adds the option that all computing commands share."""
    parser.add_argument("--threads", type=integer(1), metavar="N", help="threads that compute (default: all cores)")


def set_threads(count: int | None) -> None:
    """Applies it."""
    if count is not None:
        from engine import backend

        backend.set_num_threads(count)
