"""LLaMA-Factory's preference data in the sharegpt format, with the entry of `dataset_info.json` that describes it.

A row has `conversations` (`{"from", "value"}` in turns, the last one human), `chosen` and `rejected` (one message
each) and `images` (paths). `<image>` stands in the text for each picture. Where `dataset_info.json` names other
columns or tags, rows are read as it says.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import IMAGES_FOLDER, PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing.formats import contents
from rlhfv.publishing.formats.messages import Message, from_prompt, to_prompt
from rlhfv.publishing.formats.pictures import is_plain_path, read_picture, take_in
from rlhfv.publishing.formats.reading import read_pairs
from rlhfv.publishing.formats.source import Row, data_files, is_saved_dataset, open_rows, read_file

NAME = "llama-factory"
INFO = "dataset_info.json"
ENTRY = "rlhfv_studio"
FILE = "rlhfv_studio.json"
IMAGE = "<image>"
PLACES = (IMAGE, "<video>", "<audio>")

# The documented names where an entry says nothing else, under the keys that an entry has for them.
_COLUMNS = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"}
_TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
_NOT_TAKEN = ("system", "tools", "videos", "audios")


def recognises(columns: dict) -> bool:
    return columns.keys() >= {"conversations", "chosen", "rejected"}


def read(source: Path | str, shelf: ImageShelf, token: str | bool = False) -> Iterator[PreferencePair | RowProblem]:
    for rows, entry in _described(source, token):
        yield from read_pairs(rows, partial(_to_pair, shelf=shelf, entry=entry))


def write(pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    """Writes the rows, `images/` and an entry `rlhfv_studio` in `dataset_info.json`, whose other entries stay."""
    contents.require_any(pairs, _fits, f"Texts of all pairs hold {' or '.join(PLACES)} themselves.")
    (folder / IMAGES_FOLDER).mkdir(parents=True, exist_ok=True)
    entries = _read_info(folder / INFO) if (folder / INFO).exists() else {}
    temporary, count = folder / f".{FILE}", 0
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        for pair in filter(_fits, pairs):
            for name in pair.prompt.all_images:
                if not (folder / IMAGES_FOLDER / name).exists():
                    shutil.copyfile(image_path(name), folder / IMAGES_FOLDER / name)
            file.write((",\n" if count else "[\n") + json.dumps(_to_row(pair), ensure_ascii=False))
            count += 1
        file.write("\n]\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE)
    entries[ENTRY] = {"file_name": FILE, "formatting": "sharegpt", "ranking": True, "columns": _COLUMNS}
    temporary = folder / f".{INFO}"
    temporary.write_text(json.dumps(entries, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / INFO)
    return count


def losses(pairs: Iterable[PreferencePair]) -> list[str]:
    counts = contents.count(pairs, places=lambda pair: not _fits(pair), all=lambda pair: 1)
    return contents.sentences(
        counts,
        ("places", "pair(s) with '<image>' or the like in a text", "left out, since it would be taken for a picture"),
        ("corrections", "correction(s)", "their places and kinds are not written; readers find them by a diff"),
        ("preferred", "preferred pair(s)", "written like corrected ones"),
        ("all", "pair(s)", "model, annotator, licence, consent, time and sampling are not written"),
        ("several revisions", "pair(s) with earlier revisions", "only the newest is written"),
    )


def _to_row(pair: PreferencePair) -> dict:
    return {
        "conversations": [
            {"from": "human" if message.user else "gpt", "value": IMAGE * message.images + message.text}
            for message in from_prompt(pair.prompt)
        ],
        "chosen": {"from": "gpt", "value": pair.chosen},
        "rejected": {"from": "gpt", "value": pair.rejected},
        "images": [f"{IMAGES_FOLDER}/{name}" for name in pair.prompt.all_images],
    }


def _fits(pair: PreferencePair) -> bool:
    texts = [message.text for message in from_prompt(pair.prompt)] + [pair.chosen, pair.rejected]
    return not any(place in text for text in texts for place in PLACES)


# ---- reading


def describes(folder: Path) -> bool:
    """Whether a folder has a `dataset_info.json` of LLaMA-Factory: `datasets` has another file of that name."""
    if not (folder / INFO).is_file() or is_saved_dataset(folder):
        return False
    try:
        return bool(_entries(folder))
    except InvalidData:
        return False


def _described(source: Path | str, token: str | bool) -> Iterator[tuple[Iterator[Row], dict]]:
    """The rows of each file with the entry that describes them. Pictures are named from the folder of the entries."""
    if isinstance(source, Path) and source.is_dir() and describes(source):
        for place, entry in _entries(source):
            for file in data_files(place):
                yield _from_folder(read_file(file, file.relative_to(source).as_posix()), source), entry
        return
    entry: dict = {}
    if isinstance(source, Path) and source.is_file() and describes(source.parent):
        entry = next((entry for file, entry in _entries(source.parent) if file == source), {})
    yield open_rows(source, token), entry


def _from_folder(rows: Iterator[Row], folder: Path) -> Iterator[Row]:
    return (replace(row, folder=folder) for row in rows)


def _entries(folder: Path) -> list[tuple[Path, dict]]:
    """File and description of the preference data in the sharegpt format that lie in the folder."""
    return [
        (folder / entry["file_name"], entry)
        for entry in _read_info(folder / INFO).values()
        if isinstance(entry, dict)
        and entry.get("formatting") == "sharegpt"
        and entry.get("ranking") is True
        and isinstance(entry.get("file_name"), str)
        and is_plain_path(entry["file_name"])
        and (folder / entry["file_name"]).exists()
    ]


def _read_info(file: Path) -> dict:
    try:
        info = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidData(f"{INFO} could not be read.", f"{error}.", "Mend it, or choose another folder.") from error
    if not isinstance(info, dict):
        raise InvalidData(f"{INFO} holds no entries.", "It is an object, one entry a dataset.", "Mend it.")
    return info


def _to_pair(row: Row, shelf: ImageShelf, entry: dict) -> PreferencePair:
    columns, names, tags = row.columns(), _names(entry, "columns", _COLUMNS), _names(entry, "tags", _TAGS)
    for name in _NOT_TAKEN:
        if columns.get(names.get(name, name)):
            raise InvalidData(
                f"The row has {name}: {columns[names.get(name, name)]!r:.80}.",
                "A pair here has questions, answers and pictures and no place for anything else.",
                f"Remove the column '{names.get(name, name)}' where it may go, or the row.",
            )
    messages = columns.get(names["messages"])
    if not isinstance(messages, list):
        raise InvalidData(
            f"The column '{names['messages']}' is {messages!r:.80}.",
            "It is a list of messages.",
            "Mend or remove the row.",
        )
    answers = {name: _answer(columns.get(names[name]), names[name], tags) for name in ("chosen", "rejected")}
    cells = columns.get(names["images"])
    cells = cells if isinstance(cells, list) else [] if cells is None else [cells]
    images = [take_in(read_picture(cell, row.folder), shelf)[0] for cell in cells]
    prompt = to_prompt([_message(message, tags) for message in messages], images)
    return PreferencePair.from_row(prompt | answers)


def _names(entry: dict, part: str, default: dict) -> dict:
    named = entry.get(part)
    said = named.items() if isinstance(named, dict) else ()
    return default | {key: value for key, value in said if isinstance(value, str)}


def _answer(value: object, column: str, tags: dict) -> str:
    if not isinstance(value, dict):
        raise InvalidData(
            f"The column '{column}' is {value!r:.80}.",
            f"It is one message with '{tags['role_tag']}' and '{tags['content_tag']}', not a list.",
            "Mend or remove the row.",
        )
    message = _message(value, tags)
    if message.user or message.images:
        raise InvalidData(
            f"The answer in '{column}' " + ("is a question." if message.user else f"holds {IMAGE}."),
            f"It is said by '{tags['assistant_tag']}', and pictures stand in questions.",
            "Mend or remove the row.",
        )
    return message.text


def _message(value: object, tags: dict) -> Message:
    role = value.get(tags["role_tag"]) if isinstance(value, dict) else None
    text = value.get(tags["content_tag"]) if isinstance(value, dict) else None
    if role not in (tags["user_tag"], tags["assistant_tag"]):
        raise InvalidData(
            f"A message is from {role!r:.80}.",
            f"Messages are from '{tags['user_tag']}' or '{tags['assistant_tag']}'; pairs have no place for others.",
            "Remove the message or the row.",
        )
    if not isinstance(text, str) or any(place in text for place in PLACES[1:]):
        raise InvalidData(
            f"A message says {text!r:.80}.",
            f"'{tags['content_tag']}' holds a text, with {IMAGE} for each picture and nothing for other media.",
            "Mend or remove the row.",
        )
    images = text.count(IMAGE)
    # A break between the place and the text belongs to the place.
    return Message(role == tags["user_tag"], text.replace(IMAGE, "").strip("\n") if images else text, images)
