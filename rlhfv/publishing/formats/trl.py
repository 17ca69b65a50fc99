"""TRL's vision preference format: Parquet with `images`, and `prompt`, `chosen`, `rejected` as lists of messages.

Message contents are plain strings, as TRL puts the pictures before the first question by itself; lists of blocks are
read too. Beside these columns stand ours, which trainers leave alone: id, segments, outcome, provenance. Rows that a
studio published on the Hub are read with all they carry.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from rlhfv.corrections.exchange import RowProblem, datasets_features, datasets_row
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing.formats import contents
from rlhfv.publishing.formats.messages import Message, to_prompt
from rlhfv.publishing.formats.pictures import read_picture, take_in
from rlhfv.publishing.formats.reading import read_pairs
from rlhfv.publishing.formats.source import Row, open_rows
from rlhfv.publishing.formats.tables import write_table

NAME = "trl"
FILE = "train.parquet"


def recognises(columns: dict) -> bool:
    return columns.keys() >= {"prompt", "chosen", "rejected"}


def read(source: Path | str, shelf: ImageShelf, token: str | bool = False) -> Iterator[PreferencePair | RowProblem]:
    return read_pairs(open_rows(source, token), partial(_to_pair, shelf=shelf))


def write(pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    contents.require_any(pairs, lambda pair: True, "There is none.")
    return write_table((datasets_row(pair, image_path) for pair in pairs), datasets_features(), folder / FILE)


def losses(pairs: Iterable[PreferencePair]) -> list[str]:
    return contents.sentences(
        contents.count(pairs),
        (
            "later pictures",
            "pair(s) with pictures in a later turn",
            "TRL places all before the first question",
        ),
        (
            "preferred",
            "preferred pair(s)",
            "trained by TRL like corrected ones; 'outcome' tells them apart",
        ),
        ("several revisions", "pair(s) with earlier revisions", "only the newest is written"),
    )


def _to_pair(row: Row, shelf: ImageShelf) -> PreferencePair:
    columns = row.columns()
    if columns.get("image_turns") is not None:
        from rlhfv.publishing.schema import pair_from_row

        return pair_from_row(columns, lambda data: shelf.intake(data).name)
    prompt = [_message(one) for one in _messages(columns, "prompt")]
    answers = {name: _answer(columns, name) for name in ("chosen", "rejected")}
    cells = columns.get("images")
    if cells is None:
        cells = [] if columns.get("image") is None else [columns["image"]]
    cells = cells if isinstance(cells, list) else [cells]
    names = [take_in(read_picture(cell, row.folder), shelf)[0] for cell in cells]
    return PreferencePair.from_row(to_prompt(prompt, names) | answers | _own_columns(columns))


def _own_columns(columns: dict) -> dict:
    """What a row says beyond the format, if it was written here: id, outcome, provenance, and the true edits."""
    if not isinstance(columns.get("segments"), list):
        return {}
    own = {name: columns[name] for name in ("id", "outcome") if columns.get(name) is not None}
    provenance = columns.get("provenance")
    if isinstance(provenance, str):
        try:
            provenance = json.loads(provenance)
        except (ValueError, RecursionError) as error:
            raise InvalidData(
                f"The column 'provenance' is {provenance!r:.80}.", f"It is not JSON ({error}).", "Mend or remove it."
            ) from error
    own["provenance"] = provenance or {}
    edits = [_edit(segment) for segment in columns["segments"]]
    return own | ({"edits": edits} if edits or own.get("outcome") == "preferred" else {})


def _edit(segment: object) -> dict:
    if not isinstance(segment, dict):
        raise InvalidData(
            f"A segment is {segment!r:.80}.", "Each is an object with places and texts.", "Mend or remove the row."
        )
    return {
        "start": segment.get("rejected_start"),
        "end": segment.get("rejected_end"),
        "text": segment.get("rejected_text"),
        "replacement": segment.get("chosen_text"),
        "kind": segment.get("kind") or segment.get("tag"),
    }


def _messages(columns: dict, name: str) -> list:
    """The messages of a column; a text alone is one message."""
    value = columns.get(name)
    if isinstance(value, str):
        return [{"role": "user" if name == "prompt" else "assistant", "content": value}]
    if isinstance(value, list) and value:
        return value
    raise InvalidData(
        f"The column '{name}' is {value!r:.80}.",
        "It is a list of messages, each with 'role' and 'content'.",
        "Mend or remove the row.",
    )


def _answer(columns: dict, name: str) -> str:
    messages = [_message(one) for one in _messages(columns, name)]
    if len(messages) != 1 or messages[0].user or messages[0].images:
        raise InvalidData(
            f"The column '{name}' holds {len(messages)} messages.",
            "It holds one, the answer of the assistant, without pictures; what comes before stands in 'prompt'.",
            "Move the earlier messages to 'prompt', or remove the row.",
        )
    return messages[0].text


def _message(value: object) -> Message:
    role = value.get("role") if isinstance(value, dict) else None
    content = value.get("content") if isinstance(value, dict) else None
    if role not in ("user", "assistant"):
        raise InvalidData(
            f"A message has the role {role!r:.80}.",
            "Pairs here have questions ('user') and answers ('assistant') and no place for anything else.",
            "Remove the message or the row.",
        )
    if isinstance(content, str):
        return Message(role == "user", content)
    blocks = content if isinstance(content, list) else [content]
    kinds = [block.get("type") if isinstance(block, dict) else None for block in blocks]
    texts = [block.get("text") for block, kind in zip(blocks, kinds, strict=True) if kind == "text"]
    if set(kinds) - {"text", "image"} or not all(isinstance(text, str) for text in texts):
        raise InvalidData(
            f"The content of a message is {content!r:.80}.",
            "It is a text, or a list of blocks of type 'text' and 'image'.",
            "Mend or remove the row.",
        )
    return Message(role == "user", "".join(texts), kinds.count("image"))
