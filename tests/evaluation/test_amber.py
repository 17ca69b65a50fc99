"""AMBER against its own keys: what simple answerers must get to the last printed digit, and the rules at the edges.

The rules are those of `inference.py` and `data/metrics.txt` of junyangwang0410/AMBER at 534babf.
"""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhfv.errors import InvalidData
from rlhfv.evaluation import amber
from rlhfv.evaluation.amber import GenerativeKeys, YesNoKey
from rlhfv.evaluation.score import Fault

RELATED = {"dog": ["cat"], "road": ["street", "path"], "sky": [], "orange": [], "street": ["road"], "TV": []}


def keys(truth, hallu=(), safe=("orange",)):
    return GenerativeKeys({"1": (tuple(truth), tuple(hallu))}, RELATED, frozenset(safe))


def generative(truth, hallu, answer, **more):
    return amber.score_generative(keys(truth, hallu), {"1": answer}, **more)


@pytest.fixture(scope="module")
def folder(benchmarks):
    return benchmarks / "amber"


@pytest.fixture(scope="module")
def real(folder):
    return amber.read_generative_keys(folder)


@pytest.fixture(scope="module")
def yes_no(folder):
    return amber.read_discriminative_keys(folder)


# The public files


def test_the_generative_keys_are_those_of_the_facts(real, folder):
    truth, hallu = zip(*real.words.values(), strict=True)
    assert len(real.words) == 1004 and (sum(map(len, truth)), sum(map(len, hallu))) == (5599, 4924)
    assert (round(np.mean([*map(len, truth)]), 2), round(np.mean([*map(len, hallu)]), 2)) == (5.58, 4.90)
    assert sum(len(set(words)) < len(words) for words in truth) == 14  # images with a true word twice
    assert (len(real.related), len(real.vocabulary), len(real.safe)) == (340, 418, 9)
    items = amber.read_generative_items(folder)
    assert [item.id for item in items] == list(real.words) == [str(id) for id in range(1, 1005)]
    assert (items[0].question, items[0].image) == ("Describe this image.", "image/AMBER_1.jpg")


def test_naming_exactly_what_is_true_covers_5224_of_5599_slots(real):
    score = amber.score_generative(real, {id: ", ".join(truth) + "." for id, (truth, _) in real.words.items()})
    assert score.figures() == {"chair": 0.0, "cover": 93.3, "hal": 0.0, "cog": 0.0, "words": 5.6}
    assert (score.sums["covered"], score.sums["truth"], score.sums["nouns"]) == (5224, 5599, 5599)
    assert not score.wrong.any() and not any(score.faults) and score.notes == ()
    assert score.variant.startswith("exact (no similarity of words; not AMBER's own figures)")


def test_naming_what_models_make_up_is_wrong_everywhere_unless_it_is_true_too(real):
    answers = {id: ", ".join(hallu) for id, (_, hallu) in real.words.items()}
    score = amber.score_generative(real, answers)
    slow = [by_the_book(hallu, truth, hallu, real) for truth, hallu in real.words.values()]
    assert score.sums["hallucinated"] == sum(len(wrong) for wrong, _, _ in slow)
    assert score.sums["cognitive"] == sum(len(hit) for _, _, hit in slow)
    assert 90 < score.figures()["chair"] < 100 and score.figures()["hal"] > 95
    for id, faults in zip(score.ids, score.faults, strict=True):
        assert all(answers[id][fault.start : fault.end] in real.vocabulary for fault in faults)


def test_the_yes_or_no_questions_are_those_of_the_facts(yes_no, folder):
    assert Counter(key.dimension for key in yes_no.values()) == {
        "existence": 4924,
        "state": 4764,
        "number": 2072,
        "action": 792,
        "relation": 1664,
    }
    truths = Counter((key.dimension, key.truth) for key in yes_no.values())
    assert (truths["existence", "yes"], truths["relation", "yes"], truths["relation", "no"]) == (0, 975, 689)
    assert all(truths[kind, "yes"] == truths[kind, "no"] for kind in amber.ATTRIBUTE)
    items = amber.read_discriminative_items(folder)
    assert [item.id for item in items] == list(yes_no) == [str(id) for id in range(1005, 15221)]
    assert (items[0].question, items[0].image) == ("Is the sky sunny in this image?", "image/AMBER_1.jpg")
    assert {item.group for item in items} == {"existence", "state", "number", "action", "relation"}


@pytest.mark.parametrize(
    ("answer", "four", "existence", "relation"),
    [
        (lambda key: "No", (66.3, 66.3, 100.0, 79.7), (100.0, 100.0, 100.0, 100.0), (41.4, 41.4, 100.0, 58.6)),
        (lambda key: "Yes", (33.7, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (58.6, 0.0, 0.0, 0.0)),
        (lambda key: key.truth.capitalize(), (100.0,) * 4, (100.0,) * 4, (100.0,) * 4),
        (lambda key: key.truth, (0.0,) * 4, (0.0,) * 4, (0.0,) * 4),  # "yes" and "no" are not "Yes" and "No"
    ],
)
def test_simple_answerers_of_all_questions(yes_no, answer, four, existence, relation):
    score = amber.score_discriminative(yes_no, {id: answer(key) for id, key in yes_no.items()})
    figures = score.figures()
    names = ("accuracy", "precision", "recall", "f1")
    assert tuple(figures[name] for name in names) == four
    assert tuple(figures[f"existence_{name}"] for name in names) == existence
    assert tuple(figures[f"relation_{name}"] for name in names) == relation


def test_random_answers_counted_in_other_words(yes_no):
    rng = np.random.default_rng(0)
    said = dict(
        zip(yes_no, rng.choice(["Yes", "No", "no", "Maybe"], len(yes_no), p=[0.3, 0.5, 0.1, 0.1]), strict=True)
    )
    figures = amber.score_discriminative(yes_no, said).figures()
    kinds = {"": list(amber.DIMENSIONS.values()), "attribute_": amber.ATTRIBUTE, "existence_": ["existence"]}
    for prefix, of in kinds.items():
        pairs = [(key.truth, said[id]) for id, key in yes_no.items() if key.dimension in of]
        right = sum(said.lower() == truth and said in ("Yes", "No") for truth, said in pairs)
        both = pairs.count(("no", "No"))
        p = round(100 * both / sum(said == "No" for _, said in pairs), 1)
        r = round(100 * both / sum(truth == "no" for truth, _ in pairs), 1)
        f1 = round(
            100 * 2 * (p / 100) * (r / 100) / (p / 100 + r / 100 + (1e-3 if prefix == "existence_" else 1e-4)), 1
        )
        wanted = (round(100 * right / len(pairs), 1), p, r, f1)
        assert tuple(figures[prefix + name] for name in ("accuracy", "precision", "recall", "f1")) == wanted


# Rules at the edges


@pytest.mark.parametrize(
    ("truth", "hallu", "answer", "wrong", "covered", "cognitive"),
    [
        (["dog"], [], "", [], 0, 0),  # an empty answer names nothing
        (["dog"], [], "A photo.", [], 0, 0),  # nor does one without a word of the vocabulary
        (["dog"], ["road"], "A dog on a road.", ["road"], 1, 1),
        (["dog"], ["road"], "roads and paths", ["roads", "paths"], 0, 1),  # a slot is hit once
        (["dog"], ["road"], "a street, a street", ["street", "street"], 0, 1),  # a mention counts each time
        (["dog", "dog"], [], "a dog and a dog", [], 1, 0),  # the second of equal true words is never hit
        (["dog"], [], "a cat", [], 1, 0),  # a related word covers the word that it hangs from
        # Related words are searched before the slots' own: "street" is found as what "road" is also called.
        (["street", "road"], [], "a street", [], 1, 0),
        (["dog"], ["dog"], "a dog", [], 1, 0),  # true and made up: true
        (["sky"], [], "a orange", [], 0, 0),  # a safe word counts as a mention, and never as wrong
        (["sky"], ["orange"], "orange", [], 0, 0),  # before anything else is asked
        (["orange"], [], "orange", [], 0, 0),
        (["dog"], [], "Dog. DOG.", [], 0, 0),  # nothing is made lower case
        (["TV"], [], "a tv and a TV", [], 1, 0),
        (["sky"], [], "dog", ["dog"], 0, 0),  # neither true nor expected
    ],
)
def test_the_rules_for_one_answer(truth, hallu, answer, wrong, covered, cognitive):
    score = generative(truth, hallu, answer)
    assert [answer[fault.start : fault.end] for fault in score.faults[0]] == wrong
    assert (score.sums["covered"], score.sums["cognitive"]) == (covered, cognitive)
    assert score.wrong.tolist() == [bool(wrong)]


def test_the_related_word_is_credited_to_the_word_that_it_hangs_from():
    assert amber.judge(["street"], ["street", "road"], [], keys([])) == ([], {1}, set())
    assert amber.judge(["street"], ["street"], [], keys([])) == ([], {0}, set())


def test_safe_words_count_below_the_line_only():
    figures = generative(["sky"], [], "an orange, an orange, an orange and a dog").figures()
    assert figures["chair"] == 25.0


@pytest.mark.parametrize("answer", ["", "Nothing that counts."])
def test_denominators_start_at_a_thousandth(answer):
    # metrics.txt: chair_num=0.001, so that no noun at all is CHAIR 0 and a clean answer. One clean answer alone leaves
    # 100 - 100 / 1.001 of Hal, as it does there.
    score = generative(["dog"], ["road"], answer)
    assert score.figures() == {"chair": 0.0, "cover": 0.0, "hal": 0.1, "cog": 0.0, "words": float(len(answer.split()))}
    assert any("0 by definition" in note for note in score.notes)
    assert generative(["dog"], [], "dog").measures[1].of(generative(["dog"], [], "dog").sums) == 100 / 1.001


def test_figures_are_of_sums_over_items_not_means_of_items():
    both = GenerativeKeys({"a": (("dog",), ("road",)), "b": (("sky",), ("dog",))}, RELATED, frozenset())
    score = amber.score_generative(both, {"a": "dog, dog, dog", "b": "dog"})
    assert score.figures()["chair"] == 25.0 and score.figures()["hal"] == 50.0 and score.figures()["cog"] == 50.0


def test_spans_are_code_points_after_emoji_and_marks():
    answer = "👩‍👧 e\u0301 狗 — a road"
    assert generative(["dog"], [], answer).faults == ((Fault(len(answer) - 4, len(answer), "object"),),)


def test_missing_and_foreign_answers_are_said():
    two = GenerativeKeys({"1": (("dog",), ()), "2": (("sky",), ())}, RELATED, frozenset())
    score = amber.score_generative(two, {"2": "", "9": "dog"})
    assert score.ids == ("2",)
    assert [note.split(";")[0] for note in score.notes[:3]] == [
        "1 of 2 items have no answer",
        "1 answer(s) are of no item and were left out.",
        "1 answer(s) are empty",
    ]
    nothing = amber.score_generative(two, {})
    assert nothing.ids == () and set(nothing.figures().values()) == {None}


WORDS = st.sampled_from([*RELATED, "cat", "path"])


def by_the_book(nouns, truth, hallu, keys, alike=None):
    """`inference.py`'s rule once more, with its two parallel lists: words, and the slot that each stands for."""

    def lists(slots):
        rows = [(word, place) for place, slot in enumerate(slots) for word in keys.related[slot]]
        return rows + [(word, place) for place, word in enumerate(slots)]

    def first(noun, rows, same):
        return next((slot for word, slot in rows if same(noun, word)), None)

    safe, bad, covered, hit, wrong = lists(truth), lists(hallu), set(), set(), []
    equal = str.__eq__
    for place, noun in enumerate(nouns):
        if noun in keys.safe:
            continue
        slot = first(noun, safe, equal)
        if slot is not None:
            covered.add(slot)
            continue
        for same in (equal, alike) if alike else (equal,):
            slot = first(noun, bad, same)
            hit |= set() if slot is None else {slot}
        slot = first(noun, safe, alike) if alike else None
        if slot is None:
            wrong.append(place)
        else:
            covered.add(slot)
    return wrong, covered, hit


@given(
    st.lists(WORDS, max_size=8),
    st.lists(st.sampled_from([*RELATED]), max_size=5),
    st.lists(st.sampled_from([*RELATED]), max_size=5),
    st.sets(st.frozensets(WORDS, min_size=2, max_size=2)),
)
def test_the_rule_in_other_words(nouns, truth, hallu, pairs):
    def alike(one, other):
        return one == other or frozenset((one, other)) in pairs

    for how in (None, alike):
        assert amber.judge(nouns, truth, hallu, keys([]), how) == by_the_book(nouns, truth, hallu, keys([]), how)


# Similarity


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "tiny.txt"
    # sky and cat point the same way; road and path have the cosine 0.8 exactly, which is not above 0.8.
    path.write_text("sky 1 0\ncat 2 0\ndog 0 1\nroad 0 5\npath 3 4\nstreet -1 0\n")
    return path


def test_likeness_excuses_and_marks(vectors):
    score = generative(["sky"], ["dog"], "a cat", variant="similar", vectors=vectors)
    assert (score.sums["covered"], score.sums["hallucinated"], score.sums["cognitive"]) == (1, 0, 1)
    assert generative(["sky"], ["dog"], "a cat").sums["hallucinated"] == 1
    assert "cosine above 0.8 by tiny.txt, sha256 " in score.variant and "not AMBER's own" in score.variant
    assert any("2 of the vocabulary's 8 words have no vector" in note for note in score.notes)


def test_likeness_is_strictly_above_the_threshold(vectors):
    # "path" and the made-up "dog" have the cosine 4 / 5.
    score = generative(["TV"], ["dog"], "a path", variant="similar", vectors=vectors)
    assert score.sums["cognitive"] == 0


def test_a_noun_may_hit_two_made_up_slots(vectors):
    # "dog" is a made-up word itself; by likeness the first one that is like it is marked too, and that is "road".
    _, _, hit = amber.judge(
        ["dog"], ["TV"], ["road", "dog"], keys([]), lambda one, other: {one, other} <= {"dog", "road"}
    )
    assert hit == {0, 1}
    assert generative(["TV"], ["road", "dog"], "dog", variant="similar", vectors=vectors).sums["cognitive"] == 2


def test_unknown_variants_and_missing_vectors_are_refused():
    with pytest.raises(InvalidData, match="needs word vectors"):
        generative(["dog"], [], "dog", variant="similar")
    with pytest.raises(InvalidData, match="There are exact, similar"):
        generative(["dog"], [], "dog", variant="spacy")
    with pytest.raises(InvalidData, match="There are official, lenient"):
        amber.score_discriminative({}, {}, "exact")


# Yes or no


def test_f1_is_of_rounded_precision_and_recall():
    # 2 of 3 "No" right, 2 of 6 found; 2 / 3.001 prints as 66.6.
    key = {str(n): YesNoKey("state", "no" if n < 6 else "yes") for n in range(7)}
    answers = {"0": "No", "1": "No", "6": "No", "2": "Yes", "3": "Yes", "4": "no", "5": "No."}
    score = amber.score_discriminative(key, answers)
    assert [score.figures()[name] for name in ("accuracy", "precision", "recall", "f1")] == [28.6, 66.6, 33.3, 44.4]
    assert score.notes[0].startswith("2 of 7 answers are not exactly")
    assert score.wrong.tolist() == [False, False, True, True, True, True, True]
    lenient = amber.score_discriminative(key, answers, "lenient")
    assert (
        lenient.sums["state said no"] == 5 and "lenient" in lenient.variant and '"No" is positive' in lenient.variant
    )


def test_dimensions_without_answers_have_no_figures():
    score = amber.score_discriminative({"1": YesNoKey("number", "no"), "2": YesNoKey("relation", "no")}, {"1": "No"})
    figures = score.figures()
    assert figures["relation_f1"] is None
    assert figures["number_f1"] == figures["f1"] == 99.9  # of 1 / 1.001, as everything starts at 0.001
    assert set(amber.score_discriminative({}, {}).figures().values()) == {None}
    assert any("existence, state, action, relation" in note for note in score.notes)


def test_the_score_of_both_parts():
    # AMBER Score = (100 - CHAIR + F1) / 2, of printed figures: (100 - 33.3 + 66.6) / 2.
    described = generative(["dog"], ["road"], "a dog, a dog, a road")
    asked = amber.score_discriminative(
        {"5": YesNoKey("state", "no"), "6": YesNoKey("state", "yes")}, {"5": "No", "6": "No"}
    )
    both = amber.put_together(described, asked)
    figures = both.figures()
    assert (figures["chair"], figures["f1"]) == (33.3, asked.figures()["f1"])
    assert figures["amber_score"] == round((100 - 33.3 + figures["f1"]) / 2, 1)
    assert both.ids == ("1", "5", "6") and both.wrong.tolist() == [True, False, True]
    assert described.variant in both.variant and asked.variant in both.variant


def test_all_questions_about_an_image_are_drawn_with_it(yes_no, folder):
    items = {item.id: item.image for item in amber.read_discriminative_items(folder)}
    asked = amber.score_discriminative(yes_no, dict.fromkeys(yes_no, "No"))
    assert [f"image/{image}" for image in asked.clusters] == [items[id] for id in asked.ids]
    assert len(set(asked.clusters)) == 1004 and "Intervals draw images" in asked.notes[-1]
    described = amber.score_generative(amber.read_generative_keys(folder), {"7": "A dog."})
    shown = {item.id: item.image for item in amber.read_generative_items(folder)}
    both = amber.put_together(described, asked)
    assert both.clusters == ("AMBER_7.jpg", *asked.clusters) and shown["7"] == "image/AMBER_7.jpg"
    assert amber.put_together(described, replace(asked, clusters=())).clusters == ()


def test_measures_take_resamples(yes_no):
    some = dict(list(yes_no.items())[::50])
    score = amber.score_discriminative(some, dict.fromkeys(some, "No"))
    resampled = {name: np.array([value, 2 * value, 0]) for name, value in score.sums.items()}
    for measure in score.measures:
        assert measure.of(resampled).shape == (3,)


# Files that are not AMBER's


def test_a_folder_that_is_not_ambers_is_refused(tmp_path):
    with pytest.raises(InvalidData, match=r"annotations.json.*safe_words.txt"):
        amber.read_generative_keys(tmp_path)
    for name in ("relation.json", "safe_words.txt", "query/query_generative.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    for broken in ("{", "{}", json.dumps([{"id": 2, "type": "generative", "truth": [], "hallu": []}])):
        (tmp_path / "annotations.json").write_text(broken)
        with pytest.raises(InvalidData, match=r"annotations.json is not AMBER's"):
            amber.read_generative_keys(tmp_path)


def test_files_in_each_others_place_are_refused(tmp_path):
    (tmp_path / "query").mkdir()
    queries = json.dumps([{"id": 1, "query": "Describe.", "image": "AMBER_1.jpg"}])
    annotations = json.dumps([{"id": 1, "type": "generative", "truth": ["dog"], "hallu": []}])
    parts = ("generative", *(f"discriminative-{one}" for one in ("attribute", "existence", "relation")))
    for name in (*(f"query/query_{part}.json" for part in parts), "annotations.json"):
        (tmp_path / name).write_text(annotations if "query" in name else queries)
    (tmp_path / "relation.json").write_text("{}")
    (tmp_path / "safe_words.txt").write_text("")
    for read in (amber.read_generative_keys, amber.read_discriminative_keys, amber.read_discriminative_items):
        with pytest.raises(InvalidData, match=r"annotations.json is not AMBER's.*has no type"):
            read(tmp_path)
    with pytest.raises(InvalidData, match=r"query_generative.json is not AMBER's.*has no query and no image"):
        amber.read_generative_items(tmp_path)
    (tmp_path / "annotations.json").write_text(json.dumps([{"id": 1, "type": "generative", "truth": []}]))
    with pytest.raises(InvalidData, match="has no hallu"):
        amber.read_generative_keys(tmp_path)
