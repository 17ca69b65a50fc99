"""Content-addressed repositories as git keeps them: blobs, trees, commits with parents, refs.

Small files are blobs in memory. Of a large file the repository holds the LFS pointer; its bytes are in the folder
`lfs` or, pushed over Xet, in the content-addressed store of `xet.py`.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from tests.hub.wire import Refusal
from tests.hub.xet import XetStore

MAIN = "refs/heads/main"
LARGE = 10 * 1024 * 1024
LARGE_NAMES = "7z arrow bin bz2 ckpt gz h5 jpg jpeg gif mp4 msgpack npy npz onnx parquet pickle pkl png pt pth".split()
LARGE_NAMES += "safetensors tar tiff wav webp xz zip zst".split()
ATTRIBUTES = "".join(f"*.{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LARGE_NAMES).encode()


@dataclass(frozen=True)
class File:
    """`oid` is the git id of the blob, for a large file that of its pointer; `sha256` only a large file has."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Commit:
    oid: str
    parents: tuple[str, ...]
    author: str
    date: datetime
    title: str
    message: str
    files: dict[str, File] = field(repr=False)


@dataclass
class Discussion:
    """A discussion or, with `base`, a pull request whose head is the ref `refs/pr/{num}`."""

    num: int
    title: str
    author: str
    date: datetime
    status: str
    base: str | None = None
    merged_as: str | None = None
    events: list[dict] = field(default_factory=list)


@dataclass
class Repo:
    kind: str
    id: str
    private: bool
    created: datetime
    sdk: str | None = None
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    discussions: list[Discussion] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.id}"

    @property
    def page(self) -> str:
        """The path of its web page and of its files: models have no prefix."""
        return self.id if self.kind == "models" else self.path

    def ref_of(self, revision: str) -> str:
        """The full name of the branch or pull request."""
        ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        if ref not in self.refs:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return ref

    def commit_at(self, revision: str) -> Commit:
        return self.commits[revision if revision in self.commits else self.refs[self.ref_of(revision)]]

    def history(self, revision: str) -> list[Commit]:
        """Newest first, along the first parents."""
        commits = [self.commit_at(revision)]
        while commits[-1].parents:
            commits.append(self.commits[commits[-1].parents[0]])
        return commits


def git_oid(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


def make_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def large_file(sha256: str, size: int) -> File:
    return File(git_oid("blob", make_pointer(sha256, size)), size, sha256)


def folder_oids(files: dict[str, File]) -> dict[str, str]:
    """The git tree id of each folder; the root's is under ""."""
    entries: dict[str, list[tuple[str, str, str]]] = {"": []}
    for path in files:
        for depth in range(path.count("/") + 1):
            entries.setdefault("/".join(path.split("/")[:depth]), [])
    oids: dict[str, str] = {}
    for path, file in files.items():
        folder, _, name = path.rpartition("/")
        entries[folder].append((name, "100644", file.oid))
    for folder in sorted(entries, key=lambda name: (-name.count("/"), name == "")):
        lines = sorted(entries[folder], key=lambda line: line[0] + "/" * (line[1] == "40000"))
        tree = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(oid) for name, mode, oid in lines)
        oids[folder] = git_oid("tree", tree)
        if folder:
            above, _, name = folder.rpartition("/")
            entries[above].append((name, "40000", oids[folder]))
    return oids


def make_commit(
    files: dict[str, File], parents: tuple[str, ...], author: str, title: str, message: str, date: datetime
) -> Commit:
    who = f"{author} <{author}@users.noreply> {date.timestamp():.6f} +0000"
    lines = [f"tree {folder_oids(files)['']}", *(f"parent {parent}" for parent in parents)]
    text = "\n".join([*lines, f"author {who}", f"committer {who}", "", title, "", message])
    return Commit(git_oid("commit", text.encode()), parents, author, date, title, message, files)


class Storage:
    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.repos: dict[str, Repo] = {}
        self.moved: dict[str, str] = {}
        self.xet = XetStore(folder / "xet")
        self._lfs = folder / "lfs"
        self._lfs.mkdir(parents=True, exist_ok=True)
        self._blobs: dict[str, bytes] = {}

    def create(self, kind: str, id: str, author: str, private: bool, sdk: str | None = None) -> Repo:
        """A new repository with its first commit, as the Hub makes it."""
        with self.lock:
            repo = Repo(kind, id, private, datetime.now(UTC), sdk)
            self.repos[repo.path] = repo
            self.moved.pop(repo.path, None)
            self.commit(repo, MAIN, {".gitattributes": self.keep(ATTRIBUTES)}, author, "initial commit")
            return repo

    def keep(self, data: bytes) -> File:
        """Stores a small file."""
        oid = git_oid("blob", data)
        self._blobs[oid] = data
        return File(oid, len(data))

    def keep_large(self, repo: Repo, data: bytes) -> File:
        sha256 = hashlib.sha256(data).hexdigest()
        target = self._lfs / sha256
        with self.lock:
            if not target.exists():
                target.write_bytes(data)
            repo.large.add(sha256)
        return large_file(sha256, len(data))

    def size_of(self, repo: Repo, sha256: str) -> int | None:
        """Of a large file; None if nobody has uploaded it here."""
        if sha256 in repo.large:
            return (self._lfs / sha256).stat().st_size
        found = self.xet.find(sha256)
        return found.size if found else None

    def read(self, file: File) -> bytes:
        if file.sha256 is None:
            return self._blobs[file.oid]
        own = self._lfs / file.sha256
        return own.read_bytes() if own.exists() else self.xet.read(file.sha256)

    def is_large(self, repo: Repo, revision: str, path: str, size: int, sample: bytes) -> bool:
        """Whether the path goes to LFS or Xet: by `.gitattributes`, by its size, or because it is no text."""
        rules = repo.commit_at(revision).files.get(".gitattributes")
        lines = self.read(rules).decode().splitlines() if rules else []
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        name = path.rpartition("/")[2]
        return size > LARGE or b"\0" in sample or any(fnmatch(name, pattern) for pattern in patterns)

    def commit(
        self,
        repo: Repo,
        ref: str,
        changes: dict[str, File | None],
        author: str,
        title: str,
        message: str = "",
        parent: str | None = None,
    ) -> Commit:
        """Puts the changes (None deletes) on top of `ref`; Refusal 412 if a given `parent` is not what is there."""
        with self.lock:
            head = repo.refs.get(ref)
            if parent not in (None, head):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = {**(repo.commits[head].files if head else {}), **changes}
            files = {path: file for path, file in sorted(files.items()) if file is not None}
            commit = make_commit(files, (head,) if head else (), author, title, message, datetime.now(UTC))
            repo.commits[commit.oid] = commit
            repo.refs[ref] = commit.oid
            return commit

    def squash(self, repo: Repo, ref: str, author: str, title: str) -> None:
        """The branch becomes one commit without parents; what no ref reaches any longer is gone."""
        with self.lock:
            files = repo.commits[repo.refs[ref]].files
            commit = make_commit(files, (), author, title, "", datetime.now(UTC))
            repo.commits[commit.oid] = commit
            repo.refs[ref] = commit.oid
            self.prune(repo)

    def forget_large(self, repo: Repo, shas: set[str], rewrite: bool) -> None:
        """Deletes large files for good; with `rewrite` no commit of the history names them any longer."""
        with self.lock:
            repo.large -= shas
            if rewrite:
                new: dict[str, str] = {}
                for commit in list(repo.commits.values()):
                    files = {path: file for path, file in commit.files.items() if file.sha256 not in shas}
                    parents = tuple(new[parent] for parent in commit.parents)
                    made = make_commit(files, parents, commit.author, commit.title, commit.message, commit.date)
                    new[commit.oid] = made.oid
                    repo.commits[made.oid] = made
                repo.refs = {ref: new[oid] for ref, oid in repo.refs.items()}
            self.prune(repo)

    def prune(self, repo: Repo) -> None:
        reached: set[str] = set()
        waiting = list(repo.refs.values())
        while waiting:
            oid = waiting.pop()
            if oid not in reached:
                reached.add(oid)
                waiting.extend(repo.commits[oid].parents)
        repo.commits = {oid: commit for oid, commit in repo.commits.items() if oid in reached}
        self.sweep()

    def sweep(self) -> None:
        """Removes the bytes that no repository has any longer."""
        commits = [commit for repo in self.repos.values() for commit in repo.commits.values()]
        blobs = {file.oid for commit in commits for file in commit.files.values()}
        large = {sha for repo in self.repos.values() for sha in repo.large}
        self._blobs = {oid: data for oid, data in self._blobs.items() if oid in blobs}
        for path in self._lfs.iterdir():
            if path.name not in large:
                path.unlink()
