"""Steps that a device replays by one launch: the same bits as one by one, and one by one where it can not."""

import gc
import logging
import weakref

import numpy as np
import pytest
from backends import fake_cupy
from oracles import cases

import gpunet
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe, VerbSteps

SIZES = [6, 5, 4, 3]
REPLAYABLE = [
    cases.Case(("sigmoid", "sigmoid", "sigmoid"), "quadratic"),
    cases.Case(("relu", "tanh", "softmax"), "log-likelihood"),
    cases.Case(("softmax", "linear", "sigmoid"), "cross-entropy"),
]
NOT_REPLAYABLE = [
    cases.Case(("custom", "sigmoid", "sigmoid"), "quadratic"),
    cases.Case(("sigmoid", "mixed", "sigmoid"), "quadratic"),
    cases.Case(("sigmoid", "sigmoid", "sigmoid"), "quartic"),
]
OPTIMIZERS = ["sgd", "momentum", "adam"]
#: A kernel of its own has no part in these.
NO_KERNEL = [
    ({"sample_weight": np.linspace(0.1, 2.0, 43)}, "weights of examples have no kernel"),
    ({"clip_norm": 0.1}, "clipping has no kernel"),
    ({"clip_value": 0.01}, "clipping has no kernel"),
    ({"max_norm": 0.5}, "a limit of norms has no kernel"),
]


@pytest.fixture(autouse=True)
def _few_steps_a_launch(monkeypatch):
    monkeypatch.setattr("gpunet.training.steps.REPLAYED", 4)


def data(n=43):
    X = np.random.default_rng(7).integers(0, 256, (n, SIZES[0]), dtype=np.uint8)
    return X, (X[:, 0] // 86).astype(np.int64)


def trained(case, device="cuda", epochs=3, **options):
    """Train with 14 steps of 3 examples and a ragged one: three launches of 4 steps, and 3 steps one by one."""
    X, y = data()
    dtype = options.pop("dtype", "float32")
    net = case.network(sizes=SIZES, device=device, dtype=dtype, seed=5, input_scale=1 / 255)
    net.fit(X, y, **{"epochs": epochs, "batch_size": 3, "eta": 0.1, "engine": "verbs", **options})
    return net


def parameters(net):
    return [*net.weights, *net.biases]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", REPLAYABLE, ids=str)
def test_the_same_bits_as_one_by_one(fake, monkeypatch, case, optimizer):
    options = {"optimizer": optimizer, "l2": 0.5}
    replayed = trained(case, **options)
    assert fake.graph_launches == 3 * 3 - 1  # the first four steps are run before they are captured
    assert replayed.history.engine == "4 steps a launch"
    fake.capture_error = fake_cupy.CUDARuntimeError("not here")
    one_by_one = trained(case, **options)
    assert fake.graph_launches == 3 * 3 - 1
    assert one_by_one.history.engine == "step by step"
    for a, b in zip(parameters(replayed), parameters(one_by_one), strict=True):
        np.testing.assert_array_equal(a, b)
    assert replayed.history.cost == one_by_one.history.cost


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "adamw"])
def test_an_eta_that_changes_and_all_penalties(fake, optimizer):
    """A launch has eta inside: it is captured anew in each epoch, after four steps one by one."""
    options = {"optimizer": optimizer, "l2": 0.5, "l1": 0.2, "weight_decay": 0.1, "label_smoothing": 0.1}
    options["eta"] = gpunet.schedules.Exponential(0.1, 0.5)
    replayed = trained(REPLAYABLE[0], **options)
    assert fake.graph_launches == 3 * (3 - 1)
    assert replayed.history.engine == "4 steps a launch"
    assert replayed.history.etas == [0.1, 0.05, 0.025]
    fake.capture_error = fake_cupy.CUDARuntimeError("not here")
    one_by_one = trained(REPLAYABLE[0], **options)
    assert fake.graph_launches == 3 * (3 - 1)
    for a, b in zip(parameters(replayed), parameters(one_by_one), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(parameters(replayed), parameters(trained(REPLAYABLE[0], "cpu", **options)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_a_launch_that_has_no_eta_inside_outlives_a_change_of_it(fake):
    """Adam's comes from the device, so that a schedule costs no capture."""
    options = {"optimizer": "adam", "l2": 0.5, "eta": gpunet.schedules.Exponential(0.1, 0.5)}
    replayed = trained(REPLAYABLE[0], **options)
    assert fake.graph_launches == 3 * 3 - 1
    fake.capture_error = fake_cupy.CUDARuntimeError("not here")
    for a, b in zip(parameters(replayed), parameters(trained(REPLAYABLE[0], **options)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("options", "reason"), NO_KERNEL, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_regularization_without_a_kernel_is_run_one_by_one(fake, caplog, options, reason):
    with caplog.at_level(logging.INFO, logger="gpunet"):
        net = trained(REPLAYABLE[0], dtype="float64", **options)
    assert fake.graph_launches == 0
    assert net.history.engine == "step by step"
    assert reason in caplog.text
    for a, b in zip(
        parameters(net), parameters(trained(REPLAYABLE[0], "cpu", dtype="float64", **options)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


def test_masks_are_drawn_once_a_step(fake, caplog):
    """They come from the host, so that no step can be captured; a try would draw some that no step used."""
    with caplog.at_level(logging.INFO, logger="gpunet"):
        net = trained(REPLAYABLE[0], dtype="float64", dropout=0.3)
    assert net.history.engine == "step by step"
    assert "launched one by one" not in caplog.text
    for a, b in zip(
        parameters(net), parameters(trained(REPLAYABLE[0], "cpu", dtype="float64", dropout=0.3)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


@pytest.mark.parametrize("case", NOT_REPLAYABLE, ids=str)
def test_what_has_no_kernel_is_run_one_by_one(fake, caplog, case):
    with caplog.at_level(logging.INFO, logger="gpunet"):
        net = trained(case, epochs=1)
    assert fake.graph_launches == 0
    assert net.history.engine == "step by step"
    assert "no kernel" in caplog.text
    reference = trained(case, "cpu", epochs=1)
    for a, b in zip(parameters(net), parameters(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_large_products_are_cublas_and_not_captured(fake, monkeypatch, caplog):
    monkeypatch.setattr("gpunet.backends.cupy._OWN_PRODUCT", 10)
    with caplog.at_level(logging.INFO, logger="gpunet"):
        net = trained(REPLAYABLE[0], epochs=1)
    assert fake.graph_launches == 0
    assert "cuBLAS" in caplog.text
    for a, b in zip(parameters(net), parameters(trained(REPLAYABLE[0], "cpu", epochs=1)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


def test_a_replayed_epoch_crosses_and_allocates_as_often_as_it_has_parts(fake):
    """Nothing per step, nothing per launch."""
    X, y = data(4 * 3 * 50)
    counts = []
    for n in (4 * 3 * 10, 4 * 3 * 50):
        net = REPLAYABLE[0].network(sizes=SIZES, device="cuda", dtype="float32", seed=5, input_scale=1 / 255)
        net.fit(X[:n], y[:n], epochs=1, batch_size=3, eta=0.1)
        before = fake.crossings, fake.allocations
        net.fit(X[:n], y[:n], epochs=2, batch_size=3, eta=0.1)
        counts.append((fake.crossings - before[0], fake.allocations - before[1]))
    assert counts[0] == counts[1]


def test_a_network_of_the_book_trains_as_on_numpy(fake):
    """50 steps of [784, 30, 10] in float64, most of them replayed."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (250, 784), dtype=np.uint8), rng.integers(0, 10, 250)
    nets = [
        gpunet.Network([784, 30, 10], device=device, dtype="float64", seed=1, input_scale=1 / 256)
        for device in ("cuda", "cpu")
    ]
    histories = [net.fit(X, y, epochs=2, batch_size=10, eta=3.0) for net in nets]
    assert fake.graph_launches == 2 * 6 - 1
    np.testing.assert_allclose(histories[0].cost, histories[1].cost, rtol=1e-10)
    for a, b in zip(*map(parameters, nets), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


def test_nothing_of_a_training_stays(fake):
    """No cycle of references keeps its arrays until the collector of cycles runs."""
    net = REPLAYABLE[0].network(sizes=SIZES, device="cuda", dtype="float32", seed=5, input_scale=1 / 255)
    ops = net._model.ops
    with ops.active():
        X, y = data()
        x, Y = ops.asarray(X), ops.asarray(np.eye(3, dtype=np.uint8)[y])
        steps = VerbSteps(Recipe(net._model, 3, gpunet.optimizers.get("adam")))
        steps.take((x, Y), ops.asarray(np.arange(12)), 0.1, threads=1)
    assert steps.name == "4 steps a launch"
    gone = weakref.ref(steps)
    gc.disable()
    try:
        del steps
        assert gone() is None
    finally:
        gc.enable()


def taken(device, weights=None, **penalty):
    """Parameters, cost and penalty after two epochs of 14 steps of 3 examples and a ragged one by the verbs."""
    X, y = data()
    net = REPLAYABLE[1].network(sizes=SIZES, device=device, dtype="float64", seed=5, input_scale=1 / 255)
    ops, adam = net._model.ops, gpunet.optimizers.Adam(epsilon=1e-3, epsilon_hat=True)
    with ops.active():
        arrays = [ops.asarray(x) for x in (X, np.eye(3)[y], weights) if x is not None]
        recipe, rng = Recipe(net._model, 3, adam, **penalty), np.random.default_rng(3)
        training = MiniBatchSGD(recipe, *arrays[:2], rng, *arrays[2:], engine="verbs")
        told = [(training.run_epoch(0.01), training.penalty) for _ in range(2)]
    return training.engine, [*parameters(net), np.array(told)]


def test_the_penalty_of_alpha_is_summed_within_a_launch(fake):
    engine, replayed = taken("cuda", alpha=0.3)
    assert engine == "4 steps a launch"
    assert fake.graph_launches == 2 * 3 - 1
    fake.capture_error = fake_cupy.CUDARuntimeError("not here")
    engine, one_by_one = taken("cuda", alpha=0.3)
    assert engine == "step by step"
    for a, b in zip(replayed, one_by_one, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(replayed, taken("cpu", alpha=0.3)[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


def test_weights_that_are_normalised_by_the_host_are_not_replayed(fake, caplog):
    weights = np.linspace(0.1, 2.0, 43)[:, None]
    with caplog.at_level(logging.INFO, logger="gpunet"):
        engine, found = taken("cuda", weights, alpha=0.3)
    assert engine == "step by step"
    assert fake.graph_launches == 0
    assert "the host reads numbers of the device" in caplog.text
    for a, b in zip(found, taken("cpu", weights, alpha=0.3)[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


def test_divergence_within_a_replay_is_noticed(fake):
    case = cases.Case(("linear", "linear", "linear"), "quadratic")
    net = case.network(sizes=SIZES, device="cuda", seed=5)
    before = parameters(net)
    x, y = case.data(m=48, sizes=SIZES)
    with pytest.raises(gpunet.DivergenceError):
        net.fit(x.T, y.T, epochs=3, batch_size=3, eta=1e6)
    for a, b in zip(before, parameters(net), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_by_itself_is_not_captured(fake):
    net = trained(REPLAYABLE[0], epochs=1)
    launches = fake.graph_launches
    x, y = REPLAYABLE[0].data(m=7, sizes=SIZES)
    net.update_mini_batch([(x[:, [i]], y[:, [i]]) for i in range(7)], 0.1)
    assert fake.graph_launches == launches


def test_backends_that_can_not_replay_are_not_asked(backend):
    if backend.replays:
        pytest.skip("this one can")
    net = trained(REPLAYABLE[0], backend, epochs=1)
    assert net.history.engine == "step by step"
    assert backend.capture(lambda: None) is None


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("case", REPLAYABLE, ids=str)
def test_the_same_bits_on_a_real_card(monkeypatch, case, optimizer):
    replayed = trained(case, optimizer=optimizer)
    assert replayed.history.engine == "4 steps a launch"
    monkeypatch.setattr("gpunet.backends.cupy.CuPyBackend.capture", lambda self, run: None)
    one_by_one = trained(case, optimizer=optimizer)
    assert one_by_one.history.engine == "step by step"
    for a, b in zip(parameters(replayed), parameters(one_by_one), strict=True):
        np.testing.assert_array_equal(a, b)


def test_replayed_steps_and_single_ones_are_numbered_through(fake):
    """Adam's corrections depend on the step's number."""
    X, y = data(36)
    results = []
    for device in ("cuda", "cpu"):
        net = REPLAYABLE[0].network(sizes=SIZES, device=device, dtype="float64", seed=5, input_scale=1 / 255)
        ops = net._model.ops
        with ops.active():
            Y = ops.asarray(np.eye(3, dtype=np.uint8)[y])
            adam = gpunet.optimizers.get("adam")
            steps, x = VerbSteps(Recipe(net._model, 3, adam)), ops.asarray(X)
            for rows in (range(12), range(12), range(3), range(20, 32)):
                steps.take((x, Y), ops.asarray(np.array(rows)), 0.1, threads=1)
        results.append(parameters(net))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())
