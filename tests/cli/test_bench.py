"""`gpunet bench`: tiny runs, which show that it works and what it prints, and nothing of time."""

import importlib.util
import json

import pytest

from gpunet.benchmarks import cli as bench_cli
from gpunet.benchmarks import settings, step
from gpunet.benchmarks.contenders import CONTENDERS


@pytest.fixture(autouse=True)
def _few_contenders(monkeypatch):
    """Those that are always installed; importing the others takes seconds."""
    few = {name: CONTENDERS[name] for name in ("gpunet-numpy", "book")}
    monkeypatch.setattr(settings, "CONTENDERS", few)
    monkeypatch.setattr(bench_cli.settings, "peaks", lambda counts: [])


def test_step(gpunet, tmp_path):
    arguments = ("--shape", "6,4,3@5x4", "--data", "random", "--rounds", 2, "--threads", "1,auto")
    result = gpunet("bench", "step", *arguments, "--dtype", "float64", "--output", tmp_path / "figures")
    assert result.code == 0, result.err
    assert "[6, 4, 3], batch 5, float64, random data, epochs of 4 steps" in result.out
    assert "gpunet, NumPy" in result.out
    assert "the book's loop, float64" in result.out
    assert "numpy " in result.out.splitlines()[-1]
    found = json.loads((tmp_path / "figures" / "step.json").read_text())
    rows = found["problems"][0]["rows"]
    assert all(len(row["rounds us"]) == 2 and row["same"] for row in rows)
    assert {row["threads"] for row in rows} == {1, None}
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "figures" / "step.png").stat().st_size > 5000


def test_without_a_question(gpunet, monkeypatch):
    monkeypatch.setattr(bench_cli, "_QUICK", (step.Problem((784, 4, 10), 5, 3),))
    result = gpunet("bench")
    assert result.code == 0, result.err
    assert "[784, 4, 10], batch 5, float32, mnist data" in result.out


def test_something_else_computed_is_an_error(gpunet, monkeypatch):
    monkeypatch.setitem(step.TOLERANCE, "float32", -1.0)
    result = gpunet("bench", "step", "--shape", "6,4,3@5x4", "--data", "random", "--rounds", 1, "--threads", 1)
    assert result.code == 1
    assert "not all compute the same" in result.err
    assert "COMPUTES SOMETHING ELSE" in result.out


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("step", "--shape", "784-30-10"), "--shape must be sizes@batch"),
        (("step", "--shape", "20,30,10@10", "--data", "mnist"), "MNIST is 60,000 images of 784 pixels"),
        (("step", "--threads", "many"), "--threads takes numbers, all and auto"),
        (("step", "--only", "keras"), "--only"),
        (("step", "--dtype", "float16"), "dtype"),
        (("step", "--rounds", 0), "--rounds"),
        (("speed",), "No such command"),
    ],
)
def test_wrong_use(gpunet, arguments, fragment):
    gpunet("bench", *arguments).wrong_use(fragment)
