"""The CPU's flags, the cores that may be used, and the core type that the command chooses for OpenBLAS."""

import math
import platform
from types import SimpleNamespace

import pytest

from gpunet import cpu

AVX512 = "avx512f avx512dq avx512cd avx512bw avx512vl"


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a CPU with these flags and a SciPy from a wheel."""

    def pretend(flags, wheel=True):
        monkeypatch.setattr(cpu, "flags", lambda: frozenset(flags.split()))
        monkeypatch.setattr(cpu, "_bundles_openblas", lambda package: wheel)
        monkeypatch.setattr(cpu, "chosen", None)

    return pretend


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        (f"fma avx2 {AVX512}", "SkylakeX"),
        (f"fma avx2 {AVX512} avx512_bf16", "SkylakeX"),
        (f"fma avx2 {AVX512.removesuffix('avx512vl')}", "Haswell"),
        ("fma avx2", "Haswell"),
        ("avx2", None),
        ("", None),
    ],
)
def test_the_best_core_type_is_one_whose_flags_are_all_there(flags, best):
    assert cpu.best_core_type(frozenset(flags.split())) == best


@pytest.mark.parametrize(
    ("core_type", "best", "as_good"),
    [
        ("SkylakeX", "SkylakeX", True),
        ("Cooperlake", "SkylakeX", True),
        ("SapphireRapids", "SkylakeX", True),
        ("Haswell", "SkylakeX", False),
        ("Zen", "SkylakeX", False),
        ("Zen", "Haswell", True),
        ("Nehalem", "Haswell", False),
        ("Prescott", "SkylakeX", False),
    ],
)
def test_core_types_are_compared_by_what_they_use(core_type, best, as_good):
    assert cpu.is_as_good(core_type, best) is as_good


def test_kernels_are_chosen_where_the_flags_prove_it(machine):
    machine(f"avx2 fma {AVX512}")
    environ = {}
    cpu.choose_kernels(environ)
    assert environ == {"OPENBLAS_CORETYPE": "SkylakeX"}
    assert cpu.chosen == "SkylakeX"


@pytest.mark.parametrize(
    ("flags", "wheel", "environ"),
    [
        (f"avx2 fma {AVX512}", True, {"OPENBLAS_CORETYPE": "Haswell"}),
        (f"avx2 fma {AVX512}", True, {"OPENBLAS_CORETYPE": ""}),
        (f"avx2 fma {AVX512}", False, {}),
        ("avx2 fma", True, {}),
        ("", True, {}),
    ],
    ids=["set", "set to nothing", "no wheel", "no AVX-512", "unknown"],
)
def test_kernels_are_left_alone_otherwise(machine, flags, wheel, environ):
    machine(flags, wheel)
    before = dict(environ)
    cpu.choose_kernels(environ)
    assert environ == before
    assert cpu.chosen is None


def test_flags_are_those_of_the_first_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert cpu.flags(info) == {"fpu", "avx2", "fma"}
    assert cpu.flags(tmp_path / "missing") == frozenset()
    info.write_bytes(b"\xff\xfe nothing")
    assert cpu.flags(info) == frozenset()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert cpu.flags(info) == frozenset()


@pytest.mark.parametrize(
    ("names", "bundled"), [(["libscipy_openblas-1.so"], True), (["libgfortran.so"], False), ([], False)]
)
def test_a_wheel_is_known_by_its_library(tmp_path, monkeypatch, names, bundled):
    (tmp_path / "scipy.libs").mkdir()
    for name in names:
        (tmp_path / "scipy.libs" / name).touch()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "scipy")])
    monkeypatch.setattr(cpu, "find_spec", lambda package: found)
    assert cpu._bundles_openblas("scipy") is bundled
    monkeypatch.setattr(cpu, "find_spec", lambda package: None)
    assert not cpu._bundles_openblas("scipy")


def control_groups(tmp_path, line, limits):
    """Write a file as /proc/self/cgroup and a tree as /sys/fs/cgroup."""
    root = tmp_path / "cgroup"
    for path, limit in limits.items():
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / "cpu.max").write_text(limit)
    proc = tmp_path / "self"
    proc.write_text(line)
    return cpu._quota(proc, root)


@pytest.mark.parametrize(
    ("line", "limits", "expected"),
    [
        ("0::/\n", {"": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a": "200000 100000", "a/b": "max 100000"}, 2.0),
        ("0::/a/b\n", {"a": "200000 100000", "a/b": "100000 200000"}, 0.5),
        ("1:cpu:/x\n0::/\n", {"": "max 100000"}, math.inf),
        ("1:cpu:/x\n", {"": "100000 100000"}, math.inf),
        ("0::/../../elsewhere\n", {}, math.inf),
        ("0::/\n", {"": "nonsense"}, math.inf),
    ],
)
def test_the_quota_is_the_smallest_on_the_way_up(tmp_path, monkeypatch, line, limits, expected):
    monkeypatch.setattr(cpu.sys, "platform", "linux")
    assert control_groups(tmp_path, line, limits) == expected


@pytest.mark.parametrize(("quota", "cores"), [(math.inf, 4), (2.5, 3), (0.2, 1), (99.0, 4)])
def test_usable_cores_are_those_of_affinity_and_quota(monkeypatch, quota, cores):
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda pid: {1, 3, 5, 7}, raising=False)
    monkeypatch.setattr(cpu, "_quota", lambda: quota)
    assert cpu.usable_cores() == cores


def test_idle_cores_are_the_idle_time_over_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu.os, "sysconf", lambda name: 100)
    stat, now = tmp_path / "stat", iter([10.0, 12.0, 13.0])
    stat.write_text("cpu  1 2 3 1000 500 6 7 8 9 10\ncpu0 ...\n")
    idle = cpu.IdleCores(stat, lambda: next(now))
    stat.write_text("cpu  1 2 3 1250 550 6 7 8 9 10\n")
    assert idle() == pytest.approx(1.5)  # 300 hundredths of a second in 2 seconds
    assert idle() == 0.0


def test_idle_cores_that_nobody_tells_hinder_nothing(tmp_path):
    assert cpu.IdleCores(tmp_path / "missing")() == math.inf


@pytest.mark.parametrize(
    ("environ", "allowed"),
    [
        ({}, math.inf),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "4"}, 3),
        ({"OMP_NUM_THREADS": " 2,1"}, 2),
        ({"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": "0"}, math.inf),
        ({"OMP_NUM_THREADS": "-3"}, math.inf),
        ({"OMP_NUM_THREADS": "9" * 30}, math.inf),
    ],
)
def test_allowed_threads(environ, allowed):
    assert cpu.allowed_threads(environ) == allowed
