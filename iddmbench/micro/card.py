"""What ships beside an embedded base's weights: its recipe and its model card."""

import json
from pathlib import Path

from iddmbench.micro.domain import Domain
from iddmbench.models.recipe import FILE


def write_card(
    folder: Path, domain: Domain, command: str, vae_steps: int, unet_steps: int, seed: int, note: str = ""
) -> None:
    """Write the recipe and the card into a model's folder; `note` is added to what the card says of the training."""
    (folder / FILE).write_text(json.dumps(domain.recipe, indent=2) + "\n", encoding="utf-8")
    card = domain.card.format(command=command, vae_steps=vae_steps, unet_steps=unet_steps, seed=seed, note=note)
    (folder / "README.md").write_text(card, encoding="utf-8")
