"""Large files over plain LFS: what is missing, the uploads in one or several parts, and deleting for good."""

import hashlib
import math

from tests.hub.repos import as_date
from tests.hub.storage import Repo
from tests.hub.wire import REPO, Refusal, Request, Response, reply

PAGE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<owner>[^/]+)/(?P<name>[^/]+)"
OBJECT = r"/lfs-storage/(?P<key>[0-9a-f]{32})/(?P<sha256>[0-9a-f]{64})"


class Uploads:
    """Where the signed addresses lead: key → repository and the parts that came so far."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.parts: dict[tuple[str, str], dict[int, bytes]] = {}

    def sign(self, repo: Repo) -> str:
        key = hashlib.md5(repo.path.encode()).hexdigest()
        self.repos[key] = repo
        return key


def batch(hub, request: Request, owner: str, name: str, kind: str = "") -> Response:
    """An upload action for each object that this repository lacks; in parts if it is larger than `hub.part_size`."""
    repo = hub.open(request, kind or "models", owner, name, "write")
    wanted = request.json()
    key = hub.uploads.sign(repo)
    objects = []
    for asked in wanted["objects"]:
        sha256, size = asked["oid"], asked["size"]
        found = {"oid": sha256, "size": size, "authenticated": True}
        if hub.storage.size_of(repo, sha256) is None:
            href = f"{hub.endpoint}/lfs-storage/{key}/{sha256}"
            upload = {"href": href, "header": {}}
            if size > hub.part_size and "multipart" in wanted.get("transfers", []):
                count = math.ceil(size / hub.part_size)
                upload["href"] += "/complete"
                upload["header"] = {str(part): f"{href}/{part}" for part in range(1, count + 1)}
                upload["header"]["chunk_size"] = str(hub.part_size)
            verify = {"href": f"{hub.endpoint}/{repo.page}.git/info/lfs/objects/verify", "header": {}}
            found["actions"] = {"upload": upload, "verify": verify}
        objects.append(found)
    return reply({"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json")


def put(hub, request: Request, key: str, sha256: str) -> Response:
    return store(hub, key, sha256, request.body)


def put_part(hub, request: Request, key: str, sha256: str, part: str) -> Response:
    hub.uploads.parts.setdefault((key, sha256), {})[int(part)] = request.body
    return reply({}, ETag=f'"{hashlib.md5(request.body).hexdigest()}"')


def complete(hub, request: Request, key: str, sha256: str) -> Response:
    parts = hub.uploads.parts.get((key, sha256), {})
    for part in request.json()["parts"]:
        held = hashlib.md5(parts.get(part["partNumber"], b"")).hexdigest()
        if part["etag"].strip('"') != held:
            raise Refusal(400, f"Part {part['partNumber']} is not what was uploaded")
    answer = store(hub, key, sha256, b"".join(parts[number] for number in sorted(parts)))
    del hub.uploads.parts[key, sha256]
    return answer


def store(hub, key: str, sha256: str, data: bytes) -> Response:
    repo = hub.uploads.repos.get(key)
    if repo is None:
        raise Refusal(403, "Request has expired")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Refusal(400, "The content does not have the sha256 of its address")
    hub.storage.keep_large(repo, data)
    return Response(200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})


def verify(hub, request: Request, owner: str, name: str, kind: str = "") -> Response:
    repo = hub.open(request, kind or "models", owner, name, "write")
    wanted = request.json()
    size = hub.storage.size_of(repo, wanted["oid"])
    if size != wanted["size"]:
        raise Refusal(404, f"The object has {size} bytes here, not {wanted['size']}")
    return reply({})


def list_large(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    """All large files of all commits, each once."""
    repo = hub.open(request, kind, owner, name, "write")
    found = {}
    for commit in list(repo.commits.values()):
        for path, file in commit.files.items():
            if file.sha256 and file.sha256 not in found:
                found[file.sha256] = {
                    "fileOid": file.sha256,
                    "oid": file.sha256,
                    "filename": path,
                    "pushedAt": as_date(commit.date),
                    "ref": "main",
                    "size": file.size,
                }
    return reply(list(found.values()))


def delete_large(hub, request: Request, kind: str, owner: str, name: str) -> Response:
    repo = hub.open(request, kind, owner, name, "write")
    wanted = request.json()["deletions"]
    hub.storage.forget_large(repo, set(wanted["sha"]), bool(wanted.get("rewriteHistory")))
    return reply({})


ROUTES = [
    ("POST", PAGE + r"\.git/info/lfs/objects/batch", batch),
    ("POST", PAGE + r"\.git/info/lfs/objects/verify", verify),
    ("PUT", OBJECT, put),
    ("PUT", OBJECT + r"/(?P<part>\d+)", put_part),
    ("POST", OBJECT + r"/complete", complete),
    ("GET", REPO + r"/lfs-files", list_large),
    ("POST", REPO + r"/lfs-files/batch", delete_large),
]
