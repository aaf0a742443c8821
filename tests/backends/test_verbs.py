"""Each verb on each backend, against plain NumPy in float64."""

import contextlib

import numpy as np
import pytest
from backends import fake_cupy
from backends.conftest import open_backend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles import book

import gpunet
from gpunet import activations, costs, optimizers
from gpunet.optimizers import Penalty

ODD = (1, 31, 33, 257)
RELATIVE = {"float32": 2e-5, "float64": 1e-13}

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
# A backend keeps nothing from one example to the next but scratch memory, whose reuse is to be tested.
few = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
sizes = st.integers(1, 40) | st.sampled_from(ODD)
orders = st.sampled_from("CF")
scalars = st.sampled_from([0.0, 1.0, -1.0, 0.5, -0.3])
ACTIVATIONS = {
    **activations.BUILT_IN,
    "mixed": gpunet.mixed("tanh", {0: "relu"}),
    "custom": gpunet.Activation("soft", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2),
}
#: Activations that a whole layer and BP1 treat in different ways; the rest differ in one expression.
IN_LAYERS = ("sigmoid", "relu", "gelu", "softmax", "mixed", "custom")
#: The textbook's formulas of those that chapter 2 does not have.
BOOK = {
    "leaky_relu": book.LEAKY_RELU,
    "elu": book.ELU,
    "gelu": book.GELU,
    "silu": book.SILU,
    "softplus": book.SOFTPLUS,
    "hard_sigmoid": book.HARD_SIGMOID,
    "exp": book.EXP,
}


def matrix(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def to_device(ops, values, order="C"):
    """An array of the backend with these values, in C order or as the transpose of one in C order.

    A copy: on the CPU `asarray` may give the values' own memory, which the verbs then write to.
    """
    with ops.active():
        if order == "F" and values.ndim == 2:
            return ops.asarray(values.T.copy(order="C")).T
        return ops.asarray(values.copy(order="C"))


def fresh(ops, shape, dtype, order="C"):
    """Uninitialised memory with NaN in it, so that reading it shows."""
    return to_device(ops, np.full(shape, np.nan, dtype=dtype), order)


def check(ops, got, wanted, dtype, scale=None):
    with ops.active():
        got = ops.to_numpy(got)
    wanted = np.asarray(wanted, dtype=np.float64)
    assert got.dtype == dtype
    assert got.shape == wanted.shape
    scale = np.abs(wanted).max() if scale is None else scale
    np.testing.assert_allclose(got, wanted, rtol=0, atol=RELATIVE[dtype] * max(scale, 1e-30))


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


# -- Memory -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 4), (33, 1)], ids=str)
def test_there_and_back(backend, dtype, shape):
    values = (np.random.default_rng(0).random(shape) * 255).astype(dtype)
    with backend.active():
        array = backend.asarray(values)
        assert backend.is_native(array)
        assert tuple(array.shape) == shape
        back = backend.to_numpy(array)
        assert type(back) is np.ndarray
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, values)
        # An array of the backend's own stays what it is, and is converted where that is asked for.
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(array)), values)
        converted = backend.to_numpy(backend.asarray(array, "float32"))
        assert converted.dtype == "float32"
        np.testing.assert_array_equal(converted, values.astype("float32"))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::-2],
        np.arange(12.0).reshape(3, 4)[:, 1:3],
        np.broadcast_to(np.arange(3.0), (2, 3)),
        [[1, 2], [3, 4]],
    ],
    ids=["transposed", "backwards", "cut", "broadcast", "list"],
)
def test_asarray_of_any_layout(backend, values):
    with backend.active():
        array = backend.asarray(values, "float64")
        np.testing.assert_array_equal(backend.to_numpy(array), np.asarray(values, dtype=float))
        flat = backend.xp.reshape(array, (-1,))
        np.testing.assert_array_equal(backend.to_numpy(flat), np.asarray(values, dtype=float).ravel())


def test_asarray_takes_read_only_arrays_and_leaves_them(backend):
    values = np.arange(6.0).reshape(2, 3)
    values.flags.writeable = False
    with backend.active():
        array = backend.asarray(values)
        np.testing.assert_array_equal(backend.to_numpy(array), values)


@each_dtype
def test_empty_and_copy(backend, dtype):
    values = np.random.default_rng(0).random((3, 5)).astype(dtype)
    with backend.active():
        out = backend.empty((3, 5), dtype)
        assert backend.is_native(out)
        assert backend.copy(backend.asarray(values), out=out) is out
        np.testing.assert_array_equal(backend.to_numpy(out), values)
        # Into a view, and from one: both occur in the algorithm.
        column = backend.empty((5, 3, 1), dtype)
        backend.copy(out.T[:, :, None], out=column)
        np.testing.assert_array_equal(backend.to_numpy(column)[:, :, 0], values.T)
        flat = backend.empty((20,), dtype)
        backend.copy(out, out=backend.xp.reshape(flat[2:17], (3, 5)))
        np.testing.assert_array_equal(backend.to_numpy(flat)[2:17], values.ravel())


def test_is_native_is_about_the_library(backend):
    assert not backend.is_native([1.0])
    assert not backend.is_native(None)
    assert backend.is_native(np.zeros(2)) == (backend.xp.__name__.rpartition(".")[2] == "numpy")


# -- (25) ---------------------------------------------------------------------------------------------------------


@each_dtype
@few
@given(n=sizes, k=sizes, m=sizes, order_a=orders, order_b=orders, order_out=orders, seed=st.integers(0, 99))
def test_matmul(backend, dtype, n, k, m, order_a, order_b, order_out, seed):
    rng = np.random.default_rng(seed)
    a, b = matrix(rng, (n, k), dtype), matrix(rng, (k, m), dtype)
    out = fresh(backend, (n, m), dtype, order_out)
    with backend.active():
        result = backend.matmul(to_device(backend, a, order_a), to_device(backend, b, order_b), out=out)
    assert result is out
    a, b = wide(a, b)
    check(backend, out, a @ b, dtype, scale=np.abs(a).max() * np.abs(b).max() * k)


def reference_activation(name, z):
    with np.errstate(over="ignore"):
        if name == "softmax":
            e = np.exp(z - z.max(axis=0))
            return e / e.sum(axis=0)
        f = {
            "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
            "tanh": np.tanh,
            "relu": lambda z: z * (z > 0),
            "linear": lambda z: z,
            "custom": lambda z: z / (1 + np.abs(z)),
            **{known: of.f for known, of in BOOK.items()},
        }
        if name == "mixed":
            return np.vstack([f["relu"](z[:1]), f["tanh"](z[1:])])
        return f[name](z)


def reference_pull_back(name, g, z):
    a = reference_activation(name, z)
    if name == "softmax":
        return a * (g - (g * a).sum(axis=0))
    prime = {
        "sigmoid": lambda z, a: a * (1 - a),
        "tanh": lambda z, a: 1 - a * a,
        "relu": lambda z, a: 1.0 * (z > 0),
        "linear": lambda z, a: 1 + 0 * z,
        "custom": lambda z, a: 1 / (1 + np.abs(z)) ** 2,
        **{known: lambda z, a, of=of: of.prime(z) for known, of in BOOK.items()},
    }
    if name == "mixed":
        return g * np.vstack([prime["relu"](z[:1], a[:1]), prime["tanh"](z[1:], a[1:])])
    return g * prime[name](z, a)


@each_dtype
@pytest.mark.parametrize("name", list(ACTIVATIONS))
@few
@given(n=sizes, m=sizes, order=orders, in_place=st.booleans(), seed=st.integers(0, 99))
def test_activate(backend, dtype, name, n, m, order, in_place, seed):
    rng = np.random.default_rng(seed)
    z, b = matrix(rng, (n, m), dtype), matrix(rng, (n, 1), dtype)
    device_z = to_device(backend, z, order)
    out = device_z if in_place else fresh(backend, (n, m), dtype, order)
    with backend.active():
        result = backend.activate(device_z, to_device(backend, b), ACTIVATIONS[name], out=out)
    assert result is out
    z, b = wide(z, b)
    wanted = reference_activation(name, z + b)
    check(backend, out, wanted, dtype, scale=max(4, np.abs(wanted).max()))
    if not in_place:
        check(backend, device_z, z + b, dtype, scale=4)


# -- BP1 and BP2 --------------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("name", list(ACTIVATIONS))
@few
@given(n=sizes, m=sizes, order=orders, in_place=st.booleans(), seed=st.integers(0, 99))
def test_hadamard_prime(backend, dtype, name, n, m, order, in_place, seed):
    rng = np.random.default_rng(seed)
    g, z = matrix(rng, (n, m), dtype), matrix(rng, (n, m), dtype)
    a = reference_activation(name, z.astype(float)).astype(dtype)
    device_g, device_z, device_a = (to_device(backend, v, order) for v in (g, z, a))
    out = device_g if in_place else fresh(backend, (n, m), dtype, order)
    f = ACTIVATIONS[name]
    with backend.active():
        # Where f' comes from a, the algorithm hands in a for z.
        result = backend.hadamard_prime(device_g, f, device_z if f.needs_z else device_a, device_a, out=out)
    assert result is out
    wanted = reference_pull_back(name, *wide(g, z))
    check(backend, out, wanted, dtype, scale=max(8, np.abs(wanted).max()))
    check(backend, device_z, z, dtype)
    check(backend, device_a, a, dtype)
    if not in_place:
        check(backend, device_g, g, dtype)


PAIRS = [("quadratic", name) for name in (*IN_LAYERS, "linear")] + [
    ("cross-entropy", "sigmoid"),
    ("log-likelihood", "softmax"),
    ("huber", "linear"),
    ("absolute", "linear"),
    ("quantile", "gelu"),
    ("poisson", "exp"),
    ("hinge", "linear"),
    ("floored cross-entropy", "sigmoid"),
    ("floored log-likelihood", "softmax"),
    ("quartic", "sigmoid"),
    ("quartic", "softmax"),
]
COSTS = {
    **costs.BUILT_IN,
    "huber": costs.Huber(0.3),
    "quantile": costs.Quantile(0.9),
    "floored cross-entropy": costs.CrossEntropy(0.4),
    "floored log-likelihood": costs.LogLikelihood(0.1),
    "quartic": gpunet.Cost(
        "quartic", lambda a, y, xp: xp.sum((a - y) ** 4, axis=0), lambda a, y, xp: 4 * (a - y) ** 3
    ),
}


@each_dtype
@pytest.mark.parametrize(("cost", "name"), PAIRS)
@few
@given(n=sizes, m=sizes, order=orders, with_total=st.booleans(), seed=st.integers(0, 99))
def test_output_error(backend, dtype, cost, name, n, m, order, with_total, seed):
    rng = np.random.default_rng(seed)
    z, y = matrix(rng, (n, m), dtype), rng.random((n, m)).astype(dtype)
    a = reference_activation(name, z.astype(float)).astype(dtype)
    device_a, device_y = to_device(backend, a, order), to_device(backend, y, order)
    f = ACTIVATIONS[name]
    device_z = to_device(backend, z, order) if f.needs_z else device_a
    out = fresh(backend, (n, m), dtype, order)
    total = backend.new_total() if with_total else None
    if with_total:
        total[0:1] = to_device(backend, np.array([1000.0]))
    with backend.active():
        result = backend.output_error(COSTS[cost], f, device_z, device_a, device_y, out=out, total=total)
    assert result is out
    a, y, z = wide(a, y, z)
    wanted, value = {
        "quadratic": lambda: (reference_pull_back(name, a - y, z), 0.5 * (a - y) ** 2),
        "quartic": lambda: (reference_pull_back(name, 4 * (a - y) ** 3, z), (a - y) ** 4),
        "cross-entropy": lambda: (a - y, -y * np.log(a) - (1 - y) * np.log(1 - a)),
        "log-likelihood": lambda: (a * y.sum(axis=0) - y, -y * np.log(a)),
        "huber": lambda: (
            np.clip(a - y, -0.3, 0.3),
            np.where(abs(a - y) < 0.3, 0.5 * (a - y) ** 2, 0.3 * abs(a - y) - 0.045),
        ),
        "absolute": lambda: (np.sign(a - y), abs(a - y)),
        "quantile": lambda: (
            reference_pull_back(name, np.where(a > y, 0.1, -0.9), z),
            np.maximum(0.9 * (y - a), 0.1 * (a - y)),
        ),
        "poisson": lambda: (a - y, y * np.log(y / a) - y + a),
        "floored cross-entropy": lambda: (
            a - y,
            -y * np.log(np.maximum(a, 0.4)) - (1 - y) * np.log(np.maximum(1 - a, 0.4)),
        ),
        "floored log-likelihood": lambda: (
            a * y.sum(axis=0) - y,
            -y * np.log(np.maximum(a, 0.1)),
        ),
        "hinge": lambda: ((1 - 2 * y) * ((2 * y - 1) * a < 1), np.maximum(0, 1 - (2 * y - 1) * a)),
    }[cost]()
    check(backend, out, wanted, dtype, scale=8 * max(1.0, np.abs(wanted).max()))
    if with_total:
        with backend.active():
            got = backend.to_numpy(total)
        assert got.dtype == np.float64
        # log(1 - a) magnifies the rounding of a, which is that of the input here.
        np.testing.assert_allclose(got.sum(), 1000.0 + value.sum(), rtol=20 * RELATIVE[dtype])
    check(backend, device_y, y, dtype)
    check(backend, device_a, a, dtype)


def test_nan_comes_through(backend):
    """In every built-in function: a training must notice it."""
    nan, one = np.full((2, 3), np.nan, "float32"), np.ones((2, 3), "float32")
    results = []
    with backend.active():
        for f in activations.BUILT_IN.values():
            z, b = to_device(backend, nan, "F"), to_device(backend, one[:, :1])
            results.append((f, backend.activate(z, b, f, out=fresh(backend, (2, 3), "float32", "F"))))
            s, g = to_device(backend, nan, "F"), to_device(backend, one, "F")
            if f.name != "linear":
                results.append((f, backend.hadamard_prime(g, f, s, s, out=g)))
        for cost in costs.BUILT_IN.values():
            f, total = activations.get((cost.outputs or ("sigmoid",))[0]), backend.new_total()
            a, y, out = to_device(backend, nan, "F"), to_device(backend, one, "F"), to_device(backend, one, "F")
            results.append((cost, backend.output_error(cost, f, a, a, y, out=out, total=total)))
            results.append((cost, backend.xp.reshape(backend.xp.sum(total), (1,))))
        for what, result in results:
            assert np.isnan(backend.to_numpy(result)).all(), what


# -- BP3 and BP4 --------------------------------------------------------------------------------------------------


@each_dtype
@few
@given(n=sizes, m=sizes, order=orders, alpha=scalars, beta=scalars, seed=st.integers(0, 99))
def test_sum_batch(backend, dtype, n, m, order, alpha, beta, seed):
    rng = np.random.default_rng(seed)
    delta, before = matrix(rng, (n, m), dtype), matrix(rng, (n, 1), dtype)
    if beta == 0:
        before[:] = np.nan  # fresh memory
    out = to_device(backend, before)
    with backend.active():
        assert backend.sum_batch(to_device(backend, delta, order), out=out, alpha=alpha, beta=beta) is out
    delta, before = wide(delta, before)
    wanted = alpha * delta.sum(axis=1, keepdims=True) + (beta * before if beta else 0)
    check(backend, out, wanted, dtype, scale=4 * m)


@each_dtype
@few
@given(
    j=sizes, k=sizes, m=sizes, order_d=orders, order_a=orders, order_out=orders, alpha=scalars, beta=scalars,
    seed=st.integers(0, 99),
)  # fmt: skip
def test_outer_sum(backend, dtype, j, k, m, order_d, order_a, order_out, alpha, beta, seed):
    rng = np.random.default_rng(seed)
    delta, a, before = matrix(rng, (j, m), dtype), matrix(rng, (k, m), dtype), matrix(rng, (j, k), dtype)
    if beta == 0:
        before[:] = np.nan
    out = to_device(backend, before, order_out)
    with backend.active():
        result = backend.outer_sum(
            to_device(backend, delta, order_d), to_device(backend, a, order_a), out=out, alpha=alpha, beta=beta
        )
    assert result is out
    delta, a, before = wide(delta, a, before)
    wanted = alpha * delta @ a.T + (beta * before if beta else 0)
    check(backend, out, wanted, dtype, scale=16 * m)


@each_dtype
def test_defaults_overwrite(backend, dtype):
    """Without alpha and beta, the sums are the gradient whatever `out` held."""
    delta, a = np.arange(6.0).reshape(2, 3).astype(dtype), np.ones((4, 3), dtype=dtype)
    out_b, out_w = fresh(backend, (2, 1), dtype), fresh(backend, (2, 4), dtype)
    with backend.active():
        backend.sum_batch(to_device(backend, delta), out=out_b)
        backend.outer_sum(to_device(backend, delta), to_device(backend, a), out=out_w)
    check(backend, out_b, [[3], [12]], dtype)
    check(backend, out_w, [[3] * 4, [12] * 4], dtype)


@each_dtype
def test_sums_into_views_of_one_buffer(backend, dtype):
    """Parameters are views into a flat buffer: what lies beside them must stay."""
    delta, a = np.ones((3, 5), dtype=dtype), np.full((4, 5), 2, dtype=dtype)
    with backend.active():
        flat = backend.asarray(np.full(20, 7.0, dtype=dtype))
        weights, biases = backend.xp.reshape(flat[1:13], (3, 4)), backend.xp.reshape(flat[14:17], (3, 1))
        backend.outer_sum(to_device(backend, delta), to_device(backend, a), out=weights, alpha=-1.0, beta=1.0)
        backend.sum_batch(to_device(backend, delta), out=biases, alpha=-1.0, beta=1.0)
    wanted = np.full(20, 7.0)
    wanted[1:13] -= 10
    wanted[14:17] -= 5
    check(backend, flat, wanted, dtype)


@each_dtype
@few
@given(j=sizes, k=st.integers(1, 40), m=st.integers(1, 20), order=orders, seed=st.integers(0, 99))
def test_outer_batch(backend, dtype, j, k, m, order, seed):
    rng = np.random.default_rng(seed)
    delta, a = matrix(rng, (j, m), dtype), matrix(rng, (k, m), dtype)
    out = fresh(backend, (m, j, k), dtype)
    with backend.active():
        result = backend.outer_batch(to_device(backend, delta, order), to_device(backend, a, order), out=out)
    assert result is out
    delta, a = wide(delta, a)
    check(backend, out, np.array([np.outer(delta[:, i], a[:, i]) for i in range(m)]), dtype, scale=16)


# -- Whole layers -------------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("name", IN_LAYERS)
@few
@given(n=sizes, k=sizes, m=st.integers(1, 40), in_place=st.booleans(), seed=st.integers(0, 99))
def test_layer_forward(backend, dtype, name, n, k, m, in_place, seed):
    rng = np.random.default_rng(seed)
    w, a, b = (
        matrix(rng, (n, k), dtype) / np.sqrt(k).astype(dtype),
        *(matrix(rng, s, dtype) for s in ((k, m), (n, 1))),
    )
    device_w, device_a, device_b = to_device(backend, w), to_device(backend, a, "F"), to_device(backend, b)
    z = fresh(backend, (n, m), dtype, "F")
    out = z if in_place else fresh(backend, (n, m), dtype, "F")
    with backend.active():
        result = backend.layer_forward(device_w, device_a, device_b, ACTIVATIONS[name], z=z, out=out)
    assert result is out
    for device, values in ((device_w, w), (device_a, a), (device_b, b)):
        check(backend, device, values, dtype)
    w, a, b = wide(w, a, b)
    check(backend, out, reference_activation(name, w @ a + b), dtype, scale=8)
    if not in_place:
        check(backend, z, w @ a + b, dtype, scale=8)


@each_dtype
@pytest.mark.parametrize("name", IN_LAYERS)
@few
@given(n=sizes, k=sizes, m=st.integers(1, 40), seed=st.integers(0, 99))
def test_layer_backward(backend, dtype, name, n, k, m, seed):
    """w (n, k) and delta (n, m) are those of the following layer, z, a and out (k, m) this one's."""
    rng = np.random.default_rng(seed)
    w, delta, z = (matrix(rng, shape, dtype) for shape in ((n, k), (n, m), (k, m)))
    a = reference_activation(name, z.astype(float)).astype(dtype)
    device_w, f = to_device(backend, w), ACTIVATIONS[name]
    device_delta, device_z, device_a = (to_device(backend, v, "F") for v in (delta, z, a))
    out = fresh(backend, (k, m), dtype, "F")
    with backend.active():
        s = device_z if f.needs_z else device_a  # as the algorithm has it
        result = backend.layer_backward(device_w, device_delta, f, s, device_a, out=out)
    assert result is out
    for device, values in ((device_w, w), (device_delta, delta), (device_z, z), (device_a, a)):
        check(backend, device, values, dtype)
    w, delta, z = wide(w, delta, z)
    check(backend, out, reference_pull_back(name, w.T @ delta, z), dtype, scale=8 * n)


@each_dtype
@few
@given(
    j=sizes, k=sizes, m=st.integers(1, 70), alpha=scalars, beta_b=scalars, beta_w=scalars, seed=st.integers(0, 99),
)  # fmt: skip
def test_layer_gradient(backend, dtype, j, k, m, alpha, beta_b, beta_w, seed):
    rng = np.random.default_rng(seed)
    delta, a = matrix(rng, (j, m), dtype), matrix(rng, (k, m), dtype)
    before_b, before_w = matrix(rng, (j, 1), dtype), matrix(rng, (j, k), dtype)
    for before, beta in ((before_b, beta_b), (before_w, beta_w)):
        if beta == 0:
            before[:] = np.nan  # fresh memory
    nabla_b, nabla_w = to_device(backend, before_b), to_device(backend, before_w)
    device_delta, device_a = to_device(backend, delta, "F"), to_device(backend, a, "F")
    with backend.active():
        backend.layer_gradient(device_delta, device_a, nabla_b, nabla_w, alpha=alpha, beta_b=beta_b, beta_w=beta_w)
    check(backend, device_delta, delta, dtype)
    check(backend, device_a, a, dtype)
    delta, a, before_b, before_w = wide(delta, a, before_b, before_w)
    wanted_b = alpha * delta.sum(axis=1, keepdims=True) + (beta_b * before_b if beta_b else 0)
    check(backend, nabla_b, wanted_b, dtype, scale=4 * m)
    check(backend, nabla_w, alpha * delta @ a.T + (beta_w * before_w if beta_w else 0), dtype, scale=16 * m)


@each_dtype
def test_a_layers_gradient_overwrites_by_default(backend, dtype):
    delta, a = np.arange(6.0).reshape(2, 3).astype(dtype), np.ones((4, 3), dtype=dtype)
    nabla_b, nabla_w = fresh(backend, (2, 1), dtype), fresh(backend, (2, 4), dtype)
    with backend.active():
        backend.layer_gradient(to_device(backend, delta, "F"), to_device(backend, a, "F"), nabla_b, nabla_w)
    check(backend, nabla_b, [[3], [12]], dtype)
    check(backend, nabla_w, [[3] * 4, [12] * 4], dtype)


# -- A step of an optimizer ---------------------------------------------------------------------------------------


def reference_update(name, w, g, v, t, eta):
    """One step of the built-in optimizers with their default constants, as their papers have them."""
    if name == "sgd":
        return w - eta * g, []
    if name in ("momentum", "nesterov"):
        v = [0.9 * v[0] - eta * g]
        return w + (v[0] if name == "momentum" else 0.9 * v[0] - eta * g), v
    if name in ("adam", "adamw"):
        m, s = 0.9 * v[0] + 0.1 * g, 0.999 * v[1] + 0.001 * g**2
        m_hat, s_hat = m / (1 - 0.9**t), s / (1 - 0.999**t)
        return w - eta * m_hat / (np.sqrt(s_hat) + 1e-8), [m, s]
    if name == "rmsprop":
        s = 0.99 * v[0] + 0.01 * g**2
        return w - eta * g / (np.sqrt(s) + 1e-8), [s]
    s = v[0] + g**2
    return w - eta * g / (np.sqrt(s) + 1e-10), [s]


WITH_STATES = [name for name, optimizer in optimizers.BUILT_IN.items() if optimizer.states]


PENALTIES = [
    Penalty(),
    Penalty(l2=0.1),
    Penalty(l2=2.0),
    Penalty(l1=0.1),
    Penalty(decay=0.25),
    Penalty(0.1, 0.05, 0.02),
]


@each_dtype
@pytest.mark.parametrize("name", list(optimizers.BUILT_IN))
@few
@given(
    p=sizes | st.sampled_from([1023, 8191, 8192, 8193, 20000]), share=st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    penalty=st.sampled_from(PENALTIES), seed=st.integers(0, 99),
)  # fmt: skip
def test_update(backend, dtype, name, p, share, penalty, seed):
    """Three steps on p parameters, the first ones of which are weights."""
    rng = np.random.default_rng(seed)
    optimizer, n_weights, eta = optimizers.get(name), round(share * p), 0.05
    w = matrix(rng, p, dtype)
    w = np.copysign(np.abs(w) + dtype_of(dtype, 0.8), w)  # no step changes a sign, which L1's is
    w[::13] = 0.0
    # Away from 0, where a step of Adam's kind jumps: its sign is that of what the penalty leaves of the gradient.
    gradients = [np.copysign(np.abs(matrix(rng, p, dtype)) + dtype_of(dtype, 0.1), w) for _ in range(3)]
    v, wanted = [np.zeros(p) for _ in range(optimizer.states)], w.astype(float)
    device_w = to_device(backend, w)
    states = to_device(backend, np.zeros((optimizer.states, p), dtype=dtype))
    with backend.active():
        c = backend.asarray(optimizer.coefficients(eta, np.array([1, 2, 3])), dtype)
        for t, g in enumerate(gradients, start=1):
            device_g = to_device(backend, g)
            assert (
                backend.update(optimizer, device_w, device_g, states, c[t - 1, ...], penalty, n_weights) is device_w
            )
            of_weights = np.where(np.arange(p) < n_weights, wanted, 0.0)
            penalised = g + penalty.l2 * of_weights + penalty.l1 * np.sign(of_weights)
            wanted, v = reference_update(name, wanted - penalty.decay * of_weights, penalised, v, t, eta)
    # Shares such as 1 - 0.999 have lost digits when they are rounded to the dtype.
    check(backend, device_w, wanted, dtype, scale=1)
    if v:
        check(backend, states, np.array(v), dtype, scale=np.abs(v).max())


def dtype_of(dtype, x):
    return np.dtype(dtype).type(x)


@each_dtype
def test_update_changes_views_of_one_buffer_and_nothing_beside_them(backend, dtype):
    with backend.active():
        flat = to_device(backend, np.full(12, 7.0, dtype=dtype))
        w, nabla, states = flat[2:10], to_device(backend, np.ones(8, dtype=dtype)), fresh(backend, (1, 8), dtype)
        states[...] = 0.0
        optimizer = optimizers.get("momentum")
        c = backend.asarray(optimizer.coefficients(0.5, np.array([1])), dtype)[0, ...]
        backend.update(optimizer, w, nabla, states, c, Penalty(1.0), 3)
    check(backend, flat, [7] * 2 + [7 - 0.5 * 8] * 3 + [6.5] * 5 + [7] * 2, dtype)
    check(backend, states, [[-4.0] * 3 + [-0.5] * 5], dtype)


# -- Regularization and weights -----------------------------------------------------------------------------------


@each_dtype
@few
@given(n=sizes, m=sizes, order=orders, in_place=st.booleans(), seed=st.integers(0, 99))
def test_hadamard(backend, dtype, n, m, order, in_place, seed):
    rng = np.random.default_rng(seed)
    x, y = matrix(rng, (n, m), dtype), matrix(rng, (n, m), dtype)
    device_x, device_y = to_device(backend, x, order), to_device(backend, y, order)
    out = device_x if in_place else fresh(backend, (n, m), dtype, order)
    with backend.active():
        assert backend.hadamard(device_x, device_y, out=out) is out
    check(backend, out, x.astype(float) * y, dtype, scale=8)
    check(backend, device_y, y, dtype)
    if not in_place:
        check(backend, device_x, x, dtype)


@each_dtype
@pytest.mark.parametrize("cost", ["quadratic", "log-likelihood", "quartic"])
@few
@given(n=sizes, m=sizes, with_total=st.booleans(), seed=st.integers(0, 99))
def test_weigh(backend, dtype, cost, n, m, with_total, seed):
    rng = np.random.default_rng(seed)
    a, y = (rng.uniform(0.1, 0.9, (n, m)).astype(dtype) for _ in range(2))
    delta, weights = matrix(rng, (n, m), dtype), (rng.random((1, m)) * 3).astype(dtype)
    weights[0, rng.random(m) < 0.3] = 0.0
    device_a, device_y, device_delta = (to_device(backend, v, "F") for v in (a, y, delta))
    device_weights = to_device(backend, weights, "F")
    total = backend.new_total() if with_total else None
    if with_total:
        total[0:1] = to_device(backend, np.array([1000.0]))
    with backend.active():
        result = backend.weigh(COSTS[cost], device_a, device_y, device_weights, device_delta, total)
        assert result is device_delta
    a, y, delta, weights = wide(a, y, delta, weights)
    whole = weights.sum()
    check(backend, device_delta, delta * m * weights / whole if whole else 0 * delta, dtype, scale=8 * m)
    check(backend, device_weights, weights, dtype)
    if with_total:
        each = {
            "quadratic": lambda: 0.5 * (a - y) ** 2,
            "log-likelihood": lambda: -y * np.log(a),
            "quartic": lambda: (a - y) ** 4,
        }[cost]()
        with backend.active():
            got = backend.to_numpy(total)
        np.testing.assert_allclose(got.sum(), 1000 + (each.sum(axis=0) * weights[0]).sum(), rtol=RELATIVE[dtype])


@each_dtype
@few
@given(
    p=sizes | st.sampled_from([8193, 20000]), most_value=st.none() | st.sampled_from([0.5, 100.0]),
    most_norm=st.none() | st.sampled_from([0.5, 1e6]), seed=st.integers(0, 99),
)  # fmt: skip
def test_clip(backend, dtype, p, most_value, most_norm, seed):
    """As PyTorch's `clip_grad_value_` and then `clip_grad_norm_`, with its 1e-6 in the denominator."""
    nabla = matrix(np.random.default_rng(seed), p, dtype)
    out = to_device(backend, nabla)
    with backend.active():
        assert backend.clip(out, most_value, most_norm) is out
    wanted = nabla.astype(float)
    if most_value is not None:
        wanted = wanted.clip(-most_value, most_value)
    if most_norm is not None:
        wanted *= min(1.0, most_norm / (np.linalg.norm(wanted) + 1e-6))
    check(backend, out, wanted, dtype)


@each_dtype
def test_a_gradient_of_zeros_stays_one_when_clipped(backend, dtype):
    out = to_device(backend, np.zeros(5, dtype=dtype))
    with backend.active():
        backend.clip(out, 0.1, 0.1)
    check(backend, out, np.zeros(5), dtype)


@each_dtype
@few
@given(n=sizes, m=sizes, most=st.sampled_from([0.3, 3.0, 1e3]), seed=st.integers(0, 99))
def test_limit_norms(backend, dtype, n, m, most, seed):
    rng = np.random.default_rng(seed)
    w = matrix(rng, (n, m), dtype) * rng.choice([0.1, 1.0, 10.0], (n, 1)).astype(dtype)
    w[::5] = 0.0
    out = to_device(backend, w)
    with backend.active():
        assert backend.limit_norms(out, most) is out
    norms = np.linalg.norm(w.astype(float), axis=1, keepdims=True)
    check(backend, out, w * (most / np.maximum(norms, most)), dtype, scale=max(np.abs(w).max(), 1.0))
    with backend.active():
        got = backend.to_numpy(out)
    below = norms[:, 0] < most * (1 - 1e-3)
    np.testing.assert_array_equal(got[below], w[below])


@each_dtype
@few
@given(p=sizes | st.sampled_from([8193, 20000]), factor=st.sampled_from([1.0, 0.3, 0.0]), seed=st.integers(0, 99))
def test_add_squares(backend, dtype, p, factor, seed):
    w, total = matrix(np.random.default_rng(seed), p, dtype), backend.new_total()
    device_w = to_device(backend, w)
    total[0:1] = to_device(backend, np.array([10.0]))
    with backend.active():
        for _ in range(2):
            assert backend.add_squares(device_w, total, factor) is total
        got = backend.to_numpy(total)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got.sum(), 10.0 + 2 * factor * (w.astype(float) ** 2).sum(), rtol=RELATIVE[dtype])
    check(backend, device_w, w, dtype)


@each_dtype
def test_a_weight_that_is_not_a_number_shows_in_the_squares(backend, dtype):
    with backend.active():
        total = backend.add_squares(to_device(backend, np.array([1, np.nan], dtype=dtype)), backend.new_total())
        assert np.isnan(backend.to_numpy(total).sum())


# -- How many are right -------------------------------------------------------------------------------------------


def reference_count(a, classes):
    """By the definition, column by column."""
    count = 0
    for column, label in zip(a.T.tolist(), classes.tolist(), strict=True):
        best = 0
        for i, x in enumerate(column):
            if not np.isnan(column[best]) and (np.isnan(x) or x > column[best]):
                best = i
        count += (label == 1) == (column[0] > 0.5) if len(column) == 1 else label == best
    return count


@each_dtype
@pytest.mark.parametrize("entries", ["distinct", "equal", "NaN", "all NaN", "negative"])
@few
@given(n=sizes, m=sizes, order=orders, start=st.integers(0, 2**40), seed=st.integers(0, 99))
def test_count_right(backend, dtype, entries, n, m, order, start, seed):
    rng = np.random.default_rng(seed)
    a = matrix(rng, (n, m), dtype)
    if entries in ("equal", "NaN"):
        a = rng.choice([-np.inf, -0.0, 0.0, 0.5, 1.0, np.inf], (n, m)).astype(dtype)
    if entries == "NaN":
        a[rng.random((n, m)) < 0.2] = np.nan
    if entries == "all NaN":
        a[:] = np.nan
    if entries == "negative":
        a = -np.abs(a) - 1
    found = (a[0] > 0.5).astype(np.int64) if n == 1 else a.argmax(axis=0)
    classes = np.where(rng.random(m) < 0.5, found, rng.integers(0, max(n, 2), m))
    total, device_a, device_classes = (to_device(backend, np.array([start])), to_device(backend, a, order),
                                       to_device(backend, classes))  # fmt: skip
    with backend.active():
        assert backend.count_right(device_a, device_classes, total) is total
        got = backend.to_numpy(total)
    assert got.dtype == np.int64
    assert got.tolist() == [start + reference_count(a, classes)]


def test_ties_and_nan_and_a_half(backend):
    """The first of equal entries, the first NaN, and of a single row what exceeds 1/2."""
    nan = np.nan
    a = np.array([[1, 2, 0.0, 5, nan], [1, 2, -0.0, nan, 1], [0, 3, -1, nan, nan]], dtype="float32")
    cases = [(a, [0, 2, 0, 1, 0], 5), (a, [1, 0, 1, 2, 2], 0)]
    half = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1)), nan, -1]], dtype="float32")
    cases += [(half, [0, 1, 0, 0], 4), (half, [1, 0, 1, 1], 0)]
    for values, classes, wanted in cases:
        total = to_device(backend, np.array([0]))
        with backend.active():
            backend.count_right(to_device(backend, values, "F"), to_device(backend, np.array(classes)), total)
            assert backend.to_numpy(total).tolist() == [wanted]


# What the algorithm calls in every step reads nothing from the device: `float(x)` and the like would make it wait.


@pytest.fixture(params=["strict", "fake_cupy"])
def watched(request, monkeypatch):
    """A backend and a context in which reading from the device is an error."""
    ops = open_backend(request.param, request)
    if request.param == "fake_cupy":
        return ops, fake_cupy.no_host_sync

    @contextlib.contextmanager
    def no_reading():
        def refused(self, *args, **kwargs):
            raise AssertionError("the host reads from the device")

        with monkeypatch.context() as patch:
            for name in ("__float__", "__int__", "__bool__", "__index__", "__complex__", "__array__", "__dlpack__"):
                if hasattr(ops._array_type, name):
                    patch.setattr(ops._array_type, name, refused)
            yield

    return ops, no_reading


@pytest.mark.parametrize("name", WITH_STATES)
def test_update_reads_nothing_from_the_device(watched, name):
    ops, no_reading = watched
    optimizer = optimizers.get(name)
    w, nabla = (to_device(ops, np.ones(300, dtype="float32")) for _ in range(2))
    states = to_device(ops, np.zeros((optimizer.states, 300), dtype="float32"))
    with ops.active():
        c = ops.asarray(optimizer.coefficients(0.1, np.array([1])), "float32")
        with no_reading():
            ops.update(optimizer, w, nabla, states, c[0, ...], Penalty(0.1), 200)


def test_regularization_reads_nothing_from_the_device(watched):
    ops, no_reading = watched
    x, y, mask = (to_device(ops, np.ones((30, 20), dtype="float32"), "F") for _ in range(3))
    weights, w, total = to_device(ops, np.ones((1, 20), dtype="float32"), "F"), x.T[:5, :], ops.new_total()
    nabla = to_device(ops, np.ones(300, dtype="float32"))
    with ops.active(), no_reading():
        ops.hadamard(x, mask, out=x)
        ops.weigh(costs.BUILT_IN["quadratic"], x, y, weights, y, total)
        ops.clip(nabla, 0.5, 0.5)
        ops.limit_norms(w, 0.5)
        ops.add_squares(nabla, total, 0.5)


@pytest.mark.parametrize("n", [1, 10])
def test_count_right_reads_nothing_from_the_device(watched, n):
    ops, no_reading = watched
    a, classes = to_device(ops, np.ones((n, 33), dtype="float32"), "F"), to_device(ops, np.zeros(33, dtype=np.int64))
    total = to_device(ops, np.array([0]))
    with ops.active(), no_reading():
        ops.count_right(a, classes, total)


def test_the_watch_sees_who_reads(watched):
    ops, no_reading = watched
    x = to_device(ops, np.ones(1))
    with ops.active(), pytest.raises(AssertionError, match="device"), no_reading():
        float(x[0])


# -- The mini-batch -----------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
@few
@given(
    n=sizes, total=st.integers(1, 50), m=sizes, scale=st.sampled_from([1.0, 1 / 255, -2.5]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_gather(backend, dtype, source, n, total, m, scale, seed):
    rng = np.random.default_rng(seed)
    x = (rng.random((total, n)) * 255).astype(source)
    index = rng.integers(0, total, m)  # repeats rows, too
    with backend.active():
        out = fresh(backend, (m, n), dtype).T  # as the algorithm has it: each example contiguous
        device_x = backend.asarray(x)
        result = backend.gather(device_x, backend.asarray(index), out=out, scale=scale)
        assert result is out
        np.testing.assert_array_equal(backend.to_numpy(device_x), x)
    check(backend, out, scale * x.astype(np.float64)[index].T, dtype, scale=255 * abs(scale))


def test_gather_unscaled_is_exact(backend):
    x = np.arange(256, dtype=np.uint8).reshape(64, 4)
    with backend.active():
        out = backend.empty((64, 4), "float32").T
        backend.gather(backend.asarray(x), backend.asarray(np.arange(64)[::-1].copy()), out=out)
        np.testing.assert_array_equal(backend.to_numpy(out), x[::-1].T.astype(np.float32))


def test_scratch_is_not_shared_between_dtypes(backend):
    """uint8 and float32 data of one shape one after the other, as inputs and targets come."""
    with backend.active():
        index = backend.asarray(np.arange(3))
        for dtype in ("uint8", "float64", "uint8", "float32"):
            x = (np.arange(12).reshape(3, 4) + 200).astype(dtype)
            out = backend.empty((3, 4), "float32").T
            backend.gather(backend.asarray(x), index, out=out)
            np.testing.assert_array_equal(backend.to_numpy(out), x.T)
