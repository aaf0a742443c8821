"""What a comparison finds: a `Row` for a verb on one input, a `Training`, and all of them in a `Report`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """How one verb compares on one input.

    Attributes
    ----------
    verb, case : str
        Such as "activate" and "tanh".
    shape : str
        Such as "33x127", neurons by examples; for products "n x k x m".
    dtype : str
    part : str
        Which of the verb's results is the worst, such as "total".
    ulp, ulp_against : float
        The largest error against the reference, in units in the last place of the result's largest entry.
    error, error_against : float
        The largest error against the reference, as a part of its tolerance: above 1 is wrong.
    difference : float
        The largest difference of the two, as a part of both tolerances.
    off : {"", "device", "against", "both"}
        Which of the two is wrong.
    note : str
        What was raised, if anything.
    """

    verb: str
    case: str
    shape: str
    dtype: str
    part: str
    ulp: float
    ulp_against: float
    error: float
    error_against: float
    difference: float
    off: str
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether both are within the tolerance."""
        return not self.off

    def __str__(self) -> str:
        what = f"{self.verb} ({self.case}), {self.shape}, {self.dtype}: "
        return what + (self.note or f"{self.part} is off by {self.error:.3g} and {self.error_against:.3g} tolerances")


@dataclass(frozen=True)
class Training:
    """How one training compares, after each of its steps.

    Attributes
    ----------
    name : str
        Sizes and hidden activation, such as "784-30-10 sigmoid".
    dtype : str
    error, error_against : list of float
        The deviation from the reference: the largest ||p - r|| / ||r|| over the weights and biases of all layers.
    difference : list of float
        The deviation of the one from the other.
    tolerance : list of float
        How large a deviation may be.
    off : {"", "device", "against", "both"}
        Which of the two left its tolerance.
    note : str
        What was raised, if anything.
    """

    name: str
    dtype: str
    error: list[float]
    error_against: list[float]
    difference: list[float]
    tolerance: list[float]
    off: str
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether both stayed within the tolerance."""
        return not self.off

    def worst(self, deviations: Sequence[float]) -> float:
        """Return the largest of these deviations as a part of its tolerance."""
        return share_of(deviations, self.tolerance)

    def first_step_off(self) -> int | None:
        """Return the first step, from 1, after which one of the two was outside its tolerance."""
        steps = zip(self.error, self.error_against, self.tolerance, strict=False)
        return next((i for i, (a, b, tolerance) in enumerate(steps, start=1) if max(a, b) > tolerance), None)

    def __str__(self) -> str:
        what = f"training {self.name}, {self.dtype}: "
        return what + (self.note or f"first outside the tolerance after step {self.first_step_off()}")


Result = Row | Training


@dataclass(frozen=True)
class Report:
    """The result of `compare`; true if the two backends agree.

    Attributes
    ----------
    device, against : str
        The backends' names.
    rows : list of Row
    trainings : list of Training
    """

    device: str
    against: str
    rows: list[Row]
    trainings: list[Training]

    @property
    def failures(self) -> list[Result]:
        """What did not pass."""
        results: list[Result] = [*self.rows, *self.trainings]
        return [result for result in results if not result.passed]

    @property
    def passed(self) -> bool:
        """Whether both backends are within every tolerance."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.passed

    def who_is_off(self, result: Result) -> str:
        """Return the name of the backend that is wrong."""
        both = f"{self.device} and {self.against}"
        return {"device": self.device, "against": self.against, "both": both}.get(result.off, "neither")

    def verdict(self) -> str:
        """Return one sentence."""
        counted = f"{len(self.rows)} comparisons of verbs and {len(self.trainings)} of trainings"
        if self.passed:
            return f"{self.device} and {self.against} agree: {counted}"
        return f"{self.device} and {self.against} DISAGREE: {len(self.failures)} of {counted} failed"

    def findings(self) -> list[str]:
        """Return a line for each failure of a training, and for each verb and dtype that failed: its worst input."""
        by_verb: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            if not row.passed:
                by_verb.setdefault((row.off, row.verb, row.dtype), []).append(row)
        lines = []
        for rows in by_verb.values():
            worst = max(rows, key=lambda row: max(row.error, row.error_against))
            others = ", ".join(dict.fromkeys(row.case for row in rows))
            more = f" (and {len(rows) - 1} more inputs, of: {others})" if len(rows) > 1 else ""
            lines.append(f"{self.who_is_off(worst)}: {worst}{more}")
        return lines + [f"{self.who_is_off(t)}: {t}" for t in self.trainings if not t.passed]

    def __str__(self) -> str:
        return "\n".join([*self.findings(), self.verdict()])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready values; what is not finite as None."""
        return {
            "device": self.device,
            "against": self.against,
            "passed": self.passed,
            "rows": [to_dict(row) for row in self.rows],
            "trainings": [to_dict(training) for training in self.trainings],
        }


def to_dict(result: Result) -> dict[str, Any]:
    """Return a row or a training as JSON-ready values; what is not finite as None."""

    def ready(value: Any) -> Any:
        if isinstance(value, list):
            return [ready(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {**{key: ready(value) for key, value in asdict(result).items()}, "passed": result.passed}


def off(error: float, error_against: float) -> str:
    """Return which of two errors, as parts of their tolerance, is too large."""
    names = {(True, False): "device", (False, True): "against", (True, True): "both"}
    return names.get((error > 1, error_against > 1), "")


def told(error: Exception) -> str:
    """Return an error as a note."""
    return f"{type(error).__name__}: {error}"


def share_of(deviations: Sequence[float], tolerance: Sequence[float]) -> float:
    """Return the largest deviation as a part of its tolerance."""
    return max((d / t for d, t in zip(deviations, tolerance, strict=False)), default=0.0)
