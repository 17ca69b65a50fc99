"""Where a run trains when it is not this machine: a machine that takes runs from a private repository on the Hub, or a
job there. In the name of whoever asks, with the token that they gave."""

import logging
import math
import threading
import time
from dataclasses import dataclass

from rlhfv.ddpo.config import TrainingConfig
from rlhfv.errors import NotFound, RunFailed, StudioError
from rlhfv.runs.hub_jobs import Flavor, HubJobs, JobEstimate, estimate, find_flavor
from rlhfv.runs.hub_runs import ENDED, JOB, HubRun, HubRuns, HubWorker
from rlhfv.runs.state import Run
from rlhfv.services.actor import Actor
from rlhfv.services.publishing import Publishing
from rlhfv.services.training import Training

REFRESH_SECONDS = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOffer:
    """A machine of the Hub, and what the run takes on it."""

    flavor: Flavor
    estimate: JobEstimate


class Backends:
    def __init__(self, training: Training, publishing: Publishing):
        self.training, self.publishing, self.local = training, publishing, training.local
        self._asked: dict[str, float] = {}
        self._mutex = threading.Lock()

    def workers(self, actor: Actor, repo: str) -> list[HubWorker]:
        """The machines that took runs from the repository, what they have and when they were last seen."""
        return self._runs(actor, repo).workers()

    def offers(self, actor: Actor, repo: str, run_id: str) -> list[JobOffer]:
        """The machines of the Hub at their present prices, with time and cost of the run on each."""
        jobs = HubJobs(self._runs(actor, repo))
        operations, share = self._operations(actor, run_id)
        return [JobOffer(flavor, estimate(flavor, operations, share)) for flavor in jobs.flavors()]

    def send(self, actor: Actor, run_id: str, repo: str, with_base: bool = False) -> Run:
        """Queues a run that was frozen here in a private repository, for whichever of its workers comes first.

        Raises:
            BaseStaysHere: its base is a folder of this machine, and `with_base` does not say that it may go along.
            RunFailed: it is at work here or there, or the repository is public.
        """
        runs, run = self._runs(actor, repo), self._startable(actor, run_id)
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

        Raises:
            InvalidData: there is no such machine.
            HubRefused: the token may not start jobs, or nobody paid for them.
        """
        runs, run = self._runs(actor, repo), self._startable(actor, run_id)
        jobs = HubJobs(runs)
        timeout = timeout or self._timeout(actor, jobs, flavor, run_id)
        base_path = self.local.base_path(run.config)
        return self._note(runs, jobs.launch(self.local.open(run.id), flavor, timeout, image, base_path, with_base))

    def refresh(self, actor: Actor, run_id: str) -> Run:
        """Brings here what happened to a run elsewhere: its state, events, log, and in the end what it made."""
        run = self.training.run(actor, run_id)
        if not run.remote:
            return run
        runs = self._runs(actor, run.remote["repo"])
        seen = HubJobs(runs).follow(run_id) if run.remote["job"] or run.remote["reserved"] else runs.get(run_id)
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
            except StudioError as error:
                _log.warning("%s", error)
            finally:
                self._asked[run_id] = time.monotonic()

        threading.Thread(target=refresh, name=f"refresh of {run_id}", daemon=True).start()

    def stop(self, actor: Actor, run_id: str) -> Run:
        """Ends a run where it is, with a checkpoint; a job is cancelled at once when that is asked for again."""
        run = self.training.run(actor, run_id)
        if not run.remote:
            return self.training.stop(actor, run_id)
        runs = self._runs(actor, run.remote["repo"])
        stopped = HubJobs(runs).stop(run_id) if run.remote["reserved"] else runs.ask_stop(run_id)
        return self._note(runs, stopped)

    def resume(self, actor: Actor, run_id: str, flavor: str = "", timeout: int | None = None) -> Run:
        """Goes on where the run was, from the last checkpoint that was pushed; a job needs its `flavor` again."""
        run = self.training.run(actor, run_id)
        if not run.remote:
            return self.training.resume(actor, run_id)
        runs = self._runs(actor, run.remote["repo"])
        if not run.remote["reserved"]:
            return self._note(runs, runs.resume(run_id))
        if not flavor:
            raise RunFailed(
                f"The run “{run.title}” was a job of the Hub.", "A job is paid for.", "Name the machine (--flavor)."
            )
        jobs = HubJobs(runs)
        timeout = timeout or self._timeout(actor, jobs, flavor, run_id)
        return self._note(runs, jobs.resume(run_id, flavor, timeout))

    # ---- what they share

    def _runs(self, actor: Actor, repo: str) -> HubRuns:
        actor.require("train")
        return HubRuns(self.publishing.hub(actor), repo)

    def _startable(self, actor: Actor, run_id: str) -> Run:
        run = self.training.run(actor, run_id)
        if run.state not in ("stopped", "failed") and not (run.remote and run.state == "queued"):
            raise RunFailed(
                f"The run “{run.title}” cannot be sent.", f"It is {run.state}.", "Stop it first, or duplicate it."
            )
        return run

    def _note(self, runs: HubRuns, seen: HubRun) -> Run:
        """Keep here how the run stands there."""
        state = "stopping" if seen.state == "running" and seen.stop else seen.state
        remote = {
            "repo": runs.repo,
            "state": "queued" if runs.is_lapsed(seen) else state,
            "worker": seen.worker,
            "seen": seen.seen.isoformat() if seen.seen else "",
            "job": seen.job,
            "reserved": seen.reserved == JOB,
            "error": seen.error,
        }
        begin = self.local.note_remote(seen.id, {**remote, "state": "running"} if seen.state in ENDED else remote)
        runs.fetch(seen.id, self.local.open(seen.id), begin)
        self.local.note_remote(seen.id, remote)  # an ended run is shown as such once all of it is here
        return self.local.get(seen.id)

    def _timeout(self, actor: Actor, jobs: HubJobs, flavor: str, run_id: str) -> int:
        operations, share = self._operations(actor, run_id)
        return estimate(find_flavor(jobs.flavors(), flavor), operations, share).timeout

    def _operations(self, actor: Actor, run_id: str) -> tuple[float, float]:
        """Floating-point operations of a run, and the share of a machine's speed that training reaches."""
        from rlhfv.ddpo.base import computes_in_bfloat16
        from rlhfv.ddpo.cost import START_SECONDS, USED_SHARE, measure_speed
        from rlhfv.models.catalog import choose_device, find_entry

        run = self.training.run(actor, run_id)
        base, config = run.config["base"], TrainingConfig.from_dict(run.config["training"])
        path = self.local.base_path(run.config)
        source, revision = base["source"], base["revision"] if "/" in base["source"] else None
        entry = find_entry(str(path)) if path else find_entry(source, revision)
        report = self.training.check_frozen(actor, run_id, config, entry)
        speed = measure_speed(choose_device(), computes_in_bfloat16(entry, config))
        return max(0.0, report.seconds - START_SECONDS) * USED_SHARE * speed, USED_SHARE
