"""Plots of a run and of what a network learned, drawn with matplotlib without a display."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from engine import metrics
from engine.metrics.classification import array_of

__all__ = [
    "confusion_matrix",
    "feature_maps",
    "filters",
    "heat_maps",
    "image_grid",
    "most_confused",
    "precision_recall_curves",
    "reliability_diagram",
    "roc_curves",
    "top_losses",
    "training_curves",
]

_MISSING = 'plots need matplotlib: pip install "engine[train]"'


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(_MISSING) from error
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
    """Draws loss and accuracy over the epochs, training beside validation, and the learning rate where it changed.

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
    rates = np.array([row.get("lr", float("nan")) for row in history], np.float64)
    changed = len(rates) > 1 and bool(np.isfinite(rates).all()) and bool(np.ptp(rates) > 0)
    figure = _figure(5.2 * len(panels) + 4.2 * changed, 3.8)
    widths = [5.2] * len(panels) + [4.2] * changed
    every = list(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0])
    if changed:
        every[-1].plot(epochs, rates, color="tab:green", marker="." if len(epochs) < 30 else "")
        every[-1].set_ylabel("learning rate")
        if rates.min() > 0 and rates.max() > 100 * rates.min():
            every[-1].set_yscale("log")
    for axes, (key, label, scale) in zip(every, panels):
        for part, name, style in (("train", "training", "-"), ("val", "validation", "--")):
            values = [scale * row.get(f"{part}_{key}", float("nan")) for row in history]
            if np.isfinite(values).any():
                axes.plot(epochs, values, style, marker="." if len(epochs) < 30 else "", label=name)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", linewidth=0.8, linestyle=":", label=f"best epoch ({best_epoch})")
        axes.set_ylabel(label)
        axes.legend()
    for axes in every:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
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


# --- curves ----------------------------------------------------------------------------------------------------------

_LEGEND = 12  # classes; more are drawn thin, without names


def roc_curves(
    targets: Any,
    scores: Any,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    pos_label: Any = 1,
) -> None:
    """Draws ROC curves with the areas under them: one, or each class against the rest.

    Args:
        targets: true labels (N,); class numbers when there are scores per class.
        scores: certainty of `pos_label` (N,) or of each class (N, C).
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        classes: names of the classes; None numbers them.
        pos_label: the positive label when scores are (N,).

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for wrong shapes, or when no class has both positive and negative samples.
    """
    curves = []
    for name, truth, column, label in _against_rest("roc_curves", targets, scores, classes, pos_label):
        area = metrics.roc_auc(truth, column, pos_label=label)
        if np.isfinite(area):  # else the class has no sample, or nothing else has
            curve = metrics.roc_curve(truth, column, label)
            curves.append((name, area, curve.false_positive_rate, curve.true_positive_rate))
    if not curves:
        raise ValueError("[roc_curves] expected a class with samples both in it and outside, found none")
    _draw_curves(path, curves, "AUC", ("false positive rate", "true positive rate"), (0.0, 1.0), "lower right")


def precision_recall_curves(
    targets: Any,
    scores: Any,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    pos_label: Any = 1,
) -> None:
    """Draws precision-recall curves with average precisions: one, or each class against the rest.

    Args:
        targets: see `roc_curves`.
        scores: see `roc_curves`.
        path: see `roc_curves`.
        classes: see `roc_curves`.
        pos_label: see `roc_curves`.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for wrong shapes, or when no class has a sample.
    """
    curves = []
    for name, truth, column, label in _against_rest("precision_recall_curves", targets, scores, classes, pos_label):
        if np.any(truth == label):
            curve = metrics.precision_recall_curve(truth, column, label)
            area = metrics.average_precision(truth, column, pos_label=label)
            curves.append((name, area, curve.recall, curve.precision))
            share = float(np.mean(truth == label))
    if not curves:
        raise ValueError("[precision_recall_curves] expected a class with samples, found none")
    guessing = (share, share) if len(curves) == 1 else None
    _draw_curves(path, curves, "AP", ("recall", "precision"), guessing, "lower left", drawstyle="steps-post")


def _against_rest(
    name: str, targets: Any, scores: Any, classes: Sequence[str] | None, pos_label: Any
) -> Iterator[tuple[str, np.ndarray, np.ndarray, Any]]:
    """(class name, targets, scores, positive label) of each curve to draw."""
    targets, scores = array_of(targets), array_of(scores)
    if scores.ndim not in (1, 2) or targets.shape != scores.shape[:1]:
        raise ValueError(
            f"[{name}] expected targets (N,) and scores (N,) or (N, C), got shapes {targets.shape} and {scores.shape}"
        )
    if scores.ndim == 1:
        yield "", targets, scores, pos_label
        return
    names = _names(name, classes, scores.shape[1])
    for number in range(scores.shape[1]):
        yield names[number], targets, scores[:, number], number


def _names(name: str, classes: Sequence[str] | None, count: int) -> list[str]:
    names = [str(entry) for entry in (classes if classes is not None else range(count))]
    if len(names) != count:
        raise ValueError(f"[{name}] expected {count} names of classes, got {len(names)}")
    return names


def _draw_curves(
    path: str | os.PathLike[str],
    curves: list[tuple[str, float, np.ndarray, np.ndarray]],
    area: str,
    labels: tuple[str, str],
    guessing: tuple[float, float] | None,
    corner: str,
    drawstyle: str = "default",
) -> None:
    """Draws (name, area under it, x, y) of each curve, and the line from x = 0 to x = 1 that guessing would give."""
    figure = _figure(5.0, 4.8)
    axes = figure.subplots()
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.grid(alpha=0.3)
    named = len(curves) <= _LEGEND
    for name, value, x, y in curves:
        label = f"{name}  {area} {value:.3f}".strip() if named else "_"
        axes.plot(x, y, drawstyle=drawstyle, linewidth=1.5 if named else 0.6, alpha=1.0 if named else 0.6, label=label)
    if len(curves) > 1:
        mean = float(np.mean([value for _, value, _, _ in curves]))
        axes.plot([], [], " ", label=f"mean of {len(curves)} classes  {area} {mean:.3f}")
    if guessing is not None:
        axes.plot([0, 1], guessing, ":", color="grey", linewidth=1, label="guessing")
    axes.legend(loc=corner, fontsize=8)
    _save(figure, path)


def reliability_diagram(
    targets: Any, probabilities: Any, path: str | os.PathLike[str], bins: int = 15, pos_label: Any = 1
) -> None:
    """Draws how often samples are right against how sure the model was, with the number of samples below.

    Args:
        targets: true labels (N,); class numbers when there are probabilities per class.
        probabilities: of `pos_label` (N,) or of each class (N, C).
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        bins: number of equally wide bins of confidence.
        pos_label: the positive label when probabilities are (N,).

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for wrong shapes, values outside [0, 1], or no samples.
    """
    curve = metrics.calibration_curve(targets, probabilities, bins, pos_label)
    if not curve.counts.any():
        raise ValueError("[reliability_diagram] expected at least one sample, got none")
    error = metrics.expected_calibration_error(targets, probabilities, bins, pos_label)
    binary = np.ndim(probabilities) == 1
    figure = _figure(5.0, 5.8)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = curve.counts > 0
    left, width = curve.edges[:-1][filled], 1.0 / bins
    accuracy, confidence = curve.accuracy[filled], curve.confidence[filled]
    box = {"width": width, "align": "edge", "linewidth": 0.8}
    top.bar(left, accuracy, color="tab:blue", edgecolor="white", label="found", **box)
    for which, face, edge, label in (  # whatever is blue was found
        (confidence > accuracy, "white", "tab:red", "too sure"),
        (confidence < accuracy, "tab:blue", "palegreen", "not sure enough"),
    ):
        if which.any():
            height, bottom_edge = (confidence - accuracy)[which], accuracy[which]
            look = {"facecolor": face, "edgecolor": edge, "hatch": "////", "label": label}
            top.bar(left[which], height, bottom=bottom_edge, **look, **box)
    top.plot([0, 1], [0, 1], ":", color="black", linewidth=1, label="perfect")
    top.set(ylim=(0, 1.02), ylabel="share of the class" if binary else "accuracy")
    top.set_title(f"expected calibration error {error:.4f}", fontsize=10)
    top.legend(loc="upper left", fontsize=8)
    bottom.bar(left, curve.counts[filled], color="tab:grey", edgecolor="white", **box)
    bottom.set(xlim=(0, 1), xlabel="predicted probability" if binary else "confidence", ylabel="samples")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    _save(figure, path)


# --- images ----------------------------------------------------------------------------------------------------------


def _pictures(name: str, images: Any) -> np.ndarray:
    """Images to show, (N, H, W, 3) of 0 to 1: stored ones (N, H, W) or (N, H, W, C), or a batch (N, C, H, W)."""
    array = array_of(images)
    shape = array.shape
    if array.ndim == 3:
        array = array[..., None]
    elif array.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)
    elif array.ndim == 4 and array.dtype != np.uint8 and shape[1] in (1, 3) and shape[2] not in (1, 3):
        array = array.transpose(0, 2, 3, 1)  # a float batch of images as narrow as it has channels
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape[1:]:
        raise ValueError(f"[{name}] expected images (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W), got {shape}")
    if array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    else:
        array = array.astype(np.float32)
        if array.size and (array.min() < 0 or array.max() > 1):  # normalised: each image has its own range
            array = _stretched(array)
    return np.broadcast_to(array, (*array.shape[:3], 3))


def _stretched(array: np.ndarray) -> np.ndarray:
    """Each entry of the first axis spread over 0 to 1."""
    axes = tuple(range(1, array.ndim))
    low, high = array.min(axis=axes, keepdims=True), array.max(axis=axes, keepdims=True)
    return (array - low) / np.where(high > low, high - low, 1)


def _grid(
    pictures: Sequence[np.ndarray], titles: Sequence[str] | None, columns: int, cell: float, **how: Any
) -> tuple[Any, list[Any]]:
    """A figure with one picture per cell, row by row; returns it with its axes."""
    columns = max(1, min(columns, len(pictures)))
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    lines = max((title.count("\n") + 1 for title in titles), default=0) if titles else 0
    figure = _figure(columns * cell, rows * (min(cell * height / width, 4 * cell) + 0.17 * lines))
    cells = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in cells:
        axes.axis("off")
    for i, (axes, picture) in enumerate(zip(cells, pictures)):
        axes.imshow(picture, interpolation="nearest", **how)
        if titles:
            axes.set_title(titles[i], fontsize=8, pad=3)
    return figure, cells


def image_grid(
    images: Any, path: str | os.PathLike[str], titles: Sequence[str] | None = None, columns: int = 8
) -> None:
    """Draws images side by side.

    Args:
        images: (N, H, W) or (N, H, W, C) as stored, or a batch (N, C, H, W); uint8, or floats of 0 to 1. Other floats
            are normalised ones: each image is then spread over its own range.
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        titles: a line or more over each image.
        columns: images per row.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for other shapes, no images, or another number of titles.
    """
    pictures = _pictures("image_grid", images)
    if not len(pictures) or (titles is not None and len(titles) != len(pictures)):
        count = "none" if titles is None else len(titles)
        raise ValueError(f"[image_grid] expected images and a title for each, got {len(pictures)} and {count}")
    _save(_grid(list(pictures), titles, columns, 1.3)[0], path)


def top_losses(
    images: Any,
    targets: Any,
    probabilities: Any,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    count: int = 16,
) -> np.ndarray:
    """Draws the images on which the model was worst: hard ones, and often wrong labels.

    Args:
        images: as in `image_grid`, one per target.
        targets: true class numbers (N,).
        probabilities: of each class (N, C).
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        classes: names of the classes; None numbers them.
        count: how many images at most.

    Returns:
        The indices of the images, the highest loss first.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for shapes that do not match, or no images.
    """
    probabilities, targets = array_of(probabilities), array_of(targets)
    if probabilities.ndim != 2:
        raise ValueError(f"[top_losses] expected probabilities (N, C), got shape {probabilities.shape}")
    losses = metrics.sample_losses(targets, probabilities)
    if not len(losses) or len(images) != len(losses):
        raise ValueError(f"[top_losses] expected one image per target, got {len(images)} and {len(losses)}")
    names = _names("top_losses", classes, probabilities.shape[1])
    worst = np.argsort(-losses, kind="stable")[:count]
    titles = []
    for i in worst:
        guess = int(probabilities[i].argmax())
        said = f"{_short(names[guess])} ({probabilities[i, guess]:.0%})"
        titles.append(f"{said}\nis {_short(names[targets[i]])}\nloss {losses[i]:.2f}")
    image_grid(_chosen(images, worst), path, titles, columns=min(8, max(1, -(-len(worst) // 2))))
    return worst


def most_confused(
    images: Any,
    targets: Any,
    predictions: Any,
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    pairs: int = 5,
    count: int = 8,
) -> list[tuple[int, int, int]]:
    """Draws examples of the most frequent mistakes, one kind per row.

    Args:
        images: as in `image_grid`, one per target.
        targets: true class numbers (N,).
        predictions: predicted class numbers (N,).
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        classes: names of the classes; None numbers them.
        pairs: how many kinds of mistakes at most.
        count: how many examples of each at most.

    Returns:
        (true class, predicted class, how often) by row.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for shapes that do not match, or when there are no mistakes.
    """
    targets, predictions = array_of(targets), array_of(predictions)
    size = int(max(targets.max(initial=0), predictions.max(initial=0))) + 1 if classes is None else len(classes)
    names = _names("most_confused", classes, size)
    matrix = metrics.confusion_matrix(targets, predictions, range(size))
    if len(images) != len(targets):
        raise ValueError(f"[most_confused] expected one image per target, got {len(images)} and {len(targets)}")
    mistakes = metrics.most_confused(matrix, pairs)
    if not mistakes:
        raise ValueError("[most_confused] expected at least one wrong prediction, got none")
    examples = [np.nonzero((targets == true) & (predictions == guess))[0][:count] for true, guess, _ in mistakes]
    columns = max(len(example) for example in examples)
    labels = [f"{_short(names[true])}\nas {_short(names[guess])}\n{n}×" for true, guess, n in mistakes]
    pictures = [_pictures("most_confused", _chosen(images, example)) for example in examples]
    figure = _figure(1.0 * columns + 1.4, 1.0 * len(pictures) + 0.1)
    cells = figure.subplots(len(pictures), columns, squeeze=False)
    for row, label, shown in zip(cells, labels, pictures):
        for axes, picture in zip(row, shown):
            axes.imshow(picture, interpolation="nearest")
        for axes in row:
            axes.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    _save(figure, path)
    return mistakes


def _chosen(images: Any, which: np.ndarray) -> np.ndarray:
    return array_of(images)[which]


def _short(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def filters(weights: Any, path: str | os.PathLike[str], columns: int = 8) -> None:
    """Draws the filters of a first convolution, each spread over its own range: in colour when they see three channels,
    else one row of grey pictures per input channel.

    Args:
        weights: (O, I, kh, kw), as `engine.interpret.first_filters` returns.
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        columns: filters per row.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for another shape.
    """
    weights = array_of(weights)
    if weights.ndim != 4 or 0 in weights.shape:
        raise ValueError(f"[filters] expected weights (O, I, kh, kw), got shape {weights.shape}")
    if weights.shape[1] == 3:
        pictures = list(_stretched(weights).transpose(0, 2, 3, 1))
    else:
        pictures = list(_stretched(weights).reshape(-1, *weights.shape[2:]))
    figure, cells = _grid(pictures, None, columns, 0.8, cmap="gray", vmin=0, vmax=1)
    for axes in cells[: len(pictures)]:  # white filters beside white filters would be one
        axes.axis("on")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(edgecolor="tab:grey", linewidth=0.6)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    _save(figure, path)


def feature_maps(maps: Any, path: str | os.PathLike[str], columns: int = 8, count: int = 64) -> None:
    """Draws the feature maps that a layer makes of one image, on one scale of colours.

    Args:
        maps: (C, H, W), one image of what `engine.interpret.activations` returns.
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        columns: maps per row.
        count: how many maps at most; of more the strongest on average are drawn.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for another shape.
    """
    maps = array_of(maps)
    if maps.ndim != 3 or 0 in maps.shape:
        raise ValueError(f"[feature_maps] expected the maps (C, H, W) of one image, got shape {maps.shape}")
    which = np.sort(np.argsort(-np.abs(maps).mean(axis=(1, 2)), kind="stable")[:count])
    limit = float(np.abs(maps[which]).max()) or 1.0
    signed = bool(maps[which].min() < 0)
    how = {"cmap": "RdBu_r" if signed else "viridis", "vmin": -limit if signed else 0.0, "vmax": limit}
    figure, cells = _grid(list(maps[which]), [str(i) for i in which], columns, 0.9, **how)
    figure.set_figwidth(figure.get_figwidth() + 0.8)
    figure.colorbar(cells[0].images[0], ax=cells, aspect=30, fraction=0.05).ax.tick_params(labelsize=7)
    _save(figure, path)


def heat_maps(
    images: Any,
    maps: Any,
    path: str | os.PathLike[str],
    titles: Sequence[str] | None = None,
    opacity: float = 0.75,
) -> None:
    """Draws each image, and beside it the image under its heat map: Grad-CAM, saliency.

    Args:
        images: as in `image_grid`.
        maps: heat of 0 to 1 (N, H, W), as `engine.interpret.grad_cam` and `engine.interpret.saliency` return.
        path: the image file to write; its ending chooses the format (png, svg, pdf).
        titles: a line or more over each pair.
        opacity: of the heat map where it is 1; it fades with the heat, so that cold regions stay as they are.

    Raises:
        ImportError: when matplotlib is not installed.
        ValueError: for shapes that do not match, or no images.
    """
    pictures, maps = _pictures("heat_maps", images), array_of(maps)
    if not len(pictures) or maps.shape != pictures.shape[:3]:
        raise ValueError(
            f"[heat_maps] expected a map for each image, got shapes {pictures.shape[:3]} of images and {maps.shape} of "
            f"maps"
        )
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"[heat_maps] expected {len(pictures)} titles, got {len(titles)}")
    pairs, headings = [], []
    heat = np.clip(maps, 0, 1)
    for i, picture in enumerate(pictures):
        share = (opacity * np.sqrt(heat[i]))[..., None]
        pairs += [picture, (1 - share) * picture + share * _colours(heat[i])]
        headings += [titles[i] if titles is not None else "", ""]
    _save(_grid(pairs, headings if titles is not None else None, 6, 1.4)[0], path)


def _colours(heat: np.ndarray) -> np.ndarray:
    """Heat of 0 to 1 as colours (..., 3)."""
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise ImportError(_MISSING) from error
    return colormaps["plasma"](heat)[..., :3]
