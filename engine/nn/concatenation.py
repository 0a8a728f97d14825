"""Results side by side along the channels, without the copies of cat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine import backend as B
from engine.nn import fusion
from engine.nn.container import opened
from engine.nn.module import Module
from engine.tensor import Tensor, joined

if TYPE_CHECKING:
    from engine.backend import Array

__all__ = ["Concatenation"]


class Concatenation:
    """One tensor whose channels are results of several chains of modules, each written where it belongs.

    What cat([run(modules, x), ...], 1) returns, gradients included. The whole is allocated once; a chain whose last
    pass is a convolution or a batch norm, with an activation or without, or a MaxPool2d writes to its channels of the
    whole; other results are copied there.

    Args:
        channels: channels of the whole.

    Shape:
        Results (N, C, H, W), equal but for C; their channels together are at most `channels`.

    Raises:
        ValueError: a result has another shape than those before, or too many channels.

    Example:
        >>> import engine
        >>> from engine import nn
        >>> one, three = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 5, 3, padding=1)
        >>> x, both = engine.ones(1, 4, 6, 6), nn.Concatenation(8)
        >>> for branch in (one, three):
        ...     both.add([branch], x)
        >>> both.tensor().shape
        (1, 8, 6, 6)
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._whole: Array | None = None
        self._size: tuple[int, int, int] = (0, 0, 0)  # N, H, W of the whole
        self._filled = 0
        self._parts: list[Tensor] = []
        self._placed = False

    def add(self, modules: Iterable[Module], input: Tensor) -> None:
        """Puts what the modules, called one after the other, make of the input behind what is there."""
        self._placed = False
        result: Tensor = fusion.run(opened(modules), input, out=self._place)
        shape = result.data.shape
        if not self._placed:
            place = self._place(shape)
            if place is None:
                whole = "" if self._whole is None else f" beside results of shape {self._whole.shape}"
                raise ValueError(
                    f"[Concatenation] expected a result (N, C, H, W) of at most {self.channels - self._filled} "
                    f"channels, got {shape}{whole}: check the branches and the number of channels"
                )
            B.copy_(place, result.data)
        self._filled += shape[1]
        self._parts.append(result)

    def tensor(self) -> Tensor:
        """What was added so far, as one tensor; results that are added later do not change it."""
        if not self._parts:
            raise ValueError("[Concatenation] expected at least one result: call add first")
        if len(self._parts) > 1:
            self._parts = [joined(self._slice(0, self._filled), self._parts, 1)]
        return self._parts[0]

    def _place(self, shape: tuple[int, ...]) -> Array | None:
        """The next channels of the whole, for a result of this shape; None when it does not fit."""
        if len(shape) != 4:
            return None
        n, c, h, w = shape
        if self._filled + c > self.channels:
            return None
        if self._whole is None:
            self._whole, self._size = B.empty((n, self.channels, h, w)), (n, h, w)
        elif self._size != (n, h, w):
            return None
        self._placed = True
        return self._slice(self._filled, self._filled + c)

    def _slice(self, start: int, stop: int) -> Array:
        n, h, w = self._size
        return B.slice(self._whole, (0, start, 0, 0), (n, stop, h, w), (1, 1, 1, 1))  # type: ignore[arg-type]
