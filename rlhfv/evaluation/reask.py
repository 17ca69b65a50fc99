"""After a run: is what was corrected now right? One verdict for each corrected answer that is asked again."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.models.catalog import World

MENDED, STILL_WRONG, NOT_MENTIONED = "mended", "still wrong", "no longer mentioned"
_WORD = re.compile(r"\w+", re.UNICODE)
# Words that carry no claim: finding them again in a new answer says nothing about the error.
_EMPTY = frozenset(
    (
        "a an and are as at be been but by for from has have in into is it its next of on or that the their there "
        "this to was were which with"
    ).split()
)


@dataclass(frozen=True)
class EditVerdict:
    """What became of one edit in the new answer."""

    wrong: str
    right: str
    verdict: str


def content_words(text: str) -> list[str]:
    """Lower-case words of `text` that carry a claim, accents kept, compatibility forms unified."""
    return [word for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()) if word not in _EMPTY]


def judge_lexically(rejected: str, edits: Sequence[Edit], answer: str) -> list[EditVerdict]:
    """Compares words only, and is called so wherever its verdicts are shown.

    An edit counts as mended when every content word of its replacement is in the answer and not all of the wrong ones
    are; as still wrong when all of the wrong ones are there; otherwise what was wrong is no longer mentioned. Words
    that wrong and right text share decide nothing. An insertion is mended when its words are there.
    """
    present = set(content_words(answer))
    verdicts = []
    for edit in CorrectedAnswer(rejected, tuple(edits)).edits:
        wrong_text = rejected[edit.start : edit.end]
        wrong, right = set(content_words(wrong_text)), set(content_words(edit.replacement))
        wrong, right = wrong - right, right - wrong
        if wrong and wrong <= present:
            verdict = STILL_WRONG
        elif right and right <= present:
            verdict = MENDED
        elif not wrong and right:
            verdict = STILL_WRONG
        else:
            verdict = NOT_MENTIONED
        verdicts.append(EditVerdict(wrong_text, edit.replacement, verdict))
    return verdicts


def judge_with_truth(
    world: World, source: str, question: str, rejected: str, edits: Sequence[Edit], answer: str
) -> list[EditVerdict]:
    """The same three verdicts where the truth of the picture is known.

    Still wrong: a claim that is false in the new answer shares the wrong words. Mended: the replacement's words are
    there. A deleted claim that is gone counts as mended: going is what the correction asked for.
    """
    false_claims = {
        word
        for finding in world.review(source, question, answer)
        if not finding.is_true
        for word in content_words(answer[finding.start : finding.end])
    }
    present = set(content_words(answer))
    verdicts = []
    for edit in edits:
        wrong_text = rejected[edit.start : edit.end]
        wrong, right = set(content_words(wrong_text)), set(content_words(edit.replacement))
        if (wrong - right) & false_claims:
            verdict = STILL_WRONG
        elif not right or right - wrong <= present:
            verdict = MENDED
        else:
            verdict = NOT_MENTIONED
        verdicts.append(EditVerdict(wrong_text, edit.replacement, verdict))
    return verdicts
