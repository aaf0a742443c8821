"""The engine trains as the reference does: every shape, activation, cost, rule, type and instruction set."""

import sys

import numpy as np
import pytest
from engine.problems import COEFFICIENTS, INSTRUCTION_SETS, NO_PENALTY, Problem

import gpunet
from gpunet import costs, optimizers
from gpunet.backends.compiled import CompiledEngine
from gpunet.optimizers import Penalty
from gpunet.training.compiled import CompiledSteps
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe

WIDTHS = [1, 7, 17, 33]
PENALTIES = [
    NO_PENALTY,
    Penalty(l2=0.01),
    Penalty(l1=0.005),
    Penalty(decay=0.002),
    Penalty(l2=0.01, l1=0.005, decay=0.002),
]


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_shapes(instruction_set, dtype, n, depth):
    widths = [WIDTHS[(WIDTHS.index(n) + l) % len(WIDTHS)] for l in range(depth + 1)]
    Problem(widths, ["sigmoid"] * depth, batch_size=7).check(dtype, instruction_set)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_wide_layers(instruction_set, dtype):
    Problem([1000, 1000, 33], ["tanh", "sigmoid"], batch_size=30).check(dtype, instruction_set, threads=2)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("batch_size", [1, 3, 10, 127, 300, 500])
@pytest.mark.parametrize("zeros", [0.0, 0.8])
def test_batches(instruction_set, batch_size, zeros):
    problem = Problem([150, 40, 10], ["sigmoid", "sigmoid"], batch_size=batch_size, examples=400, zeros=zeros)
    problem.check(instruction_set=instruction_set)
    problem.check(instruction_set=instruction_set, threads=3)


COSTS_AND_OUTPUTS = [
    *(("quadratic", name) for name in ("sigmoid", "tanh", "relu", "linear", "softmax")),
    ("cross-entropy", "sigmoid"),
    ("log-likelihood", "softmax"),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("cost", "output"), COSTS_AND_OUTPUTS)
@pytest.mark.parametrize("hidden", ["sigmoid", "tanh", "relu", "linear", "softmax"])
@pytest.mark.parametrize("n_out", [3, 40])
def test_activations_and_costs(dtype, cost, output, hidden, n_out):
    eta = 0.02 if {hidden, output} & {"relu", "linear"} else 1.0  # which have no bounds
    problem = Problem([6, 37, n_out], [hidden, output], cost, coefficients=(eta,))
    for threads in (1, 2):
        problem.check(dtype, threads=threads)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_rules(instruction_set, dtype, rule, penalty, zeros):
    problem = Problem([70, 20, 20, 4], ["tanh", "sigmoid", "sigmoid"], rule=rule, penalty=penalty, zeros=zeros)
    problem.check(dtype, instruction_set, threads=2)
    one, two = (problem.train(dtype, instruction_set, threads)[0].tobytes() for threads in (1, 2))
    assert one == two


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("penalty", [NO_PENALTY, PENALTIES[-1]], ids=str)
@pytest.mark.parametrize("zeros", [0.0, 0.9])
def test_alpha_is_shared_by_the_examples_of_a_mini_batch(instruction_set, dtype, rule, penalty, zeros):
    """The last mini-batch has 9 examples instead of 10. The squares are the reference's, by one thread or more."""
    problem = Problem(
        [70, 33, 20, 5], ["tanh", "sigmoid", "sigmoid"], rule=rule, penalty=penalty, zeros=zeros, alpha=0.2
    )
    assert len(problem.arrays[3]) % 10 == 9
    problem.check(dtype, instruction_set)
    problem.check(dtype, instruction_set, threads=3, calls=3)
    without = Problem([70, 33, 20, 5], ["tanh", "sigmoid", "sigmoid"], rule=rule, penalty=penalty, zeros=zeros)
    assert np.abs(without.expected()[0] - problem.expected()[0]).max() > 1e-3


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sizes", [[1, 1], [5, 4, 3], [17, 16, 15], [63, 65, 33], [300, 130, 1]], ids=str)
def test_every_weight_is_squared_once_and_no_bias(instruction_set, dtype, sizes):
    """Weights of small whole numbers, which a step of 0 leaves as they are: the sums are exact."""
    problem = Problem(sizes, ["sigmoid"] * (len(sizes) - 1), examples=7)
    flat, X, Y, _ = problem.arrays
    flat = np.round(4 * flat).astype(dtype)
    weights = flat[: -sum(sizes[1:])].astype(np.float64)
    engine = problem.engine(dtype, instruction_set)
    engine.load(flat)
    _, squares = engine.steps(X, Y, np.arange(7), 3, "sgd", (0.0,), NO_PENALTY, 1 / 256, 2, (0.0, 5.0), 0.1)
    assert squares == 5 + 3 * (weights**2).sum()
    _, squares = engine.steps(X, Y, np.arange(7), 3, "sgd", (0.0,), NO_PENALTY, 1 / 256, 2, (0.0, 5.0), 0.0)
    assert squares == 5


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("penalty", [NO_PENALTY, PENALTIES[-1]], ids=str)
@pytest.mark.parametrize("epsilon", [1e-8, 0.1])
def test_adams_epsilon_hat(instruction_set, dtype, penalty, epsilon):
    """An epsilon of the size of the gradients' roots, so that it matters when it is added."""
    problems = [
        Problem(
            [70, 20, 4],
            ["tanh", "sigmoid"],
            rule="adam",
            penalty=penalty,
            coefficients=(0.01, 0.9, 0.999, epsilon, hat, 0),
        )
        for hat in (False, True)
    ]
    for problem in problems:
        problem.check(dtype, instruction_set, threads=2, calls=2)
    corrected, hat = (problem.expected()[0] for problem in problems)
    if epsilon == 0.1:
        assert np.abs(corrected - hat).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["momentum", "nesterov"])
def test_a_velocity_that_loses_nothing(dtype, rule):
    Problem([30, 20, 4], ["tanh", "sigmoid"], rule=rule, coefficients=(0.05, 1.0)).check(dtype, calls=2)


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_in", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("n_out", [1, 3, 8, 16, 31, 32, 33])
def test_what_is_loaded_is_stored(instruction_set, dtype, n_in, n_out):
    """Bit for bit, at the edges of the blocks and panels; and what a training has left there is overwritten."""
    sizes = [n_in, n_out, n_in]
    problem = Problem(sizes, ["tanh", "sigmoid"])
    count = problem.arrays[0].size
    given = [np.arange(first, first + count, dtype=dtype) for first in (1, 100_001, 200_001)]
    engine = problem.engine(dtype, instruction_set)
    for states in (0, 1, 2, 2):
        engine.load(given[0], given[1 : 1 + states])
        found = [np.zeros(count, dtype) for _ in range(1 + states)]
        engine.store(found[0], found[1:])
        for x, wanted in zip(found, given, strict=False):
            np.testing.assert_array_equal(x, wanted)
        problem.check(dtype, instruction_set)
        _, X, Y, order = problem.arrays
        engine.steps(X, Y, order, 10, "sgd", (0.5,))


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("penalty", [NO_PENALTY, PENALTIES[-1]], ids=str)
@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_many_calls_train_as_one(rule, penalty, alpha):
    problem = Problem([30, 20, 4], ["tanh", "sigmoid"], rule=rule, penalty=penalty, batch_size=7, alpha=alpha)
    for calls in (2, 3, 7):
        one, many = problem.train(calls=1), problem.train(calls=calls)
        assert one[0].tobytes() == many[0].tobytes()
        for state, wanted in zip(many[1], one[1], strict=True):
            assert state.tobytes() == wanted.tobytes()
        assert one[2] == many[2]


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n_in", [1, 3, 4, 127, 128, 130, 784])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.8, 0.97, 1.0])
def test_uint8_inputs_with_zeros(instruction_set, dtype, n_in, zeros):
    problem = Problem([n_in, 12, 3], ["sigmoid", "sigmoid"], zeros=zeros, uint8=True)
    problem.check(dtype, instruction_set)
    as_numbers = Problem([n_in, 12, 3], ["sigmoid", "sigmoid"], zeros=zeros)
    assert problem.train(dtype, instruction_set)[0].tobytes() == as_numbers.train(dtype, instruction_set)[0].tobytes()


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_skipping_zeros_changes_no_bit(instruction_set):
    """-0 does not count as a zero that is skipped: the same numbers, computed sparsely and densely."""
    problem = Problem([128, 20, 3], ["tanh", "sigmoid"], batch_size=8, zeros=0.9)
    flat, X, Y, order = problem.arrays
    X = X.astype(np.float32)
    dense = np.where(X == 0, np.float32(-0.0), X)
    engine, results = problem.engine("float32", instruction_set), []
    for inputs in (X, dense):
        engine.load(flat.astype(np.float32))
        engine.steps(inputs, Y, order, 8, "sgd", (0.5,), NO_PENALTY, 1 / 256)
        result = np.empty(flat.size, np.float32)
        engine.store(result)
        results.append(result)
    weights_that_see = np.abs(results[0] - flat.astype(np.float32)) > 1e-6
    assert weights_that_see.mean() > 0.5
    np.testing.assert_array_equal(results[0], results[1])


@pytest.mark.parametrize("cost", ["quadratic", "cross-entropy", "log-likelihood"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("uint8", [False, True])
def test_an_epoch_of_gpunets_own_loop(cost, dtype, uint8):
    """The engine and gpunet's generic loop on NumPy: the same network, data and order."""
    rng = np.random.default_rng(3)
    X = rng.integers(0, 256, size=(500, 60), dtype=np.uint8)
    X[rng.random(X.shape) < 0.5] = 0
    Y = np.eye(5)[rng.integers(0, 5, 500)].astype(dtype)
    net = gpunet.Network(
        [60, 30, 5], cost=cost, dtype=dtype, device="cpu", seed=2, init="scaled", input_scale=1 / 256
    )
    if not uint8:
        X = X.astype(dtype)
    w, b = [w.copy() for w in net.weights], [b.copy() for b in net.biases]
    flat = np.concatenate([x.ravel() for x in (*w, *b)])
    engine = CompiledEngine(net.sizes, [f.name for f in net.activations], net.cost.name, dtype)
    engine.load(flat)
    order = np.random.default_rng(5).permutation(500)
    total, _ = engine.steps(X, Y, order, 16, "sgd", (0.5,), NO_PENALTY, 1 / 256)
    engine.store(flat)
    recipe = Recipe(net._model, 16, optimizers.get("sgd"))
    mean = MiniBatchSGD(recipe, X, Y, np.random.default_rng(5)).run_epoch(0.5)
    expected = np.concatenate([x.ravel() for x in (*net.weights, *net.biases)])
    tolerance = {"float64": 1e-10, "float32": 1e-4}[dtype]
    np.testing.assert_allclose(flat, expected, rtol=tolerance, atol=tolerance)
    assert total / 500 == pytest.approx(mean, rel=tolerance)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("penalty", [{"weight_decay": 0.3}, {"l1": 0.01, "l2": 0.02, "weight_decay": 0.3}], ids=str)
def test_penalties_as_by_the_verbs(optimizer, penalty):
    """An epoch with weight decay and L1 in float64: both engines' weights and biases."""
    rng = np.random.default_rng(3)
    X, Y = rng.random((500, 60)), np.eye(5)[rng.integers(0, 5, 500)]
    found = {}
    for engine in ("compiled", "verbs", "neither"):
        net = gpunet.Network([60, 30, 5], dtype="float64", device="cpu", seed=2)
        if engine != "neither":
            recipe = Recipe(net._model, 16, optimizers.get(optimizer), **penalty)
            MiniBatchSGD(recipe, X, Y, np.random.default_rng(5), engine=engine).run_epoch(0.05)
        found[engine] = np.concatenate([x.ravel() for x in (*net.weights, *net.biases)])
    np.testing.assert_allclose(found["compiled"], found["verbs"], rtol=1e-10, atol=1e-10)
    assert np.abs(found["compiled"] - found["neither"]).max() > 1e-3


@pytest.mark.parametrize("optimizer", [optimizers.SGD(), optimizers.Momentum(nesterov=True),
                                       optimizers.Adam(epsilon=1e-3, epsilon_hat=True)], ids=repr)  # fmt: skip
@pytest.mark.parametrize("cost", [costs.CrossEntropy(1e-3), costs.LogLikelihood(1e-3)], ids=lambda cost: cost.name)
def test_alpha_floor_and_epsilon_hat_as_by_the_verbs(optimizer, cost):
    """Two epochs of ragged mini-batches: parameters, costs and penalties."""
    rng = np.random.default_rng(3)
    X, Y = 20 * rng.normal(size=(100, 60)), np.eye(5)[rng.integers(0, 5, 100)]
    found = {}
    for engine in ("compiled", "verbs"):
        net = gpunet.Network([60, 30, 5], dtype="float64", device="cpu", seed=2, cost=cost)
        training = MiniBatchSGD(
            Recipe(net._model, 16, optimizer, alpha=0.7), X, Y, np.random.default_rng(5), engine=engine
        )
        sums = [(training.run_epoch(0.05), training.penalty) for _ in range(2)]
        found[engine] = np.concatenate([np.ravel(sums), *(x.ravel() for x in (*net.weights, *net.biases))])
    np.testing.assert_allclose(found["compiled"], found["verbs"], rtol=1e-10, atol=1e-10)
    assert found["verbs"][:4].min() > 0.01


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adam"])
def test_penalties_are_of_the_weights_alone(rule):
    """Where nothing else pulls, with eta = 0, the weights decay and the biases stay."""
    coefficients = (0.0, *COEFFICIENTS[rule][1:])
    problem = Problem(
        [30, 20, 4],
        ["tanh", "sigmoid"],
        rule=rule,
        penalty=Penalty(decay=0.25),
        examples=5,
        coefficients=coefficients,
    )
    flat, X, Y, _ = problem.arrays
    engine, states = problem.engine(), [np.zeros_like(flat) for _ in range(optimizers.get(rule).states)]
    engine.load(flat, states)
    engine.steps(X, Y, np.arange(5), 5, rule, coefficients, problem.penalty)
    after = np.empty_like(flat)
    engine.store(after, states)
    weights = 30 * 20 + 20 * 4
    np.testing.assert_array_equal(after[:weights], 0.75 * flat[:weights])
    np.testing.assert_array_equal(after[weights:], flat[weights:])


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["X", "Y", "w", "b"])
@pytest.mark.parametrize("output", ["sigmoid", "tanh", "relu", "linear", "softmax"])
def test_what_is_not_finite_shows(instruction_set, bad, place, output):
    if np.isinf(bad) and place != "Y" and output in ("sigmoid", "tanh", "relu"):
        pytest.skip("such a network may be saturated and still finite")
    problem = Problem([40, 20, 3], ["tanh" if place == "Y" else "linear", output], zeros=0.8, coefficients=(0.01,))
    flat, X, Y, order = problem.arrays
    flat, X, Y = flat.copy(), X.astype(np.float64), Y.astype(np.float64)
    index = {"X": (4, 2), "Y": (4, 1)}
    if place in index:
        {"X": X, "Y": Y}[place][index[place]] = bad
    else:
        flat[{"w": 3, "b": 40 * 20 + 20 * 3 + 1}[place]] = bad
    engine = problem.engine(instruction_set=instruction_set)
    engine.load(flat)
    with np.errstate(all="ignore"):
        total, _ = engine.steps(X, Y, order, 10, "sgd", (0.01,), NO_PENALTY, 1.0)
    engine.store(flat)
    assert not (np.isfinite(total) and np.isfinite(flat).all())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_activations_are_accurate(name, instruction_set, dtype):
    """To a few units in the last place, over all sizes of z; read off the quadratic cost of one neuron."""
    eps = np.finfo(dtype).eps
    z = np.concatenate([np.logspace(-6, 1.2, 200), -np.logspace(-6, 1.2, 200), [0.0, 50.0, -50.0, 600.0, -600.0]])
    z = z.astype(dtype)
    engine = CompiledEngine([1, 1], [name], "quadratic", dtype, instruction_set)
    engine.load(np.array([1, 0], dtype))
    costs = [
        engine.steps(np.array([[x]], dtype), np.zeros((1, 1), dtype), np.array([0]), 1, "sgd", (0.0,))[0] for x in z
    ]
    a = np.sqrt(2 * np.array(costs))
    wide = z.astype(np.longdouble)
    exact = np.abs(np.tanh(wide)) if name == "tanh" else 1 / (1 + np.exp(-wide))
    normal = exact**2 > 4 * np.finfo(dtype).smallest_normal
    assert normal.mean() > 0.9
    np.testing.assert_allclose(a[normal], exact[normal].astype(float), rtol=4 * float(eps))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_the_logarithm_is_accurate(instruction_set, dtype):
    """The cost of cross-entropy against NumPy's logarithm of the same sigmoid, near 0, near 1 and between."""
    z = np.linspace(-15, 15, 301).astype(dtype)
    engine = CompiledEngine([1, 1], ["sigmoid"], "cross-entropy", dtype, instruction_set)
    engine.load(np.array([1, 0], dtype))
    for y in (0, 1):
        target = np.full((1, 1), y, dtype)
        costs = [engine.steps(np.array([[x]], dtype), target, np.array([0]), 1, "sgd", (0.0,))[0] for x in z]
        a = (1 / (1 + np.exp(-z.astype(np.longdouble)))).astype(dtype)
        exact = -np.log((a if y else 1 - a).astype(np.longdouble)).astype(float)
        # a itself may be off by an ulp, which 1 - a and the logarithm magnify
        slack = 4 * np.finfo(dtype).eps / np.minimum(1, np.maximum(a if y else 1 - a, 1e-30))
        assert (np.abs(costs - exact) <= slack + 4 * np.finfo(dtype).eps * np.abs(exact)).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("floor", [0.0, "epsilon", 0.25])
@pytest.mark.parametrize(("cost", "output"), [("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")])
def test_the_floor_of_the_logarithms(cost, output, floor, instruction_set, dtype):
    """Outputs of 0 and 1 whose targets are 1 and 0, of 0.5, and of less than 0.25."""
    epsilon, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).smallest_normal)
    least = {"epsilon": epsilon}.get(floor, floor)
    engine = CompiledEngine([2, 2], [output], cost, dtype, instruction_set, least)
    engine.load(np.array([1, 0, 0, 1, 0, 0], dtype))
    z = np.array([[2000, -2000], [0, 0], [1, -1]], dtype)
    y = np.array([[0, 1]] * 3, dtype)
    got = [engine.steps(z, y, np.array([row]), 1, "sgd", (0.0,))[0] for row in range(3)]
    terms = {"cross-entropy": 2, "log-likelihood": 1}[cost]
    sure = {"cross-entropy": 1 / (1 + np.e), "log-likelihood": 1 / (1 + np.e**2)}[cost]
    wanted = [-terms * np.log(p) for p in (max(tiny, least), 0.5, max(sure, least))]
    np.testing.assert_allclose(got, wanted, rtol=8 * epsilon)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize(("cost", "output"), [("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")])
def test_a_floor_changes_the_cost_and_no_gradient(cost, output, instruction_set, dtype):
    with_floor, without = (Problem([40, 20, 5], ["tanh", output], cost, floor=floor) for floor in (0.4, 0.0))
    with_floor.check(dtype, instruction_set, threads=2)
    one, other = (problem.train(dtype, instruction_set) for problem in (with_floor, without))
    assert one[0].tobytes() == other[0].tobytes()
    assert one[2][0] < other[2][0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
def test_narrow_layers_are_not_padded_to_square_tiles(instruction_set):
    """Of [1, n, 1], only the weights to the single output are padded to a panel of at most 16 numbers."""

    def resident():
        with open("/proc/self/status") as status:
            return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    n = 300_000
    engine = CompiledEngine([1, n, 1], ["sigmoid"] * 2, "quadratic", "float64", instruction_set)
    parameters = np.ones(3 * n + 1)
    before = resident()
    engine.load(parameters)
    assert resident() - before < 30 * n * parameters.itemsize


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_cost_of_an_epoch_has_the_same_bits_however_it_is_cut(optimizer):
    rng = np.random.default_rng(3)
    X, Y = rng.random((500, 20)), np.eye(3)[rng.integers(0, 3, 500)]
    costs = []
    for steps in (1, 3, 1000):
        net = gpunet.Network([20, 8, 3], dtype="float64", device="cpu", seed=2)
        training = CompiledSteps(Recipe(net._model, 7, optimizers.get(optimizer), weight_decay=0.1))
        order, of_epochs = np.random.default_rng(5), []
        for _ in range(2):
            index = order.permutation(500)
            with training.epoch(order):
                for start in range(0, 500, 7 * steps):
                    training.take((X, Y), index[start : start + 7 * steps], 0.05, threads=1)
            of_epochs.append(training.cost())
        costs.append(of_epochs)
    assert costs[0] == costs[1] == costs[2]
    assert 0 < costs[0][1] < costs[0][0]
