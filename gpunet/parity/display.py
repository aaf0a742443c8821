"""How `gpunet parity` tells what it found: a table, JSON lines, a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpunet import drawing
from gpunet.parity.results import Report, Result, Row, Training, to_dict


def show(report: Report, details: bool) -> None:
    """Print the tables, what failed, and the verdict; with details a line for every input."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(f"{report.device}  |  {report.against}", soft_wrap=True)
    console.print("errors against a reference of wider precision; above 1 of its tolerance is wrong", soft_wrap=True)
    for dtype in dict.fromkeys(row.dtype for row in report.rows):
        console.print(_verbs_table(dtype, [row for row in report.rows if row.dtype == dtype], details))
    for dtype in dict.fromkeys(training.dtype for training in report.trainings):
        console.print(_training_table(dtype, [t for t in report.trainings if t.dtype == dtype]))
    for line in report.findings():
        console.print(line, soft_wrap=True)
    console.print(report.verdict(), soft_wrap=True)


def json_line(event: str, facts: dict[str, Any]) -> None:
    """Print one event."""
    print(json.dumps({"event": event, **facts}, allow_nan=False), flush=True)


def json_result(result: Result) -> None:
    """Print a row or a training as an event."""
    json_line("verb" if isinstance(result, Row) else "training", to_dict(result))


def _table(*names: str) -> Any:
    """Return a table whose first and last columns are words and whose other ones are figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, header_style="", pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        words = name in (names[0], names[-1])
        table.add_column(name, justify="left" if words else "right", no_wrap=name != names[-1])
    return table


def _verbs_table(dtype: str, rows: Sequence[Row], details: bool) -> Any:
    table = _table(dtype, "inputs", "ULP", "of tolerance", "apart", "worst")
    for group in _by_verb(rows, details):
        worst = max(group, key=lambda row: (not row.passed, row.error, row.error_against))
        table.add_row(
            worst.verb,
            str(len(group)),
            _pair(max(r.ulp for r in group), max(r.ulp_against for r in group)),
            _pair(max(r.error for r in group), max(r.error_against for r in group)),
            f"{max(r.difference for r in group):.2g}",
            f"{'' if worst.passed else 'OFF: '}{worst.case}, {worst.shape}",
        )
    return table


def _by_verb(rows: Sequence[Row], details: bool) -> list[list[Row]]:
    if details:
        return [[row] for row in rows]
    return [[row for row in rows if row.verb == verb] for verb in dict.fromkeys(row.verb for row in rows)]


def _training_table(dtype: str, trainings: Sequence[Training]) -> Any:
    table = _table(dtype, "steps", "last error", "tolerance", "of tolerance", "network")
    for training in trainings:
        errors = training.error, training.error_against
        table.add_row(
            "training",
            str(len(training.tolerance)),
            " | ".join(f"{e[-1]:.1e}" if e else "-" for e in errors),
            f"{training.tolerance[-1]:.1e}",
            " | ".join(f"{training.worst(e):.2g}" if e else "-" for e in errors),
            f"{'' if training.passed else 'OFF: '}{training.name}",
        )
    return table


def _pair(device: float, against: float) -> str:
    return f"{device:.2g} | {against:.2g}"


# -- The picture -----------------------------------------------------------------------------------------------


#: Trainings beside each other.
_COLUMNS = 5


def plot(report: Report, path: Path) -> None:
    """Draw the deviation along each training against its tolerance."""
    names = list(dict.fromkeys(training.name for training in report.trainings))
    dtypes = list(dict.fromkeys(training.dtype for training in report.trainings))
    columns = min(len(names), _COLUMNS)
    rows = math.ceil(len(names) / columns)  # of each dtype
    figure = drawing.new_figure("--plot", 3.4 * columns, 2.7 * rows * len(dtypes) + 0.8)
    axes = figure.subplots(rows * len(dtypes), columns, squeeze=False)
    for block, dtype in enumerate(dtypes):
        panels = axes[block * rows : (block + 1) * rows].ravel()
        of_dtype = [training for training in report.trainings if training.dtype == dtype]
        top = 3 * max(max(training.tolerance) for training in of_dtype)
        for axis in panels[1:]:
            axis.sharey(panels[0])
        for axis, training in zip(panels, of_dtype, strict=False):
            _draw(axis, training, report, top)
            axis.set_xlabel("step")
        for axis in panels[len(of_dtype) :]:
            axis.set_axis_off()
        panels[0].set_ylim(top=top)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(report.verdict())
    figure.supylabel("largest ||p - reference|| / ||reference||")
    drawing.save_figure(figure, path)


def _draw(axis: Any, training: Training, report: Report, top: float) -> None:
    """Draw one training; errors above the picture lie along its edge."""
    steps = range(1, len(training.tolerance) + 1)
    axis.fill_between(steps, training.tolerance, top, color="0.92", linewidth=0)
    axis.plot(steps, training.tolerance, "--", color="0.3", label="tolerance")
    for label, error, style, color in (
        (report.device, training.error, "-", "tab:blue"),
        (report.against, training.error_against, ":", "tab:orange"),
    ):
        axis.plot(
            steps[: len(error)], [min(e, 0.85 * top) for e in error], style, color=color, linewidth=2, label=label
        )
    axis.set_yscale("log")
    axis.set_title(f"{training.name}, {training.dtype}", fontsize="small")
