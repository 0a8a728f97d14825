"""What each op means: its forward rule and, right beside it, its backward rule.

Names, arguments and defaults are those of torch.nn.functional; the deprecated ones (size_average, reduce) are left
out. Rules call backend functions only, so whole steps can be traced. A backward rule is a closure over just the arrays
that it needs. `inplace` is accepted everywhere and changes nothing: memory is reused by the allocator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from engine import backend as B, random
from engine.autograd import mode as _grad_mode, record
from engine.backend import Array
from engine.tensor import (
    Tensor,
    cat,
    chunk,
    concat,
    elementwise,
    flatten,
    full,
    split,
    stack,
    unbind,
    where,
)

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_act",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cat",
    "channel_shuffle",
    "chunk",
    "concat",
    "conv2d",
    "conv2d_act",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout2d",
    "elu",
    "flatten",
    "gelu",
    "group_norm",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "interleave",
    "interpolate",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "linear_act",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "max_pool2d",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "sigmoid_focal_loss",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "softsign",
    "split",
    "stack",
    "stochastic_depth",
    "tanh",
    "unbind",
    "where",
]

Size2: TypeAlias = "int | Sequence[int]"
# Asked, with the shape of a result, for the array to write it to; None leaves that to the function.
Place: TypeAlias = "Callable[[tuple[int, ...]], Array | None]"


def _not_a_tensor(name: str, value: object) -> NoReturn:
    raise TypeError(f"[{name}] expected a Tensor as input, got {type(value).__name__}: use engine.tensor or from_numpy")


def _pair(value: Any, name: str) -> tuple[int, int]:
    """An int or a pair as (height, width)."""
    if value.__class__ is int:
        return value, value
    if value.__class__ is tuple and len(value) == 2:
        return value
    if not hasattr(value, "__index__"):
        values = tuple([v.__index__() for v in value])
        if len(values) == 1:
            return values[0], values[0]
        if len(values) == 2:
            return values
        raise ValueError(f"{name}: expected an int or a pair (height, width), got {value!r}")
    return value.__index__(), value.__index__()


# --- convolution and linear ----------------------------------------------------------------------------------------


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size2 = 1,
    padding: str | Size2 = 0,
    dilation: Size2 = 1,
    groups: int = 1,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation).

    Args:
        input: the images.
        weight: the filters.
        bias: one number per output channel.
        stride: pixels between neighbouring windows.
        padding: zeros added on each side, or "valid" (none) or "same" (as many as keep the size at stride 1, the odd
            one at the bottom and right).
        dilation: pixels between neighbouring taps of a filter.
        groups: input and output channels are cut into this many groups that do not see each other.

    Shape:
        input (N, C, H, W) or (C, H, W), weight (O, C / groups, KH, KW), bias (O); output (N, O, HO, WO) with
        HO = (H + 2 padding - dilation (KH - 1) - 1) // stride + 1, and WO likewise.

    Raises:
        ValueError: if shapes do not match, or padding="same" comes with a stride.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.conv2d(engine.ones(1, 3, 8, 8), engine.ones(4, 3, 3, 3), padding="same").shape
        (1, 4, 8, 8)

    Reference: torch.nn.functional.conv2d.
    """
    return conv2d_act(input, weight, bias, stride, padding, dilation, groups)


def conv2d_act(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size2 = 1,
    padding: str | Size2 = 0,
    dilation: Size2 = 1,
    groups: int = 1,
    residual: Tensor | None = None,
    activation: str = "none",
    out: Place | None = None,
    prologue: tuple[Tensor, Tensor, str] | None = None,
) -> Tensor:
    """Convolution, then a residual added and an activation applied, in one pass: activation(conv2d(x) + residual).

    Args:
        input: the images.
        weight: the filters.
        bias: one number per output channel.
        stride: pixels between neighbouring windows.
        padding: as of conv2d.
        dilation: pixels between neighbouring taps of a filter.
        groups: input and output channels are cut into this many groups that do not see each other.
        residual: added before the activation.
        activation: "none", "relu", "relu6", "silu" or "hardswish".
        out: called with the output's shape for the array (pixels of adjacent channels) that the output is written to;
            where it returns None, or is not called, the output is an array of its own.
        prologue: (scale, shift, activation): the convolution sees activation(input * scale + shift), in front of its
            padding with zeros; a pass of its own where gradients are recorded.

    Shape:
        input, weight, bias and output as of conv2d; residual as output; scale and shift (C).

    Raises:
        ValueError: if shapes do not match, or for another activation.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.conv2d_act(-engine.ones(1, 1, 2, 2), engine.ones(1, 1, 1, 1), activation="relu").flatten()
        tensor([0., 0., 0., 0.])
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("conv2d", input)
    x, w = input.data, weight.data
    shape = x.shape
    if len(shape) == 3:
        added = None if residual is None else residual.unsqueeze(0)
        batch = input.unsqueeze(0)
        return conv2d_act(
            batch, weight, bias, stride, padding, dilation, groups, added, activation, None, prologue
        ).squeeze(0)
    stride = _pair(stride, "[conv2d] stride")
    dilation = _pair(dilation, "[conv2d] dilation")
    if padding.__class__ is str:
        pads = _named_padding(padding, w.shape, stride, dilation)
    else:
        ph, pw = _pair(padding, "[conv2d] padding")
        pads = (ph, ph, pw, pw)
    wants_x, wants_w, wants_b = input.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    recorded = _grad_mode.enabled and (wants_x or wants_w or wants_b or _wants(residual))
    before = None
    if prologue is not None:
        scale, shift, name = prologue
        if recorded or (_grad_mode.enabled and (_wants(scale) or _wants(shift))):
            seen = input * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)
            seen = seen if name == "none" else elementwise(seen, name)
            return conv2d_act(seen, weight, bias, stride, padding, dilation, groups, residual, activation, out)
        before = (scale.data, shift.data, name)
    # The gradient of these is a function of what they saw, which one pass would not leave behind.
    applied = "none" if recorded and activation in ("silu", "hardswish") else activation
    place = None
    if out is not None and applied == activation:
        place = out(B.conv2d_shape(shape, w.shape, stride, pads, dilation, groups))
    y = B.conv2d(x, w, _data(bias), stride, pads, dilation, groups, _data(residual), applied, None, before, place)
    if not recorded:
        return Tensor(y)
    w_shape = w.shape
    saved_x = x if wants_w else None
    saved_w = w if wants_x else None
    saved_y = None if applied == "none" else y

    def backward(dy: Array) -> tuple[Array | None, ...]:
        dx = dw = db = None
        if saved_y is not None:
            dy = B.unary_backward(applied, dy, None, saved_y)
        if saved_w is not None:
            dx = B.conv2d_backward_data(dy, saved_w, shape, stride, pads, dilation, groups)
        if saved_x is not None:
            dw, db = B.conv2d_backward_weight(dy, saved_x, w_shape, stride, pads, dilation, groups, wants_b)
        elif wants_b:
            db = B.reduce("sum", dy, (0, 2, 3), False)
        return dx, dw, db, dy

    alias = residual is not None and saved_y is None
    output = record(y, (input, weight, bias, residual), backward, alias)
    return output if applied == activation else elementwise(output, activation)


def _named_padding(
    padding: str, w_shape: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    if padding == "valid":
        return 0, 0, 0, 0
    if padding != "same":
        raise ValueError(f'[conv2d] expected padding "same", "valid", an int or a pair, got {padding!r}')
    if stride != (1, 1):
        raise ValueError(f'[conv2d] expected stride 1 with padding="same", got {stride}: give the padding in pixels')
    height, width = (d * (k - 1) for d, k in zip(dilation, w_shape[2:]))
    return height // 2, height - height // 2, width // 2, width - width // 2


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size2 = 1,
    padding: Size2 = 0,
    output_padding: Size2 = 0,
    groups: int = 1,
    dilation: Size2 = 1,
) -> Tensor:
    """Transposed convolution: the gradient of `conv2d` with respect to its input, used to enlarge images.

    Args:
        input: the images.
        weight: the filters, input channels first.
        bias: one number per output channel.
        stride: factor by which the image grows.
        padding: pixels cut off on each side.
        output_padding: rows and columns added at the bottom and right, fewer than stride or dilation.
        groups: input and output channels are cut into this many groups.
        dilation: pixels between neighbouring taps of a filter.

    Shape:
        input (N, C, H, W) or (C, H, W), weight (C, O / groups, KH, KW), bias (O); output (N, O, HO, WO) with
        HO = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1, and WO likewise.

    Raises:
        ValueError: if shapes do not match or the output would be empty.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.conv_transpose2d(engine.ones(1, 2, 4, 4), engine.ones(2, 3, 2, 2), stride=2).shape
        (1, 3, 8, 8)

    Reference: torch.nn.functional.conv_transpose2d.
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("conv_transpose2d", input)
    x, w = input.data, weight.data
    x_shape, w_shape = x.shape, w.shape
    if len(x_shape) == 3:
        result = conv_transpose2d(input.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation)
        return result.squeeze(0)
    if len(x_shape) != 4 or len(w_shape) != 4:
        raise ValueError(
            f"[conv_transpose2d] expected input (N, C, H, W) and weight (C, O / groups, KH, KW), "
            f"got {x_shape} and {w_shape}"
        )
    strides = _pair(stride, "[conv_transpose2d] stride")
    padding = _pair(padding, "[conv_transpose2d] padding")
    extra = _pair(output_padding, "[conv_transpose2d] output_padding")
    dilations = _pair(dilation, "[conv_transpose2d] dilation")
    if x_shape[1] != w_shape[0]:
        raise ValueError(
            f"[conv_transpose2d] expected {w_shape[0]} input channels for weight of shape {w_shape}, "
            f"got input of shape {x_shape}: set in_channels={x_shape[1]} or check the layer before"
        )
    if groups < 1 or w_shape[0] % groups:
        raise ValueError(f"[conv_transpose2d] expected groups that divide {w_shape[0]} input channels, got {groups}")
    for axis in range(2):
        if not 0 <= extra[axis] < max(strides[axis], dilations[axis]):
            raise ValueError(
                f"[conv_transpose2d] expected output_padding smaller than stride or dilation, got "
                f"output_padding={extra}, stride={strides}, dilation={dilations}"
            )
    height, width = (
        (x_shape[2 + i] - 1) * strides[i] - 2 * padding[i] + dilations[i] * (w_shape[2 + i] - 1) + extra[i] + 1
        for i in range(2)
    )
    if height < 1 or width < 1:
        raise ValueError(
            f"[conv_transpose2d] expected an output of at least 1 x 1, got {height} x {width} for input {x_shape}, "
            f"weight {w_shape}, padding={padding}: reduce padding"
        )
    # Less output_padding than stride is the remainder that a convolution's size formula drops. More than that takes
    # back padding at the end, and beyond the padding it adds a rim that no filter reaches.
    end, rim = list(padding), [0, 0]
    for axis in range(2):
        if extra[axis] >= strides[axis]:
            end[axis] = max(padding[axis] - extra[axis], 0)
            rim[axis] = max(extra[axis] - padding[axis], 0)
    y_shape = (x_shape[0], w_shape[1] * groups, height - rim[0], width - rim[1])
    pads = (padding[0], end[0], padding[1], end[1])
    y = B.conv2d_backward_data(x, w, y_shape, strides, pads, dilations, groups)
    if any(rim):
        y = B.pad(y, (0, rim[1], 0, rim[0]), "constant", 0.0)
    if bias is not None:
        if bias.data.shape != (y_shape[1],):
            raise ValueError(f"[conv_transpose2d] expected a bias of shape {(y_shape[1],)}, got {bias.data.shape}")
        y = B.binary("add", y, B.reshape(bias.data, (1, y_shape[1], 1, 1)))
    wants_x, wants_w, wants_b = input.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    if not _grad_mode.enabled or not (wants_x or wants_w or wants_b):
        return Tensor(y)
    saved_x = x if wants_w else None
    saved_w = w if wants_x else None

    def backward(dy: Array) -> tuple[Array | None, ...]:
        dx = dw = db = None
        if wants_b:
            db = B.reduce("sum", dy, (0, 2, 3), False)
        if any(rim):
            dy = B.slice(dy, (0, 0, 0, 0), y_shape, (1, 1, 1, 1))
        if saved_w is not None:
            dx = B.conv2d(dy, saved_w, None, strides, pads, dilations, groups)
        if saved_x is not None:  # the roles of image and gradient are exchanged
            dw, _ = B.conv2d_backward_weight(saved_x, dy, w_shape, strides, pads, dilations, groups, False)
        return dx, dw, db

    return record(y, (input, weight, bias), backward)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Args:
        input: the features.
        weight: one row per output feature.
        bias: one number per output feature.

    Shape:
        input (..., K), weight (O, K), bias (O); output (..., O).

    Raises:
        ValueError: if the numbers of features do not match.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.linear(engine.ones(2, 3), engine.ones(4, 3)).shape
        (2, 4)

    Reference: torch.nn.functional.linear.
    """
    return linear_act(input, weight, bias)


def linear_act(input: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """A linear map, then an activation, in one pass: activation(input @ weight.T + bias).

    Args:
        input: the features.
        weight: one row per output feature.
        bias: one number per output feature.
        activation: "none", "relu", "relu6", "silu" or "hardswish".

    Shape:
        input (..., K), weight (O, K), bias (O); output (..., O).

    Raises:
        ValueError: if the numbers of features do not match, or for another activation.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.linear_act(engine.ones(1, 3), -engine.ones(2, 3), activation="relu").flatten()
        tensor([0., 0.])
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("linear", input)
    x, w = input.data, weight.data
    if x.ndim == 1:
        return linear_act(input.unsqueeze(0), weight, bias, activation).squeeze(0)
    wants_x, wants_w, wants_b = input.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    recorded = _grad_mode.enabled and (wants_x or wants_w or wants_b)
    # As of a convolution: the gradient of these is a function of what they saw.
    applied = "none" if recorded and activation in ("silu", "hardswish") else activation
    y = B.linear(x, w, None if bias is None else bias.data, applied)
    if not recorded:
        return Tensor(y)
    saved_x = x if wants_w else None
    saved_w = w if wants_x else None
    saved_y = None if applied == "none" else y

    def backward(dy: Array) -> tuple[Array | None, ...]:
        dx = dw = db = None
        if saved_y is not None:
            dy = B.unary_backward(applied, dy, None, saved_y)
        if saved_w is not None:
            dx = B.linear_backward_data(dy, saved_w)
        if saved_x is not None:
            dw, db = B.linear_backward_weight(dy, saved_x, wants_b)
        elif wants_b:
            db = B.reduce("sum", dy, tuple(range(dy.ndim - 1)), False)
        return dx, dw, db

    output = record(y, (input, weight, bias), backward)
    return output if applied == activation else elementwise(output, activation)


# --- pooling -------------------------------------------------------------------------------------------------------


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
        _not_a_tensor("max_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        batch = max_pool2d(input.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return tuple([t.squeeze(0) for t in batch]) if return_indices else batch.squeeze(0)
    kernel = _pair(kernel_size, "[max_pool2d] kernel_size")
    strides = kernel if stride is None or stride == [] else _pair(stride, "[max_pool2d] stride")
    pads, dilations = _pair(padding, "[max_pool2d] padding"), _pair(dilation, "[max_pool2d] dilation")
    wants_x = input.requires_grad and _grad_mode.enabled
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
        _not_a_tensor("avg_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        return avg_pool2d(
            input.unsqueeze(0), kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        ).squeeze(0)
    if divisor_override == 0:
        raise ValueError("[avg_pool2d] expected divisor_override other than 0, got 0")
    kernel = _pair(kernel_size, "[avg_pool2d] kernel_size")
    strides = kernel if stride is None or stride == [] else _pair(stride, "[avg_pool2d] stride")
    pads = _pair(padding, "[avg_pool2d] padding")
    divisor = divisor_override or 0
    y = B.avg_pool2d(x, kernel, strides, pads, ceil_mode, count_include_pad, divisor)
    if not (input.requires_grad and _grad_mode.enabled):
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
        _not_a_tensor("adaptive_avg_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        return adaptive_avg_pool2d(input.unsqueeze(0), output_size).squeeze(0)
    size = _output_size(output_size, shape, "adaptive_avg_pool2d")
    y = B.adaptive_avg_pool2d(x, size)
    if not (input.requires_grad and _grad_mode.enabled):
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
        _not_a_tensor("adaptive_max_pool2d", input)
    x = input.data
    shape = x.shape
    if len(shape) == 3:
        batch = adaptive_max_pool2d(input.unsqueeze(0), output_size, return_indices)
        return tuple([t.squeeze(0) for t in batch]) if return_indices else batch.squeeze(0)
    wants_x = input.requires_grad and _grad_mode.enabled
    size = _output_size(output_size, shape, "adaptive_max_pool2d")
    y, indices = B.adaptive_max_pool2d(x, size, wants_x or return_indices)

    if not wants_x or indices is None:
        output = Tensor(y)
    else:

        def backward(dy: Array) -> tuple[Array]:
            return (B.max_pool2d_backward(dy, indices, shape),)

        output = record(y, (input,), backward)
    return (output, Tensor(B.cast(indices, "int64"))) if indices is not None and return_indices else output


# --- normalization -------------------------------------------------------------------------------------------------


def _data(x: Tensor | None) -> Array | None:
    return None if x is None else x.data


def _wants(x: Tensor | None) -> bool:
    return x is not None and x.requires_grad


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel to mean 0 and variance 1, then scales and shifts it.

    Args:
        input: channels are axis 1.
        running_mean: mean of each channel; updated in place when training.
        running_var: unbiased variance of each channel; updated in place when training.
        weight: factor per channel.
        bias: summand per channel.
        training: whether statistics come from the batch rather than from the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Shape:
        input (N, C), (N, C, L) or (N, C, H, W), all others (C); output as input.

    Raises:
        ValueError: when training on one value per channel.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.batch_norm(engine.tensor([[1.0], [3.0]]), None, None, training=True).flatten()
        tensor([-1.,  1.])

    Reference: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167; torch.nn.functional.batch_norm.
    """
    return batch_norm_act(input, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm_act(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str = "none",
    out: Place | None = None,
) -> Tensor:
    """Batch norm, then a residual added and an activation applied, in one pass: activation(batch_norm(x) + residual).

    The backward pass computes again what the activation saw, so nothing more than for the batch norm is kept.

    Args:
        input: channels are axis 1.
        running_mean: mean of each channel; updated in place when training.
        running_var: unbiased variance of each channel; updated in place when training.
        weight: factor per channel.
        bias: summand per channel.
        training: whether statistics come from the batch rather than from the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        residual: added before the activation.
        activation: "none", "relu", "relu6", "silu" or "hardswish".
        out: with an input (N, C, H, W) called with the output's shape for the array (pixels of adjacent channels) that
            the output is written to; where it returns None the output is an array of its own.

    Shape:
        input (N, C), (N, C, L) or (N, C, H, W), residual and output the same, all others (C).

    Raises:
        ValueError: when training on one value per channel, or for another activation.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> x, shortcut = engine.tensor([[1.0], [3.0]]), engine.tensor([[-1.0], [1.0]])
        >>> F.batch_norm_act(x, None, None, training=True, residual=shortcut, activation="relu").flatten()
        tensor([0., 2.])
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("batch_norm", input)
    x = input.data
    if training:
        shape = x.shape
        if len(shape) > 1 and x.size == shape[1] and x.size:
            raise ValueError(
                f"[batch_norm] expected more than 1 value per channel when training, got input of shape {shape}: "
                "use a larger batch (drop_last=True in the loader) or eval()"
            )
    elif running_mean is None or running_var is None:
        raise ValueError("[batch_norm] expected running_mean and running_var when training=False")
    w, added, mean, var = _data(weight), _data(residual), _data(running_mean), _data(running_var)
    place = None if out is None or x.ndim != 4 else out(x.shape)
    y, mean, invstd, shift = B.batch_norm(
        x, w, _data(bias), mean, var, training, float(momentum), eps, added, activation, place
    )
    inputs = (input, weight, bias, residual)
    if not _grad_mode.enabled or not any(_wants(t) for t in inputs):
        return Tensor(y)
    kept = None
    if added is not None and activation != "none":
        kept = y if activation in ("relu", "relu6") else added

    def backward(dy: Array) -> tuple[Array | None, ...]:
        dx, dw, db, d_added = B.batch_norm_backward(dy, x, w, mean, invstd, training, shift, kept, activation)
        return dx, dw, db, dy if d_added is None else d_added

    return record(y, inputs, backward, alias=residual is not None and kept is None)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel of each image on its own.

    Args:
        input: channels are axis 1.
        running_mean: mean of each channel over images; updated in place with use_input_stats.
        running_var: unbiased variance of each channel over images; updated in place with use_input_stats.
        weight: factor per channel.
        bias: summand per channel.
        use_input_stats: whether statistics come from the input rather than from the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Shape:
        input (N, C, ...), all others (C); output as input.

    Raises:
        ValueError: for one value per channel.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.instance_norm(engine.tensor([[[1.0, 3.0]]]))
        tensor([[[-1.,  1.]]])

    Reference: Ulyanov et al., 2016, https://arxiv.org/abs/1607.08022; torch.nn.functional.instance_norm.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    shape = input.shape
    if len(shape) < 3:
        raise ValueError(f"[instance_norm] expected input (N, C, ...), got shape {shape}")
    count = math.prod(shape[2:])
    if count == 1:
        raise ValueError(f"[instance_norm] expected more than 1 value per channel, got input of shape {shape}")
    if running_mean is not None and running_var is not None and input.data.size:
        x = input.detach()
        axes = tuple(range(2, len(shape)))
        for running, batch in ((running_mean, x.mean(axes)), (running_var, x.var(axes))):
            running.copy_(running * (1 - momentum) + batch.mean(0) * momentum)
    return group_norm(input, shape[1], weight, bias, eps)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes over the last dimensions, then scales and shifts.

    Args:
        input: any shape that ends in normalized_shape.
        normalized_shape: sizes of the dimensions that are normalized together.
        weight: factors.
        bias: summands.
        eps: added to the variance.

    Shape:
        input (..., *normalized_shape), weight and bias normalized_shape; output as input.

    Raises:
        ValueError: if the input does not end in normalized_shape.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.layer_norm(engine.tensor([[1.0, 3.0]]), (2,))
        tensor([[-1.,  1.]])

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450; torch.nn.functional.layer_norm.
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("layer_norm", input)
    x = input.data
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    dims = len(wanted)
    if dims == 0 or x.shape[-dims:] != wanted:
        raise ValueError(f"[layer_norm] expected input that ends in normalized_shape={wanted}, got shape {x.shape}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.data.shape != wanted:
            raise ValueError(f"[layer_norm] expected {name} of shape {wanted}, got {parameter.data.shape}")
    w = _data(weight)
    y, mean, invstd = B.layer_norm(x, dims, w, _data(bias), eps)
    if not _grad_mode.enabled or not (input.requires_grad or _wants(weight) or _wants(bias)):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array | None, ...]:
        return B.layer_norm_backward(dy, x, w, mean, invstd, dims)

    return record(y, (input, weight, bias), backward)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes groups of channels of each image, then scales and shifts each channel.

    Args:
        input: channels are axis 1.
        num_groups: number of groups; divides the number of channels.
        weight: factor per channel.
        bias: summand per channel.
        eps: added to the variance.

    Shape:
        input (N, C, ...), weight and bias (C); output as input.

    Raises:
        ValueError: if the groups do not divide the channels.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.group_norm(engine.ones(2, 4, 3, 3), 2).shape
        (2, 4, 3, 3)

    Reference: Wu and He, 2018, https://arxiv.org/abs/1803.08494; torch.nn.functional.group_norm.
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("group_norm", input)
    x, w = input.data, _data(weight)
    y, mean, invstd = B.group_norm(x, num_groups, w, _data(bias), eps)
    if not _grad_mode.enabled or not (input.requires_grad or _wants(weight) or _wants(bias)):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array | None, ...]:
        return B.group_norm_backward(dy, x, w, mean, invstd, num_groups)

    return record(y, (input, weight, bias), backward)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divides by (k + alpha * mean of the squares of `size` neighbouring channels) ** beta.

    Args:
        input: channels are axis 1.
        size: number of neighbouring channels.
        alpha: factor of the mean square.
        beta: exponent.
        k: summand.

    Shape:
        input (N, C, H, W); output as input.

    Raises:
        ValueError: for another rank or a size below 1.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.local_response_norm(engine.ones(1, 8, 2, 2), 5).shape
        (1, 8, 2, 2)

    Reference: Krizhevsky et al., 2012 (AlexNet), section 3.3; torch.nn.functional.local_response_norm.
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("local_response_norm", input)
    x = input.data
    y = B.local_response_norm(x, size, alpha, beta, k)

    def backward(dy: Array) -> tuple[Array]:
        return (B.local_response_norm_backward(dy, x, y, size, alpha, beta, k),)

    return record(y, (input,), backward)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divides vectors along `dim` by their p-norm.

    Args:
        input: the vectors.
        p: exponent of the norm.
        dim: dimension of the vectors.
        eps: smallest divisor.

    Shape:
        input of any shape; output as input.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.normalize(engine.tensor([[3.0, 4.0]]))
        tensor([[0.6, 0.8]])

    Reference: torch.nn.functional.normalize.
    """
    return input / input.norm(p, dim, True).clamp(min=eps)


# --- activations ---------------------------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0).

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.relu(engine.tensor([-1.0, 2.0]))
        tensor([0., 2.])

    Reference: torch.nn.functional.relu.
    """
    return elementwise(input, "relu")


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6).

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.relu6(engine.tensor([-1.0, 2.0, 8.0]))
        tensor([0., 2., 6.])

    Reference: torch.nn.functional.relu6.
    """
    return elementwise(input, "relu6")


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, else negative_slope * x.

    Args:
        input: any shape.
        negative_slope: slope below zero.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.leaky_relu(engine.tensor([-1.0, 2.0]), 0.5)
        tensor([-0.5,  2. ])

    Reference: torch.nn.functional.leaky_relu.
    """
    return elementwise(input, "leaky_relu", float(negative_slope))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where positive, else weight * x with a learnt weight.

    Args:
        input: channels are axis 1.
        weight: one slope, or one per channel.

    Shape:
        input (N, C, ...), weight (1) or (C); output as input.

    Raises:
        ValueError: if there are neither one nor C slopes.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.prelu(engine.tensor([-1.0, 2.0]), engine.tensor([0.25]))
        tensor([-0.25,  2.  ])

    Reference: He et al., 2015, https://arxiv.org/abs/1502.01852; torch.nn.functional.prelu.
    """
    x, w = input.data, weight.data

    def backward(dy: Array) -> tuple[Array, Array]:
        return B.prelu_backward(dy, x, w)

    return record(B.prelu(x, w), (input, weight), backward)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1).

    Args:
        input: any shape.
        alpha: minus the limit at minus infinity.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.elu(engine.tensor([0.0, 2.0]))
        tensor([0., 2.])

    Reference: Clevert et al., 2015, https://arxiv.org/abs/1511.07289; torch.nn.functional.elu.
    """
    return elementwise(input, "elu", float(alpha))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """ELU with the two constants that keep mean 0 and variance 1 from layer to layer.

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.selu(engine.tensor([0.0, 1.0]))
        tensor([0.    , 1.0507])

    Reference: Klambauer et al., 2017, https://arxiv.org/abs/1706.02515; torch.nn.functional.selu.
    """
    return elementwise(input, "selu")


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * P(standard normal <= x).

    Args:
        input: any shape.
        approximate: "none" for the error function, "tanh" for the approximation by tanh.

    Raises:
        ValueError: for another approximation.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.gelu(engine.tensor([0.0, 1.0]))
        tensor([0.    , 0.8413])

    Reference: Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415; torch.nn.functional.gelu.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f'[gelu] expected approximate "none" or "tanh", got {approximate!r}')
    return elementwise(input, "gelu" if approximate == "none" else "gelu_tanh")


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x), also called swish.

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.silu(engine.tensor([0.0, 1.0]))
        tensor([0.    , 0.7311])

    Reference: Elfwing et al., 2017, https://arxiv.org/abs/1702.03118; torch.nn.functional.silu.
    """
    return elementwise(input, "silu")


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)).

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.mish(engine.tensor([0.0, 1.0]))
        tensor([0.    , 0.8651])

    Reference: Misra, 2019, https://arxiv.org/abs/1908.08681; torch.nn.functional.mish.
    """
    return elementwise(input, "mish")


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x)).

    Args:
        input: any shape.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.sigmoid(engine.tensor([0.0]))
        tensor([0.5])

    Reference: torch.nn.functional.sigmoid.
    """
    return elementwise(input, "sigmoid")


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent.

    Args:
        input: any shape.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.tanh(engine.tensor([0.0]))
        tensor([0.])

    Reference: torch.nn.functional.tanh.
    """
    return elementwise(input, "tanh")


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), precise for large negative x.

    Args:
        input: any shape.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.logsigmoid(engine.tensor([-100.0]))
        tensor([-100.])

    Reference: torch.nn.functional.logsigmoid.
    """
    return elementwise(input, "logsigmoid")


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta.

    Args:
        input: any shape.
        beta: steepness.
        threshold: where beta * x is larger, the result is x.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.softplus(engine.tensor([0.0, 30.0]))
        tensor([ 0.6931, 30.    ])

    Reference: torch.nn.functional.softplus.
    """
    return elementwise(input, "softplus", float(beta), float(threshold))


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|).

    Args:
        input: any shape.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.softsign(engine.tensor([1.0]))
        tensor([0.5])

    Reference: torch.nn.functional.softsign.
    """
    return elementwise(input, "softsign")


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val].

    Args:
        input: any shape.
        min_val: lower limit.
        max_val: upper limit.
        inplace: accepted, without effect.

    Raises:
        ValueError: if min_val is larger than max_val.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.hardtanh(engine.tensor([-2.0, 0.5]))
        tensor([-1. ,  0.5])

    Reference: torch.nn.functional.hardtanh.
    """
    if min_val > max_val:
        raise ValueError(f"[hardtanh] expected min_val <= max_val, got {min_val} and {max_val}")
    return elementwise(input, "hardtanh", float(min_val), float(max_val))


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * min(max(x + 3, 0), 6) / 6.

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.hardswish(engine.tensor([-3.0, 3.0]))
        tensor([-0.,  3.])

    Reference: Howard et al., 2019, https://arxiv.org/abs/1905.02244; torch.nn.functional.hardswish.
    """
    return elementwise(input, "hardswish")


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6.

    Args:
        input: any shape.
        inplace: accepted, without effect.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.hardsigmoid(engine.tensor([-3.0, 0.0]))
        tensor([0. , 0.5])

    Reference: torch.nn.functional.hardsigmoid.
    """
    return elementwise(input, "hardsigmoid")


def _softmax_dim(dim: int | None, ndim: int) -> int:
    """PyTorch's choice when no dimension is given."""
    return dim if dim is not None else 0 if ndim in (0, 1, 3) else 1


def softmax(input: Tensor, dim: int | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`.

    Args:
        input: any shape.
        dim: dimension whose values add up to 1; by default 0 for one or three dimensions, else 1.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.softmax(engine.tensor([[1.0, 1.0]]), dim=1)
        tensor([[0.5, 0.5]])

    Reference: torch.nn.functional.softmax.
    """
    return input.softmax(_softmax_dim(dim, input.data.ndim))


def log_softmax(input: Tensor, dim: int | None = None) -> Tensor:
    """log(softmax(x)) along `dim`, computed without underflow.

    Args:
        input: any shape.
        dim: dimension whose probabilities add up to 1; by default 0 for one or three dimensions, else 1.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.log_softmax(engine.tensor([[1.0, 1.0]]), dim=1)
        tensor([[-0.6931, -0.6931]])

    Reference: torch.nn.functional.log_softmax.
    """
    return input.log_softmax(_softmax_dim(dim, input.data.ndim))


# --- dropout -------------------------------------------------------------------------------------------------------


def _drop(input: Tensor, p: float, kind: str, name: str) -> Tensor:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"[{name}] expected a probability between 0 and 1, got p={p}")
    if p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    seed, offset = random.next_key()
    y = B.dropout(input.data, p, seed, offset, kind)
    if not (input.requires_grad and _grad_mode.enabled):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array]:
        return (B.dropout(dy, p, seed, offset, kind),)  # the same numbers, so the same mask

    return record(y, (input,), backward)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets elements to zero with probability p and divides the others by 1 - p.

    Args:
        input: any shape.
        p: probability of zero.
        training: whether anything is dropped at all.
        inplace: accepted, without effect.

    Raises:
        ValueError: if p is not a probability.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.dropout(engine.ones(2), training=False)
        tensor([1., 1.])

    Reference: Srivastava et al., 2014; torch.nn.functional.dropout.
    """
    return _drop(input, p, "element", "dropout") if training else input


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels to zero with probability p and divides the others by 1 - p.

    Args:
        input: channels are axis 1.
        p: probability of zero.
        training: whether anything is dropped at all.
        inplace: accepted, without effect.

    Shape:
        input (N, C, H, W) or (C, H, W); output as input.

    Raises:
        ValueError: if p is not a probability.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.dropout2d(engine.ones(1, 2, 3, 3), training=False).sum().item()
        18.0

    Reference: Tompson et al., 2014, https://arxiv.org/abs/1411.4280; torch.nn.functional.dropout2d.
    """
    if training and input.data.ndim == 3:
        return _drop(input.unsqueeze(0), p, "channel", "dropout2d").squeeze(0)
    return _drop(input, p, "channel", "dropout2d") if training else input


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """Sets the whole input, or single images, to zero with probability p and divides the others by 1 - p.

    Args:
        input: images are axis 0.
        p: probability of zero.
        mode: "batch" drops all images together, "row" each on its own.
        training: whether anything is dropped at all.

    Raises:
        ValueError: if p is not a probability or the mode is another.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.stochastic_depth(engine.ones(2), 0.2, "row", training=False)
        tensor([1., 1.])

    Reference: Huang et al., 2016, https://arxiv.org/abs/1603.09382; torchvision.ops.stochastic_depth.
    """
    if mode not in ("batch", "row"):
        raise ValueError(f'[stochastic_depth] expected mode "batch" or "row", got {mode!r}')
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"[stochastic_depth] expected a probability between 0 and 1, got p={p}")
    if not training or p == 0.0:
        return input
    if mode == "batch":
        return input * _drop(full((1,), 1.0), p, "element", "stochastic_depth")
    return _drop(input, p, "row", "stochastic_depth")


# --- losses --------------------------------------------------------------------------------------------------------


def _reduce(loss: Tensor, reduction: str, name: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    raise ValueError(f'[{name}] expected reduction "mean", "sum" or "none", got {reduction!r}')


def _same_shape(input: Tensor, target: Tensor, name: str) -> None:
    if input.data.shape != target.data.shape:
        raise ValueError(
            f"[{name}] expected input and target of one shape, got {input.data.shape} and {target.data.shape}: "
            "reshape or expand one of them"
        )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target) ** 2.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.mse_loss(engine.tensor([1.0, 3.0]), engine.tensor([1.0, 1.0])).item()
        2.0

    Reference: torch.nn.functional.mse_loss.
    """
    _same_shape(input, target, "mse_loss")
    return _reduce((input - target).square(), reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.l1_loss(engine.tensor([1.0, 3.0]), engine.tensor([1.0, 1.0])).item()
        1.0

    Reference: torch.nn.functional.l1_loss.
    """
    _same_shape(input, target, "l1_loss")
    return _reduce((input - target).abs(), reduction, "l1_loss")


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared error up to delta, beyond that linear.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".
        delta: where the parabola becomes a line.

    Raises:
        ValueError: if shapes differ or delta is not positive.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.huber_loss(engine.tensor([0.0, 3.0]), engine.tensor([1.0, 0.0]), reduction="none")
        tensor([0.5, 2.5])

    Reference: torch.nn.functional.huber_loss.
    """
    _same_shape(input, target, "huber_loss")
    if delta <= 0:
        raise ValueError(f"[huber_loss] expected delta > 0, got {delta}")
    error = (input - target).abs()
    return _reduce(where(error <= delta, error.square() * 0.5, (error - 0.5 * delta) * delta), reduction, "huber_loss")


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """The Huber loss divided by beta.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".
        beta: where the parabola becomes a line; 0 gives the L1 loss.

    Raises:
        ValueError: if shapes differ or beta is negative.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.smooth_l1_loss(engine.tensor([0.0, 3.0]), engine.tensor([1.0, 0.0]), reduction="none")
        tensor([0.5, 2.5])

    Reference: Girshick, 2015, https://arxiv.org/abs/1504.08083; torch.nn.functional.smooth_l1_loss.
    """
    _same_shape(input, target, "smooth_l1_loss")
    if beta < 0:
        raise ValueError(f"[smooth_l1_loss] expected beta >= 0, got {beta}")
    error = (input - target).abs()
    if beta == 0:
        return _reduce(error, reduction, "smooth_l1_loss")
    return _reduce(where(error < beta, error.square() * (0.5 / beta), error - 0.5 * beta), reduction, "smooth_l1_loss")


def _class_target(input: Tensor, target: Tensor, name: str) -> Array:
    """The target as int64, checked against the shape of (N, C, ...) scores."""
    labels = target.data
    kind = labels.dtype
    shape = input.data.shape
    if kind == "float32":
        values = "" if B.all_finite([labels]) else ", which holds NaN labels or infinity"
        raise TypeError(
            f"[{name}] expected class indices of int64, got a float32 target of shape {labels.shape}{values} for input "
            f"of shape {shape}: use target.long(), or class probabilities of the input's shape"
        )
    if kind == "bool":
        raise TypeError(f"[{name}] expected class indices of int64, got bool: use target.long()")
    if labels.shape != (shape[:1] + shape[2:] if len(shape) > 1 else ()):
        raise ValueError(
            f"[{name}] expected a target of shape {shape[:1] + shape[2:] if len(shape) > 1 else ()} for input of "
            f"shape {shape}, got {labels.shape}: one class index per image or pixel"
        )
    return labels if kind == "int64" else B.cast(labels, "int64")


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(softmax(input)) of the right class.

    Args:
        input: scores before softmax; classes are axis 1.
        target: class indices, or probabilities of all classes.
        weight: factor per class.
        ignore_index: targets of this class do not count.
        reduction: "mean" (weighted with class indices and weight), "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes.

    Shape:
        input (N, C), (N, C, ...) or (C); target (N), (N, ...) or () of int64, or float32 of the input's shape;
        weight (C). Output: a scalar, with reduction="none" the shape of the class indices.

    Raises:
        ValueError: if shapes do not match.
        TypeError: if class indices are not integers (NaN labels among them).
        IndexError: if a class index is out of range.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.cross_entropy(engine.zeros(3, 4), engine.tensor([0, 1, 3]))
        tensor(1.3863)

    Reference: torch.nn.functional.cross_entropy; label smoothing: Szegedy et al., 2015,
    https://arxiv.org/abs/1512.00567.
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("cross_entropy", input)
    x = input.data
    shape = x.shape
    if target.data.dtype == "float32" and target.data.shape == shape:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    labels = _class_target(input, target, "cross_entropy")
    rank = len(shape)
    if rank != 2 and rank != 4:
        if rank == 0:
            raise ValueError("[cross_entropy] expected input (N, C), (N, C, ...) or (C), got a scalar")
        flat = (1, shape[0]) if rank == 1 else (shape[0], shape[1], 1, math.prod(shape[2:]))
        loss = cross_entropy(
            input.reshape(flat),
            Tensor(B.reshape(labels, flat[:1] + flat[2:])),
            weight,
            ignore_index,
            reduction,
            label_smoothing,
        )
        return loss.reshape(labels.shape) if reduction == "none" else loss
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'[cross_entropy] expected reduction "mean", "sum" or "none", got {reduction!r}')
    w = None if weight is None else weight.data
    loss_, log_probs, total = B.cross_entropy(x, labels, w, ignore_index, label_smoothing, reduction)
    if not (input.requires_grad and _grad_mode.enabled):
        return Tensor(loss_)

    def backward(dy: Array) -> tuple[Array]:
        return (B.cross_entropy_backward(dy, log_probs, labels, w, ignore_index, label_smoothing, reduction, total),)

    return record(loss_, (input,), backward)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    shape = input.data.shape
    axis = 0 if len(shape) == 1 else 1
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"[cross_entropy] expected label_smoothing between 0 and 1, got {label_smoothing}")
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / shape[axis]
    terms = log_softmax(input, axis) * target
    if weight is not None:
        terms = terms * _per_class(weight, shape, axis, "cross_entropy")
    loss = -terms.sum(axis)
    if reduction == "mean":  # PyTorch divides by the number of distributions, whatever the weights
        return loss.sum() / float(max(math.prod(shape) // max(shape[axis], 1), 1))
    return _reduce(loss, reduction, "cross_entropy")


def _per_class(weight: Tensor, shape: tuple[int, ...], axis: int, name: str) -> Tensor:
    """A weight per class in a shape that broadcasts along the class axis."""
    if weight.data.shape != (shape[axis],):
        raise ValueError(f"[{name}] expected one weight per class, ({shape[axis]},), got {weight.data.shape}")
    return weight.reshape((shape[axis],) + (1,) * (len(shape) - axis - 1))


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-input of the right class; with log-probabilities the negative log-likelihood.

    Args:
        input: log-probabilities; classes are axis 1.
        target: class indices.
        weight: factor per class.
        ignore_index: targets of this class do not count.
        reduction: "mean" (weighted), "sum" or "none".

    Shape:
        input (N, C), (N, C, ...) or (C); target (N), (N, ...) or () of int64; weight (C). Output: a scalar, with
        reduction="none" the shape of the target.

    Raises:
        ValueError: if shapes do not match.
        TypeError: if class indices are not integers.
        IndexError: if a class index is out of range.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.nll_loss(engine.tensor([[-1.0, -2.0]]), engine.tensor([1])).item()
        2.0

    Reference: torch.nn.functional.nll_loss.
    """
    labels = Tensor(_class_target(input, target, "nll_loss"))
    shape = input.data.shape
    axis = 0 if len(shape) == 1 else 1
    counts = labels != ignore_index
    valid = where(counts, labels, 0)
    if valid.data.size:
        low, high = valid.min().item(), valid.max().item()
        if low < 0 or high >= shape[axis]:
            raise IndexError(f"[nll_loss] expected class indices in [0, {shape[axis]}), got {low if low < 0 else high}")
    picked = input.gather(axis, valid.unsqueeze(axis)).squeeze(axis)
    if weight is None:
        scale = counts.float()
    else:
        _per_class(weight, shape, axis, "nll_loss")
        scale = where(counts, weight[valid], 0.0)
    # where rather than a product: an ignored -inf must not become NaN
    loss = where(counts, -picked, 0.0) * scale
    if reduction == "mean":
        return loss.sum() / scale.sum()
    return _reduce(loss, reduction, "nll_loss")


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), with logarithms no smaller than -100.

    Args:
        input: probabilities.
        target: truths between 0 and 1, of the same shape.
        weight: factor that broadcasts to the input.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ or a probability lies outside [0, 1].

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.binary_cross_entropy(engine.tensor([0.5]), engine.tensor([1.0]))
        tensor(0.6931)

    Reference: torch.nn.functional.binary_cross_entropy.
    """
    _same_shape(input, target, "binary_cross_entropy")
    x, t = input.data, target.data
    if x.size:
        low, high = (B.reduce(op, x, tuple(range(x.ndim)), False).item() for op in ("min", "max"))
        if low < 0 or high > 1:
            raise ValueError(
                f"[binary_cross_entropy] expected probabilities between 0 and 1, got values from {low} to {high}: "
                "use binary_cross_entropy_with_logits for scores"
            )
    log_x = B.binary("maximum", B.unary("log", x), -100.0)
    log_1_x = B.binary("maximum", B.unary("log1p", B.unary("neg", x)), -100.0)
    # t log x + (1 - t) log(1 - x), negated
    y = B.binary("sub", B.binary("mul", B.binary("sub", t, 1.0), log_1_x), B.binary("mul", t, log_x))

    def backward(dy: Array) -> tuple[Array, Array | None]:
        variance = B.binary("maximum", B.binary("mul", B.binary("sub", 1.0, x), x), 1e-12)
        dx = B.binary("mul", dy, B.binary("div", B.binary("sub", x, t), variance))
        dt = B.binary("mul", dy, B.binary("sub", log_1_x, log_x)) if target.requires_grad else None
        return dx, dt

    loss = record(y, (input, target), backward)
    if weight is not None:
        loss = loss * weight
    return _reduce(loss, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """The binary cross-entropy of sigmoid(input), computed without overflow.

    Args:
        input: scores before the sigmoid.
        target: truths between 0 and 1, of the same shape.
        weight: factor that broadcasts to the input.
        reduction: "mean", "sum" or "none".
        pos_weight: factor of the positive truths, broadcasts to the input.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.binary_cross_entropy_with_logits(engine.tensor([0.0]), engine.tensor([1.0]))
        tensor(0.6931)

    Reference: torch.nn.functional.binary_cross_entropy_with_logits.
    """
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    penalty = logsigmoid(input)
    if pos_weight is not None:
        penalty = penalty * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - penalty
    if weight is not None:
        loss = loss * weight
    return _reduce(loss, reduction, "binary_cross_entropy_with_logits")


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence target * (log(target) - input).

    Args:
        input: log-probabilities.
        target: probabilities, of the same shape.
        reduction: "mean" (over all elements), "batchmean" (the sum over N: the divergence itself), "sum" or "none".
        log_target: whether the target holds log-probabilities.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.kl_div(engine.tensor([[0.0]]), engine.tensor([[1.0]]), reduction="batchmean").item()
        0.0

    Reference: torch.nn.functional.kl_div.
    """
    _same_shape(input, target, "kl_div")
    if log_target:
        loss = target.exp() * (target - input)
    else:  # 0 log 0 is 0
        positive = target != 0
        loss = where(positive, target * where(positive, target, 1.0).log(), 0.0) - target * input
    if reduction == "batchmean":
        return loss.sum() / float(max(input.shape[0], 1)) if input.ndim else loss
    return _reduce(loss, reduction, "kl_div")


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Binary cross-entropy with logits, times (1 - probability of the truth) ** gamma: easy examples count less.

    Args:
        inputs: scores before the sigmoid.
        targets: 0 or 1, of the same shape.
        alpha: weight of the positive truths, 1 - alpha of the negative ones; negative for no weights.
        gamma: how much less easy examples count.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ or alpha is larger than 1.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.sigmoid_focal_loss(engine.tensor([0.0]), engine.tensor([1.0]))
        tensor([0.0433])

    Reference: Lin et al., 2017, https://arxiv.org/abs/1708.02002; torchvision.ops.sigmoid_focal_loss.
    """
    if alpha > 1:
        raise ValueError(f"[sigmoid_focal_loss] expected alpha <= 1, got {alpha}")
    targets = targets.float()
    p = inputs.sigmoid()
    loss = binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_true = p * targets + (1 - p) * (1 - targets)
    loss = loss * (1 - p_true) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduce(loss, reduction, "sigmoid_focal_loss")


# --- images --------------------------------------------------------------------------------------------------------


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Adds elements around the last dimensions.

    Args:
        input: any shape; for the modes other than "constant" (N, C, H, W) or (C, H, W).
        pad: elements before and after the last dimension, then the one before it, ...: (left, right, top, bottom).
            Negative numbers cut off.
        mode: "constant", "reflect" (without repeating the edge) or "replicate" (of the edge).
        value: the constant; 0 by default.

    Raises:
        ValueError: if more is reflected than there is, or the mode is unknown.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.pad(engine.ones(1, 2), (1, 0))
        tensor([[0., 1., 1.]])

    Reference: torch.nn.functional.pad.
    """
    if not isinstance(input, Tensor):
        _not_a_tensor("pad", input)
    x = input.data
    shape = x.shape
    pads = tuple([p.__index__() for p in pad])
    if len(pads) % 2 or len(pads) > 2 * len(shape):
        raise ValueError(f"[pad] expected a pair of numbers for each of at most {len(shape)} dimensions, got {pads}")
    if mode not in ("constant", "reflect", "replicate"):
        raise ValueError(f'[pad] expected mode "constant", "reflect" or "replicate", got {mode!r}')
    if mode != "constant":
        if value not in (None, 0):
            raise ValueError(f'[pad] expected value only with mode "constant", got mode={mode!r}, value={value}')
        if len(shape) == 3:
            return _pad_image(input.unsqueeze(0), pads, mode).squeeze(0)
        return _pad_image(input, pads, mode)
    if len(shape) == 4 and len(pads) == 4 and min(pads) >= 0 and x.dtype == "float32":
        return _pad_image(input, pads, mode, 0.0 if value is None else float(value))
    out, inner, outer = list(shape), [], []  # where the kept part lies in the input and in the output
    for axis, n in enumerate(shape):
        i = 2 * (len(shape) - 1 - axis)
        before, after = pads[i : i + 2] if i < len(pads) else (0, 0)
        out[axis] = n + before + after
        if out[axis] < 0:
            raise ValueError(
                f"[pad] expected sizes >= 0, got {out[axis]} for dimension {axis} of {shape} with padding {pads}"
            )
        inner.append((max(-before, 0), max(n - max(-after, 0), max(-before, 0))))
        outer.append((max(before, 0), max(before, 0) + inner[-1][1] - inner[-1][0]))
    steps = (1,) * len(shape)
    inner_starts, inner_stops = ([r[i] for r in inner] for i in range(2))
    outer_starts, outer_stops = ([r[i] for r in outer] for i in range(2))
    y = B.full(tuple(out), 0 if value is None else value, x.dtype)
    B.copy_(B.slice(y, outer_starts, outer_stops, steps), B.slice(x, inner_starts, inner_stops, steps))

    def backward(dy: Array) -> tuple[Array]:
        dx = B.full(shape, 0.0, "float32")
        B.copy_(B.slice(dx, inner_starts, inner_stops, steps), B.slice(dy, outer_starts, outer_stops, steps))
        return (dx,)

    return record(y, (input,), backward)


def _pad_image(input: Tensor, pads: tuple[int, ...], mode: str, value: float = 0.0) -> Tensor:
    x = input.data
    shape = x.shape
    if len(pads) == 2:
        pads = (*pads, 0, 0)
    if len(pads) != 4 or len(shape) != 4:
        raise ValueError(
            f"[pad] mode {mode!r} expected (left, right) or (left, right, top, bottom) for input (N, C, H, W) or "
            f"(C, H, W), got {pads} for shape {shape}"
        )
    if mode != "constant" and min(pads) < 0:  # add first, then cut off
        grown = _pad_image(input, tuple([max(p, 0) for p in pads]), mode)
        return _pad_image(grown, tuple([min(p, 0) for p in pads]), "constant")
    y = B.pad(x, pads, mode, value)

    def backward(dy: Array) -> tuple[Array]:
        return (B.pad_backward(dy, shape, pads, mode),)

    return record(y, (input,), backward)


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
        _not_a_tensor("interpolate", input)
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
        height, width = _pair(size, "[interpolate] size")
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


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A 1 at each class index, else 0.

    Args:
        tensor: class indices of int64.
        num_classes: number of classes; by default the largest index plus one.

    Shape:
        tensor (...); output (..., num_classes) of int64.

    Raises:
        ValueError: if an index is negative or too large.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.one_hot(engine.tensor([0, 2]), 3)
        tensor([[1, 0, 0],
                [0, 0, 1]])

    Reference: torch.nn.functional.one_hot.
    """
    labels = tensor.data
    if labels.dtype != "int64":
        raise TypeError(f"[one_hot] expected class indices of int64, got {labels.dtype}: use .long()")
    if labels.size:
        low, high = tensor.min().item(), tensor.max().item()
        if low < 0 or 0 <= num_classes <= high:
            raise ValueError(f"[one_hot] expected class indices in [0, {num_classes}), got {low} to {high}")
        num_classes = high + 1 if num_classes < 0 else num_classes
    elif num_classes < 0:
        raise ValueError("[one_hot] expected num_classes for an empty tensor")
    classes = B.arange(0, num_classes, 1, "int64")
    return Tensor(B.cast(B.binary("eq", B.reshape(labels, (*labels.shape, 1)), classes), "int64"))
