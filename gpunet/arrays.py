"""Checks of the inputs that users hand in: what goes on is finite, numeric, of the right shape and on the device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunet import checks
from gpunet.backends import Array, Backend
from gpunet.errors import InputError

_WHOLE = ("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def rows(ops: Backend, X: Any, n_in: int, dtype: str, what: str = "X") -> Array:
    """Return X, shape (m, n_in), checked and where it is: on the device or in the host's memory."""
    x = numeric(ops, X, what)
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
    check_range(ops, x, dtype, what)
    return x


def columns(ops: Backend, x: Any, n: int, dtype: str, what: str) -> Array:
    """Return x, of shape (n,), (n, 1) or (n, m) as in the book, as rows (m, n) on the device."""
    x = numeric(ops, x, what)
    if x.ndim == 1:
        x = x[:, None]
    if x.ndim != 2 or x.shape[0] != n or x.shape[1] == 0:
        raise InputError(
            f"{what} must have shape ({n},), ({n}, 1) or ({n}, m), one column an example, got {tuple(x.shape)}."
        )
    check_range(ops, x, dtype, what)
    return ops.asarray(x.T, dtype)


def numeric(ops: Backend, x: Any, what: str, text_advice: str = "") -> Any:
    """Return x as an array of the backend, if it is one, or a NumPy array of real numbers."""
    if isinstance(x, np.ndarray) or not ops.is_native(x):
        return checks.real_array(x, what, text_advice)
    if kind(x) not in _WHOLE and not kind(x).startswith("float"):
        raise InputError(f"{what} must hold real numbers, got dtype {x.dtype}.")
    return ops.asarray(x)  # refuses one on another device


def to_device(ops: Backend, x: Any, dtype: str) -> Array:
    """Return x on the device: uint8 as it is, everything else as `dtype`."""
    return ops.asarray(x, None if kind(x) == "uint8" else dtype)


def nbytes_on_device(x: Any, dtype: str) -> int:
    """Return how many bytes `to_device` needs for x."""
    return int(math.prod(x.shape)) * (1 if kind(x) == "uint8" else np.dtype(dtype).itemsize)


def check_range(
    ops: Backend, x: Any, dtype: str, what: str, low: float = -np.inf, high: float = np.inf, advice: str = ""
) -> None:
    """Refuse NaN, infinity, what `dtype` can not hold, and what lies outside low ... high."""
    limit = float(np.finfo(dtype).max)
    low, high = max(low, -limit), min(high, limit)
    if kind(x) in _WHOLE and (low, high) == (-limit, limit):
        return
    xp = np if isinstance(x, np.ndarray) else ops.xp
    if kind(x) == "bool" or (float(xp.min(x)) >= low and float(xp.max(x)) <= high):  # NaN anywhere makes both NaN
        return
    host = np.asarray(x if isinstance(x, np.ndarray) else ops.to_numpy(x), dtype=np.longdouble)
    position = tuple(int(i) for i in np.argwhere(~((host >= low) & (host <= high)))[0])
    value = float(host[position])
    if np.isfinite(value) and abs(value) <= limit:
        raise InputError(f"{what} has the value {value:g} at {list(position)}, but {advice}")
    raise InputError(
        f"{what} has the value {value} at {list(position)}; every value must be finite and at most "
        f"{limit:.4g} in size ({dtype}). Remove or fill such values first."
    )


def kind(x: Any) -> str:
    """Return the name of an array's dtype, such as "float32", in any library and byte order."""
    return str(getattr(x.dtype, "name", x.dtype)).rpartition(".")[2]
