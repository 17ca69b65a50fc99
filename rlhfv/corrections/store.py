"""The truth of the studio: answers, judgements, pairs and their revisions in one SQLite file.

What a method wrote is on the disk when it returns and survives the end of the process at any moment. Any number of
threads and processes may use the same file; writers wait for one another. Revisions are only ever added.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rlhfv.corrections.agreements import AgreementStore
from rlhfv.corrections.answers import AnswerStore, read_answer
from rlhfv.corrections.assignments import Assignments, finish_work
from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.database import dump, storable
from rlhfv.corrections.pairs import Judgement, PreferencePair, pair_id
from rlhfv.corrections.reviews import Person, ReviewStore, save_pair
from rlhfv.corrections.revisions import (
    Revision,
    is_live,
    live_pair,
    no_pair,
    pair_from_document,
    read_revision,
    revision_from_row,
)
from rlhfv.corrections.search import match_expression
from rlhfv.corrections.statistics import Statistics, read_statistics
from rlhfv.corrections.tasks import TaskStore
from rlhfv.corrections.verdicts import Verdict, read_verdicts
from rlhfv.errors import InvalidCorrection, NotFound

CHUNK = 500  # rows a transaction: nobody waits long for the lock


@dataclass(frozen=True)
class Page:
    """Some of the pairs that were found, newest first, how many there are in all, and the state of each."""

    pairs: tuple[PreferencePair, ...]
    total: int
    states: tuple[str, ...] = ()


class Store(AnswerStore, TaskStore, Assignments, ReviewStore, AgreementStore):
    """The database at `path`, made or brought to the newest schema when it is opened.

    In a `team` what is saved waits for a reviewer; otherwise it counts as accepted at once.
    """

    def __init__(self, path: Path, team: bool = False):
        super().__init__(path)
        self.saved_state = "submitted" if team else "accepted"

    def save(
        self,
        judgement: Judgement,
        pair: PreferencePair | None = None,
        visitor: str = "",
        state: str | None = None,
    ) -> Revision:
        """Keeps a judgement and the pair that follows from it; returns when both are on the disk.

        The pair gets the id that belongs to its answers and annotator, so saving again adds a revision. An answer of
        the queue belongs to everybody: there the pair is the `visitor`'s, whatever their name, and their part of the
        task is done. `state` replaces that of what is saved here; what is made of a gold item is "gold". A judgement
        that finds nothing to prefer takes back the pair that the same person made of the same answers (as a revision).
        The same judgement sent twice is kept once.

        Raises:
            NotFound: an answer id that was not given here.
            InvalidCorrection: judgement or pair do not hold, or the pair is not about the stored answers.
        """
        judgement.validate()
        if (pair is None and judgement.outcome == "corrected") or (pair and pair.outcome != judgement.outcome):
            raise InvalidCorrection(
                f"The judgement is '{judgement.outcome}' and the pair {f'{pair.outcome!r}' if pair else 'missing'}.",
                "'corrected' comes with a pair, 'preferred' with one where both answers reply to the same prompt, "
                "everything else without.",
                "Send the pair that belongs to the judgement.",
            )
        judged = Revision(0, judgement.created, judgement.annotator, "judged", None)
        with self._transaction() as connection:
            answers = [read_answer(connection, answer) for answer in judgement.answers]
            owner = answers[0].visitor or visitor
            who = Person(visitor or owner, judgement.annotator)
            id = pair_id(judgement.answers, judgement.annotator if answers[0].visitor else owner)
            if pair is not None:
                pair = replace(pair, id=id)
                pair.validate()
                _require_stored_texts(pair, answers)
            known = connection.execute(
                "SELECT document, pair, revision FROM judgements WHERE id = ?", (judgement.id,)
            ).fetchone()
            if known and known[0] == dump(judgement.to_row()):
                return read_revision(connection, known[1], known[2]) if known[1] else judged
            if known:
                raise InvalidCorrection(
                    f"There is another judgement with the id {judgement.id}.",
                    "A stored judgement is never changed.",
                    "Give the new judgement an id of its own.",
                )
            if pair is not None:
                state = _gold_state(connection, judgement.answers) or state or self.saved_state
                revision = save_pair(connection, id, "saved", pair, who, state, owner)
            elif judgement.outcome != "skipped" and is_live(connection, id):
                revision = save_pair(connection, id, "deleted", None, who, self.saved_state)
            else:
                revision = judged
            made = (id, revision.number) if revision.number else (None, None)
            seq = _add_judgement(connection, judgement, who.visitor, *made)
            if len(answers) == 1:
                finish_work(connection, answers[0].id, storable(who.visitor), seq)
            return revision

    def add_pairs(self, pairs: Iterable[PreferencePair], visitor: str = "", state: str | None = None) -> int:
        """Keeps pairs that were made elsewhere, under their own ids; returns how many were new or differed.

        A pair that is here already, with the same content, stays as it is. The annotator is the one of its provenance.
        `state` replaces that of what is saved here.
        Raises InvalidCorrection for a pair that does not hold; the pairs before it are kept.
        """
        added, chunk = 0, []
        for pair in pairs:
            pair.validate()
            chunk.append(pair)
            if len(chunk) == CHUNK:
                added, chunk = added + self._add_pairs(chunk, visitor, state), []
        return added + self._add_pairs(chunk, visitor, state)

    def _add_pairs(self, pairs: list[PreferencePair], visitor: str, state: str | None) -> int:
        added = 0
        with self._transaction() as connection:
            for pair in pairs:
                known = live_pair(connection, pair.id)
                if known is None or replace(known, revision=0) != replace(pair, revision=0):
                    who = Person(visitor, pair.provenance.annotator)
                    save_pair(connection, pair.id, "saved", pair, who, state or self.saved_state, visitor)
                    added += 1
        return added

    def judgements(self, answer: str | None = None) -> list[Judgement]:
        """Newest first; of one answer, or all. What was taken back is not among them."""
        rows = self._connection.execute(
            "SELECT document FROM judgements"
            " WHERE (?1 IS NULL OR seq IN (SELECT judgement FROM judged WHERE answer = ?1)) AND NOT withdrawn"
            " ORDER BY seq DESC",
            (storable(answer),),
        )
        return [Judgement.from_row(json.loads(document)) for (document,) in rows]

    def pair(self, id: str) -> PreferencePair:
        """Raises NotFound for an unknown id and for a pair that was deleted."""
        pair = live_pair(self._connection, id)
        if pair is None:
            raise no_pair(id)
        return pair

    def history(self, id: str) -> list[Revision]:
        """Every revision of a pair, oldest first, of a deleted one too. Raises NotFound for an unknown id."""
        rows = self._connection.execute(
            "SELECT number, created, annotator, action, document FROM revisions WHERE pair = ? ORDER BY number",
            (storable(id),),
        ).fetchall()
        if not rows:
            raise no_pair(id)
        return [revision_from_row(row) for row in rows]

    def restore(self, id: str, number: int, annotator: str, visitor: str = "") -> Revision:
        """Makes an earlier revision the newest. Raises NotFound unless that revision holds a pair."""
        with self._transaction() as connection:
            pair = read_revision(connection, id, number).pair
            if pair is None:
                raise NotFound(
                    f"Revision {number} of the pair {id} holds no pair.",
                    "It is the deletion of the pair.",
                    "Choose an earlier revision.",
                )
            return save_pair(connection, id, "restored", pair, Person(visitor, annotator), self.saved_state)

    def delete(self, id: str, annotator: str, visitor: str = "") -> Revision:
        """Takes a pair out of every list; its history stays. Raises NotFound unless there is such a pair."""
        with self._transaction() as connection:
            if not is_live(connection, id):
                raise no_pair(id)
            return save_pair(connection, id, "deleted", None, Person(visitor, annotator), self.saved_state)

    def undo(self, id: str, annotator: str) -> Revision:
        """Goes back to the state before the newest revision, as a new revision; a second undo brings it back.

        Before the first revision there was no pair, so undoing it deletes.
        """
        with self._transaction() as connection:
            newest = connection.execute(
                "SELECT number FROM revisions WHERE pair = ? ORDER BY number DESC LIMIT 2", (storable(id),)
            ).fetchall()
            if not newest:
                raise no_pair(id)
            # A pair that came from the Hub begins at the number that it had there.
            before = read_revision(connection, id, newest[1][0]).pair if len(newest) > 1 else None
            action = "restored" if before else "deleted"
            return save_pair(connection, id, action, before, Person("", annotator), self.saved_state)

    def find_pairs(
        self,
        text: str = "",
        kind: str | None = None,
        annotator: str | None = None,
        model: str | None = None,
        outcome: str | None = None,
        visitor: str | None = None,
        state: str | tuple[str, ...] | None = None,
        offset: int = 0,
        limit: int = 50,
    ) -> Page:
        """Pairs whose question or answers have all the words of `text` (the last may be the beginning of a word) and
        that pass all filters; newest first. `model` is `str(ModelIdentity)`, `state` one state or several.
        """
        filters = {"kind": kind, "annotator": annotator, "model": model, "outcome": outcome, "visitor": visitor}
        where, values = _where(text, state, filters)
        with self._transaction("BEGIN") as connection:  # total and page out of one state
            total = connection.execute(f"SELECT count(*) FROM {where}", values).fetchone()[0]
            found = f"SELECT {_row_of(where)} AS found FROM {where} ORDER BY found DESC LIMIT ? OFFSET ?"
            rows = connection.execute(
                f"SELECT document, state FROM ({found}) CROSS JOIN pairs ON pairs.seq = found"
                " CROSS JOIN revisions ON pair = id AND number = revision",
                (*values, max(limit, 0), max(offset, 0)),
            ).fetchall()
        return Page(tuple(pair_from_document(row[0]) for row in rows), total, tuple(row[1] for row in rows))

    def filter_choices(self) -> dict[str, list[str]]:
        """The annotators and models that `find_pairs` can be asked for."""
        return {
            name + "s": [
                value
                for (value,) in self._connection.execute(
                    f"SELECT DISTINCT {name} FROM pairs WHERE NOT deleted ORDER BY {name}"
                )
            ]
            for name in ("annotator", "model")
        }

    def all_pairs(self, visitor: str | None = None, state: str | None = None) -> Iterator[PreferencePair]:
        """Every pair (of one visitor, in one state), oldest first."""
        seq = 0
        while rows := self._connection.execute(
            "SELECT pairs.seq, document FROM pairs JOIN revisions ON pair = id AND number = revision"
            " WHERE deleted = 0 AND pairs.seq > ?1 AND (?2 IS NULL OR visitor = ?2) AND (?3 IS NULL OR state = ?3)"
            " ORDER BY pairs.seq LIMIT ?4",
            (seq, storable(visitor), storable(state), CHUNK),
        ).fetchall():
            yield from (pair_from_document(document) for _, document in rows)
            seq = rows[-1][0]

    def pair_of_answer(self, answer_id: str) -> PreferencePair | None:
        """The newest pair that corrects the answer, or None."""
        rows = self._connection.execute(
            "SELECT pair FROM judged JOIN judgements ON judgements.seq = judgement"
            " WHERE answer = ? AND outcome = 'corrected' ORDER BY judgements.seq DESC",
            (storable(answer_id),),
        ).fetchall()
        return next((pair for (id,) in rows if (pair := live_pair(self._connection, id)) is not None), None)

    def pair_made_of(self, answer_id: str, visitor: str) -> PreferencePair | None:
        """The pair that the visitor made of an answer of the queue, or None."""
        return live_pair(self._connection, pair_id((answer_id,), visitor))

    def statistics(self, visitor: str | None = None) -> Statistics:
        """Over everybody's work, or one visitor's."""
        return read_statistics(self._connection, storable(visitor))

    def verdicts(self, visitor: str | None = None) -> list[Verdict]:
        """What was found in each answer that was judged, by everybody or one visitor; oldest answer first."""
        return read_verdicts(self._connection, storable(visitor))

    def is_live(self, id: str) -> bool:
        """Whether there is a pair with that id that was not deleted."""
        return is_live(self._connection, id)

    def has_pair(self, id: str) -> bool:
        """Whether the id was given to a pair, deleted or not."""
        return self._connection.execute("SELECT 1 FROM pairs WHERE id = ?", (storable(id),)).fetchone() is not None

    def pair_visitor(self, id: str) -> str:
        """Whose pair it is, deleted or not. Raises NotFound for an unknown id."""
        row = self._connection.execute("SELECT visitor FROM pairs WHERE id = ?", (storable(id),)).fetchone()
        if row is None:
            raise no_pair(id)
        return row[0]


def _where(
    text: str, state: str | tuple[str, ...] | None, filters: dict[str, str | None]
) -> tuple[str, tuple[str, ...]]:
    match = match_expression(text, {name: value for name, value in filters.items() if value is not None})
    states = () if state is None else (state,) if isinstance(state, str) else state
    # The state changes without a revision, so it is no term of the index.
    wanted = f"state IN ({', '.join('?' * len(states))})" if states else ""
    values = tuple(map(storable, states))
    if match is None:
        return " AND ".join(["pairs WHERE deleted = 0", *filter(None, [wanted])]), values
    if not states:
        return "pair_search WHERE pair_search MATCH ?", (match,)
    return f"pair_search CROSS JOIN pairs ON seq = pair_search.rowid WHERE pair_search MATCH ? AND {wanted}", (
        match,
        *values,
    )


def _row_of(where: str) -> str:
    return "pair_search.rowid" if where.startswith("pair_search") else "seq"


def _gold_state(connection: sqlite3.Connection, answers: tuple[str, ...]) -> str | None:
    query = "SELECT 1 FROM tasks WHERE answer = ? AND gold IS NOT NULL"
    return "gold" if any(connection.execute(query, (answer,)).fetchone() for answer in answers) else None


def _require_stored_texts(pair: PreferencePair, answers: list[Answer]) -> None:
    texts = (pair.chosen, pair.rejected) if pair.outcome == "preferred" else (pair.rejected,)
    if texts != tuple(answer.text for answer in answers) or pair.prompt not in [answer.prompt for answer in answers]:
        raise InvalidCorrection(
            "The pair is about another question or another answer than the one stored.",
            "A correction changes the answer as it was generated, and that text is kept here.",
            "Open the answer again and repeat the correction.",
        )


def _add_judgement(
    connection: sqlite3.Connection, judgement: Judgement, visitor: str, pair: str | None, revision: int | None
) -> int:
    seq = connection.execute(
        "INSERT INTO judgements (id, annotator, outcome, created, document, visitor, pair, revision)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(judgement.id, judgement.annotator, judgement.outcome, judgement.created),
            *(dump(judgement.to_row()), storable(visitor), pair, revision),
        ),
    ).lastrowid
    connection.executemany("INSERT INTO judged VALUES (?, ?)", [(answer, seq) for answer in judgement.answers])
    return seq
