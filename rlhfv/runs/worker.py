"""A machine that trains runs of a private repository: it takes one, tells that it lives, streams events and log lines
back, pushes checkpoints and in the end the adapter, and stops when the owner of the run asks."""

import contextlib
import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import RunFailed, StudioError
from rlhfv.run_folder import RunFolder, check_name
from rlhfv.runs.bundle import REFERENCE, REQUIREMENTS, find_base_files, warn_of_version
from rlhfv.runs.hub_runs import MADE, HubRun, HubRuns
from rlhfv.runs.leash import LeashedTrainer, listen_for_end
from rlhfv.runs.machine import describe_machine, machine_name

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

BEAT_SECONDS = 60.0
"""Between two commits of a run at work: the Hub allows some hundred an hour."""
IDLE_SECONDS = 600.0
"""Between two commits of a worker that waits."""
POLL_SECONDS = 10.0
STOP_SECONDS = 600.0
"""What a trainer has to keep its checkpoint after it was asked to stop."""
LOG_LINES = 400
_RESULTS = ("results.json", "answers.jsonl")
_log = logging.getLogger(__name__)


class Worker:
    """Takes the runs of a repository, one after the other.

    Args:
        folder: where they are worked on; emptied at the start and after each run.
        name: how the machine is named in the repository.
        beat: seconds between two signs of life.
        poll: seconds between two looks at the repository.
        tell: gets a line of text when a run begins and ends.
    """

    def __init__(
        self,
        runs: HubRuns,
        folder: Path,
        name: str = "",
        beat: float = BEAT_SECONDS,
        poll: float = POLL_SECONDS,
        tell: Callable[[str], None] = lambda text: None,
    ):
        self.runs, self.folder, self.beat, self.poll, self.tell = runs, Path(folder), beat, poll, tell
        self.name = check_name(name or machine_name(), "name of the worker")
        self.about = describe_machine()
        self.ending = threading.Event()

    def end(self) -> None:
        """Give the run at work back to the queue, with a checkpoint, and take no other."""
        self.ending.set()

    def work(self, once: bool = False, run_id: str = "", commit: str | None = None) -> list[HubRun]:
        """Take runs until `end` is called, by SIGTERM or Ctrl-C too; with `once` until one is worked on or there is
        none.

        Args:
            run_id: take this one only; its frozen files are those of `commit`.

        Returns:
            how the runs stand that were worked on.
        """
        worked, greeted = [], -float("inf")
        with self._own_folder(), listen_for_end(self.end):
            while not self.ending.is_set():
                if not run_id and time.monotonic() - greeted > IDLE_SECONDS:
                    self.runs.greet(self.name, self.about)
                    greeted = time.monotonic()
                run = self._claim(run_id, once)
                if run is not None:
                    self.tell(f"{run.id}: {run.title}")
                    worked.append(Attempt(self, run, self.folder / run.claim, commit).go())
                    self.tell(f"{run.id}: {worked[-1].state}")
                    greeted = -float("inf")
                if once:
                    break
                if run is None:
                    self.ending.wait(self.poll)
        return worked

    def _claim(self, run_id: str, once: bool) -> HubRun | None:
        from rlhfv.publishing.hub import HubBusy, HubMoved

        try:
            return self.runs.claim(self.name, run_id)
        except (HubBusy, HubMoved) as error:
            if once:
                raise
            _log.warning("%s", error)  # it comes back: a worker that waits does not end of it
            return None

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFailed(
                    f"A worker named {self.name!r} is at work on this machine.",
                    "Two of one name would take each other's files away.",
                    "Give this one another name with --name.",
                ) from None
            for left in self.folder.iterdir():
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
            yield


class Attempt:
    """One hold of a worker on one run, in the folder `work`."""

    def __init__(self, worker: Worker, run: HubRun, work: Path, commit: str | None):
        self.worker, self.runs, self.run, self.work, self.commit = worker, worker.runs, run, work, commit
        self.folder = RunFolder(work / "runs" / run.id)
        self.trainer: LeashedTrainer | None = None
        self.upload: Upload | None = None
        self.told = time.monotonic()
        self.pushed = 0
        self.lost = self.unpushed = False

    def go(self) -> HubRun:
        """Train the run; returns how it stands afterwards."""
        from rlhfv.publishing.hub import HubRefused

        try:
            return self._train()
        except HubRefused:
            raise
        except StudioError as error:
            self._beat(state="failed", error=self._clean(str(error)))
            return self.run
        finally:
            if self.trainer is not None:
                self.trainer.close()
            if self.unpushed:
                self._keep_here()
            shutil.rmtree(self.work, ignore_errors=True)

    def _keep_here(self) -> None:
        """Hours of work that the Hub did not take, for the person at this machine only: a path tells nobody else."""
        kept = self.worker.folder.with_name(f"{self.worker.folder.name}-kept")
        kept.mkdir(exist_ok=True)
        shutil.rmtree(kept / self.run.id, ignore_errors=True)
        shutil.move(self.folder.path, kept)
        log = RunFolder(kept / self.run.id).log_file
        if log.is_file():  # what is pushed is rid of tokens on its way
            log.write_text(self.runs.hub.scrub(log.read_text(errors="replace")))
        _log.warning("The Hub did not take what the run %s made. It is kept in %s.", self.run.id, kept / self.run.id)

    def _train(self) -> HubRun:
        self._alongside(lambda: self.runs.download(self.run.id, self.work, self.commit))
        self.pushed = step_of(self.folder.last_checkpoint())
        fetch = f"hf download {self.runs.repo} {self.run.wheel} {REQUIREMENTS} --local-dir bundle"
        if warn_of_version(self.folder, self.run.wheel, fetch=fetch):
            self.worker.tell(f"{self.run.id}: sent with another version of rlhfv; its events say how to use that one")
        self.trainer = LeashedTrainer(self.folder, find_base_files(self.work, self.folder.read_config()))
        asked = None
        while self.trainer.is_alive and not self.lost:
            if self._is_end_asked():
                asked = asked or time.monotonic()
                self.trainer.ask_stop()
            if asked and time.monotonic() - asked > STOP_SECONDS:
                self.trainer.close()
            self._keep_alive()
            time.sleep(min(self.worker.poll, 0.5))
        return self.run if self.lost else self._finish()

    # ---- while the trainer works

    def _is_end_asked(self) -> bool:
        """Asked by the machine, or by the owner of the run; also notices that the claim is lost."""
        if self.worker.ending.is_set():
            return True
        try:
            seen = next((run for run in self.runs.look(self.worker.poll) if run.id == self.run.id), None)
        except StudioError as error:  # a Hub that is away for a while does not end a training
            _log.warning("%s", error)
            return False
        self.lost = seen is None or seen.claim != self.run.claim
        return not self.lost and seen.stop

    def _keep_alive(self) -> None:
        if time.monotonic() - self.told < self.worker.beat:
            return
        checkpoint = self.folder.last_checkpoint() if self.trainer else None
        if self.upload is None and step_of(checkpoint) > self.pushed:
            self.upload = self._begin_upload(checkpoint)
        if self.upload is not None and self.upload.is_over:
            self._put_checkpoint()
        else:
            self._beat(self._news(), **self._progress())

    def _begin_upload(self, checkpoint: Path) -> "Upload":
        """Of a copy by links: the trainer deletes its older checkpoints while a large one is still on its way."""
        copy = self.work / "outgoing"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(checkpoint, copy / "checkpoints" / checkpoint.name, copy_function=os.link)
        if (self.folder.path / REFERENCE).exists():
            shutil.copyfile(self.folder.path / REFERENCE, copy / REFERENCE)
        return Upload(self.runs, self.run.id, copy, step_of(checkpoint))

    def _put_checkpoint(self) -> None:
        """Put the uploaded checkpoint in the place of the last one; an upload that failed is begun anew later."""
        upload, self.upload = self.upload, None
        if upload.error is not None:
            _log.warning("%s", upload.error)
        else:
            old = [delete_folder(self.run.id, f"checkpoints/checkpoint-{self.pushed}")] if self.pushed else []
            if self._beat([*self._news(), *upload.additions, *old], **self._progress()):
                self.pushed = upload.step

    def _alongside(self, act: Callable[[], None]) -> None:
        """Does what takes long, while the repository is told that the worker lives."""
        errors: list[Exception] = []

        def run() -> None:
            try:
                act()
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run, name="run of the Hub", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
            if time.monotonic() - self.told > self.worker.beat:
                self._beat()
        if errors:
            raise errors[0]

    def _beat(self, operations=(), **changes) -> bool:
        self.told = time.monotonic()
        try:
            run = self.runs.beat(self.run, operations, **changes)
        except StudioError as error:
            _log.warning("%s", error)
            return False
        self.lost = run is None
        self.run = run or self.run
        return not self.lost

    def _progress(self) -> dict:
        if self.trainer is None:
            return {}
        tail = self.trainer.read()
        return {"step": tail.step, "total_steps": tail.total_steps}

    def _news(self) -> "list[CommitOperationAdd]":
        """Events and last log lines, without the worker's token and without the places of its files."""
        from huggingface_hub import CommitOperationAdd

        events = self.folder.events_file.read_bytes() if self.folder.events_file.exists() else b""
        events = events[: events.rfind(b"\n") + 1].decode(errors="replace")
        log = "".join(f"{line}\n" for line in self.folder.read_log(LOG_LINES))
        return [
            CommitOperationAdd(f"runs/{self.run.id}/{name}", self._clean(text).encode())
            for name, text in (("events.jsonl", events), ("log.txt", log))
            if text
        ]

    def _clean(self, text: str) -> str:
        for place, name in ((str(self.work.resolve()), "…"), (str(Path.home()), "~")):
            text = text.replace(place, name)
        return self.runs.hub.scrub(text)

    # ---- how it ends

    def _finish(self) -> HubRun:
        """Push what the run made, or its last checkpoint. A Hub that is away is waited for: hours of work are at
        stake."""
        from rlhfv.publishing.hub import HubBusy, HubMoved

        state, error = self.trainer.outcome()
        if state == "stopped" and self.worker.ending.is_set():
            state = "queued"
        changes = {**self._progress(), "state": state, "error": self._clean(error), "stop": False}
        if state == "queued":
            changes["claim"] = ""
        self.unpushed = True
        while True:
            try:
                operations = [*self._last_files(state), *self._news()]
                run = self.runs.beat(self.run, operations, **changes) or self.run
                self.unpushed = False
                return run
            except (HubBusy, HubMoved) as busy:
                _log.warning("%s", busy)
                time.sleep(self.worker.poll)

    def _last_files(self, state: str) -> "list[CommitOperationAdd | CommitOperationDelete]":
        if self.upload is not None:
            self._alongside(self.upload.join)
            self._put_checkpoint()
        if state == "done":
            copy = self.work / "outgoing"
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            for name in (*_RESULTS, *MADE):
                if (self.folder.path / name).is_dir():
                    shutil.copytree(self.folder.path / name, copy / name, copy_function=os.link)
                elif (self.folder.path / name).exists():
                    shutil.copyfile(self.folder.path / name, copy / name)
            upload = Upload(self.runs, self.run.id, copy, 0)
            old = [delete_folder(self.run.id, "checkpoints")] if self.pushed else []
        else:
            checkpoint = self.folder.last_checkpoint()
            if step_of(checkpoint) <= self.pushed:
                return []
            upload = self._begin_upload(checkpoint)
            old = [delete_folder(self.run.id, f"checkpoints/checkpoint-{self.pushed}")] if self.pushed else []
        self._alongside(upload.join)
        if upload.error is not None:
            raise upload.error
        return [*upload.additions, *old]


class Upload:
    """Brings the files of `folder` to the Hub in the background; a commit with `additions` then names them."""

    def __init__(self, runs: HubRuns, run_id: str, folder: Path, step: int):
        from huggingface_hub import CommitOperationAdd

        self.step = step
        self.error: Exception | None = None
        self.additions = [
            CommitOperationAdd(f"runs/{run_id}/{file.relative_to(folder).as_posix()}", file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        ]
        self._thread = threading.Thread(target=self._send, args=(runs,), name="upload of a run", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def _send(self, runs: HubRuns) -> None:
        try:
            runs.upload(self.additions)
        except StudioError as error:
            self.error = error


def delete_folder(run_id: str, name: str) -> "CommitOperationDelete":
    from huggingface_hub import CommitOperationDelete

    return CommitOperationDelete(f"runs/{run_id}/{name}/", is_folder=True)


def step_of(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0
