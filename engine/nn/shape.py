"""Layers that only rearrange or resample: flatten, shuffle, upsample."""

from __future__ import annotations

from collections.abc import Sequence

from engine import functional as F
from engine.nn.module import Module
from engine.tensor import Tensor

__all__ = ["ChannelShuffle", "Flatten", "PixelShuffle", "PixelUnshuffle", "Unflatten", "Upsample"]


class Flatten(Module):
    """Joins a range of axes into one.

    Args:
        start_dim: first axis of the range.
        end_dim: last axis of the range.

    Shape:
        Input (*, S_start, ..., S_end, *), output (*, S_start ... S_end, *).

    Example:
        >>> import engine
        >>> engine.nn.Flatten()(engine.zeros(32, 1, 5, 5)).shape
        (32, 25)

    Follows torch.nn.Flatten.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Splits an axis into several.

    Args:
        dim: the axis.
        unflattened_size: sizes of the new axes; one may be -1.

    Shape:
        Input (*, S_dim, *), output (*, *unflattened_size, *).

    Raises:
        ValueError: at the call, when the sizes do not multiply to that of the axis.

    Example:
        >>> import engine
        >>> engine.nn.Unflatten(1, (2, 5, 5))(engine.zeros(2, 50)).shape
        (2, 2, 5, 5)

    Follows torch.nn.Unflatten.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class PixelShuffle(Module):
    """Turns blocks of r^2 channels into r x r pixels.

    Args:
        upscale_factor: r.

    Shape:
        Input (N, C r^2, H, W), output (N, C, H r, W r).

    Example:
        >>> import engine
        >>> engine.nn.PixelShuffle(3)(engine.zeros(1, 9, 4, 4)).shape
        (1, 1, 12, 12)

    Follows torch.nn.PixelShuffle; Shi et al., https://arxiv.org/abs/1609.05158.
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Turns r x r pixels into r^2 channels; undoes PixelShuffle.

    Args:
        downscale_factor: r.

    Shape:
        Input (N, C, H r, W r), output (N, C r^2, H, W).

    Example:
        >>> import engine
        >>> engine.nn.PixelUnshuffle(3)(engine.zeros(1, 1, 12, 12)).shape
        (1, 9, 4, 4)

    Follows torch.nn.PixelUnshuffle.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Interleaves groups of channels, so that grouped convolutions exchange information.

    Args:
        groups: number of groups.

    Shape:
        Input (N, C, H, W), output the same.

    Example:
        >>> import engine
        >>> engine.nn.ChannelShuffle(2)(engine.arange(4).reshape(1, 4, 1, 1)).flatten().tolist()
        [0, 2, 1, 3]

    Follows torch.nn.ChannelShuffle; Zhang et al., https://arxiv.org/abs/1707.01083.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Upsample(Module):
    """Resizes an image to a size or by a factor.

    Args:
        size: height and width of the output.
        scale_factor: factor of height and width; either this or size.
        mode: "nearest", "bilinear" or "bicubic".
        align_corners: whether corner pixels of input and output lie on each other.
        recompute_scale_factor: use the factor that follows from the rounded output size.

    Shape:
        Input (N, C, H, W), output (N, C, OH, OW).

    Example:
        >>> import engine
        >>> engine.nn.Upsample(scale_factor=2, mode="bilinear")(engine.zeros(1, 3, 4, 5)).shape
        (1, 3, 8, 10)

    Follows torch.nn.Upsample.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        if isinstance(scale_factor, Sequence):
            self.scale_factor: float | tuple[float, ...] | None = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        if self.scale_factor is not None:
            return f"scale_factor={self.scale_factor!r}, mode={self.mode!r}"
        return f"size={self.size!r}, mode={self.mode!r}"
