"""Products on matrix tiles, through every operator that takes them. Where the processor has no tiles the same products
are computed in plain loops, so the operators are tested everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from execution import running

from engine import backend as B

# x, w, stride, padding (top, bottom, left, right), dilation
CONVOLUTIONS = {
    "1x1": ((2, 60, 12, 12), (126, 60, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "1x1 strided": ((2, 60, 23, 25), (126, 60, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    "3x3": ((1, 32, 13, 9), (96, 32, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "3x3 strided": ((2, 96, 14, 13), (100, 96, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    "1x7": ((1, 64, 9, 11), (96, 64, 1, 7), (1, 1), (0, 0, 3, 3), (1, 1)),
    "dilated, lopsided": ((1, 61, 14, 15), (126, 61, 3, 2), (1, 2), (2, 0, 1, 3), (2, 3)),
    "lines of groups": ((3, 32, 15, 35), (40, 32, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "several images": ((7, 64, 13, 13), (32, 64, 3, 5), (1, 1), (1, 1, 2, 2), (1, 1)),
    "heavy weights": ((1, 64, 14, 14), (192, 64, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "strided lines": ((2, 48, 29, 61), (64, 48, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    "stride of three, dilated": ((1, 33, 40, 50), (64, 33, 4, 3), (2, 3), (3, 1, 2, 0), (2, 2)),
    "windows": ((2, 3, 40, 67), (64, 3, 7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
    "windows of two cells": ((1, 13, 14, 16), (32, 13, 3, 4), (1, 1), (1, 1, 1, 2), (1, 1)),
    "padded 1x1": ((1, 96, 14, 14), (96, 96, 1, 1), (1, 1), (1, 1, 1, 1), (1, 1)),
    "far taps": ((2, 32, 29, 30), (32, 32, 3, 3), (1, 1), (6, 6, 6, 6), (6, 6)),
    "two passes": ((1, 600, 6, 6), (96, 600, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "stride beyond the kernel": ((4, 96, 33, 33), (128, 96, 1, 1), (3, 2), (0, 0, 0, 0), (1, 1)),
}


@pytest.fixture(autouse=True)
def _split() -> Iterator[None]:
    B.set_conv_policy("direct")
    yield
    B.set_split_products(None)
    B.set_conv_policy("auto")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def array(x: np.ndarray) -> B.Array:
    return B.copy(B.from_numpy(x))


def directions(x: np.ndarray, w: np.ndarray, stride: tuple, padding: tuple, dilation: tuple) -> dict[str, np.ndarray]:
    geometry = stride, padding, dilation, 1
    bias = numbers(w.shape[0], seed=3)
    y = B.conv2d(array(x), array(w), array(bias), *geometry, None, "relu")
    dy = array(numbers(*y.shape, seed=4))
    dw, db = B.conv2d_backward_weight(dy, array(x), w.shape, *geometry, True)
    dx = B.conv2d_backward_data(dy, array(w), x.shape, *geometry)
    return {name: B.to_numpy(a).copy() for name, a in {"y": y, "dx": dx, "dw": dw, "db": db}.items()}


def agree(got: np.ndarray, wanted: np.ndarray, tolerance: float = 2e-6) -> None:
    assert np.abs(got - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions_agree_with_sums_of_floats(case: str) -> None:
    shapes = CONVOLUTIONS[case]
    x, w = numbers(*shapes[0], seed=1), numbers(*shapes[1], seed=2)
    B.set_split_products(False)
    wanted = directions(x, w, *shapes[2:])
    B.set_split_products(True)
    got = directions(x, w, *shapes[2:])
    assert any(got[name].tobytes() != wanted[name].tobytes() for name in got), "no product was taken to tiles"
    for name in got:
        agree(got[name], wanted[name])
    for threads in (1, 3):
        with running(threads=threads):
            again = directions(x, w, *shapes[2:])
        assert all(again[name].tobytes() == got[name].tobytes() for name in got)


def test_linear_layers_agree_with_float64() -> None:
    x, w, bias = numbers(130, 96, seed=1), numbers(128, 96, seed=2), numbers(128, seed=3)
    dy = numbers(130, 128, seed=4)
    B.set_split_products(True)
    agree(B.to_numpy(B.linear(array(x), array(w), array(bias))), x.astype(float) @ w.T.astype(float) + bias)
    agree(B.to_numpy(B.linear_backward_data(array(dy), array(w))), dy.astype(float) @ w.astype(float))
    dw, db = B.linear_backward_weight(array(dy), array(x), True)
    agree(B.to_numpy(dw), dy.T.astype(float) @ x.astype(float))
    agree(B.to_numpy(db), dy.astype(float).sum(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.4e38])
def test_numbers_that_are_not_finite_reach_what_they_should(value: float) -> None:
    shapes = CONVOLUTIONS["3x3 strided"]
    x, w = numbers(*shapes[0], seed=1), numbers(*shapes[1], seed=2)
    x[1, 3, 4, 5] = value
    B.set_split_products(False)
    wanted = directions(x, w, *shapes[2:])
    B.set_split_products(True)
    got = directions(x, w, *shapes[2:])
    for name in ("y", "dw"):
        np.testing.assert_array_equal(np.isfinite(got[name]), np.isfinite(wanted[name]))


def test_a_weight_that_is_written_to_is_split_again() -> None:
    shapes = CONVOLUTIONS["1x1"]
    x, w = array(numbers(*shapes[0], seed=1)), array(numbers(*shapes[1], seed=2))
    B.set_split_products(True)
    before = [B.to_numpy(B.conv2d(x, w, None, *shapes[2:], 1)).copy() for _ in range(3)][-1]
    B.scale_([w], 2.0)
    np.testing.assert_array_equal(B.to_numpy(B.conv2d(x, w, None, *shapes[2:], 1)), 2 * before)


def test_a_prologue_is_applied_to_what_is_split() -> None:
    shapes = CONVOLUTIONS["two passes"]
    x, w = numbers(*shapes[0], seed=1), numbers(*shapes[1], seed=2)
    scale, shift = numbers(600, seed=3), numbers(600, seed=4)
    prepared = np.maximum(x * scale[:, None, None] + shift[:, None, None], 0)
    B.set_split_products(True)
    prologue = array(scale), array(shift), "relu"
    got = B.to_numpy(B.conv2d(array(x), array(w), None, *shapes[2:], 1, prologue=prologue))
    agree(got, np.einsum("nchw,oc->nohw", prepared.astype(float), w[:, :, 0, 0].astype(float)))


@pytest.mark.parametrize("case", ["3x3", "lines of groups", "strided lines", "windows", "several images", "padded 1x1"])
def test_a_prologue_does_not_reach_the_padding(case: str) -> None:
    shapes = CONVOLUTIONS[case]
    x, w = numbers(*shapes[0], seed=1), numbers(*shapes[1], seed=2)
    scale, shift = numbers(x.shape[1], seed=3), numbers(x.shape[1], seed=4)
    prepared = np.maximum(x * scale[:, None, None] + shift[:, None, None], 0)
    B.set_split_products(False)
    wanted = B.to_numpy(B.conv2d(array(prepared), array(w), None, *shapes[2:], 1))
    B.set_split_products(True)
    prologue = array(scale), array(shift), "relu"
    got = B.to_numpy(B.conv2d(array(x), array(w), None, *shapes[2:], 1, prologue=prologue))
    agree(got, wanted)


def test_a_residual_and_a_channel_slice_are_taken_by_cells() -> None:
    shapes = CONVOLUTIONS["lines of groups"]
    x, w = numbers(*shapes[0], seed=1), numbers(*shapes[1], seed=2)
    results = []
    for on in (False, True):
        B.set_split_products(on)
        y = B.conv2d(array(x), array(w), None, *shapes[2:], 1)
        residual = array(numbers(*y.shape, seed=3))
        wide = array(np.zeros((y.shape[0], 3 * y.shape[1], *y.shape[2:]), np.float32))
        out = B.slice(wide, [0, y.shape[1], 0, 0], [y.shape[0], 2 * y.shape[1], *y.shape[2:]], [1, 1, 1, 1])
        B.conv2d(array(x), array(w), None, *shapes[2:], 1, residual, "relu", out=out)
        results.append(B.to_numpy(wide).copy())
    agree(results[1], results[0])
    channels = w.shape[0]
    assert not results[1][:, :channels].any() and not results[1][:, 2 * channels :].any()
