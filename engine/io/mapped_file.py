"""Read-only access to a file's bytes: copied, or mapped into memory without a copy."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import sys
from types import TracebackType

import numpy as np

from engine.io.errors import FileFormatError

__all__ = ["MappedFile", "release"]


class MappedFile:
    """A regular file, open for reading and mapped into memory.

    Arrays made by `view` keep the mapping alive after the file is closed. A file that another program shortens in
    place while it is mapped kills the process (SIGBUS), as with every memory map; replacing it by a rename, as all
    writers here do, is harmless.

    Args:
        path: the file.

    Raises:
        FileFormatError: the path is a device, a pipe or a socket.
        OSError: the file cannot be opened.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "four.bin")
        >>> with open(path, "wb") as file:
        ...     _ = file.write(bytes(range(4)))
        >>> with MappedFile(path) as file:
        ...     file.size, file.data[1:3], file.view(0, (2,), np.dtype("<u2")).tolist()
        (4, b'\\x01\\x02', [256, 770])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        mode = os.stat(self.path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a pipe would wait for a writer
            raise FileFormatError(f"{self.path}: not a regular file")
        self._file = open(self.path, "rb")  # noqa: SIM115 - closed by close()
        try:
            size = os.fstat(self._file.fileno()).st_size
            self.data: mmap.mmap | bytes = b""
            if size:
                try:
                    self.data = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
                except (OSError, ValueError):  # some network and user-space file systems cannot map
                    self.data = self._file.read()
        except BaseException:
            self._file.close()
            raise
        self.size = len(self.data)

    def __enter__(self) -> MappedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays already made stay valid."""
        self._file.close()

    def view(
        self, offset: int, shape: tuple[int, ...], dtype: np.dtype, strides: tuple[int, ...] | None = None
    ) -> np.ndarray:
        """Return a read-only array over the file's bytes; NumPy refuses bounds that leave the file.

        Args:
            offset: position of the first element in the file, in bytes.
            shape: the array's shape.
            dtype: the elements' type.
            strides: distances between neighbours along each axis in bytes; None is row-major.
        """
        if 0 in shape:
            array = np.empty(shape, dtype)
            array.flags.writeable = False
            return array
        return np.ndarray(shape, dtype, buffer=self.data, offset=offset, strides=strides)

    def copy(self, offset: int, nbytes: int) -> np.ndarray:
        """Read bytes into a new, aligned array of uint8 without touching the mapping.

        Args:
            offset: position of the first byte.
            nbytes: how many.

        Raises:
            FileFormatError: the file ends before.
        """
        array = np.empty(nbytes, np.uint8)
        self._file.seek(offset)
        if nbytes and self._file.readinto(array.data) != nbytes:
            raise FileFormatError(f"{self.path}: the file ends inside the {nbytes} bytes at {offset}")
        return array


def release(array: np.ndarray) -> None:
    """Let the system take back the memory of a mapped array whose values have been copied elsewhere.

    The array stays valid: touched again, its pages are read from the file again. For an array that is not mapped
    this does nothing. Called on each array after its use, it keeps the memory of loading a model near the model's own.

    Args:
        array: an array returned by one of the readers of `engine.io`.

    Example:
        >>> release(np.zeros(3))
    """
    owner: object = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, memoryview):
        owner = owner.obj
    if not isinstance(owner, mmap.mmap) or array.size == 0 or sys.platform == "win32":
        return
    start = array.__array_interface__["data"][0] - np.frombuffer(owner, np.uint8).__array_interface__["data"][0]
    spans = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = start + sum(span for span in spans if span < 0)
    high = start + sum(span for span in spans if span > 0) + array.itemsize
    low -= low % mmap.PAGESIZE
    with contextlib.suppress(OSError, ValueError, AttributeError):  # advice is all it is
        owner.madvise(mmap.MADV_DONTNEED, low, high - low)
