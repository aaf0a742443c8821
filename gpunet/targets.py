"""From what users give as y to the targets of training, and whether they are classes or numbers."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import arrays, checks
from gpunet.activations import Activation, Softmax
from gpunet.backends import Array, Backend
from gpunet.costs import Cost
from gpunet.errors import InputError

_TEXT_ADVICE = " Classes that have names: classes, y = numpy.unique(y, return_inverse=True)."


def targets(
    ops: Backend, y: Any, m: int, n_out: int, dtype: str, output: Activation, cost: Cost, what: str = "y"
) -> tuple[Array, str]:
    """Return y as targets (m, n_out) where they are, and the task: "classification" or "regression".

    Labels, whole numbers of shape (m,), become one-hot rows. With one output, y of shape (m,) is taken as it is.
    One-hot rows are classes, as are 0 and 1 for one output between 0 and 1; all else are numbers to predict. A cost
    that is for one of the two tasks alone takes no targets of the other.
    """
    y = arrays.numeric(ops, y, what, _TEXT_ADVICE)
    if y.ndim == 0:
        raise InputError(f"{what} must have an entry for each of the {m} examples, got a single number.")
    if y.shape[0] != m:
        raise InputError(f"{what} has {y.shape[0]} entries for {m} examples; one is needed for each.")
    if y.ndim == 1 and n_out > 1 and cost.task != "regression":
        on_host = ops.to_numpy(y) if not isinstance(y, np.ndarray) else y
        return one_hot(labels(on_host, n_out, what), n_out), "classification"
    if y.ndim == 1 and n_out == 1:
        y = y[:, None]
    if tuple(y.shape) != (m, n_out):
        if cost.task == "regression":
            raise InputError(
                f"{what} must have shape ({m}, {n_out}), the numbers to predict with the {cost.name} cost, got "
                f"{tuple(y.shape)}; classes take the cross-entropy, log-likelihood or hinge cost."
            )
        flat = f"; {what}.ravel() has it" if tuple(y.shape) == (m, 1) else ""
        raise InputError(
            f"{what} must have shape ({m},), the classes as whole numbers from 0 to {n_out - 1}{flat}, or "
            f"({m}, {n_out}), got {tuple(y.shape)}."
        )
    low, high = output.range or (-np.inf, np.inf)
    fit = "0 and 1 as labels" if n_out == 1 else "classes as whole numbers of shape (examples,)"
    arrays.check_range(
        ops,
        y,
        dtype,
        what,
        low,
        high,
        f"{output.name} outputs lie between {low:g} and {high:g}. For numbers to predict take "
        f"output_activation='linear' and the quadratic cost; for classes, {fit}.",
    )
    low, high = cost.target_range
    arrays.check_range(
        ops, y, dtype, what, low, high, f"the {cost.name} cost takes targets from {low:g} to {high:g} only."
    )
    if isinstance(output, Softmax):
        _check_sums(ops, y, what)
    task = _task(ops, y, n_out, output)
    if cost.task == "classification" and task != "classification":
        raise InputError(
            f"{what} must be classes for the {cost.name} cost: whole numbers of shape ({m},) from 0 to {n_out - 1}, "
            "or rows with one 1 and else 0. Several classes at once: sigmoid outputs and the cross-entropy cost."
        )
    return y, cost.task or task


def example_weights(
    ops: Backend, Y: Any, task: str, class_weight: Any, sample_weight: Any
) -> npt.NDArray[np.float64] | None:
    """Return how much the cost of each example counts, (m, 1), or None if all count alike.

    Y are the targets, (m, n_out). A class's weight is multiplied with its examples' own.
    """
    if class_weight is None and sample_weight is None:
        return None
    m = int(Y.shape[0])
    weights = np.ones(m)
    if sample_weight is not None:
        given = checks.real_array(sample_weight, "sample_weight")
        if given.shape != (m,):
            raise InputError(f"sample_weight must have shape ({m},), one for each example, got {given.shape}.")
        weights *= given
        bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if bad.size:
            raise InputError(
                f"sample_weight[{bad[0]}] is {given[bad[0]]}; weights must be finite numbers of at least 0."
            )
        if not weights.any():
            raise InputError("sample_weight is 0 for every example; some must count.")
        weights /= weights.max()  # only their proportions matter, and these no dtype lets overflow
    if class_weight is not None:
        by_class = _by_class(np.asarray(ops.to_numpy(Y) if ops.is_native(Y) else Y), task, class_weight)
        weights *= by_class / by_class.max()
    return weights[:, None]


def _by_class(Y: npt.NDArray[Any], task: str, class_weight: Any) -> npt.NDArray[np.float64]:
    """Return each example's class weight, (m,)."""
    if task != "classification":
        raise InputError("class_weight is for classes, and these targets are numbers to predict; use sample_weight.")
    classes = (Y[:, 0] > 0.5).astype(np.int64) if Y.shape[1] == 1 else Y.argmax(axis=1)
    n_classes = max(2, Y.shape[1])
    counts = np.bincount(classes, minlength=n_classes)
    if isinstance(class_weight, str) and class_weight == "balanced":
        by_class = len(classes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return np.asarray(by_class[classes])
    if not isinstance(class_weight, Mapping):
        raise InputError(
            f"class_weight must be 'balanced' or a dict such as {{0: 1.0, 1: 5.0}}, got {class_weight!r:.60}."
        )
    weights = np.ones(n_classes)
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, numbers.Integral) or not 0 <= int(label) < n_classes:
            raise InputError(
                f"class_weight has the class {label!r:.40}; the network's classes are 0 to {n_classes - 1}."
            )
        weights[int(label)] = checks.positive_float(weight, f"class_weight[{label}]")
    return np.asarray(weights[classes])


def _check_sums(ops: Backend, y: Any, what: str) -> None:
    host = np.asarray(y if isinstance(y, np.ndarray) else ops.to_numpy(y))
    sums = host.sum(axis=1, dtype=np.float64)
    off = np.flatnonzero(~(np.abs(sums - 1) < 1e-3))
    if off.size:
        raise InputError(
            f"row {off[0]} of {what} adds up to {sums[off[0]]:g}, but softmax outputs are probabilities that add up "
            "to 1. Several classes at once: sigmoid outputs and the cross-entropy cost."
        )


def labels(y: npt.NDArray[Any], n_out: int, what: str) -> npt.NDArray[np.int64]:
    """Return class labels (m,) as int64, all in 0 ... n_out - 1."""
    good = (y >= 0) & (y < n_out) & (y == np.floor(y))
    if not good.all():
        bad = y[np.flatnonzero(~good)[0]]
        if bad != np.floor(bad) or not np.isfinite(bad):
            advice = f"For targets that are not classes, give {what} the shape (examples, {n_out})."
        else:
            advice = (
                "Labels of other values: classes, y = numpy.unique(y, return_inverse=True), before "
                "they are split; more classes: a larger last size."
            )
        raise InputError(
            f"{what} has the label {bad}, but the network's {n_out} outputs take whole numbers from 0 to "
            f"{n_out - 1} as labels. {advice}"
        )
    return y.astype(np.int64)


def one_hot(labels: npt.NDArray[np.int64], n_out: int) -> npt.NDArray[np.uint8]:
    """Return a row of n_out zeros with a one at its label for each label."""
    encoded = np.zeros((len(labels), n_out), dtype=np.uint8)
    encoded[np.arange(len(labels)), labels] = 1
    return encoded


def book_pairs(pairs: Any, n_out: int, what: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Split the book's list of (x, y) tuples into columns x (n_in, m) and rows y (m, n_out).

    A y that is a number is a label; with one output, it is the target itself.
    """
    pairs = as_list(pairs, what)
    if not pairs:
        raise InputError(f"{what} is empty; it must be a list of at least one (x, y) tuple.")
    try:
        xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    except (TypeError, ValueError):
        raise InputError(f"{what} must be a list of (x, y) tuples, got entries such as {pairs[0]!r:.60}.") from None
    y_name = f"the y of {what}"
    vectors = [checks.real_array(y, y_name, _TEXT_ADVICE) for y in ys]
    numbers = [i for i, y in enumerate(vectors) if y.ndim == 0]
    if numbers and n_out > 1:
        encoded = one_hot(labels(np.array([vectors[i] for i in numbers]), n_out, y_name), n_out)
        for i, row in zip(numbers, encoded, strict=True):
            vectors[i] = row
    return _stack(xs, f"the x of {what}").T, _stack(vectors, y_name)


def as_list(pairs: Any, what: str) -> list[Any]:
    """Return the book's list of tuples, which may be any iterable, as a list."""
    try:
        return list(pairs)
    except TypeError:
        raise InputError(f"{what} must be a list of (x, y) tuples, got {type(pairs).__name__}.") from None


def _stack(vectors: Iterable[Any], what: str) -> npt.NDArray[Any]:
    """Return vectors of shape (n,) or (n, 1) as the rows of a matrix (m, n)."""
    flat = []
    for v in vectors:
        array = checks.real_array(v, what)
        if array.size != max(array.shape, default=1) or array.ndim > 2 or array.shape[1:] not in ((), (1,)):
            raise InputError(f"{what} must be vectors of shape (n,) or (n, 1), got one of shape {array.shape}.")
        flat.append(array.reshape(-1))
    odd = next((v for v in flat if v.shape != flat[0].shape), None)
    if odd is not None:
        raise InputError(f"{what} differ in length: {len(flat[0])} and {len(odd)}.")
    return np.stack(flat)


def _task(ops: Backend, y: Any, n_out: int, output: Activation) -> str:
    xp = np if isinstance(y, np.ndarray) else ops.xp
    if arrays.kind(y) == "bool":
        y = xp.astype(y, xp.uint8)
    zero_or_one = bool(xp.all((y == 0) | (y == 1)))
    if n_out == 1:
        return "classification" if zero_or_one and output.range == (0.0, 1.0) else "regression"
    one_each = zero_or_one and bool(xp.all(xp.sum(y, axis=1) == 1))
    return "classification" if one_each else "regression"
