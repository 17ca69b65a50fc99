"""The long answers that a visitor can stop while a page streams them."""

import threading


class Stops:
    """What a visitor has going on. One visitor may have several pages open."""

    def __init__(self):
        self._events: dict[str, set[threading.Event]] = {}
        self._lock = threading.Lock()

    def add(self, visitor: str) -> threading.Event:
        event = threading.Event()
        with self._lock:
            self._events.setdefault(visitor, set()).add(event)
        return event

    def end(self, visitor: str, event: threading.Event) -> None:
        """Also stops what still runs: the page is gone."""
        event.set()
        with self._lock:
            events = self._events.get(visitor, set())
            events.discard(event)
            if not events:
                self._events.pop(visitor, None)

    def stop(self, visitor: str) -> None:
        with self._lock:
            for event in self._events.get(visitor, ()):
                event.set()
