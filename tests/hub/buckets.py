"""Buckets: files without commits. The bytes come over Xet only, and each batch of changes is confirmed."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote

from tests.hub.repos import as_date
from tests.hub.wire import Refusal, Request, Response, reply, reply_page
from tests.hub.xet import reply_token

BUCKET = r"/api/buckets/(?P<owner>[^/]+)/(?P<name>[^/]+)"
TREE_PAGE = 1000


@dataclass
class Bucket:
    """`files` is path → Xet hash."""

    private: bool
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    files: dict[str, str] = field(default_factory=dict)


def open_bucket(hub, request: Request, owner: str, name: str, write: bool = False) -> Bucket:
    bucket = hub.spaces.stored.get(f"{owner}/{name}")
    if bucket is None or (bucket.private and request.token is None):
        raise Refusal(404, "Bucket not found", "RepoNotFound")
    if write or bucket.private:
        hub.people.check_namespace(request.token, "buckets", owner)
    return bucket


def create_bucket(hub, request: Request, owner: str, name: str) -> Response:
    id = f"{owner}/{name}"
    hub.people.check_namespace(request.token, "buckets", owner)
    if id in hub.spaces.buckets:
        raise Refusal(409, f"Bucket {id} already exists", url=f"{hub.endpoint}/buckets/{id}")
    hub.spaces.buckets[id] = request.json().get("visibility") == "private"
    hub.spaces.stored[id] = Bucket(hub.spaces.buckets[id])
    return reply({"url": f"{hub.endpoint}/buckets/{id}"})


def show_bucket(hub, request: Request, owner: str, name: str) -> Response:
    bucket = open_bucket(hub, request, owner, name)
    size = sum(hub.storage.xet.by_hash(hash).size for hash in bucket.files.values())
    about = {"id": f"{owner}/{name}", "private": bucket.private, "createdAt": as_date(bucket.created)}
    return reply({**about, "size": size, "totalFiles": len(bucket.files)})


def describe_file(hub, path: str, hash: str) -> dict:
    return {"type": "file", "path": path, "size": hub.storage.xet.by_hash(hash).size, "xetHash": hash}


def list_tree(hub, request: Request, owner: str, name: str, prefix: str = "") -> Response:
    bucket = open_bucket(hub, request, owner, name)
    found = [describe_file(hub, path, hash) for path, hash in sorted(bucket.files.items()) if path.startswith(prefix)]
    return reply_page(hub, request, found, TREE_PAGE)


def show_paths(hub, request: Request, owner: str, name: str) -> Response:
    bucket = open_bucket(hub, request, owner, name)
    asked = request.json().get("paths", [])
    return reply([describe_file(hub, path, bucket.files[path]) for path in asked if path in bucket.files])


def change_files(hub, request: Request, owner: str, name: str) -> Response:
    bucket = open_bucket(hub, request, owner, name, write=True)
    with hub.storage.lock:
        for line in request.body.splitlines():
            row = json.loads(line)
            if row["type"] == "addFile":
                hub.storage.xet.by_hash(row["xetHash"])  # else nobody sent its bytes
                bucket.files[row["path"]] = row["xetHash"]
            elif row["type"] == "deleteFile":
                bucket.files.pop(row["path"], None)
            else:
                raise Refusal(400, f"No operation {row['type']}")
    return reply({"success": True, "failed": []})


def give_token(hub, request: Request, owner: str, name: str, right: str) -> Response:
    open_bucket(hub, request, owner, name, write=right == "write")
    return reply_token(hub, f"xet-{right}-buckets/{owner}/{name}")


def send_file(hub, request: Request, owner: str, name: str, path: str) -> Response:
    bucket = open_bucket(hub, request, owner, name)
    hash = bucket.files.get(unquote(path))
    if hash is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    size = hub.storage.xet.by_hash(hash).size
    headers = {
        "X-Xet-Hash": hash,
        "X-Xet-Refresh-Route": f"{hub.endpoint}/api/buckets/{owner}/{name}/xet-read-token",
        "X-Linked-Size": str(size),
        "Content-Length": str(size),
    }
    return Response(200, b"" if request.method == "HEAD" else hub.storage.xet.read_hash(hash), headers)


ROUTES = [
    ("POST", BUCKET, create_bucket),
    ("GET", BUCKET, show_bucket),
    ("GET", BUCKET + r"/tree(?:/(?P<prefix>.*))?", list_tree),
    ("POST", BUCKET + r"/paths-info", show_paths),
    ("POST", BUCKET + r"/batch", change_files),
    ("GET", BUCKET + r"/xet-(?P<right>read|write)-token", give_token),
    ("GET", r"/buckets/(?P<owner>[^/]+)/(?P<name>[^/]+)/resolve/(?P<path>.+)", send_file),
]
