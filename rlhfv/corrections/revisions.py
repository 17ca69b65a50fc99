"""The append-only history of pairs, inside a transaction of the store."""

import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rlhfv.corrections.database import dump, storable
from rlhfv.corrections.pairs import PreferencePair, work_of
from rlhfv.corrections.search import index_text
from rlhfv.corrections.statistics import pair_figures
from rlhfv.errors import NotFound


@dataclass(frozen=True)
class Revision:
    """One state in the history of a pair. `action` is "saved", "merged", "deleted" or "restored", and "judged" with
    number 0 for a judgement without a pair. `pair` is None where there is none, as after a deletion.
    """

    number: int
    created: str
    annotator: str
    action: str
    pair: PreferencePair | None


def add_revision(
    connection: sqlite3.Connection,
    id: str,
    annotator: str,
    action: str,
    pair: PreferencePair | None,
    visitor: str | None = None,
    first: int = 1,
    state: str | None = None,
    created: str = "",
) -> Revision:
    """Appends a revision and makes it the head. `visitor` is needed for the first one only, whose number is `first`.
    Without `state` a pair keeps the one it has; a new one is accepted. `created` is now where it is empty.
    """
    head = connection.execute("SELECT seq, revision, visitor FROM pairs WHERE id = ?", (id,)).fetchone()
    number = head[1] + 1 if head else first
    visitor = head[2] if head else visitor
    created = created or datetime.now(UTC).isoformat(timespec="milliseconds")
    if pair is not None:
        pair = replace(pair, id=id, revision=number)
    if head is None:
        seq = connection.execute(
            "INSERT INTO pairs (id, revision, deleted, visitor, annotator, model) VALUES (?, ?, 0, ?, ?, ?)",
            (id, number, storable(visitor), pair.provenance.annotator, str(pair.provenance.model)),
        ).lastrowid
    else:
        seq = head[0]
        connection.execute("UPDATE pairs SET revision = ?, deleted = ? WHERE seq = ?", (number, pair is None, seq))
        for table in ("pair_terms", "pair_figures"):
            connection.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))
    if pair is not None:
        origin = pair.provenance
        connection.execute(
            "UPDATE pairs SET annotator = ?, model = ?, licence = ?, consent = ?, work = ?,"
            " state = coalesce(?, state) WHERE seq = ?",
            (origin.annotator, str(origin.model), origin.licence, origin.consent, work_of(pair), state, seq),
        )
        connection.execute("INSERT INTO pair_terms VALUES (?, ?)", (seq, index_text(pair, visitor)))
        connection.execute("INSERT INTO pair_figures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (seq, *pair_figures(pair)))
    connection.execute(
        "INSERT INTO revisions (pair, number, created, annotator, action, document) VALUES (?, ?, ?, ?, ?, ?)",
        (id, number, created, storable(annotator), action, None if pair is None else dump(pair.to_row())),
    )
    return Revision(number, created, annotator, action, pair)


def is_live(connection: sqlite3.Connection, id: str) -> bool:
    query = "SELECT 1 FROM pairs WHERE id = ? AND NOT deleted"
    return connection.execute(query, (storable(id),)).fetchone() is not None


def live_pair(connection: sqlite3.Connection, id: str) -> PreferencePair | None:
    row = connection.execute(
        "SELECT document FROM pairs JOIN revisions ON pair = id AND number = revision WHERE id = ? AND NOT deleted",
        (storable(id),),
    ).fetchone()
    return pair_from_document(row[0]) if row else None


def read_revision(connection: sqlite3.Connection, id: str, number: int) -> Revision:
    row = connection.execute(
        "SELECT number, created, annotator, action, document FROM revisions WHERE pair = ? AND number = ?",
        (storable(id), number),
    ).fetchone()
    if row is None:
        raise NotFound(
            f"There is no revision {number!r:.20} of the pair {id!r:.80}.",
            "No such revision was saved.",
            "Choose one of the pair's history.",
        )
    return revision_from_row(row)


def revision_from_row(row: tuple) -> Revision:
    number, created, annotator, action, document = row
    return Revision(number, created, annotator, action, pair_from_document(document) if document else None)


def pair_from_document(document: str) -> PreferencePair:
    return PreferencePair.from_own_row(json.loads(document))


def no_pair(id: str) -> NotFound:
    return NotFound(
        f"There is no pair with the id {id!r:.80}.",
        "It was never saved here, or it was deleted.",
        "Choose a pair from the list; a deleted one comes back through its history.",
    )
