"""A stand-in of the hub's HTTP API, with as much of it as datasets need: repositories, branches, commits, large files.

It answers as the hub does to the calls of `huggingface_hub`: large files go by git-lfs's batch API, a commit is lines of
JSON, `resolve` gives a file of a commit. Whoever has the token `writer` may do anything, others see what is public.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

WRITER = "writer"
LARGE = ".parquet"


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Repo:
    """Branch -> commit, commit -> path -> content."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        made = hashlib.sha1(json.dumps([message, len(self.commits), sorted(files)]).encode()).hexdigest()
        self.commits[made], self.branches[branch] = files, made
        self.messages.append(message)
        return made

    def files(self, revision: str = "main") -> dict[str, bytes] | None:
        return self.commits.get(self.branches.get(revision, revision))


@dataclass
class Hub:
    """What the stand-in holds, what was asked of it, and what it is to refuse."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse: Callable[[str, str], int | None] = lambda method, path: None
    """Method and path of a call -> a status that it is answered with, or None."""

    def count(self, method: str) -> int:
        """How many calls of a method there were."""
        return sum(line.startswith(f"{method} ") for line in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    # -- answers ----------------------------------------------------------------------------------------------------

    def _send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), Content_Type="application/json")

    def _no(self, status: int, code: str = "", message: str = "") -> None:
        self._send(status, json.dumps({"error": message}).encode(), X_Error_Code=code, X_Error_Message=message)

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        self.may_write = self.headers.get("Authorization") == f"Bearer {WRITER}"
        if status := self.hub.refuse(self.command, path):
            return self._no(status, message="the stand-in was told to")
        if not self.may_write and self.headers.get("Authorization"):
            return self._no(401, message="Invalid credentials in Authorization header")
        for pattern, method in _ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return method(self, body, **found.groupdict())
        return self._no(404)

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.may_write):
            self._no(404 if self.may_write else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _files(self, name: str, revision: str) -> tuple[Repo, dict[str, bytes]] | None:
        if (repo := self._repo(name)) is None:
            return None
        if (files := repo.files(revision)) is None:
            self._no(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repo, files

    # -- routes -----------------------------------------------------------------------------------------------------

    def create(self, body: bytes) -> None:
        said = json.loads(body)
        if not self.may_write:
            return self._no(401, message="Unauthorized")
        name = f"{said['organization']}/{said['name']}"
        assert said["type"] == "dataset"
        repo = self.hub.repos[name] = Repo(said.get("visibility") == "private")
        repo.commit("main", {".gitattributes": b"*.parquet filter=lfs\n"}, "initial commit")
        self._json({"url": f"{self.hub.url}/datasets/{name}"})

    def branch(self, body: bytes, name: str, revision: str) -> None:
        if repo := self._repo(name):
            if revision in repo.branches:
                return self._no(409)
            repo.branches[revision] = repo.branches["main"]
            self._json({})

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        if found := self._files(name, revision):
            repo, files = found
            sha = repo.branches.get(revision, revision)
            self._json({"id": name, "sha": sha, "private": repo.private, "siblings": [{"rfilename": p} for p in files]})

    def model(self, body: bytes, name: str) -> None:
        if name not in self.hub.models:
            return self._no(404, "RepoNotFound")
        self._json({"id": name, "cardData": {"license": self.hub.models[name]}})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if found := self._files(name, revision):
            entries = []
            for path, content in sorted(found[1].items()):
                entry = {"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
                if path.endswith(LARGE):
                    entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
                entries.append(entry)
            self._json(entries)

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if found := self._files(name, revision):
            modes = []
            for entry in json.loads(body)["files"]:
                path = entry["path"]
                there = found[1].get(path)
                oid = None if there is None else sha256(there) if path.endswith(LARGE) else git_id(there)
                mode = "lfs" if path.endswith(LARGE) else "regular"
                modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._json({"files": modes})

    def batch(self, body: bytes, name: str) -> None:
        objects = []
        for entry in json.loads(body)["objects"]:
            if entry["oid"] not in self.hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{entry['oid']}"}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        assert sha256(body) == oid
        self.hub.blobs[oid] = body
        self._send(200)

    def commit(self, body: bytes, name: str, revision: str) -> None:
        if not self.may_write:
            return self._no(403, message="You may not write here")
        if (found := self._files(name, revision)) is None:
            return None
        repo, files = found
        header, *lines = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit") not in (None, repo.branches[revision]):
            return self._no(412, message="A commit has happened since")
        made = dict(files)
        for line in lines:
            value = line["value"]
            large = line["key"] == "lfsFile"
            made[value["path"]] = self.hub.blobs[value["oid"]] if large else base64.b64decode(value["content"])
        commit = repo.commit(revision, made, header["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{commit}", "commitOid": commit})

    def validate(self, body: bytes) -> None:
        if "license: nonsense" in json.loads(body)["content"]:
            answer = {"errors": [{"message": '"license" must be one of those that are known'}], "warnings": []}
            return self._send(400, json.dumps(answer).encode())
        self._json({"errors": [], "warnings": []})

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        if (found := self._files(name, revision)) is None:
            return None
        repo, files = found
        if path not in files:
            return self._no(404, "EntryNotFound")
        content = files[path]
        etag = sha256(content) if path.endswith(LARGE) else git_id(content)
        commit = repo.branches.get(revision, revision)
        self._send(200, content, ETag=f'"{etag}"', X_Repo_Commit=commit, X_Linked_Size=str(len(content)))


_NAME, _REVISION = r"(?P<name>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"GET /api/models/{_NAME}", _Handler.model),
    (rf"GET /api/datasets/{_NAME}", _Handler.info),
    (rf"GET /api/datasets/{_NAME}/revision/{_REVISION}", _Handler.info),
    (rf"GET /api/datasets/{_NAME}/tree/{_REVISION}", _Handler.tree),
    (rf"POST /api/datasets/{_NAME}/branch/{_REVISION}", _Handler.branch),
    (rf"POST /api/datasets/{_NAME}/preupload/{_REVISION}", _Handler.preupload),
    (rf"POST /api/datasets/{_NAME}/commit/{_REVISION}", _Handler.commit),
    (rf"POST /datasets/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", _Handler.put),
    (rf"(?:GET|HEAD) /datasets/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
]


@contextmanager
def serve() -> Iterator[Hub]:
    """The stand-in on a port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
