"""Run configurations: options with values of every kind, tables, dates, and numbers beyond all measure."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from random import Random
from typing import Any

from reliability.fuzz.mutate import damaged
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.cli import runs

NAME = "run.toml"
_FIELDS = {field.name: field for field in dataclasses.fields(runs.Run)}
#: Right ones by the type that `Run` states, and what is at their limits.
_GOOD = {
    "str": ('"a.csv"', "'sgd'", '"""\na"""', '"\\u00e9"', "'a\\b'", '""'),
    "int": ("1", "10", "+3", "1_000", "0x1f", "0b11", "4"),
    "float": ("0.5", "1e-3", "1", "0.9", "1_0.5", "3", "0.0", "+0.25"),
    "tuple[str, ...]": ('["a", "b"]', '"a,b"', "[]", "'c'", '[ "a", ]', '["""x""",\n"y"]'),
    "tuple[int, ...]": ("[30]", "[64, 32]", '"30,10"', '"[5]"', "[3,\n # c\n 4]", "[1_0]"),
    "tuple[float, ...]": ("[0.1, 0.5]", "0.5", "[0, 0.25]", '"0.1,0.2"', "[]", "0"),
}
_ODD = (
    "-1", "0", "1.0", "1.5", "nan", "inf", "-inf", "1e999", "-0.0", "9223372036854775808", "9" * 400, "9" * 5000,
    "0x" + "f" * 9000, "-" + "9" * 310, "1e-400", "true", "false", '"1"', '"nan"', '"1_0,2"', '"٣"', '"1,,2"',
    '" 3 , 4 "', '"[["', "[]", "[[]]", "[[1]]", "[1, 'a']", "[true]", "[1.5]", "[1e400]", "[nan]",
    "[0x" + "f" * 9000 + "]", "{}", "{a = 1}", "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "[1979-05-27]",
    "2021-13-01", '"\\u001b[31m"',
    '"\\u0000"', '"\\ud800"', "'''x\ny'''", '"' + "x" * 3000 + '"', '"' + "1," * 3000 + '1"', "[" * 300 + "]" * 300,
    "[" * 5000, "{a=" * 2000, "", "nan1", "01", "1__0", "_1", "0x", "'", '"', "[1", "1 2", "\u2028", "1e5", "-1e-5",
    "[0.5, -0.1]", "1.0e+", "'a' 'b'", "99999999999", "[99999999999999999999]",
)  # fmt: skip
_KEYS = (
    "nonsense", '"epochs"', "'eta'", "a.b", "run.eta", '""', "epoch", "Eta", "batch-size", '"a b"', '"\\u001b[2J"',
    "é", "x" * 1000, '"' + "y" * 300 + '"', ".".join("a" * 400), "gpunet", "[eta]", "[[eta]]", "[a.b]", "eta.x",
)  # fmt: skip
_TOKENS = (
    b"=", b"\n", b"[", b"]", b"{", b"}", b'"', b"'", b'"""', b"'''", b"#", b"\\", b".", b",", b"\r", b"\r\n", b"\0",
    b"\xff", b"\xef\xbb\xbf", b"_", b"nan", b"inf", b"true", b"\xc3\xa9", b"[[", b"1979-05-27", b" = ", b"eta = 1\n",
)  # fmt: skip


def make(rng: Random) -> Sample:
    """Return a configuration of some options, mostly with one line wrong."""
    names = rng.sample(sorted(_FIELDS), rng.choice((0, 1, 2, 3, 3, 6)))
    lines = [f"{name} = {rng.choice(_GOOD[_kind(name)])}" for name in names]
    how = rng.randrange(12)
    if how < 5:
        lines.insert(rng.randint(0, len(lines)), f"{rng.choice(sorted(_FIELDS))} = {rng.choice(_ODD)}")
    elif how == 5:
        key = rng.choice(_KEYS)
        value = rng.choice((*_ODD, "1", "1"))
        lines.insert(rng.randint(0, len(lines)), key if key.startswith("[") else f"{key} = {value}")
    elif how == 6 and lines:
        lines.append(rng.choice(lines))
    elif how == 7:
        kind = rng.choice(sorted(_GOOD))
        lines.append(f"{rng.choice(sorted(_FIELDS))} = {rng.choice(_GOOD[kind])}")
    elif how == 8 and rng.random() < 0.02:  # long, wide or deep
        lines.append(_large(rng))
    text = rng.choice(("\n", "\n", "\n", "\r\n", "\n# c\n")).join(lines)
    data = text.encode(rng.choice(("utf-8",) * 9 + ("utf-16",)), "replace")
    if rng.random() < 0.3:
        data = damaged(rng, data, tokens=_TOKENS)
    return Sample({NAME: data})


def _large(rng: Random) -> str:
    n = rng.choice((1_000, 10_000, 60_000, 300_000))
    return rng.choice((
        ".".join("a" * n) + " = 1", "".join(f"k{i} = 1\n" for i in range(n // 8)),
        "drop = [" + "'a'," * (n // 4) + "]",
        "hidden = " + "[" * n, "[" + ".".join("a" * n) + "]", "x = " + "{a=" * n, 'data = "' + "\\u0041" * n + '"',
        "".join(f"[[a]]\nb.c = {i}\n" for i in range(n // 12)), "seed = 0x" + "f" * n, "#" * n, "\n" * n,
        "".join(f"[a{i}.b]\n" for i in range(n // 10)), "eta = " + "1" * n, "eta = 1." + "1" * n,
    ))  # fmt: skip


# -- A second reading -------------------------------------------------------------------------------------------


def _kind(name: str) -> str:
    """Return the type of an option as it is written in `Run`."""
    return str(_FIELDS[name].type).removesuffix(" | None")


def _number(value: Any, kind: str, limits: Any) -> Any:
    require(type(value) is int or (kind == "float" and type(value) is float), f"{type(value).__name__} for a number")
    try:
        given = float(value) if kind == "float" else value
    except OverflowError:
        raise WrongError("a number beyond all floats") from None
    require(given in range(-(2**128), 2**128 + 1) if kind == "int" else math.isfinite(given), "no usual number")
    require("min" not in limits or given >= limits["min"], f"{given} is less than {limits}")
    require("max" not in limits or given <= limits["max"], f"{given} is more than {limits}")
    require("above" not in limits or given > limits["above"], f"{given} is not above {limits}")
    return given


_WRITTEN = {"int": r"[+-]?[0-9]+", "float": r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"}


def _expected(name: str, value: Any) -> Any:
    kind, limits = _kind(name), _FIELDS[name].metadata["limits"]
    if kind == "str":
        require(type(value) is str, f"{type(value).__name__} for text")
        return value
    if not kind.startswith("tuple"):
        return _number(value, kind, limits)
    part = kind[6:].split(",")[0]
    if type(value) is str and part != "str":
        cells = [cell.strip() for cell in value.strip().removeprefix("[").removesuffix("]").split(",")]
        cells = [] if cells == [""] else cells
        for cell in cells:
            require(re.fullmatch(_WRITTEN[part], cell) is not None, f"{cell!r:.60} for a number")
        value = [int(cell) if part == "int" else float(cell) for cell in cells]
    elif part == "float" and type(value) in (int, float):
        value = [value]
    require(type(value) is list, f"{type(value).__name__} for a list")
    if part == "str":
        require(all(type(one) is str for one in value), "a list not of text")
        return tuple(value)
    return tuple(_number(one, part, limits) for one in value)


def check(given: Sample, result: Any) -> None:
    """Compare a run with the options in the file, each by the type and the limits that `Run` states."""
    try:
        values = tomllib.loads(given.data.decode())
    except (ValueError, RecursionError) as error:
        raise WrongError(f"no TOML: {error}") from error
    require(type(result) is runs.Run, "no run")
    require(values.keys() <= _FIELDS.keys(), "an option that is none")
    require(not {"layers", "hidden"} <= values.keys(), "layers and hidden at once")
    for name, field in _FIELDS.items():
        expected = _expected(name, values[name]) if name in values else field.default
        got = getattr(result, name)
        require(got == expected and type(got) is type(expected), f"{name} is {got!r:.60}, not {expected!r:.60}")


def read(path: Any) -> Any:
    """Return the run, as the command line makes it of a configuration alone."""
    return runs.combined({}, path)


SEEDS = (
    Sample({NAME: b'data = "a.csv"\nhidden = [64, 32]\neta = 1 # whole\ndrop = ["a", "b"]\ndropout = 0.5\n'}),
    Sample({NAME: b""}),
    Sample({NAME: b'layers = "784,30,10"\r\nepochs = 1_0\r\n"seed" = 0x10\r\n'}),
)
TARGET = Target("toml", SEEDS, make, read, check)
