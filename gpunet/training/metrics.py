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
    constant = variation == 0
    ratio = residual / np.where(constant, 1.0, variation)
    return float(np.mean(np.where(constant, residual == 0, 1.0 - ratio)))
