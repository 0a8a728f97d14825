"""The transforms of images against torchvision's and Pillow's, and their rules: drawing apart from transforming."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from torchvision_models import import_torchvision, needs_torchvision

import engine
from engine.data import SampleRandom, transforms as T
from engine.data.random import Stream
from engine.data.transforms import functional as F
from engine.data.transforms.auto import _AUTO, _RAND, _TRIVIAL, IMAGENET, apply_operation

needs_pillow = pytest.mark.skipif(importlib.util.find_spec("PIL") is None, reason="Pillow is not installed")


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth colours with edges and a little noise, as photographs have them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        np.sin(x / rng.uniform(6, 20) + y / rng.uniform(6, 20) + rng.uniform(0, 6)) * rng.uniform(40, 90)
        for _ in range(channels)
    ]
    image = np.stack(waves, axis=2) + 128 + rng.normal(0, 4, (height, width, channels))
    image[height // 4 : height // 2, width // 3 : width // 2] += 70
    return np.clip(image, 0, 255).astype(np.uint8)


def theirs(name: str, image: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
    torch, _ = import_torchvision()
    from torchvision.transforms.v2 import functional

    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return getattr(functional, name)(tensor, *args, **kwargs).numpy().transpose(1, 2, 0)


def agree(got: np.ndarray, want: np.ndarray, level: int = 1, mean: float = 0.1, strays: float = 0.0) -> None:
    """At most one level apart, on average 0.1, but for a share of strays."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype == np.uint8
    apart = np.abs(got.astype(int) - want.astype(int))
    assert (apart > level).mean() <= strays, f"up to {apart.max()} apart in {(apart > level).mean():.2%} of the values"
    assert apart.mean() <= mean, f"{apart.mean():.3f} apart on average"


SIZES = [((60, 80), (33, 47)), ((97, 41), (24, 24)), ((40, 50), (75, 91)), ((31, 64), (31, 20)), ((9, 9), (2, 1))]


@needs_torchvision
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resize_is_torchvisions(before: Any, after: Any, interpolation: str, antialias: bool) -> None:
    name = "nearest-exact" if interpolation == "nearest" else interpolation
    for channels in (1, 3):
        image = photo(*before, channels)
        want = theirs("resize", image, list(after), interpolation=name, antialias=antialias)
        agree(F.resize(image, after, name, antialias=antialias), want, mean=0.3)  # Pillow's order of passes


@needs_pillow
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resize_is_pillows(before: Any, after: Any, interpolation: str) -> None:
    from PIL import Image

    image = photo(*before)
    want = np.asarray(Image.fromarray(image).resize(after[::-1], Image.Resampling[interpolation.upper()]))
    agree(F.resize(image, after, interpolation), want)


@needs_pillow
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_resize_of_hard_edges_is_pillows_whichever_pass_comes_first(interpolation: str) -> None:
    """Where bicubic overshoots, bytes between the passes make their order visible by 20 levels and more."""
    import PIL
    from PIL import Image

    if interpolation == "bicubic" and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("older versions of Pillow always begin along the rows")
    rng = np.random.default_rng(0)
    sizes = [
        ((97, 41), (24, 24)),
        ((50, 50), (25, 100)),
        ((50, 50), (100, 25)),
        ((40, 30), (20, 20)),
        ((41, 30), (20, 20)),
    ]
    sizes += [(tuple(rng.integers(1, 70, 2)), tuple(rng.integers(1, 70, 2))) for _ in range(60)]
    for before, after in sizes:
        for channels in (1, 3, 4):
            image = (rng.random((*before, channels)) > 0.5).astype(np.uint8) * 255
            planes = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(channels)]
            method = Image.Resampling[interpolation.upper()]
            size = (int(after[1]), int(after[0]))
            want = np.stack([np.asarray(plane.resize(size, method)) for plane in planes], axis=2)
            agree(F.resize(image, after, interpolation), want, mean=1.0)  # black and white have many ties


@needs_torchvision
@pytest.mark.parametrize(
    ("size", "max_size"), [(17, None), (17, 20), (50, 60), (None, 30), ([21], None), ((13, 40), None), (200, 201)]
)
def test_resize_chooses_torchvisions_size(size: Any, max_size: int | None) -> None:
    given = [size] if isinstance(size, int) else size
    for shape in ((20, 61), (61, 20), (33, 33)):
        image = np.zeros((*shape, 1), np.uint8)
        want = theirs("resize", image, None if given is None else list(given), max_size=max_size)
        assert T.Resize(size, max_size=max_size)(image).shape == want.shape


def test_a_window_is_resized_as_if_cut_out() -> None:
    image = photo(40, 50)
    for interpolation in ("nearest", "bilinear", "bicubic"):
        got = F.resized_crop(image, 7, 11, 20, 30, (9, 16), interpolation)
        np.testing.assert_array_equal(got, F.resize(image[7:27, 11:41], (9, 16), interpolation))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_resize_is_its_definition(channels: int) -> None:
    """Two passes over weights that are worked out here: vector loops, their ends, and every number of taps."""

    def weights(before: int, after: int) -> np.ndarray:
        scale = before / after
        places = (np.arange(before) + 0.5 - (np.arange(after)[:, None] + 0.5) * scale) / max(scale, 1)
        table = np.maximum(1 - np.abs(places), 0)
        return table / table.sum(axis=1, keepdims=True)

    rng = np.random.default_rng(channels)
    for before, after in [
        ((1, 1), (5, 7)),
        ((9, 40), (9, 3)),
        ((40, 9), (3, 9)),
        ((30, 33), (17, 2)),
        ((6, 5), (23, 31)),
    ]:
        image = rng.integers(0, 256, (*before, channels), dtype=np.uint8)
        want = np.einsum("ih,jw,hwc->ijc", weights(before[0], after[0]), weights(before[1], after[1]), image)
        assert np.abs(F.resize(image, after).astype(float) - want).max() < 1.1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_steps_in_one_pass_are_the_steps_one_by_one(channels: int, interpolation: str) -> None:
    crop = T.RandomResizedCrop((12, 9), interpolation=interpolation)
    normalize = T.Normalize(np.linspace(0.2, 0.6, channels), np.linspace(0.3, 0.5, channels))
    pipelines = [
        [crop, T.RandomHorizontalFlip(), normalize],
        [crop, normalize],
        [crop, T.RandomHorizontalFlip(), T.ToTensor(), normalize],
        [crop, T.RandomHorizontalFlip(), T.ToDtype(np.float32, scale=True), normalize],
        [T.RandomVerticalFlip(), crop, T.RandomHorizontalFlip(), normalize],
        [T.RandomHorizontalFlip(), T.ToTensor()],
        [],
    ]
    images = np.random.default_rng(0).integers(0, 256, (7, 31, 40, channels), dtype=np.uint8)
    for steps in pipelines:
        numbers = SampleRandom(3, 1, np.arange(7))
        want = images
        for step in steps:
            want = step(want, numbers)
        together = T.Compose(steps)
        got = together(images, SampleRandom(3, 1, np.arange(7)))
        np.testing.assert_array_equal(got, want)
        out = np.full(want[2].shape, 7, want.dtype)  # rows first in memory: written to by copying
        together.into(images[2], SampleRandom(3, 1, [2]), out)
        np.testing.assert_array_equal(out, want[2])
        if out.ndim == 3 and out.dtype == np.float32:
            out = np.full((*out.shape[1:], channels), 7, np.float32).transpose(2, 0, 1)
            together.into(images[2], SampleRandom(3, 1, [2]), out)
            np.testing.assert_array_equal(out, want[2])


def test_only_steps_of_exactly_these_kinds_are_done_in_one_pass() -> None:
    from engine.data.transforms.fusion import fused

    class Mine(T.RandomHorizontalFlip):
        pass

    crop, flip, normalize = T.RandomResizedCrop(4), T.RandomHorizontalFlip(), T.Normalize((0.5,), (0.5,))
    assert len(fused([crop, flip, normalize])) == 1
    for steps in (
        [crop, Mine(), normalize],
        [crop, flip],
        [T.RandomResizedCrop(4, interpolation="nearest"), normalize],
    ):
        assert fused(steps) == steps
    with pytest.raises(ValueError, match="expected 1 channels"):
        T.Compose([crop, normalize])(np.zeros((8, 8, 3), np.uint8))


@needs_torchvision
def test_crops_flips_and_borders_are_torchvisions_exactly() -> None:
    for shape in ((20, 31), (7, 9)):
        image = photo(*shape)
        for size in ((8, 8), (13, 40), (25, 6), (7, 9)):
            np.testing.assert_array_equal(F.center_crop(image, size), theirs("center_crop", image, list(size)))
        for window in ((2, 3, 4, 5), (-2, -3, 9, 8), (5, 6, 20, 30)):
            np.testing.assert_array_equal(F.crop(image, *window), theirs("crop", image, *window))
        np.testing.assert_array_equal(F.horizontal_flip(image), theirs("horizontal_flip", image))
        np.testing.assert_array_equal(F.vertical_flip(image), theirs("vertical_flip", image))
        for mode in ("constant", "edge", "reflect", "symmetric"):
            for padding in (2, [3, 1], [1, 2, 3, 4]):
                np.testing.assert_array_equal(
                    F.pad(image, padding, padding_mode=mode), theirs("pad", image, padding, padding_mode=mode)
                )
        np.testing.assert_array_equal(F.pad(image, 2, fill=[1, 2, 3]), theirs("pad", image, 2, fill=[1, 2, 3]))
        np.testing.assert_array_equal(
            F.erase(image, 1, 2, 3, 4, [1, 2, 3]),
            theirs("erase", image, 1, 2, 3, 4, import_torchvision()[0].tensor([1, 2, 3])[:, None, None]),
        )


@needs_torchvision
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_random_crop_pads_as_torchvision_does(mode: str) -> None:
    torch, _ = import_torchvision()
    from torchvision.transforms import v2

    image = photo(16, 18)
    for fill in (0, [1, 2, 3]) if mode == "constant" else (0,):
        ours, other = (lib.RandomCrop((20, 9), (1, 0), True, fill, mode) for lib in (T, v2))
        tops, lefts = ours.draw(SampleRandom(0, 0, [3]), (1, *image.shape))
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
        params = other.make_params([tensor])
        left, top = params["padding"][:2]
        params.update(needs_crop=True, top=int(tops[0]) + top, left=int(lefts[0]) + left)
        want = other.transform(tensor, params).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(ours.apply(image[None], (tops, lefts))[0], want)


FILLS: list[Any] = [None, 0, 77, [10, 20, 30]]


@needs_torchvision
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_rotation_is_torchvisions(interpolation: str, fill: Any) -> None:
    for shape in ((48, 61), (40, 40)):
        image = photo(*shape)
        for angle in (0, 90, 180, 270, 13.7, -45.2, 400.5):
            for options in ({}, {"expand": True}, {"center": [5.0, 30.0]}):
                if angle in (90, 270) and (options or shape[0] != shape[1]) and interpolation == "nearest":
                    continue  # every place lies half-way between pixels, and rounding decides
                arguments = {"interpolation": interpolation, "fill": fill, **options}
                got = F.rotate(image, angle, **arguments)
                agree(
                    got, theirs("rotate", image, angle, **arguments), strays=2e-3 if interpolation == "nearest" else 0
                )


@needs_torchvision
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_affine_is_torchvisions(interpolation: str, fill: Any) -> None:
    image = photo(48, 61)
    for arguments in (
        (0.0, [5, -3], 1.0, [0.0, 0.0]),
        (10.3, [0, 0], 1.31, [0.0, 0.0]),
        (-20.1, [2, 7], 0.73, [11.0, -7.0]),
        (0.0, [0, 0], 1.0, [16.7, 0.0]),
    ):
        for center in (None, [0, 0]):
            options = {"interpolation": interpolation, "fill": fill, "center": center}
            got = F.affine(image, *arguments, **options)
            want = theirs("affine", image, *arguments, **options)
            agree(got, want, strays=2e-3 if interpolation == "nearest" else 0)


@needs_torchvision
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_perspective_and_elastic_are_torchvisions(interpolation: str, fill: Any) -> None:
    torch, _ = import_torchvision()
    image = photo(48, 61)
    strays = 2e-3 if interpolation == "nearest" else 0
    starts = [[0, 0], [60, 0], [60, 47], [0, 47]]
    for ends in ([[3, 5], [50, 2], [58, 40], [9, 44]], [[-5, -6], [65, 0], [60, 52], [0, 47]]):
        options = {"interpolation": interpolation, "fill": fill}
        agree(
            F.perspective(image, starts, ends, **options),
            theirs("perspective", image, starts, ends, **options),
            strays=strays,
        )
    moves = np.random.default_rng(0).normal(0, 0.1, (1, 48, 61, 2)).astype(np.float32)
    want = theirs("elastic", image, torch.from_numpy(moves), **options)
    agree(F.elastic(image, moves, **options), want, strays=strays)


COLOURS: list[tuple[str, Sequence[Any]]] = [
    ("adjust_brightness", (0.0, 0.37, 1.0, 1.9)),
    ("adjust_contrast", (0.0, 0.37, 1.0, 1.9)),
    ("adjust_saturation", (0.0, 0.37, 1.0, 1.9)),
    ("adjust_sharpness", (0.0, 0.37, 1.0, 1.9)),
    ("adjust_hue", (-0.5, -0.13, 0.0, 0.31, 0.5)),
    ("posterize", (0, 1, 3, 8)),
    ("solarize", (0.0, 100.5, 255.0)),
    ("gaussian_blur", (1, 5, [7, 3])),
]


@needs_torchvision
@pytest.mark.parametrize(("name", "values"), COLOURS)
def test_colour_is_torchvisions(name: str, values: Sequence[Any]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    for image in (photo(30, 41), photo(30, 41, 1), noise):
        for value in values:
            agree(getattr(F, name)(image, value), theirs(name, image, value))


@needs_torchvision
@pytest.mark.parametrize("name", ["autocontrast", "equalize", "invert"])
def test_histograms_are_torchvisions(name: str) -> None:
    flat = np.full((8, 8, 3), 9, np.uint8)
    narrow = photo(30, 41) // 4 + 60
    for image in (photo(30, 41), photo(30, 41, 1), flat, narrow, np.zeros((1, 1, 3), np.uint8)):
        agree(getattr(F, name)(image), theirs(name, image))


@needs_torchvision
def test_grey_and_blur_widths_are_torchvisions() -> None:
    image = photo(30, 41)
    for channels in (1, 3):
        agree(F.rgb_to_grayscale(image, channels), theirs("rgb_to_grayscale", image, channels))
    for sigma in (0.1, 1.3, [2.0, 0.4]):
        agree(F.gaussian_blur(image, [5, 9], sigma), theirs("gaussian_blur", image, [5, 9], sigma))


@needs_torchvision
def test_the_policies_are_torchvisions() -> None:
    torch, _ = import_torchvision()
    from torchvision.transforms import v2

    image = photo(33, 33)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    for ours, other, bins in ((_RAND, v2.RandAugment, 31), (_TRIVIAL, v2.TrivialAugmentWide, 31), (_AUTO, None, 10)):
        theirs_ = v2.AutoAugment() if other is None else other()
        space = theirs_._AUGMENTATION_SPACE
        assert set(ours) - {"Identity"} == set(space) - {"Identity"}
        for name, (make, signed) in space.items():
            wanted = make(bins, 33, 33)
            assert ours[name][1] == signed
            assert (ours[name][0] is None) == (wanted is None), name
            if wanted is not None:
                magnitudes = ours[name][0](bins, 33, 33)
                np.testing.assert_allclose(magnitudes, wanted.numpy(), atol=1e-5)
                magnitude = float(wanted[bins // 3])
            else:
                magnitude = 0.0
            want = theirs_._apply_image_or_video_transform(tensor, name, magnitude, "bilinear", {"others": 5})
            got = apply_operation(image, name, magnitude, "bilinear", 5)
            agree(got, want.numpy().transpose(1, 2, 0))
    policies = [[(name, p, which or 0) for name, p, which in pair] for pair in v2.AutoAugment()._policies]
    assert policies == [list(pair) for pair in IMAGENET]


@needs_torchvision
def test_mixing_is_torchvisions() -> None:
    torch, _ = import_torchvision()
    from torchvision.transforms import v2

    rng = np.random.default_rng(0)
    images, labels = rng.random((4, 3, 8, 10), dtype=np.float32), np.array([0, 2, 1, 2])
    for ours, other, params in (
        (T.MixUp(num_classes=3), v2.MixUp(num_classes=3), {"lam": 0.3}),
        (T.CutMix(num_classes=3), v2.CutMix(num_classes=3), {"box": (2, 1, 7, 5), "lam_adjusted": 0.75}),
    ):
        both = torch.from_numpy(images), torch.from_numpy(labels)
        given = {**params, "labels": both[1], "batch_size": 4}
        soft = np.eye(3, dtype=np.float32)[labels]
        got = ours.transform(images, soft, params)
        for ours_, theirs_ in zip(got, (other.transform(part, given) for part in both)):
            np.testing.assert_allclose(ours_, theirs_.numpy(), rtol=1e-6, atol=1e-7)


# ---- drawing


def windows(make: T.RandomResizedCrop | T.RandomErasing, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    drawn = [make.make_params(stream, shape) for stream in SampleRandom(0, 0, np.arange(count)).streams()]
    return np.array([[p[key] for key in ("height", "width")] for p in drawn if p is not None], float)


def test_random_resized_crop_draws_area_and_proportions() -> None:
    shape = (400, 400, 3)
    sides = windows(T.RandomResizedCrop(8), 3000, shape)
    area, ratio = sides.prod(axis=1) / 160000, sides[:, 1] / sides[:, 0]
    assert 0.075 < area.min() < 0.1
    assert 0.45 < area.mean() < 0.55
    assert 0.74 < ratio.min() < 0.78
    assert 1.3 < ratio.max() < 1.35
    assert abs(np.log(ratio).mean()) < 0.02


@pytest.mark.parametrize("shape", [(10, 100, 3), (100, 10, 3), (50, 50, 3)])
def test_random_resized_crop_falls_back_to_the_middle(shape: tuple[int, int, int]) -> None:
    crop = T.RandomResizedCrop(8, scale=(4.0, 5.0))
    params = crop.make_params(Stream(0), shape)
    assert params == crop.centre(shape)
    assert params["top"] == (shape[0] - params["height"]) // 2
    assert 3 / 4 - 0.02 <= params["width"] / params["height"] <= 4 / 3 + 0.1


def test_color_jitter_draws_factors_and_order() -> None:
    jitter = T.ColorJitter(0.4, (0.5, 0.6), None, 0.1)
    drawn = [jitter.make_params(stream, (4, 4, 3)) for stream in SampleRandom(0, 0, np.arange(2000)).streams()]
    for key, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.5, 0.6), ("hue", -0.1, 0.1)):
        values = np.array([params[f"{key}_factor"] for params in drawn])
        assert low <= values.min() < low + 0.02
        assert high - 0.02 < values.max() <= high
    assert {params["saturation_factor"] for params in drawn} == {None}
    orders = {tuple(params["fn_idx"]) for params in drawn}
    assert len(orders) == 24
    assert T.ColorJitter(brightness=2.0).brightness == (0.0, 3.0)


def test_erasing_draws_the_area_and_fills_it() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    shares = []
    for seed in range(200):
        result = T.RandomErasing(p=1.0, value=[1, 2, 3])(image, seed)
        hole = (result == [1, 2, 3]).all(axis=2)
        assert (result[~hole] == 200).all()
        shares.append(hole.mean())
    assert 0.015 < min(shares) < 0.06
    assert 0.28 < max(shares) < 0.35
    noisy = T.RandomErasing(p=1.0, scale=(0.3, 0.3), ratio=(1, 1), value="random")(image, 0)
    assert 90 < noisy[noisy != 200].mean() < 165


def test_noise_has_its_mean_and_deviation() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    noise = F.gaussian_noise(image, mean=0.1, sigma=0.05, seed=3).astype(float) - 128
    assert abs(noise.mean() - 25.5) < 0.7  # cutting to whole levels takes half of one away
    assert abs(noise.std() - 12.75) < 0.2
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 0.01
    assert (F.gaussian_noise(np.full((9, 9, 1), 255, np.uint8), 0.5, 0.0, clip=False) == 126).all()


def test_elastic_displacements_are_smooth() -> None:
    elastic = T.ElasticTransform(alpha=50.0, sigma=5.0)
    moves = elastic.make_params(Stream(0), (64, 64, 3))["displacement"]
    assert moves.shape == (64, 64, 2)
    assert np.abs(np.diff(moves, axis=0)).max() < 0.3 * np.abs(moves).max()
    assert 0.01 < np.abs(moves).max() < 50 / 64


RANDOM: list[Callable[[], T.Transform]] = [
    lambda: T.RandomCrop(12, padding=2),
    lambda: T.RandomCrop(20, fill=[1, 2, 3], pad_if_needed=True),
    lambda: T.RandomCrop(20, None, True, 9),
    lambda: T.RandomCrop(12, padding=(1, 2, 3, 4), padding_mode="reflect"),
    lambda: T.RandomResizedCrop(8),
    lambda: T.RandomHorizontalFlip(),
    lambda: T.RandomVerticalFlip(),
    lambda: T.RandomRotation(40),
    lambda: T.RandomAffine(20, (0.1, 0.2), (0.8, 1.2), (-5, 5, -9, 9), "bilinear", fill=3),
    lambda: T.RandomPerspective(p=0.7),
    lambda: T.ElasticTransform(sigma=2.0),
    lambda: T.ColorJitter(0.4, 0.4, 0.4, 0.2),
    lambda: T.RandomGrayscale(p=0.5),
    lambda: T.GaussianBlur(5),
    lambda: T.GaussianNoise(),
    lambda: T.RandomErasing(p=0.8, value="random"),
    lambda: T.RandAugment(),
    lambda: T.TrivialAugmentWide(),
    lambda: T.AutoAugment(),
    lambda: T.RandomApply([T.ColorJitter(0.5), T.RandomRotation(20)], p=0.6),
]


@pytest.mark.parametrize("make", RANDOM)
def test_an_image_is_transformed_alike_in_every_batch(make: Callable[[], T.Transform]) -> None:
    transform = make()
    batch = np.stack([photo(16, 18, seed=seed) for seed in range(6)])
    before = batch.copy()
    together = transform(batch, SampleRandom(5, 2, np.arange(6)))
    assert together.dtype == np.uint8
    for index in range(6):
        np.testing.assert_array_equal(transform(batch[index], SampleRandom(5, 2, [index])), together[index])
    parameters = transform.draw(SampleRandom(5, 2, np.arange(6)), batch.shape)
    np.testing.assert_array_equal(transform.apply(batch, parameters), together)
    np.testing.assert_array_equal(batch, before)
    assert not np.array_equal(transform(batch, SampleRandom(5, 3, np.arange(6))), together)


@pytest.mark.parametrize("make", RANDOM)
def test_without_random_numbers_images_keep_what_they_show(make: Callable[[], T.Transform]) -> None:
    transform, image = make(), photo(16, 18)
    result = transform(image)
    np.testing.assert_array_equal(result, transform(image))
    if not isinstance(transform, T.RandomCrop | T.RandomResizedCrop):
        np.testing.assert_array_equal(result, image)
    assert transform(image[None][:0], 0).shape == (0, *result.shape)
    assert type(transform).__name__ in repr(transform)


def test_generators_and_numbers_seed_a_transform() -> None:
    image, jitter = photo(16, 18), T.ColorJitter(0.5)
    np.testing.assert_array_equal(jitter(image, 7), jitter(image, 7))
    first, second = (jitter(image, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    generator = np.random.default_rng(3)
    assert not np.array_equal(jitter(image, generator), jitter(image, generator))


@needs_pillow
def test_pillow_images_and_arrays_are_alike() -> None:
    from PIL import Image

    pixels = photo(20, 24)
    image = Image.fromarray(pixels)
    for step in (T.Resize(9), T.CenterCrop(30), T.RandomResizedCrop(7), T.ColorJitter(0.3), T.Grayscale(3)):
        np.testing.assert_array_equal(step(image, 3), step(pixels, 3))
    steps = T.Compose([T.Resize(12), T.RandomHorizontalFlip(), T.ToDtype(scale=True)])
    assert steps(image, 1).shape == (3, 12, 14)
    assert T.Resize(5)(image.convert("L")).shape == (5, 6, 1)
    assert T.Resize(5)(image.convert("P")).shape == (5, 6, 3)
    assert T.Resize(5)(image.convert("1")).shape == (5, 6, 1)
    np.testing.assert_array_equal(F.normalize(image, (0.0,) * 3, (1.0,) * 3), T.ToTensor()(pixels))


@needs_torchvision
def test_to_dtype_is_torchvisions() -> None:
    torch, _ = import_torchvision()
    from torchvision.transforms import v2

    image = photo(6, 7)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    for scale in (True, False):
        want = v2.ToDtype(torch.float32, scale=scale)(tensor).numpy()
        np.testing.assert_allclose(T.ToDtype(np.float32, scale)(image), want, rtol=1e-6)
        np.testing.assert_allclose(F.to_dtype(image, np.float32, scale), want, rtol=1e-6)


def test_normalize_takes_bytes_or_what_to_tensor_made() -> None:
    image, normalize = photo(6, 7), T.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    two_steps = T.Compose([T.ToTensor(), normalize])
    for pixels in (image, np.stack([image, image])):
        np.testing.assert_allclose(two_steps(pixels), normalize(pixels), rtol=1e-5, atol=1e-6)
    assert two_steps(image).transpose(1, 2, 0).flags.c_contiguous
    with pytest.raises(ValueError, match="3 channels"):
        normalize(np.zeros((1, 1, 4, 4), np.float32))


@pytest.mark.parametrize("make", [T.MixUp, T.CutMix])
def test_mixing_gives_tensors_for_tensors_and_repeats(make: Any) -> None:
    mix = make(alpha=0.8, num_classes=5)
    images, labels = engine.rand(6, 3, 8, 8), engine.tensor([0, 1, 2, 3, 4, 0])
    first, second = mix(images, labels, 3), mix(images, labels, np.random.default_rng(1))
    assert first[0].shape == (6, 3, 8, 8)
    np.testing.assert_allclose(first[1].numpy().sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(mix(images, labels, 3)[0].numpy(), first[0].numpy())
    assert not np.array_equal(second[0].numpy(), first[0].numpy())
    engine.manual_seed(4)
    drawn = mix(images, labels)[0].numpy()
    assert not np.array_equal(mix(images, labels)[0].numpy(), drawn)
    engine.manual_seed(4)
    np.testing.assert_array_equal(mix(images, labels)[0].numpy(), drawn)
    soft = mix(images.numpy(), first[1].numpy(), 3)
    assert isinstance(soft[1], np.ndarray)
    assert 0 <= mix.make_params(Stream(0), (6, 3, 8, 8)).get("lam", 0.5) <= 1


def test_cutmix_mixes_labels_by_area() -> None:
    images = np.stack([np.full((3, 20, 20), value, np.float32) for value in (0.0, 1.0)])
    for seed in range(20):
        mixed, labels = T.CutMix(num_classes=2)(images, np.array([0, 1]), seed)
        np.testing.assert_allclose(mixed[0].mean(), labels[0, 1], atol=1e-6)
        np.testing.assert_allclose(mixed[1].mean(), labels[1, 1], atol=1e-6)


def test_streams_are_uniform_and_independent() -> None:
    values = np.array([[s.uniform() for _ in range(3)] for s in SampleRandom(0, 0, np.arange(4000)).streams()])
    assert np.abs(values.mean(axis=0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.05
    assert abs(Stream(1).uniform(size=(100, 100)).mean() - 0.5) < 0.01
    assert np.bincount([Stream(key).integers(3, 6) for key in range(3000)]).min() == 0
    assert np.bincount([Stream(key).integers(0, 3) for key in range(3000)]).min() > 900
    assert sorted(Stream(5).permutation(9)) == list(range(9))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: T.Resize(0), "size of at least 1"),
        (lambda: T.Resize((3, 4), max_size=9), "only with one number"),
        (lambda: T.Resize(9, max_size=9), "max_size > size"),
        (lambda: T.Resize(9, "lanczos"), "interpolation"),
        (lambda: T.CenterCrop((1, 2, 3)), "height, width"),
        (lambda: T.Pad((1, 2, 3)), "1, 2 or 4"),
        (lambda: F.pad(photo(3, 3), 1, fill=256), "fill of 0..255"),
        (lambda: T.RandomCrop(3, padding_mode="wrap"), "padding_mode"),
        (lambda: T.RandomResizedCrop(3, scale=(0.0, 1.0)), "positive"),
        (lambda: T.RandomRotation(-3), "degrees"),
        (lambda: T.RandomRotation(3, "bicubic"), "interpolation"),
        (lambda: T.RandomAffine(3, translate=(2, 0)), "translate"),
        (lambda: T.RandomAffine(3, scale=(0, 1)), "scale"),
        (lambda: T.RandomPerspective(1.5), "distortion_scale"),
        (lambda: T.RandomVerticalFlip(2), "probability"),
        (lambda: T.ColorJitter(-1), "brightness"),
        (lambda: T.ColorJitter(hue=0.6), "hue"),
        (lambda: T.Grayscale(2), "1 or 3"),
        (lambda: T.GaussianBlur(4), "odd"),
        (lambda: T.GaussianNoise(sigma=-1), "sigma"),
        (lambda: T.RandomErasing(value="noise"), "random"),
        (lambda: T.RandAugment(magnitude=40), "magnitude"),
        (lambda: T.AutoAugment("svhn"), "imagenet"),
        (lambda: T.ToDtype(np.float64), "float32"),
        (lambda: T.MixUp(alpha=0), "alpha"),
        (lambda: T.MixUp()(np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1]), 0), "num_classes"),
        (lambda: T.MixUp(num_classes=1)(np.zeros((2, 1, 2, 2), np.float32), np.array([0, 1]), 0), "labels in 0..0"),
        (lambda: T.CutMix(num_classes=2)(np.zeros((2, 2, 2), np.float32), np.array([0, 1]), 0), "float32 images"),
        (lambda: F.adjust_brightness(photo(3, 3), -1), "factor"),
        (lambda: F.adjust_hue(photo(3, 3), 0.7), "hue_factor"),
        (lambda: F.adjust_hue(photo(3, 3, 4), 0.1), "3 channels"),
        (lambda: F.resized_crop(photo(3, 3), 1, 1, 3, 3, (2, 2)), "inside the image"),
        (lambda: F.elastic(photo(3, 3), np.zeros((2, 2, 2))), "displacements"),
        (lambda: F.perspective(photo(3, 3), [(0, 0)], [(0, 0)]), "4 points"),
        (lambda: T.Resize(3)(np.zeros((1, 3, 3, 3), np.float32)), "uint8 images"),
        (lambda: T.ColorJitter(0.1)(np.stack([photo(3, 3)] * 2), SampleRandom(0, 0, [1])), "for 2 images"),
    ],
)
def test_wrong_arguments_say_what_was_expected(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_images_of_another_type_are_refused() -> None:
    for wrong in (np.zeros((3, 3), np.float32), "cat.jpg", np.zeros((2, 2, 2, 2), np.uint8)):
        with pytest.raises(TypeError, match="Pillow image or uint8"):
            F.resize(wrong, 3)
