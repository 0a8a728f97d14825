"""Activations, element by element, and softmax."""

from __future__ import annotations

from engine import backend as B
from engine.autograd import record
from engine.backend import Array
from engine.tensor import Tensor, elementwise


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
