"""Early stopping: when a training ends, and which epoch's parameters it keeps, however it ends."""

import math

import numpy as np
import pytest
import scipy.optimize

from gpunet import DivergenceError, EarlyStopping, InputError, Network
from gpunet.training import loop
from gpunet.training.history import Epoch, History


def history(values, monitor="validation_cost"):
    made = History("cpu", "", "", "sgd", 0.1, 10)
    for number, value in enumerate(values):
        given = {"cost": 1.0, monitor: value}
        made.epochs.append(Epoch(epoch=number, seconds=1.0, examples_per_second=1.0, **given))
    return made


CASES = [
    # cost, patience, min_delta, the best epoch after each, whether it is over after each
    ([3, 2, 1], 1, 0.0, [0, 1, 2], [0, 0, 0]),
    ([1, 1, 1], 1, 0.0, [0, 0, 0], [0, 1, 1]),
    ([1, 2, 2, 0.5, 1], 3, 0.0, [0, 0, 0, 3, 3], [0, 0, 0, 0, 0]),
    ([1, 2, 2, 2], 3, 0.0, [0, 0, 0, 0], [0, 0, 0, 1]),
    ([2, 1.5, 1.25, 1], 2, 0.5, [0, 0, 2, 2], [0, 0, 0, 0]),  # 1.5 is not better by more than 0.5, 1.25 is
    ([2, 1.9, 1.8, 1.7], 2, 0.5, [0, 0, 0, 0], [0, 0, 1, 1]),
    ([math.inf, 5, 6], 1, 0.0, [0, 1, 1], [0, 0, 1]),
    ([5, math.nan, math.nan], 2, 0.0, [0, 0, 0], [0, 0, 1]),
]


@pytest.mark.parametrize(("costs", "patience", "min_delta", "best", "over"), CASES)
@pytest.mark.parametrize("monitor", ["validation_cost", "cost", "validation_score"])
def test_the_best_epoch_and_the_end(costs, patience, min_delta, best, over, monitor):
    stopping = EarlyStopping(patience, monitor, min_delta)
    values = [-c for c in costs] if monitor == "validation_score" else costs
    known = 0
    for n in range(1, len(values) + 1):
        so_far = history(values[:n], monitor)
        assert stopping.best_epoch(so_far) == stopping.best_epoch(so_far, known) == best[n - 1]
        assert stopping.is_over(so_far) == stopping.is_over(so_far, known) == bool(over[n - 1])
        known = best[n - 1]


def test_no_epoch_is_best_of_none():
    assert EarlyStopping().best_epoch(history([])) is None
    assert not EarlyStopping().is_over(history([]))


# -- In a training -------------------------------------------------------------------------------------------

#: Costs that a training is told of its validation data: the third epoch is the best, within 0.3 the second.
TOLD = [3.0, 1.0, 0.9, 1.5, 1.2, 1.1, 1.3, 1.4, 1.6, 1.7]


@pytest.fixture
def told(monkeypatch):
    """Validation that says what TOLD has: the score is that of the opposite sign."""
    costs = iter(TOLD)

    def measure(validation, model):
        cost = next(costs)
        return cost, -cost

    monkeypatch.setattr(loop.Validation, "measure", measure)


def small():
    return Network([4, 5, 3], device="cpu", seed=1)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def trained(blobs, epochs):
    net = small()
    if epochs:
        net.fit(*blobs, epochs=epochs)
    return parameters(net)


def check(net, blobs, epochs, best, kept, stopped):
    """Compare what a training says, and that it keeps the parameters after so many epochs."""
    assert len(net.history.epochs) == epochs
    assert net.history.best_epoch == best
    assert net.history.stopped == stopped
    np.testing.assert_array_equal(parameters(net), trained(blobs, kept))


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("given", "epochs", "best", "stopped"),
    [
        (3, 6, 2, "validation_cost did not improve for 3 epochs"),
        (EarlyStopping(1), 4, 2, "validation_cost did not improve for 1 epochs"),
        (EarlyStopping(4, "validation_score"), 7, 2, "validation_score did not improve for 4 epochs"),
        (EarlyStopping(2, min_delta=0.3), 4, 1, "validation_cost did not improve for 2 epochs"),
        (True, 10, 2, None),  # a patience of ten
    ],
    ids=repr,
)
def test_the_best_epoch_comes_back(blobs, given, epochs, best, stopped):
    net = small()
    net.fit(*blobs, epochs=10, early_stopping=given, validation_data=blobs)
    check(net, blobs, epochs, best, best + 1, stopped)


@pytest.mark.usefixtures("told")
def test_without_restore_best_the_last_epoch_stays(blobs):
    net = small()
    net.fit(*blobs, epochs=10, early_stopping=EarlyStopping(3, restore_best=False), validation_data=blobs)
    check(net, blobs, 6, None, 6, "validation_cost did not improve for 3 epochs")


@pytest.mark.usefixtures("told")
def test_after_a_callback_the_best_epoch_comes_back_too(blobs):
    net = small()
    stop = {"on_epoch": lambda epoch: epoch.epoch == 4, "validation_data": blobs}
    net.fit(*blobs, epochs=10, early_stopping=5, **stop)
    check(net, blobs, 5, 2, 3, "a callback asked for it")


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_after_an_interrupt_the_last_whole_epoch_stays(blobs, error):
    def stop(epoch):
        if epoch.epoch == 4:
            raise error

    net = small()
    with pytest.raises(error):
        net.fit(*blobs, epochs=10, early_stopping=5, on_epoch=stop, validation_data=blobs)
    check(net, blobs, 5, None, 5, None)


@pytest.mark.usefixtures("told")
def test_after_divergence_the_last_whole_epoch_stays(blobs):
    net = Network([4, 3], activation="linear", device="cpu", seed=1)
    kept = []
    with pytest.raises(DivergenceError):
        net.fit(
            *blobs, epochs=10, eta=lambda epoch: 0.01 if epoch < 4 else 1e30, early_stopping=5,
            on_epoch=lambda epoch: kept.append(parameters(net)), validation_data=blobs,
        )  # fmt: skip
    assert len(kept) == 4
    np.testing.assert_array_equal(parameters(net), kept[-1])


def test_the_training_cost_needs_no_validation(blobs):
    net = small()
    history = net.fit(*blobs, epochs=50, early_stopping=EarlyStopping(2, "cost", min_delta=0.5))
    assert history.stopped == "cost did not improve for 2 epochs"
    assert history.best_epoch == len(history.epochs) - 3
    np.testing.assert_array_equal(parameters(net), trained(blobs, history.best_epoch + 1))


def test_the_score_is_that_of_the_restored_parameters(blobs):
    X, y = blobs
    net = Network([4, 20, 3], device="cpu", seed=1)
    data = (X[100:], np.roll(y[100:], 1))  # labels that have nothing to do with it: it overfits at once
    history = net.fit(X[:100], y[:100], epochs=60, early_stopping=5, validation_data=data)
    assert history.stopped is not None
    assert net.score(*data) == history.epochs[history.best_epoch].validation_score


def test_lbfgs_stops_early_too(blobs):
    net = small()
    data = (blobs[0][::5], np.roll(blobs[1], 1)[::5])
    history = net.fit(*blobs, epochs=200, optimizer="lbfgs", early_stopping=4, validation_data=data)
    assert history.stopped == "validation_cost did not improve for 4 epochs"
    assert history.best_epoch == len(history.epochs) - 5
    assert net.score(*data) == history.epochs[history.best_epoch].validation_score
    again = small()
    again.fit(*blobs, epochs=history.best_epoch + 1, optimizer="lbfgs")
    np.testing.assert_array_equal(parameters(net), parameters(again))


def test_lbfgs_keeps_its_last_iterate_and_not_its_last_trial(blobs, monkeypatch):
    """A line search that fails has tried other parameters last."""
    minimize = scipy.optimize.minimize

    def failing(fun, x, options, **more):
        result = minimize(fun, x, options={**options, "maxiter": 3}, **more)
        fun(x + 1.0)
        result.status, result.message = 2, "ABNORMAL"
        return result

    wanted, net = small(), small()
    wanted.fit(*blobs, epochs=3, optimizer="lbfgs")
    monkeypatch.setattr(scipy.optimize, "minimize", failing)
    net.fit(*blobs, epochs=9, optimizer="lbfgs")
    assert (len(net.history.epochs), net.history.stopped) == (3, "L-BFGS ended: ABNORMAL")
    np.testing.assert_array_equal(parameters(net), parameters(wanted))


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: EarlyStopping(0), "patience must be a whole number of at least 1, got 0"),
        (lambda: EarlyStopping(2.5), "patience must be a whole number of at least 1, got 2.5"),
        (lambda: EarlyStopping(monitor="loss"), "unknown monitor 'loss'."),
        (lambda: EarlyStopping(monitor=None), "unknown monitor None. Known: 'cost', 'validation_cost', 'validation_"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta must be a finite number of at least 0, got -1"),
        (lambda: EarlyStopping(min_delta="x"), "min_delta must be a finite number of at least 0, got 'x'"),
        (lambda: EarlyStopping(restore_best="no"), "restore_best must be True or False, got 'no'"),
    ],
)
def test_bad_constants(make, fragment):
    with pytest.raises(InputError) as caught:
        make()
    assert fragment in str(caught.value)
