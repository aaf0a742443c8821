"""Model files: safetensors with a JSON description, written whole or not at all.

The tensors are ``weights.1``, ``biases.1``, ... by the book's layer number. The file's metadata has one entry,
``gpunet``: a JSON object with ``version`` and the description.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from gpunet.errors import FileFormatError, InputError

VERSION = 1

Arrays = list[npt.NDArray[Any]]

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "sizes": list,
    "activations": list,
    "cost": str,
    "dtype": str,
    "input_scale": (int, float),
    "task": str,
    "metadata": dict,
}


def write(
    path: str | os.PathLike[str],
    description: Mapping[str, Any],
    weights: Sequence[npt.NDArray[Any]],
    biases: Sequence[npt.NDArray[Any]],
) -> None:
    """Write a model; an existing file is replaced only once the new one is whole and on the disk."""
    try:
        text = json.dumps({"version": VERSION, **description}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"the network's metadata must be ready for JSON: {error}.") from error
    tensors = {}
    for l, (w, b) in enumerate(zip(weights, biases, strict=True), start=1):
        tensors[f"weights.{l}"], tensors[f"biases.{l}"] = np.ascontiguousarray(w), np.ascontiguousarray(b)
    replace_file(Path(path), save(tensors, metadata={"gpunet": text}))


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, sync it to the disk and rename it over `path`.

    Raises
    ------
    OSError
        If that can not be done; then `path` is as it was.
    """
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is not a regular file")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays, Arrays]:
    """Return (description, weights, biases) of a model file.

    Raises
    ------
    FileFormatError
        If the file is missing, no whole safetensors file, no gpunet model, or of a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: there is no such file.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("gpunet")
            if text is None:
                raise FileFormatError(f"{path}: a safetensors file, but not one that gpunet wrote.")
            description = _description(path, text)
            n_layers = len(description["sizes"]) - 1
            wanted = [f"{kind}.{l}" for l in range(1, n_layers + 1) for kind in ("weights", "biases")]
            if sorted(wanted) != sorted(file.keys()):
                raise FileFormatError(f"{path}: damaged: it holds {sorted(file.keys())}, not {sorted(wanted)}.")
            tensors = [file.get_tensor(name) for name in wanted]
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path}: not a whole model file ({error}).") from error
    sizes = description["sizes"]
    shapes = [shape for k, n in pairwise(sizes) for shape in ((n, k), (n, 1))]
    for name, tensor, shape in zip(wanted, tensors, shapes, strict=True):
        if tensor.shape != shape or tensor.dtype.name != description["dtype"]:
            raise FileFormatError(
                f"{path}: damaged: {name} is {tensor.dtype} of shape {tensor.shape}, not {description['dtype']} "
                f"of shape {shape}."
            )
        if not np.isfinite(tensor).all():
            raise FileFormatError(f"{path}: damaged: {name} holds NaN or infinity.")
    return description, tensors[0::2], tensors[1::2]


def _description(path: Path, text: str) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: damaged: its description is no JSON ({error}).") from error
    version = description.get("version") if isinstance(description, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise FileFormatError(
            f"{path}: written by a newer gpunet (format {version}, this one reads up to {VERSION}); upgrade gpunet."
        )
    if version != VERSION:
        raise FileFormatError(f"{path}: damaged: its description has no valid version.")
    for name, kind in _FIELDS.items():
        if not isinstance(description.get(name), kind):
            raise FileFormatError(f"{path}: damaged: its description has no valid {name!r}.")
    if len(description["sizes"]) < 2 or not all(type(n) is int and n > 0 for n in description["sizes"]):
        raise FileFormatError(f"{path}: damaged: its description has no valid 'sizes'.")
    return description
