"""The columns of the published data set, and rows of them from pairs and back.

`images`, `prompt`, `chosen` and `rejected` are what TRL's preference trainers read, the last five what RLHF-V-Dataset
has beside question and answers. Offsets of `segments` are half-open, in Unicode code points of the last message.

A released column keeps its name and type for good. A new one is appended and nullable: rows written before then read
as None, since the card declares the newest columns.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import PurePath

from datasets import Features, Image, List, Value

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import MAX_ANSWER_CHARS, require_text
from rlhfv.corrections.exchange import segment_rows
from rlhfv.corrections.hints import ShownHint
from rlhfv.corrections.merging import PULLED
from rlhfv.corrections.pairs import Judgement, PreferencePair, require_id
from rlhfv.errors import InvalidData
from rlhfv.publishing.formats.origin import recall
from rlhfv.publishing.formats.rlhfv import NAME as RLHFV

DS_NAME = "rlhf-v-studio"
MAX_REVISION = 1_000_000

_TEXT, _INT, _LONG = Value("string"), Value("int32"), Value("int64")
_MESSAGES = List({"role": _TEXT, "content": _TEXT})
_MODEL = {"name": _TEXT, "revision": _TEXT, "adapter": _TEXT}
_SAMPLING = {"temperature": Value("float64"), "top_p": Value("float64"), "max_new_tokens": _LONG, "seed": _LONG}
_PICTURES = {"images": List(Image()), "image_sha256": List(_TEXT), "image_turns": List(_INT)}

PAIRS = Features(
    {
        "id": _TEXT,
        "revision": _INT,
        "updated_at": _TEXT,
        **_PICTURES,
        "prompt": _MESSAGES,
        "chosen": _MESSAGES,
        "rejected": _MESSAGES,
        "segments": List(
            {
                "op": _TEXT,
                "tag": _TEXT,
                "rejected_start": _INT,
                "rejected_end": _INT,
                "rejected_text": _TEXT,
                "chosen_start": _INT,
                "chosen_end": _INT,
                "chosen_text": _TEXT,
                "note": _TEXT,
            }
        ),
        "provenance": {
            "outcome": _TEXT,
            "model": _MODEL,
            "chosen_model": _MODEL,
            "sampling": _SAMPLING,
            "row_layout": List(_TEXT),
            "row": _LONG,
            "created": _TEXT,
            "annotator": _TEXT,
            "app_version": _TEXT,
            "licence": _TEXT,
            "consent": Value("bool"),
            "edits": _TEXT,
            "source": _TEXT,
            "origin": _TEXT,
        },
        "ds_name": _TEXT,
        "origin_dataset": _TEXT,
        "origin_split": _TEXT,
        "idx": _LONG,
        "image_path": _TEXT,
    }
)
JUDGEMENTS = Features(
    {
        "id": _TEXT,
        "outcome": _TEXT,
        **_PICTURES,
        "prompt": _MESSAGES,
        "answers": List(
            {
                "id": _TEXT,
                "text": _TEXT,
                "history": _MESSAGES,
                "model": _MODEL,
                "sampling": _SAMPLING,
                "row_layout": List(_TEXT),
                "row": _LONG,
                "finished": Value("bool"),
                "created": _TEXT,
            }
        ),
        "flags": List(_TEXT),
        "reason": _TEXT,
        "annotator": _TEXT,
        "created": _TEXT,
        "active_seconds": Value("float64"),
        "licence": _TEXT,
        "consent": Value("bool"),
        "hints": List(
            {
                "start": _INT,
                "end": _INT,
                "score": Value("float64"),
                "kind": _TEXT,
                "source": _TEXT,
                "corrected": Value("bool"),
            }
        ),
    }
)
FEATURES = {"pairs": PAIRS, "judgements": JUDGEMENTS}


def pair_to_row(pair: PreferencePair, updated: str, shown: str, read_image: Callable[[str], bytes]) -> dict:
    """A row of the pairs. `updated` is when the revision was made, `shown` the annotator as published."""
    provenance = pair.provenance.to_row() | {"annotator": shown, "outcome": pair.outcome}
    return {
        "id": pair.id,
        "revision": pair.revision,
        "updated_at": updated,
        **_pictures(pair.prompt, read_image),
        "prompt": _messages(pair.prompt),
        "chosen": [_message("assistant", pair.chosen)],
        "rejected": [_message("assistant", pair.rejected)],
        "segments": [{**row, "tag": row["kind"], "note": None} for row in segment_rows(pair)],
        "provenance": provenance,
        **_rlhfv_columns(pair),
    }


def pair_from_row(row: dict, take_in: Callable[[bytes], str]) -> PreferencePair:
    """A pair out of a row of the pairs, with its edits from the segments; the annotator is the published name.

    Args:
        row: as it stands in a shard, images as {"bytes", "path"}.
        take_in: puts the bytes of an image among the own ones and returns its name.

    Raises:
        StudioError: the row is not a valid pair, or nobody agreed to its publication.
    """
    provenance = {name: value for name, value in (row.get("provenance") or {}).items() if value is not None}
    outcome = provenance.pop("outcome", "corrected")
    if (provenance.get("chosen_model") or {}).get("name") is None:
        provenance.pop("chosen_model", None)
    if not provenance.get("consent") or not provenance.get("licence"):
        raise InvalidData(
            "The row says nothing of a licence, or of consent to its publication.",
            "A studio only publishes what somebody agreed to, so it could not write this row again.",
            "Fill in provenance.licence and provenance.consent, or take the row out.",
        )
    if not 0 < (row.get("revision") or 1) <= MAX_REVISION:
        raise InvalidData(
            f"The revision is {row['revision']}.", f"Revisions count from 1 to {MAX_REVISION:,}.", "Set it to 1."
        )
    own = {
        "id": row.get("id"),
        **_prompt_row(row, take_in),
        "chosen": _answer_text(row, "chosen"),
        "rejected": _answer_text(row, "rejected"),
        "outcome": outcome,
        "provenance": provenance,
        "revision": row.get("revision") or 1,
    }
    if row.get("segments") is not None and outcome == "corrected":
        own["edits"] = [_edit_row(segment) for segment in row["segments"]]
    return PreferencePair.from_row(own)


def judgement_to_row(
    judgement: Judgement, answers: list[Answer], shown: str, read_image: Callable[[str], bytes]
) -> dict:
    """A row of the judgements. The prompt is that of the first answer; each has its own history."""
    return {
        **judgement.to_row(),
        **_pictures(answers[0].prompt, read_image),
        "annotator": shown,
        "prompt": _messages(answers[0].prompt),
        "answers": [
            {
                "id": answer.id,
                "text": answer.text,
                "history": _messages(answer.prompt)[:-1],
                "model": vars(answer.model),
                "sampling": vars(answer.sampling),
                "row_layout": list(answer.row_layout),
                "row": answer.row,
                "finished": answer.finished,
                "created": answer.created,
            }
            for answer in answers
        ],
    }


def judgement_from_row(row: dict, take_in: Callable[[bytes], str]) -> tuple[Judgement, list[Answer]]:
    """A judgement and its answers out of a row of the judgements.

    Raises:
        StudioError: the row is not a valid judgement.
    """
    try:
        judgement = Judgement(
            id=row["id"],
            answers=tuple(answer["id"] for answer in row["answers"]),
            outcome=row["outcome"],
            flags=tuple(row["flags"]),
            reason=row["reason"],
            annotator=row["annotator"],
            created=row["created"],
            active_seconds=row["active_seconds"],
            licence=row["licence"],
            consent=row["consent"],
            hints=tuple(ShownHint(**hint) for hint in row.get("hints") or ()),
        )
        prompt = _prompt_row(row, take_in)
        answers = []
        for answer in row["answers"]:
            require_id(answer["id"], "answer")
            for text in (answer["text"], *(message["content"] for message in [*row["prompt"], *answer["history"]])):
                require_text(text, "answer", 2 * MAX_ANSWER_CHARS)
            turns = _turns([*answer["history"], row["prompt"][-1]], prompt["turn_images"])
            answers.append(
                Answer(
                    id=answer["id"],
                    prompt=Prompt.from_dict(turns),
                    text=answer["text"],
                    model=ModelIdentity(**answer["model"]),
                    sampling=Sampling(**answer["sampling"]),
                    visitor=PULLED,
                    created=answer["created"],
                    row_layout=tuple(answer["row_layout"]),
                    row=answer["row"],
                    finished=answer["finished"],
                )
            )
        judgement.validate()
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidData(
            f"The row of the judgement {row.get('id')!r:.80} is not whole ({error!r:.80}).",
            "A judgement names its outcome, its answers and who made it.",
            "Mend the row or take it out.",
        ) from error
    return judgement, answers


def _message(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def _messages(prompt: Prompt) -> list[dict]:
    turns = [
        message
        for turn in prompt.history
        for message in (_message("user", turn.question), _message("assistant", turn.answer))
    ]
    return [*turns, _message("user", prompt.question)]


def _pictures(prompt: Prompt, read_image: Callable[[str], bytes]) -> dict:
    """The pictures with the question (from 0) at which each comes in."""
    turns = [turn.images for turn in prompt.history] + [prompt.images]
    return {
        "images": [{"bytes": read_image(name), "path": name} for name in prompt.all_images],
        "image_sha256": [PurePath(name).stem for name in prompt.all_images],
        "image_turns": [number for number, names in enumerate(turns) for _ in names],
    }


def _prompt_row(row: dict, take_in: Callable[[bytes], str]) -> dict:
    """Question, images and history of a row as a prompt has them, and the images of each turn."""
    images = row.get("images") or []
    messages = row.get("prompt") or []
    questions = (len(messages) + 1) // 2
    roles = [message["role"] for message in messages]
    if roles != ["user", "assistant"] * (questions - 1) + ["user"]:
        raise InvalidData(
            f"The prompt has the roles {', '.join(map(str, roles)) or 'of nobody'}.",
            "User and assistant take turns, and the last message is the question.",
            "Mend the prompt or take the row out.",
        )
    places = row.get("image_turns") or [0] * len(images)
    if len(places) != len(images) or any(not 0 <= place < questions for place in places):
        raise InvalidData(
            f"The row places {len(places)} images of {len(images)} at the questions {places}.",
            f"Each image comes in with one of the {questions} questions, counted from 0.",
            "Mend image_turns.",
        )
    turn_images = [[] for _ in range(questions)]
    for image, place in zip(images, places, strict=True):
        if not image or not image.get("bytes"):
            raise InvalidData(
                "An image has no bytes.",
                "A picture that lies elsewhere may change or go, so its bytes stand in the row.",
                "Put them in, or take the row out.",
            )
        turn_images[place].append(take_in(image["bytes"]))
    return _turns(messages, turn_images) | {"turn_images": turn_images}


def _turns(messages: list[dict], turn_images: list[list[str]]) -> dict:
    texts = [message["content"] for message in messages]
    history = [
        {"question": question, "answer": answer, "images": images}
        for question, answer, images in zip(texts[:-1:2], texts[1::2], turn_images, strict=False)
    ]
    return {"question": texts[-1], "images": turn_images[-1], "history": history}


def _answer_text(row: dict, name: str) -> str:
    messages = row.get(name) or []
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise InvalidData(
            f"The field '{name}' has {len(messages)} messages.",
            "It is one message of the assistant.",
            "Mend the field or take the row out.",
        )
    return messages[0]["content"]


def _edit_row(segment: dict) -> dict:
    return {
        "start": segment["rejected_start"],
        "end": segment["rejected_end"],
        "text": segment["rejected_text"],
        "replacement": segment["chosen_text"],
        "kind": segment["tag"],
    }


def _rlhfv_columns(pair: PreferencePair) -> dict:
    """As the row had them that the pair was imported from, else those of this studio."""
    names = pair.prompt.all_images
    own = {
        "ds_name": DS_NAME,
        "origin_dataset": pair.provenance.source.partition(":")[0],
        "origin_split": json.dumps({"model": pair.provenance.model.name, "type": pair.outcome}),
        "idx": int.from_bytes(hashlib.sha256(pair.id.encode()).digest()[:4], "big"),
        "image_path": names[0] if names else "",
    }
    kept, _ = recall(pair, RLHFV) or ({}, "")
    fits = {name: type(kept.get(name)) is type(value) for name, value in own.items()}
    fits["idx"] = fits["idx"] and -(2**63) <= kept["idx"] < 2**63
    return {name: kept[name] if fits[name] else value for name, value in own.items()}
