"""One SQLite file that many threads and processes write; what was written is on the disk when a call returns."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhfv.corrections.migrations import connect, migrate
from rlhfv.errors import StoreUnavailable


class Database:
    """The file at `path`, made or brought to the newest schema when it is opened; each thread has its connection.

    Raises StoreUnavailable when it cannot be opened or is no database; every writing method raises it when the disk is
    full or the file locked for long, and then nothing of that call is kept.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._threads = threading.local()
        try:
            migrate(self._connection)
        except sqlite3.DatabaseError as error:
            raise self._unavailable("opened", error) from error

    @property
    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._threads, "connection"):
            self._threads.connection = connect(self.path)
        return self._threads.connection

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        connection = self._connection
        try:
            connection.execute(begin)
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise self._unavailable("used", error) from error
            raise

    def _unavailable(self, done: str, error: sqlite3.Error) -> StoreUnavailable:
        return StoreUnavailable(
            f"The database {self.path.name} could not be {done}.",
            f"SQLite says: {error}.",
            "Check the free space and the rights of the data folder, then try again; what was saved before is kept.",
        )

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
