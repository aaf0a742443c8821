"""Learning-rate schedules: eta for each epoch.

A schedule computes eta from the epoch's number and what the training has recorded so far, and remembers nothing
itself: a training that is resumed goes on with the same eta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from gpunet import checks
from gpunet.errors import InputError
from gpunet.training.history import History

#: What a plateau can be looked for in, and whether it is to rise.
MONITORED = {"cost": False, "validation_cost": False, "validation_score": True}


class Schedule:
    """What the schedules have in common.

    Attributes
    ----------
    start : float
        eta of epoch 0, or the largest where it begins with a warm-up.
    """

    name: str

    def __init__(self, eta: float) -> None:
        self.start = checks.positive_float(eta, "eta")

    def settings(self) -> dict[str, Any]:
        """Return its constants by their names."""
        return {"eta": self.start}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"

    def eta(self, epoch: int, history: History) -> float:
        """Return eta for an epoch, numbered from 0, given the epochs before it."""
        raise NotImplementedError

    def is_over(self, history: History) -> bool:
        """Whether it ends the training after the epochs so far."""
        return False


class Constant(Schedule):
    """The same eta throughout."""

    name = "constant"

    def eta(self, epoch: int, history: History) -> float:
        return self.start


class Step(Schedule):
    """Eta is multiplied by `factor` after every so many epochs.

    Parameters
    ----------
    eta : float
    every : int
    factor : float, default 0.1
    """

    name = "step"

    def __init__(self, eta: float, every: int, factor: float = 0.1) -> None:
        super().__init__(eta)
        self.every, self.factor = checks.positive_int(every, "every"), _factor(factor)

    def settings(self) -> dict[str, Any]:
        return {"eta": self.start, "every": self.every, "factor": self.factor}

    def eta(self, epoch: int, history: History) -> float:
        return self.start * self.factor ** (epoch // self.every)


class Exponential(Schedule):
    """Eta is multiplied by `factor` after each epoch.

    Parameters
    ----------
    eta : float
    factor : float, default 0.95
    """

    name = "exponential"

    def __init__(self, eta: float, factor: float = 0.95) -> None:
        super().__init__(eta)
        self.factor = _factor(factor)

    def settings(self) -> dict[str, Any]:
        return {"eta": self.start, "factor": self.factor}

    def eta(self, epoch: int, history: History) -> float:
        return self.start * self.factor**epoch


class Cosine(Schedule):
    """Half a cosine from eta down to `final`, after a linear warm-up.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), equation (5), one period.

    Parameters
    ----------
    eta : float
        The largest.
    epochs : int
        Of the whole training. In a longer one eta is `final` from then on; where that is 0, the training ends.
    warm_up : int, default 0
        Epochs in which eta rises by equal amounts.
    final : float, default 0.0
        What it falls to. An epoch with an eta of 0 would learn nothing, so 0 is reached after the last epoch.
    """

    name = "cosine"

    def __init__(self, eta: float, epochs: int, warm_up: int = 0, final: float = 0.0) -> None:
        super().__init__(eta)
        self.epochs = checks.positive_int(epochs, "epochs")
        self.warm_up = checks.whole_number(warm_up, "warm_up", 0)
        self.final = checks.float_from_zero(final, "final")
        if self.warm_up >= self.epochs:
            raise InputError(f"warm_up must be less than the {self.epochs} epochs, got {warm_up}.")
        if self.final > self.start:
            raise InputError(f"final must be at most eta, {self.start:g}, got {final:g}.")

    def settings(self) -> dict[str, Any]:
        return {"eta": self.start, "epochs": self.epochs, "warm_up": self.warm_up, "final": self.final}

    def eta(self, epoch: int, history: History) -> float:
        if epoch < self.warm_up:
            return self.start * (epoch + 1) / (self.warm_up + 1)
        done = min(1.0, (epoch - self.warm_up) / (self.epochs - self.warm_up))
        return self.final + (self.start - self.final) * 0.5 * (1 + math.cos(math.pi * done))

    def is_over(self, history: History) -> bool:
        return self.final == 0 and len(history.epochs) >= self.epochs


class InverseScaling(Schedule):
    """Eta / (epoch + 1)^power.

    Parameters
    ----------
    eta : float
    power : float, default 0.5
    """

    name = "inverse"

    def __init__(self, eta: float, power: float = 0.5) -> None:
        super().__init__(eta)
        self.power = checks.float_from_zero(power, "power")

    def settings(self) -> dict[str, Any]:
        return {"eta": self.start, "power": self.power}

    def eta(self, epoch: int, history: History) -> float:
        return float(self.start / (epoch + 1) ** self.power)


class OnPlateau(Schedule):
    """Eta is multiplied by `factor` whenever a measure has not become better for `patience` epochs.

    Parameters
    ----------
    eta : float
    factor : float, default 0.1
    patience : int, default 10
    monitor : {"validation_cost", "validation_score", "cost"}
    min_delta : float, default 0.0
        By how much it must get better to count.
    end_at : float, optional
        Where eta would fall to this share of the first one, or below, the training ends instead.
    """

    name = "plateau"

    def __init__(
        self,
        eta: float,
        factor: float = 0.1,
        patience: int = 10,
        monitor: str = "validation_cost",
        min_delta: float = 0.0,
        end_at: float | None = None,
    ) -> None:
        super().__init__(eta)
        self.factor, self.patience = _factor(factor), checks.positive_int(patience, "patience")
        self.monitor = checks.one_of(monitor, MONITORED, "monitor")
        self.min_delta = checks.float_from_zero(min_delta, "min_delta")
        self.end_at = None if end_at is None else checks.positive_float(end_at, "end_at")
        if self.factor >= 1:
            raise InputError(f"factor must be below 1 for eta to fall, got {factor!r}.")

    def settings(self) -> dict[str, Any]:
        names = ("factor", "patience", "monitor", "min_delta", "end_at")
        return {"eta": self.start, **{name: getattr(self, name) for name in names}}

    def eta(self, epoch: int, history: History) -> float:
        return self.start * self.factor ** self._falls(history)

    def is_over(self, history: History) -> bool:
        return self.end_at is not None and self.factor ** self._falls(history) <= self.end_at * (1 + 1e-9)

    def _falls(self, history: History) -> int:
        """Return how many times the measure has stood still for `patience` epochs."""
        better = [*improvements(history, self.monitor, self.min_delta), len(history.epochs)]
        return sum((later - number - 1) // self.patience for number, later in pairwise(better))


def halving(eta: float, patience: int = 10) -> OnPlateau:
    """Return the book's schedule: halve eta when the validation accuracy stops improving, end at 1/128 of it.

    Parameters
    ----------
    eta : float
    patience : int, default 10
        "No-improvement-in-10", as the exercises of the book's chapter 3 have it.
    """
    return OnPlateau(eta, 0.5, patience, "validation_score", end_at=1 / 128)


class _ByFunction(Schedule):
    """A function of one's own from the epoch to eta."""

    name = "function"

    def __init__(self, function: Callable[[int], float]) -> None:
        checks.function(function, 1, "eta", "lambda epoch: 0.5 * 0.9**epoch")
        self._function = function
        super().__init__(self._value(0))

    def _value(self, epoch: int) -> float:
        return checks.positive_float(self._function(epoch), f"eta({epoch})")

    def eta(self, epoch: int, history: History) -> float:
        return self._value(epoch)


#: The classes by their names.
BY_NAME: dict[str, type[Schedule]] = {
    schedule.name: schedule for schedule in (Constant, Step, Exponential, Cosine, InverseScaling, OnPlateau)
}


def get(eta: Any) -> Schedule:
    """Return the schedule that `eta` is: a number, a schedule, or a function of the epoch."""
    if isinstance(eta, Schedule):
        return eta
    if isinstance(eta, type) and issubclass(eta, Schedule):
        raise InputError(f"eta must be a schedule, got the class: pass {eta.__name__}(...).")
    if callable(eta):
        return _ByFunction(eta)
    return Constant(eta)


def improvements(history: History, monitor: str, min_delta: float, first: int = 0) -> list[int]:
    """Return the numbers of the epochs whose measure was better than any before, by more than min_delta.

    `first` is the number of one that is known to be such; those before it are left out.
    """
    sign = 1 if MONITORED[monitor] else -1
    numbers, best, enough = [], -math.inf, -math.inf
    values = [sign * getattr(epoch, monitor) for epoch in history.epochs[first:]]
    for number, value in enumerate(values, first):
        if value > enough or best == -math.inf:
            numbers.append(number)
            best = max(best, value)
            enough = best + min_delta
    return numbers


def needs_validation(schedule: Schedule) -> bool:
    """Whether the schedule looks at validation data."""
    return isinstance(schedule, OnPlateau) and schedule.monitor != "cost"


def _factor(value: Any) -> float:
    factor = checks.positive_float(value, "factor")
    if factor > 1:
        raise InputError(f"factor must be at most 1, got {value!r}.")
    return factor
