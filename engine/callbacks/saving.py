"""Saving checkpoints while training runs."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import TYPE_CHECKING, Any

from engine.callbacks.base import Best, Callback, monitored

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["Checkpoint"]


class Checkpoint(Callback):
    """Saves the last state, the best one and on request the k best.

    `last.safetensors` is all that `engine.io.Checkpoint.restore` needs to go on as if nothing had happened, also in the
    middle of an epoch; it is written after an epoch, every so many steps, and after Ctrl-C. `best.safetensors` has the
    weights of the best epoch, which with an average of the weights (`EMA`) are the averaged ones.

    Files are written atomically and the one before is kept (see `engine.io.save_checkpoint`).

    Args:
        directory: where the files go; made when missing.
        monitor: a number of the epoch's row.
        mode: "min" when lower is better, "max" when higher is.
        contents: further fields of `engine.io.Checkpoint`, such as model_name, class_names and preprocessing.
        every: epochs between two saves of the last state; the final epoch is always saved.
        every_steps: also save the last state after so many steps, within the epoch; 0: not.
        top_k: keep the k best epochs in files named after epoch and number.
        min_seconds: what comes sooner after the last save waits for the next occasion, at the latest the end of the
            fit, so that saving does not slow down epochs that are shorter than writing a file.

    Raises:
        ValueError: mode is unknown, or a number is negative.
        engine.io.CheckpointError: when a file cannot be written; the earlier files are intact.

    Example:
        >>> Checkpoint("runs/example", monitor="val_accuracy", mode="max").best_path
        'runs/example/best.safetensors'
    """

    order = 15  # after EarlyStopping has counted, before Progress reports

    def __init__(
        self,
        directory: str | os.PathLike[str],
        monitor: str = "val_loss",
        mode: str = "min",
        contents: dict[str, Any] | None = None,
        every: int = 1,
        every_steps: int = 0,
        top_k: int = 0,
        min_seconds: float = 0.0,
    ) -> None:
        if min(every_steps, top_k, min_seconds) < 0:
            raise ValueError(
                f"[Checkpoint] expected every_steps, top_k and min_seconds of at least 0, got {every_steps}, {top_k} "
                f"and {min_seconds}"
            )
        self.directory = os.fspath(directory)
        self.contents = dict(contents or {})
        self.every = max(1, every)
        self.every_steps = every_steps
        self.top_k = top_k
        self.min_seconds = min_seconds
        self._best = Best("Checkpoint", monitor, mode)
        self._top: list[tuple[float, str]] = []  # best first
        self._saved_at = -math.inf
        self._pending: tuple[dict[str, Any], dict[str, Any]] | None = None  # the best state, not yet written

    @property
    def best_path(self) -> str:
        """Where the best state is saved."""
        return os.path.join(self.directory, "best.safetensors")

    @property
    def last_path(self) -> str:
        """Where the last state is saved."""
        return os.path.join(self.directory, "last.safetensors")

    @property
    def top_paths(self) -> list[str]:
        """The files of the k best epochs, best first."""
        return [os.path.join(self.directory, name) for _, name in self._top]

    def before_fit(self, trainer: Trainer) -> None:
        """Makes the directory, so that a bad path fails before any training."""
        os.makedirs(self.directory, exist_ok=True)
        self._saved_at = time.monotonic() if self.min_seconds else -math.inf

    def after_batch(self, trainer: Trainer) -> None:
        """Saves the last state within the epoch."""
        if (
            self.every_steps
            and not trainer.updates_pending
            and trainer.steps_done % self.every_steps == 0
            and time.monotonic() - self._saved_at >= self.min_seconds
        ):
            self._save_last(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        """Saves what is due."""
        final = trainer.epoch >= trainer.epochs or trainer.stop_reason is not None
        due = final or time.monotonic() - self._saved_at >= self.min_seconds
        if self._best.improved(trainer.row):
            state = self._state(trainer)
            weights = trainer.weights()
            self._pending = (weights, state) if due else _snapshot((weights, state))
        if self.top_k:
            self._save_top(trainer)
        if due:
            self._save_best()
            if final or trainer.epoch % self.every == 0:
                self._save_last(trainer)

    def interrupt(self, trainer: Trainer) -> None:
        """Saves the state at which Ctrl-C took effect."""
        self._save_best()
        self._save_last(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value so far and the names of the k best files."""
        return {"best_value": self._best.value, "top": [list(entry) for entry in self._top]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Args:
            state: what `state_dict` returned.
        """
        self._best.value = state["best_value"]
        self._top = [(float(value), str(name)) for value, name in state.get("top", [])]

    def _state(self, trainer: Trainer) -> dict[str, Any]:
        """All but the weights."""
        from engine.random import get_rng_state

        return {
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": None if trainer.scheduler is None else trainer.scheduler.state_dict(),
            "rng": get_rng_state(),
            "trainer": trainer.state_dict(),
            **self.contents,
        }

    def _save_best(self) -> None:
        if self._pending is not None:
            weights, state = self._pending
            self._pending = None
            self._save(self.best_path, weights, state)

    def _save_last(self, trainer: Trainer) -> None:
        self._save(self.last_path, trainer.model.state_dict(), self._state(trainer))

    def _save_top(self, trainer: Trainer) -> None:
        value = monitored("Checkpoint", self._best.monitor, trainer.row)
        if math.isnan(value):
            return
        name = f"epoch-{trainer.epoch:04}-{self._best.monitor}-{value:.4g}.safetensors"
        kept = sorted([*self._top, (value, name)], key=lambda entry: self._best.sign * entry[0])
        self._top, dropped = kept[: self.top_k], kept[self.top_k :]
        if (value, name) in self._top:
            path = os.path.join(self.directory, name)
            self._save(path, trainer.weights(), self._state(trainer), keep_previous=False)
        for _, other in dropped:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.directory, other))

    def _save(self, path: str, weights: dict[str, Any], state: dict[str, Any], keep_previous: bool = True) -> None:
        from engine.io import checkpoint as files

        files.save_checkpoint(path, files.Checkpoint(model=weights, **state), keep_previous)
        self._saved_at = time.monotonic()


def _snapshot(tree: Any) -> Any:
    """A copy that later steps do not change."""
    if isinstance(tree, dict):
        return {key: _snapshot(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(_snapshot(value) for value in tree)
    return tree.detach().clone() if hasattr(tree, "detach") else tree
