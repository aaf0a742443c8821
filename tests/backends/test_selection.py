"""How a device is chosen, and every way in which a GPU can be missing or broken."""

import importlib
import logging
import re
import sys
import types

import numpy as np
import pytest
from backends import fake_cupy

import gpunet
from gpunet.backends import ArrayAPIBackend, select, why_not_cuda
from gpunet.backends.cupy import CuPyBackend
from gpunet.backends.numpy import NumPyBackend


def chain(error):
    """An error and everything that it says was its cause."""
    while error is not None:
        yield error
        error = error.__cause__


NO_DRIVER = fake_cupy.CUDARuntimeError("cudaErrorInsufficientDriver: the driver is insufficient")


def missing(monkeypatch):
    fake_cupy.forget_cupy(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", None)
    return ModuleNotFoundError


def broken(error):
    def arrange(monkeypatch):
        fake_cupy.install_broken(monkeypatch, error)
        return error

    return arrange


def knob(**settings):
    def arrange(monkeypatch):
        state = fake_cupy.install(monkeypatch)
        for name, value in settings.items():
            assert hasattr(state, name)
            setattr(state, name, value)
        return next((v for v in settings.values() if isinstance(v, Exception)), None)

    return arrange


def little_memory(monkeypatch):
    fake_cupy.install(monkeypatch).memory = 100
    return fake_cupy.OutOfMemoryError


def leftover(monkeypatch):
    """What pip leaves behind where files were added to an uninstalled CuPy: a package with nothing in it."""
    fake_cupy.forget_cupy(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))


def no_cublas(monkeypatch):
    """CuPy finds the CUDA libraries one by one, when they are first used: cuBLAS can be missing alone."""
    fake_cupy.install(monkeypatch)
    monkeypatch.delitem(sys.modules, "cupy.cublas")
    monkeypatch.delattr(sys.modules["cupy"], "cublas")
    return ImportError


def no_properties(monkeypatch):
    fake_cupy.install(monkeypatch)
    error = fake_cupy.CUDARuntimeError("cudaErrorUnknown: properties")

    def fail(device):
        raise error

    monkeypatch.setattr(sys.modules["cupy.cuda.runtime"], "getDeviceProperties", fail)
    return error


#: name -> (how to bring it about, which returns the original error or its type; what the reason says)
FAILURES = {
    "no CuPy": (missing, "CuPy is not installed: pip install"),
    "ImportError": (broken(ImportError("libcudart.so.13: cannot open")), "can not be imported.*libcudart"),
    "OSError": (broken(OSError("libcuda.so.1: invalid ELF header")), "can not be imported.*ELF"),
    "RuntimeError": (broken(RuntimeError("CuPy is not correctly installed")), "can not be imported.*correctly"),
    "dependency": (
        broken(ModuleNotFoundError("No module named 'fastrlock'", name="fastrlock")),
        "can not be imported.*fastrlock",
    ),
    "leftover": (leftover, "CuPy"),
    "no driver": (knob(driver_error=NO_DRIVER), "driver.*insufficient"),
    "no device": (knob(devices=0), "sees no CUDA device"),
    "compile": (
        knob(compile_error=fake_cupy.CompileException("nvrtc: error: invalid value for --gpu-architecture")),
        "cuda:0 is there, but a kernel does not compile.*gpu-architecture",
    ),
    "NVRTC missing": (knob(compile_error=ImportError("libnvrtc.so.13")), "cuda:0 is there.*libnvrtc"),
    "launch": (
        knob(launch_error=fake_cupy.CUDARuntimeError("cudaErrorNoKernelImageForDevice")),
        "cuda:0 is there, but a kernel does not run.*NoKernelImage",
    ),
    "wrong kernel": (knob(wrong_kernel=True), "cuda:0 is there.*wrong result"),
    "no memory": (little_memory, "cuda:0 is there, but has no free memory"),
    "no cuBLAS": (no_cublas, "cublas"),
    "cuBLAS fails": (
        knob(cublas_error=fake_cupy.CUDARuntimeError("CUBLAS_STATUS_NOT_INITIALIZED")),
        "cuda:0 is there.*CUBLAS_STATUS_NOT_INITIALIZED",
    ),
    "properties": (no_properties, "properties"),
}
each_failure = pytest.mark.parametrize(("arrange", "says"), FAILURES.values(), ids=FAILURES)


@each_failure
def test_auto_takes_the_cpu_and_says_why_once(arrange, says, monkeypatch, caplog):
    arrange(monkeypatch)
    with caplog.at_level(logging.DEBUG, logger="gpunet"):
        nets = [gpunet.Network([2, 3, 1], seed=0) for _ in range(3)]
    assert all(isinstance(net._model.ops, NumPyBackend) for net in nets)
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("gpunet")]
    assert len(messages) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert messages[0].startswith("gpunet: ")
    assert "on the CPU, because " in messages[0]
    assert why_not_cuda() in messages[0]
    assert_matches(says, messages[0])
    nets[0].fit(np.eye(2), [0.0, 1.0], epochs=1, batch_size=2)  # and it is a CPU that works


@each_failure
def test_cuda_by_name_raises_the_reason(arrange, says, monkeypatch, caplog):
    original = arrange(monkeypatch)
    with caplog.at_level(logging.DEBUG, logger="gpunet"), pytest.raises(gpunet.DeviceError) as caught:
        gpunet.Network([2, 3, 1], device="cuda")
    assert_matches(says, str(caught.value))
    assert "device='cuda' can not be used" in str(caught.value)
    assert "device='cpu'" in str(caught.value)
    errors = list(chain(caught.value))
    if isinstance(original, type):
        assert isinstance(errors[-1], original)
    elif original is not None:
        assert errors[-1] is original
    assert not caplog.records  # an error is raised, not logged as well


def assert_matches(pattern, text):
    assert re.search(pattern, text, re.IGNORECASE | re.DOTALL), text


def test_auto_takes_a_gpu_that_works(fake, caplog):
    with caplog.at_level(logging.DEBUG, logger="gpunet"):
        net = gpunet.Network([2, 3, 1], seed=0)
    assert isinstance(net._model.ops, CuPyBackend)
    assert (net.device, net.backend) == ("cuda:0", "cupy on cuda:0 (Stand-in)")
    assert why_not_cuda() is None
    assert not caplog.records


@pytest.mark.parametrize(("device", "ordinal"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_cuda_by_number(fake, device, ordinal):
    net = gpunet.Network([2, 3, 1], device=device, seed=0)
    assert net.device == f"cuda:{ordinal}"
    assert net._model.parameters.flat.device.id == ordinal
    assert fake.current == 0  # a network leaves the current device as it was
    X, y = np.random.default_rng(0).random((20, 2)), np.arange(20) % 2
    net.fit(X, y.astype(float), epochs=2, batch_size=3, eta=0.1, validation_data=(X, y))
    assert fake.current == 0


def test_ordinal_too_large(fake):
    with pytest.raises(gpunet.DeviceError, match="no device cuda:2: CuPy sees 2, the last is cuda:1"):
        select("cuda:2")
    with pytest.raises(gpunet.DeviceError, match="cuda:99999999999999999999"):
        select("cuda:99999999999999999999")


def test_data_on_another_gpu(fake):
    import cupy

    with cupy.cuda.Device(1):
        data = [cupy.asarray(np.eye(2)), cupy.asarray(np.eye(2, dtype=np.uint8))]
    net = gpunet.Network([2, 3, 1], device="cuda:0", seed=0)
    for X in data:
        with pytest.raises(gpunet.InputError, match=r"cuda:1.*cuda:0"):
            net.predict(X)


def test_data_on_a_gpu_for_a_network_on_the_cpu(fake):
    import cupy

    net = gpunet.Network([2, 3, 1], device="cpu", seed=0)
    with pytest.raises(gpunet.InputError, match="array"):
        net.predict(cupy.asarray(np.eye(2)))


UNKNOWN = ["gpu", "", "CUDA", "cuda:", "cuda:-1", "cuda:x", "cuda: 1", "cpu:0", "cuda:1 ", "cuda\n", None, 0, b"cpu",
           ["cuda"], np.zeros(2), object()]  # fmt: skip


@pytest.mark.parametrize("device", UNKNOWN, ids=range(len(UNKNOWN)))
def test_unknown_devices(fake, device):
    with pytest.raises(gpunet.InputError, match="unknown device"):
        select(device)


@pytest.mark.parametrize("device", ["gpu", "cuda:", None, 0])
def test_a_network_refuses_them_too(device):
    with pytest.raises(gpunet.InputError, match="Known: 'auto', 'cpu', 'cuda'"):
        gpunet.Network([2, 1], device=device)


def test_a_backend_is_taken_as_it_is(backend):
    assert select(backend) is backend


# -- Memory that runs out during a training -----------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 400, 3000, 10_000, 20_000])
def test_out_of_memory_in_the_middle_of_fit(fake, after):
    """An error that names what to lower; the parameters unharmed; never a switch to the CPU."""
    net = gpunet.Network([8, 6, 3], cost="log-likelihood", device="cuda", seed=0)
    X, y = np.random.default_rng(0).random((50, 8)), np.arange(50) % 3
    before = [w.copy() for w in (*net.weights, *net.biases)]
    fake.memory = after
    with pytest.raises(gpunet.DeviceError, match="batch size") as caught:
        net.fit(X, y, epochs=100, batch_size=10, eta=0.1)
    fake.memory = None
    assert isinstance(caught.value.__cause__, fake_cupy.OutOfMemoryError)
    assert isinstance(net._model.ops, CuPyBackend)
    values = [*net.weights, *net.biases]
    assert all(np.isfinite(v).all() for v in values)
    if after <= 3000:  # within the first epoch
        for old, new in zip(before, values, strict=True):
            np.testing.assert_array_equal(new, old)
    net.fit(X, y, epochs=1, batch_size=10, eta=0.1)  # it goes on where there is memory again


def test_out_of_memory_keeps_the_last_whole_epoch(fake):
    net = gpunet.Network([8, 6, 3], cost="log-likelihood", device="cuda", seed=0)
    X, y = np.random.default_rng(0).random((50, 8)), np.arange(50) % 3
    kept = []

    def after_epoch(epoch):
        kept.append([w.copy() for w in net.weights])
        if epoch.epoch == 2:
            fake.memory = 300  # a step allocates nothing; an epoch's order is 400 bytes

    with pytest.raises(gpunet.DeviceError, match="not enough memory"):
        net.fit(X, y, epochs=100, batch_size=10, eta=0.5, on_epoch=after_epoch)
    assert len(kept) == 3
    for old, new in zip(kept[-1], net.weights, strict=True):
        np.testing.assert_array_equal(new, old)


CALLS = ("construct", "SGD", "predict", "backprop", "per_example_gradients", "trace", "score", "feedforward",
         "update_mini_batch")  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_out_of_memory_elsewhere(fake, call):
    net = gpunet.Network([8, 6, 3], device="cuda", seed=0)
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 50)), rng.random((3, 50))
    data = [(x[:, [i]], y[:, [i]]) for i in range(50)]
    before = [w.copy() for w in net.weights]
    fake.memory = 150
    with pytest.raises(gpunet.DeviceError, match="not enough memory"):
        {
            "construct": lambda: gpunet.Network([800, 600, 3], device=net._model.ops),
            "SGD": lambda: net.SGD(data, 1, 10, 0.1),
            "predict": lambda: net.predict(x.T),
            "backprop": lambda: net.backprop(x, y),
            "per_example_gradients": lambda: net.per_example_gradients(x, y),
            "trace": lambda: net.trace(x, y),
            "score": lambda: net.score(x.T, y.T),
            "feedforward": lambda: net.feedforward(x),
            "update_mini_batch": lambda: net.update_mini_batch(data, 0.1),
        }[call]()
    fake.memory = None
    for old, new in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(new, old)


# -- Array API namespaces -----------------------------------------------------------------------------------------


def test_a_namespace_gives_the_generic_backend():
    strict = pytest.importorskip("array_api_strict")
    ops = select(strict)
    assert type(ops) is ArrayAPIBackend
    assert "array_api_strict" in ops.name


def test_torch_needs_no_name_of_a_device():
    torch = pytest.importorskip("torch")
    net = gpunet.Network([2, 3, 1], device=torch, seed=0)
    assert (net.device, net.backend) == ("cpu", "torch on cpu")


def test_another_device_of_a_library():
    strict = pytest.importorskip("array_api_strict")
    ops = ArrayAPIBackend(strict, device=strict.Device("device1"))
    assert "device1" in ops.name
    assert ops.empty((2,), "float32").device == strict.Device("device1")
    assert ops.asarray(np.zeros(2)).device == strict.Device("device1")


def test_data_on_another_device_of_a_library():
    """As between two GPUs: data are never moved in silence."""
    strict = pytest.importorskip("array_api_strict")
    net = gpunet.Network([2, 3, 1], device=ArrayAPIBackend(strict, device=strict.Device("device1")), seed=0)
    for X in (np.eye(2), np.eye(2, dtype=np.uint8)):
        with pytest.raises(gpunet.InputError, match=r"device2.*device1"):
            net.predict(strict.asarray(X, device=strict.Device("device2")))


@pytest.mark.parametrize("device", ["device1", "nonsense", 7], ids=repr)
def test_a_device_that_the_library_does_not_have(device):
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(gpunet.DeviceError, match=r"array_api_strict can not use device") as caught:
        ArrayAPIBackend(strict, device=device)
    assert caught.value.__cause__ is not None


def immutable_namespace():
    """A namespace whose arrays refuse assignment, as those of jax.numpy do."""

    class Array:
        shape, dtype, device = (2,), "float32", "cpu"

        def __setitem__(self, key, value):
            raise TypeError("JAX arrays are immutable and do not support in-place item assignment.")

    module = types.ModuleType("frozen.numpy")
    module.__array_namespace_info__ = lambda: None
    module.float32 = "float32"
    module.zeros = lambda shape, dtype=None, device=None: Array()
    return module


def test_immutable_arrays_are_refused():
    with pytest.raises(gpunet.InputError, match=r"frozen\.numpy can not be written to.*in place"):
        gpunet.Network([2, 1], device=immutable_namespace())


def test_jax_is_refused():
    jax_numpy = pytest.importorskip("jax.numpy")
    with pytest.raises(gpunet.InputError, match="can not be written to"):
        gpunet.Network([2, 1], device=jax_numpy)


@pytest.mark.parametrize("name", ["math", "json", "random"])
def test_a_module_that_is_no_array_library(name):
    with pytest.raises(gpunet.InputError, match="not an array library"):
        gpunet.Network([2, 1], device=importlib.import_module(name))


def test_without_array_api_compat(monkeypatch):
    monkeypatch.setitem(sys.modules, "array_api_compat", None)
    library = types.ModuleType("tensors")
    with pytest.raises(gpunet.InputError, match=r"tensors .*pip install 'gpunet\[array-api\]'"):
        select(library)


# -- show_config --------------------------------------------------------------------------------------------------


def test_show_config_gives_the_reason(monkeypatch, capsys):
    fake_cupy.install(monkeypatch).devices = 0
    gpunet.show_config()
    out = capsys.readouterr().out
    assert 'device="auto" uses: numpy on cpu' in out
    assert "not a GPU, because CuPy sees no CUDA device" in out


def test_show_config_with_a_gpu(fake, capsys):
    gpunet.show_config()
    out = capsys.readouterr().out
    assert 'device="auto" uses: cupy on cuda:0 (Stand-in)' in out
    assert "not a GPU" not in out
