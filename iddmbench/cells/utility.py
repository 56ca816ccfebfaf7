"""What a cell's images are worth: quality, closeness to the references, adherence to prompts, what they keep of a person."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iddmbench.cells.ages import AgeReader
from iddmbench.cells.cell import Outputs
from iddmbench.cells.crops import Crops
from iddmbench.cells.denoising import BaseErrors
from iddmbench.cells.judging import OptionalJudges
from iddmbench.cells.public import PublicPeople, chosen
from iddmbench.cells.versions import code
from iddmbench.faces.align import crop
from iddmbench.faces.look import LOOK, compared, looks
from iddmbench.judges.base import pixels
from iddmbench.metrics.adherence import adherence
from iddmbench.metrics.brisque import brisque
from iddmbench.metrics.kept import kept_age, kept_sex
from iddmbench.metrics.quality import ser_fiq
from iddmbench.metrics.utility import closeness
from iddmbench.nets.age_sex import AgeSex
from iddmbench.nets.efficientnet import HEAD, EfficientNetLite
from iddmbench.nets.sface import SFaceNet
from iddmbench.nets.surrogate import Surrogate
from iddmbench.photos.demographics import AGE, GROUPS, SEX, age_group
from iddmbench.seeds import Seeds
from iddmbench.store.cache import digest
from iddmbench.store.files import read_arrays, write_arrays
from iddmbench.types import FaceData, Subject

JUDGE_NUMBER = 2
"""EfficientNet-Lite2 judges realism, closeness, FID and KID (`iddmbench.results.metric_info.JUDGE`)."""
SER_FIQ_PASSES = 100
USABLE = 0.5
"""Least realism of a usable picture: twice as far from every real photo as photos of different people are from one another."""
AT_ONCE = 16
"""Images whose features are in memory together."""
FACES_AT_ONCE = 256
"""Four times what a cell has by default; the memory of larger ones does not grow with their images."""
UNKNOWN_VALUES = ("ser_fiq", "brisque", "closeness", "adherence", "realism", "kept_look", "closeness_erased")
"""Fields of `Utility` that nobody measures where only faces are looked for."""


@dataclass(frozen=True)
class Utility:
    """Per image of N: detected bool, ser_fiq, brisque, closeness, adherence float [N]; features float [N, 1280].

    realism, kept_look, closeness_erased: float [N] (cells/public.py), NaN where there are too few public people.
    denoising_error: float [N] (`BaseErrors`), in units of what it is on public people's photos; NaN where no base is
    known, nobody is public, or the images have another size than the base's.
    kept_age, kept_sex: float [N] (metrics/kept.py); None where the file of faceres is absent.
    judged: what optional networks say (iddmbench/judges/), by metric; empty where none has its weights.
    """

    detected: np.ndarray
    ser_fiq: np.ndarray
    brisque: np.ndarray
    closeness: np.ndarray
    adherence: np.ndarray
    features: np.ndarray
    realism: np.ndarray
    kept_look: np.ndarray
    closeness_erased: np.ndarray
    denoising_error: np.ndarray
    kept_age: np.ndarray | None = None
    kept_sex: np.ndarray | None = None
    judged: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def usable(self) -> np.ndarray:
        """bool [N]: a face is found, and the picture is no farther from real photos than USABLE allows, where that is known."""
        return self.detected & ~(self.realism < USABLE)


class UtilityStages:
    """Measures utility on one dataset and one base model, or finds it measured.

    Attributes:
        measured: if not, all that is known of utility is where faces are.
        crops: the photos that images are compared with.
        ages, errors, judges: the parts that not every machine, base or dataset has.
    """

    def __init__(self, crops: Crops, data: FaceData, measured: bool = True):
        self.crops, self.data, self.measured, self.store = crops, data, measured, crops.store
        self.ages = AgeReader(crops, measured)
        self.errors = BaseErrors(crops, data.public, measured)
        self.judges = OptionalJudges(crops, data.fingerprint, measured)

    def measure(self, subject: Subject, outputs: Outputs) -> Utility:
        """Of a cell's images."""

        def compute(out: Path) -> None:
            write_arrays(out / "utility.npz", **self._values(subject, outputs.prompts, outputs.images))

        folder = self.store.fetch("utility", self._key(outputs.key), compute)
        return Utility(
            **read_arrays(folder / "utility.npz"),
            **self._kept(subject, outputs),
            denoising_error=self.errors.of(outputs.images, outputs.key),
            judged=self.judges.judged(subject, outputs),
        )

    def has(self, images: dict[str, Any]) -> bool:
        """Whether `measure` would find it all. images: `image_key` of a cell."""
        parts = (self.ages, self.errors, self.judges)
        return all(part.has(images) for part in parts) and self.store.has("utility", self._key(images))

    def problems(self) -> list[str]:
        """What is not measured here, and how to get it: a line each."""
        return list(filter(None, [self.ages.problem, self.judges.problem]))

    def reference_features(self, subject: Subject) -> np.ndarray:
        """`features` of the subject's references."""
        if not (subject.references and self.measured):
            return np.zeros((0, HEAD), np.float32)

        def compute(out: Path) -> None:
            write_arrays(out / "features.npz", features=self.features(self.crops.references(subject)))

        key = {"references": self.crops.key(subject.references), **code("features")}
        return read_arrays(self.store.fetch("features", key, compute) / "features.npz")["features"]

    def features(self, images: np.ndarray) -> np.ndarray:
        """The judge's features float32 [N, 1280] of uint8 [N, H, W, 3]."""
        parts = (pixels(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE))
        with torch.inference_mode():
            return torch.cat([self._extractor.features(part) for part in parts]).numpy()

    def traits(self, subject: Subject) -> dict[str, str]:
        """For demographic tables: what the dataset says of the subject, else age and sex as a network reads them."""
        if subject.traits or not self.ages.fingerprint or not subject.references:
            return dict(subject.traits)
        found = self._reference_ages(subject)
        if np.isnan(found.age).all():
            return {}
        sex = GROUPS[SEX][0 if np.nanmean(found.female) > 0.5 else 1]
        return {SEX: sex, AGE: age_group(float(np.nanmean(found.age)))}

    # ---- public people ----------------------------------------------------------------------------------------------

    def look_at_public(self) -> None:
        """Compute what is the same for every cell."""
        _ = self.public, self.errors.photo_error

    def has_public(self) -> bool:
        """Whether `look_at_public` would find it all, or it is not needed."""
        known = not self.data.public or self.store.has("public", self._public_key)
        return not self.measured or (known and self.errors.has_photo_error())

    @cached_property
    def public(self) -> PublicPeople:
        """Photos of public people, cropped as references are; those without a face are left out."""
        if not self.data.public:
            return PublicPeople.nobody()
        folder = self.store.fetch("public", self._public_key, self._write_public)
        return PublicPeople(**read_arrays(folder / "public.npz"))

    def _write_public(self, out: Path) -> None:
        features, people, look = [np.zeros((0, HEAD), np.float32)], list[int](), [np.zeros((0, len(LOOK)))]
        for found in self.crops.public(self.data.public):
            images = np.stack([image for _, image in found])
            features.append(self.features(images))
            look.append(looks(images, self.crops.detector.detect(list(images))))
            people += [who for who, _ in found]
        arrays = {"features": np.concatenate(features), "people": np.array(people, int), "look": np.concatenate(look)}
        write_arrays(out / "public.npz", **arrays)

    @cached_property
    def _public_key(self) -> dict[str, Any]:
        photos = chosen(self.data.public)
        return {
            "photos": self.crops.key([photo for _, photo in photos]),
            "people": [who for who, _ in photos],
            **code("public", "features"),
        }

    # ---- a cell's images --------------------------------------------------------------------------------------------

    def _key(self, images: dict[str, Any]) -> dict[str, Any]:
        key: dict[str, Any] = {"images": images, "detector": self.crops.detector.fingerprint()}
        key["public"] = digest(self._public_key) if self.data.public else ""
        return key | code("utility", "features") | ({} if self.measured else {"measured": False})

    def _values(self, subject: Subject, prompts: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
        """Fields of `Utility`. Images of one size go through the networks together; what comes out is in their order."""
        if not self.measured:
            unknown = dict.fromkeys(UNKNOWN_VALUES, np.full(len(images), np.nan))
            found = self.crops.detector.detect(list(images)).found
            return {"detected": found, **unknown, "features": np.zeros((len(images), 0), np.float32)}
        if images.dtype != object:
            return self._values_of_size(subject, prompts, images)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(i)
        parts = [
            self._values_of_size(subject, [prompts[i] for i in own], np.stack([images[i] for i in own]))
            for own in sizes.values()
        ]
        order = np.argsort(np.concatenate([np.array(own) for own in sizes.values()]))
        return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}

    def _values_of_size(self, subject: Subject, prompts: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
        """`_values` of uint8 [N, H, W, 3]. Closeness is NaN where there is no reference."""
        detect = self.crops.detector.detect
        faces, shown = detect(list(images)), self.crops.references(subject)
        features, references = self.features(images), self.reference_features(subject)
        before = looks(shown, detect(list(shown)))
        return {
            "detected": faces.found,
            "ser_fiq": self._ser_fiq(images, faces.found),
            "brisque": brisque(images),
            "closeness": closeness(features, references) if len(references) else np.full(len(images), np.nan),
            "adherence": adherence(prompts, images, faces),
            "features": features,
            "realism": self.public.realism(features),
            "kept_look": self.public.kept_look(looks(images, faces), before, compared(prompts)),
            "closeness_erased": self.public.closeness_without_identity(features, references),
        }

    def _ser_fiq(self, images: np.ndarray, found: np.ndarray) -> np.ndarray:
        """SER-FIQ by SFace's dropout; 0 where no face was found, the score's lower end."""
        scores = np.zeros(len(images))
        rows = np.flatnonzero(found)
        for start in range(0, len(rows), FACES_AT_ONCE):
            part = rows[start : start + FACES_AT_ONCE]
            faces = images[part]
            surrogate = self._quality
            crops = crop(pixels(faces), surrogate.prepare(list(faces)), surrogate.network.size)
            # The same dropout masks for every part: they have no axis for images.
            passes = self._quality_net.embed_stochastic(crops, SER_FIQ_PASSES, Seeds(0).child("ser-fiq").torch())
            scores[part] = ser_fiq(passes.numpy())
        return scores

    def _kept(self, subject: Subject, outputs: Outputs) -> dict[str, np.ndarray]:
        """Kept age and sex; empty where they are not read."""
        if not self.ages.fingerprint:
            return {}
        own, before = self.ages.read(outputs.key, lambda: outputs.images), self._reference_ages(subject)
        return {"kept_age": kept_age(own.age, before.age), "kept_sex": kept_sex(own.female, before.female)}

    def _reference_ages(self, subject: Subject) -> AgeSex:
        if not subject.references:
            return AgeSex(np.zeros(0, np.float32), np.zeros(0, np.float32))
        return self.ages.read(self.crops.key(subject.references), lambda: self.crops.references(subject))

    # ---- networks ---------------------------------------------------------------------------------------------------

    @cached_property
    def _extractor(self) -> EfficientNetLite:
        return EfficientNetLite(JUDGE_NUMBER)

    @cached_property
    def _quality_net(self) -> SFaceNet:
        return SFaceNet()

    @cached_property
    def _quality(self) -> Surrogate:
        return Surrogate(self._quality_net, self.crops.detector)
