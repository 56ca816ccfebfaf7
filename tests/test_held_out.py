"""Fits that are shared by two left-out people equal those of each order; whitening in few dimensions equals the plain one."""

import numpy as np
import pytest
from test_adaptive import EACH, World

from iddmbench.adaptive import ADAPTIVE
from iddmbench.adaptive.base import Gallery, unit
from iddmbench.adaptive.held_out import PairFits, Trial, best, by_way, shares_fits
from iddmbench.adaptive.likelihood import Likelihood
from iddmbench.adaptive.posts import Others, Posts
from iddmbench.adaptive.whitening import Whitening

SHARED = ("cross-post", "enrol-generated", "finetune", "fuse", "inverse", "likelihood", "probe", "purify", "threshold")
WORLD = World()


def everyone(seeds: int = 1) -> list[Posts]:
    """Four people, not all of whose posts are linked."""
    return [posts for _ in range(seeds) for posts in WORLD.posts(lambda t, view: t, noise=2.0, views=2)[:4]]


@pytest.mark.parametrize("kind", SHARED)
def test_shared_fits_are_those_of_each_order(kind: str) -> None:
    """Two seeds of each person: both are left out."""
    posts = everyone(2)
    attacker = ADAPTIVE.get(kind)([WORLD.gallery] * (2 if kind == "fuse" else 1))
    assert shares_fits(attacker)
    found = PairFits(attacker, posts).fitted()
    assert [*found] == sorted({p.subject for p in posts})
    for target, fitted in found.items():
        others = Others.than(target, posts)
        plain = attacker.fit(others)
        held_out = plain.held_out or [
            (attacker.fit(others.without(name)).scores(part), name)
            for name in others.subjects
            for part in others.of(name)
        ]
        assert fitted.trained_on == plain.trained_on and fitted.held_out is not None
        assert [name for _, name in fitted.held_out] == [name for _, name in held_out]
        for (one, _), (two, _) in zip(fitted.held_out, held_out, strict=True):
            assert np.array_equal(one.values, two.values) and np.array_equal(one.acquired, two.acquired)
        for part in posts:
            if part.subject == target:
                assert np.array_equal(fitted.scores(part).values, plain.scores(part).values)
            else:
                with pytest.raises(ValueError, match="was used for training"):
                    fitted.scores(part)


def test_fits_that_know_the_target_are_not_shared() -> None:
    assert not shares_fits(ADAPTIVE.get("resimulate")([WORLD.gallery]))

    class Own(Likelihood):
        def fit(self, others: Others):
            return super().fit(others)

    assert not shares_fits(Own([WORLD.gallery])), "it does not say what it makes of the target"


@pytest.mark.parametrize("count", [0, 1, 9, 16, 40])
def test_whitening_in_the_space_of_the_rows(count: int) -> None:
    """Against P from the covariance itself, for fewer rows than numbers and for more."""
    rng = np.random.default_rng(count)
    width = 16
    rows = rng.normal(size=(count, width)) * np.linspace(0.1, 3, width)
    x, y = rng.normal(size=(5, width)), rng.normal(size=(7, width))
    covariance = rows.T @ rows / max(count, 1)
    whitening = Whitening(rows)
    for shrinkage in (0.1, 10.0):
        level = shrinkage * max(np.trace(covariance) / width, 1e-9)
        values, axes = np.linalg.eigh(covariance + level * np.eye(width))
        p = axes / np.sqrt(values) @ axes.T
        found = whitening.cosines(whitening.seen(x), whitening.seen(y), shrinkage)
        np.testing.assert_allclose(found, unit(x @ p) @ unit(y @ p).T, atol=1e-10)


def test_a_tuned_projection_of_few_wide_posts() -> None:
    """`finetune` on eight posts of 32 numbers, without two of three people, against its formula written out."""
    posts = everyone()[:3]
    gallery = Gallery(WORLD.names[:5], WORLD.templates[:5])
    attacker = ADAPTIVE.get("finetune")([gallery])
    rest = Others.than(posts[0].subject, posts).without(posts[1].subject)
    center = gallery.templates.mean(0)
    d = posts[2].views[0].vectors.astype(float) - (gallery.template(posts[2].subject) - center)
    assert len(d) == EACH < d.shape[1]
    covariance = np.cov(d.T, bias=True)
    for place, shrinkage in enumerate(attacker.options.shrinkage, 1):
        level = shrinkage * np.trace(covariance) / d.shape[1]
        values, axes = np.linalg.eigh(covariance + level * np.eye(d.shape[1]))
        p = axes / np.sqrt(values)
        moved = unit((posts[0].views[0].vectors - d.mean(0)) @ p) @ unit((gallery.templates - center) @ p).T
        z = (moved - moved.mean(1, keepdims=True)) / moved.std(1, keepdims=True)
        np.testing.assert_allclose(attacker.ways(rest)[place](posts[0]).values, z, atol=1e-9)


def test_the_way_that_links_most_is_chosen() -> None:
    def trial(hits: int, lead: float) -> Trial:
        return Trial(np.arange(4) < hits, np.full(4, lead))

    none = Trial(np.zeros(0, bool), np.zeros(0))
    assert best([[trial(1, 9.0)], [trial(2, 0.1)], [trial(2, 0.2)], [trial(2, 0.2)]]) == 2
    assert best([[none], [trial(0, -1.0)]]) == 0 and best([[none], [none]]) == 0
    assert by_way([[[trial(1, 1)], [trial(2, 1)]], [[trial(3, 1)]]])[1] == [], "not tried on everybody"
    assert best(by_way([[[trial(1, 1)], [trial(2, 1)]], [[trial(3, 1)]]])) == 0
    assert best(by_way([])) == 0
