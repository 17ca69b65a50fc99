"""Files that came through a browser, laid out as the folder that `read_tasks` reads."""

import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rlhfv.corrections.task_files import PICTURES, TASKS_FILE
from rlhfv.errors import InvalidData

MAX_UNPACKED_BYTES = 4 * 1024**3
MAX_MEMBERS = 100_000
_WANTED = (*PICTURES, ".jsonl")
_CHUNK = 1024 * 1024
# What reading an archive raises that is damaged, locked or packed in another way (RuntimeError: it needs a password).
_UNPACKABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError)


@contextmanager
def lay_out(files: Sequence[Path]) -> Iterator[Path]:
    """A folder, until the context ends, with pictures, with a JSONL file and its pictures, or with the members of zip
    files. A single JSONL file is named as `read_tasks` looks for it.

    Raises:
        InvalidData: two files of the same name beside rows that name one, several JSONL files, a zip file that is
            damaged or larger than `MAX_UNPACKED_BYTES`.
    """
    with tempfile.TemporaryDirectory(prefix="rlhfv-") as place:
        folder = Path(place)
        for number, file in enumerate(files):
            if file.suffix.lower() == ".zip":
                _unpack(file, folder)
            else:
                _place(file, folder, number)
        yield _name_rows(folder)


def _place(file: Path, folder: Path, number: int) -> None:
    target = folder / file.name
    if target.exists():
        # Two cameras call their first picture the same; which of them a row means could not be told.
        target = folder / str(number) / file.name
        target.parent.mkdir()
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _unpack(archive: Path, folder: Path) -> None:
    """Pictures and JSONL files only, below `folder` only, counted as they are unpacked: what an archive says of its
    sizes need not be true."""
    left = MAX_UNPACKED_BYTES
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [each for each in opened.infolist() if PurePosixPath(each.filename).suffix.lower() in _WANTED]
            if len(members) > MAX_MEMBERS:
                raise _too_large(archive, f"{len(members):,} files")
            for member in members:
                target = folder / member.filename
                if not target.resolve().is_relative_to(folder.resolve()):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, target.open("wb") as file:
                    while piece := packed.read(_CHUNK):
                        left -= len(piece)
                        if left < 0:
                            raise _too_large(archive, f"more than {MAX_UNPACKED_BYTES // 1024**3} GB")
                        file.write(piece)
    except _UNPACKABLE as error:
        raise InvalidData(
            f"{archive.name} could not be unpacked.",
            f"{error!s:.200}.",
            "Pack the archive again, without a password.",
        ) from error


def _name_rows(folder: Path) -> Path:
    """The folder in which rows lie under the name that `read_tasks` looks for, or `folder` where there are none."""
    rows = sorted(folder.rglob("*.jsonl"))
    if len(rows) > 1:
        raise InvalidData(
            f"{len(rows)} JSONL files came together: {', '.join(file.name for file in rows[:5])}.",
            "Which rows the pictures belong to could not be told.",
            "Take them in one after the other.",
        )
    if not rows:
        return folder
    return rows[0].rename(rows[0].with_name(TASKS_FILE)).parent


def _too_large(archive: Path, found: str) -> InvalidData:
    return InvalidData(
        f"{archive.name} holds {found}.",
        f"At most {MAX_MEMBERS:,} files and {MAX_UNPACKED_BYTES // 1024**3} GB are unpacked from a page.",
        "Split it, or take the folder in on the server: `python -m rlhfv tasks add FOLDER`.",
    )
