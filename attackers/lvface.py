"""LVFace (You et al., arXiv 2501.13420): a vision transformer trained on Glint360K."""

from collections.abc import Mapping

from torch import Tensor

from iddmbench.attackers.pth import PthAttacker
from iddmbench.nets.face_vit import FaceViT
from iddmbench.weights import WeightFile

FOLDER = "https://huggingface.co/bytedance-research/LVFace/resolve/main/LVFace-B_Glint360K"


class LVFace(PthAttacker):
    """LVFace-B: 24 blocks of width 512 over 144 patches."""

    name = "lvface"
    what = "LVFace-B"
    title = "LVFace-B vision transformer, Glint360K (512-D)"
    trained_on_datasets = ("glint360k",)
    licence = "non-commercial research only (LVFace)"
    source = "bytedance-research/LVFace on the Hugging Face hub, LVFace-B_Glint360K.pt"
    file = WeightFile("LVFace-B_Glint360K.pt", f"{FOLDER}/LVFace-B_Glint360K.pt", licence)

    @staticmethod
    def body(state: Mapping[str, Tensor]) -> FaceViT:
        return FaceViT(512, 24)
