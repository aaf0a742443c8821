"""Mini-batch stochastic gradient descent, equations (20) and (21), and the other optimizers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from gpunet import optimizers
from gpunet.backends import Array, Backend
from gpunet.backprop import Workspace, backpropagate, feedforward, gradient
from gpunet.model import Model
from gpunet.optimizers import Optimizer
from gpunet.parameters import Parameters
from gpunet.training import data
from gpunet.training.threads import ThreadChooser

#: Called during an epoch with the number of examples done.
Progress = Callable[[int], None]

_PROGRESS_SECONDS = 0.1
#: Steps that a device replays by one launch.
_REPLAYED = 32


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
    ) -> None:
        self.model, self.batch_size, self.eta, self.rng, self.optimizer = model, batch_size, eta, rng, optimizer
        self._data = data.of(model.ops, X, Y, model.dtype, batch_size)
        self.n = self._data.n
        self._X, self._Y = X, Y
        self._penalty = l2 / self.n
        self._parameters = model.parameters.pairs()
        self._workspaces: dict[int, Workspace] = {}
        self._replays: dict[int, _Replay] = {}
        self._total = model.ops.new_total()
        self._steps_taken = 0
        if optimizer.states:
            ops, count = model.ops, model.parameters.flat.shape[0]
            self._nabla = Parameters(ops, model.sizes, model.dtype)
            self._states = ops.empty((optimizer.states, count), model.dtype)
            self._states[...] = 0.0

    @property
    def engine(self) -> str:
        """How the steps are run."""
        return f"{_REPLAYED} steps a launch" if any(r.launch for r in self._replays.values()) else "step by step"

    def run_epoch(self, on_progress: Progress | None = None) -> float:
        """Train on every example once; return the mean cost, NaN or infinite if it diverged."""
        self._total[...] = 0.0
        reports = _Reports(on_progress)
        for X, Y, index in self._data.parts(self.rng.permutation(self.n)):
            self._X, self._Y = X, Y
            self._run(index, reports)
        return float(self.model.ops.to_numpy(self._total).sum() / self.n)

    def step(self, index: Array) -> None:
        """Take one step of gradient descent on the examples of these rows."""
        self._take_steps(index, self._coefficients(1))

    @cached_property
    def _chooser(self) -> ThreadChooser:
        flops = 6 * self.model.parameters.flat.shape[0] * self.batch_size  # three products of 2 a weight and example
        return ThreadChooser(self.model.ops.most_threads, flops)

    def _run(self, index: Array, reports: _Reports) -> None:
        """Take steps on the examples of these rows, chunk by chunk, until all are used."""
        ops, m, count = self.model.ops, self.batch_size, index.shape[0]
        c = self._coefficients(-(-count // m))
        done = 0
        while done < count:
            chunk = self._chooser.next()
            steps, first = _REPLAYED if ops.replays else chunk.steps, done // m
            rows = index[done : min(done + steps * m, count)]
            row_c = None if c is None else c[first : first + steps, ...]
            with ops.threads(chunk.threads):
                started = time.perf_counter()
                if not ops.replays:
                    examples = self._take_steps(rows, row_c, started + chunk.seconds)
                elif rows.shape[0] == _REPLAYED * m:
                    examples = self._replay(rows, row_c)
                else:
                    examples = self._take_steps(rows, row_c)
                self._chooser.record(examples / m, time.perf_counter() - started)
            done += examples
            reports.add(examples)

    def _replay(self, index: Array, c: Array | None) -> int:
        """Take _REPLAYED whole steps, by one launch if the device can; return the number of examples."""
        replay = self._replays.get(id(self._X))  # a replay reads the arrays that it was captured with
        if replay is None:
            replay = self._replays[id(self._X)] = _Replay(self.model.ops, self._take_steps, index, c)
        replay(index, c)
        return int(index.shape[0])

    def _coefficients(self, steps: int) -> Array | None:
        """Return the optimizer's coefficients of the next steps, a row a step, on the device; None if it has none."""
        numbers = np.arange(self._steps_taken + 1, self._steps_taken + steps + 1)
        self._steps_taken += steps
        if not self.optimizer.states:
            return None
        return self.model.ops.asarray(self.optimizer.coefficients(self.eta, numbers), self.model.dtype)

    def _take_steps(self, index: Array, c: Array | None, until: float = math.inf) -> int:
        """Take a step on each mini-batch of these rows, with its row of coefficients; return the number of examples.

        The step that passes the time `until` is the last.
        """
        m, count = self.batch_size, int(index.shape[0])
        for s, start in enumerate(range(0, count, m)):
            stop = min(start + m, count)
            self._step(index[start:stop], None if c is None else c[s, ...])
            if time.perf_counter() > until:
                return stop
        return count

    def _step(self, index: Array, c: Array | None) -> None:
        ops, layers = self.model.ops, self.model.layers
        m = index.shape[0]
        work = self._workspaces.get(m)
        if work is None:
            work = self._workspaces[m] = self.model.workspace(m)
        ops.gather(self._X, index, out=work.a[0], scale=self.model.input_scale)
        ops.gather(self._Y, index, out=work.y)
        feedforward(ops, layers, work)
        backpropagate(ops, layers, self.model.cost, work, total=self._total)
        if not self.optimizer.states:
            gradient(ops, work, self._parameters, alpha=-self.eta / m, beta=1.0, decay=self.eta * self._penalty)
            return
        gradient(ops, work, self._nabla.pairs(), alpha=1 / m)
        parameters = self.model.parameters
        ops.update(
            self.optimizer,
            parameters.flat,
            self._nabla.flat,
            self._states,
            c,
            self._penalty,
            parameters.n_weights,
        )


class _Replay:
    """Steps on arrays that stay where they are, to be replayed by one launch if the device can."""

    def __init__(
        self, ops: Backend, take_steps: Callable[[Array, Array | None], int], index: Array, c: Array | None
    ) -> None:
        self._ops = ops
        self._index = ops.empty(tuple(index.shape), "int64")
        self._c = None if c is None else ops.empty(tuple(c.shape), str(c.dtype))
        self._take_steps = take_steps
        self._ran = False
        self.launch: Callable[[], None] | None = None

    def _run(self) -> None:
        self._take_steps(self._index, self._c)

    def __call__(self, index: Array, c: Array | None) -> None:
        self._ops.copy(index, out=self._index)
        if self._c is not None:
            self._ops.copy(c, out=self._c)
        if self.launch is not None:
            self.launch()
            return
        self._run()
        if not self._ran:  # now that everything it needs is there
            self._ran = True
            self.launch = self._ops.capture(self._run)


class _Reports:
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
