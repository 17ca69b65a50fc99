"""One weight per answer token: γ where the answer was corrected, the shared weight elsewhere.

Two ways to know where. `weigh_edits` takes the true spans, as the paper's formula does. `weigh_diff` repeats what the
released code of RLHF-V does: a diff of token ids that counts replacements only.

The seam. After a pure deletion the chosen answer has nothing in place of the deleted words, so the paper weighs only
the rejected side. Yet the choice between the two answers is made at one place: where the rejected one starts the
deleted words, the chosen one goes on with its next token. With `seam` that token (the end-of-answer token when nothing
follows) gets γ, so that the pair says "instead of these words, go on" with equal force on both sides; a pure insertion
is its mirror image.
"""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

MIN_MATCH = 3
"""Matches of fewer tokens are swallowed by the changes around them (the released code's `min_match_size`)."""


def weigh_edits(
    offsets: Sequence[tuple[int, int]],
    spans: Iterable[tuple[int, int]],
    *,
    gamma: float,
    shared: float = 1.0,
    seam: bool = False,
) -> list[float]:
    """Weights of one side's tokens from the corrected spans of that side.

    Args:
        offsets: half-open code-point range of each token in the answer. Pieces of one character (an emoji in a
            byte-level vocabulary) repeat its range; the end-of-answer token is the empty range at the end of the text.
        spans: half-open code-point ranges; an empty one is the seam of an edit that left nothing on this side.

    A token is corrected when it overlaps a span. The end-of-answer token is a shared one unless it is the seam.
    """
    weights = [shared] * len(offsets)
    for start, end in spans:
        if start < end:
            for index, (left, right) in enumerate(offsets):
                # A piece without characters of its own belongs to the span that it stands in.
                if (left < end and right > start) if left < right else (start <= left < end):
                    weights[index] = gamma
        elif seam and offsets:
            index = next((i for i, (_, right) in enumerate(offsets) if right > start), len(offsets) - 1)
            weights[index] = gamma
    return weights


def weigh_diff(
    prompt: Sequence[int],
    chosen: Sequence[int],
    rejected: Sequence[int],
    *,
    gamma: float,
    shared: float = 1.0,
) -> tuple[list[float], list[float]]:
    """Weights of both sides from a diff of token ids, as the released code makes them.

    The prompt takes part in the diff, so that a short match at the start of the answers joins it and is kept. A change
    counts only where both sides have tokens: pure deletions and insertions weigh as shared tokens do.
    """
    first, second = list(prompt) + list(rejected), list(prompt) + list(chosen)
    blocks = SequenceMatcher(None, first, second).get_matching_blocks()
    kept = [block for block in blocks[:-1] if block.size >= MIN_MATCH] + [blocks[-1]]
    left, right = [shared] * len(first), [shared] * len(second)
    at_first = at_second = 0
    for block in kept:
        if block.a > at_first and block.b > at_second:
            left[at_first : block.a] = [gamma] * (block.a - at_first)
            right[at_second : block.b] = [gamma] * (block.b - at_second)
        at_first, at_second = block.a + block.size, block.b + block.size
    return right[len(prompt) :], left[len(prompt) :]
