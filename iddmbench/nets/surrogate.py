"""A recognition network as a defense uses it: differentiable from the image to the embedding."""

import hashlib
from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from iddmbench.errors import UserError
from iddmbench.faces.align import crop, similarity
from iddmbench.faces.detect import Detector, Faces, YuNet
from iddmbench.nets.face_net import FaceNet


class Surrogate(nn.Module):
    """A network, and the crop in front of it, with landmarks that stay fixed while the image is optimized.

    Args:
        network: what embeds the crops.
        detector: finds the landmarks in `prepare`; YuNet by default. Detection itself is not differentiated.
    """

    def __init__(self, network: FaceNet, detector: Detector | None = None):
        super().__init__()
        self.network = network
        self.detector = detector or YuNet()
        self._kept: dict[str, Tensor] = {}

    @property
    def name(self) -> str:
        return self.network.name

    @property
    def dim(self) -> int:
        return self.network.dim

    def prepare(self, images: Sequence[np.ndarray] | np.ndarray, faces: Faces | None = None) -> Tensor:
        """Crop matrices float32 [N, 2, 3], image to crop pixels, for `embed`.

        Args:
            images: uint8 [H, W, 3] RGB, any sizes.
            faces: their faces, if they are known already (they do not depend on the network, so several surrogates
                share them).

        Raises UserError that lists the images in which no face was found: a defense has nothing to hide there. Whoever
        expects such images calls `detector.detect` first and passes on those with `found`.
        """
        faces = self.detector.detect(images) if faces is None else faces
        if len(faces) != len(images):
            raise ValueError(f"{len(images)} images, but faces of {len(faces)}")
        if not faces.found.all():
            missing = ", ".join(str(index) for index in np.flatnonzero(~faces.found))
            raise UserError(
                f"no face found in image {missing} (counted from 0) of {len(faces)}: leave out or replace it"
            )
        return torch.from_numpy(similarity(faces.landmarks, self.network.template))

    def embed(self, images: Tensor, matrices: Tensor) -> Tensor:
        """Unit vectors [N, dim], differentiable in the images.

        Args:
            images: float [N, 3, H, W], RGB in [0, 1], of the size that `prepare` saw.
            matrices: [N, 2, 3] from `prepare`; [1, 2, 3] serves all images.
        """
        return self.network(crop(images, matrices.expand(len(images), -1, -1), self.network.size))

    forward = embed

    @torch.no_grad()
    def template(self, images: Sequence[np.ndarray] | np.ndarray, faces: Faces | None = None) -> Tensor:
        """The mean of the images' unit vectors, scaled to unit length: [dim], one identity's clean template.

        Images may differ in size. Raises UserError as `prepare` does.
        """
        matrices = self.prepare(images, faces)
        device = next(chain(self.network.parameters(), self.network.buffers())).device
        vectors = [
            self.embed(torch.tensor(image).to(device).permute(2, 0, 1)[None].float() / 255, matrix[None])
            for image, matrix in zip(images, matrices, strict=True)
        ]
        return nn.functional.normalize(torch.cat(vectors).mean(0), dim=0)

    def each_template(self, photos: Sequence[np.ndarray]) -> Tensor:
        """`template` of every photo alone: [N, dim]. Kept in memory, as all models of a run look at the same public people.

        Raises UserError as `prepare` does.
        """
        names = [hashlib.sha256(f"{photo.shape}".encode() + photo.tobytes()).hexdigest() for photo in photos]
        for name, photo in zip(names, photos, strict=True):
            if name not in self._kept:
                self._kept[name] = self.template([photo])
        return torch.stack([self._kept[name] for name in names])
