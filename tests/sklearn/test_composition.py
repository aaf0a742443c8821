"""In the places where scikit-learn's users put an estimator."""

import pickle

import joblib
import numpy as np
import pytest
import sklearn
from scipy.sparse import csc_array, csr_array
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gpunet.sklearn import MLPClassifier, MLPRegressor
from gpunet.sklearn.compat import VERSION

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning"),  # older versions of scikit-learn
]


def classifier(**parameters):
    options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 20, "random_state": 0}
    return MLPClassifier(**options | {"device": "cpu"} | parameters)


def regressor(**parameters):
    options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 40, "random_state": 0}
    return MLPRegressor(**options | {"device": "cpu"} | parameters)


def test_pipeline_and_parameters_of_its_step(blobs):
    X, y = blobs
    pipeline = make_pipeline(StandardScaler(), classifier()).set_params(mlpclassifier__dropout=0.1)
    assert pipeline.fit(X, y).score(X, y) > 0.8
    assert pipeline[-1].dropout == 0.1


def test_grid_search_over_own_and_scikit_learns_parameters(blobs):
    X, y = blobs
    grid = {"activation": ["relu", ["gelu"]], "alpha": [0.0, 1.0], "class_weight": [None, "balanced"]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.7
    assert search.best_estimator_.get_params()["activation"] in ("relu", ["gelu"])


def test_several_processes_find_the_same(blobs):
    X, y = blobs
    alone, together = (cross_val_score(classifier(), X, y, cv=2, n_jobs=n) for n in (1, 2))
    assert np.array_equal(alone, together)
    search = GridSearchCV(regressor(), {"solver": ["adam", "lbfgs"]}, cv=2, n_jobs=2, error_score="raise")
    assert search.fit(X, X[:, 0]).best_score_ > 0.5


def test_ensembles_and_calibration(blobs, line):
    X, y = blobs
    voting = VotingClassifier([("ours", classifier()), ("other", LogisticRegression())], voting="soft").fit(X, y)
    assert voting.score(X, y) > 0.8
    calibrated = CalibratedClassifierCV(classifier(), cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    X, y = line
    stacking = StackingRegressor([("ours", regressor()), ("other", LinearRegression())], cv=2).fit(X, y)
    assert stacking.score(X, y) > 0.9
    assert MultiOutputRegressor(regressor()).fit(X, np.stack([y, -y], axis=1)).predict(X).shape == (120, 2)


def test_permutation_importance_finds_what_matters(line):
    X, y = line
    found = permutation_importance(regressor().fit(X, y), X, y, n_repeats=2, random_state=0)
    assert np.argmax(found.importances_mean) == 1
    assert found.importances_mean[3] < 0.05


@pytest.mark.parametrize("make", [classifier, regressor])
def test_clone_is_unfitted_and_trains_to_the_same(make, blobs):
    X, y = blobs
    estimator = make(callbacks=print_nothing, activation=["tanh"]).fit(X, y)
    copy = clone(estimator)
    assert not hasattr(copy, "coefs_")
    assert copy.get_params() == estimator.get_params()
    assert np.array_equal(copy.fit(X, y).coefs_[0], estimator.coefs_[0])


def print_nothing(epoch):
    """As a callback: pickle finds it by its name."""


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_pickle_and_joblib(make, solver, blobs, tmp_path):
    X, y = blobs
    estimator = make(solver=solver, batch_size=50).fit(X, y)
    joblib.dump(estimator, tmp_path / "estimator")
    for copy in (pickle.loads(pickle.dumps(estimator)), joblib.load(tmp_path / "estimator")):  # noqa: S301
        assert np.array_equal(copy.predict(X), estimator.predict(X))
        if solver != "lbfgs":  # what the optimizer remembers has come along
            left, right = (e.partial_fit(X, y).coefs_[0] for e in (copy, clone_fitted(estimator)))
            assert np.array_equal(left, right)


def clone_fitted(estimator):
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301


def test_metadata_routing_in_a_grid_search(line):
    X, y = line
    y = y.copy()
    y[::3] += 100  # examples that the weights take out
    weights = np.ones(len(y))
    weights[::3] = 0
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = regressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(estimator, {"alpha": [0.0, 0.1]}, cv=2, error_score="raise")
        search.fit(X, y, sample_weight=weights)
    assert search.best_score_ > 0.9
    np.testing.assert_allclose(search.predict(X)[weights == 1], y[weights == 1], atol=1.5)
    with sklearn.config_context(enable_metadata_routing=True):
        search.set_params(estimator=regressor())
        with pytest.raises(ValueError, match="sample_weight"):  # nobody has asked for it
            search.fit(X, y, sample_weight=weights)


def test_names_of_features(blobs):
    pandas = pytest.importorskip("pandas")
    X, y = blobs
    table = pandas.DataFrame(X, columns=list("abcde"))
    estimator = classifier().fit(table, y)
    assert list(estimator.feature_names_in_) == list("abcde")
    assert np.array_equal(estimator.predict(table), estimator.predict(table.iloc[:, :]))
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(table[list("edcba")])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        estimator.predict(X)
    assert not hasattr(estimator.fit(X, y), "feature_names_in_")


@pytest.mark.parametrize("form", [csr_array, csc_array])
@pytest.mark.parametrize("dense_bytes", [None, 0])  # made dense at once, or part by part
def test_sparse_is_as_dense(form, dense_bytes, blobs, monkeypatch):
    if dense_bytes is not None:
        monkeypatch.setattr("gpunet.sklearn.perceptron._DENSE_BYTES", dense_bytes)
    X, y = blobs
    X = np.where(X > 0.5, X, 0)
    for estimator in (
        classifier(), classifier(early_stopping=True), classifier(solver="lbfgs"), classifier(shuffle=False),
    ):  # fmt: skip
        wanted = clone(estimator).fit(X, y)
        got = estimator.fit(form(X), y)
        np.testing.assert_allclose(got.loss_, wanted.loss_, rtol=1e-6)
        np.testing.assert_allclose(got.predict_proba(form(X)), wanted.predict_proba(X), atol=1e-6)


def test_labels_of_any_kind(blobs):
    X, y = blobs
    for labels in (np.array(["ant", "bee", "cat"]), np.array(["x", "y", "z"], dtype=object), np.array([-3, 5, 12])):
        estimator = classifier().fit(X, labels[y])
        assert np.array_equal(estimator.classes_, np.unique(labels))
        assert np.mean(estimator.predict(X) == labels[y]) > 0.8
    estimator = classifier().fit(X, y == 1)
    assert estimator.predict(X).dtype == bool


def test_multilabel_sparse_and_dense(blobs):
    X, y = blobs
    Y = np.stack([y == 0, y < 2, y > 0], axis=1).astype(int)
    estimator = classifier().fit(X, Y)
    assert estimator.predict(X).shape == Y.shape
    assert estimator.score(X, Y) > 0.5
    assert estimator.predict_proba(X).shape == Y.shape
    weighted = classifier(class_weight="balanced").fit(X, Y)
    assert not np.array_equal(weighted.coefs_[0], estimator.coefs_[0])


def test_tags():
    assert is_classifier(classifier())
    assert is_regressor(regressor())
    if VERSION < (1, 6):
        return
    from sklearn.utils import get_tags

    tags = get_tags(classifier())
    assert (tags.input_tags.sparse, tags.classifier_tags.multi_label) == (True, True)
    assert get_tags(regressor()).target_tags.required


@pytest.mark.parametrize("make", [classifier, regressor])
def test_not_fitted(make, blobs):
    with pytest.raises(NotFittedError):
        make().predict(blobs[0])


def test_partial_fit_is_there_for_stochastic_solvers_only():
    assert hasattr(classifier(solver="sgd"), "partial_fit")
    assert not hasattr(classifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        _ = regressor(solver="lbfgs").partial_fit


def test_repr_names_what_was_set():
    assert repr(MLPClassifier(dropout=0.5, alpha=1)) == "MLPClassifier(alpha=1, dropout=0.5)"
