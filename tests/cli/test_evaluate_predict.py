"""gpunet evaluate, predict and doctor, and what holds for every command."""

import json
import re

import numpy as np
import pytest

import gpunet as package
from gpunet import Network
from gpunet.preprocessing import Preprocessing


@pytest.fixture
def evaluate(gpunet):
    return lambda *arguments: gpunet("evaluate", *arguments, "--device", "cpu")


@pytest.fixture
def predict(gpunet):
    return lambda *arguments: gpunet("predict", *arguments, "--device", "cpu")


NAMES = np.array(["ant", "bee", "cat"])


def by_name(path, X):
    """Predict labels from Python, with the preprocessing in the model's metadata."""
    net = Network.load(path, device="cpu")
    prepared = Preprocessing.from_json(net.metadata["preprocessing"])
    table = {f"x{i}": X[:, i] for i in range(X.shape[1])}
    return prepared.predictions(net.outputs(prepared.inputs(table)))


# -- As Python does it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["data.npz", "test.npz"])
def test_evaluate_agrees_with_python(evaluate, model, folder, blobs, name):
    net = Network.load(model, device="cpu")
    score = net.score(blobs[0][100:], blobs[1][100:])
    result = evaluate(model, folder / name)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{round(score * 50)} / 50 correct ({score:.2%}), F1 ")
    (event,) = evaluate(model, folder / name, "--json").events
    auc, f1 = event.pop("auc"), event.pop("f1")
    assert result.out.endswith(f", F1 {f1:.4f}, AUC {auc:.4f}\n")
    assert event == {"event": "evaluation", "accuracy": score, "correct": round(score * 50), "examples": 50}


@pytest.mark.parametrize("name", ["data.npz", "test.npz", "unlabelled.npz", "unlabelled.csv"])
def test_predict_agrees_with_python(predict, model, folder, blobs, name):
    net = Network.load(model, device="cpu")
    result = predict(model, folder / name)
    assert (result.code, result.err) == (0, "")
    assert [int(line) for line in result.out.splitlines()] == net.predict(blobs[0][100:]).tolist()
    events = predict(model, folder / name, "--json").events
    assert [int(event["label"]) for event in events] == net.predict(blobs[0][100:]).tolist()
    assert np.allclose([event["outputs"] for event in events], net.outputs(blobs[0][100:]), rtol=0, atol=1e-7)


def test_the_test_part_of_idx_files(gpunet, evaluate, folder):
    assert (
        gpunet("train", folder / "idx", "--epochs", 20, "--seed", 1, "-o", "m.safetensors", "--device", "cpu").code
        == 0
    )
    assert re.match(r"\d+ / 50 correct", evaluate("m.safetensors", folder / "idx").out)
    images = folder / "idx" / "train-images-idx3-ubyte"
    assert re.match(r"\d+ / 100 correct", evaluate("m.safetensors", images).out)


# -- Names of classes ----------------------------------------------------------------------------------------


def test_predict_gives_the_names_back(predict, named_model, folder, blobs):
    wanted = by_name(named_model, blobs[0][100:]).tolist()
    assert predict(named_model, folder / "test.csv").out.splitlines() == ["prediction", *wanted]
    assert predict(named_model, folder / "unlabelled.csv").out.splitlines() == ["prediction", *wanted]
    assert predict(named_model, folder / "unlabelled.npz").out.splitlines() == wanted
    assert [e["label"] for e in predict(named_model, folder / "test.csv", "--json").events] == wanted
    assert np.mean(np.array(wanted) == NAMES[blobs[1][100:]]) > 0.9


def test_evaluate_takes_classes_by_name(evaluate, named_model, folder, blobs, tmp_path, write_csv):
    X, y = blobs
    predicted = by_name(named_model, X)
    for rows in (range(149, -1, -1), [i for i in range(150) if y[i] != 0], [i for i in range(150) if y[i] == 2]):
        data = write_csv(tmp_path / "some.csv", X, NAMES[y], "label", order=rows)
        (event,) = evaluate(named_model, data, "--json").events
        assert event["correct"] == sum(int(predicted[i] == NAMES[y[i]]) for i in rows)
        assert event["examples"] == len(rows)


def test_number_labels_are_names_too(gpunet, evaluate, predict, blobs, tmp_path, write_csv):
    """Labels 10, 20, 30 are no indices; a file that lacks one still means the same classes."""
    X, y = blobs
    data = write_csv(tmp_path / "d.csv", X, 10 * (y + 1), "label")
    assert gpunet("train", data, "--epochs", 20, "--seed", 1, "-o", "m.safetensors", "--device", "cpu").code == 0
    assert set(predict("m.safetensors", data).out.split()) == {"prediction", "10", "20", "30"}
    some = write_csv(tmp_path / "s.csv", X, 10 * (y + 1), "label", order=[i for i in range(150) if y[i] > 0])
    assert evaluate("m.safetensors", some, "--json").events[0]["accuracy"] > 0.9


def test_index_labels_of_which_a_file_lacks_one(evaluate, model, blobs, tmp_path, write_csv):
    X, y = blobs
    data = write_csv(tmp_path / "s.csv", X, y, "label", order=[i for i in range(150) if y[i] != 1])
    assert evaluate(model, data, "--json").events[0]["accuracy"] > 0.9


def test_an_unknown_class(evaluate, predict, named_model, blobs, tmp_path, write_csv):
    data = write_csv(tmp_path / "cow.csv", blobs[0][:3], ["ant", "cow", "bee"], "label")
    evaluate(named_model, data).one_error("cow.csv has the label 'cow'.*'ant', 'bee', 'cat'")
    assert len(predict(named_model, data).out.splitlines()) == 1 + 3  # labels are not needed, so not in the way


def test_labels_of_numbers_beyond_the_model(evaluate, model, blobs, tmp_path):
    np.savez(tmp_path / "far.npz", X=blobs[0][:3], y=[0, 1, 7])
    evaluate(model, tmp_path / "far.npz").one_error("7")


def test_numbers_for_a_model_with_names(evaluate, named_model, folder):
    evaluate(named_model, folder / "test.npz").one_error("label '0'.*'ant', 'bee', 'cat'")


def test_a_target_column_by_name(gpunet, evaluate, predict, folder, blobs):
    assert (
        gpunet(
            "train",
            folder / "species.csv",
            "--target",
            "species",
            "--epochs",
            20,
            "--seed",
            1,
            "-o",
            "m.safetensors",
            "--device",
            "cpu",
        ).code
        == 0
    )
    for command in (evaluate, predict):
        assert command("m.safetensors", folder / "species.csv", "--target", "species").code == 0
    assert len(predict("m.safetensors", folder / "unlabelled.csv").out.splitlines()) == 1 + 50


def test_the_models_target_column_needs_no_telling(gpunet, evaluate, predict, folder, blobs):
    """The model's file holds the name of the column that it was trained on."""
    gpunet(
        "train",
        folder / "species.csv",
        "--target",
        "species",
        "--epochs",
        20,
        "--seed",
        1,
        "-o",
        "m.safetensors",
        "--device",
        "cpu",
    )
    wanted = predict("m.safetensors", folder / "species.csv", "--target", "species").out
    assert len(wanted.splitlines()) == 1 + 150
    result = predict("m.safetensors", folder / "species.csv")
    assert result.out == wanted, result.err
    assert evaluate("m.safetensors", folder / "species.csv").code == 0


def test_a_model_that_python_saved_without_names(evaluate, predict, folder, blobs, tmp_path):
    net = Network([4, 5, 3], seed=0, device="cpu")
    net.fit(*blobs, epochs=5)
    net.save(tmp_path / "python.safetensors")
    assert set(predict("python.safetensors", folder / "test.npz").out.split()) <= {"0", "1", "2"}
    assert evaluate("python.safetensors", folder / "test.npz").code == 0


@pytest.mark.parametrize("classes", [5, ["a"], [1, 2, 3], None, {"a": 1}, ["a", "a", "a"]])
def test_metadata_of_any_kind(evaluate, predict, folder, blobs, tmp_path, classes):
    net = Network([4, 5, 3], seed=0, device="cpu")
    net.metadata = {"classes": classes, "target": 7}
    net.save(tmp_path / "odd.safetensors")
    for result in (predict("odd.safetensors", folder / "test.npz"), evaluate("odd.safetensors", folder / "test.npz")):
        assert result.code in (0, 1)
        assert "Traceback" not in result.err


def test_a_model_of_one_output(evaluate, predict, blobs, tmp_path):
    X, y = blobs[0], (blobs[1] == 1).astype(int)
    net = Network([4, 5, 1], seed=0, device="cpu", cost="cross-entropy")
    net.fit(X, y, epochs=10)
    net.save(tmp_path / "yes.safetensors")
    np.savez(tmp_path / "yes.npz", X=X, y=y)
    assert [int(line) for line in predict("yes.safetensors", "yes.npz").out.split()] == net.predict(X).tolist()
    assert evaluate("yes.safetensors", "yes.npz", "--json").events[0]["accuracy"] == net.score(X, y)


def test_a_regression_is_no_matter_of_classes(evaluate, predict, blobs, tmp_path):
    """Numbers or a refusal in plain words: never a traceback, never a wrong "correct"."""
    X = blobs[0]
    net = Network([4, 2], activation="linear", seed=0, device="cpu")
    net.fit(X, X[:, :2], epochs=5, eta=0.05)
    net.save(tmp_path / "r.safetensors")
    np.savez(tmp_path / "r.npz", X=X, y=np.arange(150) % 2)
    for result in (predict("r.safetensors", "r.npz"), evaluate("r.safetensors", "r.npz")):
        assert "correct" not in result.out
        if result.code:
            result.one_error("regression")
        else:
            assert np.allclose(np.loadtxt(result.out.splitlines(), delimiter=","), net.predict(X), atol=1e-6)


# -- What can not be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["none.safetensors", "{folder}/test.npz"], "none.safetensors: there is no such file"),
        (["cut.safetensors", "{folder}/test.npz"], "cut.safetensors: not a whole model file"),
        (["{folder}/test.npz", "{folder}/test.npz"], "test.npz: not a whole model file"),
        (["{folder}", "{folder}/test.npz"], "."),
        (["{model}", "none.npz"], "none.npz: no such file"),
        (["{model}", "cut.npz"], "cut.npz: not a whole .npz file"),
        (["{model}", "{model}"], "model.safetensors"),
        (["{model}", "{folder}/narrow.npz"], "3 (columns|inputs).* 4"),
        (["{model}", "{folder}/test.npz", "--target", "label"], "names a column of a .csv file"),
    ],
)
def test_files_that_can_not_be_read(gpunet, folder, model, tmp_path, command, arguments, fragment):
    (tmp_path / "cut.safetensors").write_bytes(model.read_bytes()[:300])
    (tmp_path / "cut.npz").write_bytes((folder / "test.npz").read_bytes()[:300])
    filled = [argument.format(folder=folder, model=model) for argument in arguments]
    result = gpunet(command, *filled, "--device", "cpu")
    result.one_error(fragment)
    assert result.out == ""


def test_evaluate_needs_labels(evaluate, model, folder):
    for name in ("unlabelled.npz", "unlabelled.csv"):
        evaluate(model, folder / name).one_error(f"{name} has no labels to compare with; .*--target, or use predict")


def test_as_a_process(shell, model, folder):
    result = shell("evaluate", model, folder / "test.npz", "--device", "cpu")
    assert re.fullmatch(r"\d+ / 50 correct \(\d+\.\d\d%\), F1 \d\.\d{4}, AUC \d\.\d{4}\n", result.out)
    assert result.err == ""
    shell("evaluate", "none", folder / "test.npz", "--device", "cpu").one_error("none: there is no such file")
    assert shell("predict", model, folder / "test.npz", "--device", "cpu").out.count("\n") == 50


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["trian"], "No such command 'trian'.*train"),
        (["evaluate"], "Missing argument 'MODEL'|Missing argument.*model"),
        (["predict", "m.safetensors"], "Missing argument"),
        (["predict", "m", "d", "--devise", "cpu"], "No such option.*--devise.*--device"),
        (["evaluate", "{model}", "{folder}/test.npz", "--device", "gpu"], "unknown device 'gpu'"),
        (["doctor", "--jsn"], "No such option.*--json"),
        (["--nothing"], "No such option"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_use(gpunet, folder, model, arguments, fragment):
    gpunet(*(a.format(folder=folder, model=model) for a in arguments)).wrong_use(f"(?i){fragment}")


# -- The rest ------------------------------------------------------------------------------------------------


def test_doctor(gpunet):
    result = gpunet("doctor")
    assert result.code == 0
    assert f"gpunet {package.__version__}" in result.out
    assert 'device="auto" uses: ' in result.out


def test_doctor_json(shell):
    result = shell("doctor", "--json")
    assert result.code == 0
    (found,) = result.events
    assert found["packages"]["numpy"] == np.__version__
    assert "device" in found


def test_version_and_help(gpunet):
    result = gpunet("--version")
    assert (result.code, result.out) == (0, f"gpunet {package.__version__}\n")
    for command in ("train", "evaluate", "predict", "doctor"):
        result = gpunet(command, "--help")
        assert result.code == 0
        assert "--json" in result.out
        assert command in gpunet("--help").out


def test_nothing_at_all_gives_the_help(gpunet):
    result = gpunet()
    assert "train" in result.out + result.err
    assert "predict" in result.out + result.err


def test_json_is_one_object_a_line(predict, model, folder):
    lines = predict(model, folder / "test.npz", "--json").out.splitlines()
    assert len(lines) == 50
    assert all(set(json.loads(line)) == {"label", "outputs"} for line in lines)
