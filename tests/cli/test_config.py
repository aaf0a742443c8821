"""gpunet train --config and --preset, and gpunet show-config."""

import json
import re
import tomllib

import pytest

from gpunet import Network
from gpunet.cli import runs
from gpunet.cli.presets import PRESETS
from gpunet.cli.runs import Run
from gpunet.version import __version__

OPTIONS = ("--hidden", "5,4", "--activation", "tanh", "--cost", "cross-entropy", "--epochs", 3, "--batch-size", 7)


@pytest.fixture
def trained(gpunet, folder, tmp_path):
    """A model that was trained with many options, without a seed of one's own."""
    options = (
        *OPTIONS,
        "--eta",
        0.25,
        "--optimizer",
        "momentum",
        "--l2",
        0.5,
        "--holdout",
        0.3,
        "--dtype",
        "float64",
    )
    result = gpunet("train", folder / "train.npz", *options, "-o", "first.safetensors", "--device", "cpu")
    assert result.code == 0, result.err
    return tmp_path / "first.safetensors"


def test_a_model_tells_how_it_was_trained(trained, folder):
    run = Network.load(trained).metadata["run"]
    assert run["gpunet"] == __version__
    wanted = {"data": str(folder / "train.npz"), "hidden": [5, 4], "activation": "tanh", "cost": "cross-entropy"}
    wanted |= {"epochs": 3, "batch_size": 7, "eta": 0.25, "optimizer": "momentum", "l2": 0.5, "holdout": 0.3}
    assert {name: run[name] for name in wanted} == wanted
    assert isinstance(run["seed"], int)
    assert len(run["data_sha256"]) == 64


def test_a_run_is_repeated_from_its_model_to_the_bit(gpunet, trained, tmp_path):
    for config in (trained, "run.toml"):
        shown = gpunet("show-config", trained)
        (tmp_path / "run.toml").write_text(shown.out)
        result = gpunet("train", "--config", config, "-o", "again.safetensors")
        assert (result.code, result.err) == (0, "saved again.safetensors\n")
        assert (tmp_path / "again.safetensors").read_bytes() == trained.read_bytes()
        (tmp_path / "again.safetensors").unlink()


def test_a_run_on_a_table_is_repeated_to_the_bit(gpunet, folder, tmp_path):
    options = ("--target", "species", "--drop", "x1", "--epochs", 5, "--device", "cpu")
    assert gpunet("train", folder / "species.csv", *options, "-o", "a.safetensors").code == 0
    assert gpunet("train", "--config", "a.safetensors", "-o", "b.safetensors").code == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_show_config_json(gpunet, trained):
    shown = gpunet("show-config", trained)
    (as_json,) = gpunet("show-config", trained, "--json").events
    assert tomllib.loads(shown.out) == as_json


def test_the_command_line_goes_before_the_file(gpunet, folder, tmp_path):
    (tmp_path / "run.toml").write_text(f'data = "{folder / "train.npz"}"\nepochs = 9\nhidden = [3]\nseed = 1\n')
    first = gpunet("train", "--config", "run.toml", "--json").events[0]
    assert (first["epochs"], first["sizes"]) == (9, [4, 3, 3])
    first = gpunet("train", "--config", "run.toml", "--epochs", 2, "--layers", "4,6,3", "--json").events[0]
    assert (first["epochs"], first["sizes"], first["seed"]) == (2, [4, 6, 3], 1)
    first = gpunet("train", folder / "train.csv", "--config", "run.toml", "--epochs", 30, "--json").events[0]
    assert (first["data"], first["epochs"]) == ("train.csv", 30)  # a default value that is given counts too


def test_a_file_goes_before_a_preset(gpunet, folder, tmp_path):
    (tmp_path / "run.toml").write_text("epochs = 2\nlayers = [4, 6, 3]\n")
    result = gpunet("train", folder / "train.npz", "--preset", "book", "--config", "run.toml", "--json")
    first = result.events[0]
    assert (first["epochs"], first["sizes"], first["eta"], first["batch_size"]) == (2, [4, 6, 3], 3.0, 10)


@pytest.mark.filterwarnings("default")
def test_data_that_changed_is_told(gpunet, folder, tmp_path):
    data = tmp_path / "train.csv"
    data.write_bytes((folder / "train.csv").read_bytes())
    assert gpunet("train", "train.csv", "--epochs", 2, "--device", "cpu", "-o", "m.safetensors").code == 0
    assert "note" not in gpunet("train", "--config", "m.safetensors", "-o", "n.safetensors").err
    data.write_text(data.read_text().replace("ant", "emu"))
    result = gpunet("train", "--config", "m.safetensors", "-o", "n.safetensors")
    assert result.code == 0
    assert "note: train.csv is not the file that the configuration was made with" in result.err
    other = gpunet("train", folder / "train.csv", "--config", "m.safetensors", "-o", "n.safetensors")
    assert "note" not in other.err  # other data were asked for


def test_text_of_every_kind_is_written_as_toml():
    options = {"target": 'a "b"\\ \t\n\x7f é 猫 😀', "drop": ["x", "y, z"], "eta": 1e-05, "l2": 0.0, "hidden": []}
    assert tomllib.loads(runs.to_toml(options)) == options


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("epocs = 3", "c.toml: unknown option 'epocs'. Did you mean 'epochs'"),
        ("[train]\nepochs = 3", "c.toml: unknown option 'train'"),
        ("epochs = ", "c.toml: not a TOML file: Invalid value"),
        ("epochs = 1\nepochs = 2", "c.toml: not a TOML file: Cannot overwrite a value"),
        (b"a = '\xff'", "c.toml: not a TOML file"),
        ('epochs = "3"', "c.toml: epochs must be a whole number of at least 1, got '3'"),
        ("epochs = 0", "c.toml: epochs must be a whole number of at least 1, got 0"),
        ("epochs = 1.5", "c.toml: epochs must be a whole number"),
        ("epochs = true", "c.toml: epochs must be a whole number"),
        ("threads = 5000", "c.toml: threads must be a whole number of at least 1 and at most 1024, got 5000"),
        ("eta = -1", "c.toml: eta must be a finite number above 0, got -1"),
        ("eta = nan", "c.toml: eta must be a finite number above 0, got nan"),
        ("eta = [1]", "c.toml: eta must be a finite number above 0"),
        ("holdout = 1", "c.toml: holdout must be a finite number of at least 0 and at most 0.9, got 1"),
        ("l2 = inf", "c.toml: l2 must be a finite number of at least 0, got inf"),
        ("cost = 3", "c.toml: cost must be text, got 3"),
        ("hidden = 3", "c.toml: hidden must be a list, got 3"),
        ('hidden = [3, "x"]', "c.toml: hidden: each number must be a whole number of at least 1, got 'x'"),
        ("hidden = [0]", "c.toml: hidden: each number must be a whole number of at least 1, got 0"),
        ("drop = 'a,b'", r"c.toml: drop must be a list such as \[.a., .b.\], got 'a,b'"),
        ("drop = [3]", "c.toml: drop must be a list of text, got 3"),
        ("data = 2020-01-01", "c.toml: data must be text"),
        # Found by the fuzzer.
        ("eta = 1" + "0" * 400, "c.toml: eta must be a finite number above 0, got 10000"),
        ("seed = 1" + "0" * 5000, "c.toml: not a TOML file: Exceeds the limit"),
        ("seed = 0x" + "f" * 5000, "c.toml: seed must be a whole number of at least 0, got a number of very many"),
        ("hidden = " + "[" * 5000, "c.toml: not a TOML file: too many brackets"),
        ("x" * 5000 + " = 1", "c.toml: unknown option 'xxxxx"),
        ("a" + ".a" * 20_000 + " = 1", "is no option: options have no dots"),
        ('"\\"". \'b\' .' * 20_000 + "a = 1", "is no option: options have no dots"),
        ("#" * 300_000, "c.toml: more than 262144 bytes"),
        ('hidden = "6_4"', "c.toml: hidden must be sizes such as 784,30,10, got '6_4'"),
        ('hidden = "٣"', "c.toml: hidden must be sizes"),
        ("hidden = [3]\nlayers = [3, 2]", "c.toml: layers has all layer sizes and hidden those"),
    ],
)
def test_files_that_are_refused(gpunet, folder, tmp_path, text, fragment):
    (tmp_path / "c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    gpunet("train", folder / "train.npz", "--config", "c.toml").one_error(fragment)


def test_values_that_only_the_network_refuses(gpunet, folder, tmp_path):
    for text, fragment in (('cost = "quadratc"', "Did you mean 'quadratic'"), ('engine = "x"', "unknown engine 'x'")):
        (tmp_path / "c.toml").write_text(text)
        gpunet("train", folder / "train.npz", "--config", "c.toml").wrong_use(fragment)


def test_files_that_are_not_there(gpunet, folder, tmp_path):
    gpunet("train", "--config", "none.toml").one_error("none.toml: no such file")
    gpunet("train", "--config", tmp_path).one_error("not a regular file")
    gpunet("train", "--config", folder / "train.csv").one_error("not a TOML file")
    gpunet("show-config", "none.safetensors").one_error("there is no such file")
    Network([2, 1], seed=0, device="cpu").save(tmp_path / "own.safetensors")
    gpunet("show-config", "own.safetensors").one_error("does not tell how it was trained")
    gpunet("train", "--config", "own.safetensors").one_error("does not tell how it was trained")


@pytest.mark.parametrize("run", [5, {"epochs": "x"}, {"more": 1}, {"hidden": {"a": 1}}])
def test_a_damaged_model(gpunet, tmp_path, run):
    net = Network([2, 1], seed=0, device="cpu")
    net.metadata["run"] = run
    net.save(tmp_path / "own.safetensors")
    for command in (("show-config",), ("train", "--config")):
        result = gpunet(*command, "own.safetensors")
        result.one_error("own.safetensors: ")


def test_shares_are_floats_however_they_are_written(tmp_path):
    (tmp_path / "c.toml").write_text("dropout = [0, 0.5]\neta = 1\nseed = 340282366920938463463374607431768211455")
    read = runs.read(tmp_path / "c.toml")
    assert read == {"dropout": (0.0, 0.5), "eta": 1.0, "seed": 2**128 - 1}
    assert [type(value) for value in (*read["dropout"], read["eta"])] == [float] * 3


def test_layers_and_hidden_are_one_or_the_other(gpunet, folder):
    gpunet("train", folder / "train.npz", "--layers", "4,3", "--hidden", "5").wrong_use("give one of them")


# -- Presets -----------------------------------------------------------------------------------------------------


def test_every_preset_is_a_run():
    for name in PRESETS:
        run = runs.filled(runs.combined({}, preset=name), is_table=False, task="classification", examples=50_000)
        assert isinstance(run, Run)


def test_the_books_preset_is_what_runs_without_options():
    usual = {"is_table": False, "task": "classification", "examples": 50_000}
    book, bare = (runs.filled(runs.combined({}, preset=p), **usual) for p in ("book", None))
    differing = {name for name in runs.FIELDS if getattr(book, name) != getattr(bare, name)}
    assert differing == {"eta", "output_activation"}  # which the network chooses the same


@pytest.mark.filterwarnings("default")
def test_presets_by_name(gpunet, folder):
    gpunet("train", "--preset", "bst").wrong_use("unknown preset 'bst'. Did you mean 'best'")
    first = gpunet("train", folder / "train.npz", "--preset", "best", "--epochs", 1, "--json", "--seed", 1).events[0]
    assert first["sizes"] == [4, *PRESETS["best"]["hidden"], 3]
    assert first["epochs"] == 1
    assert json.dumps(PRESETS)


# -- Regularisation, schedules, early stopping, checkpoints ------------------------------------------------------


def test_every_option_of_a_run_reaches_fit(gpunet, folder, monkeypatch):
    from gpunet import EarlyStopping, schedules
    from gpunet.training.options import Options

    seen = []
    original = Options.__post_init__

    def note(options):
        original(options)
        seen.append(options)

    monkeypatch.setattr(Options, "__post_init__", note)
    given = {
        "epochs": 2,
        "batch_size": 7,
        "l2": 0.5,
        "l1": 0.25,
        "weight_decay": 0.125,
        "max_norm": 2.0,
        "clip_norm": 3.0,
        "clip_value": 4.0,
        "label_smoothing": 0.1,
        "threads": 1,
        "engine": "verbs",
    }
    line = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    line += ["--dropout", 0.3, "--eta", 0.2, "--schedule", "cosine", "--early-stopping", 4, "--optimizer", "adamw"]
    result = gpunet("train", folder / "train.npz", *line, "--class-weight", "balanced", "--json", "--seed", 1)
    assert result.code == 0, result.err
    options = seen[-1]
    assert {name: getattr(options, name) for name in given} == given
    assert (options.dropout, options.optimizer.name) == (0.3, "adamw")
    assert options.early_stopping == EarlyStopping(4)
    assert options.eta.settings() == schedules.Cosine(0.2, 2).settings()
    first = result.events[0]
    assert (first["examples"], first["validation_examples"], first["test_examples"]) == (72, 8, 20)
    assert first["regularization"]["class_weight"] == "balanced"


@pytest.mark.parametrize("name", runs.SCHEDULES)
def test_schedules_by_name(gpunet, folder, name):
    result = gpunet(
        "train", folder / "train.npz", "--schedule", name, "--epochs", 6, "--seed", 1, "-o", "m.safetensors"
    )
    assert result.code == 0, result.err
    assert (f"schedule {name}" in result.out) == (name != "constant")
    decides_by_validation = name in ("plateau", "halving")
    assert ("validated on 8 others" in result.out) == decides_by_validation
    assert "m.safetensors" in gpunet("train", "--config", "m.safetensors", "-o", "m.safetensors").err


def test_early_stopping(gpunet, folder, tmp_path):
    options = ("--early-stopping", 3, "--epochs", 500, "--eta", 3, "--seed", 1, "-o", "m.safetensors")
    _, *epochs, end = gpunet("train", folder / "train.npz", *options, "--json").events
    assert end["epochs"] == len(epochs) < 500
    costs = [epoch["validation_cost"] for epoch in epochs]
    assert end["best_epoch"] == costs.index(min(costs))
    assert end["stopped"] == "validation_cost did not improve for 3 epochs"
    assert end["best_epoch"] == end["epochs"] - 4
    text = gpunet("train", folder / "train.npz", *options).out
    assert f"the model is that of epoch {end['best_epoch']}" in text
    assert re.search(rf"^Epoch 0: \d / 8, cost 0\.\d+, validation cost {costs[0]:.4f}, ", text, re.MULTILINE)
    assert "validation cost" not in gpunet("train", folder / "train.npz", "--epochs", 1).out
    whole = gpunet("train", folder / "train.npz", *options, "--validation", 0.5, "--json").events[0]
    assert (whole["examples"], whole["validation_examples"], whole["test_examples"]) == (40, 40, 20)


def test_a_training_goes_on_from_its_checkpoint(gpunet, folder, tmp_path):
    options = ("train", folder / "train.csv", "--device", "cpu", "--optimizer", "momentum")
    whole = gpunet(*options, "--epochs", 6, "--seed", 5, "-o", "whole.safetensors", "--json")
    assert gpunet(*options, "--epochs", 2, "--seed", 5, "--checkpoint", "c.safetensors").code == 0
    gpunet(*options, "--checkpoint", "c.safetensors").wrong_use("c.safetensors exists: add --resume")
    result = gpunet(
        "train", "--checkpoint", "c.safetensors", "--resume", "--epochs", 6, "-o", "went-on.safetensors", "--json"
    )
    assert result.code == 0, result.err
    epochs = [event for event in result.events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [2, 3, 4, 5]
    assert [e["cost"] for e in epochs] == [e["cost"] for e in whole.events if e["event"] == "epoch"][2:]
    assert (tmp_path / "went-on.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    again = gpunet("train", "--checkpoint", "c.safetensors", "--resume", "--l2", 3, "--epochs", 9)
    again.one_error("checkpoint of another training: l2")


def test_resume_without_a_checkpoint_yet_begins(gpunet, folder, tmp_path):
    options = (folder / "train.npz", "--epochs", 2, "--seed", 1)
    result = gpunet("train", *options, "--checkpoint", "c.safetensors", "--resume")
    assert result.code == 0
    assert (tmp_path / "c.safetensors").exists()
    gpunet("train", *options, "--resume").wrong_use("--resume needs --checkpoint")
    result = gpunet("train", *options, "--checkpoint", "none/c.safetensors")
    assert result.code in (1, 2)
    assert "none/c.safetensors" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (["--schedule", "cosin"], "unknown schedule 'cosin'. Did you mean 'cosine'"),
        (["--schedule", "cosine", "--optimizer", "lbfgs"], "which lbfgs has not"),
        (["--dropout", "1.5"], "dropout must be at least 0 and below 1"),
        (["--dropout", "0.1,0.2,0.3,0.4"], "dropout must be a number .* or a list of 2"),
        (["--dropout", "x"], "--dropout must be numbers such as"),
        (["--dropout", "nan"], "--dropout: each number must be a finite number"),
        (["--label-smoothing", "1"], "label_smoothing must be"),
        (["--max-norm", "0"], "--max-norm must be a finite number above 0"),
        (["--clip-norm", "-1"], "--clip-norm must be a finite number above 0"),
        (["--optimizer", "lbfgs", "--l1", "1"], "'lbfgs' takes no l1"),
        (["--early-stopping", "0"], "Invalid value for '--early-stopping'"),
    ],
)
def test_wrong_use_of_what_shapes_a_training(gpunet, folder, tmp_path, options, fragment):
    result = gpunet("train", folder / "train.npz", *options)
    result.wrong_use(fragment)
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_pictures_and_logs(gpunet, folder, tmp_path):
    from extras import need

    need("matplotlib")
    need("tensorboard")
    options = (folder / "train.csv", "--epochs", 2, "--seed", 1, "--checkpoint", "c.safetensors")
    written = ("--plot", "p.png", "--log", "run.csv", "--tensorboard", "board")
    result = gpunet("train", *options, *written, "-o", "m.safetensors")
    assert result.code == 0, result.err
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert [line.partition(",")[0] for line in (tmp_path / "run.csv").read_text().splitlines()] == ["epoch", "0", "1"]
    assert len(list((tmp_path / "board").iterdir())) == 1
    resumed = gpunet(
        "train", "--checkpoint", "c.safetensors", "--resume", "--epochs", 3, *written, "-o", "m.safetensors"
    )
    assert resumed.code == 0, resumed.err
    numbers = [line.partition(",")[0] for line in (tmp_path / "run.csv").read_text().splitlines()]
    assert numbers == ["epoch", "0", "1", "2"]
    assert gpunet("train", *options[:-2], "--log", "run.jsonl", "-o", "m.safetensors").code == 0
    assert [json.loads(line)["epoch"] for line in (tmp_path / "run.jsonl").read_text().splitlines()] == [0, 1]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [(["--plot", "p.xyz"], "no picture format"), (["--log", "run.txt"], "a log is .csv or .jsonl")],
)
def test_pictures_and_logs_of_no_known_kind(gpunet, folder, tmp_path, options, fragment):
    gpunet("train", folder / "train.npz", *options).wrong_use(fragment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["data", "--test"])
def test_a_log_never_replaces_the_data(gpunet, tmp_path, option):
    text = "a,label\n" + "".join(f"{i * 7 % 10},{'xy'[i % 2]}\n" for i in range(40))
    for name in ("t.csv", "other.csv"):
        (tmp_path / name).write_text(text)
    (tmp_path / "link.csv").symlink_to(tmp_path / ("t.csv" if option == "data" else "other.csv"))
    result = gpunet("train", "t.csv", "--test", "other.csv", "--epochs", 1, "--log", "link.csv")
    result.wrong_use("--log link.csv is the data; name another file")
    assert (tmp_path / "t.csv").read_text() == (tmp_path / "other.csv").read_text() == text


@pytest.mark.parametrize(("option", "name"), [("--log", "notes.csv"), ("--log", "notes.jsonl"), ("-o", "notes.txt")])
@pytest.mark.parametrize("content", ["a,b\n1,2\n", "no line", '{"a": 1}\n'])
def test_what_is_no_log_and_no_model_is_not_replaced(gpunet, folder, tmp_path, option, name, content):
    (tmp_path / name).write_text(content)
    result = gpunet("train", folder / "train.npz", "--epochs", 1, option, name)
    assert result.code in (1, 2)
    assert f"{name}" in result.err
    assert "replaced; name another file" in result.err
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_logs_and_models_are_replaced_by_the_next(gpunet, folder, tmp_path, name):
    for epochs in (3, 2):
        line = ("--epochs", epochs, "--log", name, "-o", "m.safetensors", "--checkpoint", f"c{epochs}")
        assert gpunet("train", folder / "train.npz", *line).code == 0
    text = (tmp_path / name).read_text().splitlines()
    assert len(text) == 2 + (name == "a.csv")
    assert len(Network.load(tmp_path / "m.safetensors").metadata["run"]) > 0
    (tmp_path / name).write_bytes(b"")  # as a folder's first file may be
    (tmp_path / "m.safetensors").write_bytes(b"")
    assert gpunet("train", folder / "train.npz", "--epochs", 1, "--log", name, "-o", "m.safetensors").code == 0


def test_a_model_never_replaces_its_checkpoint(gpunet, folder, tmp_path):
    train = ("train", folder / "train.npz", "--epochs", 1, "--checkpoint")
    gpunet(*train, "m", "-o", tmp_path / "m").wrong_use("is the checkpoint; name another file")
    assert gpunet(*train, "c", "-o", "m").code == 0
    before = (tmp_path / "c").read_bytes()
    gpunet(*train, "c", "--resume", "-o", "c").wrong_use("--output c is the checkpoint; name another file")
    assert (tmp_path / "c").read_bytes() == before
