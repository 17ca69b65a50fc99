"""The files that a benchmark reads from the user's own folder: what each is, where it comes from, whether it is there.

The studio brings none of them along: their licences differ, and their owners publish them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhfv.errors import InvalidData


@dataclass(frozen=True)
class WantedFile:
    """A file below the benchmark folder, or a folder of pictures: then `path` ends in "/". `what` says what is in it,
    `source` where it is published; a benchmark works without one that is not `required`, and says what it then lacks.
    """

    path: str
    what: str
    source: str
    required: bool = True

    def is_in(self, folder: Path) -> bool:
        """Whether the file is there; a folder has to hold something."""
        place = Path(folder, self.path)
        return any(place.iterdir()) if self.path.endswith("/") and place.is_dir() else place.is_file()


@dataclass(frozen=True)
class ListedFile:
    """A wanted file, and whether it is there."""

    wanted: WantedFile
    there: bool


def list_files(folder: Path, wanted: Iterable[WantedFile]) -> list[ListedFile]:
    """Each wanted file with whether it is below `folder`."""
    return [ListedFile(file, file.is_in(folder)) for file in wanted]


def require_files(folder: Path, wanted: Sequence[WantedFile]) -> None:
    """Raises `InvalidData` that lists every required file that is missing, and where it comes from."""
    missing = [file.wanted for file in list_files(folder, wanted) if not file.there and file.wanted.required]
    if not missing:
        return
    one = len(missing) == 1
    listed = "; ".join(f"{file.path} ({file.what}; from {file.source})" for file in missing)
    raise InvalidData(
        f"{'A file' if one else f'{len(missing)} files'} of the benchmark {'is' if one else 'are'} missing in "
        f"{folder}: {listed}.",
        "A benchmark reads its questions and keys from a folder of yours: the studio brings none along.",
        f"Fetch {'it' if one else 'them'} to {'that path' if one else 'these paths'}, or name another folder with "
        "--benchmarks.",
    )


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
