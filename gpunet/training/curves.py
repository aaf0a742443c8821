"""The course of a training: cost, score, learning rate, and what its layers did."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from typing import Any

from gpunet import drawing
from gpunet.drawing import BLUE, GREEN, LABEL, SMALL, VERMILION, Axes, Figure
from gpunet.errors import InputError
from gpunet.training.record import Record

#: Draws a panel: (axis, history, size of the labels).
Draw = Callable[[Axes, Record, float], None]

#: R^2 below this says nothing more, and would press everything else together.
_LOWEST_R_SQUARED = -1.0
#: How many of so many panels stand beside each other.
_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2, 5: 3, 6: 3, 7: 4}


def training_curves(history: Record, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw a training: cost, score, learning rate if it changed, and the layers if they were measured.

    Parameters
    ----------
    history : Record
        Such as the `History` that `fit` returned.
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
    if path is not None:
        drawing.check_path(path, "plot:")
    draws = panels(history)
    columns = _COLUMNS[len(draws)]
    rows = math.ceil(len(draws) / columns)
    figure = drawing.new_figure("a picture of a training", 4.9 * columns, 3.8 * rows + 0.8)
    fill(figure, history, draws, columns, LABEL)
    figure.suptitle(how_it_ran(history), fontsize=LABEL)
    if path is not None:
        drawing.save_figure(figure, path)
    return figure


def panels(history: Record) -> list[Draw]:
    """Return what there is to draw of a history.

    Raises
    ------
    InputError
        If it has no epochs.
    """
    if not history.epochs:
        raise InputError("the history has no epochs yet, and so nothing to draw.")
    draws: list[Draw] = [_cost]
    if any(score is not None for score in history.validation_score):
        draws.append(_score)
    if len(set(history.etas)) > 1:
        draws.append(_eta)
    layers = history.epochs[0].layers
    if layers is not None:
        draws += [_by_layer(*words) for words in _LENGTHS]
        if any(layer.saturated is not None or layer.dead is not None for layer in layers):
            draws.append(_idle)
    return draws


def fill(figure: Figure, history: Record, draws: list[Draw], columns: int, size: float) -> None:
    """Draw the panels into a figure in so many columns, and below them the legend of the layers if there are any."""
    axes = figure.subplots(math.ceil(len(draws) / columns), columns, squeeze=False).flat
    for axis, draw in itertools.zip_longest(axes, draws):
        if draw is None:
            axis.set_axis_off()
            continue
        draw(axis, history, size)
        _epochs(axis, history)
    layers = len(history.epochs[0].layers or ())
    if layers:
        lines = [drawing.legend_line(l, color) for l, color in enumerate(_colors(layers))]
        figure.legend(
            lines,
            [f"layer {l}" for l in range(1, layers + 1)],
            loc="outside lower center",
            fontsize=size - LABEL + SMALL,
            ncols=min(layers, 2 * columns),
            frameon=False,
            handlelength=3.2,
        )


def how_it_ran(history: Record) -> str:
    """Return the optimizer, its settings and the machine in a line."""
    eta = "" if history.eta is None else f"η = {history.eta:g}, "
    return f"{history.optimizer}, {eta}mini-batch {history.batch_size}, {history.backend}"


def score_name(task: str | None) -> str:
    """Return what a score is called."""
    return {"classification": "accuracy", "regression": "R²"}.get(task or "", "score")


def _epochs(axis: Axes, history: Record) -> None:
    """Give the x axis whole epochs, and room for one alone."""
    numbers = [epoch.epoch for epoch in history.epochs]
    margin = max(0.5, 0.03 * (numbers[-1] - numbers[0]))
    axis.set_xlim(numbers[0] - margin, numbers[-1] + margin)
    axis.xaxis.set_major_locator(
        drawing.library("matplotlib.ticker", "a picture").MaxNLocator(nbins=7, integer=True, min_n_ticks=1)
    )


def _numbers(history: Record) -> list[float]:
    return [epoch.epoch for epoch in history.epochs]


def _cost(axis: Axes, history: Record, size: float) -> None:
    drawing.panel(axis, "cost", "epoch", "mean cost C", size)
    drawing.line(axis, _numbers(history), history.cost, 0, BLUE, label="training")
    validated = any(cost is not None for cost in history.validation_cost)
    if validated:
        drawing.line(axis, _numbers(history), history.validation_cost, 1, VERMILION, label="validation")
        axis.legend(fontsize=size - LABEL + SMALL, frameon=False)
    drawing.log_if_wide(axis, [*history.cost, *history.validation_cost], ratio=30)


def _score(axis: Axes, history: Record, size: float) -> None:
    name, scores = score_name(history.task), history.validation_score
    shown, what = history.best, "best"
    if history.best_epoch is not None:  # of whatever early stopping looked at, often the cost
        shown, what = next(epoch for epoch in history.epochs if epoch.epoch == history.best_epoch), "kept"
    if history.task == "classification":
        percent = [None if score is None else 100 * score for score in scores]
        title = f"{what}: {100 * (shown.validation_score or 0.0):.2f} % in epoch {shown.epoch}"
        drawing.panel(axis, title, "epoch", f"validation {name} (%)", size)
        drawing.line(axis, _numbers(history), percent, 1, VERMILION)
        return
    title = f"{what}: {shown.validation_score:.4f} in epoch {shown.epoch}"
    drawing.panel(axis, title, "epoch", f"validation {name}", size)
    drawing.line(axis, _numbers(history), scores, 1, VERMILION)
    low, high = axis.get_ylim()
    if history.task == "regression" and low < _LOWEST_R_SQUARED < max(s for s in scores if s is not None):
        axis.set_ylim(_LOWEST_R_SQUARED, max(high, 0.0))


def _eta(axis: Axes, history: Record, size: float) -> None:
    drawing.panel(axis, "learning rate", "epoch", "learning rate η", size)
    drawing.line(axis, _numbers(history), history.etas, 3, GREEN)
    drawing.log_if_wide(axis, history.etas)


_LENGTHS = [
    ("delta_norm", "length of the errors", r"mean $\Vert\delta^l\Vert$"),
    ("gradient_norm", "length of the gradients", r"$\Vert\partial C/\partial(w^l, b^l)\Vert$"),
    ("weight_norm", "length of the weights", r"$\Vert w^l\Vert$"),
]


def _by_layer(name: str, title: str, label: str) -> Draw:
    def draw(axis: Axes, history: Record, size: float) -> None:
        drawing.panel(axis, title, "epoch", label, size)
        _lines(axis, history, name)
        drawing.log_if_wide(axis, [getattr(layer, name) for epoch in history.epochs for layer in epoch.layers or ()])

    return draw


def _idle(axis: Axes, history: Record, size: float) -> None:
    """Draw the shares of saturated and of dead neurons; where a picture has both, the dead are hollow."""
    layers = history.epochs[0].layers or ()
    kinds = {
        "saturated": any(layer.saturated is not None for layer in layers),
        "dead": any(layer.dead is not None for layer in layers),
    }
    title = " or ".join(kind for kind, there in kinds.items() if there) + " neurons"
    hollow = {"markerfacecolor": "white"} if all(kinds.values()) else {}
    drawing.panel(axis, title + (" (hollow)" if hollow else ""), "epoch", "share of the layer (%)", size)
    _lines(axis, history, "saturated", 100.0)
    _lines(axis, history, "dead", 100.0, **hollow)
    axis.set_ylim(-3, 103)


def _lines(axis: Axes, history: Record, name: str, factor: float = 1.0, **options: Any) -> None:
    """Draw a line for each layer that has a number of that name."""
    count = len(history.epochs[0].layers or ())
    colors = _colors(count)
    for l in range(count):
        values = [getattr(epoch.layers[l], name) if epoch.layers else None for epoch in history.epochs]
        if any(value is not None for value in values):
            scaled = [None if value is None else factor * value for value in values]
            drawing.line(axis, _numbers(history), scaled, l, colors[l], **options)


def _colors(layers: int) -> list[Any]:
    """Return a colour for each layer, from dark to light without the palest."""
    colormap = drawing.library("matplotlib", "a picture").colormaps["viridis"]
    return [colormap(0.75 * l / max(1, layers - 1)) for l in range(layers)]
