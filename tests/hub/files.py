"""Reading a repository: its tree, single paths, refs, history, and the files themselves."""

import re
from itertools import pairwise

from tests.hub.repos import as_date
from tests.hub.storage import Commit, File, Repo, folder_oids, make_pointer
from tests.hub.wire import REPO, REVISION, Refusal, Request, Response, reply, reply_page

TREE_PAGE = 1000
COMMITS_PAGE = 50
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def describe_file(hub, path: str, file: File) -> dict:
    entry = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.sha256:
        pointer = make_pointer(file.sha256, file.size)
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(pointer)}
        xet = hub.storage.xet.find(file.sha256)
        if xet:
            entry["xetHash"] = xet.hash
    return entry


def last_change(repo: Repo, commit: Commit, path: str) -> dict:
    """The newest commit in which the path (a file or a folder) became what it is."""

    def content(at: Commit) -> dict:
        return {name: file for name, file in at.files.items() if name == path or name.startswith(path + "/")}

    history = repo.history(commit.oid)
    now = content(commit)
    found = next((new for new, old in pairwise(history) if content(old) != now), history[-1])
    return {"id": found.oid, "title": found.title, "date": as_date(found.date)}


def entries_under(hub, commit: Commit, folder: str, deep: bool) -> list[dict]:
    """Folders and files under `folder`, by path; Refusal 404 if it is none."""
    oids = folder_oids(commit.files)
    if folder not in oids:
        raise Refusal(404, f"{folder} does not exist on this revision", "EntryNotFound")
    start = f"{folder}/" if folder else ""
    found = [
        {"type": "directory", "oid": oid, "size": 0, "path": path}
        for path, oid in oids.items()
        if path and path.startswith(start)
    ]
    found += [describe_file(hub, path, file) for path, file in commit.files.items() if path.startswith(start)]
    found = [entry for entry in found if deep or "/" not in entry["path"][len(start) :]]
    return sorted(found, key=lambda entry: entry["path"])


def list_tree(hub, request: Request, kind: str, owner: str, name: str, revision: str, folder: str = "") -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    commit = repo.commit_at(revision)
    found = entries_under(hub, commit, folder.strip("/"), request.flag("recursive"))
    if request.flag("expand"):
        found = [{**entry, "lastCommit": last_change(repo, commit, entry["path"])} for entry in found]
    return reply_page(hub, request, found, TREE_PAGE)


def show_paths(hub, request: Request, kind: str, owner: str, name: str, revision: str) -> Response:
    """The entries of those paths that exist."""
    repo = hub.open(request, kind, owner, name, "read")
    commit = repo.commit_at(revision)
    asked = request.form()
    oids = folder_oids(commit.files)
    found = []
    for path in asked.get("paths", []):
        if path in commit.files:
            found.append(describe_file(hub, path, commit.files[path]))
        elif path and path in oids:
            found.append({"type": "directory", "oid": oids[path], "size": 0, "path": path})
    if str(asked.get("expand", [""])[0]).lower() == "true":
        found = [{**entry, "lastCommit": last_change(repo, commit, entry["path"])} for entry in found]
    return reply(found)


def list_refs(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    branches, pulls = [], []
    for ref, oid in repo.refs.items():
        if ref.startswith("refs/heads/"):
            branches.append({"name": ref.removeprefix("refs/heads/"), "ref": ref, "targetCommit": oid})
        else:
            pulls.append({"name": ref.removeprefix("refs/"), "ref": ref, "targetCommit": oid})
    answer = {"branches": branches, "converts": [], "tags": []}
    return reply({**answer, "pullRequests": pulls} if request.flag("include_prs") else answer)


def list_commits(hub, request: Request, kind: str, owner: str, name: str, revision: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    found = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author, "avatar": ""}],
            "date": as_date(commit.date),
        }
        for commit in repo.history(revision)
    ]
    return reply_page(hub, request, found, COMMITS_PAGE)


def send_file(hub, request: Request, owner: str, name: str, revision: str, path: str, kind: str = "") -> Response:
    """The bytes, whole or a range, with what the client's cache and hf-xet need to know in the headers."""
    repo = hub.open(request, kind or "models", owner, name, "read")
    commit = repo.commit_at(revision)
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    file = commit.files.get(path)
    if file is None:
        missing = Refusal(404, "Entry not found", "EntryNotFound")
        missing.headers = headers
        raise missing
    headers |= {"ETag": f'"{file.etag}"', "Content-Type": "application/octet-stream"}
    if file.sha256:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        xet = hub.storage.xet.find(file.sha256)
        if xet:
            route = f"{hub.endpoint}/api/{repo.path}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": xet.hash, "X-Xet-Refresh-Route": route}
    if request.method == "HEAD":
        return Response(200, b"", {**headers, "Content-Length": str(file.size)})
    data = hub.storage.read(file)
    asked = RANGE.fullmatch(request.headers.get("range", ""))
    if not asked or asked[0] == "bytes=-":
        return Response(200, data, headers)
    first, last = asked.groups()
    start = int(first) if first else max(len(data) - int(last), 0)
    stop = min(int(last) + 1 if first and last else len(data), len(data))
    if start >= stop:
        return Response(416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return Response(206, data[start:stop], headers)


ROUTES = [
    ("GET", REPO + r"/tree" + REVISION + r"(?:/(?P<folder>.*))?", list_tree),
    ("POST", REPO + r"/paths-info" + REVISION, show_paths),
    ("GET", REPO + r"/refs", list_refs),
    ("GET", REPO + r"/commits" + REVISION, list_commits),
    (
        "GET",
        r"/(?:(?P<kind>datasets|spaces)/)?(?P<owner>[^/]+)/(?P<name>[^/]+)/resolve" + REVISION + r"/(?P<path>.+)",
        send_file,
    ),
]
