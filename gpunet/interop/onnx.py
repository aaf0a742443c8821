"""To ONNX: a file that onnxruntime, TensorRT, OpenVINO and others run without gpunet."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import architecture, checks, model_file, optional
from gpunet.activations import Activation, Mixed
from gpunet.errors import InputError
from gpunet.interop import onnx_table, parts
from gpunet.interop.onnx_graph import Graph
from gpunet.network import Network
from gpunet.version import __version__

#: The first with Gelu; onnxruntime has it from 1.17 on, and float64 without gaps from 1.18 on.
OPSET = 20
IR_VERSION = 9

INPUT_DTYPES = ("float32", "float64", "uint8")

#: protobuf, which ONNX files are made of, has no larger message.
_LARGEST_FILE = 2**31 - 1


def _elu(g: Graph, z: str) -> str:
    below = g.op("Sub", g.op("Exp", g.op("Min", z, g.number(0.0))), g.number(1.0))
    return g.op("Where", g.op("Less", z, g.number(0.0)), below, z)


def _gelu(g: Graph, z: str) -> str:
    """Return z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))."""
    cube = g.op("Mul", g.op("Mul", z, z), z)
    inner = g.op("Add", z, g.op("Mul", cube, g.number(0.044715)))
    share = g.op("Add", g.op("Tanh", g.op("Mul", inner, g.number(math.sqrt(2 / math.pi)))), g.number(1.0))
    return g.op("Mul", g.op("Mul", z, share), g.number(0.5))


def _silu(g: Graph, z: str) -> str:
    """Return z (tanh(z/2)/2 + 1/2); of z sigmoid(z) some onnxruntimes make an operator that they lack in float64."""
    half = g.number(0.5)
    return g.op("Mul", z, g.op("Add", g.op("Mul", g.op("Tanh", g.op("Mul", z, half)), half), half))


def _softplus(g: Graph, z: str) -> str:
    """Return max(z, 0) + ln(1 + exp(-|z|)), which does not overflow."""
    smaller = g.op("Exp", g.op("Neg", g.op("Abs", z)))
    return g.op("Add", g.op("Max", z, g.number(0.0)), g.op("Log", g.op("Add", smaller, g.number(1.0))))


def _hard_sigmoid(g: Graph, z: str) -> str:
    line = g.op("Add", g.op("Div", z, g.number(6.0)), g.number(0.5))
    return g.op("Clip", line, g.number(0.0), g.number(1.0))


Builder = Callable[..., str]

#: From the name of z, and an activation's constants by their names, to that of a. Rows are examples. The node that
#: has the result is the last one that each appends.
OPERATORS: dict[str, Builder] = {
    "sigmoid": lambda g, z: g.op("Sigmoid", z),
    "tanh": lambda g, z: g.op("Tanh", z),
    "relu": lambda g, z: g.op("Relu", z),
    "linear": lambda g, z: g.op("Identity", z),
    "softmax": lambda g, z: g.op("Softmax", z, axis=1),
    "leaky_relu": lambda g, z, alpha=0.01: g.op("LeakyRelu", z, alpha=alpha),
    "elu": lambda g, z: g.op("Elu", z, alpha=1.0),
    "gelu": lambda g, z: g.op("Gelu", z, approximate="tanh"),
    "silu": lambda g, z: g.op("Mul", z, g.op("Sigmoid", z)),
    "softplus": lambda g, z: g.op("Softplus", z),
    "hard_sigmoid": lambda g, z: g.op("HardSigmoid", z, alpha=1 / 6, beta=0.5),
    "exp": lambda g, z: g.op("Exp", g.op("Min", z, g.number(80.0))),
}

#: The same for float64, where onnxruntime lacks the one above: of operators that it has in float64 too.
IN_FLOAT64: dict[str, Builder] = {
    "leaky_relu": lambda g, z, alpha=0.01: g.op("Max", z, g.op("Mul", z, g.number(alpha))),
    "elu": _elu,
    "gelu": _gelu,
    "silu": _silu,
    "softplus": _softplus,
    "hard_sigmoid": _hard_sigmoid,
}


def to_onnx(
    net: Network, path: str | os.PathLike[str], *, dtype: str | None = None, input_dtype: str | None = None
) -> None:
    """Write a network as an ONNX file, operator set 20.

    Its input is "inputs", rows of shape (N, n_in) for any N, as they are given to `Network.outputs`: the network's
    `input_scale` is applied inside. Its outputs are "outputs", (N, n_out), and for classification "label", the
    indices of the classes as int64, (N,), as `Network.predict` returns them. The file's metadata have each entry of
    ``net.metadata`` as JSON, such as the names of the classes. The file appears whole or not at all; an existing one
    is replaced.

    A network with ``metadata["preprocessing"]``, such as `gpunet train` makes of a table, has the table's columns as
    inputs instead, by their names: numbers (N, 1) of `input_dtype` as they stand in the table, and texts (N, 1). It
    has one more output, "prediction" (N,): the class's name, or the number in the target's own unit as float64.

    Parameters
    ----------
    net : Network
    path : path
    dtype : {"float32", "float64"}, optional
        In which the file's graph computes. By default that of the network.
    input_dtype : {"float32", "float64", "uint8"}, optional
        Of "inputs", which are converted to `dtype` inside. By default it is `dtype`, for a table's numbers "float64".
        "uint8" is for a network of images that are sent as bytes.

    Raises
    ------
    MissingPackageError
        If onnx is not installed.
    InputError
        If an activation is not a built-in one, the parameters are not finite or too large for `dtype`, a column has a
        name that no input can have, or the file would be larger than 2 GiB.
    FileFormatError
        If the metadata's preprocessing is damaged.
    OSError
        If the file can not be written.

    Examples
    --------
    >>> net = Network([784, 30, 10], device="cpu", input_scale=1 / 255)
    >>> to_onnx(net, "digits.onnx", input_dtype="uint8")  # doctest: +SKIP
    """
    onnx = optional.library("onnx", "an ONNX file", "gpunet[onnx]")
    layers = parts.layers(net)
    dtype = net.dtype if dtype is None else architecture.dtype_name(dtype)
    prepared = onnx_table.preprocessing(net)
    if input_dtype is None:
        input_dtype = dtype if prepared is None else "float64"
    checks.one_of(input_dtype, INPUT_DTYPES if prepared is None else ("float32", "float64"), "input_dtype")
    size = sum(w.size + b.size for w, b in layers) * np.dtype(dtype).itemsize
    if size > 0.99 * _LARGEST_FILE:  # names and shapes take a little
        raise InputError(f"the network's parameters take {size / 2**30:.2f} GiB; an ONNX file holds less than 2.")

    g = Graph(onnx, dtype)
    if prepared is None:
        a = g.input("inputs", input_dtype, net.sizes[0])
        if input_dtype != dtype:
            a = g.op("Cast", a, to=g.type_of(dtype))
    else:
        a = onnx_table.inputs(g, prepared, input_dtype)
    if net.input_scale != 1.0:
        a = g.op("Mul", a, g.constant("input_scale", np.array(net.input_scale, dtype)))
    for l, ((w, b), f) in enumerate(zip(layers, net.activations, strict=True), start=1):
        weights = g.constant(f"weights.{l}", _cast(w, dtype, f"weights.{l}"))
        biases = g.constant(f"biases.{l}", _cast(b, dtype, f"biases.{l}"))
        g.op("Gemm", a, weights, biases, transB=1)
        z = g.name_last(f"z.{l}")
        _activate(g, f, z, len(b), l)
        a = g.name_last(f"a.{l}")
    g.output("outputs", dtype, net.sizes[-1])
    if net.task == "classification":
        _label(g, net.sizes[-1])
    if prepared is not None:
        onnx_table.prediction(g, prepared)
        g.check_input_names()

    graph = onnx.helper.make_graph(g.nodes, "network", g.inputs, g.outputs, list(g.constants.values()))
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="gpunet",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(model, parts.metadata_texts(net))
    model_file.replace_file(Path(path), model.SerializeToString())


def _activate(g: Graph, f: Activation, z: str, n: int, l: int) -> None:
    """Append a = f(z) for layer l of n neurons; its last node has the result."""
    if not isinstance(f, Mixed):
        builder = parts.counterpart(f, OPERATORS, "ONNX")
        if g.dtype == "float64" and f.name in IN_FLOAT64:
            builder = IN_FLOAT64[f.name]
        builder(g, z, **f.parameters)
        return
    _activate(g, f.default, z, n, l)
    a = g.nodes[-1].output[0]
    for own in dict.fromkeys(f.neurons.values()):
        chosen = np.array([f.neurons.get(j) is own for j in range(n)])
        _activate(g, own, z, n, l)
        a = g.op("Where", g.constant(f"neurons.{l}.{len(g.nodes)}", chosen), g.nodes[-1].output[0], a)


def _label(g: Graph, n_out: int) -> None:
    """Append the class of each row: the largest output's index; of a single output, whether it exceeds 1/2."""
    if n_out > 1:
        g.op("ArgMax", "outputs", axis=1, keepdims=0)
    else:
        exceeds = g.op("Greater", "outputs", g.number(0.5))
        g.op("Squeeze", g.op("Cast", exceeds, to=g.type_of("int64")), g.constant("axis.1", np.array([1], np.int64)))
    g.output("label", "int64")


def _cast(array: npt.NDArray[Any], dtype: str, name: str) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if not np.isfinite(converted).all():
        raise InputError(f"{name} has values that {dtype} can not hold.")
    return converted
