from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.photos.dataset import FaceDataset
from iddmbench.types import FaceData, Person, Subject


class People(FaceDataset):
    """Six people of ORL in another split."""

    name = "my-orl"
    title = "six people of ORL"
    licence = "as ORL"

    def __init__(self, references: int = 3):
        if not 1 <= references <= 9:
            raise UserError(f"dataset 'my-orl': references={references} is outside 1..9")
        self.references = references

    def load(self) -> FaceData:
        subjects = [self._subject(person) for person in range(35, 41)]
        public = [Person(f"s{p}", tuple(photo(p, k) for k in range(1, 11))) for p in range(1, 21)]
        return FaceData(self.name, tuple(subjects), tuple(public))

    def _subject(self, person: int) -> Subject:
        photos = [photo(person, k) for k in range(1, 11)]
        return Subject(f"s{person}", tuple(photos[: self.references]), tuple(photos[self.references :]))
