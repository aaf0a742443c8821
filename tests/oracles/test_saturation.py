"""Where the textbook's formulas overflow or divide by zero, gpunet's stay finite and silent."""

import numpy as np
import pytest
from oracles import cases

from gpunet import activations, backprop, costs

FITTING = [
    ("sigmoid", "quadratic"),
    ("sigmoid", "cross-entropy"),
    ("tanh", "quadratic"),
    ("softmax", "quadratic"),
    ("softmax", "log-likelihood"),
    ("custom", "quadratic"),
    ("custom", "cross-entropy"),
    ("custom", "log-likelihood"),
    ("sigmoid", "quartic"),
    ("softmax", "quartic"),
    ("tanh", "quartic"),
    ("leaky_relu", "quadratic"),
    ("hard_sigmoid", "quadratic"),
    ("elu", "huber"),
    ("gelu", "huber"),
    ("silu", "absolute"),
    ("softplus", "quantile"),
]
each_pair = pytest.mark.parametrize(("activation", "cost"), FITTING, ids=lambda v: str(v))
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def saturated(activation, cost, dtype):
    """One layer whose z are 1e4, -1e4, 0 and 30 for the input 1, and the opposite for -1."""
    case = cases.Case((activation,), cost)
    net = case.network(sizes=[1, 4], dtype=dtype)
    net.weights = [[[1e4], [-1e4], [0.0], [30.0]]]
    net.biases = [np.zeros((4, 1))]
    return net


def targets(softmax):
    """Every output right, every output wrong, and half-way."""
    if softmax:
        return np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0.25] * 4]).T
    return np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0], [0.5] * 4]).T


@each_pair
@each_dtype
def test_the_formulas_do_not_overflow(activation, cost, dtype):
    """The network's methods keep NumPy's warnings from users; the formulas must not need that."""
    net = cases.Case((activation, activation), cost).network(sizes=[1, 4, 4], dtype=dtype)
    net.weights[0] = [[1e4], [-1e4], [0.0], [30.0]]
    net.weights[1] = 1e4 * np.array([[1, 0, 0, 0], [-1, -1, 0, 0], [0, 0, 0, 0], [1, -1, 1, -1]])
    model = net._model
    work = model.workspace(4)
    work.a[0][...] = [[1, -1, 0.5, 1e-3]]
    work.y[...] = targets(activation == "softmax")
    total = np.zeros(1)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        backprop.feedforward(model.ops, model.layers, work)
        backprop.backpropagate(model.ops, model.layers, model.cost, work, total=total)
    assert np.isfinite(total).all()
    assert all(np.isfinite(v).all() for v in (*work.a, *work.delta[1:]))


@each_pair
@each_dtype
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_saturated_outputs(activation, cost, dtype, sign):
    net = saturated(activation, cost, dtype)
    y = targets(activation == "softmax")
    x = np.full((1, y.shape[1]), sign)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        trace = net.trace(x, y)
        value = net.cost.value(trace.a[-1], y.astype(dtype), np)
        nabla_b, nabla_w = net.backprop(x, y)
        slope = net.cost_derivative(trace.a[-1], y)
    assert np.abs(trace.z[1]).max() == 1e4
    for array in (trace.a[1], trace.delta[1], value, nabla_b[0], nabla_w[0], slope):
        assert array.dtype == dtype
        assert np.isfinite(array).all()
    assert (value >= 0).all()


@each_dtype
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cross_entropy_cancels_exactly(dtype, sign):
    """Equation (66): delta is a - y and nothing else, also where a (1 - a) is 0."""
    net = saturated("sigmoid", "cross-entropy", dtype)
    y = targets(softmax=False)
    trace = net.trace(np.full((1, 4), sign), y)
    np.testing.assert_array_equal(trace.delta[1], trace.a[1] - y.astype(dtype))
    right, wrong = (0, 1) if sign > 0 else (1, 0)
    assert trace.delta[1][0, right] == 0
    assert trace.delta[1][0, wrong] == sign  # a wrong neuron learns at full speed


@each_dtype
def test_log_likelihood_cancels_exactly(dtype):
    net = saturated("softmax", "log-likelihood", dtype)
    y = targets(softmax=True)
    trace = net.trace(np.ones((1, 4)), y)
    np.testing.assert_array_equal(trace.a[1], np.array([[1, 0, 0, 0]] * 4, dtype=dtype).T)
    np.testing.assert_array_equal(trace.delta[1], trace.a[1] - y.astype(dtype))


@each_pair
@each_dtype
def test_saturated_hidden_layer(activation, cost, dtype):
    net = cases.Case((activation, activation), cost).network(sizes=[2, 4, 3], dtype=dtype)
    net.weights[0] = [[1e4, 0], [-1e4, 0], [0, 1e4], [1e4, -1e4]]
    x, y = np.array([[1.0, -1.0], [0.5, 1.0]]), np.array([[1.0, 0], [0, 1], [0, 0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        nabla_b, nabla_w = net.backprop(x, y)
    assert all(np.isfinite(g).all() for g in nabla_b + nabla_w)


@each_pair
@each_dtype
def test_training_from_saturation_stays_finite(activation, cost, dtype):
    net = saturated(activation, cost, dtype)
    y = targets(activation == "softmax").T
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        history = net.fit(np.ones((4, 1)), y, epochs=3, batch_size=2, eta=0.01)
    assert np.isfinite(history.cost).all()
    assert np.isfinite(net.weights[0]).all()


@each_dtype
def test_rates_beyond_every_bound(dtype):
    """exp(1e4) stays finite, and so do the Poisson cost and its delta, a - y."""
    net = saturated("exp", "poisson", dtype)
    y = np.array([[0.0], [3.0], [1.0], [2.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for sign in (1.0, -1.0):
            trace = net.trace([[sign]], y)
            value = net.cost.value(trace.a[-1], y.astype(dtype), np)
            assert np.isfinite(value).all()
            np.testing.assert_array_equal(trace.delta[1], trace.a[1] - y.astype(dtype))
    np.testing.assert_allclose(trace.a[1], np.exp([[-np.inf], [80], [0], [-30]]), rtol=1e-5)


@each_dtype
@pytest.mark.parametrize("name", ["huber", "absolute", "quantile", "poisson", "hinge"])
def test_a_cost_lets_nan_through(dtype, name):
    a, y = np.array([[np.nan, 0.5]], dtype=dtype), np.array([[0.5, np.nan]], dtype=dtype)
    cost = costs.get(name)
    assert np.isnan(cost.value(a, y, np)).all()
    assert np.isnan(cost.gradient(a, y, np)).all()


@each_dtype
def test_nan_is_noticed(dtype):
    """The guards against log(0) must not turn NaN into a number."""
    for activation, cost in FITTING:
        net = cases.Case((activation,), cost).network(sizes=[1, 3], dtype=dtype)
        a = np.array([[np.nan], [0.5], [0.25]], dtype=dtype)
        assert np.isnan(net.cost.value(a, np.full_like(a, 0.5), np)).all()
        f = net.activations[0]
        assert np.isnan(f.apply(np.full((3, 1), np.nan, dtype=dtype), np)).all()
    nan = np.full((3, 1), np.nan, dtype=dtype)
    for f in activations.BUILT_IN.values():
        assert np.isnan(f.apply(nan, np)).all(), f
        assert np.isnan(f.pull_back(nan, nan, nan, np)).all(), f
