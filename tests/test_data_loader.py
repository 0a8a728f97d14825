"""The loader's position, waiting time and prefetching; samplers and weights for unequal classes."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import numpy as np
import pytest

from engine.data import (
    ArrayDataset,
    DataLoader,
    Dataset,
    RandomCrop,
    RandomOverSampler,
    RandomSampler,
    RandomUnderSampler,
    WeightedRandomSampler,
    class_weights,
    sample_weights,
)


def loader(num_workers: int = 0, **options: Any) -> DataLoader:
    rng = np.random.default_rng(0)
    data = ArrayDataset(rng.integers(0, 256, (23, 6, 6, 1), dtype=np.uint8), np.arange(23))
    settings = {"shuffle": True, "seed": 5, "transform": RandomCrop(6, padding=2), **options}
    return DataLoader(data, 4, num_workers=num_workers, **settings)


def contents(batches: Any) -> list[tuple[bytes, list[int]]]:
    return [(images.numpy().tobytes(), labels.numpy().tolist()) for images, labels in batches]


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("given", [1, 4, 6])
def test_a_pass_goes_on_where_its_state_was_taken(before: int, after: int, given: int) -> None:
    whole = loader()
    epochs = [contents(whole) for _ in range(3)]
    stopped = loader(before)
    stopped.set_epoch(1)
    passing = iter(stopped)
    first = contents(next(passing) for _ in range(given))
    state = json.loads(json.dumps(stopped.state_dict()))
    assert (state["epoch"], state["batches"]) == (1, given)
    passing.close()  # type: ignore[attr-defined]

    resumed = loader(after)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.set_epoch(1)  # as a training loop does
    assert first + contents(resumed) == epochs[1]
    assert contents(resumed) == epochs[2]
    resumed.set_epoch(1)
    assert contents(resumed) == epochs[1]  # repeated from its beginning


def test_another_epoch_begins_at_its_first_batch() -> None:
    whole, resumed = loader(), loader()
    resumed.load_state_dict({**loader().state_dict(), "epoch": 1, "batches": 3})
    resumed.set_epoch(2)
    whole.set_epoch(2)
    assert contents(resumed) == contents(whole)
    assert resumed.state_dict()["batches"] == 6


def test_a_state_of_other_batches_is_refused() -> None:
    state = loader().state_dict()
    with pytest.raises(ValueError, match="expected batch_size=8, as when the state was saved, got 4"):
        loader().load_state_dict({**state, "batch_size": 8})
    with pytest.raises(ValueError, match="gives 99 samples per epoch"):
        loader().load_state_dict({**state, "sampler": {**state["sampler"], "length": 99}})


class Slow(Dataset):
    """Takes 4 ms per sample, and notes who made it."""

    def __init__(self) -> None:
        self.makers: set[str] = set()
        self.made = 0

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.004)
        self.makers.add(threading.current_thread().name)
        self.made += 1
        return np.float32(index), index


def test_the_loader_tells_how_long_it_was_waited_for() -> None:
    alone = DataLoader(Slow(), 4)
    began = time.perf_counter()
    assert len(list(alone)) == 6
    assert 24 * 0.004 <= alone.wait_seconds <= time.perf_counter() - began

    ahead = DataLoader(Slow(), 4, num_workers=2)
    for _ in ahead:
        time.sleep(0.02)  # the step: longer than two workers need for a batch
    assert ahead.wait_seconds < alone.wait_seconds
    fast = DataLoader(ArrayDataset(np.arange(8)), 4)
    list(fast)
    assert fast.wait_seconds < alone.wait_seconds


@pytest.mark.parametrize(("num_workers", "prefetch_factor"), [(1, 1), (2, 1), (2, 3)])
def test_prefetching_goes_as_far_ahead_as_asked_for(num_workers: int, prefetch_factor: int) -> None:
    data = Slow()
    passing = iter(DataLoader(data, 2, num_workers=num_workers, prefetch_factor=prefetch_factor))
    next(passing)
    wanted = 2 * (1 + num_workers * prefetch_factor)
    for _ in range(500):
        if data.made == wanted:
            break
        time.sleep(0.01)
    time.sleep(0.05)
    assert data.made == wanted
    assert all(name.startswith("engine-loader") for name in data.makers)
    passing.close()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="prefetch_factor"):
        DataLoader(data, prefetch_factor=0)


# ---- unequal classes


LABELS = np.repeat([0, 1, 3], [30, 12, 5])


def test_weights_make_classes_count_the_same() -> None:
    weights = class_weights(np.repeat([0, 1, 2], [30, 12, 6]))
    np.testing.assert_allclose(weights * [30, 12, 6], 16, rtol=1e-6)
    assert weights.dtype == np.float32
    sums = [sample_weights(LABELS)[label == LABELS].sum() for label in (0, 1, 3)]
    np.testing.assert_allclose(sums, 1)
    with pytest.raises(ValueError, match="each of the 4 classes, got none of class 2"):
        class_weights(LABELS)
    with pytest.raises(ValueError, match="each of the 2 classes, got label 2"):
        class_weights([0, 1, 2], num_classes=2)
    for wrong in ([], [0.5], [-1, 0], [[0]]):
        with pytest.raises(ValueError, match="one class number"):
            class_weights(wrong)


def test_class_weights_are_scikit_learns() -> None:
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.repeat([0, 1, 2], [30, 12, 6])
    want = utils.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(class_weights(labels), want, rtol=1e-6)


def test_weighted_sampler_draws_by_weight() -> None:
    sampler = WeightedRandomSampler(sample_weights(LABELS), 6000, seed=2)
    counts = np.bincount(LABELS[sampler.indices()], minlength=4)
    assert counts[2] == 0
    assert np.abs(counts[[0, 1, 3]] - 2000).max() < 200  # deviation 37
    without = WeightedRandomSampler([0.0, 5.0, 1.0, 1.0], 3, replacement=False)
    firsts = []
    for epoch in range(700):
        without.set_epoch(epoch)
        order = without.indices()
        assert sorted(order) == [1, 2, 3]
        firsts.append(order[0])
    assert abs(firsts.count(1) - 500) < 60  # deviation 12
    for weights, count, replacement in (([-1.0], 1, True), ([0.0], 1, True), ([1.0, 0.0], 2, False), ([1.0], 0, True)):
        with pytest.raises(ValueError, match="WeightedRandomSampler"):
            WeightedRandomSampler(weights, count, replacement)


def test_over_and_under_sampling_balance_classes() -> None:
    over, under = RandomOverSampler(LABELS, seed=1), RandomUnderSampler(LABELS, seed=1)
    drawn = over.indices()
    assert len(drawn) == len(over) == 90
    assert np.bincount(LABELS[drawn]).tolist() == [30, 30, 0, 30]
    times = np.bincount(drawn, minlength=len(LABELS))
    assert times.min() >= 1
    assert set(times[LABELS == 1]) == {2, 3}
    assert set(times[LABELS == 3]) == {6}
    few = under.indices()
    assert len(few) == len(under) == 15
    assert np.bincount(LABELS[few]).tolist() == [5, 5, 0, 5]
    assert np.bincount(few).max() == 1
    under.set_epoch(1)
    assert sorted(under.indices()) != sorted(few)


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: RandomSampler(LABELS, seed=seed),
        lambda seed: WeightedRandomSampler(sample_weights(LABELS), 20, seed=seed),
        lambda seed: RandomOverSampler(LABELS, seed),
        lambda seed: RandomUnderSampler(LABELS, seed),
    ],
)
def test_samplers_are_functions_of_seed_and_epoch_and_have_a_state(make: Any) -> None:
    sampler = make(3)
    first = list(sampler)
    assert list(sampler) == first
    assert list(make(4)) != first
    sampler.set_epoch(7)
    later = list(sampler)
    assert later != first
    other = make(0)
    other.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert list(other) == later
    data = ArrayDataset(np.arange(len(LABELS)), LABELS)
    batches = DataLoader(data, 8, sampler=make(3))
    assert [int(number) for numbers, _ in batches for number in numbers.numpy()] == first
