"""Resampling images, and rearranging pixels and channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine import backend as B
from engine.autograd import record
from engine.backend import Array
from engine.functional._arguments import not_a_tensor, pair
from engine.functional._pool import adaptive_avg_pool2d
from engine.tensor import Tensor


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes images.

    Args:
        input: the images.
        size: the new (H, W), or one number for both; or else
        scale_factor: how much larger the images become, one number or (height, width).
        mode: "nearest", "nearest-exact", "bilinear", "bicubic" or "area".
        align_corners: for bilinear and bicubic, whether the centres of the corner pixels stay where they are rather
            than the image's corners.
        recompute_scale_factor: whether pixels are placed by the rounded size rather than by scale_factor itself.
        antialias: for bilinear and bicubic, whether shrinking averages all pixels that it covers.

    Shape:
        input (N, C, H, W); output (N, C, *size), or floor(H * scale_factor), floor(W * scale_factor).

    Raises:
        ValueError: for another rank, an unknown mode, neither or both of size and scale_factor.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.interpolate(engine.ones(1, 3, 4, 4), scale_factor=2, mode="bilinear").shape
        (1, 3, 8, 8)

    Reference: torch.nn.functional.interpolate.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("interpolate", input)
    x = input.data
    shape = x.shape
    if len(shape) != 4:
        raise ValueError(
            f"[interpolate] expected input (N, C, H, W), got shape {shape}: use unsqueeze(0) for one image"
        )
    if mode not in ("nearest", "nearest-exact", "bilinear", "bicubic", "area"):
        raise ValueError(
            f'[interpolate] expected mode "nearest", "nearest-exact", "bilinear", "bicubic" or "area", got {mode!r}'
        )
    smooth = mode in ("bilinear", "bicubic")
    if align_corners is not None and not smooth:
        raise ValueError(
            f"[interpolate] expected align_corners only with modes bilinear and bicubic, got mode={mode!r}"
        )
    if antialias and not smooth:
        raise ValueError(f"[interpolate] expected antialias only with modes bilinear and bicubic, got mode={mode!r}")
    if (size is None) == (scale_factor is None):
        raise ValueError("[interpolate] expected exactly one of size and scale_factor")
    scales: tuple[float, ...] = (0.0, 0.0)
    if size is not None:
        if recompute_scale_factor:
            raise ValueError("[interpolate] expected recompute_scale_factor only with scale_factor, got size")
        height, width = pair(size, "[interpolate] size")
    else:
        one = isinstance(scale_factor, (int, float))
        scales = (float(scale_factor),) * 2 if one else tuple(float(s) for s in scale_factor)
        if len(scales) != 2 or not all(0 < s < math.inf for s in scales):
            raise ValueError(f"[interpolate] expected one or two positive scale factors, got {scale_factor!r}")
        height, width = (math.floor(n * s) for n, s in zip(shape[2:], scales))
        if recompute_scale_factor:
            scales = (0.0, 0.0)
    if height < 1 or width < 1:
        raise ValueError(
            f"[interpolate] expected an output of at least 1 x 1, got {height} x {width} for input of shape {shape}"
        )
    if mode == "area":
        return adaptive_avg_pool2d(input, (height, width))
    corners = bool(align_corners)
    y = B.interpolate(x, height, width, mode, corners, antialias, scales[0], scales[1])

    def backward(dy: Array) -> tuple[Array]:
        return (B.interpolate_backward(dy, shape, mode, corners, antialias, scales[0], scales[1]),)

    return record(y, (input,), backward)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Turns channels into pixels: each pixel's r * r channels become an r x r block.

    Args:
        input: the images.
        upscale_factor: r.

    Shape:
        input (..., C * r * r, H, W); output (..., C, H * r, W * r).

    Raises:
        ValueError: if the channels are not a multiple of r * r.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.pixel_shuffle(engine.ones(1, 8, 2, 2), 2).shape
        (1, 2, 4, 4)

    Reference: Shi et al., 2016, https://arxiv.org/abs/1609.05158; torch.nn.functional.pixel_shuffle.
    """
    shape, r = input.shape, upscale_factor
    if len(shape) < 3 or r < 1 or shape[-3] % (r * r):
        raise ValueError(
            f"[pixel_shuffle] expected input (..., C, H, W) with C a multiple of {r} * {r}, got shape {shape}"
        )
    channels, height, width = shape[-3] // (r * r), shape[-2], shape[-1]
    blocks = input.reshape(-1, channels, r, r, height, width)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(*shape[:-3], channels, height * r, width * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Turns pixels into channels: each r x r block becomes r * r channels of one pixel.

    Args:
        input: the images.
        downscale_factor: r.

    Shape:
        input (..., C, H * r, W * r); output (..., C * r * r, H, W).

    Raises:
        ValueError: if height or width are not a multiple of r.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.pixel_unshuffle(engine.ones(1, 2, 4, 4), 2).shape
        (1, 8, 2, 2)

    Reference: torch.nn.functional.pixel_unshuffle.
    """
    shape, r = input.shape, downscale_factor
    if len(shape) < 3 or r < 1 or shape[-2] % r or shape[-1] % r:
        raise ValueError(
            f"[pixel_unshuffle] expected input (..., C, H, W) with H and W multiples of {r}, got shape {shape}"
        )
    channels, height, width = shape[-3], shape[-2] // r, shape[-1] // r
    blocks = input.reshape(-1, channels, height, r, width, r)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(*shape[:-3], channels * r * r, height, width)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Deals the channels of each group out to all groups.

    Args:
        input: channels are axis 1.
        groups: number of groups.

    Shape:
        input (N, C, ...); output as input.

    Raises:
        ValueError: if the groups do not divide the channels.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.channel_shuffle(engine.arange(4).float().reshape(1, 4, 1, 1), 2).flatten()
        tensor([0., 2., 1., 3.])

    Reference: Zhang et al., 2017, https://arxiv.org/abs/1707.01083; torch.nn.functional.channel_shuffle.
    """
    shape = input.shape
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise ValueError(
            f"[channel_shuffle] expected groups that divide the channels, got groups={groups} for shape {shape}"
        )
    split_ = input.reshape(shape[0], groups, shape[1] // groups, math.prod(shape[2:]))
    return split_.transpose(1, 2).reshape(shape)


def interleave(tensors: Sequence[Tensor]) -> Tensor:
    """Channels of several tensors in turn: channel_shuffle(cat(tensors, 1), len(tensors)), each value moved once.

    Args:
        tensors: float tensors of one shape; channels are axis 1.

    Shape:
        each (N, C, H, W); output (N, C * len(tensors), H, W).

    Raises:
        ValueError: if there is no tensor, or their shapes differ.
        TypeError: if one is not float32.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.interleave([engine.zeros(1, 2, 1, 1), engine.ones(1, 2, 1, 1)]).flatten()
        tensor([0., 1., 0., 1.])

    Reference: Zhang et al., 2017, https://arxiv.org/abs/1707.01083.
    """
    shapes = [t.shape for t in tensors]
    if not shapes or len(shapes[0]) != 4 or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"[interleave] expected tensors (N, C, H, W) of one shape, got {shapes}: split them evenly")
    if any(t.data.dtype != "float32" for t in tensors):
        raise TypeError(f"[interleave] expected float32, got {[t.data.dtype for t in tensors]}: convert with .float()")
    n, c, h, w = shapes[0]
    count = len(shapes)
    stops, steps = (n, c * count, h, w), (1, count, 1, 1)
    y = B.empty(stops)
    for i, t in enumerate(tensors):
        B.copy_(B.slice(y, (0, i, 0, 0), stops, steps), t.data)

    def backward(dy: Array) -> tuple[Array, ...]:
        return tuple([B.contiguous(B.slice(dy, (0, i, 0, 0), stops, steps)) for i in range(count)])

    return record(y, tuple(tensors), backward)
