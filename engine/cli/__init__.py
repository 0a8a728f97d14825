"""The command `engine`: train, finetune, evaluate, predict, lr-find, tune, report, models, weights, summary, convert,
info.

Each command is one module of this package with `HELP`, `add_arguments(parser)` and `run(arguments) -> exit code`; the
modules import what they work with inside `run`, so that help and usage errors come at once.

Exit codes: 0 done, 1 failed (one line on standard error; the traceback with --debug or ENGINE_VERBOSE=1), 2 wrong
usage, 3 the loss became NaN or infinite, 130 interrupted by Ctrl-C, 143 by SIGTERM; after the last two a training can
be continued with --resume.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

COMMANDS = (
    "train",
    "finetune",
    "evaluate",
    "predict",
    "lr-find",
    "tune",
    "report",
    "models",
    "weights",
    "summary",
    "convert",
    "info",
)
DONE, FAILED, USAGE, DIVERGED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

_EXIT_CODES = (
    f"exit codes: {DONE} done, {FAILED} failed, {USAGE} wrong usage, {DIVERGED} the loss became NaN or infinite, "
    f"{INTERRUPTED} interrupted (Ctrl-C), {TERMINATED} terminated"
)


def _module(command: str) -> Any:
    return importlib.import_module(f"engine.cli.{command.replace('-', '_')}")


def make_parser(selected: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of the command line.

    Args:
        selected: the command whose options are wanted; None for those of all.
    """
    from engine._version import __version__
    from engine.cli.arguments import HelpFormatter

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser(
        prog="engine",
        description="Train, evaluate and use convolutional networks.",
        epilog=f"engine COMMAND --help shows a command's options; {_EXIT_CODES}",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"engine {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = _module(name)
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog=_EXIT_CODES,
            parents=[common],
            formatter_class=HelpFormatter,
            allow_abbrev=False,  # --lr-s would silently become something else when an option is added
        )
        if selected in (None, name):
            module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses a command line; what a configuration file or a run to be resumed says takes the place of defaults.

    Args:
        argv: the arguments without the program's name.

    Raises:
        SystemExit: with code 2 for wrong usage, with 0 after help.
    """
    selected = next((word for word in argv if not word.startswith("-")), None)
    if selected is not None and selected not in COMMANDS and argv[0] == selected:
        make_parser("").error(f"unknown command {selected!r}{_advice(selected, COMMANDS) or ': see engine --help'}")
    parser = make_parser(selected)
    if selected is not None:
        from engine.cli import config

        config.apply(parser, selected, argv)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(arguments.parser, unknown)
    return arguments


def _refuse(parser: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    """Ends with the options that were perhaps meant."""
    flags = [word.split("=", 1)[0] for word in unknown if word.startswith("-")]
    advice = _advice(flags[0], parser._option_string_actions) if flags else ""
    parser.error(f"unrecognized arguments: {' '.join(unknown)}{advice}")


def _advice(word: str, known: Any) -> str:
    import difflib

    close = difflib.get_close_matches(word.replace("_", "-").lower(), list(known), n=2, cutoff=0.6)
    return f": did you mean {' or '.join(close)}?" if close else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        The exit code.
    """
    arguments = parse(sys.argv[1:] if argv is None else argv)
    with _Termination() as termination:
        try:
            code: int = arguments.run(arguments)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            print("\nterminated" if termination.came else "\ninterrupted", file=sys.stderr)
            return TERMINATED if termination.came else INTERRUPTED
        except BrokenPipeError:
            # Whoever read the output has gone; nothing is left to say, also not at the interpreter's own last flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except Exception as error:
            return _report(error, arguments)


def _report(error: Exception, arguments: argparse.Namespace) -> int:
    """Says in one line what went wrong and returns the exit code for it."""
    if arguments.debug or os.environ.get("ENGINE_VERBOSE", "0") not in ("", "0"):
        import traceback

        traceback.print_exc()
    else:
        text = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, (ValueError, OSError, RuntimeError, ImportError)):
            text = f"{type(error).__name__}: {text} (--debug shows where)"
        print(f"engine {arguments.command}: error: {text}", file=sys.stderr)
    train = sys.modules.get("engine.train")
    return DIVERGED if train is not None and isinstance(error, train.NonFiniteLossError) else FAILED


class _Termination:
    """While this is entered, SIGTERM does what Ctrl-C does: what was trained is saved."""

    came = False

    def __enter__(self) -> _Termination:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._handle)
        return self

    def _handle(self, number: int, frame: Any) -> None:
        self.came = True
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a job in the background: nothing notes it for later
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
