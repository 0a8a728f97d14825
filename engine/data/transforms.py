"""Transforms of uint8 images, in torchvision's names, on whole batches.

Each transform is two functions: `draw` takes random numbers and returns parameters, `apply` takes images and
parameters and is deterministic. Images are (N, H, W, C) or (H, W, C) uint8 until `Normalize` or `ToTensor` makes
them float32 with axes (N, C, H, W); the memory stays channels-last, as tensors keep it, so nothing is moved twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .random import SampleRandom

if TYPE_CHECKING:
    from engine.tensor import Tensor


class Transform:
    """A step between the dataset and the model: subclasses implement `apply`, and `draw` when they are random.

    Example:
        >>> shift = RandomCrop(4, padding=1)
        >>> images = np.full((2, 4, 4, 1), 255, np.uint8)
        >>> parameters = shift.draw(SampleRandom(0, epoch=0, indices=[0, 1]), images.shape)
        >>> shift.apply(images, parameters).shape
        (2, 4, 4, 1)
    """

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> Any:
        """Returns the parameters for a batch of images of the given (N, H, W, C) shape.

        Args:
            random: one stream per image; None asks for the centre of the distribution, as in evaluation.
            shape: the batch's shape.
        """
        return None

    def apply(self, images: np.ndarray, parameters: Any) -> np.ndarray:
        """Returns the transformed batch; the same parameters give the same bytes.

        Args:
            images: (N, H, W, C) uint8.
            parameters: what `draw` returned.
        """
        raise NotImplementedError(f"[{type(self).__name__}] implement apply(images, parameters)")

    def __call__(self, images: np.ndarray, random: SampleRandom | None = None) -> np.ndarray:
        """Draws and applies.

        Args:
            images: (N, H, W, C) or (H, W, C) uint8.
            random: one stream per image, or None.
        """
        if images.ndim == 3:
            return self(images[None], random)[0]
        return self.apply(images, self.draw(random, images.shape))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({arguments})"


def _batch(images: np.ndarray, owner: Transform) -> np.ndarray:
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            f"[{type(owner).__name__}] expected uint8 images of shape (N, H, W, C), got {images.dtype} of shape "
            f"{images.shape}: place it before Normalize or ToTensor"
        )
    return np.ascontiguousarray(images)


class Compose(Transform):
    """Transforms one after the other.

    Args:
        transforms: the steps, first to last.

    Example:
        >>> steps = Compose([RandomHorizontalFlip(), Normalize((0.5,), (0.5,))])
        >>> steps(np.zeros((2, 8, 8, 1), np.uint8)).shape
        (2, 1, 8, 8)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, images: np.ndarray, random: SampleRandom | None = None) -> np.ndarray:
        if images.ndim == 3:
            return self(images[None], random)[0]
        for transform in self.transforms:
            images = transform(images, random)
        return images

    def apply(self, images: np.ndarray, parameters: Any) -> np.ndarray:
        raise TypeError("[Compose] a later step's parameters depend on the earlier steps' result: call it instead")


class RandomCrop(Transform):
    """Cuts a window at a random place of the image padded with `fill`: with padding, a random integer shift.

    Follows torchvision's RandomCrop with constant padding. Without random numbers the window is the central one.

    Args:
        size: height and width of the window in pixels, or one number for both.
        padding: pixels added on each side before cropping.
        fill: the value of the padding, 0 to 255.

    Shape:
        (N, H, W, C) uint8 to (N, size, size, C) uint8.

    Raises:
        ValueError: when the window is larger than the padded image.

    Example:
        >>> RandomCrop(2)(np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1))[0, :, :, 0]
        array([[ 5,  6],
               [ 9, 10]], dtype=uint8)
    """

    def __init__(self, size: int | tuple[int, int], padding: int = 0, fill: int = 0) -> None:
        self.size = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        self.padding = padding
        self.fill = fill
        if min(self.size) < 1 or padding < 0 or not 0 <= fill <= 255:
            raise ValueError(
                f"[RandomCrop] expected size >= 1, padding >= 0 and fill in 0..255, got size={size}, "
                f"padding={padding}, fill={fill}"
            )

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        corners = []
        for extent, window in ((shape[1], self.size[0]), (shape[2], self.size[1])):
            room = extent + 2 * self.padding - window
            if room < 0:
                raise ValueError(
                    f"[RandomCrop] expected images of at least {self.size[0]} x {self.size[1]} pixels after padding by "
                    f"{self.padding}, got {shape[1]} x {shape[2]}: raise padding or resize first"
                )
            offsets = np.full(shape[0], room // 2, np.int64) if random is None else random.integers(0, room + 1)
            corners.append(offsets - self.padding)
        return corners[0], corners[1]

    def apply(self, images: np.ndarray, parameters: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        from . import _augment

        return _augment.crop(_batch(images, self), *parameters, *self.size, self.fill)


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
        from . import _augment

        return _augment.horizontal_flip(_batch(images, self), parameters)


class Normalize(Transform):
    """Bytes to floats: (value / 255 - mean) / std per channel, with the axes that models expect.

    torchvision's `ToDtype(float32, scale=True)` and `Normalize` in one pass.

    Args:
        mean: one number per channel, in units of the 0..1 scale.
        std: one positive number per channel, likewise.

    Shape:
        (N, H, W, C) uint8 to (N, C, H, W) float32, channels-last in memory.

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
        from . import _augment

        images = _batch(images, self)
        if images.shape[3] != len(self.mean):
            raise ValueError(
                f"[Normalize] expected {len(self.mean)} channels, got images of shape {images.shape}: give one mean "
                f"and one std per channel"
            )
        return _augment.normalize(images, self._table).transpose(0, 3, 1, 2)


class ToTensor(Transform):
    """Bytes to floats in 0..1 with axes (N, C, H, W).

    Example:
        >>> float(ToTensor()(np.full((1, 2, 2, 3), 255, np.uint8)).max())
        1.0
    """

    def apply(self, images: np.ndarray, parameters: Any = None) -> np.ndarray:
        channels = _batch(images, self).shape[3]
        return Normalize((0.0,) * channels, (1.0,) * channels).apply(images)


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

    def __call__(self, images: Any, random: SampleRandom | None = None) -> Tensor:  # type: ignore[override]
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

        images = _batch(images, self)
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
