"""The page in a real browser over a scripted model: untrusted text, links, phones, keyboard and what comes back."""

import io
import sqlite3
import threading
import zipfile
from contextlib import closing

import pytest
from PIL import Image

from rlhfv.corrections.edits import Edit
from rlhfv.services import Actor
from rlhfv.services.actor import RIGHTS
from rlhfv.services.terms import Terms
from rlhfv.studio.wiring import tabs_for

pytestmark = pytest.mark.browser

HOSTILE = (
    "<img src=x onerror='window.broken=1'> ${window.broken=1} {{window.broken=1}} `x` \\u{zz} \u202etfel\u202c "
    "<script>window.broken=1</script> **b** [l](javascript:window.broken=1)"
)


@pytest.fixture(scope="module")
def address(studio):
    return studio.address


@pytest.fixture
def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (320, 240), "teal").save(buffer, "PNG")
    return {"name": "picture.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def load(open_page, address: str, **options):
    page = open_page(address, **options)
    page.locator("body[data-ready]").wait_for()
    return page


@pytest.fixture
def chat(address, open_page, picture):
    """A page with a picture and one answered question."""

    def start(question: str, **options):
        page = load(open_page, address, **options)
        page.set_input_files("#chat-picture input[type=file]", picture)
        page.locator("#chat-picture img[src*='images/']").wait_for()
        page.locator("#question textarea").fill(question)
        page.locator("#question textarea").press("Enter")
        page.locator("#right-column .actions").wait_for(state="attached")  # a phone shows one column at a time
        return page

    return start


def test_untrusted_text_is_shown_and_never_run(chat):
    page = chat(HOSTILE)
    assert HOSTILE.split(" \u202e")[0] in page.locator("#left-column .answer-text").inner_text()
    page.locator("#left-column").get_by_role("button", name="Correct the left answer").click()
    text = page.locator("#editor [contenteditable=true]")
    text.wait_for()
    text.focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Shift+ArrowRight")
    page.keyboard.type("<b onclick=1>")
    page.get_by_role("dialog").get_by_role("textbox").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    page.locator("#annotator").get_by_role("textbox").fill("<i>${window.broken=1}</i>")
    page.locator("#terms-agree").click()
    page.get_by_text("Saved: 1 correction").wait_for()
    page.get_by_role("tab", name="Pairs").click()
    page.locator("#pairs-list").get_by_text("<i>${window.broken=1}</i>").wait_for()
    page.locator("#pair-record").get_by_text("<i>${window.broken=1}</i>").first.wait_for()
    assert page.evaluate("window.broken") is None
    assert page.locator("#pairs-list b, #pairs-list script, #left-column img[src=x]").count() == 0


def test_a_reload_brings_back_the_conversation_and_a_stranger_sees_nothing(chat, address, open_page):
    page = chat("What is there?")
    open_page.reload(page)
    page.locator("#left-column .answer-text").get_by_text("baseline says: What is there?").wait_for()
    stranger = open_page(address)
    stranger.locator("body[data-ready]").wait_for()
    stranger.get_by_role("region", name="A recorded comparison").wait_for()
    assert not stranger.locator(".turn").count()


def test_tabs_have_addresses(address, open_page):
    page = load(open_page, f"{address}?tab=train")
    page.locator("#start-run").wait_for()
    page.get_by_role("tab", name="Pairs").click()
    page.locator("#pairs-search").wait_for()
    page.wait_for_function("new URL(location.href).searchParams.get('tab') === 'pairs'")
    open_page.reload(page)
    page.locator("#pairs-search").wait_for()


@pytest.mark.slow
def test_no_tab_scrolls_sideways_on_a_phone(studio, address, open_page):
    page = open_page(address, viewport={"width": 390, "height": 844})
    for tab in tabs_for(studio.services, RIGHTS):
        page.goto(f"{address}?tab={tab}&__theme=light")
        page.locator("body[data-ready]").wait_for()
        page.get_by_role("tab", name=tab.capitalize(), exact=True, selected=True).wait_for()
        for theme in ("light", "dark"):
            page.evaluate("dark => document.body.classList.toggle('dark', dark)", theme == "dark")
            page.wait_for_timeout(200)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, (tab, theme)


def test_the_next_answer_is_one_key_away_and_the_picture_zooms(chat):
    page = chat("What is there?", viewport={"width": 1400, "height": 900})
    page.locator("#left-column").get_by_role("button", name="Correct the left answer").click()
    page.locator("#editor").get_by_text("baseline says: What is there?").wait_for()
    stage = page.locator("#correct-picture .viewer-stage")
    stage.focus()
    page.keyboard.press("+")
    assert page.locator("#correct-picture .viewer-level").inner_text() == "140 %"
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.wheel(0, -400)
    assert int(page.locator("#correct-picture .viewer-level").inner_text().split()[0]) > 140
    before = page.locator("#correct-picture .viewer-level").inner_text()
    page.keyboard.press("Alt+n")
    page.wait_for_function("new URL(location.href).searchParams.get('answer') !== null")
    page.locator("#correct-bar").wait_for()
    assert page.locator("#correct-picture .viewer-level").inner_text() == before, "the same picture keeps its place"
    page.locator("#correct-picture").get_by_role("button", name="Fit the picture").click()
    assert page.locator("#correct-picture .viewer-level").inner_text() == "100 %"


def test_what_a_screen_reader_is_told(chat):
    page = chat("What is there?")
    assert page.get_by_role("log", name="Left answers").count() == 1
    votes = page.get_by_role("group", name="Which answer is better?").get_by_role("button")
    assert votes.all_inner_texts() == ["← Left is better", "Tie", "Both bad", "Right is better →"]
    page.locator("#mark-words input").uncheck()
    assert "no-marks" in page.evaluate("document.body.className")
    votes.nth(1).press("Enter")
    page.locator("#votes").get_by_role("status").get_by_text("Noted").wait_for()


def test_a_draft_survives_a_reload(chat, studio, open_page):
    page = chat("What is there?")
    page.locator("#left-column").get_by_role("button", name="Correct the left answer").click()
    page.locator("#editor").get_by_text("baseline says: What is there?").wait_for()
    page.locator("#editor [contenteditable=true]").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Control+Shift+ArrowRight")
    page.keyboard.type("nobody")
    with page.expect_response(
        lambda response: "queue/join" in response.url and "nobody" in response.request.post_data
    ):
        page.keyboard.press("Enter")
    with closing(sqlite3.connect(studio.services.settings.data_dir / "studio.sqlite3")) as store:
        for _ in range(600):
            if any("nobody" in document for (document,) in store.execute("SELECT document FROM drafts")):
                break
            page.wait_for_timeout(100)
    open_page.reload(page)
    page.locator("#editor ins").get_by_text("nobody").first.wait_for()
    page.locator("#editor").get_by_text("1 correction").first.wait_for()


def test_skipping_with_a_reason_goes_on_to_the_next_answer(chat):
    page = chat("What is there?")
    page.locator("#left-column").get_by_role("button", name="Correct the left answer").click()
    page.locator("#correct-bar").get_by_text("2 answers to judge").wait_for()
    page.locator("#skip-reason input").click()
    page.get_by_role("option", name="picture unclear").click()
    page.locator("#skip").press("Enter")
    page.get_by_text("Skipped: picture unclear.").wait_for()
    page.locator("#correct-bar").get_by_text("1 answer to judge").wait_for()
    page.locator("#nothing-wrong").press("Enter")
    page.get_by_text("Every answer is judged.").wait_for()


def test_stop_copy_and_another_question_in_place_of_the_last(chat, studio):
    page = chat("What is there?")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the left answer").press("Enter")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "baseline says: What is there? #0"

    box = page.locator("#question textarea")
    page.locator("#edit-question").press("Enter")
    page.get_by_role("button", name="Ask a new question instead").press("Enter")
    page.wait_for_function("document.querySelector('#question textarea').value === ''")
    page.locator("#edit-question").press("Enter")
    page.wait_for_function("document.querySelector('#question textarea').value === 'What is there?'")
    page.wait_for_function("document.activeElement === document.querySelector('#question textarea')")
    box.fill("Who is there?")
    studio.services.host._model.delay = 0.5
    try:
        box.press("Enter")
        page.locator("#left-column").get_by_text("baseline says:").wait_for()
        page.locator("#question .stop-button").press("Enter")
        page.locator("#left-column").get_by_text("Ends here").wait_for()
    finally:
        studio.services.host._model.delay = 0.01
    assert page.locator("#left-column .turn").count() == 1
    assert page.locator("#left-column .question").inner_text() == "Who is there?"


DRAW_AND_PASTE = """(colour) => {
  const canvas = document.createElement("canvas");
  canvas.getContext("2d").fillStyle = colour;
  canvas.getContext("2d").fillRect(0, 0, 90, 90);
  canvas.toBlob((blob) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([blob], "pasted.png", { type: "image/png" }));
    document.querySelector("#question textarea").dispatchEvent(
      new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
  });
}"""


def test_a_pasted_picture_in_mid_chat_waits_and_resets_nothing(chat):
    page = chat("What is there?")
    shown = page.locator("#chat-picture img[src*='images/']")
    before = shown.get_attribute("src")
    page.evaluate(DRAW_AND_PASTE, "red")
    page.locator("#chat-strip").get_by_text("Joins with your next question").wait_for()
    assert shown.get_attribute("src") != before
    assert page.locator("#left-column .turn").count() == 1
    page.get_by_role("button", name="Leave this picture out").click()
    page.wait_for_function(
        "src => document.querySelector('#chat-picture img').getAttribute('src') === src", arg=before
    )


def test_settings_of_the_answer_are_kept_as_they_are_set(chat, studio):
    page = chat("What is there?")
    page.locator("#sampling button").first.press("Enter")
    slider = page.locator("#sampling input[type=range]").first
    slider.focus()
    while slider.input_value() != "0.6":  # by steps of 0.05
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(100)
    page.wait_for_timeout(1000)
    seed = page.locator("#sampling").get_by_label("Seed")
    seed.fill("42")
    page.wait_for_timeout(1000)
    page.locator("#question textarea").fill("And now?")
    page.locator("#question textarea").press("Enter")
    page.locator("#right-column .actions").nth(1).wait_for()
    sampling = studio.services.host._model.samplings[-1]
    assert (sampling.temperature, sampling.seed) == (pytest.approx(0.6), 42)
    assert slider.input_value() == "0.6" and seed.input_value() == "42"


def test_two_fingers_zoom_the_picture(chat):
    page = chat("What is there?", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.locator("#left-column").get_by_role("button", name="Correct the left answer").tap()
    stage = page.locator("#correct-picture .viewer-stage")
    stage.wait_for()
    assert page.locator("#editor").get_by_text("Tap a wrong word").is_visible(), "no mouse, so no help for one"
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y}, {"x": x + apart, "y": y}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert int(page.locator("#correct-picture .viewer-level").inner_text().split()[0]) > 200


@pytest.fixture
def pairs(studio, picture):
    """Two pairs of somebody else on the same machine; the second has two revisions."""
    services, who = studio.services, Actor("d" * 32)
    services.corrections.set_terms(who, Terms("cc-by-4.0", True, "Dora"))
    services.chat.new_conversation(who)
    services.chat.set_images(who, (services.chat.add_image(who, picture["buffer"]).name,))
    *_, state = services.chat.ask(who, "Which animals are there?", threading.Event())
    for reply, word, kind in ((state.turns[-1].left, "panda", "object"), (state.turns[-1].right, "seven", "number")):
        services.corrections.save(who, reply.answer_id, reply.text, [Edit(0, 8, word, kind)])
    services.corrections.save(who, reply.answer_id, reply.text, [Edit(0, 8, "eight", "number")])


def test_pairs_are_found_deleted_brought_back_restored_and_taken_away(address, open_page, pairs):
    page = load(open_page, f"{address}?tab=pairs", viewport={"width": 1300, "height": 900})
    listed, status = page.locator("#pairs-list"), page.locator("#pairs-status")
    search = page.locator("#pairs-search").get_by_role("textbox")
    search.press_sequentially("panda", delay=60)
    listed.get_by_text("eight").wait_for(state="detached")
    listed.get_by_text("panda").wait_for()
    search.fill("animals")
    page.locator("#pairs-kind input").click()
    page.get_by_role("option", name="number").click()
    listed.get_by_text("panda").wait_for(state="detached")
    page.locator("#pair-heading").get_by_role("button", name="Delete").press("Enter")
    status.get_by_text("The pair is deleted.").wait_for()
    status.get_by_role("button", name="Undo").press("Enter")
    status.get_by_text("The pair is back.").wait_for()
    page.get_by_role("button", name="Restore revision 1", exact=True).press("Enter")
    page.locator("#pair-editor ins").get_by_text("seven").first.wait_for()
    page.locator("#pairs-files button").first.press("Enter")
    page.locator("#export-losses").get_by_text("only the newest is written").wait_for()
    page.locator("#export-pairs").press("Enter")
    with page.expect_download() as download:
        page.locator("#download-pairs").click()
    assert download.value.suggested_filename == "pairs-jsonl.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert "seven" in archive.read("pairs-jsonl/pairs.jsonl").decode()
