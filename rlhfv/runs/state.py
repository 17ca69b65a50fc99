"""What a run is doing, read from its worker process and its events, never stored."""

from dataclasses import asdict, dataclass, field

from rlhfv.runs.processes import Process

ALIVE = ("starting", "running", "stopping")


@dataclass(frozen=True)
class Run:
    """A run as it is now. `state`: queued, starting, running, stopping, stopped, failed or done. `place` is its place
    in the queue from 1, `memory` the free bytes a queued run waits for, `eta` seconds to its end, or of a queued one
    to its turn where runs have only so many, `error` one sentence or more when it failed, `lines` the end of its log;
    `has_adapter` and `has_model` say what it made: a full tuning makes a whole model, which is no voice of the chat
    but a base of its own. `remote` is empty for a run of this machine, else where it trains as it was last seen:
    {"repo", "state", "worker", "seen", "job", "error"}."""

    id: str
    kind: str
    title: str
    state: str
    created: str
    config: dict
    parent: str | None = None
    step: int = 0
    total_steps: int = 0
    eta: float | None = None
    place: int | None = None
    memory: int = 0
    error: str = ""
    lines: tuple[str, ...] = ()
    has_adapter: bool = False
    has_model: bool = False
    remote: dict = field(default_factory=dict)

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.state == "done":
            return 1.0
        return min(1.0, self.step / self.total_steps) if self.total_steps else 0.0

    def to_dict(self) -> dict:
        return {**asdict(self), "progress": self.progress}


@dataclass
class Record:
    """What is kept of a run outside its folder. `events_from` is where the events of the present attempt begin; it
    waits in the queue until `memory` bytes are free, and works `alone` when the studio may hold no model beside it.
    `remote` is set while it trains elsewhere, see `Run`."""

    queued: int | None = None
    process: Process | None = None
    stop_asked: float | None = None
    events_from: int = 0
    memory: int = 0
    alone: bool = False
    remote: dict = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        return self.process is None and self.queued is not None


@dataclass
class Tail:
    """What the events of the present attempt say so far, read once each."""

    offset: int
    began: bool = False
    stopping: bool = False
    ended: str = ""
    error: str = ""
    step: int = 0
    total_steps: int = 0
    eta: float | None = None

    def take(self, event: dict) -> None:
        kind, state = event["kind"], event.get("state")
        if kind == "step":
            self.began = True
            self.step = _number(event, "step") or self.step
            self.total_steps = _number(event, "total_steps") or self.total_steps
            self.eta = _number(event, "eta") if "eta" in event else self.eta
        elif kind == "state" and state in ("starting", "running"):
            self.began, self.stopping, self.ended, self.error = state == "running", False, "", ""
        elif kind == "state" and state == "stopping":
            self.stopping = True
        elif kind == "state" and state in ("stopped", "failed", "done"):
            self.ended = state
        elif kind == "done":
            self.ended = "done"
        elif kind == "error":
            self.ended = "failed"
            self.error = " ".join(str(event[part]) for part in ("what", "why", "fix") if event.get(part))


def _number(event: dict, name: str) -> float | None:
    value = event.get(name)
    return value if isinstance(value, (int, float)) else None


def read_state(record: Record, tail: Tail, alive: bool, known: bool) -> str:
    """The state of a run whose worker is alive or not. `known` is False for a folder that no studio here started."""
    if record.remote and not alive:
        return record.remote["state"]
    if record.waits and not alive:
        return "queued"
    if alive:  # also for the moment between its last event and its end: until then the next run cannot start
        if record.stop_asked is not None or tail.stopping:
            return "stopping"
        return "running" if tail.began else "starting"
    if tail.ended:
        return tail.ended
    if record.stop_asked is not None or record.process is None:
        return "failed" if not known and tail.began else "stopped"
    return "failed"
