"""Parquet files as shards of a data set, read row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.columns import near, some
from gpunet.datasets.open_parquet import is_index, opened
from gpunet.datasets.shards import Rows, Watched
from gpunet.datasets.stream import Room
from gpunet.errors import FileFormatError, InputError

#: So many bytes of a row group are decoded at a time.
_BATCH_BYTES = 2**22


class ParquetShard:
    """Columns of a Parquet file: the targets are some of them, the inputs others or all others.

    A column of lists of one fixed length counts as so many inputs.
    """

    def __init__(
        self, path: Path, target: Sequence[str] | None, features: Sequence[str] | None, max_bytes: int | None = None
    ) -> None:
        self._file = Watched(path)
        self._metadata = None
        with self._open() as file:
            self._metadata = file.metadata
            groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
            sizes = [group.num_rows for group in groups]
            unpacked = max((group.total_byte_size for group in groups), default=0)
            schema = file.schema_arrow
            if min(sizes, default=0) < 0 or sum(sizes) != file.metadata.num_rows:
                raise FileFormatError(
                    f"{path}: says that it has {file.metadata.num_rows} rows, but its row groups {sum(sizes)}. It "
                    "is damaged; write it again."
                )
        self._starts = list(accumulate(sizes, initial=0))
        if not self._starts[-1]:
            raise FileFormatError(f"{path}: has no rows; leave empty files out.")
        targets = [] if target is None else list(target)
        names = [n for n in schema.names if n not in targets and not is_index(n)] if features is None else features
        both = sorted({*names} & {*targets})
        if both:
            raise InputError(f"{path}: {both[0]!r} is a feature and a target; it can only be one of them.")
        self._features, self.inputs = self._columns(schema, names, "inputs")
        self.targets: Rows | None = None
        if targets:
            self._target, rows = self._columns(schema, targets, "targets")
            shape = () if len(targets) == 1 and rows.width == 1 else rows.row_shape
            self.targets = Rows(rows.where, rows.count, shape, rows.dtype)
        read = [rows for rows in (self.inputs, self.targets) if rows is not None]
        row_bytes = sum(rows.width * max(4, rows.dtype.itemsize) for rows in read)
        Room(max_bytes, path).take(max(sizes) * row_bytes + unpacked, f"{path}: a row group")

    def chunks(self, rows: int) -> list[tuple[int, int]]:
        return [(start, stop) for start, stop in pairwise(self._starts) if stop > start]

    def read_inputs(self, start: int, stop: int, out: NDArray[Any]) -> None:
        self._read(start, self._features, out)

    def read_targets(self, start: int, stop: int) -> NDArray[Any]:
        assert self.targets is not None
        out = np.empty((stop - start, self.targets.width), self.targets.dtype)
        self._read(start, self._target, out)
        return out.reshape(stop - start, *self.targets.row_shape)

    @contextmanager
    def _open(self) -> Iterator[Any]:
        with self._file.open() as file, opened(self._file.path, file, self._metadata) as reader:
            yield reader

    def _columns(self, schema: Any, names: Sequence[str], what: str) -> tuple[dict[str, int], Rows]:
        """Return how many values each column has in a row, and what all of them are together."""
        path = self._file.path
        widths, dtypes = {}, []
        for name in names:
            if schema.names.count(name) != 1:
                count = schema.names.count(name) or "no"
                raise InputError(
                    f"{path}: has {count} columns named {name!r}.{near(name, schema.names)} There are: "
                    f"{some(schema.names)}."
                )
            widths[name], dtype = _numeric(schema.field(name).type, f"{path}, column {name!r}")
            dtypes.append(dtype)
        if not widths:
            raise InputError(f"{path}: no column is left for the {what}.")
        total = sum(widths.values())
        return widths, Rows(str(path), self._starts[-1], (total,), np.result_type(*dtypes))

    def _read(self, start: int, widths: dict[str, int], out: NDArray[Any]) -> None:
        """Write some columns of the row group that starts at row `start` into `out`, side by side."""
        group, done = self._starts.index(start), 0
        step = max(1, _BATCH_BYTES // (out.shape[1] * out.itemsize))
        with self._open() as file:
            batches = file.iter_batches(step, row_groups=[group], columns=list(widths), use_threads=False)
            for batch in batches:
                rows, left = slice(done, done + batch.num_rows), 0
                for name, width in widths.items():
                    out[rows, left : left + width] = self._values(batch.column(name), name, start + done, width)
                    left += width
                done = rows.stop
        if done != len(out):  # what is missing would be whatever was in memory
            raise FileFormatError(
                f"{self._file.path}: row group {group} (from 0) has {done} rows where it says {len(out)}. It is "
                "damaged; write it again."
            )

    def _values(self, column: Any, name: str, first: int, width: int) -> NDArray[Any]:
        import pyarrow

        flat = column
        if width > 1 or pyarrow.types.is_fixed_size_list(column.type):
            flat = column.flatten() if not column.null_count else column
        if flat.null_count:
            row = first + int(np.flatnonzero(np.asarray(flat.is_null()))[0]) // (len(flat) // len(column))
            raise InputError(
                f"{self._file.path}, row {row} (from 0): column {name!r} is null there; fill or remove such rows."
            )
        if pyarrow.types.is_boolean(flat.type):
            flat = flat.cast(pyarrow.uint8())
        return np.from_dlpack(flat).reshape(len(column), width)  # to_numpy would import pandas: 50 MB


def _numeric(kind: Any, where: str) -> tuple[int, np.dtype[Any]]:
    """Return how many numbers a column of that Arrow type has in a row, and their dtype."""
    import pyarrow.types

    width = 1
    if pyarrow.types.is_fixed_size_list(kind):
        width, kind = kind.list_size, kind.value_type
    if pyarrow.types.is_boolean(kind):
        return width, np.dtype(np.uint8)
    if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind)):
        raise InputError(
            f"{where}: holds {kind}; expected numbers, or lists of one fixed length of them. Convert it, or name the "
            "columns to take with features=[...]."
        )
    return width, np.dtype(kind.to_pandas_dtype())
