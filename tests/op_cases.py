"""THE list of op cases. One row is an op, its inputs and its arguments; it stands for forward and backward, on every
ISA, for every thread count and every algorithm that accepts it, against the float64 reference and against PyTorch.

To add an op: a pair in ``oracle.OPS``, a bound in ``BOUNDS`` (most ops fit one of the families below), rows in
``CASES``, and a line in ``CALLS`` only when the op is not called ``functional.<op>(*inputs, **args)``.

Tolerances are derived, never chosen per row: a bound says how much rounding the *correct* float32 computation may
show, in units of the unit roundoff 2^-24. For a sum of K products it is ``2 sqrt(K) * sum |a| |b|``: rounding errors
are independent and even between -1 and 1 roundoff, so they add like a random walk with steps of 1 / sqrt(3), and 3.5
standard deviations are allowed. K and the sum of magnitudes come from the reference itself, run on ones and on
absolute values.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import oracle

UNIT = 2.0**-24
SPREAD = 2.0  # of the random walk of K rounding errors: 3.5 standard deviations
ULPS = 8.0  # in units of UNIT: four ulp, what the vector math functions promise
TINY = 2.0**-126  # below the normal range a result may be flushed to zero
LANES = (1, 3, 4, 7, 8, 15, 16, 17, 31, 33)

# --------------------------------------------------------------------------------------------------------------------
# Inputs
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Input:
    kind: str
    shape: tuple[int, ...]
    grad: bool = True
    limit: int = 0  # classes of labels, size of an indexed axis
    offset: float = 0.0

    def make(self, rng: np.random.Generator) -> np.ndarray:
        value = KINDS[self.kind](rng, self)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        return value


def _distinct(rng: np.random.Generator, spec: Input) -> np.ndarray:
    """No two values are equal or close, none is near zero: maxima are unique and stay so in float32."""
    size = int(np.prod(spec.shape))
    return ((rng.permutation(size) - size // 2 + 0.5) / 8).reshape(spec.shape)


def _probabilities(rng: np.random.Generator, spec: Input) -> np.ndarray:
    p = rng.random(spec.shape) + 0.05
    return p / p.sum(axis=1, keepdims=True)


KINDS: dict[str, Callable[[np.random.Generator, Input], np.ndarray]] = {
    "normal": lambda rng, s: rng.standard_normal(s.shape) * 1.5 + s.offset,
    "positive": lambda rng, s: rng.random(s.shape) * 1.5 + 0.5,
    "unit": lambda rng, s: rng.random(s.shape) * 0.9 + 0.05,
    "away": lambda rng, s: (rng.random(s.shape) * 1.5 + 0.5) * rng.choice([-1.0, 1.0], s.shape),
    "distinct": _distinct,
    "probabilities": _probabilities,
    "log_probabilities": lambda rng, s: np.log(_probabilities(rng, s)),
    "labels": lambda rng, s: rng.integers(0, s.limit, s.shape),
    "few": lambda rng, s: rng.integers(-1, 2, s.shape).astype(np.float32),
    "mask": lambda rng, s: rng.random(s.shape) < 0.5,
    "wide": lambda rng, s: rng.standard_normal(s.shape) * 8,
}


def normal(*shape: int, offset: float = 0.0) -> Input:
    return Input("normal", shape, offset=offset)


def positive(*shape: int) -> Input:
    return Input("positive", shape)


def away(*shape: int) -> Input:
    """Away from zero, either sign."""
    return Input("away", shape)


def distinct(*shape: int) -> Input:
    return Input("distinct", shape)


def fixed(kind: str, *shape: int, limit: int = 0) -> Input:
    """An input that takes no gradient."""
    return Input(kind, shape, grad=False, limit=limit)


# --------------------------------------------------------------------------------------------------------------------
# Cases
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    op: str
    inputs: tuple[Input | None, ...]
    args: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        shapes = "-".join("none" if s is None else "x".join(map(str, s.shape)) or "scalar" for s in self.inputs)
        args = ",".join(k if isinstance(v, np.ndarray) else f"{k}={v}".replace(" ", "") for k, v in self.args.items())
        return f"{self.op}-{shapes}" + (f"-{args}" if args else "")

    def arrays(self) -> list[np.ndarray | None]:
        """The inputs, the same in every run: the seed is the row's own text."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        return [None if spec is None else spec.make(rng) for spec in self.inputs]

    def reference(self) -> Reference:
        arrays = self.arrays()
        wide = [a.astype(np.float64) if a is not None and a.dtype == np.float32 else a for a in arrays]
        forward, backward = oracle.OPS[self.op]
        results = forward(*wide, **self.args)
        y, extra = (results[0], list(results[1:])) if isinstance(results, tuple) else (results, [])
        y = np.asarray(y)
        rng = np.random.default_rng(len(self.id))
        dy = rng.standard_normal(y.shape).astype(np.float32)
        grads = list(backward(dy.astype(np.float64), *wide, **self.args))
        grads = [g if s is not None and s.grad else None for g, s in zip(grads, self.inputs, strict=True)]
        bounds = BOUNDS[self.op](Rounding(self.op, dy.astype(np.float64), wide, self.args, y))
        return Reference(self, arrays, dy, y, extra, grads, bounds)


@dataclass(frozen=True)
class Reference:
    case: Case
    arrays: list[np.ndarray | None]
    dy: np.ndarray
    y: np.ndarray
    extra: list[np.ndarray]
    grads: list[np.ndarray | None]
    bounds: Bounds

    def named(self, algorithms: Mapping[str, str] | None = None) -> Iterator[tuple[str, np.ndarray, Any]]:
        """(name, reference, absolute tolerance) of every result: y, the further results, the gradients.

        ``algorithms`` names the algorithm of each result; some have a bound of their own, see ALGORITHM_BOUNDS."""
        special = {name: ALGORITHM_BOUNDS[a] for name, a in (algorithms or {}).items() if a in ALGORITHM_BOUNDS}

        def bound(name: str, usual: Any) -> Any:
            return UNIT * (usual if name not in special else np.maximum(usual, special[name](self, name))) + TINY

        yield "y", self.y, bound("y", self.bounds.y)
        for i, value in enumerate(self.extra):
            yield f"extra {i}", np.asarray(value), UNIT * (self.bounds.extra[i] if i < len(self.bounds.extra) else 0.0)
        for i, grad in enumerate(self.grads):
            if grad is not None:
                yield f"gradient of input {i}", grad, bound(f"gradient of input {i}", self.bounds.grads[i])


# --------------------------------------------------------------------------------------------------------------------
# Rounding bounds, one family per kind of arithmetic
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bounds:
    y: Any
    grads: Sequence[Any]
    extra: Sequence[Any] = ()


@dataclass(frozen=True)
class Rounding:
    """What a bound is computed from."""

    op: str
    dy: np.ndarray
    inputs: list[Any]
    args: dict[str, Any]
    y: np.ndarray

    def forward(self, *inputs: Any) -> np.ndarray:
        result = oracle.OPS[self.op][0](*inputs, **self.args)
        return np.asarray(result[0] if isinstance(result, tuple) else result)

    def backward(self, dy: Any, *inputs: Any) -> list[Any]:
        return [None if g is None else np.abs(g) for g in oracle.OPS[self.op][1](dy, *inputs, **self.args)]

    @property
    def magnitudes(self) -> list[Any]:
        return [np.abs(a) if a is not None and a.dtype == np.float64 else a for a in self.inputs]

    @property
    def ones(self) -> list[Any]:
        return [np.ones_like(a) if a is not None and a.dtype == np.float64 else a for a in self.inputs]


def _walk(magnitude: Any, terms: Any) -> Any:
    return None if magnitude is None else SPREAD * np.sqrt(np.maximum(terms, 1.0)) * magnitude


def exact(r: Rounding) -> Bounds:
    """Results are copies; a gradient adds up what was copied more than once."""
    return Bounds(0.0, _summed_copies(r))


def _summed_copies(r: Rounding) -> list[Any]:
    magnitude = r.backward(np.abs(r.dy), *r.inputs)
    terms = r.backward(np.ones_like(r.dy), *r.inputs)
    return [None if m is None else np.where(t > 1, _walk(m, t), 0.0) for m, t in zip(magnitude, terms, strict=True)]


def linear_in_each(length: Callable[[Rounding], float] | None = None) -> Callable[[Rounding], Bounds]:
    """Sums of products: the number of terms is the op applied to ones, the magnitude the op applied to |inputs|.

    ``length`` gives the number of terms where the op averages, so that ones would average to one."""

    def bound(r: Rounding) -> Bounds:
        dys = np.abs(r.dy)
        if length is None:
            y_terms, terms = np.abs(r.forward(*r.ones)), r.backward(np.ones_like(dys), *r.ones)
        else:
            y_terms, terms = length(r), [length(r)] * len(r.inputs)
        grads = [_walk(m, t) for m, t in zip(r.backward(dys, *r.magnitudes), terms, strict=True)]
        return Bounds(_walk(np.abs(r.forward(*r.magnitudes)), y_terms), grads)

    return bound


def elementwise(y_floor: str = "", slope_floor: float = 0.0) -> Callable[[Rounding], Bounds]:
    """Four ulp of the value; ``y_floor='x'`` where the value is x times a rounded gate, '1' where it is bounded by one;
    ``slope_floor=1`` where the derivative is a difference of numbers of the size of one."""

    def bound(r: Rounding) -> Bounds:
        (x,) = r.inputs
        floor = {"": 0.0, "x": np.abs(x), "1": 1.0}[y_floor]
        slope = np.abs(r.backward(np.ones_like(r.dy), x)[0])
        return Bounds(ULPS * (np.abs(r.y) + floor), [2 * ULPS * np.abs(r.dy) * (slope + slope_floor)])

    return bound


def error_function(r: Rounding) -> Bounds:
    """The slope is exp(-x^2): rounding x^2 costs x^2 ulp."""
    (x,) = r.inputs
    slope = r.backward(np.abs(r.dy), x)[0]
    return Bounds(ULPS * np.abs(r.y), [2 * ULPS * (1 + x * x) * slope])


def gelu(r: Rounding) -> Bounds:
    """x times a gate. The slope of the tanh form is 1 - tanh^2 times x (a + b x^2): rounding is as large as that."""
    if r.args.get("approximate") != "tanh":
        return _gate(r)
    (x,) = r.inputs
    floor = 1 + np.abs(x) * (0.8 + 0.11 * x * x)
    slope = np.abs(oracle.derivative("gelu", x, **r.args))
    return Bounds(ULPS * (np.abs(r.y) + np.abs(x)), [2 * ULPS * np.abs(r.dy) * (slope + floor)])


def clipped(r: Rounding) -> Bounds:
    """The limits are rounded to float32, nothing else."""
    return Bounds(np.abs(r.y), [0.0])


def shared_extremes(r: Rounding) -> Bounds:
    """Equal extremes divide the gradient."""
    return Bounds(0.0, [np.abs(g) for g in r.backward(r.dy, *r.inputs)])


def parametric(r: Rounding) -> Bounds:
    """PReLU: one product; the gradient of a weight is a sum over its channel."""
    x, weight = r.inputs
    dx = np.abs(oracle.prelu_backward(r.dy, x, weight)[0])
    dw = oracle.prelu_backward(np.abs(r.dy), -np.abs(x) * (x < 0), weight)[1]
    return Bounds(ULPS * np.abs(r.y), [ULPS * dx, _walk(np.abs(dw), x.size / weight.size)])


def difference(r: Rounding) -> Bounds:
    a, b = r.inputs
    grads = r.backward(np.abs(r.dy), a, b)
    sizes = [_walk(g, r.y.size / max(g.size, 1)) for g in grads]
    return Bounds(np.abs(a) + np.abs(b), sizes)


def directions(r: Rounding) -> Bounds:
    """x / |x|: the norm is a sum over the axis; its power p is computed from logarithms unless p is 2."""
    (x,) = r.inputs
    p, dim = r.args.get("p", 2.0), r.args.get("dim", 1)
    growth = 2 * ULPS * np.sqrt(x.shape[dim]) * (1 + p)
    norm = (np.abs(x) ** p).sum(dim, keepdims=True) ** (1 / p)
    inner = (np.abs(r.dy * x)).sum(dim, keepdims=True) / norm**2
    dx = np.abs(r.dy) / norm + inner * np.abs(x) ** (p - 1) * norm ** (1 - p)
    return Bounds(growth * np.abs(r.y), [growth * dx])


def product_form(r: Rounding) -> Bounds:
    """Quotients and the like: each term keeps its relative accuracy; gradients are then summed over broadcast axes."""
    magnitude = r.backward(np.abs(r.dy), *r.magnitudes)
    grads = [
        None if m is None else _walk(2 * m, r.y.size / max(a.size, 1)) for m, a in zip(magnitude, r.inputs, strict=True)
    ]
    return Bounds(ULPS * np.abs(r.y), grads)


def power(r: Rounding) -> Bounds:
    """a**b is exp(b log a): an error of one ulp in the exponent is multiplied by its size."""
    a, b = (r.inputs[0], r.inputs[1]) if len(r.inputs) == 2 else (r.inputs[0], r.args["exponent"])
    growth = float(np.max(1 + np.abs(b * np.log(np.abs(a))), initial=1.0))
    grads = [None if m is None else 2 * ULPS * growth * m for m in r.backward(np.abs(r.dy), *r.inputs)]
    if len(r.inputs) == 2:
        grads[1] = np.maximum(grads[1], 2 * ULPS * oracle.sum_to(np.abs(r.dy * r.y), b.shape))
        grads = [g * np.sqrt(max(r.y.size, 1) / max(g.size, 1)) for g in grads]
    return Bounds(ULPS * growth * np.abs(r.y), grads)


def extremes(r: Rounding) -> Bounds:
    return Bounds(0.0, [0.0] * len(r.inputs))


def product(r: Rounding) -> Bounds:
    length = r.inputs[0].shape[r.args["dim"]]
    return Bounds(ULPS * length * np.abs(r.y), [ULPS * length * r.backward(np.abs(r.dy), *r.magnitudes)[0]])


def resized(r: Rounding) -> Bounds:
    """Linear, with weights from source coordinates rounded at the size of the image."""
    if r.args.get("mode", "nearest").startswith("nearest"):
        return exact(r)
    (x,) = r.inputs
    rows, cols = (np.abs(m) for m in oracle._resize_matrices(x.shape, **r.args))
    size = float(sum(x.shape[2:]))
    near = np.ones((1, 1, *r.y.shape[2:])) * np.abs(x).max(initial=0.0)  # a shifted weight moves mass to a neighbour
    dys = np.abs(r.dy)
    reach = rows.sum(0).max() * cols.sum(0).max() * dys.max(initial=0.0)
    y = SPREAD * size * (rows @ np.abs(x) @ cols.T + near)
    return Bounds(y, [SPREAD * size * (rows.T @ dys @ cols + reach)])


def _normalised(
    x: np.ndarray, dy: np.ndarray, mean: Any, invstd: Any, weight: Any, bias: Any, axes: tuple[int, ...], through: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of y, dx and of |dy * xhat| before it is summed into dweight; ``mean`` is the size of what is summed up
    for it."""
    count = max(int(np.prod([x.shape[i] for i in axes])), 1)
    xhat = (np.abs(x) + np.abs(mean)) * invstd
    w = 1.0 if weight is None else np.abs(weight)
    y = _walk(xhat * w + (0.0 if bias is None else np.abs(bias)), count)
    g = np.abs(dy) * w
    if through:
        g = g + g.mean(axis=axes, keepdims=True) + xhat * (g * xhat).mean(axis=axes, keepdims=True)
    return y, _walk(2 * g * invstd, count), np.abs(dy) * xhat


def batch_normalised(r: Rounding) -> Bounds:
    x, running_mean, running_var, weight, bias = r.inputs
    training, eps, momentum = r.args.get("training", False), r.args.get("eps", 1e-5), r.args.get("momentum", 0.1)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    mean, var = (x.mean(axes), x.var(axes)) if training else (running_mean, running_var)
    lift = lambda v: None if v is None else oracle._per_channel(v, x.ndim)  # noqa: E731
    invstd = 1 / np.sqrt(lift(var) + eps)
    size = np.abs(x).mean(axes) if training else running_mean
    y, dx, dw = _normalised(x, r.dy, lift(size), invstd, lift(weight), lift(bias), axes, training)
    count = max(x.size // x.shape[1], 1)
    grads = [dx, None, None, _walk(2 * dw.sum(axes), count), _walk(np.abs(r.dy).sum(axes), count)]
    extra: list[Any] = []
    if running_mean is not None:
        extra = [0.0, 0.0]
        if training:
            off = np.abs(x - lift(mean))
            spread = (off * (off + np.abs(x) + np.abs(lift(mean)))).mean(axes) * count / (count - 1)
            extra = [
                _walk((1 - momentum) * np.abs(running_mean) + momentum * np.abs(x).mean(axes), count),
                _walk((1 - momentum) * running_var + momentum * spread, count),
            ]
    return Bounds(y, grads, extra)


def batch_normalised_and_activated(r: Rounding) -> Bounds:
    """What the activation sees is rounded, and so is the slope there; second derivatives are at most a half."""
    args = {k: v for k, v in r.args.items() if k != "activation"}
    *inputs, residual = r.inputs
    z = batch_normalised(Rounding("batch_norm", r.dy, inputs, args, r.y)).y
    z = z if residual is None else z + np.abs(residual)
    g = np.abs(oracle.batch_norm_act_gradient(r.dy, *r.inputs, **r.args))
    off = np.zeros_like(g)
    if r.args["activation"] in ("silu", "hardswish"):
        off = 0.5 * np.abs(r.dy) * z + 2 * ULPS * (g + np.abs(r.dy))
    bounds = batch_normalised(Rounding("batch_norm", g + off, inputs, args, r.y))
    return Bounds(1.1 * z + ULPS * np.abs(r.y), [*bounds.grads, off], bounds.extra)


def layer_normalised(r: Rounding) -> Bounds:
    x, weight, bias = r.inputs
    split = x.ndim - len(r.args["normalized_shape"])
    axes, batch = tuple(range(split, x.ndim)), tuple(range(split))
    invstd = 1 / np.sqrt(x.var(axes, keepdims=True) + r.args.get("eps", 1e-5))
    y, dx, dw = _normalised(x, r.dy, np.abs(x).mean(axes, keepdims=True), invstd, weight, bias, axes, True)
    count = max(int(np.prod(x.shape)), 1)
    return Bounds(y, [dx, _walk(2 * dw.sum(batch), count), _walk(np.abs(r.dy).sum(batch), count)])


def group_normalised(r: Rounding) -> Bounds:
    x, weight, bias = r.inputs
    groups = r.args.get("num_groups", x.shape[1])  # instance norm: a group per channel
    grouped = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    axes = tuple(range(2, len(grouped)))
    split = lambda v: None if v is None else v.reshape(1, groups, -1, *(1,) * (x.ndim - 2))  # noqa: E731
    xs, dys = x.reshape(grouped), r.dy.reshape(grouped)
    invstd = 1 / np.sqrt(xs.var(axes, keepdims=True) + r.args.get("eps", 1e-5))
    size = np.abs(xs).mean(axes, keepdims=True)
    y, dx, dw = _normalised(xs, dys, size, invstd, split(weight), split(bias), axes, True)
    sums = tuple(i for i in range(x.ndim) if i != 1)
    count = x.size // x.shape[1]
    dweight = _walk(2 * dw.reshape(x.shape).sum(sums), max(count, x.size // (len(x) * groups)))
    return Bounds(y.reshape(x.shape), [dx.reshape(x.shape), dweight, _walk(np.abs(r.dy).sum(sums), count)])


def locally_normalised(r: Rounding) -> Bounds:
    (x,) = r.inputs
    size, alpha, beta, k = (r.args.get(n, d) for n, d in (("size", 5), ("alpha", 1e-4), ("beta", 0.75), ("k", 1.0)))
    s = k + alpha / size * oracle._channel_windows(x * x, size)
    inner = oracle._channel_windows(np.abs(r.dy * x) * s ** (-beta - 1), size, mirrored=True)
    dx = np.abs(r.dy) * s**-beta + 2 * np.abs(x) * alpha / size * beta * inner
    growth = ULPS * (1 + beta * (size + np.abs(np.log(s))))
    return Bounds(growth * np.abs(r.y), [2 * growth.max(initial=0.0) * dx])


def _logit_scale(x: np.ndarray, dim: int) -> np.ndarray:
    """What is rounded on the way to a log-probability."""
    if x.size == 0:
        return x
    return np.abs(x) + np.abs(x).max(axis=dim, keepdims=True) + np.abs(oracle.log_softmax(x, dim))


def softmaxed(r: Rounding) -> Bounds:
    (x,) = r.inputs
    dim = r.args["dim"]
    scale, y = _logit_scale(x, dim), oracle.softmax(x, dim)
    growth = ULPS * (np.sqrt(x.shape[dim]) + scale)
    if r.op == "softmax":
        return Bounds(growth * y, [2 * growth * y * (np.abs(r.dy) + (np.abs(r.dy) * y).sum(dim, keepdims=True))])
    return Bounds(ULPS * scale, [2 * growth * (np.abs(r.dy) + y * np.abs(r.dy).sum(dim, keepdims=True))])


def class_loss(r: Rounding) -> Bounds:
    """nll_loss and cross_entropy, with indices or probabilities as targets."""
    x, target, weight = r.inputs
    dys = np.abs(r.dy)
    if r.op == "nll_loss":
        y = oracle.nll_loss(-np.abs(x), target, weight, **r.args)
        return Bounds(_walk(y, x.size), [ULPS * np.sqrt(x.size) * r.backward(dys, *r.inputs)[0], None, None])
    scale, p = _logit_scale(x, 1), oracle.softmax(x, 1)
    grads: list[Any] = [None, None, None]
    if r.op == "cross_entropy":
        y = oracle.nll_loss(-scale, target, weight, **r.args)
        g = np.abs(oracle.nll_loss_backward(dys, x, target, weight, **r.args)[0])
    else:
        smoothing = r.args.get("label_smoothing", 0.0)
        w = 1.0 if weight is None else oracle._per_channel(weight, x.ndim)
        t = ((1 - smoothing) * target + smoothing / x.shape[1]) * w
        each = oracle._spread(dys, (x.shape[0], *x.shape[2:]), r.args.get("reduction", "mean"))[:, None]
        y = oracle._reduced((t * scale).sum(1), r.args.get("reduction", "mean"))
        g = t * each
        grads[1] = 2 * ULPS * each * w * scale
    growth = ULPS * (np.sqrt(x.shape[1]) + scale)
    grads[0] = 2 * growth * (g + p * g.sum(axis=1, keepdims=True))
    return Bounds(_walk(2 * y, x.size), grads)


def pair_losses(r: Rounding) -> Bounds:
    """Losses of input and target of one shape: the loss of the magnitudes, averaged over n terms."""
    x, t = r.inputs
    args = {k: v for k, v in r.args.items() if k != "reduction"}
    reduction = r.args.get("reduction", "mean")
    terms, by_input, by_target = oracle.PAIR_LOSSES[r.op]
    g = np.abs(oracle._spread(r.dy, x.shape, reduction))
    if r.op in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        size = np.abs(x) + np.abs(t)
        each = np.abs(terms(size, np.zeros_like(t), **args))
        slopes = [np.abs(by_input(size, np.zeros_like(t), **args))] * 2
        if r.op == "smooth_l1_loss" and args.get("beta", 1.0):
            slopes = [np.where(np.abs(x - t) < args.get("beta", 1.0), size / args.get("beta", 1.0), 1.0)] * 2
    else:
        condition = 1 / np.minimum(x, 1 - x) if r.op == "binary_cross_entropy" else 1.0
        weight = np.abs(args.get("weight", 1.0)) * (1 + np.max(args.get("pos_weight", 1.0)))
        each = np.abs(terms(x, t, **args)) + weight * condition
        slopes = [np.abs(by_input(x, t, **args)) + weight * condition**2]
        slopes.append(0.0 if by_target is None else np.abs(by_target(x, t, **args)) + weight * condition)
        each = each + np.zeros_like(x)
    rounds = 1 if reduction == "none" else x.size
    return Bounds(2 * _walk(oracle._reduced(each, reduction), rounds), [2 * ULPS * g * s for s in slopes])


def divergence(r: Rounding) -> Bounds:
    x, t = r.inputs
    logs = t if r.args.get("log_target") else np.log(t)
    p = np.exp(t) if r.args.get("log_target") else t
    each = p * (np.abs(logs) * (1 + np.abs(logs)) + np.abs(x) + 1)
    g = r.backward(np.abs(r.dy), np.zeros_like(x), -np.ones_like(x) if r.args.get("log_target") else np.ones_like(x))
    each_dy = g[0] * (np.e if r.args.get("log_target") else 1.0)  # the weight of one term in the loss
    reduction = r.args.get("reduction", "mean")
    total = each.sum() / len(x) if reduction == "batchmean" else oracle._reduced(each, reduction)
    grad_t = (p if r.args.get("log_target") else 1.0) * (np.abs(logs) + np.abs(x) + 1)
    return Bounds(
        2 * _walk(total, 1 if reduction == "none" else x.size),
        [2 * ULPS * each_dy * p * (1 + np.abs(logs)), 2 * ULPS * each_dy * grad_t * (1 + np.abs(logs))],
    )


def _kernel_area(r: Rounding) -> float:
    kh, kw = oracle.pair(r.args["kernel_size"])
    return float(kh * kw)


def _cell_length(r: Rounding) -> float:
    """Adaptive pooling: pixels in the largest cell, or cells that share a pixel."""
    (x,) = r.inputs
    cells = oracle._adaptive_cells(x.shape, r.args["output_size"])[2]
    return max(*(float(len(rows) * len(cols)) for _, _, rows, cols in cells), r.y.size / max(x.size, 1), 1.0)


def _mean_length(r: Rounding) -> float:
    return max(r.inputs[0].size / max(r.y.size, 1), 1.0)


# Winograd's forms (Lavin and Gray 2016, arXiv 1509.09308) at the points of csrc/kernels/winograd.cpp. Their transforms
# subtract numbers that are larger than the result. Rounding errors of the elements are independent, so their squares
# add up: the matrices hold the squares of the transforms' coefficients, and the bound is the root of what they make of
# the squares of the inputs. That is a standard deviation without the slack of a sum of magnitudes, and it must hold for
# each of some ten thousand results: twice the spread, seven standard deviations.
_PAIRS = {0: (), 1: (1.0,), 2: (0.625, 1.625), 3: (0.5, 1.0, 2.0), 4: (0.375, 0.875, 1.25, 2.25)}
# Outputs and taps of the rows and of the columns.
FORMS: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {
    "winograd": ((4, 3), (4, 3)),
    "winograd_2x2": ((2, 3), (2, 3)),
    "winograd_5x5": ((2, 5), (2, 5)),
    "winograd_1x3": ((1, 1), (4, 3)),
    "winograd_3x1": ((4, 3), (1, 1)),
    "winograd_1x7": ((1, 1), (4, 7)),
    "winograd_7x1": ((4, 7), (1, 1)),
}


@functools.cache
def toom_cook(m: int, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """B^T, G and A of F(m, r): interpolation at 0, pairs of points, and infinity."""
    size = m + r - 1
    points = [0.0, *(sign * p for p in _PAIRS[(size - 1) // 2] for sign in (1, -1))][: size - 1]
    bt, g, a = np.zeros((size, size)), np.zeros((size, r)), np.zeros((size, m))
    for i, p in enumerate(points):
        others = [q for q in points if q != p]
        bt[i, :-1] = np.poly(others)[::-1]
        g[i] = p ** np.arange(r) / np.prod([p - q for q in others])
        a[i] = p ** np.arange(m)
    bt[-1] = np.atleast_1d(np.poly(points))[::-1]
    g[-1, -1] = a[-1, -1] = 1
    return bt, g, a


class _Winograd:
    """Rounding bounds of one form; everything in squares."""

    def __init__(self, name: str) -> None:
        self.outputs, self.taps = zip(*FORMS[name], strict=True)
        (self.bt_h, self.g_h, self.a_h), (self.bt_w, self.g_w, self.a_w) = (
            [matrix**2 for matrix in toom_cook(*axis)] for axis in FORMS[name]
        )

    def _tiles(self, x: np.ndarray, top: int, left: int, count: Sequence[int], size: Sequence[int]) -> np.ndarray:
        """(n, c, rows, columns, *size): tiles of squares from (-top, -left) on; zeros outside."""
        (mh, mw), room = self.outputs, [m * (k - 1) + s for m, k, s in zip(self.outputs, count, size, strict=True)]
        wide = np.zeros((*x.shape[:2], room[0] + 8, room[1] + 8))
        h, w = min(x.shape[2], room[0] + 8 - top), min(x.shape[3], room[1] + 8 - left)
        wide[:, :, top : top + h, left : left + w] = x[:, :, :h, :w].astype(np.float64) ** 2
        windows = np.lib.stride_tricks.sliding_window_view(wide[:, :, : room[0], : room[1]], size, axis=(2, 3))
        return windows[:, :, ::mh, ::mw]

    def _input(self, x: np.ndarray, top: int, left: int, count: Sequence[int]) -> np.ndarray:
        size = [m + r - 1 for m, r in zip(self.outputs, self.taps, strict=True)]
        return self.bt_h @ self._tiles(x, top, left, count, size) @ self.bt_w.T

    def _count(self, out: Sequence[int]) -> list[int]:
        return [-(-size // m) for size, m in zip(out, self.outputs, strict=True)]

    def image(self, x: np.ndarray, w: np.ndarray, top: int, left: int, out: Sequence[int]) -> np.ndarray:
        """A^T [sum over channels of (G g G^T) (B^T d B)] A, all in squares: what is rounded on the way."""
        count = self._count(out)
        weight = self.g_h @ w.astype(np.float64) ** 2 @ self.g_w.T
        products = np.einsum("nctsij,ocij->notsij", self._input(x, top, left, count), weight, optimize=True)
        y = self.a_h.T @ products @ self.a_w
        y = y.swapaxes(3, 4).reshape(*y.shape[:2], *(k * m for k, m in zip(count, self.outputs, strict=True)))
        return 2 * _walk(np.sqrt(y[:, :, : out[0], : out[1]]), x.shape[1] + 24)

    def filter(self, x: np.ndarray, dy: np.ndarray, top: int, left: int) -> np.ndarray:
        """G^T [sum over tiles of (B^T d B) (A dy A^T)] G in squares."""
        count = self._count(dy.shape[2:])
        gradient = self.a_h @ self._tiles(dy, 0, 0, count, self.outputs) @ self.a_w.T
        sums = np.einsum("nctsij,notsij->ocij", self._input(x, top, left, count), gradient, optimize=True)
        return 2 * _walk(np.sqrt(self.g_h.T @ sums @ self.g_w), x.shape[0] * count[0] * count[1] + 24)

    def __call__(self, ref: Reference, name: str) -> np.ndarray:
        """The bound of one result of a convolution, or of a transposed one, where image and gradient change places."""
        x, w, dy = ref.arrays[0], ref.arrays[1], ref.dy
        assert x is not None and w is not None
        rows, cols = oracle.border(ref.case.args.get("padding", 0), self.taps, (1, 1))
        top, left = rows[0], cols[0]
        turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)
        forward = ref.case.op == "conv2d"
        if name == "gradient of input 1":
            return self.filter(x, dy, top, left) if forward else self.filter(dy, x, top, left)
        if (name == "y") == forward:
            image, out = (x, ref.y) if forward else (dy, x)
            return self.image(image, w, top, left, out.shape[2:])
        image, out = (dy, x) if forward else (x, ref.y)
        return self.image(image, turned, self.taps[0] - 1 - top, self.taps[1] - 1 - left, out.shape[2:])


ALGORITHM_BOUNDS: dict[str, Callable[[Reference, str], np.ndarray]] = {name: _Winograd(name) for name in FORMS}

_gate, _curve = elementwise("x", 1.0), elementwise("", 1.0)
BOUNDS: dict[str, Callable[[Rounding], Bounds]] = {
    **dict.fromkeys(("relu", "relu6", "neg", "abs", *oracle.STEPS, *oracle.TESTS), extremes),
    **dict.fromkeys(("hardtanh", "clamp"), clipped),
    **dict.fromkeys(oracle.COMPARE, extremes),
    **dict.fromkeys(("silu", "mish", "hardswish"), _gate),
    **dict.fromkeys(
        ("elu", "selu", "sigmoid", "logsigmoid", "softsign", "tanh", "softplus", "hardsigmoid", "expm1"), _curve
    ),
    **dict.fromkeys(("leaky_relu", "exp", "log", "log1p", "sqrt", "rsqrt", "square"), elementwise()),
    **dict.fromkeys(("reciprocal",), elementwise()),
    **dict.fromkeys(("sin", "cos"), elementwise("1", 1.0)),
    **dict.fromkeys(("add", "mul"), linear_in_each()),
    **dict.fromkeys(("matmul", "linear", "conv2d", "conv_transpose2d", "sum"), linear_in_each()),
    **dict.fromkeys(("avg_pool2d",), linear_in_each(_kernel_area)),
    **dict.fromkeys(("mean",), linear_in_each(_mean_length)),
    **dict.fromkeys(("adaptive_avg_pool2d",), linear_in_each(_cell_length)),
    **dict.fromkeys(("concat", "stack", "slice", "reshape", "permute", "index_select", "gather", "pad"), exact),
    "interleave": exact,
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"), exact),
    **dict.fromkeys(("max_pool2d", "adaptive_max_pool2d", "where", "expand"), exact),
    **dict.fromkeys(("max", "min"), extremes),
    **dict.fromkeys(("amax", "amin"), shared_extremes),
    **dict.fromkeys(("maximum", "minimum"), exact),
    **dict.fromkeys(("pow", "pow_scalar"), power),
    **dict.fromkeys(("softmax", "log_softmax"), softmaxed),
    **dict.fromkeys(("nll_loss", "cross_entropy", "soft_cross_entropy"), class_loss),
    **dict.fromkeys(oracle.PAIR_LOSSES, pair_losses),
    "sub": difference,
    "div": product_form,
    "gelu": gelu,
    "erf": error_function,
    "prelu": parametric,
    "one_hot": extremes,
    "unbind": linear_in_each(),
    "normalize": directions,
    "instance_norm": group_normalised,
    "kl_div": divergence,
    "split": linear_in_each(),
    "prod": product,
    "interpolate": resized,
    "batch_norm": batch_normalised,
    "batch_norm_act": batch_normalised_and_activated,
    "layer_norm": layer_normalised,
    "group_norm": group_normalised,
    "local_response_norm": locally_normalised,
}

# --------------------------------------------------------------------------------------------------------------------
# How an op is called. ``t`` is the library (engine or torch), ``F`` its functional module: the two must look alike.
# --------------------------------------------------------------------------------------------------------------------


def _batch_norm(t: Any, F: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, **args: Any) -> Any:
    if mean is None:
        return F.batch_norm(x, None, None, weight, bias, **args)
    mean, var = mean.clone(), var.clone()  # updated in place
    return F.batch_norm(x, mean, var, weight, bias, **args), mean, var


def _batch_norm_act(t: Any, F: Any, x: Any, *rest: Any, activation: str, **args: Any) -> Any:
    *given, residual = rest
    if hasattr(F, "batch_norm_act"):
        statistics = tuple(v.clone() for v in given[:2])
        return F.batch_norm_act(
            x, *statistics, *given[2:], residual=residual, activation=activation, **args
        ), *statistics
    y, *statistics = _batch_norm(t, F, x, *given, **args)
    y = y if residual is None else y + residual
    return y if activation == "none" else getattr(F, activation)(y), *statistics


def _interleave(t: Any, F: Any, *xs: Any) -> Any:
    return F.interleave(list(xs)) if hasattr(F, "interleave") else F.channel_shuffle(t.cat(list(xs), 1), len(xs))


def _method(name: str) -> Callable[..., Any]:
    return lambda t, F, x, *rest, **args: getattr(x, name)(*rest, **args)


def _along(name: str) -> Callable[..., Any]:
    return lambda t, F, x, dim, keepdim=False: tuple(getattr(x, name)(dim, keepdim=keepdim))


CALLS: dict[str, Callable[..., Any]] = {
    **{name: _method(name) for name in ("neg", "abs", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "square")},
    **{name: _method(name) for name in ("reciprocal", "sin", "cos", "erf", "clamp", "sign", "floor", "ceil", "round")},
    **{name: _method(name) for name in ("sum", "mean", "prod", "amax", "amin")},
    "reshape": lambda t, F, x, shape: x.reshape(shape),
    "permute": lambda t, F, x, dims: x.permute(dims),
    "expand": lambda t, F, x, shape: x.expand(shape),
    "pad": lambda t, F, x, padding, **args: F.pad(x, padding, **args),
    "unbind": lambda t, F, x, dim: sum(part * (i + 1) for i, part in enumerate(t.unbind(x, dim))),
    "instance_norm": lambda t, F, x, w, b, **args: F.instance_norm(x, weight=w, bias=b, **args),
    "max": _along("max"),
    "min": _along("min"),
    "logical_not": lambda t, F, x: t.logical_not(x),
    "isnan": lambda t, F, x: t.isnan(x),
    "isfinite": lambda t, F, x: t.isfinite(x),
    "pow_scalar": lambda t, F, x, exponent: x**exponent,
    "add": lambda t, F, a, b: a + b,
    "sub": lambda t, F, a, b: a - b,
    "mul": lambda t, F, a, b: a * b,
    "div": lambda t, F, a, b: a / b,
    "pow": lambda t, F, a, b: a**b,
    "maximum": lambda t, F, a, b: t.maximum(a, b),
    "minimum": lambda t, F, a, b: t.minimum(a, b),
    "eq": lambda t, F, a, b: a == b,
    "ne": lambda t, F, a, b: a != b,
    "lt": lambda t, F, a, b: a < b,
    "le": lambda t, F, a, b: a <= b,
    "gt": lambda t, F, a, b: a > b,
    "ge": lambda t, F, a, b: a >= b,
    "logical_and": lambda t, F, a, b: t.logical_and(a, b),
    "logical_or": lambda t, F, a, b: t.logical_or(a, b),
    "where": lambda t, F, c, a, b: t.where(c, a, b),
    "matmul": lambda t, F, a, b: a @ b,
    "concat": lambda t, F, *xs, dim=0: t.cat(list(xs), dim),
    "stack": lambda t, F, *xs, dim=0: t.stack(list(xs), dim),
    "interleave": _interleave,
    "split": lambda t, F, x, sections, dim=0: t.cat(
        [part * (i + 1) for i, part in enumerate(t.split(x, sections, dim))], dim
    ),
    "slice": lambda t, F, x, index: x[index],
    "index_select": lambda t, F, x, dim, index: t.index_select(x, dim, t.tensor(list(index))),
    "gather": lambda t, F, x, index, dim: t.gather(x, dim, index),
    "softplus": lambda t, F, x, **args: F.softplus(x, **args),
    "layer_norm": lambda t, F, x, w, b, normalized_shape, **args: F.layer_norm(x, normalized_shape, w, b, **args),
    "group_norm": lambda t, F, x, w, b, num_groups, **args: F.group_norm(x, num_groups, w, b, **args),
    "batch_norm": _batch_norm,
    "batch_norm_act": _batch_norm_act,
    "max_pool2d": lambda t, F, x, kernel_size, **args: tuple(F.max_pool2d(x, kernel_size, return_indices=True, **args)),
    "adaptive_max_pool2d": lambda t, F, x, output_size: tuple(
        F.adaptive_max_pool2d(x, output_size, return_indices=True)
    ),
    "soft_cross_entropy": lambda t, F, x, target, weight, **args: F.cross_entropy(x, target, weight, **args),
    "logsigmoid": lambda t, F, x: F.logsigmoid(x),
    "binary_cross_entropy": lambda t, F, x, target, **args: F.binary_cross_entropy(x, target, **_tensors(t, args)),
    "binary_cross_entropy_with_logits": lambda t, F, x, target, **args: F.binary_cross_entropy_with_logits(
        x, target, **_tensors(t, args)
    ),
}


def _tensors(t: Any, args: dict[str, Any]) -> dict[str, Any]:
    return {k: t.tensor(v.astype(np.float32)) if isinstance(v, np.ndarray) else v for k, v in args.items()}


def call(library: Any, functional: Any, case: Case, tensors: Sequence[Any]) -> tuple[Any, ...]:
    """(y, extra results...) of the case in ``library``."""
    if case.op in CALLS:
        result = CALLS[case.op](library, functional, *tensors, **case.args)
    else:
        result = getattr(functional, case.op)(*tensors, **case.args)
    return result if isinstance(result, tuple) else (result,)


# --------------------------------------------------------------------------------------------------------------------
# The rows
# --------------------------------------------------------------------------------------------------------------------


def conv(x: Sequence[int], w: Sequence[int], bias: bool = True, op: str = "conv2d", **args: Any) -> Case:
    outputs = w[1] * args.get("groups", 1) if op == "conv_transpose2d" else w[0]
    return Case(op, (normal(*x), normal(*w), normal(outputs) if bias else None), args)


def convolutions() -> Iterator[Case]:
    for i, c in enumerate(LANES):
        o = LANES[-1 - i]
        yield conv((2, c, 6, 5), (o, c, 3, 3), bias=i % 2 == 0, padding=1)
        yield conv((2, c, 4, 5), (o, c, 1, 1), bias=i % 2 == 1)
        yield conv((2, c, 7, 6), (c, 1, 3, 3), bias=i % 2 == 0, padding=1, groups=c)
        yield conv((1, c, 7, 8), (o, c, 3, 3), bias=False, stride=2, padding=1)
    for stride in ((2, 1), (1, 3), (3, 2), (4, 4)):
        for kernel in ((1, 1), (3, 3), (5, 2), (1, 7)):
            yield conv((2, 5, 9, 11), (6, 5, *kernel), stride=stride, padding=(2, 3))
    for padding in (0, 1, (2, 0), (0, 3), (4, 5), "valid"):
        yield conv((1, 3, 7, 6), (9, 3, 3, 3), padding=padding)
    yield conv((1, 3, 5, 4), (8, 3, 1, 1), padding=2)
    for kernel, dilation in (((2, 2), 1), ((4, 3), 1), ((2, 4), (3, 2)), ((5, 5), 1), ((1, 6), 1), ((3, 2), (1, 3))):
        yield conv((2, 4, 8, 9), (7, 4, *kernel), padding="same", dilation=dilation)
        yield conv((2, 6, 8, 9), (6, 1, *kernel), padding="same", dilation=dilation, groups=6)
    for dilation in (2, (3, 1), (2, 3)):
        for stride in (1, 2):
            yield conv((2, 3, 11, 12), (5, 3, 3, 3), dilation=dilation, padding=2, stride=stride)
            yield conv((2, 8, 11, 12), (8, 1, 3, 3), dilation=dilation, padding=2, stride=stride, groups=8)
    for groups, per_in, per_out in ((2, 3, 2), (3, 1, 4), (4, 8, 8), (3, 17, 5), (2, 16, 33), (5, 2, 1), (8, 4, 16)):
        yield conv((2, groups * per_in, 6, 5), (groups * per_out, per_in, 3, 3), padding=1, groups=groups)
        yield conv((2, groups * per_in, 6, 5), (groups * per_out, per_in, 1, 1), groups=groups, stride=2)
    # Groups that share a vector, groups of whole vectors, and channels that leave a vector partly filled.
    for groups, per_in, per_out in ((10, 4, 4), (3, 8, 8), (2, 16, 16), (2, 16, 24), (17, 2, 2), (3, 32, 32)):
        for stride in (1, 2):
            yield conv(
                (2, groups * per_in, 9, 10), (groups * per_out, per_in, 3, 3), stride=stride, padding=1, groups=groups
            )
    yield conv((1, 16, 8, 17), (16, 4, 2, 3), padding=(0, 2), dilation=(2, 1), groups=4)
    yield conv((1, 32, 8, 9), (32, 16, 5, 3), padding=(3, 0), stride=(1, 2), groups=2)
    for c, multiplier in ((4, 2), (5, 3), (17, 2), (16, 4), (1, 7)):
        yield conv((2, c, 6, 7), (c * multiplier, 1, 3, 3), padding=1, groups=c)
    for c, kernel, stride in (
        *((16, 5, 1), (33, 5, 2), (12, 7, 2), (24, 3, 2), (40, 3, (1, 2)), (9, (1, 5), 1)),
        *((18, 7, 1), (21, (3, 5), (2, 1)), (5, 3, 3), (19, (2, 3), 2), (8, 6, 1)),
    ):
        kh, kw = oracle.pair(kernel)
        yield conv((2, c, 12, 13), (c, 1, kh, kw), padding=(kh // 2, kw // 2), stride=stride, groups=c)
    for c, width, padding, dilation in (
        (17, 3, 2, 1),
        (4, 1, 1, 1),
        (20, 15, 0, (2, 1)),
        (3, 18, 4, 1),
        (6, 8, 3, (1, 2)),
    ):
        for stride in (1, 2):
            yield conv(
                (2, c, 7, width), (c, 1, 3, 3), padding=padding, stride=stride, dilation=dilation, groups=c, bias=False
            )
    # edges: empty batch, one pixel, one output, kernel as large as the padded input
    yield conv((0, 3, 8, 8), (4, 3, 3, 3), padding=1)
    for width, stride in ((3, 1), (3, 2), (15, 1), (29, 2)):  # windows in the padding alone
        for groups, per_in in ((18, 1), (5, 4)):
            c, padding = groups * per_in, (2, 4)
            yield conv((2, c, 5, width), (c, per_in, 3, 3), padding=padding, stride=stride, groups=groups)
    yield conv((0, 8, 8, 8), (8, 1, 3, 3), padding=1, groups=8)
    yield conv((3, 5, 1, 1), (6, 5, 1, 1))
    yield conv((3, 5, 1, 1), (6, 5, 3, 3), padding=1)
    yield conv((2, 4, 5, 6), (3, 4, 5, 6))
    yield conv((2, 4, 3, 4), (3, 4, 5, 6), padding=1)
    yield conv((1, 1, 16, 1), (1, 1, 3, 1))
    # shapes of real networks, small enough: first layers, wide 1x1, deep reductions, LeNet-5; large enough for threads
    yield conv((1, 3, 27, 27), (12, 3, 11, 11), stride=4, padding=2)
    yield conv((2, 3, 32, 32), (16, 3, 7, 7), stride=2, padding=3, bias=False)
    yield conv((4, 16, 20, 20), (32, 16, 3, 3), padding=1)
    yield conv((3, 33, 14, 15), (17, 33, 3, 3), padding=1)
    yield conv((4, 64, 12, 12), (96, 64, 1, 1), bias=False)
    yield conv((2, 200, 7, 7), (136, 200, 1, 1), stride=2)
    yield conv((3, 70, 7, 7), (40, 70, 3, 3), padding=1)  # several images to an item, a depth in slices
    yield conv((1, 320, 4, 4), (24, 320, 3, 3), padding=1)
    yield conv((1, 96, 9, 10), (128, 96, 3, 3), padding=1)  # wide enough for matrix tiles
    yield conv((5, 56, 7, 7), (52, 56, 3, 3), padding=1)  # lines that take panels of three vectors
    yield conv((1, 30, 26, 14), (100, 30, 3, 5), padding=(1, 2), bias=False)
    yield conv((2, 96, 11, 12), (100, 96, 3, 2), padding=1, stride=2)
    yield conv((5, 40, 24, 23), (40, 1, 3, 3), padding=1, groups=40)
    yield conv((8, 1, 28, 28), (6, 1, 5, 5), padding=2)
    yield conv((8, 6, 14, 14), (16, 6, 5, 5))
    yield conv((1, 24, 17, 17), (24, 24, 1, 7), padding=(0, 3))
    yield conv((1, 16, 33, 34), (20, 16, 3, 3), padding=1)
    yield conv((2, 17, 9, 6), (18, 17, 5, 5), padding=2)
    yield conv((2, 19, 5, 9), (16, 19, 1, 3), padding=(0, 1))
    yield conv((2, 16, 9, 5), (21, 16, 3, 1), padding=(1, 0))
    yield conv((2, 18, 11, 4), (17, 18, 7, 1), padding=(3, 0))


def transposed_convolutions() -> Iterator[Case]:
    op = "conv_transpose2d"
    for i, c in enumerate(LANES):
        yield conv((2, c, 4, 3), (c, LANES[-1 - i], 3, 3), op=op, bias=i % 2 == 0, stride=2, padding=1)
    yield conv((2, 3, 5, 4), (3, 4, 2, 2), op=op, stride=2)
    yield conv((2, 3, 5, 4), (3, 4, 3, 3), op=op, stride=2, padding=1, output_padding=1)
    yield conv((2, 3, 5, 4), (3, 4, 3, 4), op=op, stride=(3, 2), padding=(1, 0), output_padding=(2, 1))
    yield conv((2, 6, 5, 4), (6, 2, 3, 3), op=op, groups=3, dilation=2)
    yield conv((2, 8, 5, 4), (8, 1, 4, 4), op=op, stride=2, padding=1, groups=8)
    yield conv((2, 5, 6, 6), (5, 7, 1, 1), op=op)
    yield conv((0, 5, 6, 6), (5, 7, 3, 3), op=op)
    yield conv((4, 24, 10, 10), (24, 20, 4, 4), op=op, stride=2, padding=1)


def products() -> Iterator[Case]:
    for i, k in enumerate(LANES):
        o = LANES[-1 - i]
        yield Case("linear", (normal(5, k), normal(o, k), normal(o) if i % 2 else None))
        yield Case("matmul", (normal(7, k), normal(k, o)))
    yield Case("linear", (normal(2, 3, 17), normal(9, 17), normal(9)))
    yield Case("linear", (normal(2, 3, 4, 17), normal(9, 17), normal(9)))
    yield Case("linear", (normal(17), normal(9, 17), normal(9)))
    yield Case("linear", (normal(0, 17), normal(9, 17), normal(9)))
    yield Case("linear", (normal(1, 400), normal(120, 400), normal(120)))
    yield Case("linear", (normal(64, 400), normal(120, 400), normal(120)))
    yield Case("linear", (normal(33, 1000), normal(10, 1000), None))
    yield Case("linear", (normal(20, 650), normal(430, 650), normal(430)))  # weights read where they lie
    yield Case("matmul", (normal(65, 70), normal(70, 129)))
    yield Case("matmul", (normal(3, 5, 8), normal(3, 8, 6)))
    yield Case("matmul", (normal(2, 3, 5, 8), normal(3, 8, 6)))
    yield Case("matmul", (normal(2, 1, 5, 8), normal(1, 4, 8, 6)))
    yield Case("matmul", (normal(3, 5, 8), normal(8, 6)))
    yield Case("matmul", (normal(5, 8), normal(3, 8, 6)))
    yield Case("matmul", (normal(0, 8), normal(8, 6)))
    yield Case("matmul", (normal(4, 0), normal(0, 6)))
    yield Case("matmul", (normal(5, 8), normal(8)))
    yield Case("matmul", (normal(8), normal(8, 5)))
    yield Case("matmul", (normal(8), normal(8)))


def pools() -> Iterator[Case]:
    for c in LANES:
        yield Case("max_pool2d", (distinct(2, c, 7, 6),), {"kernel_size": 3, "stride": 2, "padding": 1})
        yield Case("avg_pool2d", (normal(2, c, 7, 6),), {"kernel_size": 3, "stride": 2, "padding": 1})
        yield Case("adaptive_avg_pool2d", (normal(2, c, 7, 6),), {"output_size": 1})
        yield Case("adaptive_max_pool2d", (distinct(2, c, 7, 6),), {"output_size": (3, 4)})
    for args in (
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": (2, 1)},
        {"kernel_size": 3, "stride": 1, "padding": 1},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 2, "stride": 3, "ceil_mode": True},
        {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True},
        {"kernel_size": (3, 5), "stride": (2, 3), "padding": (1, 2), "ceil_mode": True},
        {"kernel_size": (8, 9)},
    ):
        yield Case("max_pool2d", (distinct(2, 5, 8, 9),), args)
        yield Case("avg_pool2d", (normal(2, 5, 8, 9),), args)
    for args in (
        {"kernel_size": 3, "stride": 1, "dilation": 2},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 1), "dilation": (3, 2)},
        {"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True},
    ):
        yield Case("max_pool2d", (distinct(2, 9, 8, 9),), args)
    for args in (
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 5},
        {"kernel_size": (2, 4), "stride": 3, "padding": (1, 2), "divisor_override": 1, "ceil_mode": True},
    ):
        yield Case("avg_pool2d", (normal(2, 5, 8, 9),), args)
    for size in (5, (1, 4), (8, 9), (None, 3), (11, 10)):
        yield Case("adaptive_avg_pool2d", (normal(2, 6, 8, 9),), {"output_size": size})
        yield Case("adaptive_max_pool2d", (distinct(2, 6, 8, 9),), {"output_size": size})
    for op, args in (
        ("max_pool2d", {"kernel_size": 2}),
        ("avg_pool2d", {"kernel_size": 2}),
        ("adaptive_avg_pool2d", {"output_size": 3}),
        ("adaptive_max_pool2d", {"output_size": 3}),
    ):
        yield Case(op, (distinct(0, 6, 8, 9),), args)
        yield Case(op, (distinct(3, 34, 20, 21),), args)


def norms() -> Iterator[Case]:
    def batch(
        shape: tuple[int, ...], affine: bool = True, running: bool = True, offset: float = 0.0, **args: Any
    ) -> Case:
        c = shape[1]
        mean = Input("normal", (c,), grad=False) if running else None
        var = Input("positive", (c,), grad=False) if running else None
        weight, bias = (normal(c), normal(c)) if affine else (None, None)
        return Case("batch_norm", (normal(*shape, offset=offset), mean, var, weight, bias), args)

    for i, c in enumerate(LANES):
        yield batch((3, c, 4, 5), affine=i % 3 != 0, training=True)
        yield batch((3, c, 4, 5), affine=i % 3 != 1)
        yield Case("layer_norm", (normal(3, 4, c + 1), normal(c + 1), normal(c + 1)), {"normalized_shape": (c + 1,)})
        yield Case("group_norm", (normal(2, c, 4, 5), normal(c), normal(c)), {"num_groups": 1})
        yield Case("group_norm", (normal(2, 2 * c, 3, 5), normal(2 * c), normal(2 * c)), {"num_groups": c})
        yield Case("local_response_norm", (normal(2, c, 3, 4),), {"size": 5, "alpha": 0.5, "beta": 0.75, "k": 2.0})
    for i, activation in enumerate(("none", "relu", "relu6", "silu", "hardswish")):
        for j, residual in enumerate((False, True)):
            for training in (False, True):
                for shape in ((3, LANES[2 * i + j], 4, 5), (4, 34, 9, 8), (5, 6, 7), (9, 6)):
                    plain = batch(shape, offset=2.0, training=training)
                    inputs = (*plain.inputs, normal(*shape) if residual else None)
                    yield Case("batch_norm_act", inputs, {**plain.args, "activation": activation})
    yield batch((9, 6), training=True)
    yield batch((4, 6, 7), training=True)
    yield batch((4, 6, 7))
    yield batch((9, 6))
    yield batch((2, 6, 3, 3), running=False, training=True)
    yield batch((2, 6, 3, 3), training=True, momentum=0.7, eps=0.1)
    yield batch((4, 6, 8, 8), training=True, offset=100.0)
    yield batch((0, 6, 3, 3))
    yield batch((8, 34, 16, 16), training=True)
    yield batch((8, 34, 16, 16))
    yield Case("layer_norm", (normal(2, 5, 4, 3), normal(5, 4, 3), normal(5, 4, 3)), {"normalized_shape": (5, 4, 3)})
    yield Case("layer_norm", (normal(2, 5, 4, 3), normal(4, 3), None), {"normalized_shape": (4, 3), "eps": 0.01})
    yield Case("layer_norm", (normal(2, 5, 4, 3), None, None), {"normalized_shape": (3,)})
    yield Case("layer_norm", (normal(0, 7), normal(7), normal(7)), {"normalized_shape": (7,)})
    yield Case("layer_norm", (normal(64, 197), normal(197), normal(197)), {"normalized_shape": (197,)})
    yield Case("layer_norm", (normal(4, 9, offset=100.0), normal(9), normal(9)), {"normalized_shape": (9,)})
    yield Case("group_norm", (normal(3, 6, 5), normal(6), normal(6)), {"num_groups": 3})
    yield Case("group_norm", (normal(3, 6), None, None), {"num_groups": 2, "eps": 0.01})
    yield Case("group_norm", (normal(3, 8, 4, 4), None, None), {"num_groups": 4})
    yield Case("group_norm", (normal(4, 32, 16, 16), normal(32), normal(32)), {"num_groups": 8})
    for c in (1, 7, 16, 33):
        yield Case("instance_norm", (normal(2, c, 4, 5), normal(c), normal(c)))
        yield Case("normalize", (normal(3, c, 2, 3),))
    yield Case("instance_norm", (normal(2, 5, 6), None, None), {"eps": 0.01})
    yield Case("normalize", (normal(5, 9),), {"p": 3.0, "dim": -1})
    yield Case("normalize", (normal(40, 300),))
    for size in (1, 2, 3, 4, 9):
        yield Case("local_response_norm", (normal(2, 7, 3, 4),), {"size": size})
    yield Case("local_response_norm", (normal(2, 40, 20, 20),), {"size": 5, "alpha": 0.1})


def curves() -> Iterator[Case]:
    plain = ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "logsigmoid", "softsign")
    plain += ("tanh", "softplus", "hardtanh", "hardswish", "hardsigmoid", "neg", "abs", "exp", "expm1", "square")
    plain += ("sin", "cos", "erf", *oracle.STEPS, *oracle.TESTS)
    for i, op in enumerate(plain):
        yield Case(op, (normal(2, LANES[i % len(LANES)], 3, 5),))
        yield Case(op, (normal(LANES[(i + 5) % len(LANES)]),))
    for i, op in enumerate(("log", "log1p", "sqrt", "rsqrt", "reciprocal")):
        yield Case(op, (positive(2, LANES[i], 3, 5),))
        yield Case(op, (positive(LANES[i + 5]),))
    for op in ("relu", "relu6", "gelu", "silu", "mish", "sigmoid", "tanh", "softplus", "hardswish", "elu", "selu"):
        yield Case(op, (Input("wide", (3, 17, 33, 34)),))
    for op in ("logsigmoid", "softsign", "hardsigmoid", "hardtanh", "leaky_relu", "exp", "erf", "sin", "cos"):
        yield Case(op, (Input("wide", (33, 35)),))
    for op in ("relu", "sigmoid", "exp"):
        yield Case(op, (normal(0, 3, 4, 4),))
        yield Case(op, (normal(),))
    yield Case("leaky_relu", (normal(2, 5, 3, 3),), {"negative_slope": 0.2})
    yield Case("elu", (normal(2, 5, 3, 3),), {"alpha": 0.7})
    yield Case("gelu", (normal(2, 5, 3, 3),), {"approximate": "tanh"})
    yield Case("gelu", (Input("wide", (3, 17, 33, 34)),), {"approximate": "tanh"})
    yield Case("softplus", (normal(2, 5, 3, 3),), {"beta": 2.0, "threshold": 3.0})
    yield Case("hardtanh", (normal(2, 5, 3, 3),), {"min_val": -0.3, "max_val": 0.8})
    yield Case("clamp", (normal(2, 5, 3, 3),), {"min": -0.5, "max": 1.0})
    yield Case("clamp", (normal(2, 5, 3, 3),), {"min": -0.5})
    yield Case("clamp", (normal(2, 5, 3, 3),), {"max": 0.25})
    for exponent in (2, 3, 0.5, -1, -2.5, 1):
        yield Case("pow_scalar", (positive(2, 5, 3, 3),), {"exponent": exponent})
    yield Case("pow_scalar", (away(2, 5, 3, 3),), {"exponent": 3})
    for c in (1, 7, 16, 33):
        yield Case("prelu", (normal(2, c, 3, 4), normal(c)))
    yield Case("prelu", (normal(2, 9, 3, 4), normal(1)))
    yield Case("prelu", (normal(5, 9), normal(9)))
    yield Case("prelu", (normal(6, 19, 20, 20), normal(19)))
    for op in ("softmax", "log_softmax"):
        for c in LANES:
            yield Case(op, (normal(5, c),), {"dim": 1})
        yield Case(op, (Input("wide", (3, 10)),), {"dim": -1})
        yield Case(op, (normal(2, 7, 3, 4),), {"dim": 1})
        yield Case(op, (normal(2, 7, 3, 4),), {"dim": 3})
        yield Case(op, (normal(2, 7, 3, 4),), {"dim": 0})
        yield Case(op, (normal(2, 7, 3, 4),), {"dim": 2})
        yield Case(op, (normal(3, 4, 5),), {"dim": -2})
        yield Case(op, (normal(6),), {"dim": 0})
        yield Case(op, (normal(0, 7),), {"dim": 1})
        yield Case(op, (normal(65, 1000),), {"dim": 1})


BROADCASTS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 7, 3, 5), (2, 7, 3, 5)),
    ((2, 17, 3, 5), (1, 17, 1, 1)),
    ((3, 33, 5, 4), (3, 33, 1, 1)),
    ((2, 16, 1, 1), (2, 16, 19, 7)),
    ((2, 7, 3, 5), (5,)),
    ((2, 7, 3, 5), (2, 1, 3, 1)),
    ((1, 7, 1, 5), (2, 1, 3, 1)),
    ((3, 1), (1, 4)),
    ((33,), ()),
    ((), (9,)),
    ((4, 5), (3, 4, 5)),
    ((0, 5), (1, 5)),
    ((6, 31, 18, 18), (6, 31, 18, 18)),
    ((6, 31, 18, 18), (31, 1, 1)),
)


def pairs() -> Iterator[Case]:
    for a, b in BROADCASTS:
        yield Case("add", (normal(*a), normal(*b)))
        yield Case("mul", (normal(*a), normal(*b)))
        yield Case("div", (normal(*a), away(*b)))
    for a, b in BROADCASTS[:4] + BROADCASTS[9:11]:
        yield Case("sub", (normal(*a), normal(*b)))
        yield Case("pow", (positive(*a), normal(*b)))
        yield Case("maximum", (normal(*a), normal(*b)))
        yield Case("minimum", (normal(*a), normal(*b)))
        yield Case("where", (fixed("mask", *a), normal(*a), normal(*b)))
        for op in oracle.COMPARE:
            yield Case(op, (fixed("few", *a), fixed("few", *b)))
    yield Case("where", (fixed("mask", 5), normal(3, 5), normal(3, 1)))
    yield Case("maximum", (Input("few", (4, 9)), Input("few", (4, 9))))  # ties
    yield Case("minimum", (Input("few", (4, 9)), Input("few", (4, 9))))


def reductions() -> Iterator[Case]:
    dims: tuple[Any, ...] = (None, 0, 1, -1, (2, 3), (0, 2, 3), (1, 2), (0, 1, 2, 3))
    for i, dim in enumerate(dims):
        shape = (3, LANES[i], 4, 5)
        for keepdim in (False, True) if dim is not None else (False,):
            args = {} if dim is None else {"dim": dim, "keepdim": keepdim}
            yield Case("sum", (normal(*shape),), args)
            yield Case("mean", (normal(*shape),), args)
            if dim is not None:
                yield Case("amax", (distinct(*shape),), args)
                yield Case("amin", (distinct(*shape),), args)
    for dim in (0, 1, 2, 3, -1):
        yield Case("max", (distinct(3, 17, 4, 5),), {"dim": dim})
        yield Case("min", (distinct(3, 17, 4, 5),), {"dim": dim, "keepdim": True})
        yield Case("prod", (away(3, 9, 2, 4),), {"dim": dim})
    yield Case("amax", (Input("few", (4, 9)),), {"dim": 1})  # ties share the gradient
    yield Case("sum", (normal(7),), {"dim": 0})
    yield Case("sum", (normal(5, 6),), {"dim": 0})
    yield Case("sum", (normal(5, 6),), {"dim": 1})
    yield Case("mean", (normal(5, 6, 7),), {"dim": (0, 2)})
    yield Case("sum", (normal(0, 6),), {"dim": 0})
    yield Case("sum", (normal(0, 6),), {"dim": 1})
    yield Case("sum", (normal(),))
    yield Case("prod", (normal(4, 7),), {"dim": 0, "keepdim": True})
    for op, make in (("sum", normal), ("mean", normal), ("amax", distinct)):
        yield Case(op, (make(6, 33, 18, 19),), {"dim": (0, 2, 3)})
        yield Case(op, (make(6, 33, 18, 19),), {"dim": 1})
        yield Case(op, (make(300, 257),), {"dim": 0})
        yield Case(op, (make(300, 257),), {"dim": 1})
    yield Case("sum", (normal(300, 257),))
    yield Case("mean", (normal(6, 33, 18, 19),))


def losses() -> Iterator[Case]:
    for op in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
        for reduction in ("mean", "sum", "none"):
            yield Case(op, (normal(5, 7), normal(5, 7)), {"reduction": reduction})
        yield Case(op, (normal(2, 17, 3, 3), normal(2, 17, 3, 3)))
        yield Case(op, (normal(100, 333), normal(100, 333)))
    yield Case("smooth_l1_loss", (normal(5, 7), normal(5, 7)), {"beta": 0.3})
    yield Case("huber_loss", (normal(5, 7), normal(5, 7)), {"delta": 0.3})
    unit, logits, target = Input("unit", (6, 9)), normal(6, 9), Input("unit", (6, 9))
    weight = np.linspace(0.5, 2.0, 9)
    for reduction in ("mean", "sum", "none"):
        yield Case("binary_cross_entropy", (unit, target), {"reduction": reduction})
        yield Case("binary_cross_entropy_with_logits", (logits, target), {"reduction": reduction})
        yield Case("sigmoid_focal_loss", (logits, fixed("unit", 6, 9)), {"reduction": reduction})
    yield Case("binary_cross_entropy", (unit, target), {"weight": weight})
    yield Case("binary_cross_entropy_with_logits", (logits, target), {"weight": weight})
    yield Case("binary_cross_entropy_with_logits", (logits, target), {"pos_weight": weight})
    yield Case("binary_cross_entropy_with_logits", (Input("wide", (40, 51)), Input("unit", (40, 51))))
    yield Case("sigmoid_focal_loss", (logits, fixed("unit", 6, 9)), {"alpha": -1.0, "gamma": 3.0, "reduction": "sum"})
    for reduction in ("mean", "sum", "none", "batchmean"):
        yield Case(
            "kl_div", (Input("log_probabilities", (5, 9)), Input("probabilities", (5, 9))), {"reduction": reduction}
        )
    log_pair = (Input("log_probabilities", (5, 9)), Input("log_probabilities", (5, 9)))
    yield Case("kl_div", log_pair, {"reduction": "batchmean", "log_target": True})
    weights = Input("positive", (10,), grad=False)
    for op, logits in (("nll_loss", Input("log_probabilities", (7, 10))), ("cross_entropy", normal(7, 10))):
        for args in (
            {},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"ignore_index": 3},
            {"ignore_index": 3, "reduction": "none"},
        ):
            yield Case(op, (logits, fixed("labels", 7, limit=10), None), args)
            yield Case(op, (logits, fixed("labels", 7, limit=10), weights), args)
    for c in LANES:
        yield Case("cross_entropy", (normal(6, c), fixed("labels", 6, limit=c), None))
    for args in (
        {"label_smoothing": 0.1},
        {"label_smoothing": 0.1, "ignore_index": 2},
        {"label_smoothing": 0.3, "reduction": "sum"},
        {"label_smoothing": 0.3, "reduction": "none"},
    ):
        for w in (None, weights):
            yield Case("cross_entropy", (normal(7, 10), fixed("labels", 7, limit=10), w), args)
    yield Case("cross_entropy", (Input("wide", (7, 10)), fixed("labels", 7, limit=10), None))
    yield Case("cross_entropy", (normal(2, 10, 3, 4), fixed("labels", 2, 3, 4, limit=10), weights))
    yield Case("cross_entropy", (normal(2, 10, 3, 4), fixed("labels", 2, 3, 4, limit=10), None), {"reduction": "none"})
    yield Case("nll_loss", (Input("log_probabilities", (2, 10, 3, 4)), fixed("labels", 2, 3, 4, limit=10), weights))
    yield Case("cross_entropy", (normal(128, 100), fixed("labels", 128, limit=100), None))
    for args in (
        {},
        {"reduction": "sum"},
        {"reduction": "none"},
        {"label_smoothing": 0.2},
    ):
        for w in (None, weights):
            yield Case("soft_cross_entropy", (normal(7, 10), Input("probabilities", (7, 10)), w), args)


def shapes() -> Iterator[Case]:
    for dim in (0, 1, 2, 3, -1):
        parts = []
        for n in (3, 1, 8):
            shape = [2, 5, 3, 4]
            shape[dim] = n
            parts.append(normal(*shape))
        yield Case("concat", tuple(parts), {"dim": dim})
        yield Case("split", (normal(4, 9, 5, 6),), {"sections": 2, "dim": dim})
        yield Case("stack", (normal(3, 4), normal(3, 4)), {"dim": min(dim, 2)})
    yield Case("concat", (normal(2, 16, 3, 4), normal(2, 17, 3, 4), normal(2, 31, 3, 4)), {"dim": 1})
    yield Case("concat", (normal(4, 20, 20, 20), normal(4, 13, 20, 20)), {"dim": 1})
    yield Case("concat", (normal(0, 3), normal(2, 3)), {"dim": 0})
    yield Case("split", (normal(2, 9, 3, 4),), {"sections": [2, 3, 4], "dim": 1})
    yield Case("stack", (normal(), normal(), normal()), {"dim": 0})
    s = slice
    for index in (
        (s(None), s(1, 4)),
        (s(None), s(None), s(0, None, 2), s(1, None, 3)),
        (1,),
        (-1, s(2, None)),
        (Ellipsis, 0),
        (Ellipsis, s(-2, None)),
        (s(None), None, s(1, 3)),
        (s(2, 1),),
        (1, 2, 3, 4),
    ):
        yield Case("slice", (normal(3, 7, 5, 6),), {"index": index})
    yield Case("slice", (normal(3, 40, 20, 20),), {"index": (s(None), s(8, 33))})
    for old, new in (
        ((2, 3, 4, 5), (2, 60)),
        ((2, 60), (2, 3, 4, 5)),
        ((2, 3, 4, 5), (6, 20)),
        ((2, 3, 4, 5), (5, 4, 3, 2)),
        ((24,), (2, 3, 2, 2)),
        ((4, 6), (24,)),
        ((0, 3, 2, 2), (0, 12)),
        ((1, 1, 1, 1), ()),
        ((8, 16, 5, 5), (8, 400)),
    ):
        yield Case("reshape", (normal(*old),), {"shape": new})
    for dims in ((0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3), (0, 1, 3, 2)):
        yield Case("permute", (normal(2, 17, 3, 4),), {"dims": dims})
    yield Case("permute", (normal(5, 6),), {"dims": (1, 0)})
    yield Case("permute", (normal(2, 3, 4, 2, 2),), {"dims": (4, 2, 0, 3, 1)})
    yield Case("expand", (normal(2, 1, 3, 1),), {"shape": (2, 5, 3, 4)})
    yield Case("expand", (normal(4),), {"shape": (2, 3, 4)})
    yield Case("expand", (normal(33, 1, 1),), {"shape": (4, 33, 12, 12)})
    for dim in (0, 1, 2, 3):
        yield Case("index_select", (normal(3, 17, 4, 5),), {"dim": dim, "index": (2, 0, 2, 1)})
        shape = [3, 5, 4, 5]
        size, shape[dim] = shape[dim], 6
        yield Case("gather", (normal(3, 5, 4, 5), fixed("labels", *shape, limit=size)), {"dim": dim})
    yield Case("gather", (normal(6, 9), fixed("labels", 6, 1, limit=9)), {"dim": 1})
    for r in (1, 2, 3):
        yield Case("pixel_shuffle", (normal(2, 2 * r * r, 3, 4),), {"upscale_factor": r})
        yield Case("pixel_unshuffle", (normal(2, 5, 3 * r, 2 * r),), {"downscale_factor": r})
        yield Case("channel_shuffle", (normal(2, 6, 3, 4),), {"groups": r})
    for count in (1, 2, 3):
        yield Case("interleave", tuple(normal(2, 5, 3, 4) for _ in range(count)))
    yield Case("one_hot", (fixed("labels", 3, 4, limit=5),), {"num_classes": 6})
    for dim in (0, 1, -1):
        yield Case("unbind", (normal(3, 4, 2),), {"dim": dim})
    for mode in ("constant", "reflect", "replicate"):
        for padding in ((1, 2, 3, 0), (0, 0, 1, 1)):
            yield Case("pad", (normal(2, 5, 4, 6),), {"padding": padding, "mode": mode})
        yield Case("pad", (normal(3, 33, 12, 12),), {"padding": (3, 3, 3, 3), "mode": mode})
    yield Case("pad", (normal(2, 5, 4, 6),), {"padding": (2, 1)})
    yield Case("pad", (normal(2, 17, 4, 6),), {"padding": (1, 0, 2, 1), "value": -2.5})
    yield Case("pad", (normal(2, 5, 6, 7),), {"padding": (-1, 2, 0, -2)})


def resizes() -> Iterator[Case]:
    for mode in ("nearest", "nearest-exact"):
        for size in ((8, 10), (7, 13), (3, 2), (4, 5), (1, 1)):
            yield Case("interpolate", (normal(2, 5, 4, 5),), {"size": size, "mode": mode})
        yield Case("interpolate", (normal(2, 17, 4, 5),), {"scale_factor": 2, "mode": mode})
    for mode in ("bilinear", "bicubic"):
        for size in ((8, 10), (7, 13), (3, 2), (4, 5), (1, 1)):
            for corners in (False, True):
                yield Case("interpolate", (normal(2, 5, 4, 5),), {"size": size, "mode": mode, "align_corners": corners})
        for size in ((3, 2), (5, 13), (9, 9)):
            yield Case("interpolate", (normal(2, 5, 9, 11),), {"size": size, "mode": mode, "antialias": True})
        yield Case(
            "interpolate",
            (normal(2, 5, 9, 11),),
            {"size": (4, 20), "mode": mode, "antialias": True, "align_corners": True},
        )
        for factor in (2, 1.7, (0.6, 2.5)):
            yield Case("interpolate", (normal(2, 17, 6, 7),), {"scale_factor": factor, "mode": mode})
        yield Case("interpolate", (normal(0, 5, 4, 5),), {"size": (8, 8), "mode": mode})
        yield Case("interpolate", (normal(2, 33, 12, 12),), {"size": (25, 24), "mode": mode})


def _cases() -> list[Case]:
    makers = (convolutions, transposed_convolutions, products, pools, norms, curves, pairs, reductions, losses, shapes)
    found = {case.id: case for make in (*makers, resizes) for case in make()}
    return list(found.values())


CASES = _cases()
