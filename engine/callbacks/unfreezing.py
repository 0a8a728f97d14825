"""Thawing a pretrained model from head to stem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.callbacks.base import Callback

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["GradualUnfreezing"]


class GradualUnfreezing(Callback):
    """Trains the head alone at first, then one more layer group at a time.

    Frozen groups are a fixed function: their parameters need no gradient, their batch norms keep their statistics, and
    their dropout is off. What is frozen depends on the epoch alone, so a run that is continued goes on alike.

    Args:
        freeze_epochs: epochs in which only the last layer group, the head, is trained.
        every: epochs after which the next group is thawed; 0 thaws all at once.

    Raises:
        ValueError: an argument is negative.

    Example:
        >>> import engine
        >>> GradualUnfreezing(freeze_epochs=2).frozen_groups(engine.models.lenet5(), epoch=3)
        1

    Reference: Howard and Ruder, https://arxiv.org/abs/1801.06146.
    """

    order = -40  # before others look at the model

    def __init__(self, freeze_epochs: int = 1, every: int = 1) -> None:
        if freeze_epochs < 0 or every < 0:
            raise ValueError(
                f"[GradualUnfreezing] expected freeze_epochs and every of at least 0, got {freeze_epochs} and {every}"
            )
        self.freeze_epochs = freeze_epochs
        self.every = every

    def frozen_groups(self, model: object, epoch: int) -> int:
        """Returns how many layer groups, from the stem, are frozen in an epoch.

        Args:
            model: with `layer_groups`, as the models have.
            epoch: counted from 0.
        """
        groups = len(model.layer_groups())  # type: ignore[attr-defined]
        if epoch < self.freeze_epochs:
            return groups - 1
        if self.every == 0:
            return 0
        return max(0, groups - 2 - (epoch - self.freeze_epochs) // self.every)

    def before_epoch(self, trainer: Trainer) -> None:
        """Freezes what is to be frozen in this epoch."""
        count = self.frozen_groups(trainer.model, trainer.epoch)
        trainer.model.freeze(up_to=count)
        for group in trainer.model.layer_groups()[:count]:
            for module in group:
                module.eval()
