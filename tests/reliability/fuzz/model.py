"""The model reader: safetensors whose header, description and numbers are edited apart or all together."""

from __future__ import annotations

import copy
import json
import math
import struct
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz.mutate import damaged, number
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet import Network

NAME = "a.safetensors"
_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U16": 2,
    "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}
_ACTIVATIONS = ("sigmoid", "tanh", "relu", "linear")


# -- Making them ------------------------------------------------------------------------------------------------


def dump(value: Any) -> str:
    """Return JSON, in which a list of pairs marked by `Pairs` is an object that may have a key twice."""
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{json.dumps(key)}: {dump(item)}" for key, item in value) + "}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {dump(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump, value)) + "]"
    return value.text if isinstance(value, Raw) else json.dumps(value)


class Pairs(list[tuple[str, Any]]):
    """An object of JSON, key by key."""


class Raw:
    """A piece of text in JSON's place."""

    def __init__(self, text: str) -> None:
        self.text = text


def pack(header: str | bytes, buffer: bytes, length: int | None = None) -> bytes:
    """Return a safetensors file; `length` is what it says of its header if that is not so."""
    raw = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header
    return struct.pack("<Q", (len(raw) if length is None else length) % 2**64) + raw + buffer


def _parts(rng: Random) -> tuple[dict[str, Any], dict[str, Any], bytearray]:
    """Return the description, the header's tensors, and the numbers of a good file."""
    sizes = rng.choice(([3, 4, 2], [1, 1], [2, 1, 3], [5, 2]))
    code = rng.choice(("F32", "F32", "F64"))
    if rng.random() < 0.03:
        code = rng.choice(tuple(_NAMES))
    functions: list[Any] = [rng.choice(_ACTIVATIONS) for _ in sizes[1:]]
    if rng.random() < 0.3:
        functions[0] = {"default": "tanh", "neurons": {"0": "relu"}}
    cost = "quadratic"
    if rng.random() < 0.2:
        functions[-1], cost = "sigmoid", "cross-entropy"
    elif rng.random() < 0.2 and sizes[-1] > 1:
        functions[-1], cost = "softmax", "log-likelihood"
    description = {
        "version": 1, "sizes": sizes, "activations": functions, "cost": cost, "dtype": _NAMES[code],
        "input_scale": rng.choice((1.0, 1, 0.00390625)), "task": rng.choice(("classification", "regression")),
        "metadata": rng.choice(({}, {"classes": ["a", "b"], "target": None}, {"a": {"b": [1, 2.5, True]}})),
    }  # fmt: skip
    tensors: dict[str, Any] = {}
    buffer = bytearray()
    for l, (k, n) in enumerate(pairwise(sizes), start=1):
        for name, shape in ((f"weights.{l}", [n, k]), (f"biases.{l}", [n, 1])):
            start = len(buffer)
            values = np.linspace(-1, 1, shape[0] * shape[1])
            raw = np.zeros(len(values), f"V{_SIZES[code]}")
            if code in ("F32", "F64", "F16", "I32", "U8", "BOOL"):
                raw = values.astype(_NAMES[code])
            buffer += raw.tobytes()
            tensors[name] = {"dtype": code, "shape": shape, "data_offsets": [start, len(buffer)]}
    return description, tensors, buffer


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, -1, 3, 1.5, 1e-320, 1e300, 2**31, 2**63, 2**64, 10**30, "", "sigmoid", "softmax",
    "linear", "mixed", "quadratic", "cross-entropy", "log-likelihood", "float16", "float32", "float64", "int32",
    "bfloat16", "longdouble", ">f4", "object", "classification", "regression", "x" * 300, "\x1b[31m", "a\nb", "é",
    "\ud800", "\0", [], {}, [1], [3, 4, 2], [[1]], {"a": 1}, {"default": "tanh", "neurons": {"0": "relu"}},
    {"default": "tanh", "neurons": {}}, {"default": "softmax", "neurons": {"0": "tanh"}},
    {"default": "tanh", "neurons": {"9": "relu"}}, Raw("NaN"),
    {"default": {"default": "tanh", "neurons": {"0": "relu"}}, "neurons": {"1": "sigmoid"}}, Raw("Infinity"),
    Raw("1e999"), Raw("-Infinity"), Raw("9" * 5000), Raw("[" * 2000 + "]" * 2000), Raw("01"), Raw("'a'"), Raw(""),
    Raw('"\\ud800"'), Raw("1.0"), Raw("[" * 100000), Raw("-0"), Raw("1E0"), Raw('"\\u0000"'),
)  # fmt: skip


def edited(rng: Random, tree: Any) -> Any:
    """Return JSON with one change at a random place: a value, a key, an item dropped, doubled or put in."""
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys: Any = node.keys() if isinstance(node, dict) else range(len(node)) if type(node) is list else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if not places:
        return rng.choice(_VALUES)
    node, key = rng.choice(places)
    old, how = node[key], rng.randrange(8)
    if how < 3:
        node[key] = rng.choice(_VALUES)
    elif how == 3:
        numeric = isinstance(old, int | float) and not isinstance(old, bool)
        node[key] = number(rng, int(old)) if numeric else damaged(rng, dump(old).encode()).decode("latin-1")
    elif how == 4:
        del node[key]
    elif isinstance(node, list):
        node.insert(rng.randint(0, len(node)), rng.choice((old, rng.choice(_VALUES))))
    elif how == 5:
        node[rng.choice(("x", "", f"{key} ", str(key).upper(), "__metadata__", "9", "-1", "00"))] = node.pop(key)
    elif how == 6:
        node[rng.choice(("x", "weights.9", "version2", "1"))] = rng.choice((old, rng.choice(_VALUES)))
    else:
        double = Pairs(node.items())
        double.insert(rng.randint(0, len(double)), (key, rng.choice((old, rng.choice(_VALUES)))))
        return _replaced(tree, node, double)
    return tree


def _replaced(tree: Any, old: Any, new: Any) -> Any:
    if tree is old:
        return new
    if isinstance(tree, dict):
        return {key: _replaced(value, old, new) for key, value in tree.items()}
    if isinstance(tree, Pairs):
        return Pairs((key, _replaced(value, old, new)) for key, value in tree)
    return [_replaced(value, old, new) for value in tree] if isinstance(tree, list) else tree


def edit_tensor(rng: Random, tensors: dict[str, Any], buffer: bytearray) -> None:
    name = rng.choice(list(tensors))
    tensor = tensors[name]
    start, stop = tensor["data_offsets"]
    how = rng.randrange(8)
    if how == 0:
        tensor["dtype"] = rng.choice((*_SIZES, "F33", "", "f32", 1, None))
    elif how == 1:
        shape = tensor["shape"]
        tensor["shape"] = rng.choice((
            [], [0], shape[::-1], [*shape, 1], [2**32, 2**32], [-1, 1], [2**63, 2], [stop - start], [9, 1],
            None, "x", [1.0],
        ))  # fmt: skip
    elif how == 2:
        tensor["data_offsets"] = rng.choice(
            ([start, stop + 4], [start + 4, stop], [stop, start], [0, 0], [start], [start, stop, stop], [-4, stop],
             [2**63, 2**63 + 4], [2**64 - 4, 4], None, [float(start), stop]),
        )  # fmt: skip
    elif how == 3:  # two tensors in one place
        tensor["data_offsets"] = list(tensors[rng.choice(list(tensors))]["data_offsets"])
    elif how in (4, 5) and start < stop:
        at = rng.randrange(start, stop, 4)
        odd = rng.choice((math.nan, math.inf, -math.inf))
        piece = struct.pack("<f", odd) if how == 4 else struct.pack(rng.choice("<>") + "d", odd)
        buffer[at : at + len(piece)] = piece[: len(buffer) - at]
    elif how == 6 and buffer:
        del buffer[rng.randrange(len(buffer)) :]
    else:
        buffer += rng.choice((b"\0", b"\0" * 64))


def make(rng: Random) -> Sample:
    """Return a model file, mostly with something wrong on one of its levels."""
    description, tensors, buffer = _parts(rng)
    level = rng.randrange(10)
    if level < 4:
        description = edited(rng, description)
        if rng.random() < 0.2:
            description = edited(rng, description) if isinstance(description, dict) else description
    elif level < 6:
        edit_tensor(rng, tensors, buffer)
    text = dump(description)
    if level == 6:
        text = damaged(rng, text.encode()).decode("latin-1")
    metadata: Any = {"gpunet": text}
    header: Any = {"__metadata__": metadata, **tensors}
    if level == 7:
        header = edited(rng, header)
    elif rng.random() < 0.1:
        metadata["format"] = "np"
    raw = dump(header).encode("utf-8", "surrogatepass")
    if rng.random() < 0.5:
        raw += b" " * (-len(raw) % 8)
    if level == 8:
        length = number(rng, len(raw)) if rng.random() < 0.3 else None
        return Sample(
            {NAME: pack(damaged(rng, raw, tokens=(b'"', b"{", b"}", b",", b"\\", b"\xff")), bytes(buffer), length)}
        )
    data = pack(raw, bytes(buffer))
    return Sample({NAME: damaged(rng, data, [seed.data for seed in SEEDS]) if level == 9 else data})


def read(path: Any) -> Network:
    """Return the network, on the CPU."""
    return Network.load(path, device="cpu")


# -- A second reading --------------------------------------------------------------------------------------------


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require(len({key for key, _ in pairs}) == len(pairs), "a key is there twice")
    return dict(pairs)


def _no_constant(text: str) -> float:
    raise WrongError(f"{text} is no JSON")


def strict_json(text: str | bytes) -> Any:
    """Read JSON that has no key twice and no number that JSON lacks."""

    def finite(text: str) -> float:
        require(math.isfinite(float(text)), f"the number {text}")
        return float(text)

    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=finite)
    except ValueError as error:
        raise WrongError(f"no JSON: {error}") from error


def tensors_of(data: bytes) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the metadata and the tensors of a safetensors file, by the format's description."""
    (length,) = struct.unpack("<Q", data[:8])
    require(8 + length <= len(data), "the header is cut short")
    header = strict_json(data[8 : 8 + length].decode("utf-8"))
    require(isinstance(header, dict) and data[8:9] == b"{", "the header is no object")
    metadata, buffer, spans, arrays = header.pop("__metadata__", {}), data[8 + length :], [], {}
    for name, tensor in header.items():
        start, stop = tensor["data_offsets"]
        count = math.prod(tensor["shape"]) * _SIZES[tensor["dtype"]]
        require(
            type(start) is int and type(stop) is int and stop - start == count,
            f"{name}'s offsets do not fit its shape",
        )
        spans.append((start, stop))
        if tensor["dtype"] in ("F32", "F64"):
            dtype = np.dtype("<f4" if tensor["dtype"] == "F32" else "<f8")
            arrays[name] = np.frombuffer(buffer[start:stop], dtype).reshape(tensor["shape"])
    at = 0
    for start, stop in sorted(spans):
        require(start == at, "the tensors do not lie side by side")
        at = stop
    require(at == len(buffer), "something lies behind the tensors")
    return metadata, arrays


def check_network(data: bytes, network: Any) -> None:
    """Compare a network with what its file says."""
    require(type(network) is Network, f"no network but {type(network).__name__}")
    metadata, arrays = tensors_of(data)
    said = strict_json(metadata["gpunet"])
    require(said["version"] == 1 and type(said["version"]) is int, "the version")
    require(network.sizes == said["sizes"], f"the sizes {network.sizes}")
    require(said["dtype"] in ("float32", "float64") and network.dtype == said["dtype"], f"the dtype {said['dtype']}")
    require(network.task == said["task"] and network.task in ("classification", "regression"), "the task")
    require(network.metadata == said["metadata"], "the metadata")
    require(
        network.input_scale == float(said["input_scale"]) > 0 and math.isfinite(network.input_scale),
        "the input scale",
    )
    require(network.cost.name == said["cost"], f"the cost {network.cost}")
    n_layers = len(said["sizes"]) - 1
    require(
        set(arrays) == {f"{kind}.{l}" for kind in ("weights", "biases") for l in range(1, n_layers + 1)},
        "the tensors",
    )
    for kind, mine in (("weights", network.weights), ("biases", network.biases)):
        for l, array in enumerate(mine, start=1):
            theirs = arrays[f"{kind}.{l}"]
            shape = (said["sizes"][l], said["sizes"][l - 1] if kind == "weights" else 1)
            require(array.shape == theirs.shape == shape, f"{kind}.{l} of shape {array.shape}")
            require(array.dtype == theirs.dtype == said["dtype"], f"{kind}.{l} in {array.dtype}")
            require(bool(np.isfinite(array).all()), f"{kind}.{l} is not finite")
            require(array.tobytes() == theirs.tobytes(), f"{kind}.{l} has other numbers")
    require(len(said["activations"]) == n_layers, "the activations")
    for mine, spec, n in zip(network.activations, said["activations"], said["sizes"][1:], strict=True):
        _check_activation(mine, spec, n)
    outputs = network.outputs(np.zeros((2, network.sizes[0])))
    require(outputs.shape == (2, network.sizes[-1]), "its outputs")


def _check_activation(mine: Any, spec: Any, n: int) -> None:
    if isinstance(spec, str):
        require(mine.name == spec and spec in (*_ACTIVATIONS, "softmax"), f"the activation {spec!r}")
        require(spec != "softmax" or n > 1, "softmax of one neuron")
        return
    require(mine.default.name == spec["default"], f"the activation {spec!r:.80}")
    require({str(j): f.name for j, f in mine.neurons.items()} == spec["neurons"], f"the activation {spec!r:.80}")
    require(all(0 <= int(j) < n for j in spec["neurons"]), "a neuron that is not there")


def check(given: Sample, result: Any) -> None:
    """Compare the network with the file, and save it again: whatever is read can be written."""
    check_network(given.data, result)


def _seed(rng: Random) -> Sample:
    description, tensors, buffer = _parts(rng)
    return Sample({NAME: pack(dump({"__metadata__": {"gpunet": dump(description)}, **tensors}), bytes(buffer))})


SEEDS = tuple(_seed(Random(i)) for i in range(8))
TARGET = Target("model", SEEDS, make, read, check)
