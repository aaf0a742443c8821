"""The book's network as a reader would type it in Python 3: one example at a time, plain NumPy, float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


class BookNetwork:
    """Chapter 1's network: quadratic cost, sigmoid neurons, gradients of one example after another."""

    def __init__(self, sizes, rng):
        self.biases = [rng.standard_normal((n, 1)) for n in sizes[1:]]
        self.weights = [rng.standard_normal((n, k)) for k, n in pairwise(sizes)]

    def update_mini_batch(self, mini_batch, eta):
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

    def backprop(self, x, y):
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
