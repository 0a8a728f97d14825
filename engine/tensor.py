"""The tensor: PyTorch's shapes, names and semantics over backend arrays.

Arithmetic, comparison, indexing, reductions and changes of shape live here, each forward with its backward beside it;
everything with weights, windows or losses lives in `engine.functional`. Computation is float32; int64, int32, uint8
and bool serve as labels, indices and masks.
"""

from __future__ import annotations

import builtins
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn, TypeAlias, overload

import numpy as np

from engine import autograd, backend as B, random
from engine.autograd import RemovableHandle, mode, record
from engine.backend import Array

__all__ = [
    "Parameter",
    "Tensor",
    "abs",
    "add",
    "allclose",
    "amax",
    "amin",
    "arange",
    "argmax",
    "argmin",
    "as_tensor",
    "bool",
    "cat",
    "ceil",
    "chunk",
    "clamp",
    "clip",
    "concat",
    "cos",
    "div",
    "dtype",
    "empty",
    "empty_like",
    "equal",
    "erf",
    "exp",
    "expm1",
    "eye",
    "flatten",
    "float32",
    "floor",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "gather",
    "index_select",
    "int32",
    "int64",
    "is_tensor",
    "isfinite",
    "isinf",
    "isnan",
    "linspace",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "movedim",
    "mul",
    "neg",
    "norm",
    "normal",
    "numel",
    "ones",
    "ones_like",
    "permute",
    "pow",
    "prod",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "reciprocal",
    "relu",
    "reshape",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "std",
    "sub",
    "sum",
    "tanh",
    "tensor",
    "transpose",
    "uint8",
    "unbind",
    "unsqueeze",
    "var",
    "where",
    "zeros",
    "zeros_like",
]

Scalar: TypeAlias = "builtins.float | builtins.int | builtins.bool"
Dim: TypeAlias = "builtins.int | Sequence[builtins.int] | None"


class dtype(str):
    """An element type. It is the name itself, so `x.dtype == "float32"` holds as well."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"engine.{str.__str__(self)}"


float32 = dtype("float32")
int64 = dtype("int64")
int32 = dtype("int32")
uint8 = dtype("uint8")
_bool = dtype("bool")  # exported as `engine.bool`

_DTYPES: dict[str, dtype] = {name: name for name in (float32, int64, int32, uint8, _bool)}
_RANK = {"bool": 0, "uint8": 1, "int32": 2, "int64": 3, "float32": 4}  # a wider type wins
_NARROW = {"int32", "uint8"}
# what each elementwise op keeps for its gradient: "x", "y" or nothing
_SAVED = {name: saved for name, (_, saved) in B.unary_ops().items()}
_PYTHON_DTYPES: dict[object, dtype] = {builtins.float: float32, builtins.int: int64, builtins.bool: _bool}


def _dtype(value: object) -> dtype:
    """The dtype that a name, a Python type or a NumPy type means."""
    known = _PYTHON_DTYPES.get(value) if not isinstance(value, str) else _DTYPES.get(value)
    if known is None and not isinstance(value, str):
        try:
            known = _DTYPES.get(np.dtype(value).name)  # type: ignore[call-overload]
        except TypeError:
            known = None
    if known is None:
        raise TypeError(f"[dtype] expected one of {', '.join(_DTYPES)}, got {value!r}")
    return known


def axis_of(dim: builtins.int, ndim: builtins.int, name: str) -> builtins.int:
    """`dim` counted from the front, for the op of this name."""
    limit = ndim or 1
    if not -limit <= dim < limit:
        raise IndexError(f"[{name}] expected a dimension in [{-limit}, {limit - 1}], got {dim}")
    return dim % limit


def _axes(dim: Dim, ndim: builtins.int, name: str) -> tuple[builtins.int, ...]:
    """The axes that a `dim` argument names; None means all."""
    if dim is None:
        return tuple(range(ndim))
    if isinstance(dim, builtins.int):
        return (axis_of(dim, ndim, name),) if ndim else ()
    axes = tuple([axis_of(d, ndim, name) for d in dim])
    if len(set(axes)) != len(axes):
        raise ValueError(f"[{name}] expected every dimension once, got dim={tuple(dim)}")
    return axes if axes and ndim else tuple(range(ndim))


def _sizes(sizes: tuple[Any, ...]) -> tuple[builtins.int, ...]:
    """f(2, 3) and f((2, 3)) mean the same."""
    if len(sizes) == 1 and not isinstance(sizes[0], builtins.int):
        sizes = tuple(sizes[0])
    return tuple([s.__index__() for s in sizes])


def _resolve(shape: tuple[builtins.int, ...], size: builtins.int, name: str) -> tuple[builtins.int, ...]:
    """`shape` with its -1, if any, replaced so that it holds `size` elements."""
    known, unknown = 1, -1
    for i, n in enumerate(shape):
        if n >= 0:
            known *= n
        elif n == -1 and unknown < 0:
            unknown = i
        else:
            raise ValueError(f"[{name}] expected sizes >= 0 and at most one -1, got {shape}")
    if unknown >= 0 and known and size % known == 0:
        return (*shape[:unknown], size // known, *shape[unknown + 1 :])
    if unknown >= 0 or known != size:
        raise ValueError(f"[{name}] shape {shape} does not fit an input of {size} elements")
    return shape


def _kept(shape: tuple[builtins.int, ...], axes: tuple[builtins.int, ...]) -> tuple[builtins.int, ...]:
    """The shape after a reduction over `axes` with keepdim."""
    return tuple([1 if i in axes else n for i, n in enumerate(shape)])


def _is_number(value: object) -> builtins.bool:
    return isinstance(value, (builtins.int, builtins.float, np.generic))


def _value(x: object) -> Any:
    """An operand as the backend takes it, an array or a number; None for what cannot be one."""
    if isinstance(x, Tensor):
        return x.data
    if isinstance(x, (builtins.float, builtins.int)):
        return x
    if isinstance(x, np.generic):
        return x.item()
    return tensor(x).data if isinstance(x, np.ndarray) else None


def _operands(x: Any, y: Any) -> tuple[Any, Any, builtins.bool, builtins.bool]:
    """Both operands as the backend takes them, and which of them want a gradient."""
    recording = mode.enabled
    if isinstance(x, Tensor):
        a, wants_a = x.data, recording and x.requires_grad
    else:
        a, wants_a = _value(x), False
    if isinstance(y, Tensor):
        return a, y.data, wants_a, recording and y.requires_grad
    return a, _value(y), wants_a, False


def _category(name: str) -> builtins.int:
    return 2 if name == "float32" else 0 if name == "bool" else 1


def _plain(z: Array, a: Any, b: Any) -> Tensor:
    """The result of an op that is not recorded.

    The backend computes integers as int64; PyTorch's result is narrow for narrow operands, and one without dimensions,
    like a number, matters only if it is of another kind.
    """
    if z.dtype != "int64":
        return Tensor(z)
    kinds = []
    for operand, other in ((a, b), (b, a)):
        if isinstance(operand, Array):
            rank = operand.ndim and isinstance(other, Array) and not other.ndim
            kinds.append((2 if rank or not isinstance(other, Array) else 1, operand.dtype))
    strongest = builtins.max(kinds)[0]
    if strongest == 2 and {name for _, name in kinds} <= _NARROW | {"int64"}:
        kinds = [pair for pair in kinds if pair[0] == 2]
    name = builtins.max([name for _, name in kinds], key=_RANK.__getitem__)
    return Tensor(B.cast(z, name)) if name in _NARROW else Tensor(z)


def _to_dtype(a: Array, name: str) -> Array:
    return a if a.dtype == name else B.cast(a, name)


def _wrong_operand(name: str, x: object, y: object) -> NoReturn:
    raise TypeError(f"[{name}] expected tensors or numbers, got {type(x).__name__} and {type(y).__name__}")


def _wants_grad(x: object) -> builtins.bool:
    return isinstance(x, Tensor) and x.requires_grad


class MaxResult(NamedTuple):
    """What `max(dim)` and `min(dim)` return."""

    values: Tensor
    indices: Tensor


class Tensor:
    """A multi-dimensional array that can record what is computed with it.

    Made by `engine.tensor`, `engine.zeros`, ... rather than directly. The shape is logical, as in PyTorch; tensors of
    four dimensions (N, C, H, W) lie channels-last in memory, all others row by row.

    Attributes:
        data: the backend array.
        requires_grad: whether gradients flow to or through the tensor.
        grad: the gradient that `backward` accumulated; None before.

    Example:
        >>> import engine
        >>> x = engine.tensor([1.0, 2.0], requires_grad=True)
        >>> (x * x).sum().backward()
        >>> x.grad
        tensor([2., 4.])
    """

    __slots__ = ("data", "requires_grad", "grad", "node", "hooks", "__weakref__")
    __array_priority__ = 1000  # ndarray * tensor asks the tensor
    __hash__ = object.__hash__

    def __init__(self, data: Array, requires_grad: builtins.bool = False) -> None:
        self.data = data
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.node: autograd.Node | None = None
        self.hooks: dict[builtins.int, Callable[[Array], Array]] | None = None

    # --- what it is ------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[builtins.int, ...]:
        """The sizes of all dimensions."""
        return self.data.shape

    @overload
    def size(self, dim: None = None) -> tuple[builtins.int, ...]: ...
    @overload
    def size(self, dim: builtins.int) -> builtins.int: ...
    def size(self, dim: builtins.int | None = None) -> builtins.int | tuple[builtins.int, ...]:
        """The shape, or the size of one dimension."""
        shape = self.data.shape
        return shape if dim is None else shape[axis_of(dim, len(shape), "size")]

    @property
    def dtype(self) -> dtype:
        """The element type."""
        return _DTYPES[self.data.dtype]

    @property
    def ndim(self) -> builtins.int:
        """The number of dimensions."""
        return self.data.ndim

    def dim(self) -> builtins.int:
        """The number of dimensions."""
        return self.data.ndim

    def numel(self) -> builtins.int:
        """The number of elements."""
        return self.data.size

    nelement = numel

    @property
    def nbytes(self) -> builtins.int:
        """The number of bytes of all elements."""
        return self.data.nbytes

    def element_size(self) -> builtins.int:
        """The number of bytes of one element."""
        return np.dtype(self.data.dtype).itemsize

    @overload
    def stride(self, dim: None = None) -> tuple[builtins.int, ...]: ...
    @overload
    def stride(self, dim: builtins.int) -> builtins.int: ...
    def stride(self, dim: builtins.int | None = None) -> builtins.int | tuple[builtins.int, ...]:
        """Steps in memory between neighbours along each dimension, in elements."""
        strides = self.data.strides
        return strides if dim is None else strides[axis_of(dim, len(strides), "stride")]

    def is_contiguous(self) -> builtins.bool:
        """Whether the elements lie in the engine's own order: channels-last for four dimensions, else row by row."""
        return self.data.is_contiguous

    def is_floating_point(self) -> builtins.bool:
        """Whether the elements are float32."""
        return self.data.dtype == "float32"

    @property
    def is_leaf(self) -> builtins.bool:
        """Whether the tensor was made by the user rather than by a recorded op."""
        return self.node is None

    @property
    def grad_fn(self) -> autograd.Node | None:
        """The node that computes the gradients of this tensor's inputs."""
        return self.node

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions in reverse order."""
        return self.permute(tuple(range(self.data.ndim))[::-1])

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two dimensions exchanged."""
        return self.transpose(-2, -1)

    # --- gradients -------------------------------------------------------------------------------------------------

    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: builtins.bool = False,
        create_graph: builtins.bool = False,
    ) -> None:
        """Computes the gradients of all leaves that this tensor depends on and adds them to their `.grad`.

        Args:
            gradient: the gradient with respect to this tensor; may be left out for a tensor of one element.
            retain_graph: keep the graph for another call.
            create_graph: not supported; gradients are not recorded themselves.

        Raises:
            RuntimeError: without a graph, for a non-scalar without `gradient`, or on a freed graph.
        """
        if create_graph:
            raise RuntimeError("[backward] create_graph=True is not supported: gradients of gradients are not recorded")
        if not self.requires_grad:
            raise RuntimeError(
                "[backward] the tensor does not require grad and has no graph: set requires_grad=True on the inputs "
                "and compute outside no_grad()"
            )
        data = self.data
        if gradient is None:
            if data.size != 1:
                raise RuntimeError(
                    f"[backward] grad can be implicitly created only for scalar outputs, got shape {data.shape}: "
                    "reduce it with .sum() or .mean(), or pass gradient="
                )
            dy = B.full(data.shape, 1.0, "float32")
        else:
            if gradient.data.shape != data.shape or gradient.data.dtype != "float32":
                raise RuntimeError(
                    f"[backward] expected a float32 gradient of shape {data.shape}, "
                    f"got {gradient.data.dtype} of shape {gradient.data.shape}"
                )
            dy = gradient.data
        root = self.node
        if root is None:
            root = autograd.Node([self], _identity_backward, True)
        autograd.run(root, dy, retain_graph)

    def detach(self) -> Tensor:
        """The same memory as a tensor without history."""
        return Tensor(self.data)

    def requires_grad_(self, requires_grad: builtins.bool = True) -> Tensor:
        """Sets, in place, whether gradients are computed for this leaf."""
        if self.node is not None:
            if not requires_grad:
                raise RuntimeError("[requires_grad_] only leaves can be switched off: use detach()")
            return self
        if requires_grad:
            _check_differentiable(self.data)
        self.requires_grad = builtins.bool(requires_grad)
        return self

    def retain_grad(self) -> None:
        """Makes `backward` leave the gradient of this non-leaf in `.grad`."""
        node = self.node
        if node is None:
            if not self.requires_grad:
                raise RuntimeError("[retain_grad] the tensor does not require grad")
            return
        owner = weakref.ref(self)

        def keep(dy: Array) -> Array:
            tensor = owner()
            if tensor is not None:
                autograd.accumulate(tensor, dy, True)
            return dy

        if node.hooks is None:
            node.hooks = {}
        if -1 not in node.hooks:
            node.hooks[-1] = keep

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Calls `hook(gradient)` when the gradient of this tensor is known; what it returns replaces the gradient.

        Args:
            hook: takes the gradient and returns None or another one of the same shape.

        Returns:
            A handle whose `remove()` takes the hook away.

        Example:
            >>> import engine
            >>> x = engine.ones(2, requires_grad=True)
            >>> handle = x.register_hook(lambda grad: grad * 10)
            >>> x.sum().backward()
            >>> x.grad
            tensor([10., 10.])
        """
        if not self.requires_grad:
            raise RuntimeError("[register_hook] cannot register a hook on a tensor that does not require grad")

        def call(dy: Array) -> Array:
            result = hook(Tensor(dy))
            if result is None:
                return dy
            if result.data.shape != dy.shape:
                raise RuntimeError(
                    f"[register_hook] the hook returned shape {result.data.shape} for a gradient of shape {dy.shape}"
                )
            return result.data

        owner: Tensor | autograd.Node = self if self.node is None else self.node
        if owner.hooks is None:
            owner.hooks = {}
        return RemovableHandle(owner.hooks, call)

    # --- conversion ------------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The only element as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return B.to_numpy(self.data).tolist()

    def numpy(self) -> np.ndarray[Any, Any]:
        """The same memory as a NumPy array.

        Raises:
            RuntimeError: if the tensor requires grad.
        """
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return B.to_numpy(self.data)

    def __array__(self, dtype: Any = None, copy: builtins.bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"cannot see {self.dtype!r} as {dtype} without a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **arguments: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self.data.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[builtins.int, builtins.int]:
        return self.data.__dlpack_device__()

    def to(self, dtype: Any) -> Tensor:
        """The tensor in another element type; itself if it has that type already."""
        if isinstance(dtype, Tensor):
            dtype = dtype.data.dtype
        name, source = _dtype(dtype), self.data
        if source.dtype == name:
            return self
        return Tensor(B.cast(source, name))

    type = to

    def float(self) -> Tensor:
        """The tensor as float32."""
        return self.to(float32)

    def long(self) -> Tensor:
        """The tensor as int64."""
        return self.to(int64)

    def int(self) -> Tensor:
        """The tensor as int32."""
        return self.to(int32)

    def bool(self) -> Tensor:
        """Whether each element differs from zero."""
        return self.to(_bool)

    def type_as(self, other: Tensor) -> Tensor:
        """The tensor in the element type of another."""
        return self.to(other.data.dtype)

    def __len__(self) -> builtins.int:
        if self.data.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.data.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, value: object) -> builtins.bool:
        return builtins.bool((self == value).any())

    def __bool__(self) -> builtins.bool:
        if self.data.size != 1:
            raise RuntimeError(
                f"Boolean value of Tensor with {self.data.size} elements is ambiguous: use .any() or .all()"
            )
        return builtins.bool(self.data.item())

    def __float__(self) -> builtins.float:
        return builtins.float(self.data.item())

    def __int__(self) -> builtins.int:
        return builtins.int(self.data.item())

    def __index__(self) -> builtins.int:
        if self.data.dtype in ("float32", "bool") or self.data.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return builtins.int(self.data.item())

    def __format__(self, spec: str) -> str:
        return self.data.item().__format__(spec) if spec else repr(self)

    def __repr__(self) -> str:
        array = B.to_numpy(self.data)
        with np.printoptions(precision=4, suppress=_prints_plainly(array), floatmode="maxprec"):
            prefix = "tensor("
            text = prefix + np.array2string(array, separator=", ", prefix=prefix)
        if array.size == 0:
            text = f"tensor([], size={array.shape}"
        if self.data.dtype not in ("float32", "int64", "bool") or array.size == 0 and self.data.dtype != "float32":
            text += f", dtype={self.dtype!r}"
        if self.node is not None:
            text += ", grad_fn=<Node>"
        elif self.requires_grad:
            text += ", requires_grad=True"
        return text + ")"

    def __copy__(self) -> Tensor:
        return self.__class__(self.data, self.requires_grad) if self.node is None else self

    def __deepcopy__(self, memo: dict[builtins.int, Any]) -> Tensor:
        if self.node is not None:
            raise RuntimeError("[deepcopy] only leaves can be copied: use detach() or clone()")
        result = self.__class__(B.copy(self.data), self.requires_grad)
        if self.grad is not None:
            result.grad = Tensor(B.copy(self.grad.data))
        memo[id(self)] = result
        return result

    # --- arithmetic ------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Tensor:
        return _add(self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _add(self, other)

    def __sub__(self, other: Any) -> Tensor:
        return _sub(self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _sub(other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _mul(self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _mul(self, other)

    def __truediv__(self, other: Any) -> Tensor:
        return _div(self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _div(other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _floor_divide(self, other)

    def __mod__(self, other: Any) -> Tensor:
        quotient = _floor_divide(self, other)
        return quotient if quotient is NotImplemented else self - quotient * other

    def __pow__(self, exponent: Any) -> Tensor:
        return pow(self, exponent)

    def __rpow__(self, base: Any) -> Tensor:
        return pow(base, self)

    def __matmul__(self, other: Any) -> Tensor:
        return matmul(self, other) if isinstance(other, Tensor) else NotImplemented

    def __neg__(self) -> Tensor:
        return elementwise(self, "neg")

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return elementwise(self, "abs")

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return _compare("eq", self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return _compare("ne", self, other)

    def __lt__(self, other: object) -> Tensor:
        return _compare("lt", self, other)

    def __le__(self, other: object) -> Tensor:
        return _compare("le", self, other)

    def __gt__(self, other: object) -> Tensor:
        return _compare("gt", self, other)

    def __ge__(self, other: object) -> Tensor:
        return _compare("ge", self, other)

    def __and__(self, other: Any) -> Tensor:
        return logical_and(self, _mask(other, "&", self))

    def __or__(self, other: Any) -> Tensor:
        return logical_or(self, _mask(other, "|", self))

    def __xor__(self, other: Any) -> Tensor:
        return self != _mask(other, "^", self)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Tensor:
        return logical_not(_mask(self, "~", self))

    def add(self, other: Any, alpha: Scalar = 1) -> Tensor:
        """self + alpha * other."""
        return add(self, other, alpha)

    def sub(self, other: Any, alpha: Scalar = 1) -> Tensor:
        """self - alpha * other."""
        return sub(self, other, alpha)

    def mul(self, other: Any) -> Tensor:
        """self * other."""
        return mul(self, other)

    def div(self, other: Any) -> Tensor:
        """self / other."""
        return div(self, other)

    def pow(self, exponent: Any) -> Tensor:
        """self ** exponent."""
        return pow(self, exponent)

    def matmul(self, other: Tensor) -> Tensor:
        """self @ other."""
        return matmul(self, other)

    mm = bmm = matmul

    def eq(self, other: Any) -> Tensor:
        """self == other."""
        return self == other

    def ne(self, other: Any) -> Tensor:
        """self != other."""
        return self != other

    def lt(self, other: Any) -> Tensor:
        """self < other."""
        return self < other

    def le(self, other: Any) -> Tensor:
        """self <= other."""
        return self <= other

    def gt(self, other: Any) -> Tensor:
        """self > other."""
        return self > other

    def ge(self, other: Any) -> Tensor:
        """self >= other."""
        return self >= other

    def maximum(self, other: Any) -> Tensor:
        """The larger of both, element by element."""
        return maximum(self, other)

    def minimum(self, other: Any) -> Tensor:
        """The smaller of both, element by element."""
        return minimum(self, other)

    def neg(self) -> Tensor:
        """-self."""
        return elementwise(self, "neg")

    def abs(self) -> Tensor:
        """|self|."""
        return elementwise(self, "abs")

    def exp(self) -> Tensor:
        """e ** self."""
        return elementwise(self, "exp")

    def expm1(self) -> Tensor:
        """e ** self - 1, precise near zero."""
        return elementwise(self, "expm1")

    def log(self) -> Tensor:
        """The natural logarithm."""
        return elementwise(self, "log")

    def log1p(self) -> Tensor:
        """log(1 + self), precise near zero."""
        return elementwise(self, "log1p")

    def sqrt(self) -> Tensor:
        """The square root."""
        return elementwise(self, "sqrt")

    def rsqrt(self) -> Tensor:
        """1 / sqrt(self)."""
        return elementwise(self, "rsqrt")

    def square(self) -> Tensor:
        """self * self."""
        return elementwise(self, "square")

    def reciprocal(self) -> Tensor:
        """1 / self."""
        return elementwise(self, "reciprocal")

    def sin(self) -> Tensor:
        """The sine."""
        return elementwise(self, "sin")

    def cos(self) -> Tensor:
        """The cosine."""
        return elementwise(self, "cos")

    def erf(self) -> Tensor:
        """The error function."""
        return elementwise(self, "erf")

    def sign(self) -> Tensor:
        """-1, 0 or 1; its gradient is zero."""
        return elementwise(self, "sign")

    def floor(self) -> Tensor:
        """The next integer below; its gradient is zero."""
        return elementwise(self, "floor")

    def ceil(self) -> Tensor:
        """The next integer above; its gradient is zero."""
        return elementwise(self, "ceil")

    def round(self) -> Tensor:
        """The nearest integer, the even one of two; its gradient is zero."""
        return elementwise(self, "round")

    def sigmoid(self) -> Tensor:
        """1 / (1 + exp(-self))."""
        return elementwise(self, "sigmoid")

    def tanh(self) -> Tensor:
        """The hyperbolic tangent."""
        return elementwise(self, "tanh")

    def relu(self) -> Tensor:
        """max(self, 0)."""
        return elementwise(self, "relu")

    def softmax(self, dim: builtins.int) -> Tensor:
        """exp(self) / sum(exp(self)) along `dim`."""
        axis = axis_of(dim, self.data.ndim, "softmax")
        y = B.softmax(self.data, axis)

        def backward(dy: Array) -> tuple[Array]:
            return (B.softmax_backward(dy, y, axis),)

        return record(y, (self,), backward)

    def log_softmax(self, dim: builtins.int) -> Tensor:
        """log(softmax(self)) along `dim`."""
        axis = axis_of(dim, self.data.ndim, "log_softmax")
        y = B.log_softmax(self.data, axis)

        def backward(dy: Array) -> tuple[Array]:
            return (B.log_softmax_backward(dy, y, axis),)

        return record(y, (self,), backward)

    def clamp(self, min: Any = None, max: Any = None) -> Tensor:
        """The elements limited to [min, max]; the bounds are numbers, tensors or None."""
        if min is None and max is None:
            raise ValueError("[clamp] expected at least one of min and max")
        if self.data.dtype == "float32" and not isinstance(min, Tensor) and not isinstance(max, Tensor):
            low = -math.inf if min is None else builtins.float(min)
            return elementwise(self, "clamp", low, math.inf if max is None else builtins.float(max))
        x = self if min is None else maximum(self, min)
        return x if max is None else minimum(x, max)

    clip = clamp

    def logical_not(self) -> Tensor:
        """Whether each element is zero."""
        return logical_not(self)

    def isnan(self) -> Tensor:
        """Whether each element is not a number."""
        return isnan(self)

    def isfinite(self) -> Tensor:
        """Whether each element is neither infinite nor NaN."""
        return isfinite(self)

    def masked_fill(self, mask: Tensor, value: Scalar) -> Tensor:
        """`value` where the mask is true, else the element."""
        return where(mask, value, self)

    # --- in place --------------------------------------------------------------------------------------------------

    def _in_place(self, name: str, other: Any = None) -> None:
        if not mode.enabled:
            return
        if self.node is not None:
            raise RuntimeError(
                f"[{name}] the tensor is part of a graph, which an in-place operation would falsify: "
                "use the form that returns a new tensor, or work on detach() or in no_grad()"
            )
        if self.requires_grad:
            raise RuntimeError(
                f"[{name}] a leaf Variable that requires grad is being used in an in-place operation: "
                "put the update into no_grad()"
            )
        if _wants_grad(other):
            raise RuntimeError(
                f"[{name}] the gradient of the operand would be lost: use the form that returns a tensor"
            )

    def _update(self, name: str, op: str, other: Any) -> Tensor:
        self._in_place(name, other)
        data, value = self.data, _value(other)
        if value is None:
            _wrong_operand(name, self, other)
        if data.dtype in _NARROW:  # the backend computes integers as int64
            result = B.binary(op, data, value)
            if result.dtype == "float32":
                raise TypeError(f"[{name}] a float32 result cannot be stored in a tensor of {self.dtype!r}")
            B.copy_(data, result)
        else:
            B.binary_(op, data, value)
        return self

    def add_(self, other: Any, alpha: Scalar = 1) -> Tensor:
        """self += alpha * other, in place."""
        return self._update("add_", "add", other if alpha == 1 else other * alpha)

    def sub_(self, other: Any, alpha: Scalar = 1) -> Tensor:
        """self -= alpha * other, in place."""
        return self._update("sub_", "sub", other if alpha == 1 else other * alpha)

    def mul_(self, other: Any) -> Tensor:
        """self *= other, in place."""
        return self._update("mul_", "mul", other)

    def div_(self, other: Any) -> Tensor:
        """self /= other, in place."""
        return self._update("div_", "div", other)

    def _augment(self, other: Any, in_place: Callable[[Any], Tensor], op: Callable[[Any, Any], Tensor]) -> Tensor:
        # x += y on a recorded x makes a new tensor: value and gradient are PyTorch's, only x's memory is not shared
        if mode.enabled and (self.node is not None or not self.requires_grad and _wants_grad(other)):
            return op(self, other)
        return in_place(other)

    def __iadd__(self, other: Any) -> Tensor:
        return self._augment(other, self.add_, add)

    def __isub__(self, other: Any) -> Tensor:
        return self._augment(other, self.sub_, sub)

    def __imul__(self, other: Any) -> Tensor:
        return self._augment(other, self.mul_, mul)

    def __itruediv__(self, other: Any) -> Tensor:
        return self._augment(other, self.div_, div)

    def clamp_(self, min: Scalar | None = None, max: Scalar | None = None) -> Tensor:
        """Limits the elements to [min, max], in place."""
        self._in_place("clamp_")
        B.copy_(self.data, self.detach().clamp(min, max).data)
        return self

    def copy_(self, source: Any) -> Tensor:
        """Takes the values of another tensor, broadcast and converted to this type."""
        self._in_place("copy_", source)
        if not isinstance(source, Tensor):
            source = tensor(source)
        B.copy_(self.data, _to_dtype(source.data, self.data.dtype))
        return self

    def fill_(self, value: Any) -> Tensor:
        """Sets every element to `value`."""
        self._in_place("fill_", value)
        B.fill_(self.data, value.item() if isinstance(value, Tensor) else value)
        return self

    def zero_(self) -> Tensor:
        """Sets every element to zero."""
        self._in_place("zero_")
        B.fill_(self.data, 0)
        return self

    def uniform_(self, a: builtins.float = 0.0, b: builtins.float = 1.0) -> Tensor:
        """Fills with random numbers of [a, b)."""
        self._in_place("uniform_")
        B.copy_(self.data, B.uniform(self.data.shape, a, b, *random.next_key()))
        return self

    def normal_(self, mean: builtins.float = 0.0, std: builtins.float = 1.0) -> Tensor:
        """Fills with normally distributed random numbers."""
        self._in_place("normal_")
        B.copy_(self.data, B.normal(self.data.shape, mean, std, *random.next_key()))
        return self

    # --- indexing --------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Tensor:
        starts, stops, steps, shape, advanced = _parse_index(index, self.data.shape)
        result = self
        if starts is not None:
            result = _slice(self, starts, stops, steps)
        if result.data.shape != shape:
            result = result.reshape(shape)
        if advanced:
            result = _take(result, advanced)
        elif result is self:
            result = record(self.data, (self,), _identity_backward, True)
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        self._in_place("setitem", value)
        if isinstance(index, Tensor) and index.data.dtype == "bool" and index.data.shape == self.data.shape:
            number = _value(value)
            if not isinstance(number, Array) or number.ndim == 0:
                B.copy_(self.data, B.where(index.data, number, self.data))
                return
        starts, stops, steps, shape, advanced = _parse_index(index, self.data.shape)
        view = self.data if starts is None else B.slice(self.data, starts, stops, steps)
        if not advanced:
            if _is_number(value):
                B.fill_(view, value)
                return
            source = _to_dtype((value if isinstance(value, Tensor) else tensor(value)).data, self.data.dtype)
            # a reshaped view could be a copy, so the source takes the view's shape, with the dropped dimensions as 1
            source = B.expand(source, shape) if source.shape != shape else source
            B.copy_(view, B.reshape(source, view.shape))
            return
        # through the elements' numbers: rare, so simple rather than fast
        numbers = _arange_like(self.data.shape)[index]
        values = (value if isinstance(value, Tensor) else tensor(value)).to(self.data.dtype).expand(numbers.shape)
        flat = B.to_numpy(B.copy(B.reshape(self.data, (self.data.size,))))
        flat[B.to_numpy(numbers.data)] = B.to_numpy(values.data)
        B.copy_(self.data, B.reshape(B.from_numpy(flat), self.data.shape))

    def select(self, dim: builtins.int, index: builtins.int) -> Tensor:
        """The slice at `index` along `dim`, without that dimension."""
        return self[(slice(None),) * axis_of(dim, self.data.ndim, "select") + (index,)]

    def narrow(self, dim: builtins.int, start: builtins.int, length: builtins.int) -> Tensor:
        """`length` elements along `dim` from `start`."""
        return self[(slice(None),) * axis_of(dim, self.data.ndim, "narrow") + (slice(start, start + length),)]

    def gather(self, dim: builtins.int, index: Tensor) -> Tensor:
        """Picks along `dim` by an int64 index of the output's shape."""
        axis, x, where_ = axis_of(dim, self.data.ndim, "gather"), self.data, _index_array(index)
        shape = x.shape

        def backward(dy: Array) -> tuple[Array]:
            return (B.scatter_add(shape, axis, where_, dy),)

        return record(B.gather(x, axis, where_), (self,), backward)

    def index_select(self, dim: builtins.int, index: Tensor) -> Tensor:
        """The slices along `dim` that a one-dimensional int64 index names."""
        axis, x, where_ = axis_of(dim, self.data.ndim, "index_select"), self.data, _index_array(index)
        shape = x.shape

        def backward(dy: Array) -> tuple[Array]:
            return (B.index_add(shape, axis, where_, dy),)

        return record(B.index_select(x, axis, where_), (self,), backward)

    def masked_select(self, mask: Tensor) -> Tensor:
        """The elements where the mask is true, in one dimension."""
        return self[mask.expand(self.data.shape)]

    def nonzero(self) -> Tensor:
        """The indices of all elements that are not zero, one row each."""
        return tensor(np.argwhere(B.to_numpy(self.data)))

    # --- reductions ------------------------------------------------------------------------------------------------

    def sum(self, dim: Dim = None, keepdim: builtins.bool = False, dtype: Any = None) -> Tensor:
        """The sum over `dim` (all dimensions by default); integers and bools give int64."""
        x = self.data
        if dtype is not None:
            return self.to(dtype).sum(dim, keepdim)
        shape = x.shape
        axes = _axes(dim, len(shape), "sum")
        if x.dtype != "float32":
            return Tensor(B.reduce("sum", _to_dtype(x, "int64"), axes, keepdim))
        y = B.reduce("sum", x, axes, keepdim)
        if not (self.requires_grad and mode.enabled):
            return Tensor(y)
        kept = _kept(shape, axes)

        def backward(dy: Array) -> tuple[Array]:
            return (B.expand(B.reshape(dy, kept), shape),)

        return record(y, (self,), backward, True)

    def mean(self, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """The mean over `dim` (all dimensions by default)."""
        x = self.data
        if x.dtype != "float32":
            raise RuntimeError(f"[mean] expected a floating point tensor, got {x.dtype}: use .float() first")
        shape = x.shape
        axes = _axes(dim, len(shape), "mean")
        y = B.reduce("mean", x, axes, keepdim)
        if not (self.requires_grad and mode.enabled):
            return Tensor(y)
        kept = _kept(shape, axes)
        count = math.prod([shape[i] for i in axes])

        def backward(dy: Array) -> tuple[Array]:
            return (B.expand(B.reshape(B.binary("div", dy, builtins.float(count)), kept), shape),)

        return record(y, (self,), backward, True)

    def _extreme(self, op: str, dim: Dim, keepdim: builtins.bool) -> Tensor:
        """amax and amin: ties share the gradient evenly."""
        x = self.data
        shape = x.shape
        axes = _axes(dim, len(shape), op)
        if 0 in [shape[i] for i in axes]:
            raise IndexError(f"[{op}] cannot reduce a dimension of size 0, got shape {shape}")
        y = B.reduce(op, x, axes, keepdim)
        kept = _kept(shape, axes)

        def backward(dy: Array) -> tuple[Array]:
            tied = B.cast(B.binary("eq", x, B.reshape(y, kept)), "float32")
            share = B.binary("div", B.reshape(dy, kept), B.reduce("sum", tied, axes, True))
            return (B.binary("mul", tied, share),)

        return record(y, (self,), backward)

    def _extreme_along(self, op: str, dim: builtins.int, keepdim: builtins.bool) -> MaxResult:
        """max(dim) and min(dim): the gradient goes to the index returned."""
        x = self.data
        shape = x.shape
        if not shape:
            return MaxResult(self.reshape(()), Tensor(B.full((), 0, "int64")))
        axis = axis_of(dim, len(shape), op)
        if shape[axis] == 0:
            raise IndexError(f"[{op}] cannot reduce a dimension of size 0, got shape {shape}")
        indices = B.argreduce(op, x, axis, True)
        values = B.gather(x, axis, indices)
        kept = indices.shape
        out = kept if keepdim else kept[:axis] + kept[axis + 1 :]

        def backward(dy: Array) -> tuple[Array]:
            return (B.scatter_add(shape, axis, indices, B.reshape(dy, kept)),)

        return MaxResult(record(B.reshape(values, out), (self,), backward), Tensor(B.reshape(indices, out)))

    @overload
    def max(self) -> Tensor: ...
    @overload
    def max(self, dim: Tensor) -> Tensor: ...
    @overload
    def max(self, dim: builtins.int, keepdim: builtins.bool = False) -> MaxResult: ...
    def max(self, dim: Any = None, keepdim: builtins.bool = False) -> Tensor | MaxResult:
        """The largest element; with `dim` (values, indices); with a tensor the larger of both.

        Example:
            >>> import engine
            >>> engine.tensor([[1, 5], [7, 3]]).max(dim=1).values
            tensor([5, 7])
        """
        if dim is None:
            return self._extreme("max", None, False)
        if isinstance(dim, Tensor):
            return maximum(self, dim)
        return self._extreme_along("max", dim, keepdim)

    @overload
    def min(self) -> Tensor: ...
    @overload
    def min(self, dim: Tensor) -> Tensor: ...
    @overload
    def min(self, dim: builtins.int, keepdim: builtins.bool = False) -> MaxResult: ...
    def min(self, dim: Any = None, keepdim: builtins.bool = False) -> Tensor | MaxResult:
        """The smallest element; with `dim` (values, indices); with a tensor the smaller of both."""
        if dim is None:
            return self._extreme("min", None, False)
        if isinstance(dim, Tensor):
            return minimum(self, dim)
        return self._extreme_along("min", dim, keepdim)

    def amax(self, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """The largest element over `dim`; ties share the gradient."""
        return self._extreme("max", dim, keepdim)

    def amin(self, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """The smallest element over `dim`; ties share the gradient."""
        return self._extreme("min", dim, keepdim)

    def prod(self, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """The product over `dim` (all dimensions by default)."""
        x = self.data
        shape = x.shape
        axes = _axes(dim, len(shape), "prod")
        if x.dtype != "float32":
            return Tensor(B.reduce("prod", _to_dtype(x, "int64"), axes, keepdim))
        kept = _kept(shape, axes)

        def backward(dy: Array) -> tuple[Array]:
            # the product of all others: y / x, without dividing by zero. One zero leaves only its own, two leave none.
            is_zero = B.binary("eq", x, 0.0)
            divisor = B.where(is_zero, 1.0, x)
            zeros_ = B.reduce("sum", B.cast(is_zero, "float32"), axes, True)
            others = B.binary("div", B.reduce("prod", divisor, axes, True), divisor)
            counts = B.where(is_zero, B.binary("eq", zeros_, 1.0), B.binary("eq", zeros_, 0.0))
            return (B.where(counts, B.binary("mul", B.reshape(dy, kept), others), 0.0),)

        return record(B.reduce("prod", x, axes, keepdim), (self,), backward)

    def _spread(
        self,
        dim: Any,
        unbiased: builtins.bool,
        correction: Scalar | None,
        keepdim: builtins.bool,
        root: builtins.bool,
    ) -> Tensor:
        if isinstance(dim, builtins.bool):  # PyTorch's x.var(False)
            dim, unbiased = None, dim
        x = self.data
        if x.dtype != "float32":
            raise RuntimeError(f"[{'std' if root else 'var'}] expected a floating point tensor, got {x.dtype}")
        shape = x.shape
        axes = _axes(dim, len(shape), "std" if root else "var")
        kept = _kept(shape, axes)
        count = math.prod([shape[i] for i in axes])
        divisor = builtins.max(count - (builtins.int(unbiased) if correction is None else correction), 0)
        centred = B.binary("sub", x, B.reduce("mean", x, axes, True))
        y = B.binary("div", B.reduce("sum", B.unary("square", centred), axes, keepdim), builtins.float(divisor))
        if root:
            y = B.unary("sqrt", y)

        def backward(dy: Array) -> tuple[Array]:
            if root:  # where all elements are equal the gradient is zero
                flat = B.binary("eq", y, 0.0)
                dy = B.where(flat, 0.0, B.binary("div", dy, B.binary("mul", y, 2.0)))
            scale = B.binary("mul", B.reshape(dy, kept), 2.0 / divisor if divisor else math.nan)
            return (B.binary("mul", centred, scale),)

        return record(y, (self,), backward)

    def var(
        self,
        dim: Dim = None,
        unbiased: builtins.bool = True,
        keepdim: builtins.bool = False,
        *,
        correction: Scalar | None = None,
    ) -> Tensor:
        """The variance over `dim`, divided by count - 1, or by count - correction."""
        return self._spread(dim, unbiased, correction, keepdim, False)

    def std(
        self,
        dim: Dim = None,
        unbiased: builtins.bool = True,
        keepdim: builtins.bool = False,
        *,
        correction: Scalar | None = None,
    ) -> Tensor:
        """The standard deviation over `dim`, of the variance divided by count - 1, or by count - correction."""
        return self._spread(dim, unbiased, correction, keepdim, True)

    def norm(self, p: builtins.float = 2.0, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """The p-norm of the vectors along `dim`; its gradient at zero is zero."""
        if p == math.inf:
            return self.abs()._extreme("max", dim, keepdim)
        x = self.data
        shape = x.shape
        axes = _axes(dim, len(shape), "norm")
        kept = _kept(shape, axes)
        size = B.unary("abs", x)
        if p == 2.0:
            y = B.unary("sqrt", B.reduce("sum", B.unary("square", x), axes, keepdim))
        elif p == 1.0:
            y = B.reduce("sum", size, axes, keepdim)
        else:
            y = B.unary(
                "pow_scalar", B.reduce("sum", B.unary("pow_scalar", size, p), axes, keepdim), builtins.float(1 / p)
            )

        def backward(dy: Array) -> tuple[Array]:
            dy, length = B.reshape(dy, kept), B.reshape(y, kept)
            if p == 1.0:
                return (B.binary("mul", B.unary("sign", x), dy),)
            ratio = B.binary("div", x if p == 2.0 else size, length)
            if p != 2.0:
                ratio = B.binary("mul", B.unary("pow_scalar", ratio, p - 1.0), B.unary("sign", x))
            return (B.where(B.binary("eq", size, 0.0), 0.0, B.binary("mul", ratio, dy)),)

        return record(y, (self,), backward)

    def argmax(self, dim: builtins.int | None = None, keepdim: builtins.bool = False) -> Tensor:
        """The index of the first largest element, of all or along `dim`."""
        return self._arg("max", dim, keepdim)

    def argmin(self, dim: builtins.int | None = None, keepdim: builtins.bool = False) -> Tensor:
        """The index of the first smallest element, of all or along `dim`."""
        return self._arg("min", dim, keepdim)

    def _arg(self, op: str, dim: builtins.int | None, keepdim: builtins.bool) -> Tensor:
        x = self.data
        if 0 in x.shape and (dim is None or x.shape[axis_of(dim, x.ndim, f"arg{op}")] == 0):
            raise IndexError(f"[arg{op}] cannot reduce a dimension of size 0, got shape {x.shape}")
        if x.ndim == 0:
            return Tensor(B.full((), 0, "int64"))
        return Tensor(B.argreduce(op, x, None if dim is None else axis_of(dim, x.ndim, f"arg{op}"), keepdim))

    def _quantify(self, op: str, dim: Dim, keepdim: builtins.bool) -> Tensor:
        x = B.cast(_to_dtype(self.data, "bool"), "float32")
        axes = _axes(dim, x.ndim, "any" if op == "max" else "all")
        if 0 in [x.shape[i] for i in axes]:  # any of nothing is false, all of nothing is true
            shape = _kept(x.shape, axes)
            if not keepdim:
                shape = tuple([n for i, n in enumerate(shape) if i not in axes])
            return full(shape, op == "min", dtype=_bool)
        return Tensor(B.cast(B.reduce(op, x, axes, keepdim), "bool"))

    def any(self, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """Whether any element differs from zero."""
        return self._quantify("max", dim, keepdim)

    def all(self, dim: Dim = None, keepdim: builtins.bool = False) -> Tensor:
        """Whether all elements differ from zero."""
        return self._quantify("min", dim, keepdim)

    # --- shape -----------------------------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Tensor:
        """The elements, in logical row-major order, in another shape; one size may be -1. A view where possible."""
        x = self.data
        old = x.shape
        new = _resolve(_sizes(shape), x.size, "reshape")
        y = B.reshape(x, new)
        if not (self.requires_grad and mode.enabled):
            return Tensor(y)

        def backward(dy: Array) -> tuple[Array]:
            return (B.reshape(dy, old),)

        return record(y, (self,), backward, True)

    def view(self, *shape: Any) -> Tensor:
        """`reshape`: channels-last memory means that (N, C, H, W) seen as (N, C * H * W) has to be a copy."""
        if len(shape) == 1 and isinstance(shape[0], dtype):
            raise TypeError("[view] expected sizes, got a dtype: use to(dtype)")
        return self.reshape(*shape)

    def reshape_as(self, other: Tensor) -> Tensor:
        """The tensor in the shape of another."""
        return self.reshape(other.data.shape)

    view_as = reshape_as

    def flatten(self, start_dim: builtins.int = 0, end_dim: builtins.int = -1) -> Tensor:
        """Merges the dimensions from `start_dim` to `end_dim` into one.

        Example:
            >>> import engine
            >>> engine.zeros(2, 3, 4).flatten(1).shape
            (2, 12)
        """
        x = self.data
        old = x.shape
        ndim = len(old)
        if ndim == 0:
            return self.reshape(1)
        first, last = axis_of(start_dim, ndim, "flatten"), axis_of(end_dim, ndim, "flatten")
        if first > last:
            raise ValueError(f"[flatten] start_dim {start_dim} comes after end_dim {end_dim}")
        if first == last:
            return self
        y = B.reshape(x, (*old[:first], math.prod(old[first : last + 1]), *old[last + 1 :]))
        if not (self.requires_grad and mode.enabled):
            return Tensor(y)

        def backward(dy: Array) -> tuple[Array]:
            return (B.reshape(dy, old),)

        return record(y, (self,), backward, True)

    def ravel(self) -> Tensor:
        """All elements in one dimension."""
        return self.reshape(-1)

    def unflatten(self, dim: builtins.int, sizes: Sequence[builtins.int]) -> Tensor:
        """Splits one dimension into several; one size may be -1."""
        shape = self.data.shape
        axis = axis_of(dim, len(shape), "unflatten")
        return self.reshape(*shape[:axis], *_resolve(tuple(sizes), shape[axis], "unflatten"), *shape[axis + 1 :])

    def permute(self, *dims: Any) -> Tensor:
        """A view with the dimensions in the order given."""
        x = self.data
        order = tuple([axis_of(d, x.ndim, "permute") for d in _sizes(dims)])
        if sorted(order) != list(range(x.ndim)):
            raise ValueError(f"[permute] expected each of {x.ndim} dimensions once, got {_sizes(dims)}")
        y = B.permute(x, order)
        if not (self.requires_grad and mode.enabled):
            return Tensor(y)
        inverse = tuple(sorted(range(len(order)), key=order.__getitem__))

        def backward(dy: Array) -> tuple[Array]:
            return (B.permute(dy, inverse),)

        return record(y, (self,), backward, True)

    def transpose(self, dim0: builtins.int, dim1: builtins.int) -> Tensor:
        """A view with two dimensions exchanged."""
        order = list(range(self.data.ndim))
        if not order:
            return self
        i, j = axis_of(dim0, len(order), "transpose"), axis_of(dim1, len(order), "transpose")
        order[i], order[j] = j, i
        return self.permute(order)

    swapaxes = transpose

    def t(self) -> Tensor:
        """The transpose of a matrix."""
        if self.data.ndim > 2:
            raise RuntimeError(f"[t] expected at most 2 dimensions, got {self.data.ndim}: use permute or mT")
        return self.T

    def movedim(self, source: Any, destination: Any) -> Tensor:
        """A view with dimensions moved, the others in their order."""
        ndim = self.data.ndim
        from_ = _axes(source, ndim, "movedim")
        to = _axes(destination, ndim, "movedim")
        if len(from_) != len(to):
            raise ValueError(f"[movedim] expected as many sources as destinations, got {source} and {destination}")
        rest = iter([d for d in range(ndim) if d not in from_])
        return self.permute([from_[to.index(d)] if d in to else next(rest) for d in range(ndim)])

    def squeeze(self, dim: Dim = None) -> Tensor:
        """Without dimensions of size 1: all of them, or those named."""
        shape = self.data.shape
        axes = _axes(dim, len(shape), "squeeze")
        return self.reshape(tuple([n for i, n in enumerate(shape) if n != 1 or i not in axes]))

    def unsqueeze(self, dim: builtins.int) -> Tensor:
        """With a new dimension of size 1 at `dim`."""
        shape = self.data.shape
        axis = axis_of(dim, len(shape) + 1, "unsqueeze")
        return self.reshape((*shape[:axis], 1, *shape[axis:]))

    def expand(self, *sizes: Any) -> Tensor:
        """A view in which dimensions of size 1 are repeated; -1 keeps a size."""
        x = self.data
        old = x.shape
        new = list(_sizes(sizes))
        lead = len(new) - len(old)
        if lead < 0:
            raise ValueError(f"[expand] expected at least {len(old)} sizes for shape {old}, got {tuple(new)}")
        for i, n in enumerate(old):
            if new[lead + i] == -1:
                new[lead + i] = n
            elif n not in (1, new[lead + i]):
                raise ValueError(
                    f"[expand] cannot expand shape {old} to {tuple(new)}: only dimensions of size 1 are repeated"
                )
        y = B.expand(x, tuple(new))

        def backward(dy: Array) -> tuple[Array]:
            return (B.sum_to(dy, old),)

        return record(y, (self,), backward, True)

    def expand_as(self, other: Tensor) -> Tensor:
        """A view in the shape of another tensor."""
        return self.expand(other.data.shape)

    broadcast_to = expand

    def repeat(self, *sizes: Any) -> Tensor:
        """The tensor tiled `sizes` times along its dimensions."""
        times = _sizes(sizes)
        shape = self.data.shape
        if len(times) < len(shape):
            raise RuntimeError(f"[repeat] expected at least {len(shape)} sizes, got {times}")
        result = self.reshape((1,) * (len(times) - len(shape)) + shape)
        for axis, n in enumerate(times):
            if n != 1:
                result = cat([result] * n, axis) if n else result.narrow(axis, 0, 0)
        return result.clone() if result is self else result

    def split(self, split_size: Any, dim: builtins.int = 0) -> tuple[Tensor, ...]:
        """Views of consecutive parts along `dim`, of one size (the last may be smaller) or of the sizes given.

        Example:
            >>> import engine
            >>> engine.arange(5).split(2)
            (tensor([0, 1]), tensor([2, 3]), tensor([4]))
        """
        shape = self.data.shape
        axis = axis_of(dim, len(shape), "split")
        total = shape[axis]
        if isinstance(split_size, builtins.int):
            if split_size <= 0:
                raise ValueError(f"[split] expected split_size > 0, got {split_size}")
            sizes = [builtins.min(split_size, total - i) for i in range(0, total, split_size)] or [0]
        else:
            sizes = list(split_size)
            if builtins.sum(sizes) != total or builtins.min(sizes, default=0) < 0:
                raise ValueError(f"[split] expected sizes that add up to {total} along dim {dim}, got {sizes}")
        return _parts(self, axis, sizes)

    def chunk(self, chunks: builtins.int, dim: builtins.int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` views of equal parts along `dim`, the last of which may be smaller.

        Example:
            >>> import engine
            >>> engine.arange(5).chunk(2)
            (tensor([0, 1, 2]), tensor([3, 4]))
        """
        if chunks <= 0:
            raise ValueError(f"[chunk] expected chunks > 0, got {chunks}")
        total = self.data.shape[axis_of(dim, self.data.ndim, "chunk")]
        return self.split(builtins.max(1, -(-total // chunks)), dim)

    def unbind(self, dim: builtins.int = 0) -> tuple[Tensor, ...]:
        """The slices along `dim`, without that dimension.

        Example:
            >>> import engine
            >>> engine.tensor([[1, 2], [3, 4]]).unbind()
            (tensor([1, 2]), tensor([3, 4]))
        """
        shape = self.data.shape
        axis = axis_of(dim, len(shape), "unbind")
        rest = shape[:axis] + shape[axis + 1 :]
        if shape[axis] == 0:
            return ()
        return tuple([part.reshape(rest) for part in _parts(self, axis, [1] * shape[axis])])

    def clone(self) -> Tensor:
        """A copy, through which gradients flow."""
        return record(B.copy(self.data), (self,), _identity_backward, True)

    def contiguous(self) -> Tensor:
        """The tensor itself if its memory is in the engine's order, else a copy."""
        x = self.data
        return self if x.is_contiguous else record(B.contiguous(x), (self,), _identity_backward, True)


class Parameter(Tensor):
    """A tensor that a module counts among its parameters.

    Args:
        data: the values; memory is shared.
        requires_grad: whether it is trained.

    Example:
        >>> import engine
        >>> engine.nn.Parameter(engine.zeros(2))
        Parameter containing:
        tensor([0., 0.], requires_grad=True)
    """

    __slots__ = ()

    def __init__(self, data: Tensor | Array, requires_grad: builtins.bool = True) -> None:
        array = data.data if isinstance(data, Tensor) else data
        if requires_grad:
            _check_differentiable(array)
        super().__init__(array, requires_grad)

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()


autograd.Tensor = Tensor  # type: ignore[misc]  # `record` makes them


def _identity_backward(dy: Array) -> tuple[Array]:
    return (dy,)


def _check_differentiable(data: Array) -> None:
    if data.dtype != "float32":
        raise RuntimeError(f"[requires_grad] expected a floating point tensor, got {data.dtype}: use .float()")


def _prints_plainly(array: np.ndarray[Any, Any]) -> builtins.bool:
    """Whether fixed notation shows the values well, by PyTorch's rule."""
    if array.dtype.kind != "f":
        return True
    sizes = np.abs(array[np.isfinite(array) & (array != 0)])
    if sizes.size == 0:
        return True
    low, high = builtins.float(sizes.min()), builtins.float(sizes.max())
    return high < 1e8 and low >= 1e-4 and high / low < 1000 * 1000


# --- elementwise ---------------------------------------------------------------------------------------------------


def elementwise(x: Tensor, op: str, p0: builtins.float = 0.0, p1: builtins.float = 0.0) -> Tensor:
    """An elementwise op of the backend, which keeps for its backward its input, its output or neither."""
    a = x.data
    y = B.unary(op, a, p0, p1)
    if not (x.requires_grad and mode.enabled):
        return Tensor(y)
    saved = _SAVED[op]
    input_ = a if saved == "x" else None
    output = y if saved == "y" else None

    def backward(dy: Array) -> tuple[Array]:
        return (B.unary_backward(op, dy, input_, output, p0, p1),)

    return record(y, (x,), backward)


def _inputs(x: Any, y: Any) -> tuple[Tensor | None, Tensor | None]:
    return x if isinstance(x, Tensor) else None, y if isinstance(y, Tensor) else None


def _add(x: Any, y: Any) -> Tensor:
    a, b, wants_a, wants_b = _operands(x, y)
    if a is None or b is None:
        return NotImplemented
    z = B.binary("add", a, b)
    if not (wants_a or wants_b):
        return _plain(z, a, b)
    if not isinstance(b, Array):
        return record(z, (x,), _identity_backward, True)
    shape_a, shape_b = a.shape, b.shape

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        return B.sum_to(dy, shape_a) if wants_a else None, B.sum_to(dy, shape_b) if wants_b else None

    return record(z, _inputs(x, y), backward, True)


def _sub(x: Any, y: Any) -> Tensor:
    a, b, wants_a, wants_b = _operands(x, y)
    if a is None or b is None:
        return NotImplemented
    z = B.binary("sub", a, b)
    if not (wants_a or wants_b):
        return _plain(z, a, b)
    if not isinstance(b, Array):
        return record(z, (x,), _identity_backward, True)
    shape_a, shape_b = a.shape if wants_a else (), b.shape

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        return (
            B.sum_to(dy, shape_a) if wants_a else None,
            B.unary("neg", B.sum_to(dy, shape_b)) if wants_b else None,
        )

    return record(z, _inputs(x, y), backward, True)


def _is_scale_of(scale: tuple[int, ...], shape: tuple[int, ...]) -> builtins.bool:
    """Whether images (N, C, H, W) are multiplied by a factor per image and channel, as squeeze-and-excitation does."""
    return len(shape) == 4 and scale == (*shape[:2], 1, 1) and shape != scale


def _mul(x: Any, y: Any) -> Tensor:
    a, b, wants_a, wants_b = _operands(x, y)
    if a is None or b is None:
        return NotImplemented
    z = B.binary("mul", a, b)
    if not (wants_a or wants_b):
        return _plain(z, a, b)
    if not isinstance(b, Array):
        return record(z, (x,), lambda dy: (B.binary("mul", dy, b),))
    shape_a, shape_b = a.shape, b.shape
    factor_a, factor_b = b if wants_a else None, a if wants_b else None

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        if factor_a is not None and factor_b is not None:
            if _is_scale_of(shape_b, shape_a):
                return B.channel_scale_backward(dy, factor_b, factor_a)
            if _is_scale_of(shape_a, shape_b):
                db, da = B.channel_scale_backward(dy, factor_a, factor_b)
                return da, db
        return (
            None if factor_a is None else B.sum_to(B.binary("mul", dy, factor_a), shape_a),
            None if factor_b is None else B.sum_to(B.binary("mul", dy, factor_b), shape_b),
        )

    return record(z, _inputs(x, y), backward)


def _div(x: Any, y: Any) -> Tensor:
    a, b, wants_a, wants_b = _operands(x, y)
    if a is None or b is None:
        return NotImplemented
    z = B.binary("div", a, b)
    if not (wants_a or wants_b):
        return Tensor(z)
    if not isinstance(b, Array):
        return record(z, (x,), lambda dy: (B.binary("div", dy, b),))
    shape_a, shape_b = a.shape if wants_a else (), b.shape
    quotient = z if wants_b else None

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        da = B.binary("div", dy, b)
        return (
            B.sum_to(da, shape_a) if wants_a else None,
            None if quotient is None else B.sum_to(B.unary("neg", B.binary("mul", da, quotient)), shape_b),
        )

    return record(z, _inputs(x, y), backward)


def _floor_divide(x: Any, y: Any) -> Tensor:
    a, b, _, _ = _operands(x, y)
    if a is None or b is None:
        return NotImplemented
    if "float32" in [v.dtype for v in (a, b) if isinstance(v, Array)] or isinstance(b, builtins.float):
        return Tensor(B.unary("floor", B.binary("div", a, b)))
    left, right = (B.to_numpy(v) if isinstance(v, Array) else v for v in (a, b))
    return tensor(np.floor_divide(left, right))


def _compare(op: str, x: Tensor, y: Any) -> Tensor:
    b = _value(y)
    return NotImplemented if b is None else Tensor(B.binary(op, x.data, b))


def _mask(x: Any, sign: str, other: Tensor) -> Tensor:
    for value in (x, other):
        if not isinstance(value, builtins.bool) and not (isinstance(value, Tensor) and value.data.dtype == "bool"):
            raise TypeError(f"{sign} expects tensors of bools, got {value!r}")
    return x if isinstance(x, Tensor) else Tensor(B.full((), x, "bool"))


def _checked(result: Tensor, name: str, x: object, y: object) -> Tensor:
    if result is NotImplemented:
        _wrong_operand(name, x, y)
    return result


def add(input: Any, other: Any, alpha: Scalar = 1) -> Tensor:
    """input + alpha * other, broadcast."""
    return _checked(_add(input, other if alpha == 1 else other * alpha), "add", input, other)


def sub(input: Any, other: Any, alpha: Scalar = 1) -> Tensor:
    """input - alpha * other, broadcast."""
    return _checked(_sub(input, other if alpha == 1 else other * alpha), "sub", input, other)


def mul(input: Any, other: Any) -> Tensor:
    """input * other, broadcast."""
    return _checked(_mul(input, other) if isinstance(input, Tensor) else _mul(other, input), "mul", input, other)


def div(input: Any, other: Any) -> Tensor:
    """input / other, broadcast; integers give float32."""
    return _checked(_div(input, other), "div", input, other)


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent, broadcast.

    Args:
        input: the base, a tensor or a number.
        exponent: a tensor or a number; at least one of both is a tensor.

    Example:
        >>> import engine
        >>> engine.pow(engine.tensor([1.0, 2.0, 3.0]), 2)
        tensor([1., 4., 9.])
    """
    a, b, wants_a, wants_b = _operands(input, exponent)
    if a is None or b is None:
        _wrong_operand("pow", input, exponent)
    if not isinstance(b, Array):
        if isinstance(b, builtins.int) and a.dtype != "float32":
            if b < 0:
                raise RuntimeError("[pow] integers to negative integer powers are not allowed: use .float() first")
            return _plain(B.binary("pow", a, b), a, b)
        if b == 2:
            return elementwise(input, "square")
        if b == 0.5:
            return elementwise(input, "sqrt")
        return elementwise(input, "pow_scalar", builtins.float(b))
    z = B.binary("pow", a, b)
    if not (wants_a or wants_b):
        return _plain(z, a, b)
    if not isinstance(a, Array):
        log_a = math.log(a) if a > 0 else (0.0 if a == 0 else math.nan)

        def backward_exponent(dy: Array) -> tuple[Array]:
            return (B.binary("mul", B.binary("mul", dy, z), log_a),)

        return record(z, (exponent,), backward_exponent)
    shape_a, shape_b = a.shape, b.shape

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        da = db = None
        if wants_a:
            slope = B.binary("mul", b, B.binary("pow", a, B.binary("sub", b, 1.0)))
            da = B.sum_to(B.where(B.binary("eq", b, 0.0), 0.0, B.binary("mul", dy, slope)), shape_a)
        if wants_b:
            flat = B.binary("logical_and", B.binary("eq", a, 0.0), B.binary("ge", b, 0.0))
            slope = B.binary("mul", z, B.unary("log", a))
            db = B.sum_to(B.where(flat, 0.0, B.binary("mul", dy, slope)), shape_b)
        return da, db

    return record(z, _inputs(input, exponent), backward)


def _extreme_of_two(op: str, x: Any, y: Any) -> Tensor:
    a, b, wants_a, wants_b = _operands(x, y)
    if a is None or b is None:
        _wrong_operand(op, x, y)
    z = B.binary(op, a, b)
    if not (wants_a or wants_b):
        return _plain(z, a, b)
    shape_a, shape_b = a.shape if wants_a else (), b.shape if wants_b else ()

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        half = B.binary("mul", dy, 0.5)  # ties share
        tied = B.binary("eq", a, b)
        a_wins = B.binary("gt" if op == "maximum" else "lt", a, b)
        return (
            B.sum_to(B.where(tied, half, B.where(a_wins, dy, 0.0)), shape_a) if wants_a else None,
            B.sum_to(B.where(tied, half, B.where(a_wins, 0.0, dy)), shape_b) if wants_b else None,
        )

    return record(z, _inputs(x, y), backward)


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of both, element by element; NaN if either is; ties share the gradient."""
    return _extreme_of_two("maximum", input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of both, element by element; NaN if either is; ties share the gradient."""
    return _extreme_of_two("minimum", input, other)


def logical_and(input: Tensor, other: Tensor) -> Tensor:
    """Whether both differ from zero."""
    return Tensor(B.binary("logical_and", _to_dtype(input.data, "bool"), _to_dtype(other.data, "bool")))


def logical_or(input: Tensor, other: Tensor) -> Tensor:
    """Whether one of both differs from zero."""
    return Tensor(B.binary("logical_or", _to_dtype(input.data, "bool"), _to_dtype(other.data, "bool")))


def logical_not(input: Tensor) -> Tensor:
    """Whether the element is zero."""
    return Tensor(B.binary("eq", input.data, 0))


def isnan(input: Tensor) -> Tensor:
    """Whether each element is not a number."""
    return Tensor(B.binary("ne", input.data, input.data))


def isfinite(input: Tensor) -> Tensor:
    """Whether each element is neither infinite nor NaN."""
    return Tensor(B.unary("isfinite", _to_dtype(input.data, "float32")))


def isinf(input: Tensor) -> Tensor:
    """Whether each element is infinite."""
    return Tensor(B.binary("eq", B.unary("abs", _to_dtype(input.data, "float32")), math.inf))


def where(condition: Tensor, input: Any, other: Any) -> Tensor:
    """`input` where the condition is true, else `other`; all three are broadcast.

    Args:
        condition: bools.
        input: a tensor or a number.
        other: a tensor or a number.

    Example:
        >>> import engine
        >>> x = engine.tensor([-1.0, 2.0])
        >>> engine.where(x > 0, x, 0.0)
        tensor([0., 2.])
    """
    if condition.data.dtype != "bool":
        raise TypeError(f"[where] expected a condition of bools, got {condition.dtype!r}: compare it, e.g. x != 0")
    a, b, wants_a, wants_b = _operands(input, other)
    if a is None or b is None:
        _wrong_operand("where", input, other)
    z = B.where(condition.data, a, b)
    if not (wants_a or wants_b):
        return _plain(z, a, b) if isinstance(a, Array) or isinstance(b, Array) else Tensor(z)
    chosen = condition.data
    shape_a, shape_b = a.shape if wants_a else (), b.shape if wants_b else ()

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        return (
            B.sum_to(B.where(chosen, dy, 0.0), shape_a) if wants_a else None,
            B.sum_to(B.where(chosen, 0.0, dy), shape_b) if wants_b else None,
        )

    return record(z, _inputs(input, other), backward)


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product; leading dimensions are a batch and are broadcast, a vector is a row or a column.

    Shape:
        input (..., M, K) or (K), other (..., K, N) or (K); output (..., M, N), without M or N for a vector.

    Example:
        >>> import engine
        >>> engine.matmul(engine.eye(2), engine.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[1., 2.],
                [3., 4.]])
    """
    rank_a, rank_b = input.data.ndim, other.data.ndim
    if rank_a == 0 or rank_b == 0:
        raise RuntimeError("[matmul] expected at least 1 dimension on both sides: use * for numbers")
    if rank_a == 1 or rank_b == 1:
        inner_a, inner_b = input.data.shape[-1], other.data.shape[-1 if rank_b == 1 else -2]
        if inner_a != inner_b:
            raise ValueError(f"[matmul] shapes {input.data.shape} and {other.data.shape} do not match")
        left = input.reshape(1, -1) if rank_a == 1 else input
        right = other.reshape(-1, 1) if rank_b == 1 else other
        z = matmul(left, right)
        shape = z.data.shape
        if rank_b == 1:
            shape = shape[:-1]
        if rank_a == 1:
            shape = shape[:-2] if rank_b == 1 and len(shape) > 1 else shape[:-2] + shape[-1:] if rank_b != 1 else ()
        return z.reshape(shape)
    a, b = input.data, other.data
    y = B.matmul(a, b, False, False)
    shape_a, shape_b = a.shape, b.shape
    right_ = b if input.requires_grad else None
    left_ = a if other.requires_grad else None

    def backward(dy: Array) -> tuple[Array | None, Array | None]:
        return (
            None if right_ is None else B.sum_to(B.matmul(dy, right_, False, True), shape_a),
            None if left_ is None else B.sum_to(B.matmul(left_, dy, True, False), shape_b),
        )

    return record(y, (input, other), backward)


# --- joining and indexing ------------------------------------------------------------------------------------------


def cat(tensors: Sequence[Tensor], dim: builtins.int = 0) -> Tensor:
    """Joins tensors along an existing dimension.

    Args:
        tensors: at least one tensor; all sizes but that along `dim` agree.
        dim: the dimension along which they are joined.

    Example:
        >>> import engine
        >>> engine.cat([engine.ones(2), engine.zeros(1)])
        tensor([1., 1., 0.])
    """
    if not tensors:
        raise ValueError("[cat] expected at least one tensor")
    if tensors[0].data.ndim == 0:
        raise ValueError("[cat] tensors without dimensions cannot be joined: use stack")
    arrays = [t.data for t in tensors]
    kind = arrays[0].dtype
    for a in arrays:
        if a.dtype != kind:
            kind = kind if _RANK[kind] > _RANK[a.dtype] else a.dtype
    axis = axis_of(dim, arrays[0].ndim, "cat")
    return joined(B.concat([_to_dtype(a, kind) for a in arrays], axis), tensors, axis)


def joined(y: Array, tensors: Sequence[Tensor], axis: builtins.int) -> Tensor:
    """y, which holds the values of `tensors` one after another along `axis`; gradients are slices of its gradient."""
    if not mode.enabled or not builtins.any(t.requires_grad for t in tensors):
        return Tensor(y)
    wants = [t.requires_grad for t in tensors]
    ends = [0]
    for t in tensors:
        ends.append(ends[-1] + t.data.shape[axis])
    shape, steps = y.shape, (1,) * y.ndim

    def backward(dy: Array) -> tuple[Array | None, ...]:
        grads: list[Array | None] = []
        starts, stops = [0] * len(shape), list(shape)
        for i, wanted in enumerate(wants):
            starts[axis], stops[axis] = ends[i], ends[i + 1]
            grads.append(B.slice(dy, starts, stops, steps) if wanted else None)
        return tuple(grads)

    return record(y, tuple(tensors), backward, True)


concat = cat


def stack(tensors: Sequence[Tensor], dim: builtins.int = 0) -> Tensor:
    """Joins tensors of one shape along a new dimension.

    Example:
        >>> import engine
        >>> engine.stack([engine.zeros(2), engine.ones(2)]).shape
        (2, 2)
    """
    if not tensors:
        raise ValueError("[stack] expected at least one tensor")
    shape = tensors[0].data.shape
    for t in tensors:
        if t.data.shape != shape:
            raise ValueError(f"[stack] expected tensors of one shape, got {shape} and {t.data.shape}")
    return cat([t.unsqueeze(dim) for t in tensors], axis_of(dim, len(shape) + 1, "stack"))


def _slice(x: Tensor, starts: Any, stops: Any, steps: Any) -> Tensor:
    y = B.slice(x.data, starts, stops, steps)
    if not (x.requires_grad and mode.enabled):
        return Tensor(y)
    shape = x.data.shape

    def backward(dy: Array) -> tuple[Array]:
        dx = B.full(shape, 0.0, "float32")
        B.copy_(B.slice(dx, starts, stops, steps), dy)
        return (dx,)

    return record(y, (x,), backward)


def _parts(x: Tensor, axis: builtins.int, sizes: Sequence[builtins.int]) -> tuple[Tensor, ...]:
    """Consecutive slices, whose gradients meet in one buffer rather than in a sum of padded ones."""
    shape = x.data.shape
    steps = (1,) * len(shape)
    buffer: list[Array] = []

    def collect(dy: Array) -> tuple[Array]:
        buffer.clear()
        return (dy,)

    whole = record(x.data, (x,), collect, True)
    begin = 0
    result = []
    for size in sizes:
        starts = (0,) * axis + (begin,) + (0,) * (len(shape) - axis - 1)
        stops = (*shape[:axis], begin + size, *shape[axis + 1 :])

        def backward(dy: Array, starts: Any = starts, stops: Any = stops) -> tuple[Array | None]:
            first = not buffer
            if first:
                buffer.append(B.full(shape, 0.0, "float32"))
            B.copy_(B.slice(buffer[0], starts, stops, steps), dy)
            return (buffer[0] if first else None,)

        result.append(record(B.slice(x.data, starts, stops, steps), (whole,), backward))
        begin += size
    return tuple(result)


def _index_array(index: Tensor) -> Array:
    a = index.data
    if a.dtype == "int64":
        return a
    if a.dtype in ("float32", "bool"):
        raise TypeError(f"[index] expected int64, got {index.dtype!r}: use .long()")
    return B.cast(a, "int64")


def _parse_index(index: Any, shape: tuple[builtins.int, ...]) -> tuple[Any, Any, Any, Any, list[Any]]:
    """Splits an index into a slice of every dimension, the shape after it, and tensors for some of its dimensions.

    Returns:
        starts, stops and steps (None if nothing is cut), the shape that leaves out the dimensions taken by integers
        and has the new ones, and for advanced indexing one int64 tensor or None per dimension of that shape.
    """
    items: list[Any] = []
    for item in index if isinstance(index, tuple) else (index,):
        if isinstance(item, (list, np.ndarray)):
            item = tensor(item) if len(item) else zeros(0, dtype=int64)
        if isinstance(item, Tensor) and item.data.dtype == "bool" and item.data.ndim:
            items.extend(_nonzero(item))
        elif isinstance(item, Tensor) and item.data.ndim == 0 and item.data.dtype not in ("float32", "bool"):
            items.append(item.item())
        else:
            items.append(item)
    consumed = builtins.sum([item is not None and item is not Ellipsis for item in items])
    fill = len(shape) - consumed
    if fill < 0:
        raise IndexError(f"[index] expected at most {len(shape)} indices for shape {shape}, got {consumed}")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"[index] expected one ellipsis, got {len(dots)}")
    at = dots[0] if dots else len(items)
    items[at : at + len(dots)] = [slice(None)] * fill

    starts, stops, steps, out = [], [], [], []
    advanced: list[Any] = []
    axis = 0
    cut = False
    for item in items:
        if item is None:
            out.append(1)
            advanced.append(None)
            continue
        n = shape[axis]
        if isinstance(item, slice):
            begin, end, step = item.indices(n)
            count = len(range(begin, end, step))
            starts.append(begin)
            stops.append(end)
            steps.append(step)
            out.append(count)
            advanced.append(None)
            cut = cut or (begin, end, step) != (0, n, 1)
        elif isinstance(item, Tensor):
            starts.append(0)
            stops.append(n)
            steps.append(1)
            out.append(n)
            advanced.append(Tensor(_index_array(item)))
        else:
            if isinstance(item, builtins.bool) or not hasattr(item, "__index__"):
                raise TypeError(
                    "[index] expected integers, slices, None, Ellipsis, int64 or bool tensors as index, "
                    f"got {type(item).__name__}"
                )
            i = item.__index__()
            if not -n <= i < n:
                raise IndexError(f"[index] {i} is out of bounds for dimension {axis} of size {n}")
            starts.append(i % n)
            stops.append(i % n + 1)
            steps.append(1)
            cut = True
        axis += 1
    if not builtins.any(a is not None for a in advanced):
        advanced = []
    return (starts if cut else None), stops, steps, tuple(out), advanced


def _nonzero(mask: Tensor) -> list[Tensor]:
    """One int64 index per dimension of the mask. How many there are depends on the data, so NumPy counts."""
    if not mask.data.ndim:
        raise IndexError("[index] expected a mask with dimensions, got a single bool")
    return [tensor(i) for i in np.nonzero(B.to_numpy(mask.data))]


def _take(x: Tensor, indices: list[Tensor | None]) -> Tensor:
    """Advanced indexing: the indexed dimensions become one, along which rows are selected."""
    shape = x.data.shape
    axes = [i for i, index in enumerate(indices) if index is not None]
    adjacent = axes == list(range(axes[0], axes[-1] + 1))
    if not adjacent:  # then, as in NumPy, the result has them in front
        order = axes + [i for i in range(len(shape)) if i not in axes]
        x, indices = x.permute(order), [indices[i] for i in order]
        shape = x.data.shape
        axes = list(range(len(axes)))
    first, last = axes[0], axes[-1]
    flat: Tensor | None = None
    for axis in axes:
        index, n = indices[axis], shape[axis]
        assert index is not None
        if index.data.size and (index.data.ndim == 0 or n > 0):
            low, high = index.min().item(), index.max().item()
            if low < -n or high >= n:
                raise IndexError(f"[index] {low if low < -n else high} is out of bounds for a dimension of size {n}")
            if low < 0:
                index = where(index < 0, index + n, index)
        flat = index if flat is None else flat * n + index
    assert flat is not None
    merged = x if first == last else x.flatten(first, last)
    rows = merged.index_select(first, flat.reshape(-1))
    return rows.reshape((*shape[:first], *flat.data.shape, *shape[last + 1 :]))


def _arange_like(shape: tuple[builtins.int, ...]) -> Tensor:
    return arange(math.prod(shape)).reshape(shape)


# --- creation ------------------------------------------------------------------------------------------------------


def _new(data: Array, requires_grad: builtins.bool) -> Tensor:
    if requires_grad:
        _check_differentiable(data)
    return Tensor(data, requires_grad)


def tensor(data: Any, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A new tensor with a copy of the data.

    Args:
        data: a number, nested sequences, a NumPy array or a tensor. Floats of any width become float32, integers int64
            (int32 and uint8 arrays keep their type).
        dtype: the element type; by default that of the data.
        requires_grad: whether to compute its gradient.

    Raises:
        TypeError: for data that is not numeric.

    Example:
        >>> import engine
        >>> engine.tensor([[1, 2], [3, 4]])
        tensor([[1, 2],
                [3, 4]])
    """
    if isinstance(data, Tensor):
        array = data.data
        if dtype is not None and array.dtype != _dtype(dtype):
            return _new(B.cast(array, _dtype(dtype)), requires_grad)
        return _new(B.copy(array), requires_grad)
    if isinstance(data, (list, tuple)) and data and isinstance(data[0], Tensor):
        data = [t.tolist() if isinstance(t, Tensor) else t for t in data]
    given = np.asarray(data)
    if dtype is not None:
        name: str = _dtype(dtype)
    elif given.dtype.kind == "f":
        name = "float32"
    elif given.dtype.kind in "iu" and given.dtype.name not in _DTYPES:
        name = "int64"
    else:
        name = given.dtype.name
    if given.dtype.kind not in "fiub":
        raise TypeError(f"[tensor] expected numbers, got elements of type {given.dtype}")
    if not isinstance(data, (np.ndarray, np.generic)) and given.size == 0 and dtype is None:
        name = "float32"
    return _new(B.copy(B.from_numpy(given.astype(name, order="C"))), requires_grad)


def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """The data as a tensor, without a copy where the type allows it."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, np.ndarray) and data.dtype.name in _DTYPES and data.dtype.isnative and dtype is None:
        return from_numpy(data)
    return tensor(data, dtype)


def from_numpy(ndarray: np.ndarray[Any, Any]) -> Tensor:
    """A tensor on the memory of a NumPy array: writing to one changes the other (a read-only array is copied).

    Args:
        ndarray: float32, int64, int32, uint8 or bool, of any strides.

    Raises:
        TypeError: for other element types; float64 has to be converted, as all computation is float32.

    Example:
        >>> import engine, numpy as np
        >>> engine.from_numpy(np.ones(2, np.float32))
        tensor([1., 1.])
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"[from_numpy] expected a NumPy array, got {type(ndarray).__name__}: use engine.tensor")
    return Tensor(B.from_numpy(ndarray))


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor on the memory of another library's CPU tensor, through DLPack.

    Example:
        >>> import engine, numpy as np
        >>> engine.from_dlpack(np.arange(3))
        tensor([0, 1, 2])
    """
    return Tensor(B.from_dlpack(ext_tensor))


def empty(*size: Any, dtype: Any = float32, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor whose values are not set."""
    return _new(B.empty(_sizes(size), _dtype(dtype)), requires_grad)


def full(size: Any, fill_value: Scalar, *, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor filled with one value.

    Example:
        >>> import engine
        >>> engine.full((2,), 7)
        tensor([7, 7])
    """
    name = _dtype(type(fill_value) if dtype is None else dtype)
    return _new(B.full(_sizes((size,)), fill_value, name), requires_grad)


def zeros(*size: Any, dtype: Any = float32, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of zeros."""
    return _new(B.full(_sizes(size), 0, _dtype(dtype or float32)), requires_grad)


def ones(*size: Any, dtype: Any = float32, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of ones."""
    return _new(B.full(_sizes(size), 1, _dtype(dtype or float32)), requires_grad)


def empty_like(input: Tensor, dtype: Any = None) -> Tensor:
    """A tensor of the same shape and type whose values are not set."""
    return empty(input.data.shape, dtype=dtype or input.data.dtype)


def full_like(input: Tensor, fill_value: Scalar, dtype: Any = None) -> Tensor:
    """A tensor of the same shape and type filled with one value."""
    return full(input.data.shape, fill_value, dtype=dtype or input.data.dtype)


def zeros_like(input: Tensor, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of zeros of the same shape and type."""
    return zeros(input.data.shape, dtype=dtype or input.data.dtype, requires_grad=requires_grad)


def ones_like(input: Tensor, dtype: Any = None, requires_grad: builtins.bool = False) -> Tensor:
    """A tensor of ones of the same shape and type."""
    return ones(input.data.shape, dtype=dtype or input.data.dtype, requires_grad=requires_grad)


def arange(start: Scalar, end: Scalar | None = None, step: Scalar = 1, *, dtype: Any = None) -> Tensor:
    """The numbers from `start` (0 if only one is given) up to, without, `end`.

    Example:
        >>> import engine
        >>> engine.arange(1, 6, 2)
        tensor([1, 3, 5])
    """
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) / step < 0:
        raise ValueError(f"[arange] a step of {step} does not lead from {start} to {end}")
    if dtype is None:
        dtype = float32 if builtins.any(isinstance(v, builtins.float) for v in (start, end, step)) else int64
    return Tensor(B.arange(start, end, step, _dtype(dtype)))


def linspace(start: builtins.float, end: builtins.float, steps: builtins.int) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included."""
    if steps < 0:
        raise ValueError(f"[linspace] expected steps >= 0, got {steps}")
    return tensor(np.linspace(start, end, steps, dtype=np.float32))


def eye(n: builtins.int, m: builtins.int | None = None, dtype: Any = float32) -> Tensor:
    """The identity matrix, n x n or n x m."""
    rows, columns = arange(n).reshape(n, 1), arange(n if m is None else m)
    return (rows == columns).to(dtype)


def rand(*size: Any, requires_grad: builtins.bool = False) -> Tensor:
    """Random numbers, uniform in [0, 1)."""
    return Tensor(B.uniform(_sizes(size), 0.0, 1.0, *random.next_key()), requires_grad)


def randn(*size: Any, requires_grad: builtins.bool = False) -> Tensor:
    """Random numbers of the standard normal distribution."""
    return Tensor(B.normal(_sizes(size), 0.0, 1.0, *random.next_key()), requires_grad)


def rand_like(input: Tensor) -> Tensor:
    """Random numbers, uniform in [0, 1), in the shape of another tensor."""
    return rand(input.data.shape)


def randn_like(input: Tensor) -> Tensor:
    """Random numbers of the standard normal distribution in the shape of another tensor."""
    return randn(input.data.shape)


def normal(mean: builtins.float, std: builtins.float, size: Any) -> Tensor:
    """Random numbers of the normal distribution."""
    return Tensor(B.normal(_sizes((size,)), mean, std, *random.next_key()))


def randint(low: builtins.int, high: Any = None, size: Any = None, *, dtype: Any = int64) -> Tensor:
    """Random integers of [low, high); `randint(high, size)` starts at zero.

    Example:
        >>> import engine
        >>> engine.randint(0, 10, (3,)).shape
        (3,)
    """
    if size is None:
        low, high, size = 0, low, high
    width = high - low
    if not 0 < width <= 2**24:
        raise ValueError(f"[randint] expected 0 < high - low <= 2^24, got [{low}, {high})")
    draws = B.unary("floor", B.uniform(_sizes((size,)), 0.0, builtins.float(width), *random.next_key()))
    whole = B.binary("minimum", draws, builtins.float(width - 1))  # rounding can reach the upper end
    return Tensor(_to_dtype(B.binary("add", B.cast(whole, "int64"), low), _dtype(dtype)))


def randperm(n: builtins.int) -> Tensor:
    """A random order of the integers from 0 to n - 1."""
    seed, offset = random.next_key()
    return tensor(np.random.Generator(np.random.Philox(key=[seed, offset])).permutation(n))


# --- functions for the methods of the same name --------------------------------------------------------------------


def is_tensor(obj: object) -> builtins.bool:
    """Whether the object is a tensor."""
    return isinstance(obj, Tensor)


def equal(input: Tensor, other: Tensor) -> builtins.bool:
    """Whether both have the same shape and the same values."""
    return input.data.shape == other.data.shape and builtins.bool((input == other).all())


def allclose(
    input: Tensor,
    other: Tensor,
    rtol: builtins.float = 1e-05,
    atol: builtins.float = 1e-08,
    equal_nan: builtins.bool = False,
) -> builtins.bool:
    """Whether |input - other| <= atol + rtol * |other| everywhere."""
    a, b = (np.asarray(t.detach()) for t in (input, other))
    return builtins.bool(np.allclose(a, b, rtol, atol, equal_nan))


def numel(input: Tensor) -> builtins.int:
    """The number of elements."""
    return input.data.size


abs = Tensor.abs
amax = Tensor.amax
amin = Tensor.amin
argmax = Tensor.argmax
argmin = Tensor.argmin
ceil = Tensor.ceil
chunk = Tensor.chunk
clamp = Tensor.clamp
clip = Tensor.clamp
cos = Tensor.cos
erf = Tensor.erf
exp = Tensor.exp
expm1 = Tensor.expm1
flatten = Tensor.flatten
floor = Tensor.floor
gather = Tensor.gather
index_select = Tensor.index_select
log = Tensor.log
log1p = Tensor.log1p
max = Tensor.max
mean = Tensor.mean
min = Tensor.min
movedim = Tensor.movedim
neg = Tensor.neg
norm = Tensor.norm
permute = Tensor.permute
prod = Tensor.prod
reciprocal = Tensor.reciprocal
relu = Tensor.relu
reshape = Tensor.reshape
round = Tensor.round
rsqrt = Tensor.rsqrt
sigmoid = Tensor.sigmoid
sign = Tensor.sign
sin = Tensor.sin
split = Tensor.split
sqrt = Tensor.sqrt
square = Tensor.square
squeeze = Tensor.squeeze
std = Tensor.std
sum = Tensor.sum
tanh = Tensor.tanh
transpose = Tensor.transpose
unbind = Tensor.unbind
unsqueeze = Tensor.unsqueeze
var = Tensor.var
bool = _bool
