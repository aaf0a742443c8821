"""The data that the commands work on: with a test part for training, with labels numbered as a model numbers them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import datasets, preprocessing
from gpunet.datasets import Dataset, Table
from gpunet.datasets.columns import find_target, is_missing, some
from gpunet.datasets.loading import TABLES
from gpunet.encodings import Classes, Numbers, as_labels
from gpunet.errors import FileFormatError, InputError
from gpunet.network import Network
from gpunet.preprocessing import Preprocessing
from gpunet.runs import Run, UsageError
from gpunet.training import metrics

_BOOK_TRAINING = 50_000  # the book trains on the first 50,000 of MNIST's 60,000


@dataclass(frozen=True)
class TrainingData:
    """Data to train on, with a test part.

    Attributes
    ----------
    name : str
    X, X_test : arrays of shape (examples, n_in)
    y, y_test : arrays
        Class indices (examples,), or numbers (examples, 1).
    task : {"classification", "regression"}
    n_out : int
        How many outputs they ask for.
    classes : tuple of str or None
        The labels' names where they are not their indices.
    input_scale : float or None
        As `Network` takes it.
    target, features
        The columns' names, where there are any.
    preprocessing : Preprocessing or None
        What made the inputs, of a table.
    about : str
        What is to be said of them.
    """

    name: str
    X: npt.NDArray[Any]
    y: npt.NDArray[Any]
    X_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]
    task: str
    n_out: int
    classes: tuple[str, ...] | None = None
    input_scale: float | None = None
    target: str | None = None
    features: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    about: str = ""


def is_table(path: Path | None) -> bool:
    """Whether a path is that of a table, by its name."""
    return path is not None and path.name.lower().endswith(TABLES)


def to_train(run: Run, seed: int) -> TrainingData:
    """Return labelled data with a test part: the run's file `test`, the data's own, or a share split off."""
    data = None if run.data is None else Path(run.data)
    if is_table(data):
        assert data is not None
        return _of_table(run, data, seed)
    wrong = next((name for name in ("drop", "categorical") if getattr(run, name)), None)
    wrong = wrong or next((n for n, usual in (("task", "auto"), ("missing", "error")) if getattr(run, n) != usual), None)
    if wrong is not None:
        raise UsageError(f"--{wrong} is for tables ({', '.join(TABLES)}), but DATA is {data or 'MNIST'}; leave it out.")
    dataset = _of_arrays(run, data, seed)
    assert dataset.y is not None and dataset.X_test is not None and dataset.y_test is not None
    return TrainingData(
        dataset.name,
        dataset.X,
        dataset.y,
        dataset.X_test,
        dataset.y_test,
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


# -- Tables ------------------------------------------------------------------------------------------------------


def _of_table(run: Run, data: Path, seed: int) -> TrainingData:
    table = datasets.read_table(data, as_text=_as_text(run))
    target = _target(run, table)
    task, why = preprocessing.task_of(table, target, run.task)
    if table.n_rows < 2:
        raise InputError(f"{table.name} has one row only; at least two are needed to learn anything.")
    rows = np.arange(table.n_rows)
    kept, tested = rows, rows
    if run.test is None:
        labels = as_labels(table, target) if task == "classification" else None
        kept, tested = _split(table.n_rows, labels, run.holdout, seed)
    prepared = Preprocessing.fit(
        table,
        target,
        task=task,
        categorical=run.categorical,
        drop=run.drop,
        missing=run.missing,
        rows=kept,
    )
    X, y = prepared.inputs(table, run.dtype), prepared.targets(table, run.dtype)
    X_test, y_test = X[tested], y[tested]
    if run.test is not None:
        other = datasets.read_table(Path(run.test), as_text=_as_text(run))
        X_test, y_test = prepared.inputs(other, run.dtype), prepared.targets(other, run.dtype)
    return TrainingData(
        table.name,
        X[kept] if len(kept) < len(X) else X,
        y[kept],
        X_test,
        y_test,
        task,
        prepared.n_out,
        prepared.target.classes if isinstance(prepared.target, Classes) else None,
        1.0,  # says that the inputs are as they should be
        target,
        tuple(column.name for column in prepared.columns),
        prepared,
        _about(table, prepared, why),
    )


def _as_text(run: Run) -> tuple[str, ...]:
    """Return the columns of kinds, whose numbers are names: "007" stays so."""
    return run.categorical


def _target(run: Run, table: Table) -> str:
    names = list(table)
    column = find_target(table.name, names if table.has_header else None, len(names), run.target)
    if column is None:
        first = "" if table.has_header else " It has no header: columns go by their numbers from 0."
        raise InputError(
            f"{table.name} has no labels to learn; name their column with --target.{first} Its columns: {some(names)}."
        )
    if len(names) == 1:
        raise InputError(f"{table.name}: its one column is the target; expected feature columns beside it.")
    return names[column]


def _about(table: Table, prepared: Preprocessing, why: str) -> str:
    """Tell what was made of a table."""
    numbers = [column for column in prepared.columns if isinstance(column, Numbers)]
    kinds = [column for column in prepared.columns if not isinstance(column, Numbers)]
    parts = []
    if numbers:
        parts.append(f"{len(numbers)} column(s) of numbers, standardised")
    if kinds:
        parts.append(f"{len(kinds)} of text, one-hot in {sum(len(c.inputs) for c in kinds)} inputs")
    constant = [c.name for c in numbers if np.nanmin(table[c.name]) == np.nanmax(table[c.name])]
    note = f"; constant, so of no use: {some(constant)}" if constant else ""
    target = prepared.target
    if isinstance(target, Classes):
        predicted = f"classes ({why}): {some(target.classes)}"
        other = "; --task regression takes them for numbers" if why.startswith("whole numbers") else ""
    else:
        predicted = f"numbers to predict ({why})"
        other = "; --task classification takes them for classes" if why.startswith("whole numbers") else ""
    assert target is not None
    return f"target {target.name!r}: {predicted}{other}\ninputs: {', '.join(parts)}{note}"


def _split(
    n: int, labels: npt.NDArray[Any] | None, holdout: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows to train on and those to test on, drawn at random, of each class its share.

    Every class keeps a row to learn from. Where none are split off, all rows are both.
    """
    order = np.random.default_rng(seed).permutation(n)
    n_test = round(n * holdout)
    if labels is None:
        tested = order[: min(n_test, n - 1)]
    else:
        _, codes, sizes = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
        tested = order[_stratified(codes[order], sizes, n_test)]
    if not len(tested):
        return np.arange(n), np.arange(n)
    tested = np.sort(tested)
    return np.setdiff1d(np.arange(n), tested), tested


def _stratified(codes: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64], n_test: int) -> npt.NDArray[np.int64]:
    """Return the places of the first examples of each class, as many as is its share of `n_test`."""
    share = sizes * n_test / len(codes)
    counts = np.minimum(np.floor(share), sizes - 1).astype(np.int64)
    for k in np.argsort(counts - share, kind="stable"):  # the largest remainders first
        if counts.sum() < n_test and counts[k] < sizes[k] - 1:
            counts[k] += 1
    return np.concatenate([np.flatnonzero(codes == k)[:count] for k, count in enumerate(counts)])


@dataclass(frozen=True)
class ForModel:
    """Data in the form that a model takes.

    Attributes
    ----------
    name : str
    X : array of shape (examples, n_in)
    y : array or None
        Class indices as the model numbers them, or numbers (examples, 1) as the model learned them; None where the data
        have none, or they were not asked for.
    table : Table or None
        The table that they come from, if the model can give a table back.
    """

    name: str
    X: npt.NDArray[Any]
    y: npt.NDArray[Any] | None
    table: Table | None = None


def preprocessing_of(network: Network) -> Preprocessing | None:
    """Return the preprocessing in a model's metadata, if it has one that fits it."""
    values = network.metadata.get("preprocessing")
    if values is None:
        return None
    prepared = Preprocessing.from_json(values, "the model's preprocessing")
    n_out = prepared.n_out if prepared.target is not None else network.sizes[-1]
    if (prepared.n_in, n_out) != (network.sizes[0], network.sizes[-1]):
        raise FileFormatError(
            f"the model's preprocessing is damaged: it is for {prepared.n_in} inputs and {n_out} outputs, the network "
            f"has {network.sizes[0]} and {network.sizes[-1]}."
        )
    return prepared


def for_model(
    network: Network, data: Path | None, target: str | None, *, with_labels: bool, keep: Sequence[str] = ()
) -> ForModel:
    """Return the data's test part, or all where it has none, as the model takes it."""
    prepared = preprocessing_of(network)
    if prepared is None:
        if keep:
            raise UsageError("--keep is for models that were trained on a table; this one was not.")
        return _arrays_for_model(network, data, target, with_labels)
    if not is_table(data):
        return _matrix_for_table_model(network, prepared, data, target, with_labels)
    assert data is not None
    names = {column.name: column for column in prepared.columns}
    texts = [name for name in keep if name not in names]
    texts += [name for name, column in names.items() if not isinstance(column, Numbers)]
    if isinstance(prepared.target, Classes) and not all(map(_is_whole, prepared.target.classes)):
        texts.append(prepared.target.name)
    table = datasets.read_table(data, as_text=texts)
    prepared = _renamed_target(prepared, table, target)
    X = prepared.inputs(table, network.dtype)
    _note_unused(table, prepared, keep)
    for name in keep:
        if name not in table:
            raise InputError(f"{table.name}: no column {name!r} to keep. Its columns: {some(list(table))}.")
    y = None
    if with_labels and prepared.target is not None:
        if prepared.target.name not in table:
            raise InputError(
                f"{table.name} has no labels to compare with: no column {prepared.target.name!r}. Name it with "
                f"--target, or use predict. Its columns: {some(list(table))}."
            )
        y = prepared.targets(table, network.dtype)
    return ForModel(table.name, X, y, table)


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _renamed_target(prepared: Preprocessing, table: Table, target: str | None) -> Preprocessing:
    """Return the preprocessing with its target in the column that the user names, if they name one."""
    if target is None or prepared.target is None:
        return prepared
    names = list(table)
    column = find_target(table.name, names if table.has_header else None, len(names), target)
    assert column is not None
    return dataclasses.replace(prepared, target=dataclasses.replace(prepared.target, name=names[column]))


def _note_unused(table: Table, prepared: Preprocessing, keep: Sequence[str]) -> None:
    used = {*prepared.names_in(table), *keep, "" if prepared.target is None else prepared.target.name}
    unused = [name for name in table if name not in used]
    if unused and table.has_header:
        warnings.warn(f"{table.name}: the model does not use its columns {some(unused)}.", stacklevel=3)


def _matrix_for_table_model(
    network: Network, prepared: Preprocessing, data: Path | None, target: str | None, with_labels: bool
) -> ForModel:
    """Take the columns of arrays without names as those of the table that the model was trained on, in their order."""
    dataset = datasets.mnist() if data is None else datasets.load(data, target=target)
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
    dataset = _book_mnist() if data is None else datasets.load(data, target=run.target)
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
        other = datasets.load(run.test)
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
    kept, tested = _split(len(dataset.X), dataset.y, run.holdout, seed)
    if len(kept) == len(dataset.X):
        return dataclasses.replace(dataset, X_test=dataset.X, y_test=dataset.y)
    X, y = dataset.X, dataset.y
    return dataclasses.replace(dataset, X=X[kept], y=y[kept], X_test=X[tested], y_test=y[tested])


def _arrays_for_model(network: Network, data: Path | None, target: str | None, with_labels: bool) -> ForModel:
    if with_labels and network.task != "classification":
        raise InputError("this model is for regression: it predicts numbers. Network.score in Python tells how well.")
    dataset, X = _checked_for_model(network, data, target)
    y = dataset.y if dataset.X_test is None else dataset.y_test
    if with_labels and y is None:
        raise InputError(f"{data} has no labels to compare with; name their column with --target, or use predict.")
    if with_labels:
        y = _numbered_as(class_names(network), dataclasses.replace(dataset, X=X, y=y))
    return ForModel(dataset.name, X, y if with_labels else None)


def _checked_for_model(
    network: Network, data: Path | None, target: str | None
) -> tuple[Dataset, npt.NDArray[Any]]:
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
    """Read the data; a table that has the column that the model was trained to tell has it as its target."""
    trained_on = network.metadata.get("target")
    if target is None and isinstance(trained_on, str) and is_table(data):
        with contextlib.suppress(InputError):  # no such column, or it holds no labels here
            dataset = datasets.load(data, target=trained_on)
            if dataset.X.shape[1] == network.sizes[0]:
                return dataset
    return datasets.load(data, target=target)


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
