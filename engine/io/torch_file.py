"""Read and write PyTorch's files (.pth, .pt) without PyTorch and without pickle.

The three containers, told apart by their first bytes:

* zip (torch >= 1.6): `<name>/data.pkl` and one member `<name>/data/<key>` per storage, stored raw.
* legacy (0.1.10 to 1.5): five pickles in a row (a magic number, the protocol, facts about the system, the object, the
  list of storage keys), then per key, in the list's order, an int64 count and the raw elements.
* tar (before 0.1.10): members `sys_info`, `pickle`, `tensors` and `storages`.

Elements are little-endian, unless a zip's member `byteorder` says otherwise.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from engine.io.atomic_file import open_atomic
from engine.io.errors import FileFormatError, UnsafeFileError, short
from engine.io.mapped_file import MappedFile, release
from engine.io.pickle_machine import (
    ITEM_SIZES,
    MAX_PICKLE,
    MAX_RANK,
    Budget,
    Global,
    ParameterBox,
    PickleMachine,
    StorageRef,
    TensorRef,
    check_view,
)
from engine.io.safetensors import bfloat16_to_float32, little_endian_bytes
from engine.io.strict_zip import ZipEntry, read_directory, read_entry

__all__ = ["load", "load_state_dict_file", "release", "save"]

_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_MAX_DEPTH = 100  # dicts in dicts
_MAX_ELEMENTS = 1 << 60
# Where training programs keep the state dict among other things, the likeliest first.
_STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights")
_WRAPPERS = ("module.", "_orig_mod.")  # DataParallel; torch.compile


def load(path: str | os.PathLike[str], *, mmap: bool = True, keep_bfloat16: bool = False, upcast: bool = False) -> Any:
    """Read a torch file and return what it holds, nested as it was stored, with NumPy arrays in place of tensors.

    Arrays are read-only. Those of a zip file are views of the file mapped into memory; those of the older containers
    are copies. Transposed tensors keep their strides and tied ones share memory. bfloat16 becomes float32, which holds
    each of its values exactly; dtypes become their names. An `OrderedDict` keeps its attribute `_metadata`.

    Args:
        path: the file; the container is found out from its content.
        mmap: False copies the arrays of a zip file, too.
        keep_bfloat16: return the 16 bits of bfloat16 values as uint16 instead.
        upcast: return float16 tensors as float32, too.

    Raises:
        UnsafeFileError: the file asks for more than weights need, such as calling a function; nothing was executed.
        FileFormatError: the file is damaged or of another kind.
        OSError: the file cannot be read.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "run.pth")
        >>> save({"epoch": 3, "model": {"bias": np.zeros(2, np.float32)}}, path)
        >>> load(path)
        {'epoch': 3, 'model': {'bias': array([0., 0.], dtype=float32)}}
    """
    options = _Options(mmap, keep_bfloat16, upcast)
    with MappedFile(path) as file:
        try:
            first = file.data[:512]
            if first[:4] == b"PK\x03\x04":
                return _load_zip(file, options)
            if first.startswith(_LEGACY_MAGIC):
                return _load_legacy(file, options)
            if first[257:262] == b"ustar":
                return _load_tar(file, options)
            raise FileFormatError(_what_else(first, file.size))
        except FileFormatError as error:
            raise type(error)(f"{file.path}: {error}") from None
        except RecursionError:
            raise FileFormatError(f"{file.path}: its values are nested too deeply") from None


def load_state_dict_file(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    strip: Sequence[str] = _WRAPPERS,
    mmap: bool = True,
    keep_bfloat16: bool = False,
    upcast: bool = True,
) -> OrderedDict[str, np.ndarray]:
    """Read the state dict of a torch file: names and arrays, wherever in the file they are.

    Training programs store the state dict next to the epoch, the optimizer's state and so on; it is looked for under
    the usual names. The prefixes that `DataParallel` and `torch.compile` add are removed.

    Args:
        path: the file.
        key: the entry that holds the state dict, if the usual names do not find it; dots lead into nested dicts.
        strip: prefixes to remove when every name begins with them. `_orig_mod.` is also removed inside names.
        mmap: see `load`.
        keep_bfloat16: see `load`.
        upcast: see `load`.

    Returns:
        Arrays by name in the file's order. Its attribute `_metadata` holds the versions that torch keeps per module,
        or is an empty dict.

    Raises:
        UnsafeFileError: see `load`.
        FileFormatError: see `load`; or there is no state dict in the file.
        OSError: the file cannot be read.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "run.pth")
        >>> save({"epoch": 3, "state_dict": {"module.fc.bias": np.zeros(2, np.float32)}}, path)
        >>> list(load_state_dict_file(path))
        ['fc.bias']
    """
    name = os.fspath(path)
    found = _find_state_dict(name, load(path, mmap=mmap, keep_bfloat16=keep_bfloat16, upcast=upcast), key)
    metadata = getattr(found, "_metadata", {})
    rename = _renaming(list(found), strip)
    result: OrderedDict[str, np.ndarray] = OrderedDict()
    for old, value in found.items():
        new = rename(old)
        if new in result:
            raise FileFormatError(f"{name}: after removing prefixes, two entries are named {short(new)}: pass strip=()")
        result[new] = value
    versions: OrderedDict[str, Any] = OrderedDict()
    for module, value in metadata.items():
        if isinstance(module, str):
            new = rename(module + ".")[:-1] if module else ""
            versions[new] = value
    vars(result)["_metadata"] = versions
    return result


def save(obj: Mapping[Any, Any], path: str | os.PathLike[str]) -> None:
    """Write a torch zip file, atomically; `torch.load` reads it, also with `weights_only=True`, with equal bits.

    Equal input gives equal bytes. Arrays over the same memory are stored once and come back tied.

    Args:
        obj: a dict from names to NumPy arrays, such as a state dict. Values may also be dicts, lists and tuples of
            such values, numbers, strings, booleans and None. An attribute `_metadata` of an `OrderedDict` is kept.
        path: the file to make or replace.

    Raises:
        TypeError: a value, key or array type that torch files cannot hold.
        ValueError: dicts nested too deeply.
        OSError: the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "model.pth")
        >>> save({"weight": np.eye(2, dtype=np.float32)}, path)
        >>> load(path)["weight"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if not isinstance(obj, Mapping):
        raise TypeError(f"[save] expected a dict of arrays, got {type(obj).__name__}")
    writer = _PickleWriter()
    pickled = writer.finish(obj)
    with open_atomic(path) as file:
        archive = _ZipWriter(file)
        archive.add("archive/data.pkl", memoryview(pickled))
        archive.add("archive/byteorder", memoryview(b"little"))
        for number, array in enumerate(writer.storages):
            archive.add(f"archive/data/{number}", little_endian_bytes(array))
        archive.add("archive/version", memoryview(b"3\n"))
        archive.finish()


# ---- values: from the machine's references to arrays


class _Options(NamedTuple):
    mmap: bool
    keep_bfloat16: bool
    upcast: bool


class _Finisher:
    """Replaces all references in a structure by arrays; shared parts stay shared.

    A class and not nested functions, whose cycle of references would keep every array until the next garbage
    collection: who takes the arrays out of the result one by one gets their memory back one by one.
    """

    def __init__(self, storage: Callable[[StorageRef], np.ndarray], options: _Options) -> None:
        self._storage = storage
        self._options = options
        self._blocks: dict[object, np.ndarray] = {}
        self._done: dict[int, Any] = {}
        self._open: set[int] = set()

    def _block(self, ref: StorageRef, dtype: str) -> np.ndarray:
        """The storage's elements, of the type that is handed out."""
        name = (ref.key, ref.start, ref.numel, dtype)
        if name in self._blocks:
            return self._blocks[name]
        array = self._storage(ref)
        if ref.dtype != dtype:  # plain bytes
            size = ITEM_SIZES[dtype]
            array = array[: array.size // size * size].view(_numpy_type(dtype))
            if not array.flags.aligned:
                array = array.copy()
        if dtype == "bfloat16" and not self._options.keep_bfloat16:
            array = bfloat16_to_float32(array)
        elif dtype == "float16" and self._options.upcast:
            array = array.astype(np.float32)
        array.flags.writeable = False
        self._blocks[name] = array
        return array

    def _tensor(self, ref: TensorRef) -> np.ndarray:
        elements = self._block(ref.storage, ref.dtype)
        if 0 in ref.shape:
            empty = np.empty(ref.shape, elements.dtype)
            empty.flags.writeable = False
            return empty
        size = elements.itemsize
        strides = [size * (stride if length > 1 else 1) for length, stride in zip(ref.shape, ref.strides, strict=True)]
        # NumPy checks once more that the view stays inside the buffer.
        return np.ndarray(ref.shape, elements.dtype, buffer=elements, offset=ref.offset * size, strides=strides)

    def walk(self, item: Any, depth: int = 0) -> Any:
        """The value with arrays in it, to be called on the root."""
        if item is None or isinstance(item, bool | int | float | str):
            return item
        if id(item) in self._done:
            return self._done[id(item)]
        if id(item) in self._open:
            raise FileFormatError("one of its values contains itself")
        if depth > _MAX_DEPTH:
            raise FileFormatError(f"its values are nested more than {_MAX_DEPTH} deep")
        self._open.add(id(item))
        result: Any
        if type(item) is TensorRef:
            result = self._tensor(item)
        elif type(item) is ParameterBox:
            if item.tensor is None:
                raise FileFormatError("it has a parameter without a tensor")
            result = self.walk(item.tensor, depth + 1)
        elif type(item) is StorageRef:
            result = self._block(item, item.dtype or "uint8")
        elif type(item) is dict or type(item) is OrderedDict:
            result = type(item)((key, self.walk(entry, depth + 1)) for key, entry in item.items())
            metadata = getattr(item, "_metadata", None)
            if metadata is not None:
                vars(result)["_metadata"] = self.walk(metadata, depth + 1)
        elif type(item) is list or type(item) is tuple:
            result = type(item)([self.walk(entry, depth + 1) for entry in item])
        elif type(item) is set:
            result = set(item)
        elif type(item) is Global and item.kind == "dtype":
            result = item.name
        else:
            raise FileFormatError(f"it holds {item.name if type(item) is Global else type(item).__name__} as a value")
        self._open.remove(id(item))
        self._done[id(item)] = result
        return result


def _numpy_type(dtype: str) -> np.dtype:
    """The type of a storage's elements in memory: bfloat16 and plain bytes have none of their own."""
    return np.dtype({"bfloat16": "uint16", "": "uint8"}.get(dtype, dtype))


class _StorageTable:
    """The storages that a pickle refers to: equal keys must mean equal storages."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[str, int]] = {}

    def refer(self, reference: object) -> StorageRef:
        """Turn `("storage", type, key, location, numel[, view])` into a reference, checked."""
        if type(reference) is not tuple or not reference or type(reference[0]) is not str:
            raise FileFormatError("its pickle has an unknown kind of reference")
        if reference[0] == "module":
            raise UnsafeFileError(
                "it holds a whole module with its source code: where it was made, save model.state_dict() instead"
            )
        if reference[0] != "storage" or len(reference) not in (5, 6):
            raise FileFormatError("its pickle has an unknown kind of reference")
        kind, key, location, numel = reference[1:5]
        if type(kind) is not Global or kind.kind != "storage":
            raise FileFormatError("its pickle refers to a storage of an unknown type")
        if type(key) is not str or not (type(location) is str or location is None) or not _is_count(numel):
            raise FileFormatError("its pickle refers to a storage by values of wrong types")
        if self.seen.setdefault(key, (kind.dtype, numel)) != (kind.dtype, numel):
            raise FileFormatError(f"its pickle describes the storage {short(key)} in two ways")
        view = reference[5] if len(reference) == 6 else None
        if view is None:
            return StorageRef(key, kind.dtype, numel, 0, numel)
        if type(view) is not tuple or len(view) != 3 or not _is_count(view[1]) or not _is_count(view[2]):
            raise FileFormatError(f"its pickle refers to a part of the storage {short(key)} by values of wrong types")
        if view[1] + view[2] > numel:
            raise FileFormatError(f"its pickle refers to a part outside of the storage {short(key)}")
        return StorageRef(key, kind.dtype, view[2], view[1], numel)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_ELEMENTS


def _budget(file: MappedFile) -> Budget:
    # Tied tensors and slices of one storage count more than once; 16 times is more than any sensible file needs.
    return Budget((64 << 20) + 16 * file.size)


def _refuse_references(reference: object) -> object:
    raise FileFormatError("its pickle has a reference where there should be none")


# ---- zip


def _load_zip(file: MappedFile, options: _Options) -> Any:
    entries = read_directory(file)
    roots = [name[: -len("data.pkl")] for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) > 1:
        raise UnsafeFileError("it has two members data.pkl")
    for name in entries:
        if name.endswith("/constants.pkl") or name.split("/")[1:2] == ["code"]:
            raise FileFormatError(
                "it is a TorchScript program, not a file of weights: in PyTorch, run "
                "torch.save(torch.jit.load(path).state_dict(), new_path) and read new_path"
            )
    if not roots:
        raise FileFormatError("it is a zip archive without data.pkl, so no torch file")
    root = roots[0]

    order = "little"
    if root + "byteorder" in entries:
        text = _small_entry(file, entries[root + "byteorder"], 16)
        if text not in (b"little", b"big"):
            raise FileFormatError(f"its byte order is {short(text)}, expected little or big")
        order = text.decode()

    def refer(reference: object) -> StorageRef:
        ref = table.refer(reference)
        entry = entries.get(f"{root}data/{ref.key}")
        if entry is None:
            raise FileFormatError(f"the storage {short(ref.key)} is missing")
        nbytes = ref.root_numel * ITEM_SIZES[ref.dtype]
        if entry.size != nbytes:
            raise FileFormatError(f"the storage {short(ref.key)} has {entry.size} bytes, {nbytes} are declared")
        return ref

    def storage(ref: StorageRef) -> np.ndarray:
        entry = entries[f"{root}data/{ref.key}"]
        dtype = _numpy_type(ref.dtype)
        if entry.deflated or not options.mmap:
            array = read_entry(file, entry).view(dtype)
        else:
            array = file.view(entry.offset, (ref.root_numel,), dtype)
            if not array.flags.aligned:
                array = array.copy()
        if order != sys.byteorder:
            if ref.dtype == "":
                raise FileFormatError("its storages have no type, and the other byte order")
            array = array.byteswap()
        return array[ref.start : ref.start + ref.numel]

    table = _StorageTable()
    pickled = _small_entry(file, entries[root + "data.pkl"], MAX_PICKLE)
    machine = PickleMachine(pickled, 0, len(pickled), refer, _budget(file))
    value = machine.run()
    if machine.position != len(pickled):
        raise FileFormatError("something follows the pickle in data.pkl")
    return _Finisher(storage, options).walk(value)


def _small_entry(file: MappedFile, entry: ZipEntry, limit: int) -> bytes:
    if entry.size > limit:
        raise FileFormatError(f"its member {short(entry.name)} has {entry.size} bytes, the limit is {limit}")
    return read_entry(file, entry).tobytes()


# ---- legacy


def _load_legacy(file: MappedFile, options: _Options) -> Any:
    budget = _budget(file)
    table = _StorageTable()
    position = len(_LEGACY_MAGIC)

    def run(persistent: Callable[[object], object]) -> Any:
        nonlocal position
        machine = PickleMachine(file.data, position, file.size, persistent, budget)
        value = machine.run()
        position = machine.position
        return value

    protocol = run(_refuse_references)
    if type(protocol) is not int or protocol != 1001:
        raise FileFormatError("its protocol is unknown, expected 1001")
    if type(run(_refuse_references)) is not dict:
        raise FileFormatError("it does not describe the system that wrote it")
    value = run(table.refer)
    keys = run(_refuse_references)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise FileFormatError("its list of storages is not a list of names")
    if len(set(keys)) != len(keys):
        raise FileFormatError("its list of storages names one twice")
    if set(keys) != table.seen.keys():
        raise FileFormatError("its list of storages does not name those that its tensors refer to")

    offsets: dict[object, int] = {}
    for key in keys:
        dtype, numel = table.seen[key]
        position = _skip_storage(file, position, file.size, numel, ITEM_SIZES[dtype], key)
        offsets[key] = position - numel * ITEM_SIZES[dtype]
    if position != file.size:
        raise FileFormatError(f"{file.size - position} bytes follow its last storage")
    return _Finisher(_copier(file, offsets), options).walk(value)


def _skip_storage(file: MappedFile, position: int, end: int, numel: int | None, item_size: int, key: object) -> int:
    """Check the count before a storage's elements, and return where the elements end."""
    if position + 8 > end:
        raise FileFormatError(f"it is cut off before the storage {short(key)}")
    (count,) = struct.unpack("<q", file.data[position : position + 8])
    if numel is not None and count != numel:
        raise FileFormatError(f"the storage {short(key)} has {count} elements, {numel} are declared")
    if count < 0 or position + 8 + count * item_size > end:
        raise FileFormatError(f"it is cut off inside the storage {short(key)} of {count} elements")
    return position + 8 + count * item_size


def _copier(file: MappedFile, offsets: Mapping[object, int]) -> Callable[[StorageRef], np.ndarray]:
    """Storages at odd addresses: each is copied once, whatever its number of tensors and parts."""
    copies: dict[object, np.ndarray] = {}

    def storage(ref: StorageRef) -> np.ndarray:
        if ref.key not in copies:
            raw = file.copy(offsets[ref.key], ref.root_numel * ITEM_SIZES[ref.dtype]).view(_numpy_type(ref.dtype))
            if sys.byteorder == "big":
                raw = raw.byteswap()
            copies[ref.key] = raw
        return copies[ref.key][ref.start : ref.start + ref.numel]

    return storage


# ---- tar


def _load_tar(file: MappedFile, options: _Options) -> Any:
    members = _tar_members(file)
    for name in ("sys_info", "pickle", "tensors", "storages"):
        if name not in members:
            raise FileFormatError(f"it is a tar archive without the member {name}, so no torch file")
    budget = _budget(file)
    if type(_TarStream(file, members["sys_info"], budget).value()) is not dict:
        raise FileFormatError("it does not describe the system that wrote it")
    storages, offsets = _tar_storages(_TarStream(file, members["storages"], budget))
    tensors = _tar_tensors(_TarStream(file, members["tensors"], budget), storages, budget)

    def refer(reference: object) -> object:
        if type(reference) is tuple:
            raise UnsafeFileError(
                "it holds a whole module with its source code: where it was made, save model.state_dict() instead"
            )
        key = _tar_key(reference)
        found: object = tensors.get(key, storages.get(key))
        if found is None:
            raise FileFormatError(f"its pickle refers to the tensor {key}, which is missing")
        return found

    stream = _TarStream(file, members["pickle"], budget)
    value = stream.value(refer)
    stream.finish()
    return _Finisher(_copier(file, offsets), options).walk(value)


def _tar_members(file: MappedFile) -> dict[str, tuple[int, int]]:
    """Start and end of each member; nothing but regular files with the four names is accepted."""
    members: dict[str, tuple[int, int]] = {}
    position = 0
    while True:
        header = file.data[position : position + 512]
        if len(header) != 512:
            raise FileFormatError("its tar archive is cut off")
        if header == bytes(512):
            break
        name = header[:100].rstrip(b"\0").decode("latin-1")
        if header[257:262] != b"ustar" or header[156:157] not in (b"0", b"\0") or header[345:500].strip(b"\0"):
            raise UnsafeFileError(f"its tar member {short(name)} is not a regular file of a torch file")
        if name not in ("sys_info", "pickle", "tensors", "storages"):
            raise UnsafeFileError(f"its tar member {short(name)} does not belong to a torch file")
        if name in members:
            raise UnsafeFileError(f"it has two tar members {name}")
        size, checksum = _octal(header[124:136]), _octal(header[148:156])
        if checksum != sum(header[:148]) + 8 * 32 + sum(header[156:]):
            raise FileFormatError(f"its tar member {name} has a wrong checksum")
        start = position + 512
        if start + size > file.size:
            raise FileFormatError(f"its tar member {name} is cut off")
        members[name] = (start, start + size)
        position = start + size + -size % 512
    end = file.size - position
    if end > 1 << 20 or file.data[position:].strip(b"\0"):
        raise UnsafeFileError("something follows its tar archive")
    return members


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    if not text or not all(digit in b"01234567" for digit in text):
        raise FileFormatError("its tar archive has a damaged number")
    return int(text, 8)


class _TarStream:
    """A tar member as a sequence of pickles and raw numbers."""

    def __init__(self, file: MappedFile, bounds: tuple[int, int], budget: Budget) -> None:
        self.file = file
        self.position, self.end = bounds
        self._budget = budget

    def value(self, persistent: Callable[[object], object] = _refuse_references) -> Any:
        machine = PickleMachine(self.file.data, self.position, self.end, persistent, self._budget)
        value = machine.run()
        self.position = machine.position
        return value

    def count(self) -> int:
        count = self.value()
        if type(count) is not int or not 0 <= count <= self.end - self.position:
            raise FileFormatError("its tar archive has an impossible number of tensors")
        return count

    def numbers(self, layout: str) -> tuple[int, ...]:
        stop = self.position + struct.calcsize(layout)
        if stop > self.end:
            raise FileFormatError("one of its tar members is cut off")
        result = struct.unpack(layout, self.file.data[self.position : stop])
        self.position = stop
        return result

    def finish(self) -> None:
        if self.position != self.end:
            raise FileFormatError(f"one of its tar members goes on for {self.end - self.position} bytes")


def _tar_key(value: object) -> int:
    """Tensors and storages are known by addresses, written as numbers or as text."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    if type(value) is not int or not -(1 << 63) <= value < 1 << 64:
        raise FileFormatError("its tar archive has a key that is not a number")
    return value


def _tar_storages(stream: _TarStream) -> tuple[dict[int, StorageRef], dict[object, int]]:
    storages: dict[int, StorageRef] = {}
    offsets: dict[object, int] = {}
    for _ in range(stream.count()):
        item = stream.value()
        if type(item) is not tuple or len(item) != 3 or type(item[1]) is not str:
            raise FileFormatError("its tar archive has a damaged storage")
        key, kind = _tar_key(item[0]), item[2]
        if type(kind) is not Global or kind.kind != "storage" or kind.dtype == "" or key in storages:
            raise FileFormatError("its tar archive has a damaged storage")
        start = stream.position + 8
        item_size = ITEM_SIZES[kind.dtype]
        stream.position = _skip_storage(stream.file, stream.position, stream.end, None, item_size, key)
        numel = (stream.position - start) // item_size
        storages[key] = StorageRef(key, kind.dtype, numel, 0, numel)
        offsets[key] = start
    views = stream.value()
    if type(views) is not list:
        raise FileFormatError("its tar archive has a damaged list of views")
    for view in views:
        if type(view) is not tuple or len(view) != 4 or not _is_count(view[2]) or not _is_count(view[3]):
            raise FileFormatError("its tar archive has a damaged list of views")
        target, root = _tar_key(view[0]), storages.get(_tar_key(view[1]))
        if root is None or target in storages or view[2] + view[3] > root.numel:
            raise FileFormatError("its tar archive has a view outside of its storage")
        storages[target] = StorageRef(root.key, root.dtype, view[3], root.start + view[2], root.root_numel)
    stream.finish()
    return storages, offsets


def _tar_tensors(stream: _TarStream, storages: Mapping[int, StorageRef], budget: Budget) -> dict[int, TensorRef]:
    tensors: dict[int, TensorRef] = {}
    for _ in range(stream.count()):
        item = stream.value()
        if type(item) is not tuple or len(item) != 3 or type(item[2]) is not Global:
            raise FileFormatError("its tar archive has a damaged tensor")
        key, storage = _tar_key(item[0]), storages.get(_tar_key(item[1]))
        if storage is None or key in tensors or item[2].kind != "tensor_type" or item[2].dtype != storage.dtype:
            raise FileFormatError("its tar archive has a damaged tensor")
        rank = stream.numbers("<ii")[0]
        if not 0 <= rank <= MAX_RANK:
            raise FileFormatError(f"its tar archive has a tensor with {rank} axes")
        shape, strides = stream.numbers(f"<{rank}q"), stream.numbers(f"<{rank}q")
        (offset,) = stream.numbers("<q")
        count = check_view(storage.numel, offset, shape, strides)
        budget.take_tensor(count * ITEM_SIZES[storage.dtype])
        tensors[key] = TensorRef(storage, storage.dtype, offset, shape, strides)
    stream.finish()
    return tensors


# ---- finding the state dict


def _what_else(first: bytes, size: int) -> str:
    """Name the kind of a file that is no torch file."""
    if size == 0:
        return "the file is empty"
    if size >= 9 and first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= size - 8:
        return "this looks like a safetensors file: use engine.io.safetensors"
    if first[:8] == b"\x89HDF\r\n\x1a\n":
        return "this is an HDF5 file"
    if first[:2] == b"\x1f\x8b":
        return "this is a gzip file: unpack it first"
    if first.lstrip()[:1] == b"<":
        return "this looks like a web page: download the file again"
    if first[:8] == b"version ":
        return "this looks like a Git LFS pointer: fetch the file itself"
    if first[:1] == b"\x80":
        return "this is a plain pickle and no torch file; pickles can run programs, so it is not read"
    return "this is not a torch file: neither zip, nor legacy, nor tar"


def _find_state_dict(path: str, value: Any, key: str | None) -> dict[str, np.ndarray]:
    if key is not None:
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise FileFormatError(f"{path}: there is no entry {key!r}; {_listing(value)}")
            value = value[part]
        return _checked_state_dict(path, value, f"the entry {key!r}")
    for _ in range(4):  # {"model": {"state_dict": ...}}
        if not isinstance(value, dict) or any(isinstance(entry, np.ndarray) for entry in value.values()):
            break
        for name in _STATE_DICT_KEYS:
            if isinstance(value.get(name), dict):
                value = value[name]
                break
        else:
            break
    return _checked_state_dict(path, value, "the file")


def _checked_state_dict(path: str, value: Any, where: str) -> dict[str, np.ndarray]:
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: {where} holds a {type(value).__name__}, expected a state dict")
    result: OrderedDict[str, np.ndarray] = OrderedDict()
    for name, entry in value.items():
        if isinstance(name, str) and name.endswith("_extra_state"):
            continue  # whatever a module of its own kept there
        if not isinstance(name, str) or not isinstance(entry, np.ndarray):
            raise FileFormatError(
                f"{path}: {where} is no state dict: its entry {short(name)} is a {type(entry).__name__}; "
                f"{_listing(value)}; name the right one with key=..., or use load()"
            )
        result[name] = entry
    vars(result)["_metadata"] = getattr(value, "_metadata", {})
    return result


def _listing(value: Any) -> str:
    if not isinstance(value, dict):
        return f"it holds a {type(value).__name__}"
    names = [short(name, 40) for name in list(value)[:8]]
    return "it has the entries " + ", ".join(names) + (", ..." if len(value) > 8 else "")


def _renaming(names: list[str], strip: Sequence[str]) -> Callable[[str], str]:
    """The function that removes the prefixes that all names have, as often as they have them."""
    prefix = ""
    wanted = [text for text in strip if text]
    while names:
        more = next((text for text in wanted if all(name.startswith(prefix + text) for name in names)), None)
        if more is None:
            break
        prefix += more
    inner = "_orig_mod." in strip

    def rename(name: str) -> str:
        name = name.removeprefix(prefix)
        if inner:
            name = name.removeprefix("_orig_mod.").replace("._orig_mod.", ".")
        return name

    return rename


# ---- writing

_STORAGE_OF = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}


class _PickleWriter:
    """Writes a pickle of protocol 2, and collects the arrays it refers to."""

    def __init__(self) -> None:
        self.storages: list[np.ndarray] = []
        self._out = bytearray(b"\x80\x02")
        self._memo: dict[str, int] = {}
        self._keys: dict[tuple[object, ...], int] = {}

    def finish(self, value: object) -> bytes:
        self._value(value, 0)
        self._out += b"."
        return bytes(self._out)

    def _once(self, name: str, code: bytes) -> None:
        """Write a name or a text that recurs, or recall it."""
        if name in self._memo:
            self._out += b"j" + struct.pack("<I", self._memo[name])
        else:
            self._out += code + b"r" + struct.pack("<I", len(self._memo))
            self._memo[name] = len(self._memo)

    def _global(self, module: str, name: str) -> None:
        self._once(f"{module}\n{name}", f"c{module}\n{name}\n".encode())

    def _text(self, text: str) -> None:
        try:
            raw = text.encode()
        except UnicodeEncodeError:
            raise TypeError(f"[save] {text!r} is not valid Unicode") from None
        self._out += b"X" + struct.pack("<I", len(raw)) + raw

    def _int(self, number: int) -> None:
        if -(1 << 31) <= number < 1 << 31:
            self._out += b"J" + struct.pack("<i", number)
        elif -(1 << 63) <= number < 1 << 64:
            self._out += b"\x8a\x09" + number.to_bytes(9, "little", signed=True)
        else:
            raise TypeError(f"[save] the number {number} has more than 64 bits")

    def _value(self, value: Any, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"[save] values are nested more than {_MAX_DEPTH} deep")
        if value is None:
            self._out += b"N"
        elif isinstance(value, bool):
            self._out += b"\x88" if value else b"\x89"
        elif isinstance(value, np.ndarray | np.generic):
            self._array(np.asarray(value))
        elif isinstance(value, int):
            self._int(value)
        elif isinstance(value, float):
            self._out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            self._text(value)
        elif isinstance(value, Mapping):
            self._mapping(value, depth)
        elif isinstance(value, list | tuple):
            self._out += b"(" if isinstance(value, tuple) else b"]("
            for item in value:
                self._value(item, depth + 1)
            self._out += b"t" if isinstance(value, tuple) else b"e"
        else:
            raise TypeError(
                f"[save] expected arrays, numbers, text, dicts, lists or None, got {type(value).__name__}: "
                "convert it, or leave it out"
            )

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> None:
        ordered = isinstance(value, OrderedDict)
        if ordered:
            self._global("collections", "OrderedDict")
            self._out += b")R"
        else:
            self._out += b"}"
        self._out += b"("
        for key, entry in value.items():
            if isinstance(key, str):
                self._text(key)
            elif isinstance(key, int):
                self._value(key, depth)
            else:
                raise TypeError(f"[save] expected text or a whole number as key, got {type(key).__name__}")
            self._value(entry, depth + 1)
        self._out += b"u"
        metadata = getattr(value, "_metadata", None)
        if ordered and metadata is not None:
            self._out += b"}"
            self._text("_metadata")
            self._value(OrderedDict(metadata), depth + 1)
            self._out += b"sb"

    def _array(self, array: np.ndarray) -> None:
        dtype = array.dtype.name
        if dtype not in _STORAGE_OF:
            raise TypeError(f"[save] torch files have no type for arrays of dtype {array.dtype}: convert with astype()")
        identity = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if array.size == 0 or identity not in self._keys:
            self._keys[identity] = len(self.storages)
            self.storages.append(array)  # which also keeps the address taken
        number = self._keys[identity]

        self._global("torch._utils", "_rebuild_tensor_v2")
        self._out += b"(("
        self._once("storage", b"X\x07\x00\x00\x00storage")
        self._global("torch", _STORAGE_OF[dtype])
        self._text(str(number))
        self._once("cpu", b"X\x03\x00\x00\x00cpu")
        self._int(array.size)
        self._out += b"tQ"
        self._int(0)
        strides: list[int] = []
        step = 1
        for size in reversed(array.shape):
            strides.insert(0, step)
            step *= max(size, 1)
        for numbers in (array.shape, strides):
            self._out += b"("
            for length in numbers:
                self._int(length)
            self._out += b"t"
        self._out += b"\x89"
        self._global("collections", "OrderedDict")
        self._out += b")RtR"


_LARGE = 0xFFFFFFFF  # from here on sizes and positions need 64 bits, and numbers of members more than 16
_MANY = 0xFFFF


class _ZipWriter:
    """Writes stored members whose data begin at multiples of 64, as torch does, so that they can be mapped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0
        self._directory = bytearray()
        self._count = 0

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._file.write(data)
        self._position += len(data)

    def add(self, name: str, data: memoryview) -> None:
        """Add a member of bytes."""
        raw_name = name.encode()
        size, crc, header = len(data), zlib.crc32(data), self._position
        wide = size >= _LARGE
        narrow = _narrow(size)
        extra = struct.pack("<HHQQ", 1, 16, size, size) if wide else b""
        padding = -(header + 30 + len(raw_name) + len(extra) + 4) % 64
        extra += struct.pack("<2sH", b"FB", padding) + b"Z" * padding
        version = 45 if wide else 20
        fields = struct.pack("<HHHHHIII", version, 0x800, 0, 0, 33, crc, narrow, narrow)  # 33: 1 January 1980
        self._write(b"PK\x03\x04" + fields + struct.pack("<HH", len(raw_name), len(extra)) + raw_name + extra)
        self._write(data)

        values = ([size, size] if wide else []) + ([header] if header >= _LARGE else [])
        extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""
        self._directory += b"PK\x01\x02" + struct.pack("<H", 45) + fields
        self._directory += struct.pack("<HHHHHII", len(raw_name), len(extra), 0, 0, 0, 0, _narrow(header))
        self._directory += raw_name + extra
        self._count += 1

    def finish(self) -> None:
        """Write the directory."""
        start, size, count = self._position, len(self._directory), self._count
        self._write(self._directory)
        end = self._position
        if start >= _LARGE or size >= _LARGE or count >= _MANY:
            self._write(b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, start))
            self._write(b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1))
        count = 0xFFFF if count >= _MANY else count
        self._write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, _narrow(size), _narrow(start), 0))


def _narrow(value: int) -> int:
    """What a 32-bit field holds; all ones point to the 64-bit field."""
    return 0xFFFFFFFF if value >= _LARGE else value
