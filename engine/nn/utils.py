"""Gradient clipping, where PyTorch users look for it."""

from __future__ import annotations

from collections.abc import Iterable

from engine import backend as B
from engine.tensor import Tensor

__all__ = ["clip_grad_norm_", "clip_grad_value_", "get_total_norm"]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[B.Array]:
    params = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [param.grad.data for param in params if param.grad is not None]


def get_total_norm(
    tensors: Tensor | Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Returns the norm of all elements of all tensors, as if they were one vector.

    Args:
        tensors: one or more tensors.
        norm_type: p of the p-norm; infinity gives the largest absolute value.
        error_if_nonfinite: whether NaN and infinity are errors.

    Raises:
        RuntimeError: the norm is not finite, with error_if_nonfinite.

    Example:
        >>> import engine
        >>> engine.nn.utils.get_total_norm([engine.tensor([3.0]), engine.tensor([4.0])]).item()
        5.0

    Follows torch.nn.utils.get_total_norm.
    """
    arrays = [t.data for t in ([tensors] if isinstance(tensors, Tensor) else tensors)]
    return _total_norm(arrays, norm_type, error_if_nonfinite)


def _total_norm(arrays: list[B.Array], norm_type: float, error_if_nonfinite: bool) -> Tensor:
    norm = B.total_norm(arrays, float(norm_type)) if arrays else 0.0
    if error_if_nonfinite and not abs(norm) < float("inf"):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return Tensor(B.full((), norm, "float32"))


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scales all gradients by one factor so that their common norm is at most max_norm.

    Args:
        parameters: the parameters whose gradients are scaled in place; those without are skipped.
        max_norm: the largest norm allowed.
        norm_type: p of the p-norm; infinity gives the largest absolute value.
        error_if_nonfinite: whether a norm of NaN or infinity is an error.

    Returns:
        The norm before scaling.

    Raises:
        RuntimeError: the norm is not finite, with error_if_nonfinite.

    Example:
        >>> import engine
        >>> x = engine.tensor([3.0, 4.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> engine.nn.utils.clip_grad_norm_(x, max_norm=1.0).item()
        10.0

    Follows torch.nn.utils.clip_grad_norm_; Pascanu, Mikolov and Bengio, https://arxiv.org/abs/1211.5063.
    """
    arrays = _gradients(parameters)
    norm = _total_norm(arrays, norm_type, error_if_nonfinite)
    factor = float(max_norm) / (norm.item() + 1e-6)
    if arrays and not factor >= 1.0:  # NaN scales, too, as in PyTorch
        B.scale_(arrays, factor)
    return norm


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limits every element of all gradients to +-clip_value.

    Args:
        parameters: the parameters whose gradients are limited in place; those without are skipped.
        clip_value: the largest absolute value allowed.

    Example:
        >>> import engine
        >>> x = engine.tensor([1.0, -20.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> engine.nn.utils.clip_grad_value_(x, 5.0)
        >>> x.grad.tolist()
        [2.0, -5.0]

    Follows torch.nn.utils.clip_grad_value_.
    """
    arrays = _gradients(parameters)
    if arrays:
        B.clamp_(arrays, float(clip_value))
