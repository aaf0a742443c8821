"""What `fit` refuses of a training's options: the message names what was given, what is expected and what to do."""

import copy
import inspect
from dataclasses import fields

import numpy as np
import pytest

import gpunet
from gpunet import DeviceError, EarlyStopping, InputError, Network, schedules
from gpunet.optimizers import LBFGS, Adam, AdamW
from gpunet.training import fit
from gpunet.training.holdout import hold_out
from gpunet.training.options import Options

NAN, INF = float("nan"), float("inf")


def small(**options):
    return Network([4, 5, 6, 3], device="cpu", seed=1, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def refused(net, data, options, fragment, error=InputError):
    before, rng = parameters(net), net._rng.bit_generator.state
    with pytest.raises(error) as caught:
        net.fit(*data, **options)
    assert fragment in str(caught.value)
    np.testing.assert_array_equal(parameters(net), before)
    assert (net._rng.bit_generator.state, net.history, net.task) == (rng, None, "classification")


FROM_ZERO = "must be a finite number of at least 0, got "
NUMBER = "must be a number above 0, got "
ABOVE_ZERO = "must be a finite number above 0, got "
NO_DROPOUT = (
    "dropout must be a number from 0 to 1, for all hidden layers, or a list of 3, for the input and each hidden"
)

BAD = [
    *(
        ({name: value}, f"{name} {FROM_ZERO}{value!r}")
        for name in ("l2", "l1", "weight_decay", "label_smoothing", "validation_split", "checkpoint_seconds")
        for value in (-0.1, NAN, INF, "0.1", True, [0.1])
    ),
    *(
        ({name: value}, f"{name} {NUMBER if isinstance(value, str | bool | list) else ABOVE_ZERO}{value!r}")
        for name in ("max_norm", "clip_value", "clip_norm")
        for value in (0, -1.0, NAN, INF, "1", True, [1.0])
    ),
    ({"l1": 10**400}, f"l1 {FROM_ZERO}1000"),
    ({"label_smoothing": 1}, "label_smoothing must be at least 0 and below 1, got 1"),
    ({"validation_split": 1}, "validation_split must be at least 0 and below 1, got 1"),
    ({"validation_split": 0.001}, "validation_split 0.001 of 150 examples leaves none to validate on"),
    ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ({"dropout": -0.5}, f"dropout {FROM_ZERO}-0.5"),
    ({"dropout": NAN}, f"dropout {FROM_ZERO}nan"),
    ({"dropout": True}, f"dropout {FROM_ZERO}True"),
    ({"dropout": "0.5"}, f"{NO_DROPOUT} layer, got '0.5'"),
    ({"dropout": None}, f"{NO_DROPOUT} layer, got None"),
    ({"dropout": [0.1, 0.2]}, f"{NO_DROPOUT} layer, got [0.1, 0.2]"),
    ({"dropout": np.zeros(4)}, NO_DROPOUT),
    ({"dropout": np.array(0.5)}, NO_DROPOUT),
    ({"dropout": [0.1, 1.0, 0.2]}, "dropout[1] must be at least 0 and below 1, got 1.0"),
    ({"dropout": [0.1, 0.2, "x"]}, f"dropout[2] {FROM_ZERO}'x'"),
    ({"eta": 0}, f"eta {ABOVE_ZERO}0"),
    ({"eta": "fast"}, f"eta {NUMBER}'fast'"),
    ({"eta": schedules.Step}, "eta must be a schedule, got the class: pass Step(...)"),
    ({"eta": lambda: 0.1}, "eta must take 1 arguments, as in `lambda epoch: 0.5 * 0.9**epoch`"),
    ({"eta": lambda epoch: -1}, f"eta(0) {ABOVE_ZERO}-1"),
    ({"eta": schedules.halving(1.0)}, "the schedule of eta needs validation data: pass validation_data=(X, y) or"),
    ({"early_stopping": 0}, "early_stopping must be True, a number of epochs to wait, or an EarlyStopping, got 0"),
    (
        {"early_stopping": 1.5},
        "early_stopping must be True, a number of epochs to wait, or an EarlyStopping, got 1.5",
    ),
    ({"early_stopping": "yes"}, "or an EarlyStopping, got 'yes'"),
    ({"early_stopping": EarlyStopping}, "or an EarlyStopping, got <class"),
    ({"early_stopping": 5}, "early_stopping needs validation data: pass validation_data=(X, y) or validation_split="),
    (
        {"early_stopping": 5, "eta": schedules.halving(1.0)},
        "early_stopping and the schedule of eta needs validation data",
    ),
    ({"on_epoch": 3}, "on_epoch must be a function such as `lambda epoch: print(epoch)`, got 3"),
    ({"on_epoch": [print, "x"]}, "on_epoch must be a function such as `lambda epoch: print(epoch)`, got 'x'"),
    ({"on_epoch": lambda: None}, "on_epoch must take 1 arguments, as in `lambda epoch: print(epoch)`"),
    ({"on_progress": lambda a, b: None}, "on_progress must take 1 arguments"),
    ({"checkpoint": 3}, "checkpoint must be the path of a file, got 3"),
    ({"checkpoint": b"file"}, "checkpoint must be the path of a file, got b'file'"),
    ({"resume": True}, "resume=True needs checkpoint=, the file to go on from"),
    ({"resume": "no"}, "resume must be True or False, got 'no'"),
    ({"engine": "fast"}, "unknown engine 'fast'."),
    ({"threads": 0}, "threads must be a whole number of at least 1, got 0"),
    ({"threads": 10**6}, "threads must be at most 1024, got 1000000"),
    ({"optimizer": LBFGS}, "optimizer must be an object, got the class: pass LBFGS()"),
    ({"optimizer": AdamW}, "optimizer must be an object, got the class: pass AdamW()"),
    ({"optimizer": "lbfgs", "eta": 0.1}, "optimizer 'lbfgs' takes no eta; leave it out, or take 'adam'"),
    ({"optimizer": "lbfgs", "l1": 0.1, "dropout": 0.1}, "optimizer 'lbfgs' takes no l1 and no dropout"),
    ({"optimizer": "lbfgs", "dropout": np.full(3, 0.1)}, "optimizer 'lbfgs' takes no dropout"),
    ({"optimizer": "lbfgs", "weight_decay": 0.1}, "optimizer 'lbfgs' takes no weight_decay"),
    ({"optimizer": "lbfgs", "max_norm": 1.0, "clip_value": 1.0}, "takes no max_norm and no clip_value"),
    ({"optimizer": "lbfgs", "clip_norm": 1.0}, "optimizer 'lbfgs' takes no clip_norm"),
    ({"optimizer": "lbfgs", "engine": "compiled"}, "optimizer 'lbfgs' runs by engine 'verbs' only; leave engine out"),
]


@pytest.mark.parametrize(("options", "fragment"), BAD, ids=lambda v: "+".join(v) if isinstance(v, dict) else "")
def test_bad_options_are_refused(blobs, options, fragment):
    refused(small(), blobs, options, fragment)


def test_every_option_of_fit_is_tried_with_what_is_wrong():
    tried = {name for options, _ in BAD for name in options}
    elsewhere = {"epochs", "batch_size", "validation_data", "class_weight", "sample_weight", "diagnostics"}
    assert set(inspect.signature(Network.fit).parameters) - {"self", "X", "y"} == tried | elsewhere


def test_fit_hands_every_option_on():
    """Each field of Options is an argument of fit by the same name, with the same default."""
    arguments = inspect.signature(Network.fit).parameters
    for field in fields(Options):
        assert arguments[field.name].default == field.default, field.name


def test_validation_twice(blobs):
    options = {"validation_data": blobs, "validation_split": 0.1}
    refused(small(), blobs, options, "pass validation_data or validation_split, not both")


def test_label_smoothing_is_for_classes(blobs):
    X = blobs[0]
    net = Network([4, 2], activation="linear", device="cpu")
    with pytest.raises(InputError, match="label_smoothing is for classes, and these targets are numbers to predict"):
        net.fit(X, X[:, :2], label_smoothing=0.1)


UNKNOWN_TO_THE_ENGINE = [
    ({"max_norm": 1.0, "clip_norm": 1.0}, "the compiled engine knows no max_norm and no clip_norm."),
    ({"clip_value": 1.0}, "the compiled engine knows no clip_value."),
]


@pytest.mark.parametrize(("options", "fragment"), UNKNOWN_TO_THE_ENGINE, ids=str)
def test_what_the_engine_does_not_know(blobs, options, fragment):
    refused(small(), blobs, {**options, "engine": "compiled"}, fragment, DeviceError)
    net = small()
    net.fit(*blobs, epochs=1, **options)
    assert net.history.engine == "step by step"


@pytest.mark.parametrize(
    "options",
    [
        {"l2": 0, "l1": 0.0, "dropout": 0, "weight_decay": 0, "label_smoothing": 0, "validation_split": 0},
        {"dropout": [0, 0, 0], "early_stopping": False, "on_epoch": [], "checkpoint": None, "resume": False},
        {"max_norm": None, "clip_value": None, "clip_norm": None, "class_weight": None, "sample_weight": None},
        {"eta": np.float32(3.0), "l2": np.int64(0), "dropout": np.zeros(3), "early_stopping": None},
    ],
)
def test_what_is_off_changes_nothing(blobs, options):
    nets = [small(), small()]
    nets[0].fit(*blobs, epochs=2)
    nets[1].fit(*blobs, epochs=2, **options)
    np.testing.assert_array_equal(*map(parameters, nets))
    assert nets[0].history.engine == nets[1].history.engine


@pytest.mark.parametrize(("threads", "asked_for"), [(None, {1}), (3, {1, 3})])
def test_lbfgs_takes_the_threads_that_it_is_given(blobs, monkeypatch, threads, asked_for):
    """And no more than one for what is small: never what the BLAS takes by itself."""
    net, counts = small(), set()
    ops, limit = net._model.ops, net._model.ops.threads
    monkeypatch.setattr(ops, "threads", lambda count: counts.add(count) or limit(count))
    net.fit(*blobs, epochs=2, optimizer="lbfgs", threads=threads)
    assert counts == asked_for


def test_lbfgs_takes_what_is_off(blobs):
    small().fit(*blobs, epochs=2, optimizer="lbfgs", l1=0, dropout=0.0, weight_decay=0, max_norm=None)


def test_weight_decay_is_usual_with_adamw_alone():
    for optimizer, wanted in (("adamw", 0.01), ("adam", 0.0), (Adam(), 0.0), (AdamW(), 0.01), ("sgd", 0.0)):
        assert Options(optimizer=optimizer).for_network(0.1).weight_decay == wanted
        assert Options(optimizer=optimizer, weight_decay=0.5).for_network(0.1).weight_decay == 0.5
        assert Options(optimizer=optimizer, weight_decay=0).for_network(0.1).weight_decay == 0.0


def test_adamw_without_decay_is_adam(blobs):
    nets = [small(), small(), small()]
    for net, options in zip(nets, ({"optimizer": "adam"}, {"weight_decay": 0.0}, {}), strict=True):
        net.fit(*blobs, epochs=2, eta=0.05, **{"optimizer": "adamw", "engine": "verbs", **options})
    np.testing.assert_array_equal(*map(parameters, nets[:2]))
    assert (parameters(nets[2]) != parameters(nets[0])).any()


@pytest.mark.parametrize("make", [lambda net: net.default_eta("lbfgs"), lambda net: net.default_eta(LBFGS())])
def test_lbfgs_has_no_learning_rate(make):
    with pytest.raises(InputError, match="optimizer 'lbfgs' has no learning rate"):
        make(small())


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: LBFGS(memory=0), "memory must be a whole number of at least 1, got 0"),
        (lambda: LBFGS(memory=2.0), "memory must be a whole number of at least 1, got 2.0"),
        (lambda: LBFGS(tolerance=-1), f"tolerance {FROM_ZERO}-1"),
        (lambda: LBFGS(tolerance="small"), f"tolerance {FROM_ZERO}'small'"),
    ],
)
def test_bad_constants_of_lbfgs(make, fragment):
    with pytest.raises(InputError) as caught:
        make()
    assert fragment in str(caught.value)


def test_lbfgs_says_what_it_is():
    assert repr(LBFGS(5, 0.1)) == "LBFGS(memory=5, tolerance=0.1)"
    assert gpunet.optimizers.get("lbfgs").settings() == {"memory": 10, "tolerance": 1e-9}
    mine = LBFGS(3)
    assert gpunet.optimizers.get(mine) is mine


# -- on_epoch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_callback_that_returns_true_ends_the_training(blobs, optimizer):
    seen = []
    callbacks = [lambda epoch: seen.append(epoch.epoch), lambda epoch: epoch.epoch == 2]
    net = small()
    history = net.fit(*blobs, epochs=9, optimizer=optimizer, on_epoch=callbacks)
    assert seen == [0, 1, 2]
    assert history.stopped == "a callback asked for it"
    assert [epoch.epoch for epoch in history.epochs] == seen


def test_all_callbacks_are_called_also_if_one_ends_it(blobs):
    seen = []
    small().fit(*blobs, epochs=9, on_epoch=(lambda epoch: True, seen.append))
    assert [epoch.epoch for epoch in seen] == [0]


@pytest.mark.parametrize("answer", [None, 1, "stop", 0, np.float64(1)])
def test_only_true_ends_it(blobs, answer):
    assert len(small().fit(*blobs, epochs=2, on_epoch=lambda epoch: answer).epochs) == 2


# -- validation_split ------------------------------------------------------------------------------------------------


def test_each_class_is_held_out_alike(blobs, monkeypatch):
    parts = []
    hold_out = fit.Fitting.hold_out

    def watched(self, examples, share):
        parts.append(hold_out(self, examples, share))
        return parts[-1]

    monkeypatch.setattr(fit.Fitting, "hold_out", watched)
    X, y = blobs
    X = X.copy()
    X[:, 0] = np.arange(150)
    net = Network([4, 3], device="cpu", seed=1, input_scale=0.01)
    net.fit(X, y, epochs=1, validation_split=0.2, sample_weight=np.arange(150) + 1.0)
    (kept, held) = parts[0]
    numbers = [part.X[:, 0].astype(int) for part in parts[0]]
    assert [len(n) for n in numbers] == [120, 30]
    assert sorted(np.concatenate(numbers)) == list(range(150))
    assert np.bincount(y[numbers[1]]).tolist() == [10, 10, 10]
    for part, n in ((kept, numbers[0]), (held, numbers[1])):
        np.testing.assert_array_equal(part.Y.argmax(axis=1), y[n])
        np.testing.assert_allclose(part.weights[:, 0], (n + 1) / 150)


def test_a_rare_class_is_learned_from_before_it_is_validated_on():
    labels = np.array([0] * 17 + [1] * 2 + [2])
    for share, counts in ((0.1, [2, 0, 0]), (0.5, [9, 1, 0]), (0.99, [16, 1, 0])):
        kept, held = hold_out(20, labels, share, np.random.default_rng(0))
        assert np.bincount(labels[held], minlength=3).tolist() == counts
        assert sorted([*kept, *held]) == list(range(20))


def test_a_split_of_numbers_to_predict(blobs):
    X = blobs[0]
    net = Network([4, 2], activation="linear", device="cpu", seed=1)
    history = net.fit(X, X[:, :2] * 2.0, epochs=30, eta=0.1, validation_split=1 / 3)
    assert history.validation_score[-1] > 0.9
    assert net.task == "regression"


def test_the_split_trains_what_training_on_the_kept_ones_does(blobs):
    """It is drawn by the network's seed, and the order of the examples as without a split."""
    X, y = blobs
    net = small()
    order = np.random.default_rng(1).permutation(150)
    held = np.sort(np.concatenate([order[y[order] == k][:10] for k in range(3)]))
    kept = np.setdiff1d(np.arange(150), held)
    net.fit(X, y, epochs=2, validation_split=0.2)
    other = small()
    other.fit(X[kept], y[kept], epochs=2, validation_data=(X[held], y[held]))
    np.testing.assert_array_equal(parameters(net), parameters(other))
    assert net.history.validation_cost == other.history.validation_cost
    assert net.history.validation_score == other.history.validation_score


def test_the_split_is_the_seeds(blobs, tmp_path, monkeypatch):
    """So that what has validated once never trains the network, also after a copy and from a file."""
    held = []

    def watched(*arguments):
        parts = hold_out(*arguments)
        held.append(parts[1].tolist())
        return parts

    monkeypatch.setattr(fit, "hold_out", watched)
    net = Network([4, 5, 3], device="cpu", seed=7)
    for _ in range(2):
        net.fit(*blobs, epochs=1, validation_split=0.2)
    copy.deepcopy(net).fit(*blobs, epochs=1, validation_split=0.2)
    net.save(tmp_path / "model")
    Network.load(tmp_path / "model", device="cpu", seed=7).fit(*blobs, epochs=1, validation_split=0.2)
    Network([4, 9, 3], activation="tanh", device="cpu", seed=7).fit(*blobs, epochs=1, validation_split=0.2)
    assert held == [held[0]] * 5
    Network([4, 5, 3], device="cpu", seed=8).fit(*blobs, epochs=1, validation_split=0.2)
    assert held[5] != held[0]
