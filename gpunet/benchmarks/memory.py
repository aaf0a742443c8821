"""The memory that a training on MNIST takes beyond the imported library, beside the data's own size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from gpunet.benchmarks import machine
from gpunet.benchmarks.arena import Setting, Worker, WorkerError
from gpunet.benchmarks.contender import Unavailable
from gpunet.benchmarks.problem import Problem

PROBLEM = Problem((784, 30, 10), 10, 6000)
CONTENDERS = ("gpunet-fit", "torch-bytes", "torch", "jax", "sklearn-fit", "book")


def run(
    settings: Sequence[Setting],
    problem: Problem = PROBLEM,
    epochs: int = 1,
    tell: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Train each contender in a fresh process.

    Returns
    -------
    dict
        JSON-ready: the machine, the data's size in bytes, and for each contender its bytes after the import and
        the most beyond them.
    """
    X, labels, _ = problem.inputs()
    found: dict[str, Any] = {
        "question": "memory",
        "machine": machine.describe(),
        "problem": asdict(problem),
        "epochs": epochs,
        "data bytes": X.nbytes + labels.astype("uint8").nbytes,
        "rows": [],
        "absent": {},
    }
    for setting in settings:
        tell(setting.label)
        worker = Worker(setting)
        try:
            answer = worker.ask("memory", target=setting.where.target, problem=asdict(problem), epochs=epochs)
        except (Unavailable, WorkerError) as error:
            found["absent"][setting.label] = str(error)
            continue
        finally:
            worker.close()
        beyond = answer["peak"] - answer["after_import"]
        found["rows"].append(
            {
                "label": setting.label,
                "title": setting.where.title,
                "after import bytes": answer["after_import"],
                "beyond bytes": beyond,
                "times the data": beyond / found["data bytes"],
            }
        )
    found["rows"].sort(key=lambda r: r["beyond bytes"])
    return found
