"""The whole public API in seconds: every name is used once, so that a broken one shows at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from execution import fresh

import engine
import engine.nn.functional as F
from engine import nn, optim


def test_names_of_the_package() -> None:
    assert engine.__version__
    assert engine.isa() in engine.available_isas()
    assert engine.get_num_threads() >= 1
    assert isinstance(engine.build_info(), dict)
    assert isinstance(engine.memory_stats(), dict)
    engine.empty_cache()
    for name in dir(engine):
        if name not in ("cuda", "plots"):  # for which an extra may be missing
            getattr(engine, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        engine.no_such_name  # noqa: B018


def test_functional_is_one_module() -> None:
    assert F is engine.functional
    assert all(hasattr(F, name) for name in F.__all__)


def test_creation() -> None:
    shapes = [
        engine.tensor([[1.0]]),
        engine.zeros(1, 1),
        engine.ones((1, 1)),
        engine.empty(1, 1),
        engine.full((1, 1), 2.0),
        engine.rand(1, 1),
        engine.randn(1, 1),
        engine.normal(0.0, 1.0, (1, 1)),
        engine.randint(0, 2, (1, 1)),
        engine.eye(1),
        engine.arange(1).reshape(1, 1),
        engine.linspace(0, 1, 1).unsqueeze(0),
        engine.randperm(1).unsqueeze(0),
        engine.from_numpy(np.zeros((1, 1), np.float32)),
        engine.as_tensor([[1]]),
    ]
    shapes += [f(shapes[0]) for f in (engine.zeros_like, engine.ones_like, engine.empty_like)]
    shapes += [engine.rand_like(shapes[0]), engine.randn_like(shapes[0]), engine.full_like(shapes[0], 3)]
    assert all(x.shape == (1, 1) for x in shapes)


X = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)
W = np.random.default_rng(1).standard_normal((4, 4, 3, 3)).astype(np.float32)
POINTS = X[:, :, 0, 0]

IMAGE_OPS = {
    "conv2d": lambda x: F.conv2d(x, engine.tensor(W), engine.ones(4), padding="same"),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, engine.tensor(W), stride=2, padding=1, output_padding=1),
    "linear": lambda x: F.linear(x, engine.ones(3, 6), engine.ones(3)),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d_indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, None)),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 2),
    "batch_norm": lambda x: F.batch_norm(x, engine.zeros(4), engine.ones(4), training=True),
    "instance_norm": lambda x: F.instance_norm(x),
    "layer_norm": lambda x: F.layer_norm(x, (6,)),
    "group_norm": lambda x: F.group_norm(x, 2),
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "normalize": lambda x: F.normalize(x),
    "prelu": lambda x: F.prelu(x, engine.full((4,), 0.2)),
    "softmax": lambda x: F.softmax(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "dropout": lambda x: F.dropout(x, 0.3),
    "dropout2d": lambda x: F.dropout2d(x, 0.3),
    "stochastic_depth_row": lambda x: F.stochastic_depth(x, 0.3, "row"),
    "stochastic_depth_batch": lambda x: F.stochastic_depth(x, 0.3, "batch"),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1)),
    "pad_reflect": lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"),
    "pad_replicate": lambda x: F.pad(x, (1, 2), mode="replicate"),
    "pad_channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 1), value=1.0),
    "crop": lambda x: F.pad(x, (-1, 1, -2, 0)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "interpolate_exact": lambda x: F.interpolate(x, 4, mode="nearest-exact"),
    "interpolate_bilinear": lambda x: F.interpolate(x, (3, 8), mode="bilinear", antialias=True),
    "interpolate_bicubic": lambda x: F.interpolate(x, (9, 8), mode="bicubic", align_corners=True),
    "interpolate_area": lambda x: F.interpolate(x, 3, mode="area"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "cat": lambda x: F.cat([x, x], 1),
    "stack": lambda x: F.stack([x, x]),
    "split": lambda x: F.split(x, 3, 1)[1],
    "chunk": lambda x: F.chunk(x, 2, 1)[0],
    "unbind": lambda x: F.unbind(x)[0],
    "where": lambda x: F.where(x > 0, x, 0.0),
    "flatten": lambda x: F.flatten(x, 1),
}
ACTIVATIONS = """relu relu6 leaky_relu elu selu gelu silu mish sigmoid tanh
    logsigmoid softplus softsign hardtanh hardswish hardsigmoid"""
IMAGE_OPS.update({name: getattr(F, name) for name in ACTIVATIONS.split()})


@pytest.mark.parametrize("name", IMAGE_OPS)
def test_image_op(name: str) -> None:
    x = engine.tensor(X, requires_grad=True)
    y = IMAGE_OPS[name](x)
    assert y.requires_grad
    assert bool(y.isfinite().all())
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert bool(x.grad.isfinite().all())
    with engine.no_grad():
        assert not IMAGE_OPS[name](x).requires_grad


LABELS = [1, 3]
LOSSES = {
    "mse_loss": lambda x: F.mse_loss(x, engine.zeros(2, 4)),
    "l1_loss": lambda x: F.l1_loss(x, engine.zeros(2, 4)),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, engine.zeros(2, 4)),
    "huber_loss": lambda x: F.huber_loss(x, engine.zeros(2, 4)),
    "cross_entropy": lambda x: F.cross_entropy(x, engine.tensor(LABELS), label_smoothing=0.1),
    "cross_entropy_soft": lambda x: F.cross_entropy(x, engine.full((2, 4), 0.25), weight=engine.arange(4).float()),
    "cross_entropy_one": lambda x: F.cross_entropy(x[0], engine.tensor(2)),
    "cross_entropy_sequence": lambda x: F.cross_entropy(x.unsqueeze(2).expand(2, 4, 3), engine.ones(2, 3).long()),
    "nll_loss": lambda x: F.nll_loss(x.log_softmax(1), engine.tensor(LABELS), ignore_index=3),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy(x.sigmoid(), engine.ones(2, 4)),
    "binary_cross_entropy_with_logits": lambda x: F.binary_cross_entropy_with_logits(
        x, engine.ones(2, 4), pos_weight=engine.full((4,), 2.0)
    ),
    "kl_div": lambda x: F.kl_div(x.log_softmax(1), engine.full((2, 4), 0.25), reduction="batchmean"),
    "sigmoid_focal_loss": lambda x: F.sigmoid_focal_loss(x, engine.ones(2, 4), reduction="mean"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str) -> None:
    x = engine.tensor(POINTS, requires_grad=True)
    loss = LOSSES[name](x)
    assert loss.shape == ()
    loss.backward()
    assert bool(x.grad.isfinite().all())


def test_one_hot() -> None:
    assert F.one_hot(engine.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("make", "lr"),
    [(optim.SGD, 0.1), (optim.RMSprop, 0.01), (optim.Adagrad, 0.01), (optim.Adam, 0.01), (optim.AdamW, 0.01)],
)
def test_a_network_learns(make: type, lr: float) -> None:
    engine.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 2)
    )
    x = engine.randn(32, 1, 8, 8)
    target = (x.mean((1, 2, 3)) > 0).long()
    optimizer = make(model.parameters(), lr=lr)
    criterion = nn.CrossEntropyLoss()
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = criterion(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    model.eval()
    with engine.no_grad():
        assert model(x).shape == (32, 2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("output_padding", [0, 1, 2])
def test_output_padding(stride: int, padding: int, output_padding: int) -> None:
    """A transposed convolution is its widest form, cut by padding and continued by zeros."""
    x, w = engine.tensor(X), engine.tensor(W)
    widest = F.pad(F.conv_transpose2d(x, w, stride=stride, dilation=3), (0, 2, 0, 2))
    y = F.conv_transpose2d(x, w, None, stride, padding, output_padding, dilation=3)
    size = 5 * stride - 2 * padding + 7 + output_padding
    assert y.shape == (2, 4, size, size)
    expected = widest[:, :, padding : padding + size, padding : padding + size]
    np.testing.assert_allclose(y.numpy(), expected.numpy(), atol=1e-5)


def test_negative_reflection_cuts_off() -> None:
    x = engine.tensor(X)
    y = F.pad(x, (2, -1, -3, 1), mode="reflect")
    assert engine.equal(y, F.pad(x, (2, 0, 0, 1), mode="reflect")[:, :, 3:, :-1])


def test_sources_that_are_not_built_say_so(tmp_path: Path) -> None:
    """As in a clone of the repository, whose folder comes before the installed package."""
    package = Path(engine.__file__).parent
    (tmp_path / "engine").mkdir()
    for name in os.listdir(package):
        if name.endswith(".py"):
            shutil.copy(package / name, tmp_path / "engine")
    done = fresh("-c", "import engine", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: [engine] expected the compiled part engine._C in {tmp_path / 'engine'}")
    assert "another folder" in last and "build_ext --inplace" in last
