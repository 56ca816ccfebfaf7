"""Age and sex of the faces in photos, as FaceRes reads them: for demographic tables and for filters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from iddmbench.faces.align import crop, similarity
from iddmbench.faces.detect import Detector, Faces, YuNet
from iddmbench.faces.images import rgb_images
from iddmbench.nets.faceres import FaceRes

BATCH = 8


@dataclass(frozen=True)
class AgeSex:
    """Of the largest face in each of N images; NaN where none was found.

    Attributes:
        age: float32 [N], years.
        female: float32 [N], probability in [0, 1].
    """

    age: np.ndarray
    female: np.ndarray


def age_and_sex(
    network: FaceRes,
    images: Sequence[np.ndarray] | np.ndarray,
    faces: Faces | None = None,
    detector: Detector | None = None,
) -> AgeSex:
    """Age and sex in images uint8 [H, W, 3] RGB, any sizes.

    Args:
        network: `build_attacker("faceres").network()`.
        faces: of the images, where they are known already.
        detector: finds them otherwise; YuNet by default.

    Raises TypeError or ValueError for other images (`rgb_images`), or faces of another number of images.
    """
    checked = rgb_images(images)
    if faces is None:
        faces = (detector or YuNet()).detect(checked)
    if len(faces) != len(checked):
        raise ValueError(f"{len(checked)} images, but faces of {len(faces)}")
    age, female = np.full((2, len(checked)), np.nan, np.float32)
    rows = np.flatnonzero(faces.found)
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        matrices = torch.from_numpy(similarity(faces.landmarks[part], network.template))
        with torch.inference_mode():
            pixels = [
                torch.from_numpy(np.ascontiguousarray(checked[i])).permute(2, 0, 1)[None].float() / 255 for i in part
            ]
            crops = [crop(p, m[None], network.size) for p, m in zip(pixels, matrices, strict=True)]
            found = network.attributes(torch.cat(crops))
        age[part], female[part] = found.age.numpy(), found.female.numpy()
    return AgeSex(age, female)
