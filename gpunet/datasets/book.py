"""The book's `mnist_loader`: the same three functions, the same forms."""

from __future__ import annotations

import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.arrays import as_inputs, as_labels, memory_of
from gpunet.datasets.bundled import mnist_part
from gpunet.datasets.dataset import PIXEL_SCALE
from gpunet.datasets.stream import Room, read_file
from gpunet.errors import InputError

Part = tuple[NDArray[Any], NDArray[np.int64]]
TrainingPair = tuple[NDArray[np.float32], NDArray[np.float64]]
TestPair = tuple[NDArray[np.float32], int]

_N_PIXELS = 784
_N_DIGITS = 10
_N_TRAINING = 50_000  # the book keeps the last 10,000 of MNIST's 60,000 for validation


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Part, Part, Part]:
    """Return MNIST as the book's `load_data` does.

    Parameters
    ----------
    path : path, optional
        The book's `mnist.pkl.gz` (or the unpacked `mnist.pkl`); without it, the bundled MNIST.

    Returns
    -------
    training_data, validation_data, test_data : tuple of (images, labels)
        Images (N, 784) float32 = pixel / 256 and labels (N,) int64; N is 50,000, 10,000 and 10,000.

    Raises
    ------
    FileFormatError
        If the file can't be read as the book's.
    InputError
        If its images are not of 784 pixels or its labels not digits.
    """
    if path is None:
        return _bundled()
    training, validation, test = read_book(as_path(path))
    return _digits(training, path), _digits(validation, path), _digits(test, path)


def load_data_wrapper(
    path: str | os.PathLike[str] | None = None,
) -> tuple[list[TrainingPair], list[TestPair], list[TestPair]]:
    """Return MNIST in the form that the book's networks train on.

    Parameters
    ----------
    path : path, optional
        The book's `mnist.pkl.gz` (or the unpacked `mnist.pkl`); without it, the bundled MNIST.

    Returns
    -------
    training_data : list of 50,000 (x, y)
        x (784, 1) float32 = pixel / 256, y (10, 1) float64, 1 at the digit and 0 elsewhere.
    validation_data, test_data : list of 10,000 (x, label)
        x as above, label an int.

    Raises
    ------
    FileFormatError
        If the file can't be read as the book's.
    InputError
        If its images are not of 784 pixels or its labels not digits.
    """
    training, validation, test = load_data(path)
    one_hot = np.eye(_N_DIGITS)[training[1]].reshape(-1, _N_DIGITS, 1)
    return list(zip(_columns(training), one_hot, strict=True)), _test_pairs(validation), _test_pairs(test)


def vectorized_result(j: int) -> NDArray[np.float64]:
    """Return a (10, 1) float64 column with 1 at row `j`, a digit, and 0 elsewhere.

    Raises
    ------
    InputError
        If `j` is not a whole number from 0 to 9.
    """
    if isinstance(j, bool) or not isinstance(j, numbers.Integral) or not 0 <= j < _N_DIGITS:
        raise InputError(f"j must be a digit, a whole number from 0 to {_N_DIGITS - 1}, got {j!r}.")
    column = np.zeros((_N_DIGITS, 1))
    column[int(j)] = 1.0
    return column


def read_book(path: Path, max_bytes: int | None = None) -> tuple[Part, Part, Part]:
    """Return the three parts of a pickle in the book's form, checked.

    Raises
    ------
    FileFormatError
        If it can't be read as such, or asks for more than arrays of numbers.
    InputError
        If inputs are not finite, or labels not whole numbers >= 0, one per input.
    """
    from gpunet.datasets.book_pickle import read_parts  # pickletools is slow to import

    room = Room(max_bytes, path)
    raw = read_file(path, room.unpacked())
    room.take(len(raw), str(path))
    parts = read_parts(raw, str(path), room)
    del raw
    names = ("training", "validation", "test")
    training, validation, test = (
        _checked(images, labels, f"{path}, {name} part", room)
        for name, (images, labels) in zip(names, parts, strict=True)
    )
    return training, validation, test


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a `Path`, or raise `InputError` if it is none."""
    try:
        return Path(path)
    except TypeError:
        raise InputError(f"path must be a str or a Path, got {type(path).__name__}.") from None


def _checked(images: NDArray[Any], labels: NDArray[Any], what: str, room: Room) -> Part:
    if not (images.flags.c_contiguous and images.dtype in (np.uint8, np.float32)):
        room.take(images.size * memory_of(images.dtype), what)
    room.take(labels.size * memory_of(labels.dtype, labels=True), what)
    X = as_inputs(images, what)
    return X, as_labels(labels, len(X), what)


def _bundled() -> tuple[Part, Part, Part]:
    (X, y), (X_test, y_test) = (_scaled(mnist_part(part)) for part in ("train", "t10k"))
    n = _N_TRAINING
    return (X[:n], y[:n]), (X[n:], y[n:]), (X_test, y_test)


def _digits(part: Part, path: str | os.PathLike[str]) -> Part:
    images, labels = part
    if images.shape[1] != _N_PIXELS or labels.max() >= _N_DIGITS:
        raise InputError(
            f"{path}: images of {images.shape[1]} values with labels up to {labels.max()}; expected the "
            f"book's digits, {_N_PIXELS} pixels and labels up to {_N_DIGITS - 1}. For other data use "
            "gpunet.datasets.load."
        )
    return _scaled(part)


def _scaled(part: Part) -> Part:
    images, labels = part
    return (images * np.float32(PIXEL_SCALE) if images.dtype == np.uint8 else images), labels


def _columns(part: Part) -> NDArray[np.float32]:
    return part[0].reshape(-1, _N_PIXELS, 1)


def _test_pairs(part: Part) -> list[TestPair]:
    return list(zip(_columns(part), part[1].tolist(), strict=True))
