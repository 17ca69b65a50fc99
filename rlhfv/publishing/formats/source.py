"""Rows out of files, folders and repositories of the Hub, one at a time, as they are there: nothing is decoded."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.lines import parse_lines, read_lines
from rlhfv.errors import InvalidData, StudioError

MAX_VALUE_CHARS = 64 * 1024 * 1024  # of one row in a JSON list

HUB_ID = re.compile(r"[0-9A-Za-z][\w.-]*/[0-9A-Za-z][\w.-]*", re.ASCII)

_CHUNK = 1024 * 1024
_BATCH = 8  # rows of pictures that are in memory together
_BLANK = re.compile(r"[\s,]*")
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json")


@dataclass(frozen=True)
class Row:
    """A row as the file has it. `number` counts from 1 in its file; `values` is an InvalidData for a row that could
    not be read, with number 0 for a whole file. Pictures that are named by a path lie below `folder`, if any.
    """

    number: int
    values: object
    file: str = ""
    folder: Path | None = None

    def columns(self) -> dict:
        """The values by column. Raises InvalidData for a row that has none."""
        if isinstance(self.values, StudioError):
            raise self.values
        if not isinstance(self.values, dict):
            raise InvalidData(
                f"The row is {self.values!r:.80}.",
                f"It is of type {type(self.values).__name__}, and a row is an object with named fields.",
                "Mend or remove the row.",
            )
        return self.values

    def problem(self, error: StudioError) -> RowProblem:
        return RowProblem(self.number, error.what, error.why, error.fix, self.file)


def open_rows(source: Path | str, token: str | bool = False) -> Iterator[Row]:
    """The rows of a file (Parquet, JSON list, JSON lines), of a folder of them, or of a dataset on the Hub.

    A `Path` is local; a `str` is a Hub id or id@commit, read with `token` (False: as nobody). A file that is broken,
    or a part of it, gives one row that says so; the others are read.

    Raises:
        InvalidData: there is no such file, nothing in the folder to read, or no such dataset.
    """
    if isinstance(source, str):
        yield from _hub_rows(source, token)
    elif is_saved_dataset(source):
        yield from _saved_rows(source)
    else:
        for file in data_files(source):
            yield from read_file(file, "" if file == source else file.relative_to(source).as_posix())


def is_saved_dataset(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` made the folder."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def data_files(source: Path) -> list[Path]:
    """The files with rows, in order: those that the card of a folder names as its default, else the Parquet files of
    the folder, else its JSON files. Raises InvalidData when there is none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise InvalidData(
            f"There is nothing at {source}.", "Rows come out of a file or a folder.", "Check the name and the place."
        )
    found = _named_files(source) or sorted(source.rglob("*.parquet"))
    found = found or sorted(source.glob("*.jsonl"))
    found = found or [file for file in sorted(source.glob("*.json")) if file.name not in _DESCRIPTIONS]
    if not found:
        raise InvalidData(
            f"The folder {source.name} holds no rows.",
            "It has neither a Parquet, nor a JSONL, nor a JSON file.",
            "Choose the folder of the dataset, or one file.",
        )
    return found


def _named_files(folder: Path) -> list[Path]:
    """What the default configuration in the dataset card names: a repository may hold other tables beside it."""
    card = folder / "README.md"
    if not card.is_file():
        return []
    from huggingface_hub import DatasetCard

    try:
        configs = DatasetCard.load(card).data.to_dict().get("configs")
    except Exception:  # a card that cannot be parsed names nothing; YAML raises many types
        return []
    configs = [config for config in configs or [] if isinstance(config, dict)]
    chosen = [config for config in configs if config.get("default") or config.get("config_name") == "default"]
    inside, found = folder.resolve(), []
    for pattern in _patterns((chosen or configs or [{}])[0].get("data_files")):
        try:
            files = sorted(folder.glob(pattern))
        except (ValueError, NotImplementedError):  # an address, or an absolute path
            continue
        found += [file for file in files if file.is_file() and file.resolve().is_relative_to(inside)]
    return list(dict.fromkeys(found))


def _patterns(named: object) -> Iterator[str]:
    if isinstance(named, str):
        yield named
    elif isinstance(named, dict):
        yield from _patterns(named.get("path"))
    elif isinstance(named, list):
        for one in named:
            yield from _patterns(one)


def read_file(file: Path, name: str = "") -> Iterator[Row]:
    """The rows of one file, told apart by its first bytes; `name` is how problems call it."""
    try:
        with file.open("rb") as opened:
            head = opened.read(256)
    except OSError as error:
        yield Row(0, InvalidData(f"{file.name} could not be read.", f"{error.strerror}.", "Check the file."), name)
        return
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(b"version https://git-lfs"):
        mend = "Run `git lfs pull` in the folder, or download the file."
        yield Row(0, InvalidData(f"{file.name} is a pointer.", "Git LFS keeps the file elsewhere.", mend), name)
    elif head.startswith(b"PAR1"):
        yield from _parquet_rows(file, name)
    else:
        numbered = _parse_list(file) if text.startswith(b"[") else parse_lines(read_lines(file))
        for number, values in numbered:
            yield Row(number, values, name, file.parent)


def _parquet_rows(file: Path, name: str) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    def broken(number: int, what: str, error: Exception) -> Row:
        cause = str(error).split("\n")[0]
        mend = "Download or write the file again."
        return Row(number, InvalidData(what, f"The Parquet file is damaged there ({cause:.200}).", mend), name)

    try:
        # Without a buffer a whole row group of pictures is in memory, so it is one page and what it unpacks to.
        opened = ParquetFile(file, buffer_size=_CHUNK, pre_buffer=False)
    except (ArrowException, OSError) as error:
        yield broken(0, f"{file.name} could not be opened.", error)
        return
    with opened:
        end = 0
        for group in range(opened.num_row_groups):
            number, end = end, end + opened.metadata.row_group(group).num_rows
            try:
                for batch in opened.iter_batches(_BATCH, row_groups=[group]):
                    for values in _batch_rows(batch):
                        number += 1
                        if isinstance(values, Exception):
                            yield broken(number, "The row could not be decoded.", values)
                        else:
                            yield Row(number, values, name, file.parent)
            except (ArrowException, OSError) as error:
                yield broken(number + 1, f"Rows {number + 1} to {end} could not be read.", error)


def _batch_rows(batch) -> list:
    """Each row of a batch, or why it could not be decoded, such as text that is not UTF-8."""
    from pyarrow import ArrowException

    try:
        return batch.to_pylist()
    except (ArrowException, ValueError) as error:
        if batch.num_rows == 1:
            return [error]
        return [values for index in range(batch.num_rows) for values in _batch_rows(batch.slice(index, 1))]


def _parse_list(file: Path) -> Iterator[tuple[int, object]]:
    """Number and value of each element of a JSON list, parsed one by one as the file is read."""
    decoder, number = json.JSONDecoder(), 0
    try:
        with file.open(encoding="utf-8-sig") as opened:
            buffer = opened.read(_CHUNK)
            position = buffer.index("[") + 1
            while True:
                position = _BLANK.match(buffer, position).end()
                if buffer.startswith("]", position):
                    return
                try:
                    value, end = decoder.raw_decode(buffer, position)
                    if end == len(buffer):
                        raise json.JSONDecodeError("the list has no end", buffer, end)
                except json.JSONDecodeError as error:
                    rest = buffer[position:]
                    more = opened.read(max(_CHUNK, len(rest))) if len(rest) < MAX_VALUE_CHARS else ""
                    if not more:
                        raise ValueError(f"{error.msg}, at {rest[:60]!r}") from error
                    buffer, position = rest + more, 0
                else:
                    number, position = number + 1, end
                    yield number, value
    except (ValueError, RecursionError, OSError) as error:
        yield (
            number + 1,
            InvalidData(
                f"From row {number + 1} on the list could not be read.",
                f"It is not JSON in UTF-8 there ({error}).",
                "Mend that place; or write one object a line, then each row is read for itself.",
            ),
        )


def _saved_rows(folder: Path) -> Iterator[Row]:
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except Exception as error:  # `datasets` raises many types for a folder that is not whole
        raise InvalidData(
            f"The dataset in {folder.name} could not be opened.", f"{error}", "Save it again with `save_to_disk`."
        ) from error
    for split, dataset in loaded.items() if isinstance(loaded, dict) else [("", loaded)]:
        yield from _dataset_rows(dataset.to_iterable_dataset(), split)


def _hub_rows(named: str, token: str | bool) -> Iterator[Row]:
    from datasets import load_dataset

    id, _, commit = named.partition("@")
    if not HUB_ID.fullmatch(id):
        raise InvalidData(f"The dataset is named {id!r:.80}.", "A Hub id reads 'owner/name'.", "Give such an id.")
    try:
        splits = load_dataset(id, revision=commit or None, streaming=True, token=token)
    except Exception as error:  # network, rights, missing, several configurations: each library has its own types
        raise InvalidData(
            f"The dataset {id} could not be opened.",
            f"{_first_line(error)}",
            "Check the name and the connection; for a private dataset sign in with a token that may read it.",
        ) from error
    for split, dataset in splits.items():
        yield from _dataset_rows(dataset, split)


def _dataset_rows(dataset, name: str) -> Iterator[Row]:
    number = 0
    try:
        for values in dataset.decode(False) if dataset.features else dataset:
            number += 1
            yield Row(number, values, name)
    except Exception as error:  # as above; what was read before stays
        what = f"From row {number + 1} on nothing could be read."
        yield Row(number + 1, InvalidData(what, f"{_first_line(error)}", "Try again, or download the files."), name)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300]


def first_columns(rows: Iterable[Row]) -> dict | None:
    """The first row that has columns, among the first hundred."""
    for _, row in zip(range(100), rows, strict=False):
        if isinstance(row.values, dict):
            return row.values
    return None
