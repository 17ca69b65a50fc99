"""What a set of answers was made from: figures are compared only where everything but the voice is the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.errors import InvalidData

UNKNOWN = "unknown"
"""Of a field that an imported file does not tell."""
PLAIN = "{question}"
"""Nothing is put around a benchmark's question."""
NOBODY = ModelIdentity(UNKNOWN, "")


class OtherQuestions(InvalidData):
    """A set answers other question files than those that are here."""


@dataclass(frozen=True)
class Stamp:
    """How the answers to one benchmark were made.

    `questions` is the sha256 of the question files, `prompt` the text that is sent with `{question}` in its place
    (a chat template belongs to the model), `decoding` the name of `values`. `transform` says how pictures are
    prepared, and `architecture` what kind of model they are prepared for. `weights` says how those of the model are
    held: whole or in 4 bits, and in which numbers. `model` is who answered: base and adapter, or a server with the
    name of the model that it serves. Where answers were imported, `imported` is the file's name, and what the file
    does not tell is "unknown".
    """

    benchmark: str
    questions: str
    prompt: str = PLAIN
    decoding: str = UNKNOWN
    values: Mapping[str, float] = field(default_factory=dict)
    transform: str = UNKNOWN
    architecture: str = UNKNOWN
    model: ModelIdentity = NOBODY
    imported: str = ""
    weights: str = UNKNOWN

    def to_dict(self) -> dict:
        return asdict(self) | {"values": dict(self.values)}

    @classmethod
    def from_dict(cls, data: Mapping) -> "Stamp":
        """Raises `InvalidData` for what is no stamp."""
        try:
            stamp = cls(**{**data, "model": ModelIdentity(**data["model"])})
            texts = (getattr(stamp, one.name) for one in fields(cls) if one.name not in ("values", "model"))
            adapter = "" if stamp.model.adapter is None else stamp.model.adapter
            if not all(isinstance(text, str) for text in (*texts, stamp.model.name, stamp.model.revision, adapter)):
                raise TypeError("a text is none")
            if not all(isinstance(value, (int, float)) for value in dict(stamp.values).values()):
                raise TypeError("a value of the decoding is no number")
            return stamp
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(
                "A set of answers has no readable stamp.",
                f"Its stamp.json lacks or adds a field: {error}.",
                "Make or import the answers again.",
            ) from error

    @property
    def lines(self) -> dict[str, str]:
        """The stamp as a person reads it: names of the fields and their values as text."""
        values = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self.values.items())
        told = {
            "benchmark": self.benchmark,
            "questions": f"sha256 {self.questions[:12]}" if self.questions != UNKNOWN else UNKNOWN,
            "prompt": self.prompt,
            "decoding": f"{self.decoding} ({values})" if values else self.decoding,
            "pictures": self.transform,
            "architecture": self.architecture,
            "weights": self.weights,
            "model": str(self.model) if self.model.revision else self.model.name,
        }
        return told | ({"imported from": self.imported} if self.imported else {})


def refuse_unlike(first: Stamp, second: Stamp) -> None:
    """Raises `InvalidData` that names the first field in which two sets of answers may not differ, and both values.

    Who answered may differ, and how pictures are prepared too where the models are of different kinds. How weights are
    held may be unknown of one of them: nothing at an import tells it, and no server does.
    """
    names = ["benchmark", "questions", "prompt", "decoding", "values"]
    if first.architecture == second.architecture:
        names.append("transform")
    if UNKNOWN not in (first.weights, second.weights):
        names.append("weights")
    for name in names:
        values = [getattr(stamp, name) for stamp in (first, second)]
        if values[0] != values[1]:
            told = " and ".join(json.dumps(dict(one) if name == "values" else one) for one in values)
            raise InvalidData(
                f"The two sets of answers differ in {FIELDS[name]}: {told}.",
                "Then a difference of their figures would not be the voice's own.",
                "Let both voices answer in the same way, or say at import how the answers were made.",
            )


def refuse_unasked(title: str, stamp: Stamp, benchmark: str, questions: str) -> None:
    """Raises `OtherQuestions` where the set of that title was not asked the questions of the benchmark as it is here,
    whose sha256 is `questions`."""
    if stamp.questions != questions:
        raise OtherQuestions(
            f"The set {title!r} answers other questions than those of {benchmark} that are here.",
            f"Its question files have the sha256 {stamp.questions[:12]}, those here {questions[:12]}: the same id may "
            "name another question there, and the keys say nothing of these answers.",
            "Put the question files back that were asked, name their folder with --benchmarks, or answer or import "
            "anew.",
        )


FIELDS = {
    "benchmark": "the benchmark",
    "questions": "the questions that were asked (sha256)",
    "prompt": "the prompt",
    "decoding": "the decoding",
    "values": "the values of the decoding",
    "transform": "how the pictures were prepared",
    "weights": "how the weights were held",
}


def doubts(first: Stamp, second: Stamp) -> tuple[str, ...]:
    """What is not known of both sets alike, as sentences: nothing tells there whether they may be compared."""
    names = [
        FIELDS[name]
        for name in ("questions", "prompt", "decoding", "transform", "weights")
        if UNKNOWN in (getattr(first, name), getattr(second, name))
    ]
    if not names:
        return ()
    whose = " of imported answers" if first.imported or second.imported else ""
    return (f"Not known{whose}: {', '.join(names)}. Whether the two sets are alike in it cannot be told.",)


def describe_weights(model) -> str:
    """How a model of this machine holds its weights: "full, bfloat16", or "4-bit, bfloat16" where it works in that."""
    other = getattr(model.model, "quantization_method", None)
    held = "4-bit" if model.four_bit else getattr(other, "value", other) or "full"
    return f"{held}, {str(model.dtype).removeprefix('torch.')}"


def describe_pictures(processor) -> str:
    """How a model's processor prepares pictures: a sentence from its own settings, and the first digits of the sha256
    of all of them. What a picture is made into may depend on its shape; the settings say how.
    """
    preparation = processor.image_processor
    settings = preparation.to_dict()
    steps = []
    kind = settings.get("image_processor_type", type(preparation).__name__)
    if settings.get("do_pad") and kind == "LlavaImageProcessor":
        steps.append("padded to a square with the mean colour")
    if settings.get("image_grid_pinpoints"):
        steps.append(f"cut into tiles of one of {len(settings['image_grid_pinpoints'])} grids beside the whole")
    elif settings.get("do_image_splitting") or settings.get("crop_to_patches"):
        steps.append("cut into tiles beside the whole")
    if settings.get("do_resize") and settings.get("size"):
        unit = "pixels in all" if settings.get("merge_size") else "pixels"
        steps.append(f"resized ({_render(settings['size'])} {unit})")
    if settings.get("do_center_crop") and settings.get("crop_size"):
        steps.append(f"cut to the middle ({_render(settings['crop_size'])} pixels)")
    if settings.get("do_normalize"):
        steps.append("normalised")
    known = json.dumps(settings, sort_keys=True, default=str)
    digest = hashlib.sha256(known.encode()).hexdigest()[:12]
    return f"{', '.join(steps) or 'as they are'}; {kind} {digest}"


def _render(size) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(dict(size).items()) if value)
