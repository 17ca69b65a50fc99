"""RLHF-V-Dataset as it is on the Hub since January 2024: Parquet, with the texts as JSON in the column `text`.

Columns: ds_name, image, text (`{"question", "chosen", "rejected"}`), origin_dataset, origin_split (JSON with "model"
and "type"), idx (a number), image_path. The same columns are read from JSON, with the picture as a path or base64.
"""

import json
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

NAME = "rlhf-v"
FILE = "RLHF-V-Dataset.parquet"


def recognises(columns: dict) -> bool:
    return "text" in columns and "dataset_name" not in columns and bool({"image", "image_path"} & columns.keys())


def read(source: Path | str, shelf: ImageShelf, token: str | bool = False) -> Iterator[PreferencePair | RowProblem]:
    return read_pairs(open_rows(source, token), partial(_to_pair, shelf=shelf))


def write(pairs: Iterable[PreferencePair], folder: Path, image_path: Callable[[str], Path]) -> int:
    return openbmb.write_rows(pairs, folder / FILE, image_path, _to_row, NAME)


def losses(pairs: Iterable[PreferencePair]) -> list[str]:
    return openbmb.losses(pairs, NAME)


def _to_pair(row: Row, shelf: ImageShelf) -> PreferencePair:
    raw = row.columns().get("text")
    texts = read_texts(raw)
    plain = {name: texts[name] for name in openbmb.TEXTS}
    held = ("text",) if raw == json.dumps(plain) else ()
    return openbmb.to_pair(row, shelf, NAME, texts, held)


def _to_row(pair: PreferencePair, number: int) -> dict:
    texts = {name: getattr(pair, name) for name in ("chosen", "rejected")} | {"question": pair.prompt.question}
    recalled = origin.recall(pair, NAME)
    if recalled is None:
        return openbmb.columns_of(pair, number, {"text": write_texts(texts)})
    columns, _ = recalled
    return columns | {"text": write_texts(texts, columns.get("text"))}


def read_texts(value: object) -> dict:
    """Question, chosen and rejected out of the column `text`: an object, a list of the three, or JSON of either.

    Raises:
        InvalidData: it is none of these, or lacks one of the texts.
    """
    parsed = value
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidData(
                f"The column 'text' is {value!r:.80}.", f"It is not JSON ({error}).", "Mend or remove the row."
            ) from error
    if isinstance(parsed, list) and len(parsed) in (3, 4):  # the fourth holds log-probabilities
        parsed = dict(zip(openbmb.TEXTS, parsed, strict=False))
    if not isinstance(parsed, dict):
        raise InvalidData(
            f"The column 'text' is {value!r:.80}.",
            f"It holds an object with {', '.join(openbmb.TEXTS)}.",
            "Mend or remove the row.",
        )
    missing = [name for name in openbmb.TEXTS if not isinstance(parsed.get(name), str)]
    if missing:
        raise InvalidData(
            f"In the column 'text' the {missing[0]} is {parsed.get(missing[0])!r:.80}.",
            f"It holds {', '.join(openbmb.TEXTS)}, each a text.",
            f"Add the {missing[0]}, or remove the row.",
        )
    return parsed


def write_texts(texts: dict, before: object = None) -> object:
    """The column `text`: what was `before`, as long as it says the same, else the three texts as JSON."""
    if before is not None:
        try:
            known = read_texts(before)
        except InvalidData:
            known = {}
        if all(known.get(name) == texts[name] for name in openbmb.TEXTS):
            return before
    return json.dumps({name: texts[name] for name in openbmb.TEXTS})
