"""The stages of a cell, each stored under a key of what it depends on: prepare, protect, personalize, generate, release,
embed.

Read `CellStages.outputs` for the main path: references -> model -> images that are posted. The linker's side is
`CellStages.embed`.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddmbench.attacker import Attacker, build_attacker
from iddmbench.cells.denoising import denoising_errors
from iddmbench.cells.public import PublicPeople, chosen
from iddmbench.defense import Defense, ExtraPhotos, Undeclared, Workbench
from iddmbench.errors import UserError
from iddmbench.faces.align import crop
from iddmbench.faces.detect import YuNet
from iddmbench.faces.look import LOOK, compared, looks
from iddmbench.judges import Judge, available, unmeasured
from iddmbench.judges.base import Scene, pixels
from iddmbench.metrics.adherence import adherence
from iddmbench.metrics.brisque import brisque
from iddmbench.metrics.kept import kept_age, kept_sex
from iddmbench.metrics.quality import ser_fiq
from iddmbench.metrics.utility import closeness
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import Sampling, TrainingSettings
from iddmbench.nets.age_sex import AgeSex, age_and_sex
from iddmbench.nets.efficientnet import HEAD, EfficientNetLite
from iddmbench.nets.faceres import FaceRes
from iddmbench.nets.sface import SFaceNet
from iddmbench.nets.surrogate import Surrogate
from iddmbench.personalize.lora import Lora
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.prepared import PreparedBase, prepared
from iddmbench.personalize.sample import class_latents, generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.perturb.purifier import purifier
from iddmbench.photos.demographics import AGE, GROUPS, SEX, age_group
from iddmbench.photos.references import crop_photo, crop_references
from iddmbench.results.metric_info import KEPT_UNMEASURED, UNMEASURED
from iddmbench.results.run_folder import label
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store, digest
from iddmbench.store.cost import Cost, noted, read_cost
from iddmbench.store.files import (
    read_arrays,
    read_embeddings,
    read_images,
    read_tensors,
    write_arrays,
    write_embeddings,
    write_images,
    write_tensors,
)
from iddmbench.types import Embeddings, FaceData, Person, Photo, Subject

CODE = {
    "references": 2,
    "class": 1,
    "prepare": 1,
    "protect": 1,
    "personalize": 2,
    "generate": 1,
    "release": 1,
    "embed": 1,
    "features": 2,
    "utility": 3,
    "public": 1,
    "attributes": 1,
    "denoising": 1,
}
"""Raised by hand when a stage's code changes its result, so that older entries are not reused. They decide; the package's
version does not (docs/protocol.md, "Versions")."""

PROTECTED = "protected references"
ADAPTER = "adapter.safetensors"
PREPARED = "prepared.safetensors"
DECOY_PEOPLE = 5
STRANGERS = 64
SER_FIQ_PASSES = 100
JUDGE_NUMBER = 2
"""EfficientNet-Lite2 judges realism, closeness, FID and KID (`iddmbench.results.metric_info.JUDGE`)."""
AGE_READER = "faceres"
"""The recognition system that reads age and sex too. It can't judge a defense that optimizes it: see `Group.judges`."""
USABLE = 0.5
"""Least realism of a usable picture: twice as far from every real photo as photos of different people are from one another."""
AT_ONCE = 16
"""Dataset photos that are in memory together, and images whose features are."""
FACES_AT_ONCE = 256
"""Four times what a cell has by default; the memory of larger ones does not grow with their images."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cell:
    """One personalized model of one subject under one defense."""

    subject: Subject
    defense: Defense
    seed: int

    @cached_property
    def label(self) -> str:
        """Folder name of the defense at its strength: "iddm-0.50", "none"."""
        return label(self.defense.name, self.strength)

    @property
    def strength(self) -> float:
        """NaN for an anchor, which has none."""
        return strength_of(self.defense)

    @cached_property
    def name(self) -> str:
        """ "iddm-0.50 s29 seed 0": unique in a run."""
        return f"{self.label} {self.subject.name} seed {self.seed}"


def strength_of(defense: Defense) -> float:
    """NaN for an anchor, which has none."""
    return np.nan if defense.anchor else defense.strength


@dataclass(frozen=True)
class Outputs:
    """What a cell posted.

    images: uint8 [N, S, S, 3], or N objects where given ones differ in size; prompts: N; key: identifies them for what is
    computed on them; extras: images by title; costs: by stage, as measured when it was computed.
    """

    images: np.ndarray
    prompts: list[str]
    key: dict[str, Any]
    extras: dict[str, np.ndarray]
    costs: dict[str, Cost]


@dataclass(frozen=True)
class Utility:
    """Per image of N: detected bool, ser_fiq, brisque, closeness, adherence float [N]; features float [N, 1280].

    realism, kept_look, closeness_erased: float [N] (cells/public.py), NaN where there are too few public people.
    denoising_error: float [N] (cells/denoising.py), in units of what it is on public people's photos; NaN where no base is
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


@dataclass(frozen=True)
class UnauthorizedTrainer:
    """The unauthorized setting: somebody else personalizes, without the defense, on photos that may be purified first."""

    purify: str = ""

    @classmethod
    def of(cls, threat: str, purify: str) -> "UnauthorizedTrainer | None":
        """Who personalizes in the setting "authorized" (None: the owner) or "unauthorized"."""
        return cls(purify) if threat == "unauthorized" else None


class CellStages:
    """One base model, one dataset, one store: computes cells, or finds them computed.

    `trainer`: None where the owner personalizes. `lora`: settings of `personalizer`, which is LoRA by default.
    """

    trains: bool = True
    """Whether it can personalize a model: not where images are given."""
    measures_utility: bool = True
    """If not, all that is known of utility is where faces are."""

    def __init__(
        self,
        base: BaseModel,
        data: FaceData,
        store: Store,
        lora: TrainingSettings,
        sampling: Sampling,
        prompts: tuple[str, ...],
        per_prompt: int,
        trainer: UnauthorizedTrainer | None = None,
        personalizer: Personalizer | None = None,
    ):
        self.personalizer = personalizer or Lora()
        self.base, self.data, self.store = base, data, store
        self.lora, self.sampling, self.per_prompt, self.trainer = lora, sampling, per_prompt, trainer
        self.prompts = list(prompts or base.recipe.prompts.evaluation)
        self._lora_key, self._sampling_key = lora.model_dump(mode="json"), sampling.model_dump()
        self.versions = current_versions()

    # ---- the model owner's side -------------------------------------------------------------------------------------

    def references(self, subject: Subject) -> np.ndarray:
        """uint8 [N, S, S, 3]; see `crop_references`."""
        return read_images(self.references_folder(subject))

    def references_folder(self, subject: Subject) -> Path:
        return self._cropped(subject, subject.references)

    def _cropped(self, subject: Subject, photos: tuple[Photo, ...]) -> Path:
        chosen = replace(subject, references=photos)
        return self.store.fetch(
            "references",
            self._crop_key(photos),
            lambda out: write_images(out, crop_references(chosen, self.base, self.detector)),
        )

    def _crop_key(self, photos: Sequence[Photo]) -> dict[str, Any]:
        """What cropped photos depend on: their content, in order, and how the base wants them."""
        recipe = self.base.recipe
        key: dict[str, Any] = {"photos": [p.digest for p in photos], "detector": self.detector.fingerprint()}
        return key | {"side": self.base.side, "gray": recipe.grayscale, "frame": recipe.frame, **code("references")}

    def _surrogate_photos(self, subject: Subject) -> np.ndarray:
        """The subject's surrogate set, cropped as the references are; logs when it shares photos with them."""
        if not subject.surrogate:
            return np.zeros((0, self.base.side, self.base.side, 3), np.uint8)
        known = {p.digest for p in subject.references}
        shared = [p.name for p in subject.surrogate if p.digest in known]
        if shared:
            log.warning("%s: the surrogate set shares photos with the references: %s", subject.name, ", ".join(shared))
        return read_images(self._cropped(subject, subject.surrogate))

    def class_latents(self) -> Tensor:
        """Latents of the class images, made once per base model; none where prior preservation is off."""
        if self.lora.prior_weight == 0:
            return torch.zeros(0)
        key: dict[str, Any] = {"base": self.base.fingerprint, "count": self.lora.class_images, **code("class")}
        key |= {"sampling": self._sampling_key, "versions": self.versions} | self._precision_key

        def compute(out: Path) -> None:
            latents = class_latents(self.base, self.lora.class_images, self.sampling, Seeds(0).child("class"))
            write_tensors(out / "latents.safetensors", {"latents": latents.cpu()})

        return read_tensors(self.store.fetch("class", key, compute) / "latents.safetensors")["latents"]

    def prepare_key(self, cell: Cell) -> dict[str, Any]:
        """What a prepared base depends on: not on the strength, nor on the person where it serves everybody."""
        key, defense = self._training_key(cell), self._defense_key(cell)
        if cell.defense.once:
            key = {name: value for name, value in key.items() if name not in ("references", "subject")}
        options = {name: value for name, value in defense.items() if name != "strength"}
        return {**key, "defense": options, **code("prepare")}

    def protect_key(self, cell: Cell) -> dict[str, Any]:
        """What the protected photos depend on: whoever trains on them, and after whatever purification, shares them."""
        changed = ("prepare", "protect") if self._changes_weights(cell) else ("protect",)
        return {**self._training_key(cell), "defense": self._defense_key(cell), **code(*changed)}

    def model_key(self, cell: Cell) -> dict[str, Any]:
        """What the personalized model depends on. A defense that only acts on outputs shares the undefended model."""
        acts, weights = cell.defense.acts_on, self._changes_weights(cell)
        plain = not (weights or acts("protect") or (acts("personalize") and not self._unauthorized(cell)))
        key = {**self._training_key(cell), "defense": None if plain else self._defense_key(cell)}
        if self._unauthorized(cell) and self.trainer and self.trainer.purify:
            key["purify"] = purifier(self.trainer.purify).key
        return {**key, **code(*(("prepare", "personalize") if weights else ("personalize",)))}

    @staticmethod
    def _changes_weights(cell: Cell) -> bool:
        """Whether models are trained on another base than the plain one."""
        return cell.defense.acts_on("prepare") and not cell.defense.prompts_only

    def _unauthorized(self, cell: Cell) -> bool:
        """Whether an unauthorized trainer personalizes. The un-personalized control stays what it is, whoever asks for it."""
        return self.trainer is not None and not (cell.defense.anchor and cell.defense.acts_on("personalize"))

    def _training_key(self, cell: Cell) -> dict[str, Any]:
        """Of the photos, the cell's own references alone; the subject's name is in all seeds."""
        key = {
            "references": self._crop_key(cell.subject.references),
            "subject": cell.subject.name,
            "base": self.base.fingerprint,
            "lora": self._lora_key,
            "class_sampling": self._sampling_key,
            "seed": cell.seed,
            "versions": self.versions,
        }
        other = self.personalizer.key()
        return key | self._precision_key | ({"personalizer": other} if other else {})

    @property
    def _precision_key(self) -> dict[str, str]:
        return {} if self.base.precision == "fp32" else {"precision": self.base.precision}

    def generated_key(self, cell: Cell) -> dict[str, Any]:
        """What the images depend on before the defense changes them for release."""
        key = {"model": self.model_key(cell), "prompts": self.prompts, "per_prompt": self.per_prompt}
        key |= {"sampling": self._sampling_key, **code("generate")}
        if cell.defense.acts_on("prepare") and cell.defense.prompts_only:
            key |= {"prepare": self._defense_key(cell), **code("prepare", "generate")}
        return key

    def image_key(self, cell: Cell) -> dict[str, Any]:
        """What the posted images depend on."""
        key = self.generated_key(cell)
        if self._releases(cell):
            key |= {"release": self._defense_key(cell), **code("generate", "release")}
        return key

    def _releases(self, cell: Cell) -> bool:
        return cell.defense.acts_on("release") and self.trainer is None

    def is_cached(self, cell: Cell, key: dict[str, Any] | None = None) -> bool:
        """Whether the posted images are there. `key`: the cell's `image_key`, where it is at hand."""
        return self.store.has("release" if self._releases(cell) else "generate", key or self.image_key(cell))

    def open_stages(self, cell: Cell) -> list[str]:
        """The cell's stages that are not stored yet, in order."""
        keys = {"personalize": self.model_key(cell), "generate": self.generated_key(cell)}
        if self._protects(cell):
            keys = {"protect": self.protect_key(cell), **keys}
        if self._prepares(cell):
            keys = {"prepare": self.prepare_key(cell), **keys}
        if self._releases(cell):
            keys["release"] = self.image_key(cell)
        return [stage for stage, key in keys.items() if not self.store.has(stage, key)]

    def outputs(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> Outputs:
        """The main path of a cell: prepare, protect, personalize, generate, release. An unauthorized trainer personalizes and
        generates without the defense, but on the prepared base: there is no other."""
        stages = self._stages(cell, tick)
        extras = {title: read_images(path) for title, path in self._extras_in(stages).items()}
        prompts = [p for p in self.prompts for _ in range(self.per_prompt)]
        costs = {stage: read_cost(folder) for stage, folder in stages.items()}
        return Outputs(read_images(self._posted_in(stages)), prompts, self.image_key(cell), extras, costs)

    def _stages(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> dict[str, Path]:
        """Folders of the cell's stages, in order; each is computed where it is not there, or damaged."""
        stages: dict[str, Path] = {}
        before = [
            point for point, acts in (("prepare", self._prepares(cell)), ("protect", self._protects(cell))) if acts
        ]

        def share(k: int) -> Callable[[float], None]:
            """Parts that train have equal shares of the progress bar."""
            return lambda x: tick((k + x) / (len(before) + 1))

        if "prepare" in before:
            prepare = partial(self._prepare, cell, share(0))
            stages["prepare"] = self._timed("prepare", self.prepare_key(cell), prepare)
        here = partial(self._on_prepared, cell, stages.get("prepare"))
        if "protect" in before:
            protect = partial(self._protect, cell, share(len(before) - 1))
            stages["protect"] = self._timed("protect", self.protect_key(cell), here(protect))
        photos = read_images(stages["protect"]) if "protect" in stages else self.references(cell.subject)
        personalize = partial(self._personalize, cell, photos, share(len(before)))
        stages["personalize"] = self._timed("personalize", self.model_key(cell), here(personalize))
        make = partial(self._generate, cell, stages["personalize"])
        stages["generate"] = self._timed("generate", self.generated_key(cell), here(make))
        if self._releases(cell):
            release = partial(self._release, cell, stages["generate"], tick)
            stages["release"] = self._timed("release", self.image_key(cell), here(release))
        return stages

    @staticmethod
    def _prepares(cell: Cell) -> bool:
        """At strength 0 the base stays what it is, whatever `prepare` would make of it."""
        return cell.defense.acts_on("prepare") and cell.defense.strength > 0

    @staticmethod
    def _protects(cell: Cell) -> bool:
        return cell.defense.acts_on("protect")

    def _on_prepared(self, cell: Cell, folder: Path | None, compute: Callable[[Path], None]) -> Callable[[Path], None]:
        """`compute` on the base that the defense prepared in `folder`; on the plain base where that is None."""

        def computed(out: Path) -> None:
            with self._prepared(cell, folder):
                compute(out)

        return computed

    @contextmanager
    def _prepared(self, cell: Cell, folder: Path | None) -> Iterator[None]:
        if folder is None:
            yield
            return
        self.class_latents()  # of the plain base, whose they are by their key: made now where they are not stored yet
        with prepared(self.base, PreparedBase.of(read_tensors(folder / PREPARED)), cell.defense.strength):
            yield

    def _prepare(self, cell: Cell, tick: Callable[[float], None], out: Path) -> None:
        defense, bench = cell.defense, self._bench(cell, tick)
        photos = self.references(cell.subject)
        if defense.once:
            photos = photos[:0]
            bench = replace(bench, subject="", seeds=Seeds(cell.seed).child("prepare"), surrogate_photos=photos)
        made = defense.model_copy(update={"strength": 1.0}).prepare(photos, bench)
        if defense.prompts_only and made.replaced:
            raise UserError(f"defense '{defense.name}': prepare gives weights, which `prompts_only` rules out")
        write_tensors(out / PREPARED, made.tensors())

    @staticmethod
    def _posted_in(stages: dict[str, Path]) -> Path:
        return stages.get("release", stages["generate"])

    @staticmethod
    def _extras_in(stages: dict[str, Path]) -> dict[str, Path]:
        """Folders of further images, by title."""
        found = {PROTECTED: stages["protect"]} if "protect" in stages else {}
        return found | {path.name: path for path in sorted((stages["personalize"] / "extras").glob("*"))}

    def _protect(self, cell: Cell, tick: Callable[[float], None], out: Path) -> None:
        write_images(out, cell.defense.protect(self.references(cell.subject), self._bench(cell, tick)))

    def _personalize(self, cell: Cell, photos: np.ndarray, tick: Callable[[float], None], out: Path) -> None:
        """photos: uint8 [N, S, S, 3], protected where the defense does that."""
        bench = self._bench(cell, tick)
        if self._unauthorized(cell):
            result = bench.personalize(self._purified(photos, bench.seeds))
        else:
            result = cell.defense.personalize(photos, bench)
        if tensors := self.personalizer.tensors(result.model):
            write_tensors(out / ADAPTER, tensors)
        for title, images in result.images.items():
            write_images(out / "extras" / title, images)
        (out / "trace.json").write_text(json.dumps(result.trace, indent=1))

    def _generate(self, cell: Cell, model: Path, out: Path) -> None:
        adapter = model / ADAPTER
        made = self.personalizer.model(read_tensors(adapter), self.lora) if adapter.is_file() else None
        self._write_generated(cell, made or PersonalizedModel(None, self.lora), out)

    def _write_generated(self, cell: Cell, model: PersonalizedModel, out: Path) -> None:
        """The protocol's images of a model, from the cell's own noise."""
        seeds = Seeds(cell.seed).child("generate", cell.subject.name)
        write_images(out, generate(self.base, model, self.prompts, self.per_prompt, self.sampling, seeds))

    def _release(self, cell: Cell, generated: Path, tick: Callable[[float], None], out: Path) -> None:
        write_images(out, cell.defense.release(read_images(generated), self._bench(cell, tick)))

    def pictures(self, cell: Cell) -> dict[str, Path]:
        """Where a finished cell's images are: the posted ones as "", others under their titles."""
        stages = self._stages(cell)
        return {"": self._posted_in(stages), **self._extras_in(stages)}

    def adapter(self, cell: Cell) -> Path:
        """The personalized model's weights; absent where the cell has not been computed, trains nothing, or is damaged."""
        key = self.model_key(cell)
        return (self.store.find("personalize", key) or self.store.path("personalize", key)) / ADAPTER

    def _purified(self, photos: np.ndarray, seeds: Seeds) -> np.ndarray:
        if self.trainer is None or not self.trainer.purify:
            return photos
        return purifier(self.trainer.purify)(photos, seeds, self.base)

    # ---- the linker's side ------------------------------------------------------------------------------------------

    def embed(self, attacker: Attacker, outputs: Outputs) -> tuple[Embeddings, Cost]:
        """Embeddings of a cell's images, and what they cost."""
        folder = self._timed(
            "embed",
            self._embed_key(attacker, outputs.key),
            lambda out: write_embeddings(out / "embeddings.npz", attacker.embed(list(outputs.images))),
        )
        return read_embeddings(folder / "embeddings.npz"), read_cost(folder)

    def has_embedding(self, attacker: Attacker, images: dict[str, Any]) -> bool:
        """images: `image_key` of a cell."""
        return self.store.has("embed", self._embed_key(attacker, images))

    @staticmethod
    def _embed_key(attacker: Attacker, images: dict[str, Any]) -> dict[str, Any]:
        return {"images": images, "attacker": attacker.fingerprint(), **code("embed")}

    def embed_photos(self, attacker: Attacker, photos: tuple[Photo, ...]) -> Embeddings:
        """Embeddings of dataset photos (gallery and calibration), at their own size: one entry for a person's photos."""
        if not photos:
            return Embeddings(np.zeros((0, attacker.dim), np.float32), np.zeros(0, bool))
        key = self._photos_key(attacker, photos)

        def compute(out: Path) -> None:
            parts = [attacker.embed([p.image for p in photos[i : i + AT_ONCE]]) for i in range(0, len(photos), AT_ONCE)]
            vectors, acquired = (np.concatenate([getattr(p, name) for p in parts]) for name in ("vectors", "acquired"))
            write_embeddings(out / "embeddings.npz", Embeddings(vectors, acquired))

        return read_embeddings(self.store.fetch("embed", key, compute) / "embeddings.npz")

    def has_photos(self, attacker: Attacker, photos: tuple[Photo, ...]) -> bool:
        """Whether `embed_photos` would find them."""
        return not photos or self.store.has("embed", self._photos_key(attacker, photos))

    @staticmethod
    def _photos_key(attacker: Attacker, photos: tuple[Photo, ...]) -> dict[str, Any]:
        return {"photos": [p.digest for p in photos], "attacker": attacker.fingerprint(), **code("embed")}

    # ---- utility ----------------------------------------------------------------------------------------------------

    def features(self, images: np.ndarray) -> np.ndarray:
        """The judge's features float32 [N, 1280] of uint8 [N, H, W, 3]."""
        parts = (pixels(images[i : i + AT_ONCE]) for i in range(0, len(images), AT_ONCE))
        with torch.inference_mode():
            return torch.cat([self._extractor.features(part) for part in parts]).numpy()

    def reference_features(self, subject: Subject) -> np.ndarray:
        """`features` of the subject's references."""
        key = {"references": self._crop_key(subject.references), **code("features")}
        compute = partial(self._write_features, subject)
        return read_arrays(self.store.fetch("features", key, compute) / "features.npz")["features"]

    def _write_features(self, subject: Subject, out: Path) -> None:
        write_arrays(out / "features.npz", features=self.features(self.references(subject)))

    def utility(self, subject: Subject, outputs: Outputs) -> Utility:
        """Image quality, closeness to the references and prompt adherence of a cell's images."""

        def compute(out: Path) -> None:
            write_arrays(out / "utility.npz", **self._utility(subject, outputs.prompts, outputs.images))

        folder = self.store.fetch("utility", self._utility_key(outputs.key), compute)
        own = self._kept(subject, outputs) | {"denoising_error": self._denoising_error(outputs)}
        return Utility(**read_arrays(folder / "utility.npz"), **own, judged=self._judged(subject, outputs))

    # ---- optional judges --------------------------------------------------------------------------------------------

    @cached_property
    def _judges(self) -> tuple[Judge, ...]:
        """Those whose weights and packages are here; none where utility is not measured."""
        return available(str(self.base.device)) if self.measures_utility else ()

    @cached_property
    def judged_by(self) -> dict[str, str]:
        """Their fingerprints by name."""
        return {judge.name: judge.fingerprint() for judge in self._judges}

    @property
    def judges_problem(self) -> str:
        """Which metrics are not measured for lack of weights, with the commands that get them; empty if all are."""
        missing = unmeasured(self._judges) if self.measures_utility else ""
        return f"{UNMEASURED}{missing}" if missing else ""

    def _judged(self, subject: Subject, outputs: Outputs) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for judge in self._judges:
            compute = partial(self._write_judged, judge, subject, outputs)
            folder = self.store.fetch("judge", self._judge_key(judge, outputs.key), compute)
            found |= read_arrays(folder / "judged.npz")
        return found

    def _write_judged(self, judge: Judge, subject: Subject, outputs: Outputs, out: Path) -> None:
        references, clean = self.references(subject), self._surrogate_photos(subject)
        protected = outputs.extras.get(PROTECTED)
        found = judge.judge(Scene(list(outputs.images), outputs.prompts, references, protected, clean))
        write_arrays(out / "judged.npz", **found)

    def _judge_key(self, judge: Judge, images: dict[str, Any]) -> dict[str, Any]:
        return {"images": images, "judge": self.judged_by[judge.name], "data": self.data.fingerprint}

    # ---- the base's denoising error -----------------------------------------------------------------------------------

    def _denoising_error(self, outputs: Outputs) -> np.ndarray:
        """As `Utility` holds it."""
        if not self._asks_base:
            return np.full(len(outputs.images), np.nan)
        return self._errors(self._errors_key(outputs.key), lambda: outputs.images) / self.photo_error

    @property
    def _asks_base(self) -> bool:
        return self.measures_utility and bool(self.data.public) and isinstance(self.base, BaseModel)

    @cached_property
    def photo_error(self) -> float:
        """Median of the errors on photos of public people; NaN without any, or without a base."""
        if not self._asks_base:
            return np.nan
        errors = self._errors(self._photos_errors_key, self._public_squares)
        return float(np.median(errors)) if len(errors) else np.nan

    def has_photo_error(self) -> bool:
        """Whether `photo_error` would be found, or is not needed."""
        return not self._asks_base or self.store.has("denoising", self._photos_errors_key)

    @property
    def _photos_errors_key(self) -> dict[str, Any]:
        return self._errors_key(self._crop_key([photo for _, photo in chosen(self.data.public)]))

    def _public_squares(self) -> np.ndarray:
        """uint8 [M, S, S, 3]"""
        found = [square for part in self._public_crops() for _, square in part]
        return np.stack(found) if found else np.zeros((0, self.base.side, self.base.side, 3), np.uint8)

    def _errors(self, key: dict[str, Any], images: Callable[[], np.ndarray]) -> np.ndarray:
        """Stored errors without a unit; NaN for images of another size than the base's."""

        def compute(out: Path) -> None:
            shown = images()
            fits = shown.shape[1:3] == (self.base.side, self.base.side)
            errors = denoising_errors(self.base, shown) if fits else np.full(len(shown), np.nan)
            write_arrays(out / "denoising.npz", errors=errors)

        return read_arrays(self.store.fetch("denoising", key, compute) / "denoising.npz")["errors"]

    def _errors_key(self, images: dict[str, Any]) -> dict[str, Any]:
        return {"images": images, "base": self.base.fingerprint, **self._precision_key, **code("denoising")}

    # ---- age and sex ------------------------------------------------------------------------------------------------

    def _kept(self, subject: Subject, outputs: Outputs) -> dict[str, np.ndarray]:
        """What `Utility` holds of kept age and sex; empty where the file of faceres is absent."""
        if not self.attributes_by:
            return {}
        own, before = self._read_ages(self._ages_key(outputs.key), outputs.images), self.reference_attributes(subject)
        return {"kept_age": kept_age(own.age, before.age), "kept_sex": kept_sex(own.female, before.female)}

    def reference_attributes(self, subject: Subject) -> AgeSex:
        """What faceres reads in the references. Raises UserError where its file is absent."""
        return self._read_ages(self._ages_key(self._crop_key(subject.references)), self.references(subject))

    def traits(self, subject: Subject) -> dict[str, str]:
        """For demographic tables: what the dataset says of the subject, else age and sex as faceres reads them."""
        if subject.traits or not self.attributes_by or not subject.references:
            return dict(subject.traits)
        found = self.reference_attributes(subject)
        if np.isnan(found.age).all():
            return {}
        sex = GROUPS[SEX][0 if np.nanmean(found.female) > 0.5 else 1]
        return {SEX: sex, AGE: age_group(float(np.nanmean(found.age)))}

    def _read_ages(self, key: dict[str, Any], images: np.ndarray) -> AgeSex:
        if not len(images):
            return AgeSex(np.zeros(0, np.float32), np.zeros(0, np.float32))

        def compute(out: Path) -> None:
            network = build_attacker(AGE_READER).network()
            assert isinstance(network, FaceRes)
            found = age_and_sex(network, list(images), detector=self.detector)
            write_arrays(out / "attributes.npz", age=found.age, female=found.female)

        return AgeSex(**read_arrays(self.store.fetch("attributes", key, compute) / "attributes.npz"))

    def _ages_key(self, images: dict[str, Any]) -> dict[str, Any]:
        return {"images": images, "network": self.attributes_by, **code("attributes")}

    @cached_property
    def attributes_by(self) -> str:
        """Fingerprint of what reads age and sex; empty where it can't run here (`attributes_problem`)."""
        return "" if self.attributes_problem else build_attacker(AGE_READER).fingerprint()

    @cached_property
    def attributes_problem(self) -> str:
        """Why age and sex are not read, and how to fix it; empty if they are."""
        return attributes_problem()

    def _utility(self, subject: Subject, prompts: list[str], images: np.ndarray) -> dict[str, np.ndarray]:
        """The fields of `Utility`. Closeness is NaN where there is no reference."""
        faces = self.detector.detect(list(images))
        features, references = self.features(images), self.reference_features(subject)
        public, shown = self.public_people, self.references(subject)
        before = looks(shown, self.detector.detect(list(shown)))
        return {
            "detected": faces.found,
            "ser_fiq": self._ser_fiq(images, faces.found),
            "brisque": brisque(images),
            "closeness": closeness(features, references) if len(references) else np.full(len(images), np.nan),
            "adherence": adherence(prompts, images, faces),
            "features": features,
            "realism": public.realism(features),
            "kept_look": public.kept_look(looks(images, faces), before, compared(prompts)),
            "closeness_erased": public.closeness_without_identity(features, references),
        }

    @cached_property
    def public_people(self) -> PublicPeople:
        """Photos of public people, cropped as references are; those without a face are left out."""
        if not self.data.public:
            return PublicPeople.nobody()
        folder = self.store.fetch("public", self._public_key, self._write_public)
        return PublicPeople(**read_arrays(folder / "public.npz"))

    def has_public_people(self) -> bool:
        """Whether `public_people` would find them."""
        return not self.data.public or self.store.has("public", self._public_key)

    @cached_property
    def _public_key(self) -> dict[str, Any]:
        photos = chosen(self.data.public)
        return {
            "photos": self._crop_key([photo for _, photo in photos]),
            "people": [who for who, _ in photos],
            **code("public", "features"),
        }

    def _write_public(self, out: Path) -> None:
        features, people, look = [np.zeros((0, HEAD), np.float32)], list[int](), [np.zeros((0, len(LOOK)))]
        for found in self._public_crops():
            images = np.stack([image for _, image in found])
            features.append(self.features(images))
            look.append(looks(images, self.detector.detect(list(images))))
            people += [who for who, _ in found]
        arrays = {"features": np.concatenate(features), "people": np.array(people, int), "look": np.concatenate(look)}
        write_arrays(out / "public.npz", **arrays)

    def _public_crops(self) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Photos of public people with a face, and whose they are, cropped as references are, some at a time."""
        photos = chosen(self.data.public)
        for start in range(0, len(photos), AT_ONCE):
            cut = ((who, crop_photo(photo, self.base, self.detector)) for who, photo in photos[start : start + AT_ONCE])
            if found := [(who, image) for who, image in cut if image is not None]:
                yield found

    def has_utility(self, images: dict[str, Any]) -> bool:
        """images: `image_key` of a cell."""
        known = not self.attributes_by or self.store.has("attributes", self._ages_key(images))
        known &= not self._asks_base or self.store.has("denoising", self._errors_key(images))
        known &= all(self.store.has("judge", self._judge_key(judge, images)) for judge in self._judges)
        return known and self.store.has("utility", self._utility_key(images))

    def _utility_key(self, images: dict[str, Any]) -> dict[str, Any]:
        return {
            "images": images,
            "detector": self.detector.fingerprint(),
            "public": digest(self._public_key) if self.data.public else "",
            **code("utility", "features"),
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

    # ---- parts ------------------------------------------------------------------------------------------------------

    @cached_property
    def detector(self) -> YuNet:
        return YuNet()

    @cached_property
    def _extractor(self) -> EfficientNetLite:
        return EfficientNetLite(JUDGE_NUMBER)

    @cached_property
    def _quality_net(self) -> SFaceNet:
        return SFaceNet()

    @cached_property
    def _quality(self) -> Surrogate:
        return Surrogate(self._quality_net, self.detector)

    def decoy_people(self, cell: Cell) -> list[Person]:
        """The public people whose mean is the cell's decoy identity; at least three, so that it is nobody's."""
        people = sorted(self.data.public, key=lambda person: person.label)
        if len(people) < 3:
            raise UserError(f"dataset '{self.data.name}' has too few public people to pick a decoy identity")
        rng = Seeds(cell.seed).child("decoy", "" if cell.defense.once else cell.subject.name).numpy()
        return [people[i] for i in rng.permutation(len(people))[:DECOY_PEOPLE]]

    def _bench(self, cell: Cell, tick: Callable[[float], None]) -> Workbench:
        declared = cell.defense.surrogates()

        def surrogate(name: str) -> Surrogate:
            if name not in declared:
                raise UserError(f"defense '{cell.defense.name}' asks for surrogate '{name}' but does not declare it")
            return load_surrogate(name, str(self.base.device))

        def wanted(field: ExtraPhotos, load: Callable[[], Any]) -> Any:
            return load() if field in cell.defense.extra_photos() else Undeclared(cell.defense.name, field)

        return Workbench(
            base=self.base,
            lora=self.lora,
            class_latents=self.class_latents(),
            seeds=Seeds(cell.seed).child("defense", cell.subject.name),
            detector=self.detector,
            surrogate=surrogate,
            surrogate_photos=wanted("surrogate_photos", lambda: self._surrogate_photos(cell.subject)),
            decoys=wanted("decoys", lambda: [photo.image for photo in self._decoys(cell)]),
            strangers=wanted("strangers", lambda: [photo.image for photo in self._strangers]),
            tick=tick,
            subject=cell.subject.name,
            personalizer=self.personalizer,
        )

    def _decoys(self, cell: Cell) -> list[Photo]:
        return [person.photos[0] for person in self.decoy_people(cell)]

    @cached_property
    def _strangers(self) -> list[Photo]:
        """One photo each of public people, the same for every cell."""
        people = sorted(self.data.public, key=lambda person: person.label)
        if len(people) < 3:
            raise UserError(f"dataset '{self.data.name}' has too few public people to tell what a stranger scores")
        chosen = Seeds(0).child("strangers").numpy().permutation(len(people))[:STRANGERS]
        return [people[i].photos[0] for i in sorted(chosen)]

    def _defense_key(self, cell: Cell) -> dict[str, Any]:
        """The defense with its version and options, and the photos that it looks at besides the references."""
        defense = cell.defense
        key = {"name": defense.name, "version": defense.version, **defense.settings()}
        declared, photos = defense.extra_photos(), dict[str, Any]()
        if "decoys" in declared:
            photos["decoys"] = [photo.digest for photo in self._decoys(cell)]
        if "strangers" in declared:
            photos["strangers"] = [photo.digest for photo in self._strangers]
        if "surrogate_photos" in declared and cell.subject.surrogate and not defense.once:
            photos["surrogate_photos"] = self._crop_key(cell.subject.surrogate)
        return {**key, "extra photos": photos} if photos else key

    def _timed(self, stage: str, key: dict[str, Any], compute: Callable[[Path], None]) -> Path:
        """`Store.fetch` that notes the cost, so that a reused result still says what it was."""

        def measured(out: Path) -> None:
            with noted(out, self.base.device):
                compute(out)

        return self.store.fetch(stage, key, measured)


@lru_cache
def current_versions() -> dict[str, str]:
    """Of other packages that can change a stage's result; part of the keys."""
    return {name: version(name) for name in ("torch", "diffusers", "peft")}


def code(*stages: str) -> dict[str, dict[str, int]]:
    """The code numbers of stages, as part of a key."""
    return {"code": {stage: CODE[stage] for stage in stages}}


def attributes_problem() -> str:
    """Why kept age and sex can't be measured here, in one line; empty if they can."""
    problem = build_attacker(AGE_READER).available()
    # Without the folder in brackets: notes of a run name no place on its machine.
    return f"{KEPT_UNMEASURED}: {problem.partition(' (')[0]}" if problem else ""


@lru_cache(maxsize=8)
def load_surrogate(name: str, device: str) -> Surrogate:
    """The attacker's network with the crop in front of it. Raises UserError when it is not differentiable."""
    attacker = build_attacker(name)
    return Surrogate(attacker.network(), getattr(attacker, "detector", None)).to(device)
