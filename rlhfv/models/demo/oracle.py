"""Corrects an answer about a scene as a careful person would, from the scene's truth.

A thing that is not there becomes one that is and was not mentioned yet, else its clause goes; numbers and places are
mended. Sentences in the demo model's own wording are edited word by word; freely worded ones are mended where
they stand when that is enough, else said anew. The result is read again: what is returned leaves no false claim.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from rlhfv.corrections.edits import CorrectedAnswer, Edit, from_texts
from rlhfv.models.demo.language import (
    PLACES,
    answer_at,
    answer_how_many,
    answer_list,
    answer_present,
    answer_where,
    capital,
    describe,
    join,
    say,
    say_more,
)
from rlhfv.models.demo.reading import (
    Finding,
    Mention,
    Question,
    find_mentions,
    find_places,
    read_question,
    review,
    split_sentences,
)
from rlhfv.models.demo.scenes import PlacedObject, Scene

_PLACE = "|".join(re.escape(place) for place in PLACES)
_TAIL = r"(?P<tail>, with (?P<target>[a-z ]+?) nearby)?\.$"
_WORDINGS = (
    re.compile(rf"^(?P<place>{_PLACE}) (?P<be>is|are) (?P<things>[a-z ]+?){_TAIL}", re.IGNORECASE),
    re.compile(rf"^There (?P<be>is|are) (?P<things>[a-z ]+?) (?P<place>{_PLACE}){_TAIL}", re.IGNORECASE),
    re.compile(rf"^(?P<things>[a-z ]+?) (?P<be>is|are) (?P<place>{_PLACE}){_TAIL}", re.IGNORECASE),
)


@dataclass
class _Sentence:
    """A sentence in the model's own wording: spans within the answer, and what its two things are."""

    start: int
    end: int
    fields: dict[str, tuple[int, int]]
    main: Mention
    target: Mention | None
    main_object: PlacedObject | None = None  # what the main thing truly is, once it is known
    target_object: PlacedObject | None = None


def annotate(scene: Scene, question: str, answer: str) -> tuple[Edit, ...]:
    """Minimal typed edits after which `review` finds nothing false; empty when nothing is. Offsets as in Edit."""
    false = [finding for finding in review(scene, question, answer) if not finding.is_true]
    if not false:
        return ()
    asked = read_question(question)
    truth = _short_truth(scene, asked, answer)
    edits = _differences(answer, truth, false) if truth else _mend_description(scene, question, answer)
    if _leaves_truth(scene, question, answer, edits):
        return edits
    edits = _restate_sentences(scene, question, answer)
    if _leaves_truth(scene, question, answer, edits):
        return edits
    return (Edit(0, len(answer), truth or describe(scene, random.Random(0), habits=False), false[0].kind),)


def _leaves_truth(scene: Scene, question: str, answer: str, edits: tuple[Edit, ...]) -> bool:
    if not edits:
        return False
    corrected = CorrectedAnswer(answer, edits).corrected
    return bool(corrected.strip()) and all(finding.is_true for finding in review(scene, question, corrected))


# Short answers


def _short_truth(scene: Scene, asked: Question, answer: str) -> str:
    """What the answer to a short question should have been; "" for descriptions."""
    if asked.kind == "present":
        return answer_present(scene, asked.name)
    if asked.kind == "how many":
        return answer_how_many(scene, asked.name)
    if asked.kind == "where":
        return answer_where(scene, asked.name)
    if asked.kind == "scene":
        return f"This is a {scene.scene_type}."
    if asked.kind == "at":
        return answer_at(scene, _own_cell(asked.cells))
    if asked.kind == "list":
        return _mended_list(scene, answer)
    return ""


def _mended_list(scene: Scene, answer: str) -> str:
    """The list with its order kept: absent things replaced by those left out, then dropped; numbers set right."""
    totals = scene.counts()
    said = [mention.name for mention in find_mentions(answer) if not mention.negated]
    left_out = [name for name in totals if name not in said]
    names: list[str] = []
    for name in said:
        if name not in totals and left_out:
            name = left_out.pop(0)
        if name in totals and name not in names:
            names.append(name)
    return f"I can see {join([say(name, totals[name]) for name in names])}." if names else answer_list(scene)


def _differences(answer: str, truth: str, false: list[Finding]) -> tuple[Edit, ...]:
    """Word-wise edits from answer to truth, each with the kind of the false claim it touches."""
    edits = []
    for edit in from_texts(answer, truth):
        touched = [one for one in false if one.start <= edit.end and edit.start <= one.end]
        edits.append(Edit(edit.start, edit.end, edit.replacement, (touched or false)[0].kind))
    return tuple(edits)


# Descriptions in the model's own wording


def _mend_description(scene: Scene, question: str, answer: str) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    sentences = _read_sentences(answer)
    spans = {(one.start, one.end) for one in sentences}
    left = list(scene.objects)
    for sentence in sentences:
        _match_truth(sentence, left)
    named = {one.name for sentence in sentences for one in (sentence.main_object, sentence.target_object) if one}
    for start, end in split_sentences(answer):
        if (start, end) not in spans:
            named |= {
                one.name for one in find_mentions(answer[start:end]) if scene.cells(one.name) and not one.negated
            }
    spare = [placed for placed in left if placed.name not in named]
    said: set[str] = set()
    in_order = {(one.start, one.end): one for one in sentences}
    for start, end in split_sentences(answer):
        if (start, end) in in_order:
            edits += _mend_sentence(answer, in_order[start, end], spare, said)
        else:
            edits += _mend_freely(scene, question, answer, start, end, spare)
            said |= {one.name for one in find_mentions(answer[start:end]) if not one.negated}
    return _tidy(answer, edits)


def _read_sentences(answer: str) -> list[_Sentence]:
    sentences = []
    for start, end in split_sentences(answer):
        for wording in _WORDINGS:
            match = wording.match(answer[start:end])
            if not match:
                continue
            fields = {
                key: (start + match.start(key), start + match.end(key))
                for key in ("place", "be", "things", "tail", "target")
                if match.group(key)
            }
            mentions = find_mentions(answer[start:end])
            wanted = 2 if "target" in fields else 1
            if len(mentions) != wanted or len(find_places(answer[start:end])) != 1:
                continue
            for mention in mentions:
                mention.start, mention.end = mention.start + start, mention.end + start
            main, target = mentions[0], mentions[1] if wanted == 2 else None
            if main.count is None or (main.start, main.end) != fields["things"]:
                continue
            if target and (target.count is None or (target.start, target.end) != fields["target"]):
                continue
            sentences.append(_Sentence(start, end, fields, main, target))
            break
    return sentences


def _match_truth(sentence: _Sentence, left: list[PlacedObject]) -> None:
    """Decide which placed objects the sentence speaks of, best fit first, and take them off the list."""
    cells = frozenset().union(*(place.cells for place in sentence.main.places))

    def fit(placed: PlacedObject, mention: Mention) -> tuple:
        return (placed.cell != _own_cell(cells), placed.cell not in cells, placed.count != mention.count)

    own = [placed for placed in left if placed.name == sentence.main.name]
    if own:
        sentence.main_object = min(own, key=lambda placed: fit(placed, sentence.main))
        left.remove(sentence.main_object)
    if sentence.target:
        own = [placed for placed in left if placed.name == sentence.target.name]
        if own:
            sentence.target_object = min(own, key=lambda placed: placed.count != sentence.target.count)
            left.remove(sentence.target_object)


def _mend_sentence(answer: str, sentence: _Sentence, spare: list[PlacedObject], said: set[str]) -> list[Edit]:
    """`said` holds what the corrected text has named so far: it decides between "a cup" and "another cup"."""
    main, target = sentence.main_object, sentence.target_object
    if main is None and spare:
        main = spare.pop(0)
    if sentence.target and target is None and main is not None and spare:
        target = spare.pop(0)
    if main is None and target is not None:
        main, target = target, None  # "a couch …, with a cup nearby" without a couch: the cup takes the sentence
    if main is None:
        return [Edit(*_with_space(answer, sentence.start, sentence.end), "", "object")]
    edits = _mend_things(answer, sentence, main, said) + _mend_place(answer, sentence, main)
    said.add(main.name)
    if sentence.target is None:
        return edits
    if target is None:
        return [*edits, Edit(*sentence.fields["tail"], "", "object")]
    kind = "object" if target.name != sentence.target.name else "number"
    words = (say_more if target.name in said else say)(target.name, target.count)
    said.add(target.name)
    return edits + _trimmed(answer, *sentence.fields["target"], words, kind)


def _mend_things(answer: str, sentence: _Sentence, main: PlacedObject, said: set[str]) -> list[Edit]:
    fields = sentence.fields
    things = (say_more if main.name in said else say)(main.name, main.count)
    be = "is" if main.count == 1 else "are"
    start, end = min(fields["be"][0], fields["things"][0]), max(fields["be"][1], fields["things"][1])
    new = f"{be} {things}" if fields["be"][0] == start else f"{things} {be}"
    new = capital(new) if answer[start].isupper() else new
    return _trimmed(answer, start, end, new, "object" if main.name != sentence.main.name else "number")


def _mend_place(answer: str, sentence: _Sentence, main: PlacedObject) -> list[Edit]:
    other = main.name != sentence.main.name
    cells = frozenset().union(*(place.cells for place in sentence.main.places))
    if main.cell == _own_cell(cells) or (main.cell in cells and not other):
        return []
    start, end = sentence.fields["place"]
    new = capital(PLACES[main.cell]) if answer[start].isupper() else PLACES[main.cell]
    return _trimmed(answer, start, end, new, "object" if other else "position")


def _own_cell(cells: frozenset[int]) -> int:
    """The one cell that the model means: "on the left" is the middle of the left column."""
    return sorted(cells)[1] if len(cells) == 3 else min(cells)


def _trimmed(answer: str, start: int, end: int, new: str, kind: str) -> list[Edit]:
    """One edit of the words that differ: common first and last words stay."""
    old, fresh = answer[start:end].split(" "), new.split(" ")
    first = 0
    while first < min(len(old), len(fresh)) and old[first] == fresh[first]:
        first += 1
    last = 0
    while last < min(len(old), len(fresh)) - first and old[-1 - last] == fresh[-1 - last]:
        last += 1
    if first == len(old) == len(fresh):
        return []
    if first + last in (len(old), len(fresh)):  # words only come or go: keep one neighbour, so that spaces stay right
        if first:
            first -= 1
        else:
            last -= 1
    begin = start + sum(len(word) + 1 for word in old[:first])
    finish = end - sum(len(word) + 1 for word in old[len(old) - last :])
    return [Edit(begin, finish, " ".join(fresh[first : len(fresh) - last]), kind)]


def _with_space(answer: str, start: int, end: int) -> tuple[int, int]:
    """A sentence's span with one of the spaces around it, so that deleting it leaves no double space."""
    if start > 0 and answer[start - 1].isspace():
        return start - 1, end
    if end < len(answer) and answer[end].isspace():
        return start, end + 1
    return start, end


# Freely worded sentences


def _mend_freely(
    scene: Scene, question: str, answer: str, start: int, end: int, spare: list[PlacedObject]
) -> list[Edit]:
    """Mend numbers, places, scene type and exchange absent things in place; else say the sentence anew."""
    text = answer[start:end]
    false = [one for one in review(scene, question, text) if not one.is_true]
    if not false:
        return []
    edits: list[Edit] = []
    taken = list(spare)
    mentions = {(one.start, one.end): one for one in find_mentions(text)}
    for one in false:
        mention = next((each for each in mentions.values() if each.start <= one.start <= each.end), None)
        if one.kind == "other":
            edits += _trimmed(answer, start + one.start, start + one.end, scene.scene_type, "other")
        elif one.kind == "number" and mention and len(scene.cells(one.name)) == 1:
            count = scene.counts()[one.name]
            edits += _trimmed(
                answer, start + mention.start, start + mention.end, _cased(text, mention, one.name, count), "number"
            )
        elif one.kind == "position" and len(scene.cells(one.name)) == 1:
            place = PLACES[scene.cells(one.name)[0]]
            place = capital(place) if text[one.start].isupper() else place
            edits += _trimmed(answer, start + one.start, start + one.end, place, "position")
        elif one.kind == "object" and mention and mention.count == 1 and not mention.places and taken:
            new = next((each for each in taken if each.count == 1), None)
            if new:
                taken.remove(new)
                words = _cased(text, mention, new.name, 1)
                edits += _trimmed(answer, start + mention.start, start + mention.end, words, "object")
    tidy = _tidy(text, [Edit(one.start - start, one.end - start, one.replacement, one.kind) for one in edits])
    if _leaves_truth(scene, question, text, tidy):
        spare[:] = taken
        return [Edit(one.start + start, one.end + start, one.replacement, one.kind) for one in tidy]
    return _restated(scene, answer, start, end, false)


def _cased(text: str, mention: Mention, name: str, count: int) -> str:
    words = say(name, count)
    return capital(words) if text[mention.start].isupper() else words


def _restate_sentences(scene: Scene, question: str, answer: str) -> tuple[Edit, ...]:
    edits: list[Edit] = []
    for start, end in split_sentences(answer):
        false = [one for one in review(scene, question, answer[start:end]) if not one.is_true]
        if false:
            edits += _restated(scene, answer, start, end, false)
    return _tidy(answer, edits)


def _restated(scene: Scene, answer: str, start: int, end: int, false: list[Finding]) -> list[Edit]:
    """The sentence as one that names only what is there of what it named; deleted when that is nothing."""
    totals = scene.counts()
    names = dict.fromkeys(one.name for one in find_mentions(answer[start:end]) if one.name in totals)
    if not names:
        return [Edit(*_with_space(answer, start, end), "", false[0].kind)]
    be = "is" if totals[next(iter(names))] == 1 else "are"
    new = f"There {be} {join([say(name, totals[name]) for name in names])}."
    return _trimmed(answer, start, end, new, false[0].kind)


def _tidy(answer: str, edits: list[Edit]) -> tuple[Edit, ...]:
    """Sorted, without no-ops, deletions that touch joined into one; an overlap keeps the earlier edit."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        if answer[edit.start : edit.end] == edit.replacement:
            continue
        if kept and edit.start < kept[-1].end:
            continue
        if kept and edit.start == kept[-1].end and not edit.replacement and not kept[-1].replacement:
            kept[-1] = Edit(kept[-1].start, edit.end, "", kept[-1].kind)
            continue
        if kept and edit.start == edit.end == kept[-1].start == kept[-1].end:
            continue
        kept.append(edit)
    return tuple(kept)
