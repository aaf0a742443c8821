"""An ONNX graph that is being built, node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.errors import InputError


class Graph:
    """Nodes and constants of an ONNX graph that is being built; tensors are named by strings."""

    def __init__(self, onnx: Any, dtype: str) -> None:
        self._onnx = onnx
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def input(self, name: str, dtype: str, *columns: int) -> str:
        """Declare an input of N rows; return its name. The dtype "str" is text."""
        self.inputs.append(self._rows(name, dtype, columns))
        return name

    def output(self, name: str, dtype: str, *columns: int) -> None:
        """Declare an output of N rows: the result of the last node, which gets this name."""
        self.name_last(name)
        self.outputs.append(self._rows(name, dtype, columns))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its result."""
        name = f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    def check_input_names(self) -> None:
        """Refuse inputs that have no name, or that of something else in the graph.

        Raises
        ------
        InputError
        """
        taken = {"", *self.constants, *(node.output[0] for node in self.nodes)}
        for entry in self.inputs:
            if entry.name in taken:
                raise InputError(
                    f"the column {entry.name!r} can not be an input by that name; rename it in the table."
                )

    def text(self, name: str, values: npt.NDArray[Any]) -> str:
        """Keep an array of text in the graph and return its name."""
        encoded = [value.encode() for value in values.ravel()]
        string = self._onnx.TensorProto.STRING
        self.constants[name] = self._onnx.helper.make_tensor(name, string, values.shape, encoded)
        return name

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Keep an array in the graph and return its name."""
        self.constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def number(self, value: float) -> str:
        """Return the name of a constant of the graph's dtype."""
        return self.constant(f"number.{value!r}", np.array(value, self.dtype))

    def name_last(self, name: str) -> str:
        """Give the result of the last node a name of its own."""
        self.nodes[-1].output[0] = name
        return name

    def type_of(self, dtype: str) -> int:
        """Return ONNX's number for a dtype."""
        if dtype == "str":
            return int(self._onnx.TensorProto.STRING)
        return int(self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def _rows(self, name: str, dtype: str, columns: tuple[int, ...]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self.type_of(dtype), ["N", *columns])
