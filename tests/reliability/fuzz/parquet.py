"""Parquet, by `load`, `read_table` and `open_data`: what pyarrow writes, damaged, with checksums and without."""

from __future__ import annotations

import io
import math
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets import Dataset, load, open_data, read_table

NAME = "a.parquet"
# Its own allocator takes large pieces of address space, and each thread a stack, of which the limit would tell.
pyarrow.set_memory_pool(pyarrow.system_memory_pool())
pyarrow.set_cpu_count(1)
pyarrow.set_io_thread_count(1)
# Thrift's: small numbers, lists of records, a record, an end.
_TOKENS = (
    b"PAR1",
    b"\x15\x00",
    b"\x15\x02",
    b"\x15\x04",
    b"\x15\x06",
    b"\x19\x1c",
    b"\x00",
    b"\xff\xff\xff\x7f",
    b"\x1c",
)


def _column(rng: Random, rows: int) -> Any:
    """Return a column of some Arrow type, with a few values missing now and then."""
    how = rng.randrange(14)
    some: list[Any] = [rng.randrange(5) for _ in range(rows)]
    if rng.random() < 0.15:
        some[rng.randrange(rows)] = None
    if how < 5:
        kind = rng.choice((pyarrow.float32(), pyarrow.float64(), pyarrow.int64(), pyarrow.uint8(), pyarrow.int16()))
        return pyarrow.array(some, kind)
    words = [None if n is None else ("cat", "dog", "é", "", "0")[n] for n in some]
    if how < 7:
        return pyarrow.array(words, rng.choice((pyarrow.string(), pyarrow.large_string())))
    if how == 7:
        return pyarrow.array(words, pyarrow.string()).dictionary_encode()
    if how == 8:
        return pyarrow.array([None if n is None else [n, n + 1] for n in some], pyarrow.list_(pyarrow.float32(), 2))
    if how == 9:
        return pyarrow.array([None if n is None else n > 2 for n in some])
    if how == 10:
        odd = rng.choice((math.nan, math.inf, 1e300, 0.5, -1.0))
        return pyarrow.array([odd if n == 1 else n for n in some], pyarrow.float64())
    if how == 11:
        return pyarrow.array(some, rng.choice((pyarrow.decimal128(10, 2), pyarrow.date32(), pyarrow.float16())))
    if how == 12:
        return pyarrow.array([None if n is None else bytes([n]) for n in some])
    return pyarrow.array([None if n is None else {"a": n} for n in some])


@cache
def _good(number: int) -> bytes:
    """Return one of some hundred files, of which the others are made."""
    rng = Random(number)
    rows = rng.choice((1, 2, 3, 5, 20))
    names = rng.sample(("a", "b", "label", "y", "1", "é", "__index_level_0__", "x" * 50), rng.choice((1, 2, 2, 3)))
    plain = rng.random() < 0.5  # numbers alone, which all three readers take
    columns = [
        pyarrow.array([float(rng.randrange(3)) for _ in range(rows)]) if plain else _column(rng, rows) for _ in names
    ]
    out = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.table(columns, names=names),
        out,
        compression=rng.choice(("snappy", "none", "none", "gzip", "zstd", "lz4", "brotli")),
        use_dictionary=rng.random() < 0.5,
        row_group_size=rng.choice((2, 100)),
        data_page_version=rng.choice(("1.0", "2.0")),
        write_page_checksum=rng.random() < 0.7,
        write_statistics=rng.random() < 0.5,
        store_schema=rng.random() < 0.6,
        write_page_index=rng.random() < 0.2,
    )
    return out.getvalue()


@cache
def _bomb(how: int) -> bytes:
    """Return a few kilobytes that hold millions of values, or one long text many times."""
    rows = (10**5, 10**6, 4 * 10**6)[how % 3]
    column = {
        0: lambda: pyarrow.array(np.zeros(rows)),
        1: lambda: pyarrow.array(np.zeros(rows, np.uint8)),
        2: lambda: pyarrow.array(["a" * 10_000] * (rows // 1000)),
        3: lambda: pyarrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), ["cat"]),
        4: lambda: pyarrow.array([False]).take(pyarrow.array(np.zeros(rows, np.int32))),
        5: lambda: pyarrow.nulls(rows, pyarrow.float32()),
    }[how // 3]()
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table([column], names=["a"]), out, compression="zstd")
    return out.getvalue()


def make(rng: Random) -> Sample:
    """Return a file with damage to its end, where all is said of it, or anywhere."""
    if rng.random() < 0.005:
        return Sample({NAME: _bomb(rng.randrange(18))}, {"way": rng.choice(_WAYS)})
    data = _good(rng.randrange(400))
    footer = int.from_bytes(data[-8:-4], "little")
    how = rng.randrange(10)
    others = [_good(rng.randrange(400))]
    if how < 4:  # the metadata alone, whose length is then right
        end = damaged(rng, data[-8 - footer : -8], others, _TOKENS)
        data = data[: -8 - footer] + end + len(end).to_bytes(4, "little") + b"PAR1"
    elif how < 7:  # the pages alone, in place
        pages = damaged(rng, data[4 : -8 - footer], others, _TOKENS)[: len(data) - 12 - footer]
        data = data[:4] + pages.ljust(len(data) - 12 - footer, b"\0") + data[-8 - footer :]
    elif how == 7:
        data = damaged(rng, data, others, _TOKENS)
    elif how == 8:
        length = number(rng, footer) % 2**32
        data = data[:-8] + length.to_bytes(4, "little") + rng.choice((b"PAR1", b"PAR1", b"PARE", b"par1"))
    options: dict[str, Any] = {"way": rng.choice(_WAYS)}
    if options["way"] != "table" and rng.random() < 0.4:
        options["target"] = rng.choice(("a", "b", "label", "y", "é", "none", "1"))
    return Sample({NAME: data}, options)


_WAYS = ("load", "table", "open")


def read(path: Path, way: str, **options: Any) -> Any:
    """Read it all, in one of three ways."""
    if way == "load":
        return load(path, **options)
    if way == "table":
        table = read_table(path)
        columns = {}
        for name in table:
            try:
                columns[name] = table[name]
            except ValueError as error:  # is neither numbers nor text, which it says when it is asked for
                require("leave it out" in str(error), f"the column {name!r} can not be read: {error}")
        return columns
    data = open_data(path, **options)
    inputs, targets = [], []
    for chunk, rows in enumerate(data.chunks):
        out = np.empty((rows, data.n_in), np.uint8 if data.dtype == np.uint8 else np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            data.read_inputs(chunk, out)
        inputs.append(out)
        targets += [data.read_targets(chunk)] if data.y_shape is not None else []
    return np.concatenate(inputs), np.concatenate(targets) if targets else None


# -- A second reading: pyarrow's, value by value, as Python has them ---------------------------------------------


def check(given: Sample, result: Any) -> None:
    """Compare what was read with the same file's columns as lists of Python's own objects."""
    if len(given.data) < 5000 and given.data in _bombs():  # zeros, or refused
        return
    wanted = None
    if given.options["way"] == "load":  # the index that pandas writes is left alone
        wanted = [*result.features, *([result.target] if result.target is not None else [])]
    try:
        file = pyarrow.parquet.ParquetFile(io.BytesIO(given.data), page_checksum_verification=True)
        table = file.read(columns=wanted, use_threads=False)
        columns = {name: table.column(i).to_pylist() for i, name in enumerate(table.column_names)}
    except Exception as error:
        if given.options["way"] == "table" or given.options["way"] == "open":
            return  # it reads the columns that can be read, or that are asked for
        raise WrongError(f"pyarrow can not read it: {error}") from error
    require(bool(columns) and table.num_rows > 0, "no rows or no columns")
    way, target = given.options["way"], given.options.get("target")
    if way == "table":
        for name, values in result.items():
            _same(values, columns[name], f"column {name!r}")
    elif way == "load":
        require(type(result) is Dataset and len(result.X) == table.num_rows, "no data set of all rows")
        names = list(result.features)
        require(result.target not in names, "the target among the inputs")
        for i, name in enumerate(names):
            _same(result.X[:, i], columns[name], f"column {name!r}", single=True)
        require(result.target is not None or result.y is None, "labels from nowhere")
        require(target is None or result.target == target or target == "1", "another target")
        if result.y is not None and result.classes is not None:
            words = [str(value) for value in columns[result.target]]
            if all(type(value) is str for value in columns[result.target]):
                require([result.classes[i] for i in result.y] == words, "the labels")
    else:
        X, y = result
        names = [n for n in columns if n != target and not n.startswith("__index_level_")]
        flat = [[v for name in names for v in _several(columns[name][i])] for i in range(table.num_rows)]
        _same(X.ravel(), [v for row in flat for v in row], "the inputs", single=X.dtype == np.float32)
        if target is not None:
            _same(y.ravel(), [v for value in columns[target] for v in _several(value)], "the targets")


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _same(mine: Any, theirs: list[Any], what: str, single: bool = False) -> None:
    require(len(mine) == len(theirs), f"{what}: {len(mine)} values of {len(theirs)}")
    for got, value in zip(mine.tolist(), theirs, strict=True):
        if isinstance(got, str) or got is None:
            if value is None or isinstance(value, str):
                require(got == value, f"{what}: {got!r:.40} where {value!r:.40} stands")
            continue
        if value is None:
            require(got != got, f"{what}: {got} where nothing stands")
            continue
        number = float(value)
        if single:
            with np.errstate(over="ignore"):
                number = float(np.float32(number))
        require(float(got) == number or (got != got and number != number), f"{what}: {got} where {value} stands")


@cache
def _bombs() -> frozenset[bytes]:
    return frozenset(_bomb(how) for how in range(18))


def _seed(way: str, **columns: Any) -> Sample:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out, write_page_checksum=True)
    return Sample({NAME: out.getvalue()}, {"way": way, **({"target": "y"} if way != "table" else {})})


SEEDS = (
    _seed("load", a=[1.5, 2.0], y=["cat", "dog"]),
    _seed("table", a=[1, None], y=["cat", None]),
    _seed("open", a=[1.5, 2.0], y=[0, 1]),
)
TARGET = Target("parquet", SEEDS, make, read, check)
