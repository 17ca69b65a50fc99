"""Files that a visitor takes away: made in the page's own cache, which is swept of old files."""

import secrets
import shutil
from pathlib import Path

from gradio.utils import get_upload_folder

from rlhfv.units import human_bytes


def make_zip(name: str, fill) -> Path:
    """`fill(folder)` writes a folder; returns it as `<name>.zip` in a place that nobody can guess."""
    place = Path(get_upload_folder()) / secrets.token_hex(16)
    folder = place / name
    folder.mkdir(parents=True)
    try:
        fill(folder)
        return Path(shutil.make_archive(str(place / name), "zip", place, name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_file(name: str, text: str) -> Path:
    """The text as a file of that name, in a place that nobody can guess."""
    place = Path(get_upload_folder()) / secrets.token_hex(16)
    place.mkdir(parents=True)
    path = place / name
    path.write_text(text, encoding="utf-8")
    return path


def size(path: Path) -> str:
    """ "1.2 MB"."""
    return human_bytes(path.stat().st_size)
