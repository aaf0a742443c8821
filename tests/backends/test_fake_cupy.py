"""The stand-in is strict, and its signatures are CuPy's."""

import ast
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from backends import fake_cupy


@pytest.fixture
def cupy(fake):
    import cupy

    return cupy


def test_refuses_what_cupy_refuses(cupy):
    x = cupy.asarray(np.arange(3.0))
    host = np.arange(3.0)
    for mix in (
        lambda: np.asarray(x),
        lambda: np.exp(x),
        lambda: x + host,
        lambda: host + x,
        lambda: cupy.add(x, host),
        lambda: cupy.add(host, host),
        lambda: cupy.add(x, x, out=host),
        lambda: cupy.take(x, np.array([0])),
        lambda: x.__setitem__(..., host),
    ):
        with pytest.raises(TypeError):
            mix()
    with pytest.raises(TypeError, match="mode"):
        cupy.take(x, cupy.asarray([0]), mode="clip")
    with pytest.raises(ValueError, match="shape"):
        cupy.add(x, x, out=cupy.empty((2, 3)))
    for unknown in (lambda: cupy.einsum, lambda: x.tolist, lambda: cupy.cuda.profiler):
        with pytest.raises(AttributeError):
            unknown()


def test_guards_the_crossings(cupy):
    x = cupy.asarray(np.arange(1.0))
    for read in (float, int, bool, cupy.asnumpy, lambda x: x.item(), lambda x: cupy.asarray([1.0])):
        read(x)
        with fake_cupy.no_host_sync(), pytest.raises(AssertionError, match="crosses"):
            read(x)
    with fake_cupy.no_host_sync():
        cupy.add(x, 1.0, out=x)
    assert float(x) == 1.0


def test_arrays_stay_on_their_device(cupy):
    with cupy.cuda.Device(1):
        x = cupy.asarray([1.0])
    assert x.device.id == 1
    with pytest.raises(ValueError, match="device"):
        x + 1
    with cupy.cuda.Device(1):
        assert float(x + 1) == 2


@pytest.mark.parametrize("function", fake_cupy.FUNCTIONS, ids=lambda f: f.__name__)
def test_signatures_are_cupys(function):
    real = pytest.importorskip("cupy")
    ours = inspect.signature(function).parameters.values()
    theirs = inspect.signature(getattr(real, function.__name__)).parameters.values()
    assert [(p.name, p.kind) for p in ours] == [(p.name, p.kind) for p in theirs]
    for p, q in zip(ours, theirs, strict=True):
        assert p.default == q.default, p.name


def test_gemm_and_methods_are_cupys():
    real = pytest.importorskip("cupy")
    # Read, not imported: without cuBLAS itself the module can not be imported.
    source = (Path(real.__file__).parent / "cublas.py").read_text(encoding="utf-8")
    gemm = next(f for f in ast.parse(source).body if isinstance(f, ast.FunctionDef) and f.name == "gemm")
    ours = ast.parse(f"def gemm{inspect.signature(fake_cupy.gemm)}: pass").body[0]
    assert ast.unparse(gemm.args) == ast.unparse(ours.args)
    public = {name for name in dir(fake_cupy.ndarray) if not name.startswith("_")}
    assert public <= set(dir(real.ndarray))
    assert {"id", "__enter__", "__exit__"} <= set(dir(real.cuda.Device))
    assert issubclass(real.cuda.memory.OutOfMemoryError, MemoryError)
    assert issubclass(real.cuda.runtime.CUDARuntimeError, RuntimeError)
    assert issubclass(real.cuda.compiler.CompileException, Exception)
    assert {"getDeviceCount", "getDeviceProperties", "memGetInfo"} <= set(dir(real.cuda.runtime))
    assert {"begin_capture", "end_capture", "wait_event", "__enter__"} <= set(dir(real.cuda.Stream))
    assert {"record", "synchronize"} <= set(dir(real.cuda.Event))
    assert "launch" in dir(real.cuda.Graph)
    assert "Stream.__init__(self, null=False, non_blocking=False, ptds=False, priority=None)" in (
        real.cuda.Stream.__init__.__doc__
    )
    assert "copy_from_host_async(self, mem, size_t size, stream=None)" in (
        real.cuda.MemoryPointer.copy_from_host_async.__doc__
    )
    assert "alloc_pinned_memory(size_t size)" in real.cuda.alloc_pinned_memory.__doc__
    assert "free_bytes" in dir(real.cuda.MemoryPool)
    assert "RawKernel(str code, str name, tuple options=(), str backend='nvrtc'" in real.RawKernel.__doc__
    assert r"__call__(self, grid, block, args, \*, shared_mem=0)" in real.RawKernel.__call__.__doc__
    assert "from_dlpack(array, *, device=None, copy=None)" in real.from_dlpack.__doc__
    taken = "*, stream=None, tuple max_version=None, dl_device=None, copy=None"
    assert f"__dlpack__(self, {taken})" in real.ndarray.__dlpack__.__doc__
    assert "sum(self, axis=None, dtype=None, out=None, keepdims=False)" in real.ndarray.sum.__doc__


@pytest.mark.parametrize("name", fake_cupy.UFUNCS)
def test_ufuncs_are_cupys(name):
    real = getattr(pytest.importorskip("cupy"), name)
    arguments = re.search(r"\((.*)\)", real.__doc__)[1]
    inputs, _, others = arguments.partition(", /, ")
    assert len(inputs.split(",")) == fake_cupy.ufunc(name).nin
    assert others == r"out=None, \*, casting='same_kind', dtype=None"
