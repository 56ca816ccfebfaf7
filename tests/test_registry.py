from importlib.metadata import EntryPoint

import pytest

from iddmbench import registry
from iddmbench.errors import UserError
from iddmbench.registry import Registry


class Base:
    pass


class Good(Base):
    pass


@pytest.fixture
def known():
    return Registry("thing", Base, {"good": f"{__name__}:Good"}, "iddmbench.tests")


def test_decorator_adds_and_get_returns(known):
    @known.register("mine")
    class Mine(Base):
        pass

    assert known.get("mine") is Mine
    assert known.names() == ["good", "mine"]


def test_registering_a_taken_name_fails(known):
    with pytest.raises(ValueError, match="already registered"):
        known.register("good")(Good)


def test_only_subclasses_of_the_base_are_taken(known):
    with pytest.raises(TypeError, match="subclass of Base"):
        known.register("odd")(int)


def test_unknown_name_suggests_the_nearest(known):
    with pytest.raises(UserError, match="unknown thing 'godo': did you mean 'good'"):
        known.get("godo")


def points(monkeypatch, *entries):
    found = [EntryPoint(name, value, "iddmbench.tests") for name, value in entries]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)


def test_entry_points_of_other_packages_are_found(known, monkeypatch):
    points(monkeypatch, ("thirdparty", "collections:OrderedDict"))
    assert "thirdparty" in known.names()
    with pytest.raises(TypeError, match="subclass"):
        known.get("thirdparty")


def test_two_packages_with_one_name_collide(known, monkeypatch):
    points(monkeypatch, ("x", "a:B"), ("x", "c:D"))
    with pytest.raises(UserError, match="defined twice"):
        known.names()


def test_a_plugin_that_cannot_be_imported_is_one_line(known, monkeypatch):
    points(monkeypatch, ("broken", "no_such_module_at_all:X"))
    with pytest.raises(UserError, match="can't be loaded from no_such_module_at_all:X"):
        known.get("broken")
