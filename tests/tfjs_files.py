"""Small files of FaceRes's format, and an interpreter of such graphs in NumPy that knows nothing of FaceRes."""

import base64
import json
from pathlib import Path

import numpy as np

BLOCKS = 13
HALVED = (2, 4, 6, 12)
"""Blocks whose depthwise convolution has stride 2 (MobileNet-v1, Table 1 of arXiv 1704.04861)."""


def faceres_file(folder: Path, width: int = 8, dim: int = 1024, ages: int = 100, stride: int = 2) -> Path:
    """faceres.json and faceres.bin: FaceRes's graph with narrow layers and random weights in 16-bit floats."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    nodes: list[dict] = [{"name": "input_1", "op": "Placeholder"}]

    def node(name: str, op: str, *inputs: str, **attributes: object) -> str:
        nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def constant(name: str, array: np.ndarray) -> str:
        nodes.append({"name": name, "op": "Const"})
        weights[name] = array
        return name

    def drawn(name: str, *shape: int, scale: float = 1.0, mean: float = 0.0) -> str:
        return constant(name, rng.normal(mean, scale, shape))

    def convolution(op: str, name: str, source: str, kernel: str, step: int) -> str:
        text = {
            key: {"s": base64.b64encode(value).decode()}
            for key, value in (("padding", b"SAME"), ("data_format", b"NHWC"))
        }
        return node(name, op, source, kernel, strides={"list": {"i": ["1", str(step), str(step), "1"]}}, **text)

    def active(name: str, source: str) -> str:
        relu = node(f"{name}_relu/Relu", "Relu", source)
        six = constant(f"{name}_relu/Cast", np.array(6.0))
        return node(f"{name}_relu/clip", "Minimum", relu, six)

    def full(name: str, source: str, side: int, before: int, after: int, step: int) -> str:
        kernel = drawn(
            f"{name}/convolution/merged_input", side, side, before, after, scale=1.5 / np.sqrt(side**2 * before)
        )
        x = convolution("Conv2D", f"{name}_bn/batchnorm_1/mul_1", source, kernel, step)
        shift = drawn(f"{name}_bn/batchnorm_1/sub", after, scale=0.3, mean=0.5)
        return active(name, node(f"{name}_bn/batchnorm_1/add_1", "Add", x, shift))

    x = full("conv1", "input_1", 3, 3, width, stride)
    weights["conv1/convolution/merged_input"] /= 64  # pixels have values around 100
    for block in range(1, BLOCKS + 1):
        name = f"conv_dw_{block}"
        kernel = drawn(f"{name}/depthwise_kernel", 3, 3, width, 1, scale=0.4)
        x = convolution("DepthwiseConv2dNative", f"{name}/depthwise", x, kernel, 2 if block in HALVED else 1)
        x = node(
            f"{name}_bn/batchnorm_1/mul_1", "Mul", x, drawn(f"{name}_bn/batchnorm_1/mul", width, mean=1.0, scale=0.2)
        )
        x = node(
            f"{name}_bn/batchnorm_1/add_1", "Add", x, drawn(f"{name}_bn/batchnorm_1/sub", width, mean=0.3, scale=0.3)
        )
        x = full(f"conv_pw_{block}", active(name, x), 1, width, dim if block == BLOCKS else width, 1)
    weights["global_pooling/axes"] = np.array([1, 2], np.int32)
    x = node("global_pooling/Mean", "Mean", x, "global_pooling/axes")

    def linear(name: str, source: str, before: int, after: int, *fused: bytes) -> str:
        kernel = drawn(f"{name}/kernel", before, after, scale=2 / np.sqrt(before))
        operations = {"list": {"s": [base64.b64encode(op).decode() for op in (b"BiasAdd", *fused)]}}
        bias = drawn(f"{name}/bias", after, scale=0.1)
        return node(f"{name}/BiasAdd", "_FusedMatMul", source, kernel, bias, fused_ops=operations)

    hidden = linear("feats", x, dim, 16, b"Relu")
    node("age_pred/Softmax", "Softmax", linear("age_pred", hidden, 16, ages))
    node("gender_pred/Sigmoid", "Sigmoid", linear("gender_pred", hidden, 16, 1))
    return write(folder, nodes, weights)


def write(folder: Path, nodes: list[dict], weights: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    entries, parts = [], []
    for name, array in weights.items():
        entry = {"name": name, "shape": list(array.shape), "dtype": "int32" if array.dtype == np.int32 else "float32"}
        if array.dtype != np.int32:
            entry["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            array = array.astype("<f2")
        entries.append(entry)
        parts.append(array.tobytes())
    manifest = [{"paths": ["faceres.bin"], "weights": entries}]
    document = {"format": "graph-model", "modelTopology": {"node": nodes}, "weightsManifest": manifest}
    (folder / "faceres.bin").write_bytes(b"".join(parts))
    path = folder / "faceres.json"
    path.write_text(json.dumps(document))
    return path


def run_graph(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every node's output, for images float [N, H, W, 3] as the graph takes them; float64, read with json and NumPy alone."""
    document = json.loads(path.read_text())
    values: dict[str, np.ndarray] = {}
    for group in document["weightsManifest"]:
        data, start = b"".join((path.parent / name).read_bytes() for name in group["paths"]), 0
        for entry in group["weights"]:
            kind = "<f2" if "quantization" in entry else "<i4"
            count = int(np.prod(entry["shape"], dtype=int))
            array = np.frombuffer(data, kind, count, start).reshape(entry["shape"])
            values[entry["name"]] = array.astype(np.float64) if kind == "<f2" else array
            start += array.nbytes
    for node in document["modelTopology"]["node"]:
        if node["op"] != "Const":
            given = [values[name] for name in node.get("input", [])]
            values[node["name"]] = images if node["op"] == "Placeholder" else OPERATIONS[node["op"]](node, *given)
    return values


def _convolve(node: dict, x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """SAME padding; the sum over the kernel's places of shifted images."""
    step, side = int(node["attr"]["strides"]["list"]["i"][1]), kernel.shape[0]
    out = -(-x.shape[1] // step)
    total = max((out - 1) * step + side - x.shape[1], 0)
    pads = (total // 2, total - total // 2)
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)))
    result: np.ndarray = np.zeros(())
    for row in range(side):
        for column in range(side):
            seen = x[:, row : row + step * (out - 1) + 1 : step, column : column + step * (out - 1) + 1 : step]
            part = kernel[row, column]
            result = result + (seen @ part if node["op"] == "Conv2D" else seen * part[:, 0])
    return result


def _matmul(node: dict, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    fused = [base64.b64decode(name) for name in node["attr"]["fused_ops"]["list"]["s"]]
    assert fused in ([b"BiasAdd"], [b"BiasAdd", b"Relu"])
    return np.maximum(x @ kernel + bias, 0 if b"Relu" in fused else -np.inf)


def _softmax(node: dict, x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


OPERATIONS = {
    "Conv2D": _convolve,
    "DepthwiseConv2dNative": _convolve,
    "Add": lambda node, a, b: a + b,
    "Mul": lambda node, a, b: a * b,
    "Relu": lambda node, x: np.maximum(x, 0),
    "Minimum": lambda node, a, b: np.minimum(a, b),
    "Maximum": lambda node, a, b: np.maximum(a, b),
    "Mean": lambda node, x, axes: x.mean((1, 2)),
    "_FusedMatMul": _matmul,
    "Softmax": _softmax,
    "Sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
}
