"""The reference itself: its gradients agree with central differences of its forward, in float64, for every row."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from op_cases import BOUNDS, CASES, Case

STEP = 1e-5


def test_every_op_has_a_bound_and_a_row() -> None:
    assert set(oracle.OPS) == set(BOUNDS)
    assert set(oracle.OPS) == {case.op for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_gradients_agree_with_central_differences(case: Case) -> None:
    """Along one random direction per input: (f(x + hv) - f(x - hv)) / 2h . dy  =  df/dx . v"""
    forward, backward = oracle.OPS[case.op]
    arrays = [a if a is None else a.astype(np.float64) if a.dtype == np.float32 else a for a in case.arrays()]

    def value(inputs: list[np.ndarray | None]) -> np.ndarray:
        result = forward(*inputs, **case.args)
        return np.asarray(result[0] if isinstance(result, tuple) else result)

    rng = np.random.default_rng(0)
    y = value(arrays)
    if y.dtype.kind in "bi":
        assert case.op == "one_hot" or y.shape == np.broadcast_shapes(*(a.shape for a in arrays if a is not None))
        return
    dy = rng.standard_normal(y.shape)
    grads = backward(dy, *arrays, **case.args)
    assert len(grads) == len(arrays)
    ties = any(s is not None and s.kind == "few" for s in case.inputs)  # a corner has no derivative: checked below
    for i, (spec, grad) in enumerate(zip(case.inputs, grads, strict=True)):
        if spec is None or not spec.grad or ties:
            continue
        assert grad is not None and grad.shape == spec.shape
        base = arrays[i]
        assert base is not None
        v = rng.choice([-1.0, 1.0], base.shape)
        # Central differences step over a corner at most once in a while; those elements stay where they are.
        if case.op in CORNERS:
            v = v * smooth(case, i, arrays)
        ends = [value([base + s * STEP * v if k == i else a for k, a in enumerate(arrays)]) for s in (1, -1)]
        measured = ((ends[0] - ends[1]) / (2 * STEP) * dy).sum()
        scale = (np.abs(grad) * np.abs(v)).sum() + np.abs(dy).sum() + 1e-3
        assert abs(measured - (grad * v).sum()) <= 1e-8 * scale, f"input {i}"


CORNERS = {
    **dict.fromkeys(("relu", "leaky_relu", "abs", "elu", "selu", "prelu", "softsign"), (0.0,)),
    "relu6": (0.0, 6.0),
    "hardtanh": (-1.0, 1.0, -0.3, 0.8),
    "hardswish": (-3.0, 3.0),
    "hardsigmoid": (-3.0, 3.0),
    "clamp": (-0.5, 0.25, 1.0),
    "floor": (),
    "ceil": (),
    "round": (),
    "sign": (0.0,),
    "softplus": (20.0, 1.5),
    "maximum": (),
    "minimum": (),
    "l1_loss": (),
    "smooth_l1_loss": (),
    "huber_loss": (),
}


def smooth(case: Case, i: int, arrays: list[np.ndarray | None]) -> np.ndarray:
    """Where the function has no corner within a few steps."""
    x = arrays[i]
    assert x is not None
    ok = np.ones(x.shape, dtype=bool)
    if len(case.inputs) == 1 or (case.op == "prelu" and i == 0):
        for corner in CORNERS[case.op]:
            ok &= np.abs(x - corner) > 4 * STEP
        if case.op in ("floor", "ceil", "round"):
            ok &= np.abs(2 * x - np.round(2 * x)) > 8 * STEP
    elif case.op != "prelu":
        a, b = arrays[0], arrays[1]
        assert a is not None and b is not None
        gap = np.abs(a - b)
        close = np.zeros(np.broadcast_shapes(a.shape, b.shape), dtype=bool)
        for corner in (0.0, 1.0, 0.3):
            close |= np.abs(gap - corner) < 4 * STEP
        ok &= oracle.sum_to(close.astype(np.float64), x.shape) == 0
    return ok


def test_ties_share_the_gradient() -> None:
    dy, a, b = np.ones(3), np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    da, db = oracle.binary_backward("maximum", dy, a, b)
    assert da.tolist() == [0.0, 0.5, 1.0] and db.tolist() == [1.0, 0.5, 0.0]
    (dx,) = oracle.extreme_backward(np.max, np.ones(1), np.array([[1.0, 3.0, 3.0]]), dim=1)
    assert dx.tolist() == [[0.0, 0.5, 0.5]]


def test_same_padding_puts_the_odd_pixel_below_and_right() -> None:
    assert oracle.border("same", (4, 2), (1, 3)) == ((1, 2), (1, 2))


def test_a_convolution_by_hand() -> None:
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    w = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert oracle.conv2d(x, w).ravel().tolist() == [27.0, 37.0, 57.0, 67.0]
    assert oracle.conv2d(x, w, padding=1, stride=3).ravel().tolist() == [0.0, 6.0, 12.0, 8.0]
