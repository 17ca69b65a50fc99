"""The whole loop in a real browser, against the app as a person starts it."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from rlhfv.corrections.conversation import Answer
from rlhfv.corrections.edits import CorrectedAnswer, Edit
from rlhfv.corrections.store import Store
from rlhfv.models.demo.world import DemoWorld
from tests.apps import free_port, start_app, wait_until_ready

pytestmark = pytest.mark.browser
PATIENCE = 180_000


@dataclass(frozen=True)
class Studio:
    """A running app that began with an empty data folder."""

    address: str
    data_dir: Path


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("studio") / "data"
    port = free_port()
    process = start_app(data_dir, port)
    try:
        wait_until_ready(port, process)
        yield Studio(f"http://127.0.0.1:{port}/", data_dir)
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


def describe_new_scene(page) -> None:
    page.locator("#new-scene").press("Enter")
    page.locator("#chat-picture img").wait_for()
    ask(page, "Describe this image in detail.")


def find_mistakes(studio: Studio) -> tuple[Answer, tuple[Edit, ...]]:
    """The newest answer of the left column, and what the truth of its scene says is wrong in it."""
    store = Store(studio.data_dir / "studio.sqlite3")
    documents = store._connection.execute("SELECT id FROM answers ORDER BY seq DESC LIMIT 2").fetchall()
    answers = [store.answer(id) for (id,) in documents]
    (left,) = [answer for answer in answers if answer.model.adapter is None]
    return left, DemoWorld().annotate(store.image_source(left.prompt.all_images[-1]), left.prompt.question, left.text)


def correct_by_keyboard(page, original: str, edit: Edit) -> None:
    """Selects the words of an edit with the arrow keys and types over them, or deletes them."""
    assert original.isascii(), "one press of an arrow key moves by one character"
    page.locator("#editor [contenteditable=true]").focus()
    page.keyboard.press("Control+Home")
    for _ in range(edit.start):
        page.keyboard.press("ArrowRight")
    for _ in range(edit.end - edit.start):
        page.keyboard.press("Shift+ArrowRight")
    if edit.replacement:
        page.keyboard.type(edit.replacement)
        page.get_by_role("dialog").get_by_role("textbox").wait_for()
        page.keyboard.press("Enter")
    else:
        page.keyboard.press("Delete")


def save_with_terms(page) -> None:
    page.keyboard.press("Control+Enter")
    page.locator("#annotator").get_by_role("textbox").fill("Ada 🧪")
    page.locator("#consent").get_by_role("checkbox").check()
    page.locator("#terms-agree").press("Enter")


def test_the_loop_by_keyboard(studio, open_page):
    page = open_page(studio.address, viewport={"width": 1440, "height": 900})
    page.locator("body[data-ready]").wait_for(timeout=PATIENCE)
    describe_new_scene(page)
    answer, mistakes = find_mistakes(studio)
    while len(mistakes) < 2:  # a quarter of the baseline's answers have two
        page.locator("#new-conversation").press("Enter")
        page.locator("#chat-picture img").wait_for(state="detached")
        describe_new_scene(page)
        answer, mistakes = find_mistakes(studio)

    page.locator("#left-column").get_by_role("button", name="Correct the left answer").press("Enter")
    page.locator("#editor [contenteditable=true]").wait_for()
    for edit in reversed(mistakes):  # from the end: what is before a correction keeps its place
        correct_by_keyboard(page, answer.text, edit)
    page.locator("#editor").get_by_text(f"{len(mistakes)} corrections").first.wait_for()
    save_with_terms(page)
    page.get_by_text(re.compile(f"Saved: {len(mistakes)} corrections")).wait_for()
    (pair,) = Store(studio.data_dir / "studio.sqlite3").all_pairs()
    assert pair.chosen == CorrectedAnswer(answer.text, mistakes).corrected
    spans = [(edit.start, edit.end, edit.replacement) for edit in mistakes]
    assert [(edit.start, edit.end, edit.replacement) for edit in pair.edits] == spans

    choose_tab(page, "Pairs")
    page.get_by_text("Ada 🧪").first.wait_for()

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
