"""A judge is asked from the page, after a question, and what it said is compared."""

import re
from dataclasses import replace

import pytest

from rlhfv.judge_flags import NamedJudge
from rlhfv.remote_voices import RemoteVoice
from tests.evaluation.judge_server import JudgeServer
from tests.services.made_benchmark import make_mmhal, write_mmhal_answers

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def server(studio, tmp_path, monkeypatch):
    """The judge of the studio, which has two sets of answers for it meanwhile."""
    server, services = JudgeServer({"3": ["Rating: 1", "Rating: 5"]}), studio.services
    judge = NamedJudge(RemoteVoice("gpt-4", server.url, "gpt-4", flag="--judge"))
    monkeypatch.setattr(services.judged, "settings", replace(services.settings, judge=judge))
    make_mmhal(services.benchmarking.root)
    files = [write_mmhal_answers(tmp_path / f"{name}.json", f"A {name} cat.") for name in ("Unjudged", "Other")]
    sets = [services.reporting.take_in(studio.actor, "mmhal", path) for path in files]
    yield server
    server.stop()
    for each in sets:
        services.reporting.delete(studio.actor, each)


def test_the_judge_is_asked_after_a_question_and_its_replies_compared(studio, server, open_page):
    page = open_page(f"{studio.address}?tab=evaluate")
    page.get_by_role("tab", name="Benchmarks").click()
    page.locator("#compare-before input").click()
    page.get_by_role("option", name=re.compile("^Unjudged")).click()
    page.locator("#compare-variant").wait_for()
    page.locator("#compare-sets").click()
    judge = page.locator("#compare-judge")
    judge.get_by_text("24 requests go to 127.0.0.1").wait_for()
    assert not server.asked
    judge.get_by_role("button", name="Ask the judge").click()
    page.locator("#compared-pager").get_by_text("1–12 of 12").wait_for()
    judge.get_by_text("24 of 24 replies are kept").wait_for()
    assert "1 mended, 0 broken" in page.locator("#compare-verdict").inner_text()
    assert "judge gpt-4-0613@127.0.0.1" in page.locator("#compare-figures").inner_text()
    assert set(server.asked.values()) == {2}, "once for each set"
