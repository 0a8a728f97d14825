"""The page: what there is about a run, section by section. A section without anything to show is left out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from engine import metrics
from engine.metrics.classification import array_of
from engine.report import charts
from engine.report.charts import Line

__all__ = ["Explanation", "write_report"]

#: Given sample numbers (n), returns heat maps (n, H, W) of 0 to 1 of their images.
Explanation = Callable[[np.ndarray], np.ndarray]

# So many classes get a curve of their own with a name, cells in the matrix, a row in the table.
_NAMED, _CELLS, _ROWS = 10, 40, 200
# The page is its own sandbox: were there a script or an address in a name, it would neither run nor be fetched.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    history: Sequence[Mapping[str, Any]] = (),
    targets: Any = None,
    probabilities: Any = None,
    classes: Sequence[str] | None = None,
    images: Any = None,
    explain: Explanation | None = None,
    filters: Any = None,
    numbers: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    best_epoch: int | None = None,
    notes: Iterable[str] = (),
    count: int = 24,
) -> None:
    """Writes a report of a run that any browser shows: one file, without scripts, without addresses to load from.

    It has the metrics, training curves, confusion matrix, a table of the classes, ROC and precision-recall curves,
    calibration, the worst and the most frequent mistakes as pictures, the first filters, and the tables of
    configuration and environment; what is not given is left out.

    Args:
        path: the file to write.
        title: the heading.
        history: the rows that `engine.train.Trainer.fit` returns.
        targets: true class numbers (N,) of the test.
        probabilities: of each class (N, C).
        classes: names of the classes; None numbers them.
        images: the N images of the test, each (H, W) or (H, W, 1 or 3) uint8: an array, or anything that gives one for
            a number.
        explain: heat maps of images, to be shown beside the worst mistakes.
        filters: weights (O, I, kh, kw) of the first convolution.
        numbers: further results by name, shown on top.
        configuration: arguments of the run by name.
        environment: versions and hardware by name.
        best_epoch: marked in the curves.
        notes: sentences under the heading.
        count: how many of the worst mistakes to show.

    Raises:
        ValueError: for targets and probabilities that do not fit together.
        OSError: when the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> file = os.path.join(tempfile.mkdtemp(), "report.html")
        >>> write_report(file, title="Two guesses", targets=[0, 1], probabilities=np.eye(2), classes=["cat", "dog"])
        >>> with open(file) as page:
        ...     "<h1>Two guesses</h1>" in page.read()
        True
    """
    from engine.io.atomic_file import open_atomic

    sections: list[tuple[str, str]] = []
    tiles = dict(numbers or {})
    if probabilities is not None:
        test = _Test(targets, probabilities, classes, images)
        tiles = {**test.tiles(), **tiles}
    sections.append(("Results", _tiles(tiles)))
    if history:
        sections.append(("Training", _training(history, best_epoch)))
    if probabilities is not None:
        sections.append(("Confusion matrix", test.matrix_section()))
        sections.append(("Classes", test.table()))
        sections.append(("Curves", test.curves()))
        sections.append(("Worst mistakes", test.worst(count, explain)))
        sections.append(("Most confused", test.confused()))
    if filters is not None:
        sections.append(("First filters", _filters(array_of(filters))))
    if configuration:
        sections.append(("Configuration", _facts(configuration)))
    if environment:
        sections.append(("Environment", _facts(environment)))
    with open_atomic(path) as file:
        file.write(_page(title, notes, [(name, body) for name, body in sections if body]).encode())


def _page(title: str, notes: Iterable[str], sections: Sequence[tuple[str, str]]) -> str:
    with open(os.path.join(os.path.dirname(__file__), "style.css"), encoding="utf-8") as file:
        style = file.read()
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name, _ in sections)
    bodies = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{body}</section>' for name, body in sections
    )
    remarks = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>{remarks}<nav>{links}</nav>{bodies}</main></body></html>\n"
    )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _tiles(numbers: Mapping[str, Any]) -> str:
    cells = "".join(
        f'<div class="tile"><span class="faint">{escape(name)}</span><b>{escape(_shown(value))}</b></div>'
        for name, value in numbers.items()
    )
    return f'<div class="tiles">{cells}</div>' if cells else ""


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(_shown(item) for item in value)
    return str(value)


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(value if isinstance(value, str) else _plain(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f'<div class="card"><table class="facts"><tbody>{rows}</tbody></table></div>'


def _plain(value: Any) -> str:
    """Settings in full precision."""
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _card(heading: str, body: str) -> str:
    return f'<div class="card"><h3>{escape(heading)}</h3>{body}</div>'


# --- training --------------------------------------------------------------------------------------------------------


def _training(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> str:
    epochs = np.array([row["epoch"] for row in history], np.float64)

    def column(name: str, scale: float = 1.0) -> np.ndarray:
        values = [row.get(name) for row in history]
        return np.array([float("nan") if value is None else scale * float(value) for value in values])

    mark = None if best_epoch is None else (float(best_epoch), f"best epoch ({best_epoch})")
    cards = []
    for key, label, scale in (("loss", "loss", 1.0), ("accuracy", "accuracy in %", 100.0)):
        pair = [("train", "training", False), ("val", "validation", True)]
        drawn = [
            Line(name, epochs, column(f"{part}_{key}", scale), dashed, number)
            for number, (part, name, dashed) in enumerate(pair)
        ]
        drawn = [line for line in drawn if np.isfinite(line.y).any()]
        if drawn:
            cards.append(_card(key.capitalize(), charts.lines(drawn, "epoch", label, mark=mark, whole_x=True)))
    rates = column("lr")
    if np.isfinite(rates).any():
        positive = rates[rates > 0]
        log = bool(len(positive) == len(rates) and positive.max() > 100 * positive.min())
        chart = charts.lines([Line("lr", epochs, rates, False, 2)], "epoch", "learning rate", log_y=log, whole_x=True)
        cards.append(_card("Learning rate", chart))
    return f'<div class="columns">{"".join(cards)}</div>'


# --- test ------------------------------------------------------------------------------------------------------------


class _Test:
    """What a model said about samples with known classes."""

    def __init__(self, targets: Any, probabilities: Any, classes: Sequence[str] | None, images: Any) -> None:
        self.probabilities = array_of(probabilities)
        if self.probabilities.ndim != 2 or targets is None or array_of(targets).shape != self.probabilities.shape[:1]:
            got = None if targets is None else array_of(targets).shape
            raise ValueError(
                f"[write_report] expected targets (N,) and probabilities (N, C), got shapes {got} and "
                f"{self.probabilities.shape}"
            )
        self.targets = array_of(targets).astype(np.int64)
        size = self.probabilities.shape[1]
        self.names = [str(name) for name in (classes if classes is not None else range(size))]
        if len(self.names) != size:
            raise ValueError(f"[write_report] expected {size} names of classes, got {len(self.names)}")
        if images is not None and len(images) != len(self.targets):
            raise ValueError(f"[write_report] expected {len(self.targets)} images, got {len(images)}")
        self.images = images
        self.predictions = self.probabilities.argmax(axis=1) if len(self.targets) else self.targets
        self.matrix = metrics.ConfusionMatrix(size)
        self.matrix.update(self.targets, self.predictions)

    def tiles(self) -> dict[str, Any]:
        macro = self.matrix.scores("macro")
        found: dict[str, Any] = {"test accuracy": f"{100 * self.matrix.accuracy:.2f} %"}
        if len(self.names) > 5:
            found["top-5 accuracy"] = f"{100 * metrics.top_k_accuracy(self.targets, self.probabilities, 5):.2f} %"
        found["balanced accuracy"] = f"{100 * self.matrix.balanced_accuracy():.2f} %"
        found["macro F1"] = f"{macro.f1:.4f}"
        found["log loss"] = f"{float(np.mean(metrics.sample_losses(self.targets, self.probabilities))):.4f}"
        found["calibration error"] = f"{metrics.expected_calibration_error(self.targets, self.probabilities):.4f}"
        found["test images"] = len(self.targets)
        found["mistakes"] = int((self.targets != self.predictions).sum())
        return found

    def matrix_section(self) -> str:
        counts = self.matrix.counts
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        if len(counts) > _CELLS:
            picture = charts.colours(np.sqrt(shares)).astype(np.uint8)
            image = f'<img class="pixels" alt="confusion matrix" src="{charts.data_uri(picture)}">'
            text = f"{len(counts)} classes, true ones from top to bottom, predicted ones from left to right."
            return f'<div class="card"><p class="note">{text}</p>{image}</div>'
        tall = " class=tall" if max(map(len, self.names)) > 2 else ""
        head = "".join(f"<th{tall}>{escape(name)}</th>" for name in self.names)
        rows = []
        for i, (name, row) in enumerate(zip(self.names, counts.tolist())):
            cells = []
            for j, value in enumerate(row):
                looks = [look for look, holds in (("own", i == j), ("strong", shares[i, j] > 0.55)) if holds]
                style = f' style="background:rgba(var(--cell),{shares[i, j]:.3f})"' if value else ""
                look = f' class="{" ".join(looks)}"' if looks else ""
                tip = f"{name} as {self.names[j]}: {value} ({100 * shares[i, j]:.1f} %)"
                cells.append(f'<td{look}{style} title="{escape(tip, quote=True)}">{value or ""}</td>')
            rows.append(f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>")
        corner = '<th class="faint">true \\ predicted</th>'
        table = f"<thead><tr>{corner}{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        text = "Numbers are images; the colour is their share of the true class."
        return f'<div class="card"><p class="note">{text}</p><table class="matrix">{table}</table></div>'

    def table(self) -> str:
        scores = self.matrix.scores(None)
        order = np.argsort(scores.f1, kind="stable")[:_ROWS] if len(self.names) > _ROWS else np.arange(len(self.names))
        areas = metrics.roc_auc(self.targets, self.probabilities, average=None)
        precisions = metrics.average_precision(self.targets, self.probabilities, average=None)
        rows = [
            self._row(self.names[i], [scores.precision[i], scores.recall[i], scores.f1[i], areas[i], precisions[i]],
                      int(scores.support[i]))
            for i in order
        ]  # fmt: skip
        for average in ("macro", "weighted"):
            mean = self.matrix.scores(average)
            weights = scores.support if average == "weighted" else np.ones(len(self.names))
            extra = [_mean(areas, weights), _mean(precisions, weights)]
            rows.append(
                self._row(f"{average} average", [mean.precision, mean.recall, mean.f1, *extra], len(self.targets))
            )
        titles = ("class", "precision", "recall", "F1", "ROC AUC", "average precision", "images")
        head = "".join(f"<th>{title}</th>" for title in titles)
        note = f'<p class="note">The {_ROWS} classes with the lowest F1.</p>' if len(order) < len(self.names) else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f'<div class="card">{note}{table}</div>'

    @staticmethod
    def _row(name: str, values: Sequence[float], count: int) -> str:
        cells = "".join(
            f'<td class="bar" style="--share:{100 * value:.1f}%">{value:.4f}</td>'
            if math.isfinite(value)
            else "<td>–</td>"
            for value in map(float, values)
        )
        return f"<tr><td>{escape(name)}</td>{cells}<td>{count:,}</td></tr>"

    def curves(self) -> str:
        size = len(self.names)
        which = [1] if size == 2 else range(min(size, _ROWS))
        roc, recall = [], []
        for number in which:
            truth, scores = self.targets == number, self.probabilities[:, number]
            if not truth.any() or truth.all():
                continue
            curve = metrics.roc_curve(truth, scores, True)
            area = metrics.roc_auc(truth, scores, pos_label=True)
            name = self.names[number]
            roc.append(Line(f"{name}  {area:.4f}", curve.false_positive_rate, curve.true_positive_rate))
            other = metrics.precision_recall_curve(truth, scores, True)
            area = metrics.average_precision(truth, scores, pos_label=True)
            recall.append(Line(f"{name}  {area:.4f}", *_steps(other.recall, other.precision)))
        unit = (0.0, 1.0)
        cards = []
        if roc:
            named = len(roc) <= _NAMED
            high = (0.0, 1.005)  # so that a line along the top is not cut
            x, y = "false positive rate", "true positive rate"
            body = charts.lines(roc, x, y, x_range=unit, y_range=high, diagonal=True, named=named)
            cards.append(_card("ROC, each class against the rest; area under it", body))
            body = charts.lines(recall, "recall", "precision", x_range=unit, y_range=high, named=named)
            cards.append(_card("Precision and recall; average precision", body))
        if len(self.targets):
            bins = metrics.calibration_curve(self.targets, self.probabilities)
            filled = bins.counts > 0
            accuracy = np.where(filled, bins.accuracy, np.nan)
            body = charts.bars(
                bins.edges, accuracy, "confidence", "accuracy", np.where(filled, bins.confidence, np.nan)
            )
            cards.append(_card("Reliability", body))
            counts = np.where(filled, bins.counts, np.nan)
            cards.append(_card("Confidence", charts.bars(bins.edges, counts, "confidence", "images")))
        return f'<div class="columns">{"".join(cards)}</div>' if cards else ""

    def worst(self, count: int, explain: Explanation | None) -> str:
        losses = metrics.sample_losses(self.targets, self.probabilities)
        order = np.argsort(-losses, kind="stable")
        order = order[self.predictions[order] != self.targets[order]][:count]
        if not len(order):
            return '<p class="note">No mistake in the test.</p>'
        if self.images is None:
            return ""
        maps = None if explain is None else explain(order)
        cells = []
        for place, i in enumerate(order.tolist()):
            guess = int(self.predictions[i])
            text = (
                f"<b>{escape(self.names[guess])}</b> {100 * self.probabilities[i, guess]:.0f} %<br>"
                f"is {escape(self.names[self.targets[i]])}, image {i}, loss {losses[i]:.2f}"
            )
            image = np.asarray(self.images[i])
            pictures = _image(image, f"image {i}")
            if maps is not None:
                pictures += _image(charts.overlay(image, _fitted(maps[place], image.shape)), f"heat map of image {i}")
            cells.append(f"<figure><div>{pictures}</div><figcaption>{text}</figcaption></figure>")
        pairs = " pairs" if maps is not None else ""
        beside = "; beside each, the regions that spoke for it" if maps is not None else ""
        note = f'<p class="note">What was said, what it is: the highest losses first{beside}.</p>'
        return f'{note}<div class="pictures{pairs}">{"".join(cells)}</div>'

    def confused(self) -> str:
        rows = []
        for true, guess, times in metrics.most_confused(self.matrix.counts, 8):
            where = np.flatnonzero((self.targets == true) & (self.predictions == guess))[:8]
            label = f"<div><b>{escape(self.names[true])}</b> as <b>{escape(self.names[guess])}</b><br>{times}×</div>"
            shown = (
                []
                if self.images is None
                else [_image(np.asarray(self.images[i]), f"image {i}") for i in where.tolist()]
            )
            rows.append(label + f'<div class="pictures">{"".join(shown)}</div>')
        return f'<div class="card confusion">{"".join(rows)}</div>' if rows else ""


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    good = np.isfinite(values)
    return float(np.average(values[good], weights=weights[good])) if (weights * good).sum() else float("nan")


def _steps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of a curve that goes in steps: across first, then up or down."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _fitted(heat: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A heat map at the size of its image: the nearest values."""
    rows = np.arange(shape[0]) * heat.shape[0] // shape[0]
    columns = np.arange(shape[1]) * heat.shape[1] // shape[1]
    return heat[rows][:, columns]


def _image(image: np.ndarray, name: str) -> str:
    image = _shrunk(image)
    look = ' class="pixels"' if max(image.shape[:2]) <= 128 else ""
    size = f'width="{image.shape[1]}" height="{image.shape[0]}"'
    return f'<img{look} {size} alt="{escape(name, quote=True)}" src="{charts.data_uri(image)}">'


def _shrunk(image: np.ndarray, limit: int = 320) -> np.ndarray:
    """An image of many pixels averaged over blocks, since a page of them would be of many megabytes."""
    block = -(-max(image.shape[:2]) // limit)
    if block == 1:
        return image
    height, width = (max(1, side // block) for side in image.shape[:2])
    cut = image[: height * block, : width * block].reshape(
        height, min(block, image.shape[0]), width, -1, *image.shape[2:]
    )
    return np.asarray(cut.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def _filters(weights: np.ndarray, count: int = 96) -> str:
    if weights.ndim != 4 or 0 in weights.shape:
        raise ValueError(f"[write_report] expected filters (O, I, kh, kw), got shape {weights.shape}")
    low, high = (extreme(weights, axis=(1, 2, 3), keepdims=True) for extreme in (np.min, np.max))
    levels = ((weights - low) / np.where(high > low, high - low, 1) * 255 + 0.5).astype(np.uint8)
    if weights.shape[1] == 3:
        pictures = list(levels.transpose(0, 2, 3, 1))
    else:
        pictures = list(levels.reshape(-1, *weights.shape[2:]))
    cells = "".join(_image(picture, f"filter {i}") for i, picture in enumerate(pictures[:count]))
    return f'<div class="pictures small">{cells}</div>'
