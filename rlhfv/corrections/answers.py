"""Generated answers as they were, and what the pages remember beside them between two visits."""

import json
import sqlite3
from dataclasses import asdict

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.database import Database, dump, storable
from rlhfv.corrections.edits import MAX_ANSWER_CHARS, require_text
from rlhfv.corrections.pairs import require_id
from rlhfv.errors import InvalidData, NotFound


class AnswerStore(Database):
    """Answers, drafts, conversations, settings and the sources of images."""

    def add_answer(self, answer: Answer) -> None:
        """Keeps a generated answer. Raises InvalidData when its id stands for another answer already."""
        with self._transaction() as connection:
            keep_answer(connection, answer)

    def answer(self, id: str) -> Answer:
        """Raises NotFound for an id that was not given here."""
        return read_answer(self._connection, id)

    def uncorrected(self, visitor: str) -> list[str]:
        """Ids of the visitor's answers, oldest first, that were neither corrected nor found faithful nor skipped.

        A vote between two answers leaves both: which is better does not say what is wrong with them.
        """
        return [id for _, id in self._uncorrected(visitor)]

    def next_uncorrected(self, visitor: str, after: str | None = None) -> Answer | None:
        """The visitor's oldest uncorrected answer that is younger than `after`; past the youngest it begins anew.

        None when nothing but `after` is left.
        """
        row = self._connection.execute("SELECT seq FROM answers WHERE id = ?", (storable(after),)).fetchone()
        place = row[0] if row else 0
        waiting = [(seq < place, seq, id) for seq, id in self._uncorrected(visitor) if seq != place]
        return self.answer(min(waiting)[2]) if waiting else None

    def _uncorrected(self, visitor: str) -> list[tuple[int, str]]:
        return self._connection.execute(
            "SELECT seq, id FROM answers WHERE visitor = ? AND NOT EXISTS ("
            " SELECT 1 FROM judged JOIN judgements ON judgements.seq = judgement"
            " WHERE answer = answers.id AND NOT withdrawn AND outcome IN ('corrected', 'faithful', 'skipped'))"
            " ORDER BY seq",
            (storable(visitor),),
        ).fetchall()

    def save_draft(self, visitor: str, answer_id: str, document: dict) -> None:
        """Keeps unsaved work. Raises NotFound for an unknown answer."""
        with self._transaction() as connection:
            read_answer(connection, answer_id)
            connection.execute("REPLACE INTO drafts VALUES (?, ?, ?)", (storable(visitor), answer_id, dump(document)))

    def draft(self, visitor: str, answer_id: str) -> dict | None:
        return self._document(
            "SELECT document FROM drafts WHERE visitor = ? AND answer = ?", storable(visitor), storable(answer_id)
        )

    def drop_draft(self, visitor: str, answer_id: str) -> None:
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM drafts WHERE visitor = ? AND answer = ?", (storable(visitor), storable(answer_id))
            )

    def save_conversation(self, visitor: str, document: dict) -> None:
        with self._transaction() as connection:
            connection.execute("REPLACE INTO conversations VALUES (?, ?)", (storable(visitor), dump(document)))

    def conversation(self, visitor: str) -> dict | None:
        return self._document("SELECT document FROM conversations WHERE visitor = ?", storable(visitor))

    def remember(self, key: str, value: object) -> None:
        """Keeps a JSON value, such as a visitor's licence, consent and name."""
        with self._transaction() as connection:
            connection.execute("REPLACE INTO memory VALUES (?, ?)", (storable(key), dump(value)))

    def recall(self, key: str) -> object:
        """The value that was kept last, or None."""
        return self._document("SELECT value FROM memory WHERE key = ?", storable(key))

    def forget(self, key: str) -> None:
        with self._transaction() as connection:
            connection.execute("DELETE FROM memory WHERE key = ?", (storable(key),))

    def set_image_source(self, name: str, source: str) -> None:
        with self._transaction() as connection:
            connection.execute("REPLACE INTO image_sources VALUES (?, ?)", (storable(name), dump(source)))

    def image_source(self, name: str) -> str:
        """Where an image is from, such as "demo:pairs/1234"; empty for an upload."""
        return self._document("SELECT source FROM image_sources WHERE name = ?", storable(name)) or ""

    def _document(self, query: str, *values: str):
        row = self._connection.execute(query, values).fetchone()
        return json.loads(row[0]) if row else None


def keep_answer(connection: sqlite3.Connection, answer: Answer) -> None:
    """`AnswerStore.add_answer` inside a transaction."""
    require_id(answer.id, "answer")
    require_text(answer.text, "answer", MAX_ANSWER_CHARS)
    document = dump(asdict(answer))
    known = connection.execute("SELECT document FROM answers WHERE id = ?", (answer.id,)).fetchone()
    if known and known[0] != document:
        raise InvalidData(
            f"There is another answer with the id {answer.id}.",
            "A stored answer is never changed.",
            "Give the new answer an id of its own.",
        )
    if not known:
        connection.execute(
            "INSERT INTO answers (id, visitor, created, document) VALUES (?, ?, ?, ?)",
            (answer.id, storable(answer.visitor), answer.created, document),
        )


def read_answer(connection: sqlite3.Connection, id: str) -> Answer:
    row = connection.execute("SELECT document FROM answers WHERE id = ?", (storable(id),)).fetchone()
    if row is None:
        raise NotFound(
            f"There is no answer with the id {id!r:.80}.",
            "Answers are known by the id they get when they are generated, and none was given that one.",
            "Open the answer from the chat or the list again.",
        )
    return answer_from_row(json.loads(row[0]))


def answer_from_row(row: dict) -> Answer:
    return Answer(
        **row
        | {
            "prompt": Prompt.from_dict(row["prompt"]),
            "model": ModelIdentity(**row["model"]),
            "sampling": Sampling(**row["sampling"]),
            "row_layout": tuple(row["row_layout"]),
        }
    )
