"""Results large enough to be written past the caches are, element for element, those of small arrays."""

from __future__ import annotations

import numpy as np
import pytest

from engine import backend as B

SHAPE = (4, 16, 264, 256)  # 17 MB, one image 4 MB
WINDOWS = (3, 3), (2, 2), (1, 1)


@pytest.fixture(scope="module")
def values():
    return [np.random.default_rng(i).standard_normal(SHAPE).astype(np.float32) for i in range(3)]


def per_image(call, *arrays):
    """The results of the call for all images at once and one after another, joined."""
    parts = [call(*(B.from_numpy(a[i : i + 1]) for a in arrays)) for i in range(len(arrays[0]))]
    for whole, *pieces in zip(call(*(B.from_numpy(a) for a in arrays)), *parts, strict=True):
        yield np.array(B.to_numpy(whole)), np.concatenate([B.to_numpy(piece) for piece in pieces])


def pools(x):
    y, indices = B.max_pool2d(x, *WINDOWS)
    grown = (x.shape[0], x.shape[1], 2 * x.shape[2], 2 * x.shape[3])
    return (
        y,
        indices,
        B.max_pool2d_backward(y, indices, x.shape, *WINDOWS),
        B.avg_pool2d(x, (1, 1), (1, 1)),
        B.avg_pool2d_backward(x, grown, (2, 2), (2, 2)),
        *B.max_pool2d(x, (3, 3), (1, 1), (1, 1)),
    )


def test_pooling(isa, values):
    for whole, pieces in per_image(pools, values[0]):
        np.testing.assert_array_equal(whole, pieces)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_batch_norm(isa, values, activation):
    c = SHAPE[1]
    weight, bias, mean, var = (B.from_numpy(np.linspace(0.5, 1.5, c, dtype=np.float32)) for _ in range(4))

    def forward_and_backward(x, residual, dy):
        y, kept_mean, invstd, shift = B.batch_norm(x, weight, bias, mean, var, False, 0.1, 1e-5, residual, activation)
        kept = y if activation == "relu" else residual
        dx, _, _, dresidual = B.batch_norm_backward(dy, x, weight, kept_mean, invstd, False, shift, kept, activation)
        return y, dx, dresidual

    for whole, pieces in per_image(forward_and_backward, *values):
        np.testing.assert_array_equal(whole, pieces)


def test_scale_gradient_copy_and_concat(isa, values):
    def call(x, dy):
        factors = B.full((*x.shape[:2], 1, 1), 0.5)
        copy = B.empty(x.shape)
        B.copy_(copy, x)
        return B.channel_scale_backward(dy, x, factors)[0], copy, B.concat([x, dy], 1)

    for whole, pieces in per_image(call, *values[:2]):
        np.testing.assert_array_equal(whole, pieces)


def test_elementwise(isa, values):
    factors = B.from_numpy(np.linspace(-1, 1, SHAPE[1], dtype=np.float32).reshape(1, -1, 1, 1))

    def call(x, y, z):
        placed = B.empty(x.shape)
        B.binary("sub", x, y, out=placed)
        in_place = B.full(x.shape, 1.0)
        B.binary("add", in_place, z, out=in_place)
        return (
            B.unary("relu", x),
            B.unary("tanh", x),
            B.unary_backward("relu", x, None, y),
            B.unary_backward("silu", x, y, None),
            B.unary_backward("neg", x, None, None),
            B.binary("add", x, y),
            B.binary("mul", x, factors),
            B.binary("mul", factors, x),
            B.binary("maximum", x, 0.25),
            B.binary("lt", x, y),
            B.binary("add", x, B.slice(y, (0, 0, 0, 0), y.shape, (1, 1, 1, 1))),
            placed,
            in_place,
        )

    for whole, pieces in per_image(call, *values):
        np.testing.assert_array_equal(whole, pieces)


def test_fused_silu_of_extreme_values(isa):
    x = np.array([[-np.inf, -1e38, -1000, -90, -87, -20, -1, 0, 1, 90, 1e38, np.inf, np.nan]], np.float32)
    ones, zeros = B.full((x.size,), 1.0), B.full((x.size,), 0.0)
    y = B.to_numpy(B.batch_norm(B.from_numpy(x), None, None, zeros, ones, False, 0.1, 0.0, None, "silu")[0])
    with np.errstate(all="ignore"):
        expected = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-35)


def test_bare_pass(isa, values):
    a, b = (B.from_numpy(v.reshape(-1)) for v in values[:2])
    y = B.empty(a.shape)
    for past_caches in (False, True):
        B.stream_pass([a, b], [y], a.size, past_caches, 512)
        np.testing.assert_allclose(B.to_numpy(y), 0.5 * (values[0] + values[1]).reshape(-1), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="at most 4 sources"):
        B.stream_pass([a] * 5, [y], 1, False, 0)
    with pytest.raises(ValueError, match="of at least"):
        B.stream_pass([a], [y], a.size + 1, False, 0)
