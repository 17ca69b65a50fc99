"""How an answer to a yes-or-no question is read. Readings are not interchangeable, so each has a name."""

import re
from collections.abc import Callable, Mapping

YES, NO, NEITHER = "yes", "no", ""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_DENIES = frozenset("not none never neither cannot without".split())
_DOUBTS = frozenset("sure certain unclear unsure uncertain unable know tell determine".split())


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
    """The first "yes" or "no" as a word, in any case and before any sign. Without one: "no" where the first sentence
    denies something ("There is not …", "isn't"), "yes" where it says that something is there, and neither where it
    doubts or says nothing."""
    words = _WORD.findall(text.lower())
    for word in words:
        if word in (YES, NO):
            return word
    first = _WORD.findall(re.split(r"[.!?\n]", text.strip().lower(), maxsplit=1)[0])
    if not first or _DOUBTS & set(first):
        return NEITHER
    if any(word in _DENIES or word.endswith(("n't", "n’t")) for word in first):
        return NO
    return YES if first[0] == "there" and {"is", "are"} & set(first[1:2]) else NEITHER


POPE_READINGS: Mapping[str, Callable[[str], str]] = {"official": read_pope, "lenient": read_lenient}
AMBER_READINGS: Mapping[str, Callable[[str], str]] = {"official": read_amber, "lenient": read_lenient}
LENIENT = (
    "lenient (the first yes or no of the answer in any spelling, else a plain statement; not the official reading)"
)
