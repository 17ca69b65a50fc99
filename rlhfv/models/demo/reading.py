"""Reads English about a scene: which things an answer names, how many, where, and whether that is true."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise

from rlhfv.models.demo.language import NUMBERS
from rlhfv.models.demo.objects import CLASSES
from rlhfv.models.demo.scenes import SCENE_TYPES, Scene


@dataclass(frozen=True)
class Place:
    """A place phrase: its span and the cells it may mean ("on the left" is the whole left column)."""

    start: int
    end: int
    cells: frozenset[int]


@dataclass
class Mention:
    """A thing named in a text. Spans are code points, half-open.

    `start` includes number or article, `noun_start` is where the name itself begins. `count` is None when no number
    is claimed ("cups"); `negated` when the text says it is not there.
    """

    start: int
    noun_start: int
    end: int
    name: str
    count: int | None
    negated: bool
    places: list[Place] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """One claim of an answer and whether it is true. `name` is the thing, or "" for a claim about the scene."""

    start: int
    end: int
    kind: str
    is_true: bool
    name: str = ""


@dataclass(frozen=True)
class Question:
    """What a question asks: kind is describe, list, present, how many, where, at, scene or other."""

    kind: str
    name: str = ""
    cells: frozenset[int] = frozenset()


def _forms() -> dict[str, str]:
    forms: dict[str, str] = {"men": "person", "women": "person", "persons": "person", "mice": "computer mouse"}
    for one in CLASSES:
        for form in (one.name, one.plural):
            forms[form] = one.name
        for form in one.synonyms:
            forms[form] = one.name
            forms[form[:-1] + "ies" if form.endswith("y") and form[-2] not in "aeiou" else form + "s"] = one.name
    return forms


FORMS = _forms()
_LONGEST_FIRST = sorted(FORMS, key=len, reverse=True)
_NAME = re.compile(r"\b(" + "|".join(re.escape(form) for form in _LONGEST_FIRST) + r")\b", re.IGNORECASE)
_ADJECTIVE = (
    "small|large|big|little|tiny|tall|nice|pretty|old|young|new|red|blue|green|yellow|white|black|brown|pink|purple|"
    "grey|gray|orange|colourful|colorful|wooden|bright|dark|single|beautiful|cute"
)
_NUMBER = re.compile(
    r"\b(?P<number>no|not any|any|an|a|the|another|one|two|three|four|five|six|seven|eight|nine|\d{1,3}|a pair of|"
    r"a couple of|several|some|many|a few|both)(?P<more> more| other)?"
    rf"(?: (?:{_ADJECTIVE}))*\s+$",
    re.IGNORECASE,
)
_NUMBER_VALUES = {word: value for value, word in enumerate(NUMBERS)} | {
    "a": 1,
    "an": 1,
    "another": 1,
    "one": 1,
    "a pair of": 2,
    "a couple of": 2,
    "both": 2,
    "not any": 0,
}
_NEGATION = re.compile(r"\b(?:no|not|cannot|never|without|neither|nor)\b|n't\b", re.IGNORECASE)
_CLAUSE_START = re.compile(r"[.!?;:\n]|, |\bbut\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?\n]*(?:[.!?]+|\n|$)")

_ROWS = {"top": {0, 1, 2}, "upper": {0, 1, 2}, "bottom": {6, 7, 8}, "lower": {6, 7, 8}}
_COLUMNS = {"left": {0, 3, 6}, "right": {2, 5, 8}}
_CENTRES = ("middle", "center", "centre")
_PLACE = re.compile(
    r"\b(?:in|on|at|to|near|towards|toward)\s+the\s+(?:far\s+)?"
    r"(?P<first>top|upper|bottom|lower|middle|center|centre|left|right)"
    r"(?:[- ](?P<second>top|bottom|left|right|middle|center|centre))?(?:[- ]hand)?"
    r"(?:\s+(?:corner|side|part|half|edge|area|row|column))*"
    r"(?:\s+of\s+(?:the|this)\s+(?:image|picture|photo|scene|room|kitchen|bathroom|living room|street))?\b",
    re.IGNORECASE,
)
_OF_SOMETHING = re.compile(r"\s+of\s+(?:the|a|an|it)\b", re.IGNORECASE)
_ASKS_PRESENCE = re.compile(
    r"\b(?:is|are) (?:there|you sure|it true)|\b(?:do|can|did) you (?:really )?see\b|\bdoes\b"
    r"|^is (?:a|an|the) |\bany\b"
)
# "No dog is here." is not the answer "no".
_POLARITY = re.compile(rf"\W*(yes|no)\b(?!\s+\w*\s*{_NAME.pattern})", re.IGNORECASE)
_SCENE_TYPE = re.compile(r"\b(" + "|".join(SCENE_TYPES) + r")\b", re.IGNORECASE)


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences without the space around them."""
    spans = []
    for match in _SENTENCE.finditer(text):
        inner = match.group()
        stripped = inner.strip()
        if stripped:
            start = match.start() + len(inner) - len(inner.lstrip())
            spans.append((start, start + len(stripped)))
    return spans


def find_places(text: str) -> list[Place]:
    """Place phrases that name a part of the picture; "on the left of the cat" is none."""
    places = []
    for match in _PLACE.finditer(text):
        if _OF_SOMETHING.match(text, match.end()):
            continue
        words = [word.lower() for word in match.group("first", "second") if word]
        places.append(Place(match.start(), match.end(), _cells_of(words, match.group().lower())))
    return places


def _cells_of(words: list[str], phrase: str) -> frozenset[int]:
    cells = set(range(9))
    sided = [word for word in words if word not in _CENTRES]
    for word in sided:
        cells &= _ROWS.get(word) or _COLUMNS[word]
    if len(words) > len(sided):
        if not sided:
            cells = {3, 4, 5} if " row" in phrase else {1, 4, 7} if " column" in phrase else {4}
        elif sided[0] in _ROWS:
            cells &= {1, 4, 7}
        else:
            cells &= {3, 4, 5}
    return frozenset(cells)


def find_mentions(text: str) -> list[Mention]:
    """All things named in a text, in order, with the numbers and places claimed for them."""
    mentions: list[Mention] = []
    for start, end in split_sentences(text):
        found = _mentions_of_sentence(text, start, end)
        places = [place for place in find_places(text[:end]) if place.start >= start]
        _attach_places(text, found, places)
        mentions += found
    return mentions


def _mentions_of_sentence(text: str, start: int, end: int) -> list[Mention]:
    found = []
    for match in _NAME.finditer(text, start, end):
        if match.group().lower() == "orange" and _is_colour(text, match.start(), match.end(), start, end):
            continue
        before = text[start : match.start()]
        number = _NUMBER.search(before)
        noun_start = match.start()
        begin = start + number.start("number") if number else noun_start
        count = None
        negated = False
        if number:
            word = " ".join(number.group("number").lower().split())
            count = int(word) if word.isdecimal() else _NUMBER_VALUES.get(word)
            if count == 0:
                count, negated = None, True
        clause = text[start:begin]
        borders = [border.end() for border in _CLAUSE_START.finditer(clause)]
        if _NEGATION.search(clause[borders[-1] :] if borders else clause):
            negated, count = True, None
        if found and found[-1].negated and re.fullmatch(r"(?:,| or|, or)\s+", text[found[-1].end : begin]):
            negated, count = True, None
        found.append(Mention(begin, noun_start, match.end(), FORMS[match.group().lower()], count, negated))
    return found


def _is_colour(text: str, start: int, end: int, first: int, last: int) -> bool:
    following = re.match(r"\s+(\w+)", text[end:last])
    if following and _NAME.match(text, end + following.start(1)):
        return True
    return bool(re.search(r"\b(?:is|are|it's|coloured|colored)\s+$", text[first:start], re.IGNORECASE))


def _attach_places(text: str, mentions: list[Mention], places: list[Place]) -> None:
    """A place belongs to the thing before it; when that one is placed already or there is none, to the next."""
    for index, place in enumerate(places):
        before = [one for one in mentions if one.end <= place.start]
        after = [one for one in mentions if one.start >= place.end]
        previous = places[index - 1] if index else None
        joined = previous and re.fullmatch(r"(?:,| and|, and| or)\s+", text[previous.end : place.start])
        owner = before[-1] if before else None
        if owner and (not owner.places or (joined and owner.places[-1] is previous)):
            owner.places.append(place)
            continue
        if after and not after[0].places:
            after[0].places.append(place)
    for first, second in reversed(list(pairwise(mentions))):
        # "a cat and a dog on the left": one place for both. A place already before the first one stays its own.
        gap = text[first.end : second.start]
        if second.places and not first.places and re.fullmatch(r"(?:,| and|, and)\s+", gap):
            first.places = list(second.places)
    for first, second in pairwise(mentions):
        gap = text[first.end : second.start]
        placed_before = first.places and first.places[-1].end <= first.start
        if placed_before and not second.places and re.fullmatch(r"(?:,| and|, and)\s+", gap):
            second.places = list(first.places)


def read_question(question: str) -> Question:
    """What is asked. Anything unknown that names no thing reads as a request for a description."""
    text = question.lower()
    mentions = find_mentions(text)
    name = mentions[0].name if mentions else ""
    places = find_places(text)
    if re.search(r"\b(?:room|kind of place|kind of scene|what scene|place is this|taken)\b", text):
        return Question("scene")
    if re.search(r"\bhow many\b|\bcount\b", text):
        return Question("how many", name) if name else Question("other")
    if re.search(r"\b(?:list|name all|name the|which (?:objects|things)|what (?:objects|things))\b", text):
        return Question("list")
    if re.search(r"\bwhere\b", text):
        return Question("where", name) if name else Question("other")
    if name and _ASKS_PRESENCE.search(text):
        return Question("present", name)
    if places and not name and re.search(r"\bwhat\b|\bwhich\b", text):
        return Question("at", cells=places[0].cells)
    return Question("other", name) if name else Question("describe")


def review(scene: Scene, question: str, answer: str) -> list[Finding]:
    """Every claim of the answer with its truth, in order. Claims the truth does not cover are left out."""
    asked = read_question(question)
    totals = scene.counts()
    strict = asked.kind in ("how many", "list")
    findings = []
    for match in _SCENE_TYPE.finditer(answer):
        findings.append(Finding(*match.span(), "other", match.group().lower() == scene.scene_type))
    for mention in find_mentions(answer):
        findings += _review_mention(scene, mention, strict)
    polarity = _POLARITY.match(answer)
    if asked.kind == "present" and polarity:
        truth = (polarity.group(1).lower() == "yes") == (asked.name in totals)
        findings.append(Finding(*polarity.span(1), "object", truth, asked.name))
    if asked.kind == "how many" and not find_mentions(answer):
        number = re.search(r"\b(" + "|".join(NUMBERS) + r"|none|\d{1,3})\b", answer, re.IGNORECASE)
        if number:
            word = number.group().lower()
            value = int(word) if word.isdecimal() else _NUMBER_VALUES.get(word, 0)
            findings.append(Finding(*number.span(), "number", value == totals.get(asked.name, 0), asked.name))
    nothing = re.search(r"\bnothing\b", answer, re.IGNORECASE)
    if nothing:
        cells = [place.cells for place in find_places(answer)] or [asked.cells]
        taken = {placed.cell for placed in scene.objects}
        # "Nothing on the left" is true of the cell itself: its column's other cells have names of their own.
        exact = {cell for one in cells for cell in (one if len(one) < 3 else {sorted(one)[1]})}
        if exact:
            findings.append(Finding(*nothing.span(), "position", not exact & taken))
    return sorted(findings, key=lambda one: (one.start, one.end))


def _review_mention(scene: Scene, mention: Mention, strict: bool) -> list[Finding]:
    cells = scene.cells(mention.name)
    if mention.negated:
        asked = frozenset().union(*(place.cells for place in mention.places)) if mention.places else None
        there = bool(set(cells) & asked) if asked is not None else bool(cells)
        return [Finding(mention.start, mention.end, "object", not there, mention.name)]
    findings = [Finding(mention.start, mention.end, "object", bool(cells), mention.name)]
    if not cells:
        return findings
    right_places = all(place.cells & set(cells) for place in mention.places)
    for place in mention.places:
        fits = bool(place.cells & set(cells))
        findings.append(Finding(place.start, place.end, "position", fits, mention.name))
    if mention.count is not None:
        here = set(cells)
        if mention.places and right_places:
            here &= frozenset().union(*(place.cells for place in mention.places))
        each = [placed.count for placed in scene.objects if placed.name == mention.name and placed.cell in here]
        allowed = {sum(each)} if strict and not mention.places else {sum(each), *each}
        fits = mention.count in allowed
        findings.append(Finding(mention.start, mention.noun_start, "number", fits, mention.name))
    return findings
