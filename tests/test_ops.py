"""Every row of op_cases against the float64 reference, on every instruction set and for every algorithm.

One id per row; instruction sets, algorithms and thread counts are loops inside.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import op_cases
import oracle
import pytest
from execution import ISAS, THREADS, bits, check, choosing, forward_backward, opinions, running, tensors
from op_cases import CASES, Case

import engine
from engine import backend as B


def algorithms(case: Case) -> Iterator[str]:
    """ "" for the engine's own choice, then every convolution algorithm that accepts the case."""
    yield ""
    reasons: dict[str, str] = {}
    for listed in opinions(case).values():
        for name, reason in listed.items():
            reasons[name] = reasons.get(name, "") + reason
    yield from (name for name, reason in reasons.items() if not reason)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_forward_and_backward(case: Case) -> None:
    ref = case.reference()
    for isa in ISAS:
        with running(isa):
            for algorithm in algorithms(case):
                with choosing(algorithm):
                    expected = None
                    for threads in THREADS:
                        B.set_num_threads(threads)
                        results = forward_backward(case, ref.dy, tensors(case, ref.arrays))
                        where = f"[{isa}, {threads} threads, {algorithm or 'default'} algorithm]"
                        if expected is None:
                            check(results, ref, where, algorithm)
                            expected = bits(results)
                        else:
                            found = bits(results)
                            differ = [name for name in expected if found.get(name) != expected[name]]
                            assert not differ, f"{differ} depend on the number of threads {where}"


LAYOUT_CASES = [c for c in CASES if sum(int(np.prod(s.shape)) for s in c.inputs if s is not None) < 6000]


@pytest.mark.parametrize("case", LAYOUT_CASES, ids=lambda c: c.id)
def test_strided_inputs(case: Case) -> None:
    """Views give the same results as copies: NumPy's row-major arrays, reversed axes, slices of wider arrays."""
    ref = case.reference()
    for layout in (row_major, reversed_axes, inside_wider):
        inputs, bases = [], []
        for spec, array in zip(case.inputs, ref.arrays, strict=True):
            if spec is None or array is None:
                inputs.append(None)
                bases.append(None)
                continue
            base, view = layout(array)
            base.requires_grad = spec.grad and array.dtype == np.float32
            inputs.append(view(base))
            bases.append((base, view))
        y, *extra = op_cases.call(engine, engine.functional, case, inputs)
        results = {"y": np.array(y.detach().numpy())}
        results.update({f"extra {i}": np.array(e.detach().numpy()) for i, e in enumerate(extra)})
        if y.requires_grad:
            dy, view_dy = layout(ref.dy)
            y.backward(view_dy(dy))
        for i, pair in enumerate(bases):
            if pair is not None and pair[0].grad is not None:
                results[f"gradient of input {i}"] = np.array(pair[1](pair[0].grad).numpy())
        check(results, ref, f"[{layout.__name__}]")


def row_major(array):  # type: ignore[no-untyped-def]
    """Shares NumPy's memory; for images that is not the engine's layout."""
    return engine.from_numpy(np.array(array, order="C")), lambda t: t


def reversed_axes(array):  # type: ignore[no-untyped-def]
    """Shares memory that runs backwards along every axis."""
    turn = tuple(slice(None, None, -1) for _ in range(array.ndim))
    return engine.from_numpy(np.array(array[turn], order="F")[(..., *turn)]), lambda t: t


def inside_wider(array):  # type: ignore[no-untyped-def]
    """A slice of channels (or of the last axis) of an array that is wider and full of other numbers."""
    if not array.ndim:
        return row_major(array)
    axis = 1 if array.ndim == 4 else array.ndim - 1
    before, after = np.ones_like(array, dtype=array.dtype), np.ones_like(array, dtype=array.dtype)
    wide = engine.tensor(np.concatenate([before, array, after], axis=axis))
    width = array.shape[axis]
    inner = (slice(None),) * axis + (slice(width, 2 * width),)
    return wide, lambda t: t[inner]


# --------------------------------------------------------------------------------------------------------------------
# What a list of smooth cases cannot show
# --------------------------------------------------------------------------------------------------------------------

KINKS = [
    ("relu", [-1.0, 0.0, 1.0], [0.0, 0.0, 1.0]),
    ("relu6", [-1.0, 0.0, 3.0, 6.0, 7.0], [0.0, 0.0, 1.0, 0.0, 0.0]),
    ("leaky_relu", [-1.0, 0.0, 1.0], [0.01, 0.01, 1.0]),
    ("hardtanh", [-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 0.0, 1.0, 0.0, 0.0]),
    ("hardsigmoid", [-4.0, -3.0, 0.0, 3.0, 4.0], [0.0, 0.0, 1 / 6, 0.0, 0.0]),
    ("abs", [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]),
    ("clamp", [-2.0, -1.0, 0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 1.0, 0.0]),
    ("sign", [-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]),
]


@pytest.mark.parametrize(("op", "points", "slopes"), KINKS, ids=[k[0] for k in KINKS])
def test_slopes_at_corners_are_those_of_torch(op: str, points: list[float], slopes: list[float]) -> None:
    args = {"min": -1.0, "max": 1.0} if op == "clamp" else {}
    case = Case(op, (op_cases.normal(len(points)),), args)
    for isa in ISAS:
        with running(isa):
            x = engine.tensor(points, requires_grad=True)
            (y,) = op_cases.call(engine, engine.functional, case, [x])
            y.sum().backward()
            np.testing.assert_allclose(x.grad.numpy(), slopes, rtol=1e-6, err_msg=isa)


def test_every_op_of_functional_has_a_row() -> None:
    """A public function without a row is not tested: add the row, or say here where its test is."""
    elsewhere = {
        "conv2d_act": "test_fusion.py",
        "linear_act": "test_fusion.py",
        "dropout": "test_random.py",
        "dropout2d": "test_random.py",
        "stochastic_depth": "test_random.py",
    }
    tested = {c.op for c in CASES} | set(elsewhere)
    synonyms = {"cat": "concat", "chunk": "split", "flatten": "reshape"}
    public = [name for name in engine.functional.__all__ if synonyms.get(name, name) not in tested]
    assert not public


def test_large_arguments_do_not_overflow() -> None:
    """Functions that saturate give their limit, functions that grow give infinity, none gives NaN."""
    x = np.array([-1e30, -200.0, -100.0, 100.0, 200.0, 1e30], dtype=np.float32)
    zero, one = np.zeros(3), np.ones(3)
    limits = {
        "sigmoid": np.r_[zero, one],
        "tanh": np.r_[-one, one],
        "erf": np.r_[-one, one],
        "gelu": np.r_[zero, x[3:]],
        "silu": np.r_[zero, x[3:]],
        "mish": np.r_[zero, x[3:]],
        "softplus": np.r_[zero, x[3:]],
        "logsigmoid": np.r_[x[:3], zero],
        "hardsigmoid": np.r_[zero, one],
        "elu": np.r_[-one, x[3:]],
        "exp": np.r_[zero, np.full(3, np.inf)],
        "expm1": np.r_[-one, np.full(3, np.inf)],
    }
    for isa in ISAS:
        with running(isa):
            for op, want in limits.items():
                t = engine.tensor(x, requires_grad=True)
                (y,) = op_cases.call(engine, engine.functional, Case(op, (op_cases.normal(6),)), [t])
                np.testing.assert_allclose(y.detach().numpy(), want, rtol=1e-6, atol=1e-30, err_msg=f"{op} {isa}")
                y.sum().backward()
                assert not np.isnan(t.grad.numpy()).any(), f"gradient of {op} {isa}"


def test_every_algorithm_is_tested() -> None:
    """The cases reach every entry of the lists; an algorithm that accepts no case would be tested by none."""
    seen = {name for case in CASES if case.op == "conv2d" for name in algorithms(case)}
    x, w, ones = (1, 4, 8, 8), (4, 4, 3, 3), (1, 1)
    listed = {
        name
        for direction in ("forward", "backward_data", "backward_weight")
        for name, _ in B.conv2d_algorithms(x, w, ones, (1, 1, 1, 1), ones, 1, direction)
    }
    assert seen == (listed if B.split_products() else listed - {"split"}) | {""}


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_packed_weights_follow_every_change(groups: int) -> None:
    """Kernels keep private packed copies of weights; each way to change a weight must be seen by the next call."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 6, 7)).astype(np.float32)
    w = engine.tensor(rng.standard_normal((8, 8 // groups, 3, 3)).astype(np.float32), requires_grad=True)
    shared = w.detach().numpy()

    def holds(after: str) -> None:
        want = oracle.conv2d(x.astype(np.float64), w.detach().numpy().astype(np.float64), padding=1, groups=groups)
        t = engine.tensor(x, requires_grad=True)
        y = engine.functional.conv2d(t, w, padding=1, groups=groups)
        np.testing.assert_allclose(y.detach().numpy(), want, rtol=1e-4, atol=1e-4, err_msg=after)
        y.backward(engine.ones(2, 8, 6, 7))
        dx = oracle.conv2d_backward_data(
            np.ones(want.shape), w.detach().numpy().astype(np.float64), x.shape, padding=1, groups=groups
        )
        np.testing.assert_allclose(t.grad.numpy(), dx, rtol=1e-4, atol=1e-4, err_msg=after)

    holds("creation")
    shared[:] = rng.standard_normal(shared.shape)
    holds("writing through NumPy")
    with engine.no_grad():
        w += 1.0
    holds("addition in place")
    with engine.no_grad():
        w[3:5] = 0.25
    holds("assignment to a slice")
    with engine.no_grad():
        w[1].mul_(-2.0)
    holds("multiplication of a view in place")
    with engine.no_grad():
        w.copy_(engine.tensor(rng.standard_normal(shared.shape).astype(np.float32)))
    holds("copy_")
    with engine.no_grad():
        w.fill_(0.5)
    holds("fill_")
    optimizer = engine.optim.SGD([w], lr=0.1)
    optimizer.step()
    holds("an optimizer step")
    exported = np.from_dlpack(w.detach())
    if exported.flags.writeable:  # older NumPy marks it read-only
        exported[:] = 2.0
    holds("writing through DLPack")
    for isa in ISAS:
        B.set_isa(isa)
        holds(f"a change to {isa}")
