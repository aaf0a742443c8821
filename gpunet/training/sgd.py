"""Mini-batch stochastic gradient descent, equations (20) and (21)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property

import numpy as np

from gpunet.backends import Array
from gpunet.backprop import Workspace, backpropagate, feedforward, gradient
from gpunet.model import Model
from gpunet.training.threads import ThreadChooser

#: Called during an epoch with the number of examples done.
Progress = Callable[[int], None]

_PROGRESS_SECONDS = 0.1


class MiniBatchSGD:
    """Epochs of plain gradient descent over shuffled mini-batches of data that lie on the device.

    Parameters
    ----------
    model : Model
    X : array, shape (N, n_in)
        Inputs, one row an example, in their own dtype.
    Y : array, shape (N, n_out)
        Targets, one row an example.
    batch_size : int
        Examples a step; the last step of an epoch takes what is left.
    eta : float
        The learning rate; a step moves by eta times the mean gradient of its examples.
    rng : numpy.random.Generator
        Draws each epoch's order, on the host, so that every backend sees the same.
    """

    def __init__(
        self, model: Model, X: Array, Y: Array, batch_size: int, eta: float, rng: np.random.Generator
    ) -> None:
        self.model, self.X, self.Y = model, X, Y
        self.batch_size, self.eta, self.rng = batch_size, eta, rng
        self.n = X.shape[0]
        self._parameters = model.parameters.pairs()
        self._workspaces: dict[int, Workspace] = {}
        self._total = model.ops.new_total()

    @cached_property
    def _chooser(self) -> ThreadChooser:
        flops = 6 * self.model.parameters.flat.shape[0] * self.batch_size  # three products of 2 a weight and example
        return ThreadChooser(self.model.ops.most_threads, flops)

    def run_epoch(self, on_progress: Progress | None = None) -> float:
        """Train on every example once; return the mean cost, NaN or infinite if it diverged."""
        ops, n, clock = self.model.ops, self.n, time.perf_counter
        order = ops.asarray(self.rng.permutation(n))
        self._total[...] = 0.0
        due = clock() + _PROGRESS_SECONDS
        done = 0
        while done < n:
            chunk = self._chooser.next()
            with ops.threads(chunk.threads):
                started = clock()
                stop = self._run(order, done, chunk.steps, started + chunk.seconds)
                self._chooser.record((stop - done) / self.batch_size, clock() - started)
            done = stop
            if on_progress is not None and clock() > due:
                on_progress(done)
                due = clock() + _PROGRESS_SECONDS
        return float(ops.to_numpy(self._total).sum() / n)

    def _run(self, order: Array, start: int, steps: int, until: float) -> int:
        """Take steps from the example `start` on, until that time at the latest; return where they ended."""
        for _ in range(steps):
            stop = min(start + self.batch_size, self.n)
            self.step(order[start:stop])
            start = stop
            if stop == self.n or time.perf_counter() > until:
                break
        return start

    def step(self, index: Array) -> None:
        """Take one step of gradient descent on the examples of these rows."""
        ops, layers = self.model.ops, self.model.layers
        m = index.shape[0]
        work = self._workspaces.get(m)
        if work is None:
            work = self._workspaces[m] = self.model.workspace(m)
        ops.gather(self.X, index, out=work.a[0], scale=self.model.input_scale)
        ops.gather(self.Y, index, out=work.y)
        feedforward(ops, layers, work)
        backpropagate(ops, layers, self.model.cost, work, total=self._total)
        gradient(ops, work, self._parameters, alpha=-self.eta / m, beta=1.0)
