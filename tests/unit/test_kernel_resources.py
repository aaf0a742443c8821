"""The check of the kernels' registers: what it reads from ptxas, and that a spill, a warning or an error fails."""

import importlib.util
import shutil
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "kernel_resources.py"

PTXAS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'k' for '{}'
ptxas info    : Function properties for k
    8 bytes stack frame, {spill} bytes spill stores, {spill} bytes spill loads
ptxas info    : Used {registers} registers, used 1 barriers, 64 bytes smem, 380 bytes cmem[0]
"""

SPILLS = """
extern "C" __global__ __launch_bounds__(1024, 1) void k(double *x, int n)
{
    double a[64];
    for (int i = 0; i < 64; i++) a[i] = x[i * n + threadIdx.x];
    for (int r = 0; r < n; r++)
        #pragma unroll
        for (int i = 0; i < 64; i++) a[i] = a[i] * a[(i + 7) % 64] + x[r];
    for (int i = 0; i < 64; i++) x[i * n + threadIdx.x] = a[i];
}
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("kernel_resources", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["nvcc", "nvrtc"])
def compile_kernel(script, request):
    """Each compiler that is there."""
    if request.param == "nvcc" and shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    if request.param == "nvrtc":
        pytest.importorskip("cuda.core")
    return getattr(script, f"{request.param}_report")


def report(script, spill=0, but=()):
    return "".join(
        PTXAS.format(a, spill=spill, registers=20 + i) for i, a in enumerate(script.ARCHITECTURES) if a not in but
    )


def test_reads_registers_spills_and_shared_memory(script):
    found = script.resources(report(script))
    assert found == {a: (20 + i, 0, 64) for i, a in enumerate(script.ARCHITECTURES)}
    assert all(spilled == 24 for _, spilled, _ in script.resources(report(script, spill=12)).values())


def test_an_architecture_that_is_missing_is_an_error(script):
    with pytest.raises(script.CompileError, match="ptxas reports on"):
        script.resources(report(script, but=("sm_90",)))


def test_variants_are_all_different(script):
    jobs = list(script.variants())
    assert len(jobs) > 30
    assert len({(label, kernel) for label, kernel, _ in jobs}) == len(jobs)


def one_kernel(script, monkeypatch, text, found):
    monkeypatch.setattr(script, "variants", lambda: iter([("float32", "k", text)]))
    monkeypatch.setattr(script, "choose_compiler", lambda arguments: ("ptxas", found))
    script.main([])


def test_a_spill_fails_and_names_the_kernel(script, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"spilled to memory by k \(float32\)"):
        one_kernel(script, monkeypatch, "", lambda text: report(script, spill=8))
    assert "k               float32" in capsys.readouterr().out
    one_kernel(script, monkeypatch, "", lambda text: report(script))


def test_an_error_fails_and_names_the_kernel(script, monkeypatch):
    def broken(text):
        raise script.CompileError("line 1: no such thing")

    with pytest.raises(SystemExit, match=r"(?s)k \(float32\) does not compile.*no such thing"):
        one_kernel(script, monkeypatch, "", broken)


def test_a_real_kernel_compiles(script, compile_kernel):
    found = script.resources(compile_kernel(next(script.variants())[2]))
    assert all(registers > 0 and spilled == 0 for registers, spilled, _ in found.values())


def test_a_real_spill_is_seen(script, compile_kernel):
    assert all(spilled > 0 for _, spilled, _ in script.resources(compile_kernel(SPILLS)).values())


@pytest.mark.parametrize("body", ["x[0] = ;", "int unused; x[0] = 1;"], ids=["error", "warning"])
def test_a_real_error_and_a_warning_are_errors(script, compile_kernel, body):
    with pytest.raises(script.CompileError):
        compile_kernel(f'extern "C" __global__ void k(float *x) {{ {body} }}')
