"""The data that the commands work on: with a test part for training, with labels numbered as a model numbers them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import datasets
from gpunet.cli import runs, tables
from gpunet.cli.examples import ForModel, TrainingData, split, split_validation
from gpunet.cli.runs import Run, UsageError
from gpunet.datasets import Dataset, Table
from gpunet.datasets.columns import some
from gpunet.datasets.loading import TABLES
from gpunet.encodings import Numbers
from gpunet.errors import FileFormatError, InputError
from gpunet.network import Network
from gpunet.preprocessing import Preprocessing
from gpunet.training import metrics

_BOOK_TRAINING = 50_000  # the book trains on the first 50,000 of MNIST's 60,000


def is_table(path: Path | None) -> bool:
    """Whether a path is that of a table, by its name."""
    return path is not None and path.name.lower().endswith(TABLES)


def to_train(run: Run, seed: int) -> TrainingData:
    """Return labelled data with a test part: the run's file `test`, the data's own, or a share split off."""
    data = None if run.data is None else Path(run.data)
    if is_table(data):
        assert data is not None
        return tables.to_train(run, data, seed)
    wrong = next((name for name in ("drop", "categorical") if getattr(run, name)), None)
    wrong = wrong or next(
        (n for n, usual in (("task", "auto"), ("missing", "error")) if getattr(run, n) != usual), None
    )
    if wrong is not None:
        raise UsageError(
            f"--{wrong} is for tables ({', '.join(TABLES)}), but DATA is {data or 'MNIST'}; leave it out."
        )
    dataset = _of_arrays(run, data, seed)
    assert dataset.y is not None
    assert dataset.X_test is not None
    assert dataset.y_test is not None
    is_tested_apart, share = dataset.X_test is not dataset.X, runs.validation_share(run)
    X, y, X_validation, y_validation = dataset.X, dataset.y, dataset.X_test, dataset.y_test
    if share:
        kept, held = split_validation(dataset.name, len(X), y, share, seed)
        X, y, X_validation, y_validation = X[kept], y[kept], X[held], y[held]
    return TrainingData(
        dataset.name,
        X,
        y,
        X_validation,
        y_validation,
        dataset.X_test if is_tested_apart else X,
        dataset.y_test if is_tested_apart else y,
        "classification",
        max(dataset.n_classes, 2),
        dataset.classes,
        None if dataset.input_scale == 1.0 else dataset.input_scale,
        dataset.target,
        dataset.features,
    )


def sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file, None for a folder."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_of_the_training(network: Network, data: Path) -> bool:
    """Whether this is the file that the model was trained on, so that a score of it says too much."""
    run = network.metadata.get("run")
    known = run.get("data_sha256") if isinstance(run, dict) else None
    return known is not None and known == sha256(data)


def note_other_data(run: Run) -> str | None:
    """Return the SHA-256 of the run's data; warn if the run was of other data."""
    found = None if run.data is None else sha256(Path(run.data))
    if run.data_sha256 is not None and found != run.data_sha256:
        warnings.warn(
            f"{run.data} is not the file that the configuration was made with: its SHA-256 is {found}, expected "
            f"{run.data_sha256}. The results will be others.",
            stacklevel=2,
        )
    return found


def for_model(
    network: Network,
    data: Path | None,
    target: str | None,
    *,
    with_labels: bool,
    keep: Sequence[str] = (),
    max_bytes: int | None = None,
) -> ForModel:
    """Return the data's test part, or all where it has none, as the model takes it."""
    prepared = Preprocessing.of_model(network.metadata, network.sizes)
    if prepared is not None and is_table(data):
        assert data is not None
        return tables.for_model(
            network, prepared, data, target, with_labels=with_labels, keep=keep, max_bytes=max_bytes
        )
    if keep:
        raise UsageError("--keep is for tables and models that were trained on one; leave it out.")
    if prepared is None:
        return _arrays_for_model(network, data, target, with_labels, max_bytes)
    return _matrix_for_table_model(network, prepared, data, target, with_labels, max_bytes)


def _matrix_for_table_model(
    network: Network,
    prepared: Preprocessing,
    data: Path | None,
    target: str | None,
    with_labels: bool,
    max_bytes: int | None,
) -> ForModel:
    """Take columns without names as those of the table that the model was trained on, in their order."""
    dataset = datasets.mnist() if data is None else datasets.load(data, target=target, max_bytes=max_bytes)
    X, y = (dataset.X, dataset.y) if dataset.X_test is None else (dataset.X_test, dataset.y_test)
    if X.shape[1] != len(prepared.columns) or not all(isinstance(c, Numbers) for c in prepared.columns):
        raise InputError(
            f"{dataset.name} has {X.shape[1]} inputs an example without names, but the model was trained on a table "
            f"with the columns {some([c.name for c in prepared.columns])}; give it a table ({', '.join(TABLES)})."
        )
    table = Table(dataset.name, {c.name: X[:, i].astype(np.float64) for i, c in enumerate(prepared.columns)})
    if with_labels and network.task != "classification":
        raise InputError(f"{dataset.name} has labels, but the model predicts numbers; give it a table.")
    numbered = None
    if with_labels and y is not None:
        numbered = _numbered_as(class_names(network), dataclasses.replace(dataset, X=X, y=y))
    return ForModel(dataset.name, prepared.inputs(table, network.dtype), numbered)


# -- Arrays ------------------------------------------------------------------------------------------------------


def _of_arrays(run: Run, data: Path | None, seed: int) -> Dataset:
    dataset = _book_mnist() if data is None else datasets.load(data, target=run.target, max_bytes=run.max_bytes)
    if dataset.y is None:
        raise InputError(f"{dataset.name} has no labels to learn; train on data that has them.")
    dataset = _without_gaps(dataset)
    if dataset.n_classes < 2:
        raise InputError(f"{dataset.name} has one class only; there is nothing to tell apart.")
    if dataset.n_classes > max(10, len(dataset.X) // 4):
        raise InputError(
            f"{dataset.name} has {dataset.n_classes} classes for {len(dataset.X)} examples. If the target is a "
            "number to predict, save the data as a table, or train from Python: "
            "Network(..., output_activation='linear').fit(X, y)."
        )
    assert dataset.y is not None
    if run.test is not None:
        other = datasets.load(run.test, max_bytes=run.max_bytes)
        if other.y is None:
            raise InputError(f"{other.name} has no labels to test with; test on data that has them.")
        if other.X.shape[1] != dataset.X.shape[1] or (other.X.dtype == np.uint8) != (dataset.X.dtype == np.uint8):
            raise InputError(
                f"{other.name} has {other.X.shape[1]} inputs an example of {other.X.dtype}, {dataset.name} has "
                f"{dataset.X.shape[1]} of {dataset.X.dtype}; test on data of the same form."
            )
        names = dataset.classes or tuple(map(str, range(dataset.n_classes)))
        return dataclasses.replace(dataset, X_test=other.X, y_test=_numbered_as(names, other))
    if dataset.X_test is not None and dataset.y_test is not None:
        return dataset
    kept, tested = split(len(dataset.X), dataset.y, run.holdout, seed)
    if len(kept) == len(dataset.X):
        return dataclasses.replace(dataset, X_test=dataset.X, y_test=dataset.y)
    X, y = dataset.X, dataset.y
    return dataclasses.replace(dataset, X=X[kept], y=y[kept], X_test=X[tested], y_test=y[tested])


def _arrays_for_model(
    network: Network, data: Path | None, target: str | None, with_labels: bool, max_bytes: int | None
) -> ForModel:
    if with_labels and network.task != "classification":
        raise InputError("this model is for regression: it predicts numbers. Network.score in Python tells how well.")
    dataset, X = _checked_for_model(network, data, target, max_bytes)
    y = dataset.y if dataset.X_test is None else dataset.y_test
    if with_labels and y is None:
        raise InputError(f"{data} has no labels to compare with; name their column with --target, or use predict.")
    if with_labels:
        y = _numbered_as(class_names(network), dataclasses.replace(dataset, X=X, y=y))
    return ForModel(dataset.name, X, y if with_labels else None)


def _checked_for_model(
    network: Network, data: Path | None, target: str | None, max_bytes: int | None
) -> tuple[Dataset, npt.NDArray[Any]]:
    """Return the data and the inputs to use, in the form that the model was trained on."""
    dataset = datasets.mnist() if data is None else _load(network, data, target, max_bytes)
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


def _load(network: Network, data: Path, target: str | None, max_bytes: int | None) -> Dataset:
    """Read the data; a table that has the column that the model was trained to tell has it as its target."""
    trained_on = network.metadata.get("target")
    if target is None and isinstance(trained_on, str) and is_table(data):
        with contextlib.suppress(InputError):  # no such column, or it holds no labels here
            dataset = datasets.load(data, target=trained_on, max_bytes=max_bytes)
            if dataset.X.shape[1] == network.sizes[0]:
                return dataset
    return datasets.load(data, target=target, max_bytes=max_bytes)


# -- Labels ------------------------------------------------------------------------------------------------------


def class_names(network: Network) -> list[str]:
    """Return the names of a network's classes, by index: those in its metadata, or the numbers."""
    n_classes = max(network.sizes[-1], 2)
    names = network.metadata.get("classes")
    if names is None:
        return [str(i) for i in range(n_classes)]
    if not isinstance(names, list) or len(names) != n_classes or not all(isinstance(n, str) for n in names):
        raise FileFormatError(f"the model's class names do not fit its {n_classes} classes; the file is damaged.")
    return names


def measured(network: Network, prepared: Preprocessing | None, X: npt.NDArray[Any], y: Any) -> dict[str, float]:
    """Return how good a network is on X and y: of classes, or of numbers in the target's own unit."""
    outputs = network.outputs(X)
    if network.task == "classification":
        return metrics.of_classes(outputs, y)
    if prepared is None:
        return metrics.of_numbers(outputs, y)
    return metrics.of_numbers(prepared.predictions(outputs), prepared.predictions(y))


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
