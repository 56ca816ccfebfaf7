"""LPIPS by the authors' package: how visible a change of photos is."""

from functools import cached_property
from typing import Any

import numpy as np
import torch

from iddmbench.errors import UserError, first_line
from iddmbench.judges.base import AT_ONCE, Judge, Scene, pixels
from iddmbench.weights import WeightFile


class Lpips(Judge):
    """LPIPS 0.1 on AlexNet (Zhang et al. 2018, arXiv 1801.03924) of protected and clean reference photos. The package holds the
    linear layers; AlexNet's file is torchvision's."""

    name = "lpips"
    measures = "LPIPS of protected photos"
    metrics = ("photo_lpips",)
    package, extra = ("lpips", "lpips"), "lpips"
    files = (
        WeightFile(
            "alexnet-owt-7be5be79.pth",
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
            "BSD-3-Clause (torchvision)",
            bytes=244_408_911,
        ),
    )

    @cached_property
    def _network(self) -> Any:
        import lpips

        (path,) = self.paths()
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            # Its slices hold AlexNet's layers under the numbers that these have in torchvision.
            own = {name: f"features.{name.split('.', 1)[1]}" for name in network.net.state_dict()}
            network.net.load_state_dict({name: state[theirs] for name, theirs in own.items()})
        except Exception as error:  # torch raises half a dozen kinds for damaged files
            raise UserError(f"{path} is not a state dict of torchvision's AlexNet: {first_line(error)}") from error
        return network.eval().requires_grad_(False).to(self.device)

    def distances(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """float32 [N] of two times uint8 [N, H, W, 3]; 0 for equal images, lower is closer."""
        found = []
        with torch.inference_mode():
            for i in range(0, len(a), AT_ONCE):
                first, second = (pixels(list(x[i : i + AT_ONCE])).to(self.device) for x in (a, b))
                found.append(self._network(first, second, normalize=True).flatten().cpu().numpy())
        return np.concatenate(found)

    def judge(self, scene: Scene) -> dict[str, np.ndarray]:
        if scene.protected is None or not len(scene.protected):
            return {}
        return {"photo_lpips": self.distances(scene.protected, scene.references)}
