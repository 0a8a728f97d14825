"""Metrics by hand, and against scikit-learn where it is installed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import engine
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
    np.testing.assert_allclose(metrics.f_beta(targets, predictions, 2, None), [10 / 14, 5 / 10, 5 / 6])
    assert metrics.balanced_accuracy(targets, predictions) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.balanced_accuracy(targets, predictions, adjusted=True) == pytest.approx((13 / 18 - 1 / 3) * 3 / 2)


def test_f_beta_lies_between_precision_and_recall() -> None:
    generator = np.random.default_rng(1)
    targets, predictions = generator.integers(0, 4, (2, 50))
    for average in AVERAGES:
        scores = metrics.precision_recall_f1(targets, predictions, average)
        for beta, want in ((0, scores.precision), (1, scores.f1), (np.inf, scores.recall)):
            np.testing.assert_allclose(metrics.f_beta(targets, predictions, beta, average), want)


def test_curves_by_hand() -> None:
    targets, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
    roc = metrics.roc_curve(targets, scores)
    assert roc.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert roc.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1]
    assert roc.thresholds.tolist() == [np.inf, 0.8, 0.4, 0.35, 0.1]
    assert metrics.roc_auc(targets, scores) == 0.75  # of four pairs one is in the wrong order
    curve = metrics.precision_recall_curve(targets, scores)
    np.testing.assert_allclose(curve.precision, [1 / 2, 2 / 3, 1 / 2, 1, 1])
    assert curve.recall.tolist() == [1, 1, 0.5, 0.5, 0]
    assert curve.thresholds.tolist() == [0.1, 0.35, 0.4, 0.8]
    assert metrics.average_precision(targets, scores) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_area_is_the_share_of_pairs_in_order() -> None:
    generator = np.random.default_rng(2)
    targets, scores = generator.integers(0, 2, 60), generator.integers(0, 9, 60)
    difference = scores[targets == 1][:, None] - scores[targets == 0]
    want = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert metrics.roc_auc(targets, scores) == pytest.approx(want, abs=1e-12)
    assert metrics.roc_auc(targets, -scores) == pytest.approx(1 - want, abs=1e-12)
    assert metrics.roc_auc(1 - targets, scores, pos_label=0) == pytest.approx(want, abs=1e-12)
    assert metrics.roc_auc(targets, np.zeros(60)) == 0.5


def test_one_against_the_rest_by_hand() -> None:
    targets = [0, 1, 1, 2]
    scores = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.2, 0.3], [0.3, 0.3, 0.4]]
    areas = [1.0, 0.5, 1.0]  # of class 1, 0.5 beats 0.3 twice and 0.2 loses twice
    np.testing.assert_allclose(metrics.roc_auc(targets, scores, None), areas)
    assert metrics.roc_auc(targets, scores) == pytest.approx(np.mean(areas))
    assert metrics.roc_auc(targets, scores, "weighted") == pytest.approx(np.average(areas, weights=[1, 2, 1]))


def test_log_loss_and_calibration_by_hand() -> None:
    targets, probabilities = [0, 1, 1], [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]]
    assert metrics.log_loss(targets, probabilities) == pytest.approx(-(2 * np.log(0.75) + np.log(0.5)) / 3)
    assert metrics.log_loss(targets, [0.25, 0.75, 0.5]) == pytest.approx(metrics.log_loss(targets, probabilities))
    assert metrics.log_loss([1], [0.0]) == pytest.approx(-np.log(np.finfo(np.float64).eps))
    assert np.isfinite(metrics.sample_losses([1, 0], np.array([[1, 0], [1, 0]], np.float32))).all()
    # Confidences 0.75, 0.75, 0.5 of which the first two are right and the last, a tie, is taken as class 0.
    assert metrics.expected_calibration_error(targets, probabilities, bins=2) == pytest.approx(
        (1 * abs(0 - 0.5) + 2 * abs(1 - 0.75)) / 3
    )
    curve = metrics.calibration_curve(targets, probabilities, bins=4)
    assert curve.counts.tolist() == [0, 1, 2, 0]  # bins are open on the left
    np.testing.assert_array_equal(curve.accuracy, [np.nan, 0, 1, np.nan])


def test_perfect_and_worst_predictions() -> None:
    targets = np.array([0, 1, 0, 1, 1])
    perfect = np.eye(2)[targets]
    for scores, area, right in ((perfect, 1.0, 1.0), (1 - perfect, 0.0, 0.0)):
        assert metrics.roc_auc(targets, scores) == area
        assert metrics.balanced_accuracy(targets, scores.argmax(axis=1)) == right
        assert metrics.expected_calibration_error(targets, scores) == 1 - right
    assert metrics.average_precision(targets, perfect) == 1
    assert metrics.log_loss(targets, perfect) < 1e-12


def test_most_confused_are_the_largest_off_the_diagonal() -> None:
    matrix = np.array([[50, 2, 0], [9, 50, 0], [2, 1, 50]])
    assert metrics.most_confused(matrix, 3) == [(1, 0, 9), (0, 1, 2), (2, 0, 2)]
    assert metrics.most_confused(np.diag([3, 4])) == []
    assert matrix[0, 0] == 50


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
    for scores in (np.zeros(0), np.zeros((0, 3))):
        empty = np.zeros(0, np.int64)
        for metric in (
            metrics.roc_auc,
            metrics.average_precision,
            metrics.log_loss,
            metrics.expected_calibration_error,
        ):
            assert np.isnan(metric(empty, scores)), metric.__name__
    assert np.isnan(metrics.balanced_accuracy([], []))
    for metric in (metrics.TopKAccuracy(1), metrics.LogLoss(), metrics.CalibrationError()):
        assert np.isnan(metric.compute())
    assert np.isnan(metrics.Ranking().compute()).all()


def test_one_class_only_has_no_area() -> None:
    assert np.isnan(metrics.roc_auc([1, 1], [0.2, 0.7]))
    assert np.isnan(metrics.roc_curve([1, 1], [0.2, 0.7]).false_positive_rate).all()
    assert metrics.average_precision([0, 0], [0.2, 0.7]) == 0
    assert metrics.average_precision([1, 1], [0.2, 0.7]) == 1
    assert np.isnan(metrics.balanced_accuracy([1, 1], [1, 1], adjusted=True))


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
        want = metrics.f_beta(targets, predictions, 0.5, average)
        np.testing.assert_allclose(matrix.f_beta(0.5, average), want)
    assert matrix.balanced_accuracy() == pytest.approx(metrics.balanced_accuracy(targets, predictions))
    np.testing.assert_array_equal(matrix.compute(), matrix.counts)
    matrix.reset()
    assert not matrix.compute().any()


@pytest.mark.parametrize("binary", [False, True])
def test_accumulators_equal_all_at_once(binary: bool) -> None:
    generator = np.random.default_rng(3)
    probabilities = generator.dirichlet(np.ones(4), 101)
    targets = generator.integers(0, 2 if binary else 4, 101)
    if binary:
        probabilities = probabilities[:, 0]
    wanted = [
        (metrics.LogLoss(), metrics.log_loss(targets, probabilities)),
        (metrics.CalibrationError(7), metrics.expected_calibration_error(targets, probabilities, 7)),
        (
            metrics.Ranking("weighted"),
            (
                metrics.roc_auc(targets, probabilities, "weighted"),
                metrics.average_precision(targets, probabilities, "weighted"),
            ),
        ),
    ]
    if not binary:
        wanted.append((metrics.TopKAccuracy(2), metrics.top_k_accuracy(targets, probabilities, 2)))
    for metric, want in wanted:
        for _ in range(2):  # the second time after a reset
            for begin in range(0, 120, 20):  # the last batch is empty or short
                metric.update(targets[begin : begin + 20], probabilities[begin : begin + 20])
            np.testing.assert_allclose(metric.compute(), want, rtol=1e-12)
            metric.reset()
            assert np.isnan(metric.compute()).all()


def test_a_reused_buffer_does_not_change_what_was_counted() -> None:
    metric, targets, scores = metrics.Ranking(), np.array([0, 1]), np.array([0.2, 0.7])
    metric.update(targets, scores)
    targets[:], scores[:] = 1, 0
    assert metric.compute().roc_auc == 1


def test_tensors_are_welcome() -> None:
    scores = engine.tensor([[0.9, 0.1], [0.2, 0.8]], requires_grad=True)
    targets = engine.tensor([0, 1])
    assert metrics.roc_auc(targets, scores) == 1
    assert metrics.log_loss(targets, scores) == pytest.approx(-np.log([0.9, 0.8]).mean(), abs=1e-6)
    assert metrics.balanced_accuracy(targets, scores.argmax(1)) == 1


def test_rows_that_do_not_sum_to_one_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match="sum to 1"):
        metrics.log_loss([0], [[0.5, 0.4]])


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
        (lambda: metrics.f_beta([0], [0], -1), "beta"),
        (lambda: metrics.f_beta([0], [0], 1, "median"), "average"),
        (lambda: metrics.ConfusionMatrix(1).f_beta(-1), "beta"),
        (lambda: metrics.TopKAccuracy(0), "k of at least 1"),
        (lambda: metrics.most_confused([[1, 2]]), "square"),
        (lambda: metrics.roc_curve([0, 1], [0.1]), "shape"),
        (lambda: metrics.roc_curve([0, 1], [[0.1, 0.2], [0.3, 0.4]]), "choose a column"),
        (lambda: metrics.roc_curve([], []), "at least one sample"),
        (lambda: metrics.precision_recall_curve([], []), "at least one sample"),
        (lambda: metrics.roc_auc([0, 1], [0.1, float("nan")]), "finite"),
        (lambda: metrics.roc_auc([0, 2], [[0.1, 0.2], [0.3, 0.4]]), r"0\.\.1"),
        (lambda: metrics.average_precision([0, 1], [0.1, 0.2], "median"), "average"),
        (lambda: metrics.log_loss([0, 1], [[3.0, -1.0], [0.0, 2.0]]), "softmax"),
        (lambda: metrics.log_loss([0], [float("nan")]), r"\[0, 1\]"),
        (lambda: metrics.log_loss([-1], [[0.5, 0.5]]), r"0\.\.1"),
        (lambda: metrics.log_loss([0, 1], [0.5]), "shape"),
        (lambda: metrics.log_loss([0.5], [[0.5, 0.5]]), "class numbers"),
        (lambda: metrics.roc_auc(["a"], [[0.5, 0.5]]), "class numbers"),
        (lambda: metrics.calibration_curve([0], [0.5], bins=0), "bin"),
        (lambda: metrics.CalibrationError(0), "bin"),
        (lambda: _two_shapes(), "like those before"),
    ],
)
def test_wrong_arguments_say_what_was_expected(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def _two_shapes() -> None:
    metric = metrics.Ranking()
    metric.update([0], [0.5])
    metric.update([0], [[0.5, 0.5]])


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


def close(mine, theirs) -> None:
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_scikit_learn_agrees_on_f_beta_and_balanced_accuracy(seed: int) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    classes, count = int(generator.integers(1, 7)), int(generator.integers(1, 40))
    targets, predictions = generator.integers(0, classes, (2, count))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        close(metrics.balanced_accuracy(targets, predictions), oracle.balanced_accuracy_score(targets, predictions))
        if len(np.unique(targets)) > 1:
            want = oracle.balanced_accuracy_score(targets, predictions, adjusted=True)
            close(metrics.balanced_accuracy(targets, predictions, adjusted=True), want)
        for beta in (0.0, 0.5, 1.0, 2.0, np.inf):
            for average in AVERAGES:
                for zero_division in (0.0, 1.0):
                    for labels in (None, list(range(classes + 1))):
                        want = oracle.fbeta_score(
                            targets, predictions, beta=beta, average=average, labels=labels, zero_division=zero_division
                        )
                        close(metrics.f_beta(targets, predictions, beta, average, labels, zero_division), want)


@pytest.mark.parametrize("seed", range(80))
def test_scikit_learn_agrees_on_curves(seed: int) -> None:
    """Every second seed has many ties; small counts bring cases with one class only."""
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 6 if seed % 3 == 0 else 200))
    targets = (generator.random(count) < generator.random()).astype(np.int64)
    scores = generator.normal(size=count).astype(np.float32 if seed % 4 < 2 else np.float64) + targets
    if seed % 2:
        scores = np.round(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for drop in (True, False):
            for mine, theirs in zip(
                metrics.roc_curve(targets, scores, drop_intermediate=drop),
                oracle.roc_curve(targets, scores, pos_label=1, drop_intermediate=drop),
                strict=True,
            ):
                close(mine, theirs)
            for mine, theirs in zip(
                metrics.precision_recall_curve(targets, scores, drop_intermediate=drop),
                oracle.precision_recall_curve(targets, scores, pos_label=1, drop_intermediate=drop),
                strict=True,
            ):
                close(mine, theirs)
        close(metrics.roc_auc(targets, scores), oracle.roc_auc_score(targets, scores))
        close(metrics.average_precision(targets, scores), oracle.average_precision_score(targets, scores))


@pytest.mark.parametrize("seed", range(40))
def test_scikit_learn_agrees_on_probabilities_per_class(seed: int) -> None:
    oracle = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(seed)
    classes, count = int(generator.integers(3, 7)), int(generator.integers(2, 120))
    targets = generator.integers(0, classes - (seed % 2), count)  # with odd seeds the last class never occurs
    probabilities = generator.dirichlet(np.full(classes, 0.3), count)
    if seed % 4 == 0:
        probabilities = np.eye(classes)[generator.integers(0, classes, count)]  # certain, and often wrong
    if seed % 5 == 0:
        probabilities = probabilities.astype(np.float32)
    labels, member = np.arange(classes), np.eye(classes, dtype=np.int64)[targets]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = oracle.log_loss(targets, probabilities, labels=labels)
        assert metrics.log_loss(targets, probabilities) == pytest.approx(want, rel=1e-6, abs=1e-6)
        for average in AVERAGES:
            want = oracle.roc_auc_score(targets, probabilities, multi_class="ovr", average=average, labels=labels)
            close(metrics.roc_auc(targets, probabilities, average), want)
            want = oracle.average_precision_score(member, probabilities, average=average)
            close(metrics.average_precision(targets, probabilities, average), want)
        want = oracle.log_loss(targets == 1, probabilities[:, 1], labels=[False, True])
        assert metrics.log_loss(targets, probabilities[:, 1]) == pytest.approx(want, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_scikit_learn_agrees_on_calibration(seed: int) -> None:
    oracle = pytest.importorskip("sklearn.calibration")
    generator = np.random.default_rng(seed)
    count, bins = int(generator.integers(2, 200)), int(generator.integers(1, 20))
    probabilities = np.round(generator.random(count), 1 + seed % 3)  # some on the edges of bins
    targets = (generator.random(count) < probabilities).astype(np.int64)
    targets[:2] = 0, 1  # which scikit-learn insists on
    curve = metrics.calibration_curve(targets, probabilities, bins)
    share, confidence = oracle.calibration_curve(targets, probabilities, n_bins=bins)
    filled = curve.counts > 0
    close(curve.accuracy[filled], share)
    close(curve.confidence[filled], confidence)
    want = np.average(np.abs(share - confidence), weights=curve.counts[filled])
    close(metrics.expected_calibration_error(targets, probabilities, bins), want)
