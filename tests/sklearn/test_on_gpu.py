"""Arrays on a GPU: of CuPy and of PyTorch, on the stand-ins for both, and on a card where there is one."""

import importlib
import multiprocessing
import pickle
import warnings

import joblib
import numpy as np
import pytest
from backends import fake_cupy, fake_torch
from sklearn.datasets import make_multilabel_classification
from sklearn.model_selection import GridSearchCV

from gpunet import DeviceError
from gpunet.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**parameters):
    options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 4, "random_state": 0}
    return MLPClassifier(**options | parameters)


def regressor(**parameters):
    options = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.05, "max_iter": 4, "random_state": 0}
    return MLPRegressor(**options | parameters)


def forget_what_was_found():
    module = importlib.import_module("gpunet.backends.select")  # in the package, its function has that name
    module.lasting_reason.cache_clear()
    module._say_once.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    """CuPy's stand-in, and its state."""
    forget_what_was_found()
    yield fake_cupy.install(monkeypatch)
    forget_what_was_found()


class Library:
    """A library of arrays on a GPU."""

    def __init__(self, name, put):
        self.put, self.type, self._name = put, type(put(np.zeros(1))), name

    def has(self, array):
        return isinstance(array, self.type) and str(array.device) in ("cuda:0", "<CUDA Device 0>")

    def get(self, array):
        assert self.has(array), f"{type(array)} instead of {self._name}'s array on the GPU"
        return array.get() if self._name == "cupy" else array.cpu().numpy()


def real(name, put):
    return pytest.param((name, put), marks=pytest.mark.gpu, id=f"{name}-card")


@pytest.fixture(
    params=[
        pytest.param(("cupy", None), id="cupy"),
        pytest.param(("torch", None), id="torch"),
        real("cupy", lambda x: importlib.import_module("cupy").asarray(x)),
        real("torch", lambda x: importlib.import_module("torch").as_tensor(x, device="cuda")),
    ]
)
def gpu(request, monkeypatch):
    name, put = request.param
    if put is None:
        request.getfixturevalue("stand_in")
        if name == "cupy":
            put = importlib.import_module("cupy").asarray
        else:
            fake_torch.install(monkeypatch)
            put = fake_torch.on_gpu
    else:
        pytest.importorskip(name)
    return Library(name, put)


@pytest.mark.parametrize(("device", "outputs"), [("auto", 2), ("cuda:0", 3)])
def test_arrays_are_trained_where_they_are(gpu, blobs, device, outputs):
    X, y = blobs
    y = y % outputs
    estimator = classifier(device=device).fit(gpu.put(X), gpu.put(y))
    wanted = classifier(device="cpu").fit(X, y)
    assert estimator.history_.device == "cuda:0"
    for got, array in zip(estimator.coefs_ + estimator.intercepts_, wanted.coefs_ + wanted.intercepts_, strict=True):
        np.testing.assert_allclose(gpu.get(got), array, atol=1e-9)
    np.testing.assert_allclose(gpu.get(estimator.predict_proba(gpu.put(X))), wanted.predict_proba(X), atol=1e-9)
    logarithms = gpu.get(estimator.predict_log_proba(gpu.put(X)))
    np.testing.assert_allclose(logarithms, wanted.predict_log_proba(X), atol=1e-6)
    assert np.array_equal(gpu.get(estimator.predict(gpu.put(X))), wanted.predict(X))
    assert estimator.score(gpu.put(X), gpu.put(y)) == wanted.score(X, y)
    assert isinstance(estimator.predict(X), np.ndarray)  # where the inputs are
    copy = pickle.loads(pickle.dumps(estimator))  # noqa: S301
    assert np.array_equal(gpu.get(copy.predict(gpu.put(X))), wanted.predict(X))
    copy.partial_fit(gpu.put(X), gpu.put(y))
    assert copy.t_ == 5 * 120


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_numbers(gpu, line, solver, outputs):
    X, y = line
    y = y if outputs == 1 else np.column_stack([y, -y])
    weights = np.linspace(0, 1, len(y))
    estimator = regressor(solver=solver).fit(gpu.put(X), gpu.put(y), sample_weight=gpu.put(weights))
    wanted = regressor(solver=solver, device="cpu").fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(gpu.get(estimator.predict(gpu.put(X))), wanted.predict(X), atol=1e-8)
    assert estimator.score(gpu.put(X), gpu.put(y)) == pytest.approx(wanted.score(X, y))


@pytest.mark.parametrize("make", [classifier, regressor])
def test_float32_stays(gpu, blobs, make):
    X, y = (v.astype(np.float32) for v in blobs)
    estimator = make().fit(gpu.put(X), gpu.put(y))
    assert gpu.get(estimator.coefs_[0]).dtype == np.float32
    np.testing.assert_allclose(gpu.get(estimator.coefs_[0]), make(device="cpu").fit(X, y).coefs_[0], atol=1e-4)


def test_early_stopping_sets_a_part_aside_there(gpu, blobs):
    X, y = blobs
    options = {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 3}
    estimator = classifier(**options).fit(gpu.put(X), gpu.put(y))
    wanted = classifier(**options, device="cpu").fit(X, y)
    assert estimator.validation_scores_ == pytest.approx(wanted.validation_scores_)
    assert gpu.has(estimator.coefs_[0])


def test_validation_data_of_ones_own(gpu, blobs):
    X, y = blobs
    estimator = classifier(early_stopping=True)
    wanted = classifier(early_stopping=True, device="cpu")
    for _ in range(3):
        estimator.partial_fit(
            gpu.put(X[:90]), gpu.put(y[:90]), classes=[0, 1, 2], X_val=gpu.put(X[90:]), y_val=gpu.put(y[90:])
        )
        wanted.partial_fit(X[:90], y[:90], classes=[0, 1, 2], X_val=X[90:], y_val=y[90:])
    assert estimator.validation_scores_ == pytest.approx(wanted.validation_scores_)
    estimator.partial_fit(gpu.put(X[:90]), gpu.put(y[:90]), X_val=X[90:], y_val=y[90:])  # these are sent there


def test_warm_start_and_dropout(gpu, blobs):
    X, y = blobs
    estimators = classifier(warm_start=True, dropout=0.2), classifier(warm_start=True, dropout=0.2, device="cpu")
    for _ in range(2):
        estimators[0].fit(gpu.put(X), gpu.put(y))
        estimators[1].fit(X, y)
    np.testing.assert_allclose(gpu.get(estimators[0].coefs_[0]), estimators[1].coefs_[0], atol=1e-9)


def test_several_labels(gpu):
    X, y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    estimator = classifier(class_weight="balanced").fit(gpu.put(X), gpu.put(y))
    wanted = classifier(class_weight="balanced", device="cpu").fit(X, y)
    assert np.array_equal(gpu.get(estimator.predict(gpu.put(X))), wanted.predict(X))
    np.testing.assert_allclose(gpu.get(estimator.predict_proba(gpu.put(X))), wanted.predict_proba(X), atol=1e-9)


def test_text_labels_come_back_as_numpys(gpu, blobs):
    X, y = blobs
    names = np.array(["ant", "bee", "cat"])[y]
    predicted = classifier().fit(gpu.put(X), names).predict(gpu.put(X))
    assert np.array_equal(predicted, classifier(device="cpu").fit(X, names).predict(X))


def test_wrong_arrays(gpu, blobs):
    X, y = blobs
    estimator = classifier(max_iter=2)
    with pytest.raises(DeviceError, match="X is on cuda:0, but device='cpu'; move X, or pass device='auto'"):
        classifier(device="cpu").fit(gpu.put(X), y)
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        estimator.fit(gpu.put(X[:, 0]), y)
    with pytest.raises(ValueError, match="Input X contains NaN or infinity"):
        estimator.fit(gpu.put(np.where(X > 1, np.nan, X)), y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator.fit(gpu.put(X), y[1:])
    estimator.fit(gpu.put(X), y)
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 5"):
        estimator.predict(gpu.put(X[:, :2]))


def test_a_tensor_that_takes_gradients_is_taken_and_one_that_cupy_does_not_know_refused(stand_in, monkeypatch, blobs):
    fake_torch.install(monkeypatch)
    X, y = blobs
    estimator = classifier().fit(fake_torch.on_gpu(X, requires_grad=True), y)
    assert isinstance(estimator.predict(X), np.ndarray)
    with pytest.raises(ValueError, match=r"array of dtype torch.bfloat16 on cuda:0 can not be .* Give float32 or"):
        classifier().fit(fake_torch.on_gpu(X, dtype="bfloat16"), y)


def test_validation_data_on_another_gpu_are_refused(stand_in, blobs):
    cupy = importlib.import_module("cupy")
    X, y = blobs
    with cupy.cuda.Device(1):
        elsewhere = cupy.asarray(X)
    with pytest.raises(ValueError, match="got an array on cuda:1, but the network lives on cuda:0"):
        classifier().fit(cupy.asarray(X), y, X_val=elsewhere, y_val=y)


# -- A GPU that several processes share ----------------------------------------------------------------------------


def test_where_a_gpus_memory_is_short_the_cpu_does_it_and_says_so(stand_in, blobs):
    X, y = blobs
    on_gpu = classifier().fit(X, y)
    assert on_gpu.history_.device == "cuda:0"
    on_gpu.partial_fit(X, y)
    stand_in.memory = 20_000  # enough for a look at the device, and for the beginning
    with pytest.warns(
        UserWarning, match=r"cuda:0 has not enough memory for a training of this size \(.*\): the CPU"
    ) as warned:
        estimator = classifier(hidden_layer_sizes=(300,)).fit(X, y)
    assert warned[0].filename == __file__
    assert estimator.history_.device == "cpu"
    wanted = classifier(hidden_layer_sizes=(300,), device="cpu").fit(X, y)
    assert np.array_equal(estimator.coefs_[0], wanted.coefs_[0])
    assert estimator.loss_curve_ == wanted.loss_curve_
    stand_in.memory = 20_000
    with pytest.warns(UserWarning, match="cuda:0 has not enough memory for a prediction of this size"):
        assert np.array_equal(estimator.predict(X), wanted.predict(X))
    stand_in.memory = 20_000
    with pytest.raises(DeviceError, match=r"not enough memory for a training of this size: .* Lower the sizes"):
        classifier(hidden_layer_sizes=(300,), device="cuda").fit(X, y)


def test_memory_that_becomes_short_midway_leaves_nothing_of_the_first_try(stand_in, blobs):
    X, y = blobs
    estimator = classifier().fit(X, y)
    estimator.set_params(random_state=np.random.RandomState(0))
    before = pickle.loads(pickle.dumps(estimator)).set_params(device="cpu")  # noqa: S301

    def take_the_memory(epoch):
        if stand_in.memory is None:
            stand_in.memory = 0
            raise MemoryError("taken")

    with pytest.warns(UserWarning, match="the CPU does it"):
        estimator.set_params(callbacks=take_the_memory).partial_fit(X, y)
    before.partial_fit(X, y)
    assert estimator.loss_curve_ == pytest.approx(before.loss_curve_, rel=1e-12)
    assert estimator.t_ == before.t_ == 5 * 120


def test_a_gpu_that_is_full_before_anything_is_tried(stand_in, blobs, caplog):
    X, y = blobs
    caplog.set_level("WARNING", "gpunet")  # the commands want it quieter
    stand_in.memory = 0
    assert classifier().fit(X, y).history_.device == "cpu"
    assert "computing on the CPU, because cuda:0 is there, but has no free memory" in caplog.text
    stand_in.memory = None
    assert classifier().fit(X, y).history_.device == "cuda:0"  # it is not remembered
    stand_in.memory = 0
    with pytest.raises(DeviceError, match="cuda:0 is there, but has no free memory"):
        classifier(device="cuda").fit(X, y)


def _in_a_fork(X, y, answers):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            classifier(device="cuda").fit(X, y)
        except DeviceError as error:
            answers.put(str(error))
        answers.put(classifier().fit(X, y).history_.device)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX, where another test has loaded it
def test_a_forked_process_computes_on_the_cpu(stand_in, blobs):
    classifier().fit(*blobs)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_in_a_fork, args=(*blobs, answers))
    child.start()
    child.join(120)
    assert child.exitcode == 0
    assert "forked from one that had used CUDA" in answers.get()
    assert answers.get() == "cpu"


@pytest.mark.gpu
def test_a_search_of_several_processes_on_one_card(blobs):
    X, y = blobs
    with joblib.parallel_config("loky", n_jobs=3):
        search = GridSearchCV(classifier(), {"alpha": [0.0, 1e-4, 1e-2]}, cv=3, error_score="raise").fit(X, y)
    assert search.best_estimator_.history_.device == "cuda:0"
    alone = GridSearchCV(classifier(), {"alpha": [0.0, 1e-4, 1e-2]}, cv=3, error_score="raise").fit(X, y)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
