"""Modules and parameters in sequences and dictionaries."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from engine.nn import fusion
from engine.nn.module import Module
from engine.tensor import Parameter, Tensor

__all__ = ["Chain", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential", "run"]


class _Sequence(Module):
    """Child modules named "0", "1", ..."""

    def _index(self, index: int) -> int:
        length = len(self._modules)
        position = operator.index(index)
        if not -length <= position < length:
            raise IndexError(f"index {position} is out of range for {type(self).__name__} of {length} modules")
        return position % length

    def _renumber(self, modules: Iterable[Module]) -> None:
        """Replaces the children; the dictionary stays the same object."""
        new = list(modules)
        self._modules.clear()
        for i, module in enumerate(new):
            self.add_module(str(i), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, list(self._modules)[self._index(index)], module)

    def __dir__(self) -> list[str]:
        return [key for key in super().__dir__() if not key.isdigit()]


class Chain(Module):
    """A module that calls others one after the other; a subclass names them, whatever its children are called.

    Such a module can be run together with its neighbours, as a Sequential can: `run` looks into it where nobody would
    notice.

    Shape:
        Input of the first module, output of the last.

    Example:
        >>> import engine
        >>> from engine import nn
        >>> class Block(nn.Chain):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        ...
        ...     def steps(self):
        ...         return self.conv, self.norm, self.act
        >>> Block()(engine.zeros(1, 3, 5, 5)).shape
        (1, 4, 3, 3)
    """

    def steps(self) -> Iterable[Module]:
        """The modules, in the order of the calls."""
        raise NotImplementedError(f"[{type(self).__name__}] steps() is missing: return the modules from it")

    def forward(self, input: Any) -> Any:
        return fusion.run(opened(self.steps()), input)


class Sequential(_Sequence):
    """Calls modules one after the other, each with what the one before returned.

    Args:
        args: the modules, or one dictionary of named modules.

    Shape:
        Input of the first module, output of the last.

    Example:
        >>> import engine
        >>> from engine import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 20, 5), nn.ReLU(), nn.Conv2d(20, 64, 5), nn.ReLU())
        >>> model(engine.zeros(2, 1, 16, 16)).shape
        (2, 64, 8, 8)
        >>> model[:2]
        Sequential(
          (0): Conv2d(1, 20, kernel_size=(5, 5), stride=(1, 1))
          (1): ReLU()
        )

    Follows torch.nn.Sequential.
    """

    @overload
    def __init__(self, *args: Module) -> None: ...

    @overload
    def __init__(self, arg: Mapping[str, Module], /) -> None: ...

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, module)
        else:
            for i, module in enumerate(args):
                self.add_module(str(i), module)

    def forward(self, input: Any) -> Any:
        return fusion.run(opened(self), input)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return list(self._modules.values())[self._index(index)]

    def __delitem__(self, index: int | slice) -> None:
        names = list(self._modules)
        for name in names[index] if isinstance(index, slice) else [names[self._index(index)]]:
            del self._modules[name]
        if all(name.isdigit() for name in self._modules):
            self._renumber(self._modules.values())

    def append(self, module: Module) -> Sequential:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, sequential: Iterable[Module]) -> Sequential:
        """Adds modules at the end."""
        for module in list(sequential):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Sequential:
        """Puts a module before the one at index; the names become numbers."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, key: int | slice) -> Module:
        """Removes and returns a module."""
        module = self[key]
        del self[key]
        return module

    def __add__(self, other: Sequential) -> Sequential:
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Sequential:
        return self.extend(other)


def opened(modules: Iterable[Module]) -> list[Module]:
    """The modules, sequences and chains among them opened where nobody would notice."""
    steps: list[Module] = []
    for module in modules:
        forward = module.__class__.forward
        if module._hooked or "forward" in module.__dict__:
            steps.append(module)
        elif forward is Sequential.forward:
            steps += opened(module)
        elif forward is Chain.forward:
            steps += opened(module.steps())
        else:
            steps.append(module)
    return steps


def run(modules: Iterable[Module], input: Any, residual: Tensor | None = None, activation: Module | None = None) -> Any:
    """Calls modules one after the other: activation(last(... first(input)) + residual), in fewer passes over memory.

    Batch norms are run together with the shortcut and the activation behind them, and where nothing is differentiated
    with the convolution before them. The result is that of the modules one by one, up to rounding. Modules with hooks
    and subclasses are called as usual.

    Args:
        modules: the modules.
        input: input of the first module.
        residual: added to what the last module returns.
        activation: called last.

    Shape:
        Input of the first module; residual and output as the output of the last.

    Example:
        >>> import engine
        >>> from engine import nn
        >>> x = engine.ones(1, 4, 5, 5)
        >>> nn.run([nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)], x, residual=x, activation=nn.ReLU()).shape
        (1, 4, 5, 5)
    """
    return fusion.run(opened(modules), input, residual, activation)


class ModuleList(_Sequence):
    """A list of modules whose parameters belong to the module that holds it; it has no forward.

    Args:
        modules: the modules.

    Shape:
        None: call the modules yourself.

    Example:
        >>> from engine import nn
        >>> nn.ModuleList([nn.Linear(10, 10) for i in range(3)])
        ModuleList(
          (0-2): 3 x Linear(in_features=10, out_features=10, bias=True)
        )

    Follows torch.nn.ModuleList.
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    @overload
    def __getitem__(self, index: int) -> Module: ...

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...

    def __getitem__(self, index: int | slice) -> Module:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[str(self._index(index))]

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self._modules.values())
        del modules[index]
        self._renumber(modules)

    def append(self, module: Module) -> ModuleList:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Adds modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> None:
        """Puts a module before the one at index."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)

    def pop(self, key: int | slice) -> Module:
        """Removes and returns a module."""
        module = self[key]
        del self[key]
        return module

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        return self.extend(modules)

    def __repr__(self) -> str:
        """Writes runs of equal modules once."""
        runs: list[tuple[int, int, str]] = []
        for i, text in enumerate(repr(module) for module in self):
            if runs and runs[-1][2] == text:
                runs[-1] = (runs[-1][0], i, text)
            else:
                runs.append((i, i, text))
        if not runs:
            return f"{self._get_name()}()"
        lines = [
            f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            for first, last, text in runs
        ]
        return f"{self._get_name()}(\n  " + "\n  ".join(line.replace("\n", "\n  ") for line in lines) + "\n)"


class ModuleDict(Module):
    """A dictionary of modules whose parameters belong to the module that holds it; it has no forward.

    Args:
        modules: modules by name.

    Shape:
        None: call the modules yourself.

    Example:
        >>> from engine import nn
        >>> choices = nn.ModuleDict({"conv": nn.Conv2d(10, 10, 3), "pool": nn.MaxPool2d(3)})
        >>> "conv" in choices, len(choices)
        (True, 2)

    Follows torch.nn.ModuleDict.
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        """Returns the names."""
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        """Returns the modules."""
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Returns pairs of name and module."""
        return self._modules.items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Adds or replaces modules."""
        for key, module in modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules:
            self[key] = module

    def pop(self, key: str) -> Module:
        """Removes and returns a module."""
        return self._modules.pop(key)

    def clear(self) -> None:
        """Removes all modules."""
        self._modules.clear()


def _describe(param: Tensor) -> str:
    kind = "Parameter" if isinstance(param, Parameter) else "Tensor"
    return f"{kind} containing: [{param.dtype} of size {'x'.join(str(size) for size in param.shape)}]"


class ParameterList(Module):
    """A list of parameters that belong to the module that holds it.

    Args:
        values: the parameters; plain tensors are made parameters.

    Shape:
        None.

    Example:
        >>> import engine
        >>> params = engine.nn.ParameterList([engine.ones(2, 2) for i in range(3)])
        >>> len(list(params.parameters()))
        3

    Follows torch.nn.ParameterList.
    """

    def __init__(self, values: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        if values is not None:
            self.extend(values)

    def _index(self, index: int) -> str:
        length = len(self._parameters)
        position = operator.index(index)
        if not -length <= position < length:
            raise IndexError(f"index {position} is out of range for ParameterList of {length} parameters")
        return str(position % length)

    @overload
    def __getitem__(self, index: int) -> Parameter: ...

    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...

    def __getitem__(self, index: int | slice) -> Parameter | ParameterList:
        if isinstance(index, slice):
            return ParameterList(list(self._parameters.values())[index])
        return self._parameters[self._index(index)]

    def __setitem__(self, index: int, param: Tensor) -> None:
        self._parameters[self._index(index)] = param if isinstance(param, Parameter) else Parameter(param)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def append(self, value: Tensor) -> ParameterList:
        """Adds a parameter at the end."""
        self.register_parameter(str(len(self)), value if isinstance(value, Parameter) else Parameter(value))
        return self

    def extend(self, values: Iterable[Tensor]) -> ParameterList:
        """Adds parameters at the end."""
        for value in list(values):
            self.append(value)
        return self

    def __iadd__(self, values: Iterable[Tensor]) -> ParameterList:
        return self.extend(values)

    def extra_repr(self) -> str:
        return "\n".join(f"({name}): {_describe(param)}" for name, param in self._parameters.items())


class ParameterDict(Module):
    """A dictionary of parameters that belong to the module that holds it.

    Args:
        parameters: parameters by name; plain tensors are made parameters.

    Shape:
        None.

    Example:
        >>> import engine
        >>> params = engine.nn.ParameterDict({"left": engine.ones(5, 10), "right": engine.ones(5, 10)})
        >>> params["left"].shape
        (5, 10)

    Follows torch.nn.ParameterDict.
    """

    def __init__(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]] | None = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Parameter:
        return self._parameters[key]

    def __setitem__(self, key: str, param: Tensor) -> None:
        self.register_parameter(key, param if isinstance(param, Parameter) else Parameter(param))

    def __delitem__(self, key: str) -> None:
        del self._parameters[key]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, key: str) -> bool:
        return key in self._parameters

    def keys(self) -> Iterable[str]:
        """Returns the names."""
        return self._parameters.keys()

    def values(self) -> Iterable[Parameter]:
        """Returns the parameters."""
        return self._parameters.values()

    def items(self) -> Iterable[tuple[str, Parameter]]:
        """Returns pairs of name and parameter."""
        return self._parameters.items()

    def update(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> None:
        """Adds or replaces parameters."""
        for key, param in parameters.items() if isinstance(parameters, (Mapping, ParameterDict)) else parameters:
            self[key] = param

    def extra_repr(self) -> str:
        return "\n".join(f"({name}): {_describe(param)}" for name, param in self._parameters.items())
