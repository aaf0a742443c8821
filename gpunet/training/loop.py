"""The epoch loop: train, look for divergence, validate, record; whatever stops it leaves a whole epoch's model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array
from gpunet.errors import DivergenceError, InputError
from gpunet.model import Model
from gpunet.training.history import Epoch, History
from gpunet.training.outputs import measure
from gpunet.training.sgd import MiniBatchSGD, Progress
from gpunet.training.steps import Recipe


@dataclass(frozen=True)
class Validation:
    """Data to validate on: inputs X (N, n_in), targets Y (N, n_out) in the host's memory, and what they are for."""

    X: Array
    Y: npt.NDArray[Any]
    task: str

    def measure(self, model: Model) -> tuple[float, float]:
        """Return the mean cost and the score."""
        return measure(model, self.X, self.Y, self.task)


def run(
    sgd: MiniBatchSGD,
    epochs: int,
    history: History,
    validation: Validation | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Train for `epochs` epochs and append each to `history`.

    However it ends (an interrupt, divergence, an error in a callback), the model keeps the parameters of the
    last epoch in `history`, or those of the start.

    Raises
    ------
    DivergenceError
        If the cost or a parameter becomes NaN or infinite.
    """
    model = sgd.recipe.model
    ops, flat = model.ops, model.parameters.flat
    if not np.isfinite(ops.to_numpy(flat)).all():
        raise InputError("the network's weights or biases hold NaN or infinity before the training; set them anew.")
    good = ops.copy(flat, out=ops.empty(tuple(flat.shape), model.dtype))
    try:
        for number in range(epochs):
            started = time.perf_counter()
            cost = sgd.run_epoch(on_progress)
            _check_finite(sgd.recipe, cost, number)
            seconds = time.perf_counter() - started
            measured = validation.measure(model) if validation else (None, None)
            ops.copy(flat, out=good)
            history.engine = sgd.engine
            history.epochs.append(Epoch(number, cost, seconds, sgd.n / seconds, *measured))
            if on_epoch is not None:
                on_epoch(history.epochs[-1])
    except BaseException:
        ops.copy(good, out=flat)
        raise


def _check_finite(recipe: Recipe, cost: float, number: int) -> None:
    model, eta = recipe.model, recipe.eta
    if np.isfinite(cost) and np.isfinite(model.ops.to_numpy(model.parameters.flat)).all():
        return
    decay = eta * recipe.penalty
    l2 = f" and a smaller l2 (eta l2 / examples was {decay:.3g}; from 2 on weights grow)" if decay > 0.5 else ""
    kept = f"epoch {number - 1}" if number else "the start"
    raise DivergenceError(
        f"training diverged in epoch {number} (cost {cost:g}): parameters or cost became NaN or infinite. The "
        f"network keeps the parameters of {kept}. Try a smaller eta (it was {eta:g}){l2}, inputs scaled to about "
        "[0, 1], or an output activation that fits the targets."
    )
