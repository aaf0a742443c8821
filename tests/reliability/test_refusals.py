"""What the fuzzer found: files that were believed though they were wrong, or refused in a way that is no message."""

import gzip
import io
import json
import pickle
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from reliability.fuzz import book
from reliability.fuzz.target import LONGEST_MESSAGE
from safetensors.numpy import save

from gpunet import FileFormatError, Network
from gpunet.datasets import load
from gpunet.datasets.arrays import as_inputs
from gpunet.errors import one_line

X, Y = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([0, 1])


def refused(path, data, fragment, read=load, **options):
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=fragment) as caught:  # a warning would be an error too
        read(path, **options)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    assert len(text) < LONGEST_MESSAGE + len(str(path))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines\tand  more", "two lines and more"),
        ("\x1b[31mred\0", "\\x1b[31mred\\x00"),
        ("\ud800", "\\ud800"),
        ("é", "é"),
        ("x" * 300, "x" * 197 + "..."),
        ("\0" * 300, ("\\x00" * 50)[:197] + "..."),
    ],
)
def test_one_line(text, shown):
    assert one_line(text) == shown


# -- gzip -------------------------------------------------------------------------------------------------------

CSV = b"1,2\n3,4\n"


def member(flags=0, optional=b"", content=CSV):
    """A gzip member of our own."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6) + optional
    return head + packer.compress(content) + packer.flush() + struct.pack("<II", zlib.crc32(content), len(content))


def test_all_that_gzip_allows_is_read(tmp_path):
    head = b"\x1f\x8b\x08\x02" + bytes(6)
    checked = member(2, struct.pack("<H", zlib.crc32(head) & 0xFFFF))
    for data in (
        member(),
        checked,
        member(8, b"name\0"),
        member(content=CSV[:4]) + member(content=CSV[4:]) + bytes(512),
    ):
        (tmp_path / "a.csv.gz").write_bytes(data)
        assert load(tmp_path / "a.csv.gz").X.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (member(0x20), "unknown header flags"),
        (member(2, b"\0\0"), "header crc mismatch"),
        (member()[:-1], "its end is missing"),
        (member() + b"xx", "incorrect header check"),
        (member() + member()[:20], "its end is missing"),
    ],
    ids=["reserved flags", "header checksum", "cut short", "something behind", "second member cut short"],
)
def test_gzip(tmp_path, data, fragment):
    refused(tmp_path / "a.csv.gz", data, fragment)


def test_many_members_take_no_time_each_for_all_that_follow(tmp_path):
    """Half a million bytes of empty members: a copy of the rest for each of them would take minutes."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"") * 25_000 + member())
    assert load(tmp_path / "a.csv.gz").X.shape == (2, 2)


# -- npz --------------------------------------------------------------------------------------------------------


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def with_header(header):
    """An npz with one array whose header is this text."""
    raw = header.encode("latin-1")
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(raw)) + raw + X.tobytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("X.npy", member)
    return out.getvalue()


GOOD_HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"


@pytest.mark.parametrize(
    "header",
    [
        GOOD_HEADER,
        "{'shape': (2,3,), 'descr':'<f4', 'fortran_order': False}",
        GOOD_HEADER.replace("(2, 3)", "(2L, 3L)"),  # as Python 2 wrote it; NumPy's reader warns
    ],
)
def test_headers_of_other_writers_are_read(tmp_path, header):
    (tmp_path / "a.npz").write_bytes(with_header(header))
    assert load(tmp_path / "a.npz").X.tolist() == X.tolist()


@pytest.mark.parametrize(
    ("header", "fragment"),
    [
        (GOOD_HEADER.replace("False", "'False'"), "header can't be read"),
        (GOOD_HEADER.replace("False", "0"), "header can't be read"),
        (GOOD_HEADER.replace("(2, 3)", "(2 3)"), "header can't be read"),
        (GOOD_HEADER.replace("(2, 3)", "(02, 3)"), "header can't be read"),
        (GOOD_HEADER.replace("(2, 3)", "(2, f(3))"), "header can't be read"),
        (GOOD_HEADER.replace("(2, 3)", "(2, 3), 'shape': (3, 2)"), "header can't be read"),
        (GOOD_HEADER.replace("(2, 3)", f"({'9' * 5000}, 1)"), "10\\*\\*18 or more"),
        (GOOD_HEADER.replace("'<f4'", "'\\o'"), "header can't be read"),
        (GOOD_HEADER + " " * 20_000, "header can't be read"),
        (GOOD_HEADER.replace("<f4", "<f3"), "its dtype is <f3"),
        (GOOD_HEADER.replace("<f4", "a4"), "its dtype is a4"),
        (GOOD_HEADER.replace("<f4", "x\x1b[31m"), "its dtype is x.x1b"),
        ("{" + "'descr': [, " * 800, "header can't be read"),
    ],
)
def test_npy_headers(tmp_path, header, fragment):
    refused(tmp_path / "a.npz", with_header(header), fragment)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda data: data + b"\0", "last bytes"),
        (lambda data: b"#!" + data, "first or last bytes"),
        (lambda data: data[:-2] + b"\5\0abcd", "last bytes"),
        (lambda data: data[:-12] + b"\5\0" + data[-10:], "has 2 members and says 5"),
    ],
    ids=["behind", "before", "comment cut short", "number of members"],
)
def test_the_ends_of_a_zip(tmp_path, change, fragment):
    data = npz(X=X, y=Y)
    refused(tmp_path / "a.npz", change(data), fragment)


@pytest.mark.parametrize("key", ["k" * 3000, "a\nb", "\x1b[31m", "é" * 50])
def test_names_in_a_zip(tmp_path, key):
    refused(tmp_path / "a.npz", npz(**{key: X}), "found the keys")


# -- CSV --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line"),
    [(b'1,2\n3,"4', 2), (b'1,2\n3,"4"5\n', 2), (b'"1" ,2\n', 1), (b'a,b\n1,2\n3,"4\n5,6\n', 4)],
    ids=["cut short in quotes", "goes on behind its quote", "space behind its quote", "never closed"],
)
def test_quotes(tmp_path, data, line):
    refused(tmp_path / "a.csv", data, f"line {line}: a quoted cell is damaged or never ends")


def test_good_quotes_are_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'"a ""b""","c\nd",e"f\n"1","2",3\n')
    data = load(tmp_path / "a.csv")
    assert data.features == ('a "b"', "c\nd", 'e"f')
    assert data.X.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\x1e", " "])
def test_a_number_with_space_around_it_is_one_in_the_first_row_too(tmp_path, space):
    """It was one in the rows below; the first row was text, the names of the columns, and so it was lost."""
    (tmp_path / "a.csv").write_text(f"1,2{space}\n{space}3,4\n5,6\n", encoding="utf-8")
    data = load(tmp_path / "a.csv")
    assert (data.X.tolist(), data.features) == ([[1, 2], [3, 4], [5, 6]], None)


@pytest.mark.parametrize("row", ["1," + "1" * 5000, "1,x" + "1" * 5000])
def test_long_cells(tmp_path, row):
    path = tmp_path / "a.csv"
    path.write_text(f"1,2\n{row}\n")
    with pytest.raises(ValueError, match=r"a\.csv, line 2") as caught:
        load(path)
    assert len(str(caught.value)) < LONGEST_MESSAGE + len(str(path))


# -- The book's pickle ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t", b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x01t"),
        (b"NNNJ\xff\xff\xff\xff", b"NNNJ\xfe\xff\xff\xff"),
        (b"K\x03", b"K\x02"),
        (b"\x89\x88\x87", b"\x88\x88\x87"),
        (b"\x89\x88\x87", b"\x88\x86"),
    ],
    ids=["flags", "itemsize", "version", "align", "no align"],
)
def test_arguments_that_numpy_does_not_write(tmp_path, protocol, old, new):
    data = pickle.dumps([(X, Y)] * 3, protocol)
    assert old in data
    changed = data.replace(old, new)
    if protocol >= 4:  # the frame tells its length
        changed = changed[:3] + struct.pack("<Q", len(changed) - 11) + changed[11:]
    refused(tmp_path / "a.pkl", changed, "pickle")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"I0\ntb", b"I0\ntb"),
        (b"(I1\n(", b"(I01\n("),
        (b"(I1\n(", b"(I2\n("),
        (b"bI00\n", b"bI5\n"),
        (b"S'b'", b"S'f'"),
    ],
    ids=["nothing", "version True", "version 2", "order", "character"],
)
def test_states_that_numpy_does_not_write(tmp_path, old, new):
    data = book.TARGET.seeds[-2].data
    assert data.count(old) >= 6
    changed = data.replace(old, new)
    if old == new:
        (tmp_path / "a.pkl").write_bytes(data)
        load(tmp_path / "a.pkl")
    else:
        refused(tmp_path / "a.pkl", changed, "pickle")


def test_a_frame_that_ends_within_a_bytearray(tmp_path):
    """Of which Python's unpickler lets go while it still writes to it."""
    data = pickle.dumps([(X, Y)] * 3, 5)
    at = data.index(b"\x96") + 9
    changed = data[:3] + struct.pack("<Q", at + 5 - 11) + data[11:]
    refused(tmp_path / "a.pkl", changed, "a frame ends within a step")


@pytest.mark.parametrize("data", [b"cnu\\u0041\nx\n.", b"S'\\o'\n.", b"S'a\n.", b"cnumpy\n\x1b[31m\n."])
def test_escapes_in_a_pickle(tmp_path, data):
    refused(tmp_path / "a.pkl", data, "refused|damaged")


# -- Model files ------------------------------------------------------------------------------------------------

DESCRIPTION = {
    "version": 1, "sizes": [2, 1], "activations": ["sigmoid"], "cost": "quadratic", "dtype": "float32",
    "input_scale": 1.0, "task": "classification", "metadata": {},
}  # fmt: skip


def model(text=None, dtype="f4", **changes):
    text = json.dumps(DESCRIPTION | changes) if text is None else text
    tensors = {"weights.1": np.ones((1, 2), dtype), "biases.1": np.ones((1, 1), dtype)}
    return save(tensors, metadata={"gpunet": text})


def load_model(path):
    return Network.load(path, device="cpu")


def test_the_good_model(tmp_path):
    (tmp_path / "a").write_bytes(model())
    assert load_model(tmp_path / "a").sizes == [2, 1]


GOOD = json.dumps(DESCRIPTION)


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (model(dtype="f2") .replace(b"float32", b"float16"), "no valid 'dtype'"),
        (model(dtype="i4").replace(b"float32", b"int32  "), "no valid 'dtype'"),
        (model(GOOD.replace('"metadata": {}', '"metadata": {"a": NaN}')), "NaN is none of its numbers"),
        (model(GOOD.replace('"metadata": {}', '"metadata": {"a": 1e999}')), "1e999 is none of its numbers"),
        (model(GOOD.replace('"metadata": {}', '"metadata": {"a": 1, "a": 2}')), "a key is there twice"),
        (model(GOOD.replace('"task"', '"sizes": [3, 1], "task"')), "a key is there twice"),
        (model(activations=["x" * 3000]), "unknown activation"),
        (model(activations=[{"default": "tanh", "neurons": {"00": "relu"}}]), "index from 0"),
        (model(activations=[{"default": "tanh", "neurons": {"٠": "relu"}}]), "index from 0"),
    ],
)  # fmt: skip
def test_models(tmp_path, data, fragment):
    refused(tmp_path / "a", data, fragment, load_model)


def test_a_tensor_of_nothing_and_too_large(tmp_path):
    header = {"__metadata__": {"gpunet": GOOD}}
    shapes = {"weights.1": [0, 2**63], "biases.1": [1, 1]}
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [0, 0 if 0 in shape else 4]}
    raw = json.dumps(header).encode()
    refused(tmp_path / "a", struct.pack("<Q", len(raw)) + raw + bytes(4), "not a whole model file", load_model)


def test_a_tensor_that_is_there_twice(tmp_path):
    data = model()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].rstrip()
    tensor = header[header.index(b'"weights.1"') : header.index(b"}", header.index(b'"weights.1"')) + 1]
    header = header[:-1] + b"," + tensor + b"}"
    changed = struct.pack("<Q", len(header)) + header + data[8 + length :]
    refused(tmp_path / "a", changed, "a key is there twice", load_model)


# -- Memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "most"), [("i1", 4.5), ("i2", 4.5), ("i4", 5.5), ("i8", 5.5), ("?", 4.5)])
def test_whole_numbers_become_floats_without_a_second_copy(dtype, most):
    values = np.ones((1000, 1000), dtype)
    tracemalloc.start()
    try:
        assert as_inputs(values, "it").dtype == np.float32
        assert tracemalloc.get_traced_memory()[1] < most * values.size
    finally:
        tracemalloc.stop()
