"""Convolutions too large for the float64 oracle's table: the forms agree with the direct one.

The direct form is what the table in op_cases.py holds against the oracle; the bound is the sum of the
documented errors, 1e-5 of the largest value.
"""

from __future__ import annotations

import numpy as np
import pytest

from engine import backend as B

# Staged forms need more transformed filters than 2**21 floats and more than 28 tiles: 256 x 256 x 36, 24 x 24 pixels.
SHAPES = [((1, 256, 24, 24), 256), ((16, 264, 7, 9), 250), ((1, 64, 30, 31), 48)]


@pytest.mark.parametrize(("x_shape", "outputs"), SHAPES)
def test_winograd_agrees_with_direct(isa, x_shape, outputs):
    rng = np.random.default_rng(0)
    x = B.from_numpy(rng.standard_normal(x_shape).astype(np.float32))
    w = B.from_numpy((rng.standard_normal((outputs, x_shape[1], 3, 3)) * 0.05).astype(np.float32))
    bias = B.from_numpy(rng.standard_normal(outputs).astype(np.float32))
    geometry = ((1, 1), (1, 1, 1, 1), (1, 1), 1)
    results = {}
    try:
        for algorithm in ("direct", "winograd"):
            B.set_algorithm("conv2d", algorithm)
            y = B.conv2d(x, w, bias, *geometry)
            dx = B.conv2d_backward_data(y, w, x_shape, *geometry)
            dw, db = B.conv2d_backward_weight(y, x, w.shape, *geometry, True)
            results[algorithm] = [np.array(B.to_numpy(a)) for a in (y, dx, dw, db)]
            residual = B.conv2d(x, w, bias, *geometry, residual=y, activation="relu")
            np.testing.assert_allclose(
                B.to_numpy(residual), np.maximum(2 * results[algorithm][0], 0), rtol=1e-5, atol=1e-5
            )
    finally:
        B.set_algorithm("conv2d", "")
    for direct, winograd in zip(*results.values(), strict=True):
        assert np.abs(direct - winograd).max() <= 1e-5 * np.abs(direct).max()


@pytest.mark.parametrize("activation", ["none", "relu", "relu6", "silu", "hardswish"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "groups"),
    [((2, 20, 9, 8), (33, 20, 1, 1), 1, 1), ((2, 3, 12, 12), (6, 3, 5, 5), 1, 1), ((1, 16, 9, 9), (16, 1, 3, 3), 2, 16),
     ((1, 8, 9, 9), (12, 4, 3, 3), 1, 2), ((1, 1100, 4, 4), (20, 1100, 1, 1), 1, 1)],
)  # fmt: skip
def test_epilogue_equals_separate_passes(isa, x_shape, w_shape, stride, groups, activation):
    rng = np.random.default_rng(1)
    x = B.from_numpy(rng.standard_normal(x_shape).astype(np.float32))
    w = B.from_numpy((rng.standard_normal(w_shape) * 0.1).astype(np.float32))
    geometry = ((stride, stride), (w_shape[2] // 2,) * 4, (1, 1), groups)
    plain = B.conv2d(x, w, None, *geometry)
    residual = B.from_numpy(rng.standard_normal(plain.shape).astype(np.float32))
    expected = B.binary("add", plain, residual)
    if activation != "none":
        expected = B.unary(activation, expected)
    fused = B.conv2d(x, w, None, *geometry, residual=residual, activation=activation)
    np.testing.assert_allclose(B.to_numpy(fused), B.to_numpy(expected), rtol=3e-6, atol=3e-6)
