"""FaceRes: the MobileNet that the npm project human uses, trained on VGGFace2."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets.faceres import FaceRes
from iddmbench.weights import WeightFile

PACKAGE = "https://registry.npmjs.org/@vladmandic/human/-/human-3.3.6.tgz"
LICENCE = "MIT; VGGFace2's own terms"
NUMBERS = WeightFile(
    "faceres.bin",
    PACKAGE,
    LICENCE,
    "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b",
    "faceres.bin",
)


class FaceResAttacker(NetworkAttacker):
    """MobileNet-v1 with heads for age and sex (Savchenko, HSE_FaceRec_tf)."""

    name = "faceres"
    title = "FaceRes MobileNet-v1, VGGFace2 (1024-D, with age and sex)"
    trained_on_datasets = ("vggface2",)
    dim = 1024
    licence = LICENCE
    source = "npm @vladmandic/human 3.3.6, models/faceres.json and .bin"
    file = WeightFile(
        "faceres.json",
        PACKAGE,
        LICENCE,
        "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df",
        "faceres.json",
        28_615_417,
        (NUMBERS,),
    )

    def load(self) -> FaceRes:
        return FaceRes(self.weights_path())

    def network(self) -> FaceRes:
        network = super().network()
        assert isinstance(network, FaceRes)
        return network

    def weights_hash(self) -> str:
        return self._network.weights_sha256
