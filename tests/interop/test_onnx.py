"""ONNX files: onnxruntime makes of them what the network makes of its inputs."""

import json
import os

import numpy as np
import pytest

import gpunet
from gpunet import Activation, GpunetError, InputError, Network
from gpunet.activations import BUILT_IN
from gpunet.interop import onnx as module
from gpunet.interop import to_onnx
from gpunet.interop.onnx_graph import Graph

SOFTSIGN = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)


@pytest.fixture(scope="module", autouse=True)
def onnx(needed):
    return needed("onnx")


@pytest.fixture(scope="module")
def runtime(needed):
    return needed("onnxruntime")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.onnx"


@pytest.fixture
def run(onnx, runtime, path):
    """Check the file, run it with onnxruntime and return its outputs by their names."""

    def run(X):
        onnx.checker.check_model(onnx.load(path), full_check=True)
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, {"inputs": X}), strict=True))

    return run


def small(**options):
    return Network([4, 5, 3], device="cpu", seed=0, **options)


def test_it_computes_the_same(net, rows, path, run, close):
    to_onnx(net, path)
    found = run(rows)
    close(found["outputs"], net.outputs(rows))
    assert found["outputs"].dtype == net.dtype
    if net.task == "classification":
        assert found["label"].dtype == np.int64
        assert np.array_equal(found["label"], net.predict(rows))
        assert len(set(found["label"])) > 1
    else:
        assert set(found) == {"outputs"}


def test_each_activation(activation_net, rows, path, run, close):
    to_onnx(activation_net, path)
    close(run(rows)["outputs"], activation_net.outputs(rows))


def test_every_built_in_activation_has_an_operator():
    assert set(BUILT_IN) <= set(module.OPERATORS)
    assert set(module.IN_FLOAT64) <= set(module.OPERATORS)


@pytest.mark.parametrize("name", sorted(module.OPERATORS))
def test_operators_are_pytorchs(name, dtype, onnx, runtime, torch):
    """Those too that have a form of their own for float64."""
    from gpunet.interop.torch_layers import MODULES, kind

    g = Graph(onnx, dtype)
    builder = module.IN_FLOAT64.get(name) if dtype == "float64" else None
    (builder or module.OPERATORS[name])(g, "z")
    g.output("a", dtype, 2)
    g.input("z", dtype, 2)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(g.nodes, name, g.inputs, g.outputs, list(g.constants.values())),
        opset_imports=[onnx.helper.make_opsetid("", module.OPSET)],
        ir_version=module.IR_VERSION,
    )
    rows = np.concatenate([np.linspace(-800, 800, 1601), np.linspace(-4, 4, 1601)]).reshape(-1, 2).astype(dtype)
    found = runtime.InferenceSession(model.SerializeToString()).run(None, {"z": rows})[0]
    twin = MODULES[name]
    theirs = kind(torch, twin)(**{key: values[0] for key, values in twin.attributes.items()})
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(found, theirs(torch.from_numpy(rows)).numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_any_number_of_rows(n, path, run):
    to_onnx(small(), path)
    found = run(np.ones((n, 4), np.float32))
    assert found["outputs"].shape == (n, 3)
    assert found["label"].shape == (n,)


@pytest.mark.parametrize("input_dtype", ["uint8", "float32", "float64"])
def test_inputs_of_another_dtype(input_dtype, dtype, path, run, close):
    net = small(input_scale=1 / 255, dtype=dtype)
    X = np.random.default_rng(0).integers(0, 256, (20, 4)).astype(input_dtype)
    to_onnx(net, path, input_dtype=input_dtype)
    close(run(X)["outputs"], net.outputs(X))


def test_a_graph_of_another_dtype(path, run):
    net = small(dtype="float64")
    X = np.random.default_rng(0).normal(size=(20, 4))
    to_onnx(net, path, dtype="float32")
    found = run(X.astype(np.float32))["outputs"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, net.outputs(X), atol=1e-6)


def test_what_a_reader_finds_in_the_file(onnx, path):
    net = small()
    net.metadata = {"classes": ["ant", "bee", "käfer"], "notes": {"a": [1, None]}, "target": "species"}
    to_onnx(net, path)
    model = onnx.load(path)
    assert {entry.key: json.loads(entry.value) for entry in model.metadata_props} == net.metadata
    assert (model.producer_name, model.producer_version) == ("gpunet", gpunet.__version__)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value) == ("N", 4)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert np.array_equal(arrays["weights.2"], net.weights[1])
    assert np.array_equal(arrays["biases.1"], net.biases[0].ravel())


def test_a_half_is_no_yes(path, run):
    net = Network([1, 1], device="cpu", dtype="float64")
    net.weights, net.biases = [[[1.0]]], [[[0.0]]]
    to_onnx(net, path)
    X = np.array([[-1.0], [0.0], [1.0]])
    assert run(X)["label"].tolist() == net.predict(X).tolist() == [0, 0, 1]


def test_of_equal_outputs_the_first_is_the_label(path, run):
    net = small()
    net.weights = [w * 0 for w in net.weights]
    net.biases = [b * 0 for b in net.biases]
    to_onnx(net, path)
    X = np.ones((2, 4), np.float32)
    assert run(X)["label"].tolist() == net.predict(X).tolist() == [0, 0]


def test_the_task_of_the_training_decides(path, run):
    net = Network([4, 3], activation="linear", device="cpu", seed=0)
    net.fit(np.eye(4), [0, 1, 2, 0], epochs=1, batch_size=4)
    to_onnx(net, path)
    assert run(np.eye(4, dtype=np.float32))["label"].tolist() == net.predict(np.eye(4)).tolist()


def test_an_existing_file_is_replaced_and_nothing_else_left(path, run):
    path.write_text("old")
    to_onnx(small(), str(path))
    assert run(np.ones((1, 4), np.float32))
    assert os.listdir(path.parent) == [path.name]


def test_a_network_that_was_pickled(path, run, rows, close):
    import copy

    net = copy.deepcopy(small())
    to_onnx(net, path)
    close(run(rows[:, :4].astype(np.float32))["outputs"], net.outputs(rows[:, :4]))


@pytest.mark.parametrize(
    ("options", "arguments", "fragment"),
    [
        ({"activation": [SOFTSIGN, "tanh"]}, {}, "'softsign' is not built in, and ONNX knows nothing of it.*sigmoid"),
        ({"activation": [gpunet.mixed("tanh", {1: SOFTSIGN}), "tanh"]}, {}, "'softsign' is not built in"),
        ({}, {"dtype": "float16"}, "unknown dtype 'float16'"),
        ({}, {"input_dtype": "uint16"}, "unknown input_dtype 'uint16'.*'uint8'"),
    ],
    ids=range(4),
)
def test_what_can_not_be_exported(options, arguments, fragment, path):
    with pytest.raises(InputError, match=fragment):
        to_onnx(small(**options), path, **arguments)
    assert not path.exists()


def test_parameters_that_do_not_fit(path):
    net = small(dtype="float64")
    net.weights[1] = net.weights[1] * 0 + 1e300
    with pytest.raises(InputError, match=r"weights.2 has values that float32 can not hold"):
        to_onnx(net, path, dtype="float32")
    net.weights[1][0, 0] = np.nan
    with pytest.raises(InputError, match="layer 2 of the network holds NaN"):
        to_onnx(net, path)


def test_a_file_of_2_GiB_is_refused_before_it_is_made(path, monkeypatch):
    net = small()
    monkeypatch.setattr(module, "_LARGEST_FILE", 100)
    with pytest.raises(InputError, match="GiB; an ONNX file holds less than 2"):
        to_onnx(net, path)


def test_metadata_that_json_can_not_hold(path):
    net = small()
    net.metadata = {"x": {1, 2}}
    with pytest.raises(InputError, match="metadata must be ready for JSON"):
        to_onnx(net, path)


@pytest.mark.parametrize("thing", ["model.safetensors", None, 5])
def test_what_is_no_network(thing, path):
    with pytest.raises(InputError, match=r"a gpunet\.Network is needed, got .*Network\.load"):
        to_onnx(thing, path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="make it first"):
        to_onnx(small(), tmp_path / "none" / "x.onnx")


def test_without_onnx(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(GpunetError, match=r"needs onnx, which is not installed: pip install 'gpunet\[onnx\]'"):
        to_onnx(small(), path)
