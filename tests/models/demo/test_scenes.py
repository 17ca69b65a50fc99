"""Scenes: always the same, never in two splits, and their truth survives JSON."""

import json
from itertools import pairwise

import pytest

from rlhfv.errors import InvalidData
from rlhfv.models.demo.objects import BY_NAME, CLASS_NAMES, CLASSES, RULES
from rlhfv.models.demo.scenes import (
    SCENE_TYPES,
    SHEET_PATH,
    SIZES,
    SPLITS,
    TYPICAL,
    Scene,
    draw_scene,
    render,
    scene_from_source,
    scene_source,
)

COCO = frozenset(
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush".split(",")
)
"""The 80 classes of COCO's detection task (Lin et al., 2014, arXiv:1405.0312)."""


def test_a_seed_always_draws_the_same_scene_and_picture():
    assert draw_scene("test", 17) == draw_scene("test", 17)
    assert render(draw_scene("test", 17)).tobytes() == render(draw_scene("test", 17)).tobytes()
    assert draw_scene("test", 17) != draw_scene("pairs", 17)


def test_pictures_are_336_pixels_square_and_differ():
    pictures = [render(draw_scene("validation", seed)) for seed in range(20)]
    assert all(picture.size == (336, 336) and picture.mode == "RGB" for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_splits_do_not_overlap():
    ranges = sorted((first, first + length) for first, length in SPLITS.values())
    assert all(one[1] <= other[0] for one, other in pairwise(ranges))
    assert set(SPLITS) == {"base", "pairs", "validation", "test"}


def test_no_test_scene_is_among_the_scenes_the_base_learnt_from():
    def content(scene):
        return scene.scene_type, tuple((placed.name, placed.cell, placed.count) for placed in scene.objects)

    test = {content(draw_scene("test", seed)) for seed in range(500)}
    assert not any(content(draw_scene("base", seed)) in test for seed in range(3_000))


def test_scenes_hold_what_they_promise():
    seen, types, counts, repeated = set(), set(), set(), False
    for seed in range(1_500):
        scene = draw_scene("validation", seed)
        cells = [placed.cell for placed in scene.objects]
        assert cells == sorted(set(cells)) and 4 <= len(cells) <= 6
        seen |= set(scene.counts())
        types.add(scene.scene_type)
        counts |= {placed.count for placed in scene.objects}
        repeated |= len(scene.counts()) < len(scene.objects)
    assert seen == set(CLASS_NAMES) and len(CLASS_NAMES) >= 40
    assert types == set(SCENE_TYPES) and counts == {1, 2, 3} and repeated


def test_at_least_forty_of_the_things_are_classes_of_coco():
    assert sum(bool({one.name, *one.synonyms} & COCO) for one in CLASSES) >= 40
    assert SHEET_PATH.is_file() and "Noto" in SHEET_PATH.with_name("NOTICE").read_text()


def test_sizes_vary_and_some_things_are_where_nobody_expects_them():
    scenes = [draw_scene("validation", seed) for seed in range(300)]
    placed = [(scene.scene_type, one) for scene in scenes for one in scene.objects]
    assert {one.size for _, one in placed} == set(SIZES)
    atypical = sum(one.name not in TYPICAL[scene_type] for scene_type, one in placed)
    assert 0.05 < atypical / len(placed) < 0.3


def test_rules_and_typical_things_name_known_classes_and_no_target_is_a_trigger():
    assert set(RULES) | set(RULES.values()) <= set(BY_NAME)
    assert not set(RULES) & set(RULES.values())
    assert all(set(names) <= set(BY_NAME) for names in TYPICAL.values())


def test_truth_survives_json():
    scene = draw_scene("pairs", 5)
    assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
    with pytest.raises(InvalidData):
        Scene.from_dict({"split": "test"})


def test_a_source_leads_back_to_its_scene():
    scene = draw_scene("validation", 123)
    assert scene_source(scene) == "demo:validation/123"
    assert scene_from_source(scene_source(scene)) == scene


@pytest.mark.parametrize(
    "source", ["", "demo:test", "demo:test/-1", "demo:nowhere/1", "file:test/1", "demo:test/1000000", "demo:test/²"]
)
def test_other_sources_are_refused(source):
    with pytest.raises(InvalidData):
        scene_from_source(source)
