"""Networks and data for the tests of the engine."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from engine import reference

from gpunet import optimizers
from gpunet.backends.compiled import NO_PENALTY, RULES, CompiledEngine, instruction_sets, why_not_compiled
from gpunet.optimizers import Penalty

INSTRUCTION_SETS = () if why_not_compiled() else instruction_sets()
COEFFICIENTS = {
    "sgd": (0.5,),
    "momentum": (0.1, 0.9),
    "nesterov": (0.1, 0.9),
    "adam": (0.01, 0.9, 0.999, 1e-8, False, 0),
}
assert set(COEFFICIENTS) == set(RULES.values())


@dataclass
class Problem:
    """A network, its data, and how it is to be trained."""

    sizes: list[int]
    activations: list[str]
    cost: str = "quadratic"
    rule: str = "sgd"
    batch_size: int = 10
    examples: int = 64
    penalty: Penalty = NO_PENALTY
    zeros: float = 0.0
    uint8: bool = False
    coefficients: tuple[float, ...] = ()
    alpha: float | None = None
    floor: float = 0.0
    weighted: bool = False
    dropout: tuple[float, ...] = ()
    arrays: Any = field(init=False)
    weights: Any = field(init=False, default=None)
    uniform: Any = field(init=False, default=None)

    def __post_init__(self):
        rng = np.random.default_rng(7)
        pairs = list(pairwise(self.sizes))
        w = [rng.normal(size=(n, k)) / np.sqrt(k) for k, n in pairs]
        b = [np.abs(rng.normal(size=n)) for _, n in pairs]  # so that not every ReLU is dead
        X = rng.integers(1, 256, size=(self.examples, self.sizes[0]), dtype=np.uint8)
        X[rng.random(X.shape) < self.zeros] = 0
        Y = np.zeros((self.examples, self.sizes[-1]), dtype=np.uint8)
        Y[np.arange(self.examples), rng.integers(0, self.sizes[-1], self.examples)] = 1
        order = np.concatenate([rng.permutation(self.examples), rng.permutation(self.examples)[:5]])
        self.arrays = reference.flatten(w, b), X, Y, order
        if self.weighted:  # some count nothing, and with them all of the second mini-batch
            self.weights = rng.integers(0, 4, size=(self.examples, 1)) / 3.0
            self.weights[order[self.batch_size : 2 * self.batch_size]] = 0.0
        if self.dropout:
            self.uniform = rng.random(len(order) * self.draws, dtype=np.float32)
        self.coefficients = self.coefficients or COEFFICIENTS[self.rule]

    @property
    def draws(self):
        """The numbers that dropout takes for an example."""
        return sum(n for n, share in zip(self.sizes, self.dropout, strict=False) if share)

    def expected(self):
        flat, X, Y, order = self.arrays
        return reference.train(self.sizes, self.activations, self.cost, flat, X, Y, order, self.batch_size, self.rule,
                               self.coefficients, self.penalty, 1 / 256, self.alpha, self.floor,
                               self.weights, self.dropout, self.uniform)  # fmt: skip

    def engine(self, dtype="float64", instruction_set=None):
        return CompiledEngine(
            self.sizes, self.activations, self.cost, dtype, instruction_set, self.floor, self.dropout
        )

    def train(self, dtype="float64", instruction_set=None, threads=1, calls=1):
        """Return what the engine makes of it: parameters, states, the sums of the costs and of the squares."""
        flat, X, Y, order = self.arrays
        engine = self.engine(dtype, instruction_set)
        parameters = flat.astype(dtype)
        states = [np.zeros_like(parameters) for _ in range(optimizers.get(self.rule).states)]
        engine.load(parameters, states)
        if not self.uint8:
            X, Y = X.astype(dtype), Y.astype(dtype)
        weights = None if self.weights is None else self.weights.astype(dtype)
        sums = 0.0, 0.0
        coefficients = list(self.coefficients)
        chunk = -(-len(order) // self.batch_size // calls) * self.batch_size
        for start in range(0, len(order), chunk):
            rows = order[start : start + chunk]
            uniform = self.uniform
            if uniform is not None:
                uniform = uniform[start * self.draws : (start + chunk) * self.draws]
            sums = engine.steps(X, Y, rows, self.batch_size, self.rule, coefficients, self.penalty, 1 / 256, threads,
                                sums, self.alpha, weights, uniform)  # fmt: skip
            if self.rule == "adam":
                coefficients[-1] += -(-len(rows) // self.batch_size)
        engine.store(parameters, states)
        return parameters, states, sums

    def check(self, dtype="float64", instruction_set=None, threads=1, calls=1):
        tolerance = {"float64": 1e-10, "float32": 2e-4}[dtype]
        parameters, states, sums = self.train(dtype, instruction_set, threads, calls)
        expected, expected_states, expected_sums = self.expected()
        np.testing.assert_allclose(parameters, expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(sums, expected_sums, rtol=tolerance)
        assert len(states) == len(expected_states)
        for state, wanted in zip(states, expected_states, strict=True):
            np.testing.assert_allclose(state, wanted, rtol=tolerance, atol=tolerance)
        assert np.abs(expected - self.arrays[0]).max() > 1e-3  # it has trained
