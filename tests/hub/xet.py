"""Real Xet without a server of its own: the client stores its chunks in a folder of ours.

The token's `casUrl` is "local://<folder>", and hf-xet reads and writes there as it would on the network. A commit
names a large file by its sha256 only; which Xet hash that is stands in the shards (`*.mdb`) that the client leaves.
Bytes are put together again by hf-xet itself, since a chunk may be compressed in ways that only it knows.
"""

import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.hub.wire import REPO, REVISION, Request, Response, reply

HOUR = 3600
RECORD = 48
HAS_VERIFICATION = 1 << 31
HAS_METADATA = 1 << 30


@dataclass(frozen=True)
class XetFile:
    hash: str
    size: int


class XetStore:
    def __init__(self, folder: Path):
        self.url = f"local://{folder}"
        folder.mkdir(parents=True, exist_ok=True)
        self._store = folder / "xet" / "xorbs"
        self._rebuilt = folder / "rebuilt"
        self._files: dict[str, XetFile] = {}
        self._hashes: dict[str, XetFile] = {}
        self._shards: set[str] = set()
        self._lock = threading.Lock()
        self._session = None

    @property
    def stored_bytes(self) -> int:
        """What the clients have sent so far: the chunks that were new, as compressed for the wire."""
        folder = self._store / "xorbs"
        return sum(path.stat().st_size for path in folder.glob("default.*") if path.suffix != ".tagset")

    def find(self, sha256: str) -> XetFile | None:
        if sha256 not in self._files:
            with self._lock:
                for path in sorted((self._store / "shards").glob("*.mdb")):
                    if path.name not in self._shards:
                        for name, file in read_shard(path.read_bytes()):
                            self._hashes[file.hash] = file
                            if name:
                                self._files[name] = file
                        self._shards.add(path.name)
        return self._files.get(sha256)

    def by_hash(self, hash: str) -> XetFile:
        """A file by its Xet hash: those of buckets come without a sha256. KeyError when nobody has sent it."""
        self.find("")
        return self._hashes[hash]

    def read(self, sha256: str) -> bytes:
        found = self.find(sha256)
        if found is None:
            raise KeyError(f"Nobody has pushed {sha256}.")
        return self.read_hash(found.hash)

    def read_hash(self, hash: str) -> bytes:
        found = self.by_hash(hash)
        target = self._rebuilt / found.hash
        with self._lock:
            if not target.exists():
                self._rebuild(found, target)
        return target.read_bytes()

    def _rebuild(self, file: XetFile, target: Path) -> None:
        import hf_xet

        if self._session is None:
            self._rebuilt.mkdir(exist_ok=True)
            self._session = hf_xet.XetSession(hf_xet.XetConfig().with_config({"telemetry.enabled": False}))
        part = target.with_suffix(".part")
        expires = int(time.time()) + HOUR
        with self._session.new_file_download_group(self.url, "none", expires) as group:
            group.start_download_file(hf_xet.XetFileInfo(file.hash, file.size), str(part))
        part.replace(target)


def read_shard(data: bytes) -> list[tuple[str, XetFile]]:
    """The files of a shard's file section, each with its sha256, or "" where the client has left that out.

    All records have 48 bytes. After the header come, for each file: its record (hash, flags, number of segments), the
    segments (hash of the xorb, flags, bytes, first and last chunk), as many verification records if the flags say
    so, and a record that starts with the sha256 if they say so. A record of 0xff ends the section.
    """
    found, at = [], RECORD
    while at + RECORD <= len(data) and data[at : at + 32] != b"\xff" * 32:
        hash = words(data[at : at + 32])
        flags, count = struct.unpack_from("<II", data, at + 32)
        at += RECORD
        size = sum(struct.unpack_from("<I", data, at + RECORD * index + 36)[0] for index in range(count))
        at += RECORD * count * (2 if flags & HAS_VERIFICATION else 1)
        sha256 = words(data[at : at + 32]) if flags & HAS_METADATA else ""
        at += RECORD if flags & HAS_METADATA else 0
        found.append((sha256, XetFile(hash, size)))
    return found


def words(data: bytes) -> str:
    """A hash as Xet prints it: four little-endian 64-bit numbers."""
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", data))


def give_token(hub, request: Request, kind: str, owner: str, name: str, right: str, revision: str) -> Response:
    """With `create_pr=1` a reader may write too: into the pull request which that commit will open."""
    repo = hub.open(request, kind, owner, name, "read")
    if right == "write" and request.flag("create_pr"):
        hub.people.check_discuss(request.token, repo)
    elif right == "write":
        hub.people.check_write(request.token, repo)
        repo.ref_of(revision)
    return reply_token(hub, f"xet-{right}-{repo.path}")


def reply_token(hub, secret: str) -> Response:
    """Where the bytes go and come from, in headers and text: clients read either."""
    expires = int(time.time()) + HOUR
    headers = {
        "X-Xet-Cas-Url": hub.storage.xet.url,
        "X-Xet-Access-Token": secret,
        "X-Xet-Token-Expiration": str(expires),
    }
    answer = reply({"casUrl": hub.storage.xet.url, "accessToken": secret, "exp": expires})
    return Response(200, answer.body, {**answer.headers, **headers})


ROUTES = [("GET", REPO + r"/xet-(?P<right>read|write)-token" + REVISION, give_token)]
