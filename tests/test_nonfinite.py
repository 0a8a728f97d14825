"""NaN and infinity go where PyTorch lets them go, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from execution import ISAS, running

import engine
from engine import functional as F

NAN, INF = float("nan"), float("inf")
SIZES = (1, 5, 16, 33)  # a lone lane, a tail, a full vector, both

X = [NAN, INF, -INF, 0.0, 2.0]
# op: call, results for X as PyTorch 2 gives them; but gelu(inf) is inf, where its vectorised code gives NaN.
CURVES: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "relu": (F.relu, [NAN, INF, 0, 0, 2]),
    "relu6": (F.relu6, [NAN, 6, 0, 0, 2]),
    "leaky_relu": (F.leaky_relu, [NAN, INF, -INF, 0, 2]),
    "elu": (F.elu, [NAN, INF, -1, 0, 2]),
    "silu": (F.silu, [NAN, INF, NAN, 0, 1.7615942]),
    "gelu": (F.gelu, [NAN, INF, NAN, 0, 1.9544997]),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), [NAN, INF, NAN, 0, 1.9545977]),
    "mish": (F.mish, [NAN, INF, NAN, 0, 1.9439590]),
    "sigmoid": (F.sigmoid, [NAN, 1, 0, 0.5, 0.8807971]),
    "tanh": (F.tanh, [NAN, 1, -1, 0, 0.9640276]),
    "softplus": (F.softplus, [NAN, INF, 0, 0.6931472, 2.1269281]),
    "logsigmoid": (F.logsigmoid, [NAN, 0, -INF, -0.6931472, -0.12692802]),
    "softsign": (F.softsign, [NAN, NAN, NAN, 0, 2 / 3]),
    "hardtanh": (F.hardtanh, [NAN, 1, -1, 0, 1]),
    "hardsigmoid": (F.hardsigmoid, [NAN, 1, 0, 0.5, 5 / 6]),
    "hardswish": (F.hardswish, [NAN, INF, NAN, 0, 5 / 3]),
    "clamp": (lambda x: x.clamp(-1.0, 1.0), [NAN, 1, -1, 0, 1]),
    "exp": (lambda x: x.exp(), [NAN, INF, 0, 1, 7.3890561]),
    "log": (lambda x: x.log(), [NAN, INF, NAN, -INF, 0.6931472]),
    "log1p": (lambda x: x.log1p(), [NAN, INF, NAN, 0, 1.0986123]),
    "expm1": (lambda x: x.expm1(), [NAN, INF, -1, 0, 6.3890561]),
    "sqrt": (lambda x: x.sqrt(), [NAN, INF, NAN, 0, 1.4142136]),
    "rsqrt": (lambda x: x.rsqrt(), [NAN, 0, NAN, INF, 0.70710678]),
    "reciprocal": (lambda x: x.reciprocal(), [NAN, 0, 0, INF, 0.5]),
    "abs": (lambda x: x.abs(), [NAN, INF, INF, 0, 2]),
    "sin": (lambda x: x.sin(), [NAN, NAN, NAN, 0, 0.90929743]),
    "cos": (lambda x: x.cos(), [NAN, NAN, NAN, 1, -0.41614684]),
    "erf": (lambda x: x.erf(), [NAN, 1, -1, 0, 0.99532227]),
    "floor": (lambda x: x.floor(), [NAN, INF, -INF, 0, 2]),
    "round": (lambda x: x.round(), [NAN, INF, -INF, 0, 2]),
    "square": (lambda x: x.square(), [NAN, INF, INF, 0, 4]),
}


@pytest.mark.parametrize("op", list(CURVES))
def test_elementwise(op: str) -> None:
    call, want = CURVES[op]
    for isa in ISAS:
        with running(isa):
            for size in SIZES:
                for i, value in enumerate(X):
                    got = call(engine.full((size,), value)).numpy()
                    np.testing.assert_allclose(got, np.full(size, want[i]), rtol=1e-6, err_msg=f"{value} {size} {isa}")


@pytest.mark.parametrize("op", ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "elu", "hardtanh", "gelu", "silu"])
def test_nan_gradients_stay_nan(op: str) -> None:
    """A NaN that comes back down the tape is not lost, wherever x lies inside the active range."""
    for isa in ISAS:
        with running(isa):
            x = engine.full((33,), 0.5, requires_grad=True)
            CURVES[op][0](x).backward(engine.full((33,), NAN))
            assert np.isnan(x.grad.numpy()).all(), isa


def test_maximum_and_minimum_take_nan_from_either_side() -> None:
    for isa in ISAS:
        with running(isa):
            for size in SIZES:
                one, nan = engine.ones(size), engine.full((size,), NAN)
                for pick in (engine.maximum, engine.minimum):
                    assert np.isnan(pick(one, nan).numpy()).all() and np.isnan(pick(nan, one).numpy()).all(), isa


@pytest.mark.parametrize("where", [0, 7, 15, 16, 32])
def test_reductions(where: int) -> None:
    x = np.linspace(-1, 1, 33, dtype=np.float32)
    x[where] = NAN
    for isa in ISAS:
        with running(isa):
            for axis in (0, 1):
                t = engine.tensor(np.repeat(x[None], 3, axis=0) if axis else np.repeat(x[:, None], 3, axis=1))
                for name in ("sum", "mean", "amax", "amin", "prod"):
                    got = getattr(t, name)(axis).numpy()
                    assert got.shape == (3,) and np.isnan(got).all(), f"{name} along {axis} on {isa}"
                values, indices = t.max(axis)
                assert np.isnan(values.numpy()).all() and (indices.numpy() == where).all(), isa
                assert (t.argmax(axis).numpy() == where).all() and (t.argmin(axis).numpy() == where).all(), isa
            assert np.isnan(engine.tensor(x).max().item()) and np.isnan(engine.tensor(x).min().item())


def test_infinities_in_reductions() -> None:
    for isa in ISAS:
        with running(isa):
            x = engine.tensor([[1.0, INF, 2.0], [-INF, 1.0, 2.0], [INF, -INF, 1.0]])
            np.testing.assert_array_equal(x.sum(1).numpy(), [INF, -INF, NAN])
            np.testing.assert_array_equal(x.amax(1).numpy(), [INF, 2, INF])
            np.testing.assert_array_equal(x.amin(1).numpy(), [1, -INF, -INF])


@pytest.mark.parametrize("channels", SIZES)
def test_pools(channels: int) -> None:
    x = np.zeros((1, channels, 6, 6), dtype=np.float32)
    x[:, :, 1, 1], x[:, :, 1, 4], x[:, :, 4, 1] = NAN, INF, -INF
    x[:, :, 3:, :3] = -INF  # a window of nothing but -inf
    for isa in ISAS:
        with running(isa):
            t = engine.tensor(x, requires_grad=True)
            y, index = F.max_pool2d(t, 3, return_indices=True)
            want = np.array([[NAN, INF], [-INF, 0.0]])
            np.testing.assert_array_equal(y.detach().numpy(), np.broadcast_to(want, (1, channels, 2, 2)), err_msg=isa)
            assert (index.numpy()[:, :, 0, 0] == 7).all() and (index.numpy()[:, :, 0, 1] == 10).all(), isa
            assert (index.numpy() >= 0).all() and (index.numpy() < 36).all(), isa
            y.sum().backward()
            assert t.grad is not None and t.grad.numpy().sum() == 4 * channels, isa
            adaptive = F.adaptive_max_pool2d(engine.tensor(x), 2).numpy()
            np.testing.assert_array_equal(adaptive, np.broadcast_to(want, (1, channels, 2, 2)), err_msg=isa)
            average = F.avg_pool2d(engine.tensor(x), 3).numpy()
            np.testing.assert_array_equal(average[0, 0], [[NAN, INF], [-INF, 0.0]], err_msg=isa)
            padded = F.max_pool2d(engine.full((1, channels, 4, 4), -INF), 3, stride=2, padding=1).numpy()
            assert (padded == -INF).all(), isa


def test_softmax() -> None:
    for isa in ISAS:
        with running(isa):
            for size in (2, 17):
                x = np.zeros((4, size), dtype=np.float32)
                x[0, 1], x[1, 1], x[2, 1] = NAN, INF, -INF
                x[3] = -INF
                y = F.softmax(engine.tensor(x), 1).numpy()
                assert np.isnan(y[0]).all(), isa
                assert np.isnan(y[1, 1]), isa  # inf / inf, as PyTorch
                np.testing.assert_allclose(y[2], np.where(np.arange(size) == 1, 0, 1 / (size - 1)), rtol=1e-6)
                assert np.isnan(y[3]).all(), isa
                z = F.log_softmax(engine.tensor(x), 1).numpy()
                assert np.isnan(z[0]).all() and np.isnan(z[3]).all(), isa
                assert z[2, 1] == -INF and np.isfinite(np.delete(z[2], 1)).all(), isa


@pytest.mark.parametrize("channels", SIZES)
def test_normalisation(channels: int) -> None:
    """A NaN spoils its channel (batch norm), its row (layer norm), its group (group norm), and nothing else."""
    x = np.random.default_rng(0).standard_normal((2, 2 * channels, 3, 3)).astype(np.float32)
    x[0, 0, 1, 1] = NAN
    for isa in ISAS:
        with running(isa):
            t = engine.tensor(x)
            batch = np.isnan(F.batch_norm(t, None, None, training=True).numpy())
            assert batch[:, 0].all() and not batch[:, 1:].any(), isa
            group = np.isnan(F.group_norm(t, 2).numpy())
            assert group[0, :channels].all() and not group[0, channels:].any() and not group[1].any(), isa
            layer = np.isnan(F.layer_norm(t, (3,)).numpy())
            assert layer[0, 0, 1].all() and layer.sum() == 3, isa
            mean, var = engine.zeros(2 * channels), engine.ones(2 * channels)
            F.batch_norm(t, mean, var, training=True)
            assert np.isnan(mean.numpy()).tolist() == [True] + [False] * (2 * channels - 1), isa
            assert np.isnan(var.numpy()).tolist() == [True] + [False] * (2 * channels - 1), isa


@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("value", [NAN, INF])
def test_convolution(channels: int, value: float) -> None:
    """One bad pixel reaches exactly the outputs that see it, and 0 * NAN is NaN."""
    x = np.ones((1, channels, 7, 7), dtype=np.float32)
    x[0, channels // 2, 3, 3] = value
    for isa in ISAS:
        with running(isa):
            for groups in (1, channels):
                w = engine.ones(channels, channels // groups, 3, 3)
                y = F.conv2d(engine.tensor(x), w, padding=1, groups=groups).numpy()
                bad = ~np.isfinite(y)
                seen = np.zeros((1, channels, 7, 7), dtype=bool)
                seen[:, :, 2:5, 2:5] = True
                if groups > 1:
                    seen[:, np.arange(channels) != channels // 2] = False
                np.testing.assert_array_equal(bad, seen, err_msg=f"groups {groups} {isa}")
            zeros = F.conv2d(engine.tensor(x), engine.zeros(channels, channels, 3, 3), padding=1).numpy()
            assert np.isnan(zeros[0, :, 2:5, 2:5]).all() and np.isfinite(zeros).sum() == zeros.size - 9 * channels, isa


@pytest.mark.parametrize("value", [NAN, INF])
def test_convolution_of_large_images(value: float) -> None:
    """The same where an algorithm that works on tiles of pixels would be chosen: a tile must not spread what one pixel
    holds over outputs that do not see it, nor turn infinity into NaN."""
    x = np.ones((4, 32, 21, 21), dtype=np.float32)
    x[1, 5, 9, 10] = value
    seen = np.zeros((4, 32, 21, 21), dtype=bool)
    seen[1, :, 8:11, 9:12] = True
    for isa in ISAS:
        with running(isa):
            t = engine.tensor(x, requires_grad=True)
            w = engine.ones(32, 32, 3, 3, requires_grad=True)
            y = F.conv2d(t, w, padding=1)
            np.testing.assert_array_equal(~np.isfinite(y.detach().numpy()), seen, err_msg=f"forward on {isa}")
            assert np.isnan(y.detach().numpy()[seen]).all() == np.isnan(value), f"forward on {isa}"
            y.backward(engine.tensor(x))
            np.testing.assert_array_equal(~np.isfinite(t.grad.numpy()), seen, err_msg=f"gradient of the input on {isa}")
            finite = np.isfinite(w.grad.numpy())
            assert not finite[5].any() and not finite[:, 5].any(), f"gradient of the weight on {isa}"
            assert np.delete(np.delete(finite, 5, 0), 5, 1).all(), f"gradient of the weight on {isa}"


def test_matrix_products() -> None:
    for isa in ISAS:
        with running(isa):
            a = np.ones((5, 33), dtype=np.float32)
            a[2, 32] = NAN
            y = (engine.tensor(a) @ engine.zeros(33, 17)).numpy()
            assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, axis=0)).all(), isa
            y = F.linear(engine.tensor(a), engine.ones(17, 33)).numpy()
            assert np.isnan(y[2]).all() and np.isfinite(np.delete(y, 2, axis=0)).all(), isa


def test_losses() -> None:
    x = engine.tensor([[1.0, NAN, 0.0], [0.0, 1.0, 2.0]])
    assert np.isnan(F.cross_entropy(x, engine.tensor([0, 1])).item())
    assert np.isfinite(F.cross_entropy(x, engine.tensor([-100, 1])).item())
    assert np.isnan(F.cross_entropy(x, engine.tensor([-100, -100])).item())  # the mean of nothing
    assert F.cross_entropy(x, engine.tensor([-100, -100]), reduction="sum").item() == 0.0
    assert np.isnan(F.mse_loss(x, engine.zeros(2, 3)).item())
    assert F.cross_entropy(engine.tensor([[INF, 0.0]]), engine.tensor([1]), reduction="none").isnan().numpy().all()


def test_means_of_nothing_are_nan() -> None:
    assert np.isnan(engine.zeros(0, 3).mean().item())
    assert np.isnan(engine.zeros(0, 3).mean(0).numpy()).all()
    assert engine.zeros(0, 3).sum().item() == 0.0
