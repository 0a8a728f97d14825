"""Tensors: values and gradients as PyTorch's where it is installed, and the semantics that need no peer."""

from __future__ import annotations

import math

import numpy as np
import pytest

import engine
from engine.tensor import Parameter, Tensor

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


A, A_COLUMN, ROW, IMAGE = floats(3, 4), floats(3, 1), floats(4), floats(2, 5, 4, 3)
POSITIVE = np.abs(floats(3, 4)) + 0.5
TIED = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], np.float32)
ZEROS = np.array([[1.0, 0.0, 3.0], [0.0, 0.0, 2.0], [4.0, 5.0, 6.0]], np.float32)
INDEX = np.array([[0, 2], [1, 1], [3, 0]])
INTS = RNG.integers(-5, 6, (3, 4))

# name: (function of the library and the tensors, arrays); float arrays require grad. Both libraries run the same line.
CASES = {
    "add": (lambda lib, x, y: x + y, [A, ROW]),
    "add_column": (lambda lib, x, y: x + y, [A_COLUMN, ROW]),
    "add_image": (lambda lib, x, y: x + y, [IMAGE, floats(5, 1, 1)]),
    "radd": (lambda lib, x: 2 + x, [A]),
    "sub": (lambda lib, x, y: x - y, [A, A_COLUMN]),
    "rsub": (lambda lib, x: 1.5 - x, [A]),
    "mul": (lambda lib, x, y: x * y, [A, ROW]),
    "mul_self": (lambda lib, x: x * x, [A]),
    "mul_scalar": (lambda lib, x: x * 3, [A]),
    "div": (lambda lib, x, y: x / y, [A, POSITIVE]),
    "div_scalar": (lambda lib, x: x / 3, [A]),
    "rdiv": (lambda lib, x: 2 / x, [POSITIVE]),
    "alpha": (lambda lib, x, y: lib.add(x, y, alpha=0.3) + x.sub(y, alpha=2), [A, ROW]),
    "pow2": (lambda lib, x: x**2, [A]),
    "pow3": (lambda lib, x: x**3, [A]),
    "pow_half": (lambda lib, x: x**0.5, [POSITIVE]),
    "pow_negative": (lambda lib, x: x**-1.5, [POSITIVE]),
    "pow_tensor": (lambda lib, x, y: x**y, [POSITIVE, A]),
    "rpow": (lambda lib, x: 2**x, [A]),
    "neg": (lambda lib, x: -x, [A]),
    "abs": (lambda lib, x: abs(x), [A]),
    "matmul": (lambda lib, x, y: x @ y, [A, floats(4, 5)]),
    "matmul_batch": (lambda lib, x, y: x @ y, [floats(2, 3, 4), floats(2, 4, 5)]),
    "matmul_broadcast": (lambda lib, x, y: x @ y, [floats(6, 1, 3, 4), floats(2, 4, 5)]),
    "matmul_vector": (lambda lib, x, y: x @ y, [A, ROW]),
    "vector_matmul": (lambda lib, x, y: x @ y, [floats(3), A]),
    "vector_vector": (lambda lib, x, y: x @ y, [ROW, floats(4)]),
    "matmul_transposed": (lambda lib, x, y: x.T @ y.transpose(0, 1), [A, floats(5, 3)]),
    "exp": (lambda lib, x: x.exp(), [A]),
    "expm1": (lambda lib, x: x.expm1(), [A]),
    "log": (lambda lib, x: x.log(), [POSITIVE]),
    "log1p": (lambda lib, x: lib.log1p(x), [POSITIVE]),
    "sqrt": (lambda lib, x: x.sqrt(), [POSITIVE]),
    "rsqrt": (lambda lib, x: x.rsqrt(), [POSITIVE]),
    "reciprocal": (lambda lib, x: x.reciprocal(), [POSITIVE]),
    "square": (lambda lib, x: x.square(), [A]),
    "sin_cos": (lambda lib, x: x.sin() * lib.cos(x), [A]),
    "erf": (lambda lib, x: x.erf(), [A]),
    "sigmoid": (lambda lib, x: x.sigmoid(), [A]),
    "tanh": (lambda lib, x: x.tanh(), [A]),
    "relu": (lambda lib, x: x.relu(), [A]),
    "floor_ceil_round_sign": (lambda lib, x: x.floor() + x.ceil() * 2 + x.round() * 4 + x.sign() * 8, [A]),
    "softmax": (lambda lib, x: x.softmax(0) + x.softmax(-1), [A]),
    "log_softmax": (lambda lib, x: x.log_softmax(1), [IMAGE]),
    "clamp": (lambda lib, x: x.clamp(-0.5, 0.5), [A]),
    "clamp_min": (lambda lib, x: x.clamp(min=0.1) + lib.clamp(x, max=0.2), [A]),
    "maximum": (lambda lib, x, y: lib.maximum(x, y) + lib.minimum(x, y) * 2, [A, ROW]),
    "maximum_tied": (lambda lib, x, y: lib.maximum(x, y), [A, A.copy()]),
    "where": (lambda lib, x, y: lib.where(x > 0, x, y), [A, ROW]),
    "where_scalar": (lambda lib, x: lib.where(x > 0, x, 0.5), [A]),
    "masked_fill": (lambda lib, x: x.masked_fill(x > 0, -3.0), [A]),
    "sum": (lambda lib, x: x.sum(), [IMAGE]),
    "sum_dim": (lambda lib, x: x.sum(1), [IMAGE]),
    "sum_dims": (lambda lib, x: x.sum((0, -1), keepdim=True), [IMAGE]),
    "mean": (lambda lib, x: x.mean(), [A]),
    "mean_dims": (lambda lib, x: x.mean(dim=(2, 3)), [IMAGE]),
    "max": (lambda lib, x: x.max(), [TIED]),
    "max_dim": (lambda lib, x: x.max(dim=1)[0], [A]),
    "min_dim_keep": (lambda lib, x: x.min(0, keepdim=True).values, [A]),
    "amax": (lambda lib, x: x.amax(1) + x.amin(dim=1), [TIED]),
    "prod": (lambda lib, x: x.prod(), [A]),
    "prod_dim": (lambda lib, x: x.prod(1), [ZEROS]),
    "prod_zeros": (lambda lib, x: x.prod(0, keepdim=True), [ZEROS]),
    "var": (lambda lib, x: x.var(), [A]),
    "var_dim": (lambda lib, x: x.var(1, unbiased=False) + x.var(dim=1, correction=2), [A]),
    "var_dims": (lambda lib, x: x.var((0, 2, 3), keepdim=True), [IMAGE]),
    "std": (lambda lib, x: x.std(0), [A]),
    "std_equal": (lambda lib, x: x.std(1), [TIED]),
    "norm": (lambda lib, x: x.norm() + x.norm(p=1) + x.norm(p=3), [A]),
    "norm_dim": (lambda lib, x: x.norm(2, 1, True) * x.norm(dim=0), [A]),
    "reshape": (lambda lib, x: x.reshape(2, -1) * 2, [IMAGE]),
    "view": (lambda lib, x: x.view(-1) * 2, [A]),
    "flatten": (lambda lib, x: x.flatten(1) * 2, [IMAGE]),
    "flatten_middle": (lambda lib, x: lib.flatten(x, 1, 2), [IMAGE]),
    "unflatten": (lambda lib, x: x.unflatten(1, (2, -1)), [A]),
    "permute": (lambda lib, x: x.permute(3, 0, 2, 1) * 2, [IMAGE]),
    "transpose": (lambda lib, x: x.transpose(-1, 1).exp(), [IMAGE]),
    "T": (lambda lib, x: x.T, [A]),
    "squeeze": (lambda lib, x: x.squeeze() + x.squeeze(1), [A_COLUMN]),
    "unsqueeze": (lambda lib, x: x.unsqueeze(0) * x.unsqueeze(-1).permute(2, 0, 1), [A]),
    "expand": (lambda lib, x: x.expand(2, -1, 5), [A_COLUMN]),
    "repeat": (lambda lib, x: x.repeat(2, 1, 3), [A]),
    "movedim": (lambda lib, x: lib.movedim(x, (0, 1), (-1, 0)), [IMAGE]),
    "split": (lambda lib, x: x.split(2, dim=1)[0] * x.split([1, 2, 2], 1)[2], [IMAGE]),
    "chunk": (lambda lib, x: x.chunk(3, 1)[1] * 2, [IMAGE]),
    "unbind": (lambda lib, x: x.unbind(1)[0] * x.unbind(1)[3], [A]),
    "iterate": (lambda lib, x: lib.stack([row * i for i, row in enumerate(x)], 1), [A]),
    "cat": (lambda lib, x, y: lib.cat([x, y, x], 1), [A, A_COLUMN]),
    "cat_channels": (lambda lib, x, y: lib.cat((x, y), dim=1).relu(), [IMAGE, floats(2, 3, 4, 3)]),
    "cat_leaves": (lambda lib, x, y: lib.cat((x, y)), [A, floats(1, 4)]),
    "stack": (lambda lib, x, y: lib.stack([x, y], -1), [A, floats(3, 4)]),
    "gather": (lambda lib, x, i: x.gather(1, i), [A, INDEX]),
    "index_select": (lambda lib, x, i: x.index_select(0, i.flatten().clamp(max=2)), [A, INDEX]),
    "clone": (lambda lib, x: x.clone() * 2, [A]),
    "getitem_int": (lambda lib, x: x[1], [IMAGE]),
    "getitem_negative": (lambda lib, x: x[-1, 2], [IMAGE]),
    "getitem_slice": (lambda lib, x: x[:, 1:4:2], [IMAGE]),
    "getitem_mixed": (lambda lib, x: x[1, ..., None, 1:], [IMAGE]),
    "getitem_scalar": (lambda lib, x: x[1, 2], [A]),
    "getitem_all": (lambda lib, x: x[...] * x[:], [A]),
    "getitem_empty": (lambda lib, x: x[2:2], [A]),
    "getitem_index": (lambda lib, x, i: x[:, i], [A, INDEX]),
    "getitem_list": (lambda lib, x: x[[2, 0, -1]], [A]),
    "getitem_two": (lambda lib, x, i: x[i[:, 1].clamp(max=2), i[:, 0]], [A, INDEX]),
    "getitem_apart": (lambda lib, x: x[[0, 1, 1], :, [3, 0, -1]], [IMAGE]),
    "getitem_mask": (lambda lib, x: x[x > 0], [A]),
    "getitem_row_mask": (lambda lib, x: x[x.sum(1) > 0], [A]),
    "getitem_none": (lambda lib, x: x[None, :, None], [A]),
    "float_of_ints": (lambda lib, i: i.float() * 0.5, [INTS]),
    "int_arithmetic": (lambda lib, i: (i * 2 - 3) * i + i, [INTS]),
    "int_true_division": (lambda lib, i: i / 4, [INTS]),
    "int_floor_division": (lambda lib, i: i // 3 + i % 3, [INTS]),
    "int_and_float": (lambda lib, i, x: i * x, [INTS, A]),
    "int_sum": (lambda lib, i: i.sum(1) + i.int().sum(), [INTS]),
    "int_max": (lambda lib, i: i.max(1).values + i.min() + i.amax(1), [INTS]),
    "int_neg_abs": (lambda lib, i: abs(-i) + i**2, [INTS]),
    "argmax": (lambda lib, x: x.argmax(1) + x.argmax() + x.argmin(0, keepdim=True).sum(), [A]),
    "argmax_tied": (lambda lib, x: x.argmax(1), [TIED]),
    "compare": (lambda lib, x, y: ((x > y) & (x < 1)) | ~(y >= 0) | (x == y) | (x != y) | (x <= 0.5), [A, ROW]),
    "any_all": (lambda lib, x: lib.stack([(x > 0).any(), (x > 0).all(), (x > -9).all()]), [A]),
    "any_dim": (lambda lib, x: (x > 1).any(dim=1) | (x > -1).all(1), [A]),
    "mask_sum": (lambda lib, x: (x > 0).sum(0), [A]),
    "isnan": (lambda lib, x: lib.isnan(x / 0 * 0) | lib.isfinite(x) | lib.isinf(x / 0), [A]),
    "nonzero": (lambda lib, i: i.nonzero(), [INTS]),
    "arange": (lambda lib: lib.arange(7) + lib.arange(3, 10) + lib.arange(0, 14, 2), []),
    "arange_float": (lambda lib: lib.arange(0.0, 1.0, 0.25) + lib.linspace(0, 1, 4), []),
    "eye": (lambda lib: lib.eye(3) + lib.eye(3, 3), []),
    "full": (lambda lib: lib.full((2,), 3.0) + lib.zeros(2) + lib.ones((2,)) + lib.full_like(lib.zeros(2), 2), []),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, arrays = CASES[name]
    results = []
    for lib in (engine, torch):
        inputs = [lib.tensor(a, requires_grad=True) if a.dtype == np.float32 else lib.tensor(a) for a in arrays]
        output = function(lib, *inputs)
        grads = []
        if output.requires_grad:
            seed = lib.tensor(np.cos(np.arange(math.prod(output.shape), dtype=np.float32)).reshape(tuple(output.shape)))
            output.backward(seed)
            grads = [np.asarray(x.grad) for x in inputs if x.grad is not None]
            assert all(x.grad is None or x.grad.shape == x.shape for x in inputs)
        results.append((np.asarray(output.detach()), grads))
    (mine, my_grads), (theirs, their_grads) = results
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)
    assert len(my_grads) == len(their_grads)
    for one, other in zip(my_grads, their_grads):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_construction() -> None:
    assert engine.tensor(1.5).dtype is engine.float32
    assert engine.tensor(3).dtype is engine.int64
    assert engine.tensor(True).dtype is engine.bool
    assert engine.tensor(np.ones(2)).dtype == "float32"
    assert engine.tensor(np.ones(2, np.int16)).dtype == engine.int64
    assert engine.tensor(np.ones(2, np.uint8)).dtype == engine.uint8
    assert engine.tensor(np.ones(2, ">f4")).tolist() == [1.0, 1.0]
    assert engine.tensor([]).shape == (0,)
    assert engine.tensor([1, 2], dtype=engine.float32).dtype == engine.float32
    assert engine.tensor([1.7], dtype=int).tolist() == [1]
    assert engine.tensor([engine.tensor(1.0), engine.tensor(2.0)]).tolist() == [1.0, 2.0]
    assert repr(engine.float32) == "engine.float32"
    with pytest.raises(TypeError, match="numbers"):
        engine.tensor(["a"])
    with pytest.raises(TypeError, match="numbers"):
        engine.tensor(np.array([None]))
    with pytest.raises(RuntimeError, match="floating point"):
        engine.tensor([1], requires_grad=True)
    with pytest.raises(TypeError, match="expected one of float32"):
        engine.zeros(2, dtype="float64")


def test_from_numpy_shares_memory() -> None:
    array = np.zeros((2, 3), np.float32)
    x = engine.from_numpy(array)
    array[1, 2] = 5
    assert x[1, 2].item() == 5
    x.fill_(7)
    assert array[0, 0] == 7
    for bad in (np.zeros(2), np.zeros(2, ">f4"), np.array([object()])):
        with pytest.raises(TypeError):
            engine.from_numpy(bad)
    for view in (array[::-1], array[:, ::-2], array.T):
        np.testing.assert_array_equal(engine.from_numpy(view).numpy(), view)
    constant = np.ones(2, np.float32)
    constant.flags.writeable = False
    engine.from_numpy(constant).zero_()
    assert constant.tolist() == [1, 1]


def test_to_numpy() -> None:
    x = engine.tensor(IMAGE)
    np.testing.assert_array_equal(np.asarray(x), IMAGE)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    x.numpy()[0, 0, 0, 0] = 9
    assert x[0, 0, 0, 0].item() == 9
    with pytest.raises(RuntimeError, match="detach"):
        engine.ones(2, requires_grad=True).numpy()
    np.testing.assert_array_equal(x.permute(1, 0, 3, 2).numpy(), np.asarray(x).transpose(1, 0, 3, 2))


def test_dlpack() -> None:
    x = engine.tensor(IMAGE)
    np.testing.assert_array_equal(np.from_dlpack(x), IMAGE)
    np.testing.assert_array_equal(engine.from_dlpack(np.asarray(IMAGE)).numpy(), IMAGE)
    with pytest.raises(BufferError):
        np.from_dlpack(engine.ones(2, requires_grad=True))


def test_channels_last_memory() -> None:
    x = engine.zeros(2, 3, 4, 5)
    assert x.stride() == (60, 1, 15, 3)
    assert x.is_contiguous()
    assert not x.permute(0, 2, 3, 1).is_contiguous()
    assert x.permute(0, 2, 3, 1).contiguous().stride() == x.permute(0, 2, 3, 1).contiguous().clone().stride()


def test_views_share_memory() -> None:
    x = engine.arange(12).float().reshape(3, 4)
    x[1].fill_(0)
    x[:, ::2].add_(100)
    x.T[3, 0] = -1
    assert x.tolist() == [[100, 1, 102, -1], [100, 0, 100, 0], [108, 9, 110, 11]]


def test_negative_steps() -> None:
    x = engine.tensor(A, requires_grad=True)
    y = x[::-1, 3:0:-2]
    np.testing.assert_array_equal(y.detach().numpy(), A[::-1, 3:0:-2])
    y.sum().backward()
    expected = np.zeros_like(A)
    expected[::-1, 3:0:-2] = 1
    np.testing.assert_array_equal(x.grad.numpy(), expected)
    np.testing.assert_array_equal(engine.tensor(A)[2:0:-1].numpy(), A[2:0:-1])
    np.testing.assert_array_equal(
        engine.tensor(IMAGE)[:, ::-1, ::-1].relu().numpy(), np.maximum(IMAGE[:, ::-1, ::-1], 0)
    )


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (1, 5.0),
        ((0, 2), 7),
        ((slice(None), 1), [1.0, 2.0, 3.0]),
        ((slice(None, None, 2), slice(1, 3)), 4.0),
        ((Ellipsis, -1), 1.5),
        (slice(None), A[0].tolist()),
        ([0, 2], 3.0),
        ((slice(None), [1, 0]), [8.0, 9.0]),
        ((None, 1), 2.0),
        (A > 0, 0.0),
        (A[:, 0] > 0, -1.0),
        (slice(None, None, -1), A.tolist()),
    ],
)
def test_setitem(index: object, value: object) -> None:
    mine, expected = engine.tensor(A), A.copy()
    mine[index if not isinstance(index, np.ndarray) else engine.tensor(index)] = (
        engine.tensor(value) if isinstance(value, list) else value
    )
    expected[index] = value
    np.testing.assert_array_equal(mine.numpy(), expected)


def test_bad_indices() -> None:
    x = engine.zeros(2, 3)
    for index in (2, -3, (0, 3), (0, 0, 0), (Ellipsis, Ellipsis)):
        with pytest.raises(IndexError):
            x[index]
    for index in ("a", 1.5):
        with pytest.raises(TypeError):
            x[index]
    with pytest.raises(IndexError):
        x[engine.tensor([0, 2])]
    with pytest.raises(TypeError):
        x[engine.tensor([0.5])]


def test_in_place_respects_history() -> None:
    leaf = engine.ones(2, requires_grad=True)
    result = leaf * 2
    for update in (lambda t: t.add_(1), lambda t: t.mul_(2), lambda t: t.zero_(), lambda t: t.__setitem__(0, 1.0)):
        for x in (leaf, result):
            with pytest.raises(RuntimeError):
                update(x)
    with engine.no_grad():
        leaf.add_(1).mul_(3).sub_(engine.ones(2), alpha=2).div_(2)
        leaf -= 1
    assert leaf.tolist() == [1.0, 1.0]
    plain = same = engine.ones(2)
    plain += 1
    assert same.tolist() == [2.0, 2.0]
    total = engine.zeros(())
    total += (leaf * 3).sum()
    total.backward()
    assert leaf.grad.tolist() == [3.0, 3.0]
    with pytest.raises(TypeError, match="stored"):
        engine.arange(2).add_(0.5)
    x = engine.zeros(2, 2)
    x.copy_(engine.tensor([1, 2]))
    assert x.tolist() == [[1, 2], [1, 2]]
    assert x.clamp_(max=1).tolist() == [[1, 1], [1, 1]]


def test_scalars_and_truth() -> None:
    assert float(engine.tensor(2.5)) == 2.5
    assert int(engine.tensor([3])) == 3
    assert [10, 20, 30][engine.tensor(1)] == 20
    assert bool(engine.tensor([True]))
    assert f"{engine.tensor(0.125):.2f}" == "0.12"
    assert len(engine.zeros(4, 2)) == 4
    assert 3 in engine.arange(5)
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(engine.ones(2))
    with pytest.raises((RuntimeError, ValueError)):
        engine.ones(2).item()
    with pytest.raises(TypeError):
        len(engine.tensor(1.0))


def test_numpy_operands() -> None:
    x = engine.tensor([1.0, 2.0], requires_grad=True)
    for y in (np.float32(2) * x, x * np.float64(2), np.full(2, 2.0) * x, x * np.full(2, 2.0, np.float32)):
        assert isinstance(y, Tensor)
        assert y.tolist() == [2.0, 4.0]
        assert y.requires_grad


def test_type_promotion() -> None:
    u, i, j, f, b = (engine.ones(2, dtype=name) for name in ("uint8", "int32", "int64", "float32", "bool"))
    assert (u + i).dtype == engine.int32
    assert (i + j).dtype == engine.int64
    assert (j + f).dtype == engine.float32
    assert (b + 1).dtype == engine.int64
    assert (u + 1).dtype == engine.uint8
    assert (i + 1.0).dtype == engine.float32
    assert (i + engine.tensor(1)).dtype == engine.int32
    assert (i + engine.tensor(1.0)).dtype == engine.float32
    assert engine.cat([i, f]).dtype == engine.float32


def test_repr() -> None:
    assert repr(engine.tensor([1.0, 2.5])) == "tensor([1. , 2.5])"
    assert repr(engine.tensor(3)) == "tensor(3)"
    assert repr(engine.zeros(2, dtype="int32")) == "tensor([0, 0], dtype=engine.int32)"
    assert repr(engine.ones(1, requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert "grad_fn" in repr(engine.ones(1, requires_grad=True) * 2)
    assert repr(engine.zeros(0, 3)) == "tensor([], size=(0, 3))"
    assert len(repr(engine.zeros(300, 300))) < 1000
    assert repr(Parameter(engine.zeros(1))).startswith("Parameter containing:\ntensor([0.]")


def test_random() -> None:
    engine.manual_seed(3)
    a = engine.rand(1000)
    state = engine.get_rng_state()
    b = engine.randn(1000)
    engine.set_rng_state(state)
    assert engine.equal(b, engine.randn(1000))
    engine.manual_seed(3)
    assert engine.equal(a, engine.rand(1000))
    assert not engine.equal(a, engine.rand(1000))
    assert a.min().item() >= 0
    assert a.max().item() < 1
    assert abs(a.mean().item() - 0.5) < 0.05
    assert abs(b.std().item() - 1) < 0.1
    whole = engine.randint(2, 5, (1000,))
    assert whole.dtype == engine.int64
    assert sorted(set(whole.tolist())) == [2, 3, 4]
    assert sorted(engine.randperm(10).tolist()) == list(range(10))


def test_clear_errors() -> None:
    x = engine.zeros(2, 3)
    with pytest.raises(IndexError, match=r"\[sum\] expected a dimension"):
        x.sum(2)
    with pytest.raises(ValueError, match="does not fit"):
        x.reshape(4)
    with pytest.raises(ValueError, match="at most one -1"):
        x.reshape(-1, -1)
    with pytest.raises(ValueError, match="once"):
        x.permute(0, 0)
    with pytest.raises(ValueError, match="cannot expand"):
        x.expand(2, 4)
    with pytest.raises(RuntimeError, match="floating point"):
        engine.arange(3).mean()
    with pytest.raises(ValueError, match="add up"):
        x.split([1, 1], 1)
    with pytest.raises((ValueError, RuntimeError)):
        x + engine.zeros(2, 4)
    with pytest.raises((ValueError, RuntimeError)):
        x @ engine.zeros(2, 4)
    with pytest.raises(TypeError):
        x + "a"
    with pytest.raises(TypeError, match="bools"):
        x & x
    with pytest.raises((ValueError, RuntimeError, MemoryError, OverflowError)):
        engine.zeros(2**40)


def test_empty_batch() -> None:
    x = engine.zeros(0, 3, requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad.shape == (0, 3)
    assert engine.zeros(0, 3).sum(0).tolist() == [0, 0, 0]
    assert bool(engine.zeros(0).all()) and not bool(engine.zeros(0).any())
    with pytest.raises(IndexError):
        engine.zeros(0).max()
