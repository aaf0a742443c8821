"""The same seed gives scikit-learn's training: its losses, its number of epochs, its weights and its answers."""

import warnings

import numpy as np
import pytest
import sklearn.neural_network as theirs
from scipy.sparse import csc_array, csr_array
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

import gpunet.sklearn as ours
from gpunet.sklearn.compat import VERSION

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
SOLVERS = ("adam", "sgd", "lbfgs")


def scaled(X):
    """Inputs of unit variance: from raw ones L-BFGS takes steps so large that roundings decide where it goes."""
    return StandardScaler().fit_transform(X)


def _classification(name):
    if name == "binary":
        return datasets.make_classification(n_samples=210, n_features=8, random_state=1)
    if name == "multilabel":
        X, y = datasets.make_multilabel_classification(n_samples=110, n_features=8, n_classes=4, random_state=0)
        return scaled(X), y
    X, y = {"digits": datasets.load_digits, "cancer": datasets.load_breast_cancer, "iris": datasets.load_iris,
            "wine": datasets.load_wine}[name](return_X_y=True)  # fmt: skip
    if name == "iris":
        y = datasets.load_iris().target_names[y]
    return scaled(X)[:400], y[:400]


def _regression(name):
    if name == "diabetes":
        X, y = datasets.load_diabetes(return_X_y=True)
        return scaled(X), (y - y.mean()) / y.std()
    X, y = datasets.make_regression(n_samples=130, n_features=6, n_targets=3, random_state=2)
    return X, y / 100


CLASSIFICATION = ("digits", "cancer", "iris", "wine", "binary", "multilabel")
REGRESSION = ("diabetes", "three numbers")


@pytest.fixture(scope="module")
def data():
    known = {name: ("MLPClassifier", *_classification(name)) for name in CLASSIFICATION}
    return known | {name: ("MLPRegressor", *_regression(name)) for name in REGRESSION}


def pair(name, **parameters):
    """Return scikit-learn's estimator and ours."""
    parameters = {"hidden_layer_sizes": (9, 7), "random_state": 3, "max_iter": 12} | parameters
    return getattr(theirs, name)(**parameters), getattr(ours, name)(**parameters, device="cpu")


def quietly(call, *args, **options):
    """Call it; return the texts of its ConvergenceWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args, **options)
    # scikit-learn's message of L-BFGS ends with a line of SciPy's, which depends on whose gradient is a bit smaller.
    return [str(w.message).partition("\n")[0] for w in caught if issubclass(w.category, ConvergenceWarning)]


def fitted(name, X, y, sample_weight=None, **parameters):
    """Return both, fitted; they have given the same warnings."""
    both = pair(name, **parameters)
    weights = {} if sample_weight is None else {"sample_weight": sample_weight}
    their_warnings, our_warnings = (quietly(estimator.fit, X, y, **weights) for estimator in both)
    assert our_warnings == their_warnings
    return both


def same(theirs, ours, X, rtol=1e-6):
    """Compare all that scikit-learn promises of a fitted estimator."""
    assert ours.n_iter_ == theirs.n_iter_
    assert (ours.n_layers_, ours.n_outputs_, ours.out_activation_, ours.n_features_in_, ours.t_) == (
        theirs.n_layers_, theirs.n_outputs_, theirs.out_activation_, theirs.n_features_in_, theirs.t_,
    )  # fmt: skip
    for name in ("loss_", "best_loss_", "best_validation_score_", "loss_curve_", "validation_scores_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        wanted = getattr(theirs, name, None)
        if wanted is None:
            assert getattr(ours, name, None) is None, name
        else:
            np.testing.assert_allclose(getattr(ours, name), wanted, rtol=rtol, atol=1e-12, err_msg=name)
    for got, wanted in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=10 * rtol * np.abs(wanted).max())
    if hasattr(theirs, "predict_proba"):
        assert np.array_equal(ours.classes_, theirs.classes_)
        wanted = theirs.predict_proba(X)
        np.testing.assert_allclose(ours.predict_proba(X), wanted, atol=10 * rtol)
        predicted = theirs.predict(X)
        clear = np.abs(wanted - 0.5) > 100 * rtol if predicted.ndim == 2 else slice(None)  # a label's coin may land
        assert np.array_equal(ours.predict(X)[clear], predicted[clear])  # on its edge
        assert ours.predict(X).dtype == predicted.dtype
    else:
        wanted = theirs.predict(X)
        assert ours.predict(X).shape == wanted.shape
        np.testing.assert_allclose(ours.predict(X), wanted, rtol=0, atol=10 * rtol * np.abs(wanted).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", CLASSIFICATION + REGRESSION)
def test_data_by_solver_and_activation(data, name, solver, activation):
    kind, X, y = data[name]
    # Few iterations of L-BFGS: its line search multiplies what rounding leaves, about tenfold every few iterations.
    same(*fitted(kind, X, y, solver=solver, activation=activation, learning_rate_init=0.01), X)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cancer", {"solver": "adam", "learning_rate_init": 0.05, "max_iter": 400}),
        ("iris", {"solver": "sgd", "learning_rate_init": 0.1, "max_iter": 400, "tol": 1e-3}),
        ("diabetes", {"solver": "adam", "learning_rate_init": 0.02, "max_iter": 300, "tol": 1e-3}),
        ("cancer", {"solver": "lbfgs", "alpha": 10.0, "max_iter": 200, "tol": 1e-3}),
    ],
)
def test_both_converge_at_the_same_epoch(data, name, options):
    kind, X, y = data[name]
    both = fitted(kind, X, y, hidden_layer_sizes=(5,), **options)
    assert both[0].n_iter_ < options["max_iter"]
    same(*both, X, rtol=1e-6 if options["solver"] != "lbfgs" else 1e-4)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 37},  # the last mini-batch is a ragged one
        {"batch_size": 1, "max_iter": 2},
        {"batch_size": 37, "shuffle": False},
        {"alpha": 0.0},
        {"alpha": 50.0},
        {"hidden_layer_sizes": 6},
        {"hidden_layer_sizes": (4, 5, 6, 3)},
        {"hidden_layer_sizes": []},
        {"hidden_layer_sizes": np.array([6, 4])},
        {"n_iter_no_change": 2, "tol": 0.5},
        {"n_iter_no_change": np.inf, "tol": 10.0},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
        {"learning_rate": "invscaling", "power_t": 0.25},
        {"learning_rate": "adaptive"},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["digits", "cancer", "three numbers"])
def test_options(data, name, solver, options):
    kind, X, y = data[name]
    same(*fitted(kind, X[:150], y[:150], solver=solver, **options), X)


@pytest.mark.parametrize("momentum", [0, 0.5, 1])
@pytest.mark.parametrize("nesterovs_momentum", [False, True])
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
def test_momentum_and_learning_rates_of_sgd(data, momentum, nesterovs_momentum, learning_rate):
    kind, X, y = data["wine"]
    options = {"momentum": momentum, "nesterovs_momentum": nesterovs_momentum, "learning_rate": learning_rate}
    same(*fitted(kind, X, y, solver="sgd", learning_rate_init=0.02, batch_size=50, **options), X)


def test_an_adaptive_rate_falls_until_it_is_too_small(data):
    kind, X, y = data["iris"]
    options = {"learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 200, "momentum": 0.5}
    both = fitted(kind, X, y, solver="sgd", learning_rate_init=0.1, **options)
    assert 10 < both[0].n_iter_ < 200
    same(*both, X)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["digits", "iris", "binary", "multilabel", "diabetes", "three numbers"])
def test_early_stopping(data, name, solver):
    kind, X, y = data[name]
    options = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 3, "max_iter": 60}
    if name == "iris" and VERSION < (1, 9):
        y = np.unique(y, return_inverse=True)[1]  # scikit-learn had no early stopping for text before 1.9
    both = fitted(kind, X, y, solver=solver, learning_rate_init=0.05, **options)
    same(*both, X)
    assert both[1].best_loss_ is None
    assert len(both[1].validation_scores_) == both[1].n_iter_


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_warm_start(data, name, solver):
    kind, X, y = data[name]
    both = pair(kind, solver=solver, warm_start=True, max_iter=4)
    for _ in range(3):
        for estimator in both:
            quietly(estimator.fit, X, y)
        same(*both, X)
    for estimator in both:
        quietly(estimator.set_params(max_iter=6).fit, X, y)
    same(*both, X)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("name", ["iris", "cancer", "multilabel", "diabetes", "three numbers"])
def test_partial_fit(data, name, solver):
    kind, X, y = data[name]
    rows = np.array_split(np.arange(len(X)), 3)
    both = pair(kind, solver=solver, learning_rate="invscaling", learning_rate_init=0.01)
    classes = {}
    if kind == "MLPClassifier":
        classes = {"classes": np.arange(y.shape[1]) if name == "multilabel" else np.unique(y)}
    for part in [*rows, *rows]:
        for estimator in both:
            estimator.partial_fit(X[part], y[part], **classes)
        same(*both, X)
    for estimator in both:  # and after a whole training
        quietly(estimator.fit, X, y)
        estimator.partial_fit(X, y)
    same(*both, X)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["wine", "cancer", "multilabel", "diabetes", "three numbers"])
def test_sample_weight(data, has, name, solver):
    has("sample_weight")
    kind, X, y = data[name]
    weights = np.random.default_rng(8).uniform(0.1, 3, len(X))
    weights[::7] = 0
    both = fitted(kind, X, y, weights, solver=solver, batch_size=40, alpha=0.1)
    same(*both, X)
    assert both[1].score(X, y, weights) == pytest.approx(both[0].score(X, y, weights), rel=1e-6)


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_sample_weight_in_partial_fit_and_early_stopping(data, has, name):
    has("sample_weight")
    kind, X, y = data[name]
    weights = np.random.default_rng(8).uniform(0.1, 3, len(X))
    same(*fitted(kind, X, y, weights, early_stopping=True, learning_rate_init=0.05), X)
    both = pair(kind)
    classes = {"classes": np.unique(y)} if kind == "MLPClassifier" else {}
    for _ in range(4):
        for estimator in both:
            estimator.partial_fit(X, y, sample_weight=weights, **classes)
    same(*both, X)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_poisson(has, solver, outputs, weighted):
    has("poisson")
    rng = np.random.default_rng(9)
    X = rng.normal(size=(130, 4))
    y = rng.poisson(np.exp(X[:, :outputs] * 0.5)).astype(float)
    weights = rng.uniform(0.5, 2, len(X)) if weighted else None
    y = y[:, 0] if outputs == 1 else y
    both = fitted("MLPRegressor", X, y, weights, solver=solver, loss="poisson", learning_rate_init=0.01)
    same(*both, X)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["cancer", "wine", "multilabel", "diabetes"])
def test_float32(data, name, solver):
    kind, X, y = data[name]
    both = fitted(kind, X.astype(np.float32), y, solver=solver, max_iter=6)
    assert both[1].coefs_[0].dtype == np.float32
    theirs, ours = both
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-4)
    answer = "predict_proba" if kind == "MLPClassifier" else "predict"
    X = X.astype(np.float32)
    got, wanted = getattr(ours, answer)(X), getattr(theirs, answer)(X)
    assert got.dtype == (np.float32 if solver == "lbfgs" else wanted.dtype)  # theirs leaves float64 behind it
    np.testing.assert_allclose(got, wanted, atol=2e-3)


@pytest.mark.parametrize("form", [csr_array, csc_array])
@pytest.mark.parametrize("solver", SOLVERS)
def test_sparse_inputs(data, form, solver):
    kind, X, y = data["digits"]
    X = form(np.where(np.abs(X[:150]) > 1, X[:150], 0))
    same(*fitted(kind, X, y[:150], solver=solver, max_iter=5), X)


def test_the_same_state_is_left_in_a_shared_generator(data):
    kind, X, y = data["iris"]
    generators = [np.random.RandomState(4), np.random.RandomState(4)]
    for estimator, generator in zip(pair(kind), generators, strict=True):
        quietly(estimator.set_params(random_state=generator).fit, X, y)
    assert generators[0].randint(2**31) == generators[1].randint(2**31)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_prints_the_same(data, capsys, solver, early_stopping):
    kind, X, y = data["binary"]
    printed = []
    options = {"early_stopping": early_stopping, "tol": 0.05, "n_iter_no_change": 2, "learning_rate": "adaptive"}
    for estimator in pair(kind, solver=solver, verbose=True, max_iter=15, **options):
        quietly(estimator.fit, X, y)
        printed.append(capsys.readouterr().out)
    assert printed[1] == printed[0]
    assert "Iteration 1, loss = " in printed[1]


@pytest.mark.parametrize(
    ("parameters", "y"),
    [
        ({"hidden_layer_sizes": -1}, [0, 1]),
        ({"hidden_layer_sizes": (3, 0)}, [0, 1]),
        ({"solver": "newton"}, [0, 1]),
        ({"alpha": -1.0}, [0, 1]),
        ({"batch_size": 0}, [0, 1]),
        ({"learning_rate_init": 0.0}, [0, 1]),
        ({"momentum": 2}, [0, 1]),
        ({"validation_fraction": 1.0}, [0, 1]),
        ({"beta_1": 1.0}, [0, 1]),
        ({"epsilon": 0.0}, [0, 1]),
        ({"n_iter_no_change": 0}, [0, 1]),
        ({"max_iter": -1}, [0, 1]),
        ({"shuffle": "yes"}, [0, 1]),
        ({"early_stopping": True}, [0, 1]),
        ({}, [0, 1, 2]),
        ({}, [0, np.nan]),
    ],
    ids=str,
)
def test_wrong_input_is_refused_in_the_same_words(parameters, y):
    said = []
    for estimator in pair("MLPClassifier", **parameters):
        with pytest.raises(ValueError) as refusal:
            estimator.fit([[0.0], [1.0]], y)
        said.append(str(refusal.value))
    assert said[1] == said[0]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_clipped_batch_size_is_told_in_the_same_words(data):
    kind, X, y = data["iris"]
    for estimator in pair(kind, batch_size=1000, max_iter=1):
        with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample size. It is going"):
            estimator.fit(X, y)


def test_every_parameter_and_default_is_there():
    for name in ("MLPClassifier", "MLPRegressor"):
        wanted, got = getattr(theirs, name)().get_params(), getattr(ours, name)().get_params()
        assert {k: got[k] for k in wanted} == wanted
        public = {attribute for attribute in dir(getattr(theirs, name)) if not attribute.startswith("_")}
        assert public <= set(dir(getattr(ours, name)))
