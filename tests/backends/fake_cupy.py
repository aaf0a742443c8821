"""A strict stand-in for the part of CuPy that gpunet uses, computed by NumPy, for machines without a GPU.

Stricter than CuPy where that finds mistakes: a name that is not here raises AttributeError; an array refuses to
become a NumPy array or to meet one; whatever runs on the device must run while the array's device is the current
one; and inside `no_host_sync()` nothing may cross between host and device.

What it can not show: that cuBLAS, CUDA and the real CuPy do what is imitated here. tests/gpu does, on a card.
"""

import ctypes
import importlib.abc
import sys
import threading
import types
from contextlib import contextmanager

import numpy as np
import simulator

#: What a test sets to make the machine fail; `install` gives every test a fresh one.
STATE = None


class State:
    def __init__(self, devices=2):
        self.devices = devices  # what getDeviceCount returns
        self.driver_error = None  # raised by every call of the runtime
        self.compile_error = None  # raised when a RawKernel is compiled
        self.launch_error = None  # raised when a kernel is launched
        self.wrong_kernel = False  # the probe computes something else
        self.cublas_error = None  # raised by gemm
        self.memory = None  # how many more bytes can be allocated; None: any number
        self.current = 0
        self.streams = threading.local()  # of each thread, the stream that is current
        self.capture_error = None  # raised when a capture ends
        self.guarded = False
        self.allocations = 0
        self.graph_launches = 0
        self.copied_bytes = 0
        self.crossings = 0

    @property
    def stream(self):
        return getattr(self.streams, "current", Stream.null)

    def cross(self, what):
        self.crossings += 1
        self.not_captured(what)
        if self.guarded:
            raise AssertionError(f"{what} crosses between host and device inside a training step")

    def not_captured(self, what):
        """Nothing but kernels and copies of RawKernel's kind may be recorded."""
        if self.stream.recorded is not None:
            raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while a stream is capturing")


@contextmanager
def no_host_sync():
    """Within it, whatever reads from the device or copies to it is an error."""
    STATE.guarded = True
    try:
        yield
    finally:
        STATE.guarded = False


class CUDARuntimeError(RuntimeError):
    pass


class CompileException(Exception):  # noqa: N818 - CuPy's name
    pass


class OutOfMemoryError(MemoryError):
    pass


class Device:
    def __init__(self, device=None):
        self.id = STATE.current if device is None else int(device)
        self._before = []

    def __enter__(self):
        self._before.append(STATE.current)
        STATE.current = self.id
        return self

    def __exit__(self, *exception):
        STATE.current = self._before.pop()

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class Stream:
    """A stream runs at once what it is given, unless it is capturing; events are checked for being in order."""

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.non_blocking = non_blocking
        self.recorded = None
        self._before = []

    def __enter__(self):
        self._before.append(STATE.stream)
        STATE.streams.current = self
        return self

    def __exit__(self, *exception):
        STATE.streams.current = self._before.pop()

    def begin_capture(self, mode=None):
        if self is Stream.null:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        assert self.recorded is None
        self.recorded = []

    def end_capture(self):
        recorded, self.recorded = self.recorded, None
        if STATE.capture_error is not None:
            raise STATE.capture_error
        return Graph(recorded)

    def synchronize(self):
        STATE.not_captured("synchronize()")

    def wait_event(self, event):
        event.waited_for_by.append(self)


Stream.null = Stream(null=True)


class Graph:
    def __init__(self, launches):
        self._launches = launches
        self.launched = 0

    def launch(self, stream=None):
        STATE.not_captured("a graph's launch")
        self.launched += 1
        STATE.graph_launches += 1
        for launch in self._launches:
            launch()


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.recorded_on = None
        self.waited_for_by = []

    def record(self, stream=None):
        self.recorded_on = stream or STATE.stream
        self.waited_for_by = []

    def synchronize(self):
        STATE.not_captured("synchronize()")


def get_current_stream(device_id=-1):
    return STATE.stream


def alloc_pinned_memory(size):
    STATE.not_captured("alloc_pinned_memory()")
    return bytearray(size)


class Capsule:
    """An array's memory on its way to another library."""

    def __init__(self, values, device_id):
        self.values, self.device_id = values, device_id


class _Data:
    """An array's memory: where a copy from pinned memory goes."""

    def __init__(self, array):
        self._array = array

    def copy_from_host_async(self, mem, size, stream=None):
        STATE.not_captured("copy_from_host_async()")
        assert stream is not STATE.stream, "a copy that is to overlap needs a stream of its own"
        assert self._array._values.flags.c_contiguous
        assert size <= self._array.nbytes
        STATE.copied_bytes += size
        ctypes.memmove(self._array._values.ctypes.data, mem, size)


def memGetInfo():
    free = 2**62 if STATE.memory is None else STATE.memory
    return free, 2**62


class _Pool:
    def free_bytes(self):
        return 0


def get_default_memory_pool():
    return _Pool()


def _host(value):
    """The NumPy array inside, for computing; scalars as they are; anything else is refused."""
    if isinstance(value, ndarray):
        if value.device.id != STATE.current:
            raise ValueError(f"array on device {value.device.id} is used while device {STATE.current} is current")
        return value._values
    if isinstance(value, (bool, int, float, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}")  # as CuPy says of a NumPy array


def _new(values):
    """Fresh device memory with these values."""
    STATE.not_captured("an allocation")
    STATE.allocations += 1
    if STATE.memory is not None:
        STATE.memory -= values.nbytes
        if STATE.memory < 0:
            raise OutOfMemoryError(f"Out of memory allocating {values.nbytes:,} bytes")
    return ndarray(np.asarray(values), STATE.current)


def _compute(function, *args, **kwargs):
    with np.errstate(all="ignore"):  # a GPU gives no warnings
        return function(*args, **kwargs)


class _Flags:
    def __init__(self, values):
        self.c_contiguous = values.flags.c_contiguous
        self.f_contiguous = values.flags.f_contiguous


class ndarray:  # noqa: N801
    """A wrapped NumPy array; views share its memory."""

    __module__ = "cupy"

    __slots__ = ("_device_id", "_values")
    __array_ufunc__ = None  # NumPy's operators leave the matter to the ones here
    __hash__ = None

    def __init__(self, values, device_id):
        self._values = values
        self._device_id = device_id

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    dtype = property(lambda self: self._values.dtype)
    nbytes = property(lambda self: self._values.nbytes)
    flags = property(lambda self: _Flags(self._values))
    T = property(lambda self: ndarray(self._values.T, self._device_id))
    device = property(lambda self: Device(self._device_id))
    data = property(lambda self: _Data(self))

    def __repr__(self):
        return f"fake_cupy.ndarray({self.shape}, {self.dtype})"

    def __len__(self):
        return len(self._values)

    def __dlpack_device__(self):
        return 2, self._device_id  # kDLCUDA

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        assert stream is not None, "who takes it must say on which stream"
        return Capsule(self._values, self._device_id)

    def __getitem__(self, key):
        return ndarray(self._values[_plain(key)].view(), self._device_id)

    def __setitem__(self, key, value):
        STATE.not_captured("an assignment")
        source = _host(value)
        _host(self)
        target = self._values[_plain(key)]
        if isinstance(source, np.ndarray) and source.ndim > target.ndim:
            raise ValueError(f"could not broadcast input array from shape {source.shape} into {target.shape}")
        _compute(self._values.__setitem__, _plain(key), source)

    # -- Where the host reads: an error inside a step ---------------------------------------------------------

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def get(self):
        STATE.cross("get()")
        return self._values.copy()

    def item(self):
        STATE.cross("item()")
        return self._values.item()

    def __float__(self):
        STATE.cross("float()")
        return float(self._values.item())

    def __int__(self):
        STATE.cross("int()")
        return int(self._values.item())

    def __bool__(self):
        STATE.cross("bool()")
        return bool(self._values)

    def __index__(self):
        STATE.cross("index()")
        return self._values.__index__()

    # -- What runs on the device ------------------------------------------------------------------------------

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return sum(self, axis, dtype, out, keepdims)


def _plain(key):
    """A key of integers, slices, None and Ellipsis; indexing by arrays is `take`."""
    for part in key if isinstance(key, tuple) else (key,):
        if not (part is None or part is Ellipsis or isinstance(part, (int, slice, np.integer))):
            raise TypeError(f"the stand-in does not index by {type(part).__name__}")
    return key


class ufunc:  # noqa: N801
    def __init__(self, name):
        self._of = getattr(np, name)
        self.__name__ = name
        self.nin = self._of.nin

    def __call__(self, *args, out=None, casting="same_kind", dtype=None):
        if len(args) == self.nin + 1:
            *args, out = args
        if len(args) != self.nin:
            raise TypeError(f"{self.__name__} takes {self.nin} arguments, got {len(args)}")
        if not any(isinstance(arg, ndarray) for arg in args):
            raise TypeError(f"{self.__name__} needs an array of the device, got {args!r:.60}")
        values = [_host(arg) for arg in args]
        if out is None:
            return _new(_compute(self._of, *values, casting=casting, dtype=dtype))
        STATE.not_captured(self.__name__)
        if not isinstance(out, ndarray):
            raise TypeError(f"out must be an array of the device, got {type(out)}")
        shape = np.broadcast_shapes(*(np.shape(v) for v in values))
        if out.shape != shape:
            raise ValueError(f"Out shape is mismatched: {out.shape}, {shape}")
        _compute(self._of, *values, out=_host(out), casting=casting, dtype=dtype)
        return out


UFUNCS = (
    "abs", "add", "divide", "equal", "exp", "expm1", "greater", "greater_equal", "isfinite", "less", "less_equal",
    "log", "log1p", "bitwise_and", "bitwise_or", "maximum", "minimum", "multiply", "negative", "power", "sign",
    "sqrt", "subtract", "tanh",
)  # fmt: skip
_UFUNC = {name: ufunc(name) for name in UFUNCS}


def _operator(name, swapped=False, in_place=False):
    function = _UFUNC[name]

    def method(self, other):
        if in_place:
            return function(self, other, out=self)
        return function(other, self) if swapped else function(self, other)

    return method


for _name, _of in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide"),
                   ("pow", "power")):  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_of))
    setattr(ndarray, f"__r{_name}__", _operator(_of, swapped=True))
    setattr(ndarray, f"__i{_name}__", _operator(_of, in_place=True))
for _name, _of in (("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"),
                   ("eq", "equal"), ("and", "bitwise_and"), ("or", "bitwise_or")):  # fmt: skip
    setattr(ndarray, f"__{_name}__", _operator(_of))
ndarray.__neg__ = lambda self: _UFUNC["negative"](self)
ndarray.__abs__ = lambda self: _UFUNC["abs"](self)


# -- Functions, with CuPy's signatures: test_fake_cupy.py compares them with the real ones ----------------------


def empty(shape, dtype=float, order="C"):
    values = np.empty(shape, dtype=dtype, order=order)
    values.fill(np.nan if values.dtype.kind == "f" else 113)  # fresh memory holds anything
    return _new(values)


def zeros(shape, dtype=float, order="C"):
    return _new(np.zeros(shape, dtype=dtype, order=order))


def ones(shape, dtype=float, order="C"):
    return _new(np.ones(shape, dtype=dtype, order=order))


def zeros_like(a, dtype=None, order="K", subok=None, shape=None):
    return _new(np.zeros_like(_host(a), dtype=dtype, order=order, shape=shape))


def ones_like(a, dtype=None, order="K", subok=None, shape=None):
    return _new(np.ones_like(_host(a), dtype=dtype, order=order, shape=shape))


def full_like(a, fill_value, dtype=None, order="K", subok=None, shape=None):
    return _new(np.full_like(_host(a), _host(fill_value), dtype=dtype, order=order, shape=shape))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    if isinstance(a, ndarray):
        if dtype is None or np.dtype(dtype) == a.dtype:
            return a
        return _new(_compute(_host(a).astype, dtype))
    STATE.cross("asarray()")
    values = np.array(a, dtype=dtype, order=order or "C")
    if values.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {values.dtype}")
    return _new(values)


def ascontiguousarray(a, dtype=None):
    a = asarray(a, dtype)
    return a if a.flags.c_contiguous else _new(np.ascontiguousarray(_host(a)))


def from_dlpack(array, *, device=None, copy=None):
    kind, number = array.__dlpack_device__()
    assert kind == 2, "not on a GPU"
    return ndarray(array.__dlpack__(stream=1).values, number)


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    if not isinstance(a, ndarray):
        return np.asarray(a)
    return a.get()


def reshape(a, newshape, order="C", *, copy=None):
    # A view or an error: gpunet must never write into a silent copy.
    return ndarray(np.reshape(a._values, newshape, order=order, copy=False), a.device.id)


def take(a, indices, axis=None, out=None):
    index = _host(indices)
    if index.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got {index.dtype}")
    if out is None:
        return _new(np.take(_host(a), index, axis=axis))
    if out.dtype != a.dtype:
        raise TypeError("Output dtype mismatch")
    # CuPy wraps an index that is out of range; nothing in gpunet may rely on it, so here it raises.
    values = np.take(_host(a), index, axis=axis)
    if out.shape != values.shape:
        raise ValueError(f"Output shape mismatch: {out.shape}, {values.shape}")
    _host(out)[...] = values
    return out


def astype(x, dtype, /, *, copy=True):
    return _new(_compute(_host(x).astype, dtype, copy=copy))


def vdot(a, b):
    if a.size != b.size:
        raise ValueError("Axis dimension mismatch")
    return _new(np.asarray(_compute(np.vdot, _host(a), _host(b))))


def where(condition, x=None, y=None):
    if condition.dtype != bool:
        raise TypeError(f"the condition must be boolean, got {condition.dtype}")
    return _new(np.where(_host(condition), _host(x), _host(y)))


def _reduction(name):
    def reduce(a, axis=None, out=None, keepdims=False):
        assert out is None, "not imitated"
        return _new(np.asarray(_compute(getattr(np, name), _host(a), axis=axis, keepdims=keepdims)))

    reduce.__name__ = name
    return reduce


all = _reduction("all")
max = _reduction("max")
min = _reduction("min")


def argmax(a, axis=None, dtype=None, out=None, keepdims=False):
    assert out is None, "not imitated"
    return _new(np.asarray(np.argmax(_host(a), axis=axis, keepdims=keepdims)))


def sum(a, axis=None, dtype=None, out=None, keepdims=False):
    assert out is None, "not imitated"
    return _new(np.asarray(_compute(np.sum, _host(a), axis=axis, dtype=dtype, keepdims=keepdims)))


FUNCTIONS = (
    all, argmax, asarray, ascontiguousarray, asnumpy, astype, empty, full_like, max, min, ones, ones_like, reshape,
    sum, take, vdot, where, zeros, zeros_like,
)  # fmt: skip


# -- Kernels ----------------------------------------------------------------------------------------------------


class RawKernel:
    """Runs the kernel in the simulator: its text, and how it is launched, are checked as nothing else does it."""

    order = "ascending"  # of a block's threads, and of the blocks; a test sets the other one here
    sanitize = False  # run each launch twice, to find every read outside an array

    def __init__(self, code, name, options=(), backend="nvrtc", **others):
        assert isinstance(options, tuple), f"options is a tuple, got {type(options)}"
        self.code, self.name, self.options = code, name, options
        self._kernel = None

    def compile(self, log_stream=None):
        if STATE.compile_error is not None:
            raise STATE.compile_error
        try:
            self._kernel = simulator.compile(self.code, self.name, options=self.options)
        except simulator.CompileError as error:
            raise CompileException(str(error)) from error
        except simulator.NotFoundError as error:
            raise CUDARuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {self.name}") from error

    def __call__(self, grid, block, args, *, shared_mem=0):
        if self._kernel is None:
            self.compile()
        kernel = self._kernel
        kernel.sanitize = self.sanitize
        assert shared_mem == 0, "the simulator has shared memory of fixed size only"
        values = [_host(arg) for arg in args]
        kernel.check(grid, block, values)
        if STATE.launch_error is not None:
            raise STATE.launch_error
        if STATE.stream.recorded is not None:
            STATE.stream.recorded.append(lambda: kernel(grid, block, values, self.order))
            return
        kernel(grid, block, values, self.order)
        if STATE.wrong_kernel:
            for parameter, value in zip(kernel.parameters, values, strict=True):
                if parameter.pointer and not parameter.const:
                    value[...] += 1


def gemm(transa, transb, a, b, out=None, alpha=1.0, beta=0.0):
    """CuPy's cublas.gemm: the same asserts, and cuBLAS's rule that beta = 0 does not read `out`."""
    if STATE.cublas_error is not None:
        raise STATE.cublas_error
    if STATE.stream.recorded is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    assert a.ndim == b.ndim == 2
    assert a.dtype == b.dtype
    if a.dtype.char not in "fd":
        raise TypeError("invalid dtype")
    x, y = _host(a), _host(b)
    x = x.T if {"N": 0, "T": 1}[transa] else x
    y = y.T if {"N": 0, "T": 1}[transb] else y
    assert x.shape[1] == y.shape[0]
    # CuPy copies what BLAS can not take as it is; gpunet must never make it do so.
    for values in (a, b, *(() if out is None else (out,))):
        assert values.flags.c_contiguous or values.flags.f_contiguous, "a hidden copy"
    if out is None:
        return _new(np.asfortranarray(x @ y))
    assert out.ndim == 2
    assert out.shape == (x.shape[0], y.shape[1])
    assert out.dtype == a.dtype
    for scalar in (alpha, beta):
        assert isinstance(scalar, (float, int)), f"a scalar from the host is wanted, got {type(scalar)}"
    c = _host(out)
    assert not np.shares_memory(c, x), "cuBLAS's output may not overlap an operand"
    assert not np.shares_memory(c, y), "cuBLAS's output may not overlap an operand"
    product = _compute(np.matmul, x, y)
    c[...] = _compute(lambda: product * alpha if beta == 0 else product * alpha + c * beta)
    return out


# -- The runtime, and the module itself -------------------------------------------------------------------------


def getDeviceCount():
    if STATE.driver_error is not None:
        raise STATE.driver_error
    return STATE.devices


def getDeviceProperties(device):
    if STATE.driver_error is not None:
        raise STATE.driver_error
    if not 0 <= device < STATE.devices:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    return {"name": b"Stand-in"}


def _module(name, **contents):
    module = types.ModuleType(name)
    vars(module).update(contents)
    return module


def build():
    """Return the stand-in's modules by name, and its fresh state."""
    global STATE
    STATE = State()
    runtime = _module(
        "cupy.cuda.runtime",
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=getDeviceCount,
        getDeviceProperties=getDeviceProperties,
        memGetInfo=memGetInfo,
    )
    cuda = _module(
        "cupy.cuda",
        runtime=runtime,
        compiler=_module("cupy.cuda.compiler", CompileException=CompileException),
        memory=_module("cupy.cuda.memory", OutOfMemoryError=OutOfMemoryError),
        Device=Device,
        Event=Event,
        Stream=Stream,
        alloc_pinned_memory=alloc_pinned_memory,
        get_current_stream=get_current_stream,
    )
    cublas = _module("cupy.cublas", gemm=gemm)
    cupy = _module(
        "cupy",
        __path__=[],
        cuda=cuda,
        cublas=cublas,
        from_dlpack=from_dlpack,
        get_default_memory_pool=get_default_memory_pool,
        ndarray=ndarray,
        RawKernel=RawKernel,
        finfo=np.finfo,
        float32=np.float32,
        float64=np.float64,
        uint8=np.uint8,
        int64=np.int64,
        **_UFUNC,
        **{function.__name__: function for function in FUNCTIONS},
    )
    modules = (cupy, cuda, runtime, cuda.compiler, cuda.memory, cublas)
    return {module.__name__: module for module in modules}, STATE


def forget_cupy(monkeypatch):
    """Take every module of CuPy's out of sys.modules until the test is over.

    `cupyx` loads itself when somebody looks at it, as Hypothesis does at every module, and would find no real CuPy.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx", "cupy_backends")]:
        monkeypatch.delitem(sys.modules, name)


def install(monkeypatch):
    """Make `import cupy` give the stand-in until the test is over; return its state."""
    forget_cupy(monkeypatch)
    modules, state = build()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return state


class _Broken(importlib.abc.MetaPathFinder):
    def __init__(self, error):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        if name == "cupy":
            raise self.error
        return None


def install_broken(monkeypatch, error):
    """Make `import cupy` raise `error` until the test is over."""
    forget_cupy(monkeypatch)
    monkeypatch.setattr(sys, "meta_path", [_Broken(error), *sys.meta_path])
