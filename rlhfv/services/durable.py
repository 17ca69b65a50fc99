"""The copy of the studio that outlives its disk.

The store on this machine's disk is the truth. Where that disk does not last, as in a Space, what was saved is told as
saved only when a copy of it lies at a `Place`. The copy is a log: first the whole store, then what changed since, row
by row (see `rlhfv.corrections.changes`), with the pictures by their content. Snapshots of the database file would be
simpler, but each save would wait for all of it to be sent, and a log of what people did would have to know every room.

    log/000007-3f2a…/claim             somebody writes here from now on
    log/000007-3f2a…/00000001.whole    the whole store; the log begins here
    log/000007-3f2a…/00000002.part     what changed since, and so on
    images/<sha256>.png

Each start begins a log of its own: it claims the next number, reads the newest log if its disk is empty, writes the
whole store, and then takes the older logs away. Whoever sees a later claim stops: an app that is being replaced tells
the truth to its last visitors, and its successor has read all that it had confirmed. Savers who come while a copy is
on its way go together with the next one. A copy that failed is not sent again under its name: the next one holds all
that it held, so one that arrives late does no harm. What is erased leaves the copy by a new log without it.

Chats and unsaved drafts are not copied, nor are runs and adapters. The key that signs the visitors' cookies is:
without it nobody would find their own corrections again.
"""

import atexit
import logging
import os
import re
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhfv.corrections.changes import Changes, Copy, rebuild
from rlhfv.corrections.images import IMAGE_NAME, ORIGINAL_NAME, ImageShelf
from rlhfv.corrections.store import Store
from rlhfv.errors import InvalidData, NotFound, StoreUnavailable, StudioError
from rlhfv.publishing.places import FILES_AT_ONCE, BucketPlace, DatasetPlace, FolderPlace, Place
from rlhfv.services.durable_log import list_logs, newest_log, pack, read_newest
from rlhfv.settings import Settings

SECONDS_TO_CONFIRM = 10.0
"""How long somebody who saves waits for the copy."""
SECONDS_WHEN_LATE = 1.0
"""How long once somebody has waited in vain: no line of savers forms behind a place that is away."""
SECONDS_TO_END = 10.0
SECONDS_BETWEEN_LAST_TRIES = 0.5
SECONDS_TO_RESTORE = 60.0
SECONDS_TO_RESTORE_SPACE = 45 * 60.0
"""In a Space, which gives a start an hour (`startup_duration_timeout` of its card)."""
LONGEST_WAIT = 60.0
LONGEST_WAIT_TO_RESTORE = 30.0
MOST_PARTS = 400
"""After as many parts the log begins anew, so that a start does not read long."""
ONLY_HERE = "This Space keeps no copy elsewhere, so it is gone when the Space restarts."
KEY = "visitors.key"
_MEMORY = "durable copy"
_PICTURE = re.compile(f"{IMAGE_NAME.pattern}|{ORIGINAL_NAME.pattern}")
_log = logging.getLogger(__name__)


class Durable:
    """Keeps a copy at `settings.durable`; without one it only says what "saved" means on this machine."""

    def __init__(self, settings: Settings, place: Place | None = None):
        self.settings = settings
        self._path = settings.data_dir / "studio.sqlite3"
        self._shelf = ImageShelf(settings.data_dir / "images")
        self._place = place or (_open_place(settings) if settings.durable else None)
        self._wanted, self._claimed, self._number, self._parts = "", "", 0, 0
        self._pictures: set[str] = set()
        self._copied, self._asked = 0, 0
        self._joined = self._ended = self._late = False
        self._until = 0.0
        self._trouble = ""
        self._news = threading.Condition()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    # ---- at the start

    def restore(self, seconds: float | None = None) -> bool:
        """Before the store is opened: brings everything back where the disk is empty. True if it did.

        A place that cannot be reached is tried for `seconds`. Then a Space does not start: with an empty store it
        would give its visitors new cookies, and nobody would find their own corrections again. Elsewhere the studio
        starts; what is saved stays on this machine, and nobody is told otherwise.

        Raises:
            InvalidData: the place is public, is no place for a copy, or holds a log that cannot be read.
            HubRefused, SignInNeeded: the token may not do it, or there is none.
            StoreUnavailable: in a Space, the place could not be reached.
        """
        if self._place is None or self._path.exists():
            return False
        needed = self.settings.space is not None and self._place.outlives(True)
        if seconds is None:
            seconds = SECONDS_TO_RESTORE_SPACE if needed else SECONDS_TO_RESTORE
        until, wait = time.monotonic() + seconds, 0.5
        while True:
            try:
                if not self._claimed:
                    self._claim()
                    if newest_log(self._place):
                        # Whoever wrote it sees the claim by then, and all that it confirmed before is seen here.
                        time.sleep(self._place.settles)
                        until += self._place.settles
                return self._read_log()
            except (StudioError, OSError) as error:
                if not _may_pass(error):
                    raise
                self._say(f"could not be reached yet: {error}")
                if time.monotonic() + wait > until:
                    if needed:
                        raise _not_started(self._place.title, error) from error
                    return False
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_TO_RESTORE)

    def start(self) -> None:
        """Copies from now on, in a thread of its own."""
        if self._place is None or self._thread is not None:
            return
        self._store = Store(self._path)
        self._changes = Changes(self._path)
        self._changes.watch()
        self._thread = threading.Thread(target=self._work, name="durable copy", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def end_on_signal(self) -> None:
        """SIGTERM ends this process with status 0 once all that was saved is copied, or the time for it is over."""

        whose = os.getpid()

        def end(number: int, frame) -> None:
            if os.getpid() != whose:  # a worker that was forked off, which has nothing to copy
                os._exit(128 + number)
            self.close()
            logging.shutdown()
            os._exit(0)

        signal.signal(signal.SIGTERM, end)

    # ---- while it runs

    def confirm(self, seconds: float | None = None) -> str:
        """Waits, for SECONDS_TO_CONFIRM if not told otherwise, until all that this thread has saved will
        outlive this machine's disk, where it would not by itself.

        Returns "" then, else a sentence that says why it does not yet.
        """
        if self._place is None:
            return ONLY_HERE if self.settings.space is not None else ""
        if self._thread is None:
            return f"The copy in {self._place.title} has not begun yet."
        if not self._place.outlives(self.settings.space is not None):
            return f"{self._place.title} is no mounted bucket. {ONLY_HERE}"
        mine = self._changes.newest()
        with self._news:
            self._asked = max(self._asked, mine)
            self._news.notify_all()
            full = SECONDS_TO_CONFIRM if seconds is None else seconds
            given = min(full, SECONDS_WHEN_LATE) if self._late else full
            self._news.wait_for(lambda: (self._copied >= mine and self._joined) or self._ended, given)
            if self._copied >= mine and self._joined:
                return ""
            # Whoever only looked in for a moment says nothing about the place.
            self._late, trouble = self._late or full >= SECONDS_TO_CONFIRM, self._trouble
        return f"The copy in {self._place.title} is not made yet; it is tried again by itself." + (
            f" {trouble}" if trouble and self._ended else ""
        )

    def told(self, note: str) -> str:
        """`note`, which says that something was changed, and whether the copy does not have the change yet."""
        missing = self.confirm() if self._place is not None else ""
        return f"{note} On this machine only: {missing}" if missing else note

    def confirm_erased(self, seconds: float = SECONDS_TO_CONFIRM) -> str:
        """Waits until no copy holds what was erased. Returns "" then, else a sentence."""
        changes, until = Changes(self._path), time.monotonic() + (seconds if self._thread is not None else 0)
        while changes.hold_erased():
            if time.monotonic() > until:
                where = self.keeps or "the place of --durable"
                return (
                    f"the copy in {where}, which is cleaned when the app can reach it; if it restarts on an empty "
                    "disk before that, what was erased comes back: erase it again then"
                )
            self.confirm(0.1)
            time.sleep(0.02)
        return ""

    @property
    def keeps(self) -> str:
        """Where what is saved lies beside this machine, for a page: "the bucket ann/kept", or ""."""
        return self._place.title if self._place is not None else ""

    def close(self, seconds: float = SECONDS_TO_END) -> None:
        """One last copy, for at most `seconds`."""
        self.start()
        if self._thread is None:
            return
        with self._news:
            self._until = time.monotonic() + seconds
            self._ending.set()
            self._news.notify_all()
        self._thread.join(seconds)

    # ---- inside

    def _work(self) -> None:
        wait = 0.0
        while not self._ended:
            self._rest(wait)
            last = self._ending.is_set()
            try:
                if not self._joined:
                    self._join()
                self._copy()
                wait, self._trouble = 0.0, ""
            except (StudioError, OSError) as error:
                self._say(str(error))
                asked = getattr(error, "wait", None)
                wait = min(asked or max(1.0, 2 * wait), LONGEST_WAIT)
                if self._ending.is_set():
                    wait = min(wait, SECONDS_BETWEEN_LAST_TRIES)
                    last = not _may_pass(error) or time.monotonic() + wait > self._until
                last = last or isinstance(error, InvalidData)
            except Exception as error:  # the next copy may work, and nobody else would tell
                _log.exception("the copy in %s stopped", self._place.title)
                self._trouble = f"It stopped: {type(error).__name__}."
                wait = LONGEST_WAIT
            if last:
                with self._news:
                    self._ended = True
                    self._news.notify_all()

    def _rest(self, wait: float) -> None:
        """Until somebody waits for a copy or others have had time to add to it; after trouble for `wait` at least."""
        if wait and self._ending.is_set():
            time.sleep(wait)
        elif wait:
            self._ending.wait(wait)
        elif self._joined:
            with self._news:
                self._news.wait_for(lambda: self._asked > self._copied or self._ending.is_set(), self._place.seconds)

    def _claim(self) -> None:
        """Begins a log: from now on, whoever wrote the one before confirms nothing more."""
        if self._claimed:
            return
        self._place.prepare()
        # A claim whose answer got lost is made once more under its name: it must not look like somebody else's.
        taken = [int(log[:6]) for log in self._logs() if log != self._wanted]
        if not self._wanted or int(self._wanted[:6]) <= max(taken, default=0):
            self._wanted = f"{max(taken, default=0) + 1:06d}-{secrets.token_hex(8)}"
        self._place.write({f"log/{self._wanted}/claim": b"claimed\n"})
        self._claimed = self._wanted

    def _logs(self) -> dict[str, list[str]]:
        return list_logs(self._place)

    def _read_log(self) -> bool:
        with self._folder() as folder:
            newest = read_newest(self._place, folder, _log.warning)
            if newest is None:
                return False
            _, copies, key = newest
            last = {(part, key): row for copy in copies for part, rows in copy.rows.items() for key, row in rows}
            pictures = {name for row in last.values() for name in _pictures_in(row)}
            there = self._place.names("images/")
            wanted = sorted(name for name in pictures if f"images/{name}" in there)
            self._place.fetch([f"images/{name}" for name in wanted], folder)
            self._shelf.folder.mkdir(parents=True, exist_ok=True)
            for name in wanted:
                os.replace(folder / "images" / name, self._shelf.folder / name)
            for name in sorted(pictures - {*wanted}):
                _log.warning("The picture %s is not in %s.", name, self._place.title)
            if key and not (self.settings.data_dir / KEY).exists():
                _write_key(self.settings.data_dir / KEY, key)
            rebuild(self._path, copies)
        _log.warning("The studio was brought back from %s.", self._place.title)
        return True

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """One for a while, on the disk of the store."""
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=self.settings.data_dir) as folder:
            yield Path(folder)

    def _join(self) -> None:
        """Writes the whole store into a log of its own, and takes the older ones away."""
        self._claim()
        newest, known = newest_log(self._place), self._store.recall(_MEMORY) or []
        ours = ["", *known, self._claimed]
        if newest not in ours:
            with self._folder() as folder:
                newest, *_ = read_newest(self._place, folder, _log.warning)
        if newest not in ours:
            raise InvalidData(
                f"{self._place.title} holds the work of another studio.",
                "It began apart from what is on this machine, and neither may take the place of the other.",
                "Start with an empty data folder to go on with what is there, or name another place.",
            )
        self._store.remember(_MEMORY, [*known[-50:], self._claimed])
        self._begin_log()

    def _begin_log(self) -> None:
        copy, there = self._changes.read_all(), self._place.names("images/")
        known = self._picture_files({name.partition("/")[2] for name in there})
        # One that was torn has the right name and another size: it is sent again.
        self._pictures = {name.partition("/")[2] for name, file in known if file.stat().st_size == there[name]}
        self._send(copy)
        self._joined, self._parts = True, 0
        self._confirm(copy.through)
        used = {name for _, row in _all(copy) for name in _pictures_in(row)}
        old = [
            f"log/{log}/{part}"
            for log, parts in self._logs().items()
            for part in parts
            if log < self._claimed or (log == self._claimed and part != "claim" and int(part[:8]) < self._number)
        ]
        self._pictures &= used
        self._place.write({}, [*old, *(name for name in sorted(there) if name.partition("/")[2] not in used)])
        self._place.forget()
        self._changes.forget(copy.through)

    def _copy(self) -> None:
        """What changed since the last time, if anything did."""
        copy = self._changes.read()
        if copy.erased or self._parts >= MOST_PARTS:
            self._begin_log()
        elif copy:
            self._send(copy)
            self._changes.forget(copy.through)
            self._parts += 1
            self._confirm(copy.through)

    def _send(self, copy: Copy) -> None:
        """The pictures of these rows, then the rows. Raises InvalidData when another app has taken over."""
        names = {name for _, row in _all(copy) for name in _pictures_in(row)} - self._pictures
        files = dict(self._picture_files(names))
        self._number += 1
        key = self.settings.data_dir / KEY
        name = f"log/{self._claimed}/{self._number:08d}.{'whole' if copy.whole else 'part'}"
        packed = pack(copy, key.read_bytes() if copy.whole and key.exists() else b"")
        while len(files) > FILES_AT_ONCE:
            some = dict(list(files.items())[:FILES_AT_ONCE])
            self._place.write(some)
            files = {name: path for name, path in files.items() if name not in some}
        self._place.write({**files, name: packed})
        if max(self._logs(), default="") > self._claimed:
            raise InvalidData(
                "Another app has taken over.",
                f"It copies to {self._place.title} now, and began with all that was confirmed before.",
                "Reload the page in a minute.",
            )
        self._pictures |= names

    def _picture_files(self, names: set[str]) -> Iterator[tuple[str, Path]]:
        for name in sorted(names):
            try:
                path = self._shelf.original(name) if name.endswith(".original") else self._shelf.path(name)
            except NotFound:  # it came without its picture, or was erased a moment ago
                continue
            yield f"images/{name}", path

    def _confirm(self, through: int) -> None:
        with self._news:
            self._copied, self._late = max(self._copied, through), False
            self._news.notify_all()

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.warning("Copy in %s: %s", self._place.title, trouble)
        self._trouble = trouble


def _open_place(settings: Settings) -> Place:
    if isinstance(settings.durable, Path):
        return FolderPlace(settings.durable)
    from rlhfv.publishing.hub import Hub
    from rlhfv.services.publishing import read_machine_token

    name = "/".join(settings.durable.split("/")[-2:])
    kind = BucketPlace if settings.durable.startswith("hf://buckets/") else DatasetPlace
    return kind(Hub(read_machine_token()), name)


def _may_pass(error: Exception) -> bool:
    """Whether it may work later: the network, a busy Hub, a full disk."""
    from rlhfv.publishing.hub import HubBusy, HubMoved

    return isinstance(error, (HubBusy, HubMoved, OSError))


def _not_started(title: str, error: Exception) -> StoreUnavailable:
    return StoreUnavailable(
        f"The studio was not started: {title} could not be reached.",
        f"{str(error).rstrip('.')}. What was saved lies there, and so does the key of the visitors' cookies: with a "
        "new one nobody would find their own corrections again.",
        "Restart the Space when it can be reached; nothing there was changed.",
    )


def _all(copy: Copy) -> Iterator[tuple[str, dict | None]]:
    for rows in copy.rows.values():
        yield from rows


def _pictures_in(row: dict | None) -> Iterator[str]:
    for value in (row or {}).values():
        if isinstance(value, str):
            yield from _PICTURE.findall(value)


def _write_key(path: Path, key: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
