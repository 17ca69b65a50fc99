"""POPE against its own keys: simple answerers, the two files named random, what is not defined, the mean of splits.

The rules are those of `evaluate.py` of RUCAIBox/POPE at 3df3ba1.
"""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation import pope
from rlhfv.evaluation.pope import Questions
from rlhfv.evaluation.score import Item

FOUR = ("accuracy", "precision", "recall", "f1", "yes_ratio")


def four(score):
    return tuple(score.figures()[name] for name in FOUR)


@pytest.fixture(scope="module", params=pope.SPLITS)
def split(request, benchmarks):
    return pope.read_questions(benchmarks / "pope", request.param)


@pytest.fixture(scope="module")
def short(benchmarks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pope")
    shutil.copy(benchmarks / "pope" / "coco_pope_random.2910_variant.json", folder / "coco_pope_random.json")
    return pope.read_questions(folder, "random")


def small(*labels):
    items = tuple(Item(str(n), f"Is there a {n}?", "", "random") for n, _ in enumerate(labels))
    return Questions("random", "made up", items, {str(n): label for n, label in enumerate(labels)})


def test_each_split_has_3000_questions_about_500_images(split):
    assert len(split.items) == 3000 and Counter(split.labels.values()) == {"yes": 1500, "no": 1500}
    assert set(Counter(item.image for item in split.items).values()) == {6}
    assert split.items[0] == Item(
        "1", "Is there a snowboard in the image?", "../coco/val2014/COCO_val2014_000000310196.jpg", split.split
    )
    assert split.source == "POPE's own 3,000 questions"


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (lambda label: "Yes", (50.0, 50.0, 100.0, 66.7, 100.0)),
        (lambda label: "", (50.0, 50.0, 100.0, 66.7, 100.0)),  # empty is read as yes
        (lambda label: "no", (50.0, None, 0.0, None, 0.0)),
        (lambda label: label, (100.0, 100.0, 100.0, 100.0, 50.0)),
        (lambda label: {"yes": "no", "no": "yes"}[label], (0.0, 0.0, 0.0, None, 50.0)),
    ],
)
def test_simple_answerers(split, answer, wanted):
    score = pope.score(split, {id: answer(label) for id, label in split.labels.items()})
    assert four(score) == wanted
    assert score.benchmark == f"pope-{split.split}" and score.wrong.sum() == 30 * (100 - wanted[0])
    assert score.variant == f"POPE's own reading of answers; {split.split}: POPE's own 3,000 questions"
    assert any("not defined" in note for note in score.notes) == (None in wanted)


def test_the_other_random_file_is_told_apart(short, benchmarks):
    own = pope.read_questions(benchmarks / "pope", "random")
    assert Counter(short.labels.values()) == {"yes": 1500, "no": 1410}
    assert sum("imange" in item.question for item in short.items) == 144
    asked = [{(item.image, item.question) for item in questions.items} for questions in (own, short)]
    assert len(asked[0] & asked[1]) == 2766
    score = pope.score(short, dict.fromkeys(short.labels, "Yes"))
    assert four(score) == (51.5, 51.5, 100.0, 68.0, 100.0)
    assert "2,910" in score.variant and "POPE's own 3,000" in score.variant
    assert score.variant != pope.score(own, dict.fromkeys(own.labels, "Yes")).variant


def test_a_file_that_was_changed_is_none_of_the_published(benchmarks, tmp_path):
    lines = (benchmarks / "pope" / "coco_pope_popular.json").read_text().splitlines()
    lines[7] = json.dumps(json.loads(lines[7]) | {"label": "yes"})
    (tmp_path / "coco_pope_popular.json").write_text("\n".join(lines))
    assert pope.read_questions(tmp_path, "popular").source == "3,000 questions that are none of the published files"


def test_the_file_of_another_split_is_not_this_splits(benchmarks, tmp_path):
    shutil.copy(benchmarks / "pope" / "coco_pope_popular.json", tmp_path / "coco_pope_random.json")
    assert "none of the published files" in pope.read_questions(tmp_path, "random").source


def test_layout_and_other_columns_do_not_make_another_file(benchmarks, tmp_path):
    rows = [json.loads(line) for line in (benchmarks / "pope" / "coco_pope_popular.json").read_text().splitlines()]
    lines = [json.dumps(dict(reversed([*row.items(), ("more", 1)])), separators=(",", ":")) for row in rows]
    (tmp_path / "coco_pope_popular.json").write_text("\r\n".join(lines) + "\n\n")
    assert pope.read_questions(tmp_path, "popular").source == "POPE's own 3,000 questions"


def test_random_answers_counted_in_other_words(split):
    rng = np.random.default_rng(1)
    said = dict(zip(split.labels, rng.choice(["yes", "No, none."], len(split.labels), p=[0.6, 0.4]), strict=True))
    pairs = Counter((label == "yes", said[id] == "yes") for id, label in split.labels.items())
    right_yes, wrong_yes, missed = pairs[True, True], pairs[False, True], pairs[True, False]
    wanted = (
        100 * (right_yes + pairs[False, False]) / 3000,
        100 * right_yes / (right_yes + wrong_yes),
        100 * right_yes / (right_yes + missed),
        100 * 2 * right_yes / (2 * right_yes + wrong_yes + missed),
        100 * (right_yes + wrong_yes) / 3000,
    )
    assert four(pope.score(split, said)) == tuple(round(value, 1) for value in wanted)


@pytest.mark.parametrize(
    ("labels", "said", "wanted", "note"),
    [
        ([], [], (None, None, None, None, None), "Nothing was answered"),
        (["no"], ["no"], (100.0, None, None, None, 0.0), 'never "yes"'),
        (["no"], ["yes"], (0.0, 0.0, None, None, 100.0), 'never "yes"'),
        (["yes"], ["no"], (0.0, None, 0.0, None, 0.0), 'No answer is read as "yes"'),
        (["yes", "no"], ["no", "yes"], (0.0, 0.0, 0.0, None, 50.0), 'No "yes" is right'),
    ],
)
def test_zero_denominators_are_not_defined_and_said(labels, said, wanted, note):
    # evaluate.py divides without a guard and ends with an error here.
    score = pope.score(small(*labels), {str(n): text for n, text in enumerate(said)})
    assert four(score) == wanted and any(note in each for each in score.notes)


def test_the_lenient_reading_has_its_name_and_counts_what_says_nothing_as_wrong():
    questions = small("no", "no", "yes", "yes")
    answers = {"0": "NO!", "1": "There isn't one", "2": "Not sure", "3": "Yes"}
    official, lenient = pope.score(questions, answers), pope.score(questions, answers, "lenient")
    assert four(official) == (50.0, 50.0, 100.0, 66.7, 100.0)
    assert four(lenient) == (75.0, 100.0, 50.0, 66.7, 25.0)
    assert lenient.variant.startswith("lenient") and "1 of 4 answers say neither yes nor no" in lenient.notes[0]
    with pytest.raises(InvalidData, match="official, lenient"):
        pope.score(questions, answers, "lmms-eval")


def test_missing_answers_are_said_and_not_counted():
    score = pope.score(small("yes", "no", "yes"), {"0": "yes", "2": "yes", "strange": "no"})
    assert score.ids == ("0", "2") and score.figures()["accuracy"] == 100.0
    assert "1 of 3 items have no answer" in score.notes[0] and "1 answer(s) are of no item" in score.notes[1]


def test_the_mean_of_the_splits(benchmarks):
    scores = {}
    for place, split in enumerate(pope.SPLITS):
        questions = pope.read_questions(benchmarks / "pope", split)
        wrong = set(list(questions.labels)[: 300 * place])
        scores[split] = pope.score(
            questions, {id: "no" if id in wrong else label for id, label in questions.labels.items()}
        )
    together = pope.put_together(scores)
    figures = together.figures()
    for name in FOUR:
        values = [
            float(measure.of(score.sums))
            for score in scores.values()
            for measure in score.measures
            if measure.name == name
        ]
        assert figures[name] == round(sum(values) / 3, 1)
        assert [figures[f"{split}_{name}"] for split in pope.SPLITS] == [
            score.figures()[name] for score in scores.values()
        ]
    assert len(together.ids) == len(set(together.ids)) == len(together.wrong) == len(together.faults) == 9000
    assert together.clusters == tuple(item.image for _ in range(3) for item in questions.items)
    assert len(set(together.clusters)) == 500 and "Intervals draw images" in together.notes[-1]
    assert together.wrong.sum() == sum(score.wrong.sum() for score in scores.values())
    with pytest.raises(InvalidData, match="lacks popular and adversarial"):
        pope.put_together({"random": scores["random"]})
    questions = pope.read_questions(benchmarks / "pope", "random")
    with pytest.raises(InvalidData, match="read differently"):
        pope.put_together(scores | {"random": pope.score(questions, questions.labels, "lenient")})


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"question_id": 1}', '{"question_id": 1, "image": "a", "text": "b", "label": "maybe"}']
)
def test_a_file_that_is_not_popes_is_refused(tmp_path, line):
    (tmp_path / "coco_pope_random.json").write_text(line)
    with pytest.raises(InvalidData, match=r"coco_pope_random.json is not POPE's. In line 1"):
        pope.read_questions(tmp_path, "random")
    with pytest.raises(InvalidData, match=r"coco_pope_popular.json \(the questions"):
        pope.read_items(tmp_path, "popular")
    with pytest.raises(InvalidData, match="The split is 'rare'"):
        pope.read_items(tmp_path, "rare")
