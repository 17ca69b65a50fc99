"""Suspect words of an answer, from how likely a few readers find it: no second model, no list of things.

Three sources, each from the same forward pass. *Parting*: how much more likely the baseline finds a word than the
aligned voice. *Unlikely*: how little the voice that spoke expected it. *Blind*: whether the word is as likely when the
picture is grey, so that it rests on what usually goes with what; to score against a distorted picture is the idea of
visual contrastive decoding (Leng et al., 2023, arXiv:2311.16922).

Whether a thing is named at all is mostly decided by the function words before it: after "a fork, with a" a knife is
sure. So what speaks against the words that lead into a phrase counts for every content word of the phrase.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, tanh
from pathlib import Path

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.diff import token_kind, words
from rlhfv.corrections.edits import infer_kind
from rlhfv.corrections.hints import SOURCES, Hint
from rlhfv.models.engine import Reader, Reading
from rlhfv.models.local import LocalModel

FUNCTION_WORDS = frozenset(
    "a an the this that these those there here it its he him his she her they them their i me my you your we us our "
    "who whom whose which what where when while how why and or but nor so yet if then than as because although though "
    "of to with without for from by at in on into onto about is are was were be been being am do does did done have "
    "has had having will would can could may might shall should must not no yes also just only very too quite rather "
    "some any each every either neither all such own same other another more most much there's it's isn't aren't "
    "wasn't weren't doesn't don't didn't can't cannot i'm".split()
)
"""Words that say nothing of a picture by themselves."""
LINK = "of"
"""Joins a noun with its complement, so that "a bar of soap" stays one phrase."""

WEIGHTS = {
    SOURCES: (4.44, 2.50, 0.92, -4.27),
    ("parting", "unlikely"): (4.52, 2.62, -4.32),
    ("unlikely", "blind"): (3.98, 3.13, -2.48),
    ("unlikely",): (4.34, -2.56),
}
"""The weight of each source there is, and the intercept, as `python -m benchmarks.hints` fits them on the demo
model's validation scenes."""
THRESHOLDS = {SOURCES: 0.57, ("parting", "unlikely"): 0.58, ("unlikely", "blind"): 0.11, ("unlikely",): 0.11}
"""The score from which on a word is a hint, from the same command: the lowest with nearly the best F1."""
WORDS_A_HINT = 6
"""An answer gets at most one hint for so many content words, the most suspect first: where another model's scores lie
higher, marks stay rare enough to be read."""
FEWEST = 3


@dataclass(frozen=True)
class Word:
    """A content word (of scripts without blanks: the characters of a token): half-open code points of the answer, and
    its tokens, with those of the words that lead into its phrase.
    """

    start: int
    end: int
    tokens: tuple[int, ...]


def read_answer(
    model: LocalModel,
    prompt: Prompt,
    answer: str,
    speaker: str | None,
    aligned: str | None,
    image_path: Callable[[str], Path] = Path,
) -> tuple[Reading, dict[str, int]]:
    """An answer as its speaker, the others and the speaker without the picture read it, in one pass where they mix.

    `speaker` and `aligned` are voices as in `Row`; `aligned` is None where there is no adapter. The second value says
    which row of the reading is whose: "speaker", and where there are such "baseline", "aligned" and "blind".
    """
    readers = {"speaker": Reader(speaker)}
    if aligned is not None:
        readers |= {"baseline": Reader(None), "aligned": Reader(aligned)}
    if prompt.all_images:
        readers["blind"] = Reader(speaker, blind=True)
    different = list(dict.fromkeys(readers.values()))
    reading = model.read(prompt, answer, different, image_path)
    return reading, {name: different.index(reader) for name, reader in readers.items()}


def find_hints(answer: str, reading: Reading, rows: dict[str, int]) -> list[Hint]:
    """Hints in the order of the text. `rows` is what `read_answer` returns beside the reading."""
    content = find_words(answer, reading.offsets)
    evidence = weigh_words(content, reading, rows)
    sources = tuple(evidence)
    *weights, intercept = WEIGHTS[sources]
    suspects = []
    for number, word in enumerate(content):
        shares = [weight * tanh(evidence[name][number] / 2) for name, weight in zip(sources, weights, strict=True)]
        score = 1 / (1 + exp(-sum(shares) - intercept))
        if score >= THRESHOLDS[sources]:
            kind = infer_kind(answer[word.start : word.end], "")
            suspects.append(Hint(word.start, word.end, round(score, 3), kind, sources[shares.index(max(shares))]))
    joined = _join_neighbours(answer, suspects)
    most = max(FEWEST, len(content) // WORDS_A_HINT)
    kept = sorted(joined, key=lambda hint: -hint.score)[:most]
    return sorted(kept, key=lambda hint: hint.start)


def weigh_words(content: Sequence[Word], reading: Reading, rows: dict[str, int]) -> dict[str, list[float]]:
    """For each source that there is, in the order of `SOURCES`, the evidence in nats against each word."""

    def logs(name: str, word: Word) -> list[float]:
        return [reading.log_probs[rows[name]][token] for token in word.tokens]

    evidence = {}
    if "aligned" in rows:
        evidence["parting"] = [sum(logs("baseline", word)) - sum(logs("aligned", word)) for word in content]
    evidence["unlikely"] = [-sum(logs("speaker", word)) for word in content]
    if "blind" in rows:
        # One token that needs no picture is enough: most others of the phrase follow from the ones before them.
        evidence["blind"] = [
            max(grey - seen for grey, seen in zip(logs("blind", word), logs("speaker", word), strict=True))
            for word in content
        ]
    return evidence


def find_words(answer: str, offsets: Sequence[tuple[int, int]]) -> list[Word]:
    """The content words of an answer that have tokens. `offsets` are those of `Reading`; words overlap no other."""
    content, leading, waiting, inside = [], (), (), False
    for start, end, tokens in _split(answer, offsets):
        text = answer[start:end].lower().replace("’", "'")
        if any(map(str.isalnum, text)) and text not in FUNCTION_WORDS:
            leading, waiting, inside = leading + waiting, (), True
            if leading + tokens:
                content.append(Word(start, end, leading + tokens))
        elif inside and text == LINK:
            waiting += tokens
        else:
            leading = () if inside else leading
            leading, waiting, inside = leading + waiting + tokens, (), False
    return content


def _split(answer: str, offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Words and single marks of the answer with the tokens that begin in them; blanks are left out.

    A token that begins in the blank before a word belongs to the word. Characters of a script without blanks that
    share a token are one word.
    """
    token = 0
    for start, end in _pieces(answer, offsets):
        first = token
        while token < len(offsets) and offsets[token][0] < end:
            token += 1
        yield start, end, tuple(range(first, token))


def _pieces(answer: str, offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    insides = {place for start, end in offsets for place in range(start + 1, end)}
    position, piece = 0, None
    for text in words(answer):
        start, position = position, position + len(text)
        if text.isspace():
            continue
        apart = token_kind(text[:2]) == "" and text[0].isalnum()
        if piece and apart and piece[2] and piece[1] == start and start in insides:
            piece = (piece[0], position, True)
            continue
        if piece:
            yield piece[:2]
        piece = (start, position, apart)
    if piece:
        yield piece[:2]


def _join_neighbours(answer: str, suspects: Sequence[Hint]) -> list[Hint]:
    """Suspects with nothing but a blank between them as one, with the score, source and kind of the first loudest."""
    joined: list[Hint] = []
    for hint in suspects:
        if joined and not answer[joined[-1].end : hint.start].strip(" "):
            louder = max(joined[-1], hint, key=lambda one: one.score)
            joined[-1] = replace(louder, start=joined[-1].start, end=hint.end)
        else:
            joined.append(hint)
    return joined
