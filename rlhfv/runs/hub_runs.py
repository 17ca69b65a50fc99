"""Runs in a private repository on the Hub, from which workers take them: no open port, no machine that must be up.

    rlhfv-….whl  requirements.txt  runs/<id>/…  bases/…      as in a bundle; beside the frozen files of a run lie what
                               its worker pushes: events.jsonl, log.txt, checkpoints/, adapter/ or model/, results.json
    queue/<id>.json            how the run stands; whoever may change it does so by compare-and-swap on the head commit
    workers/<name>.json        what a worker has; the date of its last commit tells when it was last seen

Every claim has a name of its own. A worker that lost its claim can change nothing any more, and a reply that got lost
is recognised when the change is tried again. Times are the Hub's: no two machines need the same clock.
"""

import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import NotFound, RunFailed
from rlhfv.run_folder import RunFolder, check_name, now
from rlhfv.runs.bundle import FROZEN, REFERENCE, list_files
from rlhfv.runs.hub_repo import KIND, HubRepo

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    from rlhfv.publishing.hub import Hub

LEASE_SECONDS = 600.0
"""After so long without a beat a worker counts as dead. Ten beats: a busy Hub must not look like a dead worker."""
FILES_A_COMMIT = 200
JOB = "job"
MADE = ("adapter", "model")
ENDED = ("done", "failed", "stopped")
HERE = {"here": True}
"""What marks an event that the owner's studio added to a run that trains elsewhere."""


@dataclass(frozen=True)
class HubRun:
    """How a run of a repository stands. `state`: queued, running, done, failed or stopped. `claim` names the hold that
    `worker` has on it, `attempt` counts the holds so far; `stop` asks its worker to keep a checkpoint and end;
    `reserved` is "job" when only the job made for it may take it, `job` the id of that job. `seen` is when it last
    changed, by the Hub's clock."""

    id: str
    title: str = ""
    queued: str = ""
    state: str = "queued"
    claim: str = ""
    worker: str = ""
    attempt: int = 0
    beat: str = ""
    stop: bool = False
    reserved: str = ""
    job: str = ""
    step: int = 0
    total_steps: int = 0
    error: str = ""
    wheel: str = ""
    seen: datetime | None = field(default=None, compare=False)

    def to_json(self) -> bytes:
        stored = asdict(self)
        del stored["seen"]
        return (json.dumps({"v": 1, **stored}, indent=1, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True)
class HubWorker:
    """A machine that takes runs: `about` is what it has, `run` the title of the run that it works on, `seen` when it
    last gave a sign of life."""

    name: str
    about: dict
    seen: datetime
    run: str = ""


class HubRuns(HubRepo):
    """The runs of one repository, as one person's token may see and change them.

    Args:
        lease: seconds after which a worker that says nothing counts as dead.
        wait: sleeps between two tries.
    """

    def __init__(
        self, hub: "Hub", repo: str, lease: float = LEASE_SECONDS, wait: Callable[[float], None] = time.sleep
    ):
        super().__init__(hub, repo, patience=lease / 2, wait=wait)
        self.lease = lease
        self._looked: tuple[str, list[HubRun]] = ("", [])
        self._asked = -float("inf")

    # ---- what there is

    def look(self, seconds: float = 0.0) -> list[HubRun]:
        """All runs, in the order in which they were queued. Costs one request when nothing has changed, and none when
        the last look is no more than `seconds` old."""
        if time.monotonic() - self._asked > seconds:
            head = self.head()
            if self._looked[0] != head:
                self._looked = (head, self._list_at(head))
            self._asked = time.monotonic()
        return self._looked[1]

    def get(self, run_id: str) -> HubRun:
        """Raises NotFound for a run that is not in the repository."""
        for run in self.look():
            if run.id == run_id:
                return run
        raise NotFound(
            f"There is no run {run_id!r} in {self.repo}.",
            "It was never sent there, or deleted by hand.",
            "Send it, or name another repository.",
        )

    def workers(self) -> list[HubWorker]:
        """The machines that took runs from here, by name."""
        at_work = {run.worker: run for run in self.look() if run.state == "running" and not self.is_lapsed(run)}
        found = []
        for name, about, seen in self.read_folder("workers", self._looked[0]):
            run = at_work.get(name)  # it says nothing else while it works
            found.append(
                HubWorker(name, about, max(seen, run.seen), run.title) if run else HubWorker(name, about, seen)
            )
        return found

    def is_lapsed(self, run: HubRun) -> bool:
        """Whether the worker of the run counts as dead."""
        silent = (datetime.now(UTC) - run.seen).total_seconds() if run.seen else 0.0
        return run.state == "running" and silent > self.lease

    # ---- what the owner of a run does

    def send(
        self, run: RunFolder, base_path: Path | None = None, with_base: bool = False, reserved: str = ""
    ) -> tuple[HubRun, str]:
        """Push the bundle of `run` and queue it; a repository that is not there yet is created, private.

        A run that is there and has ended is queued again, with the checkpoint that its last worker pushed.

        Returns:
            how it stands, and the commit that has all of it.

        Raises:
            RunFailed: the repository is public, or the run is queued or at work there.
            BaseStaysHere: see `bundle.pack`.
        """
        from huggingface_hub import CommitOperationAdd

        with tempfile.TemporaryDirectory(prefix="send-") as work:
            files = list_files(run, base_path, with_base, Path(work))
            if self.hub.head(self.repo, KIND) is None:
                self.hub.create(self.repo, private=True, kind=KIND)
            self.require_private()
            wheel = next(name for name in files if name.endswith(".whl"))
            additions = [CommitOperationAdd(path, file) for path, file in files.items()]
            for start in range(0, len(additions), FILES_A_COMMIT):
                part = additions[start : start + FILES_A_COMMIT]
                self.repeat(lambda part=part: self.hub.commit(self.repo, part, f"Files of {run.id}", None, kind=KIND))
        nonce = secrets.token_hex(8)

        def queue(old: HubRun | None) -> HubRun:
            if old is not None and old.claim == nonce:
                return old
            if old is not None and old.state not in ENDED:
                raise RunFailed(
                    f"The run {run.id!r} is {old.state} in {self.repo}.", "It is there once.", "Stop it there first."
                )
            title = run.read_config().get("title", run.id)
            attempt = old.attempt if old else 0
            return HubRun(run.id, title, now(), "queued", nonce, attempt=attempt, reserved=reserved, wheel=wheel)

        sent = self._change(run.id, queue, f"Queue {run.id}")
        return sent, self.head()

    def ask_stop(self, run_id: str) -> HubRun:
        """A queued run is stopped at once, one at work when its worker has seen it; an ended one stays as it is."""

        def stop(old: HubRun | None) -> HubRun | None:
            if old is None or old.state in ENDED or old.stop:
                return old
            if old.state == "queued" or self.is_lapsed(old):
                return replace(old, state="stopped", claim="", worker="", stop=False)
            return replace(old, stop=True)

        return self._change(run_id, stop, f"Stop {run_id}") or self.get(run_id)

    def resume(self, run_id: str) -> HubRun:
        """Queue a stopped or failed run again; its next worker goes on from the last pushed checkpoint."""
        nonce = secrets.token_hex(8)

        def queue(old: HubRun | None) -> HubRun | None:
            if old is None or old.claim == nonce:
                return old
            if old.state not in ("stopped", "failed"):
                raise RunFailed(
                    f"The run “{old.title}” cannot be resumed.",
                    f"It is {old.state}.",
                    "Stop it first, or duplicate it.",
                )
            return replace(old, state="queued", queued=now(), claim=nonce, worker="", stop=False, error="", job="")

        return self._change(run_id, queue, f"Resume {run_id}") or self.get(run_id)

    def note_job(self, run_id: str, job: str) -> HubRun:
        """Keep which job was made for the run."""
        note = lambda old: old and replace(old, job=job)  # noqa: E731
        return self._change(run_id, note, f"Job of {run_id}") or self.get(run_id)

    def close_job(self, run_id: str, state: str, error: str = "") -> HubRun:
        """Write down how a run ended whose job is over without a word from inside."""

        def close(old: HubRun | None) -> HubRun | None:
            if old is None or old.state in ENDED:
                return old
            return replace(old, state=state, error=error, claim="", stop=False)

        return self._change(run_id, close, f"{run_id}: {state}") or self.get(run_id)

    def fetch(self, run_id: str, folder: RunFolder, events_from: int = 0) -> HubRun:
        """Bring what happened to a run into its folder here: new events, the log, and when it is done what it made.

        Args:
            events_from: where in the folder's events those of the other machine begin.
        """
        run = self.get(run_id)
        head = self._looked[0]
        names = ["config.json", "events.jsonl", "log.txt"]  # the first is always there: no pattern is in vain
        if run.state in ENDED:
            names += ["results.json", "answers.jsonl", *(f"{name}/*" for name in MADE)]
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.path) as work:
            got = self.snapshot([f"runs/{run_id}/{name}" for name in names], head, Path(work)) / "runs" / run_id
            for name in ("log.txt", "results.json", "answers.jsonl", *MADE):
                if (got / name).exists() and not (folder.path / name).is_dir():
                    (got / name).replace(folder.path / name)
            if (got / "events.jsonl").exists():
                _append_news(folder.events_file, (got / "events.jsonl").read_bytes(), events_from)
        return run

    # ---- what a worker does

    def claim(self, worker: str, run_id: str = "") -> HubRun | None:
        """Take the oldest run that is queued or whose worker is dead; with `run_id` that one, also if it is reserved.
        Of several workers that try, one gets it. None when there is nothing to take."""
        for run in self.look():
            if run.id != run_id and (run_id or run.reserved):
                continue
            if run.state == "queued" or self.is_lapsed(run):
                got = self._take(run.id, worker, secrets.token_hex(8))
                if got is not None:
                    return got
        return None

    def _take(self, run_id: str, worker: str, nonce: str) -> HubRun | None:
        def take(old: HubRun | None) -> HubRun | None:
            if old is None or old.claim == nonce:  # the second: it was taken by us, and the reply got lost
                return old
            if old.state != "queued" and not self.is_lapsed(old):
                return None
            if old.stop:
                return replace(old, state="stopped", claim="", worker="", stop=False)
            return replace(old, state="running", claim=nonce, worker=worker, attempt=old.attempt + 1)

        got = self._change(run_id, take, f"{worker} takes {run_id}")
        return got if got is not None and got.claim == nonce else None

    def beat(
        self,
        run: HubRun,
        operations: "Iterable[CommitOperationAdd | CommitOperationDelete]" = (),
        **changes,
    ) -> HubRun | None:
        """Tell that the worker lives, and push what it has. None when the claim is lost; nothing is pushed then."""
        stamp = secrets.token_hex(4)

        def tell(old: HubRun | None) -> HubRun | None:
            if old is None or old.claim != run.claim:
                return None
            if old.beat == stamp:
                return old
            return replace(old, beat=stamp, **changes)

        word = changes.get("state") or "goes on"
        return self._change(run.id, tell, f"{run.id}: {word}", tuple(operations))

    def greet(self, name: str, about: dict) -> None:
        """Tell that a worker is there, and what it has."""
        from huggingface_hub import CommitOperationAdd

        text = json.dumps({**about, "beat": now()}, indent=1, ensure_ascii=False) + "\n"
        file = CommitOperationAdd(f"workers/{check_name(name, 'name of the worker')}.json", text.encode())
        self.repeat(lambda: self.hub.commit(self.repo, [file], f"{name} is here", None, kind=KIND))

    def download(self, run_id: str, folder: Path, commit: str | None = None) -> RunFolder:
        """The run with the last checkpoint that was pushed, below `folder`; its frozen files as of `commit`."""
        head = self.head()
        frozen = [f"runs/{run_id}/{name}" for name in FROZEN]
        self.snapshot([*frozen, *(f"{path}/*" for path in frozen)], commit or head, folder)
        run = RunFolder(folder / "runs" / run_id)
        home = f"bases/{run.read_config()['base']['revision'][:16]}/*"
        moving = [f"runs/{run_id}/{name}" for name in ("config.json", "events.jsonl", REFERENCE, "checkpoints/*")]
        self.snapshot([home, *moving], head, folder)
        return run

    # ---- how it is read and changed

    def _change(
        self,
        run_id: str,
        decide: Callable[[HubRun | None], HubRun | None],
        message: str,
        operations: tuple = (),
    ) -> HubRun | None:
        """Compare and swap: `decide` sees how the run stands at the head and says how it shall stand; the commit only
        lands on that head. None when it decides so, then nothing changes."""
        from huggingface_hub import CommitOperationAdd

        path = f"queue/{check_name(run_id, 'run id')}.json"

        def attempt() -> HubRun | None:
            head = self.head()
            old = next((run for run in self._list_at(head) if run.id == run_id), None)
            new = decide(old)
            if new is None or new == old:
                return new
            file = CommitOperationAdd(path, new.to_json())
            self._asked = -float("inf")
            self.hub.commit(self.repo, [*operations, file], message, head, kind=KIND)
            return replace(new, seen=datetime.now(UTC))

        return self.repeat(attempt)

    def _list_at(self, head: str) -> list[HubRun]:
        names = {one.name for one in fields(HubRun)} - {"seen", "id"}
        runs = [
            HubRun(name, **{key: value for key, value in stored.items() if key in names}, seen=seen)
            for name, stored, seen in self.read_folder("queue", head)
        ]
        return sorted(runs, key=lambda run: (run.queued, run.id))


_HERE_END = json.dumps(HERE)[1:].encode() + b"\n"


def _append_news(file: Path, theirs: bytes, start: int) -> None:
    """Append what the other machine's events have beyond ours, whole lines only; they lack what was added here."""
    ours = file.read_bytes()[start:] if file.exists() else b""
    ours = b"".join(line for line in ours.splitlines(keepends=True) if not line.endswith(_HERE_END))
    theirs = theirs[: theirs.rfind(b"\n") + 1]
    if theirs.startswith(ours) and len(theirs) > len(ours):
        with open(file, "ab") as target:
            target.write(theirs[len(ours) :])
