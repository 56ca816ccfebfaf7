"""FDFR and ISM as Anti-DreamBooth measures them: RetinaFace and ArcFace, both through deepface's own pipeline."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from iddmbench.errors import UserError, first_line
from iddmbench.judges.base import Judge, Scene
from iddmbench.metrics.anti_dreambooth import clean_embedding, match_scores
from iddmbench.weights import WeightFile, weights_folder

RELEASE = "https://github.com/serengil/deepface_models/releases/download/v1.0"


class FdfrAndIsm(Judge):
    """An image's face is the largest that RetinaFace finds; a clean photo's the first that it reports, as in the script.

    The script ran deepface on TensorFlow; this runs deepface's PyTorch networks, which were converted from the same weights.
    """

    name = "anti-dreambooth"
    measures = "FDFR and ISM as in Anti-DreamBooth"
    metrics = ("fdfr_anti_dreambooth", "ism_anti_dreambooth")
    package, extra = ("deepface", "deepface"), "deepface"
    files = tuple(
        WeightFile(file, f"{RELEASE}/{file}", "MIT (deepface); the training data's own terms")
        for file in ("arcface_weights.pth", "retinaface.pth")
    )

    def faces(self, image: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Area in pixels and embedding float [512] of each face in uint8 [H, W, 3], as deepface orders them."""
        self._settle()
        from deepface import DeepFace
        from deepface.modules.exceptions import FaceNotDetected

        try:
            found = DeepFace.represent(
                img_path=np.ascontiguousarray(image[:, :, ::-1]),
                model_name="ArcFace",
                detector_backend="retinaface",
                enforce_detection=True,
                align=True,
            )
        except FaceNotDetected:
            return []
        except Exception as error:  # of a package that others write
            raise UserError(f"deepface failed on an image: {first_line(error)}") from error
        area = [face["facial_area"]["w"] * face["facial_area"]["h"] for face in found]
        return [(size, np.asarray(face["embedding"])) for size, face in zip(area, found, strict=True)]

    def _settle(self) -> None:
        """Deepface looks for weights in a folder of its own and would download them: it finds the checked ones there."""
        home = weights_folder() / "deepface-home"
        folder = home / ".deepface" / "weights"
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.paths():
            if not (folder / path.name).exists():
                _link(path, folder / path.name)
        os.environ["DEEPFACE_HOME"] = str(home)
        os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "pytorch")

    def judge(self, scene: Scene) -> dict[str, np.ndarray]:
        clean = clean_embedding([_first(self.faces(image)) for image in [*scene.references, *scene.clean]])
        faces = [largest(self.faces(image)) for image in scene.images]
        lost = np.array([float(face is None) for face in faces])
        return {"fdfr_anti_dreambooth": lost, "ism_anti_dreambooth": match_scores(faces, clean)}


def largest(faces: Sequence[tuple[int, np.ndarray]]) -> np.ndarray | None:
    """The embedding of the face with the largest box, the first of equal ones; None where there is none."""
    return max(faces, key=lambda face: face[0])[1] if faces else None


def _first(faces: Sequence[tuple[int, np.ndarray]]) -> np.ndarray | None:
    return faces[0][1] if faces else None


def _link(source: Path, target: Path) -> None:
    try:
        target.symlink_to(source.resolve())
    except OSError:  # no links on this file system
        shutil.copyfile(source, target)
