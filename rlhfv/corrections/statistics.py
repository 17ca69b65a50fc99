"""Figures over the store in SQL: what was corrected, by whom, of which model, how long it took, how often nothing was
wrong. What a pair holds is counted once, when it is saved.
"""

import sqlite3
from dataclasses import dataclass

from rlhfv.corrections.agreement import word_spans
from rlhfv.corrections.edits import KINDS
from rlhfv.corrections.pairs import PreferencePair

PAPER_WORDS = 64.4
PAPER_CORRECTIONS = 2.65
"""Words and corrected segments of an annotated response on average (T. Yu et al., "RLHF-V", 2023, section 2)."""


@dataclass(frozen=True)
class Figures:
    """Of all corrected answers, or those of one annotator or model, whose `name` it is.

    `answers` are pairs with corrections, `corrections` the corrected spans in them. `words_per_answer` counts the
    words of the answer as it was generated. Seconds are of active work, each answer's longest sitting; 0 where none
    was measured. `judged` answers were corrected or found faithful here; of them `nothing_wrong` is the share found
    faithful, and `response_rates` the share with at least one correction of a kind, or of any ("any"): the labels of
    the paper's MHumanEval straight from spans, where its "other" is our attribute, action and other. Imported pairs
    were not judged here. Shares are from 0 to 1.
    """

    name: str
    answers: int
    corrections: int
    kinds: dict[str, int]
    words_per_answer: float
    corrections_per_answer: float
    seconds_per_answer: float
    seconds_per_correction: float
    judged: int
    nothing_wrong: float
    response_rates: dict[str, float]


@dataclass(frozen=True)
class Statistics:
    """`total` over everything; `annotators` and `models` by name, the busiest first. `preferred` pairs and those that
    wait in each state are counted beside; gold items and superseded corrections are in no other figure.
    """

    total: Figures
    annotators: tuple[Figures, ...]
    models: tuple[Figures, ...]
    preferred: int
    states: dict[str, int]


def pair_figures(pair: PreferencePair) -> tuple[int, ...]:
    """What a row of `pair_figures` holds: corrected or not, words of the rejected answer, edits of each kind."""
    kinds = [edit.kind for edit in pair.edits]
    return int(pair.outcome == "corrected"), len(word_spans(pair.rejected)), *(kinds.count(kind) for kind in KINDS)


_KINDS = ", ".join(f"sum({kind})" for kind in KINDS)
_RATES = ", ".join(f"sum({kind} > 0)" for kind in KINDS)
_COUNTED = "NOT deleted AND state NOT IN ('gold', 'superseded') AND (?1 IS NULL OR pairs.visitor = ?1)"


def read_statistics(connection: sqlite3.Connection, visitor: str | None = None) -> Statistics:
    """Over everybody's work, or that of one visitor. Two walks over the pairs and judgements, whatever is asked."""
    made = connection.execute(
        f"SELECT annotator, model, corrected, count(*), sum(words), {_KINDS}"
        f" FROM pairs JOIN pair_figures USING (seq) WHERE {_COUNTED} GROUP BY annotator, model, corrected",
        (visitor,),
    ).fetchall()
    # Of an answer that was judged several times by the same person the last judgement counts, and the longest time.
    judged = connection.execute(
        f"""WITH last AS (
            SELECT answer, max(judgement) AS seq, max(json_extract(document, '$.active_seconds')) AS seconds
            FROM judged JOIN judgements ON judgements.seq = judgement
            WHERE outcome IN ('corrected', 'faithful') AND NOT withdrawn AND (?1 IS NULL OR visitor = ?1)
                AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.answer = judged.answer AND gold IS NOT NULL)
            GROUP BY answer, visitor, annotator),
        found AS (
            SELECT judgements.annotator, pair, outcome, seconds,
                (SELECT json_extract(document, '$.model.name') || '@' || json_extract(document, '$.model.revision')
                    || coalesce(' + ' || json_extract(document, '$.model.adapter'), '')
                 FROM answers WHERE answers.id = answer AND pair IS NULL) AS model
            FROM last JOIN judgements USING (seq))
        SELECT found.annotator, coalesce(pairs.model, found.model), outcome = 'faithful', count(*),
            sum(seconds), sum(seconds > 0), sum(iif(seconds > 0, {" + ".join(KINDS)}, 0)), {_RATES}
        FROM found LEFT JOIN pairs ON pairs.id = pair LEFT JOIN pair_figures ON pair_figures.seq = pairs.seq
        WHERE outcome = 'faithful' OR ({_COUNTED}) GROUP BY 1, 2, 3""",
        (visitor,),
    ).fetchall()
    states = connection.execute(
        "SELECT state, count(*) FROM pairs WHERE NOT deleted AND (?1 IS NULL OR visitor = ?1) GROUP BY state",
        (visitor,),
    ).fetchall()
    return Statistics(
        _figures("", made, judged),
        *(_by(column, made, judged) for column in (0, 1)),
        preferred=sum(row[3] for row in made if not row[2]),
        states=dict(states),
    )


def _by(column: int, made: list[tuple], judged: list[tuple]) -> tuple[Figures, ...]:
    names = {row[column] for row in (*made, *judged)}
    figures = [
        _figures(name, *([row for row in rows if row[column] == name] for rows in (made, judged))) for name in names
    ]
    return tuple(sorted(figures, key=lambda one: (-one.answers, -one.judged, one.name)))


def _figures(name: str, made: list[tuple], judged: list[tuple]) -> Figures:
    corrected = [row for row in made if row[2]]
    answers, words = (sum(row[index] for row in corrected) for index in (3, 4))
    kinds = {kind: sum(row[index] for row in corrected) for index, kind in enumerate(KINDS, 5)}
    corrections = sum(kinds.values())
    wrong = [row for row in judged if not row[2]]
    count = sum(row[3] for row in judged)
    seconds, timed, timed_corrections = (sum(row[index] or 0 for row in wrong) for index in (4, 5, 6))
    rates = {kind: _share(sum(row[index] or 0 for row in wrong), count) for index, kind in enumerate(KINDS, 7)}
    faulty = sum(row[3] for row in wrong)
    return Figures(
        name=name,
        answers=answers,
        corrections=corrections,
        kinds=kinds,
        words_per_answer=_share(words, answers),
        corrections_per_answer=_share(corrections, answers),
        seconds_per_answer=_share(seconds, timed),
        seconds_per_correction=_share(seconds, timed_corrections),
        judged=count,
        nothing_wrong=_share(count - faulty, count),
        response_rates=rates | {"any": _share(faulty, count)},
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
