"""Ctrl-C, terminals and closed pipes: what only a real process shows."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys

import numpy as np
import pytest

from gpunet import Network, datasets
from gpunet.training import loop

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals of POSIX")


def parameters(path):
    net = Network.load(path, device="cpu")
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Data of which an epoch takes a while, and its validation next to nothing."""
    path = tmp_path_factory.mktemp("large") / "large.npz"
    rng = np.random.default_rng(0)
    y = np.arange(20_000) % 3
    X = (rng.normal(size=(20_000, 8)) + 2 * np.eye(8)[y]).astype(np.float32)
    np.savez(path, X=X, y=y, X_test=X[:30], y_test=y[:30])
    return path


def test_sigint_keeps_the_last_epoch_that_was_reported(start, large, tmp_path, gpunet):
    options = ("train", large, "--json", "--seed", 1, "--device", "cpu")
    child = start(*options, "-o", "m.safetensors", "--epochs", 10**6)
    lines = []
    while not (lines and lines[-1]["event"] == "epoch" and lines[-1]["epoch"] >= 1):
        lines.append(json.loads(child.stdout.readline()))
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    lines += [json.loads(line) for line in out.splitlines()]
    last = lines[-1]["epoch"]  # an epoch, not the end
    assert err.decode() == f"interrupted; the model of epoch {last} is in m.safetensors\n"
    assert gpunet(*options, "-o", "whole.safetensors", "--epochs", last + 1).code == 0
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "whole.safetensors"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "whole.safetensors"]


def test_sigint_before_the_first_epochs_end(start, large, tmp_path):
    child = start("train", large, "--json", "--seed", 1, "--device", "cpu", "-o", "m.safetensors", "--batch-size", 1)
    assert json.loads(child.stdout.readline())["event"] == "start"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_sigterm_keeps_the_last_epoch_too(start, large, tmp_path, gpunet):
    options = ("train", large, "--json", "--seed", 1, "--device", "cpu")
    child = start(*options, "-o", "m.safetensors", "--epochs", 10**6)
    lines = []
    while not (lines and lines[-1]["event"] == "epoch"):
        lines.append(json.loads(child.stdout.readline()))
    child.send_signal(signal.SIGTERM)
    child.send_signal(signal.SIGTERM)  # as a group's, and again: the saving goes on
    out, err = child.communicate(timeout=60)
    assert child.returncode == 143
    last = [*lines, *map(json.loads, out.splitlines())][-1]["epoch"]
    assert err.decode() == f"interrupted; the model of epoch {last} is in m.safetensors\n"
    assert gpunet(*options, "-o", "whole.safetensors", "--epochs", last + 1).code == 0
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "whole.safetensors"))


#: The command, whose saving takes until it is interrupted again.
SLOW_SAVING = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from gpunet import Network
from gpunet.cli import commands
save = Network.save
def slow(network, path):
    if network.history is not None:
        print("saving", flush=True)
        time.sleep(60)
    save(network, path)
Network.save = slow
sys.argv[0] = "gpunet"
commands.main()
"""


def test_a_second_ctrl_c_ends_the_saving(large, tmp_path, environment):
    arguments = ["train", str(large), "--json", "--device", "cpu", "-o", "m.safetensors", "--epochs", str(10**6)]
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_SAVING, *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    try:
        while json.loads(child.stdout.readline())["event"] != "epoch":
            pass
        child.send_signal(signal.SIGINT)
        line = child.stdout.readline()
        while line and line != b"saving\n":
            line = child.stdout.readline()
        assert line == b"saving\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 130
    assert b"interrupted again; the training is not saved" in err
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["start", "progress"])
def test_an_interrupt_before_the_first_epochs_end_is_told(gpunet, folder, tmp_path, monkeypatch, moment):
    from gpunet.cli import reports
    from gpunet.training import sgd

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sgd, "_PROGRESS_SECONDS", -1.0)
    monkeypatch.setattr(reports.JsonReport, moment, interrupt)
    result = gpunet("train", folder / "data.npz", "--json", "--device", "cpu", "-o", "m.safetensors")
    assert result.code == 130
    assert result.err == "interrupted; before the first epoch was done\n"
    assert list(tmp_path.iterdir()) == []


def test_sigint_does_not_replace_an_older_model_by_nothing(start, large, tmp_path):
    old = Network([2, 2], seed=0, device="cpu")
    old.save(tmp_path / "m.safetensors")
    before = (tmp_path / "m.safetensors").read_bytes()
    child = start("train", large, "--json", "--device", "cpu", "-o", "m.safetensors", "--batch-size", 1)
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130
    assert (tmp_path / "m.safetensors").read_bytes() == before


def test_an_interrupt_within_the_validation_saves_the_epoch_that_it_names(gpunet, folder, tmp_path, monkeypatch):
    options = ("train", folder / "data.npz", "--json", "--seed", 1, "--device", "cpu")
    original, calls = loop.Validation.measure, []

    def measure(validation, model):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(validation, model)

    monkeypatch.setattr(loop.Validation, "measure", measure)
    result = gpunet(*options, "-o", "m.safetensors")
    assert result.code == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    named = int(re.search(r"the model of epoch (\d+) is in m.safetensors", result.err)[1])
    assert gpunet(*options, "-o", "a.safetensors", "--epochs", named + 1).code == 0
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_an_interrupt_while_data_are_read(gpunet, folder, model, monkeypatch, command):
    def load(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load", load)
    result = gpunet(command, *([] if command == "train" else [model]), folder / "data.npz")
    assert result.code == 130
    assert "Traceback" not in result.err
    assert result.out == ""


def read_terminal(terminal, child):
    """Return all that the child writes to the terminal."""
    content = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, "nothing came for a minute"
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux says EIO where the other end is closed
            break
        if not piece:
            break
        content += piece
    child.wait(60)
    return content.decode()


def test_a_terminal_shows_a_live_bar(start, large, environment, tmp_path):
    terminal, other = pty.openpty()
    environment = {**environment, "TERM": "xterm-256color", "LINES": "40"}
    del environment["NO_COLOR"]
    child = start(
        "train", large, "--epochs", 4, "--seed", 1, "--device", "cpu", stdout=other, stderr=other, env=environment
    )
    os.close(other)
    text = read_terminal(terminal, child)
    os.close(terminal)
    assert child.returncode == 0
    assert "━" in text
    assert "\x1b[" in text
    assert "epoch 1/4" in text
    assert "examples/s" in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    for number in range(4):
        assert re.search(rf"Epoch {number}: \d+ / 30\b", plain)
    assert "saved gpunet-model.safetensors" in plain
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_ctrl_c_on_a_terminal_gives_the_cursor_back(start, large, environment, tmp_path):
    terminal, other = pty.openpty()
    environment = {**environment, "TERM": "xterm-256color"}
    child = start("train", large, "--epochs", 10**6, "--device", "cpu", stdout=other, stderr=other, env=environment)
    os.close(other)
    content = b""
    while b"Epoch 1:" not in content:
        content += os.read(terminal, 65536)
    child.send_signal(signal.SIGINT)
    text = content.decode() + read_terminal(terminal, child)
    os.close(terminal)
    assert child.returncode == 130
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert "is in gpunet-model.safetensors" in text
    assert "Traceback" not in text
    assert parameters(tmp_path / "gpunet-model.safetensors").any()


def test_json_on_a_terminal_is_json_alone(start, folder, environment):
    terminal, other = pty.openpty()
    child = start(
        "train",
        folder / "data.npz",
        "--epochs",
        2,
        "--json",
        "--device",
        "cpu",
        stdout=other,
        env={**environment, "TERM": "xterm-256color"},
    )
    os.close(other)
    text = read_terminal(terminal, child)
    os.close(terminal)
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["start", "epoch", "epoch", "end"]


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_closed_pipe_gives_no_traceback(start, folder, large, model, command):
    """As in `gpunet predict ... | head -1`."""
    arguments = (
        [large, "--epochs", 10**6, "--json"] if command == "train" else [model, folder / "train.npz", "--json"]
    )
    child = start(command, *arguments, "--device", "cpu")
    child.stdout.readline()
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(timeout=60)
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err
    if command == "train":
        assert child.returncode == 1
