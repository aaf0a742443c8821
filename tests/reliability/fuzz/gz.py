"""gzip around the other formats: a frame with the right checksum, so that what is damaged within is reached."""

from __future__ import annotations

import gzip
import pickle
import struct
import zlib
from functools import cache
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import book, idx, table
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets import load

#: Bytes that a bomb unpacks to: below and above what a small file may, for images, tables and the book's pickle.
_BOMBS = (1 << 20, 4 << 20, 7 << 20, 16 << 20, 24 << 20, 32 << 20, 63 << 20, 80 << 20)


def member(rng: Random, content: bytes, faults: int = 0) -> bytes:
    """Return one gzip member with random optional fields, and `faults` of them wrong."""
    flags, optional = 0, b""
    if rng.random() < 0.3:
        flags |= 4
        optional += struct.pack("<H", 5) + b"extra"
    if rng.random() < 0.3:
        flags |= 8
        optional += b"name\0"
    if rng.random() < 0.2:
        flags |= 16
        optional += b"comment\0"
    if rng.random() < 0.2:
        flags |= 1 | rng.choice((2, 0, 0))
    level, strategy = rng.choice((0, 1, 6, 9)), rng.choice((zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_RLE))
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
    body = packer.compress(content)
    if rng.random() < 0.2:
        body += packer.flush(rng.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH)))
    body += packer.flush()
    method, crc, size, header_crc = 8, zlib.crc32(content), len(content) % 2**32, None
    for _ in range(faults):
        fault = rng.randrange(8)
        if fault == 0:
            crc ^= 1 << rng.randrange(32)
        elif fault == 1:
            size = number(rng, size) % 2**32
        elif fault == 2:
            method = rng.choice((0, 7, 9, 255))
        elif fault == 3:
            flags |= rng.choice((0x20, 0x40, 0x80))
        elif fault == 4:
            flags |= 1
            header_crc = rng.randrange(2**16)
        elif fault == 5:
            optional = optional[:-1]
        elif fault == 6:
            body = body[: rng.randint(0, len(body))]
        else:
            body = damaged(rng, body)
    head = b"\x1f\x8b" + struct.pack("<BBIBB", method, flags, 0, 0, 3) + optional
    if flags & 1:
        head += struct.pack("<H", zlib.crc32(head) & 0xFFFF if header_crc is None else header_crc)
    return head + body + struct.pack("<II", crc, size)


def frame(rng: Random, content: bytes) -> bytes:
    """Return a gzip file around `content`, mostly right."""
    how = rng.randrange(10)
    if how == 0:  # two members, or three
        cut = rng.randint(0, len(content))
        parts = (content[:cut], content[cut:], b"")[: rng.choice((2, 2, 3))]
        packed = b"".join(member(rng, part) for part in parts)
    elif how < 4:
        packed = member(rng, content, rng.choice((1, 1, 2)))
    else:
        packed = member(rng, content)
    if rng.random() < 0.1:
        packed += rng.choice((b"\0", b"\0" * 512, b"\n", b"\x1f", b"\x1f\x8b", b"\0\0x", packed[:10], packed))
    return damaged(rng, packed) if rng.random() < 0.1 else packed


def _inner(rng: Random) -> Sample:
    how = rng.randrange(12)
    maker = idx.make if how < 6 else table.make if how < 9 else book.make
    return maker(rng)


@cache
def _bomb(kind: str, size: int) -> Sample:
    if kind == "csv":
        return Sample({"a.csv.gz": gzip.compress(b"0,0\n" * (size // 4), 9)})
    if kind == "book":
        X, y = np.zeros((size // 16 // 3, 4), np.float32), np.zeros(size // 16 // 3, np.uint8)
        return Sample({"a.pkl.gz": gzip.compress(pickle.dumps([(X, y)] * 3, 4), 9)})
    code, width = {"bytes": (8, 1), "signed": (9, 1), "int": (12, 4), "double": (14, 8)}[kind]
    rows = size // 8 // width
    images = gzip.compress(idx.encode(code, (rows, 8), bytes(rows * 8 * width)), 9)
    labels = gzip.compress(idx.encode(8, (rows,), bytes(rows)), 9)
    return Sample({f"{idx.IMAGES}.gz": images, f"{idx.LABELS}.gz": labels})


def make(rng: Random) -> Sample:
    """Return a file of another format in gzip, mostly right within; seldom a bomb, or nearly one."""
    if rng.random() < 0.002:
        return _bomb(rng.choice(("bytes", "signed", "int", "double", "csv", "book")), rng.choice(_BOMBS))
    inner = rng.choice(_PLAIN) if rng.random() < 0.4 else _inner(rng)
    files = {}
    for i, (name, data) in enumerate(inner.files.items()):
        if i == 0 or rng.random() < 0.7:
            packed_name = name if name.endswith("-ubyte") and rng.random() < 0.3 else f"{name}.gz"
            files[packed_name] = frame(rng, data)
        else:
            files[name] = data
    return Sample(files, inner.options)


def unpack(data: bytes) -> bytes:
    """Unpack by zlib, which checks all checksums; raise `WrongError` for what is no gzip file."""
    content, rest = b"", data
    while rest:
        unpacker = zlib.decompressobj(31)
        try:
            content += unpacker.decompress(rest)
        except zlib.error as error:
            raise WrongError(f"zlib: {error}") from error
        require(unpacker.eof, "the gzip stream is cut short")
        rest = unpacker.unused_data.lstrip(b"\0")  # padding
    return content


def read(path: Any, **options: Any) -> Any:
    """Read with the usual limit."""
    return book.read(path) if ".pkl" in path.name else load(path, **options)


def check(given: Sample, result: Any) -> None:
    """Unpack independently, and compare as the format within does."""
    files = {}
    for name, data in given.files.items():
        plain = unpack(data) if data[:2] == b"\x1f\x8b" else data
        require(data[:2] == b"\x1f\x8b" or not name.endswith(".gz"), "it is named .gz and is not gzip")
        require(len(plain) <= (64 << 20) + 10 * len(data), f"{len(plain)} bytes unpacked")
        files[name.removesuffix(".gz")] = plain
    if sum(map(len, files.values())) > 1 << 19:  # a bomb that is not too large: all zeros
        X, y = result[0] if isinstance(result, tuple) else (result.X, result.y)
        require(not X.any() and (y is None or not y.any()), "the values of a bomb")
        return
    inner = next((t for t in (table.TARGET, book.TARGET) if t.seeds[0].name == next(iter(files))), idx.TARGET)
    inner.check(Sample(files, given.options), result)


_PLAIN = (*idx.SEEDS, *table.SEEDS, *book.SEEDS)
SEEDS = tuple(
    Sample({f"{name}.gz": gzip.compress(data) for name, data in plain.files.items()}, plain.options)
    for plain in _PLAIN
)
TARGET = Target("gzip", SEEDS, make, read, check)
