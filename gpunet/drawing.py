"""What all pictures share: figures without global state, readable sizes, colours for everybody, files written whole.

Sizes are given to each text and not set as matplotlib's defaults, which belong to the program that uses gpunet.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gpunet import optional
from gpunet.errors import InputError
from gpunet.model_file import check_replaceable, replace_file

#: matplotlib's classes; it is not there for every user, nor for every type checker.
Figure = Any
Axes = Any

#: Points; for a picture that fills a slide.
TITLE, LABEL, SMALL = 14.0, 13.0, 11.0

#: From the palette of Okabe and Ito, which people see apart whatever their colour vision. Marker and line style say
#: the same once more, for those who print in grey.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.35"
_MARKERS = "os^Dv<P>X*hp"
_DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
#: Of so many points each has its marker; of more, every few.
_MARKED = 20

_DPI = 150


def library(module: str, what: str) -> Any:
    """Return a module of matplotlib; the error names `what` needs it."""
    return optional.library(module, what, "gpunet[plot]")


def new_figure(what: str, width: float, height: float) -> Figure:
    """Return an empty figure of that many inches whose parts make room for each other."""
    figure = library("matplotlib.figure", what).Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return figure


def check_path(path: str | os.PathLike[str], what: str = "--plot") -> None:
    """Fail before the work and not after it, if there can be no picture at `path`.

    Parameters
    ----------
    path : path
    what : str
        What the user gave the path for, as messages name it.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    InputError
        If it does not write such files, the folder is not there, or `path` is no place for a file.
    """
    path = Path(path)
    known = library("matplotlib.figure", what).Figure().canvas.get_supported_filetypes()
    if _format(path) not in known:
        raise InputError(f"{what} {path}: no picture format ends in {path.suffix!r}; such as .png, .svg or .pdf.")
    if not path.resolve().parent.is_dir():
        raise InputError(f"{what} {path}: there is no folder {path.parent}; make it first.")
    try:
        check_replaceable(path)
    except OSError as error:
        raise InputError(f"{what} {path}: {error.strerror}.") from error


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture in the format of the path's suffix; a file that is there is replaced once it is whole.

    Raises
    ------
    OSError
        If it can not be written.
    """
    path = Path(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=_format(path), dpi=_DPI)
    replace_file(path, picture.getvalue())


def _format(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()


def panel(axis: Axes, title: str, x: str, y: str, size: float = LABEL) -> None:
    """Give a panel its words and its grid."""
    axis.set_title(title, fontsize=size + TITLE - LABEL)
    axis.set_xlabel(x, fontsize=size)
    axis.set_ylabel(y, fontsize=size)
    axis.tick_params(labelsize=size - LABEL + SMALL)
    axis.xaxis.get_offset_text().set_fontsize(size - LABEL + SMALL)
    axis.yaxis.get_offset_text().set_fontsize(size - LABEL + SMALL)
    axis.grid(color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def line(axis: Axes, x: Sequence[float], y: Sequence[float | None], number: int, color: Any, **options: Any) -> None:
    """Draw one of several lines, told apart by marker and dashes also; what is None or not finite is left out."""
    values = [math.nan if value is None or not math.isfinite(value) else value for value in y]
    axis.plot(x, values, markevery=max(1, math.ceil(len(x) / _MARKED)), **_look(number, color), **options)


def legend_line(number: int, color: Any) -> Any:
    """Return what a legend shows for that line."""
    return library("matplotlib.lines", "a picture").Line2D([], [], **_look(number, color))


def _look(number: int, color: Any) -> dict[str, Any]:
    return {
        "color": color,
        "marker": _MARKERS[number % len(_MARKERS)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "linewidth": 2.0,
        "markersize": 6.0,
    }


def colour_scale(
    figure: Figure, axis: Axes, picture: Any, label: str, size: float, width: float, **options: Any
) -> None:
    """Draw the scale of an image's colours beside it, of its height; `width` is a part of the image's."""
    bar = figure.colorbar(picture, cax=axis.inset_axes([1.0 + width, 0.1, width, 0.8]), **options)
    bar.set_label(label, fontsize=size)
    bar.ax.tick_params(labelsize=size - LABEL + SMALL)


def log_if_wide(axis: Axes, values: Iterable[float | None], ratio: float = 10.0) -> None:
    """Make the y axis logarithmic if the values are all above 0 and the largest is that many times the smallest."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if not finite or min(finite) <= 0 or max(finite) < ratio * min(finite):
        return
    axis.set_yscale("log")
    if max(finite) < 100 * min(finite):  # too few powers of ten to read a value from
        ticker = library("matplotlib.ticker", "a picture")
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
