"""Over-generalisation on made-up answers, on COCO's annotations and in the demo world."""

import numpy as np
import pytest

from rlhfv.evaluation import over_generalisation
from rlhfv.evaluation.over_generalisation import (
    PRINTED,
    Keys,
    Naming,
    most_frequent,
    scenes_of,
    score,
    score_namings,
    score_world,
)
from rlhfv.models.demo.world import DemoWorld
from tests.evaluation.llava_bench import invented_words
from tests.evaluation.test_coco_annotations import write_coco

OBJECTS = {"kitchen": ("cup", "knife", "oven"), "street": ("car",)}


def naming(scene, named, there):
    return Naming(frozenset(scene.split()), frozenset(named.split()), frozenset(there.split()))


def test_rates_are_means_over_objects():
    namings = {
        "1": naming("kitchen", "cup knife", "cup"),
        "2": naming("kitchen", "cup knife", "knife"),
        "3": naming("", "cup oven", "cup"),
        "4": naming("street", "cup car", "cup"),
    }
    result = score_namings(namings, OBJECTS, "made up")
    figures = result.figures()
    # cup: 1 of 4 everywhere, 1 of 2 in kitchens; knife: 1 of 2, 1 of 2; oven is never named in a kitchen, so it is in
    # neither mean.
    assert figures["h_a kitchen"] == 37.5 and figures["h_s kitchen"] == 50.0 and figures["delta kitchen"] == 12.5
    assert figures["h_a street"] == figures["h_s street"] == 100.0 and figures["delta street"] == 0.0
    assert figures["delta"] == 6.2
    assert result.wrong.tolist() == [True, True, False, True]  # "3" shows no scene
    assert "answers naming it wrongly of answers naming it" in result.variant
    assert result.notes[0].startswith("kitchen: 2 of 4 answers are about it; 2 of its 3 objects are named there")


def test_a_scene_that_nothing_is_said_about_has_no_figure_and_no_part_in_the_mean():
    result = score_namings({"1": naming("kitchen", "cup", "")}, OBJECTS, "made up")
    figures = result.figures()
    assert figures["h_s street"] is figures["delta street"] is figures["h_a street"] is None
    assert figures["delta kitchen"] == figures["delta"] == 0.0
    assert set(score_namings({}, OBJECTS, "made up").figures().values()) == {None}


def test_resamples_agree_with_scoring_the_resample():
    dice = np.random.default_rng(3)
    words = "cup knife oven car"
    namings = {
        str(row): naming(
            dice.choice(["kitchen", "street", ""]),
            *(" ".join(word for word in words.split() if dice.random() < 0.5) for _ in "ab"),
        )
        for row in range(12)
    }
    result = score_namings(namings, OBJECTS, "made up")
    drawn = dice.integers(0, 12, size=(20, 12))
    times = np.stack([np.bincount(rows, minlength=12) for rows in drawn])
    sums = {name: times @ counts for name, counts in result.counts.items()}
    for resample, rows in enumerate(drawn):
        again = score_namings({str(at): namings[str(row)] for at, row in enumerate(rows)}, OBJECTS, "made up")
        for measure in result.measures:
            value = measure.of(sums)[resample]
            assert np.isclose(value, measure.of(again.sums), equal_nan=True), measure.name


def test_objects_given_come_first_then_the_most_frequent():
    scenes = {"1": {"kitchen"}, "2": {"kitchen"}, "3": {"street"}}
    there = {"1": ["oven", "oven", "cup"], "2": ["sink", "cup", "bowl"], "3": ["car"]}
    first = {"kitchen": ("knife", "cup"), "street": ()}
    chosen = most_frequent(scenes, there, first, 4)
    assert chosen == {"kitchen": ("knife", "cup", "bowl", "oven"), "street": ("car",)}


def test_scene_words():
    assert scenes_of(["Two KITCHENS", "a livingroom"]) == {"kitchen", "living room"}
    assert scenes_of(["a bath room", "a streetcar"]) == frozenset()
    assert scenes_of([]) == frozenset()


def test_coco_adapter():
    objects = {scene: (*six, "oven") for scene, six in PRINTED.items()}
    keys = Keys({"1": frozenset({"kitchen"}), "2": frozenset()}, {"1": frozenset({"oven"}), "2": frozenset()}, objects)
    answers = {"1": "A stove, cups and a zebra.", "2": "Mugs."}
    result = score(keys, answers, expected=["1", "2", "3"])
    assert invented_words(result, answers) == {"1": ["cups"]}  # no zebra is among the scenes' objects
    assert result.figures()["h_s kitchen"] == 50.0
    assert any("kitchen: oven" in note for note in result.notes)
    assert any(note.startswith("1 of 3 items have no answer") for note in result.notes)


def test_a_folder_of_coco(tmp_path):
    kitchen = (["oven", "cup", "oven"], ["A kitchen.", "A man in it."])
    write_coco(tmp_path, "val2014", {1: kitchen, 2: (["sink", "oven"], ["A kitchen"]), 3: (["car"], ["A street."])})
    assert {item.id: item.group for item in over_generalisation.read_items(tmp_path)} == {
        "1": "kitchen",
        "2": "kitchen",
        "3": "street",
    }
    keys = over_generalisation.read_keys(tmp_path, ["COCO_val2014_000000000001.jpg"])
    assert keys.objects["kitchen"] == (*PRINTED["kitchen"], "oven", "sink")
    assert keys.there == {"1": {"oven", "cup", "person"}}
    result = over_generalisation.score_folder(tmp_path, {"1": "An oven and a bowl.", "2": "An oven."})
    assert result.figures()["h_s kitchen"] == 50.0  # a bowl in one, the oven in none
    assert any(note.startswith("1 of 3 items have no answer") for note in result.notes)


@pytest.fixture(scope="module")
def world():
    return DemoWorld()


def test_the_truth_of_the_demo_world_over_generalises_nothing(world):
    sources = [f"demo:test/{seed}" for seed in range(60)]
    true = {source: ", ".join(f"a {name}" for name in world.truth(source).counts()) for source in sources}
    result = score_world(world, true)
    assert result.figures()["delta"] == 0.0 and not result.wrong.any() and set(result.faults) == {()}
    assert all("are named there and counted" in note for note in result.notes) and len(result.notes) == 4


def test_an_invention_that_only_one_scene_brings_is_a_positive_delta(world):
    sources = [f"demo:test/{seed}" for seed in range(200)]
    answers = {}
    for source in sources:
        scene = world.truth(source)
        named = [f"a {name}" for name in scene.counts()] + ["a chair"] * (scene.scene_type == "kitchen")
        answers[source] = ", ".join(named) + ". There is no couch."
    result = score_world(world, answers)
    figures = result.figures()
    kitchens = result.counts["shown kitchen"].astype(bool)
    assert figures["delta street"] == 0.0 and figures["h_s kitchen"] > figures["h_a kitchen"] > 0
    assert result.wrong[kitchens].any() and not result.wrong[~kitchens].any()
    assert {word for words in invented_words(result, answers).values() for word in words} == {"chair"}
