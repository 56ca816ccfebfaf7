"""Adaptive attackers on synthetic embeddings, where it is known what a defense did; and in a run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from tiny_base import write_base

from iddmbench.adaptive import ADAPTIVE, parse, roots
from iddmbench.adaptive.base import Gallery, unit
from iddmbench.adaptive.finetune import Finetune
from iddmbench.adaptive.logistic import logistic
from iddmbench.adaptive.posts import Fitted, Others, Posts, Scores
from iddmbench.adaptive.purified import Purified
from iddmbench.attacker import build_attacker
from iddmbench.errors import UserError
from iddmbench.linking.adaptive import AdaptiveLinker
from iddmbench.linking.adaptive import linkage as linkage_of
from iddmbench.linking.aggregate import members, threat_of
from iddmbench.linking.stored import read_linkages, write_linkages
from iddmbench.metrics.feed import pooled_scores, pooled_templates
from iddmbench.metrics.verification import Threshold
from iddmbench.models.base import load_base
from iddmbench.perturb.purifier import TRIED, purifier
from iddmbench.report.write import write_outputs
from iddmbench.results.run_folder import WORST_CASE, WORST_CASE_ADAPTIVE, RunFolder
from iddmbench.run import pipeline
from iddmbench.run.config import make_config
from iddmbench.types import Embeddings

pytestmark = pytest.mark.usefixtures("plugins")
WIDTH, PEOPLE, SUBJECTS, EACH = 32, 20, 6, 8


class World:
    """People with templates; what a defense makes of posts is `change(template, noise)`."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.templates = unit(self.rng.normal(size=(PEOPLE, WIDTH)))
        self.names = np.array([f"p{i:02d}" for i in range(PEOPLE)])
        self.gallery = Gallery(self.names, self.templates)

    def posts(self, change, noise: float = 0.3, views: int = 1) -> list[Posts]:
        everyone = []
        for i in range(SUBJECTS):
            made = []
            for view in range(views):
                spread = noise * self.rng.normal(size=(EACH, WIDTH)) / np.sqrt(WIDTH)
                made.append(embeddings(unit(change(self.templates[i], view) + spread)))
            everyone.append(Posts(self.names[i], tuple(made)))
        return everyone


def embeddings(vectors: np.ndarray, acquired: np.ndarray | None = None) -> Embeddings:
    acquired = np.ones(len(vectors), bool) if acquired is None else acquired
    return Embeddings((vectors * acquired[:, None]).astype(np.float32), acquired)


def hits(kind: str, everyone: list[Posts], *galleries: Gallery, own: list[Posts] | None = None, **options) -> float:
    """Mean rank-1 hit over all subjects, each attacked by what was learned on the others. own: simulated posts; other draws of
    the posts where they are not given, as they would be without a key."""
    cls = ADAPTIVE.get(kind)
    attacker = cls(galleries, cls.Options(**options))
    found = []
    for posts in everyone:
        scores = attacker.fit(Others.than(posts.subject, everyone, everyone if own is None else own)).scores(posts)
        found += list(scores.ranks(posts.subject) == 1)
    return float(np.mean(found))


def test_no_defense_costs_nothing() -> None:
    """On posts that any system links, every kind links them too."""
    world = World()
    everyone = world.posts(lambda t, view: t, views=len(TRIED) + 1)
    two = [Posts(p.subject, p.views[:2]) for p in everyone]
    for kind in ADAPTIVE.names():
        if kind == "fuse":
            assert hits(kind, two, world.gallery, world.gallery) == 1
        else:
            assert hits(kind, everyone, world.gallery) == 1, kind


def test_a_common_displacement_is_learned_away() -> None:
    """The defense adds the same few directions to everybody: `finetune` finds and removes them."""
    world = World()
    directions = unit(world.rng.normal(size=(3, WIDTH)))

    def change(template: np.ndarray, view: int) -> np.ndarray:
        return template + 2 * world.rng.normal(size=(EACH, 3)) @ directions + 3 * directions[0]

    everyone = world.posts(change)
    plain, learned = hits("threshold", everyone, world.gallery), hits("finetune", everyone, world.gallery)
    assert plain < 0.4 and learned > plain + 0.4


def test_overshoot_is_a_leak() -> None:
    """A defense that makes the right person the least alike of all is linked by that."""
    world = World()
    everyone = world.posts(lambda t, view: -t)
    assert hits("threshold", everyone, world.gallery) == 0
    assert hits("finetune", everyone, world.gallery) == 1
    assert hits("likelihood", everyone, world.gallery) == 1


def test_a_true_decoupling_gives_them_nothing() -> None:
    """Posts that do not depend on the person are linked at chance, whatever is learned."""
    world = World()
    everyone = world.posts(lambda t, view: world.rng.normal(size=(EACH, WIDTH)), views=2)
    for kind in ("finetune", "likelihood", "threshold"):
        assert hits(kind, everyone, world.gallery) < 0.25
    assert hits("fuse", everyone, world.gallery, world.gallery) < 0.25
    assert hits("cross-post", everyone, world.gallery) < 0.5


def test_cross_posts_and_earlier_posts_link_what_photos_do_not() -> None:
    """Each model's posts look alike, but not like the person."""
    world = World()
    stand_ins = {name: unit(world.rng.normal(size=WIDTH)) for name in world.names}
    by_template = {t.tobytes(): stand_ins[n] for t, n in zip(world.templates, world.names, strict=True)}
    everyone = world.posts(lambda t, view: by_template[t.tobytes()])
    assert hits("threshold", everyone, world.gallery) < 0.4
    assert hits("cross-post", everyone, world.gallery) == 1
    assert hits("enrol-generated", everyone, world.gallery) == 1


def test_a_post_is_never_compared_with_itself() -> None:
    """Posts at right angles to each other and to everybody: only themselves would link them."""
    eye = np.eye(60)
    gallery = Gallery(np.array([f"p{i}" for i in range(4)]), eye[:4])
    everyone = [Posts(f"p{i}", (embeddings(eye[10 + 8 * i : 18 + 8 * i]),)) for i in range(4)]
    for kind in ("cross-post", "enrol-generated"):
        attacker = ADAPTIVE.get(kind)([gallery])
        for posts in everyone:
            scores = attacker.fit(Others.than(posts.subject, everyone)).scores(posts)
            assert np.allclose(scores.own(posts.subject), 0, atol=1e-6), kind


def test_purify_takes_the_view_that_links_others() -> None:
    world = World()
    everyone = world.posts(lambda t, view: t if view == 3 else world.rng.normal(size=(EACH, WIDTH)), views=5)
    assert hits("purify", everyone, world.gallery) == 1
    assert hits("threshold", everyone, world.gallery) < 0.3


def test_fusion_weighs_what_works() -> None:
    world, other = World(), World(1)
    everyone = world.posts(lambda t, view: t if view == 0 else world.rng.normal(size=(EACH, WIDTH)), noise=0.8, views=2)
    assert hits("fuse", everyone, world.gallery, other.gallery) >= hits("threshold", everyone, world.gallery) - 0.05


def test_squares_see_what_weights_do_not() -> None:
    """The right person is the most alike under one system, or the least: at random by post. A linear fusion cannot use that."""
    world, other = World(), World(1)
    signs = [world.rng.choice([-1, 1], size=(EACH, 1)) for _ in range(SUBJECTS)]
    by_template = {t.tobytes(): sign for t, sign in zip(world.templates, signs, strict=False)}
    noise = [world.rng.normal(size=(EACH, WIDTH)) for _ in range(SUBJECTS)]
    everyone = []
    for posts, drawn in zip(world.posts(lambda t, view: by_template[t.tobytes()] * t), noise, strict=True):
        everyone.append(Posts(posts.subject, (posts.views[0], embeddings(unit(drawn)))))
    linear, squares = (
        hits("fuse", everyone, world.gallery, other.gallery, rule=rule) for rule in ("linear", "squares")
    )
    assert linear < 0.7 and squares > 0.95


def test_logistic_regression_equals_scikit_learn_s() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    y = rng.random(300) < 1 / (1 + np.exp(2 - 2 * x[:, 0] + x[:, 1] ** 2))
    weight = np.where(y, 0.5 / y.sum(), 0.5 / (~y).sum())
    theirs = LogisticRegression(C=y.sum() / 2.0, tol=1e-10, max_iter=1000).fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(logistic(x, y, 2.0), theirs.coef_[0], atol=1e-5)
    with pytest.raises(ValueError, match="both classes"):
        logistic(x, np.ones(300, bool), 1.0)


def test_lost_faces_have_no_part() -> None:
    world = World()
    everyone = world.posts(lambda t, view: t, views=2)
    lost = []
    for posts in everyone:
        seen = np.arange(EACH) != 2
        lost.append(Posts(posts.subject, tuple(embeddings(v.vectors.astype(float), seen) for v in posts.views)))
    lost[-1] = Posts(lost[-1].subject, tuple(embeddings(np.zeros((EACH, WIDTH)), np.zeros(EACH, bool)) for _ in "ab"))
    for kind in ADAPTIVE.names():
        galleries = [world.gallery] * (2 if kind == "fuse" else 1)
        attacker = ADAPTIVE.get(kind)(galleries)
        for posts in lost:
            scores = attacker.fit(Others.than(posts.subject, lost, lost)).scores(posts)
            assert np.isfinite(scores.values).all() and scores.acquired.sum() in (0, EACH - 1)
            assert (scores.ranks(posts.subject) == 1).all(), kind


# ---- apart by type -----------------------------------------------------------------------------------------------------


def test_nobody_is_trained_and_tested_on() -> None:
    world = World()
    everyone = world.posts(lambda t, view: t)
    with pytest.raises(ValueError, match="posts of the target 'p01' are among those to learn from"):
        Others("p01", everyone)
    others = Others.than("p01", [*everyone, *everyone])  # two seeds: both of the target's are left out
    assert "p01" not in others.subjects and len(others) == 2 * (SUBJECTS - 1)
    fitted = Finetune([world.gallery]).fit(others)
    with pytest.raises(ValueError, match="'p02' was used for training"):
        fitted.scores(everyone[2])
    assert fitted.scores(everyone[1]).acquired.all()
    assert others.without("p02").subjects == ["p00", "p03", "p04", "p05"]
    with pytest.raises(ValueError, match="of the same images"):
        Posts("p", (embeddings(np.eye(3)), embeddings(np.eye(4))))
    assert Fitted(frozenset(), lambda posts: None).trained_on == frozenset()  # type: ignore[arg-type, return-value]


def test_the_result_does_not_see_the_target() -> None:
    """Other posts of the target change nothing in what was learned for it."""
    world = World()
    everyone = world.posts(lambda t, view: t)
    attacker = ADAPTIVE.get("finetune")([world.gallery])
    first = attacker.fit(Others.than("p00", everyone)).scores(everyone[0]).values
    changed = [Posts("p00", (embeddings(unit(world.rng.normal(size=(EACH, WIDTH)))),)), *everyone[1:]]
    assert np.array_equal(attacker.fit(Others.than("p00", changed)).scores(everyone[0]).values, first)


# ---- names, threats, worst cases ---------------------------------------------------------------------------------------


def test_names() -> None:
    assert parse("sface") is None and parse("onnx:some/file.onnx") is None
    parsed = parse("fuse:dlib+sface")
    assert parsed is not None and parsed.bases == ("dlib", "sface")
    assert roots("purify:sface") == ("sface",) and roots("dlib") == ("dlib",)
    assert roots("finetune:onnx:a.onnx") == ("onnx:a.onnx",)
    assert roots("sface:mtcnn") == ("sface", "sface:mtcnn") == roots("finetune:sface:mtcnn")
    assert roots("fuse:sface+sface:mtcnn") == ("sface", "sface:mtcnn")
    for wrong in ("purify", "purify:", "fuse:dlib", "fuse:dlib+dlib", "finetune:purify:sface", "fuse:dlib+"):
        with pytest.raises(UserError, match="wrap"):
            parse(wrong)


def test_threats() -> None:
    known = ("sface",)
    assert threat_of("sface", known) == "white-box" and threat_of("dlib", known) == "transfer"
    assert threat_of("sface:mtcnn", known) == "white-box" and threat_of("dlib:mtcnn", known) == "transfer"
    assert threat_of("finetune:sface:mtcnn", known) == "adaptive white-box"
    assert threat_of("purify:dlib", known) == "adaptive" and threat_of("purify:sface", known) == "adaptive white-box"
    assert (
        threat_of("fuse:dlib+sface", known) == "adaptive white-box" and threat_of("fuse:dlib+sface", ()) == "adaptive"
    )


def test_who_is_in_which_worst_case() -> None:
    """White-box attackers are in the worst case, the transfer one leaves them out; adaptive ones have one of their own."""
    names = ["dlib", "sface", "purify:dlib", "fuse:dlib+sface", "sface:mtcnn", "dlib:mtcnn", "cross-post:dlib"]
    found = members(names, ("sface",))
    assert found["worst-case"] == found["union"] == ["dlib", "sface", "sface:mtcnn", "dlib:mtcnn"]
    assert found["worst-case-transfer"] == ["dlib", "dlib:mtcnn"]
    assert found["worst-case-adaptive"] == found["union-adaptive"] == names[:-1]
    assert "worst-case-transfer" not in members(["sface"], ("sface",)) and members([], ("sface",)) == {}


def test_fused_scores_rank_as_fused_templates() -> None:
    world = World()
    vectors = unit(world.rng.normal(size=(8, WIDTH)))
    acquired = np.array([True, False, True, True, True, True, False, False])
    templates, first = pooled_templates(vectors, acquired, 4)
    scores, second = pooled_scores(vectors @ world.templates.T, acquired, 4)
    assert np.array_equal(first, second)
    assert np.array_equal(np.argsort(templates @ world.templates.T, 1), np.argsort(scores, 1))
    alone, none = pooled_scores(np.ones((4, 3)), np.zeros(4, bool), 2)
    assert not alone.any() and not none.any()


def test_linkage_of_scores() -> None:
    values = np.array([[3.0, 1, 2], [0, 2, 1], [0, 0, 0], [5, 4, 4]])
    scores = Scores(np.array(["a", "b", "c"]), values, np.array([True, True, False, True]))
    seen = linkage_of("a", scores, {}, {})
    assert seen.rank.tolist() == [1, 3, 0, 1] and seen.identities == 3
    assert np.isnan(seen.mated[2]) and seen.mated[[0, 1, 3]].tolist() == [3, 0, 5]
    assert seen.nonmated[1].tolist() == [2, 1] and seen.feeds[4].rank.tolist() == [1]


# ---- in a run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


ATTACKERS = ("coarse", "fine", "finetune:coarse", "purify:coarse", "fuse:coarse+fine", "cross-post:fine")


def test_a_run_with_adaptive_attackers(base: Path, tmp_path: Path) -> None:
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(base), "defenses": ("echo",), "strengths": (0.0,)}
    options |= {"attackers": ATTACKERS, "images_per_prompt": 2, "defense_options": {"surrogate": "coarse"}}
    options |= {"anchors": False}  # nobody links this base undefended, so with anchors there would be no worst case
    config = make_config(options)
    assert pipeline.run(config, tmp_path / "out", tmp_path / "cache") == 0
    run = RunFolder.open(tmp_path / "out")
    probes = run.probes
    assert set(probes["attacker"]) == set(ATTACKERS)
    assert (probes.groupby("attacker").size() == len(run.images)).all()
    echo = probes[probes["defense"] == "echo"].groupby("attacker")["threat"].first()
    assert echo.to_dict() == {
        "coarse": "white-box",
        "fine": "transfer",
        "finetune:coarse": "adaptive white-box",
        "purify:coarse": "adaptive white-box",
        "fuse:coarse+fine": "adaptive white-box",
        "cross-post:fine": "adaptive",
    }
    summary = run.summary
    worst = {name: value(summary, name) for name in (WORST_CASE, WORST_CASE_ADAPTIVE, "fine", "finetune:coarse")}
    worst |= {name: value(summary, name) for name in ("coarse", "worst-case-transfer", "union", "union-adaptive")}
    assert worst[WORST_CASE] == min(worst["coarse"], worst["fine"]), "the strongest single one, white-box or not"
    assert worst["worst-case-transfer"] == worst["fine"], "the only one that was no surrogate"
    assert worst[WORST_CASE_ADAPTIVE] <= min(worst["fine"], worst["finetune:coarse"])
    assert worst["union"] <= worst[WORST_CASE] and worst["union-adaptive"] <= worst[WORST_CASE_ADAPTIVE]
    rows = summary[(summary["attacker"] == WORST_CASE_ADAPTIVE) & (summary["metric"] == "r1u")]
    for row in rows[rows["policy"] == "headline"].to_dict("records"):
        same = summary[(summary["defense"] == row["defense"]) & (summary["attacker"] == row["by"])]
        same = same[(same["metric"] == "r1u") & (same["policy"] == "headline")]
        assert same["value"].item() == row["value"] and row["low"] <= same["low"].item(), "named, and no narrower"
    # The plain attacker's rows are what they are without adaptive ones beside it.
    alone = make_config({**options, "attackers": ("coarse", "fine")})
    assert pipeline.run(alone, tmp_path / "alone", tmp_path / "cache") == 0
    keys = ["defense", "strength", "attacker", "metric", "policy"]
    before = RunFolder.open(tmp_path / "alone").summary
    before = before[~before["attacker"].isin((WORST_CASE_ADAPTIVE, "union-adaptive"))].set_index(keys)
    shared = summary.set_index(keys).loc[before.index]
    pd.testing.assert_frame_equal(shared, before)
    write_outputs(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "finetune:coarse" in page and "strongest, including adaptive" in page


def test_what_an_attacker_saw_is_kept_for_others_to_join(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more attacker attacks alone; the others' figures are what they were, and what they would be anew."""
    asked = list[str]()
    attack = AdaptiveLinker.attack
    monkeypatch.setattr(AdaptiveLinker, "attack", lambda self, *given: asked.append(self.name) or attack(self, *given))
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(base), "defenses": ("echo",), "strengths": (0.0,)}
    options |= {"images_per_prompt": 2, "seeds": (0, 1)}

    def probes(out: str, cache: str, *attackers: str) -> pd.DataFrame:
        config = make_config({**options, "attackers": ("coarse", *attackers)})
        assert pipeline.run(config, tmp_path / out, tmp_path / cache) == 0
        found = RunFolder.open(tmp_path / out).probes
        return found[found["attacker"] == "threshold:coarse"].reset_index(drop=True)

    first = probes("first", "cache", "threshold:coarse")
    assert asked == ["threshold:coarse"] * 6, "of three conditions and two seeds, the anchors' once"
    asked.clear()
    joined = probes("joined", "cache", "threshold:coarse", "finetune:coarse")
    assert asked == ["finetune:coarse"] * 6
    pd.testing.assert_frame_equal(joined, first)
    pd.testing.assert_frame_equal(probes("anew", "other", "threshold:coarse"), first)


def test_linkages_are_kept_bit_for_bit(tmp_path: Path) -> None:
    world = World()
    everyone = world.posts(lambda template, view: template)
    scores = Finetune([world.gallery], Finetune.Options()).fit(Others.than("p00", everyone)).scores(everyone[0])
    far = {"1e-2": Threshold(0.1 + 0.2, 0.01, 0.009, 320), "1e-3": Threshold(float("inf"), 0.001, 0.0, 320)}
    seen = [linkage_of("p00", scores, far, {"5e-2": far["1e-2"]}), linkage_of("p00", scores, {}, {})]
    write_linkages(tmp_path, seen)
    for one, other in zip(seen, read_linkages(tmp_path), strict=True):
        for name in ("acquired", "mated", "nonmated", "rank"):
            a, b = getattr(one, name), getattr(other, name)
            assert a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for kind in ("matched", "found"):
            a, b = getattr(one, kind), getattr(other, kind)
            assert list(a) == list(b) and all(np.array_equal(a[k].hits, b[k].hits) for k in a)
            assert [m.threshold for m in a.values()] == [m.threshold for m in b.values()]
        assert list(one.feeds) == list(other.feeds) and len(one.feeds) > 0
        assert all(np.array_equal(one.feeds[n].rank, other.feeds[n].rank) for n in one.feeds)


def value(summary: pd.DataFrame, attacker: str, metric: str = "r1u") -> float:
    rows = summary[(summary["attacker"] == attacker) & (summary["metric"] == metric) & (summary["defense"] == "echo")]
    return float(rows[rows["policy"] == "headline"]["value"].iloc[0])


def test_a_run_needs_people_to_learn_on(base: Path, tmp_path: Path) -> None:
    options = {"dataset": "tiny-orl", "subjects": 2, "base": str(base), "attackers": ("finetune:coarse",)}
    with pytest.raises(UserError, match="learns on other people: give at least 3 --subjects"):
        pipeline.run(make_config(options), tmp_path / "out", tmp_path / "cache")
    with pytest.raises(UserError, match="unknown attacker 'coarze': did you mean 'coarse'"):
        make_config({**options, "attackers": ("finetune:coarze",)}).check()


def test_failed_cells_leave_it_without_figures(base: Path, tmp_path: Path) -> None:
    """Two finished cells are too few: no figure, rather than one that learned on nothing."""
    options = {"dataset": "tiny-orl", "subjects": 3, "base": str(base), "defenses": ("echo",), "strengths": (0.0,)}
    options |= {
        "attackers": ("coarse", "threshold:coarse"),
        "images_per_prompt": 2,
        "defense_options": {"fails": "s30"},
    }
    assert pipeline.run(make_config(options), tmp_path / "out", tmp_path / "cache") == 1
    summary = RunFolder.open(tmp_path / "out").summary
    found = summary[summary["attacker"] == "threshold:coarse"]["defense"].unique()
    assert set(found) == {"none", "generic"}


def test_a_purified_attacker(base: Path) -> None:
    coarse, model = build_attacker("coarse"), load_base(str(base))
    prints = {Purified(coarse, purifier(name), model).fingerprint() for name in TRIED} | {coarse.fingerprint()}
    assert len(prints) == len(TRIED) + 1


def test_only_an_adaptive_name_makes_one() -> None:
    with pytest.raises(ValueError, match="not an adaptive attacker"):
        AdaptiveLinker("sface", [], None)  # type: ignore[arg-type]
