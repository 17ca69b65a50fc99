"""A word diff for texts that were corrected elsewhere; it never cuts a grapheme cluster.

Words that occur once on both sides anchor the alignment (patience diff); between two anchors the shortest edit script
is searched (E. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986) up to `MAX_CHANGES`. Beyond that the
texts have too little in common for a word diff to mean anything, and the whole stretch counts as replaced. So a text
of 100,000 characters stays a matter of seconds whatever it is compared with.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate, pairwise

import regex

MAX_CHANGES = 256

# `\X` alone counts all regional indicators before each one again: minutes for a long row of flags.
_GRAPHEME = regex.compile(r"\p{Regional_Indicator}{2}(?=\p{Regional_Indicator})|\X")
_APART = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
)  # scripts where a blank does not part words, or particles hang on them: every grapheme is a word of its own
_LETTER = regex.compile(r"[\p{L}\p{N}_]")


def graphemes(text: str) -> list[str]:
    """The extended grapheme clusters of UAX #29, in order: what a person sees as one character."""
    return _GRAPHEME.findall(text)


def words(text: str) -> list[str]:
    """The text cut into words (with the apostrophes inside them), blanks and single other graphemes.

    Joined they are the text again.
    """
    clusters = graphemes(text)
    kinds = [token_kind(cluster[:2]) for cluster in clusters]
    tokens: list[str] = []
    before = ""  # kind of the last token, when the next grapheme may join it
    for index, (cluster, kind) in enumerate(zip(clusters, kinds, strict=True)):
        if before == "letters" and cluster in ("'", "’") and kinds[index + 1 : index + 2] == ["letters"]:
            kind = "letters"
        if kind and kind == before:
            tokens[-1] += cluster
        else:
            tokens.append(cluster)
        before = kind
    return tokens


@lru_cache(maxsize=8192)
def token_kind(beginning: str) -> str:
    """What a grapheme (or a token of `words`) is, by its first two code points: "letters" and "blank" join their like,
    anything else ("") stays alone.
    """
    if _LETTER.match(beginning) and not _APART.match(beginning):
        return "letters"
    return "blank" if beginning.isspace() else ""


def changed_blocks(old: str, new: str) -> Iterator[tuple[int, int, str]]:
    """The spans of `old` (half-open code points) that `new` has otherwise, each with what stands there instead."""
    old_words, new_words = words(old), words(new)
    offsets = [0, *accumulate(map(len, old_words))]
    first, last, new_first, new_last = _trim(old_words, new_words, 0, len(old_words), 0, len(new_words))
    if first and old_words[first - 1].isspace():
        first, new_first = first - 1, new_first - 1  # a blank stays with the word behind it
    old_starts = _unit_starts(old_words[first:last], first)
    new_starts = _unit_starts(new_words[new_first:new_last], new_first)
    for low, high, new_low, new_high in _differences(_units(old_words, old_starts), _units(new_words, new_starts)):
        block = old_starts[low], old_starts[high], new_starts[new_low], new_starts[new_high]
        low, high, new_low, new_high = _trim(old_words, new_words, *block)
        yield offsets[low], offsets[high], "".join(new_words[new_low:new_high])


def _trim(old: list[str], new: list[str], low: int, high: int, new_low: int, new_high: int) -> tuple[int, ...]:
    """The ranges without the words that they begin and end with in common."""
    while low < high and new_low < new_high and old[low] == new[new_low]:
        low, new_low = low + 1, new_low + 1
    while low < high and new_low < new_high and old[high - 1] == new[new_high - 1]:
        high, new_high = high - 1, new_high - 1
    return low, high, new_low, new_high


def _unit_starts(tokens: list[str], shift: int) -> list[int]:
    """Where the units of the comparison begin, and the end of the last: a word goes with the blank before it, so that
    neighbouring changed words are one change."""
    starts = [index for index in range(len(tokens)) if index == 0 or not tokens[index - 1].isspace()]
    return [index + shift for index in [*starts, len(tokens)]]


def _units(tokens: list[str], starts: list[int]) -> list[str]:
    return ["".join(tokens[start:end]) for start, end in pairwise(starts)]


def _differences(old: list[str], new: list[str]) -> Iterator[tuple[int, int, int, int]]:
    """Index ranges (old from, to, new from, to) that differ, in order, with something equal between any two."""
    low = new_low = 0
    for high, new_high in [*_anchors(old, new), (len(old), len(new))]:
        for block in _shortest_script(old[low:high], new[new_low:new_high]):
            yield block[0] + low, block[1] + low, block[2] + new_low, block[3] + new_low
        low, new_low = high + 1, new_high + 1


def _anchors(old: list[str], new: list[str]) -> list[tuple[int, int]]:
    """Indices of the units that occur once on each side: the longest run of them that rises on both sides."""
    counts, new_counts = Counter(old), Counter(new)
    places = {unit: index for index, unit in enumerate(new) if new_counts[unit] == 1}
    pairs = [(index, places[unit]) for index, unit in enumerate(old) if counts[unit] == 1 and unit in places]
    ends: list[int] = []  # the smallest place at which a rising run of each length ends
    last: list[int] = []  # the pair that ends it
    before: list[int] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(last[length - 1] if length else -1)
        ends[length : length + 1] = [place]
        last[length : length + 1] = [number]
    chain = []
    number = last[-1] if last else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _shortest_script(old: list[str], new: list[str]) -> list[tuple[int, int, int, int]]:
    """The differing ranges of a shortest edit script, or one range for everything beyond `MAX_CHANGES` changes."""
    furthest = {1: 0}  # diagonal (old index - new index) -> how far along `old` it was reached
    trace = []
    for changes in range(min(len(old) + len(new), MAX_CHANGES) + 1):
        trace.append(dict(furthest))
        for diagonal in range(-changes, changes + 1, 2):
            if diagonal == -changes or (
                diagonal != changes and furthest.get(diagonal - 1, -1) < furthest.get(diagonal + 1, -1)
            ):
                x = furthest[diagonal + 1]
            else:
                x = furthest[diagonal - 1] + 1
            while x < len(old) and 0 <= x - diagonal < len(new) and old[x] == new[x - diagonal]:
                x += 1
            furthest[diagonal] = x
            if x >= len(old) and x - diagonal >= len(new):
                return _walk_back(trace, len(old), len(new))
    return [(0, len(old), 0, len(new))]


def _walk_back(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int, int, int]]:
    blocks: list[tuple[int, int, int, int]] = []
    for changes in range(len(trace) - 1, 0, -1):
        reached, diagonal = trace[changes], x - y
        inserted = diagonal == -changes or (
            diagonal != changes and reached.get(diagonal - 1, -1) < reached.get(diagonal + 1, -1)
        )
        after_x = reached[diagonal + 1] if inserted else reached[diagonal - 1] + 1
        after_y = after_x - diagonal
        x, y = (after_x, after_y - 1) if inserted else (after_x - 1, after_y)
        if blocks and blocks[-1][0] == after_x and blocks[-1][2] == after_y:
            blocks[-1] = (x, blocks[-1][1], y, blocks[-1][3])
        else:
            blocks.append((x, after_x, y, after_y))
    return blocks[::-1]
