"""MNIST is held once, as uint8: what a training needs at its peak, in a process of its own."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from gpunet import datasets

#: The peak may be above that of the same process without the data by so many times the data's own size.
MOST = 1.3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from Linux's /proc")

#: Linux keeps the peak of a process's memory as VmHWM; getrusage's would begin with that of the parent.
PEAK = """
import re
from pathlib import Path
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""

FIT = (
    PEAK
    + """
import json
import numpy as np
from gpunet import Network, datasets
net = Network([784, 30, 10], device="cpu", seed=0, input_scale=1 / 256)
few = np.zeros((20, 784), np.uint8), np.arange(20) % 10
net.fit(*few, epochs=1, validation_data=few)
before = peak()
data = datasets.mnist()
net.fit(data.X, data.y, epochs=1, batch_size=100, validation_data=(data.X_test, data.y_test))
net.score(data.X, data.y)
print(json.dumps(peak() - before))
"""
)

TRAIN = (
    PEAK
    + """
import sys
from gpunet.cli import commands
try:
    commands.main()
finally:
    print(peak(), file=sys.stderr)
"""
)


def run(program, *arguments, cwd=None):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=cwd)


@pytest.fixture(scope="module")
def size():
    """The bytes of the data themselves."""
    data = datasets.mnist()
    assert data.X.dtype == data.X_test.dtype == np.uint8
    return sum(array.nbytes for array in (data.X, data.y, data.X_test, data.y_test))


def test_fit_holds_the_data_once(size):
    used = json.loads(run(FIT).stdout)
    assert 0.9 * size < used < MOST * size


def test_the_command_holds_the_data_once(size, tmp_path):
    few = tmp_path / "few.npz"
    np.savez(few, X=np.zeros((20, 784), np.uint8), y=np.arange(20) % 10)
    options = ("--epochs", 1, "--batch-size", 100, "--seed", 1, "--device", "cpu", "-o", "model.safetensors")

    def peak(*data):
        return int(run(TRAIN, "train", *data, *options, cwd=tmp_path).stderr.splitlines()[-1])

    used = peak() - peak(few)
    assert 0.9 * size < used < MOST * size


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_an_idx_file_is_read_without_a_copy(tmp_path, packed):
    pixels = np.random.default_rng(0).integers(0, 4, (20_000, 28, 28), dtype=np.uint8)
    content = bytes([0, 0, 8, 3]) + np.array(pixels.shape, ">u4").tobytes() + pixels.tobytes()
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    program = PEAK + (
        "import sys; from pathlib import Path; from gpunet.datasets import idx; import gzip; before = peak()\n"
        "x = idx.read(Path(sys.argv[1])); assert x.flags.writeable; print(peak() - before, x.sum())"
    )
    used, total = map(int, run(program, path).stdout.split())
    assert total == pixels.sum(dtype=np.int64)
    assert used < MOST * pixels.nbytes


FROM_FILES = (
    PEAK
    + """
import json, sys
import numpy as np
from gpunet import Network, datasets
path, options = json.loads(sys.argv[1])
net = Network([784, 30, 10], device="cpu", seed=0)
few = np.zeros((20, 784), np.float32), np.arange(20) % 10
net.fit(*few, epochs=1, batch_size=10, validation_data=few)
if "target" in options:
    import pyarrow.parquet
before = peak()
source = datasets.open_data(path, **options)
net.fit(source, epochs=1, batch_size=100, validation_data=source)
net.score(source)
print(json.dumps([peak() - before, source.n]))
"""
)


def used_from_files(path, n, **options):
    """The peak of a training on float32 rows of 784, with validation, and of a score."""
    used, found = json.loads(run(FROM_FILES, json.dumps([str(path), options])).stdout)
    assert found == n
    return used


def sparse_npy(path, shape, dtype):
    """Zeros that take no room on the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)


def test_a_file_of_600_megabytes_is_never_in_memory(tmp_path):
    n = 200_000
    sparse_npy(tmp_path / "X.npy", (n, 784), "<f4")
    sparse_npy(tmp_path / "y.npy", (n,), "<i8")
    used = used_from_files(tmp_path, n)
    buffers = 2 * 2**27
    assert 0.9 * buffers < used < buffers + (64 << 20) < 0.6 * n * 784 * 4


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_shards_are_in_memory_a_few_at_a_time(tmp_path, kind):
    shards, rows = 60, 2000
    X, y = np.zeros((rows, 784), np.float32), np.zeros(rows, np.int64)
    options = {"buffer_rows": 2 * rows}
    if kind == "npz":
        np.savez(tmp_path / "0.npz", X=X, y=y)
        for i in range(1, shards):
            (tmp_path / f"{i}.npz").hardlink_to(tmp_path / "0.npz")
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        pixels = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 784)
        with parquet.ParquetWriter(tmp_path / "a.parquet", pa.schema({"x": pixels.type, "y": pa.int64()})) as file:
            for _ in range(shards):
                file.write_table(pa.table({"x": pixels, "y": y}), row_group_size=rows)
        options["target"] = "y"
    used = used_from_files(tmp_path, shards * rows, **options)
    decoding = 100 << 20
    assert used < 6 * X.nbytes + decoding < 0.5 * shards * X.nbytes  # four for the training, two for its validation
