"""What a network makes of many examples, chunk by chunk: their outputs, their cost, how many it has right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gpunet import arrays
from gpunet.backends import Array
from gpunet.backprop import Workspace, feedforward
from gpunet.model import Model
from gpunet.training import metrics
from gpunet.training.source import SourceRows
from gpunet.training.threads import ThreadChooser

#: The activations of one chunk take about this many numbers.
_CHUNK_NUMBERS = 2**19

Result = TypeVar("Result")


def outputs(model: Model, X: Array) -> npt.NDArray[Any]:
    """Return a^L for each row of X, (N, n_in) -> (N, n_out) in the host's memory.

    X may lie on the device or in the host's memory, or be `SourceRows`. Where the device's memory does not hold a
    chunk, smaller ones are tried.

    Raises
    ------
    MemoryError
        If it does not hold a single example.
    """
    if isinstance(X, SourceRows):
        return _outputs_of_source(model, X)

    def by_chunks(chunk: int) -> npt.NDArray[Any]:
        result = np.empty((X.shape[0], model.sizes[-1]), dtype=model.dtype)
        for rows, _, work in _passes(model, X, chunk):
            result[rows] = model.ops.to_numpy(work.a[-1]).T
        return result

    return _in_smaller_chunks(model, X, by_chunks)


def outputs_on_device(model: Model, X: Array) -> Array:
    """Return a^L for each row of X, (N, n_in) -> (N, n_out), both on the device; see `outputs`."""

    def by_chunks(chunk: int) -> Array:
        result = model.ops.empty((X.shape[0], model.sizes[-1]), model.dtype)
        for rows, _, work in _passes(model, X, chunk):
            result[rows, ...] = work.a[-1].T
        return result

    return _in_smaller_chunks(model, X, by_chunks)


def count_right(model: Model, X: Array, classes: npt.NDArray[np.int64]) -> int:
    """Return for how many rows of X, (N, n_in), the largest output is that of its class, (N,)."""
    ops = model.ops

    def by_chunks(chunk: int) -> int:
        right = ops.asarray(np.zeros(1, dtype=np.int64))
        for rows, _, work in _passes(model, X, chunk):
            ops.count_right(work.a[-1], ops.asarray(classes[rows]), right)
        return int(ops.to_numpy(right)[0])

    return _in_smaller_chunks(model, X, by_chunks)


def measure(model: Model, X: Any, Y: Any, task: str) -> tuple[float, float]:
    """Return the mean cost and the score of rows X, (N, n_in), with targets Y, (N, n_out), in the host's memory.

    The score is the accuracy for "classification", R^2 for "regression". `SourceRows` have their targets: Y is None.
    """
    if isinstance(X, SourceRows):
        return _measure_source(model, X, task)
    total, right, predicted = _sums(model, X, Y, task)
    n = X.shape[0]
    return total / n, right / n if predicted is None else metrics.r_squared(predicted, Y)


def _outputs_of_source(model: Model, examples: SourceRows) -> npt.NDArray[Any]:
    result = np.empty((examples.shape[0], model.sizes[-1]), dtype=model.dtype)
    done = 0
    with closing(examples.blocks()) as blocks:
        for x, _ in blocks:
            result[done : done + len(x)] = outputs(model, x)
            done += len(x)
    return result


def _measure_source(model: Model, examples: SourceRows, task: str) -> tuple[float, float]:
    total, right, r_squared = 0.0, 0, metrics.RSquared()
    with closing(examples.blocks()) as blocks:
        for x, y in blocks:
            cost, count, predicted = _sums(model, x, y, task)
            total, right = total + cost, right + count
            if predicted is not None:
                r_squared.add(predicted, y)
    n = examples.shape[0]
    return total / n, right / n if task == "classification" else r_squared.result()


def _sums(model: Model, X: Array, Y: npt.NDArray[Any], task: str) -> tuple[float, int, npt.NDArray[Any] | None]:
    """Return the sum of the costs of rows X with targets Y, how many are right, and for regression the outputs."""
    ops = model.ops
    classes = metrics.to_classes(Y) if task == "classification" else None

    def by_chunks(chunk: int) -> tuple[float, int, npt.NDArray[Any] | None]:
        total, right = ops.new_total(), ops.asarray(np.zeros(1, dtype=np.int64))
        predicted = np.empty(Y.shape if classes is None else 0, dtype=model.dtype)
        for rows, index, work in _passes(model, X, chunk):
            ops.gather(arrays.to_device(ops, Y[rows], model.dtype), index, out=work.y)
            a, z, delta = work.a[-1], work.z[-1], work.delta[-1]
            ops.output_error(model.cost, model.activations[-1], z, a, work.y, out=delta, total=total)
            if classes is not None:
                ops.count_right(a, ops.asarray(classes[rows]), right)
            else:
                predicted[rows] = ops.to_numpy(a).T
        cost, count = float(ops.to_numpy(total).sum()), int(ops.to_numpy(right)[0])
        return cost, count, predicted if classes is None else None

    return _in_smaller_chunks(model, X, by_chunks)


def _in_smaller_chunks(model: Model, X: Array, by_chunks: Callable[[int], Result]) -> Result:
    """Call `by_chunks` with ever fewer examples a chunk, until the device's memory holds one."""
    chunk = max(1, min(X.shape[0], _CHUNK_NUMBERS // sum(model.sizes)))
    while True:
        try:
            return by_chunks(chunk)
        except MemoryError:
            if chunk == 1:
                raise
            chunk = max(1, chunk // 4)


def _passes(model: Model, X: Array, chunk: int) -> Iterator[tuple[slice, Array, Workspace]]:
    """Run chunk after chunk through the network; yield its place in X, its rows' numbers in it, and the pass."""
    ops, n = model.ops, X.shape[0]
    numbers = ops.asarray(np.arange(chunk))
    most_threads = ops.most_threads if n > chunk else 1  # one chunk alone is no time to try more
    chooser = ThreadChooser(most_threads, 2 * model.parameters.flat.shape[0] * chunk)
    work = None
    for start in range(0, n, chunk):
        rows = slice(start, min(start + chunk, n))
        m = rows.stop - start
        if work is None or work.m != m:
            work = model.workspace(m)
        index = numbers[:m]
        x = arrays.to_device(ops, X[rows, ...], model.dtype)
        with ops.threads(chooser.next().threads):
            started = time.perf_counter()
            ops.gather(x, index, out=work.a[0], scale=model.input_scale)
            feedforward(ops, model.layers, work)
            chooser.record(m / chunk, time.perf_counter() - started)
        yield rows, index, work
