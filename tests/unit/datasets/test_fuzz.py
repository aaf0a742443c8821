"""Whatever the bytes are: a data set or an error of ours, and no warning."""

import gzip
import io
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpunet.datasets import Dataset, load
from gpunet.errors import GpunetError

FUZZ = settings(max_examples=200, deadline=None, derandomize=True)
X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 2, 1])
CSV = b'a,"b c",label\n1,2.5,cat\n-3e4,"4",dog\n5,6,"cat"\n'
IDX = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03" + bytes(range(12))
PICKLES = [pickle.dumps([(X, Y)] * 3, protocol) for protocol in range(6)]


def _npz(save):
    out = io.BytesIO()
    save(out, X=X, y=Y)
    return out.getvalue()


NPZ = [_npz(np.savez), _npz(np.savez_compressed)]


@st.composite
def damaged(draw, originals):
    """One of the originals, cut short, or with some bytes replaced, dropped or put in."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.binary(max_size=4) | st.sampled_from([b"\xff" * 4, b"\0" * 4, b'"', b",", b"\n", b"nan"]))
        how = draw(st.sampled_from(["cut", "replace", "insert", "drop"]))
        if how == "cut":
            del data[at:]
        elif how == "drop":
            del data[at : at + len(piece)]
        else:
            data[at : at + (len(piece) if how == "replace" else 0)] = piece
    return bytes(data)


@pytest.fixture(scope="session")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")

    def run(name, data, **options):
        path = folder / name
        path.write_bytes(data)
        try:
            result = load(path, max_bytes=2**24, **options)
        except GpunetError as error:
            message = str(error)
        else:
            _check(result)
            message = name
        assert name in message

    return run


def _check(result):
    assert isinstance(result, Dataset)
    assert result.X.ndim == 2
    assert result.X.size
    assert np.isfinite(result.X).all()
    if result.y is not None:
        assert result.y.shape == (len(result.X),)
        assert result.y.min() >= 0


@FUZZ
@given(damaged([IDX]))
@example(IDX)
def test_idx(outcome, data):
    outcome("a-images-idx3-ubyte", data)


@FUZZ
@given(damaged([gzip.compress(IDX, mtime=0)]))
def test_gzip(outcome, data):
    outcome("a-images-idx3-ubyte.gz", data)


@FUZZ
@given(damaged(NPZ))
@example(NPZ[0])
def test_npz(outcome, data):
    outcome("a.npz", data)


@FUZZ
@given(damaged([CSV]), st.sampled_from([None, "label", -1, "0"]))
@example(CSV, None)
def test_csv(outcome, data, target):
    outcome("a.csv", data, target=target)


@FUZZ
@given(st.text(alphabet='0123456789.,-+eE"\n\r na_;x', max_size=60), st.sampled_from([None, 0, -1]))
def test_csv_from_text(outcome, text, target):
    outcome("a.csv", text.encode(), target=target)


@FUZZ
@given(damaged(PICKLES))
@example(PICKLES[0])
def test_pickle(outcome, data):
    outcome("a.pkl", data)


PIECES = [
    *(b"(", b"t", b"\x85", b"\x86", b"\x87", b"N", b"R", b"b", b"]", b"a", b"e", b"l", b"\x88", b"0", b"."),
    *(b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b"I01\n", b"L7L\n", b"S'<'\n", b"U\x02f4", b"X\x01\0\0\0C"),
    *(b"C\x04abcd", b"q\x00", b"h\x00", b"\x94", b"p1\n", b"g1\n", b"\x80\x02", b"\x93", b"\x8c\x05numpy"),
    *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n", b"cnumpy.core.numeric\n_frombuffer\n"),
    b"cnumpy\ndtype\nU\x02f4\x85R",
    b"cnumpy.core.multiarray\n_reconstruct\n)R",
]


@FUZZ
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_pickle_from_pieces(outcome, pieces):
    outcome("a.pkl", b"".join(pieces) + b".")


@FUZZ
@given(st.binary(max_size=40))
def test_rubbish(outcome, data):
    for name in ("a.pkl", "a.npz", "a.csv", "a-images-idx3-ubyte", "a.unknown"):
        outcome(name, data)
