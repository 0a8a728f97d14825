"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any

from engine import functional as F, init
from engine.nn.module import Module
from engine.tensor import Parameter, Tensor, empty

__all__ = ["Identity", "Linear"]


class Identity(Module):
    """Returns its input; takes the place of a layer that is to be left out.

    Args:
        args: ignored.
        kwargs: ignored.

    Shape:
        Input (*), output (*).

    Example:
        >>> import engine
        >>> engine.nn.Identity(54, unused=True)(engine.ones(2, 3)).shape
        (2, 3)

    Follows torch.nn.Identity.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        return input


class Linear(Module):
    """Affine map of the last axis: y = x W^T + b.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: whether b is learnt; without it b is zero.

    Shape:
        Input (*, in_features), output (*, out_features); weight (out_features, in_features), bias (out_features).

    Raises:
        ValueError: at the call, when the last axis of the input is not in_features.

    Example:
        >>> import engine
        >>> engine.nn.Linear(20, 30)(engine.zeros(128, 20)).shape
        (128, 30)

    Follows torch.nn.Linear, initialisation included: uniform in +-1/sqrt(in_features).
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(empty(out_features, in_features))
        if bias:
            self.bias = Parameter(empty(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features > 0 else 0.0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
