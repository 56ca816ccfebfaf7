"""Your own photos: ROOT/IDENTITY/*.jpg|png, one folder per person."""

from pathlib import Path

from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.photos.dataset import FaceDataset
from iddmbench.photos.files import folders, photo_files, usable_photo
from iddmbench.seeds import Seeds
from iddmbench.types import FaceData, Photo, Skipped, Subject


class Folder(FaceDataset):
    """Every identity folder with enough usable photos is a subject; the rest is listed as skipped.

    Args:
        root: folder of identity folders.
        references: photos per subject that personalize the model.
        enrolment: fewest photos per subject left for the linker's gallery.
        seed: of the split into references and enrolment.

    A photo is usable when it can be read and exactly what the protocol needs is on it: at least one face. Photos are turned
    upright by their EXIF orientation. Distractors and calibration impostors are ORL's public people, as for `orl`, so that
    thresholds do not depend on how many people the folder holds.
    """

    name = "folder"
    title = "your photos: ROOT/IDENTITY/*.jpg|png"
    licence = "your own"

    def __init__(self, root: str | Path = "", references: int = 4, enrolment: int = 2, seed: int = 0):
        if not root:
            raise UserError("dataset 'folder' needs --root, a folder that holds one folder of photos per person")
        if references < 1 or enrolment < 1:
            raise UserError("dataset 'folder': references and enrolment must be at least 1")
        self.root, self.references, self.enrolment, self.seed = Path(root), references, enrolment, seed

    def load(self) -> FaceData:
        from iddmbench.datasets.orl import ORL

        if not self.root.is_dir():
            raise UserError(f"--root {self.root} is not a folder")
        people = folders(self.root)
        if not people:
            raise UserError(f"{self.root} holds no folders: put each person's photos into one, {self.root}/NAME/*.jpg")
        detector = YuNet()
        skipped: list[Skipped] = []
        subjects: list[Subject] = []
        for person in people:
            photos: list[Photo] = []
            for path in photo_files(person):
                entry = usable_photo(path, f"{person.name}/{path.name}", detector)
                if isinstance(entry, Photo):
                    photos.append(entry)
                else:
                    skipped.append(entry)
            needed = self.references + self.enrolment
            if len(photos) < needed:
                reason = f"{len(photos)} usable photos, {needed} needed ({self.references} + {self.enrolment})"
                skipped.append(Skipped(person.name, reason))
            else:
                subjects.append(self._split(person.name, photos))
        if not subjects:
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in skipped[-3:])
            raise UserError(f"no person in {self.root} has enough photos ({reasons})")
        return FaceData(self.name, tuple(subjects), ORL().load().public, tuple(skipped))

    def _split(self, name: str, photos: list[Photo]) -> Subject:
        """A seeded split that depends on the identity's name and its photos' names only."""
        order = Seeds(self.seed).child("split", name).numpy().permutation(len(photos))
        shuffled = [photos[i] for i in order]
        return Subject(name, tuple(shuffled[: self.references]), tuple(shuffled[self.references :]))
