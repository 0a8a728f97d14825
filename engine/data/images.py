"""From image files and stored images to a model's inputs.

`Preprocessing` is a few numbers, saved in every checkpoint, so that a picture given later meets the same treatment as
the images of the training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .decode import ImageError, read_image
from .transforms import CenterCrop, Compose, Normalize, Resize
from .transforms.functional import resize as resize_image


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image before a model sees it.

    Attributes:
        size: height and width of the model's input in pixels.
        mean: one number per channel on the 0..1 scale, subtracted.
        std: one number per channel, divided by.
        kind: "image" for images as they are; "digit" for drawings of one digit, which are brought to the form of the
            packaged digits: bright ink on black, filling 8 rows of cells, each cell the share of its area with ink.
        resize_size: the shorter side is brought to so many pixels, then the middle of `size` is cut out; None brings
            both sides to `size`, whatever the image's proportions.
        interpolation: "bilinear" or "bicubic".

    Example:
        >>> steps = Preprocessing(size=(32, 32), mean=(0.3,), std=(0.4,), kind="digit")
        >>> steps.resize(np.zeros((5, 8, 8, 1), np.uint8)).shape
        (5, 32, 32, 1)
        >>> Preprocessing.from_dict(steps.to_dict()) == steps
        True
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str = "image"
    resize_size: int | None = None
    interpolation: str = "bilinear"

    @property
    def channels(self) -> int:
        """Channels of the model's input."""
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON can hold them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """Makes one from what `to_dict` returned.

        Args:
            fields: the fields by name.
        """
        size = (int(fields["size"][0]), int(fields["size"][1]))
        return cls(
            size,
            tuple(fields["mean"]),
            tuple(fields["std"]),
            fields["kind"],
            fields.get("resize_size"),
            fields.get("interpolation", "bilinear"),
        )

    def resize(self, images: np.ndarray) -> np.ndarray:
        """Brings stored images to the model's size, bilinearly and with antialiasing where they shrink.

        Args:
            images: (N, H, W, C) uint8.

        Returns:
            (N, height, width, C) uint8.
        """
        return resize(images, self.size)

    def normalize(self) -> Normalize:
        """Returns the transform from resized uint8 images to model inputs."""
        return Normalize(self.mean, self.std)

    def geometry(self) -> Compose:
        """Returns the transform from uint8 images of any size to resized ones."""
        if self.resize_size is None:
            return Compose([Resize(self.size, self.interpolation)])
        return Compose([Resize(self.resize_size, self.interpolation), CenterCrop(self.size)])

    def transform(self) -> Compose:
        """Returns the transform from uint8 images of any size to model inputs.

        Example:
            >>> steps = Preprocessing((4, 4), (0.5,), (0.5,), resize_size=6).transform()
            >>> steps(np.zeros((12, 9, 1), np.uint8)).shape
            (1, 4, 4)
        """
        return Compose([*self.geometry().transforms, self.normalize()])

    def load(self, path: str | os.PathLike[str], invert: bool | None = None) -> np.ndarray:
        """Reads an image file and brings it to the model's size.

        Args:
            path: the file.
            invert: exchange dark and bright first. None decides for digits by the border, which is taken for paper, and
                leaves other images as they are.

        Returns:
            (height, width, C) uint8.

        Raises:
            ImageError: when the file is no readable image, or there is no digit on it.
        """
        image = read_image(path, self.channels)
        if self.kind == "digit":
            try:
                image = as_digit(image[:, :, 0], invert)[:, :, None]
            except ImageError as error:
                raise ImageError(f"{os.fspath(path)}: {error}") from error
        elif invert:
            image = 255 - image
        if self.resize_size is None and self.interpolation == "bilinear":
            return self.resize(image[None])[0]
        return self.geometry()(image)


def resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes uint8 images bilinearly, with antialiasing where they shrink.

    Args:
        images: (N, H, W, C) uint8.
        size: height and width in pixels.

    Returns:
        (N, height, width, C) uint8; the input itself when it has this size.

    Example:
        >>> resize(np.full((2, 8, 8, 3), 7, np.uint8), (4, 4))[1, 0, 0]
        array([7, 7, 7], dtype=uint8)
    """
    if images.shape[1:3] == tuple(size):
        return images
    if not len(images):
        return np.empty((0, *size, images.shape[3]), np.uint8)
    return np.stack([resize_image(image, size) for image in images])


# The packaged digits: 8 x 8 cells, the digit filling all rows and rarely more than columns 1 to 6.
_CELLS = 8
_COLUMNS = (3.0, 6.5)


def as_digit(image: np.ndarray, invert: bool | None = None) -> np.ndarray:
    """Brings a drawing of one digit to the form of the packaged digits.

    The ink is cut out, scaled to the full height with its proportions (narrow ones are widened to 3 cells), centred,
    and averaged over each cell; contrast is stretched to the full range.

    Args:
        image: (H, W) grey values, uint8.
        invert: True when the ink is darker than the paper, False when it is brighter; None compares the border, which
            is taken for paper, with the whole.

    Returns:
        (8, 8) uint8, 255 where a cell is full of ink.

    Raises:
        ImageError: when the image is of one colour.

    Example:
        >>> page = np.full((40, 40), 255, np.uint8)
        >>> page[5:35, 18:22] = 0
        >>> as_digit(page)[3]
        array([  0,   0, 128, 255, 255, 128,   0,   0], dtype=uint8)
    """
    grey = image.astype(np.float64)
    low, high = grey.min(), grey.max()
    if high - low < 8:
        raise ImageError("the image is blank: no digit on it")
    border = np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]))
    if invert is None:
        invert = bool(border > (low + high) / 2)
    ink = (high - grey if invert else grey - low) / (high - low)
    # What is no darker than the paper is no ink; scans have grey paper.
    paper = min(float((high - border if invert else border - low) / (high - low)), 0.5)
    ink = np.clip((ink - paper) / (1 - paper), 0, 1)
    rows, columns = np.flatnonzero((ink > 0.35).any(axis=1)), np.flatnonzero((ink > 0.35).any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1.0, columns[0], columns[-1] + 1.0
    height, width = ink.shape
    if height == width and top == 0 and bottom == height:
        left, right = 0.0, float(width)  # already in this form
    else:
        cell = (right - left) / np.clip((right - left) / ((bottom - top) / _CELLS), *_COLUMNS)
        centre = (left + right) / 2
        left, right = centre - _CELLS / 2 * cell, centre + _CELLS / 2 * cell
    cells = _averaged(_averaged(ink, top, bottom).T, left, right).T
    return np.asarray(cells / cells.max() * 255 + 0.5).astype(np.uint8)


def _averaged(image: np.ndarray, begin: float, end: float) -> np.ndarray:
    """Means over 8 equal intervals of the first axis between two places, which may lie outside, where all is 0."""
    sums = np.concatenate([np.zeros((1, image.shape[1])), np.cumsum(image, axis=0)])
    edges = np.clip(np.linspace(begin, end, _CELLS + 1), 0, len(image))
    whole = np.minimum(edges.astype(np.int64), len(image) - 1)
    at_edges = sums[whole] + (edges - whole)[:, None] * (sums[whole + 1] - sums[whole])
    means: np.ndarray = np.diff(at_edges, axis=0) * (_CELLS / (end - begin))
    return means


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation per channel on the 0..1 scale, rounded to 4 digits.

    Args:
        images: (N, H, W, C) uint8, at least one.

    Example:
        >>> statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
        ((0.5,), (0.5,))
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[3]):
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256)
        mean = float(counts @ values / counts.sum())
        means.append(round(mean, 4))
        deviations.append(round(max(float(counts @ (values - mean) ** 2 / counts.sum()) ** 0.5, 1e-4), 4))
    return tuple(means), tuple(deviations)


def as_images(array: np.ndarray) -> np.ndarray:
    """Checks stored images and gives them a channel axis.

    Args:
        array: (N, H, W) or (N, H, W, C) uint8 with 1 or 3 channels.

    Returns:
        (N, H, W, C) uint8.

    Raises:
        ValueError: for another type or shape.
    """
    shape: Sequence[int] = array.shape
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        raise ValueError(
            f"[data] expected uint8 images of shape (N, H, W) or (N, H, W, 1 or 3), got {array.dtype} of shape {shape}"
        )
    return array
