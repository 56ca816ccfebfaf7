import sys
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
    with pytest.raises(UserError, match="must be a subclass of Base"):
        known.get("thirdparty")


def test_two_packages_with_one_name_collide_and_hide_no_other(known, monkeypatch):
    points(monkeypatch, ("x", "a:B"), ("x", "c:D"), ("good", "other:Good"))
    assert known.names() == ["good", "x"]
    with pytest.raises(UserError, match="'x' is defined twice, by a:B and c:D: uninstall one"):
        known.get("x")
    with pytest.raises(UserError, match=f"'good' is defined twice, by {__name__}:Good and other:Good"):
        known.get("good")


BROKEN = {
    "syntax": ("def broken(:\n", "SyntaxError"),
    "absent library": ("raise OSError('libGL.so.1: no such file')", "OSError: libGL.so.1: no such file"),
    "exit": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "other error": ("1 / 0", "ZeroDivisionError"),
    "no such name": ("Y = 1", "AttributeError"),
    "no class": ("X = 1", "must be a subclass of Base, got 1"),
    "no title": (
        "from test_registry import Base\nclass X(Base):\n    pass",
        "must set its class variable `title` to a text",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_cannot_be_loaded_is_one_line(case, monkeypatch, tmp_path):
    source, message = BROKEN[case]
    module = "broken_" + case.replace(" ", "_")
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_registry", sys.modules[__name__])
    things = Registry("thing", Base, {}, "iddmbench.tests", texts=("title",))
    points(monkeypatch, ("broken", f"{module}:X"))
    assert things.names() == ["broken"]
    with pytest.raises(UserError) as raised:
        things.get("broken")
    assert message in str(raised.value) and f"{module}:X" in str(raised.value) and "\n" not in str(raised.value)


def test_a_module_that_is_not_there_is_one_line(known, monkeypatch):
    points(monkeypatch, ("broken", "no_such_module_at_all:X"))
    with pytest.raises(UserError, match="can't be loaded from no_such_module_at_all:X"):
        known.get("broken")
