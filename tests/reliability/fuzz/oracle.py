"""What every data set must be, and how values in a file become inputs and labels, said once more, value by value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from reliability.fuzz.target import require

from gpunet.datasets import Dataset


def check_dataset(result: Any) -> None:
    """Check what holds for a data set from any file."""
    require(type(result) is Dataset, f"no data set but {type(result).__name__}")
    for X, y in ((result.X, result.y), (result.X_test, result.y_test)):
        if X is None:
            require(y is None, "labels without inputs")
            continue
        require(X.dtype in (np.uint8, np.float32, np.float64) and X.dtype.isnative, f"inputs of {X.dtype}")
        require(X.ndim == 2 and X.size > 0, f"inputs of shape {X.shape}")
        require(bool(X.flags.writeable and X.flags.c_contiguous), "inputs that are not writable rows")
        require(bool(np.isfinite(X).all()), "inputs that are not finite")
        require(X.dtype == result.X.dtype and X.shape[1] == result.X.shape[1], "two parts that differ")
        if y is not None:
            require(y.dtype == np.int64 and y.shape == (len(X),), f"labels {y.dtype} of shape {y.shape}")
            require(int(y.min()) >= 0, "labels below 0")
            require(result.classes is None or int(y.max()) < len(result.classes), "labels beyond the classes")
    require(result.input_scale == (1 / 256 if result.X.dtype == np.uint8 else 1.0), "the input scale")


def whole_dtype(values: Sequence[float]) -> np.dtype[Any]:
    """Return float32 if it holds these whole numbers exactly, else float64."""
    exact = all(float(np.float32(value)) == value for value in values)
    return np.dtype("f4") if exact else np.dtype("f8")


def check_inputs(X: Any, values: Sequence[float], rows: int, dtype: np.dtype[Any]) -> None:
    """Check that inputs are these values, in rows, rounded to `dtype`."""
    require(X.dtype == dtype, f"inputs of {X.dtype}, not {dtype}")
    require(len(X) == rows and X.size == len(values), f"inputs of shape {X.shape} from {len(values)} values")
    for mine, theirs in zip(X.ravel().tolist(), values, strict=True):
        if dtype == np.float32:
            with np.errstate(over="ignore"):
                theirs = float(np.float32(theirs))
        require(math.isfinite(theirs), f"the value {theirs}")
        require(mine == theirs, f"{mine} where {theirs} stands")


def check_labels(y: Any, values: Sequence[float]) -> None:
    """Check that labels are these values, whole numbers from 0."""
    require(y is not None and len(y) == len(values), "not one label for each value")
    for mine, theirs in zip(y.tolist(), values, strict=True):
        require(math.isfinite(theirs) and theirs >= 0 and theirs == int(theirs), f"the label {theirs}")
        require(mine == int(theirs), f"the label {mine} where {theirs} stands")
