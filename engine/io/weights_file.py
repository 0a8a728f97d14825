"""Weights of a model to and from files, whichever the container.

Reading tells the container by the file's content: torch's three, safetensors, Keras' HDF5. Writing goes by the name:
`.safetensors`, or `.pth` and `.pt` for a file that `torch.load(weights_only=True)` reads.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import backend as B
from engine.io import safetensors, torch_file
from engine.io.errors import FileFormatError
from engine.io.mapped_file import release

if TYPE_CHECKING:
    from engine.nn.module import IncompatibleKeys, Module

__all__ = ["convert_weights", "load_into", "load_weights", "read_weights", "save_weights", "write_weights"]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TORCH = (".pth", ".pt")
_SAFETENSORS = (".safetensors",)
_CHUNK = 1 << 21
_VERSIONS = "torch_versions"


def read_weights(path: str | os.PathLike[str], *, upcast: bool = True) -> OrderedDict[str, np.ndarray]:
    """Read the state dict of a file of any container that is known here.

    Args:
        path: a torch file (zip, legacy or tar), a safetensors file, or Keras' weights of Xception in HDF5.
        upcast: return float16 as float32; bfloat16, which NumPy does not have, always becomes float32.

    Returns:
        Arrays by name in the file's order. Where the container allows it they are read-only views of the file mapped
        into memory, so little is read before it is used. The attribute `_metadata` holds the versions that torch
        keeps per module.

    Raises:
        FileFormatError: the file is damaged, holds no weights, or is of another kind.
        ImportError: for HDF5, when h5py is not installed.
        OSError: the file cannot be read.

    Example:
        >>> write_weights({"fc.bias": np.zeros(2, np.float32)}, "model.pth")
        >>> dict(read_weights("model.pth"))
        {'fc.bias': array([0., 0.], dtype=float32)}
    """
    name = os.fspath(path)
    with open(name, "rb") as stream:
        first = stream.read(16)
    if first.startswith(_HDF5):
        from engine.io.keras_file import load_xception

        return load_xception(name)
    if first[8:9] == b"{":
        result = OrderedDict(safetensors.load_file(name, upcast=upcast))
        vars(result)["_metadata"] = _read_versions(name)
        return result
    return torch_file.load_state_dict_file(name, upcast=upcast)


def write_weights(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state dict, atomically.

    Args:
        state: arrays or tensors by name; a `_metadata` attribute with torch's module versions is kept.
        path: the file to make or replace; its extension decides the container: .safetensors, .pth or .pt.

    Raises:
        ValueError: another extension.
        TypeError: a value that is no array.
        OSError: the file cannot be written.
    """
    kind = _kind(path)
    arrays: OrderedDict[str, np.ndarray] = OrderedDict((name, _as_array(value)) for name, value in state.items())
    versions = getattr(state, "_metadata", None)
    if kind in _TORCH:
        if versions is not None:
            vars(arrays)["_metadata"] = OrderedDict(versions)
        torch_file.save(arrays, path)
        return
    metadata = {"format": "pt"}  # which other readers expect where the names are torch's
    if versions:
        metadata[_VERSIONS] = json.dumps(versions, separators=(",", ":"))
    safetensors.save_file(arrays, path, metadata)


def _kind(path: str | os.PathLike[str]) -> str:
    """The extension of a file that can be written."""
    extension = os.path.splitext(os.fspath(path))[1].lower()
    if extension not in (*_TORCH, *_SAFETENSORS):
        raise ValueError(
            f"{os.fspath(path)}: weights are written as .safetensors, .pth or .pt, not as {extension or 'nothing'!r}"
        )
    return extension


def _as_array(value: Any) -> Any:
    return value.detach().numpy() if hasattr(value, "detach") else value


def _read_versions(path: str) -> OrderedDict[str, Any]:
    """What `write_weights` put into the metadata of a safetensors file; nothing when it is not ours."""
    try:
        found = json.loads(safetensors.read_metadata(path).get(_VERSIONS, "{}"))
    except (ValueError, RecursionError):
        found = {}
    if not isinstance(found, dict):
        found = {}
    return OrderedDict(
        (name, {"version": entry["version"]})
        for name, entry in found.items()
        if isinstance(entry, dict) and type(entry.get("version")) is int
    )


def save_weights(model: Module, path: str | os.PathLike[str]) -> None:
    """Write a model's parameters and buffers to a file, atomically.

    Args:
        model: the model.
        path: the file to make or replace: .safetensors, or .pth and .pt for PyTorch, whose
            `model.load_state_dict(torch.load(path))` takes it, bit for bit.

    Raises:
        ValueError: another extension.
        OSError: the file cannot be written.

    Example:
        >>> import engine
        >>> model = engine.nn.Linear(3, 2)
        >>> save_weights(model, "linear.pth")
        >>> load_weights(engine.nn.Linear(3, 2), "linear.pth")
        <All keys matched successfully>
    """
    state: OrderedDict[str, Any] = OrderedDict(model.state_dict())
    # Some of torch's modules look at the version of the module that made their entries.
    vars(state)["_metadata"] = OrderedDict((name, {"version": _version(part)}) for name, part in model.named_modules())
    write_weights(state, path)


def _version(module: Module) -> int:
    """The version that torch gives a module of this kind: 2 for batch norms since they count batches."""
    version = getattr(module, "_version", None)
    if isinstance(version, int):
        return version
    return 2 if "num_batches_tracked" in module._buffers else 1


def load_weights(model: Module, path: str | os.PathLike[str], strict: bool = True) -> IncompatibleKeys:
    """Copy the weights of a file into a model, one array after the other.

    Besides the model's own, about one array's memory is used for files that can be mapped.

    Args:
        model: the model.
        path: see `read_weights`.
        strict: missing and unexpected names are errors; otherwise they are only returned.

    Returns:
        The missing and the unexpected names.

    Raises:
        RuntimeError: names are missing or unexpected (strict), or a shape differs (always); the model is as it was.
        FileFormatError: see `read_weights`.
        OSError: the file cannot be read.
    """
    return load_into(model, read_weights(path), strict)


def load_into(model: Module, state: dict[str, Any], strict: bool = True) -> IncompatibleKeys:
    """Copy a state dict into a model and let go of each array as soon as it is copied.

    Same result as `model.load_state_dict(state, strict)`, which leaves `state` as it is and holds all of it at once.

    Args:
        model: the model.
        state: arrays by name, such as from `read_weights`; empty afterwards.
        strict: missing and unexpected names are errors; otherwise they are only returned.

    Raises:
        RuntimeError: names are missing or unexpected (strict), or a shape differs (always); the model is as it was.
    """
    given, convert = state, getattr(model, "convert_state_dict", None)
    if convert is not None:  # from the names of older versions and other libraries
        state = dict(convert(state))
    targets = model.state_dict()
    none = model.load_state_dict({}, strict=False)  # whose missing keys are those that must be there
    missing = [name for name in none.missing_keys if name not in state]
    fits = all(name in targets and np.shape(value) == tuple(targets[name].shape) for name, value in state.items())
    plain = all(isinstance(value, np.ndarray) for value in state.values())
    if not fits or not plain or (missing and strict):
        result = model.load_state_dict(state, strict)  # it has the words for what is wrong
        given.clear()
        return result
    if state is not given:
        given.clear()
    for name in list(state):
        _copy(targets[name].data, state.pop(name))
    return none._replace(missing_keys=missing)


def _copy(target: Any, source: np.ndarray) -> None:
    """Copy in pieces: the backend does not write to read-only memory, so each piece is copied into a small buffer."""
    dtype = np.dtype(target.dtype)
    rows = source.shape[0] if source.ndim else 0
    step = max(1, _CHUNK // max(1, source.nbytes // max(1, rows)))
    if rows <= step:
        B.copy_(target, B.from_numpy(source.astype(dtype)))
    else:
        rest = list(target.shape[1:])
        for begin in range(0, rows, step):
            end = min(begin + step, rows)
            piece = B.slice(target, [begin] + [0] * len(rest), [end, *rest], [1] * target.ndim)
            B.copy_(piece, B.from_numpy(source[begin:end].astype(dtype)))
    release(source)


def convert_weights(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Write the weights of one file to another of another container.

    Values keep their type, except bfloat16, which becomes float32 with equal values.

    Args:
        source: see `read_weights`.
        target: see `write_weights`.

    Returns:
        The number of arrays.

    Raises:
        FileFormatError: the source is damaged, holds no weights, or is of another kind.
        ValueError: the target's extension is unknown.
        OSError: a file cannot be read or written.
    """
    _kind(target)  # before anything is read
    state = read_weights(source, upcast=False)
    for name, array in state.items():
        if not isinstance(array, np.ndarray):
            raise FileFormatError(f"{os.fspath(source)}: {name!r} is no array")
    write_weights(state, target)
    return len(state)
