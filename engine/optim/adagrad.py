"""Adagrad."""

from __future__ import annotations

from typing import Any

from engine import backend as B
from engine.optim.optimizer import Batch, Optimizer, Params, State, check_at_least_zero, zeros_like
from engine.tensor import Tensor

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Divides the gradient by the root of the sum of all squares so far: s += g^2, p -= lr_t g / (sqrt(s) + eps).

    lr_t = lr / (1 + (t - 1) lr_decay) at the t-th update; g includes weight_decay * p and l1 * sign(p).

    Args:
        params: tensors, or dictionaries of parameter groups.
        lr: learning rate.
        lr_decay: decay of the learning rate.
        weight_decay: factor of the L2 penalty's gradient.
        initial_accumulator_value: initial s.
        eps: added to the root.
        l1: factor of the L1 penalty's gradient.
        maximize: ascend instead.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import engine
        >>> w = engine.nn.Parameter(engine.tensor([1.0]))
        >>> optimizer = engine.optim.Adagrad([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9

    Follows torch.optim.Adagrad; Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", 2011.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        *,
        l1: float = 0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "lr_decay": lr_decay,
                "eps": eps,
                "weight_decay": weight_decay,
                "initial_accumulator_value": initial_accumulator_value,
                "l1": l1,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        check_at_least_zero(
            "Adagrad", group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "l1"
        )

    def _init_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {"step": 0, "sum": zeros_like(param, group["initial_accumulator_value"])}

    def _update(self, group: dict[str, Any], batch: Batch, params: list[B.Array], grads: list[B.Array]) -> None:
        lr = group["lr"] / (1 + batch.step * group["lr_decay"])
        batch.step += 1
        for state in batch.states:
            state["step"] = batch.step
        B.adagrad_step(
            params,
            grads,
            batch.column("sum"),
            lr,
            group["eps"],
            group["weight_decay"],
            group["l1"],
            group["maximize"],
        )
