"""The command `engine`: train, evaluate, predict, models, weights, summary, convert, info.

Each command is one module of this package with `HELP`, `add_arguments(parser)` and `run(arguments) -> exit code`; the
modules import what they work with inside `run`, so that help and usage errors come at once.

Exit codes: 0 done, 1 failed (one line on standard error; the traceback with --debug), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = ("train", "evaluate", "predict", "models", "weights", "summary", "convert", "info")


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    from engine._version import __version__
    from engine.cli.arguments import HelpFormatter

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="engine",
        description="Train, evaluate and use convolutional networks.",
        epilog="engine COMMAND --help shows a command's options.",
    )
    parser.add_argument("--version", action="version", version=f"engine {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"engine.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            parents=[common],
            formatter_class=HelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        The exit code.
    """
    arguments = make_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; nothing is left to say, also not at the interpreter's own last flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if arguments.debug:
            import traceback

            traceback.print_exc()
        else:
            text = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, (ValueError, OSError, RuntimeError, ImportError)):
                text = f"{type(error).__name__}: {text} (--debug shows where)"
            print(f"engine {arguments.command}: error: {text}", file=sys.stderr)
        return 1
