"""A voice on a server in a real browser: it streams into its column, is corrected, and the pair names it."""

import socket
from types import SimpleNamespace

import pytest
from PIL import Image
from playwright.sync_api import expect

from rlhfv.services import build_services
from rlhfv.settings import NO_MODEL, RemoteVoice, Settings
from tests.remote.server import SAID, OpenAIServer

pytestmark = pytest.mark.browser
WRONG = SAID.index("red")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A studio without a model of its own: a baseline, an aligned voice and a busy one on a lab's server."""
    from rlhfv.studio.app import launch

    server = OpenAIServer(delay=0.02)
    folder = tmp_path_factory.mktemp("lab")
    Image.new("RGB", (320, 240), "teal").save(folder / "cup.png")
    names = {"Baseline": "llava", "Aligned": "aligned", "Busy": "busy"}
    remotes = tuple(RemoteVoice(title, server.url, model) for title, model in names.items())
    services = build_services(Settings(folder / "data", model=NO_MODEL, remotes=remotes))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch(services, prevent_thread_lock=True, server_port=port, quiet=True)
    yield SimpleNamespace(
        address=f"http://127.0.0.1:{port}/", services=services, server=server, picture=folder / "cup.png"
    )
    server.stop()


def ask(page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.locator("#question textarea").press("Enter")


def open_with_picture(lab, open_page, **options):
    page = open_page(lab.address, viewport={"width": 1440, "height": 900}, **options)
    page.locator("body[data-ready]").wait_for()
    page.locator("#chat-picture input[type=file]").set_input_files(str(lab.picture))
    page.locator("#chat-picture img").wait_for()
    return page


def test_a_voice_on_a_server_streams_is_corrected_and_named_by_its_pair(lab, open_page):
    page = open_with_picture(lab, open_page)
    for side, title in (("left", "Baseline"), ("right", "Aligned")):
        shown = page.locator(f"#{side}-voice input").input_value()
        assert shown.startswith(f"{title} (on 127.0.0.1:"), "who asks sees where the picture goes"
    lab.server.flow.clear()
    ask(page, "Describe this image in detail.")
    left, right = page.locator("#left-column .answer-text"), page.locator("#right-column .answer-text")
    for streaming in (left, right):
        expect(streaming).to_have_text("A cat and")
    lab.server.flow.set()
    expect(left).to_have_text(SAID)
    expect(right).to_have_text("A cat and a blue cup.")
    page.get_by_role("button", name="Correct the left answer").press("Enter")

    page.locator("#editor [contenteditable=true]").wait_for()
    page.get_by_text("No suspect words are marked").wait_for()
    page.locator("#editor [contenteditable=true]").focus()
    page.keyboard.press("Control+Home")
    for _ in range(WRONG):
        page.keyboard.press("ArrowRight")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.type("blue")
    page.get_by_role("dialog").get_by_role("textbox").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Enter")
    page.locator("#annotator").get_by_role("textbox").fill("Ada")
    page.locator("#terms-agree").press("Enter")
    page.get_by_text("Saved: 1 correction").wait_for()
    [pair] = lab.services.store.all_pairs()
    assert str(pair.provenance.model) == f"llava@127.0.0.1:{lab.server.server_address[1]}"
    assert pair.chosen == SAID.replace("red", "blue") and pair.rejected == SAID
    assert not lab.services.host.loaded


def test_a_server_that_refuses_says_so_in_its_own_column(lab, open_page):
    page = open_with_picture(lab, open_page)
    page.locator("#right-voice input").click()
    page.get_by_role("option", name="Busy").click()
    ask(page, "What is it?")
    expect(page.locator("#right-column .alert")).to_contain_text("Ask again in 17 seconds.")
    expect(page.locator("#left-column .answer-text").last).to_have_text(SAID)
    page.get_by_role("button", name="Correct the left answer").last.wait_for()
    assert page.get_by_role("button", name="Correct the right answer").count() == 0
