"""From bytes to what a model takes: floats with axes (N, C, H, W), channels-last in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

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
        if images.shape[1 if floats else 3] != len(self.mean):
            raise ValueError(
                f"[Normalize] expected {len(self.mean)} channels, got images of shape {images.shape}: give one mean "
                f"and one std per channel"
            )
        if floats:
            mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
            return np.asarray((images - mean) / std)
        return _augment.normalize(images, self._table).transpose(0, 3, 1, 2)


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
    out, from an image padded with black where it is smaller. Pillow images are resized by Pillow, arrays by the
    engine, rows first; the two differ by one level of 255 at most, and by more only where bicubic interpolation
    overshoots black or white in an image that Pillow resizes columns first, as newer versions do with tall ones.

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

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing: the longer side is rounded down."""
        if height <= width:
            return self.resize_size, max(1, int(self.resize_size * width / height))
        return max(1, int(self.resize_size * height / width)), self.resize_size

    def _resized_by_pillow(self, image: Any) -> np.ndarray:
        from PIL import Image

        grey = len(self.mean) == 1
        image = image.convert("L" if grey else "RGB")
        height, width = self._size(image.height, image.width)
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        pixels = np.asarray(image)
        return pixels[..., None] if grey else pixels

    def _resized(self, images: np.ndarray) -> np.ndarray:
        from engine.functional import interpolate
        from engine.tensor import from_numpy

        images = checked_batch(images, self)
        if 0 in images.shape:
            raise ValueError(f"[ImageClassification] expected images with pixels, got shape {images.shape}")
        if images.shape[3] == 1 and len(self.mean) > 1:
            images = np.repeat(images, len(self.mean), axis=3)
        height, width = self._size(*images.shape[1:3])
        # As Pillow: first the rows, then the columns, with bytes between them. Channels-last pixels seen through
        # channels-first axes are a tensor's own layout.
        for size in ((images.shape[1], width), (height, width)):
            if size != images.shape[1:3]:
                floats = from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2))
                resized = interpolate(floats, size=size, mode=self.interpolation, align_corners=False, antialias=True)
                images = np.clip(resized.numpy() + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        return images

    def _cropped(self, images: np.ndarray) -> np.ndarray:
        missing = [max(0, self.crop_size - extent) for extent in images.shape[1:3]]
        if any(missing):
            before = [extent // 2 for extent in missing]
            pads = [(low, extent - low) for low, extent in zip(before, missing, strict=True)]
            images = np.pad(images, [(0, 0), *pads, (0, 0)])
        # round(), which takes halves to the even side, decides in torchvision, too.
        top, left = (round((extent - self.crop_size) / 2) for extent in images.shape[1:3])
        return np.ascontiguousarray(images[:, top : top + self.crop_size, left : left + self.crop_size])
