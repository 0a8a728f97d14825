"""Datasets: where samples come from.

A dataset answers two questions: how many samples, and which one is number i. One that can answer for many numbers at
once also implements `gather`, and then no Python runs per sample.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .random import SampleRandom


class Dataset:
    """A source of samples: subclasses implement `__len__` and `__getitem__`.

    Example:
        >>> class Squares(Dataset):
        ...     def __len__(self):
        ...         return 5
        ...     def __getitem__(self, index):
        ...         return np.float32(index), index * index
        >>> values, squares = Squares().gather([1, 3])
        >>> squares
        array([1, 9])
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"[{type(self).__name__}] implement __len__: the number of samples")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"[{type(self).__name__}] implement __getitem__(index): one sample")

    def gather(self, indices: Sequence[int] | np.ndarray) -> Any:
        """Returns the samples at `indices` as one batch (fields stacked along a new first axis).

        Args:
            indices: the sample numbers, in the order in which they stand in the batch.
        """
        return collate([self[int(index)] for index in indices])

    def sample(self, index: int, random: SampleRandom | None = None) -> Any:
        """Returns sample `index`, made with these random numbers by a data set that has something random in it.

        Args:
            index: the sample's number.
            random: its stream, which the loader derives from (seed, epoch, index); None for evaluation.
        """
        return self[index]

    def gathers(self) -> bool:
        """Whether `gather` is faster than one sample after the other, and gives the same."""
        return type(self).gather is not Dataset.gather

    def content_of(self, index: int) -> tuple[str, Any]:
        """Returns what to call sample `index`, and something that is equal for equal inputs, to find duplicates by.

        Args:
            index: the sample's number.
        """
        sample = self[index]
        first = sample[0] if isinstance(sample, (tuple, list)) else sample
        array = np.ascontiguousarray(as_numpy(first))
        return f"sample {index}", (array.shape, array.dtype.str, hashlib.sha256(array.data).digest())


def collate(samples: Sequence[Any]) -> Any:
    """Stacks samples into a batch: arrays and numbers to arrays, tuples and dicts field by field.

    Floats become float32 and integers int64, except that integer arrays keep their type (images stay uint8).

    Args:
        samples: at least one sample, all of the same structure.

    Raises:
        ValueError: when the samples differ in structure or shape.

    Example:
        >>> images, labels = collate([(np.zeros((2, 2), np.uint8), 1), (np.ones((2, 2), np.uint8), 0)])
        >>> images.shape, images.dtype.name, labels.dtype.name
        ((2, 2, 2), 'uint8', 'int64')
    """
    if len(samples) == 0:
        raise ValueError("[collate] expected at least one sample, got none")
    first = samples[0]
    if isinstance(first, Mapping):
        return {key: collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in samples):
            raise ValueError(f"[collate] expected {len(first)} fields in every sample of the batch, as in its first")
        return tuple(collate([sample[field] for sample in samples]) for field in range(len(first)))
    if isinstance(first, (str, bytes)) or first is None:
        return list(samples)
    arrays = [sample if isinstance(sample, np.ndarray) else as_numpy(sample) for sample in samples]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(
            f"[collate] expected samples of one shape in a batch, got {sorted(shapes)}: resize or crop them to one size"
        )
    return storable(np.stack(arrays))


def as_numpy(value: Any) -> np.ndarray:
    """Returns a tensor, an array, a number or a list as an array.

    Args:
        value: any of them.

    Example:
        >>> as_numpy([1, 2])
        array([1, 2])
    """
    return value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)


def storable(array: np.ndarray) -> np.ndarray:
    """Converts to a type that tensors have: floats to float32, integers other than uint8 and int32 to int64."""
    kind = array.dtype.kind
    if kind == "f":
        return array.astype(np.float32, copy=False)
    if kind in "iu" and (array.ndim <= 1 or array.dtype not in (np.uint8, np.int32)):
        return array.astype(np.int64, copy=False)
    if kind in "iub":
        return array
    raise TypeError(f"[data] expected numbers or booleans, got an array of dtype {array.dtype}: convert it first")


class ArrayDataset(Dataset):
    """Arrays of equal length; sample i is the tuple of their i-th entries, or the entry when there is one array.

    A batch is gathered by one indexing operation per array. Arrays are not copied unless their type has to change
    (float64 to float32, label integers to int64).

    Args:
        arrays: one or more arrays or tensors with the same first axis, usually images and labels.
        classes: names of the classes that the labels number, or None.

    Raises:
        ValueError: when the lengths differ, or a label has no class name.

    Example:
        >>> data = ArrayDataset(np.zeros((4, 3, 8, 8), np.float32), [0, 1, 1, 0], classes=("cat", "dog"))
        >>> len(data), int(data[1][1]), data.classes
        (4, 1, ('cat', 'dog'))
        >>> images, labels = data.gather([3, 0])
        >>> images.shape
        (2, 3, 8, 8)
    """

    def __init__(self, *arrays: Any, classes: Iterable[str] | None = None) -> None:
        if not arrays:
            raise ValueError("[ArrayDataset] expected at least one array, got none")
        self.arrays = tuple(storable(as_numpy(array)) for array in arrays)
        for array in self.arrays:
            if array.ndim == 0:
                raise ValueError("[ArrayDataset] expected arrays with a first axis over the samples, got a number")
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"[ArrayDataset] expected arrays of equal length, got {lengths}: every image needs exactly one label"
            )
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and lengths[0]:
            labels = self.arrays[-1]
            if labels.ndim == 1 and labels.dtype == np.int64:
                low, high = int(labels.min()), int(labels.max())
                if low < 0 or high >= len(self.classes):
                    raise ValueError(
                        f"[ArrayDataset] expected labels in 0..{len(self.classes) - 1} for {len(self.classes)} class "
                        f"names, got labels from {low} to {high}"
                    )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: int) -> Any:
        sample = tuple(array[index] for array in self.arrays)
        return sample if len(sample) > 1 else sample[0]

    def gather(self, indices: Sequence[int] | np.ndarray) -> Any:
        where = np.asarray(indices, np.int64)
        batch = tuple(_take(array, where) for array in self.arrays)
        return batch if len(batch) > 1 else batch[0]

    @property
    def labels(self) -> np.ndarray:
        """The last array: the labels, by the usual order of images and labels."""
        return self.arrays[-1]


def _take(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    # Channels-last memory behind NCHW axes stays so: whole pixels' rows are copied, and the tensor needs no reordering.
    if array.ndim == 4 and not array.flags.c_contiguous and array.transpose(0, 2, 3, 1).flags.c_contiguous:
        return array.transpose(0, 2, 3, 1).take(indices, axis=0).transpose(0, 3, 1, 2)
    return array.take(indices, axis=0)


class TensorDataset(ArrayDataset):
    """`ArrayDataset` under the name that PyTorch gives it.

    Example:
        >>> len(TensorDataset(np.zeros((4, 2), np.float32), np.zeros(4, np.int64)))
        4
    """


class Subset(Dataset):
    """Some samples of a dataset, in the given order.

    Args:
        dataset: the whole.
        indices: the samples' numbers in `dataset`.

    Raises:
        IndexError: when an index is outside the dataset.

    Example:
        >>> part = Subset(ArrayDataset(np.arange(10.0)), [7, 2])
        >>> float(part[0]), len(part)
        (7.0, 2)
    """

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = np.array(indices, np.int64).reshape(-1)
        if self.indices.size and (self.indices.min() < 0 or self.indices.max() >= len(dataset)):
            raise IndexError(
                f"[Subset] expected indices in 0..{len(dataset) - 1}, got {self.indices.min()} to {self.indices.max()}"
            )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[index])]

    def gather(self, indices: Sequence[int] | np.ndarray) -> Any:
        where = self.indices[np.asarray(indices, np.int64)]
        gather = getattr(self.dataset, "gather", None)
        return gather(where) if gather else collate([self.dataset[int(index)] for index in where])

    def sample(self, index: int, random: SampleRandom | None = None) -> Any:
        return sample_of(self.dataset, int(self.indices[index]), random)

    def gathers(self) -> bool:
        return gathers(self.dataset)

    def content_of(self, index: int) -> tuple[str, Any]:
        found: tuple[str, Any] = self.dataset.content_of(int(self.indices[index]))
        return found

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names of the whole dataset, or None."""
        return getattr(self.dataset, "classes", None)

    @property
    def labels(self) -> np.ndarray:
        """The labels of this part."""
        labels: np.ndarray = self.dataset.labels[self.indices]
        return labels


class ConcatDataset(Dataset):
    """Datasets one after the other.

    Args:
        datasets: at least one dataset; all give samples of the same structure.

    Example:
        >>> both = ConcatDataset([ArrayDataset(np.zeros(3)), ArrayDataset(np.ones(2))])
        >>> len(both), float(both[3])
        (5, 1.0)
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("[ConcatDataset] expected at least one dataset, got none")
        self.ends = np.cumsum([len(dataset) for dataset in self.datasets]).tolist()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Any:
        dataset, within = self._find(index)
        return dataset[within]

    def sample(self, index: int, random: SampleRandom | None = None) -> Any:
        return sample_of(*self._find(index), random)

    def content_of(self, index: int) -> tuple[str, Any]:
        dataset, within = self._find(index)
        found: tuple[str, Any] = dataset.content_of(within)
        return found

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, when all the datasets have the same; otherwise None."""
        names = {getattr(dataset, "classes", None) for dataset in self.datasets}
        return names.pop() if len(names) == 1 else None

    @property
    def labels(self) -> np.ndarray:
        """The labels, those of one dataset after those of the other."""
        return np.concatenate([dataset.labels for dataset in self.datasets])

    def _find(self, index: int) -> tuple[Any, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"[ConcatDataset] expected an index below {len(self)}, got {index}")
        index %= len(self)
        which = bisect_right(self.ends, index)
        return self.datasets[which], index - (self.ends[which - 1] if which else 0)


def gathers(dataset: Any) -> bool:
    """Returns whether to ask a dataset for whole batches; any object with `gather` will do.

    Args:
        dataset: anything with `__len__` and `__getitem__`.

    Example:
        >>> gathers(ArrayDataset([1, 2])), gathers([1, 2])
        (True, False)
    """
    return dataset.gathers() if isinstance(dataset, Dataset) else hasattr(dataset, "gather")


def sample_of(dataset: Any, index: int, random: SampleRandom | None) -> Any:
    """Returns one sample of any object that can be indexed.

    Args:
        dataset: anything with `__len__` and `__getitem__`.
        index: the sample's number.
        random: its stream, for a `Dataset`.

    Example:
        >>> sample_of(["a", "b"], 1, None)
        'b'
    """
    return dataset.sample(index, random) if isinstance(dataset, Dataset) else dataset[index]
