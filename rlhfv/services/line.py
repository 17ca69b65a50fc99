"""The line in front of the model on this machine: whose turn it is, and about how long the others still wait."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

AT_ONCE = 2
"""One is answered, and the next one is there when it ends."""
REMEMBERED = 20
POLL_SECONDS = 0.5
LOOK_SECONDS, MOST_LOOK_SECONDS = 0.4, 10.0
"""How often one looks where one stands, for each place before the turn; a page takes milliseconds to be told."""


@dataclass(frozen=True)
class Place:
    """The `number` of a question in the line, those that are answered now included, and the `seconds` until its turn;
    0 where that is not known yet."""

    number: int
    seconds: int = 0


class Line:
    """Questions in the order in which they came; `AT_ONCE` of them are let through. How long one keeps the model busy
    is the mean of the last ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._waiting: deque[_Ticket] = deque()
        self._answered: dict[_Ticket, float] = {}
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self._last_end = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def join(self) -> Iterator["_Ticket"]:
        """A place at the end of the line, given back at the end of the block."""
        ticket = _Ticket()
        with self._changed:
            self._waiting.append(ticket)
            self._let_through()
        try:
            yield ticket
        finally:
            with self._changed:
                if ticket in self._answered:
                    now = self._clock()
                    self._took.append(now - max(self._answered.pop(ticket), self._last_end))
                    self._last_end = now
                else:
                    self._waiting.remove(ticket)
                self._let_through()
                self._changed.notify_all()

    def wait(self, ticket: "_Ticket", stop: threading.Event) -> Iterator[Place]:
        """Ends when it is the ticket's turn, or at `stop`; until then yields its place when that has changed. Far
        behind it is looked at less often: each look is sent to a page."""
        told, look = None, time.monotonic()
        while not stop.is_set():
            with self._changed:
                pause = min(look - time.monotonic(), POLL_SECONDS)
                if self._changed.wait_for(lambda: ticket in self._answered, max(pause, 0)):
                    return
                place = self._place(ticket)
            if (now := time.monotonic()) < look:
                continue
            if place == told:
                look = now + POLL_SECONDS
                continue
            told, look = place, now + min(LOOK_SECONDS * (place.number - AT_ONCE), MOST_LOOK_SECONDS)
            yield place

    def _let_through(self) -> None:
        while self._waiting and len(self._answered) < AT_ONCE:
            self._answered[self._waiting.popleft()] = self._clock()

    def _place(self, ticket: "_Ticket") -> Place:
        before = len(self._answered) + self._waiting.index(ticket)
        mean = sum(self._took) / len(self._took) if self._took else 0.0
        seconds = before * mean
        return Place(before + 1, max(1, round(seconds) if seconds < 10 else 5 * round(seconds / 5)) if mean else 0)


class _Ticket:
    """Nothing but itself."""
