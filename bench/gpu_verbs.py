"""Each verb of a backend at a size that fills a GPU, with the bytes and operations that it can not do without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gpunet import activations, costs, optimizers
from gpunet.optimizers import Penalty


@dataclass(frozen=True)
class Sizes:
    """Of the arrays: a layer of n neurons, m examples, square products of n_gemm, outer products for m_outer.

    Elementwise arrays of n * m numbers have to exceed the L2 cache several times over (50 MB on an H100).
    """

    n: int = 4096
    m: int = 16_384
    n_gemm: int = 8192
    m_outer: int = 64
    pixels: int = 784
    examples: int = 262_144


@dataclass(frozen=True)
class Case:
    """A verb's call. `bytes` are those read and written once each; `flops` multiplications and additions."""

    verb: str
    what: str
    call: Callable[[], Any]
    bytes: int = 0
    flops: int = 0


class _Maker:
    """Makes the arrays of a type on a backend, with ordinary numbers in them."""

    def __init__(self, ops, dtype):
        self.ops, self.dtype, self.itemsize = ops, dtype, np.dtype(dtype).itemsize
        self.rng = np.random.default_rng(0)

    def rows(self, count, width):
        """Return (count, width), row after row: all the same random row."""
        x = self.ops.empty((count, width), self.dtype)
        x[...] = self.ops.asarray(self.rng.random((1, width)).astype(self.dtype))
        return x

    def columns(self, n, m):
        """Return a batch as the algorithm has it, (n, m) with columns one after the other."""
        return self.rows(m, n).T


def cases(ops, dtype, sizes):
    """Yield a case for each verb and way that it is computed; a group's arrays go when the next one's come."""
    make = _Maker(ops, dtype)
    for group in (_elementwise, _updates, _products, _outer_products, _gathers):
        yield from group(ops, make, sizes)


def _elementwise(ops, make, sizes):
    n, m = sizes.n, sizes.m
    block = n * m * make.itemsize
    of = f"{n} x {m}"
    a, y, out = (make.columns(n, m) for _ in range(3))
    b, column = (ops.asarray(np.zeros((n, 1), dtype=make.dtype)) for _ in range(2))
    total = ops.new_total()
    yield Case("copy", of, lambda: ops.copy(a, out), bytes=2 * block)
    for name in ("sigmoid", "relu", "softmax"):
        call = partial(ops.activate, out, b, activations.get(name), out)
        yield Case("activate", f"{name}, {of}", call, bytes=2 * block)
    for name in ("sigmoid", "softmax"):
        call = partial(ops.hadamard_prime, out, activations.get(name), a, a, out)
        yield Case("hadamard_prime", f"{name}, {of}", call, bytes=3 * block)
    for cost, name in (("quadratic", "sigmoid"), ("cross-entropy", "sigmoid"), ("log-likelihood", "softmax")):
        call = partial(ops.output_error, costs.get(cost), activations.get(name), a, a, y, out, total)
        yield Case("output_error", f"{cost}, {name}, {of}", call, bytes=3 * block)
    classes = ops.asarray(np.arange(m) % n)
    right = ops.asarray(np.zeros(1, dtype=np.int64))
    yield Case("count_right", of, lambda: ops.count_right(a, classes, right), bytes=block + 8 * m)
    yield Case("sum_batch", of, lambda: ops.sum_batch(a, column), bytes=block + n * make.itemsize)


def _products(ops, make, sizes):
    k = sizes.n_gemm
    w, x, z = make.rows(k, k), make.columns(k, k), make.columns(k, k)
    flops, matrix = 2 * k**3, k * k * make.itemsize
    yield Case("matmul", f"w a, {k} cubed", lambda: ops.matmul(w, x, z), 3 * matrix, flops)
    yield Case("matmul", f"w-transposed delta, {k} cubed", lambda: ops.matmul(w.T, x, z), 3 * matrix, flops)
    call = partial(ops.outer_sum, z, x, w, alpha=-1e-9, beta=1.0)
    yield Case("outer_sum", f"into the weights, {k} cubed", call, 4 * matrix, flops)


def _updates(ops, make, sizes):
    count = sizes.n * sizes.m // 4
    w, nabla = (make.rows(1, count)[0] for _ in range(2))
    for name in ("momentum", "adam"):
        optimizer = optimizers.get(name)
        states = make.rows(optimizer.states, count)
        c = ops.asarray(optimizer.coefficients(1e-9, np.array([1]))[0], make.dtype)
        call = partial(ops.update, optimizer, w, nabla, states, c, Penalty(), 0)
        moved = (3 + 2 * optimizer.states) * count * make.itemsize
        yield Case("update", f"{name}, {count}", call, bytes=moved)
    call = partial(ops.add_squares, w, ops.new_total())
    yield Case("add_squares", f"{count}", call, bytes=count * make.itemsize)


def _outer_products(ops, make, sizes):
    j, m = sizes.n // 2, sizes.m_outer
    delta, a, each = make.columns(j, m), make.columns(j, m), ops.empty((m, j, j), make.dtype)
    moved = (m * j * j + 2 * m * j) * make.itemsize
    yield Case("outer_batch", f"{m} of {j} x {j}", lambda: ops.outer_batch(delta, a, each), bytes=moved)


def _gathers(ops, make, sizes):
    rows, pixels = sizes.examples // 2, sizes.pixels
    index = ops.asarray(make.rng.permutation(sizes.examples)[:rows])
    batch = make.columns(pixels, rows)
    for source in ("uint8", make.dtype):
        images = ops.empty((sizes.examples, pixels), source)
        images[...] = 1
        moved = rows * pixels * (np.dtype(source).itemsize + make.itemsize) + rows * 8
        call = partial(ops.gather, images, index, batch, 1 / 256)
        yield Case("gather", f"{rows} of {sizes.examples} rows of {pixels}, {source}", call, bytes=moved)


def measure(ops, dtype, sizes, seconds, device_copy, time_left):
    """Time every verb; return rows as plain values, each with the share of its limit.

    Parameters
    ----------
    ops : Backend
    dtype : str
    sizes : Sizes
    seconds : callable
        ``seconds(call)`` returns what a call takes on the device.
    device_copy : callable
        ``device_copy(nbytes)`` returns the bytes a second of a copy on the device, read plus written.
    time_left : callable
        Whether there is time for another case.
    """
    bandwidth = device_copy(sizes.n * sizes.m * np.dtype(dtype).itemsize)
    rows = []
    for case in cases(ops, dtype, sizes):
        if not time_left():
            rows.append({"verb": case.verb, "what": case.what, "dtype": dtype, "left out": "no time left"})
            continue
        took = seconds(case.call)
        rows.append({"verb": case.verb, "what": case.what, "dtype": dtype, "seconds": took,
                     "bytes": case.bytes, "flops": case.flops})  # fmt: skip
    # The arithmetic's limit is the fastest large product of this very run.
    speeds = [row["flops"] / row["seconds"] for row in rows if row.get("flops")]
    for row in rows:
        if "seconds" not in row:
            continue
        limits = {"memory": row["bytes"] / bandwidth}
        if row["flops"]:
            limits["arithmetic"] = row["flops"] / max(speeds)
        row["limit"], least = max(limits.items(), key=lambda item: item[1])
        row["share of limit"] = least / row["seconds"]
    return {"copy bytes a second": bandwidth, "product flops a second": max(speeds, default=None), "rows": rows}
