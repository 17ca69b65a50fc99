"""What changed in the store since somebody copied it, and a store made anew of such copies.

Triggers note the key of every row that changes, in the same transaction, whichever process changes it. A copy is the
rows themselves as they are when it is read, so that copies can be laid over one another in their order: the last state
of a row wins, and a row that is gone is gone. Nothing has to know what a row means, and what a later schema adds comes
along.

Chats and drafts are not copied, nor the answers in them that nobody judged.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rlhfv.corrections.database import Database
from rlhfv.corrections.migrations import MIGRATIONS, connect
from rlhfv.errors import InvalidData

_NOT_COPIED = ("changes", "chat_times", "drafts", "conversations", "leases")
_PREFIX = "changed_"
_NEEDED_ANSWERS = "SELECT answer FROM judged UNION SELECT answer FROM tasks WHERE answer NOT NULL"
_HINTS = "hints:%"
_ERASED = "erased"
"""The table name of the note that text was taken out for good, which earlier copies still hold."""


@dataclass(frozen=True)
class Copy:
    """Rows by table, as (key, row); a row is None when it is gone. `through` is the last change that is in it;
    `whole` says that it is the whole store, `erased` that earlier copies hold what was erased."""

    schema: int
    through: int
    rows: dict[str, list[tuple[str, dict | None]]] = field(default_factory=dict)
    whole: bool = False
    erased: bool = False

    def __bool__(self) -> bool:
        return bool(self.rows) or self.erased


class Changes(Database):
    """The database at `path`, as somebody sees it who copies what changes."""

    def watch(self) -> None:
        """Notes all changes from now on, of other processes too, also after this one has ended."""
        with self._transaction() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS changes ("
                " seq INTEGER PRIMARY KEY AUTOINCREMENT, part TEXT NOT NULL, key TEXT NOT NULL, UNIQUE (part, key))"
            )
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB ?", (_PREFIX + "*",)
            ).fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            for statement in _triggers(connection):
                connection.execute(statement)

    def newest(self) -> int:
        """The number of the last change that waits to be copied; 0 when none does."""
        return self._connection.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0]

    def read(self) -> Copy:
        """The rows that changed."""
        with self._transaction("BEGIN") as connection:
            noted = connection.execute("SELECT seq, part, key FROM changes ORDER BY seq").fetchall()
            keys: dict[str, list[str]] = {}
            for _, part, key in noted:
                keys.setdefault(part, []).append(key)
            erased = keys.pop(_ERASED, None) is not None
            rows = {part: list(_read_rows(connection, part, wanted)) for part, wanted in keys.items()}
            return Copy(_schema(connection), noted[-1][0] if noted else 0, rows, erased=erased)

    def read_all(self) -> Copy:
        """All rows that a copy holds."""
        with self._transaction("BEGIN") as connection:
            noted = connection.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()[0]
            rows = {part: list(_read_rows(connection, part)) for part in _copied(connection)}
            return Copy(_schema(connection), noted, rows, whole=True)

    def hold_erased(self) -> bool:
        """Whether there are copies that hold what was erased since."""
        if not self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
            return False
        return self._connection.execute("SELECT 1 FROM changes WHERE part = ?", (_ERASED,)).fetchone() is not None

    def forget(self, through: int) -> None:
        """These were copied. What changed again since has a later number."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM changes WHERE seq <= ?", (through,))


def note_erased(connection: sqlite3.Connection) -> None:
    """Inside a transaction: copies that were made before this hold what is gone for good."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
        connection.execute("DELETE FROM changes WHERE part = ?", (_ERASED,))
        connection.execute("INSERT INTO changes (part, key) VALUES (?, '')", (_ERASED,))


def write_copy(copy: Copy) -> Iterator[str]:
    """Lines of JSON: a head, then the rows."""
    yield json.dumps({"v": 1, "schema": copy.schema, "whole": copy.whole})
    for part, rows in copy.rows.items():
        for key, row in rows:
            yield json.dumps([part, key, row])


def read_copy(lines: Iterable[str]) -> Copy:
    """What `write_copy` wrote. Raises ValueError for anything else."""
    lines = iter(lines)
    head = json.loads(next(lines))
    if head.get("v") != 1:
        raise ValueError(f"a copy of version {head.get('v')}")
    rows: dict[str, list] = {}
    for line in lines:
        part, key, row = json.loads(line)
        rows.setdefault(part, []).append((key, row))
    return Copy(head["schema"], 0, rows, head["whole"])


def rebuild(path: Path, copies: Iterable[Copy]) -> None:
    """Makes the database at `path` of copies in their order; the first one is whole. There must be none yet.

    Raises:
        InvalidData: the copies are of a newer version of the studio.
    """
    schema, state = 0, {}
    for copy in copies:
        if copy.whole:
            schema, state = copy.schema, {}
        for part, rows in copy.rows.items():
            state.setdefault(part, {}).update(rows)
    if schema > len(MIGRATIONS):
        raise InvalidData(
            f"The copy of the store has schema {schema}.",
            f"This version of the studio knows schemas up to {len(MIGRATIONS)}.",
            "Start a newer version of the studio.",
        )
    building = path.with_name(f".{path.name}.part")
    building.unlink(missing_ok=True)
    connection = connect(building)
    try:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("BEGIN IMMEDIATE")
        for migration in MIGRATIONS[:schema]:
            migration(connection)
        connection.execute(f"PRAGMA user_version = {schema}")
        for part, rows in state.items():
            for row in rows.values():
                if row is not None:
                    marks = ", ".join("?" * len(row))
                    connection.execute(
                        f"INSERT OR REPLACE INTO {part} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
                    )
        connection.execute("COMMIT")
    finally:
        connection.close()
    building.rename(path)


def _schema(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _copied(connection: sqlite3.Connection) -> list[str]:
    """The tables that a copy holds; those of the search index follow from `pair_terms` by its triggers."""
    return [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        if name not in _NOT_COPIED and not name.startswith(("sqlite_", "pair_search"))
    ]


def _key_columns(connection: sqlite3.Connection, part: str) -> list[str]:
    columns = connection.execute(f"PRAGMA table_info ({part})").fetchall()
    return [name for place, name in sorted((place, name) for _, name, *_, place in columns if place)]


def _read_rows(
    connection: sqlite3.Connection, part: str, keys: list[str] | None = None
) -> Iterator[tuple[str, dict | None]]:
    columns = _key_columns(connection, part)
    key = f"json_array({', '.join(columns)})"
    only = {"answers": f"id IN ({_NEEDED_ANSWERS})", "memory": f"key NOT LIKE '{_HINTS}'"}.get(part, "1")
    if keys is None:
        found = connection.execute(f"SELECT {key} AS copied_key, * FROM {part} WHERE {only}")
        yield from _as_rows(found)
        return
    where = " AND ".join(f"{name} IS ?" for name in columns)
    for wanted in keys:
        found = list(
            _as_rows(
                connection.execute(
                    f"SELECT {key} AS copied_key, * FROM {part} WHERE {only} AND {where}", json.loads(wanted)
                )
            )
        )
        yield found[0] if found else (wanted, None)


def _as_rows(found: sqlite3.Cursor) -> Iterator[tuple[str, dict]]:
    names = [column[0] for column in found.description][1:]
    for key, *values in found:
        yield key, dict(zip(names, values, strict=True))


def _triggers(connection: sqlite3.Connection) -> Iterator[str]:
    for part in _copied(connection):
        columns = _key_columns(connection, part)
        for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
            if part == "answers" and event == "INSERT":
                continue  # nobody judged it yet
            key = f"json_array({', '.join(f'{row}.{name}' for name in columns)})"
            when = f" WHEN {row}.key NOT LIKE '{_HINTS}'" if part == "memory" else ""
            notes = _note(part, f"SELECT {key}")
            if part in ("judged", "tasks") and event != "DELETE":
                notes += _note("answers", f"SELECT json_array(seq) FROM answers WHERE id = {row}.answer")
            yield f"CREATE TRIGGER {_PREFIX}{part}_{event.lower()} AFTER {event} ON {part}{when} BEGIN {notes} END"


def _note(part: str, keys: str) -> str:
    # Not by REPLACE: the clause of the statement that fires a trigger would take its place.
    return (
        f"DELETE FROM changes WHERE part = '{part}' AND key IN ({keys});"
        f" INSERT INTO changes (part, key) SELECT '{part}', * FROM ({keys});"
    )
