"""Checkpoints: one file from which a training goes on as if it had never ended.

A checkpoint is a model file, which `Network.load` reads, with the training's state beside the model: see
docs/model-format.md.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import model_file
from gpunet.backends import Backend
from gpunet.errors import FileFormatError, InputError, one_line
from gpunet.model_file import SavedModel, SavedTraining
from gpunet.training.history import History

#: So many rows, evenly spaced, tell whether the data are those of the checkpoint.
_ROWS_COMPARED = 1000


@dataclass(frozen=True)
class Snapshot:
    """A training's state between two epochs, beside the parameters.

    Attributes
    ----------
    taken : int
        Steps taken.
    states : array, (k, p)
        What the optimizer remembers.
    best : array, (p,), or None
        The parameters of the best epoch, with early stopping.
    rng : dict
        State of the generator that draws the orders.
    history : dict
    """

    taken: int
    states: npt.NDArray[Any]
    best: npt.NDArray[Any] | None
    rng: dict[str, Any]
    history: dict[str, Any]


class Checkpoint:
    """The file that a training writes itself to.

    Parameters
    ----------
    path : Path
    description : dict
        What decides the training's course: only the same training may go on from the file.
    model : callable
        Returns the network as it is to be saved.
    start : dict
        State of the generator before anything was drawn for this training.
    seconds : float
        The least time between two writes.
    """

    def __init__(
        self,
        path: Path,
        description: dict[str, Any],
        model: Callable[[], SavedModel],
        start: dict[str, Any],
        seconds: float,
    ) -> None:
        self._path, self._description, self._model, self._start = path, description, model, start
        self._seconds, self._written = seconds, time.monotonic()
        self._pending: tuple[SavedModel, SavedTraining] | None = None

    def keep(self, snapshot: Snapshot) -> None:
        """Take note of a snapshot, and write it if the last one was written long enough ago."""
        tensors = {"states": snapshot.states}
        if snapshot.best is not None:
            tensors["best"] = snapshot.best
        facts = {
            "description": self._description,
            "taken": snapshot.taken,
            "rng": snapshot.rng,
            "start": self._start,
            "history": snapshot.history,
        }
        self._pending = self._model(), SavedTraining(facts, tensors)
        if time.monotonic() - self._written >= self._seconds:
            self.write_pending()

    def write_pending(self) -> None:
        """Write the last snapshot, if it is not on the disk yet.

        Raises
        ------
        OSError
            If it can not be written; then the file is as it was.
        """
        if self._pending is not None:
            model_file.write(self._path, *self._pending)
            self._pending, self._written = None, time.monotonic()


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint holds, beside the generator's state at the start."""

    model: SavedModel
    snapshot: Snapshot
    start: dict[str, Any]
    description: dict[str, Any]
    history: History

    def check(self, path: Path, description: dict[str, Any]) -> None:
        """Refuse to go on with another training than the file's.

        Raises
        ------
        InputError
        """
        keys = [*description, *(key for key in self.description if key not in description)]
        other = [key for key in keys if self.description.get(key) != description.get(key)]
        if other:
            changes = "; ".join(
                f"{key} was {self.description.get(key)!r:.60} and is {description.get(key)!r:.60}" for key in other
            )
            raise InputError(
                f"{path} is the checkpoint of another training: {changes}. Go on with the same, or name another file."
            )


def read(path: str | os.PathLike[str]) -> Resumed:
    """Return what a checkpoint holds.

    Raises
    ------
    FileFormatError
        If the file is no whole checkpoint.
    """
    model, training = model_file.read_with_training(path)
    if training is None:
        raise FileFormatError(f"{path}: a model, but no checkpoint of a training: there is nothing to go on from.")
    facts, tensors = training.facts, training.tensors
    count = sum(v.size for v in (*model.weights, *model.biases))
    try:
        snapshot = Snapshot(facts["taken"], tensors["states"], tensors.get("best"), facts["rng"], facts["history"])
        history = History.from_dict(snapshot.history)
        fits = (
            type(snapshot.taken) is int
            and snapshot.taken >= 0
            and isinstance(facts["description"], dict)
            and all(map(_is_state, (facts["rng"], facts["start"])))
            and _is_whole(history)
            and set(tensors) <= {"states", "best"}
            and snapshot.states.ndim == 2
            and snapshot.states.shape[1] == count
            and (snapshot.best is None or snapshot.best.shape == (count,))
            and all(v.dtype.name == model.dtype and np.isfinite(v).all() for v in tensors.values())
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileFormatError(
            f"{path}: damaged: its training's state can not be read ({one_line(error, 80)})."
        ) from error
    if not fits:
        raise FileFormatError(f"{path}: damaged: its training's state does not fit its network.")
    return Resumed(model, snapshot, facts["start"], facts["description"], history)


def _is_state(state: Any) -> bool:
    """Say whether a generator takes this state and gives it back."""
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    return bool(generator.bit_generator.state == state)


def _is_whole(history: History) -> bool:
    """Say whether a history that was read has values of the right types, and its epochs in their order."""
    texts = (history.device, history.backend, history.engine, history.optimizer, history.stopped or "")
    best = history.best_epoch
    return (
        all(isinstance(text, str) for text in texts)
        and (history.eta is None or _is_number(history.eta))
        and type(history.batch_size) is int
        and (best is None or (type(best) is int and 0 <= best < max(1, len(history.epochs))))
        and all(
            type(e.epoch) is int
            and e.epoch == i
            and all(map(_is_number, (e.cost, e.seconds, e.examples_per_second)))
            and all(v is None or _is_number(v) for v in (e.validation_cost, e.validation_score, e.eta))
            for i, e in enumerate(history.epochs)
        )
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def fingerprint(ops: Backend, arrays: Sequence[Any]) -> str:
    """Return a short text that differs where the data do: their shapes, dtypes, and a checksum of some rows."""
    rows = np.unique(np.linspace(0, arrays[0].shape[0] - 1, _ROWS_COMPARED).astype(np.int64))
    checksum, kinds = 0, []
    for array in arrays:
        if isinstance(array, np.ndarray):
            some = array[rows]
        else:
            some = ops.to_numpy(ops.xp.take(array, ops.asarray(rows), axis=0))
        checksum = zlib.crc32(np.ascontiguousarray(some).tobytes(), checksum)
        kinds.append(f"{some.dtype.name}{list(array.shape)}")
    return f"{' '.join(kinds)} {checksum:08x}"
