"""The base class of the optimizers.

State dict
    {"state": {index: {name: Tensor or number}}, "param_groups": [{"lr": ..., ..., "params": [index, ...]}]}
Parameters are numbered in the order of the groups. All leaves are tensors, numbers, booleans, strings, None or lists
and tuples of them: tensors go into a safetensors file, the rest into JSON.

A step
    For each group the parameters that have a gradient are updated by one backend call (two or more only while some of
    them have seen fewer updates than others, for then bias corrections differ). The lists of state arrays are kept
    until the set of parameters with gradients changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from engine import backend as B
from engine.autograd import enable_grad
from engine.tensor import Tensor

__all__ = ["Optimizer"]

Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]
State = dict[str, Any]


class Batch:
    """Parameters of one group that are updated together, and their state."""

    __slots__ = ("indices", "states", "arrays", "step")

    def __init__(self, indices: list[int], states: list[State], step: int) -> None:
        self.indices = indices
        self.states = states
        self.step = step
        self.arrays: dict[str, list[B.Array]] = {}

    def column(self, name: str) -> list[B.Array]:
        """The arrays of one state tensor, for all parameters."""
        arrays = self.arrays.get(name)
        if arrays is None:
            arrays = self.arrays[name] = [state[name].data for state in self.states]
        return arrays


class Optimizer:
    """Base class of the optimizers: parameter groups, gradients, state dict.

    A subclass defines `_init_state` (the state of a parameter that is updated for the first time), `_update` (one
    backend call for a batch of parameters) and, where the number of updates matters, keeps "step" in the state.

    Args:
        params: tensors, (name, tensor) pairs, or dictionaries with "params" and options of this group.
        defaults: the options of groups that do not set them.

    Raises:
        ValueError: there are no parameters, or one appears twice.
        TypeError: something is not a tensor.

    Example:
        >>> import engine
        >>> layer = engine.nn.Linear(4, 2)
        >>> groups = [{"params": [layer.weight], "weight_decay": 1e-4}, {"params": [layer.bias]}]
        >>> optimizer = engine.optim.SGD(groups, lr=0.1)
        >>> isinstance(optimizer, engine.optim.Optimizer), [g["weight_decay"] for g in optimizer.param_groups]
        (True, [0.0001, 0])

    Follows torch.optim.Optimizer.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, got Tensor"
            )
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, State] = {}
        self._batches: list[tuple[list[int], list[Batch]] | None] = []
        self._stepped = False  # learning-rate schedulers warn when they go first
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(cast("dict[str, Any]", group))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group of parameters with options of its own, e.g. layers that are thawed later.

        Args:
            param_group: dictionary with "params"; options not given are the defaults.

        Raises:
            ValueError: a parameter is in a group already, or is no leaf.
            TypeError: something is not a tensor.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = {**self.defaults, **param_group}
        params = group.pop("params")
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        entries = [params] if isinstance(params, Tensor) else list(params)
        names = [entry[0] for entry in entries if isinstance(entry, tuple)]
        if names and len(names) != len(entries):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        if names:
            group["param_names"] = names
        tensors = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {type(tensor).__name__}"
                )
            if not tensor.is_leaf:
                raise ValueError("can't optimize a non-leaf Tensor")
            if id(tensor) in known:
                raise ValueError("some parameters appear in more than one parameter group")
            known.add(id(tensor))
        self._check(group)
        self.param_groups.append({"params": tensors, **group})
        self._batches.append(None)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or fills them with zeros.

        Args:
            set_to_none: forget rather than fill; faster, and parameters without a new gradient are not updated.
        """
        for group in self.param_groups:
            for param in group["params"]:
                if set_to_none:
                    param.grad = None
                elif param.grad is not None:
                    B.fill_(param.grad.data, 0.0)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all parameters that have a gradient.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss; called first.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        self._stepped = True
        for position, group in enumerate(self.param_groups):
            params = group["params"]
            indices: list[int] = []
            grads: list[B.Array] = []
            for i, param in enumerate(params):
                grad = param.grad
                if grad is not None:
                    indices.append(i)
                    grads.append(grad.data)
            if not indices:
                continue
            cached = self._batches[position]
            if cached is None or cached[0] != indices:
                cached = self._batches[position] = (indices, self._make_batches(group, indices))
            batches = cached[1]
            if len(batches) == 1:
                self._update(group, batches[0], [params[i].data for i in indices], grads)
                continue
            by_index = dict(zip(indices, grads))
            for batch in batches:
                self._update(
                    group, batch, [params[i].data for i in batch.indices], [by_index[i] for i in batch.indices]
                )
        return loss

    def _make_batches(self, group: dict[str, Any], indices: list[int]) -> list[Batch]:
        """Puts parameters together that have seen the same number of updates."""
        by_step: dict[int, Batch] = {}
        for i in indices:
            param = group["params"][i]
            state = self.state.get(param)
            if state is None:
                state = self.state[param] = self._init_state(param, group)
            step = self._step_of(state)
            batch = by_step.get(step)
            if batch is None:
                batch = by_step[step] = Batch([], [], step)
            batch.indices.append(i)
            batch.states.append(state)
        return list(by_step.values())

    # ---- what a subclass defines

    def _check(self, group: dict[str, Any]) -> None:
        """Raises ValueError for options that make no sense."""

    def _init_state(self, param: Tensor, group: dict[str, Any]) -> State:
        raise NotImplementedError

    def _step_of(self, state: State) -> int:
        return int(state.get("step", 0))

    def _update(self, group: dict[str, Any], batch: Batch, params: list[B.Array], grads: list[B.Array]) -> None:
        raise NotImplementedError

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Returns state and options; the layout stands at the top of this module.

        The tensors share memory with the optimizer.
        """
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                numbers[id(param)] = len(numbers)
            options = {key: value for key, value in group.items() if key != "params"}
            groups.append({**options, "params": [numbers[id(param)] for param in group["params"]]})
        state = {numbers[id(param)]: dict(values) for param, values in self.state.items() if values}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over copies of state and options; parameters are matched by position.

        Args:
            state_dict: what `state_dict` returned; indices may have become strings, tuples lists, in JSON.

        Raises:
            ValueError: the groups or their sizes differ, or a state tensor has another shape than its parameter.
        """
        groups = [dict(group) for group in state_dict["param_groups"]]
        if len(groups) != len(self.param_groups):
            raise ValueError(
                "loaded state dict has a different number of parameter groups: "
                f"{len(groups)}, the optimizer has {len(self.param_groups)}"
            )
        sizes = [(len(mine["params"]), len(other["params"])) for mine, other in zip(self.param_groups, groups)]
        if any(mine != other for mine, other in sizes):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                f"(optimizer, loaded) sizes are {sizes}"
            )
        by_number: dict[int, Tensor] = {}
        for mine, other in zip(self.param_groups, groups):
            by_number.update(zip((int(number) for number in other["params"]), mine["params"]))
        state: dict[Tensor, State] = {}
        for number, values in state_dict["state"].items():
            param = by_number.get(int(number))
            if param is None:
                raise ValueError(f"loaded state dict has state for parameter {number}, which is in none of its groups")
            state[param] = {key: _loaded(key, value, param) for key, value in values.items()}
        self.state = state
        for position, (mine, other) in enumerate(zip(self.param_groups, groups)):
            options = {
                key: tuple(value) if isinstance(self.defaults.get(key), tuple) else copy.deepcopy(value)
                for key, value in other.items()
                if key != "params"
            }
            if "param_names" in mine:
                options.setdefault("param_names", mine["param_names"])
            self.param_groups[position] = {"params": mine["params"], **self.defaults, **options}
            self._batches[position] = None

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])


def _loaded(key: str, value: Any, param: Tensor) -> Any:
    if key == "step":
        return int(value.item() if hasattr(value, "item") else value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    array = value.data if isinstance(value, Tensor) else value
    if not isinstance(array, B.Array):
        raise ValueError(f"loaded state dict has a {type(value).__name__} as {key!r}, expected a Tensor or a number")
    if tuple(array.shape) != tuple(param.shape):
        raise ValueError(
            f"size mismatch for {key}: loaded state has shape {tuple(array.shape)}, its parameter {tuple(param.shape)}"
        )
    return Tensor(B.copy(array))


def zeros_like(param: Tensor, value: float = 0.0) -> Tensor:
    """State of the shape, and in the memory order, of a parameter."""
    return Tensor(B.full(param.data.shape, value, "float32"))


def check_at_least_zero(name: str, group: dict[str, Any], *keys: str) -> None:
    """Raises ValueError when an option of a group is negative or NaN."""
    for key in keys:
        if not group[key] >= 0.0:
            raise ValueError(f"[{name}] Invalid {key} value: {group[key]}, expected a number >= 0")
