"""Examples as the commands hand them on: to train and test on, or in the form that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.datasets import Table
from gpunet.errors import InputError
from gpunet.preprocessing import Preprocessing
from gpunet.training.holdout import hold_out


@dataclass(frozen=True)
class TrainingData:
    """Data to train on, with what each epoch is validated on and a test part.

    The parts may be the same objects: without a test part of its own it is tested on what it learns from, and where
    nothing is held out to validate on, each epoch is shown on the test part.

    Attributes
    ----------
    name : str
    X, X_validation, X_test : arrays of shape (examples, n_in)
    y, y_validation, y_test : arrays
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
    X_validation: npt.NDArray[Any]
    y_validation: npt.NDArray[Any]
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


def split_validation(
    name: str, n: int, labels: npt.NDArray[Any] | None, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows to train on and those to validate on, of each class alike.

    What decides on the training needs rows of its own, or the test would be of what was chosen by it.
    """
    kept, held = hold_out(n, labels, share, np.random.default_rng(seed))
    if not len(held):
        raise InputError(f"{name}: a validation share of {share:g} of {n} examples is none; choose a larger one.")
    return kept, held
