"""Samplers: the order in which a loader visits samples.

The order is a function of (seed, epoch) alone. Nothing is remembered between epochs, so any epoch can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np


class Sampler:
    """Gives sample numbers in some order: subclasses implement `indices` and `__len__`.

    Args:
        source: what is sampled; only its length is used.

    Example:
        >>> list(SequentialSampler(range(3)))
        [0, 1, 2]
    """

    def __init__(self, source: Sized) -> None:
        self.source = source
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives.

        Args:
            epoch: counted from 0.
        """
        self.epoch = int(epoch)

    def indices(self) -> np.ndarray:
        """Returns the sample numbers of the chosen epoch, in order, as an int64 array."""
        raise NotImplementedError(f"[{type(self).__name__}] implement indices(): the sample numbers of one epoch")

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())

    def __len__(self) -> int:
        return len(self.source)


class SequentialSampler(Sampler):
    """Every sample once, in the dataset's order."""

    def indices(self) -> np.ndarray:
        return np.arange(len(self.source), dtype=np.int64)


class RandomSampler(Sampler):
    """A shuffle that (seed, epoch) determines, or draws with replacement.

    Args:
        source: what is sampled; only its length is used.
        replacement: draw independently, so that a sample may come twice or never.
        num_samples: how many to give; None means as many as there are.
        seed: the order's seed.

    Example:
        >>> sampler = RandomSampler(range(5), seed=1)
        >>> first = list(sampler)
        >>> sorted(first) == [0, 1, 2, 3, 4] and list(sampler) == first
        True
        >>> sampler.set_epoch(1)
        >>> list(sampler) == first
        False
    """

    def __init__(self, source: Sized, replacement: bool = False, num_samples: int | None = None, seed: int = 0) -> None:
        super().__init__(source)
        self.replacement = replacement
        self.num_samples = num_samples
        self.seed = seed
        if num_samples is not None and num_samples < 0:
            raise ValueError(f"[RandomSampler] expected num_samples of at least 0, got {num_samples}")
        if num_samples and not replacement and num_samples > len(source):
            raise ValueError(
                f"[RandomSampler] expected num_samples of at most {len(source)} without replacement, got {num_samples}"
            )

    def indices(self) -> np.ndarray:
        generator = np.random.default_rng([self.seed & (2**64 - 1), self.epoch])
        if self.replacement:
            return generator.integers(0, len(self.source), len(self), dtype=np.int64)
        return generator.permutation(len(self.source)).astype(np.int64, copy=False)[: len(self)]

    def __len__(self) -> int:
        return len(self.source) if self.num_samples is None else self.num_samples
