"""All verbs and trainings of two backends."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from gpunet import checks
from gpunet.backends import Backend, select
from gpunet.errors import InputError
from gpunet.parity.cases import cases
from gpunet.parity.results import Report, Result
from gpunet.parity.trainings import calibrate, compare_training, compiles, tasks
from gpunet.parity.verbs import compare_case

DTYPES = ("float32", "float64")


def compare(
    device: Any,
    against: Any = "cpu",
    *,
    dtype: str = "all",
    steps: int = 100,
    large: bool = True,
    on_result: Callable[[Result], object] | None = None,
) -> Report:
    """Compare two backends with each other and with a reference: every verb, then trainings.

    Parameters
    ----------
    device, against : {"cpu", "cuda", "cuda:1", ...}, module or Backend
        As `Network` takes them, but for "auto", which would compare the CPU with itself where there is no GPU.
    dtype : {"float32", "float64", "all"}
    steps : int
        Of each training; 0 leaves the trainings out.
    large : bool
        Whether to add shapes that fill a large device.
    on_result : callable, optional
        Called with each `Row` and `Training` as it is found.

    Returns
    -------
    Report

    Raises
    ------
    DeviceError
        If a device can not be used; the message tells the reason.

    Examples
    --------
    >>> report = compare("cpu", "cpu", dtype="float32", steps=2, large=False)
    >>> report.passed
    True
    """
    dtypes = DTYPES if checks.one_of(dtype, (*DTYPES, "all"), "dtype") == "all" else (dtype,)
    pair = _open(device), _open(against)
    report = Report(pair[0].name, pair[1].name, [], [])
    for one in dtypes:
        for case in cases(one, large):
            row = compare_case(case, *pair)
            report.rows.append(row)
            if on_result is not None:
                on_result(row)
    for one, task in product(dtypes, tasks(steps) if steps else []):
        wanted = calibrate(task, one)
        engines = [(False, False), tuple(compiles(ops, task, one) for ops in pair)]
        for compiled in dict.fromkeys(engines):
            training = compare_training(task, one, *pair, compiled, wanted)
            report.trainings.append(training)
            if on_result is not None:
                on_result(training)
    return report


def _open(device: Any) -> Backend:
    if isinstance(device, str) and device == "auto":
        raise InputError("'auto' would hide which device is compared; name it: 'cpu', 'cuda', 'cuda:N', ...")
    return select(device)
