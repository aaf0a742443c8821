"""Who takes the steps of a training: the verbs of a backend, one after another or replayed by one launch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array, Backend
from gpunet.backprop import Workspace, backpropagate, feedforward, gradient
from gpunet.model import Model
from gpunet.optimizers import Optimizer, Penalty
from gpunet.parameters import Parameters
from gpunet.training.draws import Draws, generator_of_masks

#: Steps that a device replays by one launch.
REPLAYED = 32


@dataclass(frozen=True)
class Recipe:
    """What a step does, whoever takes it.

    Attributes
    ----------
    model : Model
    batch_size : int
        Examples of a step; the last step of an epoch takes what is left.
    optimizer : Optimizer
    l2, l1 : float
        l2 * w + l1 * sign(w) is added to the gradient of the weights.
    weight_decay : float
        eta * weight_decay * w is taken from the weights before the step.
    alpha : float or None
        scikit-learn's form of L2: alpha/W * w is added to the gradient of a mini-batch whose examples weigh W
        together (each 1 if they have no weights), and alpha/2W * (sum of all w^2) to its cost. With it, the sum of a
        mini-batch's costs is m times their weighted mean.
    dropout : sequence of float
        The share of the layers' activations, the input first, that is dropped; of layers it does not name, none.
    max_norm : float or None
        The largest norm of a hidden neuron's weights.
    clip_value, clip_norm : float or None
        The largest entry, and norm, of the gradient before the penalties.
    """

    model: Model
    batch_size: int
    optimizer: Optimizer
    l2: float = 0.0
    l1: float = 0.0
    weight_decay: float = 0.0
    alpha: float | None = None
    dropout: Sequence[float] = ()
    max_norm: float | None = None
    clip_value: float | None = None
    clip_norm: float | None = None

    def states(self) -> Array:
        """Return what the optimizer remembers at first: zeros, a row for each of its states."""
        ops, count = self.model.ops, self.model.parameters.flat.shape[0]
        states = ops.empty((self.optimizer.states, count), self.model.dtype)
        states[...] = 0.0
        return states

    @property
    def is_in_place(self) -> bool:
        """Whether BP3 and BP4 can accumulate straight into the parameters: plain gradient descent."""
        return not (self.optimizer.states or self.l1 or self.clip_value or self.clip_norm)


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

    def epoch(self, rng: Draws) -> AbstractContextManager[None]:
        """Return the context of an epoch's calls of `take`; what they draw comes from `rng`."""

    def take(self, data: Sequence[Array], index: Array, eta: float, threads: int, until: float) -> int:
        """Take a step on each mini-batch of the rows `index` of the data; return the number of examples.

        The data are X and Y, and the weights of the examples, (N, 1), if they have any. The step that passes the time
        `until`, of `time.perf_counter`, may be the last.
        """

    def cost(self) -> float:
        """Return the sum of the examples' costs in this epoch, each as its mini-batch met it."""

    def penalty(self) -> float:
        """Return the sum of the penalties of alpha in this epoch, each times its mini-batch's number of examples."""

    def state(self) -> tuple[int, npt.NDArray[Any]]:
        """Return, between epochs, how many steps were taken and a copy of what the optimizer remembers."""

    def restore(self, taken: int, states: npt.NDArray[Any]) -> None:
        """Go on from what `state` returned."""


class VerbSteps:
    """Steps by the verbs of the model's backend."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        # Masks come from the host; a capture that fails would have drawn some that no step used.
        self.at_once: int | None = REPLAYED if recipe.model.ops.replays and not any(recipe.dropout) else None
        self._parameters = recipe.model.parameters.pairs()
        self._workspaces: dict[int, Workspace] = {}
        self._replays: dict[int, _Replay] = {}
        self._total, self._squares = recipe.model.ops.new_total(), recipe.model.ops.new_total()
        self._taken = 0
        self._eta = math.nan
        self._states = recipe.states()
        if not recipe.is_in_place:
            self._nabla = Parameters(recipe.model.ops, recipe.model.sizes, recipe.model.dtype)

    @property
    def name(self) -> str:
        replayed = any(replay.launch for replay in self._replays.values())
        return f"{REPLAYED} steps a launch" if replayed else "step by step"

    @property
    def most_threads(self) -> int:
        return self.recipe.model.ops.most_threads

    @contextmanager
    def epoch(self, rng: Draws) -> Iterator[None]:
        if any(self.recipe.dropout):
            self._masks = generator_of_masks(rng)
        self._total[...] = self._squares[...] = 0.0
        with self.recipe.model.ops.threads(1):  # what `take` asks for holds within it
            yield

    def cost(self) -> float:
        return float(self.recipe.model.ops.to_numpy(self._total).sum())

    def penalty(self) -> float:
        alpha = self.recipe.alpha or 0.0
        return 0.5 * alpha * float(self.recipe.model.ops.to_numpy(self._squares).sum())

    def state(self) -> tuple[int, npt.NDArray[Any]]:
        return self._taken, np.array(self.recipe.model.ops.to_numpy(self._states))

    def restore(self, taken: int, states: npt.NDArray[Any]) -> None:
        ops = self.recipe.model.ops
        self._taken = taken
        ops.copy(ops.asarray(states, self.recipe.model.dtype), out=self._states)

    def take(self, data: Sequence[Array], index: Array, eta: float, threads: int, until: float = math.inf) -> int:
        ops, count = self.recipe.model.ops, int(index.shape[0])
        if eta != self._eta:
            if self.recipe.is_in_place or self.recipe.weight_decay:  # a captured step has it inside
                self._replays.clear()
            self._eta = eta
        c = self._coefficients(-(-count // self.recipe.batch_size))
        with ops.threads(threads):
            if self.at_once is not None and count == self.at_once * self.recipe.batch_size:
                replay = self._replays.get(id(data[0]))  # a replay reads the arrays that it was captured with
                if replay is None:
                    replay = self._replays[id(data[0])] = _Replay(ops, data, index, c)
                if not replay(self._one_by_one, index, c):
                    self.at_once = None
                done = count
            else:
                done = self._one_by_one(data, index, c, until)
        self._taken += -(-done // self.recipe.batch_size)
        return done

    def _coefficients(self, steps: int) -> Array | None:
        """Return the optimizer's coefficients of the next steps, a row a step, on the device; None if in place."""
        if self.recipe.is_in_place:
            return None
        numbers = np.arange(self._taken + 1, self._taken + steps + 1)
        model = self.recipe.model
        return model.ops.asarray(self.recipe.optimizer.coefficients(self._eta, numbers), model.dtype)

    def _one_by_one(self, data: Sequence[Array], index: Array, c: Array | None, until: float = math.inf) -> int:
        m, count = self.recipe.batch_size, int(index.shape[0])
        for s, start in enumerate(range(0, count, m)):
            stop = min(start + m, count)
            self._step(data, index[start:stop], None if c is None else c[s, ...])
            if time.perf_counter() > until:
                return stop
        return count

    def _step(self, data: Sequence[Array], index: Array, c: Array | None) -> None:
        recipe, model, eta = self.recipe, self.recipe.model, self._eta
        ops, layers, parameters = model.ops, model.layers, model.parameters
        m = index.shape[0]
        work = self._workspaces.get(m)
        if work is None:
            work = self._workspaces[m] = model.workspace(m, dropout=recipe.dropout, weighted=len(data) > 2)
        ops.gather(data[0], index, out=work.a[0], scale=model.input_scale)
        ops.gather(data[1], index, out=work.y)
        l2 = recipe.l2
        if work.weights is not None:
            ops.gather(data[2], index, out=work.weights)
        if recipe.alpha is not None:
            l2 = recipe.alpha / self._whole(work)
            if recipe.alpha:
                ops.add_squares(parameters.flat[: parameters.n_weights], self._squares, l2 * m / recipe.alpha)
        self._draw_masks(work)
        feedforward(ops, layers, work)
        backpropagate(ops, layers, model.cost, work, total=self._total)
        if c is None:
            decay = eta * (l2 + recipe.weight_decay)
            gradient(ops, work, self._parameters, alpha=-eta / m, beta=1.0, decay=decay)
        else:
            gradient(ops, work, self._nabla.pairs(), alpha=1 / m)
            if recipe.clip_value or recipe.clip_norm:
                ops.clip(self._nabla.flat, recipe.clip_value, recipe.clip_norm)
            penalty = Penalty(l2, recipe.l1, eta * recipe.weight_decay)
            ops.update(
                recipe.optimizer, parameters.flat, self._nabla.flat, self._states, c, penalty, parameters.n_weights
            )
        if recipe.max_norm is not None:
            for layer in layers[:-1]:
                ops.limit_norms(layer.weights, recipe.max_norm)

    def _whole(self, work: Workspace) -> float:
        """Return what the mini-batch's examples weigh together; their weights are scaled so as to add up to m."""
        if work.weights is None:
            return work.m
        whole = float(self.recipe.model.ops.to_numpy(work.weights).sum(dtype=np.float64))
        if whole:
            work.weights *= work.m / whole
        return whole or math.inf

    def _draw_masks(self, work: Workspace) -> None:
        """Draw which activations are dropped, and what the others are multiplied with to make up for it."""
        ops, dtype = self.recipe.model.ops, self.recipe.model.dtype
        for mask, share in zip(work.mask, self.recipe.dropout, strict=False):
            if mask is not None:
                kept = self._masks.random(mask.shape[::-1], dtype=np.float32) >= share
                ops.copy(ops.asarray(kept * (1 / (1 - share)), dtype).T, out=mask)


class _Replay:
    """Steps on arrays that stay where they are, to be replayed by one launch if the device can."""

    def __init__(self, ops: Backend, data: Sequence[Array], index: Array, c: Array | None) -> None:
        self._ops, self._data = ops, data
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
            run(self._data, self._index, self._c)

        steps()
        self.launch = self._ops.capture(steps)  # now that everything it needs is there
        return self.launch is not None
