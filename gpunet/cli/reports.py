"""How `gpunet train` tells what it does: live on a terminal, as plain lines, or as JSON lines."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gpunet.training.record import Epoch

#: How each metric is written for people.
METRICS = {
    "accuracy": "{:.2%} correct",
    "f1": "F1 {:.4f}",
    "auc": "AUC {:.4f}",
    "mae": "MAE {:.6g}",
    "rmse": "RMSE {:.6g}",
    "r2": "R2 {:.4f}",
}
#: What an epoch's validation score is.
_SCORES = {"classification": "accuracy", "regression": "r2"}
#: Of a training of more epochs than `_MOST_LINES` not every one has a line for people, if they are short.
_MOST_LINES, _FIRST_LINES, _LINE_SECONDS = 50, 5, 1.0


def spelled(metrics: dict[str, float]) -> str:
    """Return metrics as people read them."""
    return ", ".join(METRICS[name].format(value) for name, value in metrics.items())


def _finite(value: float | None) -> float | None:
    """Return a number for JSON, which has no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else value


def _settings(facts: dict[str, Any]) -> str:
    """Return the learning rate, what changes it, and the regularization that is on."""
    parts = [] if facts["eta"] is None else [f"eta {facts['eta']:g}"]
    if facts["schedule"] != "constant":
        parts.append(f"schedule {facts['schedule']}")
    parts.append(f"l2 {facts['l2']:g}")
    for name, value in facts["regularization"].items():
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        parts.append(f"{name.replace('_', ' ')} {shown}")
    if facts["early_stopping"] is not None:
        parts.append(f"early stopping after {facts['early_stopping']}")
    return ", ".join(parts)


class Report(ABC):
    """What is told of a training: its start, its epochs, its end. Used as a context manager."""

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        return None

    @abstractmethod
    def start(self, facts: dict[str, Any]) -> None:
        """Tell what is about to be trained."""

    @abstractmethod
    def epoch(self, epoch: Epoch) -> None:
        """Tell of an epoch that is done."""

    @abstractmethod
    def end(self, facts: dict[str, Any]) -> None:
        """Tell how it ended."""

    def progress(self, examples: int) -> None:  # noqa: B027 - only a terminal shows what is not yet an epoch
        """Take note of how many of the epoch's examples are done."""


class JsonReport(Report):
    """One JSON object a line on standard output."""

    def start(self, facts: dict[str, Any]) -> None:
        self._score = _SCORES[facts["task"]]
        self._line({"event": "start", **facts})

    def epoch(self, epoch: Epoch) -> None:
        self._line(
            {
                "event": "epoch",
                "epoch": epoch.epoch,
                "cost": epoch.cost,
                "validation_cost": _finite(epoch.validation_cost),
                self._score: _finite(epoch.validation_score),
                "seconds": epoch.seconds,
            }
        )

    def end(self, facts: dict[str, Any]) -> None:
        self._line({"event": "end", **facts})

    @staticmethod
    def _line(event: dict[str, Any]) -> None:
        print(json.dumps(event, allow_nan=False), flush=True)


class PlainReport(Report):
    """The book's line for each epoch, for logs and pipes."""

    def start(self, facts: dict[str, Any]) -> None:
        self._last_line = time.monotonic()
        self._n, self._aim, self._epochs = facts["validation_examples"], facts["task"], facts["epochs"]
        self._decides = not facts["validated_on_test_data"]
        self._line(
            f"Training {facts['sizes']} on {facts['examples']:,} examples of {facts['data']}, tested on "
            f"{facts['test_examples']:,}{' of them' if facts['tested_on_training_data'] else ''}"
            f"{'' if facts['validated_on_test_data'] else f', validated on {self._n:,} others'}"
        )
        if facts["about"]:
            self._line(facts["about"])
        # L-BFGS takes all examples at once.
        batch = "" if facts["optimizer"] == "lbfgs" else f"mini-batch {facts['batch_size']}, "
        self._line(
            f"{facts['cost']} cost, {', '.join(facts['activations'])}, {batch}"
            f"{facts['optimizer']}, {_settings(facts)}, {facts['dtype']}, "
            f"seed {facts['seed']}, {facts['backend']}"
        )

    def epoch(self, epoch: Epoch) -> None:
        now = time.monotonic()
        is_one_of_many = epoch.epoch >= _FIRST_LINES and (epoch.epoch + 1) % max(1, self._epochs // _MOST_LINES)
        if is_one_of_many and now - self._last_line < _LINE_SECONDS:
            return
        self._last_line = now
        score = epoch.validation_score or 0.0
        is_count = self._aim == "classification"
        shown = f"{round(score * self._n)} / {self._n}" if is_count else f"R2 {score:.4f}"
        costs = f"cost {epoch.cost:.4f}"
        if self._decides and epoch.validation_cost is not None:  # else the line is the book's, and of the test part
            costs += f", validation cost {epoch.validation_cost:.4f}"
        self._line(f"Epoch {epoch.epoch}: {shown}, {costs}, {epoch.seconds:.2f} s")

    def end(self, facts: dict[str, Any]) -> None:
        metrics = spelled({name: facts[name] for name in METRICS if name in facts})
        if facts["stopped"]:
            self._line(f"ended early: {facts['stopped']}")
        if facts["best_epoch"] is not None:
            self._line(f"the model is that of epoch {facts['best_epoch']}")
        self._line(f"{metrics} after {facts['epochs']} epochs, {facts['seconds']:.1f} s")

    def _line(self, text: str) -> None:
        print(text, flush=True)


class TerminalReport(PlainReport):
    """The plain lines, and below them a bar with cost, accuracy, speed and the time left."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("cost {task.fields[cost]}  {task.fields[score]}  {task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            transient=True,
        )

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._bar.stop()

    def start(self, facts: dict[str, Any]) -> None:
        super().start(facts)
        self._n_train, self._done = facts["examples"], 0
        self._task = self._bar.add_task(
            "training", total=self._n_train * self._epochs, epoch=self._of(0), cost="-", score="", speed=""
        )
        self._bar.start()

    def progress(self, examples: int) -> None:
        self._bar.update(self._task, completed=self._done * self._n_train + examples)

    def epoch(self, epoch: Epoch) -> None:
        super().epoch(epoch)
        self._done = epoch.epoch + 1  # which a training that goes on does not begin with 0
        self._bar.update(
            self._task,
            completed=self._done * self._n_train,
            epoch=self._of(min(self._done, self._epochs - 1)),
            cost=f"{epoch.cost:.4f}",
            score=spelled({_SCORES[self._aim]: epoch.validation_score or 0.0}),
            speed=f"{epoch.examples_per_second:,.0f} examples/s",
        )

    def end(self, facts: dict[str, Any]) -> None:
        self._bar.stop()
        super().end(facts)

    def _of(self, epoch: int) -> str:
        return f"{epoch + 1}/{self._epochs}"

    def _line(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def choose(as_json: bool) -> Report:
    """Return the report that fits where standard output goes."""
    if as_json:
        return JsonReport()
    console = Console()
    return TerminalReport(console) if console.is_terminal else PlainReport()
