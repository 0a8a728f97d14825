"""The learning-rate range test: which rates a model learns with, found in one short run."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.random import get_rng_state, set_rng_state

__all__ = ["LRRange", "lr_find"]


@dataclass
class LRRange:
    """The curve of a range test.

    Attributes:
        lrs: learning rates, rising.
        losses: the loss of the batch at each rate.
        smoothed: the same, as an exponential average without bias.
        diverged: whether the test ended because the loss went up for good.
    """

    lrs: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    diverged: bool

    @property
    def suggestion(self) -> float:
        """The rate in the middle of the longest fall of the smoothed loss, where learning is quick and still stable."""
        count = len(self.smoothed)
        length, start = np.ones(count, np.int64), np.arange(count)  # of the longest fall that ends at i
        for i in range(1, count):
            above = np.flatnonzero(self.smoothed[:i] > self.smoothed[i])
            if len(above):
                best = above[int(np.argmax(length[above]))]
                length[i], start[i] = length[best] + 1, start[best]
        last = int(np.argmax(length))
        if length[last] < max(4, count // 10):
            raise ValueError(
                f"[lr_find] the loss hardly ever fell between rates {self.lrs[0]:g} and {self.lrs[-1]:g}: widen the "
                "range, or check the model and the data"
            )
        return float(self.lrs[(int(start[last]) + last) // 2])

    @property
    def minimum(self) -> float:
        """A tenth of the rate with the lowest smoothed loss: a bold choice."""
        return float(self.lrs[int(np.argmin(self.smoothed))]) / 10

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the curve.

        Args:
            path: the image file to write.

        Raises:
            ImportError: when Matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('LRRange.plot needs Matplotlib: pip install "engine[train]"') from error
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.lrs, self.losses, alpha=0.3, label="batch")
        axes.plot(self.lrs, self.smoothed, label="smoothed")
        axes.axvline(self.suggestion, linestyle=":", color="black", label=f"suggestion {self.suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
        figure.savefig(path)


def lr_find(
    trainer: Any,
    loader: Any,
    start: float = 1e-6,
    end: float = 10.0,
    steps: int = 100,
    smoothing: float = 0.9,
    diverge: float = 4.0,
) -> LRRange:
    """Trains for some steps while the learning rate rises from step to step, and records the loss.

    Model, optimizer, random generator and loader are afterwards as they were. Groups keep the proportions of their
    rates.

    Args:
        trainer: an `engine.train.Trainer` with an optimizer.
        loader: batches of (inputs, targets), gone over again when it has fewer than `steps`.
        start: the first rate.
        end: the last rate.
        steps: number of steps.
        smoothing: share of the old average in the smoothed loss.
        diverge: end when the smoothed loss is this many times its lowest value.

    Returns:
        An `LRRange`, whose `suggestion` is a rate to train with.

    Raises:
        ValueError: the rates do not rise, or there are too few steps, no batch or no optimizer.

    Example:
        >>> import engine
        >>> from engine.data import ArrayDataset, DataLoader
        >>> from engine.train import Trainer
        >>> engine.manual_seed(0)
        >>> points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
        >>> loader = DataLoader(ArrayDataset(points, (points[:, 0] > 0).astype(np.int64)), batch_size=16, shuffle=True)
        >>> model = engine.nn.Linear(2, 2)
        >>> trainer = Trainer(model, engine.nn.CrossEntropyLoss(), engine.optim.SGD(model.parameters(), lr=0.1))
        >>> found = lr_find(trainer, loader, start=1e-4, end=100.0, steps=40)
        >>> 1e-3 < found.suggestion < 50
        True

    Reference: Smith, https://arxiv.org/abs/1506.01186.
    """
    if trainer.optimizer is None:
        raise ValueError("[lr_find] expected a trainer with an optimizer")
    if not 0 < start < end or steps < 4:
        raise ValueError(f"[lr_find] expected 0 < start < end and steps of at least 4, got {start}, {end}, {steps}")
    optimizer = trainer.optimizer
    weights = _copied(trainer.model.state_dict())
    state = _copied(optimizer.state_dict())
    modes = [(module, module.training) for module in trainer.model.modules()]
    random, epoch = get_rng_state(), getattr(loader, "epoch", None)
    base = [float(group["lr"]) for group in optimizer.param_groups]
    shares = [lr / max(base) if max(base) > 0 else 1.0 for lr in base]
    lrs = np.geomspace(start, end, steps)
    losses: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, False
    trainer.model.train()
    try:
        for lr, (inputs, targets) in zip(lrs, _endless(loader)):
            for group, share in zip(optimizer.param_groups, shares):
                group["lr"] = float(lr) * share
            trainer.zero_grad()
            loss = trainer.loss(trainer.predict(inputs), targets)
            losses.append(float(loss.item()))
            average = smoothing * average + (1 - smoothing) * losses[-1]
            smoothed.append(average / (1 - smoothing ** len(losses)))
            if not math.isfinite(losses[-1]) or smoothed[-1] > diverge * min(smoothed):
                diverged = True
                break
            trainer.backward(loss)
            trainer.step()
    finally:
        trainer.zero_grad()
        trainer.model.load_state_dict(weights)
        optimizer.load_state_dict(state)
        for module, training in modes:
            module.training = training
        set_rng_state(random)
        if epoch is not None:
            loader.set_epoch(epoch)
    count = len(losses) - (1 if losses and not math.isfinite(losses[-1]) else 0)
    if count < 4:
        raise ValueError(
            f"[lr_find] the loss was not finite after {count} steps: begin with a smaller rate than {start:g}"
        )
    return LRRange(lrs[:count], np.array(losses[:count]), np.array(smoothed[:count]), diverged)


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise ValueError("[lr_find] expected at least one batch, got none")


def _copied(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copied(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_copied(value) for value in tree)
    return tree.detach().clone() if hasattr(tree, "detach") else tree
