import subprocess
import sys

import torch

from iddmbench.seeds import Seeds


def test_a_path_gives_the_same_draws_in_another_process():
    code = "from iddmbench.seeds import Seeds; print(Seeds(3).child('a', 1).value())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(other.stdout) == Seeds(3).child("a", 1).value()


def test_paths_are_independent_and_unambiguous():
    values = {Seeds(0).child(*path).value() for path in [("a",), ("a", "b"), ("ab",), ("b", "a")]}
    assert len(values) == 4
    assert Seeds(0).child("a").value() != Seeds(1).child("a").value()


def test_generators_do_not_touch_the_global_state():
    before = torch.random.get_rng_state()
    torch.rand(3, generator=Seeds(0).child("x").torch())
    assert torch.equal(before, torch.random.get_rng_state())
