"""Over-generalisation: does a scene make a model name what usually goes with it?

RLHF-V (arXiv 2312.00849), table 2, for a scene and the ten objects most frequent in it: H_a, their hallucination rate
over all answers; H_s, the same over the answers about pictures of the scene; Δ = H_s − H_a. The paper prints six of
the ten and neither code nor denominator. Here an object's rate is

    answers that name it although it is not there / answers that name it,

and a scene's rate is the mean over those of its objects that an answer about the scene names at all: H_a and H_s are
means over the same objects, so that Δ compares like with like.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhfv.evaluation import chair, coco_annotations
from rlhfv.evaluation.coco import find_mentions
from rlhfv.evaluation.files import require_files
from rlhfv.evaluation.score import Fault, Item, Measure, Score, Sums, share
from rlhfv.models.catalog import World
from rlhfv.models.demo import reading

BENCHMARK = "over-generalisation"
COCO = "over-generalisation-coco"
DEMO = "over-generalisation-demo"
VARIANTS = (COCO,)
WANTED = chair.WANTED
OBJECTS = 10

PRINTED: Mapping[str, tuple[str, ...]] = {
    "living room": ("book", "person", "bed", "chair", "couch", "remote"),
    "kitchen": ("bottle", "bowl", "cup", "person", "chair", "knife"),
    "bathroom": ("toilet", "sink", "bottle", "toothbrush", "person", "cup"),
    "street": ("person", "car", "motorcycle", "traffic light", "handbag", "truck"),
}
"""The six of each scene's ten objects that the paper's table prints."""

_SCENE_WORDS = {scene: re.compile(rf"\b{scene.replace(' ', '[ -]?')}s?\b", re.IGNORECASE) for scene in PRINTED}


@dataclass(frozen=True)
class Naming:
    """What one answer names: the scenes its picture shows, the objects named (only the scenes' objects count), the
    objects there, and where absent ones are named."""

    scenes: frozenset[str]
    named: frozenset[str]
    there: frozenset[str]
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Keys:
    """COCO's side: each picture's scenes and classes by image id, and the ten objects of each scene."""

    scenes: Mapping[str, frozenset[str]]
    there: Mapping[str, frozenset[str]]
    objects: Mapping[str, tuple[str, ...]]


def score_namings(
    namings: Mapping[str, Naming],
    objects: Mapping[str, Sequence[str]],
    variant: str,
    notes: Iterable[str] = (),
) -> Score:
    """H_a, H_s and Δ of each scene, and the mean Δ over the scenes where it is defined.

    Args:
        namings: by item id.
        objects: by scene, in the order of the table.
        variant: how the objects were chosen and found, in words.

    An answer is `wrong` if it names an absent object of its own picture's scene: that is what over-generalising means.
    """
    rows = tuple(namings.values())
    counts: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(name for ten in objects.values() for name in ten):
        counts[_of(name)] = np.array([name in row.named for row in rows], float)
        counts[_absent(name)] = np.array([name in row.named - row.there for row in rows], float)
    for scene, ten in objects.items():
        shown = np.array([scene in row.scenes for row in rows], float)
        counts[f"shown {scene}"] = shown
        for name in ten:
            counts[_of(name, scene)] = shown * counts[_of(name)]
            counts[_absent(name, scene)] = shown * counts[_absent(name)]
    own = [frozenset(name for scene in row.scenes for name in objects.get(scene, ())) for row in rows]
    sums = {name: np.sum(values) for name, values in counts.items()}
    counted = [
        f"{scene}: {int(sums[f'shown {scene}'])} of {len(rows)} answers are about it; "
        f"{sum(sums[_of(name, scene)] > 0 for name in ten)} of its {len(ten)} objects are named there and counted "
        f"({', '.join(ten)})."
        for scene, ten in objects.items()
    ]
    return Score(
        benchmark=BENCHMARK,
        variant=f"{variant}; an object's rate: answers naming it wrongly of answers naming it; mean over the scene's "
        "objects that are named there",
        ids=tuple(namings),
        counts=counts,
        measures=measures(objects),
        wrong=np.array([bool(mine & (row.named - row.there)) for mine, row in zip(own, rows, strict=True)], bool),
        faults=tuple(row.faults for row in rows),
        notes=(*notes, *counted),
    )


def measures(objects: Mapping[str, Sequence[str]]) -> tuple[Measure, ...]:
    """The table's figures: mean Δ first, then Δ, H_s and H_a of each scene, named "delta", "delta kitchen", …"""
    each = []
    for scene, ten in objects.items():
        each += [
            Measure(
                f"delta {scene}", f"Δ {scene}", "points", "lower", lambda sums, s=scene, o=ten: _delta(sums, s, o)
            ),
            Measure(
                f"h_s {scene}", f"H_s {scene}", "percent", "lower", lambda sums, s=scene, o=ten: _rates(sums, s, o)[1]
            ),
            Measure(
                f"h_a {scene}", f"H_a {scene}", "percent", "lower", lambda sums, s=scene, o=ten: _rates(sums, s, o)[0]
            ),
        ]

    def mean_delta(sums: Sums) -> np.ndarray:
        return _mean([_delta(sums, scene, ten) for scene, ten in objects.items()])

    return (Measure("delta", "Mean Δ", "points", "lower", mean_delta), *each)


def most_frequent(
    scenes: Mapping[str, Collection[str]],
    there: Mapping[str, Collection[str]],
    first: Mapping[str, Sequence[str]],
    count: int = OBJECTS,
) -> dict[str, tuple[str, ...]]:
    """`count` objects for each scene of `first`: those given there, then the ones in most pictures of the scene.

    `scenes` and `there` are the scenes and objects of each picture. Where two are as frequent, the alphabet decides.
    """
    chosen = {}
    for scene, given in first.items():
        pictures = Counter(name for id, shown in scenes.items() if scene in shown for name in set(there[id]))
        ranked = sorted(pictures, key=lambda name, of=pictures: (-of[name], name))
        chosen[scene] = tuple(dict.fromkeys([*given, *ranked]))[:count]
    return chosen


def scenes_of(captions: Iterable[str]) -> frozenset[str]:
    """The scenes whose word stands in one of a picture's captions, as the paper tells them."""
    text = "\n".join(captions)
    return frozenset(scene for scene, word in _SCENE_WORDS.items() if word.search(text))


def score(keys: Keys, answers: Mapping[str, str], expected: Collection[str] = ()) -> Score:
    """The table for descriptions of COCO's pictures; `answers` by image id, H_a over all that have a key."""
    paired, notes = coco_annotations.pair({id: (keys.scenes[id], there) for id, there in keys.there.items()}, answers)
    counted = frozenset(name for ten in keys.objects.values() for name in ten)
    namings = {}
    for id, ((scenes, there), answer) in paired.items():
        mentions = [mention for mention in find_mentions(answer) if mention.category in counted]
        faults = (Fault(one.start, one.end, "object") for one in mentions if one.category not in there)
        namings[id] = Naming(scenes, frozenset(one.category for one in mentions), frozenset(there), tuple(faults))
    added = {scene: [name for name in ten if name not in PRINTED[scene]] for scene, ten in keys.objects.items()}
    notes.append(
        "The paper prints six objects of each scene; the others here are the most frequent in the instances of "
        "val2014: " + "; ".join(f"{scene}: {', '.join(names)}" for scene, names in added.items()) + "."
    )
    notes += coco_annotations.missing(expected, answers)
    variant = f"{COCO}: scenes by their word in a caption; {chair.counted_by()}; truth of instances and captions"
    return score_namings(namings, keys.objects, variant, notes)


def read_items(folder: Path) -> list[Item]:
    """The same descriptions as CHAIR's, each in the group of the scenes that its picture shows."""
    items = chair.read_items(folder)
    annotated = coco_annotations.read_annotations(folder, [item.id for item in items])
    return [
        Item(one.id, one.question, one.image, ", ".join(sorted(scenes_of(annotated[one.id].captions))))
        for one in items
    ]


def read_keys(folder: Path, ids: Collection[str] | None = None) -> Keys:
    """The keys of the images `ids`, or of all; the scenes' objects are those of val2014 whatever the ids."""
    require_files(folder, WANTED)
    every = coco_annotations.read_annotations(folder)
    scenes = {id: scenes_of(one.captions) for id, one in every.items()}
    objects = most_frequent(scenes, {id: one.instances for id, one in every.items()}, PRINTED)
    asked = every
    if ids is not None:
        wanted = {coco_annotations.image_id(id) for id in ids}
        asked = {id: every[id] for id in wanted & every.keys()}
        if wanted - every.keys():
            asked |= coco_annotations.read_annotations(folder, wanted - every.keys())
    return Keys(
        {id: scenes_of(one.captions) for id, one in asked.items()},
        {id: one.truth for id, one in asked.items()},
        objects,
    )


def score_folder(folder: Path, answers: Mapping[str, str]) -> Score:
    """`score` with the keys of a benchmark folder; answers about images that nobody asked about are scored too."""
    items = [item.id for item in chair.read_items(folder)]
    asked = {coco_annotations.image_id(id) for id in answers} & set(items)
    return score(read_keys(folder, answers), answers, items if asked else ())


def score_world(world: World, answers: Mapping[str, str]) -> Score:
    """The table for the demo world: descriptions by source, such as "demo:test/17"; each scene's objects are the ten
    that most of its pictures among the answered ones show."""
    truths = {source: world.truth(source) for source in answers}
    scenes = {source: frozenset({truth.scene_type}) for source, truth in truths.items()}
    there = {source: frozenset(truth.counts()) for source, truth in truths.items()}
    objects = most_frequent(scenes, there, dict.fromkeys(PRINTED, ()))
    counted = frozenset(name for ten in objects.values() for name in ten)
    namings = {}
    for source, answer in answers.items():
        mentions = [one for one in reading.find_mentions(answer) if not one.negated and one.name in counted]
        faults = (Fault(one.noun_start, one.end, "object") for one in mentions if one.name not in there[source])
        named = frozenset(one.name for one in mentions)
        namings[source] = Naming(scenes[source], named, there[source], tuple(faults))
    return score_namings(namings, objects, f"{DEMO}: the world's own scenes and names; truth as drawn")


def _of(name: str, scene: str = "") -> str:
    return f"names {name}" + (f" in {scene}" if scene else "")


def _absent(name: str, scene: str = "") -> str:
    return f"names absent {name}" + (f" in {scene}" if scene else "")


def _rates(sums: Sums, scene: str, objects: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """H_a and H_s, in percent, over the objects that are named in the scene; numbers, or arrays over resamples."""
    here = np.stack([share(sums[_absent(name, scene)], sums[_of(name, scene)]) for name in objects])
    everywhere = np.stack([share(sums[_absent(name)], sums[_of(name)]) for name in objects])
    return 100 * _mean(np.where(np.isnan(here), np.nan, everywhere)), 100 * _mean(here)


def _delta(sums: Sums, scene: str, objects: Sequence[str]) -> np.ndarray:
    everywhere, here = _rates(sums, scene, objects)
    return here - everywhere


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """The mean along the first axis of what is defined, NaN where nothing is."""
    stacked = np.asarray(values, float)
    defined = ~np.isnan(stacked)
    return share(np.where(defined, stacked, 0).sum(0), defined.sum(0))
