"""The data that the commands work on: with a test part for training, with labels numbered as a model numbers them."""

from __future__ import annotations

import contextlib
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
    dataset = _without_gaps(dataset)
    if dataset.n_classes < 2:
        raise InputError(f"{dataset.name} has one class only; there is nothing to tell apart.")
    if dataset.n_classes > max(10, len(dataset.X) // 4):
        raise InputError(
            f"{dataset.name} has {dataset.n_classes} classes for {len(dataset.X)} examples. If the target is a "
            "number to predict, train from Python: Network(..., output_activation='linear').fit(X, y)."
        )
    assert dataset.y is not None
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
    """Return the data and the inputs to use, in the form that the model was trained on."""
    dataset = datasets.mnist() if data is None else _load(network, data, target)
    X = dataset.X if dataset.X_test is None else dataset.X_test
    if X.shape[1] != network.sizes[0]:
        raise InputError(
            f"{dataset.name} has {X.shape[1]} inputs an example, the model takes {network.sizes[0]}. If one column "
            "holds the labels, name it with --target."
        )
    if (dataset.input_scale == 1.0) != (network.input_scale == 1.0):
        raise InputError(
            f"{dataset.name} has inputs of {X.dtype}, but the model was trained on inputs that are multiplied by "
            f"{network.input_scale:g}; give it data of the same form (uint8 pixels, or numbers already scaled)."
        )
    trained_on = network.metadata.get("features")
    if trained_on and dataset.features and list(dataset.features) != trained_on:
        if sorted(dataset.features) != sorted(trained_on):
            odd = sorted(set(trained_on) ^ set(dataset.features))
            raise InputError(
                f"{dataset.name} has other columns than the model was trained on; they differ in "
                f"{', '.join(map(repr, odd[:6]))}."
            )
        X = X[:, [dataset.features.index(name) for name in trained_on]]
    return dataset, X


def _load(network: Network, data: Path, target: str | None) -> Dataset:
    """Read the data; a CSV that has the column that the model was trained to tell has it as its target."""
    trained_on = network.metadata.get("target")
    if target is None and isinstance(trained_on, str) and ".csv" in data.suffixes:
        with contextlib.suppress(InputError):  # no such column, or it holds no labels here
            dataset = datasets.load(data, target=trained_on)
            if dataset.X.shape[1] == network.sizes[0]:
                return dataset
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


def _without_gaps(dataset: Dataset) -> Dataset:
    """Return the data with its labels numbered from 0 without gaps, the numbers that they were as their names."""
    assert dataset.y is not None
    present, y = np.unique(dataset.y, return_inverse=True)
    if dataset.classes is not None or len(present) == dataset.n_classes:
        return dataset
    known = dataclasses.replace(dataset, y=y, classes=tuple(map(str, present)), y_test=None)
    if dataset.y_test is None or dataset.X_test is None:
        return known
    y_test = _numbered_as(known.classes or (), dataclasses.replace(dataset, y=dataset.y_test, y_test=None))
    return dataclasses.replace(known, y_test=y_test)


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
