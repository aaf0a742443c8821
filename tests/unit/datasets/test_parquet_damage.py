"""Parquet that is damaged, contradicts itself or is larger than it looks; the fuzzer found each."""

import base64
import subprocess
import sys
from datetime import date

import numpy as np
import pytest
from extras import need

from gpunet.datasets import load, open_data, read_table
from gpunet.errors import FileFormatError

pyarrow = need("pyarrow")
parquet_format = need("pyarrow.parquet")


@pytest.fixture
def parquet(tmp_path):
    def save(columns):
        parquet_format.write_table(pyarrow.table(columns), tmp_path / "a.parquet", row_group_size=2**25)
        return tmp_path / "a.parquet"

    return save


@pytest.mark.parametrize(
    "column",
    [np.zeros(2 * 10**7), np.zeros(2 * 10**7, np.uint8), np.zeros(2 * 10**7, bool)],
    ids=["floats", "bytes", "truth"],
)
def test_parquet_that_would_take_much_more_memory_than_it_has_bytes(parquet, column):
    path = parquet({"a": column})
    with pytest.raises(FileFormatError, match=r"unpack to more than the limit of \d+ bytes.*--max-bytes"):
        read_table(path)
    with pytest.raises(FileFormatError, match=r"a row group: would take \d+ bytes of memory.*--max-bytes"):
        open_data(path)
    assert open_data(path, max_bytes=1).n == 2 * 10**7  # any number lifts it


def test_truth_and_dates_are_each_text_once(parquet):
    found = read_table(parquet({"a": [True, None, False, True], "day": [date(2020, 1, 2), None] * 2}))
    assert found["a"].tolist() == ["true", None, "false", "true"]
    assert found["day"].tolist() == ["2020-01-02", None] * 2
    assert found["a"][0] is found["a"][3]


def test_parquet_whose_pages_are_damaged(tmp_path):
    """Pyarrow compares their checksums only where it is asked to."""
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"a": np.arange(100.0)})
    parquet_format.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(50).tobytes()) + 5] ^= 1
    path.write_bytes(data)
    for read in (read_table, load):
        with pytest.raises(FileFormatError, match=r"not a whole Parquet file .*CRC"):
            read(path)
    with pytest.raises(FileFormatError, match=r"not a whole Parquet file .*CRC"):
        open_data(path).read_inputs(0, np.empty((100, 1), np.float32))


def _rows_said(path, old, new):
    """Change how many rows a file of one row group and one column says that it has, there and in its column."""
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    said, wrong = b"\x16" + bytes([2 * old]), b"\x16" + bytes([2 * new])  # Thrift: an i64, as a zigzag varint
    assert said in data[footer:]
    path.write_bytes(data[:footer] + data[footer:].replace(said, wrong))


def test_parquet_that_has_fewer_rows_than_it_says(tmp_path):
    """They would be whatever was in memory."""
    path = tmp_path / "a.parquet"
    parquet_format.write_table(pyarrow.table({"a": np.arange(41.0)}), path, compression="none", use_dictionary=False)
    _rows_said(path, 41, 61)
    with pytest.raises(FileFormatError, match="damaged"):
        read_table(path)
    with pytest.raises(FileFormatError, match="damaged"):
        open_data(path).read_inputs(0, np.empty((61, 1), np.float32))


#: A column's histogram of levels has two entries where the column has one level.
CONTRADICTION = base64.b64decode(
    b"UEFSMRUAFSwVLCwVBBUAFQYVBhwYCAAAAAAAAAAAGAgAAAAAAAAAgBYAKAgAAAAAAAAAABgIAAAAAAAAAIAREQAAACi1L/0gFm0A"
    b"ADgCAAAABAEAAQAdMAIVBBksNQAYBnNjaGVtYRUCABUKJQAYEV9faW5kZXhfbGV2ZWxfMF9fABYEGRwZHCYAHBUKGSUGABkYEV9f"
    b"aW5kZXhfbGV2ZWxfMF9fFQwWBBaqARaqASYIPBgIAAAAAAAAAAAYCAAAAAAAAACAFgAoCAAAAAAAAAAAGAgAAAAAAAAAgBERABkc"
    b"FQAVABUCADwpBhkmAAQAAAAWqgEWBCYIFqoBACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAADMAAAAUEFS"
    b"MQ=="
)


def test_parquet_whose_metadata_contradict_themselves_ends_no_process(tmp_path):
    """To ask pyarrow for this column's metadata would: it throws where nothing catches."""
    (tmp_path / "a.parquet").write_bytes(CONTRADICTION)
    program = (
        "import sys; from gpunet.datasets import *; from gpunet.errors import *\n"
        "for read in load, read_table, open_data:\n"
        "    try: read(sys.argv[1])\n"
        "    except (FileFormatError, InputError) as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "a.parquet"], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout.count("a.parquet: ")) == (0, "", 3)
