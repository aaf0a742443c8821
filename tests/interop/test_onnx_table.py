"""ONNX files of networks that take tables: columns in, predictions out, as `Preprocessing` has them."""

import numpy as np
import pytest

from gpunet import FileFormatError, InputError, Network
from gpunet.interop import to_onnx
from gpunet.preprocessing import Preprocessing


@pytest.fixture(scope="module", autouse=True)
def onnx(needed):
    return needed("onnx")


@pytest.fixture(scope="module")
def runtime(needed):
    return needed("onnxruntime")


@pytest.fixture(scope="module")
def table():
    """Columns of numbers, one far from zero, and of text; 60 rows."""
    rng = np.random.default_rng(0)
    return {
        "year": 1.7e9 + rng.normal(size=60),
        "colour": np.array(["red", "grün", "blue"], dtype=object)[rng.integers(0, 3, 60)],
        "size of it": rng.normal(size=60) * 100,
        "price": rng.normal(size=60) * 1000 + 5000,
        "kind": np.array(["käfer", "ant"], dtype=object)[rng.integers(0, 2, 60)],
    }


def fitted(table, target, dtype="float32", **options):
    """Return the preprocessing and a network that has it."""
    prepared = Preprocessing.fit(table, target, **options)
    output = {"activation": "tanh", "output_activation": "linear"} if prepared.task == "regression" else {}
    net = Network([prepared.n_in, 5, prepared.n_out], dtype=dtype, device="cpu", seed=1, **output)
    net.task = prepared.task
    net.metadata = {"preprocessing": prepared.to_json()}
    return prepared, net


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.onnx"


@pytest.fixture
def run(onnx, runtime, path):
    """Check the file, and run it on a table's columns."""

    def run(table, numbers=np.float64):
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        kinds = {entry.name: entry.type for entry in session.get_inputs()}
        columns = {}
        for name, kind in kinds.items():
            cells = np.array(table[name])
            columns[name] = (cells.astype(numbers) if "string" not in kind else cells)[:, None]
        found = dict(zip([o.name for o in session.get_outputs()], session.run(None, columns), strict=True))
        return kinds, found

    return run


@pytest.mark.parametrize("missing", ["error", "fill"])
def test_classes(table, path, run, close, dtype, missing):
    prepared, net = fitted(table, "kind", dtype, missing=missing)
    to_onnx(net, path)
    kinds, found = run(table)
    assert kinds == {
        "year": "tensor(double)",
        "colour": "tensor(string)",
        "size of it": "tensor(double)",
        "price": "tensor(double)",
    }
    outputs = net.outputs(prepared.inputs(table, dtype))
    close(found["outputs"], outputs)
    assert found["label"].tolist() == net.predict(prepared.inputs(table, dtype)).tolist()
    assert found["prediction"].tolist() == prepared.predictions(outputs).tolist()
    assert len(set(found["prediction"])) > 1


def test_numbers(table, path, run, close, dtype):
    prepared, net = fitted(table, "price", dtype)
    to_onnx(net, path)
    _, found = run(table)
    outputs = net.outputs(prepared.inputs(table, dtype))
    close(found["outputs"], outputs)
    assert set(found) == {"outputs", "prediction"}
    assert found["prediction"].dtype == np.float64
    np.testing.assert_allclose(found["prediction"], prepared.predictions(outputs), rtol=1e-5)


def test_what_is_missing_or_was_never_met(table, path, run, close):
    prepared, net = fitted(table, "kind", missing="fill")
    to_onnx(net, path)
    gaps = {name: column[:4].copy() for name, column in table.items()}
    gaps["year"][1] = np.nan
    gaps["colour"][:] = ["red", "", "violet", "blue"]
    _, found = run(gaps)
    asked = {**gaps, "colour": np.array(["red", None, None, "blue"], dtype=object)}
    close(found["outputs"], net.outputs(prepared.inputs(asked)))


def test_a_missing_number_shows_where_none_may_be_missing(table, path, run):
    _, net = fitted(table, "price")
    to_onnx(net, path)
    _, found = run({**table, "size of it": np.full(60, np.nan)})
    assert np.isnan(found["prediction"]).all()


def test_numbers_in_float32_where_asked_for(table, path, run, close):
    near = {name: column for name, column in table.items() if name != "year"}
    prepared, net = fitted(near, "kind")
    to_onnx(net, path, input_dtype="float32")
    kinds, found = run(near, np.float32)
    assert kinds["price"] == "tensor(float)"
    close(found["outputs"], net.outputs(prepared.inputs(near)))
    with pytest.raises(InputError, match="unknown input_dtype 'uint8'"):
        to_onnx(net, path, input_dtype="uint8")


def test_without_a_target(table, path, run, close):
    prepared, net = fitted(table, "kind")
    prepared = Preprocessing(prepared.columns)
    net.metadata = {"preprocessing": prepared.to_json()}
    to_onnx(net, path)
    _, found = run(table)
    assert set(found) == {"outputs", "label"}
    close(found["outputs"], net.outputs(prepared.inputs(table)))


@pytest.mark.parametrize("name", ["outputs", "label", "prediction", "weights.1", "a.1", "table.mean"])
def test_columns_whose_names_are_taken(table, path, name):
    _, net = fitted({name: table["year"], "kind": table["kind"]}, "kind")
    with pytest.raises(InputError, match=f"the column '{name}' can not be an input by that name; rename it"):
        to_onnx(net, path)
    assert not path.exists()


@pytest.mark.parametrize("name", ["inputs", "mean", "std", "N", "a b", "ü", "0"])
def test_columns_of_any_other_name(table, path, run, name):
    given = {name: table["year"], "kind": table["kind"]}
    prepared, net = fitted(given, "kind")
    to_onnx(net, path)
    _, found = run(given)
    assert found["label"].tolist() == net.predict(prepared.inputs(given)).tolist()


def test_preprocessing_of_another_network(table, path):
    _, net = fitted(table, "kind")
    other = Network([4, 2], device="cpu")
    other.metadata = net.metadata
    with pytest.raises(FileFormatError, match="is for 6 inputs and 2 outputs, the network has 4 and 2"):
        to_onnx(other, path)
    net.task = "regression"
    with pytest.raises(InputError, match="is for classification, the network for regression"):
        to_onnx(net, path)
    net.metadata = {"preprocessing": {"columns": 5}}
    with pytest.raises(FileFormatError, match="the model's preprocessing is damaged"):
        to_onnx(net, path)


def test_what_the_commands_make_of_a_table(tmp_path, monkeypatch, runtime, capsys):
    import sys

    from gpunet.cli import commands

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [
        f"{rng.normal():.6f},{colour},{kind}" for kind, colour in zip("ab" * 40, ["red", "blue"] * 40, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["size,colour,kind", *rows]) + "\n")

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpunet", *arguments])
        with pytest.raises(SystemExit) as stop:
            commands.main()
        assert not stop.value.code

    command("train", "t.csv", "--target", "kind", "--seed", "1", "--epochs", "30", "-o", "m.safetensors")
    command("export", "m.safetensors", "m.onnx")
    net = Network.load("m.safetensors", device="cpu")
    prepared = Preprocessing.from_json(net.metadata["preprocessing"])
    cells = [row.split(",") for row in rows]
    table = {
        "size": np.array([float(c[0]) for c in cells]),
        "colour": np.array([c[1] for c in cells], dtype=object),
    }
    session = runtime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["prediction"], {name: column[:, None] for name, column in table.items()})
    assert found.tolist() == prepared.predictions(net.outputs(prepared.inputs(table))).tolist()
    assert set(found) == {"a", "b"}
