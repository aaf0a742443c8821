"""What a network has learnt: the weights of its first layer as images, and which classes it takes for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import checks, drawing, targets
from gpunet.drawing import BLUE, GREY, LABEL, SMALL, TITLE, Axes, Figure
from gpunet.encodings import Numbers
from gpunet.errors import InputError
from gpunet.network import Network
from gpunet.preprocessing import Preprocessing
from gpunet.training.metrics import to_classes

#: More neurons are not drawn; nobody could tell them apart.
MOST_IMAGES = 64
#: The longer side of an image in inches.
_LONGER_SIDE = 1.0
#: Up to so many classes the cells of a confusion matrix have room for numbers.
_NUMBERED = 20
#: Points of the smallest letters; where they do not fit, classes go without a name.
_SMALLEST = 7.0
#: Longer names are cut.
_LONGEST_NAME = 16
#: A picture of numbers to predict has at most so many points.
_MOST_POINTS = 2000


def first_layer_weights(net: Network, shape: tuple[int, int] | None = None) -> Figure:
    """Draw the weights of each neuron of layer 1 as an image: what it looks for in the input.

    Red weights are above 0, blue ones below. Of a layer of more than 64 neurons the first 64 are drawn.

    Parameters
    ----------
    net : Network
        Whose input is an image of one channel.
    shape : (int, int), optional
        The image's rows and columns; by default a square.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    InputError
        If the network's inputs are no image of that shape.
    """
    shape = _image_shape(net.sizes[0], shape)
    n, columns = min(net.sizes[1], MOST_IMAGES), _columns(net, shape)
    inch = _LONGER_SIDE / max(shape)  # of a pixel
    height, width = inch * _cell(shape)[0] * math.ceil(n / columns), inch * _cell(shape)[1] * columns
    figure = drawing.new_figure("a picture of weights", max(width + 1.4, 4.5), max(height + 0.8, 2.5))
    draw_weights(figure, figure.subplots(), net, shape, LABEL)
    return figure


def confusion_matrix(net: Network, X: Any, y: Any, class_names: Sequence[str] | None = None) -> Figure:
    """Draw which classes the network takes for which.

    A row is a true class, a column what the network says; numbers are examples, colours shares of the row.

    Parameters
    ----------
    net : Network
        A network for classes.
    X : array, shape (m, n_in)
    y : array, shape (m,) or (m, n_out)
        Labels, or one-hot rows.
    class_names : sequence of str, optional
        By default the numbers from 0.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    InputError
        If the network is for regression, or y or the names do not fit it.
    """
    matrix, names = count_classes(net, X, y, class_names)
    side = float(np.clip(0.5 * len(names) + 1.5, 5.0, 11.0))
    longest = min(max(map(len, names)), _LONGEST_NAME)
    figure = drawing.new_figure("a confusion matrix", side + 1.6 + 0.1 * longest, side)
    draw_confusion(figure, figure.subplots(), matrix, names, LABEL, side - 1.5)
    return figure


def is_image(n_in: int) -> bool:
    """Whether so many inputs could be a square image that is worth a look."""
    return math.isqrt(n_in) ** 2 == n_in and n_in >= 16


def _image_shape(n_in: int, shape: Any) -> tuple[int, int]:
    if shape is None:
        side = math.isqrt(n_in)
        if side**2 != n_in:
            raise InputError(f"{n_in} inputs are no square image; pass shape=(rows, columns).")
        return side, side
    try:
        rows, columns = shape
    except (TypeError, ValueError):
        raise InputError(f"shape must be (rows, columns) of the image, got {shape!r:.60}.") from None
    rows, columns = (checks.positive_int(n, "a side of shape") for n in (rows, columns))
    if rows * columns != n_in:
        raise InputError(
            f"an image of shape ({rows}, {columns}) has {rows * columns} numbers; the network takes {n_in}."
        )
    return rows, columns


def _columns(net: Network, shape: tuple[int, int]) -> int:
    """Return how many images stand beside each other: for a sheet from square to twice as wide, few places free."""
    n = min(net.sizes[1], MOST_IMAGES)
    square = math.sqrt(n * shape[0] / shape[1])
    fewest, most = (min(n, math.ceil(columns)) for columns in (square, math.sqrt(2) * square))
    return min(range(fewest, most + 1), key=lambda columns: -n % columns)


def _cell(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the pixels of an image with room for its number above it, and some beside it."""
    rows, columns = shape
    return rows + max(1, round(max(0.28 * rows, 0.2 * columns))), columns + max(1, round(0.1 * columns))


def draw_weights(figure: Figure, axis: Axes, net: Network, shape: tuple[int, int] | None, size: float) -> None:
    """Draw the images into one axis, each with its neuron's number above it."""
    shape = height, width = _image_shape(net.sizes[0], shape)
    n, columns = min(net.sizes[1], MOST_IMAGES), _columns(net, shape)
    cell_height, cell_width = _cell(shape)
    above, beside = cell_height - height, cell_width - width
    weights = net.weights[0][:n].reshape(n, height, width)
    sheet = np.full((math.ceil(n / columns) * cell_height, columns * cell_width - beside), np.nan)
    for j, image in enumerate(weights):
        top, left = j // columns * cell_height + above, j % columns * cell_width
        sheet[top : top + height, left : left + width] = image
        axis.text(left, top - 0.2 * above - 0.5, str(j + 1), fontsize=size - LABEL + 9, va="bottom", color=GREY)
    limit = float(np.abs(weights).max()) or 1.0
    picture = axis.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axis.set_axis_off()
    part = f", neurons 1 to {n} of {net.sizes[1]}" if n < net.sizes[1] else ""
    axis.set_title(f"weights of layer 1{part}", fontsize=size + TITLE - LABEL)
    scale = float(np.clip(0.2 / columns, 0.03, 0.1))
    drawing.colour_scale(figure, axis, picture, r"weight $w^1_{jk}$", size, scale)


def count_classes(
    net: Network, X: Any, y: Any, class_names: Sequence[str] | None
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return how often each true class (row) was taken for each class (column), and the classes' names."""
    if net.task != "classification":
        raise InputError("a confusion matrix is for classes, and this network predicts numbers.")
    n_out = net.sizes[-1]
    n = max(2, n_out)
    names = [str(name) for name in (range(n) if class_names is None else class_names)]
    if len(names) != n:
        raise InputError(f"class_names has {len(names)} names for the network's {n} classes.")
    predicted = np.asarray(net.predict(X))
    true = checks.real_array(y, "y")
    if true.ndim == 2 and true.shape[1] == n_out:
        true = to_classes(true)
    elif true.ndim == 1:
        true = targets.labels(true, n, "y")
    if true.shape != predicted.shape:
        raise InputError(
            f"y must have a label or a row of {n_out} outputs for each of the {len(predicted)} examples, got shape "
            f"{true.shape}."
        )
    return np.bincount(n * true + predicted, minlength=n * n).reshape(n, n), names


def draw_confusion(
    figure: Figure, axis: Axes, matrix: npt.NDArray[np.int64], names: Sequence[str], size: float, side: float
) -> None:
    """Draw a matrix of counts, the shares of each row as colours, into an axis of about `side` inches."""
    n, small = len(names), size - LABEL + SMALL
    cell = 72 * side / n  # points
    share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # By its square root, so that a few mistakes are seen beside many that are right.
    norm = drawing.library("matplotlib.colors", "a confusion matrix").PowerNorm(0.5, vmin=0, vmax=100)
    picture = axis.imshow(share, cmap="Blues", norm=norm)
    right, total = int(matrix.trace()), int(matrix.sum())
    axis.set_title(f"{right:,} of {total:,} right, {100 * right / total:.2f} %", fontsize=size + TITLE - LABEL)
    axis.set_xlabel("class that the network says", fontsize=size)
    axis.set_ylabel("true class", fontsize=size)
    letters = min(small, max(_SMALLEST, 0.7 * cell))
    every = math.ceil(1.2 * letters / cell)
    shown = range(0, n, every)
    texts = [_shortened(names[i]) for i in shown]
    turned = 0.65 * letters * max(map(len, texts)) > every * cell
    axis.set_xticks(shown, texts, fontsize=letters, rotation=90 if turned else 0, parse_math=False)
    axis.set_yticks(shown, texts, fontsize=letters, parse_math=False)
    if n <= _NUMBERED:
        for i, j in np.argwhere(matrix):
            text = str(matrix[i, j])
            fitting = min(small, 1.3 * cell / len(text))
            color = "white" if share[i, j] > 35 else "black"
            axis.text(j, i, text, ha="center", va="center", color=color, fontsize=fitting)
    drawing.colour_scale(
        figure, axis, picture, "share of the true class (%)", size, 0.04, ticks=[0, 1, 5, 20, 50, 100]
    )


def _shortened(name: str) -> str:
    """Return the name, if it is too long without its middle: what tells names apart is often at their ends."""
    half = _LONGEST_NAME // 2
    return name if len(name) <= _LONGEST_NAME else name[:half] + "…" + name[1 - half :]


def draw_predicted(axis: Axes, net: Network, X: Any, y: Any, size: float) -> None:
    """Draw what a network for regression says against what is true, in the unit of the table that it was made for."""
    true = checks.real_array(y, "y").reshape(len(y), -1)
    predicted = net.outputs(X)
    prepared, words = Preprocessing.of_model(net.metadata, net.sizes), ("target y", "output a")
    if prepared is not None and isinstance(prepared.target, Numbers):
        true, predicted = prepared.predictions(true), prepared.predictions(predicted)
        name = _shortened(prepared.target.name)
        words = name, f"{name}, predicted"
    every = math.ceil(true.size / _MOST_POINTS)
    drawing.panel(axis, f"R² {net.score(X, y):.4f}", *words, size)
    for label in (axis.xaxis.label, axis.yaxis.label):
        label.set_parse_math(False)  # a dollar in a name begins no formula
    axis.plot(true.ravel()[::every], predicted.ravel()[::every], "o", color=BLUE, markersize=4, alpha=0.4, mew=0)
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    axis.plot(ends, ends, "--", color=GREY, linewidth=1.5)
    axis.set_aspect("equal")
