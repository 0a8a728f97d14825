"""Callbacks of `engine.train.Trainer`: what happens beside the five verbs.

A callback is any object with methods named after events (`engine.train.EVENTS`), each called with the trainer.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from engine.train import NonFiniteLossError

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "HistoryLog", "Progress", "StopOnNaN"]


class Callback:
    """Base of the callbacks; methods named after events are called with the trainer.

    Events come as before_ and after_ of: fit, epoch, batch, predict, loss, backward, step, zero_grad, evaluate. `close`
    is called at the very end, also after an error. A class with `state_dict` and `load_state_dict` is saved with the
    trainer.

    Attributes:
        order: callbacks with lower numbers run first.

    Example:
        >>> class Count(Callback):
        ...     batches = 0
        ...     def after_batch(self, trainer):
        ...         self.batches += 1
    """

    order = 0


class _Best:
    """The best value of a monitored number so far."""

    def __init__(self, owner: str, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'[{owner}] expected mode "min" or "max", got {mode!r}')
        if min_delta < 0:
            raise ValueError(f"[{owner}] expected min_delta of at least 0, got {min_delta}")
        self.owner = owner
        self.monitor = monitor
        self.sign = 1.0 if mode == "min" else -1.0
        self.min_delta = min_delta
        self.value: float | None = None

    def improved(self, row: dict[str, Any]) -> bool:
        if self.monitor not in row:
            raise ValueError(
                f"[{self.owner}] cannot monitor {self.monitor!r}: the epoch's numbers are {', '.join(row)}; pass a "
                f"validation loader or monitor another number"
            )
        value = float(row[self.monitor])
        if math.isnan(value):
            return False
        if self.value is None or self.sign * (self.value - value) > self.min_delta:
            self.value = value
            return True
        return False


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
        self._best = _Best("EarlyStopping", monitor, mode, min_delta)
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
        self._weights = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns the counters and the best weights, without the weights when they are the model's present ones."""
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


class StopOnNaN(Callback):
    """Raises at the first batch whose loss is NaN or infinite, and names what is already spoiled.

    Raises:
        NonFiniteLossError: before the backward pass, so the parameters are as the last good step left them.

    Example:
        >>> from engine.train import Trainer
        >>> trainer = Trainer(None, None, callbacks=[StopOnNaN()])
    """

    order = -10

    def after_loss(self, trainer: Trainer) -> None:
        """Checks the batch's loss."""
        if math.isfinite(trainer.loss_value):
            return
        raise NonFiniteLossError(
            f"[Trainer] the loss is {trainer.loss_value} in epoch {trainer.epoch + 1}, batch {trainer.batch_index}: "
            f"{self._culprit(trainer)}"
        )

    def _culprit(self, trainer: Trainer) -> str:
        import numpy as np

        for name, parameter in trainer.model.named_parameters():
            if not np.isfinite(parameter.detach().numpy()).all():
                return f"parameter {name} is not finite; lower the learning rate, or clip the gradients"
        if not np.isfinite(trainer.inputs.numpy()).all():
            return "the inputs are not finite; check the data"
        return "parameters and inputs are finite; lower the learning rate, or check the targets and the loss function"


class Progress(Callback):
    """Shows loss, accuracy, images per second and time left while training runs.

    On a terminal with tqdm installed it is a bar; otherwise one line per epoch.

    Args:
        stream: where to write; None is standard output.
        bar: True or False forces the bar or the lines; None decides by tqdm and the terminal.

    Example:
        >>> Progress(bar=False).order
        20
    """

    order = 20

    def __init__(self, stream: TextIO | None = None, bar: bool | None = None) -> None:
        self.stream = stream
        self.bar = bar
        self._tqdm: Any = None
        self._bar: Any = None
        self._begin = 0.0
        self._first = 0
        self._epoch_begin = 0.0

    def before_fit(self, trainer: Trainer) -> None:
        """Chooses between bar and lines."""
        self._begin, self._first = time.perf_counter(), trainer.epoch
        stream = self.stream or sys.stdout
        wanted = self.bar if self.bar is not None else stream.isatty()
        self._tqdm = None
        if wanted:
            try:
                from tqdm import tqdm

                self._tqdm = tqdm
            except ImportError:
                if self.bar:
                    raise ImportError('Progress(bar=True) needs tqdm: pip install "engine[train]"') from None

    def before_epoch(self, trainer: Trainer) -> None:
        """Opens the epoch's bar."""
        self._epoch_begin = time.perf_counter()
        if self._tqdm is not None:
            width = len(str(trainer.epochs))
            self._bar = self._tqdm(
                total=trainer.batches or None,
                desc=f"epoch {trainer.epoch + 1:>{width}}/{trainer.epochs}",
                unit="batch",
                file=self.stream or sys.stdout,
                leave=False,
                bar_format="{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}",
            )

    def after_batch(self, trainer: Trainer) -> None:
        """Moves the bar."""
        if self._bar is None:
            return
        rate = trainer.samples_seen / max(time.perf_counter() - self._epoch_begin, 1e-9)
        self._bar.set_postfix_str(
            f"loss {trainer.running_loss:.4f}{_percent('acc', trainer.running_accuracy)}  {rate:,.0f} img/s  "
            f"left {_clock(self._left(trainer))}",
            refresh=False,
        )
        self._bar.update()

    def after_epoch(self, trainer: Trainer) -> None:
        """Writes the epoch's line."""
        self._close()
        row = trainer.row
        width = len(str(trainer.epochs))
        line = (
            f"epoch {row['epoch']:>{width}}/{trainer.epochs}  loss {row['train_loss']:.4f}"
            f"{_percent('acc', row.get('train_accuracy'))}"
        )
        if "val_loss" in row:
            line += f"  val_loss {row['val_loss']:.4f}{_percent('val_acc', row.get('val_accuracy'))}"
        line += f"  {row['images_per_second']:,.0f} img/s  left {_clock(self._left(trainer))}"
        self._write(line)

    def after_fit(self, trainer: Trainer) -> None:
        """Says why training ended early, if it did."""
        if trainer.stop_reason is not None:
            self._write(f"stopped after epoch {trainer.epoch}: {trainer.stop_reason}")

    def close(self, trainer: Trainer) -> None:
        """Closes the bar."""
        self._close()

    def _left(self, trainer: Trainer) -> float:
        done = float(trainer.epoch - self._first)
        if self._bar is not None and trainer.batches:
            done += (trainer.batch_index + 1) / trainer.batches
        return (time.perf_counter() - self._begin) * (trainer.epochs - self._first - done) / max(done, 1e-9)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _write(self, line: str) -> None:
        print(line, file=self.stream or sys.stdout, flush=True)


def _percent(name: str, share: float | None) -> str:
    return "" if share is None or math.isnan(share) else f"  {name} {100 * share:6.2f} %"


def _clock(seconds: float) -> str:
    whole = int(max(seconds, 0) + 0.5)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


class Checkpoint(Callback):
    """Saves `last.safetensors` after every epoch and `best.safetensors` whenever the monitored number improves.

    Files are written atomically and the one before is kept (see `engine.io.save_checkpoint`).

    Args:
        directory: where the files go; made when missing.
        monitor: a number of the epoch's row.
        mode: "min" when lower is better, "max" when higher is.
        contents: further fields of `engine.io.Checkpoint`, such as model_name, class_names and preprocessing.
        every: epochs between two saves of the last state; the final epoch is always saved.

    Raises:
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
    ) -> None:
        self.directory = os.fspath(directory)
        self.contents = dict(contents or {})
        self.every = max(1, every)
        self._best = _Best("Checkpoint", monitor, mode)

    @property
    def best_path(self) -> str:
        """Where the best state is saved."""
        return os.path.join(self.directory, "best.safetensors")

    @property
    def last_path(self) -> str:
        """Where the last state is saved."""
        return os.path.join(self.directory, "last.safetensors")

    def before_fit(self, trainer: Trainer) -> None:
        """Makes the directory, so that a bad path fails before any training."""
        os.makedirs(self.directory, exist_ok=True)

    def after_epoch(self, trainer: Trainer) -> None:
        """Saves what is due."""
        if self._best.improved(trainer.row):
            self._save(trainer, self.best_path)
        if trainer.epoch % self.every == 0 or trainer.epoch >= trainer.epochs or trainer.stop_reason is not None:
            self._save(trainer, self.last_path)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value so far."""
        return {"best_value": self._best.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Args:
            state: what `state_dict` returned.
        """
        self._best.value = state["best_value"]

    def _save(self, trainer: Trainer, path: str) -> None:
        from engine.io import checkpoint as files
        from engine.random import get_rng_state

        files.save_checkpoint(
            path,
            files.Checkpoint(
                model=trainer.model.state_dict(),
                optimizer=trainer.optimizer.state_dict(),
                scheduler=None if trainer.scheduler is None else trainer.scheduler.state_dict(),
                rng=get_rng_state(),
                trainer=trainer.state_dict(),
                **self.contents,
            ),
        )


class HistoryLog(Callback):
    """Writes the epochs' numbers to `history.csv` and `history.jsonl` while training runs.

    Each file is replaced as a whole after every epoch, so a reader never sees half a line.

    Args:
        directory: where the files go; made when missing.

    Example:
        >>> import tempfile
        >>> log = HistoryLog(tempfile.mkdtemp())
    """

    order = 12

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.fspath(directory)

    def after_epoch(self, trainer: Trainer) -> None:
        """Writes both files."""
        from engine.io.atomic_file import open_atomic

        os.makedirs(self.directory, exist_ok=True)
        for name, render in _HISTORY_FORMATS.items():
            with open_atomic(os.path.join(self.directory, name)) as file:
                file.write(render(trainer.history).encode())


def _as_csv(history: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


def _as_jsonl(history: list[dict[str, Any]]) -> str:
    # JSON has no NaN: null says the same to every reader.
    rows = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in history
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


_HISTORY_FORMATS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "history.csv": _as_csv,
    "history.jsonl": _as_jsonl,
}
