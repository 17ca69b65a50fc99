"""The page in a real browser over a scripted model: untrusted text, links, phones, keyboard and what comes back."""

import io
import socket

import pytest
from PIL import Image

from rlhfv.services import build_services
from rlhfv.settings import Settings
from tests.services.fakes import ScriptedModel, scripted_entry

pytestmark = pytest.mark.browser

TABS = ("chat", "correct", "pairs", "train", "evaluate")
HOSTILE = (
    "<img src=x onerror='window.broken=1'> ${window.broken=1} {{window.broken=1}} `x` \\u{zz} \u202etfel\u202c "
    "<script>window.broken=1</script> **b** [l](javascript:window.broken=1)"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    from rlhfv.studio.app import launch

    patch = pytest.MonkeyPatch()
    patch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    services = build_services(Settings(data_dir=tmp_path_factory.mktemp("page"), model="scripted"))
    services.host._model = ScriptedModel(delay=0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch(services, prevent_thread_lock=True, server_port=port, quiet=True)
    yield f"http://127.0.0.1:{port}/"
    patch.undo()


@pytest.fixture
def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (320, 240), "teal").save(buffer, "PNG")
    return {"name": "picture.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


@pytest.fixture
def chat(address, open_page, picture):
    """A page with a picture and one answered question."""

    def start(question: str, **options):
        page = open_page(address, **options)
        page.set_default_timeout(60_000)
        page.locator("body[data-ready]").wait_for()
        page.set_input_files("#chat-picture input[type=file]", picture)
        page.locator("#chat-picture img[src*='images/']").wait_for()
        page.locator("#question textarea").fill(question)
        page.locator("#question textarea").press("Enter")
        page.locator("#right-column .actions").wait_for()
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
    page.reload()
    page.locator("#left-column .answer-text").get_by_text("baseline says: What is there?").wait_for()
    stranger = open_page(address)
    stranger.set_default_timeout(60_000)
    stranger.locator("#left-column").get_by_text("No question yet.").wait_for()


def test_tabs_have_addresses(address, open_page):
    page = open_page(f"{address}?tab=train")
    page.set_default_timeout(60_000)
    page.locator("#start-run").wait_for()
    page.locator("body[data-ready]").wait_for()
    page.get_by_role("tab", name="Pairs").click()
    page.locator("#pairs-search").wait_for()
    page.wait_for_function("new URL(location.href).searchParams.get('tab') === 'pairs'")
    page.reload()
    page.locator("#pairs-search").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_tab_scrolls_sideways_on_a_phone(address, open_page, theme):
    page = open_page(address, viewport={"width": 390, "height": 844})
    page.set_default_timeout(60_000)
    for tab in TABS:
        page.goto(f"{address}?tab={tab}&__theme={theme}")
        page.locator("body[data-ready]").wait_for()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab


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
