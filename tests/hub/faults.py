"""Faults on demand: what goes wrong with the next requests of a route."""

import re
import threading
from dataclasses import dataclass, field

DROPS = ("before", "during", "after", "reply")


@dataclass
class Fault:
    """What happens to a request whose "METHOD /path" the pattern is found in.

    First the server waits `delay` seconds. With a `status` the request is not handled: this is the answer, with
    these headers. `drop` says where the connection breaks: it is reset "before" anything of the body was read or
    "during" its upload, after half of it; or the request was handled and the connection ends "after" half of the
    answer, or without any ("reply", the lost reply). With a delay alone the request is handled late.
    """

    pattern: re.Pattern
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    message: str = ""
    delay: float = 0.0
    drop: str | None = None
    left: int | None = 1
    hits: int = 0

    def __str__(self) -> str:
        kinds = [self.drop and f"drop {self.drop}", self.status and str(self.status), self.delay and "delay"]
        return next(kind for kind in kinds if kind)


class Faults:
    """The faults that wait for their requests; the oldest that matches strikes."""

    def __init__(self):
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        if fault.drop not in (None, *DROPS):
            raise ValueError(f"A connection drops {', '.join(DROPS)}, not {fault.drop!r}.")
        if not (fault.drop or fault.status or fault.delay):
            raise ValueError("A fault needs a status, a delay or a drop.")
        with self._lock:
            self._waiting.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def take(self, route: str) -> Fault | None:
        with self._lock:
            for fault in self._waiting:
                if not fault.pattern.search(route):
                    continue
                fault.hits += 1
                if fault.left is not None:
                    fault.left -= 1
                    if not fault.left:
                        self._waiting.remove(fault)
                return fault
        return None
