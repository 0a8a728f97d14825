"""Recording the numbers of every epoch: CSV, JSON lines, TensorBoard."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from engine.callbacks.base import Callback

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["HistoryLog", "TensorBoard"]


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


class TensorBoard(Callback):
    """Writes the epochs' numbers, and the loss of every `every` steps, where TensorBoard shows them.

    Uses tensorboardX, or else the writer of PyTorch and tensorboard, whichever is installed.

    Args:
        directory: where the event files go.
        every: steps between two records of the batch's loss; 0 records none.

    Raises:
        ImportError: at the start of the fit, when neither library is installed.

    Example:
        >>> TensorBoard("runs/example").directory
        'runs/example'
    """

    order = 12

    def __init__(self, directory: str | os.PathLike[str], every: int = 50) -> None:
        self.directory = os.fspath(directory)
        self.every = every
        self._writer: Any = None

    def before_fit(self, trainer: Trainer) -> None:
        """Opens the event file."""
        self._writer = _summary_writer(self.directory)

    def after_step(self, trainer: Trainer) -> None:
        """Records the batch's loss and the learning rate."""
        if self.every and trainer.steps_done % self.every == 0:
            self._writer.add_scalar("batch/loss", trainer.loss_value, trainer.steps_done)
            rate = float(trainer.optimizer.param_groups[-1]["lr"])
            self._writer.add_scalar("batch/lr", rate, trainer.steps_done)

    def after_epoch(self, trainer: Trainer) -> None:
        """Records the epoch's numbers."""
        for name, value in trainer.row.items():
            if name != "epoch" and isinstance(value, (int, float)):
                self._writer.add_scalar(f"epoch/{name}", value, trainer.epoch)
        self._writer.flush()

    def close(self, trainer: Trainer) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _summary_writer(directory: str) -> Any:
    with contextlib.suppress(ImportError):
        from tensorboardX import SummaryWriter

        return SummaryWriter(directory)
    with contextlib.suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter as TorchWriter

        return TorchWriter(directory)
    raise ImportError('[TensorBoard] needs tensorboardX: pip install "engine[tensorboard]"')
