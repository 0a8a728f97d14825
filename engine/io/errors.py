"""The exceptions of the file readers."""

from __future__ import annotations

__all__ = ["FileFormatError", "UnsafeFileError", "short"]


class FileFormatError(ValueError):
    """A file is damaged, is of another kind than expected, or holds something that is not supported.

    Every reader in `engine.io` raises this type, and only this type, for bad content. Errors of the operating
    system (no such file, permission denied) stay `OSError`.

    Example:
        >>> issubclass(FileFormatError, ValueError)
        True
    """


class UnsafeFileError(FileFormatError):
    """A file asks for something that weights never need, such as calling a function; nothing of it was carried out.

    Example:
        >>> issubclass(UnsafeFileError, FileFormatError)
        True
    """


def short(value: object, limit: int = 100) -> str:
    """Show a value from a file in a message: on one line, without control characters, cut off when it is long.

    Args:
        value: text or a number; of other values, which may be of any size, only the type is shown.
        limit: characters to show.

    Example:
        >>> short("a" * 8, limit=4), short(["a"])
        ("'aaa...", 'a list')
    """
    if isinstance(value, str | bytes):
        shown = ascii(value[:limit])
    elif value is None or isinstance(value, int | float):
        shown = repr(value)
    else:
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= limit else shown[:limit] + "..."
