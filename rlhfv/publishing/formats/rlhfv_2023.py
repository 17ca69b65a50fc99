"""RLHF-V-Dataset as it came out first, in December 2023: JSON lines with the pictures beside them.

Columns: dataset_name, image (a path, or base64), text (the three texts, as an object or a list), origin_dataset,
origin_split (base64 of JSON with "model"), origin_split_inner_idx, image_path.
"""

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import IMAGES_FOLDER, PreferencePair, dump_row
from rlhfv.publishing.formats import contents, openbmb, origin
from rlhfv.publishing.formats.pictures import is_plain_path
from rlhfv.publishing.formats.reading import read_pairs
from rlhfv.publishing.formats.rlhfv import read_texts, write_texts
from rlhfv.publishing.formats.source import Row, open_rows

NAME = "rlhf-v-2023"
FILE = "RLHF-V-Dataset.jsonl"


def recognises(columns: dict) -> bool:
    return columns.keys() >= {"dataset_name", "text"}


def read(source: Path | str, shelf: ImageShelf, token: str | bool = False) -> Iterator[PreferencePair | RowProblem]:
    return read_pairs(open_rows(source, token), partial(_to_pair, shelf=shelf))


def write(pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    contents.require_any(pairs, openbmb.fits, "A row has one question about one picture.")
    folder.mkdir(parents=True, exist_ok=True)
    temporary, count = folder / f".{FILE}", 0
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        for pair in pairs:
            if openbmb.fits(pair):
                picture = openbmb.picture_bytes(pair, image_path, NAME)
                file.write(dump_row(_with_picture(_to_row(pair, count), pair, picture, folder)) + "\n")
                count += 1
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE)
    return count


def losses(pairs: Iterable[PreferencePair]) -> list[str]:
    return openbmb.losses(pairs, NAME)


def _to_pair(row: Row, shelf: ImageShelf) -> PreferencePair:
    return openbmb.to_pair(row, shelf, NAME, read_texts(_plain(row.columns().get("text"))))


def _to_row(pair: PreferencePair, number: int) -> dict:
    texts = {"question": pair.prompt.question, "chosen": pair.chosen, "rejected": pair.rejected}
    recalled = origin.recall(pair, NAME)
    if recalled is not None:
        columns, _ = recalled
        known = columns.get("text")
        same = write_texts(texts, _plain(known)) == _plain(known)
        return columns | {"text": known if same else texts}
    row = openbmb.columns_of(pair, number, {"text": texts})
    path = f"{IMAGES_FOLDER}/{pair.prompt.images[0]}"
    return {
        "dataset_name": row["ds_name"],
        "image": path,
        "text": texts,
        "origin_dataset": row["origin_dataset"],
        "origin_split": base64.b64encode(row["origin_split"].encode()).decode(),
        "origin_split_inner_idx": str(number),
        "image_path": path,
    }


def _plain(text: object) -> object:
    """The column `text` without the base64 that the training tables wrapped around it."""
    if isinstance(text, str) and not text.lstrip().startswith(("{", "[")):
        try:
            return base64.b64decode(text, validate=True).decode()
        except (binascii.Error, ValueError):
            return text
    return text


def _with_picture(row: dict, pair: PreferencePair, picture: bytes, folder: Path) -> dict:
    """Puts the picture into the row, or where the row says that it lies; the path is another one when a different
    picture lies there.
    """
    if "image" in row and row["image"] is None:
        return row | {"image": base64.b64encode(picture).decode()}
    for path in (row.get("image"), row.get("image_path")):
        is_file = isinstance(path, str) and is_plain_path(path) and PurePosixPath(path).suffix
        if is_file and _put(folder / path, picture):
            return row
    path = f"{IMAGES_FOLDER}/{pair.prompt.images[0]}"
    _put(folder / path, picture)
    return row | {"image": path}


def _put(file: Path, picture: bytes) -> bool:
    """Writes a picture unless it is there; False when another one is."""
    if file.exists():
        return file.is_file() and file.read_bytes() == picture
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(picture)
    return True
