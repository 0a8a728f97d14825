"""Batches whose images and labels are mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.callbacks.base import Callback

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["Mixing"]


class Mixing(Callback):
    """Replaces each training batch by what a mixer makes of it, such as `engine.data.MixUp` or `engine.data.CutMix`.

    Of several mixers one is drawn for each batch. Targets become probabilities, so an epoch has no training accuracy.

    Args:
        mixers: functions of (images, labels) that return both mixed.

    Raises:
        ValueError: there is no mixer.

    Example:
        >>> from engine.data import CutMix, MixUp
        >>> len(Mixing([MixUp(num_classes=10), CutMix(num_classes=10)]).mixers)
        2
    """

    order = -20

    def __init__(self, mixers: Sequence[Callable[[Any, Any], tuple[Any, Any]]]) -> None:
        if not mixers:
            raise ValueError("[Mixing] expected at least one mixer, got none")
        self.mixers = list(mixers)

    def before_batch(self, trainer: Trainer) -> None:
        """Mixes the batch."""
        which = 0
        if len(self.mixers) > 1:
            from engine.data.random import Stream
            from engine.random import next_key

            seed, offset = next_key()
            which = Stream(seed ^ Stream(offset).bits()).integers(0, len(self.mixers))
        trainer.inputs, trainer.targets = self.mixers[which](trainer.inputs, trainer.targets)
