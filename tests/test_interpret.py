"""What a network looks at: against formulas, and without leaving traces."""

from __future__ import annotations

import numpy as np
import pytest

import engine
from engine import interpret, nn


def picture(count: int = 2, channels: int = 1, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, channels, side, side), np.float32)


class Corners(nn.Module):
    """Scores are the means of the left and of the right half of what a 1x1 convolution lets through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        with engine.no_grad():
            self.conv.weight.copy_(engine.tensor([[[[1.0]]], [[[-1.0]]]]))

    def forward(self, x):
        x = self.norm(self.conv(x)).relu()
        return engine.stack([x[:, :, :, :4].mean((1, 2, 3)), x[:, :, :, 4:].mean((1, 2, 3))], 1)


def test_grad_cam_is_the_formula() -> None:
    """With pooling and one linear layer the gradient is the layer's row: Grad-CAM is the class activation map."""
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)
    )
    images = picture(3, 3, 8)
    maps = interpret.activations(model, images, ["1"])["1"]
    for targets in (2, [0, 3, 1]):
        rows = model[4].weight.detach().numpy()[np.broadcast_to(targets, 3)]
        want = np.maximum(np.einsum("nc,nchw->nhw", rows, maps), 0)
        want /= np.maximum(want.max(axis=(1, 2), keepdims=True), 1e-12)
        # sums of 5 products of numbers below 1, divided by their maximum
        np.testing.assert_allclose(interpret.grad_cam(model, images, targets, layer="1"), want, atol=2e-5)


def test_grad_cam_finds_the_place() -> None:
    images = np.zeros((2, 1, 8, 8), np.float32)
    images[0, 0, 2, 1] = images[1, 0, 5, 6] = 1
    model = Corners().eval()
    heat = interpret.grad_cam(model, images, [0, 1], layer="conv")
    assert [np.unravel_index(one.argmax(), one.shape) for one in heat] == [(2, 1), (5, 6)]
    assert heat.max() == 1


def test_saliency_is_the_gradient() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    images = picture(2, 3, 2)
    want = np.abs(model[1].weight.detach().numpy()[1].reshape(3, 2, 2)).max(axis=0)
    got = interpret.saliency(model, images, targets=1)
    np.testing.assert_allclose(got, np.stack([want, want]) / want.max(), rtol=1e-6)
    # The gradient of a linear model does not depend on the input, and so not on noise.
    np.testing.assert_allclose(interpret.saliency(model, images, 1, samples=3), got, rtol=1e-6)


def test_saliency_with_noise_depends_on_the_seed_only() -> None:
    model, images = engine.models.lenet5(), picture()
    calm = interpret.saliency(model, images, samples=4)
    np.testing.assert_array_equal(calm, interpret.saliency(model, images, samples=4))
    assert not np.array_equal(calm, interpret.saliency(model, images, samples=4, seed=1))
    assert calm.dtype == np.float32 and calm.shape == (2, 32, 32)


def test_images_do_not_influence_each_other() -> None:
    model, images = engine.models.lenet5(), picture(3)
    for explain in (interpret.grad_cam, interpret.saliency):
        together = explain(model, images)
        for i in range(3):
            np.testing.assert_allclose(together[i], explain(model, images[i : i + 1])[0], atol=1e-5)


@pytest.mark.parametrize("name", ["lenet5", "resnet18", "squeezenet1_1", "mobilenet_v2", "googlenet"])
def test_models_know_their_last_maps(name: str) -> None:
    model = engine.models.get_model(name, num_classes=3)
    images = picture(1, 1 if name == "lenet5" else 3, 32 if name == "lenet5" else 64)
    heat = interpret.grad_cam(model, images, 1)
    assert heat.shape == (1, *images.shape[2:])
    assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1
    assert interpret.first_filters(model).ndim == 4
    assert interpret.saliency(model, images).max() == 1


def test_body_and_last_layer_give_the_same_map() -> None:
    model, images = engine.models.resnet18(num_classes=4), picture(1, 3, 64)
    np.testing.assert_allclose(
        interpret.grad_cam(model, images, 2), interpret.grad_cam(model, images, 2, layer="layer4"), atol=1e-5
    )


def test_nothing_is_left_behind() -> None:
    model, images = engine.models.resnet18(num_classes=3), picture(2, 3, 32)
    model.train()
    model.layer1.eval()
    model.fc.weight.requires_grad_(False)
    model(engine.tensor(images)).sum().backward()
    modes = [module.training for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    grads = [None if p.grad is None else p.grad.numpy().copy() for p in model.parameters()]
    with engine.no_grad():  # recording is switched on where it is needed
        interpret.grad_cam(model, images)
        interpret.grad_cam(model, images, layer="layer2")
        interpret.saliency(model, images)
        interpret.activations(model, images, ["layer1"])
        assert not engine.is_grad_enabled()
    with pytest.raises(ValueError, match="targets"):
        interpret.grad_cam(model, images, targets=3, layer="layer1")
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(np.array_equal(state[name], value.numpy()) for name, value in model.state_dict().items())
    for before, parameter in zip(grads, model.parameters(), strict=True):
        assert parameter.grad is None if before is None else np.array_equal(before, parameter.grad.numpy())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


def test_activations_in_the_order_asked_for() -> None:
    model, images = engine.models.lenet5(), picture()
    maps = interpret.activations(model, engine.tensor(images), ["classifier.4", "features.0"])
    assert list(maps) == ["classifier.4", "features.0"]
    with engine.no_grad():
        np.testing.assert_array_equal(maps["classifier.4"], model(engine.tensor(images)).numpy())
        np.testing.assert_array_equal(maps["features.0"], model.features[0](engine.tensor(images)).numpy())


def test_wrong_arguments_say_what_was_expected() -> None:
    model, images = engine.models.lenet5(), picture()
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(1800, 2))
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\)"):
        interpret.grad_cam(model, images[0])
    with pytest.raises(ValueError, match=r"0\.\.9"):
        interpret.saliency(model, images, targets=10)
    with pytest.raises(ValueError, match="one per image"):
        interpret.saliency(model, images, targets=[1, 2, 3])
    with pytest.raises(ValueError, match="at least one sample"):
        interpret.saliency(model, images, samples=0)
    with pytest.raises(ValueError, match="the last one with"):
        interpret.grad_cam(plain, images)
    with pytest.raises(ValueError, match="feature maps"):
        interpret.grad_cam(plain, images, layer="2")
    with pytest.raises(AttributeError):
        interpret.grad_cam(model, images, layer="nowhere")
    with pytest.raises(AttributeError):
        interpret.activations(model, images, ["nowhere"])
    with pytest.raises(ValueError, match="four dimensions"):
        interpret.first_filters(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="classes"):
        interpret.saliency(nn.Conv2d(1, 1, 1), images)
    unused = nn.Sequential(nn.Flatten(), nn.Linear(1024, 2))
    unused[1].spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match="did not run"):
        interpret.activations(unused, images, ["1.spare"])
    with pytest.raises(ValueError, match="to run"):
        interpret.grad_cam(unused, images, layer="1.spare")
