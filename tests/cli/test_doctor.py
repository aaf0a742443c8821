"""`gpunet doctor`, and the OpenBLAS kernels that the command chooses before NumPy loads."""

import json
import os
import subprocess
import sys

import pytest

from gpunet import cpu
from gpunet.cli import blas_check

AVX512 = cpu.best_core_type(cpu.flags()) == "SkylakeX" and cpu._bundles_openblas("scipy")
needs_avx512 = pytest.mark.skipif(not AVX512, reason="needs a CPU with AVX-512 and SciPy's wheel")
MODULE = [sys.executable, "-m", "gpunet"]
SCRIPT = [os.path.join(os.path.dirname(sys.executable), "gpunet")]
either = pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["module", "script"])


@pytest.fixture
def doctor(environment, tmp_path):
    """Run `gpunet doctor --json` with OPENBLAS_CORETYPE as given."""

    def run(core_type=None, command=MODULE):
        env = {k: v for k, v in environment.items() if k != cpu.CORE_TYPE}
        if core_type is not None:
            env[cpu.CORE_TYPE] = core_type
        done = subprocess.run(
            [*command, "doctor", "--json"],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stderr == ""
        return json.loads(done.stdout)

    return run


def own_kernels(found):
    return next((pool["kernels"] for pool in found["blas"] if pool["of_scipy"]), None)


@needs_avx512
@either
def test_the_command_sets_the_kernels(doctor, command):
    found = doctor(command=command)
    assert found["openblas_coretype"] == "SkylakeX"
    assert {pool["kernels"] for pool in found["blas"]} == {"SkylakeX"}


@needs_avx512
@either
def test_what_the_user_sets_stays(doctor, command):
    found = doctor("Haswell", command)
    assert found["openblas_coretype"] == own_kernels(found) == "Haswell"
    assert found["kernels"]["taken"] == "Haswell"
    assert found["kernels"]["best"] == "SkylakeX"
    assert found["kernels"]["speedup"].keys() == {"small", "large"}
    assert all(gain > 0 for gain in found["kernels"]["speedup"].values())


@pytest.mark.skipif(AVX512, reason="needs a CPU without AVX-512 or another SciPy")
@either
def test_elsewhere_the_command_sets_nothing(doctor, command):
    assert doctor(command=command)["openblas_coretype"] is None


def test_a_name_that_openblas_does_not_know_is_harmless(doctor):
    found = doctor("NoSuchCore")
    assert found["openblas_coretype"] == "NoSuchCore"
    assert all(pool["kernels"] != "NoSuchCore" for pool in found["blas"])


def test_nothing_of_numpy_is_loaded_before_the_kernels_are_chosen():
    code = (
        "import sys; from gpunet import cpu; import typer, rich.console; import gpunet.__main__;"
        "print('numpy' in sys.modules, 'scipy' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["False", "False"]


@needs_avx512
def test_both_kinds_of_kernels_compute_the_same(environment):
    """In NumPy's OpenBLAS and in SciPy's, in both dtypes, against a wider reference."""
    code = """
import numpy as np
from scipy.linalg.blas import dgemm, sgemm
rng = np.random.default_rng(0)
for dtype, gemm in (("float32", sgemm), ("float64", dgemm)):
    for m, k, n in ((30, 784, 10), (10, 30, 100), (300, 500, 200), (17, 33, 65), (1, 784, 1)):
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
        bound = 2 * k * np.finfo(dtype).eps * (abs(a).astype(np.longdouble) @ abs(b).astype(np.longdouble))
        assert (abs(gemm(1.0, a, b) - exact) <= bound).all(), (dtype, m, k, n)
        assert (abs(a @ b - exact) <= bound).all(), (dtype, m, k, n)
"""
    for core_type in ("SkylakeX", "Haswell"):
        env = {**environment, cpu.CORE_TYPE: core_type}
        subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=120)


def pretend(monkeypatch, taken, chosen=None):
    """Pretend that OpenBLAS takes `taken` kernels by itself on a CPU with AVX-512; return the environments asked."""
    asked = []

    def measured(environment):
        asked.append(environment.get(cpu.CORE_TYPE))
        right = environment.get(cpu.CORE_TYPE) == "SkylakeX"
        return {"kernels": "SkylakeX" if right else taken, "small": 1e-6 if right else 4e-6, "large": 1.0}

    monkeypatch.setattr(cpu, "flags", lambda: frozenset(cpu._NEEDS["SkylakeX"]))
    monkeypatch.setattr(cpu, "chosen", chosen)
    monkeypatch.setattr(blas_check, "_in_new_process", measured)
    monkeypatch.delenv(cpu.CORE_TYPE, raising=False)
    if chosen:
        monkeypatch.setenv(cpu.CORE_TYPE, chosen)
    return asked


def test_doctor_says_what_to_set(gpunet, monkeypatch):
    pretend(monkeypatch, "Haswell")
    out = gpunet("doctor").out
    assert "OpenBLAS takes Haswell kernels" in out
    assert "4.0 times as fast, large ones 1.0 times" in out
    assert "\nSet it before Python starts:\n  export OPENBLAS_CORETYPE=SkylakeX\n" in out


def test_doctor_tells_what_the_command_does_by_itself(gpunet, monkeypatch):
    asked = pretend(monkeypatch, "Haswell", chosen="SkylakeX")
    out = gpunet("doctor").out
    assert asked[0] is None  # what OpenBLAS takes without the command's help
    assert "OPENBLAS_CORETYPE=SkylakeX, set by this command" in out
    assert "gpunet's commands do; for Python programs set it before Python starts:" in out


def test_doctor_has_nothing_to_say_where_all_is_right(gpunet, monkeypatch):
    asked = pretend(monkeypatch, "SkylakeX")
    out = gpunet("doctor").out
    assert len(asked) == 1  # and nothing to measure
    assert "OpenBLAS takes SkylakeX kernels by itself, which are right for this CPU." in out
    assert "export" not in out


def test_doctor_without_openblas(gpunet, monkeypatch):
    pretend(monkeypatch, None)
    assert "OpenBLAS takes" not in gpunet("doctor").out
    monkeypatch.setattr(cpu, "flags", frozenset)
    assert json.loads(gpunet("doctor", "--json").out)["kernels"] is None


def test_doctor_lives_with_a_process_that_can_not_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert blas_check._in_new_process(dict(os.environ)) is None


def test_doctor_shows_the_pools_and_the_cores(gpunet):
    found = json.loads(gpunet("doctor", "--json").out)
    out = gpunet("doctor").out
    assert f"{cpu.usable_cores()} core(s) to use" in out
    for pool in found["blas"]:
        assert f"{pool['library']} {pool['version']}" in out
        assert f"{pool['threads']} thread(s): {pool['file']}" in out


def test_show_config_says_what_to_set(monkeypatch, capsys):
    from gpunet import config

    real = config.config()
    monkeypatch.setattr(cpu, "flags", lambda: frozenset(cpu._NEEDS["SkylakeX"]))
    pool = {"library": "openblas", "version": "1", "threads": 1, "file": "x", "of_scipy": True}
    for kernels, told in (("Haswell", True), ("SkylakeX", False), (None, False)):
        monkeypatch.setattr(config, "config", lambda k=kernels: {**real, "blas": [{**pool, "kernels": k}]})
        config.show_config()
        assert ("export OPENBLAS_CORETYPE=SkylakeX" in capsys.readouterr().out) == told
