"""A zip archive read strictly and in memory: what one reader sees is what every reader would see.

Nothing is extracted to disk. The archive must fill the file exactly: the entries one after the other from byte 0, then
the directory, then the end records; both descriptions of an entry agree; no two entries share a name. Entries are
stored, or deflated with an exact size, whose sum is limited.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

from engine.io.errors import FileFormatError, UnsafeFileError, short
from engine.io.mapped_file import MappedFile

__all__ = ["ZipEntry", "read_directory", "read_entry"]

_MAX_ENTRIES = 200_000
_MAX_DIRECTORY = 64 << 20
_MAX_NAME = 4096
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_DESCRIPTOR = 0x8  # sizes and checksum follow the data


class ZipEntry(NamedTuple):
    """A member of an archive; `offset` is where its bytes begin in the file."""

    name: str
    deflated: bool
    offset: int
    packed: int
    size: int
    crc: int


class _Record(NamedTuple):
    """A member as the central directory describes it; `header` is where its local header begins."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int


def read_directory(file: MappedFile) -> dict[str, ZipEntry]:
    """Check an archive completely and return its entries by name.

    Args:
        file: the archive.

    Raises:
        UnsafeFileError: two readers could see different contents, a name leaves the archive, or the unpacked size is
            out of proportion.
        FileFormatError: it is damaged.

    Example:
        >>> import os, tempfile, zipfile
        >>> path = os.path.join(tempfile.mkdtemp(), "a.zip")
        >>> with zipfile.ZipFile(path, "w") as archive:
        ...     archive.writestr("a/b", "text")
        >>> with MappedFile(path) as file:
        ...     entries = read_directory(file)
        ...     list(entries), read_entry(file, entries["a/b"]).tobytes()
        (['a/b'], b'text')
    """
    start, size, count = _find_directory(file)
    records = _read_records(file, start, size, count)
    entries: dict[str, ZipEntry] = {}
    position = 0
    unpacked = 0
    for record in sorted(records, key=lambda record: record.header):
        if record.header != position:
            fault = "overlap" if record.header < position else "leave a gap"
            raise UnsafeFileError(f"its zip entries {fault} at byte {record.header}, expected one at {position}")
        entry, position = _read_local(file, record, start)
        if entry.name in entries:
            raise UnsafeFileError(f"it has two zip entries with the name {short(entry.name)}")
        if entry.deflated:
            unpacked += entry.size
        entries[entry.name] = entry
    if position != start:
        raise UnsafeFileError(f"its zip entries end at byte {position}, but their directory begins at {start}")
    limit = (64 << 20) + 16 * file.size
    if unpacked > limit:
        raise UnsafeFileError(f"it would unpack to {unpacked} bytes, {limit} are allowed: it looks like a zip bomb")
    return {_text(record.name): entries[_text(record.name)] for record in records}


def read_entry(file: MappedFile, entry: ZipEntry) -> np.ndarray:
    """Read an entry into a new array of uint8.

    Args:
        file: the archive.
        entry: one of its entries.

    Raises:
        FileFormatError: its data do not unpack to exactly the declared size and checksum.
    """
    if not entry.deflated:
        return file.copy(entry.offset, entry.size)
    array = np.empty(entry.size, np.uint8)
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    filled, position, end = 0, entry.offset, entry.offset + entry.packed
    try:
        while not unpacker.eof:
            pending = unpacker.unconsumed_tail
            if not pending:
                if position == end:
                    break
                pending = file.data[position : min(end, position + (1 << 20))]
                position += len(pending)
            piece = unpacker.decompress(pending, min(entry.size - filled, 1 << 22) + 1)
            if len(piece) > entry.size - filled:
                break
            array[filled : filled + len(piece)] = np.frombuffer(piece, np.uint8)
            filled += len(piece)
        exact = (
            unpacker.eof
            and filled == entry.size
            and position == end
            and not unpacker.unused_data
            and not unpacker.unconsumed_tail
        )
    except zlib.error as error:
        raise FileFormatError(f"the zip entry {short(entry.name)} does not unpack: {error}") from None
    if not exact:
        raise FileFormatError(f"the zip entry {short(entry.name)} does not unpack to its declared {entry.size} bytes")
    if zlib.crc32(array.data) != entry.crc:
        raise FileFormatError(f"the zip entry {short(entry.name)} has a wrong checksum")
    return array


def _find_directory(file: MappedFile) -> tuple[int, int, int]:
    """Where the central directory starts, its size, its number of entries, from the records at the file's end."""
    end = file.size - 22
    if end < 0 or file.data[end : end + 4] != b"PK\x05\x06":
        raise FileFormatError("its zip directory is missing: the file is cut off, or something follows the archive")
    disk, first_disk, here, count, size, start, comment = struct.unpack("<HHHHIIH", file.data[end + 4 : end + 22])
    if comment or disk or first_disk or here != count:
        raise FileFormatError("its zip archive has a comment or several parts")
    limit = end
    locator = end - 20
    if locator >= 0 and file.data[locator : locator + 4] == b"PK\x06\x07":
        disk, wide, disks = struct.unpack("<IQI", file.data[locator + 4 : locator + 20])
        if disk or disks > 1 or wide != locator - 56 or wide < 0 or file.data[wide : wide + 4] != b"PK\x06\x06":
            raise FileFormatError("its zip64 directory record is damaged")
        length, _, _, disk, first_disk, here, wide_count, wide_size, wide_start = struct.unpack(
            "<QHHIIQQQQ", file.data[wide + 4 : wide + 56]
        )
        if length != 44 or disk or first_disk or here != wide_count:
            raise FileFormatError("its zip64 directory record is damaged")
        for narrow, value, full in (
            (count, wide_count, 0xFFFF),
            (size, wide_size, 0xFFFFFFFF),
            (start, wide_start, 0xFFFFFFFF),
        ):
            if narrow not in (value, full):
                raise UnsafeFileError("its two zip directory records differ")
        count, size, start, limit = wide_count, wide_size, wide_start, wide
    if count > _MAX_ENTRIES:
        raise FileFormatError(f"its zip archive has {count} entries, the limit is {_MAX_ENTRIES}")
    if size > _MAX_DIRECTORY:
        raise FileFormatError(f"its zip directory takes {size} bytes, the limit is {_MAX_DIRECTORY}")
    if start + size != limit:
        raise FileFormatError(f"its zip directory is said to fill bytes {start} to {start + size}, expected {limit}")
    return start, size, count


def _read_records(file: MappedFile, start: int, size: int, count: int) -> list[_Record]:
    data = file.data[start : start + size]
    records: list[_Record] = []
    position = 0
    for _ in range(count):
        if data[position : position + 4] != b"PK\x01\x02" or position + 46 > size:
            raise FileFormatError("its zip directory is damaged")
        (_, _, flags, method, _, crc, packed, unpacked, name_size, extra_size, comment_size, disk, _, attributes,
         header) = struct.unpack("<HHHHIIIIHHHHHII", data[position + 4 : position + 46])  # fmt: skip
        position += 46
        name = data[position : position + name_size]
        extra = data[position + name_size : position + name_size + extra_size]
        position += name_size + extra_size + comment_size
        if position > size:
            raise FileFormatError("its zip directory is damaged")
        unpacked, packed, header = _widen(extra, unpacked, packed, header)
        text = _text(name)
        if flags & _ENCRYPTED:
            raise FileFormatError(f"the zip entry {short(text)} is encrypted")
        if method not in (_STORED, _DEFLATED):
            raise FileFormatError(f"the zip entry {short(text)} has compression method {method}, expected 0 or 8")
        if method == _STORED and packed != unpacked:
            raise UnsafeFileError(f"the zip entry {short(text)} is stored, but its two sizes differ")
        if disk or attributes >> 16 & 0o170000 not in (0, 0o100000, 0o040000):
            raise UnsafeFileError(f"the zip entry {short(text)} is not a regular file")
        if text.endswith("/") and unpacked:
            raise UnsafeFileError(f"the zip folder {short(text)} has contents")
        records.append(_Record(name, flags, method, crc, packed, unpacked, header))
    if position != size:
        raise FileFormatError("its zip directory is damaged")
    return records


def _widen(extra: bytes, *values: int) -> tuple[int, ...]:
    """Replace each 0xFFFFFFFF by the 64-bit value in the extra field 1, in the order the format gives them."""
    found: bytes | None = None
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack("<HH", extra[position : position + 4])
        position += 4
        if position + length > len(extra):
            raise FileFormatError("its zip archive has a damaged extra field")
        if kind == 1:
            if found is not None:
                raise UnsafeFileError("its zip archive has an entry with two zip64 fields")
            found = extra[position : position + length]
        position += length
    result: list[int] = []
    for value in values:
        if value == 0xFFFFFFFF:
            if found is None or len(found) < 8:
                raise FileFormatError("its zip archive lacks a 64-bit size")
            result.append(struct.unpack("<Q", found[:8])[0])
            found = found[8:]
        else:
            result.append(value)
    return tuple(result)


def _text(name: bytes) -> str:
    """An entry's name, which is only ever looked up, but must not be able to harm other readers either."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(f"the zip entry {short(name)} has a name that is not UTF-8") from None
    parts = text.split("/")
    odd = "\\" in text or "\0" in text or text[1:2] == ":"
    if odd or ".." in parts or parts[0] == "" or len(name) > _MAX_NAME:
        raise UnsafeFileError(f"the zip entry {short(text)} has a name that could leave the archive")
    return text


def _read_local(file: MappedFile, record: _Record, limit: int) -> tuple[ZipEntry, int]:
    """Check an entry's own header against the directory; also return where the next entry must begin."""
    name = short(_text(record.name))
    start = record.header + 30
    if start > limit or file.data[record.header : record.header + 4] != b"PK\x03\x04":
        raise FileFormatError(f"the zip entry {name} has no header at byte {record.header}")
    _, flags, method, _, crc, packed, size, name_size, extra_size = struct.unpack(
        "<HHHIIIIHH", file.data[record.header + 4 : start]
    )
    offset = start + name_size + extra_size
    end = offset + record.packed
    if end > limit:
        raise FileFormatError(f"the zip entry {name} leaves the file")
    extra = file.data[start + name_size : offset]
    later = bool(flags & _DESCRIPTOR)
    if not (later and packed == size == 0):
        size, packed = _widen(extra, size, packed)
    same = (
        file.data[start : start + name_size] == record.name
        and flags == record.flags
        and method == record.method
        and (crc == record.crc or (later and crc == 0))
        and ((packed, size) == (record.packed, record.size) or (later and packed == size == 0))
    )
    if not same:
        raise UnsafeFileError(f"the zip entry {name} is described differently by its header and by the directory")
    if later:
        end = _skip_descriptor(file, record, end, limit)
    entry = ZipEntry(_text(record.name), record.method == _DEFLATED, offset, record.packed, record.size, record.crc)
    return entry, end


def _skip_descriptor(file: MappedFile, record: _Record, position: int, limit: int) -> int:
    """The end of the descriptor after the data, which comes with or without a signature, with 32 or 64 bits."""
    wide = struct.pack("<IQQ", record.crc, record.packed, record.size)
    forms = [b"PK\x07\x08" + wide, wide]
    if max(record.packed, record.size) <= 0xFFFFFFFF:
        narrow = struct.pack("<III", record.crc, record.packed, record.size)
        forms = [b"PK\x07\x08" + narrow, narrow, *forms]
    for form in forms:
        end = position + len(form)
        follows = file.data[end : end + 4] == b"PK\x03\x04" if end < limit else end == limit
        if follows and file.data[position:end] == form:
            return end
    raise UnsafeFileError(f"the zip entry {short(_text(record.name))} is described differently after its data")
