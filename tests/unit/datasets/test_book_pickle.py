import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from gpunet.datasets import load
from gpunet.datasets.book_pickle import read_parts
from gpunet.errors import FileFormatError, InputError


def assert_same(parts, expected):
    for (images, labels), (want_images, want_labels) in zip(parts, expected, strict=True):
        for got, want in ((images, want_images), (labels, want_labels)):
            assert got.dtype == want.dtype.newbyteorder("=")
            assert np.array_equal(got, want)
            assert got.flags.writeable


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_of_this_python(book_bytes, book_parts, protocol):
    assert_same(read_parts(book_bytes(protocol), "it"), book_parts)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">i4", "u8", "f2", ">f4", "f8"])
def test_every_dtype_and_memory_order(book_bytes, protocol, dtype):
    values = (np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    layouts = [
        values,
        np.asfortranarray(values),
        values.transpose(1, 0, 2),
        values[:, ::2],
        values[0],
        values[:1],
    ]
    parts = list(zip(layouts[::2], layouts[1::2], strict=True))
    assert_same(read_parts(book_bytes(protocol, parts), "it"), parts)


def test_read_only_arrays_and_older_names(book_bytes, book_parts):
    frozen = [tuple(a.copy() for a in part) for part in book_parts]
    for part in frozen:
        for array in part:
            array.setflags(write=False)
    assert_same(read_parts(book_bytes(5, frozen), "it"), book_parts)
    older = book_bytes(2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy._core" not in older
    assert_same(read_parts(older, "it"), book_parts)


def test_what_python_2_wrote(python2_pickle, book_parts):
    data = python2_pickle(book_parts)
    # The hand-made pickle is one: NumPy reads it too.
    assert_same(pickle.loads(data, encoding="latin1"), book_parts)  # noqa: S301
    assert_same(read_parts(data, "it"), book_parts)


def test_what_python_2_wrote_with_protocol_0():
    def array(values, code):
        raw = "".join(f"\\x{byte:02x}" for byte in values.tobytes()).encode()
        shape = b"".join(b"L%dL\n" % n for n in values.shape)
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
            b"(I1\n(%stcnumpy\ndtype\n(S'%s'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
            b"I00\nS'%s'\ntb"
        ) % (shape, code, raw)

    x, y = np.array([[0.25, 254 / 256]], np.float32), np.array([200])
    pair = b"(" + array(x, b"f4") + array(y, b"i8") + b"t"
    data = b"(" + pair * 3 + b"t."
    assert_same(pickle.loads(data, encoding="latin1"), [(x, y)] * 3)  # noqa: S301
    assert_same(read_parts(data, "it"), [(x, y)] * 3)


@pytest.mark.parametrize("name", ["mnist.pkl", "mnist.pkl.gz"])
def test_load_takes_the_training_and_the_test_part(write, python2_pickle, book_parts, name):
    data = load(write(name, python2_pickle(book_parts)))
    (X, y), _, (X_test, y_test) = book_parts
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.y, y)
    assert np.array_equal(data.X_test, X_test)
    assert np.array_equal(data.y_test, y_test)
    assert (data.name, data.input_scale, data.X.dtype) == (name, 1.0, np.float32)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_inputs_must_be_finite(write, book_bytes, bad):
    part = np.array([[bad]], np.float32), np.array([0])
    good = np.array([[1]], np.float32), np.array([0])
    with pytest.raises(InputError, match="validation part: row 0, value 0"):
        load(write("a.pkl", book_bytes(parts=(good, part, good))))


def test_counts_must_match(write, book_bytes):
    part = np.zeros((2, 3)), np.array([0])
    with pytest.raises(InputError, match="training part: 1 labels for 2 inputs"):
        load(write("a.pkl", book_bytes(parts=(part, part, part))))


class Runs:
    """Calls `function(*args)` when it is unpickled without care."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", ["exec", "system", "eval", "makedirs"])
def test_code_is_refused_by_name_and_not_run(write, tmp_path, book_parts, protocol, function):
    made = tmp_path / "made"
    attack = {
        "exec": Runs(exec, f"open({str(made)!r}, 'w').close()"),
        "system": Runs(os.system, f"echo > '{made}'"),
        "eval": Runs(eval, f"__import__('os').mkdir({str(made)!r})"),
        "makedirs": Runs(os.makedirs, str(made)),
    }[function]
    data = pickle.dumps((*book_parts[:2], attack), protocol)
    path = write("mnist.pkl", data)
    with pytest.raises(FileFormatError, match=rf"refused, its pickle asks for \w+\.{function}, .*could run code"):
        load(path)
    assert not made.exists()
    pickle.loads(data)  # noqa: S301 - the attack is a real one
    assert made.exists()


@pytest.mark.parametrize(
    "name",
    [
        b"numpy\nload",
        b"numpy\nfromfile",
        b"numpy.core.multiarray\nscalar",
        b"numpy.core.multiarray\nfromfile",
        b"numpy.testing._private.utils\nrunstring",
        b"_codecs\ndecode",
        b"builtins\ngetattr",
        b"__builtin__\neval",
        b"gpunet.datasets.book_pickle\n_Array",
    ],
)
def test_names_near_the_known_ones(name):
    with pytest.raises(FileFormatError, match="refused, its pickle asks for " + name.decode().replace("\n", ".")):
        read_parts(b"\x80\x02c" + name + b"\n.", "it")


def test_attributes_of_known_names_are_refused():
    data = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(FileFormatError, match=r"numpy\.ndarray\.tofile"):
        read_parts(data, "it")


@pytest.mark.parametrize(
    ("data", "opcode"),
    [
        (b"Pid\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"(ios\nsystem\n.", "INST"),
        (b"(cos\nsystem\no.", "GLOBAL|os.system"),
        (b"\x80\x02)\x81.", "NEWOBJ"),
        (b"}.", "EMPTY_DICT"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
    ],
)
def test_other_opcodes_are_refused(data, opcode):
    with pytest.raises(FileFormatError, match=f"refused, its pickle (uses|asks for) ({opcode})"):
        read_parts(data, "it")


DTYPE = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its end stands where an opcode should"),
        (b"\xff", "the byte ff"),
        (b"hello", "refused, its pickle uses OBJ"),
        (b"N.", "not of the book's form"),
        (b"(NNNt.", "not of the book's form"),
        (b"((NNt(NNt(NNtt.", "not of the book's form"),
        (b"((" + EMPTY * 2 + b"t(NNt(NNtt.", "not of the book's form"),
        (b"N.N.", "2 bytes follow the end"),
        (b"0N.", "uses POP"),
        (b"tN.", "damaged"),
        (b".", "damaged"),
        (b"]q\x05.", "memo index 5"),
        (b"Nr\xff\xff\xff\x7f.", "memo index 2147483647"),
        (b"Np999999999999\n.", "memo index 999999999999"),
        (b"h\x07.", "damaged"),
        (b"B\xff\xff\xff\x7fabc", "damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00abc", "damaged"),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00N.", "damaged"),
        (b"\x80\x09N.", "damaged"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged"),
        (b"]" + b"N" * 20_000, "more than 10000 steps"),
        (b"cnumpy\nndarray\n(I2\ntR.", "it calls numpy.ndarray"),
        (b"cnumpy\nndarray\nNb.", "it tries to change a function"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "has the dtype 'O8'"),
        (b"cnumpy\ndtype\n(S'f16'\ntR.", "has the dtype 'f16'"),
        (b"cnumpy\ndtype\n(S'V99999999999'\ntR.", "has the dtype"),
        (b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\n(S'a'\ntNNI-1\nI-1\nI0\ntb.", "not a plain number's"),
        (b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'x'\nNNNI-1\nI-1\nI0\ntb.", "no byte order"),
        (EMPTY + b"(I1\n(I99999999\nI784\nt" + DTYPE + b"I00\nS'abcd'\ntb.", "claims"),
        (EMPTY + b"(I1\n(I-1\nI-1\nt" + DTYPE + b"I00\nS'abcd'\ntb.", "claims the shape"),
        (EMPTY + b"(I1\n(I01\nt" + DTYPE + b"I00\nS'abcd'\ntb.", "not a tuple of whole numbers"),
        (EMPTY + b"(I1\n(I1\ntS'f4'\nI00\nS'abcd'\ntb.", "no dtype"),
        (EMPTY + b"Nb.", "an array's state"),
        (b"c_codecs\nencode\n(Vabc\nVrot13\ntR.", "latin1"),
    ],
)
def test_damaged_pickles(write, data, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        load(write("a.pkl", data))
    assert "a.pkl" in str(caught.value)


def test_the_same_bytes_can_not_be_multiplied():
    raw = np.zeros(2**18, np.float32).tobytes()
    out = io.BytesIO()
    out.write(b"\x80\x05(B" + struct.pack("<I", len(raw)) + raw + b"q\x00")
    out.write(DTYPE + b"q\x01cnumpy._core.numeric\n_frombuffer\nq\x02")
    out.write(b"h\x02(h\x00h\x01J\x00\x00\x04\x00\x85X\x01\x00\x00\x00CtR" * 1000 + b"t.")
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="the same bytes again and again"):
            read_parts(out.getvalue(), "it")
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_a_shared_array_may_be_named_twice(book_bytes):
    part = np.ones((2, 3), np.float32), np.array([0, 1])
    assert_same(read_parts(book_bytes(4, (part, part, part)), "it"), (part, part, part))
