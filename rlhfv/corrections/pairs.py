"""What a person decided about answers, and the preference pairs that follow from it; both as plain JSON rows."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rlhfv.corrections.conversation import ModelIdentity, Prompt, Sampling, fingerprint
from rlhfv.corrections.edits import (
    MAX_ANSWER_CHARS,
    CorrectedAnswer,
    Edit,
    edits_from_rows,
    edits_to_rows,
    from_texts,
    require_text,
)
from rlhfv.corrections.fields import read_fields, require_strings, require_type
from rlhfv.corrections.hints import ShownHint
from rlhfv.corrections.images import IMAGE_NAME
from rlhfv.corrections.lines import parse_lines, read_lines
from rlhfv.errors import InvalidCorrection, InvalidData, StudioError

OUTCOMES = ("corrected", "faithful", "preferred", "tie", "both_bad", "skipped")
PAIR_OUTCOMES = ("corrected", "preferred")
FLAGS = ("omission", "not answered")

MAX_QUESTION_CHARS = 20_000
MAX_NOTE_CHARS = 1_000
MAX_ORIGIN_CHARS = 500_000
PAIRS_FILE = "pairs.jsonl"
IMAGES_FOLDER = "images"

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}")


UNKNOWN_MODEL = ModelIdentity("unknown", "unknown")
GREEDY = Sampling()


@dataclass(frozen=True)
class Judgement:
    """What one annotator decided about one answer (or, for `preferred`, `tie` and `both_bad`, about two).

    `answers` are answer ids; for `preferred` the chosen one comes first. `reason` says why an answer was skipped,
    `active_seconds` how long the person worked on it. It is published only with `consent`, under `licence`.
    `hints` are the suspect words that the person was shown meanwhile.
    """

    id: str
    answers: tuple[str, ...]
    outcome: str
    flags: tuple[str, ...]
    reason: str
    annotator: str
    created: str
    active_seconds: float
    licence: str = ""
    consent: bool = False
    hints: tuple[ShownHint, ...] = ()

    def validate(self) -> None:
        """Raises InvalidCorrection unless it can be stored and understood later."""
        require_id(self.id, "judgement")
        if self.outcome not in OUTCOMES:
            raise InvalidCorrection(
                f"The outcome is {self.outcome!r:.80}.", f"It is one of {', '.join(OUTCOMES)}.", "Choose one of them."
            )
        unknown = [flag for flag in self.flags if flag not in FLAGS]
        if unknown:
            raise InvalidCorrection(
                f"The flag is {unknown[0]!r:.80}.", f"The flags are {', '.join(FLAGS)}.", "Choose one of them."
            )
        wanted = {"preferred": (2,), "tie": (2,), "both_bad": (2,), "skipped": (1, 2)}.get(self.outcome, (1,))
        if len(set(self.answers)) not in wanted or len(set(self.answers)) != len(self.answers):
            raise InvalidCorrection(
                f"The judgement '{self.outcome}' names {len(self.answers)} answers.",
                f"It is about {' or '.join(map(str, wanted))}.",
                "Name the answers that were judged.",
            )
        for text in (self.reason, self.annotator, self.created, self.licence):
            require_text(text, "note", MAX_NOTE_CHARS)
        if not 0 <= self.active_seconds < float("inf"):
            raise InvalidCorrection(
                f"The time worked is {self.active_seconds} seconds.",
                "It is a finite number from 0.",
                "Send the seconds worked.",
            )
        for hint in self.hints:
            hint.validate()

    def to_row(self) -> dict:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_row(cls, row: dict) -> "Judgement":
        """The judgement of a row that `to_row` made; rows from before hints were shown have none."""
        hints = tuple(ShownHint(**hint) for hint in row.get("hints", ()))
        return cls(**row | {"answers": tuple(row["answers"]), "flags": tuple(row["flags"]), "hints": hints})


@dataclass(frozen=True)
class Provenance:
    """Where a pair comes from; the defaults stand for what an imported pair does not say.

    `model`, `sampling`, `row_layout` and `row` are those of the rejected answer, `chosen_model` that of the chosen one
    when a model wrote it too (`preferred`). `edits` is "made" when a person or the oracle made them and "inferred"
    when they come from a diff. `source` says where the image is from, such as "demo:pairs/1234"; empty for an upload.
    `origin` is what a row of another format held beside the pair, as JSON, so that an export in that format gives the
    row back; empty for a pair that was made here.
    """

    model: ModelIdentity = UNKNOWN_MODEL
    sampling: Sampling = GREEDY
    row_layout: tuple[str, ...] = ()
    created: str = ""
    annotator: str = ""
    app_version: str = ""
    licence: str = ""
    consent: bool = False
    edits: str = "made"
    source: str = ""
    row: int = 0
    chosen_model: ModelIdentity | None = None
    origin: str = ""

    def to_row(self) -> dict:
        return asdict(self) | {"row_layout": list(self.row_layout)}

    @classmethod
    def from_row(cls, row: dict) -> "Provenance":
        """Raises InvalidData for fields of another type; fields it does not know are left out."""
        require_type(row, dict, "provenance")
        values = {name: row[name] for name in cls.__dataclass_fields__ if row.get(name) is not None}
        for name, value in values.items():
            require_type(value, _PROVENANCE_TYPES[name], f"provenance.{name}")
        if "row_layout" in values:
            values["row_layout"] = tuple(require_strings(values["row_layout"], "provenance.row_layout"))
        for name in ("model", "chosen_model"):
            if name in values:
                values[name] = ModelIdentity(
                    **read_fields(values[name], _MODEL_TYPES, f"provenance.{name}", {"adapter"})
                )
        if "sampling" in values:
            values["sampling"] = Sampling(
                **read_fields(values["sampling"], _SAMPLING_TYPES, "provenance.sampling", _SAMPLING_TYPES)
            )
        if values.get("edits", "made") not in ("made", "inferred"):
            raise InvalidData(
                f"The field 'provenance.edits' is {values['edits']!r:.80}.",
                "It is 'made' or 'inferred'.",
                "Say 'inferred' when the edits come from a diff.",
            )
        return cls(**values)

    @classmethod
    def from_own_row(cls, row: dict) -> "Provenance":
        """The provenance of a row that `to_row` made, unchecked."""
        values = row | {
            "model": ModelIdentity(**row["model"]),
            "sampling": Sampling(**row["sampling"]),
            "row_layout": tuple(row["row_layout"]),
            "chosen_model": ModelIdentity(**row["chosen_model"]) if row["chosen_model"] else None,
        }
        return cls(**values)


_PROVENANCE_TYPES = {
    "model": dict,
    "sampling": dict,
    "row_layout": list,
    "created": str,
    "annotator": str,
    "app_version": str,
    "licence": str,
    "consent": bool,
    "edits": str,
    "source": str,
    "row": int,
    "chosen_model": dict,
    "origin": str,
}
_MODEL_TYPES = {"name": str, "revision": str, "adapter": (str, type(None))}
_SAMPLING_TYPES = {"temperature": (float, int), "top_p": (float, int), "max_new_tokens": int, "seed": int}


@dataclass(frozen=True)
class PreferencePair:
    """Two answers to one prompt, of which `chosen` is the better. `rejected` with `edits` applied is `chosen`; a
    `preferred` pair has no edits. `revision` counts from 1 in a store and is 0 before.
    """

    id: str
    prompt: Prompt
    chosen: str
    rejected: str
    edits: tuple[Edit, ...]
    outcome: str
    provenance: Provenance
    revision: int = 0

    @property
    def corrected_answer(self) -> CorrectedAnswer:
        return CorrectedAnswer(self.rejected, self.edits)

    def validate(self) -> None:
        """Raises InvalidCorrection unless the pair can be stored and something can be learnt from it."""
        require_id(self.id, "pair")
        if self.outcome not in PAIR_OUTCOMES:
            raise InvalidCorrection(
                f"The outcome of a pair is {self.outcome!r:.80}.",
                f"Only {' and '.join(PAIR_OUTCOMES)} make a pair.",
                "Store the judgement without a pair.",
            )
        require_text(self.prompt.question, "question", MAX_QUESTION_CHARS)
        for turn in self.prompt.history:
            require_text(turn.question, "question", MAX_QUESTION_CHARS)
            require_text(turn.answer, "earlier answer", 2 * MAX_ANSWER_CHARS)
        for name in self.prompt.all_images:
            if not IMAGE_NAME.fullmatch(name):
                raise InvalidCorrection(
                    f"The image is named {name!r:.80}.",
                    "A stored image is named by the sha256 of its bytes.",
                    "Import the folder with `python -m rlhfv pairs import`, which takes the images in.",
                )
        require_text(self.rejected, "rejected answer", MAX_ANSWER_CHARS)
        require_text(self.chosen, "chosen answer", 2 * MAX_ANSWER_CHARS)
        if not self.chosen.strip() or self.chosen == self.rejected:
            raise InvalidCorrection(
                "The chosen answer is " + ("the same as the rejected one." if self.chosen.strip() else "empty."),
                "There is nothing to learn from such a pair.",
                "Write what the answer should say, or mark it as having nothing wrong.",
            )
        if self.outcome == "preferred" and self.edits:
            raise InvalidCorrection(
                "A preferred pair has corrections.",
                "It compares two answers of a model; corrections belong to a corrected pair.",
                "Leave the corrections out or change the outcome.",
            )
        if self.outcome == "corrected":
            self._validate_corrections()
        self._validate_numbers()
        provenance = self.provenance.to_row()
        require_text(provenance.pop("origin"), "origin", MAX_ORIGIN_CHARS)
        for text in _strings_within(provenance):
            require_text(text, "provenance", MAX_NOTE_CHARS)

    def _validate_numbers(self) -> None:
        sampling = vars(self.provenance.sampling)
        counts = {"revision": self.revision, "provenance.row": self.provenance.row}
        numbers = counts | {f"provenance.sampling.{name}": value for name, value in sampling.items()}
        for name, value in numbers.items():
            low, high = (0, 2**31 - 1) if name in counts else (-(2**63), 2**63 - 1)
            if not low <= value <= high:  # false for what is no number (nan) too
                raise InvalidCorrection(
                    f"The field '{name}' is {value!r:.80}.",
                    f"It has to lie between {low} and {high}, or no file could hold it.",
                    "Correct it, or leave it out.",
                )

    def _validate_corrections(self) -> None:
        corrected = self.corrected_answer
        corrected.validate()
        if corrected.corrected != self.chosen:
            raise InvalidCorrection(
                f"The rejected answer with its {len(self.edits)} corrections reads {corrected.corrected!r:.120}.",
                f"The chosen answer is {self.chosen!r:.120}, so the corrections belong to another text.",
                "Give the corrections of this answer, or leave them out and they are inferred.",
            )

    def to_row(self) -> dict:
        """Plain data in the fixed order of the fields; the same pair gives the same row."""
        prompt = self.prompt
        return {
            "id": self.id,
            "images": list(prompt.images),
            "history": [
                {"question": turn.question, "answer": turn.answer, "images": list(turn.images)}
                for turn in prompt.history
            ],
            "question": prompt.question,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "edits": edits_to_rows(self.rejected, self.edits),
            "outcome": self.outcome,
            "provenance": self.provenance.to_row(),
            "revision": self.revision,
        }

    @classmethod
    def from_row(cls, row: dict) -> "PreferencePair":
        """A pair out of plain data from outside, validated.

        `question`, `chosen` and `rejected` are needed. Without `edits` a corrected pair gets those of a word diff, and
        says so in its provenance; without `id` it gets one made from its content, the same every time.

        Raises:
            InvalidData: a field is missing or of another type.
            InvalidCorrection: the pair or its edits do not hold together.
        """
        require_type(row, dict, "row")
        fields = read_fields(row, _PAIR_TYPES, "", _PAIR_TYPES.keys() - {"question", "chosen", "rejected"})
        history = []
        for number, turn in enumerate(fields.get("history", ()), 1):
            require_type(turn, dict, f"history[{number}]")
            read_fields(turn, {"question": str, "answer": str, "images": list}, f"history[{number}]", {"images"})
            history.append(turn | {"images": require_strings(turn.get("images") or [], f"history[{number}].images")})
        prompt = Prompt.from_dict(
            {
                "question": fields["question"],
                "images": require_strings(fields.get("images", []), "images"),
                "history": history,
            }
        )
        provenance = Provenance.from_row(fields.get("provenance", {}))
        outcome, edits = fields.get("outcome", "corrected"), ()
        if "edits" in fields:
            edits = edits_from_rows(fields["edits"], fields["rejected"])
        elif outcome == "corrected":
            require_text(fields["rejected"], "rejected answer", MAX_ANSWER_CHARS)
            require_text(fields["chosen"], "chosen answer", 2 * MAX_ANSWER_CHARS)
            edits = from_texts(fields["rejected"], fields["chosen"])
            provenance = replace(provenance, edits="inferred")
        edits = CorrectedAnswer(fields["rejected"], edits).edits
        pair = cls(
            id=fields.get("id", "unnamed"),
            prompt=prompt,
            chosen=fields["chosen"],
            rejected=fields["rejected"],
            edits=edits,
            outcome=outcome,
            provenance=provenance,
            revision=fields.get("revision", 0),
        )
        pair.validate()
        return pair if "id" in fields else replace(pair, id=_content_id(pair))

    @classmethod
    def from_own_row(cls, row: dict) -> "PreferencePair":
        """The pair of a row that `to_row` made; nothing is checked, which makes it fast."""
        return cls(
            id=row["id"],
            prompt=Prompt.from_dict(row),
            chosen=row["chosen"],
            rejected=row["rejected"],
            edits=tuple(Edit(edit["start"], edit["end"], edit["replacement"], edit["kind"]) for edit in row["edits"]),
            outcome=row["outcome"],
            provenance=Provenance.from_own_row(row["provenance"]),
            revision=row["revision"],
        )


_PAIR_TYPES = {
    "id": str,
    "images": list,
    "history": list,
    "question": str,
    "chosen": str,
    "rejected": str,
    "edits": list,
    "outcome": str,
    "provenance": dict,
    "revision": int,
}


def pair_id(answers: tuple[str, ...], annotator: str) -> str:
    """The id of the pair that one annotator makes of these answers: the same however often it is saved."""
    return hashlib.sha256(json.dumps([sorted(answers), annotator]).encode()).hexdigest()[:32]


def work_of(pair: PreferencePair) -> str | None:
    """The fingerprint of the answer that was corrected; None for a pair that was only preferred."""
    return fingerprint(pair.prompt, pair.rejected) if pair.outcome == "corrected" else None


def dump_row(row: dict) -> str:
    """One line of JSON, characters as they are."""
    return json.dumps(row, ensure_ascii=False, separators=(", ", ": "))


def load_pairs(path: str | Path) -> list[PreferencePair]:
    """The pairs of a JSONL file, or of a folder that holds `pairs.jsonl` (an export, a run).

    Raises:
        InvalidData: the file cannot be read, or a row is not a valid pair; the message names the row.
    """
    pairs = []
    for number, row in parse_lines(read_lines(pairs_file(path))):
        try:
            if isinstance(row, StudioError):
                raise row
            pairs.append(PreferencePair.from_row(row))
        except StudioError as error:
            what = f"Row {number} of {pairs_file(path).name}: {error.what}"
            raise InvalidData(what, error.why, error.fix) from error
    return pairs


def pairs_file(path: str | Path) -> Path:
    path = Path(path)
    return path / PAIRS_FILE if path.is_dir() else path


def _content_id(pair: PreferencePair) -> str:
    row = pair.to_row()
    content = {name: row[name] for name in ("images", "history", "question", "chosen", "rejected", "edits", "outcome")}
    return hashlib.sha256(dump_row(content).encode()).hexdigest()[:32]


def require_id(value: str, owner: str) -> None:
    if not _ID.fullmatch(value):
        raise InvalidCorrection(
            f"The id of the {owner} is {value!r:.80}.",
            "An id has 1 to 128 letters, digits, dots, dashes and underscores, and begins with a letter or digit.",
            "Use such an id, or leave it out.",
        )


def _strings_within(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings_within(inner)
