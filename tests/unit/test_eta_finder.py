"""The search for a learning rate."""

import numpy as np
import pytest

from gpunet import InputError, Network, datasets
from gpunet.backends import ArrayAPIBackend


def network(**options):
    return Network([4, 8, 3], device="cpu", seed=2, activation="tanh", output_activation="sigmoid", **options)


@pytest.mark.parametrize(
    ("optimizer", "part"), [("sgd", 3), ("momentum", 10), ("adam", 10), ("rmsprop", 10), ("adagrad", 10)]
)
def test_what_it_finds_trains_better_than_its_ends(blobs, optimizer, part):
    found = network().find_eta(*blobs, lowest=1e-4, highest=100.0, steps=120, optimizer=optimizer)
    assert found.etas.shape == found.costs.shape
    assert np.all(np.diff(found.etas) > 0)
    assert found.eta == pytest.approx(found.etas[found.costs.argmin()] / part)
    costs = [
        network().fit(*blobs, epochs=3, eta=eta, optimizer=optimizer).cost[-1] for eta in (1e-4, found.eta, 100.0)
    ]
    assert costs[1] < min(costs[0], costs[2])


@pytest.mark.parametrize(
    ("options", "optimizer", "batch_size", "low", "high"),
    [
        ({}, "sgd", 10, 2.0, 6.0),  # the book takes 3.0
        ({"cost": "cross-entropy"}, "sgd", 10, 0.2, 2.0),  # and here 0.5
        ({"activation": "relu", "cost": "log-likelihood"}, "adam", 32, 5e-4, 8e-3),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_finds_what_is_good_for_mnist(options, optimizer, batch_size, low, high, seed):
    data = datasets.mnist()
    net = Network([784, 30, 10], input_scale=data.input_scale, device="cpu", seed=seed, **options)
    found = net.find_eta(data.X[:5000], data.y[:5000], batch_size=batch_size, optimizer=optimizer)
    assert low < found.eta < high


def test_the_network_and_its_next_training_stay_the_same(blobs):
    searched, untouched = network(), network()
    searched.find_eta(*blobs, steps=20)
    for w, v in zip(searched.weights, untouched.weights, strict=True):
        np.testing.assert_array_equal(w, v)
    assert searched.history is None
    assert searched.fit(*blobs, epochs=1).cost == untouched.fit(*blobs, epochs=1).cost


def test_data_that_the_device_does_not_hold(blobs, monkeypatch):
    def search():
        net = Network([4, 8, 3], device=pytest.importorskip("array_api_strict"), seed=2, activation="tanh")
        return net.find_eta(*blobs, steps=20)

    held = search()
    monkeypatch.setattr(ArrayAPIBackend, "holds", lambda self, nbytes: False)
    np.testing.assert_array_equal(search().costs, held.costs)


def test_each_step_has_the_cost_of_its_mini_batch(blobs):
    """With one mini-batch of all examples and tiny steps, every cost is that of the start."""
    X, y = blobs
    net = network(dtype="float64")
    wanted = 0.5 * np.sum((net.outputs(X) - np.eye(3)[y]) ** 2) / len(X)
    found = net.find_eta(X, y, batch_size=len(X), lowest=1e-12, highest=2e-12, steps=10)
    np.testing.assert_allclose(found.costs, wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 2, "highest": 1}, "lowest must be below highest, got 2 and 1"),
        ({"lowest": 0}, "lowest must be a finite number above 0"),
        ({"steps": 5}, "steps must be at least 10, got 5"),
        ({"optimizer": "lbfgs"}, "has no learning rate to look for"),
        ({"lowest": 1e5, "highest": 1e8}, "made the cost fall: try a lower `lowest`"),
    ],
)
def test_what_it_refuses(blobs, options, message):
    net = network()
    before = [w.copy() for w in net.weights]
    with pytest.raises(InputError, match=message):
        net.find_eta(*blobs, **options)
    for w, v in zip(net.weights, before, strict=True):
        np.testing.assert_array_equal(w, v)
