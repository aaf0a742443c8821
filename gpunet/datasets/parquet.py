"""Parquet tables, by pyarrow, which is imported when a file comes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.columns import Table
from gpunet.datasets.dataset import Dataset
from gpunet.datasets.open_parquet import is_index, opened
from gpunet.datasets.stream import open_regular
from gpunet.datasets.table import dataset_of
from gpunet.errors import FileFormatError, InputError

# A file may say "a million times the same" in a few bytes. These values come in before a ratio counts.
_FREE_BYTES = 1 << 30
_USUAL_RATIO = 100


def read(path: Path, target: str | int | None = None, max_bytes: int | None = None) -> Dataset:
    """Return the data set in the Parquet file `path`; see `gpunet.datasets.load`."""
    return dataset_of(read_columns(path, (), max_bytes), path, target)


def read_columns(path: Path, as_text: Collection[str] = (), max_bytes: int | None = None) -> Table:
    """Return all columns of the Parquet file `path`; see `gpunet.datasets.read_table`."""
    with open_regular(path) as file, opened(path, file) as reader:
        names = [field.name for field in reader.schema_arrow]
        _check_size(path, reader.metadata.num_rows, len(names), max_bytes)
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise InputError(f"{path}: two columns have the name {twice!r}; give each its own.")
        table = reader.read()
    if table.num_rows == 0 or not names:
        raise FileFormatError(f"{path}: holds {len(names)} columns and {table.num_rows} rows; expected data.")
    import pyarrow

    columns: dict[str, NDArray[Any]] = {}
    unusable = {}
    for name in names:
        if is_index(name):
            continue
        try:
            columns[name] = _column(pyarrow, table.column(name), name in as_text)
        except pyarrow.ArrowException as error:
            kind = str(table.schema.field(name).type)
            reason = "" if "nested" in str(error) or not str(error) else f" ({str(error).splitlines()[0][:80]})"
            unusable[name] = f"is of type {kind[:60]}, which is neither numbers nor text{reason}"
    if not columns:
        raise FileFormatError(f"{path}: column {names[0]!r} {next(iter(unusable.values()), 'is an index')}.")
    return Table(path.name, columns, unusable=unusable)


def _check_size(path: Path, rows: int, columns: int, max_bytes: int | None) -> None:
    limit = _FREE_BYTES + _USUAL_RATIO * path.stat().st_size if max_bytes is None else max_bytes
    if rows * columns * 8 > limit:
        raise FileFormatError(
            f"{path}: its {rows} rows of {columns} columns unpack to more than the limit of {limit} bytes. If you "
            "trust the file, pass a larger max_bytes or save it uncompressed."
        )


def _column(pyarrow: Any, column: Any, as_text: bool) -> NDArray[Any]:
    """Return float64 with NaN, or str with None, for what is missing."""
    types = pyarrow.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_nested(column.type) or types.is_binary(column.type) or types.is_large_binary(column.type):
        raise pyarrow.ArrowInvalid("nested")
    kind = column.type
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    if is_number and not as_text:
        # Whole numbers beyond 2**53 are rounded, as in CSV; labels are checked for it.
        numbers = column.cast(pyarrow.float64(), safe=False).to_numpy()
        return np.array(numbers, dtype=np.float64)
    # True and False become "true" and "false", as CSV writes them; dates become text; a null column has None alone.
    words = column.cast(pyarrow.large_string())
    return np.array(words.to_numpy(), dtype=object)
