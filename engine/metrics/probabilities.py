"""Metrics of the values of predicted probabilities: log loss and calibration."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from engine.metrics.classification import array_of, check_class_numbers, labels_of

__all__ = [
    "Calibration",
    "CalibrationError",
    "LogLoss",
    "calibration_curve",
    "expected_calibration_error",
    "log_loss",
    "sample_losses",
]


def _checked(name: str, targets: Any, probabilities: Any) -> tuple[np.ndarray, np.ndarray]:
    targets, probabilities = labels_of("targets", targets), array_of(probabilities)
    if probabilities.ndim not in (1, 2) or len(probabilities) != len(targets):
        raise ValueError(
            f"[{name}] expected probabilities of shape ({len(targets)},) or ({len(targets)}, classes), got an array of "
            f"shape {probabilities.shape}"
        )
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype(np.float64)
    if not probabilities.size:
        return targets, probabilities
    low, high = probabilities.min(), probabilities.max()
    if not (low >= 0 and high <= 1):  # so written, NaN fails as well
        raise ValueError(
            f"[{name}] expected probabilities in [0, 1], got {low} to {high}: apply softmax to logits first"
        )
    if probabilities.ndim == 1:
        return targets, probabilities
    check_class_numbers(name, targets, probabilities.shape[1])
    error = np.abs(probabilities.sum(axis=1, dtype=np.float64) - 1).max()
    if error > np.sqrt(np.finfo(probabilities.dtype).eps):
        warnings.warn(f"[{name}] probabilities of a sample should sum to 1, got sums off by {error:.2g}", stacklevel=3)
    return targets, probabilities


def sample_losses(targets: Any, probabilities: Any, pos_label: Any = 1) -> np.ndarray:
    """Negative log-likelihood of each sample: what `log_loss` is the mean of. The highest are worth a look.

    Args:
        targets: true labels (N,); class numbers 0 to C - 1 when there are probabilities per class.
        probabilities: that of `pos_label` (N,), or of each class (N, C).
        pos_label: the positive label when probabilities are (N,).

    Returns:
        float64 losses (N,) in nats; finite, since probabilities are kept the precision of their type away from 0.

    Raises:
        ValueError: for wrong shapes, or values outside [0, 1].

    Example:
        >>> sample_losses([1, 0], [[0.5, 0.5], [0.25, 0.75]]).round(4)
        array([0.6931, 1.3863])
    """
    return _losses("sample_losses", targets, probabilities, pos_label)


def _losses(name: str, targets: Any, probabilities: Any, pos_label: Any) -> np.ndarray:
    targets, probabilities = _checked(name, targets, probabilities)
    if probabilities.ndim == 1:
        chosen = np.where(targets == pos_label, probabilities, 1 - probabilities)
    else:
        chosen = probabilities[np.arange(len(targets)), targets.astype(np.intp)]
    eps = np.finfo(chosen.dtype).eps
    return -np.log(np.clip(chosen, eps, 1 - eps).astype(np.float64))


def log_loss(targets: Any, probabilities: Any, pos_label: Any = 1) -> float:
    """Mean negative log-likelihood of the true classes, in nats; NaN for no samples.

    Args:
        targets: true labels (N,); class numbers 0 to C - 1 when there are probabilities per class.
        probabilities: that of `pos_label` (N,), or of each class (N, C). Rows that do not sum to 1 bring a warning.
        pos_label: the positive label when probabilities are (N,).

    Raises:
        ValueError: for wrong shapes, or values outside [0, 1].

    Example:
        >>> round(log_loss([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.35, 0.65]]), 4)
        0.2531

    Follows sklearn.metrics.log_loss with labels=range(C).
    """
    losses = _losses("log_loss", targets, probabilities, pos_label)
    return float(losses.mean()) if len(losses) else float("nan")


class Calibration(NamedTuple):
    """What is behind a reliability diagram, per bin of confidence; NaN in bins without samples."""

    accuracy: np.ndarray
    confidence: np.ndarray
    counts: np.ndarray
    edges: np.ndarray


def _bins(name: str, targets: Any, probabilities: Any, edges: np.ndarray, pos_label: Any) -> np.ndarray:
    """(counts, hits, sums of confidence) by bin."""
    targets, probabilities = _checked(name, targets, probabilities)
    if probabilities.ndim == 1:
        confidence, hits = probabilities, targets == pos_label
    elif len(targets):
        confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    else:
        confidence, hits = np.zeros(0), np.zeros(0, bool)
    confidence = confidence.astype(np.float64)
    size = len(edges) - 1
    which = np.searchsorted(edges[1:-1], confidence)  # bins (a, b], the first with 0
    return np.stack([np.bincount(which, weights, size) for weights in (np.ones(len(which)), hits, confidence)])


def _edges(name: str, bins: int) -> np.ndarray:
    if bins < 1:
        raise ValueError(f"[{name}] expected at least one bin, got {bins}")
    return np.linspace(0.0, 1.0, bins + 1)


def _curve(sums: np.ndarray, edges: np.ndarray) -> Calibration:
    counts = sums[0]
    means = np.full((2, len(counts)), np.nan)
    np.divide(sums[1:], counts, out=means, where=counts > 0)
    return Calibration(means[0], means[1], counts.astype(np.int64), edges)


def _error(sums: np.ndarray) -> float:
    total = sums[0].sum()
    return float(np.abs(sums[1] - sums[2]).sum() / total) if total else float("nan")


def calibration_curve(targets: Any, probabilities: Any, bins: int = 15, pos_label: Any = 1) -> Calibration:
    """How often samples are right, by how sure the model was.

    Args:
        targets: true labels (N,); class numbers 0 to C - 1 when there are probabilities per class.
        probabilities: of each class (N, C): confidence is the highest, right is when that class is the true one. Or
            that of `pos_label` (N,): right is when the sample is of that class.
        bins: number of equally wide bins (a, b] in [0, 1], 0 being in the first.
        pos_label: the positive label when probabilities are (N,).

    Raises:
        ValueError: for wrong shapes, values outside [0, 1], or no bins.

    Example:
        >>> curve = calibration_curve([0, 1, 1, 1], [0.1, 0.3, 0.8, 0.9], bins=2)
        >>> curve.accuracy, curve.counts
        (array([0.5, 1. ]), array([2, 2]))

    Follows sklearn.calibration.calibration_curve with strategy="uniform", empty bins included.
    """
    edges = _edges("calibration_curve", bins)
    return _curve(_bins("calibration_curve", targets, probabilities, edges, pos_label), edges)


def expected_calibration_error(targets: Any, probabilities: Any, bins: int = 15, pos_label: Any = 1) -> float:
    """Mean distance between confidence and accuracy, bin by bin, weighted by samples; NaN for no samples.

    Args:
        targets: true labels (N,).
        probabilities: (N, C) or (N,), as in `calibration_curve`.
        bins: number of equally wide bins.
        pos_label: the positive label when probabilities are (N,).

    Raises:
        ValueError: for wrong shapes, values outside [0, 1], or no bins.

    Example:
        >>> round(expected_calibration_error([0, 1, 1, 1], [0.1, 0.3, 0.8, 0.9], bins=2), 4)
        0.225

    Follows Guo et al., https://arxiv.org/abs/1706.04599.
    """
    edges = _edges("expected_calibration_error", bins)
    return _error(_bins("expected_calibration_error", targets, probabilities, edges, pos_label))


class LogLoss:
    """`log_loss` over batches.

    Args:
        pos_label: the positive label when probabilities are (N,).

    Example:
        >>> metric = LogLoss()
        >>> metric.update([0, 1], [[0.9, 0.1], [0.2, 0.8]])
        >>> metric.update([1], [[0.35, 0.65]])
        >>> round(metric.compute(), 4)
        0.2531
    """

    def __init__(self, pos_label: Any = 1) -> None:
        self.pos_label = pos_label
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self.total, self.samples = 0.0, 0

    def update(self, targets: Any, probabilities: Any) -> None:
        """Adds a batch.

        Args:
            targets: true labels (N,).
            probabilities: (N, C) or (N,), as in `log_loss`.
        """
        losses = _losses("LogLoss", targets, probabilities, self.pos_label)
        self.total += float(losses.sum())
        self.samples += len(losses)

    def compute(self) -> float:
        """Mean loss so far; NaN before the first sample."""
        return self.total / self.samples if self.samples else float("nan")


class CalibrationError:
    """`expected_calibration_error` and `calibration_curve` over batches, in memory for the bins only.

    Args:
        bins: number of equally wide bins.
        pos_label: the positive label when probabilities are (N,).

    Example:
        >>> metric = CalibrationError(bins=2)
        >>> metric.update([0, 1], [0.1, 0.3])
        >>> metric.update([1, 1], [0.8, 0.9])
        >>> round(metric.compute(), 4), metric.curve().counts
        (0.225, array([2, 2]))
    """

    def __init__(self, bins: int = 15, pos_label: Any = 1) -> None:
        self.edges = _edges("CalibrationError", bins)
        self.pos_label = pos_label
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self._sums = np.zeros((3, len(self.edges) - 1))

    def update(self, targets: Any, probabilities: Any) -> None:
        """Adds a batch.

        Args:
            targets: true labels (N,).
            probabilities: (N, C) or (N,), as in `calibration_curve`.
        """
        self._sums += _bins("CalibrationError", targets, probabilities, self.edges, self.pos_label)

    def compute(self) -> float:
        """Expected calibration error so far; NaN before the first sample."""
        return _error(self._sums)

    def curve(self) -> Calibration:
        """Accuracy and confidence by bin so far."""
        return _curve(self._sums, self.edges)
