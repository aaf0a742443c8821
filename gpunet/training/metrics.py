"""How good outputs are: accuracy for classes, R^2 for numbers."""

from __future__ import annotations

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
