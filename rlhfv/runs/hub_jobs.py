"""Runs as jobs on the Hub's machines: the run goes to its owner's private repository, and a job made for it alone
takes it from there, as any worker would. What it costs is known before the start, and no lost reply starts two jobs.

The job installs the wheel and the versions that came with the run, so it computes what this machine would.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.errors import InvalidData, RunFailed
from rlhfv.run_folder import RunFolder
from rlhfv.runs.bundle import REQUIREMENTS, python_version
from rlhfv.runs.hub_runs import ENDED, JOB, HubRun, HubRuns

if TYPE_CHECKING:
    from huggingface_hub import JobHardwareInfo, JobInfo

NEEDS = "start and see jobs there (role 'write', permission 'job.write'; OAuth 'jobs')"
SETUP_SECONDS = 300.0
"""A machine, its image, the packages and the base, before the first step."""
SHORTEST_TIMEOUT = 1800
STARTS = 4
OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
SPEEDS = {
    "T4": 65e12,
    "A10G": 70e12,
    "L4": 121e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX PRO 6000": 500e12,
    "H200": 989e12,
}
"""Dense 16-bit operations a second of one accelerator, as its maker states them."""
_COMMAND = (
    'pip install --quiet "huggingface_hub==$3"'
    f' && hf download "$0" "$2" {REQUIREMENTS} --revision "$1" --local-dir bundle'
    f' && pip install --quiet -r bundle/{REQUIREMENTS} "bundle/$2"'
    ' && exec python -m rlhfv runs work "$0@$1" --run "$4" --once'
)


@dataclass(frozen=True)
class Flavor:
    """A machine on offer: `price` is US dollars an hour, `speed` operations a second of its accelerators, 0 when that
    is not known."""

    name: str
    title: str
    price: float
    speed: float


@dataclass(frozen=True)
class JobEstimate:
    """What a run on a flavor takes: `seconds` (0 when nobody knows), the `timeout` after which the Hub ends it, and in
    US dollars the expected `cost` and the `most` that the timeout allows."""

    seconds: float
    timeout: int
    cost: float
    most: float


class HubJobs:
    """The jobs of one person for the runs of a repository, paid by the repository's owner.

    Args:
        wait: sleeps between two tries of a start.
    """

    def __init__(self, runs: HubRuns, wait: Callable[[float], None] = time.sleep):
        self.runs, self.hub, self.wait = runs, runs.hub, wait
        self.owner = runs.repo.partition("/")[0]

    def flavors(self) -> list[Flavor]:
        """What the Hub offers now, at its present prices, the cheapest first."""
        found = self.hub.ask("The list of machines", NEEDS, lambda api: api.list_jobs_hardware())
        return sorted((_read_flavor(one) for one in found), key=lambda flavor: (flavor.price, flavor.name))

    def require_right(self) -> None:
        """Raises HubRefused where the token may not see the jobs of the owner: then it may not start any."""
        self._list({"app": "rlhfv", "start": "none"})

    # ---- start

    def launch(
        self,
        run: RunFolder,
        flavor: str,
        timeout: int,
        image: str | None = None,
        base_path: Path | None = None,
        with_base: bool = False,
    ) -> HubRun:
        """Send `run` to the repository and start the job that takes it. Called again after a reply that got lost, it
        finds what there is and starts nothing twice.

        Args:
            timeout: seconds after which the Hub ends the job; the last pushed checkpoint stays.
            image: a container image with pip; by default the official one of this Python.

        Raises:
            HubRefused: the token may not start jobs, or nobody has paid for them.
            BaseStaysHere, RunFailed: as of `HubRuns.send`.
        """
        queued, commit = self._find_queued(run.id)
        if queued is None:
            self.require_right()  # before anything leaves this machine
            queued, commit = self.runs.send(run, base_path, with_base, JOB)
        return self._start(queued, commit, flavor, timeout, image)

    def resume(self, run_id: str, flavor: str, timeout: int, image: str | None = None) -> HubRun:
        """A new job for a run that was stopped or failed; it goes on from the last checkpoint that was pushed."""
        queued, commit = self._find_queued(run_id)
        if queued is None:
            queued = self.runs.resume(run_id)
            commit = self.runs.head()
        return self._start(queued, commit, flavor, timeout, image)

    def _find_queued(self, run_id: str) -> tuple[HubRun | None, str]:
        if self.runs.exists():
            for run in self.runs.look():
                if run.id == run_id and run.reserved == JOB and run.state == "queued" and not run.job:
                    return run, self.runs.head()
        return None, ""

    def _start(self, run: HubRun, commit: str, flavor: str, timeout: int, image: str | None) -> HubRun:
        from rlhfv.publishing.hub import HubBusy, HubRefused

        labels = {"app": "rlhfv", "run": run.id, "start": run.claim}
        words = [self.runs.repo, commit, run.wheel, metadata.version("huggingface-hub"), run.id]

        def start(api) -> "JobInfo":
            return api.run_job(
                image=image or f"python:{python_version()}",
                command=["sh", "-c", _COMMAND, *words],
                secrets={"HF_TOKEN": self.hub.give_secret()},
                flavor=flavor,
                timeout=timeout,
                name=f"rlhfv-{run.id}"[:100],
                labels=labels,
                namespace=self.owner,
            )

        for number in range(1, STARTS + 1):
            try:
                found = self._list(labels)  # a reply may have got lost, here or in an earlier process
                job = found[0] if found else self.hub.ask("The start of the job", NEEDS, start)
                return self.runs.note_job(run.id, job.id)
            except HubRefused as error:
                self.runs.close_job(run.id, "stopped", str(error))
                raise
            except HubBusy:
                if number == STARTS:
                    raise
            self.wait(2.0**number)
        raise AssertionError("the last try returns or raises")

    # ---- follow and end

    def follow(self, run_id: str) -> HubRun:
        """How the run stands; one whose job ended without a word from inside is failed or stopped from now on."""
        run = self._get(run_id)
        if run.state in ENDED or not run.job:
            return run
        job = self._inspect(run)
        if job.status.stage not in OVER:
            return run
        run = self.runs.get(run_id)  # its last word may have come just before
        if run.state in ENDED:
            return run
        if job.status.stage in ("CANCELED", "DELETED") or (run.state, job.status.stage) == ("queued", "COMPLETED"):
            return self.runs.close_job(run_id, "stopped")
        lines = list(self.logs(run, follow=False))
        error = RunFailed(
            f"The job ended before the run did: {(job.status.message or job.status.stage).rstrip('.')}.",
            f"Its last line: {lines[-1]}" if lines else "It said nothing.",
            "Read its log; resumed, the run goes on from the last checkpoint that was pushed.",
        )
        return self.runs.close_job(run_id, "failed", str(error))

    def stop(self, run_id: str) -> HubRun:
        """Ask the run to keep a checkpoint and end, which ends its job; asked again, or before the run began, the job
        is cancelled at once."""
        before = self._get(run_id)
        run = self.runs.ask_stop(run_id)
        if before.job and before.state not in ENDED and (before.stop or before.state == "queued"):
            cancel = lambda api: api.cancel_job(job_id=before.job, namespace=self.owner)  # noqa: E731
            self.hub.ask("The end of the job", NEEDS, cancel)
            run = self.runs.close_job(run_id, "stopped")
        return run

    def logs(self, run: HubRun, follow: bool = True) -> Iterator[str]:
        """What the job of a run says, line by line; with `follow` until it ends. A connection that breaks is made anew
        and no line comes twice."""
        given = 0
        for line in self._read_log(run, follow) if run.job else ():
            given += 1
            yield line
        if follow and run.job:  # the client ends a broken stream without its rest when the job is over by then
            yield from self.runs.repeat(lambda: list(self._read_log(run, follow=False)))[given:]

    def _read_log(self, run: HubRun, follow: bool) -> Iterator[str]:
        doing = "The reading of the job's log"
        read = lambda api: iter(api.fetch_job_logs(job_id=run.job, namespace=self.owner, follow=follow))  # noqa: E731
        lines = self.hub.ask(doing, NEEDS, read)
        while (line := self.hub.ask(doing, NEEDS, lambda api: next(lines, None))) is not None:
            yield self.hub.scrub(line)

    def _get(self, run_id: str) -> HubRun:
        """The run with its job, also when the reply that named the job never came."""
        run = self.runs.get(run_id)
        if run.state not in ENDED and not run.job:
            found = self._list({"app": "rlhfv", "run": run_id})
            live = [job for job in found if job.status.stage not in OVER]
            if live:
                return self.runs.note_job(run_id, live[0].id)
        return run

    def _inspect(self, run: HubRun) -> "JobInfo":
        look = lambda api: api.inspect_job(job_id=run.job, namespace=self.owner)  # noqa: E731
        return self.hub.ask("The look at the job", NEEDS, look)

    def _list(self, labels: dict[str, str]) -> "list[JobInfo]":
        find = lambda api: list(api.list_jobs(labels=labels, namespace=self.owner))  # noqa: E731
        return self.hub.ask("The look for the job", NEEDS, find)


def estimate(flavor: Flavor, operations: float, used_share: float) -> JobEstimate:
    """Time and price of so many floating-point operations on a flavor.

    The timeout is twice the estimate, which is right within a factor of about two, and never under half an hour.
    """
    seconds = SETUP_SECONDS + operations / (used_share * flavor.speed) if flavor.speed else 0.0
    timeout = max(SHORTEST_TIMEOUT, math.ceil(2 * seconds / 60) * 60)
    return JobEstimate(seconds, timeout, flavor.price * seconds / 3600, flavor.price * timeout / 3600)


def find_flavor(flavors: list[Flavor], name: str) -> Flavor:
    """Raises InvalidData for a machine that is not on offer."""
    for flavor in flavors:
        if flavor.name == name:
            return flavor
    raise InvalidData(
        f"There is no machine {name!r:.60}.",
        "The Hub offers others now.",
        f"Choose one of {', '.join(flavor.name for flavor in flavors)}.",
    )


def _read_flavor(one: "JobHardwareInfo") -> Flavor:
    hours = {"minute": 60, "hour": 1, "second": 3600}.get(one.unit_label, 60)
    speed, about = 0.0, f"{one.cpu}, {one.ram}"
    if one.accelerator is not None:
        model = one.accelerator.model.upper()
        known = [name for name in SPEEDS if name.split() == model.replace("-", " ").split()]
        speed = SPEEDS[known[0]] * int(one.accelerator.quantity) if known else 0.0
        about = f"{one.accelerator.vram}, {about}"
    return Flavor(one.name, f"{one.pretty_name} ({about})", one.unit_cost_usd * hours, speed)
