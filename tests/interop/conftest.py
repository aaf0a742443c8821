"""The other libraries, and networks for them."""

import importlib
import os

import numpy as np
import pytest

from gpunet import Network, mixed
from gpunet.activations import BUILT_IN, LeakyReLU

#: One network of each kind of output and of each kind of layer.
NETWORKS = {
    "the book's": {"sizes": [7, 6, 4], "input_scale": 1 / 255},
    "softmax": {"sizes": [7, 6, 5, 4], "activation": "relu", "cost": "log-likelihood"},
    "one sigmoid": {"sizes": [7, 3, 1], "activation": "tanh", "cost": "cross-entropy"},
    "regression": {"sizes": [7, 6, 3], "activation": "tanh", "output_activation": "linear"},
    "one number": {"sizes": [7, 6, 1], "activation": "relu", "output_activation": "linear", "input_scale": 0.1},
    "one layer": {"sizes": [7, 4], "activation": "softmax", "cost": "log-likelihood"},
    "mixed": {
        "sizes": [7, 6, 4],
        "activation": [mixed("linear", {0: "tanh", 3: "relu", 5: "tanh"}), mixed("sigmoid", {1: "linear"})],
    },
    "leaky": {"sizes": [7, 6, 4], "activation": [LeakyReLU(0.2), mixed(LeakyReLU(), {1: LeakyReLU(0.3), 2: "gelu"})]},
    "counts": {"sizes": [7, 5, 2], "activation": "tanh", "cost": "poisson"},
    "hinge": {"sizes": [7, 5, 3], "activation": "relu", "cost": "hinge"},
    "five layers": {"sizes": [7, *[5] * 4, 2], "activation": "tanh"},
}


def needed(name):
    """Import an optional library, or skip; GPUNET_REQUIRE_INTEROP=1 turns the skip into a failure."""
    if os.environ.get("GPUNET_REQUIRE_INTEROP") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


@pytest.fixture(scope="session", name="needed")
def _needed():
    return needed


@pytest.fixture(scope="session")
def torch():
    return needed("torch")


def make(options, dtype):
    net = Network(**options, dtype=dtype, device="cpu", seed=3)
    rng = np.random.default_rng(4)  # biases too, and weights that reach every part of an activation
    net.weights = [rng.normal(size=w.shape) * 1.5 / np.sqrt(w.shape[1] / 4) for w in net.weights]
    net.weights[0] = net.weights[0] / net.input_scale
    net.biases = [rng.normal(size=b.shape) for b in net.biases]
    return net


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture(params=NETWORKS)
def net(request, dtype):
    return make(NETWORKS[request.param], dtype)


@pytest.fixture
def rows(dtype):
    """Inputs, 40 rows for 7 inputs."""
    return (np.random.default_rng(5).normal(size=(40, 7)) * 3).astype(dtype)


@pytest.fixture(params=sorted(BUILT_IN))
def activation_net(request, dtype):
    """A network with an activation in each place, and inputs that reach far to both sides."""
    name = request.param
    return make({"sizes": [7, 6, 4], "activation": [name, name]}, dtype)


def same_parameters(one, other):
    return one.sizes == other.sizes and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip([*one.weights, *one.biases], [*other.weights, *other.biases], strict=True)
    )


@pytest.fixture(scope="session", name="same_parameters")
def _same_parameters():
    return same_parameters


@pytest.fixture(scope="session")
def close():
    """Whether outputs agree: 1e-6 in float32, 1e-12 in float64, relative to the size of the largest."""

    def check(got, wanted):
        assert got.shape == wanted.shape
        tolerance = 1e-6 if wanted.dtype == np.float32 else 1e-12
        assert np.abs(got - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())

    return check
