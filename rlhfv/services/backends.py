"""Where a run trains when it is not this machine: a machine that takes runs from a private repository on the Hub, or a
job there. In the name of whoever asks, with the token that they gave."""

import logging
import math
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from rlhfv.ddpo.check import CheckReport
from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import NotFound, RunFailed, StudioError
from rlhfv.models.catalog import Entry
from rlhfv.runs.bundle import base_files
from rlhfv.runs.hub_jobs import Flavor, HubJobs, JobEstimate, estimate, find_flavor
from rlhfv.runs.hub_runs import ENDED, JOB, HubRun, HubRuns, HubWorker
from rlhfv.runs.state import Run
from rlhfv.services.actor import Actor
from rlhfv.services.memory import ELSEWHERE
from rlhfv.services.publishing import Publishing
from rlhfv.services.sent_runs import SentRuns
from rlhfv.services.training import Training, none_usable

REFRESH_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOffer:
    """A machine of the Hub, and what the run takes on it."""

    flavor: Flavor
    estimate: JobEstimate


@dataclass(frozen=True)
class Place:
    """Where a run is to train: a worker of the private repository `repo`, or with `flavor` a job of the Hub on that
    machine, `timeout` seconds at most (by default as in its offer), in the container `image`. `with_base` says that a
    base that is a folder of this machine may go along."""

    repo: str
    flavor: str = ""
    timeout: int | None = None
    image: str | None = None
    with_base: bool = False


@dataclass(frozen=True)
class Plan:
    """What one has to agree to before a run is sent: `base_size` bytes of a base that is a folder of this machine, 0
    when it is fetched by its name; for a job the machines and their prices."""

    base_size: int
    offers: tuple[JobOffer, ...] = ()


class Backends:
    def __init__(self, training: Training, publishing: Publishing, sent: SentRuns):
        self.training, self.publishing, self.local, self.sent = training, publishing, training.local, sent
        self._asked: dict[str, float] = {}
        self._trouble: dict[str, str] = {}
        self._mutex = threading.Lock()

    def workers(self, actor: Actor, repo: str) -> list[HubWorker]:
        """The machines that took runs from the repository, what they have and when they were last seen; none where
        there is no such repository yet."""
        runs = self._runs(actor, repo)
        return runs.workers() if runs.exists() else []

    def offers(self, actor: Actor, repo: str, run_id: str) -> list[JobOffer]:
        """The machines of the Hub at their present prices, with time and cost of the run on each."""
        jobs = HubJobs(self._runs(actor, repo))
        return self._offers(jobs, *self._question(actor, run_id))

    def plan(self, actor: Actor, repo: str, config: TrainingConfig, copy_of: str = "", job: bool = False) -> Plan:
        """What one has to agree to before `start`, found out before anything is frozen.

        Raises:
            SignInNeeded, InvalidData, RunFailed: nobody is signed in, or this is no name of a private repository.
            HubRefused: the token may not look there, or may not start jobs.
        """
        runs = self._runs(actor, repo)
        runs.require_private_if_there()
        base = self.training.base_to_train(actor, here=False)
        base_path = (
            self.local.base_path(self.training.run(actor, copy_of).config)
            if copy_of
            else self.training.host.base_path(base)
        )
        size = sum(file.stat().st_size for file in base_files(base_path)) if base_path else 0
        if not job:
            return Plan(size)
        jobs = HubJobs(runs)
        jobs.require_right()
        entry = self.training.base_of(actor, copy_of) if copy_of else base.entry
        report = self.training.check(actor, config, copy_of, here=False)
        if not report.usable:
            raise none_usable(report)
        return Plan(size, tuple(self._offers(jobs, entry, config, report)))

    def start(self, actor: Actor, config: TrainingConfig, place: Place, title: str = "", copy_of: str = "") -> Run:
        """Freezes a run, of the actor's pairs or of those of the run `copy_of`, and sends it to `place`.

        When that fails, what reached the repository can be resumed from there, and if nothing did, no run is left.
        Where the Hub cannot say what did, the run counts as queued there until it can.
        """
        self._runs(actor, place.repo)  # refused before anything is frozen
        if copy_of:
            run_id = self.training.duplicate(actor, copy_of, config, title, ELSEWHERE).id
        else:
            run_id = self.training.start(actor, config, title, ELSEWHERE)
        with self.fresh(actor, run_id):
            if not place.flavor:
                return self.send(actor, run_id, place.repo, place.with_base)
            job = (place.flavor, place.timeout, place.image, place.with_base)
            return self.launch(actor, run_id, place.repo, *job)

    def fresh(self, actor: Actor, run_id: str) -> AbstractContextManager[None]:
        """Around what sends a run that was frozen just for that: if it fails and nothing arrived, no run is left."""
        actor.require("train")
        return self._fresh(actor, run_id)

    @contextmanager
    def _fresh(self, actor: Actor, run_id: str) -> Iterator[None]:
        try:
            yield
        except StudioError:
            if not self.training.run(actor, run_id).remote:
                self.training.delete(actor, run_id)
            raise

    def send(self, actor: Actor, run_id: str, repo: str, with_base: bool = False) -> Run:
        """Queues a run that was frozen here in a private repository, for whichever of its workers comes first.

        Raises:
            BaseStaysHere: its base is a folder of this machine, and `with_base` does not say that it may go along.
            RunFailed: it is at work here or there, or the repository is public.
        """
        runs, run = self._open_for(actor, repo), self._startable(actor, run_id)
        with self._kept(runs, run, {"reserved": False}):
            sent, _ = runs.send(self.local.open(run.id), self.local.base_path(run.config), with_base)
            return self._note(runs, sent)

    def launch(
        self,
        actor: Actor,
        run_id: str,
        repo: str,
        flavor: str,
        timeout: int | None = None,
        image: str | None = None,
        with_base: bool = False,
    ) -> Run:
        """Trains a run that was frozen here as a job of the Hub, with the repository between.

        Args:
            flavor: the name of a machine, as in `offers`.
            timeout: seconds after which the Hub ends the job; by default as in `offers`.
            image: a container image with pip; by default the official one of this Python.

        Raises:
            InvalidData: there is no such machine.
            HubRefused: the token may not start jobs, or nobody paid for them.
        """
        runs, run = self._open_for(actor, repo), self._startable(actor, run_id)
        jobs, asked = HubJobs(runs), {"timeout": timeout, "image": image}
        timeout = timeout or self._timeout(actor, jobs, flavor, run_id)
        with self._kept(runs, run, {"reserved": True, **asked}):
            folder, base_path = self.local.open(run.id), self.local.base_path(run.config)
            return self._note(runs, jobs.launch(folder, flavor, timeout, image, base_path, with_base), asked)

    def refresh(self, actor: Actor, run_id: str) -> Run:
        """Brings here what happened to a run elsewhere: its state, events, log, and in the end what it made."""
        run = self.training.run(actor, run_id)
        if not run.remote:
            return run
        runs = self._runs(actor, run.remote["repo"])
        try:
            seen = HubJobs(runs).follow(run_id) if run.remote["job"] or run.remote["reserved"] else runs.get(run_id)
        except NotFound:
            if not self._never_arrived(runs, run):
                raise
            return self._note_back(run)
        return self._note(runs, seen)

    def refresh_soon(self, actor: Actor, run_id: str) -> None:
        """`refresh` in the background, at most every few seconds, of a run that goes on elsewhere; nothing happens for
        somebody who is not signed in to the Hub."""
        actor.require("train")
        if not run_id or self.publishing.signed_in_as(actor) is None:
            return
        try:
            run = self.training.run(actor, run_id)
        except NotFound:  # deleted in another window
            return
        if not run.remote or run.state in ENDED:
            return
        with self._mutex:
            if time.monotonic() - self._asked.get(run_id, -math.inf) < REFRESH_SECONDS:
                return
            self._asked[run_id] = math.inf  # until this one is over

        def refresh() -> None:
            try:
                self.refresh(actor, run_id)
                self._trouble.pop(run_id, None)
            except StudioError as error:
                self._trouble[run_id] = str(error)
                _log.warning("%s", error)
            finally:
                self._asked[run_id] = time.monotonic()

        threading.Thread(target=refresh, name=f"refresh of {run_id}", daemon=True).start()

    def trouble(self, actor: Actor, run_id: str) -> str:
        """Why the last `refresh_soon` of a run brought nothing; empty when it did."""
        return self._trouble.get(self.training.run(actor, run_id).id, "")

    def stop(self, actor: Actor, run_id: str) -> Run:
        """Ends a run where it is, with a checkpoint; a job is cancelled at once when that is asked for again."""
        run = self.training.run(actor, run_id)
        if not run.remote:
            return self.training.stop(actor, run_id)
        runs = self._runs(actor, run.remote["repo"])
        try:
            stopped = HubJobs(runs).stop(run_id) if run.remote["reserved"] else runs.ask_stop(run_id)
        except NotFound:
            if not self._never_arrived(runs, run):
                raise
            return self._note_back(run)
        return self._note(runs, stopped)

    def resume(
        self, actor: Actor, run_id: str, flavor: str = "", timeout: int | None = None, image: str | None = None
    ) -> Run:
        """Goes on where the run was, from the last checkpoint that was pushed; a job needs its `flavor` again, and
        keeps `timeout` and `image` of its last start where none are named."""
        run = self.training.run(actor, run_id)
        if not run.remote:
            return self.training.resume(actor, run_id)
        runs = self._open_for(actor, run.remote["repo"])
        if not run.remote["reserved"]:
            with self._kept(runs, run, {}):
                return self._note(runs, runs.resume(run_id))
        if not flavor:
            raise RunFailed(
                f"The run “{run.title}” was a job of the Hub.", "A job is paid for.", "Name the machine (--flavor)."
            )
        jobs = HubJobs(runs)
        asked = {"timeout": timeout or run.remote.get("timeout"), "image": image or run.remote.get("image")}
        timeout = asked["timeout"] or self._timeout(actor, jobs, flavor, run_id)
        with self._kept(runs, run, asked):
            return self._note(runs, jobs.resume(run_id, flavor, timeout, asked["image"]), asked)

    # ---- what they share

    def _runs(self, actor: Actor, repo: str) -> HubRuns:
        actor.require("train")
        return HubRuns(self.publishing.hub(actor), repo)

    def _open_for(self, actor: Actor, repo: str) -> HubRuns:
        """The repository that a run is about to go to; what was erased meanwhile leaves it first."""
        runs = self._runs(actor, repo)
        if repo in self.sent.waiting() and runs.exists():
            self.sent.erase(runs.hub, repo)
        self.sent.remember(repo)
        return runs

    def _startable(self, actor: Actor, run_id: str) -> Run:
        run = self.training.run(actor, run_id)
        if run.state not in ("stopped", "failed") and not (run.remote and run.state == "queued"):
            raise RunFailed(
                f"The run “{run.title}” cannot be sent.", f"It is {run.state}.", "Stop it first, or duplicate it."
            )
        return run

    @contextmanager
    def _kept(self, runs: HubRuns, run: Run, asked: dict) -> Iterator[None]:
        """Keeps here what reached the repository when the block fails. When the Hub cannot be asked, the run counts as
        queued there: a job that may be paid for must not look as if it could begin again."""
        try:
            yield
        except StudioError:
            try:
                self._note(runs, runs.get(run.id), asked)
            except NotFound:
                pass
            except StudioError as error:
                _log.warning("%s", error)
                unseen = {"worker": "", "seen": "", "job": "", "reserved": False, "error": ""}
                known = run.remote if run.remote.get("repo") == runs.repo else {}
                self.local.note_remote(run.id, {**unseen, **known, **asked, "repo": runs.repo, "state": "queued"})
            raise

    def _never_arrived(self, runs: HubRuns, run: Run) -> bool:
        """Whether the run, which the repository lacks, was never seen there; a token that does not see the repository
        cannot tell unless it is its owner's."""
        return not run.remote["seen"] and (runs.exists() or runs.hub.owns(runs.repo))

    def _note_back(self, run: Run) -> Run:
        self.local.note_remote(run.id, {})
        return self.local.get(run.id)

    def _note(self, runs: HubRuns, seen: HubRun, asked: dict | None = None) -> Run:
        """Keep here how the run stands there, and with which `asked` timeout and image its job was started."""
        before = self.local.get(seen.id).remote if asked is None else asked
        state = "stopping" if seen.state == "running" and seen.stop else seen.state
        remote = {
            "repo": runs.repo,
            "state": "queued" if runs.is_lapsed(seen) else state,
            "worker": seen.worker,
            "seen": seen.seen.isoformat() if seen.seen else "",
            "job": seen.job,
            "reserved": seen.reserved == JOB,
            "error": seen.error,
            "timeout": before.get("timeout"),
            "image": before.get("image"),
        }
        begin = self.local.note_remote(seen.id, {**remote, "state": "running"} if seen.state in ENDED else remote)
        runs.fetch(seen.id, self.local.open(seen.id), begin)
        self.local.note_remote(seen.id, remote)  # an ended run is shown as such once all of it is here
        return self.local.get(seen.id)

    def _timeout(self, actor: Actor, jobs: HubJobs, flavor: str, run_id: str) -> int:
        found = find_flavor(jobs.flavors(), flavor)
        return estimate(found, *self._operations(*self._question(actor, run_id))).timeout

    def _question(self, actor: Actor, run_id: str) -> tuple[Entry, TrainingConfig, CheckReport]:
        """Base, settings and check of a frozen run."""
        config = TrainingConfig.from_dict(self.training.run(actor, run_id).config["training"])
        return self.training.base_of(actor, run_id), config, self.training.check(actor, config, run_id, here=False)

    def _offers(self, jobs: HubJobs, entry: Entry, config: TrainingConfig, report: CheckReport) -> list[JobOffer]:
        operations, share = self._operations(entry, config, report)
        return [JobOffer(flavor, estimate(flavor, operations, share)) for flavor in jobs.flavors()]

    def _operations(self, entry: Entry, config: TrainingConfig, report: CheckReport) -> tuple[float, float]:
        """Floating-point operations of a run, and the share of a machine's speed that training reaches."""
        from rlhfv.ddpo.base import computes_in_bfloat16
        from rlhfv.ddpo.cost import START_SECONDS, USED_SHARE, measure_speed
        from rlhfv.models.catalog import choose_device

        speed = measure_speed(choose_device(), computes_in_bfloat16(entry, config))
        return max(0.0, report.seconds - START_SECONDS) * USED_SHARE * speed, USED_SHARE
