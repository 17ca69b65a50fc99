"""COCO's own files and JSON Lines of captions and boxes."""

import json

import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation import coco_annotations
from rlhfv.evaluation.coco_annotations import image_id, read_annotations, read_lines


def write_coco(folder, split, pictures):
    """`pictures`: image number → (classes, captions)."""
    names = sorted({name for classes, _ in pictures.values() for name in classes})
    images = [{"id": id, "file_name": f"COCO_{split}_{id:012}.jpg"} for id in pictures]
    instances = [
        {"image_id": id, "category_id": names.index(name) + 7, "segmentation": [[1.0, 2.0]]}
        for id, (classes, _) in pictures.items()
        for name in classes
    ]
    categories = [{"id": index + 7, "name": name} for index, name in enumerate(names)]
    captions = [{"image_id": id, "caption": text} for id, (_, texts) in pictures.items() for text in texts]
    place = folder / coco_annotations.ANNOTATIONS
    place.mkdir(parents=True, exist_ok=True)
    for kind, annotations in (("instances", instances), ("captions", captions)):
        content = {"images": images, "annotations": annotations, "categories": categories}
        (place / f"{kind}_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path):
    write_coco(tmp_path, "val2014", {42: (["dog", "dog", "cup"], ["A puppy", "on a couch."]), 7: ([], [])})
    write_coco(tmp_path, "train2014", {9: (["tv"], ["A man with a TV."])})
    return tmp_path


def test_truth_is_instances_and_what_captions_name(coco):
    read = read_annotations(coco)
    assert {id: set(one.truth) for id, one in read.items()} == {"42": {"dog", "cup", "couch"}, "7": set()}
    assert read["42"].instances == {"dog", "cup"}


def test_other_splits_are_read_where_an_image_is_theirs(coco):
    read = read_annotations(coco, ["COCO_train2014_000000000009.jpg", "42", "1"])
    assert {id: set(one.truth) for id, one in read.items()} == {"42": {"dog", "cup", "couch"}, "9": {"tv", "person"}}


def test_train_is_left_alone_where_nobody_needs_it(coco):
    (coco / coco_annotations.ANNOTATIONS / "instances_train2014.json").write_text("no JSON")
    assert set(read_annotations(coco, ["42"])) == {"42"}
    with pytest.raises(InvalidData, match=r"instances_train2014\.json is no annotation"):
        read_annotations(coco, ["9"])


def test_a_class_that_is_not_cocos_is_refused(coco):
    write_coco(coco, "val2014", {42: (["dragon"], [])})
    with pytest.raises(InvalidData, match="dragon"):
        read_annotations(coco)


@pytest.mark.parametrize("content", ["[]", '{"images": []}', '{"images": [], "categories": [], "annotations": [{}]}'])
def test_a_file_that_is_not_cocos_is_refused(coco, content):
    (coco / coco_annotations.ANNOTATIONS / "captions_val2014.json").write_text(content)
    if content != '{"images": []}':
        (coco / coco_annotations.ANNOTATIONS / "instances_val2014.json").write_text(content)
    with pytest.raises(InvalidData, match="no annotation of COCO's"):
        read_annotations(coco)


@pytest.mark.parametrize("name", ["226988", "000000226988", "COCO_val2014_000000226988.jpg", 226988])
def test_an_image_goes_by_its_number(name):
    assert image_id(name) == "226988"


def test_a_name_without_a_number_stays():
    assert image_id("a picture") == "a picture"


def test_json_lines_of_captions_and_boxes(benchmarks, tmp_path):
    read = read_lines(benchmarks / "llava_bench_coco" / "caps_boxes_coco2014_val_80.jsonl")
    assert len(read) == 80 and read["296284"].truth == {"donut"} and len(read["296284"].captions) == 5
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"id": "1", "captions": [], "instances": []}\n\n{"id": ')
    with pytest.raises(InvalidData, match="line 3"):
        read_lines(torn)


def test_a_caption_may_hold_a_raw_separator(tmp_path):
    caption = "A dog\u2028and\x85a cat."
    row = {"id": "1", "captions": [caption], "instances": []}
    (tmp_path / "lines.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert read_lines(tmp_path / "lines.jsonl")["1"].captions == (caption,)


def test_the_draw_is_always_the_same():
    ids = [str(number) for number in range(1000)]
    drawn = coco_annotations.draw(ids, 5)
    assert drawn == coco_annotations.draw(list(reversed(ids)), 5) == ["886", "286", "671", "245", "374"]
    assert coco_annotations.draw(ids[:3], 5) == sorted(ids[:3], key=coco_annotations.draw(ids[:3], 5).index)
