"""A recorded comparison: a folder with a picture, and with what was said about it, by whom, when and from where.

    comparison.json   see `Recorded`
    <sha256>.png      the picture, named by its bytes

The page opens on such a folder before any model is loaded. What is shown as recorded was recorded: the reader refuses
a folder that does not say by whom and whence, and a picture that is another one than that which was asked about.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.images import clean_image
from rlhfv.errors import InvalidData, InvalidImage

FILE = "comparison.json"
FOLDER = "recorded"
"""Beside the program: where a Space has its own."""
VERSION = 1
MAX_TEXT = 4000
MAX_PICTURE_BYTES = 5 * 1024 * 1024
MAX_RECORDED = 12
PICTURE = re.compile(r"([0-9a-f]{64})\.(png|jpg|webp)")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Saying:
    """One side. `voice` is what people call it; `model` its identity, "" where people corrected the other answer."""

    voice: str
    model: str
    text: str


@dataclass(frozen=True)
class Source:
    """Where the picture is from. `name` is a data set or whatever else names it, `revision` the commit of a data set,
    `row` the number of its row from 1, `origin` where the data set has it from. `author` is "" where none is named.
    """

    name: str
    licence: str
    author: str = ""
    revision: str = ""
    row: int = 0
    origin: str = ""


@dataclass(frozen=True)
class Recorded:
    """`day` is when it was recorded, or taken out of a data set (YYYY-MM-DD). `scene` names a drawn scene whose truth
    is known, "" for any other picture. `sampling` is None where it is not known. `picture` is the file beside it.
    """

    picture: str
    question: str
    left: Saying
    right: Saying
    day: str
    source: Source
    scene: str = ""
    sampling: Sampling | None = None

    @property
    def by_people(self) -> bool:
        """Whether the right side is the left answer as people corrected it."""
        return not self.right.model


def write_recorded(recorded: Recorded, picture: bytes, folder: Path) -> Path:
    """Writes the comparison with its picture, cleaned, into a new folder; returns that folder.

    Raises:
        InvalidData: the folder is there already, or the comparison is none that `read_recorded` takes.
        InvalidImage: the picture is none.
    """
    if folder.exists():
        raise InvalidData(
            f"'{folder}' is there already.", "A recording is a folder of its own, never mixed.", "Name a new one."
        )
    data, suffix, _ = clean_image(picture)
    name = f"{hashlib.sha256(data).hexdigest()}.{suffix}"
    document = {"v": VERSION, **asdict(recorded), "picture": name}
    _check(_parse(document, str(folder)), data)
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    (folder / FILE).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def read_recorded(folder: Path) -> Recorded:
    """The comparison of a folder. Raises `InvalidData` for one that cannot be shown as recorded, with what lacks."""
    try:
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(
            f"There is no {FILE} in '{folder}'.",
            f"It says what was recorded ({error.strerror}).",
            "Name a folder that `python -m rlhfv record` wrote.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise _refused(folder, f"{FILE} is no JSON ({error}).") from error
    recorded = _parse(document, str(folder))
    try:
        with (folder / recorded.picture).open("rb") as file:
            data = file.read(MAX_PICTURE_BYTES + 1)
    except OSError as error:
        raise _refused(folder, f"Its picture {recorded.picture} cannot be read ({error.strerror}).") from error
    _check(recorded, data, str(folder))
    return recorded


def find_recorded(folder: Path) -> list[Path]:
    """The folders of recordings in `folder`, by name; `folder` itself where it is one. At most `MAX_RECORDED`.

    Raises `InvalidData` where there is none.
    """
    if (folder / FILE).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{FILE}"))
    if not found:
        raise InvalidData(
            f"'{folder}' holds no recorded comparison.",
            f"One is a folder with {FILE} and a picture.",
            "Make one with `python -m rlhfv record`, or name another folder.",
        )
    return found[:MAX_RECORDED]


def credit(source: Source) -> str:
    """One sentence: whose picture it is."""
    if source.revision:
        where = f"{source.name} at commit {source.revision[:12]}, row {source.row}"
        origin = f", there from {source.origin}" if source.origin else ""
        return f"Picture from {where}{origin} ({source.licence}; author: {source.author or 'not named there'})."
    author = f" by {source.author}" if source.author else ""
    return f"Picture: {source.name}{author} ({source.licence})."


def _parse(document: object, where: str) -> Recorded:
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise _refused(where, f"{FILE} is of no version that is known here.")
    try:
        sampling, source = document["sampling"], document["source"]
        return Recorded(
            picture=_text(document["picture"]),
            question=_text(document["question"]),
            left=Saying(**{name: _text(document["left"][name]) for name in ("voice", "model", "text")}),
            right=Saying(**{name: _text(document["right"][name]) for name in ("voice", "model", "text")}),
            day=_text(document["day"]),
            source=Source(**{name: int(value) if name == "row" else _text(value) for name, value in source.items()}),
            scene=_text(document["scene"]),
            sampling=None if sampling is None else Sampling(**sampling),
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise _refused(where, f"{FILE} lacks a field, or has one that does not belong there ({error}).") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _is_day(text: str) -> bool:
    try:
        return bool(DAY.fullmatch(text) and date.fromisoformat(text))
    except ValueError:
        return False


def _check(recorded: Recorded, picture: bytes, where: str = "") -> None:
    source = recorded.source
    texts = (recorded.question, recorded.left.text, recorded.right.text)
    named = PICTURE.fullmatch(recorded.picture)
    reasons = (
        (not all(text.strip() for text in texts), "The question or an answer is empty."),
        (max(map(len, texts)) > MAX_TEXT, f"A text has more than {MAX_TEXT:,} characters."),
        (recorded.left.text.strip() == recorded.right.text.strip(), "Both answers are the same."),
        (not (recorded.left.voice.strip() and recorded.right.voice.strip()), "A side has no name."),
        (not recorded.left.model.strip(), "It does not say which model answered on the left."),
        (not _is_day(recorded.day), f"It was recorded on {recorded.day!r:.20}, which is no day (YYYY-MM-DD)."),
        (not source.name.strip(), "It does not say where the picture is from."),
        (not source.licence.strip(), "It does not say under which licence the picture may be shown."),
        (len(picture) > MAX_PICTURE_BYTES, f"The picture has more than {MAX_PICTURE_BYTES // 2**20} MB."),
        (
            named is None or hashlib.sha256(picture).hexdigest() != named[1],
            "The picture is another one than that which was recorded: its name is not the sha256 of its bytes.",
        ),
    )
    for wrong, reason in reasons:
        if wrong:
            raise _refused(where, reason)
    try:
        clean_image(picture)
    except InvalidImage as error:
        raise _refused(where, f"{error.what} {error.why}") from error


def _refused(where: object, reason: str) -> InvalidData:
    return InvalidData(
        f"The recorded comparison{f' in {str(where)!r}' if str(where) else ''} cannot be shown.",
        reason,
        "Record it again with `python -m rlhfv record`, or leave it out.",
    )
