"""GPU memory of training on Stable Diffusion's shape at 512 pixels, counted from the settings: an estimate, without a GPU.

`docs/scale.md` has it beside what was measured (`benchmarks/sd_steps.py`).
"""

from collections.abc import Collection
from typing import Any

from iddmbench.models.recipe import TrainingSettings
from iddmbench.personalize.optimizer import EIGHT_BIT

UNET_GB, TEXT_GB, VAE_GB = 3.44, {"sd15": 0.49, "sd21": 1.36}, 0.33
"""Weights in float32."""
UNET_ACTIVATIONS_GB = {"fp32": 1.7, "bf16": 1.1, "fp16": 1.1}
VAE_ACTIVATIONS_GB = {"fp32": 6.6, "bf16": 5.3, "fp16": 5.3}
"""What a backward pass keeps per 512-pixel image, without checkpointing; fitted to steps on an H200 (docs/scale.md)."""
UNET_CHECKPOINTED, VAE_CHECKPOINTED = 0.2, 0.43
"""Share of it that is there at once with gradient checkpointing; fitted likewise."""
CAST_GB = UNET_GB / 2
"""Autocast's copy of the UNet's weights, in the half precisions."""
WORKSPACE_GB = 2.0
"""What a process takes beside its tensors: assumed."""
FULL_STATES, HALF_STATES, OFFLOADED_STATES = 4.0, 2.5, 1.0
"""Copies of the trained weights beside the base's own, where all of them are trained: copy, gradient and AdamW's two moments,
these in 8 bits, and the gradient alone, where the rest lies in CPU memory."""
SMALL, SMALL_GB = ("lora", "textual-inversion"), 0.1
"""Personalizers that train an adapter or vectors alone; those with gradient and moments. Of any other, all weights count."""


def activations_gb(images: float, precision: str, memory: Collection[str], decoded: bool = False) -> float:
    """GB of a backward pass through the UNet, and with `decoded` through half of the VAE too, for so many images at once."""
    checkpointed = "checkpoint" in memory
    each = UNET_ACTIVATIONS_GB[precision] * (UNET_CHECKPOINTED if checkpointed else 1)
    if decoded:
        each += VAE_ACTIVATIONS_GB[precision] * (VAE_CHECKPOINTED if checkpointed else 1)
    return images * each + (0 if precision == "fp32" else CAST_GB)


def states_gb(personalizer: str, settings: TrainingSettings, memory: Collection[str], base: str = "sd15") -> float:
    """GB of what is trained, its gradient and the optimizer's moments, beside the base's own weights."""
    if personalizer in SMALL:
        return SMALL_GB
    trained = UNET_GB + (TEXT_GB[base] if settings.trains_text else 0)
    eight = settings.optimizer == EIGHT_BIT
    if "offload" in memory:
        return trained * (OFFLOADED_STATES + (0.5 if eight else 0))
    return trained * (HALF_STATES if eight else FULL_STATES)


def weights_gb(settings: TrainingSettings, memory: Collection[str], base: str = "sd15") -> float:
    """GB of the base's own weights that lie on the GPU while the UNet is trained."""
    away = VAE_GB + (0 if settings.trains_text else TEXT_GB[base]) if "offload" in memory else 0
    return UNET_GB + TEXT_GB[base] + VAE_GB - away


def training_gb(
    personalizer: str, settings: Any, precision: str = "bf16", memory: Collection[str] = (), base: str = "sd15"
) -> float:
    """GB at the peak of a personalizer's step, without what a process takes beside its tensors (`WORKSPACE_GB`)."""
    batch = settings.batch_size + (settings.prior_batch if settings.prior_weight else 0)
    held = weights_gb(settings, memory, base) + states_gb(personalizer, settings, memory, base)
    return held + activations_gb(batch, precision, memory)
