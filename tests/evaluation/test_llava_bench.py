"""LLaVA-Bench: what the first line of a reply says, and the share of the reference's points. The rules are those of
`eval_gpt_review_visual.py` and `summarize_gpt_review.py` of LLaVA at c121f04.
"""

import json

import pytest

from rlhfv.errors import InvalidData
from rlhfv.evaluation import llava_bench
from rlhfv.evaluation.judge import Judge, Judged, Wording
from rlhfv.evaluation.llava_bench import Key, Keys, read_points, read_points_officially, score, summarise
from rlhfv.remote_voices import RemoteVoice

CATEGORIES = ("conv", "detail", "complex")
KEYS = Keys(
    "llava-bench",
    {str(item): Key(CATEGORIES[item % 3], f"What is item <{item}>?", "A cat.", "A cat sits.") for item in range(6)},
)


def judged(read, unreadable=()) -> Judged:
    wording = Wording("prompt of the test", 0.2, 64)
    texts = {id: "{:g} {:g}".format(*points) for id, points in read.items()} | dict.fromkeys(unreadable, "8: 6")
    return Judged(texts, read, {}, 0, "", 0, ("gpt-4-0314@host",), (), wording)


@pytest.mark.parametrize(
    ("reply", "ours", "official"),
    [
        ("8 9\nBecause.", (8.0, 9.0), (8.0, 9.0)),
        ("8,9\nBecause.", (8.0, 9.0), (8.0, 9.0)),
        ("7.5 10", (7.5, 10.0), (7.5, 10.0)),
        ("8, 9", (8.0, 9.0), None),  # two blanks part three words by the official parser
        ("8 9 \nBecause.", (8.0, 9.0), None),
        ("\n8 9", (8.0, 9.0), None),
        ("Assistant 1: 8", None, None),
        ("The first is better.\n8 9", None, None),
        ("80 90", None, (80.0, 90.0)),
        ("0 9", None, (0.0, 9.0)),
        ("nan nan", None, None),
        ("inf 1", None, None),
        ("8", None, None),
        ("", None, None),
    ],
)
def test_the_first_line_is_read_as_the_benchmark_reads_it_and_as_we_do(reply, ours, official):
    assert read_points(reply) == ours and read_points_officially(reply) == official


def test_the_share_of_the_reference_s_points_overall_and_by_category():
    read = {"0": (8.0, 6.0), "1": (8.0, 8.0), "2": (10.0, 5.0), "3": (8.0, 10.0), "4": (9.0, 3.0), "5": (10.0, 10.0)}
    found = summarise(KEYS, judged(read), "readable")
    assert found.figures() == {
        "relative": round(100 * 42 / 53, 1),
        "relative_conv": 100.0,
        "relative_detail": round(100 * 11 / 17, 1),
        "relative_complex": 75.0,
        "model_points": 7.0,
        "reference_points": round(53 / 6, 2),
    }
    assert list(found.wrong) == [True, False, True, False, True, False]


def test_what_cannot_be_read_is_averaged_in_officially_and_left_out_by_ours():
    """LLaVA, eval_gpt_review_visual.py: a first line that is no pair gives [-1, -1], which the means contain."""
    read = {str(item): (8.0, 6.0) for item in range(5)}
    ours = summarise(KEYS, judged(read, ("5",)), "readable")
    official = summarise(KEYS, judged(read, ("5",)), "official")
    assert ours.figures()["relative"] == 75.0 and len(ours.ids) == 5
    assert official.figures()["relative"] == round(100 * 29 / 39, 1) and len(official.ids) == 6
    assert official.figures()["relative_complex"] == round(100 * 5 / 7, 1)
    parser = "cannot be read by the benchmark's parser: -1 point on both sides, averaged in."
    assert official.notes == (f"1 reply {parser}",)
    assert ours.notes == (
        "1 reply is in no form that can be read: left out.",
        "By the benchmark's parser, which takes 1 reply for -1 point on both sides: 74.4 %.",
    )


def test_no_replies_are_no_figures():
    figures = summarise(KEYS, judged({}), "readable").figures()
    assert figures["relative"] is None and figures["model_points"] is None


@pytest.fixture
def server(open_server):
    return open_server({str(item): ["8 6\nWhy not."] for item in range(5)} | {"5": ["8, 6"]})


def test_the_whole_way_with_a_judge(server, tmp_path):
    judge = Judge(RemoteVoice("gpt-4", server.url, "gpt-4"), tmp_path / "judge.jsonl")
    answers = {str(item): "A dog." for item in range(6)}
    found = score(KEYS, answers, judge=judge)
    official = score(KEYS, answers, "official", judge)
    assert found.figures()["relative"] == 75.0 and len(found.ids) == 6
    assert official.figures()["relative"] == round(100 * 29 / 39, 1) and sum(server.asked.values()) == 6
    assert found.notes == ("By the benchmark's parser, which takes 1 reply for -1 point on both sides: 74.4 %.",)
    assert len(official.ids) == 6 and len(official.notes) == 1
    (_, body), *_ = server.requests
    system, user = body["messages"]
    assert system["role"] == "system" and "A cat sits." in user["content"] and "A dog." in user["content"]
    assert (body["temperature"], body["max_tokens"]) == (0.2, 1024)
    assert found.variant.startswith("llava-bench, readable; prompt rlhfv-studio-1 (llava-bench); judge gpt-4-0613@")


def test_the_published_coco_files_are_read_in_place_with_their_rules(benchmarks, server, tmp_path):
    folder = benchmarks / "llava_bench_coco"
    items, keys = llava_bench.read_items(folder), llava_bench.read_keys(folder)
    assert len(items) == 90 and [item.id for item in items] == list(keys.keys)
    assert items[0].image == "../coco/val2014/COCO_val2014_000000441147.jpg" and items[1].group == "detail"
    assert {key.category for key in keys.keys.values()} == set(CATEGORIES)
    key = keys.keys["0"]
    assert key.reference.startswith("The colors of the two suitcases") and "suitcase: [" in key.context
    rules = json.loads((folder / "rule.json").read_text())
    assert key.rule == rules["conv"]["prompt"] and len(keys.rules) == 64
    server.plan["0"], server.plan["1"] = ["9 9"], ["9 9"]
    judge = Judge(RemoteVoice("gpt-4", server.url, "gpt-4"), tmp_path / "judge.jsonl")
    found = score(keys, {"0": "Black. item <0>", "1": "Red. item <1>"}, judge=judge)
    assert len(found.clusters) == 2 and len(set(found.clusters)) == 1, "both questions are about one picture"
    assert f"rules sha256 {keys.rules}" in found.variant and found.figures()["relative"] == 100.0
    assert key.rule in server.requests[0][1]["messages"][1]["content"]


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def wild(folder, context="a.jpg"):
    write(folder, "questions.jsonl", [{"question_id": 7, "image": "a.jpg", "text": "?", "category": "conv"}])
    write(folder, "context.jsonl", [{"id": 1, "image": context, "caption": "A sea."}])
    write(folder, "answers_gpt4.jsonl", [{"question_id": 7, "text": "Water.", "category": "conv"}])
    return folder


def test_the_questions_in_the_wild_have_other_files_and_rules(tmp_path):
    keys = llava_bench.read_keys(wild(tmp_path))
    assert keys == Keys("llava-bench-wild", {"7": Key("conv", "?", "A sea.", "Water.")})
    assert llava_bench.read_items(tmp_path)[0].image == "images/a.jpg"
    (tmp_path / "rule.json").write_text(json.dumps({"llava_bench_conv": {"prompt": "Judge.", "role": "Assistant"}}))
    assert llava_bench.read_keys(tmp_path).keys["7"].rule == "Judge."
    (tmp_path / "rule.json").write_text(json.dumps({"conv": {"prompt": "Judge.", "role": "Assistant"}}))
    with pytest.raises(InvalidData, match="no rule 'llava_bench_conv'"):
        llava_bench.read_keys(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    with pytest.raises(InvalidData, match="no context"):
        llava_bench.read_keys(wild(tmp_path, context="b.jpg"))
    (tmp_path / "context.jsonl").write_text('{"caption": "A sea."}\n')
    with pytest.raises(InvalidData, match="Row 1"):
        llava_bench.read_keys(tmp_path)


def test_a_prompt_that_wants_rules_needs_them(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text("{context} {question} {reference} {answer} {rule}")
    judge = Judge(RemoteVoice("gpt-4", "http://127.0.0.1:9/v1", "gpt-4"), tmp_path / "judge.jsonl", prompt_file=path)
    with pytest.raises(InvalidData, match=r"no rule\.json"):
        score(KEYS, {"0": "A dog."}, judge=judge)


def test_without_a_judge_it_says_so():
    with pytest.raises(InvalidData, match="--judge URL#MODEL"):
        score(KEYS, {"0": "A dog."})
