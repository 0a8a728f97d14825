"""What pixels are: colour, blur, noise, holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..random import Stream
from . import functional as F
from .base import FixedTransform, ImageTransform, RandomTransform
from .geometry import pair, random_window


def _range(value: float | Sequence[float] | None, name: str, centre: float, low: float, high: float) -> Any:
    """(min, max) around `centre`, or as given; None when nothing changes."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        bounds = (max(centre - value, 0.0) if low == 0 else centre - value, centre + value)
        fine = value >= 0
    else:
        bounds, fine = (float(value[0]), float(value[1])), len(value) == 2
    if not (fine and low <= bounds[0] <= bounds[1] <= high):
        raise ValueError(f"[ColorJitter] expected {name} of at least 0, or (min, max) in {low}..{high}, got {value}")
    return None if bounds == (centre, centre) else bounds


class ColorJitter(ImageTransform):
    """Changes brightness, contrast, saturation and hue by random factors in random order; not without random numbers.

    Args:
        brightness: x for factors in max(0, 1 - x) to 1 + x, or (min, max); None leaves it.
        contrast: likewise.
        saturation: likewise.
        hue: x for shifts in -x to x of the colour circle, at most 0.5, or (min, max).

    Example:
        >>> ColorJitter(0.4, 0.4, 0.4, 0.1)(np.zeros((4, 4, 3), np.uint8), 0).shape
        (4, 4, 3)
    """

    def __init__(
        self,
        brightness: float | Sequence[float] | None = None,
        contrast: float | Sequence[float] | None = None,
        saturation: float | Sequence[float] | None = None,
        hue: float | Sequence[float] | None = None,
    ) -> None:
        self.brightness = _range(brightness, "brightness", 1.0, 0.0, float("inf"))
        self.contrast = _range(contrast, "contrast", 1.0, 0.0, float("inf"))
        self.saturation = _range(saturation, "saturation", 1.0, 0.0, float("inf"))
        self.hue = _range(hue, "hue", 0.0, -0.5, 0.5)

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        order = [int(step) for step in random.permutation(4)]
        factors = [None if limits is None else float(random.uniform(*limits)) for limits in ranges]
        names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
        return {"fn_idx": order, **dict(zip(names, factors))}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        steps = (
            (F.adjust_brightness, params["brightness_factor"]),
            (F.adjust_contrast, params["contrast_factor"]),
            (F.adjust_saturation, params["saturation_factor"]),
            (F.adjust_hue, params["hue_factor"]),
        )
        for which in params["fn_idx"]:
            step, factor = steps[which]
            if factor is not None:
                image = step(image, factor)
        return image


class Grayscale(FixedTransform):
    """Replaces colours by their luminance.

    Args:
        num_output_channels: 1, or 3 for three equal channels.

    Example:
        >>> Grayscale()(np.zeros((4, 4, 3), np.uint8)).shape
        (4, 4, 1)
    """

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ValueError(f"[Grayscale] expected 1 or 3 output channels, got {num_output_channels}")
        self.num_output_channels = num_output_channels

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.rgb_to_grayscale(image, self.num_output_channels)


class RandomGrayscale(RandomTransform):
    """Replaces colours by their luminance with probability `p`, the channels kept; never without random numbers.

    Args:
        p: the probability, 0 to 1.

    Example:
        >>> RandomGrayscale(p=1.0)(np.array([[[200, 0, 0]]], np.uint8), 0)[0, 0]
        array([59, 59, 59], dtype=uint8)
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__(p)

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.rgb_to_grayscale(image, image.shape[2])


class GaussianBlur(ImageTransform):
    """Blurs by a Gaussian of random width; not without random numbers.

    Args:
        kernel_size: odd numbers of pixels along x and y, or one for both.
        sigma: the deviation in pixels, or (min, max) of it.

    Example:
        >>> GaussianBlur(3)(np.full((4, 4, 3), 7, np.uint8), 0)[0, 0]
        array([7, 7, 7], dtype=uint8)
    """

    def __init__(self, kernel_size: int | Sequence[int], sigma: float | Sequence[float] = (0.1, 2.0)) -> None:
        self.kernel_size = pair(kernel_size, "GaussianBlur")
        self.sigma = (float(sigma), float(sigma)) if isinstance(sigma, (int, float)) else (sigma[0], sigma[-1])
        if any(size % 2 == 0 for size in self.kernel_size) or not 0 < self.sigma[0] <= self.sigma[1]:
            raise ValueError(
                f"[GaussianBlur] expected odd sizes and positive sigma, got kernel_size={kernel_size}, sigma={sigma}"
            )

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        sigma = float(random.uniform(*self.sigma))
        return {"sigma": [sigma, sigma]}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.gaussian_blur(image, self.kernel_size, params["sigma"])


class GaussianNoise(ImageTransform):
    """Adds normally distributed noise, independent in every value; not without random numbers.

    Args:
        mean: on the 0..1 scale.
        sigma: deviation on the 0..1 scale.
        clip: cut off what leaves the range of values, rather than to let it wrap around.

    Example:
        >>> GaussianNoise()(np.zeros((4, 4, 3), np.uint8), 0).shape
        (4, 4, 3)
    """

    def __init__(self, mean: float = 0.0, sigma: float = 0.1, clip: bool = True) -> None:
        if not sigma >= 0:
            raise ValueError(f"[GaussianNoise] expected sigma of at least 0, got {sigma}")
        self.mean = mean
        self.sigma = sigma
        self.clip = clip

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        return {"seed": int(random.integers(0, 2**63))}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.gaussian_noise(image, self.mean, self.sigma, self.clip, params["seed"])


class RandomErasing(RandomTransform):
    """Overwrites a random rectangle with probability `p`; never without random numbers.

    Works on bytes, so it stands before Normalize, and `value` is on the 0..255 scale.

    Args:
        p: the probability, 0 to 1.
        scale: the least and the greatest share of the image's area.
        ratio: the least and the greatest proportion of the rectangle's sides.
        value: what to write: one number, one per channel, or "random" for random bytes.

    Example:
        >>> RandomErasing(p=1.0)(np.ones((8, 8, 3), np.uint8), 0).min()
        np.uint8(0)
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | str = 0,
    ) -> None:
        super().__init__(p)
        if not (0 <= scale[0] <= scale[1] <= 1 and 0 < ratio[0] <= ratio[1]):
            raise ValueError(
                f"[RandomErasing] expected (min, max) for scale in 0..1 and for ratio, got scale={scale}, ratio={ratio}"
            )
        if isinstance(value, str) and value != "random":
            raise ValueError(f'[RandomErasing] expected value as numbers or "random", got {value!r}')
        self.scale = (scale[0], scale[1])
        self.ratio = (ratio[0], ratio[1])
        self.value = value

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        window = random_window(random, shape, self.scale, self.ratio, whole=False)
        if window is None:
            return None
        if isinstance(self.value, str):
            value = np.asarray(random.uniform(0, 256, size=(window[2], window[3], shape[2]))).astype(np.uint8)
        else:
            value = F.filling(self.value, shape[2], "RandomErasing").astype(np.uint8)
        return {**dict(zip("ijhw", window)), "v": value}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.erase(image, **params)
