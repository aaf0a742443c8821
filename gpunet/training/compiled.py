"""Steps taken by a backend's compiled engine, which keeps the parameters in a layout of its own during an epoch."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array
from gpunet.backends.compiled import RULES
from gpunet.errors import DeviceError
from gpunet.optimizers import Adam, Penalty
from gpunet.training.draws import Draws, generator_of_masks
from gpunet.training.steps import Recipe

#: The engine's rows are padded to so many numbers, and mini-batches of so many examples make that felt.
_PADDED_TO, _MANY_EXAMPLES = 32, 1024
#: Calls have as many steps as some 50 ms hold. Where a single step has more floating-point operations than that,
#: calls run beside Python, which must answer an interrupt.
_LONG_STEP = 5e9
#: Random numbers for dropout that a call takes, unless a single step takes more: 4 MB.
_MOST_DRAWS = 2**20


def is_worthwhile(recipe: Recipe) -> bool:
    """Whether the engine is likely to be faster than the verbs, and takes no more memory.

    Its vectors are half empty where layers are narrow. For small mini-batches that is nothing beside what calls
    from Python take; for large ones it is all there is. No layer was too large for it: docs/decisions.md has figures.
    """
    sizes = recipe.model.sizes
    padded = sum(-(-n // _PADDED_TO) * _PADDED_TO for n in sizes)
    return recipe.batch_size <= _MANY_EXAMPLES or padded <= 2 * sum(sizes)


def _refuse_what_it_does_not_know(recipe: Recipe) -> None:
    asked_for = {
        "max_norm": recipe.max_norm,
        "clip_value": recipe.clip_value,
        "clip_norm": recipe.clip_norm,
    }
    unknown = [name for name, value in asked_for.items() if value]
    if unknown:
        raise DeviceError(f"the compiled engine knows no {' and no '.join(unknown)}.")


class CompiledSteps:
    """Many steps in one call, without Python between them.

    Raises
    ------
    DeviceError
        If the model's backend has no compiled engine, or none that knows this network.
    """

    at_once = None

    def __init__(self, recipe: Recipe) -> None:
        model = recipe.model
        _refuse_what_it_does_not_know(recipe)
        self.recipe = recipe
        self._engine = model.ops.compiled(
            model.sizes, model.activations, model.cost, model.dtype, recipe.optimizer, recipe.dropout
        )
        self._rule = RULES[recipe.optimizer.name]
        self._states = recipe.states()
        self._taken = 0
        self._sums = 0.0, 0.0
        self._has_long_steps = 6 * model.parameters.flat.shape[0] * recipe.batch_size > _LONG_STEP
        self._abandoned = False
        # Random numbers that dropout takes for an example, and memory for those of a call.
        self._draws = sum(n for n, share in zip(model.sizes, recipe.dropout, strict=False) if share)
        self._uniform = np.empty(0, np.float32)

    @property
    def name(self) -> str:
        return f"compiled, {self._engine.instruction_set}"

    @property
    def most_threads(self) -> int:
        return self._engine.most_threads

    @contextmanager
    def epoch(self, rng: Draws) -> Iterator[None]:
        flat = self.recipe.model.parameters.flat
        self._sums = 0.0, 0.0
        if self._draws:
            self._masks = generator_of_masks(rng)
        self._engine.load(flat, list(self._states))
        try:
            yield
        finally:
            if not self._abandoned:
                self._engine.store(flat, list(self._states))

    def cost(self) -> float:
        return self._sums[0]

    def penalty(self) -> float:
        return 0.5 * (self.recipe.alpha or 0.0) * self._sums[1]

    def state(self) -> tuple[int, npt.NDArray[Any]]:
        return self._taken, self._states.copy()

    def restore(self, taken: int, states: npt.NDArray[Any]) -> None:
        self._taken = taken
        self._states[...] = states

    def _coefficients(self, eta: float) -> list[float]:
        optimizer = self.recipe.optimizer
        constants = [value for value in optimizer.settings().values() if not isinstance(value, bool)]
        return [eta, *constants, *([optimizer.epsilon_hat, self._taken] if isinstance(optimizer, Adam) else [])]

    def take(self, data: Sequence[Array], index: Array, eta: float, threads: int, until: float = math.inf) -> int:
        recipe, (X, Y, *weights) = self.recipe, data
        uniform = None
        if self._draws:
            m = recipe.batch_size
            index = index[: max(1, _MOST_DRAWS // (m * self._draws)) * m]
            uniform = self._drawn(len(index) * self._draws)

        def run() -> tuple[float, float]:
            return self._engine.steps(
                X,
                Y,
                index,
                recipe.batch_size,
                self._rule,
                coefficients,
                penalty,
                recipe.model.input_scale,
                threads,
                self._sums,
                recipe.alpha,
                weights[0] if weights else None,
                uniform,
            )

        coefficients = self._coefficients(eta)
        penalty = Penalty(recipe.l2, recipe.l1, eta * recipe.weight_decay)
        self._sums = self._run_beside(run) if self._has_long_steps else run()
        self._taken += -(-len(index) // recipe.batch_size)
        return len(index)

    def _drawn(self, count: int) -> npt.NDArray[np.float32]:
        """Return the next numbers: in one go those that the verbs draw by layer and step."""
        if count > len(self._uniform):
            self._uniform = np.empty(count, np.float32)
        return self._masks.random(out=self._uniform[:count], dtype=np.float32)

    def _run_beside(self, run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
        """Return what `run` does, from a thread of its own: this one stays open to interrupts.

        After an interrupt the engine goes on by itself to the end of the call, on its own copy of the parameters,
        which nobody takes any more.
        """
        done: Future[tuple[float, float]] = Future()

        def work() -> None:
            try:
                done.set_result(run())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=work, name="gpunet engine", daemon=True).start()
        try:
            return done.result()
        except BaseException:
            self._abandoned = True
            raise
