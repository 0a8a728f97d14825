"""Convolution, and the transposed one."""

from __future__ import annotations

from engine import backend as B
from engine.autograd import mode as grad_mode, record
from engine.backend import Array
from engine.functional._arguments import Place, Size2, data_of, not_a_tensor, pair, wants_grad
from engine.tensor import Tensor, elementwise


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
        not_a_tensor("conv2d", input)
    x, w = input.data, weight.data
    shape = x.shape
    if len(shape) == 3:
        added = None if residual is None else residual.unsqueeze(0)
        batch = input.unsqueeze(0)
        return conv2d_act(
            batch, weight, bias, stride, padding, dilation, groups, added, activation, None, prologue
        ).squeeze(0)
    stride = pair(stride, "[conv2d] stride")
    dilation = pair(dilation, "[conv2d] dilation")
    if padding.__class__ is str:
        pads = _named_padding(padding, w.shape, stride, dilation)
    else:
        ph, pw = pair(padding, "[conv2d] padding")
        pads = (ph, ph, pw, pw)
    wants_x, wants_w, wants_b = input.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    recorded = grad_mode.enabled and (wants_x or wants_w or wants_b or wants_grad(residual))
    before = None
    if prologue is not None:
        scale, shift, name = prologue
        if recorded or (grad_mode.enabled and (wants_grad(scale) or wants_grad(shift))):
            seen = input * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)
            seen = seen if name == "none" else elementwise(seen, name)
            return conv2d_act(seen, weight, bias, stride, padding, dilation, groups, residual, activation, out)
        before = (scale.data, shift.data, name)
    # The gradient of these is a function of what they saw, which one pass would not leave behind.
    applied = "none" if recorded and activation in ("silu", "hardswish") else activation
    place = None
    if out is not None and applied == activation:
        place = out(B.conv2d_shape(shape, w.shape, stride, pads, dilation, groups))
    y = B.conv2d(x, w, data_of(bias), stride, pads, dilation, groups, data_of(residual), applied, None, before, place)
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
        not_a_tensor("conv_transpose2d", input)
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
    strides = pair(stride, "[conv_transpose2d] stride")
    padding = pair(padding, "[conv_transpose2d] padding")
    extra = pair(output_padding, "[conv_transpose2d] output_padding")
    dilations = pair(dilation, "[conv_transpose2d] dilation")
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
    if not grad_mode.enabled or not (wants_x or wants_w or wants_b):
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
