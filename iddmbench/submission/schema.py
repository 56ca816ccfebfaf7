"""What a submission says about itself: `submission.json` in a bundle. Everything in it is checked, nothing is believed.

Figures in it are claims: they are compared with what `iddmbench verify` recomputes from the images and never enter the
leaderboard. The JSON Schema of this model is docs/submission.schema.json.
"""

import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, field_validator, model_validator

from iddmbench.adaptive import ADAPTIVE
from iddmbench.errors import UserError
from iddmbench.results.run_folder import label
from iddmbench.submission.text import AttackerName, Hash, Line, Paragraph, Slug, Title, Url

SUBMISSION_SCHEMA = 1
MEMBER = "submission.json"
ANCHORS = ("none", "generic")
MOST_CELLS, MOST_CLAIMS, MOST_FILES = 20_000, 40_000, 100_000
MOST_ITEMS = 2_000
"""Of any other list or object."""
MOST_DEPTH = 6
"""Of lists and objects in each other."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10_000_000)]
Option = bool | Annotated[int, Field(ge=-(10**12), le=10**12)] | Number | Literal[""] | Line
Options = Annotated[dict[Slug, Option | Annotated[list[Option], Field(max_length=64)]], Field(max_length=64)]


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Protocol(Frozen):
    """See `iddmbench.run.pipeline.protocol`."""

    version: Annotated[str, Field(max_length=16, pattern=r"^[0-9A-Za-z.]+$")]
    hash: Hash


class RunFacts(Frozen):
    """The run's configuration, as `iddmbench run` resolved it."""

    iddmbench: Slug = Field(description="version of iddmbench that ran")
    dataset: Slug
    base: Slug = Field(
        description='base model: "micro", "micro-rgb", "sd15", "sd21", or "custom" for a folder or hub id'
    )
    personalizer: Slug
    subjects: Annotated[tuple[Slug, ...], Field(min_length=1, max_length=2000)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, le=2**31)], ...], Field(min_length=1, max_length=64)]
    prompts: Annotated[tuple[Line, ...], Field(min_length=1, max_length=64)]
    images_per_prompt: Annotated[int, Field(ge=1, le=1000)]
    strengths: Annotated[tuple[Share, ...], Field(max_length=64)]
    defense_options: Options = Field(description="as given to the run")
    resolved_options: Options = Field(
        description="every option of the defense but its strength, defaults and presets filled in"
    )
    preset: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]*$")] = ""
    threat: Literal["authorized", "unauthorized"] = Field(
        "authorized",
        description="who personalizes: the owner with the defense, or an unauthorized trainer on protected photos",
    )
    purify: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._:+=,-]*$")] = Field(
        "", description="what an unauthorized trainer does to the photos first"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="of the base model's networks")
    lora: Options = Field(description="changes to the base's LoRA settings; the leaderboard ranks none but {}")
    personalizer_options: Options = Field(
        default_factory=dict,
        description="the personalizer's settings as given to the run; the leaderboard ranks none but {}",
    )
    sampling: Options = Field(description="changes to the base's sampling settings")
    lora_settings: Options
    sampling_settings: Options
    data_fingerprint: Hash
    base_fingerprint: Hash


class CellFacts(Frozen):
    """One personalized model of one subject under one defense."""

    defense: Slug
    strength: Share | None = Field(description="null for the anchors")
    subject: Slug
    seed: Annotated[int, Field(ge=0, le=2**31)]
    status: Literal["ok", "failed"]

    @property
    def folder(self) -> str:
        """Its folder in the bundle: "images/iddm-0.50-seed0/s29"."""
        return str(PurePosixPath("images", label(self.defense, self.strength, self.seed), self.subject))

    @property
    def adapter(self) -> str:
        return str(
            PurePosixPath("adapters", label(self.defense, self.strength, self.seed), f"{self.subject}.safetensors")
        )


class Claim(Frozen):
    """A figure of the submitter's own summary table."""

    defense: Slug
    strength: Share | None
    attacker: AttackerName | Literal[""]
    metric: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._@+-]+$")]
    policy: Annotated[str, Field(max_length=16, pattern=r"^[a-z]*$")]
    value: Number


class FileFacts(Frozen):
    """Size in bytes and SHA-256 of a member of the bundle."""

    size: Annotated[int, Field(ge=0, le=2**31)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Machine(Frozen):
    """Where the run was made; nothing in it names the machine or its user."""

    python: Line = "unknown"
    platform: Line = "unknown"
    processor: Line = "unknown"
    cpu_count: Count = 0
    torch_threads: Count = Field(
        0, description="CPU threads of the training; cells are retrained with the same number; 0: unknown"
    )
    gpu: Line | None = None
    packages: Annotated[dict[Slug, Line], Field(max_length=64)] = {}
    git: Line | None = None


class Submission(Frozen):
    """Metadata of a bundle."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Title = Field(description="how the leaderboard lists it")
    defense: Slug = Field(description='registry name of the defense; "none" for a bundle of anchors')
    title: Line = Field(description="one line on the defense")
    authors: Annotated[tuple[Title, ...], Field(max_length=50)] = ()
    paper: Url | None = None
    code: Url | None = None
    description: Paragraph = ""
    white_box: Annotated[tuple[AttackerName, ...], Field(max_length=32)] = Field(
        description="attackers that the defense optimized against; for a defense known to the verifier its own list counts"
    )
    protocol: Protocol
    run: RunFacts
    machine: Machine
    attackers: Annotated[dict[AttackerName, Hash], Field(max_length=64)] = Field(
        description="attackers of the submitter's run and their fingerprints; a file is named without its path"
    )
    cells: Annotated[tuple[CellFacts, ...], Field(min_length=1, max_length=MOST_CELLS), FailFast()]
    claims: Annotated[tuple[Claim, ...], Field(max_length=MOST_CLAIMS), FailFast()]
    files: Annotated[dict[str, FileFacts], Field(max_length=MOST_FILES)]
    adapters: bool = Field(False, description="the bundle holds the LoRA adapters too")

    @field_validator("white_box")
    @classmethod
    def _systems(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """A defense optimizes against networks; an adaptive attacker is none, and white-box where its network is."""
        for name in names:
            if name.partition(":")[0] in ADAPTIVE:
                raise ValueError(f"'{name:.80}' is an adaptive attacker: name the system that it rests on")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> "Submission":
        keys = [(cell.folder, cell.defense, cell.strength) for cell in self.cells]
        if len({folder.casefold() for folder, _, _ in keys}) < len(keys):
            raise ValueError("two cells share a folder")
        for cell in self.cells:
            if cell.defense not in (*ANCHORS, self.defense):
                raise ValueError(f"cell of defense '{cell.defense}' in a submission of '{self.defense}'")
            if (cell.strength is None) != (cell.defense in ANCHORS):
                raise ValueError(f"cell of '{cell.defense}' with strength {cell.strength}")
            if cell.subject not in self.run.subjects or cell.seed not in self.run.seeds:
                raise ValueError(f"cell of subject '{cell.subject}', seed {cell.seed}, which the run does not name")
            if cell.strength is not None and cell.strength not in self.run.strengths:
                raise ValueError(f"cell of strength {cell.strength:g}, which the run does not name")
        conditions = {(cell.defense, cell.strength) for cell in self.cells}
        whole = len(conditions) * len(self.run.subjects) * len(self.run.seeds)
        if len(self.cells) != whole:
            raise ValueError(
                f"{len(self.cells)} cells, where conditions x subjects x seeds make {whole}: list failed ones too"
            )
        if expected := sorted(set(self.expected()) ^ set(self.files)):
            raise ValueError(f"files and cells don't match, for example {expected[0]!r:.120}")
        return self

    @property
    def images_per_cell(self) -> int:
        return len(self.run.prompts) * self.run.images_per_prompt

    def images_of(self, cell: CellFacts) -> list[str]:
        """Members that hold the cell's images, in order of prompt and index; none of a failed cell."""
        count = self.images_per_cell if cell.status == "ok" else 0
        return [f"{cell.folder}/{i:04d}.png" for i in range(count)]

    def expected(self) -> Iterator[str]:
        """Every member that the cells call for, beside submission.json."""
        for cell in self.cells:
            yield from self.images_of(cell)
            if self.adapters and cell.status == "ok" and cell.defense != "generic":
                yield cell.adapter

    @cached_property
    def conditions(self) -> list[tuple[str, float | None]]:
        """(defense, strength), the anchors first, then by strength."""
        found = {(cell.defense, cell.strength) for cell in self.cells}
        return sorted(found, key=lambda c: (c[1] is not None, c[0] != "none", c[1] or 0.0))


def parse_submission(content: dict[str, Any]) -> Submission:
    """Raises UserError that names the first field that is wrong; what the field holds is shown cut and quoted.

    Lengths come first: a validator that collects one error for each of millions of elements would not end.
    """
    if content.get("schema") != SUBMISSION_SCHEMA:
        found = f"{content.get('schema')!r:.20}"
        raise UserError(f"{MEMBER}: schema version {found}, this iddmbench reads {SUBMISSION_SCHEMA}")
    check_lengths(content)
    try:
        return Submission.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(f"{part!s:.80}" for part in first["loc"]) or "submission"
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(printable(f"{MEMBER}: {where}: {message[0].lower()}{message[1:]}")) from error


def check_lengths(content: dict[str, Any]) -> None:
    """Raises UserError for lists and objects that are too long or too deep in each other, and for a file that is no size and
    hash."""
    limits = {"cells": MOST_CELLS, "claims": MOST_CLAIMS, "files": MOST_FILES}

    def look(value: Any, where: str, depth: int) -> None:
        if not isinstance(value, list | dict):
            return
        limit = limits.get(where, MOST_ITEMS)
        if len(value) > limit:
            raise UserError(printable(f"{MEMBER}: {where[:80]}: {len(value)} elements, at most {limit} are allowed"))
        if depth > MOST_DEPTH:
            raise UserError(
                printable(f"{MEMBER}: {where[:80]}: lists and objects are nested more than {MOST_DEPTH} deep")
            )
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            look(inner, f"{where}.{key}" if where else str(key), depth + 1)

    look(content, "", 0)
    files = content.get("files")
    for name, facts in files.items() if isinstance(files, dict) else ():
        if not isinstance(facts, dict) or set(facts) != {"size", "sha256"}:
            raise UserError(printable(f"{MEMBER}: files: {name[:80]} has no size and sha256, or more than these"))


def printable(text: str, limit: int = 400) -> str:
    """Text that may hold a stranger's characters, fit for a terminal: one line, no control characters, cut."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def json_schema() -> str:
    """The JSON Schema (draft 2020-12) of submission.json, as docs/submission.schema.json holds it."""
    return json.dumps(Submission.model_json_schema(by_alias=True), indent=2) + "\n"


def number_or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
