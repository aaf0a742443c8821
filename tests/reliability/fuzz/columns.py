"""`read_table` on CSV: columns of numbers and of text, with values missing."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import table
from reliability.fuzz.target import Sample, Target, require

from gpunet.datasets import Table, read_table

_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "?"}
_CELLS = ("NA", "?", "null", "n/a", "None", "007", "x", "a b", "", "nan", "inf", "1e400", "-0", "0")


def make(rng: Random) -> Sample:
    """Return a table as for `load`, or one with more missing values and text in it."""
    data = table.make(rng).data
    if rng.random() < 0.5:
        lines = data.split(b"\n")
        for _ in range(rng.choice((1, 2, 4))):
            at = rng.randrange(len(lines))
            cells = lines[at].split(b",")
            cells[rng.randrange(len(cells))] = rng.choice(_CELLS).encode()
            lines[at] = b",".join(cells)
        data = b"\n".join(lines)
    return Sample({table.NAME: data}, {} if rng.random() < 0.8 else {"as_text": ("a", "0", "b c")})


def read(path: Path, **options: Any) -> Any:
    """Read it; that a header has numbers among its names may be noted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*first row is taken for the columns' names")
        return read_table(path, **options)


def check(given: Sample, result: Any) -> None:
    """Compare each column with the table's cells."""
    require(type(result) is Table, "no table")
    rows = table.rows_of(given.data)
    require(bool(rows), "no rows")
    names = [str(i) for i in range(len(rows[0]))]
    if any(cell.strip() and not table._is_number(cell) for cell in rows[0]):
        names = [cell.strip() or f"column {i + 1}" for i, cell in enumerate(rows.pop(0))]
    require(bool(rows) and all(len(row) == len(names) for row in rows), "rows of different lengths, or none")
    require(len(set(names)) == len(names), "two columns of one name")
    require(result.n_rows == len(rows), f"{result.n_rows} rows")
    left = [name for name in names if name not in result]
    require(left in ([], ["column 1"]), f"the columns {left} are left out")  # an index without a name
    texts = given.options.get("as_text", ())
    for name in result:
        cells = [row[names.index(name)].strip() for row in rows]
        there = [cell for cell in cells if cell.lower() not in _MISSING]
        are_numbers = all(map(table._is_number, there)) and any(map(table._is_number, cells)) and name not in texts
        require((result[name].dtype == np.float64) == are_numbers, f"column {name!r} is {result[name].dtype}")
        if not are_numbers:
            require(result[name].tolist() == [cell or None for cell in cells], f"column {name!r} of text")
            continue
        for got, cell in zip(result[name].tolist(), cells, strict=True):
            want = math.nan if cell.lower() in _MISSING else float(re.sub(r"\s", "", cell))
            require(got == want or (got != got and want != want), f"{got} where {cell!r} stands")


SEEDS = (
    Sample({table.NAME: b"a,kind\n1,cat\n,dog\n2.5,\n"}),
    Sample({table.NAME: b"1,2\r\n3,4\r\n"}),
    Sample({table.NAME: b"a,b\n007,1\n008,NA\n"}, {"as_text": ("a",)}),
)
TARGET = Target("columns", SEEDS, make, read, check)
