"""Data that the memory does not hold: what a source of examples is, and how a network takes them from it."""

from __future__ import annotations

import copy
import threading
import zlib
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gpunet import checks, targets
from gpunet.errors import InputError
from gpunet.model import Model
from gpunet.training.draws import Order

#: Inputs and targets of some examples in the host's memory, one a row.
Buffer = tuple[npt.NDArray[Any], npt.NDArray[Any]]

#: Where data are read in their own order, this part of `buffer_rows` is read at a time.
_IN_ORDER = 16


@runtime_checkable
class Source(Protocol):
    """N examples that lie elsewhere, in files say, and are read chunk by chunk.

    Attributes
    ----------
    n_in : int
        Inputs of an example.
    dtype : numpy.dtype
        Of the inputs: uint8 stays uint8 in memory, everything else becomes the network's.
    y_shape : tuple of int, or None
        Shape of an example's target: () for a label or one number, (n_out,) for a row; None without targets.
    y_dtype : numpy.dtype or None
    chunks : sequence of int
        How many examples each chunk has, at least one.
    buffer_rows : int
        How many examples are mixed with each other, and held in memory, twice; as many as the largest chunk has, if
        that is more.
    """

    n_in: int
    dtype: np.dtype[Any]
    y_shape: tuple[int, ...] | None
    y_dtype: np.dtype[Any] | None
    chunks: Sequence[int]
    buffer_rows: int

    def read_inputs(self, chunk: int, out: npt.NDArray[Any]) -> None:
        """Write the inputs of chunk number `chunk` into `out`, (examples, n_in), in its dtype.

        It is called from another thread during a training, never twice at the same time.
        """

    def read_targets(self, chunk: int) -> npt.NDArray[Any]:
        """Return its targets, (examples, *y_shape)."""

    def place(self, chunk: int, row: int) -> str:
        """Say for an error message where row `row` of the chunk is, such as "X.npy, row 3 (from 0)"."""


class SourceRows:
    """A source's rows as one network takes them: checked, in its dtype, labels as one-hot rows.

    Parameters
    ----------
    model : Model
        Its last layer and its cost decide which targets are possible.
    source : Source
    what : str
        The argument that the source was given as, for messages.

    Attributes
    ----------
    shape : (N, n_in)
    n_out : int
    y_shape : tuple of int or None
    buffer_rows : int
        The examples of a buffer at most.

    Raises
    ------
    InputError
        If the source has other inputs than the network.
    """

    def __init__(self, model: Model, source: Source, what: str) -> None:
        n_in = model.sizes[0]
        if not len(source.chunks) or min(source.chunks) < 1:
            raise InputError(f"{what} has no examples, or a chunk of it has none.")
        if source.n_in != n_in:
            raise InputError(f"{what} has {source.n_in} inputs an example, but the network has {n_in} (sizes[0]).")
        self._model, self._source, self._what = model, source, what
        self.n_out, self._dtype = model.sizes[-1], model.dtype
        self._sizes = np.asarray(source.chunks, dtype=np.int64)
        self.shape = int(self._sizes.sum()), n_in
        self.y_shape = source.y_shape
        self._smoothing = 0.0
        self.buffer_rows = min(self.shape[0], max(source.buffer_rows, int(self._sizes.max())))

    def dtypes(self) -> tuple[str, str]:
        """Return the dtypes that inputs and targets have in a buffer."""
        one_hot = self.y_shape == () and self.n_out > 1
        y_dtype = np.dtype(np.uint8) if one_hot else self._source.y_dtype
        return self._kept(self._source.dtype), self._dtype if self._smoothing else self._kept(y_dtype)

    def _kept(self, dtype: np.dtype[Any] | None) -> str:
        return "uint8" if dtype is not None and dtype in (np.uint8, np.bool_) else self._dtype

    def task(self) -> str:
        """Read all targets, check them, and return what they are for: "classification" or "regression".

        Raises
        ------
        InputError
            If there are none, or one is not what the network can learn; the message names the file and the row.
        """
        if self.y_shape is None:
            raise InputError(f"{self._what} has no targets; a training and a score need them.")
        tasks = {self._targets(chunk)[1] for chunk in range(len(self._sizes))}
        return "classification" if tasks == {"classification"} else "regression"

    def targets_like(self) -> npt.NDArray[Any]:
        """Return an array of no targets, of the form of the source's."""
        return np.empty((0, *(self.y_shape or ())), self._source.y_dtype)

    def without_targets(self) -> SourceRows:
        """Return the same inputs, whose targets will not be read."""
        inputs = copy.copy(self)
        inputs.y_shape = None
        return inputs

    def smoothed(self, share: float) -> SourceRows:
        """Return the same rows with the targets t replaced by (1 - share) t + share / classes."""
        rows = copy.copy(self)
        rows._smoothing = share
        return rows

    def fingerprint(self) -> str:
        """Return a short text that differs where the data do: shapes, dtypes, and a checksum of two chunks."""
        checksum = zlib.crc32(self._sizes.tobytes())
        for chunk in (0, len(self._sizes) - 1):
            X = np.empty((int(self._sizes[chunk]), self.shape[1]), self.dtypes()[0])
            self._read_inputs(chunk, X)
            checksum = zlib.crc32(X.tobytes(), checksum)
            if self.y_shape is not None:
                checksum = zlib.crc32(np.ascontiguousarray(self._targets(chunk)[0]).tobytes(), checksum)
        source = self._source
        return f"{source.dtype}{list(self.shape)} {source.y_dtype}{self.y_shape} {self.buffer_rows} {checksum:08x}"

    def first(self) -> npt.NDArray[Any]:
        """Return the inputs of the first chunk."""
        X = np.empty((int(self._sizes[0]), self.shape[1]), self.dtypes()[0])
        self._read_inputs(0, X)
        return X

    def drawn(self, rng: Order) -> list[npt.NDArray[np.int64]]:
        """Return the chunks of an epoch, those of each buffer in ascending order.

        Which chunks come together is drawn, unless one buffer holds them all.
        """
        order = np.arange(len(self._sizes))
        if self.shape[0] > self.buffer_rows:
            order = rng.permutation(len(order))
        return [np.sort(chunks) for chunks in self._buffers(order, self.buffer_rows)]

    def _buffers(self, order: npt.NDArray[np.int64], rows: int) -> list[npt.NDArray[np.int64]]:
        """Cut the chunks in `order` into groups of at most so many rows, or of one chunk."""
        starts, room = [], 0
        for place, size in enumerate(self._sizes[order].tolist()):
            if size > room:
                starts.append(place)
                room = rows
            room -= size
        return np.split(order, starts[1:])

    def blocks(self) -> Generator[Buffer]:
        """Yield all examples in their order, some at a time; a block's memory is used again for the next but one.

        Without targets, those of a block are an array of no columns.
        """
        rows = min(self.shape[0], max(self.buffer_rows // _IN_ORDER, int(self._sizes.max())))
        groups = self._buffers(np.arange(len(self._sizes)), rows)
        columns = self.shape[1], 0 if self.y_shape is None else self.n_out
        buffers = [
            (np.empty((rows, columns[0]), self.dtypes()[0]), np.empty((rows, columns[1]), self.dtypes()[1]))
            for _ in range(min(2, len(groups)))
        ]
        with closing(self.filled(groups, lambda number: buffers[number])) as filled:
            for number, m in filled:
                X, Y = buffers[number]
                yield X[:m], Y[:m]

    def filled(
        self, groups: Sequence[npt.NDArray[np.int64]], buffer: Callable[[int], Buffer]
    ) -> Generator[tuple[int, int]]:
        """Fill two buffers in turn with the chunks of each group; yield which one is full, and its number of rows.

        A thread fills the one while the caller uses the other. `buffer` is called with 0 or 1 as soon as the caller
        needs that one no more, and returns it. What the thread raises is raised here; closing this ends the thread.
        """
        stop = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="gpunet reader") as reader:
            try:
                coming = reader.submit(self._fill, groups[0], buffer(0), stop)
                for turn in range(len(groups)):
                    rows = coming.result()
                    if turn + 1 < len(groups):
                        coming = reader.submit(self._fill, groups[turn + 1], buffer((turn + 1) % 2), stop)
                    yield turn % 2, rows
            finally:
                stop.set()

    def _fill(self, chunks: npt.NDArray[np.int64], buffer: Buffer, stop: threading.Event) -> int:
        """Read the chunks into a buffer, one below the other; return the number of rows."""
        X, Y = buffer
        done = 0
        for chunk in chunks.tolist():
            if stop.is_set():
                break
            rows = slice(done, done + int(self._sizes[chunk]))
            self._read_inputs(chunk, X[rows])
            if Y.shape[1]:
                t = self._targets(chunk)[0]
                if self._smoothing:
                    t = (1 - self._smoothing) * t.astype(self._dtype) + self._smoothing / max(2, self.n_out)
                Y[rows] = t
            done = rows.stop
        return done

    def _read_inputs(self, chunk: int, out: npt.NDArray[Any]) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # seen below, with the place
            self._source.read_inputs(chunk, out)
            if out.dtype.kind != "f" or np.isfinite(out.sum()):  # NaN or infinity anywhere are in the sum
                return
        finite = np.isfinite(out)
        if not finite.all():
            row, column = divmod(int(finite.argmin()), finite.shape[1])
            raise InputError(
                f"{self._source.place(chunk, row)}: input {column} (from 0) is {out[row, column]} in {out.dtype}; "
                "inputs must be finite. Remove or fill such values first."
            )

    def _targets(self, chunk: int) -> tuple[npt.NDArray[Any], str]:
        """Return the targets of a chunk, (m, n_out), and what they are for."""
        y = checks.real_array(self._source.read_targets(chunk), "y")
        if y.shape != (self._sizes[chunk], *(self.y_shape or ())):
            raise InputError(
                f"{self._source.place(chunk, 0)}: the chunk has {self._sizes[chunk]} examples with targets of shape "
                f"{self.y_shape}, but the source returned targets of shape {y.shape}."
            )
        try:
            return self._as_targets(y)
        except InputError:
            for row in range(len(y)):
                try:
                    self._as_targets(y[row : row + 1])
                except InputError as error:
                    raise InputError(f"{self._source.place(chunk, row)}: {error}") from error
            raise

    def _as_targets(self, y: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str]:
        model = self._model
        return targets.targets(model.ops, y, len(y), self.n_out, self._dtype, model.activations[-1], model.cost, "y")
