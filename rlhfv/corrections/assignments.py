"""Who has which task, and which comes next. An opened task is reserved until a moment; who saves late loses nothing.

The first to judge an answer has place 1, an independent second annotator place 2; a gold item has no places, everybody
gets it. Two annotators never get the same place: the choice and its reservation are one transaction.
"""

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from rlhfv.corrections.database import Database, storable
from rlhfv.corrections.edits import Edit, edits_from_rows
from rlhfv.corrections.revisions import pair_from_document
from rlhfv.corrections.tasks import share_of
from rlhfv.errors import NotFound


@dataclass(frozen=True)
class Work:
    """What an annotator is to do next. `reason` is "returned" by a reviewer, "reserved" earlier, "second" (an
    independent correction of an answer that somebody judged), or "open". `until` is the end of the reservation in
    seconds since 1970, 0 for a returned pair: it is its author's own.
    """

    answer_id: str
    reason: str
    task_id: str = ""
    blind: bool = False
    until: float = 0.0
    pair_id: str = ""


@dataclass(frozen=True)
class Elsewhere:
    """How many tasks are open at other annotators, and when the last of these reservations ends."""

    count: int
    until: float


@dataclass(frozen=True)
class DoubleWork:
    """One answer judged by two people who did not see each other's work, each with the edits made; none: faithful."""

    answer_id: str
    text: str
    annotators: tuple[str, str]
    visitors: tuple[str, str]
    edits: tuple[tuple[Edit, ...], tuple[Edit, ...]]


@dataclass(frozen=True)
class GoldWork:
    """What one annotator made of a gold item, beside its known edits."""

    annotator: str
    visitor: str
    text: str
    edits: tuple[Edit, ...]
    known: tuple[Edit, ...]


class Assignments(Database):
    def next_work(
        self,
        visitor: str,
        now: float,
        until: float,
        after: str | None = None,
        second_share: float = 0.0,
        gold_share: float = 0.0,
    ) -> Work | None:
        """What comes next for the visitor, reserved `until`; None when nothing is left that they could do.

        Returned pairs of their own come first, then what they have reserved, then second corrections (of
        `second_share` of the tasks, chosen by lot once for all), then open tasks, the oldest first. In place of a new
        task comes a gold item at `gold_share` of the visitor's turns, as long as there is one that they have not seen;
        both the turns and the items are drawn once for all for each visitor. `after` is the answer that the visitor
        leaves: what is younger comes before it goes round, and its reservation ends unless there is a draft.
        """
        visitor, after = storable(visitor), storable(after)
        search = _Search(visitor, now, until, second_share, gold_share)
        with self._transaction() as connection:
            return search.run(connection, after)

    def renew(self, answer_id: str, visitor: str, now: float, until: float) -> None:
        """Moves the end of the visitor's reservation to `until`, once half of the time until then has passed."""
        values = {"answer": storable(answer_id), "visitor": storable(visitor), "soon": (now + until) / 2}
        mine = "visitor = :visitor AND judgement IS NULL AND task IN (SELECT seq FROM tasks WHERE answer = :answer)"
        found = self._connection.execute(f"SELECT 1 FROM assignments WHERE {mine} AND until < :soon", values)
        if found.fetchone():
            with self._transaction() as connection:
                connection.execute(f"UPDATE assignments SET until = :until WHERE {mine}", values | {"until": until})

    def release(self, answer_id: str, visitor: str) -> None:
        """Gives a reserved task back."""
        with self._transaction() as connection:
            _release(connection, storable(visitor), storable(answer_id))

    def is_blind(self, answer_id: str, visitor: str) -> bool:
        """Whether the visitor must not see what somebody else made of the answer, nor what a model says of it."""
        rows = self._connection.execute(
            "SELECT visitor, place FROM assignments JOIN tasks ON seq = task WHERE answer = ? AND place > 0",
            (storable(answer_id),),
        ).fetchall()
        places = dict(rows)
        return places.get(storable(visitor), 2 if 1 in places.values() else 1) > 1

    def reopen(self, answer_id: str, visitor: str, until: float) -> None:
        """Takes back the visitor's judgement that made no pair ("faithful", "skipped") and reserves the task again.

        Raises NotFound unless there is one.
        """
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT judgements.seq, judgements.outcome FROM judged JOIN judgements ON judgements.seq = judgement"
                " WHERE answer = ? AND visitor = ? AND NOT withdrawn ORDER BY judgements.seq DESC LIMIT 1",
                (storable(answer_id), storable(visitor)),
            ).fetchone()
            if row is None or row[1] not in ("faithful", "skipped"):
                raise NotFound(
                    "There is nothing to take back.",
                    "You have not said of this answer that nothing is wrong, nor skipped it."
                    if row is None
                    else "You corrected this answer; that is undone where the pair is.",
                    "Choose another answer.",
                )
            withdraw_judgement(connection, row[0], until)

    def elsewhere(self, visitor: str, now: float) -> Elsewhere:
        """What others have reserved."""
        count, until = self._connection.execute(
            "SELECT count(*), max(until) FROM assignments"
            " WHERE judgement IS NULL AND until > ? AND place > 0 AND visitor <> ?",
            (now, storable(visitor)),
        ).fetchone()
        return Elsewhere(count, until or 0.0)

    def double_work(self, answer_id: str | None = None) -> Iterator[DoubleWork]:
        """Every answer (or the one) that two people corrected or found faithful, as each submitted it last."""
        last: dict[str, list[tuple]] = {}
        for answer, *rest in self._connection.execute(
            f"""{_SUBMITTED} AND place > 0 AND (?1 IS NULL OR tasks.answer = ?1) AND EXISTS (
                SELECT 1 FROM assignments AS other WHERE other.task = tasks.seq AND place > 1 AND judgement NOT NULL)
            ORDER BY place""",
            (storable(answer_id),),
        ):
            last.setdefault(answer, []).append(tuple(rest))
        for answer, rows in last.items():
            if len(rows) > 1:
                (name, visitor, text, edits, _), (other_name, other, _, other_edits, _) = map(_read_work, rows[:2])
                yield DoubleWork(answer, text, (name, other_name), (visitor, other), (edits, other_edits))

    def gold_work(self) -> Iterator[GoldWork]:
        """What everybody made of the gold items."""
        query = f"{_SUBMITTED} AND gold IS NOT NULL ORDER BY assignments.visitor, task"
        for _, *row in self._connection.execute(query):
            yield GoldWork(*_read_work(row))


_SUBMITTED = """
    SELECT tasks.answer, judgements.annotator, assignments.visitor, answers.document, revisions.document, tasks.gold
    FROM assignments JOIN tasks ON tasks.seq = task JOIN judgements ON judgements.seq = judgement
    JOIN answers ON answers.id = tasks.answer
    LEFT JOIN revisions ON revisions.pair = judgements.pair AND number = judgements.revision
    WHERE outcome IN ('corrected', 'faithful')"""


def _read_work(row: tuple) -> tuple:
    name, visitor, answer, document, gold = row
    edits = pair_from_document(document).edits if document else ()
    return name, visitor, json.loads(answer)["text"], edits, edits_from_rows(json.loads(gold)) if gold else ()


@dataclass(frozen=True)
class _Search:
    """One look for the next task, inside a transaction."""

    visitor: str
    now: float
    until: float
    second_share: float
    gold_share: float

    def run(self, connection: sqlite3.Connection, after: str | None) -> Work | None:
        task = connection.execute("SELECT seq FROM tasks WHERE answer = ? AND work IS NOT NULL", (after,)).fetchone()
        pair = connection.execute(
            "SELECT pairs.seq FROM judged JOIN judgements ON judgements.seq = judgement JOIN pairs ON pairs.id = pair"
            " WHERE answer = ? AND pairs.visitor = ? AND state = 'returned'",
            (after, self.visitor),
        ).fetchone()
        if (
            task
            and not connection.execute(
                "SELECT 1 FROM drafts WHERE visitor = ? AND answer = ?", (self.visitor, after)
            ).fetchone()
        ):
            _release(connection, self.visitor, after)
        places = {"task": task[0] if task else 0, "pair": pair[0] if pair else 0}
        found = self._find(connection, places, "seq > :{}")
        if found is None and after:
            found = self._find(connection, places, "seq <> :{}")
        return found

    def _find(self, connection: sqlite3.Connection, places: dict[str, int], beyond: str) -> Work | None:
        values = {"me": self.visitor, "now": self.now, "share": self.second_share, **places}
        returned = connection.execute(
            f"""SELECT id FROM pairs WHERE state = 'returned' AND NOT deleted AND visitor = :me
                AND {beyond.format("pair")} ORDER BY seq LIMIT 1""",
            values,
        ).fetchone()
        if returned:
            return Work(corrected_answer(connection, returned[0]), "returned", pair_id=returned[0])
        task_beyond = beyond.format("task")
        for reason, condition in (
            (
                "reserved",
                "seq IN (SELECT task FROM assignments WHERE visitor = :me AND judgement IS NULL)",
            ),
            # Who has reviewed a first correction has seen it.
            (
                "second",
                f"""due = 'second' AND lot < :share AND {_NOT_MINE} AND (SELECT count(*) {_ACTIVE}) = 1
                AND NOT EXISTS (
                    SELECT 1 FROM assignments JOIN judgements ON judgements.seq = judgement
                    JOIN reviews ON reviews.pair = judgements.pair WHERE task = tasks.seq AND reviewer = :me)""",
            ),
            ("open", f"due = 'first' AND {_NOT_MINE} AND NOT EXISTS (SELECT 1 {_ACTIVE})"),
        ):
            row = connection.execute(
                f"SELECT seq, id, answer FROM tasks WHERE {condition} AND {task_beyond} ORDER BY seq LIMIT 1", values
            ).fetchone()
            if row is None:
                continue
            if reason != "reserved":
                row = self._gold(connection) or row
            place = _reserve(connection, row[0], self.visitor, self.now, self.until)
            # A gold item looks like any other.
            return Work(row[2], "open" if place == 0 and reason == "second" else reason, row[1], place > 1, self.until)
        return None

    def _gold(self, connection: sqlite3.Connection) -> tuple[int, str, str] | None:
        """The gold item of this turn of the visitor, if it is one."""
        turn = connection.execute("SELECT count(*) FROM assignments WHERE visitor = ?", (self.visitor,)).fetchone()[0]
        if share_of("gold", self.visitor, turn) >= self.gold_share:
            return None
        unseen = connection.execute(
            f"SELECT seq, id, answer FROM tasks WHERE gold IS NOT NULL AND {_NOT_MINE}", {"me": self.visitor}
        ).fetchall()
        return min(unseen, key=lambda row: share_of("gold", self.visitor, row[1]), default=None)


_ACTIVE = (
    "FROM assignments WHERE task = tasks.seq AND place > 0 AND visitor <> :me"
    " AND (judgement IS NOT NULL OR until > :now)"
)
_NOT_MINE = "NOT EXISTS (SELECT 1 FROM assignments WHERE task = tasks.seq AND visitor = :me)"


def corrected_answer(connection: sqlite3.Connection, pair: str) -> str | None:
    """The id of the stored answer that a pair corrects; None for a preference and a pair that was not made here."""
    row = connection.execute(
        "SELECT answer FROM judgements JOIN judged ON judgement = judgements.seq"
        " WHERE pair = ? AND outcome = 'corrected' LIMIT 1",
        (storable(pair),),
    ).fetchone()
    return row[0] if row else None


def finish_work(connection: sqlite3.Connection, answer_id: str, visitor: str, judgement: int) -> None:
    """Notes what the visitor made of an answer of the queue; of any other answer nothing."""
    row = connection.execute("SELECT seq FROM tasks WHERE answer = ? AND work IS NOT NULL", (answer_id,)).fetchone()
    if row is None:
        return
    known = connection.execute(
        "UPDATE assignments SET judgement = ?, until = 0 WHERE task = ? AND visitor = ?", (judgement, row[0], visitor)
    ).rowcount
    if not known:
        connection.execute(
            "INSERT INTO assignments VALUES (?, ?, ?, 0, ?)",
            (row[0], visitor, _free_place(connection, row[0]), judgement),
        )
    _settle(connection, row[0])


def withdraw_judgement(connection: sqlite3.Connection, seq: int, until: float) -> None:
    """Takes a judgement back: the one before it counts again; where there is none, the task is reserved `until`."""
    connection.execute("UPDATE judgements SET withdrawn = 1 WHERE seq = ?", (seq,))
    row = connection.execute("SELECT task, visitor FROM assignments WHERE judgement = ?", (seq,)).fetchone()
    if row is None:
        return
    before = connection.execute(
        "SELECT max(judgements.seq) FROM judged JOIN judgements ON judgements.seq = judgement"
        " JOIN tasks ON tasks.answer = judged.answer WHERE tasks.seq = ? AND visitor = ? AND NOT withdrawn",
        row,
    ).fetchone()[0]
    connection.execute(
        "UPDATE assignments SET judgement = ?, until = ? WHERE task = ? AND visitor = ?",
        (before, 0 if before else until, *row),
    )
    _settle(connection, row[0])


def _settle(connection: sqlite3.Connection, task: int) -> None:
    """Says of a task what it waits for: nothing more once somebody skipped it, for that says it is not worth it."""
    rows = connection.execute(
        "SELECT outcome FROM assignments JOIN judgements ON judgements.seq = judgement WHERE task = ? AND place > 0",
        (task,),
    )
    outcomes = [outcome for (outcome,) in rows]
    due = None if "skipped" in outcomes or len(outcomes) > 1 else "second" if outcomes else "first"
    connection.execute("UPDATE tasks SET due = iif(gold IS NULL, ?, NULL) WHERE seq = ?", (due, task))


def _release(connection: sqlite3.Connection, visitor: str, answer: str | None) -> None:
    connection.execute(
        "DELETE FROM assignments WHERE visitor = ? AND judgement IS NULL AND place > 0"
        " AND task IN (SELECT seq FROM tasks WHERE answer = ?)",
        (visitor, answer),
    )


def _reserve(connection: sqlite3.Connection, task: int, visitor: str, now: float, until: float) -> int:
    mine = connection.execute(
        "SELECT place FROM assignments WHERE task = ? AND visitor = ?", (task, visitor)
    ).fetchone()
    if mine:
        connection.execute("UPDATE assignments SET until = ? WHERE task = ? AND visitor = ?", (until, task, visitor))
        return mine[0]
    connection.execute(
        "DELETE FROM assignments WHERE task = ? AND judgement IS NULL AND until <= ? AND place > 0", (task, now)
    )
    place = _free_place(connection, task)
    connection.execute("INSERT INTO assignments VALUES (?, ?, ?, ?, NULL)", (task, visitor, place, until))
    return place


def _free_place(connection: sqlite3.Connection, task: int) -> int:
    if connection.execute("SELECT gold FROM tasks WHERE seq = ?", (task,)).fetchone()[0] is not None:
        return 0
    taken = {place for (place,) in connection.execute("SELECT place FROM assignments WHERE task = ?", (task,))}
    return min(set(range(1, len(taken) + 2)) - taken)
