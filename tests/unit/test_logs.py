"""The writers that follow a training."""

import json
import math
import shutil
import subprocess
import sys

import extras
import pytest

import gpunet
from gpunet import logs
from gpunet.errors import FileFormatError, GpunetError
from gpunet.training.history import Epoch, History, LayerFacts

LAYERS = (LayerFacts(0.1, 0.2, 0.3, saturated=0.25), LayerFacts(0.4, 0.5, 0.6, dead=0.5))


def epoch(number, cost=None, layers=LAYERS):
    return Epoch(number, 1 / (number + 3) if cost is None else cost, 0.5, 2000.0, 0.25, 0.75, eta=0.3, layers=layers)


def history(*epochs):
    return History("cpu", "numpy on cpu", "compiled", "sgd", 0.3, 10, list(epochs))


FILES = [(logs.CSVLog, History.to_csv), (logs.JSONLinesLog, History.to_jsonl)]
each_file = pytest.mark.parametrize(("log", "write"), FILES, ids=["csv", "jsonl"])


def written_by(write, folder, *epochs):
    write(history(*epochs), folder / "wanted")
    return (folder / "wanted").read_text()


@each_file
def test_lines_are_there_after_each_epoch_and_are_the_historys(log, write, tmp_path):
    path = tmp_path / "run"
    follow = log(path)
    for n in range(3):
        assert follow(epoch(n)) is None  # what is true would end the training
        assert path.read_text() == written_by(write, tmp_path, *map(epoch, range(n + 1)))


@each_file
def test_an_older_log_is_replaced_with_the_first_epoch_only(log, write, tmp_path):
    path = tmp_path / "run"
    older = written_by(write, tmp_path, epoch(0, cost=9.0), epoch(1)).replace("accuracy", "another")
    path.write_text(older)
    follow = log(str(path))
    assert path.read_text() == older
    follow(epoch(0))
    assert path.read_text() == written_by(write, tmp_path, epoch(0))


@each_file
def test_what_is_no_log_is_not_replaced(log, write, tmp_path):
    path = tmp_path / "run"
    path.write_text("something precious\n")
    with pytest.raises(FileFormatError, match="neither gone on with nor replaced; name another file"):
        log(path)
    assert path.read_text() == "something precious\n"


@each_file
def test_a_resumed_training_goes_on_where_its_checkpoint_was(log, write, tmp_path):
    path = tmp_path / "run"
    path.write_text(written_by(write, tmp_path, *map(epoch, range(5))) + '{"epoch": 5, "co')
    follow = log(path, append=True)
    for n in (3, 4):
        follow(epoch(n, cost=9.0))
    wanted = [epoch(0), epoch(1), epoch(2), epoch(3, 9.0), epoch(4, 9.0)]
    assert path.read_text() == written_by(write, tmp_path, *wanted)


@each_file
def test_appending_to_nothing_begins_a_file(log, write, tmp_path):
    follow = log(tmp_path / "run", append=True)
    follow(epoch(0))
    assert (tmp_path / "run").read_text() == written_by(write, tmp_path, epoch(0))


NO_LOGS = [
    *("a poem\nof two lines\n", "one line", "\n", "\0\n"),
    *("epoch\nseven\n", "[1]\n", "{\n", '{"cost": 1}\n', '{"epoch": 1e999}\n'),
]


@each_file
@pytest.mark.parametrize("text", NO_LOGS)
def test_only_a_log_is_appended_to(log, write, tmp_path, text):
    (tmp_path / "run").write_text(text)
    with pytest.raises(FileFormatError, match=f"not a log that {log.__name__} wrote"):
        log(tmp_path / "run", append=True)
    assert (tmp_path / "run").read_text() == text


def test_a_table_gets_no_new_columns(tmp_path):
    logs.CSVLog(tmp_path / "run.csv")(epoch(0, layers=None))
    follow = logs.CSVLog(tmp_path / "run.csv", append=True)
    before = (tmp_path / "run.csv").read_text()
    with pytest.raises(FileFormatError, match=r"has no column 'delta_norm_1', which this training has"):
        follow(epoch(1))
    assert (tmp_path / "run.csv").read_text() == before


@each_file
def test_a_place_that_can_not_be_written_is_known_before_the_training(log, write, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        log(tmp_path / "none" / "run")
    with pytest.raises(IsADirectoryError):
        log(tmp_path)


def test_strange_numbers(tmp_path):
    logs.JSONLinesLog(tmp_path / "run.jsonl")(epoch(0, cost=math.inf))
    assert json.loads((tmp_path / "run.jsonl").read_text())["cost"] is None
    logs.CSVLog(tmp_path / "run.csv")(epoch(0, cost=math.inf))
    assert (tmp_path / "run.csv").read_text().splitlines()[1].startswith("0,inf,")


# -- TensorBoard ---------------------------------------------------------------------------------------------------


def read_events(folder):
    """What TensorBoard's own reader finds: {tag: [(step, value), ...]}."""
    reading = extras.need("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reading.EventAccumulator(str(folder), size_guidance={reading.TENSORS: 0, reading.SCALARS: 0})
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_tensorboard_reads_while_the_training_runs(tmp_path):
    extras.need("tensorboard")
    log = logs.TensorBoardLog(tmp_path / "new" / "run")
    for n in range(3):
        assert log(epoch(n)) is None
        found = read_events(log.folder)
        assert [step for step, _ in found["cost"]] == list(range(n + 1))
    assert {tag: [value for _, value in series] for tag, series in found.items()} == {
        tag: pytest.approx(values)
        for tag, values in {
            "cost": [1 / 3, 1 / 4, 1 / 5],
            "seconds": [0.5] * 3,
            "examples_per_second": [2000.0] * 3,
            "validation_cost": [0.25] * 3,
            "validation_score": [0.75] * 3,
            "eta": [0.3] * 3,
            "delta_norm/layer_1": [0.1] * 3,
            "delta_norm/layer_2": [0.4] * 3,
            "gradient_norm/layer_1": [0.2] * 3,
            "gradient_norm/layer_2": [0.5] * 3,
            "weight_norm/layer_1": [0.3] * 3,
            "weight_norm/layer_2": [0.6] * 3,
            "saturated/layer_1": [0.25] * 3,
            "dead/layer_2": [0.5] * 3,
        }.items()
    }


def test_tensorboard_drops_what_a_resumed_training_repeats(tmp_path):
    extras.need("tensorboard")
    log = logs.TensorBoardLog(tmp_path)
    for n in range(5):
        log(epoch(n))
    log = logs.TensorBoardLog(tmp_path)
    for n in (3, 4):
        log(epoch(n, cost=9.0))
    assert read_events(tmp_path)["cost"] == [(n, pytest.approx(1 / (n + 3))) for n in range(3)] + [(3, 9.0), (4, 9.0)]


def test_tensorboard_tells_an_error_of_the_epoch_that_has_it(tmp_path):
    extras.need("tensorboard")
    log = logs.TensorBoardLog(tmp_path / "run")
    log(epoch(0))
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(OSError, match="No such file"):
        log(epoch(1))


def test_tensorboard_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(GpunetError, match=r"pip install 'gpunet\[tensorboard\]'"):
        logs.TensorBoardLog(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_brings_neither_tensorflow_nor_torch(tmp_path):
    extras.need("tensorboard")
    program = (
        "import sys; from gpunet.logs import TensorBoardLog; from gpunet.training.history import Epoch\n"
        f"TensorBoardLog({str(tmp_path)!r})(Epoch(0, 1.0, 1.0, 1.0))\n"
        "print(sorted({'tensorflow', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout == "[]\n"
    assert read_events(tmp_path)["cost"] == [(0, 1.0)]


def test_with_a_real_training(blobs, tmp_path):
    net = gpunet.Network([4, 5, 3], device="cpu", seed=0)
    told = net.fit(*blobs, epochs=3, validation_data=blobs, on_epoch=logs.CSVLog(tmp_path / "run.csv"))
    told.to_csv(tmp_path / "wanted.csv")
    assert (tmp_path / "run.csv").read_text() == (tmp_path / "wanted.csv").read_text()
