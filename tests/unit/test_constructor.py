"""What makes a network, and what does not: sizes, activations, costs, initial parameters, device, dtype, seed."""

import numpy as np
import pytest

import gpunet
from gpunet import Activation, Cost, DeviceError, InputError, Network, mixed


def small(**options):
    return Network([4, 5, 3], device="cpu", seed=0, **options)


def names(net):
    return [f.name for f in net.activations]


# -- Activations and costs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ["sigmoid", "sigmoid"]),
        ({"activation": "tanh"}, ["tanh", "tanh"]),
        ({"activation": "relu", "output_activation": "linear"}, ["relu", "linear"]),
        ({"activation": ["relu", "softmax"]}, ["relu", "softmax"]),
        ({"activation": ("tanh", "sigmoid"), "cost": "cross-entropy"}, ["tanh", "sigmoid"]),
        ({"activation": ["relu"], "output_activation": "softmax"}, ["relu", "softmax"]),
        ({"activation": iter(["relu", "linear"])}, ["relu", "linear"]),
        ({"cost": "cross-entropy", "activation": "relu"}, ["relu", "sigmoid"]),
        ({"cost": "log-likelihood"}, ["sigmoid", "softmax"]),
        ({"activation": mixed("sigmoid", {0: "tanh", 2: "relu"})}, ["mixed", "mixed"]),
    ],
    ids=lambda value: "" if isinstance(value, dict) else "-".join(value),
)
def test_activations_of_the_layers(options, wanted):
    assert names(small(**options)) == wanted


FUNCTIONS = {
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "linear": lambda z: z,
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=0),
}


@pytest.mark.parametrize("hidden", FUNCTIONS)
@pytest.mark.parametrize("output", FUNCTIONS)
def test_feedforward_of_every_pair_of_activations(hidden, output):
    net = small(activation=[hidden, output], dtype="float64")
    x = np.random.default_rng(0).normal(size=(4, 6))
    a = FUNCTIONS[hidden](net.weights[0] @ x + net.biases[0])
    a = FUNCTIONS[output](net.weights[1] @ a + net.biases[1])
    assert np.allclose(net.feedforward(x), a, rtol=1e-12, atol=1e-14)
    assert net.task == ("classification" if output in ("sigmoid", "softmax") else "regression")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_activation_warns_or_loses_finiteness_where_z_is_huge(name, dtype):
    """Warnings are errors here."""
    net = Network([1, 2, 2], activation=name, device="cpu", dtype=dtype)
    net.weights, net.biases = [[[1.0], [-1.0]], np.eye(2)], [np.zeros((2, 1)), np.zeros((2, 1))]
    a = net.feedforward([[1e30, -1e30, 1e5, -1e5, 0.0]])
    assert np.isfinite(a).all()
    nabla_b, _ = net.backprop([[1e4, -1e4, 0.0]], np.zeros((2, 3)))
    assert all(np.isfinite(b).all() for b in nabla_b)


def test_a_mixed_layer_computes_each_neuron_by_its_own():
    net = small(activation=[mixed("sigmoid", {3: "tanh", 0: "linear"}), "sigmoid"], dtype="float64")
    trace = net.trace(np.ones((4, 2)), np.ones((3, 2)))
    z, a = trace.z[1], trace.a[1]
    assert np.array_equal(a[0], z[0])
    assert np.allclose(a[3], np.tanh(z[3]))
    assert np.allclose(a[[1, 2, 4]], FUNCTIONS["sigmoid"](z[[1, 2, 4]]))


def test_an_activation_and_a_cost_of_ones_own_train(blobs):
    softsign = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)
    logistic = Activation(
        "logistic", lambda z, xp: 1 / (1 + xp.exp(-z)), lambda a, xp: a * (1 - a), derivative_of="a"
    )
    double = Cost("double", lambda a, y, xp: xp.sum((a - y) ** 2, axis=0), lambda a, y, xp: 2 * (a - y))
    net = small(activation=[softsign, logistic], cost=double, dtype="float64")
    assert gpunet.check_gradients(net, blobs[0][:3].T, np.eye(3)[blobs[1][:3]].T)
    history = net.fit(*blobs, epochs=20, eta=0.5)
    assert history.cost[-1] < history.cost[0] / 2
    assert net.score(*blobs) > 0.9


def test_a_custom_sigmoid_and_quadratic_equal_the_built_in(blobs):
    logistic = Activation(
        "logistic", lambda z, xp: 0.5 * xp.tanh(0.5 * z) + 0.5, lambda a, xp: a * (1 - a), derivative_of="a"
    )
    half = Cost("half", lambda a, y, xp: 0.5 * xp.sum((a - y) ** 2, axis=0), lambda a, y, xp: a - y)
    own = small(activation=logistic, cost=half, init="normal", dtype="float64")
    built_in = small(dtype="float64")
    own_history = own.fit(*blobs, epochs=2, eta=3.0)
    history = built_in.fit(*blobs, epochs=2)
    assert own_history.cost == pytest.approx(history.cost, rel=1e-9)
    assert np.allclose(own.weights[0], built_in.weights[0], rtol=1e-9)


def f(z, xp):
    return z


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Activation("", f, f), "an activation's name must be a non-empty string"),
        (lambda: Activation(None, f, f), "an activation's name must be a non-empty string"),
        (lambda: Activation("mine", 5, f), "the function of activation 'mine' must be a function such as"),
        (lambda: Activation("mine", f, None), "the derivative of activation 'mine' must be a function"),
        (lambda: Activation("mine", lambda z: z, f), "the function of activation 'mine' must take 2 arguments"),
        (lambda: Activation("mine", f, lambda: 1), "the derivative of activation 'mine' must take 2 arguments"),
        (lambda: Activation("mine", f, lambda a, b, c: a), "must take 2 arguments, as in `lambda z, xp"),
        (lambda: Activation("mine", f, f, derivative_of="x"), "unknown derivative_of 'x'"),
        (lambda: Cost("", None, None), "a cost's name must be a non-empty string"),
        (lambda: Cost("mine", 5, lambda a, y, xp: a), "the value of cost 'mine' must be a function"),
        (lambda: Cost("mine", lambda a, y: a, lambda a, y, xp: a), "the value of cost 'mine' must take 3"),
        (lambda: Cost("mine", lambda a, y, xp: a, lambda a: a), "the gradient of cost 'mine' must take 3"),
        (lambda: mixed("sigmoid", {}), "at least one neuron"),
        (lambda: mixed("sigmoid", None), "at least one neuron"),
        (lambda: mixed("sigmoid", [0]), "at least one neuron"),
        (lambda: mixed("sigmoid", {-1: "tanh"}), "index from 0 in its layer, got -1"),
        (lambda: mixed("sigmoid", {"0": "tanh"}), "index from 0 in its layer, got '0'"),
        (lambda: mixed("sigmoid", {True: "tanh"}), "index from 0 in its layer, got True"),
        (lambda: mixed("sigmoid", {0: "tan"}), "unknown activation 'tan'. Did you mean 'tanh'?"),
        (lambda: mixed("softmax", {0: "tanh"}), "softmax is computed over a whole layer"),
        (lambda: mixed("tanh", {0: "softmax"}), "softmax is computed over a whole layer"),
        (lambda: mixed("tanh", {0: mixed("tanh", {0: "relu"})}), "mixed is computed over a whole layer"),
    ],
)
def test_wrong_functions_are_refused_when_they_are_made(make, fragment):
    with pytest.raises(InputError, match=fragment.replace("?", r"\?")):
        make()


def test_compiled_functions_without_a_signature_are_taken():
    assert Activation("mine", np.add, np.add).name == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda z, xp: z[:1],
        lambda z, xp: z.T,
        lambda z, xp: 1.0,
        lambda z, xp: None,
        lambda z, xp: z.tolist(),
        lambda z, xp: xp.astype(z, xp.float64),
        lambda z, xp: z * 1j,
        lambda z, xp: z > 0,
        lambda z, xp: xp.sum(z, axis=0),
    ],
)
def test_what_a_custom_activation_returns_is_checked(blobs, wrong):
    X, y = blobs
    for functions, role in (((wrong, f), "function"), ((f, wrong), "derivative")):
        net = small(activation=[Activation("mine", *functions), "sigmoid"])
        before = net.weights[0].copy()
        with pytest.raises(InputError, match=f"the {role} of activation 'mine' must return an array of its"):
            net.fit(X, y, epochs=1)
        assert np.array_equal(net.weights[0], before)
        with pytest.raises(InputError, match=f"the {role} of activation 'mine'"):
            net.backprop(X.T, np.eye(3)[y].T)


@pytest.mark.parametrize(
    ("value", "gradient", "fragment"),
    [
        (lambda a, y, xp: a - y, None, r"the value of cost 'mine' must return an array of shape \(10,\)"),
        (lambda a, y, xp: xp.sum(a - y), None, "the value of cost 'mine'"),
        (lambda a, y, xp: 0.5, None, "the value of cost 'mine'"),
        (lambda a, y, xp: None, None, "the value of cost 'mine'"),
        (None, lambda a, y, xp: xp.sum(a - y, axis=0), r"the gradient of cost 'mine'.* shape \(3, 10\)"),
        (None, lambda a, y, xp: (a - y).T, "the gradient of cost 'mine'"),
        (None, lambda a, y, xp: 1.0, "the gradient of cost 'mine'"),
        (None, lambda a, y, xp: (a - y) * 1j, "the gradient of cost 'mine'"),
        (lambda a, y, xp: xp.sum(a - y, axis=0) * 1j, None, "the value of cost 'mine'"),
    ],
)
def test_what_a_custom_cost_returns_is_checked(blobs, value, gradient, fragment):
    cost = Cost(
        "mine",
        value or (lambda a, y, xp: xp.sum((a - y) ** 2, axis=0)),
        gradient or (lambda a, y, xp: 2 * (a - y)),
    )
    net = small(cost=cost)
    before = net.weights[0].copy()
    with pytest.raises(InputError, match=fragment):
        net.fit(*blobs, epochs=1)
    assert np.array_equal(net.weights[0], before)


# -- Wrong arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "fragment"),
    [
        (None, "sizes must be a list of layer sizes such as"),
        (784, "sizes must be a list of layer sizes such as"),
        ("784", "sizes must be a list of layer sizes such as"),
        (b"784", "sizes must be a list"),
        (np.array(3), "sizes must be a list"),
        ([], "at least an input and an output layer"),
        ([784], "at least an input and an output layer"),
        ([784, 0, 10], r"sizes\[1\] must be a whole number of at least 1, got 0"),
        ([784, -30, 10], r"sizes\[1\] must be a whole number of at least 1, got -30"),
        ([784, 30.0, 10], r"sizes\[1\] must be a whole number of at least 1, got 30.0"),
        ([True, 2], r"sizes\[0\] must be a whole number"),
        ([784, "30", 10], r"sizes\[1\]"),
        ([784, None], r"sizes\[1\]"),
        ([784, float("nan")], r"sizes\[1\]"),
        ([784, [30], 10], r"sizes\[1\]"),
    ],
)
def test_bad_sizes(sizes, fragment):
    with pytest.raises(InputError, match=fragment):
        Network(sizes, device="cpu")


@pytest.mark.parametrize("sizes", [(2, 3), np.array([2, 3]), [np.int8(2), 3], iter([2, 3]), range(2, 4)])
def test_sizes_of_any_kind(sizes):
    net = Network(sizes, device="cpu")
    assert net.sizes == [2, 3]
    assert all(type(n) is int for n in net.sizes)


@pytest.mark.parametrize("sizes", [[10**8, 10**8], [10**12, 10**12], [10**30, 2]])
def test_sizes_that_no_memory_holds(sizes):
    with pytest.raises((DeviceError, InputError), match="memory"):
        Network(sizes, device="cpu")


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"activation": "sigmiod"}, r"unknown activation 'sigmiod'\. Did you mean 'sigmoid'\?"),
        ({"activation": "ReLU"}, r"Did you mean 'relu'\?"),
        ({"activation": "xyz"}, r"unknown activation 'xyz'\. Known: 'sigmoid', 'tanh', 'relu'"),
        ({"activation": None}, "activation must be a name, an Activation or a list of them, got None"),
        ({"activation": 5}, "activation must be a name"),
        ({"activation": np.tanh}, "activation must be a name"),
        ({"activation": []}, "2 layers after the input, but activation gave 0"),
        ({"activation": ["tanh"]}, "2 layers after the input, but activation gave 1"),
        ({"activation": ["tanh"] * 3}, "2 layers after the input, but activation gave 3"),
        ({"activation": ["tanh"] * 2, "output_activation": "tanh"}, "and output_activation gave 3"),
        ({"activation": ["tanh", None]}, "unknown activation None"),
        ({"activation": ["tanh", ["tanh"]]}, "unknown activation"),
        ({"output_activation": "softmx"}, r"Did you mean 'softmax'\?"),
        ({"output_activation": 5}, "unknown activation 5"),
        ({"activation": [mixed("tanh", {5: "relu"}), "tanh"]}, "layer 1 has 5 neurons, but .* names neuron 5"),
        ({"activation": mixed("tanh", {4: "relu"})}, "layer 2 has 3 neurons, but .* names neuron 4"),
        ({"cost": "crossentropy"}, r"unknown cost 'crossentropy'\. Did you mean 'cross-entropy'\?"),
        ({"cost": None}, "unknown cost None"),
        ({"cost": "cross-entropy", "output_activation": "softmax"}, "cross-entropy cost is for sigmoid outputs"),
        ({"cost": "cross-entropy", "output_activation": "tanh"}, "pass output_activation='sigmoid'"),
        ({"cost": "log-likelihood", "output_activation": "sigmoid"}, "cost='cross-entropy'"),
        ({"cost": "log-likelihood", "activation": ["relu", "relu"]}, "log-likelihood cost is for softmax"),
        ({"cost": "cross-entropy", "output_activation": mixed("sigmoid", {0: "tanh"})}, "not mixed"),
        ({"init": "norml"}, r"unknown init 'norml'\. Did you mean 'normal'\?"),
        ({"init": None}, "unknown init None"),
        ({"dtype": "float16"}, r"unknown dtype 'float16'\. .*'float32', 'float64'"),
        ({"dtype": "int32"}, "unknown dtype"),
        ({"dtype": "flot32"}, r"Did you mean 'float32'\?"),
        ({"dtype": complex}, "unknown dtype"),
        ({"dtype": None}, "unknown dtype"),
        ({"dtype": 32}, "unknown dtype"),
        ({"dtype": {"a": 1}}, "unknown dtype"),
        ({"dtype": "f4,f4"}, "unknown dtype"),
        ({"seed": -1}, "seed must be a whole number of at least 0, or None, got -1"),
        ({"seed": 1.0}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": "1"}, "seed must be a whole number"),
        ({"seed": [1]}, "seed must be a whole number"),
        ({"seed": float("nan")}, "seed must be a whole number"),
        ({"input_scale": 0}, "input_scale must be a finite number above 0"),
        ({"input_scale": -1.0}, "input_scale must be a finite number above 0"),
        ({"input_scale": float("nan")}, "input_scale must be a finite number above 0"),
        ({"input_scale": float("inf")}, "input_scale must be a finite number above 0"),
        ({"input_scale": "1/255"}, "input_scale must be a number above 0"),
        ({"input_scale": True}, "input_scale must be a number above 0"),
        ({"input_scale": 10**400}, "input_scale must be"),
        ({"input_scale": 1e39}, r"input_scale .*float32"),
    ],
)
def test_bad_arguments(options, fragment):
    with pytest.raises(InputError, match=fragment):
        Network([4, 5, 3], **{"device": "cpu", "seed": 0, **options})


@pytest.mark.parametrize("device", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "", None, 5, 1.5, []])
def test_unknown_devices(device):
    with pytest.raises(InputError, match=r"unknown device .*Known: 'auto', 'cpu', 'cuda'"):
        Network([2, 3], device=device)


def test_a_module_that_is_no_array_library():
    import json

    with pytest.raises(InputError, match=r"array library|Array API"):
        Network([2, 3], device=json)


def test_a_device_that_is_not_there():
    with pytest.raises(DeviceError, match=r"device='cuda:9999' can not be used: .*device='cpu' always works"):
        Network([2, 3], device="cuda:9999")


def test_unknown_keywords_are_refused():
    with pytest.raises(TypeError, match="learning_rate"):
        Network([2, 3], learning_rate=3.0)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), ">f4", "float64", float])
def test_dtypes_by_any_name(dtype):
    net = Network([2, 3], device="cpu", dtype=dtype)
    assert net.dtype in ("float32", "float64")
    assert net.weights[0].dtype == net.dtype == np.dtype(dtype).newbyteorder("=")
    assert net.outputs([[1, 2]]).dtype == net.dtype


def test_repr_says_what_it_is():
    net = Network([2, 3], device="cpu", cost="cross-entropy")
    assert repr(net) == "Network([2, 3], ['sigmoid'], cross-entropy, float32, numpy on cpu)"
    assert repr(net.activations[0]) == "<Activation sigmoid>"
    assert repr(net.cost) == "<Cost cross-entropy>"


# -- Initial parameters --------------------------------------------------------------------------------------

N_IN, N_OUT = 400, 300


@pytest.mark.parametrize(
    ("init", "activation", "weights_std", "biases_std"),
    [
        ("normal", "sigmoid", 1.0, 1.0),
        ("normal", "relu", 1.0, 1.0),
        ("scaled", "sigmoid", N_IN**-0.5, 1.0),
        ("he", "sigmoid", (2 / N_IN) ** 0.5, 0.0),
        ("lecun", "sigmoid", N_IN**-0.5, 0.0),
        ("auto", "gelu", (2 / N_IN) ** 0.5, 0.0),
        ("auto", "leaky_relu", (2 / N_IN) ** 0.5, 0.0),
        ("auto", "exp", N_IN**-0.5, 0.0),
        ("auto", "sigmoid", 1.0, 1.0),
        ("auto", "relu", (2 / N_IN) ** 0.5, 0.0),
        ("auto", "tanh", N_IN**-0.5, 1.0),
        ("auto", "softmax", N_IN**-0.5, 1.0),
        ("auto", "linear", N_IN**-0.5, 1.0),
    ],
)
def test_moments_of_the_initial_parameters(init, activation, weights_std, biases_std):
    net = Network([N_IN, N_OUT], activation=activation, init=init, seed=1, device="cpu", dtype="float64")
    w, b = net.weights[0], net.biases[0]
    assert w.std() == pytest.approx(weights_std, rel=0.02)
    assert abs(w.mean()) < 4 * weights_std / (N_IN * N_OUT) ** 0.5
    assert ((w / weights_std) ** 4).mean() == pytest.approx(3.0, rel=0.05)  # a normal distribution's
    assert b.std() == pytest.approx(biases_std, rel=0.15, abs=1e-12)


def test_glorots_uniform_distribution():
    net = Network([N_IN, N_OUT], init="glorot", seed=1, device="cpu", dtype="float64")
    w, most = net.weights[0], (6 / (N_IN + N_OUT)) ** 0.5
    assert 0.999 * most < np.abs(w).max() < most
    assert w.std() == pytest.approx((2 / (N_IN + N_OUT)) ** 0.5, rel=0.01)
    assert ((w / w.std()) ** 4).mean() == pytest.approx(1.8, rel=0.02)  # a uniform distribution's
    assert not net.biases[0].any()


@pytest.mark.parametrize("sizes", [[7, 5], [5, 7], [6, 6], [1, 1]], ids=str)
def test_orthogonal_weights(sizes):
    net = Network(sizes, init="orthogonal", seed=3, device="cpu", dtype="float64")
    w = net.weights[0]
    few = w @ w.T if sizes[0] >= sizes[1] else w.T @ w
    np.testing.assert_allclose(few, np.eye(min(sizes)), atol=1e-14)
    assert not net.biases[0].any()


def test_orthogonal_weights_have_no_sign_of_their_own():
    """LAPACK's Q has: of its diagonal's products with R's most have one sign."""
    first = [Network([3, 3], init="orthogonal", seed=s, device="cpu").weights[0][0, 0] > 0 for s in range(200)]
    assert 70 < sum(first) < 130


def test_auto_is_chosen_layer_by_layer():
    net = Network([N_IN, N_OUT, 200], activation=["relu", "sigmoid"], seed=1, device="cpu")
    assert not net.biases[0].any()
    assert net.weights[1].std() == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("init", ["normal", "scaled", "he", "glorot", "orthogonal"])
def test_same_seed_same_numbers_in_both_dtypes(init):
    one, other = (Network([4, 5, 3], init=init, seed=9, device="cpu", dtype=d) for d in ("float32", "float64"))
    for some, others in ((one.weights, other.weights), (one.biases, other.biases)):
        for a, b in zip(some, others, strict=True):
            assert np.array_equal(a, b.astype(np.float32))
            assert not init.startswith("n") or not np.array_equal(a, b)  # float64 has digits of its own


def test_layers_differ_and_seeds_differ():
    net = Network([3, 3, 3], seed=0, device="cpu")
    assert not np.array_equal(net.weights[0], net.weights[1])
    assert not np.array_equal(net.weights[0], Network([3, 3, 3], seed=1, device="cpu").weights[0])


@pytest.mark.parametrize("seed", [0, 2**32, 2**200, np.uint64(7)])
def test_seeds_of_any_size(seed):
    assert np.array_equal(
        Network([3, 3], seed=seed, device="cpu").weights[0], Network([3, 3], seed=seed, device="cpu").weights[0]
    )


def test_the_global_numpy_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what must not be touched
    Network([3, 3], seed=0, device="cpu").fit(np.eye(3), [0, 1, 2], epochs=1, batch_size=3)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
