"""A table of a model's layers, measured on one forward pass."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from engine import nn
from engine.autograd import no_grad
from engine.tensor import Tensor, zeros

__all__ = ["Row", "Summary", "summarize"]


@dataclass
class Row:
    """One module of a model.

    Args:
        name: dotted name; "" is the model.
        kind: class of the module.
        depth: level below the model.
        output: shape of what it returned, or of each of them; () when it returned no tensor.
        parameters: of the module and all below it, each counted once.
        trainable: those that require a gradient.
        flops: floating-point operations of one forward pass, here and below.
        activations: bytes of the outputs of the layers, here and below.
        calls: how often it ran.
        leaf: whether it is a layer, without modules below it.
    """

    name: str
    kind: str
    depth: int
    output: Any = ()
    parameters: int = 0
    trainable: int = 0
    flops: int = 0
    activations: int = 0
    calls: int = 0
    leaf: bool = False


@dataclass
class Summary:
    """The layers of a model and their costs; print it to see the table.

    FLOPs count a multiply-add as two and comprise convolutions and fully connected layers, next to which all else is
    small. Activation memory is what all layers' outputs take in float32 (every layer's own, views not subtracted).

    Args:
        model: class of the model.
        input_size: shape of the input.
        rows: the modules, parents first; the first row is the model itself.
    """

    model: str
    input_size: tuple[int, ...]
    rows: list[Row] = field(default_factory=list)
    shown_depth: int | None = None

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.rows[0].parameters

    @property
    def trainable(self) -> int:
        """Number of parameters that require a gradient."""
        return self.rows[0].trainable

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass."""
        return self.rows[0].flops

    @property
    def activations(self) -> int:
        """Bytes of all layers' outputs."""
        return self.rows[0].activations

    def __str__(self) -> str:
        rows = [r for r in self.rows[1:] if self.shown_depth is None or r.depth <= self.shown_depth]
        table = [("layer", "output", "parameters", "MFLOP", "activations KiB")]
        for row in rows:
            runs = row.leaf or row.depth == self.shown_depth
            table.append(
                (
                    "  " * (row.depth - 1) + f"{row.name.rpartition('.')[2]} {row.kind}",
                    "x".join(map(str, row.output)) if isinstance(row.output, tuple) else str(row.output),
                    f"{row.parameters:,}" if row.parameters and runs else "",
                    f"{row.flops / 1e6:,.2f}" if row.flops and runs else "",
                    f"{row.activations / 1024:,.1f}" if row.activations and runs else "",
                )
            )
        widths = [max(len(line[i]) for line in table) for i in range(5)]
        lines = [
            "  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in columns).rstrip()
            for columns in (enumerate(zip(line, widths)) for line in table)
        ]
        rule = "-" * (sum(widths) + 8)
        total = self.rows[0]
        totals = [
            f"{self.model}, input {'x'.join(map(str, self.input_size))}",
            f"parameters   {total.parameters:,} ({total.parameters / 2**18:,.1f} MiB), trainable {total.trainable:,}",
            f"FLOPs        {total.flops / 1e9:,.3f} G (a multiply-add is two; convolutions and linear layers)",
            f"activations  {total.activations / 2**20:,.1f} MiB (all layers' outputs)",
        ]
        return "\n".join([lines[0], rule, *lines[1:], rule, *totals])

    __repr__ = __str__


def summarize(model: nn.Module, input_size: tuple[int, ...], depth: int | None = None) -> Summary:
    """Runs a model once, in evaluation mode, and measures its layers.

    Args:
        model: any module that takes one image tensor.
        input_size: shape of the input, (N, C, H, W) or (C, H, W).
        depth: how many levels of modules the table shows; all by default.

    Raises:
        ValueError: the model cannot take such an input.

    Example:
        >>> from engine import nn
        >>> print(summarize(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), (1, 8, 8)))
        layer     output   parameters  MFLOP  activations KiB
        -----------------------------------------------------
        0 Conv2d  1x2x6x6          20   0.00              0.3
        1 ReLU    1x2x6x6                                 0.3
        -----------------------------------------------------
        Sequential, input 1x1x8x8
        parameters   20 (0.0 MiB), trainable 20
        FLOPs        0.000 G (a multiply-add is two; convolutions and linear layers)
        activations  0.0 MiB (all layers' outputs)
    """
    if len(input_size) == 3:
        input_size = (1, *input_size)
    rows: dict[nn.Module, Row] = {}
    above: dict[nn.Module, list[Row]] = {}
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        rows[module] = Row(
            name,
            type(module).__name__,
            0 if not name else name.count(".") + 1,
            parameters=sum(p.numel() for p in parameters),
            trainable=sum(p.numel() for p in parameters if p.requires_grad),
            leaf=not any(True for _ in module.children()),
        )
    for name, module in model.named_modules():
        parts = name.split(".") if name else []
        prefixes = {".".join(parts[:i]) for i in range(len(parts) + 1)}
        above[module] = [row for row in rows.values() if row.name in prefixes]

    def measure(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        row = rows[module]
        row.calls += 1
        tensors = [output] if isinstance(output, Tensor) else [t for t in output or () if isinstance(t, Tensor)]
        shapes = [tuple(t.shape) for t in tensors]
        row.output = shapes[0] if len(shapes) == 1 else shapes or ()
        if row.leaf:
            flops, size = _flops(module, inputs, tensors), sum(t.nbytes for t in tensors)
            for each in above[module]:
                each.flops += flops
                each.activations += size

    handles = [module.register_forward_hook(measure) for module in rows]
    modes = [(module, module.training) for module in rows]
    try:
        model.eval()
        with no_grad():
            model(zeros(*input_size))
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return Summary(type(model).__name__, tuple(input_size), list(rows.values()), depth)


def _flops(module: nn.Module, inputs: tuple[Any, ...], outputs: list[Tensor]) -> int:
    """Two per multiply-add: each output of a convolution or a linear layer is one dot product."""
    if isinstance(module, nn.Conv2d):
        length = math.prod(module.weight.shape[1:])
    elif isinstance(module, nn.Linear):
        length = module.in_features
    elif isinstance(module, nn.ConvTranspose2d):  # each input meets all taps, borders included
        return sum(2 * math.prod(module.weight.shape[1:]) * t.numel() for t in inputs if isinstance(t, Tensor))
    else:
        return 0
    return sum(2 * length * t.numel() for t in outputs)
