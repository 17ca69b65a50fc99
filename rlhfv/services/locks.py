"""One visitor's locks: two tabs share a conversation, and what one of them does must not undo what the other did."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager


class VisitorLocks:
    """Two locks a visitor, as long as somebody holds one: visitors who pass leave nothing behind."""

    def __init__(self):
        self._locks: weakref.WeakValueDictionary[str, _VisitorLock] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._locks)

    @contextmanager
    def turn(self, visitor: str) -> Iterator[None]:
        """While a question is answered: turns do not interleave."""
        lock = self._of(visitor)
        with lock.turn:
            yield

    @contextmanager
    def state(self, visitor: str) -> Iterator[None]:
        """For the moment in which the kept conversation is read, changed and kept again."""
        lock = self._of(visitor)
        with lock.state:
            yield

    @contextmanager
    def free_turn(self, visitor: str) -> Iterator[bool]:
        """Between turns; says False, and holds nothing, while a question is answered."""
        lock = self._of(visitor)
        free = lock.turn.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                lock.turn.release()

    def _of(self, visitor: str) -> "_VisitorLock":
        """To be held by the caller: only that keeps it the visitor's one."""
        with self._guard:
            lock = self._locks.get(visitor)
            if lock is None:
                lock = self._locks[visitor] = _VisitorLock()
            return lock


class _VisitorLock:
    def __init__(self):
        self.turn, self.state = threading.Lock(), threading.RLock()
