"""What every loader returns, and the checks that its four arrays fit together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import InputError

# The book divides pixels by 256, not 255; a power of two makes the scaling exact in binary.
PIXEL_SCALE = 1.0 / 256.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dataset:
    """Examples in rows, with their labels and a test part where there are any.

    Attributes
    ----------
    X : ndarray of shape (N, n_in), uint8, float32 or float64
        The training inputs, one example a row.
    y : ndarray of shape (N,), int64, or None
        Class indices from 0; None where the data has no labels.
    X_test, y_test : ndarray or None
        The test part, in the same form and with the same dtypes.
    classes : tuple of str or None
        The labels' original names, index to name, where they were mapped.
    target : str or None
        Name of the column that the labels came from.
    features : tuple of str or None
        Names of the inputs' columns, where the data has a header.
    input_scale : float
        What the inputs are to be multiplied with: 1/256 for uint8 pixels, else 1.
    name : str
        What to call the data in messages.
    """

    X: NDArray[Any]
    y: NDArray[np.int64] | None = None
    X_test: NDArray[Any] | None = None
    y_test: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    target: str | None = None
    input_scale: float = 1.0
    name: str = "data"
    features: tuple[str, ...] | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes (the highest label of both parts + 1), 0 without labels."""
        if self.classes is not None:
            return len(self.classes)
        return max((int(y.max()) + 1 for y in (self.y, self.y_test) if y is not None and y.size), default=0)

    def __repr__(self) -> str:
        test = "" if self.X_test is None else f", X_test {self.X_test.shape}"
        labels = f"{self.n_classes} classes" if self.n_classes else "no labels"
        return f"<Dataset {self.name!r}: X {self.X.shape} {self.X.dtype}{test}, {labels}>"


def assemble(
    name: str,
    X: NDArray[Any],
    y: NDArray[np.int64] | None,
    X_test: NDArray[Any] | None = None,
    y_test: NDArray[np.int64] | None = None,
    *,
    classes: tuple[str, ...] | None = None,
    target: str | None = None,
    features: tuple[str, ...] | None = None,
) -> Dataset:
    """Make a `Dataset` of checked arrays whose training and test part agree.

    Raises
    ------
    InputError
        If the two parts differ in width, or only one of them is uint8 (so they differ in scale).
    """
    if X_test is not None:
        if X_test.shape[1] != X.shape[1]:
            raise InputError(
                f"{name}: training rows have {X.shape[1]} values and test rows {X_test.shape[1]}; "
                "both parts must come from the same kind of data."
            )
        if (X_test.dtype == np.uint8) != (X.dtype == np.uint8):
            raise InputError(
                f"{name}: training inputs are {X.dtype} and test inputs {X_test.dtype}, so one part is "
                "raw pixels and the other is not; store both parts in the same dtype and scale."
            )
        common = np.result_type(X, X_test)
        X, X_test = X.astype(common, copy=False), X_test.astype(common, copy=False)
    scale = PIXEL_SCALE if X.dtype == np.uint8 else 1.0
    return Dataset(X, y, X_test, y_test, classes, target, scale, name, features)
