"""How the time of a step grows with width, depth, batch and the number of examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpunet.benchmarks import machine, step
from gpunet.benchmarks.arena import Arena, Setting
from gpunet.benchmarks.problem import Problem

CONTENDERS = ("gpunet-compiled", "gpunet-numpy", "torch", "torch-compile")


def _random(sizes: tuple[int, ...], batch: int, steps: int) -> Problem:
    return Problem(sizes, batch, steps, data="random")


#: What varies -> (its value, the problem); everything else stays.
SWEEPS: dict[str, list[tuple[int, Problem]]] = {
    "width: [784, width, 10], batch 10": [
        (w, _random((784, w, 10), 10, max(20, 20_000 // w))) for w in (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    ],
    "depth: [784, 100, ..., 100, 10], batch 10, hidden layers": [
        (d, _random((784, *[100] * d, 10), 10, 500)) for d in (1, 2, 4, 8, 16)
    ],
    "batch: [784, 100, 10], examples a step": [
        (m, _random((784, 100, 10), m, max(4, 5000 // m))) for m in (1, 4, 16, 64, 256, 1024, 4096)
    ],
    "data: [784, 30, 10], batch 10, examples": [
        (n, _random((784, 30, 10), 10, n // 10)) for n in (1000, 4000, 16_000, 64_000)
    ],
}


def run(
    settings: Sequence[Setting],
    sweeps: Mapping[str, Sequence[tuple[int, Problem]]] = SWEEPS,
    rounds: int = 5,
    least_seconds: float = 0.02,
    tell: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Time a step along each sweep.

    Returns
    -------
    dict
        JSON-ready: the machine, and for each sweep its points, each with the figures that `step` has.
    """
    found: dict[str, Any] = {"question": "scaling", "machine": machine.describe(), "rounds": rounds, "sweeps": []}
    with Arena(settings) as arena:
        for name, points in sweeps.items():
            described = []
            for value, problem in points:
                tell(f"{name}: {value}")
                timings = arena.time(problem, rounds, least_seconds, compare=False)
                described.append({"value": value, **step.describe(problem, timings, arena.absent)})
            found["sweeps"].append({"name": name, "points": described})
    return found
