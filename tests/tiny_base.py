"""The tiny base model of the conformance checks, under the name that the tests use."""

from iddmbench.conformance.tiny_base import CHANNELS, LORA, RECIPE, SIDE, linear_vae, same, state, write_base

__all__ = ["CHANNELS", "LORA", "RECIPE", "SIDE", "linear_vae", "same", "state", "write_base"]
