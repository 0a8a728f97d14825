"""Reference of every op in NumPy float64: written to be read, not to be fast.

``OPS[name]`` is the pair ``(forward, backward)``:

* ``forward(*inputs, **args)`` returns ``y``, or ``(y, extra, ...)`` when the op has further results without gradient;
* ``backward(dy, *inputs, **args)`` returns one gradient per input, ``None`` where there is none.

Names are those of ``engine.backend``; arguments are PyTorch's. Arrays are logical NCHW. Gradients of elementwise
functions come from the complex step, ``f'(x) = Im f(x + ih) / h``, exact to the last digit: nothing is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray
STEP = 1e-30

# --------------------------------------------------------------------------------------------------------------------
# Elementwise functions of one input. Each accepts complex numbers and branches on the real part only.
# --------------------------------------------------------------------------------------------------------------------

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
_real_erf = np.vectorize(math.erf, otypes=[np.float64])


def erf(x: Array) -> Array:
    value = _real_erf(np.real(x))
    if np.iscomplexobj(x):
        return value + 1j * np.imag(x) * (2 / math.sqrt(math.pi)) * np.exp(-(np.real(x) ** 2))
    return value


def _between(x: Array, low: float, high: float) -> Array:
    return np.where(x.real < low, low, np.where(x.real > high, high, x))


def absolute(x: Array) -> Array:
    return np.where(x.real < 0, -x, x)


def sigmoid(x: Array) -> Array:
    small = np.exp(-absolute(x))
    return np.where(x.real >= 0, 1 / (1 + small), small / (1 + small))


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    t = beta * x
    soft = (np.where(t.real > 0, t, 0) + np.log1p(np.exp(-absolute(t)))) / beta
    return np.where(t.real > threshold, x, soft)


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x.real > 0, x, alpha * np.expm1(np.where(x.real > 0, 0, x)))


def gelu(x: Array, approximate: str = "none") -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def hardsigmoid(x: Array) -> Array:
    return _between(x + 3, 0, 6) / 6


UNARY: dict[str, Callable[..., Array]] = {
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "relu6": lambda x: _between(x, 0, 6),
    "leaky_relu": lambda x, negative_slope=0.01: np.where(x.real > 0, x, negative_slope * x),
    "elu": elu,
    "selu": lambda x: SELU_SCALE * elu(x, SELU_ALPHA),
    "gelu": gelu,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "sigmoid": sigmoid,
    "logsigmoid": lambda x: -softplus(-x, threshold=np.inf),
    "softsign": lambda x: x / (1 + absolute(x)),
    "tanh": np.tanh,
    "softplus": softplus,
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: _between(x, min_val, max_val),
    "hardswish": lambda x: x * hardsigmoid(x),
    "hardsigmoid": hardsigmoid,
    "neg": lambda x: -x,
    "abs": absolute,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1 / x,
    "sin": np.sin,
    "cos": np.cos,
    "erf": erf,
    "clamp": lambda x, min=None, max=None: _between(x, -np.inf if min is None else min, np.inf if max is None else max),
    "pow_scalar": lambda x, exponent: x**exponent,
}
STEPS: dict[str, Callable[..., Array]] = {"sign": np.sign, "floor": np.floor, "ceil": np.ceil, "round": np.round}
TESTS: dict[str, Callable[..., Array]] = {
    "logical_not": lambda x: x == 0,
    "isnan": np.isnan,
    "isfinite": np.isfinite,
}


def derivative(name: str, x: Array, **args: Any) -> Array:
    """f'(x) by the complex step."""
    return np.imag(UNARY[name](x + 1j * STEP, **args)) / STEP


def unary_backward(name: str, dy: Array, x: Array, **args: Any) -> tuple[Array]:
    return (dy * derivative(name, x, **args),)


def prelu(x: Array, weight: Array) -> Array:
    w = _per_channel(weight, x.ndim)
    return np.where(x > 0, x, w * x)


def prelu_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    w = _per_channel(weight, x.ndim)
    dw = dy * np.where(x > 0, 0, x)
    dw = dw.sum().reshape(1) if weight.size == 1 else dw.sum(axis=_all_but_channels(x.ndim))
    return dy * np.where(x > 0, 1, w), dw


# --------------------------------------------------------------------------------------------------------------------
# Elementwise functions of two inputs, with broadcasting
# --------------------------------------------------------------------------------------------------------------------

BINARY: dict[str, tuple[Callable[..., Array], Callable[..., tuple[Array, Array]]]] = {
    "add": (np.add, lambda dy, a, b: (dy, dy)),
    "sub": (np.subtract, lambda dy, a, b: (dy, -dy)),
    "mul": (np.multiply, lambda dy, a, b: (dy * b, dy * a)),
    "div": (np.divide, lambda dy, a, b: (dy / b, -dy * a / b**2)),
    "pow": (np.power, lambda dy, a, b: (dy * b * a ** (b - 1), dy * a**b * np.log(a))),
    "maximum": (np.maximum, lambda dy, a, b: (dy * _share(a, b), dy * _share(b, a))),
    "minimum": (np.minimum, lambda dy, a, b: (dy * _share(b, a), dy * _share(a, b))),
}
COMPARE: dict[str, Callable[..., Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
}


def _share(a: Array, b: Array) -> Array:
    """Which part of the gradient of max(a, b) goes to a: all of it, none, or half at a tie."""
    return np.where(a > b, 1.0, np.where(a == b, 0.5, 0.0))


def sum_to(a: Array, shape: Sequence[int]) -> Array:
    """Undo broadcasting: sum over the axes along which an array of ``shape`` was repeated."""
    a = a.sum(axis=tuple(range(a.ndim - len(shape))))
    kept = tuple(i for i, n in enumerate(shape) if n == 1 and a.shape[i] != 1)
    return a.sum(axis=kept, keepdims=True) if kept else a


def binary_backward(name: str, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    da, db = BINARY[name][1](dy, a, b)
    return sum_to(np.broadcast_to(da, dy.shape), a.shape), sum_to(np.broadcast_to(db, dy.shape), b.shape)


def where(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition, a, b)


def where_backward(dy: Array, condition: Array, a: Array, b: Array) -> tuple[None, Array, Array]:
    return None, sum_to(np.where(condition, dy, 0), a.shape), sum_to(np.where(condition, 0, dy), b.shape)


# --------------------------------------------------------------------------------------------------------------------
# Reductions
# --------------------------------------------------------------------------------------------------------------------


def _axes(dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    if dim is None:
        return tuple(range(ndim))
    return tuple(d % ndim for d in ((dim,) if isinstance(dim, int) else dim))


def _keep(dy: Array, x: Array, dim: int | Sequence[int] | None) -> Array:
    """dy of a reduction with the reduced axes put back as size 1."""
    axes = _axes(dim, x.ndim)
    return np.reshape(dy, [1 if i in axes else n for i, n in enumerate(x.shape)])


def reduce_sum(x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    return x.sum(axis=_axes(dim, x.ndim), keepdims=keepdim)


def reduce_sum_backward(dy: Array, x: Array, dim: Any = None, keepdim: bool = False) -> tuple[Array]:
    return (np.broadcast_to(_keep(dy, x, dim), x.shape),)


def reduce_mean(x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    return x.mean(axis=_axes(dim, x.ndim), keepdims=keepdim)


def reduce_mean_backward(dy: Array, x: Array, dim: Any = None, keepdim: bool = False) -> tuple[Array]:
    count = math.prod(x.shape[i] for i in _axes(dim, x.ndim))
    return (np.broadcast_to(_keep(dy, x, dim), x.shape) / count,)


def reduce_prod(x: Array, dim: int, keepdim: bool = False) -> Array:
    return x.prod(axis=dim, keepdims=keepdim)


def reduce_prod_backward(dy: Array, x: Array, dim: int, keepdim: bool = False) -> tuple[Array]:
    moved = np.moveaxis(x, dim, 0)
    others = np.stack([np.prod(np.delete(moved, i, axis=0), axis=0) for i in range(len(moved))])
    return (_keep(dy, x, dim) * np.moveaxis(others, 0, dim),)


def extreme(pick: Callable[..., Array], x: Array, dim: Any = None, keepdim: bool = False) -> Array:
    """amax / amin."""
    return pick(x, axis=_axes(dim, x.ndim), keepdims=keepdim)


def extreme_backward(
    pick: Callable[..., Array], dy: Array, x: Array, dim: Any = None, keepdim: bool = False
) -> tuple[Array]:
    """Equal values share the gradient evenly."""
    axes = _axes(dim, x.ndim)
    hit = x == pick(x, axis=axes, keepdims=True)
    return (_keep(dy, x, dim) * hit / hit.sum(axis=axes, keepdims=True),)


def extreme_along(pick: Callable[..., Array], x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """max / min along one axis: values and indices."""
    index = pick(x, axis=dim, keepdims=True)
    values = np.take_along_axis(x, index, axis=dim)
    return (values, index) if keepdim else (values.squeeze(dim), index.squeeze(dim))


def extreme_along_backward(
    pick: Callable[..., Array], dy: Array, x: Array, dim: int, keepdim: bool = False
) -> tuple[Array]:
    dx = np.zeros_like(x)
    np.put_along_axis(dx, pick(x, axis=dim, keepdims=True), _keep(dy, x, dim), axis=dim)
    return (dx,)


# --------------------------------------------------------------------------------------------------------------------
# Matrix products
# --------------------------------------------------------------------------------------------------------------------


def matmul_backward(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    if b.ndim == 1:
        return dy[..., None] * b, (a * dy[..., None]).reshape(-1, b.size).sum(0)
    if a.ndim == 1:
        return sum_to((dy[..., None, :] @ np.swapaxes(b, -1, -2))[..., 0, :], a.shape), a[:, None] * dy[..., None, :]
    return sum_to(dy @ np.swapaxes(b, -1, -2), a.shape), sum_to(np.swapaxes(a, -1, -2) @ dy, b.shape)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_backward(dy: Array, x: Array, weight: Array, bias: Array | None = None) -> tuple[Array | None, ...]:
    rows, dys = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    return dy @ weight, dys.T @ rows, None if bias is None else dys.sum(0)


# --------------------------------------------------------------------------------------------------------------------
# Windows over the image: convolution and pooling
# --------------------------------------------------------------------------------------------------------------------


def pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def border(
    padding: str | int | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)). 'same' keeps the size at stride 1; an odd pixel goes below and to the right."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    assert not isinstance(padding, str)
    ph, pw = pair(padding)
    return (ph, ph), (pw, pw)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """y[n,o,i,j] = bias[o] + sum over c, r, s of weight[o,c,r,s] * x[n,c,i*sh + r*dh - top,j*sw + s*dw - left]"""
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    n, o = x.shape[0], weight.shape[0]
    cg, kh, kw = weight.shape[1:]
    rows, cols = border(padding, (kh, kw), (dh, dw))
    x = np.pad(x, ((0, 0), (0, 0), rows, cols)).reshape(n, groups, cg, x.shape[2] + sum(rows), x.shape[3] + sum(cols))
    w = weight.reshape(groups, o // groups, cg, kh, kw)
    oh = (x.shape[3] - dh * (kh - 1) - 1) // sh + 1
    ow = (x.shape[4] - dw * (kw - 1) - 1) // sw + 1
    y = np.zeros((n, groups, o // groups, oh, ow))
    for r in range(kh):
        for s in range(kw):
            seen = x[..., r * dh : r * dh + (oh - 1) * sh + 1 : sh, s * dw : s * dw + (ow - 1) * sw + 1 : sw]
            y += np.einsum("ngcij,goc->ngoij", seen, w[..., r, s], optimize=True)
    y = y.reshape(n, o, oh, ow)
    return y if bias is None else y + bias[:, None, None]


def conv2d_backward_data(
    dy: Array,
    weight: Array,
    x_shape: Sequence[int],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Array:
    """The transpose of conv2d as a linear map of x: what was read from a pixel is added to it."""
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    n, c, h, wd = x_shape
    o, cg, kh, kw = weight.shape
    rows, cols = border(padding, (kh, kw), (dh, dw))
    oh, ow = dy.shape[2:]
    dys = dy.reshape(n, groups, o // groups, oh, ow)
    w = weight.reshape(groups, o // groups, cg, kh, kw)
    dx = np.zeros((n, groups, cg, h + sum(rows), wd + sum(cols)))
    for r in range(kh):
        for s in range(kw):
            seen = dx[..., r * dh : r * dh + (oh - 1) * sh + 1 : sh, s * dw : s * dw + (ow - 1) * sw + 1 : sw]
            seen += np.einsum("ngoij,goc->ngcij", dys, w[..., r, s], optimize=True)
    dx = dx.reshape(n, c, h + sum(rows), wd + sum(cols))
    return dx[:, :, rows[0] : rows[0] + h, cols[0] : cols[0] + wd]


def conv2d_backward_weight(
    dy: Array,
    x: Array,
    w_shape: Sequence[int],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Array, Array]:
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    n = x.shape[0]
    o, cg, kh, kw = w_shape
    rows, cols = border(padding, (kh, kw), (dh, dw))
    oh, ow = dy.shape[2:]
    x = np.pad(x, ((0, 0), (0, 0), rows, cols)).reshape(n, groups, cg, x.shape[2] + sum(rows), x.shape[3] + sum(cols))
    dys = dy.reshape(n, groups, o // groups, oh, ow)
    dweight = np.zeros((groups, o // groups, cg, kh, kw))
    for r in range(kh):
        for s in range(kw):
            seen = x[..., r * dh : r * dh + (oh - 1) * sh + 1 : sh, s * dw : s * dw + (ow - 1) * sw + 1 : sw]
            dweight[..., r, s] = np.einsum("ngcij,ngoij->goc", seen, dys, optimize=True)
    return dweight.reshape(w_shape), dy.sum(axis=(0, 2, 3))


def conv2d_backward(
    dy: Array, x: Array, weight: Array, bias: Array | None = None, **args: Any
) -> tuple[Array | None, ...]:
    dweight, dbias = conv2d_backward_weight(dy, x, weight.shape, **args)
    return conv2d_backward_data(dy, weight, x.shape, **args), dweight, None if bias is None else dbias


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """The gradient of a convolution whose weight has shape (in, out / groups, kh, kw), used as a layer."""
    s, p, extra, d = pair(stride), pair(padding), pair(output_padding), pair(dilation)
    size = [(x.shape[2 + i] - 1) * s[i] - 2 * p[i] + d[i] * (weight.shape[2 + i] - 1) + extra[i] + 1 for i in (0, 1)]
    shape = (x.shape[0], weight.shape[1] * groups, *size)
    y = conv2d_backward_data(x, weight, shape, stride, padding, dilation, groups)
    return y if bias is None else y + bias[:, None, None]


def conv_transpose2d_backward(
    dy: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Array | None, ...]:
    dx = conv2d(dy, weight, None, stride, padding, dilation, groups)[:, :, : x.shape[2], : x.shape[3]]
    dweight = conv2d_backward_weight(x, dy, weight.shape, stride, padding, dilation, groups)[0]
    return dx, dweight, None if bias is None else dy.sum(axis=(0, 2, 3))


def pooled_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Windows that fit; with ceil_mode one more that hangs over, if it starts inside the image or its left padding."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    out = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (out - 1) * stride >= size + padding:
        out -= 1
    return out


def max_pool2d(
    x: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Values and, per plane, the flat index of each maximum (the first one at a tie)."""
    kernel, pad, dil = pair(kernel_size), pair(padding), pair(dilation)
    step = kernel if stride is None else pair(stride)
    n, c, h, w = x.shape
    oh = pooled_size(h, kernel[0], step[0], pad[0], dil[0], ceil_mode)
    ow = pooled_size(w, kernel[1], step[1], pad[1], dil[1], ceil_mode)
    y = np.empty((n, c, oh, ow))
    index = np.empty((n, c, oh, ow), dtype=np.int64)
    for i in range(oh):
        for j in range(ow):
            rows = [r for r in (i * step[0] - pad[0] + k * dil[0] for k in range(kernel[0])) if 0 <= r < h]
            cols = [q for q in (j * step[1] - pad[1] + k * dil[1] for k in range(kernel[1])) if 0 <= q < w]
            flat = np.array([r * w + q for r in rows for q in cols])
            seen = x.reshape(n, c, h * w)[:, :, flat]
            best = seen.argmax(axis=2)
            y[:, :, i, j] = np.take_along_axis(seen, best[:, :, None], axis=2)[:, :, 0]
            index[:, :, i, j] = flat[best]
    return y, index


def max_pool2d_backward(dy: Array, x: Array, kernel_size: Any, **args: Any) -> tuple[Array]:
    return (unpool(dy, max_pool2d(x, kernel_size, **args)[1], x.shape),)


def unpool(dy: Array, index: Array, x_shape: Sequence[int]) -> Array:
    n, c, h, w = x_shape
    dx = np.zeros((n * c, h * w))
    planes = np.arange(n * c)[:, None]
    count = index.shape[2] * index.shape[3]
    np.add.at(dx, (planes, index.reshape(n * c, count)), dy.reshape(n * c, count))
    return dx.reshape(n, c, h, w)


def _average_windows(
    x_shape: Sequence[int],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[int, int, list[tuple[int, int, slice, slice, float]]]:
    kernel, pad = pair(kernel_size), pair(padding)
    step = kernel if stride is None else pair(stride)
    h, w = x_shape[2:]
    oh = pooled_size(h, kernel[0], step[0], pad[0], 1, ceil_mode)
    ow = pooled_size(w, kernel[1], step[1], pad[1], 1, ceil_mode)
    windows = []
    for i in range(oh):
        for j in range(ow):
            top, left = i * step[0] - pad[0], j * step[1] - pad[1]
            bottom, right = min(top + kernel[0], h + pad[0]), min(left + kernel[1], w + pad[1])
            rows, cols = slice(max(top, 0), min(bottom, h)), slice(max(left, 0), min(right, w))
            padded = (bottom - top) * (right - left)
            real = (rows.stop - rows.start) * (cols.stop - cols.start)
            divisor = divisor_override or (padded if count_include_pad else real)
            windows.append((i, j, rows, cols, float(divisor)))
    return oh, ow, windows


def avg_pool2d(x: Array, kernel_size: Any, **args: Any) -> Array:
    oh, ow, windows = _average_windows(x.shape, kernel_size, **args)
    y = np.empty((*x.shape[:2], oh, ow))
    for i, j, rows, cols, divisor in windows:
        y[:, :, i, j] = x[:, :, rows, cols].sum(axis=(2, 3)) / divisor
    return y


def avg_pool2d_backward(dy: Array, x: Array, kernel_size: Any, **args: Any) -> tuple[Array]:
    dx = np.zeros_like(x)
    for i, j, rows, cols, divisor in _average_windows(x.shape, kernel_size, **args)[2]:
        dx[:, :, rows, cols] += dy[:, :, i, j, None, None] / divisor
    return (dx,)


def _adaptive_cells(x_shape: Sequence[int], output_size: Any) -> tuple[int, int, list[tuple[int, int, range, range]]]:
    h, w = x_shape[2:]
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    oh, ow = (h if size[0] is None else size[0]), (w if size[1] is None else size[1])
    cells = [
        (i, j, range(i * h // oh, -(-(i + 1) * h // oh)), range(j * w // ow, -(-(j + 1) * w // ow)))
        for i in range(oh)
        for j in range(ow)
    ]
    return oh, ow, cells


def adaptive_avg_pool2d(x: Array, output_size: Any) -> Array:
    oh, ow, cells = _adaptive_cells(x.shape, output_size)
    y = np.empty((*x.shape[:2], oh, ow))
    for i, j, rows, cols in cells:
        y[:, :, i, j] = x[:, :, rows.start : rows.stop, cols.start : cols.stop].mean(axis=(2, 3))
    return y


def adaptive_avg_pool2d_backward(dy: Array, x: Array, output_size: Any) -> tuple[Array]:
    dx = np.zeros_like(x)
    for i, j, rows, cols in _adaptive_cells(x.shape, output_size)[2]:
        dx[:, :, rows.start : rows.stop, cols.start : cols.stop] += dy[:, :, i, j, None, None] / (len(rows) * len(cols))
    return (dx,)


def adaptive_max_pool2d(x: Array, output_size: Any) -> tuple[Array, Array]:
    n, c, h, w = x.shape
    oh, ow, cells = _adaptive_cells(x.shape, output_size)
    y = np.empty((n, c, oh, ow))
    index = np.empty((n, c, oh, ow), dtype=np.int64)
    for i, j, rows, cols in cells:
        flat = np.array([r * w + q for r in rows for q in cols])
        seen = x.reshape(n, c, h * w)[:, :, flat]
        best = seen.argmax(axis=2)
        y[:, :, i, j] = np.take_along_axis(seen, best[:, :, None], axis=2)[:, :, 0]
        index[:, :, i, j] = flat[best]
    return y, index


def adaptive_max_pool2d_backward(dy: Array, x: Array, output_size: Any) -> tuple[Array]:
    return (unpool(dy, adaptive_max_pool2d(x, output_size)[1], x.shape),)


# --------------------------------------------------------------------------------------------------------------------
# Normalisation
# --------------------------------------------------------------------------------------------------------------------


def _per_channel(v: Array, ndim: int) -> Array:
    return v.reshape(1, -1, *(1,) * (ndim - 2)) if ndim > 1 else v


def _all_but_channels(ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != 1)


def _normalise_backward(g: Array, xhat: Array, invstd: Array, axes: tuple[int, ...]) -> Array:
    """Gradient through xhat = (x - mean(x)) / std(x), where g is the gradient of xhat."""
    return invstd * (g - g.mean(axis=axes, keepdims=True) - xhat * (g * xhat).mean(axis=axes, keepdims=True))


def batch_norm(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, ...]:
    """y and the running statistics after the call; the running variance is the unbiased one."""
    axes, running = _all_but_channels(x.ndim), ()
    if training:
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        if running_mean is not None and running_var is not None:
            n = x.size // x.shape[1]
            running = (
                (1 - momentum) * running_mean + momentum * mean,
                (1 - momentum) * running_var + momentum * var * n / (n - 1),
            )
    else:
        assert running_mean is not None and running_var is not None
        mean, var = running_mean, running_var
        running = (mean, var)
    y = (x - _per_channel(mean, x.ndim)) / np.sqrt(_per_channel(var, x.ndim) + eps)
    y = y if weight is None else y * _per_channel(weight, x.ndim)
    y = y if bias is None else y + _per_channel(bias, x.ndim)
    return y, *running


def batch_norm_backward(
    dy: Array,
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array | None, ...]:
    axes = _all_but_channels(x.ndim)
    mean, var = (x.mean(axis=axes), x.var(axis=axes)) if training else (running_mean, running_var)
    invstd = 1 / np.sqrt(_per_channel(var, x.ndim) + eps)
    xhat = (x - _per_channel(mean, x.ndim)) * invstd
    g = dy if weight is None else dy * _per_channel(weight, x.ndim)
    dx = _normalise_backward(g, xhat, invstd, axes) if training else g * invstd
    dweight = None if weight is None else (dy * xhat).sum(axis=axes)
    return dx, None, None, dweight, None if bias is None else dy.sum(axis=axes)


def batch_norm_act(
    x: Array,
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None,
    bias: Array | None,
    residual: Array | None,
    activation: str,
    **args: Any,
) -> tuple[Array, ...]:
    """activation(batch_norm(x) + residual) and the running statistics after the call."""
    z, *running = batch_norm(x, running_mean, running_var, weight, bias, **args)
    z = z if residual is None else z + residual
    return z if activation == "none" else UNARY[activation](z), *running


def batch_norm_act_gradient(dy: Array, *inputs: Array | None, activation: str, **args: Any) -> Array:
    """Gradient of what the activation sees."""
    z = batch_norm_act(*inputs, activation="none", **args)[0]
    return dy if activation == "none" else dy * derivative(activation, z)


def batch_norm_act_backward(dy: Array, *inputs: Array | None, activation: str, **args: Any) -> tuple[Array | None, ...]:
    g = batch_norm_act_gradient(dy, *inputs, activation=activation, **args)
    return *batch_norm_backward(g, *inputs[:-1], **args), g


def layer_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    normalized_shape: Sequence[int] = (),
    eps: float = 1e-5,
) -> Array:
    axes = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    y = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def layer_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    normalized_shape: Sequence[int] = (),
    eps: float = 1e-5,
) -> tuple[Array | None, ...]:
    split = x.ndim - len(normalized_shape)
    axes, batch = tuple(range(split, x.ndim)), tuple(range(split))
    invstd = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + eps)
    xhat = (x - x.mean(axis=axes, keepdims=True)) * invstd
    dx = _normalise_backward(dy if weight is None else dy * weight, xhat, invstd, axes)
    dweight = None if weight is None else (dy * xhat).sum(axis=batch)
    return dx, dweight, None if bias is None else dy.sum(axis=batch)


def group_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, num_groups: int = 1, eps: float = 1e-5
) -> Array:
    grouped = x.reshape(x.shape[0], num_groups, -1)
    y = layer_norm(grouped, normalized_shape=(grouped.shape[2],), eps=eps).reshape(x.shape)
    y = y if weight is None else y * _per_channel(weight, x.ndim)
    return y if bias is None else y + _per_channel(bias, x.ndim)


def group_norm_backward(
    dy: Array,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    num_groups: int = 1,
    eps: float = 1e-5,
) -> tuple[Array | None, ...]:
    grouped = x.reshape(x.shape[0], num_groups, -1)
    g = (dy if weight is None else dy * _per_channel(weight, x.ndim)).reshape(grouped.shape)
    dx = layer_norm_backward(g, grouped, normalized_shape=(grouped.shape[2],), eps=eps)[0]
    assert dx is not None
    xhat = group_norm(x, num_groups=num_groups, eps=eps)
    axes = _all_but_channels(x.ndim)
    dweight = None if weight is None else (dy * xhat).sum(axis=axes)
    return dx.reshape(x.shape), dweight, None if bias is None else dy.sum(axis=axes)


def instance_norm(x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Array:
    """Group norm with a group per channel."""
    return group_norm(x, weight, bias, x.shape[1], eps)


def instance_norm_backward(
    dy: Array, x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array | None, ...]:
    return group_norm_backward(dy, x, weight, bias, x.shape[1], eps)


def normalize(x: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Array:
    return x / np.maximum((np.abs(x) ** p).sum(dim, keepdims=True) ** (1 / p), eps)


def normalize_backward(dy: Array, x: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> tuple[Array]:
    norm = (np.abs(x) ** p).sum(dim, keepdims=True) ** (1 / p)
    slope = np.sign(x) * np.abs(x) ** (p - 1) * norm ** (1 - p)  # of the norm
    return (dy / norm - (dy * x).sum(dim, keepdims=True) / norm**2 * slope,)


def _channel_windows(x: Array, size: int, mirrored: bool = False) -> Array:
    """Sum of x over the channels c - size // 2 ... c + (size - 1) // 2; mirrored: the transpose of that map."""
    before, after = size // 2, (size - 1) // 2
    if mirrored:
        before, after = after, before
    padded = np.pad(x, ((0, 0), (before, after)) + ((0, 0),) * (x.ndim - 2))
    return np.sum([padded[:, k : k + x.shape[1]] for k in range(size)], axis=0)


def local_response_norm(x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    return x / (k + alpha / size * _channel_windows(x * x, size)) ** beta


def local_response_norm_backward(
    dy: Array, x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array]:
    s = k + alpha / size * _channel_windows(x * x, size)
    ds = -beta * dy * x * s ** (-beta - 1)
    return (dy * s**-beta + 2 * x * alpha / size * _channel_windows(ds, size, mirrored=True),)


# --------------------------------------------------------------------------------------------------------------------
# Softmax and losses
# --------------------------------------------------------------------------------------------------------------------


def log_softmax(x: Array, dim: int) -> Array:
    if x.size == 0:
        return x
    x = x - x.max(axis=dim, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=dim, keepdims=True))


def log_softmax_backward(dy: Array, x: Array, dim: int) -> tuple[Array]:
    return (dy - np.exp(log_softmax(x, dim)) * dy.sum(axis=dim, keepdims=True),)


def softmax(x: Array, dim: int) -> Array:
    return np.exp(log_softmax(x, dim))


def softmax_backward(dy: Array, x: Array, dim: int) -> tuple[Array]:
    y = softmax(x, dim)
    return (y * (dy - (dy * y).sum(axis=dim, keepdims=True)),)


def _reduced(loss: Array, reduction: str) -> Array:
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def _spread(dy: Array, shape: Sequence[int], reduction: str) -> Array:
    """The gradient of each term of a loss from that of the reduced loss."""
    count = math.prod(shape) if reduction == "mean" else 1
    return np.broadcast_to(dy, shape) / count


def _log_clamped(p: Array) -> Array:
    """binary_cross_entropy never lets a logarithm fall below -100."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), -100)


# name -> terms(input, target, **args), derivative of the terms by input, derivative of the terms by target
PAIR_LOSSES: dict[str, tuple[Callable[..., Array], Callable[..., Array], Callable[..., Array] | None]] = {
    "mse_loss": (lambda x, t: (x - t) ** 2, lambda x, t: 2 * (x - t), lambda x, t: -2 * (x - t)),
    "l1_loss": (lambda x, t: np.abs(x - t), lambda x, t: np.sign(x - t), lambda x, t: -np.sign(x - t)),
    "smooth_l1_loss": (
        lambda x, t, beta=1.0: np.where(
            np.abs(x - t) < beta, (x - t) ** 2 / (2 * (beta or 1)), np.abs(x - t) - beta / 2
        ),
        lambda x, t, beta=1.0: np.where(np.abs(x - t) < beta, (x - t) / (beta or 1), np.sign(x - t)),
        lambda x, t, beta=1.0: -np.where(np.abs(x - t) < beta, (x - t) / (beta or 1), np.sign(x - t)),
    ),
    "huber_loss": (
        lambda x, t, delta=1.0: np.where(np.abs(x - t) < delta, (x - t) ** 2 / 2, delta * (np.abs(x - t) - delta / 2)),
        lambda x, t, delta=1.0: np.clip(x - t, -delta, delta),
        lambda x, t, delta=1.0: -np.clip(x - t, -delta, delta),
    ),
    "binary_cross_entropy": (
        lambda p, t, weight=1.0: -weight * (t * _log_clamped(p) + (1 - t) * _log_clamped(1 - p)),
        lambda p, t, weight=1.0: weight * (p - t) / np.maximum(p * (1 - p), 1e-12),
        lambda p, t, weight=1.0: weight * (_log_clamped(1 - p) - _log_clamped(p)),
    ),
    "binary_cross_entropy_with_logits": (
        lambda x, t, weight=1.0, pos_weight=1.0: weight * ((1 - t) * softplus(x) + pos_weight * t * softplus(-x)),
        lambda x, t, weight=1.0, pos_weight=1.0: weight * ((1 - t) * sigmoid(x) - pos_weight * t * sigmoid(-x)),
        lambda x, t, weight=1.0, pos_weight=1.0: weight * (pos_weight * softplus(-x) - softplus(x)),
    ),
    "sigmoid_focal_loss": (lambda x, t, **a: _focal(x, t, **a), lambda x, t, **a: _focal_slope(x, t, **a), None),
}


def _focal(x: Array, t: Array, alpha: float = 0.25, gamma: float = 2.0) -> Array:
    """-(1 - p_t)^gamma log p_t, where p_t is the probability given to the true class (complex numbers allowed)."""
    p = sigmoid(x)
    cross_entropy_terms = (1 - t) * softplus(x, threshold=np.inf) + t * softplus(-x, threshold=np.inf)
    loss = cross_entropy_terms * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    return loss * (alpha * t + (1 - alpha) * (1 - t)) if alpha >= 0 else loss


def _focal_slope(x: Array, t: Array, **args: Any) -> Array:
    return np.imag(_focal(x + 1j * STEP, t, **args)) / STEP


def pair_loss(name: str, x: Array, target: Array, reduction: str = "mean", **args: Any) -> Array:
    return _reduced(PAIR_LOSSES[name][0](x, target, **args), reduction)


def pair_loss_backward(
    name: str, dy: Array, x: Array, target: Array, reduction: str = "mean", **args: Any
) -> tuple[Array | None, Array | None]:
    _, by_input, by_target = PAIR_LOSSES[name]
    g = _spread(dy, x.shape, reduction)
    return g * by_input(x, target, **args), None if by_target is None else g * by_target(x, target, **args)


def kl_div(x: Array, target: Array, reduction: str = "mean", log_target: bool = False) -> Array:
    if log_target:
        terms = np.exp(target) * (target - x)
    else:
        terms = target * (np.log(np.where(target > 0, target, 1)) - x)
    return terms.sum() / len(x) if reduction == "batchmean" else _reduced(terms, reduction)


def kl_div_backward(
    dy: Array, x: Array, target: Array, reduction: str = "mean", log_target: bool = False
) -> tuple[Array, Array]:
    g = dy / len(x) * np.ones_like(x) if reduction == "batchmean" else _spread(dy, x.shape, reduction)
    if log_target:
        return -g * np.exp(target), g * np.exp(target) * (target - x + 1)
    return -g * target, g * (np.log(np.where(target > 0, target, 1)) - x + 1)


def nll_loss(
    log_probs: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Class indices of shape (N, ...) against log-probabilities of shape (N, C, ...)."""
    terms, total = _class_terms(target, weight, log_probs.shape, ignore_index, label_smoothing)
    loss = -(terms * log_probs).sum(axis=1)
    return loss if reduction == "none" else loss.sum() / total if reduction == "mean" else loss.sum()


def _class_terms(
    target: Array, weight: Array | None, shape: Sequence[int], ignore_index: int, label_smoothing: float
) -> tuple[Array, float]:
    """What each log-probability counts, and what the mean divides by."""
    classes = shape[1]
    w = np.ones(classes) if weight is None else weight
    kept = target != ignore_index
    index = np.where(kept, target, 0)
    hot = np.moveaxis(np.eye(classes)[index], -1, 1)
    terms = ((1 - label_smoothing) * hot + label_smoothing / classes) * _per_channel(w, len(shape))
    return terms * kept[:, None], float((w[index] * kept).sum())


def nll_loss_backward(
    dy: Array,
    log_probs: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Array, None, None]:
    terms, total = _class_terms(target, weight, log_probs.shape, ignore_index, label_smoothing)
    g = dy[:, None] if reduction == "none" else dy / (total if reduction == "mean" else 1)
    return -terms * g, None, None


def cross_entropy(x: Array, target: Array, weight: Array | None = None, **args: Any) -> Array:
    return nll_loss(log_softmax(x, 1), target, weight, **args)


def cross_entropy_backward(
    dy: Array, x: Array, target: Array, weight: Array | None = None, **args: Any
) -> tuple[Array, None, None]:
    g = nll_loss_backward(dy, log_softmax(x, 1), target, weight, **args)[0]
    return log_softmax_backward(g, x, 1)[0], None, None


def soft_cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """cross_entropy with a probability for every class as target; the mean divides by the number of samples."""
    t = (1 - label_smoothing) * target + label_smoothing / x.shape[1]
    t = t if weight is None else t * _per_channel(weight, x.ndim)
    loss = -(t * log_softmax(x, 1)).sum(axis=1)
    return _reduced(loss, reduction)


def soft_cross_entropy_backward(
    dy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Array, Array, None]:
    w = np.ones(x.shape[1]) if weight is None else weight
    w = _per_channel(w, x.ndim)
    t = ((1 - label_smoothing) * target + label_smoothing / x.shape[1]) * w
    g = _spread(dy, (x.shape[0], *x.shape[2:]), reduction)[:, None]
    log_probs = log_softmax(x, 1)
    return log_softmax_backward(-g * t, x, 1)[0], -g * (1 - label_smoothing) * w * log_probs, None


# --------------------------------------------------------------------------------------------------------------------
# Shape, selection, padding, resizing
# --------------------------------------------------------------------------------------------------------------------


def split(x: Array, sections: Any, dim: int = 0) -> list[Array]:
    if isinstance(sections, int):
        cuts = list(range(sections, x.shape[dim], sections))
    else:
        cuts = list(np.cumsum(sections)[:-1])
    return np.split(x, cuts, axis=dim)


def concat_backward(dy: Array, *inputs: Array, dim: int = 0) -> tuple[Array, ...]:
    return tuple(np.split(dy, np.cumsum([x.shape[dim] for x in inputs])[:-1], axis=dim))


def stack_backward(dy: Array, *inputs: Array, dim: int = 0) -> tuple[Array, ...]:
    return tuple(np.take(dy, i, axis=dim) for i in range(len(inputs)))


def slice_backward(dy: Array, x: Array, index: Any) -> tuple[Array]:
    dx = np.zeros_like(x)
    dx[index] = dy
    return (dx,)


def pixel_shuffle(x: Array, r: int) -> Array:
    """y[n, c, i * r + a, j * r + b] = x[n, c * r * r + a * r + b, i, j]"""
    n, c, h, w = x.shape
    split_up = x.reshape(n, c // (r * r), r, r, h, w).transpose(0, 1, 4, 2, 5, 3)
    return split_up.reshape(n, c // (r * r), h * r, w * r)


def pixel_unshuffle(x: Array, r: int) -> Array:
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // r, r, w // r, r).transpose(0, 1, 3, 5, 2, 4)
    return blocks.reshape(n, c * r * r, h // r, w // r)


def channel_shuffle(x: Array, groups: int) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).swapaxes(1, 2).reshape(x.shape)


def weighted_sum(parts: Sequence[Array]) -> Array:
    """One result for an op with several: part i counts i + 1 times."""
    return np.sum([(i + 1) * part for i, part in enumerate(parts)], axis=0)


def index_add(shape: Sequence[int], dim: int, index: Array, src: Array) -> Array:
    out = np.zeros(shape)
    np.add.at(np.moveaxis(out, dim, 0), index, np.moveaxis(src, dim, 0))
    return out


def scatter_add(shape: Sequence[int], dim: int, index: Array, src: Array) -> Array:
    out = np.zeros(shape)
    where_to = list(np.indices(index.shape))
    where_to[dim] = index
    np.add.at(out, tuple(where_to), src[tuple(slice(n) for n in index.shape)])
    return out


def gather(x: Array, index: Array, dim: int) -> Array:
    where_from = list(np.indices(index.shape))
    where_from[dim] = index
    return x[tuple(where_from)]


def _source_pixels(size: int, before: int, after: int, mode: str) -> Array:
    """For each padded pixel of one axis the pixel it copies, or -1 for the constant. Negative padding crops."""
    at = np.arange(-before, size + after)
    if mode == "reflect":
        at = np.where(at < 0, -at, at)
        return np.where(at >= size, 2 * (size - 1) - at, at)
    if mode == "replicate":
        return np.clip(at, 0, size - 1)
    return np.where((at < 0) | (at >= size), -1, at)


def _select(pixels: Array, size: int) -> Array:
    """The 0/1 matrix of an index list."""
    return (pixels[:, None] == np.arange(size)).astype(np.float64)


def _pad_matrices(shape: Sequence[int], padding: Sequence[int], mode: str) -> tuple[Array, Array]:
    left, right, top, bottom = (*padding, 0, 0)[:4]
    rows = _select(_source_pixels(shape[-2], top, bottom, mode), shape[-2])
    return rows, _select(_source_pixels(shape[-1], left, right, mode), shape[-1])


def pad(x: Array, padding: Sequence[int], mode: str = "constant", value: float = 0.0) -> Array:
    """padding = (left, right, top, bottom)."""
    rows, cols = _pad_matrices(x.shape, padding, mode)
    y = rows @ x @ cols.T
    outside = (rows.sum(1) == 0)[:, None] | (cols.sum(1) == 0)
    return np.where(outside, value, y)


def pad_backward(
    dy: Array, x: Array, padding: Sequence[int], mode: str = "constant", value: float = 0.0
) -> tuple[Array]:
    rows, cols = _pad_matrices(x.shape, padding, mode)
    return (rows.T @ dy @ cols,)


def _cubic(t: Array, a: float) -> Array:
    t = np.abs(t)
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _triangle(t: Array) -> Array:
    return np.maximum(0.0, 1 - np.abs(t))


def resize_matrix(size: int, out: int, mode: str, align_corners: bool, antialias: bool, factor: float | None) -> Array:
    """Resizing one axis is a matrix of shape (out, size); this is it. Each row sums to one."""
    matrix = np.zeros((out, size))
    if align_corners:
        scale = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        scale = 1 / factor if factor else size / out
    for i in range(out):
        if mode in ("nearest", "nearest-exact"):
            at = math.floor(i * scale if mode == "nearest" else (i + 0.5) * scale)
            matrix[i, min(at, size - 1)] = 1
        elif antialias:
            stretch = max(scale, 1.0)
            support = stretch * (1 if mode == "bilinear" else 2)
            center = scale * (i + 0.5)
            first = max(int(center - support + 0.5), 0)
            last = min(int(center + support + 0.5), size)
            distance = (np.arange(first, last) - center + 0.5) / stretch
            weights = _triangle(distance) if mode == "bilinear" else _cubic(distance, -0.5)
            matrix[i, first:last] = weights / weights.sum()
        else:
            at = i * scale if align_corners else (i + 0.5) * scale - 0.5
            if mode == "bilinear":
                at = max(at, 0.0)
                taps = np.arange(math.floor(at), math.floor(at) + 2)
                weights = _triangle(taps - at)
            else:
                taps = np.arange(math.floor(at) - 1, math.floor(at) + 3)
                weights = _cubic(taps - at, -0.75)
            np.add.at(matrix[i], np.clip(taps, 0, size - 1), weights)
    return matrix


def _resize_matrices(
    x_shape: Sequence[int],
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    antialias: bool = False,
) -> tuple[Array, Array]:
    h, w = x_shape[2:]
    factors: tuple[float | None, float | None] = (None, None)
    if scale_factor is not None:
        given = (scale_factor, scale_factor) if isinstance(scale_factor, (int, float)) else tuple(scale_factor)
        factors = (float(given[0]), float(given[1]))
        oh, ow = math.floor(h * given[0]), math.floor(w * given[1])
    else:
        oh, ow = pair(size)
    return (
        resize_matrix(h, oh, mode, bool(align_corners), antialias, factors[0]),
        resize_matrix(w, ow, mode, bool(align_corners), antialias, factors[1]),
    )


def interpolate(x: Array, **args: Any) -> Array:
    rows, cols = _resize_matrices(x.shape, **args)
    return rows @ x @ cols.T


def interpolate_backward(dy: Array, x: Array, **args: Any) -> tuple[Array]:
    rows, cols = _resize_matrices(x.shape, **args)
    return (rows.T @ dy @ cols,)


# --------------------------------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------------------------------


def _copy(make: Callable[..., Array], unmake: Callable[..., Array]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return make, lambda dy, x, **args: (unmake(dy, x, **args),)


OPS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    **{name: (f, partial(unary_backward, name)) for name, f in UNARY.items()},
    **{name: (f, lambda dy, x, **args: (np.zeros_like(x),)) for name, f in STEPS.items()},
    **{name: (f, lambda dy, x, **args: (None,)) for name, f in TESTS.items()},
    **{name: (f, partial(binary_backward, name)) for name, (f, _) in BINARY.items()},
    **{name: (f, lambda dy, a, b: (None, None)) for name, f in COMPARE.items()},
    **{name: (partial(pair_loss, name), partial(pair_loss_backward, name)) for name in PAIR_LOSSES},
    "prelu": (prelu, prelu_backward),
    "where": (where, where_backward),
    "sum": (reduce_sum, reduce_sum_backward),
    "mean": (reduce_mean, reduce_mean_backward),
    "prod": (reduce_prod, reduce_prod_backward),
    "amax": (partial(extreme, np.max), partial(extreme_backward, np.max)),
    "amin": (partial(extreme, np.min), partial(extreme_backward, np.min)),
    "max": (partial(extreme_along, np.argmax), partial(extreme_along_backward, np.argmax)),
    "min": (partial(extreme_along, np.argmin), partial(extreme_along_backward, np.argmin)),
    "matmul": (np.matmul, matmul_backward),
    "linear": (linear, linear_backward),
    "conv2d": (conv2d, conv2d_backward),
    "conv_transpose2d": (conv_transpose2d, conv_transpose2d_backward),
    "max_pool2d": (max_pool2d, max_pool2d_backward),
    "avg_pool2d": (avg_pool2d, avg_pool2d_backward),
    "adaptive_avg_pool2d": (adaptive_avg_pool2d, adaptive_avg_pool2d_backward),
    "adaptive_max_pool2d": (adaptive_max_pool2d, adaptive_max_pool2d_backward),
    "batch_norm": (batch_norm, batch_norm_backward),
    "batch_norm_act": (batch_norm_act, batch_norm_act_backward),
    "layer_norm": (layer_norm, layer_norm_backward),
    "group_norm": (group_norm, group_norm_backward),
    "instance_norm": (instance_norm, instance_norm_backward),
    "normalize": (normalize, normalize_backward),
    "local_response_norm": (local_response_norm, local_response_norm_backward),
    "softmax": (softmax, softmax_backward),
    "log_softmax": (log_softmax, log_softmax_backward),
    "kl_div": (kl_div, kl_div_backward),
    "nll_loss": (nll_loss, nll_loss_backward),
    "cross_entropy": (cross_entropy, cross_entropy_backward),
    "soft_cross_entropy": (soft_cross_entropy, soft_cross_entropy_backward),
    "pad": (pad, pad_backward),
    "interpolate": (interpolate, interpolate_backward),
    "concat": (lambda *inputs, dim=0: np.concatenate(inputs, axis=dim), concat_backward),
    "stack": (lambda *inputs, dim=0: np.stack(inputs, axis=dim), stack_backward),
    "interleave": (
        lambda *inputs: channel_shuffle(np.concatenate(inputs, axis=1), len(inputs)),
        lambda dy, *inputs: tuple(dy[:, i :: len(inputs)] for i in range(len(inputs))),
    ),
    "slice": (lambda x, index: x[index], slice_backward),
    "reshape": _copy(lambda x, shape: x.reshape(shape), lambda dy, x, shape: dy.reshape(x.shape)),
    "permute": _copy(lambda x, dims: x.transpose(dims), lambda dy, x, dims: dy.transpose(np.argsort(dims))),
    "expand": _copy(lambda x, shape: np.broadcast_to(x, shape), lambda dy, x, shape: sum_to(dy, x.shape)),
    "index_select": _copy(
        lambda x, dim, index: np.take(x, index, axis=dim),
        lambda dy, x, dim, index: index_add(x.shape, dim, np.asarray(index), dy),
    ),
    "gather": (
        lambda x, index, dim: gather(x, index, dim),
        lambda dy, x, index, dim: (scatter_add(x.shape, dim, index, dy), None),
    ),
    "pixel_shuffle": _copy(
        lambda x, upscale_factor: pixel_shuffle(x, upscale_factor),
        lambda dy, x, upscale_factor: pixel_unshuffle(dy, upscale_factor),
    ),
    "pixel_unshuffle": _copy(
        lambda x, downscale_factor: pixel_unshuffle(x, downscale_factor),
        lambda dy, x, downscale_factor: pixel_shuffle(dy, downscale_factor),
    ),
    "channel_shuffle": _copy(
        lambda x, groups: channel_shuffle(x, groups), lambda dy, x, groups: channel_shuffle(dy, x.shape[1] // groups)
    ),
    "one_hot": (lambda x, num_classes: np.eye(num_classes, dtype=np.int64)[x], lambda dy, x, num_classes: (None,)),
    "unbind": _copy(
        lambda x, dim: weighted_sum([np.take(x, i, axis=dim) for i in range(x.shape[dim])]),
        lambda dy, x, dim: np.stack([(i + 1) * dy for i in range(x.shape[dim])], axis=dim),
    ),
    # split has several results with gradients: the pieces are weighted 1, 2, 3, ... and joined again.
    "split": _copy(
        lambda x, sections, dim=0: np.concatenate(
            [(i + 1) * part for i, part in enumerate(split(x, sections, dim))], axis=dim
        ),
        lambda dy, x, sections, dim=0: np.concatenate(
            [(i + 1) * part for i, part in enumerate(split(dy, sections, dim))], axis=dim
        ),
    ),
}
