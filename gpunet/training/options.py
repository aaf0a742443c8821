"""Everything that one can ask of a training, checked."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpunet import checks, optimizers
from gpunet.errors import InputError
from gpunet.optimizers import LBFGS, Optimizer
from gpunet.training import early_stopping, schedules
from gpunet.training.early_stopping import EarlyStopping
from gpunet.training.record import Epoch
from gpunet.training.sgd import ENGINES, MOST_THREADS

#: Called after each epoch; the training ends if it returns True.
Callback = Callable[[Epoch], object]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `Network.fit` beside the data, as its docstring has them; checked when made."""

    epochs: int = 30
    batch_size: int = 10
    eta: Any = None
    optimizer: Any = "sgd"
    l2: float = 0.0
    l1: float = 0.0
    weight_decay: float | None = None
    dropout: Any = 0.0
    max_norm: float | None = None
    clip_value: float | None = None
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    engine: str = "auto"
    threads: int | None = None
    early_stopping: Any = None
    on_epoch: Any = None
    on_progress: Callable[[int], None] | None = None
    diagnostics: bool = False
    checkpoint: Any = None
    resume: bool = False
    checkpoint_seconds: float = 10.0

    def __post_init__(self) -> None:
        set_to = {
            "epochs": checks.positive_int(self.epochs, "epochs"),
            "batch_size": checks.positive_int(self.batch_size, "batch_size"),
            "eta": None if self.eta is None else schedules.get(self.eta),
            "optimizer": optimizers.get(self.optimizer),
            "l2": checks.float_from_zero(self.l2, "l2"),
            "l1": checks.float_from_zero(self.l1, "l1"),
            "label_smoothing": checks.share(self.label_smoothing, "label_smoothing"),
            "early_stopping": early_stopping.get(self.early_stopping),
            "on_epoch": _callbacks(self.on_epoch),
            "checkpoint_seconds": checks.float_from_zero(self.checkpoint_seconds, "checkpoint_seconds"),
        }
        if self.weight_decay is not None:
            set_to["weight_decay"] = checks.float_from_zero(self.weight_decay, "weight_decay")
        for name in ("max_norm", "clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                set_to[name] = checks.positive_float(getattr(self, name), name)
        for name, value in set_to.items():
            object.__setattr__(self, name, value)
        checks.one_of(self.engine, ENGINES, "engine")
        if self.threads is not None and checks.positive_int(self.threads, "threads") > MOST_THREADS:
            raise InputError(
                f"threads must be at most {MOST_THREADS}, got {self.threads}; this machine has fewer cores."
            )
        if self.on_progress is not None:
            checks.function(self.on_progress, 1, "on_progress", "lambda examples: print(examples)")
        if isinstance(self.optimizer, LBFGS):
            self._check_lbfgs()
        self._check_checkpoint()

    def _check_lbfgs(self) -> None:
        """Refuse what has no meaning where all examples make one step."""
        asked_for = {
            "eta": self.eta,
            "l1": self.l1,
            "weight_decay": self.weight_decay,
            "dropout": self.dropout,
            "max_norm": self.max_norm,
            "clip_value": self.clip_value,
            "clip_norm": self.clip_norm,
        }
        refused = [
            name
            for name, value in asked_for.items()
            if not (value is None or (isinstance(value, numbers.Real) and value == 0))
        ]
        if refused:
            raise InputError(f"optimizer 'lbfgs' takes no {' and no '.join(refused)}; leave it out, or take 'adam'.")
        if self.engine == "compiled":
            raise InputError("optimizer 'lbfgs' runs by engine 'verbs' only; leave engine out.")

    def _check_checkpoint(self) -> None:
        if not isinstance(self.resume, bool):
            raise InputError(f"resume must be True or False, got {self.resume!r:.60}.")
        if self.checkpoint is None:
            if self.resume:
                raise InputError("resume=True needs checkpoint=, the file to go on from.")
            return
        if not isinstance(self.checkpoint, str | os.PathLike):
            raise InputError(f"checkpoint must be the path of a file, got {self.checkpoint!r:.60}.")
        path = Path(self.checkpoint)
        object.__setattr__(self, "checkpoint", path)
        if path.exists() and not self.resume:
            raise InputError(f"checkpoint {path} exists: pass resume=True to go on from it, or name another file.")

    def dropout_by_layer(self, n_layers: int) -> tuple[float, ...]:
        """Return the share that is dropped of each layer's activations, of the input and the hidden layers."""
        if isinstance(self.dropout, numbers.Real):
            return (0.0, *[checks.share(self.dropout, "dropout")] * (n_layers - 2))
        try:
            given = [] if isinstance(self.dropout, str) else list(self.dropout)
        except TypeError:
            given = []
        if len(given) != n_layers - 1:
            raise InputError(
                f"dropout must be a number from 0 to 1, for all hidden layers, or a list of {n_layers - 1}, for the "
                f"input and each hidden layer, got {self.dropout!r:.60}."
            )
        return tuple(checks.share(share, f"dropout[{l}]") for l, share in enumerate(given))

    def for_network(self, default_eta: float) -> Options:
        """Return the same with the defaults that depend on network and optimizer filled in."""
        if isinstance(self.optimizer, LBFGS):
            return self
        eta = schedules.get(default_eta) if self.eta is None else self.eta
        decay = self.optimizer.usual_weight_decay if self.weight_decay is None else self.weight_decay
        return replace(self, eta=eta, weight_decay=decay)

    @property
    def needs_validation(self) -> list[str]:
        """What of this needs validation data."""
        needs = []
        if isinstance(self.early_stopping, EarlyStopping) and self.early_stopping.needs_validation:
            needs.append("early_stopping")
        if self.eta is not None and schedules.needs_validation(self.eta):
            needs.append("the schedule of eta")
        return needs

    def description(self, n_layers: int) -> dict[str, Any]:
        """Return what decides the course of a training, as plain values."""
        optimizer: Optimizer | LBFGS = self.optimizer
        names = ("batch_size", "l2", "l1", "weight_decay", "max_norm", "clip_value", "clip_norm", "label_smoothing")
        eta = None if self.eta is None else {"schedule": self.eta.name, **self.eta.settings()}
        stopping: EarlyStopping | None = self.early_stopping  # how long it waits may change, which epoch is best not
        best_by = None if stopping is None else {"monitor": stopping.monitor, "min_delta": float(stopping.min_delta)}
        return {
            "optimizer": {"name": optimizer.name, **optimizer.settings()},
            "eta": eta,
            "dropout": list(self.dropout_by_layer(n_layers)),
            "early_stopping": best_by,
            **{name: getattr(self, name) for name in names},
        }


def _callbacks(given: Any) -> tuple[Callback, ...]:
    if given is None:
        return ()
    callbacks = tuple(given) if isinstance(given, Iterable) and not callable(given) else (given,)
    for callback in callbacks:
        checks.function(callback, 1, "on_epoch", "lambda epoch: print(epoch)")
    return callbacks
