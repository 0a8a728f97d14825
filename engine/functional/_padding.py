"""Borders around images and other tensors."""

from __future__ import annotations

from collections.abc import Sequence

from engine import backend as B
from engine.autograd import record
from engine.backend import Array
from engine.functional._arguments import not_a_tensor
from engine.tensor import Tensor


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Adds elements around the last dimensions.

    Args:
        input: any shape; for the modes other than "constant" (N, C, H, W) or (C, H, W).
        pad: elements before and after the last dimension, then the one before it, ...: (left, right, top, bottom).
            Negative numbers cut off.
        mode: "constant", "reflect" (without repeating the edge) or "replicate" (of the edge).
        value: the constant; 0 by default.

    Raises:
        ValueError: if more is reflected than there is, or the mode is unknown.

    Example:
        >>> import engine
        >>> import engine.nn.functional as F
        >>> F.pad(engine.ones(1, 2), (1, 0))
        tensor([[0., 1., 1.]])

    Reference: torch.nn.functional.pad.
    """
    if not isinstance(input, Tensor):
        not_a_tensor("pad", input)
    x = input.data
    shape = x.shape
    pads = tuple([p.__index__() for p in pad])
    if len(pads) % 2 or len(pads) > 2 * len(shape):
        raise ValueError(f"[pad] expected a pair of numbers for each of at most {len(shape)} dimensions, got {pads}")
    if mode not in ("constant", "reflect", "replicate"):
        raise ValueError(f'[pad] expected mode "constant", "reflect" or "replicate", got {mode!r}')
    if mode != "constant":
        if value not in (None, 0):
            raise ValueError(f'[pad] expected value only with mode "constant", got mode={mode!r}, value={value}')
        if len(shape) == 3:
            return _pad_image(input.unsqueeze(0), pads, mode).squeeze(0)
        return _pad_image(input, pads, mode)
    if len(shape) == 4 and len(pads) == 4 and min(pads) >= 0 and x.dtype == "float32":
        return _pad_image(input, pads, mode, 0.0 if value is None else float(value))
    out, inner, outer = list(shape), [], []  # where the kept part lies in the input and in the output
    for axis, n in enumerate(shape):
        i = 2 * (len(shape) - 1 - axis)
        before, after = pads[i : i + 2] if i < len(pads) else (0, 0)
        out[axis] = n + before + after
        if out[axis] < 0:
            raise ValueError(
                f"[pad] expected sizes >= 0, got {out[axis]} for dimension {axis} of {shape} with padding {pads}"
            )
        inner.append((max(-before, 0), max(n - max(-after, 0), max(-before, 0))))
        outer.append((max(before, 0), max(before, 0) + inner[-1][1] - inner[-1][0]))
    steps = (1,) * len(shape)
    inner_starts, inner_stops = ([r[i] for r in inner] for i in range(2))
    outer_starts, outer_stops = ([r[i] for r in outer] for i in range(2))
    y = B.full(tuple(out), 0 if value is None else value, x.dtype)
    B.copy_(B.slice(y, outer_starts, outer_stops, steps), B.slice(x, inner_starts, inner_stops, steps))

    def backward(dy: Array) -> tuple[Array]:
        dx = B.full(shape, 0.0, "float32")
        B.copy_(B.slice(dx, inner_starts, inner_stops, steps), B.slice(dy, outer_starts, outer_stops, steps))
        return (dx,)

    return record(y, (input,), backward)


def _pad_image(input: Tensor, pads: tuple[int, ...], mode: str, value: float = 0.0) -> Tensor:
    x = input.data
    shape = x.shape
    if len(pads) == 2:
        pads = (*pads, 0, 0)
    if len(pads) != 4 or len(shape) != 4:
        raise ValueError(
            f"[pad] mode {mode!r} expected (left, right) or (left, right, top, bottom) for input (N, C, H, W) or "
            f"(C, H, W), got {pads} for shape {shape}"
        )
    if mode != "constant" and min(pads) < 0:  # add first, then cut off
        grown = _pad_image(input, tuple([max(p, 0) for p in pads]), mode)
        return _pad_image(grown, tuple([min(p, 0) for p in pads]), "constant")
    y = B.pad(x, pads, mode, value)

    def backward(dy: Array) -> tuple[Array]:
        return (B.pad_backward(dy, shape, pads, mode),)

    return record(y, (input,), backward)
