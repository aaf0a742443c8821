"""A table's columns in an ONNX graph: standardised and one-hot as `Preprocessing` does it, and predictions named."""

from __future__ import annotations

import numpy as np

from gpunet.encodings import Classes, Numbers
from gpunet.errors import InputError
from gpunet.interop.onnx_graph import Graph
from gpunet.network import Network
from gpunet.preprocessing import Preprocessing


def preprocessing(net: Network) -> Preprocessing | None:
    """Return the preprocessing in a network's metadata, if it has one.

    Raises
    ------
    FileFormatError
        If it is damaged, or for another network.
    InputError
        If it is for another task.
    """
    prepared = Preprocessing.of_model(net.metadata, net.sizes)
    if prepared is not None and prepared.target is not None and prepared.task != net.task:
        raise InputError(f"metadata['preprocessing'] is for {prepared.task}, the network for {net.task}.")
    return prepared


def inputs(g: Graph, prepared: Preprocessing, dtype: str) -> str:
    """Append the columns as inputs, and what makes the network's inputs of them; return the name of the latter.

    Numbers are standardised in float64, as `Preprocessing.inputs` does it: float32 would lose what is small beside
    the mean.
    """
    pieces: list[str] = []
    mean: list[float] = []
    std: list[float] = []
    for i, column in enumerate(prepared.columns):
        if isinstance(column, Numbers):
            piece = g.input(column.name, dtype, 1)
            mean, std = [*mean, column.mean], [*std, column.std]
        else:
            categories = g.text(f"table.categories.{i}", np.array([column.categories], dtype=object))
            piece = g.op("Equal", g.input(column.name, "str", 1), categories)
            mean, std = [*mean, *[0.0] * len(column.categories)], [*std, *[1.0] * len(column.categories)]
        pieces.append(g.op("Cast", piece, to=g.type_of("float64")))
    x = g.op("Sub", g.op("Concat", *pieces, axis=1), g.constant("table.mean", np.array([mean])))
    x = g.op("Div", x, g.constant("table.std", np.array([std])))
    if prepared.missing == "fill":
        x = g.op("Where", g.op("IsNaN", x), g.constant("table.missing", np.array(0.0)), x)
    return g.op("Cast", x, to=g.type_of(g.dtype))


def prediction(g: Graph, prepared: Preprocessing) -> None:
    """Append what the outputs predict, in the target's own terms."""
    target = prepared.target
    if isinstance(target, Classes):
        g.op("Gather", g.text("table.classes", np.array(target.classes, dtype=object)), "label", axis=0)
        g.output("prediction", "str")
    elif isinstance(target, Numbers):
        scaled = g.op(
            "Mul", g.op("Cast", "outputs", to=g.type_of("float64")), g.constant("table.unit", np.array(target.std))
        )
        shifted = g.op("Add", scaled, g.constant("table.origin", np.array(target.mean)))
        g.op("Squeeze", shifted, g.constant("axis.1", np.array([1], np.int64)))
        g.output("prediction", "float64")
