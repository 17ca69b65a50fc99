"""What the tables of RLHF-V and RLAIF-V have in common: one picture a row, and columns that tell its origin."""

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rlhfv.corrections.conversation import ModelIdentity
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import MAX_NOTE_CHARS, UNKNOWN_MODEL, PreferencePair, Provenance
from rlhfv.errors import InvalidData, NotFound
from rlhfv.publishing.formats import contents, origin
from rlhfv.publishing.formats.pictures import MAX_PATH_CHARS, read_picture, take_in
from rlhfv.publishing.formats.reading import make_pair
from rlhfv.publishing.formats.source import Row
from rlhfv.publishing.formats.tables import find_features, fit, write_table

DS_NAME = "rlhfv-studio"
TEXTS = ("question", "chosen", "rejected")


def to_pair(
    row: Row, shelf: ImageShelf, format: str, texts: dict, held: tuple[str, ...] = (), by_model: bool = False
) -> PreferencePair:
    """The pair of a row with these texts. `held` are the columns that the texts give back, `by_model` says that a
    model wrote the chosen answer too.
    """
    columns = row.columns()
    name, original = take_in(_picture(columns, row.folder), shelf)
    model = read_model(columns.get("origin_split"))
    kept = columns | dict.fromkeys(held)
    if "image" in columns:
        kept["image"] = _picture_path(columns["image"])
    provenance = Provenance(
        model=model,
        source=_note(columns.get("origin_dataset")),
        edits="inferred",
        chosen_model=model if by_model else None,
        origin=origin.keep(format, kept, original),
    )
    return make_pair(texts["question"], texts["chosen"], texts["rejected"], name, provenance)


def _picture(columns: dict, folder: Path | None) -> bytes:
    """`image` is the picture or its path; where it is neither, the first generation has a path in `image_path`."""
    try:
        return read_picture(columns.get("image"), folder)
    except InvalidData:
        with suppress(InvalidData):
            return read_picture(columns.get("image_path"), folder)
        raise


def _picture_path(cell: object) -> object:
    """What a cell holds beside the bytes: a path, or None."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    return path if isinstance(path, str) and len(path) <= MAX_PATH_CHARS and not path.startswith("data:") else None


def read_model(origin_split: object) -> ModelIdentity:
    """The model that `origin_split` names, JSON, in the first generation in base64; unknown if it does not."""
    named = origin_split
    if isinstance(origin_split, str):
        named = _parse(origin_split)
        if named is None:
            with suppress(binascii.Error, ValueError):
                named = _parse(base64.b64decode(origin_split, validate=True).decode())
    if not isinstance(named, dict) or not isinstance(named.get("model"), str) or not named["model"]:
        return UNKNOWN_MODEL
    adapter = named.get("adapter")
    revision = _note(named.get("revision")) or UNKNOWN_MODEL.revision
    return ModelIdentity(_note(named["model"]), revision, _note(adapter) or None)


def _parse(text: str) -> object:
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _note(value: object) -> str:
    return value[:MAX_NOTE_CHARS] if isinstance(value, str) else ""


def fits(pair: PreferencePair) -> bool:
    """Whether a row can say what the pair says: one question about one picture."""
    return not pair.prompt.history and len(pair.prompt.images) == 1


def columns_of(pair: PreferencePair, number: int, texts: dict) -> dict:
    """The columns of a pair that was not read from such a row."""
    model = pair.provenance.model
    named = {"model": model.name, "revision": model.revision, "adapter": model.adapter, "type": "unknown"}
    (image,) = pair.prompt.images
    return {
        "ds_name": DS_NAME,
        "image": image,
        **texts,
        "origin_dataset": pair.provenance.source,
        "origin_split": json.dumps(named),
        "idx": number,
        "image_path": image,
    }


def write_rows(
    pairs: Iterable[PreferencePair],
    file: Path,
    image_path: Callable[[str], Path],
    to_row: Callable[[PreferencePair, int], dict],
    format: str,
) -> int:
    """Writes those pairs that fit as a Parquet file with a column `image`; returns how many.

    `to_row` gives the columns of a pair, `image` being the path in the cell. Goes through `pairs` twice.
    """

    def rows() -> Iterator[tuple[PreferencePair, dict]]:
        fitting = (pair for pair in pairs if fits(pair))
        for number, pair in enumerate(fitting):
            row = to_row(pair, number)
            path = row.get("image")
            yield pair, row | {"image": path if isinstance(path, str) else None}

    contents.require_any(pairs, fits, "A row has one question about one picture.")
    features = find_features((row for _, row in rows()), "image")

    def with_pictures() -> Iterator[dict]:
        for pair, row in rows():
            cells = {name: fit(row.get(name), feature) for name, feature in features.items()}
            picture = picture_bytes(pair, image_path, format)
            yield cells | {"image": {"bytes": picture, "path": row["image"]}}

    return write_table(with_pictures(), features, file)


def picture_bytes(pair: PreferencePair, image_path: Callable[[str], Path], format: str) -> bytes:
    """The picture of the pair; as it came, where the pair came in this format and its original is here."""
    recalled = origin.recall(pair, format)
    if recalled and recalled[1]:
        with suppress(NotFound, OSError):
            return image_path(recalled[1]).read_bytes()
    return image_path(pair.prompt.images[0]).read_bytes()


def losses(pairs: Iterable[PreferencePair], format: str) -> list[str]:
    """What rows of these columns cannot say about the pairs."""
    counts = contents.count(
        pairs,
        own=lambda pair: origin.recall(pair, format) is None,
        joined=lambda pair: not pair.prompt.history and len(pair.prompt.all_images) > 1,
    )
    return contents.sentences(
        counts,
        ("history", "pair(s) with earlier turns", "left out, since a row has one question"),
        ("joined", "pair(s) with several pictures", "left out, since a row has one picture"),
        ("no picture", "pair(s) without a picture", "left out, since every row has one"),
        ("corrections", "correction(s)", "their places and kinds are not written; readers find them by a diff"),
        ("preferred", "preferred pair(s)", "written like corrected ones"),
        ("own", "pair(s) not from this format", "annotator, licence, consent, time and sampling are not written"),
        ("several revisions", "pair(s) with earlier revisions", "only the newest is written"),
    )
