"""How an answer to a yes-or-no question is read. Readings are not interchangeable, so each has a name."""

import re
from collections.abc import Callable, Mapping

YES, NO, NEITHER = "yes", "no", ""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
# Where a first clause ends; what comes behind "with" is about the thing and not whether it is there.
_END = re.compile(r"[.!?,;:\n]|\b(?:but|while|although|though|with|without|who|which)\b")
_THERE = (["there", "is"], ["there", "are"], ["there's"], ["there’s"])
_DENIES = frozenset("no not none nothing never neither cannot".split())
_DOUBTS = frozenset(
    "sure certain unclear unsure uncertain unable know tell say answer determine possible impossible enough idea "
    "way".split()
)


def read_pope(text: str) -> str:
    """POPE's own reading (`evaluate.py` of RUCAIBox/POPE): what stands before the first full stop, without commas, is
    parted at single blanks; a part that is exactly "No", "no" or "not" means no, and everything else yes: "NO", "no!",
    "Not sure", "isn't" and an empty answer too."""
    parts = text.partition(".")[0].replace(",", "").split(" ")
    return NO if {"No", "no", "not"} & set(parts) else YES


def read_amber(text: str) -> str:
    """AMBER's own reading (`inference.py` of junyangwang0410/AMBER): exactly "Yes" or exactly "No", else neither."""
    return {"Yes": YES, "No": NO}.get(text, NEITHER)


def read_lenient(text: str) -> str:
    """A "yes" or "no" that the answer begins with, as a word in any case and before any sign; else what its first
    clause states: "no" where it denies something ("There is not …", "isn't"), "yes" where it says that something is
    there, and neither where it doubts or says nothing. What comes behind that clause decides nothing."""
    begins = _WORD.search(text)
    words = _WORD.findall(_END.split(text[begins.start() :].lower(), maxsplit=1)[0]) if begins else []
    if words[:1] in ([YES], [NO]) and words != [NO, "idea"]:
        return words[0]
    if words[:2] == ["not", "only"]:  # "Not only is there a dog": there is one
        words = [*reversed(words[2:4]), *words[4:]]
    there = next((len(begin) for begin in _THERE if words[: len(begin)] == begin), 0)
    if there and words[there:] and not _denies(words[there]):
        return YES
    if _DOUBTS & set(words):
        return NEITHER
    return NO if any(map(_denies, words)) else NEITHER


def _denies(word: str) -> bool:
    return word in _DENIES or word.endswith(("n't", "n’t"))


POPE_READINGS: Mapping[str, Callable[[str], str]] = {"official": read_pope, "lenient": read_lenient}
AMBER_READINGS: Mapping[str, Callable[[str], str]] = {"official": read_amber, "lenient": read_lenient}
LENIENT = (
    "lenient (a yes or no that the answer begins with in any spelling, else its first clause as a statement; not the "
    "official reading)"
)
