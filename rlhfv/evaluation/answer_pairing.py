"""Which item each row of a file of answers belongs to.

By its id, and where the row tells the question, that has to be the item's; by its image only where each item has one
of its own. What no question confirmed is said. By order in one case only: every question of a run of rows, one after
the other, is that of the item in its place. So POPE's own files and MMHal-Bench's template go together with their
questions, and so a file of all three POPE splits holds the one that is wanted.
"""

from collections import Counter
from collections.abc import Sequence

from rlhfv.corrections.exchange import RowProblem
from rlhfv.errors import InvalidData
from rlhfv.evaluation.answer_forms import AnswerRow, Form, image_key, image_number
from rlhfv.evaluation.score import Item

_RANDOM_FILES = {2910, 3000}
"""Questions of the two files that POPE's random split goes by."""
_MANY = 20
"""One row in so many that fit no item is too many for ids to be trusted."""


def pair_by_line(rows: Sequence[AnswerRow], items: Sequence[Item]) -> dict[str, str]:
    """Item id → text, each row of the item in its line; a line that could not be read is no row, but it counts.

    Raises:
        InvalidData: there are more lines than items, or a line has another question.
    """
    lines = max((row.number for row in rows), default=0)
    if lines > len(items):
        raise other_questions(f"There are {lines:,} lines for {len(items):,} questions")
    for row in rows:
        asked = items[row.number - 1].question
        if (row.question or "").strip() != asked.strip():
            raise other_questions(f"Line {row.number:,} answers {row.question!r:.80}, where {asked!r:.80} is asked")
    return {items[row.number - 1].id: row.text for row in rows}


def pair(
    form: Form, rows: Sequence[AnswerRow], items: Sequence[Item]
) -> tuple[dict[str, str], list[RowProblem], list[str]]:
    """Item id → text; the rows that belong to no item; and sentences on what was passed over or could not be checked.

    Raises:
        InvalidData: most rows answer other questions, or the rows name images that several items share.
    """
    if form.by_image:
        refuse_shared_images(form, items)
    _refuse_other_random(rows, items)
    notes = []
    rows = _of_same_part(rows, items, notes)
    # Where all items ask the same, a question tells nothing, and another one may have been asked.
    told_apart = len({item.question for item in items}) > 1
    found = _find_items(form, rows, items, told_apart)
    wrong = [row for row, item in zip(rows, found, strict=True) if not _fits(row, item, told_apart)]
    if (
        told_apart
        and not form.by_image
        and len(wrong) > len(rows) / _MANY
        and (start := _find_run(rows, items)) is not None
    ):
        if len(rows) > len(items):
            notes.append(f"{len(rows) - len(items):,} row(s) answer other questions and were passed over.")
        rows, found, wrong = rows[start : start + len(items)], list(items), []
    _refuse_other_questions(rows, wrong)
    if form.name == "mmhal" and (blank := sum(row.text == "" for row in rows)):
        notes.append(f"{blank:,} of {len(rows):,} answers of the template are blank.")
        if blank == len(rows):  # the template as it comes: nobody answered yet
            return {}, [], notes
    taken, problems, unsure = {}, [], 0
    for row, item in zip(rows, found, strict=True):
        if problem := _problem(row, item, told_apart):
            problems.append(problem)
        else:
            taken.setdefault(item.id, []).append(row)
            unsure += not _asks(row, item)
    if unsure:
        notes.append(
            f"{unsure:,} of {len(rows):,} rows were paired by their id or place alone; no question could confirm it."
        )
    one_answer = {id: rows for id, rows in taken.items() if len({row.text for row in rows}) == 1}
    _refuse_several_sets(taken, one_answer)
    problems += [_several(row, len(rows)) for id, rows in taken.items() if id not in one_answer for row in rows]
    return {id: rows[0].text for id, rows in one_answer.items()}, problems, notes


def other_questions(what: str) -> InvalidData:
    return InvalidData(
        f"The file answers other questions. {what}.",
        "Answers that are paired with the wrong questions give figures that mean nothing.",
        "Choose the benchmark, the split and the question file that were answered.",
    )


def refuse_shared_images(form: Form, items: Sequence[Item]) -> None:
    """Raises InvalidData where a format that names images cannot tell the items apart."""
    image, times = Counter(map(image_key, items)).most_common(1)[0] if items else ("", 0)
    if times > 1:
        raise InvalidData(
            f"Several questions are about the image {image}.",
            f"The format {form.name!r} has one answer an image.",
            "Choose a format that names the question, such as llava.",
        )


def _of_same_part(rows, items, notes):
    """The rows of the items' part of a benchmark, where rows name parts and the items are of some of them."""
    groups = {item.group for item in items} - {""}
    if not {row.category for row in rows} & groups:
        return rows
    ours = [row for row in rows if row.category is None or row.category in groups]
    if len(ours) < len(rows):
        notes.append(f"{len(rows) - len(ours):,} row(s) are of other parts of the benchmark and were passed over.")
    return ours


def _find_items(form, rows, items, told_apart):
    """The item of each row, None where there is none."""
    by_id = {item.id: item for item in items}
    if form.by_image:
        by_image = {image_key(item): item for item in items}
        return [by_image.get(image_number(row.key) or row.key, by_image.get(row.key)) for row in rows]
    if form.name == "mmhal":
        return _by_question(rows, items)
    by_key = [by_id.get(row.key) for row in rows]
    named = form.name == "lmms-eval" and all(row.key is not None for row in rows)
    if named or all(row.place is None for row in rows):
        return by_key
    by_place = [items[row.place] if row.place is not None and row.place < len(items) else None for row in rows]
    told = told_apart and any(row.question for row in rows)
    if form.name == "vlmevalkit" and (not told or _count(rows, by_key) >= _count(rows, by_place)):
        return by_key
    return by_place


def _count(rows, found):
    return sum(_fits(row, item, True) for row, item in zip(rows, found, strict=True))


def _by_question(rows, items):
    """By the question where it is asked once; the others are found if all are in order."""
    asked, given = Counter(item.question for item in items), Counter(row.question for row in rows)
    once = {item.question: item for item in items if asked[item.question] == 1}
    return [once.get(row.question) if given[row.question] == 1 else None for row in rows]


def _find_run(rows, items):
    """Where the only run of rows begins whose questions are the items', one after the other; None if there is none."""
    starts = [
        start
        for start in range(len(rows) - len(items) + 1)
        if _asks(rows[start], items[0]) and all(map(_asks, rows[start : start + len(items)], items))
    ]
    return starts[0] if len(starts) == 1 else None


def _asks(row, item):
    """Whether the row's prompt has the item's question in it; others put a sentence after it."""
    return row.question is not None and item.question.strip() in row.question


def _fits(row, item, told_apart):
    return item is not None and (not told_apart or row.question is None or _asks(row, item))


def _problem(row, item, told_apart):
    if item is None:
        return RowProblem(
            row.number,
            f"It answers {_name(row)}.",
            "There is no such item among those asked, or more than one.",
            "Check the id, or score the benchmark that it belongs to.",
        )
    if not _fits(row, item, told_apart):
        return RowProblem(
            row.number,
            f"It answers {row.question!r:.80}.",
            f"The item {item.id} asks {item.question!r:.80}.",
            "Give it the id of the question that was answered.",
        )
    return None


def _name(row):
    if row.key is not None:
        return f"the id {row.key!r:.60}"
    return f"the question {row.question!r:.80}" if row.place is None else f"the place {row.place}"


def _several(row, times):
    return RowProblem(
        row.number,
        f"It is one of {times} rows for {_name(row)} that say different things.",
        "An item has one answer, and nothing tells which it is.",
        "Keep the row that is meant.",
    )


def _refuse_other_questions(rows, wrong):
    asked = [row for row in wrong if row.question is not None]
    if len(asked) > len(rows) / 2:
        first = asked[0]
        raise other_questions(
            f"In {len(asked):,} of its {len(rows):,} rows id and question do not go together, first in row "
            f"{first.number:,}, which is about {_name(first)} and answers {first.question!r:.80}"
        )


def _refuse_several_sets(taken, one_answer):
    several = len(taken) - len(one_answer)
    if several > max(len(taken) / _MANY, _MANY):
        raise other_questions(f"For {several:,} of {len(taken):,} items it holds several answers that differ")


def _refuse_other_random(rows, items):
    """Answers to one of POPE's two random files, where only ids tell, would pass for answers to the other."""
    if {len(rows), len(items)} == _RANDOM_FILES and all(row.question is None for row in rows):
        raise other_questions(f"There are {len(rows):,} answers for {len(items):,} questions")
