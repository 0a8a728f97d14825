"""Policies that choose among many transforms: AutoAugment, RandAugment, TrivialAugment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..random import Stream
from . import functional as F
from .base import ImageTransform

# Of each operation: the magnitudes by (bins, height, width), or None when it has none, and whether the sign is random.
_Space = dict[str, tuple[Callable[[int, int, int], np.ndarray] | None, bool]]


def _evenly(low: float, high: float) -> Callable[[int, int, int], np.ndarray]:
    return lambda bins, height, width: np.linspace(low, high, bins)


def _bits(fewer: int) -> Callable[[int, int, int], np.ndarray]:
    return lambda bins, height, width: np.rint(8 - np.arange(bins) / ((bins - 1) / fewer))


def _space(shear: float, rotation: float, colour: float, fewer_bits: int, shift: float | None = None) -> _Space:
    def along(axis: int) -> Callable[[int, int, int], np.ndarray]:
        if shift is not None:
            return _evenly(0.0, shift)
        return lambda bins, *extent: np.linspace(0.0, 150.0 / 331.0 * extent[axis], bins)

    space: _Space = {
        "Identity": (None, False),
        "ShearX": (_evenly(0.0, shear), True),
        "ShearY": (_evenly(0.0, shear), True),
        "TranslateX": (along(1), True),
        "TranslateY": (along(0), True),
        "Rotate": (_evenly(0.0, rotation), True),
    }
    space.update({name: (_evenly(0.0, colour), True) for name in ("Brightness", "Color", "Contrast", "Sharpness")})
    space["Posterize"] = (_bits(fewer_bits), False)
    space["Solarize"] = (_evenly(1.0, 0.0), False)
    space.update({"AutoContrast": (None, False), "Equalize": (None, False)})
    return space


_RAND = _space(shear=0.3, rotation=30.0, colour=0.9, fewer_bits=4)
_TRIVIAL = _space(shear=0.99, rotation=135.0, colour=0.99, fewer_bits=6, shift=32.0)
_AUTO: _Space = {**_RAND, "Invert": (None, False)}

# The policy found on ImageNet: pairs of (operation, probability, which of 10 magnitudes). Cubuk et al. 2019, table 9.
IMAGENET: tuple[tuple[tuple[str, float, int], ...], ...] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
    (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)


def apply_operation(
    image: np.ndarray, name: str, magnitude: float, interpolation: str = "nearest", fill: F.Fill = None
) -> np.ndarray:
    """Applies one operation of the policies.

    Args:
        image: (H, W, C) uint8 with 1 or 3 channels.
        name: "Identity", "ShearX", "Rotate", "Posterize" and so on.
        magnitude: in the operation's own unit; 0 where it has none.
        interpolation: "nearest" or "bilinear", where pixels move.
        fill: value outside the image, where pixels move.

    Example:
        >>> apply_operation(np.zeros((2, 2, 1), np.uint8), "Invert", 0.0)[0, 0]
        array([255], dtype=uint8)
    """
    slope = math.degrees(math.atan(magnitude)) if name.startswith("Shear") else 0.0
    moves: dict[str, dict[str, Any]] = {
        "ShearX": {"shear": (slope, 0.0), "center": (0, 0)},
        "ShearY": {"shear": (0.0, slope), "center": (0, 0)},
        "TranslateX": {"translate": (int(magnitude), 0)},
        "TranslateY": {"translate": (0, int(magnitude))},
    }
    if name in moves:
        given = {"angle": 0.0, "translate": (0, 0), "scale": 1.0, "shear": (0.0, 0.0), **moves[name]}
        return F.affine(image, interpolation=interpolation, fill=fill, **given)
    operations: dict[str, Callable[[], np.ndarray]] = {
        "Identity": lambda: image,
        "Rotate": lambda: F.rotate(image, magnitude, interpolation, fill=fill),
        "Brightness": lambda: F.adjust_brightness(image, 1.0 + magnitude),
        "Color": lambda: F.adjust_saturation(image, 1.0 + magnitude),
        "Contrast": lambda: F.adjust_contrast(image, 1.0 + magnitude),
        "Sharpness": lambda: F.adjust_sharpness(image, 1.0 + magnitude),
        "Posterize": lambda: F.posterize(image, int(magnitude)),
        "Solarize": lambda: F.solarize(image, 255.0 * magnitude),
        "AutoContrast": lambda: F.autocontrast(image),
        "Equalize": lambda: F.equalize(image),
        "Invert": lambda: F.invert(image),
    }
    if name not in operations:
        raise ValueError(f"[transforms] expected an operation of {', '.join([*moves, *operations])}, got {name!r}")
    return operations[name]()


class _Policy(ImageTransform):
    """Draws a list of (operation, magnitude) and applies them."""

    def __init__(self, interpolation: str, fill: F.Fill) -> None:
        self.interpolation = F.checked_interpolation(interpolation, F.WARPING, type(self).__name__)
        self.fill = fill

    @staticmethod
    def _operation(
        random: Stream, space: _Space, name: str, bins: int, which: int, shape: Sequence[int]
    ) -> tuple[str, float]:
        magnitudes, signed = space[name]
        magnitude = 0.0 if magnitudes is None else float(magnitudes(bins, shape[0], shape[1])[which])
        return name, -magnitude if magnitudes is not None and signed and random.uniform() < 0.5 else magnitude

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        for name, magnitude in params["operations"]:
            image = apply_operation(image, name, magnitude, self.interpolation, self.fill)
        return image


class RandAugment(_Policy):
    """Applies some operations drawn at random, all with the same magnitude; none without random numbers.

    Args:
        num_ops: how many operations.
        magnitude: which of the magnitudes, 0 to num_magnitude_bins - 1.
        num_magnitude_bins: how many magnitudes there are.
        interpolation: "nearest" or "bilinear", where pixels move.
        fill: value outside the image, one number or one per channel.

    Example:
        >>> RandAugment()(np.zeros((8, 8, 3), np.uint8), 0).shape
        (8, 8, 3)

    Method: Cubuk et al. 2020, arXiv 1909.13719.
    """

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        interpolation: str = "nearest",
        fill: F.Fill = None,
    ) -> None:
        super().__init__(interpolation, fill)
        if num_ops < 0 or num_magnitude_bins < 2 or not 0 <= magnitude < num_magnitude_bins:
            raise ValueError(
                f"[RandAugment] expected num_ops >= 0, at least 2 bins and a magnitude below them, got "
                f"num_ops={num_ops}, num_magnitude_bins={num_magnitude_bins}, magnitude={magnitude}"
            )
        self.num_ops = num_ops
        self.magnitude = magnitude
        self.num_magnitude_bins = num_magnitude_bins

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        names = [list(_RAND)[int(random.integers(0, len(_RAND)))] for _ in range(self.num_ops)]
        bins = self.num_magnitude_bins
        return {"operations": [self._operation(random, _RAND, name, bins, self.magnitude, shape) for name in names]}


class TrivialAugmentWide(_Policy):
    """Applies one operation drawn at random, with a random magnitude; none without random numbers.

    Args:
        num_magnitude_bins: how many magnitudes there are.
        interpolation: "nearest" or "bilinear", where pixels move.
        fill: value outside the image, one number or one per channel.

    Example:
        >>> TrivialAugmentWide()(np.zeros((8, 8, 3), np.uint8), 0).shape
        (8, 8, 3)

    Method: Müller and Hutter 2021, arXiv 2103.10158.
    """

    def __init__(self, num_magnitude_bins: int = 31, interpolation: str = "nearest", fill: F.Fill = None) -> None:
        super().__init__(interpolation, fill)
        if num_magnitude_bins < 2:
            raise ValueError(f"[TrivialAugmentWide] expected at least 2 bins, got {num_magnitude_bins}")
        self.num_magnitude_bins = num_magnitude_bins

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        name = list(_TRIVIAL)[int(random.integers(0, len(_TRIVIAL)))]
        which = int(random.integers(0, self.num_magnitude_bins))
        return {"operations": [self._operation(random, _TRIVIAL, name, self.num_magnitude_bins, which, shape)]}


class AutoAugment(_Policy):
    """Applies one of 25 pairs of operations, each with its probability and magnitude; none without random numbers.

    Args:
        policy: "imagenet", the policy that was found on ImageNet.
        interpolation: "nearest" or "bilinear", where pixels move.
        fill: value outside the image, one number or one per channel.

    Example:
        >>> AutoAugment()(np.zeros((8, 8, 3), np.uint8), 0).shape
        (8, 8, 3)

    Method: Cubuk et al. 2019, arXiv 1805.09501.
    """

    def __init__(self, policy: str = "imagenet", interpolation: str = "nearest", fill: F.Fill = None) -> None:
        super().__init__(interpolation, fill)
        if policy != "imagenet":
            raise ValueError(f'[AutoAugment] expected the policy "imagenet", got {policy!r}')
        self.policy = policy

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        chosen = IMAGENET[int(random.integers(0, len(IMAGENET)))]
        return {
            "operations": [
                self._operation(random, _AUTO, name, 10, which, shape)
                for name, probability, which in chosen
                if random.uniform() < probability
            ]
        }
