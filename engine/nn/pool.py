"""Pooling over windows of an image."""

from __future__ import annotations

from collections.abc import Sequence

from engine import functional as F
from engine.nn.module import Module
from engine.tensor import Tensor

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "AvgPool2d", "MaxPool2d"]

Size = int | tuple[int, ...] | list[int]


class MaxPool2d(Module):
    """The largest value of each window.

    Args:
        kernel_size: height and width of the window.
        stride: step of the window, in pixels; kernel_size by default.
        padding: pixels of minus infinity added on each side; at most half the window.
        dilation: distance between the window's taps, in pixels.
        return_indices: also return where each maximum was, as H * W position within its plane.
        ceil_mode: round the output size up instead of down.

    Shape:
        Input (N, C, H, W), output (N, C, OH, OW) with
        OH = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1, likewise OW.

    Example:
        >>> import engine
        >>> engine.nn.MaxPool2d(3, stride=2)(engine.zeros(20, 16, 50, 32)).shape
        (20, 16, 24, 15)

    Follows torch.nn.MaxPool2d.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.max_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class AvgPool2d(Module):
    """The mean of each window.

    Args:
        kernel_size: height and width of the window.
        stride: step of the window, in pixels; kernel_size by default.
        padding: zero pixels added on each side; at most half the window.
        ceil_mode: round the output size up instead of down.
        count_include_pad: whether the padding counts in the divisor.
        divisor_override: divide by this number instead of the size of the window.

    Shape:
        Input (N, C, H, W), output (N, C, OH, OW) with
        OH = floor((H + 2 padding - kernel_size) / stride) + 1, likewise OW.

    Example:
        >>> import engine
        >>> engine.nn.AvgPool2d((3, 2), stride=(2, 1))(engine.zeros(20, 16, 50, 32)).shape
        (20, 16, 24, 31)

    Follows torch.nn.AvgPool2d.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride if stride is not None else kernel_size
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AdaptiveAvgPool2d(Module):
    """Means over windows that are laid out so that the output has a given size; 1 is global average pooling.

    Args:
        output_size: height and width of the output; None keeps that of the input.

    Shape:
        Input (N, C, H, W), output (N, C, *output_size).

    Example:
        >>> import engine
        >>> engine.nn.AdaptiveAvgPool2d((5, None))(engine.zeros(1, 64, 8, 9)).shape
        (1, 64, 5, 9)

    Follows torch.nn.AdaptiveAvgPool2d.
    """

    def __init__(self, output_size: int | None | Sequence[int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool2d(Module):
    """Maxima over windows that are laid out so that the output has a given size; 1 is global max pooling.

    Args:
        output_size: height and width of the output; None keeps that of the input.
        return_indices: also return where each maximum was, as H * W position within its plane.

    Shape:
        Input (N, C, H, W), output (N, C, *output_size).

    Example:
        >>> import engine
        >>> engine.nn.AdaptiveMaxPool2d(7)(engine.zeros(1, 64, 10, 9)).shape
        (1, 64, 7, 7)

    Follows torch.nn.AdaptiveMaxPool2d.
    """

    def __init__(self, output_size: int | None | Sequence[int | None], return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.adaptive_max_pool2d(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
