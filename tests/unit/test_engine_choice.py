"""Which engine takes the steps of a training: what was asked for, or the best that can."""

import subprocess
import sys

import numpy as np
import pytest

import gpunet
from gpunet import Activation, Cost, DeviceError, InputError, Network
from gpunet.backends import compiled

needs_engine = pytest.mark.skipif(compiled.why_not_compiled() is not None, reason="there is no compiled engine here")
SOFTSIGN = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)
QUARTIC = Cost("quartic", lambda a, y, xp: xp.sum((a - y) ** 4, axis=0), lambda a, y, xp: 4 * (a - y) ** 3)


def network(**options):
    return Network([4, 5, 3], **{"device": "cpu", "seed": 0, **options})


@needs_engine
def test_auto_takes_the_compiled_engine(blobs):
    history = network().fit(*blobs, epochs=1)
    assert history.engine == f"compiled, {compiled.instruction_sets()[0]}"
    assert history.to_dict()["engine"] == history.engine


@needs_engine
def test_the_books_sgd_takes_it_too(blobs, capsys):
    net = network()
    net.SGD([(x[:, None], np.eye(3)[[y]].T) for x, y in zip(*blobs, strict=True)], 1, 10, 1.0)
    assert net.history.engine.startswith("compiled")


def test_verbs_can_be_asked_for(blobs):
    assert network().fit(*blobs, epochs=1, engine="verbs").engine == "step by step"


@needs_engine
@pytest.mark.parametrize(
    "options",
    [{"class_weight": {1: 2.0}}, {"sample_weight": np.arange(150) % 3}, {"dropout": 0.4}, {"dropout": [0.1, 0.4]}],
    ids=str,
)
def test_it_knows_weights_of_examples_and_dropout(blobs, options):
    nets = [network(dtype="float64") for _ in range(3)]
    choices = "auto", "compiled", "verbs"
    engines = [n.fit(*blobs, epochs=2, engine=e, **options).engine for n, e in zip(nets, choices, strict=True)]
    assert engines == [f"compiled, {compiled.instruction_sets()[0]}"] * 2 + ["step by step"]
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])
    np.testing.assert_allclose(nets[0].weights[0], nets[2].weights[0], rtol=1e-10)
    np.testing.assert_allclose(nets[0].history.cost, nets[2].history.cost, rtol=1e-10)


CAN_NOT = [
    ({"activation": [SOFTSIGN, "sigmoid"]}, {}, "knows the activations sigmoid, .*, not 'softsign'"),
    (
        {"activation": [gpunet.mixed("tanh", {0: "relu"}), "sigmoid"]},
        {},
        "knows the activations .*, not 'mixed'",
    ),
    ({"cost": QUARTIC}, {}, "knows the costs quadratic, .*, not 'quartic'"),
    ({"activation": ["gelu", "sigmoid"]}, {}, "not 'gelu'"),
    ({"cost": "hinge"}, {}, "not 'hinge'"),
    ({}, {"optimizer": "rmsprop"}, "not 'rmsprop'"),
]


@needs_engine
@pytest.mark.parametrize(("options", "fit", "reason"), CAN_NOT, ids=lambda value: str(value)[:20])
def test_what_it_does_not_know_goes_by_the_verbs(blobs, options, fit, reason):
    fit = {"epochs": 1, "eta": 0.1, **fit}
    assert network(**options).fit(*blobs, **fit).engine == "step by step"
    net = network(**options)
    before = net.weights[0].copy()
    with pytest.raises(DeviceError, match=reason):
        net.fit(*blobs, engine="compiled", **fit)
    assert net.history is None
    np.testing.assert_array_equal(net.weights[0], before)


def test_without_it_numpy_does_the_work(blobs, monkeypatch):
    monkeypatch.setattr(compiled, "why_not_compiled", lambda: "nobody compiled it")
    assert network().fit(*blobs, epochs=1).engine == "step by step"
    with pytest.raises(DeviceError, match="nobody compiled it"):
        network().fit(*blobs, epochs=1, engine="compiled")


def test_an_installation_without_it_says_how_to_get_it():
    program = (
        "import sys; sys.modules['gpunet._engine'] = None\n"
        "from gpunet.backends.compiled import why_not_compiled; print(why_not_compiled())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert "the compiled engine is not there" in run.stdout
    assert "pip install" in run.stdout


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"engine": "compilde"}, "unknown engine 'compilde'. Did you mean 'compiled'"),
        ({"threads": 0}, "threads must be a whole number of at least 1"),
        ({"threads": "many"}, "threads must be a whole number of at least 1"),
    ],
)
def test_wrong_choices(blobs, options, fragment):
    with pytest.raises(InputError, match=fragment):
        network().fit(*blobs, epochs=1, **options)


@pytest.mark.parametrize("engine", ["verbs", pytest.param("compiled", marks=needs_engine)])
def test_data_may_lie_anywhere_in_memory(blobs, engine):
    def misaligned(x):
        memory = np.empty(x.nbytes + 2, np.uint8)
        start = 1 - memory.ctypes.data % 2  # at an odd address
        copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
        copy[...] = x
        return copy

    X, y = (np.asarray(x) for x in blobs)
    X, Y = X.astype(np.float32), np.eye(3, dtype=np.float32)[y]
    nets = [network(dtype="float32") for _ in range(2)]
    nets[0].fit(X, Y, epochs=1, engine=engine)
    nets[1].fit(misaligned(X), misaligned(Y), epochs=1, engine=engine)
    np.testing.assert_array_equal(nets[0].weights[0], nets[1].weights[0])


@needs_engine
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "adamw"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_engines_train_the_same_network(blobs, optimizer, dtype):
    nets = [network(dtype=dtype) for _ in range(2)]
    options = {"epochs": 3, "batch_size": 7, "optimizer": optimizer, "l2": 2.0, "eta": 0.05}
    histories = [n.fit(*blobs, engine=e, **options) for n, e in zip(nets, ("compiled", "verbs"), strict=True)]
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(histories[0].cost, histories[1].cost, rtol=tolerance)
    for a, b in zip(nets[0].weights, nets[1].weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@needs_engine
def test_the_same_bits_whatever_the_number_of_threads(blobs):
    nets = [network() for _ in range(3)]
    for threads, net in zip((1, 2, 3), nets, strict=True):
        net.fit(*blobs, epochs=2, threads=threads)
    for net in nets[1:]:
        np.testing.assert_array_equal(net.weights[0], nets[0].weights[0])


@needs_engine
def test_divergence_and_errors_keep_the_last_whole_epoch(blobs):
    net = network(activation="linear", cost="quadratic")
    kept = [net.weights[0].copy()]
    with pytest.raises(gpunet.DivergenceError, match="eta"):
        net.fit(*blobs, epochs=50, eta=3.0, on_epoch=lambda epoch: kept.append(net.weights[0].copy()))
    np.testing.assert_array_equal(net.weights[0], kept[-1])


@needs_engine
def test_an_interrupt_within_an_epoch_keeps_the_last_whole_one(blobs):
    from gpunet.training.compiled import CompiledSteps

    take, done = CompiledSteps.take, []

    def interrupted(self, X, Y, index, threads, until):
        done.append(take(self, X, Y, index, threads, until))
        if len(done) == 3:
            raise KeyboardInterrupt
        return done[-1]

    net, seen = network(), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompiledSteps, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            net.fit(*blobs, epochs=9, on_epoch=lambda epoch: seen.append(net.weights[0].copy()))
    reference = network()
    if seen:
        reference.fit(*blobs, epochs=len(seen))
    np.testing.assert_array_equal(net.weights[0], reference.weights[0])


@needs_engine
def test_large_batches_of_narrow_layers_go_by_the_verbs():
    """The engine's vectors would be mostly empty, in time and in memory."""
    X, y = np.random.default_rng(0).random((3000, 4)), np.arange(3000) % 3
    assert network().fit(X, y, epochs=1, batch_size=1025).engine == "step by step"
    assert network().fit(X, y, epochs=1, batch_size=1024).engine.startswith("compiled")
    assert network().fit(X, y, epochs=1, batch_size=1025, engine="compiled").engine.startswith("compiled")
    wide = Network([64, 64, 32], device="cpu", seed=0)
    X, y = np.random.default_rng(0).random((3000, 64)), np.arange(3000) % 32
    assert wide.fit(X, y, epochs=1, batch_size=1025).engine.startswith("compiled")


@needs_engine
def test_a_long_step_does_not_hold_up_an_interrupt(monkeypatch):
    """It goes on beside Python, and what it computes is dropped."""
    import signal
    import threading
    import time

    from gpunet.training import compiled as training_compiled

    monkeypatch.setattr(training_compiled, "_LONG_STEP", 0.0)
    began, may_end = threading.Event(), threading.Event()
    steps = compiled.CompiledEngine.steps

    def long(self, *arguments):
        began.set()
        may_end.wait(60)
        return steps(self, *arguments)

    monkeypatch.setattr(compiled.CompiledEngine, "steps", long)
    net = network()
    before = net.weights[0].copy()

    def interrupt():
        began.wait(60)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # wakes it, as interrupt_main does not

    before_handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            net.fit(np.random.default_rng(0).random((20, 4)), np.arange(20) % 3, epochs=1)
    finally:
        signal.signal(signal.SIGINT, before_handler)
    assert not may_end.is_set()
    np.testing.assert_array_equal(net.weights[0], before)
    may_end.set()
    for thread in threading.enumerate():
        if thread.name == "gpunet engine":
            thread.join(60)
    np.testing.assert_array_equal(net.weights[0], before)


@needs_engine
def test_a_long_step_gives_the_same_and_its_errors(blobs, monkeypatch):
    from gpunet.training import compiled as training_compiled

    plain, beside = network(), network()
    plain.fit(*blobs, epochs=2)
    monkeypatch.setattr(training_compiled, "_LONG_STEP", 0.0)
    beside.fit(*blobs, epochs=2)
    np.testing.assert_array_equal(plain.weights[0], beside.weights[0])

    def failing(self, *arguments):
        raise MemoryError("none left")

    monkeypatch.setattr(compiled.CompiledEngine, "steps", failing)
    with pytest.raises(DeviceError, match="none left"):
        beside.fit(*blobs, epochs=1)
    np.testing.assert_array_equal(plain.weights[0], beside.weights[0])


def test_infinite_parameters_are_refused_before_the_training(blobs):
    net = network()
    net.weights[0][0, 0] = np.inf
    with pytest.raises(InputError, match="NaN or infinity before the training"):
        net.fit(*blobs, epochs=1)


def test_divergence_by_l2_is_told(blobs):
    with pytest.raises(gpunet.DivergenceError, match="a smaller l2"):
        network().fit(*blobs, epochs=200, l2=1e4)


def test_a_fit_within_a_callback_does_not_change_what_the_outer_one_returns(blobs):
    net = network()

    def inner(epoch):
        if epoch.epoch == 1:
            net.fit(*blobs, epochs=1)

    assert len(net.fit(*blobs, epochs=3, on_epoch=inner).epochs) == 3


def test_optimizers_of_ones_own_are_refused(blobs):
    class Mine(gpunet.optimizers.Momentum):
        pass

    with pytest.raises(InputError, match=r"optimizers of one's own are not supported, got Mine"):
        network().fit(*blobs, epochs=1, optimizer=Mine())
    with pytest.raises(InputError, match=r"pass Adam\(\)"):
        network().fit(*blobs, epochs=1, optimizer=gpunet.optimizers.Adam)
