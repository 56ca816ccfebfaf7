"""The base classes of attacker plugins (attackers/): face-recognition systems that try to link an image to a person."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from iddmbench.errors import UserError, did_you_mean
from iddmbench.faces.align import MAX_STEP, crop, similarity
from iddmbench.faces.detect import Detector, Faces, YuNet
from iddmbench.faces.images import rgb_images
from iddmbench.faces.mtcnn import MTCNN
from iddmbench.guards import checked_embeddings, errors_of
from iddmbench.metrics.identification import identity_scores
from iddmbench.nets.face_net import FaceNet
from iddmbench.options import Options, changed_options, is_options, read_options, split_options, write_options
from iddmbench.registry import Registry
from iddmbench.types import Embeddings, Image
from iddmbench.weights import WeightFile
from iddmbench.wheel_files import sha256, wheel_file

ALIGNMENT = 2
"""Raised whenever `faces.align` would give other crops for the same landmarks: it is part of every fingerprint."""

YUNET = "yunet"
DETECTORS: dict[str, type[Detector]] = {"mtcnn": MTCNN}
"""Detectors that may stand behind an attacker's name ("sface:mtcnn"), instead of YuNet."""


class AttackerOptions(Options):
    """Options of an attacker (`--attacker-set NAME.key=value`). A plugin derives `Options` from its base class's."""


def _with_options(own: Callable[[Any], str]) -> Callable[[Any], str]:
    @wraps(own)
    def fingerprint(self: Any) -> str:
        changed = {k: v for k, v in changed_options(self.options).items() if k not in self.fingerprinted}
        if not changed:
            return own(self)
        return hashlib.sha256(json.dumps([own(self), changed], sort_keys=True).encode()).hexdigest()

    return fingerprint


class Attacker(ABC):
    """A face-recognition system. Building one is cheap: weights are read when they are first needed.

    A plugin writes `_embed`; whoever uses it calls `embed`, which converts the images and checks what comes back.

    Attributes:
        name: registry name.
        title: one line for lists and reports.
        dim: length of an embedding.
        licence: of the weights.
        source: where the weights come from.
        similarity: how two embeddings compare: "cosine", or "own" where `compare` is overridden.
        differentiable: whether `network` gives a torch module, so that a defense may use it as a surrogate.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    dim: ClassVar[int]
    licence: ClassVar[str]
    source: ClassVar[str]
    similarity: ClassVar[str] = "cosine"
    differentiable: ClassVar[bool] = False
    same_as: ClassVar[str] = ""
    """The attacker whose network it shares, where that has another name: it is white-box where that one is (`same_network`)."""
    referee_of: ClassVar[tuple[str, ...]] = ()
    """Datasets whose photos it helped to choose: it can't be an attacker there (`refusal`)."""
    looks_past_the_face: ClassVar[bool] = False
    """Whether it links by what surrounds the inner face alone. Such an attacker stands beside the worst cases, which are about
    faces: an avatar may keep hair and pose by design (docs/attackers.md)."""
    trained_on: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    """Photos that it was trained on, by dataset and name ("orl", "s1/1"): public people on them are left out where
    thresholds are calibrated, because a system knows its training people too well."""
    trained_on_datasets: ClassVar[tuple[str, ...]] = ()
    """Names of the datasets that it was trained on, or may have been, in lower case ("vggface2", "casia-webface"): a run on
    one of them says so. Empty where nothing was trained, or nothing is known."""
    file: ClassVar[WeightFile | None] = None
    """Weights that `iddmbench fetch NAME` downloads; None when there is nothing to download."""
    Options: ClassVar[type[AttackerOptions]] = AttackerOptions
    """Its options, each with a default. An instance has their values as `self.options`."""
    fingerprinted: ClassVar[frozenset[str]] = frozenset()
    """Options that its own `fingerprint` covers. The others become part of it unless they are at their default."""

    def __init_subclass__(cls, **kwargs: Any):
        """A plugin that overrides `embed` itself has it checked all the same; its options are part of its fingerprint."""
        super().__init_subclass__(**kwargs)
        if "fingerprint" in vars(cls):
            cls.fingerprint = _with_options(vars(cls)["fingerprint"])  # type: ignore[method-assign, assignment]
        if "embed" in vars(cls):
            own = vars(cls)["embed"]
            if getattr(cls._embed, "__isabstractmethod__", False):
                cls._embed = own  # type: ignore[method-assign]

            @wraps(own)
            def embed(
                self: Attacker, images: Sequence[np.ndarray] | np.ndarray, faces: Faces | None = None
            ) -> Embeddings:
                return self._checked(own, images, faces)

            cls.embed = embed  # type: ignore[method-assign]

    @cached_property
    def options(self) -> Any:
        """An instance of `Options`; the defaults, where `configured` was not told others."""
        return type(self).Options()

    @classmethod
    def configured(cls, options: Mapping[str, Any]) -> "Attacker":
        """Raises UserError that names the wrong option or value."""
        read = read_options(cls.Options, options, f"attacker '{cls.name}'")
        attacker = cls()
        attacker.use(read)
        return attacker

    def use(self, options: AttackerOptions) -> None:
        """Take these options; called once, before anything else."""
        self.options = options

    @classmethod
    def read_argument(cls, argument: str) -> dict[str, Any]:
        """The options that `name:argument` is short for. Raises UserError when the attacker takes nothing there."""
        raise UserError(f"attacker '{cls.name}' takes no argument after the colon, got '{argument}'")

    @classmethod
    def write_argument(cls, options: Any) -> str:
        """The inverse of `read_argument`, for an instance of `Options`; empty for the defaults."""
        return write_options(options)

    def available(self) -> str | None:
        """None if it can run here, else one line that says what to do. Downloads nothing.

        The line starts with "needs weights:" or "needs extra:" if one command fixes it.
        """
        return None

    def refusal(self, dataset: str) -> str | None:
        """Why it can't be an attacker on that dataset, in one line; None if it can."""
        if dataset not in self.referee_of:
            return None
        return (
            f"attacker '{self.name}' was the referee of dataset '{dataset}': it chose which photos show one person, so it "
            "links them by construction; take another attacker"
        )

    def embed(self, images: Sequence[np.ndarray] | np.ndarray, faces: Faces | None = None) -> Embeddings:
        """One embedding per image, independent of the other images; not acquired where no face was found.

        Args:
            images: uint8 [H, W, 3] RGB or [H, W] gray, any sizes, or one array [N, H, W, 3].
            faces: their faces, where they are known already; it must come from the attacker's own detector for the
                result to be what `fingerprint` stands for. A system with a detection of its own ignores it.

        Raises TypeError or ValueError (`rgb_images`; as many faces as images), and UserError, which names the attacker, when
        it is not available, fails, or gives something else than unit vectors.
        """
        return self._checked(type(self)._embed, images, faces)

    @abstractmethod
    def _embed(self, images: list[Image], faces: Faces | None) -> Embeddings:
        """What a plugin writes: `embed` of at least one image.

        Args:
            images: uint8 [H, W, 3] RGB, any sizes.
            faces: as in `embed`: one per image, or None.

        Returns vectors float32 [N, dim], of unit length where a face was found and zero elsewhere, and acquired bool [N].
        """

    def _checked(
        self,
        embed: Callable[..., Embeddings],
        images: Sequence[np.ndarray] | np.ndarray,
        faces: Faces | None,
    ) -> Embeddings:
        converted = rgb_images(images)
        if faces is not None and len(faces) != len(converted):
            raise ValueError(f"{len(converted)} images, but faces of {len(faces)}")
        if not converted:
            return Embeddings(np.zeros((0, self.dim), np.float32), np.zeros(0, bool))
        with errors_of(f"attacker '{self.name}'"):
            found = embed(self, converted, faces)
        return checked_embeddings(f"attacker '{self.name}'", found, len(converted), self.dim)

    def compare(self, probes: np.ndarray, photos: np.ndarray) -> np.ndarray:
        """Scores [P] of probes against a person who is enrolled by photos: its own where `similarity` is "own".

        probes: [P, dim], photos: [n, dim], both as `embed` gives them, each with a face. By default the cosine to the
        normalized mean of the photos.
        """
        return identity_scores(probes, photos, np.zeros(len(photos), int), "mean").scores[:, 0]

    @abstractmethod
    def fingerprint(self) -> str:
        """64 hex digits that change whenever an image could get another embedding: weights, detector, alignment."""

    def network(self) -> FaceNet:
        """The differentiable network, for a surrogate. Raises UserError when there is none."""
        raise UserError(f"attacker '{self.name}' is not differentiable, so it can't be a defense's surrogate")


class NetworkOptions(AttackerOptions):
    detector: Literal["yunet", "mtcnn"] = Field("yunet", description="what finds faces and landmarks")


class DetectingAttacker(Attacker):
    """An attacker that finds faces by a detector that can be swapped (`name:mtcnn`).

    Args:
        detector: finds faces and landmarks; YuNet by default.
    """

    Options: ClassVar[type[AttackerOptions]] = NetworkOptions
    fingerprinted = frozenset({"detector"})

    def __init__(self, detector: Detector | None = None):
        self._make_detector: Callable[[], Detector] = YuNet if detector is None else lambda: detector

    @classmethod
    def read_argument(cls, argument: str) -> dict[str, Any]:
        hint = did_you_mean(argument, DETECTORS)
        raise UserError(f"attacker '{cls.name}' takes a detector after the colon, not '{argument}': {hint}")

    def use(self, options: AttackerOptions) -> None:
        super().use(options)
        if (detector := getattr(options, "detector", YUNET)) != YUNET:
            self._make_detector = DETECTORS[detector]
            self.title = f"{self.title}, faces by {detector.upper()}"  # type: ignore[misc]

    def available(self) -> str | None:
        try:
            self.require()
        except UserError as error:
            return str(error)
        return None

    def require(self) -> None:
        """Raises UserError, with what to do, when a file that it reads is not there."""
        _ = self.detector

    @cached_property
    def detector(self) -> Detector:
        return self._make_detector()


class NetworkAttacker(DetectingAttacker):
    """Detect, align, embed: all that a subclass adds is a network and the file of its weights.

    The file is one of an installed package (`weights`) or one that is fetched (`file`).

    Args:
        detector: finds faces and landmarks; YuNet by default.
        batch: crops that go through the network at once; bounds the memory, does not change results. A processor's caches hold
            the layers of few crops: on two cores 8 are faster than 1 and than 32 (docs/attackers.md).
        device: torch device of the network.
    """

    differentiable = True
    weights: ClassVar[tuple[str, str]]
    """Package and file of the weights (`wheel_file`)."""
    package: ClassVar[tuple[str, str] | None] = None
    """Import name of a package that it needs besides the core, and the command that installs it."""

    def __init__(self, detector: Detector | None = None, batch: int = 8, device: str = "cpu"):
        if batch < 1:
            raise ValueError(f"batch must be at least 1, got {batch}")
        super().__init__(detector)
        self.batch, self.device = batch, device

    @abstractmethod
    def load(self) -> FaceNet:
        """Read the weights. Raises UserError when they are absent or malformed."""

    def weights_path(self) -> Path:
        return self.file.require() if self.file else wheel_file(*self.weights)

    def weights_hash(self) -> str:
        """Part of the fingerprint: what the network's numbers depend on."""
        return sha256(self.weights_path())

    @cached_property
    def _network(self) -> FaceNet:
        return self.load().to(self.device)

    def network(self) -> FaceNet:
        return self._network if self.differentiable else super().network()

    def available(self) -> str | None:
        if self.package and find_spec(self.package[0]) is None:
            return f"needs extra: {self.package[1]}"
        if self.file and (problem := self.file.problem()):
            how = problem if self.file.by_hand else f"iddmbench fetch {self.name} ({problem})"
            return f"needs weights: {how}"
        return super().available()

    def require(self) -> None:
        self.weights_path()
        super().require()

    def fingerprint(self) -> str:
        network = self._network
        parts = {
            "attacker": self.name,
            "weights": self.weights_hash(),
            "detector": self.detector.fingerprint(),
            "alignment": [ALIGNMENT, MAX_STEP, network.size, np.asarray(network.template, np.float64).tolist()],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _embed(self, images: list[Image], faces: Faces | None) -> Embeddings:
        if faces is None:
            faces = self.detector.detect(images)
        network = self._network
        vectors = np.zeros((len(images), self.dim), np.float32)
        rows = np.flatnonzero(faces.found)
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            matrices = torch.from_numpy(similarity(faces.landmarks[part], network.template))
            with torch.inference_mode():
                crops = [_crop(images[i], m, network.size) for i, m in zip(part, matrices, strict=True)]
                vectors[part] = network(torch.cat(crops).to(self.device)).cpu().numpy()
        return Embeddings(vectors, faces.found.copy())


class ComputedAttacker(NetworkAttacker):
    """A classical system: what embeds is computed when it is loaded, so that there is no file of weights."""

    licence = "none needed"
    source = "computed; no weights"

    def require(self) -> None:
        _ = self.detector

    def weights_hash(self) -> str:
        return self._network.weights_sha256


def _crop(image: np.ndarray, matrix: Tensor, size: int) -> Tensor:
    # A copy: torch warns of arrays that can't be written, as gray images (views) and decoded photos are.
    pixels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None].float() / 255
    return crop(pixels, matrix[None], size)


ATTACKERS: Registry[Attacker] = Registry(
    "attacker",
    Attacker,  # type: ignore[type-abstract]
    {
        "dlib": "iddmbench.attackers.dlib:Dlib",
        "sface": "iddmbench.attackers.sface:SFace",
        "lbph": "iddmbench.attackers.lbph:LBPH",
        "gabor": "iddmbench.attackers.gabor:Gabor",
        "hog": "iddmbench.attackers.hog:Hog",
        "hog-face": "iddmbench.attackers.hog_face:HogFace",
        "eigenfaces": "iddmbench.attackers.eigenfaces:Eigenfaces",
        "faceres": "iddmbench.attackers.faceres:FaceResAttacker",
        "fr_feature": "iddmbench.attackers.faceplugin:FrFeature",
        "onnx": "iddmbench.attackers.onnx:Onnx",
        "buffalo_l": "iddmbench.attackers.insightface:BuffaloL",
        "buffalo_s": "iddmbench.attackers.insightface:BuffaloS",
        "antelopev2": "iddmbench.attackers.insightface:AntelopeV2",
        "raccoon_l": "iddmbench.attackers.insightface:RaccoonL",
        "raccoon_s": "iddmbench.attackers.insightface:RaccoonS",
        "facenet-vggface2": "iddmbench.attackers.facenet:FaceNetVGGFace2",
        "facenet-casia": "iddmbench.attackers.facenet:FaceNetCasia",
        "deepface-arcface": "iddmbench.attackers.deepface:ArcFace",
        "deepface-facenet": "iddmbench.attackers.deepface:Facenet",
        "deepface-facenet512": "iddmbench.attackers.deepface:Facenet512",
        "deepface-vgg-face": "iddmbench.attackers.deepface:VGGFace",
        "deepface-ghostfacenet": "iddmbench.attackers.deepface:GhostFaceNet",
        "deepface-sface": "iddmbench.attackers.deepface:SFace",
        "deepface-openface": "iddmbench.attackers.deepface:OpenFace",
        "ir152": "iddmbench.attackers.amt_gan:IR152",
        "irse50": "iddmbench.attackers.amt_gan:IRSE50",
        "mobileface": "iddmbench.attackers.amt_gan:MobileFace",
        "facenet": "iddmbench.attackers.amt_gan:AmtGanFaceNet",
        "adaface": "iddmbench.attackers.adaface:AdaFace",
        "qmagface": "iddmbench.attackers.qmagface:QMagFace",
        "elasticface": "iddmbench.attackers.elasticface:ElasticFace",
        "lvface": "iddmbench.attackers.lvface:LVFace",
    },
    "iddmbench.attackers",
    texts=("name", "title", "licence", "source"),
)


def split_detector(name: str) -> tuple[str, str]:
    """ "sface:mtcnn" as ("sface", "mtcnn"), "sface" as ("sface", "")."""
    system, _, last = name.rpartition(":")
    return (system, last) if system and last in DETECTORS else (name, "")


def same_network(name: str) -> str:
    """The attacker whose network the plain attacker of that name shares, else the name itself; also for unknown names."""
    try:
        return ATTACKERS.get(name.partition(":")[0]).same_as or name
    except UserError:  # results may name a plugin that is not installed here
        return name


def looks_past_the_face(name: str) -> bool:
    """Whether the plain attacker of that name does (`Attacker.looks_past_the_face`); False for unknown names."""
    try:
        return ATTACKERS.get(name.partition(":")[0]).looks_past_the_face
    except UserError:
        return False


def options_of(name: str) -> tuple[type[Attacker], dict[str, Any]]:
    """The class of a plain attacker, and the options that its name gives: "onnx:PATH,bgr", "mine:radius=2", "sface:mtcnn".

    Raises UserError for an unknown attacker, or an option it doesn't have.
    """
    system, detector = split_detector(name)
    kind, colon, argument = system.partition(":")
    cls = ATTACKERS.get(kind)
    options: dict[str, Any] = {}
    if colon:
        given = split_options(argument) if is_options(argument) else {}
        # A shorthand may look like options ("onnx:a=b.onnx"): they are meant where one exists, or there is no shorthand.
        meant = any(key in cls.Options.model_fields for key in given) or (given and not _has_shorthand(cls))
        options = {**given} if meant else cls.read_argument(argument)
    if detector:
        if "detector" not in cls.Options.model_fields:
            raise UserError(f"attacker '{cls.name}' has its own detector: '{detector}' can't replace it")
        options["detector"] = detector
    return cls, options


def _has_shorthand(cls: type[Attacker]) -> bool:
    own = cls.read_argument.__func__  # type: ignore[attr-defined]
    return own not in (base.read_argument.__func__ for base in (Attacker, DetectingAttacker))  # type: ignore[attr-defined]


def build_attacker(name: str) -> Attacker:
    """The attacker of that name: `name` or `name:argument` ("onnx:PATH", "mine:radius=2"), either followed by `:detector`
    ("sface:mtcnn").

    Raises UserError when there is none.
    """
    cls, options = options_of(name)
    return cls.configured(options)


def attacker_with(name: str, changes: Mapping[str, Any]) -> str:
    """The name of that attacker with further options, in the shortest form. Raises UserError for one that is wrong, or that the
    name gives already."""
    cls, options = options_of(name)
    if twice := [key for key in changes if key in options]:
        raise UserError(f"attacker '{name}': option '{twice[0]}' is given twice, in the name and by --attacker-set")
    read = read_options(cls.Options, {**options, **changes}, f"attacker '{cls.name}'")
    detector = changed_options(read).get("detector", "")
    plain = read.model_copy(update={"detector": YUNET}) if detector in DETECTORS else read
    return ":".join(filter(None, [cls.name, cls.write_argument(plain), detector]))
