"""docs/watching-a-training.md: what it tells to run does run, and gives what it says."""

import re
from pathlib import Path

import extras
import pytest

from gpunet import logs, plots
from gpunet.training.history import LayerFacts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "watching-a-training.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
WRITTEN = [
    {"curves.png", "page.png"},
    {"run.csv", "run.jsonl"},
    set(),
    {"confusion.svg", "weights.png"},
    {"epochs.csv", "runs"},
]


@pytest.mark.parametrize(("block", "written"), list(zip(BLOCKS, WRITTEN, strict=True)))
def test_the_page_runs(block, written, tmp_path, monkeypatch, capsys):
    extras.need("matplotlib")
    extras.need("tensorboard")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, PAGE.name, "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == written
    shares = [int(share) for share in re.findall(r"(\d+)% of the hidden layer", capsys.readouterr().out)]
    assert shares == sorted(shares, reverse=True)  # smaller initial weights, fewer saturated neurons


def test_the_page_names_everything_there_is():
    for name in (*plots.__all__, *logs.__all__, *LayerFacts.__dataclass_fields__):
        if name not in ("check_path", "training_curves"):  # of the command line, and history.plot
            assert name in TEXT, name


def test_its_picture_is_there():
    (picture,) = re.findall(r"!\[.*?\]\((.*?)\)", TEXT)
    assert (PAGE.parent / picture).stat().st_size < 150_000
