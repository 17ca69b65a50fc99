"""Recorded comparisons out of a published data set: a photograph, what a model said about it, and the same answer as
people corrected it. They need no model and no GPU, and each says from which row of which commit it is.
"""

import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rlhfv.corrections.edits import from_texts
from rlhfv.corrections.images import clean_image
from rlhfv.corrections.pairs import UNKNOWN_MODEL
from rlhfv.corrections.recorded import (
    FILE,
    FOLDER,
    MAX_RECORDED,
    Recorded,
    Saying,
    Source,
    find_recorded,
    read_recorded,
    write_recorded,
)
from rlhfv.errors import InvalidData, StudioError
from rlhfv.publishing.formats import openbmb, rlhfv
from rlhfv.publishing.formats.pictures import read_picture
from rlhfv.publishing.formats.source import Row, open_rows

if TYPE_CHECKING:
    from rlhfv.publishing.hub import Hub

DATASET = "openbmb/RLHF-V-Dataset"
"""RLHF-V's own: the rejected answer is a model's, the chosen one is that answer as people corrected it."""
COUNT = 3
LOOKED_AT = 400
"""Rows that are looked at, at most, for photographs that fit a first screen."""
BY_PEOPLE = "The same answer, corrected by people"
COMMIT = re.compile(r"[0-9a-f]{40}")
NO_PHOTOGRAPHS = ("wikiart",)
MIN_WORDS, MAX_WORDS = 8, 60
MIN_SIDE, MAX_BYTES = 240, 1_500_000


def fetch_photographs(hub: "Hub", dataset: str, count: int, folder: Path) -> list[Recorded]:
    """Writes the first comparisons of the data set that fit into `folder`, each a folder of its own: "1", "2", …

    Args:
        dataset: owner/name, owner/name@commit or owner/name@branch, with the columns of RLHF-V-Dataset; without a
            commit the newest one, and each recording says which that is.

    Raises:
        InvalidData: there is no such data set, it names no licence, or none of its first rows fits.
    """
    if not 1 <= count <= MAX_RECORDED:
        raise InvalidData(
            f"{count} photographs were asked for.", f"A page shows 1 to {MAX_RECORDED}.", "Ask for fewer."
        )
    id, _, named = dataset.partition("@")
    commit = named if COMMIT.fullmatch(named) else hub.head(id, revision=named or None) or ""
    if not commit:
        raise InvalidData(
            f"There is no data set {id!r:.80} on the Hub.", "Or it is private.", "Check the name and its owner."
        )
    licence = _read_licence(hub, id, commit)
    found: list[Recorded] = []
    for number, row in enumerate(open_rows(f"{id}@{commit}"), 1):
        if isinstance(row.values, StudioError):  # the data set, or the way to it, ends here
            if not found:
                raise row.values
            break
        source = Source(id, licence, revision=commit, row=number)
        try:
            recorded, picture = _to_recorded(row, source)
        except StudioError:  # a row that cannot be read is no photograph to show; the next may be
            recorded = None
        if recorded is not None:
            write_recorded(recorded, picture, folder / str(len(found) + 1))
            found.append(recorded)
        if len(found) == count or number == LOOKED_AT:
            break
    if not found:
        raise InvalidData(
            f"None of the first rows of {id} can open the page.",
            f"It takes a picture of at least {MIN_SIDE} pixels, an answer of {MIN_WORDS} to {MAX_WORDS} words by a "
            "model that is named, and a correction that keeps half of it, in the columns of RLHF-V-Dataset.",
            f"Name a data set like {DATASET}.",
        )
    return found


def _to_recorded(row: Row, source: Source) -> tuple[Recorded | None, bytes]:
    columns = row.columns()
    texts = {name: rlhfv.read_texts(columns.get("text"))[name].strip() for name in openbmb.TEXTS}
    model, origin = openbmb.read_model(columns.get("origin_split")), columns.get("origin_dataset")
    origin = origin if isinstance(origin, str) else ""
    if model == UNKNOWN_MODEL or any(name in origin.lower() for name in NO_PHOTOGRAPHS) or not _fit_a_screen(texts):
        return None, b""
    data, _, size = clean_image(read_picture(columns.get("image"), row.folder))
    if min(size) < MIN_SIDE or len(data) > MAX_BYTES:
        return None, b""
    recorded = Recorded(
        picture="",
        question=texts["question"],
        left=Saying(model.name, model.name, texts["rejected"]),
        right=Saying(BY_PEOPLE, "", texts["chosen"]),
        day=datetime.now(UTC).date().isoformat(),
        source=replace(source, origin=origin),
    )
    return recorded, data


def _fit_a_screen(texts: dict[str, str]) -> bool:
    """Whether both answers can be taken in at a glance, and the correction left most of the answer as it was."""
    rejected, chosen = texts["rejected"], texts["chosen"]
    if not all(MIN_WORDS <= len(text.split()) <= MAX_WORDS for text in (rejected, chosen)):
        return False
    if not 0 < len(texts["question"]) <= 160 or "<image>" in texts["question"]:
        return False
    changed = sum(edit.end - edit.start for edit in from_texts(rejected, chosen))
    return rejected != chosen and changed <= len(rejected) / 2


def _read_licence(hub: "Hub", id: str, commit: str) -> str:
    from huggingface_hub import DatasetCard

    with tempfile.TemporaryDirectory() as folder:
        card = hub.download(id, "README.md", commit, Path(folder))
        licence = DatasetCard.load(card, ignore_metadata_errors=True).data.get("license")
    if not licence:
        raise InvalidData(
            f"The card of {id} names no licence.",
            "Nobody knows then whether its photographs may be shown.",
            "Name a data set whose card does.",
        )
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence)


# ---- what a Space is given


def choose_for_space(
    hub: "Hub",
    repo: str,
    head: str | None,
    present: dict,
    own: Path | None,
    dataset: str | None,
    dry: bool,
    says: Callable,
) -> dict[str, bytes]:
    """Path in the Space → content, of the recordings that it shall hold.

    `own` is a folder of the deployer's recordings; `dataset` one to take photographs from, "none" for no photographs,
    None to keep those that are `present` at the commit `head` of a Space, and to take some of `DATASET` for a new one.
    Photographs that nobody asked for and that cannot be had are no reason not to deploy.
    """
    if own is not None:
        files = read_folder(own)
        says(f"recorded   {_number(files)} of {own}")
        return files
    kept = [path for path in present if path.startswith(f"{FOLDER}/")]
    if dataset is None and head and any(path.startswith("rlhfv/") for path in present):
        with tempfile.TemporaryDirectory() as folder:
            return {path: hub.download(repo, path, head, Path(folder), "space").read_bytes() for path in kept}
    if dataset == "none":
        return {}
    if dry:
        says(f"photos     taken from {dataset or DATASET}")
        return {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = fetch_photographs(hub, dataset or DATASET, COUNT, Path(folder))
        except StudioError as error:
            if dataset is not None:
                raise
            says(f"photos     none: {error.what} The page opens on a drawn scene.")
            return {}
        source = found[0].source
        says(f"photos     {len(found)} of {source.name}@{source.revision} ({source.licence}); --photos none: without")
        return read_folder(Path(folder))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Path in a Space → content, of the recordings of a folder. Raises `InvalidData` for one that cannot be shown."""
    files = {}
    for number, one in enumerate(find_recorded(folder), 1):
        recorded = read_recorded(one)
        for name in (FILE, recorded.picture):
            files[f"{FOLDER}/{number}/{name}"] = (one / name).read_bytes()
    return files


def _number(files: dict[str, bytes]) -> int:
    return sum(path.endswith(f"/{FILE}") for path in files)
