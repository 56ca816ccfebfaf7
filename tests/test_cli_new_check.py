"""`iddmbench new` and `iddmbench check`, as one uses them; and that a check finds what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

from iddmbench.attacker import ATTACKERS, NetworkAttacker
from iddmbench.cli import app
from iddmbench.cli.new import write
from iddmbench.conformance import attacker as attackers
from iddmbench.conformance import defense as defenses
from iddmbench.conformance import run_checks
from iddmbench.conformance.attacker import AttackerSubject
from iddmbench.defense import Defense
from iddmbench.errors import UserError
from iddmbench.faces.align import ARCFACE_112
from iddmbench.nets.face_net import FaceNet
from iddmbench.plugins import Kind
from iddmbench.types import Embeddings

run = CliRunner().invoke
OTHERS = [
    (Kind.adaptive, "fuse"),
    (Kind.adaptive, "sface"),
    (Kind.purifier, "jpeg"),
    (Kind.personalizer, "lora"),
    (Kind.dataset, "orl"),
]


@pytest.mark.parametrize("kind", list(Kind))
def test_what_new_writes_works(kind: Kind, tmp_path: Path) -> None:
    """The written package passes its own test, which is the conformance suite."""
    done = run(app, ["new", kind.value, "soft-edges", "--in", str(tmp_path)])
    folder = tmp_path / "iddmbench-soft-edges"
    assert done.exit_code == 0 and "iddmbench check" in done.stdout, done.output
    assert not [p for p in folder.rglob("*") if p.is_file() and re.search("@[A-Z]+@", p.read_text())]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_soft_edges.py"]
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=_path(folder), timeout=600)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    last = tested.stdout.splitlines()[-1]  # a warning may say "failed"
    assert "passed" in last and "failed" not in last, tested.stdout
    again = run(app, ["new", kind.value, "soft-edges", "--in", str(tmp_path)])
    assert again.exit_code == 2 and "exists: choose another name" in again.output


def _path(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.mark.parametrize("name", ["../x", "Upper", "a b", "a--b", "class", "", "1st", "x" * 70])
def test_a_wrong_name_writes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a valid plugin name"):
        write(Kind.attacker, name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    for kind, name in ((Kind.attacker, "sface"), (Kind.attacker, "finetune"), (Kind.defense, "iddm"), *OTHERS):
        with pytest.raises(UserError, match="exists already"):
            write(kind, name, tmp_path)


def test_check_says_what_holds_and_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    good = run(app, ["check", "attacker", "eigenfaces"])
    assert good.exit_code == 0 and "ok      batch invariant" in good.stdout, good.output
    assert "figures recognition: EER " in good.stdout and "18 public people of ORL" in good.stdout
    unknown = run(app, ["check", "attacker", "eigenface"])
    assert unknown.exit_code == 2 and "did you mean 'eigenfaces'" in unknown.output
    absent = run(app, ["check", "attacker", "onnx:nothing.onnx"])
    assert absent.exit_code == 2 and "no such file" in absent.output
    option = run(app, ["check", "defense", "random-noise", "--set", "epsilon=1"])
    assert option.exit_code == 2 and "has no option 'epsilon'" in option.output


def broken(cls: type, **changes: object) -> list[str]:
    made = type(cls.__name__, (cls,), changes)
    subject = AttackerSubject(made, cls.name)
    return [outcome.name for outcome in run_checks(attackers.CHECKS, subject) if outcome.state == "failed"]


def test_each_fault_of_an_attacker_is_found() -> None:
    lbph = ATTACKERS.get("lbph")
    plain = lbph.embed
    assert broken(lbph) == []

    def scaled(self, images, faces=None):
        found = plain(self, images, faces)
        return Embeddings(found.vectors * 2, found.acquired)

    def noisy(self, images, faces=None):
        found = plain(self, images, faces)
        noise = np.random.default_rng().normal(size=found.vectors.shape).astype(np.float32) * 0.05
        vectors = (found.vectors + noise) * found.acquired[:, None]
        return Embeddings(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), found.acquired)

    def batchy(self, images, faces=None):
        found = plain(self, images, faces)
        vectors = found.vectors - found.vectors.mean(0) * (len(found) > 1)
        return Embeddings(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), found.acquired)

    def blind(self, images, faces=None):
        found = plain(self, images, faces)
        return Embeddings(found.vectors, np.ones(len(found), bool))

    def constant(self, images, faces=None):
        found = plain(self, images, faces)
        vectors = np.zeros_like(found.vectors)
        vectors[found.acquired, 0] = 1
        return Embeddings(vectors, found.acquired)

    assert "shapes and norms" in broken(lbph, embed=scaled)
    assert "deterministic" in broken(lbph, embed=noisy)
    assert "batch invariant" in broken(lbph, embed=batchy)
    assert "no face is a masked row of zeros" in broken(lbph, embed=blind)
    assert "own photos match above impostors" in broken(lbph, embed=constant)
    assert "fingerprint is stable" in broken(lbph, fingerprint=lambda self: "abc")
    assert "describes itself" in broken(lbph, licence="")
    assert "gradient flows if differentiable" in broken(lbph, differentiable=False)


def test_a_sound_network_with_a_constant_entry_passes() -> None:
    """After a ReLU some entries are 0 for every image; the gradient of others does not vanish."""

    class Net(FaceNet):
        name, size, template, dim, weights_sha256 = "relu", 112, ARCFACE_112, 8, "0" * 64
        dead = False

        def features(self, crops: torch.Tensor) -> torch.Tensor:
            cells = F.adaptive_avg_pool2d(crops.mean(1), (1, 7)).flatten(1)
            return F.pad(cells * 0 + 1 if self.dead else cells, (1, 0))

    class Relu(NetworkAttacker):
        name, title, dim, licence, source = "relu", "t", 8, "l", "s"

        def load(self) -> FaceNet:
            return Net()

        def available(self) -> None:
            return None

        def weights_hash(self) -> str:
            return "0" * 64

    def gradient() -> str:
        subject = AttackerSubject(Relu, "relu")
        (outcome,) = run_checks([attackers.gradient_flows_if_differentiable], subject)
        return outcome.message

    assert gradient() == ""
    Net.dead = True
    assert gradient() == "the gradient must not vanish"


def test_each_fault_of_a_defense_is_found() -> None:
    class Plain(Defense):
        name, title = "plain", "does nothing"

    def faults(**changes: object) -> list[str]:
        annotations = {key: value for key, value in changes.items() if not key.startswith("_")}
        cls = type("Broken", (Plain,), {"__module__": __name__, **annotations})
        subject = defenses.DefenseSubject(cls, "plain")
        subject.__dict__["base"] = BASE
        chosen = [c for c in defenses.CHECKS if c.__name__ != "progress_is_a_share"]
        return [outcome.name for outcome in run_checks(chosen, subject) if outcome.state == "failed"]

    BASE = defenses.tiny_base()

    def writes(self, images, bench):
        images[0, 0, 0] ^= 255
        return images

    def draws(self, images, bench):
        if self.strength == 0:
            return images
        return np.random.randint(0, 256, images.shape).astype(np.uint8)  # noqa: NPY002

    assert faults() == []
    assert "strength zero is no defense" in faults(release=lambda self, images, bench: 255 - images)
    assert "shapes and types stand" in faults(release=lambda self, images, bench: images[:, ::2])
    assert "the same seeds give the same result" in faults(release=draws)
    assert "surrogates are attackers" in faults(surrogates=lambda self: ("hog",))
    assert "inputs and base are left alone" in faults(release=writes)
