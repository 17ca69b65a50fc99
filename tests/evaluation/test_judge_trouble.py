"""A judge whose server or process breaks: no item is lost and none is paid for twice."""

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
from rlhfv.evaluation.judge_log import JudgeLog, read_log
from rlhfv.evaluation.mmhal import read_rating
from rlhfv.models.refusals import Patience
from tests.evaluation.ask_judge import KEY, WORDING, ask, events, judge_of

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

    def crash_midway():
        while sum(first.finished.values()) < 20 or first.at_once < 4:
            time.sleep(0.001)
        first.crash()

    crash = threading.Thread(target=crash_midway)
    crash.start()
    with pytest.raises(GenerationFailed) as error:
        ask(judge_of(first, log), 60)
    crash.join()
    first.go.set()
    known = {item for item, times in first.finished.items() if times}
    kept = sum(len(replies) for replies in read_log(log).replies.values())
    assert 20 <= kept < 60 and f"{kept} of 60 items have a reply" in error.value.fix
    second = open_server(port=port)
    judged = ask(judge_of(second, log), 60)
    assert len(judged.read) == 60
    paid_twice = [item for item in known if second.finished[item]]
    assert len(paid_twice) <= judged.perhaps_paid and judged.perhaps_paid, "what may have been paid twice is counted"
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
