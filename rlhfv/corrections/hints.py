"""Words of an answer that a detector doubts, and what became of those that a person was shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlhfv.corrections.edits import KINDS, Edit
from rlhfv.errors import InvalidCorrection

SOURCES = ("parting", "unlikely", "blind")
"""What a doubt rests on: baseline and aligned voice part here; the voice itself found the words unlikely; without the
picture they are as likely as with it."""


@dataclass(frozen=True)
class Hint:
    """A doubtful span: half-open code points of the answer, `score` from 0 to 1, the likely `kind` of error, and the
    one of `SOURCES` that speaks loudest.
    """

    start: int
    end: int
    score: float
    kind: str
    source: str


@dataclass(frozen=True)
class ShownHint(Hint):
    """A hint that the annotator saw, and whether one of their corrections changed it."""

    corrected: bool = False

    def validate(self) -> None:
        """Raises InvalidCorrection unless it can be stored and understood later."""
        if not (0 <= self.start < self.end and 0 <= self.score <= 1):
            raise InvalidCorrection(
                f"A hint covers characters {self.start} to {self.end} with the score {self.score}.",
                "It covers at least one character, and scores lie between 0 and 1.",
                "Leave the hint out.",
            )
        if self.kind not in KINDS or self.source not in SOURCES:
            raise InvalidCorrection(
                f"A hint has the kind {self.kind!r:.80} and the source {self.source!r:.80}.",
                f"The kinds are {', '.join(KINDS)}, the sources {', '.join(SOURCES)}.",
                "Leave the hint out.",
            )


def shown_hints(
    hints: Iterable[Hint], spans: Iterable[tuple[int, int]], edits: Sequence[Edit]
) -> tuple[ShownHint, ...]:
    """Those of `hints` whose spans the annotator saw, with what the corrections did to each."""
    seen = set(spans)
    return tuple(
        ShownHint(**vars(hint), corrected=any(edit.start < hint.end and edit.end > hint.start for edit in edits))
        for hint in hints
        if (hint.start, hint.end) in seen
    )
