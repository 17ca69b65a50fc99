"""A judge over real HTTP: each thing is asked once, and what counts of its replies."""

import logging

import pytest

from rlhfv.errors import GenerationFailed, InvalidData
from rlhfv.evaluation import judge as judging
from rlhfv.evaluation.judge import Asked, Case, Standing, is_asked_for
from rlhfv.evaluation.judge_log import AskedJudge, kept_prompt, read_log
from rlhfv.evaluation.mmhal import read_rating
from tests.evaluation.ask_judge import KEY, OWN_TOKEN, WORDING, ask, cases, events, judge_of

# ---- good replies


def test_every_item_is_asked_once_in_parallel_and_never_again(open_server, tmp_path):
    server, log = open_server(delay=0.02), tmp_path / "judge.jsonl"
    told = []
    first = ask(judge_of(server, log, on_progress=lambda *done: told.append(done)), 12)
    assert first.read == {str(item): 4 for item in range(12)}
    assert set(server.asked.values()) == {1} and 1 < server.most_at_once <= 4
    assert told == [(done, 12) for done in range(1, 13)]
    again = ask(judge_of(server, log), 12)
    assert again == first and sum(server.asked.values()) == 12, "nothing is asked where everything has a reply"
    assert events(log).count("asked") == events(log).count("reply") == 12


def test_no_key_and_no_server_are_needed_where_all_is_known(open_server, tmp_path, monkeypatch):
    server, log = open_server(), tmp_path / "judge.jsonl"
    first = ask(judge_of(server, log), 2)
    monkeypatch.delenv("TEST_JUDGE_KEY")
    server.stop()
    before = log.read_bytes()
    assert ask(judge_of(server, log), 2) == first and log.read_bytes() == before


def test_what_is_sent_is_text_with_the_settings_and_its_own_key(open_server, tmp_path):
    server = open_server()
    ask(judge_of(server, tmp_path / "judge.jsonl"), 1)
    (headers, body), *_ = server.requests
    assert body["messages"] == [{"role": "user", "content": "Rate item <0>."}]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("gpt-4", 0.0, 64)
    assert not {"seed", "top_p", "n"} & body.keys()
    assert headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_of_its_own_no_token_of_this_machine_is_sent(open_server, tmp_path):
    server = open_server()
    ask(judge_of(server, tmp_path / "judge.jsonl", key_env=""), 1)
    [(headers, _)] = server.requests
    assert "authorization" not in headers and not any(OWN_TOKEN in value for value in headers.values())


def test_other_settings_models_or_words_are_another_request(open_server, tmp_path):
    server, log = open_server(served="gpt-4"), tmp_path / "judge.jsonl"
    judge = judge_of(server, log)
    ask(judge, 1)
    for wording in (judging.Wording("w", 0.5, 64), judging.Wording("w", 0.0, 65)):
        judge.ask(cases(1), wording, read_rating)
    judge.ask([Case("0", ({"role": "user", "content": "Rate item <0>!"},))], WORDING, read_rating)
    assert server.asked == {"0": 4}
    judge.ask(cases(1), judging.Wording("another label", 0.0, 64), read_rating)
    assert server.asked == {"0": 4}, "how a prompt is called is no part of the request"


def test_equal_requests_are_asked_once_and_serve_both_items(open_server, tmp_path):
    server = open_server()
    twins = [Case(id, cases(1)[0].messages) for id in ("a", "b")]
    judged = judge_of(server, tmp_path / "judge.jsonl").ask(twins, WORDING, read_rating)
    assert judged.read == {"a": 4, "b": 4} and server.asked == {"0": 1}


def test_the_model_that_the_server_names_stands_in_the_variant_and_on_every_reply(open_server, tmp_path):
    server, log = open_server(), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log), 2)
    host = server.url.split("/")[2]
    assert judged.by == (f"gpt-4-0613@{host}",)
    assert judged.variant("mmhal") == (f"mmhal; prompt of the test; judge gpt-4-0613@{host}, t = 0, at most 64 tokens")
    assert [one.model for replies in read_log(log).replies.values() for one in replies] == ["gpt-4-0613"] * 2


def test_how_much_has_a_reply_is_told_and_nothing_is_sent(open_server, tmp_path):
    server, log = open_server(), tmp_path / "judge.jsonl"
    judge, all_of_it = judge_of(server, log), [*cases(3), Case("twin", cases(3)[2].messages)]
    asked = Asked(tuple(all_of_it), WORDING, read_rating)
    assert judge.standing(asked) == Standing(3, 3, 4, 4) and not log.exists()
    ask(judge, 2)
    assert judge.standing(asked) == Standing(3, 1, 4, 2) and sum(server.asked.values()) == 2
    assert judge_of(server, log, model="gpt-4o").standing(asked) == Standing(3, 3, 4, 4)


def test_who_was_asked_in_which_words_is_kept_beside_the_replies(open_server, tmp_path):
    server, log, words = open_server(), tmp_path / "judge.jsonl", tmp_path / "words.txt"
    words.write_text("Rate {question}.")
    for judge in (judge_of(server, log), judge_of(server, log), judge_of(server, log, prompt_file=words)):
        judge.ask(cases(server.asked.total() + 1), WORDING, read_rating)
    first, second = read_log(log).judges
    assert first == AskedJudge("gpt-4") and second.model == "gpt-4"
    assert kept_prompt(log, second.prompt).read_text() == "Rate {question}."


# ---- replies that do not count


@pytest.mark.parametrize(
    ("word", "kind", "words"),
    [
        ("cut", judging.CUT, "cut at the limit"),
        ("other", judging.OTHER_MODEL, "of another model"),
        ("filtered", judging.ENDED, "another reason"),
        ("empty", judging.EMPTY, "empty"),
    ],
)
def test_what_does_not_count_is_told_kept_apart_and_asked_again_on_request_only(
    open_server, tmp_path, word, kind, words
):
    server, log = open_server({"1": [word, "good"]}), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log), 3)
    assert judged.read == {"0": 4, "2": 4} and judged.apart == {kind: 1} and not judged.unreadable
    assert words in judged.notes()[0] and "gpt-4o" not in judged.variant("")
    ask(judge_of(server, log), 3)
    assert server.asked["1"] == 1, "a paid reply is not asked again by itself"
    judged = ask(judge_of(server, log, again=True), 3)
    assert judged.read == {"0": 4, "1": 4, "2": 4} and judged.notes() == ()
    assert server.asked == {"0": 1, "1": 2, "2": 1}
    assert len([one for replies in read_log(log).replies.values() for one in replies]) == 4, "the first one is kept"


def test_a_malformed_reply_is_kept_raw_and_counted_apart_from_zeros(open_server, tmp_path):
    server, log = open_server({"0": ["malformed"], "1": ["Rating: 0"]}), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log), 2)
    assert judged.read == {"1": 0} and judged.texts["0"] == "I would say four of six."
    assert judged.unreadable == ("0",)
    assert judged.notes() == ("1 reply is in no form that can be read: left out.",)
    assert "I would say four of six." in log.read_text()
    ask(judge_of(server, log, again=True), 2)
    assert server.asked == {"0": 2, "1": 1}


def test_a_server_without_a_name_is_said_so(open_server, tmp_path):
    judged = ask(judge_of(open_server({"0": ["nameless"]}), tmp_path / "judge.jsonl"), 1)
    assert judged.read == {"0": 4} and "does not name it" in judged.variant("")


def test_asking_ends_when_nothing_that_counts_comes_back(open_server, tmp_path):
    server, log = open_server(served="gpt-4o-2024-11-20"), tmp_path / "judge.jsonl"
    with pytest.raises(GenerationFailed) as error:
        ask(judge_of(server, log, at_once=1), 30)
    assert sum(server.asked.values()) == judging.GIVE_UP, "27 were not paid for nothing"
    assert "'gpt-4o-2024-11-20'" in error.value.why and "--judge" in error.value.fix
    assert "3 of 30 items have a reply" in error.value.fix


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("gpt-4", "gpt-4", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gpt-4o", "gpt-4o-2024-11-20", True),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("gemini-1.5-pro", "models/gemini-1.5-pro-002", True),
        ("meta-llama/Llama-3.3-70B-Instruct:groq", "meta-llama/llama-3.3-70b-instruct", True),
        ("llava.gguf", "/srv/models/llava.gguf", True),
        ("llama3", "llama3:latest", True),
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B@main", True),  # as `transformers serve` names it
        ("/models/judge", "/models/judge@main", True),
        ("judge@main", "judge@v2", False),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4", "gpt-4-turbo", False),
        ("gpt-4", "gpt-4-1106-preview", False),
        ("gpt-4-0613", "gpt-4", False),
        ("gpt-4-0613", "gpt-4-0314", False),
        ("llama3:8b", "llama3:70b", False),
        ("alice/judge", "bob/judge", False),
        ("judge", "Qwen2.5.gguf", False),
    ],
)
def test_which_served_names_are_the_model_asked_for(asked, served, same):
    assert is_asked_for(asked, served) is same


# ---- the key


def test_the_key_is_in_no_file_error_or_log(open_server, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    plan = {"0": ["echo"], "1": ["500", "good"], "2": ["400"], "3": ["drop", "good"]}
    server, log = open_server(plan), tmp_path / "judge.jsonl"
    judge = judge_of(server, log)
    judged = ask(judge, 4)
    assert judged.read["0"] == 3
    server.plan |= {str(item): ["402"] for item in range(4, 8)}
    with pytest.raises(GenerationFailed) as error:
        ask(judge, 8)
    whole = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    seen = [whole, str(error.value), repr(error.value), repr(judge), repr(judged), caplog.text, *capfd.readouterr()]
    assert not any(KEY in text for text in seen)
    assert "(key)" in whole, "the server sent it back, and it was taken out"


@pytest.mark.parametrize("key", ["1", "x", "4", "judge"])
def test_a_short_key_changes_neither_the_rating_nor_the_model(open_server, tmp_path, monkeypatch, key):
    monkeypatch.setenv("TEST_JUDGE_KEY", key)
    server, log = open_server({"0": ["Rating: 1"]}, served="Mixtral-8x7B-judge"), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log, model="Mixtral-8x7B-judge"), 2)
    assert judged.read == {"0": 1, "1": 4} and judged.by[0].startswith("Mixtral-8x7B-judge@")
    assert "(key)" not in log.read_text()


def test_a_key_that_is_the_models_name_leaves_that_alone(open_server, tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_JUDGE_KEY", "gpt-4-0613")
    plan = {"0": ["I am gpt-4-0613. Rating: 2"], "1": ["other"]}
    server, log = open_server(plan), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log), 2)
    assert judged.read == {"0": 2} and judged.by[0].startswith("gpt-4-0613@") and judged.apart
    assert judged.texts["0"] == "I am (key). Rating: 2"


def test_a_key_that_is_not_there_is_told_before_anything_is_asked(open_server, tmp_path, monkeypatch):
    server, log = open_server(), tmp_path / "judge.jsonl"
    monkeypatch.delenv("TEST_JUDGE_KEY")
    with pytest.raises(InvalidData, match="no key"):
        ask(judge_of(server, log), 1)
    assert not server.asked and not log.exists()
