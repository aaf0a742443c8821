"""check_gradients must find what is wrong, and touch nothing."""

import numpy as np
import pytest
from oracles import cases

import gpunet

X, Y = cases.Case(("tanh", "sigmoid", "sigmoid"), "quadratic").data(m=3)


def network(activation="tanh", cost="quadratic", **options):
    options = {"dtype": "float64", "device": "cpu", "seed": 3, "init": "scaled", **options}
    return gpunet.Network(cases.SIZES, activation=activation, cost=cost, **options)


def arctan(factor):
    return gpunet.Activation("arctan", lambda z, xp: xp.atan(z), lambda z, xp: factor / (1 + z * z))


def quadratic(factor):
    return gpunet.Cost(
        "half square", lambda a, y, xp: 0.5 * xp.sum((a - y) ** 2, axis=0), lambda a, y, xp: factor * (a - y)
    )


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("factor", [1.01, 0.99, -1.0, 0.0])
def test_finds_a_wrong_derivative(factor, method):
    assert gpunet.check_gradients(network(arctan(1.0)), X, Y, method=method)
    result = gpunet.check_gradients(network(["tanh", arctan(factor), "sigmoid"]), X, Y, method=method)
    assert not result
    assert not result.passed
    by_name = {layer.name: layer.error for layer in result.layers}
    # The layers above the wrong derivative are right, those with it and below are wrong.
    assert by_name["weights 3"] <= result.tolerance
    assert by_name["biases 3"] <= result.tolerance
    assert min(by_name[f"{kind} {l}"] for kind in ("weights", "biases") for l in (1, 2)) > 1e-3
    assert result.error == max(by_name.values())
    assert "DISAGREE" in str(result)


@pytest.mark.parametrize("factor", [1.01, 2.0])
def test_finds_a_wrong_cost_gradient(factor):
    assert gpunet.check_gradients(network(cost=quadratic(1.0)), X, Y)
    result = gpunet.check_gradients(network(cost=quadratic(factor)), X, Y)
    assert not result
    assert all(layer.error > 1e-3 for layer in result.layers)


def test_reports_every_layer():
    result = gpunet.check_gradients(network(), X, Y)
    names = [f"{kind} {l}" for l in (1, 2, 3) for kind in ("weights", "biases")]
    assert [layer.name for layer in result.layers] == names
    assert [layer.entries for layer in result.layers] == [20, 4, 24, 6, 18, 3]
    assert all(layer.checked == layer.entries for layer in result.layers)
    assert 0 < result.error < 1e-6
    assert "agree" in str(result)
    assert "DISAGREE" not in str(result)


def test_forward_differences_are_equation_46():
    """Forward differences are worse than central ones, and both are what they are called."""
    forward = gpunet.check_gradients(network(), X, Y, method="forward")
    central = gpunet.check_gradients(network(), X, Y)
    assert forward
    assert central.error < forward.error
    assert (central.tolerance, forward.tolerance) == (1e-6, 1e-4)


def test_max_entries_samples():
    result = gpunet.check_gradients(network(), X, Y, max_entries=5)
    assert [layer.checked for layer in result.layers] == [5, 4, 5, 5, 5, 3]
    assert result
    assert not gpunet.check_gradients(network(arctan(1.01)), X, Y, max_entries=5)
    again = gpunet.check_gradients(network(), X, Y, max_entries=5)
    assert [layer.error for layer in again.layers] == [layer.error for layer in result.layers]


def test_tolerance():
    error = gpunet.check_gradients(network(), X, Y).error
    assert not gpunet.check_gradients(network(), X, Y, tolerance=error / 2)
    assert gpunet.check_gradients(network(), X, Y, tolerance=error * 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_changes_nothing(dtype):
    net = network(dtype=dtype)
    before = [v.copy() for v in (*net.weights, *net.biases)]
    x, y = X.copy(), Y.copy()
    assert gpunet.check_gradients(net, x, y)
    for old, new in zip(before, (*net.weights, *net.biases), strict=True):
        assert old.dtype == new.dtype == dtype
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)
    # The random numbers of a later training are the same ones, too.
    other = network(dtype=dtype)
    for n in (net, other):
        n.fit(X.T, Y.T, epochs=2, batch_size=2, eta=0.1)
    np.testing.assert_array_equal(net.weights[0], other.weights[0])


def test_vectors_and_lists_are_examples():
    assert gpunet.check_gradients(network(), X[:, 0], Y[:, 0])
    assert gpunet.check_gradients(network(), X[:, :1].tolist(), Y[:, :1].tolist())


def test_input_scale_and_float32_networks_are_checked_in_float64():
    net = network(dtype="float32", input_scale=1 / 255)
    assert gpunet.check_gradients(net, 255 * X, Y).error < 1e-6


def test_a_gradient_of_zero_is_right():
    net = network(["relu", "relu", "linear"])
    net.biases = [np.full_like(b, -100.0) for b in net.biases]
    result = gpunet.check_gradients(net, X, Y)
    assert result
    assert result.layers[0].error == 0.0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"method": "backward"}, "method"),
        ({"method": "centrl"}, "central"),
        ({"max_entries": 0}, "max_entries"),
        ({"max_entries": 2.5}, "max_entries"),
        ({"tolerance": 0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"tolerance": "small"}, "tolerance"),
        ({"network": "net"}, "network"),
        ({"x": X[:4]}, "x must have shape"),
        ({"y": Y[:, :2]}, "3 examples"),
        ({"x": np.full_like(X, np.nan)}, "finite"),
        ({"x": 3.0}, "x must have shape"),
    ],
    ids=str,
)
def test_refuses_bad_arguments(arguments, says):
    arguments = {"network": network(), "x": X, "y": Y, **arguments}
    with pytest.raises(gpunet.InputError, match=says):
        gpunet.check_gradients(arguments.pop("network"), arguments.pop("x"), arguments.pop("y"), **arguments)
