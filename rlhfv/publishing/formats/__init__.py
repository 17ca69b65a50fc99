"""Other people's formats, in and out. One module a format, all of one shape:

- `read(source, shelf, token)` gives a `PreferencePair` or a `RowProblem` for each row, in order, one at a time;
- `write(pairs, folder, image_path)` writes those pairs that fit and returns how many;
- `losses(pairs)` says beforehand what the format cannot carry of these pairs;
- `recognises(columns)` says whether a row looks like one of the format.

What is carried where (in and out, unless said):

| of a pair   | rlhf-v, rlhf-v-2023  | rlaif-v        | trl           | llama-factory       | jsonl      |
|-------------|----------------------|----------------|---------------|---------------------|------------|
| question    | text: question       | question       | prompt, last  | conversations, last | question   |
| earlier     | left out             | left out       | prompt        | conversations       | history    |
| chosen      | text: chosen         | chosen         | chosen        | chosen              | chosen     |
| rejected    | text: rejected       | rejected       | rejected      | rejected            | rejected   |
| pictures    | image: one           | image: one     | images        | images and <image>  | images     |
| edits, kind | inferred             | inferred       | segments      | inferred            | edits      |
| model       | origin_split: model  | origin_split   | provenance    | -                   | provenance |
| source      | origin_dataset       | origin_dataset | provenance    | -                   | provenance |
| all else    | -                    | -              | provenance    | -                   | provenance |
| id, outcome | -                    | -              | id, outcome   | -                   | both       |

What a row of the first three holds beyond that (`ds_name` or `dataset_name`, `idx` or `origin_split_inner_idx`,
`origin_split`, `image_path`, the path in `image`, `text` as it was written, further columns) waits in
`provenance.origin`, and a picture that lost bytes when it was cleaned waits beside it: an export in the same format
gives the row back byte for byte. A text that was changed since replaces the old one.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zipfile import is_zipfile

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PAIRS_FILE, PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing.formats import jsonl, llama_factory, rlaifv, rlhfv, rlhfv_2023, trl
from rlhfv.publishing.formats.source import first_columns, open_rows

FORMATS = {module.NAME: module for module in (jsonl, rlhfv, rlhfv_2023, rlaifv, trl, llama_factory)}


def recognise(source: Path | str, token: str | bool = False) -> tuple[str, str]:
    """The name of the format, and what it was told by. A `Path` is local, a `str` is the id of a dataset on the Hub.

    Raises:
        InvalidData: there is nothing to read, or it looks like no format that is known.
    """
    if isinstance(source, Path):
        if (source / PAIRS_FILE).is_file() or (source.is_file() and is_zipfile(source)):
            return jsonl.NAME, PAIRS_FILE
        if llama_factory.describes(source):
            return llama_factory.NAME, llama_factory.INFO
    columns = first_columns(open_rows(source, token))
    if columns is not None:
        for name, module in FORMATS.items():
            if module.recognises(columns):
                return name, f"the columns {', '.join(columns)}"
    found = "No row has named columns" if columns is None else f"The columns are {', '.join(map(str, columns))}"
    raise InvalidData(
        f"{found:.300}.",
        f"None of the formats looks like that ({', '.join(FORMATS)}).",
        "Check the file, or name its format.",
    )


def read(
    source: Path | str, format: str, shelf: ImageShelf, token: str | bool = False
) -> Iterator[PreferencePair | RowProblem]:
    """A pair or a problem for each row of a file, folder or dataset; pictures are put on the shelf. `token` is for the
    Hub, False to come as nobody.

    Raises:
        InvalidData: there is no such format, or nothing to read.
    """
    return find_format(format).read(source, shelf, token)


def write(format: str, pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    """Writes the pairs into the folder, made if need be; returns how many. `pairs` is gone through several times, and
    `image_path` finds stored pictures and kept originals by their names.

    Raises:
        InvalidData: there is no such format, or it can carry none of the pairs.
    """
    return find_format(format).write(pairs, folder, image_path)


def losses(format: str, pairs: Iterable[PreferencePair]) -> list[str]:
    """What the format cannot carry of these pairs, one sentence each."""
    return find_format(format).losses(pairs)


def find_format(name: str):
    """The module of a format. Raises InvalidData for an unknown name."""
    if name not in FORMATS:
        raise InvalidData(f"The format is {name!r:.80}.", f"There are {', '.join(FORMATS)}.", "Choose one of them.")
    return FORMATS[name]
