"""NumPy's .npz: a zip of arrays, read without pickle and without trusting its headers."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.arrays import as_inputs, as_labels, check_claim, from_bytes, memory_of
from gpunet.datasets.dataset import Dataset, assemble
from gpunet.datasets.stream import Room, drain, open_regular
from gpunet.errors import FileFormatError, GpunetError, one_line

# Keys (in lower case) that make a data set: X, y, X_test, y_test in this order, as many as there are.
_FORMS: tuple[tuple[str, ...], ...] = (
    ("x",),
    ("x", "y"),
    ("x", "y", "x_test", "y_test"),
    ("x_train",),
    ("x_train", "y_train"),
    ("x_train", "y_train", "x_test", "y_test"),
)
_ENCRYPTED = 0x1
_END = struct.Struct("<4sHHHHIIH")  # a zip's last record, up to its comment
_NUMBER = r"(?:0|[1-9]\d*)L?"  # with the L of Python 2
_SHAPE = rf"\((?:{_NUMBER}, *(?:{_NUMBER}(?:, *{_NUMBER})*,? *)?)?\)"
_VALUES = {"descr": r"'[^'\\]*'|\[[^\]]*\]", "fortran_order": "True|False", "shape": _SHAPE}
_FIELD = "|".join(f"'{name}': *({value})" for name, value in _VALUES.items())
_HEADER = re.compile(rf"\{{ *(?:{_FIELD}), *(?:{_FIELD}), *(?:{_FIELD}),? *\}} *\n?")
_NUMERIC = re.compile(r"[<>=|]?(?:[biuf]\d\d?|[?bBhHiIlLqQefdg])")
_LONGEST_HEADER = 10_000  # NumPy's own limit
_HUGE = 10**19  # for a number of more digits than Python likes to read; no file is as large


def read(path: Path, max_bytes: int | None = None) -> Dataset:
    """Return the data set in `path`, whose keys are one of the known forms in any case.

    Raises
    ------
    FileFormatError
        If the file is damaged, encrypted, too large unpacked, holds Python objects, or has other keys.
    InputError
        If the arrays do not make a data set.
    """
    with open_regular(path) as file, readable(path), zipfile.ZipFile(file) as archive:
        members = members_of(archive, path)
        keys = next((form for form in _FORMS if set(form) == set(members)), None)
        if keys is None:
            found = one_line(", ".join(sorted(map(_key, members.values()))[:20])) or "none"
            raise FileFormatError(
                f"{path}: found the keys {found}; expected X, y (and X_test, y_test), or x_train, y_train "
                "(and x_test, y_test), or X alone. Save with numpy.savez(path, X=..., y=...)."
            )
        room = Room(max_bytes, path)
        check_sizes(archive, path, room.unpacked())
        X, y, X_test, y_test = ([_array(archive, members[key], path, room) for key in keys] + [None] * 3)[:4]
    assert X is not None
    inputs = as_inputs(X, f"{path}, array {keys[0]!r}", keep_float64=True)
    labels = None if y is None else as_labels(y, len(inputs), f"{path}, array {keys[1]!r}")
    if X_test is None or y_test is None:
        return assemble(path.name, inputs, labels)
    test = as_inputs(X_test, f"{path}, array {keys[2]!r}", keep_float64=True)
    return assemble(path.name, inputs, labels, test, as_labels(y_test, len(test), f"{path}, array {keys[3]!r}"))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into a `FileFormatError` that names it."""
    try:
        yield
    except GpunetError:
        raise
    # NotImplementedError, RuntimeError: zip features that Python lacks; the others: damage.
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        OSError,
        EOFError,
        ValueError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
    ) as exc:
        raise FileFormatError(
            f"{path}: not a whole .npz file ({one_line(exc)}). It is damaged or something else; write it again with "
            "numpy.savez."
        ) from exc


def _check_ends(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse what Python's zipfile passes over: something before or behind the zip, and another number of members."""
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(-min(_END.size + len(archive.comment), path.stat().st_size), os.SEEK_END)
        end = file.read(_END.size)
    signature, _, _, _, count, _, _, comment = _END.unpack(end)
    members = len(archive.infolist())
    if (
        start not in (b"PK\3\4", end[:4])
        or signature != b"PK\5\6"
        or comment != len(archive.comment)
        or count != min(members, 65535)
    ):
        raise FileFormatError(
            f"{path}: not a whole .npz file (its first or last bytes are not a zip's, or it has {members} members "
            f"and says {count}). It is damaged or something else; write it again with numpy.savez."
        )


def members_of(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return an archive's arrays by their keys in lower case."""
    _check_ends(archive, path)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        key = _key(info).lower()
        if key in members:
            raise FileFormatError(
                f"{path}: the key {key!r:.60} is there twice (upper and lower case count as the same); "
                "save each array under one name."
            )
        members[key] = info
    return members


def _key(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def check_sizes(archive: zipfile.ZipFile, path: Path, limit: int) -> None:
    """Compare the sizes in the zip's directory with the limit, before any member is unpacked."""
    for info in archive.infolist():
        if info.flag_bits & _ENCRYPTED:
            raise FileFormatError(f"{path}: {info.filename!r:.60} is encrypted; save it without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileFormatError(
                f"{path}: {info.filename!r:.60} is compressed in a way that NumPy does not use (zip method "
                f"{info.compress_type}); write it again with numpy.savez."
            )
    total = sum(info.file_size for info in archive.infolist())
    if total > limit:
        raise FileFormatError(
            f"{path}: its arrays unpack to {total} bytes, more than the limit of {limit} bytes. If you "
            "trust the file, save it with numpy.savez (uncompressed) or pass a larger max_bytes (--max-bytes)."
        )


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, room: Room) -> NDArray[Any]:
    what = f"{path}, array {_key(info)!r}"
    with archive.open(info) as stream:
        shape, fortran, dtype = read_header(stream, what)
        n_bytes = info.file_size - stream.tell()
        check_claim(shape, dtype.itemsize, n_bytes, what)
        room.take(n_bytes // dtype.itemsize * memory_of(dtype, labels=_key(info).lower().startswith("y")), what)
        return from_bytes(drain(stream, n_bytes), dtype, shape, what, "F" if fortran else "C")


def read_header(stream: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return an array's shape, whether it is in Fortran's order, and its dtype, from the start of an .npy file.

    NumPy's own reader evaluates the header's text, and warns of files that Python 2 wrote.

    Raises
    ------
    FileFormatError
        If it is damaged, or the dtype is no number's.
    """
    start = stream.read(8)
    width = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4}.get(start)
    if width is None:
        raise FileFormatError(
            f"{what}: its .npy header can't be read: it starts with {start.hex(' ') or 'nothing'}, an array of "
            "numbers with 93 4e 55 4d 50 59 and the version 1.0 or 2.0. Write the file again with numpy.savez."
        )
    length = int.from_bytes(stream.read(width), "little")
    text = stream.read(min(length, _LONGEST_HEADER)).decode("latin-1")
    found = _HEADER.fullmatch(text)
    descr, fortran, shape = ([value for value in found.groups()[i::3] if value] if found else [] for i in range(3))
    if len(text) != length or not len(descr) == len(fortran) == len(shape) == 1:
        raise FileFormatError(
            f"{what}: its .npy header can't be read: {one_line(text, 60)!r}. Write the file again with numpy.savez."
        )
    axes = tuple(int(n) if len(n) < 20 else _HUGE for n in re.findall(r"\d+", shape[0]))
    return axes, fortran == ["True"], _dtype(descr[0].strip("'"), what)


def _dtype(descr: str, what: str) -> np.dtype[Any]:
    try:
        if _NUMERIC.fullmatch(descr):
            return np.dtype(descr)
    except TypeError:  # such as f3
        pass
    shown = "object" if descr == "|O" else one_line(descr, 60)
    objects = ", Python objects, which could run code" if "O" in descr else ""
    raise FileFormatError(
        f"{what}: its dtype is {shown}{objects}; expected whole or floating-point numbers. Convert it before saving."
    )
