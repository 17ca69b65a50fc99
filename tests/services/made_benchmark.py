"""A made-up benchmark folder in AMBER's format, and two sets of answers to it whose outcomes are known."""

import json
from pathlib import Path

from PIL import Image

BENCHMARK = "amber-generative"
HERE, ABSENT = ("dog", "ball", "tree"), ("cat", "car")
TRUE = "A dog plays with a ball."
FALSE = "A dog and a cat play with a ball."
LINE = "<script>window.hacked = 1</script>"


def make_amber(root: Path, count: int = 500, pictures: int = 3) -> None:
    """Questions and keys of `count` items; the first have a picture."""
    folder = root / "amber"
    (folder / "query").mkdir(parents=True)
    (folder / "image").mkdir()
    ids = range(1, count + 1)
    keys = [{"id": id, "type": "generative", "truth": list(HERE), "hallu": list(ABSENT)} for id in ids]
    asked = [{"id": id, "image": f"AMBER_{id}.jpg", "query": "Describe this image."} for id in ids]
    files = {
        "annotations.json": json.dumps(keys),
        "relation.json": json.dumps({word: [] for word in (*HERE, *ABSENT)}),
        "safe_words.txt": "shoe\n",
        "query/query_generative.json": json.dumps(asked),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    for id in ids[:pictures]:
        Image.new("RGB", (64, 48), (id * 60 % 256, 120, 160)).save(folder / "image" / f"AMBER_{id}.jpg")


def make_answers(count: int = 500, mended: int = 60, broken: int = 30, still: int = 10) -> tuple[dict, dict]:
    """Answers before and after by item id. Item 1 on are mended, then come the broken, the still wrong and the right;
    one of the broken holds markup."""
    before, after = {}, {}
    for place in range(count):
        id = str(place + 1)
        both = mended + broken <= place < mended + broken + still
        before[id] = FALSE if place < mended or both else TRUE
        after[id] = FALSE if mended <= place < mended + broken or both else TRUE
    after[str(mended + 1)] += LINE
    return before, after


def write_amber_answers(path: Path, answers: dict[str, str]) -> Path:
    """The answers as AMBER's own file."""
    path.write_text(json.dumps([{"id": int(id), "response": text} for id, text in answers.items()]), encoding="utf-8")
    return path
