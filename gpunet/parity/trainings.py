"""Trainings side by side: from the same parameters, on the same mini-batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import optimizers
from gpunet.backends import Backend
from gpunet.errors import DeviceError
from gpunet.model import Model
from gpunet.parity import reference
from gpunet.parity.cases import ACTIVATIONS, COSTS
from gpunet.parity.reference import Task
from gpunet.parity.results import Training, off, share_of, told
from gpunet.training.compiled import CompiledSteps
from gpunet.training.steps import Recipe, VerbSteps

Values = npt.NDArray[Any]

_SEED = 2

#: The calibrated deviation of a training may be exceeded by so much.
TRAINING_MARGIN = 4.0


def tasks(steps: int) -> list[Task]:
    """Return the trainings: the book's network on images, and networks of the other activations and costs."""
    return [
        _task((784, 30, 10), ("sigmoid", "sigmoid"), "quadratic", 10, 3.0, steps),
        _task((64, 33, 31, 10), ("tanh", "tanh", "softmax"), "log-likelihood", 32, 0.5, steps),
        _task((20, 17, 5), ("tanh", "sigmoid"), "cross-entropy", 1, 0.1, steps, l2=1.0),
        _task((20, 16, 3), ("relu", "linear"), "quadratic", 3, 0.05, steps),
        _task((20, 16, 4), ("gelu", "exp"), "poisson", 10, 0.03, steps),
        _task((20, 17, 5), ("sigmoid", "softmax"), "log-likelihood", 10, 0.05, steps, "momentum", 1.0),
        _task((33, 32, 10), ("tanh", "sigmoid"), "cross-entropy", 10, 0.01, steps, "adam", 5.0),
    ]


def _task(
    sizes: Sequence[int],
    names: Sequence[str],
    cost: str,
    batch_size: int,
    eta: float,
    steps: int,
    optimizer: str = "sgd",
    l2: float = 0.0,
) -> Task:
    rng = np.random.default_rng((_SEED, *sizes))
    n, n_in, n_out = 500, sizes[0], sizes[-1]
    labels = rng.integers(0, n_out, n)
    X = rng.normal(size=(n_out, n_in))[labels] * 0.7 + rng.normal(size=(n, n_in)) * 0.7
    input_scale = 1.0
    if n_in == 784:  # as images: bytes, to be scaled on the device
        X, input_scale = (X * 60 + 60).clip(0, 255).astype(np.uint8), 1 / 256
    pairs = list(pairwise(sizes))
    return Task(
        name=f"{'-'.join(map(str, sizes))} {names[0]}" + (f" {optimizer}" if optimizer != "sgd" else ""),
        sizes=sizes,
        activations=names,
        cost=cost,
        eta=eta,
        input_scale=input_scale,
        X=X if input_scale != 1.0 else X.astype(np.float32),
        Y=np.eye(n_out, dtype=np.float32)[labels],
        weights=[(rng.normal(size=(k, j)) / np.sqrt(j)).astype(np.float32) for j, k in pairs],
        biases=[rng.normal(size=(k, 1)).astype(np.float32) for _, k in pairs],
        batches=[rng.permutation(n)[:batch_size] for _ in range(steps)],
        optimizer=optimizer,
        l2=l2,
    )


def trajectory(ops: Backend, task: Task, dtype: str, compiled: bool = False) -> Iterator[list[Values]]:
    """Train on a backend and give after each step b^1, w^1, b^2, w^2, ... in the host's memory."""
    with ops.active():
        steps = (CompiledSteps if compiled else VerbSteps)(_recipe(ops, task, dtype))
        pairs = steps.recipe.model.parameters.pairs()
        for (b, w), b_0, w_0 in zip(pairs, task.biases, task.weights, strict=True):
            ops.copy(ops.asarray(b_0, dtype), out=b)
            ops.copy(ops.asarray(w_0, dtype), out=w)
        X = ops.asarray(task.X, None if task.X.dtype == np.uint8 else dtype)
        data, rng = (X, ops.asarray(task.Y, dtype)), np.random.default_rng(_SEED)
        for batch in task.batches:
            with steps.epoch(rng):
                steps.take(data, ops.asarray(batch), task.eta, threads=1)
            yield [np.array(ops.to_numpy(v)) for pair in pairs for v in pair]


def _recipe(ops: Backend, task: Task, dtype: str) -> Recipe:
    functions, optimizer = [ACTIVATIONS[name] for name in task.activations], optimizers.BUILT_IN[task.optimizer]
    model = Model(ops, task.sizes, functions, COSTS[task.cost], dtype, task.input_scale)
    return Recipe(model, len(task.batches[0]), optimizer, l2=task.l2 / len(task.X))


def compiles(ops: Backend, task: Task, dtype: str) -> bool:
    """Whether the backend has a compiled engine that can take the steps of this training."""
    try:
        CompiledSteps(_recipe(ops, task, dtype))
    except DeviceError:
        return False
    return True


@dataclass(frozen=True)
class Calibration:
    """What a training has to give.

    Attributes
    ----------
    right : list of lists of arrays
        After each step b^1, w^1, b^2, w^2, ..., computed in wider precision.
    tolerance : list of float
        How far from that a training may be.
    """

    right: list[list[Values]]
    tolerance: list[float]


def calibrate(task: Task, dtype: str) -> Calibration:
    """Train in wider precision, and find out how far rounding alone may carry a training in `dtype` off it.

    The tolerance after a step is TRAINING_MARGIN times the largest deviation so far of plain NumPy trainings in
    `dtype` whose sums run in random orders and whose activations are off by as much as a library's may be.
    """
    calibration = Calibration([], [])
    disturbed = [reference.train(task, dtype, d) for d in reference.disturbances(_SEED)]
    largest = 0.0
    for right, *others in zip(reference.train(task, reference.wider(dtype)), *disturbed, strict=True):
        largest = max(largest, *(reference.deviation(parameters, right) for parameters in others))
        calibration.right.append([v.copy() for v in right])
        calibration.tolerance.append(TRAINING_MARGIN * largest)
    return calibration


def compare_training(
    task: Task,
    dtype: str,
    device: Backend,
    against: Backend,
    compiled: tuple[bool, ...],
    wanted: Calibration,
) -> Training:
    """Train on both backends from the same parameters on the same mini-batches, and compare after each step.

    `compiled` says which of the two trains by its compiled engine; `wanted` is the task's calibration.
    """
    run, note = _trained(device, task, dtype, compiled[0])
    run_against, note_against = _trained(against, task, dtype, compiled[1])
    error, error_against = (list(map(reference.deviation, r, wanted.right)) for r in (run, run_against))
    worst, worst_against = (share_of(e, wanted.tolerance) for e in (error, error_against))
    return Training(
        name=f"{task.name}, compiled" if any(compiled) else task.name,
        dtype=dtype,
        error=error,
        error_against=error_against,
        difference=list(map(reference.deviation, run, run_against)),
        tolerance=wanted.tolerance,
        off=off(math.inf if note else worst, math.inf if note_against else worst_against),
        note="; ".join(filter(None, (note, note_against))),
    )


def _trained(ops: Backend, task: Task, dtype: str, compiled: bool) -> tuple[list[list[Values]], str]:
    """Return the trajectory, or as much of it as there was before something was raised, and what that was."""
    steps: list[list[Values]] = []
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is a finding too
            steps.extend(trajectory(ops, task, dtype, compiled))
    except Exception as error:  # a finding, as in compare_case
        return steps, told(error)
    return steps, ""
