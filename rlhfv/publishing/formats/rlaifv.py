"""RLAIF-V-Dataset: Parquet, with the texts in columns of their own. Both answers are a model's.

Columns: ds_name, image, question, chosen, rejected, origin_dataset, origin_split (JSON with "model"), idx (a text),
image_path. Copies of RLHF-V in this form, where idx is a number, are read and given back too.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.images import ImageShelf
from rlhfv.corrections.pairs import PreferencePair
from rlhfv.errors import InvalidData
from rlhfv.publishing.formats import openbmb, origin
from rlhfv.publishing.formats.reading import read_pairs
from rlhfv.publishing.formats.source import Row, open_rows

NAME = "rlaif-v"
FILE = "RLAIF-V-Dataset.parquet"


def recognises(columns: dict) -> bool:
    return columns.keys() >= {"image", *openbmb.TEXTS}


def read(source: Path | str, shelf: ImageShelf, token: str | bool = False) -> Iterator[PreferencePair | RowProblem]:
    return read_pairs(open_rows(source, token), partial(_to_pair, shelf=shelf))


def write(pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    return openbmb.write_rows(pairs, folder / FILE, image_path, _to_row, NAME)


def losses(pairs: Iterable[PreferencePair]) -> list[str]:
    return openbmb.losses(pairs, NAME)


def _to_pair(row: Row, shelf: ImageShelf) -> PreferencePair:
    columns = row.columns()
    missing = [name for name in openbmb.TEXTS if not isinstance(columns.get(name), str)]
    if missing:
        raise InvalidData(
            f"The column '{missing[0]}' is {columns.get(missing[0])!r:.80}.",
            f"A row has {', '.join(openbmb.TEXTS)}, each a text.",
            f"Add the {missing[0]}, or remove the row.",
        )
    return openbmb.to_pair(row, shelf, NAME, columns, openbmb.TEXTS, by_model=True)


def _to_row(pair: PreferencePair, number: int) -> dict:
    texts = {"question": pair.prompt.question, "chosen": pair.chosen, "rejected": pair.rejected}
    recalled = origin.recall(pair, NAME)
    if recalled is None:
        return openbmb.columns_of(pair, number, texts) | {"idx": str(number)}
    columns, _ = recalled
    return columns | texts
