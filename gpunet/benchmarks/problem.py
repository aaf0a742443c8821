"""What is to be computed: the same network, data, mini-batches and update for every contender."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import checks, datasets
from gpunet.errors import InputError
from gpunet.targets import one_hot

_PARAMETERS, _DATA, _ORDER = 0, 1, 2  # streams of one seed


@dataclass(frozen=True)
class Problem:
    """Plain SGD on a dense network, from given parameters, over given mini-batches.

    Attributes
    ----------
    sizes : tuple of int
        Neurons in each layer, the input first.
    batch : int
        Examples a step.
    steps : int
        Steps of an epoch; the data have ``batch * steps`` examples.
    data : {"mnist", "random"}
        The first images of MNIST, as bytes times 1/256, or dense numbers in [0, 1).
    dtype : {"float32", "float64"}
    cost : {"quadratic", "log-likelihood"}
        The first with sigmoid outputs, the second with softmax outputs; the mean over a mini-batch is minimised.
    activation : {"sigmoid", "relu"}
        Of the hidden layers.
    eta : float
        The learning rate.
    seed : int
        Fixes the initial parameters, random data, and the order of the examples in every epoch.
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    data: str = "mnist"
    dtype: str = "float32"
    cost: str = "quadratic"
    activation: str = "sigmoid"
    eta: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))  # JSON hands in a list
        checks.one_of(self.data, ("mnist", "random"), "data")
        checks.one_of(self.dtype, ("float32", "float64"), "dtype")
        checks.one_of(self.cost, ("quadratic", "log-likelihood"), "cost")
        checks.one_of(self.activation, ("sigmoid", "relu"), "activation")
        if len(self.sizes) < 2 or min(self.sizes) < 1 or self.batch < 1 or self.steps < 1:
            raise InputError(f"sizes, batch and steps must be at least 1, got {self.name} and {self.steps} steps.")
        if self.data == "mnist" and (self.sizes[0] != 784 or self.sizes[-1] != 10 or self.examples > 60_000):
            raise InputError(
                f"MNIST is 60,000 images of 784 pixels in 10 classes, got {self.name} and {self.steps} steps; "
                "random data has any."
            )

    @property
    def examples(self) -> int:
        """Examples of an epoch."""
        return self.batch * self.steps

    @property
    def name(self) -> str:
        """Such as "[784, 30, 10], batch 10"."""
        return f"{list(self.sizes)}, batch {self.batch}"

    @property
    def flops(self) -> int:
        """Additions and multiplications of one step's matrix products: z, nabla_w, and delta but for layer 1."""
        weights = [k * n for k, n in pairwise(self.sizes)]
        return 2 * self.batch * (2 * sum(weights) + sum(weights[1:]))

    def parameters(self) -> list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
        """Return the initial weights (n_l, n_{l-1}) and biases (n_l,), layer by layer; none is saturated."""
        rng = np.random.default_rng([self.seed, _PARAMETERS])
        factor = 2.0 if self.activation == "relu" else 1.0
        return [
            (rng.standard_normal((n, k)) * np.sqrt(factor / k), 0.1 * rng.standard_normal(n))
            for k, n in pairwise(self.sizes)
        ]

    def inputs(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64], float]:
        """Return the inputs (N, n_in) in the type they come in, the labels (N,), and the inputs' factor."""
        if self.data == "mnist":
            mnist = datasets.mnist()
            assert mnist.y is not None
            return mnist.X[: self.examples], mnist.y[: self.examples], mnist.input_scale
        rng = np.random.default_rng([self.seed, _DATA])
        X = rng.random((self.examples, self.sizes[0]), dtype=np.dtype(self.dtype).type)
        return X, rng.integers(self.sizes[-1], size=self.examples), 1.0

    def scaled_inputs(self) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """Return the inputs in the problem's dtype, times their factor, and the labels."""
        X, labels, scale = self.inputs()
        return scaled(X, scale, self.dtype), labels

    def targets(self, labels: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Return one-hot rows in the problem's dtype."""
        return one_hot(labels, self.sizes[-1]).astype(self.dtype)

    def order(self) -> np.random.Generator:
        """Return the generator of each epoch's permutation, which every contender draws alike."""
        return np.random.default_rng([self.seed, _ORDER])


def scaled(X: npt.NDArray[Any], scale: float, dtype: str) -> npt.NDArray[Any]:
    """Return X * scale in that dtype; X itself where that is nothing to do."""
    if X.dtype == dtype and scale == 1.0:
        return X
    return np.asarray(np.multiply(X, scale, dtype=dtype))


class Batches:
    """The mini-batches one after the other, epoch after epoch in a new order."""

    def __init__(self, problem: Problem) -> None:
        self._rng, self._shape = problem.order(), (problem.steps, problem.batch)
        self._left = np.empty((0, problem.batch), dtype=np.int64)

    def take(self, steps: int) -> npt.NDArray[np.int64]:
        """Return the rows of the next `steps` mini-batches, (steps, m)."""
        taken = [self._left]
        while sum(map(len, taken)) < steps:
            taken.append(self._rng.permutation(self._shape[0] * self._shape[1]).reshape(self._shape))
        rows = np.concatenate(taken) if len(taken) > 1 else self._left
        self._left = rows[steps:]
        return rows[:steps]
