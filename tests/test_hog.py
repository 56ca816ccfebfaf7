"""HOG against scikit-image's, blind for the inner face; who looks past the face is in no worst case."""

from dataclasses import replace

import numpy as np
import torch
from skimage.feature import hog
from test_ranking import group

from iddmbench.adaptive import about_faces
from iddmbench.attacker import build_attacker, looks_past_the_face
from iddmbench.datasets.orl import photo
from iddmbench.linking.aggregate import members, summarize
from iddmbench.linking.ranking import strong_systems
from iddmbench.nets.hog import INNER, MARGIN, HogNet, blocks, outside
from iddmbench.results.run_folder import WORST_CASES


def expected(gray: np.ndarray) -> np.ndarray:
    found = [hog(image, 9, (8, 8), (2, 2), "L2-Hys", feature_vector=False) for image in gray]
    return np.stack(found).reshape(len(gray), len(gray[0]) // 8 - 1, len(gray[0]) // 8 - 1, 36)


def test_blocks_equal_scikit_image_s() -> None:
    noise = np.random.default_rng(0).random((2, 96, 96)).astype(np.float32)
    face = photo(7, 1).image[8:104, :, 0].astype(np.float32)[:88, :88] / 255
    for gray in (noise, face[None]):
        np.testing.assert_allclose(blocks(torch.from_numpy(gray)).numpy(), expected(gray), atol=2e-6)


def test_blocks_beside_the_inner_face_equal_scikit_image_s_too() -> None:
    """Those without a pixel that is left out; blocks of nothing else are zero."""
    gray = np.random.default_rng(1).random((2, 96, 96)).astype(np.float32)
    seen = outside(96, MARGIN, INNER)
    ours, theirs = blocks(torch.from_numpy(gray), torch.from_numpy(seen)).numpy(), expected(gray)
    whole = np.array([[seen[8 * y : 8 * y + 16, 8 * x : 8 * x + 16].mean() for x in range(11)] for y in range(11)])
    assert (whole == 1).sum() > 20 and (whole == 0).sum() > 5
    np.testing.assert_allclose(ours[:, whole == 1], theirs[:, whole == 1], atol=2e-6)
    assert not ours[:, whole == 0].any()


def test_the_inner_face_changes_nothing_and_the_rest_does() -> None:
    net, rng = HogNet(), torch.Generator().manual_seed(0)
    crops = torch.rand(2, 3, net.size, net.size, generator=rng)
    left, top, right, bottom = (round(((v - 0.5) / MARGIN + 0.5) * net.size) for v in INNER)
    face, hair = crops.clone(), crops.clone()
    face[..., top:bottom, left:right] = torch.rand(2, 3, bottom - top, right - left, generator=rng)
    hair[..., : top - 4, :] = torch.rand(2, 3, top - 4, net.size, generator=rng)
    assert torch.equal(net(face), net(crops)) and (net(hair) * net(crops)).sum(1).max() < 0.99
    for point in net.template:  # eyes, nose and mouth are in it
        assert left < point[0] < right and top < point[1] < bottom
    whole = HogNet(inner=None)
    assert not torch.allclose(whole(face), whole(crops), atol=0.01)


def test_it_links_people_who_did_not_choose_its_crop() -> None:
    """ORL 29-40 by what surrounds the face; the crop was chosen on 1-28. One person of twelve by guessing."""
    found = build_attacker("hog").embed([photo(p, k).image for p in range(29, 41) for k in (1, 2, 5, 6)])
    vectors = found.vectors.reshape(12, 4, -1)
    templates = vectors[:, 2:].mean(1)
    ranked = np.einsum("pkd,qd->pkq", vectors[:, :2], templates).argmax(2)
    assert found.acquired.all() and (ranked == np.arange(12)[:, None]).mean() > 0.5


def test_it_stands_beside_the_worst_cases() -> None:
    """However much it links: those are about faces. It stays a figure of its own, and is no strong system that ranks."""
    assert looks_past_the_face("hog") and not looks_past_the_face("eigenfaces") and not looks_past_the_face("nobody")
    assert [about_faces(name) for name in ("sface", "hog", "hog:mtcnn", "fuse:hog+sface")] == [
        True,
        False,
        False,
        False,
    ]
    for names in members(["dlib", "hog", "fuse:dlib+hog"], ()).values():
        assert names == ["dlib"]
    rng = np.random.default_rng(4)
    none = group("none", float("nan"), {"dlib": 0.9, "hog": 0.9}, 1.0, rng)
    method = group("method", 1.0, {"dlib": 0.1, "hog": 0.9}, 0.9, rng)
    table = summarize([none, method], ["dlib", "hog"], rng.normal(size=(8, 8)))
    judged = table[table["attacker"].isin(WORST_CASES)]
    assert set(judged["by"]) <= {"dlib", ""} and not table[table["attacker"] == "hog"].empty
    assert strong_systems([none, replace(method)], ["dlib", "hog"]) == ["dlib"]
