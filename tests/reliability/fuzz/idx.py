"""The idx reader: header and payload edited apart, labels beside the images."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import oracle
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, require

from gpunet.datasets import Dataset, load

_CODES = {0x08: ("B", 1), 0x09: ("b", 1), 0x0B: ("h", 2), 0x0C: ("i", 4), 0x0D: ("f", 4), 0x0E: ("d", 8)}
IMAGES, LABELS = "a-images-idx3-ubyte", "a-labels-idx1-ubyte"


def encode(code: int, shape: Sequence[int], payload: bytes, magic: bytes = b"\0\0") -> bytes:
    """Return a file of these parts, whether or not they fit."""
    return magic + bytes([code, len(shape)]) + b"".join(struct.pack(">I", n % 2**32) for n in shape) + payload


def _good(rng: Random) -> tuple[int, list[int], bytes]:
    code = rng.choice(tuple(_CODES))
    shape = rng.choice(([2, 2, 3], [4, 3], [1, 1], [3, 1, 2, 2], [2, 5, 1]))
    letter, _ = _CODES[code]
    values = [rng.randrange(100) / (4 if letter in "fd" else 1) for _ in range(int(np.prod(shape)))]
    return code, shape, struct.pack(f">{len(values)}{letter}", *(v if letter in "fd" else int(v) for v in values))


def _odd_float(rng: Random) -> bytes:
    return struct.pack(">d", rng.choice((float("nan"), float("inf"), -float("inf"), 1e300, -1e39, 5e-324, -0.0)))


def images(rng: Random) -> bytes:
    """Return an idx file, mostly with something wrong in its header or its values."""
    code, shape, payload = _good(rng)
    how = rng.randrange(9)
    if how == 0:
        shape[rng.randrange(len(shape))] = number(rng, shape[0])
    elif how == 1:  # the product wraps to what is there, in 32 or 64 bits
        shape = rng.choice(([2**16, 2**16, *shape], [2**31, 2, *shape], [2**32 - 1, 2**32 - 1, *shape]))
    elif how == 2:
        code = rng.choice((*_CODES, 0, 7, 0x0A, 0x0F, 0xFF))
    elif how == 3:
        shape = [1] * rng.choice((0, 1, 31, 32, 33, 64, 255)) + shape
        shape = shape[:255]
    elif how == 4:
        payload = rng.choice((payload[:-1], payload + b"\0", payload * 2, b"", payload[: len(payload) // 2]))
    elif how == 5 and payload:
        piece, at = _odd_float(rng), rng.randrange(0, len(payload), 4)
        payload = (payload[:at] + piece[: len(payload) - at] + payload[at + 8 :])[: len(payload)]
    elif how == 6:
        return damaged(rng, encode(code, shape, payload, rng.choice((b"\0\0", b"\0\1", b"\1\0", b"\x1f\x8b"))))
    elif how == 7:
        return damaged(rng, encode(code, shape, payload))
    return encode(code, shape, payload)


def _labels(rng: Random, n: int) -> bytes:
    code = rng.choice(tuple(_CODES))
    letter, _ = _CODES[code]
    values: list[float] = [rng.randrange(4) for _ in range(n)]
    if rng.random() < 0.5:
        values[rng.randrange(n)] = rng.choice((-1, 127, 0.5, 3.0) if letter in "fd" else (-1, 127, 100))
    fitting = [abs(int(v)) if letter == "B" else v if letter in "fd" else int(v) for v in values]
    data = encode(code, rng.choice(([n], [n, 1], [1, n], [n + 1])), struct.pack(f">{n}{letter}", *fitting))
    return damaged(rng, data) if rng.random() < 0.3 else data


def make(rng: Random) -> Sample:
    """Return images, often with labels beside them."""
    files = {IMAGES: images(rng)}
    if rng.random() < 0.4:
        files[LABELS] = _labels(rng, rng.randint(1, 4))
    return Sample(files)


def decode(data: bytes) -> tuple[tuple[int, ...], list[float]]:
    """Read an idx file value by value; raise `WrongError` where it is none."""
    require(len(data) >= 4 and data[:2] == b"\0\0" and data[2] in _CODES, "the magic number is not idx's")
    letter, size = _CODES[data[2]]
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3]))
    start, count = 4 + 4 * data[3], 1
    for n in shape:
        count *= n
    require(start + count * size == len(data), "the header does not fit the file's length")
    return shape, [float(value) for (value,) in struct.iter_unpack(f">{letter}", data[start:])]


def check_contents(images: bytes, labels: bytes | None, result: Dataset) -> None:
    """Compare a data set with the idx files that it was read from."""
    shape, values = decode(images)
    require(len(shape) >= 2, "one axis is no image")
    whole = images[2] in (0x08, 0x09, 0x0B, 0x0C)
    dtype = np.dtype("u1") if images[2] == 0x08 else oracle.whole_dtype(values) if whole else np.dtype("f4")
    oracle.check_inputs(result.X, values, shape[0], dtype)
    if labels is None:
        require(result.y is None, "labels from nowhere")
    else:
        label_shape, label_values = decode(labels)
        require(label_shape in ((shape[0],), (shape[0], 1)), "the labels are not one for each image")
        oracle.check_labels(result.y, label_values)


def check(given: Sample, result: Any) -> None:
    """Compare a data set with an independent reading of the files."""
    oracle.check_dataset(result)
    check_contents(given.data, given.files.get(LABELS), result)


_IMAGES = encode(8, (2, 2, 3), bytes(range(12)))
SEEDS = (
    Sample({IMAGES: _IMAGES}),
    Sample({IMAGES: _IMAGES, LABELS: encode(8, (2,), b"\1\0")}),
    Sample({IMAGES: encode(14, (2, 1), struct.pack(">2d", -1.5, 2.0)), LABELS: encode(13, (2, 1), bytes(8))}),
)
TARGET = Target("idx", SEEDS, make, load, check)
