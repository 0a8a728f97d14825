"""The linear map of a fully connected layer."""

from __future__ import annotations

from engine import backend as B
from engine.autograd import mode as grad_mode, record
from engine.backend import Array
from engine.functional._arguments import not_a_tensor
from engine.tensor import Tensor, elementwise


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
        not_a_tensor("linear", input)
    x, w = input.data, weight.data
    if x.ndim == 1:
        return linear_act(input.unsqueeze(0), weight, bias, activation).squeeze(0)
    wants_x, wants_w, wants_b = input.requires_grad, weight.requires_grad, bias is not None and bias.requires_grad
    recorded = grad_mode.enabled and (wants_x or wants_w or wants_b)
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
