"""Showing how far training is."""

from __future__ import annotations

import math
import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from engine.callbacks.base import Callback

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["Progress"]


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
