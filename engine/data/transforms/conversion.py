"""From bytes to what a model takes: floats with axes (N, C, H, W), channels-last in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import functional as F
from .base import Randomness, Transform, checked_batch

if TYPE_CHECKING:
    from engine.tensor import Tensor


class Normalize(Transform):
    """Bytes to floats: (value / 255 - mean) / std per channel, with the axes that models expect.

    torchvision's `ToDtype(float32, scale=True)` and `Normalize` in one pass. Floats, which `ToTensor` has made, are
    taken as they are: (value - mean) / std.

    Args:
        mean: one number per channel, in units of the 0..1 scale.
        std: one positive number per channel, likewise.

    Shape:
        (N, H, W, C) uint8, or (N, C, H, W) float32, to (N, C, H, W) float32, channels-last in memory.

    Example:
        >>> Normalize((0.5,), (0.5,))(np.array([[[0], [255]]], np.uint8))
        array([[[-1.,  1.]]], dtype=float32)
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = tuple(float(value) for value in mean)
        self.std = tuple(float(value) for value in std)
        if len(self.mean) != len(self.std) or not self.std or not all(value > 0 for value in self.std):
            raise ValueError(
                f"[Normalize] expected one mean and one positive std per channel, got mean={self.mean}, std={self.std}"
            )
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        self._table = np.ascontiguousarray(
            (levels - np.array(self.mean, np.float32)[:, None]) / np.array(self.std, np.float32)[:, None]
        )

    def apply(self, images: np.ndarray, parameters: Any = None) -> np.ndarray:
        from engine.data import _augment

        floats = images.ndim == 4 and images.dtype == np.float32
        if not floats:
            images = checked_batch(images, self)
        table = self.table_for(images.shape[1 if floats else 3])
        if floats:
            mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
            return np.asarray((images - mean) / std)
        return _augment.normalize(images, table).transpose(0, 3, 1, 2)

    def table_for(self, channels: int) -> np.ndarray:
        """Returns the float for each of the 256 values of each channel, of shape (channels, 256).

        Args:
            channels: how many the images have.

        Raises:
            ValueError: when there is not one mean and one std for each.
        """
        if channels != len(self.mean):
            raise ValueError(
                f"[Normalize] expected {len(self.mean)} channels, got images with {channels}: give one mean and one "
                f"std per channel"
            )
        return self._table


class ToTensor(Transform):
    """Bytes to floats in 0..1 with axes (N, C, H, W).

    Example:
        >>> float(ToTensor()(np.full((1, 2, 2, 3), 255, np.uint8)).max())
        1.0
    """

    def apply(self, images: np.ndarray, parameters: Any = None) -> np.ndarray:
        channels = checked_batch(images, self).shape[3]
        return Normalize((0.0,) * channels, (1.0,) * channels).apply(images)


class ToDtype(Transform):
    """Bytes to floats with axes (N, C, H, W).

    Args:
        dtype: float32.
        scale: bring 0..255 to 0..1; otherwise the values stay as they are.

    Example:
        >>> float(ToDtype(np.float32, scale=True)(np.full((1, 2, 2, 3), 255, np.uint8)).max())
        1.0
    """

    def __init__(self, dtype: Any = np.float32, scale: bool = False) -> None:
        if np.dtype(dtype) != np.float32:
            raise ValueError(f"[ToDtype] expected float32, got {np.dtype(dtype)}")
        self.dtype = "float32"
        self.scale = scale

    def apply(self, images: np.ndarray, parameters: Any = None) -> np.ndarray:
        images = checked_batch(images, self)
        return ToTensor().apply(images) if self.scale else images.astype(np.float32).transpose(0, 3, 1, 2)


class ImageClassification(Transform):
    """What pretrained classifiers were evaluated with: resize, cut out the middle, bytes to floats, normalise.

    The shorter side is brought to `resize_size` with antialiasing, the proportions kept; then the central square is cut
    out, from an image padded with black where it is smaller. Pillow images are resized by Pillow, arrays to within one
    level of what it makes.

    Args:
        crop_size: height and width of the result in pixels.
        resize_size: the shorter side before cutting, in pixels.
        interpolation: "bilinear" or "bicubic".
        mean: one number per channel on the 0..1 scale, subtracted.
        std: one number per channel, divided by.

    Shape:
        A Pillow image or (H, W, C) uint8 to a tensor (C, crop_size, crop_size); (N, H, W, C) uint8 to a tensor
        (N, C, crop_size, crop_size). Grey images are repeated for models that take colour.

    Raises:
        ValueError: sizes below 1, another interpolation.
        TypeError: neither a Pillow image nor an array of uint8.

    Example:
        >>> preset = ImageClassification(crop_size=4, resize_size=6)
        >>> preset(np.zeros((12, 8, 3), np.uint8)).shape
        (3, 4, 4)

    Follows torchvision.transforms._presets.ImageClassification.
    """

    @property
    def deterministic(self) -> bool:
        return True

    def __init__(
        self,
        *,
        crop_size: int,
        resize_size: int = 256,
        interpolation: str = "bilinear",
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        if min(crop_size, resize_size) < 1 or interpolation not in ("bilinear", "bicubic"):
            raise ValueError(
                f"[ImageClassification] expected sizes of at least 1 and bilinear or bicubic interpolation, got "
                f"crop_size={crop_size}, resize_size={resize_size}, interpolation={interpolation!r}"
            )
        self.crop_size = crop_size
        self.resize_size = resize_size
        self.interpolation = interpolation
        self._normalize = Normalize(mean, std)
        self.mean = self._normalize.mean
        self.std = self._normalize.std

    def __call__(self, images: Any, random: Randomness = None) -> Tensor:  # type: ignore[override]
        """Returns the model's input.

        Args:
            images: a Pillow image, or (H, W, C) or (N, H, W, C) uint8.
            random: not used: nothing here is random.
        """
        from engine.tensor import from_numpy

        single = True
        if hasattr(images, "resize") and hasattr(images, "convert"):
            pixels = self._resized_by_pillow(images)[None]
        else:
            if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim not in (3, 4):
                kind = type(images).__name__
                got = f"{images.dtype} of shape {images.shape}" if isinstance(images, np.ndarray) else kind
                raise TypeError(
                    "[ImageClassification] expected a Pillow image or uint8 of shape (H, W, C) or (N, H, W, C), "
                    f"got {got}"
                )
            single = images.ndim == 3
            pixels = self._resized(images[None] if single else images)
        result = self._normalize.apply(self._cropped(pixels))
        return from_numpy(result[0] if single else result)

    def apply(self, images: np.ndarray, parameters: Any = None) -> np.ndarray:
        return self._normalize.apply(self._cropped(self._resized(images)))

    def _resized_by_pillow(self, image: Any) -> np.ndarray:
        from PIL import Image

        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        height, width = F.resized_size(image.height, image.width, self.resize_size)
        return F.as_image(image.resize((width, height), Image.Resampling[self.interpolation.upper()]))

    def _resized(self, images: np.ndarray) -> np.ndarray:
        images = checked_batch(images, self)
        if 0 in images.shape:
            raise ValueError(f"[ImageClassification] expected images with pixels, got shape {images.shape}")
        if images.shape[3] == 1 and len(self.mean) > 1:
            images = np.repeat(images, len(self.mean), axis=3)
        return np.stack([F.resize(image, self.resize_size, self.interpolation) for image in images])

    def _cropped(self, images: np.ndarray) -> np.ndarray:
        return np.stack([F.center_crop(image, self.crop_size) for image in images])
