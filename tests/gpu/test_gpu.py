"""What only a real card can show. Everything else runs there, too: tests/backends with its parameter "cupy"."""

import os
import subprocess
import sys

import numpy as np
import pytest

import gpunet
from gpunet.backends import select
from gpunet.backends.cupy import CuPyBackend

pytestmark = pytest.mark.gpu


def data(n=500):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (n, 784), dtype=np.uint8)
    return X, (X[:, 0] // 26).astype(np.int64)


def network(device="cuda", **options):
    options = {"cost": "cross-entropy", "seed": 1, "input_scale": 1 / 255, **options}
    return gpunet.Network([784, 30, 10], device=device, **options)


def test_auto_takes_the_card():
    net = gpunet.Network([2, 1])
    assert isinstance(net._model.ops, CuPyBackend)
    assert net.device == "cuda:0"


def test_parameters_live_on_the_card():
    import cupy

    net = network()
    assert isinstance(net._model.parameters.flat, cupy.ndarray)
    assert net._model.parameters.flat.dtype == np.float32
    for w in net._model.parameters.weights:  # views of the flat buffer
        assert w.data.mem is net._model.parameters.flat.data.mem


def test_the_book_sized_network_trains_as_on_the_cpu():
    X, y = data()
    for dtype, relative in (("float64", 1e-10), ("float32", 1e-3)):
        nets = [network(device, dtype=dtype) for device in ("cuda", "cpu")]
        costs = [net.fit(X, y, epochs=2, batch_size=10, eta=0.5).cost for net in nets]
        np.testing.assert_allclose(costs[0], costs[1], rtol=relative)
        for a, b in zip(nets[0].weights, nets[1].weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())


def test_same_seed_same_bits_on_the_card():
    X, y = data()
    first, second = network(), network()
    for net in (first, second):
        net.fit(X, y, epochs=2, batch_size=10, eta=0.5)
    for a, b in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_gemm_writes_in_place_in_every_layout():
    """CuPy turns C-ordered operands into cuBLAS's transposes; alpha and beta must survive that."""
    import cupy

    ops = select("cuda")
    rng = np.random.default_rng(0)
    for orders in np.ndindex(2, 2, 2):
        a, b, c = (rng.standard_normal(shape) for shape in ((31, 33), (33, 257), (31, 257)))
        on_card = [cupy.asarray(v, order="CF"[o]) for v, o in zip((a, b, c), orders, strict=True)]
        pointer = on_card[2].data.ptr
        ops.gemm(*on_card, -0.5, 2.0)
        assert on_card[2].data.ptr == pointer
        np.testing.assert_allclose(cupy.asnumpy(on_card[2]), -0.5 * a @ b + 2 * c, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad"])
def test_steps_are_replayed_and_give_the_bits_of_single_ones(optimizer, monkeypatch):
    """640 examples are 64 steps: 32 that run and are captured, 32 that are replayed."""
    X, y = data(645)
    options = {"epochs": 2, "batch_size": 10, "eta": 0.01, "optimizer": optimizer, "l2": 0.1}
    replayed = network()
    history = replayed.fit(X, y, **options)
    assert history.engine == "32 steps a launch"
    monkeypatch.setattr(CuPyBackend, "capture", lambda self, run: None)
    single = network()
    assert single.fit(X, y, **options).engine == "step by step"
    for a, b in zip([*replayed.weights, *replayed.biases], [*single.weights, *single.biases], strict=True):
        np.testing.assert_array_equal(a, b)
    assert history.cost == single.history.cost


def test_optimizers_train_as_on_the_cpu():
    X, y = data()
    for optimizer in ("momentum", "adam", "adagrad"):
        nets = [network(device, dtype="float64") for device in ("cuda", "cpu")]
        for net in nets:
            net.fit(X, y, epochs=2, batch_size=10, eta=0.01, optimizer=optimizer, l2=0.5)
        for a, b in zip(nets[0].weights, nets[1].weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * np.abs(b).max())


def test_streamed_data_train_as_resident_ones(monkeypatch):
    """Through pinned memory and two buffers, many times over: a copy that came too early or too late would show."""
    X, y = data(4000)
    resident = network()
    resident.fit(X, y, epochs=3, batch_size=10, eta=0.5)
    monkeypatch.setattr(CuPyBackend, "holds", lambda self, nbytes: False)
    monkeypatch.setattr("gpunet.training.data._PART_BYTES", 400 * 794)
    streamed = network()
    streamed.fit(X, y, epochs=3, batch_size=10, eta=0.5)
    for a, b in zip(resident.weights, streamed.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trainings_memory_is_given_back():
    """Not when Python's collector of cycles happens to run, but at once."""
    import gc

    import cupy

    X, y = data(2000)
    net, pool = network(), cupy.get_default_memory_pool()
    net.fit(X, y, epochs=1, batch_size=10, optimizer="adam")
    gc.collect()
    gc.disable()
    try:
        before = pool.used_bytes()
        net.fit(X, y, epochs=1, batch_size=10, optimizer="adam")
        assert pool.used_bytes() == before
    finally:
        gc.enable()


def test_training_goes_through_memory_once():
    """After the first epoch, epochs take no more of the card's memory."""
    import cupy

    X, y = data()
    net, used = network(), []
    pool = cupy.get_default_memory_pool()
    net.fit(X, y, epochs=6, batch_size=10, on_epoch=lambda epoch: used.append(pool.used_bytes()))
    assert len(set(used[1:])) == 1


def test_out_of_memory_says_what_to_lower():
    import cupy

    net = gpunet.Network([1000, 1000, 10], device="cuda", seed=0)
    before = [w.copy() for w in net.weights]
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    limit = pool.get_limit()
    try:
        pool.set_limit(size=pool.used_bytes() + 5_000_000)
        with pytest.raises(gpunet.DeviceError, match="batch size"):
            net.fit(np.zeros((3000, 1000), dtype=np.float32), np.zeros(3000, dtype=int), batch_size=3000)
    finally:
        pool.set_limit(size=limit)
    for old, new in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_pickle_is_read_in_another_process(tmp_path):
    import pickle

    path = tmp_path / "net.pickle"
    net = network()
    path.write_bytes(pickle.dumps(net))
    program = f"import pickle; print(pickle.load(open({str(path)!r}, 'rb')).weights[0].sum())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    assert float(run.stdout) == float(net.weights[0].sum())


def test_a_hidden_card_is_no_device():
    program = "import gpunet; print(gpunet.backends.why_not_cuda())"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert "no usable CUDA driver or device" in run.stdout or "no CUDA device" in run.stdout
