"""The loader: batches of tensors from a dataset.

Order, augmentation and batch boundaries are functions of (seed, epoch) alone. Workers are threads: array gathering,
image decoding and the augmentation loops release the GIL, so nothing is forked, pickled or copied between processes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from engine.tensor import from_numpy

from .dataset import collate
from .random import SampleRandom
from .sampler import RandomSampler, Sampler, SequentialSampler
from .transforms import Transform

# Batches that each worker prepares ahead of the training step.
_PREFETCH = 2


class DataLoader:
    """Iterates over a dataset in batches of tensors, with PyTorch's argument names.

    Each pass over the loader is an epoch with its own order; `set_epoch` chooses it, otherwise passes count up from
    0. A dataset that has `gather` (every dataset of this package) is asked once per batch.

    Args:
        dataset: anything with `__len__` and `__getitem__`.
        batch_size: samples per batch; the last batch may be smaller.
        shuffle: visit the samples in random order.
        sampler: the order instead of `shuffle`: a `Sampler` or any iterable of sample numbers.
        num_workers: threads that prepare batches ahead; 0 prepares each batch when it is asked for.
        collate_fn: makes a batch from a list of samples, for datasets whose samples need special stacking.
        drop_last: leave out the last batch when it is smaller.
        seed: of the order and of the augmentation.
        transform: applied to the first field of each batch (the images) as a whole.

    Raises:
        ValueError: for a batch size below 1, a negative number of workers, or both shuffle and sampler.

    Example:
        >>> from engine.data import ArrayDataset
        >>> data = ArrayDataset(np.arange(5, dtype=np.float32), np.arange(5))
        >>> loader = DataLoader(data, batch_size=2, shuffle=True, seed=3)
        >>> [tuple(values.shape) for values, labels in loader]
        [(2,), (2,), (1,)]
        >>> len(loader)
        3
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Sampler | Iterable[int] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        *,
        seed: int = 0,
        transform: Transform | Callable[[np.ndarray, SampleRandom | None], np.ndarray] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"[DataLoader] expected batch_size of at least 1, got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"[DataLoader] expected num_workers of at least 0, got {num_workers}")
        if shuffle and sampler is not None:
            raise ValueError("[DataLoader] expected either shuffle=True or a sampler, got both: the sampler decides")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.seed = seed
        self.transform = transform
        if sampler is None:
            sampler = RandomSampler(dataset, seed=seed) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order and augmentation the next pass uses.

        Args:
            epoch: counted from 0.
        """
        self.epoch = int(epoch)

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        batches = self._batches(epoch)
        if self.num_workers == 0:
            return (_tensors(self._fetch(indices, epoch)) for indices in batches)
        return self._prefetched(batches, epoch)

    def _batches(self, epoch: int) -> list[np.ndarray]:
        if isinstance(self.sampler, Sampler):
            self.sampler.set_epoch(epoch)
            order = self.sampler.indices()
        else:
            order = np.fromiter(self.sampler, np.int64)
        count = len(order) // self.batch_size * self.batch_size if self.drop_last else len(order)
        return [order[start : start + self.batch_size] for start in range(0, count, self.batch_size)]

    def _fetch(self, indices: np.ndarray, epoch: int) -> Any:
        gather = getattr(self.dataset, "gather", None)
        if self.collate_fn is not None:
            batch = self.collate_fn([self.dataset[int(index)] for index in indices])
        elif gather is not None:
            batch = gather(indices)
        else:
            batch = collate([self.dataset[int(index)] for index in indices])
        if self.transform is None:
            return batch
        random = SampleRandom(self.seed, epoch, indices)
        if isinstance(batch, (tuple, list)):
            return (self.transform(batch[0], random), *batch[1:])
        return self.transform(batch, random)

    def _prefetched(self, batches: list[np.ndarray], epoch: int) -> Iterator[Any]:
        pending: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="engine-loader")
        try:
            for indices in batches:
                pending.append(pool.submit(self._fetch, indices, epoch))
                if len(pending) > self.num_workers * _PREFETCH:
                    yield _tensors(pending.popleft().result())
            while pending:
                yield _tensors(pending.popleft().result())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _tensors(batch: Any) -> Any:
    if isinstance(batch, np.ndarray):
        return from_numpy(batch)
    if isinstance(batch, (tuple, list)):
        return tuple(_tensors(field) for field in batch)
    if isinstance(batch, Mapping):
        return {key: _tensors(field) for key, field in batch.items()}
    return batch
