"""Where pixels go: resizing, cropping, flipping, warping."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..random import SampleRandom, Stream
from . import functional as F
from .base import FixedTransform, ImageTransform, RandomTransform, Transform, checked_batch


def pair(value: int | Sequence[int], owner: str) -> tuple[int, int]:
    """Returns (height, width) from one number for both, or from two.

    Args:
        value: one number or two, at least 1.
        owner: for the error's text.

    Example:
        >>> pair(3, "Resize")
        (3, 3)
    """
    numbers = (value, value) if isinstance(value, int) else tuple(int(number) for number in value)
    if len(numbers) == 1:
        numbers = numbers * 2
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(f"[{owner}] expected a size of at least 1, one number or (height, width), got {value}")
    return numbers[0], numbers[1]


def limits(value: float | Sequence[float], owner: str, name: str) -> tuple[float, float]:
    """Returns (low, high) from one number, for -number to number, or from two.

    Args:
        value: a number of at least 0, or (low, high).
        owner: for the error's text.
        name: likewise.

    Example:
        >>> limits(30, "RandomRotation", "degrees")
        (-30.0, 30.0)
    """
    low, high = (-float(value), float(value)) if isinstance(value, (int, float)) else map(float, value)
    if not low <= high:
        raise ValueError(f"[{owner}] expected {name} of at least 0, or (low, high), got {value}")
    return low, high


class Resize(FixedTransform):
    """Resizes, within one level of what Pillow makes.

    Args:
        size: the shorter side, or (height, width); None to bring the longer side to `max_size`.
        interpolation: "nearest", "bilinear" or "bicubic".
        max_size: the longer side is at most this, the proportions kept.
        antialias: average over what a result covers, rather than to look at 2 or 4 pixels only.

    Example:
        >>> Resize(8)(np.zeros((32, 16, 3), np.uint8)).shape
        (16, 8, 3)
    """

    def __init__(
        self,
        size: int | Sequence[int] | None,
        interpolation: str = "bilinear",
        max_size: int | None = None,
        antialias: bool = True,
    ) -> None:
        F.resized_size(1, 1, size, max_size)
        if size is not None:
            pair(size, "Resize")
        self.size = size
        self.interpolation = F.checked_interpolation(interpolation, F.RESIZING, "Resize")
        self.max_size = max_size
        self.antialias = antialias

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.resize(image, self.size, self.interpolation, self.max_size, self.antialias)


class CenterCrop(FixedTransform):
    """Cuts the middle out, of an image padded with black where it is smaller.

    Args:
        size: height and width, or one number for both.

    Example:
        >>> CenterCrop(4)(np.zeros((8, 3, 3), np.uint8)).shape
        (4, 4, 3)
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = pair(size, "CenterCrop")

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.center_crop(image, self.size)


class Pad(FixedTransform):
    """Adds a border.

    Args:
        padding: pixels on all sides, or (horizontal, vertical), or (left, top, right, bottom).
        fill: the border's value, one number or one per channel.
        padding_mode: "constant", "edge", "reflect" or "symmetric".

    Example:
        >>> Pad((1, 2))(np.zeros((4, 4, 3), np.uint8)).shape
        (8, 6, 3)
    """

    def __init__(self, padding: int | Sequence[int], fill: F.Fill = 0, padding_mode: str = "constant") -> None:
        F.parsed_padding(padding)
        self.padding = padding
        self.fill = fill
        self.padding_mode = padding_mode

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.pad(image, self.padding, self.fill, self.padding_mode)


class RandomCrop(Transform):
    """Cuts a window at a random place of the padded image: with padding, a random integer shift.

    Follows torchvision's RandomCrop. Without random numbers the window is the central one.

    Args:
        size: height and width of the window in pixels, or one number for both.
        padding: pixels added on all sides before cropping, or (horizontal, vertical), or (left, top, right, bottom).
        pad_if_needed: add on both sides what the window exceeds the image by.
        fill: the value of the padding, 0 to 255, one number or one per channel.
        padding_mode: "constant", "edge", "reflect" or "symmetric".

    Shape:
        (N, H, W, C) uint8 to (N, size, size, C) uint8.

    Raises:
        ValueError: when the window is larger than the padded image.

    Example:
        >>> RandomCrop(2)(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1))[0, :, :, 0]
        array([[ 5,  6],
               [ 9, 10]], dtype=uint8)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = 0,
        pad_if_needed: bool = False,
        fill: float | Sequence[float] = 0,
        padding_mode: str = "constant",
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.padding = 0 if padding is None else padding
        self.fill = fill
        self.pad_if_needed = pad_if_needed
        self.padding_mode = padding_mode
        self._sides = F.parsed_padding(self.padding)
        channels = 1 if isinstance(fill, (int, float)) else len(fill)
        if min(self.size) < 1 or min(self._sides) < 0 or (isinstance(fill, (int, float)) and not 0 <= fill <= 255):
            raise ValueError(
                f"[RandomCrop] expected size >= 1, padding >= 0 and fill in 0..255, got size={size}, "
                f"padding={padding}, fill={fill}"
            )
        F.pad(np.zeros((1, 1, channels), np.uint8), 0, fill, padding_mode)  # checks them

    def _padded(self, height: int, width: int) -> tuple[int, int, int, int]:
        left, top, right, bottom = self._sides
        if self.pad_if_needed:
            rows = max(0, self.size[0] - height - top - bottom)
            columns = max(0, self.size[1] - width - left - right)
            left, top, right, bottom = left + columns, top + rows, right + columns, bottom + rows
        return left, top, right, bottom

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        left, top, right, bottom = self._padded(shape[1], shape[2])
        corners = []
        for extent, before, after, window in (
            (shape[1], top, bottom, self.size[0]),
            (shape[2], left, right, self.size[1]),
        ):
            room = extent + before + after - window
            if room < 0:
                raise ValueError(
                    f"[RandomCrop] expected images of at least {self.size[0]} x {self.size[1]} pixels after padding by "
                    f"{self.padding}, got {shape[1]} x {shape[2]}: raise padding or resize first"
                )
            offsets = np.full(shape[0], room // 2, np.int64) if random is None else random.integers(0, room + 1)
            corners.append(offsets - before)
        return corners[0], corners[1]

    def apply(self, images: np.ndarray, parameters: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        from engine.data import _augment

        images = checked_batch(images, self)
        tops, lefts = parameters
        if isinstance(self.fill, int) and self.padding_mode == "constant":
            return _augment.crop(images, tops, lefts, *self.size, self.fill)
        sides = self._padded(images.shape[1], images.shape[2])
        padded = [F.pad(image, sides, self.fill, self.padding_mode) for image in images]
        if not padded:
            return np.zeros((0, *self.size, images.shape[3]), np.uint8)
        return _augment.crop(np.stack(padded), tops + sides[1], lefts + sides[0], *self.size)


def random_window(
    random: Stream, shape: Sequence[int], scale: tuple[float, float], ratio: tuple[float, float], whole: bool
) -> tuple[int, int, int, int] | None:
    """Draws a rectangle by its share of the area and its proportions; None when ten draws did not fit.

    Args:
        random: the image's random numbers.
        shape: the image's (H, W, C).
        scale: the least and the greatest share of the area.
        ratio: the least and the greatest width / height; drawn on a logarithmic scale.
        whole: whether it may be as high or as wide as the image.

    Returns:
        top, left, height, width.

    Example:
        >>> random_window(Stream(0), (8, 8, 3), (1.0, 1.0), (1.0, 1.0), whole=True)
        (0, 0, 8, 8)
    """
    for _ in range(10):
        area = shape[0] * shape[1] * random.uniform(*scale)
        proportion = math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * proportion)), round(math.sqrt(area / proportion))
        fits = height <= shape[0] and width <= shape[1] if whole else height < shape[0] and width < shape[1]
        if fits and height > 0 and width > 0:
            top = int(random.integers(0, shape[0] - height + 1))
            return top, int(random.integers(0, shape[1] - width + 1)), height, width
    return None


class RandomResizedCrop(ImageTransform):
    """Cuts out a window of random area, proportions and place, and resizes it.

    Without random numbers, and when ten draws did not fit, the largest central window of allowed proportions is taken.

    Args:
        size: height and width of the result, or one number for both.
        scale: the least and the greatest share of the image's area.
        ratio: the least and the greatest width / height of the window.
        interpolation: "nearest", "bilinear" or "bicubic".
        antialias: average over what a result covers.

    Example:
        >>> RandomResizedCrop(4)(np.zeros((9, 7, 3), np.uint8), 0).shape
        (4, 4, 3)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: str = "bilinear",
        antialias: bool = True,
    ) -> None:
        self.size = pair(size, "RandomResizedCrop")
        if not (0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1]):
            raise ValueError(
                f"[RandomResizedCrop] expected positive (min, max) pairs, got scale={scale}, ratio={ratio}"
            )
        self.scale = scale
        self.ratio = ratio
        self.interpolation = F.checked_interpolation(interpolation, F.RESIZING, "RandomResizedCrop")
        self.antialias = antialias

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        window = random_window(random, shape, self.scale, self.ratio, whole=True)
        return self.centre(shape) if window is None else dict(zip(("top", "left", "height", "width"), window))

    def centre(self, shape: Sequence[int]) -> dict[str, Any] | None:
        height, width = shape[0], shape[1]
        proportion = width / max(height, 1)
        if proportion < self.ratio[0]:
            height = round(width / self.ratio[0])
        elif proportion > self.ratio[1]:
            width = round(height * self.ratio[1])
        return {"top": (shape[0] - height) // 2, "left": (shape[1] - width) // 2, "height": height, "width": width}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.resized_crop(
            image, **params, size=self.size, interpolation=self.interpolation, antialias=self.antialias
        )


class RandomHorizontalFlip(Transform):
    """Mirrors images left to right, each with probability `p`; never without random numbers.

    Args:
        p: the probability, 0 to 1.

    Example:
        >>> always = RandomHorizontalFlip(p=1.0)
        >>> always(np.array([[[1], [2]]], np.uint8), SampleRandom(0, 0, [0]))[0, :, 0]
        array([2, 1], dtype=uint8)
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"[RandomHorizontalFlip] expected a probability p in 0..1, got {p}")
        self.p = p

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> np.ndarray:
        if random is None:
            return np.zeros(shape[0], np.uint8)
        return (random.uniform() < self.p).astype(np.uint8)

    def apply(self, images: np.ndarray, parameters: np.ndarray) -> np.ndarray:
        from engine.data import _augment

        return _augment.horizontal_flip(checked_batch(images, self), parameters)


class RandomVerticalFlip(RandomTransform):
    """Mirrors images top to bottom, each with probability `p`; never without random numbers.

    Args:
        p: the probability, 0 to 1.

    Example:
        >>> RandomVerticalFlip(p=1.0)(np.array([[[1]], [[2]]], np.uint8), 0)[:, 0, 0]
        array([2, 1], dtype=uint8)
    """

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.vertical_flip(image)


class RandomRotation(ImageTransform):
    """Rotates by a random angle; not without random numbers.

    Args:
        degrees: the greatest angle to either side, or (min, max); positive is counter-clockwise.
        interpolation: "nearest" or "bilinear".
        expand: make the result large enough for the whole rotated image.
        center: (x, y) to rotate about; None for the middle.
        fill: value outside the image, one number or one per channel.

    Example:
        >>> RandomRotation((90, 90))(np.array([[[1], [2]], [[3], [4]]], np.uint8), 0)[:, :, 0]
        array([[2, 4],
               [1, 3]], dtype=uint8)
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: str = "nearest",
        expand: bool = False,
        center: Sequence[float] | None = None,
        fill: F.Fill = 0,
    ) -> None:
        self.degrees = limits(degrees, "RandomRotation", "degrees")
        self.interpolation = F.checked_interpolation(interpolation, F.WARPING, "RandomRotation")
        self.expand = expand
        self.center = center
        self.fill = fill

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        return {"angle": random.uniform(*self.degrees)}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.rotate(image, params["angle"], self.interpolation, self.expand, self.center, self.fill)


class RandomAffine(ImageTransform):
    """Rotates, translates, scales and shears at random, the size kept; not without random numbers.

    Args:
        degrees: the greatest angle to either side, or (min, max).
        translate: the greatest shift along x and y to either side, in parts of the width and the height; None for none.
        scale: the least and the greatest factor; None for 1.
        shear: the greatest angle along x to either side, or (min, max) of it, or (min, max, min, max) along x and y.
        interpolation: "nearest" or "bilinear".
        fill: value outside the image, one number or one per channel.
        center: (x, y) that stays in place; None for the middle.

    Example:
        >>> RandomAffine(10, translate=(0.1, 0.1))(np.zeros((8, 8, 3), np.uint8), 0).shape
        (8, 8, 3)
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "nearest",
        fill: F.Fill = 0,
        center: Sequence[float] | None = None,
    ) -> None:
        self.degrees = limits(degrees, "RandomAffine", "degrees")
        if translate is not None and (len(translate) != 2 or not all(0 <= part <= 1 for part in translate)):
            raise ValueError(f"[RandomAffine] expected translate as two numbers in 0..1, got {translate}")
        if scale is not None and not 0 < scale[0] <= scale[1]:
            raise ValueError(f"[RandomAffine] expected a positive (min, max) for scale, got {scale}")
        self.translate = translate
        self.scale = scale
        self.shear = shear
        self.interpolation = F.checked_interpolation(interpolation, F.WARPING, "RandomAffine")
        self.fill = fill
        self.center = center
        self._shears = [(0.0, 0.0), (0.0, 0.0)]
        if shear is not None:
            parts = [shear] if isinstance(shear, (int, float)) else [shear[:2], shear[2:]]
            for axis, part in enumerate(part for part in parts if not isinstance(part, Sequence) or len(part)):
                self._shears[axis] = limits(part, "RandomAffine", "shear")

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        angle = random.uniform(*self.degrees)
        reach = [0.0, 0.0] if self.translate is None else [self.translate[0] * shape[1], self.translate[1] * shape[0]]
        return {
            "angle": angle,
            "translate": [round(random.uniform(-part, part)) for part in reach],
            "scale": 1.0 if self.scale is None else random.uniform(self.scale[0], self.scale[1]),
            "shear": [random.uniform(*part) for part in self._shears],
        }

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.affine(image, **params, interpolation=self.interpolation, fill=self.fill, center=self.center)


class RandomPerspective(RandomTransform):
    """Moves the four corners inwards at random, with probability `p`; not without random numbers.

    Args:
        distortion_scale: how far at most, in halves of the image, 0 to 1.
        p: the probability, 0 to 1.
        interpolation: "nearest" or "bilinear".
        fill: value outside the image, one number or one per channel.

    Example:
        >>> RandomPerspective(p=1.0)(np.zeros((8, 8, 3), np.uint8), 0).shape
        (8, 8, 3)
    """

    def __init__(
        self, distortion_scale: float = 0.5, p: float = 0.5, interpolation: str = "bilinear", fill: F.Fill = 0
    ) -> None:
        super().__init__(p)
        if not 0 <= distortion_scale <= 1:
            raise ValueError(f"[RandomPerspective] expected distortion_scale in 0..1, got {distortion_scale}")
        self.distortion_scale = distortion_scale
        self.interpolation = F.checked_interpolation(interpolation, F.WARPING, "RandomPerspective")
        self.fill = fill

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        height, width = shape[0], shape[1]
        rows, columns = (int(self.distortion_scale * (extent // 2)) + 1 for extent in (height, width))
        ends = []
        for right, bottom in ((False, False), (True, False), (True, True), (False, True)):
            x = random.integers(width - columns, width) if right else random.integers(0, columns)
            y = random.integers(height - rows, height) if bottom else random.integers(0, rows)
            ends.append((int(x), int(y)))
        starts = [(0, 0), (width - 1, 0), (width - 1, height - 1), (0, height - 1)]
        return {"coefficients": F.perspective_coefficients(starts, ends)}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.perspective(image, None, None, self.interpolation, self.fill, params["coefficients"])


class ElasticTransform(ImageTransform):
    """Moves every pixel at random, neighbours alike; not without random numbers.

    Args:
        alpha: the greatest displacement along x and y, in half pixels, before smoothing; one number or two.
        sigma: deviation in pixels of the Gaussian that smooths the displacements, one number or two; 0 for none.
        interpolation: "nearest" or "bilinear".
        fill: value outside the image, one number or one per channel.

    Example:
        >>> ElasticTransform(alpha=20.0)(np.zeros((12, 9, 3), np.uint8), 0).shape
        (12, 9, 3)
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 50.0,
        sigma: float | Sequence[float] = 5.0,
        interpolation: str = "bilinear",
        fill: F.Fill = 0,
    ) -> None:
        self.alpha = (float(alpha), float(alpha)) if isinstance(alpha, (int, float)) else (alpha[0], alpha[-1])
        self.sigma = (float(sigma), float(sigma)) if isinstance(sigma, (int, float)) else (sigma[0], sigma[-1])
        if min(self.sigma) < 0:
            raise ValueError(f"[ElasticTransform] expected sigma of at least 0, got {sigma}")
        self.interpolation = F.checked_interpolation(interpolation, F.WARPING, "ElasticTransform")
        self.fill = fill

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        from engine.data import _pixels

        field = np.asarray(random.uniform(-1.0, 1.0, size=(*shape[:2], 2)), np.float32)
        displacement = np.empty_like(field)
        for axis, extent in ((0, shape[1]), (1, shape[0])):
            one = np.ascontiguousarray(field[..., axis : axis + 1])
            if self.sigma[axis] > 0:
                taps = int(8 * self.sigma[axis] + 1) | 1
                weights = [F.gaussian_weights(taps, sigma if sigma > 0 else 1e-3) for sigma in self.sigma]
                one = _pixels.blur(one, *weights)
            displacement[..., axis] = one[..., 0] * np.float32(self.alpha[axis] / extent)
        return {"displacement": displacement}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return F.elastic(image, params["displacement"], self.interpolation, self.fill)
