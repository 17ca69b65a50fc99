"""Asking a judge from the page, without a browser."""

import shlex
import time

import pytest

from rlhfv.evaluation import judge as judging
from rlhfv.judge_flags import NamedJudge
from rlhfv.remote_voices import RemoteVoice
from rlhfv.services import Actor, build_services
from rlhfv.services.actor import RIGHTS
from rlhfv.settings import Settings
from rlhfv.studio.benchmarks import NOTHING
from rlhfv.studio.jobs import Job
from tests.evaluation.judge_server import JudgeServer
from tests.services.made_benchmark import BENCHMARK, make_amber, make_mmhal, write_amber_answers, write_mmhal_answers
from tests.studio.conftest import Page, texts

READABLE = "readable by gpt-4"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(judging, "FIRST_PAUSE", 0.001)
    server = JudgeServer({"3": ["Rating: 1", "Rating: 5"]})
    yield server
    server.stop()


@pytest.fixture
def open_studio(tmp_path):
    """`open_studio(server)` is a studio with two sets of answers and that judge, its page and the sets' ids."""

    def open_studio(server=None, who=None, **more):
        voice = server and RemoteVoice("gpt-4", server.url, "gpt-4", flag="--judge")
        named = voice and NamedJudge(voice, at_once=1)
        services = build_services(Settings(data_dir=tmp_path / "data", judge=named, **more))
        if not (services.benchmarking.root / "mmhal").is_dir():
            make_mmhal(services.benchmarking.root)
        files = [write_mmhal_answers(tmp_path / f"{name}.json", f"A {name} cat.") for name in ("Old", "New")]
        ids = [services.reporting.take_in(who or Actor("a" * 32), "mmhal", path) for path in files]
        return Page(build_app(services)), services, ids

    return open_studio


def build_app(services):
    from rlhfv.studio.app import build_app

    return build_app(services)


def press(page, who, act, compared):
    return page.fire("compare-judge", "select", who, compared, data={"act": act, "ref": ""})


def tick(page, who, compared, seen=None):
    page.events["judge-timer", "tick"] = [one for one in page.demo.fns.values() if one.api_name == "judged_tick"]
    return page.fire("judge-timer", "tick", who, seen, compared)


def tick_until(page, who, compared, told: str) -> dict:
    until, shown = time.monotonic() + 60, None
    while time.monotonic() < until:
        shown = tick(page, who, compared)
        if told in texts(shown["compare-judge"]):
            return shown
        time.sleep(0.01)
    raise AssertionError(f"never told: {told}; last {shown}")


def test_it_asks_first_then_shows_how_far_it_is_and_compares(open_studio, ada, bob, server):
    page, _, ids = open_studio(server)
    chosen = page.fire("compare-before", "input", ada, ids[0])
    assert chosen["compare-variant"]["choices"] == [READABLE, "official by gpt-4"] and chosen["compare-judge"] == []
    compared = (*ids, READABLE)
    [asked] = page.fire("compare-sets", "click", ada, *compared)
    said, server_name = texts(asked["compare-judge"]), server.url.split("/")[2]
    assert f"24 requests go to {server_name}, model gpt-4, about all 24 answers in the two sets." in said
    assert "no pictures" in said and "Compare what is judged" not in said and compared in asked.values()
    assert press(page, ada, "cancel", compared)["compare-judge"] == [] and not server.asked
    server.hold_after = 5
    begun = press(page, ada, "ask", compared)
    assert "of 24 replies Stop You may close this page" in texts(begun["compare-judge"])
    assert "5 of 24 replies" in texts(tick_until(page, ada, compared, "5 of 24 replies")["compare-judge"])
    other = page.fire("tab-evaluate", "select", bob)
    assert "5 of 24 replies" in texts(other["compare-judge"]), "another page of this machine"
    assert "at work here already" in texts(press(page, bob, "ask", compared)["compare-judge"])
    back = page.fire("compare-before", "input", ada, ids[0])
    assert compared in back.values(), "whoever comes back sees it compared at the end"
    server.go.set()
    shown = tick_until(page, ada, compared, "24 of 24 replies are kept")
    assert "1 mended, 0 broken" in texts(shown["compare-verdict"]) and shown["compared"]["visible"]
    assert "judge gpt-4-0613@" in texts(shown["compare-figures"]) and NOTHING in shown.values()
    assert "compared" not in tick(page, bob, NOTHING), "a page that compares something else goes on with it"
    *_, end = page.fire("compare-sets", "click", bob, *compared)
    assert end["compared"]["visible"] and sum(server.asked.values()) == 24, "nothing is asked a second time"


def test_a_job_that_ends_while_a_page_looks_keeps_what_it_tells(open_studio, ada, server, monkeypatch):
    server.plan = {"2": ["400"]}
    page, _, ids = open_studio(server)
    press(page, ada, "ask", (*ids, READABLE))
    looks, really = [], Job.running.fget
    time.sleep(1)
    # It still runs at the first look of a tick, and has ended at any other.
    monkeypatch.setattr(Job, "running", property(lambda job: looks.append(1) or len(looks) == 1 or really(job)))
    first = tick(page, ada, (*ids, READABLE))
    assert len(looks) == 1 and "compared" not in first, "what it looked at once is what it shows and does"


def test_stopped_it_offers_the_rest_and_what_is_there(open_studio, ada, server):
    page, _, ids = open_studio(server)
    compared = (*ids, READABLE)
    server.hold_after = 14
    press(page, ada, "ask", compared)
    tick_until(page, ada, compared, "14 of 24 replies")
    server.delay = 0.05
    server.go.set()
    press(page, ada, "stop", compared)
    said = texts(tick_until(page, ada, compared, "Stopped.")["compare-judge"])
    assert "Ask the judge for the rest?" in said and "are judged already, and nobody pays for them again" in said
    part = press(page, ada, "partly", compared)
    assert "have no reply of the judge yet" in texts(part["compare-figures"]) and part["compare-judge"] == []
    server.delay = 0
    press(page, ada, "ask", compared)
    tick_until(page, ada, compared, "24 of 24 replies are kept")
    assert set(server.asked.values()) == {2}, "once for each set"


def test_what_the_server_refuses_is_told_in_three_parts_and_asked_again(open_studio, ada, server):
    server.plan = {"2": ["402", "good"]}
    page, _, ids = open_studio(server)
    compared = (*ids, READABLE)
    press(page, ada, "ask", compared)
    said = texts(tick_until(page, ada, compared, "paid first")["compare-judge"])
    assert "2 of 12 items have a reply" in said and "22 requests go to" in said
    press(page, ada, "ask", compared)
    assert tick_until(page, ada, compared, "24 of 24 replies are kept")["compared"]["visible"]


def test_an_answer_that_the_judge_will_not_read_keeps_nothing_back(open_studio, ada, server):
    server.plan = {"2": ["400"]}
    page, _, ids = open_studio(server)
    press(page, ada, "ask", (*ids, READABLE))
    shown = tick_until(page, ada, (*ids, READABLE), "2 answers have no reply")
    assert shown["compared"]["visible"] and "This prompt is not allowed" in texts(shown["compare-figures"])


def test_without_a_judge_it_says_in_place_what_to_do(open_studio, ada, tmp_path):
    page, services, ids = open_studio()
    chosen = page.fire("compare-before", "input", ada, ids[0])
    said = texts(chosen["compare-judge"])
    assert "MMHal-Bench is counted by a judge, and this studio has none." in said and "Start the studio with" in said
    words = f"python -m rlhfv benchmark compare {' '.join(ids)} --judge URL#MODEL --judge-key-env VARIABLE"
    command = f"{shlex.join(words.split())} --data-dir {tmp_path / 'data'}"
    assert command in said and chosen["compare-variant"]["choices"] == []
    *_, end = page.fire("compare-sets", "click", ada, *ids, None)
    assert f"benchmark compare {' '.join(ids)}" in texts(end["compare-message"])
    make_amber(services.benchmarking.root, 5)
    other = services.reporting.take_in(ada, BENCHMARK, write_amber_answers(tmp_path / "amber.json", {"1": "A dog."}))
    assert page.fire("compare-before", "input", ada, other)["compare-judge"] == []


def test_who_does_not_manage_the_studio_asks_nothing(open_studio, server):
    visitor = Actor("v" * 32, rights=RIGHTS - {"manage"})
    page, services, ids = open_studio(server, visitor, single_user=False)
    chosen = page.fire("compare-before", "input", visitor, ids[0])
    assert chosen["compare-variant"]["choices"] == [] and "Ask whoever runs it" in texts(chosen["compare-judge"])
    assert str(services.settings.data_dir) not in texts(chosen["compare-judge"])
    for act in ("ask", "stop"):
        assert "needs the right 'manage'" in texts(press(page, visitor, act, (*ids, READABLE))["compare-judge"])
    *_, end = page.fire("compare-sets", "click", visitor, *ids, READABLE)
    assert "no variant 'readable by gpt-4'" in texts(end["compare-message"]) and not server.asked
