"""Where a copy of the studio can lie that outlives its disk: a folder, a bucket, or a data set repository of the Hub.

A place holds files below `studio/`. What `write` was given is there when it returns, and survives the end of this
machine as far as the place itself does:

- of a folder on a disk when its bytes and its name are flushed;
- of a bucket that is mounted as a folder when the file is closed, which is when the mount sends it (one that was
  mounted for random writes sends it some seconds later, which no program can see);
- of a bucket and of a repository when the Hub has confirmed it.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlhfv.corrections.mounts import is_bucket_mount
from rlhfv.errors import InvalidData

if TYPE_CHECKING:
    from rlhfv.publishing.hub import Hub

TOP = "studio/"
_READ = "read there (permission 'repo.content.read')"
_WRITE = "write there (role 'write', permission 'repo.write')"
_CREATE = "create it (role 'write', permission 'repo.write')"
FILES_AT_ONCE = 50
MOUNT_SETTLES = 90.0
"""A mount asks every 30 seconds what others wrote and remembers it for 10; two of them, and some to spare."""

Contents = Mapping[str, bytes | Path]


class Place(Protocol):
    """`title` names it in a sentence. `seconds` is how long what nobody waits for may wait for more of it, `settles`
    how long it may take until another machine sees what this one wrote."""

    title: str
    seconds: float
    settles: float

    def outlives(self, space: bool) -> bool:
        """Whether it stays when the disk of this machine goes, as that of a Space does at each restart."""

    def prepare(self) -> None:
        """Makes the place if need be. Raises InvalidData for one that others can read."""

    def names(self, top: str) -> dict[str, int]:
        """The files below the folder `top`, with their sizes in bytes."""

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        """Lays these files down below `folder`, under their names."""

    def write(self, files: Contents, gone: Iterable[str] = ()) -> None:
        """Keeps the files, then takes out those that are `gone`."""

    def forget(self) -> None:
        """What was taken out is in no history either."""


class FolderPlace:
    seconds = 1.0
    settles = 0.0

    def __init__(self, folder: Path):
        self.folder, self.title = Path(folder), f"the folder {folder}"
        self._mounted = is_bucket_mount(self.folder)
        if self._mounted:
            self.settles = MOUNT_SETTLES

    def outlives(self, space: bool) -> bool:
        return self._mounted or not space

    def prepare(self) -> None:
        """Nobody else on this machine may read it: it holds the key of the visitors' cookies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        top = self.folder / TOP
        top.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(OSError):  # a mount may have no such rights
            top.chmod(0o700)

    def names(self, top: str) -> dict[str, int]:
        found = (path for path in (self.folder / TOP / top).rglob("*") if path.is_file())
        return {
            path.relative_to(self.folder / TOP).as_posix(): path.stat().st_size
            for path in found
            if not path.name.startswith(".")
        }

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / TOP / name, folder / name)

    def write(self, files: Contents, gone: Iterable[str] = ()) -> None:
        for name, content in files.items():
            target = self.folder / TOP / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # In a bucket a file appears when it is closed, whole; elsewhere it takes its name when it is whole.
            building = target if self._mounted else target.with_name(f".{target.name}.part")
            with open(building, "wb", opener=_open_private) as file:
                if isinstance(content, Path):
                    with open(content, "rb") as source:
                        shutil.copyfileobj(source, file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if not self._mounted:
                os.replace(building, target)
                _flush_folder(target.parent)
        for name in gone:
            (self.folder / TOP / name).unlink(missing_ok=True)

    def forget(self) -> None:
        pass


class BucketPlace:
    """Over the Hub's own interface: each call is confirmed, and makes no commit."""

    seconds = 2.0
    settles = 0.0

    def __init__(self, hub: "Hub", bucket: str):
        self.hub, self.bucket, self.title = hub, bucket, f"the bucket {bucket}"

    def outlives(self, space: bool) -> bool:
        return True

    def prepare(self) -> None:
        def make(api) -> bool:
            api.create_bucket(self.bucket, private=True, exist_ok=True)
            return api.bucket_info(self.bucket).private

        _require_private(self.hub.ask(f"The look at {self.title}", _CREATE, make), self.title)

    def names(self, top: str) -> dict[str, int]:
        def look(api) -> dict[str, int]:
            found = api.list_bucket_tree(self.bucket, prefix=(TOP + top).rstrip("/"), recursive=True)
            return _below(top, (entry for entry in found if entry.type == "file"))

        return self.hub.ask(f"The look at {self.title}", _READ, look)

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        wanted = [(TOP + name, folder / name) for name in names]
        for _, target in wanted:
            target.parent.mkdir(parents=True, exist_ok=True)
        self.hub.ask(
            f"The download from {self.title}",
            _READ,
            lambda api: api.download_bucket_files(self.bucket, wanted, raise_on_missing_files=True),
        )

    def write(self, files: Contents, gone: Iterable[str] = ()) -> None:
        add = [(content, TOP + name) for name, content in files.items()]
        delete = [TOP + name for name in gone]
        if add or delete:
            self.hub.ask(
                f"The copy to {self.title}",
                _WRITE,
                lambda api: api.batch_bucket_files(self.bucket, add=add, delete=delete),
            )

    def forget(self) -> None:
        pass


class DatasetPlace:
    """One commit a call. The Hub takes about two a minute of one repository, so others are gathered meanwhile."""

    seconds = 30.0
    settles = 0.0

    def __init__(self, hub: "Hub", repo: str):
        from rlhfv.publishing.hub import require_repo_id

        self.hub, self.repo, self.title = hub, require_repo_id(repo), f"the data set {repo}"

    def outlives(self, space: bool) -> bool:
        return True

    def prepare(self) -> None:
        if not self.hub.create(self.repo, private=True):
            info = self.hub.ask(
                f"The look at {self.title}", _READ, lambda api: api.repo_info(self.repo, repo_type="dataset")
            )
            _require_private(info.private, self.title)
            other = [
                path
                for path in self.hub.files(self.repo, self.hub.head(self.repo) or "main")
                if not path.startswith((TOP, "README.md", ".gitattributes"))
            ]
            if other:
                raise InvalidData(
                    f"{_begin(self.title)} holds something else, such as {other[0]}.",
                    "Its history is rewritten whenever something is erased.",
                    "Name a repository of its own; it is made if there is none.",
                )

    def names(self, top: str) -> dict[str, int]:
        def look(api) -> dict[str, int]:
            folder = (TOP + top).rstrip("/")
            found = api.list_repo_tree(self.repo, folder, recursive=True, repo_type="dataset")
            return _below(top, (entry for entry in found if hasattr(entry, "size")))

        return self.hub.ask(f"The look at {self.title}", _READ, look)

    def fetch(self, names: Iterable[str], folder: Path) -> None:
        head = self.hub.head(self.repo)
        with tempfile.TemporaryDirectory(prefix="rlhfv-") as place:
            for name in names:
                found = self.hub.download(self.repo, TOP + name, head, Path(place))
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(found, folder / name)

    def write(self, files: Contents, gone: Iterable[str] = ()) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations = [
            *(CommitOperationAdd(TOP + name, content) for name, content in files.items()),
            *(CommitOperationDelete(TOP + name) for name in gone),
        ]
        if operations:
            # Names are never used twice, so it does not matter what else was committed in between.
            self.hub.commit(self.repo, operations, f"Copy: {len(operations)} files", None)

    def forget(self) -> None:
        self.hub.forget_history(self.repo, "Copy")


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _below(top: str, entries: Iterable) -> dict[str, int]:
    """The names and sizes of these files below `top`; none where there is no such folder yet."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return {entry.path.removeprefix(TOP): entry.size for entry in entries if entry.path.startswith(TOP + top)}
    except EntryNotFoundError:
        return {}


def _require_private(private: bool, title: str) -> None:
    if not private:
        raise InvalidData(
            f"{_begin(title)} is public.",
            "The copy holds everybody's corrections, and who they are.",
            "Make it private, or name another one.",
        )


def _begin(title: str) -> str:
    return title[0].upper() + title[1:]


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some shared folders cannot be opened like this
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
