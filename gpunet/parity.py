"""Parity: that two backends compute the same thing, verb by verb and along a training.

Each verb runs on both backends with the same random inputs in the shapes that break kernels, and both results are
compared with each other and with a reference of wider precision (`parity_reference`), so that it shows which of the
two is off. Then both train from the same parameters on the same mini-batches. `docs/parity.md` derives the
tolerances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import checks, optimizers
from gpunet import parity_reference as reference
from gpunet.backends import Backend, select
from gpunet.errors import DeviceError, InputError
from gpunet.model import Model
from gpunet.parity_cases import ACTIVATIONS, COSTS, Caller, Case, cases
from gpunet.parity_reference import Bounded, Task
from gpunet.training.compiled import CompiledSteps
from gpunet.training.steps import Recipe, VerbSteps

Values = npt.NDArray[Any]

DTYPES = ("float32", "float64")
_SEED = 2

#: The calibrated deviation of a training may be exceeded by so much.
TRAINING_MARGIN = 4.0


# -- What is reported ------------------------------------------------------------------------------------------


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
        return _worst(deviations, self.tolerance)

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


def compare(
    device: Any,
    against: Any = "cpu",
    *,
    dtype: str = "all",
    steps: int = 100,
    large: bool = True,
    on_result: Callable[[Result], object] | None = None,
) -> Report:
    """Compare two backends with each other and with a reference: every verb, then trainings.

    Parameters
    ----------
    device, against : {"cpu", "cuda", "cuda:1", ...}, module or Backend
        As `Network` takes them, but for "auto", which would compare the CPU with itself where there is no GPU.
    dtype : {"float32", "float64", "all"}
    steps : int
        Of each training; 0 leaves the trainings out.
    large : bool
        Whether to add shapes that fill a large device.
    on_result : callable, optional
        Called with each `Row` and `Training` as it is found.

    Returns
    -------
    Report

    Raises
    ------
    DeviceError
        If a device can not be used; the message tells the reason.

    Examples
    --------
    >>> report = compare("cpu", "cpu", dtype="float32", steps=2, large=False)
    >>> report.passed
    True
    """
    dtypes = DTYPES if checks.one_of(dtype, (*DTYPES, "all"), "dtype") == "all" else (dtype,)
    pair = _open(device), _open(against)
    report = Report(pair[0].name, pair[1].name, [], [])
    for one in dtypes:
        for case in cases(one, large):
            row = compare_case(case, *pair)
            report.rows.append(row)
            if on_result is not None:
                on_result(row)
    for one, task in product(dtypes, tasks(steps) if steps else []):
        wanted = calibrate(task, one)
        engines = [(False, False), tuple(_compiles(ops, task, one) for ops in pair)]
        for compiled in dict.fromkeys(engines):
            training = compare_training(task, one, *pair, compiled, wanted)
            report.trainings.append(training)
            if on_result is not None:
                on_result(training)
    return report


def _open(device: Any) -> Backend:
    if isinstance(device, str) and device == "auto":
        raise InputError("'auto' would hide which device is compared; name it: 'cpu', 'cuda', 'cuda:N', ...")
    return select(device)


# -- One verb on one input -------------------------------------------------------------------------------------


def compare_case(case: Case, device: Backend, against: Backend) -> Row:
    """Run a case on both backends and compare."""
    results, notes = [], []
    for ops in (device, against):
        try:
            results.append(Caller(ops, case.dtype).run(case.run))
            notes.append("")
        except Exception as error:  # a kernel that does not compile or run is a finding, not the end of the report
            results.append({})
            notes.append(_told(error))
    parts = [_compare_part(part, wanted, case.dtype, *results) for part, wanted in case.expected().items()]
    worst = max(parts, key=lambda part: max(part["error"], part["error_against"], part["difference"]))
    return Row(
        verb=case.verb,
        case=case.name,
        shape="x".join(map(str, case.shape)),
        dtype=case.dtype,
        off=_off(worst["error"], worst["error_against"]),
        note="; ".join(filter(None, notes)),
        **worst,
    )


def _compare_part(
    part: str, wanted: Bounded, dtype: str, got: Mapping[str, Values], got_against: Mapping[str, Values]
) -> dict[str, Any]:
    value, tolerance = wanted.value, wanted.tolerance(dtype)
    ulp = float(np.spacing(np.abs(value).max().astype(dtype)))
    missing = np.full(value.shape, np.nan)
    x, x_against = (result.get(part, missing) for result in (got, got_against))
    error, error_against = (reference.size(v - value) for v in (x, x_against))
    difference = reference.size(x.astype(np.float64) - x_against)
    return {
        "part": part,
        "ulp": _largest(error / ulp),
        "ulp_against": _largest(error_against / ulp),
        "error": _largest(error / tolerance),
        "error_against": _largest(error_against / tolerance),
        "difference": _largest(difference / (2 * tolerance)),
    }


def _largest(x: Values) -> float:
    largest = float(x.max())
    return math.inf if math.isnan(largest) else largest


def _off(error: float, error_against: float) -> str:
    """Return which of two errors, as parts of their tolerance, is too large."""
    names = {(True, False): "device", (False, True): "against", (True, True): "both"}
    return names.get((error > 1, error_against > 1), "")


# -- Trainings -------------------------------------------------------------------------------------------------


def tasks(steps: int) -> list[Task]:
    """Return the trainings: the book's network on images, and networks of the other activations and costs."""
    return [
        _task((784, 30, 10), ("sigmoid", "sigmoid"), "quadratic", 10, 3.0, steps),
        _task((64, 33, 31, 10), ("tanh", "tanh", "softmax"), "log-likelihood", 32, 0.5, steps),
        _task((20, 17, 5), ("tanh", "sigmoid"), "cross-entropy", 1, 0.1, steps, l2=1.0),
        _task((20, 16, 3), ("relu", "linear"), "quadratic", 3, 0.05, steps),
        _task((20, 16, 4), ("gelu", "exp"), "poisson", 10, 0.03, steps),
        _task((20, 17, 5), ("sigmoid", "softmax"), "log-likelihood", 10, 0.05, steps, "momentum", 1.0),
        _task((33, 32, 10), ("tanh", "sigmoid"), "cross-entropy", 10, 0.01, steps, "adam", 5.0),
    ]


def _task(
    sizes: Sequence[int],
    names: Sequence[str],
    cost: str,
    batch_size: int,
    eta: float,
    steps: int,
    optimizer: str = "sgd",
    l2: float = 0.0,
) -> Task:
    rng = np.random.default_rng((_SEED, *sizes))
    n, n_in, n_out = 500, sizes[0], sizes[-1]
    labels = rng.integers(0, n_out, n)
    X = rng.normal(size=(n_out, n_in))[labels] * 0.7 + rng.normal(size=(n, n_in)) * 0.7
    input_scale = 1.0
    if n_in == 784:  # as images: bytes, to be scaled on the device
        X, input_scale = (X * 60 + 60).clip(0, 255).astype(np.uint8), 1 / 256
    pairs = list(pairwise(sizes))
    return Task(
        name=f"{'-'.join(map(str, sizes))} {names[0]}" + (f" {optimizer}" if optimizer != "sgd" else ""),
        sizes=sizes,
        activations=names,
        cost=cost,
        eta=eta,
        input_scale=input_scale,
        X=X if input_scale != 1.0 else X.astype(np.float32),
        Y=np.eye(n_out, dtype=np.float32)[labels],
        weights=[(rng.normal(size=(k, j)) / np.sqrt(j)).astype(np.float32) for j, k in pairs],
        biases=[rng.normal(size=(k, 1)).astype(np.float32) for _, k in pairs],
        batches=[rng.permutation(n)[:batch_size] for _ in range(steps)],
        optimizer=optimizer,
        l2=l2,
    )


def trajectory(ops: Backend, task: Task, dtype: str, compiled: bool = False) -> Iterator[list[Values]]:
    """Train on a backend and give after each step b^1, w^1, b^2, w^2, ... in the host's memory."""
    with ops.active():
        steps = (CompiledSteps if compiled else VerbSteps)(_recipe(ops, task, dtype))
        pairs = steps.recipe.model.parameters.pairs()
        for (b, w), b_0, w_0 in zip(pairs, task.biases, task.weights, strict=True):
            ops.copy(ops.asarray(b_0, dtype), out=b)
            ops.copy(ops.asarray(w_0, dtype), out=w)
        X = ops.asarray(task.X, None if task.X.dtype == np.uint8 else dtype)
        data, rng = (X, ops.asarray(task.Y, dtype)), np.random.default_rng(_SEED)
        for batch in task.batches:
            with steps.epoch(rng):
                steps.take(data, ops.asarray(batch), task.eta, threads=1)
            yield [np.array(ops.to_numpy(v)) for pair in pairs for v in pair]


def _recipe(ops: Backend, task: Task, dtype: str) -> Recipe:
    functions, optimizer = [ACTIVATIONS[name] for name in task.activations], optimizers.BUILT_IN[task.optimizer]
    model = Model(ops, task.sizes, functions, COSTS[task.cost], dtype, task.input_scale)
    return Recipe(model, len(task.batches[0]), optimizer, l2=task.l2 / len(task.X))


def _compiles(ops: Backend, task: Task, dtype: str) -> bool:
    """Whether the backend has a compiled engine that can take the steps of this training."""
    try:
        CompiledSteps(_recipe(ops, task, dtype))
    except DeviceError:
        return False
    return True


@dataclass(frozen=True)
class Calibration:
    """What a training has to give.

    Attributes
    ----------
    right : list of lists of arrays
        After each step b^1, w^1, b^2, w^2, ..., computed in wider precision.
    tolerance : list of float
        How far from that a training may be.
    """

    right: list[list[Values]]
    tolerance: list[float]


def calibrate(task: Task, dtype: str) -> Calibration:
    """Train in wider precision, and find out how far rounding alone may carry a training in `dtype` off it.

    The tolerance after a step is TRAINING_MARGIN times the largest deviation so far of plain NumPy trainings in
    `dtype` whose sums run in random orders and whose activations are off by as much as a library's may be.
    """
    calibration = Calibration([], [])
    disturbed = [reference.train(task, dtype, d) for d in reference.disturbances(_SEED)]
    largest = 0.0
    for right, *others in zip(reference.train(task, reference.wider(dtype)), *disturbed, strict=True):
        largest = max(largest, *(reference.deviation(parameters, right) for parameters in others))
        calibration.right.append([v.copy() for v in right])
        calibration.tolerance.append(TRAINING_MARGIN * largest)
    return calibration


def compare_training(
    task: Task,
    dtype: str,
    device: Backend,
    against: Backend,
    compiled: tuple[bool, ...] = (False, False),
    wanted: Calibration | None = None,
) -> Training:
    """Train on both backends from the same parameters on the same mini-batches, and compare after each step.

    `compiled` says which of the two trains by its compiled engine; `wanted` is the task's calibration, if known.
    """
    wanted = wanted or calibrate(task, dtype)
    run, note = _trained(device, task, dtype, compiled[0])
    run_against, note_against = _trained(against, task, dtype, compiled[1])
    error, error_against = (list(map(reference.deviation, r, wanted.right)) for r in (run, run_against))
    worst, worst_against = (_worst(e, wanted.tolerance) for e in (error, error_against))
    return Training(
        name=f"{task.name}, compiled" if any(compiled) else task.name,
        dtype=dtype,
        error=error,
        error_against=error_against,
        difference=list(map(reference.deviation, run, run_against)),
        tolerance=wanted.tolerance,
        off=_off(math.inf if note else worst, math.inf if note_against else worst_against),
        note="; ".join(filter(None, (note, note_against))),
    )


def _trained(ops: Backend, task: Task, dtype: str, compiled: bool) -> tuple[list[list[Values]], str]:
    """Return the trajectory, or as much of it as there was before something was raised, and what that was."""
    steps: list[list[Values]] = []
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # a training that diverges is a finding too
            steps.extend(trajectory(ops, task, dtype, compiled))
    except Exception as error:  # a finding, as in compare_case
        return steps, _told(error)
    return steps, ""


def _worst(deviations: Sequence[float], tolerance: Sequence[float]) -> float:
    """Return the largest deviation as a part of its tolerance."""
    return max((d / t for d, t in zip(deviations, tolerance, strict=False)), default=0.0)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
