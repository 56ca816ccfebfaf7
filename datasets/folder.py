"""Your own photos: ROOT/NAME/*.jpg and any other format, one folder per person; or tables with a column of images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.paths import readable, user_path
from iddmbench.photos.dataset import FaceDataset
from iddmbench.photos.files import Encoded, files_below, folders, people_below, shown_name, usable_photo
from iddmbench.photos.hub_data import address, download, on_hub
from iddmbench.photos.left_out import left_out_line, reasons
from iddmbench.photos.tables import read_tables, table_files
from iddmbench.seeds import Seeds
from iddmbench.types import FaceData, Photo, Skipped, Subject

T = TypeVar("T")
ROLES = {
    "references": "references",
    "reference": "references",
    "enrolment": "enrolment",
    "enrollment": "enrolment",
    "surrogate": "surrogate",
}
"""Sub-folders of a person's folder that set the split explicitly."""
SPLITS = {"train", "test", "validation", "val", "valid"}
"""Folders between the root and the people's, as datasets on the hub have them."""


class Folder(FaceDataset):
    """Every folder below ROOT is one person, with all photos in it and its sub-folders; people with enough photos are subjects.

    Args:
        root: folder with one folder per person; a parquet file or a folder of them, with a column of images and one that says
            who is on each; a folder that Hugging Face's `datasets` saved; or hf://OWNER/NAME, such a dataset on the hub.
        references: photos per person used to personalize the model.
        enrolment: minimum photos per person left for the linker's gallery.
        seed: of the draw that splits a person's photos into references and enrolment, and of that of `people`.
        people: at most so many people, drawn by their names; 0 for all.
        image, person: of tables, the column of images and the one that names the person; found by type and name where there
            is no doubt. split: of a dataset with several, the one to use; by default all.

    If a person's folder contains folders named references and enrolment, they set the split, whatever the options say; a folder
    named surrogate may hold extra clean photos for defenses on the photos.

    A photo is usable if it can be read and shows at least one face. Photos are rotated
    upright by their EXIF orientation. Distractors and calibration impostors are ORL's public people, as for `orl`, so that
    thresholds do not depend on how many people the folder holds.
    """

    name = "folder"
    title = "your photos: ROOT/NAME/*.jpg and other formats"
    licence = "your own"
    layouts = (
        "ROOT/NAME/*.jpg: all photos of a person, sub-folders included; references are drawn, the rest are enrolled",
        "ROOT/NAME/references/*.jpg and ROOT/NAME/enrolment/*.jpg: you decide (and surrogate/, for defenses that take it)",
        "ROOT/*.parquet, or a folder saved by Hugging Face's datasets: a column of images, and one that names the person",
        "hf://OWNER/NAME[@REVISION] as ROOT: such a dataset on Hugging Face's hub",
    )

    def __init__(
        self,
        root: str | Path = "",
        references: int = 4,
        enrolment: int = 2,
        seed: int = 0,
        people: int = 0,
        image: str = "",
        person: str = "",
        split: str = "",
    ):
        if not root:
            raise UserError("dataset 'folder' needs --root, a folder that holds one folder of photos per person")
        if references < 1 or enrolment < 1:
            raise UserError("dataset 'folder': references and enrolment must be at least 1")
        if people < 0:
            raise UserError("dataset 'folder': people must be at least 1, or 0 for all")
        self.remote = address(root) if on_hub(root) else ""
        self.root, self.references, self.enrolment, self.seed = user_path(root), references, enrolment, seed
        self.people, self.image, self.person, self.split = people, image, person, split

    def load(self) -> FaceData:
        from iddmbench.datasets.orl import ORL

        root = download(self.remote) if self.remote else self.root
        tables = table_files(root) if root.exists() else []
        found, skipped = self._in_tables(tables) if tables else self._in_folders(root)
        subjects = [one for one in found if isinstance(one, Subject)]
        skipped += [one for one in found if isinstance(one, Skipped)]
        if not subjects:
            raise UserError(f"no person in {self.remote or root} has enough photos. {left_out_line(skipped)}")
        return FaceData(self.name, tuple(subjects), ORL().load().public, tuple(skipped))

    def _in_folders(self, root: Path) -> tuple[list[Subject | Skipped], list[Skipped]]:
        if not root.is_dir():
            raise UserError(f"--root {root} is not a folder")
        if self.image or self.person:
            raise UserError(f"--data image and person are for tables, and {self.remote or root} holds none")
        root = self._below_splits(root)
        people, skipped = people_below(root)
        if not people:
            raise UserError(f"{root} holds no folders: put each person's photos into one, {root}/NAME/*.jpg")
        detector = YuNet()
        chosen, found = self._drawn({person.name: person for person in people}), []
        for person in chosen.values():
            one, left = self._person(person, detector)
            found.append(one)
            skipped += left
        return found, skipped

    def _below_splits(self, root: Path) -> Path:
        """The folder of the people's folders: of one split, where there are splits."""
        names = {folder.name for folder in folders(root)}
        if self.split:
            if self.split not in names:
                raise UserError(
                    f"--data split={self.split}: there is no such folder, but {', '.join(sorted(names)) or 'none'}"
                )
            return root / self.split
        if not self.remote or not names or not names <= SPLITS:
            return root
        if len(names) > 1:
            raise UserError(
                f"{self.remote} has the splits {', '.join(sorted(names))}: choose one with --data split=NAME"
            )
        return root / names.pop()

    def _in_tables(self, tables: Sequence[Path]) -> tuple[list[Subject | Skipped], list[Skipped]]:
        rows = read_tables(tables, self.image, self.person, self.split)
        enough = {
            name: photos for name, photos in sorted(rows.items()) if len(photos) >= self.references + self.enrolment
        }
        found: list[Subject | Skipped] = [
            Skipped(name, self._too_few(len(photos), [])) for name, photos in sorted(rows.items()) if name not in enough
        ]
        detector, skipped = YuNet(), list[Skipped]()
        for name, photos in self._drawn(enough).items():
            usable, left = _usable_of([(photo, shown) for shown, photo in photos], detector)
            skipped += left
            if len(usable) < self.references + self.enrolment:
                found.append(Skipped(name, self._too_few(len(usable), left)))
            else:
                found.append(self._split(name, usable))
        return found, skipped

    def _drawn(self, people: Mapping[str, T]) -> dict[str, T]:
        """`people` of them, by name. A person's place in the draw follows from seed and name alone."""
        order = sorted(people, key=lambda name: Seeds(self.seed).child("people", readable(name)).value())
        chosen = set(order[: self.people or None])
        return {name: one for name, one in people.items() if name in chosen}

    def _person(self, folder: Path, detector: YuNet) -> tuple[Subject | Skipped, list[Skipped]]:
        """One person, or why there is none of that name; and the photos that were left out."""
        name = readable(folder.name)
        try:
            inside = {ROLES[f.name.lower()]: f for f in folders(folder) if f.name.lower() in ROLES}
        except OSError as error:
            return Skipped(name, f"its folder can't be opened: {str(error.strerror).lower()}"), []
        if "references" in inside or "enrolment" in inside:
            return self._own_split(name, folder, inside, detector)
        photos, skipped = _usable(folder, name, detector)
        if len(photos) < self.references + self.enrolment:
            return Skipped(name, self._too_few(len(photos), skipped)), skipped
        return self._split(name, photos), skipped

    def _own_split(
        self, name: str, folder: Path, inside: dict[str, Path], detector: YuNet
    ) -> tuple[Subject | Skipped, list[Skipped]]:
        photos: dict[str, tuple[Photo, ...]] = {}
        beside, skipped = files_below(folder, name)
        chosen = tuple(inside.values())
        loose = [p for p in beside if not any(p.is_relative_to(one) for one in chosen)]
        in_roles = tuple(f"{name}/{readable(one.name)}/" for one in chosen)
        skipped = [one for one in skipped if not one.name.startswith(in_roles)]
        if loose:
            reason = "is outside the person's references and enrolment folders: move it into one of them"
            skipped += [Skipped(shown_name(p, folder, name), reason) for p in loose]
        for role, place in inside.items():
            found, left = _usable(place, f"{name}/{readable(place.name)}", detector)
            photos[role] = tuple(found)
            skipped += left
        for role in ("references", "enrolment"):
            if role not in photos:
                other = "enrolment" if role == "references" else "references"
                return Skipped(name, f"it has a folder {other} and none named {role}: give both, or neither"), skipped
            if not photos[role]:
                return Skipped(name, f"no usable photo in its folder {role}{_most(skipped)}"), skipped
        return Subject(name, photos["references"], photos["enrolment"], photos.get("surrogate", ())), skipped

    def _too_few(self, count: int, skipped: Sequence[Skipped]) -> str:
        """How many there are and are needed, and which option makes do with them."""
        needed = self.references + self.enrolment
        text = f"{count} usable photos, {needed} needed ({self.references} references + {self.enrolment} enrolment)"
        text += _most(skipped)
        if count > self.enrolment:
            return f"{text}: --data references={count - self.enrolment}, or more photos"
        if count > 1:
            return f"{text}: --data references=1 --data enrolment={count - 1}, or more photos"
        return f"{text}: more photos"

    def _split(self, name: str, photos: list[Photo]) -> Subject:
        """A seeded split that depends on the identity's name and its photos' names only."""
        order = Seeds(self.seed).child("split", name).numpy().permutation(len(photos))
        shuffled = [photos[i] for i in order]
        return Subject(name, tuple(shuffled[: self.references]), tuple(shuffled[self.references :]))


def _usable(folder: Path, name: str, detector: YuNet) -> tuple[list[Photo], list[Skipped]]:
    """The photos below a folder that can be used, and what is left out."""
    files, skipped = files_below(folder, name)
    photos, left = _usable_of([(path, shown_name(path, folder, name)) for path in files], detector)
    return photos, skipped + left


def _usable_of(files: Sequence[tuple[Path | Encoded, str]], detector: YuNet) -> tuple[list[Photo], list[Skipped]]:
    """Of photos with their names."""
    photos: list[Photo] = []
    skipped: list[Skipped] = []
    for path, name in files:
        entry = usable_photo(path, name, detector)
        if isinstance(entry, Photo):
            photos.append(entry)
        else:
            skipped.append(entry)
    return photos, skipped


def _most(skipped: Sequence[Skipped]) -> str:
    """Why most of a person's photos were left out."""
    if not skipped:
        return ""
    reason, count = reasons(skipped)[0]
    return f"; {count} left out ({reason})"
