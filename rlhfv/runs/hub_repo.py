"""The private repository that runs stand in: looked at with few requests, changed only as it was seen, and asked again
while the Hub is busy or others commit."""

import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import InvalidData, NotFound, RunFailed

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

    from rlhfv.publishing.hub import Hub

TRIES = 8
KIND = "model"


class HubRepo:
    """One repository of runs, as one person's token may see and change it.

    Args:
        patience: seconds that a busy Hub may ask to wait; for more it is given up.
        wait: sleeps between two tries.
    """

    def __init__(self, hub: "Hub", repo: str, patience: float, wait: Callable[[float], None] = time.sleep):
        from rlhfv.publishing.hub import require_repo_id

        self.hub, self.repo, self.patience, self.wait = hub, require_repo_id(repo), patience, wait
        self._known: dict[str, dict] = {}

    # ---- whether it is there

    def exists(self) -> bool:
        """Whether the repository is there, for this token."""
        return self.repeat(lambda: self.hub.head(self.repo, KIND)) is not None

    def head(self) -> str:
        """The newest commit. Raises NotFound when there is no repository."""
        head = self.repeat(lambda: self.hub.head(self.repo, KIND))
        if head is None:
            raise NotFound(
                f"There is no repository {self.repo}, or the token does not see it.",
                "Runs are taken from a private repository of the kind model.",
                "Check its name and the token; `python -m rlhfv runs send` creates it.",
            )
        return head

    def require_private_if_there(self) -> None:
        """Raises RunFailed for a public repository; one that is not there yet is created private."""
        if self.exists():
            self.require_private()

    def require_private(self) -> None:
        from rlhfv.publishing.hub import READ

        look = lambda api: api.repo_info(self.repo, repo_type=KIND).private  # noqa: E731
        if not self.hub.ask(f"The look at {self.repo}", READ, look):
            raise RunFailed(
                f"The repository {self.repo} is public.",
                "A run holds pictures and texts that nobody has published yet.",
                "Name a private one, or one that is not there yet: it is created private.",
            )

    # ---- how it is read and changed

    def repeat(self, act: Callable):
        """What `act` gets at last, tried again while the Hub is busy or others commit."""
        from rlhfv.publishing.hub import HubBusy, HubMoved

        for number in range(1, TRIES + 1):
            try:
                return act()
            except (HubBusy, HubMoved) as error:
                asked = getattr(error, "wait", None)
                if number == TRIES or (asked or 0) > self.patience:
                    raise
                seconds = asked if asked is not None else min(2 ** (number - 2), 20) * random.uniform(0.5, 1)
            self.wait(seconds)

    def read_folder(self, folder: str, head: str) -> list[tuple[str, dict, datetime]]:
        """(name, content, time of the last change) of the JSON files in a folder; only new content is downloaded."""
        from rlhfv.publishing.hub import READ

        def look(api: "HfApi") -> list:
            from huggingface_hub.errors import EntryNotFoundError

            try:
                return list(api.list_repo_tree(self.repo, folder, revision=head, expand=True, repo_type=KIND))
            except EntryNotFoundError:
                return []

        entries = self.repeat(lambda: self.hub.ask(f"The look at {self.repo}", READ, look))
        new = [entry.path for entry in entries if entry.blob_id not in self._known]
        if new:
            with tempfile.TemporaryDirectory(prefix="look-") as work:
                self.snapshot(new, head, Path(work))
                for entry in entries:
                    if entry.path in new:
                        self._known[entry.blob_id] = _read_json(Path(work, entry.path))
        return [(Path(entry.path).stem, self._known[entry.blob_id], entry.last_commit.date) for entry in entries]

    def snapshot(self, patterns: list[str], commit: str, folder: Path) -> Path:
        """Download the files of `commit` that fit one of the patterns below `folder`, and return that."""
        from rlhfv.publishing.hub import READ

        def download(api: "HfApi") -> str:
            return api.snapshot_download(
                self.repo, repo_type=KIND, revision=commit, allow_patterns=patterns, local_dir=folder
            )

        self.repeat(lambda: self.hub.ask(f"The download from {self.repo}", READ, download))
        return folder

    def upload(self, additions: "Iterable[CommitOperationAdd]") -> None:
        """Bring the bytes of large files to the Hub; a later commit then names them in no time."""

        def send(api: "HfApi") -> None:
            api.preupload_lfs_files(self.repo, list(additions), repo_type=KIND)

        from rlhfv.publishing.hub import WRITE

        self.repeat(lambda: self.hub.ask(f"The push to {self.repo}", WRITE, send))


def _read_json(path: Path) -> dict:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(read, dict):
            return read
    except ValueError:
        pass
    raise InvalidData(
        f"{path.name} in the repository of runs cannot be read.",
        "Only the studio and its workers write there.",
        "Put the last version back that reads as JSON.",
    )
