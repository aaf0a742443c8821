"""A whole training: from data and options to a trainer, a course and, where asked for, a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import arrays
from gpunet.errors import FileFormatError, InputError
from gpunet.model import Model
from gpunet.model_file import SavedModel
from gpunet.optimizers import LBFGS
from gpunet.training import checkpoint, lbfgs, loop
from gpunet.training.checkpoint import Checkpoint, Resumed
from gpunet.training.diagnostics import Diagnostics
from gpunet.training.history import History
from gpunet.training.holdout import hold_out
from gpunet.training.metrics import to_classes
from gpunet.training.options import Options
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.source import SourceRows
from gpunet.training.steps import Recipe


@dataclass(frozen=True)
class Examples:
    """What a network is trained on, on the device or in the host's memory.

    Attributes
    ----------
    X : array, shape (N, n_in), or SourceRows
    Y : array, shape (N, n_out), or None with the rows of a source
    weights : array, shape (N, 1), or None
    task : {"classification", "regression"}
    """

    X: Any
    Y: Any
    weights: Any
    task: str

    @property
    def arrays(self) -> list[Any]:
        """X, Y, and the weights, as far as there are any: the rows of a source have their targets with them."""
        return [v for v in (self.X, self.Y, self.weights) if v is not None]

    def rows(self, index: npt.NDArray[np.int64], model: Model) -> Examples:
        """Return some of the examples."""

        def taken(v: Any) -> Any:
            if v is None:
                return None
            if isinstance(v, np.ndarray) or not model.ops.is_native(v):
                return v[index]
            return model.ops.xp.take(v, model.ops.asarray(index), axis=0)

        return Examples(taken(self.X), taken(self.Y), taken(self.weights), self.task)

    def placed(self, model: Model) -> Examples:
        """Return them on the device, or all in the host's memory if the device does not hold them."""
        ops, dtype = model.ops, model.dtype
        if isinstance(self.X, SourceRows):
            return self
        if not ops.is_native(self.X) and not ops.holds(sum(arrays.nbytes_on_device(v, dtype) for v in self.arrays)):
            placed = [self.X, *(np.asarray(ops.to_numpy(v)) for v in self.arrays[1:])]
            placed[2:] = [v.astype(dtype) for v in placed[2:]]  # the weights: their sum is the same wherever they lie
        else:
            placed = [arrays.to_device(ops, v, dtype) for v in self.arrays]
        X, Y, *weights = placed
        return Examples(X, Y, weights[0] if weights else None, self.task)

    def smoothed(self, share: float, model: Model) -> Examples:
        """Return them with the targets t replaced by (1 - share) t + share / classes.

        Szegedy et al., "Rethinking the Inception architecture for computer vision" (2016), section 7.
        """
        if self.task != "classification":
            raise InputError(
                "label_smoothing is for classes, and these targets are numbers to predict; leave it out."
            )
        if isinstance(self.X, SourceRows):
            return Examples(self.X.smoothed(share), None, None, self.task)
        if isinstance(self.Y, np.ndarray):
            Y = self.Y.astype(model.dtype)
        else:
            Y = model.ops.xp.astype(self.Y, getattr(model.ops.xp, model.dtype))
        return Examples(self.X, (1 - share) * Y + share / max(2, Y.shape[1]), self.weights, self.task)

    def fingerprint(self, model: Model) -> str:
        """Return a short text that differs where the data do."""
        return checkpoint.fingerprint(model.ops, self.arrays)


class Fitting:
    """One training of a model, begun anew or taken up from its checkpoint.

    Parameters
    ----------
    model : Model
    rng : numpy.random.Generator
    options : Options
        With the defaults of this network filled in.
    saved : callable
        Returns the network as a checkpoint is to keep it.
    facts : dict
        What else must be the same for a training to go on from a checkpoint.
    seeded : dict
        The generator's state before anything was drawn from it, by which examples are held out.

    Attributes
    ----------
    seeded : dict
        The same, or the checkpoint's.
    """

    def __init__(
        self,
        model: Model,
        rng: np.random.Generator,
        options: Options,
        saved: Callable[[], SavedModel],
        facts: dict[str, Any],
        seeded: dict[str, Any],
    ) -> None:
        self._model, self._rng, self._options = model, rng, options
        self._saved, self._facts = saved, facts
        self._resumed: Resumed | None = None
        if options.checkpoint is not None and options.checkpoint.exists():
            self._resumed = checkpoint.read(options.checkpoint)
        self.seeded = seeded if self._resumed is None else self._resumed.start

    def hold_out(self, examples: Examples, share: float) -> tuple[Examples, Examples]:
        """Split examples into those to train and those to validate on, at random, of each class its share."""
        rng = np.random.default_rng(0)
        rng.bit_generator.state = self.seeded
        n, classes = examples.X.shape[0], None
        if examples.task == "classification":
            Y = examples.Y if isinstance(examples.Y, np.ndarray) else self._model.ops.to_numpy(examples.Y)
            classes = to_classes(Y)
        kept, held = hold_out(n, classes, share, rng)
        if not len(held):
            raise InputError(
                f"validation_split {share:g} of {n} examples leaves none to validate on; choose a larger share."
            )
        if examples.weights is not None and not examples.weights[kept].any():
            raise InputError("the examples that count have all been held out for validation; choose another share.")
        return examples.rows(kept, self._model), examples.rows(held, self._model)

    def run(self, examples: Examples, validation: loop.Validation | None, history: History) -> None:
        """Train; `history` is filled, and keeps what was done however it ends."""
        model, rng, options, resumed = self._model, self._rng, self._options, self._resumed
        n, file = examples.X.shape[0], None
        if options.checkpoint is not None:
            described = options.description(len(model.sizes))
            decides = validation if options.needs_validation else None  # else other data are as good
            description = {
                **described,
                **self._facts,
                "data": examples.fingerprint(model),
                "validation": None if decides is None else decides.fingerprint(model),
            }
            file = Checkpoint(options.checkpoint, description, self._saved, self.seeded, options.checkpoint_seconds)
            if resumed is not None:
                resumed.check(options.checkpoint, description)
        if options.label_smoothing:
            examples = examples.smoothed(options.label_smoothing, model)
        examples = examples.placed(model)
        diagnostics = Diagnostics(model, examples.X, examples.Y) if options.diagnostics else None
        if isinstance(options.optimizer, LBFGS):
            whole = lbfgs.WholeGradient(model, examples.arrays, options.l2 / n, options.threads)
            course = self._course(validation, history, diagnostics, file)
            lbfgs.run(whole, options.optimizer, course, saved=file is not None)
            return
        sgd = MiniBatchSGD(
            recipe(model, options, n), examples.X, examples.Y, rng, examples.weights, options.engine, options.threads
        )
        history.engine = sgd.engine
        if resumed is not None:
            _restore_steps(sgd, resumed, options)
        course = self._course(validation, history, diagnostics, file)
        loop.run(sgd, options.eta, course, options.on_progress)

    def _course(
        self,
        validation: loop.Validation | None,
        history: History,
        diagnostics: Diagnostics | None,
        file: Checkpoint | None,
    ) -> loop.Course:
        """Return the training's course, from the checkpoint on if there is one: nothing is refused after this."""
        options, resumed = self._options, self._resumed
        if resumed is not None:
            _take_up(self._model, self._rng, history, resumed)
        course = loop.Course(
            self._model,
            history,
            options.epochs,
            self._rng,
            validation,
            options.early_stopping,
            options.on_epoch,
            diagnostics,
            file,
        )
        if resumed is not None and resumed.snapshot.best is not None:
            course.restore_best(resumed.snapshot.best)
        return course


def recipe(model: Model, options: Options, n: int) -> Recipe:
    """Return what a step on some of n examples does."""
    dropout = options.dropout_by_layer(len(model.sizes))
    return Recipe(
        model,
        min(options.batch_size, n),
        options.optimizer,
        l2=options.l2 / n,
        l1=options.l1 / n,
        weight_decay=options.weight_decay or 0.0,
        dropout=dropout if any(dropout) else (),
        max_norm=options.max_norm,
        clip_value=options.clip_value,
        clip_norm=options.clip_norm,
    )


def _take_up(model: Model, rng: np.random.Generator, history: History, resumed: Resumed) -> None:
    """Bring model, generator and history to where the checkpoint was."""
    ops = model.ops
    parameters, values = model.parameters, [*resumed.model.weights, *resumed.model.biases]
    for array, value in zip([*parameters.weights, *parameters.biases], values, strict=True):
        ops.copy(ops.asarray(value, model.dtype), out=array)
    rng.bit_generator.state = resumed.snapshot.rng
    history.epochs[:] = resumed.snapshot.history.epochs
    history.stopped = resumed.snapshot.history.stopped


def _restore_steps(sgd: MiniBatchSGD, resumed: Resumed, options: Options) -> None:
    snapshot = resumed.snapshot
    if snapshot.states.shape[0] != options.optimizer.states:
        raise FileFormatError(
            f"{options.checkpoint}: damaged: {options.optimizer.name} remembers {options.optimizer.states} numbers "
            f"of each parameter, and the file has {snapshot.states.shape[0]}."
        )
    sgd.steps.restore(snapshot.taken, snapshot.states)
