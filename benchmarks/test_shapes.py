"""The shape files say what the networks are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import shapes

import engine
from engine import backend as B

# Multiply-adds in units of 10^9, as torchvision publishes them with its weights, and weights without biases and norms.
PUBLISHED = {
    "alexnet": (0.714, 61_090_496),
    "vgg16": (15.47, 138_344_128),
    "resnet18": (1.814, 11_678_912),
    "resnet50": (4.089, 25_502_912),
    "mobilenet_v2": (0.301, 3_469_760),
    "efficientnet_b0": (0.386, 5_236_192),
    "inception_v3": (5.713, 23_799_136),
    "lenet5": (0.000416, 61_470),
}


def test_every_network_is_known() -> None:
    assert set(shapes.networks()) == {*PUBLISHED, "conv15"}


@pytest.mark.parametrize("network", PUBLISHED)
def test_multiply_adds_and_weights(network: str) -> None:
    layers = shapes.load(network)
    multiply_adds, weights = PUBLISHED[network]
    assert sum(layer.flops() for layer in layers) / 2e9 == pytest.approx(multiply_adds, rel=2e-3)
    assert sum(layer.weights for layer in layers) == weights


@pytest.mark.parametrize("network", PUBLISHED)
def test_layers_are_those_of_the_model(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model asks of the backend in one forward pass, against the lines of the file."""
    seen: Counter[str] = Counter()
    conv2d, linear = B.conv2d, B.linear

    def recorded_conv2d(
        x: Any, w: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: int, *more: Any, **named: Any
    ) -> Any:
        (oc, ic, *kernel), (top, bottom, left, right) = w.shape, padding
        assert (top, left) == (bottom, right)
        pairs = (tuple(kernel), tuple(stride), (top, left), tuple(dilation))
        seen[shapes.Layer("", "conv", ic * groups, oc, *x.shape[2:], *pairs, groups).shape_key] += 1
        return conv2d(x, w, b, stride, padding, dilation, groups, *more, **named)

    def recorded_linear(x: Any, w: Any, b: Any, *more: Any) -> Any:
        seen[shapes.Layer("", "linear", w.shape[1], w.shape[0]).shape_key] += 1
        return linear(x, w, b, *more)

    monkeypatch.setattr(B, "conv2d", recorded_conv2d)
    monkeypatch.setattr(B, "linear", recorded_linear)
    layers = shapes.load(network)
    with engine.no_grad():
        engine.models.get_model(network).eval()(engine.zeros(1, layers[0].ic, layers[0].h, layers[0].w))
    assert seen == Counter(layer.shape_key for layer in layers if layer.has_weight)


@pytest.mark.parametrize("network", shapes.networks())
def test_lines_and_layers_are_one_to_one(network: str) -> None:
    for layer, count in shapes.distinct(shapes.load(network)):
        again = shapes.parse_line(f"{layer.name}: {layer.shape_key}")
        assert (again, count >= 1) == (layer, True)


@pytest.mark.parametrize(
    "line",
    [
        "conv ic3 oc4 h5 k3",
        "a: convolution ic3",
        "a: conv ic3 oc4 k3",
        "a: conv ic3 oc4 h5 k3 k3",
        "a: conv ic3 oc4 h2 k3",
    ]
    + ["a: conv ic3 oc4 h5 k3 g2", "a: linear ic3 oc4 h5", "a: conv ic3 oc4 h5 kx3"],
)
def test_malformed_lines_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="got"):
        shapes.parse_line(line)
