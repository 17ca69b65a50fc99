"""MMHal-Bench: what a rating is, and what 96 of them come to. The rules are those of `eval/eval_gpt_mmhal.py` and
`eval/summarize_gpt_mmhal_review.py` of RLHF-V at 8daac8a.
"""

import json
import random

import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation import mmhal
from rlhfv.evaluation.judge import Judge, Judged, Wording
from rlhfv.evaluation.mmhal import COUNT, TYPES, Key, read_rating, score, summarise
from rlhfv.remote_voices import RemoteVoice

WORDING = Wording("prompt of the test", 0.0, 64)
KEYS = {str(item): Key(("Cat",), f"Where is item <{item}>?", "There.", TYPES[item % 8]) for item in range(COUNT)}


def judged(read, unreadable=()) -> Judged:
    return Judged(dict.fromkeys((*read, *unreadable), "?"), read, {}, 0, "", 0, ("gpt-4-0314@host",), (), WORDING)


@pytest.mark.parametrize(
    ("reply", "rating"),
    [
        ("It is right.\nRating: 6, very informative", 6),
        ("RATING: 0", 0),
        ("Rating: 3. As I said, rating: 3", 3),  # the same one twice is one
        ("Rating: 2 or rating: 4", None),
        ("Rating:5", None),  # the blank is part of what is looked for
        ("**Rating**: 5", None),
        ("Rating: 10", 1),  # only the first digit is looked at
        ("Rating: 7", None),
        ("Rating: -1", None),
        ("I give four.", None),
        ("", None),
    ],
)
def test_a_rating_is_read_as_the_benchmark_reads_it(reply, rating):
    assert read_rating(reply) == rating


def official_figures(ratings: list[int]) -> dict[str, float]:
    """Computed from the definition: the mean, the share below 3, what is above the first rating of its half."""
    hallucinated = [rating < 3 for rating in ratings]
    above = [rating - 3 if rating >= 3 else rating for rating in ratings]
    by_type = {type: [ratings[i] for i in range(96) if i % 8 == place] for place, type in enumerate(TYPES)}
    return {
        "score": round(sum(ratings) / 96, 2),
        "hallucination": round(100 * sum(hallucinated) / 96, 1),
        "informativeness": round(100 * sum(above) / 96 / 3, 1),
        **{f"score_{type}": round(sum(those) / 12, 2) for type, those in by_type.items()},
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_review_of_96_items(seed):
    ratings = random.Random(seed).choices(range(7), k=96)
    found = summarise(KEYS, judged({str(item): rating for item, rating in enumerate(ratings)}), "readable")
    assert found.figures() == official_figures(ratings)
    assert list(found.wrong) == [rating < 3 for rating in ratings]
    assert found.variant == ("mmhal, readable; prompt of the test; judge gpt-4-0314@host, t = 0, at most 64 tokens")


def test_a_review_by_hand():
    """Ratings by type: 0, 1, 2, 3, 4, 5, 6, 6 for each of the twelve rounds."""
    by_type = dict(zip(TYPES, (0, 1, 2, 3, 4, 5, 6, 6), strict=True))
    figures = summarise(KEYS, judged({id: by_type[key.type] for id, key in KEYS.items()}), "readable").figures()
    assert figures == {
        "score": 3.38,  # 27 / 8 = 3.375
        "hallucination": 37.5,  # 3 of 8
        "informativeness": 50.0,  # (0 + 1 + 2 + 0 + 1 + 2 + 3 + 3) / 8 / 3
        **{f"score_{type}": float(rating) for type, rating in by_type.items()},
    }


def test_replies_that_cannot_be_read_are_zeros_by_the_official_rule_and_apart_by_ours():
    """RLHF-V, eval_gpt_mmhal.py: none or several ratings in a reply append a score of 0."""
    read = {str(item): 6 for item in range(2, 96)}
    ours = summarise(KEYS, judged(read, ("0", "1")), "readable")
    official = summarise(KEYS, judged(read, ("0", "1")), "official")
    assert ours.figures()["score"] == 6.0 and ours.figures()["hallucination"] == 0.0 and len(ours.ids) == 94
    assert official.figures()["score"] == round(94 * 6 / 96, 2) and len(official.ids) == 96
    assert official.figures()["hallucination"] == round(200 / 96, 1)
    assert official.figures()["score_attribute"] == 5.5 and ours.figures()["score_attribute"] == 6.0
    assert list(official.wrong[:3]) == [True, True, False] and not ours.wrong.any()
    assert ours.notes[0] == "2 replies are in no form that can be read: left out, not taken for a rating of 0."
    assert official.notes[0] == "2 replies are in no form that can be read: a rating of 0, by the benchmark's rule."
    assert "(official): score 5.88, hallucination rate 2.1 %" in ours.notes[1] and "of 96 items" in ours.notes[1]
    assert "(readable): score 6.0" in official.notes[1]


def test_no_ratings_at_all_are_no_figures():
    figures = summarise(KEYS, judged({}), "readable").figures()
    assert set(figures.values()) == {None}


def test_all_zeros_are_zeros():
    figures = summarise(KEYS, judged(dict.fromkeys(KEYS, 0)), "official").figures()
    assert figures["score"] == 0.0 and figures["hallucination"] == 100.0 and figures["informativeness"] == 0.0


@pytest.fixture
def server(open_server):
    return open_server({"3": ["malformed"], "4": ["Rating: 1"], "5": ["cut"]})


def test_the_whole_way_with_a_judge(server, tmp_path):
    judge = Judge(RemoteVoice("gpt-4", server.url, "gpt-4"), tmp_path / "judge.jsonl")
    answers = {str(item): f"On the mat {item} {{question}}." for item in range(10)}
    found = score(KEYS, answers, judge=judge)
    assert found.ids == ("0", "1", "2", "4", "6", "7", "8", "9") and found.figures()["score"] == round(29 / 8, 2)
    assert "86 of 96 items have no answer" in found.notes[0] and len(found.notes) == 4
    sent = {body["messages"][0]["content"] for _, body in server.requests}
    assert len(sent) == 10 and all("Cat" in text and "There." in text and "{question}." in text for text in sent)
    assert {(body["temperature"], body["max_tokens"]) for _, body in server.requests} == {(0.0, 1024)}
    assert "prompt rlhfv-studio-1 (mmhal); judge gpt-4-0613@" in found.variant
    official = score(KEYS, answers, "official", judge)
    assert len(official.ids) == 9 and sum(server.asked.values()) == 10, "both variants come from the same replies"


def test_a_prompt_of_the_user_s_is_another_variant(server, tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("### Contents\n{}\n### Q\n{}\n### Person\n{}\n### Model\n{}\n")
    judge = Judge(RemoteVoice("gpt-4", server.url, "gpt-4"), tmp_path / "judge.jsonl", prompt_file=path)
    found = score(KEYS, {"0": "A cat."}, judge=judge)
    [(_, body)] = server.requests
    assert body["messages"][0]["content"] == (
        "### Contents\nCat\n### Q\nWhere is item <0>?\n### Person\nThere.\n### Model\nA cat.\n"
    )
    assert "prompt sha256 " in found.variant and "rlhfv-studio" not in found.variant


def test_without_a_judge_or_with_no_such_variant_it_says_so():
    with pytest.raises(InvalidData, match="--judge URL#MODEL"):
        score(KEYS, {"0": "A cat."})
    with pytest.raises(InvalidData, match="'strict'"):
        score(KEYS, {}, "strict")


def test_the_published_file_is_read_in_place(benchmarks):
    items, keys = mmhal.read_items(benchmarks / "mmhal"), mmhal.read_keys(benchmarks / "mmhal")
    assert len(items) == len(keys) == 96 and [item.id for item in items] == list(keys)
    assert [item.group for item in items] == [TYPES[place % 8] for place in range(96)]
    assert items[0].question == "What color is the fire hydrant cap in the picture?"
    assert items[0].image == "images/7206072054_c53d53b97d_o.jpg" and keys["1"].contents == ("Door", "Building")


def write(tmp_path, rows):
    (tmp_path / mmhal.FILE).write_text(json.dumps(rows))
    return tmp_path


def row(place: int, **fields) -> dict:
    type = TYPES[place % 8]
    return {"question_type": type, "question": "?", "gt_answer": "!", "image_content": ["Cat"], **fields}


def test_a_picture_is_named_by_its_address_or_its_id(tmp_path):
    folder = write(tmp_path, [row(place, image_id=f"id{place}") for place in range(96)])
    assert mmhal.read_items(folder)[5].image == "images/id5.jpg"
    write(tmp_path, [row(place, image_id=f"id{place}", image_src=f"https://h/{place}_o.jpg") for place in range(96)])
    assert mmhal.read_items(folder)[5].image == "images/5_o.jpg"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "id5.jpg").touch()
    assert mmhal.read_items(folder)[5].image == "images/id5.jpg"


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row(place) for place in range(95)], "95 questions"),
        ([row(place) for place in (1, 0, *range(2, 96))], "Question 0 is of another type"),
        ([{"question": "?"}], "cannot be read"),
        ({"a": 1}, "cannot be read"),
    ],
)
def test_a_file_of_another_order_or_shape_is_refused(tmp_path, rows, why):
    with pytest.raises(InvalidData, match=why):
        mmhal.read_keys(write(tmp_path, rows))


def test_a_missing_file_is_named_with_its_source(tmp_path):
    with pytest.raises(InvalidData, match=r"mmhal-bench_answer_template\.json.*RLHF-V"):
        mmhal.read_items(tmp_path)
