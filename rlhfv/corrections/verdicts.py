"""What people found in each answer that was judged here: its wrong spans, or none."""

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass

from rlhfv.corrections.answers import answer_from_row
from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.revisions import pair_from_document


@dataclass(frozen=True)
class Verdict:
    """What counts of an answer: `outcome` is "corrected" with its `edits`, "faithful" or "skipped". `omission` says
    that the person missed something in it, `people` how many corrected it or found it faithful.
    """

    answer: Answer
    outcome: str
    edits: tuple[Edit, ...]
    omission: bool
    people: int


def read_verdicts(connection: sqlite3.Connection, visitor: str | None = None) -> list[Verdict]:
    """One verdict for each answer that was corrected, found faithful or skipped, by everybody or one visitor; in the
    order in which the answers were given.

    Each person's last word counts, and among several people's the newest; a correction as it reads now. Gold items,
    superseded, deleted and withdrawn corrections are left out, imported pairs were not judged here, and an answer
    counts as skipped only where nobody did more.
    """
    rows = connection.execute(
        """WITH last AS (
            SELECT answer, max(judgement) AS seq FROM judged JOIN judgements ON judgements.seq = judgement
            WHERE outcome IN ('corrected', 'faithful', 'skipped') AND NOT withdrawn AND (?1 IS NULL OR visitor = ?1)
                AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.answer = judged.answer AND gold IS NOT NULL)
            GROUP BY answer, visitor, annotator)
        SELECT answers.seq, outcome, judgements.document, revisions.document, answers.document
        FROM last JOIN judgements USING (seq) JOIN answers ON answers.id = last.answer
            LEFT JOIN pairs ON pairs.id = judgements.pair AND NOT deleted AND state NOT IN ('gold', 'superseded')
            LEFT JOIN revisions ON revisions.pair = pairs.id AND number = pairs.revision
        WHERE outcome <> 'corrected' OR revisions.document IS NOT NULL
        ORDER BY answers.seq, last.seq DESC""",
        (visitor,),
    )
    found = defaultdict(list)
    for place, *row in rows:
        found[place].append(row)
    return [_verdict(those) for those in found.values()]


def _verdict(rows: list[tuple]) -> Verdict:
    judged = [row for row in rows if row[0] != "skipped"]
    outcome, judgement, pair, answer = (judged or rows)[0]
    edits = pair_from_document(pair).edits if outcome == "corrected" else ()
    omission = "omission" in json.loads(judgement)["flags"]
    return Verdict(answer_from_row(json.loads(answer)), outcome, edits, omission, len(judged))
