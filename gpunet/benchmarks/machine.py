"""The machine that a benchmark runs on, and the environment of its workers."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

import gpunet
from gpunet import cpu


def describe() -> dict[str, Any]:
    """Return what every figure depends on: date, processor, cores, load, versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": cpu.usable_cores(),
        "load average at the start": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "gpunet": gpunet.__version__,
    }


def threads_of_this_process() -> int | None:
    """Return for how many threads `environment` set this process up; None: for its own choice."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return None if threads is None else int(threads)


def environment(device: str, threads: int | None, core_type: str | None) -> dict[str, str]:
    """Return the environment of a worker: thread pools and kernels are chosen when a library loads.

    Parameters
    ----------
    device : {"cpu", "cuda"}
    threads : int or None
        For every pool; None leaves each library its own choice.
    core_type : str or None
        OpenBLAS's kernels; None leaves it its own choice.
    """
    pools = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")  # NPROC: XLA's
    found = {name: value for name, value in os.environ.items() if name not in (*pools, "OPENBLAS_CORETYPE")}
    if threads is not None:
        found |= dict.fromkeys(pools, str(threads))
    if core_type is not None:
        found["OPENBLAS_CORETYPE"] = core_type
    if device == "cpu":
        found["JAX_PLATFORMS"] = "cpu"
    else:  # several libraries share one device's memory, and none uses TF32
        found |= {
            "JAX_PLATFORMS": "cuda",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "CUPY_TF32": "0",
            "NVIDIA_TF32_OVERRIDE": "0",
        }
    return found


def _cpuinfo(field: str) -> str:
    """Return a field of the first processor, "" where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field), "")
