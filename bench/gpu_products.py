"""A layer's products by our own kernels, replayed, and by cuBLAS, launched one by one, from small to large sizes.

The constants in gpunet/backends/cupy.py that decide it are to be set by what this finds.
"""

from __future__ import annotations

from functools import partial
from unittest import mock

import numpy as np

from gpunet import activations
from gpunet.backends import cupy as backend

#: (n, k, m): weights (n, k) and m examples, from the book's layers to what fills a large card.
SHAPES = (
    (30, 784, 10),
    (10, 30, 10),
    (100, 784, 10),
    (100, 784, 100),
    (512, 784, 128),
    (512, 512, 128),
    (1024, 1024, 256),
    (2048, 2048, 512),
)
#: Calls of a replay.
CALLS = 20


def measure(ops, dtype, seconds, time_left, shapes=SHAPES):
    """Return a row for each verb and shape: seconds of a call by our kernels (blocks, tiles) and by cuBLAS."""
    rows = []
    for n, k, m in shapes:
        if not time_left():
            rows.append({"shape": [n, k, m], "dtype": dtype, "left out": "no time left"})
            continue
        for verb, call in _calls(ops, dtype, n, k, m):
            row = {"verb": verb, "shape": [n, k, m], "dtype": dtype, "cublas": _of(ops, call, 0, 0, seconds)}
            row["tiles"] = _of(ops, call, 2**62, 0, seconds)
            if verb == "layer_forward" and n * m <= 2**18:
                row["blocks"] = _of(ops, call, 2**62, 2**62, seconds)
            rows.append(row)
    return rows


def _calls(ops, dtype, n, k, m):
    f = activations.get("sigmoid")
    rng = np.random.default_rng(0)
    w, b = (ops.asarray(rng.random(shape) - 0.5, dtype) for shape in ((n, k), (n, 1)))
    x, delta, out, back = (ops.asarray(rng.random((m, rows)), dtype).T for rows in (k, n, n, k))
    yield "layer_forward", partial(ops.layer_forward, w, x, b, f, z=out, out=out)
    yield "layer_backward", partial(ops.layer_backward, w, delta, f, x, x, out=back)
    yield "layer_gradient", partial(ops.layer_gradient, delta, x, b, w, alpha=-1e-9, beta_b=1.0, beta_w=1.0)


def _of(ops, call, own_product, few_outputs, seconds):
    """Return the seconds of a call where products up to `own_product` are ours."""
    with (
        mock.patch.object(backend, "_OWN_PRODUCT", own_product),
        mock.patch.object(backend, "_FEW_OUTPUTS", few_outputs),
    ):
        if own_product == 0:
            return seconds(call)

        def calls():
            for _ in range(CALLS):
                call()

        calls()
        replay = ops.capture(calls)
        return seconds(calls if replay is None else replay) / CALLS
