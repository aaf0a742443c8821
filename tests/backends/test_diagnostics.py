"""The facts about layers, against plain NumPy and on every backend."""

import numpy as np
import pytest

import gpunet
from gpunet.backends import select
from gpunet.targets import one_hot
from gpunet.training.diagnostics import PROBE, Diagnostics

SIZES = [6, 5, 7, 4, 3]
ACTIVATIONS = ["sigmoid", "relu", gpunet.mixed("tanh", {1: "relu", 2: "linear"}), "softmax"]


def network(device="cpu", activation=None, sizes=SIZES, dtype="float64", **options):
    options = {"cost": "quadratic", "seed": 3, "init": "normal", **options}
    return gpunet.Network(sizes, activation=activation or ACTIVATIONS, device=device, dtype=dtype, **options)


def measured(net, X, Y):
    """The facts with the data where a training has them."""
    ops = net._model.ops
    with ops.active():
        return Diagnostics(net._model, ops.asarray(X), ops.asarray(Y, net.dtype)).measure()


def data(n, n_in=SIZES[0], n_out=SIZES[-1]):
    rng = np.random.default_rng(9)
    return rng.integers(0, 256, (n, n_in), dtype=np.uint8), one_hot(rng.integers(0, n_out, n), n_out)


F = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z, a: a * (1 - a)),
    "tanh": (np.tanh, lambda z, a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0) * 1.0),
    "linear": (lambda z: z, lambda z, a: np.ones_like(z)),
}


def names_of(activation, n):
    if isinstance(activation, str):
        return [activation] * n
    return [activation.neurons.get(j, activation.default).name for j in range(n)]


def expected(net, X, Y, scale):
    """The book's equations example by example, neuron by neuron; the last layer is softmax with quadratic cost."""
    L, m = len(net.weights), len(X)
    a_of, delta_of = [[] for _ in range(L)], [[] for _ in range(L)]
    nabla_w, nabla_b = [np.zeros_like(w) for w in net.weights], [np.zeros_like(b) for b in net.biases]
    for x, y in zip(X * scale, Y, strict=True):
        a, z = [x], []
        for l in range(L):
            z.append(net.weights[l] @ a[-1] + net.biases[l][:, 0])
            names = names_of(ACTIVATIONS[l], len(z[-1]))
            if names[0] == "softmax":
                a.append(np.exp(z[-1]) / np.exp(z[-1]).sum())
            else:
                a.append(np.array([F[f][0](zj) for f, zj in zip(names, z[-1], strict=True)]))
        out = a[-1]
        delta = (np.diag(out) - np.outer(out, out)) @ (out - y)
        for l in range(L - 1, -1, -1):
            a_of[l].append(a[l + 1])
            delta_of[l].append(delta)
            nabla_w[l] += np.outer(delta, a[l]) / m
            nabla_b[l][:, 0] += delta / m
            if l:
                names = names_of(ACTIVATIONS[l - 1], len(z[l - 1]))
                slope = [F[f][1](zj, aj) for f, zj, aj in zip(names, z[l - 1], a[l], strict=True)]
                delta = net.weights[l].T @ delta * np.array(slope)
    for l in range(L):
        names = names_of(ACTIVATIONS[l], SIZES[l + 1])
        ends = {"sigmoid": (0.02, 0.98), "softmax": (0.02, 0.98), "tanh": (-0.96, 0.96)}
        values = np.array(a_of[l])
        near = [
            not ends[f][0] < value < ends[f][1] for j, f in enumerate(names) if f in ends for value in values[:, j]
        ]
        relu = [all(values[:, j] == 0) for j, f in enumerate(names) if f == "relu"]
        yield {
            "delta_norm": np.mean([np.linalg.norm(d) for d in delta_of[l]]),
            "gradient_norm": np.linalg.norm([*nabla_w[l].ravel(), *nabla_b[l].ravel()]),
            "weight_norm": np.linalg.norm(net.weights[l]),
            "saturated": np.mean(near) if near else None,
            "dead": np.mean(relu) if relu else None,
        }


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 1e-4)])
def test_every_backend_agrees_with_the_equations(backend, dtype, rtol):
    X, Y = data(41)
    net = network(backend, dtype=dtype, input_scale=1 / 64)
    for b in range(len(net.biases)):
        net.biases[b] = net.biases[b] - 1.0  # so that some ReLU neurons are dead and some sigmoids saturated
    facts = measured(net, X, Y)
    wanted = list(expected(net, X, Y, 1 / 64))
    for layer, numbers in zip(facts, wanted, strict=True):
        for name, value in numbers.items():
            assert getattr(layer, name) == (value if value is None else pytest.approx(value, rel=rtol)), name
            assert type(getattr(layer, name)) in (float, type(None))
    assert facts[0].dead is None
    assert 0 < facts[0].saturated < 1
    assert facts[1].saturated is None
    assert 0 < facts[1].dead < 1
    assert None not in (facts[2].saturated, facts[2].dead)


@pytest.mark.parametrize("n", [1, PROBE - 1, PROBE, PROBE + 1, 2 * PROBE + 500])
def test_the_probe_is_every_kth_example(n):
    X, Y = data(n)
    net = network()
    every = -(-n // PROBE)
    assert len(X[::every]) <= PROBE
    assert measured(net, X, Y) == measured(net, X[::every], Y[::every])


def test_sorted_classes_are_all_met():
    """With the first examples alone, a class would be missing from the gradient."""
    y = np.repeat([0, 1, 2], 2000)
    net = network(activation="sigmoid", sizes=[2, 3])
    X = np.zeros((6000, 2))
    net.weights, net.biases = [np.zeros((3, 2))], [np.zeros((3, 1))]
    (layer,) = measured(net, X, one_hot(y, 3))
    # a = 1/2 everywhere: the mean delta of each output is (1/2 - 1/3)/4
    assert layer.gradient_norm == pytest.approx(np.sqrt(3) * (1 / 2 - 1 / 3) / 4, rel=1e-4)


def test_follows_the_parameters_and_changes_none(backend):
    X, Y = data(30)
    net = network(backend)
    ops = net._model.ops
    with ops.active():
        diagnostics = Diagnostics(net._model, ops.asarray(X), ops.asarray(Y, "float64"))
        before, again = diagnostics.measure(), diagnostics.measure()
        assert before == again
        weights = [w.copy() for w in net.weights]
        net.weights[1] = 2 * net.weights[1]
        after = diagnostics.measure()
    assert after[1].weight_norm == pytest.approx(2 * before[1].weight_norm)
    assert after[0].delta_norm != before[0].delta_norm
    for l in (0, 2, 3):
        np.testing.assert_array_equal(net.weights[l], weights[l])


def test_data_in_the_hosts_memory(fake):
    """Where the device does not hold the data, the probe alone is copied there."""
    X, Y = data(2 * PROBE)
    net = network(select("cuda"))
    with net._model.ops.active():
        from_host = Diagnostics(net._model, X, Y).measure()
    wanted = measured(network(), X, Y)
    for got, reference in zip(from_host, wanted, strict=True):
        assert got.delta_norm == pytest.approx(reference.delta_norm, rel=1e-10)


def test_saturation_counts_what_is_near_an_end():
    """Exactly the book's picture: sigma(z) beyond 0.98 is flat."""
    net = network(activation="sigmoid", sizes=[1, 4])
    z = np.log(np.array([[0.97, 0.99, 0.03, 0.01]]) / (1 - np.array([[0.97, 0.99, 0.03, 0.01]])))
    net.weights, net.biases = [np.zeros((4, 1))], [z.T]
    (layer,) = measured(net, np.zeros((5, 1)), np.zeros((5, 4)))
    assert layer.saturated == 0.5


@pytest.mark.parametrize(
    "activation", ["linear", gpunet.Activation("cube", lambda z, xp: z**3, lambda z, xp: 3 * z**2)]
)
def test_without_ends_there_is_no_figure(activation):
    net = network(activation=activation, sizes=[2, 3])
    (layer,) = measured(net, np.ones((4, 2)), np.zeros((4, 3)))
    assert layer.saturated is layer.dead is None
    assert layer.gradient_norm > 0
