"""How a backend is chosen."""

from __future__ import annotations

import functools
import logging
import re
from types import ModuleType
from typing import Any

from gpunet.backends.array_api import ArrayAPIBackend
from gpunet.backends.base import Backend
from gpunet.backends.cupy import CuPyBackend, DeviceFullError
from gpunet.backends.numpy import NumPyBackend
from gpunet.errors import DeviceError, InputError

logger = logging.getLogger("gpunet")


def select(device: Any = "auto") -> Backend:
    """Return a backend for `device`.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, module or Backend
        "auto" takes the GPU if a real kernel compiles and runs on it, else the CPU, and says so once, with
        the reason. A module is an Array API namespace, such as ``torch`` or ``array_api_strict``.

    Raises
    ------
    DeviceError
        If a CUDA device is asked for by name and can not be used.
    InputError
        If `device` is none of these.
    """
    if isinstance(device, Backend):
        return device
    if isinstance(device, ModuleType):
        return ArrayAPIBackend(device)
    match = re.fullmatch(r"cuda(?::(\d+))?", device) if isinstance(device, str) else None
    if match is None and not (isinstance(device, str) and device in ("auto", "cpu")):
        raise InputError(
            f"unknown device {device!r}. Known: 'auto', 'cpu', 'cuda', 'cuda:N', or an Array API namespace "
            "such as torch or array_api_strict."
        )
    if device == "cpu":
        return NumPyBackend()
    if match is None:
        reason = why_not_cuda()
        if reason is None:
            try:
                return CuPyBackend(0)
            except DeviceError as error:  # others may have taken its memory meanwhile
                reason = str(error)
        _say_once(f"gpunet: computing on the CPU, because {reason}")
        return NumPyBackend()
    try:
        return CuPyBackend(int(match[1] or 0))
    except DeviceError as error:
        raise DeviceError(f"device={device!r} can not be used: {error}. device='cpu' always works.") from error


def why_not_cuda() -> str | None:
    """Return why "auto" does not take the GPU, or None if it does."""
    try:
        return lasting_reason()
    except DeviceFullError as error:
        return str(error)


@functools.cache
def lasting_reason() -> str | None:
    """Return the same, asked once per process, since it stays so.

    Raises
    ------
    DeviceFullError
        If it may be otherwise the next time.
    """
    try:
        CuPyBackend(0)
    except DeviceFullError:
        raise
    except DeviceError as error:
        return str(error)
    return None


@functools.cache
def _say_once(message: str) -> None:
    logger.warning(message)
