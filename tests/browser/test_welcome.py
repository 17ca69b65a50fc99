"""The first five seconds: the page opens on a recorded comparison. And the first run that a guide leads through."""

import json
import os
import re
import urllib.request

import pytest

from rlhfv.corrections.recorded import find_recorded, read_recorded
from rlhfv.models.demo.world import DemoWorld
from rlhfv.services.recorded import SHIPPED
from tests.apps import free_port, start_app, wait_until_ready
from tests.browser.test_loop import PATIENCE, correct_by_keyboard, save_with_terms

pytestmark = pytest.mark.browser
expect = pytest.importorskip("playwright.sync_api").expect


@pytest.fixture(scope="module")
def recorded():
    (folder,) = find_recorded(SHIPPED)
    return read_recorded(folder)


def test_the_page_opens_on_a_recorded_comparison(studio, open_page, recorded):
    with urllib.request.urlopen(f"{studio.address}config") as config:
        parts = json.load(config)["components"]
    (welcome,) = [part for part in parts if part["props"].get("elem_id") == "welcome"]
    assert "frisbee" in json.dumps(welcome["props"]["value"]), "it is in the page itself: no event brings it"

    page = open_page(studio.address)
    card = page.get_by_role("region", name="A recorded comparison")
    expect(card).to_contain_text(re.compile(r"Recorded\s*on 22 November 2026 with Demo model"))
    expect(card).to_contain_text("a scene drawn by this program (Apache-2.0)")
    assert card.locator("mark").all_inner_texts() == [", with a traffic light nearby", ", with a frisbee nearby"]
    picture = card.get_by_role("img", name="The picture that was asked about")
    expect(picture).to_have_js_property("naturalWidth", 336)
    expect(page.locator("#top")).to_contain_text("Models see things that are not there")
    assert not page.locator("#left-column").is_visible() and page.locator("#question textarea").is_visible()

    page.locator("body[data-ready]").wait_for()
    card.get_by_role("button", name="Ask this yourself").click()
    expect(page.locator("#question textarea")).to_have_value(recorded.question)
    expect(page.locator("#question textarea")).to_be_focused()
    expect(card).to_be_hidden()
    page.locator("#chat-picture img").wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Correct the right answer").wait_for()
    page.locator("#new-conversation").click()
    page.locator("#left-column").get_by_text("No question yet.").wait_for()
    assert not card.is_visible(), "it is gone with the first own question"
    open_page.reload(page)
    page.locator("body[data-ready]").wait_for()
    assert not card.is_visible() and page.locator("#left-column").is_visible()


def test_it_can_be_closed_and_fits_a_phone(studio, open_page):
    page = open_page(studio.address, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    card = page.get_by_role("region", name="A recorded comparison")
    box = card.locator("mark").last.bounding_box()
    assert box["y"] + box["height"] < 844, "what differs is on the first screen"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("body[data-ready]").wait_for()
    card.get_by_role("button", name="Close the recorded comparison").tap()
    expect(card).to_be_hidden()
    open_page.reload(page)
    page.locator("#left-column").wait_for()
    assert not card.is_visible()


@pytest.mark.slow
def test_the_first_run_in_three_steps(open_page, tmp_path):
    """As a stranger on a Space: no account, and the model is trained for real, on 200 pairs of the oracle."""
    port = free_port()
    process = start_app(
        tmp_path / "data", port, environment={**os.environ, "HF_HUB_OFFLINE": "1", "SPACE_ID": "ann/studio"}
    )
    try:
        wait_until_ready(port, process)
        page = open_page(f"http://127.0.0.1:{port}/", viewport={"width": 1280, "height": 900})
        lead_through(page)
        page.context.close()
    finally:
        process.terminate()
        process.wait(30)


def lead_through(page) -> None:
    page.locator("body[data-ready]").wait_for(timeout=PATIENCE)
    guide = page.get_by_role("region", name="A first run in three steps")
    guide.get_by_role("button", name="Start").click()
    step = guide.locator("[aria-current=step]")
    expect(step).to_contain_text("Ask about a drawn scene")
    question = page.locator("#question textarea")
    expect(question).to_have_value("Describe this image in detail.")
    guide.get_by_role("button", name="Close the guide").click()
    page.get_by_role("button", name="Show the three steps of a first run").click()
    question.press("Enter")

    expect(step).to_contain_text("Correct what is not in it", timeout=PATIENCE)
    expect(guide).to_contain_text("The left answer says “a traffic light” and “a frisbee”. That is not so")
    guide.get_by_role("button", name="Correct this answer").click()
    page.locator("#editor [contenteditable=true]").wait_for()
    text = page.locator("#editor [contenteditable=true]").inner_text()
    world = DemoWorld()
    for edit in reversed(world.annotate(world.first_scene, world.description_question, text)):
        correct_by_keyboard(page, text, edit)
    expect(step).to_contain_text("Correct what is not in it")
    save_with_terms(page)
    page.get_by_text(re.compile("2 corrections, revision 1")).wait_for()

    expect(step).to_contain_text("Train on it, and ask again")
    expect(guide).to_contain_text("together with 200 that the oracle of the drawn world made")
    guide.get_by_role("button", name="Train now").click()
    expect(guide).to_contain_text(re.compile(r"The oracle corrects|Step \d+ of \d+|Waits|prepared"))
    page.get_by_role("tab", name="Pairs", exact=True).click()
    again = guide.get_by_role("button", name="Put the question into the chat")
    again.wait_for(timeout=900_000)
    assert page.locator(".pair-item").count() == 1, "what the oracle made is not among the pairs of the visitor"
    again.click()
    expect(question).to_have_value("Describe this image in detail.")
    question.press("Enter")
    expect(guide).to_contain_text("Before, the answer said “a traffic light” and “a frisbee”", timeout=PATIENCE)
    expect(guide).to_contain_text("Your model says nothing that is not so.")
    assert "frisbee" in page.locator("#left-column").inner_text()
    assert "frisbee" not in page.locator("#right-column").inner_text()
    assert "1 correction of mine" in page.locator("#right-voice input").input_value()
