"""The picture in a row, however the row holds it, onto the shelf."""

import base64
import binascii
import hashlib
from contextlib import suppress
from pathlib import Path

from rlhfv.corrections.images import MAX_BYTES, ImageShelf
from rlhfv.corrections.pairs import IMAGES_FOLDER
from rlhfv.errors import InvalidData

MAX_PATH_CHARS = 1_000


def read_picture(cell: object, folder: Path | None) -> bytes:
    """The bytes of a picture: as such, as `{"bytes", "path"}` of a `datasets.Image`, as base64, or in a file that a
    path names, below `folder` or its subfolder `images`.

    Raises:
        InvalidData: there is none, or it is named by a path that leads elsewhere.
    """
    if isinstance(cell, dict):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, bytes):
        return cell
    if cell is None or cell == "":
        raise InvalidData(
            "The row has no picture.",
            "A correction is about what a picture shows.",
            "Add the picture to the row, or remove the row.",
        )
    if not isinstance(cell, str):
        raise InvalidData(
            f"The picture is {cell!r:.80}.",
            f"It is of type {type(cell).__name__}; bytes, base64 or the path of a file are read.",
            "Give the picture in one of these ways.",
        )
    if cell.startswith("data:") or len(cell) > MAX_PATH_CHARS:
        try:
            return base64.b64decode(cell.rpartition(",")[2], validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidData(
                "The picture is not base64.", f"It cannot be decoded ({error}).", "Encode its bytes again."
            ) from error
    return _read_file(cell, folder)


def is_plain_path(name: str) -> bool:
    """Whether a name from outside stays below the folder that it is put behind."""
    parts = name.split("/")
    return (
        0 < len(name) <= MAX_PATH_CHARS
        and not any(part in ("", ".", "..") for part in parts)
        and not (set(name) & set("\\\0:"))
    )


def _read_file(name: str, folder: Path | None) -> bytes:
    if not is_plain_path(name.removeprefix("./")):
        raise InvalidData(
            f"The picture is named {name!r:.80}.",
            "Pictures lie below the folder of the file, so that no other file of this machine is read.",
            "Put the pictures there and name them by their paths from there.",
        )
    places = [folder, folder / IMAGES_FOLDER] if folder is not None else []
    for place in places:
        with suppress(OSError, RuntimeError):  # no such file, or a name that no file can have
            file = (place / name).resolve()
            if file.is_relative_to(folder.resolve()):
                with file.open("rb") as opened:
                    return opened.read(MAX_BYTES + 1)
    raise InvalidData(
        f"The picture {name!r:.80} is missing.",
        "It lies neither beside the file nor in the folder 'images' there." if places else "The row holds no bytes.",
        "Put it there and import again.",
    )


def take_in(data: bytes, shelf: ImageShelf) -> tuple[str, str]:
    """The name of a picture on the shelf, and that of its original where cleaning changed a byte, else "".

    Raises:
        InvalidImage: as `ImageShelf.intake`.
    """
    name = shelf.intake(data).name
    same = name.startswith(hashlib.sha256(data).hexdigest())
    return name, "" if same else shelf.keep_original(data)
