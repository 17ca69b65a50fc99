"""What a correction is: spans of an answer with their replacements, and the text that results.

Offsets are Unicode code points of the original answer, half-open.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import regex

from rlhfv.corrections.diff import changed_blocks
from rlhfv.errors import InvalidCorrection

KINDS = {
    "object": "A thing, person or animal that is not there, or is something else.",
    "position": "Where something is, alone or beside other things.",
    "number": "How many there are.",
    "attribute": "What something is like: its colour, size, material, shape or state.",
    "action": "What someone or something does.",
    "other": "Anything else: text in the image, a conclusion, wording, punctuation.",
}

# A word that is as often a thing (an orange, a glass, a light) stands in no list: the other side of the edit decides.
KIND_WORDS = {
    "number": [
        *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
        *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty"),
        *("forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "hundreds", "thousand", "thousands"),
        *("million", "dozen", "dozens", "couple", "pair", "several", "many", "few", "single", "both", "multiple"),
        *("numerous", "first", "second", "third", "fourth", "fifth", "once", "twice", "double", "triple"),
    ],
    "attribute": [
        *("red", "green", "blue", "yellow", "black", "white", "brown", "grey", "gray", "pink", "purple", "violet"),
        *("beige", "golden", "silver", "turquoise", "crimson", "maroon", "teal", "tan", "blond", "blonde", "colorful"),
        *("colourful", "dark", "bright", "pale", "transparent", "big", "bigger", "biggest", "large", "larger"),
        *("largest", "huge", "giant", "small", "smaller", "smallest", "little", "tiny", "tall", "taller", "short"),
        *("shorter", "long", "longer", "wide", "narrow", "thick", "thin", "wooden", "metal", "metallic", "plastic"),
        *("leather", "concrete", "ceramic", "marble", "woollen", "woolen", "cotton", "round", "square", "rectangular"),
        *("triangular", "oval", "flat", "curved", "striped", "spotted", "checkered", "plain", "old", "young", "new"),
        *("clean", "dirty", "wet", "dry", "empty", "full", "open", "closed", "broken", "shiny", "smooth", "rough"),
        *("soft", "hot", "cold", "modern", "vintage"),
    ],
    "position": [
        *("left", "right", "top", "bottom", "middle", "center", "centre", "corner", "side", "edge", "front", "back"),
        *("background", "foreground", "upper", "lower", "leftmost", "rightmost", "in", "on", "at", "under", "over"),
        *("above", "below", "behind", "beside", "besides", "between", "among", "near", "nearby", "next", "inside"),
        *("outside", "within", "through", "across", "along", "around", "against", "onto", "into", "beneath"),
        *("underneath", "beyond", "opposite", "toward", "towards", "off", "up", "down", "atop", "far", "adjacent"),
    ],
    "clause": ["is", "are", "was", "were", "with"],
    "not_action": [
        *("thing", "things", "something", "nothing", "anything", "everything", "building", "ceiling", "painting"),
        *("clothing", "railing", "awning", "string", "spring", "evening", "morning", "wedding", "earring", "sibling"),
        *("during", "topping", "frosting", "icing", "pudding", "dressing", "lighting", "crossing", "parking"),
        *("swing", "bedding", "fencing", "siding", "opening", "landing", "seasoning", "stuffing", "bring"),
    ],
}

MAX_ANSWER_CHARS = 100_000
MAX_REPLACEMENT_CHARS = 10_000

_WORD = regex.compile(r"[\p{L}\p{M}\p{Nd}]+(?:['’]\p{L}+)*")
_DIGIT = regex.compile(r"\p{Nd}")
_WORD_SETS = {name: frozenset(words) for name, words in KIND_WORDS.items()}


@dataclass(frozen=True)
class Edit:
    """Replaces `original[start:end]` by `replacement`. `start == end` inserts, an empty replacement deletes."""

    start: int
    end: int
    replacement: str
    kind: str


@dataclass(frozen=True)
class Segment:
    """The span that one edit covers on one side: half-open code points, empty for the side where nothing stands.

    `edit` is the index of the edit in `CorrectedAnswer.edits`.
    """

    start: int
    end: int
    kind: str
    edit: int


@dataclass(frozen=True)
class CorrectedAnswer:
    """An answer with its edits, kept in their total order: by start, then by end.

    An insertion at the start of a replaced span so comes before the replacement. Call `validate` on anything that came
    from outside; the other properties presume valid edits.
    """

    original: str
    edits: tuple[Edit, ...]

    def __post_init__(self):
        object.__setattr__(self, "edits", tuple(sorted(self.edits, key=lambda edit: (edit.start, edit.end))))

    @cached_property
    def corrected(self) -> str:
        parts, position = [], 0
        for edit in self.edits:
            parts += [self.original[position : edit.start], edit.replacement]
            position = edit.end
        return "".join(parts) + self.original[position:]

    @property
    def original_segments(self) -> tuple[Segment, ...]:
        """One segment an edit, in code points of `original`."""
        return tuple(Segment(edit.start, edit.end, edit.kind, index) for index, edit in enumerate(self.edits))

    @property
    def corrected_segments(self) -> tuple[Segment, ...]:
        """One segment an edit, in code points of `corrected`."""
        segments, shift = [], 0
        for index, edit in enumerate(self.edits):
            start = edit.start + shift
            segments.append(Segment(start, start + len(edit.replacement), edit.kind, index))
            shift += len(edit.replacement) - (edit.end - edit.start)
        return tuple(segments)

    def validate(self) -> None:
        """Raises InvalidCorrection unless the edits can be applied, stored and told apart from the original."""
        require_text(self.original, "answer", MAX_ANSWER_CHARS)
        for edit in self.edits:
            self._validate_edit(edit)
        for first, second in pairwise(self.edits):
            same_place = first.start == first.end == second.start == second.end
            if second.start < first.end or same_place:
                raise InvalidCorrection(
                    f"The corrections at {_span(first)} and {_span(second)} overlap.",
                    "Each character of the answer can be changed by one correction, and two insertions at one place "
                    "have no order.",
                    "Join them into one correction.",
                )
        total = sum(len(edit.replacement) for edit in self.edits)
        if total > MAX_ANSWER_CHARS:
            raise InvalidCorrection(
                f"The replacements have {total:,} characters together.",
                f"The corrections of one answer may hold {MAX_ANSWER_CHARS:,}.",
                "Correct only what is wrong; write a new answer somewhere else.",
            )
        if self.edits and self.corrected == self.original:
            raise InvalidCorrection(
                "The corrections cancel each other.",
                "The corrected answer is the same as the original, so there is nothing to learn from it.",
                "Remove them, or mark the answer as having nothing wrong.",
            )

    def _validate_edit(self, edit: Edit) -> None:
        length = len(self.original)
        if not 0 <= edit.start <= edit.end <= length:
            raise InvalidCorrection(
                f"A correction covers characters {edit.start} to {edit.end}.",
                f"The answer has {length:,} characters, and a correction runs from left to right inside it.",
                "Select the words again.",
            )
        if edit.kind not in KINDS:
            raise InvalidCorrection(
                f"A correction has the kind {edit.kind!r:.80}.",
                f"The kinds are {', '.join(KINDS)}.",
                "Choose one of them.",
            )
        require_text(edit.replacement, "replacement", MAX_REPLACEMENT_CHARS)
        if edit.replacement == self.original[edit.start : edit.end]:
            shown = f"replaces {edit.replacement!r:.80} by itself" if edit.replacement else "inserts nothing"
            raise InvalidCorrection(
                f"The correction at {_span(edit)} {shown}.",
                "It changes nothing, so there is nothing to learn from it.",
                "Change the replacement or remove the correction.",
            )


def _span(edit: Edit) -> str:
    return f"{edit.start} to {edit.end}" if edit.end > edit.start else f"{edit.start}"


def require_text(text: str, name: str, limit: int) -> None:
    """Raises InvalidCorrection for text that is too long or that UTF-8 cannot hold."""
    if len(text) > limit:
        raise InvalidCorrection(
            f"The {name} has {len(text):,} characters.",
            f"At most {limit:,} are taken.",
            "Shorten it.",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidCorrection(
            f"The {name} holds half a character (U+{ord(text[error.start]):04X}) at position {error.start}.",
            "A lone surrogate cannot be written to a file or a database.",
            "Remove it or type the character again.",
        ) from None


def normalise_generated(text: str) -> str:
    """A generated text as it is stored: line ends are `\\n` and lone surrogates are gone.

    Applied once, before the answer gets its id; applying it again changes nothing. Nothing else is normalised, since
    that would move offsets.
    """
    return regex.sub(r"\r+\n", "\n", text.encode("utf-8", "ignore").decode("utf-8"))


def infer_kind(old: str, new: str) -> str:
    """The likely kind of replacing `old` by `new`: a first guess which a person may change.

    Looks at the words (lower case) that stand on one side only, or at all of them when both sides have the same words.
    The first rule that holds for any of them decides: a whole clause ("There is a red cup on the left.", ", with a cup
    nearby") that goes or comes is about its object; a digit or a number word, a word of colour, size, material or
    state, a word of place, a word of five or more letters that ends in -ing (unless it is a known noun); otherwise an
    object, or `other` when there is no word at all. The editor in the browser applies the same rules to `KIND_WORDS`.
    """
    old_words, new_words = (set(_WORD.findall(text.lower())) for text in (old, new))
    words = (old_words ^ new_words) or old_words
    if not words:
        return "other"
    if not (old_words and new_words) and words & _WORD_SETS["clause"] and len(words) >= 4:
        return "object"
    if words & _WORD_SETS["number"] or any(_DIGIT.search(word) for word in words):
        return "number"
    if words & _WORD_SETS["attribute"]:
        return "attribute"
    if words & _WORD_SETS["position"]:
        return "position"
    if any(word.endswith("ing") and len(word) >= 5 for word in words - _WORD_SETS["not_action"]):
        return "action"
    return "object"


def from_texts(original: str, corrected: str) -> tuple[Edit, ...]:
    """Edits between two texts of which only the result is known, with their kinds inferred.

    A word diff that never cuts a grapheme of the original. For any two texts
    `CorrectedAnswer(original, from_texts(original, corrected)).corrected == corrected`.
    """
    return tuple(
        Edit(start, end, replacement, infer_kind(original[start:end], replacement))
        for start, end, replacement in changed_blocks(original, corrected)
    )


def edits_to_rows(original: str, edits: tuple[Edit, ...]) -> list[dict]:
    """Plain data, each row with the text that its offsets name, so that a reader can verify them."""
    return [
        {
            "start": edit.start,
            "end": edit.end,
            "text": original[edit.start : edit.end],
            "replacement": edit.replacement,
            "kind": edit.kind,
        }
        for edit in edits
    ]


def edits_from_rows(rows: list[dict], original: str | None = None) -> tuple[Edit, ...]:
    """Edits out of plain data from outside. With `original`, a row's `text` must be what its offsets name.

    Raises InvalidCorrection for rows of the wrong shape; `CorrectedAnswer.validate` checks the rest.
    """
    if not isinstance(rows, list):
        raise InvalidCorrection(
            f"The corrections are of type {type(rows).__name__}.",
            "They must be a list.",
            "Send a list of corrections.",
        )
    return tuple(_edit_from_row(row, number, original) for number, row in enumerate(rows, 1))


def _edit_from_row(row: dict, number: int, original: str | None) -> Edit:
    types = {"start": int, "end": int, "replacement": str, "kind": str}
    for name, expected in types.items():
        value = row.get(name) if isinstance(row, dict) else None
        if type(value) is not expected:
            raise InvalidCorrection(
                f"Correction {number} has no valid '{name}' ({value!r:.80}).",
                f"A correction has {', '.join(types)}; '{name}' is of type {expected.__name__}.",
                "Mend that field.",
            )
    edit = Edit(*(row[name] for name in types))
    named = row.get("text")
    if original is not None and named is not None and original[max(edit.start, 0) : max(edit.end, 0)] != named:
        raise InvalidCorrection(
            f"Correction {number} says that characters {_span(edit)} are {named!r:.80}.",
            f"There the answer has {original[max(edit.start, 0) : max(edit.end, 0)]!r:.80}.",
            "Count offsets in Unicode code points of the answer as it was generated.",
        )
    return edit
