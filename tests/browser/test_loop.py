"""The whole loop in a real browser, against the app as a person starts it."""

import re

import pytest

from tests.apps import free_port, start_app, wait_until_ready

pytestmark = pytest.mark.browser
PATIENCE = 180_000


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """The address of a running app with an empty data folder."""
    data_dir = tmp_path_factory.mktemp("studio") / "data"
    port = free_port()
    process = start_app(data_dir, port)
    try:
        wait_until_ready(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def choose_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).press("Enter")


def ask(page, question: str) -> None:
    """Asks by keyboard and waits for both answers to be stored."""
    buttons = {side: page.get_by_role("button", name=f"Correct the {side} answer") for side in ("left", "right")}
    before = buttons["left"].count()
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    for button in buttons.values():
        button.nth(before).wait_for(timeout=PATIENCE)


def replace_selection(page, text: str) -> None:
    page.keyboard.type(text)
    page.get_by_role("dialog").get_by_role("textbox").wait_for()
    page.keyboard.press("Enter")


def save_with_terms(page) -> None:
    page.keyboard.press("Control+Enter")
    page.locator("#annotator").get_by_role("textbox").fill("Ada 🧪")
    page.locator("#consent").get_by_role("checkbox").check()
    page.locator("#terms-agree").press("Enter")


def test_the_loop_by_keyboard(studio, open_page):
    page = open_page(studio, viewport={"width": 1440, "height": 900})
    page.locator("#new-scene").press("Enter")
    page.locator("#chat-picture img").wait_for()
    ask(page, "Describe this image in detail.")

    page.locator("#left-column").get_by_role("button", name="Correct the left answer").press("Enter")
    text = page.locator("#editor [contenteditable=true]")
    text.wait_for()
    text.focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Shift+ArrowRight")
    replace_selection(page, "This")
    text.focus()
    page.keyboard.press("Control+End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Control+Shift+ArrowLeft")
    replace_selection(page, "corner")
    page.locator("#editor ins").nth(1).wait_for()
    save_with_terms(page)
    page.get_by_text(re.compile("Saved: 2 corrections")).wait_for(timeout=20_000)

    choose_tab(page, "Pairs")
    page.get_by_text("Ada 🧪").first.wait_for(timeout=20_000)

    choose_tab(page, "Train")
    page.locator("#oracle-count input").fill("40")
    page.locator("#add-oracle").press("Enter")
    page.get_by_text("oracle pairs added").wait_for(timeout=PATIENCE)
    page.locator("#start-run").press("Enter")
    page.locator("#run-heading").get_by_role("button", name="Chat with it").wait_for(timeout=PATIENCE)
    page.locator("#reask").press("Enter")
    page.locator("#reasked").get_by_text(re.compile("mended|still wrong|no longer mentioned")).first.wait_for(
        timeout=PATIENCE
    )

    page.locator("#run-heading").get_by_role("button", name="Chat with it").press("Enter")
    page.locator("#left-column").wait_for()
    assert "pairs" in page.locator("#right-voice input").input_value(), "the new adapter speaks in the right column"
    ask(page, "Is there a cup in the picture?")

    choose_tab(page, "Evaluate")
    scenes = page.locator("#evaluate-scenes input[type=number]")
    scenes.fill("20")
    scenes.press("Tab")
    page.locator("#start-evaluation").press("Enter")
    page.locator("#evaluation-figures").get_by_text("Baseline").first.wait_for(timeout=PATIENCE)
    assert re.search(r"\d", page.locator("#evaluation-figures").inner_text())


def test_touch_only_on_a_phone(studio, open_page):
    page = open_page(studio, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator("#new-scene").tap()
    page.locator("#chat-picture img").wait_for()
    page.locator("#suggestions").get_by_role("button").first.tap()
    correct = page.locator("#left-column").get_by_role("button", name="Correct the left answer")
    correct.wait_for(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"
    correct.tap()
    text = page.locator("#editor [contenteditable=true]")
    text.wait_for()
    box = page.evaluate(
        """() => {
          const walker = document.createTreeWalker(
            document.querySelector('#editor [contenteditable=true]'), NodeFilter.SHOW_TEXT);
          const range = document.createRange();
          range.setStart(walker.nextNode(), 0);
          range.setEnd(walker.currentNode, 3);
          const {x, y, width, height} = range.getBoundingClientRect();
          return [x + width / 2, y + height / 2];
        }"""
    )
    page.touchscreen.tap(*box)
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").fill("This")
    dialog.get_by_role("button", name="Apply").tap()
    page.locator("#editor ins").first.wait_for()
    page.locator("#editor").get_by_role("button", name=re.compile("Save")).tap()
    page.locator("#annotator").get_by_role("textbox").fill("Bob")
    page.locator("#terms-agree").tap()
    page.get_by_text(re.compile("Saved: 1 correction,")).wait_for(timeout=20_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"
