"""`load`: from a path to a `Dataset`, by what the path is."""

from __future__ import annotations

import numbers
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gpunet.checks import positive_int
from gpunet.datasets import idx
from gpunet.datasets.arrays import as_inputs, as_labels, memory_of
from gpunet.datasets.book import as_path, read_book
from gpunet.datasets.columns import Table
from gpunet.datasets.dataset import Dataset, assemble
from gpunet.datasets.stream import Room, first_bytes
from gpunet.errors import FileFormatError, InputError

_IDX_NAME = re.compile(r"(ubyte|idx\d*)$")
_KINDS = (
    "a folder of MNIST's idx files, one idx images file, .npz, .csv, .csv.gz, .parquet, .pkl or .pkl.gz (the book's "
    "mnist.pkl)"
)
#: How the names of files end that hold a table.
TABLES = (".csv", ".csv.gz", ".parquet")


def load(path: str | os.PathLike[str], *, target: str | int | None = None, max_bytes: int | None = None) -> Dataset:
    """Read a data set from a file or folder of your own.

    Parameters
    ----------
    path : path
        One of:

        - a folder with `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, and `t10k-...` if there
          is a test part (also named `train-images.idx3-ubyte`, also `.gz`);
        - one idx images file; its labels are looked for beside it, under its name with `labels` for
          `images` and `idx1` for `idx3`;
        - `.npz` with the keys `X, y`, `X, y, X_test, y_test` or `x_train, y_train[, x_test, y_test]` in
          any case; `X` or `x_train` alone is unlabelled;
        - `.csv` or `.csv.gz`, comma-separated UTF-8 with an optional header. The first row is a header
          if some cell of it is not a number, unless that is only the label at a `target` given by
          number, and a later row has the same label;
        - `.parquet` (needs the extra `parquet`) of columns of numbers, and labels that are numbers or text;
        - `.pkl` or `.pkl.gz` in the form of the book's `mnist.pkl.gz`: its training part becomes
          `X, y`, its test part `X_test, y_test`; its validation part is left out (`load_data` keeps it).
    target : str or int, optional
        The table's column of labels, by name or by number from 0 (negative: from the end). Without it a
        column called label, target, y or class is taken; if there is none, all columns are inputs.
    max_bytes : int, optional
        How many bytes a compressed file may unpack to. Without it, reading takes at most 64 MiB and ten times the
        size of the files, and what would take more is refused: a small file can unpack to any size.

    Returns
    -------
    Dataset
        uint8 inputs stay uint8, with `input_scale` 1/256. Floats become float32, but float64 stays
        in `.npz`. Other whole numbers become float32 where that is exact, else float64.

    Raises
    ------
    FileFormatError
        If the path can't be read as any of these.
    InputError
        If an argument is wrong, or the data is: not finite, labels not whole, counts that differ, ...
    """
    file = as_path(path)
    if isinstance(target, numbers.Integral) and not isinstance(target, bool):
        target = int(target)  # NumPy's too
    elif target is not None and not isinstance(target, str):
        raise InputError(f"target must be a column's name or number, got {target!r}.")
    if max_bytes is not None:
        max_bytes = positive_int(max_bytes, "max_bytes")
    stem = file.name.lower().removesuffix(".gz")
    if stem.endswith(".csv"):
        from gpunet.datasets import table  # each reader is imported when it is needed: some are slow

        return table.read(file, target, max_bytes)
    if stem.endswith(".parquet"):
        from gpunet.datasets import parquet

        return parquet.read(file, target, max_bytes)
    if target is not None:
        raise InputError(f"target={target!r} names a column of a .csv file, but {file} is none; leave it out.")
    if os.path.isdir(file):
        return _idx_folder(file, max_bytes)
    if file.name.lower().endswith(".npz"):
        from gpunet.datasets import npz

        return npz.read(file, max_bytes)
    if stem.endswith(".pkl"):
        (X, y), _, (X_test, y_test) = read_book(file, max_bytes)
        return assemble(file.name, X, y, X_test, y_test)
    if _IDX_NAME.search(stem) or idx.is_idx(first_bytes(file, 4)):
        return _idx_file(file, max_bytes)
    raise FileFormatError(f"{file}: of no kind that can be read. Expected {_KINDS}.")


def read_table(
    path: str | os.PathLike[str],
    *,
    target: str | int | None = None,
    as_text: Collection[str] = (),
    max_bytes: int | None = None,
) -> Table:
    """Read a table with numbers and text.

    Parameters
    ----------
    path : path
        ``.csv`` or ``.csv.gz``, comma-separated UTF-8, or ``.parquet`` (needs the extra ``parquet``). The first
        row of a CSV is its header if some cell of it is not a number.
    target : str or int, optional
        The column of the labels of a CSV, which says more on its header: where the first row's only text is the label
        at a `target` given by number, and a later row has it too, there is none.
    as_text : collection of str
        Columns whose values stay text even where all of them are numbers, such as "007".
    max_bytes : int, optional
        How many bytes a compressed file may unpack to, see `load`.

    Returns
    -------
    Table

    Raises
    ------
    FileFormatError
        If the file can't be read as a table.
    InputError
        If two columns have one name, or an argument is wrong.
    """
    file = as_path(path)
    limit = None if max_bytes is None else positive_int(max_bytes, "max_bytes")
    if file.name.lower().endswith((".csv", ".csv.gz")):
        from gpunet.datasets import table

        return table.read_columns(file, target, as_text, limit)
    if file.name.lower().endswith(".parquet"):
        from gpunet.datasets import parquet

        return parquet.read_columns(file, as_text, limit)
    raise FileFormatError(f"{file}: not known as a table. Expected a name that ends in {', '.join(TABLES)}.")


def _idx_folder(folder: Path, max_bytes: int | None) -> Dataset:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as exc:
        raise FileFormatError(f"{folder}: the folder can't be listed ({exc.strerror}).") from exc
    found = {(part, what): _first(names, part, what) for part in ("train", "t10k") for what in ("images", "labels")}
    missing = [_usual_name(*key) for key, name in found.items() if name is None]
    has_test = found["t10k", "images"] is not None or found["t10k", "labels"] is not None
    if not has_test:
        missing = [name for name in missing if name.startswith("train")]
    if missing:
        there = ", ".join(names[:10]) + (f", ... ({len(names)} in all)" if len(names) > 10 else "")
        raise FileFormatError(
            f"{folder}: {' and '.join(missing)} (or .gz) missing; found {there or 'nothing'}. Expected "
            "MNIST's file names, images and labels of each part."
        )
    paths = {key: folder / name for key, name in found.items() if name is not None}
    room = Room(max_bytes, *paths.values())
    X, y = _examples(paths["train", "images"], paths["train", "labels"], room)
    if not has_test:
        return assemble(folder.name, X, y)
    test = _examples(paths["t10k", "images"], paths["t10k", "labels"], room)
    return assemble(folder.name, X, y, *test)


def _usual_name(part: str, what: str) -> str:
    return f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte"


def _first(names: list[str], part: str, what: str) -> str | None:
    usual = _usual_name(part, what)
    dotted = usual.replace("-idx", ".idx")
    return next((n for n in (usual, dotted, f"{usual}.gz", f"{dotted}.gz") if n in names), None)


def _idx_file(path: Path, max_bytes: int | None) -> Dataset:
    labels = _labels_beside(path)
    room = Room(max_bytes, path) if labels is None else Room(max_bytes, path, labels)
    return assemble(path.name, *_examples(path, labels, room))


def _labels_beside(path: Path) -> Path | None:
    """Find the labels of an images file by its name; either may be gzip."""
    name = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    plain = name.removesuffix(".gz")
    beside = (path.with_name(n) for n in (name, plain, f"{plain}.gz"))
    return next((p for p in beside if os.path.isfile(p)), None) if "images" in path.name else None


def _examples(images: Path, labels: Path | None, room: Room) -> tuple[NDArray[Any], Any]:
    values = _read_idx(images, room)
    if values.ndim == 1:
        raise InputError(
            f"{images}: holds {len(values)} single values, as a labels file does; expected images, 2 axes or "
            "more. Give the images file, its labels are found beside it."
        )
    X = as_inputs(values, str(images))
    return X, None if labels is None else as_labels(_read_idx(labels, room, labels=True), len(X), str(labels))


def _read_idx(path: Path, room: Room, *, labels: bool = False) -> NDArray[Any]:
    values = idx.read(path, room.unpacked(2))  # idx puts wide values, which are the wrong way round, right
    room.take(values.size * memory_of(values.dtype, labels=labels), str(path))
    return values
