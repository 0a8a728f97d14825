"""Random numbers per sample: a function of (seed, epoch, sample), not of the batch it travels in.

Augmentation drawn here is the same whatever the batch size, the order, the number of workers or the point at which a
run was resumed. Method: SplitMix64 (Steele, Lea, Flood 2014) in counter form, vectorised over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

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
