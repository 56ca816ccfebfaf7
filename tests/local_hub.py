"""A hub on this machine for Hugging Face's own client: datasets to read, and commits that were pushed."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class LocalHub:
    """datasets: "OWNER/NAME" -> file -> content, which clients may read; pushed: the same of commits; created: repositories."""

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.pushed: dict[str, dict[str, bytes]] = {}
        self.created: list[dict] = []
        self.refuses = 0
        """Status of every answer, if not 0."""
        self.url = ""


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    hub = LocalHub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, content: object, status: int = 200, **headers: str) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            path = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
            if hub.refuses:
                self.answer({"error": "no"}, hub.refuses)
            elif path[:2] == ["api", "datasets"] and "/".join(path[2:4]) in hub.datasets:
                files = hub.datasets["/".join(path[2:4])]
                if path[4:5] == ["tree"]:
                    entry = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()]
                    self.answer(entry)
                else:
                    siblings = [{"rfilename": name} for name in files]
                    self.answer({"id": "/".join(path[2:4]), "sha": COMMIT, "siblings": siblings})
            elif path[:1] == ["datasets"] and path[3:4] == ["resolve"]:
                content = hub.datasets.get("/".join(path[1:3]), {}).get("/".join(path[5:]))
                if content is None:
                    self.answer({}, 404, X_Error_Code="EntryNotFound")
                else:
                    self.answer(content, ETag=f'"{_oid(content)}"', X_Repo_Commit=COMMIT)
            else:
                self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
            if hub.refuses:
                self.answer({"error": "no"}, hub.refuses)
            elif path == ["api", "repos", "create"]:
                hub.created.append(json.loads(body))
                owner, name = hub.created[-1]["organization"], hub.created[-1]["name"]
                self.answer({"url": f"{hub.url}/datasets/{owner}/{name}"})
            elif path == ["api", "validate-yaml"]:
                self.answer({"errors": [], "warnings": []})
            elif path[4:5] == ["preupload"]:
                names = [file["path"] for file in json.loads(body)["files"]]
                self.answer({"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
            elif path[4:5] == ["commit"]:
                lines = [json.loads(line) for line in body.splitlines()]
                files = {
                    x["value"]["path"]: base64.b64decode(x["value"]["content"]) for x in lines if x["key"] == "file"
                }
                repo = "/".join(path[2:4])
                hub.pushed.setdefault(repo, {}).update(files)
                self.answer({"commitUrl": f"{hub.url}/datasets/{repo}/commit/{COMMIT}", "commitOid": COMMIT})
            else:
                self.answer({"error": self.path}, 404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
