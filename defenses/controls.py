"""Controls that cheat: private, as they show somebody else or nobody, and worth nothing. A board must rank them so."""

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from iddmbench.attacker import build_attacker
from iddmbench.defense import Defense, ExtraPhotos, Personalization, Workbench
from iddmbench.errors import UserError
from iddmbench.nets.age_sex import AgeSex, age_and_sex
from iddmbench.nets.faceres import FaceRes
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.photos.references import crop_image
from iddmbench.types import Subject

NO_FACE = "no face was found in a public person's photo: leave the photo out"
READER = "faceres"
DECADE = 10.0
"""Years that count as much as being of the other sex."""


class ControlPerson(Defense):
    """The model is trained on one photo of one public person, the same for everybody, in place of the references.

    `strength` is the share of the references that it replaces.
    """

    name = "control-person"
    title = "cheating control: one fixed other person"

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("strangers",)

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        return replaced(references, portrait(bench.strangers[0], bench), self.strength)


class ControlAlike(Defense):
    """As `control-person`, with the public person whose sex and age, as faceres reads them, are nearest to the person's."""

    name = "control-alike"
    title = "cheating control: a stranger of the same sex and age"

    def check(self, subjects: Sequence[Subject]) -> None:
        if problem := build_attacker(READER).available():
            raise UserError(f"defense '{self.name}' reads sex and age with {READER}, which {problem}")

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("strangers",)

    def protect(self, references: np.ndarray, bench: Workbench) -> np.ndarray:
        network = build_attacker(READER).network()
        assert isinstance(network, FaceRes)
        photos = list(bench.strangers)
        own, others = (age_and_sex(network, x, detector=bench.detector) for x in (list(references), photos))
        return replaced(references, portrait(photos[nearest(own, others)], bench), self.strength)


class ControlNoise(Defense):
    """Gaussian noise on every output, of standard deviation strength * sigma gray levels (gray on a gray base)."""

    name = "control-noise"
    title = "cheating control: noise on the outputs"

    sigma: float = Field(40.0, gt=0, le=255, description="standard deviation at strength 1, in gray levels")

    def release(self, images: np.ndarray, bench: Workbench) -> np.ndarray:
        channels = 1 if bench.base.recipe.grayscale else 3
        noise = bench.seeds.child("noise").numpy().normal(size=(*images.shape[:3], channels))
        return np.clip(images + self.strength * self.sigma * noise, 0, 255).round().astype(np.uint8)


class ControlClass(Defense):
    """The un-personalized model at any strength above 0: pictures of nobody in particular, under a defense's name."""

    name = "control-class"
    title = "cheating control: the class's image"
    text_training = True  # it trains nothing

    def personalize(self, references: np.ndarray, bench: Workbench) -> Personalization:
        return Personalization(PersonalizedModel(None, bench.lora)) if self.strength else bench.personalize(references)


def nearest(own: AgeSex, others: AgeSex) -> int:
    """Whose age and sex are nearest to the mean of one's own, among those of whom both are known.

    Raises UserError where a face was found in no photo of one side.
    """
    if np.isnan(own.age).all() or np.isnan(others.age).all():
        raise UserError("no face was found whose sex and age could be read")
    years = np.abs(others.age - np.nanmean(own.age)) / DECADE
    sex = np.abs((others.female > 0.5).astype(float) - float(np.nanmean(own.female) > 0.5))
    return int(np.nanargmin(years + sex))


def portrait(photo: np.ndarray, bench: Workbench) -> np.ndarray:
    """uint8 [S, S, 3]: a photo cropped as references are. Raises UserError where it shows no face."""
    square = crop_image(photo, bench.base, bench.detector)
    if square is None:
        raise UserError(NO_FACE)
    return square


def replaced(references: np.ndarray, other: np.ndarray, strength: float) -> np.ndarray:
    """The references [N, S, S, 3] with `other` in place of the first strength * N of them."""
    count = round(strength * len(references))
    return np.concatenate([np.repeat(other[None], count, axis=0), references[count:]])
