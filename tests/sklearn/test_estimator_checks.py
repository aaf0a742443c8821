"""scikit-learn's checks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from gpunet.sklearn import MLPClassifier, MLPRegressor

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # some checks of theirs call what they are about to change
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


CHECKS = parametrize_with_checks([MLPClassifier(device="cpu"), MLPRegressor(device="cpu")])
names, pairs = CHECKS.args


# A list: older versions of scikit-learn give a generator.
@pytest.mark.parametrize(names, list(pairs), **CHECKS.kwargs)
def test_check(estimator, check):
    check(estimator)
