"""The list of models: `register_model` puts a builder on it, everything else reads it; `build` is what builders call.

What a builder does with `weights=` is one contract with `engine.models._weights`, which knows URLs and files:

* `_weights.resolve(name, weights)` turns what the user said (a member's name, "DEFAULT", an enum member, a path) into
  something to fetch;
* `_weights.fetch(entry, progress)` returns its state dict: NumPy arrays by key, possibly mapped from a file.

`build` does the rest: it fits model and state dict to each other and copies.
"""

from __future__ import annotations

import fnmatch
import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from engine import backend as B, init
from engine.models._model import Model
from engine.nn import Module
from engine.tensor import Tensor

__all__ = ["build", "get_model", "get_model_builder", "list_models", "load_weights", "register_model", "skip_init"]

Builder = TypeVar("Builder", bound=Callable[..., Module])
M = TypeVar("M", bound=Model)

_builders: dict[str, Callable[..., Module]] = {}

_ARGUMENTS = """

Args:
    weights: trained weights: the name of a member ("DEFAULT" is the best one), a member itself, or a file of the
        user's; None draws new values.
    progress: whether a bar shows the download.
    kwargs: arguments of {model}. num_classes and in_chans also go with weights: a head of another size is left as it
        was drawn, with a warning, and the first convolution is adapted.

Raises:
    ValueError: there are no such weights.
    RuntimeError: the file is not one of this model.
"""


def register_model(name: str | None = None) -> Callable[[Builder], Builder]:
    """Decorates a function that builds a model: from then on it is listed and found by name.

    A builder that is documented by one paragraph gets the description of the arguments that all builders share.

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
        doc = inspect.getdoc(builder)
        if doc and "Args:" not in doc and "weights" in inspect.signature(builder).parameters:
            builder.__doc__ = doc + _ARGUMENTS.format(model=builder.__annotations__.get("return", "the class"))
        return builder

    return register


def list_models(include: str | Iterable[str] | None = None, exclude: str | Iterable[str] | None = None) -> list[str]:
    """Returns the names of all models, sorted.

    Args:
        include: only names that match one of these patterns (*, ?, [...]).
        exclude: no names that match one of these patterns.

    Example:
        >>> import engine
        >>> engine.models.list_models("vgg1[1-6]*", exclude="*_bn")
        ['vgg11', 'vgg13', 'vgg16']

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
        config: arguments of its builder, e.g. weights, num_classes, in_chans.

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


@contextmanager
def skip_init() -> Iterator[None]:
    """Within it new layers get no initial values: for models whose weights are loaded next.

    Example:
        >>> import engine
        >>> with engine.models.skip_init():
        ...     model = engine.models.LeNet5()
        >>> model.load_state_dict(engine.models.LeNet5().state_dict())
        <All keys matched successfully>
    """
    with init.deferred():
        yield


def build(name: str, factory: Callable[..., M], weights: Any, progress: bool, **kwargs: Any) -> M:
    """Builds a model and, if asked, loads weights: what every builder calls.

    What the user does not say comes from the file: without num_classes or in_chans the model gets those of the
    weights.

    Args:
        name: name of the builder, by which its weights are known.
        factory: class of the model, or a function that returns one.
        weights: None, or what `_weights.resolve` understands.
        progress: whether a bar shows the download.
        kwargs: arguments of factory.

    Raises:
        ValueError: there are no such weights.
        RuntimeError: the file is not one of this model.
    """
    if weights is None:
        with init.deferred() as waiting:  # layers draw, then the model draws again: only the last counts
            model = _make(factory, kwargs)
        for _, fill in waiting.values():
            fill()
        return model
    from engine.models import _weights

    entry = _weights.resolve(name, weights)
    assert entry is not None  # it is for None only
    return from_state(factory, _weights.fetch(entry, progress), **kwargs)


def _make(factory: Callable[..., M], kwargs: dict[str, Any]) -> M:
    """A model; num_classes=0 is one whose head was taken away."""
    if kwargs.get("num_classes") != 0:
        return factory(**kwargs)
    model = factory(**{key: value for key, value in kwargs.items() if key != "num_classes"})
    model.reset_classifier(0)
    return model


def from_state(factory: Callable[..., M], state_dict: Mapping[str, Any], **kwargs: Any) -> M:
    """Builds a model with the values of a state dict, which may have another head and other input channels.

    Args:
        factory: class of the model, or a function that returns one.
        state_dict: arrays by key, in any of the forms that the model's `load_state_dict` understands.
        kwargs: arguments of factory; num_classes and in_chans are those of the state dict by default.

    Raises:
        RuntimeError: the state dict is not one of this model.
    """
    with init.deferred() as waiting:
        model = _make(factory, kwargs)
        state = model.convert_state_dict(state_dict)
        key = f"{model.first_conv()[0]}.weight"
        if "in_chans" not in kwargs and key in state and len(state[key].shape) == 4:
            in_chans = state[key].shape[1]
            if in_chans != model.first_conv()[1].weight.shape[1]:
                waiting.clear()
                model = _make(factory, {"in_chans": in_chans, **kwargs})
        if "num_classes" not in kwargs:
            head = state.get(f"{model.head_names[0]}.weight")
            if head is not None and len(head.shape) >= 2 and head.shape[0] != model.num_classes:
                model.reset_classifier(int(head.shape[0]))
    load_weights(model, state, waiting)
    return model


def load_weights(
    model: Model,
    state_dict: Mapping[str, Any],
    waiting: dict[int, tuple[Tensor, Callable[[], Tensor]]] | None = None,
) -> list[str]:
    """Copies a state dict into a model of another head or other input channels, array by array.

    Args:
        model: the model.
        state_dict: arrays by key. Memory-mapped ones are given back to the system one by one.
        waiting: initialisations that are to be made up for where the state dict has no value.

    Returns:
        Names of the parameters that the state dict has no value for: of the head, or of auxiliary classifiers.

    Raises:
        RuntimeError: keys are missing, unexpected or of another shape for any other reason.
    """
    import numpy as np  # the boundary: weights come from files

    from engine.io.mapped_file import release

    converted = model.convert_state_dict(state_dict)
    state = {key: value if isinstance(value, Tensor) else np.asarray(value) for key, value in converted.items()}
    own = model.state_dict(keep_vars=True)

    first = f"{model.first_conv()[0]}.weight"
    if first in state and len(state[first].shape) == 4 and tuple(state[first].shape) != own[first].shape:
        same = tuple(state[first].shape[i] for i in (0, 2, 3)) == tuple(own[first].shape[i] for i in (0, 2, 3))
        if same:
            state[first] = adapt_input_conv(own[first].shape[1], state[first])

    left_out: list[str] = []
    for head in model.head_names:
        names = [f"{head}.{part}" for part in ("weight", "bias")]
        names = [n for n in names if n in own or n in state]
        differs = any(n not in own or n in state and tuple(state[n].shape) != own[n].shape for n in names)
        if differs and _differ_in_classes(names, state, own):
            left_out += [n for n in names if n in own]
            for n in names:
                state.pop(n, None)
    for part in model.auxiliary_names:
        inside = [n for n in own if n.startswith(f"{part}.")]
        if not inside:
            for n in [n for n in state if n.startswith(f"{part}.")]:
                del state[n]
        elif not any(n in state for n in inside):
            left_out += [n for n in inside if n not in left_out]
    absent = set(left_out)

    counters = {n for n in own if n.endswith("num_batches_tracked")}  # not in files older than PyTorch 0.4.1
    fits = (
        all(n in state or n in absent or n in counters for n in own)
        and all(n in own for n in state)
        and all(tuple(state[n].shape) == own[n].shape or (own[n].shape == () and n in counters) for n in state)
    )
    if not fits:  # the sentence that says why is there already
        model.load_state_dict({**{n: own[n] for n in absent}, **state})
    for name, value in list(state.items()):
        del state[name]
        source = value.data if isinstance(value, Tensor) else _array(value)
        target = own[name].data
        if source.shape != target.shape:
            source = B.reshape(source, target.shape)
        if source.dtype != target.dtype:
            source = B.cast(source, target.dtype)
        if isinstance(value, np.ndarray) and not value.flags.writeable and source.is_contiguous:
            own[name].data = source  # it is a copy already: memory that cannot be written is never shared
        else:
            B.copy_(target, source)
        if isinstance(value, np.ndarray):
            release(value)
    for name in absent:
        _, fill = (waiting or {}).get(id(own[name]), (None, None))
        if fill is not None:
            fill()
    if left_out:
        warnings.warn(
            f"{type(model).__name__}: the weights have no values that fit {', '.join(left_out)}: train these "
            f"parameters before use (the model has num_classes={model.num_classes})",
            stacklevel=5,
        )
    return left_out


def _differ_in_classes(names: list[str], state: Mapping[str, Any], own: Mapping[str, Tensor]) -> bool:
    """Whether a head differs from its file in nothing but the number of outputs, or is gone."""
    return all(n not in own or n not in state or tuple(state[n].shape[1:]) == own[n].shape[1:] for n in names)


def _array(value: Any) -> Any:
    """A NumPy array as a backend array; floating-point types become float32."""
    if value.dtype.kind == "f" and value.dtype != "float32":
        value = value.astype("float32")
    return B.from_numpy(value)


def adapt_input_conv(in_chans: int, weight: Any) -> Any:
    """Fits the weights of a first convolution to another number of input channels.

    One channel gets the sum over the old ones, so that a grey image gives what its copy in every channel gave; more
    channels repeat the old ones and are scaled by old / new, so that the size of the outputs stays.

    Args:
        in_chans: wanted number of channels.
        weight: array or tensor of shape (O, I, KH, KW).

    Returns:
        A NumPy array of shape (O, in_chans, KH, KW), float32.

    Example:
        >>> import numpy as np
        >>> adapt_input_conv(1, np.ones((2, 3, 1, 1))).ravel()
        array([3., 3.], dtype=float32)
        >>> adapt_input_conv(6, np.ones((1, 3, 1, 1))).ravel()
        array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], dtype=float32)

    Follows timm.models.adapt_input_conv.
    """
    import numpy as np  # the boundary: weights come from files

    old = np.asarray(weight.numpy() if isinstance(weight, Tensor) else weight, dtype=np.float32)
    channels = old.shape[1]
    if in_chans == 1:
        return old.sum(axis=1, keepdims=True, dtype=np.float32)
    return np.take(old, [i % channels for i in range(in_chans)], axis=1) * np.float32(channels / in_chans)
