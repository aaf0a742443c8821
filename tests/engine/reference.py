"""Mini-batch gradient descent written down once more, in plain NumPy and float64, rows as examples."""

from itertools import pairwise

import numpy as np


def sigmoid(z):
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1.0) / (1.0 + e)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


FUNCTIONS = {
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z < 0, 0.0, z),
    "linear": lambda z: z,
    "softmax": softmax,
}


def pull_back(activation, g, a):
    """The product of g with f'(z), from a = f(z)."""
    return {
        "sigmoid": lambda: g * a * (1 - a),
        "tanh": lambda: g * (1 - a**2),
        "relu": lambda: g * np.sign(a),
        "linear": lambda: g,
        "softmax": lambda: a * (g - (g * a).sum(axis=1, keepdims=True)),
    }[activation]()


def log(x, floor):
    return np.log(np.maximum(x, floor or np.finfo(np.float64).smallest_normal))


def costs_and_errors(cost, activation, a, y, floor):
    """Of each example."""
    if cost == "quadratic":
        return 0.5 * ((a - y) ** 2).sum(axis=1), pull_back(activation, a - y, a)
    if cost == "cross-entropy":
        return -(y * log(a, floor) + (1 - y) * log(1 - a, floor)).sum(axis=1), a - y
    return -(y * log(a, floor)).sum(axis=1), a * y.sum(axis=1, keepdims=True) - y


class Rule:
    """A rule for the step, as PyTorch's SGD and Adam have it; it remembers by the key of a parameter."""

    def __init__(self, name, coefficients):
        self.name, self.coefficients = name, coefficients
        self.first, self.second = {}, {}

    def move(self, key, w, g, t):
        eta = self.coefficients[0]
        if self.name == "sgd":
            return w - eta * g
        if self.name == "adam":
            beta1, beta2, epsilon, epsilon_hat, before = self.coefficients[1:]
            t += before
            m = self.first[key] = beta1 * self.first.get(key, 0.0) + (1 - beta1) * g
            v = self.second[key] = beta2 * self.second.get(key, 0.0) + (1 - beta2) * g**2
            if epsilon_hat:
                return w - eta * np.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + epsilon)
            return w - eta * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        mu = self.coefficients[1]
        v = self.first[key] = mu * self.first.get(key, 0.0) - eta * g
        return w + (mu * v - eta * g if self.name == "nesterov" else v)


def split(flat, sizes):
    """The weights and the biases in a flat array: all weights, then all biases."""
    weights, biases, at = [], [], 0
    for n_in, n_out in pairwise(sizes):
        weights.append(flat[at : at + n_in * n_out].reshape(n_out, n_in).astype(np.float64))
        at += n_in * n_out
    for n_out in sizes[1:]:
        biases.append(flat[at : at + n_out].astype(np.float64))
        at += n_out
    assert at == flat.size
    return weights, biases


def train(
    sizes, activations, cost, flat, X, Y, order, batch_size, rule, coefficients, penalty, input_scale, alpha, floor,
    weights=None, dropout=(), uniform=None,
):  # fmt: skip
    """Return the parameters after the steps, flat, the rule's states, the sums of the costs and of the squares."""
    w, b = split(flat, sizes)
    X, Y = X.astype(np.float64) * input_scale, Y.astype(np.float64)
    rule, total, squares, layers = Rule(rule, coefficients), 0.0, 0.0, range(len(w))
    drawn = 0  # of the uniform numbers, so far
    for t, start in enumerate(range(0, len(order), batch_size), start=1):
        rows = order[start : start + batch_size]
        a, masks, fed = [X[rows]], [], []
        for l in layers:
            masks.append(np.ones(a[l].shape))
            if l < len(dropout) and dropout[l]:
                drawn, first = drawn + a[l].size, drawn
                masks[l] = (uniform[first:drawn].reshape(a[l].shape) >= dropout[l]) / (1 - dropout[l])
            fed.append(a[l] * masks[l])
            a.append(FUNCTIONS[activations[l]](fed[l] @ w[l].T + b[l]))
        m, s = len(rows), np.ones(len(rows)) if weights is None else weights[rows, 0]
        whole = s.sum() or np.inf
        c, delta = costs_and_errors(cost, activations[-1], a[-1], Y[rows], floor)
        total += (s * c).sum() * (1.0 if alpha is None else m / whole)
        squares += sum((w[l] ** 2).sum() for l in layers) * m / whole if alpha else 0.0
        l2 = penalty.l2 + (alpha or 0.0) / whole
        delta *= s[:, None] / whole
        nabla = {}
        for l in reversed(layers):
            nabla[l] = delta.T @ fed[l], delta.sum(axis=0)
            if l:
                delta = pull_back(activations[l - 1], delta @ w[l] * masks[l], a[l])
        for l in layers:
            g = nabla[l][0] + l2 * w[l] + penalty.l1 * np.sign(w[l])
            w[l] = rule.move(("w", l), w[l] - penalty.decay * w[l], g, t)
            b[l] = rule.move(("b", l), b[l], nabla[l][1], t)
    states = [
        flatten([s["w", l] for l in layers], [s["b", l] for l in layers]) for s in (rule.first, rule.second) if s
    ]
    return flatten(w, b), states, (total, squares)


def flatten(weights, biases):
    return np.concatenate([x.ravel() for x in (*weights, *biases)])
