"""The schema of the store, as numbered steps. A step that was released is never changed; a new one is added."""

import json
import sqlite3
import time
from pathlib import Path

from rlhfv.corrections.mounts import is_bucket_mount
from rlhfv.corrections.pairs import PreferencePair, work_of
from rlhfv.corrections.search import index_text
from rlhfv.corrections.statistics import pair_figures
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


def m003_shared_work(connection: sqlite3.Connection) -> None:
    """Tasks that wait for annotators, who has or had which, what reviewers did, and figures for the statistics. A pair
    that was there before has been its owner's own work, so it counts as accepted.
    """
    for statement in (
        "ALTER TABLE pairs ADD COLUMN state TEXT NOT NULL DEFAULT 'accepted'",
        "CREATE INDEX pair_states ON pairs (state, deleted, seq)",
        "ALTER TABLE judgements ADD COLUMN visitor TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE judgements ADD COLUMN withdrawn INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX judgements_of_pairs ON judgements (pair)",
        "CREATE INDEX judged_answers ON judged (judgement)",
        """UPDATE judgements SET visitor = coalesce((SELECT answers.visitor FROM judged JOIN answers ON id = answer
            WHERE judgement = judgements.seq LIMIT 1), '')""",
        """CREATE TABLE tasks (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL UNIQUE, created TEXT NOT NULL,
            document TEXT NOT NULL, answer TEXT REFERENCES answers (id), work TEXT UNIQUE, gold TEXT,
            lot REAL NOT NULL, due TEXT)""",
        "CREATE INDEX due_tasks ON tasks (due, seq, lot) WHERE due IS NOT NULL",
        "CREATE INDEX gold_tasks ON tasks (seq) WHERE gold IS NOT NULL",
        "CREATE INDEX tasks_of_answers ON tasks (answer)",
        """CREATE TABLE assignments (
            task INTEGER NOT NULL REFERENCES tasks (seq), visitor TEXT NOT NULL, place INTEGER NOT NULL,
            until REAL NOT NULL, judgement INTEGER REFERENCES judgements (seq), PRIMARY KEY (task, visitor))
            WITHOUT ROWID""",
        "CREATE UNIQUE INDEX places ON assignments (task, place) WHERE place > 0",
        "CREATE INDEX assignments_of_visitors ON assignments (visitor, task)",
        """CREATE TABLE reviews (
            seq INTEGER PRIMARY KEY, deed TEXT NOT NULL, pair TEXT NOT NULL REFERENCES pairs (id),
            revision INTEGER NOT NULL, action TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
            reviewer TEXT NOT NULL, name TEXT NOT NULL, comment TEXT NOT NULL, created TEXT NOT NULL, undoes TEXT)""",
        "CREATE INDEX reviews_of_pairs ON reviews (pair, seq)",
        "CREATE INDEX deeds ON reviews (deed)",
        """CREATE TABLE pair_figures (
            seq INTEGER PRIMARY KEY REFERENCES pairs (seq), corrected INTEGER NOT NULL, words INTEGER NOT NULL,
            object INTEGER NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL, attribute INTEGER NOT NULL,
            action INTEGER NOT NULL, other INTEGER NOT NULL)""",
    ):
        connection.execute(statement)
    live = connection.execute(
        "SELECT pairs.seq, document FROM pairs JOIN revisions ON pair = id AND number = revision WHERE NOT deleted"
    )
    while rows := live.fetchmany(500):
        connection.executemany(
            "INSERT INTO pair_figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(seq, *pair_figures(PreferencePair.from_own_row(json.loads(document)))) for seq, document in rows],
        )


def m004_publishing(connection: sqlite3.Connection) -> None:
    """What stands in which shard of which repository (revision 0: taken out again), the last commit known of each,
    what a push now under way would have changed there, who may push, under which name annotators are shown, and what
    is never published.
    """
    for statement in (
        "ALTER TABLE pairs ADD COLUMN licence TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE pairs ADD COLUMN consent INTEGER NOT NULL DEFAULT 0",
        """UPDATE pairs SET (licence, consent) = (
            SELECT coalesce(json_extract(document, '$.provenance.licence'), ''),
                coalesce(json_extract(document, '$.provenance.consent'), 0)
            FROM revisions WHERE pair = id AND document IS NOT NULL ORDER BY number DESC LIMIT 1)""",
        """CREATE TABLE published (
            repo TEXT NOT NULL, part TEXT NOT NULL, item TEXT NOT NULL, shard INTEGER NOT NULL,
            revision INTEGER NOT NULL, shown TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (repo, part, item))
            WITHOUT ROWID""",
        "CREATE INDEX published_shards ON published (repo, part, shard)",
        "CREATE TABLE remotes (repo TEXT PRIMARY KEY, head TEXT NOT NULL, document TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE attempts (
            seq INTEGER PRIMARY KEY, repo TEXT NOT NULL, url TEXT NOT NULL, files TEXT NOT NULL,
            changes TEXT NOT NULL)""",
        "CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
        """CREATE TABLE pseudonyms (
            name TEXT PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE, named INTEGER NOT NULL) WITHOUT ROWID""",
        # Nobody's name, and a program's: there is nobody to hide.
        "INSERT INTO pseudonyms VALUES ('', '', 1), ('oracle', 'oracle', 1)",
        "CREATE TABLE withheld (item TEXT PRIMARY KEY) WITHOUT ROWID",
    ):
        connection.execute(statement)


def m005_work_of_pairs(connection: sqlite3.Connection) -> None:
    """Which answer to which prompt a correction is about, so that nobody is given the same work again."""
    connection.execute("ALTER TABLE pairs ADD COLUMN work TEXT")
    connection.execute("CREATE INDEX works ON pairs (work) WHERE work IS NOT NULL")
    live = connection.execute(
        "SELECT pairs.seq, document FROM pairs JOIN revisions ON pair = id AND number = revision WHERE NOT deleted"
    )
    while rows := live.fetchmany(500):
        connection.executemany(
            "UPDATE pairs SET work = ? WHERE seq = ?",
            [(work_of(PreferencePair.from_own_row(json.loads(document))), seq) for seq, document in rows],
        )


def m006_agreements(connection: sqlite3.Connection) -> None:
    """Who agreed when to which terms, and what these said."""
    for statement in (
        "CREATE TABLE terms (version TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE agreements (
            visitor TEXT NOT NULL, version TEXT NOT NULL REFERENCES terms (version), agreed TEXT NOT NULL,
            PRIMARY KEY (visitor, version)) WITHOUT ROWID""",
    ):
        connection.execute(statement)


MIGRATIONS = (
    m001_answers_judgements_pairs,
    m002_search,
    m003_shared_work,
    m004_publishing,
    m005_work_of_pairs,
    m006_agreements,
)


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers and whose commits are on the disk when they return."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Each thread has a connection, and a cache that only it reads; the pages are in the system's own cache anyway.
    connection.execute("PRAGMA cache_size = -512")
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
    if is_bucket_mount(Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent):
        # Its log is shared memory and many small writes, and a bucket that is mounted as a folder has neither.
        connection.execute("PRAGMA journal_mode = DELETE")
        return
    # SQLite does not wait for others when it changes the journal mode, so the first start of several processes must.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
