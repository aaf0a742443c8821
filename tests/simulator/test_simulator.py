"""The simulator is right about right kernels, and finds what it is there to find in wrong ones."""

import re

import numpy as np
import pytest
from backends import fake_cupy

import simulator
from simulator import compiler

SIZES = (1, 31, 32, 33, 257, 1000)
ORDERS = ("ascending", "descending")

SAXPY = """
extern "C" __global__ void saxpy(const float a, const float* __restrict__ x, float* y, const int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        y[i] = a * x[i] + y[i];
    }
}
"""

# Each block's sum, twice over, so that the barrier before the second use of `part` counts too.
BLOCK_SUM = """
extern "C" __global__ void block_sum(const REAL* x, REAL* sums, REAL* squares, const int n) {
    __shared__ REAL part[32];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int power = 1; power <= 2; ++power) {
        REAL value = i < n ? (power == 1 ? x[i] : x[i] * x[i]) : REAL(0);
        for (int offset = 16; offset > 0; offset >>= 1) {
            value += __shfl_down_sync(0xffffffffu, value, offset);
        }
        if (threadIdx.x % 32 == 0) {
            part[threadIdx.x / 32] = value;
        }
        __syncthreads();
        if (threadIdx.x < 32) {
            value = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : REAL(0);
            for (int offset = 16; offset > 0; offset >>= 1) {
                value += __shfl_xor_sync(0xffffffffu, value, offset);
            }
            if (threadIdx.x == 0) {
                (power == 1 ? sums : squares)[blockIdx.x] = value;
            }
        }
        __syncthreads();
    }
}
"""

TRANSPOSE = """
#define TILE 16
extern "C" __global__ void transpose(const double* x, double* y, const int rows, const int columns) {
    __shared__ double tile[TILE][TILE + 1];
    for (int corner = blockIdx.y * TILE; corner < rows; corner += gridDim.y * TILE) {
        int row = corner + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
        if (row < rows && column < columns) {
            tile[threadIdx.y][threadIdx.x] = x[(long long)row * columns + column];
        }
        __syncthreads();
        row = corner + threadIdx.x;
        column = blockIdx.x * TILE + threadIdx.y;
        if (row < rows && column < columns) {
            y[(long long)column * rows + row] = tile[threadIdx.x][threadIdx.y];
        }
        __syncthreads();
    }
}
"""


def check_saxpy(source, n, order, sanitize=False):
    x, y = np.arange(n, dtype=np.float32), np.ones(n, dtype=np.float32)
    kernel = simulator.compile(source, "saxpy", sanitize=sanitize)
    kernel((2,), (64,), (np.float32(2), x, y, np.int32(n)), order)
    np.testing.assert_array_equal(y, 2 * x + 1)


def check_block_sum(source, n, order, dtype=np.float32):
    block = 96
    blocks = -(-n // block)
    x = np.arange(n, dtype=dtype) % 7 - 3
    sums, squares = np.full((2, blocks), np.nan, dtype=dtype)
    real = {np.float32: "float", np.float64: "double"}[dtype]
    kernel = simulator.compile(source.replace("REAL", real), "block_sum")
    kernel((blocks,), (block,), (x, sums, squares, np.int32(n)), order)
    padded = np.pad(x, (0, blocks * block - n)).reshape(blocks, block)
    np.testing.assert_array_equal(sums, padded.sum(axis=1))
    np.testing.assert_array_equal(squares, (padded**2).sum(axis=1))


def check_transpose(source, n, order):
    x = np.arange(n * 40.0).reshape(n, 40)
    y = np.full((40, n), np.nan)
    kernel = simulator.compile(source, "transpose")
    kernel((3, 2), (16, 16), (x, y, np.int32(n), np.int32(40)), order)
    np.testing.assert_array_equal(y, x.T)


def run(body, *args, parameters="float* x, const int n", grid=(1,), block=(64,), order="ascending", sanitize=False):
    """Launch a kernel that has only a body."""
    source = f'extern "C" __global__ void kernel({parameters}) {{\n{body}\n}}'
    simulator.compile(source, "kernel", sanitize=sanitize)(grid, block, args, order)


def noticed(check, source, n):
    """Whether at least one of the two orders shows that something is wrong."""
    for order in ORDERS:
        try:
            check(source, n, order)
        except (simulator.SimulatorError, AssertionError):
            return True
    return False


# -- Right kernels are right ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", SIZES)
def test_right_kernels_are_right(n, order):
    check_saxpy(SAXPY, n, order, sanitize=True)
    check_block_sum(BLOCK_SUM, n, order, np.float32)
    check_block_sum(BLOCK_SUM, n, order, np.float64)
    check_transpose(TRANSPOSE, n, order)


@pytest.mark.parametrize("order", ORDERS)
def test_every_thread_of_every_block_has_its_index(order):
    seen = np.zeros((2, 3, 4, 5, 6, 7), dtype=np.int32)
    run(
        """
        const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        x[block * (blockDim.x * blockDim.y * blockDim.z) + thread] += 1 + thread + 1000 * block;
        """,
        seen,
        parameters="int* x",
        grid=(4, 3, 2),
        block=(7, 6, 5),
        order=order,
    )
    block, thread = np.divmod(np.arange(seen.size), 7 * 6 * 5)
    np.testing.assert_array_equal(seen.ravel(), 1 + thread + 1000 * block)


def test_the_order_is_as_asked():
    for order, right in zip(ORDERS, (np.arange(96), np.arange(96)[::-1]), strict=True):
        at, x = np.zeros(1, dtype=np.int32), np.zeros(96, dtype=np.float32)
        body = "x[atomicAdd(at, 1)] = blockIdx.x * blockDim.x + threadIdx.x;"
        run(body, at, x, parameters="int* at, float* x", grid=(2,), block=(48,), order=order)
        np.testing.assert_array_equal(x, right)


def lanes(body, block=32, width=32):
    x = np.zeros(block, dtype=np.int32)
    body = f"const int lane = threadIdx.x; const int width = {width}; (void)width; x[threadIdx.x] = {body};"
    run(body, x, parameters="int* x", block=(block,))
    return x.tolist()


@pytest.mark.parametrize("width", [4, 8, 32])
def test_shuffles_within_a_width(width):
    group = [lane - lane % width for lane in range(32)]
    own = range(32)
    of = {
        "__shfl_sync(~0u, lane, 2, width)": [g + 2 for g in group],
        "__shfl_sync(~0u, lane, lane + 1, width)": [g + (i + 1) % width for g, i in zip(group, own, strict=True)],
        "__shfl_up_sync(~0u, lane, 1, width)": [max(g, i - 1) for g, i in zip(group, own, strict=True)],
        "__shfl_down_sync(~0u, lane, 1, width)": [min(g + width - 1, i + 1) for g, i in zip(group, own, strict=True)],
        "__shfl_xor_sync(~0u, lane, 3, width)": [i ^ 3 for i in own],
    }
    for body, right in of.items():
        assert lanes(body, width=width) == right, body


def test_shuffles_of_some_lanes_and_of_every_type():
    assert lanes("lane < 16 ? __shfl_xor_sync(0xffffu, lane, 1) : -1")[:17] == [i ^ 1 for i in range(16)] + [-1]
    assert lanes("(int)(10 * __shfl_down_sync(~0u, lane + 0.5, 31))")[0] == 315
    assert lanes("__shfl_down_sync(~0u, 1LL << lane, 4) == 16LL << lane")[:5] == [1] * 5


def test_a_lane_that_takes_no_part_gives_poison():
    assert lanes("__shfl_down_sync(~0u, lane, 1)", block=20)[19] == -1


def test_functions_have_float_and_double_overloads():
    x = np.zeros(3, dtype=np.int32)
    body = """x[0] = sizeof(tanh(1.0f) + exp(1.0f) + log(1.0f) + fmax(1.0f, 2.0f) + fabs(1.0f) + sqrt(1.0f));
              x[1] = sizeof(tanh(1.0) + exp(1.0) + fmax(1.0f, 2.0) + rsqrt(1.0));
              x[2] = max(1, 2) + min(1.5f, 2.5f) * 2;"""
    run(body, x, parameters="int* x", block=(1,))
    assert x.tolist() == [4, 8, 5]


def test_aliases_stay_aliased():
    x = np.arange(8, dtype=np.float32)
    source = "const float* a, float* b, float* c"
    run("c[0] = 5; b[1] = a[0] + 1;", x, x, x[4:], parameters=source, block=(1,))
    np.testing.assert_array_equal(x, [0, 1, 2, 3, 5, 5, 6, 7])
    run("c[0] = 7; b[1] = a[4] + 1;", x, x, x[4:], parameters=source, block=(1,))
    np.testing.assert_array_equal(x, [0, 8, 2, 3, 7, 5, 6, 7])


def test_fortran_order_passes_as_it_lies():
    x = np.zeros((2, 3), dtype=np.float32, order="F")
    run("x[threadIdx.x] = threadIdx.x;", x, np.int32(6), block=(6,))
    np.testing.assert_array_equal(x, [[0, 2, 4], [1, 3, 5]])


def test_no_elements_are_no_access():
    run("if (threadIdx.x < n) x[threadIdx.x] = 1;", np.empty(0, dtype=np.float32), np.int32(0))
    with pytest.raises(simulator.SimulatorError, match="argument 0"):
        run("x[threadIdx.x] = 1;", np.empty(0, dtype=np.float32), np.int32(0))


# -- Wrong kernels are found ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "source", "which"),
    [
        (check, source, i)
        for check, source in ((check_block_sum, BLOCK_SUM), (check_transpose, TRANSPOSE))
        for i in range(source.count("__syncthreads();"))
    ],
)
def test_each_deleted_barrier_is_found(check, source, which):
    parts = source.split("__syncthreads();")
    mutant = "__syncthreads();".join(parts[: which + 1]) + ";" + "__syncthreads();".join(parts[which + 1 :])
    assert not noticed(check, source, 257)
    assert noticed(check, mutant, 257)


def test_a_deleted_barrier_of_a_warp_is_found():
    def check(source, n, order):
        x = np.zeros(32, dtype=np.float32)
        run(source, x, np.int32(32), block=(32,), order=order)
        np.testing.assert_array_equal(x, (np.arange(32) + 1) % 32)

    body = """__shared__ float s[32]; const int t = threadIdx.x;
              s[t] = t; __syncwarp(); x[t] = s[(t + 1) % 32];"""
    assert not noticed(check, body, 32)
    assert noticed(check, body.replace("__syncwarp();", ""), 32)


@pytest.mark.parametrize("n", SIZES)
def test_each_bound_off_by_one_is_found(n):
    assert noticed(check_saxpy, SAXPY.replace("i < n", "i <= n"), n)
    if n < 1000:  # else no thread comes to an element past the end: 11 blocks of 96
        assert noticed(check_block_sum, BLOCK_SUM.replace("i < n", "i <= n"), n)
    else:
        assert noticed(check_block_sum, BLOCK_SUM.replace("i < n", "i < n - 1"), n)
    if n % 16:  # else no thread comes to that row
        assert noticed(check_transpose, TRANSPOSE.replace("row < rows", "row <= rows"), n)
    assert noticed(check_transpose, TRANSPOSE.replace("column < columns", "column <= columns"), n)


READ_BEHIND = "if (threadIdx.x == 0) y[0] = x[n] > 1e30f ? 2.0f : 1.0f;"
READ_BEFORE = "if (threadIdx.x == 0) y[0] = x[-1] > 1e30f ? 2.0f : 1.0f;"
WRITE_BEHIND = "if (threadIdx.x == 0) y[n] = 1.0f;"
WRITE_BEFORE = "if (threadIdx.x == 0) y[-1] = 1.0f;"
FAR = "y[n + (1LL << 40) + threadIdx.x] = 1.0f;"


@pytest.mark.parametrize("body", [READ_BEHIND, READ_BEFORE, WRITE_BEHIND, WRITE_BEFORE, FAR])
@pytest.mark.parametrize("n", [1, 33, 1000, 1024, 5000])
def test_an_access_outside_is_found_whatever_the_value(body, n):
    x, y = np.ones(n, dtype=np.float32), np.ones(n, dtype=np.float32)
    parameters = "const float* x, float* y, const int n"
    with pytest.raises(simulator.SimulatorError, match=r"argument [01]|Segmentation fault|results depend"):
        run(body, x, y, np.int32(n), parameters=parameters, sanitize=True)
    np.testing.assert_array_equal(y, np.ones(n))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.uint64])
@pytest.mark.parametrize("body", ["y[-1] += x[0];", "y[-1] = x[-1];", "y[-1] += x[-1];", "y[-1] = x[0] + y[-1];"])
def test_a_write_to_the_zone_before_is_found_without_a_second_run(body, dtype):
    # The zone that is only poisoned: right arithmetic on the poison must not leave it as it was.
    x, y = np.ones((2, 33), dtype=dtype)
    name = {"f4": "float", "f8": "double", "u1": "unsigned char", "u8": "size_t"}[np.dtype(dtype).str[1:]]
    with pytest.raises(simulator.SimulatorError, match=r"writes outside argument 1.*before its start"):
        run(body, x, y, parameters=f"const {name}* x, {name}* y", block=(1,))


def test_a_read_before_is_poison():
    x = np.ones(33, dtype=np.float32)
    run("x[0] = x[-1];", x, np.int32(33), block=(1,))
    assert np.isnan(x[0])


def test_vector_access_needs_the_arrays_alignment():
    body = "float4* to = reinterpret_cast<float4*>(x); float4 v = to[threadIdx.x]; v.x = 7; to[threadIdx.x] = v;"
    x = np.zeros(40, dtype=np.float32)
    run(body, x[:8], np.int32(8), block=(2,))
    np.testing.assert_array_equal(np.flatnonzero(x), [0, 4])
    run(body, x[8:16], np.int32(8), block=(2,))
    with pytest.raises(simulator.SimulatorError, match="misaligned"):
        run(body, x[1:9], np.int32(8), block=(2,))
    with pytest.raises(simulator.SimulatorError, match="argument 0"):
        run(body, x[:8], np.int32(8), block=(3,))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("__shared__ float s[32]; s[threadIdx.x] = 1; x[0] = s[0];", "line 2.*outside its array.*thread .32"),
        ("float s[4]; for (int i = 0; i <= n; ++i) s[i] = i; x[0] = s[1];", "outside its array"),
        ("x[0] = n / (n - 4);", "division by zero"),
        ("x[0] = 2147483647 + n;", "overflows"),
        ("x[0] = 1 << (n * 8);", "shift"),
    ],
)
def test_undefined_behaviour_is_found(body, message):
    with pytest.raises(simulator.SimulatorError, match=message):
        run(body, np.zeros(64, dtype=np.float32), np.int32(4))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if (threadIdx.x < 40) __syncthreads();", r"__syncthreads\(\) in line 2: thread \(40, 0, 0\) has exited"),
        (
            "if (threadIdx.x < 40) {\n__syncthreads();\n} else {\n__syncthreads();\n}",
            r"__syncthreads\(\) in line 3: thread \(40, 0, 0\) waits at __syncthreads\(\) in line 5",
        ),
        ("if (threadIdx.x != 3) __shfl_down_sync(~0u, n, 1);", r"__shfl_down_sync in line 2: thread \(3.*exited"),
        ("if (threadIdx.x != 3) __syncwarp(); else __syncthreads();", "divergent __syncwarp.*waits at __syncthreads"),
        ("if (threadIdx.x % 2) __shfl_xor_sync(~0u, n, 1);\nelse __shfl_xor_sync(~0u, n, 1);", "line 3.*line 2|2.*3"),
        ("__shfl_xor_sync(threadIdx.x < 9 ? 0x3ffu : ~0u, n, 1);", "with another mask"),
        ("__shfl_xor_sync(1u, n, 1);", "lacks its own lane"),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_a_divergent_barrier_aborts(body, message, order):
    x = np.zeros(64, dtype=np.float32)
    with pytest.raises(simulator.SimulatorError, match=message):
        run(f"x[threadIdx.x] = 1;\n{body}".replace("\n", " ", 1), x, np.int32(4), order=order)
    assert not x.any()  # a launch that failed changes nothing
    check_block_sum(BLOCK_SUM, 257, order)  # and leaves nothing behind


def test_uninitialised_shared_memory_shows_in_each_block():
    x = np.zeros(3, dtype=np.float32)
    run("__shared__ float s[2]; x[blockIdx.x] = s[1]; s[1] = 4;", x, np.int32(3), grid=(3,), block=(1,))
    assert np.isnan(x).all()
    y = np.zeros(1, dtype=np.int32)
    run("__shared__ int s; y[0] = s;", y, parameters="int* y", block=(1,))
    assert y[0] == -1


# -- Wrong launches are refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.float64(2), "x", "y", np.int32(4)), "argument 0 is float32, got float64"),
        ((2.0, "x", "y", np.int32(4)), "argument 0 is float32, got float"),
        ((np.float32(2), "x", "y", 4), "argument 3 is int32, got int"),
        ((np.float32(2), "x", "y", np.int64(4)), "argument 3 is int32, got int64"),
        ((np.float32(2), "x", np.ones(4), np.int32(4)), r"argument 2 is float32\*, got float64"),
        ((np.float32(2), np.float32(1), "y", np.int32(4)), r"argument 1 is const float32\*, got float32"),
        ((np.float32(2), [1.0], "y", np.int32(4)), r"argument 1 is const float32\*, got list"),
        ((np.float32(2), "x", "y"), "takes 4 arguments, got 3"),
        ((np.float32(2), "strided", "y", np.int32(4)), "strides"),
        ((np.float32(2), "x", "read-only", np.int32(4)), "read-only"),
    ],
)
def test_wrong_arguments_are_refused(args, message):
    arrays = {name: np.ones(4, dtype=np.float32) for name in ("x", "y", "read-only")}
    arrays["strided"] = np.ones(8, dtype=np.float32)[::2]
    arrays["read-only"].flags.writeable = False
    args = [arrays[arg] if isinstance(arg, str) else arg for arg in args]
    with pytest.raises(simulator.LaunchError, match=message):
        simulator.compile(SAXPY, "saxpy")((1,), (32,), args)


@pytest.mark.parametrize(
    ("c_type", "dtype"),
    [
        ("float", np.float32),
        ("double", np.float64),
        ("int", np.int32),
        ("unsigned", np.uint32),
        ("long long", np.int64),
        ("size_t", np.uint64),
        ("unsigned char", np.uint8),
        ("bool", np.bool_),
    ],
)
def test_each_type_goes_in_and_comes_out(c_type, dtype):
    parameters = f"const {c_type} value, const {c_type}* x, {c_type}* y"
    x, y = np.ones(3, dtype=dtype), np.zeros(3, dtype=dtype)
    run("y[0] = value; y[2] = x[1];", dtype(1), x, y, parameters=parameters, block=(1,))
    np.testing.assert_array_equal(y, np.array([1, 0, 1], dtype=dtype))


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((0,), (32,)),
        ((1,), (0,)),
        ((1,), (1025,)),
        ((1,), (33, 32)),
        ((1,), (1, 1, 65)),
        ((1, 65536), (1,)),
        ((1, 1, 65536), (1,)),
        ((2**31,), (1,)),
        ((1.0,), (1,)),
        ((), (1,)),
        (1, (1,)),
        ((1, 1, 1, 1), (1,)),
    ],
)
def test_wrong_sizes_are_refused(grid, block):
    with pytest.raises(simulator.LaunchError, match=r"grid|block"):
        run("x[0] = 1;", np.zeros(1, dtype=np.float32), np.int32(1), grid=grid, block=block)


def test_launch_bounds_hold():
    source = 'extern "C" __global__ void __launch_bounds__(64) f(float* x) { x[threadIdx.x] = 1; }'
    kernel = simulator.compile(source, "f")
    kernel((1,), (64,), (np.zeros(64, dtype=np.float32),))
    with pytest.raises(simulator.LaunchError, match="at most 64 threads"):
        kernel((1,), (65,), (np.zeros(65, dtype=np.float32),))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (SAXPY.replace("saxpy", "other"), simulator.NotFoundError, "saxpy"),
        (SAXPY.replace('extern "C" ', ""), simulator.NotFoundError, 'extern "C"'),
        (SAXPY.replace("__global__", "__device__"), simulator.NotFoundError, "__global__"),
        (SAXPY.replace("y[i]", "z[i]"), simulator.CompileError, r"saxpy\.cu:4:.*'z' was not declared"),
        (SAXPY.replace("y[i] =", "x[i] ="), simulator.CompileError, "read-only"),
        (SAXPY.replace("int i", "int32_t i"), simulator.CompileError, "int32_t"),  # NVRTC has no such names
        (SAXPY.replace("for", "const float unused = INFINITY; for"), simulator.CompileError, "INFINITY"),
        (SAXPY.replace("for", "int unused; for"), simulator.CompileError, "unused"),
        (SAXPY.replace("for", "__shared__ float s[20000]; s[n] = 0; for"), simulator.CompileError, "shared memory"),
    ],
)
def test_wrong_sources_are_refused(source, error, message):
    with pytest.raises(error, match=message):
        simulator.compile(source, "saxpy")


# -- As CuPy's RawKernel ----------------------------------------------------------------------------------------


def test_raw_kernel_runs_it(monkeypatch):
    fake_cupy.install(monkeypatch)
    import cupy

    x, y = cupy.asarray(np.arange(33, dtype=np.float32)), cupy.ones(33, dtype="float32")
    kernel = cupy.RawKernel(SAXPY, "saxpy", ("--std=c++17",))
    with fake_cupy.no_host_sync():
        kernel((1,), (64,), (np.float32(2), x, y, np.int32(33)))
    np.testing.assert_array_equal(y.get(), 2 * np.arange(33) + 1)
    with pytest.raises(cupy.cuda.compiler.CompileException, match="does not compile"):
        cupy.RawKernel(SAXPY.replace("y[i]", "z[i]"), "saxpy").compile()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="NOT_FOUND: named symbol not found: daxpy"):
        cupy.RawKernel(SAXPY, "daxpy")((1,), (64,), ())
    with pytest.raises(TypeError):  # an array of the host
        kernel((1,), (64,), (np.float32(2), np.ones(33), y, np.int32(33)))
    with cupy.cuda.Device(1), pytest.raises(ValueError, match="device"):
        kernel((1,), (64,), (np.float32(2), x, y, np.int32(33)))


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_compiler_tests_are_skipped_but_not_in_ci(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    compiler._compiler.cache_clear()
    try:
        with pytest.raises(outcome, match=re.escape("g++")):
            simulator.compile(SAXPY, "saxpy")
    finally:
        compiler._compiler.cache_clear()
