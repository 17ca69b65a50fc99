"""What is in COCO's pictures: their instances, and the captions that people wrote.

Read from COCO's own files (`instances_*.json` and `captions_*.json` of 2014 and 2017), or from JSON Lines that hold
both for each picture, as LLaVA-Bench has them. An image goes by its number without zeros before it: "226988".
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from rlhfv.corrections import lines
from rlhfv.errors import InvalidData
from rlhfv.evaluation.coco import CLASSES, classes_in
from rlhfv.evaluation.files import WantedFile
from rlhfv.evaluation.score import Item

ANNOTATIONS = "coco/annotations"
SPLITS = ("val2014", "val2017", "train2014", "train2017")
COCO_SITE = "https://cocodataset.org/#download, annotations_trainval2014.zip"
VAL_2014 = (
    WantedFile(f"{ANNOTATIONS}/instances_val2014.json", "the objects in each picture", COCO_SITE),
    WantedFile(f"{ANNOTATIONS}/captions_val2014.json", "five captions by people for each picture", COCO_SITE),
)
PICTURES = WantedFile(
    "coco/val2014/",
    "the pictures, COCO_val2014_<number>.jpg: to answer the questions, not to score answers",
    "https://cocodataset.org/#download, val2014.zip",
    required=False,
)
_NUMBER = re.compile(r"(\d+)(?:\.[A-Za-z]+)?$")

Key = TypeVar("Key")


@dataclass(frozen=True)
class Annotated:
    """A picture's instance classes, each once, and its captions."""

    instances: frozenset[str] = frozenset()
    captions: tuple[str, ...] = ()

    @cached_property
    def truth(self) -> frozenset[str]:
        """Instance classes together with the objects that the captions name, as CHAIR and Object HalBench have it."""
        return self.instances | classes_in(self.captions)


def image_id(name: str | int) -> str:
    """The number of a COCO image in its id or file name: "226988" for "COCO_val2014_000000226988.jpg".

    A name that ends in no number comes back as it is.
    """
    number = _NUMBER.search(str(name))
    return str(int(number[1])) if number else str(name)


def read_annotations(folder: Path, ids: Collection[str] | None = None) -> dict[str, Annotated]:
    """The pictures `ids` in COCO's files below `folder`/coco/annotations; those of val2014 where `ids` is None.

    Of the other splits, 2017 and train, a file is read only while some of `ids` are not found. An id that no file has
    is left out. Raises InvalidData for a file that is not COCO's.
    """
    wanted = None if ids is None else {image_id(one) for one in ids}
    found: dict[str, Annotated] = {}
    for split in SPLITS:
        files = [Path(folder, ANNOTATIONS, f"{kind}_{split}.json") for kind in ("instances", "captions")]
        if all(file.is_file() for file in files):
            left = None if wanted is None else wanted - found.keys()
            found |= _read_split(*files, left)
        if wanted is None or wanted <= found.keys():
            break
    return found


def read_lines(path: Path) -> dict[str, Annotated]:
    """Pictures of a JSON Lines file: `id`, `captions` (texts), `instances` (each with its `category`)."""
    annotated = {}
    for number, row in lines.parse_lines(lines.read_lines(path)):
        try:
            if isinstance(row, InvalidData):
                raise ValueError(row.why)
            classes = frozenset(_class(path, one["category"]) for one in row["instances"])
            annotated[image_id(row["id"])] = Annotated(classes, tuple(row["captions"]))
        except (ValueError, KeyError, TypeError) as error:
            raise _unlike_coco(f"{path}, line {number}", error) from error
    return annotated


def read_pictures(folder: Path) -> dict[str, str]:
    """File names of val2014's pictures by image id, in the order of the annotations."""
    path = Path(folder, ANNOTATIONS, "captions_val2014.json")
    try:
        return {image_id(image["id"]): image["file_name"] for image in _load(path)["images"]}
    except (KeyError, TypeError) as error:
        raise _unlike_coco(path, error) from error


def draw(ids: Collection[str], count: int) -> list[str]:
    """`count` of the ids, always the same ones: those whose sha256 is the smallest."""
    return sorted(ids, key=lambda one: sha256(one.encode()).digest())[:count]


def items(pictures: Mapping[str, str], ids: Collection[str], question: str) -> list[Item]:
    """One question about each image; `pictures` are file names of val2014 by image id."""
    return [Item(one, question, f"{PICTURES.path}{pictures[one]}") for one in ids]


def pair(keys: Mapping[str, Key], answers: Mapping[str, str]) -> tuple[dict[str, tuple[Key, str]], list[str]]:
    """The answers that have a key, each with it, and notes on the others; an image's file name is understood too."""
    paired, unknown = {}, []
    for id, answer in answers.items():
        key = keys.get(id, keys.get(image_id(id)))
        if key is None:
            unknown.append(id)
        else:
            paired[id] = (key, answer)
    notes = []
    if unknown:
        named = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        notes.append(f"Not counted: {len(unknown)} of {len(answers)} answers have no key ({named}).")
    if empty := sum(not answer.strip() for _, answer in paired.values()):
        notes.append(f"{empty} of {len(paired)} answers are empty.")
    return paired, notes


def missing(expected: Collection[str], answers: Mapping[str, str]) -> list[str]:
    """A note on the expected items without an answer; empty where every one has its own."""
    answered = {image_id(id) for id in answers}
    left = sum(image_id(id) not in answered for id in expected)
    if not left:
        return []
    return [f"{left} of {len(expected)} items have no answer: published figures are over all of them, these are not."]


def _read_split(instances: Path, captions: Path, wanted: Collection[str] | None) -> dict[str, Annotated]:
    file = instances
    try:
        data = _load(instances)
        names = {one["id"]: _class(instances, one["name"]) for one in data["categories"]}
        classes: dict[str, set[str]] = {str(image["id"]): set() for image in data["images"]}
        for one in data["annotations"]:
            classes[str(one["image_id"])].add(names[one["category_id"]])
        del data
        file = captions
        texts: dict[str, list[str]] = {}
        for one in _load(captions)["annotations"]:
            if not isinstance(one["caption"], str):
                raise TypeError("a caption that is no text")
            texts.setdefault(str(one["image_id"]), []).append(one["caption"])
    except (KeyError, TypeError) as error:
        raise _unlike_coco(file, error) from error
    ids = classes if wanted is None else [id for id in classes if id in wanted]
    return {id: Annotated(frozenset(classes[id]), tuple(texts.get(id, ()))) for id in ids}


def _load(path: Path) -> dict:
    def slim(value: dict) -> dict:
        value.pop("segmentation", None)  # most of the file, and nothing here needs an outline
        return value

    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file, object_hook=slim)
    except ValueError as error:
        raise _unlike_coco(path, error) from error


def _class(path: Path, name: str) -> str:
    if name not in CLASSES:
        raise InvalidData(
            f"{path} has a class {name!r}.",
            "Objects are counted for COCO's 80 classes, so its things could be neither named nor missed.",
            "Use COCO's own annotations, or leave the other classes out.",
        )
    return name


def _unlike_coco(path: Path | str, error: Exception) -> InvalidData:
    return InvalidData(
        f"{path} is no annotation of COCO's: {type(error).__name__} {error}.",
        "Without the objects and captions of the pictures nothing says which mention is wrong.",
        f"Fetch the file again from {COCO_SITE}.",
    )
