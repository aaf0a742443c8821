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
from gpunet.datasets.stream import Room, open_regular
from gpunet.datasets.table import dataset_of
from gpunet.errors import FileFormatError, InputError

#: Bytes of memory for each value: of pyarrow, as a column, among all columns, and as a network takes it.
_HELD = 8 + 8 + 8 + 4


def read(path: Path, target: str | int | None = None, max_bytes: int | None = None) -> Dataset:
    """Return the data set in the Parquet file `path`; see `gpunet.datasets.load`."""
    return dataset_of(read_columns(path, (), max_bytes), path, target)


def read_columns(path: Path, as_text: Collection[str] = (), max_bytes: int | None = None) -> Table:
    """Return all columns of the Parquet file `path`; see `gpunet.datasets.read_table`."""
    columns: dict[str, NDArray[Any]] = {}
    unusable = {}
    with open_regular(path) as file, opened(path, file) as reader:
        import pyarrow

        schema, metadata = reader.schema_arrow, reader.metadata
        names = list(schema.names)
        _check_size(path, metadata, max_bytes)
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise InputError(f"{path}: two columns have the name {twice!r}; give each its own.")
        if metadata.num_rows == 0 or not names:
            raise FileFormatError(f"{path}: holds {len(names)} columns and {metadata.num_rows} rows; expected data.")
        kinds = {name: schema.field(name).type for name in names if not is_index(name)}
        readable = [name for name, kind in kinds.items() if not _is_no_column(pyarrow, kind)]
        texts = [name for name in readable if pyarrow.types.is_string(kinds[name])]
        texts += [name for name in readable if pyarrow.types.is_large_string(kinds[name])]
        # A text that is there many times is a few bytes in the file, and so stays one text here.
        reader = pyarrow.parquet.ParquetFile(
            file, metadata=metadata, read_dictionary=texts, page_checksum_verification=True
        )
        table = reader.read(columns=readable)
        if readable and table.num_rows != metadata.num_rows:
            raise FileFormatError(
                f"{path}: has {table.num_rows} rows where it says {metadata.num_rows}. It is damaged; write it again."
            )
        for name, kind in kinds.items():
            reason = ""
            if name in readable:
                try:
                    columns[name] = _column(pyarrow, table.column(name), name in as_text)
                    continue
                except pyarrow.ArrowException as error:
                    reason = f" ({str(error).splitlines()[0][:80]})" if str(error) else ""
            unusable[name] = f"is of type {str(kind)[:60]}, which is neither numbers nor text{reason}"
    if not columns:
        raise FileFormatError(f"{path}: column {names[0]!r} {next(iter(unusable.values()), 'is an index')}.")
    return Table(path.name, columns, unusable=unusable)


def _check_size(path: Path, metadata: Any, max_bytes: int | None) -> None:
    room = Room(max_bytes, path)
    rows, columns = metadata.num_rows, metadata.num_columns
    # Not column by column: pyarrow ends the process where one of them contradicts itself.
    unpacked = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    limit = room.unpacked(2)
    if unpacked > limit or rows * columns * 8 > room.unpacked(_HELD / 8):
        raise FileFormatError(
            f"{path}: its {rows} rows of {columns} columns unpack to more than the limit of {limit} bytes. If you "
            "trust the file, pass a larger max_bytes (--max-bytes) or save it uncompressed."
        )


def _is_no_column(pyarrow: Any, kind: Any) -> bool:
    """Whether that type is neither numbers nor text."""
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _column(pyarrow: Any, column: Any, as_text: bool) -> NDArray[Any]:
    """Return float64 with NaN, or str with None, for what is missing."""
    types, kind = pyarrow.types, column.type
    if not types.is_dictionary(kind):
        if _is_number(types, kind) and not as_text:
            return _numbers(pyarrow, column)
        if types.is_null(kind) or types.is_string(kind) or types.is_large_string(kind):
            return _words(pyarrow, column)
        column = column.dictionary_encode()  # such as True and dates: each text once in memory
    return np.concatenate([_from_dictionary(pyarrow, chunk, as_text) for chunk in column.chunks])


def _is_number(types: Any, kind: Any) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def _numbers(pyarrow: Any, column: Any) -> NDArray[np.float64]:
    # Whole numbers beyond 2**53 are rounded, as in CSV; labels are checked for it.
    return np.array(column.cast(pyarrow.float64(), safe=False).to_numpy(), dtype=np.float64)


def _words(pyarrow: Any, column: Any) -> NDArray[Any]:
    # True and False become "true" and "false", as CSV writes them; dates become text; a null column has None alone.
    return np.array(column.cast(pyarrow.large_string()).to_numpy(), dtype=object)


def _from_dictionary(pyarrow: Any, chunk: Any, as_text: bool) -> NDArray[Any]:
    """Return the values that the indices of a chunk stand for, each text once in memory."""
    known = pyarrow.chunked_array([chunk.dictionary])
    is_number = _is_number(pyarrow.types, known.type) and not as_text
    values = _numbers(pyarrow, known) if is_number else _words(pyarrow, known)
    missing = np.array([np.nan if is_number else None], dtype=values.dtype)
    index = chunk.indices.cast(pyarrow.int64()).fill_null(-1).to_numpy()
    taken: NDArray[Any] = np.concatenate([values, missing])[index]
    return taken
