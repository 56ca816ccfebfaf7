"""How well recognition systems tell the dataset's people apart, on the photos themselves.

    python benchmarks/synthetic_photos.py dlib sface eigenfaces [--out clean.json]

Identification: every reference photo of the subjects among all people, each enrolled by the mean of its enrolment photos (a
public person: all of its photos). Verification: each subject's reference against enrolment photos, and public people's photos
against those of other public people.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from iddmbench.attacker import Attacker, build_attacker
from iddmbench.datasets.synthetic import Synthetic
from iddmbench.metrics.identification import ranks
from iddmbench.metrics.verification import eer, threshold_at_far
from iddmbench.types import FaceData, Photo


@dataclass(frozen=True)
class Clean:
    """One system. rank1, eer, tar (at FAR 1e-3): shares; found: share of photos with a face; pairs: impostor pairs."""

    attacker: str
    people: int
    probes: int
    rank1: float
    eer: float
    tar: float
    found: float
    pairs: int


def measure(attacker: Attacker, name: str, data: FaceData) -> Clean:
    vectors: dict[str, np.ndarray] = {}
    seen: dict[str, np.ndarray] = {}

    def embed(key: str, photos: tuple[Photo, ...]) -> np.ndarray:
        result = attacker.embed([photo.image for photo in photos])
        vectors[key], seen[key] = result.vectors[result.acquired], result.acquired
        return vectors[key]

    for subject in data.subjects:
        embed(f"{subject.name} references", subject.references)
        embed(subject.name, subject.enrolment)
    others = [person.name for person in data.public]
    for person in data.public:
        embed(person.name, person.photos)
    gallery = [s.name for s in data.subjects] + others
    labels = np.repeat(gallery, [len(vectors[n]) for n in gallery])
    enrolled = np.concatenate([vectors[n] for n in gallery])
    names = [s.name for s in data.subjects]
    probes = np.concatenate([vectors[f"{n} references"] for n in names])
    true = np.repeat(names, [len(vectors[f"{n} references"]) for n in names])
    hits = ranks(probes, enrolled, labels, true, "mean") == 1
    genuine = np.concatenate([(vectors[f"{n} references"] @ vectors[n].T).ravel() for n in names])
    public = np.concatenate([vectors[n] for n in others])
    whose = np.repeat(others, [len(vectors[n]) for n in others])
    first, second = np.triu_indices(len(public), 1)
    different = whose[first] != whose[second]
    impostors = (public @ public.T)[first[different], second[different]]
    found = np.concatenate(list(seen.values()))
    return Clean(
        name,
        len(gallery),
        len(probes),
        float(hits.mean()),
        eer(genuine, impostors),
        float((genuine >= threshold_at_far(impostors, 1e-3).value).mean()),
        float(found.mean()),
        len(impostors),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attackers", nargs="+")
    parser.add_argument("--root", default="", help="folder of the dataset's files; by default the package's")
    parser.add_argument("--out", type=Path, help="file that the figures are added to, as JSON")
    given = parser.parse_args()
    data = Synthetic(root=given.root).load()
    done = json.loads(given.out.read_text()) if given.out and given.out.is_file() else {}
    for name in given.attackers:
        row = measure(build_attacker(name), name, data)
        print(row, flush=True)
        done[name] = asdict(row)
    if given.out:
        given.out.write_text(json.dumps(done, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
