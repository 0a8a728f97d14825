"""The list of models: `register_model` puts a builder on it, everything else reads it."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from engine.nn import Module

__all__ = ["get_model", "get_model_builder", "list_models", "register_model"]

Builder = TypeVar("Builder", bound=Callable[..., Module])

_builders: dict[str, Callable[..., Module]] = {}


def register_model(name: str | None = None) -> Callable[[Builder], Builder]:
    """Decorates a function that builds a model: from then on it is listed and found by name.

    Args:
        name: name of the model; that of the function by default.

    Raises:
        ValueError: the name is taken.

    Follows torchvision.models.register_model.
    """

    def register(builder: Builder) -> Builder:
        key = (name or builder.__name__).lower()
        if key in _builders:
            raise ValueError(f"An entry is already registered under the name '{key}'.")
        _builders[key] = builder
        return builder

    return register


def list_models(include: str | Iterable[str] | None = None, exclude: str | Iterable[str] | None = None) -> list[str]:
    """Returns the names of all models, sorted.

    Args:
        include: only names that match one of these patterns (*, ?, [...]).
        exclude: no names that match one of these patterns.

    Example:
        >>> import engine
        >>> engine.models.list_models("lenet*")
        ['lenet5']

    Follows torchvision.models.list_models.
    """
    names = sorted(_builders)
    if include is not None:
        names = [name for name in names if _matches(name, include)]
    if exclude is not None:
        names = [name for name in names if not _matches(name, exclude)]
    return names


def _matches(name: str, patterns: str | Iterable[str]) -> bool:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)


def get_model_builder(name: str) -> Callable[..., Module]:
    """Returns the function that builds a model.

    Args:
        name: name of the model, in any case.

    Raises:
        ValueError: there is no such model.
    """
    try:
        return _builders[name.lower()]
    except KeyError:
        import difflib

        close = difflib.get_close_matches(name.lower(), _builders, n=3)
        advice = f"did you mean {' or '.join(close)}?" if close else "list_models() names them all"
        raise ValueError(f"Unknown model {name}: {advice}") from None


def get_model(name: str, **config: Any) -> Module:
    """Builds a model by name.

    Args:
        name: name of the model, in any case.
        config: arguments of its builder, e.g. num_classes.

    Raises:
        ValueError: there is no such model.

    Example:
        >>> import engine
        >>> model = engine.models.get_model("lenet5", num_classes=7)
        >>> model(engine.zeros(1, 1, 32, 32)).shape
        (1, 7)

    Follows torchvision.models.get_model.
    """
    return get_model_builder(name)(**config)
