"""Discussions and pull requests: open, list, show, comment, close, merge."""

from datetime import UTC, datetime

from tests.hub.repos import as_date
from tests.hub.storage import Discussion, Repo
from tests.hub.wire import REPO, Refusal, Request, Response, reply

PAGE = 10
NUMBER = r"/discussions/(?P<num>\d+)"


def make_event(kind: str, author: str, data: dict, number: int) -> dict:
    return {
        "id": f"{number:024x}",
        "type": kind,
        "createdAt": as_date(datetime.now(UTC)),
        "author": {"name": author},
        "data": data,
    }


def add_event(discussion: Discussion, kind: str, author: str, data: dict) -> dict:
    discussion.events.append(make_event(kind, author, data, len(discussion.events)))
    return discussion.events[-1]


def add_comment(discussion: Discussion, author: str, text: str) -> dict:
    return add_event(discussion, "comment", author, {"edited": False, "hidden": False, "latest": {"raw": text}})


def open_discussion(repo: Repo, author: str, title: str, text: str, base: str | None, status: str) -> Discussion:
    found = Discussion(len(repo.discussions) + 1, title, author, datetime.now(UTC), status, base)
    repo.discussions.append(found)
    add_comment(found, author, text)
    if base:
        repo.refs[f"refs/pr/{found.num}"] = repo.refs[base]
    return found


def open_pull(repo: Repo, base: str, author: str, title: str, text: str) -> Discussion:
    """A pull request that is open at once, as a commit with `create_pr` makes it."""
    return open_discussion(repo, author, title, text, base, "open")


def find(repo: Repo, num: str) -> Discussion:
    if not 0 < int(num) <= len(repo.discussions):
        raise Refusal(404, "This discussion does not exist")
    return repo.discussions[int(num) - 1]


def summarize(repo: Repo, discussion: Discussion) -> dict:
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": as_date(discussion.date),
        "status": discussion.status,
        "repo": {"name": repo.id, "type": repo.kind.removesuffix("s")},
        "isPullRequest": discussion.base is not None,
    }


def list_all(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    found = repo.discussions[::-1]
    wanted = request.query.get("type", ["all"])[-1]
    if wanted != "all":
        found = [one for one in found if (one.base is not None) == (wanted == "pull_request")]
    status = request.query.get("status", ["all"])[-1]
    if status != "all":
        found = [one for one in found if (one.status in ("open", "draft")) == (status == "open")]
    author = request.query.get("author", [None])[-1]
    found = [one for one in found if author in (None, one.author)]
    start = int(request.query.get("p", ["0"])[-1]) * PAGE
    page = [summarize(repo, one) for one in found[start : start + PAGE]]
    return reply({"count": len(found), "start": start, "discussions": page})


def create(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    hub.people.check_discuss(request.token, repo)
    wanted = request.json()
    pull = bool(wanted.get("pullRequest"))
    with hub.storage.lock:
        base, status = (repo.ref_of("main"), "draft") if pull else (None, "open")
        made = open_discussion(repo, request.person, wanted["title"], wanted.get("description", ""), base, status)
    return reply({"num": made.num, "url": f"{hub.endpoint}/{repo.page}/discussions/{made.num}", "pullRequest": pull})


def show(hub, request: Request, kind: str, owner: str, name: str, num: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    found = find(repo, num)
    answer = {**summarize(repo, found), "events": found.events, "diff": ""}
    if found.base:
        answer["filesWithConflicts"] = conflicts(repo, found)
        answer["changes"] = {"base": found.base, "mergeCommitId": found.merged_as}
    return reply(answer)


def changed_files(repo: Repo, old: str, new: str) -> dict:
    """path → File, or None where it is gone, of what differs between two commits."""
    before, after = repo.commits[old].files, repo.commits[new].files
    return {path: after.get(path) for path in {*before, *after} if before.get(path) != after.get(path)}


def fork_point(repo: Repo, base: str, head: str) -> str:
    known = {commit.oid for commit in repo.history(base)}
    return next(commit.oid for commit in repo.history(head) if commit.oid in known)


def conflicts(repo: Repo, pull: Discussion) -> list[str]:
    head = f"refs/pr/{pull.num}"
    try:
        start = fork_point(repo, pull.base, head)
    except StopIteration:
        return sorted(changed_files(repo, repo.refs[pull.base], repo.refs[head]))
    ours, theirs = (changed_files(repo, start, repo.refs[ref]) for ref in (pull.base, head))
    return sorted(path for path in ours.keys() & theirs.keys() if ours[path] != theirs[path])


def comment(hub, request: Request, kind: str, owner: str, name: str, num: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    hub.people.check_discuss(request.token, repo)
    return reply({"newMessage": add_comment(find(repo, num), request.person, request.json()["comment"])})


def change_status(hub, request: Request, kind: str, owner: str, name: str, num: str) -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    found = find(repo, num)
    if request.token is None or request.person != found.author:
        hub.people.check_write(request.token, repo)
    found.status = request.json()["status"]
    return reply({"newStatus": add_event(found, "status-change", request.person, {"status": found.status})})


def merge(hub, request: Request, kind: str, owner: str, name: str, num: str) -> Response:
    repo = hub.open(request, kind, owner, name, "write")
    with hub.storage.lock:
        pull = find(repo, num)
        if pull.base is None or pull.status not in ("open", "draft"):
            raise Refusal(400, "This is no open pull request")
        clashing = conflicts(repo, pull)
        if clashing:
            raise Refusal(409, f"This pull request has conflicts in {', '.join(clashing)}")
        head = f"refs/pr/{pull.num}"
        start = fork_point(repo, pull.base, head)
        changes = changed_files(repo, start, repo.refs[head])
        made = hub.storage.commit(repo, pull.base, changes, request.person, f"{pull.title} (#{pull.num})")
        pull.status, pull.merged_as = "merged", made.oid
        add_event(pull, "status-change", request.person, {"status": "merged"})
    return reply({"newCommitOid": made.oid})


ROUTES = [
    ("GET", REPO + r"/discussions", list_all),
    ("POST", REPO + r"/discussions", create),
    ("GET", REPO + NUMBER, show),
    ("POST", REPO + NUMBER + r"/comment", comment),
    ("POST", REPO + NUMBER + r"/status", change_status),
    ("POST", REPO + NUMBER + r"/merge", merge),
]
