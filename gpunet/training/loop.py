"""The epoch loop: train, look for divergence, validate, record, save; always a whole epoch's model stays."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpunet.backends import Array
from gpunet.errors import DivergenceError, InputError
from gpunet.model import Model
from gpunet.training.checkpoint import Checkpoint, Snapshot, fingerprint
from gpunet.training.diagnostics import Diagnostics
from gpunet.training.early_stopping import EarlyStopping
from gpunet.training.history import History
from gpunet.training.options import Callback
from gpunet.training.outputs import measure
from gpunet.training.record import Epoch
from gpunet.training.schedules import Schedule
from gpunet.training.sgd import MiniBatchSGD, Progress


@dataclass(frozen=True)
class Validation:
    """Data to validate on: inputs X (N, n_in), targets Y (N, n_out) in the host's memory, and what they are for.

    The rows of a source have their targets with them; then Y is None.
    """

    X: Array
    Y: npt.NDArray[Any] | None
    task: str

    def measure(self, model: Model) -> tuple[float, float]:
        """Return the mean cost and the score."""
        return measure(model, self.X, self.Y, self.task)

    def fingerprint(self, model: Model) -> str:
        """Return a short text that differs where the data do."""
        return fingerprint(model.ops, [v for v in (self.X, self.Y) if v is not None])


class Trainer(Protocol):
    """Whose state a checkpoint has to keep."""

    def state(self) -> tuple[int, npt.NDArray[Any]]:
        """Return, between epochs, how many steps were taken and a copy of what the optimizer remembers."""


class Course:
    """A training's course: what has been, what is kept of it, and whether it is over.

    Parameters
    ----------
    model : Model
    history : History
        Of the epochs before, if it goes on.
    epochs : int
        How many are to be.
    rng : numpy.random.Generator
        The training's, for its state.
    validation : Validation, optional
    early_stopping : EarlyStopping, optional
    callbacks : sequence of callable
    diagnostics : Diagnostics, optional
    checkpoint : Checkpoint, optional
    """

    def __init__(
        self,
        model: Model,
        history: History,
        epochs: int,
        rng: np.random.Generator,
        validation: Validation | None = None,
        early_stopping: EarlyStopping | None = None,
        callbacks: Sequence[Callback] = (),
        diagnostics: Diagnostics | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.model, self.history, self.epochs = model, history, epochs
        self._rng = rng
        self._validation, self._early_stopping = validation, early_stopping
        self._callbacks, self._diagnostics, self._checkpoint = callbacks, diagnostics, checkpoint
        self._good = self._copy()
        self._best: Array = None if early_stopping is None else self._copy()
        self._best_number = 0
        self._check_start()

    def _check_start(self) -> None:
        if not np.isfinite(self.model.ops.to_numpy(self._good)).all():
            raise InputError(
                "the network's weights or biases hold NaN or infinity before the training; set them anew."
            )

    def restore_best(self, best: npt.NDArray[Any]) -> None:
        """Take the best epoch's parameters from a checkpoint."""
        ops = self.model.ops
        ops.copy(ops.asarray(best, self.model.dtype), out=self._best)

    def restore(self) -> None:
        """Bring back the parameters of the last whole epoch."""
        self.model.ops.copy(self._good, out=self.model.parameters.flat)

    def keep(self, trainer: Trainer, ended: str | None = None) -> None:
        """Take note of the state between two epochs for the checkpoint, if there is one.

        `ended` says why no epoch can follow, whatever a training that goes on from there asks for.
        """
        if self._checkpoint is not None:
            self._checkpoint.keep(self._snapshot(trainer, ended))

    def is_over(self, schedule: Schedule | None = None) -> bool:
        """Whether no epoch is to follow; then the history says why."""
        if self.history.stopped is not None:
            return True
        if len(self.history.epochs) >= self.epochs:
            return True
        if self._early_stopping is not None and self._early_stopping.is_over(self.history, self._best_number):
            patience, monitor = self._early_stopping.patience, self._early_stopping.monitor
            self.history.stopped = f"{monitor} did not improve for {patience} epochs"
        elif schedule is not None and schedule.is_over(self.history):
            self.history.stopped = f"the schedule {schedule!r} ended"
        return self.history.stopped is not None

    @contextmanager
    def whole_epochs(self) -> Iterator[None]:
        """Within it, what raises leaves the parameters of the last whole epoch, and its checkpoint."""
        try:
            yield
        except BaseException:
            self.restore()
            if self._checkpoint is not None:
                self._checkpoint.write_pending()
            raise
        if self._early_stopping is not None and self._early_stopping.restore_best and self.history.epochs:
            self.model.ops.copy(self._best, out=self.model.parameters.flat)
            self.history.best_epoch = self._early_stopping.best_epoch(self.history, self._best_number)
        if self._checkpoint is not None:  # of the last epoch, from which a training goes on
            self._checkpoint.write_pending()

    def end_epoch(
        self,
        trainer: Trainer,
        cost: float,
        eta: float | None,
        seconds: float,
        examples: int,
        is_kept: bool = True,
    ) -> None:
        """Validate, record, tell and (where `is_kept`) save the epoch that has just been trained.

        Raises
        ------
        DivergenceError
            If the cost or a parameter has become NaN or infinite.
        """
        number = len(self.history.epochs)
        self._check_finite(cost, eta, number)
        val_cost, val_score = self._validation.measure(self.model) if self._validation else (None, None)
        layers = self._diagnostics.measure() if self._diagnostics else None
        epoch = Epoch(number, cost, seconds, examples / seconds, val_cost, val_score, eta, layers)
        self.model.ops.copy(self.model.parameters.flat, out=self._good)
        self.history.epochs.append(epoch)
        stopping = self._early_stopping
        if stopping is not None and stopping.best_epoch(self.history, self._best_number) == number:
            self.model.ops.copy(self._good, out=self._best)
            self._best_number = number
        if is_kept:
            self.keep(trainer)
        answers = [callback(epoch) for callback in self._callbacks]
        if any(answer is True for answer in answers):
            self.history.stopped = "a callback asked for it"

    def _snapshot(self, trainer: Trainer, ended: str | None) -> Snapshot:
        taken, states = trainer.state()
        best = None if self._early_stopping is None else np.array(self.model.ops.to_numpy(self._best))
        history = replace(self.history, epochs=list(self.history.epochs), stopped=ended)
        return Snapshot(taken, states, best, dict(self._rng.bit_generator.state), history)

    def _copy(self) -> Array:
        ops, flat = self.model.ops, self.model.parameters.flat
        return ops.copy(flat, out=ops.empty(tuple(flat.shape), self.model.dtype))

    def _check_finite(self, cost: float, eta: float | None, number: int) -> None:
        if np.isfinite(cost) and np.isfinite(self.model.ops.to_numpy(self.model.parameters.flat)).all():
            return
        kept = f"epoch {number - 1}" if number else "the start"
        smaller = "" if eta is None else f"Try a smaller eta (it was {eta:g}), "
        raise DivergenceError(
            f"training diverged in epoch {number} (cost {cost:g}): parameters or cost became NaN or infinite. The "
            f"network keeps the parameters of {kept}. {smaller or 'Try '}inputs scaled to about [0, 1], or an output "
            "activation that fits the targets."
        )


def run(sgd: MiniBatchSGD, schedule: Schedule, course: Course, on_progress: Progress | None = None) -> None:
    """Train epoch after epoch until the course is over.

    However it ends (an interrupt, divergence, an error in a callback), the model keeps the parameters of the
    last epoch in the history, or those of the start.

    Raises
    ------
    DivergenceError
        If the cost or a parameter becomes NaN or infinite.
    """
    history, recipe = course.history, sgd.recipe
    with course.whole_epochs():
        while not course.is_over(schedule):
            eta = schedule.eta(len(history.epochs), history)
            started = time.perf_counter()
            cost = sgd.run_epoch(eta, on_progress)
            seconds = time.perf_counter() - started
            history.engine = sgd.engine
            try:
                course.end_epoch(sgd.steps, cost, eta, seconds, sgd.n)
            except DivergenceError as error:
                decay = eta * recipe.l2
                if decay > 0.5:
                    raise DivergenceError(
                        f"{error} And a smaller l2: eta l2 / examples was {decay:.3g}; from 2 on weights grow."
                    ) from None
                raise
