"""The log of a copy as it lies at a place: what its files are called, what is in one, and what a start reads of it."""

import gzip
import re
import zlib
from pathlib import Path

from rlhfv.corrections.changes import Copy, read_copy, write_copy
from rlhfv.errors import InvalidData
from rlhfv.publishing.places import Place

_FILE = re.compile(r"log/(\d{6}-[0-9a-f]{16})/(\d{8}\.(?:whole|part)|claim)")


class Torn(Exception):
    """A file whose writer died before it was whole."""


def list_logs(place: Place) -> dict[str, list[str]]:
    """Every log with the names of its files in their order, the oldest log first."""
    logs: dict[str, list[str]] = {}
    for name in sorted(place.names("log/")):
        if found := _FILE.fullmatch(name):
            logs.setdefault(found[1], []).append(found[2])
    return logs


def newest_log(place: Place) -> str:
    """The newest log that has begun, be it torn; "" for none."""
    logs = reversed(list_logs(place).items())
    return next((log for log, files in logs if any(file.endswith(".whole") for file in files)), "")


def pack(copy: Copy, key: bytes = b"") -> bytes:
    """A file of the log; `key` signs the visitors' cookies."""
    return gzip.compress("\n".join([key.hex(), *write_copy(copy)]).encode(), mtime=0)


def unpack(file: Path) -> tuple[Copy, bytes]:
    """What `pack` was given. Raises Torn, and ValueError for what it did not make."""
    try:
        text = gzip.decompress(file.read_bytes()).decode()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise Torn(f"{type(error).__name__}: {error}") from error
    if not text:
        raise Torn("It is empty.")
    key, *lines = text.split("\n")
    return read_copy(lines), bytes.fromhex(key)


def read_newest(place: Place, folder: Path, warn) -> tuple[str, list[Copy], bytes] | None:
    """The newest log that can be read, its copies from the last whole one on, and the key in them; None for no log.

    What is torn was never confirmed. Where that is a whole store, what was before counts, of this log or of an older
    one: those are taken away only after a newer one was confirmed.

    Args:
        folder: an empty one, for the files.
        warn: is told of each torn file.

    Raises:
        InvalidData: there are logs, and none can be read, or one that was confirmed cannot.
    """
    torn = None
    for log, files in reversed(list_logs(place).items()):
        files = [file for file in files if file != "claim"]
        end = len(files)
        for start in reversed([number for number, file in enumerate(files) if file.endswith(".whole")]):
            names, end = [f"log/{log}/{file}" for file in files[start:end]], start
            place.fetch(names, folder)
            copies, key = [], b""
            for name in names:
                try:
                    copy, its_key = unpack(folder / name)
                except Torn as error:
                    torn = name, str(error)
                    warn("%s is not whole and was never confirmed: %s", *torn)
                    if name == names[0]:
                        break
                except ValueError as error:
                    raise _unreadable(name, place, str(error)) from error
                else:
                    copies.append(copy)
                    key = key or its_key
            else:
                return log, copies, key
            if len(names) > 1:  # it was confirmed, or nothing would have been written after it
                raise _unreadable(names[0], place, torn[1])
    if torn is not None:
        raise _unreadable(torn[0], place, torn[1])
    return None


def _unreadable(name: str, place: Place, reason: str) -> InvalidData:
    return InvalidData(
        f"{name} in {place.title} cannot be read.",
        f"{reason.rstrip('.')}.",
        "Put the file back as it was, or name another place; nothing there was changed.",
    )
