"""What all functions ask of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from engine.backend import Array
from engine.tensor import Tensor

Size2: TypeAlias = "int | Sequence[int]"
# Asked, with the shape of a result, for the array to write it to; None leaves that to the function.
Place: TypeAlias = "Callable[[tuple[int, ...]], Array | None]"


def not_a_tensor(name: str, value: object) -> NoReturn:
    raise TypeError(f"[{name}] expected a Tensor as input, got {type(value).__name__}: use engine.tensor or from_numpy")


def pair(value: Any, name: str) -> tuple[int, int]:
    """An int or a pair as (height, width)."""
    if value.__class__ is int:
        return value, value
    if value.__class__ is tuple and len(value) == 2:
        return value
    if not hasattr(value, "__index__"):
        values = tuple([v.__index__() for v in value])
        if len(values) == 1:
            return values[0], values[0]
        if len(values) == 2:
            return values
        raise ValueError(f"{name}: expected an int or a pair (height, width), got {value!r}")
    return value.__index__(), value.__index__()


def data_of(x: Tensor | None) -> Array | None:
    return None if x is None else x.data


def wants_grad(x: Tensor | None) -> bool:
    return x is not None and x.requires_grad
