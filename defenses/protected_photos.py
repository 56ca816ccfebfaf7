"""Already protected photos, from any tool, instead of the references; the tool's code is not needed."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field, model_validator

from iddmbench.defense import Defense, Workbench
from iddmbench.errors import UserError, did_you_mean, first_line
from iddmbench.faces.detect import Detector
from iddmbench.models.base import BaseModel
from iddmbench.paths import readable, user_path
from iddmbench.photos.files import folders, photo_files, read_photo
from iddmbench.photos.references import face_square, resize
from iddmbench.types import Subject


class ProtectedPhotos(Defense):
    """FOLDER/PERSON/*.png instead of the person's references: the same number, in the order of their file names.

    A photo of the base's size is used as is; any other is cropped around its face as references are. Photos are
    fixed, so there are no strengths between none (0) and theirs (1).
    """

    name = "protected-photos"
    title = "photos protected by somebody else"
    reruns = False

    # The path is not part of what a result depends on; the photos' content is.
    folder: str = Field("", exclude=True, description="folder of protected photos, PERSON/*.png|jpg; required")
    content: str = Field("", description="SHA-256 of the photos; computed, do not set")

    @model_validator(mode="before")
    @classmethod
    def _read_content(cls, given: Any) -> Any:
        """Raises UserError if the folder has no photos of people, or not the ones in `content`."""
        if not given.get("folder"):
            return given
        found = content_of(user_path(given["folder"]))
        if given.get("content", found) != found:
            raise UserError(f"the photos in {given['folder']} are not the ones this configuration was made with")
        return {**given, "content": found}

    def check(self, subjects: Sequence[Subject]) -> None:
        """Raises UserError if a person has no photos, or not as many as references."""
        if self.strength not in (0, 1):
            raise UserError("defense 'protected-photos' takes photos as they are: give --strength 1")
        for subject in subjects:
            self._files(subject.name, len(subject.references))

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        if self.strength == 0:
            return references
        files = self._files(bench.subject, len(references))
        if content_of(user_path(self.folder)) != self.content:
            raise UserError(f"the photos in {self.folder} have changed since the run began")
        photos = np.stack([_fitted(file, bench.base, bench.detector) for file in files])
        if bench.base.recipe.grayscale:
            gray = np.stack([cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY) for photo in photos])
            photos = np.repeat(gray[..., None], 3, axis=3)
        return photos

    def _files(self, person: str, count: int) -> list[Path]:
        if not self.folder:
            raise UserError("defense 'protected-photos' needs --set folder=DIR, with DIR/PERSON/*.png")
        where = user_path(self.folder)
        found = next((folder for folder in folders(where) if readable(folder.name) == person), None)
        if found is None:
            raise UserError(
                f"{where} has no folder of protected photos for '{person}': {did_you_mean(person, people(where))}"
            )
        files = photo_files(found)
        if len(files) != count:
            raise UserError(
                f"{found} holds {len(files)} photos, but {person} has {count} references: give the same number"
            )
        return files


def people(folder: Path) -> list[str]:
    return [readable(path.name) for path in folders(folder)]


def content_of(folder: Path) -> str:
    """SHA-256 over every person, file name and file. Raises UserError when there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give one with PERSON/*.png of protected photos")
    digest, count = hashlib.sha256(), 0
    for person in folders(folder):
        for file in photo_files(person):
            digest.update(os.fsencode(f"{person.name}/{file.name}\n"))
            digest.update(hashlib.sha256(file.read_bytes()).digest())
            count += 1
    if not count:
        raise UserError(f"{folder} holds no protected photos: they are expected as PERSON/*.png")
    return digest.hexdigest()


def _fitted(file: Path, base: BaseModel, detector: Detector) -> np.ndarray:
    """uint8 [S, S, 3] of a photo, S the base's image side; one of that size is taken as it is."""
    side = base.side
    try:
        photo = read_photo(file)
    except (OSError, ValueError) as error:
        raise UserError(f"protected photo {file} can't be read: {first_line(error)}") from error
    if photo.shape[:2] == (side, side):
        return photo
    faces = detector.detect([photo])
    if not faces.found[0]:
        raise UserError(f"no face found in protected photo {file}: crop it to {side} x {side} pixels yourself")
    return resize(face_square(photo, faces.boxes[0], base.recipe.frame), side)
