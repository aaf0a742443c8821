"""The search for a learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunet import checks, drawing
from gpunet.drawing import BLUE, LABEL, SMALL, VERMILION, Figure
from gpunet.errors import InputError


def learning_rate_finder(etas: Any, costs: Any, suggestion: float | None = None) -> Figure:
    """Draw the cost against the learning rate that grew from step to step, and the one to take.

    Parameters
    ----------
    etas : array, shape (steps,)
        The learning rates, above 0.
    costs : array, shape (steps,)
        The cost at each; NaN and infinity, where the training diverged, are left out.
    suggestion : float, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    InputError
        If the two do not fit each other, or hold nothing to draw.
    """
    x, y = (
        np.asarray(checks.real_array(v, name), dtype=np.float64) for v, name in ((etas, "etas"), (costs, "costs"))
    )
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(f"etas and costs must be of one length, got shapes {x.shape} and {y.shape}.")
    finite = np.isfinite(x) & np.isfinite(y) & (x > 0)
    if not finite.any():
        raise InputError("there is no finite cost at a learning rate above 0 to draw.")
    x, y = x[finite], y[finite]
    figure = drawing.new_figure("a picture of learning rates", 7.5, 4.5)
    axis = figure.subplots()
    drawing.panel(axis, "cost while the learning rate grows", "learning rate η", "cost C of the mini-batches", LABEL)
    drawing.line(axis, x.tolist(), y.tolist(), 0, BLUE)
    axis.set_xscale("log")
    low, start = float(y.min()), float(np.median(y[: max(1, len(y) // 10)]))
    if y.max() > start + 2 * (start - low) > low:  # what follows the divergence would press the rest together
        axis.set_ylim(low - 0.1 * (start - low), start + 1.0 * (start - low))
    if suggestion is not None:
        eta = checks.positive_float(suggestion, "suggestion")
        axis.axvline(eta, color=VERMILION, linestyle="--", linewidth=2, label=f"suggested: η = {eta:.3g}")
        axis.legend(fontsize=SMALL, frameon=False)
    return figure
