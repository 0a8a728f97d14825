"""torchvision as the reference for the models: its import, its models with random but sane values."""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest

AVAILABLE = all(importlib.util.find_spec(name) is not None for name in ("torch", "torchvision"))
needs_torchvision = pytest.mark.skipif(not AVAILABLE, reason="torch and torchvision are not installed")
PERIOD = 1_000_003  # of the random numbers, a prime; drawing gigabytes would take longer than the networks


@functools.cache
def import_torchvision() -> tuple[Any, Any]:
    """Returns torch and torchvision; a wheel of the latter made for GPUs lacks operators next to torch for CPUs."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "torchvision" not in sys.modules:
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)
        import torchvision
    torch.set_num_threads(1)
    return torch, torchvision


_kept: list[Any] = []


@functools.cache
def _numbers() -> np.ndarray:
    """Two periods of normally distributed numbers, so that every slice up to one period is there."""
    draws = np.random.default_rng(0).standard_normal(PERIOD, dtype=np.float32)
    return np.concatenate([draws, draws])


def values(key: str, shape: tuple[int, ...], start: int) -> np.ndarray:
    """Random values that keep activations near 1: He's for weights, around 1 for scales, near 0 for biases."""
    if key.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    size = int(np.prod(shape))
    scale, shift = 0.1, 0.0
    if key.endswith("weight") and len(shape) == 1:
        shift = 0.7  # less than 1, or differences grow from block to block of the deep residual networks
    elif key.endswith("running_var"):
        shift = 1.0
    elif key.endswith("weight"):
        scale = float(np.sqrt(2.0 / np.prod(shape[1:])))
    elif key.endswith("layer_scale"):
        scale = 0.3
    result = np.empty(size, np.float32)
    start = start * 7919 % PERIOD
    for at in range(0, size, PERIOD):
        part = result[at : at + PERIOD]
        np.multiply(_numbers()[start : start + part.size], np.float32(scale), out=part)
    if shift:
        result += np.float32(shift)
    return result.reshape(shape)


@contextmanager
def without_initial_values() -> Iterator[None]:
    """Within it torch's initialisations do nothing, which makes large models cheap."""
    torch, _ = import_torchvision()
    names = [name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def reference(name: str, **config: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A torchvision model in evaluation mode with random values, and these values (they share memory)."""
    torch, torchvision = import_torchvision()
    with without_initial_values():
        model = torchvision.models.get_model(name, **config)
    own = model.state_dict()
    state = {key: values(key, tuple(value.shape), i) for i, (key, value) in enumerate(own.items())}
    own.update({key: torch.from_numpy(value) for key, value in state.items()})  # and keeps the versions in _metadata
    model.load_state_dict(own, assign=True)
    return model.eval(), state


def calibrate(model: Any, x: Any) -> None:
    """Sets the running statistics to those of a batch, so that activations neither vanish nor grow with depth."""
    torch, _ = import_torchvision()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(x)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
        norm.num_batches_tracked.zero_()
        norm.running_var.clamp_(min=0.3)  # there are channels that happen to be constant
