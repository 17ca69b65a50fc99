"""What reviewers and authors do with a pair once it is there. Every action is a row that says which state it led from
and to; undoing adds the inverse. A deed is one action, on one pair or on both corrections of an answer.
"""

import sqlite3
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rlhfv.corrections.answers import read_answer
from rlhfv.corrections.assignments import corrected_answer, withdraw_judgement
from rlhfv.corrections.database import Database, dump, storable
from rlhfv.corrections.edits import CorrectedAnswer, Edit, require_text
from rlhfv.corrections.pairs import MAX_NOTE_CHARS, PreferencePair
from rlhfv.corrections.revisions import (
    Revision,
    add_revision,
    live_pair,
    no_pair,
    pair_from_document,
    read_revision,
)
from rlhfv.errors import Forbidden, InvalidCorrection, InvalidData, NotFound

STATES = ("submitted", "accepted", "returned", "superseded", "gold")
"""Waits for a reviewer; goes into training and publication; waits for its author; lost an adjudication; was made of a
gold item and goes nowhere."""

SAVED = "the state of what is saved"
TRANSITIONS = {
    "saved": ((*STATES, ""), SAVED),
    "restored": ((*STATES, ""), SAVED),
    "deleted": (STATES, ""),
    "returned": (("submitted",), "returned"),
    "resubmitted": (("returned",), "submitted"),
    "accepted": (("submitted",), "accepted"),
    "withdrawn": (("accepted",), "submitted"),
    "chosen": (("submitted", "accepted"), "accepted"),
    "merged": (("submitted", "accepted"), "accepted"),
    "superseded": (("submitted", "accepted"), "superseded"),
}
"""Action → the states it can begin in ("": no pair, or a deleted one) and the state it leads to. What is saved of a
gold item is gold, and no review leads there or away."""

WITH_REVISION = ("saved", "restored", "deleted", "merged")
"""Actions that add a revision."""


@dataclass(frozen=True)
class Person:
    """Who acts: the id that things belong to, and the name that stands in the history."""

    visitor: str
    name: str


@dataclass(frozen=True)
class Review:
    """One action in the history of a pair. `action` is a key of `TRANSITIONS` or "undone", then `undoes` is the deed;
    `revision` is the pair's after it; rows of one `deed` were done, and are undone, together.
    """

    deed: str
    pair: str
    revision: int
    action: str
    before: str
    after: str
    reviewer: str
    name: str
    comment: str
    created: str
    undoes: str | None = None


class ReviewStore(Database):
    def pair_states(self, ids: Iterable[str]) -> list[str]:
        """The state of each pair, deleted ones too. Raises NotFound for an unknown id."""
        return [head_of(self._connection, id)[1] for id in ids]

    def count_states(self) -> dict[str, int]:
        """How many live pairs are in each state."""
        return dict(self._connection.execute("SELECT state, count(*) FROM pairs WHERE NOT deleted GROUP BY state"))

    def reviews(self, id: str) -> list[Review]:
        """All actions on a pair, oldest first."""
        return _reviews(self._connection, "pair = ? ORDER BY seq", (storable(id),))

    def others_in_deeds(self, id: str) -> dict[str, tuple[str, str]]:
        """Deed → the annotator of the other pair that it was about too, and the action on that pair."""
        return {
            deed: (name, action)
            for deed, name, action in self._connection.execute(
                "SELECT mine.deed, annotator, other.action FROM reviews AS mine JOIN reviews AS other USING (deed)"
                " JOIN pairs ON pairs.id = other.pair WHERE mine.pair = ?1 AND other.pair <> ?1",
                (storable(id),),
            )
        }

    def pushes(self, id: str) -> list[tuple[str, int]]:
        """(repository, revision that stands there; 0: taken out) of a pair."""
        return self._connection.execute(
            "SELECT repo, revision FROM published WHERE part = 'pairs' AND item = ? ORDER BY repo", (storable(id),)
        ).fetchall()

    def rivals(self, id: str) -> list[str]:
        """Ids of the other corrections of the same answer that are submitted or accepted, oldest first."""
        return _rivals(self._connection, id)

    def found_faithful(self, id: str) -> list[str]:
        """The names of those who found nothing wrong in the answer that a pair corrects."""
        rows = self._connection.execute(
            "SELECT judgements.annotator FROM judgements JOIN judged ON judgement = judgements.seq"
            " WHERE answer = ? AND outcome = 'faithful' AND NOT withdrawn AND NOT EXISTS ("
            " SELECT 1 FROM judgements AS later JOIN judged AS also ON also.judgement = later.seq"
            " WHERE also.answer = judged.answer AND later.visitor = judgements.visitor"
            " AND later.seq > judgements.seq AND NOT later.withdrawn) ORDER BY judgements.seq",
            (corrected_answer(self._connection, id),),
        )
        return [name for (name,) in rows]

    def review(self, id: str, action: str, who: Person, comment: str = "", revision: int | None = None) -> Review:
        """One of "returned", "resubmitted", "accepted", "withdrawn". `revision` is the one that was looked at.

        Raises:
            NotFound: there is no such pair.
            InvalidData: the action is unknown, the pair's state does not allow it, or the pair has changed since.
        """
        require_text(comment, "comment", MAX_NOTE_CHARS)
        if action not in ("returned", "resubmitted", "accepted", "withdrawn"):
            raise InvalidData(
                f"The action is {action!r:.80}.",
                "A review returns, accepts, submits again or withdraws an acceptance.",
                "Choose one of them.",
            )
        if action == "returned" and not comment.strip():
            raise InvalidData(
                "The pair would go back without a comment.",
                "Its author would not know what to change.",
                "Write what is wrong.",
            )
        with self._transaction() as connection:
            head, before = _require(connection, id, action, revision)
            if action == "returned" and corrected_answer(connection, id) is None:
                raise InvalidData(
                    "The pair is no correction that was made here.",
                    "There is no stored answer that its author could correct again.",
                    "Accept it, leave it, or ask the owner to delete it.",
                )
            if action == "accepted" and _rivals(connection, id):
                raise InvalidData(
                    "There is another correction of the same answer.",
                    "Only one of them can go into the data.",
                    "Compare the two, and choose one or merge them.",
                )
            _set_state(connection, id, TRANSITIONS[action][1])
            return add_review(connection, _deed(), id, head, action, before, TRANSITIONS[action][1], who, comment)

    def adjudicate(
        self, winner: str, loser: str, who: Person, edits: tuple[Edit, ...] | None = None
    ) -> PreferencePair:
        """Accepts one of two corrections of the same answer, with `edits` in place of its own when they were merged;
        the other becomes superseded. A merged pair is publishable only where both authors agreed to it under the same
        licence.

        Raises:
            NotFound: there is no such pair.
            InvalidData: the two are not corrections of one answer, or their states do not allow it.
            InvalidCorrection: the merged edits do not hold.
        """
        action = "chosen" if edits is None else "merged"
        with self._transaction() as connection:
            head, before = _require(connection, winner, action)
            other_head, other_before = _require(connection, loser, "superseded")
            if loser not in _rivals(connection, winner):
                raise InvalidData(
                    "The two pairs are not corrections of the same answer.",
                    "Only one of two corrections of one answer has to give way.",
                    "Choose two of the same answer.",
                )
            pair, deed = live_pair(connection, winner), _deed()
            if edits is None:
                _set_state(connection, winner, "accepted")
            else:
                pair = _merged(pair, live_pair(connection, loser), edits)
                revision = add_revision(connection, winner, who.name, "merged", pair, state="accepted")
                head, pair = revision.number, revision.pair
            add_review(connection, deed, winner, head, action, before, "accepted", who)
            _set_state(connection, loser, "superseded")
            add_review(connection, deed, loser, other_head, "superseded", other_before, "superseded", who)
            return pair

    def undo_review(self, id: str, who: Person, others: bool, until: float) -> Review:
        """Undoes the last deed on a pair that still holds: states go back, and where text was saved, merged, restored
        or deleted, the revision before it is restored. What was saved becomes a draft of its author, whose task is
        reserved `until`. Undoing again goes one deed further back.

        Raises:
            NotFound: there is no such pair.
            InvalidData: nothing is left to undo, or the pair has changed since in another way.
            Forbidden: somebody else did it, and `others` is False.
        """
        with self._transaction() as connection:
            head_of(connection, id)
            last = _last_deed(connection, id)
            if last is None:
                raise InvalidData(
                    "There is nothing left to undo.",
                    "Every action on this pair has been undone, or happened before actions were kept.",
                    "Restore a revision from its history.",
                )
            if last.reviewer != who.visitor and not others:
                raise Forbidden(
                    f"The last action on this pair is {last.name or 'somebody'}'s.",
                    "You can undo your own.",
                    "Ask a reviewer.",
                )
            rows = _reviews(connection, "deed = ? ORDER BY seq", (last.deed,))
            if any(not _stands(connection, row) for row in rows):
                raise InvalidData(
                    "Something has happened to the pair since.",
                    "An action can be undone only while its result is what is there.",
                    "Undo what came later, or restore a revision from the history.",
                )
            deed = _deed()
            undone = [_take_back(connection, deed, row, who, until) for row in rows]
            return next(row for row in undone if row.pair == id)


def save_pair(
    connection: sqlite3.Connection,
    id: str,
    action: str,
    pair: PreferencePair | None,
    who: Person,
    state: str,
    visitor: str | None = None,
) -> Revision:
    """A new revision with its row among the reviews. `state` is that of what is saved."""
    row = connection.execute("SELECT state, deleted FROM pairs WHERE id = ?", (id,)).fetchone()
    before = row[0] if row and not row[1] else ""
    after = TRANSITIONS[action][1]
    if after == SAVED:
        after = "gold" if row and row[0] == "gold" else state
    revision = add_revision(connection, id, who.name, action, pair, visitor, state=after or None)
    add_review(connection, _deed(), id, revision.number, action, before, after, who)
    return revision


def add_review(
    connection: sqlite3.Connection,
    deed: str,
    pair: str,
    revision: int,
    action: str,
    before: str,
    after: str,
    who: Person,
    comment: str = "",
    undoes: str | None = None,
) -> Review:
    created = datetime.now(UTC).isoformat(timespec="milliseconds")
    row = (deed, pair, revision, action, before, after, storable(who.visitor), storable(who.name), comment, created)
    connection.execute(f"INSERT INTO reviews ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, undoes))
    return Review(*row, undoes)


def head_of(connection: sqlite3.Connection, id: str) -> tuple[int, str, bool]:
    """Number of the newest revision of a pair, its state, whether it is deleted."""
    row = connection.execute("SELECT revision, state, deleted FROM pairs WHERE id = ?", (storable(id),)).fetchone()
    if row is None:
        raise no_pair(id)
    return row[0], row[1], bool(row[2])


_COLUMNS = "deed, pair, revision, action, before, after, reviewer, name, comment, created, undoes"


def _deed() -> str:
    return uuid.uuid4().hex


def _reviews(connection: sqlite3.Connection, condition: str, values: tuple) -> list[Review]:
    return [Review(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM reviews WHERE {condition}", values)]


def _require(connection: sqlite3.Connection, id: str, action: str, revision: int | None = None) -> tuple[int, str]:
    head, state, deleted = head_of(connection, id)
    if deleted or state == "gold":
        raise NotFound(
            f"The pair {id:.80} is not there to be reviewed.",
            "It was deleted, or is none that goes into the data.",
            "Choose one from the list.",
        )
    if revision is not None and revision != head:
        raise InvalidData(
            f"The pair has revision {head}.",
            f"You looked at revision {revision!r:.20}.",
            "Open it again and look at what changed.",
        )
    allowed = TRANSITIONS[action][0]
    if state not in allowed:
        raise InvalidData(
            f"The pair is {state}.",
            f"It can be {action} only while it is {' or '.join(allowed)}.",
            "Open it again; somebody else may have been quicker.",
        )
    return head, state


def _set_state(connection: sqlite3.Connection, id: str, state: str) -> None:
    connection.execute("UPDATE pairs SET state = ? WHERE id = ?", (state, id))


def _rivals(connection: sqlite3.Connection, id: str) -> list[str]:
    rows = connection.execute(
        """SELECT DISTINCT pairs.id, pairs.seq
        FROM judgements AS mine JOIN judged ON judged.judgement = mine.seq
        JOIN judged AS also ON also.answer = judged.answer JOIN judgements AS other ON other.seq = also.judgement
        JOIN pairs ON pairs.id = other.pair
        WHERE mine.pair = ?1 AND mine.outcome = 'corrected' AND other.outcome = 'corrected'
        AND pairs.id <> ?1 AND NOT deleted AND state IN ('submitted', 'accepted') ORDER BY pairs.seq""",
        (storable(id),),
    )
    return [id for id, _ in rows]


def _merged(winner: PreferencePair, loser: PreferencePair, edits: tuple[Edit, ...]) -> PreferencePair:
    corrected = CorrectedAnswer(winner.rejected, edits)
    corrected.validate()
    if not corrected.edits:
        raise InvalidCorrection(
            "The merged corrections are none.", "A pair needs a place where it differs.", "Keep one correction."
        )
    one, other = winner.provenance, loser.provenance
    consent = one.consent and other.consent and one.licence == other.licence
    return replace(
        winner,
        chosen=corrected.corrected,
        edits=corrected.edits,
        provenance=replace(one, consent=consent),
    )


def _last_deed(connection: sqlite3.Connection, pair: str) -> Review | None:
    found = _reviews(
        connection,
        "pair = ? AND undoes IS NULL AND NOT EXISTS ("
        " SELECT 1 FROM reviews AS later WHERE later.pair = reviews.pair AND later.undoes = reviews.deed)"
        " ORDER BY seq DESC LIMIT 1",
        (storable(pair),),
    )
    return found[0] if found else None


def _stands(connection: sqlite3.Connection, row: Review) -> bool:
    """Whether what the row led to is what is there: no later deed, and no revision that came past the reviews."""
    head, state, deleted = head_of(connection, row.pair)
    noted = connection.execute(
        "SELECT revision FROM reviews WHERE pair = ? ORDER BY seq DESC LIMIT 1", (row.pair,)
    ).fetchone()
    here = "" if deleted else state
    return _last_deed(connection, row.pair).deed == row.deed and here == row.after and noted[0] == head


def _take_back(connection: sqlite3.Connection, deed: str, row: Review, who: Person, until: float) -> Review:
    number = head_of(connection, row.pair)[0]
    if row.action in WITH_REVISION:
        undone = read_revision(connection, row.pair, row.revision).pair
        before = connection.execute(
            "SELECT document FROM revisions WHERE pair = ? AND number < ? ORDER BY number DESC LIMIT 1",
            (row.pair, row.revision),
        ).fetchone()
        pair = pair_from_document(before[0]) if before and before[0] else None
        action = "restored" if pair else "deleted"
        number = add_revision(connection, row.pair, who.name, action, pair, state=row.before or None).number
        judged = connection.execute(
            "SELECT seq FROM judgements WHERE pair = ? AND revision = ? AND NOT withdrawn", (row.pair, row.revision)
        ).fetchone()
        if judged:
            if undone is not None and undone.outcome == "corrected":
                _keep_as_draft(connection, row, undone)
            withdraw_judgement(connection, judged[0], until)
    else:
        _set_state(connection, row.pair, row.before)
    return add_review(connection, deed, row.pair, number, "undone", row.after, row.before, who, undoes=row.deed)


def _keep_as_draft(connection: sqlite3.Connection, row: Review, pair: PreferencePair) -> None:
    """The undone corrections, unless their author has begun others."""
    answer = read_answer(connection, corrected_answer(connection, row.pair))
    connection.execute(
        "INSERT OR IGNORE INTO drafts VALUES (?, ?, ?)",
        (answer.visitor or row.reviewer, answer.id, dump({"edits": [vars(edit) for edit in pair.edits]})),
    )
