"""One contender in a process of its own: `python -m gpunet.benchmarks.worker` reads orders and answers them.

An order is a JSON object on a line of standard input, its answer one on standard output. What else is printed in
this process goes to standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from gpunet import datasets
from gpunet.benchmarks.contender import Contender, Unavailable
from gpunet.benchmarks.problem import Problem, scaled


class Worker:
    """Answers the orders of one benchmark; each method is an order."""

    def __init__(self) -> None:
        self._contender: Contender | None = None

    @property
    def contender(self) -> Contender:
        """The one that was opened last."""
        assert self._contender is not None, "nothing is open"
        return self._contender

    def open(self, target: str, problem: dict[str, Any], device: str, options: dict[str, Any]) -> dict[str, Any]:
        """Make the contender `target`, "module:Class", for a problem; tell whether its update can be compared."""
        self._contender = None  # frees its memory first
        self._contender = _class(target)(Problem(**problem), device, **options)
        return {"same_update": self._contender.same_update, "flops": self._contender.flops}

    def calibrate(self, seconds: float) -> dict[str, Any]:
        """Find how many steps take at least so long; warms up by the way."""
        contender = self.contender
        steps = contender.problem.steps if contender.whole_epochs else 1
        contender.run(steps)
        while self.run(steps)["seconds"] < seconds:
            steps *= 2
        return {"steps": steps}

    def warm_up(self) -> dict[str, Any]:
        """Compile what there is to compile, then start anew from the initial parameters."""
        self.contender.run(self.contender.problem.steps)
        self.contender.start()
        return {}

    def run(self, steps: int) -> dict[str, Any]:
        """Take steps; return the seconds that it took, and those of processor time, all threads together."""
        contender = self.contender
        cpu, started = time.process_time(), time.perf_counter()
        contender.run(steps)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}

    def first_epoch(self, rows: int) -> dict[str, Any]:
        """Take the first epoch's steps; return the outputs for the first rows of the data then."""
        contender, problem = self.contender, self.contender.problem
        contender.run(problem.steps)
        X, _, scale = problem.inputs()
        return {"outputs": contender.outputs(scaled(X[:rows], scale, problem.dtype)).tolist()}

    def score(self) -> dict[str, Any]:
        """Return the accuracy on MNIST's test images."""
        mnist = datasets.mnist()
        assert mnist.X_test is not None
        outputs = self.contender.outputs(scaled(mnist.X_test, mnist.input_scale, "float32"))
        return {"accuracy": float(np.mean(outputs.argmax(axis=1) == mnist.y_test))}

    def facts(self) -> dict[str, Any]:
        """Return versions and thread pools as they are now, and what the contender tells of itself."""
        contender = self.contender
        return {"versions": versions(contender.distributions), "pools": thread_pools(), **contender.facts()}

    def memory(self, target: str, problem: dict[str, Any], epochs: int) -> dict[str, Any]:
        """Train; return the bytes in use once the library was imported, and the most that were in use after."""
        contender_class = _class(target)
        contender_class.load()
        before = _restart_peak()
        opened = contender_class(Problem(**problem), "cpu")
        opened.run(epochs * opened.problem.steps)
        return {"after_import": before, "peak": _status("VmHWM")}


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of the distributions that are installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def thread_pools() -> list[dict[str, Any]]:
    """Return each BLAS and OpenMP of this process: version, the kernels that it runs, threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    names = {"internal_api": "library", "version": "version", "architecture": "kernels", "num_threads": "threads"}
    return [{new: pool.get(old) for old, new in names.items()} for pool in threadpool_info()]


def _class(target: str) -> type[Contender]:
    module, _, name = target.partition(":")
    try:
        found: type[Contender] = getattr(importlib.import_module(module), name)
        found.load()
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    return found


def _status(name: str) -> int:
    """Return an entry of this process's memory in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
    except (OSError, StopIteration) as error:
        raise Unavailable("peak memory can only be read on Linux") from error


def _restart_peak() -> int:
    """Let the peak start from what is in use now, and return that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError as error:
        raise Unavailable("the peak of memory can not be reset here") from error
    return _status("VmRSS")


def _end_with_parent() -> None:
    """Do not outlive the parent, which may be killed while this process is stopped."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def main() -> None:
    """Answer orders until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to deal with
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order.pop("do"))(**order)
        except Unavailable as error:
            answer = {"unavailable": str(error)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
