"""On which device an estimator computes, and what happens where that device's memory is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from gpunet import backends
from gpunet.backends import Backend
from gpunet.errors import DeviceError, not_enough_memory
from gpunet.sklearn import notices
from gpunet.sklearn.kinds import Kind

Result = TypeVar("Result")


def run(device: Any, kind: Kind | None, what: str, work: Callable[[Backend], Result]) -> Result:
    """Return what `work` does on the GPU of the arrays, or else on `device`.

    Where "auto" has chosen a GPU whose memory does not hold `what`, as several processes may share it, a warning says
    so and `work` is done again on the CPU.

    Raises
    ------
    DeviceError
        If the device can not be used or does not hold `what`, or if the arrays are on another one.
    """
    ops = _backend(device, kind)
    try:
        with ops.active():
            return work(ops)
    except MemoryError as error:  # CuPy's, too
        was_chosen = device == "auto" and ops.device != "cpu" and (kind is None or not kind.is_cuda)
        if not was_chosen:
            raise not_enough_memory(what, error) from error
        notices.warn(f"{ops.device} has not enough memory for {what} ({error}): the CPU does it.")
    return run("cpu", kind, what, work)  # where the error, and with it the GPU's arrays, are gone


def _backend(device: Any, kind: Kind | None) -> Backend:
    if kind is None or not kind.is_cuda:
        return backends.select(device)
    if device not in ("auto", "cuda", kind.device):
        raise DeviceError(f"X is on {kind.device}, but device={device!r}; move X, or pass device='auto'.")
    return backends.select(kind.device)
