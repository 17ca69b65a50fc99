"""Starts what waits in the queue. Each of several studios may have one: the runs' file lock lets one of them start."""

import logging
import threading
from collections.abc import Callable

from rlhfv.runs.local import LocalRuns

_log = logging.getLogger(__name__)


class Supervisor:
    """A background thread of a studio or of the command line. The workers it starts outlive it. `then` is called after
    each look at the queue."""

    def __init__(self, runs: LocalRuns, seconds: float = 0.5, then: Callable[[], None] = lambda: None):
        self._runs, self._seconds, self._then = runs, seconds, then
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="run supervisor", daemon=True)

    def start(self) -> "Supervisor":
        self._thread.start()
        return self

    def close(self) -> None:
        """End the thread; workers go on."""
        self._ending.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ending.wait(self._seconds):
            try:
                self._runs.start_next()
                self._then()
            except Exception:  # one broken run must not keep the others waiting for ever
                _log.exception("the next run could not be started")
