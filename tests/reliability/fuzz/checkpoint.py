"""The reader of checkpoints: what a training remembers, edited beside a good model and together with it."""

from __future__ import annotations

import json
import math
import zlib
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import model
from reliability.fuzz.mutate import damaged
from reliability.fuzz.target import Sample, Target, require

from gpunet.training import checkpoint
from gpunet.training.history import Epoch, History

NAME = "a.safetensors"
_SIZES, _COUNT = [3, 2, 2], 14  # so many parameters


def _facts(rng: Random) -> dict[str, Any]:
    """Return what a training of some epochs writes of itself."""
    epochs = [
        Epoch(i, 0.5 / (i + 1), 1e-4, 1e5, rng.choice((None, 0.25)), rng.choice((None, 0.5)), 0.1)
        for i in range(rng.randrange(4))
    ]
    history = History("cpu", "numpy on cpu", "step by step", "adam", rng.choice((0.1, None)), 5, epochs)
    state = dict(np.random.default_rng(rng.randrange(100)).bit_generator.state)
    return {
        "description": {
            "optimizer": {"name": "adam", "beta1": 0.9},
            "batch_size": 5,
            "sizes": _SIZES,
            "max_norm": None,
        },
        "taken": 4 * len(epochs),
        "rng": state,
        "start": dict(np.random.default_rng(1).bit_generator.state),
        "history": history.to_dict(),
    }


def make(rng: Random) -> Sample:
    """Return a checkpoint, mostly with something wrong in the training's part of it."""
    code = rng.choice(("F32", "F64"))
    width = 4 if code == "F32" else 8
    description = {
        "version": 1, "sizes": _SIZES, "activations": ["tanh", "sigmoid"], "cost": "quadratic", "input_scale": 1.0,
        "dtype": "float32" if code == "F32" else "float64", "task": "classification", "metadata": {},
    }  # fmt: skip
    facts: Any = _facts(rng)
    rows = rng.choice((0, 1, 2))
    shapes = {"weights.1": [2, 3], "biases.1": [2, 1], "weights.2": [2, 2], "biases.2": [2, 1]}
    shapes["training.states"] = [rows, _COUNT]
    if rng.random() < 0.5:
        shapes["training.best"] = [_COUNT]
    if rng.random() < 0.1:
        name = rng.choice(("training.states", "training.best", "training.x", "states"))
        shapes[name] = rng.choice(([_COUNT], [_COUNT, 1], [1, 1, _COUNT], [2, _COUNT - 1], [0], []))
    tensors, buffer = {}, bytearray()
    for name, shape in shapes.items():
        start = len(buffer)
        values = np.linspace(-1, 1, math.prod(shape)).astype(f"f{width}")
        buffer += values.tobytes()
        tensors[name] = {"dtype": code, "shape": shape, "data_offsets": [start, len(buffer)]}
    level = rng.randrange(8)
    if level < 4:
        facts = model.edited(rng, facts)
        if rng.random() < 0.3 and isinstance(facts, dict):
            facts = model.edited(rng, facts)
    elif level == 4:
        model.edit_tensor(rng, tensors, buffer)
    text = model.dump(_with_checksum(description, facts, tensors, buffer) if rng.random() < 0.95 else facts)
    if level == 5:
        text = damaged(rng, text.encode()).decode("latin-1")
    metadata = {"gpunet": json.dumps(description), "gpunet.training": text}
    if rng.random() < 0.03:
        del metadata[rng.choice(("gpunet", "gpunet.training"))]
    header: Any = {"__metadata__": metadata, **tensors}
    if level == 6:
        header = model.edited(rng, header)
    data = model.pack(model.dump(header), bytes(buffer))
    return Sample({NAME: damaged(rng, data) if level == 7 else data})


def _with_checksum(description: Any, facts: Any, tensors: dict[str, Any], buffer: bytearray) -> Any:
    """Return the facts with the checksum that they have, so that it is not the checksum that betrays each change."""
    try:
        read = json.loads(model.dump(facts))
        said = [
            description[name] for name in ("sizes", "activations", "cost", "dtype", "input_scale", "task", "metadata")
        ]
        checksum = zlib.crc32(json.dumps([said, read], sort_keys=True).encode())
        names = [f"{kind}.{l}" for kind in ("weights", "biases") for l in (1, 2)]
        for name in (*names, *sorted(name for name in tensors if name.startswith("training."))):
            start, stop = tensors[name]["data_offsets"]
            checksum = zlib.crc32(buffer[start:stop], checksum)
    except (ValueError, TypeError, KeyError, RecursionError):  # damaged so that there is nothing to sum up
        return facts
    if isinstance(facts, model.Pairs):
        return model.Pairs([*facts, ("checksum", checksum)])
    return {**facts, "checksum": checksum} if isinstance(facts, dict) else facts


def check(given: Sample, result: Any) -> None:
    """Compare the model, the training's numbers and its facts with an independent reading of the file."""
    require(type(result) is checkpoint.Resumed, f"no checkpoint but {type(result).__name__}")
    metadata, arrays = model.tensors_of(given.data)
    said, facts = model.strict_json(metadata["gpunet"]), model.strict_json(metadata["gpunet.training"])
    count = 0
    for kind, mine in (("weights", result.model.weights), ("biases", result.model.biases)):
        require(len(mine) == len(said["sizes"]) - 1, f"the {kind}")
        for l, array in enumerate(mine, start=1):
            require(array.tobytes() == arrays[f"{kind}.{l}"].tobytes(), f"{kind}.{l} has other numbers")
            count += array.size
    for name, mine in (("states", result.snapshot.states), ("best", result.snapshot.best)):
        theirs = arrays.get(f"training.{name}")
        require((mine is None) == (theirs is None), f"{name} missing or from nowhere")
        if mine is not None:
            require(mine.dtype == said["dtype"] and mine.tobytes() == theirs.tobytes(), f"{name} has other numbers")
            require(
                mine.shape[-1] == count and mine.ndim == (2 if name == "states" else 1), f"{name} of {mine.shape}"
            )
            require(bool(np.isfinite(mine).all()), f"{name} is not finite")
    require(type(result.snapshot.taken) is int and result.snapshot.taken == facts["taken"] >= 0, "the steps taken")
    require(isinstance(facts["description"], dict) and result.description == facts["description"], "the description")
    for mine, name in ((result.snapshot.rng, "rng"), (result.start, "start")):
        require(mine == facts[name], f"the generator's state {name!r}")
        generator = np.random.default_rng(0)
        generator.bit_generator.state = mine
        require(generator.bit_generator.state == mine, f"the generator does not take the state {name!r} as it is")
    _check_history(result.snapshot.history, facts["history"])


def _check_history(history: Any, said: dict[str, Any]) -> None:
    require(type(history) is History and _agrees(history.to_dict(), said), "the history")
    for name in ("device", "backend", "engine", "optimizer"):
        require(isinstance(getattr(history, name), str), f"the history's {name}")
    for i, epoch in enumerate(history.epochs):
        require(type(epoch.epoch) is int and epoch.epoch == i, f"epoch {epoch.epoch!r} in place of {i}")
        for name in ("cost", "seconds", "examples_per_second"):
            value = getattr(epoch, name)
            require(
                isinstance(value, int | float) and not isinstance(value, bool), f"an epoch's {name} is {value!r:.40}"
            )
        for name in ("validation_cost", "validation_score", "eta"):
            value = getattr(epoch, name)
            right = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            require(right, f"an epoch's {name} is {value!r:.40}")
    best = history.best_epoch
    require(
        best is None or (type(best) is int and 0 <= best < max(1, len(history.epochs))),
        f"the best epoch {best!r:.40}",
    )


def _agrees(mine: Any, said: Any) -> bool:
    """Say whether all that a file says is there; what it leaves out has a default."""
    if isinstance(said, dict):
        return isinstance(mine, dict) and all(key in mine and _agrees(mine[key], said[key]) for key in said)
    if isinstance(said, list):
        return isinstance(mine, list) and len(mine) == len(said) and all(map(_agrees, mine, said))
    if isinstance(mine, float):  # what JSON has no number for is written as text
        return repr(mine) == repr(float(said))
    return bool(type(mine) is type(said) and mine == said)


def _seed(rng: Random) -> Sample:
    """Return a whole checkpoint: none of `make`'s changes."""

    class Gentle(Random):
        def randrange(self, *args: Any) -> int:  # no level has a fault
            return 99 if args == (8,) else super().randrange(*args)

        def random(self) -> float:
            return 0.4  # a best one, and nothing rarer

    return make(Gentle(rng.random()))


SEEDS = tuple(_seed(Random(i)) for i in range(4))
TARGET = Target("checkpoint", SEEDS, make, checkpoint.read, check)
