"""One check a kernel: its verb on the CuPy backend, run by the simulator, against NumPy's backend.

Sizes below, at and above a warp and a block; a grid of at most two blocks, so that every loop strides; both orders of
the threads; every access watched. A check takes the kernel's text, so that the same code judges mutants.
"""

import contextlib
from unittest import mock

import numpy as np
from backends import fake_cupy

from gpunet import activations, costs
from gpunet.backends import cupy as cupy_backend
from gpunet.backends import cupy_kernels
from gpunet.backends.cupy import CuPyBackend
from gpunet.backends.numpy import NumPyBackend
from gpunet.kernels import cuda_source

SHAPES = ((1, 1), (31, 2), (32, 3), (33, 20), (257, 3), (1000, 1), (3, 300))
ORDERS = ("ascending", "descending")
FUSED = ("sigmoid", "tanh", "relu", "linear")
HOST = NumPyBackend()


@contextlib.contextmanager
def backend(name, text):
    """Give a backend whose kernel `name` has that text, whose grids are small, and whose every access is watched."""

    def source(wanted):
        return text if wanted == name else cuda_source(wanted)

    def few_blocks(launch):
        return lambda kernel, tasks, arguments, most=2: launch(kernel, tasks, arguments, min(most, 2))

    with contextlib.ExitStack() as stack:
        for module in (cupy_kernels, cupy_backend):
            stack.enter_context(mock.patch.object(module, "cuda_source", source))
        for launch in ("launch_elements", "launch_warps"):
            changed = few_blocks(getattr(cupy_kernels, launch))
            stack.enter_context(mock.patch.object(cupy_backend, launch, changed))
        stack.enter_context(mock.patch.object(fake_cupy.RawKernel, "sanitize", True))
        yield CuPyBackend(0)


def columns(ops, values, dtype):
    """Return (n, m) as the algorithm has it, in Fortran order, on the backend."""
    return ops.asarray(np.array(values.T, order="C"), dtype).T


def agree(ops, got, wanted, dtype, least=1e-30):
    """Compare to a few units in the last place of the largest number of each column, or of `least`."""
    got, wanted = np.asarray(ops.to_numpy(got), dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    scale = np.maximum(np.abs(wanted).max(axis=0, keepdims=True), least)
    assert np.isfinite(got).all()
    assert (np.abs(got - wanted) <= 16 * np.finfo(dtype).eps * scale).all(), np.abs((got - wanted) / scale).max()


def both(name, text, dtype, run, shapes=SHAPES, least=1e-30):
    """Run `run(ops, rng, n, m)` on NumPy and on the simulated device, in both orders, and compare the results."""
    with backend(name, text) as device:
        for n, m in shapes:
            wanted = [np.array(HOST.to_numpy(v)) for v in run(HOST, np.random.default_rng(n), n, m)]
            for order in ORDERS:
                with mock.patch.object(fake_cupy.RawKernel, "order", order), device.active():
                    for got, right in zip(run(device, np.random.default_rng(n), n, m), wanted, strict=True):
                        agree(device, got, right, dtype, least)


def empty(ops, n, m, dtype):
    """Return memory that holds NaN, so that what is not written shows."""
    return columns(ops, np.full((n, m), np.nan), dtype)


def activate(name, text, dtype, functions=FUSED):
    """z + b and f(z + b), with the result in an array of its own and in z's."""
    for f in map(activations.get, functions):

        def run(ops, rng, n, m, f=f):
            values, b = rng.normal(size=(n, m)) * 3, ops.asarray(rng.normal(size=(n, 1)), dtype)
            z, a, same = columns(ops, values, dtype), empty(ops, n, m, dtype), columns(ops, values, dtype)
            ops.activate(z, b, f, out=a)
            ops.activate(same, b, f, out=same)
            return z, a, same

        both(name, text, dtype, run, least=1e-30 if f.name == "softmax" else 1.0)  # sigmoid is 1/2 + tanh / 2


def softmax(name, text, dtype):
    """The same for softmax; and with z so large that exp overflows unless the column's largest is subtracted."""
    activate(name, text, dtype, ("softmax",))
    f, large = activations.get("softmax"), 1000.0 if dtype == "float64" else 120.0

    def run(ops, rng, n, m):
        results = []
        for bias in (large, -large):
            values = rng.choice([-large, 0.0, large], (n, m))
            values[:, 0] = -3 * bias  # the sum is far below the first bias, or far below the first z
            z, a = columns(ops, values, dtype), empty(ops, n, m, dtype)
            results.append(ops.activate(z, ops.asarray(np.full((n, 1), bias), dtype), f, out=a))
        return results

    both(name, text, dtype, run)


def hadamard_prime(name, text, dtype, functions=FUSED):
    """g times f', into an array of its own and into g's."""
    for f in map(activations.get, functions):

        def run(ops, rng, n, m, f=f):
            g = columns(ops, rng.normal(size=(n, m)), dtype)
            a = columns(
                ops, rng.random((n, m)) * (rng.random((n, m)) > 0.3) / (n if f.name == "softmax" else 1), dtype
            )
            out = ops.hadamard_prime(g, f, a, a, out=empty(ops, n, m, dtype))
            return out, ops.hadamard_prime(g, f, a, a, out=g)

        both(name, text, dtype, run)


def softmax_prime(name, text, dtype):
    """The same for softmax."""
    hadamard_prime(name, text, dtype, ("softmax",))


def output_error(
    name, text, dtype, pairs=(("quadratic", "sigmoid"), ("quadratic", "tanh"), ("cross-entropy", "sigmoid"))
):
    """The error, and the cost on top of what the slots held."""
    for cost, f in pairs:

        def run(ops, rng, n, m, cost=cost, f=f):
            a, y = rng.random((n, m)) * 0.9 + 0.05, rng.random((n, m))
            a[0, 0], y[0, 0] = 0.0, 0.5  # a logarithm of zero
            a, y = columns(ops, a, dtype), columns(ops, y, dtype)
            out, total = empty(ops, n, m, dtype), ops.new_total()
            for _ in range(2):
                ops.output_error(costs.get(cost), activations.get(f), a, a, y, out=out, total=total)
            slots = ops.to_numpy(total)
            if ops is not HOST:  # a block adds to the slot of its number, and to no other
                used = min(2, -(-m // 8) if f == "softmax" else -(-n * m // 256))
                assert (slots[:used] != 0).all()
                assert not slots[used:].any()
            return out, ops.asarray(np.atleast_2d(slots.sum()))

        both(name, text, dtype, run)


def softmax_error(name, text, dtype):
    """The same for log-likelihood and softmax."""
    output_error(name, text, dtype, (("log-likelihood", "softmax"),))


def gather(name, text, dtype):
    """Rows of floats and of bytes, scaled or not, some twice."""
    for x_dtype, scale in ((dtype, 1.0), (dtype, -2.5), ("uint8", 1 / 256)):

        def run(ops, rng, n, m, x_dtype=x_dtype, scale=scale):
            x = ops.asarray((rng.random((m + 2, n)) * 255).astype(x_dtype))
            index = ops.asarray(rng.integers(0, m + 2, m))
            return (ops.gather(x, index, out=empty(ops, n, m, dtype), scale=scale),)

        both(name, text, dtype, run)


def outer_batch(name, text, dtype):
    """The outer products of each example."""

    def run(ops, rng, n, m):
        delta, a = columns(ops, rng.normal(size=(n, m)), dtype), columns(ops, rng.normal(size=(33, m)), dtype)
        out = ops.asarray(np.full((m, n, 33), np.nan), dtype)
        return (ops.xp.reshape(ops.outer_batch(delta, a, out=out), (m * n, 33)),)

    both(name, text, dtype, run, ((1, 1), (2, 3), (31, 2), (33, 5), (3, 40)))


def probe(name, text, dtype):
    """The kernel that shows that a device works: opening the backend runs it."""
    for order in ORDERS:
        with mock.patch.object(fake_cupy.RawKernel, "order", order), backend(name, text):
            pass


CHECKS = {
    check.__name__: check
    for check in (
        activate,
        gather,
        hadamard_prime,
        outer_batch,
        output_error,
        probe,
        softmax,
        softmax_error,
        softmax_prime,
    )
}
