"""Early stopping: when a training ends before its last epoch, and which epoch's parameters it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpunet import checks
from gpunet.errors import InputError
from gpunet.training.history import History
from gpunet.training.schedules import MONITORED, improvements


@dataclass(frozen=True)
class EarlyStopping:
    """End a training once a measure has not become better for `patience` epochs.

    Prechelt, "Early stopping - but when?" (1998); the book's chapter 3 calls it the no-improvement-in-n rule.

    Parameters
    ----------
    patience : int, default 10
    monitor : {"validation_cost", "validation_score", "cost"}
    min_delta : float, default 0.0
        By how much it must get better to count.
    restore_best : bool, default True
        Whether the network ends with the parameters of the best epoch, also where all epochs were trained. After an
        interrupt or an error it has those of the last whole one in any case.
    """

    patience: int = 10
    monitor: str = "validation_cost"
    min_delta: float = 0.0
    restore_best: bool = True

    def __post_init__(self) -> None:
        checks.positive_int(self.patience, "patience")
        checks.one_of(self.monitor, MONITORED, "monitor")
        checks.float_from_zero(self.min_delta, "min_delta")
        if not isinstance(self.restore_best, bool):
            raise InputError(f"restore_best must be True or False, got {self.restore_best!r:.60}.")

    def best_epoch(self, history: History, known: int = 0) -> int | None:
        """Return the number of the best epoch so far, which is `known` or a later one."""
        better = improvements(history, self.monitor, self.min_delta, known)
        return better[-1] if better else None

    def is_over(self, history: History, known: int = 0) -> bool:
        """Whether the training ends after the epochs so far, of which `known` or a later one is the best."""
        best = self.best_epoch(history, known)
        return best is not None and len(history.epochs) - 1 - best >= self.patience

    @property
    def needs_validation(self) -> bool:
        """Whether it looks at validation data."""
        return self.monitor != "cost"


def get(given: Any) -> EarlyStopping | None:
    """Return what `early_stopping` says: nothing, True for the defaults, a patience, or an `EarlyStopping`."""
    if given is None or given is False or isinstance(given, EarlyStopping):
        return given or None
    if given is True:
        return EarlyStopping()
    try:
        return EarlyStopping(checks.positive_int(given, "early_stopping"))
    except InputError:
        raise InputError(
            f"early_stopping must be True, a number of epochs to wait, or an EarlyStopping, got {given!r:.60}."
        ) from None
