"""Damage to bytes that knows nothing of their format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

#: Where lengths and counts overflow, wrap, or are just past what is there.
NUMBERS = (
    0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 100, 127, 128, 129, 255, 256, 257, 1000, 4095, 4096, 65534,
    65535, 65536, 2**24, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63,
    2**64 - 1,
)  # fmt: skip


def number(rng: Random, near: int) -> int:
    """Return a number that is hard on readers: one off from `near`, a multiple of it, or a limit of some type."""
    how = rng.randrange(4)
    if how == 0:
        return near + rng.choice((-2, -1, 1, 2))
    if how == 1:
        return near * rng.choice((2, 3, 4, 8, 256)) + rng.choice((0, 0, 1))
    return rng.choice(NUMBERS)


def _flip(rng: Random, data: bytearray, other: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: Random, data: bytearray, other: bytes) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x22, 0x2C, rng.randrange(256)))


def _cut(rng: Random, data: bytearray, other: bytes) -> None:
    del data[rng.randint(0, len(data)) :]


def _drop(rng: Random, data: bytearray, other: bytes) -> None:
    at = rng.randint(0, len(data))
    del data[at : at + rng.choice((1, 1, 2, 4, 8, 32))]


def _insert(rng: Random, data: bytearray, other: bytes) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 1, 2, 4, 8, 32)))


def _repeat(rng: Random, data: bytearray, other: bytes) -> None:
    start, length = rng.randint(0, len(data)), rng.choice((1, 2, 4, 8, 64, 512))
    at = rng.randint(0, len(data))
    data[at:at] = data[start : start + length] * rng.choice((1, 1, 2, 16))


def _append(rng: Random, data: bytearray, other: bytes) -> None:
    data += rng.choice((b"\0", b"\0" * 512, b"\n", other, rng.randbytes(7)))


def _splice(rng: Random, data: bytearray, other: bytes) -> None:
    at, start = rng.randint(0, len(data)), rng.randint(0, len(other))
    data[at:] = other[start:]


def _transplant(rng: Random, data: bytearray, other: bytes) -> None:
    at, start, length = rng.randint(0, len(data)), rng.randint(0, len(other)), rng.choice((1, 4, 16, 64))
    piece = other[start : start + length]
    data[at : at + len(piece)] = piece


def _overwrite_number(rng: Random, data: bytearray, other: bytes) -> None:
    size, code = rng.choice(((2, "H"), (4, "I"), (8, "Q")))
    if len(data) < size:
        return
    at, order = rng.randrange(len(data) - size + 1), rng.choice("<>")
    (old,) = struct.unpack_from(order + code, data, at)
    struct.pack_into(order + code, data, at, number(rng, old) % 256**size)


_DAMAGES: tuple[Callable[[Random, bytearray, bytes], None], ...] = (
    _flip, _flip, _flip, _set, _cut, _drop, _insert, _repeat, _append, _splice, _transplant, _overwrite_number,
    _overwrite_number,
)  # fmt: skip


def damaged(rng: Random, data: bytes, others: Sequence[bytes] = (), tokens: Sequence[bytes] = ()) -> bytes:
    """Return `data` with one to some small damages.

    Parameters
    ----------
    rng : Random
    data : bytes
    others : sequence of bytes
        What parts of may be put into `data`.
    tokens : sequence of bytes
        Pieces with a meaning in the format.
    """
    changed = bytearray(data)
    while True:
        if tokens and rng.random() < 0.3:
            at, token = rng.randint(0, len(changed)), rng.choice(tokens)
            changed[at : at + (len(token) if rng.random() < 0.5 else 0)] = token
        else:
            rng.choice(_DAMAGES)(rng, changed, rng.choice(others) if others else data)
        if rng.random() < 0.6:
            return bytes(changed)
