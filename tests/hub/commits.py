"""Writing: what is to be uploaded how, commits, pull requests by commit, and forgetting the history."""

import base64
import json

from tests.hub.discussions import open_pull
from tests.hub.storage import File, Repo, large_file
from tests.hub.wire import REPO, REVISION, Refusal, Request, Response, reply


def preupload(hub, request: Request, kind: str, owner: str, name: str, revision: str) -> Response:
    """For each file whether it goes to LFS or into the commit, and the id of what is there now."""
    repo = open_for_commit(hub, request, kind, owner, name)
    present = repo.commit_at(revision).files
    answers = []
    for wanted in request.json()["files"]:
        path = wanted["path"]
        sample = base64.b64decode(wanted.get("sample", ""))
        large = hub.storage.is_large(repo, revision, path, wanted["size"], sample)
        answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if path in present:
            answer["oid"] = present[path].etag
        answers.append(answer)
    return reply({"files": answers, "commitOid": repo.commit_at(revision).oid})


def open_for_commit(hub, request: Request, kind: str, owner: str, name: str) -> Repo:
    """Whoever may read may propose: with `create_pr=1` no right to write is needed."""
    if not request.flag("create_pr"):
        return hub.open(request, kind, owner, name, "write")
    repo = hub.open(request, kind, owner, name, "read")
    hub.people.check_discuss(request.token, repo)
    return repo


def commit(hub, request: Request, kind: str, owner: str, name: str, revision: str) -> Response:
    repo = open_for_commit(hub, request, kind, owner, name)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next((line["value"] for line in lines if line["key"] == "header"), {})
    title = header.get("summary", "").strip()
    if not title:
        raise Refusal(400, "A commit needs a summary")
    details = (request.person, title, header.get("description", ""))
    with hub.storage.lock:
        ref = repo.ref_of(revision)
        changes = read_changes(hub, repo, repo.commit_at(ref).files, lines)
        parent = header.get("parentCommit")
        if request.flag("create_pr"):
            if parent not in (None, repo.refs[ref]):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            pull = open_pull(repo, ref, *details)
            made = hub.storage.commit(repo, f"refs/pr/{pull.num}", changes, *details)
        else:
            pull = None
            made = hub.storage.commit(repo, ref, changes, *details, parent=parent)
    answer = {
        "success": True,
        "commitOid": made.oid,
        "commitUrl": f"{hub.endpoint}/{repo.page}/commit/{made.oid}",
        "hookOutput": "",
    }
    if pull:
        answer["pullRequestUrl"] = f"{hub.endpoint}/{repo.page}/discussions/{pull.num}"
    return reply(answer)


def read_changes(hub, repo: Repo, present: dict[str, File], lines: list[dict]) -> dict[str, File | None]:
    changes: dict[str, File | None] = {}
    for line in lines:
        key, value = line["key"], line["value"]
        path = value.get("path", "").strip("/")
        if key == "header":
            continue
        if ".." in path.split("/") or not path:
            raise Refusal(400, f"Invalid path: {value.get('path')!r}")
        if key == "file":
            changes[path] = hub.storage.keep(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            size = hub.storage.size_of(repo, value["oid"])
            if size is None:
                raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {path}")
            changes[path] = large_file(value["oid"], size)
        elif key == "deletedFile":
            if path not in present:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            changes[path] = None
        elif key == "deletedFolder":
            inside = [name for name in present if name.startswith(f"{path}/")]
            if not inside:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            changes.update(dict.fromkeys(inside))
        else:
            raise Refusal(400, f"Unknown operation: {key}")
    return changes


def squash(hub, request: Request, kind: str, owner: str, name: str, revision: str) -> Response:
    repo = hub.open(request, kind, owner, name, "write")
    title = request.json().get("message") or f"Super-squash branch '{revision}'"
    hub.storage.squash(repo, repo.ref_of(revision), request.person, title)
    return reply({"success": True})


ROUTES = [
    ("POST", REPO + r"/preupload" + REVISION, preupload),
    ("POST", REPO + r"/commit" + REVISION, commit),
    ("POST", REPO + r"/super-squash" + REVISION, squash),
]
