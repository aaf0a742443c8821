"""One page on a training: how it went, what it has learnt, where it is wrong."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any

from gpunet import drawing
from gpunet.drawing import LABEL, TITLE, Figure
from gpunet.network import Network
from gpunet.plots import network
from gpunet.training import curves
from gpunet.training.history import History

#: A page has less room than a picture alone.
_SIZE = LABEL - 2
#: The shape of most screens.
_WIDTH, _HEIGHT = 16.0, 9.0
#: Characters that fit into it.
_LONGEST_LINE = 130


def training_report(
    history: History, net: Network, X_test: Any, y_test: Any, class_names: Sequence[str] | None = None
) -> Figure:
    """Draw one page: the course of the training, and on test data the confusion matrix or, for numbers, their errors.

    Where the input could be a square image, the weights of layer 1 are drawn as images too. Numbers to predict of a
    table are drawn in their own unit if the network's metadata have its preprocessing.

    Parameters
    ----------
    history : History
        What `fit` returned.
    net : Network
        The trained network.
    X_test : array, shape (m, n_in)
    y_test : array, shape (m,) or (m, n_out)
        As `fit` takes it: of a table standardised.
    class_names : sequence of str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    InputError
        If there are no epochs, or the test data or names do not fit the network.
    """
    draws = curves.panels(history)
    figure = drawing.new_figure("a training's report", _WIDTH, _HEIGHT)
    columns = 1 if len(draws) <= 2 else 2 if len(draws) <= 6 else 3
    left, right = figure.subfigures(1, 2, width_ratios=[1.9 if network.is_image(net.sizes[0]) else 1.2, 1.0])
    curves.fill(left, history, draws, columns, _SIZE)
    _draw_results(right, net, X_test, y_test, class_names)
    figure.suptitle(_facts(history, net), fontsize=TITLE)
    return figure


def save(
    path: str | os.PathLike[str],
    history: History,
    net: Network,
    X_test: Any,
    y_test: Any,
    class_names: Sequence[str] | None = None,
) -> None:
    """Write the page of `training_report`, in the format of the path's suffix: .png, .svg, .pdf, ...

    Raises
    ------
    InputError, GpunetError
        As `check_path` and `training_report`.
    OSError
        If it can not be written; then a file that was there is as it was.
    """
    drawing.check_path(path, "plot:")
    drawing.save_figure(training_report(history, net, X_test, y_test, class_names), path)


def _draw_results(figure: Figure, net: Network, X: Any, y: Any, class_names: Sequence[str] | None) -> None:
    images = network.is_image(net.sizes[0])
    axes = figure.subplots(2 if images else 1, 1, squeeze=False)[:, 0]
    if net.task == "classification":
        matrix, names = network.count_classes(net, X, y, class_names)
        network.draw_confusion(figure, axes[0], matrix, names, _SIZE, side=3.5 if images else 5.0)
    else:
        network.draw_predicted(axes[0], net, X, y, _SIZE)
    if images:
        network.draw_weights(figure, axes[1], net, None, _SIZE)


def _facts(history: History, net: Network) -> str:
    parameters = sum(n * (k + 1) for k, n in pairwise(net.sizes))
    network = f"[{_runs(net.sizes)}], {_runs(f.name for f in net.activations)}, {net.cost.name} cost"
    seconds = sum(epoch.seconds for epoch in history.epochs)
    count = len(history.epochs)
    lines = (
        f"{network}, {parameters:,} parameters",
        f"{curves.how_it_ran(history)}, {count} epoch{'s' * (count > 1)} in {seconds:.3g} s",
    )
    return "\n".join(textwrap.shorten(line, _LONGEST_LINE, placeholder=" ...") for line in lines)


def _runs(values: Iterable[object]) -> str:
    """Return the values in a line, those that are repeated more than twice as "5×relu"."""
    runs = [(value, len(list(run))) for value, run in groupby(values)]
    return ", ".join(f"{count}×{value}" if count > 2 else ", ".join([str(value)] * count) for value, count in runs)
