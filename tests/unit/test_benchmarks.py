"""The benchmarks compute what they say; how long it takes is no matter here."""

import importlib.util
import json
import os
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from backends import fake_cupy

from gpunet import cpu
from gpunet.backends import select
from gpunet.benchmarks import accuracy, machine, memory, report, scaling, settings, step
from gpunet.benchmarks.arena import Arena, Setting, Timing, Worker, WorkerError, busy
from gpunet.benchmarks.contender import Unavailable
from gpunet.benchmarks.contenders import ALL, CONTENDERS, Entry
from gpunet.benchmarks.contenders.book import Book
from gpunet.benchmarks.problem import Batches, Problem
from gpunet.benchmarks.worker import Worker as Inside
from gpunet.errors import InputError

BENCH = Path(__file__).resolve().parents[2] / "bench"
SMALL = Problem((12, 7, 5, 3), 4, 6, data="random", dtype="float64")
LOG_LIKELIHOOD = replace(SMALL, cost="log-likelihood", activation="relu", eta=0.1)


def by_hand(problem, epochs=1):
    """The parameters after some epochs, one example at a time from the formulas."""
    X, labels, scale = problem.inputs()
    X = X * scale
    pairs = [(w.copy(), b.copy()) for w, b in problem.parameters()]
    rng = problem.order()
    for _ in range(epochs):
        for rows in rng.permutation(problem.examples).reshape(problem.steps, problem.batch):
            sums = [(np.zeros_like(w), np.zeros_like(b)) for w, b in pairs]
            for i in rows:
                a, y = [X[i]], np.eye(problem.sizes[-1])[labels[i]]
                for l, (w, b) in enumerate(pairs):
                    z = w @ a[-1] + b
                    if l == len(pairs) - 1 and problem.cost == "log-likelihood":
                        e = np.exp(z - z.max())
                        a.append(e / e.sum())
                    else:
                        a.append(np.maximum(z, 0) if problem.activation == "relu" else 1 / (1 + np.exp(-z)))
                delta = a[-1] - y if problem.cost == "log-likelihood" else (a[-1] - y) * a[-1] * (1 - a[-1])
                for l in range(len(pairs) - 1, -1, -1):
                    sums[l][0][...] += np.outer(delta, a[l])
                    sums[l][1][...] += delta
                    prime = (a[l] > 0) if problem.activation == "relu" else a[l] * (1 - a[l])
                    delta = (pairs[l][0].T @ delta) * prime
            pairs = [
                (w - problem.eta / problem.batch * dw, b - problem.eta / problem.batch * db)
                for (w, b), (dw, db) in zip(pairs, sums, strict=True)
            ]
    return pairs


def opened(name, problem):
    """The contender in this process, or a skip where its library is not installed."""
    inside = Inside()
    try:
        inside.open(ALL[name].target, asdict(problem), "cpu", dict(ALL[name].options))
    except Unavailable as error:
        pytest.skip(str(error))
    return inside.contender


def agree(contender, wanted, tolerance=1e-10):
    got = contender.parameters()
    assert len(got) == len(wanted)
    for (w, b), (w_wanted, b_wanted) in zip(got, wanted, strict=True):
        np.testing.assert_allclose(w, w_wanted, rtol=0, atol=tolerance)
        np.testing.assert_allclose(b, b_wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in ALL if "torch" in name])
def test_without_pytorch_its_contenders_are_not_there(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    entry = ALL[name]
    with pytest.raises(Unavailable, match="torch is not installed"):
        Inside().open(entry.target, asdict(SMALL), "cpu", dict(entry.options))


# torch.compile takes its time to compile; CI has no need of it, and the bench itself compares what it computes.
EXACT = [name for name in [*CONTENDERS, "torch-bytes"] if name not in ("gpunet-cupy", "sklearn-fit", "torch-compile")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("problem", [SMALL, LOG_LIKELIHOOD], ids=["quadratic", "log-likelihood"])
def test_every_contender_takes_the_same_steps(name, problem):
    contender = opened(name, problem) if (name, problem.cost) != ("book", "log-likelihood") else None
    if contender is None:
        with pytest.raises(Unavailable, match="quadratic cost alone"):
            Book(problem, "cpu")
        return
    if not contender.same_update:
        assert (name, problem.cost) == ("sklearn", "quadratic")
        return
    contender.run(2 * problem.steps)
    agree(contender, by_hand(problem, epochs=2))
    X, _ = problem.scaled_inputs()
    a = X
    for l, (w, b) in enumerate(by_hand(problem, epochs=2)):
        z = a @ w.T + b
        last = l == len(problem.sizes) - 2
        if last and problem.cost == "log-likelihood":
            a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        else:
            a = np.maximum(z, 0) if problem.activation == "relu" else 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(contender.outputs(X), a, atol=1e-9)
    contender.start()
    agree(contender, problem.parameters(), 0)
    contender.run(problem.steps)
    agree(contender, by_hand(problem))


def test_steps_can_be_taken_in_parts():
    batches, whole = Batches(SMALL), Batches(SMALL)
    parts = np.concatenate([batches.take(1), batches.take(8), batches.take(3)])
    assert np.array_equal(parts, whole.take(12))
    for epoch in parts.reshape(2, -1):
        assert sorted(epoch) == list(range(SMALL.examples))


def test_scikit_learn_fit_goes_on_from_epoch_to_epoch():
    contender = opened("sklearn-fit", replace(LOG_LIKELIHOOD, sizes=(12, 7, 3), steps=20))
    agree(contender, contender.problem.parameters(), 0)
    contender.run(20)
    first = [w.copy() for w, _ in contender.parameters()]
    assert any(np.abs(w - w0).max() > 1e-6 for w, (w0, _) in zip(first, contender.problem.parameters(), strict=True))
    contender.run(20)
    assert any(np.abs(w - w1).max() > 1e-6 for (w, _), w1 in zip(contender.parameters(), first, strict=True))


def test_flops_are_those_of_the_products():
    assert Problem((784, 30, 10), 10, 1).flops == 2 * 10 * (2 * (784 * 30 + 30 * 10) + 30 * 10)


@pytest.mark.parametrize(
    "wrong", [{"sizes": (12,)}, {"batch": 0}, {"steps": 0}, {"dtype": "float16"}, {"data": "mnist"}, {"cost": "x"}]
)
def test_problems_that_are_none(wrong):
    with pytest.raises(InputError):
        replace(SMALL, **wrong)


# -- Processes -------------------------------------------------------------------------------------------------


def test_an_arena_times_and_compares():
    contenders = [Setting("gpunet-numpy", 1), Setting("book", 1), Setting("gpunet-numpy"), Setting("gpunet-cupy", 1)]
    with Arena([*contenders, Setting("no", entry=Entry("no such", "nothing_of_that_name:X"))], timeout=60) as arena:
        timings = arena.time(SMALL, rounds=3, least_seconds=1e-4)
        assert {t.setting.label for t in timings} | arena.absent.keys() == {
            "gpunet, NumPy; 1 thread", "the book's loop, float64; 1 thread", "gpunet, NumPy; own choice",
            "gpunet, CuPy; 1 thread", "no such; own choice",
        }  # fmt: skip
        assert "nothing_of_that_name is not installed" in arena.absent["no such; own choice"]
        for timing in timings:
            assert len(timing.seconds) == 3
            assert min(timing.seconds) > 0
            assert timing.deviation < 1e-12
            assert timing.facts["versions"]["numpy"] == np.__version__
        found = step.describe(SMALL, timings, arena.absent)
        assert json.loads(json.dumps(found)) == found
        again = arena.time(replace(SMALL, dtype="float32"), rounds=1, least_seconds=1e-4)
        assert len(again) == len(timings)
        assert all(t.deviation < 1e-3 for t in again)


@pytest.mark.skipif(importlib.util.find_spec("threadpoolctl") is None, reason="threadpoolctl is not installed")
def test_a_worker_gets_its_threads_and_kernels():
    with Arena([Setting("gpunet-numpy", 1, "Nehalem")], timeout=60) as arena:
        (timing,) = arena.time(SMALL, rounds=1, least_seconds=1e-4)
    pools = [p for p in timing.facts["pools"] if p["library"] == "openblas"]
    if not pools or os.uname().machine != "x86_64":
        pytest.skip("NumPy computes by another BLAS here")
    assert {(p["threads"], p["kernels"]) for p in pools} == {(1, "Nehalem")}
    row = step.row(timing, None, None, "float64")
    assert report.kernels(row) == "Nehalem"


def test_a_worker_that_fails_or_hangs_is_given_up():
    worker = Worker(Setting("gpunet-numpy", 1), timeout=60)
    try:
        with pytest.raises(WorkerError, match="nothing is open"):
            worker.ask("run", steps=1)
        worker._timeout = 0.2
        worker._process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerError, match="gave no answer"):
            worker.ask("facts")
        worker._process.wait(10)
        with pytest.raises(WorkerError, match="ended"):
            worker.ask("facts")
    finally:
        worker.close()
    worker = Worker(Setting("gpunet-numpy", 1), timeout=60)
    worker._process.kill()
    try:
        with pytest.raises(WorkerError, match="ended"):
            worker.ask("facts")
    finally:
        worker.close()


def test_busy_processes_end():
    with busy(2):
        pass


# -- Settings and figures --------------------------------------------------------------------------------------


def test_kernels_are_asked_for_on_avx512_alone(monkeypatch):
    for best, labels in (("SkylakeX", 2), ("Haswell", 1), (None, 1)):
        monkeypatch.setattr(cpu, "best_core_type", lambda flags, best=best: best)
        assert len(settings.on_cpu(["gpunet-numpy"], [1])) == labels


def test_environment(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    own = machine.environment("cpu", None, None)
    assert "OPENBLAS_CORETYPE" not in own
    assert "OMP_NUM_THREADS" not in own
    assert machine.environment("cpu", 2, "SkylakeX")["OPENBLAS_NUM_THREADS"] == "2"
    assert machine.threads_of_this_process() == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert machine.threads_of_this_process() is None
    assert machine.environment("cuda", None, None)["NVIDIA_TF32_OVERRIDE"] == "0"


def test_settings(monkeypatch):
    monkeypatch.setattr(cpu, "usable_cores", lambda: 8)
    monkeypatch.setattr(cpu, "best_core_type", lambda flags: "SkylakeX")
    assert settings.threads("1, all,auto,8") == [1, 8, None]
    with pytest.raises(InputError, match="--threads"):
        settings.threads("none")
    assert settings.names("jax") == ["gpunet-compiled", "gpunet-numpy", "gpunet-torch", "jax"]
    with pytest.raises(InputError, match="--only"):
        settings.names("keras")
    labels = [s.label for s in settings.on_cpu(["gpunet-numpy", "book", "jax"], [1, None])]
    assert labels == [
        "gpunet, NumPy; 1 thread, SkylakeX", "gpunet, NumPy; 1 thread", "gpunet, NumPy; own choice",
        "the book's loop, float64; 1 thread, SkylakeX", "the book's loop, float64; own choice",
        "JAX, jit and scan; 1 thread", "JAX, jit and scan; own choice",
    ]  # fmt: skip


def timing(name, seconds, deviation=None, **options):
    return Timing(
        Setting(name, 1), seconds, 1.0, 1, options.get("flops", 1000), {"versions": {}, "pools": []}, deviation
    )


def test_ratios_are_of_pairs():
    """The medians' ratio would be 2; each round's is 3."""
    slow, fast = timing("book", [3.0, 6.0, 30.0]), timing("gpunet-numpy", [1.0, 2.0, 10.0])
    assert slow.over(fast) == 3.0
    assert timing("book", [1.0, 2.0, 3.0]).over(timing("book", [2.0, 1.0, 3.0])) == 1.0


def test_rows_and_who_differs():
    timings = [timing("gpunet-numpy", [1e-6], 0.0), timing("book", [4e-6], 0.5), timing("gemm-numpy", [1e-7])]
    found = step.describe(SMALL, timings, {})
    ours, book, peak = found["rows"]
    assert (ours["us"], book["times the reference"], peak["is peak"]) == (1.0, pytest.approx(4.0), True)
    assert ours["share of peak"] == pytest.approx(0.1)
    (line,) = step.differing({"problems": [found]})
    assert "the book's loop" in line
    assert report.best_of_each(found["rows"]) == [ours]


# -- The questions, tiny ---------------------------------------------------------------------------------------

TINY = Problem((784, 5, 10), 10, 4, cost="log-likelihood", eta=0.5)
US = [Setting("gpunet-numpy", 1)]


def silent(text):
    pass


def shown(found, capsys, tmp_path):
    """Show and save what was found; return the text."""
    report.show(found)
    files = report.save(found, tmp_path / "new")
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(found))
    if importlib.util.find_spec("matplotlib") is not None:
        assert files[1].read_bytes().startswith(b"\x89PNG")
    return capsys.readouterr().out


def test_accuracy(capsys, tmp_path):
    found = accuracy.run(US, {0.05: TINY, 1.0: TINY}, seeds=2, most_epochs=2, tell=silent)
    easy, hard = (goal["rows"][0] for goal in found["goals"])
    assert (easy["reached"], easy["epochs"]) == (2, [1, 1])
    assert (hard["reached"], hard["seconds"], hard["epochs"]) == (0, None, [2, 2])
    assert easy["runs"][0]["accuracy"] != easy["runs"][1]["accuracy"]
    assert "not reached" in shown(found, capsys, tmp_path)


def test_scaling(capsys, tmp_path):
    sweeps = {"width: [12, width, 3], batch 4": [(w, replace(SMALL, sizes=(12, w, 3))) for w in (2, 4)]}
    found = scaling.run(US, sweeps, rounds=1, least_seconds=1e-4, tell=silent)
    assert [point["sizes"] for point in found["sweeps"][0]["points"]] == [[12, 2, 3], [12, 4, 3]]
    assert "[12, width, 3]" in shown(found, capsys, tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory(capsys, tmp_path):
    problem = replace(SMALL, sizes=(1000, 5, 3), steps=2000, dtype="float32")
    found = memory.run([Setting("gpunet-fit", 1), Setting("book", 1)], problem, tell=silent)
    by_title = {row["title"]: row for row in found["rows"]}
    assert found["data bytes"] == 8000 * (1000 * 4 + 1)
    assert by_title["gpunet, fit"]["times the data"] > 0.9
    assert by_title["the book's loop, float64"]["beyond bytes"] > 8000 * 1000 * 8  # it keeps float64
    assert "x the data" in shown(found, capsys, tmp_path)


# -- The GPU's script, as far as it goes without one -----------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("gpu", "gpu_products", "gpu_verbs"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("gpu")


class Clock:
    """Calls once, and takes as long as it is told."""

    def __init__(self):
        self.calls = 0

    def seconds(self, call):
        call()
        self.calls += 1
        return 1e-3

    def copy_speed(self, nbytes):
        return 1e12


TINY_SIZES = {"n": 6, "m": 5, "n_gemm": 4, "m_outer": 3, "pixels": 7, "examples": 12}


def test_verbs_on_the_stand_in(gpu, monkeypatch):
    fake_cupy.install(monkeypatch)
    clock = Clock()
    found = gpu.verbs(1, select("cuda"), clock, gpu.gpu_verbs.Sizes(**TINY_SIZES))
    assert {row["verb"] for row in found["float32"]["rows"]} == {
        "copy", "activate", "hadamard_prime", "output_error", "sum_batch", "matmul", "outer_sum", "outer_batch",
        "gather", "count_right", "update", "add_squares",
    }  # fmt: skip
    assert clock.calls == sum(len(found[dtype]["rows"]) for dtype in found)
    by_dtype = {dtype: found[dtype]["rows"][0] for dtype in found}
    assert by_dtype["float32"]["bytes"] == 2 * 6 * 5 * 4
    assert by_dtype["float64"]["bytes"] == 2 * 6 * 5 * 8
    assert by_dtype["float64"]["share of limit"] == pytest.approx(480 / 1e12 / 1e-3)
    text = gpu.markdown({"machine": {"device": "x"}, "verbs": {"found": found}})
    assert "| copy | 6 x 5 | 1,000.0 |" in text


def test_products_on_the_stand_in(gpu, monkeypatch):
    state = fake_cupy.install(monkeypatch)
    clock = Clock()
    found = gpu.products(1, select("cuda"), clock, shapes=((5, 7, 3),))
    assert [row["verb"] for row in found] == ["layer_forward", "layer_backward", "layer_gradient"] * 2
    assert state.graph_launches == 8  # tiles for each verb and type, blocks for the forward ones
    assert all(row["cublas"] == 1e-3 for row in found)
    assert all(row["tiles"] == pytest.approx(1e-3 / gpu.gpu_products.CALLS) for row in found)
    text = gpu.markdown({"machine": {}, "products": {"found": found}})
    assert "| layer_forward | 5 x 7 x 3 | float32 | 50.0 | 50.0 | 1,000.0 |" in text
    left_out = gpu.products(-1, select("cuda"), clock, shapes=((5, 7, 3),))
    assert "no time left" in gpu.markdown({"machine": {}, "products": {"found": left_out}})


def test_verbs_compute_what_they_say():
    """The cases' arrays have the shapes that the verbs take: NumPy's results are those of the formulas."""
    spec = importlib.util.spec_from_file_location("gpu_verbs", BENCH / "gpu_verbs.py")
    gpu_verbs = importlib.util.module_from_spec(spec)
    sys.modules["gpu_verbs"] = gpu_verbs
    spec.loader.exec_module(gpu_verbs)
    results = {}
    for case in gpu_verbs.cases(select("cpu"), "float64", gpu_verbs.Sizes(**TINY_SIZES)):
        results.setdefault(case.verb, []).append(np.array(case.call()))
    assert [r.shape for r in results["outer_batch"]] == [(3, 3, 3)]
    assert [r.shape for r in results["gather"]] == [(7, 6)] * 2
    assert np.all(results["gather"][0] == 1 / 256)
    assert np.all(results["outer_batch"][0] > 0)


def test_no_time_left(gpu):
    found = gpu.verbs(0, select("cpu"), Clock(), gpu.gpu_verbs.Sizes(**TINY_SIZES))
    assert all(row["left out"] == "no time left" for row in found["float32"]["rows"])
    assert "no time left" in gpu.markdown({"machine": {}, "verbs": {"found": found}})
    assert gpu.steps(-1, "cpu", (SMALL,), names=()) == [{"name": SMALL.name, "left out": "no time left"}]


def test_steps_and_the_book_on_a_cpu(gpu):
    found = gpu.steps(5, "cpu", (replace(SMALL, dtype="float32"),), rounds=1, names=("gpunet-numpy", "book"))
    assert [row["same"] for row in found[0]["rows"]] == [True, True]
    runs = gpu.book(1e-9, devices=("cpu",))
    assert (runs[0]["backend"], runs[0]["epochs"]) == ("numpy on cpu", 0)
    text = gpu.markdown({"machine": {}, "steps": {"found": found}, "book": {"found": runs}})
    assert "[12, 7, 5, 3], batch 4" in text
    assert "| numpy on cpu | 0 |" in text


def test_a_section_that_fails_is_reported(gpu, tmp_path, capsys):
    found = {"machine": {"device": "x"}}
    gpu.section(found, "verbs", [tmp_path / "new"], lambda: 1 / 0)
    assert "ZeroDivisionError" in (tmp_path / "new" / "gpu.md").read_text()
    assert "ZeroDivisionError" in json.loads((tmp_path / "new" / "gpu.json").read_text())["verbs"]["failed"]
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_no_gpu(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match=r"no benchmark of a GPU without one: .*CuPy is not installed"):
        gpu.main()
