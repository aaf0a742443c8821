"""gzip around the other formats: a frame with the right checksum, so that what is damaged within is reached."""

from __future__ import annotations

import gzip
import struct
import zlib
from random import Random
from typing import Any

from reliability.fuzz import book, idx, table
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets import load

#: What a file may unpack to here.
MAX_BYTES = 1 << 18


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
    if rng.random() < 0.01:  # a bomb, or nearly one
        rows = rng.choice((1, 100, MAX_BYTES // 4 - 4, MAX_BYTES // 4, MAX_BYTES, 16 * MAX_BYTES)) // 8 + 1
        return Sample({idx.IMAGES: idx.encode(rng.choice((8, 9)), (rows, 4), bytes(4 * rows))})
    maker = idx.make if how < 6 else table.make if how < 9 else book.make
    return maker(rng)


def make(rng: Random) -> Sample:
    """Return a file of another format in gzip, mostly right within."""
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
    """Read with a limit that is soon reached."""
    if ".pkl" in path.name:
        return book.read(path, MAX_BYTES)
    return load(path, max_bytes=MAX_BYTES, **options)


def check(given: Sample, result: Any) -> None:
    """Unpack independently, and compare as the format within does."""
    files = {}
    for name, data in given.files.items():
        plain = unpack(data) if data[:2] == b"\x1f\x8b" else data
        require(data[:2] == b"\x1f\x8b" or not name.endswith(".gz"), "it is named .gz and is not gzip")
        require(plain is data or len(plain) <= MAX_BYTES, f"{len(plain)} bytes unpacked")
        files[name.removesuffix(".gz")] = plain
    inner = next((t for t in (table.TARGET, book.TARGET) if t.seeds[0].name == next(iter(files))), idx.TARGET)
    inner.check(Sample(files, given.options), result)


_PLAIN = (*idx.SEEDS, *table.SEEDS, *book.SEEDS)
SEEDS = tuple(
    Sample({f"{name}.gz": gzip.compress(data) for name, data in plain.files.items()}, plain.options)
    for plain in _PLAIN
)
TARGET = Target("gzip", SEEDS, make, read, check)
