"""Embedding thousands of images takes the memory of a batch: besides the images and the result, the number of images costs
nothing. Measured on processes of their own, by the highest resident memory that Linux counted during a call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")

PROGRAM = """
import sys
from pathlib import Path
import cv2, numpy as np, torch
from iddmbench.attacker import build_attacker
from iddmbench.datasets.orl import photo

torch.set_num_threads(1)
cv2.setNumThreads(1)
name, batch, few, many = sys.argv[1], *map(int, sys.argv[2:5])
attacker = build_attacker(name)
attacker.batch = batch
photos = [photo(1 + i % 40, 1 + i // 40).image for i in range(400)]
# all different, and all there before anything is measured
images = [np.roll(photos[i % 400], i // 400, axis=1) for i in range(many)]
if sys.argv[5] == "gray":
    images = [image[..., 0].copy() for image in images]

def peak(count):
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
    found = attacker.embed(images[:count])
    assert len(found) == count and found.acquired.all()
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

peak(2 * batch)  # weights are read, kernels chosen
print(peak(few), peak(many))
"""


@pytest.mark.skipif(not STATUS.is_file(), reason="counts memory by Linux's /proc")
@pytest.mark.parametrize(
    ("name", "batch", "few", "many", "kind", "limit"),
    [
        # one more array of the images would be 88 MiB, their crops 430 MiB
        ("eigenfaces", 32, 300, 3000, "gray", 15),
        # the crops of 300 images are 43 MiB, what the first layer makes of them 460 MiB
        ("sface", 8, 60, 360, "color", 25),
    ],
)
def test_memory_does_not_grow_with_the_number_of_images(
    name: str, batch: int, few: int, many: int, kind: str, limit: int
) -> None:
    command = [sys.executable, "-c", PROGRAM, name, str(batch), str(few), str(many), kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    small, large = (int(number) / 1024 for number in done.stdout.split())
    print(f"{name}: {few} images {small:.1f} MiB, {many} images {large:.1f} MiB")
    assert large - small < limit, f"{few} images: {small:.0f} MiB, {many} images: {large:.0f} MiB"


FEATURES = """
import numpy as np, torch
from pathlib import Path
from iddmbench.cells.utility import UtilityStages

torch.set_num_threads(1)
stages = UtilityStages.__new__(UtilityStages)  # features need neither a base nor photos
images = np.random.default_rng(0).integers(0, 256, (160, 512, 512, 3), dtype=np.uint8)

def peak(count):
    Path("/proc/self/clear_refs").write_text("5")
    assert stages.features(images[:count]).shape == (count, 1280)
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

peak(32)
print(peak(32), peak(160))
"""


@pytest.mark.skipif(not STATUS.is_file(), reason="counts memory by Linux's /proc")
def test_features_of_many_images_take_the_memory_of_a_few() -> None:
    """All 160 at once, as floats, would be 480 MiB; what torch keeps for later calls differs by up to 90."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FEATURES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    small, large = (int(number) / 1024 for number in done.stdout.split())
    assert large - small < 200, f"{small:.0f} MiB for 32 images, {large:.0f} MiB for 160"
