"""From a table's columns to what a network takes, and from its outputs back: standardised numbers, one-hot text.

>>> import numpy as np
>>> table = {"size": np.array([1.0, 2.0, 3.0]), "colour": ["red", "blue", "red"], "price": [10.5, 20.0, 30.0]}
>>> prepared = Preprocessing.fit(table, target="price")
>>> prepared.inputs(table)
array([[-1.2247449,  0.       ,  1.       ],
       [ 0.       ,  1.       ,  0.       ],
       [ 1.2247449,  0.       ,  1.       ]], dtype=float32)

A network whose ``metadata["preprocessing"]`` is ``prepared.to_json()`` is one that `gpunet predict` and
`gpunet evaluate` take tables for.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import checks, encodings
from gpunet.datasets.columns import Table, is_missing, near, some
from gpunet.encodings import Categories, Classes, Numbers
from gpunet.errors import FileFormatError, InputError
from gpunet.training.metrics import to_classes

TASKS = ("auto", "classification", "regression")
MISSING = ("error", "fill")

#: Whole numbers of at most so many different values are classes.
_FEW_VALUES = 20


@dataclass(frozen=True)
class Preprocessing:
    """How a table becomes a network's inputs and targets, and its outputs predictions.

    Attributes
    ----------
    columns : tuple of Numbers and Categories
        The columns that are inputs, in the order of the inputs.
    target : Classes, Numbers or None
        The column to predict; None where the preprocessing was made without one.
    missing : {"error", "fill"}
        What a missing value is: an error, or the mean for numbers and no category at all for text.
    has_header : bool
        Whether the columns have names of their own; without, they go by their order.
    """

    columns: tuple[Numbers | Categories, ...]
    target: Classes | Numbers | None = None
    missing: str = "error"
    has_header: bool = True

    @classmethod
    def fit(
        cls,
        table: Any,
        target: str | None = None,
        *,
        task: str = "auto",
        categorical: Collection[str] = (),
        drop: Collection[str] = (),
        missing: str = "error",
        rows: npt.NDArray[Any] | None = None,
        scale_target: bool = True,
    ) -> Preprocessing:
        """Learn means, standard deviations and categories from a table.

        Parameters
        ----------
        table : Table, dict of arrays, or DataFrame
        target : str, optional
            The column to predict.
        task : {"auto", "classification", "regression"}
            Whether the target's values are classes or numbers; see `task_of`.
        categorical : collection of str
            Columns that are names of kinds and to be one-hot, though they hold numbers, or many different texts.
        drop : collection of str
            Columns that are not to be inputs.
        missing : {"error", "fill"}
        rows : array of int, optional
            The rows to learn from: those of the training. By default all. Classes are taken from all rows.
        scale_target : bool, default True
            Whether numbers to predict are standardised too, as suits linear outputs; others, such as counts for the
            Poisson cost, stay as they are.

        Raises
        ------
        InputError
            If a column is not there, a value is missing or infinite, or a column of text has too many values.
        """
        given = as_table(table)
        checks.one_of(missing, MISSING, "missing")
        for name in (*categorical, *drop, *(() if target is None else (target,))):
            _check_column(given, name)
        if target in drop:
            raise InputError(f"{given.name}: {target!r} is the target and can not be dropped; name another column.")
        rows = np.arange(given.n_rows) if rows is None else np.asarray(rows)
        learned = None
        if target is not None:
            found, _ = task_of(given, target, task)
            is_classes = found == "classification"
            learned = Classes.learn(given, target) if is_classes else Numbers.learn(given, target, rows)
            if not is_classes and np.ptp(given[target][rows]) == 0:
                raise InputError(
                    f"{given.name}: the target {target!r} is {given[target][rows[0]]:g} in all rows to learn from; "
                    "there is nothing to predict."
                )
            if not is_classes and not scale_target:
                learned = Numbers(target, 0.0, 1.0)
        columns: list[Numbers | Categories] = []
        for name in (name for name in given if name != target and name not in drop):
            if is_missing(given[name]).all():
                raise InputError(
                    f"{given.name}: column {name!r} has no value in any row; {encodings.leave_out(name)}."
                )
            if missing == "error":
                _check_none_missing(given, name)
            if given[name].dtype == object or name in categorical:
                columns.append(Categories.learn(given, name, rows, name in categorical))
            else:
                columns.append(Numbers.learn(given, name, rows))
        if not columns:
            raise InputError(
                f"{given.name}: no columns to learn from are left beside the target and what is dropped."
            )
        return cls(tuple(columns), learned, missing, given.has_header)

    @property
    def task(self) -> str:
        """What the target asks for: "classification" or "regression"."""
        return "classification" if isinstance(self._target(), Classes) else "regression"

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs: a column's, or "column=category"."""
        return tuple(name for column in self.columns for name in column.inputs)

    @property
    def n_in(self) -> int:
        """The number of inputs."""
        return len(self.input_names)

    @property
    def n_out(self) -> int:
        """The number of outputs that the target asks for: one for each class, or one number."""
        target = self._target()
        return len(target.classes) if isinstance(target, Classes) else 1

    def inputs(self, table: Any, dtype: str = "float32") -> npt.NDArray[Any]:
        """Return the table's rows as inputs, (rows, n_in).

        Columns are found by their names, in any order, and others do not matter; a table or a model without a header
        goes by the columns' order. Text that is none of the categories gives zeros, and a warning.

        Raises
        ------
        InputError
            If a column is missing, or a value of it, or it is not numbers where the model has learned numbers.
        """
        given = as_table(table)
        names = self.names_in(given)
        result = np.zeros((given.n_rows, self.n_in), dtype=dtype)
        first = 0
        for column, name in zip(self.columns, names, strict=True):
            if self.missing == "error":
                _check_none_missing(given, name)
            column.encode(given, name, out=result[:, first : first + len(column.inputs)])
            first += len(column.inputs)
        return result

    def targets(self, table: Any, dtype: str = "float32") -> npt.NDArray[Any]:
        """Return the target: class indices (rows,) int64, or standardised numbers (rows, 1).

        Raises
        ------
        InputError
            If the column or a value is missing, or a label is none of the classes.
        """
        given, target = as_table(table), self._target()
        _check_column(given, target.name)
        encodings.check_none_missing(given, target.name)
        if isinstance(target, Classes):
            return target.index(given)
        result = np.empty((given.n_rows, 1), dtype=dtype)
        target.encode(given, target.name, out=result)
        return result

    def predictions(self, outputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what outputs, (rows, n_out), predict: labels, or numbers in the target's own unit, (rows,)."""
        target = self._target()
        if isinstance(target, Classes):
            return np.array(target.classes, dtype=object)[to_classes(outputs)]
        return outputs[:, 0].astype(np.float64) * target.std + target.mean

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "target": None if self.target is None else self.target.to_json(),
            "missing": self.missing,
            "has_header": self.has_header,
        }

    @classmethod
    def from_json(cls, values: Any, what: str = "the preprocessing") -> Preprocessing:
        """Return what `to_json` made plain values of.

        Raises
        ------
        FileFormatError
            If they are not that.
        """
        try:
            columns: list[Numbers | Categories] = []
            for column in values["columns"]:
                columns.append((Categories if "categories" in column else Numbers).from_json(column))
            target: Classes | Numbers | None = None
            if (kept := values["target"]) is not None:
                target = (Classes if "classes" in kept else Numbers).from_json(kept)
            how, has_header = values["missing"], values["has_header"]
            names = {column.name for column in columns}
            if not names or len(names) < len(columns) or how not in MISSING or type(has_header) is not bool:
                raise ValueError("columns, missing or has_header")
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"{what} is damaged: no valid {str(error) or 'columns'}.") from error
        return cls(tuple(columns), target, how, has_header)

    @classmethod
    def of_model(cls, metadata: Mapping[str, Any], sizes: Sequence[int]) -> Preprocessing | None:
        """Return the preprocessing in the metadata of a network of those sizes, if it has one.

        Raises
        ------
        FileFormatError
            If it is damaged, or for another network.
        """
        values = metadata.get("preprocessing")
        if values is None:
            return None
        prepared = cls.from_json(values, "the model's preprocessing")
        n_out = sizes[-1] if prepared.target is None else prepared.n_out
        if (prepared.n_in, n_out) != (sizes[0], sizes[-1]):
            raise FileFormatError(
                f"the model's preprocessing is damaged: it is for {prepared.n_in} inputs and {n_out} outputs, the "
                f"network has {sizes[0]} and {sizes[-1]}."
            )
        return prepared

    def names_in(self, table: Table) -> list[str]:
        """Return the names that this one's columns have in the table."""
        names = list(table)
        wanted = [column.name for column in self.columns]
        if not (self.has_header and table.has_header):
            others = [name for name in names if self.target is None or name != self.target.name]
            for order in (wanted, others, names):  # by name, by order without the target, by order
                if len(order) == len(wanted) and set(order) <= set(names):
                    return order
            raise InputError(
                f"{table.name} has {len(names)} columns; without a header they go by their order, and the model was "
                f"trained on {len(wanted)}."
            )
        lacking = [name for name in wanted if name not in table]
        if lacking:
            rest = [name for name in names if name not in wanted]
            more = f" (nor {some(lacking[1:])})" if len(lacking) > 1 else ""
            raise InputError(
                f"{table.name} has no column {lacking[0]!r}{more}, which the model was trained on."
                f"{near(lacking[0], rest)} Its columns: {some(names)}."
            )
        return wanted

    def _target(self) -> Classes | Numbers:
        if self.target is None:
            raise InputError("this preprocessing was made without a target; give Preprocessing.fit one.")
        return self.target


def as_table(table: Any) -> Table:
    """Return a mapping of columns as a `Table`."""
    if isinstance(table, Table):
        return table
    if not hasattr(table, "keys") or not hasattr(table, "__getitem__"):
        raise InputError(f"a table must be a Table, a dict of columns or a DataFrame, got {type(table).__name__}.")
    columns = {}
    for name in list(table.keys()):
        if not isinstance(name, str):
            raise InputError(f"a table's columns must be called by text, got {name!r}.")
        columns[name] = _values(name, table[name])
    lengths = {name: len(values) for name, values in columns.items()}
    if not columns or min(lengths.values()) == 0:
        raise InputError("the table has no rows or no columns; expected data.")
    if len(set(lengths.values())) > 1:
        raise InputError(f"the table's columns must be of one length, got {lengths}.")
    return Table("the table", columns)


def task_of(table: Table, target: str, task: str = "auto") -> tuple[str, str]:
    """Return whether a target is of classes or of numbers, and why.

    "auto" takes text for classes, numbers with fractions for numbers, and whole numbers for classes if there are
    few of them: at most 20, or 0, 1, 2, ... without a gap and ten rows for each.
    """
    checks.one_of(task, TASKS, "task")
    _check_column(table, target)
    cells = table[target]
    if is_missing(cells).all():
        raise InputError(f"{table.name}: the target {target!r} has no value in any of the {table.n_rows} rows.")
    encodings.check_none_missing(table, target)
    if cells.dtype == object:
        if task == "regression":
            encodings.as_numbers(table, target)  # raises, and names the text that is none
        n_values = len(set(cells.tolist()))
        if task == "auto" and n_values > max(_FEW_VALUES, table.n_rows // 4):
            raise InputError(
                f"{table.name}: the target {target!r} has {n_values} different texts in {table.n_rows} rows, such as "
                f"{cells[0]!r:.40}; classes must be few. Name another target, or say --task classification."
            )
        return "classification", "text"
    encodings.check_finite(table, target, cells)
    if task == "classification":
        encodings.as_labels(table, target)  # raises for a fraction
    if task != "auto":
        return task, "as asked"
    values = np.unique(cells)
    if not (np.floor(values) == values).all():
        return "regression", "numbers with fractions"
    why = f"whole numbers, {len(values)} different ones"
    if np.abs(values).max() > encodings.EXACT_WHOLE:
        raise InputError(
            f"{table.name}: the target {target!r} has whole numbers such as {values[-1]:.17g}, beyond the 2**53 up "
            "to which they can be told apart. If they are classes, write them as text; if not, say --task regression."
        )
    if np.array_equal(values, np.arange(len(values))) and len(cells) >= 10 * len(values):
        return "classification", f"whole numbers from 0 to {len(values) - 1}"
    return ("classification" if len(values) <= _FEW_VALUES else "regression"), why


def _check_column(table: Table, name: str) -> None:
    if name not in table:
        raise InputError(
            f"{table.name}: no column {name!r}.{near(name, list(table))} Its columns: {some(list(table))}."
        )


def _check_none_missing(table: Table, name: str) -> None:
    encodings.check_none_missing(table, name, "fill it in, drop the row, or train with --missing fill")


def _values(name: str, column: Any) -> npt.NDArray[Any]:
    """Return a column of a user's own table as float64, or as str with None for what is missing."""
    try:
        array = np.asarray(column)
    except (TypeError, ValueError) as error:  # lists of different lengths
        raise InputError(f"column {name!r} must have one number or text for each row: {error}.") from error
    if array.ndim != 1:
        raise InputError(f"column {name!r} must have one value for each row, got shape {array.shape}.")
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    cells = [None if _is_nothing(cell) else cell for cell in array.tolist()]
    odd = next((cell for cell in cells if not isinstance(cell, str | int | float | None)), None)
    if odd is not None:
        raise InputError(f"column {name!r} must hold numbers or text, got {odd!r:.60}.")
    if all(cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)) for cell in cells):
        return np.array([math.nan if cell is None else float(cell) for cell in cells])
    return np.array([None if cell is None else _spelled(cell) for cell in cells], dtype=object)


def _is_nothing(cell: Any) -> bool:
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def _spelled(cell: str | int | float) -> str:
    """Return a cell as text, True and False as CSV and Parquet give them."""
    return str(cell).lower() if isinstance(cell, bool) else str(cell)
