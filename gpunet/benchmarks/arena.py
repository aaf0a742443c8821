"""Contenders in turn: each in its own process, one at a time, the others stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from gpunet.benchmarks import machine
from gpunet.benchmarks.contender import Unavailable
from gpunet.benchmarks.contenders import ALL, GPUNET, Entry
from gpunet.benchmarks.problem import Problem

_CAN_STOP = hasattr(signal, "SIGSTOP")


class WorkerError(Exception):
    """A worker failed, or did not answer in time; the message has its last words."""


@dataclass(frozen=True)
class Setting:
    """A contender, on a device, with so many threads and OpenBLAS's kernels; None is its own choice."""

    contender: str
    threads: int | None = None
    core_type: str | None = None
    device: str = "cpu"
    entry: Entry | None = None

    @property
    def where(self) -> Entry:
        """The entry that says where its code is: the one given, or that of its name."""
        return self.entry or ALL[self.contender]

    @property
    def label(self) -> str:
        """Such as "gpunet, NumPy; 1 thread, SkylakeX"."""
        if self.device != "cpu":
            return self.where.title
        threads = "own choice" if self.threads is None else f"{self.threads} thread{'s'[: self.threads != 1]}"
        return f"{self.where.title}; {threads}" + (f", {self.core_type}" if self.core_type else "")


class Worker:
    """The parent's end of a worker process."""

    def __init__(self, setting: Setting, timeout: float | None = None) -> None:
        self.setting, self._timeout = setting, timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gpunet.benchmarks.worker"],
            env=machine.environment(setting.device, setting.threads, setting.core_type),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )

    def tell(self, do: str, **order: Any) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
        except BrokenPipeError as error:
            raise WorkerError(self._last_words("ended")) from error

    def answer(self) -> dict[str, Any]:
        """Wait for the answer.

        Raises
        ------
        Unavailable
            If the contender can not take part.
        WorkerError
            If it failed.
        """
        line = self._line()
        found: dict[str, Any] = json.loads(line)
        if "unavailable" in found:
            raise Unavailable(found["unavailable"])
        if "failed" in found:
            raise WorkerError(f"{self.setting.label}: {found['failed']}")
        return found

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Give an order and wait for the answer; the process runs only meanwhile where it can be stopped."""
        self.tell(do, **order)
        return self.answer()

    def stop(self) -> None:
        """Stop the process, so that its waiting threads take no time from others."""
        if _CAN_STOP and self.setting.device == "cpu":
            self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        if _CAN_STOP and self.setting.device == "cpu":
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End the process."""
        self.go_on()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while b"\n" not in self._buffer:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([pipe], [], [], left)[0]:
                self._process.kill()  # a late answer would be taken for the next one
                raise WorkerError(self._last_words(f"gave no answer for {self._timeout:g} seconds"))
            part = os.read(pipe, 2**16)
            if not part:
                raise WorkerError(self._last_words("ended"))
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _last_words(self, what: str) -> str:
        self._errors.seek(0)
        return f"{self.setting.label} {what}: {self._errors.read().decode(errors='replace')[-2000:]}"


@dataclass
class Timing:
    """One contender's figures on one problem.

    Attributes
    ----------
    setting : Setting
    seconds : list of float
        Of a step, round by round.
    cpus : float
        Processor time over time: how many cores it kept busy, the median.
    steps : int
        Steps of a round.
    flops : int
        Of a step.
    facts : dict
        Versions, thread pools, and what else it depends on.
    deviation : float or None
        How far its outputs were from the reference's after the first epoch; None where they can not be compared.
    """

    setting: Setting
    seconds: list[float]
    cpus: float
    steps: int
    flops: int
    facts: dict[str, Any]
    deviation: float | None = None

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile of the seconds of a step."""
        if len(self.seconds) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, high

    def over(self, other: Timing) -> float:
        """Return how many times longer a step took than the other's: the median over the rounds' pairs."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


class Arena:
    """The workers of a benchmark, one for each setting; a context manager.

    Parameters
    ----------
    settings : sequence of Setting
    timeout : float, optional
        Seconds after which a worker that does not answer is given up.

    Attributes
    ----------
    absent : dict
        Label -> why a contender takes no part, in the problem opened last.
    """

    def __init__(self, settings: Sequence[Setting], timeout: float | None = None) -> None:
        self._settings, self._timeout = settings, timeout
        self._workers: list[Worker] = []
        self.absent: dict[str, str] = {}

    def __enter__(self) -> Arena:
        self._workers = [Worker(setting, self._timeout) for setting in self._settings]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.close()

    def open(self, problem: Problem) -> dict[Worker, dict[str, Any]]:
        """Set the problem up in every worker; return those that take part, stopped, and what they told."""
        self.absent = {}
        for worker in self._workers:
            worker.go_on()
        orders = {"problem": dataclasses.asdict(problem)}
        opened = self._all(
            self._workers,
            "open",
            lambda w: {
                **orders,
                "target": w.setting.where.target,
                "device": w.setting.device,
                "options": dict(w.setting.where.options),
            },
        )
        for worker in self._workers:
            worker.stop()
        return opened

    def time(
        self, problem: Problem, rounds: int, least_seconds: float = 0.02, seed: int = 0, compare: bool = True
    ) -> list[Timing]:
        """Time a step of each contender.

        Every round runs all of them once, in an order that changes from round to round.

        Parameters
        ----------
        problem : Problem
        rounds : int
        least_seconds : float
            How long a contender runs in a round at least.
        seed : int
            Of the order.
        compare : bool
            Whether to compare what they compute after the first epoch.
        """
        opened = self.open(problem)
        outputs = self._first_epoch(opened, problem) if compare else {}
        steps = {w: a["steps"] for w, a in self.in_turn(opened, "calibrate", seconds=least_seconds).items()}
        runs: dict[Worker, list[dict[str, Any]]] = {worker: [] for worker in steps}
        rng = random.Random(seed)
        for _ in range(rounds):
            order = list(runs)
            rng.shuffle(order)
            for worker in order:
                runs[worker] += self.in_turn([worker], "run", steps=steps[worker]).values()
        facts = self.in_turn(runs, "facts")
        reference = next((outputs[w] for w in runs if w.setting.contender in GPUNET and w in outputs), None)
        return [
            Timing(
                worker.setting,
                [run["seconds"] / steps[worker] for run in runs[worker]],
                statistics.median(run["cpu_seconds"] / run["seconds"] for run in runs[worker]),
                steps[worker],
                opened[worker]["flops"],
                facts[worker],
                _deviation(outputs.get(worker), reference),
            )
            for worker in runs
            if worker in facts and len(runs[worker]) == rounds
        ]

    def _first_epoch(self, opened: Mapping[Worker, dict[str, Any]], problem: Problem) -> dict[Worker, Any]:
        """Return what those whose update is the problem's put out after one epoch."""
        same = [worker for worker, told in opened.items() if told["same_update"]]
        answers = self.in_turn(same, "first_epoch", rows=min(20, problem.examples))
        return {worker: answer["outputs"] for worker, answer in answers.items()}

    def in_turn(self, workers: Any, do: str, **order: Any) -> dict[Worker, dict[str, Any]]:
        """Ask one after the other, each running alone."""
        answers = {}
        for worker in list(workers):
            if worker.setting.label in self.absent:
                continue
            worker.go_on()
            try:
                answers[worker] = worker.ask(do, **order)
            except (Unavailable, WorkerError) as error:
                self.absent[worker.setting.label] = str(error)
            worker.stop()
        return answers

    def _all(self, workers: Sequence[Worker], do: str, order: Any) -> dict[Worker, dict[str, Any]]:
        """Give an order to all at once; leave out those that can not follow."""
        answers = {}
        for worker in workers:
            try:
                worker.tell(do, **order(worker))
            except WorkerError as error:
                self.absent[worker.setting.label] = str(error)
        for worker in workers:
            if worker.setting.label in self.absent:
                continue
            try:
                answers[worker] = worker.answer()
            except (Unavailable, WorkerError) as error:
                self.absent[worker.setting.label] = str(error)
        return answers


def _deviation(outputs: Any, reference: Any) -> float | None:
    """Return the largest difference of two tables of outputs."""
    if outputs is None or reference is None:
        return None
    return float(np.abs(np.subtract(outputs, reference)).max())


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many cores busy meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()
