"""The loader: batches of tensors from a dataset.

Order, augmentation and batch boundaries are functions of (seed, epoch) alone. Workers are threads: array gathering,
image decoding and the augmentation loops release the GIL, so nothing is forked, pickled or copied between processes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from engine import backend as B
from engine.tensor import from_numpy

from .dataset import as_numpy, collate, gathers, sample_of
from .decode import ImageError
from .random import SampleRandom
from .sampler import RandomSampler, Sampler, SequentialSampler
from .transforms import Transform

# What a damaged sample raises; anything else is a mistake in the program.
_DAMAGE = (ImageError, OSError)
_REPLACEMENTS = 10  # draws for one that is not damaged


class DataLoader:
    """Iterates over a dataset in batches of tensors, with PyTorch's argument names.

    Each pass over the loader is an epoch with its own order; `set_epoch` chooses it, otherwise passes count up from
    0. A dataset of arrays is asked once per batch, any other once per sample.

    Batches, order and augmentation included, are a function of (seed, epoch), whatever the number of workers. So is
    what follows after `load_state_dict`: a run that was interrupted in the middle of an epoch goes on with the batch
    that would have come next.

    During and after a pass, `wait_seconds` has how long the loop waited for its batches, and `damaged` the samples
    that were skipped or replaced, by their numbers.

    Args:
        dataset: anything with `__len__` and `__getitem__`.
        batch_size: samples per batch; the last batch may be smaller.
        shuffle: visit the samples in random order.
        sampler: the order instead of `shuffle`: a `Sampler` or any iterable of sample numbers.
        num_workers: threads that prepare batches ahead, in each of which the engine's ops use no further threads; 0
            prepares each batch when it is asked for.
        collate_fn: makes a batch from a list of samples, for datasets whose samples need special stacking.
        drop_last: leave out the last batch when it is smaller.
        prefetch_factor: batches that each worker prepares ahead.
        seed: of the order and of the augmentation.
        transform: applied to the images, the first field: to each as soon as it is there when it is a `Transform` and
            the dataset gives single samples, otherwise to the batch as a whole.
        on_error: what to do about a sample that cannot be read (`ImageError` or `OSError`): "raise" an error that
            names its file and number; "skip" it, which makes its batch smaller; or "replace" it by another one of
            the epoch, drawn by (seed, epoch, number).

    Raises:
        ValueError: for a batch size or a prefetch factor below 1, a negative number of workers, both shuffle and
            sampler, or another `on_error`.

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
        prefetch_factor: int = 2,
        seed: int = 0,
        transform: Transform | Callable[[np.ndarray, SampleRandom | None], np.ndarray] | None = None,
        on_error: str = "raise",
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"[DataLoader] expected batch_size of at least 1, got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"[DataLoader] expected num_workers of at least 0, got {num_workers}")
        if prefetch_factor < 1:
            raise ValueError(f"[DataLoader] expected prefetch_factor of at least 1, got {prefetch_factor}")
        if shuffle and sampler is not None:
            raise ValueError("[DataLoader] expected either shuffle=True or a sampler, got both: the sampler decides")
        if on_error not in ("raise", "skip", "replace"):
            raise ValueError(f"[DataLoader] expected on_error 'raise', 'skip' or 'replace', got {on_error!r}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.prefetch_factor = prefetch_factor
        self.seed = seed
        self.transform = transform
        self.on_error = on_error
        if sampler is None:
            sampler = RandomSampler(dataset, seed=seed) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        self.epoch = 0
        self.wait_seconds = 0.0
        self.damaged: dict[int, str] = {}
        self._position = (0, 0)  # the epoch that state_dict speaks of, and the batches given of it
        self._start = 0  # the batch that the next pass begins with

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order and augmentation the next pass uses.

        The epoch that `load_state_dict` has chosen is continued where it was left, any other begins at its first batch.

        Args:
            epoch: counted from 0.
        """
        if int(epoch) != self.epoch:
            self._start = 0
        self.epoch = int(epoch)
        self._position = (self.epoch, self._start)

    def state_dict(self) -> dict[str, Any]:
        """Returns how far the loader is, in whole numbers: the epoch, and how many of its batches it has given.

        Within a pass that is the batch at work included: take it after the step that used the batch. After the last
        batch it still names the finished epoch, of which a pass then gives nothing more.
        """
        epoch, batches = self._position
        state: dict[str, Any] = {"epoch": epoch, "batches": batches, "batch_size": self.batch_size, "seed": self.seed}
        if isinstance(self.sampler, Sampler):
            state["sampler"] = self.sampler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next pass go on where `state_dict` was taken.

        Args:
            state: a loader's state.

        Raises:
            ValueError: when the batches would be others: for another batch size, or another number of samples.
        """
        if int(state["batch_size"]) != self.batch_size:
            raise ValueError(
                f"[DataLoader] expected batch_size={state['batch_size']}, as when the state was saved, got "
                f"{self.batch_size}: the remaining batches would be others"
            )
        if isinstance(self.sampler, Sampler) and "sampler" in state:
            self.sampler.load_state_dict(state["sampler"])
        self.seed = int(state["seed"])
        self.epoch, self._start = int(state["epoch"]), int(state["batches"])
        self._position = (self.epoch, self._start)

    def __len__(self) -> int:
        count = len(self.sampler)  # type: ignore[arg-type]
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch, start = self.epoch, self._start
        self.epoch, self._start = epoch + 1, 0
        self._position = (epoch, start)
        self.wait_seconds = 0.0
        return self._pass(epoch, start)

    def _pass(self, epoch: int, start: int) -> Iterator[Any]:
        asked = time.perf_counter()
        given = start
        for batch in self._fetched(epoch, start):
            given += 1
            if batch is not None:  # none of its samples could be read
                self._position = (epoch, given)
                tensors = _tensors(batch)
                self.wait_seconds += time.perf_counter() - asked
                yield tensors
                asked = time.perf_counter()
        self._position = (epoch, given)

    def _order(self, epoch: int) -> np.ndarray:
        if isinstance(self.sampler, Sampler):
            self.sampler.set_epoch(epoch)
            return self.sampler.indices()
        return np.fromiter(self.sampler, np.int64)

    def _fetched(self, epoch: int, start: int) -> Iterator[Any]:
        order = self._order(epoch)
        count = len(order) // self.batch_size * self.batch_size if self.drop_last else len(order)
        firsts = range(start * self.batch_size, count, self.batch_size)
        if self.num_workers == 0:
            for first in firsts:
                yield self._fetch(order, first, epoch)
            return
        pending: deque[Future[Any]] = deque()
        # Workers run side by side, beside the training: a kernel that one of them calls keeps to its thread.
        pool = ThreadPoolExecutor(self.num_workers, "engine-loader", B.limit_threads, (1,))
        try:
            for first in firsts:
                pending.append(pool.submit(self._fetch, order, first, epoch))
                if len(pending) > self.num_workers * self.prefetch_factor:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    # One batch, in a worker.

    def _fetch(self, order: np.ndarray, first: int, epoch: int) -> Any:
        indices = order[first : first + self.batch_size]
        random = SampleRandom(self.seed, epoch, indices)
        if self.collate_fn is None and gathers(self.dataset):
            return self._transformed(self.dataset.gather(indices), random)
        if self.collate_fn is None and isinstance(self.transform, Transform):
            return self._assembled(indices, random, order)
        samples, places = [], []
        for place in range(len(indices)):
            sample = self._sample(indices, place, random, order)
            if sample is not None:
                samples.append(sample[0])
                places.append(place)
        if not samples:
            return None
        batch = (self.collate_fn or collate)(samples)
        return self._transformed(batch, SampleRandom(self.seed, epoch, indices[places]))

    def _transformed(self, batch: Any, random: SampleRandom) -> Any:
        if self.transform is None:
            return batch
        if isinstance(batch, (tuple, list)):
            return (self.transform(batch[0], random), *batch[1:])
        return self.transform(batch, random)

    def _assembled(self, indices: np.ndarray, random: SampleRandom, order: np.ndarray) -> Any:
        """The batch of images that are transformed one by one, each into its place in the batch."""
        rest: list[Any] = []
        images: np.ndarray | None = None
        single = False
        for place in range(len(indices)):
            sample = self._sample(indices, place, random, order)
            if sample is None:
                continue
            single = not isinstance(sample[0], (tuple, list))
            image, *others = sample if single else sample[0]
            if images is None:
                first = as_numpy(self.transform(image, random.alone(place)))  # type: ignore[misc]
                images = _room_for(first, len(indices))
                images[0] = first
            else:
                self._into(image, random.alone(place), images[len(rest)])
            rest.append(tuple(others))
        if images is None:
            return None
        images = images[: len(rest)]
        return images if single else (images, *collate(rest))

    def _into(self, image: Any, random: SampleRandom, out: np.ndarray) -> None:
        try:
            self.transform.into(image, random, out)  # type: ignore[union-attr]
        except ValueError:
            shape = np.shape(self.transform(image, random))  # type: ignore[misc]
            if shape != out.shape:
                raise ValueError(
                    f"[DataLoader] expected images of one shape in a batch, got {shape} after {out.shape}: resize or "
                    f"crop them to one size in the transform"
                ) from None
            raise

    def _sample(self, indices: np.ndarray, place: int, random: SampleRandom, order: np.ndarray) -> tuple[Any] | None:
        """One sample, alone in a tuple; None when it is to be skipped."""
        index = int(indices[place])
        try:
            return (sample_of(self.dataset, index, random.alone(place)),)
        except _DAMAGE as error:
            if self.on_error == "raise":
                if isinstance(error, ImageError) and error.index is not None:
                    raise
                raise ImageError(
                    f"[DataLoader] sample {index}: {error}", getattr(error, "path", None), index
                ) from error
            self.damaged[index] = str(error)
        if self.on_error == "skip":
            return None
        stream = random.alone(place).streams()[0]
        for _ in range(_REPLACEMENTS):
            other = int(order[stream.integers(0, len(order))])
            try:
                return (sample_of(self.dataset, other, random.alone(place)),)
            except _DAMAGE as error:
                self.damaged[other] = str(error)
        raise ImageError(
            f"[DataLoader] sample {index} cannot be replaced: {_REPLACEMENTS} others cannot be read either, the last: "
            f"{self.damaged[other]}",
            index=index,
        )


def _room_for(image: np.ndarray, count: int) -> np.ndarray:
    """An array for a batch of such images, with their order of memory: channels-last for (C, H, W) of this package."""
    if image.ndim == 3 and image.transpose(1, 2, 0).flags.c_contiguous:
        channels, height, width = image.shape
        return np.empty((count, height, width, channels), image.dtype).transpose(0, 3, 1, 2)
    return np.empty((count, *image.shape), image.dtype)


def _tensors(batch: Any) -> Any:
    if isinstance(batch, np.ndarray):
        return from_numpy(batch)
    if isinstance(batch, (tuple, list)):
        return tuple(_tensors(field) for field in batch)
    if isinstance(batch, Mapping):
        return {key: _tensors(field) for key, field in batch.items()}
    return batch
