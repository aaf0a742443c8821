"""Files that hold a part of a data set each, read a few rows at a time: .npy and .npz.

They are read and not mapped: a mapped page counts as the process's memory for as long as it stays there.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets import npz
from gpunet.datasets.arrays import check_claim
from gpunet.datasets.stream import Room, open_regular
from gpunet.errors import FileFormatError, InputError, one_line

#: Values of another dtype than the network's are converted so many bytes at a time.
_PIECE_BYTES = 2**20


@dataclass(frozen=True)
class Rows:
    """What is known of an array in a file before it is read.

    Attributes
    ----------
    where : str
        The file, and the array in it if there are several.
    count : int
    row_shape : tuple of int
    dtype : numpy.dtype
    is_truth : bool
        Whether the file says that they are true or false, which are 1 and 0.
    """

    where: str
    count: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_truth: bool = False

    @property
    def width(self) -> int:
        """Values in a row."""
        return math.prod(self.row_shape)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * self.dtype.itemsize


class Shard(Protocol):
    """Inputs and targets of some examples, in a file or in two.

    Attributes
    ----------
    inputs : Rows
    targets : Rows or None
    """

    inputs: Rows
    targets: Rows | None

    def chunks(self, rows: int) -> list[tuple[int, int]]:
        """Return the first and the last row + 1 of each part that is read at once, of about so many rows."""

    def read_inputs(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Write these rows of the inputs, flat, into `out`, in its dtype."""

    def read_targets(self, start: int, stop: int) -> NDArray[Any]:
        """Return these rows of the targets."""


class Watched:
    """A file that must stay as it is now."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as file:
            self._stamp = _stamp(file)

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._stamp[0]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it for reading.

        Raises
        ------
        FileFormatError
            If it is missing, has been changed, or can't be read.
        """
        with open_regular(self.path) as file:
            if _stamp(file) != self._stamp:
                raise FileFormatError(
                    f"{self.path}: has been changed since the data were opened ({_spelled(self._stamp)} then, "
                    f"{_spelled(_stamp(file))} now). Data must stay as they are during a training; open them anew."
                )
            try:
                yield file
            except OSError as error:
                raise FileFormatError(f"{self.path}: can't be read ({error.strerror or error}).") from error


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _spelled(stamp: tuple[int, int]) -> str:
    return f"{stamp[0]} bytes of time {stamp[1] / 1e9:.6f}"


class NpyShard:
    """X and, if there are targets, y in a .npy file each."""

    def __init__(self, inputs: Path, targets: Path | None) -> None:
        self._inputs = _Npy(inputs)
        self._targets = None if targets is None else _Npy(targets)
        self.inputs = self._inputs.rows
        self.targets = None if self._targets is None else self._targets.rows

    def chunks(self, rows: int) -> list[tuple[int, int]]:
        count = self.inputs.count
        return [(start, min(start + rows, count)) for start in range(0, count, rows)]

    def read_inputs(self, start: int, stop: int, out: NDArray[Any]) -> None:
        self._inputs.read(start, out)

    def read_targets(self, start: int, stop: int) -> NDArray[Any]:
        assert self._targets is not None
        rows = self._targets.rows
        out = np.empty((stop - start, rows.width), rows.dtype.newbyteorder("="))
        self._targets.read(start, out)
        return out.reshape(stop - start, *rows.row_shape)


class _Npy:
    """An array in a .npy file."""

    def __init__(self, path: Path) -> None:
        self._file = Watched(path)
        with self._file.open() as file:
            self.rows = _rows(file, str(path), self._file.size)
            self._offset = file.tell()

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out`, (rows, width)."""
        with self._file.open() as file:
            file.seek(self._offset + start * self.rows.row_bytes)
            _fill(file, self.rows, out)


class NpzShard:
    """X and, if it is there, y in a .npz file, which is unpacked from its beginning: all rows are read at once."""

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        self._file = Watched(path)
        with self._open() as archive:
            members = npz.members_of(archive, path)
            if not {"x"} <= set(members) <= {"x", "y"}:
                found = one_line(", ".join(sorted(members)[:20])) or "none"
                raise FileFormatError(
                    f"{path}: found the keys {found}; expected X and y, or X alone, in each file. Save with "
                    "numpy.savez(path, X=..., y=...)."
                )
            room = Room(max_bytes, path)
            npz.check_sizes(archive, path, room.unpacked())
            self._members = members
            self.inputs = self._rows("x", archive)
            self.targets = self._rows("y", archive) if "y" in members else None
            for rows in (self.inputs, self.targets):
                if rows is not None:  # all at once, as bytes, or as the network's floats or the targets' own numbers
                    itemsize = 1 if rows.dtype == np.uint8 else max(4, rows.dtype.itemsize)
                    room.take(rows.count * rows.width * itemsize, rows.where)

    def chunks(self, rows: int) -> list[tuple[int, int]]:
        return [(0, self.inputs.count)]

    def read_inputs(self, start: int, stop: int, out: NDArray[Any]) -> None:
        self._read("x", self.inputs, out)

    def read_targets(self, start: int, stop: int) -> NDArray[Any]:
        assert self.targets is not None
        rows = self.targets
        out = np.empty((rows.count, rows.width), rows.dtype.newbyteorder("="))
        self._read("y", rows, out)
        return out.reshape(rows.count, *rows.row_shape)

    @contextmanager
    def _open(self) -> Iterator[zipfile.ZipFile]:
        with self._file.open() as file, npz.readable(self._file.path), zipfile.ZipFile(file) as archive:
            yield archive

    def _rows(self, key: str, archive: zipfile.ZipFile) -> Rows:
        member = self._members[key]
        with archive.open(member) as stream:
            name = member.filename.removesuffix(".npy")
            return _rows(stream, f"{self._file.path}, array {name!r}", member.file_size)

    def _read(self, key: str, rows: Rows, out: NDArray[Any]) -> None:
        with self._open() as archive, archive.open(self._members[key]) as stream:
            npz.read_header(stream, rows.where)
            _fill(stream, rows, out)


def _rows(stream: IO[bytes], where: str, size: int) -> Rows:
    """Read a .npy header in a stream of so many bytes, and check that it is true."""
    shape, fortran, dtype = npz.read_header(stream, where)
    check_claim(shape, dtype.itemsize, size - stream.tell(), where)
    if fortran and len(shape) > 1:
        raise InputError(
            f"{where}: is saved column by column (Fortran order), so that its rows can't be read one after another; "
            "save numpy.ascontiguousarray(...) of it."
        )
    is_truth = dtype.kind == "b"
    return Rows(where, shape[0], tuple(shape[1:]), np.dtype(np.uint8) if is_truth else dtype, is_truth)


def _fill(stream: IO[bytes], rows: Rows, out: NDArray[Any]) -> None:
    """Fill `out`, (rows, width), from what comes next in the stream."""
    step = max(1, _PIECE_BYTES // rows.row_bytes)
    as_it_is = out.dtype == rows.dtype and out.flags.c_contiguous
    scratch = None if as_it_is else np.empty((min(step, len(out)), rows.width), rows.dtype)
    for start in range(0, len(out), step):
        piece = out[start : start + step]
        raw = piece if scratch is None else scratch[: len(piece)]
        _read_exactly(stream, raw.reshape(-1).view(np.uint8).data, rows.where)
        if rows.is_truth and raw.max() > 1:
            raise FileFormatError(
                f"{rows.where}: holds {raw.max()} where true is 1 and false 0. It is damaged; write it again."
            )
        if scratch is not None:
            piece[...] = raw


def _read_exactly(stream: Any, memory: memoryview, where: str) -> None:
    done = 0
    while done < len(memory):
        read = stream.readinto(memory[done:])
        if not read:
            raise FileFormatError(
                f"{where}: ended {len(memory) - done} bytes too early; it was changed while it was read."
            )
        done += read
