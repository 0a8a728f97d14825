"""Transforms of whole batches with their labels: every image is mixed with the one before it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..random import Stream


def soft_labels(labels: np.ndarray, num_classes: int | None, owner: str = "MixUp") -> np.ndarray:
    """Returns labels as float32 probabilities of shape (N, classes).

    Args:
        labels: (N) class numbers, or (N, classes) probabilities.
        num_classes: needed for class numbers.
        owner: for the error's text.

    Example:
        >>> soft_labels(np.array([1, 0]), 2)
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    if labels.ndim == 2 and (num_classes is None or labels.shape[1] == num_classes):
        return labels.astype(np.float32)
    if labels.ndim != 1 or num_classes is None:
        raise ValueError(
            f"[{owner}] expected class numbers (N) and num_classes, or probabilities (N, num_classes), got labels of "
            f"shape {labels.shape} and num_classes={num_classes}"
        )
    if labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(f"[{owner}] expected labels in 0..{num_classes - 1}, got {labels.min()} to {labels.max()}")
    result = np.zeros((len(labels), num_classes), np.float32)
    result[np.arange(len(labels)), labels.astype(np.int64)] = 1
    return result


def _mixed(values: np.ndarray, weight: float) -> np.ndarray:
    """weight * values + (1 - weight) * the ones before them, the last before the first; memory order kept."""
    result = values * np.float32(weight)
    rest = np.float32(1.0 - weight)
    result[1:] += rest * values[:-1]
    result[:1] += rest * values[-1:]
    return result


class _Mixing:
    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None) -> None:
        if not alpha > 0:
            raise ValueError(f"[{type(self).__name__}] expected a positive alpha, got {alpha}")
        self.alpha = float(alpha)
        self.num_classes = num_classes

    def make_params(self, random: Any, shape: Any) -> dict[str, Any]:
        """Returns the parameters for a batch.

        Args:
            random: a NumPy generator, or a stream of random numbers.
            shape: the batch's (N, C, H, W).
        """
        raise NotImplementedError

    def transform(self, images: np.ndarray, labels: np.ndarray, params: dict[str, Any]) -> tuple[Any, Any]:
        """Returns mixed images and mixed labels; the same parameters give the same values.

        Args:
            images: (N, C, H, W) float32.
            labels: (N, classes) float32.
            params: what `make_params` returned.
        """
        raise NotImplementedError

    def __call__(self, images: Any, labels: Any, random: Any = None) -> tuple[Any, Any]:
        """Returns mixed images and probabilities (N, classes); tensors for tensors, arrays for arrays.

        Args:
            images: (N, C, H, W) float32.
            labels: (N) class numbers, or (N, classes) probabilities.
            random: a NumPy generator or a number; None continues the sequence that `engine.manual_seed` starts.
        """
        from engine.tensor import Tensor, from_numpy

        name = type(self).__name__
        pixels = images.detach().numpy() if isinstance(images, Tensor) else np.asarray(images)
        classes = labels.detach().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
        if pixels.ndim != 4 or pixels.dtype != np.float32 or len(pixels) != len(classes):
            raise ValueError(
                f"[{name}] expected float32 images (N, C, H, W) and N labels, got {pixels.dtype} of shape "
                f"{pixels.shape} and labels of shape {classes.shape}"
            )
        if random is None:
            from engine.random import next_key

            seed, offset = next_key()
            random = Stream(Stream(seed).bits() ^ Stream(offset + 1).bits())
        elif isinstance(random, int):
            random = Stream(random)
        targets = soft_labels(classes, self.num_classes, name)
        mixed = self.transform(pixels, targets, self.make_params(random, pixels.shape))
        return (from_numpy(mixed[0]), from_numpy(mixed[1])) if isinstance(images, Tensor) else mixed

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, num_classes={self.num_classes})"


class MixUp(_Mixing):
    """Blends every image and its label with the one before it in the batch.

    The share lambda is drawn once per batch from the beta distribution (alpha, alpha).

    Args:
        alpha: 1 for uniform shares, less for shares near 0 and 1.
        num_classes: needed when labels are class numbers.

    Example:
        >>> images, labels = MixUp(num_classes=2)(np.ones((2, 3, 4, 4), np.float32), np.array([0, 1]), 0)
        >>> labels.sum(axis=1).round(5)
        array([1., 1.], dtype=float32)

    Method: Zhang et al. 2018, arXiv 1710.09412.
    """

    def make_params(self, random: Any, shape: Any) -> dict[str, Any]:
        return {"lam": float(random.beta(self.alpha, self.alpha))}

    def transform(self, images: np.ndarray, labels: np.ndarray, params: dict[str, Any]) -> tuple[Any, Any]:
        return _mixed(images, params["lam"]), _mixed(labels, params["lam"])


class CutMix(_Mixing):
    """Pastes a rectangle of the image before it into every image, and mixes the labels by area.

    Place and size are drawn once per batch, the area's share from the beta distribution (alpha, alpha).

    Args:
        alpha: 1 for uniform shares, less for shares near 0 and 1.
        num_classes: needed when labels are class numbers.

    Example:
        >>> images, labels = CutMix(num_classes=2)(np.ones((2, 3, 4, 4), np.float32), np.array([0, 1]), 0)
        >>> images.shape, labels.shape
        ((2, 3, 4, 4), (2, 2))

    Method: Yun et al. 2019, arXiv 1905.04899.
    """

    def make_params(self, random: Any, shape: Any) -> dict[str, Any]:
        share = float(random.beta(self.alpha, self.alpha))
        height, width = shape[2], shape[3]
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        side = 0.5 * math.sqrt(1.0 - share)
        half_w, half_h = int(side * width), int(side * height)
        x1, x2 = max(x - half_w, 0), min(x + half_w, width)
        y1, y2 = max(y - half_h, 0), min(y + half_h, height)
        return {"box": (x1, y1, x2, y2), "lam_adjusted": 1.0 - (x2 - x1) * (y2 - y1) / (width * height)}

    def transform(self, images: np.ndarray, labels: np.ndarray, params: dict[str, Any]) -> tuple[Any, Any]:
        x1, y1, x2, y2 = params["box"]
        result = images.copy(order="K")
        result[1:, :, y1:y2, x1:x2] = images[:-1, :, y1:y2, x1:x2]
        result[:1, :, y1:y2, x1:x2] = images[-1:, :, y1:y2, x1:x2]
        return result, _mixed(labels, params["lam_adjusted"])
