import hashlib

import torch
import torch.nn.functional as F

from iddmbench.attacker import NetworkAttacker
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_net import FaceNet


class EdgeNet(FaceNet):
    """Aligned crops in, vectors out; detection, alignment, batches and unit length are taken care of."""

    name = "my-edges"
    size = 112  # side of the square crop in pixels
    template = ARCFACE_112  # [5, 2]: where eyes, nose tip and corners of the mouth lie in it
    dim = 2 * 12 * 12

    def __init__(self):
        super().__init__()
        # With weights: self.load_state_dict(safetensors.torch.load_file(path)), and the hash of that file.
        self.weights_sha256 = hashlib.sha256(b"my-edges 1").hexdigest()
        self.freeze()  # always last: no gradients for weights, evaluation mode

    def features(self, crops):
        """float [N, dim] of crops float [N, 3, size, size], RGB in [0, 1]; in torch, so that gradients pass."""
        gray = F.avg_pool2d(crops.mean(1, keepdim=True), 4)
        dx, dy = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2], gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
        edges = F.interpolate(torch.cat((dx, dy), 1), (12, 12), mode="bilinear", align_corners=False)
        return (edges / (edges.abs() + 0.02)).flatten(1)


class Edges(NetworkAttacker):
    """Directions of edges in the aligned face: no training, no weights."""

    name, title, dim = "my-edges", "edges of the aligned face", EdgeNet.dim
    licence, source = "none", "computed"

    def load(self):
        return EdgeNet()

    def weights_hash(self):
        return self._network.weights_sha256

    def available(self):
        return None
