"""Checkpoints: everything a run needs to be evaluated, used or continued, in one file without pickle.

The file is a safetensors file. Arrays are its tensors (the model's under `model.<name>`, so any safetensors reader can
take the weights); the rest is JSON in its metadata, where an array's place is marked by its tensor's name. A SHA-256
over both is stored beside them.

Writing is atomic: the new file is completed and flushed under a temporary name, the file before is linked to
`<name>.previous`, and one rename makes the new one appear. At every moment a complete file carries the name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from engine.io.errors import FileFormatError
from engine.io.safetensors import load_file, read_metadata, save_file
from engine.random import set_rng_state

__all__ = ["Checkpoint", "CheckpointError", "load_checkpoint", "previous_path", "save_checkpoint"]

_FORMAT = "engine-checkpoint"
_VERSION = 1
_STALE_SECONDS = 3600.0


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message names the file and what is wrong with it.

    Example:
        >>> load_checkpoint("no/such/file.safetensors")
        Traceback (most recent call last):
            ...
        engine.io.checkpoint.CheckpointError: no/such/file.safetensors: no such file
    """


@dataclass
class Checkpoint:
    """What a checkpoint file holds.

    Every field may nest dicts, lists, tuples, numbers, strings, None, arrays and tensors; loading gives arrays back.

    Attributes:
        model: the model's state dict.
        model_name: what `engine.models.get_model` calls the model.
        model_args: the further arguments of that call.
        class_names: names of the classes in the order of the outputs.
        preprocessing: how images become inputs (`engine.data.Preprocessing.to_dict`).
        optimizer: the optimizer's state dict.
        scheduler: the scheduler's state dict.
        rng: the state of the random generator.
        trainer: the trainer's state dict: epoch, steps, history, callbacks.
        data: which data were used and how they were split.
        arguments: the arguments of the run.

    Example:
        >>> checkpoint = Checkpoint(model={"weight": np.ones(2, np.float32)}, class_names=["cat", "dog"])
        >>> checkpoint.epoch
        0
    """

    model: Mapping[str, Any]
    model_name: str = ""
    model_args: dict[str, Any] = field(default_factory=dict)
    class_names: list[str] = field(default_factory=list)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    optimizer: Any = None
    scheduler: Any = None
    rng: Any = None
    trainer: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Epochs that were done when the checkpoint was made."""
        return int(self.trainer.get("epoch", 0))

    @property
    def history(self) -> list[dict[str, Any]]:
        """The epochs' numbers."""
        return list(self.trainer.get("history", []))

    def restore(
        self,
        model: Any = None,
        optimizer: Any = None,
        scheduler: Any = None,
        trainer: Any = None,
        *,
        check_data: bool = True,
    ) -> None:
        """Loads the saved states into the given objects, each with its own `load_state_dict`.

        With a trainer, the state of the random generator is restored, too, so that training goes on as if it had not
        been interrupted.

        Args:
            model: a model of the architecture that was saved.
            optimizer: an optimizer over the same parameters.
            scheduler: a scheduler of the same kind.
            trainer: a trainer with the same callbacks.
            check_data: whether the trainer's next fit must be on the data that the checkpoint was reached with.

        Raises:
            CheckpointError: when a state is asked for that was not saved, or does not fit: the checkpoint is of another
                model, optimizer or scheduler.
        """
        targets = (("model", model), ("optimizer", optimizer), ("scheduler", scheduler), ("trainer", trainer))
        for name, target in targets:
            if target is None:
                continue
            state = getattr(self, name)
            if not state:
                raise CheckpointError(f"the checkpoint holds no state of the {name}")
            options = {"check_data": check_data} if name == "trainer" else {}
            try:
                target.load_state_dict(_with_tensors(state), **options)
            except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
                whose = f" {self.model_name}" if name == "model" and self.model_name else ""
                raise CheckpointError(
                    f"the checkpoint is of another {name}{whose} than this {type(target).__name__}: {error}"
                ) from error
        if trainer is not None and self.rng is not None:
            set_rng_state(self.rng)


def _with_tensors(tree: Any) -> Any:
    from engine.tensor import from_numpy

    if isinstance(tree, np.ndarray):
        return from_numpy(tree)
    if isinstance(tree, Mapping):
        return {key: _with_tensors(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_with_tensors(value) for value in tree)
    return tree


def previous_path(path: str | os.PathLike[str]) -> str:
    """Returns where `save_checkpoint` keeps the file that `path` named before.

    Args:
        path: a checkpoint's path.

    Example:
        >>> previous_path("runs/a/best.safetensors")
        'runs/a/best.previous.safetensors'
    """
    stem, extension = os.path.splitext(os.fspath(path))
    return f"{stem}.previous{extension}"


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint, keep_previous: bool = True) -> None:
    """Writes a checkpoint, all or nothing.

    Args:
        path: the file to make or replace; its directory must exist.
        checkpoint: what to save.
        keep_previous: keep the file that is replaced, under `previous_path(path)`; a damaged one is not kept.

    Raises:
        CheckpointError: when the disk is full, the directory is missing or the content cannot be stored. The file that
            `path` named before is intact, and so is its previous one.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "last.safetensors")
        >>> save_checkpoint(path, Checkpoint(model={"weight": np.ones(2, np.float32)}, trainer={"epoch": 3}))
        >>> load_checkpoint(path).epoch
        3
    """
    path = os.fspath(path)
    tensors: dict[str, np.ndarray] = {}
    try:
        tree = {item.name: _pack(getattr(checkpoint, item.name), item.name, tensors) for item in fields(checkpoint)}
        state = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be saved: {error}") from error
    metadata = {
        "format": _FORMAT,
        "version": str(_VERSION),
        "state": state,
        "sha256": _digest(tensors, state),
    }
    directory, name = os.path.split(os.path.realpath(path))
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}.tmp")
    _remove_stale(directory, f".{name}.")
    try:
        try:
            save_file(tensors, temporary, metadata)
            if keep_previous and _looks_complete(path):
                _link_previous(path, temporary + ".previous.tmp")
            os.replace(temporary, os.path.join(directory, name))
            _flush_folder(directory)
        finally:
            for leftover in (temporary, temporary + ".previous.tmp"):
                with contextlib.suppress(OSError):
                    os.unlink(leftover)
    except (OSError, ValueError, TypeError) as error:
        fault = error.strerror if isinstance(error, OSError) and error.strerror else error
        kept = "; the file of that name is unchanged" if os.path.exists(path) else ""
        raise CheckpointError(f"{path}: cannot be saved: {fault}{kept}") from error


def load_checkpoint(path: str | os.PathLike[str], fallback: bool = False) -> Checkpoint:
    """Reads a checkpoint and verifies its checksum.

    Args:
        path: the file, or a run's directory, which stands for its `best.safetensors`, else its `last.safetensors`.
        fallback: when the file is missing or damaged, read the previous one instead if that is good.

    Raises:
        CheckpointError: when the file is missing, unreadable, truncated, altered, or not a checkpoint of this engine;
            the message names the file and the fault, and the previous good file if there is one.
    """
    path = os.fspath(path)
    if os.path.isdir(path):
        path = _best_in(path)
    try:
        return _load(path)
    except CheckpointError as error:
        previous = previous_path(path)
        if not os.path.isfile(previous):
            raise
        if fallback:
            return _load(previous)
        if _looks_complete(previous):
            raise CheckpointError(f"{error} (the checkpoint before it is in {previous})") from error.__cause__
        raise


def _best_in(directory: str) -> str:
    for name in ("best.safetensors", "last.safetensors"):
        if os.path.isfile(os.path.join(directory, name)):
            return os.path.join(directory, name)
    raise CheckpointError(
        f"{directory}: the directory holds no best.safetensors or last.safetensors: name a checkpoint file"
    )


def _load(path: str) -> Checkpoint:
    try:
        metadata = read_metadata(path)
        if metadata.get("format") != _FORMAT:
            raise CheckpointError(
                f"{path}: a safetensors file, but not a checkpoint of this engine: read weights alone with "
                f"engine.io.load_file"
            )
        if metadata.get("version") != str(_VERSION):
            raise CheckpointError(
                f"{path}: checkpoint format version {metadata.get('version')}, this engine reads version {_VERSION}: "
                f"use a newer engine"
            )
        # Not mapped: a training run may replace the file, or a disk fail, while the arrays are in use.
        tensors = load_file(path, mmap=False)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except FileFormatError as error:
        text = str(error)
        text = text if path in text else f"{path}: {text}"
        raise CheckpointError(f"{text}: truncated, damaged, or not a checkpoint") from error
    state = metadata.get("state", "")
    if metadata.get("sha256") != _digest(tensors, state):
        raise CheckpointError(f"{path}: the checksum does not match: the file was damaged or altered after it was made")
    try:
        tree = _unpack(json.loads(state), tensors)
        known = {item.name for item in fields(Checkpoint)}
        return Checkpoint(**{key: value for key, value in tree.items() if key in known})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the content does not fit the format: {error}") from error


def _digest(tensors: Mapping[str, np.ndarray], state: str) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    digest.update(state.encode())
    return digest.hexdigest()


# A JSON object with exactly one of these keys stands for what JSON itself cannot say.
_MARKS = ("__tensor__", "__tuple__", "__items__", "__float__")


def _pack(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Turns a tree into JSON and moves its arrays to `tensors`, named by their path in the tree."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"__float__": repr(value)}
    if isinstance(value, np.generic):
        return _pack(value.item(), name, tensors)
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biufc":
            raise TypeError(f"{name} is an array of dtype {value.dtype}: expected numbers or booleans")
        while name in tensors:  # keys may contain dots, so two places can have one path
            name += "'"
        tensors[name] = value.astype(value.dtype.newbyteorder("="), copy=False)
        return {"__tensor__": name}
    if isinstance(value, tuple):
        return {"__tuple__": [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and not any(key in _MARKS for key in value):
            return {key: _pack(item, f"{name}.{key}", tensors) for key, item in value.items()}
        return {
            "__items__": [
                [_pack(key, f"{name}.key", tensors), _pack(item, f"{name}.{key}", tensors)]
                for key, item in value.items()
            ]
        }
    raise TypeError(f"{name} is a {type(value).__name__}: expected numbers, strings, arrays, lists or dicts")


def _unpack(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((mark, content),) = value.items()
        if mark == "__tensor__":
            return tensors[content]
        if mark == "__tuple__":
            return tuple(_unpack(item, tensors) for item in content)
        if mark == "__items__":
            return {_unpack(key, tensors): _unpack(item, tensors) for key, item in content}
        if mark == "__float__":
            return float(content)
    return {key: _unpack(item, tensors) for key, item in value.items()}


def _looks_complete(path: str) -> bool:
    """Whether header and size of the file agree, so that it may serve as the previous good one."""
    try:
        return read_metadata(path).get("format") == _FORMAT
    except (OSError, FileFormatError):
        return False


def _link_previous(path: str, temporary: str) -> None:
    try:
        os.link(path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, temporary)
    os.replace(temporary, previous_path(path))


def _flush_folder(folder: str) -> None:
    """Makes the renames durable, where the system lets a folder be flushed."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(directory: str, prefix: str) -> None:
    """Removes temporary files that a killed process left behind; a young one may belong to a living process."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            if name.endswith(".tmp") and name.startswith((prefix, ".engine-")):
                path = os.path.join(directory, name)
                with contextlib.suppress(OSError):
                    if time.time() - os.path.getmtime(path) > _STALE_SECONDS:
                        os.unlink(path)
