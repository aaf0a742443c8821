"""Examples as the commands hand them on: to train and test on, or in the form that a model takes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.datasets import Table
from gpunet.errors import InputError
from gpunet.preprocessing import Preprocessing
from gpunet.training.holdout import hold_out


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


@dataclass(frozen=True)
class Validated(TrainingData):
    """Data to train on, with what each epoch is validated on: `X_validation` and `y_validation`."""

    X_validation: npt.NDArray[Any] = field(kw_only=True)
    y_validation: npt.NDArray[Any] = field(kw_only=True)


def with_validation(data: TrainingData, share: float, seed: int) -> Validated:
    """Return the data with a share of the training examples held out to validate on, of each class alike.

    Without a share each epoch is shown on the test part. What decides on the training needs one, or the test would be
    of what was chosen by it.
    """
    given = {f.name: getattr(data, f.name) for f in fields(data)}
    if not share:
        return Validated(**given, X_validation=data.X_test, y_validation=data.y_test)
    labels = data.y if data.task == "classification" else None
    kept, held = split(len(data.X), labels, share, seed)
    if len(kept) == len(data.X):
        raise InputError(
            f"{data.name}: a validation share of {share:g} of {len(data.X)} examples is none; choose a larger one."
        )
    tested_on_itself = data.X_test is data.X
    given |= {"X": data.X[kept], "y": data.y[kept]}
    if tested_on_itself:
        given |= {"X_test": given["X"], "y_test": given["y"]}
    return Validated(**given, X_validation=data.X[held], y_validation=data.y[held])


@dataclass(frozen=True)
class ForModel:
    """Data in the form that a model takes.

    Attributes
    ----------
    name : str
    X : array of shape (examples, n_in)
    y : array or None
        Class indices as the model numbers them, or numbers (examples, 1) as the model learned them; None where the
        data have none, or they were not asked for.
    table : Table or None
        The table that they come from, if the model can give a table back.
    """

    name: str
    X: npt.NDArray[Any]
    y: npt.NDArray[Any] | None
    table: Table | None = None


def split(
    n: int, labels: npt.NDArray[Any] | None, holdout: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows to train on and those to test on; where none are split off, all rows are both."""
    kept, tested = hold_out(n, labels, holdout, np.random.default_rng(seed))
    return (kept, tested) if len(tested) else (kept, kept)
