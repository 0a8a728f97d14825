"""Pooling over windows of an image."""

from __future__ import annotations

from typing import Any

from engine import backend as B
from engine.autograd import mode as grad_mode, record
from engine.backend import Array
from engine.functional._arguments import Place, Size2, not_a_tensor, pair
from engine.tensor import Tensor


def max_pool2d(
    input: Tensor,
    kernel_size: Size2,
    stride: Size2 | None = None,
    padding: Size2 = 0,
    dilation: Size2 = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    out: Place | None = None,
) -> Any:
    """The largest value of each window.

    Args:
        input: the images.
        kernel_size: size of the window.
        stride: pixels between windows; the window's size by default.
        padding: pixels of minus infinity on each side, at most half the window.
        dilation: pixels between neighbouring elements of a window.
        ceil_mode: whether windows that stick out at the bottom or right count as well.
        return_indices: whether to return (output, indices), where an index is row * W + column in its plane.
        out: with a batch called with the output's shape for the array (pixels of adjacent channels) that the output is
            written to; where it returns None the output is an array of its own.

    Shape:
        input (N, C, H, W) or (C, H, W); output (N, C, HO, WO).

    Raises:
        ValueError: if no window fits.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.max_pool2d(engine.arange(16).float().reshape(1, 1, 4, 4), 2).flatten()
        tensor([ 5.,  7., 13., 15.])

    Reference: torch.nn.functional.max_pool2d.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("max_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        batch = max_pool2d(input.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return tuple([t.squeeze(0) for t in batch]) if return_indices else batch.squeeze(0)
    kernel = pair(kernel_size, "[max_pool2d] kernel_size")
    strides = kernel if stride is None or stride == [] else pair(stride, "[max_pool2d] stride")
    pads, dilations = pair(padding, "[max_pool2d] padding"), pair(dilation, "[max_pool2d] dilation")
    wants_x = input.requires_grad and grad_mode.enabled
    place = None if out is None else out(B.pool2d_shape(shape, kernel, strides, pads, dilations, ceil_mode))
    y, indices = B.max_pool2d(x, kernel, strides, pads, dilations, ceil_mode, wants_x or return_indices, place)
    if not wants_x or indices is None:
        output = Tensor(y)
    else:

        def backward(dy: Array) -> tuple[Array]:
            if dilations != (1, 1):
                return (B.max_pool2d_backward(dy, indices, shape),)
            return (B.max_pool2d_backward(dy, indices, shape, kernel, strides, pads, ceil_mode),)

        output = record(y, (input,), backward)
    return (output, Tensor(B.cast(indices, "int64"))) if indices is not None and return_indices else output


def avg_pool2d(
    input: Tensor,
    kernel_size: Size2,
    stride: Size2 | None = None,
    padding: Size2 = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window.

    Args:
        input: the images.
        kernel_size: size of the window.
        stride: pixels between windows; the window's size by default.
        padding: zeros on each side, at most half the window.
        ceil_mode: whether windows that stick out at the bottom or right count as well.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divide by this instead of by the number of pixels.

    Shape:
        input (N, C, H, W) or (C, H, W); output (N, C, HO, WO).

    Raises:
        ValueError: if no window fits, or divisor_override is zero.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.avg_pool2d(engine.arange(16).float().reshape(1, 1, 4, 4), 2).flatten()
        tensor([ 2.5,  4.5, 10.5, 12.5])

    Reference: torch.nn.functional.avg_pool2d.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("avg_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        return avg_pool2d(
            input.unsqueeze(0), kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        ).squeeze(0)
    if divisor_override == 0:
        raise ValueError("[avg_pool2d] expected divisor_override other than 0, got 0")
    kernel = pair(kernel_size, "[avg_pool2d] kernel_size")
    strides = kernel if stride is None or stride == [] else pair(stride, "[avg_pool2d] stride")
    pads = pair(padding, "[avg_pool2d] padding")
    divisor = divisor_override or 0
    y = B.avg_pool2d(x, kernel, strides, pads, ceil_mode, count_include_pad, divisor)
    if not (input.requires_grad and grad_mode.enabled):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array]:
        return (B.avg_pool2d_backward(dy, shape, kernel, strides, pads, ceil_mode, count_include_pad, divisor),)

    return record(y, (input,), backward)


def _output_size(output_size: Any, shape: tuple[int, ...], name: str) -> tuple[int, int]:
    if isinstance(output_size, int):
        return output_size, output_size
    sizes = tuple(output_size)
    if len(sizes) != 2:
        raise ValueError(f"[{name}] expected output_size as an int or a pair, got {output_size!r}")
    height, width = (shape[i - 2] if n is None else n for i, n in enumerate(sizes))
    return height, width


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means over windows chosen so that the output has the size wanted; size 1 is global average pooling.

    Args:
        input: the images.
        output_size: an int or a pair, in which None keeps the input's size.

    Shape:
        input (N, C, H, W) or (C, H, W); output (N, C, *output_size).

    Raises:
        ValueError: if the output size is not positive.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.adaptive_avg_pool2d(engine.ones(1, 2, 7, 5), (1, None)).shape
        (1, 2, 1, 5)

    Reference: torch.nn.functional.adaptive_avg_pool2d.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("adaptive_avg_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        return adaptive_avg_pool2d(input.unsqueeze(0), output_size).squeeze(0)
    size = _output_size(output_size, shape, "adaptive_avg_pool2d")
    y = B.adaptive_avg_pool2d(x, size)
    if not (input.requires_grad and grad_mode.enabled):
        return Tensor(y)
    whole = size == (1, 1)  # every pixel has the same gradient, which need not be written out

    def backward(dy: Array) -> tuple[Array]:
        if whole:
            return (B.expand(B.binary("mul", dy, 1.0 / (shape[2] * shape[3])), shape),)
        return (B.adaptive_avg_pool2d_backward(dy, shape),)

    return record(y, (input,), backward, alias=whole)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest values of windows chosen so that the output has the size wanted.

    Args:
        input: the images.
        output_size: an int or a pair, in which None keeps the input's size.
        return_indices: whether to return (output, indices), where an index is row * W + column in its plane.

    Shape:
        input (N, C, H, W) or (C, H, W); output (N, C, *output_size).

    Raises:
        ValueError: if the output size is not positive.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.adaptive_max_pool2d(engine.arange(16).float().reshape(1, 1, 4, 4), 1).item()
        15.0

    Reference: torch.nn.functional.adaptive_max_pool2d.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("adaptive_max_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        batch = adaptive_max_pool2d(input.unsqueeze(0), output_size, return_indices)
        return tuple([t.squeeze(0) for t in batch]) if return_indices else batch.squeeze(0)
    wants_x = input.requires_grad and grad_mode.enabled
    size = _output_size(output_size, shape, "adaptive_max_pool2d")
    y, indices = B.adaptive_max_pool2d(x, size, wants_x or return_indices)

    if not wants_x or indices is None:
        output = Tensor(y)
    else:

        def backward(dy: Array) -> tuple[Array]:
            return (B.max_pool2d_backward(dy, indices, shape),)

        output = record(y, (input,), backward)
    return (output, Tensor(B.cast(indices, "int64"))) if indices is not None and return_indices else output
