"""Taking text out of the store for good, with its history: what `delete`, which is a revision, does not do."""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from rlhfv.corrections.changes import note_erased
from rlhfv.corrections.database import Database, dump
from rlhfv.corrections.revisions import no_pair

_KEPT = "revisions_are_kept"


@dataclass(frozen=True)
class Found:
    """What holds the text of some pairs: ids of pairs, answers, judgements and tasks, and names of images. `shared`
    are the images that something else is about too.
    """

    pairs: tuple[str, ...]
    answers: tuple[str, ...]
    judgements: tuple[str, ...]
    tasks: tuple[str, ...]
    images: tuple[str, ...]
    shared: tuple[str, ...]


class Eraser(Database):
    """The database at `path`, as somebody sees it who may change its history."""

    def find(self, pairs: Iterable[str] = (), images: Iterable[str] = ()) -> Found:
        """Everything that repeats the questions and answers of the pairs, or is about the images.

        An answer belongs to it when it replies to the question of a pair about the same images, or has such an answer
        among its earlier turns; a pair when it was made of such an answer, or holds one.

        Raises:
            NotFound: there never was such a pair.
        """
        with self._transaction("BEGIN") as connection:
            return _find(connection, set(pairs), set(images))

    def is_mentioned(self, name: str) -> bool:
        """Whether any pair, present or past, still names this file."""
        query = "SELECT 1 FROM revisions WHERE instr(document, ?) LIMIT 1"
        return self._connection.execute(query, (name,)).fetchone() is not None

    def erase(self, found: Found) -> None:
        """Takes it all out, in one transaction, and leaves no byte of it in the file."""
        images = {*found.images} - {*found.shared}
        connection = self._connection
        connection.execute("PRAGMA secure_delete = ON")
        with self._transaction():
            connection.execute("PRAGMA defer_foreign_keys = ON")
            (trigger,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (_KEPT,)).fetchone()
            connection.execute(f"DROP TRIGGER {_KEPT}")
            for pair in found.pairs:
                row = connection.execute("SELECT seq FROM pairs WHERE id = ?", (pair,)).fetchone()
                for table in ("pair_terms", "pair_figures"):
                    connection.execute(f"DELETE FROM {table} WHERE seq = ?", row)
                for table in ("revisions", "reviews"):
                    connection.execute(f"DELETE FROM {table} WHERE pair = ?", (pair,))
                connection.execute("DELETE FROM pairs WHERE id = ?", (pair,))
            connection.execute(trigger)
            for judgement in found.judgements:
                (seq,) = connection.execute("SELECT seq FROM judgements WHERE id = ?", (judgement,)).fetchone()
                connection.execute("UPDATE assignments SET judgement = NULL WHERE judgement = ?", (seq,))
                connection.execute("DELETE FROM judged WHERE judgement = ?", (seq,))
                connection.execute("DELETE FROM judgements WHERE seq = ?", (seq,))
            for task in found.tasks:
                connection.execute(
                    "DELETE FROM assignments WHERE task = (SELECT seq FROM tasks WHERE id = ?)", (task,)
                )
                connection.execute("DELETE FROM tasks WHERE id = ?", (task,))
            for answer in found.answers:
                connection.execute("DELETE FROM drafts WHERE answer = ?", (answer,))
                connection.execute("DELETE FROM judged WHERE answer = ?", (answer,))
                connection.execute("DELETE FROM answers WHERE id = ?", (answer,))
            for image in images:
                connection.execute("DELETE FROM image_sources WHERE name = ?", (image,))
            for name in (*found.answers, *found.pairs, *images):
                # Ids and content addresses are unique, so a document that has one speaks of what goes.
                connection.execute("DELETE FROM conversations WHERE instr(document, ?)", (name,))
                connection.execute("DELETE FROM memory WHERE instr(key, ?1) OR instr(value, ?1)", (name,))
            note_erased(connection)
        # The index keeps the words of what was taken out until its parts are merged, free pages keep what stood there.
        connection.execute("INSERT INTO pair_search (pair_search) VALUES ('rebuild')")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint (TRUNCATE)")


def _find(connection: sqlite3.Connection, pairs: set[str], images: set[str]) -> Found:
    about, turns = set(images), set()
    for pair in pairs:
        documents = _column(connection, "SELECT document FROM revisions WHERE pair = ? AND document NOT NULL", pair)
        if not documents:
            raise no_pair(pair)
        for row in map(json.loads, documents):
            turns.add(_turns(row)[-1])
            about.update(_turns(row)[-1][1])
    answers: set[str] = set()
    for id, document in connection.execute("SELECT id, document FROM answers").fetchall():
        if _speaks(json.loads(document)["prompt"], turns, images):
            answers.add(id)
    for answer in answers:
        pairs |= set(
            _column(
                connection,
                "SELECT pair FROM judgements JOIN judged ON judgement = seq WHERE answer = ? AND pair NOT NULL",
                answer,
            )
        )
    for id, document in connection.execute("SELECT pair, document FROM revisions WHERE document NOT NULL").fetchall():
        if id not in pairs and _speaks(json.loads(document), turns, images):
            pairs.add(id)
    judgements = {
        id
        for answer in answers
        for id in _column(
            connection, "SELECT id FROM judgements JOIN judged ON judgement = seq WHERE answer = ?", answer
        )
    }
    tasks = {
        id
        for id, answer, document in connection.execute("SELECT id, answer, document FROM tasks").fetchall()
        if answer in answers or _speaks(json.loads(document)["prompt"], turns, images)
    }
    shared = {image for image in about if _is_used(connection, image, pairs, answers, tasks)}
    return Found(*(tuple(sorted(part)) for part in (pairs, answers, judgements, tasks, about, shared)))


def _speaks(prompt: dict, turns: set[tuple], images: set[str]) -> bool:
    """Whether a prompt asks, or asked before, one of the questions about its images, or shows one of the images."""
    said = _turns(prompt)
    return bool(turns & set(said)) or bool(images & set(said[-1][1]))


def _turns(prompt: dict) -> list[tuple[str, tuple[str, ...]]]:
    """Each question of a conversation, the present one last, with all images that had been shown by then."""
    said, shown = [], ()
    for turn in [*prompt.get("history", ()), prompt]:
        shown += tuple(turn.get("images", ()))
        said.append((turn["question"], shown))
    return said


def _is_used(connection: sqlite3.Connection, image: str, pairs: set, answers: set, tasks: set) -> bool:
    needle = dump(image)
    for table, column, going in (("answers", "id", answers), ("revisions", "pair", pairs), ("tasks", "id", tasks)):
        users = _column(connection, f"SELECT {column} FROM {table} WHERE instr(document, ?)", needle)
        if set(users) - going:
            return True
    return False


def _column(connection: sqlite3.Connection, query: str, value: str) -> list[str]:
    return [row[0] for row in connection.execute(query, (value,)).fetchall()]
