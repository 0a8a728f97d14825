"""Every op agrees with PyTorch, forward and backward: the reference in float64, engine in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import op_cases
import pytest
from op_cases import CASES, Case

torch = pytest.importorskip("torch")

torch.set_num_threads(1)  # small shapes; a second pool of threads would only be in the way
RELATIVE = 1e-4


def _focal_loss(inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none") -> Any:
    """torch has none; this is the definition of Lin et al. 2017 (arXiv 1708.02002) in torch operations."""
    p = torch.sigmoid(inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    loss = loss * (1 - (p * targets + (1 - p) * (1 - targets))) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


class Functional:
    """torch.nn.functional, completed by the names that torch keeps elsewhere."""

    sigmoid_focal_loss = staticmethod(_focal_loss)
    sigmoid = staticmethod(torch.sigmoid)
    tanh = staticmethod(torch.tanh)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.nn.functional, name)


class Library:
    """torch in one floating-point type."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def tensor(self, value: Any) -> Any:
        result = torch.tensor(value)
        return result.to(self.dtype) if result.is_floating_point() else result


def by_torch(case: Case, dy: np.ndarray, arrays: list[np.ndarray | None], dtype: Any) -> list[tuple[str, np.ndarray]]:
    tensors: list[Any] = []
    for spec, array in zip(case.inputs, arrays, strict=True):
        if spec is None or array is None:
            tensors.append(None)
            continue
        t = torch.from_numpy(np.array(array))
        t = t.to(dtype) if t.is_floating_point() else t
        tensors.append(t.requires_grad_(spec.grad and t.is_floating_point()))
    y, *extra = op_cases.call(Library(dtype), Functional(), case, tensors)
    results = [("y", y.detach().numpy())]
    results += [(f"extra {i}", e.detach().numpy()) for i, e in enumerate(extra)]
    if y.requires_grad:
        y.backward(torch.from_numpy(np.asarray(dy)).to(dtype))
        results += [
            (f"gradient of input {i}", t.grad.numpy())
            for i, t in enumerate(tensors)
            if t is not None and t.grad is not None
        ]
    return results


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_reference_agrees_with_torch_in_float64(case: Case) -> None:
    ref = case.reference()
    found = dict(by_torch(case, ref.dy, ref.arrays, torch.float64))
    for name, want, _ in ref.named():
        if name not in found:
            assert not np.any(want), f"torch has no {name}"
            continue
        got = found[name]
        assert got.shape == want.shape, name
        scale = np.abs(want).max(initial=1.0)
        close = 1e-7 if case.op == "hardsigmoid" else 1e-9  # torch keeps its 1 / 6 in float32
        np.testing.assert_allclose(got, want, rtol=close, atol=close * scale, err_msg=name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_engine_agrees_with_torch(case: Case) -> None:
    """Within 1e-4 relative, or the derived tolerance of two float32 computations."""
    from execution import forward_backward, taken, tensors

    ref = case.reference()
    found = dict(by_torch(case, ref.dy, ref.arrays, torch.float32))
    results = forward_backward(case, ref.dy, tensors(case, ref.arrays))
    for name, want, tolerance in ref.named(taken(case)):
        if name not in found:
            assert not np.any(want), f"torch has no {name}"
            continue
        assert name in results or not np.any(want), f"{name} is missing"
        if name not in results:
            continue
        got, theirs = results[name], found[name]
        assert got.shape == theirs.shape, name
        if theirs.dtype.kind in "iub":
            np.testing.assert_array_equal(got, theirs, err_msg=name)
            continue
        allowed = np.maximum(RELATIVE * np.abs(theirs), 2 * np.asarray(tolerance))
        assert (np.abs(got - theirs) <= allowed).all(), f"{name}: {np.abs(got - theirs).max()} off"
