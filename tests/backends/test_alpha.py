"""scikit-learn's form of L2, with and without weights of the examples, on every backend against plain NumPy."""

import numpy as np
import pytest

import gpunet
from gpunet import optimizers
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe

SIZES, N, BATCH_SIZE, ALPHA, ETA, FLOOR = [6, 5, 3], 43, 10, 0.7, 0.05, 0.2
OPTIMIZERS = [
    optimizers.SGD(),
    optimizers.Momentum(1.0),
    optimizers.Momentum(0.9, nesterov=True),
    optimizers.Adam(epsilon=0.01, epsilon_hat=True),
]


def data():
    rng = np.random.default_rng(7)
    weights = rng.integers(0, 4, (N, 1)).astype(float)  # many are 0
    return rng.normal(size=(N, SIZES[0])), np.eye(SIZES[-1])[rng.integers(0, SIZES[-1], N)], weights


def network(device, dtype):
    return gpunet.Network(SIZES, device=device, dtype=dtype, seed=5, activation="tanh", output_activation="softmax",
                          cost=gpunet.costs.LogLikelihood(FLOOR))  # fmt: skip


def by_hand(net, X, Y, weights, optimizer, alpha, orders):
    """Return what two epochs make of the parameters, and each epoch's mean cost and penalty."""
    w, b = ([np.array(v, dtype=float) for v in vs] for vs in (net.weights, net.biases))
    parameters, told, t = [*w, *b], [], 0
    first, second = ([np.zeros_like(p) for p in parameters] for _ in range(2))
    for order in orders:
        cost = penalty = 0.0
        for start in range(0, N, BATCH_SIZE):
            rows, t = order[start : start + BATCH_SIZE], t + 1
            s = np.ones((len(rows), 1)) if weights is None else weights[rows]
            whole, squares = s.sum(), sum((v**2).sum() for v in w)
            hidden = np.tanh(X[rows] @ w[0].T + b[0].T)
            a = np.exp(hidden @ w[1].T + b[1].T)
            a /= a.sum(axis=1, keepdims=True)
            each = -(Y[rows] * np.log(np.maximum(a, FLOOR))).sum(axis=1, keepdims=True)
            if whole:
                cost += len(rows) * (s * each).sum() / whole
                penalty += len(rows) * alpha / 2 * squares / whole
            share = s / whole if whole else s
            last = share * (a - Y[rows])
            before = last @ w[1] * (1 - hidden**2)
            l2 = alpha / whole if whole else 0.0
            gradients = [before.T @ X[rows] + l2 * w[0], last.T @ hidden + l2 * w[1]]
            gradients += [before.sum(axis=0)[:, None], last.sum(axis=0)[:, None]]
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                move(optimizer, p, g, m, v, t)
        told.append((cost / N, penalty / N))
    return parameters, np.array(told)


def move(optimizer, p, g, m, v, t):
    """Take a step in place, as scikit-learn's optimizers do."""
    o = optimizer
    if isinstance(o, optimizers.Adam):
        m[...] = o.beta1 * m + (1 - o.beta1) * g
        v[...] = o.beta2 * v + (1 - o.beta2) * g**2
        p -= ETA * np.sqrt(1 - o.beta2**t) / (1 - o.beta1**t) * m / (np.sqrt(v) + o.epsilon)
    elif isinstance(o, optimizers.Momentum):
        m[...] = o.mu * m - ETA * g
        p += o.mu * m - ETA * g if o.nesterov else m
    else:
        p -= ETA * g


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
@pytest.mark.parametrize("alpha", [0.0, ALPHA])
@pytest.mark.parametrize("weighted", ["no weights", "weights", "weights of which a mini-batch's are all 0"])
def test_two_epochs_of_ragged_mini_batches(backend, optimizer, alpha, weighted, dtype):
    """43 examples in mini-batches of 10. The mean cost and the penalty are reported beside each other."""
    X, Y, weights = data()
    rng = np.random.default_rng(11)
    orders = [rng.permutation(N) for _ in range(2)]
    if weighted == "no weights":
        weights = None
    elif weighted != "weights":
        weights[orders[0][20:30]] = 0.0
    net = network(backend, dtype)
    wanted, told = by_hand(net, X, Y, weights, optimizer, alpha, orders)
    ops = net._model.ops
    with ops.active():
        arrays = [None if x is None else ops.asarray(x, dtype) for x in (X, Y, weights)]
        recipe = Recipe(net._model, BATCH_SIZE, optimizer, alpha=alpha)
        training = MiniBatchSGD(recipe, *arrays[:2], np.random.default_rng(11), arrays[2])
        got = [(training.run_epoch(ETA), training.penalty) for _ in range(2)]
    tolerance = {"float32": 1e-4, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(got, told, rtol=tolerance)
    for p, right in zip([*net.weights, *net.biases], wanted, strict=True):
        np.testing.assert_allclose(p, right, rtol=0, atol=tolerance * np.abs(right).max())
    assert (told[:, 1] > 0.01).all() if alpha else not told[:, 1].any()
    if weights is not None:  # which stay as they are
        with ops.active():
            np.testing.assert_array_equal(ops.to_numpy(arrays[2]), weights)


def test_the_penalty_is_that_of_the_last_epoch(backend):
    """With a step of 0 the weights stay, and in whole mini-batches the penalty is alpha / 2m times their squares."""
    X, Y, _ = data()
    net = network(backend, "float64")
    ops = net._model.ops
    with ops.active():
        recipe = Recipe(net._model, 10, optimizers.get("sgd"), alpha=ALPHA)
        training = MiniBatchSGD(recipe, ops.asarray(X[:40]), ops.asarray(Y[:40]), np.random.default_rng(0))
        for _ in range(3):
            training.run_epoch(0.0)
    squares = sum((np.array(w) ** 2).sum() for w in net.weights)
    assert training.penalty == pytest.approx(ALPHA / 2 * squares / 10, rel=1e-12)
