"""What scikit-learn's perceptrons do not have."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.metrics import accuracy_score, r2_score

from gpunet import Activation, GpunetError, schedules
from gpunet.costs import Huber, Quantile
from gpunet.sklearn import MLPClassifier, MLPRegressor
from gpunet.training.history import History

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SOFTSIGN = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)


def classifier(**parameters):
    options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 20, "random_state": 0}
    return MLPClassifier(**options | {"device": "cpu"} | parameters)


def regressor(**parameters):
    options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 60, "random_state": 0}
    return MLPRegressor(**options | {"device": "cpu"} | parameters)


# -- What is trained -----------------------------------------------------------------------------------------------


def test_an_activation_for_each_layer(blobs):
    X, y = blobs
    estimator = classifier(hidden_layer_sizes=(6, 5), activation=["gelu", SOFTSIGN]).fit(X, y)
    assert estimator.score(X, y) > 0.9
    all_relu = classifier(hidden_layer_sizes=(6, 5), activation=["relu", "relu"]).fit(X, y)
    one_relu = classifier(hidden_layer_sizes=(6, 5), activation="relu").fit(X, y)
    assert np.array_equal(all_relu.coefs_[0], one_relu.coefs_[0])
    with pytest.raises(ValueError, match="activation has 1 entries for 2 hidden layers; give one for each"):
        classifier(hidden_layer_sizes=(6, 5), activation=["relu"]).fit(X, y)
    with pytest.raises(ValueError, match="swoosh"):
        classifier(activation="swoosh").fit(X, y)
    with pytest.raises(ValueError, match="swoosh"):
        classifier(activation=["swoosh"]).fit(X, y)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_losses_and_what_they_estimate(line, solver):
    X, _ = line
    rng = np.random.default_rng(1)
    X = np.zeros((400, 1))  # nothing to go by: the answer is the best constant
    y = rng.exponential(size=400)
    wanted = {"squared_error": y.mean(), "absolute_error": np.median(y), Quantile(0.9): np.quantile(y, 0.9)}
    for loss, best in wanted.items():
        estimator = regressor(loss=loss, hidden_layer_sizes=[], solver=solver, alpha=0.0, max_iter=400, tol=1e-9)
        estimator.set_params(n_iter_no_change=400).fit(X, y)
        assert estimator.predict(X[:1])[0] == pytest.approx(best, abs=0.12), loss
    assert regressor(loss="quantile").fit(X, y).loss_ == regressor(loss=Quantile(0.5)).fit(X, y).loss_


def test_huber_is_between_the_two(line):
    X, y = line
    far, near = (regressor(loss=Huber(delta)).fit(X, y).loss_ for delta in (1e6, 1e-3))
    assert far == pytest.approx(regressor().fit(X, y).loss_, rel=1e-9)
    assert near < 1e-3 * regressor(loss="absolute_error").fit(X, y).loss_ * 5
    with pytest.raises(ValueError, match="loss"):
        regressor(loss="cubic").fit(X, y)


def test_class_weight_is_a_weight_for_each_example(blobs):
    X, y = blobs
    of_class = {0: 1.0, 1: 5.0, 2: 0.5}
    by_class = classifier(class_weight=of_class).fit(X, y)
    by_example = classifier().fit(X, y, sample_weight=np.array([of_class[c] for c in y]))
    assert np.array_equal(by_class.coefs_[0], by_example.coefs_[0])
    rare = np.flatnonzero((y != 2) | (np.arange(len(y)) < 12))
    plain, balanced = (classifier(class_weight=w, alpha=1.0).fit(X[rare], y[rare]) for w in (None, "balanced"))
    assert balanced.predict_proba(X)[:, 2].mean() > plain.predict_proba(X)[:, 2].mean()
    both = classifier(class_weight=of_class).fit(X, y, sample_weight=np.full(len(y), 2.0))
    assert not np.array_equal(both.coefs_[0], classifier().fit(X, y).coefs_[0])
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight="fair").fit(X, y)


def test_dropout_drops_others_in_each_call(blobs):
    X, y = blobs
    still = {"dropout": 0.9, "learning_rate_init": 1e-12, "max_iter": 1}  # the loss tells the masks apart
    estimator = classifier(**still)
    losses = [estimator.partial_fit(X, y, classes=[0, 1, 2]).loss_ for _ in range(4)]
    warm = classifier(warm_start=True, **still)
    again = [warm.fit(X, y).loss_ for _ in range(4)]
    assert len({round(loss, 6) for loss in losses}) == len({round(loss, 6) for loss in again}) == 4


def test_a_schedule_ends_the_training(blobs):
    for solver in ("sgd", "adam"):
        options = {"solver": solver, "learning_rate": schedules.Cosine(0.1, epochs=3), "tol": 0.0, "max_iter": 40}
        estimator = classifier(n_iter_no_change=100, **options).fit(*blobs)
        assert estimator.n_iter_ == 3
        assert "Cosine" in estimator.history_.stopped


def test_dropout(blobs):
    X, y = blobs
    plain, dropped, again = (classifier(dropout=p).fit(X, y) for p in (0.0, 0.4, [0.4]))
    assert dropped.loss_ > plain.loss_
    assert np.array_equal(dropped.coefs_[0], again.coefs_[0])
    assert np.array_equal(dropped.predict_proba(X), dropped.predict_proba(X))  # nothing is dropped in predicting
    for wrong in ([0.1, 0.1], [1.0], [-0.1]):
        with pytest.raises(ValueError, match="dropout must be a share from 0 to below 1, or one for each of the 1"):
            classifier(dropout=wrong).fit(X, y)
    with pytest.raises(ValueError, match="dropout"):
        classifier(dropout=1.0).fit(X, y)
    with pytest.raises(ValueError, match="lbfgs"):
        classifier(dropout=0.5, solver="lbfgs").fit(X, y)


def test_dtype(blobs):
    X, y = blobs
    assert classifier(dtype="float32").fit(X, y).coefs_[0].dtype == np.float32
    assert classifier(dtype="float64").fit(X.astype(np.float32), y).predict_proba(X).dtype == np.float64
    with pytest.raises(ValueError, match="dtype"):
        classifier(dtype="float16").fit(X, y)


# -- How it is watched ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(
    "schedule", [schedules.Exponential(0.1, 0.5), schedules.Step(0.1, every=3), schedules.Cosine(0.1, 8)], ids=repr
)
def test_schedules(blobs, solver, schedule):
    estimator = classifier(solver=solver, learning_rate=schedule, max_iter=8).fit(*blobs)
    assert [e.eta for e in estimator.history_.epochs] == [
        schedule.eta(epoch, estimator.history_) for epoch in range(8)
    ]
    constant = classifier(solver=solver, learning_rate_init=0.1, max_iter=8).fit(*blobs)
    assert estimator.loss_curve_[0] == constant.loss_curve_[0]
    assert estimator.loss_curve_[-1] != constant.loss_curve_[-1]


def test_callbacks_and_history(blobs):
    seen = []
    estimator = classifier(callbacks=[seen.append, lambda epoch: epoch.epoch == 4]).fit(*blobs)
    assert estimator.n_iter_ == 5
    assert isinstance(estimator.history_, History)
    assert seen == list(estimator.history_.epochs)
    assert [e.cost for e in seen] == estimator.loss_curve_
    assert estimator.history_.stopped == "a callback asked for it"
    seen.clear()
    assert classifier(callbacks=seen.append, max_iter=3).fit(*blobs).n_iter_ == len(seen) == 3
    with pytest.raises(ValueError, match="callbacks"):
        classifier(callbacks=3).fit(*blobs)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_error_in_a_callback_leaves_what_was_learned(blobs, early_stopping):
    def fail(epoch):
        if epoch.epoch == 2:
            raise RuntimeError("enough")

    estimator = classifier(callbacks=fail, early_stopping=early_stopping)
    with pytest.raises(RuntimeError, match="enough"):
        estimator.fit(*blobs)
    assert estimator.n_iter_ == 3
    copy = pickle.loads(pickle.dumps(estimator.set_params(callbacks=None)))  # noqa: S301
    assert np.array_equal(copy.predict(blobs[0]), estimator.predict(blobs[0]))
    assert "_best" not in vars(copy)


def test_an_interruption_keeps_what_was_learned(blobs):
    def interrupt(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        estimator = classifier(callbacks=interrupt).fit(*blobs)
    same = classifier(max_iter=3).fit(*blobs)
    assert np.array_equal(estimator.coefs_[0], same.coefs_[0])


@pytest.mark.parametrize(("make", "score"), [(classifier, accuracy_score), (regressor, r2_score)])
def test_a_validation_set_is_scored_after_each_epoch(make, score, blobs):
    X, y = blobs
    weights = np.linspace(0.5, 2, 40)
    held = {"X_val": X[80:], "y_val": y[80:], "sample_weight_val": weights}
    estimator = make(max_iter=6).fit(X[:80], y[:80], **held)
    assert len(estimator.validation_scores_) == 6
    wanted = score(y[80:], estimator.predict(X[80:]), sample_weight=weights)
    assert estimator.validation_scores_[-1] == pytest.approx(wanted, rel=1e-9)
    assert estimator.best_validation_score_ == max(estimator.validation_scores_)
    assert [e.validation_score for e in estimator.history_.epochs] == estimator.validation_scores_
    without = make(max_iter=6).fit(X[:80], y[:80])
    assert np.array_equal(estimator.coefs_[0], without.coefs_[0])  # being watched changes nothing


def test_early_stopping_by_a_given_validation_set(blobs):
    X, y = blobs
    options = {"early_stopping": True, "n_iter_no_change": 4, "max_iter": 300}
    estimator = classifier(**options).fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert estimator.n_iter_ < 300
    assert estimator.t_ == 80 * estimator.n_iter_  # nothing of X was set aside
    assert estimator.score(X[80:], y[80:]) == estimator.best_validation_score_
    for _ in range(3):
        estimator.partial_fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert len(estimator.validation_scores_) == estimator.t_ / 80
    with pytest.raises(ValueError, match="does not support early_stopping=True without a validation set"):
        estimator.partial_fit(X, y)


def test_wrong_validation_sets(blobs):
    X, y = blobs
    for wrong in ({"X_val": X}, {"y_val": y}, {"sample_weight_val": y}):
        with pytest.raises(ValueError, match=r"X_val and y_val are needed both, got .* alone"):
            classifier().fit(X, y, **wrong)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier().fit(X, y, X_val=X[:5], y_val=y[:4])
    with pytest.raises(ValueError, match="features"):
        classifier().fit(X, y, X_val=X[:, :2], y_val=y)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_diverging_training_is_told(line):
    X, y = line
    options = {"solver": "sgd", "learning_rate_init": 1e3, "activation": "identity", "momentum": 0.9}
    estimator = regressor(**options)
    epochs = []
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        estimator.set_params(callbacks=epochs.append).fit(X, y)
    assert len(epochs) < 60  # at once, not after all epochs
    assert not hasattr(estimator, "coefs_")
    kept = regressor(early_stopping=True, **options).fit(X, y)  # the best epoch's weights are good
    assert np.isfinite(kept.predict(X)).all()

    def go_on():
        for _ in range(60):
            kept.partial_fit(X, y, X_val=X, y_val=y)

    with pytest.raises(ValueError, match="non-finite parameter weights"):
        go_on()


# -- Devices and arrays of other libraries -------------------------------------------------------------------------


def test_unknown_devices(blobs):
    with pytest.raises(GpunetError, match="unknown device 'tpu'"):
        classifier(device="tpu").fit(*blobs)


@pytest.fixture(params=["torch", "array_api_strict"])
def xp(request):
    return pytest.importorskip(request.param)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_arrays_of_other_libraries_without_dispatch(make, xp, blobs):
    X, y = blobs
    estimator = make(max_iter=5).fit(xp.asarray(X), xp.asarray(y))
    wanted = make(max_iter=5).fit(X, y)
    assert np.array_equal(estimator.coefs_[0], wanted.coefs_[0])
    predicted = estimator.predict(xp.asarray(X))
    assert isinstance(predicted, np.ndarray)
    assert np.array_equal(predicted, wanted.predict(X))
    assert estimator.score(xp.asarray(X), xp.asarray(y)) == wanted.score(X, y)


@pytest.fixture
def dispatch(monkeypatch):
    """Array API dispatch, which scikit-learn turns on only if this variable is there."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    pytest.importorskip("array_api_compat")  # scikit-learn before 1.7 does not bring it along
    with sklearn.config_context(array_api_dispatch=True):
        yield


@pytest.mark.parametrize("outputs", [2, 3])
def test_arrays_of_other_libraries_with_dispatch(xp, blobs, dispatch, outputs):
    X, y = blobs
    y = y % outputs
    theirs = type(xp.asarray(X))
    estimator = classifier(max_iter=5, early_stopping=True).fit(xp.asarray(X), xp.asarray(y))
    wanted = classifier(max_iter=5, early_stopping=True).fit(X, y)
    for array in (*estimator.coefs_, *estimator.intercepts_):
        assert isinstance(array, theirs)
    assert np.array_equal(np.asarray(estimator.coefs_[0]), wanted.coefs_[0])
    for answer in ("predict", "predict_proba", "predict_log_proba"):
        got = getattr(estimator, answer)(xp.asarray(X))
        assert isinstance(got, theirs), answer
        assert np.array_equal(np.asarray(got), getattr(wanted, answer)(X)), answer
        assert isinstance(getattr(estimator, answer)(X), np.ndarray), answer
    assert estimator.score(xp.asarray(X), xp.asarray(y)) == wanted.score(X, y)
    copy = pickle.loads(pickle.dumps(estimator))  # noqa: S301
    assert np.array_equal(copy.predict(X), wanted.predict(X))
    estimator.partial_fit(xp.asarray(X), xp.asarray(y), X_val=xp.asarray(X), y_val=xp.asarray(y))


def test_text_labels_stay_numpys(xp, blobs, dispatch):
    X, y = blobs
    names = np.array(["ant", "bee", "cat"])[y]
    predicted = classifier().fit(xp.asarray(X), names).predict(xp.asarray(X))
    assert isinstance(predicted, np.ndarray)
    assert np.mean(predicted == names) > 0.9


def test_numbers_of_other_libraries_with_dispatch(xp, line, dispatch):
    X, y = line
    estimator = regressor().fit(xp.asarray(X), xp.asarray(y))
    predicted = estimator.predict(xp.asarray(X))
    assert isinstance(predicted, type(xp.asarray(X)))
    assert tuple(predicted.shape) == (120,)
    assert np.array_equal(np.asarray(predicted), regressor().fit(X, y).predict(X))
