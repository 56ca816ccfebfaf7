"""HOG against scikit-image's, blind for the inner face; who looks past the face is in no worst case."""

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from skimage.feature import hog
from test_ranking import group

from iddmbench.adaptive import about_faces
from iddmbench.attacker import build_attacker, looks_past_the_face
from iddmbench.attackers.hog import SIDE, Hog, describe, inner, shown
from iddmbench.datasets.orl import photo
from iddmbench.faces.detect import Faces, YuNet
from iddmbench.linking.aggregate import members, summarize
from iddmbench.linking.ranking import strong_systems
from iddmbench.nets.face_net import to_gray
from iddmbench.nets.hog import FaceHogNet, blocks, outside
from iddmbench.photos.references import resize
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
    seen = outside(96, np.array([30.2, 33.0, 70.0, 80.5]))
    assert not seen[32:82, 29:71].any() and seen.sum() == 96 * 96 - 50 * 42
    ours, theirs = blocks(torch.from_numpy(gray), torch.from_numpy(seen)[None]).numpy(), expected(gray)
    whole = np.array([[seen[8 * y : 8 * y + 16, 8 * x : 8 * x + 16].mean() for x in range(11)] for y in range(11)])
    assert (whole == 1).sum() > 20 and (whole == 0).sum() > 5
    np.testing.assert_allclose(ours[:, whole == 1], theirs[:, whole == 1], atol=2e-6)
    assert not ours[:, whole == 0].any()
    assert outside(96, np.array([-9, -9, -5, 200])).all() and not outside(96, np.array([-9, -9, 200, 200])).any()


@pytest.mark.parametrize("side", [64, 112, 200])
def test_the_inner_face_changes_nothing_and_the_rest_does(side: int) -> None:
    """Whether the picture is enlarged or made smaller for it, and where it ends close to the face."""
    rng = np.random.default_rng(0)
    image = resize(photo(7, 1).image[10:102], side)
    faces = YuNet().detect([image])
    left, top, right, bottom = (int(v) for v in np.round(inner(faces.boxes[0])))
    for x, y in faces.landmarks[0]:  # eyes, nose and mouth are in it
        assert left < x < right and top < y < bottom
    face, hair = image.copy(), image.copy()
    face[max(top, 0) : bottom, max(left, 0) : right] = rng.integers(
        0, 255, (bottom - max(top, 0), right - max(left, 0), 3)
    )
    hair[: max(top - 8, 4)] = rng.integers(0, 255, (max(top - 8, 4), side, 3))
    found = Hog().embed([image, face, hair], Faces(*(np.repeat(v, 3, 0) for v in astuple(faces))))
    assert np.array_equal(found.vectors[0], found.vectors[1]) and found.vectors[0] @ found.vectors[2] < 0.99


def test_a_picture_of_nothing_but_a_face_is_lost() -> None:
    image = np.full((80, 80, 3), 127, np.uint8)
    faces = YuNet().detect([photo(7, 1).image])
    found = Hog().embed([image], replace(faces, boxes=np.array([[20, 20, 40, 40]], np.float32)))
    assert not found.acquired[0] and not found.vectors.any()


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


def test_its_detector_can_be_swapped() -> None:
    """As every attacker's that finds faces by the shared detector."""
    assert build_attacker("hog:mtcnn").title.endswith("faces by MTCNN")
    assert build_attacker("hog").fingerprint() != build_attacker("hog:mtcnn").fingerprint()


def test_parts_of_the_surroundings() -> None:
    """Each looks where it says, at no pixel of the inner face; top, sides and bottom don't overlap."""
    parts = {part: shown(part) for part in ("top", "sides", "bottom", "edge", "all")}  # type: ignore[arg-type]
    assert parts["all"].all() and (parts["top"] + parts["sides"] + parts["bottom"]).max() == 1
    assert parts["top"].sum() == SIDE * SIDE / 3 and parts["edge"].sum() == SIDE**2 - (SIDE - 24) ** 2
    image = photo(7, 1).image
    faces = YuNet().detect([image])
    length = 92
    for part, seen in parts.items():
        found = describe(image, faces.boxes[0], part)  # type: ignore[arg-type]
        changed = image.copy()
        rows, columns = np.nonzero(np.ones((length, length)))
        hidden = seen[(rows * SIDE // length).clip(1, SIDE - 2), (columns * SIDE // length).clip(1, SIDE - 2)] == 0
        near = np.array(
            [
                seen[max(r - 6, 0) : r + 7, max(c - 6, 0) : c + 7].any()
                for r, c in zip(rows * SIDE // length, columns * SIDE // length, strict=True)
            ]
        )
        top = int(np.clip(round(faces.boxes[0, 1] + faces.boxes[0, 3] / 2 - length / 2), 0, 112 - length))
        far = hidden & ~near
        changed[top + rows[far], columns[far]] = 255 - changed[top + rows[far], columns[far]]
        assert np.array_equal(describe(changed, faces.boxes[0], part), found), part  # type: ignore[arg-type]
        assert found.any()


def test_parts_are_attackers_of_their_own() -> None:
    top = build_attacker("hog:part=top")
    assert top.options.part == "top" and top.title.endswith(": top")
    assert len({build_attacker(n).fingerprint() for n in ("hog", "hog:part=top", "hog:part=edge")}) == 3
    assert looks_past_the_face("hog:part=top") and not about_faces("resimulate:hog:part=top")
    images = [photo(p, k).image for p in range(29, 41) for k in (1, 2, 5, 6)]
    vectors = build_attacker("hog:part=edge").embed(images).vectors.reshape(12, 4, -1)
    ranked = np.einsum("pkd,qd->pkq", vectors[:, :2], vectors[:, 2:].mean(1)).argmax(2)
    assert (ranked == np.arange(12)[:, None]).mean() > 0.3, "one person of twelve by guessing"


def test_hog_of_the_inner_face_sees_nothing_else() -> None:
    """As scikit-image has it on the cut; a system of faces, which counts in the worst cases."""
    net = FaceHogNet()
    noise, elsewhere = torch.rand(2, 1, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    elsewhere[:, :, 24:104, 24:88] = noise[:, :, 24:104, 24:88]
    assert torch.equal(net(elsewhere), net(noise)) and net(noise).shape == (1, net.dim)
    gray = to_gray(noise)[0, 24:104, 24:88].numpy()
    theirs = hog(gray.astype(float), 9, (8, 8), (2, 2), "L2-Hys")
    np.testing.assert_allclose(net.features(noise)[0].numpy(), theirs, atol=2e-6)
    assert not build_attacker("hog-face").looks_past_the_face
