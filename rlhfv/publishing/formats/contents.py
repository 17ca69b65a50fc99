"""What a set of pairs holds, counted, so that an export can say beforehand what its format cannot carry."""

from collections import Counter
from collections.abc import Callable, Iterable

from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData

_CHECKS: dict[str, Callable[[PreferencePair], int]] = {
    "pairs": lambda pair: 1,
    "corrections": lambda pair: len(pair.edits) if pair.provenance.edits == "made" else 0,
    "preferred": lambda pair: pair.outcome == "preferred",
    "history": lambda pair: bool(pair.prompt.history),
    "no picture": lambda pair: not pair.prompt.all_images,
    "several pictures": lambda pair: len(pair.prompt.all_images) > 1,
    "later pictures": lambda pair: bool(pair.prompt.history and pair.prompt.all_images != first_images(pair)),
    "several revisions": lambda pair: pair.revision > 1,
}


def count(pairs: Iterable[PreferencePair], **more: Callable[[PreferencePair], int]) -> Counter:
    """How many pairs have what; "corrections" are those that a person made. `more` counts further things."""
    counts: Counter = Counter()
    for pair in pairs:
        for name, check in (_CHECKS | more).items():
            counts[name] += check(pair)
    return counts


def first_images(pair: PreferencePair) -> tuple[str, ...]:
    """The pictures that belong to the first question."""
    return pair.prompt.history[0].images if pair.prompt.history else pair.prompt.images


def require_any(pairs: Iterable[PreferencePair], fits: Callable[[PreferencePair], bool], why: str) -> None:
    """Raises InvalidData unless one of the pairs can be written."""
    if not any(map(fits, pairs)):
        raise InvalidData("There is no pair that the format can carry.", why, "Choose another format.")


def sentences(counts: Counter, *told: tuple[str, str, str]) -> list[str]:
    """A sentence for each of `told` that was found: (what is counted, its noun, what happens to it)."""
    return [
        f"{counts[name]:,} {noun.replace('(s)', 's' if counts[name] != 1 else '')}: {fate}."
        for name, noun, fate in told
        if counts[name]
    ]
