"""Parquet shards: the same rows give the same bytes, and a small change of the rows a small change of the bytes."""

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
from datasets import Dataset, DatasetInfo, Features
from datasets.table import InMemoryTable
from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from rlhfv.errors import InvalidData

FOLDERS = {"pairs": "data", "judgements": "judgements"}
"""Where the shards of each part lie in the repository."""
_SHARD = re.compile(r"(data|judgements)/train-(\d{5})\.parquet")
_ROWS_AT_ONCE = 8


def shard_path(part: str, number: int) -> str:
    """The path of a shard in the repository."""
    return f"{FOLDERS[part]}/train-{number:05}.parquet"


def is_table(path: str) -> bool:
    """Whether a file of the repository is read as rows, be it a shard or one that somebody put beside them."""
    folder, _, name = path.rpartition("/")
    return folder in FOLDERS.values() and name.startswith("train-") and name.endswith(".parquet")


def shard_of(path: str) -> tuple[str, int] | None:
    """Part and number of a shard, None for another file."""
    match = _SHARD.fullmatch(path)
    if match is None:
        return None
    return next(part for part, folder in FOLDERS.items() if folder == match[1]), int(match[2])


def write_shard(file: Path, rows: list[dict], features: Features) -> None:
    """Writes the rows with all columns of `features`; columns that a row lacks are None."""
    datasets.disable_progress_bars()
    columns = {name: [row.get(name) for row in rows] for name in features}
    table = InMemoryTable.from_pydict(columns, schema=features.arrow_schema)
    # A given fingerprint: its own is a hash of all the rows, and nobody asks for it.
    Dataset(table, DatasetInfo(features=features), fingerprint="shard").to_parquet(os.fspath(file))


def read_shard(file: Path) -> Iterator[dict]:
    """The rows, a few at a time in memory, images as {"bytes", "path"}. Raises InvalidData for a damaged file."""
    try:
        with ParquetFile(file, pre_buffer=False) as opened:
            for batch in opened.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        cause = str(error).split("\n")[0]
        raise InvalidData(
            f"The shard {file.name} cannot be read.",
            f"It is not a whole Parquet file ({cause:.200}).",
            "Bring the file back on the Hub, from an earlier commit.",
        ) from error


def content_names(file: Path) -> list[str]:
    """The names under which the Hub may list the content: its sha256 as a large file, its git id as a small one."""
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        git = hashlib.sha1(f"blob {file.stat().st_size}\0".encode())
        opened.seek(0)
        while block := opened.read(2**20):
            git.update(block)
    return [f"sha256:{sha256}", f"git:{git.hexdigest()}"]
