"""What every benchmark shares: contenders interleaved in one run, medians, and the machine they ran on."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy

import gpunet

RESULTS = Path(__file__).with_name("results")


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int, calls: int = 1) -> dict[str, list[float]]:
    """Time each contender in every round, in turn; return the seconds a call took, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(-2, rounds):  # two rounds to warm up
        for name, call in contenders.items():
            started = time.perf_counter()
            for _ in range(calls):
                call()
            if round_number >= 0:
                seconds[name].append((time.perf_counter() - started) / calls)
    return seconds


def quartiles(seconds: list[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, median, high


def median_ratio(slower: list[float], faster: list[float]) -> float:
    """Return how many times longer `slower` took, the median over the rounds, each pair run side by side."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, versions, BLAS, its kernels and threads."""
    found: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "gpunet": gpunet.__version__,
    }
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        found["blas"] = "unknown (threadpoolctl is not installed)"
    else:
        found["blas"] = [
            f"{pool['internal_api']} {pool.get('version')} {pool.get('architecture')}, "
            f"{pool['num_threads']} thread(s)"
            for pool in threadpool_info()
        ]
    return found


def print_machine(found: Mapping[str, Any]) -> None:
    """Print what `machine` found."""
    for name, value in found.items():
        print(f"{name}: {value if isinstance(value, str) else '; '.join(value)}")
    print()


def write_results(name: str, content: Mapping[str, Any]) -> Path:
    """Write the figures as JSON to ``bench/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
