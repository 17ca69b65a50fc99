"""Object HalBench: 300 pictures of COCO described in detail, each wrong word counted once.

RLHF-V (arXiv 2312.00849), as `eval/eval_gpt_obj_halbench.py` of its repository counts: its rates, denominators and
truth. What it asks gpt-3.5-turbo-0613 for, a model withdrawn since, comes from the text itself
(`object-halbench-lexical`) or from another judge (`object-halbench-judge:<model>`); figures of different variants may
not be set side by side.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from rlhfv.corrections import lines
from rlhfv.errors import InvalidData
from rlhfv.evaluation import coco_annotations
from rlhfv.evaluation.chair import RECALL, WORDS, counted_by
from rlhfv.evaluation.coco import Mention, find_mentions
from rlhfv.evaluation.files import WantedFile, require_files
from rlhfv.evaluation.score import Fault, Item, Measure, Score, Sums, per_cent

BENCHMARK = "object-halbench"
LEXICAL = "object-halbench-lexical"
JUDGED = "object-halbench-judge"
VARIANTS = (LEXICAL, JUDGED)
QUESTIONS = WantedFile(
    "object-halbench/obj_halbench_300_with_image.jsonl",
    "300 questions, each with its image_id",
    "https://github.com/RLHF-V/RLAIF-V, eval/data",
)
WANTED = (QUESTIONS, *coco_annotations.VAL_2014, coco_annotations.PICTURES)
SHORT = 3
"""Answers of so many words or fewer name nothing."""

# Words between which a phrase of the judge's falls into nouns: "man in a suit" is a man and a suit.
_JOINTS = re.compile(r"\b(?:a|an|the|of|in|on|at|with|and|or|by|for|from|near|under|over|behind)\b|[^\w\s'-]", re.I)


def _response_rate(sums: Sums) -> np.ndarray:
    return per_cent(sums["with_invented"], sums["naming"])


def _mention_rate(sums: Sums) -> np.ndarray:
    return per_cent(sums["invented"], sums["mentions"])


MEASURES = (
    Measure("response_rate", "Answers with an absent object, of those naming any", "percent", "lower", _response_rate),
    Measure("mention_rate", "Words for absent objects, each once an answer", "percent", "lower", _mention_rate),
    Measure("correct", "Answers without one", "percent", "higher", lambda sums: 100 - _response_rate(sums)),
    RECALL,
    WORDS,
)


def score(
    truth: Mapping[str, Collection[str]],
    answers: Mapping[str, str],
    extracted: Mapping[str, Sequence[str]] | None = None,
    judge: str = "",
    expected: Collection[str] | None = None,
) -> Score:
    """Object HalBench of the answers whose item has a truth: its classes by item id.

    `extracted` are the objects that a judge found in each answer, as phrases by item id, and `judge` is the model's
    name as its server gives it. Without them the words of the answer itself are looked up. An answer that the judge
    was not asked about is not scored, unless it is so short that it names nothing. `expected` are the items that
    should have been answered: all that have a truth, unless told.
    """
    paired, notes = coco_annotations.pair(truth, answers)
    if extracted is not None:
        unread = [id for id, (_, answer) in paired.items() if not _is_short(answer) and id not in extracted]
        for id in unread:
            del paired[id]
        if unread:
            notes.append(f"Not counted: {len(unread)} answers whose objects the judge has not listed.")
    names = ("answers", "naming", "with_invented", "mentions", "invented", "recalled", "there", "words")
    counts = {name: np.zeros(len(paired)) for name in names}
    faults = []
    for row, (id, (there, answer)) in enumerate(paired.items()):
        named = _named(answer, None if extracted is None else extracted.get(id, ()))
        invented = {form for form, category in named.items() if category not in there}
        counts["answers"][row] = 1
        counts["naming"][row] = bool(named)
        counts["with_invented"][row] = bool(invented)
        counts["mentions"][row] = len(named)
        counts["invented"][row] = len(invented)
        counts["recalled"][row] = len(set(named.values()) & set(there))
        counts["there"][row] = len(set(there))
        counts["words"][row] = len(answer.split())
        faults.append(
            tuple(Fault(one.start, one.end, "object") for one in find_mentions(answer) if one.form in invented)
        )
    if not counts["naming"].any():
        notes.append("No answer names an object of COCO's classes: neither rate is defined.")
    name = LEXICAL if extracted is None else f"{JUDGED}:{judge}"
    how = "words of the answer" if extracted is None else "a judge's object list, two-word terms before head nouns"
    return Score(
        benchmark=BENCHMARK,
        variant=f"{name}: {how}, each once an answer; response rate of answers that name an object; {counted_by()}; "
        "truth of instances and captions",
        ids=tuple(paired),
        counts=counts,
        measures=MEASURES,
        wrong=counts["with_invented"].astype(bool),
        faults=tuple(faults),
        notes=(*notes, *coco_annotations.missing(truth if expected is None else expected, answers)),
    )


def objects_of(phrase: str) -> list[Mention]:
    """The objects of COCO's classes in one phrase of a judge's list: its double words if it has any, else the last
    word of each of its nouns, so that "kitchen chair" is a chair and "chair leg" is nothing."""
    mentions = find_mentions(phrase)
    if double := [mention for mention in mentions if len(mention.word.split()) > 1]:
        return double
    parts = [phrase[: joint.start()] for joint in _JOINTS.finditer(phrase)] + [phrase]
    ends = {len(part.rstrip()) for part in parts}
    return [mention for mention in mentions if mention.end in ends]


def read_items(folder: Path) -> list[Item]:
    """The questions of the benchmark's file; an item's id is the number of its image."""
    require_files(folder, WANTED)
    path = Path(folder, QUESTIONS.path)
    items: dict[str, Item] = {}
    for number, row in lines.parse_lines(lines.read_lines(path)):
        try:
            if isinstance(row, InvalidData):
                raise ValueError(row.why)
            image = int(row["image_id"])
            item = Item(str(image), row["question"], f"{coco_annotations.PICTURES.path}COCO_val2014_{image:012}.jpg")
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidData(
                f"Line {number} of {path} is no question: {type(error).__name__} {error}.",
                "Each line names its image_id and its question.",
                f"Fetch the file again from {QUESTIONS.source}.",
            ) from error
        if item.id in items:
            raise InvalidData(
                f"Image {item.id} comes twice in {path}, again in line {number}.",
                "Answers are found by the number of their image, one question for each.",
                f"Fetch the file again from {QUESTIONS.source}.",
            )
        items[item.id] = item
    return list(items.values())


def read_keys(folder: Path) -> dict[str, frozenset[str]]:
    """The classes in each picture that a question is about."""
    ids = [item.id for item in read_items(folder)]
    return {id: one.truth for id, one in coco_annotations.read_annotations(folder, ids).items()}


def score_folder(
    folder: Path,
    answers: Mapping[str, str],
    variant: str = LEXICAL,
    extracted: Mapping[str, Sequence[str]] | None = None,
    judge: str = "",
) -> Score:
    """`score` with the keys of a benchmark folder; `extracted` and `judge` are used by the judge's variant only."""
    judged = variant.startswith(JUDGED)
    if judged and (extracted is None or not judge):
        raise InvalidData(
            f"The variant {variant!r} has no object lists.",
            "Its objects come from a judge, a model that reads the answers.",
            f"Name a judge, or count the words with {LEXICAL}.",
        )
    return score(read_keys(folder), answers, extracted if judged else None, judge)


def _is_short(answer: str) -> bool:
    return len(answer.split()) <= SHORT


def _named(answer: str, phrases: Sequence[str] | None) -> dict[str, str]:
    """The class of each word or double word that names an object."""
    if _is_short(answer):
        return {}
    found = find_mentions(answer) if phrases is None else [one for phrase in phrases for one in objects_of(phrase)]
    named = {mention.form: mention.category for mention in found}
    if "toilet" in named:
        named.pop("seat", None)  # also where the judge lists the two one by one
    return named
