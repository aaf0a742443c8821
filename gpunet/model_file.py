"""Model files: safetensors with a JSON description, written whole or not at all.

The tensors are ``weights.1``, ``biases.1``, ... by the book's layer number. The file's metadata has the entry
``gpunet``: a JSON object with ``version`` and the description. A checkpoint of a training has besides the entry
``gpunet.training``, a JSON object, and tensors whose names begin with ``training.``.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import math
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gpunet.errors import FileFormatError, InputError, one_line

VERSION = 1

Arrays = list[npt.NDArray[Any]]

_TRAINING = "gpunet.training"
#: Seconds after its last change from which a part is nobody's; a process number would say nothing on a shared disk.
_SURELY_LEFT = 3600.0


@dataclass(frozen=True)
class SavedModel:
    """What a model file holds: the description's fields, and the parameters of each layer."""

    sizes: list[int]
    activations: list[Any]
    cost: Any
    dtype: str
    input_scale: float
    task: str
    metadata: dict[str, Any]
    weights: Arrays
    biases: Arrays


@dataclass(frozen=True)
class SavedTraining:
    """What a checkpoint holds beside the model: facts that are ready for JSON, and tensors by name."""

    facts: dict[str, Any]
    tensors: dict[str, npt.NDArray[Any]]


def write(path: str | os.PathLike[str], model: SavedModel, training: SavedTraining | None = None) -> None:
    """Write a model, or a checkpoint; an existing file is replaced only once the new one is whole and on the disk.

    Raises
    ------
    InputError
        If it holds what could not be read back: metadata that JSON changes, parameters that are not finite.
    OSError
        If the file can not be written.
    """
    path = Path(path)
    description = {name: getattr(model, name) for name in _FIELDS}
    for name, is_valid in _FIELDS.items():
        if not is_valid(description[name]):
            raise InputError(f"the network's {name} can not be saved: {description[name]!r:.60}.")
    try:
        text = json.dumps({"version": VERSION, **description}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the network's metadata must be ready for JSON: {error}.") from error
    if json.loads(text)["metadata"] != model.metadata or not isinstance(model.metadata, dict):
        raise InputError(
            "the network's metadata must be a dict of strings, numbers, lists and dicts with strings as keys; "
            "these would come back from the file as something else."
        )
    tensors = {}
    for l, (w, b) in enumerate(zip(model.weights, model.biases, strict=True), start=1):
        for name, array in ((f"weights.{l}", w), (f"biases.{l}", b)):
            if not np.isfinite(array).all():
                raise InputError(f"{name} holds NaN or infinity; such a network is not saved.")
            tensors[name] = np.ascontiguousarray(array)
    metadata = {"gpunet": text}
    if training is not None:
        metadata[_TRAINING] = json.dumps(training.facts, allow_nan=False)
        for name, array in training.tensors.items():
            tensors[f"training.{name}"] = np.ascontiguousarray(array)
    replace_file(path, save(tensors, metadata=metadata))


def check_replaceable(path: Path) -> None:
    """Refuse what `replace_file` could never write to.

    Raises
    ------
    OSError
    """
    try:
        path.resolve()
    except RuntimeError:  # Python before 3.13
        raise OSError(errno.ELOOP, "is a link that leads back to itself", str(path)) from None
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file in it", str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    if not path.absolute().parent.is_dir():
        folder = path.absolute().parent
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}; make it first", str(path))


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, sync it to the disk and rename it over `path` (or what it links to).

    Raises
    ------
    OSError
        If that can not be done; then `path` is as it was.
    """
    check_replaceable(path)
    place = path.resolve()
    part = place.with_name(f"{_part_prefix(place)}{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(place)
    except OSError as error:
        with contextlib.suppress(OSError):  # on a read-only disk not even what is not there can be removed
            part.unlink()
        raise type(error)(error.errno, error.strerror, str(path)) from error  # names the user's file, not the part
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def remove_parts(path: Path) -> None:
    """Remove what processes that were killed while they wrote to `path` have left beside it.

    What was written to within the last hour may be another process's, which is still at it, and stays.
    """
    place = path.resolve()
    for part in place.parent.glob(f"{glob.escape(_part_prefix(place))}????????.part"):
        with contextlib.suppress(FileNotFoundError):  # it was renamed or removed in between
            if time.time() - part.stat().st_mtime > _SURELY_LEFT:
                part.unlink()


def _part_prefix(place: Path) -> str:
    return f".{place.name[:100]}."


def read(path: str | os.PathLike[str]) -> SavedModel:
    """Return the model that a model file or a checkpoint holds.

    Raises
    ------
    FileFormatError
        If the file is missing, no whole safetensors file, no gpunet model, or of a newer version.
    """
    return read_with_training(path)[0]


def read_with_training(path: str | os.PathLike[str]) -> tuple[SavedModel, SavedTraining | None]:
    """Return what a model file holds, and what it holds of a training if it is a checkpoint.

    Raises
    ------
    FileFormatError
        If the file is missing, no whole safetensors file, no gpunet model, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: {'not a regular file' if path.exists() else 'there is no such file'}.")
    try:
        with safe_open(path, framework="numpy") as file:
            _check_header(path)
            metadata = file.metadata() or {}
            text = metadata.get("gpunet")
            if text is None:
                raise FileFormatError(f"{path}: a safetensors file, but not one that gpunet wrote.")
            description = _description(path, text)
            layers = range(1, len(description["sizes"]))
            wanted = [f"{kind}.{l}" for l in layers for kind in ("weights", "biases")]
            keys = set(file.keys())
            beside = {name for name in keys if name.startswith("training.")} if _TRAINING in metadata else set()
            if set(wanted) != keys - beside:
                raise FileFormatError(
                    f"{path}: damaged: its {len(keys)} tensors are not the weights.1 ... biases.{len(layers)} "
                    "of its description."
                )
            tensors = [file.get_tensor(name) for name in wanted]
            of_training = {name.removeprefix("training."): file.get_tensor(name) for name in beside}
    except FileFormatError:
        raise
    # TypeError, AttributeError: dtypes that NumPy lacks. ValueError: shapes, of no numbers but too many axes.
    except (SafetensorError, OSError, TypeError, AttributeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a whole model file ({one_line(error)}).") from error
    shapes = [shape for k, n in pairwise(description["sizes"]) for shape in ((n, k), (n, 1))]
    for name, tensor, shape in zip(wanted, tensors, shapes, strict=True):
        if tensor.shape != shape or tensor.dtype.name != description["dtype"]:
            raise FileFormatError(
                f"{path}: damaged: {name} is {tensor.dtype} of shape {tensor.shape}, not {description['dtype']} "
                f"of shape {shape}."
            )
        if not np.isfinite(tensor).all():
            raise FileFormatError(f"{path}: damaged: {name} holds NaN or infinity.")
    model = SavedModel(**description, weights=tensors[0::2], biases=tensors[1::2])
    if _TRAINING not in metadata:
        return model, None
    facts = _json(path, metadata[_TRAINING])
    if not isinstance(facts, dict):
        raise FileFormatError(f"{path}: damaged: its training's state is no JSON object.")
    return model, SavedTraining(facts, of_training)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) >= 2 and all(type(n) is int and n > 0 for n in value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "sizes": _are_sizes,
    "activations": lambda value: isinstance(value, list),
    "cost": lambda value: isinstance(value, str | dict),
    "dtype": lambda value: value in ("float32", "float64"),
    "input_scale": _is_number,
    "task": lambda value: value in ("classification", "regression"),
    "metadata": lambda value: isinstance(value, dict),
}


def _check_header(path: Path) -> None:
    """Refuse a header with a name twice, of which safetensors takes the last."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: damaged: its header is no JSON ({one_line(error)}).") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):  # Python would take the last one, others the first
        raise ValueError("a key is there twice")
    return fields


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is none of its numbers")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: damaged: its description is no JSON ({one_line(error)}).") from error


def _description(path: Path, text: str) -> dict[str, Any]:
    description = _json(path, text)
    version = description.get("version") if isinstance(description, dict) else None
    if type(version) is int and version > VERSION:
        raise FileFormatError(
            f"{path}: written by a newer gpunet (format {version!s:.20}, this one reads up to {VERSION}); "
            "upgrade gpunet."
        )
    if type(version) is not int or version != VERSION:
        raise FileFormatError(f"{path}: damaged: its description has no valid version.")
    for name, is_valid in _FIELDS.items():
        if name not in description or not is_valid(description[name]):
            raise FileFormatError(f"{path}: damaged: its description has no valid {name!r}.")
    return {name: description[name] for name in _FIELDS}
