"""The studio's own format: `pairs.jsonl` and `images/`, which carries everything but earlier revisions."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rlhfv.corrections import exchange
from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing.formats import contents
from rlhfv.publishing.formats.origin import original_name

NAME = "jsonl"


def recognises(columns: dict) -> bool:
    return columns.keys() >= {"question", "chosen", "rejected"} and "image" not in columns


def read(source: Path | str, shelf: ImageShelf, token: str | bool = False) -> Iterator[PreferencePair | RowProblem]:
    """`source` is a JSONL file, a folder or a zip file with `pairs.jsonl`."""
    if isinstance(source, str):
        raise InvalidData(
            f"The dataset {source} is not read as JSONL with images.",
            "That format is a file with a folder beside it.",
            "Download the repository and give its folder, or choose another format.",
        )
    yield from exchange.read_pairs(source, shelf)


def write(pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    return exchange.export_pairs(pairs, folder, image_path)


def losses(pairs: Iterable[PreferencePair]) -> list[str]:
    return contents.sentences(
        contents.count(pairs, originals=lambda pair: bool(original_name(pair))),
        (
            "originals",
            "picture(s) that lost bytes when cleaned",
            "go out clean; the format they came in restores them",
        ),
        ("several revisions", "pair(s) with earlier revisions", "only the newest is written"),
    )
