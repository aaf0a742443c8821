"""`Table`: a file's rows by columns of numbers and of text, as preprocessing takes them."""

from __future__ import annotations

import csv
import difflib
import io
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import InputError

_LABEL_NAMES = ("label", "target", "y", "class")


class Table(Mapping[str, NDArray[Any]]):
    """Columns of equal length by their names.

    A column is either float64, with NaN where a value is missing, or an object array of str, with None where one is
    missing.

    Attributes
    ----------
    name : str
        What to call the table in messages.
    n_rows : int
    has_header : bool
        Whether the file names its columns; without, they are called "0", "1", ...
    """

    def __init__(
        self,
        name: str,
        columns: Mapping[str, NDArray[Any]],
        *,
        has_header: bool = True,
        unusable: Mapping[str, str] | None = None,
        where: Callable[[int], str] = lambda row: f"row {row + 1}",
    ) -> None:
        self.name = name
        self.has_header = has_header
        self.n_rows = len(next(iter(columns.values()), ()))
        self._columns = dict(columns)
        self._unusable = dict(unusable or {})
        self._where = where

    def __getitem__(self, column: str) -> NDArray[Any]:
        if column in self._columns:
            return self._columns[column]
        if column in self._unusable:
            raise InputError(f"{self.name}: column {column!r} {self._unusable[column]}; leave it out.")
        raise KeyError(column)

    def __contains__(self, column: object) -> bool:
        return column in self._columns or column in self._unusable

    def __iter__(self) -> Iterator[str]:
        yield from self._columns
        yield from self._unusable

    def __len__(self) -> int:
        return len(self._columns) + len(self._unusable)

    def __repr__(self) -> str:
        return f"<Table {self.name!r}: {self.n_rows} rows, columns {some(self)}>"

    def where(self, row: int) -> str:
        """Say where the row, numbered from 0, is in the file: "line 7" or "row 6"."""
        return self._where(row)


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each value of a column whether it is missing."""
    if values.dtype == object:
        return np.array([value is None for value in values], dtype=np.bool_)
    lacking: NDArray[np.bool_] = np.isnan(values)
    return lacking


def some(names: Collection[str]) -> str:
    """Spell some of the names for a message."""
    shown = ", ".join(repr(name[:40]) for name in list(names)[:12])
    return shown + (f", ... ({len(names)} in all)" if len(names) > 12 else "")


def near(name: str, names: Collection[str]) -> str:
    """Return a hint at the nearest of the names, or nothing."""
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    if not found:
        return ""
    name = by_lower[found[0]]
    return f" Did you mean {name!r}{', in double quotes for its comma' if ',' in name else ''}?"


def names_in(text: str) -> list[str]:
    """Return the column names in an option's text: a line of CSV, so that "a, b" in quotes is one.

    Raises
    ------
    InputError
        If its quotes are not those of CSV.
    """
    try:
        cells = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:
        raise InputError(
            f"must be columns such as 'a,b', a name with a comma in double quotes: 'a,\"b, c\"', got {text!r:.60}."
        ) from None
    return [cell.strip() for cell in cells if cell.strip()]


def as_option(name: str) -> str:
    """Return a column's name as it is written on a command line, where `names_in` reads it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([name])
    return shlex.quote(line.getvalue())


def find_target(path: str, names: list[str] | None, width: int, target: str | int | None) -> int | None:
    """Return the column that `target` names or numbers; without it, one that is called as labels usually are.

    Raises
    ------
    InputError
        If there is no such column, or more than one.
    """
    header = names or []
    if target is None:
        found = [i for i, name in enumerate(header) if name.lower() in _LABEL_NAMES]
        if len(found) > 1:
            raise InputError(
                f"{path}: the columns {some([header[i] for i in found])} could all hold the labels; "
                "name one with target=."
            )
        return found[0] if found else None
    if isinstance(target, str) and header.count(target.strip()) > 1:
        raise InputError(f"{path}: {target!r} names more than one column; give its number from 0.")
    if isinstance(target, str) and target.strip() in header:
        return header.index(target.strip())
    index = column_number(target, width)
    if index is not None:
        return index
    known = f"Its columns: {some(header)}" if header else "It has no header"
    raise InputError(
        f"{path}: no column {target!r}.{near(str(target), header)} {known}; numbers go from 0 to {width - 1} "
        f"or from -{width} to -1."
    )


def column_number(target: str | int | None, width: int) -> int | None:
    """Return the column that `target` numbers, or None if it is no number of a column."""
    if target is None:
        return None
    try:
        index = int(target)
    except ValueError:
        return None
    return index % width if -width <= index < width else None
