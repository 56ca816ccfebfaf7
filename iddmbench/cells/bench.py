"""What a defense is given for a cell, and the part of the cell's keys that says so."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from torch import Tensor

from iddmbench.attacker import build_attacker
from iddmbench.cells.cell import Cell
from iddmbench.cells.crops import Crops
from iddmbench.defense import ExtraPhotos, Undeclared, Workbench
from iddmbench.errors import UserError
from iddmbench.models.recipe import TrainingSettings
from iddmbench.nets.surrogate import Surrogate
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.seeds import Seeds
from iddmbench.types import FaceData, Person, Photo

DECOY_PEOPLE = 5
STRANGERS = 64


class Benches:
    """Workbenches for one dataset and one base model; a defense finds on its own no more than it declares."""

    def __init__(self, crops: Crops, data: FaceData, lora: TrainingSettings, personalizer: Personalizer):
        self.crops, self.data, self.lora, self.personalizer = crops, data, lora, personalizer

    def of(self, cell: Cell, class_latents: Tensor, tick: Callable[[float], None]) -> Workbench:
        """The cell's; `tick` takes the share of the defense's work that is done.

        The workbench raises UserError for a surrogate, or photos, that the defense does not declare.
        """
        base, declared = self.crops.base, cell.defense.surrogates()

        def surrogate(name: str) -> Surrogate:
            if name not in declared:
                raise UserError(f"defense '{cell.defense.name}' asks for surrogate '{name}' but does not declare it")
            return load_surrogate(name, str(base.device))

        def wanted(field: ExtraPhotos, load: Callable[[], Any]) -> Any:
            return load() if field in cell.defense.extra_photos() else Undeclared(cell.defense.name, field)

        return Workbench(
            base=base,
            lora=self.lora,
            class_latents=class_latents,
            seeds=Seeds(cell.seed).child("defense", cell.subject.name),
            detector=self.crops.detector,
            surrogate=surrogate,
            surrogate_photos=wanted("surrogate_photos", lambda: self.crops.surrogate_photos(cell.subject)),
            decoys=wanted("decoys", lambda: [photo.image for photo in self._decoys(cell)]),
            strangers=wanted("strangers", lambda: [photo.image for photo in self._strangers]),
            tick=tick,
            subject=cell.subject.name,
            personalizer=self.personalizer,
        )

    def key(self, cell: Cell) -> dict[str, Any]:
        """The defense with its version and options, and the photos that it looks at besides the references."""
        defense = cell.defense
        key = {"name": defense.name, "version": defense.version, **defense.settings()}
        declared, photos = defense.extra_photos(), dict[str, Any]()
        if "decoys" in declared:
            photos["decoys"] = [photo.digest for photo in self._decoys(cell)]
        if "strangers" in declared:
            photos["strangers"] = [photo.digest for photo in self._strangers]
        if "surrogate_photos" in declared and cell.subject.surrogate and not defense.once:
            photos["surrogate_photos"] = self.crops.key(cell.subject.surrogate)
        return {**key, "extra photos": photos} if photos else key

    def decoy_people(self, cell: Cell) -> list[Person]:
        """The public people whose mean is the cell's decoy identity; at least three, so that it is nobody's."""
        people = sorted(self.data.public, key=lambda person: person.label)
        if len(people) < 3:
            raise UserError(f"dataset '{self.data.name}' has too few public people to pick a decoy identity")
        rng = Seeds(cell.seed).child("decoy", "" if cell.defense.once else cell.subject.name).numpy()
        return [people[i] for i in rng.permutation(len(people))[:DECOY_PEOPLE]]

    def _decoys(self, cell: Cell) -> list[Photo]:
        return [person.photos[0] for person in self.decoy_people(cell)]

    @cached_property
    def _strangers(self) -> list[Photo]:
        """One photo each of public people, the same for every cell."""
        people = sorted(self.data.public, key=lambda person: person.label)
        if len(people) < 3:
            raise UserError(f"dataset '{self.data.name}' has too few public people to tell what a stranger scores")
        chosen = Seeds(0).child("strangers").numpy().permutation(len(people))[:STRANGERS]
        return [people[i].photos[0] for i in sorted(chosen)]


@lru_cache(maxsize=8)
def load_surrogate(name: str, device: str) -> Surrogate:
    """The attacker's network with the crop in front of it. Raises UserError when it is not differentiable."""
    attacker = build_attacker(name)
    return Surrogate(attacker.network(), getattr(attacker, "detector", None)).to(device)
