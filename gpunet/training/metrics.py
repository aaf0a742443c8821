"""How good outputs are: accuracy, F1 and AUC for classes; MAE, RMSE and R^2 for numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def to_classes(outputs: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the class of each row of `outputs`, (m, n_out) -> (m,).

    The index of the largest output, as the book's `evaluate`; of a single output, whether it exceeds 1/2.
    """
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0.5).astype(np.int64)
    classes: npt.NDArray[np.int64] = outputs.argmax(axis=1)
    return classes


def of_classes(outputs: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> dict[str, float]:
    """Return the accuracy, F1 and AUC of outputs (m, n_out) for the classes y (m,).

    Returns
    -------
    dict
        ``accuracy``, ``f1`` and, unless y is of one class alone, ``auc``. Of two classes F1 and AUC are those of
        class 1; of more they are the mean over the classes (macro), AUC over those in y, one against the rest.
    """
    predicted = to_classes(outputs)
    n_classes = max(2, outputs.shape[1])
    found = {"accuracy": float((predicted == y).mean())}
    if n_classes == 2:
        areas = [area_under_curve(outputs[:, -1], y == 1)]
        found["f1"] = f1(predicted == 1, y == 1)
    else:
        met = np.union1d(predicted, y)
        areas = [area_under_curve(outputs[:, k], y == k) for k in np.unique(y)]
        found["f1"] = float(np.mean([f1(predicted == k, y == k) for k in met]))
    if not any(map(math.isnan, areas)):
        found["auc"] = float(np.mean(areas))
    return found


def of_numbers(predicted: npt.NDArray[Any], targets: npt.NDArray[Any]) -> dict[str, float]:
    """Return ``mae``, ``rmse`` and ``r2`` of predicted numbers, both (m,) or (m, n_out): means over the outputs."""
    predicted, targets = (np.asarray(x, dtype=np.float64).reshape(len(x), -1) for x in (predicted, targets))
    error = predicted - targets
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean(axis=0)).mean()),
        "r2": r_squared(predicted, targets),
    }


def f1(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float:
    """Return the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); 0 where nothing is either."""
    total = int(predicted.sum()) + int(true.sum())
    return 2.0 * int((predicted & true).sum()) / total if total else 0.0


def area_under_curve(scores: npt.NDArray[Any], true: npt.NDArray[np.bool_]) -> float:
    """Return the area under the ROC curve: how often a true example has the higher score than another; a tie is half.

    By the ranks of the scores, as the statistic of Mann and Whitney; NaN unless there are examples of both kinds.
    """
    n_true = int(true.sum())
    n_other = len(true) - n_true
    if n_true == 0 or n_other == 0:
        return math.nan
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[index]  # equal scores share the mean of their ranks
    return float((ranks[true].sum() - n_true * (n_true + 1) / 2) / (n_true * n_other))


def r_squared(outputs: npt.NDArray[Any], targets: npt.NDArray[Any]) -> float:
    """Return the coefficient of determination, the mean over the outputs; 1 is perfect, 0 as the mean.

    A constant target counts 1 where it is met exactly and 0 where not.
    """
    targets = targets.astype(np.float64)
    residual = ((targets - outputs) ** 2).sum(axis=0)
    variation = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    return _r_squared(residual, variation)


class RSquared:
    """The coefficient of determination of outputs that come part by part, as `r_squared` but for rounding."""

    def __init__(self) -> None:
        self._n = 0
        self._origin: npt.NDArray[Any] = np.zeros(1)  # the first target: what is constant varies by exactly 0 from it
        self._mean: Any = 0.0
        self._residual: Any = 0.0
        self._variation: Any = 0.0

    def add(self, outputs: npt.NDArray[Any], targets: npt.NDArray[Any]) -> None:
        """Take note of some outputs and targets, (m, n_out)."""
        targets = targets.astype(np.float64)
        if not self._n:
            self._origin = targets[0].copy()
        self._residual = self._residual + ((targets - outputs) ** 2).sum(axis=0)
        targets -= self._origin
        mean, m = targets.mean(axis=0), len(targets)
        apart = mean - self._mean
        both = self._n + m
        self._variation = self._variation + ((targets - mean) ** 2).sum(axis=0) + apart**2 * (self._n * m / both)
        self._mean = self._mean + apart * (m / both)
        self._n = both

    def result(self) -> float:
        """Return R^2, the mean over the outputs."""
        return _r_squared(self._residual, self._variation)


def _r_squared(residual: npt.NDArray[Any], variation: npt.NDArray[Any]) -> float:
    constant = variation == 0
    ratio = residual / np.where(constant, 1.0, variation)
    return float(np.mean(np.where(constant, residual == 0, 1.0 - ratio)))
