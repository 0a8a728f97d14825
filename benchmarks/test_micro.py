"""Micro-benchmarks of backend functions: `pytest benchmarks/test_micro.py`, with `--benchmark-compare` two commits.

One row each, at sizes of ResNet-50 and LeNet-5. They find regressions of one commit against another on one quiet
machine; for comparisons with peers see bench_ops.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import backend as B


def array(*shape: int) -> Any:
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return B.copy(B.contiguous(B.from_numpy(values)))


def conv(n: int, ic: int, oc: int, size: int, kernel: int, groups: int = 1) -> tuple[Any, ...]:
    pad = kernel // 2
    geometry = ((1, 1), (pad, pad, pad, pad), (1, 1), groups)
    return array(n, ic, size, size), array(oc, ic // groups, kernel, kernel), array(n, oc, size, size), geometry


def conv_forward(*problem: int) -> Callable[[], Any]:
    x, w, _, geometry = conv(*problem)
    return lambda: B.conv2d(x, w, None, *geometry)


def conv_backward_data(*problem: int) -> Callable[[], Any]:
    x, w, dy, geometry = conv(*problem)
    return lambda: B.conv2d_backward_data(dy, w, x.shape, *geometry)


def conv_backward_weight(*problem: int) -> Callable[[], Any]:
    x, w, dy, geometry = conv(*problem)
    return lambda: B.conv2d_backward_weight(dy, x, w.shape, *geometry, False)


def linear() -> Callable[[], Any]:
    x, w, b = array(64, 400), array(120, 400), array(120)
    return lambda: B.linear(x, w, b)


def matmul() -> Callable[[], Any]:
    a, b = array(256, 256), array(256, 256)
    return lambda: B.matmul(a, b)


def unary(op: str) -> Callable[[], Any]:
    x = array(8, 64, 56, 56)
    return lambda: B.unary(op, x)


def add() -> Callable[[], Any]:
    a, b = array(8, 64, 56, 56), array(8, 64, 56, 56)
    return lambda: B.binary("add", a, b)


def sum_all() -> Callable[[], Any]:
    x = array(8, 64, 56, 56)
    return lambda: B.reduce("sum", x, (0, 1, 2, 3), False)


def softmax() -> Callable[[], Any]:
    x = array(64, 1000)
    return lambda: B.softmax(x, 1)


def max_pool() -> Callable[[], Any]:
    x = array(8, 64, 112, 112)
    return lambda: B.max_pool2d(x, (3, 3), (2, 2), (1, 1), (1, 1), False)


def batch_norm() -> Callable[[], Any]:
    x, weight, bias = array(8, 64, 56, 56), array(64), array(64)
    return lambda: B.batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)


def batch_norm_backward() -> Callable[[], Any]:
    x, dy, weight = array(8, 64, 56, 56), array(8, 64, 56, 56), array(64)
    _, mean, invstd, _ = B.batch_norm(x, weight, None, None, None, True, 0.1, 1e-5)
    return lambda: B.batch_norm_backward(dy, x, weight, mean, invstd, True)


def sgd_step() -> Callable[[], Any]:
    shapes = [(64, 3, 7, 7)] + [(64, 64, 3, 3)] * 16 + [(64,)] * 32
    params, grads, buffers = ([array(*shape) for shape in shapes] for _ in range(3))
    return lambda: B.sgd_step(params, grads, buffers, 1e-9, 0.9, 0.0, 0.0, False, False, 0.0, False)


def small_add() -> Callable[[], Any]:
    """What one call costs: arithmetic of a few nanoseconds."""
    a, b = array(16), array(16)
    return lambda: B.binary("add", a, b)


CASES: dict[str, Callable[[], Callable[[], Any]]] = {
    "conv 3x3 64": lambda: conv_forward(1, 64, 64, 56, 3),
    "conv 1x1 256-64": lambda: conv_forward(1, 256, 64, 56, 1),
    "conv depthwise 3x3 96": lambda: conv_forward(1, 96, 96, 56, 3, 96),
    "conv 3x3 64, input gradient": lambda: conv_backward_data(1, 64, 64, 56, 3),
    "conv 3x3 64, weight gradient": lambda: conv_backward_weight(1, 64, 64, 56, 3),
    "linear 400-120": linear,
    "matmul 256": matmul,
    "relu": lambda: unary("relu"),
    "gelu": lambda: unary("gelu"),
    "add": add,
    "sum": sum_all,
    "softmax 64x1000": softmax,
    "max pool 3x3": max_pool,
    "batch norm": batch_norm,
    "batch norm, gradients": batch_norm_backward,
    "sgd": sgd_step,
    "add 16 numbers": small_add,
}


@pytest.mark.parametrize("name", CASES)
def test_micro(benchmark: Any, name: str) -> None:
    call = CASES[name]()
    call()
    benchmark(call)
