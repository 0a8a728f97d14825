"""Metrics of the order that scores put samples in: ROC and precision-recall curves and the areas under them.

Any score that grows with certainty will do: logits, probabilities, margins. With scores (N,) one class, `pos_label`, is
set against all others; with scores (N, C) each class in turn is set against the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from engine.metrics.classification import array_of, check_class_numbers, labels_of

__all__ = [
    "PrecisionRecallCurve",
    "Ranking",
    "RankingScores",
    "RocCurve",
    "average_precision",
    "precision_recall_curve",
    "roc_auc",
    "roc_curve",
]


class RocCurve(NamedTuple):
    """Rates at falling thresholds: a sample counts as positive when its score reaches the threshold."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall at rising thresholds, and at last (1, 0), which has no threshold."""

    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray


class RankingScores(NamedTuple):
    """What `Ranking` computes."""

    roc_auc: Any
    average_precision: Any


def _checked(name: str, targets: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    targets, scores = labels_of("targets", targets), array_of(scores)
    if scores.ndim not in (1, 2) or len(scores) != len(targets):
        raise ValueError(
            f"[{name}] expected scores of shape ({len(targets)},) or ({len(targets)}, classes), got an array of shape "
            f"{scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"[{name}] expected finite scores, got NaN or infinity")
    if scores.ndim == 2:
        check_class_numbers(name, targets, scores.shape[1])
    return targets, scores.astype(np.float64)


def _counts(name: str, targets: Any, scores: Any, pos_label: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false positives, true positives, thresholds) at every distinct score, highest first."""
    targets, scores = _checked(name, targets, scores)
    if scores.ndim != 1:
        raise ValueError(f"[{name}] expected one score per sample, got shape {scores.shape}: choose a column")
    if not len(scores):
        raise ValueError(f"[{name}] expected at least one sample, got none")
    return _sweep(targets == pos_label, scores)


def _sweep(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.append(np.nonzero(np.diff(scores))[0], len(scores) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order], dtype=np.float64)[last]
    return 1.0 + last - hits, hits, scores[last]


def roc_curve(targets: Any, scores: Any, pos_label: Any = 1, drop_intermediate: bool = True) -> RocCurve:
    """False and true positive rate at every threshold that changes them.

    Args:
        targets: true labels (N,).
        scores: certainty of `pos_label` (N,).
        pos_label: the label that counts as positive; all others are negative.
        drop_intermediate: whether points on a straight line between others are left out.

    Returns:
        Rates and thresholds from (0, 0) at infinity to (1, 1); a rate without any sample to count is NaN.

    Raises:
        ValueError: for wrong shapes, scores that are not finite, or no samples.

    Example:
        >>> curve = roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        >>> curve.false_positive_rate
        array([0. , 0. , 0.5, 0.5, 1. ])
        >>> curve.true_positive_rate
        array([0. , 0.5, 0.5, 1. , 1. ])

    Follows sklearn.metrics.roc_curve; Fawcett, https://doi.org/10.1016/j.patrec.2005.10.010.
    """
    misses, hits, thresholds = _counts("roc_curve", targets, scores, pos_label)
    if drop_intermediate and len(hits) > 2:
        corner = np.concatenate([[True], (np.diff(misses, 2) != 0) | (np.diff(hits, 2) != 0), [True]])
        misses, hits, thresholds = misses[corner], hits[corner], thresholds[corner]
    misses, hits, thresholds = (
        np.concatenate([[first], values]) for first, values in ((0.0, misses), (0.0, hits), (np.inf, thresholds))
    )
    return RocCurve(_share(misses), _share(hits), thresholds)


def _share(counts: np.ndarray) -> np.ndarray:
    return counts / counts[-1] if counts[-1] > 0 else np.full(counts.shape, np.nan)


def precision_recall_curve(
    targets: Any, scores: Any, pos_label: Any = 1, drop_intermediate: bool = False
) -> PrecisionRecallCurve:
    """Precision and recall at every threshold.

    Args:
        targets: true labels (N,).
        scores: certainty of `pos_label` (N,).
        pos_label: the label that counts as positive; all others are negative.
        drop_intermediate: whether thresholds between which recall does not change are left out.

    Returns:
        Precision, recall and thresholds, lowest threshold first; precision and recall have one point more, (1, 0).
        Without any positive sample recall is 1.

    Raises:
        ValueError: for wrong shapes, scores that are not finite, or no samples.

    Example:
        >>> curve = precision_recall_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        >>> curve.recall
        array([1. , 1. , 0.5, 0.5, 0. ])

    Follows sklearn.metrics.precision_recall_curve.
    """
    return _precision_recall(*_counts("precision_recall_curve", targets, scores, pos_label), drop_intermediate)


def _precision_recall(
    misses: np.ndarray, hits: np.ndarray, thresholds: np.ndarray, drop_intermediate: bool = False
) -> PrecisionRecallCurve:
    if drop_intermediate and len(hits) > 2:
        moves = np.concatenate([[True], (np.diff(hits[:-1]) != 0) | (np.diff(hits[1:]) != 0), [True]])
        misses, hits, thresholds = misses[moves], hits[moves], thresholds[moves]
    precision = hits / (hits + misses)
    recall = hits / hits[-1] if hits[-1] > 0 else np.ones_like(hits)
    return PrecisionRecallCurve(np.append(precision[::-1], 1.0), np.append(recall[::-1], 0.0), thresholds[::-1])


def _area(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by the trapezoidal rule, which gives ties half."""
    misses, hits, _ = _sweep(positive, scores)
    if misses[-1] == 0 or hits[-1] == 0:
        return float("nan")
    widths = np.diff(misses, prepend=0.0)
    heights = hits + np.concatenate([[0.0], hits[:-1]])
    return float(widths @ heights / (2.0 * misses[-1] * hits[-1]))


def _step_area(positive: np.ndarray, scores: np.ndarray) -> float:
    """Precision averaged over the steps of recall."""
    precision, recall, _ = _precision_recall(*_sweep(positive, scores))
    return max(0.0, float(-np.diff(recall) @ precision[:-1]))


def _one_vs_rest(
    name: str,
    area: Callable[[np.ndarray, np.ndarray], float],
    targets: Any,
    scores: Any,
    average: str | None,
    pos_label: Any,
) -> Any:
    if average not in (None, "micro", "macro", "weighted"):
        raise ValueError(f'[{name}] expected average "micro", "macro", "weighted" or None, got {average!r}')
    targets, scores = _checked(name, targets, scores)
    if not len(targets):
        return np.full(scores.shape[1], np.nan) if scores.ndim == 2 and average is None else float("nan")
    if scores.ndim == 1:
        return area(targets == pos_label, scores)
    member = targets[:, None] == np.arange(scores.shape[1])
    if average == "micro":
        return area(member.ravel(), scores.ravel())
    areas = np.array([area(member[:, c], scores[:, c]) for c in range(scores.shape[1])])
    if average is None:
        return areas
    if average == "macro":
        return float(areas.mean())
    weights = member.sum(axis=0)
    return float(np.average(np.where(weights > 0, areas, 0.0), weights=weights))  # NaN times no weight would be NaN


def roc_auc(targets: Any, scores: Any, average: str | None = "macro", pos_label: Any = 1) -> Any:
    """Area under the ROC curve: how often a sample of the class scores higher than one of the rest, ties half.

    Args:
        targets: true labels (N,); class numbers 0 to C - 1 when there are scores per class.
        scores: certainty of `pos_label` (N,), or of each class (N, C), each then set against the rest.
        average: over the classes of (N, C): "macro" (mean), "weighted" (mean weighted by support), "micro" (all
            decisions together) or None (one number per class).
        pos_label: the label that counts as positive when scores are (N,).

    Returns:
        A number, or one per class. A class without any sample, or with all of them, has NaN, and with it the macro mean
        has; the weighted mean passes over classes without samples.

    Raises:
        ValueError: for wrong shapes, another average, or scores that are not finite.

    Example:
        >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
        0.75
        >>> roc_auc([0, 1, 2], [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3]], average=None)
        array([1.  , 0.5 , 0.75])

    Follows sklearn.metrics.roc_auc_score with multi_class="ovr".
    """
    return _one_vs_rest("roc_auc", _area, targets, scores, average, pos_label)


def average_precision(targets: Any, scores: Any, average: str | None = "macro", pos_label: Any = 1) -> Any:
    """Precision averaged over recall: the area under the precision-recall curve as a step function.

    Args:
        targets: true labels (N,); class numbers 0 to C - 1 when there are scores per class.
        scores: certainty of `pos_label` (N,), or of each class (N, C), each then set against the rest.
        average: over the classes of (N, C), as in `roc_auc`.
        pos_label: the label that counts as positive when scores are (N,).

    Returns:
        A number, or one per class: 0 for a class without samples; NaN when there are no samples at all.

    Raises:
        ValueError: for wrong shapes, another average, or scores that are not finite.

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
        0.8333

    Follows sklearn.metrics.average_precision_score.
    """
    return _one_vs_rest("average_precision", _step_area, targets, scores, average, pos_label)


class Ranking:
    """Area under the ROC curve and average precision over batches.

    Both need the order of all samples, so targets and scores are kept: 4 bytes per float32 score.

    Args:
        average: over classes, as in `roc_auc`.
        pos_label: the label that counts as positive when scores are (N,).

    Example:
        >>> metric = Ranking()
        >>> metric.update([0, 1], [0.1, 0.35])
        >>> metric.update([0, 1], [0.4, 0.8])
        >>> metric.compute().roc_auc
        0.75
        >>> len(metric.targets), len(metric.scores)
        (4, 4)
    """

    def __init__(self, average: str | None = "macro", pos_label: Any = 1) -> None:
        self.average = average
        self.pos_label = pos_label
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self._targets: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []

    def update(self, targets: Any, scores: Any) -> None:
        """Adds a batch.

        Args:
            targets: true labels (N,).
            scores: (N,) or (N, C), the same in every batch.

        Raises:
            ValueError: for wrong shapes or scores that are not finite.
        """
        kept = array_of(scores)
        checked, _ = _checked("Ranking", targets, kept)
        if self._scores and kept.shape[1:] != self._scores[0].shape[1:]:
            raise ValueError(
                f"[Ranking] expected scores of shape (N, ...) like those before, {self._scores[0].shape}, got "
                f"{kept.shape}"
            )
        self._targets.append(np.array(checked))  # copies: a loop may reuse its buffers
        self._scores.append(np.array(kept))

    @property
    def targets(self) -> np.ndarray:
        """All targets so far, for a curve."""
        return np.concatenate(self._targets) if self._targets else np.zeros(0, np.int64)

    @property
    def scores(self) -> np.ndarray:
        """All scores so far, for a curve."""
        return np.concatenate(self._scores) if self._scores else np.zeros(0, np.float32)

    def compute(self) -> RankingScores:
        """Area under the ROC curve and average precision so far; NaN before the first sample."""
        targets, scores = self.targets, self.scores
        return RankingScores(
            roc_auc(targets, scores, self.average, self.pos_label),
            average_precision(targets, scores, self.average, self.pos_label),
        )
