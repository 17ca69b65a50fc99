"""The words in which two texts differ."""

from functools import lru_cache

from rlhfv.corrections.edits import CorrectedAnswer, from_texts

# Longer answers are shown unmarked: nobody reads marks there, and a diff of them costs seconds.
MAX_MARKED = 20_000

Part = tuple[str, bool]
"""A stretch of text, and whether only this side has it."""


@lru_cache(maxsize=512)
def differing(left: str, right: str) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    """Both texts cut where they differ; joined, the parts of a side are its text again."""
    if not left or not right or len(left) + len(right) > MAX_MARKED:
        return ((left, False),), ((right, False),)
    answer = CorrectedAnswer(left, from_texts(left, right))
    sides = ((left, answer.original_segments), (right, answer.corrected_segments))
    return tuple(_cut(text, [(part.start, part.end) for part in segments]) for text, segments in sides)


def _cut(text: str, spans: list[tuple[int, int]]) -> tuple[Part, ...]:
    parts, position = [], 0
    for start, end in spans:
        parts += [(text[position:start], False), (text[start:end], True)]
        position = end
    return tuple(part for part in (*parts, (text[position:], False)) if part[0])
