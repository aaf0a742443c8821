"""Who takes the steps of a training: the verbs of a backend, one after another or replayed by one launch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpunet.backends import Array, Backend
from gpunet.backprop import Workspace, backpropagate, feedforward, gradient
from gpunet.model import Model
from gpunet.optimizers import Optimizer
from gpunet.parameters import Parameters

#: Steps that a device replays by one launch.
REPLAYED = 32


@dataclass(frozen=True)
class Recipe:
    """What a step does, whoever takes it. The gradient of the weights has penalty * w added to it."""

    model: Model
    batch_size: int
    eta: float
    optimizer: Optimizer
    penalty: float

    def states(self) -> Array:
        """Return what the optimizer remembers at first: zeros, a row for each of its states."""
        ops, count = self.model.ops, self.model.parameters.flat.shape[0]
        states = ops.empty((self.optimizer.states, count), self.model.dtype)
        states[...] = 0.0
        return states


class Steps(Protocol):
    """Takes the steps of a training."""

    @property
    def name(self) -> str:
        """How a training's history calls it."""

    @property
    def most_threads(self) -> int:
        """How many of the CPU's threads may share a step."""

    @property
    def at_once(self) -> int | None:
        """How many steps a call of `take` should have; None: any number."""

    def epoch(self) -> AbstractContextManager[None]:
        """Return the context of an epoch's calls of `take`."""

    def take(self, X: Array, Y: Array, index: Array, threads: int, until: float) -> int:
        """Take a step on each mini-batch of the rows `index` of X and Y; return the number of examples.

        The step that passes the time `until`, of `time.perf_counter`, may be the last.
        """

    def cost(self) -> float:
        """Return the sum of the examples' costs in this epoch, each as its mini-batch met it."""


class VerbSteps:
    """Steps by the verbs of the model's backend."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.at_once: int | None = REPLAYED if recipe.model.ops.replays else None
        self._parameters = recipe.model.parameters.pairs()
        self._workspaces: dict[int, Workspace] = {}
        self._replays: dict[int, _Replay] = {}
        self._total = recipe.model.ops.new_total()
        self._taken = 0
        if recipe.optimizer.states:
            self._nabla = Parameters(recipe.model.ops, recipe.model.sizes, recipe.model.dtype)
            self._states = recipe.states()

    @property
    def name(self) -> str:
        replayed = any(replay.launch for replay in self._replays.values())
        return f"{REPLAYED} steps a launch" if replayed else "step by step"

    @property
    def most_threads(self) -> int:
        return self.recipe.model.ops.most_threads

    @contextmanager
    def epoch(self) -> Iterator[None]:
        self._total[...] = 0.0
        with self.recipe.model.ops.threads(1):  # what `take` asks for holds within it
            yield

    def cost(self) -> float:
        return float(self.recipe.model.ops.to_numpy(self._total).sum())

    def take(self, X: Array, Y: Array, index: Array, threads: int, until: float = math.inf) -> int:
        ops, count = self.recipe.model.ops, int(index.shape[0])
        c = self._coefficients(-(-count // self.recipe.batch_size))
        with ops.threads(threads):
            if self.at_once is not None and count == self.at_once * self.recipe.batch_size:
                replay = self._replays.get(id(X))  # a replay reads the arrays that it was captured with
                if replay is None:
                    replay = self._replays[id(X)] = _Replay(ops, X, Y, index, c)
                if not replay(self._one_by_one, index, c):
                    self.at_once = None
                done = count
            else:
                done = self._one_by_one(X, Y, index, c, until)
        self._taken += -(-done // self.recipe.batch_size)
        return done

    def _coefficients(self, steps: int) -> Array | None:
        """Return the optimizer's coefficients of the next steps, a row a step, on the device; None if it has none."""
        optimizer, model = self.recipe.optimizer, self.recipe.model
        if not optimizer.states:
            return None
        numbers = np.arange(self._taken + 1, self._taken + steps + 1)
        return model.ops.asarray(optimizer.coefficients(self.recipe.eta, numbers), model.dtype)

    def _one_by_one(self, X: Array, Y: Array, index: Array, c: Array | None, until: float = math.inf) -> int:
        m, count = self.recipe.batch_size, int(index.shape[0])
        for s, start in enumerate(range(0, count, m)):
            stop = min(start + m, count)
            self._step(X, Y, index[start:stop], None if c is None else c[s, ...])
            if time.perf_counter() > until:
                return stop
        return count

    def _step(self, X: Array, Y: Array, index: Array, c: Array | None) -> None:
        model, eta, penalty = self.recipe.model, self.recipe.eta, self.recipe.penalty
        ops, layers, parameters = model.ops, model.layers, model.parameters
        m = index.shape[0]
        work = self._workspaces.get(m)
        if work is None:
            work = self._workspaces[m] = model.workspace(m)
        ops.gather(X, index, out=work.a[0], scale=model.input_scale)
        ops.gather(Y, index, out=work.y)
        feedforward(ops, layers, work)
        backpropagate(ops, layers, model.cost, work, total=self._total)
        if c is None:
            gradient(ops, work, self._parameters, alpha=-eta / m, beta=1.0, decay=eta * penalty)
        else:
            gradient(ops, work, self._nabla.pairs(), alpha=1 / m)
            optimizer, nabla = self.recipe.optimizer, self._nabla.flat
            ops.update(optimizer, parameters.flat, nabla, self._states, c, penalty, parameters.n_weights)


class _Replay:
    """Steps on arrays that stay where they are, to be replayed by one launch if the device can."""

    def __init__(self, ops: Backend, X: Array, Y: Array, index: Array, c: Array | None) -> None:
        self._ops, self._X, self._Y = ops, X, Y
        self._index = ops.empty(tuple(index.shape), "int64")
        self._c = None if c is None else ops.empty(tuple(c.shape), str(c.dtype))
        self.launch: Callable[[], None] | None = None

    def __call__(self, run: Callable[..., object], index: Array, c: Array | None) -> bool:
        """Take the steps, by `run` until a launch of them is captured; return whether they can be replayed.

        `run` is handed over each time: who keeps a function keeps its object, and all of a training's memory with it.
        """
        self._ops.copy(index, out=self._index)
        if self._c is not None:
            self._ops.copy(c, out=self._c)
        if self.launch is not None:
            self.launch()
            return True

        def steps() -> None:
            run(self._X, self._Y, self._index, self._c)

        steps()
        self.launch = self._ops.capture(steps)  # now that everything it needs is there
        return self.launch is not None
