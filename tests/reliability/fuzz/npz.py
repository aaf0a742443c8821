"""The npz reader: the zip's records, the members' headers and the values edited apart, with checksums that fit."""

from __future__ import annotations

import ast
import dataclasses
import io
import math
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import oracle
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets import load

NAME = "a.npz"
#: Of what a bomb unpacks to: below and above what a small file may, for each dtype.
BOMB_ROWS, BOMB_CODES = (
    (1 << 16, 1 << 17, 1 << 18, 3 << 17, 1 << 19, 1 << 20),
    ("|u1", "|i1", "<i2", "<f4", ">f4", "<f8", "<i8"),
)
_KEYS = (("X",), ("X", "y"), ("x_train", "y_train"), ("X", "y", "X_test", "y_test"), ("X", "y", "X_test", "y_test"))


# -- Members ----------------------------------------------------------------------------------------------------


def _npy(header: bytes, payload: bytes, version: bytes = b"\1\0", magic: bytes = b"\x93NUMPY") -> bytes:
    length = struct.pack("<H" if version[:1] == b"\1" else "<I", len(header) % 65536)
    return magic + version + length + header + payload


def _header(descr: str, order: str, shape: str, end: str = "\n") -> bytes:
    return (f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}" + end).encode("latin-1", "replace")


_DESCRS = (
    "'<f4'", "'>f4'", "'<f8'", "'|u1'", "'|i1'", "'<i2'", "'>i4'", "'<i8'", "'<u8'", "'<f2'", "'|b1'", "'<f16'",
    "'|O'", "'<c8'", "'<M8[s]'", "'<m8'", "'|S4'", "'<U1'", "'|V4'", "[('a', '<f4')]", "('<f4', (2,))", "'<f4,<f4'",
    "'f'", "'B'", "'float32'", "'object'", "''", "None", "4", "'<f3'", "'<f4' * 3", "{}", "('<f4',)", "'|u1\\x1b'",
    "b'<f4'", "'i,i'", "'<f9999999999'", "[('a', '|O')]", "['<f4']", "'1000000000f4'", "'a' 'b'",
)  # fmt: skip
_SHAPES = (
    "()", "(0,)", "(4, 0)", "(-1, 3)", "(4,)", "(12,)", "(3, 4)", "(4, 3, 1)", "(1, 12)", "(4L, 3L)", "(True, 12)",
    "4", "[4, 3]", "(4, 3.0)", "(2**2, 3)", "(4294967296, 4294967296)", "(9223372036854775807, 2)",
    "(18446744073709551616, 3)", "(" + "1, " * 40 + ")", "(" + "9" * 5000 + ", 1)", "(" * 100 + ")" * 100,
    "(None, 3)", "('4', 3)", "(4, 3", "(4, 3), 'extra': 1", "(4, 3), 'shape': (3, 4)", "(12, 1)", "(2, 6)",
    "(4, 3) # x", "(-4, -3)", "(1j,)",
)  # fmt: skip


def _array(rng: Random, key: str, rows: int) -> bytes:
    """Return a member, mostly right but for one thing."""
    labels = key.lower().startswith("y")
    shape = rng.choice(((rows,), (rows,), (rows, 1)) if labels else ((rows, 3),))
    code = rng.choice(
        ["B", "b", "<i2", ">i4", "<i8", "<u8", "<f4", "?", "<f2"]
        if labels
        else ["B", "B", "<f4", ">f4", "<f8", "<i2", "<i8", "?", "<f2", "<f4"]
    )
    top = 2 if code == "?" else 3 if labels else 100
    values = np.array([rng.randrange(top) for _ in range(math.prod(shape))]).astype(code).reshape(shape)
    descr, order, dims = repr(values.dtype.str), "False", repr(shape)
    payload, version, magic, end = values.tobytes(), b"\1\0", b"\x93NUMPY", "\n"
    how = rng.randrange(26)
    if how == 0:
        descr = rng.choice(_DESCRS)
    elif how == 1:
        dims = rng.choice(_SHAPES)
    elif how == 2:
        order = rng.choice(("True", "True", "True", "0", "1", "None", "'False'", "2", "[]"))
    elif how == 3:
        payload = rng.choice((payload[:-1], payload + b"\0", payload * 2, b""))
    elif how == 4 and payload:
        odd = rng.choice((math.nan, math.inf, -math.inf, 1e300, -1.0, 0.5, 2.0**63, 1e-310))
        piece = struct.pack("<d", odd) if rng.random() < 0.5 else struct.pack("<f", max(min(odd, 3e38), -3e38))
        at = rng.randrange(0, len(payload), 4)
        payload = (payload[:at] + piece + payload[at + len(piece) :])[: len(payload)]
    elif how == 5 and payload:
        payload = rng.choice((b"\xff", b"\x80", b"\2")) * len(payload)
    elif how == 6:
        version = rng.choice((b"\2\0", b"\2\0", b"\3\0", b"\1\1", b"\0\0", b"\xff\xff"))
    elif how == 7:
        end = rng.choice(("", " " * 50 + "\n", "\n\n", "\0", " " * 20000 + "\n", "\n\x1b[31m"))
    elif how == 8:
        magic = damaged(rng, magic)
    header = _header(descr, order, dims, end)
    if how == 9:
        header = damaged(
            rng, header, tokens=(b"{", b"}", b"(", b"'", b",", b"\\", b"\n", b"L", b"'descr'", b"__import__")
        )
    elif how == 10:
        header = rng.choice(
            (b"", b"{}", b"[1]", b"{'descr': 1}", b"(" * 3000, b"'" * 3, b"{**{}}", header * 2, b"-" * 9000)
        )
    member = _npy(header, payload, version, magic)
    return damaged(rng, member) if how == 11 else member


# -- The zip ----------------------------------------------------------------------------------------------------


@dataclass
class _Entry:
    """A member of the zip, with all that its two records say."""

    name: bytes
    body: bytes  # as it lies in the file
    method: int = 0
    flags: int = 0
    crc: int = 0
    packed: int = 0
    size: int = 0
    version: int = 20
    offset: int | None = None
    extra: bytes = b""
    comment: bytes = b""
    local: dict[str, Any] = field(default_factory=dict)  # where the local record differs


def _entry(rng: Random, name: bytes, content: bytes) -> _Entry:
    method = rng.choice((0, 0, 8))
    body = content
    if method == 8:
        packer = zlib.compressobj(rng.choice((1, 6, 9)), zlib.DEFLATED, -15)
        body = packer.compress(content) + packer.flush()
    return _Entry(name, body, method, 0, zlib.crc32(content), len(body), len(content))


def _spoil(rng: Random, entry: _Entry) -> None:
    """Make one statement of an entry wrong, or put in what readers differ about."""
    how = rng.randrange(15)
    if how == 0:
        entry.crc ^= 1 << rng.randrange(32)
    elif how == 1:
        entry.size = number(rng, entry.size) % 2**32
    elif how == 2:
        entry.packed = number(rng, entry.packed) % 2**32
    elif how == 3:
        entry.method = rng.choice((0, 8, 9, 12, 14, 93, 99, 65535))
    elif how == 4:
        entry.flags = rng.choice((1, 8, 0x20, 0x40, 0x800, 0x2000, 0x801, 0xFFFF))
    elif how == 5:
        entry.offset = rng.choice((0, 1, 10, 2**31, 2**32 - 2, 2**32 - 1))
    elif how == 6:
        zip64 = struct.pack("<HHQQQ", 1, 24, number(rng, entry.size) % 2**64, number(rng, entry.packed) % 2**64, 0)
        entry.extra = rng.choice((zip64, b"\1\0\xff\xff", b"\1\0\0\0", zip64[:-3], b"xx\4\0abcd", b"\xff" * 9))
        entry.size = rng.choice((entry.size, 2**32 - 1))
        entry.packed = rng.choice((entry.packed, 2**32 - 1))
    elif how == 7:
        entry.local[rng.choice(("crc", "size", "packed"))] = rng.choice((0, 1, 2**32 - 1))
    elif how == 8:
        entry.local["name"] = rng.choice((b"z.npy", entry.name.upper(), b""))
    elif how == 9:
        entry.name = rng.choice((
            b"../X.npy", b"X.npy\0.txt", b"X", b"x.npy", b"", b"\xff\xfe.npy", b"k" * 3000 + b".npy", b"a\nb.npy",
            b"\x1b[31m.npy", "é.npy".encode(), b"X.npy.npy", b"y.npy", b"/X.npy", b"C:X.npy",
        ))  # fmt: skip
    elif how == 10:  # the right checksum for a part of what is there, or for more
        content = _inflated(entry)
        entry.size = max(0, min(entry.size, 2**31) + rng.choice((-8, -1, 1)))
        entry.crc = zlib.crc32(content[: entry.size])
    elif how == 11:
        entry.body += rng.choice((b"\0", entry.body))
        entry.packed = len(entry.body)
    elif how == 12:
        entry.body = entry.body[: rng.randrange(len(entry.body) + 1)]
        entry.packed = rng.choice((entry.packed, len(entry.body)))
    elif how == 13:
        entry.version = rng.choice((0, 45, 63, 64, 255))
    else:
        entry.local["method"] = rng.choice((0, 8, 12))


def _inflated(entry: _Entry) -> bytes:
    if entry.method != 8:
        return entry.body
    try:
        return zlib.decompressobj(-15).decompress(entry.body)
    except zlib.error:
        return b""


def _local(entry: _Entry) -> bytes:
    said = {name: entry.local.get(name, getattr(entry, name)) for name in ("crc", "size", "packed", "name", "method")}
    numbers = (entry.version, entry.flags, said["method"], 0, 0, said["crc"], said["packed"], said["size"])
    return (
        b"PK\3\4"
        + struct.pack("<HHHHHIIIHH", *numbers, len(said["name"]), len(entry.extra))
        + said["name"]
        + entry.extra
    )


def _central(entry: _Entry, offset: int) -> bytes:
    at = offset if entry.offset is None else entry.offset
    numbers = (20, entry.version, entry.flags, entry.method, 0, 0, entry.crc, entry.packed, entry.size)
    lengths = (len(entry.name), len(entry.extra), len(entry.comment), 0, 0, 0, at)
    return (
        b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", *numbers, *lengths) + entry.name + entry.extra + entry.comment
    )  # fmt: skip


def _archive(rng: Random, entries: list[_Entry], spoil: bool) -> bytes:
    out = bytearray()
    how = rng.randrange(14) if spoil else -1
    if how == 0:
        out += rng.choice((b"#!junk\n", b"\0" * 30))  # before the first member, of which its records may know
    ahead = len(out) if rng.random() < 0.5 else 0
    offsets = []
    for entry in entries:
        offsets.append(len(out) - ahead)
        out += _local(entry) + entry.body
    if how == 1 and len(offsets) > 1:
        offsets[-1] = offsets[0]  # two members in one place
    start = len(out) - ahead
    directory = b"".join(_central(entry, at) for entry, at in zip(entries, offsets, strict=True))
    count, size = len(entries), len(directory)
    if how == 2:
        count = rng.choice((0, 1, count + 1, 65535))
    elif how == 3:
        size = number(rng, size) % 2**32
    elif how == 4:
        start = number(rng, start) % 2**32
    elif how == 5:
        directory = damaged(rng, directory)
    out += directory
    if how == 6:  # zip64's end
        record = struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, number(rng, count) % 2**64, size, start)
        out += b"PK\6\6" + record + b"PK\6\7" + struct.pack("<IQI", 0, len(out), 1)
        count, start = rng.choice((count, 65535)), rng.choice((start, 2**32 - 1))
    comment = b"x" * rng.choice((1, 22, 500)) if how == 7 else b""
    disk = rng.choice((1, 65535)) if how == 8 else 0
    stated = number(rng, len(comment)) % 2**16 if how == 9 else len(comment)
    out += b"PK\5\6" + struct.pack("<HHHHIIH", disk, 0, count, count, size, start, stated) + comment
    if how == 10:
        out += rng.choice((b"\0", b"junk", b"PK\5\6", out[-22:]))
    return bytes(out)


def make(rng: Random) -> Sample:
    """Return an archive of arrays, with something wrong on one of its levels."""
    if rng.random() < 0.06:
        return Sample({NAME: damaged(rng, rng.choice(SEEDS).data, [seed.data for seed in SEEDS])})
    keys = list(rng.choice(_KEYS))
    rows = rng.randint(1, 5)
    entries = [_entry(rng, f"{key}.npy".encode(), _array(rng, key, rows)) for key in keys]
    level = rng.randrange(4)
    if level == 0:
        _spoil(rng, rng.choice(entries))
        if rng.random() < 0.2:
            _spoil(rng, rng.choice(entries))
    elif level == 1 and rng.random() < 0.4:
        extra = rng.choice(entries)
        entries.insert(
            rng.randrange(len(entries) + 1), _entry(rng, rng.choice((extra.name, b"z.npy")), _inflated(extra))
        )
    elif level == 2 and rng.random() < 0.02:
        return Sample({NAME: bomb(rng, keys)})
    return Sample({NAME: _archive(rng, entries, spoil=level == 3)})


_MEMBERS: dict[tuple[str, int], _Entry] = {}  # packed once: that takes longer than to read them


def bomb(rng: Random, keys: Sequence[str] = ("X", "y")) -> bytes:
    """Return an archive of a few hundred kilobytes or less that unpacks to many megabytes of zeros."""
    entries = []
    rows = rng.choice(BOMB_ROWS)
    for key in keys:
        width, code = (1, rng.choice(("|u1", "<i8"))) if key.lower().startswith("y") else (64, rng.choice(BOMB_CODES))
        if (code, rows * width) not in _MEMBERS:
            shape = f"({rows}, {width})" if width > 1 else f"({rows},)"
            content = _npy(_header(f"'{code}'", "False", shape), bytes(rows * width * np.dtype(code).itemsize))
            packed = zlib.compressobj(9, zlib.DEFLATED, -15)
            body = packed.compress(content) + packed.flush()
            _MEMBERS[code, rows * width] = _Entry(b"", body, 8, 0, zlib.crc32(content), len(body), len(content))
        entries.append(dataclasses.replace(_MEMBERS[code, rows * width], name=f"{key}.npy".encode(), local={}))
    return _archive(rng, entries, spoil=False)


def read(path: Any) -> Any:
    """Read with the usual limit."""
    return load(path)


# -- A second reading --------------------------------------------------------------------------------------------


def members(data: bytes) -> dict[str, bytes]:
    """Return the members of a zip by the format's description; raise `WrongError` where it is damaged.

    A zip is read from its central directory: what that says of sizes and checksums is what counts, not the records
    before the members.
    """
    end = data.rfind(b"PK\5\6")
    require(end >= 0 and len(data) >= end + 22, "no end of a central directory")
    _, _, _, count, size, start, comment = struct.unpack("<HHHHIIH", data[end + 4 : end + 22])
    require(end + 22 + comment == len(data), "something follows the zip, or its comment is cut short")
    require(data[:4] == b"PK\3\4", "something stands before the zip")
    if data[end - 20 : end - 16] == b"PK\6\7":
        at = struct.unpack("<Q", data[end - 12 : end - 4])[0]
        require(data[at : at + 4] == b"PK\6\6", "zip64's record is not where it is said to be")
        wide = struct.unpack("<QQQ", data[at + 32 : at + 56])
        count, size, start = (
            w if n == most else n
            for n, w, most in zip((count, size, start), wide, (2**16 - 1, 2**32 - 1, 2**32 - 1), strict=True)
        )
        end = at
    ahead = end - size - start  # what was put before the zip
    require(ahead >= 0, "the central directory is not where it is said to be")
    found: dict[str, bytes] = {}
    directory = data[start + ahead : start + ahead + size]
    for _ in range(count):
        require(directory[:4] == b"PK\1\2" and len(directory) >= 46, "no record in the central directory")
        fields = struct.unpack("<HHHHHHIIIHHHHHII", directory[4:46])
        flags, method, crc, packed, unpacked, n_name, n_extra, n_comment = (
            fields[i] for i in (2, 3, 6, 7, 8, 9, 10, 11)
        )
        directory = directory[46:]  # a length that reaches beyond its end counts as ending there
        name, extra, directory = (
            directory[:n_name],
            directory[n_name:][:n_extra],
            directory[n_name + n_extra + n_comment :],
        )
        unpacked, packed, offset = _zip64(extra, unpacked, packed, fields[15])
        require(not flags & 1 and method in (0, 8), "encrypted, or packed by another method")
        key = name.split(b"\0")[0].decode("utf-8" if flags & 0x800 else "cp437")
        require(key not in found, "a name is there twice")
        body = _body(data, offset + ahead, name, packed)
        content = body[:unpacked] if method == 0 else zlib.decompressobj(-15).decompress(body, unpacked)
        require(len(content) == unpacked, f"{len(content)} bytes of {unpacked}")
        require(zlib.crc32(content) == crc, "the checksum is wrong")
        found[key] = content
    require(not directory, "the central directory is longer than is said")
    return found


def _zip64(extra: bytes, *values: int) -> list[int]:
    while len(extra) >= 4:
        code, length = struct.unpack("<HH", extra[:4])
        if code == 1:
            numbers = iter(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length // 8 * 8]))
            try:
                return [next(numbers) if value == 2**32 - 1 else value for value in values]
            except StopIteration:
                raise WrongError("zip64's numbers are missing") from None
        extra = extra[4 + length :]
    return list(values)


def _body(data: bytes, at: int, name: bytes, packed: int) -> bytes:
    require(data[at : at + 4] == b"PK\3\4", "no record before a member")
    fields = struct.unpack("<HHHHHIIIHH", data[at + 4 : at + 30])
    start = at + 30 + fields[8] + fields[9]
    require(data[at + 30 : at + 30 + fields[8]] == name, "a member has two names")
    return data[start : start + packed]


def array_of(content: bytes) -> Any:
    """Return the array in an .npy file, read by its description."""
    require(content[:6] == b"\x93NUMPY" and content[6:8] in (b"\1\0", b"\2\0"), "no .npy")
    width = 2 if content[6] == 1 else 4
    length = int.from_bytes(content[8 : 8 + width], "little")
    text = content[8 + width : 8 + width + length]
    require(len(text) == length, "the header is cut short")
    text = re.sub(rb"(?<=\d)L", b"", text)  # a whole number of Python 2
    header = ast.literal_eval(text.decode("latin-1").strip())
    require(
        isinstance(header, dict) and set(header) == {"descr", "fortran_order", "shape"}, f"the header {header!r:.80}"
    )
    shape, order = header["shape"], header["fortran_order"]
    require(isinstance(shape, tuple) and all(isinstance(n, int) for n in shape), f"the shape {shape!r:.80}")
    require(isinstance(order, bool) and isinstance(header["descr"], str), "the order or the dtype")
    dtype = np.dtype(header["descr"])
    require(dtype.kind in "biuf", f"the dtype {dtype}")
    payload = content[8 + width + length :]
    require(
        all(n >= 1 for n in shape) and math.prod(shape) * dtype.itemsize == len(payload), "the shape does not fit"
    )
    array = np.ndarray(shape, dtype, payload, order="F" if order else "C")
    return array


def check(given: Sample, result: Any) -> None:
    """Compare a data set with the archive's arrays, and with what NumPy reads."""
    oracle.check_dataset(result)
    found = {key.removesuffix(".npy").lower(): array_of(content) for key, content in members(given.data).items()}
    with np.load(io.BytesIO(given.data), allow_pickle=False) as archive:
        for key in archive.files:
            theirs = archive[key]
            require(np.array_equal(theirs, found[key.lower()]), f"NumPy reads another {key}")
    keys = set(found)
    forms = (*_KEYS, ("x_train",), ("x_train", "y_train", "x_test", "y_test"))
    require(keys in [{key.lower() for key in form} for form in forms], f"the keys {keys}")
    x, y = ("x", "y") if "x" in keys else ("x_train", "y_train")
    for mine, key in ((result.X, x), (result.X_test, "x_test")):
        if mine is not None:
            _check_inputs(mine, found[key], result.X.dtype)
    for labels, key in ((result.y, y), (result.y_test, "y_test")):
        require((labels is None) == (key not in found), "labels missing or from nowhere")
        if labels is not None:
            require(found[key].shape in ((len(labels),), (len(labels), 1)), "not one label a row")
            oracle.check_labels(labels, found[key].reshape(-1).tolist())


def _check_inputs(mine: Any, theirs: Any, common: np.dtype[Any]) -> None:
    require(theirs.ndim >= 2, "inputs of one axis")
    if theirs.size > 10_000:  # a bomb that is not too large: all zeros
        require(not theirs.any() and not mine.any() and mine.size == theirs.size, "a large array's values")
        return
    values = [float(value) for value in theirs.reshape(-1).tolist()]
    own = np.dtype("f4")
    if theirs.dtype == np.uint8:
        own = np.dtype("u1")
    elif theirs.dtype.kind in "biu":
        own = oracle.whole_dtype(values)
    elif theirs.dtype.itemsize >= 8:
        own = np.dtype("f8")
    # The wider of both parts' dtypes holds the narrower's values exactly.
    rounded = [float(own.type(value)) for value in values]
    require(np.result_type(own, common) == common, f"inputs of {common} from {own}")
    oracle.check_inputs(mine, rounded, len(theirs), common)


def _seed(save: Any, **arrays: Any) -> Sample:
    out = io.BytesIO()
    save(out, **arrays)
    return Sample({NAME: out.getvalue()})


_X = np.arange(12, dtype=np.float32).reshape(4, 3)
_Y = np.array([0, 1, 2, 1])
SEEDS = (
    _seed(np.savez, X=_X),
    _seed(np.savez, X=_X.astype("u1"), y=_Y),
    _seed(np.savez_compressed, X=np.asfortranarray(_X.astype(">f8")), y=_Y, X_test=_X[:2], y_test=_Y[:2]),
    _seed(np.savez_compressed, x_train=_X.astype("i8"), y_train=_Y.astype("u1")),
)
TARGET = Target("npz", SEEDS, make, read, check)
