"""Descriptions of scenes whose truth is known, as counts of each scene, for the bootstraps that Scores share."""

from collections.abc import Mapping

import numpy as np

from rlhfv.evaluation.score import Measure, Score, per_cent, share
from rlhfv.models.catalog import World

BENCHMARK = "demo-world"
VARIANT = "detailed descriptions of test scenes, greedy; claims checked against the scene"
_COUNTED = ("mentioned", "invented", "there", "recalled", "targets_there", "targets_recalled", "words")


def _rate(name: str, title: str, above: str, below: str, better: str = "lower") -> Measure:
    return Measure(name, title, "percent", better, lambda sums: per_cent(sums[above], sums[below]))


MEASURES = (
    _rate("response_rate", "answers that name an absent object", "object_wrong", "answers"),
    _rate("mention_rate", "named objects that are absent", "invented", "mentioned"),
    _rate("any_rate", "answers with anything false", "any_wrong", "answers"),
    _rate("number_rate", "answers with a false number", "number_wrong", "answers"),
    _rate("position_rate", "answers with a false position", "position_wrong", "answers"),
    _rate("recall", "objects there that are named", "recalled", "there", "higher"),
    _rate("target_recall", "the same for objects of a habit", "targets_recalled", "targets_there", "higher"),
    Measure("words", "words per answer", "words", "", lambda sums: share(sums["words"], sums["answers"])),
)


def score_scenes(world: World, answers: Mapping[str, str]) -> Score:
    """`answers`: a scene's source → the description of it. An answer is `wrong` when it names an absent object."""
    sources = tuple(sorted(answers, key=lambda source: (len(source), source)))
    measured = world.measure([(source, answers[source]) for source in sources])
    counts = {name: np.array([getattr(one, name) for one in measured]) for name in _COUNTED}
    wrong = {
        "object": counts["invented"] > 0,
        "number": np.array([one.number_errors > 0 for one in measured]),
        "position": np.array([one.position_errors > 0 for one in measured]),
    }
    counts |= {f"{kind}_wrong": of_kind.astype(int) for kind, of_kind in wrong.items()}
    counts["any_wrong"] = np.any(list(wrong.values()), axis=0).astype(int)
    counts["answers"] = np.ones(len(sources), int)
    return Score(BENCHMARK, VARIANT, sources, counts, MEASURES, wrong["object"], ((),) * len(sources))
