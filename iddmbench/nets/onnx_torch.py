"""A small converter from ONNX to torch: plain convolutional graphs, weights kept as floats, differentiable.

Constants are folded by `iddmbench.onnx_file`, and a batch normalization behind a convolution is folded into it here.
Operators: https://onnx.ai/onnx/operators/
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.nets.prelu import FrozenPReLU
from iddmbench.onnx_file import node_attributes

Step = tuple[str, tuple[str, ...], str]
"""Name of the module, names of the inputs, name of the output."""


class OnnxGraph(nn.Module):
    """The nodes of an ONNX graph as torch modules, run in their order.

    Args:
        values, nodes: what `fold_constants` returns.
        inputs: names of the tensors that `forward` takes.
        outputs: names of the tensors that it returns.

    Dropout is the identity. Parameters need no gradient. Raises UserError for an operator, or a setting of one, that
    is not supported.
    """

    def __init__(
        self,
        values: Mapping[str, np.ndarray],
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ):
        super().__init__()
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.steps: list[Step] = []
        skip: set[int] = set()
        readers: dict[str, list[int]] = {}
        for index, node in enumerate(nodes):
            for name in node.input:
                readers.setdefault(name, []).append(index)
        for index, node in enumerate(nodes):
            if index in skip:
                continue
            module, output = _convert(node, values), node.output[0]
            following = readers.get(output, [])
            if isinstance(module, nn.Conv2d) and len(following) == 1 and output not in self.outputs:
                after = nodes[following[0]]
                if after.op_type == "BatchNormalization":
                    module, output = _fold_batch_norm(module, after, values), after.output[0]
                    skip.add(following[0])
            name = f"{len(self.steps)}_{node.op_type}"
            self.add_module(name, module)
            self.steps.append((name, tuple(i for i in node.input if i and i not in values), output))
        self._done = _last_reads(self.steps, self.outputs)
        self.eval().requires_grad_(False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors named `outputs`, from those named `inputs`. Each of the others is let go after its last use."""
        tensors = dict(zip(self.inputs, inputs, strict=True))
        modules = self._modules
        for (name, sources, target), done in zip(self.steps, self._done, strict=True):
            module = modules[name]
            assert module is not None
            tensors[target] = module(*(tensors[source] for source in sources))
            for source in done:
                del tensors[source]
        return tuple(tensors[name] for name in self.outputs)


def _last_reads(steps: Sequence[Step], outputs: Collection[str]) -> list[list[str]]:
    """For each step the tensors that nothing reads after it, and that are no outputs."""
    last = {source: index for index, (_, sources, _) in enumerate(steps) for source in sources}
    return [[s for s, at in last.items() if at == index and s not in outputs] for index in range(len(steps))]


def split_at(
    values: Mapping[str, np.ndarray], nodes: Sequence[onnx.NodeProto], op_type: str, source: str, target: str
) -> tuple[OnnxGraph, OnnxGraph, onnx.NodeProto]:
    """Cut a chain at its one node of `op_type`: the graph before it, the graph behind it, and that node.

    Raises UserError when there is not exactly one.
    """
    cuts = [index for index, node in enumerate(nodes) if node.op_type == op_type]
    if len(cuts) != 1:
        raise UserError(f"the ONNX model has {len(cuts)} {op_type} nodes; one is expected")
    cut = nodes[cuts[0]]
    before = OnnxGraph(values, nodes[: cuts[0]], [source], [cut.input[0]])
    behind = OnnxGraph(values, nodes[cuts[0] + 1 :], [cut.output[0]], [target])
    return before, behind, cut


class _Function(nn.Module):
    """An operator without weights."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class _Affine(nn.Module):
    """x * scale + shift with constants that broadcast."""

    def __init__(self, scale: Tensor, shift: Tensor):
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("scale") + self.get_buffer("shift")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(np.asarray(array, dtype=np.float32))


def _convert(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> nn.Module:
    """One node as a module that takes the node's inputs, less the constant ones."""
    kind, attributes = node.op_type, node_attributes(node)
    constants = [values.get(name) for name in node.input]

    def weight(index: int) -> np.ndarray:
        array = constants[index]
        if array is None:
            raise UserError(f"ONNX node {kind} '{node.output[0]}': input '{node.input[index]}' is not a constant")
        return array

    if kind == "Conv":
        return _conv(node, attributes, weight(1), weight(2) if len(node.input) > 2 else None)
    if kind == "Gemm":
        if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
            raise UserError(f"ONNX node Gemm '{node.output[0]}': transA, alpha and beta are not supported")
        matrix = weight(1) if attributes.get("transB", 0) else weight(1).T
        linear = nn.Linear(matrix.shape[1], matrix.shape[0], bias=len(node.input) > 2)
        linear.weight.data = _tensor(matrix)
        if len(node.input) > 2:
            linear.bias.data = _tensor(weight(2))
        return linear
    if kind == "BatchNormalization":
        scale, shift = _batch_norm(node, values)
        return _BatchNorm(scale, shift)
    if kind == "PRelu":
        prelu = FrozenPReLU(weight(1).size)
        prelu.weight.data = _tensor(weight(1)).flatten()
        return prelu
    if kind in ("Sub", "Mul", "Add") and constants[1] is not None:
        constant = _tensor(weight(1))
        if kind == "Mul":
            return _Affine(constant, torch.zeros(()))
        return _Affine(torch.ones(()), -constant if kind == "Sub" else constant)
    if kind == "Add":
        return _Function(torch.add)
    if kind in ("Dropout", "Identity"):
        return nn.Identity()
    if kind == "Relu":
        return nn.ReLU()
    if kind == "Sigmoid":
        return nn.Sigmoid()
    if kind == "Flatten":
        return nn.Flatten(attributes.get("axis", 1))
    if kind == "Transpose":
        order = list(attributes["perm"])
        return _Function(lambda x: x.permute(order))
    if kind == "Reshape":
        # a leading 1 is the batch size that the file was exported with
        shape = [int(n) for n in weight(1)]
        return _Function(lambda x: x.reshape(x.shape[0], *shape[1:]))
    if kind == "MaxPool":
        kernel, strides = tuple(attributes["kernel_shape"]), tuple(attributes["strides"])
        if any(attributes.get("pads", [])) or attributes.get("ceil_mode", 0):
            raise UserError(f"ONNX node MaxPool '{node.output[0]}': padding and ceil_mode are not supported")
        return nn.MaxPool2d(kernel, strides)
    if kind == "Resize":
        if attributes.get("mode") != b"nearest" or attributes.get("coordinate_transformation_mode") != b"asymmetric":
            raise UserError(f"ONNX node Resize '{node.output[0]}': only nearest, asymmetric is supported")
        return nn.Upsample(scale_factor=tuple(float(n) for n in weight(2)[2:]), mode="nearest")
    raise UserError(f"ONNX operator {kind} is not supported")


class _BatchNorm(_Affine):
    """Batch normalization at inference, over [N, C] or [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * self.get_buffer("scale").view(shape) + self.get_buffer("shift").view(shape)


def _conv(node: onnx.NodeProto, attributes: dict[str, Any], kernel: np.ndarray, bias: np.ndarray | None) -> nn.Conv2d:
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    if kernel.ndim != 4 or pads[:2] != pads[2:] or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise UserError(f"ONNX node Conv '{node.output[0]}': only 2-D with symmetric padding is supported")
    groups = attributes.get("group", 1)
    conv = nn.Conv2d(
        kernel.shape[1] * groups,
        kernel.shape[0],
        tuple(kernel.shape[2:]),
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=tuple(pads[:2]),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=groups,
    )
    conv.weight.data = _tensor(kernel)
    assert conv.bias is not None
    conv.bias.data = torch.zeros(kernel.shape[0]) if bias is None else _tensor(bias)
    return conv


def _batch_norm(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    gamma, beta, mean, variance = (values[name].astype(np.float64) for name in node.input[1:5])
    scale = gamma / np.sqrt(variance + node_attributes(node).get("epsilon", 1e-5))
    return _tensor(scale), _tensor(beta - mean * scale)


def _fold_batch_norm(conv: nn.Conv2d, node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> nn.Conv2d:
    scale, shift = _batch_norm(node, values)
    assert conv.bias is not None
    conv.weight.data = conv.weight.data * scale.view(-1, 1, 1, 1)
    conv.bias.data = conv.bias.data * scale + shift
    return conv
