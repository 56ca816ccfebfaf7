"""The optimizer of personalizers: AdamW, or the same with its moments in 8 bits."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from iddmbench.errors import UserError

WEIGHT_DECAY = 1e-2
EIGHT_BIT = "adamw-8bit"


def check_optimizer(name: str, device: torch.device) -> None:
    """Raises UserError for 8-bit AdamW where it can't run."""
    if name != EIGHT_BIT:
        return
    if device.type != "cuda":
        raise UserError(f"optimizer={name} needs a CUDA device, and the base is on {device.type}: use adamw")
    if find_spec("bitsandbytes") is None:
        raise UserError(f"optimizer={name} needs bitsandbytes: pip install 'iddmbench[adam8]', or use adamw")


def adamw(
    name: str, weights: Iterable[nn.Parameter], learning_rate: float, offload: bool = False
) -> torch.optim.Optimizer:
    """Of weights that all require gradients. offload: AdamW's moments lie in CPU memory; 8-bit ones stay on the GPU."""
    if name == EIGHT_BIT:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(list(weights), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    if offload:
        return OffloadedAdamW([{"params": [w]} for w in weights], lr=learning_rate, weight_decay=WEIGHT_DECAY)
    return torch.optim.AdamW(weights, lr=learning_rate, weight_decay=WEIGHT_DECAY)


class OffloadedAdamW(torch.optim.AdamW):
    """AdamW whose moments lie in CPU memory and visit the weights' device one tensor at a time. Each weight is a group of its
    own. The numbers are torch's."""

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        groups, kept = self.param_groups, self.state
        try:
            for group in groups:
                (weight,) = group["params"]
                self._visit(kept[weight], weight.device)
                self.param_groups = [group]
                super().step()
                self._leave(kept[weight])
        finally:
            self.param_groups = groups
        if groups and groups[0]["params"][0].is_cuda:
            torch.cuda.synchronize(groups[0]["params"][0].device)  # copies to pinned memory don't wait

    def _visit(self, state: dict[str, Any], device: torch.device) -> None:
        for name in MOMENTS:
            if name in state:
                state[name + HOME] = state[name]
                state[name] = state[name].to(device, non_blocking=True)

    def _leave(self, state: dict[str, Any]) -> None:
        for name in MOMENTS:
            if name in state:
                home = state.pop(name + HOME, None)
                state[name] = _home(state[name]) if home is None else home.copy_(state[name], non_blocking=True)


MOMENTS, HOME = ("exp_avg", "exp_avg_sq"), "_home"


def _home(moment: Tensor) -> Tensor:
    """A tensor's copy in CPU memory, pinned so that it is quickly copied from and to the GPU."""
    if not moment.is_cuda:
        return moment
    return torch.empty_like(moment, device="cpu", pin_memory=True).copy_(moment, non_blocking=True)
