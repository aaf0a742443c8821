"""The pool of threads: set for a while, never above what the user allows, and put back."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import gpunet
from gpunet import cpu
from gpunet.backends import blas


class Library:
    """A BLAS of n threads."""

    def __init__(self, n):
        self.n = n

    def get_num_threads(self):
        return self.n

    def set_num_threads(self, n):
        self.n = n


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 8)


def test_limit_sets_and_puts_back():
    library = Library(6)
    pool = blas.Pool(library)
    with pool.limit(2):
        assert library.n == 2
        assert pool.most_threads() == 6
    assert library.n == 6
    with pytest.raises(ZeroDivisionError), pool.limit(3):
        raise ZeroDivisionError
    assert library.n == 6


def test_the_inner_limit_of_a_thread_holds():
    library = Library(6)
    pool = blas.Pool(library)
    with pool.limit(1):
        with pool.limit(4):
            assert library.n == 4
        assert library.n == 1
    assert library.n == 6


def test_an_epoch_sets_the_threads_once(monkeypatch):
    library = Library(6)
    settings = []
    monkeypatch.setattr(library, "set_num_threads", lambda n: (settings.append(n), setattr(library, "n", n)))
    pool = blas.Pool(library)
    monkeypatch.setattr(blas, "scipy_pool", lambda: pool)
    net = gpunet.Network([4, 5, 3], device="cpu", seed=0)
    X, y = np.random.default_rng(0).random((2000, 4)), np.arange(2000) % 3
    net.fit(X, y, epochs=1, batch_size=1, engine="verbs")
    assert settings == [1, 6]


def test_a_child_process_forgets_its_parents_threads():
    library = Library(6)
    pool = blas.Pool(library)
    with pool.limit(2):
        pool._lock.acquire()  # another thread of the parent's may hold it
        pool.after_fork()
        assert library.n == 6
        with pool.limit(3):
            assert library.n == 3
        pool._wanted[threading.get_ident()] = [2]  # this process was not forked: it ends its own limit
    assert library.n == 6


def test_limit_is_never_above_what_was_set():
    library = Library(2)
    with blas.Pool(library).limit(5):
        assert library.n == 2
    assert library.n == 2


@pytest.mark.parametrize(("set_to", "expected"), [(4, 4), (64, 8), (1, 1)])
def test_most_threads_is_what_cores_and_user_allow(set_to, expected):
    assert blas.Pool(Library(set_to)).most_threads() == expected


def test_two_threads_share_the_cores_and_the_last_puts_back():
    library = Library(8)
    pool = blas.Pool(library)
    inside, leave = threading.Event(), threading.Event()

    def other():
        with pool.limit(1):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with pool.limit(4):
        thread.start()
        assert inside.wait(10)
        assert library.n == 1
        leave.set()
        thread.join()
        assert library.n == 4
    assert library.n == 8


def test_a_blas_without_setting_is_left_alone():
    pool = blas.Pool(None)
    assert pool.most_threads() == 1
    with pool.limit(7):
        pass


def loaded(*paths):
    return [SimpleNamespace(filepath=path) for path in paths]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/v/numpy.libs/libscipy_openblas64_.so", "/v/scipy.libs/libscipy_openblas.so"], 1),
        (["/v/scipy/.dylibs/libscipy_openblas.dylib", "/v/numpy/.dylibs/libscipy_openblas64_.dylib"], 0),
        (["/env/lib/libopenblasp-r0.3.30.so"], 0),
        (["/v/numpy.libs/libscipy_openblas64_.so", "/env/lib/libmkl_rt.so"], None),
        ([], None),
    ],
)
def test_the_blas_of_scipy_is_found(paths, expected):
    libraries = loaded(*paths)
    assert blas.of_scipy(libraries) is (None if expected is None else libraries[expected])


def scipy_threads():
    return [pool["threads"] for pool in blas.loaded() if pool["of_scipy"]]


@pytest.mark.skipif(not scipy_threads(), reason="SciPy's BLAS here has no threads to set")
def test_a_training_leaves_the_users_threads_as_they_were():
    X, y = np.random.default_rng(0).random((300, 20)), np.arange(300) % 3
    net = gpunet.Network([20, 8, 3], device="cpu", seed=0)
    seen = []
    for limit in (1, 2):
        with threadpool_limits(limit, user_api="blas"):
            before = scipy_threads()
            net.fit(X, y, epochs=2, on_epoch=lambda _: seen.append(scipy_threads()), batch_size=50)
            net.predict(X)
            assert seen == [before] * 2
            assert scipy_threads() == before
            seen.clear()


@pytest.mark.skipif(not scipy_threads(), reason="SciPy's BLAS here has no threads to set")
def test_the_users_environment_is_an_upper_bound():
    code = "from gpunet.backends.numpy import NumPyBackend; print(NumPyBackend().most_threads)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert run.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("cost", "output"), [("quadratic", "sigmoid"), ("quadratic", "linear"), ("cross-entropy", "sigmoid"),
                         ("log-likelihood", "softmax")],
)  # fmt: skip
def test_a_step_never_starts_the_threads_of_numpys_own_blas(monkeypatch, cost, output):
    """NumPy's products of more than a few thousand numbers would: a step has none of them."""

    def no(name):
        original = getattr(np, name)

        def refuse(*arrays, **options):
            assert max(np.size(a) for a in arrays if isinstance(a, np.ndarray)) <= 10_000, f"{name} in a step"
            return original(*arrays, **options)

        return refuse

    for name in ("dot", "vdot", "inner", "matmul", "tensordot", "einsum"):
        monkeypatch.setattr(np, name, no(name))
    rng = np.random.default_rng(0)
    y = rng.random((600, 90))
    y /= y.sum(axis=1, keepdims=True)
    X = rng.random((600, 70))
    net = gpunet.Network([70, 40, 90], device="cpu", seed=0, cost=cost, output_activation=output)
    history = net.fit(X, y, epochs=1, batch_size=300, eta=0.01, validation_data=(X, y))
    assert np.isfinite(history.cost).all()


def test_the_quadratic_cost_is_the_same_however_it_is_summed():
    rng = np.random.default_rng(1)
    X, Y = rng.random((300, 5)), rng.random((300, 80))
    net = gpunet.Network([5, 80], device="cpu", seed=0, dtype="float64")
    a = net.outputs(X)
    history = net.fit(X, Y, epochs=1, batch_size=300, eta=1e-3)  # 24,000 numbers: no dot product
    assert history.cost == [pytest.approx(0.5 * np.sum((a - Y) ** 2) / 300, rel=1e-12)]
