"""`import iddmbench`: its functions, and images that exist already, judged as a run's own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab_plugins import Coarse, TinyORL
from PIL import Image
from tiny_base import write_base

import iddmbench as ib
from iddmbench.cli import app
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError

pytestmark = pytest.mark.usefixtures("plugins")
ROOT = Path(__file__).parents[1]
AT_A_THRESHOLD = ("psr@", "match_rate@", "fnir@", "tpir@")


def pictures(person: int, *indices: int) -> list[np.ndarray]:
    return [photo(person, k).image for k in indices]


GALLERY = {f"s{p}": pictures(p, 5, 6, 7) for p in (29, 30, 31)}
IMAGES = {"s29": pictures(29, 1, 2), "s30": pictures(7, 1, 2)}
"""Other photos of the first person; somebody else's under the second one's name."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDDMBENCH_CACHE", str(cache))
        yield


def evaluate(images: Any = IMAGES, gallery: Any = GALLERY, **options: Any) -> ib.Result:
    return ib.evaluate(images, gallery, **{"attackers": "coarse"} | options)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def finished(plugins: None, base: Path, tmp_path_factory: pytest.TempPathFactory) -> ib.Result:
    place = tmp_path_factory.mktemp("run")
    settings = {"dataset": "tiny-orl", "base": str(base), "images_per_prompt": 2, "attackers": ("coarse", "fine")}
    return ib.run("echo", strengths=[0.5, 1.0], out=place / "out", cache=place / "cache", **settings)


# ---- the package ------------------------------------------------------------------------------------------------------


def test_every_name_is_there_and_none_is_loaded_early() -> None:
    code = (
        "import sys, iddmbench; assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        "import iddmbench.run.config\n"
        "assert all(callable(getattr(iddmbench, n)) for n in iddmbench.__all__ if n != '__version__')"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = ib.evaluat  # type: ignore[attr-defined]


def test_it_says_that_it_is_typed() -> None:
    assert (Path(ib.__file__).parent / "py.typed").is_file()
    assert 'iddmbench = ["py.typed"]' in (ROOT / "pyproject.toml").read_text()


def test_plugins_by_name() -> None:
    class Finer(Coarse):
        name = "finer"

    assert ib.register(Finer) is Finer
    try:
        assert "finer" in ib.list_attackers() and "sface" in ib.list_attackers()
        assert evaluate(attackers="finer").attackers == ["finer"]
    finally:
        from iddmbench.attacker import ATTACKERS

        del ATTACKERS._added["finer"]
    assert "iddm" in ib.list_defenses() and "orl" in ib.list_datasets()
    assert [s.name for s in ib.load_dataset("tiny-orl").subjects] == ["s29", "s30", "s31"]
    with pytest.raises(UserError, match="is not a plugin class: derive from Defense, Attacker"):
        ib.register(int)
    with pytest.raises(UserError, match="did you mean 'orl'"):
        ib.load_dataset("ORL")


def test_a_plugin_is_checked() -> None:
    states = {outcome.name: outcome.state for outcome in ib.check("coarse")}
    assert states["deterministic"] == "ok" and states["recognition"] == "figures"


# ---- a run ------------------------------------------------------------------------------------------------------------


def test_a_run_and_the_same_folder_opened(finished: ib.Result) -> None:
    assert finished.conditions == ["none", "echo-0.50", "echo-1.00", "generic"] and finished.failed.empty
    assert (finished.folder.path / "report.html").is_file()
    again = ib.open_run(finished.folder.path)
    pd.testing.assert_frame_equal(again.summary(), finished.summary())
    # Half of the photos are another person's, and the last image, blank, is one of the others.
    assert again.at("echo-0.50")["coarse"].under("rank1_hit", "miss").value == 0.25  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"strengths: strength 2 is outside"):
        ib.run("echo", strengths=[2.0])


def test_two_conditions_are_compared(finished: ib.Result) -> None:
    found = ib.compare(finished.at("echo-0.50"), finished.at("echo-1.00"), attacker="coarse")
    assert (found.first.label, found.second.label, found.difference.subjects) == ("echo-0.50", "echo-1.00", 3)
    # The base alone makes no faces: nobody has a share of links, but everybody has images.
    assert ib.compare(finished.at("echo-0.50"), finished.at("none"), "fta", "coarse").difference.subjects == 3
    with pytest.raises(UserError, match="rank1_hit is of images with a face, and no subject has such images in both"):
        ib.compare(finished.at("echo-0.50"), finished.at("none"), attacker="coarse")
    with pytest.raises(UserError, match="'utility_index' is not compared in pairs"):
        ib.compare(finished, finished, metric="utility_index")
    with pytest.raises(KeyError, match="did not run"):
        ib.compare(finished, finished, attacker="dlib")


def test_a_runs_images_give_its_figures_bit_for_bit(finished: ib.Result, base: Path, tmp_path: Path) -> None:
    images = finished.folder.path / "images"
    found = ib.evaluate(
        images / "echo-0.50",
        dataset="tiny-orl",
        attackers=("coarse", "fine"),
        baseline=images / "none",
        generic=images / "generic",
        prompts=finished.folder.config["prompts"],
        base=str(base),
        name="echo",
        strength=0.5,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    for table in ("summary", "probes", "images"):
        one, other = (
            getattr(result.folder, table).drop(columns="cell", errors="ignore") for result in (found, finished)
        )
        other = other[other["strength"] != 1.0].reset_index(drop=True)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    pd.testing.assert_frame_equal(found.folder.calibration, finished.folder.calibration, check_exact=True)
    assert found.folder.config["protocol"] == finished.folder.config["protocol"]  # `plot` lays one over the other
    assert ib.compare(found, finished.at("echo-0.50"), attacker="coarse").difference.value == 0


# ---- what is measured, and what is not ----------------------------------------------------------------------------------


def test_ranks_without_public_people_and_no_threshold() -> None:
    found = evaluate()
    linked = found.probes.groupby("subject")["rank"].apply(lambda rank: (rank == 1).mean())
    assert linked["s29"] == 1.0 and found.probes["rank"].max() <= 3
    summary = found.summary()
    assert not summary["metric"].str.startswith(AT_A_THRESHOLD).any() and len(found.folder.calibration) == 0
    assert "r1t" not in set(summary["metric"])
    assert not found.probes[["match_1e-2", "match_1e-3"]].to_numpy().any()
    assert any("figures at a false accept rate are not measured" in note for note in found.notes)
    assert "images 1.00" in str(found) and "report.html" not in str(found) and "<pre" in found._repr_html_()


def test_public_people_of_a_dataset_set_the_threshold() -> None:
    found = evaluate(dataset="tiny-orl")
    value = found["coarse"]["psr@1e-2"]
    assert value is not None and found.folder.calibration["impostor_pairs"].iloc[0] > 3000
    for image, people in found.nearest.groupby("image"):
        seen = found.probes[found.probes["image"] == image].iloc[0]
        assert list(people["place"]) == [1, 2, 3] and people["score"].is_monotonic_decreasing
        own = people[(people["person"] == seen["subject"]) & (people["source"] == "own photos")]
        assert list(own["place"]) == ([seen["rank"]] if seen["rank"] <= 3 else [])
        assert own["score"].to_list() == pytest.approx([seen["mated"]] * len(own))
        others = people.drop(own.index)["score"]
        assert others.iloc[0] == pytest.approx(seen["nonmated"])
    own = evaluate(public={person.name: [p.image for p in person.photos] for person in TinyORL().load().public})
    assert own.folder.calibration["threshold"].to_list() == pytest.approx(
        found.folder.calibration["threshold"].to_list()
    )
    assert own.probes["rank"].to_list() == found.probes["rank"].to_list()


def test_few_public_people_resolve_no_rate() -> None:
    found = evaluate(public={f"p{p}": pictures(p, 1, 2) for p in (1, 2, 3)})
    assert not found.summary()["metric"].str.contains("@1e-").any()
    with pytest.raises(UserError, match="2 people are too few to set a threshold"):
        evaluate(public={f"p{p}": pictures(p, 1) for p in (1, 2)})


def test_rank_5_among_few_people_is_no_figure() -> None:
    """Of three enrolled people, everybody is among the first five."""
    few, many = evaluate(), evaluate(dataset="tiny-orl")
    own = {"rank5_hit", "r5u"}
    assert not own & set(few.summary()["metric"]) and {"rank1_hit", "r1u"} <= set(few.summary()["metric"])
    assert own <= set(many.summary()["metric"])


def test_closeness_needs_references() -> None:
    without, given = evaluate(), evaluate(references={"s29": pictures(29, 3), "s30": pictures(30, 3)})
    assert without.images["closeness"].isna().all() and not without.utility.fid_efficientnet_lite2.known
    assert given.images["closeness"].notna().all() and given.utility.fid_efficientnet_lite2 is not None
    assert not given.utility.adherence.known and not given.utility.utility_index.known
    only_one = evaluate(references={"s29": pictures(29, 3)})
    assert only_one.images.groupby("subject")["closeness"].apply(lambda c: c.isna().all()).to_dict() == {
        "s29": False,
        "s30": True,
    }
    assert any("no reference photos of s30" in note for note in only_one.notes)


def test_privacy_alone() -> None:
    """The same links without utility, of which only found faces are known."""
    references = {"s29": pictures(29, 3), "s30": pictures(30, 3)}
    whole, alone = evaluate(references=references), evaluate(references=references, utility=False)
    figures = [r.summary().query("attacker == 'coarse'").reset_index(drop=True) for r in (whole, alone)]
    assert len(figures[0]) and figures[0].equals(figures[1])
    assert alone.utility.face_detection_rate.value == whole.utility.face_detection_rate.value
    assert whole.utility.ser_fiq.known and whole.utility.brisque.known
    for name in ("ser_fiq", "brisque", "fid_efficientnet_lite2", "utility_index"):
        assert not getattr(alone.utility, name).known
    assert alone.images["closeness"].isna().all()
    assert [note for note in alone.notes if "utility" in note] == ["utility is not measured: --no-utility"]


def test_controls_and_white_box() -> None:
    found = evaluate(
        baseline={"s29": pictures(29, 5, 6), "s30": pictures(30, 5, 6)},
        generic={"s29": pictures(8, 1, 2), "s30": pictures(9, 1, 2)},
        references={"s29": pictures(29, 3), "s30": pictures(30, 3)},
        white_box="coarse",
        attackers=("coarse", "fine"),
    )
    assert found.conditions == ["none", "images-1.00", "generic"]
    assert found.at("none")["coarse"].rank1_hit.value == 1.0  # type: ignore[union-attr]
    threats = found.probes[found.probes["defense"] == "images"].groupby("attacker")["threat"].first()
    assert threats.to_dict() == {"coarse": "white-box", "fine": "transfer"}


def test_sizes_and_modes_may_differ(tmp_path: Path) -> None:
    one, two = pictures(29, 1, 2)
    small = np.asarray(Image.fromarray(two).resize((70, 80)))
    folder = tmp_path / "images" / "s29"
    folder.mkdir(parents=True)
    Image.fromarray(one).save(folder / "1.png")
    Image.fromarray(small).convert("L").save(folder / "2.png")
    Image.fromarray(one).convert("RGBA").save(folder / "10.png")
    mixed = evaluate(tmp_path / "images")
    apart = [evaluate({"s29": [image]}) for image in (one, small, one)]
    columns = ["detected", "brisque", "ser_fiq"]
    expected = pd.concat([one.images[columns] for one in apart], ignore_index=True)
    pd.testing.assert_frame_equal(mixed.images[columns].drop(columns="ser_fiq"), expected.drop(columns="ser_fiq"))
    ranks = [one.probes["mated"].iloc[0] for one in apart]
    np.testing.assert_allclose(mixed.probes["mated"], ranks, atol=1e-6)
    assert mixed.folder.picture("images/images-1.00/s29/01.png").shape == (80, 70, 3)  # type: ignore[union-attr]


# ---- what a reader should know ------------------------------------------------------------------------------------------


def test_people_and_images_that_say_nothing_are_named() -> None:
    blank = np.full((64, 64, 3), 128, np.uint8)
    notes = evaluate({"s29": [*pictures(29, 1, 5), blank], "bob": pictures(3, 1)}).notes
    assert "no enrolment photos of 'bob': 1 of the images left out" in notes
    assert any(note.startswith("image s29/01 is a copy of enrolment photo s29/00 of 's29'") for note in notes)
    assert any(note.startswith("no face on 1 of 3 images of 's29' (images-1.00)") for note in notes)
    assert any("images of one person only (s29)" in note for note in notes)


def test_images_without_any_face_are_no_links() -> None:
    found = evaluate({"s29": [np.full((64, 64, 3), 128, np.uint8)] * 2})
    assert found["coarse"].fta.value == 1.0 and found.failed.empty  # type: ignore[union-attr]
    assert found["coarse"].under("rank1_hit", "miss").value == 0.0  # type: ignore[union-attr]


def test_an_unreadable_and_a_tiny_image_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "s29"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "tiny.png")
    Image.fromarray(pictures(29, 1)[0]).save(folder / "good.png")
    found = evaluate(tmp_path)
    assert len(found.images) == 1
    assert any(note.startswith("left out: s29/broken.png: unreadable") for note in found.notes)
    assert any(note.startswith("left out: s29/tiny.png: too small: 8 pixels") for note in found.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": {"bob": pictures(3, 1)}}, r"nobody of the images \('bob'\) has enrolment photos"),
        ({"images": {}}, "images: nothing usable there"),
        ({"images": "nowhere"}, "images: nowhere is not a folder"),
        ({"images": 3}, "images: give a folder, or a dictionary of images by person, not int"),
        ({"images": {"s29": pictures(29, 1)[0]}}, r"give a list of images for 's29', a single one as \[image\]"),
        ({"images": {"s29": [np.zeros((64, 64, 3))]}}, "s29/00: an image must be a uint8 array .* got float64"),
        ({"images": {"../x": pictures(29, 1)}}, "can't be a person's name"),
        ({"gallery": None}, "give a gallery"),
        ({"gallery": {"s29": pictures(29, 5)}}, "only one person is enrolled"),
        ({"attackers": "coars"}, "did you mean 'coarse'"),
        ({"attackers": ()}, "at least one attacker"),
        ({"white_box": "coars"}, "white_box: unknown attacker 'coars': did you mean 'coarse'"),
        (
            {"prompts": ["a", "b"], "images": {"s29": pictures(29, 1, 2, 3)}},
            "3 images of 's29' are not the same number",
        ),
        ({"name": "none"}, "are the controls"),
        ({"strength": 2.0}, r"outside \[0, 1\]"),
    ],
)
def test_one_line_says_what_is_wrong(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        evaluate(**change)
    assert "\n" not in str(error.value)


# ---- results ------------------------------------------------------------------------------------------------------------


def test_a_result_outlives_its_call_and_is_saved(tmp_path: Path) -> None:
    found = evaluate()
    folder = found.folder.path
    saved = found.save(tmp_path / "kept")
    del found
    assert not folder.exists()  # the temporary folder goes with the last result that shows it
    assert saved.conditions == ["images-1.00"] and "<html" in saved.to_html()
    with pytest.raises(UserError, match="an evaluation of images, with no model behind it"):
        from iddmbench.export.find import find_model

        find_model(saved.folder, "s29", "images-1.00", None, tmp_path)


def test_another_evaluation_is_not_overwritten(tmp_path: Path) -> None:
    evaluate(out=tmp_path / "out")
    assert "iddmbench evaluate IMAGES" in (tmp_path / "out" / "report.html").read_text()
    evaluate(out=tmp_path / "out")
    with pytest.raises(UserError, match=r"holds another run \(pixels"):
        evaluate({**IMAGES, "s29": pictures(29, 3, 4)}, out=tmp_path / "out")


# ---- the command line ---------------------------------------------------------------------------------------------------


def test_the_command_writes_a_run_folder(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    for place, people in (("images", {**IMAGES, "bob": pictures(3, 1)}), ("photos", GALLERY)):
        for person, images in people.items():
            (tmp_path / place / person).mkdir(parents=True)
            for i, image in enumerate(images):
                Image.fromarray(image).save(tmp_path / place / person / f"{i}.png")
    options = ["--gallery", str(tmp_path / "photos"), "--attacker", "coarse", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "images"), *options])
    assert done.exit_code == 0, done.output
    assert "note: no enrolment photos of 'bob'" in done.output and "Report" in done.output
    pd.testing.assert_frame_equal(ib.open_run(tmp_path / "out").summary(), evaluate().summary(), check_exact=True)
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(app, ["evaluate", str(tmp_path / "empty"), *options])
    assert done.exit_code == 2 and "empty holds no folder" in done.output


# ---- attackers that are no plugins --------------------------------------------------------------------------------------


class Own(Coarse):
    """Another one for each size of its cells; never registered."""

    name, title = "own", "an attacker of the caller's"

    def __init__(self, cell: int = 16):
        self.cell, self.dim = cell, 8 * (64 // cell) ** 2  # type: ignore[misc]

    def fingerprint(self) -> str:
        return f"own {self.cell}"


def test_attackers_may_be_objects_and_classes() -> None:
    named = evaluate(attackers=("coarse", "fine"))
    for given, twin in ((Own(16), "coarse"), (Own(8), "fine"), (Own, "coarse")):
        found = evaluate(attackers=given)
        assert found.attackers == ["own"] and "own" not in ib.list_attackers()
        np.testing.assert_array_equal(
            found.probes["mated"], named.probes[named.probes["attacker"] == twin]["mated"].to_numpy()
        )
        assert any("attacker 'own' was given as an object" in note for note in found.notes)
        assert "own" in str(found) and found.to_html()
    mixed = evaluate(attackers=["coarse", Own(8)])
    assert mixed.attackers == ["coarse", "own"]


def test_an_object_that_shares_a_network_is_white_box_with_it() -> None:
    class Twin(Own):
        same_as = "coarse"

    for white_box, threat in (("coarse", "white-box"), ("own", "white-box"), ("fine", "transfer")):
        found = evaluate(attackers=Twin(), white_box=white_box)
        assert set(found.probes["threat"]) == {threat}


def test_an_adaptive_attacker_wraps_an_object(base: Path) -> None:
    images = {f"s{p}": pictures(p, 1, 2) for p in (29, 30, 31)}
    found = evaluate(images, attackers=[Own(8), "coarse", "fuse:own+coarse"], dataset="tiny-orl", base=str(base))
    assert found.attackers == ["own", "coarse", "fuse:own+coarse"]
    assert found["fuse:own+coarse"].rank1_hit.known


class Nameless(Coarse):
    licence = None  # type: ignore[assignment]


class Failing(Coarse):
    def __init__(self) -> None:
        raise RuntimeError("no weights\nat all")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "names, instances or subclasses of Attacker, not int"),
        (int, "not int"),
        ([Own(8), Own(16)], "two are named 'own'"),
        (["coarse", Coarse()], "two are named 'coarse'"),
        (Nameless, "Nameless must set `licence` to a text"),
        (Failing, "attacker 'coarse' failed: RuntimeError: no weights"),
    ],
)
def test_what_is_no_attacker(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        evaluate(attackers=given)
    assert "\n" not in str(error.value)


# ---- what is doubtful about the photos ----------------------------------------------------------------------------------


def doubtful() -> dict[str, list[np.ndarray]]:
    """The third photo of s29 is one of s30's too."""
    return GALLERY | {"s29": [*GALLERY["s29"][:2], GALLERY["s30"][0]]}


def test_doubts_about_the_photos_are_told(tmp_path: Path) -> None:
    found = evaluate(gallery=doubtful(), out=tmp_path / "out")
    (note,) = [note for note in found.notes if note.startswith("warning: the same picture appears 2 times")]
    assert "1 enrolment of s29, 1 enrolment of s30" in note
    assert not [note for note in evaluate().notes if note.startswith("warning: the same picture")]
    assert note in ib.open_run(tmp_path / "out").notes


def test_strict_runs_train_nothing_on_doubtful_photos(base: Path, tmp_path: Path) -> None:
    for person, photos in doubtful().items():
        (tmp_path / "photos" / person).mkdir(parents=True)
        for i, image in enumerate([*pictures(int(person[1:]), 1, 2, 3), *photos]):
            Image.fromarray(image).save(tmp_path / "photos" / person / f"{i}.png")
    settings = {"dataset": "folder", "dataset_options": {"root": str(tmp_path / "photos")}, "base": str(base)}
    settings |= {"attackers": "coarse", "images_per_prompt": 1, "cache": tmp_path / "cache", "out": tmp_path / "out"}
    with pytest.raises(UserError, match="so nothing was trained"):
        ib.run("echo", strict=True, **settings)
    assert not (tmp_path / "cache" / "personalize").exists()


# ---- switches -----------------------------------------------------------------------------------------------------------


def test_the_functions_set_torchs_switches(tmp_path: Path) -> None:
    """In a process of its own; what is asked for is refused only after they are set."""
    run = f"ib.run('blur', attackers='sface', threads=3, dataset='folder', dataset_options={{'root': '{tmp_path}'}})"
    code = "import torch, iddmbench as ib\nfrom iddmbench.errors import UserError\n"
    for asked in ("ib.evaluate({'s29': []}, dataset='orl', threads=3)", run):
        code += (
            "torch.use_deterministic_algorithms(False); torch.set_num_threads(1)\n"
            f"try:\n    {asked}\nexcept UserError: pass\n"
            "assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 3\n"
        )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---- bad input ----------------------------------------------------------------------------------------------------------


def write(root: Path, people: dict[str, list[np.ndarray]]) -> Path:
    for person, images in people.items():
        (root / person).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / person / f"{i}.png")
    return root


BLANK = np.full((64, 64, 3), 128, np.uint8)
BAD: dict[str, tuple[dict[str, list[np.ndarray]], str]] = {
    "no face anywhere": (
        {"s29": [BLANK] * 2},
        "note: no face on 2 of 2 images of 's29' (images-1.00), the first is images/",
    ),
    "one person only": (
        {"s29": pictures(29, 1, 2)},
        "note: images of one person only (s29): no interval holds",
    ),
    "mixed sizes and modes": (
        {"s29": [*pictures(29, 1), pictures(29, 2)[0][::2, ::2], pictures(29, 3)[0][..., 0]], "s30": pictures(30, 1)},
        "note: no public people",
    ),
    "people whom the gallery lacks": (
        {"bob": pictures(3, 1, 2), "s29": pictures(29, 1)},
        "note: no enrolment photos of 'bob': 2 of the images left out",
    ),
    "a photo of the gallery": (
        {"s29": pictures(29, 5), "s30": pictures(30, 1)},
        "note: image s29/0.png is a copy of enrolment photo s29/0.png of 's29': it says nothing about linkage",
    ),
    "somebody else's photo": (
        {"s29": pictures(30, 5), "s30": pictures(30, 1)},
        "note: image s29/0.png is a copy of enrolment photo s30/0.png of 's30'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_the_command_says_of_bad_images(case: str, tmp_path: Path) -> None:
    """It measures what can be measured, and says in one line what can't, or what a figure is worth."""
    from typer.testing import CliRunner

    images, said = BAD[case]
    options = [
        "--gallery",
        str(write(tmp_path / "photos", GALLERY)),
        "--attacker",
        "coarse",
        "--out",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(app, ["evaluate", str(write(tmp_path / "images", images)), *options])
    assert done.exit_code == 0 and "Traceback" not in done.output, done.output
    assert any(line.startswith(said) for line in done.stderr.splitlines()), done.stderr
    found = ib.open_run(tmp_path / "o")
    assert len(found.images) == sum(len(several) for person, several in images.items() if person in GALLERY)
    assert found.failed.empty


def test_the_command_says_what_is_doubtful_about_the_photos(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    options = [
        "--gallery",
        str(write(tmp_path / "photos", doubtful())),
        "--attacker",
        "coarse",
        "--out",
        str(tmp_path / "o"),
    ]
    done = CliRunner().invoke(app, ["evaluate", str(write(tmp_path / "images", IMAGES)), *options])
    assert done.exit_code == 0, done.output
    told = [line for line in done.stderr.splitlines() if "the same picture appears 2 times" in line]
    assert len(told) == 1 and told[0].startswith("warning: "), done.stderr


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    photos = write(tmp_path / "photos", GALLERY)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "s29").mkdir(parents=True)
    for name, said in (("empty", "holds no folder: put each person's images into one"), ("hollow", "no usable image")):
        done = CliRunner().invoke(app, ["evaluate", str(tmp_path / name), "--gallery", str(photos)])
        lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.exit_code == 2 and len(lines) == 1 and said in lines[0], done.output
    done = CliRunner().invoke(app, ["evaluate", str(photos), "--gallery", str(tmp_path / "empty")])
    assert done.exit_code == 2 and "gallery: " in done.stderr and "holds no folder" in done.stderr
    done = CliRunner().invoke(app, ["evaluate", "--gallery", str(photos)])
    assert done.exit_code == 2 and "give IMAGES, or an --adapter" in done.stderr
