"""Splits into training, validation and test parts, determined by a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .dataset import Subset


def stratified_split(
    labels: Sequence[int] | np.ndarray, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Divides sample numbers into disjoint parts in which every class has its share.

    Each class differs from its exact share by less than one sample in every part, and so does nearly always each part
    as a whole: leftover samples go where most are missing so far.

    Args:
        labels: one class number per sample.
        fractions: the parts' shares, each positive; together 1.
        seed: decides which samples go where.

    Returns:
        One sorted int64 array of sample numbers per part.

    Raises:
        ValueError: when the fractions are no shares of 1, or a class has fewer samples than there are parts.

    Example:
        >>> train, test = stratified_split([0] * 8 + [1] * 4, (0.75, 0.25), seed=1)
        >>> len(train), len(test)
        (9, 3)
        >>> np.bincount(np.array([0] * 8 + [1] * 4)[test])
        array([2, 1])
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"[stratified_split] expected one label per sample, got an array of shape {labels.shape}")
    shares = _shares("stratified_split", fractions)
    generator = np.random.default_rng(seed & (2**64 - 1))
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    owed = np.zeros(len(shares))  # exact share so far minus what was given so far
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < len(shares):
            raise ValueError(
                f"[stratified_split] expected at least {len(shares)} samples of every class for {len(shares)} parts, "
                f"got {len(members)} of class {label}: add samples or leave the class out"
            )
        exact = shares * len(members)
        # The guard against 13.999999 for 14; then one sample each to those that are owed most.
        counts = np.floor(exact + 1e-9).astype(np.int64)
        owed += exact - counts
        missing = len(members) - int(counts.sum())
        receivers = [part for part in np.argsort(-owed, kind="stable") if exact[part] - counts[part] > 1e-9]
        for part in receivers[:missing]:
            counts[part] += 1
            owed[part] -= 1
        # Nobody goes away empty-handed: the largest part gives.
        for part in np.flatnonzero(counts == 0):
            giver = int(np.argmax(counts))
            counts[giver] -= 1
            counts[part] += 1
            owed[giver] += 1
            owed[part] -= 1
        for part, piece in enumerate(np.split(members, np.cumsum(counts)[:-1])):
            parts[part].append(piece)
    return tuple(np.sort(np.concatenate(pieces)) if pieces else np.empty(0, np.int64) for pieces in parts)


def random_split(dataset: Any, lengths: Sequence[float], seed: int = 0) -> list[Subset]:
    """Divides a dataset into disjoint random subsets, as PyTorch's function of this name.

    Args:
        dataset: the whole.
        lengths: the parts' sizes, or their shares of 1.
        seed: decides which samples go where.

    Raises:
        ValueError: when the lengths do not add up.

    Example:
        >>> [len(part) for part in random_split(range(10), [0.7, 0.3], seed=0)]
        [7, 3]
    """
    total = len(dataset)
    if all(isinstance(length, (int, np.integer)) for length in lengths):
        counts = np.array(lengths, np.int64)
        if counts.sum() != total or (counts < 0).any():
            raise ValueError(f"[random_split] expected lengths that add up to {total}, got {list(lengths)}")
    else:
        exact = _shares("random_split", lengths) * total
        counts = np.floor(exact + 1e-9).astype(np.int64)
        order = np.argsort(-(exact - counts), kind="stable")
        counts[order[: total - int(counts.sum())]] += 1
    order = np.random.default_rng(seed & (2**64 - 1)).permutation(total)
    return [Subset(dataset, piece) for piece in np.split(order, np.cumsum(counts)[:-1])]


def _shares(owner: str, fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or len(shares) == 0 or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"[{owner}] expected positive fractions that add up to 1, got {list(fractions)}")
    return shares
