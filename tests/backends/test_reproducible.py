"""Same seed, same bits: in one process, and in another."""

import subprocess
import sys

import numpy as np
import pytest

import gpunet

PROGRAM = """
import hashlib, sys
import numpy as np
import gpunet
rng = np.random.default_rng(0)
X, y = rng.integers(0, 256, (211, 64), dtype=np.uint8), rng.integers(0, 10, 211)
net = gpunet.Network([64, 33, 10], cost="cross-entropy", dtype=sys.argv[1], device="cpu", seed=4, input_scale=1 / 255)
history = net.fit(X, y, epochs=5, batch_size=10)
print(hashlib.sha256(b"".join(w.tobytes() for w in (*net.weights, *net.biases))).hexdigest(), history.cost)
"""


def trained(seed, dtype="float32", order_seed=0):
    rng = np.random.default_rng(order_seed)
    X, y = rng.random((57, 12)), rng.integers(0, 4, 57)
    net = gpunet.Network([12, 9, 4], dtype=dtype, device="cpu", seed=seed)
    history = net.fit(X, y, epochs=4, batch_size=10)
    return [np.array(v) for v in (*net.weights, *net.biases)], history.cost


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_seed_same_bits(dtype):
    (first, first_cost), (second, second_cost) = trained(1, dtype), trained(1, dtype)
    assert first_cost == second_cost
    for a, b in zip(first, second, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)
    other, other_cost = trained(2, dtype)
    assert (other[0] != first[0]).any()
    assert other_cost != first_cost


def test_without_a_seed_networks_differ():
    assert (trained(None)[0][0] != trained(None)[0][0]).any()


def test_numpys_global_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what it is about
    first = trained(1)[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    try:
        np.testing.assert_array_equal(trained(1)[0][0], first[0])
    finally:
        np.random.seed(None)  # noqa: NPY002


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_in_two_processes(dtype):
    runs = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, dtype], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for _ in range(2)
    ]
    assert len(runs[0]) > 64
    assert runs[0] == runs[1]


def test_every_backend_draws_the_same_parameters(backend):
    options = {"activation": "relu", "cost": "log-likelihood", "dtype": "float32", "seed": 9}
    net, reference = (gpunet.Network([7, 5, 3], device=device, **options) for device in (backend, "cpu"))
    for a, b in zip((*net.weights, *net.biases), (*reference.weights, *reference.biases), strict=True):
        np.testing.assert_array_equal(a, b)
