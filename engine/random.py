"""Seeds and the state of the counter-based random generator.

Every random tensor is a pure function of (seed, offset, position): the kernels hash these three numbers, so results
depend neither on the number of threads nor on the instruction set. The whole state is the pair (seed, offset); each
draw takes the next offset.
"""

from __future__ import annotations

import os
import threading

__all__ = ["get_rng_state", "initial_seed", "manual_seed", "next_key", "seed", "set_rng_state"]

DEFAULT_SEED = 67280421310721

_lock = threading.Lock()
_seed = DEFAULT_SEED
_offset = 0


def next_key() -> tuple[int, int]:
    """Returns (seed, offset) for one draw and moves the offset on."""
    global _offset
    with _lock:
        offset = _offset
        _offset = offset + 1
        return _seed, offset


def manual_seed(seed: int) -> None:
    """Sets the seed of all random numbers and restarts their sequence.

    Args:
        seed: any integer; it is taken modulo 2^64.

    Example:
        >>> import engine
        >>> engine.manual_seed(0)
        >>> a = engine.rand(3)
        >>> engine.manual_seed(0)
        >>> bool((engine.rand(3) == a).all())
        True
    """
    global _seed, _offset
    with _lock:
        _seed, _offset = int(seed) % 2**64, 0


def seed() -> int:
    """Seeds from the operating system's entropy and returns the seed taken."""
    value = int.from_bytes(os.urandom(8), "little")
    manual_seed(value)
    return value


def initial_seed() -> int:
    """Returns the seed in use."""
    return _seed


def get_rng_state() -> tuple[int, int]:
    """Returns (seed, offset), all there is to the generator; goes into checkpoints.

    Example:
        >>> import engine
        >>> state = engine.get_rng_state()
        >>> a = engine.randn(2)
        >>> engine.set_rng_state(state)
        >>> bool((engine.randn(2) == a).all())
        True
    """
    with _lock:
        return _seed, _offset


def set_rng_state(state: tuple[int, int]) -> None:
    """Continues from a state that `get_rng_state` returned.

    Args:
        state: the pair (seed, offset).

    Raises:
        ValueError: if the state is not a pair of non-negative integers.
    """
    global _seed, _offset
    new_seed, new_offset = (int(value) for value in state)
    if new_seed < 0 or new_offset < 0:
        raise ValueError(f"[set_rng_state] expected (seed, offset), both >= 0, got {tuple(state)}")
    with _lock:
        _seed, _offset = new_seed % 2**64, new_offset
