"""A Hugging Face hub on loopback that lists a repository and gives its files."""

import hashlib
import json
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from support.loopback import LoopbackServer, QuietHandler, running

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(LoopbackServer):
    """A directory for each repository, and the files that were asked for."""

    def __init__(self):
        super().__init__(_Handler)
        self.repositories: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.fetched: list[str] = []


def running_hub() -> AbstractContextManager[Hub]:
    return running(Hub())


class _Handler(QuietHandler):
    server: Hub

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            name, rest = "/".join(parts[:2]), parts[2:]
        directory = self.server.repositories.get(name)
        if directory is None:
            self._refuse(404, "RepoNotFound")
        elif name in self.server.gated:
            self._refuse(403, "GatedRepo")
        elif rest[1:] and rest[1] not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        elif not rest or rest[0] == "revision":
            files = [{"rfilename": each} for each in _files(directory)]
            self._json({"id": name, "sha": COMMIT, "siblings": files})
        elif rest[0] == "tree":
            self._json([_entry(directory, each) for each in _files(directory)])
        else:
            self._file(directory, "/".join(rest[2:]))

    def _file(self, directory, name):
        if not (directory / name).is_file():
            self._refuse(404, "EntryNotFound")
            return
        if self.command == "GET":
            self.server.fetched.append(name)
        content = (directory / name).read_bytes()
        self._answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def _json(self, content):
        self._answer(200, json.dumps(content).encode(), {})

    def _refuse(self, status, code):
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _files(directory):
    paths = sorted(each for each in directory.rglob("*") if each.is_file())
    return [str(each.relative_to(directory)) for each in paths]


def _entry(directory, name):
    content = (directory / name).read_bytes()
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid}
