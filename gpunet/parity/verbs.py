"""One verb on one input, on both backends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends import Backend
from gpunet.parity import reference
from gpunet.parity.cases import Caller, Case
from gpunet.parity.reference import Bounded
from gpunet.parity.results import Row, off, told

Values = npt.NDArray[Any]


def compare_case(case: Case, device: Backend, against: Backend) -> Row:
    """Run a case on both backends and compare."""
    results, notes = [], []
    for ops in (device, against):
        try:
            results.append(Caller(ops, case.dtype).run(case.run))
            notes.append("")
        except Exception as error:  # a kernel that does not compile or run is a finding, not the end of the report
            results.append({})
            notes.append(told(error))
    parts = [_compare_part(part, wanted, case.dtype, *results) for part, wanted in case.expected().items()]
    worst = max(parts, key=lambda part: max(part["error"], part["error_against"], part["difference"]))
    return Row(
        verb=case.verb,
        case=case.name,
        shape="x".join(map(str, case.shape)),
        dtype=case.dtype,
        off=off(worst["error"], worst["error_against"]),
        note="; ".join(filter(None, notes)),
        **worst,
    )


def _compare_part(
    part: str, wanted: Bounded, dtype: str, got: Mapping[str, Values], got_against: Mapping[str, Values]
) -> dict[str, Any]:
    value, tolerance = wanted.value, wanted.tolerance(dtype)
    ulp = float(np.spacing(np.abs(value).max().astype(dtype)))
    missing = np.full(value.shape, np.nan)
    x, x_against = (result.get(part, missing) for result in (got, got_against))
    error, error_against = (reference.size(v - value) for v in (x, x_against))
    difference = reference.size(x.astype(np.float64) - x_against)
    return {
        "part": part,
        "ulp": _largest(error / ulp),
        "ulp_against": _largest(error_against / ulp),
        "error": _largest(error / tolerance),
        "error_against": _largest(error_against / tolerance),
        "difference": _largest(difference / (2 * tolerance)),
    }


def _largest(x: Values) -> float:
    largest = float(x.max())
    return math.inf if math.isnan(largest) else largest
