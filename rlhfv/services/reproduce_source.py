"""Where the corrections of `reproduce --data` come from: found, named by what is in them, and counted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.evaluation.files import sha256_of

_ON_HUB = re.compile(r"(?P<id>[0-9A-Za-z][\w.-]*/[0-9A-Za-z][\w.-]*)(?:@(?P<revision>.*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """Where the corrections come from: a data set of the Hub at a commit, or a file or folder. `name` identifies what
    is in it."""

    name: str
    id: str = ""
    commit: str = ""
    path: Path | None = None


def find_source(named: str) -> Source:
    """A path of this machine, else a data set of the Hub with its commit (`owner/name@commit`).

    Raises:
        InvalidData: it is neither, or names no commit.
    """
    path = Path(named).expanduser()
    if path.exists():
        return Source(f"{path.resolve().name}@sha256:{_digest(path)[:16]}", path=path.resolve())
    match = _ON_HUB.fullmatch(named)
    if not match:
        raise InvalidData(
            f"There is no data {named!r:.120}.",
            "It is neither a file or folder here nor shaped like owner/name@commit.",
            "Name a folder, or a data set such as openbmb/RLHF-V-Dataset@COMMIT.",
        )
    if not _COMMIT.fullmatch(match["revision"] or ""):
        told = f"the revision {match['revision']!r:.60}" if match["revision"] else "no revision"
        raise InvalidData(
            f"The data set {match['id']} is named with {told}.",
            "What is to be repeated needs the exact commit, 40 hexadecimal digits: branches and tags move.",
            f"Write {match['id']}@COMMIT; huggingface.co/datasets/{match['id']}/commits/main lists them.",
        )
    return Source(f"{match['id']}@{match['revision']}", match["id"], match["revision"])


def _digest(path: Path) -> str:
    """A sha256 over the names, sizes and, but for pictures, contents of all files."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    lines = []
    for file in files:
        name = "" if file == path else file.relative_to(path).as_posix()
        if name.startswith(".") or "/." in name:
            continue
        told = sha256_of(file) if file.suffix in (".parquet", ".json", ".jsonl", ".arrow", ".zip") else ""
        lines.append(f"{name} {file.stat().st_size} {told}")
    return sha256("\n".join(lines).encode()).hexdigest()


def expected_pairs(source: Source) -> int | None:
    """How many pairs it has: counted where they are on this machine, None where that is not known of the Hub's.

    Raises:
        InvalidData: what is on this machine holds none.
    """
    from rlhfv.evaluation import published

    if source.path is None:
        return published.PAIRS if source.id == "openbmb/RLHF-V-Dataset" else None
    from rlhfv.publishing import formats

    try:
        name, _ = formats.recognise(source.path)
    except InvalidData as error:
        raise InvalidData(
            f"{source.path.name} holds no pair. {error.what}",
            error.why,
            "Check the path behind --data.",
        ) from error
    if (rows := _rows_of_tables(source.path)) is not None:
        return rows
    pairs, problems = 0, []
    with TemporaryDirectory(prefix="rlhfv-count-") as place:
        for row in formats.read(source.path, name, ImageShelf(Path(place))):
            if isinstance(row, PreferencePair):
                pairs += 1
            else:
                problems.append(row)
    if not pairs:
        raise no_pair(source, problems)
    return pairs


def _rows_of_tables(place: Path) -> int | None:
    """How many rows the Parquet files have, None where other files hold some: their pictures are not read twice."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_metadata

    from rlhfv.publishing.formats.source import data_files, is_saved_dataset

    if is_saved_dataset(place):
        return None
    files = data_files(place)
    try:
        if all(file.suffix == ".parquet" for file in files):
            return sum(read_metadata(file).num_rows for file in files) or None
    except (ArrowException, OSError):
        return None
    return None


def no_pair(source: Source, problems: Sequence[object]) -> InvalidData:
    """The error of data without a pair; `problems` say why its rows are none."""
    return InvalidData(
        f"No row of {source.name} is a pair.",
        str(problems[0]) if problems else "It has no rows.",
        "Name data with a picture, a question, a chosen and a rejected answer in each row.",
    )
