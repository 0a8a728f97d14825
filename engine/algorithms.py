"""Which algorithm computes a convolution: the user's switch, and choices measured once and remembered in a file.

Every algorithm computes the same sums with other roundings. Largest error against exact arithmetic, as a share of the
largest output, for normally distributed inputs and 64 to 512 input channels:

| form | largest error | rms error |
|---|---|---|
| direct, and all but Winograd | 3.3e-6 | 1.5e-6 |
| Winograd F(4 x 4, 3 x 3) | 5.0e-6 | 1.9e-6 |
| Winograd F(4 x 4, 3 x 3), weight gradient | 4.0e-6 | 2.5e-6 |
| Winograd F(2 x 2, 3 x 3), weight gradient | 2.5e-6 | 1.7e-6 |
| Winograd for 5 x 5, 1 x 3, 3 x 1 | 4.4e-6 | |
| Winograd for 1 x 7, 7 x 1 | 7.6e-6 | |

Winograd's minimal filtering: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import warnings
from typing import Any

from engine import backend as B

__all__ = ["autotune", "get_conv_algorithm", "set_conv_algorithm"]

_VERSION = 1


def set_conv_algorithm(name: str = "auto") -> None:
    """Allow or forbid convolution algorithms with larger rounding errors than a plain sum.

    The setting holds for the whole process. At the start the environment variable ``ENGINE_CONV_ALGORITHM`` decides.

    Args:
        name: ``"auto"`` (or ``""``): the fastest algorithm that accepts the problem; ``"direct"``: none of the Winograd
            forms, for who compares with another library to the last digits or trains with very large values.

    Raises:
        ValueError: another name.

    Example:
        >>> import engine
        >>> engine.set_conv_algorithm("direct")
        >>> engine.get_conv_algorithm()
        'direct'
        >>> engine.set_conv_algorithm("auto")
    """
    B.set_conv_policy(name or "auto")


def get_conv_algorithm() -> str:
    """What `set_conv_algorithm` or ``ENGINE_CONV_ALGORITHM`` asked for: ``"auto"`` or ``"direct"``.

    Example:
        >>> import engine
        >>> engine.get_conv_algorithm()
        'auto'
    """
    return B.conv_policy()


def _read(path: str) -> dict[str, dict[str, str]]:
    """Processor -> problem -> algorithm; empty when there is no file, and with a warning when it is not to be used."""
    try:
        with open(path, encoding="utf-8") as file:
            found: Any = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(
            f"[autotune] expected a file of remembered choices, got {path!r}, which cannot be read ({error}): "
            "everything is measured anew",
            stacklevel=4,
        )
        return {}
    choices = found.get("choices") if isinstance(found, dict) and found.get("version") == _VERSION else None
    whole = isinstance(choices, dict) and all(
        isinstance(known, dict) and all(isinstance(name, str) for name in known.values()) for known in choices.values()
    )
    if not whole:
        warnings.warn(
            f"[autotune] expected choices of version {_VERSION}, got something else in {path!r}: everything is "
            "measured anew and the file replaced",
            stacklevel=4,
        )
        return {}
    assert isinstance(choices, dict)
    return choices


class autotune:
    """Measure convolution algorithms on this machine, and remember the fastest in a file.

    From its construction on, the first call with a new problem (shape, direction, instruction set, number of threads)
    times every algorithm that accepts it; later calls, also of later processes, take what the file says. One choice
    always gives the same bits, but two machines may choose differently. The file keeps the choices of several
    processors apart. It is written, as a whole or not at all, by `save`, `stop`, the end of a ``with`` block and
    the end of the process. Setting the environment variable ``ENGINE_AUTOTUNE`` to a path does the same for a program
    that is not to be changed.

    Args:
        path: the JSON file; made when it does not exist. A damaged one is replaced, with a warning.

    Example:
        >>> import os, tempfile
        >>> import engine
        >>> path = os.path.join(tempfile.mkdtemp(), "choices.json")
        >>> with engine.autotune(path):
        ...     y = engine.nn.Conv2d(3, 8, 3)(engine.ones(1, 3, 8, 8))
        >>> os.path.exists(path)
        True
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._lock = threading.Lock()
        self._running = True
        B.set_tuned_choices(_read(self.path).get(B.cpu_model(), {}))
        B.set_autotune(True)
        atexit.register(self.stop)

    def choices(self) -> dict[str, str]:
        """Problem -> algorithm, for this processor: what the file said and what was measured since."""
        return B.tuned_choices()

    def save(self) -> None:
        """Write the file; choices that another process has added meanwhile stay.

        Raises:
            OSError: the file cannot be written.
        """
        from engine.io.atomic_file import open_atomic

        with self._lock:
            every = _read(self.path)
            every[B.cpu_model()] = {**every.get(B.cpu_model(), {}), **B.tuned_choices()}
            text = json.dumps({"version": _VERSION, "choices": every}, indent=1, sort_keys=True)
            with open_atomic(self.path) as file:
                file.write(text.encode())

    def stop(self) -> None:
        """Save, and let the engine choose by its own rules again. Does nothing the second time."""
        if not self._running:
            return
        self._running = False
        atexit.unregister(self.stop)
        B.set_autotune(False)
        self.save()

    def __enter__(self) -> autotune:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
