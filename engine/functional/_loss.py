"""Losses, and class indices as the vectors that some of them take."""

from __future__ import annotations

import math
from typing import NoReturn

from engine import backend as B
from engine.autograd import mode as grad_mode, record
from engine.backend import Array
from engine.functional._activation import log_softmax, logsigmoid
from engine.functional._arguments import not_a_tensor
from engine.tensor import Tensor, where


def _unknown_reduction(reduction: str, name: str) -> NoReturn:
    raise ValueError(f'[{name}] expected reduction "mean", "sum" or "none", got {reduction!r}')


def _reduce(loss: Tensor, reduction: str, name: str) -> Tensor:
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    if reduction == "none":
        return loss
    _unknown_reduction(reduction, name)


def _same_shape(input: Tensor, target: Tensor, name: str) -> None:
    if input.data.shape != target.data.shape:
        raise ValueError(
            f"[{name}] expected input and target of one shape, got {input.data.shape} and {target.data.shape}: "
            "reshape or expand one of them"
        )


def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target) ** 2.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.mse_loss(engine.tensor([1.0, 3.0]), engine.tensor([1.0, 1.0])).item()
        2.0

    Reference: torch.nn.functional.mse_loss.
    """
    _same_shape(input, target, "mse_loss")
    return _reduce((input - target).square(), reduction, "mse_loss")


def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|input - target|.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.l1_loss(engine.tensor([1.0, 3.0]), engine.tensor([1.0, 1.0])).item()
        1.0

    Reference: torch.nn.functional.l1_loss.
    """
    _same_shape(input, target, "l1_loss")
    return _reduce((input - target).abs(), reduction, "l1_loss")


def huber_loss(input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared error up to delta, beyond that linear.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".
        delta: where the parabola becomes a line.

    Raises:
        ValueError: if shapes differ or delta is not positive.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.huber_loss(engine.tensor([0.0, 3.0]), engine.tensor([1.0, 0.0]), reduction="none")
        tensor([0.5, 2.5])

    Reference: torch.nn.functional.huber_loss.
    """
    _same_shape(input, target, "huber_loss")
    if delta <= 0:
        raise ValueError(f"[huber_loss] expected delta > 0, got {delta}")
    error = (input - target).abs()
    return _reduce(where(error <= delta, error.square() * 0.5, (error - 0.5 * delta) * delta), reduction, "huber_loss")


def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """The Huber loss divided by beta.

    Args:
        input: the prediction.
        target: the truth, of the same shape.
        reduction: "mean", "sum" or "none".
        beta: where the parabola becomes a line; 0 gives the L1 loss.

    Raises:
        ValueError: if shapes differ or beta is negative.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.smooth_l1_loss(engine.tensor([0.0, 3.0]), engine.tensor([1.0, 0.0]), reduction="none")
        tensor([0.5, 2.5])

    Reference: Girshick, 2015, https://arxiv.org/abs/1504.08083; torch.nn.functional.smooth_l1_loss.
    """
    _same_shape(input, target, "smooth_l1_loss")
    if beta < 0:
        raise ValueError(f"[smooth_l1_loss] expected beta >= 0, got {beta}")
    error = (input - target).abs()
    if beta == 0:
        return _reduce(error, reduction, "smooth_l1_loss")
    return _reduce(where(error < beta, error.square() * (0.5 / beta), error - 0.5 * beta), reduction, "smooth_l1_loss")


def _class_target(input: Tensor, target: Tensor, name: str) -> Array:
    """The target as int64, checked against the shape of (N, C, ...) scores."""
    labels = target.data
    kind = labels.dtype
    shape = input.data.shape
    if kind == "float32":
        values = "" if B.all_finite([labels]) else ", which holds NaN labels or infinity"
        raise TypeError(
            f"[{name}] expected class indices of int64, got a float32 target of shape {labels.shape}{values} for input "
            f"of shape {shape}: use target.long(), or class probabilities of the input's shape"
        )
    if kind == "bool":
        raise TypeError(f"[{name}] expected class indices of int64, got bool: use target.long()")
    wanted = shape[:1] + shape[2:] if len(shape) > 1 else ()
    if labels.shape != wanted:
        raise ValueError(
            f"[{name}] expected a target of shape {wanted} for input of shape {shape}, got {labels.shape}: one class "
            "index per image or pixel"
        )
    return labels if kind == "int64" else B.cast(labels, "int64")


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(softmax(input)) of the right class.

    Args:
        input: scores before softmax; classes are axis 1.
        target: class indices, or probabilities of all classes.
        weight: factor per class.
        ignore_index: targets of this class do not count.
        reduction: "mean" (weighted with class indices and weight), "sum" or "none".
        label_smoothing: share of the target that is spread evenly over all classes.

    Shape:
        input (N, C), (N, C, ...) or (C); target (N), (N, ...) or () of int64, or float32 of the input's shape;
        weight (C). Output: a scalar, with reduction="none" the shape of the class indices.

    Raises:
        ValueError: if shapes do not match.
        TypeError: if class indices are not integers (NaN labels among them).
        IndexError: if a class index is out of range.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.cross_entropy(engine.zeros(3, 4), engine.tensor([0, 1, 3]))
        tensor(1.3863)

    Reference: torch.nn.functional.cross_entropy; label smoothing: Szegedy et al., 2015,
    https://arxiv.org/abs/1512.00567.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("cross_entropy", input)
    x = input.data
    shape = x.shape
    if target.data.dtype == "float32" and target.data.shape == shape:
        return _soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    labels = _class_target(input, target, "cross_entropy")
    rank = len(shape)
    if rank != 2 and rank != 4:
        if rank == 0:
            raise ValueError("[cross_entropy] expected input (N, C), (N, C, ...) or (C), got a scalar")
        flat = (1, shape[0]) if rank == 1 else (shape[0], shape[1], 1, math.prod(shape[2:]))
        loss = cross_entropy(
            input.reshape(flat),
            Tensor(B.reshape(labels, flat[:1] + flat[2:])),
            weight,
            ignore_index,
            reduction,
            label_smoothing,
        )
        return loss.reshape(labels.shape) if reduction == "none" else loss
    if reduction not in ("mean", "sum", "none"):
        _unknown_reduction(reduction, "cross_entropy")
    w = None if weight is None else weight.data
    loss_, log_probs, total = B.cross_entropy(x, labels, w, ignore_index, label_smoothing, reduction)
    if not (input.requires_grad and grad_mode.enabled):
        return Tensor(loss_)

    def backward(dy: Array) -> tuple[Array]:
        return (B.cross_entropy_backward(dy, log_probs, labels, w, ignore_index, label_smoothing, reduction, total),)

    return record(loss_, (input,), backward)


def _soft_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> Tensor:
    shape = input.data.shape
    axis = 0 if len(shape) == 1 else 1
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"[cross_entropy] expected label_smoothing between 0 and 1, got {label_smoothing}")
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / shape[axis]
    terms = log_softmax(input, axis) * target
    if weight is not None:
        terms = terms * _per_class(weight, shape, axis, "cross_entropy")
    loss = -terms.sum(axis)
    if reduction == "mean":  # PyTorch divides by the number of distributions, whatever the weights
        return loss.sum() / float(max(math.prod(shape) // max(shape[axis], 1), 1))
    return _reduce(loss, reduction, "cross_entropy")


def _per_class(weight: Tensor, shape: tuple[int, ...], axis: int, name: str) -> Tensor:
    """A weight per class in a shape that broadcasts along the class axis."""
    if weight.data.shape != (shape[axis],):
        raise ValueError(f"[{name}] expected one weight per class, ({shape[axis]},), got {weight.data.shape}")
    return weight.reshape((shape[axis],) + (1,) * (len(shape) - axis - 1))


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-input of the right class; with log-probabilities the negative log-likelihood.

    Args:
        input: log-probabilities; classes are axis 1.
        target: class indices.
        weight: factor per class.
        ignore_index: targets of this class do not count.
        reduction: "mean" (weighted), "sum" or "none".

    Shape:
        input (N, C), (N, C, ...) or (C); target (N), (N, ...) or () of int64; weight (C). Output: a scalar, with
        reduction="none" the shape of the target.

    Raises:
        ValueError: if shapes do not match.
        TypeError: if class indices are not integers.
        IndexError: if a class index is out of range.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.nll_loss(engine.tensor([[-1.0, -2.0]]), engine.tensor([1])).item()
        2.0

    Reference: torch.nn.functional.nll_loss.
    """
    labels = Tensor(_class_target(input, target, "nll_loss"))
    shape = input.data.shape
    axis = 0 if len(shape) == 1 else 1
    counts = labels != ignore_index
    valid = where(counts, labels, 0)
    if valid.data.size:
        low, high = valid.min().item(), valid.max().item()
        if low < 0 or high >= shape[axis]:
            raise IndexError(f"[nll_loss] expected class indices in [0, {shape[axis]}), got {low if low < 0 else high}")
    picked = input.gather(axis, valid.unsqueeze(axis)).squeeze(axis)
    if weight is None:
        scale = counts.float()
    else:
        _per_class(weight, shape, axis, "nll_loss")
        scale = where(counts, weight[valid], 0.0)
    # where rather than a product: an ignored -inf must not become NaN
    loss = where(counts, -picked, 0.0) * scale
    if reduction == "mean":
        return loss.sum() / scale.sum()
    return _reduce(loss, reduction, "nll_loss")


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean"
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), with logarithms no smaller than -100.

    Args:
        input: probabilities.
        target: truths between 0 and 1, of the same shape.
        weight: factor that broadcasts to the input.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ or a probability lies outside [0, 1].

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.binary_cross_entropy(engine.tensor([0.5]), engine.tensor([1.0]))
        tensor(0.6931)

    Reference: torch.nn.functional.binary_cross_entropy.
    """
    _same_shape(input, target, "binary_cross_entropy")
    x, t = input.data, target.data
    if x.size:
        low, high = (B.reduce(op, x, tuple(range(x.ndim)), False).item() for op in ("min", "max"))
        if low < 0 or high > 1:
            raise ValueError(
                f"[binary_cross_entropy] expected probabilities between 0 and 1, got values from {low} to {high}: "
                "use binary_cross_entropy_with_logits for scores"
            )
    log_x = B.binary("maximum", B.unary("log", x), -100.0)
    log_1_x = B.binary("maximum", B.unary("log1p", B.unary("neg", x)), -100.0)
    # t log x + (1 - t) log(1 - x), negated
    y = B.binary("sub", B.binary("mul", B.binary("sub", t, 1.0), log_1_x), B.binary("mul", t, log_x))

    def backward(dy: Array) -> tuple[Array, Array | None]:
        variance = B.binary("maximum", B.binary("mul", B.binary("sub", 1.0, x), x), 1e-12)
        dx = B.binary("mul", dy, B.binary("div", B.binary("sub", x, t), variance))
        dt = B.binary("mul", dy, B.binary("sub", log_1_x, log_x)) if target.requires_grad else None
        return dx, dt

    loss = record(y, (input, target), backward)
    if weight is not None:
        loss = loss * weight
    return _reduce(loss, reduction, "binary_cross_entropy")


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """The binary cross-entropy of sigmoid(input), computed without overflow.

    Args:
        input: scores before the sigmoid.
        target: truths between 0 and 1, of the same shape.
        weight: factor that broadcasts to the input.
        reduction: "mean", "sum" or "none".
        pos_weight: factor of the positive truths, broadcasts to the input.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.binary_cross_entropy_with_logits(engine.tensor([0.0]), engine.tensor([1.0]))
        tensor(0.6931)

    Reference: torch.nn.functional.binary_cross_entropy_with_logits.
    """
    _same_shape(input, target, "binary_cross_entropy_with_logits")
    penalty = logsigmoid(input)
    if pos_weight is not None:
        penalty = penalty * ((pos_weight - 1) * target + 1)
    loss = (1 - target) * input - penalty
    if weight is not None:
        loss = loss * weight
    return _reduce(loss, reduction, "binary_cross_entropy_with_logits")


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence target * (log(target) - input).

    Args:
        input: log-probabilities.
        target: probabilities, of the same shape.
        reduction: "mean" (over all elements), "batchmean" (the sum over N: the divergence itself), "sum" or "none".
        log_target: whether the target holds log-probabilities.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.kl_div(engine.tensor([[0.0]]), engine.tensor([[1.0]]), reduction="batchmean").item()
        0.0

    Reference: torch.nn.functional.kl_div.
    """
    _same_shape(input, target, "kl_div")
    if log_target:
        loss = target.exp() * (target - input)
    else:  # 0 log 0 is 0
        positive = target != 0
        loss = where(positive, target * where(positive, target, 1.0).log(), 0.0) - target * input
    if reduction == "batchmean":
        return loss.sum() / float(max(input.shape[0], 1)) if input.ndim else loss
    return _reduce(loss, reduction, "kl_div")


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """Binary cross-entropy with logits, times (1 - probability of the truth) ** gamma: easy examples count less.

    Args:
        inputs: scores before the sigmoid.
        targets: 0 or 1, of the same shape.
        alpha: weight of the positive truths, 1 - alpha of the negative ones; negative for no weights.
        gamma: how much less easy examples count.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: if shapes differ or alpha is larger than 1.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.sigmoid_focal_loss(engine.tensor([0.0]), engine.tensor([1.0]))
        tensor([0.0433])

    Reference: Lin et al., 2017, https://arxiv.org/abs/1708.02002; torchvision.ops.sigmoid_focal_loss.
    """
    if alpha > 1:
        raise ValueError(f"[sigmoid_focal_loss] expected alpha <= 1, got {alpha}")
    targets = targets.float()
    p = inputs.sigmoid()
    loss = binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_true = p * targets + (1 - p) * (1 - targets)
    loss = loss * (1 - p_true) ** gamma
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return _reduce(loss, reduction, "sigmoid_focal_loss")


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A 1 at each class index, else 0.

    Args:
        tensor: class indices of int64.
        num_classes: number of classes; by default the largest index plus one.

    Shape:
        tensor (...); output (..., num_classes) of int64.

    Raises:
        ValueError: if an index is negative or too large.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.one_hot(engine.tensor([0, 2]), 3)
        tensor([[1, 0, 0],
                [0, 0, 1]])

    Reference: torch.nn.functional.one_hot.
    """
    labels = tensor.data
    if labels.dtype != "int64":
        raise TypeError(f"[one_hot] expected class indices of int64, got {labels.dtype}: use .long()")
    if labels.size:
        low, high = tensor.min().item(), tensor.max().item()
        if low < 0 or 0 <= num_classes <= high:
            raise ValueError(f"[one_hot] expected class indices in [0, {num_classes}), got {low} to {high}")
        num_classes = high + 1 if num_classes < 0 else num_classes
    elif num_classes < 0:
        raise ValueError("[one_hot] expected num_classes for an empty tensor")
    classes = B.arange(0, num_classes, 1, "int64")
    return Tensor(B.cast(B.binary("eq", B.reshape(labels, (*labels.shape, 1)), classes), "int64"))
