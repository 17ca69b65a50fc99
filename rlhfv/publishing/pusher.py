"""Brings a repository on the Hub to the state of the store: one commit a push, whole or not at all.

Nothing is lost and nothing doubled, whatever breaks in between: an attempt is written down before it is sent, so that
the next look at the repository tells whether it landed, and an item waits until the revision that it has now is
recorded. What somebody changed in the tables by hand is told, never overwritten.
"""

import hashlib
import os
import random
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from huggingface_hub import CommitOperationAdd

from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import dump_row
from rlhfv.corrections.published import PARTS, Attempt, Batch, LeaseLost, Placed, Published, Remote
from rlhfv.errors import InvalidData, NotFound, StudioError
from rlhfv.publishing.card import count_rows, write_card
from rlhfv.publishing.hub import Hub, HubBusy, HubMoved, HubRefused, require_repo_id
from rlhfv.publishing.schema import FEATURES, judgement_to_row, pair_to_row
from rlhfv.publishing.shards import content_names, is_table, shard_path, write_shard

LEASE_SECONDS = 60
TRIES = 8
LONGEST_WAIT = 300
README = "README.md"

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


class HandEdited(StudioError):
    """The tables on the Hub are not as this store left them."""


@dataclass(frozen=True)
class Pushed:
    """What a push did. `commit` is the repository's newest commit, `url` that of the pull request, if it made one.
    The counts are pairs, `judgements` all that changed among them; `left_out` names what cannot be published: (id,
    reason). `landed` says that an earlier attempt, whose answer was lost, or a merged pull request was found there.
    """

    repo: str
    commit: str
    url: str = ""
    added: int = 0
    changed: int = 0
    removed: int = 0
    judgements: int = 0
    left_out: tuple[tuple[str, str], ...] = ()
    landed: bool = False


@dataclass(frozen=True)
class Erased:
    """What an erasure reached: `commit` is the one without the rows, and `unreached` tells where copies may be."""

    repo: str
    commit: str
    rows: int
    unreached: tuple[str, ...]


class Pusher:
    """Pushes what `published` says to be waiting, with the rights of `hub`.

    Args:
        folder: where shards are built; one folder below it a repository.
        whose: a visitor, of whom alone items are added and changed.
        wait: called with the seconds to wait before another try.
    """

    def __init__(
        self,
        published: Published,
        shelf: ImageShelf,
        folder: Path,
        hub: Hub,
        lease_seconds: float = LEASE_SECONDS,
        wait: Callable[[float], None] = time.sleep,
        whose: str | None = None,
    ):
        self.published, self.shelf, self.folder, self.hub = published, shelf, Path(folder), hub
        self.lease_seconds, self.wait, self.whose = lease_seconds, wait, whose

    def push(
        self, repo: str, private: bool = True, as_pull_request: bool = False, on_progress: Progress | None = None
    ) -> Pushed:
        """Adds, changes and takes out what waits, creating the repository if there is none (then `private` counts).

        Raises:
            HubRefused: a right is missing, or the repository is gone.
            HubBusy, HubMoved: even after several tries; what waits is kept.
            HandEdited: the tables were changed by somebody else.
            LeaseLost: another process pushes there.
        """
        require_repo_id(repo)
        tell = on_progress or silence
        with hold_lease(self.published, repo, self.lease_seconds) as holder:
            work = _Work(self, repo, holder, tell)
            try:
                return repeat(lambda: work.push(private, as_pull_request), tell, self.wait)
            finally:
                work.clean()

    def remove_everywhere(
        self,
        repo: str,
        items: Iterable[str],
        forget_history: bool = False,
        on_progress: Progress | None = None,
    ) -> Erased:
        """Takes pairs and judgements out for good: they are never published again, to no repository, and this push
        takes them out of this one, with everything else that waits. With `forget_history` earlier commits go too.
        """
        items = list(items)
        rows = len(self.published.placed(repo, items))
        self.published.withhold(items)
        pushed = self.push(repo, on_progress=on_progress)
        unreached = [
            "copies that somebody has downloaded",
            "caches of the Hub, until it clears them",
            "pull requests and other branches, which keep their own history",
        ]
        if forget_history:
            with hold_lease(self.published, repo, self.lease_seconds) as holder:
                head = repeat(lambda: self._forget_history(repo), on_progress or silence, self.wait)
                self.published.record(repo, holder, replace(self.published.remote(repo), head=head))
                pushed = replace(pushed, commit=head)
        else:
            unreached.insert(0, f"earlier commits of {repo}, which still hold the rows")
        return Erased(repo, pushed.commit, rows, tuple(unreached))

    def _forget_history(self, repo: str) -> str:
        self.hub.forget_history(repo, "Forget what was taken out")
        return self.hub.head(repo)


class _Work:
    """One push under one lease. Every try looks at the repository anew; built shards are kept from try to try."""

    def __init__(self, pusher: Pusher, repo: str, holder: str, tell: Progress):
        self.published, self.shelf, self.hub = pusher.published, pusher.shelf, pusher.hub
        self.repo, self.holder, self.tell, self.whose = repo, holder, tell, pusher.whose
        self.folder = pusher.folder / repo.replace("/", "--")
        self.batch: Batch | None = None
        self.built: list[tuple[CommitOperationAdd, list[str]]] = []
        self.landed: tuple[Placed, ...] = ()
        self.clean()  # what an interrupted push has left

    def clean(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def push(self, private: bool, as_pull_request: bool) -> Pushed:
        remote = self.reconcile(self.open(private))
        missing = [(part, 0) for part in PARTS if shard_path(part, 0) not in remote.files]
        batch = self.published.freeze(self.repo, self._image_bytes, missing, self.whose)
        remote = replace(remote, left_out=[list(one) for one in batch.left_out])
        attempts = self.published.attempts(self.repo)
        if not batch.shards:
            self.published.record(self.repo, self.holder, remote, open_attempts=attempts[::-1])
            return self._report(self.landed, batch, remote.head, landed=bool(self.landed))
        self._build(batch)
        text = self._card(batch, remote)
        operations = [operation for operation, _ in self.built]
        if text != remote.readme:
            operations.append(CommitOperationAdd(README, text.encode()))
        files = {operation.path_in_repo: names for operation, names in self.built}
        attempt = Attempt(files, batch.changes)
        if as_pull_request:
            url = self.propose(attempt, attempts, operations, remote)
            return self._report(batch.changes, batch, remote.head, url)
        self.tell("sending", 0, len(operations))
        self.published.add_attempt(self.repo, attempt)
        made = self.hub.commit(self.repo, operations, _describe(batch.changes), remote.head)
        remote = replace(remote, head=made.oid, files=remote.files | files, readme=text, pushed=_now())
        self.published.record(self.repo, self.holder, remote, batch.changes)
        self.tell("done", len(operations), len(operations))
        return self._report((*self.landed, *batch.changes), batch, made.oid, landed=bool(self.landed))

    def propose(
        self, attempt: Attempt, attempts: list[Attempt], operations: list[CommitOperationAdd], remote: Remote
    ) -> str:
        """Opens a pull request, or finds the one that has the same content; returns its address. The items wait until
        it is merged, which the next push recognises by the content.
        """
        mark = hashlib.sha256(dump_row(attempt.files).encode()).hexdigest()[:8]
        title = f"{_describe(attempt.changes)} ({mark})"
        url = next((one.url for one in attempts if one.url and one.files == attempt.files), "")
        if attempt in attempts:  # sent before, and the answer was lost
            url = url or self.hub.find_pull_request(self.repo, title)
        if not url:
            self.tell("sending", 0, len(operations))
            self.published.add_attempt(self.repo, attempt)
            url = self.hub.commit(self.repo, operations, title, remote.head, pull_request=True).pr_url
        self.published.record(self.repo, self.holder, remote, open_attempts=[replace(attempt, url=url)])
        return url

    def open(self, private: bool) -> str:
        """The newest commit, of a repository that is created if nobody has heard of it."""
        head = self.hub.head(self.repo)
        if head is not None:
            return head
        if self.published.remote(self.repo).head:
            raise HubRefused(
                f"There is no {self.repo} any longer.",
                "It was there at the last push: somebody deleted or renamed it, or this token does not see it.",
                "Bring it back, sign in with another token, or push to another name.",
            )
        self.tell("creating the repository", 0, 1)
        made = self.hub.create(self.repo, private)
        head = self.hub.head(self.repo)
        if head is None and not made:
            raise HubRefused(
                f"There is a {self.repo} already, which this token does not see.",
                "It is private and was made elsewhere; a sign-in to an app (OAuth 'contribute-repos') reaches only "
                "what that app made.",
                "Choose another name, or sign in with a token that may.",
            )
        if head is None:
            raise HubMoved(f"{self.repo} is not there yet.", "It was created a moment ago.", "Try again in a minute.")
        return head

    def reconcile(self, head: str) -> Remote:
        """What stands on the Hub, after telling own commits whose answer was lost from foreign ones."""
        remote = self.published.remote(self.repo)
        if head == remote.head:
            return remote
        files = self.hub.files(self.repo, head)
        tables = {path: names for path, names in files.items() if is_table(path)}
        remote = replace(remote, head=head, readme=self._present_readme(files, head, remote.readme))
        if _same_content(tables, remote.files):
            return remote
        for attempt in self.published.attempts(self.repo):
            after = remote.files | attempt.files
            if _same_content(tables, after):
                remote = replace(remote, files=after, pushed=_now())
                self.published.record(self.repo, self.holder, remote, attempt.changes)
                self.landed += attempt.changes
                return remote
        raise _hand_edited(self.repo, tables, remote.files)

    def _present_readme(self, files: dict[str, list[str]], head: str, known: str) -> str:
        """The card as it is on the Hub; asked for only when it is not the known one."""
        if README not in files:
            return ""
        git = hashlib.sha1(b"blob %d\0" % len(known.encode()) + known.encode()).hexdigest()
        if files[README] == [f"git:{git}"]:
            return known
        found = self.hub.download(self.repo, README, head, self.folder / "present")
        return found.read_bytes().decode("utf-8", "replace")

    def _build(self, batch: Batch) -> None:
        if batch == self.batch:  # a repeated try sends what was built for the first one
            return
        self.batch, self.built = None, []
        for number, ((part, shard), placed) in enumerate(sorted(batch.shards.items())):
            self.tell("building shards", number, len(batch.shards))
            file = self.folder / shard_path(part, shard)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_shard(file, [self._row(one) for one in placed], FEATURES[part])
            self.built.append((CommitOperationAdd(shard_path(part, shard), file), content_names(file)))
        self.batch = batch

    def _row(self, placed: Placed) -> dict:
        try:
            if placed.part == "judgements":
                return judgement_to_row(*self.published.judgement(placed.item), placed.shown, self._read_image)
            revision = self.published.revision(placed.item, placed.revision)
            return pair_to_row(revision.pair, revision.created, placed.shown, self._read_image)
        except NotFound as error:
            raise InvalidData(
                f"The row {placed.item} cannot be written: {error.what}",
                "It stands in a shard that has to be written anew, and leaving it out would lose it.",
                f"Pull {self.repo}, which brings its picture back, then push again.",
            ) from error

    def _card(self, batch: Batch, remote: Remote) -> str:
        figures = count_rows(
            self.published.documents(self.repo, batch), self.published.count_judgements(self.repo, batch)
        )
        return write_card(self.repo, figures, remote.readme, FEATURES)

    def _report(
        self, changes: Iterable[Placed], batch: Batch, commit: str, url: str = "", landed: bool = False
    ) -> Pushed:
        return Pushed(self.repo, commit, url, **count_changes(changes), left_out=batch.left_out, landed=landed)

    def _image_bytes(self, name: str) -> int | None:
        try:
            return self.shelf.path(name).stat().st_size
        except NotFound:
            return None

    def _read_image(self, name: str) -> bytes:
        return self.shelf.path(name).read_bytes()


def repeat(act: Callable, tell: Progress, wait: Callable[[float], None]):
    """What `act` returns at last, tried again while the Hub is busy or somebody else commits."""
    for number in count(1):
        try:
            return act()
        except (HubBusy, HubMoved) as error:
            asked = getattr(error, "wait", None)
            if number == TRIES or (asked or 0) > LONGEST_WAIT:
                raise
            # Spread out, so that several writers do not meet again and a lagging cache has caught up.
            seconds = asked if asked is not None else min(2 ** (number - 1), 30) * random.uniform(0.5, 1)
        tell("waiting for the Hub to try again", number, TRIES)
        wait(seconds)


@contextmanager
def hold_lease(published: Published, repo: str, seconds: float) -> Iterator[str]:
    """Holds the lease of a repository, renewed in the background; gives the holder's name. Raises LeaseLost when
    another process has it.
    """
    holder = f"{os.getpid()}-{secrets.token_hex(4)}"
    if not published.take_lease(repo, holder, seconds):
        raise LeaseLost(
            f"Another process publishes to {repo} now.",
            "Only one may write at a time.",
            f"Wait until it is done; after a crash that takes up to {seconds:.0f} seconds.",
        )
    over = threading.Event()

    def renew() -> None:
        while not over.wait(seconds / 3) and published.take_lease(repo, holder, seconds):
            continue
        published.close()

    thread = threading.Thread(target=renew, name=f"lease of {repo}", daemon=True)
    thread.start()
    try:
        yield holder
    finally:
        over.set()
        thread.join()
        published.give_lease_back(repo, holder)


def count_changes(changes: Iterable[Placed]) -> dict[str, int]:
    """How many pairs were added, changed and removed, and how many judgements changed in any way."""
    counts = {"added": 0, "changed": 0, "removed": 0, "judgements": 0}
    for one in changes:
        if one.part == "judgements":
            counts["judgements"] += 1
        elif not one.revision:
            counts["removed"] += 1
        else:
            counts["added" if one.new else "changed"] += 1
    return counts


def _describe(changes: Iterable[Placed]) -> str:
    counts = count_changes(changes)
    said = [f"{number} {what}" for what, number in counts.items() if number]
    return f"Pairs: {', '.join(said)}" if said else "Begin the data set"


def _same_content(there: dict[str, list[str]], known: dict[str, list[str]]) -> bool:
    return there.keys() == known.keys() and all(set(there[path]) & set(known[path]) for path in there)


def _hand_edited(repo: str, there: dict[str, list[str]], known: dict[str, list[str]]) -> HandEdited:
    changed = [
        path for path in sorted(there.keys() | known.keys()) if not set(there.get(path, ())) & set(known.get(path, ()))
    ]
    named = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    if known:
        why = "They are not as they were pushed from here, and a push would undo what somebody did."
    else:
        why = "The rows in them were not pushed from here, and a push would replace them."
    return HandEdited(f"In {repo} somebody changed {named}.", why, "Pull first: it joins their rows with those here.")


def silence(*_) -> None:
    """Nobody listens."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
