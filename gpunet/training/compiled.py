"""Steps taken by a backend's compiled engine, which keeps the parameters in a layout of its own during an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from gpunet.backends import Array
from gpunet.training.steps import Recipe


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
        self.recipe = recipe
        self._engine = model.ops.compiled(model.sizes, model.activations, model.cost, model.dtype, recipe.optimizer)
        self._states = recipe.states()
        self._taken = 0
        self._cost = 0.0

    @property
    def name(self) -> str:
        return f"compiled, {self._engine.instruction_set}"

    @property
    def most_threads(self) -> int:
        return self._engine.most_threads

    @contextmanager
    def epoch(self) -> Iterator[None]:
        flat = self.recipe.model.parameters.flat
        self._cost = 0.0
        self._engine.load(flat, list(self._states))
        try:
            yield
        finally:
            self._engine.store(flat, list(self._states))

    def cost(self) -> float:
        return self._cost

    def _coefficients(self) -> list[float]:
        constants = [value for value in self.recipe.optimizer.settings().values() if not isinstance(value, bool)]
        return [self.recipe.eta, *constants, *([self._taken] if self.recipe.optimizer.name == "adam" else [])]

    def take(self, X: Array, Y: Array, index: Array, threads: int, until: float = math.inf) -> int:
        recipe = self.recipe
        self._cost += self._engine.steps(
            X,
            Y,
            index,
            recipe.batch_size,
            recipe.optimizer.name,
            self._coefficients(),
            recipe.penalty,
            recipe.model.input_scale,
            threads,
        )
        self._taken += -(-len(index) // recipe.batch_size)
        return len(index)
