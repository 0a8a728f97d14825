"""Neighbouring layers as one pass over memory.

A batch norm with the activation behind it and the shortcut added between them is one op; so is a convolution or a
linear layer with an activation. Where nothing is differentiated and the norm uses its running statistics, convolution
and norm become one convolution whose weight contains the norm, and a norm (with an activation) before a convolution is
applied as that reads its source. Modules stay what they are: only exactly these classes,
and only without hooks, are run together, and results differ from those of the modules one by one by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from engine import backend as B, functional as F
from engine.autograd import is_grad_enabled
from engine.nn.activation import Hardswish, ReLU, ReLU6, SiLU
from engine.nn.conv import Conv2d
from engine.nn.dropout import Dropout, Dropout2d, StochasticDepth
from engine.nn.linear import Identity, Linear
from engine.nn.module import Module
from engine.nn.norm import BatchNorm2d
from engine.nn.pool import MaxPool2d
from engine.tensor import Tensor

if TYPE_CHECKING:
    from engine.backend import Array

__all__ = ["run"]

ACTIVATIONS: dict[type[Module], str] = {ReLU: "relu", ReLU6: "relu6", SiLU: "silu", Hardswish: "hardswish"}
IDENTITIES = (Identity, Dropout, Dropout2d, StochasticDepth)  # outside training, or always


class Derived(NamedTuple):
    """Two arrays made of parameters, and what they were made of."""

    sources: list[tuple[Array | None, int | None]]
    values: tuple[Array, Array]


_derived: WeakKeyDictionary[Module, Derived] = WeakKeyDictionary()


def run(
    modules: Sequence[Module],
    x: Any,
    residual: Tensor | None = None,
    activation: Module | None = None,
    out: F.Place | None = None,
) -> Any:
    """Calls modules one after the other: activation(last(... first(x)) + residual), in fewer passes.

    Args:
        modules: the modules; containers among them are called as they are.
        x: input of the first module.
        residual: added to what the last module returns, of the same shape.
        activation: called last.
        out: asked by the last pass, if it can write to an array that is given, for that array.
    """
    steps: list[Any] = [module for module in modules if not _is_identity(module)]
    if residual is None and activation is not None:
        steps.append(activation)
    end, i = len(steps), 0
    while i < end:
        first = steps[i]
        i += 1
        conv = norm = prologue = None
        if _is_plain(first, BatchNorm2d):
            name = _name_of(steps[i]) if i < end else None
            behind = i + (name is not None)
            if behind < end and _is_conv(steps[behind]) and _can_precede(first, steps[behind], x, residual):
                prologue = (*_map_of(first), name or "none")
                first, i = steps[behind], behind + 1
        if _is_conv(first):
            conv = first
            if i < end and _is_plain(steps[i], BatchNorm2d):
                norm = steps[i]
                i += 1
        elif _is_plain(first, BatchNorm2d):
            norm = first
        elif _is_plain(first, Linear):
            name = _name_of(steps[i]) if i < end else None
            i += name is not None
            x = F.linear_act(x, first.weight, first.bias, name or "none")
            continue
        elif out is not None and i == end and residual is None and _is_plain(first, MaxPool2d):
            window = (first.kernel_size, first.stride, first.padding, first.dilation, first.ceil_mode)
            x = F.max_pool2d(x, *window, first.return_indices, out)
            continue
        else:
            x = first(x)
            continue
        added, name, last = None, None, None
        if i < end:
            name = _name_of(steps[i])
            if name is not None:
                i += 1
        elif residual is not None:
            added, residual, last, activation = residual, None, activation, None
            name = _name_of(last)
            if name is not None:
                last = None
        is_last = i == end and residual is None and last is None
        x = _together(prologue, conv, norm, x, added, name or "none", out if is_last else None)
        if last is not None:
            x = last(x)
    if residual is not None:
        x = x + residual
        if activation is not None:
            x = activation(x)
    return x


def _is_plain(module: Module, kind: type[Module]) -> bool:
    return module.__class__ is kind and not module._hooked and "forward" not in module.__dict__


def _is_identity(module: Module) -> bool:
    kind = module.__class__
    if kind not in IDENTITIES or module._hooked or "forward" in module.__dict__:
        return False
    return kind is Identity or not module.training or module.p == 0


def _name_of(module: Module | None) -> str | None:
    name = ACTIVATIONS.get(module.__class__)  # type: ignore[arg-type]
    return None if name is None or module._hooked or "forward" in module.__dict__ else name  # type: ignore[union-attr]


def _is_conv(module: Module) -> bool:
    return _is_plain(module, Conv2d) and module.padding_mode == "zeros"


def _together(
    prologue: Any, conv: Any, norm: Any, x: Tensor, residual: Tensor | None, activation: str, out: F.Place | None
) -> Tensor:
    """activation(norm(conv(prologue(x))) + residual); prologue, conv or norm may be None."""
    if conv is None:
        return norm.forward_act(x, residual, activation, out)
    weight, bias = conv.weight, conv.bias
    folded = norm is not None and _can_fold(conv, norm, x, residual)
    if folded:
        weight, bias = _fold(conv, norm)
    window = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if norm is None or folded:
        return F.conv2d_act(x, weight, bias, *window, residual, activation, out, prologue)
    x = F.conv2d_act(x, weight, bias, *window, prologue=prologue)
    return norm.forward_act(x, residual, activation, out)


def _can_fold(conv: Conv2d, norm: BatchNorm2d, x: Any, residual: Tensor | None) -> bool:
    return conv.out_channels == norm.num_features and _is_constant(conv, norm, x, residual)


def _can_precede(norm: BatchNorm2d, conv: Conv2d, x: Any, residual: Tensor | None) -> bool:
    """Whether the norm can be a prologue of the convolution; another number of channels is for the norm to report."""
    return x.ndim == 4 and x.shape[1] == norm.num_features and _is_constant(conv, norm, x, residual)


def _is_constant(conv: Conv2d, norm: BatchNorm2d, x: Any, residual: Tensor | None) -> bool:
    """Whether the norm is a scale and a shift, and nothing is differentiated."""
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return False
    if x.ndim != 4:
        return False  # for the norm to report
    if not is_grad_enabled():
        return True
    tensors = (x, residual, conv.weight, conv.bias, norm.weight, norm.bias)
    return not any(t is not None and t.requires_grad for t in tensors)


def _remembered(
    owner: Module, tensors: Sequence[Tensor | None], make: Callable[[], tuple[Array, Array]]
) -> tuple[Tensor, Tensor]:
    """What `make` makes of the tensors, kept with the owner while nothing changes.

    An array without a version can be written to unseen, so what is made of it is not kept.
    """
    arrays = [None if t is None else t.data for t in tensors]
    known = _derived.get(owner)
    if known is None or not all(
        a is b and (a is None or (version is not None and a.version == version))
        for a, (b, version) in zip(arrays, known.sources)
    ):
        known = Derived([(a, None if a is None else a.version) for a in arrays], make())
        _derived[owner] = known
    return Tensor(known.values[0]), Tensor(known.values[1])


def _scale_of(norm: BatchNorm2d) -> Array:
    """weight / sqrt(var + eps)."""
    assert norm.running_var is not None
    scale = B.unary("rsqrt", B.binary("add", norm.running_var.data, norm.eps))
    return scale if norm.weight is None else B.binary("mul", scale, norm.weight.data)


def _map_of(norm: BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The norm as scale and shift."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None

    def make() -> tuple[Array, Array]:
        scale = _scale_of(norm)
        shift = B.unary("neg", B.binary("mul", mean.data, scale))
        return scale, shift if norm.bias is None else B.binary("add", shift, norm.bias.data)

    return _remembered(norm, (norm.weight, norm.bias, mean, variance), make)


def _fold(conv: Conv2d, norm: BatchNorm2d) -> tuple[Tensor, Tensor]:
    """weight * s and (bias - mean) * s + norm.bias with s = norm.weight / sqrt(var + eps)."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None

    def make() -> tuple[Array, Array]:
        scale = _scale_of(norm)
        weight = B.binary("mul", conv.weight.data, B.reshape(scale, (-1, 1, 1, 1)))
        bias = B.unary("neg", mean.data) if conv.bias is None else B.binary("sub", conv.bias.data, mean.data)
        bias = B.binary("mul", bias, scale)
        return weight, bias if norm.bias is None else B.binary("add", bias, norm.bias.data)

    return _remembered(conv, (conv.weight, conv.bias, norm.weight, norm.bias, mean, variance), make)
