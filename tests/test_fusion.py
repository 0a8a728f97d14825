"""Layers that run together give what the layers one by one give, and hooks, subclasses and changed weights are seen."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import engine
from engine import functional as F, models, nn
from engine.tensor import Tensor

ACTIVATIONS = (None, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU)


def one_by_one(modules: Any, x: Tensor, residual: Tensor | None = None, activation: nn.Module | None = None) -> Tensor:
    for module in modules:
        x = module(x)
    if residual is not None:
        x = x + residual
    return x if activation is None else activation(x)


def scrambled(module: nn.Module, seed: int = 0) -> nn.Module:
    """With norms that do something."""
    engine.manual_seed(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            for tensor, low, high in ((m.weight, 0.5, 1.5), (m.bias, -0.5, 0.5), (m.running_mean, -0.5, 0.5)):
                assert tensor is not None
                engine.init.uniform_(tensor, low, high)
            assert m.running_var is not None
            engine.init.uniform_(m.running_var, 0.5, 2.0)
    return module


def results(call: Any, modules: nn.Module, x: Tensor, residual: Tensor | None) -> dict[str, np.ndarray]:
    tensors = {"x": x, **({"residual": residual} if residual is not None else {}), **dict(modules.named_parameters())}
    for t in tensors.values():
        t.grad = None
    y = call()
    engine.manual_seed(5)
    (y * engine.randn(*y.shape)).sum().backward()
    found = {f"gradient of {k}": np.array(t.grad.numpy()) for k, t in tensors.items() if t.grad is not None}
    found |= {k: np.array(t.detach().numpy()) for k, t in modules.named_buffers()}
    return {"y": np.array(y.detach().numpy()), **found}


def close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Sums of terms of order one: those that cancel (a bias ahead of a norm) keep the terms' rounding.
        scale = float(np.abs(value).max(initial=1.0))
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=5e-6 * scale, err_msg=name)


def body(kind: str, bias: bool = False) -> nn.Sequential:
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=2 if kind == "grouped" else 1, bias=bias)
    return nn.Sequential(*([conv] if kind == "conv" else [conv, nn.BatchNorm2d(6)]))


@pytest.mark.parametrize("kind", ["conv", "conv and norm", "grouped"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.__name__ if a else "none")
@pytest.mark.parametrize("with_residual", [False, True])
def test_together_as_one_by_one(kind: str, training: bool, activation: Any, with_residual: bool) -> None:
    engine.manual_seed(1)
    modules = scrambled(body(kind, bias=with_residual)).train(training)
    x = engine.randn(3, 6, 7, 5, requires_grad=True)
    residual = engine.randn(3, 6, 7, 5, requires_grad=True) if with_residual else None
    last = activation() if activation else None
    reference = copy.deepcopy(modules)
    found = results(lambda: nn.run(modules, x, residual, last), modules, x, residual)
    expected = results(lambda: one_by_one(reference, x, residual, last), reference, x, residual)
    close(found, expected)
    with engine.no_grad():
        y = nn.run(modules, x, residual, last).numpy()
        close({"y": y}, {"y": one_by_one(reference, x, residual, last).numpy()})


def test_sequences_inside_sequences_and_identities() -> None:
    inner = nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU())
    model = scrambled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), inner, nn.Flatten())).eval()
    x = engine.randn(2, 3, 6, 6)
    with engine.no_grad():
        expected = one_by_one([model[0], *inner, model[3]], x).numpy()
        close({"y": model(x).numpy()}, {"y": expected})


def test_hooks_see_what_passes() -> None:
    model: Any = scrambled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).eval()
    x = engine.randn(2, 3, 6, 6)
    with engine.no_grad():
        expected = model(x).numpy()
        for i in range(3):
            seen: list[Any] = []
            handle = model[i].register_forward_hook(lambda m, a, y, seen=seen: seen.append(y.numpy()))
            close({"y": model(x).numpy()}, {"y": expected})
            close({"y": seen[0]}, {"y": one_by_one(list(model)[: i + 1], x).numpy()})
            handle.remove()
    block = models.resnet18(num_classes=2).layer1[0].eval()
    outputs: list[Tensor] = []
    block.bn2.register_forward_hook(lambda m, a, y: outputs.append(y))
    block(engine.randn(1, 64, 5, 5))
    assert len(outputs) == 1


def test_subclasses_and_replaced_forwards_are_called() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2

    conv, x = nn.Conv2d(3, 4, 3), engine.randn(2, 3, 6, 6)
    plain, doubled = (nn.Sequential(conv, norm, nn.ReLU()).eval() for norm in (nn.BatchNorm2d(4), Doubled(4)))
    with engine.no_grad():
        close({"y": doubled(x).numpy()}, {"y": plain(x).numpy() * 2})
        plain[1].forward = lambda input: input * 0 - 1  # type: ignore[method-assign]
        assert not plain(x).numpy().any()


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"])
def test_folded_weights_follow_every_change(name: str) -> None:
    engine.manual_seed(2)
    model = scrambled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).eval()
    x = engine.randn(2, 3, 6, 6)
    tensor = {**dict(model.named_parameters()), **dict(model.named_buffers())}[name]

    def check() -> None:
        close({"y": model(x).numpy()}, {"y": one_by_one(list(model), x).numpy()})

    with engine.no_grad():
        check()
        tensor.mul_(1.5)
        check()
        model.load_state_dict({**model.state_dict(), name: tensor * 2})
        check()
        view = tensor.detach().numpy()  # from now on it can be written to unseen
        check()
        view *= 0.5
        check()


def test_training_between_evaluations_is_seen() -> None:
    engine.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1)
    x, target = engine.randn(4, 3, 6, 6), engine.tensor([0, 1, 0, 1])
    for _ in range(3):
        model.eval()
        with engine.no_grad():
            close({"y": model(x).numpy()}, {"y": one_by_one(list(model), x).numpy()})
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()


def test_a_norm_that_does_not_fit_is_reported() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(1)).eval()
    with engine.no_grad(), pytest.raises(ValueError, match="batch_norm"):
        model(engine.zeros(1, 3, 5, 5))
    with engine.no_grad(), pytest.raises(ValueError, match="expected 4D input"):
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()(engine.zeros(3, 5, 5))


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "mnasnet0_5"],
)
def test_networks_evaluate_as_they_did(name: str) -> None:
    """A hook on every norm stops all that runs together."""
    model = scrambled(getattr(models, name)(num_classes=5)).eval()
    x = engine.randn(2, 3, 64, 64)
    with engine.no_grad():
        found = model(x).numpy()
        for module in model.modules():
            if not list(module.children()):
                module.register_forward_hook(lambda m, a, y: None)
        expected = model(x).numpy()
    assert float(np.abs(found - expected).max()) <= 1e-5 * float(np.abs(expected).max())


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.__name__ if a else "none")
@pytest.mark.parametrize("training", [True, False])
def test_norm_before_a_convolution(activation: Any, training: bool) -> None:
    """Norm, activation, padded convolution, norm: the zeros of the padding stay zeros."""
    between = [activation()] if activation else []
    modules = nn.Sequential(nn.BatchNorm2d(5), *between, nn.Conv2d(5, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
    scrambled(modules).train(training)
    x, residual = engine.randn(2, 5, 7, 6, requires_grad=True), engine.randn(2, 6, 7, 6, requires_grad=True)
    reference = copy.deepcopy(modules)
    for added in (None, residual):
        found = results(lambda: nn.run(modules, x, added, nn.ReLU()), modules, x, added)  # noqa: B023
        close(found, results(lambda: one_by_one(reference, x, added, nn.ReLU()), reference, x, added))  # noqa: B023
        with engine.no_grad():
            y = nn.run(modules, x, added, nn.ReLU()).numpy()
            close({"y": y}, {"y": one_by_one(reference, x, added, nn.ReLU()).numpy()})


def test_a_norm_before_a_convolution_follows_every_change() -> None:
    modules: Any = scrambled(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))).eval()
    x = engine.randn(2, 4, 5, 5)
    with engine.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            for _ in range(2):
                close({"y": modules(x).numpy()}, {"y": one_by_one(modules, x).numpy()})
                getattr(modules[0], name).add_(0.25)
        with pytest.raises(ValueError, match=r"expected weight of shape \(5,\), got \(4,\)"):
            nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(5, 3, 1)).eval()(engine.randn(2, 5, 3, 3))


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
def test_prologue_with_and_without_gradients(activation: str) -> None:
    x, w = engine.randn(2, 3, 5, 5, requires_grad=True), engine.randn(4, 3, 3, 3, requires_grad=True)
    scale, shift = engine.randn(3, requires_grad=True), engine.randn(3, requires_grad=True)
    tensors = (x, w, scale, shift)

    def explicit() -> Tensor:
        seen = x * scale.reshape(1, 3, 1, 1) + shift.reshape(1, 3, 1, 1)
        seen = seen if activation == "none" else getattr(F, activation)(seen)
        return F.conv2d(seen, w, padding=1)

    def fused() -> Tensor:
        return F.conv2d_act(x, w, padding=1, prologue=(scale, shift, activation))

    found = []
    for call in (explicit, fused):
        y = call()
        (y * y).sum().backward()
        found.append({str(i): np.array(t.grad.numpy()) for i, t in enumerate(tensors) if t.grad is not None})
        assert len(found[-1]) == 4
        for t in tensors:
            t.grad = None
        with engine.no_grad():
            found[-1]["y"] = call().numpy()
            found[-1]["one image"] = call()[0].numpy()
    with engine.no_grad():
        alone = F.conv2d_act(x[0], w, padding=1, prologue=(scale, shift, activation)).numpy()
    close(found[1], found[0])
    close({"one image": alone}, {"one image": found[0]["one image"]})


@pytest.mark.parametrize("make", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.GELU, nn.Identity])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (6,), (3, 600)])
def test_linear_with_activation(make: Any, shape: tuple[int, ...]) -> None:
    """One pass, also where a large weight is read in place."""
    layers = nn.Sequential(nn.Linear(shape[-1], 500 if shape[-1] == 600 else 5), make())
    x = engine.randn(*shape, requires_grad=True)
    found = results(lambda: layers(x), layers, x, None)
    close(found, results(lambda: one_by_one(list(layers), x), layers, x, None))
    with engine.no_grad():
        close({"y": layers(x).numpy()}, {"y": one_by_one(list(layers), x).numpy()})


def test_linear_with_an_activation_that_is_not_known() -> None:
    with pytest.raises(ValueError, match=r"\[linear\] expected activation none, relu.*got 'gelu'"):
        F.linear_act(engine.ones(2, 3), engine.ones(4, 3), activation="gelu")


def test_interleaved_tensors_must_be_alike() -> None:
    a = engine.ones(1, 2, 3, 3)
    for tensors in ([], [a, a[:, :1]], [a[0], a[0]]):
        with pytest.raises(ValueError, match=r"\[interleave\] expected tensors \(N, C, H, W\) of one shape"):
            F.interleave(tensors)
    with pytest.raises(TypeError, match=r"\[interleave\] expected float32"):
        F.interleave([a, a.long()])
