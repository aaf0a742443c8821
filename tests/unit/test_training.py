"""However a training ends, the network keeps a whole epoch's parameters; divergence is told in plain words."""

import contextlib
import io

import numpy as np
import pytest

from gpunet import DivergenceError, InputError, Network
from gpunet.training import loop


def small(seed=0, **options):
    return Network([4, 5, 3], device="cpu", seed=seed, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def after(epochs, blobs, **fit):
    """Return the parameters after so many whole epochs."""
    net = small()
    if epochs:
        net.fit(*blobs, epochs=epochs, **fit)
    return parameters(net)


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("epoch", [0, 3])
def test_an_error_in_on_epoch_keeps_that_epoch(blobs, error, epoch):
    def stop(report):
        if report.epoch == epoch:
            raise error("stop")

    net = small()
    with pytest.raises(Exception if error is MemoryError else error, match="stop"):
        net.fit(*blobs, epochs=9, on_epoch=stop)
    assert np.array_equal(parameters(net), after(epoch + 1, blobs))


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt])
@pytest.mark.parametrize("steps", [0, 7, 15, 29, 31])
def test_an_error_in_the_middle_of_an_epoch_keeps_the_last_whole_one(blobs, error, steps, monkeypatch):
    """150 examples in batches of 10 are 15 steps an epoch."""
    from gpunet.training.steps import VerbSteps

    step, done = VerbSteps._step, []

    def interrupted(self, data, index, c):
        step(self, data, index, c)
        done.append(len(index))
        if len(done) > steps:
            raise error("stop")

    net = small()
    with monkeypatch.context() as patch:
        patch.setattr(VerbSteps, "_step", interrupted)
        with pytest.raises(error, match="stop"):
            net.fit(*blobs, epochs=9, engine="verbs")
    assert np.array_equal(parameters(net), after(steps // 15, blobs, engine="verbs"))


def test_an_interrupt_within_the_validation_keeps_the_last_epoch_that_was_reported(blobs, monkeypatch):
    """Else `gpunet train` would save one epoch's model and name another."""
    measured = []

    def measure(validation, model):
        measured.append(model)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return 0.0, 0.0

    monkeypatch.setattr(loop.Validation, "measure", measure)
    net, reported = small(), []
    with pytest.raises(KeyboardInterrupt):
        net.fit(*blobs, epochs=9, validation_data=blobs, on_epoch=lambda epoch: reported.append(epoch.epoch))
    assert reported == [0, 1]
    assert np.array_equal(parameters(net), after(2, blobs))


def test_an_error_in_the_books_sgd_keeps_the_last_whole_epoch(blobs, monkeypatch):
    data = [(x[:, None], int(y)) for x, y in zip(*blobs, strict=True)]
    net = small()

    def evaluate(test_data):
        if "Epoch 0" in out.getvalue():
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(net, "evaluate", evaluate)
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(KeyboardInterrupt):
        net.SGD(data, 9, 10, 3.0, test_data=data)
    assert out.getvalue() == "Epoch 0: 0 / 150\n"
    assert np.array_equal(parameters(net), after(2, blobs))


def test_training_goes_on_after_an_interrupt(blobs):
    def stop(report):
        raise KeyboardInterrupt

    net = small()
    with pytest.raises(KeyboardInterrupt):
        net.fit(*blobs, on_epoch=stop)
    net.fit(*blobs, epochs=2)
    assert np.array_equal(parameters(net), after(3, blobs))


# -- Divergence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("eta", [3.0, 1e3, 1e30])
def test_divergence_is_told_and_the_parameters_stay_finite(blobs, activation, dtype, validate, eta):
    """Warnings are errors here, so no RuntimeWarning comes out either."""
    X, y = blobs
    net = small(activation="linear", output_activation=activation, dtype=dtype, input_scale=1)
    net.biases = [np.full(b.shape, 5.0) for b in net.biases]
    before = parameters(net)
    reported = []
    if activation == "relu" and eta > 3.0:
        net.weights[1] = np.abs(net.weights[1])
        before = parameters(net)
    with pytest.raises(DivergenceError) as caught:
        net.fit(
            X * 100,
            np.eye(3)[y] * 1e3,
            epochs=400,
            eta=eta,
            on_epoch=reported.append,
            validation_data=(X, np.eye(3)[y]) if validate else None,
        )
    text = str(caught.value)
    assert f"training diverged in epoch {len(reported)} " in text
    kept = f"epoch {len(reported) - 1}" if reported else "the start"
    assert f"The network keeps the parameters of {kept}." in text
    assert f"Try a smaller eta (it was {eta:g})" in text
    assert np.isfinite(parameters(net)).all()
    if not reported:
        assert np.array_equal(parameters(net), before)


def test_divergence_keeps_exactly_the_last_whole_epoch(blobs):
    X, y = blobs
    Y = np.eye(3)[y]

    def linear():
        return small(activation="linear", dtype="float64")

    net, reported = linear(), []
    with pytest.raises(DivergenceError):
        net.fit(X, Y, epochs=5000, batch_size=150, eta=30.0, on_epoch=reported.append)
    assert len(reported) > 1
    twin = linear()
    twin.fit(X, Y, epochs=len(reported), batch_size=150, eta=30.0)
    assert np.array_equal(parameters(net), parameters(twin))


def test_a_cost_that_overflows_only_in_the_validation_raises_no_warning(blobs):
    """One step from harmless outputs to huge ones: the epoch's cost is finite, the validation's is not."""
    X, y = blobs
    net = Network([4, 3], activation="linear", device="cpu", seed=0)
    with contextlib.suppress(DivergenceError):  # or an infinite validation cost; but warnings are errors here
        net.fit(X, np.eye(3)[y], epochs=1, batch_size=150, eta=1e25, validation_data=(X, np.eye(3)[y]))
    assert np.isfinite(parameters(net)).all()


def test_the_books_sgd_tells_of_divergence_too(blobs):
    data = [(x[:, None] * 100, np.eye(3)[y][:, None]) for x, y in zip(*blobs, strict=True)]
    with pytest.raises(DivergenceError, match="diverged in epoch 0"), contextlib.redirect_stdout(io.StringIO()):
        small(activation="linear").SGD(data, 9, 10, 1e6)


def test_update_mini_batch_gives_no_warning_where_it_overflows(blobs):
    data = [(x[:, None] * 100, np.eye(3)[y][:, None]) for x, y in zip(*blobs, strict=True)]
    net = small(activation="relu", output_activation="linear")
    net.biases[0] = np.full((5, 1), 5.0)
    for _ in range(5):
        net.update_mini_batch(data[:10], 1e30)  # warnings are errors here
    assert not np.isfinite(parameters(net)).all()


@pytest.mark.parametrize("method", ["feedforward", "backprop", "trace", "outputs", "score", "evaluate"])
def test_huge_but_finite_numbers_give_no_warning(method):
    net = Network([2, 2], activation="linear", device="cpu")
    net.weights, net.biases = [[[3e38, 3e38], [3e38, -3e38]]], [np.zeros((2, 1))]
    x, y = np.full((2, 1), 3e38), np.zeros((2, 1))
    arguments = {
        "feedforward": (x,),
        "outputs": (x.T,),
        "score": (x.T, y.T),
        "evaluate": ([(x, 0)],),
    }.get(method, (x, y))
    getattr(net, method)(*arguments)  # warnings are errors here


def test_saturated_sigmoids_do_not_diverge(blobs):
    X, y = blobs
    for cost in ("quadratic", "cross-entropy"):
        net = small(cost=cost, input_scale=1)
        net.fit(X * 1e6, y, epochs=3, eta=1e4)
        assert np.isfinite(parameters(net)).all()
        assert np.isfinite(net.history.cost).all()


def test_log_likelihood_of_an_impossible_class_stays_finite(blobs):
    X, y = blobs
    net = small(cost="log-likelihood", activation="relu", input_scale=1)
    history = net.fit(X * 1e3, y, epochs=3, eta=1e-9, validation_data=(X * 1e3, y))
    assert history.cost[0] > 30  # saturated: most classes get a probability of 0
    assert np.isfinite(history.cost).all()
    assert np.isfinite(history.validation_cost).all()


def test_nan_from_a_custom_activation_is_divergence(blobs):
    from gpunet import Activation

    root = Activation("root", lambda z, xp: xp.sqrt(z), lambda z, xp: 0.5 / xp.sqrt(z))
    net = small(activation=[root, "sigmoid"])
    before = parameters(net)
    with pytest.raises(DivergenceError, match=r"epoch 0 .*the start"):
        net.fit(*blobs, epochs=2)
    assert np.array_equal(parameters(net), before)


def test_an_input_error_does_not_touch_the_history(blobs):
    net = small()
    history = net.fit(*blobs, epochs=1)
    with pytest.raises(InputError):
        net.fit(blobs[0], blobs[1][:5])
    assert net.history is history


# -- The whole book: chapter 1's network on all of MNIST, about 10 s each ------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cost", ["quadratic", "cross-entropy"])
def test_thirty_epochs_of_mnist_reach_the_books_accuracy(mnist, cost, dtype):
    """The book reports "Epoch 29: 9497 / 10000" in chapter 1. This is slow: all 50,000 examples, 30 epochs."""
    net = Network([784, 30, 10], cost=cost, dtype=dtype, seed=1, input_scale=1 / 256, device="cpu")
    history = net.fit(
        mnist.X[:50_000], mnist.y[:50_000], epochs=30, batch_size=10, validation_data=(mnist.X_test, mnist.y_test)
    )
    assert history.eta == {"quadratic": 3.0, "cross-entropy": 0.5}[cost]
    assert history.validation_score[-1] >= 0.945
    assert net.score(mnist.X_test, mnist.y_test) == history.validation_score[-1]
