"""NumPy's .npz: a zip of arrays, read without pickle and without trusting its headers."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from gpunet.datasets.arrays import as_inputs, as_labels, check_claim, from_bytes
from gpunet.datasets.dataset import Dataset, assemble
from gpunet.datasets.stream import drain, open_regular, unpacked_limit
from gpunet.errors import FileFormatError, GpunetError

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
            found = ", ".join(sorted(map(_key, members.values()))[:20]) or "none"
            raise FileFormatError(
                f"{path}: found the keys {found}; expected X, y (and X_test, y_test), or x_train, y_train "
                "(and x_test, y_test), or X alone. Save with numpy.savez(path, X=..., y=...)."
            )
        check_sizes(archive, path, max_bytes)
        X, y, X_test, y_test = ([_array(archive, members[key], path) for key in keys] + [None] * 3)[:4]
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
            f"{path}: not a whole .npz file ({exc}). It is damaged or something else; write it again with "
            "numpy.savez."
        ) from exc


def members_of(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return an archive's arrays by their keys in lower case."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        key = _key(info).lower()
        if key in members:
            raise FileFormatError(
                f"{path}: the key {key!r} is there twice (upper and lower case count as the same); "
                "save each array under one name."
            )
        members[key] = info
    return members


def _key(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def check_sizes(archive: zipfile.ZipFile, path: Path, max_bytes: int | None) -> None:
    """Compare the sizes in the zip's directory with the limit, before any member is unpacked."""
    for info in archive.infolist():
        if info.flag_bits & _ENCRYPTED:
            raise FileFormatError(f"{path}: {info.filename!r} is encrypted; save it without a password.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise FileFormatError(
                f"{path}: {info.filename!r} is compressed in a way that NumPy does not use (zip method "
                f"{info.compress_type}); write it again with numpy.savez."
            )
    limit = unpacked_limit(path.stat().st_size, max_bytes)
    total = sum(info.file_size for info in archive.infolist())
    if total > limit:
        raise FileFormatError(
            f"{path}: its arrays unpack to {total} bytes, more than the limit of {limit} bytes. If you "
            "trust the file, save it with numpy.savez (uncompressed) or pass a larger max_bytes."
        )


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    what = f"{path}, array {_key(info)!r}"
    with archive.open(info) as stream:
        shape, fortran, dtype = read_header(stream, what)
        if dtype.kind not in "biuf":
            objects = ", Python objects, which could run code" if dtype.hasobject else ""
            raise FileFormatError(
                f"{what}: its dtype is {str(dtype)[:60]}{objects}; expected an array of whole or "
                "floating-point numbers. Convert it before saving."
            )
        n_bytes = info.file_size - stream.tell()
        check_claim(shape, dtype.itemsize, n_bytes, what)
        return from_bytes(drain(stream, n_bytes), dtype, shape, what, "F" if fortran else "C")


def read_header(stream: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read what comes before an array's values: its shape, whether it is in Fortran's order, its dtype."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        version = npy.read_magic(stream)
        if version not in readers:
            raise ValueError(f"version {version} is not for numbers")
        shape, fortran, dtype = readers[version](stream)
    except Exception as exc:  # NumPy evaluates the header's text: a hostile one can raise anything
        raise FileFormatError(
            f"{what}: its .npy header can't be read ({exc}); write the file again with numpy.savez."
        ) from exc
    return shape, bool(fortran), dtype
