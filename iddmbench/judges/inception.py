"""Inception-v3 of FID: pytorch-fid's network and weights, which are those of the first FID code."""

from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import nn

from iddmbench.errors import UserError, first_line
from iddmbench.judges.base import Judge, Scene, pixels
from iddmbench.weights import WeightFile

_BUILDING = Lock()


class Inception(Judge):
    """Features of the last average pooling, 2048 numbers. Images are resized to 299 x 299 as pytorch-fid does, without
    antialiasing."""

    name = "inception"
    measures = "FID and KID on Inception"
    metrics = ("fid_inception", "kid_inception")
    package, extra = ("pytorch_fid", "pytorch-fid"), "fid"
    files = (
        WeightFile(
            "pt_inception-2015-12-05-6726825d.pth",
            "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
            "Apache-2.0 (pytorch-fid; TensorFlow's Inception)",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            bytes=95_628_359,
        ),
    )

    @cached_property
    def _network(self) -> nn.Module:
        from pytorch_fid import inception

        (path,) = self.paths()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            with (
                _BUILDING
            ):  # its builder downloads the weights: it is given ours, checked and read without pickled code
                download, inception.load_state_dict_from_url = (
                    inception.load_state_dict_from_url,
                    lambda *_, **__: state,
                )
                try:
                    network: Any = inception.InceptionV3()
                finally:
                    inception.load_state_dict_from_url = download
        except Exception as error:  # torch raises half a dozen kinds for damaged files
            raise UserError(f"{path} is not a state dict of pytorch-fid's Inception: {first_line(error)}") from error
        return network.eval().to(self.device)

    def features(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 [N, 2048] of uint8 [H, W, 3], any sizes."""
        with torch.inference_mode():
            found = [self._network(pixels([image]).to(self.device))[0][:, :, 0, 0].cpu().numpy() for image in images]
        return np.concatenate(found) if found else np.zeros((0, 2048), np.float32)

    def judge(self, scene: Scene) -> dict[str, np.ndarray]:
        return {"inception": self.features(scene.images), "inception_real": self.features(list(scene.references))}
