"""A stack machine for the pickles inside torch files, which can build data and nothing else.

It knows the instructions and the names that a state dict needs. A name is looked up in a table here, never in a
module; a call makes one of a few value objects of this file. Every instruction checks the types of its operands, and
every tensor is checked against its storage when it is described, before any memory is taken for it.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from typing import Any, NamedTuple

from engine.io.errors import FileFormatError, UnsafeFileError, short

__all__ = [
    "ITEM_SIZES",
    "MAX_PICKLE",
    "MAX_RANK",
    "Budget",
    "Global",
    "ParameterBox",
    "PickleMachine",
    "StorageRef",
    "TensorRef",
    "check_view",
]

MAX_PICKLE = 64 << 20  # bytes of one pickle; a network of 1000 tensors takes about 0.2 MB
MAX_RANK = 32  # NumPy 1.x
_MAX_STEPS = 4_000_000  # instructions of all pickles of a file; a tensor takes about 40
_MAX_CONTAINERS = 500_000  # dicts, lists and sets
_MAX_KEY = 4096  # characters of a dict's key
_MAX_ELEMENTS = 1 << 60

# Types of elements -> bytes per element. Names are NumPy's, and bfloat16; "" is a storage of plain bytes.
ITEM_SIZES = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "complex64": 8,
    "complex128": 16,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "": 1,
}


class Global(NamedTuple):
    """An allowed name, and what it stands for: `kind` selects the behaviour, `dtype` the elements' type."""

    name: str
    kind: str
    dtype: str = ""


@dataclass(frozen=True)
class StorageRef:
    """`numel` elements of the block of memory `key`, from element `start`; the block has `root_numel` elements."""

    key: object
    dtype: str
    numel: int
    start: int
    root_numel: int


@dataclass(frozen=True)
class TensorRef:
    """A checked view of a storage; offset and strides in elements of `dtype`."""

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class ParameterBox:
    """A Parameter, whose tensor may come with its construction or with its state."""

    tensor: TensorRef | None


class Budget:
    """What one file may ask for, over all its pickles.

    Args:
        tensor_bytes: limit of the sum of all tensors' sizes. Tensors may share memory, so that a small file could
            describe tensors that take any amount of memory once they are copied.

    Example:
        >>> budget = Budget(100)
        >>> budget.take_tensor(60)
        >>> budget.take_tensor(60)
        Traceback (most recent call last):
            ...
        engine.io.errors.FileFormatError: its tensors together are larger than 100 bytes, far more than the file holds
    """

    def __init__(self, tensor_bytes: int) -> None:
        self.steps = 0
        self.containers = 0
        self._limit = tensor_bytes
        self._tensor_bytes = 0

    def take_tensor(self, nbytes: int) -> None:
        """Count a tensor.

        Args:
            nbytes: its size as a dense array.

        Raises:
            FileFormatError: the limit is exceeded.
        """
        self._tensor_bytes += nbytes
        if self._tensor_bytes > self._limit:
            raise FileFormatError(
                f"its tensors together are larger than {self._limit} bytes, far more than the file holds"
            )


def _allowed() -> dict[tuple[str, str], Global]:
    table: dict[tuple[str, str], Global] = {}

    def add(module: str, name: str, kind: str, dtype: str = "") -> None:
        table[module, name] = Global(f"{module}.{name}", kind, dtype)

    add("collections", "OrderedDict", "ordered_dict")
    add("torch._utils", "_rebuild_tensor", "tensor")
    add("torch._utils", "_rebuild_tensor_v2", "tensor_v2")
    add("torch._utils", "_rebuild_tensor_v3", "tensor_v3")
    add("torch._utils", "_rebuild_parameter", "rebuild_parameter")
    add("torch.nn.parameter", "Parameter", "parameter")
    add("torch", "Size", "size")
    add("torch.storage", "UntypedStorage", "storage", "")
    for prefix, dtype in (
        ("Float", "float32"),
        ("Double", "float64"),
        ("Half", "float16"),
        ("BFloat16", "bfloat16"),
        ("Long", "int64"),
        ("Int", "int32"),
        ("Short", "int16"),
        ("Char", "int8"),
        ("Byte", "uint8"),
        ("Bool", "bool"),
        ("ComplexFloat", "complex64"),
        ("ComplexDouble", "complex128"),
    ):
        for module in ("torch", "torch.cuda"):
            add(module, f"{prefix}Storage", "storage", dtype)
            add(module, f"{prefix}Tensor", "tensor_type", dtype)
    for dtype in ITEM_SIZES:
        if dtype:
            add("torch", dtype, "dtype", dtype)
    for alias, dtype in (("float", "float32"), ("double", "float64"), ("half", "float16"), ("long", "int64")):
        add("torch", alias, "dtype", dtype)
    return table


_GLOBALS = _allowed()

# Only for messages: instructions that call, import or extend, and have no place in a file of weights.
_REFUSED = {
    ord("i"): "INST",
    ord("o"): "OBJ",
    ord("P"): "PERSID",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    0x92: "NEWOBJ_EX",
    0x96: "BYTEARRAY8",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}


def check_view(numel: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Check that a view stays inside a storage, and return how many elements it has.

    Args:
        numel: elements of the storage.
        offset: position of the view's first element.
        shape: sizes of the view.
        strides: elements between neighbours along each axis.

    Raises:
        FileFormatError: it does not, or a number is negative or too large.

    Example:
        >>> check_view(6, 0, (3, 2), (1, 3))
        6
        >>> check_view(6, 1, (3, 2), (1, 3))
        Traceback (most recent call last):
            ...
        engine.io.errors.FileFormatError: a tensor of shape (3, 2), strides (1, 3) and offset 1 leaves its storage of 6
    """
    if len(shape) > MAX_RANK or len(shape) != len(strides):
        raise FileFormatError(f"a tensor has {len(shape)} sizes and {len(strides)} strides, the limit is {MAX_RANK}")
    for number in (offset, *shape, *strides):
        if type(number) is not int or not 0 <= number <= _MAX_ELEMENTS:
            raise FileFormatError(f"a tensor has the size, stride or offset {short(number)}")
    count, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        count *= max(size, 1)  # an empty tensor's other sizes must be possible, too
        last += (size - 1) * stride
        if count > _MAX_ELEMENTS:
            raise FileFormatError(f"a tensor has the impossible shape {shape}")
    if 0 in shape:
        return 0
    if last >= numel:
        raise FileFormatError(
            f"a tensor of shape {shape}, strides {strides} and offset {offset} leaves its storage of {numel}"
        )
    return count


class PickleMachine:
    """Runs one pickle and returns what it describes, with tensors as `TensorRef`.

    After `run`, `position` is where the pickle ended.

    Args:
        data: bytes that hold the pickle.
        start: where it begins.
        end: where it must have ended.
        persistent: turns the file's references, such as those to storages, into values.
        budget: limits shared by all pickles of a file.

    Example:
        >>> def none(reference: object) -> object:
        ...     raise FileFormatError("no references here")
        >>> PickleMachine(b"\\x80\\x02}X\\x01\\x00\\x00\\x00aK\\x07s.", 0, 13, none, Budget(0)).run()
        {'a': 7}
    """

    def __init__(
        self, data: bytes | mmap, start: int, end: int, persistent: Callable[[object], object], budget: Budget
    ) -> None:
        self._data = data
        self._end = min(end, start + MAX_PICKLE)
        self._persistent = persistent
        self._budget = budget
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under the marks
        self._memo: dict[int, Any] = {}
        self.position = start

    def run(self) -> Any:
        """Run to the end of the pickle.

        Raises:
            UnsafeFileError: it uses an instruction or a name that is not allowed.
            FileFormatError: it is damaged.
        """
        steps = _STEPS
        budget = self._budget
        while True:
            code = self._byte()
            if code == _STOP:
                break
            budget.steps += 1
            if budget.steps > _MAX_STEPS:
                raise FileFormatError(f"its pickle has more than {_MAX_STEPS} instructions")
            step = steps.get(code)
            if step is None:
                raise self._refused(code)
            step(self)
        if self._below or len(self._stack) != 1:
            raise self._fault("ends in the middle of a value")
        return self._stack[0]

    # reading and checking

    def _fault(self, text: str) -> FileFormatError:
        return FileFormatError(f"its pickle {text} (before byte {self.position})")

    def _refused(self, code: int) -> UnsafeFileError:
        name = _REFUSED.get(code, f"0x{code:02x}")
        return UnsafeFileError(
            f"its pickle has the instruction {name} at byte {self.position - 1}, which weights never need; "
            "nothing was executed"
        )

    def _byte(self) -> int:
        position = self.position
        if position >= self._end:
            raise self._fault("is cut off or too long")
        self.position = position + 1
        return self._data[position]

    def _bytes(self, count: int) -> bytes:
        stop = self.position + count
        if stop > self._end:
            raise self._fault("is cut off or too long")
        piece = self._data[self.position : stop]
        self.position = stop
        return piece

    def _line(self) -> str:
        stop = self._data.find(b"\n", self.position, min(self._end, self.position + 300))
        if stop < 0:
            raise self._fault("has a name without an end")
        return self._text(self._bytes(stop + 1 - self.position)[:-1])

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._fault("has text that is not UTF-8") from None

    def _pop(self) -> Any:
        if not self._stack:
            raise self._fault("takes a value that is not there")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise self._fault("takes a value that is not there")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        if not self._below:
            raise self._fault("goes back to a mark that is not there")
        items = self._stack
        self._stack = self._below.pop()
        return items

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _push_container(self, value: object) -> None:
        self._budget.containers += 1
        if self._budget.containers > _MAX_CONTAINERS:
            raise FileFormatError(f"its pickle has more than {_MAX_CONTAINERS} dicts and lists")
        self._stack.append(value)

    # plain values

    def _proto(self) -> None:
        version = self._byte()
        if not 2 <= version <= 5:
            raise self._fault(f"has version {version}, expected 2 to 5")

    def _frame(self) -> None:
        self._bytes(8)  # the frame's length only helps to read ahead

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _none(self) -> None:
        self._push(None)

    def _true(self) -> None:
        self._push(True)

    def _false(self) -> None:
        self._push(False)

    def _int4(self) -> None:
        self._push(int.from_bytes(self._bytes(4), "little", signed=True))

    def _int1(self) -> None:
        self._push(self._byte())

    def _int2(self) -> None:
        self._push(int.from_bytes(self._bytes(2), "little"))

    def _int_line(self) -> None:
        """Python 2 wrote numbers beyond 31 bits, such as the addresses in tar files, as decimal text."""
        line = self._line()
        digits = line.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise self._fault("has a damaged whole number")
        self._push({"00": False, "01": True}.get(line, int(line)))

    def _long1(self) -> None:
        count = self._byte()
        if count > 16:
            raise self._fault(f"has a whole number of {count} bytes")
        self._push(int.from_bytes(self._bytes(count), "little", signed=True))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._bytes(8))[0])

    def _text1(self) -> None:
        self._push(self._text(self._bytes(self._byte())))

    def _text4(self) -> None:
        self._push(self._text(self._bytes(int.from_bytes(self._bytes(4), "little"))))

    # containers

    def _empty_dict(self) -> None:
        self._push_container({})

    def _empty_list(self) -> None:
        self._push_container([])

    def _empty_set(self) -> None:
        self._push_container(set())

    def _empty_tuple(self) -> None:
        self._push(())

    def _tuple1(self) -> None:
        self._push((self._pop(),))

    def _tuple2(self) -> None:
        last = self._pop()
        self._push((self._pop(), last))

    def _tuple3(self) -> None:
        last, middle = self._pop(), self._pop()
        self._push((self._pop(), middle, last))

    def _tuple(self) -> None:
        items = tuple(self._pop_to_mark())
        self._push(items)

    def _append(self) -> None:
        self._extend_list([self._pop()])

    def _appends(self) -> None:
        self._extend_list(self._pop_to_mark())

    def _extend_list(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not list:
            raise self._fault(f"appends to a {type(target).__name__}")
        target.extend(items)

    def _add_items(self) -> None:
        items = self._pop_to_mark()
        target = self._top()
        if type(target) is not set or not all(self._is_key(item) for item in items):
            raise self._fault("adds to something else than a set, or something else than strings and numbers")
        target.update(items)

    def _set_item(self) -> None:
        value = self._pop()
        self._set_pairs([self._pop(), value])

    def _set_items(self) -> None:
        self._set_pairs(self._pop_to_mark())

    def _set_pairs(self, items: list[Any]) -> None:
        target = self._top()
        if type(target) is not dict and type(target) is not OrderedDict:
            raise self._fault(f"sets an item of a {type(target).__name__}")
        if len(items) % 2:
            raise self._fault("sets a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not self._is_key(key):
                raise self._fault(f"has a dict key of type {type(key).__name__}, or a very long one")
            if key in target:
                raise self._fault(f"sets the key {short(key)} twice")
            target[key] = value

    @staticmethod
    def _is_key(key: object) -> bool:
        """Only keys whose hash costs nothing and cannot be aimed at."""
        if type(key) is str:
            return len(key) <= _MAX_KEY
        return type(key) is bool or (type(key) is int and -(1 << 63) <= key < 1 << 63)

    # memory

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _put1(self) -> None:
        self._put(self._byte())

    def _put4(self) -> None:
        self._put(int.from_bytes(self._bytes(4), "little"))

    def _memoize(self) -> None:
        self._put(len(self._memo))

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise self._fault(f"recalls value {index}, which it never kept")
        self._push(self._memo[index])

    def _get1(self) -> None:
        self._get(self._byte())

    def _get4(self) -> None:
        self._get(int.from_bytes(self._bytes(4), "little"))

    # names and calls

    def _global(self) -> None:
        module = self._line()
        self._push(self._lookup(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise self._fault("names a function by something else than text")
        self._push(self._lookup(module, name))

    def _lookup(self, module: str, name: str) -> Global:
        found = _GLOBALS.get((module, name))
        if found is not None:
            return found
        full = short(f"{module}.{name}")
        if module.split(".")[0] in ("torch", "torchvision", "timm", "__main__", "models", "numpy"):
            advice = (
                "it seems to hold a whole model or training state: where it was made, save model.state_dict() instead"
            )
        else:
            advice = "do not load it with pickle or with weights_only=False either, unless you trust where it came from"
        raise UnsafeFileError(
            f"its pickle names {full}, which is not among what weights need; nothing was executed; {advice}"
        )

    def _persistent_id(self) -> None:
        self._push(self._persistent(self._pop()))

    def _reduce(self) -> None:
        arguments = self._pop()
        self._call(self._pop(), arguments)

    def _new_object(self) -> None:
        arguments = self._pop()
        target = self._pop()
        if type(target) is not Global or target.kind not in ("ordered_dict", "parameter", "size"):
            raise self._unsafe_call(target)
        self._call(target, arguments)

    def _unsafe_call(self, target: object) -> UnsafeFileError:
        name = target.name if type(target) is Global else f"a {type(target).__name__}"
        return UnsafeFileError(f"its pickle calls {name} (before byte {self.position}); nothing was executed")

    def _call(self, target: object, arguments: object) -> None:
        if type(target) is not Global:
            raise self._unsafe_call(target)
        if type(arguments) is not tuple:
            raise self._fault(f"calls {target.name} without a tuple of arguments")
        kind = target.kind
        if kind in ("tensor_v2", "tensor", "tensor_v3"):
            self._push(self._make_tensor(target, arguments))
        elif kind == "ordered_dict":
            self._make_ordered_dict(arguments)
        elif kind == "rebuild_parameter" or kind == "parameter":
            self._make_parameter(target, arguments)
        elif kind == "size":
            if len(arguments) != 1 or type(arguments[0]) not in (tuple, list):
                raise self._fault("calls torch.Size with wrong arguments")
            if not all(type(size) is int for size in arguments[0]):
                raise self._fault("calls torch.Size with wrong arguments")
            self._push(tuple(arguments[0]))
        else:
            raise self._unsafe_call(target)

    def _make_ordered_dict(self, arguments: tuple[Any, ...]) -> None:
        self._push_container(OrderedDict())
        if not arguments:
            return
        if len(arguments) != 1 or type(arguments[0]) is not list:
            raise self._fault("calls collections.OrderedDict with wrong arguments")
        flat: list[Any] = []
        for pair in arguments[0]:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise self._fault("calls collections.OrderedDict with wrong arguments")
            flat.extend(pair)
        self._set_pairs(flat)

    def _make_tensor(self, target: Global, arguments: tuple[Any, ...]) -> TensorRef:
        counts = {"tensor": (4,), "tensor_v2": (6, 7), "tensor_v3": (7, 8)}[target.kind]
        if len(arguments) not in counts:
            raise self._fault(f"calls {target.name} with {len(arguments)} arguments")
        storage, offset, shape, strides = arguments[:4]
        if type(storage) is not StorageRef or type(shape) is not tuple or type(strides) is not tuple:
            raise self._fault(f"calls {target.name} with arguments of wrong types")
        if len(arguments) > 4 and type(arguments[4]) is not bool:
            raise self._fault(f"calls {target.name} with arguments of wrong types")
        if len(arguments) > 5 and not _is_empty(arguments[5]):
            raise self._fault("has a tensor with hooks")
        dtype, numel = storage.dtype, storage.numel
        if target.kind == "tensor_v3":
            wanted = arguments[6]
            if type(wanted) is not Global or wanted.kind != "dtype":
                raise self._fault(f"calls {target.name} with arguments of wrong types")
            if storage.dtype not in ("", wanted.dtype):
                raise self._fault(f"has a tensor of {wanted.dtype} in a storage of {storage.dtype}")
            dtype = wanted.dtype
            numel = numel * ITEM_SIZES[storage.dtype] // ITEM_SIZES[dtype]
        elif storage.dtype == "":
            raise self._fault("has a tensor without a type")
        if len(arguments) > (7 if target.kind == "tensor_v3" else 6):
            extra = arguments[-1]  # {"conj": True} and {"neg": True} change the values
            if extra is not None and (type(extra) is not dict or any(value is not False for value in extra.values())):
                raise self._fault("has a tensor that is to be conjugated or negated: save it with resolve_conj()")
        count = check_view(numel, offset, shape, strides)
        self._budget.take_tensor(count * ITEM_SIZES[dtype])
        return TensorRef(storage, dtype, offset, shape, strides)

    def _make_parameter(self, target: Global, arguments: tuple[Any, ...]) -> None:
        fewest, most = (3, 3) if target.kind == "rebuild_parameter" else (0, 2)
        if not fewest <= len(arguments) <= most:
            raise self._fault(f"calls {target.name} with {len(arguments)} arguments")
        tensor = arguments[0] if arguments else None
        if type(tensor) is not TensorRef and not (tensor is None and most == 2):
            raise self._fault(f"calls {target.name} with a {type(tensor).__name__} instead of a tensor")
        if len(arguments) > 1 and type(arguments[1]) is not bool:
            raise self._fault(f"calls {target.name} with arguments of wrong types")
        if len(arguments) > 2 and not _is_empty(arguments[2]):
            raise self._fault("has a parameter with hooks")
        self._push(ParameterBox(tensor))

    def _build(self) -> None:
        state = self._pop()
        target = self._top()
        if type(target) is OrderedDict:
            if type(state) is not dict or list(state) != ["_metadata"] or not isinstance(state["_metadata"], dict):
                raise self._fault("sets attributes of an OrderedDict other than _metadata")
            vars(target)["_metadata"] = state["_metadata"]
        elif type(target) is ParameterBox:
            self._set_parameter_state(target, state)
        else:
            raise self._fault(f"sets the state of a {type(target).__name__}")

    def _set_parameter_state(self, target: ParameterBox, state: object) -> None:
        """Torch 0.1: (requires_grad, volatile, hooks), or (data, grad, hooks, requires_grad[, volatile])."""
        if type(state) is not tuple or len(state) not in (3, 4, 5):
            raise self._fault("sets the state of a parameter to something unknown")
        if len(state) > 3:
            if type(state[0]) is not TensorRef or target.tensor is not None:
                raise self._fault("sets the state of a parameter to something unknown")
            target.tensor = state[0]
            state = state[1:]
        for value in state:
            if type(value) not in (bool, TensorRef, ParameterBox) and not _is_empty(value):
                raise self._fault("sets the state of a parameter to something unknown")


def _is_empty(value: object) -> bool:
    """No hooks: None or an empty dict."""
    return value is None or (type(value) in (dict, OrderedDict) and not value)


_STOP = ord(".")
_STEPS: dict[int, Callable[[PickleMachine], None]] = {
    0x80: PickleMachine._proto,
    0x95: PickleMachine._frame,
    ord("("): PickleMachine._mark,
    ord("N"): PickleMachine._none,
    0x88: PickleMachine._true,
    0x89: PickleMachine._false,
    ord("J"): PickleMachine._int4,
    ord("K"): PickleMachine._int1,
    ord("M"): PickleMachine._int2,
    ord("I"): PickleMachine._int_line,
    0x8A: PickleMachine._long1,
    ord("G"): PickleMachine._float,
    ord("U"): PickleMachine._text1,
    ord("T"): PickleMachine._text4,
    ord("X"): PickleMachine._text4,
    0x8C: PickleMachine._text1,
    ord("}"): PickleMachine._empty_dict,
    ord("]"): PickleMachine._empty_list,
    0x8F: PickleMachine._empty_set,
    ord(")"): PickleMachine._empty_tuple,
    0x85: PickleMachine._tuple1,
    0x86: PickleMachine._tuple2,
    0x87: PickleMachine._tuple3,
    ord("t"): PickleMachine._tuple,
    ord("a"): PickleMachine._append,
    ord("e"): PickleMachine._appends,
    0x90: PickleMachine._add_items,
    ord("s"): PickleMachine._set_item,
    ord("u"): PickleMachine._set_items,
    ord("q"): PickleMachine._put1,
    ord("r"): PickleMachine._put4,
    0x94: PickleMachine._memoize,
    ord("h"): PickleMachine._get1,
    ord("j"): PickleMachine._get4,
    ord("c"): PickleMachine._global,
    0x93: PickleMachine._stack_global,
    ord("Q"): PickleMachine._persistent_id,
    ord("R"): PickleMachine._reduce,
    0x81: PickleMachine._new_object,
    ord("b"): PickleMachine._build,
}
