"""Files: weights and checkpoints. Nothing here runs code that a file holds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.io.checkpoint import Checkpoint, CheckpointError, load_checkpoint, previous_path, save_checkpoint
    from engine.io.errors import FileFormatError, UnsafeFileError
    from engine.io.hub import HubError
    from engine.io.safetensors import load_file, read_metadata, save_file
    from engine.io.weights_file import convert_weights, load_weights, read_weights, save_weights, write_weights

# Name -> module; a module is loaded when one of its names is first used, so that importing the engine stays quick.
_EXPORTS = {
    "Checkpoint": "checkpoint",
    "CheckpointError": "checkpoint",
    "FileFormatError": "errors",
    "HubError": "hub",
    "UnsafeFileError": "errors",
    "convert_weights": "weights_file",
    "load_checkpoint": "checkpoint",
    "load_file": "safetensors",
    "load_weights": "weights_file",
    "previous_path": "checkpoint",
    "read_metadata": "safetensors",
    "read_weights": "weights_file",
    "save_checkpoint": "checkpoint",
    "save_file": "safetensors",
    "save_weights": "weights_file",
    "write_weights": "weights_file",
}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "FileFormatError",
    "HubError",
    "UnsafeFileError",
    "convert_weights",
    "load_checkpoint",
    "load_file",
    "load_weights",
    "previous_path",
    "read_metadata",
    "read_weights",
    "save_checkpoint",
    "save_file",
    "save_weights",
    "write_weights",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
