"""What a history holds, and its ways to plain values and files and back."""

import csv
import json
import math

import pytest

import gpunet
from gpunet.errors import InputError
from gpunet.training.history import Epoch, History, LayerFacts

LAYERS = (
    LayerFacts(0.1 + 0.2, 1e-300, 1 / 3, saturated=0.25),
    LayerFacts(2.0**-1074, 1.7976931348623157e308, 5.0, dead=0.5),
)
#: Numbers that only their shortest exact form brings back.
EPOCHS = [
    Epoch(0, 0.1 + 0.2, 1 / 3, 12345.678901234567, 2 / 7, 0.1, eta=0.3, layers=LAYERS),
    Epoch(1, 5e-324, 1e-3, 1e22, None, None, eta=0.3 * 0.9, layers=LAYERS[::-1]),
    Epoch(2, 1.0, 2.0, 3.0),
]


def history(epochs=None, **options):
    return History(
        "cpu", "numpy on cpu", "compiled", "adam", 0.3, 10, list(EPOCHS if epochs is None else epochs), **options
    )


def test_round_trip_through_json():
    there = history(task="regression", stopped="no better for 3 epochs", best_epoch=1)
    values = there.to_dict()
    text = json.dumps(values)
    assert json.loads(text) == values
    back = History.from_dict(json.loads(text))
    assert back == there
    assert json.dumps(back.to_dict()) == text
    assert type(back.epochs[0].layers) is tuple
    assert History.from_dict(values) == there


def test_round_trip_of_what_is_not_finite():
    there = history([Epoch(0, 1.0, 1.0, 1.0, math.inf, -math.inf), Epoch(1, 1.0, 1.0, 1.0, math.nan)])
    back = History.from_dict(json.loads(json.dumps(there.to_dict())))
    assert repr(back) == repr(there)


def test_whole_numbers_become_floats():
    values = history([]).to_dict() | {"eta": 3}
    assert type(History.from_dict(values).eta) is float


def test_older_values_lack_what_came_later():
    values = history().to_dict()
    del values["task"], values["stopped"], values["best_epoch"]
    for epoch in values["epochs"]:
        del epoch["layers"], epoch["eta"]
    assert History.from_dict(values).epochs[0] == Epoch(0, 0.1 + 0.2, 1 / 3, 12345.678901234567, 2 / 7, 0.1)


def changed(path, value):
    values = json.loads(json.dumps(history().to_dict()))
    at = values
    for name in path[:-1]:
        at = at[name]
    if value is KeyError:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["device"], 3, "the history: device must be text, got 3"),
        (["task"], 3, "the history: task must be text"),
        (["batch_size"], 2.5, "batch_size must be a whole number, got 2.5"),
        (["batch_size"], True, "batch_size must be a whole number, got True"),
        (["eta"], "fast", "eta must be a number, got 'fast'"),
        (["best_epoch"], 1.5, "best_epoch must be a whole number"),
        (["eta"], 10**400, "eta is too large"),
        (["eta"], KeyError, "the history lacks 'eta'"),
        (["mood"], 1, "the history has an entry 'mood' that is not known"),
        (["epochs"], {}, "epochs must be a list"),
        (["epochs", 1], [], r"epochs\[1\] must be a dict"),
        (["epochs", 1, "cost"], "low", r"epochs\[1\]: cost must be a number, got 'low'"),
        (["epochs", 1, "cost"], KeyError, r"epochs\[1\] lacks 'cost'"),
        (["epochs", 0, "layers"], "ab", r"epochs\[0\]: layers must be a list"),
        (["epochs", 0, "layers", 1, "weight_norm"], None, r"layers\[1\]: weight_norm must be a number"),
        (["epochs", 0, "layers", 1, "luck"], 1.0, r"layers\[1\] has an entry 'luck'"),
    ],
)
def test_damaged_values_are_named(path, value, message):
    with pytest.raises(InputError, match=message):
        History.from_dict(changed(path, value))


def test_not_even_a_dict():
    with pytest.raises(InputError, match=r"the history must be a dict as History.to_dict makes it, got \[1\]"):
        History.from_dict([1])


def test_lists_by_epoch():
    there = history()
    assert there.cost == [0.1 + 0.2, 5e-324, 1.0]
    assert there.validation_cost == [2 / 7, None, None]
    assert there.validation_score == [0.1, None, None]
    assert there.etas == [0.3, 0.3 * 0.9, None]


def epoch(number, cost, validation_cost=None, score=None):
    return Epoch(number, cost, 1.0, 1.0, validation_cost, score)


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([epoch(0, 3.0), epoch(1, 1.0), epoch(2, 1.0)], 1),
        ([epoch(0, math.nan), epoch(1, 1.0)], 1),
        ([epoch(0, 1.0, 2.0, 0.7), epoch(1, 2.0, 3.0, 0.9), epoch(2, 0.5, 2.5, 0.9), epoch(3, 0.1, 2.5, 0.9)], 2),
        ([epoch(0, 1.0, 2.0, math.nan), epoch(1, 2.0, 3.0, -5.0)], 1),
        ([epoch(0, 1.0, math.nan, 0.5), epoch(1, 2.0, 3.0, 0.5)], 1),
    ],
)
def test_best(epochs, best):
    assert history(epochs).best.epoch == best


def test_no_best_without_epochs():
    with pytest.raises(InputError, match="no epochs yet"):
        history([]).best  # noqa: B018


def test_csv_gives_every_number_back(tmp_path):
    history().to_csv(tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("epoch", "cost", "seconds", "examples_per_second", "validation_cost", "validation_score", "eta"),
        *("delta_norm_1", "delta_norm_2", "gradient_norm_1", "gradient_norm_2", "weight_norm_1", "weight_norm_2"),
        *("saturated_1", "dead_2", "saturated_2", "dead_1"),
    ]
    for row, wanted in zip(rows, EPOCHS, strict=True):
        numbers = {name: float(text) for name, text in row.items() if text}
        assert numbers == {name: value for name, value in wanted.row().items() if value is not None}
    assert rows[0]["epoch"] == "0"
    assert rows[0]["cost"] == "0.30000000000000004"
    assert rows[1]["validation_cost"] == ""
    assert b"\r" not in (tmp_path / "run.csv").read_bytes()


def test_csv_of_no_epochs_has_the_names(tmp_path):
    history([]).to_csv(tmp_path / "run.csv")
    assert (tmp_path / "run.csv").read_text() == (
        "epoch,cost,seconds,examples_per_second,validation_cost,validation_score,eta\n"
    )


def test_json_lines(tmp_path):
    strange = Epoch(3, math.inf, math.nan, 1.0, -math.inf)
    history([*EPOCHS, strange]).to_jsonl(tmp_path / "run.jsonl")

    def refuse(name):
        raise AssertionError(name)

    rows = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert rows[:3] == [e.row() for e in EPOCHS]
    assert rows[3] == strange.row() | {"cost": None, "seconds": None, "validation_cost": None}


@pytest.mark.parametrize("write", [History.to_csv, History.to_jsonl])
def test_files_are_replaced_whole_or_not_at_all(tmp_path, write, monkeypatch):
    path = tmp_path / "run"
    path.write_text("before")
    with monkeypatch.context() as patch:

        def fail(descriptor):
            raise OSError(28, "No space left on device")

        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            write(history(), path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    write(history(), str(path))
    assert path.read_text() != "before"


def test_a_trained_history_comes_back(blobs, tmp_path):
    net = gpunet.Network([4, 5, 3], device="cpu", seed=0)
    there = net.fit(*blobs, epochs=3, validation_data=blobs)
    assert History.from_dict(json.loads(json.dumps(there.to_dict()))) == there
