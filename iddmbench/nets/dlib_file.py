"""Reads the layers of a network that dlib serialized (.dat), with numpy alone.

Formats: dlib/serialize.h (integers and floats), dlib/dnn/tensor.h and dlib/dnn/layers.h (the `serialize` overloads).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from iddmbench.errors import UserError

_INPUT = "input_rgb_image_sized"
_NAMES = ("con_4", "affine_", "relu_", "max_pool_2", "avg_pool_2", "add_prev_", "fc_2")


@dataclass(frozen=True)
class DlibLayer:
    """One layer that computes something, in the order of the forward pass.

    Attributes:
        kind: "con", "affine", "relu", "max_pool", "avg_pool", "add_prev" or "fc".
        window: rows and columns of the filter or pool; (0, 0) pools everything.
        stride, padding: rows and columns.
        inputs, outputs: channels of a "con" or "fc", else 0.
        parameters: float32, flat: filters then biases, gamma then beta, or the matrix [inputs, outputs].
    """

    kind: str
    window: tuple[int, int] = (0, 0)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    inputs: int = 0
    outputs: int = 0
    parameters: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32), repr=False)


@dataclass(frozen=True)
class DlibNetwork:
    """Attributes:
    mean: float64 [3], red, green, blue in 0..255, subtracted from the input; the rest is divided by 256.
    size: side of the input.
    layers: in the order of the forward pass.
    """

    mean: np.ndarray
    size: int
    layers: tuple[DlibLayer, ...]


def read_dlib(path: Path) -> DlibNetwork:
    """The layers of an RGB network. Raises UserError when the file is absent, cut short or of another kind."""
    try:
        reader = _Reader(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} can't be read: {error}") from error
    try:
        return _network(reader)
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise UserError(f"{path} is not a readable dlib network ({error}): install its package again") from error


def _network(reader: "_Reader") -> DlibNetwork:
    # before the input layer stands one version number per wrapper (tags and skips too), which says nothing new
    start = reader.data.find(bytes([1, len(_INPUT)]) + _INPUT.encode())
    if start < 0:
        raise ValueError(f"no {_INPUT} layer")
    reader.position = start
    reader.text()
    mean = np.array([reader.real() for _ in range(3)])
    rows, columns = reader.integer(), reader.integer()
    if rows != columns:
        raise ValueError(f"input {rows} x {columns} is not square")
    layers: list[DlibLayer] = []
    while not layers or layers[-1].kind != "fc":
        layers.append(_layer(reader))
    return DlibNetwork(mean, rows, tuple(layers))


def _layer(reader: "_Reader") -> DlibLayer:
    # tags and the end of the input layer's wrapper are single version integers
    name = reader.next_name()
    layer = _details(name, reader)
    for _ in range(3):
        reader.boolean()
    for _ in range(3):
        reader.tensor()
    return layer


def _details(name: str, reader: "_Reader") -> DlibLayer:
    if name == "con_4":
        parameters = reader.tensor()
        outputs, *shape = (reader.integer() for _ in range(7))
        filters, biases = reader.alias(), reader.alias()
        for _ in range(4):
            reader.real()
        window, stride, padding = (shape[0], shape[1]), (shape[2], shape[3]), (shape[4], shape[5])
        if filters != (outputs, filters[1], *window) or parameters.size != np.prod(filters) + np.prod(biases):
            raise ValueError(f"convolution of {outputs} filters holds {parameters.size} weights")
        return DlibLayer("con", window, stride, padding, filters[1], outputs, parameters)
    if name == "affine_":
        parameters = reader.tensor()
        reader.alias(), reader.alias()
        if reader.integer() != 0:
            raise ValueError("affine layer is not one per channel")
        return DlibLayer("affine", parameters=parameters)
    if name in ("max_pool_2", "avg_pool_2"):
        shape = [reader.integer() for _ in range(6)]
        return DlibLayer(name[:-2], (shape[0], shape[1]), (shape[2], shape[3]), (shape[4], shape[5]))
    if name == "fc_2":
        outputs, inputs = reader.integer(), reader.integer()
        parameters = reader.tensor()
        reader.alias(), reader.alias()
        has_no_bias = reader.integer() == 1
        for _ in range(4):
            reader.real()
        if not has_no_bias or parameters.size != outputs * inputs:
            raise ValueError("the last layer has a bias or the wrong size")
        return DlibLayer("fc", inputs=inputs, outputs=outputs, parameters=parameters)
    return DlibLayer(name.rstrip("_"))


class _Reader:
    """A position in dlib's serialization format."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.position + count > len(self.data):
            raise ValueError(f"it ends at byte {len(self.data)}")
        self.position += count
        return self.data[self.position - count : self.position]

    def integer(self) -> int:
        """A control byte (sign in bit 7, number of bytes in bits 0 to 3), then the bytes, lowest first."""
        control = self.take(1)[0]
        if control & 0x70 or not 1 <= control & 0x0F <= 8:
            raise ValueError(f"no integer at byte {self.position - 1}")
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def real(self) -> float:
        """mantissa * 2 ** exponent"""
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > 1100:
            raise ValueError(f"no number at byte {self.position}")
        return float(mantissa) * 2.0**exponent

    def boolean(self) -> bool:
        value = self.take(1)
        if value not in (b"0", b"1"):
            raise ValueError(f"no boolean at byte {self.position - 1}")
        return value == b"1"

    def text(self) -> str:
        length = self.integer()
        if not 0 <= length < 100:
            raise ValueError(f"no name at byte {self.position}")
        return self.take(length).decode("ascii")

    def alias(self) -> tuple[int, ...]:
        """The shape of an alias tensor, which holds no data itself."""
        if self.integer() != 1:
            raise ValueError(f"alias tensor of an unknown version at byte {self.position}")
        return tuple(self.integer() for _ in range(4))

    def tensor(self) -> np.ndarray:
        """float32, flat."""
        if self.integer() != 2:
            raise ValueError(f"tensor of an unknown version at byte {self.position}")
        count = 1
        for _ in range(4):
            count *= self.integer()
        return np.frombuffer(self.take(4 * count), "<f4")

    def next_name(self) -> str:
        """The name of the next layer, past the few bytes that wrappers without content leave."""
        for _ in range(64):
            for name in _NAMES:
                if self.data.startswith(bytes([1, len(name)]) + name.encode(), self.position):
                    return self.text()
            self.take(1)
        raise ValueError(f"no layer after byte {self.position - 64}")
