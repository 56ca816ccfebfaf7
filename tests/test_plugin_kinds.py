"""Plugins of every kind: registered, found by name, checked at the door; options of attackers; faults that the checks find."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import Field
from typer.testing import CliRunner

import iddmbench as ib
from iddmbench.adaptive import ADAPTIVE, build_adaptive, parse, roots, with_options
from iddmbench.adaptive.base import Adaptive, AdaptiveOptions, Gallery
from iddmbench.adaptive.posts import Fitted, Others, Posts, Scores
from iddmbench.attacker import Attacker, AttackerOptions, attacker_with, build_attacker
from iddmbench.cli import app
from iddmbench.conformance import run_checks
from iddmbench.conformance.plugin import SUITES
from iddmbench.errors import UserError
from iddmbench.options import read_options, split_options, write_options
from iddmbench.perturb.purifier import Purifier, purifier
from iddmbench.photos.dataset import FaceDataset
from iddmbench.plugins import Kind, kind_of, kinds_with
from iddmbench.run.config import default_folder, make_config
from iddmbench.seeds import Seeds
from iddmbench.submission.names import public_name
from iddmbench.types import Embeddings, FaceData, Person, Photo, Subject

runner = CliRunner()


def unregister(kind: Kind, name: str) -> None:
    kind.registry._added.pop(name, None)


def failed(kind: Kind, cls: type, **options: object) -> list[str]:
    suite = SUITES[kind]
    subject = suite.subject(cls, cls.name, options)  # type: ignore[attr-defined]
    return [outcome.name for outcome in run_checks(suite.checks, subject) if outcome.state == "failed"]


# ---- one registry for all kinds ----------------------------------------------------------------------------------------


class Median(Purifier):
    """Takes the middle of three shifted copies."""

    name = "tests-median"
    title = "median of shifts"

    shift: int = Field(1, ge=1, le=4, description="in pixels")
    twice: bool = Field(False, description="do it twice")

    def apply(self, images, seeds, base):
        for _ in range(1 + self.twice):
            images = np.median([np.roll(images, s, 2) for s in (-self.shift, 0, self.shift)], 0).astype(np.uint8)
        return images


class Bare(Attacker):
    name, title, dim, licence, source = "tests-bare", "mean colours", 3, "none", "none"

    class Options(AttackerOptions):
        gain: float = Field(1.0, gt=0, description="of the colours")
        workers: int = Field(1, ge=1, description="changes no result")

    fingerprinted = frozenset({"workers"})

    def _embed(self, images, faces):
        vectors = np.stack([(image.reshape(-1, 3).mean(0) + self.options.gain) for image in images])
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return Embeddings(vectors, np.ones(len(images), bool))

    def fingerprint(self):
        return "ab" * 32


@pytest.fixture
def bare():
    ib.register(Bare)
    yield Bare
    unregister(Kind.attacker, Bare.name)


def test_every_kind_is_registered_by_its_base_class() -> None:
    for kind in Kind:
        more = {"licence": "l", "source": "s"} if kind in (Kind.attacker, Kind.dataset) else {}
        cls = type("Mine", (kind.registry.base,), {"name": "tests-mine", "title": "t", **more})
        assert kind_of(cls) is kind
        try:
            assert ib.register(cls) is cls and kind.registry.get("tests-mine") is cls
            assert "tests-mine" in kind.registry.names() and ib.register(cls) is cls  # twice the same is one
            with pytest.raises(UserError, match=f"{kind.called} 'tests-mine' is already registered"):
                ib.register(type("Other", (cls,), {}))
        finally:
            unregister(kind, "tests-mine")
    with pytest.raises(UserError, match="is not a plugin class: derive from Defense, Attacker, Adaptive, Purifier"):
        ib.register(int)


def test_an_adaptive_attacker_cannot_have_a_plain_ones_name() -> None:
    with pytest.raises(UserError, match="'sface' is already an attacker"):
        ib.register(type("Mine", (Adaptive,), {"name": "sface", "title": "t"}))
    with pytest.raises(UserError, match="'finetune' is already an adaptive"):
        ib.register(type("Mine", (Attacker,), {"name": "finetune", "title": "t", "licence": "l", "source": "s"}))


def test_check_asks_which_kind_is_meant() -> None:
    assert kinds_with("blur") == [Kind.defense, Kind.purifier]
    with pytest.raises(UserError, match="'blur' is a defense and a purifier: choose one, for example kind='defense'"):
        ib.check("blur")
    assert {o.state for o in ib.check("blur", kind="purifier")} == {"ok"}
    with pytest.raises(UserError, match="there is no plugin 'blurr': did you mean 'blur'"):
        ib.check("blurr")
    with pytest.raises(UserError, match="there is no kind 'purifyer' of plugins: did you mean 'purifier'"):
        ib.check("blur", kind="purifyer")
    assert {"dreambooth", "lora"} <= {*ib.list_plugins("personalizer")} and "finetune" in ib.list_plugins("adaptive")


# ---- options of attackers ----------------------------------------------------------------------------------------------


def test_options_of_an_attacker_are_in_its_name_and_its_fingerprint(bare) -> None:
    plain, other = build_attacker("tests-bare"), build_attacker("tests-bare:gain=2")
    assert plain.options.gain == 1 and other.options.gain == 2
    assert plain.fingerprint() == "ab" * 32 != other.fingerprint()
    assert build_attacker("tests-bare:gain=1").fingerprint() == plain.fingerprint()
    assert build_attacker("tests-bare:workers=4").fingerprint() == plain.fingerprint()  # says that it changes nothing
    assert attacker_with("tests-bare", {"gain": "2.5", "workers": "3"}) == "tests-bare:gain=2.5,workers=3"
    assert attacker_with("tests-bare", {"gain": "1"}) == "tests-bare"
    image = np.full((8, 8, 3), (10, 20, 30), np.uint8)
    assert not np.array_equal(plain.embed([image]).vectors, other.embed([image]).vectors)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tests-bare:gian=2", "attacker 'tests-bare' has no option 'gian': did you mean 'gain'"),
        ("tests-bare:gain=x", "attacker 'tests-bare': gain='x': input should be a valid number"),
        ("tests-bare:gain=0", "gain='0': input should be greater than 0"),
        ("tests-bare:gain=nan", "gain='nan': input should be"),
        ("tests-bare:loud", "takes no argument after the colon, got 'loud'"),
        ("tests-bare:mtcnn", "has its own detector"),
        ("sface:detector=retina", "attacker 'sface': detector='retina': input should be 'yunet' or 'mtcnn'"),
        ("sface:bgr", "takes a detector after the colon, not 'bgr'"),
    ],
)
def test_a_wrong_option_is_one_line(bare, name: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        build_attacker(name)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(UserError):
        make_config({"attackers": (name,)}).check()


def test_the_short_forms_are_the_same_options(tmp_path: Path) -> None:
    assert build_attacker("sface:detector=mtcnn").fingerprint() == build_attacker("sface:mtcnn").fingerprint()
    assert build_attacker("sface:detector=yunet").fingerprint() == build_attacker("sface").fingerprint()
    assert attacker_with("sface", {"detector": "mtcnn"}) == "sface:mtcnn"
    long, short = build_attacker("onnx:path=a.onnx,channels=bgr,pixels=raw"), build_attacker("onnx:a.onnx,bgr,raw")
    assert long.options == short.options and long.title == short.title == "ONNX file a.onnx"
    assert attacker_with("onnx", {"path": "a.onnx", "channels": "bgr"}) == "onnx:a.onnx,bgr"
    assert build_attacker("onnx:odd=name.onnx").options.path == "odd=name.onnx"
    with pytest.raises(UserError, match=r"onnx:a\.onnx has no option 'brg': did you mean 'bgr'"):
        build_attacker("onnx:a.onnx,brg")


def test_attacker_set_reaches_every_attacker_that_it_names() -> None:
    names = ["sface", "finetune:sface", "dlib", "fuse:dlib+sface"]
    found = with_options(names, {"sface": {"detector": "mtcnn"}, "finetune": {"shrinkage": "1,3"}})
    assert found == ("sface:mtcnn", "finetune:shrinkage=1,3:sface:mtcnn", "dlib", "fuse:dlib+sface:mtcnn")
    config = make_config({"attackers": names, "attacker_options": {"sface": {"detector": "mtcnn"}}})
    assert config.attackers == ("sface:mtcnn", "finetune:sface:mtcnn", "dlib", "fuse:dlib+sface:mtcnn")
    assert make_config({"attackers": names}).attackers == tuple(names)
    usual = make_config({"attacker_options": {"dlib": {"detector": "mtcnn"}}}).attackers
    assert usual == ("dlib:mtcnn", "sface", "faceres", "lbph:part=inner", "gabor", "finetune:sface")


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["sface"], {"dlib": {"detector": "mtcnn"}}, "no attacker in the run is 'dlib': add --attacker dlib"),
        (["sface"], {"sfac": {"detector": "mtcnn"}}, "no attacker in the run is 'sfac': did you mean 'sface'"),
        (["sface:mtcnn"], {"sface": {"detector": "mtcnn"}}, "option 'detector' is given twice"),
        (["finetune:shrinkage=1:sface"], {"finetune": {"shrinkage": "3"}}, "option 'shrinkage' is given twice"),
        (["finetune:sface"], {"finetune": {"shrinkage": "-1"}}, "each shrinkage must be above 0"),
        (["finetune:sface"], {"finetune": {"speed": "1"}}, "attacker 'finetune' has no option 'speed'"),
        (["purify:sface"], {"purify": {"purifiers": "jpeg,jpg"}}, "unknown purifier 'jpg': did you mean 'jpeg'"),
    ],
)
def test_a_wrong_attacker_set(names: list[str], changes: dict, message: str) -> None:
    with pytest.raises(UserError) as raised:
        with_options(names, changes)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["sface", "sface.detector", "detector=mtcnn", ".detector=x", "sface.=x"])
def test_attacker_set_is_written_in_one_way(text: str) -> None:
    done = runner.invoke(app, ["run", "--attacker-set", text])
    assert done.exit_code == 2 and "write it as --attacker-set NAME.KEY=VALUE" in done.stderr, done.output


def test_evaluate_takes_options_of_attackers(tmp_path: Path) -> None:
    arguments = ["evaluate", str(tmp_path), "--dataset", "orl", "--attacker-set"]
    wrong = runner.invoke(app, [*arguments, "dlib.detektor=mtcnn"])
    assert wrong.exit_code == 2 and "attacker 'dlib' has no option 'detektor'" in wrong.stderr, wrong.output
    absent = runner.invoke(app, [*arguments, "lbph.detector=mtcnn"])
    assert absent.exit_code == 2 and "add --attacker lbph" in absent.stderr, absent.output


def test_purify_takes_purifiers_by_name() -> None:
    def purifiers(name: str) -> tuple[str, ...]:
        how = parse(name)
        assert how is not None
        return build_adaptive(how).options.purifiers

    assert purifiers("purify:jpeg:dlib") == ("jpeg-75",) and roots("purify:jpeg:dlib") == ("dlib",)
    assert purifiers("purify:jpeg-50,blur:sface:mtcnn") == ("jpeg-50", "blur-1")
    assert roots("purify:jpeg-50,blur:sface:mtcnn") == ("sface", "sface:mtcnn") == roots("purify:sface:mtcnn")
    assert purifiers("purify:jpeg:quality=30:dlib") == ("jpeg-30",)
    assert len(purifiers("purify:dlib")) == 8
    how = parse("finetune:shrinkage=1,3:dlib")
    assert how is not None and build_adaptive(how).options.shrinkage == (1.0, 3.0) and how.bases == ("dlib",)
    assert public_name("finetune:shrinkage=1,3:dlib", {}) == "finetune:shrinkage=1,3:dlib"
    assert public_name("purify:jpeg:dlib", {}) == "purify:jpeg-75:dlib"
    assert public_name("finetune:lbph:part=inner", {}) == "finetune:lbph:part=inner"
    assert public_name("hog:part=edge", {}) == "hog:part=edge", "options are no file"


def test_options_are_written_and_read() -> None:
    assert split_options("radius=2,names=a,b,passes-now=3") == {"radius": "2", "names": "a,b", "passes_now": "3"}
    made = read_options(Median, {"shift": 3, "twice": True}, "purifier")
    assert (
        write_options(made) == "shift=3,twice=true"
        and read_options(Median, split_options("shift=3,twice=true"), "p") == made
    )


# ---- purifiers ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def median():
    ib.register(Median)
    yield Median
    unregister(Kind.purifier, Median.name)


def test_a_purifiers_name_says_its_options(median) -> None:
    assert purifier("tests-median") == Median() and purifier("tests-median-2") == Median(shift=2)
    assert purifier("tests-median:shift=2,twice=yes") == Median(shift=2, twice=True)
    assert Median(shift=2).label == "tests-median:shift=2" and Median().label == "tests-median"
    assert purifier("jpeg").label == "jpeg-75" and purifier("sdedit-0.123456789").label == "sdedit-0.123456789"
    for wrong in ("tests-median-9", "tests-median-x", "tests-median:2", "tests-median:radius=2", "tests-"):
        with pytest.raises(UserError, match=f"purifier '{wrong}'"):
            purifier(wrong)
    config = make_config({"threat": "unauthorized", "purify": "tests-median-2", "defenses": ("random-noise",)})
    assert config.purify == "tests-median-2"
    assert (
        "unknown purifier"
        in runner.invoke(
            app, ["run", "--defense", "random-noise", *["--threat", "unauthorized", "--purify", "tests-x"]]
        ).stderr
    )


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            lambda x: x[1:],
            r"gives uint8 \(1, 16, 16, 3\), expected uint8 \(2, 16, 16, 3\), with the number and size of the input",
        ),
        (lambda x: x[:, ::2], "expected uint8"),
        (lambda x: x / 255, "gives float64"),
        (lambda x: list(x), "gives list of 2"),
        (lambda x: (x / 255).astype(np.uint8), "values 0 and 1 only: scale them to 0..255"),
        (lambda x: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_what_a_purifier_gives_is_checked(result, message: str) -> None:
    cls = type("Wrong", (Purifier,), {"__module__": __name__, "name": "wrong", "title": "t"})
    cls = type("Wrong2", (cls,), {"__module__": __name__, "apply": lambda self, images, seeds, base: result(images)})
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(UserError, match=f"purifier 'wrong' .*{message}"):
        cls()(images, Seeds(0))


def test_a_purifier_version_is_in_its_key() -> None:
    newer = type("Newer", (Median,), {"__module__": __name__, "version": 2})
    assert newer().key == "tests-median version 2" and Median().key == "tests-median"
    assert purifier("jpeg-75").key == "jpeg-75"


@pytest.mark.slow
def test_each_fault_of_a_purifier_is_found() -> None:
    def faults(apply) -> list[str]:
        return failed(Kind.purifier, type("Broken", (Median,), {"__module__": __name__, "apply": apply}))

    good = Median.apply
    assert failed(Kind.purifier, Median) == []

    def batchy(self, images, seeds, base):
        return good(self, images, seeds, base) // 2 + images[:1] // 2

    def draws(self, images, seeds, base):
        return np.random.randint(0, 256, images.shape).astype(np.uint8)  # noqa: NPY002

    assert "an image does not depend on the others" in faults(batchy)
    assert "the same seeds give the same result" in faults(draws)
    assert "it does something and keeps the picture" in faults(lambda self, images, seeds, base: images)
    assert "images keep count and size" in faults(lambda self, images, seeds, base: images[:, ::2])
    assert "describes itself" in failed(Kind.purifier, type("Broken", (Median,), {"__module__": __name__, "title": ""}))


# ---- adaptive attackers ------------------------------------------------------------------------------------------------


class Plain(Adaptive):
    name, title = "tests-plain", "scores as the system does"

    class Options(AdaptiveOptions):
        power: float = Field(1.0, gt=0, description="of the scores")

    def learn(self, others: Others):
        return lambda posts: self.galleries[0].scores(posts.views[0])


def adaptive_faults(**changes: object) -> list[str]:
    return failed(Kind.adaptive, type("Broken", (Plain,), {"__module__": __name__, **changes}))


def test_each_fault_of_an_adaptive_attacker_is_found() -> None:
    def random(self, others):
        def score(posts):
            found = self.galleries[0].scores(posts.views[0])
            noise = np.random.normal(size=found.values.shape) * found.acquired[:, None]  # noqa: NPY002
            return Scores(found.identities, found.values + 1e-3 * noise, found.acquired)

        return score

    def unmasked(self, others):
        def score(posts):
            found = self.galleries[0].scores(posts.views[0])
            return Scores(found.identities, found.values + 1, np.ones_like(found.acquired))

        return score

    def backwards(self, others):
        def score(posts):
            found = self.galleries[0].scores(posts.views[0])
            return Scores(found.identities, -found.values, found.acquired)

        return score

    def remembers(self, others):
        self.__dict__.setdefault("seen", []).append(len(others))
        seen = len(self.__dict__["seen"])
        return lambda posts: Scores(
            (found := self.galleries[0].scores(posts.views[0])).identities, found.values * seen, found.acquired
        )

    assert adaptive_faults() == []
    assert "the same posts give the same scores" in adaptive_faults(learn=random)
    assert "a post without a face is masked" in adaptive_faults(learn=unmasked)
    assert "what any system links it links" in adaptive_faults(learn=backwards)
    assert "nothing is learned from the target" in adaptive_faults(learn=remembers)
    assert "describes itself" in adaptive_faults(title="")


def world() -> tuple[Gallery, list[Posts]]:
    vectors = np.eye(6)
    gallery = Gallery(np.array([f"p{i}" for i in range(6)]), vectors)
    view = [Embeddings(np.tile(v, (4, 1)).astype(np.float32), np.ones(4, bool)) for v in vectors[:4]]
    return gallery, [Posts(f"p{i}", (v,)) for i, v in enumerate(view)]


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda found: None, "NoneType, not Scores"),
        (lambda found: Scores(found.identities, found.values[:2], found.acquired), r"scores of shape \(2, 6\)"),
        (lambda found: Scores(found.identities[::-1], found.values, found.acquired), "unsorted"),
        (lambda found: Scores(found.identities[1:], found.values[:, 1:], found.acquired), "no score against 'p0'"),
        (lambda found: Scores(found.identities, found.values * np.nan, found.acquired), "NaN or infinite scores"),
        (lambda found: Scores(found.identities, found.values, found.acquired.astype(int)), "expected bool"),
        (lambda found: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_what_an_adaptive_attacker_gives_is_checked(score, message: str) -> None:
    def learn(self, others):
        return lambda posts: score(self.galleries[0].scores(posts.views[0]))

    gallery, everyone = world()
    made = type("Wrong", (Plain,), {"__module__": __name__, "learn": learn})([gallery])
    with pytest.raises(UserError, match=f"attacker 'tests-plain'.*{message}"):
        made.fit(Others.than("p0", everyone)).scores(everyone[0])


def test_what_learn_fit_and_views_give_is_checked() -> None:
    gallery, everyone = world()
    others = Others.than("p0", everyone)

    def wrong(**changes: object) -> Adaptive:
        return type("Wrong", (Plain,), {"__module__": __name__, **changes})([gallery])

    with pytest.raises(UserError, match="'tests-plain': learn gives int, expected a function"):
        wrong(learn=lambda self, others: 3).fit(others)
    with pytest.raises(UserError, match="'tests-plain': fit gives int, expected Fitted"):
        wrong(fit=lambda self, others: 3).fit(others)
    with pytest.raises(UserError, match="'tests-plain': views gives list, expected a list of at least one Attacker"):
        wrong(views=lambda self, attackers, base: []).views([], None)
    assert isinstance(wrong().fit(others), Fitted)


def test_a_version_is_a_key_of_its_own() -> None:
    assert Plain([]).key() == {} and ADAPTIVE.get("finetune")([]).key() == {}
    assert type("Newer", (Plain,), {"version": 2})([]).key() == {"version": 2}


# ---- datasets ----------------------------------------------------------------------------------------------------------


class Few(FaceDataset):
    name, title, licence = "tests-few", "three people of ORL", "as ORL"
    overlap, shuffled, people, noise = False, False, 5, False

    def __init__(self, references: int = 2):
        self.references = references

    def load(self) -> FaceData:
        from iddmbench.datasets.orl import photo

        def photos(person: int) -> tuple[Photo, ...]:
            return tuple(photo(person, k) for k in range(1, 7))

        def subject(person: int) -> Subject:
            own = photos(person)
            if self.shuffled:
                own = tuple(own[i] for i in np.random.permutation(len(own)))  # noqa: NPY002
            cut = self.references - self.overlap
            return Subject(f"s{person}", own[: self.references], own[cut:])

        public = tuple(Person(f"s{p}", photos(p)) for p in range(1, 1 + self.people))
        if self.noise:
            blank = [Photo.of(f"x/{i}", np.full((64, 64, 3), i, np.uint8)) for i in range(40)]
            public += (Person("x", tuple(blank)),)
        return FaceData(self.name, tuple(subject(p) for p in (30, 31)), public)


def test_each_fault_of_a_dataset_is_found() -> None:
    def faults(**changes: object) -> list[str]:
        return failed(Kind.dataset, type("Broken", (Few,), changes))

    assert faults() == []
    assert "roles are apart" in faults(overlap=True)
    assert "the same options give the same photos" in faults(shuffled=True)
    assert "there are people to test and to compare with" in faults(people=2)
    assert "photos show faces" in faults(noise=True)
    with pytest.raises(UserError, match="dataset 'tests-few' has no option 'refs'"):
        failed(Kind.dataset, Few, refs=1)
    with pytest.raises(UserError, match="dataset 'tests-few': references='x'"):
        failed(Kind.dataset, Few, references="x")


def test_check_of_a_dataset_from_the_command_line(tmp_path: Path) -> None:
    done = runner.invoke(app, ["check", "dataset", "folder"])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "needs --root" in done.stderr
    done = runner.invoke(app, ["check", "dataset", "folder", "--set", f"root={tmp_path}"])
    assert done.exit_code == 2 and "holds no folders" in done.stderr


# ---- personalizers -----------------------------------------------------------------------------------------------------


def test_settings_of_a_personalizer() -> None:
    from iddmbench.models.recipe import Recipe

    recipe = Recipe.model_validate({"lora": {"steps": 7}})
    plain = make_config({})
    assert plain.personalizer == "lora" and plain.training_settings(recipe) == recipe.lora
    short, long = make_config({"lora": {"rank": 8}}), make_config({"personalizer_options": {"rank": "8"}})
    assert short.training_settings(recipe) == long.training_settings(recipe)
    full = make_config({"personalizer": "dreambooth", "personalizer_options": {"learning_rate": "1e-4"}})
    assert full.training_settings(recipe).learning_rate == 1e-4 and full.training_settings(recipe).steps == 800
    for options, message in (
        ({"personalizer": "loar"}, "unknown personalizer 'loar': did you mean 'lora'"),
        ({"personalizer": "dreambooth", "lora": {"rank": 8}}, "--lora is for personalizer 'lora'"),
        ({"lora": {"rank": 8}, "personalizer_options": {"alpha": 8}}, "give only one"),
    ):
        with pytest.raises(UserError, match=message):
            make_config(options).check()
    for options, message in (({"rank": 8}, "--personalizer-set has no setting 'rank'"), ({"steps": 0}, "steps=0")):
        with pytest.raises(UserError, match=message):
            make_config({"personalizer": "dreambooth", "personalizer_options": options}).training_settings(recipe)


def test_older_runs_keep_their_folders() -> None:
    """The default personalizer is no part of what names a folder; another one is."""
    plain = default_folder(make_config({}))
    assert plain == default_folder(make_config({"personalizer": "lora"}))
    assert plain != default_folder(make_config({"personalizer": "dreambooth"}))


@pytest.mark.slow
def test_each_fault_of_a_personalizer_is_found() -> None:
    from iddmbench.personalize.dreambooth import DreamBooth, FullTrainer

    def faults(trainer: type, **changes: object) -> list[str]:
        made = {"name": "tests-full", "trainer": lambda self, *parts: trainer(*parts), **changes}
        return failed(Kind.personalizer, type("Broken", (DreamBooth,), made))

    class Writes(FullTrainer):
        def __exit__(self, *exception):
            super().__exit__(*exception)
            with torch.no_grad():
                next(iter(self.base.unet.parameters())).add_(1e-3)

    class Draws(FullTrainer):
        def model(self):
            found = super().model()
            return type(found)(
                None, found.settings, replaced={k: w + 1e-6 * torch.rand(()) for k, w in found.replaced.items()}
            )

    class Idle(FullTrainer):
        def rate(self):
            return 0.0

    assert faults(FullTrainer) == []
    assert "the base is left alone" in faults(Writes)
    assert "the same seeds give the same model" in faults(Draws)
    assert "it learns" in faults(Idle)
    assert "a model is stored and read" in faults(FullTrainer, tensors=lambda self, model: {})
