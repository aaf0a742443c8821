"""One check a kernel: its verb on the CuPy backend, run by the simulator, against NumPy's backend.

Sizes below, at and above a warp and a block; a grid of at most two blocks, so that every loop strides; both orders of
the threads; every access watched. A check takes the kernel's text, so that the same code judges mutants.
"""

import contextlib
import functools
from unittest import mock

import numpy as np
import pytest
from backends import fake_cupy

import gpunet.kernels
from gpunet import activations, costs, optimizers
from gpunet.backends import cupy as cupy_backend
from gpunet.backends import cupy_kernels
from gpunet.backends.cupy import CuPyBackend
from gpunet.backends.numpy import NumPyBackend
from gpunet.optimizers import Penalty
from simulator import mutate

SHAPES = ((1, 1), (31, 2), (32, 3), (33, 20), (257, 3), (1000, 3), (3, 300))
#: (n, k, m): weights (n, k) and m examples.
PRODUCTS = ((1, 1, 1), (31, 33, 2), (33, 32, 18), (2, 257, 5), (10, 1000, 3), (40, 3, 33))
#: The same where a block has one neuron, so that many are no more than a few.
DOT_PRODUCTS = ((1, 1, 1), (31, 33, 2), (3, 32, 18), (2, 257, 5), (10, 1000, 3), (4, 3, 33))
ORDERS = ("ascending", "descending")
FUSED = ("sigmoid", "tanh", "relu", "linear")
HOST = NumPyBackend()


@contextlib.contextmanager
def backend(name, text):
    """Give a backend whose kernel `name` has that text, whose grids are small, and whose every access is watched."""

    read = gpunet.kernels._read

    def read_changed(file):
        return text if file.partition(".")[0] == name else read(file)

    def few_blocks(launch):
        return lambda kernel, tasks, arguments, most=2: launch(kernel, tasks, arguments, min(most, 2))

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(gpunet.kernels, "_read", read_changed))
        for launch in ("launch_elements", "launch_singly", "launch_warps"):
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
    """Run `run(ops, rng, *shape)` on NumPy and on the simulated device, in both orders, and compare the results."""
    with backend(name, text) as device:
        for shape in shapes:
            wanted = [np.array(HOST.to_numpy(v)) for v in run(HOST, np.random.default_rng(shape[0]), *shape)]
            for order in ORDERS:
                with mock.patch.object(fake_cupy.RawKernel, "order", order), device.active():
                    results = run(device, np.random.default_rng(shape[0]), *shape)
                    for got, right in zip(results, wanted, strict=True):
                        agree(device, got, right, dtype, least)


def empty(ops, n, m, dtype):
    """Return memory that holds NaN, so that what is not written shows."""
    return columns(ops, np.full((n, m), np.nan), dtype)


def activate(name, text, dtype, functions=FUSED, shapes=SHAPES):
    """z + b and f(z + b), with the result in an array of its own and in z's."""
    for f in map(activations.get, functions):

        def run(ops, rng, n, m, f=f):
            values, b = rng.normal(size=(n, m)) * 3, ops.asarray(rng.normal(size=(n, 1)), dtype)
            z, a, same = columns(ops, values, dtype), empty(ops, n, m, dtype), columns(ops, values, dtype)
            ops.activate(z, b, f, out=a)
            ops.activate(same, b, f, out=same)
            return z, a, same

        # sigmoid is 1/2 + tanh / 2
        both(name, text, dtype, run, shapes, least=1e-30 if f.name == "softmax" else 1.0)


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


def hadamard_prime(name, text, dtype, functions=FUSED, shapes=SHAPES, scale=1.0, least=1e-30):
    """g times f', into an array of its own and into g's."""
    for f in map(activations.get, functions):

        def run(ops, rng, n, m, f=f):
            g = columns(ops, rng.normal(size=(n, m)), dtype)
            most = 1 / n if f.name == "softmax" else scale
            a = columns(ops, rng.random((n, m)) * (rng.random((n, m)) > 0.3) * most, dtype)
            out = ops.hadamard_prime(g, f, a, a, out=empty(ops, n, m, dtype))
            return out, ops.hadamard_prime(g, f, a, a, out=g)

        both(name, text, dtype, run, shapes, least)


def softmax_prime(name, text, dtype):
    """The same for softmax."""
    hadamard_prime(name, text, dtype, ("softmax",))


def output_error(
    name,
    text,
    dtype,
    pairs=(("quadratic", "sigmoid"), ("quadratic", "tanh"), ("cross-entropy", "sigmoid")),
    shapes=SHAPES,
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
                used = min(2, -(-m // 8) if f == "softmax" else -(-n * m // 1024))
                assert (slots[:used] != 0).all()
                assert not slots[used:].any()
            return out, ops.asarray(np.atleast_2d(slots.sum()))

        both(name, text, dtype, run, shapes)


def softmax_error(name, text, dtype):
    """The same for log-likelihood and softmax."""
    output_error(name, text, dtype, (("log-likelihood", "softmax"), (costs.LogLikelihood(0.2), "softmax")))


def add_squares(name, text, dtype):
    """The sum of the squares, on top of what the slots held, with a factor or without."""

    def run(ops, rng, n, m):
        w, total = ops.asarray(rng.normal(size=n * m), dtype), ops.new_total()
        for factor in (1.0, 0.3):
            ops.add_squares(w, total, factor)
        slots = ops.to_numpy(total)
        if ops is not HOST:  # a block adds to the slot of its number, and to no other
            used = min(2, -(-n * m // 1024))
            assert (slots[:used] > 0).all()
            assert not slots[used:].any()
        return (ops.asarray(np.atleast_2d(slots.sum())),)

    both(name, text, dtype, run)


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


@contextlib.contextmanager
def products(per_thread=1, few_outputs=0):
    """Let a thread of a tile have so many rows and columns, and tiles be used above so many outputs."""
    with (
        mock.patch.object(cupy_backend, "per_thread", return_value=per_thread),
        mock.patch.object(cupy_backend, "_FEW_OUTPUTS", few_outputs),
    ):
        yield


def forward(name, text, dtype, functions, shapes=PRODUCTS):
    """A layer's z and a, with z in an array of its own and in a's."""
    for f in map(activations.get, functions):

        def run(ops, rng, n, k, m, f=f):
            w, b = ops.asarray(rng.normal(size=(n, k)), dtype), ops.asarray(rng.normal(size=(n, 1)), dtype)
            x = columns(ops, rng.normal(size=(k, m)) / np.sqrt(k), dtype)
            z, a, same = empty(ops, n, m, dtype), empty(ops, n, m, dtype), empty(ops, n, m, dtype)
            ops.layer_forward(w, x, b, f, z=z, out=a)
            ops.layer_forward(w, x, b, f, z=same, out=same)
            return z, a, same

        both(name, text, dtype, run, shapes, least=1.0)


def layer_forward(name, text, dtype, sides=(1, 2)):
    """In tiles."""
    for r in sides:
        with products(r):
            forward(name, text, dtype, ("sigmoid", "softmax") if r == 1 else ("relu",))


def layer_forward_dot(name, text, dtype):
    """With a block for each neuron and a few examples."""
    with products(few_outputs=10**9):
        forward(name, text, dtype, ("sigmoid", "softmax"), DOT_PRODUCTS)


def layer_backward(name, text, dtype, sides=(1, 2)):
    """A layer's delta from that of the following one."""

    def run(ops, rng, n, k, m, f):
        w, delta = ops.asarray(rng.normal(size=(n, k)), dtype), columns(ops, rng.normal(size=(n, m)), dtype)
        a = columns(ops, rng.random((k, m)), dtype)
        return (ops.layer_backward(w, delta, f, a, a, out=empty(ops, k, m, dtype)),)

    for r in sides:
        for f in map(activations.get, ("sigmoid", "softmax") if r == 1 else ("tanh",)):
            with products(r):
                both(name, text, dtype, functools.partial(run, f=f), PRODUCTS, least=1.0)


def layer_gradient(name, text, dtype, sides=(1, 2)):
    """Written to memory that holds NaN, and added to what is there."""

    def run(ops, rng, n, k, m):
        delta, a = columns(ops, rng.normal(size=(n, m)), dtype), columns(ops, rng.normal(size=(k, m)), dtype)
        results = []
        for alpha, beta_b, beta_w in ((0.7, 0.0, 0.0), (-0.3, 1.0, 0.5), (1.0, 0.25, 0.0)):
            b, w = (
                ops.asarray(rng.normal(size=(n, j)) * (1 if beta else np.nan), dtype)
                for j, beta in ((1, beta_b), (k, beta_w))
            )
            ops.layer_gradient(delta, a, b, w, alpha=alpha, beta_b=beta_b, beta_w=beta_w)
            results += [b, w]
        return results

    for r in sides:
        with products(r):
            both(name, text, dtype, run, PRODUCTS, least=1.0)


def tile(name, text, dtype):
    """The loop that these three share."""
    for check in (layer_forward, layer_backward, layer_gradient):
        check(name, text, dtype)


def update(name, text, dtype):
    """Two steps of each optimizer, with a penalty on some of the parameters."""
    for optimizer in optimizers.BUILT_IN.values():
        coefficients = optimizer.coefficients(0.1, np.array([1, 2]))

        def run(ops, rng, n, m, optimizer=optimizer, coefficients=coefficients):
            size = n * m
            start = np.where(np.arange(size) % 5 == 1, 0.0, rng.normal(size=size))  # L1 leaves 0 where it is
            w, states = ops.asarray(start, dtype), ops.asarray(np.zeros((optimizer.states, size)), dtype)
            for c in coefficients:
                nabla = ops.asarray(rng.normal(size=size), dtype)
                ops.update(optimizer, w, nabla, states, ops.asarray(c, dtype), Penalty(0.3, 0.2, 0.1), size // 3)
            return (ops.xp.reshape(w, (1, size)), states) if optimizer.states else (ops.xp.reshape(w, (1, size)),)

        both(name, text, dtype, run, ((1, 1), (31, 1), (257, 3), (1000, 2)), least=1.0)


def count_right(name, text, dtype):
    """Entries that are distinct, equal, negative, NaN; a single row."""

    def run(ops, rng, n, m):
        results = []
        for values in (rng.normal(size=(n, m)), rng.integers(-2, 3, (n, m)) / 2, -rng.random((n, m)) - 1):
            with_nan = np.where(rng.random((n, m)) < 0.02, np.nan, values)
            for a in (values, with_nan):
                found = (a[0] > 0.5) * 1 if n == 1 else a.argmax(axis=0)
                classes = np.where(rng.random(m) < 0.7, found, rng.integers(0, max(n, 2), m))
                total = ops.asarray(np.array([5]))
                ops.count_right(columns(ops, a, dtype), ops.asarray(classes), total)
                results.append(ops.xp.reshape(total, (1, 1)))
        return results

    both(name, text, dtype, run, ((1, 1), (1, 40), (10, 30), (31, 3), (33, 40), (257, 3), (1000, 2)))


def probe(name, text, dtype):
    """The kernel that shows that a device works: opening the backend runs it."""
    for order in ORDERS:
        with mock.patch.object(fake_cupy.RawKernel, "order", order), backend(name, text):
            pass


CHECKS = {
    check.__name__: check
    for check in (
        activate,
        add_squares,
        count_right,
        gather,
        hadamard_prime,
        layer_backward,
        layer_forward,
        layer_forward_dot,
        layer_gradient,
        outer_batch,
        output_error,
        probe,
        softmax,
        softmax_error,
        softmax_prime,
        tile,
        update,
    )
}


def judge_mutants(name, text):
    """Return the verdicts on a kernel's mutants. For a process of its own, which no test has made large.

    Each mutant is a fork, which takes the longer the more its parent has in memory.
    """
    with pytest.MonkeyPatch.context() as patch:
        fake_cupy.install(patch)
        return mutate.survivors(
            mutate.mutants(text), lambda changed: CHECKS[name](name, changed, "float32"), original=text, limit=60
        )
