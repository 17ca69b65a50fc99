"""POPE (Li et al., Evaluating Object Hallucination in Large Vision-Language Models, EMNLP 2023): "Is there a …?"

500 COCO images and, in each of three splits, three objects that are there and three that are not: taken at `random`,
among the `popular` ones, or among those that go together with what is there (`adversarial`). "Yes" is the positive
class. Two files named "random" circulate, POPE's own of 3,000 questions and one of 2,910 that came with LLaVA and
LLaVA-RLHF: they share 2,766 questions, and figures of one are not figures of the other.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhfv.corrections.lines import parse_lines, read_lines
from rlhfv.errors import InvalidData
from rlhfv.evaluation.answered import answered
from rlhfv.evaluation.bootstrap import OF_IMAGES
from rlhfv.evaluation.files import WantedFile, require_files
from rlhfv.evaluation.score import Item, Measure, Score, per_cent, share
from rlhfv.evaluation.yes_no import LENIENT, NEITHER, NO, POPE_READINGS, YES

SPLITS = ("random", "popular", "adversarial")
OFFICIAL = "official"
IMAGES = "../coco/val2014/"

SHORT_RANDOM = "the 2,910 questions that came with LLaVA, not POPE's own 3,000"
_FILES = {
    "random": "POPE's own 3,000 questions",
    "short random": SHORT_RANDOM,
    "popular": "POPE's own 3,000 questions",
    "adversarial": "POPE's own 3,000 questions",
}
# sha256 of the question ids, images, texts and labels of the published files.
_KNOWN = {
    "c08e431b7eac6bb58349a5ed75a43865196ff11e225a6cb4e8f5c8ecee80795f": "random",
    "0f8f31000abe8480cbe8c1cc8755d83e42d2b4cb90a68a8672b5de860e5a779b": "popular",
    "f17ef4a920390f6262eb351c4f57db74fbad4a1a281fc65d51331843b54d1b0e": "adversarial",
    "9d7f813a5f79edfb3593593ebe6b8ec9843766cfe8f7c8b7a228390ada9bed82": "short random",
}


@dataclass(frozen=True)
class Questions:
    """A split's questions and answers as its file has them: `labels` by question id, "yes" or "no". `source` says
    which of the published files it is."""

    split: str
    source: str
    items: tuple[Item, ...]
    labels: Mapping[str, str]


def wanted(split: str) -> tuple[WantedFile, ...]:
    """The files of a split."""
    return (
        WantedFile(_file(split), "the questions and answers", "github.com/RUCAIBox/POPE, output/coco/"),
        WantedFile(IMAGES, "COCO's images val2014", "cocodataset.org/#download", False),
    )


def read_questions(folder: Path, split: str) -> Questions:
    """The questions of a split.

    Raises:
        InvalidData: there is no such split or file, or a line of it is no question.
    """
    require_files(folder, wanted(split))
    path, items, labels = folder / _file(split), [], {}
    for number, row in parse_lines(read_lines(path)):
        try:
            id, image, text, label = (row[name] for name in ("question_id", "image", "text", "label"))
            if not isinstance(image, str) or not isinstance(text, str):
                raise TypeError("an image or a text that is none")
        except (KeyError, TypeError) as error:
            why = "it is no question with question_id, image, text and label"
            raise _broken(path, number, why) from error
        if label not in (YES, NO) or str(id) in labels:
            raise _broken(
                path, number, f"its label is {label!r:.20} and its question_id {id!r:.20}, one of which cannot be"
            )
        items.append(Item(str(id), text, IMAGES + image, split))
        labels[str(id)] = label
    return Questions(split, _source(split, items, labels), tuple(items), labels)


def read_items(folder: Path, split: str) -> list[Item]:
    """The questions of a split for whoever answers them, in the order of its file."""
    return list(read_questions(folder, split).items)


def score(questions: Questions, answers: Mapping[str, str], variant: str = OFFICIAL) -> Score:
    """Accuracy, precision, recall, F1 and the share of answers that are read as "yes".

    Args:
        variant: "official" reads answers as POPE's script does, "lenient" as a person would; what it cannot read
            counts as wrong and as neither answer.

    Raises:
        InvalidData: there is no such variant.
    """
    if variant not in POPE_READINGS:
        known = ", ".join(POPE_READINGS)
        raise InvalidData(f"The variant is {variant!r:.80}.", f"There are {known}.", "Choose one of them.")
    ids, notes = answered(questions.labels, answers)
    read = [POPE_READINGS[variant](answers[id]) for id in ids]
    labels = [questions.labels[id] for id in ids]
    image_of = {item.id: item.image for item in questions.items}
    yes, said_yes = (np.array([each == YES for each in column], float) for column in (labels, read))
    right = np.array([each == label for each, label in zip(read, labels, strict=True)], float)
    counts = {
        "items": np.ones(len(ids)),
        "right": right,
        "yes": yes,
        "said yes": said_yes,
        "rightly yes": yes * said_yes,
    }
    unread = sum(each == NEITHER for each in read)
    if unread:
        notes.append(f"{unread:,} of {len(ids):,} answers say neither yes nor no; they count as wrong.")
    notes += _undefined(counts)
    reading = "POPE's own reading of answers" if variant == OFFICIAL else LENIENT
    return Score(
        f"pope-{questions.split}",
        f"{reading}; {questions.split}: {questions.source}",
        ids,
        counts,
        MEASURES,
        right == 0,
        tuple(() for _ in ids),
        (*notes, OF_IMAGES),
        tuple(image_of.get(id) or id for id in ids),
    )


def put_together(scores: Mapping[str, Score]) -> Score:
    """The mean of the three splits' figures, as papers report it, and the figures of each.

    Raises:
        InvalidData: a split is missing, or they were read differently.
    """
    missing = [split for split in SPLITS if split not in scores]
    if missing:
        raise InvalidData(
            f"The mean of POPE's splits lacks {' and '.join(missing)}.",
            "It is the mean of all three.",
            "Answer and score what is missing.",
        )
    readings = {score.variant.rpartition(f"; {split}: ")[0] for split, score in scores.items()}
    if len(readings) > 1:
        raise InvalidData(
            f"POPE's splits were read differently ({'; '.join(sorted(readings))}).",
            "Figures of different readings have no mean.",
            "Score all three with one reading.",
        )
    ordered, counts = [scores[split] for split in SPLITS], {}
    size, start = sum(len(score.ids) for score in ordered), 0
    for split, score in zip(SPLITS, ordered, strict=True):
        for name, values in score.counts.items():
            counts[f"{split} {name}"] = np.zeros(size)
            counts[f"{split} {name}"][start : start + len(values)] = values
        start += len(score.ids)
    parts = [_measures(f"{split} ", f"{split.capitalize()}: ", f"{split}_") for split in SPLITS]
    means = [_mean_of(measures) for measures in zip(*parts, strict=True)]
    note = "The splits ask the same questions about objects that are there. " + OF_IMAGES
    return Score(
        "pope",
        "; ".join(
            (
                *readings,
                *(
                    f"{split}: {score.variant.rpartition(': ')[2]}"
                    for split, score in zip(SPLITS, ordered, strict=True)
                ),
            )
        ),
        tuple(f"{split}/{id}" for split in SPLITS for id in scores[split].ids),
        counts,
        (*means, *(measure for part in parts for measure in part)),
        np.concatenate([score.wrong for score in ordered]),
        tuple(faults for score in ordered for faults in score.faults),
        (
            *(
                f"{split.capitalize()}: {text}"
                for split in SPLITS
                for text in scores[split].notes
                if text != OF_IMAGES
            ),
            note,
        ),
        tuple(cluster for score in ordered for cluster in score.clusters),
    )


def _measures(prefix, title="", name=""):
    def precision(sums):
        return per_cent(sums[f"{prefix}rightly yes"], sums[f"{prefix}said yes"])

    def recall(sums):
        return per_cent(sums[f"{prefix}rightly yes"], sums[f"{prefix}yes"])

    def f1(sums):
        p, r = precision(sums), recall(sums)
        return share(2 * p * r, p + r)

    return (
        Measure(
            f"{name}accuracy",
            f"{title}Accuracy",
            "percent",
            "higher",
            lambda sums: per_cent(sums[f"{prefix}right"], sums[f"{prefix}items"]),
        ),
        Measure(f"{name}precision", f"{title}Precision", "percent", "higher", precision),
        Measure(f"{name}recall", f"{title}Recall", "percent", "higher", recall),
        Measure(f"{name}f1", f"{title}F1", "percent", "higher", f1),
        Measure(
            f"{name}yes_ratio",
            f"{title}Yes ratio",
            "percent",
            "",
            lambda sums: per_cent(sums[f"{prefix}said yes"], sums[f"{prefix}items"]),
        ),
    )


MEASURES = _measures("")


def _mean_of(measures):
    first = measures[0]
    title = f"Mean of splits: {first.title.partition(': ')[2]}"
    name = first.name.partition("_")[2]
    return Measure(
        name, title, first.unit, first.better, lambda sums: sum(one.of(sums) for one in measures) / len(measures)
    )


def _undefined(counts):
    """A sentence for each figure whose denominator is 0; POPE's script ends with an error there."""
    if not len(counts["items"]):
        return ["Nothing was answered, so that no figure is defined."]
    sums = {name: np.sum(values) for name, values in counts.items()}
    notes = []
    if not sums["said yes"]:
        notes.append('No answer is read as "yes", so that precision and F1 are not defined.')
    if not sums["yes"]:
        notes.append('The right answer is never "yes", so that recall and F1 are not defined.')
    if sums["said yes"] and sums["yes"] and not sums["rightly yes"]:
        notes.append('No "yes" is right: precision and recall are 0, so that F1 is not defined.')
    return notes


def _file(split):
    if split not in SPLITS:
        raise InvalidData(f"The split is {split!r:.80}.", f"POPE has {', '.join(SPLITS)}.", "Choose one of them.")
    return f"coco_pope_{split}.json"


def _digest(items, labels):
    rows = ([item.id, item.image.rpartition("/")[2], item.question, labels[item.id]] for item in items)
    return hashlib.sha256("\n".join(json.dumps(row) for row in rows).encode()).hexdigest()


def _source(split, items, labels):
    known = _KNOWN.get(_digest(items, labels), "")
    if known.removeprefix("short ") == split:
        return _FILES[known]
    return f"{len(items):,} questions that are none of the published files"


def _broken(path, number, why):
    return InvalidData(
        f"{path.name} is not POPE's.",
        f"In line {number:,} of {path}, {why}.",
        "Fetch it again from github.com/RUCAIBox/POPE, output/coco/.",
    )
