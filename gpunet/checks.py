"""Checks of what users hand in: each returns the clean value or raises `InputError`."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.errors import InputError


def one_of(value: Any, options: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `options`; otherwise name the nearest one."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    near = difflib.get_close_matches(str(value).lower(), options, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"unknown {what} {value!r:.60}.{hint} Known: {', '.join(map(repr, options))}.")


def whole_number(value: Any, what: str, least: int) -> int:
    """Return `value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InputError(f"{what} must be a whole number of at least {least}, got {value!r}.")
    return int(value)


def positive_int(value: Any, what: str) -> int:
    """Return `value` as an int of at least 1."""
    return whole_number(value, what, 1)


def positive_float(value: Any, what: str) -> float:
    """Return `value` as a finite float above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{what} must be a number above 0, got {value!r}.")
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number) or number <= 0:
        raise InputError(f"{what} must be a finite number above 0, got {value!r:.60}.")
    return number


def float_from_zero(value: Any, what: str) -> float:
    """Return `value` as a finite float of at least 0."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and value == 0:
        return 0.0
    try:
        return positive_float(value, what)
    except InputError:
        raise InputError(f"{what} must be a finite number of at least 0, got {value!r:.60}.") from None


def share(value: Any, what: str) -> float:
    """Return `value` as a float of at least 0 and below 1."""
    number = float_from_zero(value, what)
    if number >= 1:
        raise InputError(f"{what} must be at least 0 and below 1, got {value!r:.60}.")
    return number


def from_0_to_1(value: Any, what: str) -> float:
    """Return `value` as a float of at least 0 and at most 1."""
    number = float_from_zero(value, what)
    if number > 1:
        raise InputError(f"{what} must be from 0 to 1, got {value!r:.60}.")
    return number


def between_0_and_1(value: Any, what: str) -> float:
    """Return `value` as a float above 0 and below 1."""
    number = positive_float(value, what)
    if number >= 1:
        raise InputError(f"{what} must be a number between 0 and 1, got {value!r:.60}.")
    return number


def function(given: Any, arguments: int, what: str, example: str) -> None:
    """Refuse what can not be called with that many arguments."""
    if not callable(given):
        raise InputError(f"{what} must be a function such as `{example}`, got {given!r}.")
    try:
        inspect.signature(given).bind(*[None] * arguments)
    except TypeError:
        raise InputError(f"{what} must take {arguments} arguments, as in `{example}`.") from None
    except ValueError:  # some compiled functions have no signature to look at
        pass


def real_array(x: Any, what: str, text_advice: str = "") -> npt.NDArray[Any]:
    """Return x as a NumPy array of real numbers, of whatever shape; True and False become uint8.

    `text_advice` is added to the error for text.
    """
    if hasattr(x, "toarray") and hasattr(x, "nnz"):
        raise InputError(f"{what} is a sparse matrix; pass {what}.toarray().")
    if np.ma.is_masked(x):
        raise InputError(f"{what} has masked values; fill or remove them first.")
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists; arrays on another device, by library
        raise InputError(f"{what} can not be read as an array of numbers: {str(error).rstrip('.')}.") from error
    if array.dtype == object:  # such as a table's mixed columns
        odd = [v for v in array.flat if v is None or isinstance(v, str | bytes)]
        if odd:
            raise InputError(f"{what} must hold numbers only, got {odd[0]!r:.60}.{text_advice}")
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{what} must hold numbers only: {str(error).rstrip('.')}.{text_advice}") from error
    if array.dtype.kind not in "biuf":
        advice = text_advice if array.dtype.kind in "US" else ""
        raise InputError(f"{what} must hold real numbers, got dtype {array.dtype}.{advice}")
    return array.view(np.uint8) if array.dtype == bool else array
