"""The same training on every backend gives the same network."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backends import fake_cupy
from oracles import cases

import gpunet
from gpunet import costs, optimizers
from gpunet.backends import select
from gpunet.training.outputs import outputs_on_device
from gpunet.training.steps import Recipe, VerbSteps

RELATIVE = {"float32": 1e-4, "float64": 1e-10}
SIZES = [6, 5, 4, 3]
TRAININGS = [
    cases.Case(("sigmoid", "sigmoid", "sigmoid"), "quadratic"),
    cases.Case(("tanh", "sigmoid", "sigmoid"), "cross-entropy"),
    cases.Case(("relu", "tanh", "softmax"), "log-likelihood"),
    cases.Case(("softmax", "linear", "softmax"), "quadratic"),
    cases.Case(("mixed", "mixed_linear", "mixed"), "quadratic"),
    cases.Case(("custom", "custom_a", "linear"), "quartic"),
    cases.Case(("tanh", "relu", "custom"), "cross-entropy"),
    cases.Case(("gelu", "leaky_relu", "exp"), "poisson"),
    cases.Case(("softplus", "silu", "linear"), "huber"),
]
#: Their derivatives jump, and a rounding could send two sound trainings apart.
JUMPING = {"absolute", "quantile", "hinge"}
each_training = pytest.mark.parametrize("case", TRAININGS, ids=str)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def network(case, device, dtype="float64", **options):
    return case.network(sizes=SIZES, device=device, dtype=dtype, seed=5, **options)


def images(n=43):
    """uint8 data and labels, which `input_scale` brings to [0, 1]."""
    X = np.random.default_rng(7).integers(0, 256, (n, SIZES[0]), dtype=np.uint8)
    return X, (X[:, 0] // 86).astype(np.int64)


def for_cost(case, labels):
    """Return the labels, or one-hot rows for a cost that takes none."""
    return np.eye(SIZES[-1])[labels] if case.cost in ("poisson", "huber") else labels


def assert_same(net, reference, dtype):
    for kind in ("weights", "biases"):
        for l, (got, wanted) in enumerate(zip(getattr(net, kind), getattr(reference, kind), strict=True)):
            assert got.dtype == wanted.dtype == dtype
            np.testing.assert_allclose(
                got, wanted, rtol=0, atol=RELATIVE[dtype] * np.abs(wanted).max(), err_msg=f"{kind}[{l}]"
            )


def test_the_trainings_cover_every_built_in():
    used = {f for case in TRAININGS for f in case.activations}
    assert {"sigmoid", "tanh", "relu", "linear", "softmax"} <= used
    assert {case.cost for case in TRAININGS} == set(cases.COSTS) - JUMPING


@each_training
@each_dtype
def test_30_steps_with_fit(other_backend, case, dtype):
    """uint8 inputs with input_scale and a ragged last batch: 6 epochs of 5 steps, the last on 3 examples."""
    X, y = images()
    y = for_cost(case, y)
    nets = [network(case, device, dtype, input_scale=1 / 255) for device in (other_backend, "cpu")]
    before = nets[1].weights[0].copy()
    eta = 0.02 if case.cost == "quartic" else 0.3
    validation = (X[:9], y[:9])
    histories = [net.fit(X, y, epochs=6, batch_size=10, eta=eta, validation_data=validation) for net in nets]
    assert np.abs(nets[1].weights[0] - before).max() > 0.002
    assert_same(*nets, dtype)
    got, wanted = histories
    tolerance = RELATIVE[dtype]
    np.testing.assert_allclose(got.cost, wanted.cost, rtol=tolerance)
    np.testing.assert_allclose(got.validation_cost, wanted.validation_cost, rtol=10 * tolerance)
    np.testing.assert_allclose(got.validation_score, wanted.validation_score, rtol=tolerance)
    assert (got.device, got.backend) == (other_backend.device, other_backend.name)


#: A training with all there is, and how far the numbers may lie apart.
EVERYTHING = {
    "epochs": 8,
    "batch_size": 10,
    "l2": 0.4,
    "l1": 0.1,
    "dropout": [0.1, 0.2, 0.3],
    "max_norm": 1.0,
    "clip_value": 0.2,
    "clip_norm": 0.3,
    "label_smoothing": 0.1,
    "class_weight": "balanced",
    "sample_weight": np.linspace(0.1, 2.0, 43),
    "validation_split": 0.2,
    "early_stopping": gpunet.EarlyStopping(3, min_delta=0.01),
    "diagnostics": True,
}
SMOOTH = cases.Case(("tanh", "sigmoid", "softmax"), "log-likelihood")


@each_dtype
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_training_with_everything(other_backend, optimizer, dtype):
    """The masks, the examples that are held out, the weights and the schedule are the same everywhere."""
    X, y = images()
    nets = [network(SMOOTH, device, dtype, input_scale=1 / 255) for device in (other_backend, "cpu")]
    before = nets[1].weights[0].copy()
    eta = gpunet.schedules.Cosine(0.02 if optimizer == "adamw" else 0.3, 8, warm_up=2)
    got, wanted = [net.fit(X, y, optimizer=optimizer, eta=eta, **EVERYTHING) for net in nets]
    assert np.abs(nets[1].weights[0] - before).max() > 0.05
    assert_same(*nets, dtype)
    tolerance = 10 * RELATIVE[dtype]
    np.testing.assert_allclose(got.cost, wanted.cost, rtol=tolerance)
    np.testing.assert_allclose(got.validation_cost, wanted.validation_cost, rtol=tolerance)
    assert got.validation_score == wanted.validation_score
    assert got.etas == wanted.etas == [eta.eta(e, got) for e in range(len(got.epochs))]
    assert got.best_epoch == wanted.best_epoch
    for one, other in zip(got.epochs, wanted.epochs, strict=True):
        lengths = [[layer.gradient_norm for layer in epoch.layers] for epoch in (one, other)]
        np.testing.assert_allclose(*lengths, rtol=10 * tolerance)


@pytest.mark.parametrize("one_hot", [False, True])
def test_everything_with_data_that_is_already_on_the_device(backend, one_hot):
    X, y = images()
    Y = np.eye(3)[y] if one_hot else y
    with backend.active():
        on_device = backend.asarray(X), backend.asarray(Y)
    nets = [network(SMOOTH, backend, input_scale=1 / 255) for _ in range(2)]
    for net, data in zip(nets, (on_device, (X, Y)), strict=True):
        net.fit(*data, eta=0.1, **EVERYTHING)
    assert_same(*nets, "float64")
    assert nets[0].history.validation_cost == pytest.approx(nets[1].history.validation_cost, rel=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs(other_backend, weighted):
    """Its steps come from SciPy, cost and gradient from the device, in chunks."""
    X, y = images()
    nets = [network(SMOOTH, device, input_scale=1 / 255) for device in (other_backend, "cpu")]
    more = {"sample_weight": np.linspace(0.1, 2.0, 43), "class_weight": "balanced"} if weighted else {}
    got, wanted = [net.fit(X, y, epochs=12, optimizer="lbfgs", l2=0.01, label_smoothing=0.1, **more) for net in nets]
    assert got.cost[-1] < 0.95 * got.cost[0]
    np.testing.assert_allclose(got.cost, wanted.cost, rtol=1e-8)
    for one, other in zip(nets[0].weights, nets[1].weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)


def test_lbfgs_adds_up_chunks(backend, monkeypatch):
    nets = [network(SMOOTH, backend, input_scale=1 / 255) for _ in range(2)]
    X, y = images()
    weights = np.linspace(0.1, 2.0, 43)
    weights[10:20] = 0.0  # a chunk in which nobody counts
    histories = []
    for net, numbers in zip(nets, (2**19, 10 * sum(SIZES)), strict=True):
        monkeypatch.setattr("gpunet.training.lbfgs._CHUNK_NUMBERS", numbers)
        histories.append(net.fit(X, y, epochs=5, optimizer="lbfgs", sample_weight=weights))
    np.testing.assert_allclose(histories[0].cost, histories[1].cost, rtol=1e-11)
    assert_same(*nets, "float64")


@pytest.mark.parametrize("optimizer", ["adamw", "lbfgs"])
def test_a_resumed_training_has_the_same_bits(backend, optimizer, tmp_path, monkeypatch):
    monkeypatch.setattr("gpunet.training.lbfgs._ITERATIONS_SAVED", 4)
    X, y = images()
    options = {"optimizer": optimizer, "early_stopping": True, "validation_split": 0.2, "epochs": 9}
    if optimizer != "lbfgs":
        options |= {"dropout": 0.2, "eta": gpunet.schedules.Exponential(0.02)}

    def stop(epoch):
        if epoch.epoch == 6:
            raise KeyboardInterrupt

    nets = [network(SMOOTH, backend, "float32", input_scale=1 / 255) for _ in range(3)]
    nets[0].fit(X, y, **options, checkpoint=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        nets[1].fit(X, y, **options, checkpoint=tmp_path / "part", on_epoch=stop)
    nets[2].fit(X, y, **options, checkpoint=tmp_path / "part", resume=True)
    for got, wanted in zip([*nets[2].weights, *nets[2].biases], [*nets[0].weights, *nets[0].biases], strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert nets[2].history.validation_cost == nets[0].history.validation_cost
    assert nets[2].history.cost == nets[0].history.cost or "compiled" in nets[0].history.engine


@each_training
@each_dtype
def test_what_a_network_says(other_backend, case, dtype):
    """Outputs, traces and gradients agree; the gradients of single examples sum up to the batch's."""
    net, reference = network(case, other_backend, dtype), network(case, "cpu", dtype)
    assert_same(net, reference, dtype)
    x, y = case.data(m=9, sizes=SIZES)
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]

    def same(got, wanted):
        assert type(got) is np.ndarray
        assert got.dtype == wanted.dtype
        scale = max(np.abs(wanted).max(), 1e-3)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * scale)

    same(net.feedforward(x), reference.feedforward(x))
    same(net.feedforward(x[:, 0]), reference.feedforward(x[:, 0]))
    same(net.outputs(x.T), reference.outputs(x.T))
    trace, wanted = net.trace(x, y), reference.trace(x, y)
    for kind in ("a", "z", "delta"):
        pairs = list(zip(getattr(trace, kind), getattr(wanted, kind), strict=True))
        assert len(pairs) == len(SIZES)
        for got, value in pairs[0 if kind == "a" else 1 :]:
            same(got, value)
    summed = net.backprop(x, y)
    single = net.per_example_gradients(x, y)
    for kind in range(2):
        for got, value, each in zip(summed[kind], reference.backprop(x, y)[kind], single[kind], strict=True):
            same(got, value)
            assert each.shape == (9, *value.shape)
            same(each.sum(axis=0), value)
    labels = np.arange(9) % 3
    np.testing.assert_array_equal(net.predict(x.T).shape, reference.predict(x.T).shape)
    wanted = for_cost(case, labels)
    assert net.score(x.T, wanted) == pytest.approx(reference.score(x.T, wanted), rel=tolerance)
    assert net.evaluate([(x[:, [i]], int(labels[i])) for i in range(9)]) == reference.evaluate(
        [(x[:, [i]], int(labels[i])) for i in range(9)]
    )


@each_dtype
def test_outputs_that_stay_on_the_device(backend, monkeypatch, dtype):
    """The same numbers as those that come to the host, in chunks and from bytes too."""
    X, _ = images()
    net = network(TRAININGS[2], backend, dtype, input_scale=1 / 255)
    ops = net._model.ops
    for most in (10**9, 10 * sum(SIZES)):
        monkeypatch.setattr("gpunet.training.outputs._CHUNK_NUMBERS", most)
        wanted = net.outputs(X)
        with ops.active():
            a = outputs_on_device(net._model, ops.asarray(X))
            assert ops.is_native(a)
            np.testing.assert_array_equal(ops.to_numpy(a), wanted)


def test_predict_gives_the_same_classes(other_backend):
    case = TRAININGS[2]
    X, y = images()
    net, reference = (network(case, device, input_scale=1 / 255) for device in (other_backend, "cpu"))
    for n in (net, reference):
        n.fit(X, y, epochs=40, batch_size=10, eta=0.3)
    np.testing.assert_array_equal(net.predict(X), reference.predict(X))
    assert net.score(X, y) == reference.score(X, y) > 0.5


@each_dtype
def test_the_books_methods(other_backend, dtype, capsys):
    case = TRAININGS[0]
    net, reference = network(case, other_backend, dtype), network(case, "cpu", dtype)
    x, y = case.data(m=23, sizes=SIZES)
    data = [(x[:, [i]], y[:, [i]]) for i in range(23)]
    test_data = [(x[:, [i]], int(y[:, i].argmax())) for i in range(23)]
    for n in (net, reference):
        n.SGD(data, 3, 5, 1.0, test_data=test_data)
        n.update_mini_batch(data[:7], 0.5)
    assert_same(net, reference, dtype)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == lines[3:]
    np.testing.assert_allclose(net.cost_derivative(y[:, 0], x[:3, 0]), y[:, 0] - x[:3, 0], rtol=1e-6)


def test_data_that_is_already_on_the_device(backend):
    case = TRAININGS[1]
    X, y = images()
    with backend.active():
        device_X, device_y = backend.asarray(X), backend.asarray(y)
    net, reference = network(case, backend, input_scale=1 / 255), network(case, "cpu", input_scale=1 / 255)
    net.fit(device_X, device_y, epochs=2, batch_size=10, eta=0.3)
    reference.fit(X, y, epochs=2, batch_size=10, eta=0.3)
    assert_same(net, reference, "float64")
    np.testing.assert_array_equal(net.predict(device_X), reference.predict(X))
    with backend.active():
        np.testing.assert_array_equal(backend.to_numpy(device_X), X)
        np.testing.assert_array_equal(backend.to_numpy(device_y), y)


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "float64", "bool"])
def test_inputs_of_any_dtype(other_backend, dtype):
    case = TRAININGS[0]
    X = images()[0].astype(dtype)
    net, reference = network(case, other_backend), network(case, "cpu")
    np.testing.assert_allclose(net.outputs(X), reference.outputs(X), rtol=1e-12)


def test_divergence_leaves_the_last_whole_epoch(backend):
    """Also where the numbers must be fetched from a device."""
    case = cases.Case(("linear", "linear", "linear"), "quadratic")
    net = network(case, backend)
    x, y = case.data(m=20, sizes=SIZES)
    kept = [[np.array(w) for w in net.weights]]

    def after_epoch(epoch):
        kept.append([np.array(w) for w in net.weights])

    with pytest.raises(gpunet.DivergenceError, match="eta"):
        net.fit(x.T, y.T, epochs=50, batch_size=5, eta=2.0, on_epoch=after_epoch)
    for old, new in zip(kept[-1], net.weights, strict=True):
        assert np.isfinite(new).all()
        np.testing.assert_array_equal(new, old)


# -- Weights and biases -------------------------------------------------------------------------------------------


def test_weights_are_set_through(backend):
    case = TRAININGS[0]
    net, reference = network(case, backend), network(case, "cpu")
    W = np.arange(20.0).reshape(4, 5) / 100
    for n in (net, reference):
        n.weights[1] = W
        n.biases[0] = np.full((5, 1), 0.25)
        n.biases[-1] = [[1], [2], [3]]
    np.testing.assert_array_equal(net.weights[1], W)
    assert_same(net, reference, "float64")
    x, _ = case.data(sizes=SIZES)
    np.testing.assert_allclose(net.feedforward(x), reference.feedforward(x), rtol=1e-12)
    net.weights = [0.5 * w for w in reference.weights]
    np.testing.assert_array_equal(net.weights[1], 0.5 * W)


def test_weights_off_the_cpu_are_read_only_copies(other_backend):
    net = network(TRAININGS[0], other_backend)
    w = net.weights[0]
    before = w.copy()
    with pytest.raises(ValueError, match="read-only"):
        w[0, 0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        net.biases[0][:] = 1.0
    x, y = TRAININGS[0].data(m=5, sizes=SIZES)
    net.fit(x.T, y.T, epochs=1, batch_size=5, eta=1.0)
    np.testing.assert_array_equal(w, before)  # it was a copy
    assert (net.weights[0] != before).any()


def test_weights_on_the_cpu_are_the_networks_own():
    net = network(TRAININGS[0], "cpu")
    x, _ = TRAININGS[0].data(sizes=SIZES)
    before = net.feedforward(x)
    net.weights[0][0, 0] += 1.0
    assert (net.feedforward(x) != before).any()


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 3)), np.full((5, 6), np.nan), [["a"] * 6] * 5], ids=["shape", "nan", "str"]
)
def test_weights_that_do_not_fit_change_nothing(backend, bad):
    net = network(TRAININGS[0], backend)
    before = [np.array(w) for w in net.weights]
    with pytest.raises(gpunet.InputError, match=r"weights\[0\]"):
        net.weights[0] = bad
    with pytest.raises(gpunet.InputError, match=r"weights\[0\]"):
        net.weights = [bad, *before[1:]]
    for old, new in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(new, old)


# -- What a step may not do ---------------------------------------------------------------------------------------


@pytest.fixture
def step_on():
    """Make a function that takes steps on some rows as `fit` does by the verbs, with the data on the device."""

    def make(net, X, y, batch_size, optimizer="sgd", **penalty):
        ops = net._model.ops
        with ops.active():
            X, Y = ops.asarray(X), ops.asarray(np.eye(net.sizes[-1], dtype=np.uint8)[y])
            steps = VerbSteps(Recipe(net._model, batch_size, optimizers.get(optimizer), **(penalty or {"l2": 0.01})))
        return lambda index: steps.take((X, Y), index, 0.3, threads=1)

    return make


@each_training
@each_dtype
@pytest.mark.parametrize("penalty", [{"l2": 0.01}, {"alpha": 0.01}], ids=str)
def test_a_step_reads_nothing_back(fake, step_on, case, dtype, penalty):
    net = network(case, "cuda:1", dtype, input_scale=1 / 255)
    X, y = images()
    step = step_on(net, X, y, 10, **penalty)
    before = net.weights[0]
    ops = net._model.ops
    with ops.active():
        order = ops.asarray(np.arange(43))
        with fake_cupy.no_host_sync():
            for start in range(0, 43, 10):
                step(order[start : start + 10])
    assert (net.weights[0] != before).any()


def test_an_epoch_crosses_a_fixed_number_of_times(fake, step_on):
    """Per epoch the order goes in, the cost and the finite check come out: nothing per step."""
    X, y = images()
    crossings = {}
    for batch_size in (43, 10, 1):
        net = network(TRAININGS[0], "cuda", input_scale=1 / 255)
        net.fit(X, y, epochs=1, batch_size=batch_size, eta=0.1)
        before = fake.crossings
        net.fit(X, y, epochs=4, batch_size=batch_size, eta=0.1)
        crossings[batch_size] = fake.crossings - before
    assert len(set(crossings.values())) == 1, crossings


@pytest.mark.parametrize("penalty", [{"l2": 0.01}, {"alpha": 0.01}], ids=str)
def test_a_step_allocates_a_fixed_number_of_small_arrays(fake, step_on, penalty):
    """A step of sigmoid layers writes into what is there; only the cost's sum is new memory."""
    net = network(TRAININGS[0], "cuda", input_scale=1 / 255)
    X, y = images()
    step = step_on(net, X, y, 43, **penalty)
    index = net._model.ops.asarray(np.arange(43))
    step(index)
    before, fake.memory = fake.allocations, 1000  # one (n, m) float64 matrix has at least 43 * 3 * 8 = 1032
    step(index)
    assert fake.allocations - before <= 4


@pytest.mark.parametrize("penalty", [{"l2": 0.01}, {"alpha": 0.01}], ids=str)
@pytest.mark.parametrize("cost", ["quadratic", "cross-entropy", costs.CrossEntropy(1e-7)], ids=repr)
def test_a_step_on_the_cpu_allocates_no_matrix(step_on, cost, penalty):
    """SciPy's BLAS must get layouts that it takes and updates in place, never a copy of them."""
    net = gpunet.Network([300, 200, 2], cost=cost, device=select("cpu"), seed=0)
    rng = np.random.default_rng(0)
    step = step_on(net, rng.random((1024, 300), dtype=np.float32), np.arange(1024) % 2, 512, **penalty)
    order = np.arange(1024)
    step(order[:512])  # makes the buffers
    tracemalloc.start()
    try:
        step(order[512:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    smallest = 200 * 300 * 4  # w^1; a^1 is larger. NumPy's own buffers for broadcasting have 8192 numbers.
    assert peak < smallest / 2


def test_two_threads_may_share_a_backend(backend):
    """Its scratch memory belongs to the thread."""
    X, y = images(200)
    alone = network(TRAININGS[0], backend, input_scale=1 / 255)
    alone.fit(X, y, epochs=2, batch_size=7, eta=0.3)
    nets = [network(TRAININGS[0], backend, input_scale=1 / 255) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda net: net.fit(X, y, epochs=2, batch_size=7, eta=0.3), nets))
    for net in nets:
        assert_same(net, alone, "float64")
