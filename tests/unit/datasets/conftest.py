"""Helpers that write small data files, as fixtures that return functions."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


@pytest.fixture(scope="session")
def idx_bytes():
    def make(values):
        values = np.asarray(values)
        code = IDX_CODES[values.dtype.str[1:]]
        head = struct.pack(f">BBBB{values.ndim}I", 0, 0, code, values.ndim, *values.shape)
        return head + values.astype(values.dtype.newbyteorder(">")).tobytes()

    return make


@pytest.fixture(scope="session")
def npz_bytes():
    def make(compressed=False, **arrays):
        out = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(out, **arrays)
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def book_parts():
    """Training, validation and test pairs as in the book's file, of 12, 3 and 4 digits."""
    rng = np.random.default_rng(7)

    def part(n):
        return (rng.integers(0, 256, (n, 784)) / 256).astype(np.float32), rng.integers(0, 10, n)

    return part(12), part(3), part(4)


@pytest.fixture(scope="session")
def python2_pickle():
    """What Python 2's cPickle with protocol 2 writes for pairs of arrays: the book's file."""

    def array(values, first):
        name, shape = (
            values.dtype.str[1:].encode(),
            b"".join(b"J" + struct.pack("<i", n) for n in values.shape),
        )
        raw = values.tobytes()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\nq%c" % first
            + b"cnumpy\nndarray\nq%c" % (first + 1)
            + b"K\x00\x85q%cU\x01bq%c\x87q%cRq%c" % tuple(range(first + 2, first + 6))
            + b"(K\x01"
            + (b"(" + shape + b"t")
            + b"cnumpy\ndtype\nq%cU\x02%sq%cK\x00K\x01\x87Rq%c" % (first + 6, name, first + 7, first + 8)
            + b"(K\x03U\x01<q%cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" % (first + 9)
            + b"\x89T"
            + struct.pack("<i", len(raw))
            + raw
            + b"tb"
        )

    def make(pairs):
        arrays = [array(values, 1 + 10 * i) for i, values in enumerate(a for pair in pairs for a in pair)]
        return b"\x80\x02" + b"".join(x + y + b"\x86" for x, y in zip(*[iter(arrays)] * 2, strict=True)) + b"\x87."

    return make


@pytest.fixture(scope="session")
def book_bytes(book_parts):
    def make(protocol=2, parts=None):
        return pickle.dumps(book_parts if parts is None else parts, protocol)

    return make


@pytest.fixture
def write(tmp_path):
    """Write bytes or text under a name (gzip if it ends .gz) and return the path."""

    def make(name, content):
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return make
