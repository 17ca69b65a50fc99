"""The schema of the store, as numbered steps. A step that was released is never changed; a new one is added."""

import json
import sqlite3
import time
from pathlib import Path

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.corrections.search import index_text
from rlhfv.errors import InvalidData

BUSY_SECONDS = 60


def m001_answers_judgements_pairs(connection: sqlite3.Connection) -> None:
    for statement in (
        """CREATE TABLE answers (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, visitor TEXT NOT NULL, created TEXT NOT NULL,
            document TEXT NOT NULL)""",
        "CREATE INDEX answers_of_visitor ON answers (visitor, seq)",
        """CREATE TABLE judgements (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, annotator TEXT NOT NULL, outcome TEXT NOT NULL,
            created TEXT NOT NULL, document TEXT NOT NULL, pair TEXT, revision INTEGER)""",
        """CREATE TABLE judged (
            answer TEXT NOT NULL REFERENCES answers (id), judgement INTEGER NOT NULL REFERENCES judgements (seq),
            PRIMARY KEY (answer, judgement)) WITHOUT ROWID""",
        """CREATE TABLE pairs (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, deleted INTEGER NOT NULL,
            visitor TEXT NOT NULL, annotator TEXT NOT NULL, model TEXT NOT NULL)""",
        "CREATE INDEX live_pairs ON pairs (deleted, seq)",
        "CREATE INDEX annotators ON pairs (annotator, deleted)",
        "CREATE INDEX models ON pairs (model, deleted)",
        """CREATE TABLE revisions (
            seq INTEGER PRIMARY KEY, pair TEXT NOT NULL REFERENCES pairs (id), number INTEGER NOT NULL,
            created TEXT NOT NULL, annotator TEXT NOT NULL, action TEXT NOT NULL, document TEXT,
            UNIQUE (pair, number))""",
        """CREATE TRIGGER revisions_are_kept BEFORE DELETE ON revisions
            BEGIN SELECT RAISE(ABORT, 'revisions are append-only'); END""",
        """CREATE TRIGGER revisions_stay_as_they_are BEFORE UPDATE ON revisions
            BEGIN SELECT RAISE(ABORT, 'revisions are append-only'); END""",
        """CREATE TABLE drafts (
            visitor TEXT NOT NULL, answer TEXT NOT NULL, document TEXT NOT NULL, PRIMARY KEY (visitor, answer))
            WITHOUT ROWID""",
        "CREATE TABLE conversations (visitor TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE image_sources (name TEXT PRIMARY KEY, source TEXT NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(statement)


def m002_search(connection: sqlite3.Connection) -> None:
    """The terms of each live pair, and the index over them. Folding and cutting into words happen before (search.py):
    the tokenizer only splits at blanks. Prefixes up to 8 characters are found without walking the vocabulary.
    """
    for statement in (
        "CREATE TABLE pair_terms (seq INTEGER PRIMARY KEY REFERENCES pairs (seq), terms TEXT NOT NULL)",
        """CREATE VIRTUAL TABLE pair_search USING fts5 (
            terms, content='pair_terms', content_rowid='seq', detail=none, prefix='1 2 3 4 5 6 7 8',
            tokenize="unicode61 remove_diacritics 0 categories 'L* M* N* P* S* C*'")""",
        """CREATE TRIGGER pair_terms_added AFTER INSERT ON pair_terms
            BEGIN INSERT INTO pair_search (rowid, terms) VALUES (new.seq, new.terms); END""",
        """CREATE TRIGGER pair_terms_removed AFTER DELETE ON pair_terms
            BEGIN INSERT INTO pair_search (pair_search, rowid, terms) VALUES ('delete', old.seq, old.terms); END""",
    ):
        connection.execute(statement)
    live = connection.execute(
        "SELECT pairs.seq, visitor, document FROM pairs JOIN revisions ON pair = id AND number = revision"
        " WHERE NOT deleted"
    )
    for seq, visitor, document in live.fetchall():
        terms = index_text(PreferencePair.from_own_row(json.loads(document)), visitor)
        connection.execute("INSERT INTO pair_terms VALUES (?, ?)", (seq, terms))


MIGRATIONS = (m001_answers_judgements_pairs, m002_search)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers and whose commits are on the disk when they return."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the database to the newest schema; each step is one transaction, and several processes may come at once.

    Raises:
        InvalidData: the database is from a newer version of the studio.
    """
    _use_write_ahead_log(connection)
    while (version := _version(connection)) != len(MIGRATIONS):
        if version > len(MIGRATIONS):
            raise InvalidData(
                f"The database has schema {version}.",
                f"This version of the studio knows schemas up to {len(MIGRATIONS)}.",
                "Start a newer version of the studio, or choose another data folder.",
            )
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == version:  # else another process was quicker
                MIGRATIONS[version](connection)
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for others when it changes the journal mode, so the first start of several processes must.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
