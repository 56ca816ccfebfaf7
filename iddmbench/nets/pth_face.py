"""A recognition network of torch modules here, with the weights of a published file."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from iddmbench.nets.face_net import FaceNet
from iddmbench.nets.pth_file import fill, read_state

DIM = 512


def _same(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return state


class PthFace(FaceNet):
    """A network whose input is (x - 0.5) / 0.5 of crops in [0, 1] (`FaceNet`).

    Args:
        name, size, template: as `FaceNet` has them; what: the network in words, for messages.
        path: the file of its weights; weights_sha256: of it.
        body: makes the network of the file's tensors, which may tell one variant from another.
        bgr: it takes the channels in the order B, G, R.
        prefix: of the tensors' names in the file (`read_state`). renamed: turns the file's names into the network's.

    Raises UserError when the file does not hold exactly this network's weights.
    """

    dim = DIM

    def __init__(
        self,
        name: str,
        what: str,
        path: Path,
        weights_sha256: str,
        size: int,
        template: np.ndarray,
        body: Callable[[Mapping[str, Tensor]], nn.Module],
        bgr: bool = False,
        prefix: str = "",
        renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = _same,
    ):
        super().__init__()
        self.name, self.size, self.template, self.bgr = name, size, template, bgr
        self.weights_sha256 = weights_sha256
        state = renamed(read_state(path, prefix))
        self.body = body(state)
        fill(self.body, state, path, what)
        self.freeze()

    def features(self, crops: Tensor) -> Tensor:
        return self.body(((crops.flip(1) if self.bgr else crops) - 0.5) / 0.5)
