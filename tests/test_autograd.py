"""The tape: order, accumulation, memory, hooks, modes and errors."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy as np
import pytest

import engine
from engine import autograd, backend as B
from engine.tensor import Tensor


def leaf(*values: float) -> Tensor:
    return engine.tensor(list(values), requires_grad=True)


def test_diamond() -> None:
    x = leaf(3.0)
    a = x * 2
    b = a * a
    (b + a + x).backward(engine.ones(1))
    assert x.grad.tolist() == [2 * 2 * 6.0 + 2 + 1]


def test_many_paths_are_summed_once_per_node() -> None:
    x = leaf(1.0, 2.0)
    y = x
    for _ in range(40):  # 2^40 paths, 80 nodes
        y = y + y
    (y * 2.0**-40).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_gradients_accumulate() -> None:
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    first = x.grad
    (x * x).sum().backward()
    assert x.grad is first
    assert x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    x.sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_gradients_of_leaves_do_not_share_memory() -> None:
    x, y, z = leaf(1.0, 2.0), leaf(3.0, 4.0), leaf(5.0, 6.0)
    seed = engine.ones(2)
    (x + y + z.reshape(2)).backward(seed)
    x.grad.zero_()
    y.grad.fill_(7.0)
    assert z.grad.tolist() == [1.0, 1.0]
    assert seed.tolist() == [1.0, 1.0]
    for make in (
        lambda t: t.clone(),
        lambda t: t.expand(3, 2),
        lambda t: t.unsqueeze(0),
        lambda t: engine.cat([t, t]),
        lambda t: t[:],
        lambda t: engine.stack(t.split(1)),
        lambda t: t - 1,
    ):
        w = leaf(1.0, 2.0)
        out = make(w)
        seed = engine.ones(out.shape)
        out.backward(seed)
        w.grad.fill_(9.0)
        assert seed.sum().item() == seed.numel()
        assert w.grad.is_contiguous()


@pytest.mark.parametrize("length", [5000, 100_000])
def test_long_chains_neither_recurse_nor_overflow(length: int) -> None:
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y * 1.0
    y.sum().backward()
    assert x.grad.item() == 1.0
    z = x
    for _ in range(length):
        z = z + 0.0
    del z  # freed without a backward
    gc.collect()
    assert sys.getrecursionlimit() <= 10_000


def test_graph_is_freed_as_it_is_used() -> None:
    x = leaf(1.0)
    y = x.exp()
    kept = weakref.ref(y)
    z = y * 2
    del y
    assert kept() is None  # nodes hold nodes and arrays, not the tensors in between
    node = z.node
    z.sum().backward()
    assert node.backward is None
    assert not node.edges


def test_second_backward() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match="retain_graph"):
        y.backward()
    shared = x * 2
    shared.sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        (shared * 3).sum().backward()


def test_retained_parts_and_splits() -> None:
    x = engine.arange(6).float().requires_grad_()
    a, b, c = (x * 1).split(2)
    y = (a * c).sum()
    y.backward(retain_graph=True)
    first = x.grad.tolist()
    y.backward()
    assert first == [4.0, 5.0, 0.0, 0.0, 0.0, 1.0]
    assert x.grad.tolist() == [2 * v for v in first]
    del b


def test_backward_needs_a_graph_and_a_scalar() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        engine.ones(1).backward()
    with pytest.raises(RuntimeError, match="scalar"):
        (leaf(1.0, 2.0) * 2).backward()
    with pytest.raises(RuntimeError, match="shape"):
        (leaf(1.0, 2.0) * 2).backward(engine.ones(3))
    with pytest.raises(RuntimeError, match="float32"):
        (leaf(1.0, 2.0) * 2).backward(engine.ones(2, dtype="int64"))
    with pytest.raises(RuntimeError, match="create_graph"):
        leaf(1.0).sum().backward(create_graph=True)


def test_backward_of_a_leaf() -> None:
    x = leaf(1.0)
    x.backward()
    x.backward(engine.tensor([2.0]))
    assert x.grad.tolist() == [3.0]


def test_modes() -> None:
    x = leaf(1.0)
    assert engine.is_grad_enabled()
    with engine.no_grad():
        assert not engine.is_grad_enabled()
        assert not (x * 2).requires_grad
        with engine.enable_grad():
            assert (x * 2).requires_grad
        with engine.set_grad_enabled(True):
            assert (x * 2).requires_grad
        assert not engine.is_grad_enabled()
    assert engine.is_grad_enabled()
    engine.set_grad_enabled(False)
    assert not engine.is_grad_enabled()
    engine.set_grad_enabled(True)
    with pytest.raises(KeyError), engine.no_grad():
        raise KeyError
    assert engine.is_grad_enabled()


def test_modes_as_decorators() -> None:
    @engine.no_grad()
    def double(x: Tensor) -> Tensor:
        """Doubles."""
        return x * 2

    @engine.set_grad_enabled(False)
    def triple(x: Tensor) -> Tensor:
        return x * 3

    assert engine.is_grad_enabled()
    assert double.__doc__ == "Doubles."
    assert not double(leaf(1.0)).requires_grad
    assert not triple(leaf(1.0)).requires_grad
    assert engine.is_grad_enabled()


def test_mode_belongs_to_the_thread() -> None:
    seen = []
    with engine.no_grad():
        thread = threading.Thread(target=lambda: seen.append(engine.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_detach_and_requires_grad() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    assert y.requires_grad and not y.is_leaf and x.is_leaf
    d = y.detach()
    assert not d.requires_grad and d.is_leaf
    (y * d).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(RuntimeError, match="leaves"):
        y.requires_grad_(False)
    x.requires_grad_(False)
    assert not (x * 2).requires_grad


def test_frozen_inputs_get_no_gradient() -> None:
    x, w = leaf(1.0, 2.0), engine.ones(2)
    (x * w).sum().backward()
    assert w.grad is None
    assert x.grad is not None


def test_hooks_on_leaves_see_the_whole_gradient() -> None:
    x = leaf(1.0)
    calls = []
    handle = x.register_hook(lambda grad: calls.append(grad.item()))
    double = x.register_hook(lambda grad: grad * 2)
    (x * 2 + x * 3).sum().backward()
    assert calls == [5.0]
    assert x.grad.tolist() == [10.0]
    handle.remove()
    handle.remove()
    double.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert calls == [5.0]
    assert x.grad.tolist() == [2.0]


def test_hooks_on_intermediates() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    seen = []
    y.register_hook(lambda grad: seen.append(grad.tolist()))
    y.register_hook(lambda grad: grad * 10)
    y.retain_grad()
    (y.sum() + y.sum()).backward()
    assert seen == [[2.0, 2.0]]
    assert y.grad.tolist() == [20.0, 20.0]
    assert x.grad.tolist() == [40.0, 40.0]
    with pytest.raises(RuntimeError, match="require grad"):
        engine.ones(1).register_hook(lambda grad: grad)
    bad = leaf(1.0)
    bad.register_hook(lambda grad: engine.ones(3))
    with pytest.raises(RuntimeError, match="shape"):
        (bad * 2).sum().backward()


def test_hooks_are_not_recorded() -> None:
    x = leaf(1.0)
    modes = []
    x.register_hook(lambda grad: modes.append(engine.is_grad_enabled()))
    (x * 2).sum().backward()
    assert modes == [False]
    assert not x.grad.requires_grad
    assert engine.is_grad_enabled()


def test_after_an_exception_the_graph_is_clean() -> None:
    x = leaf(1.0)
    a, b = x * 2, x * 3
    fail = [True]

    def hook(grad: Tensor) -> None:
        if fail[0]:
            raise KeyError("hook")

    b.register_hook(hook)
    y = (a + b).sum()
    with pytest.raises(KeyError):
        y.backward(retain_graph=True)
    assert engine.is_grad_enabled()
    fail[0] = False
    x.grad = None
    y.backward()
    assert x.grad.tolist() == [5.0]


def test_record_is_all_a_new_op_needs() -> None:
    def cube(x: Tensor) -> Tensor:
        a = x.data

        def backward(dy: B.Array) -> tuple[B.Array]:
            return (B.binary("mul", dy, B.binary("mul", B.unary("square", a), 3.0)),)

        return autograd.record(B.binary("mul", B.unary("square", a), a), (x,), backward)

    x = leaf(2.0)
    cube(x).sum().backward()
    assert x.grad.tolist() == [12.0]
    with engine.no_grad():
        assert cube(x).is_leaf
    assert cube(engine.ones(1)).is_leaf


def test_numeric_gradient_of_a_composite() -> None:
    rng = np.random.default_rng(1)
    value = rng.standard_normal((3, 4)).astype(np.float32)

    def function(x: Tensor) -> Tensor:
        return ((x.softmax(1) + 0.1).log() * x.T.T.sigmoid() + x[:, 1:2] * x.mean(0)).sum()

    x = engine.tensor(value, requires_grad=True)
    function(x).backward()
    for i, j in ((0, 0), (1, 2), (2, 3)):
        step = np.zeros_like(value)
        step[i, j] = 1e-2
        slope = (function(engine.tensor(value + step)) - function(engine.tensor(value - step))).item() / 2e-2
        assert abs(slope - x.grad[i, j].item()) < 5e-3
