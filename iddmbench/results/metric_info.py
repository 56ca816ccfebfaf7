"""What each figure of the summary table is called, which way it points and what it says, in plain words."""

from dataclasses import dataclass
from typing import Literal

JUDGE = "efficientnet_lite2"
"""The network in whose features realism, closeness, FID and KID are measured. Held out: no shipped defense or base
optimizes it."""
FID, KID, CLOSENESS = f"fid_{JUDGE}", f"kid_{JUDGE}", f"closeness_{JUDGE}"
REALISM, ERASED = f"realism_{JUDGE}", f"closeness_erased_{JUDGE}"
JUDGED = (FID, KID, CLOSENESS, REALISM, ERASED)
USABLE, KEPT_LOOK = "usable", "kept_look"
KEPT = ("kept_age", "kept_sex")
KEPT_UNMEASURED = "kept age and sex are not measured"
"""How the note of a run begins that says why."""
UNMEASURED = "not measured: "
"""How the note begins that names the metrics of optional judges whose weights are absent (iddmbench/judges/)."""
INDEX, INDEX_WITH_KEPT = "utility_index", "utility_index_with_age_sex"
INDEX_VERSION = 2
"""Of what the utility index is made of. 1: geometric mean of faces found, SER-FIQ, raw closeness (floor: un-personalized) and
adherence. Raised when the same images get another index; indices of two versions are never compared."""
COMPONENTS = (USABLE, REALISM, KEPT_LOOK, "adherence")
"""What the utility index is made of."""


UNIT = (INDEX, INDEX_WITH_KEPT, *COMPONENTS, "face_detection_rate", "ser_fiq", CLOSENESS, ERASED, *KEPT)
"""Utility figures on a scale up to 1, higher being better: what the trade-off may have across."""


AXES = {"realism": REALISM, "closeness": CLOSENESS, "closeness_erased": ERASED}
"""Short names of them, without the network."""


@dataclass(frozen=True)
class Metric:
    """One metric as reports show it.

    Attributes:
        name: as in the summary table's `metric` column.
        title: heading.
        kind: "privacy" figures belong to an attacker, "utility" figures do not.
        better: direction, from the point of view of the person who is to be protected and the owner of the images.
        share: True for a rate in [0, 1], shown in per cent.
        meaning: one sentence.
    """

    name: str
    title: str
    kind: Literal["privacy", "utility"]
    better: Literal["higher", "lower"]
    share: bool
    meaning: str


METRICS = (
    Metric("r1u", "R1-U", "privacy", "higher", True, "images not linked at rank 1 (1 - rank-1 hits)"),
    Metric("psr@1e-2", "PSR @ FAR 1e-2", "privacy", "higher", True, "images not matched to the person at FAR 1 %"),
    Metric("psr@1e-3", "PSR @ FAR 1e-3", "privacy", "higher", True, "images not matched to the person at FAR 0.1 %"),
    Metric("r5u", "R5-U", "privacy", "higher", True, "images whose person is not among the first five candidates"),
    Metric("rank1_hit", "Rank-1 hits", "privacy", "lower", True, "images whose first candidate is the right person"),
    Metric("rank5_hit", "Rank-5 hits", "privacy", "lower", True, "images with the person among five candidates"),
    Metric(
        "match_rate@1e-2", "Matches @ FAR 1e-2", "privacy", "lower", True, "images matched to the person at FAR 1 %"
    ),
    Metric("match_rate@1e-3", "Matches @ FAR 1e-3", "privacy", "lower", True, "images matched at FAR 0.1 %"),
    Metric("r1u@4posts", "R1-U, 4 posts", "privacy", "higher", True, "feeds of 4 posts, fused, not linked at rank 1"),
    Metric(
        "r1u@16posts", "R1-U, 16 posts", "privacy", "higher", True, "feeds of 16 posts, fused, not linked at rank 1"
    ),
    Metric("rank1_hit@4posts", "Rank-1 hits, 4 posts", "privacy", "lower", True, "feeds of 4 posts linked at rank 1"),
    Metric(
        "rank1_hit@16posts", "Rank-1 hits, 16 posts", "privacy", "lower", True, "feeds of 16 posts linked at rank 1"
    ),
    Metric(
        "fnir@5e-2",
        "FNIR @ FPIR 5e-2",
        "privacy",
        "higher",
        True,
        "images not identified where 5 % of strangers would be",
    ),
    Metric("tpir@5e-2", "TPIR @ FPIR 5e-2", "privacy", "lower", True, "images identified, open set"),
    Metric("r1t", "R1-T", "privacy", "higher", True, "images linked to the decoy identity at rank 1"),
    Metric("ism", "ISM", "privacy", "lower", False, "mean cosine to the person's enrolment template"),
    Metric(
        "eer", "EER", "privacy", "higher", True, "error rate where false accepts equal false rejects; 50 % is chance"
    ),
    Metric("auc", "AUC", "privacy", "lower", False, "area under the ROC curve; 0.5 is chance"),
    Metric("d_prime", "d'", "privacy", "lower", False, "distance of mated and non-mated scores in standard deviations"),
    Metric("d_sys", "D_sys", "privacy", "lower", False, "linkability of the scores, 0 (none) to 1 (total)"),
    Metric("fta", "FTA", "privacy", "lower", True, "images in which the attacker finds no face"),
    Metric("face_detection_rate", "Faces found", "utility", "higher", True, "images in which a face is found"),
    Metric(
        USABLE,
        "Usable images",
        "utility",
        "higher",
        True,
        "images with a face and a realism of at least 1/2",
    ),
    Metric(
        REALISM,
        "Realism (EfficientNet-Lite2)",
        "utility",
        "higher",
        False,
        "nearness to real photos of other people; 1: as near as these are to each other",
    ),
    Metric(
        KEPT_LOOK,
        "Kept look",
        "utility",
        "higher",
        False,
        "likeness in light, hair, glasses, beard and backdrop; 0 is a stranger's, 1 the references' own",
    ),
    Metric("ser_fiq", "SER-FIQ", "utility", "higher", False, "face image quality, by the stability of embeddings"),
    Metric("brisque", "BRISQUE", "utility", "lower", False, "distortion without a reference image"),
    Metric(
        "denoising_error",
        "Denoising error",
        "utility",
        "lower",
        False,
        "how strange the images are to the base; 1: as photos are. Lines and patches raise it, smooth pictures lower it",
    ),
    Metric(FID, "FID (EfficientNet-Lite2)", "utility", "lower", False, "distance to the photos"),
    Metric(KID, "KID (EfficientNet-Lite2)", "utility", "lower", False, "unbiased distance to them"),
    Metric(
        CLOSENESS,
        "Closeness (EfficientNet-Lite2)",
        "utility",
        "higher",
        False,
        "mean cosine of features of outputs and references",
    ),
    Metric(
        ERASED,
        "Closeness, LEACE (EfficientNet-Lite2)",
        "utility",
        "higher",
        False,
        "cosine with the references after what tells the public people apart was erased linearly",
    ),
    Metric("adherence", "Prompt adherence", "utility", "higher", True, "images that show what the prompt asks for"),
    Metric(
        "kept_age", "Kept age", "utility", "higher", True, "images whose age reads within 5 years of the references'"
    ),
    Metric("kept_sex", "Kept sex", "utility", "higher", True, "images whose sex reads as the references' does"),
    Metric(
        "photo_linf", "Photo change", "utility", "lower", False, "largest change of a reference photo, of 255 levels"
    ),
    Metric("photo_psnr", "Photo PSNR", "utility", "higher", False, "of the protected reference photos, in dB"),
    Metric("photo_ssim", "Photo SSIM", "utility", "higher", False, "of the protected reference photos"),
    Metric("photo_lpips", "Photo LPIPS", "utility", "lower", False, "of the protected reference photos (AlexNet)"),
    Metric("fid_inception", "FID (Inception)", "utility", "lower", False, "distance to the photos, as pytorch-fid's"),
    Metric("kid_inception", "KID (Inception)", "utility", "lower", False, "unbiased distance to them"),
    Metric("clip_score", "CLIP score", "utility", "higher", False, "cosine of image and prompt (ViT-B/32)"),
    Metric("clip_i", "CLIP-I", "utility", "higher", False, "mean cosine with the references (ViT-B/32)"),
    Metric("dino", "DINO", "utility", "higher", False, "mean cosine with the references (ViT-S/16)"),
    Metric(
        "fdfr_anti_dreambooth",
        "FDFR (Anti-DreamBooth)",
        "utility",
        "lower",
        True,
        "images in which RetinaFace finds no face, by prompt, then averaged",
    ),
    Metric(
        "ism_anti_dreambooth",
        "ISM (Anti-DreamBooth)",
        "utility",
        "lower",
        False,
        "ArcFace cosine with the mean of the clean photos, by prompt, then averaged",
    ),
    Metric(
        "utility_index",
        "Utility index",
        "utility",
        "higher",
        False,
        "harmonic mean of the components, from a floor (0) to undefended (1)",
    ),
    Metric(
        INDEX_WITH_KEPT,
        "Index with age and sex",
        "utility",
        "higher",
        False,
        "as the utility index, with kept age and kept sex among its components",
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def metric(name: str) -> Metric:
    """The entry of that name; an unknown one (from a later version) is shown under its own name, as a plain number."""
    return BY_NAME.get(name) or Metric(name, name, "privacy", "higher", False, "")
