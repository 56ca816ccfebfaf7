"""Faces of people who don't exist, from MobileStyleGAN as the package random-face ships it.

Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis", arXiv 2104.04767,
distilled from StyleGAN2 (arXiv 1912.04958) on FFHQ. The package's own code needs an openvino that no longer exists, so only
its two network files are read.
"""

from typing import Any

import numpy as np

from iddmbench.errors import UserError
from iddmbench.seeds import Seeds
from iddmbench.wheel_files import wheel_file

WIDTH = 512
SIDE = 512
_BLOCKS = 7  # of 8, 16, ... 512 pixels; each has an up-sampling and two convolutions
MODULATIONS = ("Gemm_11", *(f"Gemm_{100 * k + n}" for k in range(_BLOCKS) for n in (52, 77, 110)), "Gemm_743")
"""The graph's layers that read a style, from 4 pixels to the output."""

LAYERS = len(MODULATIONS)
_BATCH_SHAPE = "Shape_744"  # reads the batch size off the style
_LOW_BAND = "Slice_764/Split"  # the wavelet output's low band: the picture at half its size, times two


class Generator:
    """Styles and photos. Needs `pip install openvino` and `pip install --no-deps random-face`.

    Args:
        seeds: what the mean style is drawn from; it must be the same for pictures that are to be made again.
        threads: of one call.

    Raises UserError when a package is absent.
    """

    def __init__(self, seeds: Seeds, threads: int = 1):
        try:
            import openvino
        except ImportError as error:
            raise UserError("generating the images needs openvino: pip install 'iddmbench[synthetic]'") from error
        self._core = openvino.Core()
        # Plain floats: the processor's shorter ones differ by up to 37 gray levels, and from machine to machine.
        self._settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        self._mapping = self._core.compile_model(_file("MappingNetwork"), "CPU", self._settings)
        self._synthesis = self._core.compile_model(self._by_layer(openvino), "CPU", self._settings)
        rng = seeds.child("mean style").numpy()
        draws = rng.standard_normal((4096, WIDTH)).astype(np.float32)
        self.mean = np.concatenate([self._mapping(row[None])[0] for row in draws]).mean(0)

    def _by_layer(self, openvino: Any) -> Any:
        """The synthesis network with one style input per layer, cut before the last doubling of the size.

        The low band of the wavelet that makes 1024 pixels of 512 is the picture averaged over 2 x 2 pixels; stopping there
        takes half of the time.
        """
        opset = openvino.opset13
        model = self._core.read_model(_file("SynthesisNetwork"))
        nodes = {node.friendly_name: node for node in model.get_ops()}
        inputs = []
        for k, name in enumerate(MODULATIONS):
            style = opset.parameter([1, WIDTH], openvino.Type.f32, f"style{k}")
            nodes[f"{name}/WithoutBiases"].input(0).replace_source_output(style.output(0))
            inputs.append(style)
        nodes[_BATCH_SHAPE].input(0).replace_source_output(inputs[-1].output(0))
        half = opset.multiply(nodes[_LOW_BAND].output(0), opset.constant(np.float32(0.5)))
        cut = openvino.Model([half.output(0)], inputs)
        cut.validate_nodes_and_infer_types()
        return cut

    def style(self, seeds: Seeds, truncation: float = 0.7) -> np.ndarray:
        """float32 [512]: a drawn style, moved toward the mean one; 0 gives the mean, 1 the draw itself."""
        draw = seeds.numpy().standard_normal((1, WIDTH)).astype(np.float32)
        return self.mean + truncation * (self._mapping(draw)[0][0] - self.mean)

    def photo(self, styles: np.ndarray) -> np.ndarray:
        """The picture of float32 [23, 512], one style per layer: uint8 [512, 512, 3], RGB."""
        if styles.shape != (LAYERS, WIDTH):
            raise ValueError(f"styles must be [{LAYERS}, {WIDTH}], got {styles.shape}")
        picture = self._synthesis([row[None] for row in styles])[0][0]
        return ((np.clip(picture, -1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0)


def _file(name: str) -> str:
    return str(wheel_file("random_face", f"data/{name}.xml"))


def mixed(own: np.ndarray, coarse: np.ndarray, fine: np.ndarray, first: int, last: int) -> np.ndarray:
    """float32 [23, 512]: layers before `first` from the style `coarse`, from `last` on from `fine`, the rest `own`.

    Coarse layers hold pose, hair and glasses, fine ones light, colour, clothes and backdrop.
    """
    rows = np.repeat(own[None], LAYERS, axis=0)
    rows[:first] = coarse
    rows[last:] = fine
    return rows
