"""What a training did, epoch by epoch."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from gpunet.errors import InputError
from gpunet.model_file import replace_file

#: One epoch as a table has it: a name and a number, or None where nothing was measured.
Row = dict[str, float | None]


@dataclass(frozen=True)
class LayerFacts:
    """How a layer stood after an epoch, on a fixed part of the training data; see `Diagnostics`.

    Attributes
    ----------
    delta_norm : float
        The length of the error delta^l, the mean over the examples: how fast the layer's biases learn.
    gradient_norm : float
        The length of the mean gradient of the layer's weights and biases.
    weight_norm : float
        The length of w^l as one vector.
    saturated : float or None
        The share of neurons and examples whose activation is within 2 % of an end of its range; None where the
        activation has no such ends.
    dead : float or None
        The share of ReLU neurons that are 0 for every example; None where there are none.
    """

    delta_norm: float
    gradient_norm: float
    weight_norm: float
    saturated: float | None = None
    dead: float | None = None


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Attributes
    ----------
    epoch : int
        Its number, from 0 as in the book.
    cost : float
        The mean cost of the training examples, each as its mini-batch met it in this epoch.
    seconds : float
        The time that the epoch's training took, without the validation.
    examples_per_second : float
    validation_cost : float or None
        The mean cost of the validation data after the epoch.
    validation_score : float or None
        Accuracy for classification, R^2 for regression.
    eta : float or None
        The learning rate; None where the optimizer has none.
    layers : tuple of LayerFacts, or None
        The layers after the epoch, l = 1 ... L, if they were asked for.
    """

    epoch: int
    cost: float
    seconds: float
    examples_per_second: float
    validation_cost: float | None = None
    validation_score: float | None = None
    eta: float | None = None
    layers: tuple[LayerFacts, ...] | None = None

    def row(self) -> Row:
        """Return its numbers by name, those of layer l as ``delta_norm_l``, ..., as tables and logs have them."""
        row: Row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}
        for f in fields(LayerFacts):
            for l, layer in enumerate(self.layers or (), start=1):
                value = getattr(layer, f.name)
                if value is not None:
                    row[f"{f.name}_{l}"] = value
        return row


@dataclass
class History:
    """The epochs of a training and what ran it.

    Attributes
    ----------
    device, backend : str
        As the network's.
    engine : str
        How the steps were run, such as "step by step".
    optimizer : str
    eta : float or None
        The learning rate at the start; None where the optimizer has none.
    batch_size : int
    epochs : list of Epoch
    stopped : str or None
        Why the training ended before its last epoch, if it did.
    best_epoch : int or None
        The epoch whose parameters early stopping has restored.
    task : {"classification", "regression"}, optional
        Which of accuracy and R^2 the scores are.
    """

    device: str
    backend: str
    engine: str
    optimizer: str
    eta: float | None
    batch_size: int
    epochs: list[Epoch] = field(default_factory=list)
    stopped: str | None = None
    best_epoch: int | None = None
    task: str | None = None

    @property
    def cost(self) -> list[float]:
        """The training cost of each epoch."""
        return [epoch.cost for epoch in self.epochs]

    @property
    def validation_cost(self) -> list[float | None]:
        """The validation cost after each epoch."""
        return [epoch.validation_cost for epoch in self.epochs]

    @property
    def validation_score(self) -> list[float | None]:
        """The validation score after each epoch."""
        return [epoch.validation_score for epoch in self.epochs]

    @property
    def etas(self) -> list[float | None]:
        """The learning rate of each epoch."""
        return [epoch.eta for epoch in self.epochs]

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation score, of equal ones that of the lowest validation cost.

        Without validation data the one of the lowest cost. Of epochs that are equal in this the first.

        Raises
        ------
        InputError
            If there are no epochs.
        """
        if not self.epochs:
            raise InputError("the history has no epochs yet, and so no best one.")

        def badness(epoch: Epoch) -> tuple[float, float]:
            score, cost = epoch.validation_score, epoch.validation_cost
            pair = (0.0 if score is None else -score, epoch.cost if cost is None else cost)
            return math.inf if math.isnan(pair[0]) else pair[0], math.inf if math.isnan(pair[1]) else pair[1]

        return min(self.epochs, key=badness)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the training: cost, score, learning rate if it changed, and the layers if they were measured.

        Parameters
        ----------
        path : path, optional
            Where to write the picture, in the format of its suffix: .png, .svg, .pdf, ...

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        GpunetError
            If matplotlib is not installed.
        InputError
            If there are no epochs, or no picture can be written to `path`.
        """
        # By its name: pictures stand above the training, which does not need them.
        return importlib.import_module("gpunet.plots").training_curves(self, path)

    # -- As plain values and files ---------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON."""
        values = asdict(self)
        for epoch in values["epochs"]:
            epoch["layers"] = None if epoch["layers"] is None else list(epoch["layers"])  # as JSON gives it back
        return values

    @classmethod
    def from_dict(cls, values: Any) -> History:
        """Return the history whose `to_dict` these values are, also after a way through JSON.

        Raises
        ------
        InputError
            If they are not; the message names the entry.
        """
        return _record(cls, values, "the history")

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a table with a line for each epoch; a file that is there is replaced.

        Numbers are written so that they come back exactly; what was not measured is an empty cell.

        Raises
        ------
        OSError
            If it can not be written; then a file that was there is as it was.
        """
        rows = [epoch.row() for epoch in self.epochs]
        names = list(dict.fromkeys(name for row in rows for name in row)) or [f.name for f in fields(Epoch)][:-1]
        lines = [csv_line(names), *(csv_line(cells(row, names)) for row in rows)]
        replace_file(Path(path), "".join(lines).encode())

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write JSON Lines, an object for each epoch; a file that is there is replaced.

        What was not measured is null, and so are NaN and infinity, which JSON does not have.

        Raises
        ------
        OSError
            If it can not be written; then a file that was there is as it was.
        """
        replace_file(Path(path), "".join(json_line(epoch.row()) for epoch in self.epochs).encode())


# -- The lines of a table ------------------------------------------------------------------------------------------


def cells(row: Row, names: Iterable[str]) -> list[str]:
    """Return a row's numbers under these names as text that gives them back exactly; an empty one for None."""
    values = (row.get(name) for name in names)
    return ["" if value is None else repr(value if isinstance(value, int) else float(value)) for value in values]


def csv_line(texts: Iterable[str]) -> str:
    """Return a line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(texts)
    return line.getvalue()


def json_line(row: Row) -> str:
    """Return a row as a line of JSON; NaN and infinity become null."""
    finite = {name: None if value is None or not math.isfinite(value) else value for name, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


# -- From plain values ---------------------------------------------------------------------------------------------

Record = TypeVar("Record", History, Epoch, LayerFacts)

_PLAIN: dict[str, tuple[type | UnionType, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
}


def _record(cls: type[Record], values: Any, what: str) -> Record:
    """Return the object of `cls` that has these values; those with a default may be missing."""
    known = {f.name: f for f in fields(cls)}
    if not isinstance(values, Mapping):
        raise InputError(f"{what} must be a dict as History.to_dict makes it, got {values!r:.60}.")
    needed = [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    wrong = [f"lacks {name!r}" for name in needed if name not in values]
    wrong += [f"has an entry {name!r:.60} that is not known" for name in values if name not in known]
    if wrong:
        raise InputError(f"{what} {wrong[0]}; it must be a dict as History.to_dict makes it.")
    return cls(**{name: _value(str(known[name].type), value, f"{what}: {name}") for name, value in values.items()})


def _value(kind: str, value: Any, what: str) -> Any:
    """Return a value of that annotation, with the classes of this module made of their dicts."""
    optional, kind = kind.endswith(" | None"), kind.removesuffix(" | None")
    if value is None and optional:
        return None
    if kind not in _PLAIN:
        if not isinstance(value, list | tuple):
            raise InputError(f"{what} must be a list, got {value!r:.60}.")
        if kind == "list[Epoch]":
            return [_record(Epoch, epoch, f"{what}[{i}]") for i, epoch in enumerate(value)]
        return tuple(_record(LayerFacts, layer, f"{what}[{i}]") for i, layer in enumerate(value))
    wanted, words = _PLAIN[kind]
    fits: bool = isinstance(value, wanted) and not isinstance(value, bool)
    if not fits:
        raise InputError(f"{what} must be {words}, got {value!r:.60}.")
    try:
        return float(value) if kind == "float" else value
    except OverflowError:  # a whole number of hundreds of digits
        raise InputError(f"{what} is too large a number.") from None
