"""Initial values of parameters, written in place.

Random values come from the counter-based generator: after `engine.manual_seed` they depend on the order of the calls
only, not on threads or instruction set.
"""

from __future__ import annotations

import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from engine import backend as B
from engine.random import next_key
from engine.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "deferred",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "lecun_normal_",
    "lecun_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

Fill = TypeVar("Fill", bound=Callable[..., Tensor])


class Deferral(threading.local):
    """The initialisations that wait, by the identity of their tensor: one list per thread, None when none is kept."""

    waiting: dict[int, tuple[Tensor, Callable[[], Tensor]]] | None = None


_deferral = Deferral()


@contextmanager
def deferred() -> Iterator[dict[int, tuple[Tensor, Callable[[], Tensor]]]]:
    """Within it the functions of this module write nothing: what each tensor would have been filled with last waits.

    A model that is built this way costs no random numbers and no memory traffic; what a file does not provide is
    filled afterwards.

    Example:
        >>> import engine
        >>> with engine.init.deferred() as waiting:
        ...     layer = engine.nn.Linear(3, 2)
        >>> for tensor, fill in waiting.values():
        ...     _ = fill()
        >>> bool((layer.weight.abs() < 3 ** -0.5).all())
        True
    """
    before, waiting = _deferral.waiting, {}  # type: ignore[var-annotated]
    _deferral.waiting = waiting
    try:
        yield waiting
    finally:
        _deferral.waiting = before


def _deferrable(fill: Fill) -> Fill:
    """Makes a function that fills all of its first argument wait within `deferred`."""

    @functools.wraps(fill)
    def filled(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        waiting = _deferral.waiting
        if waiting is None:
            return fill(tensor, *args, **kwargs)
        waiting[id(tensor)] = (tensor, functools.partial(filled, tensor, *args, **kwargs))
        return tensor

    return filled  # type: ignore[return-value]


@_deferrable
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Fills with draws from the uniform distribution on [a, b).

    Args:
        tensor: what is filled and returned.
        a: lower end.
        b: upper end.

    Example:
        >>> import engine
        >>> w = engine.init.uniform_(engine.empty(3, 5), -1, 1)
        >>> bool((w.abs() <= 1).all())
        True

    Follows torch.nn.init.uniform_.
    """
    if tensor.numel():
        B.copy_(tensor.data, B.uniform(tensor.data.shape, float(a), float(b), *next_key()))
    return tensor


@_deferrable
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fills with draws from the normal distribution.

    Args:
        tensor: what is filled and returned.
        mean: centre of the distribution.
        std: standard deviation.

    Example:
        >>> import engine
        >>> engine.init.normal_(engine.empty(3, 5), std=0.01).shape
        (3, 5)

    Follows torch.nn.init.normal_.
    """
    if tensor.numel():
        B.copy_(tensor.data, B.normal(tensor.data.shape, float(mean), float(std), *next_key()))
    return tensor


@_deferrable
def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Fills with draws from the normal distribution, restricted to [a, b].

    One uniform draw per element goes through the inverse distribution function.

    Args:
        tensor: what is filled and returned.
        mean: centre of the distribution before the restriction.
        std: standard deviation before the restriction.
        a: lower limit, an absolute value (not in standard deviations).
        b: upper limit, likewise.

    Example:
        >>> import engine
        >>> w = engine.init.trunc_normal_(engine.empty(3, 5))
        >>> bool((w.abs() <= 2).all())
        True

    Follows torch.nn.init.trunc_normal_.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be "
            "incorrect.",
            stacklevel=2,
        )
    if not tensor.numel():
        return tensor
    low, high = (math.erf((limit - mean) / (std * math.sqrt(2.0))) for limit in (a, b))
    # An end that is drawn itself, once in 2^24, would become an infinity and then, far out, the limit.
    draws = B.unary("clamp", B.uniform(tensor.data.shape, low, high, *next_key()), -1 + 2**-24, 1 - 2**-24)
    draws = _erfinv(draws)
    values = B.binary("add", B.binary("mul", draws, std * math.sqrt(2.0)), float(mean))
    B.copy_(tensor.data, B.unary("clamp", values, float(a), float(b)))
    return tensor


# Giles, "Approximating the erfinv function", GPU Computing Gems 2, 2010: single precision, highest power first.
_CENTRAL = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def _erfinv(x: Any) -> Any:
    """The inverse of erf on an array, for |x| < 1; infinite at the ends."""
    w = B.unary("neg", B.unary("log1p", B.unary("neg", B.unary("square", x))))
    central = _polynomial(_CENTRAL, B.binary("sub", w, 2.5))
    tail = _polynomial(_TAIL, B.binary("sub", B.unary("sqrt", w), 3.0))
    return B.binary("mul", B.where(B.binary("lt", w, 5.0), central, tail), x)


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    value = B.full(x.shape, coefficients[0], "float32")
    for coefficient in coefficients[1:]:
        value = B.binary("add", B.binary("mul", value, x), coefficient)
    return value


@_deferrable
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fills with one value.

    Args:
        tensor: what is filled and returned.
        val: the value.

    Example:
        >>> import engine
        >>> engine.init.constant_(engine.empty(2), 0.3).tolist() == engine.tensor([0.3, 0.3]).tolist()
        True

    Follows torch.nn.init.constant_.
    """
    B.fill_(tensor.data, val)
    return tensor


@_deferrable
def ones_(tensor: Tensor) -> Tensor:
    """Fills with ones and returns the tensor.

    Args:
        tensor: what is filled.
    """
    return constant_(tensor, 1.0)


@_deferrable
def zeros_(tensor: Tensor) -> Tensor:
    """Fills with zeros and returns the tensor.

    Args:
        tensor: what is filled.
    """
    return constant_(tensor, 0.0)


@_deferrable
def eye_(tensor: Tensor) -> Tensor:
    """Fills a matrix with the identity: ones on the diagonal, zeros elsewhere.

    Args:
        tensor: the matrix, filled and returned.

    Raises:
        ValueError: the tensor is not of rank 2.

    Example:
        >>> import engine
        >>> engine.init.eye_(engine.empty(2, 3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]

    Follows torch.nn.init.eye_.
    """
    if tensor.ndim != 2:
        raise ValueError(f"[eye_] Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}")
    B.fill_(tensor.data, 0.0)
    for i in range(min(tensor.shape)):
        B.fill_(B.slice(tensor.data, [i, i], [i + 1, i + 1], [1, 1]), 1.0)
    return tensor


@_deferrable
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fills a convolution's weight so that it passes as many input channels on as it has outputs per group.

    Args:
        tensor: weight (O, I / groups, KH, KW), filled and returned.
        groups: number of groups of the convolution.

    Raises:
        ValueError: the tensor is not of rank 3 to 5, or groups does not divide O.

    Example:
        >>> import engine
        >>> engine.init.dirac_(engine.empty(2, 2, 3, 3))[:, :, 1, 1].tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Follows torch.nn.init.dirac_.
    """
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"[dirac_] Only tensors with 3, 4, or 5 dimensions are supported, got shape {shape}")
    if shape[0] % groups != 0:
        raise ValueError(f"[dirac_] dim 0 must be divisible by groups, got {shape[0]} and {groups}")
    per_group = shape[0] // groups
    centre = [size // 2 for size in shape[2:]]
    B.fill_(tensor.data, 0.0)
    for group in range(groups):
        for i in range(min(per_group, shape[1])):
            start = [group * per_group + i, i, *centre]
            B.fill_(B.slice(tensor.data, start, [s + 1 for s in start], [1] * len(shape)), 1.0)
    return tensor


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Returns by how much weights must be larger to keep the variance behind an activation.

    Args:
        nonlinearity: "linear", "conv2d", "conv_transpose2d", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope of "leaky_relu", 0.01 by default.

    Raises:
        ValueError: the activation is unknown.

    Example:
        >>> import engine
        >>> round(engine.init.calculate_gain("leaky_relu", 0.2), 4)
        1.3868

    Follows torch.nn.init.calculate_gain.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"[calculate_gain] negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    kind = nonlinearity.removeprefix("conv_transpose").removeprefix("conv")
    if kind in ("1d", "2d", "3d"):
        return 1.0
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}
    if nonlinearity not in gains:
        raise ValueError(f"[calculate_gain] Unsupported nonlinearity {nonlinearity}, expected one of {tuple(gains)}")
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """Number of inputs of an output and of outputs of an input."""
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ValueError(
            f"Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, got shape {shape}"
        )
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _fan(tensor: Tensor, mode: str) -> int:
    fan_in, fan_out = _fans(tensor)
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return fan_in if mode.lower() == "fan_in" else fan_out


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fills from the uniform distribution with standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Args:
        tensor: weight of rank 2 or more, filled and returned.
        gain: see calculate_gain.

    Raises:
        ValueError: the rank is less than 2.

    Example:
        >>> import engine
        >>> w = engine.init.xavier_uniform_(engine.empty(3, 5), gain=engine.init.calculate_gain("relu"))

    Follows torch.nn.init.xavier_uniform_; Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks", 2010.
    """
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Fills from the normal distribution with standard deviation gain * sqrt(2 / (fan_in + fan_out)).

    Args:
        tensor: weight of rank 2 or more, filled and returned.
        gain: see calculate_gain.

    Raises:
        ValueError: the rank is less than 2.

    Example:
        >>> import engine
        >>> w = engine.init.xavier_normal_(engine.empty(3, 5))

    Follows torch.nn.init.xavier_normal_; Glorot and Bengio, "Understanding the difficulty of training deep
    feedforward neural networks", 2010.
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))))


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Fills from the uniform distribution with standard deviation gain / sqrt(fan).

    Args:
        tensor: weight of rank 2 or more, filled and returned.
        a: negative slope of "leaky_relu".
        mode: "fan_in" keeps the variance forward, "fan_out" backward.
        nonlinearity: name of the activation behind, see calculate_gain.

    Raises:
        ValueError: the rank is less than 2, mode or nonlinearity is unknown.

    Example:
        >>> import engine
        >>> w = engine.init.kaiming_uniform_(engine.empty(3, 5), mode="fan_in", nonlinearity="relu")

    Follows torch.nn.init.kaiming_uniform_; He et al., https://arxiv.org/abs/1502.01852.
    """
    if 0 in tuple(tensor.shape):
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Fills from the normal distribution with standard deviation gain / sqrt(fan).

    Args:
        tensor: weight of rank 2 or more, filled and returned.
        a: negative slope of "leaky_relu".
        mode: "fan_in" keeps the variance forward, "fan_out" backward.
        nonlinearity: name of the activation behind, see calculate_gain.

    Raises:
        ValueError: the rank is less than 2, mode or nonlinearity is unknown.

    Example:
        >>> import engine
        >>> w = engine.init.kaiming_normal_(engine.empty(3, 5), mode="fan_out", nonlinearity="relu")

    Follows torch.nn.init.kaiming_normal_; He et al., https://arxiv.org/abs/1502.01852.
    """
    if 0 in tuple(tensor.shape):
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)))


def lecun_uniform_(tensor: Tensor) -> Tensor:
    """Fills from the uniform distribution with variance 1 / fan_in.

    Args:
        tensor: weight of rank 2 or more, filled and returned.

    Raises:
        ValueError: the rank is less than 2.

    Example:
        >>> import engine
        >>> w = engine.init.lecun_uniform_(engine.empty(3, 5))

    Follows keras.initializers.LecunUniform; LeCun et al., "Efficient BackProp", 1998.
    """
    bound = math.sqrt(3.0 / max(_fan(tensor, "fan_in"), 1))
    return uniform_(tensor, -bound, bound)


def lecun_normal_(tensor: Tensor) -> Tensor:
    """Fills from the normal distribution with variance 1 / fan_in, cut off at two standard deviations.

    The standard deviation before the cut is larger by 1 / 0.8796, so that the variance after it is 1 / fan_in.

    Args:
        tensor: weight of rank 2 or more, filled and returned.

    Raises:
        ValueError: the rank is less than 2.

    Example:
        >>> import engine
        >>> w = engine.init.lecun_normal_(engine.empty(3, 5))

    Follows keras.initializers.LecunNormal; Klambauer et al., https://arxiv.org/abs/1706.02515.
    """
    std = math.sqrt(1.0 / max(_fan(tensor, "fan_in"), 1)) / 0.87962566103423978
    return trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std)


@_deferrable
def orthogonal_(tensor: Tensor, gain: float = 1) -> Tensor:
    """Fills with a random (semi-)orthogonal matrix; axes behind the first are taken as one.

    Args:
        tensor: weight of rank 2 or more, filled and returned.
        gain: factor, see calculate_gain.

    Raises:
        ValueError: the rank is less than 2.

    Example:
        >>> import engine
        >>> w = engine.init.orthogonal_(engine.empty(3, 5))
        >>> bool(((w @ w.permute(1, 0) - engine.init.eye_(engine.empty(3, 3))).abs() < 1e-5).all())
        True

    Follows torch.nn.init.orthogonal_; Saxe, McClelland and Ganguli, https://arxiv.org/abs/1312.6120.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"[orthogonal_] Only tensors with 2 or more dimensions are supported, got shape {tuple(tensor.shape)}"
        )
    if not tensor.numel():
        return tensor
    import numpy as np  # set-up, not the data path: the one place here that needs a QR factorisation

    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    draws = B.to_numpy(B.normal((rows, columns), 0.0, 1.0, *next_key())).astype(np.float64)
    q, r = np.linalg.qr(draws if rows >= columns else draws.T)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)  # makes the distribution uniform (Haar)
    matrix = np.ascontiguousarray((q if rows >= columns else q.T) * gain, dtype=np.float32)
    B.copy_(tensor.data, B.from_numpy(matrix.reshape(tuple(tensor.shape))))
    return tensor
