"""How well does face recognition link your own images to a person? Here, photos of ORL stand in for them."""

import iddmbench as ib

people = ib.load_dataset("orl").subjects[:4]
images = {
    p.name: [photo.image for photo in p.references] for p in people
}  # or a folder: "IMAGES", with IMAGES/NAME/*.png
gallery = {
    p.name: [photo.image for photo in p.enrolment] for p in people
}  # photos by which a stranger knows the people

result = ib.evaluate(images, gallery, dataset="orl", attackers=["sface"])  # ORL's public people set the threshold
print(result)
print(*result.notes, sep="\n")

linked = result["sface"].rank1_hit
print(f"linked at rank 1: {linked.value:.0%} [{linked.low:.0%}, {linked.high:.0%}] of {linked.n} images")
print(result.summary()[["condition", "attacker", "metric", "policy", "value", "low", "high"]].head())
