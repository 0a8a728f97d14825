"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from engine import backend as B
from engine.optim.optimizer import Batch, Optimizer, Params, State, check_at_least_zero, zeros_like
from engine.tensor import Tensor

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum on request: p -= lr * buf, buf = momentum * buf + (1 - dampening) * g.

    The first update sets buf = g. g includes weight_decay * p and l1 * sign(p).

    Args:
        params: tensors, or dictionaries of parameter groups.
        lr: learning rate.
        momentum: factor of the momentum buffer.
        dampening: the gradient enters the buffer with the factor 1 - dampening.
        weight_decay: factor of the L2 penalty's gradient.
        nesterov: look ahead by one step of momentum.
        l1: factor of the L1 penalty's gradient.
        maximize: ascend instead.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import engine
        >>> w = engine.nn.Parameter(engine.tensor([1.0]))
        >>> optimizer = engine.optim.SGD([w], lr=0.25, momentum=0.9)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.tolist()
        [0.5]

    Follows torch.optim.SGD; Sutskever et al., "On the importance of initialization and momentum in deep learning",
    2013.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        l1: float = 0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "l1": l1,
                "maximize": maximize,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        check_at_least_zero("SGD", group, "lr", "momentum", "weight_decay", "l1")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("[SGD] Nesterov momentum requires a momentum and zero dampening")

    def _init_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {}

    def _step_of(self, state: State) -> int:
        return int("momentum_buffer" in state)  # all that matters is whether there was an update before

    def _update(self, group: dict[str, Any], batch: Batch, params: list[B.Array], grads: list[B.Array]) -> None:
        momentum = group["momentum"]
        first = False
        buffers: list[B.Array] = []
        if momentum != 0:
            first = batch.step == 0
            if first:
                for i, state in zip(batch.indices, batch.states):
                    state["momentum_buffer"] = zeros_like(group["params"][i])
                batch.step = 1
            buffers = batch.column("momentum_buffer")
        B.sgd_step(
            params,
            grads,
            buffers,
            group["lr"],
            momentum,
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            first,
            group["l1"],
            group["maximize"],
        )
