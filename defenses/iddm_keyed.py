"""`iddm-keyed`: IDDM toward a face that a secret key draws. A method of this project, not of the IDDM paper.

IDDM maps a person to a reproducible other face: whoever runs it on other photos of the person gets that face again, and links
it. Here a key decides which face, so that another run leads elsewhere. The attacker is assumed to know everything but the key.
"""

from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from iddmbench.defense import ExtraPhotos, Names
from iddmbench.defenses.controls import NO_FACE, portrait
from iddmbench.defenses.iddm import IDDM, TEXTURE, TEXTURES, Decoupling, Target
from iddmbench.errors import UserError
from iddmbench.faces.surround import surrounded
from iddmbench.nets.surrogate import Surrogate

FEWEST = 4
"""People that a decoy is mixed from at least."""


class IDDMKeyed(IDDM):
    """IDDM with `aim=strangers`, and a pull toward a decoy identity d = g(key) under every surrogate:

        L_id = sum_k relu(c_k - m_k) + relu(-width * sigma_k - c_k) + pull * relu(r_k - cos(f_k(x'), d_k)) / span_k

    with r_k the mean cosine of the clean references to their own template: the avatar is as like its decoy as photos of one
    person are like each other, no more. `decoy=direction`: the key gives weights w ~ N(0, 1), one per public person, the same
    for every surrogate. With their unit vectors p_i, center p and the subject's template e,

        u = sum_i w_i (p_i - p), less its component along e - p;   d = (p + rho u / |u|) / |p + rho u / |u||

    with rho the root mean square of |p_i - p|: a face that nobody has, as far from the average as people are. `decoy=person`
    takes one public person whom the key draws. `alike` takes only so many people for either, those who resemble the subject
    most: the same for every key, and mostly of the subject's sex and age, which then stay what they are. `balance` scales a
    surrogate's whole gradient, hinges and pull together: `pull` then weighs these within a surrogate only.

    `surroundings` starts from other photos: the key also draws one of the public people above, and each reference's inner face
    is put into that person's picture (`iddmbench.faces.surround`), at any strength above 0. Templates and scales are those of
    the references as they were.

    **What is secret**: the key, 64 bits drawn for each model, from the stream "key" of the cell's random numbers. No
    attacker gets it, nothing stores it, and it is in no table or picture of what is posted. In this suite it follows from the
    run's seed, so that runs can be repeated: who knows the seed knows the key. To protect somebody, draw the seed from the
    operating system's randomness (`secrets.randbits`), and forget it.
    """

    name = "iddm-keyed"
    title = "IDDM toward a face that a secret key draws (ours)"
    paper = ""
    newer: ClassVar[frozenset[str]] = frozenset({"diversity", "balance", "alike", "surroundings"})
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "texture": TEXTURE,
        "textures": TEXTURES,
        "surroundings": {**TEXTURES, "surroundings": True, "alike": 16},
    }

    surrogate: Names = Field(("sface", "dlib"), min_length=1, description="face-recognition systems to decouple from")
    mode: Literal["targeted"] = Field("targeted", description="always toward a decoy identity")
    aim: Literal["strangers"] = Field("strangers", description="always within the distribution of strangers' scores")
    margin: float = Field(-0.6, le=1, description="not used (the keys of finished cells hold it)")
    decoy: Literal["direction", "person"] = Field(
        "direction", description="a random mixture of public people away from the subject, or one of them"
    )
    per: Literal["model", "photo"] = Field(
        "model", description="one decoy for all reference photos, or one for each, against links between posts"
    )
    pull: float = Field(1.0, ge=0, description="weight of the pull toward the decoy")
    alike: int = Field(
        0, ge=0, description="make decoys of so many public people who resemble the subject most; 0: of all"
    )

    surroundings: bool = Field(
        False, description="put the face into the hair, clothes and backdrop of a public person whom the key draws"
    )

    @field_validator("alike")
    @classmethod
    def _several(cls, count: int) -> int:
        if 0 < count < FEWEST:
            raise ValueError(f"at least {FEWEST}, or a decoy is one of them")
        return count

    def extra_photos(self) -> tuple[ExtraPhotos, ...]:
        return ("strangers",)


class KeyedDecoupling(Decoupling):
    """`Decoupling` toward decoys that the model's key draws."""

    config: IDDMKeyed

    def photos(self) -> np.ndarray:
        if not self.config.surroundings:
            return self.references
        generator = self.bench.seeds.child("surroundings").torch()
        count = len(self.references) if self.config.per == "photo" else 1
        drawn = self._alike[torch.randint(len(self._alike), (count,), generator=generator)]
        landmarks = self.bench.detector.detect(list(self.references)).landmarks
        donors = [self._portrait(index) for index in drawn.tolist()] * (len(self.references) // count)
        return np.stack(
            [surrounded(x, points, *donor) for x, points, donor in zip(self.references, landmarks, donors, strict=True)]
        )

    def _portrait(self, stranger: int) -> tuple[np.ndarray, np.ndarray]:
        """A public person's photo as references are cut, uint8 [S, S, 3], and the landmarks in it, [5, 2]."""
        square = portrait(self.bench.strangers[stranger], self.bench)
        faces = self.bench.detector.detect([square])
        if not faces.found[0]:
            raise UserError(NO_FACE)
        return square, faces.landmarks[0]

    @cached_property
    def _alike(self) -> Tensor:
        """Indices of the public people to make decoys of: the sum over surrogates of their standardized cosines decides."""
        likeness = torch.zeros(len(self.bench.strangers))
        for name in self.config.surrogate:
            surrogate = self.bench.surrogate(name)
            cosines = (self._people(surrogate) @ surrogate.template(self.references)).cpu()
            likeness += (cosines - cosines.mean()) / cosines.std()
        return likeness.argsort(descending=True)[: self.config.alike or None].sort().values

    def _decoy(self, surrogate: Surrogate, template: Tensor, people: Tensor) -> Tensor:
        """float [N, D], or [1, D] for one decoy."""
        if self.config.alike:
            people = people[self._alike.to(people.device)]
        generator = self.bench.seeds.child("key").torch()  # the same weights for every surrogate
        count = len(self.clean) if self.config.per == "photo" else 1
        if self.config.decoy == "person":
            return people[torch.randint(len(people), (count,), generator=generator).to(people.device)]
        return mixed(people, template, torch.randn((count, len(people)), generator=generator).to(people))

    def _toward(self, target: Target, vectors: Tensor) -> Tensor:
        assert target.decoy is not None
        reach = target.impostor + target.span
        likeness = (vectors * target.decoy).sum(1)
        return self.config.pull * F.relu(reach - likeness).mean() / target.span


IDDMKeyed.decoupling = KeyedDecoupling


def mixed(people: Tensor, template: Tensor, weights: Tensor) -> Tensor:
    """Decoys: unit vectors [K, D], from those of people [M, D], the subject's [D] and weights [K, M]; see `IDDMKeyed`."""
    center = people.mean(0)
    offsets, away = people - center, F.normalize(template - center, dim=0)
    direction = weights @ offsets
    direction = F.normalize(direction - (direction @ away)[:, None] * away, dim=1)
    return F.normalize(center + offsets.square().sum(1).mean().sqrt() * direction, dim=1)
