"""`gpunet parity`: what it prints, draws and exits with."""

import functools
import re
import sys

import pytest

from gpunet import parity
from gpunet.backends.compiled import KNOWN_ACTIVATIONS, why_not_compiled
from gpunet.backends.numpy import NumPyBackend
from gpunet.cli import commands
from gpunet.parity import cases, trainings

VERBS = tuple(cases.SMALL)
#: Once by the verbs, and once more by the compiled engine, where there is one that knows the network.
KNOWN = [task for task in trainings.tasks(1) if {*task.activations} <= {*KNOWN_ACTIVATIONS}]
TRAININGS = len(trainings.tasks(1)) + (0 if why_not_compiled() else len(KNOWN))


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """The small inputs and short trainings: what is compared is tested in tests/backends."""
    monkeypatch.setattr(commands, "compare", functools.partial(parity.compare, large=False, steps=3))


class Broken(NumPyBackend):
    """BP3 forgets the factor."""

    def sum_batch(self, delta, out, alpha=1.0, beta=0.0):
        return super().sum_batch(delta, out, beta=beta)


@pytest.fixture
def broken(monkeypatch):
    ops = Broken()
    ops.name = "the broken one"
    monkeypatch.setattr(commands, "_by_name", lambda name: ops if name == "cuda" else name)


def test_two_that_agree(gpunet):
    result = gpunet("parity", "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    for verb in VERBS:
        assert len([line for line in lines if line.split()[:1] == [verb]]) == 2, verb  # float32 and float64
    assert len([line for line in lines if line.split()[:1] == ["training"]]) == 2 * TRAININGS
    assert lines[-1].startswith("numpy on cpu and numpy on cpu agree: ")
    assert "DISAGREE" not in result.out
    assert "OFF" not in result.out


def test_one_dtype_with_details(gpunet):
    brief = gpunet("parity", "--device", "cpu", "--dtype", "float64")
    full = gpunet("parity", "--device", "cpu", "--dtype", "float64", "--details")
    assert "float32" not in brief.out
    assert full.out.count("outer_batch") == len(cases.OUTER_BATCH)
    assert "log-likelihood, softmax, 33x127" in full.out


@pytest.mark.usefixtures("broken")
def test_two_that_disagree(gpunet):
    result = gpunet("parity", "--dtype", "float32")
    assert (result.code, result.err) == (1, "")
    lines = result.out.splitlines()
    assert "the broken one and numpy on cpu DISAGREE: " in lines[-1]
    assert any(line.startswith("the broken one: sum_batch (") for line in lines)
    assert any(
        line.startswith("the broken one: training 784-30-10 sigmoid, float32: first outside") for line in lines
    )
    assert next(line for line in lines if "OFF: " in line).split()[0] == "sum_batch"


def test_json(gpunet):
    result = gpunet("parity", "--device", "cpu", "--json", "--dtype", "float32")
    *events, verdict = result.events
    assert {event["event"] for event in events} == {"verb", "training"}
    assert {event["verb"] for event in events if event["event"] == "verb"} == set(VERBS)
    assert all(event["passed"] for event in events)
    assert (verdict["event"], verdict["passed"], verdict["device"]) == ("verdict", True, "numpy on cpu")
    assert [len(event["error"]) for event in events if event["event"] == "training"] == [3] * TRAININGS


@pytest.mark.usefixtures("broken")
def test_json_of_two_that_disagree(gpunet):
    result = gpunet("parity", "--json", "--dtype", "float32")
    assert result.code == 1
    off = {event.get("verb") for event in result.events if event.get("off") == "device"}
    assert off == {"sum_batch", "layer_gradient", None}
    assert result.events[-1]["passed"] is False


@pytest.mark.parametrize("name", ["torch", "array_api_strict"])
def test_a_library_by_its_name(gpunet, name):
    pytest.importorskip(name)
    result = gpunet("parity", "--device", name, "--dtype", "float32")
    assert result.code == 0, result.out
    assert f"{name} on " in result.out.splitlines()[-1]


def test_no_gpu(gpunet, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    gpunet("parity").one_error("device='cuda' can not be used: CuPy is not installed")


def test_no_such_library(gpunet, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    gpunet("parity", "--device", "torch").one_error("device 'torch' can not be used: ")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("--device", "gpu"), "unknown device 'gpu'"),
        (("--device", "os"), "unknown device 'os'"),
        (("--device", "auto"), "would hide which device"),
        (("--device", "cpu", "--dtype", "float16"), "float16"),
        (("--device", "cpu", "--plot", "picture.txt"), "no picture format ends in '.txt'"),
        (("--device", "cpu", "--plot", "none/picture.png"), "there is no folder none"),
    ],
)
def test_wrong_use(gpunet, arguments, fragment):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    result = gpunet("parity", *arguments)
    result.wrong_use(fragment)
    assert result.out == ""


def test_plot(gpunet, tmp_path):
    pytest.importorskip("matplotlib")
    result = gpunet("parity", "--device", "cpu", "--plot", "picture.svg")
    assert result.code == 0, result.err
    picture = (tmp_path / "picture.svg").read_text()
    for label in ("784-30-10 sigmoid, float32", "20-16-3 relu, float64", "tolerance"):
        assert f"<!-- {label} -->" in picture
    width, height = (float(re.search(rf'<svg[^>]* {side}="([0-9.]+)pt"', picture)[1]) for side in ("width", "height"))
    assert 0.5 < width / height < 2  # fits a screen


def test_plot_without_matplotlib(gpunet, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = gpunet("parity", "--device", "cpu", "--plot", "picture.png")
    assert result.code == 1
    result.one_error(r"--plot needs matplotlib, which is not installed: pip install 'gpunet\[plot\]'")
