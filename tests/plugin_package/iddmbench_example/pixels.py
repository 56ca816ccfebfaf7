import hashlib

import cv2
import numpy as np
from pydantic import Field

from iddmbench.attacker import Attacker, AttackerOptions
from iddmbench.faces.detect import YuNet
from iddmbench.photos.references import face_square, resize
from iddmbench.types import Embeddings


class PixelsOptions(AttackerOptions):
    frame: float = Field(1.6, ge=1, le=3, description="side of the compared square, in sides of the face's box")


class Pixels(Attacker):
    """The gray values of the face, 16 x 16: a weak system, but a complete one."""

    name, title, dim = "my-pixels", "gray values of the face", 256
    licence, source = "none", "none"
    Options = PixelsOptions

    def _embed(self, images, faces):
        faces = faces or YuNet().detect(images)
        vectors = np.zeros((len(images), self.dim), np.float32)
        for i in np.flatnonzero(faces.found):
            face = cv2.cvtColor(
                resize(face_square(images[i], faces.boxes[i], self.options.frame), 16), cv2.COLOR_RGB2GRAY
            )
            v = face.ravel() - face.mean()
            vectors[i] = v / np.linalg.norm(v)
        return Embeddings(vectors, faces.found.copy())

    def fingerprint(self) -> str:
        """Changes whenever an image could get another embedding: raise the number with the code."""
        return hashlib.sha256(f"my-pixels 1 {YuNet().fingerprint()}".encode()).hexdigest()
