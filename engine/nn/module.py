"""The base class of all layers and models.

Parameters, buffers and child modules are plain attributes; three dictionaries beside them say which attributes they
are, in order of registration, and their names are PyTorch's, so that a state dict of one reads as a state dict of the
other. Reading an attribute costs no more than in any other class, and hooks cost nothing until the first one is
registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from engine import backend as B
from engine.autograd import RemovableHandle, is_grad_enabled, record
from engine.tensor import Parameter, Tensor

__all__ = ["Module", "RemovableHandle", "IncompatibleKeys"]

M = TypeVar("M", bound="Module")
Hook = Callable[..., Any]


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict` did not find and what it had no use for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class _ForwardHook(NamedTuple):
    call: Hook
    with_kwargs: bool


class Registry(MutableMapping[str, Any]):
    """The registered attributes of one kind as a dictionary, through which they can be changed, too."""

    __slots__ = ("_attributes", "_names")

    def __init__(self, names: dict[str, Any], attributes: dict[str, Any]) -> None:
        self._names = names
        self._attributes = attributes

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return self._attributes[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._names.setdefault(name, True)
        self._attributes[name] = value

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        del self._attributes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Module:
    """Base class of all layers and models: assign parameters and modules as attributes and define `forward`.

    Shape:
        Defined by each subclass, always logical (N, C, H, W).

    Example:
        >>> import engine
        >>> from engine import nn
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.conv = nn.Conv2d(1, 4, 3)
        ...         self.fc = nn.Linear(4, 2)
        ...
        ...     def forward(self, x):
        ...         return self.fc(self.conv(x).relu().mean((2, 3)))
        >>> net = Net()
        >>> net
        Net(
          (conv): Conv2d(1, 4, kernel_size=(3, 3), stride=(1, 1))
          (fc): Linear(in_features=4, out_features=2, bias=True)
        )
        >>> net(engine.zeros(5, 1, 8, 8)).shape
        (5, 2)
        >>> list(net.state_dict())
        ['conv.weight', 'conv.bias', 'fc.weight', 'fc.bias']

    Follows torch.nn.Module.
    """

    training: bool
    _parameter_names: dict[str, bool]
    _buffer_names: dict[str, bool]  # and whether state_dict contains it
    _module_names: dict[str, bool]
    _forward_pre_hooks: dict[int, _ForwardHook]
    _forward_hooks: dict[int, _ForwardHook]
    _backward_hooks: dict[int, Hook]

    # Whether a hook was ever registered here: the one thing __call__ has to look at.
    _hooked = False

    def __init__(self) -> None:
        self.__dict__.update(
            training=True,
            _parameter_names={},
            _buffer_names={},
            _module_names={},
            _forward_pre_hooks={},
            _forward_hooks={},
            _backward_hooks={},
        )

    # ---- calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._hooked:
            return self._call_with_hooks(args, kwargs)
        return self.forward(*args, **kwargs)

    def _call_with_hooks(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in list(self._forward_pre_hooks.values()):
            if hook.with_kwargs:
                changed = hook.call(self, args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            else:
                changed = hook.call(self, args)
                if changed is not None:
                    args = changed if isinstance(changed, tuple) else (changed,)
        backward_hooks = list(self._backward_hooks.values())
        if backward_hooks:
            result = self._forward_with_backward_hooks(backward_hooks, args, kwargs)
        else:
            result = self.forward(*args, **kwargs)
        for hook in list(self._forward_hooks.values()):
            changed = hook.call(self, args, kwargs, result) if hook.with_kwargs else hook.call(self, args, result)
            if changed is not None:
                result = changed
        return result

    def _forward_with_backward_hooks(self, hooks: list[Hook], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs forward between two gates: one that sees the output gradients, one that sees the input gradients."""
        inputs = [a for a in args if isinstance(a, Tensor)]
        seen: list[tuple[Any, ...]] = []

        def run_hooks(grad_input: tuple[Any, ...]) -> tuple[Any, ...]:
            grad_output = seen.pop() if seen else ()
            wrapped = tuple(None if g is None else Tensor(g) for g in grad_input)
            if has_input_gradient:  # then, as in PyTorch, inputs that no gradient reaches have zeros
                wrapped = tuple(
                    Tensor(B.full(t.shape, 0.0, "float32")) if g is None else g for g, t in zip(wrapped, inputs)
                )
            for hook in hooks:
                changed = hook(self, wrapped, grad_output)
                if changed is not None:
                    changed = changed if isinstance(changed, tuple) else (changed,)
                    if len(changed) != len(wrapped):
                        raise RuntimeError(
                            f"[{type(self).__name__}] backward hook returned {len(changed)} gradients, expected "
                            f"{len(wrapped)}: one per input tensor"
                        )
                    wrapped = changed
            return tuple(None if g is None else g.data for g in wrapped)

        gated = _gate(inputs, run_hooks)
        has_input_gradient = any(t.requires_grad for t in gated)
        replacements = iter(gated)
        args = tuple(next(replacements) if isinstance(a, Tensor) else a for a in args)
        result = self.forward(*args, **kwargs)

        def keep_output_gradients(grad_output: tuple[Any, ...]) -> tuple[Any, ...]:
            seen.append(tuple(None if g is None else Tensor(g) for g in grad_output))
            if not has_input_gradient:
                run_hooks((None,) * len(inputs))
            return grad_output

        if isinstance(result, Tensor):
            return _gate([result], keep_output_gradients)[0]
        if isinstance(result, (tuple, list)):
            outputs = iter(_gate([r for r in result if isinstance(r, Tensor)], keep_output_gradients))
            return type(result)([next(outputs) if isinstance(r, Tensor) else r for r in result])
        return result

    # ---- attributes

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, (Parameter, Module)):
            kind = "_parameter_names" if isinstance(value, Parameter) else "_module_names"
            if kind not in own:
                raise AttributeError(
                    f"cannot assign {'parameters' if kind == '_parameter_names' else 'module'} "
                    "before Module.__init__() call"
                )
            if name not in own[kind]:
                self._forget(name)
                self._check_name(name, "parameter" if kind == "_parameter_names" else "module")
                own[kind][name] = True
            own[name] = value
        elif value is not None and name in own.get("_parameter_names", ()):
            raise TypeError(
                f"cannot assign '{type(value).__name__}' as parameter '{name}' (engine.nn.Parameter or None expected)"
            )
        elif value is not None and name in own.get("_module_names", ()):
            raise TypeError(
                f"cannot assign '{type(value).__name__}' as child module '{name}' (engine.nn.Module or None expected)"
            )
        elif value is not None and not isinstance(value, Tensor) and name in own.get("_buffer_names", ()):
            raise TypeError(
                f"cannot assign '{type(value).__name__}' as buffer '{name}' (engine.Tensor or None expected)"
            )
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._forget(name)

    if TYPE_CHECKING:  # the attributes of a child that was found by name are anybody's guess

        def __getattr__(self, name: str) -> Any: ...

    def _forget(self, name: str) -> None:
        """Drops a name from whatever it was registered as."""
        for names in (self._parameter_names, self._buffer_names, self._module_names):
            names.pop(name, None)

    @property
    def _parameters(self) -> MutableMapping[str, Any]:
        return Registry(self._parameter_names, self.__dict__)

    @property
    def _buffers(self) -> MutableMapping[str, Any]:
        return Registry(self._buffer_names, self.__dict__)

    @property
    def _modules(self) -> MutableMapping[str, Any]:
        return Registry(self._module_names, self.__dict__)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter under a name; None reserves the name without a value."""
        if "_parameter_names" not in self.__dict__:
            raise AttributeError("cannot assign parameters before Module.__init__() call")
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{type(param).__name__}' object to parameter '{name}' "
                "(engine.nn.Parameter or None required)"
            )
        self._check_free(name, "parameter", self._parameter_names)
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that is state but not learnt, such as running statistics.

        Args:
            name: attribute and state-dict key.
            tensor: the buffer, or None to reserve the name.
            persistent: whether state_dict contains it.

        Raises:
            KeyError: the name is taken, empty or contains a dot.
            TypeError: the value is neither a Tensor nor None.
        """
        if "_buffer_names" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (engine.Tensor or None required)"
            )
        self._check_free(name, "buffer", self._buffer_names)
        self._buffer_names[name] = persistent
        self.__dict__[name] = tensor

    def register_module(self, name: str, module: Module | None) -> None:
        """Same as `add_module`."""
        self.add_module(name, module)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child module under a name that need not be an identifier.

        Raises:
            KeyError: the name is taken, empty or contains a dot.
            TypeError: the value is neither a Module nor None.
        """
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self._check_free(name, "module", self._module_names)
        self._modules[name] = module

    def _check_free(self, name: str, kind: str, names: dict[str, bool]) -> None:
        if name not in names:
            self._check_name(name, kind)
            if hasattr(self, name):
                raise KeyError(f"attribute '{name}' already exists")

    def _check_name(self, name: str, kind: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')

    # ---- walking the tree

    def children(self) -> Iterator[Module]:
        """Yields the direct child modules."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yields name and module of the direct children, each module once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self) -> Iterator[Module]:
        """Yields this module and all modules below it."""
        for _, module in self.named_modules():
            yield module

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yields dotted name and module of this module ("") and all modules below it, parents first."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yields the parameters; what an optimizer is given."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yields dotted name and parameter, in order of registration."""
        return self._named_members("_parameter_names", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yields the buffers, persistent or not."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yields dotted name and buffer, in order of registration."""
        return self._named_members("_buffer_names", prefix, recurse, remove_duplicate)

    def _named_members(
        self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(None, prefix, remove_duplicate) if recurse else iter([(prefix, self)])
        for module_name, module in modules:
            own = module.__dict__
            for name in own[kind]:
                value = own[name]
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield (f"{module_name}.{name}" if module_name else name), value

    def get_submodule(self, target: str) -> Module:
        """Returns the module with a dotted name; "" is this module.

        Raises:
            AttributeError: there is none.
        """
        module: Any = self
        for name in target.split(".") if target else ():
            child = getattr(module, name, None)
            if child is None:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            if not isinstance(child, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
            module = child
        return module

    def get_parameter(self, target: str) -> Parameter:
        """Returns the parameter with a dotted name.

        Raises:
            AttributeError: there is none.
        """
        path, _, name = target.rpartition(".")
        param = self.get_submodule(path)._parameters.get(name)
        if param is None:
            raise AttributeError(f"`{target}` is not an nn.Parameter of {type(self).__name__}")
        return param

    def get_buffer(self, target: str) -> Tensor:
        """Returns the buffer with a dotted name.

        Raises:
            AttributeError: there is none.
        """
        path, _, name = target.rpartition(".")
        buffer = self.get_submodule(path)._buffers.get(name)
        if buffer is None:
            raise AttributeError(f"`{target}` is not a buffer of {type(self).__name__}")
        return buffer

    # ---- modes

    def train(self: M, mode: bool = True) -> M:
        """Sets training mode (dropout draws, batch norm uses and tracks batch statistics) here and below."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for child in self.children():  # through their own train, which may hold parts of them back
            child.train(mode)
        return self

    def eval(self: M) -> M:
        """Sets evaluation mode here and below: same as train(False)."""
        return self.train(False)

    def requires_grad_(self: M, requires_grad: bool = True) -> M:
        """Freezes (False) or thaws (True) all parameters."""
        for param in self.parameters():
            param.requires_grad = requires_grad
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets all gradients, or fills them with zeros."""
        for param in self.parameters():
            if param.grad is not None:
                if set_to_none:
                    param.grad = None
                else:
                    B.fill_(param.grad.data, 0.0)

    def apply(self: M, fn: Callable[[Module], Any]) -> M:
        """Calls fn on every module below and then on this one, e.g. to initialise weights."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def to(self: M, *args: Any, **kwargs: Any) -> M:
        """Accepts what this engine already is: device "cpu", dtype float32, any memory_format (a hint).

        Raises:
            RuntimeError: another device or dtype.
        """
        kwargs = {k: v for k, v in kwargs.items() if k not in ("memory_format", "non_blocking", "copy")}
        for value in (*args, *kwargs.values()):
            if value is None or isinstance(value, (bool, Tensor)):
                continue
            if str(value).rpartition(".")[2] not in ("cpu", "float32", "float"):
                raise RuntimeError(
                    f"[{type(self).__name__}.to] expected device 'cpu' or dtype 'float32', got {value!r}: "
                    "parameters live on the CPU in float32"
                )
        return self

    def cpu(self: M) -> M:
        """Returns self: parameters live on the CPU."""
        return self

    def float(self: M) -> M:
        """Returns self: parameters are float32."""
        return self

    # ---- hooks

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls hook(module, args) before forward; what it returns, if not None, replaces the arguments.

        Args:
            hook: called as hook(module, args), or hook(module, args, kwargs) -> (args, kwargs).
            prepend: run before the hooks already there.
            with_kwargs: also hand over the keyword arguments.
        """
        return self._register(self._forward_pre_hooks, _ForwardHook(hook, with_kwargs), prepend)

    def register_forward_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Calls hook(module, args, output) after forward; what it returns, if not None, replaces the output.

        Args:
            hook: called as hook(module, args, output), or hook(module, args, kwargs, output).
            prepend: run before the hooks already there.
            with_kwargs: also hand over the keyword arguments.

        Example:
            >>> import engine
            >>> layer = engine.nn.Linear(3, 2)
            >>> handle = layer.register_forward_hook(lambda module, args, output: print(output.shape))
            >>> _ = layer(engine.zeros(4, 3))
            (4, 2)
            >>> handle.remove()
        """
        return self._register(self._forward_hooks, _ForwardHook(hook, with_kwargs), prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Calls hook(module, grad_input, grad_output) when the gradients of the inputs are known.

        Both arguments are tuples of tensors (None where there is no gradient), for the positional tensor inputs and
        for the tensor outputs of forward. What the hook returns, if not None, replaces grad_input.

        Args:
            hook: the function to call.
            prepend: run before the hooks already there.
        """
        return self._register(self._backward_hooks, hook, prepend)

    def _register(self, hooks: dict[int, Any], hook: Any, prepend: bool) -> RemovableHandle:
        others = dict(hooks) if prepend else {}
        for key in others:
            del hooks[key]
        handle = RemovableHandle(hooks, hook)
        hooks.update(others)
        self.__dict__["_hooked"] = True
        return handle

    # ---- state

    def state_dict(
        self, *, destination: dict[str, Tensor] | None = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Returns all parameters and persistent buffers by dotted name.

        The tensors are detached but share memory with the module: copy them to keep a snapshot.

        Args:
            destination: dictionary to write into; a new one by default.
            prefix: put before every key.
            keep_vars: hand out the parameters themselves instead of detached tensors.
        """
        destination = {} if destination is None else destination
        for name, value in self._own_state():
            destination[prefix + name] = value if keep_vars else value.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return destination

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        own = self.__dict__
        persistent = [name for name, saved in self._buffer_names.items() if saved]
        for name in (*self._parameter_names, *persistent):
            if own[name] is not None:
                yield name, own[name]

    # Keys whose absence is no error: older checkpoints do not have them.
    _optional_state: tuple[str, ...] = ()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copies values into the parameters and buffers of the same names, in their own memory.

        Nothing is copied unless everything fits: after an error the module is as it was.

        Args:
            state_dict: tensors or NumPy arrays by dotted name, as `state_dict` returns them.
            strict: missing and unexpected keys are errors; otherwise they are only returned.
            assign: take the tensors over instead of copying their values; optimizers made before lose track.

        Raises:
            RuntimeError: keys are missing or unexpected (strict), or a shape differs (always).
            TypeError: state_dict is not a mapping.

        Example:
            >>> import engine
            >>> a, b = engine.nn.Linear(3, 2), engine.nn.Linear(3, 2)
            >>> b.load_state_dict(a.state_dict())
            <All keys matched successfully>
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict).__name__}.")
        missing: list[str] = []
        errors: list[str] = []
        known: set[str] = set()
        fitting: list[tuple[Module, str, Any]] = []
        for prefix, module in self.named_modules(remove_duplicate=False):
            prefix = f"{prefix}." if prefix else ""
            for name, target in module._own_state():
                key = prefix + name
                known.add(key)
                if key not in state_dict:
                    if name not in module._optional_state:
                        missing.append(key)
                    continue
                source = state_dict[key]
                try:
                    # Arrays are turned into tensors one by one below: here only what they are counts.
                    if not (isinstance(source, Tensor) or _is_plain_array(source)):
                        source = _as_tensor(source)
                except (TypeError, ValueError) as error:
                    errors.append(
                        f'While copying the parameter named "{key}", expected a Tensor or array, '
                        f"got {type(source).__name__}: {error}."
                    )
                    continue
                shape, expected = tuple(source.shape), tuple(target.shape)
                if shape == (1,) and expected == ():  # a scalar that went through a format without scalars
                    source = source.reshape(())
                elif shape != expected:
                    errors.append(
                        f"size mismatch for {key}: copying a param with shape {shape} from checkpoint, "
                        f"the shape in current model is {expected}."
                    )
                    continue
                fitting.append((module, name, source))
        unexpected = [key for key in state_dict if key not in known]
        if strict and unexpected:
            errors.insert(0, "Unexpected key(s) in state_dict: " + ", ".join(f'"{k}"' for k in unexpected) + ". ")
        if strict and missing:
            errors.insert(0, "Missing key(s) in state_dict: " + ", ".join(f'"{k}"' for k in missing) + ". ")
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        for module, name, source in fitting:
            target, array = module.__dict__[name], _as_tensor(source).data
            if array.dtype != target.data.dtype:
                array = B.cast(array, target.data.dtype)
            if not assign:
                B.copy_(target.data, array)
            elif isinstance(target, Parameter):
                setattr(module, name, Parameter(array, target.requires_grad))
            else:
                setattr(module, name, Tensor(array))
        return _Incompatible(missing, unexpected)

    # ---- text

    def extra_repr(self) -> str:
        """Returns what stands between the parentheses of this module's own repr."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): " + _indent(repr(module)) for name, module in self._modules.items()]
        if not children and len(lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"


class _Incompatible(IncompatibleKeys):
    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


def _indent(text: str) -> str:
    return text.replace("\n", "\n  ")


def _is_plain_array(value: Any) -> bool:
    """Whether `value` is a NumPy array that is sure to become a tensor."""
    dtype = getattr(value, "dtype", None)
    return type(value).__module__.startswith("numpy") and getattr(dtype, "str", "") in ("<f4", "<i8", "|u1", "|b1")


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, B.Array):
        return Tensor(value)
    import numpy as np  # the boundary: state dicts may hold NumPy arrays, torch CPU tensors, plain numbers

    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    return Tensor(B.from_numpy(np.require(array, requirements="W")))


def _gate(tensors: list[Tensor], on_backward: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> list[Tensor]:
    """Identity whose backward sees the gradients of all tensors at once.

    The tape has one output per node. So the inputs meet in a scalar token, of which every output is made: each
    output's backward stores its gradient and sends a dummy on, and the token's backward, which comes after all of
    them, hands out what on_backward makes of the stored gradients (Arrays; None where none arrived).
    """
    if not is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return tensors
    gradients: list[Any] = [None] * len(tensors)
    dummy = B.full((), 0.0, "float32")

    def release(_: Any) -> tuple[Any, ...]:
        arrived = tuple(gradients)
        gradients[:] = [None] * len(tensors)
        return on_backward(arrived)

    token = record(dummy, tuple(tensors), release, alias=True)

    def outlet(i: int) -> Tensor:
        def store(dy: Any) -> tuple[Any, ...]:
            gradients[i] = dy
            return (dummy,)

        return record(tensors[i].data, (token,), store)

    return [outlet(i) if t.requires_grad else t for i, t in enumerate(tensors)]
