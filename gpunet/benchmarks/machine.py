"""The machine that a benchmark runs on, and the environment of its workers."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gpunet

#: What OpenBLAS's kernels for AVX-512 need. It picks them by the processor's model, and newer ones get AVX2's.
_AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def describe() -> dict[str, Any]:
    """Return what every figure depends on: date, processor, cores, load, versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "load average at the start": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "gpunet": gpunet.__version__,
    }


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def best_core_type(flags: Iterable[str] | None = None) -> str | None:
    """Return the OPENBLAS_CORETYPE that is best for a processor with these flags (this one); None: the default."""
    if flags is None:
        flags = _cpuinfo("flags").split()
    return "SkylakeX" if set(flags) >= _AVX512 else None


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
