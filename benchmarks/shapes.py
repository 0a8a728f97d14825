"""The layers of a network, one per line, from `shapes/<network>.txt`.

    name: kind key<number> key<number>x<number> ...

Kinds and keys (a number pair is height x width; one number serves both):

    conv       ic oc h w k s p d g     2-D convolution: in and out channels, input height and width (w = h when
                                       absent), kernel, stride 1, padding 0, dilation 1, groups 1 when absent
    maxpool    c h w k s p             pooling
    avgpool    c h w k s p
    batchnorm  c h w                   on the map of that size
    linear     ic oc

`#` starts a comment. The order is the order of execution; layers that run several times stand there several times, so
that a file is also a chain. `python benchmarks/shapes.py` prints the FLOP sum of every file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "shapes"
KEYS = {
    "conv": {"ic", "oc", "h", "w", "k", "s", "p", "d", "g"},
    "maxpool": {"c", "h", "w", "k", "s", "p"},
    "avgpool": {"c", "h", "w", "k", "s", "p"},
    "batchnorm": {"c", "h", "w"},
    "linear": {"ic", "oc"},
}
FIELD = re.compile(r"([a-z]+)(\d+)(?:x(\d+))?$")


@dataclass(frozen=True)
class Layer:
    """One line of a shape file. Pairs are (height, width)."""

    name: str
    kind: str
    ic: int
    oc: int
    h: int = 1
    w: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def oh(self) -> int:
        return self._out(0, self.h)

    @property
    def ow(self) -> int:
        return self._out(1, self.w)

    def _out(self, axis: int, size: int) -> int:
        if self.kind == "batchnorm":
            return size
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size + 2 * self.padding[axis] - reach) // self.stride[axis] + 1

    @property
    def has_weight(self) -> bool:
        return self.kind in ("conv", "linear")

    def flops(self, batch: int = 1) -> int:
        """Operations of one pass, forward or one of the two gradients; a multiply-add is two, padding counts."""
        if not self.has_weight:
            return 0
        taps = self.kernel[0] * self.kernel[1] * (self.ic // self.groups)
        return 2 * batch * self.oh * self.ow * self.oc * taps

    @property
    def weights(self) -> int:
        """Elements of the weight, without bias."""
        return self.oc * (self.ic // self.groups) * self.kernel[0] * self.kernel[1] if self.has_weight else 0

    def bytes(self, batch: int = 1) -> int:
        """Bytes that a forward pass must move: input, weight and output once each, float32."""
        return 4 * (batch * (self.ic * self.h * self.w + self.oc * self.oh * self.ow) + self.weights)

    @property
    def shape_key(self) -> str:
        """The line without the layer's name: equal for layers that do the same work."""
        if self.kind == "linear":
            return f"linear ic{self.ic} oc{self.oc}"
        channels = f"ic{self.ic} oc{self.oc}" if self.kind == "conv" else f"c{self.ic}"
        text = f"{self.kind} {channels} h{self.h}" + (f" w{self.w}" if self.w != self.h else "")
        if self.kind == "batchnorm":
            return text
        for key, pair, usual in (
            ("k", self.kernel, None),
            ("s", self.stride, (1, 1)),
            ("p", self.padding, (0, 0)),
            ("d", self.dilation, (1, 1)),
        ):
            if pair != usual:
                text += f" {key}{pair[0]}" + (f"x{pair[1]}" if pair[1] != pair[0] else "")
        return text + (f" g{self.groups}" if self.groups != 1 else "")


def parse_line(line: str) -> Layer:
    """The layer of one line; ValueError names what is wrong."""
    name, colon, rest = line.partition(":")
    words = rest.split()
    if not colon or not words or words[0] not in KEYS:
        raise ValueError(f"expected 'name: kind key<number> ...' with a kind of {sorted(KEYS)}, got {line!r}")
    kind = words[0]
    fields: dict[str, tuple[int, int]] = {}
    for word in words[1:]:
        match = FIELD.match(word)
        if match is None or match[1] not in KEYS[kind] or match[1] in fields:
            raise ValueError(f"{kind} takes each of {sorted(KEYS[kind])} once, got {word!r} in {line!r}")
        first = int(match[2])
        fields[match[1]] = (first, int(match[3]) if match[3] else first)
    needed = {"linear": {"ic", "oc"}, "conv": {"ic", "oc", "h", "k"}, "batchnorm": {"c", "h"}}.get(
        kind, {"c", "h", "k"}
    )
    if needed - fields.keys():
        raise ValueError(f"{kind} needs {sorted(needed - fields.keys())}, got {line!r}")

    def one(key: str, default: int) -> int:
        return fields.get(key, (default, default))[0]

    channels = one("c", 0)
    layer = Layer(
        name=name.strip(),
        kind=kind,
        ic=one("ic", channels),
        oc=one("oc", channels),
        h=one("h", 1),
        w=one("w", one("h", 1)),
        kernel=fields.get("k", (1, 1)),
        stride=fields.get("s", (1, 1)),
        padding=fields.get("p", (0, 0)),
        dilation=fields.get("d", (1, 1)),
        groups=one("g", 1),
    )
    if min(layer.ic, layer.oc, layer.oh, layer.ow, layer.groups) < 1:
        raise ValueError(f"sizes must be positive, got {line!r}")
    if layer.ic % layer.groups or layer.oc % layer.groups:
        raise ValueError(f"groups must divide both channel counts, got {line!r}")
    return layer


def networks() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def load(network: str) -> list[Layer]:
    """All layers of a network in order of execution."""
    path = FOLDER / f"{network}.txt"
    if not path.exists():
        raise ValueError(f"no shape file {path.name}: choose one of {', '.join(networks())}")
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [parse_line(line) for line in lines if line]


def distinct(layers: list[Layer]) -> list[tuple[Layer, int]]:
    """Each shape once, at its first place, with how often it runs."""
    first: dict[str, Layer] = {}
    counts: dict[str, int] = {}
    for layer in layers:
        first.setdefault(layer.shape_key, layer)
        counts[layer.shape_key] = counts.get(layer.shape_key, 0) + 1
    return [(layer, counts[key]) for key, layer in first.items()]


def main() -> None:
    print(f"{'network':18}{'layers':>8}{'shapes':>8}{'GFLOP':>9}{'3x3 s1':>9}{'weights':>13}")
    for network in networks():
        layers = load(network)
        total = sum(layer.flops() for layer in layers)
        plain = sum(
            layer.flops()
            for layer in layers
            if layer.kernel == (3, 3) and layer.stride == (1, 1) and layer.groups == 1 and layer.kind == "conv"
        )
        weights = sum(layer.weights for layer in layers)
        print(
            f"{network:18}{len(layers):8}{len(distinct(layers)):8}{total / 1e9:9.3f}{plain / total:9.1%}{weights:13,}"
        )


if __name__ == "__main__":
    main()
