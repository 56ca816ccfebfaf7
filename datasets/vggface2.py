"""VGGFace2 in Anti-DreamBooth's split: 50 people x 12 photos.

Cao, Shen, Xie, Parkhi and Zisserman, "VGGFace2: a dataset for recognising faces across pose and age", FG 2018 (arXiv
1710.08092); the split: Le et al., "Anti-DreamBooth", ICCV 2023 (arXiv 2303.15433).
"""

from iddmbench.photos.set_folders import SetFolders


class VGGFace2(SetFolders):
    """ROOT/n000050/set_A|set_B|set_C/*.png; ROOT defaults to IDDMBENCH_VGGFACE2. 20 of 50 people are public (option public)."""

    name = "vggface2"
    title = "VGGFace2 in Anti-DreamBooth's split: 50 people x 12 photos (your copy)"
    licence = "VGGFace2's own terms; the photos remain their owners'"
    variable = "IDDMBENCH_VGGFACE2"
