"""The data that the commands work on: with a test part for training, with labels numbered as a model numbers them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import datasets
from gpunet.datasets import Dataset
from gpunet.errors import FileFormatError, InputError
from gpunet.network import Network

_BOOK_TRAINING = 50_000  # the book trains on the first 50,000 of MNIST's 60,000


def to_train(data: Path | None, target: str | None, test: Path | None, holdout: float, seed: int) -> Dataset:
    """Return labelled data with a test part: the file `test`, the data's own, or a share split off."""
    dataset = _book_mnist() if data is None else datasets.load(data, target=target)
    if dataset.y is None:
        raise InputError(f"{dataset.name} has no labels to learn; name their column with --target.")
    if dataset.n_classes < 2:
        raise InputError(f"{dataset.name} has one class only; there is nothing to tell apart.")
    if dataset.n_classes > max(2, len(dataset.X) // 2):
        raise InputError(
            f"{dataset.name} has {dataset.n_classes} classes for {len(dataset.X)} examples. If the target is a "
            "number to predict, train from Python: Network(..., output_activation='linear').fit(X, y)."
        )
    if test is not None:
        other = datasets.load(test, target=target)
        if other.y is None:
            raise InputError(f"{other.name} has no labels to test with; name their column with --target.")
        if other.X.shape[1] != dataset.X.shape[1] or (other.X.dtype == np.uint8) != (dataset.X.dtype == np.uint8):
            raise InputError(
                f"{other.name} has {other.X.shape[1]} inputs an example of {other.X.dtype}, {dataset.name} has "
                f"{dataset.X.shape[1]} of {dataset.X.dtype}; test on data of the same form."
            )
        names = dataset.classes or tuple(map(str, range(dataset.n_classes)))
        return dataclasses.replace(dataset, X_test=other.X, y_test=_numbered_as(names, other))
    if dataset.X_test is not None and dataset.y_test is not None:
        return dataset
    return _split(dataset, dataset.y, round(len(dataset.X) * holdout), seed)


def to_test(network: Network, data: Path | None, target: str | None) -> tuple[npt.NDArray[Any], Any]:
    """Return (X, labels or None) of the data's test part, or of all where it has none."""
    if network.task != "classification":
        raise InputError("this model is for regression: it predicts numbers. Network.score in Python tells how well.")
    dataset, X = _for_model(network, data, target)
    y = dataset.y if dataset.X_test is None else dataset.y_test
    return X, None if y is None else _numbered_as(class_names(network), dataclasses.replace(dataset, X=X, y=y))


def to_predict(network: Network, data: Path, target: str | None) -> npt.NDArray[Any]:
    """Return the inputs of the data's test part, or of all where it has none; labels are left out."""
    return _for_model(network, data, target)[1]


def _for_model(network: Network, data: Path | None, target: str | None) -> tuple[Dataset, npt.NDArray[Any]]:
    """Return the data and the inputs to use; a CSV column that the model was trained to tell is its target."""
    dataset = datasets.mnist() if data is None else _load(data, target, network.metadata.get("target"))
    X = dataset.X if dataset.X_test is None else dataset.X_test
    if X.shape[1] != network.sizes[0]:
        raise InputError(
            f"{dataset.name} has {X.shape[1]} inputs an example, the model takes {network.sizes[0]}. If one column "
            "holds the labels, name it with --target."
        )
    return dataset, X


def _load(data: Path, target: str | None, trained_on: Any) -> Dataset:
    if target is None and isinstance(trained_on, str) and ".csv" in data.suffixes:
        try:
            return datasets.load(data, target=trained_on)
        except InputError:  # there is no such column
            pass
    return datasets.load(data, target=target)


def class_names(network: Network) -> list[str]:
    """Return the names of a network's classes, by index: those in its metadata, or the numbers."""
    n_classes = max(network.sizes[-1], 2)
    names = network.metadata.get("classes")
    if names is None:
        return [str(i) for i in range(n_classes)]
    if not isinstance(names, list) or len(names) != n_classes or not all(isinstance(n, str) for n in names):
        raise FileFormatError(f"the model's class names do not fit its {n_classes} classes; the file is damaged.")
    return names


def _book_mnist() -> Dataset:
    full = datasets.mnist()
    assert full.y is not None
    return dataclasses.replace(full, X=full.X[:_BOOK_TRAINING], y=full.y[:_BOOK_TRAINING])


def _split(dataset: Dataset, y: npt.NDArray[np.int64], n_test: int, seed: int) -> Dataset:
    """Return the data with `n_test` examples, drawn at random, as its test part; with 0, it is tested on itself."""
    X = dataset.X
    if n_test == 0 or n_test == len(X):
        return dataclasses.replace(dataset, X_test=X, y_test=y)
    order = np.random.default_rng(seed).permutation(len(X))
    test, kept = np.sort(order[:n_test]), np.sort(order[n_test:])
    return dataclasses.replace(dataset, X=X[kept], y=y[kept], X_test=X[test], y_test=y[test])


def _numbered_as(names: Sequence[str], dataset: Dataset) -> npt.NDArray[np.int64]:
    """Return the data's labels as indices into `names`: another file may number the same labels otherwise."""
    assert dataset.y is not None
    own = dataset.classes or tuple(map(str, range(dataset.n_classes)))
    index = {name: i for i, name in enumerate(names)}
    for i in np.unique(dataset.y):
        if own[i] not in index:
            known = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
            raise InputError(f"{dataset.name} has the label {own[i]!r}, but the labels known are {known}.")
    return np.array([index.get(name, -1) for name in own])[dataset.y]
