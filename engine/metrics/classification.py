"""Metrics of predicted labels.

Everything but top-k accuracy is read off the confusion matrix, so a large data set needs no more memory than that:
`ConfusionMatrix` collects it batch by batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "ConfusionMatrix",
    "Scores",
    "TopKAccuracy",
    "accuracy",
    "balanced_accuracy",
    "classification_report",
    "confusion_matrix",
    "f1",
    "f_beta",
    "most_confused",
    "precision",
    "precision_recall_f1",
    "recall",
    "top_k_accuracy",
]


def array_of(values: Any) -> np.ndarray:
    """A tensor, with or without gradient, or anything else as an array."""
    return np.asarray(values.detach().numpy() if hasattr(values, "detach") else values)


def labels_of(name: str, values: Any) -> np.ndarray:
    """Checked labels, one per sample."""
    array = array_of(values)
    if array.ndim != 1:
        raise ValueError(
            f"[metrics] expected {name} with one label per sample, got an array of shape {array.shape}: take argmax of "
            f"scores first"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"[metrics] expected {name} to be class labels, got NaN or infinity")
    return array


def check_class_numbers(name: str, targets: np.ndarray, classes: int) -> None:
    """Raises ValueError unless the labels are whole numbers, 0 to classes - 1."""
    if not len(targets):
        return
    if targets.dtype.kind not in "biuf" or (targets.dtype.kind == "f" and (targets % 1).any()):
        raise ValueError(f"[{name}] expected targets to be class numbers, got {targets.dtype} such as {targets[0]!r}")
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"[{name}] expected targets in 0..{classes - 1}, got {targets.min()} to {targets.max()}")


def _pair(targets: Any, predictions: Any) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = labels_of("targets", targets), labels_of("predictions", predictions)
    if len(targets) != len(predictions):
        raise ValueError(
            f"[metrics] expected one prediction per target, got {len(targets)} targets and {len(predictions)} "
            f"predictions"
        )
    return targets, predictions


def accuracy(targets: Any, predictions: Any) -> float:
    """Share of samples whose predicted label is the true one; NaN for no samples.

    Args:
        targets: true labels (N,).
        predictions: predicted labels (N,).

    Raises:
        ValueError: when the lengths differ.

    Example:
        >>> accuracy([0, 1, 2, 2], [0, 1, 1, 2])
        0.75
    """
    targets, predictions = _pair(targets, predictions)
    return float(np.mean(targets == predictions)) if len(targets) else float("nan")


def top_k_accuracy(targets: Any, scores: Any, k: int = 5) -> float:
    """Share of samples whose true class is among the `k` with the highest scores; NaN for no samples.

    Between equal scores the higher class number wins, as in scikit-learn. With at most `k` classes it is 1.

    Args:
        targets: true class numbers (N,), 0 to C - 1.
        scores: one score per class (N, C).
        k: how many guesses count.

    Raises:
        ValueError: for wrong shapes, labels without a score, or k < 1.

    Example:
        >>> top_k_accuracy([0, 2], [[0.5, 0.4, 0.1], [0.6, 0.3, 0.1]], k=2)
        0.5
    """
    targets = labels_of("targets", targets)
    scores = array_of(scores)
    if scores.ndim != 2 or len(scores) != len(targets):
        raise ValueError(
            f"[top_k_accuracy] expected scores of shape ({len(targets)}, classes), got an array of shape {scores.shape}"
        )
    if k < 1:
        raise ValueError(f"[top_k_accuracy] expected k of at least 1, got {k}")
    if not len(targets):
        return float("nan")
    check_class_numbers("top_k_accuracy", targets, scores.shape[1])
    best = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
    return float(np.mean((best == targets[:, None]).any(axis=1)))


def confusion_matrix(targets: Any, predictions: Any, labels: Sequence[Any] | np.ndarray | None = None) -> np.ndarray:
    """Counts samples by true label (rows) and predicted label (columns).

    Args:
        targets: true labels (N,).
        predictions: predicted labels (N,).
        labels: the labels of the rows and columns; None takes those that occur, sorted. Samples with others are left
            out, as in scikit-learn.

    Returns:
        int64 counts of shape (labels, labels).

    Example:
        >>> confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2])
        array([[1, 0, 0],
               [0, 1, 1],
               [0, 0, 1]])
    """
    targets, predictions = _pair(targets, predictions)
    chosen = np.unique(np.concatenate([targets, predictions])) if labels is None else np.asarray(labels)
    size = len(chosen)
    order = np.argsort(chosen, kind="stable")
    rows, row_known = _positions(targets, chosen, order)
    columns, column_known = _positions(predictions, chosen, order)
    known = row_known & column_known
    counts = np.bincount(rows[known] * size + columns[known], minlength=size * size)
    return counts.reshape(size, size).astype(np.int64, copy=False)


def _positions(values: np.ndarray, labels: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in `labels` each value stands, and whether it stands there at all."""
    if not len(labels):
        return np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    found = order[np.minimum(np.searchsorted(labels, values, sorter=order), len(labels) - 1)]
    return found, labels[found] == values


class Scores(NamedTuple):
    """Precision, recall, F1 and support, as numbers or per class."""

    precision: Any
    recall: Any
    f1: Any
    support: Any


def _check_average(average: str | None) -> None:
    if average not in (None, "micro", "macro", "weighted"):
        raise ValueError(f'[metrics] expected average "micro", "macro", "weighted" or None, got {average!r}')


def _ratio(numerator: np.ndarray, denominator: np.ndarray, zero_division: float) -> np.ndarray:
    result = np.full(numerator.shape, float(zero_division))
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


def _scores(
    matrix: np.ndarray,
    average: str | None,
    zero_division: float,
    outside: tuple[Any, Any] = (0, 0),
    beta: float = 1.0,
) -> Scores:
    """Scores, with F-beta for F1, from a confusion matrix; `outside` counts truth and predictions in rows or columns
    that it lacks."""
    hits = np.diag(matrix).astype(np.float64)
    predicted = matrix.sum(axis=0).astype(np.float64) + outside[1]
    support = matrix.sum(axis=1) + outside[0]
    if average == "micro":
        hits, predicted = hits.sum(keepdims=True), predicted.sum(keepdims=True)
        true = support.sum(keepdims=True).astype(np.float64)
    else:
        true = support.astype(np.float64)
    precisions = _ratio(hits, predicted, zero_division)
    recalls = _ratio(hits, true, zero_division)
    # (1 + b²) TP / ((1 + b²) TP + FP + b² FN): defined wherever the class occurs on either side.
    square = beta * beta
    f1s = recalls if np.isinf(beta) else _ratio((1 + square) * hits, predicted + square * true, zero_division)
    if average is None:
        return Scores(precisions, recalls, f1s, support)
    if average == "micro":
        return Scores(float(precisions[0]), float(recalls[0]), float(f1s[0]), int(support.sum()))
    total = int(support.sum())
    if len(true) == 0:
        return Scores(float(zero_division), float(zero_division), float(zero_division), 0)
    # Without any support there are no weights to go by: the plain mean, as in scikit-learn.
    weights = true if average == "weighted" and total else None
    mean_p, mean_r, mean_f = (float(np.average(values, weights=weights)) for values in (precisions, recalls, f1s))
    return Scores(mean_p, mean_r, mean_f, total)


def precision_recall_f1(
    targets: Any,
    predictions: Any,
    average: str | None = "macro",
    labels: Sequence[Any] | np.ndarray | None = None,
    zero_division: float = 0.0,
) -> Scores:
    """Precision, recall, F1 and support in one pass.

    Args:
        targets: true labels (N,).
        predictions: predicted labels (N,).
        average: "micro" (all decisions together), "macro" (mean over classes), "weighted" (mean weighted by support)
            or None (one number per class).
        labels: the classes that count, in order; None takes those that occur, sorted.
        zero_division: the value of a ratio whose denominator is 0.

    Raises:
        ValueError: for another average or unequal lengths.

    Example:
        >>> precision_recall_f1([0, 0, 1, 1], [0, 1, 1, 1], average=None).recall
        array([0.5, 1. ])
    """
    return _scores_of_labels(targets, predictions, average, labels, zero_division)


def _scores_of_labels(
    targets: Any, predictions: Any, average: str | None, labels: Any, zero_division: float, beta: float = 1.0
) -> Scores:
    _check_average(average)
    targets, predictions = _pair(targets, predictions)
    matrix = confusion_matrix(targets, predictions, labels)
    if labels is None:
        return _scores(matrix, average, zero_division, beta=beta)
    # A decision between a listed and an unlisted class still counts for the listed one.
    chosen = np.asarray(labels)
    true = np.array([np.count_nonzero(targets == label) for label in chosen], np.int64)
    predicted = np.array([np.count_nonzero(predictions == label) for label in chosen], np.int64)
    outside = (true - matrix.sum(axis=1), predicted - matrix.sum(axis=0))
    return _scores(matrix, average, zero_division, outside, beta)


def precision(
    targets: Any, predictions: Any, average: str | None = "macro", labels: Any = None, zero_division: float = 0.0
) -> Any:
    """Share of the predictions of a class that are right. Arguments as in `precision_recall_f1`.

    Example:
        >>> round(precision([0, 0, 1, 1], [0, 1, 1, 1]), 4)
        0.8333
    """
    return precision_recall_f1(targets, predictions, average, labels, zero_division).precision


def recall(
    targets: Any, predictions: Any, average: str | None = "macro", labels: Any = None, zero_division: float = 0.0
) -> Any:
    """Share of a class's samples that are found. Arguments as in `precision_recall_f1`.

    Example:
        >>> recall([0, 0, 1, 1], [0, 1, 1, 1])
        0.75
    """
    return precision_recall_f1(targets, predictions, average, labels, zero_division).recall


def f1(
    targets: Any, predictions: Any, average: str | None = "macro", labels: Any = None, zero_division: float = 0.0
) -> Any:
    """Harmonic mean of precision and recall. Arguments as in `precision_recall_f1`.

    Example:
        >>> round(f1([0, 0, 1, 1], [0, 1, 1, 1]), 4)
        0.7333
    """
    return precision_recall_f1(targets, predictions, average, labels, zero_division).f1


def f_beta(
    targets: Any,
    predictions: Any,
    beta: float,
    average: str | None = "macro",
    labels: Any = None,
    zero_division: float = 0.0,
) -> Any:
    """Weighted harmonic mean of precision and recall. Other arguments as in `precision_recall_f1`.

    Args:
        targets: true labels (N,).
        predictions: predicted labels (N,).
        beta: how many times as much recall matters as precision: 0 is precision, 1 is F1, infinity is recall.
        average: "micro", "macro", "weighted" or None.
        labels: the classes that count.
        zero_division: the value of a ratio whose denominator is 0.

    Raises:
        ValueError: for a negative beta, another average or unequal lengths.

    Example:
        >>> round(f_beta([0, 0, 1, 1], [0, 1, 1, 1], beta=2), 4)
        0.7323

    Follows sklearn.metrics.fbeta_score.
    """
    if not beta >= 0:
        raise ValueError(f"[f_beta] expected beta of at least 0, got {beta}")
    return _scores_of_labels(targets, predictions, average, labels, zero_division, beta).f1


def _balanced(matrix: np.ndarray, adjusted: bool) -> float:
    support = matrix.sum(axis=1)
    present = support > 0
    count = int(present.sum())
    if not count:
        return float("nan")
    score = float(np.mean(np.diag(matrix)[present] / support[present]))
    if not adjusted:
        return score
    return (score - 1 / count) / (1 - 1 / count) if count > 1 else float("nan")


def balanced_accuracy(targets: Any, predictions: Any, adjusted: bool = False) -> float:
    """Mean recall of the classes that occur in the truth, so that a frequent class cannot hide a rare one.

    Args:
        targets: true labels (N,).
        predictions: predicted labels (N,).
        adjusted: whether guessing scores 0 instead of 1 / classes; NaN when there is but one class.

    Returns:
        A number up to 1; NaN for no samples.

    Example:
        >>> balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0])
        0.5

    Follows sklearn.metrics.balanced_accuracy_score; Brodersen et al., https://doi.org/10.1109/ICPR.2010.764.
    """
    return _balanced(confusion_matrix(targets, predictions), adjusted)


def most_confused(matrix: Any, count: int = 10) -> list[tuple[int, int, int]]:
    """The most frequent mistakes.

    Args:
        matrix: counts by true (rows) and predicted (columns) class.
        count: how many mistakes at most.

    Returns:
        (true class, predicted class, how often), the most frequent first; equal ones in the order of the matrix.

    Example:
        >>> most_confused([[8, 2, 0], [0, 9, 0], [3, 0, 7]])
        [(2, 0, 3), (0, 1, 2)]
    """
    wrong = np.array(matrix)
    if wrong.ndim != 2 or wrong.shape[0] != wrong.shape[1]:
        raise ValueError(f"[most_confused] expected a square matrix, got shape {wrong.shape}")
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    rows, columns = np.unravel_index(order, wrong.shape)
    return [(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns) if wrong[i, j] > 0]


class TopKAccuracy:
    """`top_k_accuracy` over batches.

    Args:
        k: how many guesses count.

    Example:
        >>> metric = TopKAccuracy(k=2)
        >>> metric.update([0, 2], [[0.5, 0.4, 0.1], [0.6, 0.3, 0.1]])
        >>> metric.update([1], [[0.5, 0.4, 0.1]])
        >>> round(metric.compute(), 4)
        0.6667
    """

    def __init__(self, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"[TopKAccuracy] expected k of at least 1, got {k}")
        self.k = k
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self.hits = self.samples = 0

    def update(self, targets: Any, scores: Any) -> None:
        """Adds a batch.

        Args:
            targets: true class numbers (N,).
            scores: one score per class (N, C).
        """
        share, count = top_k_accuracy(targets, scores, self.k), len(array_of(targets))
        if count:
            self.hits += round(share * count)
            self.samples += count

    def compute(self) -> float:
        """Share of samples so far whose true class is among the k best; NaN before the first sample."""
        return self.hits / self.samples if self.samples else float("nan")


class ConfusionMatrix:
    """A confusion matrix that grows batch by batch, and the metrics that follow from it.

    Args:
        num_classes: labels are 0 to num_classes - 1.

    Example:
        >>> matrix = ConfusionMatrix(2)
        >>> matrix.update([0, 1], [0, 0])
        >>> matrix.update([1, 1], [1, 1])
        >>> matrix.accuracy, matrix.scores("macro").recall
        (0.75, 0.8333333333333333)
    """

    def __init__(self, num_classes: int) -> None:
        if num_classes < 1:
            raise ValueError(f"[ConfusionMatrix] expected at least one class, got num_classes={num_classes}")
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self.counts = np.zeros((self.num_classes, self.num_classes), np.int64)

    def compute(self) -> np.ndarray:
        """Counts so far by true (rows) and predicted (columns) class, as a copy."""
        return self.counts.copy()

    def update(self, targets: Any, predictions: Any) -> None:
        """Adds a batch.

        Args:
            targets: true labels (N,).
            predictions: predicted labels (N,).

        Raises:
            ValueError: for a label outside 0 to num_classes - 1.
        """
        targets, predictions = _pair(targets, predictions)
        for name, values in (("targets", targets), ("predictions", predictions)):
            if len(values) and (values.min() < 0 or values.max() >= self.num_classes):
                raise ValueError(
                    f"[ConfusionMatrix] expected {name} in 0..{self.num_classes - 1}, got {values.min()} to "
                    f"{values.max()}"
                )
        cells = targets.astype(np.int64) * self.num_classes + predictions.astype(np.int64)
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    @property
    def accuracy(self) -> float:
        """Share of right predictions so far; NaN before the first sample."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")

    def balanced_accuracy(self, adjusted: bool = False) -> float:
        """Mean recall of the classes that occurred, as `engine.metrics.balanced_accuracy`.

        Args:
            adjusted: whether guessing scores 0.
        """
        return _balanced(self.counts, adjusted)

    def f_beta(self, beta: float, average: str | None = "macro", zero_division: float = 0.0) -> Any:
        """F-beta over all `num_classes` classes, as `engine.metrics.f_beta`.

        Args:
            beta: how many times as much recall matters as precision.
            average: as in `precision_recall_f1`.
            zero_division: the value of a ratio whose denominator is 0.
        """
        _check_average(average)
        if not beta >= 0:
            raise ValueError(f"[f_beta] expected beta of at least 0, got {beta}")
        return _scores(self.counts, average, zero_division, beta=beta).f1

    def scores(self, average: str | None = "macro", zero_division: float = 0.0) -> Scores:
        """Precision, recall, F1 and support over all `num_classes` classes.

        Args:
            average: as in `precision_recall_f1`.
            zero_division: the value of a ratio whose denominator is 0.
        """
        _check_average(average)
        return _scores(self.counts, average, zero_division)


def classification_report(matrix: np.ndarray, classes: Sequence[str] | None = None) -> str:
    """Returns precision, recall and F1 per class and on average, then the confusion matrix, as text.

    Args:
        matrix: counts by true (rows) and predicted (columns) class.
        classes: names of the classes; None numbers them.

    Example:
        >>> print(classification_report(np.array([[9, 1], [0, 10]]), ("cat", "dog")))
        class         precision  recall      f1  support
        cat              1.0000  0.9000  0.9474       10
        dog              0.9091  1.0000  0.9524       10
        macro avg        0.9545  0.9500  0.9499       20
        weighted avg     0.9545  0.9500  0.9499       20
        <BLANKLINE>
        true \\ predicted  cat  dog
        cat                 9    1
        dog                 0   10
    """
    matrix = np.asarray(matrix)
    names = [str(name) for name in (classes if classes is not None else range(len(matrix)))]
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(names) != len(matrix):
        raise ValueError(
            f"[classification_report] expected a square matrix and one name per class, got a matrix of shape "
            f"{matrix.shape} and {len(names)} names"
        )
    per_class = _scores(matrix, None, 0.0)
    rows = [(name, *values) for name, *values in zip(names, *per_class, strict=True)]
    rows += [(f"{average} avg", *_scores(matrix, average, 0.0)) for average in ("macro", "weighted")]
    width = max(12, *(len(str(row[0])) for row in rows))
    lines = [f"{'class':<{width}}  precision  recall      f1  support"]
    lines += [f"{name:<{width}}  {p:>9.4f}  {r:.4f}  {f:.4f}  {s:>7}" for name, p, r, f, s in rows]
    corner = "true \\ predicted"
    first = max(len(corner), *(len(name) for name in names))
    cell = max(3, *(len(name) for name in names), len(str(matrix.max())))
    lines += ["", f"{corner:<{first}}" + "".join(f"  {name:>{cell}}" for name in names)]
    lines += [
        f"{name:<{first}}" + "".join(f"  {count:>{cell}}" for count in row)
        for name, row in zip(names, matrix.tolist(), strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)
