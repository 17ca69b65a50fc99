"""The flags of a judge."""

import argparse
import json

import pytest

from rlhfv.commands.judges import add_judge_flags, judge_of
from rlhfv.errors import InvalidData
from rlhfv.evaluation import mmhal
from tests.evaluation.judge_server import JudgeServer

KEY = "sk-very-secret-0123456789"
NAMED = ("--judge", "https://api.example/v1#org/judge-1")


@pytest.fixture
def read(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_judges")
    parser = argparse.ArgumentParser()
    add_judge_flags(parser)
    return lambda *flags: judge_of(parser.parse_args(flags))


def test_no_flags_name_no_judge(read):
    assert read() is None


def test_a_judge_with_its_own_key_and_file_of_replies(read, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("{question}")
    flags = ("--judge-key-env", "JUDGE_KEY", "--judge-prompt", str(prompt), "--judge-again", "--judge-at-once", "2")
    judge = read(*NAMED, *flags)(tmp_path / "judge.jsonl")
    assert (judge.voice.url, judge.voice.model) == ("https://api.example/v1", "org/judge-1")
    assert (judge.log, judge.prompt_file, judge.again, judge.at_once) == (tmp_path / "judge.jsonl", prompt, True, 2)
    assert judge.voice.read_key() == KEY and KEY not in repr(judge)


def test_without_a_key_flag_none_is_sent(read, tmp_path):
    assert read(*NAMED)(tmp_path).voice.read_key() == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((*NAMED, "--judge-key-env", "NOT_THERE"), "no key"),
        ((*NAMED, "--judge-key-env", KEY), "no key"),
        ((*NAMED, "--judge-key-env", "JUDGE_KEY", "--judge-key-file", "key"), "two keys"),
        (("--judge-key-env", "JUDGE_KEY"), "No judge is named"),
        (("--judge-again",), "No judge is named"),
        ((*NAMED, "--judge-prompt", "/nowhere/prompt.txt"), "no file '/nowhere/prompt.txt' with a prompt"),
    ],
)
def test_flags_that_do_not_hold_are_told_without_the_key(read, flags, words):
    with pytest.raises(InvalidData, match=words) as error:
        read(*flags)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["gpt-4", "https://api.example/v1", f"https://me:{KEY}@api.example/v1#x", "https://a/v1#", f"http://{KEY}:x/v1#x"],
)
def test_what_names_no_judge_is_refused_without_repeating_it(read, text, capsys):
    with pytest.raises(SystemExit):
        read("--judge", text)
    told = capsys.readouterr().err
    assert "--judge" in told and KEY not in told


@pytest.fixture
def server():
    server = JudgeServer({"5": ["malformed", "good"], "6": ["429", "good"], "7": ["Rating: 1"]})
    yield server
    server.stop()


def test_from_a_file_of_answers_to_figures_and_back_again_without_paying_twice(say, server, tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setattr("rlhfv.evaluation.judge.FIRST_PAUSE", 0.01)
    folder = tmp_path / "data" / "benchmarks" / "mmhal"
    folder.mkdir(parents=True)
    rows = [
        {"question": f"What is item <{place}>?", "gt_answer": "A cat.", "image_content": ["Cat"], "model_answer": ""}
        for place in range(96)
    ]
    (folder / mmhal.FILE).write_text(json.dumps(rows))
    sets = []
    for name, words in (("before", "A dog."), ("after", "A cat.")):
        answers = [{"question_id": place, "prompt": rows[place]["question"], "text": words} for place in range(12)]
        (tmp_path / f"{name}.json").write_text(json.dumps(answers))
        code, out, err = say("benchmark", "import", "mmhal", tmp_path / f"{name}.json")
        assert code == 0, err
        sets.append(out.split()[-1])
    code, _, err = say("benchmark", "score", sets[0])
    assert code == 2 and "--judge URL#MODEL" in err
    flags = ("--judge", f"{server.url}#gpt-4", "--judge-key-env", "JUDGE_KEY", "--json")
    code, out, err = say("benchmark", "score", sets[0], *flags)
    assert code == 0, err
    first = json.loads(out)
    assert first["items"] == 11 and first["figures"]["score"]["value"] == pytest.approx((10 * 4 + 1) / 11)
    assert "judge gpt-4-0613@127.0.0.1" in first["variant"] and "1 reply is in no form" in " ".join(first["notes"])
    asked = sum(server.asked.values())
    assert json.loads(say("benchmark", "score", sets[0], *flags)[1]) == first
    assert sum(server.asked.values()) == asked == 13
    again = json.loads(say("benchmark", "score", sets[0], *flags, "--judge-again")[1])
    assert again["items"] == 12 and sum(server.asked.values()) == asked + 1
    compared = json.loads(say("benchmark", "compare", *sets, *flags)[1])
    assert compared["items"] == 12 and compared["flips"] == {"mended": 0, "broken": 0, "p": 1.0}
    assert all(KEY not in path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file())
