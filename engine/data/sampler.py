"""Samplers: the order in which a loader visits samples.

The order is a function of (seed, epoch) alone. Nothing is remembered between epochs, so any epoch can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np


class Sampler:
    """Gives sample numbers in some order: subclasses implement `indices` and `__len__`.

    Args:
        source: what is sampled; only its length is used.
        seed: the order's seed.

    Example:
        >>> list(SequentialSampler(range(3)))
        [0, 1, 2]
    """

    def __init__(self, source: Sized, seed: int = 0) -> None:
        self.source = source
        self.seed = int(seed)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives.

        Args:
            epoch: counted from 0.
        """
        self.epoch = int(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns what the order depends on: the seed, the epoch and the number of samples."""
        return {"seed": self.seed, "epoch": self.epoch, "length": len(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues with the order that `state_dict` was taken from.

        Args:
            state: a sampler's state.

        Raises:
            ValueError: when this sampler gives another number of samples.
        """
        if int(state["length"]) != len(self):
            raise ValueError(
                f"[{type(self).__name__}] expected the sampler of a data set that gives {state['length']} samples per "
                f"epoch, as when the state was saved, got one that gives {len(self)}"
            )
        self.seed, self.epoch = int(state["seed"]), int(state["epoch"])

    def generator(self) -> np.random.Generator:
        """Returns the random numbers of the chosen epoch, from their beginning."""
        return np.random.default_rng([self.seed & (2**64 - 1), self.epoch])

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
        super().__init__(source, seed)
        self.replacement = replacement
        self.num_samples = num_samples
        if num_samples is not None and num_samples < 0:
            raise ValueError(f"[RandomSampler] expected num_samples of at least 0, got {num_samples}")
        if num_samples and not replacement and num_samples > len(source):
            raise ValueError(
                f"[RandomSampler] expected num_samples of at most {len(source)} without replacement, got {num_samples}"
            )

    def indices(self) -> np.ndarray:
        generator = self.generator()
        if self.replacement:
            return generator.integers(0, len(self.source), len(self), dtype=np.int64)
        return generator.permutation(len(self.source)).astype(np.int64, copy=False)[: len(self)]

    def __len__(self) -> int:
        return len(self.source) if self.num_samples is None else self.num_samples


class WeightedRandomSampler(Sampler):
    """Draws samples with the given probabilities, up to a factor.

    Args:
        weights: one number of at least 0 per sample; `sample_weights` makes those that balance classes.
        num_samples: how many to give in an epoch.
        replacement: draw independently; otherwise no sample comes twice.
        seed: the order's seed.

    Raises:
        ValueError: for negative, infinite or all-zero weights, or when there are too few samples to draw from.

    Example:
        >>> list(WeightedRandomSampler([0.0, 1.0, 0.0], num_samples=3))
        [1, 1, 1]
    """

    def __init__(
        self, weights: Sequence[float] | np.ndarray, num_samples: int, replacement: bool = True, *, seed: int = 0
    ) -> None:
        values = np.asarray(weights, np.float64)
        if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise ValueError(
                "[WeightedRandomSampler] expected one finite weight of at least 0 per sample, and one above 0, got "
                f"{values.tolist()[:10]}"
            )
        available = int(np.count_nonzero(values))
        if num_samples < 1 or (not replacement and num_samples > available):
            raise ValueError(
                f"[WeightedRandomSampler] expected num_samples of 1 or more, and without replacement of at most the "
                f"{available} samples of positive weight, got {num_samples}"
            )
        super().__init__(values, seed)
        self.num_samples = num_samples
        self.replacement = replacement

    def indices(self) -> np.ndarray:
        values: np.ndarray = self.source  # type: ignore[assignment]
        generator = self.generator()
        if self.replacement:
            sums = np.cumsum(values)
            return np.searchsorted(sums, generator.random(self.num_samples) * sums[-1], side="right").astype(np.int64)
        # The order of exponential waiting times: Efraimidis and Spirakis 2006.
        with np.errstate(divide="ignore"):
            times = generator.standard_exponential(len(values)) / values
        return np.argsort(times, kind="stable")[: self.num_samples].astype(np.int64)

    def __len__(self) -> int:
        return self.num_samples


class RandomOverSampler(Sampler):
    """Gives every class as often as the most frequent one: all samples, and repetitions of those of rarer classes.

    In each epoch other samples are repeated, each as often as the others of its class or once more.

    Args:
        labels: one class number per sample.
        seed: the order's seed.

    Example:
        >>> sorted(RandomOverSampler([0, 0, 0, 1]))
        [0, 1, 2, 3, 3, 3]
    """

    def __init__(self, labels: Sequence[int] | np.ndarray, seed: int = 0) -> None:
        super().__init__(_checked_labels("RandomOverSampler", labels), seed)

    def indices(self) -> np.ndarray:
        generator = self.generator()
        members = _members(self.source)  # type: ignore[arg-type]
        most = max(len(places) for places in members)
        drawn = []
        for places in members:
            rounds = [generator.permutation(places) for _ in range(-(-most // len(places)))]
            drawn.append(np.concatenate([places, *rounds[1:]])[:most])
        return generator.permutation(np.concatenate(drawn))

    def __len__(self) -> int:
        members = _members(self.source)  # type: ignore[arg-type]
        return len(members) * max(len(places) for places in members)


class RandomUnderSampler(Sampler):
    """Gives every class as often as the rarest one: of the others, in each epoch other samples.

    Args:
        labels: one class number per sample.
        seed: the order's seed.

    Example:
        >>> drawn = list(RandomUnderSampler([0, 0, 0, 1]))
        >>> len(drawn), 3 in drawn
        (2, True)
    """

    def __init__(self, labels: Sequence[int] | np.ndarray, seed: int = 0) -> None:
        super().__init__(_checked_labels("RandomUnderSampler", labels), seed)

    def indices(self) -> np.ndarray:
        generator = self.generator()
        members = _members(self.source)  # type: ignore[arg-type]
        least = min(len(places) for places in members)
        return generator.permutation(np.concatenate([generator.permutation(places)[:least] for places in members]))

    def __len__(self) -> int:
        members = _members(self.source)  # type: ignore[arg-type]
        return len(members) * min(len(places) for places in members)


def class_weights(labels: Sequence[int] | np.ndarray, num_classes: int | None = None) -> np.ndarray:
    """Returns a weight per class that makes all classes count the same in a loss: N / (classes * count).

    scikit-learn's "balanced" weights; for `engine.nn.CrossEntropyLoss(weight=engine.from_numpy(...))`.

    Args:
        labels: one class number per sample.
        num_classes: how many there are; None for the largest number plus 1.

    Returns:
        float32 of shape (num_classes,).

    Raises:
        ValueError: when a class has no sample.

    Example:
        >>> class_weights([0, 0, 0, 1])
        array([0.6666667, 2.       ], dtype=float32)
    """
    numbers = _checked_labels("class_weights", labels)
    counts = np.bincount(numbers, minlength=num_classes or 0)
    absent = np.flatnonzero(counts == 0)
    if len(absent) or (num_classes is not None and len(counts) > num_classes):
        got = f"none of class {', '.join(map(str, absent.tolist()))}" if len(absent) else f"label {numbers.max()}"
        raise ValueError(
            f"[class_weights] expected samples of each of the {num_classes or len(counts)} classes, got {got}"
        )
    return (len(numbers) / (len(counts) * counts)).astype(np.float32)


def sample_weights(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns a weight per sample with which `WeightedRandomSampler` draws all classes equally often.

    Args:
        labels: one class number per sample.

    Returns:
        float64 of shape (N,), 1 / the number of samples of its class.

    Example:
        >>> sample_weights([0, 0, 1])
        array([0.5, 0.5, 1. ])
    """
    numbers = _checked_labels("sample_weights", labels)
    return np.asarray(1.0 / np.bincount(numbers)[numbers])


def _checked_labels(owner: str, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    numbers = np.asarray(labels)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers) or numbers.min() < 0:
        raise ValueError(f"[{owner}] expected one class number of at least 0 per sample, got {numbers!r:.200}")
    return numbers.astype(np.int64)


def _members(labels: np.ndarray) -> list[np.ndarray]:
    """The places of each class that occurs."""
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
