"""The table of benchmarks: what each asks and wants, and that its figures come through."""

import json

import pytest

from rlhfv.errors import InvalidData, NotFound
from rlhfv.evaluation.answer_forms import FORMS
from rlhfv.evaluation.benchmarks import benchmarks, find_benchmark
from rlhfv.evaluation.files import sha256_of

NAMES = "chair object-halbench amber-generative amber-discriminative pope-random pope-popular pope-adversarial mmhal"
IMAGE = "COCO_val2014_000000000001.jpg"


def write_pope(root, image=IMAGE, split="random"):
    (root / "pope").mkdir(parents=True, exist_ok=True)
    rows = [
        {"question_id": number, "image": image, "text": f"Is there a {thing} in the image?", "label": label}
        for number, (thing, label) in enumerate([("cup", "yes"), ("dog", "no"), ("fork", "yes"), ("cat", "no")], 1)
    ]
    (root / "pope" / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, rows)))
    return root


def test_every_benchmark_has_its_name():
    assert list(benchmarks()) == [*NAMES.split(), "llava-bench", "llava-bench-wild", "over-generalisation"]
    with pytest.raises(NotFound, match="pope-random"):
        find_benchmark("pope")


@pytest.mark.parametrize("name", benchmarks())
def test_a_benchmark_says_what_it_lacks_and_where_it_comes_from(name, tmp_path):
    what = find_benchmark(name)
    files = what.files(tmp_path)
    assert not any(file.there for file in files) and all(".." not in file.wanted.path for file in files)
    with pytest.raises(InvalidData) as told:
        what.read_items(tmp_path)
    for file in files:
        assert (file.wanted.path in str(told.value)) == file.wanted.required
        assert file.wanted.source and file.wanted.what
    assert what.variant() == what.variants[0] and set(what.judged) <= set(what.variants)
    assert what.questions and set(what.forms) <= set(FORMS)


def test_questions_answers_and_figures_come_through(tmp_path):
    what = find_benchmark("pope-random")
    items = what.read_items(write_pope(tmp_path))
    assert [item.image for item in items] == [f"coco/val2014/{IMAGE}"] * 4
    score = what.score(tmp_path, {item.id: "Yes" for item in items})
    assert score.figures()["accuracy"] == 50 and "own reading" in score.variant
    assert "lenient" in what.score(tmp_path, {"1": "Yes"}, "lenient").variant
    with pytest.raises(InvalidData, match="official, lenient"):
        what.score(tmp_path, {}, "other")


def test_the_digest_is_that_of_the_question_file(tmp_path):
    what = find_benchmark("pope-random")
    write_pope(tmp_path)
    before, state = what.digest(tmp_path), what.state(tmp_path)
    assert before == sha256_of(tmp_path / "pope/coco_pope_random.json")
    write_pope(tmp_path, "other.jpg")
    assert what.digest(tmp_path) != before and what.state(tmp_path) != state


@pytest.mark.parametrize("image", ["../../../etc/passwd", "../../../../x.jpg"])
def test_a_picture_outside_the_folder_is_refused(tmp_path, image):
    with pytest.raises(InvalidData, match="outside"):
        find_benchmark("pope-random").read_items(write_pope(tmp_path, image))


def test_the_public_data_is_read_by_the_table(benchmarks):
    sizes = {"pope-random": 3000, "pope-adversarial": 3000, "amber-generative": 1004, "amber-discriminative": 14216}
    for name, size in sizes.items():
        items = find_benchmark(name).read_items(benchmarks)
        assert len(items) == len({item.id for item in items}) == size, name
    assert items[0].image.startswith("amber/image/AMBER_")


def test_what_needs_a_judge_says_so(benchmarks):
    with pytest.raises(InvalidData, match="judge"):
        find_benchmark("mmhal").score(benchmarks, {"0": "Red."})
