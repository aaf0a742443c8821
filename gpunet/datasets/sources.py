"""`open_data`: data sets larger than the memory, left in their files and read chunk by chunk."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.checks import positive_int
from gpunet.datasets.shards import NpyShard, NpzShard, Rows, Shard
from gpunet.errors import FileFormatError, InputError

PathLike = str | os.PathLike[str]

#: What a chunk and a buffer take as float32, or as uint8 if that is what the files have. The network's own dtype must
#: not matter here: it would change the order of the examples.
_CHUNK_BYTES, _BUFFER_BYTES = 2**20, 2**27

_NPY, _NPZ, _PARQUET = (".npy",), (".npz",), (".parquet", ".pq")


class ChunkedDataset:
    """Examples in files, of which a training holds some in memory at a time. `open_data` makes one.

    Attributes
    ----------
    n : int
        Examples.
    n_in : int
        Inputs of an example.
    dtype : numpy.dtype
        Of the inputs in the files.
    y_shape : tuple of int, or None
        Shape of an example's target: () for a label or one number; None if there are no targets.
    y_dtype : numpy.dtype or None
    chunks : sequence of int
        The examples of each chunk: what is read at once.
    buffer_rows : int
        The examples that are mixed with each other, and about as many as are in memory, twice.
    """

    def __init__(self, shards: Sequence[Shard], chunk_rows: int | None, buffer_rows: int | None) -> None:
        for other in shards[1:]:
            _check_alike(shards[0].inputs, other.inputs, "inputs")
            _check_alike(shards[0].targets, other.targets, "targets", shards[0].inputs.where, other.inputs.where)
        for shard in shards:
            _check_pair(shard.inputs, shard.targets)
        inputs, targets = shards[0].inputs, shards[0].targets
        self.n = sum(shard.inputs.count for shard in shards)
        self.n_in = inputs.width
        self.dtype = inputs.dtype
        self.y_shape = None if targets is None else targets.row_shape
        self.y_dtype = None if targets is None else targets.dtype
        rows_of = [inputs] if targets is None or not targets.row_shape else [inputs, targets]
        row_bytes = sum(rows.width * (1 if rows.dtype == np.uint8 else 4) for rows in rows_of)
        chunk_rows = max(1, _CHUNK_BYTES // row_bytes) if chunk_rows is None else chunk_rows
        self._chunks = [(shard, *rows) for shard in shards for rows in shard.chunks(chunk_rows)]
        self.chunks: Sequence[int] = [stop - start for _, start, stop in self._chunks]
        largest = int(np.argmax(self.chunks))
        if buffer_rows is None:
            buffer_rows = max(1, _BUFFER_BYTES // row_bytes, self.chunks[largest])
        elif buffer_rows < self.chunks[largest]:
            raise InputError(
                f"buffer_rows={buffer_rows} is less than the {self.chunks[largest]} rows that are read at once from "
                f"{self._chunks[largest][0].inputs.where}. Take at least as many, or write smaller files (.npz) or "
                "row groups (Parquet); of .npy, chunk_rows decides."
            )
        self.buffer_rows = buffer_rows

    def __repr__(self) -> str:
        targets = "no targets" if self.y_shape is None else f"targets {self.y_shape} {self.y_dtype}"
        return (
            f"<ChunkedDataset: {self.n} examples of {self.n_in} inputs, {self.dtype}, {targets}, in "
            f"{len(self.chunks)} chunks, {self.buffer_rows} examples a buffer>"
        )

    def __len__(self) -> int:
        return self.n

    def read_inputs(self, chunk: int, out: NDArray[Any]) -> None:
        """Write the inputs of a chunk into `out`, (examples, n_in), in its dtype."""
        shard, start, stop = self._chunks[chunk]
        shard.read_inputs(start, stop, out)

    def read_targets(self, chunk: int) -> NDArray[Any]:
        """Return the targets of a chunk, (examples, *y_shape)."""
        shard, start, stop = self._chunks[chunk]
        return shard.read_targets(start, stop)

    def place(self, chunk: int, row: int) -> str:
        """Return the file and the row in it of row `row` of a chunk."""
        shard, start, _ = self._chunks[chunk]
        return f"{shard.inputs.where}, row {start + row} (from 0)"


def open_data(
    path: PathLike | Iterable[PathLike],
    y: PathLike | Iterable[PathLike] | None = None,
    *,
    target: str | Sequence[str] | None = None,
    features: Sequence[str] | None = None,
    chunk_rows: int | None = None,
    buffer_rows: int | None = None,
    max_bytes: int | None = None,
) -> ChunkedDataset:
    """Open data that do not fit in memory; `Network.fit`, `predict` and `score` read them chunk by chunk.

    Only the files' headers are read here. Each epoch draws an order of the chunks, fills a buffer with some of them,
    and draws the order of the examples in it; mini-batches go on from one buffer to the next. The order depends on
    the network's seed, the data, `chunk_rows` and `buffer_rows`, and on nothing else.

    Parameters
    ----------
    path : path or list of paths
        Files of one kind, or a folder of such:

        - `.npy`: inputs, (N, ...), whose targets are in `y`. A folder has `X*.npy` and, for each, `y*.npy` with
          the same rest of the name, in any case of the letter;
        - `.npz` with the arrays X and y, or X alone;
        - `.parquet` or `.pq`: a table with a column for each input; a column of lists of one fixed length counts
          as so many inputs. Needs the extra `parquet`.

        The files of a folder are taken in the order of their names.
    y : path or list of paths, optional
        `.npy` files of the targets, (N,) or (N, n_out), as many as there are files of inputs, or a folder of them.
    target : str or list of str, optional
        Parquet columns that are the targets.
    features : list of str, optional
        Parquet columns that are the inputs, in this order; by default all but the targets and pandas's index.
    chunk_rows : int, optional
        Rows of a `.npy` file that are read at once; by default about 1 MB. An `.npz` file and a row group of
        Parquet are always read as a whole.
    buffer_rows : int, optional
        Rows that are mixed with each other. Memory holds two such buffers. By default as many as take 128 MB in
        float32 (or in uint8, if the inputs are), and at least the largest chunk.
    max_bytes : int, optional
        How many bytes an `.npz` file may unpack to; any number lifts the limit on a row group of Parquet. By default,
        what is read at once takes at most 64 MiB and ten times the file's size.

    Returns
    -------
    ChunkedDataset

    Raises
    ------
    FileFormatError
        If a file is missing, empty, damaged, or not of one of these kinds.
    InputError
        If files do not fit together; the message names both.
    """
    chunk_rows = None if chunk_rows is None else positive_int(chunk_rows, "chunk_rows")
    buffer_rows = None if buffer_rows is None else positive_int(buffer_rows, "buffer_rows")
    max_bytes = None if max_bytes is None else positive_int(max_bytes, "max_bytes")
    files = _files(path, "path", (*_NPY, *_NPZ, *_PARQUET))
    kinds = {file.suffix.lower() for file in files}
    is_npy, is_npz, is_parquet = (kinds <= {*known} for known in (_NPY, _NPZ, _PARQUET))
    if not (is_npy or is_npz or is_parquet):
        odd = [file for file in files if file.suffix.lower() not in (*_NPY, *_NPZ, *_PARQUET)]
        raise InputError(
            f"{(odd or files)[0]}: expected files of one kind, .npy, .npz or .parquet, got "
            f"{', '.join(sorted({file.suffix.lower() or 'no ending' for file in odd or files}))}."
        )
    for name, given, fits in (
        ("y", y, is_npy),
        ("target", target, is_parquet),
        ("features", features, is_parquet),
        ("chunk_rows", chunk_rows, is_npy),
        ("max_bytes", max_bytes, is_npz or is_parquet),
    ):
        if given is not None and not fits:
            raise InputError(f"{name} is not for {files[0].suffix} files; leave it out.")
    shards: list[Shard]
    if is_npy:
        if y is not None:
            paired = _paired(files, _files(y, "y", _NPY))
        else:
            is_folder = isinstance(path, str | os.PathLike) and Path(path).is_dir()
            paired = _beside(files) if is_folder else [(file, None) for file in files]
        shards = [NpyShard(inputs, targets) for inputs, targets in paired]
    elif is_npz:
        shards = [NpzShard(file, max_bytes) for file in files]
    else:
        from gpunet.datasets.shards_parquet import ParquetShard

        names = _names(target, "target"), _names(features, "features")
        shards = [ParquetShard(file, *names, max_bytes) for file in files]
    return ChunkedDataset(shards, chunk_rows, buffer_rows)


def _files(given: Any, what: str, suffixes: Sequence[str]) -> list[Path]:
    """Return the files that a path, a list of paths or a folder stands for."""
    are_listed = not isinstance(given, str | os.PathLike)
    try:
        paths = [Path(p) for p in given] if are_listed else [Path(given)]
    except TypeError:
        raise InputError(f"{what} must be a path or a list of paths, got {given!r:.60}.") from None
    if not paths:
        raise InputError(f"{what} is an empty list; give at least one file.")
    if are_listed or not paths[0].is_dir():
        missing = [p for p in paths if not p.exists()]
        if missing:
            raise FileFormatError(f"{missing[0]}: no such file or folder. Check the path.")
        return paths
    try:
        files = sorted(p for p in paths[0].iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
    except OSError as error:
        raise FileFormatError(f"{paths[0]}: the folder can't be listed ({error.strerror}).") from error
    if not files:
        raise FileFormatError(f"{paths[0]}: there are no {' or '.join(suffixes)} files in this folder.")
    return files


def _beside(files: Sequence[Path]) -> list[tuple[Path, Path | None]]:
    """Pair the X*.npy and y*.npy of a folder."""
    by_letter: dict[str, dict[str, Path]] = {"x": {}, "y": {}}
    for file in files:
        letter = file.name[0].lower()
        if letter not in by_letter:
            raise InputError(
                f"{file}: its name begins with neither X nor y, so it is not known what it holds. A folder has "
                "X*.npy and y*.npy; other names are given as lists: open_data([...], [...])."
            )
        first = by_letter[letter].setdefault(file.name[1:], file)
        if first is not file:
            raise InputError(
                f"{file}: differs from {first.name} in its first letter's case alone; rename one of them."
            )
    inputs, targets = by_letter["x"], by_letter["y"]
    if not targets:
        return [(file, None) for file in inputs.values()]
    lone = sorted(inputs.keys() ^ targets.keys())
    if lone:
        has, lacks = (inputs, "y") if lone[0] in inputs else (targets, "X")
        raise InputError(
            f"{files[0].parent}: there is {has[lone[0]].name}, but no {lacks}{lone[0]}; each needs the other."
        )
    return [(file, targets[rest]) for rest, file in inputs.items()]


def _paired(inputs: Sequence[Path], targets: Sequence[Path]) -> list[tuple[Path, Path | None]]:
    if len(inputs) != len(targets):
        raise InputError(
            f"path has {len(inputs)} files and y has {len(targets)}; each file of inputs needs one of targets."
        )
    return list(zip(inputs, targets, strict=True))


def _names(given: Any, what: str) -> list[str] | None:
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{what} must be names of columns, got {given!r:.60}.")
    return names


def _check_pair(inputs: Rows, targets: Rows | None) -> None:
    if not inputs.row_shape:
        raise InputError(
            f"{inputs.where}: inputs have the shape ({inputs.count},); expected one row an example, (N, n_in). For "
            "one value an example store X.reshape(-1, 1)."
        )
    if targets is None:
        return
    if targets.count != inputs.count:
        raise InputError(
            f"{targets.where} has {targets.count} targets for the {inputs.count} examples of {inputs.where}; one is "
            "needed for each."
        )
    if len(targets.row_shape) > 1:
        shape = targets.count, *targets.row_shape
        raise InputError(f"{targets.where}: targets have the shape {shape}; expected (N,) or (N, n_out).")


def _check_alike(one: Rows | None, other: Rows | None, what: str, *files: str) -> None:
    if one is None or other is None:
        if one is not other:
            has, lacks = files if other is None else files[::-1]
            raise InputError(f"{has} has targets and {lacks} has none; all files must have them, or none.")
        return
    if (one.row_shape, one.dtype) != (other.row_shape, other.dtype):
        raise InputError(
            f"{one.where} has {what} of shape {('N', *one.row_shape)} and dtype {one.dtype}, but {other.where} of "
            f"{('N', *other.row_shape)} and {other.dtype}; all files must have the same.".replace("'N'", "N")
        )
