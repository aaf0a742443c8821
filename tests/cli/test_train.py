"""gpunet train: what it prints, what it saves, how it ends."""

import re
import sys

import numpy as np
import pytest
from extras import need

from gpunet import DeviceError, Network, model_file
from gpunet.cli import reports


def parameters(path):
    net = Network.load(path, device="cpu")
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def train(run, *arguments):
    return run("train", *arguments, "--seed", 1, "--device", "cpu")


def names(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


# -- What it prints ------------------------------------------------------------------------------------------


def test_the_books_run_on_mnist(shell, tmp_path):
    result = train(shell, "--epochs", 1, "--json")
    assert result.code == 0
    first, epoch, end = result.events
    assert (first["event"], first["sizes"], first["examples"]) == ("start", [784, 30, 10], 50_000)
    assert (first["test_examples"], first["eta"], first["batch_size"]) == (10_000, 3.0, 10)
    assert epoch["accuracy"] > 0.85
    assert end["accuracy"] == epoch["accuracy"]
    assert names(tmp_path) == ["gpunet-model.safetensors"]
    assert result.err == "saved gpunet-model.safetensors\n"
    result = shell("evaluate", "gpunet-model.safetensors", "--device", "cpu")
    assert result.out == (
        f"{round(epoch['accuracy'] * 10_000)} / 10000 correct ({epoch['accuracy']:.2%}), F1 {end['f1']:.4f}, "
        f"AUC {end['auc']:.4f}\n"
    )


@pytest.mark.parametrize("runner", ["gpunet", "shell"])
def test_json_lines(runner, request, folder):
    result = train(request.getfixturevalue(runner), folder / "data.npz", "--epochs", 3, "--json")
    assert result.code == 0
    events = result.events
    assert [event["event"] for event in events] == ["start", "epoch", "epoch", "epoch", "end"]
    for number, event in enumerate(events[1:-1]):
        assert set(event) == {"event", "epoch", "cost", "validation_cost", "accuracy", "seconds"}
        assert event["epoch"] == number
        assert event["cost"] > 0
        assert 0 <= event["accuracy"] <= 1
        assert event["seconds"] > 0
    end = events[-1]
    assert set(end) >= {"event", "accuracy", "device", "seconds"}
    assert end["accuracy"] == events[-2]["accuracy"]
    assert (end["device"], end["backend"]) == ("cpu", "numpy on cpu")


def test_plain_lines_when_piped(shell, folder):
    result = train(shell, folder / "data.npz", "--epochs", 3)
    assert result.code == 0
    lines = result.out.splitlines()
    assert [bool(re.match(rf"Epoch {i}: \d+ / 50\b", line)) for i, line in enumerate(lines[2:5])] == [True] * 3
    assert "data.npz" in lines[0]
    assert re.match(r"\d+\.\d\d%", lines[-1])
    assert "\x1b" not in result.out
    assert "\r" not in result.out
    assert result.err == "saved gpunet-model.safetensors\n"


def test_the_same_seed_gives_the_same_numbers(gpunet, folder, tmp_path):
    runs = [train(gpunet, folder / "train.csv", "--json", "--epochs", 3, "-o", f"{i}.safetensors") for i in "ab"]
    numbers = [[(e["epoch"], e["cost"], e["accuracy"]) for e in run.events if e["event"] == "epoch"] for run in runs]
    assert len(numbers[0]) == 3
    assert numbers[0] == numbers[1]
    assert np.array_equal(parameters(tmp_path / "a.safetensors"), parameters(tmp_path / "b.safetensors"))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_another_seed_gives_others_and_no_seed_is_told(gpunet, folder):
    costs = set()
    for seed in (1, 2):
        result = gpunet("train", folder / "data.npz", "--json", "--epochs", 1, "--seed", seed, "--device", "cpu")
        costs.add(result.events[1]["cost"])
    result = gpunet("train", folder / "data.npz", "--json", "--epochs", 1, "--device", "cpu")
    drawn = result.events[0]["seed"]
    again = gpunet("train", folder / "data.npz", "--json", "--epochs", 1, "--device", "cpu", "--seed", drawn)
    assert again.events[1]["cost"] == result.events[1]["cost"]
    assert len({*costs, result.events[1]["cost"]}) == 3


# -- Data of every kind --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.npz", "train.npz", "train.csv", "idx"])
def test_it_learns_from_every_kind_of_file(gpunet, folder, name):
    result = train(gpunet, folder / name, "--epochs", 30, "--json")
    assert result.code == 0
    assert result.events[-1]["accuracy"] >= 0.9
    assert result.events[0]["sizes"] == ([4, 64, 32, 3] if name.endswith(".csv") else [4, 30, 3])


def test_pixels_are_scaled_and_the_scale_is_saved(gpunet, folder, tmp_path):
    assert train(gpunet, folder / "idx", "-o", "m.safetensors", "--epochs", 1).code == 0
    assert Network.load(tmp_path / "m.safetensors").input_scale == 1 / 256


def test_training_equals_pythons_fit(gpunet, folder, blobs, tmp_path):
    X, y = blobs
    assert train(gpunet, folder / "data.npz", "-o", "m.safetensors", "--epochs", 3).code == 0
    net = Network([4, 30, 3], seed=1, device="cpu")
    net.fit(X[:100], y[:100], epochs=3)
    loaded = Network.load(tmp_path / "m.safetensors", device="cpu")
    assert all(np.array_equal(a, b) for a, b in zip(net.weights, loaded.weights, strict=True))


def test_options_reach_the_network(gpunet, folder, tmp_path):
    result = train(
        gpunet,
        folder / "data.npz",
        "-o",
        "m.safetensors",
        "--epochs",
        2,
        "--layers",
        "[4, 6, 5, 3]",
        "--activation",
        "relu",
        "--cost",
        "log-likelihood",
        "--init",
        "he",
        "--batch-size",
        7,
        "--eta",
        0.05,
        "--dtype",
        "float64",
        "--json",
    )
    assert result.code == 0, result.err
    first = result.events[0]
    assert (first["batch_size"], first["eta"], first["dtype"]) == (7, 0.05, "float64")
    net = Network.load(tmp_path / "m.safetensors", device="cpu")
    assert net.sizes == [4, 6, 5, 3]
    assert [f.name for f in net.activations] == ["relu", "relu", "softmax"]
    assert (net.cost.name, net.dtype) == ("log-likelihood", "float64")


@pytest.mark.parametrize(("holdout", "n_test", "of_them"), [(0.2, 20, False), (0.5, 50, False), (0, 100, True)])
def test_a_test_part_is_split_off(gpunet, folder, holdout, n_test, of_them):
    result = train(gpunet, folder / "train.npz", "--epochs", 1, "--json", "--holdout", holdout)
    first = result.events[0]
    assert first["test_examples"] == n_test
    assert first["examples"] == (100 if of_them else 100 - n_test)
    assert first["tested_on_training_data"] is of_them


def test_a_table_without_a_test_part_says_that_it_is_tested_on_what_it_learned(gpunet, tmp_path):
    (tmp_path / "t.csv").write_text("a,label\n" + "".join(f"{i * 7 % 10},{'xy'[i % 2]}\n" for i in range(40)))
    whole = gpunet("train", tmp_path / "t.csv", "--epochs", 1, "--holdout", 0, "-o", "a.safetensors")
    assert "on 40 examples of t.csv, tested on 40 of them" in whole.out
    validated = gpunet(
        "train", tmp_path / "t.csv", "--epochs", 1, "--holdout", 0, "--validation", 0.1, "-o", "b.safetensors"
    )
    assert "on 36 examples of t.csv, tested on 36 of them, validated on 4 others" in validated.out
    part = gpunet("train", tmp_path / "t.csv", "--epochs", 1, "-o", "c.safetensors")
    assert "tested on 8\n" in part.out


def test_test_data_of_another_file(gpunet, folder):
    result = train(gpunet, folder / "train.npz", "--test", folder / "test.npz", "--epochs", 2, "--json")
    whole = train(gpunet, folder / "data.npz", "--epochs", 2, "--json", "-o", "other.safetensors")
    assert result.events[0]["test_examples"] == 50
    assert [e.get("accuracy") for e in result.events] == [e.get("accuracy") for e in whole.events]


def test_names_in_another_order_and_a_missing_class_in_the_test_file(gpunet, folder, blobs, tmp_path, write_csv):
    X, y = blobs
    test = write_csv(tmp_path / "t.csv", X[100:], [("ant", "bee", "cat")[i] for i in y[100:]], "label")
    straight = train(gpunet, folder / "train.csv", "--test", test, "--epochs", 20, "--json")
    assert straight.events[-1]["accuracy"] > 0.9
    rows = [i for i in range(149, 99, -1) if y[i] != 0]
    test = write_csv(tmp_path / "t.csv", X, [("ant", "bee", "cat")[i] for i in y], "label", order=rows)
    fewer = train(gpunet, folder / "train.csv", "--test", test, "--epochs", 20, "--json", "-o", "b.safetensors")
    assert fewer.code == 0, fewer.err
    assert fewer.events[0]["test_examples"] == len(rows)
    assert fewer.events[-1]["accuracy"] > 0.9


def test_number_labels_of_which_the_test_file_lacks_one(gpunet, blobs, tmp_path, write_csv):
    """Labels 0, 1, 2 are their own indices; a file with 0 and 2 alone has the classes '0' and '2'."""
    X, y = blobs
    data = write_csv(tmp_path / "d.csv", X, y, "label", order=range(100))
    test = write_csv(tmp_path / "t.csv", X, y, "label", order=[i for i in range(100, 150) if y[i] != 1])
    result = train(gpunet, data, "--test", test, "--epochs", 20, "--json")
    assert result.code == 0, result.err
    assert result.events[-1]["accuracy"] > 0.9


def test_an_unknown_class_in_the_test_file(gpunet, folder, blobs, tmp_path, write_csv):
    test = write_csv(tmp_path / "t.csv", blobs[0][:9], ["ant", "bee", "cow"] * 3, "label")
    train(gpunet, folder / "train.csv", "--test", test).one_error("'cow'")
    assert names(tmp_path) == ["t.csv"]


def test_one_class_alone_is_refused(gpunet, blobs, tmp_path, write_csv):
    data = write_csv(tmp_path / "one.csv", blobs[0], ["ant"] * 150, "label")
    result = train(gpunet, data, "--epochs", 5, "-o", "m.safetensors")
    assert (result.code, result.out) == (1, "")
    assert "one class only" in result.err


def test_more_outputs_than_named_classes_are_refused(gpunet, folder):
    result = train(gpunet, folder / "train.csv", "--layers", "4,8,5", "-o", "m.safetensors")
    assert result.code == 2
    assert "--layers 4,8,3" in result.told


def test_a_number_to_predict_is_no_class(gpunet, tmp_path):
    np.savez(tmp_path / "price.npz", X=np.ones((100, 2), "f4"), y=np.arange(100) * 7)
    result = train(gpunet, tmp_path / "price.npz")
    assert (result.code, result.out) == (1, "")
    assert "100 classes for 100 examples" in result.err


def test_a_target_column_by_name(gpunet, folder, tmp_path):
    assert train(gpunet, folder / "species.csv", "--target", "species", "-o", "m.safetensors").code == 0
    assert Network.load(tmp_path / "m.safetensors").metadata["classes"] == ["ant", "bee", "cat"]
    result = train(gpunet, folder / "species.csv", "--target", "specis")
    assert result.code in (1, 2)
    assert "Did you mean 'species'?" in result.told
    assert train(gpunet, folder / "species.csv").code == 1


def test_notes_go_to_standard_error(shell, folder, tmp_path, blobs):
    np.savez(tmp_path / "huge.npz", X=blobs[0] * 1000, y=blobs[1])
    result = train(shell, "huge.npz", "--json", "--epochs", 1, "--batch-size", 1000)
    assert result.code == 0
    assert [event["event"] for event in result.events] == ["start", "epoch", "end"]
    notes = [line for line in result.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2
    assert "scale the columns" in notes[0]
    assert "a mini-batch of 1000 is larger than" in notes[1]


# -- The model's file ----------------------------------------------------------------------------------------


def test_the_default_name_is_numbered_and_nothing_is_overwritten(gpunet, folder, tmp_path):
    contents = []
    for number in range(1, 4):
        result = gpunet("train", folder / "data.npz", "--epochs", 1, "--seed", number, "--device", "cpu")
        name = "gpunet-model.safetensors" if number == 1 else f"gpunet-model-{number}.safetensors"
        assert result.err == f"saved {name}\n"
        contents.append((tmp_path / name).read_bytes())
    assert len(names(tmp_path)) == 3
    assert (tmp_path / "gpunet-model.safetensors").read_bytes() == contents[0]
    assert len(set(contents)) == 3


def test_a_named_output_is_overwritten(gpunet, folder, tmp_path):
    output = tmp_path / "m.safetensors"
    Network([2, 1], seed=0, device="cpu").save(output)
    assert train(gpunet, folder / "data.npz", "--epochs", 1, "-o", output).code == 0
    assert parameters(output).any()
    assert names(tmp_path) == ["m.safetensors"]


@pytest.mark.parametrize(
    ("output", "fragment"),
    [
        ("none/m.safetensors", r"--output none/m.safetensors: there is no folder .*none; make it first"),
        (".", "is a folder; name a file in it"),
        ("file/m.safetensors", "there is no folder"),
        ("/dev/full", "full"),
    ],
)
def test_an_output_that_can_not_be_is_refused_before_the_training(gpunet, folder, tmp_path, output, fragment):
    (tmp_path / "file").write_text("")
    result = train(gpunet, folder / "data.npz", "--json", "-o", output)
    result.wrong_use(fragment)
    assert result.out == ""
    assert names(tmp_path) == ["file"]


def test_a_folder_without_room_is_noticed_before_the_training(shell, folder, tmp_path):
    """A limit on the size of files stands for the full disk: both fail in write()."""
    command = [
        sys.executable,
        "-c",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "from gpunet.cli.commands import main; main()",
    ]
    result = train(lambda *a: shell(*a, command=command), folder / "data.npz", "--json", "-o", "m.safetensors")
    assert result.code == 1
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert "File too large" in result.err
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_during_the_training_loses_nothing(gpunet, folder, tmp_path, monkeypatch):
    (tmp_path / "rescue").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "rescue"))
    output = tmp_path / "m.safetensors"
    Network([2, 1], seed=0, device="cpu").save(output)
    old = output.read_bytes()
    original = model_file.replace_file

    def fail(path, content):
        if path.absolute() == output:
            raise OSError(28, "No space left on device")
        original(path, content)

    monkeypatch.setattr(model_file, "replace_file", fail)
    result = train(gpunet, folder / "data.npz", "--epochs", 2, "-o", output)
    result.one_error("m.safetensors could not be written .*No space left on device.*; the model is in .*instead")
    assert output.read_bytes() == old
    rescued = re.search(r"the model is in (.*) instead", result.err)[1]
    assert rescued.startswith(str(tmp_path / "rescue"))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert train(gpunet, folder / "data.npz", "--epochs", 2, "-o", "again.safetensors").code == 0
    assert np.array_equal(parameters(rescued), parameters(tmp_path / "again.safetensors"))


@pytest.mark.parametrize(
    ("option", "file", "failing"),
    [
        ("--log", "run.csv", "gpunet.logs.CSVLog._line"),
        ("--log", "run.jsonl", "gpunet.logs.JSONLinesLog._line"),
        ("--tensorboard", "board", "gpunet.logs.TensorBoardLog._write"),
        ("--plot", "page.svg", "gpunet.plots.save"),
    ],
)
def test_what_is_written_beside_the_model_does_not_cost_it(
    gpunet, folder, tmp_path, monkeypatch, option, file, failing
):
    need("tensorboard" if option == "--tensorboard" else "matplotlib")
    calls = []

    def full(*_arguments, **_options):
        calls.append(1)
        if option != "--tensorboard" or len(calls) > 1:  # its first one is before the training
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing, full)
    result = train(gpunet, folder / "data.npz", "--json", "--epochs", 3, "-o", "m.safetensors", option, file)
    assert result.code == 1
    assert [event["event"] for event in result.events] == ["start", *["epoch"] * 3, "end"]
    told, saved = sorted(result.err.splitlines())
    assert re.fullmatch(rf"error: {option} {file}.*: No space left on device", told)
    assert saved == "saved m.safetensors"
    assert len(calls) == (2 if option == "--tensorboard" else 1)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    train(gpunet, folder / "data.npz", "--epochs", 3, "-o", "again.safetensors")
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "again.safetensors"))


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), ZeroDivisionError("a bug")])
def test_what_ends_a_training_does_not_cost_the_epochs_before(gpunet, folder, tmp_path, monkeypatch, capsys, error):
    original = reports.PlainReport.epoch

    def tell(report, epoch):
        if epoch.epoch > 1:
            raise error
        original(report, epoch)

    monkeypatch.setattr(reports.PlainReport, "epoch", tell)
    arguments = (gpunet, folder / "data.npz", "--epochs", 9, "-o", "m.safetensors")
    if isinstance(error, OSError):
        result = train(*arguments)
        assert result.code == 1
        assert "note: the model of epoch 2 is in m.safetensors\n" in result.err
    else:
        with pytest.raises(ZeroDivisionError):
            train(*arguments)
        assert "note: the model of epoch 2 is in m.safetensors\n" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    train(gpunet, folder / "data.npz", "--epochs", 3, "-o", "again.safetensors")
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "again.safetensors"))


def test_an_error_of_the_device_keeps_the_epochs_that_are_done(gpunet, folder, tmp_path, monkeypatch):
    original = Network.fit

    def fit(network, *args, epochs, **options):
        original(network, *args, epochs=2, **options)
        raise DeviceError("the GPU fell off the bus")

    monkeypatch.setattr(Network, "fit", fit)
    result = train(gpunet, folder / "data.npz", "--epochs", 9, "-o", "m.safetensors")
    assert result.code == 1
    assert "the GPU fell off the bus" in result.err
    assert "Traceback" not in result.err
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    train(gpunet, folder / "data.npz", "--epochs", 2, "-o", "again.safetensors")
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "again.safetensors"))


def test_divergence(gpunet, folder, tmp_path):
    result = train(
        gpunet, folder / "data.npz", "--json", "--activation", "linear", "--eta", 1e6, "-o", "m.safetensors"
    )
    result.one_error("training diverged in epoch 0 .*Try a smaller eta")
    assert [event["event"] for event in result.events] == ["start"]
    assert names(tmp_path) == []


def test_divergence_later_keeps_the_last_whole_epoch(gpunet, folder, tmp_path):
    options = ("--activation", "linear", "--batch-size", 100, "--eta", 3, "--dtype", "float64")
    result = train(gpunet, folder / "data.npz", "--json", *options, "-o", "m.safetensors", "--epochs", 5000)
    epochs = [event for event in result.events if event["event"] == "epoch"]
    assert len(epochs) > 1
    assert result.code == 1
    assert f"diverged in epoch {len(epochs)} " in result.err
    again = train(gpunet, folder / "data.npz", *options, "-o", "a.safetensors", "--epochs", len(epochs))
    assert again.code == 0
    assert np.array_equal(parameters(tmp_path / "m.safetensors"), parameters(tmp_path / "a.safetensors"))


# -- Wrong use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--epoch", 3], "No such option.*--epoch .*--epochs"),
        (["--cost", "crossentropy"], "unknown cost 'crossentropy'. Did you mean 'cross-entropy'"),
        (["--activation", "sigmiod"], "unknown activation 'sigmiod'. Did you mean 'sigmoid'"),
        (["--output-activation", "softmx"], "Did you mean 'softmax'"),
        (["--init", "norml"], "Did you mean 'normal'"),
        (["--dtype", "float16"], "unknown dtype 'float16'"),
        (["--device", "gpu"], "unknown device 'gpu'"),
        (["--cost", "cross-entropy", "--output-activation", "softmax"], "pass output_activation='sigmoid'"),
        (["--epochs", 0], "Invalid value for .--epochs"),
        (["--epochs", 1.5], "Invalid value for .--epochs"),
        (["--batch-size", 0], "Invalid value for .--batch-size"),
        (["--seed", -1], "Invalid value for .--seed"),
        (["--seed", "x"], "Invalid value for .--seed"),
        (["--eta", 0], "--eta must be a finite number above 0"),
        (["--eta", -1], "--eta must be a finite number above 0"),
        (["--eta", "nan"], "--eta must be a finite number above 0"),
        (["--eta", "inf"], "--eta must be a finite number above 0"),
        (["--eta", "big"], "Invalid value for .--eta"),
        (["--optimizer", "adamm"], "unknown optimizer 'adamm'. Did you mean 'adam'"),
        (["--engine", "compilde"], "unknown engine 'compilde'. Did you mean 'compiled'"),
        (["--threads", 0], "Invalid value for .--threads"),
        (["--l2", -1], "Invalid value for .--l2"),
        (["--l2", "inf"], "--l2 must be a finite number"),
        (["--holdout", 1.5], "Invalid value for .--holdout"),
        (["--holdout", -0.1], "Invalid value for .--holdout"),
        (["--holdout", "nan"], "holdout"),
        (["--layers", "5,30,3"], "has 4 inputs and 3 classes; such as --layers 4,30,3"),
        (["--layers", "4,30,2"], "has 4 inputs and 3 classes"),
        (["--layers", "4"], "has 4 inputs and 3 classes"),
        (["--layers", "4,x,3"], "--layers must be sizes such as 784,30,10, got '4,x,3'"),
        (["--layers", ""], "has 4 inputs and 3 classes"),
        (["--layers", "4,0,3"], r"sizes\[1\] must be a whole number of at least 1"),
        (["--layers", "4,-5,3"], r"sizes\[1\] must be a whole number of at least 1"),
        (["extra"], "unexpected extra argument"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, list) else "",
)
def test_wrong_use(gpunet, folder, tmp_path, arguments, fragment):
    result = gpunet("train", folder / "train.npz", *arguments)
    result.wrong_use(fragment)
    assert result.out == ""
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["none.npz"], "none.npz"),
        (["none"], "none"),
        (["text.txt"], "text.txt.*Expected"),
        (["cut.npz"], "cut.npz.*not a whole .npz file"),
        (["empty.csv"], "empty"),
        (["ragged.csv"], "ragged.csv, line 3"),
        (["nan.csv"], "nan.csv, line 2"),
        (["emptyfolder"], "train-images-idx3-ubyte"),
        (["{folder}/unlabelled.npz"], "no labels to learn"),
        (["{folder}/unlabelled.csv"], "no labels to learn; name their column with --target"),
        (["{folder}/train.npz", "--target", "label"], "names a column of a .csv file"),
        (["{folder}/train.npz", "--test", "none.npz"], "none.npz"),
        (["{folder}/train.npz", "--test", "{folder}/narrow.npz"], "narrow.npz.* 3 "),
        (["{folder}/train.npz", "--test", "{folder}/unlabelled.npz"], "unlabelled.npz.*labels"),
        (["{folder}/train.npz", "--device", "cuda:9999"], "cuda:9999"),
    ],
    ids=lambda value: "-".join(value).replace("{folder}/", "") if isinstance(value, list) else "",
)
def test_data_that_can_not_be_read(gpunet, folder, tmp_path, arguments, fragment):
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "cut.npz").write_bytes((folder / "train.npz").read_bytes()[:500])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("a,b,label\n1,2,x\n1,x\n")
    (tmp_path / "nan.csv").write_text("a,b,label\n1,nan,x\n1,2,y\n")
    (tmp_path / "emptyfolder").mkdir()
    before = names(tmp_path)
    result = gpunet("train", *(argument.format(folder=folder) for argument in arguments))
    result.one_error(fragment)
    assert result.out == ""
    assert names(tmp_path) == before


def test_a_traceback_is_for_bugs_alone(shell, tmp_path):
    result = train(shell, "none.npz")
    result.one_error("none.npz: no such file")
