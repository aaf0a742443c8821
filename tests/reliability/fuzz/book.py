"""The reader of the book's pickle: opcodes dropped, doubled, exchanged and given other arguments."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import oracle
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets.book import read_book

NAME = "a.pkl"
_X = np.arange(12, dtype=np.float32).reshape(4, 3)
_Y = np.array([0, 1, 2, 1])


def _python2(pairs: list[tuple[Any, Any]], protocol: int) -> bytes:
    """Return what Python 2 writes: its strings are bytes, its numbers may be long."""

    def text(data: bytes) -> bytes:
        if protocol == 0:
            return b"S" + repr(data)[1:].encode("latin-1") + b"\n"
        return (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))) + data

    def array(values: Any) -> bytes:
        shape = b"".join(b"L%dL\n" % n if protocol == 0 else b"J" + struct.pack("<i", n) for n in values.shape)
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + text(b"b") + b"tR"
            b"(I1\n(" + shape + b"t"
            b"cnumpy\ndtype\n(" + text(values.dtype.str[1:].encode()) + b"I0\nI1\ntR"
            b"(I3\n" + text(b"<") + b"NNNI-1\nI-1\nI0\ntbI00\n" + text(values.tobytes()) + b"tb"
        )  # fmt: skip

    items = b"".join(b"(" + array(x) + array(y) + b"t" for x, y in pairs)
    return (b"\x80\x02" if protocol else b"") + b"(" + items + b"t."


def _seeds() -> tuple[bytes, ...]:
    parts = [(_X, _Y), (_X[:1], _Y[:1]), (_X[:2], _Y[1:3])]
    fortran = [(np.asfortranarray(_X.astype(">f8")), _Y.astype("u1"))] * 3
    flat = [(np.arange(4, dtype="u1").reshape(2, 2), np.array([True, False]))] * 3
    written = [pickle.dumps(parts, protocol) for protocol in range(6)]
    return (
        *written, *(pickle.dumps(tuple(fortran), protocol) for protocol in (2, 5)), pickle.dumps(flat, 4),
        pickle.dumps([(np.ascontiguousarray(_X.T).T, _Y)] * 3, 5), _python2(parts, 0), _python2(parts, 2),
    )  # fmt: skip


def _steps(data: bytes) -> list[bytes]:
    """Cut a pickle into its opcodes with their arguments."""
    starts = []
    stream = io.BytesIO(data)
    by_code = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
    while True:
        starts.append(stream.tell())
        opcode = by_code[stream.read(1)]
        if opcode.name == "STRING":
            stream.readline()
        elif opcode.arg is not None:
            opcode.arg.reader(stream)
        if opcode.name == "STOP":
            break
    return [data[a:b] for a, b in zip(starts, [*starts[1:], stream.tell()], strict=True)]


_BYTES = _seeds()
# Frames tell their length, and would have to be made anew; a pickle does not need them.
_PROGRAMS = tuple([step for step in _steps(data) if step[:1] != b"\x95"] for data in _BYTES)
_PIECES = (
    b"(", b"t", b"\x85", b"\x86", b"\x87", b"N", b"R", b"b", b"]", b")", b"a", b"e", b"l", b"\x88", b"\x89", b"0",
    b".", b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b"I01\n", b"L7L\n", b"L" + b"9" * 5000 + b"L\n", b"S'<'\n",
    b"U\x02f4", b"U\x02f8", b"U\x02O8", b"U\x02V4", b"U\x03f16", b"U\x02c8", b"U\x02M8", b"X\x01\0\0\0C",
    b"X\x01\0\0\0F", b"C\x04abcd", b"C\x00", b"q\x00", b"h\x00", b"\x94", b"p1\n", b"g1\n", b"r\xff\xff\xff\x7f",
    b"j\xff\xff\xff\x7f", b"p99999999\n", b"\x80\x02", b"\x80\x05", b"\x80\xff", b"\x93", b"\x8c\x05numpy",
    b"\x8c\x03foo", b"2", b"1", b"Q", b"P1\n", b"\x97", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n",
    b"c_codecs\nencode\n", b"cnumpy.core.numeric\n_frombuffer\n", b"cos\nsystem\n", b"cbuiltins\neval\n",
    b"cnumpy\nload\n", b"c__main__\nx\x1b[31m\n", b"cnumpy.core.multiarray\nscalar\n", b"\x82\x01", b"ios\nsystem\n",
    b"o", b"\x81", b"\x92", b"G\0\0\0\0\0\0\0\0", b"F1.5\n", b"}", b"s", b"\x8f", b"\x90",
    b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f",
    b"\x8a\xff" + b"\x7f" * 255, b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f", b"cnumpy\ndtype\nU\x02f4\x85R",
    b"cnumpy.core.multiarray\n_reconstruct\n)R", b"V\\ud800\n", b"Va\\u000ab\n", b"\x96\x04\0\0\0\0\0\0\0abcd",
)  # fmt: skip
_VALUES = (
    b"N", b"\x88", b"\x89", b"K\x00", b"K\x02", b"J\xff\xff\xff\xff", b"I2\n", b"I01\n", b"L2L\n", b"C\x01x",
    b"U\x01>", b"U\x01|", b"U\x01=", b"U\x02i4", b"U\x02f2", b"U\x02u8", b"U\x02b1", b"X\x01\0\0\0K", b")",
    b"K\x01\x85", b"K\x02K\x02\x86", b"K\x0c\x85", b"J\0\0\0\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
)  # fmt: skip


def _change(rng: Random, steps: list[bytes]) -> None:
    at, how = rng.randrange(len(steps)), rng.randrange(9)
    step = steps[at]
    if how == 0:
        del steps[at]
    elif how == 1:
        steps.insert(at, step)
    elif how == 2:
        other = rng.randrange(len(steps))
        steps[at], steps[other] = steps[other], step
    elif how == 3:
        steps[at] = rng.choice(_PIECES)
    elif how == 4:
        steps.insert(at, rng.choice(_PIECES))
    elif how == 5:
        steps[at : at + rng.choice((1, 3, 9))] = rng.choice(_PROGRAMS)[at : at + rng.choice((1, 3, 9))]
    elif how == 6:  # another value of another kind
        values = [i for i, s in enumerate(steps) if s[:1] in b"KJMIL\x8aNUTSCXV\x8c\x88\x89BG"]
        steps[rng.choice(values) if values else at] = rng.choice(_VALUES)
    elif how == 7:  # an argument of its own kind
        steps[at] = _other_argument(rng, step)
    else:
        steps[at] = damaged(rng, step)
    if not steps:
        steps.append(b".")


def _other_argument(rng: Random, step: bytes) -> bytes:
    code, argument = step[:1], step[1:]
    if code in b"KMJ":
        size = {b"K": 1, b"M": 2, b"J": 4}[code]
        return code + (number(rng, int.from_bytes(argument, "little")) % 256**size).to_bytes(size, "little")
    if code in b"UC\x8c":
        new = damaged(rng, argument[1:])[:255]
        return code + bytes([len(new)]) + new
    if code in b"TBX":
        new = damaged(rng, argument[4:])
        return code + struct.pack("<I", len(new)) + new
    if code in b"IL":
        suffix = b"L\n" if code == b"L" else b"\n"
        digits = argument.rstrip(b"L\n")
        value = int(digits) if digits.lstrip(b"-").isdigit() and len(digits) < 1000 else 0  # it may be damaged before
        return code + str(number(rng, value)).encode() + suffix
    return code + damaged(rng, argument)


def make(rng: Random) -> Sample:
    """Return a pickle, mostly of the right opcodes with something wrong among them."""
    how = rng.randrange(10)
    if how == 0:
        pieces = [rng.choice(_PIECES) for _ in range(rng.randrange(30))]
        return Sample({NAME: b"".join(pieces) + b"."})
    if how < 3:
        return Sample({NAME: damaged(rng, rng.choice(_BYTES), _BYTES, _PIECES)})
    steps = list(rng.choice(_PROGRAMS))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(rng, steps)
    return Sample({NAME: b"".join(steps)})


def read(path: Any, max_bytes: int | None = None) -> Any:
    """Return all three parts."""
    return read_book(Path(path), max_bytes)


class _Plain(pickle.Unpickler):
    """Python's own unpickler, with NumPy's own functions and no others."""

    def find_class(self, module: str, name: str) -> Any:
        functions: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy.core.numeric", "_frombuffer"): np._core.numeric._frombuffer,  # type: ignore[attr-defined]
            ("numpy._core.numeric", "_frombuffer"): np._core.numeric._frombuffer,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode(encoding)
        require((module, name) in functions, f"{module}.{name} is called")
        return functions[module, name]


def check_contents(data: bytes, parts: Any) -> None:
    """Compare three parts with what NumPy makes of the same pickle."""
    stream = io.BytesIO(data)
    try:
        theirs = _Plain(stream, encoding="latin1").load()
    except Exception as error:
        raise WrongError(f"NumPy can not read it: {type(error).__name__}: {error}") from error
    require(stream.read() == b"", "something follows the pickle")
    require(isinstance(theirs, tuple | list) and len(theirs) == 3, "it has no three parts")
    for (X, y), part in zip(parts, theirs, strict=True):
        require(isinstance(part, tuple | list) and len(part) == 2, "a part is no pair")
        images, labels = part
        require(type(images) is np.ndarray and type(labels) is np.ndarray, "a part is no pair of arrays")
        require(images.ndim >= 2 and images.dtype.kind in "biuf", f"images {images.dtype} of shape {images.shape}")
        require(labels.dtype.kind in "biuf" and labels.shape in ((len(images),), (len(images), 1)), "labels")
        # NumPy's reshape and tolist, and the conversions from idx, value by value.
        values = [float(value) for value in images.reshape(-1).tolist()]
        whole = images.dtype.kind in "biu"
        dtype = images.dtype if images.dtype == np.uint8 else oracle.whole_dtype(values) if whole else np.dtype("f4")
        oracle.check_inputs(X, values, len(images), dtype)
        oracle.check_labels(y, labels.reshape(-1).tolist())


def check(given: Sample, result: Any) -> None:
    """Check three parts, which may differ from each other in their widths."""
    require(isinstance(result, tuple) and len(result) == 3, "no three parts")
    check_contents(given.data, result)


SEEDS = tuple(Sample({NAME: data}) for data in _BYTES)
TARGET = Target("book", SEEDS, make, read, check)
