"""The book's network as a reader would type it in Python 3: one example at a time, plain NumPy, float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.benchmarks.contender import Contender, Unavailable
from gpunet.benchmarks.problem import Batches, Problem

Matrix = npt.NDArray[np.float64]

#: Above this many multiplications and additions, a step takes seconds.
_MOST_FLOPS = 2e9


def sigmoid(z: Matrix) -> Matrix:
    """Return the logistic function, as the book has it."""
    return 1.0 / (1.0 + np.exp(-z))


class BookNetwork:
    """Chapter 1's network: quadratic cost, sigmoid neurons, gradients of one example after another."""

    def __init__(self, weights: list[Matrix], biases: list[Matrix]) -> None:
        self.weights, self.biases = weights, biases

    def update_mini_batch(self, mini_batch: list[tuple[Matrix, Matrix]], eta: float) -> None:
        """Take one step along the mean gradient of the mini-batch."""
        sum_b = [np.zeros_like(b) for b in self.biases]
        sum_w = [np.zeros_like(w) for w in self.weights]
        for x, y in mini_batch:
            nabla_b, nabla_w = self.backprop(x, y)
            sum_b = [s + nb for s, nb in zip(sum_b, nabla_b, strict=True)]
            sum_w = [s + nw for s, nw in zip(sum_w, nabla_w, strict=True)]
        rate = eta / len(mini_batch)
        self.biases = [b - rate * s for b, s in zip(self.biases, sum_b, strict=True)]
        self.weights = [w - rate * s for w, s in zip(self.weights, sum_w, strict=True)]

    def backprop(self, x: Matrix, y: Matrix) -> tuple[list[Matrix], list[Matrix]]:
        """Return the gradient of one example's cost."""
        a, zs = [x], []
        for b, w in zip(self.biases, self.weights, strict=True):
            zs.append(w @ a[-1] + b)
            a.append(sigmoid(zs[-1]))
        delta = (a[-1] - y) * sigmoid(zs[-1]) * (1 - sigmoid(zs[-1]))
        nabla_b, nabla_w = [delta], [delta @ a[-2].T]
        for l in range(len(self.weights) - 2, -1, -1):
            s = sigmoid(zs[l])
            delta = (self.weights[l + 1].T @ delta) * s * (1 - s)
            nabla_b.insert(0, delta)
            nabla_w.insert(0, delta @ a[l].T)
        return nabla_b, nabla_w


class Book(Contender):
    """The book's loop over its list of (x, y) tuples of float64, whatever the problem's dtype."""

    distributions = ("numpy",)

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        if (problem.cost, problem.activation) != ("quadratic", "sigmoid"):
            raise Unavailable("the book's loop has sigmoid neurons and the quadratic cost alone")
        if problem.flops > _MOST_FLOPS:
            raise Unavailable("left out: seconds a step")
        X, labels, scale = problem.inputs()
        xs = X[:, :, None] * np.float64(scale)
        ys = np.eye(problem.sizes[-1])[labels][:, :, None]
        self._data = list(zip(xs, ys, strict=True))
        self.start()

    def start(self) -> None:
        self._batches = Batches(self.problem)
        pairs = self.problem.parameters()
        self.network = BookNetwork([w for w, _ in pairs], [b[:, None] for _, b in pairs])

    def run(self, steps: int) -> None:
        for rows in self._batches.take(steps).tolist():
            self.network.update_mini_batch([self._data[i] for i in rows], self.problem.eta)

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return [(w, b[:, 0]) for w, b in zip(self.network.weights, self.network.biases, strict=True)]
