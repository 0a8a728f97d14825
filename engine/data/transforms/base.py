"""What a transform is: parameters drawn on one side, a deterministic function of them on the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..random import SampleRandom, Stream
from .functional import as_image

Randomness = SampleRandom | np.random.Generator | int | None


def as_batch(images: Any) -> tuple[np.ndarray, bool]:
    """Returns images as a batch, and whether it is one image only.

    Args:
        images: a batch with four axes, or one image, of Pillow or an array.

    Example:
        >>> as_batch(np.zeros((4, 5, 3), np.uint8))[0].shape
        (1, 4, 5, 3)
    """
    if isinstance(images, np.ndarray):
        if images.ndim == 4:
            return images, False
        if images.ndim == 3:
            return images[None], True
    return as_image(images)[None], True


def as_random(random: Randomness, count: int) -> SampleRandom | None:
    """Returns a stream for each of `count` images.

    Args:
        random: the streams themselves, or what to seed them with; None stays None.
        count: the number of images.

    Example:
        >>> len(as_random(5, 3))
        3
    """
    if random is None or isinstance(random, SampleRandom):
        return random
    seed = int(random.integers(2**63)) if isinstance(random, np.random.Generator) else int(random)
    return SampleRandom(seed, 0, np.arange(count))


class Transform:
    """A step between the dataset and the model: subclasses implement `apply`, and `draw` when they are random.

    Example:
        >>> from engine.data import RandomCrop
        >>> shift = RandomCrop(4, padding=1)
        >>> images = np.full((2, 4, 4, 1), 255, np.uint8)
        >>> parameters = shift.draw(SampleRandom(0, epoch=0, indices=[0, 1]), images.shape)
        >>> shift.apply(images, parameters).shape
        (2, 4, 4, 1)
    """

    @property
    def deterministic(self) -> bool:
        """Whether the same images always become the same, so that what is computed from them may be kept."""
        return type(self).draw is Transform.draw and type(self).__call__ is Transform.__call__

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

    def __call__(self, images: Any, random: Randomness = None) -> np.ndarray:
        """Draws and applies.

        Args:
            images: (N, H, W, C) uint8, or one image: (H, W, C) or (H, W) uint8, or a Pillow image.
            random: one stream per image, or a NumPy generator or a number to seed them with; None for evaluation.
        """
        images, single = as_batch(images)
        result = self.apply(images, self.draw(as_random(random, len(images)), images.shape))
        return result[0] if single else result

    def into(self, image: Any, random: SampleRandom | None, out: np.ndarray) -> None:
        """Writes the transformed image into `out`, which has its shape.

        Args:
            image: one image, as for a call.
            random: its stream; None for evaluation.
            out: an array, for example one entry of a batch.
        """
        result: Any = self(image, random)
        out[...] = result.numpy() if hasattr(result, "detach") else result

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({arguments})"


class ImageTransform(Transform):
    """A transform that works image by image: subclasses implement `transform`, and `make_params` when they are random.

    Without random numbers `make_params` is not called: `centre` gives the parameters, and None leaves the image alone.

    Example:
        >>> class Shift(ImageTransform):
        ...     def make_params(self, random, shape):
        ...         return {"levels": random.integers(0, 9)}
        ...     def transform(self, image, params):
        ...         return image + np.uint8(params["levels"])
        >>> Shift()(np.zeros((2, 2, 1), np.uint8)).max()
        np.uint8(0)
    """

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        """Returns the parameters for one image; None to leave it as it is.

        Args:
            random: the image's random numbers; a NumPy generator will do for most transforms.
            shape: the image's (H, W, C).
        """
        return self.centre(shape)

    def centre(self, shape: Sequence[int]) -> dict[str, Any] | None:
        """Returns the parameters to use without random numbers.

        Args:
            shape: the image's (H, W, C).
        """
        return None

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        """Returns the transformed image; the same parameters give the same bytes.

        Args:
            image: (H, W, C) uint8.
            params: what `make_params` returned.
        """
        raise NotImplementedError(f"[{type(self).__name__}] implement transform(image, params)")

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> list[dict[str, Any] | None]:
        if random is None:
            return [self.centre(shape[1:])] * shape[0]
        return [self.make_params(stream, shape[1:]) for stream in random.streams()]

    def apply(self, images: np.ndarray, parameters: Sequence[dict[str, Any] | None]) -> np.ndarray:
        images = checked_batch(images, self)
        if len(parameters) != len(images):
            raise ValueError(
                f"[{type(self).__name__}] expected random numbers for {len(images)} images, got them for "
                f"{len(parameters)}"
            )
        results = [
            image if params is None else self.transform(image, params)
            for image, params in zip(images, parameters, strict=True)
        ]
        if len(results) == 1:
            return results[0][None]
        return np.stack(results) if results else self.transformed_empty(images)

    def transformed_empty(self, images: np.ndarray) -> np.ndarray:
        """Returns what becomes of a batch without images.

        Args:
            images: (0, H, W, C) uint8.
        """
        one = np.zeros((1, *images.shape[1:]), np.uint8)
        return self.apply(one, self.draw(None, one.shape))[:0]


class FixedTransform(ImageTransform):
    """An `ImageTransform` without anything random in it."""

    @property
    def deterministic(self) -> bool:
        return True

    def centre(self, shape: Sequence[int]) -> dict[str, Any] | None:
        return {}


class RandomTransform(ImageTransform):
    """An `ImageTransform` that leaves an image alone, except with probability `p`.

    Args:
        p: the probability, 0 to 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"[{type(self).__name__}] expected a probability p in 0..1, got {p}")
        self.p = p

    def draw(self, random: SampleRandom | None, shape: Sequence[int]) -> list[dict[str, Any] | None]:
        if random is None:
            return [self.centre(shape[1:])] * shape[0]
        return [
            self.make_params(stream, shape[1:]) if stream.uniform() < self.p else None for stream in random.streams()
        ]

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        return {}


def checked_batch(images: np.ndarray, owner: Transform) -> np.ndarray:
    """Returns a contiguous batch of uint8 images, or says what is wrong with it."""
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
        >>> from engine.data import Normalize, RandomHorizontalFlip
        >>> steps = Compose([RandomHorizontalFlip(), Normalize((0.5,), (0.5,))])
        >>> steps(np.zeros((2, 8, 8, 1), np.uint8)).shape
        (2, 1, 8, 8)
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    @property
    def deterministic(self) -> bool:
        return all(getattr(transform, "deterministic", False) for transform in self.transforms)

    def __call__(self, images: Any, random: Randomness = None) -> np.ndarray:
        from .fusion import fused

        images, single = as_batch(images)
        streams = as_random(random, len(images))
        for transform in fused(self.transforms):
            images = transform(images, streams)
        return images[0] if single else images

    def into(self, image: Any, random: SampleRandom | None, out: np.ndarray) -> None:
        from .fusion import fused

        steps = fused(self.transforms)
        for step in steps[:-1]:
            image = step(image, random)
        if steps:
            steps[-1].into(image, random, out)
        else:
            super().into(image, random, out)

    def apply(self, images: np.ndarray, parameters: Any) -> np.ndarray:
        raise TypeError("[Compose] a later step's parameters depend on the earlier steps' result: call it instead")


class RandomApply(RandomTransform):
    """Applies all of several transforms or, with probability 1 - p, none of them.

    Args:
        transforms: the steps, first to last; all of them from uint8 images to uint8 images.
        p: the probability, 0 to 1.

    Example:
        >>> RandomApply([RandomApply([], p=1.0)], p=0.3)(np.zeros((2, 2, 1), np.uint8), 0).shape
        (2, 2, 1)
    """

    def __init__(self, transforms: Sequence[Transform], p: float = 0.5) -> None:
        super().__init__(p)
        self.transforms = list(transforms)

    def make_params(self, random: Stream, shape: Sequence[int]) -> dict[str, Any] | None:
        return {"seed": int(random.integers(0, 2**63))}

    def transform(self, image: np.ndarray, params: dict[str, Any]) -> np.ndarray:
        return Compose(self.transforms)(image, params["seed"])
