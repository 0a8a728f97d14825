"""The deterministic functions behind the transforms: an image and its parameters in, an image out.

Images are Pillow images or uint8 arrays (H, W, C) or (H, W); results are uint8 arrays (H, W, C). Names, arguments and
rounding are those of torchvision.transforms.v2.functional on uint8 tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "adjust_sharpness",
    "affine",
    "as_image",
    "autocontrast",
    "center_crop",
    "crop",
    "elastic",
    "equalize",
    "erase",
    "gaussian_blur",
    "gaussian_noise",
    "horizontal_flip",
    "invert",
    "normalize",
    "pad",
    "perspective",
    "posterize",
    "resize",
    "resized_crop",
    "rgb_to_grayscale",
    "rotate",
    "solarize",
    "to_dtype",
    "vertical_flip",
]

_NEAREST = ("nearest", "nearest-exact")
WARPING = (*_NEAREST, "bilinear")
RESIZING = (*WARPING, "bicubic")
_PADDING_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}

Fill = float | Sequence[float] | None


def as_image(image: Any) -> np.ndarray:
    """Returns an image as a contiguous uint8 array (H, W, C).

    Pillow images with a palette or another colour space become RGB, those of one bit become grey.

    Args:
        image: a Pillow image or a uint8 array (H, W, C) or (H, W).

    Raises:
        TypeError: neither of them.

    Example:
        >>> as_image(np.zeros((4, 5), np.uint8)).shape
        (4, 5, 1)
    """
    if hasattr(image, "convert") and hasattr(image, "mode"):
        if image.mode not in ("L", "RGB", "RGBA", "LA"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        image = np.asarray(image)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        got = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"[transforms] expected a Pillow image or uint8 of shape (H, W, C) or (H, W), got {got}")
    return np.ascontiguousarray(image if image.ndim == 3 else image[..., None])


def checked_interpolation(name: str, known: Sequence[str], owner: str) -> str:
    """Returns the name when it is known.

    Args:
        name: of the interpolation.
        known: the names that may stand there.
        owner: for the error's text.

    Example:
        >>> checked_interpolation("bilinear", WARPING, "rotate")
        'bilinear'
    """
    if name not in known:
        raise ValueError(f"[{owner}] expected interpolation {', '.join(known)}, got {name!r}")
    return name


def resized_size(height: int, width: int, size: int | Sequence[int] | None, max_size: int | None = None) -> list[int]:
    """Returns height and width after `resize`.

    Args:
        height: before.
        width: before.
        size: the shorter side, or height and width; None to bring the longer side to `max_size`.
        max_size: the longer side is at most this, the proportions kept.

    Example:
        >>> resized_size(480, 640, 256), resized_size(480, 640, 256, max_size=300), resized_size(480, 640, (32, 32))
        ([256, 341], [225, 300], [32, 32])
    """
    if size is not None and not isinstance(size, int):
        if len(size) == 2:
            if max_size is not None:
                raise ValueError("[resize] expected max_size only with one number for the shorter side")
            return [int(size[0]), int(size[1])]
        size = int(size[0])
    short, long = min(height, width), max(height, width)
    if short < 1:
        raise ValueError(f"[resize] expected an image with pixels, got {height} x {width}")
    if size is None:
        if max_size is None:
            raise ValueError("[resize] expected size or max_size, got neither")
        new_short, new_long = int(max_size * short / long), max_size
    else:
        new_short, new_long = size, int(size * long / short)
        if max_size is not None:
            if max_size <= size:
                raise ValueError(f"[resize] expected max_size > size, got max_size={max_size}, size={size}")
            if new_long > max_size:
                new_short, new_long = int(max_size * new_short / new_long), max_size
    new_short = max(new_short, 1)
    return [new_long, new_short] if width <= height else [new_short, new_long]


def resize(
    image: Any,
    size: int | Sequence[int] | None,
    interpolation: str = "bilinear",
    max_size: int | None = None,
    antialias: bool = True,
) -> np.ndarray:
    """Resizes as Pillow does, within one level.

    Args:
        image: the image.
        size: the shorter side, or height and width; None to bring the longer side to `max_size`.
        interpolation: "nearest" (as in Pillow), "nearest-exact" (PyTorch's name for it; the two differ where a centre
            falls between two pixels), "bilinear" or "bicubic".
        max_size: the longer side is at most this, the proportions kept.
        antialias: average over what a result covers, rather than to look at 2 or 4 pixels only.

    Example:
        >>> resize(np.zeros((8, 6, 3), np.uint8), 3).shape
        (4, 3, 3)
    """
    image = as_image(image)
    height, width = resized_size(image.shape[0], image.shape[1], size, max_size)
    return resized_crop(image, 0, 0, image.shape[0], image.shape[1], (height, width), interpolation, antialias)


def resized_crop(
    image: Any,
    top: int,
    left: int,
    height: int,
    width: int,
    size: Sequence[int],
    interpolation: str = "bilinear",
    antialias: bool = True,
) -> np.ndarray:
    """Cuts a window out and resizes it, in one go.

    Args:
        image: the image.
        top: first row of the window, which lies inside the image.
        left: first column of the window.
        height: rows of the window.
        width: columns of the window.
        size: height and width of the result.
        interpolation: "nearest", "bilinear" or "bicubic".
        antialias: average over what a result covers.

    Example:
        >>> resized_crop(np.zeros((8, 6, 3), np.uint8), 1, 1, 4, 4, (2, 2)).shape
        (2, 2, 3)
    """
    from engine.data import _resize

    image = as_image(image)
    checked_interpolation(interpolation, RESIZING, "resize")
    out_h, out_w = int(size[0]), int(size[1])
    if (out_h, out_w) == (height, width):
        return crop(image, top, left, height, width)
    if interpolation in _NEAREST:
        exact = interpolation == "nearest-exact"
        return _resize.resize_nearest(image, top, left, height, width, out_h, out_w, exact)
    return _resize.resize(image, top, left, height, width, out_h, out_w, interpolation == "bicubic", antialias)


def crop(image: Any, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Cuts a window out; what lies outside the image is black.

    Args:
        image: the image.
        top: first row, may be negative.
        left: first column, may be negative.
        height: rows of the result.
        width: columns of the result.

    Example:
        >>> crop(np.full((2, 2, 1), 7, np.uint8), -1, 0, 2, 2)[:, :, 0]
        array([[0, 0],
               [7, 7]], dtype=uint8)
    """
    from engine.data import _augment

    image = as_image(image)
    if (top, left, height, width) == (0, 0, *image.shape[:2]):
        return image
    corner = np.array([[top], [left]], np.int64)
    return _augment.crop(image[None], corner[0], corner[1], height, width)[0]


def center_crop(image: Any, output_size: int | Sequence[int]) -> np.ndarray:
    """Cuts the middle out, of an image padded with black where it is smaller.

    Args:
        image: the image.
        output_size: height and width, or one number for both.

    Example:
        >>> center_crop(np.zeros((8, 3, 3), np.uint8), 4).shape
        (4, 4, 3)
    """
    image = as_image(image)
    size = (output_size, output_size) if isinstance(output_size, int) else (int(output_size[0]), int(output_size[1]))
    missing = [max(0, want - have) for want, have in zip(size, image.shape)]
    if any(missing):
        image = pad(image, (missing[1] // 2, missing[0] // 2, (missing[1] + 1) // 2, (missing[0] + 1) // 2))
    # round(), which takes halves to the even side, decides in torchvision, too.
    top, left = (round((have - want) / 2) for want, have in zip(size, image.shape))
    return crop(image, top, left, *size)


def parsed_padding(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    """Returns (left, top, right, bottom) from one number, from (horizontal, vertical) or from all four.

    Args:
        padding: one, two or four numbers.

    Example:
        >>> parsed_padding((1, 2))
        (1, 2, 1, 2)
    """
    if isinstance(padding, int):
        padding = (padding,)
    if len(padding) not in (1, 2, 4):
        raise ValueError(f"[pad] expected 1, 2 or 4 numbers, got {padding}")
    left, top = padding[0], padding[1 % len(padding)]
    return (left, top, padding[2], padding[3]) if len(padding) == 4 else (left, top, left, top)


def pad(image: Any, padding: int | Sequence[int], fill: Fill = 0, padding_mode: str = "constant") -> np.ndarray:
    """Adds a border.

    Args:
        image: the image.
        padding: pixels on all sides, or (horizontal, vertical), or (left, top, right, bottom).
        fill: the border's value, one number or one per channel.
        padding_mode: "constant", "edge", "reflect" (without repeating the border) or "symmetric" (with it).

    Example:
        >>> pad(np.zeros((2, 2, 1), np.uint8), (1, 0), fill=9)[0, :, 0]
        array([9, 0, 0, 9], dtype=uint8)
    """
    image = as_image(image)
    left, top, right, bottom = parsed_padding(padding)
    if padding_mode not in _PADDING_MODES:
        raise ValueError(f"[pad] expected padding_mode {', '.join(_PADDING_MODES)}, got {padding_mode!r}")
    if min(left, top, right, bottom) < 0:
        raise ValueError(f"[pad] expected padding of at least 0, got {padding}")
    height, width, channels = image.shape
    if padding_mode != "constant":
        mode: Any = _PADDING_MODES[padding_mode]
        return np.pad(image, ((top, bottom), (left, right), (0, 0)), mode=mode)
    result = np.empty((top + height + bottom, left + width + right, channels), np.uint8)
    result[...] = filling(fill, channels, "pad").astype(np.uint8)
    result[top : top + height, left : left + width] = image
    return result


def filling(fill: Fill, channels: int, owner: str) -> np.ndarray:
    """Returns the fill values, one float per channel.

    Args:
        fill: None, one number, or one per channel, of 0 to 255.
        channels: how many.
        owner: for the error's text.

    Example:
        >>> filling(3, 2, "pad")
        array([3., 3.], dtype=float32)
    """
    values = np.atleast_1d(np.asarray(0 if fill is None else fill, np.float32))
    if values.ndim != 1 or len(values) not in (1, channels) or not ((values >= 0) & (values <= 255)).all():
        raise ValueError(f"[{owner}] expected a fill of 0..255, one number or {channels}, got {fill}")
    return np.ascontiguousarray(np.broadcast_to(values, (channels,)))


def horizontal_flip(image: Any) -> np.ndarray:
    """Mirrors left to right.

    Args:
        image: the image.

    Example:
        >>> horizontal_flip(np.array([[1, 2]], np.uint8))[0, :, 0]
        array([2, 1], dtype=uint8)
    """
    from engine.data import _augment

    return _augment.horizontal_flip(as_image(image)[None], np.ones(1, np.uint8))[0]


def vertical_flip(image: Any) -> np.ndarray:
    """Mirrors top to bottom.

    Args:
        image: the image.

    Example:
        >>> vertical_flip(np.array([[1], [2]], np.uint8))[:, 0, 0]
        array([2, 1], dtype=uint8)
    """
    return np.ascontiguousarray(as_image(image)[::-1])


def _inverse_affine(
    center: Sequence[float], angle: float, translate: Sequence[float], scale: float, shear: Sequence[float]
) -> list[float]:
    """The matrix from the result's pixels, counted from the image's middle, to the image's.

    With rotation R, scale s and shears X, Y it is C (s R Y X)^-1 (T C)^-1; the determinant of R Y X is 1.
    """
    rotation, shear_x, shear_y = (math.radians(value) for value in (angle, *shear))
    a = math.cos(rotation - shear_y) / math.cos(shear_y)
    b = -(a * math.tan(shear_x) + math.sin(rotation))
    c = math.sin(rotation - shear_y) / math.cos(shear_y)
    d = math.cos(rotation) - c * math.tan(shear_x)
    row_x, row_y = (d / scale, -b / scale), (-c / scale, a / scale)
    from_x, from_y = center[0] + translate[0], center[1] + translate[1]
    return [
        *row_x,
        center[0] - row_x[0] * from_x - row_x[1] * from_y,
        *row_y,
        center[1] - row_y[0] * from_x - row_y[1] * from_y,
    ]


def _warp(
    image: np.ndarray, matrix: Sequence[float], size: Sequence[int], interpolation: str, fill: Fill
) -> np.ndarray:
    from engine.data import _pixels

    checked_interpolation(interpolation, WARPING, "affine")
    height, width, channels = image.shape
    half = np.array([[0.5 * max(width, 1)], [0.5 * max(height, 1)]], np.float32)
    rows = np.array(matrix, np.float32).reshape(2, 3) / half
    values = np.concatenate([rows.reshape(-1), np.zeros(2, np.float32)])
    fills = filling(fill, channels, "affine")
    nearest = interpolation in _NEAREST
    return _pixels.warp(image, values, size[0], size[1], True, nearest, fills, fill is not None)


def _from_middle(center: Sequence[float] | None, image: np.ndarray) -> list[float]:
    return [0.0, 0.0] if center is None else [center[0] - image.shape[1] * 0.5, center[1] - image.shape[0] * 0.5]


def rotate(
    image: Any,
    angle: float,
    interpolation: str = "nearest",
    expand: bool = False,
    center: Sequence[float] | None = None,
    fill: Fill = None,
) -> np.ndarray:
    """Rotates counter-clockwise.

    Args:
        image: the image.
        angle: in degrees.
        interpolation: "nearest" or "bilinear".
        expand: make the result large enough for the whole rotated image.
        center: (x, y) to rotate about; None for the middle.
        fill: value outside the image, one number or one per channel.

    Example:
        >>> rotate(np.array([[1, 2], [3, 4]], np.uint8), 90)[:, :, 0]
        array([[2, 4],
               [1, 3]], dtype=uint8)
    """
    image = as_image(image)
    angle = angle % 360
    quarters = {0.0: 0, 90.0: 1, 180.0: 2, 270.0: 3}.get(angle)
    if center is None and quarters is not None and (quarters % 2 == 0 or expand or image.shape[0] == image.shape[1]):
        return np.ascontiguousarray(np.rot90(image, quarters))
    matrix = _inverse_affine(_from_middle(center, image), -angle, (0.0, 0.0), 1.0, (0.0, 0.0))
    height, width = image.shape[:2]
    size = (height, width)
    if expand:
        corners = np.array([[x * width, y * height, 1.0] for x in (-0.5, 0.5) for y in (-0.5, 0.5)], np.float32)
        places = corners @ np.array(matrix, np.float32).reshape(2, 3).T
        # Whole pixels, but for what is rounding.
        low, high = (
            np.trunc((end + np.array([width, height], np.float32) / 2) * np.float32(1e4)) * np.float32(1e-4)
            for end in (places.min(axis=0), places.max(axis=0))
        )
        columns, rows = (np.ceil(high) - np.floor(low)).astype(int).tolist()
        size = (rows, columns)
    return _warp(image, matrix, size, interpolation, fill)


def affine(
    image: Any,
    angle: float,
    translate: Sequence[float],
    scale: float,
    shear: Sequence[float],
    interpolation: str = "nearest",
    fill: Fill = None,
    center: Sequence[float] | None = None,
) -> np.ndarray:
    """Shears, scales, rotates and translates, the size kept.

    Args:
        image: the image.
        angle: in degrees, clockwise.
        translate: pixels to the right and down.
        scale: the factor, positive.
        shear: degrees along x and along y.
        interpolation: "nearest" or "bilinear".
        fill: value outside the image, one number or one per channel.
        center: (x, y) that rotation, scale and shear leave in place; None for the middle.

    Example:
        >>> affine(np.array([[1, 2, 3]], np.uint8), 0, (1, 0), 1.0, (0, 0), fill=9)[0, :, 0]
        array([9, 1, 2], dtype=uint8)
    """
    image = as_image(image)
    if not scale > 0:
        raise ValueError(f"[affine] expected a positive scale, got {scale}")
    matrix = _inverse_affine(_from_middle(center, image), angle, translate, scale, shear)
    return _warp(image, matrix, image.shape, interpolation, fill)


def perspective_coefficients(
    startpoints: Sequence[Sequence[float]], endpoints: Sequence[Sequence[float]]
) -> tuple[float, ...]:
    """Returns (a, b, c, d, e, f, g, h): the result at (x, y) comes from ((ax + by + c) / w, (dx + ey + f) / w).

    There w is gx + hy + 1. Solved in the least squares sense in float64.

    Args:
        startpoints: four points (x, y) of the image.
        endpoints: where they go.

    Example:
        >>> square = [(0, 0), (9, 0), (9, 9), (0, 9)]
        >>> [round(value, 6) + 0.0 for value in perspective_coefficients(square, square)]
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    """
    if len(startpoints) != 4 or len(endpoints) != 4:
        raise ValueError(f"[perspective] expected 4 points, got {len(startpoints)} and {len(endpoints)}")
    rows = []
    for (x, y), (to_x, to_y) in zip(startpoints, endpoints):
        rows.append([to_x, to_y, 1, 0, 0, 0, -x * to_x, -x * to_y])
        rows.append([0, 0, 0, to_x, to_y, 1, -y * to_x, -y * to_y])
    wanted = np.array(startpoints, np.float64).reshape(8)
    solution = np.linalg.lstsq(np.array(rows, np.float64), wanted, rcond=None)[0]
    return tuple(solution.astype(np.float32).tolist())


def perspective(
    image: Any,
    startpoints: Sequence[Sequence[float]] | None,
    endpoints: Sequence[Sequence[float]] | None,
    interpolation: str = "bilinear",
    fill: Fill = None,
    coefficients: Sequence[float] | None = None,
) -> np.ndarray:
    """Moves four points, and all others with them as a camera would see a plane.

    Args:
        image: the image.
        startpoints: four points (x, y) of the image.
        endpoints: where they go.
        interpolation: "nearest" or "bilinear".
        fill: value outside the image, one number or one per channel.
        coefficients: instead of the points, what `perspective_coefficients` returned.

    Example:
        >>> corners = [(0, 0), (3, 0), (3, 3), (0, 3)]
        >>> perspective(np.full((4, 4, 1), 5, np.uint8), corners, corners)[2, :, 0]
        array([5, 5, 5, 5], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    checked_interpolation(interpolation, WARPING, "perspective")
    if coefficients is None:
        if startpoints is None or endpoints is None:
            raise ValueError("[perspective] expected startpoints and endpoints, or coefficients")
        coefficients = perspective_coefficients(startpoints, endpoints)
    height, width, channels = image.shape
    values = np.array(coefficients, np.float32)
    values[:3] /= np.float32(0.5 * max(width, 1))
    values[3:6] /= np.float32(0.5 * max(height, 1))
    fills = filling(fill, channels, "perspective")
    return _pixels.warp(image, values, height, width, False, interpolation in _NEAREST, fills, fill is not None)


def elastic(image: Any, displacement: np.ndarray, interpolation: str = "bilinear", fill: Fill = None) -> np.ndarray:
    """Takes every pixel from a place of its own.

    Args:
        image: the image.
        displacement: (H, W, 2) or (1, H, W, 2): how far to the right and down each pixel is taken from, in halves of
            the image's width and height.
        interpolation: "nearest" or "bilinear".
        fill: value outside the image, one number or one per channel.

    Example:
        >>> elastic(np.array([[1, 2]], np.uint8), np.full((1, 2, 2), (1.0, 0.0)), "nearest")[0, :, 0]
        array([2, 0], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    checked_interpolation(interpolation, WARPING, "elastic")
    height, width, channels = image.shape
    displacement = np.asarray(displacement, np.float32)
    if displacement.ndim == 4:
        displacement = displacement[0]
    if displacement.shape != (height, width, 2):
        raise ValueError(f"[elastic] expected displacements ({height}, {width}, 2), got {displacement.shape}")
    columns = np.linspace((1 - width) / width, (width - 1) / width, width).astype(np.float32)
    rows = np.linspace((1 - height) / height, (height - 1) / height, height).astype(np.float32)
    xs = np.ascontiguousarray(columns + displacement[..., 0])
    ys = np.ascontiguousarray(rows[:, None] + displacement[..., 1])
    fills = filling(fill, channels, "elastic")
    return _pixels.sample(image, xs, ys, interpolation in _NEAREST, fills, fill is not None)


# ---- colour


def _factor(value: float, owner: str) -> float:
    if not value >= 0:
        raise ValueError(f"[{owner}] expected a factor of at least 0, got {value}")
    return value


def _mapped(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values 0..255 mapped through a table: one row for all channels, or one for each; cut off and truncated."""
    from engine.data import _pixels

    table = np.clip(values, 0, 255).astype(np.uint8)
    return _pixels.lookup(image, np.ascontiguousarray(np.broadcast_to(table, (image.shape[2], 256))))


_LEVELS = np.arange(256, dtype=np.float32)


def adjust_brightness(image: Any, brightness_factor: float) -> np.ndarray:
    """Multiplies all values: 0 gives black, 1 the image itself.

    Args:
        image: the image.
        brightness_factor: at least 0.

    Example:
        >>> adjust_brightness(np.array([[100, 200]], np.uint8), 1.5)[0, :, 0]
        array([150, 255], dtype=uint8)
    """
    return _mapped(as_image(image), _LEVELS * np.float32(_factor(brightness_factor, "adjust_brightness")))


def adjust_contrast(image: Any, contrast_factor: float) -> np.ndarray:
    """Blends with the mean luminance: 0 gives grey, 1 the image itself.

    Args:
        image: the image, of 1 or 3 channels.
        contrast_factor: at least 0.

    Example:
        >>> adjust_contrast(np.array([[100, 200]], np.uint8), 0.5)[0, :, 0]
        array([125, 175], dtype=uint8)
    """
    image = as_image(image)
    factor = _factor(contrast_factor, "adjust_contrast")
    mean = np.float32(_luminance(image, "adjust_contrast").mean(dtype=np.float64)) if image.size else np.float32(0)
    return _mapped(image, _LEVELS * np.float32(factor) + mean * np.float32(1.0 - factor))


def _luminance(image: np.ndarray, owner: str) -> np.ndarray:
    from engine.data import _pixels

    if image.shape[2] not in (1, 3):
        raise ValueError(f"[{owner}] expected an image with 1 or 3 channels, got {image.shape[2]}")
    return image if image.shape[2] == 1 else _pixels.grayscale(image)


def adjust_saturation(image: Any, saturation_factor: float) -> np.ndarray:
    """Blends with the luminance: 0 gives grey, 1 the image itself. Grey images stay as they are.

    Args:
        image: the image, of 1 or 3 channels.
        saturation_factor: at least 0.

    Example:
        >>> adjust_saturation(np.array([[[200, 0, 0]]], np.uint8), 0.0)[0, 0]
        array([59, 59, 59], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    factor = _factor(saturation_factor, "adjust_saturation")
    return image if image.shape[2] == 1 else _pixels.saturate(image, factor, 1.0 - factor)


def adjust_hue(image: Any, hue_factor: float) -> np.ndarray:
    """Turns the colours. Grey images stay as they are.

    Args:
        image: the image, of 1 or 3 channels.
        hue_factor: part of the colour circle, -0.5 to 0.5.

    Example:
        >>> adjust_hue(np.array([[[255, 0, 0]]], np.uint8), 0.5)[0, 0]
        array([  0, 255, 255], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"[adjust_hue] expected hue_factor in -0.5..0.5, got {hue_factor}")
    return image if image.shape[2] == 1 else _pixels.shift_hue(image, hue_factor)


def adjust_sharpness(image: Any, sharpness_factor: float) -> np.ndarray:
    """Blends with a blurred image: 0 gives the blurred one, 1 the image itself, 2 a sharpened one.

    Args:
        image: the image.
        sharpness_factor: at least 0.

    Example:
        >>> adjust_sharpness(np.eye(3, dtype=np.uint8) * 130, 0.0)[1, 1]
        array([70], dtype=uint8)
    """
    from engine.data import _pixels

    return _pixels.sharpen(as_image(image), 1.0 - _factor(sharpness_factor, "adjust_sharpness"))


def rgb_to_grayscale(image: Any, num_output_channels: int = 1) -> np.ndarray:
    """Replaces colours by their luminance 0.2989 R + 0.587 G + 0.114 B.

    Args:
        image: the image, of 1 or 3 channels.
        num_output_channels: 1, or 3 for three equal channels.

    Example:
        >>> rgb_to_grayscale(np.full((2, 2, 3), 9, np.uint8), 3).shape
        (2, 2, 3)
    """
    image = as_image(image)
    if num_output_channels not in (1, 3):
        raise ValueError(f"[rgb_to_grayscale] expected 1 or 3 output channels, got {num_output_channels}")
    grey = _luminance(image, "rgb_to_grayscale")
    return grey if num_output_channels == 1 else np.repeat(grey, 3, axis=2)


def posterize(image: Any, bits: int) -> np.ndarray:
    """Keeps the upper bits of each value.

    Args:
        image: the image.
        bits: how many, 0 to 8.

    Example:
        >>> posterize(np.array([[255, 100]], np.uint8), 2)[0, :, 0]
        array([192,  64], dtype=uint8)
    """
    if not 0 <= bits <= 8:
        raise ValueError(f"[posterize] expected 0 to 8 bits, got {bits}")
    return np.asarray(as_image(image) & np.uint8((0xFF << (8 - bits)) & 0xFF))


def solarize(image: Any, threshold: float) -> np.ndarray:
    """Inverts the values from a threshold upwards.

    Args:
        image: the image.
        threshold: at most 255.

    Example:
        >>> solarize(np.array([[10, 250]], np.uint8), 128)[0, :, 0]
        array([10,  5], dtype=uint8)
    """
    if not threshold <= 255:
        raise ValueError(f"[solarize] expected a threshold of at most 255, got {threshold}")
    return _mapped(as_image(image), np.where(np.float32(threshold) <= _LEVELS, 255 - _LEVELS, _LEVELS))


def invert(image: Any) -> np.ndarray:
    """Exchanges dark and bright.

    Args:
        image: the image.

    Example:
        >>> invert(np.array([[0, 250]], np.uint8))[0, :, 0]
        array([255,   5], dtype=uint8)
    """
    return np.asarray(~as_image(image))


def autocontrast(image: Any) -> np.ndarray:
    """Stretches each channel's values to the whole range.

    Args:
        image: the image.

    Example:
        >>> autocontrast(np.array([[100, 190]], np.uint8))[0, :, 0]
        array([  0, 255], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    if image.size == 0:
        return image
    seen = _pixels.histogram(image) > 0
    low = seen.argmax(axis=1).astype(np.float32)[:, None]
    high = (255 - seen[:, ::-1].argmax(axis=1)).astype(np.float32)[:, None]
    same = low == high
    scale = np.where(same, np.float32(1), (high - low) * np.float32(1 / 255))
    return _mapped(image, (_LEVELS - np.where(same, np.float32(0), low)) / scale)


def equalize(image: Any) -> np.ndarray:
    """Makes each channel's values as evenly distributed as a mapping can.

    Args:
        image: the image.

    Example:
        >>> equalize(np.arange(4, dtype=np.uint8).reshape(2, 2) // 2)[:, 0, 0]
        array([0, 1], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    if image.size == 0:
        return image
    counts = _pixels.histogram(image)
    summed = counts.cumsum(axis=1)
    last = 255 - (counts[:, ::-1] > 0).argmax(axis=1)
    step = (summed[:, -1] - counts[np.arange(len(counts)), last])[:, None] // 255
    table = np.zeros((len(counts), 256))
    table[:, 1:] = (summed[:, :-1] + step // 2) // np.maximum(step, 1)
    return _mapped(image, np.where(step == 0, _LEVELS, table))


# ---- neighbourhoods, noise, holes


def gaussian_weights(size: int, sigma: float) -> np.ndarray:
    """Returns the weights of a Gaussian blur, which sum to 1.

    Args:
        size: how many, odd.
        sigma: the deviation in pixels.

    Example:
        >>> gaussian_weights(3, 1.0).sum().round(6)
        np.float32(1.0)
    """
    places = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    weights = np.exp(-0.5 * (places / np.float32(sigma)) ** 2)
    return np.asarray(weights / weights.sum(), np.float32)


def gaussian_blur(
    image: Any, kernel_size: int | Sequence[int], sigma: float | Sequence[float] | None = None
) -> np.ndarray:
    """Blurs, the image being mirrored at its borders.

    Args:
        image: the image.
        kernel_size: odd numbers of pixels along x and along y, or one for both.
        sigma: deviations along x and along y, or one for both; None for 0.15 kernel_size + 0.35.

    Example:
        >>> gaussian_blur(np.full((4, 4, 3), 7, np.uint8), 3)[0, 0]
        array([7, 7, 7], dtype=uint8)
    """
    from engine.data import _pixels

    image = as_image(image)
    sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
    if sigma is None:
        sigmas: tuple[float, ...] = tuple(size * 0.15 + 0.35 for size in sizes)
    elif isinstance(sigma, Sequence):
        sigmas = (sigma[0], sigma[-1])
    else:
        sigmas = (sigma, sigma)
    if len(sizes) != 2 or any(size < 1 or size % 2 == 0 for size in sizes) or not all(value > 0 for value in sigmas):
        raise ValueError(
            f"[gaussian_blur] expected odd sizes and positive sigmas, got kernel_size={kernel_size}, sigma={sigma}"
        )
    weights = [gaussian_weights(size, value) for size, value in zip(sizes, sigmas)]
    return np.rint(_pixels.blur(image.astype(np.float32), *weights)).astype(np.uint8)


@functools.cache
def _normal_quantiles() -> np.ndarray:
    """65536 equally likely values of the normal distribution, up to 4.3 deviations from 0."""
    from statistics import NormalDist

    upper = [NormalDist().inv_cdf((i + 0.5) / 65536) for i in range(32768, 65536)]
    values = np.array(upper)
    return np.concatenate([-values[::-1], values])


def gaussian_noise(image: Any, mean: float = 0.0, sigma: float = 0.1, clip: bool = True, seed: int = 0) -> np.ndarray:
    """Adds normally distributed noise, independent in every value.

    Args:
        image: the image.
        mean: on the 0..1 scale.
        sigma: deviation on the 0..1 scale.
        clip: cut off what leaves the range of values, rather than to let it wrap around.
        seed: decides all noise.

    Example:
        >>> image = np.full((2, 2, 3), 128, np.uint8)
        >>> bool((gaussian_noise(image, seed=1) == gaussian_noise(image, seed=1)).all())
        True
    """
    from engine.data import _pixels

    if not sigma >= 0:
        raise ValueError(f"[gaussian_noise] expected sigma of at least 0, got {sigma}")
    levels = (mean * 255 + sigma * 255 * _normal_quantiles()).astype(np.float32)
    return _pixels.add_noise(as_image(image), levels, clip, seed % 2**64)


def erase(image: Any, i: int, j: int, h: int, w: int, v: Any) -> np.ndarray:
    """Overwrites a rectangle.

    Args:
        image: the image.
        i: first row.
        j: first column.
        h: rows.
        w: columns.
        v: what to write: one number, one per channel, or (h, w, C).

    Example:
        >>> erase(np.ones((2, 3), np.uint8), 0, 1, 1, 2, 7)[:, :, 0]
        array([[1, 7, 7],
               [1, 1, 1]], dtype=uint8)
    """
    result = as_image(image).copy()
    result[i : i + h, j : j + w] = v
    return result


# ---- to floats


def to_dtype(image: Any, dtype: Any = np.float32, scale: bool = False) -> np.ndarray:
    """Converts to floats with axes (C, H, W), which stay channels-last in memory.

    Args:
        image: the image.
        dtype: float32; or uint8, which changes the axes only.
        scale: bring 0..255 to 0..1.

    Example:
        >>> to_dtype(np.full((2, 2, 3), 255, np.uint8), scale=True).max()
        np.float32(1.0)
    """
    image = as_image(image)
    if np.dtype(dtype) not in (np.float32, np.uint8):
        raise ValueError(f"[to_dtype] expected float32 or uint8, got {np.dtype(dtype)}")
    if scale and np.dtype(dtype) == np.float32:
        return normalize(image, (0.0,) * image.shape[2], (1.0,) * image.shape[2])
    return image.astype(dtype, copy=False).transpose(2, 0, 1)


def normalize(image: Any, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Bytes to floats: (value / 255 - mean) / std per channel, axes (C, H, W), channels-last in memory.

    Args:
        image: the image.
        mean: one number per channel, on the 0..1 scale.
        std: one positive number per channel, likewise.

    Example:
        >>> normalize(np.array([[0, 255]], np.uint8), (0.5,), (0.5,))
        array([[[-1.,  1.]]], dtype=float32)
    """
    from .conversion import Normalize

    return Normalize(mean, std).apply(as_image(image)[None])[0]
