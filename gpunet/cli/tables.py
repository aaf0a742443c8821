"""Tables for the commands: split and preprocessed to train on, or as a model learned to take them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpunet import datasets, preprocessing
from gpunet.cli import runs
from gpunet.cli.examples import ForModel, TrainingData, split, split_validation
from gpunet.cli.runs import Run
from gpunet.datasets import Table
from gpunet.datasets.columns import find_target, some
from gpunet.encodings import Classes, Numbers, as_labels
from gpunet.errors import InputError
from gpunet.network import Network
from gpunet.preprocessing import Preprocessing


def to_train(run: Run, data: Path, seed: int) -> TrainingData:
    """Return a table with a part to test on: the run's file `test`, or a share split off.

    What is learned of its columns is learned from the rows to train on alone.
    """
    options: dict[str, Any] = {"target": run.target, "as_text": run.categorical, "max_bytes": run.max_bytes}
    table = datasets.read_table(data, **options)  # "007" stays so
    target = _target(run, table)
    task, why = preprocessing.task_of(table, target, run.task)
    if table.n_rows < 2:
        raise InputError(f"{table.name} has one row only; at least two are needed to learn anything.")
    labels = as_labels(table, target) if task == "classification" else None
    trained = tested = np.arange(table.n_rows)
    if run.test is None:
        trained, tested = split(table.n_rows, labels, run.holdout, seed)
    is_tested_apart, validated, share = tested is not trained, tested, runs.validation_share(run)
    if share:
        labels = None if labels is None else labels[trained]
        kept, held = split_validation(table.name, len(trained), labels, share, seed)
        trained, validated = trained[kept], trained[held]
    prepared = Preprocessing.fit(
        table,
        target,
        task=task,
        categorical=run.categorical,
        drop=run.drop,
        missing=run.missing,
        rows=trained,
        # Outputs with a range of their own, as the Poisson cost's, are for numbers as they are.
        scale_target=run.output_activation in (None, "linear") and run.cost != "poisson",
    )
    X, y = prepared.inputs(table, run.dtype), prepared.targets(table, run.dtype)
    X_train, y_train = (X[trained], y[trained]) if len(trained) < len(X) else (X, y)
    # The same objects say that there is no part of its own.
    X_test, y_test = (X[tested], y[tested]) if is_tested_apart else (X_train, y_train)
    if run.test is not None:
        other = datasets.read_table(Path(run.test), **options)
        X_test, y_test = prepared.inputs(other, run.dtype), prepared.targets(other, run.dtype)
    X_validation, y_validation = (X[validated], y[validated]) if share else (X_test, y_test)
    return TrainingData(
        table.name,
        X_train,
        y_train,
        X_validation,
        y_validation,
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


def _target(run: Run, table: Table) -> str:
    names = list(table)
    column = find_target(table.name, names if table.has_header else None, len(names), run.target)
    if column is None:
        first = "" if table.has_header else " It has no header: columns go by their numbers from 0."
        raise InputError(
            f"{table.name} has no labels to learn; name their column with --target.{first} Its columns: "
            f"{some(names)}."
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
    counting = [c.name for c in numbers if np.ptp(table[c.name]) and (np.diff(table[c.name]) == 1).all()]
    if counting:
        note += f"; {some(counting)} counts the rows: --drop it if that means nothing"
    return f"target {target.name!r}: {predicted}{other}\ninputs: {', '.join(parts)}{note}"


def for_model(
    network: Network,
    prepared: Preprocessing,
    data: Path,
    target: str | None,
    *,
    with_labels: bool,
    keep: Sequence[str] = (),
    max_bytes: int | None = None,
) -> ForModel:
    """Return a table as a model that was trained on one takes it."""
    names = {column.name: column for column in prepared.columns}
    texts = [name for name in keep if name not in names]
    texts += [name for name, column in names.items() if not isinstance(column, Numbers)]
    if isinstance(prepared.target, Classes) and not all(map(_is_whole, prepared.target.classes)):
        texts.append(prepared.target.name)
    known = None if prepared.has_header or prepared.target is None else prepared.target.name  # a column's number
    table = datasets.read_table(data, target=known if target is None else target, as_text=texts, max_bytes=max_bytes)
    prepared = _renamed_target(prepared, table, target)
    X = prepared.inputs(table, network.dtype)
    _note_unused(table, prepared, keep, _dropped(network))
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


def _dropped(network: Network) -> list[str]:
    """Return the columns that were left out in training on purpose."""
    run = network.metadata.get("run")
    dropped = run.get("drop") if isinstance(run, dict) else None
    return [name for name in dropped if isinstance(name, str)] if isinstance(dropped, list) else []


def _note_unused(table: Table, prepared: Preprocessing, keep: Sequence[str], dropped: Sequence[str]) -> None:
    used = {*prepared.names_in(table), *keep, *dropped, "" if prepared.target is None else prepared.target.name}
    unused = [name for name in table if name not in used]
    if unused and table.has_header:
        warnings.warn(f"{table.name}: the model does not use its columns {some(unused)}.", stacklevel=3)
