"""Files: weights and checkpoints. Nothing here runs code that a file holds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.io.checkpoint import (
        Checkpoint as Checkpoint,
        CheckpointError as CheckpointError,
        load_checkpoint as load_checkpoint,
        previous_path as previous_path,
        save_checkpoint as save_checkpoint,
    )
    from engine.io.errors import FileFormatError as FileFormatError, UnsafeFileError as UnsafeFileError
    from engine.io.safetensors import (
        load_file as load_file,
        read_metadata as read_metadata,
        save_file as save_file,
    )

# Name -> module; a module is loaded when one of its names is first used, so that importing the engine stays quick.
_EXPORTS = {
    "Checkpoint": "checkpoint",
    "CheckpointError": "checkpoint",
    "load_checkpoint": "checkpoint",
    "previous_path": "checkpoint",
    "save_checkpoint": "checkpoint",
    "FileFormatError": "errors",
    "UnsafeFileError": "errors",
    "load_file": "safetensors",
    "read_metadata": "safetensors",
    "save_file": "safetensors",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
