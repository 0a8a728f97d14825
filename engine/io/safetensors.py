"""Read and write safetensors files: a JSON header and raw tensors, nothing that could be executed.

Format: an unsigned 64-bit little-endian header length N, N bytes of JSON that may end in spaces, the data. Each header
entry is `{"dtype", "shape", "data_offsets": [begin, end]}` with offsets counted from the start of the data; the entry
`__metadata__` maps strings to strings. The data cover the rest of the file without holes or overlaps.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from engine.io.atomic_file import open_atomic
from engine.io.errors import FileFormatError, short
from engine.io.mapped_file import MappedFile

__all__ = ["load_file", "read_metadata", "save_file"]

_MAX_HEADER = 100_000_000
# Each JSON item beyond the first of its container costs a comma; this bounds the memory of parsing to some 300 MB,
# and still allows about 400,000 tensors.
_MAX_COMMAS = 1 << 21
_MAX_RANK = 32  # NumPy 1.x
_MAX_ELEMENTS = 1 << 60

# Name in the file -> bits per element, NumPy's name ("" if it has none). The order is the reference writer's: tensors
# are stored in descending order of this list, then by name.
_DTYPES: dict[str, tuple[int, str]] = {
    "BOOL": (8, "bool"),
    "F4": (4, ""),
    "F6_E2M3": (6, ""),
    "F6_E3M2": (6, ""),
    "U8": (8, "uint8"),
    "I8": (8, "int8"),
    "F8_E5M2": (8, ""),
    "F8_E4M3": (8, ""),
    "F8_E8M0": (8, ""),
    "F8_E4M3FNUZ": (8, ""),
    "F8_E5M2FNUZ": (8, ""),
    "I16": (16, "int16"),
    "U16": (16, "uint16"),
    "F16": (16, "float16"),
    "BF16": (16, "uint16"),
    "I32": (32, "int32"),
    "U32": (32, "uint32"),
    "F32": (32, "float32"),
    "C64": (64, "complex64"),
    "F64": (64, "float64"),
    "I64": (64, "int64"),
    "U64": (64, "uint64"),
}
_RANK_OF = {name: position for position, name in enumerate(_DTYPES)}
_NAME_OF = {numpy_name: name for name, (_, numpy_name) in _DTYPES.items() if numpy_name and name != "BF16"}
_NAME_OF["bfloat16"] = "BF16"  # NumPy arrays with the type of the ml_dtypes package


class _Entry(NamedTuple):
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def save_file(
    tensors: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to a safetensors file, atomically: the file is complete, or `path` is what it was before.

    The bytes are those the reference package writes: types of large elements first, then by name. Equal input gives
    equal bytes.

    Args:
        tensors: arrays by name; any strides, any byte order. Types: bool, integers, float16/32/64, complex64, and
            bfloat16 of the ml_dtypes package.
        path: the file to make or replace.
        metadata: strings by name, kept in the header.

    Raises:
        TypeError: a name or metadata value is not a string, or the format has no such array type.
        ValueError: a name is `__metadata__` or not valid Unicode, or the header would be longer than 100 MB.
        OSError: the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> save_file({"weight": np.eye(2, dtype=np.float32)}, path, metadata={"epoch": "3"})
        >>> load_file(path)["weight"].tolist(), read_metadata(path)
        ([[1.0, 0.0], [0.0, 1.0]], {'epoch': '3'})
    """
    arrays: list[tuple[str, str, np.ndarray]] = []
    for name, value in tensors.items():
        _check_text(name, "a tensor's name")
        if name == "__metadata__":
            raise ValueError("[save_file] the name __metadata__ is reserved: pass metadata=..., or rename the tensor")
        if not isinstance(value, np.ndarray | np.generic):
            raise TypeError(
                f"[save_file] expected a NumPy array for {name!r}, got {type(value).__name__}: convert it first"
            )
        array = np.asarray(value)
        if array.dtype.name not in _NAME_OF:
            raise TypeError(
                f"[save_file] safetensors has no type for {name!r} of dtype {array.dtype}: convert it with astype()"
            )
        arrays.append((name, _NAME_OF[array.dtype.name], array))
    arrays.sort(key=lambda item: (-_RANK_OF[item[1]], item[0].encode()))

    header: dict[str, object] = {}
    if metadata is not None:
        for key, text in metadata.items():
            _check_text(key, "a metadata key")
            _check_text(text, f"the metadata value of {key!r}")
        header["__metadata__"] = dict(metadata)
    offset = 0
    for name, dtype, array in arrays:
        end = offset + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text_bytes = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text_bytes += b" " * (-len(text_bytes) % 8)  # so that the data begin at a multiple of 8
    if len(text_bytes) > _MAX_HEADER:
        raise ValueError(f"[save_file] the header would take {len(text_bytes)} bytes, the limit is {_MAX_HEADER}")

    with open_atomic(path) as file:
        file.write(struct.pack("<Q", len(text_bytes)))
        file.write(text_bytes)
        for _, _, array in arrays:
            file.write(little_endian_bytes(array))


def load_file(
    path: str | os.PathLike[str], mmap: bool = True, *, keep_bfloat16: bool = False, upcast: bool = False
) -> dict[str, np.ndarray]:
    """Read all tensors of a safetensors file, in the header's order, after checking the header completely.

    bfloat16 tensors are returned as float32, which holds each of their values exactly. Values may be NaN.

    Args:
        path: the file.
        mmap: return read-only views of the file mapped into memory, which are read when they are used. Tensors that
            lie at an odd address or change type are copied. False reads everything into arrays that may be changed.
        keep_bfloat16: return the 16 bits of bfloat16 values as uint16 instead.
        upcast: return float16 tensors as float32, too.

    Raises:
        FileFormatError: the file is damaged, is of another kind, or has a type NumPy does not know.
        OSError: the file cannot be read.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
        >>> save_file({"bias": np.arange(3)}, path)
        >>> bias = load_file(path)["bias"]
        >>> bias, bias.flags.writeable
        (array([0, 1, 2]), False)
    """
    with MappedFile(path) as file:
        start, entries, _ = _read_header(file)
        for name, entry in entries.items():
            if not _DTYPES[entry.dtype][1]:
                raise FileFormatError(
                    f"{file.path}: tensor {name!r} has type {entry.dtype}, which has no NumPy counterpart: "
                    "convert it to F16 or F32 with the program that wrote it"
                )
        tensors: dict[str, np.ndarray] = {}
        for name, entry in entries.items():
            dtype = np.dtype(_DTYPES[entry.dtype][1]).newbyteorder("<")
            offset = start + entry.begin
            if mmap:
                array = file.view(offset, entry.shape, dtype)
                if not array.flags.aligned:
                    array = array.copy()
            else:
                array = file.copy(offset, entry.end - entry.begin).view(dtype).reshape(entry.shape)
            if sys.byteorder == "big":
                array = array.astype(dtype.newbyteorder("="))
            if entry.dtype == "BF16" and not keep_bfloat16:
                array = bfloat16_to_float32(array)
            elif entry.dtype == "F16" and upcast:
                array = array.astype(np.float32)
            if mmap:
                array.flags.writeable = False
            tensors[name] = array
    return tensors


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the metadata strings of a safetensors file; the tensors are checked, but not read.

    Args:
        path: the file.

    Raises:
        FileFormatError: the file is damaged or of another kind.
        OSError: the file cannot be read.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "empty.safetensors")
        >>> save_file({}, path)
        >>> read_metadata(path)
        {}
    """
    with MappedFile(path) as file:
        return _read_header(file)[2]


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Widen the bits of bfloat16 values, given as uint16, to float32; exact, NaN payloads included.

    Args:
        bits: array of uint16 of any shape.

    Example:
        >>> bfloat16_to_float32(np.array([0x3F80, 0xC000], np.uint16)).tolist()
        [1.0, -2.0]
    """
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def little_endian_bytes(array: np.ndarray) -> memoryview:
    """Return an array's elements in row-major order as little-endian bytes, without a copy where they lie so already.

    Args:
        array: any array of numbers.

    Example:
        >>> little_endian_bytes(np.array([1, 2], ">i2")).tobytes()
        b'\\x01\\x00\\x02\\x00'
    """
    if array.dtype.name != "bfloat16":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _check_text(value: object, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"[save_file] expected {what} to be a string, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"[save_file] {what} is not valid Unicode: {value!r}") from error


# The header is parsed by the standard library's JSON decoder, whose laxness (duplicate keys, NaN, numbers of any
# length, lone surrogates) the hooks and the checks below take away.


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise FileFormatError(f"the header names {short(key)} twice")
            seen.add(key)
    return result


def _natural(text: str) -> int:
    if len(text) > 19 or text.startswith("-"):  # 19 digits: beyond that lie 64-bit overflows only
        raise FileFormatError(f"the header holds the number {text[:40]}, expected a size or an offset")
    return int(text)


def _refuse_number(text: str) -> object:
    raise FileFormatError(f"the header holds the number {text[:40]}, expected whole numbers only")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_natural, parse_float=_refuse_number, parse_constant=_refuse_number
)


def _read_header(file: MappedFile) -> tuple[int, dict[str, _Entry], dict[str, str]]:
    """Parse and check the header: where the data start, the tensors, the metadata."""
    try:
        return _parse_header(file)
    except FileFormatError as error:
        raise FileFormatError(f"{file.path}: {error}{_advice(file.data[:8])}") from None


def _parse_header(file: MappedFile) -> tuple[int, dict[str, _Entry], dict[str, str]]:
    if file.size < 8:
        raise FileFormatError(f"the file has {file.size} bytes, too few for a safetensors file")
    (length,) = struct.unpack("<Q", file.data[:8])
    if length > _MAX_HEADER:
        raise FileFormatError(f"the header length is {length}, the limit is {_MAX_HEADER}")
    start = 8 + length
    if start > file.size:
        raise FileFormatError(f"the header length is {length}, but the file has only {file.size} bytes")
    raw = file.data[8:start]
    if raw[:1] != b"{":
        raise FileFormatError("the header does not begin with '{'")
    if raw.count(b",") > _MAX_COMMAS:
        raise FileFormatError(f"the header has more than {_MAX_COMMAS} items")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"the header is not UTF-8: {error.reason} at byte {8 + error.start}") from None
    del raw
    try:
        header, used = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise FileFormatError(f"the header is not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise FileFormatError("the header is nested too deeply") from None
    if text[used:].strip(" "):
        raise FileFormatError("the header is followed by something else than spaces")
    del text

    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError("__metadata__ holds something else than strings")
    for pair in metadata.items():
        for part in pair:
            _check_unicode(part)
    entries = {name: _check_entry(name, entry) for name, entry in header.items()}
    _check_cover(entries, file.size - start)
    return start, entries, metadata


def _check_unicode(text: str) -> None:
    """JSON escapes can spell half a surrogate pair, which is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FileFormatError(f"the header holds {short(text)}, which is not valid Unicode") from None


def _check_entry(name: str, entry: object) -> _Entry:
    _check_unicode(name)
    shown = f"tensor {short(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise FileFormatError(f"{shown}: expected exactly dtype, shape and data_offsets, got {short(entry)}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise FileFormatError(f"{shown} has the unknown type {short(dtype)}")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise FileFormatError(f"{shown} has the shape {short(shape)}, expected a list of sizes")
    if len(shape) > _MAX_RANK:
        raise FileFormatError(f"{shown} has {len(shape)} axes, the limit is {_MAX_RANK}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(offset) is int for offset in offsets):
        raise FileFormatError(f"{shown} has the data_offsets {short(offsets)}, expected [begin, end]")
    elements = 1
    for size in shape:
        elements *= max(size, 1)  # an empty array's other sizes must be possible, too
        if elements > _MAX_ELEMENTS:
            raise FileFormatError(f"{shown} has the impossible shape {short(shape)}")
    if 0 in shape:
        elements = 0
    begin, end = offsets
    bits = elements * _DTYPES[dtype][0]
    if bits % 8 or end - begin != bits // 8:
        raise FileFormatError(
            f"{shown}: {dtype} of shape {shape} takes {bits / 8:g} bytes, but data_offsets {offsets} hold {end - begin}"
        )
    return _Entry(dtype, tuple(shape), begin, end)


def _check_cover(entries: dict[str, _Entry], available: int) -> None:
    """The tensors lie one after the other from 0 to the end of the file."""
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != position:
            fault = "overlaps the tensor before it" if entry.begin < position else "leaves a hole before it"
            raise FileFormatError(
                f"tensor {short(name)} {fault}: it begins at {entry.begin} of the data, expected {position}"
            )
        position = entry.end
    if position != available:
        raise FileFormatError(f"the tensors take {position} bytes, but {available} bytes follow the header")


def _advice(first: bytes) -> str:
    if first[:4] == b"PK\x03\x04" or first[:2] == b"\x80\x02":
        return "; this looks like a torch file: use engine.io.torch_file"
    if first == b"\x89HDF\r\n\x1a\n":
        return "; this is an HDF5 file"
    if first[:1] == b"<":
        return "; this looks like a web page: download the file again"
    if first == b"version ":
        return "; this looks like a Git LFS pointer: fetch the file itself"
    return ""
