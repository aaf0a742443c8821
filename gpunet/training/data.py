"""Where the examples of a training lie: on the device, or in the host's memory, passing through it part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array, Backend

#: Of data that pass through the device, so many bytes lie there at a time, twice.
_PART_BYTES = 2**28

#: Arrays on the device (inputs, targets, and weights if there are any), and which of their rows come next, in order.
Part = tuple[Sequence[Array], Array]


class Data(Protocol):
    """N examples, one a row."""

    n: int

    def parts(self, order: npt.NDArray[np.int64]) -> Iterator[Part]:
        """Yield the examples in that order; all parts but the last have a whole number of mini-batches."""


class Resident:
    """Arrays of N rows each on the device."""

    def __init__(self, ops: Backend, arrays: Sequence[Array]) -> None:
        self.n = arrays[0].shape[0]
        self._ops, self._arrays = ops, arrays

    def parts(self, order: npt.NDArray[np.int64]) -> Iterator[Part]:
        yield self._arrays, self._ops.asarray(order)


class Streamed:
    """Arrays in the host's memory, of which two parts lie on the device at a time.

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

    def parts(self, order: npt.NDArray[np.int64]) -> Iterator[Part]:
        for number, start in enumerate(range(0, len(order), self._rows)):
            rows = order[start : start + self._rows]
            stages, m = self._stages[number % 2], len(rows)
            sent = []
            for stage, source in zip(stages, self._sources, strict=True):
                stage.wait()
                if source.dtype == stage.host.dtype:
                    np.take(source, rows, axis=0, out=stage.host[:m], mode="clip")  # "raise" would copy once more
                else:
                    stage.host[:m] = source[rows]
                sent.append(stage.send(m))
            yield sent, self._index[:m]
            for stage in stages:
                stage.release()


def of(ops: Backend, arrays: Sequence[Any], dtype: str, batch_size: int) -> Data:
    """Return the data of a training: where they lie decides whether they pass through the device."""
    if ops.is_native(arrays[0]):
        return Resident(ops, arrays)
    return Streamed(ops, arrays, dtype, batch_size)
