"""Random numbers per sample: a function of (seed, epoch, sample), not of the batch it travels in.

Augmentation drawn here is the same whatever the batch size, the order, the number of workers or the point at which a
run was resumed. Method: SplitMix64 (Steele, Lea, Flood 2014) in counter form, vectorised over the batch, or over a
field for one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MASK = 2**64 - 1


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class SampleRandom:
    """A stream of random numbers for each sample of a batch.

    Args:
        seed: the loader's seed.
        epoch: counted from 0.
        indices: the samples' numbers in the dataset.

    Example:
        >>> alone = SampleRandom(0, epoch=2, indices=[7]).uniform()
        >>> batch = SampleRandom(0, epoch=2, indices=[3, 7]).uniform()
        >>> bool(alone[0] == batch[1])
        True
    """

    def __init__(self, seed: int, epoch: int, indices: Sequence[int] | np.ndarray) -> None:
        where = np.asarray(indices, np.int64).reshape(-1).astype(np.uint64)
        key = _mix(_mix(np.array([seed & _MASK], np.uint64)) + np.array([epoch & _MASK], np.uint64) * _GOLDEN)
        self._keys = _mix(key ^ _mix(where + _GOLDEN))
        self._drawn = 0

    def __len__(self) -> int:
        return len(self._keys)

    def alone(self, place: int) -> SampleRandom:
        """Returns the stream of one sample by itself, from its beginning.

        Args:
            place: the sample's place in the batch.

        Example:
            >>> batch = SampleRandom(0, epoch=2, indices=[3, 7])
            >>> bool(batch.alone(1).uniform()[0] == batch.uniform()[1])
            True
        """
        one = SampleRandom.__new__(SampleRandom)
        one._keys = self._keys[place : place + 1]
        one._drawn = 0
        return one

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Returns the next number of each sample's stream, uniform in [low, high), as float64 of shape (N,).

        Args:
            low: the smallest value.
            high: the bound, not included.
        """
        self._drawn += 1
        bits = _mix(self._keys + np.array([self._drawn & _MASK], np.uint64) * _GOLDEN)
        return low + (high - low) * ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def integers(self, low: int, high: int) -> np.ndarray:
        """Returns the next integer of each sample's stream, uniform in [low, high), as int64 of shape (N,).

        Args:
            low: the smallest value.
            high: the bound, not included; greater than `low`.
        """
        if high <= low:
            raise ValueError(f"[SampleRandom] expected low < high, got {low} and {high}")
        return np.minimum(np.floor(self.uniform(low, high)).astype(np.int64), high - 1)

    def streams(self) -> list[Stream]:
        """Returns a stream of its own for each sample, which may be drawn from at will.

        Costs each sample one number, however many are then drawn from the stream.

        Example:
            >>> first, second = SampleRandom(0, epoch=0, indices=[4, 5]).streams()
            >>> bool(0 <= first.uniform() < 1)
            True
        """
        self._drawn += 1
        bits = _mix(self._keys + np.array([self._drawn & _MASK], np.uint64) * _GOLDEN)
        return [Stream(key) for key in bits.tolist()]


class Stream:
    """The random numbers of one sample: like a NumPy generator's, but cheap to make.

    Args:
        key: any integer; equal keys give equal numbers.

    Example:
        >>> Stream(7).permutation(4) == Stream(7).permutation(4)
        True
        >>> Stream(7).uniform(size=(2, 3)).shape
        (2, 3)
    """

    def __init__(self, key: int) -> None:
        self._key = key & _MASK
        self._drawn = 0

    def bits(self) -> int:
        """Returns the next 64 random bits."""
        self._drawn += 1
        value = (self._key + self._drawn * 0x9E3779B97F4A7C15) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        return value ^ (value >> 31)

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Sequence[int] | None = None) -> Any:
        """Returns a number uniform in [low, high), or a field of them.

        Args:
            low: the smallest value.
            high: the bound, not included.
            size: the field's shape; None for one number.
        """
        if size is None:
            return low + (high - low) * ((self.bits() >> 11) * 2.0**-53)
        counter = np.arange(1, int(np.prod(size)) + 1, dtype=np.uint64) * _GOLDEN
        values = _mix(np.array([self.bits()], np.uint64) + counter)
        return low + (high - low) * ((values >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(size)

    def integers(self, low: int, high: int) -> int:
        """Returns an integer uniform in [low, high).

        Args:
            low: the smallest value.
            high: the bound, not included; greater than `low`.
        """
        if high <= low:
            raise ValueError(f"[Stream] expected low < high, got {low} and {high}")
        return low + (self.bits() * (high - low) >> 64)

    def permutation(self, count: int) -> list[int]:
        """Returns the numbers 0 to count - 1 in random order.

        Args:
            count: how many.
        """
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.integers(0, last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def beta(self, a: float, b: float) -> float:
        """Returns a number of the beta distribution.

        Args:
            a: the first parameter, positive.
            b: the second parameter, positive.
        """
        return float(np.random.Generator(np.random.PCG64(self.bits())).beta(a, b))
