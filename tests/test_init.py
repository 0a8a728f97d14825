"""Initial values have the right distribution, the right bounds, and come from the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine
from engine import init

SHAPES = [(200, 300), (64, 32, 5, 5)]


def draw(fill: Callable[..., Any], shape: tuple[int, ...], *args: Any, **kwargs: Any) -> np.ndarray:
    tensor = engine.empty(*shape)
    assert fill(tensor, *args, **kwargs) is tensor
    return np.array(tensor.numpy())


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def check_moments(values: np.ndarray, mean: float, std: float) -> None:
    n = values.size
    assert values.mean() == pytest.approx(mean, abs=5 * std / math.sqrt(n))
    assert values.std() == pytest.approx(std, rel=5 / math.sqrt(n))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_uniform_and_normal(shape: tuple[int, ...]) -> None:
    values = draw(init.uniform_, shape, -1.0, 3.0)
    assert values.min() >= -1 and values.max() < 3
    check_moments(values, 1.0, 4 / math.sqrt(12))
    values = draw(init.normal_, shape, 0.5, 2.0)
    check_moments(values, 0.5, 2.0)
    assert (np.abs(values - 0.5) < 2.0).mean() == pytest.approx(0.6827, abs=0.01)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gain", [1.0, 2.5])
def test_xavier(shape: tuple[int, ...], gain: float) -> None:
    std = gain * math.sqrt(2 / sum(fans(shape)))
    values = draw(init.xavier_uniform_, shape, gain)
    check_moments(values, 0.0, std)
    assert np.abs(values).max() == pytest.approx(math.sqrt(3) * std, rel=1e-3)
    check_moments(draw(init.xavier_normal_, shape, gain), 0.0, std)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("options", [{}, {"a": math.sqrt(5)}, {"nonlinearity": "relu"}], ids=str)
def test_kaiming(shape: tuple[int, ...], mode: str, options: dict[str, Any]) -> None:
    fan = fans(shape)[mode == "fan_out"]
    std = init.calculate_gain(options.get("nonlinearity", "leaky_relu"), options.get("a", 0)) / math.sqrt(fan)
    values = draw(init.kaiming_uniform_, shape, mode=mode, **options)
    check_moments(values, 0.0, std)
    assert np.abs(values).max() == pytest.approx(math.sqrt(3) * std, rel=1e-3)
    check_moments(draw(init.kaiming_normal_, shape, mode=mode, **options), 0.0, std)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_lecun(shape: tuple[int, ...]) -> None:
    std = 1 / math.sqrt(fans(shape)[0])
    check_moments(draw(init.lecun_uniform_, shape), 0.0, std)
    values = draw(init.lecun_normal_, shape)
    check_moments(values, 0.0, std)
    assert np.abs(values).max() <= 2 * std / 0.8796


def normal_distribution(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0.0, 1.0, -2.0, 2.0), (0.0, 0.02, -2.0, 2.0), (0.5, 1.0, 0.0, 3.0), (0.0, 1.0, 1.5, 4.0), (1.0, 2.0, -0.5, 0.5)],
)
def test_trunc_normal(mean: float, std: float, a: float, b: float) -> None:
    values = draw(init.trunc_normal_, (300, 400), mean, std, a, b).ravel()
    assert a <= values.min() and values.max() <= b
    low, high = (normal_distribution((limit - mean) / std) for limit in (a, b))
    expected = np.array([normal_distribution((v - mean) / std) for v in np.sort(values)[::100]])
    expected = (expected - low) / (high - low)
    found = np.arange(0, values.size, 100) / values.size
    assert np.abs(found - expected).max() < 1.95 / math.sqrt(values.size)  # Kolmogorov-Smirnov at 0.1 %


def test_inverse_error_function() -> None:
    from engine.backend import to_numpy

    x = np.concatenate([np.linspace(-0.999, 0.999, 401), [1 - 1e-6, -1 + 1e-6, 0.0]]).astype(np.float32)
    y = to_numpy(init._erfinv(engine.tensor(x).data)).astype(np.float64)
    back = np.array([math.erf(v) for v in y])
    np.testing.assert_allclose(back, x, rtol=3e-6, atol=1e-7)


def test_trunc_normal_warns_far_from_the_mean() -> None:
    with pytest.warns(UserWarning, match="more than 2 std"):
        draw(init.trunc_normal_, (3, 4), 0.0, 1.0, 3.0, 4.0)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (16, 8, 3, 3), (64, 3, 2, 2)], ids=str)
def test_orthogonal(shape: tuple[int, ...]) -> None:
    matrix = draw(init.orthogonal_, shape, 2.0).reshape(shape[0], -1).astype(np.float64) / 2
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)


def test_constants() -> None:
    assert (draw(init.constant_, (2, 3), 0.25) == 0.25).all()
    assert (draw(init.ones_, (2, 3, 4, 5)) == 1).all()
    assert (draw(init.zeros_, (7,)) == 0).all()


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2)], ids=str)
def test_eye(shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(draw(init.eye_, shape), np.eye(*shape))


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((4, 4, 3, 3), 1), ((6, 2, 3, 3), 2), ((4, 2, 4, 5), 1), ((2, 6, 1, 3), 2), ((4, 4, 3), 1)],
    ids=str,
)
def test_dirac(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(
        draw(init.dirac_, shape, groups), torch.nn.init.dirac_(torch.empty(*shape), groups).numpy()
    )


@pytest.mark.parametrize(
    "arguments",
    [("linear",), ("conv2d",), ("conv_transpose2d",), ("sigmoid",), ("tanh",), ("relu",), ("selu",)]
    + [("leaky_relu",), ("leaky_relu", 0.2), ("leaky_relu", 0)],
    ids=str,
)
def test_gain_is_that_of_torch(arguments: tuple[Any, ...]) -> None:
    torch = pytest.importorskip("torch")
    assert init.calculate_gain(*arguments) == torch.nn.init.calculate_gain(*arguments)


def test_errors() -> None:
    vector = engine.empty(3)
    for fill in (init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_, init.kaiming_normal_):
        with pytest.raises(ValueError, match="fewer than 2 dimensions"):
            fill(vector)
    with pytest.raises(ValueError, match="2 or more dimensions"):
        init.orthogonal_(vector)
    with pytest.raises(ValueError, match="2 dimensions"):
        init.eye_(vector)
    with pytest.raises(ValueError, match="3, 4, or 5 dimensions"):
        init.dirac_(vector)
    with pytest.raises(ValueError, match="divisible by groups"):
        init.dirac_(engine.empty(3, 2, 1, 1), 2)
    with pytest.raises(ValueError, match="Mode average not supported"):
        init.kaiming_normal_(engine.empty(3, 4), mode="average")
    with pytest.raises(ValueError, match="Unsupported nonlinearity"):
        init.calculate_gain("softmax")
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", True)


def test_seed_and_memory() -> None:
    """The seed decides; a parameter keeps its memory; views are filled as views."""
    engine.manual_seed(5)
    first = draw(init.normal_, (3, 4))
    second = draw(init.normal_, (3, 4))
    engine.manual_seed(5)
    np.testing.assert_array_equal(draw(init.normal_, (3, 4)), first)
    assert not np.array_equal(first, second)
    parameter = engine.nn.Parameter(engine.zeros(3, 4))
    view = parameter.detach().numpy()
    init.ones_(parameter)
    assert (view == 1).all() and parameter.requires_grad
    table = engine.zeros(4, 6)
    init.uniform_(table[:, 2:4], 1.0, 2.0)
    assert (table.numpy() != 0).sum() == 8


def test_empty_tensors() -> None:
    for fill in (init.uniform_, init.normal_, init.trunc_normal_, init.orthogonal_):
        fill(engine.empty(0, 3))
    with pytest.warns(UserWarning, match="zero-element"):
        init.kaiming_uniform_(engine.empty(0, 3))


def test_alias() -> None:
    import engine.nn.functional as functional
    from engine.nn import init as alias

    assert alias is init is engine.init
    assert functional is engine.functional is engine.nn.functional
