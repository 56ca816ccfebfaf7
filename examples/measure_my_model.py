"""How well does a face-recognition system link your own images to a person? Here: photos of ORL stand in for them."""

import numpy as np

from iddmbench.attacker import ATTACKERS
from iddmbench.datasets.orl import ORL
from iddmbench.metrics.identification import ranks
from iddmbench.metrics.verification import threshold_at_far

data = ORL().load()
attacker = ATTACKERS.get("sface")()
subject = data.subjects[0]
posts = [photo.image for photo in subject.references]  # put your images here: uint8 [H, W, 3], RGB, any sizes

gallery = {p.label: attacker.embed([x.image for x in p.photos[:4]]).vectors for p in data.public}
gallery[subject.label] = attacker.embed([p.image for p in subject.enrolment]).vectors
labels = np.concatenate([np.repeat(name, len(v)) for name, v in gallery.items()])
vectors = np.concatenate(list(gallery.values()))

different = labels[:, None] != labels[None]
threshold = threshold_at_far((vectors @ vectors.T)[different], 1e-2)
probes = attacker.embed(posts)
seen = probes.vectors[probes.acquired]
rank = ranks(seen, vectors, labels, np.repeat(subject.label, len(seen)), "mean")
print(f"faces found {probes.acquired.mean():.2f}, rank-1 {np.mean(rank == 1):.2f} among {len(gallery)} people")
print(f"pairs matched at FAR 1e-2: {np.mean(seen @ gallery[subject.label].T >= threshold.value):.2f}")
