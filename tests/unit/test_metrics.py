"""Metrics beside scikit-learn's, where it is installed, and by hand."""

import math

import numpy as np
import pytest
from extras import need

from gpunet.training import metrics


def scores(rng, n, n_classes, ties):
    """Outputs that know something of the labels; with `ties` in steps of a tenth."""
    y = rng.integers(0, n_classes, n)
    outputs = rng.random((n, n_classes)) + 0.5 * np.eye(n_classes)[y]
    return (np.round(outputs, 1) if ties else outputs), y


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_classes_beside_scikit_learn(n_classes, ties):
    sk = need("sklearn.metrics")
    for seed in range(5):
        outputs, y = scores(np.random.default_rng(seed), 200, n_classes, ties)
        found = metrics.of_classes(outputs, y)
        predicted = outputs.argmax(axis=1)
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(y, predicted), abs=1e-12)
        if n_classes == 2:
            assert found["f1"] == pytest.approx(sk.f1_score(y, predicted), abs=1e-12)
            assert found["auc"] == pytest.approx(sk.roc_auc_score(y, outputs[:, 1]), abs=1e-12)
        else:
            assert found["f1"] == pytest.approx(sk.f1_score(y, predicted, average="macro"), abs=1e-12)
            one_hot = np.eye(n_classes)[y]
            assert found["auc"] == pytest.approx(sk.roc_auc_score(one_hot, outputs, average="macro"), abs=1e-12)


@pytest.mark.parametrize("n_out", [1, 3])
def test_numbers_beside_scikit_learn(n_out):
    sk = need("sklearn.metrics")
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(50, n_out)) * 100
    predicted = targets + rng.normal(size=(50, n_out)) * 30
    found = metrics.of_numbers(predicted, targets)
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(targets, predicted), rel=1e-12)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predicted), rel=1e-12)
    assert found["r2"] == pytest.approx(sk.r2_score(targets, predicted), rel=1e-12)


def test_numbers_as_vectors_are_not_spread_against_each_other():
    targets = np.array([1.0, 2.0, 4.0])
    assert metrics.of_numbers(targets[:, None], targets) == {"mae": 0.0, "rmse": 0.0, "r2": 1.0}


def test_the_area_by_counting_pairs():
    scores, true = np.array([0.1, 0.5, 0.5, 0.9, 0.2]), np.array([False, True, False, True, True])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[true] for b in scores[~true]]
    assert metrics.area_under_curve(scores, true) == np.mean(pairs)
    assert metrics.area_under_curve(np.ones(5), true) == 0.5
    assert math.isnan(metrics.area_under_curve(scores, np.ones(5, bool)))


def test_one_class_alone_has_no_area():
    outputs = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert metrics.of_classes(outputs, np.array([1, 1])) == {"accuracy": 0.5, "f1": pytest.approx(2 / 3)}
    assert metrics.of_classes(outputs, np.array([0, 0]))["f1"] == 0.0
    assert "auc" not in metrics.of_classes(np.eye(3)[[0, 1]], np.array([0, 0]))


def test_a_class_that_the_data_lack():
    """AUC is the mean over the classes that are there; F1 counts a class that is only predicted, as 0."""
    outputs = np.eye(4)[[0, 1, 2, 0]]
    found = metrics.of_classes(outputs, np.array([0, 1, 1, 0]))
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert found["auc"] == pytest.approx((1 + 0.75) / 2)


def test_one_output():
    found = metrics.of_classes(np.array([[0.9], [0.2], [0.6]]), np.array([1, 0, 0]))
    assert found == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx(2 / 3), "auc": 1.0}
