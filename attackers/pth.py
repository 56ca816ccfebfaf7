"""Base of attackers whose weights are a published file of torch tensors (`.pth`, `.ckpt`, `.pt`)."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from iddmbench.attacker import NetworkAttacker
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.pth_face import PthFace


class PthAttacker(NetworkAttacker):
    """A subclass says which network its `file` holds, by `what` and `body`, and what differs from the usual."""

    dim = 512
    what: ClassVar[str]
    """The network in words, for messages."""
    side: ClassVar[int] = 112
    """Of the aligned crops, in pixels."""
    template: ClassVar[np.ndarray] = ARCFACE_112
    bgr: ClassVar[bool] = False
    """Whether the network takes the channels in the order B, G, R."""
    prefix: ClassVar[str] = ""
    """Of the tensors' names in the file; tensors without it are left out."""
    network_type: ClassVar[type[PthFace]] = PthFace

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> nn.Module:
        """The network, with random weights, for a file's tensors."""
        raise NotImplementedError

    @staticmethod
    def renamed(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The file's tensors under the network's names."""
        return state

    def load(self) -> PthFace:
        return self.network_type(
            self.name,
            self.what,
            self.weights_path(),
            self.weights_hash(),
            self.side,
            self.template,
            self.body,
            self.bgr,
            self.prefix,
            self.renamed,
        )
