"""Scores of descriptions of scenes say what the world itself says of them."""

import random

import pytest

from rlhfv.evaluation.scene_score import MEASURES, score_scenes
from rlhfv.models.demo.language import describe
from rlhfv.models.demo.scenes import scene_from_source
from rlhfv.models.demo.world import DemoWorld, summarise

WORLD = DemoWorld()


def test_the_figures_are_those_of_the_world():
    sources = [f"demo:test/{number}" for number in range(60)]
    answers = {
        source: describe(scene_from_source(source), random.Random(number)) for number, source in enumerate(sources)
    }
    score = score_scenes(WORLD, dict(reversed(answers.items())))
    assert score.ids == tuple(sources)
    expected = summarise(WORLD.measure(answers.items()))
    names = {
        "response_rate": "response_rate",
        "mention_rate": "mention_rate",
        "recall": "recall",
        "target_recall": "target_recall",
        "number_rate": "number_error_rate",
        "position_rate": "position_error_rate",
    }
    values = {measure.name: float(measure.of(score.sums)) for measure in MEASURES}
    for ours, theirs in names.items():
        assert values[ours] == pytest.approx(100 * expected[theirs], abs=0.01)
    assert values["words"] == pytest.approx(expected["words"], abs=0.01)
    kinds = ("object_wrong", "number_wrong", "position_wrong")
    assert values["any_rate"] >= 100 * max(score.counts[kind].mean() for kind in kinds)
    assert 0 < values["response_rate"] < 100
    assert list(score.wrong) == list(score.counts["object_wrong"] > 0)
