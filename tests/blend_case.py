"""A run of a defense that posts views of photos, on a base made in a moment, and its bundle."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import Members
from lab_plugins import install, square
from tiny_base import write_base

from iddmbench.defense import DEFENSES, Defense
from iddmbench.results.run_folder import RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.submission.bundle import About, write_bundle
from iddmbench.submission.verify import Verification, VerifyOptions, verify


class Blend(Defense):
    """Posts views of the subject's photos, shifted by what no hash follows; strength blends in the next subject's."""

    name = "blend"
    title = "views of photos instead of generated images"

    differentiates = False

    surrogate: str = "coarse"

    def surrogates(self) -> tuple[str, ...]:
        return (self.surrogate,)

    def release(self, images: np.ndarray, bench: Any) -> np.ndarray:
        person = int(bench.seeds.path[-1][1:])
        return np.stack([blend(person, i, 0.6 * self.strength) for i in range(len(images))])


class Undefended(Defense):
    """Stands for the undefended model: other views of the subject's photos, which every attacker links."""

    name = "none"
    title = "views of photos, undefended"
    anchor = True

    def release(self, images: np.ndarray, bench: Any) -> np.ndarray:
        person = int(bench.seeds.path[-1][1:])
        return np.stack([shown(person, i) for i in range(len(images))])


def install_blend(patch: pytest.MonkeyPatch) -> None:
    """The quick plugins, and those of this module, until the patch is undone."""
    install(patch)
    for cls in (Blend, Undefended):
        patch.setitem(DEFENSES._added, cls.name, cls)  # type: ignore[attr-defined]


def shown(person: int, index: int) -> np.ndarray:
    """uint8 [64, 64, 3]: a photo of the person, shifted by what no hash follows."""
    view = np.roll(square(person, 5 + index % 3), (-5 - index, 6 + index), (0, 1)).astype(float)
    return np.clip(view + np.linspace(20, -20, 64)[:, None, None], 0, 255).astype(np.uint8)


def blend(person: int, index: int, share: float) -> np.ndarray:
    own = np.roll(square(person, 5 + index % 3), (5 + index, 6 - 2 * index), (0, 1)).astype(float)
    other = np.roll(square(20 + person % 5, 4), (7, 9), (0, 1)).astype(float)
    ramp = np.linspace(-25, 25, 64)[None, :, None]
    return np.clip((1 - share) * own + share * other + ramp, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Case:
    root: Path
    run: Path
    bundle: Path
    base: Path

    def options(self, **changes: Any) -> VerifyOptions:
        usual = VerifyOptions(cache=self.root / "cache", attackers=("coarse", "fine"), base=str(self.base))
        return replace(usual, **changes)

    def verify(self, bundle: Path, out: Path, **changes: Any) -> Verification:
        return verify(bundle, out, self.options(**changes))


def make_case(root: Path) -> Case:
    """A run of `Blend` on a tiny base, and its bundle."""
    base = write_base(root / "base")
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(base), "defenses": ("blend",)}
    config = make_config(options | {"strengths": (0.5, 1.0), "attackers": ("coarse", "fine"), "images_per_prompt": 2})
    assert pipeline.run(config, root / "run", root / "cache") == 0
    about = About("Blend", ("A. Author",), "https://example.org/paper", "https://example.org/code", "A test.")
    write_bundle(RunFolder.open(root / "run"), None, about, root / "blend.zip", adapters=root / "cache")
    return Case(root, root / "run", root / "blend.zip", base)


def rename(meta: dict[str, Any], members: Members) -> None:
    """As if the defense were one that the verifier does not know."""
    text = str(meta).replace("'blend'", "'theirs'")
    meta.clear()
    meta.update(eval(text))
    for name in list(members):
        members[name.replace("/blend-", "/theirs-")] = members.pop(name)
