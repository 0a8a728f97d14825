"""Random numbers: right distribution, repeatable by seed, and dropout that scales what it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from execution import ISAS, running

import engine
from engine import functional as F

N = 200_000


def test_uniform_and_normal_have_their_moments() -> None:
    """Each bound is five standard deviations of the estimate over N draws."""
    u, z = engine.rand(N).numpy().astype(np.float64), engine.randn(N).numpy().astype(np.float64)
    assert (u >= 0).all() and (u < 1).all()
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / N)
    assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / N)
    assert abs(z.mean()) < 5 / np.sqrt(N)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / N)
    assert abs((z**3).mean()) < 5 * np.sqrt(15 / N)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / N)
    assert 3.5 < np.abs(z).max() < 7
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 5 / np.sqrt(N)
    counts = np.histogram(u, bins=64, range=(0, 1))[0]
    chi2 = ((counts - N / 64) ** 2 / (N / 64)).sum()
    assert abs(chi2 - 63) < 5 * np.sqrt(2 * 63)


def test_seeds_repeat_and_differ() -> None:
    draws = []
    for seed in (0, 0, 1, 2**63, -1):
        engine.manual_seed(seed)
        draws.append((engine.rand(50).numpy().tobytes(), engine.rand(50).numpy().tobytes()))
    assert draws[0] == draws[1]
    assert len({part for draw in draws for part in draw}) == 8


def test_state_continues_the_sequence() -> None:
    engine.rand(3)
    state = engine.get_rng_state()
    a = engine.randn(40).numpy()
    engine.set_rng_state(state)
    np.testing.assert_array_equal(engine.randn(40).numpy(), a)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("op", ["dropout", "dropout2d", "stochastic_depth"])
def test_dropout_keeps_its_share_scales_it_and_masks_the_gradient_alike(op: str, p: float) -> None:
    shape = {"dropout": (8, 17, 30, 31), "dropout2d": (80, 40, 3, 3), "stochastic_depth": (3000, 2, 3, 3)}[op]
    units = {"dropout": (), "dropout2d": (2, 3), "stochastic_depth": (1, 2, 3)}[op]
    for isa in ISAS:
        with running(isa):
            x = engine.full(shape, 3.0, requires_grad=True)
            y = F.stochastic_depth(x, p, "row") if op == "stochastic_depth" else getattr(F, op)(x, p)
            y.backward(engine.full(shape, 2.0))
            out, grad = y.detach().numpy(), x.grad.numpy()
            kept = out != 0
            scale = 1 / (1 - p) if p < 1 else 0.0
            np.testing.assert_allclose(out, kept * 3.0 * scale, rtol=1e-6)
            np.testing.assert_allclose(grad, kept * 2.0 * scale, rtol=1e-6)
            whole = kept.any(axis=units) if units else kept
            assert (kept.all(axis=units) if units else kept).sum() == whole.sum(), "a unit is dropped only in part"
            assert abs(whole.mean() - (1 - p)) <= 5 * np.sqrt(p * (1 - p) / whole.size)
            again = F.stochastic_depth(x, p, "row") if op == "stochastic_depth" else getattr(F, op)(x, p)
            if 0 < p < 1:
                assert (again.detach().numpy() != out).any(), "the same mask twice"


@pytest.mark.parametrize("op", ["dropout", "dropout2d"])
def test_dropout_does_nothing_in_evaluation(op: str) -> None:
    x = engine.randn(3, 4, 5, 6)
    np.testing.assert_array_equal(getattr(F, op)(x, 0.5, training=False).numpy(), x.numpy())
    np.testing.assert_array_equal(F.stochastic_depth(x, 0.5, "row", training=False).numpy(), x.numpy())


def test_dropout_mask_depends_on_the_position_not_on_the_layout() -> None:
    """A channel slice of a wider array gets the mask that a copy of it gets."""
    wide = engine.ones(4, 30, 9, 9)
    masks = []
    row_major = engine.from_numpy(np.ones((4, 17, 9, 9), np.float32))
    for x in (wide[:, 5:22], engine.tensor(wide[:, 5:22].numpy()), row_major):
        engine.manual_seed(3)
        masks.append(F.dropout(x, 0.4).numpy())
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])
