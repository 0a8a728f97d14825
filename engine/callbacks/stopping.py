"""Ending training early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.callbacks.base import Best, Callback, monitored

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["Convergence", "EarlyStopping"]


class EarlyStopping(Callback):
    """Stops when a number has not improved for `patience` epochs, and gives the model back its best weights.

    The best weights are restored at the end of every fit, also of one that ran its full number of epochs.

    Args:
        monitor: a number of the epoch's row, such as "val_loss" or "val_accuracy".
        patience: epochs without improvement that are tolerated; 0 or less never stops early.
        mode: "min" when lower is better, "max" when higher is.
        min_delta: the smallest change that counts as an improvement.
        restore_best: whether to restore the best weights.

    Example:
        >>> stopping = EarlyStopping(patience=5)
        >>> stopping.monitor, stopping.best_epoch
        ('val_loss', None)
    """

    order = 10

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        mode: str = "min",
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        self.monitor = monitor
        self.patience = patience
        self.restore_best = restore_best
        self.best_epoch: int | None = None
        self.waited = 0
        self._best = Best("EarlyStopping", monitor, mode, min_delta)
        self._weights: dict[str, Any] | None = None

    @property
    def best_value(self) -> float | None:
        """The best value so far."""
        return self._best.value

    def before_fit(self, trainer: Trainer) -> None:
        """Completes a state that was saved in its best epoch."""
        if self.restore_best and self._weights is None and self.best_epoch is not None:
            self._remember(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        """Compares, remembers, and asks for the end when patience is spent."""
        if self._best.improved(trainer.row):
            self.best_epoch = trainer.epoch
            self.waited = 0
            if self.restore_best:
                self._remember(trainer)
            return
        self.waited += 1
        if 0 < self.patience <= self.waited:
            trainer.stop(f"{self.monitor} has not improved for {self.waited} epochs")

    def after_fit(self, trainer: Trainer) -> None:
        """Restores the best weights."""
        if self._weights is not None and self.best_epoch != trainer.epoch:
            trainer.model.load_state_dict(self._weights)

    def _remember(self, trainer: Trainer) -> None:
        self._weights = {name: value.detach().clone() for name, value in trainer.weights().items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the counters and the best weights, without the weights when they are the present ones."""
        return {
            "best_value": self._best.value,
            "best_epoch": self.best_epoch,
            "waited": self.waited,
            "weights": self._weights if self.waited else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Args:
            state: what `state_dict` returned.
        """
        self._best.value = state["best_value"]
        self.best_epoch = state["best_epoch"]
        self.waited = state["waited"]
        self._weights = state["weights"]  # None: before_fit takes them from the model


class Convergence(Callback):
    """Stops when a number has come to rest: when it changed by less than `min_change` in each of `patience` epochs.

    Args:
        min_change: the smallest change that counts, from one epoch to the next.
        patience: epochs in a row with less change.
        monitor: a number of the epoch's row.

    Raises:
        ValueError: min_change is negative, or patience below 1.

    Example:
        >>> Convergence(min_change=1e-3).monitor
        'train_loss'
    """

    order = 10

    def __init__(self, min_change: float = 1e-4, patience: int = 3, monitor: str = "train_loss") -> None:
        if not min_change >= 0 or patience < 1:
            raise ValueError(
                f"[Convergence] expected min_change of at least 0 and patience of at least 1, got {min_change} and "
                f"{patience}"
            )
        self.min_change = min_change
        self.patience = patience
        self.monitor = monitor
        self.rested = 0
        self.last: float | None = None

    def after_epoch(self, trainer: Trainer) -> None:
        """Compares with the epoch before."""
        value = monitored("Convergence", self.monitor, trainer.row)
        still = self.last is not None and abs(value - self.last) < self.min_change
        self.rested = self.rested + 1 if still else 0
        self.last = value
        if self.rested >= self.patience:
            trainer.stop(f"{self.monitor} changed by less than {self.min_change:g} in each of {self.rested} epochs")

    def state_dict(self) -> dict[str, Any]:
        """Returns the last value and how long it has rested."""
        return {"last": self.last, "rested": self.rested}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Args:
            state: what `state_dict` returned.
        """
        self.last, self.rested = state["last"], int(state["rested"])
