"""Charts as SVG text and pictures as PNG bytes, for pages that need nothing but a browser.

Colours are classes (`s0` ... `s9`, `ink`, `grid`) that the page's style sheet defines for light and for dark.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

__all__ = ["Line", "bars", "data_uri", "lines", "overlay", "png"]

_WIDTH, _HEIGHT = 480, 310
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 12, 12, 40
_POINTS = 400  # more than a line of this width can show

# Anchors of a map of colours from cold to hot that also a colour-blind eye reads, in order of brightness.
_HEAT = np.array(
    [[13, 8, 135], [84, 2, 163], [139, 10, 165], [185, 50, 137], [219, 92, 104], [244, 136, 73], [254, 188, 43]],
    np.float32,
)


class Line(NamedTuple):
    """One line of a chart: its name, and as many x as y values; those that are not finite are left out."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dashed: bool = False
    colour: int | None = None


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Returns round numbers between two bounds, about `count` of them.

    Args:
        low: the lower bound.
        high: the upper bound.
        count: how many are wanted.

    Example:
        >>> ticks(0.0, 0.93)
        [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _Axes:
    """Maps numbers to places in the drawing."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], log_y: bool = False) -> None:
        self.x, self.y, self.log_y = x, y, log_y

    def across(self, value: float) -> float:
        low, high = self.x
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1.0)

    def up(self, value: float) -> float:
        low, high = self.y
        if self.log_y:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / ((high - low) or 1.0)

    def frame(self, x_label: str, y_label: str, whole_x: bool) -> list[str]:
        """Grid, numbers and names of the axes."""
        right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        parts = []
        steps = [t for t in ticks(*self.x, 6) if not whole_x or t == int(t)]
        for tick in steps:
            at = self.across(tick)
            parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>')
            parts.append(f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{tick:g}</text>')
        if self.log_y:
            powers = range(math.ceil(math.log10(self.y[0]) - 1e-9), math.floor(math.log10(self.y[1]) + 1e-9) + 1)
            heights = [10.0**power for power in powers]
        else:
            heights = ticks(*self.y)
        for tick in heights:
            at = self.up(tick)
            parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{right}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
        middle = (_TOP + bottom) / 2
        parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
        parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
        turned = f'transform="translate(13 {middle}) rotate(-90)"'
        parts.append(f'<text {turned} text-anchor="middle">{escape(y_label)}</text>')
        return parts


def _svg(parts: Sequence[str], name: str) -> str:
    label = escape(name, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    if not entries:
        return ""
    items = "".join(f'<li><span class="{look}"></span>{escape(name)}</li>' for look, name in entries)
    return f'<ul class="legend">{items}</ul>'


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= _POINTS:
        return x, y
    which = np.unique(np.linspace(0, len(x) - 1, _POINTS).round().astype(np.int64))
    return x[which], y[which]


def lines(
    series: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    log_y: bool = False,
    mark: tuple[float, str] | None = None,
    diagonal: bool = False,
    whole_x: bool = False,
    named: bool = True,
) -> str:
    """Returns a chart of lines with its legend, as HTML.

    Args:
        series: the lines.
        x_label: what is along.
        y_label: what is up.
        x_range: bounds; None takes those of the values.
        y_range: bounds; None takes those of the values and some space.
        log_y: whether heights are logarithms; the values are then above 0.
        mark: a place along at which a line stands, and its name in the legend.
        diagonal: whether to draw the line from corner to corner.
        whole_x: whether only whole numbers are written along.
        named: whether the lines are named in a legend and drawn thick.

    Example:
        >>> page = lines([Line("loss", np.arange(3), np.array([3.0, 2.0, 1.5]))], "epoch", "loss")
        >>> page.startswith("<svg"), page.count("<polyline")
        (True, 1)
    """
    kept = []
    for number, line in enumerate(series):
        x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
        good = np.isfinite(x) & np.isfinite(y) & ((y > 0) if log_y else True)
        if good.any():
            colour = (number if line.colour is None else line.colour) % 10
            kept.append((line, colour, *_thinned(x[good], y[good])))
    if not kept:
        return '<p class="note">Nothing to draw: no finite value.</p>'
    x_all, y_all = np.concatenate([k[2] for k in kept]), np.concatenate([k[3] for k in kept])
    if x_range is None:
        x_range = (float(x_all.min()), float(x_all.max()))
        if x_range[0] == x_range[1]:
            x_range = (x_range[0] - 0.5, x_range[1] + 0.5)
    if y_range is None:
        low, high = float(y_all.min()), float(y_all.max())
        if log_y:
            y_range = (low * 0.8, high * 1.25)
        else:
            space = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
            y_range = (max(low - space, 0.0) if low >= 0 else low - space, high + space)
    axes = _Axes(x_range, y_range, log_y)
    parts = axes.frame(x_label, y_label, whole_x)
    legend: list[tuple[str, str]] = []
    if diagonal:
        start, end = (axes.across(x_range[0]), axes.up(y_range[0])), (axes.across(x_range[1]), axes.up(y_range[1]))
        parts.append(f'<path class="mark" d="M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}"/>')
    if mark is not None:
        at = axes.across(mark[0])
        parts.append(f'<path class="mark" d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    for line, colour, x, y in kept:
        look = f"s{colour}" + (" dashed" if line.dashed else "") + ("" if named else " thin")
        points = " ".join(f"{axes.across(a):.1f},{axes.up(b):.1f}" for a, b in zip(x.tolist(), y.tolist()))
        parts.append(f'<polyline class="{look}" points="{points}"><title>{escape(line.name)}</title></polyline>')
        if len(x) <= 30 and named and not diagonal:
            for a, b in zip(x.tolist(), y.tolist()):
                value = f"{escape(line.name)} {b:.5g} at {a:g}"
                parts.append(
                    f'<circle class="s{colour}" cx="{axes.across(a):.1f}" cy="{axes.up(b):.1f}" r="2.6">'
                    f"<title>{value}</title></circle>"
                )
        legend.append((look, line.name))
    if mark is not None:
        legend.append(("mark", mark[1]))
    return _svg(parts, f"{y_label} over {x_label}") + (_legend(legend) if named and len(legend) > 1 else "")


def bars(edges: np.ndarray, heights: np.ndarray, x_label: str, y_label: str, ideal: np.ndarray | None = None) -> str:
    """Returns a chart of bars side by side, as HTML.

    Args:
        edges: (B + 1,) bounds of the bars along.
        heights: (B,); NaN where there is no bar.
        x_label: what is along.
        y_label: what is up.
        ideal: (B,) heights that the bars should have, drawn as lines across them; then the height ends at 1.

    Example:
        >>> bars(np.linspace(0, 1, 3), np.array([2.0, np.nan]), "confidence", "samples").count("<rect")
        1
    """
    finite = heights[np.isfinite(heights)]
    top = 1.0 if ideal is not None else float(finite.max() if len(finite) else 1.0) * 1.05 or 1.0
    axes = _Axes((float(edges[0]), float(edges[-1])), (0.0, top))
    parts = axes.frame(x_label, y_label, False)
    if ideal is not None:
        corners = f"{axes.across(edges[0]):.1f} {axes.up(0.0):.1f}L{axes.across(edges[-1]):.1f} {axes.up(1.0):.1f}"
        parts.append(f'<path class="mark" d="M{corners}"/>')
    for i, height in enumerate(heights.tolist()):
        if not math.isfinite(height):
            continue
        left, right = axes.across(edges[i]) + 0.7, axes.across(edges[i + 1]) - 0.7
        tip = f"{edges[i]:.2f} to {edges[i + 1]:.2f}: {height:.4g}"
        if ideal is not None:
            tip += f", perfect {ideal[i]:.4g}"
        parts.append(
            f'<rect class="s0" x="{left:.1f}" y="{axes.up(height):.1f}" width="{right - left:.1f}" '
            f'height="{max(axes.up(0.0) - axes.up(height), 0.0):.1f}"><title>{tip}</title></rect>'
        )
        if ideal is not None and math.isfinite(ideal[i]):
            parts.append(f'<path class="s3" d="M{left:.1f} {axes.up(ideal[i]):.1f}H{right:.1f}"/>')
    legend = [("s0 box", "found"), ("s3", "confidence of the bin"), ("mark", "perfect")] if ideal is not None else []
    return _svg(parts, f"{y_label} over {x_label}") + _legend(legend)


# --- pictures --------------------------------------------------------------------------------------------------------


def png(image: np.ndarray) -> bytes:
    """Returns an image as a PNG file.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) uint8, at least one pixel.

    Raises:
        ValueError: for another type or shape.

    Example:
        >>> png(np.zeros((2, 3), np.uint8))[1:4]
        b'PNG'
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(
            f"[png] expected uint8 of shape (H, W), (H, W, 1) or (H, W, 3), got {image.dtype} of {image.shape}"
        )
    height, width, channels = image.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def data_uri(image: np.ndarray) -> str:
    """Returns an image as the address that holds the whole of it.

    Args:
        image: as for `png`.
    """
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def colours(heat: np.ndarray) -> np.ndarray:
    """Returns heat of 0 to 1 as colours (..., 3) of 0 to 255.

    Args:
        heat: any shape.
    """
    at = np.clip(heat, 0, 1) * (len(_HEAT) - 1)
    anchors = np.arange(len(_HEAT))
    return np.stack([np.interp(at, anchors, _HEAT[:, channel]) for channel in range(3)], axis=-1)


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.75) -> np.ndarray:
    """Returns an image under its heat map, (H, W, 3) uint8.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) uint8.
        heat: (H, W) of 0 to 1.
        opacity: of the heat map where it is 1; it fades with the heat.

    Example:
        >>> overlay(np.zeros((2, 2), np.uint8), np.zeros((2, 2))).max()
        np.uint8(0)
    """
    picture = np.broadcast_to(image.reshape(*image.shape[:2], -1), (*image.shape[:2], 3)).astype(np.float32)
    share = (opacity * np.sqrt(np.clip(heat, 0, 1)))[..., None]
    return np.asarray((1 - share) * picture + share * colours(heat) + 0.5).astype(np.uint8)
