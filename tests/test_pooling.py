"""Max pooling of few channels, where a vector takes several pixels: values, positions and gradients are exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine import backend as B

CHANNELS = range(1, 21)
PLANES = (13, 11), (8, 28), (9, 3)
# kernel, stride, padding, dilation, ceil_mode
WINDOWS: dict[str, tuple[Any, ...]] = {
    "2x2": ((2, 2), (2, 2), (0, 0), (1, 1), False),
    "3x3 padded": ((3, 3), (2, 2), (1, 1), (1, 1), True),
    "3x2 wide steps": ((3, 2), (1, 3), (1, 0), (1, 1), False),
    "2x3 wider steps": ((2, 3), (3, 4), (0, 1), (1, 1), True),
    "dilated": ((3, 2), (1, 1), (1, 1), (2, 2), False),
    "gaps": ((1, 1), (2, 2), (0, 0), (1, 1), False),
}


def expected(x, kernel, stride, padding, dilation, ceil_mode):
    """Of equal values the first, of NaN the last of the window, as in PyTorch."""
    shape = B.pool2d_shape(x.shape, kernel, stride, padding, dilation, ceil_mode)
    y, indices = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
    height, width = x.shape[2:]
    for oy, ox in np.ndindex(*shape[2:]):
        for i, j in np.ndindex(*kernel):
            iy = oy * stride[0] - padding[0] + i * dilation[0]
            ix = ox * stride[1] - padding[1] + j * dilation[1]
            if 0 <= iy < height and 0 <= ix < width:
                value, best, where = x[:, :, iy, ix], y[:, :, oy, ox], indices[:, :, oy, ox]
                wins = (value > best) | np.isnan(value) | (where < 0)
                best[wins], where[wins] = value[wins], iy * width + ix
    return y, indices


@pytest.mark.parametrize("windows", WINDOWS)
def test_few_channels(isa, windows):
    arguments = WINDOWS[windows]
    kernel, stride, padding, dilation, ceil_mode = arguments
    rng = np.random.default_rng(0)
    for channels in CHANNELS:
        for plane in PLANES:
            x = rng.integers(-3, 4, (2, channels, *plane)).astype(np.float32)  # ties
            x.flat[::11], x.flat[5::13] = np.nan, -np.inf
            x[1, 0, :5, :5] = -np.inf
            y, indices = expected(x, *arguments)
            dy = rng.standard_normal(y.shape).astype(np.float32)
            for threads in (1, 2, 3):
                B.set_num_threads(threads)
                pooled, found = B.max_pool2d(B.from_numpy(x), *arguments)
                assert found is not None
                np.testing.assert_array_equal(B.to_numpy(pooled), y)
                np.testing.assert_array_equal(B.to_numpy(found), indices)
                pooled, _ = B.max_pool2d(B.from_numpy(x), *arguments, False)
                np.testing.assert_array_equal(B.to_numpy(pooled), y)
                if dilation == (1, 1):
                    scattered = B.max_pool2d_backward(B.from_numpy(dy), found, x.shape)
                    gathered = B.max_pool2d_backward(
                        B.from_numpy(dy), found, x.shape, kernel, stride, padding, ceil_mode
                    )
                    np.testing.assert_array_equal(B.to_numpy(gathered), B.to_numpy(scattered))


def test_positions_outside_are_lost():
    dy, indices = B.full((8, 3, 4, 9), 1.0), B.full((8, 3, 4, 9), -(2**31), "int32")
    dx = B.max_pool2d_backward(dy, indices, (8, 3, 8, 18), (3, 3), (2, 2), (1, 1))
    assert not B.to_numpy(dx).any()
