"""The CSV reader: tables of awkward cells, quoted and ended in every way."""

from __future__ import annotations

import math
import re
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import oracle
from reliability.fuzz.mutate import damaged
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets import load

NAME = "a.csv"
_NUMBERS = (
    "0", "1", "2", "-3", "4.5", "+.5", "7.", "1e2", "-1E-3", " 6 ", "\t7", "007", "1e38", "1e-320", "16777217",
    "9007199254740993", "0.1", "123456789.123456789", "-0", "0.30000000000000004", "3.4028235677973366e+38",
)  # fmt: skip
_ODD = (
    "", " ", "nan", "NaN", "-nan", "inf", "-Infinity", "1e39", "1e400", "1_000", "0x10", "1,5", "1d5", "1e", "e5",
    ".", "+", "--1", "1 2", "١", "½", "１", "true", "None", "a", "cat", "dog", "#1", "'1'", "1'", 'a"b', "a\nb", "\0",
    "\x1a", "1\0", "\ufeff1", "é", "\u2028", "1\u00a0", "1+0j", "(1)", "1L", "9" * 400, "1" * 5000,
    "9007199254740992", "-9007199254740994", "1e15", "x" * 300, "\x1b[31m", "label", "y",
)  # fmt: skip
_NAMES = ("a", "b c", "label", "Target", "y", "class", "1", "", "x" * 100, "a,b", "é", "\x1b[2J", 'q"q', "n\nl", "a")
_TOKENS = (
    b'"', b'""', b",", b",,", b"\n", b"\r\n", b"\r", b"\n\n", b"nan", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\0", b"#",
    b"'", b"1e999", b";", b"\t", b" ", b'",', b',"', b'"\n', b"_", b"e",
)  # fmt: skip


def _cell(rng: Random, text: str) -> str:
    if rng.random() < 0.15 or (any(c in text for c in ',"\n\r') and rng.random() < 0.9):
        quoted = '"' + text.replace('"', '""' if rng.random() < 0.9 else '"') + '"'
        return quoted + rng.choice(("",) * 12 + (" ", "1", '"'))
    return text


def make(rng: Random) -> Sample:
    """Return a table, which may have a header, labels, odd cells and uneven rows, and a target to ask for."""
    width = rng.choice((1, 2, 2, 3, 3, 4))
    rows = []
    if rng.random() < 0.5:
        rows.append([rng.choice(_NAMES) for _ in range(width)])
    label = rng.randrange(-1, width)
    words = rng.choice((("0", "1", "2"), ("3", "1", "-2"), ("cat", "dog"), ("a", "1"), ("1", "1.0", "2")))
    for _ in range(rng.choice((0, 1, 2, 3, 5))):
        rows.append([rng.choice(words if i == label else _NUMBERS) for i in range(width)])
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):  # a few faults
        if rows:
            row = rng.choice(rows)
            how = rng.randrange(5)
            if how < 3 and row:
                row[rng.randrange(len(row))] = rng.choice(_ODD)
            elif how == 3:
                row.append(rng.choice(_NUMBERS))
            elif row:
                row.pop()
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    text = end.join(",".join(_cell(rng, cell) for cell in row) for row in rows)
    if rng.random() < 0.7:
        text += end
    if rng.random() < 0.1:
        text = text.replace(end, end * 2, 1)
    data = text.encode(rng.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "latin-1")), "replace")
    if rng.random() < 0.3:
        data = damaged(rng, data, tokens=_TOKENS)
    targets = (None, None, None, 0, -1, width - 1, width, "0", "-1", "label", "y", "a", " label ", "zzz\n", "1.5")
    target = rng.choice(targets)
    return Sample({NAME: data}, {} if target is None else {"target": target})


# -- A second reading --------------------------------------------------------------------------------------------

_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")
_WORD = re.compile(r"\s*[+-]?(?:nan|inf|infinity)\s*", re.IGNORECASE)


def rows_of(data: bytes) -> list[list[str]]:
    """Return the cells of a table after RFC 4180, raising `WrongError` for what it does not allow."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise WrongError(f"not UTF-8: {error}") from error
    rows: list[list[str]] = []
    row: list[str] = []
    at, begin = 0, 0
    while at < len(text):
        if not row:
            begin = at
        if text[at] == '"':
            end = at + 1
            while True:
                end = text.find('"', end)
                require(end >= 0, "a quote is never closed")
                if text[end + 1 : end + 2] != '"':
                    break
                end += 2
            cell = text[at + 1 : end].replace('""', '"')
            at = end + 1
            require(at == len(text) or text[at] in ",\n", f"{text[at : at + 5]!r} follows a closed quote")
        else:
            found = re.compile(r"[^,\n]*").match(text, at)
            assert found is not None
            cell, at = found[0], found.end()
        row.append(cell)
        if at == len(text):
            break
        sign, at = text[at], at + 1
        if sign == ",":
            if at == len(text):
                row.append("")
            continue
        if at > begin + 1:  # a blank line is no row, "" is one
            rows.append(row)
        row = []
    return [*rows, row] if row else rows


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell) or _WORD.fullmatch(cell))


def _column(target: Any, names: list[str] | None, width: int) -> int | None:
    if target is None:
        found = [i for i, name in enumerate(names or []) if name.lower() in ("label", "target", "y", "class")]
        require(len(found) < 2, "two columns could hold the labels")
        return found[0] if found else None
    if isinstance(target, str) and names is not None and target.strip() in names:
        require(names.count(target.strip()) == 1, "two columns have the target's name")
        return names.index(target.strip())
    require(re.fullmatch(r"\s*[-+]?[0-9]+\s*", str(target)) is not None, f"no column {target!r}")
    require(-width <= int(target) < width, f"no column {target!r}")
    return int(target) % width


def check(given: Sample, result: Any) -> None:
    """Compare a data set with a reading of the table cell by cell."""
    oracle.check_dataset(result)
    rows = rows_of(given.data)
    require(bool(rows), "no rows")
    width, target = len(rows[0]), given.options.get("target")
    text = [i for i, cell in enumerate(rows[0]) if cell.strip() and not _is_number(cell)]
    names: list[str] | None = None
    if text:
        number = str(target).strip()
        at = int(number) if target is not None and re.fullmatch(r"[-+]?[0-9]+", number) else None
        alone = at is not None and -width <= at < width and text == [at % width]
        again = alone and any(len(r) > text[0] and r[text[0]].strip() == rows[0][text[0]].strip() for r in rows[1:])
        if not again:
            names = [cell.strip() for cell in rows.pop(0)]
    require(bool(rows), "a header and no rows")
    require(all(len(row) == width for row in rows), "rows of different lengths")
    column = _column(target, names, width)
    features = [i for i in range(width) if i != column]
    for row in rows:
        for i in features:
            require(_NUMBER.fullmatch(row[i]) is not None, f"{row[i][:40]!r} as a number")
    values = [float(row[i].strip()) for row in rows for i in features]
    oracle.check_inputs(result.X, values, len(rows), np.dtype("f4"))
    require(result.features == (None if names is None else tuple(names[i] for i in features)), "the columns' names")
    if column is None:
        require(result.y is None and result.classes is None, "labels from nowhere")
        return
    require(result.target == (str(column) if names is None else names[column]), "the target's name")
    _check_labels(result, [row[column].strip() for row in rows])


def _check_labels(result: Any, cells: list[str]) -> None:
    require(all(cells), "a label is missing")
    require(not any(_WORD.fullmatch(cell) for cell in cells), "a label is not finite")
    if all(_NUMBER.fullmatch(cell) for cell in cells):
        numbers = [float(cell) for cell in cells]
        for n in numbers:
            require(math.isfinite(n) and n == int(n) and abs(n) <= 2**53, f"the label {n}")
        known = sorted({int(n) for n in numbers})
        index = known == list(range(len(known)))
        require(result.classes == (None if index else tuple(map(str, known))), f"the classes {result.classes}")
        require(result.y.tolist() == [known.index(int(n)) for n in numbers], "the labels")
    else:
        require(result.classes == tuple(sorted(set(cells))), f"the classes {result.classes}")
        require([result.classes[i] for i in result.y] == cells, "the labels")


SEEDS = (
    Sample({NAME: b'a,"b c",label\n1,2.5,cat\n-3e4,"4",dog\n5,6,"cat"\n'}),
    Sample({NAME: b"1,2,0\r\n3,4,1\r\n"}, {"target": -1}),
    Sample({NAME: b"\xef\xbb\xbfx,y\n1,2\n\n3,4"}),
    Sample({NAME: b"cat,1\ndog,2\ncat,3\n"}, {"target": 0}),
)
TARGET = Target("csv", SEEDS, make, load, check)
