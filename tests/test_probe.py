"""Known posts of an account, on embeddings where it is known what the defense did."""

import numpy as np
import pytest
from test_adaptive import EACH, PEOPLE, WIDTH, World, embeddings, hits

from iddmbench.adaptive import check_name, knows_posts, links_people, parse
from iddmbench.adaptive.base import unit
from iddmbench.adaptive.posts import Others, Posts
from iddmbench.adaptive.probe import Probe, ProbeOptions, _known, _linear_probe, _parity
from iddmbench.errors import UserError
from iddmbench.linking.aggregate import members

PROMPTS = ("front", "front", "left", "left", "right", "right", "bright", "bright")


def stand_in(template: np.ndarray) -> np.ndarray:
    return unit(np.random.default_rng(int(abs(template[0]) * 1e9)).normal(size=WIDTH))


def prompted(everyone: list[Posts]) -> list[Posts]:
    return [Posts(part.subject, part.views, PROMPTS) for part in everyone]


def test_it_finds_an_account_where_photos_do_not() -> None:
    """Each model shows somebody else, always the same one."""
    world = World()
    everyone = world.posts(lambda t, view: stand_in(t))
    assert hits("threshold", everyone, world.gallery) < 0.4
    assert hits("probe", everyone, world.gallery) == 1
    assert hits("probe", prompted(everyone), world.gallery, known=1) == 1


def test_posts_of_nobody_in_particular_leave_a_guess_among_accounts() -> None:
    """Another person in every post: the mean over worlds is one in the number of accounts at most."""
    found = []
    for seed in range(4):
        world = World(seed)
        everyone = world.posts(lambda t, view: world.rng.normal(size=(EACH, WIDTH)))  # noqa: B023
        found.append(hits("probe", everyone, world.gallery))
    assert np.mean(found) < 0.3


def test_it_learns_to_look_past_what_prompts_change() -> None:
    """Each post has much of the same few directions, like pose: a mean of four posts has it too, whitening removes it."""
    world = World()
    directions = unit(world.rng.normal(size=(3, WIDTH)))

    def change(template: np.ndarray, view: int) -> np.ndarray:
        return stand_in(template) + 3 * world.rng.normal(size=(EACH, 3)) @ directions

    everyone = world.posts(change)
    means = []
    for posts in everyone:
        x = posts.views[0].vectors.astype(float)
        accounts = [p.views[0].vectors[0 if p is posts else 1 :: 2][:4].astype(float) for p in everyone]
        scores = x[1::2] @ unit(np.stack([a.mean(0) for a in accounts])).T
        means += list(scores.argmax(1) == [p is posts for p in everyone].index(True))
    assert np.mean(means) < 0.8 < hits("probe", everyone, world.gallery)


def test_known_posts_are_of_other_prompts_and_have_a_face() -> None:
    acquired = np.ones(8, bool)
    acquired[2] = False
    posts = Posts("a", (embeddings(np.eye(8), acquired),), PROMPTS)
    rows = _known(posts, np.array(PROMPTS), "front", 4).argmax(1)
    assert rows.tolist() == [4, 6, 3, 5], "prompts in turn; 0 and 1 are asked about, 2 has no face"
    assert _known(posts, _parity(8), "odd", 2).argmax(1).tolist() == [0, 4]
    assert len(_known(posts, np.array(PROMPTS), "left", 9)) == 6


def test_a_post_is_not_compared_with_itself() -> None:
    """Posts at right angles to each other and to everybody: only themselves would link them."""
    eye = np.eye(60)
    world = World()
    gallery = type(world.gallery)(np.array([f"p{i}" for i in range(4)]), eye[:4])
    everyone = [Posts(f"p{i}", (embeddings(eye[10 + 8 * i : 18 + 8 * i]),), PROMPTS) for i in range(4)]
    for posts in everyone:
        scores = Probe([gallery]).fit(Others.than(posts.subject, everyone)).scores(posts)
        assert (scores.own(posts.subject) <= scores.rest(posts.subject).max(1) + 1e-6).all()


def test_an_account_without_faces_is_not_found() -> None:
    """Its even posts have no face: the odd ones have nothing to be known by."""
    world = World()
    everyone = world.posts(lambda t, view: stand_in(t))
    acquired = np.arange(EACH) % 2 == 1
    everyone[0] = Posts(everyone[0].subject, (embeddings(everyone[0].views[0].vectors, acquired),))
    scores = Probe([world.gallery]).fit(Others.than(everyone[0].subject, everyone)).scores(everyone[0])
    assert scores.acquired.sum() == EACH / 2 and (scores.ranks(everyone[0].subject) > PEOPLE / 2).all()
    assert not scores.values[~acquired].any()


def test_the_linear_probe_is_the_same_from_either_side() -> None:
    """Ridge regression by rows and by columns: more dimensions than posts, and fewer."""
    rng = np.random.default_rng(0)
    for width in (5, 40):
        enrolled = {name: rng.normal(size=(3, width)) for name in "abcd"}
        x = rng.normal(size=(6, width))
        rows = np.concatenate(list(enrolled.values()))
        centered, targets = (rows - rows.mean(0)) / np.sqrt(3), np.repeat(np.eye(4), 3, 0) / np.sqrt(3)
        weights = np.linalg.lstsq(
            np.concatenate((centered, np.sqrt(0.1) * np.eye(width))),
            np.concatenate((targets, np.zeros((width, 4)))),
            rcond=None,
        )[0]
        assert np.allclose(_linear_probe(0.1)(x, enrolled), (x - rows.mean(0)) @ weights)


def test_too_few_images_are_one_line() -> None:
    probe = Probe([], ProbeOptions(known=4))
    assert probe.too_few(PROMPTS) is None and probe.too_few([""] * 8) is None
    for prompts, left in ((["a"] * 6, 3), (["a", "a", "b", "b"], 2), (["a"], 0)):
        problem = probe.too_few(prompts)
        assert problem and f"of {len(prompts)} images only {left} are" in problem and "\n" not in problem
        assert problem.endswith(f"known={max(1, left)}")
    world = World()
    everyone = [Posts(p.subject, (embeddings(p.views[0].vectors[:6]),)) for p in world.posts(lambda t, view: t)]
    with pytest.raises(UserError, match="give more --images-per-prompt"):
        hits("probe", everyone, world.gallery)


def test_it_is_in_no_worst_case() -> None:
    names = ["dlib", "probe:dlib", "probe:known=2:dlib", "inverse:dlib"]
    assert list(map(knows_posts, names)) == [False, True, True, False]
    assert list(map(links_people, names)) == [False, False, False, True]
    found = members(names, ())
    assert found["worst-case"] == ["dlib"] and found["worst-case-adaptive"] == ["dlib", "inverse:dlib"]
    assert found["union-adaptive"] == ["dlib", "inverse:dlib"]


def test_names() -> None:
    how = parse("probe:known=2:sface")
    assert how is not None and (how.kind, how.bases, how.options) == ("probe", ("sface",), {"known": "2"})
    for wrong, why in (("probe:known=0:sface", "greater than"), ("probe:knwon=2:sface", "did you mean 'known'")):
        with pytest.raises(UserError, match=why):
            check_name(wrong)
    with pytest.raises(UserError, match="wrap one plain, as in probe:sface"):
        parse("probe:")
