"""The activations and costs beyond chapter 2, as users meet them: what they take and refuse, that they learn."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest

from gpunet import InputError, Network, activations, costs, initializers, mixed
from gpunet.activations import LeakyReLU
from gpunet.backends import ArrayAPIBackend, select
from gpunet.costs import Huber, Quantile

ROOT = Path(__file__).resolve().parents[2]


def network(sizes=(4, 6, 3), **options):
    return Network(list(sizes), **{"device": "cpu", "seed": 0, "dtype": "float64", **options})


# -- What there is -------------------------------------------------------------------------------------------------


def test_the_documentation_lists_every_name():
    text = (ROOT / "docs" / "functions.md").read_text()
    listed = set(re.findall(r"^\| `([\w-]+)`", text, flags=re.MULTILINE))
    assert listed == {*activations.BUILT_IN, *costs.BUILT_IN, "auto", *initializers.BY_NAME}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeakyReLU(0), "alpha of leaky_relu must be a finite number above 0, got 0"),
        (lambda: LeakyReLU(1.0), "alpha of leaky_relu must be a number between 0 and 1, got 1.0"),
        (lambda: LeakyReLU("0.1"), "alpha of leaky_relu must be a number"),
        (lambda: Huber(0), "delta of huber must be a finite number above 0"),
        (lambda: Quantile(1), "q of quantile must be a number between 0 and 1"),
        (lambda: costs.Cost("huber", lambda a, y, xp: a, lambda a, y, xp: a), "'huber' is the name of a built-in"),
    ],
)
def test_constants_that_make_no_function(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_usual_constants():
    assert activations.get("leaky_relu").parameters == {"alpha": 0.01}
    assert costs.get("huber").parameters == {"delta": 1.0}
    assert costs.get("quantile").parameters == {"q": 0.5}
    assert repr(Quantile(0.9)) == "<Cost quantile(q=0.9)>"
    assert repr(LeakyReLU(0.2)) == "<Activation leaky_relu(alpha=0.2)>"


def test_functions_with_constants_can_be_copied_and_used_together():
    net = network(activation=[LeakyReLU(0.2), "leaky_relu"], cost=Huber(0.5))
    again = copy.deepcopy(net)
    np.testing.assert_array_equal(again.outputs(np.eye(4)), net.outputs(np.eye(4)))
    assert again.cost.parameters == {"delta": 0.5}


@pytest.mark.parametrize(
    ("cost", "output"),
    [("huber", "linear"), ("absolute", "linear"), (Quantile(0.9), "linear"), ("poisson", "exp"), ("hinge", "linear")],
    ids=str,
)
def test_the_usual_output(cost, output):
    net = network(activation="tanh", cost=cost)
    assert net.activations[-1].name == output
    assert net.task == ("classification" if cost == "hinge" else "regression")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost": "poisson", "output_activation": "linear"}, "the poisson cost is for exp outputs, not linear"),
        ({"cost": "hinge", "output_activation": "sigmoid"}, "the hinge cost is for linear outputs, not sigmoid"),
        ({"cost": "huber", "output_activation": "softmax"}, "not softmax: .* or cost='log-likelihood'"),
        ({"cost": "hinge", "output_activation": mixed("linear", {0: "tanh"})}, "outputs, not mixed"),
        ({"cost": "hinge", "sizes": (4, 1)}, "the hinge cost needs at least 2 outputs, one for each class"),
    ],
)
def test_networks_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        network(**options)


def test_a_mixed_layer_goes_with_a_cost_that_all_its_parts_go_with():
    net = network(cost="huber", output_activation=mixed("linear", {0: "exp"}))
    X, y = np.eye(4), np.ones((4, 3))
    assert net.fit(X, y, epochs=2, batch_size=4, eta=0.01).cost[1] > 0


# -- What targets they take ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "y", "message"),
    [
        (
            "huber",
            [0, 1, 2, 0],
            r"shape \(4, 3\), the numbers to predict with the huber cost, got \(4,\)",
        ),
        (
            "poisson",
            -np.eye(4, 3),
            r"value -1 at \[0, 0\], but the poisson cost takes targets from 0 to inf",
        ),
        ("hinge", np.eye(4, 3) * 2 - 1, "the hinge cost takes targets from 0 to 1 only"),
        ("hinge", np.ones((4, 3)), "y must be classes for the hinge cost: whole numbers"),
    ],
)
def test_targets_that_do_not_fit(cost, y, message):
    with pytest.raises(InputError, match=message):
        network(cost=cost).fit(np.eye(4), y, epochs=1, batch_size=4)


def test_the_cost_decides_the_task():
    rows = np.eye(3)[[0, 1, 2, 0]]
    for cost, task in (("huber", "regression"), ("hinge", "classification"), ("quadratic", "classification")):
        net = network(activation="tanh", cost=cost, output_activation="linear")
        net.fit(np.eye(4), rows, epochs=1, batch_size=4, eta=0.01)
        assert net.task == task


# -- That they learn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["leaky_relu", "elu", "gelu", "silu", "softplus", "hard_sigmoid"])
def test_classes_with_every_activation(blobs, hidden):
    X, y = blobs
    net = network(activation=hidden, cost="log-likelihood")
    net.fit(X, y, epochs=10, optimizer="adam", eta=0.02)
    assert net.score(X, y) > 0.95


def test_hinge_separates_classes(blobs):
    X, y = blobs
    net = network((4, 3), cost="hinge")
    history = net.fit(X, y, epochs=20, eta=0.05, validation_data=(X, y))
    assert history.validation_score[-1] > 0.95
    assert history.cost[-1] < history.cost[0] / 2


def test_the_poisson_cost_is_half_the_deviance():
    """And 0 where the expected number is the count, also where a logarithm has to be kept away from 0."""
    y = np.array([[0.0, 0.0, 1.0, 3.0, 3.0, 1e4, 0.0]])
    a = np.array([[0.0, 2.0, 1.0, 3.0, 0.5, 9e3, 1e-300]])
    wanted = [0.0, 2.0, 0.0, 0.0, 3 * np.log(6) - 2.5, 1e4 * np.log(10 / 9) - 1e3, 1e-300]
    np.testing.assert_allclose(costs.get("poisson").value(a, y, np), wanted, rtol=1e-11, atol=1e-11)
    cost, exp = costs.get("poisson"), activations.get("exp")
    for ops in (select("cpu"), ArrayAPIBackend(np)):
        out, total = np.empty_like(a), ops.new_total()
        ops.output_error(cost, exp, a, a, y, out=out, total=total)
        np.testing.assert_array_equal(out, a - y)
        np.testing.assert_allclose(total.sum(), np.sum(wanted), rtol=1e-11)


def test_poisson_finds_rates():
    """Counts of rate exp(1 + x): the maximum-likelihood fit finds both numbers."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 1))
    net = network((1, 1), cost="poisson")
    net.fit(x, rng.poisson(np.exp(1 + x)), epochs=30, batch_size=50, eta=0.02)
    assert net.weights[0][0, 0] == pytest.approx(1, abs=0.1)
    assert net.biases[0][0, 0] == pytest.approx(1, abs=0.05)
    assert net.task == "regression"


def test_costs_find_their_own_middle():
    """A single bias: the mean for quadratic, the median for absolute, the quantile for quantile."""
    y = np.random.default_rng(0).exponential(size=(2000, 1))
    found = {}
    for cost in ("quadratic", "absolute", Quantile(0.9)):
        net = network((1, 1), output_activation="linear", cost=cost)
        net.fit(np.zeros((2000, 1)), y, epochs=100, batch_size=100, eta=0.03)
        found[cost if isinstance(cost, str) else "quantile"] = net.biases[0][0, 0]
    assert found["quadratic"] == pytest.approx(y.mean(), abs=0.1)
    assert found["absolute"] == pytest.approx(np.median(y), abs=0.1)
    assert found["quantile"] == pytest.approx(np.quantile(y, 0.9), abs=0.15)


def test_huber_is_quadratic_near_and_absolute_far():
    a, y = np.array([[0.2, 3.0, -3.0]]), np.zeros((1, 3))
    np.testing.assert_allclose(costs.get("huber").value(a, y, np), [0.02, 2.5, 2.5])
    np.testing.assert_allclose(Huber(1e9).value(a, y, np), costs.get("quadratic").value(a, y, np))
