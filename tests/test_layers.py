"""The contract of every layer, run on every row of layer_cases.py."""

from __future__ import annotations

import copy
import inspect
import re
import warnings
from typing import Any

import numpy as np
import pytest
from layer_cases import CASES, LayerCase

import engine
from engine import nn

every_layer = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
in_torch = pytest.mark.parametrize(
    "case", [case for case in CASES if case.in_torch], ids=[case.id for case in CASES if case.in_torch]
)


def tensors(case: LayerCase) -> list[engine.Tensor]:
    x, *target = case.arrays()
    return [engine.tensor(x, requires_grad=True), *(engine.tensor(array) for array in target)]


def shake(module: nn.Module) -> nn.Module:
    """Gives all parameters values that are neither 0 nor 1."""
    rng = np.random.default_rng(1)
    with engine.no_grad():
        module.load_state_dict(
            {
                key: rng.uniform(0.5, 1.5, value.shape)
                for key, value in module.state_dict().items()
                if "num_" not in key
            },
            strict=False,
        )
    return module


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return list(a) == list(b) and all(np.array_equal(a[key].numpy(), b[key].numpy()) for key in a)


@every_layer
def test_construction_draws_finite_values(case: LayerCase) -> None:
    module = case.make(nn)
    assert isinstance(module, getattr(nn, case.name))
    assert module.training
    for name, value in module.state_dict().items():
        assert np.isfinite(value.numpy()).all(), name
    assert repr(module).startswith(case.name + "(")


@every_layer
def test_forward_and_backward(case: LayerCase) -> None:
    module = case.make(nn)
    x, *target = tensors(case)
    y = module(x, *target)
    assert tuple(y.shape) == case.output
    assert np.isfinite(y.detach().numpy()).all()
    y.sum().backward()
    assert tuple(x.grad.shape) == case.input
    for name, param in module.named_parameters():
        assert param.grad is not None, name
        assert tuple(param.grad.shape) == tuple(param.shape), name
    module.zero_grad()
    assert all(param.grad is None for param in module.parameters())


@every_layer
def test_state_dict_round_trip(case: LayerCase) -> None:
    module, other = shake(case.make(nn)), case.make(nn)
    assert other.load_state_dict(module.state_dict()) == ([], [])
    assert same(module.state_dict(), other.state_dict())
    x, *target = tensors(case)
    with engine.no_grad():
        np.testing.assert_array_equal(
            module.eval()(x, *target).detach().numpy(),
            other.eval()(x, *target).detach().numpy(),
        )


@every_layer
def test_deepcopy_is_independent(case: LayerCase) -> None:
    module = shake(case.make(nn))
    twin = copy.deepcopy(module)
    assert repr(twin) == repr(module)
    assert same(module.state_dict(), twin.state_dict())
    before = {key: value.numpy().copy() for key, value in module.state_dict().items()}
    with engine.no_grad():
        for param in twin.parameters():
            engine.init.zeros_(param)
    assert all(np.array_equal(value.numpy(), before[key]) for key, value in module.state_dict().items())


@every_layer
def test_train_and_eval(case: LayerCase) -> None:
    module = case.make(nn)
    assert module.eval() is module
    assert not any(child.training for child in module.modules())
    x, *target = tensors(case)
    first, second = (module(x, *target).detach().numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert module.train() is module
    assert all(child.training for child in module.modules())


@in_torch
def test_names_are_those_of_torch(case: LayerCase) -> None:
    """Arguments with their order and defaults, attributes by way of repr, state-dict keys with their order."""
    torch = pytest.importorskip("torch")
    ours, theirs = case.make(nn), case.make(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in theirs.named_buffers()]
    for key, value in ours.state_dict().items():
        assert tuple(value.shape) == tuple(theirs.state_dict()[key].shape)
        assert str(theirs.state_dict()[key].dtype) == f"torch.{value.dtype!s}"

    def text(module: Any) -> str:
        # later versions of torch print "bias=" for normalisations
        return re.sub(r"((?:Batch|Layer|Group|Instance)Norm.*), bias=\w+", r"\1", repr(module))

    assert text(ours) == text(theirs)
    if case.name == "Sequential":
        return
    left_out = {"device", "dtype", "size_average", "reduce", "min_value", "max_value"}  # the last four are deprecated
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    reference = inspect.signature(type(theirs).__init__).parameters.values()
    expected = [p for p in reference if p.name not in left_out and p.kind not in (*variadic, p.KEYWORD_ONLY)]
    found = [p for p in inspect.signature(type(ours).__init__).parameters.values() if p.kind not in variadic]
    assert [(p.name, p.default) for p in found] == [(p.name, p.default) for p in expected]


@pytest.mark.parametrize(
    ("case", "training"),
    [
        pytest.param(case, training, id=f"{case.id}-{'train' if training else 'eval'}")
        for case in CASES
        for training in (True, False)
        if case.in_torch and not (case.random and training)  # torch's draws are others
    ],
)
def test_agrees_with_torch(case: LayerCase, training: bool) -> None:
    torch = pytest.importorskip("torch")
    ours = shake(case.make(nn)).train(training)
    theirs = case.make(torch.nn).double().train(training)
    theirs.load_state_dict({key: torch.from_numpy(value.numpy().copy()) for key, value in ours.state_dict().items()})
    x, *target = tensors(case)
    their_x = torch.from_numpy(case.arrays()[0].astype(np.float64)).requires_grad_()
    their_target = [
        torch.from_numpy(t).double() if t.dtype == np.float32 else torch.from_numpy(t) for t in case.arrays()[1:]
    ]
    for _ in range(2):  # running statistics of the first call show in the second
        y = ours(x, *target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            their_y = theirs(their_x * 1, *their_target)  # * 1: some work in place
        np.testing.assert_allclose(y.detach().numpy(), their_y.detach().numpy(), rtol=1e-4, atol=1e-5)
    dy = np.random.default_rng(2).standard_normal(case.output).astype(np.float32)
    y.backward(engine.tensor(dy))
    their_y.backward(torch.from_numpy(np.asarray(dy, np.float64)))
    np.testing.assert_allclose(x.grad.numpy(), their_x.grad.numpy(), rtol=1e-4, atol=2e-5)
    for (name, param), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(param.grad.numpy(), other.grad.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)
    for (name, buffer), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        np.testing.assert_allclose(buffer.numpy(), other.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_exported_layer_has_a_row() -> None:
    exported = {name for name, value in vars(nn).items() if isinstance(value, type) and issubclass(value, nn.Module)}
    without_forward = {"Chain", "Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList"}
    assert exported - without_forward == {case.name for case in CASES}


# ---- initial values


@pytest.mark.parametrize("make", ["Conv2d(16, 64, 5)", "ConvTranspose2d(64, 16, 5)", "Linear(400, 64)"])
def test_initial_values_are_uniform_in_the_bound_of_torch(make: str) -> None:
    module = eval(f"nn.{make}")
    fan_in = np.prod(module.weight.shape[1:])
    for value in (module.weight, module.bias):
        array = value.detach().numpy() * np.sqrt(fan_in)
        assert np.abs(array).max() <= 1 + 1e-6
        assert np.abs(array).max() > 0.8
        assert abs(array.mean()) < 4 / np.sqrt(3 * array.size)
        assert array.std() == pytest.approx(1 / np.sqrt(3), rel=4 / np.sqrt(array.size))


def test_seed_decides_initial_values() -> None:
    def draw(seed: int) -> np.ndarray:
        engine.manual_seed(seed)
        return nn.Linear(5, 4).weight.detach().numpy().copy()

    np.testing.assert_array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


# ---- dropout


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Dropout(0.3), (50, 40, 5, 4)),
        (nn.Dropout2d(0.3), (60, 50, 3, 2)),
        (nn.StochasticDepth(0.3, "row"), (4000, 2)),
    ],
    ids=["Dropout", "Dropout2d", "StochasticDepth"],
)
def test_dropout_keeps_the_mean(module: nn.Module, shape: tuple[int, ...]) -> None:
    x = engine.ones(*shape, requires_grad=True)
    y = module(x)
    values = y.detach().numpy()
    scaled = np.float32(1 / 0.7)
    assert set(np.unique(values)) <= {np.float32(0), np.unique(values)[-1]}
    np.testing.assert_allclose(values.max(), scaled, rtol=1e-6)
    assert (values == 0).mean() == pytest.approx(0.3, abs=0.04)
    if isinstance(module, nn.Dropout2d):
        assert (values == values[:, :, :1, :1]).all()
    if isinstance(module, nn.StochasticDepth):
        assert (values == values[:, :1]).all()
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), values)
    assert not np.array_equal(values, module(x).detach().numpy())


def test_dropout_at_the_ends() -> None:
    x = engine.ones(3, 4)
    assert float(nn.Dropout(1.0)(x).sum()) == 0
    assert float(nn.Dropout(0.0)(x).sum()) == 12


# ---- what bad arguments get


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), "groups must be a positive integer"),
        (lambda: nn.Conv2d(4, 4, 0), "kernel_size must be positive"),
        (lambda: nn.Conv2d(4, 4, 3, stride=0), "stride must be positive"),
        (lambda: nn.Conv2d(4, 4, 3, dilation=0), "dilation must be positive"),
        (lambda: nn.Conv2d(4, 4, 3, stride=2, padding="same"), "not supported for strided"),
        (lambda: nn.Conv2d(4, 4, 3, padding="full"), "Invalid padding string"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="mirror"), "padding_mode must be one of"),
        (lambda: nn.ConvTranspose2d(4, 4, 3, padding_mode="reflect"), 'Only "zeros" padding mode'),
        (lambda: nn.GroupNorm(4, 6), "num_channels must be divisible by num_groups"),
        (lambda: nn.Dropout(1.5), "between 0 and 1"),
        (lambda: nn.StochasticDepth(0.5, "column"), "mode has to be either"),
        (lambda: nn.Hardtanh(1.0, 1.0), "max_val must be larger"),
        (lambda: nn.GELU("fast"), "approximate must be"),
        (lambda: nn.MSELoss(reduction="average"), "reduction must be one of"),
        (lambda: nn.ZeroPad2d((1, 2)), "left, right, top, bottom"),
        (lambda: nn.BatchNorm2d(3)(engine.zeros(2, 3)), "expected 4D input"),
        (lambda: nn.BatchNorm1d(3)(engine.zeros(2, 3, 4, 4)), "expected 2D or 3D input"),
        (lambda: nn.Conv2d(64, 8, 3)(engine.zeros(8, 32, 56, 56)), "64"),
        (lambda: nn.Conv2d(3, 8, 9)(engine.zeros(1, 3, 5, 5)), "conv2d"),
        (lambda: nn.Linear(6, 4)(engine.zeros(2, 5)), "6"),
        (lambda: nn.ConvTranspose2d(2, 2, 3, stride=2)(engine.zeros(1, 2, 4, 4), (20, 20)), "requested an output size"),
    ],
)
def test_bad_arguments(make: Any, message: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=message):
        make()


def test_conv_transpose_output_size() -> None:
    down = nn.Conv2d(2, 2, 3, stride=2, padding=1)
    up = nn.ConvTranspose2d(2, 2, 3, stride=2, padding=1)
    for size in (7, 8):
        x = engine.zeros(1, 2, size, size)
        assert up(down(x), output_size=x.shape).shape == x.shape


def test_batch_norm_loads_checkpoints_without_a_count() -> None:
    state = nn.BatchNorm2d(3).state_dict()
    del state["num_batches_tracked"]
    assert nn.BatchNorm2d(3).load_state_dict(state) == ([], [])


def test_return_indices() -> None:
    x = engine.tensor(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4))
    _, indices = nn.MaxPool2d(2, return_indices=True)(x)
    assert indices.flatten().tolist() == [5, 7, 13, 15]
    _, indices = nn.AdaptiveMaxPool2d(1, return_indices=True)(x)
    assert indices.flatten().tolist() == [15]


# ---- the first model


def test_lenet5() -> None:
    model = engine.models.get_model("LeNet5", in_chans=3, num_classes=7)
    assert list(model.state_dict()) == [
        f"{prefix}.{name}"
        for prefix in ("features.0", "features.3", "classifier.0", "classifier.2", "classifier.4")
        for name in ("weight", "bias")
    ]
    assert model(engine.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert sum(param.numel() for param in engine.models.LeNet5().parameters()) == 61706
    with pytest.raises(ValueError, match="did you mean lenet5"):
        engine.models.get_model("lenet")


def test_model_registry() -> None:
    assert "lenet5" in engine.models.list_models()
    assert "lenet5" in engine.models.list_models(include=["LeNet*", "x*"])
    assert "lenet5" not in engine.models.list_models(exclude="lenet?")
    with pytest.raises(ValueError, match="already registered"):
        engine.models.register_model("lenet5")(engine.models.lenet5)
