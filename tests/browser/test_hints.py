"""Suspect words in the editor: marked, walked by keyboard, never taken by themselves, switched off, known as seen."""

import io
import threading

import pytest
from PIL import Image

from rlhfv.studio.span_editor import Hint
from tests.browser.editor_page import DOG, row

pytestmark = pytest.mark.browser

MARKED = "[...CSS.highlights.get('span-editor-hint') ?? []].map(range => range.toString()).join('|')"
OBJECT = Hint(start=18, end=27, score=0.9, kind="object", source="parting")  # black dog
NUMBER = Hint(start=50, end=53, score=0.7, kind="number", source="unlikely")  # two
PLACE = Hint(start=42, end=49, score=0.8, kind="position", source="blind")  # next to
HINTS = [OBJECT, PLACE, NUMBER]


def marked(editor) -> str:
    return editor.page.evaluate(MARKED)


def subject(editor) -> str:
    return editor.popover.locator("strong").inner_text()


def wait_for_marks(editor, text: str) -> None:
    editor.page.wait_for_function(f"text => {MARKED} === text", arg=text)


def test_f8_walks_the_suspects_and_typing_corrects_one(open_editor):
    editor = open_editor(hints=HINTS)
    assert marked(editor) == "black dog|next to|two"
    editor.text.focus()
    walked = []
    for key in ("F8", "F8", "F8", "F8", "Shift+F8", "Shift+F8"):
        editor.press(key)
        walked.append(subject(editor))
    assert walked == ["“black dog”", "“next to”", "“two”", "“black dog”", "“two”", "“next to”"]
    assert editor.status.inner_text() == "Suspect 2 of 3: “next to”"
    described = editor.input.evaluate(
        "node => document.getElementById(node.getAttribute('aria-describedby').split(' ')[0]).textContent"
    )
    assert described == "Suspect: as likely without the picture as with it."
    assert editor.popover.get_by_role("radio", name="position").get_attribute("aria-checked") == "true"
    editor.type("behind")
    editor.press("F8")  # what was typed is taken, as by a click elsewhere
    assert subject(editor) == "“two”"
    editor.type("three")
    editor.press("Enter")
    assert marked(editor) == "black dog"
    assert editor.root.get_by_role("button", name="Next suspect").inner_text() == "1"
    assert editor.save() == [row(DOG, "next to", "behind", "position"), row(DOG, "two", "three", "number")]
    editor.press("Control+z")
    assert marked(editor) == "black dog|two"


def test_walking_takes_nothing(open_editor):
    editor = open_editor(hints=HINTS)
    editor.text.focus()
    editor.press("F8", "F8", "F8", "F8", "Escape", "F8", "Enter", "Escape")
    editor.press("Control+Enter")
    assert editor.status.inner_text() == "Correct at least one span first"
    assert editor.root.get_by_text("0 corrections").is_visible() and editor.corrected() == DOG
    assert not [draft for draft in editor.studio.drafts if draft.answer_id == editor.name]


def test_the_switch_hides_them_and_is_remembered(open_editor, open_page):
    editor = open_editor(hints=HINTS)
    switch = editor.root.get_by_role("switch", name="Show suspect words")
    assert switch.get_attribute("aria-checked") == "true"
    switch.click()
    assert switch.get_attribute("aria-checked") == "false" and marked(editor) == ""
    assert editor.root.get_by_role("button", name="Next suspect").is_hidden()
    editor.text.focus()
    editor.press("F8")
    assert editor.popover.is_hidden() and editor.status.inner_text() == "Suspect words are hidden"
    asked = len(editor.studio.asked)
    open_page.reload(editor.page)
    editor.page.wait_for_selector("#editor .text:not([hidden])")
    assert switch.get_attribute("aria-checked") == "false" and marked(editor) == ""
    editor.replace("red", "blue")
    editor.text.focus()
    editor.save()
    assert not [hint for hint in editor.studio.received[-1].hints if hint.shown]
    assert len(editor.studio.asked) == asked, "hints were computed for somebody who does not want them"
    switch.click()
    assert marked(editor) == "black dog|next to|two"


def test_a_blind_correction_has_none(open_editor):
    editor = open_editor(hints=HINTS, blind=True)
    assert marked(editor) == "" and editor.root.get_by_role("switch").is_hidden()
    editor.text.focus()
    editor.press("F8")
    assert editor.popover.is_hidden()
    editor.replace("red", "blue")
    editor.text.focus()
    editor.save()
    assert editor.name not in editor.studio.asked
    assert not [hint for hint in editor.studio.received[-1].hints if hint.shown]


def test_hints_that_arrive_later_disturb_nothing(open_editor):
    editor = open_editor(later=HINTS)
    editor.wait(lambda: editor.name in editor.studio.asked)
    editor.replace("two", "three")
    editor.drag("sofa")
    editor.type("arm")
    editor.go.set()
    wait_for_marks(editor, "black dog|next to")
    assert subject(editor) == "“sofa”" and editor.input.input_value() == "arm"
    editor.type("chair")
    editor.press("Enter")
    rows = [row(DOG, "sofa", "armchair", "object"), row(DOG, "two", "three", "number")]
    assert editor.save() == rows
    seen = {(hint.start, hint.end): hint.shown for hint in editor.studio.received[-1].hints}
    assert seen == {(18, 27): True, (42, 49): True, (50, 53): False}, "one was corrected before anybody saw its mark"
    editor.press("Control+z", "Control+z")
    assert marked(editor) == "black dog|next to|two"


def test_hints_for_an_answer_that_was_left_are_dropped(open_editor):
    from rlhfv.studio.span_editor import SpanEditor

    editor = open_editor(later=HINTS)
    editor.wait(lambda: editor.name in editor.studio.asked)
    other = "A man and a cat are in the garden, next to a tall tree."
    editor.show(SpanEditor.document(other, "another-answer"), "another-answer")
    editor.go.set()
    editor.page.wait_for_timeout(700)
    assert marked(editor) == "" and editor.text.inner_text() == other
    editor.replace("cat", "dog")
    editor.text.focus()
    assert editor.save() == [row(other, "cat", "dog", "object")]
    assert editor.studio.received[-1].answer_id == "another-answer"


def test_what_was_shown_outlives_a_reload(open_editor, open_page):
    editor = open_editor(later=HINTS)
    editor.go.set()
    wait_for_marks(editor, "black dog|next to|two")
    assert editor.status.inner_text() == "3 suspects: F8 goes to the next"
    editor.replace("two", "three")
    editor.wait(lambda: [draft for draft in editor.studio.drafts if draft.answer_id == editor.name])
    stored = editor.studio.documents[editor.name]
    editor.studio.documents[editor.name] = stored.model_copy(
        update={"corrections": editor.studio.drafts[-1].corrections}
    )
    open_page.reload(editor.page)
    wait_for_marks(editor, "black dog|next to")
    editor.text.focus()
    editor.save()
    assert all(hint.shown for hint in editor.studio.received[-1].hints)


def test_a_tap_opens_a_suspect(open_editor):
    editor = open_editor(hints=HINTS, has_touch=True, viewport={"width": 360, "height": 700})
    editor.tap("next")
    assert subject(editor) == "“next to”"
    assert editor.root.get_by_role("switch").bounding_box()["height"] >= 40
    assert editor.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_wavy_in_both_themes(open_editor, scheme):
    editor = open_editor(hints=HINTS, color_scheme=scheme)
    style = editor.text.evaluate(
        "host => { const style = getComputedStyle(host, '::highlight(span-editor-hint)');"
        " return [style.textDecorationLine, style.textDecorationStyle, style.textDecorationColor]; }"
    )
    ink = {"light": "rgb(194, 65, 12)", "dark": "rgb(251, 191, 36)"}[scheme]
    assert style == ["underline", "wavy", ink]


def test_emoji_and_combining_marks_before_a_suspect(open_editor):
    text = "👩‍👩‍👧 e\u0301t\u00e9 🇩🇪 shows two cats."
    start = text.index("two")
    editor = open_editor(text, hints=[Hint(start=start, end=start + 3, kind="number")])
    assert marked(editor) == "two"
    editor.text.focus()
    editor.press("F8")
    editor.type("no")
    editor.press("Enter")
    assert editor.save() == [row(text, "two", "no", "number")]


def ask(page, question: str):
    """The chat page with a picture and the answers to one question."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(picture, "PNG")
    page.locator("body[data-ready]").wait_for()
    file = {"name": "picture.png", "mimeType": "image/png", "buffer": picture.getvalue()}
    page.set_input_files("#chat-picture input[type=file]", file)
    page.locator("#chat-picture img[src*='images/']").wait_for()
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")
    page.locator("#left-column .actions").wait_for()
    return page


def revisit(open_page, page, address: str) -> None:
    page.evaluate("address => history.replaceState(null, '', address)", address)
    open_page.reload(page)


def test_the_answer_opens_before_its_hints_and_what_was_shown_is_recorded(studio, open_page, monkeypatch):
    services, go = studio.services, threading.Event()
    read = services.host._model.read
    monkeypatch.setattr(services.host._model, "read", lambda *reading: read(*reading) if go.wait(60) else None)
    page = ask(open_page(studio.address), "What is there?")
    page.locator("#left-column").get_by_role("button", name="Correct the left answer").click()
    text = page.locator("#editor [contenteditable=true]")
    text.get_by_text("baseline says: What is there?").wait_for()
    assert page.evaluate(MARKED) == "" and not go.is_set()
    text.focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")  # the answer can be worked on before anything is known of it
    page.locator("#editor .chip").wait_for()
    go.set()
    page.wait_for_function(f"() => {MARKED} === 'says'")
    page.keyboard.press("F8")
    page.keyboard.type("asks")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    page.locator("#terms-agree").click()
    page.get_by_text("Saved: 2 corrections").wait_for()
    judgement, *_ = services.store.judgements()
    [hint] = judgement.hints
    answer = services.store.answer(judgement.answers[0])
    assert answer.text[hint.start : hint.end] == "says" and hint.corrected
    revisit(open_page, page, f"?tab=correct&answer={answer.id}")
    page.wait_for_function(f"() => document.querySelectorAll('#editor .chip').length === 2 && {MARKED} === ''")


def test_a_link_to_an_answer_has_its_hints_too(studio, open_page):
    """The tab is built late there: the editor is mounted with the answer in it."""
    page = ask(open_page(studio.address), "And here?")
    revisit(open_page, page, "?tab=correct")
    page.locator("#editor").get_by_text("And here?").wait_for()
    page.wait_for_function(f"() => {MARKED} === 'says'")
