"""From rows to pairs: every row for itself, in order, the pictures of several rows at a time."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from rlhfv.corrections.exchange import RowProblem
from rlhfv.corrections.pairs import PreferencePair, Provenance
from rlhfv.errors import InvalidData, StudioError
from rlhfv.publishing.formats.source import Row

WORKERS = 8  # pictures are decoded one at a time; the others wait for the disk meanwhile


def read_pairs(rows: Iterable[Row], to_pair: Callable[[Row], PreferencePair]) -> Iterator[PreferencePair | RowProblem]:
    """A pair or a problem for each row. A pair that came before is a problem of the later row."""
    places: dict[str, str] = {}
    for row, pair in _in_order(rows, to_pair):
        if not isinstance(pair, StudioError) and pair.id in places:
            pair = InvalidData(
                f"The row repeats {places[pair.id]}.",
                "Picture, question, answers and all else are the same, or both have one id.",
                "Remove it, or give it an id of its own.",
            )
        if isinstance(pair, StudioError):
            yield row.problem(pair)
        else:
            places[pair.id] = f"row {row.number}" + f" of {row.file}" * bool(row.file)
            yield pair


def _in_order(
    rows: Iterable[Row], to_pair: Callable[[Row], PreferencePair]
) -> Iterator[tuple[Row, PreferencePair | StudioError]]:
    def convert(row: Row) -> tuple[Row, PreferencePair | StudioError]:
        try:
            return row, to_pair(row)
        except StudioError as error:
            return row, error

    with ThreadPoolExecutor(WORKERS, "rows") as pool:
        waiting = deque()
        for row in rows:
            waiting.append(pool.submit(convert, row))
            if len(waiting) == 2 * WORKERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def make_pair(
    question: object, chosen: object, rejected: object, image: str, provenance: Provenance
) -> PreferencePair:
    """The pair of a row with one picture, whose edits are inferred. Its id stands for the row, so that the same row
    is the same pair however often it comes, and two rows that differ in anything are two.
    """
    pair = PreferencePair.from_row(
        {
            "images": [image],
            "question": question,
            "chosen": chosen,
            "rejected": rejected,
            "provenance": provenance.to_row(),
        }
    )
    content = json.dumps([image, question, chosen, rejected, provenance.origin])
    return replace(pair, id=hashlib.sha256(content.encode()).hexdigest()[:32])
