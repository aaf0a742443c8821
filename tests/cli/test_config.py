"""gpunet train --config and --preset, and gpunet show-config."""

import json
import tomllib

import pytest

from gpunet import Network, runs
from gpunet.presets import PRESETS
from gpunet.runs import Run
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
        ('hidden = [3, "x"]', "c.toml: hidden: each size must be a whole number of at least 1, got 'x'"),
        ("hidden = [0]", "c.toml: hidden: each size must be a whole number of at least 1, got 0"),
        ("drop = [3]", "c.toml: drop must be a list of text, got 3"),
        ("data = 2020-01-01", "c.toml: data must be text"),
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
    gpunet("train", "--config", "none.toml").one_error("none.toml: can't be read")
    gpunet("train", "--config", tmp_path).one_error("can't be read")
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
