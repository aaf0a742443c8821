"""Comma-separated tables: numbers with at most one column of labels, or columns of numbers and text.

NumPy's C parser reads the numbers. Only where it fails, or there is text, does Python's csv go through the rows,
to find the fault's line and column or to collect the text.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.arrays import as_inputs
from gpunet.datasets.columns import Table, column_number, find_target, is_missing, some
from gpunet.datasets.dataset import Dataset, assemble
from gpunet.datasets.stream import InPlace, Room, read_file
from gpunet.errors import FileFormatError, InputError

_EXACT_WHOLE = 2**53  # beyond this float64 can't tell neighbouring whole numbers apart
#: Among numbers these say that one is missing, as spreadsheets and other programs write it.
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?"}
#: Cells that are text at a time, and different texts that are each in memory once.
_CHUNK_CELLS, _MOST_SHARED = 2**17, 2**18
#: Labels within so many numbers are counted, others sorted.
_CLOSE = 2**20
#: Bytes of memory for each byte of a table, of one-digit numbers at worst; and for a class that has a name.
_HELD, _HELD_BY_CLASS = 10, 300


@dataclass(frozen=True)
class _Csv:
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

    def where(self, row: int) -> str:
        """Say in which line the row, numbered from 0, is."""
        return f"line {next(itertools.islice(self.rows(), row, None))[0]}"

    def column_name(self, column: int) -> str:
        """Spell a column for messages."""
        name = f" ({self.header[column][:40]!r})" if self.header is not None else ""
        return f"column {column + 1}{name}"


def read(path: Path, target: str | int | None = None, max_bytes: int | None = None) -> Dataset:
    """Return the data set in the CSV file `path`; see `gpunet.datasets.load`."""
    room = Room(max_bytes, path)
    raw = _raw(path, room)
    with _readable(path, raw):
        table = _open(path, raw, target)
        column = find_target(str(path), table.header, table.width, target)
        if column is not None and table.width == 1:
            raise InputError(f"{path}: its one column is the target; expected feature columns beside it.")
        features, labels = _split(table, column, room)
        X = as_inputs(features, str(path))
        header = table.header
        names = None if header is None else tuple(n for i, n in enumerate(header) if i != column)
        if labels is None or column is None:
            return assemble(path.name, X, None, features=names)
        y, classes = labels
        name = table.header[column] if table.header is not None else str(column)
        return assemble(path.name, X, y, classes=classes, target=name, features=names)


def dataset_of(table: Table, path: Path, target: str | int | None) -> Dataset:
    """Return a table of numbers, and of labels that are numbers or text, as a data set.

    Raises
    ------
    InputError
        If there is no such target, or a value is missing or not what it must be.
    """
    names = list(table)
    column = find_target(str(path), names, len(names), target)
    features = [name for i, name in enumerate(names) if i != column]
    if not features:
        raise InputError(f"{path}: its one column is the target; expected feature columns beside it.")
    for name in names:
        values = table[name]
        lacking = is_missing(values)
        if lacking.any():
            where = table.where(int(lacking.argmax()))
            raise InputError(f"{path}, {where}, column {name!r}: the value is missing; drop the row or fill it in.")
        if values.dtype == object and name in features:
            raise InputError(
                f"{path}: column {name!r} holds text such as {values[0]!r:.40}, not numbers. gpunet.preprocessing, "
                "and `gpunet train`, take such columns too."
            )
    X = as_inputs(np.column_stack([table[name] for name in features]), str(path))
    if column is None:
        return assemble(path.name, X, None, features=tuple(features))
    labels = table[names[column]]
    if labels.dtype == object:
        y, classes = _text_labels(labels.tolist())
    else:
        y, classes = _whole_labels(labels, lambda row: f"{path}, {table.where(row)}, column {names[column]!r}")
    return assemble(path.name, X, y, classes=classes, target=names[column], features=tuple(features))


def read_columns(
    path: Path, target: str | int | None = None, as_text: Collection[str] = (), max_bytes: int | None = None
) -> Table:
    """Return all columns of the CSV file `path`; see `gpunet.datasets.read_table`."""
    raw = _raw(path, Room(max_bytes, path))
    with _readable(path, raw):
        table = _open(path, raw, target)
        if table.width == 1 and any(c in "".join(table.header or ()) for c in ";\t"):
            raise FileFormatError(
                f"{path}: one column, {(table.header or [''])[0]!r:.40}. Separate cells with commas."
            )
        header, names = table.header, _names(table)
        kept_as_text = {i for i, name in enumerate(names) if name in as_text}
        columns = dict(zip(names, _columns(table, kept_as_text), strict=True))
        numbers = [name for name in header or () if _is_number(name)]
        if numbers:
            warnings.warn(
                f"{path.name}: its first row is taken for the columns' names, though {numbers[0]!r} is a number. "
                "If it holds data, put a row of names above.",
                stacklevel=4,
            )
        if header is not None and not header[0] and _counts_rows(columns[names[0]]):
            del columns[names[0]]  # the index that pandas writes without a name: no property of the examples

        return Table(path.name, columns, has_header=header is not None, where=table.where)


def _raw(path: Path, room: Room) -> bytearray:
    raw = read_file(path, room.unpacked(_HELD))
    room.take(_HELD * len(raw), str(path))
    return raw


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
    return io.TextIOWrapper(InPlace(raw), encoding="utf-8-sig", newline=None)


def _open(path: Path, raw: bytes | bytearray, target: str | int | None) -> _Csv:
    """Look at the first rows for the table's width and its header."""
    _check_quotes(path, raw)
    reader = csv.reader(_decoded(raw))
    first = next((cells for cells in reader if cells), None)
    if first is None:
        raise FileFormatError(f"{path}: the file is empty; expected rows of comma-separated numbers.")
    header_lines = reader.line_num
    text = [i for i, cell in enumerate(first) if cell.strip() and not _is_number(cell)]
    # Text only where `target` points is a label without a header above, if it is a label elsewhere too.
    only_label = text == [column_number(target, len(first))] and _occurs(reader, text[0], first[text[0]])
    if not text or only_label:
        return _Csv(path, raw, len(first), None, 0)
    table = _Csv(path, raw, len(first), [cell.strip() for cell in first], header_lines)
    if next(table.rows(), None) is None:
        raise FileFormatError(f"{path}: holds a header ({some(first)}) and no rows; expected data below it.")
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
    # float() also takes 1_000 and digits of other scripts; CSV parsers do not. NumPy's drops all space around it.
    cell = cell.strip()
    if "_" in cell or not cell.isascii():
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


Labels = tuple[NDArray[np.int64], "tuple[str, ...] | None"]


def _split(table: _Csv, column: int | None, room: Room) -> tuple[NDArray[np.float64], Labels | None]:
    """Return the features (N, n_in) float64 and the labels."""
    features = [i for i in range(table.width) if i != column]
    try:
        numbers = _numbers(table)
    except ValueError:
        numbers = None
    if numbers is not None and numbers.shape[1] == table.width and np.isfinite(numbers).all():
        if column is None:
            return numbers, None

        def where(row: int) -> str:
            return f"{table.path}, {table.where(row)}, {table.column_name(column)}"

        labels = _whole_labels(numbers[:, column], where)
        return _without(numbers, column), labels
    cells = _scan(table, features, column, room)
    try:
        values = _numbers(table, features)
    except ValueError as exc:
        raise FileFormatError(f"{table.path}: {exc} Expected comma-separated numbers.") from exc
    return values, None if column is None else _text_labels(cells)


def _without(numbers: NDArray[np.float64], column: int) -> NDArray[np.float64]:
    """Return the other columns, in the same memory."""
    if column == 0:
        return numbers[:, 1:]
    step = max(1, _CHUNK_CELLS // numbers.shape[1])
    for start in range(0, len(numbers), step):  # a piece at a time: what overlaps is copied first
        rows = numbers[start : start + step]
        rows[:, column:-1] = rows[:, column + 1 :]
    return numbers[:, :-1]


def _numbers(table: _Csv, columns: list[int] | None = None) -> NDArray[np.float64]:
    return np.loadtxt(
        table.lines(), delimiter=",", comments=None, quotechar='"', usecols=columns, ndmin=2, dtype=np.float64
    )


def _scan(table: _Csv, features: list[int], column: int | None, room: Room) -> list[str]:
    """Raise for the first row that is no row of finite numbers; return the target's cells."""
    labels = []
    shared: dict[str, str] = {}
    for line, cells in table.rows():
        _check_width(table, line, cells)
        if column is not None:
            label = cells.pop(column).strip()
            if not label or (_is_number(label) and not math.isfinite(float(label))):
                raise InputError(
                    f"{table.path}, line {line}, {table.column_name(column)}: the label is "
                    f"{label[:40] or 'missing'}; drop the row or fill it in."
                )
            if label not in shared:
                room.take(_HELD_BY_CLASS, f"{table.path}, line {line}: the class {label[:40]!r}")
            labels.append(shared.setdefault(label, label))
        if not _all_finite(cells):
            _raise_for_cell(table, line, features, cells)
    return labels


def _all_finite(cells: list[str]) -> bool:
    cells = [cell.strip() for cell in cells]
    joined = "".join(cells)
    try:
        return joined.isascii() and "_" not in joined and math.isfinite(sum(map(float, cells)))
    except ValueError:
        return False


def _raise_for_cell(table: _Csv, line: int, features: list[int], cells: list[str]) -> None:
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
        if not math.isfinite(float(cell.strip())):
            raise InputError(f"{where}: the value is {cell.strip()[:40]}; inputs must be finite.")


def _whole_labels(values: NDArray[np.float64], where: Callable[[int], str]) -> Labels:
    bad = (np.floor(values) != values) | (np.abs(values) > _EXACT_WHOLE)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{where(row)}: the label is {values[row]:.12g}; labels must be whole numbers within 2**53, or text. To "
            "learn numbers (regression), take gpunet.preprocessing, or pass the columns to Network.fit yourself."
        )
    known, y = _numbered(values)
    is_index = np.array_equal(known, np.arange(len(known)))
    return y, None if is_index else tuple(str(int(value)) for value in known)


def _numbered(values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the different whole numbers, ascending, and of each value its place among them."""
    low = int(values.min())
    if values.max() - low >= _CLOSE:
        known, places = np.unique(values, return_inverse=True)
        return known, places.astype(np.int64)
    y = values.astype(np.int64)  # in a third of the memory, and faster
    y -= low
    there = np.bincount(y) > 0
    return np.flatnonzero(there) + low, y if there.all() else (np.cumsum(there) - 1)[y]


def _text_labels(cells: list[str]) -> Labels:
    classes = tuple(sorted(set(cells)))
    index = {name: i for i, name in enumerate(classes)}
    return np.fromiter(map(index.__getitem__, cells), np.int64, len(cells)), classes


# -- Columns of any kind ----------------------------------------------------------------------------------------


def _names(table: _Csv) -> list[str]:
    """Return a name for each column: its header's, or its number."""
    if table.header is None:
        return [str(i) for i in range(table.width)]
    names = [name or f"column {i + 1}" for i, name in enumerate(table.header)]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        first, second = [i + 1 for i, name in enumerate(names) if name == twice][:2]
        raise InputError(
            f"{table.path}: columns {first} and {second} have the same name {twice!r}; give each its own in the "
            "header."
        )
    return names


def _columns(table: _Csv, as_text: set[int]) -> list[NDArray[Any]]:
    text = as_text | _kinds(table, itertools.islice(_chunks(table), 1))[0]  # a guess that saves most the long way
    numbers = _fast_numbers(table, text)
    if numbers is not None and not text:
        return [numbers[i] for i in range(table.width)]
    if numbers is None:  # text further down, missing values, or a fault
        has_text, has_number = _kinds(table, _chunks(table))
        text = as_text | has_text | (set(range(table.width)) - has_number)
    left = [i for i in range(table.width) if numbers is None or i in text]
    spelled: dict[str, str] = {}
    parts: dict[int, list[NDArray[Any]]] = {i: [] for i in left}
    for rows in _chunks(table):
        for i in left:
            cells = [row[i] for row in rows]
            if i in text:
                words = [_shared(spelled, cell.strip()) for cell in cells]
                parts[i].append(np.array(words, dtype=object))
            else:
                parts[i].append(np.array([_number(cell) for cell in cells]))
    columns = {i: np.concatenate(chunks) for i, chunks in parts.items()} | (numbers or {})
    return [columns[i] for i in range(table.width)]


def _shared(texts: dict[str, str], text: str) -> str | None:
    """Return a text as it is in memory already, unless there are so many that it would not pay."""
    return (texts.get(text, text) if len(texts) >= _MOST_SHARED else texts.setdefault(text, text)) or None


def _fast_numbers(table: _Csv, text: set[int]) -> dict[int, NDArray[Any]] | None:
    """Return the columns that are not text by NumPy's parser, or None where it does not take them."""
    columns = [i for i in range(table.width) if i not in text]
    if not columns:
        return {}
    try:
        numbers = _numbers(table, columns if text else None)  # of all columns, it looks at the rows' width too
    except ValueError:
        return None
    return {i: np.ascontiguousarray(numbers[:, k]) for k, i in enumerate(columns)}


def _kinds(table: _Csv, chunks: Iterable[list[list[str]]]) -> tuple[set[int], set[int]]:
    """Return the columns that have a cell which is neither a number nor missing, and those that have a number."""
    text: set[int] = set()
    has_number: set[int] = set()
    for rows in chunks:
        for i in range(table.width):
            if i in text:
                continue
            cells = [row[i] for row in rows]
            if _all_finite(cells):
                has_number.add(i)
            elif any(cell.strip().lower() not in _MISSING and not _is_number(cell) for cell in cells):
                text.add(i)
            elif any(_is_number(cell) for cell in cells):
                has_number.add(i)
    return text, has_number


def _chunks(table: _Csv) -> Iterator[list[list[str]]]:
    """Yield the rows' cells, many rows at a time.

    Raises
    ------
    FileFormatError
        If a row has another number of cells than the first.
    """
    chunk = []
    for line, cells in table.rows():
        _check_width(table, line, cells)
        chunk.append(cells)
        if len(chunk) * table.width >= _CHUNK_CELLS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _check_width(table: _Csv, line: int, cells: list[str]) -> None:
    if len(cells) != table.width:
        start = "the header" if table.header is not None else "the first row"
        raise FileFormatError(
            f"{table.path}, line {line}: {len(cells)} cells, but {start} has {table.width}; every row "
            "needs the same number of commas."
        )


def _number(cell: str) -> float:
    return math.nan if cell.strip().lower() in _MISSING else float(cell.strip())


def _counts_rows(column: NDArray[Any]) -> bool:
    return column.dtype != object and any(np.array_equal(column, np.arange(len(column)) + start) for start in (0, 1))
