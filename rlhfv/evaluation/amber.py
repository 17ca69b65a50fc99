"""AMBER (Wang et al., AMBER: An LLM-free Multi-dimensional Benchmark for MLLMs Hallucination Evaluation, 2023), as its
`inference.py` counts.

Generative: the nouns of an answer that are in AMBER's vocabulary, against the words that are true of the image and the
words that models like to make up. Discriminative: yes-or-no questions, in which **"No" is the positive class**. All
figures are per cent of sums over the items, and every denominator starts at 0.001, so that nothing is undefined.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhfv.errors import InvalidData
from rlhfv.evaluation.answered import answered
from rlhfv.evaluation.bootstrap import OF_IMAGES
from rlhfv.evaluation.files import WantedFile, require_files, sha256_of
from rlhfv.evaluation.nouns import METHOD, find_nouns
from rlhfv.evaluation.score import Fault, Item, Measure, Score, share
from rlhfv.evaluation.vectors import read_vectors, similarities
from rlhfv.evaluation.yes_no import AMBER_READINGS, LENIENT, NEITHER, NO, YES

GENERATIVE, DISCRIMINATIVE = "amber-generative", "amber-discriminative"
EXACT, SIMILAR = "exact", "similar"
THRESHOLD = 0.8
START = 0.001
"""What every denominator starts at (AMBER's `metrics.txt`)."""

DIMENSIONS = {
    "discriminative-hallucination": "existence",
    "discriminative-attribute-state": "state",
    "discriminative-attribute-number": "number",
    "discriminative-attribute-action": "action",
    "discriminative-relation": "relation",
    "relation": "relation",
}
KINDS = tuple(dict.fromkeys(DIMENSIONS.values()))
ATTRIBUTE = ("state", "number", "action")

_SOURCE = "github.com/junyangwang0410/AMBER, data/"
_ANNOTATIONS = WantedFile("annotations.json", "what is true of each image and the answers", _SOURCE)
_IMAGES = WantedFile(
    "image/", "the 1,004 images AMBER_<id>.jpg", "the link in github.com/junyangwang0410/AMBER", False
)
_IMAGE = "AMBER_{}.jpg"
"""The image of a generative question, by its id."""
_GENERATIVE_QUERIES = "query/query_generative.json"
_DISCRIMINATIVE_QUERIES = tuple(
    f"query/query_discriminative-{part}.json" for part in ("attribute", "existence", "relation")
)
GENERATIVE_WANTED = (
    _ANNOTATIONS,
    WantedFile("relation.json", "the vocabulary and which words go together", _SOURCE),
    WantedFile("safe_words.txt", "words that are never a hallucination", _SOURCE),
    WantedFile(_GENERATIVE_QUERIES, "the questions", _SOURCE),
    _IMAGES,
)
DISCRIMINATIVE_WANTED = (
    _ANNOTATIONS,
    *(WantedFile(path, "the questions", _SOURCE) for path in _DISCRIMINATIVE_QUERIES),
    _IMAGES,
)


@dataclass(frozen=True)
class GenerativeKeys:
    """`words` of each item: those true of the image and those that models make up, with repeats, in AMBER's order.
    `related`: what else each word is called. `safe`: words that count as mentions but never as hallucinated."""

    words: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    related: Mapping[str, Sequence[str]]
    safe: frozenset[str]

    @property
    def vocabulary(self) -> frozenset[str]:
        return frozenset(self.related).union(*self.related.values())


@dataclass(frozen=True)
class YesNoKey:
    """`dimension` is existence, state, number, action or relation; `truth` is "yes" or "no"; `image` is what the
    question is about, "" where every question has its own."""

    dimension: str
    truth: str
    image: str = ""


def read_generative_items(folder: Path) -> list[Item]:
    """The 1,004 items, by AMBER's own ids, in its order."""
    require_files(folder, GENERATIVE_WANTED)
    return [_item(row) for row in _queries(folder, _GENERATIVE_QUERIES)]


def read_discriminative_items(folder: Path) -> list[Item]:
    """The 14,216 items, by AMBER's own ids, in their order; the group is the dimension."""
    require_files(folder, DISCRIMINATIVE_WANTED)
    keys = read_discriminative_keys(folder)
    rows = sorted(_discriminative_rows(folder), key=lambda row: row["id"])
    return [_item(row, keys[str(row["id"])].dimension) for row in rows if str(row["id"]) in keys]


def read_generative_keys(folder: Path) -> GenerativeKeys:
    require_files(folder, GENERATIVE_WANTED)
    rows = _annotations(folder, "generative", truth=_are_words, hallu=_are_words)
    words = {str(row["id"]): (tuple(row["truth"]), tuple(row["hallu"])) for row in rows}
    safe = frozenset(_read(folder, "safe_words.txt").splitlines()) - {""}
    related = _read(folder, "relation.json", json.loads)
    if not isinstance(related, dict) or not all(map(_are_words, related.values())):
        raise _broken(folder / "relation.json", "it is no object that lists words for each word")
    return GenerativeKeys(words, related, safe)


def read_discriminative_keys(folder: Path) -> dict[str, YesNoKey]:
    require_files(folder, DISCRIMINATIVE_WANTED)
    rows = _annotations(folder, *DIMENSIONS, truth=(YES, NO).__contains__)
    images = {row["id"]: row["image"] for row in _discriminative_rows(folder)}
    return {str(row["id"]): YesNoKey(DIMENSIONS[row["type"]], row["truth"], images.get(row["id"], "")) for row in rows}


def score_generative(
    keys: GenerativeKeys, answers: Mapping[str, str], variant: str = EXACT, vectors: Path | None = None
) -> Score:
    """CHAIR, Cover, Hal and Cog, and the mean length of an answer in words.

    Args:
        variant: "exact" takes words as alike when they are the same or AMBER relates them; "similar" also when the
            cosine of their vectors is above 0.8. AMBER's published figures use the vectors of spaCy's en_core_web_lg
            and tagged lemmas, so that neither is quite theirs.
        vectors: for "similar", a file of word vectors (see `read_vectors`).

    Raises:
        InvalidData: there is no such variant, or the vectors are missing or cannot be read.
    """
    ids, notes = answered(keys.words, answers)
    vocabulary = keys.vocabulary
    alike, name = _likeness(vocabulary, variant, vectors, notes)
    counts = {name: np.zeros(len(ids)) for name in ("nouns", "hallucinated", "truth", "covered", "hallu", "cognitive")}
    faults = []
    for row, id in enumerate(ids):
        nouns = find_nouns(answers[id], vocabulary)
        wrong, covered, cognitive = judge([noun.word for noun in nouns], *keys.words[id], keys, alike)
        faults.append(tuple(Fault(nouns[n].start, nouns[n].end, "object") for n in wrong))
        truth, hallu = keys.words[id]
        found = (len(nouns), len(wrong), len(truth), len(covered), len(hallu), len(cognitive))
        for count, value in zip(counts.values(), found, strict=True):
            count[row] = value
    counts["clean"] = (counts["hallucinated"] == 0).astype(float)
    counts["answers"] = np.ones(len(ids))
    counts["words"] = np.array([len(answers[id].split()) for id in ids], float)
    if ids and not counts["nouns"].any():
        notes.append("No answer names a word of AMBER's vocabulary: CHAIR is 0 by definition, not by merit.")
    return Score(
        GENERATIVE,
        f"{name}; nouns: {METHOD}",
        ids,
        counts,
        GENERATIVE_MEASURES,
        counts["clean"] == 0,
        tuple(faults),
        tuple(notes),
    )


def judge(
    nouns: Sequence[str],
    truth: Sequence[str],
    hallu: Sequence[str],
    keys: GenerativeKeys,
    alike=None,
) -> tuple[list[int], set[int], set[int]]:
    """One answer: which of its nouns are hallucinated, which slots of `truth` are covered, which of `hallu` are hit.

    In the order of AMBER's script: words that are related to a slot's word come before the slots' own words, and the
    first match is the one that counts, so that the second of two equal slots is never hit. A noun that is not true may
    hit slots of `hallu` twice, by its spelling and by its likeness, and may still be excused by its likeness to truth.
    """
    true, made_up = _search_order(truth, keys.related), _search_order(hallu, keys.related)
    wrong, covered, cognitive = [], set(), set()
    for place, noun in enumerate(nouns):
        if noun in keys.safe:
            continue
        if noun in true:
            covered.add(true[noun])
            continue
        if noun in made_up:
            cognitive.add(made_up[noun])
        if alike:
            cognitive |= {slot for word, slot in _first_alike(noun, made_up, alike)}
            excuse = _first_alike(noun, true, alike)
            if excuse:
                covered |= {slot for word, slot in excuse}
                continue
        wrong.append(place)
    return wrong, covered, cognitive


def score_discriminative(keys: Mapping[str, YesNoKey], answers: Mapping[str, str], variant: str = "official") -> Score:
    """Accuracy, precision, recall and F1 with "No" as the positive class, of all items and of each dimension that was
    answered. F1 is made of precision and recall as they are printed, as in AMBER's script.

    Args:
        variant: "official" takes only answers that are exactly "Yes" or "No"; "lenient" reads the rest too.
    """
    if variant not in AMBER_READINGS:
        raise _no_variant(variant, AMBER_READINGS)
    ids, notes = answered(keys, answers)
    read = [AMBER_READINGS[variant](answers[id]) for id in ids]
    unread = sum(answer == NEITHER for answer in read)
    if unread:
        exactly = 'exactly "Yes" or "No"' if variant == "official" else "a yes or a no"
        notes.append(f'{unread:,} of {len(ids):,} answers are not {exactly}; they count as wrong and as no "No".')
    truths = np.array([keys[id].truth == NO for id in ids], bool)
    said_no = np.array([answer == NO for answer in read], bool)
    right = np.array([answer == keys[id].truth for id, answer in zip(ids, read, strict=True)], bool)
    kinds = np.array([keys[id].dimension for id in ids], str)
    found = {
        "items": np.ones(len(ids)),
        "right": right,
        "no": truths,
        "said no": said_no,
        "rightly no": said_no & truths,
    }
    counts = {f"{kind} {name}": (kinds == kind) * each for kind in KINDS for name, each in found.items()}
    missing = [kind for kind in KINDS if not counts[f"{kind} items"].any()]
    if missing:
        notes.append(f"No answer is about {', '.join(missing)}; the figures of all items are of the others.")
    name = 'exactly "Yes" or "No"' if variant == "official" else LENIENT
    images = tuple(keys[id].image or id for id in ids) if any(key.image for key in keys.values()) else ()
    return Score(
        DISCRIMINATIVE,
        f'{name}; "No" is positive',
        ids,
        {name: count.astype(float) for name, count in counts.items()},
        DISCRIMINATIVE_MEASURES,
        ~right,
        tuple(() for _ in ids),
        (*notes, OF_IMAGES) if images else tuple(notes),
        images,
    )


def put_together(generative: Score, discriminative: Score) -> Score:
    """Both parts as one: all their figures, and AMBER Score = (100 − CHAIR + F1) / 2 of the figures as printed."""
    parts = {"generative": generative, "discriminative": discriminative}
    counts, measures, start, size = {}, [], 0, sum(len(part.ids) for part in parts.values())
    for name, part in parts.items():
        for count, values in part.counts.items():
            counts[f"{name} {count}"] = np.zeros(size)
            counts[f"{name} {count}"][start : start + len(part.ids)] = values
        start += len(part.ids)
        measures += [_of_part(measure, name, part.counts) for measure in part.measures]
    found = {measure.name: measure for measure in measures}

    def amber_score(sums):
        return (100 - _printed(found["chair"].of(sums)) + found["f1"].of(sums)) / 2

    measures = (Measure("amber_score", "AMBER Score", "points", "higher", amber_score), *measures)
    return Score(
        "amber",
        f"generative: {generative.variant}; discriminative: {discriminative.variant}",
        generative.ids + discriminative.ids,
        counts,
        measures,
        np.concatenate([generative.wrong, discriminative.wrong]),
        generative.faults + discriminative.faults,
        generative.notes + discriminative.notes,
        (*map(_IMAGE.format, generative.ids), *discriminative.clusters) if discriminative.clusters else (),
    )


def _share(above, below, start=START):
    return 100 * np.asarray(above, float) / (np.asarray(below, float) + start)


@np.vectorize(otypes=[float])
def _printed(value):
    """As Python rounds: numpy multiplies first, which moves values that lie on a border."""
    return round(float(value), 1)


def _measure(name, title, better, of):
    return Measure(name, title, "percent", better, of)


def _of_answers(above, below):
    """The share of two sums; without an answer it is not defined."""
    return lambda sums: np.where(np.asarray(sums["answers"]) > 0, _share(sums[above], sums[below]), np.nan)


_clean = _of_answers("clean", "answers")
GENERATIVE_MEASURES = (
    _measure("chair", "CHAIR", "lower", _of_answers("hallucinated", "nouns")),
    _measure("cover", "Cover", "higher", _of_answers("covered", "truth")),
    _measure("hal", "Hal", "lower", lambda sums: 100 - _clean(sums)),
    _measure("cog", "Cog", "lower", _of_answers("cognitive", "hallu")),
    Measure("words", "Words per answer", "words", "", lambda sums: share(sums["words"], sums["answers"])),
)


def _four(prefix, title, kinds, start, epsilon=1e-4):
    """Accuracy, precision, recall and F1 of these dimensions together, rounded as AMBER prints them: F1 is of rounded
    values, and `epsilon` stands in its denominator. Without an item of them, none is defined."""

    def ratio(above, below):
        def of(sums):
            above_, below_, items = (
                sum(np.asarray(sums[f"{kind} {name}"], float) for kind in kinds) for name in (above, below, "items")
            )
            return _printed(np.where(items > 0, _share(above_, below_, start), np.nan))

        return of

    precision, recall = ratio("rightly no", "said no"), ratio("rightly no", "no")

    def f1(sums):
        p, r = precision(sums) / 100, recall(sums) / 100
        return _printed(2 * p * r / (p + r + epsilon) * 100)

    named = ("accuracy", "Accuracy", ratio("right", "items")), ("precision", "Precision", precision)
    named += ("recall", "Recall", recall), ("f1", "F1", f1)
    return [_measure(prefix + name, title + called, "higher", of) for name, called, of in named]


DISCRIMINATIVE_MEASURES = (
    *_four("", "", KINDS, START),
    *_four("existence_", "Existence: ", ("existence",), START, 1e-3),
    *_four("attribute_", "Attribute: ", ATTRIBUTE, START * len(ATTRIBUTE)),
    *(one for kind in (*ATTRIBUTE, "relation") for one in _four(f"{kind}_", f"{kind.capitalize()}: ", (kind,), START)),
)


def _of_part(measure, part, counts):
    return Measure(
        measure.name,
        measure.title,
        measure.unit,
        measure.better,
        lambda sums: measure.of({name: sums[f"{part} {name}"] for name in counts}),
        measure.decimals,
    )


def _search_order(slots, related):
    """Slot of each word, in the order in which AMBER looks for it; the first of equal words has it."""
    order = {}
    for slot, word in enumerate(slots):
        for other in related.get(word, ()):
            order.setdefault(other, slot)
    for slot, word in enumerate(slots):
        order.setdefault(word, slot)
    return order


def _first_alike(noun, order, alike):
    return next(([(word, slot)] for word, slot in order.items() if alike(noun, word)), [])


def _likeness(vocabulary, variant, vectors, notes):
    """Whether two words are alike, as a function (None: only if the same), and the name of that."""
    if variant == EXACT:
        return None, "exact (no similarity of words; not AMBER's own figures)"
    if variant != SIMILAR:
        raise _no_variant(variant, (EXACT, SIMILAR))
    if vectors is None:
        raise InvalidData(
            'The variant "similar" needs word vectors, and no file of them was named.',
            "AMBER takes words as alike when the cosine of their vectors is above 0.8.",
            'Name a file in the text format of GloVe or word2vec, or take the variant "exact".',
        )
    known = read_vectors(vectors, vocabulary)
    rows, cosines = similarities(known)
    unknown = len(vocabulary) - len(known)
    if unknown:
        notes.append(
            f"{unknown:,} of the vocabulary's {len(vocabulary):,} words have no vector: they are like themselves only."
        )

    def alike(one, other):
        return one == other or (one in rows and other in rows and cosines[rows[one], rows[other]] > THRESHOLD)

    return (
        alike,
        f"similar (cosine above {THRESHOLD} by {vectors.name}, sha256 {sha256_of(vectors)}; not AMBER's own figures)",
    )


def _no_variant(variant, known):
    return InvalidData(f"The variant is {variant!r:.80}.", f"There are {', '.join(known)}.", "Choose one of them.")


def _discriminative_rows(folder):
    return (row for path in _DISCRIMINATIVE_QUERIES for row in _queries(folder, path))


def _item(row, group=""):
    return Item(str(row["id"]), row["query"], f"image/{row['image']}", group)


def _queries(folder, path):
    return _require(folder / path, _rows(folder, path), query=_is_text, image=_is_text)


def _annotations(folder, *types, **columns):
    rows = _require(folder / "annotations.json", _rows(folder, "annotations.json"), type=_is_text)
    for place, row in enumerate(rows, 1):
        if row["id"] != place:
            raise _broken(folder / "annotations.json", f"its entry {place:,} has the id {row['id']!r:.40}")
    return _require(folder / "annotations.json", [row for row in rows if row["type"] in types], **columns)


def _require(path, rows, **columns):
    for row in rows:
        if missing := [column for column in columns if column not in row]:
            raise _broken(path, f"the entry with the id {row['id']} has no {' and no '.join(missing)}")
        if wrong := next((column for column, fits in columns.items() if not fits(row[column])), None):
            raise _broken(path, f"the {wrong} of the entry with the id {row['id']} is {row[wrong]!r:.40}")
    return rows


def _rows(folder, name):
    rows = _read(folder, name, json.loads)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("id"), int) for row in rows):
        raise _broken(folder / name, "it is no list of entries with an id")
    return rows


def _is_text(value):
    return isinstance(value, str)


def _are_words(value):
    return isinstance(value, list) and all(map(_is_text, value))


def _read(folder, name, parse=str):
    try:
        return parse((folder / name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise _broken(folder / name, str(error)) from error


def _broken(path, why):
    return InvalidData(f"{path.name} is not AMBER's.", f"In {path}, {why}.", f"Fetch it again from {_SOURCE}.")
