"""Watching over losses and gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from engine import backend as B
from engine.autograd import no_grad
from engine.callbacks.base import Callback
from engine.random import get_rng_state, set_rng_state
from engine.tensor import Tensor
from engine.train import NonFiniteLossError

if TYPE_CHECKING:
    from engine.train import Trainer

__all__ = ["GradientClipping", "StopOnNaN"]


class GradientClipping(Callback):
    """Limits the gradients before every update.

    Args:
        max_norm: the largest norm of all gradients together; larger ones are scaled down. None: no limit.
        max_value: the largest absolute value of each element, applied first. None: no limit.
        norm_type: p of the p-norm; infinity gives the largest absolute value.

    Raises:
        ValueError: a limit is not positive, or there is none.

    Example:
        >>> GradientClipping(max_norm=1.0).max_norm
        1.0

    Reference: Pascanu, Mikolov and Bengio, https://arxiv.org/abs/1211.5063.
    """

    order = -5

    def __init__(self, max_norm: float | None = None, max_value: float | None = None, norm_type: float = 2.0) -> None:
        limits = [limit for limit in (max_norm, max_value) if limit is not None]
        if not limits or any(not limit > 0 for limit in limits):
            raise ValueError(
                f"[GradientClipping] expected a positive max_norm or max_value, got {max_norm} and {max_value}"
            )
        self.max_norm = max_norm
        self.max_value = max_value
        self.norm_type = norm_type

    def before_step(self, trainer: Trainer) -> None:
        """Clips."""
        gradients = [p.grad.data for p in trainer.model.parameters() if p.grad is not None]
        if not gradients:
            return
        if self.max_value is not None:
            B.clamp_(gradients, float(self.max_value))
        if self.max_norm is not None:
            factor = self.max_norm / (B.total_norm(gradients, float(self.norm_type)) + 1e-6)
            if factor < 1:
                B.scale_(gradients, factor)


class StopOnNaN(Callback):
    """Raises at the first batch whose loss or gradient is not finite, and names the place where that began.

    Args:
        gradients: whether to look at the gradients, too, which reads them once more in every step.

    Raises:
        NonFiniteLossError: before the step, so the parameters are as the last good step left them.

    Example:
        >>> from engine.train import Trainer
        >>> trainer = Trainer(None, None, callbacks=[StopOnNaN()])
    """

    order = -10

    def __init__(self, gradients: bool = True) -> None:
        self.gradients = gradients
        self._before: Any = None

    def before_predict(self, trainer: Trainer) -> None:
        """Notes where the random numbers are, so that the forward pass can be repeated."""
        self._before = get_rng_state()

    def after_loss(self, trainer: Trainer) -> None:
        """Checks the batch's loss."""
        if not math.isfinite(trainer.loss_value):
            raise NonFiniteLossError(
                f"[Trainer] the loss is {trainer.loss_value} {self._where(trainer)}: {self._culprit(trainer)}"
            )

    def before_step(self, trainer: Trainer) -> None:
        """Checks the gradients."""
        if not self.gradients:
            return
        gradients = {name: p.grad.data for name, p in trainer.model.named_parameters() if p.grad is not None}
        if B.all_finite(list(gradients.values())):
            return
        name = next(name for name, gradient in reversed(gradients.items()) if not B.all_finite([gradient]))
        trainer.zero_grad()
        raise NonFiniteLossError(
            f"[Trainer] the gradient of {name} is not finite {self._where(trainer)}, though the loss is "
            f"{trainer.loss_value:g}: look for a square root, logarithm or division near zero in what follows that "
            "layer, or lower the learning rate"
        )

    def _where(self, trainer: Trainer) -> str:
        return f"in epoch {trainer.epoch + 1}, batch {trainer.batch_index}"

    def _culprit(self, trainer: Trainer) -> str:
        for name, parameter in trainer.model.named_parameters():
            if not B.all_finite([parameter.data]):
                return f"parameter {name} is not finite; lower the learning rate, or clip the gradients"
        if not B.all_finite([trainer.inputs.data]):
            return "the inputs are not finite; check the data"
        layer = self._first_bad_layer(trainer)
        if layer is not None:
            return f"layer {layer} is the first whose output is not finite; lower the learning rate or normalise"
        return (
            "parameters, inputs and outputs are finite; check the targets and the loss function, or lower the "
            "learning rate"
        )

    def _first_bad_layer(self, trainer: Trainer) -> str | None:
        """Repeats the forward pass, layer by layer, and leaves model and random numbers as they were."""
        found: list[str] = []

        def look(name: str) -> Any:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                if not found and isinstance(output, Tensor) and not B.all_finite([output.data]):
                    found.append(f"{name} ({type(module).__name__})")

            return hook

        leaves = [(name, module) for name, module in trainer.model.named_modules() if not list(module.children())]
        state = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
        random = get_rng_state()
        handles = [module.register_forward_hook(look(name or "model")) for name, module in leaves]
        try:
            set_rng_state(self._before)
            with no_grad():
                trainer.predict(trainer.inputs)
        finally:
            for handle in handles:
                handle.remove()
            set_rng_state(random)
            trainer.model.load_state_dict(state)
        return found[0] if found else None
