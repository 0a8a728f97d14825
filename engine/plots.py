"""Plots of a run, drawn with matplotlib without a display."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["confusion_matrix", "training_curves"]


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "engine[train]"') from error
    # Without pyplot there is no global state, no display and nothing to close.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    import io

    from engine.io.atomic_file import open_atomic

    image = io.BytesIO()
    figure.savefig(image, format=os.path.splitext(os.fspath(path))[1].lstrip(".") or "png", dpi=120)
    with open_atomic(path) as file:
        file.write(image.getvalue())


def training_curves(
    history: Sequence[dict[str, Any]], path: str | os.PathLike[str], best_epoch: int | None = None
) -> None:
    """Draws loss and accuracy over the epochs, training beside validation.

    Args:
        history: the rows that `engine.train.Trainer.fit` returns.
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        best_epoch: marked with a line when given.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: when there is no epoch to draw.
    """
    if not history:
        raise ValueError("[training_curves] expected at least one epoch, got an empty history")
    epochs = [row["epoch"] for row in history]
    panels = [("loss", "loss", 1.0), ("accuracy", "accuracy in %", 100.0)]
    panels = [panel for panel in panels if any(f"train_{panel[0]}" in row for row in history)]
    figure = _figure(5.2 * len(panels), 3.8)
    for axes, (key, label, scale) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for part, name, style in (("train", "training", "-"), ("val", "validation", "--")):
            values = [scale * row.get(f"{part}_{key}", float("nan")) for row in history]
            if np.isfinite(values).any():
                axes.plot(epochs, values, style, marker="." if len(epochs) < 30 else "", label=name)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", linewidth=0.8, linestyle=":", label=f"best epoch ({best_epoch})")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def confusion_matrix(matrix: np.ndarray, path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> None:
    """Draws a confusion matrix: colours are shares of the true class, numbers are counts.

    Args:
        matrix: counts by true (rows) and predicted (columns) class.
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        classes: names of the classes; None numbers them.

    Raises:
        ImportError: when matplotlib is not installed.
    """
    matrix = np.asarray(matrix)
    names = [str(name) for name in (classes if classes is not None else range(len(matrix)))]
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(max(3.6, 0.42 * len(names) + 1.6), 24.0)
    figure = _figure(side + 0.8, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.85)
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names), default=0) > 2 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= 40:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    _save(figure, path)
