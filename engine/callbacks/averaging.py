"""Averages of the weights, which generalise better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from engine import backend as B
from engine.autograd import no_grad
from engine.callbacks.base import Callback
from engine.tensor import Tensor

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["EMA", "SWA", "update_bn"]

Weights = dict[str, Tensor]


def copied(weights: dict[str, Any]) -> Weights:
    """A copy that does not share memory."""
    return {name: value.detach().clone() for name, value in weights.items()}


class _Average(Callback):
    """An average of the model's weights; numbers that are not float32 (counters) follow the last ones."""

    order = 5  # after the step, before EarlyStopping (10) and Checkpoint (15) look at the weights

    def __init__(self) -> None:
        self.average: Weights | None = None
        self.count = 0

    def _move(self, trainer: Trainer, share: float) -> None:
        """average += share * (weights - average)"""
        weights = trainer.model.state_dict()
        self.count += 1
        if self.average is None:
            self.average = copied(weights)
            return
        floats = [name for name, value in weights.items() if value.data.dtype == "float32"]
        # As a step of gradient ascent with weight decay 1: p + share * (w - p), in one pass over all arrays.
        averages, values = [self.average[name].data for name in floats], [weights[name].data for name in floats]
        B.sgd_step(averages, values, [], share, weight_decay=1.0, maximize=True)
        for name in weights.keys() - set(floats):
            B.copy_(self.average[name].data, weights[name].data)

    def state_dict(self) -> dict[str, Any]:
        """Returns the average and how many updates it has seen."""
        return {"average": self.average, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Args:
            state: what `state_dict` returned.
        """
        average = state["average"]
        self.average = None if average is None else copied(average)
        self.count = int(state["count"])


class EMA(_Average):
    """Exponential moving average of the weights: average = decay * average + (1 - decay) * weights, after every step.

    Validation during the fit, the best checkpoint and early stopping go by the average, and the model has it at the end
    of the fit.

    Args:
        decay: share of the old average that stays, 0 to 1.
        warmup: begin with smaller decays, min(decay, (1 + step) / (10 + step)), so that the start is forgotten soon.

    Raises:
        ValueError: decay is not between 0 and 1.

    Example:
        >>> EMA(decay=0.99).count
        0

    Reference: Polyak and Juditsky, https://doi.org/10.1137/0330046; Tarvainen and Valpola,
    https://arxiv.org/abs/1703.01780.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"[EMA] expected decay between 0 and 1, got {decay}")
        super().__init__()
        self.decay = decay
        self.warmup = warmup
        self._own: Weights | None = None

    def before_fit(self, trainer: Trainer) -> None:
        """Begins with the weights as they are."""
        if self.average is None:
            self.average = copied(trainer.model.state_dict())
        trainer.averaged_weights = dict(self.average)

    def after_step(self, trainer: Trainer) -> None:
        """Moves the average."""
        decay = min(self.decay, (2 + self.count) / (11 + self.count)) if self.warmup else self.decay
        self._move(trainer, 1.0 - decay)

    def before_evaluate(self, trainer: Trainer) -> None:
        """Lends the model the average."""
        if trainer.fitting and self.average is not None:
            self._own = copied(trainer.model.state_dict())
            trainer.model.load_state_dict(self.average)

    def after_evaluate(self, trainer: Trainer) -> None:
        """Gives the model its own weights back."""
        if self._own is not None:
            trainer.model.load_state_dict(self._own)
            self._own = None

    def after_fit(self, trainer: Trainer) -> None:
        """Leaves the average in the model."""
        if self.average is not None:
            trainer.model.load_state_dict(self.average)

    def close(self, trainer: Trainer) -> None:
        """From here on the model's own weights count."""
        trainer.averaged_weights = None


class SWA(_Average):
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs.

    At the end of the fit the model gets the mean, and its batch norms new statistics from one pass over the training
    data. Validation during the fit is of the running weights, whose statistics are known.

    Args:
        start: first epoch that counts, as a number of epochs, or as a share of all of them when below 1.
        lr: constant learning rate of the epochs that count; None leaves the rate alone. Groups keep their proportions.

    Raises:
        ValueError: start or lr is not positive.

    Example:
        >>> SWA(start=0.75, lr=0.05).count
        0

    Reference: Izmailov et al., https://arxiv.org/abs/1803.05407.
    """

    order = 11  # the mean, not the best epoch, is what the model has in the end

    def __init__(self, start: float = 0.75, lr: float | None = None) -> None:
        if start < 0 or (lr is not None and not lr > 0):
            raise ValueError(f"[SWA] expected start of at least 0 and a positive lr, got {start} and {lr}")
        super().__init__()
        self.start = start
        self.lr = lr

    def _counts(self, epoch: int, epochs: int) -> bool:
        return epoch >= (self.start * epochs if self.start < 1 else self.start)

    def before_step(self, trainer: Trainer) -> None:
        """Holds the learning rate."""
        if self.lr is None or not self._counts(trainer.epoch, trainer.epochs):
            return
        groups = trainer.optimizer.param_groups
        largest = max(group.get("initial_lr", group["lr"]) for group in groups)
        for group in groups:
            group["lr"] = self.lr * (group.get("initial_lr", group["lr"]) / largest if largest else 1.0)

    def after_epoch(self, trainer: Trainer) -> None:
        """Adds the weights to the mean."""
        if self._counts(trainer.epoch - 1, trainer.epochs):  # the epoch that has just been done
            self._move(trainer, 1.0 / (self.count + 1))

    def after_fit(self, trainer: Trainer) -> None:
        """Leaves the mean in the model and renews the statistics of its batch norms."""
        if self.average is not None:
            trainer.model.load_state_dict(self.average)
            update_bn(trainer.train_loader, trainer.model)


def update_bn(loader: Iterable[Any], model: Any) -> None:
    """Computes the running statistics of the batch norms anew, as plain means over a loader's batches.

    Norms that are frozen (in evaluation mode while the model trains) keep theirs.

    Args:
        loader: batches of inputs, or tuples that begin with them.
        model: an `engine.nn.Module`.

    Example:
        >>> import engine
        >>> model = engine.nn.Sequential(engine.nn.BatchNorm1d(2))
        >>> update_bn([engine.tensor([[0.0, 1.0], [2.0, 1.0]])], model)
        >>> model[0].running_mean.tolist()
        [1.0, 1.0]

    Follows torch.optim.swa_utils.update_bn.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    norms = [
        module
        for module in model.modules()
        if module.training and getattr(module, "track_running_stats", False) and _is_batch_norm(module)
    ]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        if norms:
            with no_grad():
                for batch in loader:
                    model(batch[0] if isinstance(batch, (tuple, list)) else batch)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


def _is_batch_norm(module: Any) -> bool:
    return any(base.__name__ == "_BatchNorm" for base in type(module).__mro__)
