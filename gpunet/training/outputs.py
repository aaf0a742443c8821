"""The outputs of a network for many examples, chunk by chunk."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array
from gpunet.backprop import feedforward
from gpunet.model import Model
from gpunet.training.threads import ThreadChooser

#: The activations of one chunk take about this many numbers.
_CHUNK_NUMBERS = 2**19


def outputs(model: Model, X: Array) -> npt.NDArray[Any]:
    """Return a^L for each row of X, which lies on the device: (N, n_in) -> (N, n_out) in the host's memory.

    Where the device's memory does not hold a chunk's activations, smaller chunks are tried.

    Raises
    ------
    MemoryError
        If it does not hold those of a single example.
    """
    chunk = max(1, min(X.shape[0], _CHUNK_NUMBERS // sum(model.sizes)))
    while True:
        try:
            return _by_chunks(model, X, chunk)
        except MemoryError:
            if chunk == 1:
                raise
            chunk = max(1, chunk // 4)


def _by_chunks(model: Model, X: Array, chunk: int) -> npt.NDArray[Any]:
    ops, n = model.ops, X.shape[0]
    result = np.empty((n, model.sizes[-1]), dtype=model.dtype)
    rows = ops.asarray(np.arange(n))
    most_threads = ops.most_threads if n > chunk else 1  # one chunk alone is no time to try more
    chooser = ThreadChooser(most_threads, 2 * model.parameters.flat.shape[0] * chunk)
    work = None
    for start in range(0, n, chunk):
        index = rows[start : min(start + chunk, n)]
        m = index.shape[0]
        if work is None or work.m != m:
            work = model.workspace(m)
        with ops.threads(chooser.next().threads):
            started = time.perf_counter()
            ops.gather(X, index, out=work.a[0], scale=model.input_scale)
            result[start : start + m] = ops.to_numpy(feedforward(ops, model.layers, work)).T
            chooser.record(m / chunk, time.perf_counter() - started)
    return result
