"""Data in files train the network that the same data in memory would, in an order that the seed alone decides."""

import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gpunet import DivergenceError, FileFormatError, InputError, Network, datasets
from gpunet.datasets import open_data
from gpunet.errors import MissingPackageError
from gpunet.training import metrics
from gpunet.training.data import Chunked, Resident
from gpunet.training.source import Source, SourceRows

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "large-data.md"

N, N_IN, CLASSES = 203, 6, 3


def data(dtype="float32", n=N, targets="labels"):
    rng = np.random.default_rng(3)
    X = rng.integers(0, 256, (n, N_IN)) if np.dtype(dtype).kind in "iu" else rng.normal(size=(n, N_IN))
    y = rng.integers(0, CLASSES, n)
    if targets == "one-hot":
        y = np.eye(CLASSES, dtype=np.float32)[y]
    elif targets == "numbers":
        y = rng.normal(size=(n, CLASSES))
    return X.astype(dtype), y


def small(output="sigmoid", **options):
    cost = {"output_activation": output} if output != "sigmoid" else {}
    return Network([N_IN, 5, CLASSES], device="cpu", seed=2, input_scale=1 / 8, **cost, **options)


def parameters(net):
    return np.concatenate([np.ravel(p) for p in (*net.weights, *net.biases)])


def cuts(n, shards):
    return [slice(part[0], part[-1] + 1) for part in np.array_split(np.arange(n), shards)]


def npy(folder, X, y, shards=1):
    for i, rows in enumerate(cuts(len(X), shards)):
        np.save(folder / f"X-{i}.npy", X[rows])
        np.save(folder / f"y-{i}.npy", y[rows])
    return folder


def npz(folder, X, y, shards=1, save=np.savez_compressed):
    for i, rows in enumerate(cuts(len(X), shards)):
        save(folder / f"{i}.npz", X=X[rows], y=y[rows])
    return folder


def parquet(folder, X, y, shards=1, group=50):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    for i, rows in enumerate(cuts(len(X), shards)):
        columns = {f"x{j}": X[rows, j] for j in range(X.shape[1])}
        ys = {"y": y[rows]} if y.ndim == 1 else {f"y{j}": y[rows, j] for j in range(y.shape[1])}
        pq.write_table(pa.table({**columns, **ys}), folder / f"{i}.parquet", row_group_size=group)
    return folder, {"target": list(ys)}


def opened(kind, folder, X, y, shards=1, **options):
    if kind == "parquet":
        folder, more = parquet(folder, X, y, shards)
        return open_data(folder, **more, **options)
    return open_data({"npy": npy, "npz": npz}[kind](folder, X, y, shards), **options)


def readers():
    return [t for t in threading.enumerate() if t.name.startswith("gpunet reader")]


class Watched:
    """A source in memory that notes what is read, may be slow, and may fail."""

    def __init__(self, X, y, chunks, buffer_rows, pauses=None, fail_at=None):
        self.X, self.y, self.chunks, self.buffer_rows = X, y, chunks, buffer_rows
        self.n_in, self.dtype, self.y_shape, self.y_dtype = X.shape[1], X.dtype, y.shape[1:], y.dtype
        self.starts = np.concatenate([[0], np.cumsum(chunks)])
        self.read, self.pauses, self.fail_at = [], pauses, fail_at

    def read_inputs(self, chunk, out):
        if self.pauses is not None:
            time.sleep(self.pauses.random() * 0.01)
        if len(self.read) == self.fail_at:
            raise OSError("the disk is gone")
        self.read.append(chunk)
        out[...] = self.X[self.starts[chunk] : self.starts[chunk + 1]]

    def read_targets(self, chunk):
        return self.y[self.starts[chunk] : self.starts[chunk + 1]]

    def place(self, chunk, row):
        return f"memory, row {self.starts[chunk] + row}"


def watched(chunks=(50, 3, 50, 50, 50), buffer_rows=60, **options):
    X, y = data()
    return Watched(X, y, list(chunks), buffer_rows, **options)


# -- The same network as from memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
@pytest.mark.parametrize("engine", ["auto", "verbs"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64", ">f4", "float16"])
def test_in_one_buffer_the_same_bits_as_in_memory(tmp_path, kind, engine, dtype):
    if kind == "parquet" and dtype == ">f4":
        pytest.skip("Parquet has one byte order")
    X, y = data(dtype)
    from_files, in_memory = small(), small()
    source = opened(kind, tmp_path, X, y, shards=3)
    assert source.n == N
    options = {"epochs": 3, "batch_size": 7, "eta": 0.5, "engine": engine}
    from_files.fit(source, **options)
    in_memory.fit(X, y, **options)
    np.testing.assert_array_equal(parameters(from_files), parameters(in_memory))
    assert from_files.history.cost == in_memory.history.cost
    assert from_files.history.engine == in_memory.history.engine


@pytest.mark.parametrize("targets", ["labels", "one-hot", "numbers"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_targets_and_dtypes(tmp_path, targets, dtype, optimizer):
    X, y = data("float64", targets=targets)
    nets = [small("linear" if targets == "numbers" else "sigmoid", dtype=dtype) for _ in range(2)]
    source = open_data(npy(tmp_path, X, y, shards=2))
    nets[0].fit(source, epochs=2, batch_size=8, eta=0.1, optimizer=optimizer, l2=0.1, validation_data=source)
    nets[1].fit(X, y, epochs=2, batch_size=8, eta=0.1, optimizer=optimizer, l2=0.1, validation_data=(X, y))
    np.testing.assert_array_equal(parameters(nets[0]), parameters(nets[1]))
    assert nets[0].task == nets[1].task == ("regression" if targets == "numbers" else "classification")
    for name in ("validation_cost", "validation_score"):
        np.testing.assert_allclose(getattr(nets[0].history, name), getattr(nets[1].history, name), rtol=1e-6)


def test_images_are_flattened(tmp_path):
    X, y = data("uint8")
    np.save(tmp_path / "images.npy", X.reshape(N, 2, 3))
    np.save(tmp_path / "labels.npy", y)
    nets = [small(), small()]
    nets[0].fit(open_data(tmp_path / "images.npy", tmp_path / "labels.npy"), epochs=1)
    nets[1].fit(X, y, epochs=1)
    np.testing.assert_array_equal(parameters(nets[0]), parameters(nets[1]))


# -- The order -------------------------------------------------------------------------------------------------------


def expected_order(chunks, buffer_rows, rng):
    """What docs/large-data.md says, written down once more in the plainest way."""
    starts = np.concatenate([[0], np.cumsum(chunks)])
    if sum(chunks) <= buffer_rows:
        return list(rng.permutation(sum(chunks)))
    buffer_rows = max(buffer_rows, *chunks)
    buffers = [[]]
    for chunk in rng.permutation(len(chunks)):
        if buffers[-1] and sum(chunks[c] for c in buffers[-1]) + chunks[chunk] > buffer_rows:
            buffers.append([])
        buffers[-1].append(int(chunk))
    order = []
    for buffer in buffers:
        rows = [row for chunk in sorted(buffer) for row in range(starts[chunk], starts[chunk + 1])]
        order += [rows[i] for i in rng.permutation(len(rows))]
    return order


CHUNKS = [
    ([1] * 20, 1, 4),
    ([7] * 30, 20, 10),
    ([7] * 30, 21, 10),
    ([5, 50, 1, 1, 30, 2, 2, 9], 10, 8),
    ([10] * 10, 40, 64),  # a mini-batch larger than a buffer
    ([10] * 10, 40, 100),
    ([3, 4], 100, 2),
    ([203], 203, 7),
]


def parts_of(source, batch_size, rng):
    net = Network([source.n_in, CLASSES], device="cpu")
    examples = SourceRows(net._model, source, "X")
    yield from Chunked(net._model.ops, examples, batch_size).parts(rng)


@pytest.mark.parametrize(("chunks", "buffer_rows", "batch_size"), CHUNKS)
def test_the_order_is_that_of_the_documentation(chunks, buffer_rows, batch_size):
    n = sum(chunks)
    X = np.repeat(np.arange(n, dtype=np.float32)[:, None], 2, axis=1)
    y = np.arange(n) % CLASSES
    source = Watched(X, y, chunks, buffer_rows)
    assert isinstance(source, Source)
    rng, same = np.random.default_rng(9), np.random.default_rng(9)
    for _ in range(3):
        met, sizes = [], []
        for (A, B), index in parts_of(source, batch_size, rng):
            rows = A[index, 0].astype(int)
            assert (A[index, 1] == rows).all()
            assert (B[index].argmax(axis=1) == y[rows]).all()
            met += list(rows)
            sizes.append(len(rows))
        assert met == expected_order(chunks, buffer_rows, same)
        assert sorted(met) == list(range(n))
        assert all(size % batch_size == 0 for size in sizes[:-1])
    assert rng.bit_generator.state == same.bit_generator.state


def test_data_in_memory_draw_one_permutation():
    X, y = data()
    ops = small()._model.ops
    (_, index), *more = Resident(ops, [X, y]).parts(np.random.default_rng(4))
    assert not more
    np.testing.assert_array_equal(index, np.random.default_rng(4).permutation(N))


class Order(np.random.Generator):
    """A generator of numbers whose permutations are known."""

    def __init__(self, orders):
        super().__init__(np.random.PCG64(0))
        self.orders = iter(orders)

    def permutation(self, n):
        order = np.array(next(self.orders))
        assert len(order) == n
        return order


@pytest.mark.parametrize("engine", ["auto", "verbs"])
@pytest.mark.parametrize(("chunks", "buffer_rows", "batch_size"), CHUNKS)
def test_many_buffers_give_the_bits_of_data_in_memory_in_that_order(engine, chunks, buffer_rows, batch_size):
    X, y = data(n=sum(chunks))
    from_source, in_memory = small(), small()
    from_source._rng, rng = (np.random.default_rng(6) for _ in range(2))
    in_memory._rng = Order([expected_order(chunks, buffer_rows, rng) for _ in range(2)])
    from_source.fit(Watched(X, y, chunks, buffer_rows), epochs=2, batch_size=batch_size, eta=0.5, engine=engine)
    in_memory.fit(X, y, epochs=2, batch_size=batch_size, eta=0.5, engine=engine)
    np.testing.assert_array_equal(parameters(from_source), parameters(in_memory))


def test_neither_files_nor_timing_change_the_bits(tmp_path):
    """The same chunks in one file, in three, and from a source that stutters."""
    X, y = data(n=180)
    results = []
    for shards in (1, 3):
        folder = tmp_path / str(shards)
        folder.mkdir()
        results.append(open_data(npy(folder, X, y, shards), chunk_rows=12, buffer_rows=40))
    pauses = np.random.default_rng()
    results += [Watched(X, y, [12] * 15, 40), Watched(X, y, [12] * 15, 40, pauses=pauses)]
    trained = []
    for source in results:
        net = small()
        net.fit(source, epochs=2, batch_size=7)
        trained.append(parameters(net))
    for other in trained[1:]:
        np.testing.assert_array_equal(trained[0], other)


def test_the_next_buffer_is_read_while_this_one_is_trained_on():
    source = watched(chunks=[29] * 7, buffer_rows=29)
    parts = parts_of(source, 29, np.random.default_rng(0))
    next(parts)
    deadline = time.monotonic() + 30
    while len(source.read) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(source.read) == 2
    time.sleep(0.05)
    assert len(source.read) == 2  # two buffers and no more
    parts.close()


# -- What a training may be asked to do beside -----------------------------------------------------------------------


def rows_of(source):
    net = small()
    return SourceRows(net._model, source, "X")


def test_smoothed_targets():
    X, y = data()
    smooth = np.concatenate([Y.copy() for _, Y in rows_of(Watched(X, y, [100, 103], 50)).smoothed(0.3).blocks()])
    assert smooth.dtype == np.float32
    np.testing.assert_array_equal(smooth, np.float32(0.7) * np.eye(CLASSES, dtype=np.float32)[y] + np.float32(0.1))


def test_the_fingerprint_tells_data_apart():
    X, y = data()
    other_X, other_y = X.copy(), y.copy()
    other_X[-1, -1] += 1
    other_y[0] = (y[0] + 1) % CLASSES
    sources = [
        Watched(X, y, [100, 103], 110),
        Watched(X, y, [103, 100], 110),
        Watched(X, y, [100, 103], 120),
        Watched(other_X, y, [100, 103], 110),
        Watched(X, other_y, [100, 103], 110),
        Watched(X.astype("float64"), y, [100, 103], 110),
    ]
    prints = [rows_of(source).fingerprint() for source in sources]
    assert len(set(prints)) == len(prints)
    assert rows_of(Watched(X.copy(), y.copy(), [100, 103], 110)).fingerprint() == prints[0]


# -- Errors ----------------------------------------------------------------------------------------------------------


def test_no_thread_is_left(tmp_path):
    X, y = data()
    source = open_data(npy(tmp_path, X, y), chunk_rows=10, buffer_rows=20)
    net = small()
    net.fit(source, epochs=1, validation_data=source)
    net.predict(source)
    assert not readers()


@pytest.mark.parametrize("engine", ["auto", "verbs"])
def test_an_interrupt_ends_the_reading(monkeypatch, engine):
    """At the next chunk, in the middle of a buffer."""
    source, net = watched(chunks=[10] * 20 + [3], buffer_rows=100), small()
    before = parameters(net)
    was_interrupted = threading.Event()
    read_inputs = source.read_inputs

    def slow(chunk, out):
        read_inputs(chunk, out)
        if len(source.read) > 12:  # one that is looked at, ten or eleven of the first buffer, some of the second
            was_interrupted.wait(60)
            time.sleep(0.5)

    def interrupted(*arguments, **options):
        assert readers()
        was_interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "read_inputs", slow)
    monkeypatch.setattr("gpunet.training.sgd.MiniBatchSGD._take_chunk", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(source, epochs=1, engine=engine)
    assert caught.traceback  # which keeps the frames alive: the thread must have ended by itself
    assert not readers()
    assert len(source.read) < 1 + 20
    np.testing.assert_array_equal(parameters(net), before)


def test_an_error_of_the_reading_thread_reaches_the_caller():
    source = watched(
        fail_at=8
    )  # after the first chunk, which is looked at, and the first epoch's five: in the second
    net = small()
    kept = []
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(source, epochs=3, on_epoch=lambda epoch: kept.append(parameters(net)))
    assert len(kept) == 1
    np.testing.assert_array_equal(parameters(net), kept[0])
    assert not readers()


def test_divergence_ends_the_reading():
    net = Network([N_IN, 5, CLASSES], activation="linear", device="cpu", seed=0)
    with pytest.raises(DivergenceError):
        net.fit(Watched(*data(targets="numbers"), [20] * 10 + [3], 40), epochs=50, eta=1e6)
    assert not readers()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("kind", "file"), [("npy", "X-1.npy"), ("npz", "1.npz, array 'X'"), ("parquet", "1.parquet")]
)
def test_a_value_that_is_not_finite_is_named_with_its_file_and_row(tmp_path, kind, file, value):
    X, y = data()
    X[150, 4] = value  # the second file's row 48: its first half has 102
    source = opened(kind, tmp_path, X, y, shards=2)
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match=rf"{file}, row 48 \(from 0\): input 4 \(from 0\) is {value}"):
        net.fit(source, epochs=1)
    np.testing.assert_array_equal(parameters(net), before)
    with pytest.raises(InputError, match=f"{file}, row 48"):
        net.predict(source)


def test_a_value_that_float32_can_not_hold(tmp_path):
    X, y = data("float64")
    X[7, 0] = 1e300
    source = open_data(npy(tmp_path, X, y))
    with pytest.raises(InputError, match=r"X-0.npy, row 7 .* is inf in float32"):
        small().fit(source)
    small(dtype="float64").predict(source)


def test_large_finite_values_are_no_error(tmp_path):
    """Their sum is infinite, they are not."""
    X, y = data()
    X[:10] = np.finfo(np.float32).max / 2
    net = small()
    assert np.isfinite(net.outputs(open_data(npy(tmp_path, X, y)))).all()


@pytest.mark.parametrize(
    ("dtype", "bad", "message"),
    [
        ("int64", CLASSES, "takes? whole numbers from 0 to 2"),
        ("int64", -1, "whole numbers from 0 to 2"),
        ("float64", 0.5, "targets that are not classes"),
        ("float64", np.nan, "targets that are not classes"),
    ],
)
def test_a_bad_label_is_named_before_the_training(tmp_path, dtype, bad, message):
    X, y = data()
    y = y.astype(dtype)
    y[190] = bad
    source = open_data(npy(tmp_path, X, y, shards=2), chunk_rows=10, buffer_rows=30)
    with pytest.raises(InputError, match=r"X-1.npy, row 88 \(from 0\): y has the label .*") as caught:
        small().fit(source, on_epoch=lambda epoch: pytest.fail("trained"))
    assert caught.match(message)


def test_bad_targets_of_rows(tmp_path):
    X, y = data(targets="one-hot")
    y[33, 1] = 7
    with pytest.raises(InputError, match=r"X-0.npy, row 33 \(from 0\): y has the value 7"):
        small().fit(open_data(npy(tmp_path, X, y)))


def test_classes_are_classes_if_all_chunks_say_so():
    X, y = data(targets="one-hot")
    y[-1] = 0.5
    source = Watched(X, y, [100, 103], 100)
    net = small()
    net.fit(source, epochs=1)
    assert net.task == "regression"


def test_a_file_that_changes_between_epochs(tmp_path):
    X, y = data()
    source = open_data(npy(tmp_path, X, y), chunk_rows=10, buffer_rows=20)
    net = small()

    def change(epoch):
        if epoch.epoch == 1:
            np.save(tmp_path / "X-0.npy", X + 1)
            os.utime(tmp_path / "X-0.npy", ns=(1, 1))

    with pytest.raises(FileFormatError, match=r"X-0.npy: has been changed since the data were opened"):
        net.fit(source, epochs=5, on_epoch=change)
    assert len(net.history.epochs) == 2


def test_a_file_that_is_gone_or_cut(tmp_path):
    X, y = data()
    source = open_data(npy(tmp_path, X, y))
    with (tmp_path / "X-0.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(FileFormatError, match=r"X-0.npy: has been changed"):
        small().fit(source)
    (tmp_path / "X-0.npy").unlink()
    with pytest.raises(FileFormatError, match=r"X-0.npy: no such file"):
        small().fit(source)


def save(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


X10, Y10 = np.zeros((10, 4), np.float32), np.zeros(10, np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"X0": X10, "X1": X10[:, :3], "y0": Y10, "y1": Y10},
            r"X0.npy has inputs of shape \(N, 4\).*X1.npy of \(N, 3\)",
        ),
        ({"X0": X10, "X1": X10.astype("f8")}, "X0.npy has inputs .*float32, but .*X1.npy of .*float64"),
        ({"X0": X10, "X1": X10, "y0": Y10, "y1": Y10 + 0.5}, "y0.npy has targets .*int64, but .*y1.npy of .*float64"),
        ({"X0": X10, "y0": Y10[:9]}, "y0.npy has 9 targets for the 10 examples of .*X0.npy"),
        ({"X0": X10, "X1": X10, "y0": Y10}, "there is X1.npy, but no y1.npy"),
        ({"X0": X10, "y0": Y10, "y1": Y10}, "there is y1.npy, but no X1.npy"),
        ({"X0": X10, "labels": Y10}, "labels.npy: its name begins with neither X nor y"),
        ({"X0": X10[:0]}, "X0.npy: the header claims the shape .*holds no data"),
        ({"X0": X10[0]}, r"X0.npy: inputs have the shape \(4,\)"),
        ({"X0": X10, "y0": np.zeros((10, 2, 2))}, r"y0.npy: targets have the shape \(10, 2, 2\)"),
        ({"X0": np.asfortranarray(X10)}, "X0.npy: is saved column by column"),
        ({"X0": X10.astype(str)}, "X0.npy: its dtype is .* expected whole or floating-point numbers"),
        ({"X0": X10.astype(object)}, "X0.npy: its dtype is object, Python objects, which could run code"),
        ({"y0": Y10}, "there is y0.npy, but no X0.npy"),
        ({}, "there are no .npy or .npz or .parquet or .pq files"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, arrays, message):
    with pytest.raises((InputError, FileFormatError), match=message):
        open_data(save(tmp_path, **arrays))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("none.npy",), {}, "none.npy: no such file"),
        (("X.npy", "none.npy"), {}, "none.npy: no such file"),
        (([],), {}, "path is an empty list"),
        ((3,), {}, "path must be a path or a list of paths, got 3"),
        (("none",), {}, "none: no such file or folder"),
        (("X.csv",), {}, "X.csv: expected files of one kind, .* got .csv"),
        ((["X.npy", "X"],), {}, "X: expected files of one kind, .* got no ending"),
        ((["X.npy", "a.npz"],), {}, "X.npy: expected files of one kind, .* got .npy, .npz"),
        ((["X.npy", "X.npy"], "y.npy"), {}, "path has 2 files and y has 1"),
        (("a.npz", "y.npy"), {}, "y is not for .npz files"),
        (("X.npy",), {"target": "y"}, "target is not for .npy files"),
        (("a.npz",), {"chunk_rows": 3}, "chunk_rows is not for .npz files"),
        (("X.npy",), {"chunk_rows": 0}, "chunk_rows must be a whole number of at least 1"),
        (("X.npy",), {"buffer_rows": 2.5}, "buffer_rows must be a whole number"),
        (("a.npz",), {"buffer_rows": 9}, "buffer_rows=9 is less than the 10 rows that are read at once from .*a.npz"),
        (("b.npz",), {}, "b.npz: found the keys a, x; expected X and y"),
        (("c.npz",), {}, "c.npz: not a whole .npz file"),
        ((["a.npz", "d.npz"],), {}, "a.npz, array 'X' has targets and .*d.npz, array 'X' has none"),
    ],
)
def test_bad_arguments(tmp_path, monkeypatch, arguments, options, message):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, X=X10, y=Y10)
    for name in ("X", "X.csv"):
        (tmp_path / name).touch()
    np.savez("a.npz", X=X10, y=Y10)
    np.savez("b.npz", X=X10, a=Y10)
    (tmp_path / "c.npz").write_bytes(b"no zip")
    np.savez("d.npz", X=X10)
    with pytest.raises((InputError, FileFormatError), match=message):
        open_data(*arguments, **options)


def test_what_a_network_refuses(tmp_path):
    X, y = data()
    net = small()
    source = open_data(npy(tmp_path, X, y))
    without = open_data(tmp_path / "X-0.npy")
    with pytest.raises(InputError, match="X is a source, which has its own targets; leave y out"):
        net.fit(source, y)
    for method in (net.fit, net.score):
        with pytest.raises(InputError, match="X has no targets"):
            method(without)
    with pytest.raises(InputError, match="X has 6 inputs an example, but the network has 2"):
        Network([2, CLASSES], device="cpu").predict(source)
    with pytest.raises(InputError, match=r"validation_data\[0\] has no targets"):
        net.fit(source, validation_data=without)
    with pytest.raises(InputError, match=r"pair \(X, y\) or a source"):
        net.fit(source, validation_data=3)
    for option in ({"sample_weight": np.ones(len(y))}, {"class_weight": "balanced"}, {"diagnostics": True}):
        with pytest.raises(InputError, match=f"^{next(iter(option))} needs all examples.* leave it out\\.$"):
            net.fit(source, **option)
    with pytest.raises(InputError, match=r"leave it out, and validate on data of their own by validation_data\.$"):
        net.fit(source, validation_split=0.1)


def test_npz_is_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os._exit, (1,)

    np.savez(tmp_path / "a.npz", X=np.array([[Bomb()]], dtype=object))
    with pytest.raises(FileFormatError, match="Python objects"):
        open_data(tmp_path / "a.npz")


def test_damage_inside_an_npz_is_found_as_it_is_read(tmp_path):
    X, y = data()
    npz(tmp_path, X, y, save=np.savez)
    content = bytearray((tmp_path / "0.npz").read_bytes())
    at = content.index(X.tobytes()[:64])
    content[at + 100] ^= 1
    (tmp_path / "0.npz").write_bytes(content)
    source = open_data(tmp_path / "0.npz")
    with pytest.raises(FileFormatError, match=r"0.npz: not a whole .npz file \(Bad CRC"):
        small().fit(source)


def test_an_npz_that_unpacks_to_too_much(tmp_path):
    X = np.zeros((200_000, 100), np.float32)
    np.savez_compressed(tmp_path / "a.npz", X=X)
    with pytest.raises(FileFormatError, match="pass a larger max_bytes"):
        open_data(tmp_path / "a.npz")
    assert open_data(tmp_path / "a.npz", max_bytes=X.nbytes + 1000).n == len(X)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("chunks", [], "X has no examples"),
        ("chunks", [200, 0, 3], "a chunk of it has none"),
        ("y_shape", (3,), r"memory, row 0: the chunk has 50 examples with targets of shape \(3,\), but .* \(50,\)"),
        ("chunks", [103, 103], r"memory, row 103: the chunk has 103 examples .* shape \(100,\)"),
    ],
)
def test_a_source_of_ones_own_that_contradicts_itself(attribute, value, message):
    source = watched()
    setattr(source, attribute, value)
    if value:
        source.starts = np.concatenate([[0], np.cumsum(source.chunks)])
    with pytest.raises(InputError, match=message):
        small().fit(source)


# -- What else takes a source ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet"])
def test_predict_outputs_and_score(tmp_path, kind):
    X, y = data()
    source = opened(kind, tmp_path, X, y, shards=3)
    net = small()
    net.fit(X, y, epochs=2)
    np.testing.assert_allclose(net.outputs(source), net.outputs(X), rtol=1e-6)
    np.testing.assert_array_equal(net.predict(source), net.predict(X))
    assert net.score(source) == net.score(X, y)


def test_in_many_blocks():
    X, y = data(targets="numbers")
    source = Watched(X, y, [7] * 29, 20)
    net = small("linear")
    net.fit(X, y, epochs=2, eta=0.01)
    assert net.outputs(source).shape == (N, CLASSES)
    np.testing.assert_allclose(net.outputs(source), net.outputs(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(net.score(source), net.score(X, y), rtol=1e-6)
    assert not readers()


def test_validation_arrays_beside_a_source_and_the_other_way_round(tmp_path):
    X, y = data()
    source = open_data(npy(tmp_path, X, y), chunk_rows=10, buffer_rows=300)
    histories = []
    for training, validation in (((source,), (X, y)), ((X, y), source)):
        net = small()
        net.fit(*training, epochs=2, validation_data=validation)
        histories.append(net.history)
    assert histories[0].cost == histories[1].cost
    assert histories[0].validation_score == histories[1].validation_score
    np.testing.assert_allclose(histories[0].validation_cost, histories[1].validation_cost, rtol=1e-6)


def test_inputs_alone_are_predicted(tmp_path):
    X, _ = data()
    np.save(tmp_path / "X.npy", X)
    net = small()
    np.testing.assert_array_equal(net.predict(open_data(tmp_path / "X.npy")), net.predict(X))


def test_predicting_reads_no_targets(tmp_path):
    X, y = data()
    y[5] = 99
    np.testing.assert_array_equal(small().predict(open_data(npy(tmp_path, X, y))), small().predict(X))


def test_large_inputs_are_noted(tmp_path):
    X, y = data()
    source = open_data(npy(tmp_path, 100 * X, y))
    with pytest.warns(UserWarning, match="inputs reach"):
        Network([N_IN, CLASSES], device="cpu").fit(source, epochs=1)


def test_a_batch_larger_than_the_data(tmp_path):
    X, y = data()
    nets = [small(), small()]
    for net, given in zip(nets, ((open_data(npy(tmp_path, X, y)),), (X, y)), strict=True):
        with pytest.warns(UserWarning, match="larger than the 203 examples"):
            net.fit(*given, epochs=2, batch_size=1000)
    np.testing.assert_array_equal(parameters(nets[0]), parameters(nets[1]))


@pytest.mark.parametrize("constant", [0.1, 3.0])
def test_r_squared_part_by_part(constant):
    rng = np.random.default_rng(8)
    targets = rng.normal(size=(1000, 3)) + np.array([1e6, 0, 0])
    targets[:, 2] = constant
    outputs = targets + rng.normal(size=targets.shape)
    for found in (outputs, np.where([False, False, True], targets, outputs)):
        running = metrics.RSquared()
        for rows in cuts(1000, 7):
            running.add(found[rows], targets[rows])
        deviation = targets - targets[0]
        expected = metrics.r_squared(found - targets[0], deviation)  # the same numbers, near 0: less rounding
        np.testing.assert_allclose(running.result(), expected, rtol=1e-9)


# -- Parquet ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    def write(name="t.parquet", **columns):
        pq.write_table(pa.table({k: pa.array(*v) if isinstance(v, tuple) else v for k, v in columns.items()}),
                       tmp_path / name, row_group_size=2)  # fmt: skip
        return tmp_path / name

    return write


def inputs_of(source):
    parts = [np.empty((n, source.n_in)) for n in source.chunks]
    for chunk, part in enumerate(parts):
        source.read_inputs(chunk, part)
    return np.concatenate(parts)


def test_columns_of_lists_and_the_order_of_features(table):
    import pyarrow as pa

    pixels = np.arange(15, dtype=np.uint8)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(pixels), 3)
    path = table(label=[0, 1, 2, 0, 1], pixels=lists, flag=[True, False, True, True, False])
    source = open_data(path, target="label")
    assert (source.n_in, source.dtype, source.y_shape, list(source.chunks)) == (4, np.uint8, (), [2, 2, 1])
    np.testing.assert_array_equal(inputs_of(source), np.c_[pixels.reshape(5, 3), [1, 0, 1, 1, 0]])
    np.testing.assert_array_equal(source.read_targets(2), [1])
    chosen = open_data(path, target="label", features=["flag", "pixels"])
    np.testing.assert_array_equal(inputs_of(chosen), np.c_[[1, 0, 1, 1, 0], pixels.reshape(5, 3)])
    assert open_data(path, features="flag").n_in == 1
    assert open_data(path, target=["label", "flag"]).y_shape == (2,)


def test_the_index_of_pandas_is_no_input(table):
    path = table(a=[1.0, 2.0], y=[0, 1], __index_level_0__=[7, 3])
    np.testing.assert_array_equal(inputs_of(open_data(path, target="y")), [[1], [2]])
    named = open_data(path, target="y", features=["__index_level_0__"])
    np.testing.assert_array_equal(inputs_of(named), [[7], [3]])


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"a": [1.0, 2.0]}, {"target": "b"}, "has no columns named 'b'.* There are: 'a'"),
        ({"label": [1], "a": [2]}, {"target": "labels"}, "Did you mean 'label'"),
        ({"a": [1]}, {"target": "a"}, "no column is left for the inputs"),
        ({"a": [1], "b": [2]}, {"target": "a", "features": ["a", "b"]}, "'a' is a feature and a target"),
        ({"a": ["x"], "y": [1]}, {"target": "y"}, "t.parquet, column 'a': holds string; expected numbers"),
        ({"a": [1], "y": ["x"]}, {"target": "y"}, "t.parquet, column 'y': holds string"),
        ({"a": [[1], [2, 3]], "y": [1, 2]}, {"target": "y"}, "column 'a': holds list<"),
        ({"a": []}, {}, "t.parquet: has no rows"),
        ({"a": [1], "y": [1]}, {"target": 3}, "target must be"),
        ({"a": [1], "y": [1]}, {"target": [3]}, "target must be names of columns"),
    ],
)
def test_columns_that_do_not_do(table, columns, options, message):
    with pytest.raises((InputError, FileFormatError), match=message):
        open_data(table(**columns), **options)


def test_a_null_is_named_with_its_row(table):
    path = table(a=[0.0, 1.0, 2.0, None, 4.0], y=[0, 1, 2, 0, 1])
    source = open_data(path, target="y")
    with pytest.raises(InputError, match=r"t.parquet, row 3 \(from 0\): column 'a' is null there"):
        Network([1, 3], device="cpu").fit(source, batch_size=2)


def test_a_null_in_a_list_is_named_with_its_row(table):
    import pyarrow as pa

    kind = pa.list_(pa.float32(), 2)
    path = table(a=([[0, 1], [2, 3], [4, None], [5, 6]], kind), y=[0, 1, 2, 0])
    with pytest.raises(InputError, match=r"row 2 \(from 0\): column 'a' is null"):
        Network([2, 3], device="cpu").predict(open_data(path, target="y"))
    path = table("u.parquet", a=([[0, 1], [2, 3], [4, 5], None], kind), y=[0, 1, 2, 0])
    with pytest.raises(InputError, match=r"u.parquet, row 3 \(from 0\): column 'a' is null"):
        Network([2, 3], device="cpu").predict(open_data(path, target="y"))


def test_parquet_files_that_differ_or_are_damaged(table, tmp_path):
    paths = [table(a=[1.0], y=[1]), table("u.parquet", a=[1], y=[1])]
    with pytest.raises(InputError, match=r"t.parquet has inputs .*float64, but .*u.parquet of .*int64"):
        open_data(paths, target="y")
    (tmp_path / "v.parquet").write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(FileFormatError, match=r"v.parquet: not a whole Parquet file"):
        open_data(tmp_path / "v.parquet")


def test_without_pyarrow(table, monkeypatch):
    path = table(a=[1.0])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'gpunet\[parquet\]'"):
        open_data(path)


def test_wide_targets_count_in_a_buffer(tmp_path):
    X = np.zeros((5, 512), np.float32)
    np.save(tmp_path / "X.npy", X)
    assert open_data(tmp_path / "X.npy").buffer_rows == 2**27 // 2048
    assert open_data(tmp_path / "X.npy", tmp_path / "X.npy").buffer_rows == 2**27 // 4096


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(), flags=re.DOTALL))
def test_the_documentation_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, DOCUMENTATION.name, "exec"), {})


def test_what_it_says_of_itself(tmp_path):
    X, y = data()
    source = datasets.open_data(npy(tmp_path, X, y), chunk_rows=50, buffer_rows=1000)
    assert repr(source) == (
        "<ChunkedDataset: 203 examples of 6 inputs, float32, targets () int64, in 5 chunks, 1000 examples a buffer>"
    )
    assert len(source) == 203
