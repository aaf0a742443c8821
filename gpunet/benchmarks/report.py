"""What a benchmark found, as tables on the terminal, a JSON file and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: A library's colour in every picture, by the first word of its title.
_COLOURS = {"gpunet": "tab:blue", "PyTorch": "tab:orange", "JAX": "tab:green", "scikit-learn": "tab:red"}
_OTHER = "tab:gray"


def save(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``<question>.json`` and ``<question>.png`` into `folder`, which is made; return what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = folder / f"{found['question']}.json"
    figures.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    picture = figures.with_suffix(".png")
    try:
        plot(found, picture)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        return [figures]
    return [figures, picture]


# -- Tables ----------------------------------------------------------------------------------------------------


def show(found: dict[str, Any]) -> None:
    """Print the machine and the tables."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 140
    for name, value in found["machine"].items():
        if name == "load average at the start" and value is not None:
            value = ", ".join(f"{x:.2f}" for x in value)
        console.print(f"{name}: {value}", soft_wrap=True)
    tables = {"step": _step, "accuracy": _accuracy, "scaling": _scaling, "memory": _memory}[found["question"]]
    for title, table, notes in tables(found):
        console.print(f"\n{title}", soft_wrap=True)
        console.print(table)
        for note in notes:
            console.print(note, soft_wrap=True)


def _table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, header_style="", pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", no_wrap=True)
    return table


def absences(absent: dict[str, str]) -> list[str]:
    """Return a line for each reason that contenders had to take no part."""
    by_reason: dict[str, list[str]] = {}
    for label, reason in absent.items():
        by_reason.setdefault(reason, []).append(label.partition(";")[0])
    return [f"not there: {', '.join(dict.fromkeys(labels))}: {reason}" for reason, labels in by_reason.items()]


def versions(problems: Iterable[dict[str, Any]]) -> str:
    """Return the versions of all libraries that took part."""
    found: dict[str, str] = {}
    for problem in problems:
        for row in problem["rows"]:
            found |= row["facts"]["versions"]
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def kernels(row: dict[str, Any]) -> str:
    """Return the kernels that OpenBLAS ran with, where a contender computes by it."""
    if not row["openblas"]:
        return ""
    pools = row["facts"]["pools"]
    running = sorted({p["kernels"] for p in pools if p["library"] == "openblas"}) or ["not known"]
    return "/".join(running) + ("" if row["core type"] else " (own pick)")


def step_cells(row: dict[str, Any]) -> list[str]:
    """Return a contender's figures as text."""
    low, high = row["quartiles us"]
    ratio, share = row["times the reference"], row["share of peak"]
    threads = row["threads"]
    return [
        row["title"] + (", COMPUTES SOMETHING ELSE" if row["same"] is False else ""),
        "own choice" if threads is None else str(threads),
        kernels(row),
        number(row["us"]),
        f"{number(low)} - {number(high)}",
        "" if ratio is None or row["is peak"] else f"{ratio:.2f}",
        f"{row['gflops']:.1f}",
        "" if share is None else f"{share:.0%}",
        f"{row['cores busy']:.1f}",
    ]


STEP_COLUMNS = (
    "contender",
    "threads",
    "OpenBLAS kernels",
    "us a step",
    "quartiles",
    "x gpunet",
    "GFLOP/s",
    "of peak",
    "cores",
)


def _step(found: dict[str, Any]) -> Iterable[tuple[str, Any, list[str]]]:
    for problem in found["problems"]:
        table = _table(*STEP_COLUMNS)
        for row in problem["rows"]:
            table.add_row(*step_cells(row))
        notes = [f"x gpunet: median of the ratios within a round, to {problem['reference']}"]
        notes += absences(problem["absent"])
        if problem is found["problems"][-1]:
            notes.append(versions(found["problems"]))
        yield problem_title(problem), table, notes


def problem_title(problem: dict[str, Any]) -> str:
    """Return what heads a problem's table."""
    steps = problem["steps of an epoch"]
    return f"{problem['name']}, {problem['dtype']}, {problem['data']} data, epochs of {steps} steps"


def _accuracy(found: dict[str, Any]) -> Iterable[tuple[str, Any, list[str]]]:
    for goal in found["goals"]:
        table = _table("contender", "seconds of training", "epochs by seed", "best accuracy by seed")
        for row in goal["rows"]:
            best = ", ".join(f"{max(one['accuracy']):.2%}" for one in row["runs"])
            seconds = "not reached" if row["seconds"] is None else f"{row['seconds']:.2f}"
            table.add_row(row["label"], seconds, ", ".join(map(str, row["epochs"])), best)
        problem = goal["problem"]
        title = (
            f"to {goal['goal']:.0%} of the test images: {list(problem['sizes'])}, {problem['activation']}, softmax, "
            f"batch {problem['batch']}, eta {problem['eta']}, {problem['dtype']}; median of the seeds"
        )
        yield title, table, absences(goal["absent"])


def _scaling(found: dict[str, Any]) -> Iterable[tuple[str, Any, list[str]]]:
    for sweep in found["sweeps"]:
        labels = list(dict.fromkeys(r["label"] for point in sweep["points"] for r in point["rows"]))
        table = _table("", *labels)
        for point in sweep["points"]:
            by_label = {r["label"]: number(r["us"]) for r in point["rows"]}
            table.add_row(f"{point['value']:,}", *(by_label.get(label, "") for label in labels))
        absent = {k: v for point in sweep["points"] for k, v in point["absent"].items()}
        yield f"{sweep['name']}; us a step", table, absences(absent)


def _memory(found: dict[str, Any]) -> Iterable[tuple[str, Any, list[str]]]:
    table = _table("contender", "after import, MB", "beyond it, MB", "x the data")
    for row in found["rows"]:
        cells = (row["after import bytes"] / 1e6, row["beyond bytes"] / 1e6)
        table.add_row(row["label"], *(f"{c:.0f}" for c in cells), f"{row['times the data']:.1f}")
    yield f"peak memory of a training on data of {found['data bytes'] / 1e6:.0f} MB", table, absences(found["absent"])


def number(x: float) -> str:
    """Return x with three figures or more."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.0f}" if x >= 100 else f"{x:.1f}"


# -- Pictures --------------------------------------------------------------------------------------------------


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw what was found."""
    draw = {"step": _plot_step, "accuracy": _plot_accuracy, "scaling": _plot_scaling, "memory": _plot_memory}
    figure = draw[found["question"]](found)
    figure.savefig(path, dpi=150)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _colour(title: str) -> str:
    return _COLOURS.get(title.replace(",", " ").split()[0], _OTHER)


def best_of_each(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the fastest row of each contender, fastest first; the peak's not."""
    best: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = best.get(row["contender"])
        if not row["is peak"] and row["same"] is not False and (known is None or row["us"] < known["us"]):
            best[row["contender"]] = row
    return sorted(best.values(), key=lambda row: float(row["us"]))


def _under(found: dict[str, Any]) -> str:
    return f"{found['machine']['processor']}, {found['machine']['cores']} cores, {found['machine']['date'][:10]}"


def _plot_step(found: dict[str, Any]) -> Any:
    problems = found["problems"]
    rows, columns = -(-len(problems) // 2), min(2, len(problems))
    figure = _figure(7.2 * columns, 3.4 * rows + 0.7)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, problem in zip(axes, problems, strict=False):
        bars = best_of_each(problem["rows"])[::-1]
        times = [bar["us"] for bar in bars]
        axis.barh(range(len(bars)), times, color=[_colour(bar["title"]) for bar in bars], height=0.7)
        for y, bar in enumerate(bars):
            axis.text(bar["us"] * 1.08, y, f"{number(bar['us'])} µs", va="center", fontsize=10)
        axis.set_yticks(range(len(bars)), [_short(bar) for bar in bars], fontsize=10)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter("")  # else 2 and 3 times a power overlap where a panel spans less than one
        if times:
            axis.set_xlim(min(times) / 3, max(times) * 5)
        axis.set_title(problem["name"], fontsize=12)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[len(problems) :]:
        axis.set_visible(False)
    first = problems[0]
    figure.suptitle(
        f"One step of SGD, {first['dtype']}, {first['data']} data: each at its best number of threads (in brackets)",
        fontsize=14,
    )
    figure.supxlabel(f"microseconds, logarithmic     ({_under(found)})", fontsize=10)
    return figure


def _short(row: dict[str, Any]) -> str:
    if row["label"] == row["title"]:  # on a GPU threads are no matter
        return str(row["title"])
    return f"{row['title']} ({'own' if row['threads'] is None else row['threads']})"


def _plot_accuracy(found: dict[str, Any]) -> Any:
    from matplotlib.ticker import LogLocator

    goals = found["goals"]
    figure = _figure(6.6 * len(goals), 4.8)
    for axis, goal in zip(figure.subplots(1, len(goals), squeeze=False)[0], goals, strict=True):
        best: dict[str, dict[str, Any]] = {}
        for row in goal["rows"]:  # fastest first
            best.setdefault(row["title"], row)
        for row, marker in zip(best.values(), "osD^vP*X" * 2, strict=False):
            for n, one in enumerate(row["runs"]):
                label = {"label": row["label"]} if n == 0 else {}
                errors = [100 * (1 - a) for a in one["accuracy"]]
                axis.plot(one["seconds"], errors, marker + "-", color=_colour(row["title"]), markersize=5, **label)
        axis.axhline(100 * (1 - goal["goal"]), color="0.3", linestyle="--", linewidth=1)
        axis.set_xscale("log")
        axis.set_yscale("log")
        ticks = (1, 2, 3, 5, 10, 20)
        axis.set_yticks(ticks, [f"{tick} %" for tick in ticks])
        axis.minorticks_off()
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("seconds of training, logarithmic")
        axis.set_title(f"to {goal['goal']:.0%}: {list(goal['problem']['sizes'])}, batch {goal['problem']['batch']}")
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize=9)
        axis.set_ylabel("wrong test images")
    figure.suptitle(f"Time to accuracy on MNIST, a marker an epoch     ({_under(found)})", fontsize=12)
    return figure


def _plot_scaling(found: dict[str, Any]) -> Any:
    sweeps = found["sweeps"]
    rows, columns = -(-len(sweeps) // 2), min(2, len(sweeps))
    figure = _figure(6.4 * columns, 4.0 * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, sweep in zip(axes, sweeps, strict=False):
        lines: dict[str, list[tuple[int, float]]] = {}
        titles = {}
        for point in sweep["points"]:
            for row in point["rows"]:
                titles[row["label"]] = row["title"]
                lines.setdefault(row["label"], []).append((point["value"], row["us"]))
        styles: dict[str, int] = {}
        for label, points in lines.items():
            colour = _colour(titles[label])
            style = styles[colour] = styles.get(colour, -1) + 1
            xs, ys = zip(*points, strict=True)
            axis.loglog(xs, ys, ("o-", "s--", "^:", "D-.")[style % 4], color=colour, label=label, markersize=5)
        axis.set_xlabel(sweep["name"].partition(": ")[2])
        axis.set_title(sweep["name"].partition(":")[0])
        axis.set_ylabel("microseconds a step")
        axis.grid(True, which="major", alpha=0.3)
    for axis in axes[len(sweeps) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"How the time of a step grows     ({_under(found)})", fontsize=13)
    return figure


def _plot_memory(found: dict[str, Any]) -> Any:
    rows: Sequence[dict[str, Any]] = found["rows"][::-1]
    figure = _figure(9, 0.55 * len(rows) + 1.6)
    axis = figure.subplots()
    axis.barh(range(len(rows)), [r["beyond bytes"] / 1e6 for r in rows], color=[_colour(r["title"]) for r in rows])
    for y, row in enumerate(rows):
        text = f" {row['beyond bytes'] / 1e6:.0f} MB, {row['times the data']:.1f} times the data"
        axis.text(row["beyond bytes"] / 1e6, y, text, va="center")
    axis.axvline(found["data bytes"] / 1e6, color="0.3", linestyle="--", label="the data themselves")
    axis.set_yticks(range(len(rows)), [r["title"] for r in rows])
    axis.set_xlim(right=1.6 * max((r["beyond bytes"] / 1e6 for r in rows), default=1))
    axis.set_xlabel("peak MB beyond the process after its imports")
    axis.set_title("Memory of a training on MNIST, 60,000 images")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower right")
    return figure
