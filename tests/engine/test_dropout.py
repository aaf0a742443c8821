"""Dropout: the engine drops what the reference and the verbs drop, and trains as they do."""

import numpy as np
import pytest
from engine.problems import INSTRUCTION_SETS, Problem

import gpunet
from gpunet import optimizers
from gpunet.optimizers import Penalty
from gpunet.training import compiled
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe

WIDTHS = [1, 7, 17, 33]
SHARES = [(0.2, 0.5, 0.3), (0.0, 0.5), (0.3,), (0.0, 0.0, 0.9)]


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("dropout", SHARES, ids=str)
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_rules(instruction_set, dtype, rule, dropout, zeros):
    """Where zeros are skipped, those by dropout are not: the same bits."""
    problem = Problem([70, 33, 20, 5], ["tanh", "sigmoid", "sigmoid"], rule=rule, penalty=Penalty(0.01, 0.005, 0.002),
                      zeros=zeros, dropout=dropout)  # fmt: skip
    problem.check(dtype, instruction_set)
    problem.check(dtype, instruction_set, threads=3, calls=3)
    one, three = (problem.train(dtype, instruction_set, threads, calls=threads) for threads in (1, 3))
    assert one[0].tobytes() == three[0].tobytes()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "linear", "softmax"])
@pytest.mark.parametrize(
    ("cost", "output"), [("quadratic", "softmax"), ("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")]
)
def test_activations_and_costs(dtype, hidden, cost, output):
    problem = Problem([6, 37, 40, 3], ["tanh", hidden, output], cost, coefficients=(0.2,), dropout=(0.1, 0.4, 0.3))
    for threads in (1, 2):
        problem.check(dtype, threads=threads)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("batch_size", [1, 10, 127])
def test_layers_that_threads_share(instruction_set, batch_size):
    problem = Problem([150, 260, 200, 10], ["tanh", "softmax", "sigmoid"], batch_size=batch_size, examples=200,
                      zeros=0.8, uint8=True, weighted=True, alpha=0.1, dropout=(0.2, 0.5, 0.4))  # fmt: skip
    problem.check(instruction_set=instruction_set, threads=3)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("share", [0.3, 0.1, 1e-50, 1 - 1e-12], ids=str)
def test_numbers_beside_the_share(dtype, share):
    """Just below it, at it and just above it: float32 decides, as between NumPy's numbers and a Python float."""
    problem = Problem([6, 5, 3], ["tanh", "sigmoid"], dropout=(share, share), coefficients=(1e-6,))
    at = np.float32(share)
    beside = np.clip([at - np.float32(2**-24), at, at + np.float32(2**-23)], 0, np.float32(1 - 2**-24))
    problem.uniform[...] = np.resize(beside, problem.uniform.size)
    _, _, (cost, _) = problem.train(dtype)
    assert cost == pytest.approx(problem.expected()[2][0], rel={"float64": 1e-10, "float32": 2e-4}[dtype])


@pytest.mark.parametrize("batch_size", [1, 3, 10, 127])
@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("dropout", [(0.2, 0.5), (0.0, 0.5), (0.2, 0.0)], ids=str)
def test_two_epochs_as_by_the_verbs(monkeypatch, batch_size, n, optimizer, dropout):
    """The same masks, however many numbers a call of the engine takes."""
    rng = np.random.default_rng(3)
    sizes = [WIDTHS[(WIDTHS.index(n) + l) % 4] for l in range(3)]
    X, Y = rng.normal(size=(140, n)), rng.random((140, sizes[-1]))
    X[rng.random(X.shape) < 0.7] = 0
    weights = rng.integers(1, 4, size=(140, 1)).astype(float)
    found = []
    for engine, threads, most in (("compiled", 1, 2**20), ("compiled", 2, 40 * batch_size), ("verbs", 1, 0)):
        monkeypatch.setattr(compiled, "_MOST_DRAWS", most)
        net = gpunet.Network(sizes, dtype="float64", device="cpu", seed=2, cost="cross-entropy")
        recipe = Recipe(net._model, batch_size, optimizers.get(optimizer), alpha=0.7, dropout=dropout)
        training = MiniBatchSGD(recipe, X, Y, np.random.default_rng(5), weights, engine, threads)
        sums = [(training.run_epoch(0.02), training.penalty) for _ in range(2)]
        found.append((np.ravel(sums), np.concatenate([x.ravel() for x in (*net.weights, *net.biases)])))
    (costs, one), (costs_cut, two), (expected_costs, expected) = found
    assert one.tobytes() == two.tobytes()
    assert costs.tobytes() == costs_cut.tobytes()
    np.testing.assert_allclose(one, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(costs, expected_costs, rtol=1e-10)
