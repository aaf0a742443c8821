"""L-BFGS: SciPy's steps, with the cost and the gradient of all examples by backpropagation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array, Backend
from gpunet.backprop import Workspace, backpropagate, feedforward, gradient
from gpunet.model import Model
from gpunet.optimizers import LBFGS
from gpunet.parameters import Parameters
from gpunet.training import data
from gpunet.training.loop import Course
from gpunet.training.threads import ThreadChooser

#: The activations of one chunk of examples take about this many numbers.
_CHUNK_NUMBERS = 2**19
#: SciPy keeps what it has learned of the curvature to itself. Where a training is saved, it begins anew after so many
#: iterations, so that one that is resumed there does the same.
_ITERATIONS_SAVED = 50
#: SciPy's status where the number of iterations was the reason to end.
_ALL_TAKEN = 1


class WholeGradient:
    """The mean cost of all examples with the penalty of L2, and its gradient.

    Parameters
    ----------
    model : Model
    arrays : sequence of arrays
        X and Y, and the weights of the examples, (N, 1), if they have any.
    l2 : float
        l2/2 * (sum of all w^2) is added.
    threads : int, optional
        Of the CPU, that share a chunk of the examples; by default as many as are found to be fastest.
    """

    def __init__(self, model: Model, arrays: Sequence[Any], l2: float, threads: int | None = None) -> None:
        self.model, self.l2 = model, l2
        chunk = max(1, min(arrays[0].shape[0], _CHUNK_NUMBERS // sum(model.sizes)))
        self._chunk = chunk
        self._data = data.of(model.ops, arrays, model.dtype, chunk)
        self.n = self._data.n
        self._weighted = len(arrays) > 2
        weights = model.ops.to_numpy(arrays[2]) if self._weighted else None
        self._whole = self.n if weights is None else float(weights.sum(dtype=np.float64))
        self._workspaces: dict[int, Workspace] = {}
        self._nabla = Parameters(model.ops, model.sizes, model.dtype)
        self._chooser = ThreadChooser(model.ops.most_threads, 6 * self._nabla.flat.shape[0] * chunk, fixed=threads)
        #: The cost without the penalty, of the last call.
        self.cost = np.nan

    def __call__(self, flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return both at the parameters `flat`, which the model then has."""
        model, ops = self.model, self.model.ops
        ops.copy(ops.asarray(flat.astype(model.dtype)), out=model.parameters.flat)
        total = ops.new_total()
        self._nabla.flat[...] = 0.0
        with ops.threads(1), closing(self._data.parts(_AsTheyCome())) as parts:
            for arrays, index in parts:
                for start in range(0, index.shape[0], self._chunk):
                    rows = index[start : min(start + self._chunk, index.shape[0])]
                    with ops.threads(self._chooser.next().threads):
                        started = time.perf_counter()
                        self._add(arrays, rows, total)
                        self._chooser.record(rows.shape[0] / self._chunk, time.perf_counter() - started)
        self.cost = float(ops.to_numpy(total).sum()) / self._whole
        nabla = ops.to_numpy(self._nabla.flat).astype(np.float64)
        w = flat[: model.parameters.n_weights]
        nabla[: w.size] += self.l2 * w
        return self.cost + 0.5 * self.l2 * float(w @ w), nabla

    def _add(self, arrays: Sequence[Array], index: Array, total: Array) -> None:
        model, ops, m = self.model, self.model.ops, index.shape[0]
        work = self._workspaces.get(m)
        if work is None:
            work = self._workspaces[m] = model.workspace(m, weighted=self._weighted)
        ops.gather(arrays[0], index, out=work.a[0], scale=model.input_scale)
        ops.gather(arrays[1], index, out=work.y)
        share = 1 / self._whole
        if work.weights is not None:
            ops.gather(arrays[2], index, out=work.weights)
            share *= float(ops.to_numpy(work.weights).sum(dtype=np.float64)) / m
        feedforward(ops, model.layers, work)
        backpropagate(ops, model.layers, model.cost, work, total=total)
        gradient(ops, work, self._nabla.pairs(), alpha=share, beta=1.0)


def run(whole: WholeGradient, optimizer: LBFGS, course: Course, saved: bool) -> None:
    """Take iterations until the course is over or the optimizer has converged; an epoch is an iteration.

    Raises
    ------
    DivergenceError
        If the cost or a parameter becomes NaN or infinite.
    """
    from scipy.optimize import minimize

    history, model, ops = course.history, whole.model, whole.model.ops
    flat, n_weights = model.parameters.flat, model.parameters.n_weights
    history.engine = "L-BFGS by SciPy"
    started = time.perf_counter()

    def record(intermediate_result: Any) -> None:
        nonlocal started
        x, number = intermediate_result.x, len(history.epochs) + 1
        ops.copy(ops.asarray(x.astype(model.dtype)), out=flat)
        cost = float(intermediate_result.fun) - 0.5 * whole.l2 * float(x[:n_weights] @ x[:n_weights])
        is_kept = number % _ITERATIONS_SAVED == 0
        course.end_epoch(_Nothing(number, flat, ops), cost, None, time.perf_counter() - started, whole.n, is_kept)
        started = time.perf_counter()
        if course.is_over():
            raise StopIteration

    with course.whole_epochs():
        ended = history.stopped
        while not course.is_over():
            done = len(history.epochs)
            left = course.epochs - done
            options = {
                "maxiter": min(left, _ITERATIONS_SAVED - done % _ITERATIONS_SAVED) if saved else left,
                "maxcor": optimizer.memory,
                "gtol": optimizer.tolerance,
                "ftol": optimizer.tolerance,
                "maxfun": np.iinfo(np.int32).max,
            }
            x = np.asarray(ops.to_numpy(flat)).astype(np.float64)
            result = minimize(whole, x, jac=True, method="L-BFGS-B", options=options, callback=record)
            course.restore()  # the last point that was tried need not be one that was taken
            if result.status != _ALL_TAKEN and not course.is_over():
                ended = history.stopped = f"L-BFGS ended: {result.message}"
        course.keep(_Nothing(len(history.epochs), flat, ops), ended)


class _AsTheyCome:
    """Draws no order: the examples in theirs, where neighbours share a cache line."""

    def permutation(self, x: int, /) -> npt.NDArray[np.int64]:
        return np.arange(x)


class _Nothing:
    """The state of a trainer that remembers nothing but its parameters."""

    def __init__(self, taken: int, flat: Array, ops: Backend) -> None:
        self._taken, self._states = taken, np.zeros((0, flat.shape[0]), ops.to_numpy(flat).dtype)

    def state(self) -> tuple[int, npt.NDArray[Any]]:
        return self._taken, self._states
