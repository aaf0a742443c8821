"""Reads the book's `mnist.pkl` without trusting it: numeric arrays come out, no code is run.

A pickle is a program. Two gates stand before its data: every opcode is compared with a list of
harmless ones before any is executed, and the few names an array's pickle needs are bound to
stand-ins of our own, so that neither NumPy's nor anybody else's functions can be called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import secrets
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gpunet.datasets.arrays import from_bytes
from gpunet.datasets.stream import InPlace, Room
from gpunet.errors import FileFormatError, one_line

Pair = tuple[NDArray[Any], NDArray[Any]]

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_MAX_OPCODES = 10_000  # the book's file has about 150
# fmt: off
_HARMLESS = frozenset({
    "PROTO", "FRAME", "STOP", "MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
    "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET", "MEMOIZE",
})
# fmt: on
# Of their arguments' lengths; longer strings are not copied, as those of arrays are.
_LENGTHS = {"BINSTRING": 4, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
_LONG, _HEAD = 4096, 5
#: Bytes of memory for each byte of what is left: as text, as bytes, and as an array.
_HELD = 8
_STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_NUMERIC = re.compile(r"b1|[iu][1248]|f[248]")
_STRING = re.compile(rb"""'(?:[^'\\]|\\(?:['\\nrt]|x[0-9a-f]{2}))*+'\n|"(?:[^"\\]|\\(?:[\\nrt]|x[0-9a-f]{2}))*+"\n""")


def read_parts(data: bytes | bytearray, what: str, room: Room | None = None) -> tuple[Pair, Pair, Pair]:
    """Return the training, validation and test pair in a pickle of the book's form.

    Parameters
    ----------
    data : bytes
        The whole pickle, of protocol 0 to 5, as Python 2 or 3 wrote it.
        The arrays stay in it, if it can be written to.
    what : str
        The file, for messages.
    room : Room, optional
        Takes what comes beside `data`.

    Returns
    -------
    tuple of three (images, labels)
        Numeric arrays in native byte order, otherwise unchecked.

    Raises
    ------
    FileFormatError
        If it is damaged, asks for anything but numeric arrays, or has another form.
    """
    program, pieces = _scan(data, what)
    if room is not None:
        room.take(_HELD * len(program), what)
    try:
        tree = _ArraysOnly(program, pieces, what, room).load()
    except FileFormatError:
        raise
    except Exception as exc:  # a damaged pickle can raise anything; the documentation says so
        raise FileFormatError(
            f"{what}: a damaged pickle, or not the book's ({one_line(exc)}). Fetch the file again, or save the "
            "arrays with numpy.savez."
        ) from exc
    return _book_form(tree, what)


class _Pieces:
    """The long strings of a pickle, which stay where they are: in the program a name stands for each."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)
        self._secret = secrets.token_bytes(16)  # which no pickle can name
        self._found: list[tuple[int, int]] = []
        self._used: set[int] = set()

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(length for _, length in self._found)

    def add(self, start: int, length: int) -> bytes:
        """Return the step that puts the name of a string on the stack."""
        self._found.append((start, length))
        name = self._secret + (len(self._found) - 1).to_bytes(4, "little")
        return b"C" + bytes([len(name)]) + name  # SHORT_BINBYTES

    def resolve(self, raw: object, itemsize: int) -> object:
        """Return the string that has this name, where an array can begin, or else what was given."""
        if not isinstance(raw, bytes) or len(raw) != len(self._secret) + 4 or not raw.startswith(self._secret):
            return raw
        index = int.from_bytes(raw[-4:], "little")
        start, length = self._found[index]
        piece = self._data[start : start + length]
        if index in self._used:
            return bytes(piece)
        self._used.add(index)
        back = start % itemsize  # of the step's own code and length, which have been read
        if self._data.readonly or not 0 < back <= _HEAD:
            return piece
        self._found[index] = start - back, length
        moved = self._data[start - back : start - back + length]
        moved[:] = piece
        return moved


def _scan(data: bytes | bytearray, what: str) -> tuple[bytes, _Pieces]:
    """Refuse, before anything is executed, a pickle with an opcode or a name that is not harmless.

    Return its steps but for the frames, which say how long they are, and the long strings, which the pieces have.
    """
    stream = InPlace(data)
    program, pieces = bytearray(), _Pieces(data)
    frame_end = 0
    for count in range(_MAX_OPCODES):
        start, code = stream.tell(), stream.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            got = f"the byte {code.hex()}" if code else "its end"
            raise FileFormatError(
                f"{what}: no pickle, or a damaged one ({got} stands where an opcode should, byte "
                f"{stream.tell()}). Expected the book's mnist.pkl; fetch the file again."
            )
        if opcode.name not in _HARMLESS:
            raise FileFormatError(
                f"{what}: refused, its pickle uses {opcode.name}, which arrays of numbers do not need; "
                "nothing of it was run. Save the arrays with numpy.savez instead."
            )
        try:
            # pickletools takes STRING for ASCII, but Python 2 wrote an array's bytes with it; and escapes in names.
            if opcode.name == "GLOBAL":
                module, name = (stream.readline()[:-1].decode("latin-1") for _ in range(2))
                _require_known(module, name, what)
                argument: object = None
            elif opcode.name == "STRING":
                argument = stream.readline()
                if not _STRING.fullmatch(argument):
                    raise ValueError("a string is not as Python 2 writes it")
            elif opcode.name in _LENGTHS:
                length = int.from_bytes(stream.read(_LENGTHS[opcode.name]), "little")
                begin = stream.tell()
                if length > len(data) - begin:
                    raise ValueError(f"a string of {length} bytes where {len(data) - begin} are left")
                stream.seek(begin + length)
                argument = None
            else:
                argument = None if opcode.arg is None else opcode.arg.reader(stream)
        except FileFormatError:
            raise
        except Exception as exc:  # ValueError, struct.error, UnicodeDecodeError, ...
            raise FileFormatError(f"{what}: a damaged pickle ({one_line(exc)}); fetch the file again.") from exc
        # Python's unpickler corrupts its memory where a bytearray reaches beyond its frame.
        if start < frame_end < stream.tell() or (opcode.name == "FRAME" and start < frame_end):
            raise FileFormatError(f"{what}: a damaged pickle (a frame ends within a step); fetch the file again.")
        if opcode.name == "FRAME":
            frame_end = stream.tell() + cast(int, argument)
            if frame_end > len(data):
                raise FileFormatError(f"{what}: a damaged pickle (its end is missing); fetch the file again.")
        # Writers number what they remember from 0 or 1; a wild index would make the memo table huge.
        if opcode.name in _LENGTHS and length >= _LONG:  # seldom within a frame
            program += pieces.add(begin, length)
        elif opcode.name != "FRAME":
            program += memoryview(data)[start : stream.tell()]
        if opcode.name in _STORES and cast(int, argument) > count:
            raise FileFormatError(f"{what}: a damaged pickle (memo index {argument}); fetch the file again.")
        if opcode.name == "STOP":
            if rest := len(data) - stream.tell():
                raise FileFormatError(f"{what}: {rest} bytes follow the end of the pickle; fetch it again.")
            return bytes(program), pieces
    raise FileFormatError(
        f"{what}: a pickle of more than {_MAX_OPCODES} steps; the book's takes about 150. Expected three "
        "(images, labels) pairs of arrays; save other data with numpy.savez."
    )


class _ArraysOnly(pickle.Unpickler):
    """Unpickles with stand-ins in place of every name."""

    def __init__(self, program: bytes, pieces: _Pieces, what: str, room: Room | None) -> None:
        # "bytes" leaves Python 2's strings as they are: latin-1 without the detour through text.
        super().__init__(io.BytesIO(program), encoding="bytes")
        self._stand_ins = _StandIns(len(program), pieces, what, room)
        self._what = what

    def find_class(self, module: str, name: str) -> object:
        _require_known(module, name, self._what)
        return _Callable(getattr(self._stand_ins, _NAMES[module, name]))


# What an array's pickle names, and the method of _StandIns that takes the name's place.
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy._core.multiarray", "_reconstruct"): "reconstruct",
    ("numpy.core.numeric", "_frombuffer"): "frombuffer",
    ("numpy._core.numeric", "_frombuffer"): "frombuffer",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
}


def _require_known(module: str, name: str, what: str) -> None:
    if (module, name) not in _NAMES:
        raise FileFormatError(
            f"{what}: refused, its pickle asks for {one_line(module, 80)}.{one_line(name, 80)}, which could run "
            "code; nothing of it was run. Only arrays of numbers are read; save yours with numpy.savez instead."
        )


class _Callable:
    """A name's stand-in: can be called, and can't be changed by the pickle."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it tries to change a function")


class _DType:
    """Stands for a dtype: first its code such as f4, then the byte order."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str) -> None:
        self._code = code
        self._order = "="

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or state[:1] + state[2:] != (3, None, None, None, -1, -1, 0):
            raise pickle.UnpicklingError("its dtype is not a plain number's")
        order = _text(state[1])
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("its dtype has no byte order")
        self._order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._order.replace("|", "=") + self._code)


class _Array:
    """Stands for an array: empty until the pickle sets its state, and set once."""

    __slots__ = ("_build", "value")

    def __init__(self, build: Callable[..., NDArray[Any]], value: NDArray[Any] | None = None) -> None:
        self._build = build
        self.value = value

    def __setstate__(self, state: object) -> None:
        if self.value is not None or not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array's state is not (version, shape, dtype, order, bytes)")
        version, shape, dtype, fortran, raw = state
        if type(version) is not int or version != 1 or not isinstance(fortran, int) or fortran not in (0, 1):
            raise pickle.UnpicklingError("an array's state has no version or no order")
        self.value = self._build(raw, dtype, shape, "F" if fortran else "C")


class _StandIns:
    """The functions that an array's pickle calls.

    They take the arguments that NumPy writes and no others: what is different was damaged. A pickle may name the same
    bytes many times; `_room` sees to it that no more bytes come out than went in.
    """

    def __init__(self, n_bytes: int, pieces: _Pieces, what: str, room: Room | None) -> None:
        self._room = {"text": n_bytes, "arrays": n_bytes + pieces.size}
        self._pieces = pieces
        self._what = what
        self._memory = room

    def reconstruct(self, *args: object) -> _Array:
        usual = len(args) == 3 and _is_call_of(args[0], self.ndarray) and _whole_numbers(args[1]) == (0,)
        if not usual or _text(args[2]) != "b":
            raise pickle.UnpicklingError("an array does not begin as one of NumPy's")
        return _Array(self._build)

    def frombuffer(self, raw: object, dtype: object, shape: object, order: object, axes: object = None) -> _Array:
        if order != "K" and axes is None:
            return _Array(self._build, self._build(raw, dtype, shape, order))
        values = self._build(raw, dtype, shape, "C" if order == "K" else None)
        return _Array(self._build, values.transpose(_whole_numbers(axes)))

    def ndarray(self, *_: object) -> object:
        raise pickle.UnpicklingError("it calls numpy.ndarray")

    def dtype(self, code: object, *rest: object) -> _DType:
        text = _text(code)
        if not _NUMERIC.fullmatch(text):
            raise FileFormatError(
                f"{self._what}: an array has the dtype {text[:40]!r}; expected whole or floating-point "
                "numbers of at most 8 bytes. Save the data as such, with numpy.savez."
            )
        if rest != (False, True):  # align, copy
            raise pickle.UnpicklingError("its dtype is not one of NumPy's")
        return _DType(text)

    def encode(self, text: object, encoding: object) -> bytes:
        if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("its bytes are not text in latin1")
        self._spend("text", len(text))
        return text.encode("latin-1")

    def _build(self, raw: object, dtype: object, shape: object, order: object) -> NDArray[Any]:
        if not isinstance(dtype, _DType):
            raise pickle.UnpicklingError("an array has no dtype")
        raw = self._pieces.resolve(raw, dtype.dtype.itemsize)
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise pickle.UnpicklingError("an array has no bytes")
        if order not in ("C", "F"):
            raise pickle.UnpicklingError("an array is neither in C nor in Fortran order")
        self._spend("arrays", len(raw))
        if self._memory is not None and not (isinstance(raw, memoryview) and dtype.dtype.isnative):
            self._memory.take(2 * len(raw), self._what)
        return from_bytes(raw, dtype.dtype, _whole_numbers(shape), self._what, order)

    def _spend(self, what: str, n_bytes: int) -> None:
        self._room[what] -= n_bytes
        if self._room[what] < 0:
            raise pickle.UnpicklingError("it uses the same bytes again and again")


def _is_call_of(value: object, function: Callable[..., object]) -> bool:
    return isinstance(value, _Callable) and value._function == function


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise pickle.UnpicklingError("text is missing")


def _whole_numbers(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(type(value) is int for value in values):
        raise pickle.UnpicklingError("a shape is not a tuple of whole numbers")
    return values


def _book_form(tree: object, what: str) -> tuple[Pair, Pair, Pair]:
    pairs = [_pair(part) for part in tree] if isinstance(tree, tuple | list) else []
    if len(pairs) == 3:
        training, validation, test = pairs
        if training and validation and test:
            return training, validation, test
    raise FileFormatError(
        f"{what}: not of the book's form, three (images, labels) pairs of arrays: training, validation and "
        "test. Save other data with numpy.savez."
    )


def _pair(part: object) -> Pair | None:
    if not isinstance(part, tuple | list) or len(part) != 2:
        return None
    images, labels = part
    if not isinstance(images, _Array) or not isinstance(labels, _Array):
        return None
    return None if images.value is None or labels.value is None else (images.value, labels.value)
