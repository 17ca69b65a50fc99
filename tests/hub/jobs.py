"""Jobs: start, list, look, logs, cancel, hardware. A job is a process of this machine: its command runs as it came, in
an empty folder, with the variables and secrets of the job and nothing of this machine's but the Python of the tests.

The image is a name only. What a real image would get from a package index is there already, so `pip` installs just the
wheels that are named, without an index, into the job's own place; `hf` is the client's own.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.hub.repos import as_date
from tests.hub.wire import Refusal, Request, Response, reply, reply_page

PAGE = 50
SECONDS = 1800
TERMINAL = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
JOB = r"/api/jobs/(?P<owner>[^/]+)/(?P<id>[^/]+)"
GPU = {"type": "gpu", "quantity": "1", "manufacturer": "Nvidia"}
HARDWARE = [
    ("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", None, 167),
    ("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", {**GPU, "model": "T4", "vram": "16 GB"}, 6667),
    ("l4x1", "1x Nvidia L4", "8 vCPU", "30 GB", {**GPU, "model": "L4", "vram": "24 GB"}, 13333),
    ("a100-large", "Nvidia A100 - large", "12 vCPU", "142 GB", {**GPU, "model": "A100", "vram": "80 GB"}, 41667),
]
PIP = """#!{python}
import subprocess, sys
wheels = [word for word in sys.argv[1:] if word.endswith(".whl")]
command = [{python!r}, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", {site!r}]
sys.exit(subprocess.call([*command, *wheels]) if wheels else 0)
"""


@dataclass
class Job:
    """`secrets` are kept for the process only; the Hub shows their names and never their values."""

    id: str
    owner: str
    spec: dict
    created: datetime
    secrets: dict[str, str] = field(repr=False, default_factory=dict)
    stage: str = "SCHEDULING"
    message: str | None = None
    started: datetime | None = None
    finished: datetime | None = None
    process: subprocess.Popen | None = field(repr=False, default=None)
    lines: list[tuple[str, str]] = field(repr=False, default_factory=list)


class Jobs:
    """The jobs of a Hub. `credit` says who can pay, everybody by default; `scheduling` is how long a start takes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.all: list[Job] = []
        self.broke: set[str] = set()
        self.scheduling = 0.0
        self._lock = threading.Lock()

    def start(self, hub, owner: str, spec: dict) -> Job:
        hidden = spec.pop("secrets", None) or {}
        job = Job(secrets.token_hex(12), owner, spec, datetime.now(UTC), hidden)
        with self._lock:
            self.all.insert(0, job)
        threading.Thread(target=self._run, args=(hub, job), daemon=True).start()
        return job

    def stop(self) -> None:
        for job in self.all:
            self.end(job, "CANCELED")
            if job.process is not None:
                job.process.wait()

    def end(self, job: Job, stage: str, message: str | None = None) -> None:
        with self._lock:
            if job.stage in TERMINAL:
                return
            job.stage, job.message, job.finished = stage, message, datetime.now(UTC)
        if job.process is not None and job.process.poll() is None:
            # While another thread waits for the process, `poll` cannot look and says None of a process that is gone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.process.pid, signal.SIGKILL)

    def _run(self, hub, job: Job) -> None:
        time.sleep(self.scheduling)
        place = self.folder / job.id
        environment = self._environment(hub, job, place)
        with self._lock:
            if job.stage != "SCHEDULING":
                return
            job.process = subprocess.Popen(
                job.spec["command"],
                cwd=place / "work",
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            job.stage, job.started = "RUNNING", datetime.now(UTC)
        timer = threading.Timer(
            job.spec.get("timeoutSeconds", SECONDS), self.end, (job, "ERROR", "Job timeout: it ran for too long")
        )
        timer.start()
        for line in job.process.stdout:
            job.lines.append((as_date(datetime.now(UTC)), line.rstrip("\n")))
        code = job.process.wait()
        timer.cancel()
        self.end(job, *(("ERROR", f"Job failed with exit code: {code}") if code else ("COMPLETED", None)))

    def _environment(self, hub, job: Job, place: Path) -> dict[str, str]:
        programs = place / "bin"
        for folder in (programs, place / "work", place / "site"):
            folder.mkdir(parents=True)
        pip = PIP.format(python=sys.executable, site=str(place / "site"))
        command = f"#!{sys.executable}\nfrom huggingface_hub.cli.hf import main\nmain()\n"
        for name, text in (("pip", pip), ("hf", command), ("python", None)):
            if text is None:
                (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
            else:
                (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        return {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(place / "work"),
            "PYTHONPATH": str(place / "site"),
            "OMP_NUM_THREADS": "1",
            **hub.settings(None, place / "home"),
            **{key: str(text) for key, text in job.spec.get("environment", {}).items()},
            **job.secrets,
            "JOB_ID": job.id,
            "ACCELERATOR": "none",
        }


def describe(job: Job) -> dict:
    shown = ("command", "arguments", "environment", "flavor", "labels", "dockerImage", "spaceId", "timeoutSeconds")
    return {
        "id": job.id,
        "createdAt": as_date(job.created),
        "startedAt": job.started and as_date(job.started),
        "finishedAt": job.finished and as_date(job.finished),
        **{name: job.spec.get(name) for name in shown},
        "secrets": list(job.secrets),
        "status": {"stage": job.stage, "message": job.message},
        "owner": {"id": "0" * 24, "name": job.owner, "type": "user"},
    }


def check(hub, request: Request, owner: str) -> None:
    """Who may look at jobs of this namespace and start them: a fine-grained token needs "job.write" for it."""
    token = request.token
    if token is None:
        raise Refusal(401, "Invalid username or password.")
    allowed = token.role == "write" or "job.write" in token.grants.get(owner, frozenset())
    if hub.people.role_in(token.person, owner) is None or not allowed:
        raise Refusal(403, "Forbidden: this token lacks the permission job.write")


def start(hub, request: Request, owner: str) -> Response:
    check(hub, request, owner)
    spec = request.json()
    if owner in hub.jobs.broke:
        raise Refusal(402, "Pre-paid credit balance is insufficient - add more credits to your account to use Jobs")
    if spec["flavor"] not in [row[0] for row in HARDWARE]:
        raise Refusal(400, f"Invalid flavor: {spec['flavor']}")
    return reply(describe(hub.jobs.start(hub, owner, spec)))


def list_all(hub, request: Request, owner: str) -> Response:
    check(hub, request, owner)
    found = [job for job in hub.jobs.all if job.owner == owner]
    for label in request.query.get("label", []):
        key, _, text = label.partition("=")
        found = [job for job in found if (job.spec.get("labels") or {}).get(key) == text]
    stages = request.query.get("stage", [])
    found = [job for job in found if not stages or job.stage in stages]
    return reply_page(hub, request, [describe(job) for job in found], PAGE)


def find(hub, request: Request, owner: str, id: str) -> Job:
    check(hub, request, owner)
    for job in hub.jobs.all:
        if (job.owner, job.id) == (owner, id):
            return job
    raise Refusal(404, "Job not found", "JobNotFound")


def show(hub, request: Request, owner: str, id: str) -> Response:
    return reply(describe(find(hub, request, owner, id)))


def cancel(hub, request: Request, owner: str, id: str) -> Response:
    job = find(hub, request, owner, id)
    hub.jobs.end(job, "CANCELED")
    return reply(describe(job))


def logs(hub, request: Request, owner: str, id: str) -> Response:
    """A stream that ends with the job, as server-sent events."""
    job = find(hub, request, owner, id)

    def stream() -> Iterator[bytes]:
        yield b": keep-alive\n\n"
        sent = max(0, len(job.lines) - int(request.query["tail"][0])) if "tail" in request.query else 0
        over = False
        while not over:
            over = job.stage in TERMINAL
            for when, text in job.lines[sent:]:
                sent += 1
                yield f"data: {json.dumps({'data': text, 'timestamp': when})}\n\n".encode()
            time.sleep(0 if over else 0.02)

    return Response(headers={"Content-Type": "text/event-stream"}, stream=stream())


def hardware(hub, request: Request) -> Response:
    names = ("name", "prettyName", "cpu", "ram", "accelerator", "unitCostMicroUSD")
    rows = [dict(zip(names, row, strict=True)) for row in HARDWARE]
    return reply([{**row, "unitCostUSD": row["unitCostMicroUSD"] / 1e6, "unitLabel": "minute"} for row in rows])


ROUTES = [
    ("GET", r"/api/jobs/hardware", hardware),
    ("POST", r"/api/jobs/(?P<owner>[^/]+)", start),
    ("GET", r"/api/jobs/(?P<owner>[^/]+)", list_all),
    ("GET", JOB, show),
    ("POST", JOB + r"/cancel", cancel),
    ("GET", JOB + r"/logs", logs),
]
