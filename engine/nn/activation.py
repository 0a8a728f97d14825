"""Activations, element by element, and softmax.

`inplace` is accepted for PyTorch's sake: the result is the same, and the input is left as it is.
"""

from __future__ import annotations

from engine import functional as F, init
from engine.nn.module import Module
from engine.tensor import Parameter, Tensor, empty

__all__ = [
    "ELU",
    "GELU",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SELU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
]


class ELU(Module):
    """x where x > 0, alpha (exp(x) - 1) elsewhere.

    Args:
        alpha: value that the negative side tends to, with the sign changed.
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.ELU()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.ELU; Clevert, Unterthiner and Hochreiter, https://arxiv.org/abs/1511.07289.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


class GELU(Module):
    """x Phi(x), with the normal distribution function Phi.

    Args:
        approximate: "none" uses erf, "tanh" the approximation by tanh.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.GELU()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.GELU; Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"[GELU] approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Hardsigmoid(Module):
    """min(max(x + 3, 0), 6) / 6.

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Hardsigmoid()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Hardsigmoid; Howard et al., https://arxiv.org/abs/1905.02244.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.hardsigmoid(input)


class Hardswish(Module):
    """x min(max(x + 3, 0), 6) / 6.

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Hardswish()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Hardswish; Howard et al., https://arxiv.org/abs/1905.02244.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.hardswish(input)


class Hardtanh(Module):
    """x limited to an interval.

    Args:
        min_val: lower end.
        max_val: upper end.
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Hardtanh()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Hardtanh.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        if max_val <= min_val:
            raise ValueError(f"[Hardtanh] max_val must be larger than min_val, got {max_val} and {min_val}")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        return f"min_val={self.min_val}, max_val={self.max_val}" + (", inplace=True" if self.inplace else "")


class LeakyReLU(Module):
    """x where x > 0, negative_slope x elsewhere.

    Args:
        negative_slope: slope of the negative side.
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.LeakyReLU()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.LeakyReLU; Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic
    Models", 2013.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


class LogSigmoid(Module):
    """log(1 / (1 + exp(-x))).

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.LogSigmoid()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.LogSigmoid.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.logsigmoid(input)


class LogSoftmax(Module):
    """Logarithm of softmax along an axis.

    Args:
        dim: the axis; by default 1 for inputs of rank 2 and 4, else 0.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.LogSoftmax(1)(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.LogSoftmax.
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Mish(Module):
    """x tanh(softplus(x)).

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Mish()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Mish; Misra, https://arxiv.org/abs/1908.08681.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.mish(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class PReLU(Module):
    """x where x > 0, weight x elsewhere, with a learnt slope.

    Args:
        num_parameters: 1 slope for all channels, or one for each of so many channels.
        init: initial slope.

    Shape:
        Input (N, C, *), output the same; weight (num_parameters).

    Example:
        >>> import engine
        >>> engine.nn.PReLU()(engine.tensor([-4.0, 2.0])).tolist()
        [-1.0, 2.0]

    Follows torch.nn.PReLU; He et al., https://arxiv.org/abs/1502.01852.
    """

    weight: Parameter

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = Parameter(empty(num_parameters))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets the slopes to their initial value."""
        init.constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class ReLU(Module):
    """max(x, 0).

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.ReLU()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.ReLU.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class ReLU6(Module):
    """min(max(x, 0), 6).

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.ReLU6()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.ReLU6; Howard et al., https://arxiv.org/abs/1704.04861.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.relu6(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class SELU(Module):
    """scale * (x where x > 0, alpha (exp(x) - 1) elsewhere), with constants that keep mean 0 and variance 1.

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.SELU()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.SELU; Klambauer et al., https://arxiv.org/abs/1706.02515.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.selu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class SiLU(Module):
    """x / (1 + exp(-x)), also called swish.

    Args:
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.SiLU()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.SiLU; Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        return F.silu(input)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


class Sigmoid(Module):
    """1 / (1 + exp(-x)).

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Sigmoid()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Sigmoid.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along an axis.

    Args:
        dim: the axis; by default 1 for inputs of rank 2 and 4, else 0.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Softmax(1)(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Softmax.
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Softplus(Module):
    """log(1 + exp(beta x)) / beta, a smooth max(x, 0).

    Args:
        beta: sharpness of the bend.
        threshold: where beta x exceeds it, the result is x.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Softplus()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Softplus.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softsign(Module):
    """x / (1 + |x|).

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Softsign()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Softsign.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.softsign(input)


class Tanh(Module):
    """Hyperbolic tangent.

    Shape:
        Input (*), output the same.

    Example:
        >>> import engine
        >>> engine.nn.Tanh()(engine.zeros(2, 3)).shape
        (2, 3)

    Follows torch.nn.Tanh.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)
