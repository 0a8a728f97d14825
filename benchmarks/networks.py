"""Whole networks, the same on the engine and on PyTorch: equal layers, equal numbers.

LeNet-5 and the CNN of six convolutions are written here once for both; all others are the engine's models and
torchvision's. Every value of a state is drawn by its name and shape alone, so that nothing has to be exchanged between
two processes that are to do the same work.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

PERIOD = 1_000_003  # of the random numbers, a prime: drawing them all would take longer than the networks
_kept: list[Any] = []


@dataclass(frozen=True)
class Network:
    """Its input (C, H, W), the batch it trains with and, unless it is one of engine.models, its layers."""

    shape: tuple[int, int, int]
    batch: int
    build: Callable[[Any], Any] | None = None
    classes: int = 1000


def lenet5(nn: Any) -> Any:
    """LeNet-5 (LeCun et al. 1998) on 1x32x32 with ReLU and max pooling."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def cnn6(nn: Any) -> Any:
    """Six 3x3 convolutions with batch norm on 3x32x32: two each of 64, 128 and 256 channels."""
    layers, channels = [], 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 10))


NETWORKS = {
    "lenet5": Network((1, 32, 32), 64, lenet5, 10),
    "cnn6": Network((3, 32, 32), 64, cnn6, 10),
    "alexnet": Network((3, 224, 224), 32),
    "vgg16": Network((3, 224, 224), 8),
    "resnet18": Network((3, 224, 224), 16),
    "resnet50": Network((3, 224, 224), 16),
    "mobilenet_v2": Network((3, 224, 224), 16),
    "efficientnet_b0": Network((3, 224, 224), 16),
    "inception_v3": Network((3, 299, 299), 8),
    "densenet121": Network((3, 224, 224), 8),
}


def parse_case(case: str) -> tuple[str, int]:
    """Network and batch of "<network>" (the batch it trains with) or "<network>-<batch>"."""
    network, dash, batch = case.partition("-")
    if network not in NETWORKS or (dash and not batch.isdigit()):
        raise ValueError(
            f"expected <network> or <network>-<batch> with a network of {', '.join(NETWORKS)}, got {case!r}"
        )
    return network, int(batch) if dash else NETWORKS[network].batch


def initial_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """He-scaled weights; norms that change nothing; biases of zero."""
    numbers = np.random.default_rng(0).standard_normal(PERIOD, dtype=np.float32)
    state: dict[str, np.ndarray] = {}
    for index, (name, shape) in enumerate(sorted(shapes.items())):
        if name.endswith("num_batches_tracked"):
            state[name] = np.zeros((), np.int64)
        elif len(shape) > 1:
            scale = np.float32((2.0 / np.prod(shape[1:])) ** 0.5)
            state[name] = np.resize(np.roll(numbers, index * 7919), shape) * scale
        else:
            state[name] = np.full(shape, name.endswith(("weight", "running_var")), np.float32)
    return state


def batch_of(network: str, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels."""
    random = np.random.default_rng(1)
    images = random.standard_normal((batch, *NETWORKS[network].shape), dtype=np.float32)
    return images, random.integers(0, NETWORKS[network].classes, batch)


def engine_model(network: str) -> Any:
    import engine
    from engine import nn

    build = NETWORKS[network].build
    if build is not None:
        model = build(nn)
    else:
        with engine.models.skip_init():
            model = engine.models.get_model(network, **configuration(network))
    state = initial_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: engine.from_numpy(value) for name, value in state.items()})
    return model


def torch_model(network: str) -> Any:
    import torch

    build = NETWORKS[network].build
    if build is not None:
        model = build(torch.nn)
    else:
        with torch.device("meta"):
            model = import_torchvision().models.get_model(network, **configuration(network))
        model = model.to_empty(device="cpu")
    state = initial_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return model


def configuration(network: str) -> dict[str, Any]:
    """Arguments of the builders: the auxiliary classifier belongs to the training of Inception v3."""
    return {"aux_logits": True, "init_weights": False} if network == "inception_v3" else {}


def import_torchvision() -> Any:
    """torchvision, next to a torch for CPUs: a wheel made for GPUs lacks operators that its import asks for."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not _kept:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)
        import torchvision
    return torchvision


def set_random_layers(model: Any, active: bool) -> None:
    """Switches dropout and stochastic depth off, or back to their own probability.

    The frameworks draw other masks, so losses are comparable only without them; a timed step has them.
    """
    for module in model.modules():
        if type(module).__name__ in ("Dropout", "StochasticDepth"):
            if not hasattr(module, "usual_p"):
                module.usual_p = module.p
            module.p = module.usual_p if active else 0.0
