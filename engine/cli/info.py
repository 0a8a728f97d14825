"""Show version, instruction set, threads and build."""

from __future__ import annotations

import argparse

HELP = "show version, instruction set, threads and build"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no options of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints one fact per line."""
    from engine.cli import tasks

    facts = tasks.environment()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return 0
