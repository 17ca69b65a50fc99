"""Pairs out of the studio and into it: a folder of JSONL with images, and a `datasets` folder."""

import os
import secrets
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlhfv.corrections.images import MAX_BYTES, ImageShelf
from rlhfv.corrections.lines import parse_lines, read_lines
from rlhfv.corrections.pairs import IMAGES_FOLDER, PAIRS_FILE, PreferencePair, dump_row, pairs_file
from rlhfv.errors import InvalidData, NotFound, StudioError

MAX_JSONL_BYTES = 512 * 1024 * 1024
# What reading an archive raises that is damaged, locked or packed in another way (RuntimeError: it needs a password).
_UNPACKABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)


@dataclass(frozen=True)
class RowProblem:
    """A row that was not taken: its number in the file, from 1, and the three parts of the reason. `file` is named
    where there are several; row 0 stands for a file that could not be read.
    """

    row: int
    what: str
    why: str
    fix: str
    file: str = ""

    def __str__(self) -> str:
        place = " of ".join(filter(None, [f"Row {self.row}" if self.row else "", self.file])) or "The file"
        return f"{place}: {self.what} {self.why} {self.fix}"


def export_pairs(pairs: Iterable[PreferencePair], folder: str | Path, image_path: Callable[[str], Path]) -> int:
    """Writes `pairs.jsonl` and `images/` into the folder, made if need be; returns the number of pairs.

    The same pairs give the same bytes. `pairs.jsonl` appears complete or not at all.
    """
    folder = Path(folder)
    (folder / IMAGES_FOLDER).mkdir(parents=True, exist_ok=True)
    temporary, count = folder / f".{PAIRS_FILE}", 0
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        for pair in pairs:
            for name in pair.prompt.all_images:
                target = folder / IMAGES_FOLDER / name
                if not target.exists():
                    shutil.copyfile(image_path(name), target)
            file.write(dump_row(pair.to_row()) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / PAIRS_FILE)
    return count


def read_pairs(path: str | Path, shelf: ImageShelf) -> Iterator[PreferencePair | RowProblem]:
    """Reads an export, or a file made elsewhere, row by row: good rows become pairs, bad rows are told with a reason.

    `path` is a JSONL file with `images/` beside it, a folder or a zip file of both. Images are cleaned and put on the
    shelf; the pairs name them as they are there.

    Raises:
        InvalidData: the file cannot be read at all.
    """
    with _open_source(Path(path)) as (lines, read_image):
        ids: set[str] = set()
        names: dict[str, str] = {}

        def take_in(name: str) -> str:
            if name not in names:
                names[name] = _take_in(name, read_image, shelf)
            return names[name]

        for number, row in parse_lines(lines):
            try:
                if isinstance(row, StudioError):
                    raise row
                pair = PreferencePair.from_row(_with_stored_images(row, take_in))
                if pair.id in ids:
                    raise InvalidData(
                        f"The id {pair.id} stands for an earlier row already.",
                        "An id names one pair.",
                        "Remove the row, or give it an id of its own.",
                    )
            except StudioError as error:
                yield RowProblem(number, error.what, error.why, error.fix)
            else:
                ids.add(pair.id)
                yield pair


def _with_stored_images(row: object, take_in: Callable[[str], str]) -> object:
    """The row with its images named as on the shelf; what is no list of names is left for the validation to tell."""
    if not isinstance(row, dict):
        return row
    stored = dict(row)
    if isinstance(row.get("images"), list):
        stored["images"] = [take_in(name) if isinstance(name, str) else name for name in row["images"]]
    if isinstance(row.get("history"), list):
        stored["history"] = [_with_stored_images(turn, take_in) for turn in row["history"]]
    return stored


def _take_in(name: str, read_image: Callable[[str], bytes | None], shelf: ImageShelf) -> str:
    plain = name.removeprefix(f"{IMAGES_FOLDER}/")
    if not plain or plain.startswith(".") or any(mark in plain for mark in "/\\\0:"):
        raise InvalidData(
            f"The image is named {name!r:.80}.",
            f"Images lie in the folder '{IMAGES_FOLDER}' beside the file, under a plain name.",
            "Put the image there and give its name.",
        )
    data = read_image(plain)
    if data is not None:
        return shelf.intake(data).name
    try:
        return shelf.path(plain).name
    except NotFound:
        raise InvalidData(
            f"The image {plain!r:.80} is missing.",
            f"It is neither in the folder '{IMAGES_FOLDER}' nor among the images stored here.",
            "Put it there and import again.",
        ) from None


@contextmanager
def _open_source(path: Path) -> Iterator[tuple[Iterable[bytes], Callable[[str], bytes | None]]]:
    """The lines of the pairs, and a function from an image's plain name to its bytes (None: no such image)."""
    if not (path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))):
        file = pairs_file(path)

        def read_file(name: str) -> bytes | None:
            image = file.parent / IMAGES_FOLDER / name
            try:
                if not image.is_file():
                    return None
                with image.open("rb") as opened:
                    return opened.read(MAX_BYTES + 1)
            except OSError as error:
                raise InvalidData(
                    f"The image {name!r:.80} could not be read.",
                    f"{error.strerror}.",
                    "Check its name and its rights.",
                ) from error

        yield read_lines(file), read_file
        return
    try:
        archive = zipfile.ZipFile(path)
    except (*_UNPACKABLE, OSError) as error:
        raise _not_unpacked(path.name, error) from error
    with archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        found = min((name for name in entries if Path(name).name == PAIRS_FILE), key=len, default=None)
        if found is None or entries[found].file_size > MAX_JSONL_BYTES:
            raise InvalidData(
                f"{path.name} holds no {PAIRS_FILE}." if found is None else f"{PAIRS_FILE} is too large.",
                f"An export holds {PAIRS_FILE} (up to {MAX_JSONL_BYTES // 2**20} MB) and a folder '{IMAGES_FOLDER}'.",
                "Choose another file, or split it.",
            )
        base = found.removesuffix(PAIRS_FILE)

        def read_member(name: str) -> bytes | None:
            entry = entries.get(f"{base}{IMAGES_FOLDER}/{name}")
            if entry is None:
                return None
            try:
                with archive.open(entry) as opened:
                    return opened.read(MAX_BYTES + 1)
            except _UNPACKABLE as error:
                raise _not_unpacked(f"The image {name!r:.80}", error) from error

        try:
            with archive.open(found) as lines:
                yield lines, read_member
        except _UNPACKABLE as error:
            raise _not_unpacked(path.name, error) from error


def _not_unpacked(what: str, error: Exception) -> InvalidData:
    return InvalidData(
        f"{what} could not be unpacked.", f"{error!s:.200}.", "Pack the archive again, without a password."
    )


def export_datasets(pairs: Iterable[PreferencePair], folder: str | Path, image_path: Callable[[str], Path]) -> Path:
    """Writes a folder for `datasets.load_from_disk`, with the images inside; returns it.

    Raises InvalidData when there is no pair.
    """
    from datasets import Dataset

    folder = Path(folder)
    rows = list(pairs)
    if not rows:
        raise InvalidData("There is no pair to export.", "A dataset has at least one row.", "Choose other pairs.")
    with tempfile.TemporaryDirectory() as cache:
        dataset = Dataset.from_generator(
            lambda: (datasets_row(pair, image_path) for pair in rows),
            features=datasets_features(),
            cache_dir=cache,
            fingerprint=secrets.token_hex(8),
        )
        dataset.save_to_disk(folder)
        del dataset
    return folder


def datasets_features():
    """The `datasets.Features` of `datasets_row`."""
    from datasets import Features, Image, List, Value

    text, number = Value("string"), Value("int32")
    messages = List({"role": text, "content": text})
    span = {
        f"{side}_{part}": text if part == "text" else number
        for side in ("rejected", "chosen")
        for part in ("start", "end", "text")
    }
    return Features(
        {
            "id": text,
            "revision": number,
            "images": List(Image()),
            "image_names": List(text),
            "prompt": messages,
            "chosen": messages,
            "rejected": messages,
            "segments": List({"op": text, "kind": text} | span),
            "outcome": text,
            "provenance": text,
        }
    )


def datasets_row(pair: PreferencePair, image_path: Callable[[str], Path]) -> dict:
    """A pair as a row with its images inside.

    `images`, `prompt`, `chosen` and `rejected` (message lists) are what TRL's preference trainers read. `segments`
    names each corrected span on both sides in code points of the answers, with the text it covers.
    """
    turns = [
        message
        for turn in pair.prompt.history
        for message in ({"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer})
    ]
    names = pair.prompt.all_images
    return {
        "id": pair.id,
        "revision": pair.revision,
        "images": [{"bytes": image_path(name).read_bytes(), "path": name} for name in names],
        "image_names": list(names),
        "prompt": [*turns, {"role": "user", "content": pair.prompt.question}],
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "segments": segment_rows(pair),
        "outcome": pair.outcome,
        "provenance": dump_row(pair.provenance.to_row()),
    }


def segment_rows(pair: PreferencePair) -> list[dict]:
    """The corrected spans on both sides, in code points, each with the text that it covers."""
    answer, rows = pair.corrected_answer, []
    for edit, old, new in zip(answer.edits, answer.original_segments, answer.corrected_segments, strict=True):
        rows.append(
            {
                "op": "insert" if edit.start == edit.end else "replace" if edit.replacement else "delete",
                "kind": edit.kind,
                "rejected_start": old.start,
                "rejected_end": old.end,
                "rejected_text": pair.rejected[old.start : old.end],
                "chosen_start": new.start,
                "chosen_end": new.end,
                "chosen_text": pair.chosen[new.start : new.end],
            }
        )
    return rows
