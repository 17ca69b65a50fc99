"""One SQLite file that many threads and processes write; what was written is on the disk when a call returns."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhfv.corrections.migrations import connect, migrate


class Database:
    """The file at `path`, made or brought to the newest schema when it is opened; each thread has its connection."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._threads = threading.local()
        migrate(self._connection)

    @property
    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = connect(self.path)
        return self._threads.connection

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute(begin)
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes the connection of this thread; those of other threads close when their threads end."""
        self._connection.close()
        del self._threads.connection


def dump(value: object) -> str:
    # ASCII: every string that Python can hold comes back as it was, lone surrogates in a draft and NUL included.
    return json.dumps(value)


def storable(value: str | None) -> str | None:
    """A key as UTF-8 can hold it: a forged one then simply finds nothing."""
    return None if value is None else str(value).encode("utf-8", "replace").decode("utf-8")
