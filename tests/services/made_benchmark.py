"""Made-up benchmark folders in the formats of AMBER and POPE, and answers to them whose outcomes are known."""

import json
from pathlib import Path

from PIL import Image

BENCHMARK = "amber-generative"
HERE, ABSENT = ("dog", "ball", "tree"), ("cat", "car")
TRUE = "A dog plays with a ball."
FALSE = "A dog and a cat play with a ball."
LINE = "<script>window.hacked = 1</script>"
THINGS = ("cup", "dog", "fork", "cat", "car", "bus", "man", "hat", "key", "box")


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


def make_pope(root: Path, count: int = 10, pictures: int = 2) -> Path:
    """A POPE-like split about drawn pictures."""
    (root / "pope").mkdir(parents=True)
    (root / "coco/val2014").mkdir(parents=True)
    rows = [
        {
            "question_id": number,
            "image": f"{number % pictures}.jpg",
            "text": f"Is there a {thing} in the image?",
            "label": "yes" if number % 2 else "no",
        }
        for number, thing in enumerate((THINGS * (count // len(THINGS) + 1))[:count], 1)
    ]
    (root / "pope/coco_pope_random.json").write_text("\n".join(map(json.dumps, rows)))
    for number in range(pictures):
        Image.new("RGB", (40 + number, 30), "teal").save(root / f"coco/val2014/{number}.jpg")
    return root


def write_pope_answers(path: Path, texts: list[str]) -> Path:
    """Answers to the first of these questions, as POPE's own file."""
    rows = [
        {"question_id": number, "prompt": f"Is there a {THINGS[number - 1]} in the image?", "text": text}
        for number, text in enumerate(texts, 1)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def make_mmhal(root: Path) -> None:
    """96 questions in the form of MMHal-Bench; question 7 is about "item <7>", as the judge's server wants it."""
    folder = root / "mmhal"
    folder.mkdir(parents=True)
    rows = [
        {"question": f"What is item <{place}>?", "gt_answer": "A cat.", "image_content": ["Cat"], "model_answer": ""}
        for place in range(96)
    ]
    (folder / "mmhal-bench_answer_template.json").write_text(json.dumps(rows))


def write_mmhal_answers(path: Path, text: str, count: int = 12) -> Path:
    """The same answer to the first of these questions."""
    asked = [(place, f"What is item <{place}>?") for place in range(count)]
    path.write_text(json.dumps([{"question_id": id, "prompt": question, "text": text} for id, question in asked]))
    return path


def take_both(services, who, folder: Path, count: int = 40) -> list[str]:
    """The ids of a baseline's and an aligned model's made answers, taken in for `who`."""
    if not (services.benchmarking.root / "amber").is_dir():
        make_amber(services.benchmarking.root, count)
    ids = []
    for title, answers in zip(("Baseline", "Aligned"), make_answers(count, 12, 3, 2), strict=True):
        path = write_amber_answers(folder / f"{title}.json", answers)
        ids.append(services.reporting.take_in(who, BENCHMARK, path, title))
    return ids
