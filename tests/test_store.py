from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from iddmbench.errors import UserError
from iddmbench.store.cache import Store, digest


def test_computed_once_and_found_again(tmp_path):
    calls = []

    def compute(out):
        calls.append(1)
        (out / "x.txt").write_text("1")

    store = Store(tmp_path)
    first = store.fetch("stage", {"a": 1, "b": [2]}, compute)
    second = Store(tmp_path).fetch("stage", {"b": [2], "a": 1}, compute)
    assert first == second and (second / "x.txt").read_text() == "1" and calls == [1]


def test_any_change_of_the_key_is_another_entry(tmp_path):
    store = Store(tmp_path)
    paths = {store.path("stage", {"a": 1}), store.path("stage", {"a": 2}), store.path("other", {"a": 1})}
    assert len(paths) == 3


def test_a_failed_computation_leaves_nothing(tmp_path):
    store = Store(tmp_path)

    def fail(out):
        (out / "half.txt").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        store.fetch("stage", {"a": 1}, fail)
    assert not store.has("stage", {"a": 1})
    assert list((tmp_path / "tmp").iterdir()) == []
    assert store.fetch("stage", {"a": 1}, lambda out: None).is_dir()


def test_without_locks_a_second_writer_is_harmless(tmp_path, monkeypatch):
    """Some network file systems have none."""
    monkeypatch.setattr(Store, "_lock", lambda self, name: nullcontext(SimpleNamespace(lock_file=tmp_path / "none")))
    monkeypatch.setattr(Store, "_remove_leftovers", lambda self, name: None)
    store = Store(tmp_path)

    def race(out):
        store.fetch("stage", {"a": 1}, lambda inner: (inner / "x").write_text("first"))
        (out / "x").write_text("second")

    assert (store.fetch("stage", {"a": 1}, race) / "x").read_text() == "first"


def test_an_unwritable_cache_is_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(UserError, match="IDDMBENCH_CACHE"):
        Store(blocked)


def test_digest_ignores_order_only():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
