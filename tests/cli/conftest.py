"""Ways to run the command, and small data sets for it."""

import io
import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from gpunet.cli import commands

#: The command as a child process. A test run in the background hands SIGINT down as ignored; undo that.
COMMAND = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); sys.argv[0] = 'gpunet'; "
    "from gpunet.cli.commands import main; main()",
]


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def told(self):
        """Standard error as one line, without the frames that typer draws."""
        return re.sub(r"[\s│╭╮╰╯─]+", " ", self.err)

    @property
    def events(self):
        """The JSON objects on standard output, which holds nothing else."""
        return [json.loads(line) for line in self.out.splitlines()]

    def one_error(self, fragment):
        """Check that it failed with one line on standard error."""
        assert self.code == 1
        assert len(self.err.splitlines()) == 1, self.err
        assert re.search(fragment, self.err), self.err
        assert self.err.startswith("error: ")

    def wrong_use(self, fragment):
        """Check that it was refused as wrong use."""
        assert self.code == 2, self.err
        assert re.search(fragment, self.told), self.told
        assert "Traceback" not in self.err


@pytest.fixture
def gpunet(tmp_path, tmp_path_factory, monkeypatch, capsys):
    """Run the command line within this process, in an empty folder: quick, and open to monkeypatch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("temporary")))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpunet", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            commands.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run


@pytest.fixture
def environment():
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def shell(tmp_path, environment):
    """Run the command line as a child process."""

    def run(*arguments, command=None, **options):
        done = subprocess.run(
            [*(command or COMMAND), *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start(tmp_path, environment):
    """Start the command line as a child process and hand it out; what still runs is killed at the end."""
    started = []

    def run(*arguments, **options):
        # Unbuffered: `communicate` does not know what a `readline` before it has read ahead, and would lose it.
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "bufsize": 0, **options}
        child = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=tmp_path, **options)
        started.append(child)
        return child

    yield run
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


NAMES = ("ant", "bee", "cat")


@pytest.fixture(scope="session")
def blobs():
    """Three classes in four dimensions: X (150, 4) float32, y (150,)."""
    rng = np.random.default_rng(5)
    y = np.arange(150) % 3
    return (rng.normal(size=(150, 4)) * 0.3 + np.eye(4)[y]).astype(np.float32), y


@pytest.fixture(scope="session")
def folder(tmp_path_factory, blobs):
    """Data files, none of which a test may change."""
    folder = tmp_path_factory.mktemp("data")
    X, y = blobs
    np.savez(folder / "data.npz", X=X[:100], y=y[:100], X_test=X[100:], y_test=y[100:])
    np.savez(folder / "train.npz", X=X[:100], y=y[:100])
    np.savez(folder / "test.npz", X=X[100:], y=y[100:])
    np.savez(folder / "unlabelled.npz", X=X[100:])
    np.savez(folder / "narrow.npz", X=X[:, :3], y=y)
    write_csv(folder / "train.csv", X[:100], [NAMES[i] for i in y[:100]], "label")
    write_csv(folder / "test.csv", X[100:], [NAMES[i] for i in y[100:]], "label")
    write_csv(folder / "species.csv", X, [NAMES[i] for i in y], "species")
    write_csv(folder / "unlabelled.csv", X[100:])
    pixels = (X * 60 + 100).clip(0, 255).astype(np.uint8).reshape(-1, 2, 2)
    (folder / "idx").mkdir()
    for part, rows in (("train", slice(100)), ("t10k", slice(100, None))):
        (folder / "idx" / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels[rows]))
        (folder / "idx" / f"{part}-labels-idx1-ubyte").write_bytes(idx(y[rows].astype(np.uint8)))
    return folder


def idx(values):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_csv(path, X, labels=None, name=None, order=None):
    """Write rows of numbers, with a column of labels in the middle if there are any."""
    text = io.StringIO()
    header = [f"x{i}" for i in range(X.shape[1])]
    if labels is not None:
        header.insert(2, name)
    print(*header, sep=",", file=text)
    for i in range(len(X)) if order is None else order:
        cells = list(map(repr, X[i].tolist()))
        if labels is not None:
            cells.insert(2, str(labels[i]))
        print(*cells, sep=",", file=text)
    path.write_text(text.getvalue())
    return path


@pytest.fixture(scope="session", name="write_csv")
def _write_csv():
    return write_csv


@pytest.fixture(scope="session", name="write_idx")
def _write_idx():
    return idx


@pytest.fixture
def model(gpunet, folder, tmp_path):
    """A model of the npz data, trained for 20 epochs."""
    path = tmp_path / "model.safetensors"
    assert train(gpunet, folder / "data.npz", "-o", path, "--epochs", 20).code == 0
    return path


@pytest.fixture
def named_model(gpunet, folder, tmp_path):
    """A model of the CSV data with the classes ant, bee and cat."""
    path = tmp_path / "named.safetensors"
    assert train(gpunet, folder / "train.csv", "-o", path, "--epochs", 20).code == 0
    return path


def train(run, *arguments):
    return run("train", *arguments, "--seed", 1, "--device", "cpu")
