"""False but well-formed bundles: undefended images, false declarations, repeats, copies across tracks, foreign adapters."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest
import torch
from blend_case import Blend, Case, blend, install_blend, make_case, rename, shown
from bundles import Members, forge, png
from safetensors.torch import load, save
from typer.testing import CliRunner

from iddmbench.cli import app
from iddmbench.defense import DEFENSES
from iddmbench.errors import UserError
from iddmbench.leaderboard import board as boards
from iddmbench.results.run_folder import RunFolder
from iddmbench.submission import retrain as retraining
from iddmbench.submission.adapters import read_safetensors
from iddmbench.submission.anchors import find_anchors, track_of
from iddmbench.submission.authenticity import SAME, Posted
from iddmbench.submission.bundle import About, write_bundle
from iddmbench.submission.declared import no_drop
from iddmbench.submission.images import distances, from_hex, hashes
from iddmbench.submission.read import open_bundle
from iddmbench.submission.repeats import MOST, surplus, undefended_images
from iddmbench.submission.retrain import Compared, Retrained, compared, same_computation, threads
from iddmbench.submission.schema import CellFacts, Machine
from iddmbench.submission.verify import Verification

ROOT = Path(__file__).resolve().parent.parent
runner = CliRunner()


@pytest.fixture(scope="module", autouse=True)
def plugins() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        install_blend(patch)
        yield


@pytest.fixture(scope="module")
def case(plugins: None, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("fraud"))


@pytest.fixture(scope="module")
def verified(case: Case) -> Verification:
    return case.verify(case.bundle, case.root / "verified")


@pytest.fixture(scope="module")
def anchors(case: Case) -> Path:
    write_bundle(RunFolder.open(case.run), "none", About("Anchors"), case.root / "anchors" / "anchors.zip")
    return case.root / "anchors"


def person_of(name: str) -> int:
    return int(name.split("/")[2][1:])


# ---- undefended images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["same", "brighter", "mirrored", "shuffled"])
def test_undefended_images_are_refused_by_name(case: Case, anchors: Path, tmp_path: Path, how: str) -> None:
    """As "my-shield", with every strong system declared a surrogate: it ranked first."""

    def change(meta: dict[str, Any], members: Members) -> None:
        rename(meta, members)
        for name in [n for n in members if n.startswith("images/theirs-")]:
            plain = "images/none-seed0/" + "/".join(name.split("/")[2:])
            if how == "shuffled":
                plain = plain[:-8] + f"{(int(plain[-8:-4]) + 1) % 4:04d}.png"
            image = decoded(members[plain])
            image = {"brighter": np.clip(image.astype(int) + 1, 0, 255), "mirrored": image[:, ::-1]}.get(how, image)
            members[name] = png(np.ascontiguousarray(image.astype(np.uint8)))

    path = forge(case.bundle, tmp_path / "shield.zip", change)
    for known in (anchors, None):  # the trusted ones, else the submitter's own
        found = case.verify(path, tmp_path / f"out{known is None}", anchors=known)
        assert sum("are the undefended model's images" in text for text in found.refused) == 2, found.refused


def decoded(content: bytes) -> np.ndarray:
    from iddmbench.submission.images import decode

    return decode(content, bundles.SIDE, "x.png")


def test_no_defense_may_be_no_defense(case: Case) -> None:
    """Strength 0 is the undefended model by definition."""
    images = np.stack([bundles.picture(i) for i in range(4)])
    for strength, refused in ((0.0, False), (0.5, True)):
        cell = CellFacts(defense="x", strength=strength, subject="s29", seed=0, status="ok")
        found = undefended_images([Posted.of(cell, images)], lambda cell: images, {("s29", 0): images})
        assert bool(found) is refused


def test_weak_honest_defenses_are_not_undefended_images() -> None:
    """Each entry of the leaderboard, at each strength, against the undefended images of its own track."""
    plain = {}
    for bundle in map(open_bundle, sorted((ROOT / "leaderboard" / "anchors").glob("*.zip"))):
        cells = [c for c in bundle.meta.cells if c.defense == "none"]
        plain[track_of(bundle.meta)] = {f"{c.subject}/{c.seed}": hashes(bundle.images(c, 64)) for c in cells}
    entries = [path.parent for path in sorted((ROOT / "leaderboard" / "entries").glob("*/hashes.json"))]
    assert len(entries) > 1
    for entry in entries:
        undefended = plain[json.loads((entry / "entry.json").read_text())["track"]]
        conditions = json.loads((entry / "hashes.json").read_text())
        assert len(conditions) == 2
        for condition, cells in conditions.items():
            near = repeated = total = 0.0
            for cell, texts in cells.items():
                bits = np.stack([from_hex(t) for t in texts])
                near += (distances(bits, undefended[cell]) <= SAME).any(1).sum()
                repeated, total = max(repeated, surplus(bits)), total + len(bits)
            assert near <= MOST * total / 2, (entry.name, condition)
            assert repeated <= 0.3, (entry.name, condition)


# ---- declarations -----------------------------------------------------------------------------------------------------


def test_options_must_agree(case: Case, tmp_path: Path) -> None:
    """The page prints the one, cells are trained again from the other."""

    def longer(meta: dict[str, Any], members: Members) -> None:
        meta["run"]["resolved_options"]["surrogate"] = "fine"

    def other(meta: dict[str, Any], members: Members) -> None:
        rename(meta, members)
        meta["run"]["defense_options"] = {"surrogate": "coarse", "rounds": "6"}
        meta["run"]["resolved_options"] = {"surrogate": ["coarse"], "rounds": 7}

    for change, hint in ((longer, "option 'surrogate'"), (other, "option 'rounds'")):
        with pytest.raises(UserError, match=hint):
            case.verify(forge(case.bundle, tmp_path / "bad.zip", change), tmp_path / "out")

    def same(meta: dict[str, Any], members: Members) -> None:
        other(meta, members)
        meta["run"]["resolved_options"]["rounds"] = 6

    assert case.verify(forge(case.bundle, tmp_path / "good.zip", same), tmp_path / "out").accepted


def test_a_surrogate_that_still_links_is_a_false_declaration(
    case: Case, verified: Verification, tmp_path: Path
) -> None:
    """The undefended faces at strength 1, a pixel aside; honest images lower the scores of a surrogate."""

    def change(meta: dict[str, Any], members: Members) -> None:
        for name in [n for n in members if n.startswith("images/blend-1.00")]:
            members[name] = png(np.roll(shown(person_of(name), int(Path(name).stem)), 1, 1))

    found = case.verify(forge(case.bundle, tmp_path / "x.zip", change), tmp_path / "out")
    assert any("false declaration: 'coarse'" in text for text in found.refused), found.refused
    assert not verified.refused


def test_the_paired_test_of_a_drop() -> None:
    """Six subjects reach 1 / 64; three, all of them lower, 1 / 8; no drop is no evidence."""
    assert no_drop(np.full(6, 0.3)) == pytest.approx(1 / 64)
    assert no_drop(np.array([0.1, 0.2, 0.3])) == pytest.approx(1 / 8)
    assert no_drop(np.array([0.4])) == 0.5
    assert no_drop(np.array([0.1, -0.1, 0.05, -0.06])) > 0.3
    assert no_drop(-np.full(6, 0.3)) > 0.9


def test_a_surrogate_that_was_not_run_is_noted(case: Case, tmp_path: Path) -> None:
    found = case.verify(case.bundle, tmp_path / "out", attackers=("fine",))
    assert any("'coarse' is declared as a surrogate and was not run here" in note for note in found.notes)


def test_a_rank_needs_two_strong_systems(case: Case, anchors: Path, tmp_path: Path) -> None:
    found = case.verify(case.bundle, tmp_path / "out", anchors=anchors)
    assert "a rank needs 2" in found.unranked


def test_nothing_to_look_at_is_refused(case: Case, tmp_path: Path) -> None:
    def fail(meta: dict[str, Any], members: Members) -> None:
        for cell in meta["cells"]:
            cell["status"] = "ok" if cell["strength"] is None else "failed"
        for name in [n for n in members if "/blend-" in n]:
            del members[name]

    with pytest.raises(UserError, match="nothing to verify"):
        case.verify(forge(case.bundle, tmp_path / "failed.zip", fail), tmp_path / "out")


# ---- copies and repeats -----------------------------------------------------------------------------------------------


def without(subject: str, authors: list[str]) -> Any:
    def change(meta: dict[str, Any], members: Members) -> None:
        meta["authors"] = authors
        meta["run"]["subjects"] = [s for s in meta["run"]["subjects"] if s != subject]
        meta["cells"] = [c for c in meta["cells"] if c["subject"] != subject]
        for name in [n for n in members if f"/{subject}/" in n or n.endswith(f"/{subject}.safetensors")]:
            del members[name]

    return change


def test_some_people_of_an_entry_are_a_copy(case: Case, verified: Verification, tmp_path: Path) -> None:
    """They make a track of their own; under other names they are stolen all the same. Its own authors may show a part."""
    board = tmp_path / "board"
    boards.add(board, verified, "blend")
    known = boards.known_images(board)
    for authors, refused in ((["B. Thief"], True), ([], True), (["a. author"], False)):
        part = forge(case.bundle, tmp_path / "part.zip", without("s31", authors))
        found = case.verify(part, tmp_path / f"out{len(list(tmp_path.iterdir()))}", known=known)
        assert found.track != verified.track
        assert any("those of submission 'blend'" in text for text in found.refused) is refused, authors
        assert any("'blend', of the same defense and authors in another track" in n for n in found.notes) is not refused


def test_one_image_many_times_is_refused(case: Case, tmp_path: Path) -> None:
    def repeat(meta: dict[str, Any], members: Members) -> None:
        rng = np.random.default_rng(0)
        for name in [n for n in members if n.startswith("images/blend-1.00")]:
            image = blend(person_of(name), 0, 0.6)
            members[name] = png(np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8))

    found = case.verify(forge(case.bundle, tmp_path / "repeat.zip", repeat), tmp_path / "out")
    assert any("strength 1: 3 of 4 images" in text and "near-copies" in text for text in found.refused), found.refused
    assert not any("strength 0.5" in text for text in found.refused)


# ---- adapters ---------------------------------------------------------------------------------------------------------


def adapter_as(change: Any) -> Any:
    def replace_one(meta: dict[str, Any], members: Members) -> None:
        name = next(n for n in sorted(members) if n.startswith("adapters/blend-1.00"))
        members[name] = change(members[name])

    return replace_one


def with_tensors(change: Any) -> Any:
    def changed(content: bytes) -> bytes:
        tensors = load(content)
        change(tensors)
        return save(tensors)

    return adapter_as(changed)


def spoil(tensors: dict[str, torch.Tensor]) -> None:
    tensors[min(tensors)].view(-1)[0] = float("nan")


def shorten(tensors: dict[str, torch.Tensor]) -> None:
    tensors[min(tensors)] = tensors[min(tensors)][:1].clone()


def lose(tensors: dict[str, torch.Tensor]) -> None:
    del tensors[min(tensors)]


def whole(tensors: dict[str, torch.Tensor]) -> None:
    tensors["more"] = torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (adapter_as(lambda content: pickle.dumps({"weights": 1})), "pickle, which could run anything"),
        (adapter_as(lambda content: b"PK\x03\x04" + content), "torch.save"),
        (adapter_as(lambda content: b""), "not a safetensors file"),
        (adapter_as(lambda content: content[:-4]), "damaged safetensors"),
        (adapter_as(lambda content: content + b"more"), "after its tensors"),
        (with_tensors(spoil), "non-finite"),
        (with_tensors(shorten), "is not an adapter for the bundle's base and settings"),
        (with_tensors(lose), "it lacks"),
        (with_tensors(whole), "not floats"),
    ],
)
def test_adapters_are_what_they_are_said_to_be(case: Case, tmp_path: Path, change: Any, hint: str) -> None:
    found = case.verify(forge(case.bundle, tmp_path / "x.zip", change), tmp_path / "out")
    assert any(hint in text and "adapters/blend-1.00" in text for text in found.refused), found.refused


@pytest.mark.parametrize(
    "header",
    [
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [99999999999], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b'{"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}',
        b"[1]",
        b'{"a": NaN}',
    ],
)
def test_headers_that_lie(header: bytes) -> None:
    with pytest.raises(UserError, match=r"a\.safetensors"):
        read_safetensors(len(header).to_bytes(8, "little") + header + bytes(8), "a.safetensors")


# ---- training again ---------------------------------------------------------------------------------------------------


def test_cells_are_trained_again_on_the_bundles_threads(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `--threads` says here; what this machine should not start is left out."""
    seen = []

    class Counting(Blend):
        def release(self, images: np.ndarray, bench: Any) -> np.ndarray:
            seen.append(torch.get_num_threads())
            return super().release(images, bench)

    monkeypatch.setitem(DEFENSES._added, "blend", Counting)
    before = torch.get_num_threads()
    for stated, used in ((3, 3), (0, before), (10_000_000, before)):
        path = forge(
            case.bundle, tmp_path / f"{stated}.zip", lambda m, _, n=stated: m["machine"].update(torch_threads=n)
        )
        found = case.verify(path, tmp_path / f"out{stated}", retrain=1)
        assert found.accepted and seen == [used] and torch.get_num_threads() == before
        assert (found.retrained[0].equal is None) == (stated != used), "exact pixels are said of equal settings only"
        seen.clear()


def test_pixels_do_not_count(case: Case, tmp_path: Path) -> None:
    """Images that differ by some gray levels and show the same person as well agree."""

    def brighter(meta: dict[str, Any], members: Members) -> None:
        for name in [n for n in members if n.startswith("images/blend")]:
            members[name] = png(np.clip(decoded(members[name]).astype(int) + 3, 0, 255).astype(np.uint8))

    found = case.verify(forge(case.bundle, tmp_path / "brighter.zip", brighter), tmp_path / "out", retrain=1)
    assert found.retrained[0].agrees and found.retrained[0].gray > 2, found.retrained


def test_a_training_that_raises_is_a_result(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Balky(Blend):
        def release(self, images: np.ndarray, bench: Any) -> np.ndarray:
            return next(iter([]))

    monkeypatch.setitem(DEFENSES._added, "blend", Balky)
    found = case.verify(case.bundle, tmp_path / "out", retrain=1)
    assert not found.accepted and "release failed: StopIteration" in str(found.retrained[0])


def test_what_a_retrained_cell_is_judged_by() -> None:
    """Scores in units of their attacker's spread, rates as they are; fewer images vary more."""
    posted = {"dlib: mean score": 0.80, "dlib: linked at rank 1": 0.1, "SER-FIQ": 0.6}
    again = {"dlib: mean score": 0.81, "dlib: linked at rank 1": 0.2, "SER-FIQ": 0.61}
    cell = CellFacts(defense="x", strength=1.0, subject="s29", seed=0, status="ok")
    near = Retrained(cell, compared(posted, again, {"dlib": 0.08}, 16))
    assert near.agrees and near.figures[0].allowed == pytest.approx(retraining.SCORE * 0.08)
    far = Retrained(cell, compared(posted, again | {"dlib: mean score": 0.94}, {"dlib": 0.08}, 16))
    assert not far.agrees and "dlib: mean score 0.800 as posted, 0.940 retrained" in str(far)
    assert compared(posted, again, {"dlib": 0.08}, 4)[0].allowed == pytest.approx(2 * near.figures[0].allowed)
    assert Compared("x", float("nan"), 0.3, 0.1).fits, "no face on one side: the rate of faces says so"


def test_equal_settings() -> None:
    from iddmbench.run.environment import environment

    own = environment()
    same = Machine.model_validate({k: own[k] for k in Machine.model_fields if k in own})
    assert same_computation(same, own)
    for change in ({"torch_threads": own["torch_threads"] + 1}, {"processor": "other"}, {"packages": {"torch": "1.0"}}):
        assert not same_computation(same.model_copy(update=change), own)
    with threads(2):
        assert torch.get_num_threads() == 2


# ---- anchors and folders ----------------------------------------------------------------------------------------------


def test_the_anchors_that_cover_the_run_are_found(case: Case, anchors: Path, tmp_path: Path) -> None:
    folder = tmp_path / "anchors"
    folder.mkdir()
    forge(anchors / "anchors.zip", folder / "a.zip", without("s31", []))
    meta = open_bundle(case.bundle).meta
    found = find_anchors(folder, meta)
    assert found is not None and found.path.name == "a.zip", "better than none, and named as such"
    (folder / "b.zip").write_bytes((anchors / "anchors.zip").read_bytes())
    found = find_anchors(folder, meta)
    assert found is not None and found.path.name == "b.zip"


def test_mistyped_folders_and_attackers(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, hint in (
        (
            ["verify", str(case.bundle), "--anchors", "leaderbord/anchors"],
            "--anchors leaderbord/anchors: no such folder",
        ),
        (["verify", str(case.bundle), "--board", "leaderbord"], "--board leaderbord: no such folder"),
        (["verify", "nowhere.zip", "--attacker", "nosuch"], "nosuch"),
        (["leaderboard", "add", "nowhere.zip", "--attacker", "nosuch"], "nosuch"),
        (["leaderboard", "add", str(case.bundle), "--board", "leaderbord"], "no such folder"),
        (["leaderboard", "build", "--board", "leaderbord"], "no such folder"),
    ):
        result = runner.invoke(app, arguments)
        assert result.exit_code == 2 and hint in result.stderr, (arguments, result.output)
    assert list(tmp_path.iterdir()) == []


def test_a_board_without_entries(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    (tmp_path / "board").mkdir()
    result = runner.invoke(
        app, ["leaderboard", "build", "--board", str(tmp_path / "board"), "--out", str(tmp_path / "site")]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "site" / "index.html").is_file()
