"""The cache: locks between processes, checksums, what may go, layouts and folders that can't be written."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from iddmbench.cells.versions import CODE, current_versions
from iddmbench.cli import app
from iddmbench.errors import UserError
from iddmbench.store import maintenance
from iddmbench.store.cache import REUSED, Store, UnwritableCache

DAY = 86400.0


def plant(store: Store, name: str, content: str = "x", age: float = 0.0, **key: object) -> Path:
    entry = store.fetch("stage", {"name": name, **key}, lambda out: (out / "file.txt").write_text(content) and None)
    then = time.time() - age
    os.utime(entry / "key.json", (then, then))
    return entry


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["cache", *arguments])
    assert result.exit_code == code, result.output
    return result.output


COUNT = """
import sys, time
from pathlib import Path
from iddmbench.store.cache import Store
def compute(out):
    with open(sys.argv[2], "a") as log: log.write("x")
    time.sleep(0.5)
    (out / "x").write_text("1")
store = Store(Path(sys.argv[1]))
for i in range(3): store.fetch("stage", {"i": i}, compute)
"""


def test_processes_that_need_the_same_entry_compute_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", COUNT, str(tmp_path / "cache"), str(log)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0] * 4
    assert log.read_text() == "xxx"
    assert not list((tmp_path / "cache" / "locks").iterdir()) and not list((tmp_path / "cache" / "tmp").iterdir())


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    slow = COUNT.replace("time.sleep(0.5)", "(out / 'half').write_text('1'); time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", slow, str(tmp_path / "cache"), str(tmp_path / "log")])
    store = Store(tmp_path / "cache")
    deadline = time.monotonic() + 60
    while not list(store.root.glob("tmp/*/half")):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.01)
    assert maintenance.leftovers(store) == []  # it is at work
    child.kill()
    child.wait()
    assert len(maintenance.leftovers(store)) == 1
    entry = store.fetch("stage", {"i": 0}, lambda out: (out / "x").write_text("2") and None)
    assert (entry / "x").read_text() == "2" and not (entry / "half").exists()
    assert maintenance.leftovers(store) == []


def test_a_use_is_noted_once_a_day(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = plant(store, "old", age=2 * REUSED), plant(store, "new", age=REUSED / 2)
    before = (new / "key.json").stat().st_mtime
    for name in ("old", "new"):
        store.fetch("stage", {"name": name}, lambda out: None)
    assert time.time() - (old / "key.json").stat().st_mtime < 60 and (new / "key.json").stat().st_mtime == before


def test_verify_finds_every_kind_of_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole, changed, lost, added, moved, cut = (plant(store, name) for name in "abcdef")
    (changed / "file.txt").write_text("y")
    (lost / "file.txt").unlink()
    (added / "more.txt").write_text("z")
    other = moved.with_name("0" * 64)
    moved.rename(other)
    (cut / "key.json").write_text("{")
    found = dict(maintenance.check(store))
    assert found.pop(whole) is None
    assert found[changed] == found[lost] == "changed or missing: file.txt"
    assert found[added] == "changed or missing: more.txt"
    assert found[other] == "its key belongs to another entry" and found[cut] == "key.json can't be read"
    output = invoke("verify", "--cache", str(tmp_path), code=2)
    assert "1 entries intact, 5 damaged" in output
    assert "5 damaged and removed" in invoke("verify", "--cache", str(tmp_path), "--remove")
    assert "1 entries intact, 0 damaged" in invoke("verify", "--cache", str(tmp_path))
    assert (store.fetch("stage", {"name": "b"}, lambda out: (out / "file.txt").write_text("x") and None)).is_dir()


def test_gc_by_age_size_and_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    here = maintenance.collect(store)
    assert (here.entries, here.leftovers) == (0, 0)
    entries = [plant(store, f"e{i}", "x" * 1000, age=i * 10 * DAY) for i in range(4)]
    stale = plant(store, "stale", age=DAY, versions={"torch": "0.1"})
    (store.root / "tmp" / ("ab" * 32 + ".left")).mkdir(parents=True)
    assert maintenance.collect(store, days=25, dry_run=True) == maintenance.Gone(1, 1, upkeep_size(entries[3]))
    assert entries[3].is_dir()
    invoke("gc", "--cache", str(tmp_path), "--older-than", "25d")
    assert not entries[3].exists() and entries[2].is_dir() and not list((store.root / "tmp").iterdir())
    assert [row.stale for row in maintenance.overview(store, maintenance.Current(current_versions(), CODE))] == [1]
    invoke("gc", "--cache", str(tmp_path), "--stale")
    assert not stale.exists() and entries[2].is_dir()
    # The longest unused goes first; what was used within the hour stays, whatever the limit.
    invoke("gc", "--cache", str(tmp_path), "--max-size", "2.5K")
    assert [entry.is_dir() for entry in entries[:3]] == [True, True, False]
    invoke("gc", "--cache", str(tmp_path), "--max-size", "1")
    assert [entry.is_dir() for entry in entries[:2]] == [True, False]


def test_base_models_made_from_one_file(tmp_path: Path) -> None:
    """They are seen by ls, are no damaged entries, and go by age and size like the rest."""
    store = Store(tmp_path)
    kept = plant(store, "kept", age=2 * DAY)
    old, new, part = (tmp_path / "bases" / name for name in ("old-12", "new-34", ".new-34.x1"))
    for folder, age in ((old, 40 * DAY), (new, 3 * DAY), (part, DAY)):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "weights").write_bytes(bytes(2_000_000))
        then = time.time() - age
        os.utime(folder, (then, then))
    assert "bases" in (listed := invoke("ls", "--cache", str(tmp_path))) and "4.0" in listed
    assert "1 entries intact, 0 damaged" in invoke("verify", "--cache", str(tmp_path), "--remove")
    assert (new / "unet" / "weights").is_file()
    rows = maintenance.overview(store, maintenance.Current(current_versions(), CODE))
    assert [(row.stage, row.entries, row.stale) for row in rows] == [("bases", 2, 0), ("stage", 1, 0)]
    assert "1 entries and 1 leftovers removed, 2.0 MB" in invoke("gc", "--cache", str(tmp_path), "--older-than", "30d")
    assert not old.exists() and not part.exists() and new.is_dir() and kept.is_dir()
    invoke("gc", "--cache", str(tmp_path), "--max-size", "1M")
    assert not new.exists() and kept.is_dir()


def upkeep_size(entry: Path) -> int:
    return sum(path.stat().st_size for path in entry.iterdir())


def test_ls(tmp_path: Path) -> None:
    plant(Store(tmp_path), "a", "x" * 1_500_000)
    output = invoke("ls", "--cache", str(tmp_path))
    assert "stage" in output and "1.5" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gc", "--older-than", "3y"), "--older-than 3y: write it as 12h, 30d, 4w"),
        (("gc", "--older-than", "d"), "--older-than d: write it as"),
        (("gc", "--max-size", "-1G"), "--max-size -1G: write it as 500M, 20G"),
        (("ls", "--cache", "/no/such/cache"), "there is no cache at /no/such/cache"),
    ],
)
def test_bad_options(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    Store(tmp_path)
    given = arguments if "--cache" in arguments else (*arguments, "--cache", str(tmp_path))
    assert message in invoke(*given, code=2)


def test_a_cache_of_another_layout_is_refused(tmp_path: Path) -> None:
    Store(tmp_path)
    (tmp_path / "cache.json").write_text(json.dumps({"layout": 99}))
    with pytest.raises(UserError, match="has layout 99, this version writes 1: set IDDMBENCH_CACHE to another place"):
        Store(tmp_path)
    (tmp_path / "cache.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Store(tmp_path)


def test_a_read_only_cache_serves_what_it_holds(tmp_path: Path) -> None:
    """A read-only mount stops root too; without one, the check is that of a folder's permissions."""
    root = tmp_path / "cache"
    entry = plant(Store(root), "a")
    with read_only(root):
        store = Store(root)
        assert store.fetch("stage", {"name": "a"}, lambda out: None) == entry
        for attempt in (store.check_writable, lambda: store.fetch("stage", {"name": "b"}, lambda out: None)):
            with pytest.raises(UnwritableCache, match=r"can't be written .*: set IDDMBENCH_CACHE to another place"):
                attempt()


class read_only:
    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        if os.geteuid() == 0:
            mounted = subprocess.run(["mount", "--bind", self.folder, self.folder], capture_output=True)
            again = ["mount", "-o", "remount,bind,ro", self.folder]
            if mounted.returncode or subprocess.run(again, capture_output=True).returncode:
                pytest.skip("root can't mount here, and permissions don't stop it")
        else:
            for path in (self.folder, *self.folder.rglob("*")):
                if path.is_dir():
                    path.chmod(0o555)

    def __exit__(self, *exception: object) -> None:
        if os.geteuid() == 0:
            subprocess.run(["umount", self.folder], check=False)
        else:
            for path in (self.folder, *self.folder.rglob("*")):
                if path.is_dir():
                    path.chmod(0o755)
