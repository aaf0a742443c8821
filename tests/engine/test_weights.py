"""Weights of examples: the engine trains as the reference and the verbs do."""

import numpy as np
import pytest
from engine.problems import INSTRUCTION_SETS, Problem

import gpunet
from gpunet import optimizers
from gpunet.optimizers import Penalty
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe

WIDTHS = [1, 7, 17, 33]


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.2])
def test_rules(instruction_set, dtype, rule, alpha):
    """An alpha of 0 is none for the step, but not for the sum of the costs."""
    problem = Problem(
        [70, 33, 20, 5],
        ["tanh", "sigmoid", "sigmoid"],
        rule=rule,
        penalty=Penalty(0.01, 0.005, 0.002),
        zeros=0.9,
        alpha=alpha,
        weighted=True,
    )
    problem.check(dtype, instruction_set)
    problem.check(dtype, instruction_set, threads=3, calls=3)
    one, three = (problem.train(dtype, instruction_set, threads, calls=threads) for threads in (1, 3))
    assert one[0].tobytes() == three[0].tobytes()
    assert one[2] == three[2]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("cost", "output"),
    [("quadratic", "relu"), ("quadratic", "softmax"), ("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")],
)
@pytest.mark.parametrize("n_out", [3, 40])
def test_costs(dtype, cost, output, n_out):
    problem = Problem([6, 37, n_out], ["tanh", output], cost, coefficients=(0.1,), weighted=True)
    for threads in (1, 2):
        problem.check(dtype, threads=threads)


def test_weights_matter():
    plain, weighted = (Problem([6, 5, 3], ["tanh", "sigmoid"], weighted=w) for w in (False, True))
    assert np.abs(plain.expected()[0] - weighted.expected()[0]).max() > 1e-3


def test_a_mini_batch_in_which_nothing_counts_changes_nothing():
    problem = Problem([6, 5, 3], ["tanh", "sigmoid"])
    flat, X, Y, order = problem.arrays
    engine = problem.engine()
    engine.load(flat)
    sums = engine.steps(X, Y, order, 10, "sgd", (0.5,), alpha=0.3, weights=np.zeros((64, 1)))
    after = np.empty_like(flat)
    engine.store(after)
    np.testing.assert_array_equal(after, flat)
    assert sums == (0.0, 0.0)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 127])
@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("alpha", [None, 0.7])
def test_an_epoch_as_by_the_verbs(batch_size, n, optimizer, alpha):
    rng = np.random.default_rng(3)
    sizes = [WIDTHS[(WIDTHS.index(n) + l) % 4] for l in range(3)]
    X, Y = rng.normal(size=(140, n)), rng.random((140, sizes[-1]))
    X[rng.random(X.shape) < 0.7] = 0
    weights = rng.integers(0, 4, size=(140, 1)).astype(float)
    weights[np.random.default_rng(5).permutation(140)[batch_size : 2 * batch_size]] = 0.0
    found = {}
    for engine, threads in (("compiled", 1), ("compiled", 2), ("verbs", 1)):
        net = gpunet.Network(sizes, dtype="float64", device="cpu", seed=2, cost="cross-entropy")
        recipe = Recipe(net._model, batch_size, optimizers.get(optimizer), alpha=alpha)
        training = MiniBatchSGD(recipe, X, Y, np.random.default_rng(5), weights, engine, threads)
        sums = [training.run_epoch(0.02), training.penalty]
        found[engine, threads] = np.concatenate([np.ravel(sums), *(x.ravel() for x in (*net.weights, *net.biases))])
    assert found["compiled", 1].tobytes() == found["compiled", 2].tobytes()
    np.testing.assert_allclose(found["compiled", 1], found["verbs", 1], rtol=1e-10, atol=1e-10)
