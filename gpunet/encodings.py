"""How one column of a table becomes numbers: standardised, one-hot, or the index of a class."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.datasets.columns import Table, as_option, is_missing, some
from gpunet.errors import InputError

#: Text of more different values than this, and than a tenth of the rows, is no kind of thing but a name.
_FEW_CATEGORIES = 20
MOST_CATEGORIES = 10_000
#: Beyond this float64 can't tell neighbouring whole numbers apart.
EXACT_WHOLE = 2**53


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, standardised: one input, (x - mean) / std."""

    name: str
    mean: float
    std: float

    @classmethod
    def learn(cls, table: Table, name: str, rows: npt.NDArray[Any]) -> Numbers:
        """Return mean and standard deviation of the column's numbers in those rows; a constant one becomes 0."""
        cells = table[name]
        check_finite(table, name, cells)
        numbers = cells[rows][~np.isnan(cells[rows])]
        if not len(numbers):
            raise InputError(
                f"{table.name}: column {name!r} has no value in the rows to learn from; {leave_out(name)}."
            )
        largest = float(np.abs(numbers).max())
        unit = largest if largest > 1e150 else 1.0  # whose squares float64 can not hold
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = float((numbers / unit).mean()) * unit, float((numbers / unit).std()) * unit
        is_constant = std <= 10 * np.finfo(np.float64).eps * abs(mean)  # what is left is rounding
        return cls(name, mean, max(1.0, abs(mean)) if is_constant else std)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that it gives."""
        return (self.name,)

    def encode(self, table: Table, name: str, out: npt.NDArray[Any]) -> None:
        """Write the table's column `name` into `out`, (rows, 1); what is missing becomes 0, the mean."""
        numbers = as_numbers(table, name)
        check_finite(table, name, numbers)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (numbers - self.mean) / self.std
        beyond = np.abs(scaled) > np.finfo(out.dtype).max
        if beyond.any():
            row = int(beyond.argmax())
            raise InputError(
                f"{at(table, row, name)}: {numbers[row]:.4g} is too far from the column's mean {self.mean:.4g} in "
                f"training for {out.dtype}."
            )
        out[:, 0] = np.where(np.isnan(scaled), 0.0, scaled)

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"name": self.name, "mean": self.mean, "std": self.std}

    @classmethod
    def from_json(cls, values: Any) -> Numbers:
        """Return what `to_json` made plain values of, or raise `ValueError`."""
        mean, std = _finite(values["mean"], "mean"), _finite(values["std"], "std")
        if std <= 0:
            raise ValueError("std")
        return cls(_text(values["name"]), mean, std)


@dataclass(frozen=True)
class Categories:
    """A column of kinds, one-hot: an input for each category, 1 where the row is of it."""

    name: str
    categories: tuple[str, ...]

    @classmethod
    def learn(cls, table: Table, name: str, rows: npt.NDArray[Any], asked_for: bool) -> Categories:
        """Return the different values of the column in those rows; too many are an error unless asked for."""
        cells = table[name]
        kept = rows[~is_missing(cells[rows])]
        if not len(kept):
            raise InputError(
                f"{table.name}: column {name!r} has no value in the rows to learn from; {leave_out(name)}."
            )
        categories = different(as_labels(table, name)[kept], cells)
        most = MOST_CATEGORIES if asked_for else max(_FEW_CATEGORIES, table.n_rows // 10)
        if len(categories) <= most:
            return cls(name, categories)
        odd = [int(i) for i in kept if not _is_number(cells[i])]
        if odd and 2 * len(odd) < len(kept):
            raise InputError(
                f"{at(table, odd[0], name)}: {cells[odd[0]]!r:.40} is not a number, as most of the column are. Mend "
                f"it, or {leave_out(name)}."
            )
        raise InputError(
            f"{table.name}: column {name!r} has {len(categories)} different values in {len(kept)} rows, such as "
            f"{categories[0]!r:.40}, and each would be an input; {leave_out(name)}, or say that they are kinds of "
            f"things (--categorical {as_option(name)}; up to {MOST_CATEGORIES})."
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs that it gives."""
        return tuple(f"{self.name}={category}" for category in self.categories)

    def encode(self, table: Table, name: str, out: npt.NDArray[Any]) -> None:
        """Write a 1 at each row's category into `out`, (rows, categories), which is zero.

        What is missing or not known stays zero; of the latter a warning tells.
        """
        cells = table[name]
        if cells.dtype == object:
            labels = cells.tolist()
        else:  # a number that was never met is unknown, whole or not
            labels = [None if x != x else str(int(x)) if x == np.floor(x) else repr(x) for x in cells.tolist()]
        index = {category: i for i, category in enumerate(self.categories)}
        codes = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
        known = codes >= 0
        out[np.flatnonzero(known), codes[known]] = 1
        unknown = [labels[i] for i in np.flatnonzero(~known) if labels[i] is not None]
        if unknown:
            warnings.warn(
                f"{table.name}, column {name!r}: {some(sorted(set(unknown)))} in {len(unknown)} row(s) did not occur "
                "in the rows that were learned from and count as none of the known values.",
                stacklevel=3,
            )

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"name": self.name, "categories": list(self.categories)}

    @classmethod
    def from_json(cls, values: Any) -> Categories:
        """Return what `to_json` made plain values of, or raise `ValueError`."""
        return cls(_text(values["name"]), _texts(values["categories"], "categories"))


@dataclass(frozen=True)
class Classes:
    """A target of classes: the label of each index, in the order of the alphabet or of the numbers."""

    name: str
    classes: tuple[str, ...]

    @classmethod
    def learn(cls, table: Table, name: str) -> Classes:
        """Return the different labels of a column."""
        classes = different(as_labels(table, name), table[name])
        if len(classes) < 2:
            raise InputError(
                f"{table.name} has one class only, {classes[0]!r:.40} in column {name!r}; there is nothing to tell "
                "apart."
            )
        return cls(name, classes)

    def index(self, table: Table) -> npt.NDArray[np.int64]:
        """Return the index of each row's class."""
        index = {label: i for i, label in enumerate(self.classes)}
        labels = as_labels(table, self.name)
        odd = next((i for i, label in enumerate(labels) if label not in index), None)
        if odd is not None:
            raise InputError(
                f"{table.name} has the label {labels[odd]!r:.40} in {table.where(odd)}, column {self.name!r}, but "
                f"the labels known are {some(self.classes)}."
            )
        return np.array([index[label] for label in labels], dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"name": self.name, "classes": list(self.classes)}

    @classmethod
    def from_json(cls, values: Any) -> Classes:
        """Return what `to_json` made plain values of, or raise `ValueError`."""
        return cls(_text(values["name"]), _texts(values["classes"], "classes"))


def as_labels(table: Table, name: str) -> npt.NDArray[Any]:
    """Return a column's values as text: whole numbers as they are written, None for what is missing."""
    cells = table[name]
    if cells.dtype == object:
        return cells
    bad = ~(np.isnan(cells) | ((np.floor(cells) == cells) & (np.abs(cells) <= EXACT_WHOLE)))
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{at(table, row, name)}: the label is {cells[row]:.17g}; classes must be text or whole numbers within "
            "2**53. Numbers to predict are regression."
        )
    return np.array([None if x != x else str(int(x)) for x in cells.tolist()], dtype=object)


def as_numbers(table: Table, name: str) -> npt.NDArray[np.float64]:
    """Return a column's numbers; text is an error, but for a column that is missing throughout."""
    cells = table[name]
    if cells.dtype != object:
        return cells
    rows = np.flatnonzero(~is_missing(cells))
    if not rows.size:
        return np.full(len(cells), np.nan)
    odd = next((int(i) for i in rows if not _is_number(cells[i])), int(rows[0]))
    raise InputError(f"{at(table, odd, name)}: {cells[odd]!r:.40} is not a number.")


def different(labels: npt.NDArray[Any], cells: npt.NDArray[Any]) -> tuple[str, ...]:
    """Return the different labels, those of numbers in the numbers' order."""
    return tuple(sorted(set(labels.tolist()), key=None if cells.dtype == object else int))


def check_finite(table: Table, name: str, numbers: npt.NDArray[np.float64]) -> None:
    """Refuse infinity."""
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise InputError(f"{at(table, row, name)}: the value is {numbers[row]}; it must be finite.")


def check_none_missing(table: Table, name: str, advice: str = "fill it in, or drop the row") -> None:
    """Refuse missing values."""
    lacking = is_missing(table[name])
    if lacking.any():
        more = f" (and in {lacking.sum() - 1} rows more)" if lacking.sum() > 1 else ""
        raise InputError(f"{at(table, int(lacking.argmax()), name)}: the value is missing{more}; {advice}.")


def leave_out(name: str) -> str:
    """Say how a column is left out."""
    return f"leave the column out (--drop {as_option(name)}, in Python drop=[{name!r}])"


def at(table: Table, row: int, name: str) -> str:
    """Spell a cell's place for a message."""
    return f"{table.name}, {table.where(row)}, column {name!r}"


def _is_number(cell: Any) -> bool:
    try:
        return math.isfinite(float(cell))
    except (TypeError, ValueError):
        return False


def _finite(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(what)
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("name")
    return value


def _texts(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values or len(set(map(_text, values))) < len(values):
        raise ValueError(what)
    return tuple(values)
