"""Show version, instruction set, threads and build."""

from __future__ import annotations

import argparse

HELP = "show version, instruction set, threads and build"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no options of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Prints one fact per line."""
    import importlib.util
    import os
    import platform

    import numpy

    import engine
    from engine import backend
    from engine._version import __version__

    facts: dict[str, object] = {
        "engine": __version__,
        "location": os.path.dirname(os.path.abspath(engine.__file__ or "")),
        "instruction set": f"{backend.isa()} (of {', '.join(backend.available_isas())})",
        "threads": backend.num_threads(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": numpy.__version__,
        "system": platform.platform(),
    }
    facts.update({f"build: {key}": value for key, value in backend.build_info().items()})
    extras = {"pillow": "PIL", "tqdm": "tqdm", "matplotlib": "matplotlib", "h5py": "h5py"}
    present = [name for name, module in extras.items() if importlib.util.find_spec(module)]
    facts["extras present"] = ", ".join(present) or "none"
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")
    return 0
