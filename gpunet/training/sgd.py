"""Mini-batch stochastic gradient descent, equations (20) and (21), and the other optimizers: epoch after epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from gpunet import checks
from gpunet.backends import Array
from gpunet.errors import DeviceError
from gpunet.training import data
from gpunet.training.compiled import CompiledSteps, is_worthwhile
from gpunet.training.draws import Draws
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
    recipe : Recipe
    X : array, shape (N, n_in)
        Inputs, one row an example, in their own dtype: on the device, or on the host if it does not hold them.
    Y : array, shape (N, n_out)
        Targets, one row an example, where X is.
    rng : Draws
        Draws each epoch's order, on the host, so that every backend sees the same; a `numpy.random.Generator` can.
    weights : array, shape (N, 1), optional
        Of the examples, where X is. A mini-batch's gradient is their weighted mean.
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
        recipe: Recipe,
        X: Any,
        Y: Any,
        rng: Draws,
        weights: Any = None,
        engine: str = "auto",
        threads: int | None = None,
    ) -> None:
        model, m = recipe.model, recipe.batch_size
        self._data = data.of(model.ops, [X, Y] if weights is None else [X, Y, weights], model.dtype, m)
        self.n = self._data.n
        self.recipe = recipe
        self.steps = _steps(recipe, engine)
        self.rng = rng
        is_mean = weights is None or recipe.alpha is not None
        self._whole = self.n if is_mean else float(model.ops.to_numpy(weights).sum(dtype=np.float64))
        flops = 6 * model.parameters.flat.shape[0] * m  # three products of 2 a weight and example
        self._chooser = ThreadChooser(self.steps.most_threads, flops, fixed=threads)

    @property
    def engine(self) -> str:
        """Who takes the steps."""
        return self.steps.name

    def run_epoch(self, eta: float, on_progress: Progress | None = None) -> float:
        """Train on every example once; return the mean cost, NaN or infinite if it diverged."""
        tell = _Progress(on_progress)
        with self.steps.epoch(self.rng), closing(self._data.parts(self.rng)) as parts:
            for arrays, index in parts:
                done = 0
                while done < index.shape[0]:
                    examples = self._take_chunk(arrays, index[done:], eta)
                    done += examples
                    tell.add(examples)
        return self.steps.cost() / self._whole

    @property
    def penalty(self) -> float:
        """What scikit-learn's form of L2 adds to the last epoch's mean cost."""
        return self.steps.penalty() / self._whole

    def _take_chunk(self, arrays: Sequence[Array], index: Array, eta: float) -> int:
        """Take some steps on the first of these rows; return the number of examples."""
        m, chunk = self.recipe.batch_size, self._chooser.next()
        started = time.perf_counter()
        rows = index[: min((self.steps.at_once or chunk.steps) * m, index.shape[0])]
        examples = self.steps.take(arrays, rows, eta, chunk.threads, started + chunk.seconds)
        self._chooser.record(examples / m, time.perf_counter() - started)
        return examples


def _steps(recipe: Recipe, engine: str) -> Steps:
    if checks.one_of(engine, ENGINES, "engine") == "verbs" or (engine == "auto" and not is_worthwhile(recipe)):
        return VerbSteps(recipe)
    try:
        return CompiledSteps(recipe)
    except DeviceError as error:
        if engine == "compiled":
            raise
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
