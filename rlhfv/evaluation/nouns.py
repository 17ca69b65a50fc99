"""Which nouns of a fixed vocabulary a text names, and where, without a tagger or a dictionary.

The field's scripts tag parts of speech and look lemmas up in WordNet, both of which need downloads. Here a word counts
when it or its singular is in the vocabulary. What is spelt like a noun and mostly is none (the "can" of "can be seen",
"they board the bus") is told by its neighbours.
"""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from rlhfv.evaluation.coco import singular

METHOD = "words of its vocabulary with the studio's own singulars and a guard against verbs, in place of tagged lemmas"

_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_VERBS = frozenset(
    "board brush drawing drink duck file fish leave lock note pack paddle painting plug ring skate ski sled sound "
    "spray support switch tie watch".split()
)
_SUBJECTS = frozenset("I i he she it they we you who which can could may might will would must should".split())
_OBJECTS = frozenset("a an the his her him its their them this these those as over attention".split())
_NEAR = frozenset("next close closer adjacent attached connected parallel similar".split())
_ARTICLES = frozenset("a an the A An The another each every one".split())
_CANS = frozenset("aluminum aluminium beer cola garbage paint recycling rubbish soda spray tin trash watering".split())


@dataclass(frozen=True)
class Noun:
    """A mention: the word as the vocabulary has it, and the half-open code point range of what stands in the text."""

    word: str
    start: int
    end: int


def find_nouns(text: str, vocabulary: Collection[str]) -> list[Noun]:
    """Every mention in order, repeats too. Case counts: "Dog" is not "dog"."""
    words = [
        match
        for match in _WORD.finditer(text)
        if not unicodedata.combining(text[match.end() : match.end() + 1] or " ")
    ]
    named = ((place, match, lemma(match.group(), vocabulary)) for place, match in enumerate(words))
    return [
        Noun(word, match.start(), match.end())
        for place, match, word in named
        if word and not _is_no_noun(text, words, place)
    ]


def lemma(word: str, vocabulary: Collection[str]) -> str:
    """The word itself or else its singular, whichever is in the vocabulary; "" where neither is."""
    forms = [word, singular(word)]
    # The vocabulary decides, so that a second guess does no harm: "neckties", "bookshelves".
    forms += [word[:-1]] * word.endswith("s") + [word[:-3] + "f"] * word.endswith("ves")
    return next((form for form in forms if form in vocabulary), "")


def _is_no_noun(text: str, words: list[re.Match], place: int) -> bool:
    """Whether the words beside it, with nothing but blanks between, make it a verb, a modal or an adjective."""
    word, before, after = words[place].group(), _joined(text, words, place - 1), _joined(text, words, place, 1)
    if word == "hot":
        return after in ("dog", "dogs")
    if word == "can":
        return bool(after) and before not in _ARTICLES | _CANS
    if word == "sailing":
        return bool(before) and before not in _ARTICLES
    if before in _ARTICLES or (word not in _VERBS and singular(word) not in _VERBS):
        return False
    infinitive = before == "to" and _joined(text, words, place - 2) not in _NEAR
    return infinitive or before in _SUBJECTS or after in _OBJECTS


def _joined(text: str, words: list[re.Match], left: int, wanted: int = 0) -> str:
    """The left (or, for `wanted` 1, the right) one of two words that only blanks part; "" where they are parted."""
    if left < 0 or left + 1 >= len(words):
        return ""
    between = text[words[left].end() : words[left + 1].start()]
    return words[left + wanted].group() if between.strip(" ") == "" else ""
