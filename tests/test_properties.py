"""Hypothesis: random shapes and arguments against the reference, and NumPy's semantics for shapes and indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import op_cases
import oracle
from execution import ISAS, check, forward_backward, running, tensors
from hypothesis import assume, given, strategies as st
from hypothesis.extra import numpy as hnp
from op_cases import Case, distinct, normal

import engine

sizes = st.integers(1, 9)
isas = st.sampled_from(ISAS)
threads = st.integers(1, 3)


def holds(case: Case, isa: str, threads: int) -> None:
    ref = case.reference()
    with running(isa, threads):
        results = forward_backward(case, ref.dy, tensors(case, ref.arrays))
    check(results, ref, f"[{isa}, {threads} threads, {case.id}]")


def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


@given(
    n=st.integers(0, 3),
    groups=st.sampled_from([1, 1, 2, 3, 8]),
    per_in=st.integers(1, 18),
    per_out=st.integers(1, 18),
    image=pairs(1, 12),
    kernel=pairs(1, 5),
    stride=pairs(1, 4),
    padding=pairs(0, 4),
    dilation=pairs(1, 3),
    bias=st.booleans(),
    isa=isas,
    threads=threads,
)
def test_conv2d(
    n: int,
    groups: int,
    per_in: int,
    per_out: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bias: bool,
    isa: str,
    threads: int,
) -> None:
    assume(all(i + 2 * p > d * (k - 1) for i, p, d, k in zip(image, padding, dilation, kernel, strict=True)))
    x, w = (n, groups * per_in, *image), (groups * per_out, per_in, *kernel)
    args = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    holds(op_cases.conv(x, w, bias, **args), isa, threads)


@given(
    n=st.integers(1, 3),
    channels=st.integers(1, 40),
    multiplier=st.sampled_from([1, 1, 1, 2]),
    image=pairs(1, 14),
    kernel=pairs(1, 5),
    stride=pairs(1, 3),
    padding=pairs(0, 3),
    isa=isas,
    threads=threads,
)
def test_depthwise_conv2d(
    n: int,
    channels: int,
    multiplier: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    isa: str,
    threads: int,
) -> None:
    assume(all(i + 2 * p >= k for i, p, k in zip(image, padding, kernel, strict=True)))
    x, w = (n, channels, *image), (channels * multiplier, 1, *kernel)
    holds(op_cases.conv(x, w, stride=stride, padding=padding, groups=channels), isa, threads)


@given(
    groups=st.sampled_from([1, 1, 2]),
    per_in=st.integers(1, 9),
    per_out=st.integers(1, 9),
    image=pairs(1, 6),
    kernel=pairs(1, 4),
    stride=pairs(1, 3),
    padding=pairs(0, 2),
    dilation=pairs(1, 2),
    data=st.data(),
    isa=isas,
)
def test_conv_transpose2d(
    groups: int,
    per_in: int,
    per_out: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    data: st.DataObject,
    isa: str,
) -> None:
    extra = tuple(data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    size = [
        (i - 1) * s - 2 * p + d * (k - 1) + e + 1
        for i, s, p, d, k, e in zip(image, stride, padding, dilation, kernel, extra, strict=True)
    ]
    assume(min(size) >= 1)
    # The oracle sees the layer as a transposed convolution; the windows beyond the image must not exist.
    x, w = (2, groups * per_in, *image), (groups * per_in, per_out, *kernel)
    args = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": groups}
    assume(
        all(
            (o + 2 * p - d * (k - 1) - 1) // s + 1 >= i
            for o, p, d, k, s, i in zip(size, padding, dilation, kernel, stride, image, strict=True)
        )
    )
    holds(op_cases.conv(x, w, op="conv_transpose2d", **args), isa, 1)


@given(
    op=st.sampled_from(["max_pool2d", "avg_pool2d"]),
    n=st.integers(0, 2),
    channels=st.integers(1, 34),
    image=pairs(1, 12),
    kernel=pairs(1, 5),
    stride=pairs(1, 4),
    padding=pairs(0, 2),
    dilation=pairs(1, 3),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
    isa=isas,
    threads=threads,
)
def test_pools(
    op: str,
    n: int,
    channels: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    count_include_pad: bool,
    isa: str,
    threads: int,
) -> None:
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    args: dict[str, Any] = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    if op == "max_pool2d":
        args["dilation"] = dilation
    else:
        args["count_include_pad"] = count_include_pad
        dilation = (1, 1)
    for i, k, s, p, d in zip(image, kernel, stride, padding, dilation, strict=True):
        out = oracle.pooled_size(i, k, s, p, d, ceil_mode)
        assume(i + 2 * p >= d * (k - 1) + 1 and out >= 1)
        # every window sees a pixel
        assume(all(any(0 <= o * s - p + j * d < i for j in range(k)) for o in range(out)))
    make = distinct if op == "max_pool2d" else normal
    holds(Case(op, (make(n, channels, *image),), args), isa, threads)


@given(
    op=st.sampled_from(["adaptive_avg_pool2d", "adaptive_max_pool2d"]),
    channels=st.integers(1, 34),
    image=pairs(1, 12),
    out=pairs(1, 14),
    isa=isas,
)
def test_adaptive_pools(op: str, channels: int, image: tuple[int, int], out: tuple[int, int], isa: str) -> None:
    make = distinct if op == "adaptive_max_pool2d" else normal
    holds(Case(op, (make(2, channels, *image),), {"output_size": out}), isa, 1)


@given(
    shape=st.tuples(st.integers(2, 4), st.integers(1, 40), st.integers(1, 6), st.integers(1, 6)),
    training=st.booleans(),
    isa=isas,
    threads=threads,
)
def test_batch_norm(shape: tuple[int, ...], training: bool, isa: str, threads: int) -> None:
    c = shape[1]
    mean, var = op_cases.fixed("normal", c), op_cases.fixed("positive", c)
    holds(Case("batch_norm", (normal(*shape), mean, var, normal(c), normal(c)), {"training": training}), isa, threads)


@given(rows=st.integers(0, 40), depth=st.integers(1, 70), columns=st.integers(1, 40), isa=isas, threads=threads)
def test_linear(rows: int, depth: int, columns: int, isa: str, threads: int) -> None:
    holds(Case("linear", (normal(rows, depth), normal(columns, depth), normal(columns))), isa, threads)


@given(
    image=pairs(1, 12),
    out=pairs(1, 14),
    mode=st.sampled_from(["nearest", "bilinear", "bicubic"]),
    align_corners=st.booleans(),
    antialias=st.booleans(),
    isa=isas,
)
def test_interpolate(
    image: tuple[int, int], out: tuple[int, int], mode: str, align_corners: bool, antialias: bool, isa: str
) -> None:
    args: dict[str, Any] = {"size": out, "mode": mode}
    if mode != "nearest":
        args.update(align_corners=align_corners, antialias=antialias)
    holds(Case("interpolate", (normal(2, 5, *image),), args), isa, 1)


# --------------------------------------------------------------------------------------------------------------------
# NumPy's semantics
# --------------------------------------------------------------------------------------------------------------------


def numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape) - 3


@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=6), op=st.sampled_from("+-*"))
def test_broadcasting(shapes: hnp.BroadcastableShapes, op: str) -> None:
    a, b = (numbers(s) for s in shapes.input_shapes)
    x, y = engine.tensor(a, requires_grad=True), engine.tensor(b, requires_grad=True)
    calls = {"+": lambda p, q: p + q, "-": lambda p, q: p - q, "*": lambda p, q: p * q}
    z = calls[op](x, y)
    want = calls[op](a, b)
    assert z.shape == want.shape
    np.testing.assert_array_equal(z.detach().numpy(), want)
    z.sum().backward()
    ones = np.ones(want.shape)
    da, db = oracle.binary_backward({"+": "add", "-": "sub", "*": "mul"}[op], ones, a.astype(float), b.astype(float))
    np.testing.assert_allclose(x.grad.numpy(), da)
    np.testing.assert_allclose(y.grad.numpy(), db)


@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
def test_slicing(data: st.DataObject, shape: tuple[int, ...]) -> None:
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True, max_dims=6))
    parts = index if isinstance(index, tuple) else (index,)
    assume(all(not isinstance(p, slice) or p.step is None or p.step > 0 for p in parts))  # as in PyTorch
    array = numbers(shape)
    x = engine.tensor(array, requires_grad=True)
    y = x[index]
    want = np.asarray(array[index])
    assert y.shape == want.shape
    np.testing.assert_array_equal(y.detach().numpy(), want)
    if want.size:
        (y * 2.0).sum().backward()
        dx = np.zeros(shape)
        dx[index] = 2
        np.testing.assert_array_equal(x.grad.numpy(), dx)


@given(data=st.data(), shape=hnp.array_shapes(min_dims=1, max_dims=5, min_side=1, max_side=4))
def test_reshape_after_permute(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """The order of elements is the logical one, whatever the layout in memory."""
    axes = data.draw(st.permutations(range(len(shape))))
    array = numbers(shape)
    want = array.transpose(axes)
    splits = data.draw(st.integers(1, 3))
    new = [want.size]
    for _ in range(splits):
        for d in (2, 3):
            if new[-1] % d == 0 and len(new) < 6:
                new[-1:] = [d, new[-1] // d]
    x = engine.tensor(array, requires_grad=True)
    y = x.permute(*axes).reshape(*new)
    np.testing.assert_array_equal(y.detach().numpy(), want.reshape(new))
    weights = numbers(tuple(new))
    (y * engine.tensor(weights)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), weights.reshape(want.shape).transpose(np.argsort(axes)))


@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9),
    op=st.sampled_from(["sum", "mean", "amax", "amin"]),
    keepdim=st.booleans(),
)
def test_reductions(data: st.DataObject, shape: tuple[int, ...], op: str, keepdim: bool) -> None:
    axes = data.draw(hnp.valid_tuple_axes(len(shape), min_size=1))
    array = numbers(shape)
    got = getattr(engine.tensor(array), op)(axes, keepdim=keepdim)
    want = getattr(np, op)(array.astype(np.float64), axis=axes, keepdims=keepdim)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-5)


@given(data=st.data(), parts=st.integers(1, 4), shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
def test_cat_then_split(data: st.DataObject, parts: int, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    widths = data.draw(st.lists(st.integers(0, 5), min_size=parts, max_size=parts))
    arrays = []
    for width in widths:
        size = list(shape)
        size[axis] = width
        arrays.append(numbers(tuple(size)) + len(arrays) * 100)
    joined = engine.cat([engine.tensor(a) for a in arrays], axis)
    np.testing.assert_array_equal(joined.numpy(), np.concatenate(arrays, axis))
    for part, array in zip(engine.split(joined, widths, axis), arrays, strict=True):
        np.testing.assert_array_equal(part.numpy(), array)
