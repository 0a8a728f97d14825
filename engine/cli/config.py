"""Options from files: --config with TOML or JSON, and the arguments that a run to be resumed was started with.

A key is an option's name, with - or _ between the words. What such a file says takes the place of the option's default,
so that options on the command line come first.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

# In the arguments.json of a run, but no options that a file may set.
_NOT_OPTIONS = ("command", "config", "debug", "help", "resume", "run", "parser")


def apply(parser: argparse.ArgumentParser, command: str, argv: Sequence[str]) -> None:
    """Makes new defaults of the files that `argv` names.

    Args:
        parser: of the whole command line, with the options of the command.
        command: the command.
        argv: the command line.

    Raises:
        SystemExit: with code 2, when a file cannot be read, or has an unknown key or a wrong value.
    """
    chosen: argparse.ArgumentParser = parser._subparsers._group_actions[0].choices[command]  # type: ignore[union-attr, index]
    options = {string for string in ("--config", "--resume") if string in chosen._option_string_actions}
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    scan.error = chosen.error  # type: ignore[method-assign]
    for option in sorted(options):
        scan.add_argument(option)
    found, _ = scan.parse_known_args([word for word in argv if word not in ("-h", "--help")])
    if getattr(found, "resume", None):
        from engine.io import load_checkpoint

        try:
            checkpoint = load_checkpoint(last_of(found.resume))
        except (OSError, ValueError, RuntimeError) as error:
            parser.exit(1, f"engine {command}: error: {' '.join(str(error).split())}\n")
        saved = {key: value for key, value in checkpoint.arguments.items() if key in dests(chosen)}
        chosen.set_defaults(**_values(chosen, found.resume, command, saved))
    if getattr(found, "config", None):
        chosen.set_defaults(**_values(chosen, found.config, command, read(chosen, found.config)))


def last_of(path: str) -> str:
    """The last state of a run when a directory is given."""
    return os.path.join(path, "last.safetensors") if os.path.isdir(path) else path


def read(parser: argparse.ArgumentParser, path: str) -> Mapping[str, Any]:
    """Reads a TOML or JSON file of options; the name's ending tells which it is.

    Args:
        parser: ends with its error when the file cannot be read.
        path: the file.
    """
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
        if path.endswith(".json"):
            content = json.loads(text)
        elif path.endswith(".toml"):
            content = _toml(parser, path).loads(text)
        else:
            parser.error(f"--config {path}: expected a file that ends in .toml or .json")
    except OSError as error:
        parser.error(f"--config {path}: {error.strerror}")
    except ValueError as error:
        parser.error(f"--config {path}: {' '.join(str(error).split())}")
    if not isinstance(content, dict):
        parser.error(f"--config {path}: expected options by name, got a {type(content).__name__}")
    return content


def _toml(parser: argparse.ArgumentParser, path: str) -> Any:
    for name in ("tomllib", "tomli"):  # in Python from 3.11 on; before that a package of the same content
        try:
            return __import__(name)
        except ImportError:
            continue
    parser.error(f'--config {path}: TOML needs Python 3.11, or: pip install "engine[train]"; JSON does not')


def dests(parser: argparse.ArgumentParser) -> set[str]:
    """Returns the names under which a file may set options.

    Args:
        parser: of one command.
    """
    return {action.dest for action in parser._actions if action.option_strings} - set(_NOT_OPTIONS)


def _values(parser: argparse.ArgumentParser, path: str, command: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """The content by the options' destinations, converted and checked as the options' own words are."""
    known = {}
    for string, action in parser._option_string_actions.items():
        if action.dest not in _NOT_OPTIONS:
            known[string.lstrip("-").replace("-", "_")] = known[action.dest] = action
    values = {}
    if content.get("command", command) != command:
        parser.error(f"{path}: these are options of engine {content['command']}, not of engine {command}")
    for key, value in content.items():
        if key in _NOT_OPTIONS or value is None:
            continue
        name = key.replace("-", "_")
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, n=1)
            advice = f": did you mean {close[0]}?" if close else ""
            parser.error(f"{path}: there is no option {key!r}{advice}")
        values[known[name].dest] = _converted(parser, path, key, known[name], value)
    return values


def _converted(parser: argparse.ArgumentParser, path: str, key: str, action: argparse.Action, value: Any) -> Any:
    if action.nargs == 0:  # a switch
        if not isinstance(value, bool):
            parser.error(f"{path}: {key}: expected true or false, got {value!r}")
        return value
    several = isinstance(action.nargs, int) or action.nargs in ("+", "*")
    items = value if isinstance(value, list) else [value]
    if not several and isinstance(value, list) or isinstance(action.nargs, int) and len(items) != action.nargs:
        wanted = action.nargs if isinstance(action.nargs, int) else "one"
        parser.error(f"{path}: {key}: expected {wanted} value{'s' if wanted != 'one' else ''}, got {value!r}")
    done = []
    for item in items:
        if isinstance(item, bool | dict | list):
            parser.error(f"{path}: {key}: expected a number or a text, got {item!r}")
        kind: Any = action.type or str
        try:
            converted = kind(str(item))
        except (argparse.ArgumentTypeError, ValueError) as error:
            parser.error(f"{path}: {key}: {error}")
        if action.choices is not None and converted not in action.choices:
            parser.error(f"{path}: {key}: expected one of {', '.join(map(str, action.choices))}, got {item!r}")
        done.append(converted)
    return done if several else done[0]
