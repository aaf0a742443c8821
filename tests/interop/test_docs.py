"""What docs/model-format.md and docs/interop.md say: their programs run, and their promises hold."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import gpunet.interop
from gpunet import FileFormatError, Network
from gpunet import model_file as module
from gpunet.activations import BUILT_IN

DOCS = Path(__file__).resolve().parents[2] / "docs"

#: Written by gpunet 0.1.0; never to be written anew.
VERSION_1 = Path(__file__).parent / "version-1.model"
ROWS = np.array([[0, 255, 3], [17, 4, 200]], np.uint8)
OUTPUTS_OF_VERSION_1 = [[0.10996687775793784, 0.8900331222420622], [0.1151538614344004, 0.8848461385655996]]


KEYS_OF_METADATA = {"classes", "target", "features", "preprocessing", "run"}


def blocks(name):
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text(), flags=re.DOTALL)


# -- The format ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    """The documented reader."""
    (block,) = blocks("model-format.md")
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    names = {}
    exec(compile(block, "model-format.md", "exec"), names)
    assert "gpunet" not in re.findall(r"^(?:import|from) (\w+)", block, flags=re.MULTILINE)
    return names["outputs"]


def test_the_documented_reader(reader, net, rows, tmp_path, close):
    path = tmp_path / "model.safetensors"
    net.save(path)
    if not {f.name for f in net.activations} <= {"sigmoid", "tanh", "relu", "linear", "softmax"}:
        with pytest.raises((KeyError, TypeError)):  # it refuses what it does not know
            reader(path, rows)
        return
    found = reader(path, rows)
    close(found, net.outputs(rows))
    if net.task == "classification":
        assert np.array_equal(found.argmax(axis=1) if found.shape[1] > 1 else found[:, 0] > 0.5, net.predict(rows))


def test_every_field_is_documented(tmp_path):
    net = Network([3, 2, 4], device="cpu")
    net.save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        entries = file.metadata()
    assert set(entries) == {"gpunet"}
    text = (DOCS / "model-format.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) - KEYS_OF_METADATA
    fields = set(json.loads(entries["gpunet"]))
    assert fields == {"version", *module._FIELDS}
    assert documented == fields | set(BUILT_IN)
    names = re.search(r"An activation is a name, (.*?), or that", text, flags=re.DOTALL)[1]
    assert set(re.findall(r'"(\w+)"', names)) == set(BUILT_IN)


def test_the_metadata_of_a_table_is_documented(tmp_path, monkeypatch, capsys):
    import sys

    from gpunet.cli import commands

    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b,kind\n" + "1.5,red,x\n2.5,blue,y\n" * 10)
    monkeypatch.setattr(
        sys, "argv", ["gpunet", "train", "t.csv", "--target", "kind", "--epochs", "1", "-o", "m.safetensors"]
    )
    with pytest.raises(SystemExit):
        commands.main()
    metadata = Network.load("m.safetensors", device="cpu").metadata
    assert set(metadata) == KEYS_OF_METADATA
    text = (DOCS / "model-format.md").read_text()
    prepared = metadata["preprocessing"]
    for thing in (prepared, prepared["target"], *prepared["columns"]):
        assert all(f"`{key}`" in text or f'"{key}"' in text for key in thing)


def test_the_refusal_of_a_newer_version_is_as_documented(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"anything": np.ones(1, "f4")}, path, metadata={"gpunet": json.dumps({"version": module.VERSION + 1})})
    with pytest.raises(FileFormatError) as caught:
        Network.load(path, device="cpu")
    message = str(caught.value).partition(": ")[2].removesuffix(".")
    text = " ".join((DOCS / "model-format.md").read_text().split())
    assert f'"{message}"' in text


def test_unknown_fields_and_entries_are_left_out(tmp_path):
    path = tmp_path / "model.safetensors"
    net = Network([3, 2], device="cpu")
    net.save(path)
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["gpunet"])
    more = {"gpunet": json.dumps({**description, "colour": "blue"}), "other": "entry"}
    save_file(load_file(path), path, metadata=more)
    assert np.array_equal(Network.load(path, device="cpu").weights[0], net.weights[0])


def test_a_file_of_the_first_version_is_read_for_ever():
    net = Network.load(VERSION_1, device="cpu")
    assert (net.sizes, net.dtype, net.input_scale, net.task) == ([3, 4, 2], "float32", 1 / 255, "classification")
    assert [f.name for f in net.activations] == ["mixed", "softmax"]
    assert net.cost.name == "log-likelihood"
    assert net.metadata == {"classes": ["ant", "bee"], "target": None, "features": ["a", "b", "c"]}
    np.testing.assert_allclose(net.outputs(ROWS), OUTPUTS_OF_VERSION_1, atol=1e-6)


# -- To and from other libraries -----------------------------------------------------------------------------


def test_the_examples(needed, tmp_path, monkeypatch):
    for library in ("onnx", "onnxruntime", "torch", "sklearn"):
        needed(library)
    monkeypatch.chdir(tmp_path)
    names = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=needed("sklearn.exceptions").ConvergenceWarning)
        for number, block in enumerate(blocks("interop.md")):
            exec(compile(block, f"interop.md, example {number}", "exec"), names)
    assert {"module", "again", "session"} <= set(names)


def test_the_commands(needed, tmp_path, monkeypatch):
    import sys

    from gpunet.cli import commands

    needed("onnx")
    monkeypatch.chdir(tmp_path)
    Network([3, 2], device="cpu").save("light.safetensors")
    lines = re.findall(r"`gpunet (export [^`]+)`", (DOCS / "interop.md").read_text())
    assert len(lines) == 2
    for command in lines:
        monkeypatch.setattr(sys, "argv", ["gpunet", *command.split()])
        with pytest.raises(SystemExit) as stop:
            commands.main()
        assert not stop.value.code
        assert (tmp_path / command.split()[2]).exists()


def test_every_function_is_documented():
    text = (DOCS / "interop.md").read_text()
    assert all(f"`{name}(" in text for name in gpunet.interop.__all__)
