"""Bytes of a file, gunzipped where it is gzip, never more than a limit."""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

from gpunet.errors import FileFormatError, one_line

_CHUNK = 1 << 20
_PACKED_CHUNK = 1 << 16  # what is left of one is copied for each member that ends in it
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS  # zlib's code for the format
# Reading a file takes at most ten times its size and 64 MiB, of which these are for pieces, records and libraries.
_FREE_BYTES = (64 - 4) << 20
_RATIO = 10


class Readable(Protocol):
    """Whatever has `read(n)`."""

    def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes, none at the end."""
        ...


class _Bytes(io.RawIOBase):
    def __init__(self, data: bytes | bytearray) -> None:
        self._data, self._at = memoryview(data), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class InPlace(io.BufferedReader):
    """A stream of bytes where they are; `io.BytesIO` would have its own copy of a bytearray."""

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(_Bytes(data), 2**16)
        self._length = len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        # A reader takes memory for as much as it is asked for, and a damaged length asks for any number.
        return super().read(size if size is None or size < 0 else min(size, max(0, self._length - self.tell())))


class Room:
    """Memory that reading some files may take: by their size, or as `max_bytes`, the most to unpack, has it.

    A few bytes can unpack to a thousand times as many, and these can become wider numbers. So readers ask how much
    they may unpack, and say before they make something of it how much it will take.
    """

    def __init__(self, max_bytes: int | None, *paths: Path) -> None:
        self._max_bytes = max_bytes
        self._size = sum(os.path.getsize(path) for path in paths if path.is_file())
        self._limit = self._left = _FREE_BYTES + _RATIO * self._size

    def unpacked(self, held: float = 1) -> int:
        """Return how many bytes may be unpacked where each of them takes `held` bytes of memory in the end."""
        return int(max(self._left, 0) / held) if self._max_bytes is None else self._max_bytes

    def take(self, n_bytes: float, what: str) -> None:
        """Note that something takes so much memory.

        Raises
        ------
        FileFormatError
            If it is more than there is.
        """
        if self._max_bytes is not None:
            return
        self._left -= int(n_bytes)
        if self._left < 0:
            raise FileFormatError(
                f"{what}: would take {self._limit - self._left} bytes of memory, more than the limit of "
                f"{self._limit} bytes for {self._size} bytes of data. If you trust the file, unpack it or say "
                "with max_bytes (--max-bytes) how many bytes it may unpack to."
            )


def drain(stream: Readable, limit: int) -> bytearray:
    """Read `stream` to its end, or to `limit` + 1 bytes, holding only what really came, and that once.

    What is returned can be written to, so that an array can be made of it without a copy.
    """
    data = bytearray()
    while len(data) <= limit and (chunk := stream.read(min(_CHUNK, limit + 1 - len(data)))):
        data += chunk
    return data


def _pieces(packed: IO[bytes]) -> Iterator[bytes]:
    """Yield what a gzip stream unpacks to, at most `_CHUNK` bytes at a time.

    By zlib and not by Python's gzip, which looks neither at the header's checksum nor at its reserved flags.
    """
    rest = packed.read(_PACKED_CHUNK)
    while rest:
        member = zlib.decompressobj(_GZIP)
        while not member.eof:
            piece = member.decompress(rest, _CHUNK)
            rest = member.unconsumed_tail
            if piece:
                yield piece
            elif not (rest or member.eof or (rest := packed.read(_PACKED_CHUNK))):
                raise EOFError("its end is missing")
        rest = member.unused_data.lstrip(b"\0")  # zeros fill up a tape's block
        while not rest and (more := packed.read(_PACKED_CHUNK)):
            rest = more.lstrip(b"\0")


def gunzip(packed: IO[bytes], size: int, what: str, max_bytes: int | None = None) -> bytearray:
    """Unpack the gzip stream `packed`, which is `size` bytes long.

    Raises
    ------
    FileFormatError
        If it is damaged, cut short, or unpacks to more than the limit.
    """
    limit = _FREE_BYTES + _RATIO * size if max_bytes is None else max_bytes
    data = bytearray()
    try:
        for piece in _pieces(packed):
            data += piece
            if len(data) > limit:
                break
    except (OSError, EOFError, zlib.error) as exc:
        raise FileFormatError(
            f"{what}: not a whole gzip file ({one_line(exc)}). It is damaged or cut short; fetch it again."
        ) from exc
    if len(data) > limit:
        raise FileFormatError(
            f"{what}: {size} bytes of gzip unpack to more than the limit of {limit} bytes. If you trust "
            "the file, gunzip it first or pass a larger max_bytes (--max-bytes)."
        )
    return data


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    FileFormatError
        If it is missing, not readable, or a pipe, device or folder (a pipe could block for ever).
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
        if regular:
            return open(path, "rb")
    except FileNotFoundError as exc:
        raise FileFormatError(f"{path}: no such file. Check the path.") from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        raise _unreadable(path, exc) from exc
    raise FileFormatError(f"{path}: not a regular file; give the path of a data file.")


def read_file(path: Path, max_bytes: int | None = None) -> bytearray:
    """Return the content of `path`, unpacked if it is gzip.

    Gzip is known by its first bytes, because downloads often lose or keep a wrong `.gz`.

    Raises
    ------
    FileFormatError
        If the file can't be read, or is named `.gz` and is no whole gzip file within the limit.
    """
    with open_regular(path) as file:
        try:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            if packed:
                return gunzip(file, size, str(path), max_bytes)
            data = drain(file, size)
        except OSError as exc:
            raise _unreadable(path, exc) from exc
    if path.name.lower().endswith(".gz"):
        raise FileFormatError(
            f"{path}: named .gz, but it starts with {data[:4].hex(' ') or 'nothing'} where gzip has 1f 8b. "
            "If it is unpacked already, drop .gz from its name; otherwise fetch it again."
        )
    return data


def first_bytes(path: Path, n: int) -> bytes:
    """Return the first `n` bytes of the content of `path`, fewer where there are fewer."""
    with open_regular(path) as file:
        try:
            head = file.read(n)
            if head.startswith(_GZIP_MAGIC):
                file.seek(0)
                head = next(_pieces(file), b"")[:n]
        except (OSError, EOFError, zlib.error) as exc:
            raise _unreadable(path, exc) from exc
    return head


def _unreadable(path: Path, exc: Exception) -> FileFormatError:
    reason = getattr(exc, "strerror", None) or exc
    return FileFormatError(
        f"{path}: can't be read ({one_line(reason)}). Check the path, its permissions and the file."
    )
