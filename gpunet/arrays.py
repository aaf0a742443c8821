"""Checks of the arrays that users hand in: what goes on is finite, numeric and of the right shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array, Backend
from gpunet.errors import InputError


def rows(ops: Backend, X: Any, n_in: int, dtype: str, what: str = "X") -> Array:
    """Return X, shape (m, n_in), on the device: uint8 as it is, everything else as `dtype`."""
    x = _numeric(ops, X, what)
    if x.ndim != 2:
        advice = (
            f"flatten each example with {what}.reshape(len({what}), -1)"
            if x.ndim > 2
            else f"one example alone is {what}.reshape(1, -1)"
        )
        raise InputError(
            f"{what} must have shape (examples, {n_in}), one row an example, got {tuple(x.shape)}; {advice}."
        )
    if x.shape[0] == 0:
        raise InputError(f"{what} is empty: shape {tuple(x.shape)} has no examples.")
    if x.shape[1] != n_in:
        raise InputError(f"{what} has {x.shape[1]} columns, but the network has {n_in} inputs (sizes[0]).")
    _check_range(ops, x, dtype, what)
    return ops.asarray(x, None if _kind(x) == "uint8" else dtype)


def columns(ops: Backend, x: Any, n: int, dtype: str, what: str) -> Array:
    """Return x, of shape (n,), (n, 1) or (n, m) as in the book, as rows (m, n) on the device."""
    x = _numeric(ops, x, what)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[0] != n or x.shape[1] == 0:
        raise InputError(
            f"{what} must have shape ({n},), ({n}, 1) or ({n}, m), one column an example, got {tuple(x.shape)}."
        )
    _check_range(ops, x, dtype, what)
    return ops.asarray(x.T, dtype)


def targets(ops: Backend, y: Any, m: int, n_out: int, dtype: str, what: str = "y") -> Array:
    """Return y as targets (m, n_out) on the device: whole-number labels of shape (m,) become one-hot rows.

    With one output, y of shape (m,) is taken as it is.
    """
    y = _numeric(ops, y, what)
    if y.ndim == 0 or y.shape[0] != m:
        raise InputError(f"{what} has {_length(y)} entries for {m} examples; one is needed for each.")
    if y.ndim == 1 and n_out == 1:
        y = y[:, None]
    if y.ndim == 1:
        return ops.asarray(one_hot(labels(ops.to_numpy(y) if ops.is_native(y) else y, n_out, what), n_out))
    if tuple(y.shape) != (m, n_out):
        raise InputError(
            f"{what} must have shape ({m},), the classes as whole numbers from 0 to {n_out - 1}, or ({m}, {n_out}), "
            f"got {tuple(y.shape)}."
        )
    _check_range(ops, y, dtype, what)
    return ops.asarray(y, None if _kind(y) == "uint8" else dtype)


def labels(y: npt.NDArray[Any], n_out: int, what: str) -> npt.NDArray[np.int64]:
    """Return class labels (m,) as int64, all in 0 ... n_out - 1."""
    y = np.asarray(y)
    whole = y.astype(np.int64) if np.isfinite(y).all() else None
    if whole is None or (whole != y).any():
        bad = y[np.flatnonzero(~np.isfinite(y) | (y != np.floor(y)))[0]]
        raise InputError(
            f"{what} has the label {bad}, but labels are whole numbers from 0 to {n_out - 1}. For targets that "
            f"are not classes, give {what} the shape (examples, {n_out})."
        )
    if whole.size and (whole.min() < 0 or whole.max() >= n_out):
        bad = int(whole[(whole < 0) | (whole >= n_out)][0])
        raise InputError(
            f"{what} has the label {bad}, but the network's {n_out} outputs take labels from 0 to {n_out - 1}. "
            f"Labels of other values: y = numpy.unique({what}, return_inverse=True)[1]; more classes: a larger "
            "last size."
        )
    return whole


def one_hot(labels: npt.NDArray[np.int64], n_out: int) -> npt.NDArray[np.uint8]:
    """Return a row of n_out zeros with a one at its label for each label."""
    encoded = np.zeros((len(labels), n_out), dtype=np.uint8)
    encoded[np.arange(len(labels)), labels] = 1
    return encoded


def book_pairs(pairs: Any, what: str) -> tuple[npt.NDArray[Any], list[Any]]:
    """Split the book's list of (x, y) tuples into the inputs as columns (n_in, m) and the list of the y."""
    if not isinstance(pairs, Iterable):
        raise InputError(f"{what} must be a list of (x, y) tuples, got {type(pairs).__name__}.")
    pairs = list(pairs)
    if not pairs:
        raise InputError(f"{what} is empty; it must be a list of at least one (x, y) tuple.")
    try:
        xs, ys = zip(*pairs, strict=True)
    except (TypeError, ValueError):
        raise InputError(f"{what} must be a list of (x, y) tuples, got entries such as {pairs[0]!r:.60}.") from None
    return stack_columns(xs, f"the x of {what}"), list(ys)


def stack_columns(vectors: Iterable[Any], what: str) -> npt.NDArray[Any]:
    """Return vectors of shape (n,) or (n, 1) as the columns of a matrix (n, m)."""
    flat = [np.asarray(v).reshape(-1) for v in vectors]
    odd = next((v for v in flat if v.shape != flat[0].shape), None)
    if odd is not None:
        raise InputError(f"{what} differ in length: {len(flat[0])} and {len(odd)}.")
    return np.stack(flat).T


def _numeric(ops: Backend, x: Any, what: str) -> Any:
    """Return x as a native array of the backend or a NumPy array of numbers."""
    if ops.is_native(x) and not isinstance(x, np.ndarray):
        return x
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise InputError(f"{what} is a sparse matrix; pass {what}.toarray().")
    try:
        x = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} can not be read as an array of numbers: {error}.") from error
    if x.dtype == object:  # such as a table's mixed columns
        try:
            x = x.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{what} must hold numbers only: {error}.") from error
    if x.dtype.kind not in "biuf":
        advice = "; encode labels with numpy.unique(y, return_inverse=True)[1]" if x.dtype.kind in "US" else ""
        raise InputError(f"{what} must hold real numbers, got dtype {x.dtype}{advice}.")
    return x.view(np.uint8) if x.dtype == bool else x


def _check_range(ops: Backend, x: Any, dtype: str, what: str) -> None:
    if _kind(x) in ("uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64"):
        return
    xp = np if isinstance(x, np.ndarray) else ops.xp
    if not _kind(x).startswith("float"):
        raise InputError(f"{what} must hold real numbers, got dtype {x.dtype}.")
    low, high = float(xp.min(x)), float(xp.max(x))  # NaN anywhere makes both NaN
    limit = float(np.finfo(dtype).max)
    if np.isfinite(low) and np.isfinite(high) and max(-low, high) <= limit:
        return
    finite = xp.isfinite(x) & (xp.abs(x) <= limit)
    first = np.argwhere(~np.asarray(finite if isinstance(x, np.ndarray) else ops.to_numpy(finite)))[0]
    position = tuple(int(i) for i in first)
    raise InputError(
        f"{what} has the value {float(x[position])} at {list(position)}; every value must be finite and at most "
        f"{limit:.4g} in size ({dtype}). Remove or fill such values first."
    )


def _kind(x: Any) -> str:
    """Return the name of an array's dtype, such as "float32", in any library."""
    return str(x.dtype).rpartition(".")[2]


def _length(y: Any) -> int:
    return 1 if y.ndim == 0 else int(y.shape[0])
