"""Metrics by hand, and against scikit-learn where it is installed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from engine import metrics

AVERAGES = (None, "micro", "macro", "weighted")


def test_scores_by_hand() -> None:
    targets, predictions = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
    assert metrics.accuracy(targets, predictions) == pytest.approx(4 / 6)
    assert metrics.confusion_matrix(targets, predictions).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    np.testing.assert_allclose(metrics.precision(targets, predictions, None), [1, 1 / 2, 1 / 2])
    np.testing.assert_allclose(metrics.recall(targets, predictions, None), [2 / 3, 1 / 2, 1])
    np.testing.assert_allclose(metrics.f1(targets, predictions, None), [0.8, 0.5, 2 / 3])
    assert metrics.f1(targets, predictions, "micro") == pytest.approx(4 / 6)
    assert metrics.recall(targets, predictions, "weighted") == pytest.approx(4 / 6)


def test_classes_that_never_occur_or_are_never_predicted() -> None:
    scores = metrics.precision_recall_f1([0, 0, 1], [0, 0, 0], None, labels=[0, 1, 2])
    np.testing.assert_allclose(scores.precision, [2 / 3, 0, 0])
    np.testing.assert_allclose(scores.recall, [1, 0, 0])
    assert scores.support.tolist() == [2, 1, 0]
    assert metrics.precision([0, 0, 1], [0, 0, 0], "macro", zero_division=1.0) == pytest.approx((2 / 3 + 1) / 2)


def test_nothing_measured_is_nan_not_a_crash() -> None:
    assert np.isnan(metrics.accuracy([], []))
    assert np.isnan(metrics.top_k_accuracy([], np.zeros((0, 3)), 1))
    assert np.isnan(metrics.ConfusionMatrix(3).accuracy)
    assert metrics.confusion_matrix([], []).shape == (0, 0)


def test_streaming_equals_all_at_once() -> None:
    generator = np.random.default_rng(0)
    targets, predictions = generator.integers(0, 5, (2, 237))
    matrix = metrics.ConfusionMatrix(5)
    for begin in range(0, 237, 50):
        matrix.update(targets[begin : begin + 50], predictions[begin : begin + 50])
    np.testing.assert_array_equal(matrix.counts, metrics.confusion_matrix(targets, predictions))
    assert matrix.accuracy == pytest.approx(metrics.accuracy(targets, predictions))
    for average in AVERAGES:
        for got, want in zip(
            matrix.scores(average), metrics.precision_recall_f1(targets, predictions, average), strict=True
        ):
            np.testing.assert_allclose(got, want)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.accuracy([0, 1], [0]), "2 targets and 1 predictions"),
        (lambda: metrics.accuracy([[0, 1]], [[0, 1]]), "one label per sample"),
        (lambda: metrics.accuracy([0.0, float("nan")], [0, 1]), "NaN"),
        (lambda: metrics.f1([0], [0], "median"), "average"),
        (lambda: metrics.top_k_accuracy([3], [[0.1, 0.2]], 1), r"0\.\.1"),
        (lambda: metrics.top_k_accuracy([0], [0.1], 1), "shape"),
        (lambda: metrics.top_k_accuracy([0], [[0.1]], 0), "k of at least 1"),
        (lambda: metrics.ConfusionMatrix(2).update([0, 2], [0, 1]), r"targets in 0\.\.1"),
        (lambda: metrics.ConfusionMatrix(0), "at least one class"),
    ],
)
def test_wrong_arguments_say_what_was_expected(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_report_names_every_class() -> None:
    text = metrics.classification_report(np.diag([3, 4]), ("a rather long name", "b"))
    assert "a rather long name" in text
    assert "macro avg" in text
    assert all(len(line) < 100 for line in text.splitlines())


@pytest.mark.parametrize("seed", range(60))
def test_scikit_learn_agrees(seed: int) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    classes, count = int(generator.integers(1, 9)), int(generator.integers(1, 60))
    targets, predictions = generator.integers(0, classes, (2, count))
    assert metrics.accuracy(targets, predictions) == pytest.approx(oracle.accuracy_score(targets, predictions))
    labelled = [None, list(range(classes)), list(generator.permutation(classes + 2)[:3])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's remarks about degenerate inputs, which are the point here
        np.testing.assert_array_equal(
            metrics.confusion_matrix(targets, predictions), oracle.confusion_matrix(targets, predictions)
        )
        for labels in labelled:
            for average in AVERAGES:
                for zero_division in (0.0, 1.0):
                    want = oracle.precision_recall_fscore_support(
                        targets, predictions, average=average, labels=labels, zero_division=zero_division
                    )
                    got = metrics.precision_recall_f1(targets, predictions, average, labels, zero_division)
                    for mine, theirs in zip(got, want, strict=True):
                        if theirs is not None:  # scikit-learn gives no support for averages
                            np.testing.assert_allclose(mine, theirs, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_scikit_learn_agrees_on_top_k(seed: int) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    classes, count = int(generator.integers(3, 9)), int(generator.integers(1, 60))
    targets = generator.integers(0, classes, count)
    scores = np.round(generator.random((count, classes)), 1)  # many ties
    for k in range(1, classes):
        want = oracle.top_k_accuracy_score(targets, scores, k=k, labels=np.arange(classes))
        assert metrics.top_k_accuracy(targets, scores, k) == pytest.approx(want)
