"""Comma-separated tables: numbers, an optional header, at most one column of labels.

NumPy's C parser reads the numbers. Only where it fails, or the labels are text, does Python's csv
go through the rows, to find the fault's line and column or to collect the text.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.arrays import as_inputs
from gpunet.datasets.dataset import Dataset, assemble
from gpunet.datasets.stream import read_file
from gpunet.errors import FileFormatError, InputError

_LABEL_NAMES = ("label", "target", "y", "class")
_EXACT_WHOLE = 2**53  # beyond this float64 can't tell neighbouring whole numbers apart


@dataclass(frozen=True)
class _Table:
    """A file's bytes and what its first rows say about them."""

    path: Path
    raw: bytes | bytearray
    width: int
    header: list[str] | None
    header_lines: int  # lines of the file up to the header's end, 0 without a header

    def lines(self) -> io.TextIOWrapper:
        """Return the lines after the header."""
        lines = _decoded(self.raw)
        for _ in range(self.header_lines):
            next(lines)
        return lines

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line in the file from 1, cells) of each row after the header; blank lines are none."""
        reader = csv.reader(self.lines())
        for cells in reader:
            if cells:
                yield self.header_lines + reader.line_num, cells

    def column_name(self, column: int) -> str:
        """Spell a column for messages."""
        name = f" ({self.header[column][:40]!r})" if self.header is not None else ""
        return f"column {column + 1}{name}"


def read(path: Path, target: str | int | None = None, max_bytes: int | None = None) -> Dataset:
    """Return the data set in the CSV file `path`; see `gpunet.datasets.load`."""
    raw = read_file(path, max_bytes)
    with _readable(path, raw):
        table = _open(path, raw, target)
        column = _target_column(table, target)
        if column is not None and table.width == 1:
            raise InputError(f"{path}: its one column is the target; expected feature columns beside it.")
        features, labels = _split(table, column)
        X = as_inputs(features, str(path))
        header = table.header
        names = None if header is None else tuple(n for i, n in enumerate(header) if i != column)
        if labels is None or column is None:
            return assemble(path.name, X, None, features=names)
        y, classes = labels
        name = table.header[column] if table.header is not None else str(column)
        return assemble(path.name, X, y, classes=classes, target=name, features=names)


@contextmanager
def _readable(path: Path, raw: bytes | bytearray) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as exc:
        raise FileFormatError(
            f"{path}, line {_first_bad_line(raw)}: not UTF-8 text ({exc.reason}). Save it as UTF-8 CSV."
        ) from exc
    except csv.Error as exc:
        raise FileFormatError(f"{path}: not a CSV table ({exc}). Save it as comma-separated text.") from exc


def _first_bad_line(raw: bytes | bytearray) -> int:
    # The error itself counts from the start of the piece that was being decoded.
    return raw.decode("utf-8", "replace").split("\ufffd", 1)[0].count("\n") + 1


def _decoded(raw: bytes | bytearray) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig", newline=None)


def _open(path: Path, raw: bytes | bytearray, target: str | int | None) -> _Table:
    """Look at the first rows for the table's width and its header."""
    _check_quotes(path, raw)
    reader = csv.reader(_decoded(raw))
    first = next((cells for cells in reader if cells), None)
    if first is None:
        raise FileFormatError(f"{path}: the file is empty; expected rows of comma-separated numbers.")
    header_lines = reader.line_num
    text = [i for i, cell in enumerate(first) if cell.strip() and not _is_number(cell)]
    # Text only where `target` points is a label without a header above, if it is a label elsewhere too.
    only_label = text == [_index(target, len(first))] and _occurs(reader, text[0], first[text[0]])
    if not text or only_label:
        return _Table(path, raw, len(first), None, 0)
    table = _Table(path, raw, len(first), [cell.strip() for cell in first], header_lines)
    if next(table.rows(), None) is None:
        raise FileFormatError(f"{path}: holds a header ({_some(first)}) and no rows; expected data below it.")
    return table


def _check_quotes(path: Path, raw: bytes | bytearray) -> None:
    """Refuse a quoted cell that never ends, as in a file cut short, or goes on behind its quote; NumPy takes both."""
    if b'"' not in raw:
        return
    reader = csv.reader(_decoded(raw), strict=True)
    try:
        for _ in reader:
            pass
    except csv.Error as exc:
        raise FileFormatError(
            f"{path}, line {max(reader.line_num, 1)}: a quoted cell is damaged or never ends ({exc}). Write a quote "
            "within quotes twice."
        ) from exc


def _occurs(rows: Iterable[list[str]], column: int, text: str) -> bool:
    return any(len(cells) > column and cells[column].strip() == text.strip() for cells in rows)


def _is_number(cell: str) -> bool:
    # float() also takes 1_000 and digits of other scripts; CSV parsers do not.
    if "_" in cell or not cell.isascii():
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _index(target: str | int | None, width: int) -> int | None:
    """Return the column that `target` numbers, or None if it is no number of a column."""
    if target is None:
        return None
    try:
        index = int(target)
    except ValueError:
        return None
    return index % width if -width <= index < width else None


def _target_column(table: _Table, target: str | int | None) -> int | None:
    names = table.header or []
    if target is None:
        found = [i for i, name in enumerate(names) if name.lower() in _LABEL_NAMES]
        if len(found) > 1:
            raise InputError(
                f"{table.path}: the columns {_some([names[i] for i in found])} could all hold the labels; "
                "name one with target=."
            )
        return found[0] if found else None
    if isinstance(target, str) and names.count(target.strip()) > 1:
        raise InputError(f"{table.path}: {target!r} names more than one column; give its number from 0.")
    if isinstance(target, str) and target.strip() in names:
        return names.index(target.strip())
    index = _index(target, table.width)
    if index is not None:
        return index
    near = difflib.get_close_matches(str(target), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    known = f"Its columns: {_some(names)}" if names else "It has no header"
    raise InputError(
        f"{table.path}: no column {target!r}.{hint} {known}; numbers go from 0 to {table.width - 1} "
        f"or from -{table.width} to -1."
    )


Labels = tuple[NDArray[np.int64], "tuple[str, ...] | None"]


def _split(table: _Table, column: int | None) -> tuple[NDArray[np.float64], Labels | None]:
    """Return the features (N, n_in) float64 and the labels."""
    features = [i for i in range(table.width) if i != column]
    try:
        numbers = _numbers(table)
    except ValueError:
        numbers = None
    if numbers is not None and numbers.shape[1] == table.width and np.isfinite(numbers).all():
        if column is None:
            return numbers, None
        return numbers[:, features], _whole_labels(table, column, numbers[:, column])
    cells = _scan(table, features, column)
    try:
        values = _numbers(table, features)
    except ValueError as exc:
        raise FileFormatError(f"{table.path}: {exc} Expected comma-separated numbers.") from exc
    return values, None if column is None else _text_labels(cells)


def _numbers(table: _Table, columns: list[int] | None = None) -> NDArray[np.float64]:
    return np.loadtxt(
        table.lines(), delimiter=",", comments=None, quotechar='"', usecols=columns, ndmin=2, dtype=np.float64
    )


def _scan(table: _Table, features: list[int], column: int | None) -> list[str]:
    """Raise for the first row that is no row of finite numbers; return the target's cells."""
    labels = []
    for line, cells in table.rows():
        if len(cells) != table.width:
            start = "the header" if table.header is not None else "the first row"
            raise FileFormatError(
                f"{table.path}, line {line}: {len(cells)} cells, but {start} has {table.width}; every row "
                "needs the same number of commas."
            )
        if column is not None:
            label = cells.pop(column).strip()
            if not label or (_is_number(label) and not math.isfinite(float(label))):
                raise InputError(
                    f"{table.path}, line {line}, {table.column_name(column)}: the label is "
                    f"{label[:40] or 'missing'}; drop the row or fill it in."
                )
            labels.append(label)
        if not _all_finite(cells):
            _raise_for_cell(table, line, features, cells)
    return labels


def _all_finite(cells: list[str]) -> bool:
    joined = "".join(cells)
    try:
        return joined.isascii() and "_" not in joined and math.isfinite(sum(map(float, cells)))
    except ValueError:
        return False


def _raise_for_cell(table: _Table, line: int, features: list[int], cells: list[str]) -> None:
    for column, cell in zip(features, cells, strict=True):
        where = f"{table.path}, line {line}, {table.column_name(column)}"
        if not cell.strip():
            raise InputError(f"{where}: the value is missing; drop the row or fill it in.")
        if not _is_number(cell):
            hint = (
                "Separate cells with commas."
                if table.width == 1 and any(c in cell for c in ";\t")
                else f"If the column holds the labels, pass target={column}; otherwise make it numbers."
            )
            raise FileFormatError(f"{where}: {cell[:40]!r} is not a number. {hint}")
        if not math.isfinite(float(cell)):
            raise InputError(f"{where}: the value is {cell.strip()[:40]}; inputs must be finite.")


def _whole_labels(table: _Table, column: int, values: NDArray[np.float64]) -> Labels:
    bad = (np.floor(values) != values) | (np.abs(values) > _EXACT_WHOLE)
    if bad.any():
        row = int(bad.argmax())
        line = next(line for i, (line, _) in enumerate(table.rows()) if i == row)
        raise InputError(
            f"{table.path}, line {line}, {table.column_name(column)}: the label is {values[row]:.12g}; "
            "labels must be whole numbers within 2**53, or text. To learn fractional targets (regression), "
            "read the columns yourself and pass them to Network.fit."
        )
    known, y = np.unique(values, return_inverse=True)
    is_index = np.array_equal(known, np.arange(len(known)))
    return y.astype(np.int64), None if is_index else tuple(str(int(value)) for value in known)


def _text_labels(cells: list[str]) -> Labels:
    classes = tuple(sorted(set(cells)))
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[cell] for cell in cells], dtype=np.int64), classes


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
