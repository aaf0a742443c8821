"""The time it takes to reach an accuracy on MNIST: of training alone, looked at after each epoch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from gpunet.benchmarks import machine
from gpunet.benchmarks.arena import Arena, Setting
from gpunet.benchmarks.problem import Problem

#: Softmax outputs and log-likelihood, because scikit-learn has nothing else: all contenders take the same steps.
GOALS = {
    0.95: Problem((784, 30, 10), 10, 6000, cost="log-likelihood", eta=0.5),
    0.98: Problem((784, 256, 10), 32, 1875, cost="log-likelihood", activation="relu", eta=0.2),
}
CONTENDERS = ("gpunet-compiled", "gpunet-numpy", "torch", "torch-compile", "jax", "sklearn-fit")


def run(
    settings: Sequence[Setting],
    goals: Mapping[float, Problem] = GOALS,
    seeds: int = 3,
    most_epochs: int = 30,
    tell: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Train each contender until it reaches each goal, an epoch in turn.

    Returns
    -------
    dict
        JSON-ready: the machine, and for each goal a row for each contender with its seconds and accuracies.
    """
    found: dict[str, Any] = {"question": "accuracy", "machine": machine.describe(), "goals": []}
    with Arena(settings) as arena:
        for goal, problem in goals.items():
            runs: dict[str, list[dict[str, Any]]] = {}
            absent: dict[str, str] = {}
            for seed in range(seeds):
                tell(f"{goal:.0%}: {problem.name}, seed {seed}")
                for label, one in race(arena, goal, replace(problem, seed=seed), most_epochs).items():
                    runs.setdefault(label, []).append(one)
                absent |= arena.absent
            rows = [_row(label, runs[label]) for label in runs if label not in absent]
            rows.sort(key=lambda r: (r["seconds"] is None, r["seconds"]))
            found["goals"].append({"goal": goal, "problem": asdict(problem), "rows": rows, "absent": absent})
    return found


def race(arena: Arena, goal: float, problem: Problem, most_epochs: int) -> dict[str, dict[str, Any]]:
    """Train all until the goal; return for each the seconds so far and the accuracy, epoch by epoch."""
    runs: dict[Any, dict[str, Any]] = {
        worker: {"title": worker.setting.where.title, "seconds": [], "accuracy": []} for worker in arena.open(problem)
    }
    running = arena.in_turn(runs, "warm_up")
    for _ in range(most_epochs):
        times = arena.in_turn(running, "run", steps=problem.steps)
        scores = arena.in_turn(times, "score")
        for worker, score in scores.items():
            seconds = runs[worker]["seconds"]
            seconds.append(times[worker]["seconds"] + (seconds[-1] if seconds else 0.0))
            runs[worker]["accuracy"].append(score["accuracy"])
        running = {worker: score for worker, score in scores.items() if score["accuracy"] < goal}
        if not running:
            break
    for worker, one in runs.items():
        one["reached"] = bool(one["accuracy"]) and one["accuracy"][-1] >= goal
        one["label"] = worker.setting.label
    return {one["label"]: one for one in runs.values()}


def _row(label: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    reached = [one for one in runs if one["reached"]]
    all_reached = len(reached) == len(runs)
    return {
        "label": label,
        "title": runs[0]["title"],
        "seconds": statistics.median(one["seconds"][-1] for one in reached) if all_reached else None,
        "epochs": [len(one["seconds"]) for one in runs],
        "reached": len(reached),
        "runs": runs,
    }
