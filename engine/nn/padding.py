"""Layers that add a border to an image."""

from __future__ import annotations

from collections.abc import Sequence

from engine import functional as F
from engine.nn.module import Module
from engine.tensor import Tensor, cat

__all__ = ["CircularPad2d", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d", "ZeroPad2d"]


class _Pad2d(Module):
    mode = "constant"

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        pads = (padding,) * 4 if isinstance(padding, int) else tuple(padding)
        if len(pads) != 4:
            raise ValueError(
                f"[{type(self).__name__}] padding must be a number or (left, right, top, bottom), got {padding}"
            )
        self.padding = pads

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad2d(_Pad2d):
    """Adds pixels of a constant value around an image.

    Args:
        padding: pixels on all sides, or (left, right, top, bottom).
        value: the constant.

    Shape:
        Input (N, C, H, W), output (N, C, top + H + bottom, left + W + right).

    Example:
        >>> import engine
        >>> engine.nn.ConstantPad2d(2, 3.5)(engine.zeros(1, 2, 4, 4)).shape
        (1, 2, 8, 8)

    Follows torch.nn.ConstantPad2d.
    """

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ZeroPad2d(_Pad2d):
    """Adds zero pixels around an image.

    Args:
        padding: pixels on all sides, or (left, right, top, bottom).

    Shape:
        Input (N, C, H, W), output (N, C, top + H + bottom, left + W + right).

    Example:
        >>> import engine
        >>> engine.nn.ZeroPad2d((1, 1, 2, 0))(engine.zeros(1, 1, 3, 3)).shape
        (1, 1, 5, 5)

    Follows torch.nn.ZeroPad2d.
    """


class ReflectionPad2d(_Pad2d):
    """Continues an image by its mirror image, the edge pixel not repeated.

    Args:
        padding: pixels on all sides, or (left, right, top, bottom); less than the image has.

    Shape:
        Input (N, C, H, W), output (N, C, top + H + bottom, left + W + right).

    Example:
        >>> import engine
        >>> engine.nn.ReflectionPad2d(2)(engine.zeros(1, 1, 3, 3)).shape
        (1, 1, 7, 7)

    Follows torch.nn.ReflectionPad2d.
    """

    mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """Continues an image by its edge pixels.

    Args:
        padding: pixels on all sides, or (left, right, top, bottom).

    Shape:
        Input (N, C, H, W), output (N, C, top + H + bottom, left + W + right).

    Example:
        >>> import engine
        >>> engine.nn.ReplicationPad2d(2)(engine.zeros(1, 1, 3, 3)).shape
        (1, 1, 7, 7)

    Follows torch.nn.ReplicationPad2d.
    """

    mode = "replicate"


class CircularPad2d(_Pad2d):
    """Continues an image by itself, as if it lay on a torus.

    Args:
        padding: pixels on all sides, or (left, right, top, bottom); at most as many as the image has.

    Shape:
        Input (N, C, H, W), output (N, C, top + H + bottom, left + W + right).

    Example:
        >>> import engine
        >>> engine.nn.CircularPad2d(2)(engine.zeros(1, 1, 3, 3)).shape
        (1, 1, 7, 7)

    Follows torch.nn.CircularPad2d.
    """

    def forward(self, input: Tensor) -> Tensor:
        return wrap(input, self.padding)


def wrap(input: Tensor, pads: Sequence[int]) -> Tensor:
    """Continues the last two axes periodically by (left, right, top, bottom) pixels."""
    left, right, top, bottom = pads
    for axis, before, after in ((-2, top, bottom), (-1, left, right)):
        size = input.shape[axis]
        if not (0 <= before <= size and 0 <= after <= size):
            raise ValueError(
                f"[pad] circular padding must be between 0 and the size of the axis, got {tuple(pads)} for an input of "
                f"shape {tuple(input.shape)}"
            )
        parts = [input.narrow(axis, size - before, before), input, input.narrow(axis, 0, after)]
        parts = [part for part in parts if part.shape[axis] > 0]
        if len(parts) > 1:
            input = cat(parts, axis)
    return input
