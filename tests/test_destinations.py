"""Results written into channel slices of wider arrays: the bits of the dense result, and nothing beside the slice."""

# ruff: noqa: B023 (calls happen inside the loop)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from execution import ISAS, THREADS, choosing, running

from engine import backend as B

BESIDE = -7.5

# x shape, w shape, stride, padding (top, bottom, left, right), dilation, groups
CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    "1x1": ((3, 5, 6, 7), (9, 5, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "1x1 wide": ((1, 70, 5, 5), (133, 70, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "1x1 strided": ((2, 19, 9, 8), (33, 19, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    "3x3": ((2, 17, 13, 11), (18, 17, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "3x3 winograd": ((2, 16, 15, 17), (35, 16, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "5x5 winograd": ((2, 16, 9, 11), (18, 16, 5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 1),
    "1x3 winograd": ((2, 17, 5, 13), (19, 17, 1, 3), (1, 1), (0, 0, 1, 1), (1, 1), 1),
    "3x1 winograd": ((2, 17, 13, 5), (19, 17, 3, 1), (1, 1), (1, 1, 0, 0), (1, 1), 1),
    "1x7 winograd": ((2, 17, 5, 13), (19, 17, 1, 7), (1, 1), (0, 0, 3, 3), (1, 1), 1),
    "7x1 winograd": ((2, 17, 13, 5), (19, 17, 7, 1), (1, 1), (3, 3, 0, 0), (1, 1), 1),
    "3x3 staged": ((1, 96, 9, 9), (130, 96, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "3x3 without padding": ((2, 3, 9, 9), (4, 3, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "few outputs": ((2, 6, 8, 8), (3, 6, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "7x7 strided": ((2, 3, 21, 19), (10, 3, 7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 1),
    "1x7": ((1, 12, 7, 9), (20, 12, 1, 7), (1, 1), (0, 0, 3, 3), (1, 1), 1),
    "dilated": ((1, 8, 11, 12), (7, 8, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    "sliced depth": ((1, 260, 6, 5), (40, 260, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "depthwise 3x3": ((2, 21, 9, 10), (21, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 21),
    "depthwise 5x5 strided": ((2, 37, 12, 11), (37, 1, 5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 37),
    "depthwise dilated": ((1, 18, 12, 11), (18, 1, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 18),
    "grouped": ((2, 20, 9, 8), (20, 4, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 5),
    "grouped strided": ((2, 20, 9, 8), (20, 2, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 10),
    "groups of unequal sides": ((2, 12, 7, 8), (18, 4, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 3),
}


def floats(shape: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels(wide: Any, start: int, count: int) -> Any:
    stops = [*wide.shape]
    stops[1] = start + count
    return B.slice(wide, (0, start, 0, 0), stops, (1, 1, 1, 1))


def inside_wider(array: np.ndarray, before: int = 3, after: int = 2) -> Any:
    """The array as a slice of the channels of a wider one."""
    n, c, h, w = array.shape
    wide = B.full((n, before + c + after, h, w), BESIDE)
    view = channels(wide, before, c)
    B.copy_(view, B.from_numpy(array))
    return view


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(B.to_numpy(array)).tobytes()


def check_destination(dense: Any, call: Callable[[Any], Any], where: str = "") -> None:
    """call(out) writes what `dense` holds, whatever lies beside out, and nothing else."""
    n, c, h, w = dense.shape
    for before, after in ((0, 3), (5, 0), (16, 16)):
        wide = B.full((n, before + c + after, h, w), BESIDE)
        out = channels(wide, before, c)
        result = call(out)
        assert bits(result) == bits(dense), f"another result {where}"
        assert bits(out) == bits(dense), f"result is not in out {where}"
        found = B.to_numpy(wide)
        beside = np.concatenate([found[:, :before], found[:, before + c :]], 1)
        assert (beside == BESIDE).all(), f"wrote beside out {where}"


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_every_algorithm_between_slices(name: str) -> None:
    x_shape, w_shape, *window = CONVOLUTIONS[name]
    x, w = floats(x_shape), B.from_numpy(floats(w_shape, 1) * 0.2)
    bias = B.from_numpy(floats(w_shape[0], 2))
    y_shape = B.conv2d_shape(x_shape, w_shape, *window)
    residual = floats(y_shape, 3)
    for isa in ISAS:
        with running(isa):
            accepting = [n for n, reason in B.conv2d_algorithms(x_shape, w_shape, *window) if not reason]
            for algorithm in accepting:
                for added, activation in ((None, "none"), (residual, "relu"), (residual, "silu")):
                    with choosing(algorithm):
                        where = f"[{isa}, {algorithm}, {activation}]"
                        args = (w, bias, *window, None if added is None else B.from_numpy(added), activation)
                        dense = B.conv2d(B.from_numpy(x), *args)
                        assert dense.shape == y_shape
                        source = inside_wider(x)
                        check_destination(dense, lambda out: B.conv2d(source, *args, out=out), where)


def test_all_algorithms_were_met() -> None:
    met = {
        name
        for x_shape, w_shape, *window in CONVOLUTIONS.values()
        for name, reason in B.conv2d_algorithms(x_shape, w_shape, *window)
        if not reason
    }
    x_shape, w_shape, *window = CONVOLUTIONS["1x1"]
    listed = {name for name, _ in B.conv2d_algorithms(x_shape, w_shape, *window)}
    assert met == (listed if B.split_products() else listed - {"split"})


@pytest.mark.parametrize("shape", [(2, 5, 9, 8), (1, 33, 7, 7), (3, 1, 4, 5), (2, 16, 8, 8)])
def test_pooling_norm_and_elementwise(shape: tuple[int, ...]) -> None:
    x, other = floats(shape), floats(shape, 1)
    parameters = [B.from_numpy(np.abs(floats(shape[1], seed)) + 0.1) for seed in range(4)]
    for isa in ISAS:
        with running(isa):
            source, second = inside_wider(x), inside_wider(other, 1, 4)
            for kernel, stride, padding, ceil_mode in (((3, 3), (2, 2), (1, 1), False), ((2, 2), (2, 2), (0, 0), True)):
                args = (kernel, stride, padding)
                dense, indices = B.max_pool2d(B.from_numpy(x), *args, (1, 1), ceil_mode)
                assert dense.shape == B.pool2d_shape(shape, *args, (1, 1), ceil_mode)

                def pooled(out: Any) -> Any:
                    y, found = B.max_pool2d(source, *args, (1, 1), ceil_mode, out=out)
                    assert bits(found) == bits(indices)
                    return y

                check_destination(dense, pooled)
                dense = B.avg_pool2d(B.from_numpy(x), *args, ceil_mode)
                check_destination(dense, lambda out: B.avg_pool2d(source, *args, ceil_mode, out=out))
            for training in (False, True):
                for residual in (None, second):
                    after = (*parameters, training, 0.0, 1e-5, residual, "relu")
                    results = B.batch_norm(B.from_numpy(x), *after)
                    check_destination(results[0], lambda out: B.batch_norm(source, *after, out=out)[0])
                    found = B.batch_norm(source, *after, out=inside_wider(x))
                    assert [bits(a) for a in found] == [bits(a) for a in results]
            for op in ("relu", "silu", "gelu", "tanh", "isnan"):
                dense = B.unary(op, B.from_numpy(x))
                if dense.dtype == "float32":
                    check_destination(dense, lambda out: B.unary(op, source, out=out))
            dense = B.binary("add", B.from_numpy(x), B.from_numpy(other))
            check_destination(dense, lambda out: B.binary("add", source, second, out=out))
            check_destination(B.binary("mul", B.from_numpy(x), 3), lambda out: B.binary("mul", source, 3.0, out=out))


def test_in_place() -> None:
    """An elementwise op may write to the very view that it reads."""
    x = floats((2, 5, 4, 4))
    view = inside_wider(x)
    B.unary("relu", view, out=view)
    np.testing.assert_array_equal(B.to_numpy(view), np.maximum(x, 0))
    view = inside_wider(x)
    B.binary("add", view, view, out=view)
    np.testing.assert_array_equal(B.to_numpy(view), x + x)
    one = B.full((5,), 1.0)
    view = inside_wider(x)
    y = B.batch_norm(view, one, one, one, one, False, 0.1, 0.0, out=view)[0]
    np.testing.assert_allclose(B.to_numpy(view), x, rtol=1e-6, atol=1e-6)
    assert bits(y) == bits(view)


def test_neighbours_in_one_array() -> None:
    """A growing array: each result beside what it was made of."""
    x, w = floats((2, 6, 7, 7)), B.from_numpy(floats((4, 6, 3, 3), 1))
    wide = B.full((2, 10, 7, 7), BESIDE)
    B.copy_(channels(wide, 0, 6), B.from_numpy(x))
    window = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    B.conv2d(channels(wide, 0, 6), w, None, *window, out=channels(wide, 6, 4))
    expected = np.concatenate([x, B.to_numpy(B.conv2d(B.from_numpy(x), w, None, *window))], 1)
    np.testing.assert_array_equal(B.to_numpy(wide), expected)


def test_bad_destinations() -> None:
    x, w = B.from_numpy(floats((2, 6, 7, 7))), B.from_numpy(floats((4, 6, 1, 1), 1))
    window = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    wide = B.full((2, 12, 7, 7), 0.0)
    with pytest.raises(ValueError, match=r"\[conv2d\] expected out of shape \(2, 4, 7, 7\), got \(2, 5, 7, 7\)"):
        B.conv2d(x, w, None, *window, out=channels(wide, 0, 5))
    with pytest.raises(TypeError, match=r"\[conv2d\] expected out of dtype float32, got int32"):
        B.conv2d(x, w, None, *window, out=B.empty((2, 4, 7, 7), "int32"))
    with pytest.raises(ValueError, match=r"\[conv2d\] expected out as pixels of adjacent channels"):
        B.conv2d(x, w, None, *window, out=B.slice(wide, (0, 0, 0, 0), (2, 8, 7, 7), (1, 2, 1, 1)))
    with pytest.raises(ValueError, match=r"\[conv2d\] expected out apart from input"):
        B.conv2d(channels(wide, 0, 6), w, None, *window, out=channels(wide, 5, 4))
    with pytest.raises(ValueError, match=r"\[conv2d\] expected out apart from residual"):
        B.conv2d(x, w, None, *window, channels(wide, 0, 4), out=channels(wide, 0, 4))
    with pytest.raises(ValueError, match=r"\[avg_pool2d\] expected out apart from input"):
        B.avg_pool2d(channels(wide, 0, 4), (1, 1), (1, 1), out=channels(wide, 0, 4))
    with pytest.raises(ValueError, match=r"\[relu\] expected out apart from input"):
        B.unary("relu", channels(wide, 0, 4), out=channels(wide, 1, 4))
    with pytest.raises(ValueError, match=r"\[add\] expected out apart from its operands"):
        B.binary("add", channels(wide, 0, 4), 1.0, out=channels(wide, 2, 4))
    one = B.full((4,), 1.0)
    with pytest.raises(ValueError, match=r"\[batch_norm\] expected out apart from residual"):
        B.batch_norm(
            B.full((2, 4, 7, 7), 1.0),
            one, one, one, one, False, 0.1, 1e-5, channels(wide, 0, 4), out=channels(wide, 2, 4)
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"\[batch_norm\] expected an input \(N, C, H, W\) with out"):
        B.batch_norm(B.full((2, 4), 1.0), one, one, one, one, False, 0.1, 1e-5, out=B.empty((2, 4)))


def test_packed_weights_see_that_they_were_written_to() -> None:
    x, w = B.from_numpy(floats((1, 4, 5, 5))), B.full((8, 4, 1, 1), 1.0)
    window = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    for _ in range(3):
        B.conv2d(x, w, None, *window)
    B.unary("neg", w, out=w)
    found = B.to_numpy(B.conv2d(x, w, None, *window))
    np.testing.assert_allclose(found, -np.repeat(B.to_numpy(x).sum(1, keepdims=True), 8, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_prologue_and_scale(name: str) -> None:
    """activation(x * scale + shift) before padding, a factor per output channel before the bias; out as ever."""
    x_shape, w_shape, *window = CONVOLUTIONS[name]
    x, w = floats(x_shape), B.from_numpy(floats(w_shape, 1) * 0.2)
    bias, factor = (B.from_numpy(floats(w_shape[0], seed)) for seed in (2, 3))
    scale, shift = (floats(x_shape[1], seed) for seed in (4, 5))
    per_channel = (1, -1, 1, 1)
    for isa in ISAS:
        with running(isa):
            for activation in ("none", "relu", "silu"):
                seen = x * scale.reshape(per_channel) + shift.reshape(per_channel)
                seen = B.unary(activation, B.from_numpy(seen)) if activation != "none" else B.from_numpy(seen)
                plain = B.to_numpy(B.conv2d(seen, w, None, *window))
                expected = plain * B.to_numpy(factor).reshape(per_channel) + B.to_numpy(bias).reshape(per_channel)
                size = float(np.abs(expected).max())
                accepting = [n for n, reason in B.conv2d_algorithms(x_shape, w_shape, *window) if not reason]
                for algorithm in accepting:
                    with choosing(algorithm):
                        where = f"[{isa}, {algorithm}, {activation}]"
                        options = {"prologue": (B.from_numpy(scale), B.from_numpy(shift), activation)}
                        found = B.conv2d(B.from_numpy(x), w, None, *window, **options)
                        np.testing.assert_allclose(B.to_numpy(found), plain, rtol=0, atol=3e-5 * size, err_msg=where)
                        options["scale"] = factor
                        dense = B.conv2d(B.from_numpy(x), w, bias, *window, **options)
                        np.testing.assert_allclose(B.to_numpy(dense), expected, rtol=0, atol=3e-5 * size, err_msg=where)
                        source = inside_wider(x)
                        check_destination(dense, lambda out: B.conv2d(source, w, bias, *window, out=out, **options))


@pytest.mark.parametrize("name", ["1x1 wide", "3x3", "grouped", "sliced depth"])
def test_threads_change_nothing(name: str) -> None:
    x_shape, w_shape, *window = CONVOLUTIONS[name]
    source, w = inside_wider(floats(x_shape)), B.from_numpy(floats(w_shape, 1))
    scale, shift = (B.from_numpy(floats(x_shape[1], seed)) for seed in (2, 3))
    found = set()
    for threads in THREADS:
        with running(threads=threads):
            out = inside_wider(np.zeros(B.conv2d_shape(x_shape, w_shape, *window), np.float32))
            B.conv2d(source, w, None, *window, prologue=(scale, shift, "relu"), out=out)
            found.add(bits(out))
    assert len(found) == 1


def test_bad_prologue() -> None:
    x, w = B.from_numpy(floats((2, 6, 7, 7))), B.from_numpy(floats((4, 6, 1, 1), 1))
    window = ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    six, four = B.full((6,), 1.0), B.full((4,), 1.0)
    with pytest.raises(ValueError, match=r"expected a scale of the prologue of shape \(6,\), got \(4,\)"):
        B.conv2d(x, w, None, *window, prologue=(four, six, "none"))
    with pytest.raises(ValueError, match=r"expected a scale of shape \(4,\), got \(6,\)"):
        B.conv2d(x, w, None, *window, scale=six)
    with pytest.raises(ValueError, match="expected activation none, relu"):
        B.conv2d(x, w, None, *window, prologue=(six, six, "gelu"))
