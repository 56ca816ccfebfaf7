"""The stages of a cell, each stored under a key of what it depends on: protect, personalize, generate, release, embed.

Read `Lab.outputs` for the main path: references -> model -> images that are posted. The linker's side is `Lab.embed`.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddmbench.attacker import Attacker, build_attacker
from iddmbench.defense import Defense, Workbench
from iddmbench.errors import UserError
from iddmbench.faces.align import crop
from iddmbench.faces.detect import YuNet
from iddmbench.metrics.brisque import brisque
from iddmbench.metrics.quality import ser_fiq
from iddmbench.metrics.utility import closeness
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import LoraSettings, Sampling
from iddmbench.nets.efficientnet import EfficientNetLite0
from iddmbench.nets.sface import SFaceNet
from iddmbench.personalize.sample import class_latents, generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.purify import purifier
from iddmbench.references import crop_references
from iddmbench.run.adherence import adherence
from iddmbench.run.files import (
    read_arrays,
    read_embeddings,
    read_images,
    read_tensors,
    write_arrays,
    write_embeddings,
    write_images,
    write_tensors,
)
from iddmbench.run.folder import label
from iddmbench.run.store import Store
from iddmbench.seeds import Seeds
from iddmbench.surrogate import Surrogate
from iddmbench.types import Embeddings, FaceData, Photo, Subject

CODE = {"references": 1, "class": 1, "model": 2, "images": 1, "release": 1, "embed": 1, "utility": 1}
"""Raised by hand when a stage's code changes its result, so that older entries are not reused."""

PROTECTED = "protected references"
DECOY_PEOPLE = 5
SER_FIQ_PASSES = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One personalized model of one subject under one defense."""

    subject: Subject
    defense: Defense
    seed: int

    @property
    def label(self) -> str:
        """Folder name of the defense at its strength: "iddm-0.50", "none"."""
        return label(self.defense.name, self.strength)

    @property
    def strength(self) -> float:
        """NaN for an anchor, which has none."""
        return np.nan if self.defense.anchor else self.defense.strength


@dataclass(frozen=True)
class Outputs:
    """What a cell posted.

    images: uint8 [N, S, S, 3]; prompts: N; key: identifies them for what is computed on them; extras: images by title;
    seconds: compute time by stage, as measured when it was computed.
    """

    images: np.ndarray
    prompts: list[str]
    key: dict[str, Any]
    extras: dict[str, np.ndarray]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Utility:
    """Per image of N: detected bool, ser_fiq, brisque, closeness, adherence float [N]; features float [N, 1280]."""

    detected: np.ndarray
    ser_fiq: np.ndarray
    brisque: np.ndarray
    closeness: np.ndarray
    adherence: np.ndarray
    features: np.ndarray


@dataclass(frozen=True)
class Thief:
    """The unauthorized setting: somebody else personalizes, without the defense, on photos that he may purify first."""

    purify: str = ""

    @classmethod
    def of(cls, threat: str, purify: str) -> "Thief | None":
        """Who personalizes in the setting "authorized" (None: the owner) or "unauthorized"."""
        return cls(purify) if threat == "unauthorized" else None


class Lab:
    """One base model, one dataset, one store: computes cells, or finds them computed.

    `thief`: None where the owner personalizes.
    """

    def __init__(
        self,
        base: BaseModel,
        data: FaceData,
        store: Store,
        lora: LoraSettings,
        sampling: Sampling,
        prompts: tuple[str, ...],
        per_prompt: int,
        thief: Thief | None = None,
    ):
        self.base, self.data, self.store = base, data, store
        self.lora, self.sampling, self.per_prompt, self.thief = lora, sampling, per_prompt, thief
        self.prompts = list(prompts or base.recipe.prompts.evaluation)
        self.versions = {name: version(name) for name in ("torch", "diffusers", "peft", "iddmbench")}

    # ---- the model owner's side -------------------------------------------------------------------------------------

    def references(self, subject: Subject) -> np.ndarray:
        """uint8 [N, S, S, 3]; see `crop_references`."""
        return self._cropped(subject, subject.references)

    def _cropped(self, subject: Subject, photos: tuple[Photo, ...]) -> np.ndarray:
        key = {"data": self.data.fingerprint, "subject": subject.name, "side": self.base.side}
        key |= {"photos": [p.name for p in photos], "gray": self.base.recipe.grayscale}
        key |= {"code": CODE["references"]}
        chosen = replace(subject, references=photos)
        folder = self.store.fetch(
            "references", key, lambda out: write_images(out, crop_references(chosen, self.base, self.detector))
        )
        return read_images(folder)

    def _surrogate_photos(self, subject: Subject) -> np.ndarray:
        """The subject's surrogate set, cropped as the references are; logs when it shares photos with them."""
        if not subject.surrogate:
            return np.zeros((0, self.base.side, self.base.side, 3), np.uint8)
        known = {p.image.tobytes() for p in subject.references}
        shared = [p.name for p in subject.surrogate if p.image.tobytes() in known]
        if shared:
            log.warning("%s: the surrogate set shares photos with the references: %s", subject.name, ", ".join(shared))
        return self._cropped(subject, subject.surrogate)

    def class_latents(self) -> Tensor:
        """Latents of the class images, made once per base model; none where prior preservation is off."""
        if self.lora.prior_weight == 0:
            return torch.zeros(0)
        key = {"base": self.base.fingerprint, "count": self.lora.class_images, "code": CODE["class"]}
        key |= {"sampling": self.sampling.model_dump(), "versions": self.versions}

        def compute(out: Path) -> None:
            latents = class_latents(self.base, self.lora.class_images, self.sampling, Seeds(0).child("class"))
            write_tensors(out / "latents.safetensors", {"latents": latents.cpu()})

        return read_tensors(self.store.fetch("class", key, compute) / "latents.safetensors")["latents"]

    def model_key(self, cell: Cell) -> dict[str, Any]:
        """What the personalized model depends on. A defense that only acts on outputs shares the undefended model."""
        acts = cell.defense.acts_on
        # The un-personalized control stays what it is, whoever asks for it.
        trains = acts("personalize") and (self.thief is None or cell.defense.anchor)
        plain = not (acts("protect") or trains)
        key = {
            "data": self.data.fingerprint,
            "subject": cell.subject.name,
            "base": self.base.fingerprint,
            "lora": self.lora.model_dump(mode="json"),
            "class_sampling": self.sampling.model_dump(),
            "defense": None if plain else self._defense_key(cell.defense),
            "seed": cell.seed,
            "code": CODE["model"],
            "versions": self.versions,
        }
        if self.thief and self.thief.purify:
            key["purify"] = self.thief.purify
        return key

    def image_key(self, cell: Cell) -> dict[str, Any]:
        key = {"model": self.model_key(cell), "prompts": self.prompts, "per_prompt": self.per_prompt}
        key |= {"sampling": self.sampling.model_dump(), "code": CODE["images"]}
        if cell.defense.acts_on("release") and self.thief is None:
            key |= {"release": self._defense_key(cell.defense), "release_code": CODE["release"]}
        return key

    def is_cached(self, cell: Cell) -> bool:
        return self.store.has("images", self.image_key(cell))

    def outputs(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> Outputs:
        """The main path of a cell: protect, personalize, generate, release. A thief does the last three his own way."""
        defense, bench = cell.defense, self._bench(cell, tick)
        references = self.references(cell.subject)
        extras: dict[str, np.ndarray] = {}

        def personalize(out: Path) -> None:
            # Where there are two parts, each has half of the progress bar.
            halves = (
                [lambda x: tick(x / 2), lambda x: tick(0.5 + x / 2)] if defense.acts_on("protect") else [tick, tick]
            )
            photos = defense.protect(references, replace(bench, tick=halves[0]))
            if photos is not references:
                write_images(out / "extras" / PROTECTED, photos)
            own, photos = replace(bench, tick=halves[1]), self._purified(photos, bench.seeds)
            stolen = self.thief is not None and not defense.anchor
            result = own.personalize(photos) if stolen else defense.personalize(photos, own)
            if result.model.weights is not None:
                write_tensors(out / "adapter.safetensors", result.model.weights)
            for title, images in result.images.items():
                write_images(out / "extras" / title, images)
            (out / "trace.json").write_text(json.dumps(result.trace, indent=1))

        def post(out: Path) -> None:
            adapter = model_folder / "adapter.safetensors"
            weights = read_tensors(adapter) if adapter.is_file() else None
            model = PersonalizedModel(weights, self.lora)
            seeds = Seeds(cell.seed).child("generate", cell.subject.name)
            images = generate(self.base, model, self.prompts, self.per_prompt, self.sampling, seeds)
            write_images(out, images if self.thief else defense.release(images, bench))

        model_folder = self._timed("model", self.model_key(cell), personalize)
        folder = self._timed("images", self.image_key(cell), post)
        for path in sorted((model_folder / "extras").glob("*")):
            extras[path.name] = read_images(path)
        prompts = [p for p in self.prompts for _ in range(self.per_prompt)]
        seconds = {"personalize": _seconds(model_folder), "generate": _seconds(folder)}
        return Outputs(read_images(folder), prompts, self.image_key(cell), extras, seconds)

    def _purified(self, photos: np.ndarray, seeds: Seeds) -> np.ndarray:
        if self.thief is None or not self.thief.purify:
            return photos
        return purifier(self.thief.purify)(photos, seeds, self.base)

    # ---- the linker's side ------------------------------------------------------------------------------------------

    def embed(self, attacker: Attacker, outputs: Outputs) -> tuple[Embeddings, float]:
        """Embeddings of a cell's images, and the seconds that they took."""
        key = {"images": outputs.key, "attacker": attacker.fingerprint(), "code": CODE["embed"]}
        folder = self._timed(
            "embed", key, lambda out: write_embeddings(out / "embeddings.npz", attacker.embed(list(outputs.images)))
        )
        return read_embeddings(folder / "embeddings.npz"), _seconds(folder)

    def embed_photos(self, attacker: Attacker, photos: tuple[Photo, ...]) -> Embeddings:
        """Embeddings of dataset photos (gallery and calibration), at their own size."""
        key: dict[str, Any] = {"data": self.data.fingerprint, "photos": [p.name for p in photos]}
        key |= {"attacker": attacker.fingerprint(), "code": CODE["embed"]}
        folder = self.store.fetch(
            "embed",
            key,
            lambda out: write_embeddings(out / "embeddings.npz", attacker.embed([p.image for p in photos])),
        )
        return read_embeddings(folder / "embeddings.npz")

    # ---- utility ----------------------------------------------------------------------------------------------------

    def features(self, images: np.ndarray) -> np.ndarray:
        """EfficientNet-Lite0 features float32 [N, 1280] of uint8 [N, H, W, 3]."""
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            return torch.cat([self._extractor.features(part) for part in pixels.split(16)]).numpy()

    def utility(self, subject: Subject, outputs: Outputs) -> Utility:
        """Image quality, closeness to the references and prompt adherence of a cell's images."""
        references = self.references(subject)

        def compute(out: Path) -> None:
            faces = self.detector.detect(list(outputs.images))
            features = self.features(outputs.images)
            write_arrays(
                out / "utility.npz",
                detected=faces.found,
                ser_fiq=self._ser_fiq(outputs.images, faces.found),
                brisque=brisque(outputs.images),
                closeness=closeness(features, self.features(references)),
                adherence=adherence(outputs.prompts, outputs.images, faces),
                features=features,
            )

        key = {"images": outputs.key, "code": CODE["utility"], "detector": self.detector.fingerprint()}
        return Utility(**read_arrays(self.store.fetch("utility", key, compute) / "utility.npz"))

    def _ser_fiq(self, images: np.ndarray, found: np.ndarray) -> np.ndarray:
        """SER-FIQ by SFace's dropout; 0 where no face was found, the score's lower end."""
        scores = np.zeros(len(images))
        if found.any():
            faces = images[found]
            surrogate = self._quality
            pixels = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 255
            crops = crop(pixels, surrogate.prepare(list(faces)), surrogate.network.size)
            passes = self._quality_net.embed_stochastic(crops, SER_FIQ_PASSES, Seeds(0).child("ser-fiq").torch())
            scores[found] = ser_fiq(passes.numpy())
        return scores

    # ---- parts ------------------------------------------------------------------------------------------------------

    @cached_property
    def detector(self) -> YuNet:
        return YuNet()

    @cached_property
    def _extractor(self) -> EfficientNetLite0:
        return EfficientNetLite0()

    @cached_property
    def _quality_net(self) -> SFaceNet:
        return SFaceNet()

    @cached_property
    def _quality(self) -> Surrogate:
        return Surrogate(self._quality_net, self.detector)

    def decoy_people(self, cell: Cell) -> list[str]:
        """The public people whose mean is the cell's decoy identity; at least three, so that it is nobody's."""
        names = sorted(self.data.public)
        if len(names) < 3:
            raise UserError(f"dataset '{self.data.name}' has too few public people for a decoy identity")
        rng = Seeds(cell.seed).child("decoy", cell.subject.name).numpy()
        return [names[i] for i in rng.permutation(len(names))[:DECOY_PEOPLE]]

    def _bench(self, cell: Cell, tick: Callable[[float], None]) -> Workbench:
        declared = cell.defense.surrogates()

        def surrogate(name: str) -> Surrogate:
            if name not in declared:
                raise UserError(f"defense '{cell.defense.name}' asks for surrogate '{name}' but does not declare it")
            return load_surrogate(name, str(self.base.device))

        return Workbench(
            base=self.base,
            lora=self.lora,
            class_latents=self.class_latents(),
            seeds=Seeds(cell.seed).child("defense", cell.subject.name),
            detector=self.detector,
            surrogate=surrogate,
            surrogate_photos=self._surrogate_photos(cell.subject),
            decoys=[self.data.public[name][0].image for name in self.decoy_people(cell)],
            tick=tick,
        )

    @staticmethod
    def _defense_key(defense: Defense) -> dict[str, Any]:
        return {"name": defense.name, "version": defense.version, **defense.model_dump(mode="json")}

    def _timed(self, stage: str, key: dict[str, Any], compute: Callable[[Path], None]) -> Path:
        """`Store.fetch` that notes the seconds, so that a reused result still says what it cost."""

        def measured(out: Path) -> None:
            start = time.perf_counter()
            compute(out)
            (out / "seconds.json").write_text(json.dumps(time.perf_counter() - start))

        return self.store.fetch(stage, key, measured)


@lru_cache(maxsize=4)
def load_surrogate(name: str, device: str) -> Surrogate:
    """The attacker's network with the crop in front of it. Raises UserError when it is not differentiable."""
    surrogate = Surrogate(build_attacker(name).network())
    return surrogate.to(device)


def _seconds(folder: Path) -> float:
    return float(json.loads((folder / "seconds.json").read_text()))
