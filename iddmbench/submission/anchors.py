"""The trusted anchors: which bundle they are, and what makes two submissions comparable."""

from pathlib import Path

import numpy as np

from iddmbench.errors import UserError
from iddmbench.results.metric_info import INDEX_VERSION, JUDGE
from iddmbench.store.cache import digest
from iddmbench.submission.read import Bundle, open_bundle
from iddmbench.submission.schema import Submission

ANCHOR_GRAY = 1.5
"""Mean gray-level difference up to which a bundle's anchor images are those of the trusted anchors."""


def setting_of(meta: Submission) -> str:
    """Hash of what an undefended model depends on, but for subject and seed: protocol and personalization, and how
    the photos were purified."""
    parts = {"protocol": meta.protocol.model_dump(), "lora": meta.run.lora_settings, "by": meta.run.personalizer}
    own = {"purify": meta.run.purify or None, "precision": None if meta.run.precision == "fp32" else meta.run.precision}
    return digest(parts | {key: value for key, value in own.items() if value})


def track_of(meta: Submission) -> str:
    """What must agree for two submissions to be compared: protocol (photos, prompts, sampling, base), personalization, who
    personalizes, subjects, seeds, the network that judges utility, and the version of the utility index."""
    parts = {
        "judge": JUDGE,
        "utility index": INDEX_VERSION,
        "setting": setting_of(meta),
        "subjects": sorted(meta.run.subjects),
        "seeds": sorted(meta.run.seeds),
    }
    parts |= {"threat": meta.run.threat, "purify": meta.run.purify}
    return f"{meta.run.dataset}-{meta.run.base}-{len(meta.run.subjects)}-{digest(parts)[:12]}"


def find_anchors(folder: Path | None, meta: Submission) -> Bundle | None:
    """The trusted bundle of the same setting; of several, the first that covers the submission's subjects and seeds.

    Utility is relative to the anchors: a submitter's own could be bad on purpose. Raises UserError when there is no such
    folder.
    """
    if folder is None:
        return None
    if not folder.is_dir():
        raise UserError(f"no such folder of anchors: {folder}")
    bundles = map(open_bundle, sorted(folder.glob("*.zip")))
    found = [b for b in bundles if b.meta.defense == "none" and setting_of(b.meta) == setting_of(meta)]
    return next((b for b in found if covers(b.meta, meta)), found[0] if found else None)


def covers(anchors: Submission, meta: Submission) -> bool:
    held = {(c.defense, c.subject, c.seed) for c in anchors.cells if c.status == "ok" and c.strength is None}
    return all((a, s, d) in held for a in ("none", "generic") for s in meta.run.subjects for d in meta.run.seeds)


def anchor_notes(bundle: Bundle, trusted: Bundle | None, side: int) -> list[str]:
    own = [c for c in bundle.meta.cells if c.strength is None and c.status == "ok"]
    if trusted is None:
        return (
            ["there are no trusted anchors for these subjects and seeds: utility rests on the submitter's own"]
            if own
            else []
        )
    theirs = {(c.defense, c.subject, c.seed): c for c in trusted.meta.cells if c.status == "ok"}
    other = []
    for cell in own:
        pair = theirs.get((cell.defense, cell.subject, cell.seed))
        if pair is not None:
            images = [x.astype(int) for x in (bundle.images(cell, side), trusted.images(pair, side))]
            if float(np.median(np.abs(images[0] - images[1]).mean((1, 2, 3)))) > ANCHOR_GRAY:
                other.append(f"{cell.defense} {cell.subject}")
    if not other:
        return []
    return [
        f"the bundle's anchors are not the trusted ones ({len(other)} of {len(own)} cells, first {other[0]}); those were used"
    ]
