"""`benchmark`: answered, taken in, counted, compared and written out from a terminal."""

import json

import pytest

from tests.evaluation.judge_server import JudgeServer
from tests.services.made_benchmark import make_pope, write_pope_answers


@pytest.fixture
def bench(say, tmp_path):
    """`bench("list", …)` on a made-up POPE split; with `as_json=True` what it prints as data."""
    make_pope(tmp_path / "data/benchmarks")

    def run(*words, as_json=False):
        code, out, err = say("benchmark", *words, *["--json"] * as_json)
        return (code, json.loads(out), err) if as_json else (code, out, err)

    return run


def test_the_list_says_what_is_missing_and_where_it_comes_from(bench):
    code, out, _ = bench("list")
    assert code == 0 and "pope-random  POPE, random: ready" in out
    assert "MISSING  mmhal/mmhal-bench_answer_template.json" in out and "from RLHF-V/RLHF-V on GitHub" in out
    listed = {one["name"]: one for one in bench("list", as_json=True)[1]["benchmarks"]}
    assert listed["pope-random"]["ready"] and not listed["chair"]["ready"]
    assert listed["object-halbench"]["judged"] == ["object-halbench-judge"]


def test_the_folder_of_the_files_can_be_named(bench, tmp_path):
    make_pope(tmp_path / "other")
    (tmp_path / "data/benchmarks/pope/coco_pope_random.json").unlink()
    assert "pope-random  POPE, random: files are missing" in bench("list")[1]
    assert "pope-random  POPE, random: ready" in bench("list", "--benchmarks", tmp_path / "other")[1]


def test_a_voice_answers_and_is_scored(bench, scripted):
    code, told, _ = bench("answer", "pope-random", "--batch-size", "4", as_json=True)
    assert (code, told["done"], told["total"], told["failed"]) == (0, 10, 10, [])
    code, out, _ = bench("score", told["id"])
    assert code == 0 and "decoding: greedy (beams 1" in out and "counted as: POPE's own reading" in out
    assert "Accuracy" in out and "50.0 % [" in out
    found = bench("score", told["id"], "--variant", "lenient", as_json=True)[1]
    assert found["figures"]["accuracy"]["value"] == 0 and found["stamp"]["model"]["name"] == "scripted"
    assert bench("score", told["id"], "--variant", "strict")[0] == 2
    assert told["id"] in bench("sets")[1]


def test_answers_from_elsewhere_are_compared_and_shared(bench, tmp_path):
    ids = []
    for name, texts in (("before", ["Yes"] * 10), ("after", ["Yes", "No"] * 5)):
        path = write_pope_answers(tmp_path / f"{name}.jsonl", texts)
        ids.append(bench("import", "pope-random", path, "--by", "LLaVA", as_json=True)[1]["id"])
    code, found, _ = bench("compare", *ids, as_json=True)
    assert code == 0 and found["flips"]["mended"] == 5 and found["outcomes"]["2"] == "mended"
    assert found["changes"]["accuracy"]["difference"]["value"] == 50
    code, out, err = bench("compare", *ids, "--page", tmp_path / "page.html")
    assert code == 0 and "5 mended, 0 broken" in out and "Not known of imported answers" in err
    assert "<html" in (tmp_path / "page.html").read_text()
    assert bench("export", ids[1], tmp_path / "out.jsonl", "--format", "llava")[0] == 0
    assert [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").open()] == ["Yes", "No"] * 5


def test_what_fails_is_told_and_said_again(bench, scripted, tmp_path):
    (tmp_path / "data/benchmarks/coco/val2014/0.jpg").unlink()
    code, _, err = bench("answer", "pope-random")
    assert code == 1 and "Item 2: The picture coco/val2014/0.jpg is not in" in err and "5 answers of 10" in err
    assert bench("answer", "mmhal")[0] == 2


def test_a_judge_counts_what_only_it_can(bench, tmp_path, monkeypatch):
    folder = tmp_path / "data/benchmarks/mmhal"
    folder.mkdir()
    rows = [
        {
            "question": f"What is item <{number}>?",
            "image_content": ["cup"],
            "gt_answer": "A cup.",
            "model_answer": "A cup.",
            "image_src": f"http://a/{number}.jpg",
        }
        for number in range(96)
    ]
    (folder / "mmhal-bench_answer_template.json").write_text(json.dumps(rows))
    id = bench("import", "mmhal", folder / "mmhal-bench_answer_template.json", as_json=True)[1]["id"]
    code, _, err = bench("score", id)
    assert code == 2 and "--judge" in err
    server = JudgeServer()
    try:
        judge = ("--judge", f"{server.url}#gpt-4", "--judge-at-once", "16")
        found = bench("score", id, *judge, as_json=True)[1]
        assert found["figures"]["score"]["value"] == 4 and "gpt-4-0613" in found["variant"]
        bench("score", id, *judge)
        assert sum(server.asked.values()) == 96, "no reply is paid twice"
    finally:
        server.stop()


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_benchmark_without_questions_is_none(bench, scripted, tmp_path, text):
    (tmp_path / "data/benchmarks/pope/coco_pope_random.json").write_text(text)
    code, _, err = bench("answer", "pope-random")
    assert code == 2 and "POPE, random has no questions" in err and "coco_pope_random.json" in err
    assert bench("sets", as_json=True)[1] == []


def test_no_bar_stands_before_a_refusal(bench, tmp_path):
    judge = ("--judge", "http://127.0.0.1:9/v1#m")
    for words in (("answer", "mmhal"), ("score", "no-such-set"), ("score", "no-such-set", *judge)):
        code, _, err = bench(*words)
        assert code == 2 and err.startswith("Error: ")
    assert "`benchmark sets`" in err


def test_a_judge_that_has_nothing_to_say_is_told(bench, tmp_path):
    path = write_pope_answers(tmp_path / "theirs.jsonl", ["Yes"] * 10)
    id = bench("import", "pope-random", path, as_json=True)[1]["id"]
    judge = ("--judge", "http://127.0.0.1:9/v1#m")
    told = "The judge is not asked: POPE, random is counted without one."
    assert told in bench("score", id, *judge)[2] and told in bench("compare", id, id, *judge)[2]
    assert "judge" not in bench("score", id)[2]
