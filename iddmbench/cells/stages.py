"""The stages of a cell, each stored under a key of what it depends on: prepare, protect, personalize, generate, release,
embed.

Read `CellStages.outputs` for the main path: references -> model -> images that are posted. The linker's side is
`CellStages.embed`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddmbench.attacker import Attacker
from iddmbench.cells.bench import Benches
from iddmbench.cells.cell import PROTECTED, Cell, Outputs, UnauthorizedTrainer
from iddmbench.cells.crops import Crops
from iddmbench.cells.utility import UtilityStages
from iddmbench.cells.versions import code, current_versions, precision_key
from iddmbench.defense import Workbench
from iddmbench.errors import UserError
from iddmbench.models.base import BaseModel
from iddmbench.models.recipe import Sampling, TrainingSettings
from iddmbench.personalize.lora import Lora
from iddmbench.personalize.personalizer import Personalizer
from iddmbench.personalize.prepared import PreparedBase, prepared
from iddmbench.personalize.sample import class_latents, generate
from iddmbench.personalize.trainer import PersonalizedModel
from iddmbench.perturb.purifier import purifier
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store
from iddmbench.store.cost import Cost, noted, read_cost
from iddmbench.store.files import (
    read_embeddings,
    read_images,
    read_tensors,
    write_embeddings,
    write_images,
    write_tensors,
)
from iddmbench.types import Embeddings, FaceData, Photo

ADAPTER = "adapter.safetensors"
PREPARED = "prepared.safetensors"
AT_ONCE = 16
"""Dataset photos that are in memory together."""


class CellStages:
    """One base model, one dataset, one store: computes cells, or finds them computed.

    `trainer`: None where the owner personalizes. `lora`: settings of `personalizer`, which is LoRA by default.
    """

    trains: bool = True
    """Whether it can personalize a model: not where images are given."""

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
        self.crops = Crops(base, store)
        self.utility = UtilityStages(self.crops, data)
        self.benches = Benches(self.crops, data, lora, self.personalizer)

    # ---- the model owner's side -------------------------------------------------------------------------------------

    def class_latents(self) -> Tensor:
        """Latents of the class images, made once per base model; none where prior preservation is off."""
        if self.lora.prior_weight == 0:
            return torch.zeros(0)
        key: dict[str, Any] = {"base": self.base.fingerprint, "count": self.lora.class_images, **code("class")}
        key |= {"sampling": self._sampling_key, "versions": self.versions} | precision_key(self.base)

        def compute(out: Path) -> None:
            latents = class_latents(self.base, self.lora.class_images, self.sampling, Seeds(0).child("class"))
            write_tensors(out / "latents.safetensors", {"latents": latents.cpu()})

        return read_tensors(self.store.fetch("class", key, compute) / "latents.safetensors")["latents"]

    def prepare_key(self, cell: Cell) -> dict[str, Any]:
        """What a prepared base depends on: not on the strength, nor on the person where it serves everybody."""
        key, defense = self._training_key(cell), self.benches.key(cell)
        if cell.defense.once:
            key = {name: value for name, value in key.items() if name not in ("references", "subject")}
        options = {name: value for name, value in defense.items() if name != "strength"}
        return {**key, "defense": options, **code("prepare")}

    def protect_key(self, cell: Cell) -> dict[str, Any]:
        """What the protected photos depend on: whoever trains on them, and after whatever purification, shares them."""
        changed = ("prepare", "protect") if self._changes_weights(cell) else ("protect",)
        return {**self._training_key(cell), "defense": self.benches.key(cell), **code(*changed)}

    def model_key(self, cell: Cell) -> dict[str, Any]:
        """What the personalized model depends on. A defense that only acts on outputs shares the undefended model."""
        acts, weights = cell.defense.acts_on, self._changes_weights(cell)
        plain = not (weights or acts("protect") or (acts("personalize") and not self._unauthorized(cell)))
        key = {**self._training_key(cell), "defense": None if plain else self.benches.key(cell)}
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
            "references": self.crops.key(cell.subject.references),
            "subject": cell.subject.name,
            "base": self.base.fingerprint,
            "lora": self._lora_key,
            "class_sampling": self._sampling_key,
            "seed": cell.seed,
            "versions": self.versions,
        }
        other = self.personalizer.key()
        return key | precision_key(self.base) | ({"personalizer": other} if other else {})

    def generated_key(self, cell: Cell) -> dict[str, Any]:
        """What the images depend on before the defense changes them for release."""
        key = {"model": self.model_key(cell), "prompts": self.prompts, "per_prompt": self.per_prompt}
        key |= {"sampling": self._sampling_key, **code("generate")}
        if cell.defense.acts_on("prepare") and cell.defense.prompts_only:
            key |= {"prepare": self.benches.key(cell), **code("prepare", "generate")}
        return key

    def image_key(self, cell: Cell) -> dict[str, Any]:
        """What the posted images depend on."""
        key = self.generated_key(cell)
        if self._releases(cell):
            key |= {"release": self.benches.key(cell), **code("generate", "release")}
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
        photos = read_images(stages["protect"]) if "protect" in stages else self.crops.references(cell.subject)
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
        defense, bench = cell.defense, self.bench(cell, tick)
        photos = self.crops.references(cell.subject)
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
        write_images(out, cell.defense.protect(self.crops.references(cell.subject), self.bench(cell, tick)))

    def _personalize(self, cell: Cell, photos: np.ndarray, tick: Callable[[float], None], out: Path) -> None:
        """photos: uint8 [N, S, S, 3], protected where the defense does that."""
        bench = self.bench(cell, tick)
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
        write_images(out, cell.defense.release(read_images(generated), self.bench(cell, tick)))

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

    # ---- parts ------------------------------------------------------------------------------------------------------

    def bench(self, cell: Cell, tick: Callable[[float], None] = lambda share: None) -> Workbench:
        """What the cell's defense is given."""
        return self.benches.of(cell, self.class_latents(), tick)

    def _timed(self, stage: str, key: dict[str, Any], compute: Callable[[Path], None]) -> Path:
        """`Store.fetch` that notes the cost, so that a reused result still says what it was."""

        def measured(out: Path) -> None:
            with noted(out, self.base.device):
                compute(out)

        return self.store.fetch(stage, key, measured)
