"""Reading ONNX files: their weights as floats, and the nodes that remain to be computed.

Blockwise-quantized weights (DequantizeLinear, ONNX opset 21) are folded into floats once. Operators: https://onnx.ai/onnx/operators/
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from iddmbench.errors import UserError


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse a file. Raises UserError when it is absent or no ONNX model."""
    try:
        model = onnx.load(str(path))
    except Exception as error:  # onnx passes on protobuf's exceptions, which differ between its back ends
        raise UserError(f"{path} can't be read as an ONNX model: {error}") from error
    if not model.graph.node:
        raise UserError(f"{path} can't be read as an ONNX model: it has no nodes")
    return model


def fold_constants(model: onnx.ModelProto) -> tuple[dict[str, np.ndarray], list[onnx.NodeProto]]:
    """Weights by name, de-quantized and reshaped, and the nodes that remain, in order.

    The returned arrays include every initializer; a node whose inputs are all constant and whose type is Constant,
    DequantizeLinear, Reshape or Identity is computed here and leaves the list.
    """
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        known = all(name in values for name in node.input if name)
        if node.op_type == "Constant":
            values[node.output[0]] = numpy_helper.to_array(node_attributes(node)["value"])
        elif known and node.op_type == "DequantizeLinear":
            values[node.output[0]] = _dequantize(node, values)
        elif known and node.op_type == "Reshape":
            values[node.output[0]] = values[node.input[0]].reshape([int(n) for n in values[node.input[1]]])
        elif known and node.op_type == "Identity":
            values[node.output[0]] = values[node.input[0]]
        else:
            nodes.append(node)
    return values, nodes


def float_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with float weights and no quantization nodes, its inputs being only what is no weight."""
    values, nodes = fold_constants(model)
    used = {name for node in nodes for name in node.input if name in values}
    weights = [numpy_helper.from_array(np.ascontiguousarray(values[name]), name) for name in sorted(used)]
    inputs = [item for item in model.graph.input if item.name not in values]
    graph = onnx.helper.make_graph(nodes, model.graph.name or "network", inputs, list(model.graph.output), weights)
    return onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=8)


def node_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name, as Python values."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _dequantize(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """(x - zero_point) * scale, with one scale per tensor, per slice of an axis, or per block along an axis."""
    x, scale = values[node.input[0]], values[node.input[1]]
    zero = values[node.input[2]] if len(node.input) > 2 else np.zeros((), x.dtype)
    given = node_attributes(node)
    axis, block = given.get("axis", 1), given.get("block_size", 0)

    def spread(parameter: np.ndarray) -> np.ndarray:
        if block:
            repeated = np.repeat(parameter, block, axis)
            return np.take(repeated, np.arange(x.shape[axis]), axis)
        if parameter.ndim == 1 and x.ndim > 1:
            return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
        return parameter

    return (x.astype(np.float32) - spread(zero).astype(np.float32)) * spread(scale).astype(np.float32)
