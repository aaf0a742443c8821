"""The time of a step of SGD: the contenders on five networks, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from gpunet.benchmarks import machine
from gpunet.benchmarks.arena import Arena, Setting, Timing, busy
from gpunet.benchmarks.contenders import GPUNET, PEAKS
from gpunet.benchmarks.problem import Problem

#: With so many steps an epoch that it takes the fastest contenders some 20 ms.
PROBLEMS = (
    Problem((784, 30, 10), 10, 3000),
    Problem((784, 100, 10), 10, 2000),
    Problem((784, 100, 10), 100, 200),
    Problem((784, 512, 512, 10), 128, 30),
    Problem((784, 2048, 2048, 10), 512, 2),
)
#: What a contender's outputs may be off after an epoch.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}


def run(
    problems: Sequence[Problem],
    settings: Sequence[Setting],
    rounds: int,
    busy_cores: int = 0,
    least_seconds: float = 0.02,
    tell: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Time a step of each problem in each setting.

    Returns
    -------
    dict
        JSON-ready: the machine, and for each problem its rows, fastest first, and who took no part and why.
    """
    found: dict[str, Any] = {
        "question": "step",
        "machine": {**machine.describe(), "cores kept busy by others": busy_cores},
        "rounds": rounds,
        "problems": [],
    }
    with Arena(settings) as arena, busy(busy_cores):
        for problem in problems:
            tell(f"{problem.name}, {problem.dtype}, {problem.data}")
            timings = arena.time(problem, rounds, least_seconds)
            found["problems"].append(describe(problem, timings, arena.absent))
    return found


def describe(problem: Problem, timings: Sequence[Timing], absent: dict[str, str]) -> dict[str, Any]:
    """Return the figures of a problem as plain values; ratios are to gpunet's first setting."""
    reference = next((t for t in timings if t.setting.contender in GPUNET), None)
    rows = [row(t, reference, _peak(t, timings), problem.dtype) for t in timings]
    return {
        "sizes": list(problem.sizes),
        "batch": problem.batch,
        "steps of an epoch": problem.steps,
        "data": problem.data,
        "dtype": problem.dtype,
        "name": problem.name,
        "reference": reference.setting.label if reference else None,
        "rows": sorted(rows, key=lambda r: (r["is peak"], r["us"])),
        "absent": absent,
    }


def row(timing: Timing, reference: Timing | None, peak: float | None, dtype: str) -> dict[str, Any]:
    """Return one contender's figures as plain values."""
    low, high = timing.quartiles
    gflops = timing.flops / timing.median * 1e-9
    deviation = timing.deviation
    return {
        "contender": timing.setting.contender,
        "title": timing.setting.where.title,
        "label": timing.setting.label,
        "threads": timing.setting.threads,
        "core type": timing.setting.core_type,
        "openblas": timing.setting.where.openblas,
        "us": timing.median * 1e6,
        "quartiles us": [low * 1e6, high * 1e6],
        "rounds us": [s * 1e6 for s in timing.seconds],
        "times the reference": None if reference is None else timing.over(reference),
        "gflops": gflops,
        "share of peak": None if peak is None else gflops / peak,
        "cores busy": timing.cpus,
        "steps of a round": timing.steps,
        "deviation": deviation,
        "same": None if deviation is None else bool(deviation <= TOLERANCE[dtype]),
        "is peak": timing.setting.contender in PEAKS,
        "facts": timing.facts,
    }


def _peak(timing: Timing, timings: Iterable[Timing]) -> float | None:
    """Return the GFLOP/s of the fastest large product with as many threads; with own choice, of any."""
    threads = timing.setting.threads
    return max(
        (
            t.flops / t.median * 1e-9
            for t in timings
            if t.setting.contender in PEAKS and (threads is None or t.setting.threads == threads)
        ),
        default=None,
    )


def differing(found: dict[str, Any]) -> list[str]:
    """Return the contenders that computed something else than they should, with the problem."""
    return [
        f"{r['label']} on {problem['name']}: outputs off by {r['deviation']:.1e}"
        for problem in found["problems"]
        for r in problem["rows"]
        if r["same"] is False
    ]


def problems(data: str, dtype: str, chosen: Sequence[Problem] = PROBLEMS) -> list[Problem]:
    """Return the problems with other data and dtype."""
    return [replace(problem, data=data, dtype=dtype) for problem in chosen]
