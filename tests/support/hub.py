"""A Hugging Face hub on loopback: it makes repositories and takes commits."""

import base64
import json
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from support.loopback import LoopbackServer, QuietHandler, running

TOKEN = "hf_token-of-the-test"


class Hub(LoopbackServer):
    """What was made and committed, in `repositories` and `private`."""

    def __init__(self):
        super().__init__(_Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large_files: dict[str, bytes] = {}
        # Names that the token must not write to.
        self.foreign = "others"


def running_hub() -> AbstractContextManager[Hub]:
    return running(Hub())


class _Handler(QuietHandler):
    server: Hub

    def do_GET(self):
        self._answer(404, {"error": "Not found"})

    def do_PUT(self):
        self.server.large_files[self._path().rpartition("/")[2]] = self._body()
        self._answer(200, {})

    def do_POST(self):
        path, body = self._path(), self._body()
        if path == "/api/validate-yaml":
            self._answer(200, {"warnings": [], "errors": []})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._large_files(json.loads(body))
        else:
            _, _, _, organization, name, action, _ = path.split("/")
            getattr(self, f"_{action}")(f"{organization}/{name}", body)

    def _create(self, wanted):
        if wanted["organization"] == self.server.foreign:
            self._answer(403, {"error": "You don't have the rights."})
            return
        name = f"{wanted['organization']}/{wanted['name']}"
        known = name in self.server.repositories
        self.server.repositories.setdefault(name, {})
        self.server.private.setdefault(
            name, wanted.get("private") or wanted.get("visibility") == "private"
        )
        address = f"{self.server.address}/{name}"
        self._answer(409 if known else 200, {"url": address})

    def _preupload(self, name, body):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs"
                if file["path"].endswith(".safetensors")
                else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._answer(200, {"files": files})

    def _large_files(self, wanted):
        objects = [
            {
                **each,
                "actions": {
                    "upload": {"href": f"{self.server.address}/upload/{each['oid']}"}
                },
            }
            for each in wanted["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, name, body):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                content = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.server.large_files[value["oid"]]
            else:
                continue
            self.server.repositories[name][value["path"]] = content
        address = f"{self.server.address}/{name}/commit/1"
        self._answer(200, {"commitUrl": address, "commitOid": "1", "success": True})

    def _path(self):
        return urlsplit(self.path).path

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
