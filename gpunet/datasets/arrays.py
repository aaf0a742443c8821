"""From a file's bytes to checked arrays: shapes that fit, finite inputs, whole labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import FileFormatError, InputError

#: Values that are looked at together.
_PIECE = 2**20
_MAX_DIMS = 32  # what every NumPy can reshape to


def check_claim(shape: Sequence[int], itemsize: int, n_bytes: int, what: str) -> None:
    """Compare the shape that a header claims with the bytes that are there, allocating nothing.

    Raises
    ------
    FileFormatError
        If the shape is empty, has too many axes, or needs more or fewer bytes.
    """
    if not 1 <= len(shape) <= _MAX_DIMS or min(shape) < 1:
        raise FileFormatError(
            f"{what}: the header claims the shape {_show(shape)}; expected 1 to {_MAX_DIMS} axes, each at "
            "least 1. The file holds no data or is damaged; write it again."
        )
    needed = math.prod(shape) * itemsize
    if needed != n_bytes:
        state = "cut short" if needed > n_bytes else "followed by something else"
        raise FileFormatError(
            f"{what}: the header claims {_show(shape)} values of {itemsize} bytes, {_count(needed)} bytes in "
            f"all, but {n_bytes} bytes are there. The data is {state}; fetch or write the file again."
        )


def from_bytes(
    raw: bytes | bytearray | memoryview,
    dtype: np.dtype[Any],
    shape: Sequence[int],
    what: str,
    order: Literal["C", "F"] = "C",
) -> NDArray[Any]:
    """Return `raw` as a writable array of native byte order, after `check_claim`.

    It is copied only where its bytes do not do: in another order, read-only, or not aligned.
    """
    check_claim(shape, dtype.itemsize, len(raw), what)
    flat = np.frombuffer(raw, dtype=dtype)
    usable = dtype.isnative and flat.flags.writeable and flat.flags.aligned
    return flat.astype(dtype.newbyteorder("="), copy=not usable).reshape(tuple(shape), order=order)


def memory_of(dtype: np.dtype[Any], *, labels: bool = False) -> int:
    """Return how many bytes each value of a file takes at most until it is an input, or a label."""
    own = 2 * dtype.itemsize  # as it lies in the file, and in another order
    if labels:
        return own + 8 + 4  # int64, and what is compared
    if dtype.kind == "f":
        return own + 4 + 1  # float32, and whether it is finite
    return own if dtype == np.uint8 else own + (4 if dtype.itemsize <= 2 else 8)


def as_inputs(values: NDArray[Any], what: str, *, keep_float64: bool = False) -> NDArray[Any]:
    """Return examples as rows in a dtype that a network takes.

    Parameters
    ----------
    values : ndarray of shape (N, ...)
        All axes after the first are flattened.
    what : str
        The file and part, for messages.
    keep_float64 : bool
        Whether float64 stays; otherwise it becomes float32.

    Returns
    -------
    ndarray of shape (N, n_in)
        uint8 stays; other whole numbers become float32 where that is exact, else float64;
        other floats become float32.

    Raises
    ------
    InputError
        If the values are not numbers, not finite, too large for float32, none, or have one axis.
    """
    if values.dtype.kind not in "biuf":
        raise InputError(f"{what}: inputs are {values.dtype}; expected whole or floating-point numbers.")
    if values.ndim < 2:
        raise InputError(
            f"{what}: inputs have the shape {values.shape}; expected one row per example, (N, n_in). "
            "For one value per example store X.reshape(-1, 1)."
        )
    if values.size == 0:
        raise InputError(f"{what}: inputs have the shape {values.shape}, which is empty; expected data.")
    rows = values.reshape(len(values), -1)
    if rows.dtype == np.uint8:
        return np.ascontiguousarray(rows)
    if rows.dtype.kind in "biu":
        narrow = rows.astype(np.float32, order="C")
        if rows.dtype.itemsize <= 2 or np.equal(narrow, rows).all():  # compared in float64, a piece at a time
            return narrow
        del narrow
        return rows.astype(np.float64, order="C")
    _require_finite(rows, what)
    dtype = np.float64 if keep_float64 and rows.dtype.itemsize >= 8 else np.float32
    with np.errstate(over="ignore"):  # looked for below, with a better message
        cast = rows.astype(dtype, order="C", copy=False)
    if cast is not rows and not np.isfinite(cast).all():
        raise InputError(
            f"{what}: the largest magnitude is {np.abs(rows).max():g}, beyond {np.dtype(dtype)}'s "
            f"{np.finfo(dtype).max:g}. Rescale the inputs"
            + (", or store them as float64 in a .npz file." if dtype is np.float32 else ".")
        )
    return cast


def as_labels(values: NDArray[Any], n_rows: int, what: str) -> NDArray[np.int64]:
    """Return labels as class indices.

    Parameters
    ----------
    values : ndarray of shape (N,) or (N, 1)
        Whole numbers >= 0 of any numeric dtype.
    n_rows : int
        Number of examples that they belong to.
    what : str
        The file and part, for messages.

    Returns
    -------
    ndarray of shape (N,), int64

    Raises
    ------
    InputError
        If there is not one whole number >= 0 per example.
    """
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{what}: labels are {values.dtype}; expected whole numbers from 0. Text labels are mapped "
            "to classes in a .csv file."
        )
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise InputError(
            f"{what}: labels have the shape {values.shape}; expected ({n_rows},), one whole number per "
            "example. Store one-hot rows as y.argmax(axis=1)."
        )
    if len(values) != n_rows:
        raise InputError(f"{what}: {len(values)} labels for {n_rows} inputs; expected one label per input.")
    if values.dtype.kind == "f":
        # NaN fails every comparison, so it counts as bad; 2**63 is the first value beyond int64.
        good = (values >= 0) & (values < np.float64(2**63)) & (np.floor(values) == values)
    else:
        good = (values >= 0) & (values <= np.iinfo(np.int64).max)
    if not good.all():
        row = int(good.argmin())
        raise InputError(
            f"{what}: the label of row {row} (from 0) is {values[row]}; expected a whole number from 0 up."
        )
    return values.astype(np.int64)


def _require_finite(rows: NDArray[Any], what: str) -> None:
    step = max(1, _PIECE // rows.shape[1])
    for start in range(0, len(rows), step):
        finite = np.isfinite(rows[start : start + step])
        if not finite.all():
            row, column = np.unravel_index(int(finite.argmin()), finite.shape)
            row += start
            raise InputError(
                f"{what}: row {row}, value {column} (both from 0) is {rows[row, column]}; inputs must be finite. "
                "Drop or fill such rows first."
            )


def _show(shape: Sequence[int]) -> str:
    """Spell a shape, of which a hostile header can claim very many axes."""
    return f"({' x '.join(map(_count, shape[:6]))}{' x ...' if len(shape) > 6 else ''})"


def _count(n: int) -> str:
    """Spell a count; Python refuses to print numbers of very many digits."""
    return str(n) if abs(n) < 10**18 else "10**18 or more"
