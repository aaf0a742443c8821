"""gpunet export: files as the functions write them, and wrong use told in plain words."""

import re
import sys

import numpy as np
import pytest

from gpunet import Activation, Network
from gpunet.cli import commands
from gpunet.interop import from_torch


@pytest.fixture
def model(tmp_path):
    net = Network([4, 5, 3], device="cpu", seed=0)
    net.metadata = {"classes": ["ant", "bee", "cat"]}
    net.save(tmp_path / "model.safetensors")
    return net


@pytest.fixture
def export(tmp_path, monkeypatch, capsys, model):
    """Run the command in a folder that has model.safetensors; return its exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gpunet", "export", *map(str, arguments)])
        code = 0
        try:
            commands.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert not out
        return code, re.sub(r"[\s│╭╮╰╯─]+", " ", err)

    return run


def refused(result, code, fragment):
    assert result[0] == code, result
    assert re.search(fragment, result[1]), result[1]
    assert "Traceback" not in result[1]


def test_onnx(export, model, needed):
    needed("onnx")
    runtime = needed("onnxruntime")
    assert export("model.safetensors", "model.onnx") == (0, "saved model.onnx ")
    session = runtime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    X = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    outputs, label = session.run(None, {"inputs": X})
    np.testing.assert_allclose(outputs, model.outputs(X), atol=1e-6)
    assert np.array_equal(label, model.predict(X))
    assert session.get_modelmeta().custom_metadata_map == {"classes": '["ant", "bee", "cat"]'}


def test_onnx_of_other_dtypes(export, needed):
    needed("onnx")
    runtime = needed("onnxruntime")
    assert export("model.safetensors", "m.ONNX", "--dtype", "float64", "--input-dtype", "uint8")[0] == 0
    session = runtime.InferenceSession("m.ONNX", providers=["CPUExecutionProvider"])
    assert [x.type for x in (*session.get_inputs(), *session.get_outputs())] == [
        "tensor(uint8)",
        "tensor(double)",
        "tensor(int64)",
    ]


def test_a_state_dict_for_pytorch(export, model, same_parameters):
    from safetensors.numpy import load_file

    assert export("model.safetensors", "torch.safetensors") == (0, "saved torch.safetensors ")
    again = from_torch(load_file("torch.safetensors"), activations=model.activations, device="cpu")
    assert same_parameters(again, model)


def test_the_scale_is_told(export):
    Network([2, 1], device="cpu", input_scale=1 / 256).save("scaled.safetensors")
    code, err = export("scaled.safetensors", "torch.safetensors")
    assert (code, err) == (
        0,
        "note: inputs are to be multiplied by 0.00390625 before the first layer saved torch.safetensors ",
    )


def test_preprocessing_is_told(export):
    net = Network([2, 1], device="cpu")
    net.metadata = {"preprocessing": {"columns": []}}
    net.save("table.safetensors")
    code, err = export("table.safetensors", "torch.safetensors")
    assert (code, err.partition(" saved")[0]) == (
        0,
        "note: inputs are a table's columns after gpunet's preprocessing, not as they stand",
    )


def test_an_existing_file_is_kept_unless_forced(export, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_text("precious")
    refused(export("model.safetensors", out), 2, "out.safetensors exists; name another file, or pass --force")
    assert out.read_text() == "precious"
    assert export("model.safetensors", out, "--force")[0] == 0
    assert len(out.read_bytes()) > 100


def test_the_model_is_never_replaced(export, tmp_path, same_parameters, model):
    (tmp_path / "link.safetensors").symlink_to("model.safetensors")
    for name in ("model.safetensors", "link.safetensors"):
        refused(export("model.safetensors", name, "--force"), 2, f"{name} is the model itself; name another")
    assert same_parameters(Network.load("model.safetensors", device="cpu"), model)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["out.pt"], r"such files are pickles.*out\.safetensors is for PyTorch too"),
        (["out.pth"], "such files are pickles"),
        (["out.h5"], r"out\.h5: the name must end in \.onnx, or in \.safetensors for a PyTorch state dict"),
        (["out"], r"out: the name must end in \.onnx"),
        (["none/out.onnx"], "none/out.onnx: there is no folder .*make it first"),
        (["folder.onnx"], "folder.onnx: is a folder; name a file in it"),
        (["out.onnx", "--dtype", "float16"], "unknown --dtype 'float16'"),
        (["out.onnx", "--input-dtype", "unit8"], "unknown --input-dtype 'unit8'. Did you mean 'uint8'"),
        (["out.safetensors", "--dtype", "float32"], "--dtype and --input-dtype are for ONNX files"),
        ([], "Missing argument 'OUT'"),
    ],
    ids=range(10),
)
def test_wrong_use(export, tmp_path, arguments, fragment):
    (tmp_path / "folder.onnx").mkdir()
    before = sorted(tmp_path.iterdir())
    refused(export("model.safetensors", *arguments), 2, fragment)
    assert sorted(tmp_path.iterdir()) == before


def test_no_model(export, tmp_path):
    refused(export("none.safetensors", "out.onnx"), 1, "error: none.safetensors: there is no such file")
    (tmp_path / "text.safetensors").write_text("text")
    refused(export("text.safetensors", "out.onnx"), 1, "text.safetensors: not a whole model file")


def test_an_activation_of_ones_own(export):
    own = Activation("own", lambda z, xp: z * 2, lambda z, xp: xp.ones_like(z) * 2)
    Network([2, 1], activation=own, device="cpu").save("own.safetensors")
    refused(export("own.safetensors", "out.onnx"), 1, "unknown activation 'own'")


def test_without_onnx(export, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = export("model.safetensors", "out.onnx")
    refused(result, 1, r"error: an ONNX file needs onnx, which is not installed: pip install 'gpunet\[onnx\]'")
    assert not (tmp_path / "out.onnx").exists()


def test_it_loads_no_library_that_it_does_not_need():
    import subprocess

    program = "import sys, gpunet.interop; print({'torch', 'onnx', 'sklearn', 'cupy'} & {*sys.modules})"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout == "set()\n"
