"""Mini-batch stochastic gradient descent, equations (20) and (21), and the other optimizers: epoch after epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from gpunet import checks, optimizers
from gpunet.backends import Array
from gpunet.errors import DeviceError
from gpunet.model import Model
from gpunet.optimizers import Optimizer
from gpunet.training import data
from gpunet.training.compiled import CompiledSteps, is_worthwhile
from gpunet.training.steps import Recipe, Steps, VerbSteps
from gpunet.training.threads import ThreadChooser

#: Called during an epoch with the number of examples done.
Progress = Callable[[int], None]

#: Who may take the steps: "auto" is "compiled" where that is possible, else "verbs".
ENGINES = ("auto", "compiled", "verbs")

#: More threads than any machine has cores would only wait for each other.
MOST_THREADS = 1024

_PROGRESS_SECONDS = 0.1

logger = logging.getLogger("gpunet")


class MiniBatchSGD:
    """Epochs of gradient descent over shuffled mini-batches.

    Parameters
    ----------
    model : Model
    X : array, shape (N, n_in)
        Inputs, one row an example, in their own dtype: on the device, or on the host if it does not hold them.
    Y : array, shape (N, n_out)
        Targets, one row an example, where X is.
    batch_size : int
        Examples a step; the last step of an epoch takes what is left.
    eta : float
        The learning rate.
    rng : numpy.random.Generator
        Draws each epoch's order, on the host, so that every backend sees the same.
    optimizer : Optimizer
    l2 : float
        lambda of the penalty lambda/2N * (sum of all w^2) for N examples, equation (87).
    engine : {"auto", "compiled", "verbs"}
    threads : int, optional
        Of the CPU, that share a step; by default as many as are found to be fastest.

    Raises
    ------
    DeviceError
        If "compiled" is asked for and not possible.
    """

    def __init__(
        self,
        model: Model,
        X: Any,
        Y: Any,
        batch_size: int,
        eta: float,
        rng: np.random.Generator,
        optimizer: Optimizer = optimizers.BUILT_IN["sgd"],
        l2: float = 0.0,
        engine: str = "auto",
        threads: int | None = None,
    ) -> None:
        self._data = data.of(model.ops, X, Y, model.dtype, batch_size)
        self.n = self._data.n
        self.recipe = Recipe(model, batch_size, eta, optimizer, l2 / self.n)
        self._steps = _steps(self.recipe, engine)
        self.rng = rng
        flops = 6 * model.parameters.flat.shape[0] * batch_size  # three products of 2 a weight and example
        self._chooser = ThreadChooser(self._steps.most_threads, flops, fixed=threads)

    @property
    def engine(self) -> str:
        """Who takes the steps."""
        return self._steps.name

    def run_epoch(self, on_progress: Progress | None = None) -> float:
        """Train on every example once; return the mean cost, NaN or infinite if it diverged."""
        tell = _Progress(on_progress)
        with self._steps.epoch(), closing(self._data.parts(self.rng)) as parts:
            for X, Y, index in parts:
                done = 0
                while done < index.shape[0]:
                    examples = self._take_chunk(X, Y, index[done:])
                    done += examples
                    tell.add(examples)
        return self._steps.cost() / self.n

    def _take_chunk(self, X: Array, Y: Array, index: Array) -> int:
        """Take some steps on the first of these rows; return the number of examples."""
        m, chunk = self.recipe.batch_size, self._chooser.next()
        started = time.perf_counter()
        rows = index[: min((self._steps.at_once or chunk.steps) * m, index.shape[0])]
        examples = self._steps.take(X, Y, rows, chunk.threads, started + chunk.seconds)
        self._chooser.record(examples / m, time.perf_counter() - started)
        return examples


def _steps(recipe: Recipe, engine: str) -> Steps:
    if checks.one_of(engine, ENGINES, "engine") == "compiled":
        return CompiledSteps(recipe)
    if engine == "auto" and is_worthwhile(recipe):
        try:
            return CompiledSteps(recipe)
        except DeviceError as error:
            logger.info("gpunet: the verbs of %s take the steps, because %s", recipe.model.ops.name, error)
    return VerbSteps(recipe)


class _Progress:
    """Tells about ten times a second how many of an epoch's examples are done."""

    def __init__(self, tell: Progress | None) -> None:
        self._tell = tell
        self._done = 0
        self._due = time.perf_counter() + _PROGRESS_SECONDS

    def add(self, examples: int) -> None:
        self._done += examples
        if self._tell is not None and time.perf_counter() > self._due:
            self._tell(self._done)
            self._due = time.perf_counter() + _PROGRESS_SECONDS
