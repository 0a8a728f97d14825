"""Files: weights and checkpoints. Nothing here runs code that a file holds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.io.checkpoint import Checkpoint, CheckpointError, load_checkpoint, previous_path, save_checkpoint
    from engine.io.errors import FileFormatError, UnsafeFileError
    from engine.io.safetensors import load_file, read_metadata, save_file

# Name -> module; a module is loaded when one of its names is first used, so that importing the engine stays quick.
_EXPORTS = {
    "Checkpoint": "checkpoint",
    "CheckpointError": "checkpoint",
    "FileFormatError": "errors",
    "UnsafeFileError": "errors",
    "load_checkpoint": "checkpoint",
    "load_file": "safetensors",
    "previous_path": "checkpoint",
    "read_metadata": "safetensors",
    "save_checkpoint": "checkpoint",
    "save_file": "safetensors",
}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FileFormatError",
    "UnsafeFileError",
    "load_checkpoint",
    "load_file",
    "previous_path",
    "read_metadata",
    "save_checkpoint",
    "save_file",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
