"""Repositories as a whole: create, delete, move, settings, info, and the check of a card's metadata."""

from tests.hub.storage import Repo
from tests.hub.wire import REPO, REVISION, Refusal, Request, Response, reply

KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}


def as_date(date) -> str:
    return date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03d}Z"


def named_repo(hub, request: Request, owner: str | None, name: str, kind: str | None) -> tuple[str, str]:
    """(kind, "namespace/name") of a body that may leave out the namespace and the kind."""
    if request.token is None:
        raise Refusal(401, "Invalid username or password.")
    return KINDS[kind or "model"], f"{owner or request.token.person}/{name}"


def create(hub, request: Request) -> Response:
    wanted = request.json()
    kind, id = named_repo(hub, request, wanted.get("organization"), wanted["name"], wanted.get("type"))
    private = wanted.get("visibility", "public") == "private"
    with hub.storage.lock:
        repo = hub.storage.repos.get(f"{kind}/{id}")
        if repo is None:
            hub.people.check_namespace(request.token, kind, id.partition("/")[0])
            if kind == "spaces":
                hub.spaces.all[id] = hub.spaces.prepare(hub, id, wanted)
            repo = hub.storage.create(kind, id, request.person, private, wanted.get("sdk"))
            hub.people.note_made(request.token, repo.path)
            return reply({"url": f"{hub.endpoint}/{repo.page}", "name": repo.id, "id": repo.id})
    if not hub.people.may_read(request.token, repo):
        hub.people.check_namespace(request.token, kind, repo.namespace)
    one = kind.removesuffix("s")
    raise Refusal(409, f"You already created this {one} repo: {id}", url=f"{hub.endpoint}/{repo.page}")


def delete(hub, request: Request) -> Response:
    wanted = request.json()
    kind, id = named_repo(hub, request, wanted.get("organization"), wanted["name"], wanted.get("type"))
    repo = hub.open(request, kind, *id.split("/"), "write")
    with hub.storage.lock:
        del hub.storage.repos[repo.path]
        hub.storage.sweep()
    return reply({})


def move(hub, request: Request) -> Response:
    wanted = request.json()
    kind = KINDS[wanted["type"]]
    repo = hub.open(request, kind, *wanted["fromRepo"].split("/"), "write")
    target = wanted["toRepo"]
    hub.people.check_namespace(request.token, kind, target.partition("/")[0])
    with hub.storage.lock:
        if f"{kind}/{target}" in hub.storage.repos:
            raise Refusal(409, f"The repository {target} exists already")
        del hub.storage.repos[repo.path]
        hub.storage.moved[repo.path] = f"{kind}/{target}"
        repo.id = target
        hub.storage.repos[repo.path] = repo
    return reply({})


def change_settings(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    repo = hub.open(request, kind, owner, name, "write")
    repo.private = request.json().get("visibility", "private" if repo.private else "public") == "private"
    return reply({"private": repo.private})


def show(hub, request: Request, kind: str, owner: str, name: str, revision: str = "") -> Response:
    repo = hub.open(request, kind, owner, name, "read")
    return reply(describe(repo, revision or "main", request.flag("blobs")))


def describe(repo: Repo, revision: str, blobs: bool) -> dict:
    commit = repo.commit_at(revision)
    siblings = []
    for path, file in commit.files.items():
        sibling = {"rfilename": path}
        if blobs:
            sibling |= {"size": file.size, "blobId": file.oid}
            if file.sha256:
                sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
        siblings.append(sibling)
    info = {
        "_id": repo.commits[repo.refs[repo.ref_of("main")]].oid[:24],
        "id": repo.id,
        "author": repo.namespace,
        "sha": commit.oid,
        "createdAt": as_date(repo.created),
        "lastModified": as_date(commit.date),
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
    }
    return {**info, "sdk": repo.sdk} if repo.kind == "spaces" else info


def check_card(hub, request: Request) -> Response:
    """The metadata block of a README.md; the Hub warns if there is none."""
    import yaml

    content = request.json().get("content", "")
    opening, _, rest = content.partition("\n")
    block, closing, _ = rest.partition("\n---")
    if opening.strip() != "---" or not closing:
        return reply({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
    try:
        metadata = yaml.safe_load(block)
        problem = None if isinstance(metadata, dict) else "the metadata must be a mapping"
    except yaml.YAMLError as error:
        problem = str(error)
    if problem:
        return reply({"errors": [{"message": problem}], "warnings": []}, 400)
    return reply({"errors": [], "warnings": []})


def list_agents(hub, request: Request) -> Response:
    """The client asks once a day which programs drive it; here none is known."""
    return reply({"standardEnvVars": [], "harnesses": {}})


ROUTES = [
    ("GET", r"/api/agent-harnesses", list_agents),
    ("POST", r"/api/repos/create", create),
    ("DELETE", r"/api/repos/delete", delete),
    ("POST", r"/api/repos/move", move),
    ("POST", r"/api/validate-yaml", check_card),
    ("PUT", REPO + r"/settings", change_settings),
    ("GET", REPO, show),
    ("GET", REPO + r"/revision" + REVISION, show),
]
