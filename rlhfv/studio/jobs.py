"""What goes on for a visitor while pages come and go: one thread each, and how far it is."""

import threading
from collections.abc import Callable

from rlhfv.errors import InvalidData
from rlhfv.studio.events import explain

Tell = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


class Job:
    """One thing at work. `stages` are those so far, in order, each once; `done` of `total` tells of the last one;
    `about` is what it was begun for. At the end `result` or `error`, its three parts, is set.
    """

    def __init__(self, kind: str, work: Callable[[Tell], object], about: object = None):
        self.kind, self.about = kind, about
        self.stages: list[str] = []
        self.done = self.total = 0
        self.result: object = None
        self.error: tuple[str, str, str] | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=kind, daemon=True)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _tell(self, stage: str, done: int, total: int) -> None:
        self.stages = [*(each for each in self.stages if each != stage), stage]
        self.done, self.total = done, total

    def _run(self) -> None:
        try:
            self.result = self._work(self._tell)
        except Exception as error:
            self.error = explain(error)


class Jobs:
    """At most one job a visitor; the last one is kept until it is cleared or another begins."""

    def __init__(self):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def begin(self, visitor: str, kind: str, work: Callable[[Tell], object], about: object = None) -> Job:
        """Raises InvalidData while the visitor's last job runs."""
        with self._lock:
            if visitor in self._jobs and self._jobs[visitor].running:
                raise InvalidData(
                    "Something is at work here already.",
                    "One thing at a time keeps them in order.",
                    "Wait until it is done.",
                )
            job = self._jobs[visitor] = Job(kind, work, about)
            job.start()
        return job

    def of(self, visitor: str) -> Job | None:
        return self._jobs.get(visitor)

    def clear(self, visitor: str) -> None:
        """Forgets a job that has ended."""
        with self._lock:
            if visitor in self._jobs and not self._jobs[visitor].running:
                del self._jobs[visitor]
