"""Any recognition network in an ONNX file that follows ArcFace's convention: aligned 112 x 112 crops in, a vector out."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from iddmbench.errors import UserError, first_line
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.onnx_torch import OnnxGraph
from iddmbench.onnx_file import fold_constants, read_onnx
from iddmbench.wheel_files import sha256

SIDE = 112


class OnnxFace(FaceNet):
    """An ArcFace-convention ONNX file as a torch module (`FaceNet`).

    Plain convolutional graphs become torch modules and are differentiable; others run in onnxruntime, if that is
    installed, and are not.

    Args:
        path: the file; its input is [N, 3, 112, 112] (any of the sizes but 3 may be symbolic), its first output [N, D].
        bgr: the network takes the channels in the order B, G, R (AdaFace's own exports).
        raw: it takes values 0 to 255 instead of (x - 127.5) / 127.5. None: as the graph tells; one that starts with a
            subtraction and a multiplication scales its input itself (exports from MXNet, SFace).

    Raises UserError if the file is not such a network.
    """

    name, size, template = "onnx", SIDE, ARCFACE_112

    def __init__(self, path: Path, bgr: bool = False, raw: bool | None = None):
        super().__init__()
        model = read_onnx(path)
        self.weights_sha256 = sha256(path)
        values, nodes = _folded(model)
        read = {name for node in nodes for name in node.input} - set(values)  # some files list their weights as inputs
        inputs = [item for item in model.graph.input if item.name in read]
        if len(inputs) != 1:
            names = ", ".join(item.name for item in inputs) or "none"
            raise UserError(f"{path} has {len(inputs)} inputs ({names}); a face-recognition network has one")
        shape = _shape(inputs[0])
        if len(shape) != 4 or any(n not in (None, want) for n, want in zip(shape[1:], (3, SIDE, SIDE), strict=True)):
            given = " x ".join("N" if n is None else str(n) for n in shape) or "unknown"
            raise UserError(f"{path} takes an input of {given}; ArcFace's convention is N x 3 x {SIDE} x {SIDE}")
        self.bgr = bgr
        self.raw = {"Sub", "Mul"} <= {node.op_type for node in nodes[:8]} if raw is None else raw
        output = model.graph.output[0].name
        try:
            self.engine: nn.Module = _First(OnnxGraph(values, nodes, [inputs[0].name], [output]))
            self.differentiable = True
        except (UserError, ValueError, KeyError, IndexError, AttributeError) as error:
            if find_spec("onnxruntime") is None:
                raise UserError(f"{path}: {error}; onnxruntime may run it: pip install onnxruntime") from error
            self.engine = _Runtime(path, inputs[0].name, one_by_one=shape[0] == 1)
            self.differentiable = False
        with torch.no_grad():
            try:
                probe = self.features(torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                reason = first_line(error)
                raise UserError(f"{path} does not run on crops of {SIDE} x {SIDE}: {reason}") from error
        if probe.ndim != 2 or len(probe) != 2 or probe.shape[1] < 2:
            raise UserError(f"{path} returns {tuple(probe.shape)} for two faces; embeddings must be N x D")
        if not bool(torch.isfinite(probe).all()):
            raise UserError(f"{path} gives NaN or infinite values on random pixels: the file is damaged")
        self.dim = probe.shape[1]
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        x = crops.flip(1) if self.bgr else crops
        return self.engine(x * 255 if self.raw else x * 2 - 1)


def _folded(model: onnx.ModelProto) -> tuple[dict[str, np.ndarray], list[onnx.NodeProto]]:
    """`fold_constants`; where that fails on a kind of constant that it does not know, initializers and nodes as they are."""
    try:
        return fold_constants(model)
    except (ValueError, KeyError, TypeError):
        return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}, list(model.graph.node)


class _First(nn.Module):
    """The first of several outputs."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[0]


class _Runtime(nn.Module):
    """onnxruntime behind a module's face; on the CPU, without gradients."""

    def __init__(self, path: Path, source: str, one_by_one: bool):
        super().__init__()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base but this
            reason = first_line(error)
            raise UserError(f"{path} can't be loaded by onnxruntime: {reason}") from error
        self.source, self.one_by_one = source, one_by_one

    def forward(self, x: Tensor) -> Tensor:
        array = x.detach().cpu().numpy().astype(np.float32)
        parts = np.split(array, len(array)) if self.one_by_one else [array]
        try:
            found = [self.session.run(None, {self.source: np.ascontiguousarray(part)})[0] for part in parts]
        except Exception as error:
            raise ValueError(str(error).strip()) from error
        return torch.from_numpy(np.concatenate(found)).to(x.device)


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    """Sizes of a graph's input; None where symbolic or not said."""
    return [
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in value.type.tensor_type.shape.dim
    ]
