"""LVFace (You et al., arXiv 2501.13420): a vision transformer trained on Glint360K."""

from iddmbench.attacker import NetworkAttacker
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_vit import FaceViT
from iddmbench.nets.pth_face import PthFace
from iddmbench.weights import WeightFile

FOLDER = "https://huggingface.co/bytedance-research/LVFace/resolve/main/LVFace-B_Glint360K"


class LVFace(NetworkAttacker):
    """LVFace-B: 24 blocks of width 512 over 144 patches."""

    name = "lvface"
    title = "LVFace-B vision transformer, Glint360K (512-D)"
    trained_on_datasets = ("glint360k",)
    dim = 512
    licence = "non-commercial research only (LVFace)"
    source = "bytedance-research/LVFace on the Hugging Face hub, LVFace-B_Glint360K.pt"
    file = WeightFile("LVFace-B_Glint360K.pt", f"{FOLDER}/LVFace-B_Glint360K.pt", licence)

    def load(self) -> PthFace:
        return PthFace(
            self.name,
            "LVFace-B",
            self.weights_path(),
            self.weights_hash(),
            112,
            ARCFACE_112,
            lambda state: FaceViT(512, 24),
        )
