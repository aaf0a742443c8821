"""scikit-learn's own tests of its perceptrons, with gpunet's classes in the place of theirs."""

from types import FunctionType

import pytest
import sklearn.neural_network as theirs

import gpunet.sklearn as ours

their_tests = pytest.importorskip(
    "sklearn.neural_network.tests.test_mlp", reason="this scikit-learn comes without its tests"
)

pytestmark = pytest.mark.filterwarnings("default")  # as they are run there

#: Their name -> why it can not apply.
PRIVATE = {
    "test_gradient": "calls _loss_grad_lbfgs; what it says of gradients, tests/unit/test_functions.py says of ours",
}
SWAPPED = {getattr(theirs, name): getattr(ours, name) for name in ("MLPClassifier", "MLPRegressor")}


@pytest.fixture(autouse=True)
def _ours_in_the_place_of_theirs(monkeypatch):
    for name in ("MLPClassifier", "MLPRegressor"):
        monkeypatch.setattr(their_tests, name, getattr(ours, name))


@pytest.fixture(params=[0, 42])
def global_random_seed(request):
    return request.param


def _with_our_classes(test):
    """Return the test as a function whose marks name our classes: theirs were read when its module was loaded."""
    marks = [_swapped(mark) for mark in getattr(test, "pytestmark", [])]
    run = pytest.mark.skip(reason=PRIVATE[test.__name__])(_copy(test)) if test.__name__ in PRIVATE else _copy(test)
    run.pytestmark = [*getattr(run, "pytestmark", []), *marks]
    return run


def _copy(test):
    return FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)


def _swapped(mark):
    if mark.name != "parametrize":
        return mark
    names, values = mark.args
    values = [SWAPPED.get(value, value) if isinstance(value, type) else value for value in values]
    return pytest.mark.parametrize(names, values, **mark.kwargs).mark


TESTS = {name: test for name, test in vars(their_tests).items() if name.startswith("test_")}
globals().update({name: _with_our_classes(test) for name, test in TESTS.items()})


def test_that_they_are_many_and_the_excuses_are_few():
    assert len(TESTS) > 30
    assert set(PRIVATE) <= set(TESTS)
