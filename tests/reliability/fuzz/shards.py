"""`open_data` on files of NumPy's: a folder of .npy or .npz, one of which is damaged, read to their last row."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from reliability.fuzz import npz
from reliability.fuzz.mutate import damaged
from reliability.fuzz.target import Sample, Target, WrongError, require

from gpunet.datasets import open_data


def _npy_files(rng: Random) -> dict[str, bytes]:
    """Return X and mostly y of one to three shards, each an array with now and then one thing wrong."""
    names = rng.sample(("-0", "-1", "", "_b", ".c"), rng.choice((1, 1, 2, 2, 3)))
    width, code, label = rng.randint(1, 4), rng.choice(_CODES), rng.choice(("B", "<i8", ">i4", "<f4"))
    labelled = rng.random() < 0.8
    files: dict[str, bytes] = {}
    for name in sorted(names):
        rows = rng.randint(1, 6)
        files[f"X{name}.npy"] = _npy(rng, (rows, width), code)
        if labelled:
            files[f"{rng.choice('yyyyY')}{name}.npy"] = _npy(rng, (rows,), label)
    how = rng.randrange(9)
    chosen = rng.choice(sorted(files))
    if how < 4:
        files[chosen] = npz._array(rng, chosen[:1], rng.randint(1, 6))
    elif how == 4:
        files[chosen] = damaged(rng, files[chosen], sorted(files.values()), _TOKENS)
    elif how == 5 and len(files) > 1:
        del files[chosen]
    elif how == 6:
        files[rng.choice(("z.npy", "X.npz", "x-0.npy", "y.NPY", "X-9.npy"))] = files[chosen]
    return files


_CODES = ("B", "<f4", "<f4", ">f4", "<f8", "<i2", "?", "<f2")
_TOKENS = (b"\x93NUMPY", b"'", b"(", b")", b",", b"True", b"\1\0", b"<f4", b"{", b"\n", b"1")


def _npy(rng: Random, shape: tuple[int, ...], code: str) -> bytes:
    values = np.array([rng.randrange(2) for _ in range(math.prod(shape))]).astype(code).reshape(shape)
    return npz._npy(npz._header(repr(values.dtype.str), "False", repr(shape)), values.tobytes())


def _npz_files(rng: Random) -> dict[str, bytes]:
    """Return archives of X and y, mostly one of them from the fuzzer of archives."""
    files = {}
    width, code, labelled = rng.randint(1, 4), rng.choice(_CODES), rng.random() < 0.8
    for i in range(rng.choice((1, 1, 2, 3))):
        rows = rng.randint(1, 6)
        members = {"X.npy": _npy(rng, (rows, width), code)}
        if labelled:
            members["y.npy"] = _npy(rng, (rows,), "<i8")
        files[f"{'abc'[i]}.npz"] = _zipped(rng, members)
    how = rng.randrange(8)
    chosen = rng.choice(sorted(files))
    if how < 5:
        files[chosen] = npz.make(rng).data
    elif how == 5:
        files[chosen] = damaged(rng, files[chosen], sorted(files.values()), _TOKENS)
    elif how == 6 and rng.random() < 0.1:
        files[chosen] = npz.bomb(rng)
    return files


def _zipped(rng: Random, members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def make(rng: Random) -> Sample:
    """Return a folder of shards, and how many rows are read at once."""
    if rng.random() < 0.5:
        return Sample(_npz_files(rng))
    files = _npy_files(rng)
    return Sample(files, {"chunk_rows": rng.choice((1, 2, 3, 100))} if rng.random() < 0.5 else {})


def read(path: Path, **options: Any) -> Any:
    """Open the folder, and read all chunks as a training does: the inputs as bytes or as the network's floats."""
    data = open_data(path.parent, **options)
    inputs = []
    for chunk, rows in enumerate(data.chunks):
        out = np.empty((rows, data.n_in), np.uint8 if data.dtype == np.uint8 else np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # looked for by the training, which knows the row
            data.read_inputs(chunk, out)
        inputs.append(out)
    targets = [data.read_targets(chunk) for chunk in range(len(data.chunks))] if data.y_shape is not None else None
    return data, inputs, targets


# -- A second reading -------------------------------------------------------------------------------------------


def _pairs(files: dict[str, bytes]) -> list[tuple[Any, Any]]:
    """Return the arrays of all shards, in the order of their names."""
    endings = {Path(name).suffix.lower() for name in files}
    require(len(endings) == 1, f"files of the kinds {sorted(endings)}")
    if endings == {".npz"}:
        found = []
        for name in sorted(files):
            members = {k.removesuffix(".npy").lower(): npz.array_of(v) for k, v in npz.members(files[name]).items()}
            require({"x"} <= members.keys() <= {"x", "y"}, f"the keys {sorted(members)}")
            found.append((members["x"], members.get("y")))
        return found
    inputs = {name[1:]: files[name] for name in sorted(files) if name[0] in "xX"}
    targets = {name[1:]: files[name] for name in files if name[0] in "yY"}
    require(len(inputs) + len(targets) == len(files), "a name is neither X nor y, or is there twice")
    require(not targets or inputs.keys() == targets.keys(), "X without y, or y without X")
    return [(npz.array_of(X), npz.array_of(targets[n]) if targets else None) for n, X in inputs.items()]


def check(given: Sample, result: Any) -> None:
    """Compare all chunks, put together, with the arrays as they stand in the files."""
    data, inputs, targets = result
    pairs = _pairs(given.files)
    for X, y in pairs:
        require(X.ndim >= 2, "inputs of one axis")
        require((y is None) == (pairs[0][1] is None), "targets in some files")
        require(X.shape[1:] == pairs[0][0].shape[1:] and _plain(X) == _plain(pairs[0][0]), "shards that differ")
        if y is not None:
            require(len(y) == len(X) and y.ndim in (1, 2), "targets that do not fit")
            require(y.shape[1:] == pairs[0][1].shape[1:] and _plain(y) == _plain(pairs[0][1]), "targets that differ")
    require(data.n == sum(data.chunks) == sum(len(X) for X, _ in pairs), f"{data.n} examples")
    require(data.dtype == _plain(pairs[0][0]), f"inputs of {data.dtype}")
    _compare(np.concatenate(inputs), [X for X, _ in pairs])
    if targets is None:
        require(pairs[0][1] is None, "the targets are left out")
    else:
        _compare(np.concatenate(targets), [y for _, y in pairs])


def _plain(values: Any) -> np.dtype[Any]:
    return np.dtype("u1") if values.dtype == np.bool_ else values.dtype


def _compare(mine: Any, arrays: list[Any]) -> None:
    at = 0
    flat = mine.reshape(len(mine), -1)
    for values in arrays:
        rows = flat[at : at + len(values)]
        at += len(values)
        if values.size > 10_000:
            require(not values.any() and not rows.any(), "a large array's values")
            continue
        theirs = values.reshape(-1).tolist()
        require(rows.size == len(theirs), "another number of values")
        for got, value in zip(rows.ravel().tolist(), theirs, strict=True):
            if mine.dtype == np.float32:
                with np.errstate(over="ignore"):
                    value = float(np.float32(value))
            require(got == value or (got != got and value != value), f"{got} where {value} stands")
    if at != len(flat):
        raise WrongError("more rows than there are")


def _seed(rows: tuple[int, ...], code: str, label: str) -> dict[str, bytes]:
    rng, files = Random(0), {}
    for i, n in enumerate(rows):
        files[f"X-{i}.npy"], files[f"y-{i}.npy"] = _npy(rng, (n, 3), code), _npy(rng, (n,), label)
    return files


SEEDS = (
    Sample(_seed((5, 2), "<f4", "<i8"), {"chunk_rows": 2}),
    Sample({"X.npy": _npy(Random(1), (4, 2, 2), ">f8")}),
    Sample({"a.npz": npz.SEEDS[1].data, "b.npz": npz.SEEDS[1].data}),
    Sample({"a.npz": npz.SEEDS[0].data}),
)
TARGET = Target("shards", SEEDS, make, read, check)
