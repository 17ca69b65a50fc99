"""The Hub as a test holds it: start and stop it, add people, order faults, look at what it got and what it keeps."""

import os
import re
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from tests.hub import buckets, commits, discussions, files, jobs, lfs, openid, people, repos, spaces, xet
from tests.hub.faults import Fault, Faults
from tests.hub.people import People
from tests.hub.server import HubServer
from tests.hub.storage import Commit, File, Repo, Storage
from tests.hub.wire import Refusal, Request, Route

AREAS = (people, openid, repos, files, commits, discussions, jobs, spaces, buckets, lfs, xet)


class Hub:
    """A Hub on a free port of this machine; its content outlives `stop` and `start`.

    `requests` holds every request so far. `crashes` is what failed in the Hub itself and must stay empty.
    """

    def __init__(self, folder: Path | None = None, port: int = 0):
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="hub-")
        self.storage = Storage(Path(folder or self._temporary.name))
        self.people = People()
        self.faults = Faults()
        self.uploads = lfs.Uploads()
        self.jobs = jobs.Jobs(self.storage.folder / "jobs")
        self.spaces = spaces.Spaces()
        self.openid = openid.OpenId()
        self.part_size = 5_000_000_000
        self.routes: list[Route] = [route for area in AREAS for route in area.ROUTES]
        self.requests: list[Request] = []
        self.crashes: list[str] = []
        self._port = port
        self._server: HubServer | None = None

    def __enter__(self) -> "Hub":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.jobs.stop()
        self.stop()
        if self._temporary:
            self._temporary.cleanup()

    def start(self) -> None:
        """After a stop the port is the same."""
        self._server = HubServer(self, self._port)
        self._port = self._server.server_port

    def stop(self) -> None:
        """As if the machine were gone: new connections are refused, open ones end."""
        if self._server:
            self._server.stop()
            self._server = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    # People

    def user(self, name: str, scopes="write", token: str | None = None) -> str:
        """A token of this person, who is new or known; each call gives another one.

        `scopes` is "write", "read", or for a fine-grained token a dict such as
        `{"datasets/ann/pairs": "repo.write", "ann": ["repo.content.read"]}`.
        """
        return self.people.add(name, scopes, token)

    def organization(self, name: str, **roles: str) -> None:
        """`hub.organization("lab", ann="write", bob="read")`"""
        self.people.organizations[name] = roles

    def revoke(self, token: str) -> None:
        self.people.revoke(token)

    # Faults

    def fail(
        self,
        route: str,
        *,
        times: int | None = 1,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        message: str = "",
        delay: float = 0.0,
        drop: str | None = None,
    ) -> Fault:
        """Orders a fault for the next `times` requests (None: until `heal`) in whose "METHOD /path" the regular
        expression `route` is found. See `Fault` for the kinds; its `hits` says how often it struck."""
        return self.faults.add(Fault(re.compile(route), status, headers or {}, message, delay, drop, times))

    def heal(self) -> None:
        """No fault is left."""
        self.faults.clear()

    # What came in

    def requests_to(self, route: str) -> list[Request]:
        """The requests in whose "METHOD /path" the regular expression is found."""
        return [request for request in list(self.requests) if re.search(route, str(request))]

    @property
    def received_bytes(self) -> int:
        """Bytes of all request bodies. Over Xet a file's bytes are not among them, see `xet_bytes`."""
        return sum(request.received for request in list(self.requests))

    @property
    def xet_bytes(self) -> int:
        """Bytes that the clients have stored over Xet: new chunks only, compressed as on the wire."""
        return self.storage.xet.stored_bytes

    @property
    def leaks(self) -> list[str]:
        """Requests that carried somebody's token anywhere but in the Authorization header."""
        held = [(request, ", ".join(request.leaks)) for request in list(self.requests) if request.leaks]
        return [f"{request} holds the token of {names}" for request, names in held]

    @property
    def unknown(self) -> list[str]:
        """Requests that this Hub has no route for."""
        return [str(request) for request in list(self.requests) if not request.known]

    # What is kept

    def repo(self, repo: str, repo_type: str = "dataset") -> Repo:
        return self.storage.repos[f"{repo_type}s/{repo}"]

    def commits(self, repo: str, revision: str = "main", repo_type: str = "dataset") -> list[Commit]:
        """Newest first; the last one is the Hub's own initial commit."""
        return self.repo(repo, repo_type).history(revision)

    def paths(self, repo: str, revision: str = "main", repo_type: str = "dataset") -> list[str]:
        return list(self.repo(repo, repo_type).commit_at(revision).files)

    def file(self, repo: str, path: str, revision: str = "main", repo_type: str = "dataset") -> bytes:
        return self.storage.read(self.repo(repo, repo_type).commit_at(revision).files[path])

    def commit_as(
        self,
        user: str,
        repo: str,
        changes: dict[str, bytes | None],
        message: str = "Changed by hand",
        revision: str = "main",
        repo_type: str = "dataset",
    ) -> str:
        """Somebody else's commit, past all rights and faults; None deletes. Returns its id."""
        found = self.repo(repo, repo_type)
        with self.storage.lock:
            new: dict[str, File | None] = dict.fromkeys(changes)
            for path, data in changes.items():
                if data is None:
                    continue
                if self.storage.is_large(found, revision, path, len(data), data[:512]):
                    new[path] = self.storage.keep_large(found, data)
                else:
                    new[path] = self.storage.keep(data)
            return self.storage.commit(found, found.ref_of(revision), new, user, message).oid

    def find(self, needle: bytes | str, history: bool = False) -> list[str]:
        """Files that hold these bytes, as "datasets/ann/pairs@<commit>:<path>": in the heads, or in all commits.

        The bytes as they are stored: a text that Parquet has compressed is not seen.
        """
        needle = needle.encode() if isinstance(needle, str) else needle
        places = []
        for repo in list(self.storage.repos.values()):
            oids = list(repo.commits) if history else list(dict.fromkeys(repo.refs.values()))
            contents: dict[str, bool] = {}
            for oid in oids:
                for path, file in repo.commits[oid].files.items():
                    if file.oid not in contents:
                        contents[file.oid] = needle in self.storage.read(file)
                    if contents[file.oid] or needle in path.encode():
                        places.append(f"{repo.path}@{oid[:8]}:{path}")
        return places

    # For the clients

    def environment(self, token: str | None, home: Path, xet: bool = True) -> dict[str, str]:
        """The environment of a process whose `huggingface_hub` and `datasets` talk to this Hub and to no other."""
        inherited = {
            name: text for name, text in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
        }
        return inherited | self.settings(token, home, xet)

    def settings(self, token: str | None, home: Path, xet: bool = True) -> dict[str, str]:
        """What of `environment` is this Hub's doing."""
        settings = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
        }
        return {**settings, "HF_TOKEN": token} if token else settings

    # For the areas

    def open(self, request: Request, kind: str, owner: str, name: str, right: str) -> Repo:
        """The repository, if the request may "read" or "write" it. To strangers a private one does not exist."""
        path = f"{kind}/{owner}/{name}"
        repo = self.storage.repos.get(path)
        if repo is None and path in self.storage.moved:
            old, new = f"{owner}/{name}", self.storage.moved[path].partition("/")[2]
            moved = Refusal(307, f"This repository is {new} now")
            query = f"?{urlencode(request.query, doseq=True)}" if request.query else ""
            moved.headers["Location"] = self.endpoint + request.path.replace(old, new, 1) + query
            raise moved
        if repo is None or not self.people.may_read(request.token, repo):
            if request.token is None:
                # The client reads such a 401 as "not found" by the address alone, but only where that is https.
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if right == "write":
            self.people.check_write(request.token, repo)
        return repo
