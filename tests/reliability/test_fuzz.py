"""Damaged files by the thousand: each is refused in plain words, or read as an independent reading has it.

This is the short run; `python tests/reliability/fuzz/run.py` is the long one. The second half shows that it would
notice.
"""

import os
import re
import signal
import sys
import time

import numpy as np
import pytest
from reliability.fuzz import runner
from reliability.fuzz.mutate import damaged
from reliability.fuzz.readers import TARGETS
from reliability.fuzz.target import Sample, Target, require

from gpunet.errors import FileFormatError

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each run is a process, forked"),
    # JAX, where another test has loaded it, warns of every fork; the readers in the children do not use it.
    pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning"),
]

#: Of each reader; the long run takes another seed.
INPUTS, SEED = 800, 0


def texts(tally):
    return [f"{failure.target} {failure.index}: {failure.what}" for failure in tally.failures]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_damaged_file_is_believed_or_breaks_a_reader(target):
    tally = runner.run(target, INPUTS, seed=SEED)
    assert not tally.failures, texts(tally)[:5]
    assert tally.inputs == INPUTS
    assert tally.accepted > INPUTS / 30  # what is damaged gets as far as the oracle
    assert len(tally.rejected) > 6


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_undamaged_files_are_accepted(target, tmp_path):
    for i, seed in enumerate(target.seeds):
        folder = tmp_path / str(i)
        folder.mkdir()
        for name, data in seed.files.items():
            (folder / name).write_bytes(data)
        target.check(seed, target.read(folder / seed.name, **seed.options))


# -- It would notice --------------------------------------------------------------------------------------------


def reader(read, check=lambda given, result: None):
    """A target whose files are some bytes."""
    good = Sample({"a.bin": bytes(range(64))})
    return Target("planted", (good,), lambda rng: Sample({"a.bin": damaged(rng, good.data)}), read, check)


def refuse(path, text="damaged", kind=FileFormatError):
    raise kind(f"{path}: {text}")


def loop():
    while True:
        pass


@pytest.mark.parametrize(
    ("read", "noticed"),
    [
        (lambda path: refuse(path, kind=IndexError), "raises IndexError"),
        (lambda path: refuse(path, kind=ValueError), "raises ValueError"),
        (lambda path: refuse("it"), "does not name the file"),
        (lambda path: refuse(path, "a\nb"), "is not one printable line"),
        (lambda path: refuse(path, "\x1b[31m"), "is not one printable line"),
        (lambda path: refuse(path, "x" * 1000), "characters long"),
        (lambda path: refuse(path, "KeyError: 5"), "shows 'KeyError'"),
        (lambda path: refuse(path, "<ast.Call object at 0x7f>"), "shows 'object at 0x'"),
        (lambda path: loop(), "takes more than"),
        (lambda path: time.sleep(60), "hangs"),
        (lambda path: os._exit(3), r"crashes the process \(3\)"),
        (lambda path: os.kill(os.getpid(), signal.SIGSEGV), r"crashes the process \(SIGSEGV\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_reader_may_not_do_is_noticed(monkeypatch, read, noticed):
    monkeypatch.setattr(runner, "SECONDS", 0.2)
    if noticed == "hangs":
        monkeypatch.setattr(runner, "STUCK", 1.0)
    tally = runner.run(reader(read), 2)
    assert tally.inputs == len(tally.failures) == 2
    for failure in tally.failures:
        assert re.search(noticed, failure.what), failure.what


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("swallow", [False, True])
def test_memory_that_is_asked_for_is_noticed(swallow):
    def read(path):
        try:
            return np.empty(100 << 20, np.uint8)  # never touched: only the limit knows of it
        except MemoryError as error:
            if swallow:
                raise FileFormatError(f"{path}: damaged") from error
            raise

    tally = runner.run(reader(read), 2)
    wanted = "asks for more memory" if swallow else "raises MemoryError"
    assert [failure.what.startswith(wanted) for failure in tally.failures] == [True, True], texts(tally)


@pytest.mark.skipif(sys.platform != "linux", reason="the measure is Linux's")
def test_memory_that_is_used_is_measured():
    tally = runner.run(reader(lambda path: np.ones(20 << 20, np.uint8)), 2)
    assert not tally.failures
    assert 20 << 20 <= tally.largest[0] < 24 << 20


def test_a_wrong_result_is_noticed():
    def check(given, result):
        require(result == given.data, "it gives other bytes")

    right = runner.run(reader(lambda path: path.read_bytes(), check), 20)
    assert (right.accepted, right.failures) == (20, [])
    wrong = runner.run(reader(lambda path: path.read_bytes()[:64], check), 200)
    assert {failure.what for failure in wrong.failures} == {"accepted: it gives other bytes"}


def test_a_warning_is_noticed():
    def read(path):
        np.array([1.0]) / np.array([0.0])

    assert "warns: divide by zero" in texts(runner.run(reader(read), 1))[0]


def test_the_others_are_read_where_one_crashes():
    def read(path):
        if len(path.read_bytes()) % 3 == 0:
            os._exit(1)

    tally = runner.run(reader(read), 60, chunk=25, jobs=2)
    assert tally.inputs == 60
    assert 0 < len(tally.failures) == 60 - tally.accepted
    for failure in tally.failures:
        assert len(runner.sample(reader(read), 1, failure.index).data) % 3 == 0


def test_an_input_depends_on_its_number_alone():
    target = TARGETS["npz"]
    assert runner.sample(target, 1, 7) == runner.sample(target, 1, 7)
    assert len({runner.sample(target, 1, i).data for i in range(50)}) > 45
