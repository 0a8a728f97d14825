"""Leaving out parts of the input at random: elements, channels, images."""

from __future__ import annotations

from typing import NoReturn

from engine import backend as B, random
from engine.autograd import mode as grad_mode, record
from engine.backend import Array
from engine.tensor import Tensor, full


def _not_a_probability(p: float, name: str) -> NoReturn:
    raise ValueError(f"[{name}] expected a probability between 0 and 1, got p={p}")


def _drop(input: Tensor, p: float, kind: str, name: str) -> Tensor:
    if not 0.0 <= p <= 1.0:
        _not_a_probability(p, name)
    if p == 0.0:
        return input
    if p == 1.0:
        return input * 0.0
    seed, offset = random.next_key()
    y = B.dropout(input.data, p, seed, offset, kind)
    if not (input.requires_grad and grad_mode.enabled):
        return Tensor(y)

    def backward(dy: Array) -> tuple[Array]:
        return (B.dropout(dy, p, seed, offset, kind),)  # the same numbers, so the same mask

    return record(y, (input,), backward)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets elements to zero with probability p and divides the others by 1 - p.

    Args:
        input: any shape.
        p: probability of zero.
        training: whether anything is dropped at all.
        inplace: accepted, without effect.

    Raises:
        ValueError: if p is not a probability.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.dropout(engine.ones(2), training=False)
        tensor([1., 1.])

    Reference: Srivastava et al., 2014; torch.nn.functional.dropout.
    """
    return _drop(input, p, "element", "dropout") if training else input


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets whole channels to zero with probability p and divides the others by 1 - p.

    Args:
        input: channels are axis 1.
        p: probability of zero.
        training: whether anything is dropped at all.
        inplace: accepted, without effect.

    Shape:
        input (N, C, H, W) or (C, H, W); output as input.

    Raises:
        ValueError: if p is not a probability.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.dropout2d(engine.ones(1, 2, 3, 3), training=False).sum().item()
        18.0

    Reference: Tompson et al., 2014, https://arxiv.org/abs/1411.4280; torch.nn.functional.dropout2d.
    """
    if training and input.data.ndim == 3:
        return _drop(input.unsqueeze(0), p, "channel", "dropout2d").squeeze(0)
    return _drop(input, p, "channel", "dropout2d") if training else input


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    """Sets the whole input, or single images, to zero with probability p and divides the others by 1 - p.

    Args:
        input: images are axis 0.
        p: probability of zero.
        mode: "batch" drops all images together, "row" each on its own.
        training: whether anything is dropped at all.

    Raises:
        ValueError: if p is not a probability or the mode is another.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.stochastic_depth(engine.ones(2), 0.2, "row", training=False)
        tensor([1., 1.])

    Reference: Huang et al., 2016, https://arxiv.org/abs/1603.09382; torchvision.ops.stochastic_depth.
    """
    if mode not in ("batch", "row"):
        raise ValueError(f'[stochastic_depth] expected mode "batch" or "row", got {mode!r}')
    if not 0.0 <= p <= 1.0:
        _not_a_probability(p, "stochastic_depth")
    if not training or p == 0.0:
        return input
    if mode == "batch":
        return input * _drop(full((1,), 1.0), p, "element", "stochastic_depth")
    return _drop(input, p, "row", "stochastic_depth")
