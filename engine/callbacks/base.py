"""What callbacks share."""

from __future__ import annotations

import math
from typing import Any


class Callback:
    """Base of the callbacks; methods named after events are called with the trainer.

    Events come as before_ and after_ of: fit, epoch, batch, predict, loss, backward, step, zero_grad, evaluate.
    `interrupt` is called between two steps when the user has pressed Ctrl-C, `close` at the very end, also after an
    error. A class with `state_dict` and `load_state_dict` is saved with the
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


class Best:
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
        value = monitored(self.owner, self.monitor, row)
        if math.isnan(value):
            return False
        if self.value is None or self.sign * (self.value - value) > self.min_delta:
            self.value = value
            return True
        return False


def monitored(owner: str, monitor: str, row: dict[str, Any]) -> float:
    """Returns a number of the epoch's row, or says which there are."""
    if monitor not in row:
        raise ValueError(
            f"[{owner}] cannot monitor {monitor!r}: the epoch's numbers are {', '.join(row)}; pass a validation loader "
            "or monitor another number"
        )
    return float(row[monitor])
