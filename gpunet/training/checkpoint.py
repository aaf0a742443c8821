"""Checkpoints: one file from which a training goes on as if it had never ended.

A checkpoint is a model file, which `Network.load` reads, with the training's state beside the model: see
docs/model-format.md.
"""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import model_file
from gpunet.backends import Backend
from gpunet.errors import FileFormatError, InputError, one_line
from gpunet.model_file import SavedModel, SavedTraining
from gpunet.training.history import History
from gpunet.training.source import SourceRows

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
    history : History
    """

    taken: int
    states: npt.NDArray[Any]
    best: npt.NDArray[Any] | None
    rng: dict[str, Any]
    history: History


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
        State of the generator before anything was drawn from it, by which examples are held out.
    seconds : float
        The least time between two writes.

    Raises
    ------
    OSError
        If there can be no such file.
    """

    def __init__(
        self,
        path: Path,
        description: dict[str, Any],
        model: Callable[[], SavedModel],
        start: dict[str, Any],
        seconds: float,
    ) -> None:
        model_file.check_replaceable(path)  # better known before the training
        model_file.remove_parts(path)
        self._path, self._description, self._model, self._start = path, description, model, start
        self._seconds, self._written = seconds, time.monotonic()
        self._pending: tuple[SavedModel, Snapshot] | None = None

    def keep(self, snapshot: Snapshot) -> None:
        """Take note of a snapshot, and write it if the last one was written long enough ago."""
        self._pending = self._model(), snapshot
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
            model, snapshot = self._pending
            model_file.write(self._path, model, self._training(model, snapshot))
            self._pending, self._written = None, time.monotonic()

    def _training(self, model: SavedModel, snapshot: Snapshot) -> SavedTraining:
        tensors = {"states": snapshot.states}
        if snapshot.best is not None:
            tensors["best"] = snapshot.best
        facts = {
            "description": self._description,
            "taken": snapshot.taken,
            "rng": snapshot.rng,
            "start": self._start,
            "history": _to_json(snapshot.history),
        }
        facts["checksum"] = _checksum(model, facts, tensors)
        return SavedTraining(facts, tensors)


@dataclass(frozen=True)
class Resumed:
    """What a checkpoint holds, beside the generator's state at the start."""

    model: SavedModel
    snapshot: Snapshot
    start: dict[str, Any]
    description: dict[str, Any]

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
    checksum = facts.pop("checksum", None)
    if checksum != _checksum(model, facts, tensors):
        raise FileFormatError(f"{path}: damaged: its checksum is not that of its content.")
    count = sum(v.size for v in (*model.weights, *model.biases))
    try:
        history = _from_json(facts["history"])
        snapshot = Snapshot(facts["taken"], tensors["states"], tensors.get("best"), facts["rng"], history)
        fits = (
            type(snapshot.taken) is int
            and snapshot.taken >= 0
            and isinstance(facts["description"], dict)
            and all(map(_is_state, (facts["rng"], facts["start"])))
            and [epoch.epoch for epoch in history.epochs] == list(range(len(history.epochs)))
            and (history.best_epoch is None or 0 <= history.best_epoch < max(1, len(history.epochs)))
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
    return Resumed(model, snapshot, facts["start"], facts["description"])


def _to_json(history: History) -> dict[str, Any]:
    """Return the history for JSON, which has no infinity and no NaN: a validation cost may be either."""

    def written(value: Any) -> Any:
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    content = history.to_dict()
    return {**content, "epochs": _each(written, content["epochs"])}


def _from_json(content: dict[str, Any]) -> History:
    epochs = _each(lambda value: float(value) if isinstance(value, str) else value, content["epochs"])
    return History.from_dict({**content, "epochs": epochs})


def _each(change: Callable[[Any], Any], values: Any) -> Any:
    """Return lists and dicts with whatever is in them changed."""
    if isinstance(values, dict):
        return {key: _each(change, value) for key, value in values.items()}
    return [_each(change, value) for value in values] if isinstance(values, list) else change(values)


def _checksum(model: SavedModel, facts: dict[str, Any], tensors: dict[str, npt.NDArray[Any]]) -> int:
    """Return a checksum of all that a checkpoint holds: most flipped bits would else be another training's state."""
    described = [getattr(model, field.name) for field in fields(model) if field.name not in ("weights", "biases")]
    checksum = zlib.crc32(json.dumps([described, facts], sort_keys=True).encode())
    for array in (*model.weights, *model.biases, *(tensors[name] for name in sorted(tensors))):
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return checksum


def _is_state(state: Any) -> bool:
    """Say whether a generator takes this state and gives it back."""
    generator = np.random.default_rng(0)
    generator.bit_generator.state = state
    return bool(generator.bit_generator.state == state)


def fingerprint(ops: Backend, arrays: Sequence[Any]) -> str:
    """Return a short text that differs where the data do: their shapes, dtypes, and a checksum of some rows.

    The first array may be `SourceRows`, which have their targets with them.
    """
    if isinstance(arrays[0], SourceRows):
        return arrays[0].fingerprint()
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
