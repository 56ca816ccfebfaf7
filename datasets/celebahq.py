"""CelebA-HQ in Anti-DreamBooth's split: 50 people x 12 photos.

Karras, Aila, Laine and Lehtinen, "Progressive growing of GANs", ICLR 2018 (arXiv 1710.10196), after CelebA (arXiv 1411.7766);
the split: Le et al., "Anti-DreamBooth", ICCV 2023 (arXiv 2303.15433).
"""

from iddmbench.photos.set_folders import SetFolders


class CelebAHQ(SetFolders):
    """ROOT/NUMBER/set_A|set_B|set_C/*.png; IDDMBENCH_CELEBAHQ may name ROOT. 20 of 50 people are public (option public)."""

    name = "celebahq"
    title = "CelebA-HQ in Anti-DreamBooth's split: 50 people x 12 photos (your copy)"
    licence = "CelebA's terms: non-commercial research"
    variable = "IDDMBENCH_CELEBAHQ"
