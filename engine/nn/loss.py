"""Losses as modules."""

from __future__ import annotations

from engine import functional as F
from engine.nn.module import Module
from engine.tensor import Tensor

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    weight: Tensor | None

    def __init__(self, reduction: str = "mean", allowed: tuple[str, ...] = ("none", "mean", "sum")) -> None:
        super().__init__()
        if reduction not in allowed:
            raise ValueError(f"[{type(self).__name__}] reduction must be one of {allowed}, got {reduction!r}")
        self.reduction = reduction


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities: -(y log x + (1 - y) log(1 - x)).

    Args:
        weight: factor of each element, broadcast to the input.
        reduction: "mean", "sum" or "none" over all elements.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> loss = engine.nn.BCELoss()(engine.full((3,), 0.5), engine.ones(3))
        >>> round(loss.item(), 4)
        0.6931

    Follows torch.nn.BCELoss.
    """

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits: BCELoss of sigmoid(x), computed without overflow.

    Args:
        weight: factor of each element, broadcast to the input.
        reduction: "mean", "sum" or "none" over all elements.
        pos_weight: factor of the positive term, broadcast to the input.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> loss = engine.nn.BCEWithLogitsLoss()(engine.zeros(3), engine.ones(3))
        >>> round(loss.item(), 4)
        0.6931

    Follows torch.nn.BCEWithLogitsLoss.
    """

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", pos_weight: Tensor | None = None) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class CrossEntropyLoss(_Loss):
    """Softmax followed by the negative logarithm of the target's probability.

    Args:
        weight: factor of each class, (C).
        ignore_index: class indices that contribute nothing.
        reduction: "mean" (divides by the sum of the targets' weights), "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes, 0 to 1.

    Shape:
        Input (N, C) or (N, C, H, W); target class indices (N) or (N, H, W) of int64, or probabilities shaped as
        the input; output a scalar, or shaped as the indices with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> logits = engine.zeros(3, 5, requires_grad=True)
        >>> loss = engine.nn.CrossEntropyLoss()(logits, engine.tensor([1, 0, 4]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        1.6094

    Follows torch.nn.CrossEntropyLoss, where "mean" divides by the sum of the targets' weights.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class FocalLoss(_Loss):
    """Binary cross-entropy of logits, with easy examples weighted down by (1 - p_target)^gamma.

    Args:
        alpha: weight of the positive class, 0 to 1; negative for no weighting.
        gamma: how strongly easy examples are weighted down.
        reduction: "mean", "sum" or "none" over all elements.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> loss = engine.nn.FocalLoss()(engine.zeros(3), engine.ones(3))
        >>> round(loss.item(), 4)
        0.0433

    Follows torchvision.ops.sigmoid_focal_loss; Lin et al., https://arxiv.org/abs/1708.02002.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.sigmoid_focal_loss(input, target, self.alpha, self.gamma, self.reduction)


class HuberLoss(_Loss):
    """d^2 / 2 where |d| <= delta, delta (|d| - delta / 2) elsewhere, with d = input - target.

    Args:
        reduction: "mean", "sum" or "none" over all elements.
        delta: where the loss becomes linear.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> engine.nn.HuberLoss()(engine.zeros(3), engine.full((3,), 3.0)).item()
        2.5

    Follows torch.nn.HuberLoss.
    """

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence of the target from the input, which holds logarithms of probabilities.

    Args:
        reduction: "mean", "sum" or "none" over all elements, or "batchmean": the sum divided by N.
        log_target: whether the target holds logarithms, too.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> p = engine.tensor([[0.25, 0.75]])
        >>> engine.nn.KLDivLoss(reduction="batchmean")(p.log(), p).item()
        0.0

    Follows torch.nn.KLDivLoss.
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, ("none", "batchmean", "mean", "sum"))
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, self.reduction, self.log_target)


class L1Loss(_Loss):
    """|input - target|.

    Args:
        reduction: "mean", "sum" or "none" over all elements.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> engine.nn.L1Loss()(engine.zeros(3), engine.full((3,), -2.0)).item()
        2.0

    Follows torch.nn.L1Loss.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, self.reduction)


class MSELoss(_Loss):
    """(input - target)^2.

    Args:
        reduction: "mean", "sum" or "none" over all elements.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> engine.nn.MSELoss()(engine.zeros(3), engine.full((3,), -2.0)).item()
        4.0

    Follows torch.nn.MSELoss.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, self.reduction)


class NLLLoss(_Loss):
    """Negative logarithm of the target's probability, for inputs that are logarithms of probabilities.

    Args:
        weight: factor of each class, (C).
        ignore_index: class indices that contribute nothing.
        reduction: "mean" (divides by the sum of the targets' weights), "sum" or "none".

    Shape:
        Input (N, C) or (N, C, H, W); target class indices (N) or (N, H, W) of int64; output a scalar, or shaped as
        the target with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> log_probs = engine.nn.LogSoftmax(1)(engine.zeros(3, 5))
        >>> round(engine.nn.NLLLoss()(log_probs, engine.tensor([1, 0, 4])).item(), 4)
        1.6094

    Follows torch.nn.NLLLoss.
    """

    def __init__(self, weight: Tensor | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, with d = input - target.

    Args:
        reduction: "mean", "sum" or "none" over all elements.
        beta: where the loss becomes linear; 0 is L1Loss.

    Shape:
        Input (*), target the same; output a scalar, or (*) with reduction "none".

    Raises:
        ValueError: reduction is unknown; at the call, when the shapes do not fit.

    Example:
        >>> import engine
        >>> engine.nn.SmoothL1Loss()(engine.zeros(3), engine.full((3,), 3.0)).item()
        2.5

    Follows torch.nn.SmoothL1Loss; Girshick, https://arxiv.org/abs/1504.08083.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)
