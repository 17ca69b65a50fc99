"""A judge over real HTTP: no item is lost and none is paid for twice, whatever the server or the process does."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhfv.errors import GenerationFailed, InvalidData
from rlhfv.evaluation import judge as judging
from rlhfv.evaluation.judge import Case, Judge, is_asked_for
from rlhfv.evaluation.judge_log import JudgeLog, read_log
from rlhfv.evaluation.mmhal import read_rating
from rlhfv.models.refusals import Patience
from rlhfv.remote_voices import RemoteVoice
from tests.evaluation.ask_judge import WORDING, cases
from tests.evaluation.judge_server import JudgeServer

KEY = "sk-very-secret-0123456789"
OWN_TOKEN = "hf_this_machines_own_token_000000000000"
PATIENT = Patience(connect=5.0, first=20.0, idle=20.0, whole=30.0)


@pytest.fixture
def open_server():
    servers = []

    def start(plan=None, **fields):
        servers.append(JudgeServer(plan, **fields))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(judging, "FIRST_PAUSE", 0.001)
    monkeypatch.setenv("TEST_JUDGE_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", OWN_TOKEN)


def judge_of(server, log: Path, model="gpt-4", key_env="TEST_JUDGE_KEY", **fields) -> Judge:
    voice = RemoteVoice(model, server.url, model, key_env=key_env, flag="--judge")
    return Judge(voice, log, **{"patience": PATIENT, **fields})


def ask(judge: Judge, number: int):
    return judge.ask(cases(number), WORDING, read_rating)


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_bytes().splitlines()]


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


# ---- servers that refuse, break and come back


@pytest.mark.parametrize("words", [["429", "429", "good"], ["429-now", "good"], ["500", "500", "500", "good"]])
def test_pauses_and_failures_of_the_server_lose_nothing_and_cost_nothing(open_server, tmp_path, words):
    server, log = open_server({"2": words}), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log), 5)
    assert len(judged.read) == 5 and judged.notes() == ()
    assert server.asked["2"] == len(words) and set(server.finished.values()) == {1}
    assert events(log).count("refused") == len(words) - 1


def test_a_pause_holds_back_every_request_for_as_long_as_the_server_says(open_server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(judging._Asking, "_pause", lambda self, seconds, tries: pauses.append((seconds, tries)))
    server = open_server({"0": ["429-now", "429", "429", "good"]})
    ask(judge_of(server, tmp_path / "judge.jsonl", at_once=1), 2)
    assert pauses == [(0.02, 1), (None, 2), (None, 3)]
    monkeypatch.undo()
    asking = judging._Asking(judge_of(server, tmp_path / "x"), WORDING, read_rating, [], 0, KEY, None)
    for tries, seconds in ((1, 1), (2, 2), (6, 32), (9, 60)):
        asking.not_before = 0
        asking._pause(None, tries)
        assert asking.not_before - time.monotonic() == pytest.approx(seconds, abs=0.1)


def test_a_pause_of_an_hour_is_told_and_not_waited(open_server, tmp_path):
    server, log = open_server({"1": ["429-hour", "good"]}), tmp_path / "judge.jsonl"
    with pytest.raises(GenerationFailed, match="pause of 3,600 seconds"):
        ask(judge_of(server, log, at_once=1), 4)
    assert server.asked == {"0": 1, "1": 1}
    assert len(ask(judge_of(server, log), 4).read) == 4
    assert server.finished == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_a_refusal_that_concerns_all_ends_at_once_and_one_item_s_does_not(open_server, tmp_path):
    server = open_server({str(item): ["402"] for item in range(9)})
    with pytest.raises(GenerationFailed, match="paid first"):
        ask(judge_of(server, tmp_path / "a.jsonl", at_once=1), 9)
    assert sum(server.asked.values()) == 1
    server = open_server({"1": ["400"]})
    judged = ask(judge_of(server, tmp_path / "b.jsonl"), 4)
    assert judged.missing == 1 and len(judged.read) == 3
    assert "1 item has no reply" in judged.notes()[0] and "This prompt is not allowed" in judged.notes()[0]
    ask(judge_of(server, tmp_path / "b.jsonl"), 4)
    assert server.asked["1"] == 2, "what was refused was not paid, and is asked again"


@pytest.mark.parametrize("word", ["drop", "hang", "no-end"])
def test_a_reply_that_breaks_off_is_asked_again_and_told_as_perhaps_paid(open_server, tmp_path, word):
    server, log = open_server({"1": [word, "good"]}), tmp_path / "judge.jsonl"
    judged = ask(judge_of(server, log), 3)
    assert len(judged.read) == 3 and server.asked == {"0": 1, "1": 2, "2": 1}
    assert set(server.finished.values()) == {1}
    assert judged.perhaps_paid == 1 and "cannot be known" in judged.notes()[0]
    assert events(log).count("lost") == 1


def test_a_reply_that_the_server_finished_and_we_never_got_is_counted_as_perhaps_paid(open_server, tmp_path):
    server = open_server({"1": ["late", "good"]})
    impatient = Patience(connect=5.0, first=5.0, idle=0.2, whole=5.0)
    judged = ask(judge_of(server, tmp_path / "judge.jsonl", patience=impatient), 3)
    assert len(judged.read) == 3
    assert server.finished["1"] == 2, "it was paid twice, which nobody here could know"
    assert judged.perhaps_paid == 1 and "1 request ended without a reply" in judged.notes()[0]


def test_a_reply_that_keeps_breaking_off_is_asked_twice_and_left(open_server, tmp_path):
    server = open_server({"1": ["drop"]})
    judged = ask(judge_of(server, tmp_path / "judge.jsonl"), 3)
    assert server.asked["1"] == judging.LOST_TRIES and judged.missing == 1 and judged.perhaps_paid == 2


def test_a_wrong_address_is_told_at_once(open_server, tmp_path):
    server = open_server()
    server.stop()
    with pytest.raises(GenerationFailed, match="cannot be reached"):
        ask(judge_of(server, tmp_path / "judge.jsonl"), 5)
    assert events(tmp_path / "judge.jsonl").count("unreached") <= 4


def test_a_server_that_crashes_loses_no_item(open_server, tmp_path):
    log = tmp_path / "judge.jsonl"
    first = open_server()
    first.hold_after, port = 20, first.server_address[1]
    crash = threading.Thread(target=first.crash)
    with pytest.raises(GenerationFailed) as error:
        ask(judge_of(first, log, on_progress=lambda done, _: done == 20 and crash.start()), 60)
    crash.join()
    first.go.set()
    known = {item for item, times in first.finished.items() if times}
    kept = sum(len(replies) for replies in read_log(log).replies.values())
    assert 20 <= kept < 60 and f"{kept} of 60 items have a reply" in error.value.fix
    second = open_server(port=port)
    judged = ask(judge_of(second, log), 60)
    assert len(judged.read) == 60
    paid_twice = [item for item in known if second.finished[item]]
    assert len(paid_twice) <= judged.perhaps_paid, "what may have been paid twice is counted"
    assert sum(second.asked.values()) == 60 - kept


def test_settings_that_a_server_does_not_take_are_left_out_and_told(open_server, tmp_path):
    server = open_server({"0": ["newer", "hot", "good"]})
    judged = ask(judge_of(server, tmp_path / "judge.jsonl", at_once=1), 2)
    _, body = server.requests[-1]
    assert "temperature" not in body and "max_tokens" not in body and body["max_completion_tokens"] == 64
    assert "the server's own temperature" in judged.variant("")


# ---- the process


def kill_midway(server, log: Path, number: int, replies: int) -> None:
    command = [sys.executable, "-m", "tests.evaluation.ask_judge", server.url, str(log), str(number)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 60
        while sum(server.finished.values()) < replies or server.at_once < 4:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_process_loses_nothing_and_pays_twice_at_most_what_was_under_way(open_server, tmp_path):
    server, log, number = open_server(), tmp_path / "judge.jsonl", 40
    server.hold_after = 10
    kill_midway(server, log, number, 10)
    server.go.set()  # the server goes on with what the dead process asked for
    while server.at_once:
        time.sleep(0.01)
    before = read_log(log)
    kept = set(before.replies)
    under_way = sum(before.unknown.values())
    assert 10 <= len(kept) < number and under_way == 4
    finished = server.finished.copy()
    judged = ask(judge_of(server, log), number)
    assert len(judged.read) == number and judged.missing == 0, "no item is lost"
    twice = [item for item in finished if server.finished[item] > 1]
    assert len(twice) <= under_way == judged.perhaps_paid, "none that got here is paid twice, and the rest is told"
    assert sum(server.asked.values()) <= number + under_way
    assert ("ended without a reply that got here" in " ".join(judged.notes())) == bool(under_way)


def test_two_at_once_do_not_pay_twice(tmp_path, open_server):
    server, log = open_server(), tmp_path / "judge.jsonl"
    with JudgeLog(log), pytest.raises(InvalidData, match="already"):
        ask(judge_of(server, log), 1)
    assert not server.asked
    assert ask(judge_of(server, log), 1).read == {"0": 4}


def test_what_another_one_asked_meanwhile_is_not_asked_again(tmp_path, open_server, monkeypatch):
    server, log, real, others = open_server(), tmp_path / "judge.jsonl", judging.read_log, []

    def read(path):
        kept = real(path)
        if not others:
            others.append(True)
            ask(judge_of(server, log), 5)
        return kept

    monkeypatch.setattr(judging, "read_log", read)
    assert len(ask(judge_of(server, log), 5).read) == 5 and set(server.asked.values()) == {1}


def test_a_server_that_does_not_stream_is_told_after_one_request(tmp_path, open_server):
    server, log = open_server({str(item): ["whole"] for item in range(9)}), tmp_path / "judge.jsonl"
    with pytest.raises(GenerationFailed, match="did not stream"):
        ask(judge_of(server, log, at_once=1), 9)
    assert sum(server.asked.values()) == 1 and sum(read_log(log).lost.values()) == 1


def test_stopping_ends_after_what_is_under_way(open_server, tmp_path):
    stop, server, log = threading.Event(), open_server(delay=0.01), tmp_path / "judge.jsonl"
    judge = judge_of(server, log, stop=stop, on_progress=lambda done, total: done >= 5 and stop.set())
    judged = ask(judge, 40)
    assert 5 <= len(judged.read) <= 8 and judged.missing == 40 - len(judged.read)
    assert server.finished == server.asked and judged.perhaps_paid == 0, "what was under way came in"
    assert len(ask(judge_of(server, log), 40).read) == 40 and set(server.finished.values()) == {1}


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_file_torn_anywhere_is_read_and_added_to(tmp_path_factory, cut):
    log = tmp_path_factory.mktemp("torn") / "judge.jsonl"
    reply = {"server": "s", "model": "m", "finish_reason": "stop", "text": "Straße 😀\u2028 Rating: 4"}
    with JudgeLog(log) as opened:
        for request in ("a", "b"):
            opened.add("asked", request, request)
            opened.add("reply", request, request, **reply)
    whole = log.read_bytes()
    log.write_bytes(whole[:cut])
    kept = read_log(log)
    assert set(kept.replies) <= {"a", "b"} and kept.torn <= 1
    with JudgeLog(log) as opened:
        opened.add("reply", "c", "c", **reply)
    after = read_log(log)
    assert set(after.replies) == set(kept.replies) | {"c"} and after.replies["c"][0].text == reply["text"]


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
