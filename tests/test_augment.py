"""The Cython loops against NumPy, and the transforms' split into draw and apply."""

from __future__ import annotations

import numpy as np
import pytest

from engine.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip, SampleRandom, ToTensor, _augment


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def reference_crop(batch: np.ndarray, top: list[int], left: list[int], height: int, width: int, fill: int):
    out = np.full((len(batch), height, width, batch.shape[3]), fill, np.uint8)
    for n in range(len(batch)):
        for y in range(height):
            for x in range(width):
                row, column = y + top[n], x + left[n]
                if 0 <= row < batch.shape[1] and 0 <= column < batch.shape[2]:
                    out[n, y, x] = batch[n, row, column]
    return out


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("window", [(5, 7), (3, 2), (9, 11), (1, 1)])
def test_crop_is_the_reference_for_every_corner(channels: int, window: tuple[int, int]) -> None:
    corners = [(t, s) for t in (-12, -6, -2, 0, 1, 3, 5, 12) for s in (-12, -7, -1, 0, 2, 6, 7, 12)]
    batch = images(len(corners), 5, 7, channels)
    top, left = np.array(corners, np.int64).T.copy()
    got = _augment.crop(batch, top, left, *window, 9)
    np.testing.assert_array_equal(got, reference_crop(batch, top, left, *window, 9))


def test_crop_with_absurd_corners_is_all_fill() -> None:
    far = np.array([2**62, -(2**63)], np.int64)
    assert (_augment.crop(images(2, 4, 4, 1), far, far, 3, 3, 5) == 5).all()


def test_crop_of_empty_images_and_batches() -> None:
    none = np.zeros(0, np.int64)
    assert _augment.crop(images(0, 4, 4, 1), none, none, 3, 3).shape == (0, 3, 3, 1)
    zero = np.zeros(2, np.int64)
    assert (_augment.crop(images(2, 0, 4, 1), zero, zero, 3, 3, 7) == 7).all()


@pytest.mark.parametrize(("height", "width", "channels"), [(4, 5, 3), (3, 1, 1), (1, 8, 4), (0, 3, 1)])
def test_flip_is_numpys(height: int, width: int, channels: int) -> None:
    batch = images(3, height, width, channels)
    flip = np.array([1, 0, 1], np.uint8)
    want = np.where(flip[:, None, None, None].astype(bool), batch[:, :, ::-1], batch)
    np.testing.assert_array_equal(_augment.horizontal_flip(batch, flip), want)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_is_exact_and_channels_last(channels: int) -> None:
    batch = images(4, 6, 5, channels)
    mean, std = np.linspace(0.2, 0.6, channels, dtype=np.float32), np.linspace(0.3, 0.5, channels, dtype=np.float32)
    got = Normalize(mean, std)(batch)
    want = ((batch.astype(np.float32) / np.float32(255)) - mean) / std
    np.testing.assert_array_equal(got, want.transpose(0, 3, 1, 2))
    assert got.dtype == np.float32
    assert got.transpose(0, 2, 3, 1).flags.c_contiguous


def test_loops_read_read_only_images() -> None:
    batch = images(2, 4, 4, 3)
    batch.flags.writeable = False
    assert ToTensor()(RandomHorizontalFlip(1.0)(RandomCrop(4)(batch))).shape == (2, 3, 4, 4)


def test_loops_refuse_wrong_lengths_before_touching_memory() -> None:
    batch, short = images(3, 4, 4, 1), np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="3 corners"):
        _augment.crop(batch, short, short, 2, 2)
    with pytest.raises(ValueError, match="3 decisions"):
        _augment.horizontal_flip(batch, np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="table of shape"):
        _augment.normalize(batch, np.zeros((2, 256), np.float32))
    with pytest.raises(ValueError, match="fill"):
        _augment.crop(batch, np.zeros(3, np.int64), np.zeros(3, np.int64), 2, 2, 256)


def test_random_crop_is_an_integer_shift_drawn_evenly() -> None:
    crop = RandomCrop(32, padding=2)
    top, left = crop.draw(SampleRandom(0, 0, np.arange(20000)), (20000, 32, 32, 1))
    for corner in (top, left):
        assert corner.min() == -2
        assert corner.max() == 2
        assert np.bincount(corner + 2).min() > 3700  # 4000 expected, deviation 57
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.03


def test_without_random_numbers_transforms_are_the_centre() -> None:
    batch = images(2, 6, 6, 1)
    np.testing.assert_array_equal(RandomCrop(4)(batch), batch[:, 1:5, 1:5])
    np.testing.assert_array_equal(RandomHorizontalFlip()(batch), batch)


def test_apply_repeats_exactly_and_draw_does_not_need_images() -> None:
    batch, crop = images(5, 8, 8, 3), RandomCrop(6, padding=1)
    parameters = crop.draw(SampleRandom(1, 2, np.arange(5)), batch.shape)
    np.testing.assert_array_equal(crop.apply(batch, parameters), crop.apply(batch, parameters))


def test_one_image_is_treated_as_in_a_batch() -> None:
    batch = images(1, 8, 8, 3)
    steps = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), ToTensor()])
    one = steps(batch[0], SampleRandom(3, 1, [17]))
    np.testing.assert_array_equal(one, steps(batch, SampleRandom(3, 1, [17]))[0])


def test_sample_random_depends_on_seed_epoch_and_sample_only() -> None:
    order = np.random.default_rng(0).permutation(100)
    together = SampleRandom(7, 3, np.arange(100))
    first, second = together.uniform(), together.uniform()
    shuffled = SampleRandom(7, 3, order)
    np.testing.assert_array_equal(shuffled.uniform(), first[order])
    np.testing.assert_array_equal(shuffled.uniform(), second[order])
    for other in (SampleRandom(8, 3, np.arange(100)), SampleRandom(7, 4, np.arange(100))):
        assert not np.any(other.uniform() == first)
    assert not np.any(first == second)


def test_sample_random_is_uniform() -> None:
    values = np.concatenate([SampleRandom(0, epoch, np.arange(10000)).uniform() for epoch in range(10)])
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values, 20, (0, 1))[0]
    assert ((counts - 5000) ** 2 / 5000).sum() < 50  # chi-square with 19 degrees of freedom: 43.8 at 0.001


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandomCrop(0), "size"),
        (lambda: RandomCrop(4, padding=-1), "padding"),
        (lambda: RandomHorizontalFlip(1.5), "probability"),
        (lambda: Normalize((0.5,), (0.0,)), "positive std"),
        (lambda: Normalize((0.5, 0.5), (1.0,)), "one mean"),
        (lambda: RandomCrop(9)(images(1, 8, 8, 1)), "at least 9 x 9"),
        (lambda: Normalize((0.5,), (0.5,))(images(1, 8, 8, 3)), "1 channels"),
        (lambda: RandomCrop(4)(np.zeros((1, 8, 8, 1), np.float32)), "uint8 images"),
        (lambda: SampleRandom(0, 0, [0]).integers(3, 3), "low < high"),
    ],
)
def test_wrong_arguments_say_what_was_expected(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
