"""Pickles and copies of a network are networks of their own, on the same kind of device."""

import copy
import pickle

import numpy as np
import pytest
from oracles import cases

CASE = cases.Case(("sigmoid", "tanh", "softmax"), "log-likelihood")
SIZES = [4, 5, 3, 2]


def copied(net, how):
    if how == "pickle":
        return pickle.loads(pickle.dumps(net))  # noqa: S301 - our own
    return {"copy": copy.copy, "deepcopy": copy.deepcopy}[how](net)


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "copy"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_copy_is_the_same_network_and_its_own(backend, how, dtype):
    net = CASE.network(sizes=SIZES, device=backend, dtype=dtype, input_scale=0.5, seed=3)
    x, _ = CASE.data(m=11, sizes=SIZES)
    labels = np.arange(11) % 2
    net.metadata["note"] = "mine"
    net.fit(x.T, labels, epochs=2, batch_size=4, eta=0.2)
    twin = copied(net, how)
    assert (twin.device, twin.dtype, twin.sizes, twin.input_scale, twin.task) == (
        net.device, dtype, SIZES, 0.5, "classification",
    )  # fmt: skip
    assert [f.name for f in twin.activations] == [f.name for f in net.activations]
    assert twin.cost.name == "log-likelihood"
    assert twin.metadata == {"note": "mine"}
    assert twin.history.cost == net.history.cost
    np.testing.assert_array_equal(twin.feedforward(x), net.feedforward(x))
    # The copy trains without the original noticing.
    before = [np.array(w) for w in net.weights]
    twin.fit(x.T, labels, epochs=2, batch_size=4, eta=0.2)
    assert (twin.weights[0] != before[0]).any()
    for old, new in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("how", ["pickle", "deepcopy"])
def test_a_copy_goes_on_with_the_same_random_numbers(backend, how):
    net = CASE.network(sizes=SIZES, device=backend, seed=3)
    x, _ = CASE.data(m=11, sizes=SIZES)
    labels = np.arange(11) % 2
    net.fit(x.T, labels, epochs=1, batch_size=4, eta=0.2)
    twin = copied(net, how)
    for n in (net, twin):
        n.fit(x.T, labels, epochs=3, batch_size=4, eta=0.2)
    for a, b in zip(net.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parameters_of_a_copy_are_views_of_one_buffer(backend):
    """A copy torn into separate arrays would train, but the restore after divergence would miss it."""
    twin = copy.deepcopy(CASE.network(sizes=SIZES, device=backend, seed=3))
    parameters = twin._model.parameters
    with backend.active():
        parameters.flat[...] = 0.25
    for value in (*twin.weights, *twin.biases):
        assert (value == 0.25).all()


def test_a_deep_copy_has_a_backend_of_its_own(backend):
    net = CASE.network(sizes=SIZES, device=backend, seed=3)
    twin = copy.deepcopy(net)
    assert twin._model.ops is not net._model.ops
    assert (twin.device, twin.backend) == (net.device, net.backend)


def test_pickling_keeps_the_cuda_device(fake):
    net = CASE.network(sizes=SIZES, device="cuda:1", seed=3)
    twin = copied(net, "pickle")
    assert twin.device == "cuda:1"
    np.testing.assert_array_equal(twin.weights[0], net.weights[0])


def test_a_pickle_from_a_gpu_says_why_it_can_not_be_read(fake):
    from gpunet import DeviceError

    data = pickle.dumps(CASE.network(sizes=SIZES, device="cuda", seed=3))
    fake.devices = 0
    with pytest.raises(DeviceError, match="no CUDA device"):
        pickle.loads(data)  # noqa: S301 - our own


def test_saving_moves_a_network_between_devices(backend, tmp_path):
    """What a pickle can not do, a file does: nothing of the device is in it."""
    import gpunet

    net = CASE.network(sizes=SIZES, device=backend, seed=3)
    net.save(tmp_path / "net.safetensors")
    on_cpu = gpunet.Network.load(tmp_path / "net.safetensors", device="cpu")
    back = gpunet.Network.load(tmp_path / "net.safetensors", device=backend)
    assert back.backend == net.backend
    for a, b, c in zip(net.weights, on_cpu.weights, back.weights, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
