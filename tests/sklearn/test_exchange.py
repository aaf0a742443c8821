"""From scikit-learn's classes and back: they predict the same, and training goes on as if nothing had been."""

import pickle
import warnings

import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import gpunet.sklearn as ours
from gpunet import InputError, costs
from gpunet.schedules import Step
from gpunet.sklearn import from_sklearn, to_sklearn

pytestmark = pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning")  # older versions of scikit-learn

OPTIMIZERS = {
    "adam": {"solver": "adam"},
    "sgd": {"solver": "sgd", "momentum": 0},
    "momentum": {"solver": "sgd", "momentum": 0.7, "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd", "learning_rate": "invscaling"},
    "lbfgs": {"solver": "lbfgs"},
}
STOCHASTIC = [name for name in OPTIMIZERS if name != "lbfgs"]
KINDS = ("MLPClassifier", "MLPRegressor")


def targets(kind, y):
    return np.array(["ant", "bee", "cat"])[y] if kind == "MLPClassifier" else np.stack([y, -y], axis=1) / 3


def fitted(module, kind, optimizer, X, y, **parameters):
    options = {"hidden_layer_sizes": (6, 4), "random_state": 2, "max_iter": 7, "learning_rate_init": 0.02}
    estimator = getattr(module, kind)(**options | OPTIMIZERS[optimizer] | parameters)
    if module is ours:
        estimator.set_params(device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(X, targets(kind, y))


def on_cpu(theirs):
    return from_sklearn(theirs).set_params(device="cpu")


def same_weights(one, other, atol=0.0):
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_answers_in_both_directions(kind, optimizer, blobs):
    X, y = blobs
    there = fitted(theirs, kind, optimizer, X, y)
    here = on_cpu(there)
    back = to_sklearn(here)
    assert (type(here), type(back)) == (getattr(ours, kind), getattr(theirs, kind))
    assert back.get_params() == there.get_params()
    same_weights(back, there)
    answer = "predict_proba" if kind == "MLPClassifier" else "predict"
    wanted = getattr(there, answer)(X)
    np.testing.assert_allclose(getattr(here, answer)(X), wanted, atol=1e-12)
    assert np.array_equal(getattr(back, answer)(X), wanted)
    assert here.score(X, targets(kind, y)) == pytest.approx(there.score(X, targets(kind, y)))
    assert (here.loss_, here.n_iter_, here.t_) == (there.loss_, there.n_iter_, there.t_)
    assert np.array_equal(pickle.loads(pickle.dumps(back)).predict(X), there.predict(X))  # noqa: S301


@pytest.mark.parametrize("optimizer", STOCHASTIC)
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_goes_on_from_scikit_learns(kind, optimizer, blobs):
    X, y = blobs
    there = fitted(theirs, kind, optimizer, X, y)
    here = on_cpu(there)
    for _ in range(3):
        there.partial_fit(X, targets(kind, y))
        here.partial_fit(X, targets(kind, y))
    same_weights(here, there, atol=1e-11)
    np.testing.assert_allclose(here.loss_curve_, there.loss_curve_, rtol=1e-11)


@pytest.mark.parametrize("optimizer", STOCHASTIC)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_handed_over_is_a_copy(kind, optimizer, blobs):
    X, y = blobs
    there = fitted(theirs, kind, optimizer, X, y)
    before = pickle.dumps([there.coefs_, there.loss_curve_])
    on_cpu(there).partial_fit(X, targets(kind, y))
    assert pickle.dumps([there.coefs_, there.loss_curve_]) == before
    here = fitted(ours, kind, optimizer, X, y)
    before = [w.copy() for w in here.coefs_]
    to_sklearn(here).partial_fit(X, targets(kind, y))
    assert all(np.array_equal(a, b) for a, b in zip(here.coefs_, before, strict=True))


@pytest.mark.parametrize("optimizer", STOCHASTIC)
@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_goes_on_in_scikit_learn(kind, optimizer, blobs):
    X, y = blobs
    here = fitted(ours, kind, optimizer, X, y)
    there = to_sklearn(here)
    answer = "predict_proba" if kind == "MLPClassifier" else "predict"
    np.testing.assert_allclose(getattr(there, answer)(X), getattr(here, answer)(X), atol=1e-12)
    for _ in range(3):
        here.partial_fit(X, targets(kind, y))
        there.partial_fit(X, targets(kind, y))
    same_weights(here, there, atol=1e-11)
    back_and_forth = on_cpu(to_sklearn(here))
    same_weights(back_and_forth.partial_fit(X, targets(kind, y)), here.partial_fit(X, targets(kind, y)))


@pytest.mark.parametrize("momentum", [0, 0.9])
def test_a_fresh_partial_fit_is_handed_over_too(momentum, blobs):
    X, y = blobs
    there = theirs.MLPRegressor(hidden_layer_sizes=(5,), solver="sgd", momentum=momentum, random_state=0)
    there.partial_fit(X, y)
    here = on_cpu(there)
    same_weights(here.partial_fit(X, y), there.partial_fit(X, y), atol=1e-12)


@pytest.mark.parametrize("given", [None, 3, "MLPClassifier"])
def test_anything_else_is_refused(given):
    with pytest.raises(InputError, match=f"of scikit-learn's is needed, got {type(given).__name__}"):
        from_sklearn(given)
    with pytest.raises(InputError, match=f"of gpunet's is needed, got {type(given).__name__}"):
        to_sklearn(given)


def test_the_wrong_direction_is_refused(blobs):
    here = fitted(ours, "MLPRegressor", "adam", *blobs)
    with pytest.raises(InputError, match="of scikit-learn's is needed, got MLPRegressor"):
        from_sklearn(here)
    with pytest.raises(InputError, match="of gpunet's is needed, got MLPRegressor"):
        to_sklearn(to_sklearn(here))


def test_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        from_sklearn(theirs.MLPRegressor())
    with pytest.raises(NotFittedError):
        to_sklearn(ours.MLPRegressor())


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("MLPClassifier", {"dropout": 0.2}, "no dropout=0.2"),
        ("MLPClassifier", {"class_weight": "balanced"}, "no class_weight='balanced'"),
        ("MLPRegressor", {"loss": "huber"}, "huber"),
        ("MLPRegressor", {"activation": "gelu"}, "activation"),
        ("MLPRegressor", {"activation": ["tanh", "relu"]}, "activation"),
        ("MLPRegressor", {"learning_rate": Step(0.1, every=2)}, "learning_rate"),
    ],
    ids=str,
)
def test_what_scikit_learn_does_not_have_is_refused(kind, parameters, message, blobs):
    here = fitted(ours, kind, "adam", *blobs, **parameters)
    with pytest.raises(ValueError, match=message):
        to_sklearn(here)


def test_what_scikit_learn_has_under_another_name():
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3
    options = {"hidden_layer_sizes": (5, 4), "max_iter": 3, "random_state": 0, "device": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        models = [
            ours.MLPClassifier(activation=["sigmoid", "sigmoid"], **options).fit(X, y),
            ours.MLPRegressor(activation="linear", loss=costs.get("quadratic"), **options).fit(X, y),
        ]
    for model, activation in zip(models, ("logistic", "identity"), strict=True):
        made = to_sklearn(model)
        assert made.activation == activation
        np.testing.assert_allclose(made.predict(X), model.predict(X))


def test_a_warm_start_with_early_stopping_goes_on_there():
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3
    options = {"max_iter": 3, "random_state": 0, "device": "cpu", "warm_start": True, "early_stopping": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made = to_sklearn(ours.MLPClassifier(**options).fit(X, y))
        assert np.isfinite(made.fit(X, y).predict_proba(X)).all()


@pytest.mark.parametrize(("solver", "other"), [("sgd", "adam"), ("adam", "sgd")])
def test_a_solver_that_was_changed_after_the_fit(solver, other):
    X, y = np.random.default_rng(0).standard_normal((60, 4)), np.arange(60) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = theirs.MLPClassifier(max_iter=3, random_state=0, solver=solver).fit(X, y)
    made = from_sklearn(fitted.set_params(solver=other))
    before = made.coefs_[0].copy()
    assert not np.array_equal(made.partial_fit(X, y).coefs_[0], before)
    assert np.isfinite(made.predict_proba(X)).all()
