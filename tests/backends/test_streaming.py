"""Data that the device's memory does not hold pass through it part by part, and train the same network."""

import numpy as np
import pytest
from oracles import cases

import gpunet
from gpunet import optimizers
from gpunet.backends.base import Backend
from gpunet.training import data as data_module
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe

SIZES = [6, 5, 3]
CASE = cases.Case(("sigmoid", "softmax"), "log-likelihood")


def examples(dtype, n=100):
    X = np.random.default_rng(7).integers(0, 256, (n, SIZES[0]), dtype=np.uint8)
    return X.astype(dtype) if dtype == "uint8" else (X / 255).astype(dtype), (X[:, 0] // 86).astype(np.int64)


@pytest.fixture
def _small_parts(monkeypatch):
    monkeypatch.setattr(data_module, "_PART_BYTES", 250)


@pytest.fixture
def _holds_nothing(monkeypatch, _small_parts):
    from gpunet.backends.cupy import CuPyBackend

    for cls in (Backend, CuPyBackend):
        monkeypatch.setattr(cls, "holds", lambda self, nbytes: False)


def trained(device, dtype="uint8", one_hot=False, **options):
    X, y = examples(dtype)
    net = CASE.network(sizes=SIZES, device=device, dtype="float32", seed=5, input_scale=1 / 255)
    Y = np.eye(3)[y] if one_hot else y
    net.fit(X, Y, epochs=3, batch_size=7, eta=0.3, validation_data=(X[:20], Y[:20]), **options)
    return net


@pytest.mark.usefixtures("_holds_nothing")
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "float64", "int32"])
def test_streamed_as_resident_on_the_cpu(fake, dtype, one_hot):
    streamed, resident = trained("cuda", dtype, one_hot), trained("cpu", dtype, one_hot)
    for a, b in zip(streamed.weights, resident.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    np.testing.assert_allclose(streamed.history.cost, resident.history.cost, rtol=1e-5)
    np.testing.assert_allclose(streamed.history.validation_cost, resident.history.validation_cost, rtol=1e-5)
    assert streamed.history.validation_score == resident.history.validation_score
    row = SIZES[0] * (1 if dtype == "uint8" else 4) + 3 * (4 if one_hot else 1)
    assert fake.copied_bytes == 3 * 100 * row  # each example once an epoch, in its own type


@pytest.mark.usefixtures("_small_parts")
def test_the_same_bits_as_resident(fake, monkeypatch):
    resident = trained("cuda")
    assert fake.copied_bytes == 0
    monkeypatch.setattr("gpunet.backends.cupy.CuPyBackend.holds", lambda self, nbytes: False)
    streamed = trained("cuda")
    assert fake.copied_bytes > 0
    for a, b in zip(streamed.weights, resident.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("_holds_nothing")
def test_streamed_steps_are_replayed_too(fake, monkeypatch):
    monkeypatch.setattr("gpunet.training.steps.REPLAYED", 2)
    streamed = trained("cuda")
    assert streamed.history.engine == "2 steps a launch"
    assert fake.graph_launches > 0
    resident = trained("cpu")
    for a, b in zip(streamed.weights, resident.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_the_same_bits_with_weights_and_masks(fake, monkeypatch, optimizer):
    """The weights of the examples pass through the device with them."""
    options = {"sample_weight": np.linspace(0.1, 2.0, 100), "class_weight": "balanced", "label_smoothing": 0.1}
    if optimizer == "adamw":
        options |= {"dropout": 0.2, "max_norm": 1.0, "clip_norm": 0.1, "l1": 0.1}
        options["eta"] = gpunet.schedules.Exponential(0.05)
    results = []
    for holds in (True, False):
        monkeypatch.setattr("gpunet.backends.cupy.CuPyBackend.holds", lambda self, nbytes, holds=holds: holds)
        copied = fake.copied_bytes
        X, y = examples("uint8")
        net = CASE.network(sizes=SIZES, device="cuda", dtype="float32", seed=5, input_scale=1 / 255)
        history = net.fit(X, y, epochs=3, batch_size=7, optimizer=optimizer, **options)
        results.append([*net.weights, *net.biases, history.cost])
        assert (fake.copied_bytes == copied) == holds
        if not holds and optimizer == "adamw":
            assert fake.copied_bytes - copied == 3 * 100 * (SIZES[0] + 4 * 3 + 4)
    for streamed, resident in zip(*results, strict=True):
        if optimizer == "adamw":
            np.testing.assert_array_equal(streamed, resident)
        else:  # chunks end where parts do: the sums have another order
            np.testing.assert_allclose(streamed, resident, rtol=0, atol=1e-4)


def test_the_device_says_what_it_holds(fake):
    ops = gpunet.backends.select("cuda")
    assert ops.holds(10**12)
    fake.memory = 1000
    assert ops.holds(800)
    assert not ops.holds(801)


def test_data_larger_than_the_device_train_and_are_predicted(fake, monkeypatch):
    """Nothing is as large as the data: fit, score and predict send a part at a time."""
    monkeypatch.setattr(data_module, "_PART_BYTES", 2000)
    monkeypatch.setattr("gpunet.training.outputs._CHUNK_NUMBERS", 2000)
    net = CASE.network(sizes=[60, 5, 3], device="cuda", dtype="float32", seed=5, input_scale=1 / 255)
    X, y = examples("uint8", 600)
    X = np.tile(X, 10)
    largest = []
    array = gpunet.backends.select("cuda").xp.ndarray
    init = array.__init__

    def watched(self, values, device_id):
        largest.append(values.nbytes)
        init(self, values, device_id)

    monkeypatch.setattr(array, "__init__", watched)
    monkeypatch.setattr("gpunet.backends.cupy.CuPyBackend.holds", lambda self, nbytes: nbytes < 20_000)
    net.fit(X, y, epochs=1, batch_size=7, eta=0.3)
    assert net.score(X, y) == np.mean(net.predict(X) == y)
    assert max(largest) < X.nbytes / 4


def test_memory_maps_are_read_part_by_part(fake, tmp_path, monkeypatch):
    X, y = examples("uint8", 60)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr("gpunet.backends.cupy.CuPyBackend.holds", lambda self, nbytes: False)
    nets = [CASE.network(sizes=SIZES, device="cuda", seed=5, input_scale=1 / 255) for _ in range(2)]
    for net, data in zip(nets, (mapped, X), strict=True):
        net.fit(data, y, epochs=1, batch_size=7, eta=0.3)
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])


def sparse_case(backend, X, weighted, dtype):
    """Train two epochs on X, dense or sparse; return parameters and costs."""
    _, y = examples("uint8")
    net = CASE.network(sizes=SIZES, device=backend, dtype=dtype, seed=5)
    ops, weights = net._model.ops, np.linspace(0.5, 2.0, 100, dtype=dtype)[:, None] if weighted else None
    with ops.active():
        training = MiniBatchSGD(
            Recipe(net._model, 7, optimizers.get("adam")),
            X,
            np.eye(3, dtype=dtype)[y],
            np.random.default_rng(4),
            weights,
        )
        told = [training.run_epoch(0.01) for _ in range(2)]
    return [*net.weights, *net.biases, np.array(told)]


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of", ["float32", "float64", "uint8"])
@pytest.mark.parametrize(("kind", "weighted"), [("csr_matrix", False), ("csr_array", True)])
def test_sparse_rows_train_as_dense_ones(backend, kind, of, dtype, weighted):
    """Rows of SciPy's CSR form become dense part by part, in the network's type or as bytes."""
    X = np.where(np.random.default_rng(1).random((100, SIZES[0])) < 0.7, 0, examples("uint8")[0] % 7).astype(of)
    sparse = getattr(pytest.importorskip("scipy.sparse"), kind)(X)
    dense = X if of == "uint8" else X.astype(dtype)
    found, wanted = (sparse_case(backend, x, weighted, dtype) for x in (sparse, dense))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for a, b in zip(found, sparse_case("cpu", dense, weighted, dtype), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.usefixtures("_small_parts")
def test_parts_of_a_sparse_matrix_are_small(backend):
    """250 bytes are 5 rows of 6 numbers: never more than a mini-batch of the matrix is dense."""
    sparse = pytest.importorskip("scipy.sparse").csr_array(np.eye(100, SIZES[0]))
    with backend.active():
        streamed = data_module.of(backend, [sparse], "float64", 5)
        sizes = [index.shape[0] for _, index in streamed.parts(np.random.default_rng(0))]
    assert sizes == [5] * 20
