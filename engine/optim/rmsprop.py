"""RMSprop."""

from __future__ import annotations

from typing import Any

from engine import backend as B
from engine.optim.optimizer import Batch, Optimizer, Params, State, check_at_least_zero, zeros_like
from engine.tensor import Tensor

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Divides the gradient by a running average of its size: p -= lr g / (sqrt(v) + eps).

    v = alpha v + (1 - alpha) g^2; g includes weight_decay * p and l1 * sign(p).

    Args:
        params: tensors, or dictionaries of parameter groups.
        lr: learning rate.
        alpha: decay of the running average.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        momentum: factor of the momentum buffer.
        centered: subtract the square of the running average of the gradient, so that v is its variance.
        l1: factor of the L1 penalty's gradient.
        maximize: ascend instead.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import engine
        >>> w = engine.nn.Parameter(engine.tensor([1.0]))
        >>> optimizer = engine.optim.RMSprop([w], lr=0.01)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9

    Follows torch.optim.RMSprop; Hinton, "Neural Networks for Machine Learning", lecture 6, 2012.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        *,
        l1: float = 0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "alpha": alpha,
                "eps": eps,
                "centered": centered,
                "weight_decay": weight_decay,
                "l1": l1,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        check_at_least_zero("RMSprop", group, "lr", "eps", "momentum", "weight_decay", "alpha", "l1")

    def _init_state(self, param: Tensor, group: dict[str, Any]) -> State:
        state: State = {"step": 0, "square_avg": zeros_like(param)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros_like(param)
        if group["centered"]:
            state["grad_avg"] = zeros_like(param)
        return state

    def _step_of(self, state: State) -> int:
        return 0  # the count plays no part in the update

    def _update(self, group: dict[str, Any], batch: Batch, params: list[B.Array], grads: list[B.Array]) -> None:
        for state in batch.states:
            state["step"] += 1
        B.rmsprop_step(
            params,
            grads,
            batch.column("square_avg"),
            batch.column("momentum_buffer") if group["momentum"] > 0 else [],
            batch.column("grad_avg") if group["centered"] else [],
            group["lr"],
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
            group["centered"],
            group["l1"],
            group["maximize"],
        )
