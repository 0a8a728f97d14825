"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from engine import backend as B
from engine.optim.optimizer import Batch, Optimizer, Params, State, check_at_least_zero, zeros_like
from engine.tensor import Tensor

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Running averages of gradient and square: p -= lr m^ / (sqrt(v^) + eps), m^ and v^ corrected for their start.

    m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2; g includes weight_decay * p (the L2 penalty's gradient)
    and l1 * sign(p).

    Args:
        params: tensors, or dictionaries of parameter groups.
        lr: learning rate.
        betas: decay of the two running averages.
        eps: added to the root.
        weight_decay: factor of the L2 penalty's gradient.
        amsgrad: divide by the root of the largest v^ so far.
        l1: factor of the L1 penalty's gradient.
        maximize: ascend instead.
        decoupled_weight_decay: shrink p by lr * weight_decay instead of changing g: AdamW.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import engine
        >>> w = engine.nn.Parameter(engine.tensor([1.0]))
        >>> optimizer = engine.optim.Adam([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.9

    Follows torch.optim.Adam; Kingma and Ba, https://arxiv.org/abs/1412.6980; Reddi, Kale and Kumar,
    https://arxiv.org/abs/1904.09237.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        l1: float = 0,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": tuple(betas),
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "l1": l1,
                "maximize": maximize,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check(self, group: dict[str, Any]) -> None:
        name = type(self).__name__
        check_at_least_zero(name, group, "lr", "eps", "weight_decay", "l1")
        for i, beta in enumerate(group["betas"]):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"[{name}] Invalid beta parameter at index {i}: {beta}, expected 0 <= beta < 1")

    def _init_state(self, param: Tensor, group: dict[str, Any]) -> State:
        state: State = {"step": 0, "exp_avg": zeros_like(param), "exp_avg_sq": zeros_like(param)}
        if group["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(param)
        return state

    def _update(self, group: dict[str, Any], batch: Batch, params: list[B.Array], grads: list[B.Array]) -> None:
        batch.step += 1
        for state in batch.states:
            state["step"] = batch.step
        beta1, beta2 = group["betas"]
        B.adam_step(
            params,
            grads,
            batch.column("exp_avg"),
            batch.column("exp_avg_sq"),
            batch.column("max_exp_avg_sq") if group["amsgrad"] else [],
            group["lr"],
            beta1,
            beta2,
            group["eps"],
            group["weight_decay"],
            batch.step,
            group["amsgrad"],
            group["decoupled_weight_decay"],
            group["l1"],
            group["maximize"],
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: p shrinks by lr * weight_decay * p, whatever the gradient's size.

    Args:
        params: tensors, or dictionaries of parameter groups.
        lr: learning rate.
        betas: decay of the two running averages.
        eps: added to the root.
        weight_decay: decay of the parameters, times lr.
        amsgrad: divide by the root of the largest v^ so far.
        l1: factor of the L1 penalty's gradient.
        maximize: ascend instead.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import engine
        >>> w = engine.nn.Parameter(engine.tensor([1.0]))
        >>> optimizer = engine.optim.AdamW([w], lr=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> round(w.item(), 4)
        0.899

    Follows torch.optim.AdamW; Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        l1: float = 0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            l1=l1,
            maximize=maximize,
            decoupled_weight_decay=True,
        )
