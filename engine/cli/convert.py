"""Write the weights of one file to another of another container: .pth, .pt, .tar, .safetensors or .h5 to .safetensors
or .pth. Nothing in the source is executed."""

from __future__ import annotations

import argparse

HELP = "convert a file of weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the files."""
    parser.add_argument("source", metavar="IN", help="torch, safetensors or Keras Xception file; its content tells")
    parser.add_argument("target", metavar="OUT", help="file to make: .safetensors, .pth or .pt")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def run(arguments: argparse.Namespace) -> int:
    """Converts and says what was written."""
    import os

    from engine.io.weights_file import convert_weights

    if os.path.exists(arguments.target) and not arguments.force:
        raise FileExistsError(f"{arguments.target} exists: choose another name, or give --force")
    count = convert_weights(arguments.source, arguments.target)
    print(f"{arguments.target}: {count} arrays, {os.path.getsize(arguments.target) / 2**20:.1f} MiB")
    return 0
