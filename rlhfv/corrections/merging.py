"""Rows that come back from the Hub, joined with what is here; inside a transaction of the store.

Three states of a row decide: as it was published last (the base), as it stands on the Hub, as it stands here. The side
that changed wins; when both did, both are kept in the history, the one from here stands and waits for the next push.
"""

import sqlite3
from dataclasses import asdict, replace

from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.database import dump
from rlhfv.corrections.pairs import Judgement, PreferencePair
from rlhfv.corrections.revisions import add_revision, live_pair, pair_from_document

PULLED = "pulled"
"""The visitor to whom answers and pairs from the Hub belong: nobody who could come by."""


def merge_pair(
    connection: sqlite3.Connection, repo: str, pair: PreferencePair, updated: str, shard: int, size: int
) -> str:
    """Returns what became of it: "new" here, "changed" here, the "same", a "conflict" of two changes, or "withheld"
    because it was erased here (then it waits to be taken out there).
    """
    shown = pair.provenance.annotator
    pair = replace(pair, provenance=replace(pair.provenance, annotator=_welcome(connection, shown)))

    def place(revision: int) -> None:
        connection.execute(
            "REPLACE INTO published VALUES (?, 'pairs', ?, ?, ?, ?, ?)", (repo, pair.id, shard, revision, shown, size)
        )

    if connection.execute("SELECT 1 FROM withheld WHERE item = ?", (pair.id,)).fetchone():
        place(1)
        return "withheld"
    head = connection.execute("SELECT revision FROM pairs WHERE id = ?", (pair.id,)).fetchone()
    if head is None:
        place(_save(connection, pair, updated, max(pair.revision, 1)))
        return "new"
    here = live_pair(connection, pair.id)
    if _same(here, pair):
        place(head[0])
        return "same"
    known = connection.execute(
        "SELECT revision FROM published WHERE repo = ? AND part = 'pairs' AND item = ?", (repo, pair.id)
    ).fetchone()
    for number in (known[0] if known else 0, head[0] - 1):  # as published, or kept by an earlier merge
        if _same(_pair_at(connection, pair.id, number), pair):
            place(number)
            return "same"
    if known and here and _same(_pair_at(connection, pair.id, known[0]), here):
        place(_save(connection, pair, updated))
        return "changed"
    (state,) = connection.execute("SELECT state FROM pairs WHERE id = ?", (pair.id,)).fetchone()
    place(_save(connection, pair, updated))
    action = "restored" if here else "deleted"
    add_revision(connection, pair.id, pair.provenance.annotator, action, here, state=state)
    return "conflict"


def merge_judgement(
    connection: sqlite3.Connection, repo: str, judgement: Judgement, answers: list[Answer], shard: int, size: int
) -> str:
    """As `merge_pair`; a judgement never changes, so it is "new", the "same" or "withheld"."""
    shown = judgement.annotator
    connection.execute(
        "REPLACE INTO published VALUES (?, 'judgements', ?, ?, 1, ?, ?)", (repo, judgement.id, shard, shown, size)
    )
    if connection.execute("SELECT 1 FROM withheld WHERE item = ?", (judgement.id,)).fetchone():
        return "withheld"
    if connection.execute("SELECT 1 FROM judgements WHERE id = ?", (judgement.id,)).fetchone():
        return "same"
    judgement = replace(judgement, annotator=_welcome(connection, shown))
    for answer in answers:
        connection.execute(
            "INSERT OR IGNORE INTO answers (id, visitor, created, document) VALUES (?, ?, ?, ?)",
            (answer.id, answer.visitor, answer.created, dump(asdict(answer))),
        )
    seq = connection.execute(
        "INSERT INTO judgements (id, annotator, outcome, created, document, visitor) VALUES (?, ?, ?, ?, ?, ?)",
        (judgement.id, judgement.annotator, judgement.outcome, judgement.created, dump(judgement.to_row()), PULLED),
    ).lastrowid
    connection.executemany("INSERT INTO judged VALUES (?, ?)", [(answer.id, seq) for answer in answers])
    return "new"


def take_out_missing(connection: sqlite3.Connection, repo: str, part: str, seen: set[str]) -> int:
    """Items that were published and are not on the Hub any longer: deleted here too, unless they changed here since.

    A judgement cannot be deleted, so it is withheld. Returns how many were missing.
    """
    placed = connection.execute(
        "SELECT item, revision FROM published WHERE repo = ? AND part = ? AND revision > 0", (repo, part)
    ).fetchall()
    missing = [(item, revision) for item, revision in placed if item not in seen]
    for item, revision in missing:
        if part == "judgements":
            connection.execute("INSERT OR IGNORE INTO withheld VALUES (?)", (item,))
        else:
            here = live_pair(connection, item)
            if here is not None and _same(_pair_at(connection, item, revision), here):
                add_revision(connection, item, here.provenance.annotator, "deleted", None)
        connection.execute(
            "UPDATE published SET revision = 0 WHERE repo = ? AND part = ? AND item = ?", (repo, part, item)
        )
    return len(missing)


def local_name(connection: sqlite3.Connection, shown: str) -> str:
    row = connection.execute(
        "SELECT name FROM pseudonyms WHERE pseudonym = ?1 OR (named AND name = ?1)", (shown,)
    ).fetchone()
    return row[0] if row else shown


def _welcome(connection: sqlite3.Connection, shown: str) -> str:
    """Whom a published name stands for here. A name from elsewhere is already the one to publish, unless somebody here
    has it too, who was not asked.
    """
    name = local_name(connection, shown)
    if not connection.execute("SELECT 1 FROM pairs WHERE annotator = ? LIMIT 1", (name,)).fetchone():
        connection.execute("INSERT OR IGNORE INTO pseudonyms VALUES (?1, ?1, 1)", (name,))
    return name


def _save(connection: sqlite3.Connection, pair: PreferencePair, updated: str, first: int = 1) -> int:
    annotator = pair.provenance.annotator
    return add_revision(connection, pair.id, annotator, "saved", pair, PULLED, first, "accepted", updated).number


def _pair_at(connection: sqlite3.Connection, id: str, number: int) -> PreferencePair | None:
    row = connection.execute("SELECT document FROM revisions WHERE pair = ? AND number = ?", (id, number)).fetchone()
    return pair_from_document(row[0]) if row and row[0] else None


def _same(one: PreferencePair | None, other: PreferencePair) -> bool:
    return one is not None and replace(one, revision=0) == replace(other, revision=0)
