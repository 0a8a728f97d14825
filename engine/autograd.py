"""The tape, on one page.

An op that needs a gradient calls `record`, which hangs a `Node` on the output. A node knows where the gradient goes
(`edges`: the nodes of its inputs, or the input itself where that is a leaf) and how to compute it (a closure over just
the arrays that it needs). Gradients travel as backend arrays. `run` visits the nodes newest first, so every node has
received all of its gradient before it passes it on; a heap holds the nodes that wait, and nothing recurses.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeVar

from engine import backend as B

if TYPE_CHECKING:
    from engine.backend import Array
    from engine.tensor import Tensor  # at run time engine.tensor, which stands above, puts its class here

__all__ = ["enable_grad", "inference_mode", "is_grad_enabled", "no_grad", "record", "set_grad_enabled"]

Function = TypeVar("Function", bound=Callable[..., Any])
Backward = Callable[["Array"], "tuple[Array | None, ...]"]


class GradMode(threading.local):
    """Whether ops record: one flag per thread."""

    enabled = True


mode = GradMode()
_order = itertools.count(0, -1)  # newest is smallest, as the heap wants it


class Node:
    """One recorded op.

    `alias` says that `backward` may return its argument or a view of it; such a gradient is copied by who keeps it and
    never written to. Without it `backward` returns arrays of its own, one for each input.
    """

    __slots__ = ("order", "edges", "backward", "alias", "grad", "owned", "hooks")

    def __init__(self, edges: list[Node | Tensor | None], backward: Backward, alias: bool) -> None:
        self.order = next(_order)
        self.edges = edges
        self.backward: Backward | None = backward
        self.alias = alias
        self.grad: Array | None = None
        self.owned = False  # nobody else holds grad, so the next one may be added in place
        self.hooks: dict[int, Callable[[Array], Array]] | None = None


def record(data: Array, inputs: tuple[Tensor | None, ...], backward: Backward, alias: bool = False) -> Tensor:
    """Returns `data` as a tensor, with a node when gradients are recorded and some input wants one.

    Args:
        data: the output of the op.
        inputs: what the op differentiates with respect to, in the order of what `backward` returns.
        backward: maps the gradient of the output to the gradients of the inputs, None where there is none.
        alias: whether `backward` may return its argument or a view of it.
    """
    edges: list[Node | Tensor | None] = []
    wanted = False
    for x in inputs:
        if x is not None and x.requires_grad:
            edges.append(x.node or x)
            wanted = True
        else:
            edges.append(None)
    if not wanted or not mode.enabled:
        return Tensor(data)
    output = Tensor(data, True)
    output.node = Node(edges, backward, alias)
    return output


def run(root: Node, grad: Array, retain_graph: bool) -> None:
    """Sends `grad` from `root` down to every leaf that it reaches."""
    if root.backward is None:
        raise RuntimeError(
            "[backward] this graph was freed by an earlier backward(): call backward(retain_graph=True) the first "
            "time, or run the forward pass again"
        )
    hooked: dict[int, tuple[Tensor, Array]] = {}  # leaves whose hooks want the whole gradient
    root.grad = grad
    heap = [(root.order, root)]
    recording, mode.enabled = mode.enabled, False
    try:
        while heap:
            node = heappop(heap)[1]
            dy, node.grad, node.owned = node.grad, None, False
            if node.hooks:
                for hook in tuple(node.hooks.values()):
                    dy = hook(dy)  # type: ignore[arg-type]
            backward = node.backward
            if backward is None:
                raise RuntimeError("[backward] a part of this graph was freed by an earlier backward()")
            for edge, dx in zip(node.edges, backward(dy)):  # type: ignore[arg-type]
                if edge is None or dx is None:
                    continue
                if isinstance(edge, Node):
                    if edge.grad is None:
                        edge.grad, edge.owned = dx, not node.alias
                        heappush(heap, (edge.order, edge))
                    elif edge.owned:
                        B.binary_("add", edge.grad, dx)
                    elif not node.alias:
                        B.binary_("add", dx, edge.grad)
                        edge.grad, edge.owned = dx, True
                    else:
                        edge.grad, edge.owned = B.binary("add", edge.grad, dx), True
                elif edge.hooks:
                    seen = hooked.get(id(edge))
                    hooked[id(edge)] = (edge, dx if seen is None else B.binary("add", seen[1], dx))
                else:
                    accumulate(edge, dx, node.alias)
            if not retain_graph:
                node.backward, node.edges = None, []
        for leaf, dx in hooked.values():
            for hook in tuple((leaf.hooks or {}).values()):
                dx = hook(dx)
            accumulate(leaf, dx, True)
    finally:
        mode.enabled = recording
        for _, node in heap:  # only after an exception
            node.grad, node.owned = None, False


def accumulate(leaf: Tensor, dx: Array, alias: bool) -> None:
    if leaf.grad is None:
        leaf.grad = Tensor(B.copy(dx) if alias else dx)
    else:
        B.binary_("add", leaf.grad.data, dx)


def is_grad_enabled() -> bool:
    """Whether ops of this thread are recorded."""
    return mode.enabled


class set_grad_enabled:
    """Switches recording on or off, at once, and back at the end when used as a context manager or decorator.

    Args:
        mode: whether ops are recorded.

    Example:
        >>> import engine
        >>> x = engine.ones(2, requires_grad=True)
        >>> with engine.set_grad_enabled(False):
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    def __init__(self, mode: bool) -> None:
        self.wanted = bool(mode)
        self.previous = _switch(self.wanted)

    def __enter__(self) -> None:
        _switch(self.wanted)

    def __exit__(self, *exception: object) -> None:
        _switch(self.previous)

    def __call__(self, function: Function) -> Function:
        _switch(self.previous)  # a decorator acts at the call, not where it is written
        return _wrap(function, self.wanted)


class no_grad:
    """Ops inside are not recorded: for evaluation and for updates of parameters. Also a decorator.

    Example:
        >>> import engine
        >>> x = engine.ones(2, requires_grad=True)
        >>> with engine.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    wanted = False

    def __init__(self) -> None:
        self.previous: list[bool] = []

    def __enter__(self) -> None:
        self.previous.append(_switch(self.wanted))

    def __exit__(self, *exception: object) -> None:
        _switch(self.previous.pop())

    def __call__(self, function: Function) -> Function:
        return _wrap(function, self.wanted)


class enable_grad(no_grad):
    """Ops inside are recorded, also within `no_grad`. Also a decorator."""

    wanted = True


inference_mode = no_grad


def _switch(enabled: bool) -> bool:
    previous, mode.enabled = mode.enabled, enabled
    return previous


def _wrap(function: Function, enabled: bool) -> Function:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        previous = _switch(enabled)
        try:
            return function(*args, **kwargs)
        finally:
            _switch(previous)

    return wrapped  # type: ignore[return-value]


class RemovableHandle:
    """What `register_hook` returns; `remove()` takes the hook away."""

    __slots__ = ("hooks", "key")

    _keys = itertools.count()

    def __init__(self, hooks: dict[int, Any], hook: Callable[..., Any]) -> None:
        self.hooks = hooks
        self.key = next(self._keys)
        hooks[self.key] = hook

    def remove(self) -> None:
        """Takes the hook away; a second call does nothing."""
        self.hooks.pop(self.key, None)
