"""Model files: what goes in comes out; written whole or not at all; damage is told in plain words."""

import errno
import json
import os
import struct
from itertools import pairwise

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from gpunet import Activation, Cost, FileFormatError, InputError, Network, mixed
from gpunet import model_file as module
from gpunet.activations import LeakyReLU, to_json
from gpunet.costs import CrossEntropy, Huber, LogLikelihood, Quantile


def small(sizes=(4, 5, 3), seed=0, **options):
    return Network(list(sizes), device="cpu", seed=seed, **options)


def parameters(net):
    return [*net.weights, *net.biases]


def same(one, other):
    return all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(parameters(one), parameters(other), strict=True)
    )


SOFTSIGN = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)
DOUBLE = Cost("double", lambda a, y, xp: xp.sum((a - y) ** 2, axis=0), lambda a, y, xp: 2 * (a - y))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(path):
    small().save(path)
    return path


def only(path):
    """Whether nothing else lies beside the file."""
    return [p.name for p in path.parent.iterdir()] == [path.name]


# -- Round trip ----------------------------------------------------------------------------------------------


def test_constants_are_written_only_where_they_are_not_the_usual_ones(path):
    """So that other models can be read by a gpunet from before there were any."""

    def written(**options):
        small(**options).save(path)
        with safe_open(path, framework="numpy") as file:
            described = json.loads(file.metadata()["gpunet"])
        return described["activations"][0], described["cost"]

    assert written(activation=["leaky_relu", "linear"], cost="huber") == ("leaky_relu", "huber")
    own = written(activation=[LeakyReLU(0.2), "linear"], cost=Quantile(0.9))
    assert own == ({"name": "leaky_relu", "alpha": 0.2}, {"name": "quantile", "q": 0.9})
    assert written(cost=CrossEntropy())[1] == "cross-entropy"
    assert written(cost=CrossEntropy(0.25))[1] == {"name": "cross-entropy", "floor": 0.25}
    assert written(cost=LogLikelihood(0.25))[1] == {"name": "log-likelihood", "floor": 0.25}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "tanh", "output_activation": "linear"},
        {"activation": "relu", "cost": "log-likelihood"},
        {"cost": "cross-entropy", "input_scale": 1 / 255},
        {"activation": ["softmax", "sigmoid"]},
        {"activation": [mixed("sigmoid", {4: "tanh", 0: "linear"}), "relu"]},
        {"activation": [SOFTSIGN, "sigmoid"], "cost": DOUBLE},
        {"activation": [mixed(SOFTSIGN, {1: "tanh"}), mixed("tanh", {2: SOFTSIGN})]},
        {"activation": ["gelu", "linear"], "cost": "quadratic"},
        {"activation": [LeakyReLU(0.2), mixed("leaky_relu", {1: LeakyReLU(0.5)})], "cost": Huber(2.5)},
        {"cost": CrossEntropy(0.01)},
        {"activation": "relu", "cost": LogLikelihood(1e-7)},
    ],
    ids=range(12),
)
def test_round_trip(blobs, path, options, dtype):
    net = small(dtype=dtype, **options)
    X, y = blobs
    net.fit(X, np.eye(3)[y] if net.cost.task == "regression" else y, epochs=1, eta=0.01)
    net.metadata = {"names": ["a", "b"], "nested": {"x": [1, 2.5, None, True]}, "ü": "\U0001f600"}
    net.save(path)
    assert only(path)
    loaded = Network.load(path, device="cpu", custom=[SOFTSIGN, DOUBLE])
    assert same(net, loaded)
    assert np.array_equal(net.outputs(blobs[0]), loaded.outputs(blobs[0]))
    for name in ("sizes", "dtype", "input_scale", "task", "metadata", "num_layers"):
        assert getattr(loaded, name) == getattr(net, name)
    assert [to_json(f) for f in loaded.activations] == [to_json(f) for f in net.activations]
    assert repr(loaded.cost) == repr(net.cost)
    assert loaded.cost is net.cost or net.cost.parameters
    loaded.save(path)
    assert same(Network.load(str(path), device="cpu", custom=[SOFTSIGN, DOUBLE]), net)


def test_a_regression_stays_one(path):
    net = small(activation="linear")
    net.fit(np.eye(4), np.ones((4, 3)), epochs=1, batch_size=4)
    net.save(path)
    assert Network.load(path, device="cpu").task == "regression"
    net = small(activation="linear")
    net.fit(np.eye(4), [0, 1, 2, 0], epochs=1, batch_size=4)
    net.save(path)
    assert Network.load(path, device="cpu").predict(np.eye(4)).shape == (4,)


def test_a_loaded_network_trains_on(blobs, path):
    net = small(dtype="float64")
    net.save(path)
    loaded = Network.load(path, device="cpu")
    net.fit(*blobs, epochs=1, batch_size=150)
    loaded.fit(*blobs, epochs=1, batch_size=150)
    assert all(np.allclose(a, b) for a, b in zip(parameters(net), parameters(loaded), strict=True))


def test_a_loaded_network_does_not_share_memory_with_another(saved):
    one, other = Network.load(saved, device="cpu"), Network.load(saved, device="cpu")
    one.weights[0][:] = 0
    assert other.weights[0].any()


def test_other_programs_can_read_the_tensors(saved):
    from safetensors.numpy import load_file

    tensors = load_file(saved)
    assert {name: t.shape for name, t in tensors.items()} == {
        "weights.1": (5, 4),
        "biases.1": (5, 1),
        "weights.2": (3, 5),
        "biases.2": (3, 1),
    }
    assert np.array_equal(tensors["weights.2"], small().weights[1])


def test_a_name_that_is_no_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"m\xff.safetensors")
    small().save(path)
    assert same(Network.load(path, device="cpu"), small())


@pytest.mark.parametrize(
    ("options", "custom", "fragment"),
    [
        ({"activation": [SOFTSIGN, "sigmoid"]}, [], "unknown activation 'softsign'.*custom="),
        ({"activation": [SOFTSIGN, "sigmoid"]}, [DOUBLE], "unknown activation 'softsign'"),
        ({"cost": DOUBLE}, [], "unknown cost 'double'.*custom="),
        ({"activation": [mixed("tanh", {0: SOFTSIGN}), "tanh"]}, [], "unknown activation 'softsign'"),
    ],
    ids=range(4),
)
def test_functions_of_ones_own_must_be_given_again(path, options, custom, fragment):
    small(**options).save(path)
    with pytest.raises(FileFormatError, match=fragment):
        Network.load(path, device="cpu", custom=custom)


# -- Writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["fsync", "replace", "write"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(saved, monkeypatch, what, error):
    old = saved.read_bytes()

    def fail(*args, **kwargs):
        raise error

    if what == "write":

        class File:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *args):
                self.file.close()

            def write(self, content):
                self.file.write(content[: len(content) // 2])
                raise error

        original = type(saved).open
        monkeypatch.setattr(type(saved), "open", lambda *args, **kwargs: File(original(*args, **kwargs)))
    else:
        monkeypatch.setattr(*((module.os, "fsync") if what == "fsync" else (type(saved), "replace")), fail)
    with pytest.raises(type(error)):
        small(seed=1).save(saved)
    monkeypatch.undo()
    assert saved.read_bytes() == old
    assert only(saved)
    assert same(Network.load(saved, device="cpu"), small())


def test_saving_again_replaces_the_file(saved):
    small(seed=1).save(saved)
    assert only(saved)
    assert same(Network.load(saved, device="cpu"), small(seed=1))


def test_a_missing_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        small().save(tmp_path / "none" / "model.safetensors")


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(OSError, match="is a folder"):
        small().save(tmp_path)
    assert tmp_path.is_dir()


def test_a_device_is_not_replaced():
    with pytest.raises(OSError, match="/dev/full"):
        small().save("/dev/full")
    assert not os.path.isfile("/dev/full")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            small().save(tmp_path / "model.safetensors")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    "metadata",
    [
        {"x": np.zeros(2)},
        {"x": {1, 2}},
        {"x": float("nan")},
        {"x": b"bytes"},
        {("a", "b"): 1},
        [1, 2],
        None,
        "text",
    ],
    ids=range(8),
)
def test_metadata_that_could_not_be_read_back_is_refused(saved, metadata):
    old = saved.read_bytes()
    net = small(seed=1)
    net.metadata = metadata
    with pytest.raises(InputError, match="metadata"):
        net.save(saved)
    assert saved.read_bytes() == old


def test_metadata_that_is_nested_without_end_is_refused(path):
    net = small()
    net.metadata = {"x": net.metadata}
    net.metadata["x"]["x"] = net.metadata
    with pytest.raises(InputError, match="metadata"):
        net.save(path)
    deep = net.metadata = {}
    for _ in range(100_000):
        deep["x"] = deep = {}
    with pytest.raises(InputError, match="metadata"):
        net.save(path)


def test_parameters_that_could_not_be_read_back_are_refused(saved):
    """Changed in place, they pass no check; the file that would replace the good one could not be loaded."""
    old = saved.read_bytes()
    net = small(seed=1)
    net.weights[0][0, 0] = np.nan
    with pytest.raises(InputError, match=r"weights.*(NaN|finite)"):
        net.save(saved)
    assert saved.read_bytes() == old


# -- Reading what is damaged or something else ---------------------------------------------------------------


def refused(path, fragment=".", **options):
    with pytest.raises(FileFormatError, match=fragment) as caught:
        Network.load(path, device="cpu", **options)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text.strip()
    assert len(text) < 3000
    return text


def test_truncated_at_every_64th_byte(saved, tmp_path):
    content = saved.read_bytes()
    assert len(content) > 512
    for length in [*range(0, len(content), 64), 1, 7, 8, 9, len(content) - 1]:
        cut = tmp_path / f"cut-{length}"
        cut.write_bytes(content[:length])
        refused(cut, "not a whole model file")


def test_bytes_after_the_end(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    refused(saved, "not a whole model file")


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"PK\x03\x04" + b"\0" * 60, b"{}" * 40])
def test_other_bytes(path, content):
    path.write_bytes(content)
    refused(path, "not a whole model file|not one that gpunet wrote")


def test_no_file_and_no_regular_file(tmp_path, path):
    refused(path, "there is no such file")
    refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe")


def description(**changes):
    usual = {
        "version": 1,
        "sizes": [4, 5, 3],
        "activations": ["sigmoid", "sigmoid"],
        "cost": "quadratic",
        "dtype": "float32",
        "input_scale": 1.0,
        "task": "classification",
        "metadata": {},
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not ...}


def tensors(sizes=(4, 5, 3), dtype="float32"):
    pairs = list(pairwise(sizes))
    weights = {f"weights.{l}": np.ones((n, k), dtype) for l, (k, n) in enumerate(pairs, start=1)}
    return weights | {f"biases.{l}": np.ones((n, 1), dtype) for l, (_, n) in enumerate(pairs, start=1)}


def write(path, text, arrays=None):
    text = text if isinstance(text, str) else json.dumps(text)
    save_file(tensors() if arrays is None else arrays, path, metadata={"gpunet": text})


def test_the_usual_description_is_read(path):
    """What the tests below change would otherwise be fine."""
    write(path, description())
    assert Network.load(path, device="cpu").weights[0].all()


def test_a_foreign_safetensors_file(path):
    save_file({"a": np.zeros(3)}, path)
    refused(path, "a safetensors file, but not one that gpunet wrote")
    save_file({"a": np.zeros(3)}, path, metadata={"format": "pt"})
    refused(path, "a safetensors file, but not one that gpunet wrote")


@pytest.mark.parametrize("version", [2, 3, 10**9])
def test_a_newer_version_is_named(path, version):
    write(path, description(version=version, sizes="whatever", activations=...))
    assert "upgrade gpunet" in refused(path, rf"written by a newer gpunet \(format {version}, .* up to 1\)")


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"version": ...}, "no valid version"),
        ({"version": 0}, "no valid version"),
        ({"version": "1"}, "no valid version"),
        ({"version": None}, "no valid version"),
        ({"sizes": ...}, "no valid 'sizes'"),
        ({"sizes": 5}, "no valid 'sizes'"),
        ({"sizes": []}, "no valid 'sizes'"),
        ({"sizes": [4]}, "no valid 'sizes'"),
        ({"sizes": [4, 5.0, 3]}, "no valid 'sizes'"),
        ({"sizes": [4, 0, 3]}, "no valid 'sizes'"),
        ({"sizes": [4, -5, 3]}, "no valid 'sizes'"),
        ({"sizes": [4, True, 3]}, "no valid 'sizes'"),
        ({"sizes": [4, "5", 3]}, "no valid 'sizes'"),
        ({"sizes": [4, [5], 3]}, "no valid 'sizes'"),
        ({"sizes": [4, 6, 3]}, "weights.1 is float32 of shape"),
        ({"sizes": [4, 10**30, 3]}, "weights.1 is float32 of shape"),
        ({"sizes": [4, 3]}, "damaged: its .* tensors are not"),
        ({"sizes": [4, 5, 3, 2]}, "damaged: its .* tensors are not"),
        ({"activations": ...}, "no valid 'activations'"),
        ({"activations": "sigmoid"}, "no valid 'activations'"),
        ({"activations": []}, "gave 0"),
        ({"activations": ["sigmoid"]}, "gave 1"),
        ({"activations": ["sigmoid"] * 3}, "gave 3"),
        ({"activations": ["sigmoid", "sigmiod"]}, "unknown activation 'sigmiod'"),
        ({"activations": ["sigmoid", 5]}, "does not describe an activation"),
        ({"activations": ["sigmoid", None]}, "does not describe an activation"),
        ({"activations": ["sigmoid", []]}, "does not describe an activation"),
        ({"activations": ["sigmoid", ["abc"]]}, "does not describe an activation"),
        ({"activations": ["sigmoid", {"name": "relu", "alpha": 0.1}]}, "does not describe an activation"),
        ({"activations": ["sigmoid", {"name": "leaky_relu", "beta": 0.1}]}, "does not describe an activation"),
        ({"activations": ["sigmoid", {"name": "leaky_relu", "alpha": 2}]}, "between 0 and 1"),
        ({"activations": ["sigmoid", {}]}, "does not describe an activation"),
        ({"activations": ["sigmoid", {"default": "tanh"}]}, "does not describe an activation"),
        ({"activations": ["sigmoid", {"default": "tanh", "neurons": []}]}, "does not describe an activation"),
        ({"activations": ["sigmoid", {"default": "tanh", "neurons": {}}]}, "at least one neuron"),
        ({"activations": ["sigmoid", {"default": "tanh", "neurons": {"x": "tanh"}}]}, "activation"),
        ({"activations": ["sigmoid", {"default": "tanh", "neurons": {"9" * 5000: "tanh"}}]}, "activation"),
        ({"activations": ["sigmoid", {"default": "tanh", "neurons": {"-1": "tanh"}}]}, "index from 0"),
        ({"activations": ["sigmoid", {"default": "tanh", "neurons": {"3": "tanh"}}]}, "names neuron 3"),
        ({"activations": ["sigmoid", {"default": "softmax", "neurons": {"0": "tanh"}}]}, "whole layer"),
        ({"activations": ["sigmoid", {"default": {"default": 1}, "neurons": {"0": "tanh"}}]}, "activation"),
        ({"cost": ...}, "no valid 'cost'"),
        ({"cost": 5}, "no valid 'cost'"),
        ({"cost": {}}, "does not describe a cost"),
        ({"cost": {"name": ["huber"]}}, "does not describe a cost"),
        ({"cost": {"name": "quadratic", "delta": 1}}, "does not describe a cost"),
        ({"cost": {"name": "huber", "delta": -1}}, "delta of huber must be a finite number above 0"),
        ({"cost": {"name": "cross-entropy", "floor": 1}}, "floor of cross-entropy must be at least 0 and below 1"),
        ({"cost": {"name": "cross-entropy", "floor": "0"}}, "floor of cross-entropy must be a finite number"),
        ({"cost": "qadratic"}, "unknown cost 'qadratic'. Did you mean 'quadratic'"),
        ({"cost": "log-likelihood"}, "is for softmax outputs"),
        ({"dtype": ...}, "no valid 'dtype'"),
        ({"dtype": "float16"}, "no valid 'dtype'"),
        ({"dtype": "float64"}, "weights.1 is float32 of shape .* not float64"),
        ({"dtype": "no such thing"}, "no valid 'dtype'"),
        ({"input_scale": ...}, "no valid 'input_scale'"),
        ({"input_scale": "1"}, "no valid 'input_scale'"),
        ({"input_scale": 0}, "input_scale must be"),
        ({"input_scale": -1}, "input_scale must be"),
        ({"input_scale": float("nan")}, "NaN is none"),
        ({"input_scale": float("inf")}, "Infinity is none"),
        ({"input_scale": True}, "input_scale"),
        ({"input_scale": 10**400}, "input_scale"),
        ({"task": ...}, "no valid 'task'"),
        ({"task": 5}, "no valid 'task'"),
        ({"task": "clustering"}, "task"),
        ({"metadata": ...}, "no valid 'metadata'"),
        ({"metadata": []}, "no valid 'metadata'"),
        ({"metadata": None}, "no valid 'metadata'"),
    ],
    ids=lambda value: f"{value!s:.70}",
)
def test_a_description_that_does_not_fit(path, changes, fragment):
    write(path, description(**changes))
    refused(path, fragment)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "5",
        '"text"',
        "[1]",
        "\ud7ff",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"version": 1, "metadata": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"version": ' + "1" * 5000 + "}",
        '{"version": 1e400}',
        "x" * 10_000_000,
        json.dumps(description(sizes=[1] * 200_000)),
    ],
    ids=range(14),
)
def test_a_text_that_is_no_description(path, text):
    write(path, text)
    refused(path, "damaged")


def test_a_metadata_text_of_millions_of_characters_is_read(path):
    net = small()
    net.metadata = {"notes": "x" * 5_000_000}
    net.save(path)
    assert Network.load(path, device="cpu").metadata == net.metadata


def changed(**arrays):
    result = tensors() | {name.replace("_", "."): array for name, array in arrays.items()}
    return {name: array for name, array in result.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "fragment"),
    [
        (changed(weights_2=None), "damaged: its .* tensors are not"),
        (changed(weights_3=np.ones((3, 3), "f4")), "damaged: its .* tensors are not"),
        (changed(weights_1=np.ones((4, 5), "f4")), r"weights.1 is float32 of shape \(4, 5\), not float32 of"),
        (changed(weights_1=np.ones(20, "f4")), r"weights.1 is float32 of shape \(20,\)"),
        (changed(biases_1=np.ones(5, "f4")), r"biases.1 is float32 of shape \(5,\)"),
        (changed(biases_1=np.ones((0, 1), "f4")), r"biases.1 is float32 of shape \(0, 1\)"),
        (changed(weights_1=np.ones((5, 4), "f8")), r"weights.1 is float64"),
        (changed(weights_1=np.ones((5, 4), "f2")), r"weights.1 is float16"),
        (changed(weights_1=np.ones((5, 4), "i4")), r"weights.1 is int32"),
        (changed(weights_1=np.ones((5, 4), "?")), r"weights.1 is bool"),
        (changed(weights_1=np.full((5, 4), np.nan, "f4")), "weights.1 holds NaN or infinity"),
        (changed(biases_2=np.full((3, 1), np.inf, "f4")), "biases.2 holds NaN or infinity"),
        ({f"{i}": np.zeros(1, "f4") for i in range(5000)}, "damaged: its .* tensors are not"),
    ],
    ids=range(13),
)
def test_tensors_that_do_not_fit(path, arrays, fragment):
    write(path, description(), arrays)
    refused(path, fragment)


def raw(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "C64", "U64", "F4", "nonsense"])
def test_dtypes_that_numpy_lacks(path, dtype):
    header = {"__metadata__": {"gpunet": json.dumps(description(sizes=[1, 1], activations=["tanh"]))}}
    size = {"BF16": 2, "C64": 8, "U64": 8}.get(dtype, 1)
    header["weights.1"] = {"dtype": dtype, "shape": [1, 1], "data_offsets": [0, size]}
    header["biases.1"] = {"dtype": dtype, "shape": [1, 1], "data_offsets": [size, 2 * size]}
    path.write_bytes(raw(header, b"\0" * 2 * size))
    refused(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 2**60]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [1, 1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1, 1], "data_offsets": [0]},
        {"dtype": "F32", "shape": "11", "data_offsets": [0, 4]},
        {"shape": [1, 1], "data_offsets": [0, 4]},
        5,
    ],
    ids=range(9),
)
def test_headers_that_lie(path, entry):
    header = {"__metadata__": {"gpunet": json.dumps(description(sizes=[1, 1], activations=["tanh"]))}}
    path.write_bytes(raw(header | {"weights.1": entry, "biases.1": entry}, b"\0" * 8))
    refused(path, "not a whole model file")


def test_a_header_length_that_lies(path, saved):
    content = saved.read_bytes()
    for length in (0, 1, 2**20, 2**40, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + content[8:])
        refused(path, "not a whole model file")


def test_a_read_that_fails_is_told(saved, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, "safe_open", fail)
    refused(saved, "Input/output error")
