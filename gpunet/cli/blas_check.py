"""Whether OpenBLAS runs kernels for an older CPU than this one, and what the right ones would give.

OpenBLAS chooses as it is loaded, so that each choice is measured in a Python process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from gpunet import cpu
from gpunet.backends import blas
from gpunet.backends.numpy import NumPyBackend

#: Matrix products (n, k) (k, m) to time: the largest of a small network's step, and one that fills the caches.
_PRODUCTS = {"small": (30, 784, 10), "large": (512, 512, 512)}
_ROUNDS = 3
_SECONDS = 0.1


def compare_kernels() -> dict[str, Any] | None:
    """Return which kernels OpenBLAS takes and how much faster those for this CPU are.

    Returns
    -------
    dict or None
        ``taken``: what OpenBLAS takes in this environment, but for what the command itself has set; ``best``:
        OPENBLAS_CORETYPE for this CPU; ``speedup``: by product, "small" and "large", None if `taken` is as good
        or could not be measured.
        None where SciPy's BLAS is no OpenBLAS or the CPU is not known.
    """
    best = cpu.best_core_type(cpu.flags())
    if best is None:
        return None
    as_it_is = dict(os.environ)
    if cpu.chosen is not None:
        del as_it_is[cpu.CORE_TYPE]
    first = _in_new_process(as_it_is)
    if first is None or first["kernels"] is None:
        return None
    result = {"taken": first["kernels"], "best": best, "speedup": None}
    if cpu.is_as_good(first["kernels"], best):
        return result
    right = {**as_it_is, cpu.CORE_TYPE: best}
    runs = [(first, _in_new_process(right))]
    runs += [(_in_new_process(as_it_is) or first, _in_new_process(right)) for _ in range(_ROUNDS - 1)]
    pairs = [(taken, better) for taken, better in runs if better is not None]
    if pairs:
        result["speedup"] = {
            name: min(taken[name] for taken, _ in pairs) / min(better[name] for _, better in pairs)
            for name in _PRODUCTS
        }
    return result


def advice(found: dict[str, Any]) -> str:
    """Return what `compare_kernels` found, in words, with the line to set."""
    taken, best, speedup = found["taken"], found["best"], found["speedup"]
    if speedup is None:
        return f"OpenBLAS takes {taken} kernels by itself, which are right for this CPU."
    who = "gpunet's commands do; for Python programs set it" if cpu.chosen else "Set it"
    return (
        f"OpenBLAS takes {taken} kernels, though this CPU has more. With those for {best} small matrix products are "
        f"{speedup['small']:.1f} times as fast, large ones {speedup['large']:.1f} times.\n"
        f"{who} before Python starts:\n"
        f"  export {cpu.CORE_TYPE}={best}"
    )


def measure() -> dict[str, Any]:
    """Return SciPy's kernels and the seconds that each of the products takes on one thread."""
    kernels = [pool["kernels"] for pool in blas.loaded() if pool["of_scipy"]]
    result: dict[str, Any] = {"kernels": kernels[0] if kernels else None}
    ops = NumPyBackend()
    with ops.threads(1):
        for name, (n, k, m) in _PRODUCTS.items():
            a, b = np.ones((n, k), np.float32), np.ones((m, k), np.float32).T
            out = ops.empty((m, n), "float32").T
            result[name] = _seconds_of(lambda a=a, b=b, out=out: ops.matmul(a, b, out))
    return result


def _seconds_of(call: Any) -> float:
    """Return the seconds of the quickest of many calls."""
    quickest = float("inf")
    end = time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < end:
        call()
        quickest = min(quickest, time.perf_counter() - started)
    return quickest


def _in_new_process(environment: dict[str, str]) -> dict[str, Any] | None:
    """Return what `measure` says in a Python process with this environment; None if it can not be started."""
    code = "import json; from gpunet.cli.blas_check import measure; print(json.dumps(measure()))"
    try:
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=True
        )
        found: dict[str, Any] = json.loads(run.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return found
