"""JSON lines, one after the other, so that a file may be larger than the memory."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlhfv.errors import InvalidData


def read_lines(file: Path) -> Iterator[bytes]:
    """The lines of a file with their ends. Raises InvalidData, when the first is asked for, if it cannot be read."""
    try:
        with file.open("rb") as opened:
            yield from opened
    except OSError as error:
        raise InvalidData(
            f"{file.name or file} could not be read.",
            f"{error.strerror}.",
            "Give a JSONL file, or a folder that holds pairs.jsonl.",
        ) from error


def parse_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, object]]:
    """Row number and value of each line that is not blank; the value is an InvalidData where the line is no JSON."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, RecursionError) as error:
            yield (
                number,
                InvalidData(
                    f"The line {line.rstrip()[:60].decode('utf-8', 'replace')!r} is not JSON.",
                    f"Each line holds one JSON object in UTF-8 ({error}).",
                    "Mend or remove the line.",
                ),
            )
