import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from gpunet.datasets import load, stream
from gpunet.errors import FileFormatError, InputError

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 2, 1])


@pytest.fixture
def save(write, npz_bytes):
    return lambda **arrays: write("a.npz", npz_bytes(**arrays))


@pytest.mark.parametrize("keys", [("X", "y"), ("x", "Y"), ("x_train", "y_train"), ("X_train", "Y_TRAIN")])
@pytest.mark.parametrize("compressed", [False, True])
def test_training_part(save, keys, compressed):
    data = load(save(compressed=compressed, **dict(zip(keys, (X, Y), strict=True))))
    assert data.X.tolist() == X.tolist()
    assert data.X.dtype == np.float32
    assert data.y.tolist() == Y.tolist()
    assert data.X_test is None
    assert (data.name, data.n_classes, data.input_scale) == ("a.npz", 3, 1.0)


@pytest.mark.parametrize("train", [("X", "y"), ("x_train", "y_train")])
def test_both_parts(save, train):
    data = load(save(**{train[0]: X, train[1]: Y, "x_test": X[:2], "y_test": Y[:2]}))
    assert data.X_test.tolist() == X[:2].tolist()
    assert data.y_test.tolist() == [0, 1]


def test_inputs_alone_are_unlabelled(save):
    data = load(save(X=X))
    assert data.y is None
    assert data.n_classes == 0


def test_images_are_flattened_and_keep_their_bytes(save):
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    data = load(save(x_train=images, y_train=Y))
    assert np.array_equal(data.X, images.reshape(4, 784))
    assert data.X.dtype == np.uint8
    assert data.X.flags.writeable
    assert data.input_scale == 1 / 256


@pytest.mark.parametrize(
    ("given", "kept"), [("f8", "f8"), (">f8", "f8"), ("f4", "f4"), ("f2", "f4"), ("i8", "f4"), ("?", "f4")]
)
def test_dtypes(save, given, kept):
    values = np.array([[0, 1], [0, 0]], given)
    data = load(save(X=np.asfortranarray(values)))
    assert data.X.dtype == np.dtype(kept)
    assert data.X.tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    "keys", [("images",), ("X", "y", "weights"), ("X", "y", "x_train"), ("y",), ("X", "y", "X_test"), ()]
)
def test_other_keys_are_listed(save, keys):
    with pytest.raises(FileFormatError, match="found the keys " + (", ".join(sorted(keys)) or "none")):
        load(save(**dict.fromkeys(keys, X)))


def test_keys_that_differ_only_in_case(save):
    with pytest.raises(FileFormatError, match="'x' is there twice"):
        load(save(X=X, x=X))


def test_one_key_twice(write, npz_bytes):
    out = io.BytesIO(npz_bytes(X=X))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("X.npy", b"other")
    with pytest.raises(FileFormatError, match="'x' is there twice"):
        load(write("a.npz", out.getvalue()))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X, "y": Y[:3]}, "array 'y': 3 labels for 4 inputs"),
        ({"X": X, "y": Y - 1}, "array 'y': the label of row 0"),
        ({"X": X, "y": Y / 2}, "is 0.5"),
        ({"X": X, "y": np.eye(4)}, "argmax"),
        ({"X": np.array([[1, np.nan]])}, "array 'x': row 0, value 1 .* is nan"),
        ({"X": X[0]}, "one row per example"),
        ({"X": X, "y": Y, "X_test": X[:, :2], "y_test": Y}, "test rows 2"),
        ({"X": X.astype("u1"), "y": Y, "X_test": X / 256, "y_test": Y}, "uint8 and test inputs float32"),
    ],
)
def test_data_that_is_refused(save, arrays, message):
    with pytest.raises(InputError, match=message):
        load(save(**arrays))


@pytest.mark.parametrize(
    "values", [np.array([[{}]], object), np.array([["a"]]), np.zeros((2, 2), complex), np.zeros(2, "f4,i4")]
)
def test_dtypes_that_are_refused(save, values):
    with pytest.raises(FileFormatError, match=r"array 'X': its dtype is .* expected whole"):
        load(save(X=values))


def test_objects_are_refused_before_their_pickle_is_touched(tmp_path, save):
    class Bad:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    with pytest.raises(FileFormatError, match="Python objects, which could run code"):
        load(save(X=np.array([[Bad()]], object)))
    assert not (tmp_path / "made").exists()


def npy(shape, dtype="<f4", data=b"", fortran=False):
    text = f"{{'descr': {dtype!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def zipped(member, name="X.npy", method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr(name, member)
    return out.getvalue()


def test_the_hand_made_member_is_a_good_one(write):
    assert load(write("a.npz", zipped(npy("(1, 2)", data=b"\0" * 8)))).X.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (b"", "header can't be read"),
        (b"\x93NUMPY\x01\x00", "header can't be read"),
        (b"\x93NUMPY\x03\x00" + npy("(1, 1)", data=b"1234")[8:], "starts with 93 4e 55 4d 50 59 03 00"),
        (npy("(1, 2)"), "8 bytes in all, but 0 bytes"),
        (npy("(1, 2)", data=b"123456789"), "8 bytes in all, but 9 bytes"),
        (npy("(-1, -1)", data=b"1234"), "header can't be read"),
        (npy("(0, 5)"), "claims the shape"),
        (npy("()", data=b"1234"), r"claims the shape \(\)"),
        (npy(f"({10**3000}, {10**3000})"), r"10\*\*18 or more"),
        (npy("(1, 'a')"), "header can't be read"),
        (npy("(" * 3000), "header can't be read"),
        (npy("(1, 1)", dtype="os.system"), "its dtype is os.system"),
    ],
)
def test_damaged_members(write, member, message):
    with pytest.raises(FileFormatError, match=message):
        load(write("a.npz", zipped(member)))


@pytest.mark.parametrize(
    "member", [npy(f"({2**40}, 784)", data=b"1234"), npy("(1, 1)", data=bytes(2**24))], ids=["much", "little"]
)
def test_a_claim_is_compared_before_the_data_is_read(write, member):
    path = write("a.npz", zipped(member))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="claims"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_sizes_are_compared_with_the_limit_before_unpacking(write, npz_bytes, monkeypatch):
    path = write("a.npz", npz_bytes(compressed=True, X=np.zeros((1000, 1000), np.float32)))
    assert load(path).X.shape == (1000, 1000)
    with pytest.raises(FileFormatError, match=r"more than the limit of 100000 bytes.*larger max_bytes"):
        load(path, max_bytes=100_000)
    monkeypatch.setattr(stream, "_FREE_BYTES", 1000)
    with pytest.raises(FileFormatError, match="more than the limit"):
        load(path)
    assert load(path, max_bytes=5_000_000).X.shape == (1000, 1000)


def _changed(data, mark, offset, value):
    at = data.index(mark) + offset
    return data[:at] + value + data[at + len(value) :]


def test_a_directory_that_claims_a_larger_member(write):
    good = zipped(npy(f"({2**20}, 1)", data=b"1234"))
    lying = _changed(good, b"PK\1\2", 24, struct.pack("<I", 4 * 2**20 + len(npy(f"({2**20}, 1)"))))
    with pytest.raises(FileFormatError, match=r"a\.npz"):
        load(write("a.npz", lying))


def test_damaged_zips(write, npz_bytes):
    good = npz_bytes(X=X)
    at = good.index(X.tobytes())
    for bad, message in (
        (b"", "not a whole .npz"),
        (b"PK\3\4 and no more", "not a whole .npz"),
        (good[: len(good) // 2], "not a whole .npz"),
        (good[:at] + b"\xff" + good[at + 1 :], "Bad CRC-32"),
        (_changed(good, b"PK\1\2", 8, b"\1\0"), "'X.npy' is encrypted"),
        (zipped(npy("(1, 1)", data=b"1234"), method=zipfile.ZIP_BZIP2), "zip method 12"),
    ):
        with pytest.raises(FileFormatError, match=message):
            load(write("a.npz", bad))
