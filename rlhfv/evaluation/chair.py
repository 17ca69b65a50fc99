"""CHAIR: how much of what a caption names is not in the picture.

Rohrbach et al., Object Hallucination in Image Captioning, EMNLP 2018, as their `utils/chair.py` counts it. The truth
of a picture is its instance classes and whatever the captions by people name.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from rlhfv.errors import InvalidData
from rlhfv.evaluation import coco_annotations
from rlhfv.evaluation.coco import find_mentions, forms
from rlhfv.evaluation.files import WantedFile, require_files
from rlhfv.evaluation.score import Fault, Item, Measure, Score, Sums, per_cent, share

BENCHMARK = "chair"
VARIANTS = ("chair",)
QUESTION = "Please describe this image in detail."
IMAGES = 500
_LIST = WantedFile(
    "coco/chair_images.txt",
    f"the images to ask about, one number a line; without it {IMAGES} of val2014, always the same ones",
    "yourself, where a paper's own images are to be repeated",
    required=False,
)
WANTED = (*coco_annotations.VAL_2014, coco_annotations.PICTURES, _LIST)

RECALL = Measure(
    "recall",
    "Object recall",
    "percent",
    "higher",
    lambda sums: per_cent(sums["recalled"], sums["there"]),
)
WORDS = Measure("words", "Words an answer", "words", "", lambda sums: share(sums["words"], sums["answers"]))


def _response_rate(sums: Sums) -> np.ndarray:
    return per_cent(sums["with_invented"], sums["answers"])


def _mention_rate(sums: Sums) -> np.ndarray:
    return per_cent(sums["invented"], sums["mentions"])


MEASURES = (
    Measure("response_rate", "CHAIR_s: captions with an absent object, of all", "percent", "lower", _response_rate),
    Measure("mention_rate", "CHAIR_i: mentions of absent objects, of all", "percent", "lower", _mention_rate),
    RECALL,
    WORDS,
)


def counted_by() -> str:
    """How words become objects, for the name of a variant."""
    return f"the studio's own singulars and COCO table of {len(forms())} forms"


def score(truth: Mapping[str, Collection[str]], answers: Mapping[str, str], expected: Collection[str] = ()) -> Score:
    """CHAIR of the answers whose item has a truth: its classes by item id, which may be the image's number.

    Every mention counts, repeats too; captions that name nothing count below CHAIR_s. `expected` are the items that
    should have been answered: how many are missing is said in the notes.
    """
    paired, notes = coco_annotations.pair(truth, answers)
    names = ("answers", "with_invented", "mentions", "invented", "recalled", "there", "words")
    counts = {name: np.zeros(len(paired)) for name in names}
    faults = []
    for row, (there, answer) in enumerate(paired.values()):
        mentions = find_mentions(answer)
        invented = [mention for mention in mentions if mention.category not in there]
        counts["answers"][row] = 1
        counts["with_invented"][row] = bool(invented)
        counts["mentions"][row] = len(mentions)
        counts["invented"][row] = len(invented)
        counts["recalled"][row] = len({mention.category for mention in mentions} & set(there))
        counts["there"][row] = len(set(there))
        counts["words"][row] = len(answer.split())
        faults.append(tuple(Fault(mention.start, mention.end, "object") for mention in invented))
    if not counts["mentions"].any():
        notes.append("No answer names an object of COCO's classes, so there is no share of wrong mentions.")
    return Score(
        benchmark=BENCHMARK,
        variant=f"chair: every mention, CHAIR_s of all captions; {counted_by()}; truth of instances and captions",
        ids=tuple(paired),
        counts=counts,
        measures=MEASURES,
        wrong=counts["with_invented"].astype(bool),
        faults=tuple(faults),
        notes=(*notes, *coco_annotations.missing(expected, answers)),
    )


def read_items(folder: Path) -> list[Item]:
    """The images of `coco/chair_images.txt`, else 500 of val2014; one question for all."""
    require_files(folder, WANTED)
    pictures = coco_annotations.read_pictures(folder)
    listed = Path(folder, _LIST.path)
    if not listed.is_file():
        return coco_annotations.items(pictures, coco_annotations.draw(pictures, IMAGES), QUESTION)
    lines = listed.read_text(encoding="utf-8", errors="replace").splitlines()  # what is no text is no image either
    ids = [coco_annotations.image_id(line.strip()) for line in lines if line.strip()]
    ids = list(dict.fromkeys(ids))
    if strangers := [id for id in ids if id not in pictures]:
        raise InvalidData(
            f"{listed} names {len(strangers)} images that are not in val2014, such as {strangers[0]!r}.",
            "The questions are asked about pictures of val2014, whose annotations are at hand.",
            "Take these lines out.",
        )
    return coco_annotations.items(pictures, ids, QUESTION)


def read_keys(folder: Path, ids: Collection[str] | None = None) -> dict[str, frozenset[str]]:
    """The classes in each picture, for the images `ids`, or for all of val2014."""
    require_files(folder, WANTED)
    return {id: one.truth for id, one in coco_annotations.read_annotations(folder, ids).items()}


def score_folder(folder: Path, answers: Mapping[str, str]) -> Score:
    """`score` with the keys of a benchmark folder; answers about images that nobody asked about are scored too."""
    items = [item.id for item in read_items(folder)]
    asked = {coco_annotations.image_id(id) for id in answers} & set(items)
    return score(read_keys(folder, answers), answers, items if asked else ())
