"""Steps that follow one another at the end of a pipeline, done in one pass over the pixels.

Cutting out and resizing, mirroring, and bytes to floats: each by itself writes an image that the next one reads again.
Together they read the window once and write the model's input once. The result is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..random import SampleRandom
from .base import Transform, as_batch, checked_batch
from .conversion import Normalize, ToDtype, ToTensor
from .geometry import RandomHorizontalFlip, RandomResizedCrop


class ResizedCropNormalize(Transform):
    """`RandomResizedCrop`, `RandomHorizontalFlip` and `Normalize` in one pass.

    Args:
        crop: cuts out and resizes.
        flip: mirrors, or None.
        normalize: bytes to floats, for as many channels as the images have.

    Example:
        >>> steps = ResizedCropNormalize(RandomResizedCrop(4), None, Normalize((0.5,) * 3, (0.5,) * 3))
        >>> steps(np.zeros((9, 7, 3), np.uint8), 0).shape
        (3, 4, 4)
    """

    def __init__(self, crop: RandomResizedCrop, flip: RandomHorizontalFlip | None, normalize: Normalize) -> None:
        self.crop = crop
        self.flip = flip
        self.normalize = normalize

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> Any:
        windows = self.crop.draw(random, shape)
        flips = np.zeros(shape[0], np.uint8) if self.flip is None else self.flip.draw(random, shape)
        return windows, flips

    def apply(self, images: np.ndarray, parameters: Any) -> np.ndarray:
        images = checked_batch(images, self)
        pixels = np.empty((len(images), *self.crop.size, images.shape[3]), np.float32)
        for image, window, flip, out in zip(images, *parameters, pixels, strict=True):
            self._write(image, window, bool(flip), out)
        return pixels.transpose(0, 3, 1, 2)

    def into(self, image: Any, random: SampleRandom | None, out: np.ndarray) -> None:
        images = checked_batch(as_batch(image)[0], self)
        pixels = out.transpose(1, 2, 0)
        if pixels.shape != (*self.crop.size, images.shape[3]) or not pixels.flags.c_contiguous:
            super().into(image, random, out)
            return
        windows, flips = self.draw(random, images.shape)
        self._write(images[0], windows[0], bool(flips[0]), pixels)

    def _write(self, image: np.ndarray, window: dict[str, int], flip: bool, out: np.ndarray) -> None:
        from engine.data import _resize

        _resize.resize_normalized(
            image,
            window["top"],
            window["left"],
            window["height"],
            window["width"],
            out,
            self.crop.interpolation == "bicubic",
            self.crop.antialias,
            flip,
            self.normalize.table_for(image.shape[2]),
        )


def fused(transforms: Sequence[Transform]) -> list[Transform]:
    """Returns steps that do the same as the given ones, those at the end in one pass where that is possible.

    Args:
        transforms: the steps, first to last.

    Example:
        >>> len(fused([RandomResizedCrop(8), RandomHorizontalFlip(), Normalize((0.5,), (0.5,))]))
        1
    """
    steps = list(transforms)
    # Exact types: a subclass may do something else.
    kinds = [type(step) for step in steps]
    normalize: Transform | None = None
    if kinds[-1:] == [Normalize]:
        normalize = steps.pop()
        if kinds[-2:-1] == [ToTensor] or (kinds[-2:-1] == [ToDtype] and steps[-1].scale):  # type: ignore[attr-defined]
            steps.pop()
    flip = steps.pop() if normalize is not None and steps and type(steps[-1]) is RandomHorizontalFlip else None
    if (
        normalize is None
        or not steps
        or type(steps[-1]) is not RandomResizedCrop
        or "nearest" in steps[-1].interpolation
    ):
        return list(transforms)
    crop = steps.pop()
    return [*steps, ResizedCropNormalize(crop, flip, normalize)]  # type: ignore[arg-type]
