"""Predictions as a table: CSV on standard output or in a file, or Parquet."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import model_file, optional
from gpunet.datasets import Table
from gpunet.encodings import Classes
from gpunet.errors import InputError
from gpunet.network import Network
from gpunet.preprocessing import Preprocessing

Columns = Mapping[str, npt.NDArray[Any]]

#: Of numbers that were computed, digits beyond the tenth are noise; those of the table are the user's.
_PREDICTION, _DIGITS = "prediction", 10


def check_output(path: Path, read: Iterable[Path]) -> None:
    """Refuse a file that could not be written, or is one of those that are read, before the work.

    Raises
    ------
    InputError
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"--output {path}: predictions are written as .csv or .parquet; name such a file.")
    if path.suffix.lower() == ".parquet":
        _pyarrow(path)
    try:
        model_file.check_replaceable(path)
    except OSError as error:
        raise InputError(f"--output {path}: {error.strerror}.") from error
    if any(path.exists() and file.exists() and path.samefile(file) for file in read):
        raise InputError(f"--output {path} is what is read; name another file.")


def table(
    network: Network,
    prepared: Preprocessing,
    outputs: npt.NDArray[Any],
    given: Table,
    keep: Sequence[str],
    probabilities: bool,
) -> Columns:
    """Return the kept columns, ``prediction``, and ``probability_...`` of each class if they are asked for."""
    columns: dict[str, npt.NDArray[Any]] = {name: given[name] for name in keep}
    added = {_PREDICTION: prepared.predictions(outputs)}
    if probabilities:
        if not isinstance(prepared.target, Classes):
            raise InputError("--probabilities is for classes, but this model predicts numbers; leave it out.")
        output = network.activations[-1]
        if output.range != (0.0, 1.0):
            raise InputError(f"the model's {output.name} outputs are no probabilities; leave --probabilities out.")
        added |= {f"probability_{label}": outputs[:, k] for k, label in enumerate(prepared.target.classes)}
    twice = next((name for name in added if name in columns), None)
    if twice is not None:
        raise InputError(
            f"--keep {twice}: that is what the predictions' own column is called; rename it in the table."
        )
    return {**columns, **added}


def write(columns: Columns, output: Path | None) -> None:
    """Write the columns to a file, by its name CSV or Parquet, or as CSV to standard output."""
    if output is None:
        _write_csv(columns, sys.stdout)
    elif output.suffix.lower() == ".csv":
        text = io.StringIO(newline="")
        _write_csv(columns, text)
        model_file.replace_file(output, text.getvalue().encode())
    else:
        pyarrow = _pyarrow(output)
        packed = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.table({name: list(values) for name, values in columns.items()}), packed)
        model_file.replace_file(output, packed.getvalue().to_pybytes())


def _write_csv(columns: Columns, file: Any) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    digits = (_DIGITS if name == _PREDICTION else None for name in columns)
    writer.writerows(zip(*map(_cells, columns.values(), digits), strict=True))


def _cells(values: npt.NDArray[Any], digits: int | None) -> list[str]:
    """Return numbers in as many digits as they have, or in so many; whole ones without a point."""
    if values.dtype == object:
        return ["" if value is None else value for value in values.tolist()]
    whole = np.isfinite(values) & (np.floor(values) == values) & (np.abs(values) < 2**53)
    return [
        ""
        if value != value
        else str(int(value))
        if is_whole
        else str(value)
        if digits is None
        else f"{value:.{digits}g}"
        for value, is_whole in zip(values, whole, strict=True)
    ]


def _pyarrow(path: Path) -> Any:
    optional.library("pyarrow.parquet", f"writing {path}", "gpunet[parquet]")
    return optional.library("pyarrow", f"writing {path}", "gpunet[parquet]")
