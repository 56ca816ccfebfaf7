"""What every purifier has to keep."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from iddmbench.conformance import require
from iddmbench.conformance.defense import global_seed, tiny_base
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.options import read_options
from iddmbench.perturb.purifier import Purifier, purifier
from iddmbench.seeds import Seeds


class PurifierSubject:
    """A purifier under test, with photos of ORL, 64 x 64 and 111 x 92."""

    def __init__(self, cls: type[Purifier], name: str, options: Mapping[str, Any] | None = None):
        self.cls, self.name = cls, name
        self.made = read_options(cls, options or {}, f"purifier '{name}'")

    @cached_property
    def base(self) -> BaseModel:
        return tiny_base()

    @cached_property
    def images(self) -> np.ndarray:
        return np.stack([photo(29, k).image[20:84, 14:78] for k in (1, 2, 3)])

    @cached_property
    def purified(self) -> np.ndarray:
        with global_seed(7):
            return self(self.images)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.made(images, Seeds(0), self.base)


def describes_itself(subject: PurifierSubject) -> None:
    cls = subject.cls
    split = subject.name if subject.name == cls.name else subject.name.rpartition("-")[0]
    require(cls.name == split, f"`name` is {cls.name!r}, but it is registered as {subject.name!r}")
    require(cls.title, "`title` must be one line for lists and reports")
    require(isinstance(cls.version, int), f"`version` must be an int, got {cls.version!r}")
    for name, field in cls.model_fields.items():
        require(field.description, f"field `{name}` needs a description: it is its help text")
        require(not field.is_required(), f"field `{name}` needs a default: `{cls.name}` alone must work")


def options_are_checked(subject: PurifierSubject) -> None:
    try:
        read_options(subject.cls, {"no_such_option": 1}, "purifier")
    except UserError:
        return
    raise AssertionError("an unknown option must be refused (model_config forbids extra fields)")


def its_name_says_its_options(subject: PurifierSubject) -> None:
    again = purifier(subject.made.label) if subject.made.name in _names() else subject.made
    require(again == subject.made, f"'{subject.made.label}' must be read as the options it was made from")


def _names() -> list[str]:
    from iddmbench.perturb.purifier import PURIFIERS

    return PURIFIERS.names()


def images_keep_count_and_size(subject: PurifierSubject) -> None:
    require(subject.purified.shape == subject.images.shape, "the number and size of the images must not change")
    odd = np.stack([photo(29, 1).image[:111]])
    require(subject(odd).shape == odd.shape, f"images of any size [N, H, W, 3] must keep their size: {odd.shape}")


def inputs_are_left_alone(subject: PurifierSubject) -> None:
    before = subject.images.copy()
    subject(subject.images)
    require(np.array_equal(before, subject.images), "the images must not be written to: return new ones")


def an_image_does_not_depend_on_the_others(subject: PurifierSubject) -> None:
    alone = np.concatenate([subject(subject.images[i : i + 1]) for i in (2, 0)])
    off = np.abs(alone.astype(int) - subject.purified[[2, 0]]).max()
    require(off <= 1, f"an image alone must come out as in a batch, it moved by {off} of 255: draw from own_seeds only")


def the_same_seeds_give_the_same_result(subject: PurifierSubject) -> None:
    with global_seed(11):
        again = subject(subject.images)
    require(np.array_equal(again, subject.purified), "the same images must give the same, bit for bit: own_seeds only")


def it_does_something_and_keeps_the_picture(subject: PurifierSubject) -> None:
    require(not np.array_equal(subject.purified, subject.images), "the images come back unchanged")
    gray = subject.purified.reshape(len(subject.images), -1).std(1)
    require(gray.min() > 1, "an image comes back flat: nothing of the picture remains")


CHECKS: list[Callable[[PurifierSubject], None]] = [
    describes_itself,
    options_are_checked,
    its_name_says_its_options,
    images_keep_count_and_size,
    inputs_are_left_alone,
    an_image_does_not_depend_on_the_others,
    the_same_seeds_give_the_same_result,
    it_does_something_and_keeps_the_picture,
]
