"""Two sets of 500 answers beside each other: the list is there in a moment, what broke is found, opened and shared.
And voices answer a benchmark, while their page is closed."""

import re
import time
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from tests.browser.test_phone import SMALL_TARGETS
from tests.services.made_benchmark import (
    BENCHMARK,
    FALSE,
    TRUE,
    make_amber,
    make_answers,
    make_pope,
    write_amber_answers,
)
from tests.services.two_voices import give_two_voices

pytestmark = pytest.mark.browser

MOST_SECONDS = 2.0
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def files(studio, tmp_path_factory):
    """Answers of a baseline that are here already, and the file of what came after."""
    make_amber(studio.services.benchmarking.root)
    folder, (before, after) = tmp_path_factory.mktemp("answers"), make_answers()
    reporting = studio.services.reporting
    reporting.take_in(studio.actor, BENCHMARK, write_amber_answers(folder / "b.json", before), "Baseline")
    return SimpleNamespace(after=write_amber_answers(folder / "aligned <i>.json", after), folder=folder)


def compare(page, services) -> float:
    """Seconds from the click to the filled list, where nothing of it was read or counted before."""
    services.reporting._comparisons.clear()
    services.benchmarking._memory.clear()
    for kept in services.benchmarking.sets.glob("*/scores/*"):
        kept.unlink()
    begun = time.monotonic()
    page.locator("#compare-sets").click()
    page.locator("#compared-pager").get_by_text("1–25 of 500").wait_for()
    page.locator("#compared-list li").nth(24).wait_for()
    return time.monotonic() - begun


def test_what_broke_is_found_opened_and_shared(studio, files, open_page):
    page = open_page(f"{studio.address}?tab=evaluate")
    page.get_by_role("button", name="Take in a file of answers").click()
    page.locator("#answers-benchmark input").click()
    page.get_by_role("option", name="AMBER, generative").click()
    with page.expect_file_chooser() as chooser:
        page.locator("#take-in-answers").click()
    chooser.value.set_files(files.after)
    page.locator("#compare-status").get_by_text("500 of 500 items have an answer").wait_for()

    seconds = [compare(page, studio.services)]
    while seconds[-1] >= MOST_SECONDS and len(seconds) < 3:
        # Other tests share the machine. The second page is shown before, so that the first is waited for.
        page.locator("#compared-pager").get_by_role("button", name="Next").click()
        page.locator("#compared-pager").get_by_text("26–50 of 500").wait_for()
        seconds.append(compare(page, studio.services))
    print("500 answers, seconds from the click to the list:", *(f"{one:.2f}" for one in seconds))
    assert seconds[-1] < MOST_SECONDS
    told = page.locator("#compare-verdict").inner_text()
    assert "60 mended, 30 broken" in told and "Price:" in told
    assert page.locator("#compare-figures .whisker").count() >= 8
    page.locator("#compare-filter").get_by_text("What broke (30)").click()
    page.locator("#compared-pager").get_by_text("1–25 of 30").wait_for()
    assert page.locator("#compared-list .badge", has_text="broken").count() == 25
    page.locator("#compared-pager").get_by_role("button", name="Next").click()
    page.locator("#compared-pager").get_by_text("26–30 of 30").wait_for()
    page.locator("#compared-list li").nth(2).get_by_role("button").click()
    opened = page.locator("#compared-answers")
    opened.get_by_text("88", exact=True).wait_for()
    before, after = opened.locator(".answer-text").all()
    assert before.inner_text() == TRUE and after.inner_text() == FALSE
    assert after.locator("mark.false").inner_text() == "cat" and before.locator("mark.false").count() == 0
    assert after.locator("mark").first.inner_text() == "and a"

    page.locator("#compare-filter").get_by_text("All (500)").click()
    page.locator("#compared-list").get_by_text("<script>").wait_for()
    page.locator("#compared-list li").first.get_by_role("button").click()
    opened.get_by_text("<script>").wait_for()
    assert page.evaluate("window.hacked") is None

    page.locator("#make-page").click()
    with page.expect_download() as download:
        page.locator("#download-page").click()
    shared = files.folder / "shared.html"
    download.value.save_as(shared)
    page = page.context.new_page()
    page.set_content(shared.read_text())
    assert page.locator("article").count() == 30 and page.get_by_text("What broke").is_visible()
    assert page.locator("article img").count() == 3 and page.evaluate("window.hacked") is None
    page.set_viewport_size(PHONE["viewport"])
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_leaderboard_sorts_by_a_figure_and_fits_a_phone(studio, files, open_page):
    page = open_page(f"{studio.address}?tab=evaluate", **PHONE)
    page.locator("#compare-sets").wait_for()
    page.get_by_role("button", name="Let voices answer").click()
    page.locator("#answer-go").wait_for()
    assert page.evaluate(SMALL_TARGETS) == []
    page.get_by_role("tab", name="Leaderboard").click()
    board = page.locator("#leaderboard")
    board.get_by_text("amber-generative, 500 items").wait_for()
    board.get_by_role("button", name=re.compile("^Cover")).click()
    board.locator("th[aria-sort=descending]").wait_for()
    assert "Cover" in board.locator("th[aria-sort]").inner_text()
    assert page.evaluate(SMALL_TARGETS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_voices_answer_while_their_page_is_closed_and_are_stopped_from_another(studio, files, open_page, monkeypatch):
    """Two batches of the first voice, a reload, a stop; then all of both, ready to be compared."""
    make_pope(studio.services.benchmarking.root, 40)
    model = give_two_voices(monkeypatch, studio.services)
    page = open_page(f"{studio.address}?tab=evaluate")
    page.get_by_role("button", name="Let voices answer").click()
    page.locator("#answer-benchmark input").click()
    page.get_by_role("option", name="POPE, random").click()
    told = page.locator("#answer-told")
    page.locator("#answer-go").click()
    told.get_by_text("Baseline: 0 of 40 items").wait_for()
    model.batches.release()
    told.get_by_text("Baseline: 16 of 40 items, about").wait_for()
    assert page.locator("#answer-told [role=progressbar]").get_attribute("aria-valuenow") == "40"

    open_page.reload(page)
    told.get_by_text("Baseline: 16 of 40 items").wait_for()
    model.batches.release()
    told.get_by_text("Baseline: 32 of 40 items").wait_for()
    page.locator("#answer-stop").click()
    told.get_by_text("Stopped. What was answered is kept").wait_for()
    assert told.get_by_text("Baseline: 32 of 40 items have an answer").is_visible()
    expect(page.locator("#answer-stop")).to_be_hidden()

    for _ in range(4):
        model.batches.release()
    page.locator("#answer-go").click()
    told.get_by_text("Aligned: 40 of 40 items have an answer").wait_for()
    for place, voice in (("before", "Baseline"), ("after", "Aligned")):
        chosen = f"{voice}, POPE, random, greedy · 40 answers"
        expect(page.locator(f"#compare-{place} input")).to_have_value(chosen)
    page.locator("#compare-sets").click()
    page.locator("#compared-list li").nth(24).wait_for()

    [after] = [one for one in studio.services.reporting.sets(studio.actor) if one.title.startswith("Aligned, POPE")]
    studio.services.reporting.delete(studio.actor, after.id)
    page.locator("#compared-list li").nth(3).get_by_role("button").click()
    page.locator("#compare-message").get_by_text("These answers are not here any more.").wait_for()
    expect(page.locator("#compared")).to_be_hidden()
    assert page.locator(".toast-body").count() == 0
