import gzip
import os
import tracemalloc

import numpy as np
import pytest

from gpunet.datasets import load, stream
from gpunet.datasets.arrays import memory_of
from gpunet.errors import FileFormatError, InputError


def test_plain_and_gzip_are_told_apart_by_content(tmp_path):
    plain, unmarked = tmp_path / "a.csv", tmp_path / "b.csv"
    plain.write_bytes(b"1,2\n")
    unmarked.write_bytes(gzip.compress(b"1,2\n"))
    assert stream.read_file(plain) == stream.read_file(unmarked) == b"1,2\n"
    assert stream.first_bytes(unmarked, 3) == b"1,2"


def test_several_gzip_members_are_one_content(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert stream.read_file(path) == b"one two"


@pytest.mark.parametrize("size", [999, 1000, 1001])
def test_max_bytes_is_the_most_that_may_come_out(tmp_path, size):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(size)))
    if size <= 1000:
        assert len(stream.read_file(path, 1000)) == size
    else:
        with pytest.raises(FileFormatError, match=r"the limit of 1000 bytes.*gunzip it first or pass"):
            stream.read_file(path, 1000)


def test_the_usual_limit_is_below_64_mib_and_ten_times_the_size(tmp_path):
    free = 60 * 2**20
    for name, size in (("a", 10), ("b", 1000)):
        (tmp_path / name).write_bytes(bytes(size))
    room = stream.Room(None, tmp_path / "a", tmp_path / "b", tmp_path / "none")
    assert (room.unpacked(), room.unpacked(2)) == (free + 10_100, free // 2 + 5050)
    room.take(free, "a")
    assert room.unpacked() == 10_100
    with pytest.raises(FileFormatError, match=r"a: would take \d+ bytes of memory, .*max_bytes \(--max-bytes\)"):
        room.take(10_101, "a")
    assert room.unpacked() == 0


def test_the_books_own_file_is_within_the_limit(tmp_path):
    path = tmp_path / "mnist.pkl.gz"
    with path.open("wb") as file:
        file.truncate(16_168_813)
    room = stream.Room(None, path)
    room.take(220_080_426, "unpacked")
    room.take(70_000 * memory_of(np.dtype(np.int64), labels=True), "its labels")


def test_max_bytes_is_for_what_is_unpacked_alone(tmp_path):
    room = stream.Room(1000, tmp_path / "a")
    room.take(10**9, "a")
    assert (room.unpacked(), room.unpacked(2)) == (1000, 1000)


def test_a_bomb_is_stopped_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_FREE_BYTES", 2**20)
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(64 * 2**20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="unpack to more than the limit"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()


def _flip(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


PACKED = gzip.compress(b"1,2\n" * 50 + os.urandom(64), mtime=0)


@pytest.mark.parametrize(
    "data",
    [
        PACKED[:20],
        PACKED[:-3],
        _flip(PACKED, -8),
        _flip(PACKED, -1),
        _flip(PACKED, 12),
        _flip(PACKED, 2),
        PACKED + b"rubbish",
    ],
    ids=["cut", "cut trailer", "crc", "length", "deflate", "method", "more behind"],
)
def test_damaged_gzip(tmp_path, data):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=r"a\.csv\.gz: not a whole gzip file.*fetch it again") as caught:
        load(path)
    assert caught.value.__cause__ is not None


def test_named_gz_but_no_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"1,2\n")
    with pytest.raises(FileFormatError, match=r"named \.gz, but it starts with 31 2c 32 0a"):
        load(path)


@pytest.mark.parametrize("name", ["a.csv", "a.npz", "a.pkl", "train-images-idx3-ubyte", "a", "no/a.csv", "\0.csv"])
def test_a_missing_file(tmp_path, name):
    with pytest.raises(FileFormatError, match=r"no such file|can't be read") as caught:
        load(tmp_path / name)
    assert isinstance(caught.value.__cause__, OSError | ValueError)


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(FileFormatError, match="can't be read"):
        load(tmp_path / ("a" * 5000 + ".npz"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(FileFormatError, match="not a regular file"):
        load(tmp_path / "a.csv")


def test_a_folder_named_as_a_table(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(FileFormatError, match="not a regular file"):
        load(tmp_path / "a.csv")


def test_an_unknown_kind_lists_the_known(write):
    path = write("a.xlsx", b"PK\3\4")
    with pytest.raises(FileFormatError, match=r"a\.xlsx: of no kind.*idx.*\.npz, \.csv.*\.pkl"):
        load(path)
    with pytest.raises(FileFormatError, match="of no kind"):
        load(write("empty", b""))


@pytest.mark.parametrize("max_bytes", [0, -1, 1.5, "9", True])
def test_max_bytes_must_be_a_whole_number(write, max_bytes):
    with pytest.raises(InputError, match="max_bytes must be a whole number"):
        load(write("a.csv", "1,2\n"), max_bytes=max_bytes)


def test_path_must_be_one():
    with pytest.raises(InputError, match="must be a str or a Path, got ndarray"):
        load(np.zeros((2, 2)))
