"""What a user does wrong: it is told before anything is done, and nothing is lost by it."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning

from gpunet import costs, schedules
from gpunet.sklearn import MLPClassifier, MLPRegressor

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4))
LABELS = (X[:, 0] > 0).astype(int)
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0]
ROWS = X[:20], LABELS[:20]


def classifier(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "device": "cpu", **options})


def regressor(**options):
    return MLPRegressor(**{"hidden_layer_sizes": (5,), "max_iter": 5, "random_state": 0, "device": "cpu", **options})


@pytest.fixture(autouse=True)
def _short_trainings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


#: Parameters, keywords of fit, and what is said.
REFUSED = [
    ({"dropout": [0.1, 0.2]}, {}, "one for each of the 1 hidden layers"),
    ({"dropout": ["a"]}, {}, "one for each of the 1 hidden layers"),
    ({"solver": "lbfgs", "dropout": 0.1}, {}, "takes no dropout"),
    ({"solver": "lbfgs", "callbacks": print}, {}, "takes no callbacks"),
    ({"solver": "lbfgs"}, {"X_val": ROWS[0], "y_val": ROWS[1]}, "takes no X_val"),
    ({"callbacks": [3]}, {}, "a function or a list of functions"),
    ({"activation": ["relu", "relu"]}, {}, "2 entries for 1 hidden layers"),
    ({"activation": ["reluu"]}, {}, "Did you mean 'relu'"),
    ({"class_weight": {0: 0, 1: 0}}, {}, "not 0 to all"),
    ({"class_weight": {0: np.nan, 1: 1}}, {}, "finite weights"),
    ({"learning_rate": schedules.OnPlateau(0.1)}, {}, "goes by a validation set"),
    ({}, {"X_val": X[:1], "y_val": LABELS[:1]}, "at least 2"),
    ({}, {"X_val": ROWS[0], "y_val": ROWS[1] + 5}, "classes that y has not: .*5"),
    ({}, {"X_val": ROWS[0], "y_val": ROWS[1].astype(str)}, "classes that y has not"),
    ({}, {"X_val": ROWS[0], "y_val": np.stack([ROWS[1]] * 2, 1)}, "multilabel"),
    ({}, {"X_val": ROWS[0], "y_val": ROWS[1], "sample_weight_val": np.full(20, np.nan)}, "NaN"),
    ({}, {"X_val": ROWS[0], "y_val": ROWS[1], "sample_weight_val": np.ones((20, 1))}, "1D"),
    ({}, {"X_val": ROWS[0][:, :3], "y_val": ROWS[1]}, "3 features"),
]


@pytest.mark.parametrize(("parameters", "keywords", "words"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_refused_fit_leaves_the_estimator_as_it_was(parameters, keywords, words):
    fresh = classifier(**parameters)
    with pytest.raises(ValueError, match=words):
        fresh.fit(X, LABELS, **keywords)
    assert not [name for name in vars(fresh) if name.endswith("_")]
    fitted = classifier().fit(X, LABELS)
    before, expected = copy.deepcopy(vars(fitted)), fitted.predict_proba(X)
    fitted.set_params(**parameters)
    with pytest.raises(ValueError, match=words):
        fitted.fit(X, LABELS, **keywords)
    fitted.set_params(**{name: before[name] for name in parameters})
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    assert vars(fitted).keys() == before.keys()
    assert fitted.loss_curve_ == before["loss_curve_"]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_bad_batch_does_not_spoil_those_that_follow(solver):
    estimators = [regressor(solver=solver) for _ in range(2)]
    for estimator in estimators:
        estimator.partial_fit(X, NUMBERS)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite"):
        estimators[0].partial_fit(X * 1e300, NUMBERS)
    for estimator in estimators:
        estimator.partial_fit(X, NUMBERS)
    assert estimators[0].loss_curve_ == estimators[1].loss_curve_
    assert estimators[0].t_ == 2 * len(X)
    assert len(estimators[0].history_.epochs) == 2


def test_an_activation_set_after_fit_counts_at_once():
    fitted = regressor().fit(X, NUMBERS)
    before = fitted.predict(X)
    fitted.set_params(activation="tanh")
    assert not np.allclose(fitted.predict(X), before)
    for other in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):  # noqa: S301
        np.testing.assert_array_equal(other.predict(X), fitted.predict(X))


def test_weights_replaced_by_hand_count_at_once():
    fitted = regressor().fit(X, NUMBERS)
    other = regressor(random_state=1).fit(X, NUMBERS)
    fitted.coefs_, fitted.intercepts_[0] = list(other.coefs_), other.intercepts_[0]
    fitted.intercepts_[1] = other.intercepts_[1]
    np.testing.assert_array_equal(fitted.predict(X), other.predict(X))
    fitted.coefs_[0] = np.zeros_like(fitted.coefs_[0])
    fitted.coefs_[0] += 1.0  # after it has been looked at
    before = fitted.predict(X)
    fitted.coefs_[0] -= 1.0
    assert not np.allclose(fitted.predict(X), before)


def test_other_layers_are_not_gone_on_with():
    fitted = classifier(warm_start=True).fit(X, LABELS)
    for sizes in ((6,), (5, 5)):
        fitted.set_params(hidden_layer_sizes=sizes)
        with pytest.raises(ValueError, match="to begin anew"):
            fitted.fit(X, LABELS)
        with pytest.raises(ValueError, match="to begin anew"):
            fitted.partial_fit(X, LABELS)


@pytest.mark.parametrize("sizes", [(1.9,), (5.0,), 5.5])
def test_layers_are_whole(sizes):
    with pytest.raises((TypeError, ValueError)):
        classifier(hidden_layer_sizes=sizes).fit(X, LABELS)


def test_early_stopping_switched_off_and_on():
    estimator = regressor(early_stopping=True).partial_fit(X, NUMBERS, X_val=X, y_val=NUMBERS)
    estimator.set_params(early_stopping=False).partial_fit(X, NUMBERS)
    estimator.set_params(early_stopping=True).partial_fit(X, NUMBERS, X_val=X, y_val=NUMBERS)
    estimator.set_params(solver="lbfgs", early_stopping=False).fit(X, NUMBERS)
    estimator.set_params(solver="adam", warm_start=True).fit(X, NUMBERS)
    assert np.isfinite(estimator.predict(X)).all()


def test_a_solver_changed_between_calls_begins_anew():
    estimator = regressor(learning_rate_init=0.5).partial_fit(X, NUMBERS)
    estimator.set_params(solver="sgd", learning_rate_init=0.001).partial_fit(X, NUMBERS)
    assert estimator.history_.epochs[-1].eta == 0.001


def test_balanced_needs_all_examples():
    with pytest.raises(ValueError, match="pass a dict"):
        classifier(class_weight="balanced").partial_fit(X, LABELS, classes=[0, 1])
    classifier(class_weight={0: 2.0, 1: 1.0}).partial_fit(X, LABELS, classes=[0, 1])


def test_losses_that_are_for_classes():
    for loss in (costs.CrossEntropy(), costs.get("hinge")):
        with pytest.raises(ValueError, match="is for classes"):
            regressor(loss=loss).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="needs y from 0"):
        regressor(loss="poisson").fit(X, NUMBERS)


def test_sparse_labels_with_early_stopping():
    Y = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1).astype(int)
    sparse, dense = (classifier(early_stopping=True).fit(X, y) for y in (scipy.sparse.csr_matrix(Y), Y))
    assert sparse.validation_scores_ == dense.validation_scores_
    given = classifier(early_stopping=True).fit(X, Y, X_val=X, y_val=scipy.sparse.csr_matrix(Y))
    assert max(given.validation_scores_) == given.score(X, Y)


def test_a_plateau_of_the_validation_cost():
    estimator = regressor(learning_rate=schedules.OnPlateau(0.1, patience=1), max_iter=40)
    estimator.fit(X, NUMBERS, X_val=X[:20], y_val=NUMBERS[:20])
    assert estimator.history_.epochs[-1].eta < 0.1
    assert None not in estimator.history_.validation_cost


@pytest.mark.parametrize("answer", [True, np.True_])
def test_any_true_answer_ends_the_training(answer):
    estimator = classifier(callbacks=lambda epoch: answer).fit(X, LABELS)
    assert estimator.n_iter_ == 1


def test_dropout_leaves_the_order_of_examples_alone():
    states = []
    for dropout in (0.0, 0.5):
        random = np.random.RandomState(3)
        classifier(dropout=dropout, random_state=random).fit(X, LABELS)
        states.append(random.randint(10**6))
    assert states[0] == states[1]
