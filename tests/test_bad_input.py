"""What is wrong with people, files and bases is one line; an attacker that is not here costs nobody else's figures."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab_plugins import TinyORL
from test_threat import configuration
from tfjs_files import faceres_file
from tiny_base import write_base

import iddmbench as ib
from iddmbench.cells.stages import CellStages
from iddmbench.datasets.orl import ORL, photo
from iddmbench.datasets.synthetic import Synthetic
from iddmbench.errors import UserError
from iddmbench.linking.absent import absent, absent_findings, check_attackers
from iddmbench.linking.declared import gray_base
from iddmbench.linking.doubts import all_findings
from iddmbench.models.base import open_base
from iddmbench.models.recipe import Recipe
from iddmbench.results.findings import check_strict, read_findings
from iddmbench.run.pipeline import run
from iddmbench.run.plan import choose
from iddmbench.seeds import Seeds
from iddmbench.store.cache import Store
from iddmbench.synthetic.generator import Generator
from iddmbench.types import FaceData

pytestmark = pytest.mark.usefixtures("plugins")


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(folder))
    yield folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


# ---- attackers that are not here ----------------------------------------------------------------------------------------


def test_the_run_goes_on_without_an_attacker_whose_file_is_absent(base: Path, tmp_path: Path) -> None:
    """Named before anything is trained, in the headline and in the notes; the others' figures are those of a run without it."""
    both = configuration(base, defenses=("echo",), attackers=("coarse", "faceres"))
    alone = configuration(base, defenses=("echo",), attackers=("coarse",))
    assert run(both, tmp_path / "both", tmp_path / "cache") == 0 == run(alone, tmp_path / "alone", tmp_path / "cache")
    with_it, without = (ib.open_run(tmp_path / name) for name in ("both", "alone"))
    line = (
        "attacker 'faceres' did not run (needs weights: iddmbench fetch faceres): "
        "every worst case is over 1 attacker instead of 2"
    )
    assert [f.text for f in read_findings(tmp_path / "both") if f.kind == "absent"] == [line]
    assert f"{line}." in with_it.headline and line in with_it.notes and "did not run" not in str(without)
    assert with_it.attackers == ["coarse"] and with_it.summary().equals(without.summary())
    with pytest.raises(UserError, match="faceres' did not run"):
        check_strict([f for f in read_findings(tmp_path / "both") if f.kind == "absent"])


def test_who_looks_past_the_face_is_in_no_worst_case_to_count() -> None:
    (found,) = absent_findings({"faceres": "needs weights: x"}, ["sface", "hog", "finetune:sface"])
    assert found.text.endswith(": every worst case is over 2 attackers instead of 3")
    (found,) = absent_findings({"hog": "needs extra: x"}, ["sface"])
    assert found.text == "attacker 'hog' did not run (needs extra: x)"


def test_without_any_attacker_nothing_starts(base: Path, tmp_path: Path) -> None:
    """Nor with one that is unknown, or a file that is no network: no command brings those."""
    for attackers, said in (
        (("faceres",), "attacker 'faceres' can't run: needs weights: iddmbench fetch faceres"),
        (("coarse", "onnx:/no/such.onnx"), "attacker 'onnx:/no/such.onnx' can't run: "),
        (("coarse", "facerez"), "unknown attacker 'facerez': did you mean 'faceres'"),
    ):
        with pytest.raises(UserError, match=said):
            run(configuration(base, attackers=attackers), tmp_path / "out", tmp_path / "cache")
    assert not (tmp_path / "out").exists()


def test_another_version_of_faceres_is_as_good_as_none(tmp_path: Path, no_weights: Path) -> None:
    """Its checksum is not the pinned one: the attacker stays out, and kept age and sex are not measured."""
    faceres_file(no_weights, dim=512)
    missing = absent(["coarse", "faceres", "finetune:faceres"])
    assert missing == dict.fromkeys(("faceres", "finetune:faceres"), "needs weights: iddmbench fetch faceres")
    check_attackers(["coarse", "faceres"])
    with pytest.raises(UserError, match=r"faceres\.json is damaged or another file") as caught:
        check_attackers(["faceres"])
    assert "\n" not in str(caught.value)
    pictures = {f"s{p}": [photo(p, k).image for k in (1, 5)] for p in (29, 30)}
    images, gallery = ({name: [own[i]] for name, own in pictures.items()} for i in (0, 1))
    attackers = ("coarse", "faceres")
    found = ib.evaluate(images, gallery, attackers=attackers, cache=tmp_path / "cache", out=tmp_path / "out")
    assert found.attackers == ["coarse"] and not found.utility.kept_age.known
    assert "kept age and sex are not measured: needs weights: iddmbench fetch faceres" in found.notes
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


# ---- people and bases -----------------------------------------------------------------------------------------------------


def test_nobody_is_a_subject_and_a_public_person() -> None:
    """A subject of the other part of the dataset is a public person of this one."""
    reported = Synthetic(part="report").load()
    tuned = next(s.name for s in Synthetic(part="tuning").load().subjects)
    with pytest.raises(UserError, match=rf"'synthetic': '{tuned}' is a public person in this run.*part=all") as caught:
        choose(reported, (reported.subjects[0].name, tuned))
    assert "\n" not in str(caught.value)
    assert [s.name for s in choose(Synthetic().load(), (tuned,))] == [tuned]
    with pytest.raises(UserError, match="'s1' is a public person"):
        choose(ORL().load(), ("s29", "s1"))


def test_colour_photos_on_a_gray_base_are_one_finding() -> None:
    colour, gray = Synthetic().load().subjects[:3], TinyORL().load().subjects
    recipe = open_base("micro").recipe
    (found,) = gray_base("micro", recipe, colour)
    assert "'micro' knows gray photos only, but 3 of 3 subjects have photos in colour" in found.text
    assert found.kind == "gray" and found.strict and "\n" not in found.text
    assert list(gray_base("micro", recipe, gray)) == []
    assert list(gray_base("sd15", Recipe.model_validate({}), colour)) == []


def test_synthetic_on_micro_says_so_before_anything_is_trained(tmp_path: Path) -> None:
    data = Synthetic().load()
    few = FaceData("synthetic", data.subjects[:1], data.public[:3])
    base = open_base("micro")
    stages = CellStages(base, few, Store(tmp_path), base.recipe.lora, base.recipe.sampling, (), 1)
    assert [
        f.kind for f in all_findings(few, few.subjects, {}, stages.embed_photos, stages.crops.detector, base)
    ].count("gray") == 1


# ---- the dataset's builder -------------------------------------------------------------------------------------------------


def test_without_openvino_only_the_builder_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"needs openvino: pip install 'iddmbench\[synthetic\]'"):
        Generator(Seeds(0))
    assert len(Synthetic().load().subjects) == 60
