"""Normalisation over the batch, the channels or groups of them."""

from __future__ import annotations

from collections.abc import Sequence

from engine import backend as B, functional as F, init
from engine.nn.module import Module
from engine.tensor import Parameter, Tensor, empty, ones, tensor, zeros

__all__ = ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "InstanceNorm2d", "LayerNorm", "LocalResponseNorm"]


class _RunningNorm(Module):
    """Scale and shift per channel, and running statistics."""

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    # The count came with PyTorch 0.4.1; many published checkpoints are older.
    _optional_state = ("num_batches_tracked",)
    _ranks: tuple[int, ...] = ()

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.register_parameter("weight", Parameter(empty(num_features)) if affine else None)
        self.register_parameter("bias", Parameter(empty(num_features)) if affine else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features) if tracked else None)
        self.register_buffer("running_var", ones(num_features) if tracked else None)
        self.register_buffer("num_batches_tracked", tensor(0, dtype="int64") if tracked else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Sets mean 0, variance 1 and count 0."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            B.fill_(self.running_mean.data, 0)
            B.fill_(self.running_var.data, 1)
            B.fill_(self.num_batches_tracked.data, 0)

    def reset_parameters(self) -> None:
        """Sets weight 1, bias 0 and the running statistics."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_rank(self, input: Tensor) -> None:
        if input.ndim not in self._ranks:
            expected = " or ".join(f"{rank}D" for rank in self._ranks)
            raise ValueError(
                f"[{type(self).__name__}] expected {expected} input (got {input.ndim}D input of shape "
                f"{tuple(input.shape)})"
            )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        return self.forward_act(input)

    def forward_act(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        activation: str = "none",
        out: F.Place | None = None,
    ) -> Tensor:
        """activation(forward(input) + residual) in one pass; activation and out as in `batch_norm_act`."""
        self._check_rank(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        running_mean, running_var = self.running_mean, self.running_var
        training = self.training
        if not training:
            training = running_mean is None and running_var is None
        elif self.track_running_stats:
            count = self.num_batches_tracked
            if count is not None:
                B.binary_("add", count.data, 1)
                if self.momentum is None:  # cumulative average
                    momentum = 1.0 / float(count.item())
        else:
            running_mean = running_var = None
        return F.batch_norm_act(
            input,
            running_mean,
            running_var,
            self.weight,
            self.bias,
            training,
            momentum,
            self.eps,
            residual,
            activation,
            out,
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of feature vectors: y = (x - mean) / sqrt(var + eps) * weight + bias, per channel.

    In training, mean and (biased) variance are those of the batch, and running averages follow them (with the
    unbiased variance); in evaluation the running averages are used.

    Args:
        num_features: number of channels C.
        eps: added to the variance.
        momentum: share of the new batch in the running averages; None averages over all batches.
        affine: whether weight and bias are learnt.
        track_running_stats: whether running averages are kept; otherwise batch statistics are always used.

    Shape:
        Input (N, C) or (N, C, L), output the same.

    Raises:
        ValueError: at the call, when the input has another rank or number of channels.

    Example:
        >>> import engine
        >>> engine.nn.BatchNorm1d(100)(engine.zeros(20, 100)).shape
        (20, 100)

    Follows torch.nn.BatchNorm1d; Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.
    """

    _ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images: y = (x - mean) / sqrt(var + eps) * weight + bias, per channel.

    In training, mean and (biased) variance are those of the batch, and running averages follow them (with the
    unbiased variance); in evaluation the running averages are used.

    Args:
        num_features: number of channels C.
        eps: added to the variance.
        momentum: share of the new batch in the running averages; None averages over all batches.
        affine: whether weight and bias are learnt.
        track_running_stats: whether running averages are kept; otherwise batch statistics are always used.

    Shape:
        Input (N, C, H, W), output the same.

    Raises:
        ValueError: at the call, when the input has another rank or number of channels.

    Example:
        >>> import engine
        >>> engine.nn.BatchNorm2d(100)(engine.zeros(20, 100, 35, 45)).shape
        (20, 100, 35, 45)

    Follows torch.nn.BatchNorm2d; Ioffe and Szegedy, https://arxiv.org/abs/1502.03167.
    """

    _ranks = (4,)


class InstanceNorm2d(_RunningNorm):
    """Normalises each channel of each image by its own mean and variance.

    Args:
        num_features: number of channels C.
        eps: added to the variance.
        momentum: share of the new batch in the running averages.
        affine: whether weight and bias are learnt.
        track_running_stats: whether running averages are kept and used in evaluation.

    Shape:
        Input (N, C, H, W) or (C, H, W), output the same.

    Raises:
        ValueError: at the call, when the input has another rank or number of channels.

    Example:
        >>> import engine
        >>> engine.nn.InstanceNorm2d(100)(engine.zeros(20, 100, 35, 45)).shape
        (20, 100, 35, 45)

    Follows torch.nn.InstanceNorm2d; Ulyanov et al., https://arxiv.org/abs/1607.08022.
    """

    _ranks = (3, 4)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        self._check_rank(input)
        if input.ndim == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        use_input_stats = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.instance_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, use_input_stats, momentum, self.eps
        )


class LayerNorm(Module):
    """Normalises over the last axes of each sample.

    Args:
        normalized_shape: sizes of the last axes, over which mean and variance are taken.
        eps: added to the variance.
        elementwise_affine: whether weight and bias of this shape are learnt.
        bias: whether bias is learnt (with elementwise_affine).

    Shape:
        Input (*, *normalized_shape), output the same.

    Raises:
        ValueError: at the call, when the last axes are not normalized_shape.

    Example:
        >>> import engine
        >>> engine.nn.LayerNorm([5, 10, 10])(engine.zeros(20, 5, 10, 10)).shape
        (20, 5, 10, 10)

    Follows torch.nn.LayerNorm; Ba, Kiros and Hinton, https://arxiv.org/abs/1607.06450.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape = shape
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.register_parameter("weight", Parameter(empty(*shape)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(empty(*shape)) if elementwise_affine and bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets weight 1 and bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalises groups of channels of each sample.

    Args:
        num_groups: number of groups; 1 is layer normalisation over (C, H, W), num_channels instance normalisation.
        num_channels: number of channels C.
        eps: added to the variance.
        affine: whether weight and bias per channel are learnt.

    Shape:
        Input (N, C, *), output the same.

    Raises:
        ValueError: num_channels is not a multiple of num_groups; at the call, when the channels differ.

    Example:
        >>> import engine
        >>> engine.nn.GroupNorm(3, 6)(engine.zeros(20, 6, 10, 10)).shape
        (20, 6, 10, 10)

    Follows torch.nn.GroupNorm; Wu and He, https://arxiv.org/abs/1803.08494.
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        if num_groups < 1 or num_channels % num_groups != 0:
            raise ValueError(
                f"[GroupNorm] num_channels must be divisible by num_groups, got {num_channels} and {num_groups}"
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.register_parameter("weight", Parameter(empty(num_channels)) if affine else None)
        self.register_parameter("bias", Parameter(empty(num_channels)) if affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets weight 1 and bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class LocalResponseNorm(Module):
    """Divides by the energy of neighbouring channels: y = x / (k + alpha / size * sum x^2)^beta.

    Args:
        size: number of neighbouring channels in the sum.
        alpha: weight of the sum.
        beta: exponent.
        k: constant added to the sum.

    Shape:
        Input (N, C, H, W), output the same.

    Example:
        >>> import engine
        >>> engine.nn.LocalResponseNorm(2)(engine.zeros(32, 5, 24, 24)).shape
        (32, 5, 24, 24)

    Follows torch.nn.LocalResponseNorm; Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
    Convolutional Neural Networks", 2012.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
