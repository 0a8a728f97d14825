"""Splits into training, validation and test parts, determined by a seed, and the search for what is in two of them.

A picture that is in the training part and in the test part makes the test worth less than it looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Leak:
    """The same content in two parts.

    Attributes:
        first: the sample in one part: the file's path, or its number.
        first_part: the name of that part.
        second: the sample in the other part.
        second_part: the name of that part.

    Example:
        >>> print(Leak("a.png", "train", "b.png", "test"))
        a.png (train) = b.png (test)
    """

    first: str
    first_part: str
    second: str
    second_part: str

    def __str__(self) -> str:
        return f"{self.first} ({self.first_part}) = {self.second} ({self.second_part})"


class LeakageError(ValueError):
    """Parts that should have nothing in common share samples.

    Args:
        message: what is wrong.
        leaks: the pairs.

    Example:
        >>> from engine.data import ArrayDataset
        >>> data = ArrayDataset(np.array([[1], [2], [1], [3]]), [0, 0, 0, 0])
        >>> split_dataset(data, (0.5, 0.5), seed=1)
        Traceback (most recent call last):
            ...
        engine.data.split.LeakageError: [split_dataset] 1 pair of samples with the same content: sample 0 = ...
    """

    def __init__(self, message: str, leaks: Sequence[Any]) -> None:
        super().__init__(message)
        self.leaks = list(leaks)


_PARTS = ("train", "val", "test")


def find_leaks(parts: Mapping[str, Any] | Sequence[Any]) -> list[Leak]:
    """Finds the samples of one part that another part has, too: the same file, or other files with equal bytes.

    Of files, only those of equal size are read. Samples that are not in files are compared by their first field.

    Args:
        parts: the datasets by name, or two or three of them: train, (val,) test.

    Returns:
        A pair for each sample that an earlier part has already; an empty list when nothing is shared.

    Example:
        >>> from engine.data import ArrayDataset
        >>> train, test = ArrayDataset(np.array([[1], [2]])), ArrayDataset(np.array([[3], [1]]))
        >>> print(*find_leaks({"train": train, "test": test}))
        sample 0 (train) = sample 1 (test)
    """
    if not isinstance(parts, Mapping):
        if len(parts) not in (2, 3):
            raise ValueError(f"[find_leaks] expected two or three parts, or names for them, got {len(parts)} parts")
        parts = dict(zip(_PARTS if len(parts) == 3 else ("train", "test"), parts))
    seen: dict[Any, tuple[str, str]] = {}
    leaks = []
    for part, dataset in parts.items():
        own: dict[Any, tuple[str, str]] = {}
        for index in range(len(dataset)):
            name, content = dataset.content_of(index)
            if content in seen:
                leaks.append(Leak(*seen[content], name, part))
            own.setdefault(content, (name, part))
        seen = {**own, **seen}
    return leaks


def split_dataset(
    dataset: Any, fractions: Sequence[float] = (0.7, 0.15, 0.15), seed: int = 0, *, duplicates: str = "raise"
) -> list[Subset]:
    """Divides a dataset into disjoint parts in which every class has its share, and no picture is in two of them.

    Args:
        dataset: a `Dataset` with `labels`.
        fractions: the parts' shares, each positive; together 1.
        seed: decides which samples go where.
        duplicates: what to do about samples with the same content: "raise" an error that names them, keep them
            "together" in one part, or "allow" them in different parts without looking.

    Returns:
        One subset per part.

    Raises:
        LeakageError: when samples have the same content, and `duplicates` is "raise".
        ValueError: when the fractions are no shares of 1, or a class has fewer samples than there are parts.

    Example:
        >>> from engine.data import ArrayDataset
        >>> data = ArrayDataset(np.arange(12)[:, None], [0] * 8 + [1] * 4)
        >>> [len(part) for part in split_dataset(data, (0.5, 0.25, 0.25))]
        [6, 3, 3]
    """
    if duplicates not in ("raise", "together", "allow"):
        raise ValueError(f"[split_dataset] expected duplicates 'raise', 'together' or 'allow', got {duplicates!r}")
    labels = np.asarray(dataset.labels)
    first = np.arange(len(dataset))  # the first sample with the same content
    if duplicates != "allow":
        seen: dict[Any, int] = {}
        pairs = []
        names = []
        for index in range(len(dataset)):
            name, content = dataset.content_of(index)
            names.append(name)
            first[index] = seen.setdefault(content, index)
            if first[index] != index:
                pairs.append((names[first[index]], name))
        if pairs and duplicates == "raise":
            shown = ", ".join(f"{one} = {other}" for one, other in pairs[:10])
            count = f"{len(pairs)} pair{'s' if len(pairs) > 1 else ''}"
            raise LeakageError(
                f"[split_dataset] {count} of samples with the same content: {shown}: remove them, or pass "
                f"duplicates='together' to keep them in one part",
                pairs,
            )
    unique = np.flatnonzero(first == np.arange(len(dataset)))
    part_of = np.empty(len(dataset), np.int64)
    for number, part in enumerate(stratified_split(labels[unique], fractions, seed)):
        part_of[unique[part]] = number
    part_of = part_of[first]
    return [Subset(dataset, np.flatnonzero(part_of == number)) for number in range(len(fractions))]


def _shares(owner: str, fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, np.float64)
    if shares.ndim != 1 or len(shares) == 0 or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"[{owner}] expected positive fractions that add up to 1, got {list(fractions)}")
    return shares
