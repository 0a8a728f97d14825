"""Normalization over the batch, the channels or groups of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine import backend as B
from engine.autograd import mode as grad_mode, record
from engine.backend import Array
from engine.functional._arguments import Place, data_of, not_a_tensor, wants_grad
from engine.tensor import Tensor


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel to mean 0 and variance 1, then scales and shifts it.

    Args:
        input: channels are axis 1.
        running_mean: mean of each channel; updated in place when training.
        running_var: unbiased variance of each channel; updated in place when training.
        weight: factor per channel.
        bias: summand per channel.
        training: whether statistics come from the batch rather than from the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Shape:
        input (N, C), (N, C, L) or (N, C, H, W), all others (C); output as input.

    Raises:
        ValueError: when training on one value per channel.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.batch_norm(engine.tensor([[1.0], [3.0]]), None, None, training=True).flatten()
        tensor([-1.,  1.])

    Reference: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167; torch.nn.functional.batch_norm.
    """
    return batch_norm_act(input, running_mean, running_var, weight, bias, training, momentum, eps)


def batch_norm_act(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    residual: Tensor | None = None,
    activation: str = "none",
    out: Place | None = None,
) -> Tensor:
    """Batch norm, then a residual added and an activation applied, in one pass: activation(batch_norm(x) + residual).

    The backward pass computes again what the activation saw, so nothing more than for the batch norm is kept.

    Args:
        input: channels are axis 1.
        running_mean: mean of each channel; updated in place when training.
        running_var: unbiased variance of each channel; updated in place when training.
        weight: factor per channel.
        bias: summand per channel.
        training: whether statistics come from the batch rather than from the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.
        residual: added before the activation.
        activation: "none", "relu", "relu6", "silu" or "hardswish".
        out: with an input (N, C, H, W) called with the output's shape for the array (pixels of adjacent channels) that
            the output is written to; where it returns None the output is an array of its own.

    Shape:
        input (N, C), (N, C, L) or (N, C, H, W), residual and output the same, all others (C).

    Raises:
        ValueError: when training on one value per channel, or for another activation.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> x, shortcut = engine.tensor([[1.0], [3.0]]), engine.tensor([[-1.0], [1.0]])
        >>> F.batch_norm_act(x, None, None, training=True, residual=shortcut, activation="relu").flatten()
        tensor([0., 2.])
    """
    if not isinstance(input, Tensor):
        not_a_tensor("batch_norm", input)
    x = input.data
    if training:
        shape = x.shape
        if len(shape) > 1 and x.size == shape[1] and x.size:
            raise ValueError(
                f"[batch_norm] expected more than 1 value per channel when training, got input of shape {shape}: "
                "use a larger batch (drop_last=True in the loader) or eval()"
            )
    elif running_mean is None or running_var is None:
        raise ValueError("[batch_norm] expected running_mean and running_var when training=False")
    w, added, mean, var = data_of(weight), data_of(residual), data_of(running_mean), data_of(running_var)
    place = None if out is None or x.ndim != 4 else out(x.shape)
    y, mean, invstd, shift = B.batch_norm(
        x, w, data_of(bias), mean, var, training, float(momentum), eps, added, activation, place
    )
    inputs = (input, weight, bias, residual)
    if not grad_mode.enabled or not any(wants_grad(t) for t in inputs):
        return Tensor(y)
    kept = None
    if added is not None and activation != "none":
        kept = y if activation in ("relu", "relu6") else added

    def backward(dy: Array) -> tuple[Array | None, ...]:
        dx, dw, db, d_added = B.batch_norm_backward(dy, x, w, mean, invstd, training, shift, kept, activation)
        return dx, dw, db, dy if d_added is None else d_added

    return record(y, inputs, backward, alias=residual is not None and kept is None)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel of each image on its own.

    Args:
        input: channels are axis 1.
        running_mean: mean of each channel over images; updated in place with use_input_stats.
        running_var: unbiased variance of each channel over images; updated in place with use_input_stats.
        weight: factor per channel.
        bias: summand per channel.
        use_input_stats: whether statistics come from the input rather than from the running ones.
        momentum: weight of the batch in the running statistics.
        eps: added to the variance.

    Shape:
        input (N, C, ...), all others (C); output as input.

    Raises:
        ValueError: for one value per channel.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.instance_norm(engine.tensor([[[1.0, 3.0]]]))
        tensor([[[-1.,  1.]]])

    Reference: Ulyanov et al., 2016, https://arxiv.org/abs/1607.08022; torch.nn.functional.instance_norm.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    shape = input.shape
    if len(shape) < 3:
        raise ValueError(f"[instance_norm] expected input (N, C, ...), got shape {shape}")
    count = math.prod(shape[2:])
    if count == 1:
        raise ValueError(f"[instance_norm] expected more than 1 value per channel, got input of shape {shape}")
    if running_mean is not None and running_var is not None and input.data.size:
        x = input.detach()
        axes = tuple(range(2, len(shape)))
        for running, batch in ((running_mean, x.mean(axes)), (running_var, x.var(axes))):
            running.copy_(running * (1 - momentum) + batch.mean(0) * momentum)
    return group_norm(input, shape[1], weight, bias, eps)


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes over the last dimensions, then scales and shifts.

    Args:
        input: any shape that ends in normalized_shape.
        normalized_shape: sizes of the dimensions that are normalized together.
        weight: factors.
        bias: summands.
        eps: added to the variance.

    Shape:
        input (..., *normalized_shape), weight and bias normalized_shape; output as input.

    Raises:
        ValueError: if the input does not end in normalized_shape.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.layer_norm(engine.tensor([[1.0, 3.0]]), (2,))
        tensor([[-1.,  1.]])

    Reference: Ba et al., 2016, https://arxiv.org/abs/1607.06450; torch.nn.functional.layer_norm.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("layer_norm", input)
    x = input.data
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    dims = len(wanted)
    if dims == 0 or x.shape[-dims:] != wanted:
        raise ValueError(f"[layer_norm] expected input that ends in normalized_shape={wanted}, got shape {x.shape}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.data.shape != wanted:
            raise ValueError(f"[layer_norm] expected {name} of shape {wanted}, got {parameter.data.shape}")
    w = data_of(weight)
    y, mean, invstd = B.layer_norm(x, dims, w, data_of(bias), eps)
    if not grad_mode.enabled or not (input.requires_grad or wants_grad(weight) or wants_grad(bias)):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array | None, ...]:
        return B.layer_norm_backward(dy, x, w, mean, invstd, dims)

    return record(y, (input, weight, bias), backward)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes groups of channels of each image, then scales and shifts each channel.

    Args:
        input: channels are axis 1.
        num_groups: number of groups; divides the number of channels.
        weight: factor per channel.
        bias: summand per channel.
        eps: added to the variance.

    Shape:
        input (N, C, ...), weight and bias (C); output as input.

    Raises:
        ValueError: if the groups do not divide the channels.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.group_norm(engine.ones(2, 4, 3, 3), 2).shape
        (2, 4, 3, 3)

    Reference: Wu and He, 2018, https://arxiv.org/abs/1803.08494; torch.nn.functional.group_norm.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("group_norm", input)
    x, w = input.data, data_of(weight)
    y, mean, invstd = B.group_norm(x, num_groups, w, data_of(bias), eps)
    if not grad_mode.enabled or not (input.requires_grad or wants_grad(weight) or wants_grad(bias)):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array | None, ...]:
        return B.group_norm_backward(dy, x, w, mean, invstd, num_groups)

    return record(y, (input, weight, bias), backward)


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divides by (k + alpha * mean of the squares of `size` neighbouring channels) ** beta.

    Args:
        input: channels are axis 1.
        size: number of neighbouring channels.
        alpha: factor of the mean square.
        beta: exponent.
        k: summand.

    Shape:
        input (N, C, H, W); output as input.

    Raises:
        ValueError: for another rank or a size below 1.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.local_response_norm(engine.ones(1, 8, 2, 2), 5).shape
        (1, 8, 2, 2)

    Reference: Krizhevsky et al., 2012 (AlexNet), section 3.3; torch.nn.functional.local_response_norm.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("local_response_norm", input)
    x = input.data
    y = B.local_response_norm(x, size, alpha, beta, k)

    def backward(dy: Array) -> tuple[Array]:
        return (B.local_response_norm_backward(dy, x, y, size, alpha, beta, k),)

    return record(y, (input,), backward)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divides vectors along `dim` by their p-norm.

    Args:
        input: the vectors.
        p: exponent of the norm.
        dim: dimension of the vectors.
        eps: smallest divisor.

    Shape:
        input of any shape; output as input.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.normalize(engine.tensor([[3.0, 4.0]]))
        tensor([[0.6, 0.8]])

    Reference: torch.nn.functional.normalize.
    """
    return input / input.norm(p, dim, True).clamp(min=eps)
