"""Results written beside each other are what cat makes of them, gradients included."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from test_fusion import close, one_by_one, results, scrambled

import engine
from engine import models, nn
from engine.tensor import Tensor, cat


class Branches(nn.Module):
    """Chains whose last pass can write to a place that is given, and some whose cannot."""

    def __init__(self, joined: bool) -> None:
        super().__init__()
        self.joined = joined
        self.plain = nn.Conv2d(5, 3, 1)
        self.normed = nn.Sequential(nn.Conv2d(5, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.silu = nn.Sequential(nn.Conv2d(5, 5, 3, padding=1, groups=5), nn.SiLU())
        self.norm = nn.BatchNorm2d(5)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.gelu = nn.Sequential(nn.Conv2d(5, 2, 1), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        chains = [[getattr(self, name)] for name in ("plain", "normed", "silu", "norm", "pool", "gelu")]
        chains += [[], [self.norm, self.plain, nn.ReLU6()]]
        if not self.joined:
            return cat([one_by_one(chain, x) for chain in chains], 1)
        together = nn.Concatenation(34)
        for chain in chains:
            together.add(chain, x)
        return together.tensor()


@pytest.mark.parametrize("training", [True, False])
def test_as_cat(training: bool) -> None:
    joined = scrambled(Branches(True)).train(training)
    plain: Any = copy.deepcopy(joined)
    plain.joined = False
    x = engine.randn(2, 5, 7, 6, requires_grad=True)
    close(results(lambda: joined(x), joined, x, None), results(lambda: plain(x), plain, x, None))
    with engine.no_grad():
        close({"y": joined(x).numpy()}, {"y": plain(x).numpy()})


def test_growing_results_stay() -> None:
    """A dense block: every result is a view that later ones do not change, and all of them get gradients."""
    layers = nn.ModuleList([nn.Conv2d(3 + 2 * i, 2, 3, padding=1) for i in range(4)])
    x = engine.randn(2, 3, 5, 4, requires_grad=True)

    def grown() -> Tensor:
        features = nn.Concatenation(12)
        features.add([], x)
        seen = [features.tensor()]
        for layer in layers[:3]:
            features.add([layer], features.tensor())
            seen.append(features.tensor())
        values = [np.array(t.detach().numpy()) for t in seen]
        features.add([layers[3]], features.tensor())
        for t, value in zip(seen, values, strict=True):
            assert np.array_equal(t.detach().numpy(), value)
        return features.tensor() + seen[1].sum()

    def by_cat() -> Tensor:
        y, second = x, None
        for i, layer in enumerate(layers):
            y = cat([y, layer(y)], 1)
            second = y if i == 0 else second
        assert second is not None
        return y + second.sum()

    assert grown().shape == (2, 11, 5, 4)
    close(results(grown, layers, x, None), results(by_cat, layers, x, None))


def test_place_is_used() -> None:
    """The convolution's result shares memory with the whole, the module with a hook is called and copied."""
    conv, hooked = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1)
    called: list[int] = []
    hooked.register_forward_hook(lambda m, a, y: called.append(1))
    with engine.no_grad():
        together, x = nn.Concatenation(6), engine.randn(1, 2, 4, 4)
        for module in (conv, hooked):
            together.add([module], x)
        y = together.tensor()
        assert called == [1]
        expected = cat([conv(x), hooked(x)], 1).numpy()
        np.testing.assert_array_equal(y.numpy(), expected)
        engine.backend.fill_(together._slice(0, 3), 9.0)
        assert (y.numpy()[:, :3] == 9).all() and np.array_equal(y.numpy()[:, 3:], expected[:, 3:])


def test_bad_results() -> None:
    x = engine.ones(1, 4, 6, 6)
    with pytest.raises(ValueError, match=r"\[Concatenation\] expected a result \(N, C, H, W\) of at most 3 channels"):
        nn.Concatenation(3).add([], x)
    together = nn.Concatenation(9)
    with pytest.raises(ValueError, match="expected at least one result"):
        together.tensor()
    together.add([], x)
    with pytest.raises(ValueError, match=r"of at most 5 channels, got \(1, 2, 4, 4\) beside results of shape"):
        together.add([nn.Conv2d(4, 2, 3)], x)
    with pytest.raises(ValueError, match=r"got \(6, 6\)"):
        together.add([], x[0, 0])


def test_chain_without_steps() -> None:
    with pytest.raises(NotImplementedError, match=r"\[Chain\] steps\(\) is missing"):
        nn.Chain()(engine.ones(1))


def test_a_chain_with_a_hook_is_called() -> None:
    block = models.blocks.BasicConv2d(3, 4, 1).eval()
    seen: list[Tensor] = []
    x = engine.randn(1, 3, 4, 4)
    with engine.no_grad():
        expected = nn.Sequential(block)(x).numpy()
        block.register_forward_hook(lambda m, a, y: seen.append(y))
        np.testing.assert_array_equal(nn.Sequential(block)(x).numpy(), expected)
    assert len(seen) == 1
