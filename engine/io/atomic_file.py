"""Files that appear under their name completely written, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["flush_folder", "open_atomic"]


@contextlib.contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file for writing that replaces `path` when the block ends without an error.

    The bytes go to a temporary file `.engine-*.tmp` in the same folder, which is flushed to the disk and renamed; then
    the folder is flushed. After an error the temporary file is removed and `path` is what it was before. A symbolic
    link is followed, and an existing file keeps its permission bits.

    Args:
        path: the file to make or replace.

    Raises:
        OSError: the file cannot be written; the error names `path`.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "note.txt")
        >>> with open_atomic(path) as file:
        ...     _ = file.write(b"all or nothing")
        >>> os.listdir(os.path.dirname(path))
        ['note.txt']
    """
    target = os.path.realpath(os.fspath(path))
    folder = os.path.dirname(target)
    try:
        mode: int | None = stat.S_IMODE(os.stat(target).st_mode)
    except OSError:
        mode = None
    temporary = os.path.join(folder, f".engine-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(temporary, flags, 0o666)
    except OSError as error:
        raise _named(error, path) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.chmod(temporary, mode)
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, temporary):
            raise _named(error, path) from error
        raise
    flush_folder(folder)


def _named(error: OSError, path: str | os.PathLike[str]) -> OSError:
    """The same error with the name the caller knows instead of the temporary file's, or none."""
    return OSError(error.errno, error.strerror, os.fspath(path))


def flush_folder(folder: str) -> None:
    """Make a rename itself durable, where the system lets a folder be flushed.

    Args:
        folder: where the renamed file is.
    """
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
