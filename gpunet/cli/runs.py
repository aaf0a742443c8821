"""`Run`: every option of a training, from the command line, a configuration file or a model's own metadata.

A new option is one line in `Run`; the command line, `--config` and the model's metadata have it then.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunet import checks, model_file
from gpunet.cli.presets import PRESETS
from gpunet.datasets.columns import names_in, near
from gpunet.datasets.stream import open_regular
from gpunet.errors import FileFormatError, InputError, one_line
from gpunet.training import schedules
from gpunet.training.sgd import MOST_THREADS


class UsageError(InputError):
    """The command was called in a wrong way; its exit code is 2."""


@contextmanager
def usage() -> Iterator[None]:
    """Take an `InputError` for wrong use."""
    try:
        yield
    except InputError as error:
        raise UsageError(str(error)) from error


def _option(default: Any, help: str, group: str, **limits: float) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "group": group, "limits": limits})


_DATA, _NETWORK, _TRAINING = "Data", "Network", "Training"
#: The schedules that go by a name alone.
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda eta, epochs: schedules.Constant(eta),
    "cosine": lambda eta, epochs: schedules.Cosine(eta, epochs),
    "step": lambda eta, epochs: schedules.Step(eta, every=max(1, math.ceil(epochs / 3))),
    "exponential": lambda eta, epochs: schedules.Exponential(eta),
    "inverse": lambda eta, epochs: schedules.InverseScaling(eta),
    "plateau": lambda eta, epochs: schedules.OnPlateau(eta),
    "halving": lambda eta, epochs: schedules.halving(eta),
}


#: Of whole numbers. Seeds may have 128 bits; Python does not spell numbers of any length.
_LARGEST = 2**128
#: Bytes of a configuration; its longest part is a list of columns.
_MOST_TOML = 2**18
# Python's tomllib takes time and memory that are the square of a key's dots; no option has one.
_KEY = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""
_DOTTED = re.compile(rf"(?<![\w-]){_KEY}(?:[ \t]*+\.[ \t]*+{_KEY}){{32}}")

#: After about so many steps the networks for tables have learned.
_TABLE_STEPS = 6000


@dataclass(frozen=True)
class Run:
    """The options of a training. None: what fits the data, see `filled`; limits: min, max and above."""

    data: str | None = _option(None, "", _DATA)
    data_sha256: str | None = _option(None, "", _DATA)
    target: str | None = _option(None, "The column to predict, by name or number.", _DATA)
    task: str = _option("auto", "auto, classification or regression: what a table's target is.", _DATA)
    drop: tuple[str, ...] = _option(
        (), "Columns of a table that are not inputs: a,b,c. May be given several times.", _DATA
    )
    categorical: tuple[str, ...] = _option(
        (), "Columns of a table that hold kinds, though as numbers: a,b,c. May be given several times.", _DATA
    )
    missing: str = _option("error", "error, or fill: missing values count as the mean, or as no category.", _DATA)
    test: str | None = _option(None, "Data to test on, if not part of DATA.", _DATA)
    max_bytes: int | None = _option(
        None, "Bytes that a compressed file may unpack to. Default: by the memory that takes, see load.", _DATA, min=1
    )
    holdout: float = _option(
        0.2, "Share of DATA to test on if there is no test part; of each class its share.", _DATA, min=0.0, max=0.9
    )
    hidden: tuple[int, ...] | None = _option(None, "Sizes of the hidden layers: 64,32.", _NETWORK, min=1)
    layers: tuple[int, ...] | None = _option(
        None, "All layer sizes, input to output, instead of --hidden: 784,30,10.", _NETWORK
    )
    activation: str | None = _option(None, "sigmoid, tanh, relu, ...: of the hidden layers.", _NETWORK)
    output_activation: str | None = _option(None, "Of the last layer. Default: what the cost is made for.", _NETWORK)
    cost: str | None = _option(None, "quadratic, cross-entropy or log-likelihood, ...", _NETWORK)
    init: str = _option("auto", "auto, normal, scaled, he, glorot, lecun or orthogonal.", _NETWORK)
    dtype: str = _option("float32", "float32 or float64.", _NETWORK)
    epochs: int | None = _option(None, "How often all examples are learned from.", _TRAINING, min=1)
    batch_size: int | None = _option(None, "Examples in a mini-batch.", _TRAINING, min=1)
    eta: float | None = _option(
        None, "The learning rate. Default: 3.0 for the book's run, see the README.", _TRAINING, above=0.0
    )
    optimizer: str | None = _option(None, "sgd, momentum, nesterov, adam, rmsprop, adagrad, ...", _TRAINING)
    l2: float | None = _option(None, "lambda of L2 regularization, the book's chapter 3.", _TRAINING, min=0.0)
    l1: float = _option(0.0, "lambda of L1 regularization.", _TRAINING, min=0.0)
    weight_decay: float | None = _option(None, "Decay apart from the gradient; 0.01 with adamw.", _TRAINING, min=0.0)
    dropout: tuple[float, ...] = _option(
        (), "Share of the hidden activations that is left out; or of the input and each: 0.1,0.5.", _TRAINING, min=0.0
    )
    max_norm: float | None = _option(None, "The largest norm of a hidden neuron's weights.", _TRAINING, above=0.0)
    clip_norm: float | None = _option(None, "The largest norm of the gradient.", _TRAINING, above=0.0)
    clip_value: float | None = _option(None, "The largest entry of the gradient.", _TRAINING, above=0.0)
    label_smoothing: float = _option(0.0, "Share of a target spread over all classes.", _TRAINING, min=0.0)
    class_weight: str | None = _option(None, "balanced: all classes count alike.", _TRAINING)
    schedule: str = _option("constant", f"Of eta over the epochs: {', '.join(SCHEDULES)}.", _TRAINING)
    early_stopping: int | None = _option(
        None, "End when so many epochs brought no better validation cost; keep the best.", _TRAINING, min=1
    )
    validation: float | None = _option(
        None,
        "Share of the training examples to validate on. Default: 0.1 for early stopping, else none.",
        _TRAINING,
        min=0.0,
        max=0.9,
    )
    engine: str = _option("auto", "auto, compiled or verbs: what takes the steps.", _TRAINING)
    threads: int | None = _option(
        None,
        "Threads of the CPU that share a step. Default: as many as are fastest.",
        _TRAINING,
        min=1,
        max=MOST_THREADS,
    )
    device: str = _option("auto", "auto, cpu, cuda or cuda:N.", _TRAINING)
    seed: int | None = _option(None, "Same seed, same numbers.", _TRAINING, min=0)


_TYPES = typing.get_type_hints(Run)
FIELDS = {field.name: field for field in dataclasses.fields(Run)}


def kind_of(name: str) -> Any:
    """Return the type of an option's value: str, int, float, bool, or a tuple type."""
    annotation = _TYPES[name]
    if isinstance(annotation, types.UnionType):
        annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def combined(
    given: Mapping[str, Any], config: Path | None = None, preset: str | None = None, resumed: Path | None = None
) -> Run:
    """Return the run of a preset, a configuration, a checkpoint to go on from, and the command line, the last first.

    Raises
    ------
    UsageError
        If an option of the command line is wrong.
    InputError, FileFormatError
        If the configuration is.
    """
    values: dict[str, Any] = {}
    if preset is not None:
        with usage():
            name = checks.one_of(preset, PRESETS, "preset")
        values.update(_checked(PRESETS[name], f"preset {name}: "))
    if config is not None:
        _override(values, read(config))
    if resumed is not None:
        _override(values, read_model(resumed))
    with usage():
        _override(values, _checked(given, None))
    return Run(**values)


def read(path: Path) -> dict[str, Any]:
    """Return the options in a TOML file, or in a model's metadata.

    Raises
    ------
    FileFormatError
        If the file is neither.
    InputError
        If a key is no option, or its value is not what the option takes.
    """
    if path.suffix == ".safetensors":
        return read_model(path)
    with open_regular(path) as file:
        try:
            content = file.read(_MOST_TOML + 1)
        except OSError as error:
            raise FileFormatError(f"{path}: can't be read ({error.strerror}).") from error
    if len(content) > _MOST_TOML:
        raise FileFormatError(f"{path}: more than {_MOST_TOML} bytes, which no configuration has; check the path.")
    try:
        text = content.decode()
        if dotted := _DOTTED.search(text):
            raise FileFormatError(f"{path}: {one_line(dotted[0], 60)!r} is no option: options have no dots.")
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also whole numbers of too many digits
        if isinstance(error, FileFormatError):
            raise
        reason = "too many brackets" if isinstance(error, RecursionError) else one_line(error)
        raise FileFormatError(f"{path}: not a TOML file: {reason.rstrip('.')}.") from error
    return _checked(values, f"{path}: ")


def read_model(path: Path) -> dict[str, Any]:
    """Return the options that a model was trained with, from its metadata; see `read`."""
    run = model_file.read(path).metadata.get("run")
    if not isinstance(run, dict):
        raise InputError(f"{path}: does not tell how it was trained; models of `gpunet train` do.")
    return _checked({key: value for key, value in run.items() if key != "gpunet"}, f"{path}: ")


def to_json(run: Run) -> dict[str, Any]:
    """Return what was decided of a run, ready for JSON."""
    values = {name: getattr(run, name) for name in FIELDS}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


def to_toml(options: Mapping[str, Any]) -> str:
    """Return options as TOML, which `read` takes."""
    return "".join(f"{name} = {_toml(value)}\n" for name, value in options.items())


def filled(run: Run, *, is_table: bool, task: str, examples: int) -> Run:
    """Return the run with what it leaves open chosen for the data.

    Images and arrays get the book's chapter 1. Tables get what is usual for them: two ReLU layers, softmax and the
    log-likelihood cost for classes, linear outputs and the quadratic cost for numbers, Adam, L2, and as many
    epochs as give some 6000 steps, 20 to 300.
    """
    if not is_table:
        usual: dict[str, Any] = {
            "hidden": (30,),
            "activation": "sigmoid",
            "cost": "quadratic",
            "epochs": 30,
            "batch_size": 10,
            "optimizer": "sgd",
            "l2": 0.0,
        }
    else:
        batch_size = run.batch_size or (32 if examples >= 1000 else min(16, examples))
        usual = {
            "hidden": (64, 32),
            "activation": "relu",
            "cost": "log-likelihood" if task == "classification" else "quadratic",
            "epochs": min(300, max(20, _TABLE_STEPS * batch_size // examples)),
            "batch_size": batch_size,
            "optimizer": "adam",
            "l2": 10.0,
        }
        if (run.cost or usual["cost"]) == "quadratic":
            usual["output_activation"] = "linear" if task == "regression" else "sigmoid"
    if run.layers is not None:
        del usual["hidden"]
    usual["validation"] = validation_share(run)
    return dataclasses.replace(run, **{key: value for key, value in usual.items() if getattr(run, key) is None})


def validation_share(run: Run) -> float:
    """Return the share of the training examples that is held out to validate on."""
    if run.validation is not None:
        return run.validation
    return 0.1 if run.early_stopping is not None or run.schedule in ("plateau", "halving") else 0.0


# -- Values -----------------------------------------------------------------------------------------------------


def _override(values: dict[str, Any], by: dict[str, Any]) -> None:
    for one, other in (("layers", "hidden"), ("hidden", "layers")):  # two ways to say one thing
        if one in by and other not in by:
            values.pop(other, None)
    if "data" in by:
        values.pop("data_sha256", None)  # it was of the other file
    values.update(by)


def _checked(values: Mapping[str, Any], where: str | None) -> dict[str, Any]:
    """Return the values as `Run` takes them; `where` names their file, None the command line."""
    for name in values:
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            hint = near(name[:60], list(FIELDS))
            raise InputError(f"{where or ''}unknown option {name[:60]!r}.{hint} Known: {known}.")
    if values.get("layers") is not None and values.get("hidden") is not None:
        raise InputError(
            f"{where or '--'}layers has all layer sizes and {'--' if where is None else ''}hidden those of the "
            "hidden layers; give one of them."
        )
    return {name: _value(name, value, where) for name, value in values.items()}


def _value(name: str, value: Any, where: str | None) -> Any:
    what = f"--{name.replace('_', '-')}" if where is None else f"{where}{name}"
    kind, limits = kind_of(name), FIELDS[name].metadata["limits"]
    if kind == tuple[str, ...]:
        return columns(value, what) if where is None else _texts(value, what)
    if typing.get_origin(kind) is tuple:
        return _several(value, what, typing.get_args(kind)[0], limits)
    if kind is str or kind is bool:
        if not isinstance(value, kind):
            raise InputError(f"{what} must be {'text' if kind is str else 'true or false'}, got {_shown(value)}.")
        return value
    return _number(value, what, kind, limits)


def _number(value: Any, what: str, kind: type, limits: Mapping[str, float]) -> Any:
    whole = kind is int
    low, high, above = limits.get("min"), limits.get("max"), limits.get("above")
    good = isinstance(value, int | (int if whole else float)) and not isinstance(value, bool)
    good = good and (abs(value) <= _LARGEST if whole else _is_finite(value))
    good = good and (low is None or value >= low) and (high is None or value <= high)
    if good and (above is None or value > above):
        return kind(value)
    words = (("of at least", low), ("above", above), ("at most", high))
    bounds = [f"{word} {bound:g}" for word, bound in words if bound is not None]
    noun = "a whole number" if whole else "a finite number"
    raise InputError(f"{what} must be {' '.join([noun, ' and '.join(bounds)]).strip()}, got {_shown(value)}.")


def columns(texts: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the columns that an option of the command line names each time that it is given; see `names_in`."""
    try:
        return tuple(name for text in texts for name in names_in(text))
    except InputError as error:
        raise InputError(f"{what} {error}") from error


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f'{what} must be a list such as ["a", "b"], got {_shown(value)}.')
    for part in value:
        if not isinstance(part, str):
            raise InputError(f"{what} must be a list of text, got {_shown(part)} in it.")
    return tuple(value)


def _several(value: Any, what: str, kind: type, limits: Mapping[str, float]) -> tuple[Any, ...]:
    if isinstance(value, str):
        cells = [cell.strip() for cell in value.strip().removeprefix("[").removesuffix("]").split(",")]
        parts: list[Any] = [] if cells == [""] else cells
        try:
            if not (value.isascii() and "_" not in value):  # which int and float would take
                raise ValueError
            parts = [kind(cell) for cell in parts]
        except ValueError:
            example = "sizes such as 784,30,10" if kind is int else "numbers such as 0.2,0.5"
            raise InputError(f"{what} must be {example}, got {_shown(value)}.") from None
    elif kind is float and isinstance(value, int | float):
        parts = [value]
    elif isinstance(value, list):
        parts = value
    else:
        raise InputError(f"{what} must be a list, got {_shown(value)}.")
    return tuple(_number(part, f"{what}: each number", kind, limits) for part in parts)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _shown(value: Any) -> str:
    """Spell a value for a message; Python refuses to spell whole numbers of very many digits."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return "a number of very many digits"


def _toml(value: Any) -> str:
    """Return a value as TOML writes it, whose text, lists and numbers are those of JSON but for a few characters."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
