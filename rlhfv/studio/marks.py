"""The words in which two texts differ, as nodes of a view."""

from functools import lru_cache

from rlhfv.corrections.edits import CorrectedAnswer, Edit, from_texts
from rlhfv.studio.view import Node, h

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


def marked(parts: tuple[Part, ...]) -> list[Node]:
    """The parts as nodes, differing words in `<mark>`."""
    nodes: list[Node] = []
    for text, differs in parts:
        words = text.strip()
        if differs and words:
            before, _, after = text.partition(words)
            nodes += [before, h("mark", words), after]
        else:
            nodes.append(text)
    return [node for node in nodes if node]


def changed(text: str, edit: Edit) -> list[Node]:
    """One correction: the old words struck out, then the new ones; a space between where both are there."""
    old = text[edit.start : edit.end]
    return [
        *([h("del", old)] if old else []),
        *([" "] if old.strip() and edit.replacement.strip() else []),
        *([h("ins", edit.replacement)] if edit.replacement else []),
    ]
