"""Convolutions over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine import functional as F, init
from engine.nn.module import Module
from engine.nn.padding import wrap
from engine.tensor import Parameter, Tensor, empty

__all__ = ["Conv2d", "ConvTranspose2d"]

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _pair(value: Any) -> tuple[Any, Any]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        values = tuple(value)
        return (values[0], values[0]) if len(values) == 1 else values
    return (value, value)


class _Conv2d(Module):
    """What a convolution and a transposed one share: arguments, parameters, initialisation, repr."""

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int],
        padding: int | str | Sequence[int],
        dilation: int | Sequence[int],
        transposed: bool,
        output_padding: int | Sequence[int],
        groups: int,
        bias: bool,
        padding_mode: str,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if groups <= 0:
            raise ValueError(f"[{name}] groups must be a positive integer, got {groups}")
        if in_channels % groups != 0:
            raise ValueError(f"[{name}] in_channels must be divisible by groups, got {in_channels} and {groups}")
        if out_channels % groups != 0:
            raise ValueError(f"[{name}] out_channels must be divisible by groups, got {out_channels} and {groups}")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"[{name}] padding_mode must be one of {_PADDING_MODES}, got padding_mode={padding_mode!r}"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size: tuple[int, int] = _pair(kernel_size)
        self.stride: tuple[int, int] = _pair(stride)
        self.padding: Any = padding if isinstance(padding, str) else _pair(padding)
        self.dilation: tuple[int, int] = _pair(dilation)
        self.transposed = transposed
        self.output_padding: tuple[int, int] = _pair(output_padding)
        self.groups = groups
        self.padding_mode = padding_mode
        if any(k < 1 for k in self.kernel_size):
            raise ValueError(f"[{name}] kernel_size must be positive, got {self.kernel_size}")
        if any(s < 1 for s in self.stride):
            raise ValueError(f"[{name}] stride must be positive, got {self.stride}")
        if any(d < 1 for d in self.dilation):
            raise ValueError(f"[{name}] dilation must be positive, got {self.dilation}")
        if isinstance(padding, str):
            if transposed:
                raise ValueError(f"[{name}] padding must be a number or a pair of numbers, got {padding!r}")
            if padding not in ("same", "valid"):
                raise ValueError(f"[{name}] Invalid padding string {padding!r}, should be one of 'same', 'valid'")
            if padding == "same" and any(s != 1 for s in self.stride):
                raise ValueError(f"[{name}] padding='same' is not supported for strided convolutions, use padding=int")
        if transposed:
            shape = (in_channels, out_channels // groups, *self.kernel_size)
        else:
            shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(*shape))
        if bias:
            self.bias = Parameter(empty(out_channels))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0, 0):
            text += f", padding={self.padding}"
        if self.dilation != (1, 1):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0, 0):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv2d(_Conv2d):
    """Convolution of images (cross-correlation, as in all CNN frameworks).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: step of the kernel, in pixels.
        padding: pixels added on each side, (height, width), or "same" (output as large as the input) or "valid"
            (none).
        dilation: distance between the kernel's taps, in pixels.
        groups: input and output channels are split into so many independent convolutions; in_channels makes it
            depthwise.
        bias: whether a constant per output channel is learnt.
        padding_mode: "zeros", "reflect", "replicate" or "circular".

    Shape:
        Input (N, in_channels, H, W), output (N, out_channels, OH, OW) with
        OH = floor((H + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1, likewise OW;
        weight (out_channels, in_channels / groups, KH, KW), bias (out_channels).

    Raises:
        ValueError: an argument is out of range; at the call, when the input does not fit.

    Example:
        >>> import engine
        >>> engine.nn.Conv2d(16, 33, (3, 5), stride=(2, 1), padding=(4, 2))(engine.zeros(20, 16, 50, 100)).shape
        (20, 33, 28, 100)

    Follows torch.nn.Conv2d, initialisation included: uniform in +-1/sqrt(in_channels / groups * KH * KW).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            transposed=False,
            output_padding=0,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
        )

    def forward(self, input: Tensor) -> Tensor:
        if self.padding_mode != "zeros":
            pads = self._pads()
            circular = self.padding_mode == "circular"
            input = wrap(input, pads) if circular else F.pad(input, pads, mode=self.padding_mode)
            return F.conv2d(input, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _pads(self) -> tuple[int, int, int, int]:
        """Pixels to add (left, right, top, bottom)."""
        if self.padding == "valid":
            return (0, 0, 0, 0)
        if self.padding == "same":  #: the larger half goes right and below
            height, width = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size))
            return (width // 2, width - width // 2, height // 2, height - height // 2)
        height, width = self.padding
        return (width, width, height, height)


class ConvTranspose2d(_Conv2d):
    """Transposed convolution: the gradient of Conv2d with respect to its input, used to enlarge images.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: step of the kernel in the output, in pixels.
        padding: pixels cut off on each side of the output.
        output_padding: pixels added at the right and lower side of the output; less than stride or dilation.
        groups: input and output channels are split into so many independent convolutions.
        bias: whether a constant per output channel is learnt.
        dilation: distance between the kernel's taps, in pixels.
        padding_mode: only "zeros".

    Shape:
        Input (N, in_channels, H, W), output (N, out_channels, OH, OW) with
        OH = (H - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1, likewise OW;
        weight (in_channels, out_channels / groups, KH, KW), bias (out_channels).

    Raises:
        ValueError: an argument is out of range; at the call, when the input does not fit.

    Example:
        >>> import engine
        >>> up = engine.nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1)
        >>> up(engine.zeros(1, 16, 6, 6)).shape
        (1, 8, 12, 12)

    Follows torch.nn.ConvTranspose2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'[ConvTranspose2d] Only "zeros" padding mode is supported, got {padding_mode!r}')
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            transposed=True,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
        )

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        output_padding = self.output_padding if output_size is None else self._output_padding(input, output_size)
        return F.conv_transpose2d(
            input, self.weight, self.bias, self.stride, self.padding, output_padding, self.groups, self.dilation
        )

    def _output_padding(self, input: Tensor, output_size: Sequence[int]) -> tuple[int, int]:
        """The output padding that leads to a wanted (height, width)."""
        wanted = tuple(output_size)[-2:]
        found = []
        for axis in range(2):
            smallest = (
                (input.shape[axis - 2] - 1) * self.stride[axis]
                - 2 * self.padding[axis]
                + self.dilation[axis] * (self.kernel_size[axis] - 1)
                + 1
            )
            largest = smallest + self.stride[axis] - 1
            if len(wanted) != 2 or not smallest <= wanted[axis] <= largest:
                raise ValueError(
                    f"[ConvTranspose2d] requested an output size of {tuple(output_size)}, but axis {axis - 2} can only "
                    f"be {smallest} to {largest} for an input of shape {tuple(input.shape)}"
                )
            found.append(wanted[axis] - smallest)
        return (found[0], found[1])
