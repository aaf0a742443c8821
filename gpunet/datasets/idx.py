"""The idx format of MNIST: two zero bytes, a type code, the number of axes, the axes, the values."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.arrays import from_bytes
from gpunet.datasets.stream import read_file
from gpunet.errors import FileFormatError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(head: bytes) -> bool:
    """Say whether a file that starts with `head` (4 bytes) can be idx."""
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and head[3] > 0


def parse(data: bytes | bytearray, what: str) -> NDArray[Any]:
    """Return the array that idx `data` holds, in native byte order.

    Nothing is allocated by what the header claims: it is first compared with the bytes there.

    Raises
    ------
    FileFormatError
        If the header is not idx's, or claims more or fewer bytes than follow it.
    """
    if len(data) < 4 or data[:2] != b"\0\0":
        raise FileFormatError(
            f"{what}: starts with {data[:4].hex(' ') or 'nothing'}; an idx file starts with 00 00, a type "
            "code and the number of axes. This is some other file or a damaged one."
        )
    code, n_axes = data[2], data[3]
    if code not in _TYPES:
        known = ", ".join(f"{c:#04x}" for c in _TYPES)
        raise FileFormatError(f"{what}: idx type code {code:#04x} is unknown; expected one of {known}.")
    start = 4 + 4 * n_axes
    if len(data) < start:
        raise FileFormatError(
            f"{what}: the header of {n_axes} axes takes {start} bytes, but the file has {len(data)}. "
            "It is cut short; fetch it again."
        )
    shape = struct.unpack(f">{n_axes}I", data[4:start])
    return from_bytes(memoryview(data)[start:], np.dtype(_TYPES[code]), shape, what)


def read(path: Path, max_bytes: int | None = None) -> NDArray[Any]:
    """Return the array in the idx file `path`, plain or gzip."""
    return parse(read_file(path, max_bytes), str(path))
