"""Time of a training step by personalizer, beside a plain loop of what diffusers' example script does in one:
`python benchmarks/personalizer_steps.py --base micro --steps 20`.

The loop encodes photos by the VAE and texts by the text encoder in every step, as the scripts do. Both sides take turns in one
process, step by step, on the same photos, batch and settings; medians of the seconds that the process computed are compared.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from iddmbench.models.base import BaseModel, load_base
from iddmbench.personalize.personalizer import PERSONALIZERS
from iddmbench.seeds import Seeds

PHOTOS = 4
SETTINGS: dict[str, dict[str, Any]] = {
    "dreambooth": {"batch_size": 2, "prior_batch": 2},
    "dreambooth+text": {"batch_size": 2, "prior_batch": 2, "train_text_encoder": True},
    "textual-inversion": {"batch_size": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="micro")
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    print("personalizer        seconds  plain loop  ratio")
    for name in SETTINGS:
        ours, theirs = measured(name, asked.base, asked.steps)
        print(f"{name:18s}  {ours:7.3f}  {theirs:10.3f}  {ours / theirs:5.2f}", flush=True)


def measured(name: str, base_name: str, steps: int) -> tuple[float, float]:
    """Median seconds of a step: the personalizer's, the loop's. Each has a base of its own."""
    base, other = load_base(base_name), load_base(base_name)
    plugin = PERSONALIZERS.get(name.partition("+")[0])()
    settings = plugin.settings(base.recipe, SETTINGS[name], "settings")
    photos = Seeds(0).numpy().integers(0, 256, (PHOTOS, base.side, base.side, 3), dtype=np.uint8)
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        latents = base.encode(pixels)
    captions = [base.recipe.prompts.instance] * PHOTOS
    text, step = plugin.text(base, settings, captions), script(name, other, pixels, settings)
    ours, theirs = [], []
    with plugin.trainer(base, settings, latents, Seeds(0)) as trainer:
        for i in range(steps + 1):
            one = timed(lambda: trainer.train(latents, text, 1))
            two = timed(step)
            if i:  # the first one warms up
                ours.append(one)
                theirs.append(two)
    return statistics.median(ours), statistics.median(theirs)


def timed(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def script(name: str, base: BaseModel, pixels: torch.Tensor, settings: Any) -> Callable[[], None]:
    """One step of the example script, on the base's own networks."""
    word = name == "textual-inversion"
    trained: list[nn.Parameter] = []
    if word:
        trained = [base.text_encoder.get_input_embeddings().weight.requires_grad_(True)]
    else:
        trained = [*base.unet.requires_grad_(True).parameters()]
        if settings.trains_text:
            trained += [*base.text_encoder.requires_grad_(True).parameters()]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=1e-2)
    prior = 0 if word else settings.prior_batch
    ids = base.tokens([base.recipe.prompts.instance] * settings.batch_size + [base.recipe.prompts.class_] * prior)
    before = trained[0].detach().clone() if word else None

    def step() -> None:
        chosen = torch.randint(0, len(pixels), (settings.batch_size + prior,))
        with torch.no_grad():
            clean = base.encode(pixels[chosen])
        noise = torch.randn_like(clean)
        t = torch.randint(0, base.scheduler.config.num_train_timesteps, (len(clean),))
        noisy, target = base.scheduler.add_noise(clean, noise, t), noise
        if base.scheduler.config.prediction_type == "v_prediction":
            target = base.scheduler.get_velocity(clean, noise, t)
        predicted = base.unet(noisy, t, base.text_encoder(ids).last_hidden_state).sample
        loss = F.mse_loss(predicted[: settings.batch_size], target[: settings.batch_size])
        if prior:
            loss = loss + settings.prior_weight * F.mse_loss(predicted[-prior:], target[-prior:])
        loss.backward()
        if not word:
            nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if before is not None:
            with torch.no_grad():
                trained[0][:-1] = before[:-1]

    return step


if __name__ == "__main__":
    main()
