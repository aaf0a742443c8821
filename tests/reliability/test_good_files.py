"""What is right is accepted: arrays written as each kind of file come back as an independent reading has them."""

import csv
import gzip
import io
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from reliability.fuzz import book, gz, idx, npz, table
from reliability.fuzz.readers import TARGETS
from reliability.fuzz.target import Sample

SETTINGS = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
FLOATS = {"width": 32, "allow_nan": False, "allow_infinity": False}


def inputs(codes, axes=2):
    """Finite arrays of these dtypes, either byte order, C or Fortran order."""
    dtypes = st.sampled_from([np.dtype(order + code) for code in codes for order in "<>"])
    shapes = arrays.array_shapes(min_dims=2, max_dims=axes, max_side=6)

    def values(dtype):
        finite = st.floats(**FLOATS | {"width": 8 * min(dtype.itemsize, 4)})
        elements = finite if dtype.kind == "f" else arrays.from_dtype(dtype)
        return arrays.arrays(dtype, shapes, elements=elements)

    return st.tuples(dtypes.flatmap(values), st.sampled_from([np.ascontiguousarray, np.asfortranarray])).map(
        lambda pair: pair[1](pair[0])
    )


@st.composite
def labelled(draw, codes=("u1", "i1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", "?"), axes=2):
    """Inputs and a label for each."""
    X = draw(inputs(codes, axes))
    y = draw(arrays.arrays(draw(st.sampled_from(["u1", "i8", "<f4", ">i4"])), len(X), elements=st.integers(0, 100)))
    return X, y


@pytest.fixture
def comes_back(tmp_path):
    def run(target, files, **options):
        given = Sample(files, options)
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        target.check(given, target.read(tmp_path / given.name, **options))
        for name in files:
            (tmp_path / name).unlink()

    return run


@SETTINGS
@given(labelled(("u1", "i1", "i2", "i4", "f4", "f8"), axes=4), st.booleans())
def test_idx(comes_back, pair, packed):
    codes = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
    X, y = pair

    def encode(values):
        raw = values.astype(values.dtype.newbyteorder(">")).tobytes(order="C")
        return idx.encode(codes[values.dtype.str[1:]], values.shape, raw)

    files = {idx.IMAGES: encode(X), idx.LABELS: encode(y.astype("u1"))}
    if packed:
        files = {f"{name}.gz": gzip.compress(data) for name, data in files.items()}
    comes_back(TARGETS["gzip" if packed else "idx"], files)


@SETTINGS
@given(labelled(), labelled(), st.sampled_from([np.savez, np.savez_compressed]))
def test_npz(comes_back, pair, other, save):
    (X, y), (X_test, y_test) = pair, other
    out = io.BytesIO()
    if X_test.shape[1:] == X.shape[1:] and (X.dtype == np.uint8) == (X_test.dtype == np.uint8):
        save(out, X=X, y=y, X_test=X_test, y_test=y_test)
    else:
        save(out, x_train=X, y_train=y)
    comes_back(npz.TARGET, {npz.NAME: out.getvalue()})


@SETTINGS
@given(st.lists(labelled(axes=3), min_size=3, max_size=3), st.integers(0, 5), st.booleans())
def test_book(comes_back, pairs, protocol, packed):
    data = pickle.dumps(pairs, protocol)
    if packed:
        comes_back(gz.TARGET, {f"{book.NAME}.gz": gzip.compress(data)})
    else:
        comes_back(book.TARGET, {book.NAME: data})


names = st.lists(st.text("abcé \"',;\n", min_size=1, max_size=5).map(str.strip).filter(bool), min_size=2, max_size=4)


@SETTINGS
@given(
    st.data(), names.map(lambda given: [f"{name}{i}" for i, name in enumerate(given)]), st.booleans(), st.booleans()
)
def test_csv(comes_back, data, header, crlf, labels):
    cells = st.floats(**FLOATS).map(repr) | st.integers(-(10**6), 10**6).map(str)
    texts = st.sampled_from(["cat", "dog, large", 'the "bird"', "0"])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n" if crlf else "\n")
    writer.writerow([*header, "label"] if labels else header)
    for _ in range(data.draw(st.integers(1, 5))):
        row = [data.draw(cells) for _ in header]
        writer.writerow([*row, data.draw(texts)] if labels else row)
    comes_back(table.TARGET, {table.NAME: out.getvalue().encode()})
