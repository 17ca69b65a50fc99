"""Publishing from the page: the app as a person starts it, a real browser, and a Hub of our own."""

import re
from types import SimpleNamespace

import pytest

from tests.apps import free_port, start_app, wait_until_ready
from tests.publishing.conftest import Bench

pytestmark = pytest.mark.browser
REPO = "ann/pairs"


@pytest.fixture
def studio(tmp_path, hub):
    """A running app with two pairs, one of them with two revisions, whose Hub is `hub`; nobody is signed in."""
    place = tmp_path / "studio"
    bench = Bench(place / "data")
    bench.add(2)
    bench.add(1)
    bench.add(1, colour="green")
    port = free_port()
    environment = hub.environment(None, place / "home") | {"GRADIO_TEMP_DIR": str(place / "gradio")}
    process = start_app(place / "data", port, environment=environment)
    try:
        wait_until_ready(port, process)
        yield SimpleNamespace(address=f"http://127.0.0.1:{port}/", place=place)
    finally:
        process.terminate()
        process.wait(30)


def files_with(place, secret: str) -> list[str]:
    return [str(path) for path in place.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def sign_in(page, token: str, name: str) -> None:
    page.locator("#hub-token input").fill(token)
    page.locator("#hub-token input").press("Enter")
    page.locator("#hub-session").get_by_text(f"Signed in as {name}").wait_for()


def push(page) -> None:
    page.locator("#publish-repo").get_by_role("textbox").fill(REPO)
    page.locator("#publish-push").click()


def test_sign_in_push_edit_and_push_again(studio, hub, open_page):
    reader, writer = hub.user("bob", "read"), hub.user("ann")
    page = open_page(f"{studio.address}?tab=publish")
    page.locator("body[data-ready]").wait_for()
    status, message = page.locator("#publish-status"), page.locator("#publish-message")
    status.get_by_text(re.compile("2 to add")).wait_for()

    push(page)
    message.get_by_role("alert").get_by_text("You are not signed in to the Hub.").wait_for()
    status.get_by_text(re.compile("2 to add")).wait_for()

    sign_in(page, reader, "bob")
    push(page)
    message.get_by_role("alert").get_by_text(re.compile(r"repo\.write")).wait_for()
    page.locator("#hub-session").get_by_role("button", name="Sign out").click()
    page.locator("#hub-session").get_by_text("Sign in to continue.").wait_for()

    sign_in(page, writer, "ann")
    push(page)
    message.get_by_text("Pushed: 2 added").wait_for()
    first = hub.commits(REPO)[0].oid
    link = message.get_by_role("link", name=first[:10])
    assert link.get_attribute("href") == f"{hub.endpoint}/datasets/{REPO}/commit/{first}"
    status.get_by_text("Nothing. What is published is what is here.").wait_for()

    page.get_by_role("tab", name="Pairs", exact=True).click()
    page.locator("#pairs-list").get_by_text("green").first.click()
    page.locator("#pair-record").get_by_role("button", name="Restore revision 1").click()
    page.locator("#pairs-status").get_by_text("Revision 1 is the newest again").wait_for()
    page.get_by_role("tab", name="Publish", exact=True).click()
    status.get_by_text(re.compile("1 changed")).wait_for()
    page.locator("#publish-push").click()
    message.get_by_text("Pushed: 1 changed").wait_for()
    assert hub.commits(REPO)[0].oid != first

    shown = what_the_page_holds(page)
    open_page.reload(page)
    page.locator("#hub-session").get_by_text("Signed in as ann").wait_for()
    shown += what_the_page_holds(page)
    assert files_with(studio.place, "pair-1"), "the search finds what is there"
    for token in (reader, writer):
        assert token not in shown
        assert files_with(studio.place, token) == []
    assert hub.leaks == []


def what_the_page_holds(page) -> str:
    """Its markup, what stands in its fields, and what it keeps in the browser."""
    fields = page.evaluate("[...document.querySelectorAll('input, textarea')].map((field) => field.value).join(' ')")
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    return page.content() + fields + stored
