"""What a small file may become in memory, by its kind."""

import gzip
import io
import pickle

import numpy as np
import pytest

from gpunet.datasets import load, open_data, read_table, stream
from gpunet.errors import FileFormatError, InputError

MIB = 2**20


def idx(code, shape, dtype):
    return bytes([0, 0, code, len(shape)]) + np.array(shape, ">u4").tobytes() + np.zeros(shape, dtype).tobytes()


def npz(**arrays):
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def book(rows):
    part = np.zeros((rows, 4), np.float32), np.zeros(rows, np.int64)
    return gzip.compress(pickle.dumps([part] * 3, 4))


@pytest.mark.parametrize(
    ("name", "fits", "does_not"),
    [
        ("a-images-idx3-ubyte.gz", lambda: idx(8, (25 * MIB, 1), "u1"), lambda: idx(8, (33 * MIB, 1), "u1")),
        ("a-images-idx3-ubyte.gz", lambda: idx(9, (9 * MIB, 1), "i1"), lambda: idx(9, (11 * MIB, 1), "i1")),
        ("a.csv.gz", lambda: b"0,0\n" * MIB, lambda: b"0,0\n" * (2 * MIB)),
    ],
    ids=["bytes", "signed", "csv"],
)
def test_gzip(tmp_path, name, fits, does_not):
    (tmp_path / name).write_bytes(gzip.compress(fits(), 9))
    assert not load(tmp_path / name).X.any()
    (tmp_path / name).write_bytes(gzip.compress(does_not(), 9))
    with pytest.raises(FileFormatError, match=r"limit of \d+ bytes.*\(--max-bytes\)"):
        load(tmp_path / name)
    assert not load(tmp_path / name, max_bytes=64 * MIB).X.any()


def test_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(X=np.zeros((MIB, 3), np.float32), y=np.zeros(MIB, np.uint8)))
    load(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(npz(X=np.zeros((MIB, 6), np.float32)))
    with pytest.raises(FileFormatError, match=r"a.npz, array 'X': would take \d+ bytes of memory"):
        load(tmp_path / "a.npz")
    assert open_data(tmp_path / "a.npz").n == MIB  # rows by rows, without a copy
    assert load(tmp_path / "a.npz", max_bytes=25 * MIB).X.shape == (MIB, 6)
    (tmp_path / "a.npz").write_bytes(npz(X=np.zeros((4 * MIB, 6), np.int8)))
    with pytest.raises(FileFormatError, match=r"a.npz, array 'X': would take \d+ bytes of memory"):
        open_data(tmp_path / "a.npz")  # they become floats


def test_the_books_pickle(tmp_path):
    (tmp_path / "a.pkl.gz").write_bytes(book(MIB))
    with pytest.raises(FileFormatError, match=r"limit of \d+ bytes.*\(--max-bytes\)"):
        load(tmp_path / "a.pkl.gz")
    assert load(tmp_path / "a.pkl.gz", max_bytes=128 * MIB).X.shape == (MIB, 4)


def test_a_pickles_arrays_stay_where_they_are(tmp_path):
    """Each long string is put where its array can begin, whatever place it has in the file."""
    rng = np.random.default_rng(0)
    X, y = rng.random((700, 9), np.float32), rng.integers(0, 9, 700)
    for protocol in range(6):
        for extra in range(8):  # shifts what follows
            parts = [(X, y), (rng.random((extra + 1, 3), np.float32), y[: extra + 1]), (X.copy(), y)]
            (tmp_path / "a.pkl").write_bytes(pickle.dumps(parts, protocol))
            found = load(tmp_path / "a.pkl")
            np.testing.assert_array_equal(found.X, X)
            np.testing.assert_array_equal(found.X_test, X)
            np.testing.assert_array_equal(found.y_test, y)
            found.X[:] = 0
            np.testing.assert_array_equal(found.X_test, X)


def test_a_frame_that_reaches_beyond_the_end(tmp_path):
    data = bytearray(pickle.dumps([(np.zeros((2, 2)), np.zeros(2))] * 3, 4))
    assert data[2:3] == b"\x95"
    data[3] += 1
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(FileFormatError, match="a damaged pickle \\(its end is missing\\)"):
        load(tmp_path / "a.pkl")


def test_classes_without_number(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_FREE_BYTES", 0)
    monkeypatch.setattr(stream, "_RATIO", 30)
    path = tmp_path / "a.csv"
    path.write_text("x,label\n" + "1,a\n2,b\n" * 1000)
    assert load(path).classes == ("a", "b")
    path.write_text("x,label\n" + "".join(f"1,class {i}\n" for i in range(2000)))
    with pytest.raises(FileFormatError, match=r"a.csv, line \d+: the class 'class \d+': would take"):
        load(path)
    assert read_table(path).n_rows == 2000


def test_truth_in_shards_is_0_or_1(tmp_path):
    np.save(tmp_path / "X.npy", np.ones((4, 2), bool))
    out = np.empty((4, 2), np.uint8)
    open_data(tmp_path).read_inputs(0, out)
    assert out.all()
    data = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(data[:-1] + b"\2")
    with pytest.raises(FileFormatError, match=r"X.npy: holds 2 where true is 1"):
        open_data(tmp_path).read_inputs(0, out)


def test_shards_whose_names_differ_in_a_letters_case(tmp_path):
    for name in ("X-0.npy", "x-0.npy"):
        np.save(tmp_path / name, np.zeros((4, 2)))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("the file system takes both for one")
    with pytest.raises(InputError, match=r"x-0.npy: differs from X-0.npy in its first letter's case alone"):
        open_data(tmp_path)
