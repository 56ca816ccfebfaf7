"""Files and folders that take another's place whole."""

from pathlib import Path

import pytest

from iddmbench.store.files import replacing, write_text


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with replacing(folder) as part:
        part.mkdir()
        (part / "a").write_text("a")
        assert not folder.exists()
    assert [path.name for path in folder.iterdir()] == ["a"] and list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "place"
    write_text(path, "old")
    (tmp_path / ".place.part").mkdir()  # of a process that was killed
    with pytest.raises(OSError, match="disk full"), replacing(path) as part:
        if kind == "folder":
            part.mkdir()
            part = part / "inner"
        part.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
