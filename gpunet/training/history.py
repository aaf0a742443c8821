"""What a training did, epoch by epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from gpunet.errors import InputError
from gpunet.model_file import replace_file
from gpunet.training.curves import training_curves
from gpunet.training.record import Epoch, LayerFacts, Record, Row


@dataclass
class History(Record):
    """A training's record, to be drawn, written to files and read back; `Record` has its attributes."""

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
        MissingPackageError
            If matplotlib is not installed.
        InputError
            If there are no epochs, or no picture can be written to `path`.
        """
        return training_curves(self, path)

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

Recorded = TypeVar("Recorded", History, Epoch, LayerFacts)

_PLAIN: dict[str, tuple[type | UnionType, str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
}


def _record(cls: type[Recorded], values: Any, what: str) -> Recorded:
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
    """Return a value of that annotation, with the classes of a record made of their dicts."""
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
