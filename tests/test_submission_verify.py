"""From a run to a bundle to recomputed figures: honest bundles pass with the same figures, each kind of fraud is named."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pandas as pd
import pytest
from blend_case import Case, install_blend, make_case, rename
from bundles import Members, forge, png
from lab_plugins import square
from typer.testing import CliRunner

from iddmbench.attacker import ATTACKERS, build_attacker
from iddmbench.cells.utility import Utility
from iddmbench.cli import app
from iddmbench.datasets.orl import photo
from iddmbench.defense import DEFENSES, Defense
from iddmbench.errors import UserError
from iddmbench.leaderboard import board as boards
from iddmbench.linking.aggregate import Group, Scored
from iddmbench.nets import sface as sface_net
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER, WORST_CASES, RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.submission import verify as module
from iddmbench.submission.authenticity import Dependence, Posted, dependence
from iddmbench.submission.bundle import About, write_bundle
from iddmbench.submission.images import perceptual_hash
from iddmbench.submission.names import own_names, public_name, public_options
from iddmbench.submission.stages import white_box_of
from iddmbench.submission.verify import Verification
from iddmbench.wheel_files import wheel_file

runner = CliRunner()
SUBJECTS = ("s29", "s30", "s31")


class Veil(Defense):
    """Brightens the photos before somebody else trains on them."""

    name = "veil"
    title = "brighter photos"

    def protect(self, references: np.ndarray, bench: Any) -> np.ndarray:
        return np.clip(references + np.uint8(40 * self.strength), 40, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        install_blend(patch)
        patch.setitem(DEFENSES._added, "veil", Veil)
        yield


@pytest.fixture(scope="module")
def case(plugins: None, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("submission"))


@pytest.fixture(scope="module")
def verified(case: Case) -> Verification:
    return case.verify(case.bundle, case.root / "verified")


# ---- an honest bundle -------------------------------------------------------------------------------------------------


def test_a_bundle_holds_no_photo_and_no_path(case: Case) -> None:
    meta, members = bundles.unpack(case.bundle)
    assert all(name.startswith(("images/", "adapters/")) for name in members)
    assert len([n for n in members if n.startswith("images/")]) == 4 * 3 * 4
    assert len([n for n in members if n.startswith("adapters/")]) == 3 * 3
    assert str(case.root) not in str(meta) and meta["run"]["base"] == "custom"
    assert meta["white_box"] == ["coarse"]


def test_equal_runs_give_equal_bundles(case: Case, tmp_path: Path) -> None:
    about = About("Blend", ("A. Author",), "https://example.org/paper", "https://example.org/code", "A test.")
    write_bundle(RunFolder.open(case.run), "blend", about, tmp_path / "again.zip", adapters=case.root / "cache")
    assert (tmp_path / "again.zip").read_bytes() == case.bundle.read_bytes()


def test_recomputed_figures_are_the_runs_own(case: Case, verified: Verification) -> None:
    """The same code on the same images: every figure agrees to the last digit, seeds of the bootstrap included."""
    keys = ["defense", "strength", "attacker", "metric", "policy"]
    own, again = (
        RunFolder.open(p).summary.sort_values(keys).reset_index(drop=True) for p in (case.run, verified.run.path)
    )
    pd.testing.assert_frame_equal(own, again)
    assert verified.accepted and not verified.refused and not verified.differences
    assert verified.white_box == ("coarse",) and not verified.stated


def test_without_trusted_anchors_there_is_no_rank(verified: Verification) -> None:
    assert "no trusted anchors" in verified.unranked
    assert any("the submitter's own" in note for note in verified.notes)


def test_attackers_are_the_verifiers_choice(case: Case, tmp_path: Path) -> None:
    found = case.verify(case.bundle, tmp_path / "out", attackers=("fine",))
    assert set(found.run.summary["attacker"]) == {"", "fine", *WORST_CASES}
    assert any("not run here: coarse" in note for note in found.notes)
    assert not found.differences, "worst cases over other attackers are not compared"
    with pytest.raises(UserError, match="unknown attacker"):
        case.verify(case.bundle, tmp_path / "other", attackers=("finer",))


def test_adaptive_attackers_are_verified(case: Case, tmp_path: Path) -> None:
    """They have standings of their own and count in the adaptive worst case alone."""
    names = ("coarse", "fine", "finetune:fine", "threshold:coarse", "cross-post:fine")
    found = case.verify(case.bundle, tmp_path / "out", attackers=names)
    assert found.attackers == names and not found.differences
    assert any("chosen by the verifier: cross-post:fine, finetune:fine, threshold:coarse" in n for n in found.notes)
    areas = {s.judge: s.hypervolume.value for s in found.standings if s.metric == "r1u"}
    assert set(areas) == {WORST_CASE, WORST_CASE_ADAPTIVE, WORST_CASE_TRANSFER, *names}
    assert areas[WORST_CASE_TRANSFER] == areas["fine"], "the only plain one that is not white-box"
    assert areas[WORST_CASE] <= min(areas["coarse"], areas["fine"]), "white-box ones count"
    assert areas[WORST_CASE_ADAPTIVE] <= areas[WORST_CASE]
    boards.add(tmp_path / "board", found, "blend")
    (entry,) = boards.read_entries(tmp_path / "board")
    threats = {a.name: a.threat for a in entry.attackers}
    assert threats["finetune:fine"] == threats["cross-post:fine"] == "adaptive"
    assert threats["threshold:coarse"] == "adaptive white-box" and threats["coarse"] == "white-box"
    assert entry.judged_by(WORST_CASE_TRANSFER) == ["fine"]
    assert set(entry.judged_by(WORST_CASE)) <= {"coarse", "fine"}
    assert {s.threat for s in entry.standings if s.judge == WORST_CASE_ADAPTIVE} == {WORST_CASE_ADAPTIVE}


def test_adaptive_attackers_that_cannot_judge(case: Case, tmp_path: Path) -> None:
    for names, hint in (
        (("finetune:fine",), "also name a plain one"),
        (("fine", "fuse:fine"), "two plain"),
        (("fine", "purify:finer"), "unknown attacker"),
    ):
        with pytest.raises(UserError, match=hint):
            case.verify(case.bundle, tmp_path / "out", attackers=names)
    with pytest.raises(UserError, match="needs 3 subjects"):
        module.choose_attackers(("fine", "finetune:fine"), 2)
    assert not (tmp_path / "out").exists()


def test_a_claim_on_the_adaptive_worst_case_needs_the_same_attackers(case: Case, tmp_path: Path) -> None:
    def boast(meta: dict[str, Any], members: Members) -> None:
        for claim in meta["claims"]:
            if claim["attacker"] == WORST_CASE_ADAPTIVE and claim["metric"] == "r1u":
                claim["value"] = 1.5

    bad = forge(case.bundle, tmp_path / "bad.zip", boast)
    assert {d.claim.attacker for d in case.verify(bad, tmp_path / "same").differences} == {WORST_CASE_ADAPTIVE}
    other = ("coarse", "fine", "threshold:fine")
    assert not case.verify(bad, tmp_path / "other", attackers=other).differences


def test_retrained_cells_agree(case: Case, tmp_path: Path) -> None:
    found = case.verify(case.bundle, tmp_path / "out", retrain=2, seed=3)
    assert [r.agrees for r in found.retrained] == [True, True]
    assert all(r.gray == 0 and r.equal == r.images for r in found.retrained), "same machine, same bits"
    assert len({r.cell.folder for r in found.retrained}) == 2


def test_unauthorized_cells_are_trained_again_as_they_were(case: Case, tmp_path: Path) -> None:
    """On protected and purified photos, without the defense; the same settings with an owner give other images."""
    options = {"dataset": "tiny-orl", "subjects": 1, "base": str(case.base), "defenses": ("veil",), "strengths": (1.0,)}
    options |= {"attackers": ("fine",), "images_per_prompt": 1, "threat": "unauthorized", "purify": "jpeg-30"}
    assert pipeline.run(make_config(options), tmp_path / "run", tmp_path / "cache") == 0
    path = tmp_path / "veil.zip"
    meta = write_bundle(RunFolder.open(tmp_path / "run"), None, About("Veil"), path, adapters=tmp_path / "cache")
    assert (meta.run.threat, meta.run.purify) == ("unauthorized", "jpeg-30")
    found = case.verify(path, tmp_path / "out", attackers=("fine",), retrain=1)
    assert found.accepted and [r.gray for r in found.retrained] == [0]
    honest = forge(path, tmp_path / "owner.zip", lambda meta, _: meta["run"].update(threat="authorized", purify=""))
    other = case.verify(honest, tmp_path / "owner", attackers=("fine",), retrain=1)
    assert other.track != found.track and other.retrained[0].gray > 0
    for changes, hint in (({"purify": "jpeg-x"}, "jpeg-x"), ({"threat": "authorized"}, "must be unauthorized")):
        bad = forge(path, tmp_path / "bad.zip", lambda meta, _, changes=changes: meta["run"].update(changes))
        with pytest.raises(UserError, match=hint):
            case.verify(bad, tmp_path / "bad", attackers=("fine",))


# ---- trusted anchors --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def anchors(case: Case) -> Path:
    folder = case.root / "anchors"
    write_bundle(RunFolder.open(case.run), "none", About("Anchors"), folder / "anchors.zip")
    return folder


def test_bad_anchors_do_not_raise_the_index(case: Case, anchors: Path, tmp_path: Path) -> None:
    """Gray undefended images would make every other look good: the trusted ones count."""

    def spoil(meta: dict[str, Any], members: Members) -> None:
        for name in members:
            if name.startswith("images/none"):
                members[name] = png(np.full((64, 64, 3), 128, np.uint8))

    bad = forge(case.bundle, tmp_path / "bad.zip", spoil)
    found = case.verify(bad, tmp_path / "out", anchors=anchors)
    honest = case.verify(case.bundle, tmp_path / "honest", anchors=anchors)
    assert found.anchors == honest.anchors != ""
    assert any("not the trusted ones" in note for note in found.notes)
    pd.testing.assert_frame_equal(found.run.summary, honest.run.summary)
    assert not any("no trusted anchors" in f.unranked for f in (found, honest))


def test_a_bundle_without_anchors_takes_the_trusted_ones(case: Case, anchors: Path, tmp_path: Path) -> None:
    def drop(meta: dict[str, Any], members: Members) -> None:
        meta["cells"] = [c for c in meta["cells"] if c["strength"] is not None]
        for name in [n for n in members if "/none" in n or "/generic" in n]:
            del members[name]

    found = case.verify(forge(case.bundle, tmp_path / "bare.zip", drop), tmp_path / "out", anchors=anchors)
    assert set(found.run.cells["defense"]) == {"none", "generic", "blend"}
    assert found.accepted


# ---- fraud ------------------------------------------------------------------------------------------------------------


def test_claims_that_are_not_so_are_named(case: Case, tmp_path: Path) -> None:
    def boast(meta: dict[str, Any], members: Members) -> None:
        for claim in meta["claims"]:
            if claim["metric"] == "r1u" and claim["attacker"] == "fine" and claim["strength"] == 0.5:
                claim["value"] = 1.5

    found = case.verify(forge(case.bundle, tmp_path / "boast.zip", boast), tmp_path / "out")
    assert not found.accepted and {d.claim.metric for d in found.differences} == {"r1u"}
    assert "blend at strength 0.5: r1u (fine" in str(found.differences[0])
    figures = found.run.summary
    assert not (figures["value"] == 1.5).any(), "only recomputed figures count"


def test_images_from_elsewhere_do_not_survive_training_again(case: Case, tmp_path: Path) -> None:
    def swap(meta: dict[str, Any], members: Members) -> None:
        for i, name in enumerate(sorted(n for n in members if n.startswith("images/blend"))):
            members[name] = png(np.roll(bundles.picture(i), i, 0))

    found = case.verify(forge(case.bundle, tmp_path / "swap.zip", swap), tmp_path / "out", retrain=1)
    assert not found.accepted and not found.retrained[0].agrees
    assert found.differences, "the claims are those of other images"


def photos_as(kind: str) -> Any:
    def change(meta: dict[str, Any], members: Members) -> None:
        for name in sorted(n for n in members if n.startswith("images/blend-1.00")):
            person, index = int(name.split("/")[2][1:]), int(Path(name).stem)
            view = {
                "reference": square(person, 1 + index % 2),
                "enrolment": square(person, 5 + index % 3),
                "public": square(1 + index % 20, 1 + index % 4),
                "stranger": square(29 + (person - 28) % 3, 1),
            }[kind]
            if kind == "enrolment":
                view = view[:, ::-1]
            rng = np.random.default_rng(index)
            members[name] = png(np.clip(view + rng.normal(6, 4, view.shape), 0, 255).astype(np.uint8))

    return change


@pytest.mark.parametrize("kind", ["reference", "enrolment", "public", "stranger"])
def test_photos_of_the_dataset_are_no_outputs(case: Case, tmp_path: Path, kind: str) -> None:
    """Re-coded, brighter, noisy, mirrored: still the photo."""
    found = case.verify(forge(case.bundle, tmp_path / "copy.zip", photos_as(kind)), tmp_path / "out")
    wanted = "reference photos" if kind == "reference" else "photo from the dataset"
    assert any(wanted in text and "strength 1" in text for text in found.refused), found.refused
    assert not any("strength 0.5" in text for text in found.refused)
    with pytest.raises(UserError, match="refused"):
        boards.add(tmp_path / "board", found, "copy", despite=True)


def test_one_image_for_all_subjects(case: Case, tmp_path: Path) -> None:
    def same(meta: dict[str, Any], members: Members) -> None:
        for name in [n for n in members if n.startswith("images/blend-1.00")]:
            members[name] = members[name.replace(name.split("/")[2], "s29")]

    found = case.verify(forge(case.bundle, tmp_path / "same.zip", same), tmp_path / "out")
    assert any("are used for several subjects" in text for text in found.refused)


def test_images_of_another_submission(case: Case, verified: Verification, tmp_path: Path) -> None:
    """Re-saved a little brighter under another name; the original may be replaced by its own author."""
    board = tmp_path / "board"
    boards.add(board, verified, "blend")

    def steal(meta: dict[str, Any], members: Members) -> None:
        meta["name"] = "My own work"

    stolen = forge(case.bundle, tmp_path / "stolen.zip", steal)
    found = case.verify(stolen, tmp_path / "out", known=boards.known_images(board))
    assert any("those of submission 'blend'" in text for text in found.refused)
    assert case.verify(stolen, tmp_path / "again", known={}).accepted


def test_the_same_defense_in_another_track(case: Case, verified: Verification, tmp_path: Path) -> None:
    """The owner trained, or somebody else: the same images, two tracks. Under another name they are stolen."""
    board = tmp_path / "board"
    boards.add(board, verified, "blend")

    def steals(meta: dict[str, Any], members: Members) -> None:
        meta["run"]["threat"] = "unauthorized"

    trainer = forge(case.bundle, tmp_path / "unauthorized.zip", steals)
    found = case.verify(trainer, tmp_path / "out", known=boards.known_images(board))
    assert not found.refused and found.track != verified.track
    assert any(
        "those of submission 'blend', of the same defense and authors in another track" in note for note in found.notes
    )

    def renamed(meta: dict[str, Any], members: Members) -> None:
        steals(meta, members)
        rename(meta, members)

    theirs = forge(case.bundle, tmp_path / "theirs.zip", renamed)
    assert case.verify(theirs, tmp_path / "again", known=boards.known_images(board)).refused


def test_pictures_that_show_nothing_are_noted(case: Case, tmp_path: Path) -> None:
    def blank(meta: dict[str, Any], members: Members) -> None:
        for name in [n for n in members if n.startswith("images/blend-1.00")]:
            members[name] = png(np.full((64, 64, 3), 90, np.uint8))

    found = case.verify(forge(case.bundle, tmp_path / "blank.zip", blank), tmp_path / "out")
    assert any("12 of 12 images are blank" in note for note in found.notes)
    assert not any("several subjects" in text for text in found.refused)


def test_other_photos_weights_settings_and_protocols_are_refused(case: Case, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "different photos": lambda m: m["run"].update(data_fingerprint="0" * 64),
        "different base model weights": lambda m: m["run"].update(base_fingerprint="0" * 64),
        "lora_settings": lambda m: m["run"]["lora_settings"].update(steps=1),
        "sampling_settings": lambda m: m["run"]["sampling_settings"].update(steps=1),
        "protocol": lambda m: m["protocol"].update(hash="0" * 64),
        "not installed": lambda m: m["run"].update(dataset="elsewhere"),
    }
    for hint, change in changes.items():
        path = forge(case.bundle, tmp_path / "x.zip", lambda meta, _, change=change: change(meta))
        with pytest.raises(UserError, match=hint):
            case.verify(path, tmp_path / "out")
    with pytest.raises(UserError, match="--base"):
        case.verify(case.bundle, tmp_path / "out", base=None)
    assert not (tmp_path / "out").exists()


def test_its_own_lora_settings_are_another_track(case: Case, verified: Verification, tmp_path: Path) -> None:
    """Training for one step protects everybody: such a run is not compared with others."""

    def weak(meta: dict[str, Any], members: Members) -> None:
        meta["run"]["lora"] = {"steps": 1}
        meta["run"]["lora_settings"]["steps"] = 1

    found = case.verify(forge(case.bundle, tmp_path / "weak.zip", weak), tmp_path / "out")
    assert found.track != verified.track and "own LoRA settings" in found.unranked


def test_a_defense_that_is_not_installed(case: Case, tmp_path: Path) -> None:
    """Its figures are recomputed, its list of surrogates is its word, and nothing of it is run."""

    path = forge(case.bundle, tmp_path / "theirs.zip", rename)
    found = case.verify(path, tmp_path / "out")
    assert found.stated and found.accepted and found.white_box == ("coarse",)
    with pytest.raises(UserError, match="not installed here"):
        case.verify(path, tmp_path / "again", retrain=1)


def test_a_surrogate_with_a_path_is_refused(verified: Verification) -> None:
    """An installed defense takes any text for a surrogate; nothing of it is opened or shown."""
    meta = verified.bundle.meta
    for name in ("onnx:/etc/passwd", "<b>", "a b", "x" * 500):
        run = meta.run.model_copy(update={"resolved_options": {"surrogate": [name]}})
        with pytest.raises(UserError, match="is not an attacker name, or contains a path") as refused:
            white_box_of(meta.model_copy(update={"defense": "iddm", "run": run}))
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 200


def test_the_verifiers_copy_of_a_surrogate_is_white_box(case: Case, tmp_path: Path) -> None:
    """A surrogate that is a file is the same network under any file name, with any detector, in any adaptive attacker."""
    source = wheel_file(sface_net.PACKAGE, sface_net.FILE)
    copy = tmp_path / "my copy.onnx"
    copy.symlink_to(source)
    file = f"onnx:{copy}"
    digits = build_attacker(file).fingerprint()[:8]
    public = f"onnx:theirs-{digits}"
    assert own_names([public], ["fine", f"{file}:mtcnn", f"threshold:{file}"]) == (file,)
    assert own_names([public], ["fine"]) == () == own_names(["fine", "onnx:theirs-01234567"], ["fine", file])

    def knows(meta: dict[str, Any], members: Members) -> None:
        rename(meta, members)
        meta["white_box"] = [public]

    path = forge(case.bundle, tmp_path / "theirs.zip", knows)
    found = case.verify(path, tmp_path / "out", attackers=("coarse", "fine", file, f"threshold:{file}"))
    assert found.white_box == (public,)
    rows = found.run.summary
    threats = rows[rows["defense"] == "theirs"].groupby("attacker")["threat"].agg(set)
    assert threats[file] == {"white-box"} and threats[f"threshold:{file}"] == {"adaptive white-box"}
    assert threats["coarse"] == {"transfer"}


def test_calling_the_better_attacker_white_box_is_noted(case: Case, verified: Verification) -> None:
    """What is said of unknown systems leaves white-box attackers out: calling one so that links well is a way to hide it."""
    summary = verified.run.summary.copy()
    assert not module._white_box_notes("blend", ("coarse",), summary.assign(value=0.5))
    low = summary.assign(value=np.where(summary["attacker"] == "coarse", 0.2, 0.5))
    (note,) = module._white_box_notes("blend", ("coarse",), low)
    assert "'coarse' is white-box but links more" in note


def test_failed_cells_are_shown_and_not_ranked(case: Case, anchors: Path, tmp_path: Path) -> None:
    def fail(meta: dict[str, Any], members: Members) -> None:
        for cell in meta["cells"]:
            if cell["subject"] == "s30" and cell["strength"] == 1.0:
                cell["status"] = "failed"
        for name in [n for n in members if "blend-1.00-seed0/s30" in n]:
            del members[name]

    found = case.verify(forge(case.bundle, tmp_path / "failed.zip", fail), tmp_path / "out", anchors=anchors)
    assert len(found.run.failed) == 1 and "failed" in found.unranked


# ---- dependence on the subject ------------------------------------------------------------------------------------------


def test_dependence_on_the_subject() -> None:
    """A Monte Carlo check of both sides: images near their subject's references, and images of anybody."""
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(8)]
    centres = {n: rng.normal(size=64) for n in names}
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    references = {n: unit(centres[n] + 0.3 * rng.normal(size=(4, 64))) for n in names}

    def group(weight: float) -> Group:
        cells = {}
        for n in names:
            features = weight * centres[n] + rng.normal(size=(12, 64))
            none = np.zeros(12)
            cells[n] = [Scored(None, {}, Utility(none > 0, none, none, none, none, features, none, none, none, none))]  # type: ignore[arg-type]
        return Group("x", 1.0, (), cells, 0)

    strong = dependence(group(1.0), references)
    assert strong.value > 0.3 and strong.p < 0.01
    nobody = [dependence(group(0.0), references) for _ in range(60)]
    assert abs(np.mean([d.value for d in nobody])) < 0.01
    assert sum(d.p <= 0.05 for d in nobody) <= 8, "the test keeps its level"


def test_good_looking_strangers_are_refused(case: Case, tmp_path: Path) -> None:
    """Undefended-quality images of the wrong people would have perfect privacy and a fair utility index."""
    groups = {"none": Group("none", np.nan, (), {}, 0), "x-1.00": Group("x", 1.0, (), {}, 0)}
    depends = {"none": Dependence(0.04, 0.001), "x-1.00": Dependence(-0.001, 0.6)}
    for index, refused in ((0.8, True), (0.05, False)):
        rows = [{"metric": "utility_index", "defense": "x", "strength": 1.0, "value": index}]
        ((found, text),) = module._independent(groups, pd.DataFrame(rows), depends)
        assert found is refused and "do not depend on the subject" in text
    depends["x-1.00"] = Dependence(0.03, 0.001)
    assert module._independent(groups, pd.DataFrame(rows), depends) == []


# ---- hashes -------------------------------------------------------------------------------------------------------------


def test_the_hash_agrees_with_imagehash() -> None:
    imagehash = pytest.importorskip("imagehash")
    from PIL import Image

    for k in range(1, 9):
        image = square(29, k)
        other = imagehash.phash(Image.fromarray(image), hash_size=16, highfreq_factor=4).hash.ravel()
        assert np.mean(other != perceptual_hash(image)) <= 2 / 256


def test_copies_stay_near_and_other_photos_do_not() -> None:
    import cv2

    first = [perceptual_hash(square(p, 1)) for p in range(1, 21)]
    for p, bits in zip(range(1, 21), first, strict=True):
        image = square(p, 1)
        noise = np.random.default_rng(p).normal(0, 4, image.shape)
        for copy in (image + 30 * (image < 220), 0.8 * image + 20, image + noise, cv2.GaussianBlur(image, (0, 0), 1)):
            assert (perceptual_hash(np.clip(copy, 0, 255).astype(np.uint8)) != bits).sum() <= 10
        assert min((perceptual_hash(square(q, 1)) != bits).sum() for q in range(1, 21) if q != p) > 40
    assert photo(1, 1).image.shape == (112, 92, 3)


# ---- command line -------------------------------------------------------------------------------------------------------


def test_submit_verify_add_build(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = str(case.root / "cache")
    made = runner.invoke(app, ["submit", str(case.run), "--name", "=Blend <b>", "--paper", "https://example.org/p"])
    assert made.exit_code == 0 and (tmp_path / "blend-b.zip").is_file(), made.output
    runner.invoke(
        app, ["submit", str(case.run), "--name", "Anchors", "--defense", "none", "--out", "leaderboard/anchors/a.zip"]
    )
    usual = ["--attacker", "coarse", "--attacker", "fine", "--base", str(case.base), "--cache", cache]
    checked = runner.invoke(app, ["verify", "blend-b.zip", *usual, "--retrain", "1", "--seed", "4"])
    assert checked.exit_code == 0, checked.output
    assert "accepted: =Blend <b>" in checked.output and "--seed 4" in checked.output
    assert (tmp_path / "runs/verified-blend-b/verification.json").is_file()
    added = runner.invoke(app, ["leaderboard", "add", "blend-b.zip", *usual])
    assert added.exit_code == 0, added.output
    again = runner.invoke(app, ["leaderboard", "add", "blend-b.zip", *usual, "--id", "blend-c"])
    assert again.exit_code == 2 and "those of submission 'blend-b'" in again.output
    replaced = runner.invoke(app, ["leaderboard", "add", "blend-b.zip", *usual, "--replace"])
    assert replaced.exit_code == 0, replaced.output
    pytest.importorskip("plotly")
    built = runner.invoke(app, ["leaderboard", "build"])
    assert built.exit_code == 0, built.output
    page = (tmp_path / "site/index.html").read_text(encoding="utf-8")
    assert "=Blend &lt;b&gt;" in page and "<b>" not in page


def test_mistakes_are_one_line(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, hint in (
        (["submit", str(case.run), "--name", "x", "--defense", "iddm"], "no defense 'iddm'"),
        (["submit", str(case.run), "--name", "x", "--paper", "javascript:alert(1)"], "paper"),
        (["submit", str(case.run), "--name", "x", "--out", "x.tar"], "ends in .zip"),
        (["submit", "nowhere", "--name", "x"], "no such run folder"),
        (["verify", "nowhere.zip"], "no such bundle"),
        (["leaderboard", "add", str(case.bundle), "--id", "../x"], "lower-case letters"),
        (["leaderboard", "serve"], "holds no site"),
        (["leaderboard", "build", "--url", "javascript:x"], "https://"),
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 2 and hint in result.stderr, (arguments, result.output)
        assert result.stderr.count("error:") == 1 and "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_posted_knows_flat_images() -> None:
    from iddmbench.submission.schema import CellFacts

    cell = CellFacts(defense="x", strength=1.0, subject="s1", seed=0, status="ok")
    posted = Posted.of(cell, np.stack([np.full((64, 64, 3), 7, np.uint8), bundles.picture()]))
    assert posted.flat.tolist() == [True, False] and posted.bits.shape == (2, 256)
    assert ATTACKERS.names()


def test_one_defense_of_a_run_of_several(case: Case, tmp_path: Path) -> None:
    """A defense's worst cases are over the same attackers beside another defense as alone."""
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(case.base), "defenses": ("blend", "pixelate")}
    options |= {"strengths": (0.5, 1.0), "attackers": ("coarse", "fine"), "images_per_prompt": 2, "anchors": True}
    run = tmp_path / "run"
    assert pipeline.run(make_config(options), run, case.root / "cache") == 0
    for name in ("pixelate", "blend"):
        meta = write_bundle(RunFolder.open(run), name, About(name), tmp_path / f"{name}.zip")
        assert set(WORST_CASES) <= {claim.attacker for claim in meta.claims}
        found = case.verify(tmp_path / f"{name}.zip", tmp_path / name)
        assert not found.differences


# ---- attackers that are files -----------------------------------------------------------------------------------------


def test_a_file_is_named_without_its_path(case: Case, tmp_path: Path) -> None:
    """A run with a network of the submitter's disk, plain and inside adaptive attackers, goes from bundle to entry."""
    source = wheel_file(sface_net.PACKAGE, sface_net.FILE)
    secret = tmp_path / "home of M+E" / "w600k 50.onnx"
    secret.parent.mkdir()
    secret.symlink_to(source)
    file = f"onnx:{secret}"
    digits = build_attacker(file).fingerprint()[:8]
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(case.base), "defenses": ("blend",)}
    options |= {"strengths": (0.5, 1.0), "images_per_prompt": 2, "anchors": True}
    wanted = ("coarse", "fine", file, f"threshold:{file}")
    run = tmp_path / "run"
    assert pipeline.run(make_config(options | {"attackers": wanted}), run, case.root / "cache") == 0
    write_bundle(RunFolder.open(run), None, About("Blend"), tmp_path / "a.zip")
    meta, _ = bundles.unpack(tmp_path / "a.zip")
    assert "M+E" not in json.dumps(meta) and str(tmp_path) not in json.dumps(meta)
    public = f"onnx:w600k-50-{digits}"
    assert set(meta["attackers"]) == {"coarse", "fine", public}
    claimed = {c["attacker"] for c in meta["claims"]}
    assert claimed == {"", "coarse", "fine", public, f"threshold:{public}", *WORST_CASES}
    # A verifier without the file: nothing of it is compared, nor of worst cases over it.
    lacks = case.verify(tmp_path / "a.zip", tmp_path / "lacks")
    assert not lacks.differences and not lacks.refused
    assert any(f"not run here: {public}, threshold:{public}" in note for note in lacks.notes)
    # One who has it puts it on the board under the same name.
    has = case.verify(tmp_path / "a.zip", tmp_path / "has", attackers=wanted)
    assert not has.differences and not has.refused
    entry = boards.add(tmp_path / "board", has, "blend")
    assert {a.name for a in entry.attackers} == {"coarse", "fine", public, f"threshold:{public}"}
    assert {s.judge for s in entry.standings} >= {public, f"threshold:{public}", WORST_CASE}
    assert set(entry.judged_by(WORST_CASE_ADAPTIVE)) <= {"coarse", "fine", public, f"threshold:{public}"}
    assert str(tmp_path) not in (tmp_path / "board" / "entries" / "blend" / "entry.json").read_text()


def test_public_names() -> None:
    known = {"onnx:/a/b.onnx,bgr": "ab" * 32, "onnx:C:\\Users\\me\\net.v2.onnx": "cd" * 32, "onnx:~/.onnx": "ef" * 32}
    known |= {"onnx:/a/b.onnx:mtcnn": "12" * 32, "onnx:/" + "é" * 300: "34" * 32}
    for name, public in (
        ("dlib", "dlib"),
        ("", ""),
        (WORST_CASE, WORST_CASE),
        ("fuse:dlib+sface", "fuse:dlib+sface"),
        ("onnx:/a/b.onnx,bgr", "onnx:b-abababab"),
        ("finetune:onnx:/a/b.onnx,bgr", "finetune:onnx:b-abababab"),
        ("fuse:dlib+onnx:/a/b.onnx,bgr", "fuse:dlib+onnx:b-abababab"),
        ("onnx:C:\\Users\\me\\net.v2.onnx", "onnx:net.v2-cdcdcdcd"),
        ("onnx:~/.onnx", "onnx:onnx-efefefef"),
        ("sface:mtcnn", "sface:mtcnn"),
        ("onnx:/a/b.onnx:mtcnn", "onnx:b-12121212:mtcnn"),
    ):
        assert public_name(name, known) == public
    assert public_name("onnx:/" + "é" * 300, known) == "onnx:file-34343434"
    options = {"surrogate": ["sface", "onnx:/a/b.onnx,bgr"], "other": "sface, dlib", "rounds": 6}
    with pytest.raises(UserError, match="no such file"):
        public_name("onnx:/nowhere/c.onnx", known)
    assert public_options({"surrogate": "sface,onnx:~/.onnx", "rounds": 6}, known) == {
        "surrogate": "sface,onnx:onnx-efefefef",
        "rounds": 6,
    }
    assert public_options(options, known)["other"] == "sface, dlib"
