"""Opening Parquet files by pyarrow, which is imported when a file comes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from gpunet.errors import FileFormatError, GpunetError, one_line
from gpunet.optional import library

#: How pandas names the index of its rows.
_INDEX = re.compile(r"__index_level_\d+__")


def is_index(column: str) -> bool:
    """Whether that column is the index that pandas writes beside a table: no property of the examples."""
    return _INDEX.fullmatch(column) is not None


@contextmanager
def opened(path: Path, file: BinaryIO, metadata: Any = None) -> Iterator[Any]:
    """Give the `pyarrow.parquet.ParquetFile` of an open file; `metadata`, where they are known, are not read again.

    Raises
    ------
    MissingPackageError
        If pyarrow is not installed.
    FileFormatError
        If the file, now or within the context, turns out to be damaged.
    """
    pyarrow, parquet = (library(m, f"reading {path}", "gpunet[parquet]") for m in ("pyarrow", "pyarrow.parquet"))
    try:
        yield parquet.ParquetFile(file, metadata=metadata, page_checksum_verification=True)
    except GpunetError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> FileFormatError:
    """Return what is to be raised where pyarrow can not read a file."""
    reason = one_line(re.sub(r"\b\w+Exception: ", "", str(error))).rstrip(".")
    return FileFormatError(
        f"{path}: not a whole Parquet file ({reason}). It is damaged or something else; write it again."
    )
