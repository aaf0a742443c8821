"""Where the examples of a training lie: on the device, in the host's memory, or in files; and their order."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array, Backend
from gpunet.training.draws import Order
from gpunet.training.source import Buffer, SourceRows

#: Of data that pass through the device, so many bytes lie there at a time, twice.
_PART_BYTES = 2**28

#: Arrays on the device (inputs, targets, and weights if there are any), and which of their rows come next, in order.
Part = tuple[Sequence[Array], Array]


class Data(Protocol):
    """N examples, one a row."""

    n: int

    def parts(self, rng: Order) -> Generator[Part]:
        """Yield every example once, in an order drawn from `rng`; all parts but the last are whole mini-batches.

        A part's arrays may change as soon as the next one is asked for. Data in memory draw one permutation of the N
        examples.
        """


class Resident:
    """Arrays of N rows each on the device."""

    def __init__(self, ops: Backend, arrays: Sequence[Array]) -> None:
        self.n = arrays[0].shape[0]
        self._ops, self._arrays = ops, arrays

    def parts(self, rng: Order) -> Generator[Part]:
        yield self._arrays, self._ops.asarray(rng.permutation(self.n))


class Streamed:
    """Arrays in the host's memory, of which two parts lie on the device at a time.

    The first may be a sparse matrix of SciPy's in CSR form, whose parts are dense.

    While the device works on one part, the host gathers the next one and sends it.
    """

    def __init__(self, ops: Backend, arrays: Sequence[npt.NDArray[Any]], dtype: str, batch_size: int) -> None:
        self.n = arrays[0].shape[0]
        self._sources = arrays
        dtypes = [v.dtype.name if v.dtype == np.uint8 else dtype for v in arrays]
        row_bytes = sum(v.shape[1] * np.dtype(d).itemsize for v, d in zip(arrays, dtypes, strict=True))
        batches = max(1, min(_PART_BYTES // (row_bytes * batch_size), -(-self.n // batch_size)))
        self._rows = batches * batch_size
        self._stages = [
            [ops.stage(self._rows, v.shape[1], d) for v, d in zip(arrays, dtypes, strict=True)] for _ in range(2)
        ]
        self._index = ops.asarray(np.arange(self._rows))

    def parts(self, rng: Order) -> Generator[Part]:
        order = rng.permutation(self.n)
        for number, start in enumerate(range(0, len(order), self._rows)):
            rows = order[start : start + self._rows]
            stages, m = self._stages[number % 2], len(rows)
            sent = []
            for stage, source in zip(stages, self._sources, strict=True):
                stage.wait()
                _take(source, rows, stage.host[:m])
                sent.append(stage.send(m))
            yield sent, self._index[:m]
            for stage in stages:
                stage.release()


def _take(source: Any, rows: npt.NDArray[np.int64], out: npt.NDArray[Any]) -> None:
    """Copy rows of an array or a sparse matrix."""
    if not isinstance(source, np.ndarray):
        out[...] = source[rows].toarray()
    elif source.dtype == out.dtype:
        np.take(source, rows, axis=0, out=out, mode="clip")  # "raise" would copy once more
    else:
        out[...] = source[rows]


class Chunked:
    """Examples that are read from a source, of which two buffers are in memory at a time.

    Each epoch draws which chunks share a buffer, and then, buffer by buffer, the order of its examples. Those that
    are left when a buffer's mini-batches are done come first in the next one. Where one buffer holds them all, their
    order is that of data in memory. The draws are made by whoever asks for the parts, never by the thread that
    reads ahead, so that the order depends on nothing but `rng` and the source's chunks.
    """

    def __init__(self, ops: Backend, examples: SourceRows, batch_size: int) -> None:
        self.n = examples.shape[0]
        self._ops, self._examples, self._batch_size = ops, examples, batch_size
        several = examples.buffer_rows < self.n
        self._head = batch_size - 1 if several else 0  # the first rows of a stage are for those left over
        rows = self._head + examples.buffer_rows
        columns = zip((examples.shape[1], examples.n_out), examples.dtypes(), strict=True)
        shapes = [(rows, n, dtype) for n, dtype in columns]
        self._stages = [[ops.stage(*shape) for shape in shapes] for _ in range(2 if several else 1)]

    def parts(self, rng: Order) -> Generator[Part]:
        left = [stage.host[:0] for stage in self._stages[0]]
        done = 0
        with closing(self._examples.filled(self._examples.drawn(rng), self._free)) as filled:
            for number, m in filled:
                stages, first = self._stages[number], self._head - len(left[0])
                for stage, rows in zip(stages, left, strict=True):
                    stage.host[first : self._head] = rows
                order = np.concatenate([np.arange(first, self._head), self._head + rng.permutation(m)])
                done += m
                whole = len(order) if done == self.n else len(order) - len(order) % self._batch_size
                left = [stage.host[order[whole:]] for stage in stages]
                if whole:
                    X, Y = (stage.send(self._head + m) for stage in stages)
                    yield [X, Y], self._ops.asarray(order[:whole])
                    for stage in stages:
                        stage.release()

    def _free(self, number: int) -> Buffer:
        """Wait until a stage may be filled, and return the part of it that is read into."""
        for stage in self._stages[number]:
            stage.wait()
        X, Y = (stage.host[self._head :] for stage in self._stages[number])
        return X, Y


def of(ops: Backend, arrays: Sequence[Any], dtype: str, batch_size: int) -> Data:
    """Return the data of a training: what and where they are decides how they reach the device.

    The first may be `SourceRows`, which have their targets with them, or a sparse matrix: see `Streamed`.
    """
    if isinstance(arrays[0], SourceRows):
        return Chunked(ops, arrays[0], batch_size)
    if ops.is_native(arrays[0]):
        return Resident(ops, arrays)
    return Streamed(ops, arrays, dtype, batch_size)
