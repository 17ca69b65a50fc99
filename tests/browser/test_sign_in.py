"""Signing in to a Space with an account of the Hub: the app as a Space starts it, a real browser, a Hub of our own."""

import re
import shutil
from types import SimpleNamespace

import pytest

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.services import Actor, build_services
from rlhfv.services.terms import Terms, now
from rlhfv.settings import Settings
from rlhfv.studio.visitor import COOKIE, read_key, sign
from tests.apps import ROOT, free_port, start_app, wait_until_ready
from tests.browser.conftest import LEFT_BEHIND, PATIENCE
from tests.browser.test_publish import files_with, what_the_page_holds
from tests.hub.hub import Hub
from tests.publishing.conftest import encode_picture

pytestmark = pytest.mark.browser
pytest.importorskip("authlib", reason="gradio[oauth] is not installed")
pytest.importorskip("itsdangerous", reason="gradio[oauth] is not installed")
expect = pytest.importorskip("playwright.sync_api").expect
EVE, OTHER = "e" * 32, "0" * 32


def correct(services, visitor: str, number: int, save: bool = True) -> None:
    """An answer that the visitor got, and a pair of it."""
    actor = Actor(visitor)
    services.corrections.set_terms(actor, Terms(consent=True))
    image = services.corrections.shelf.intake(encode_picture(number))
    answer = Answer(
        f"answer-{number}",
        Prompt("What is it?", (image.name,)),
        "A red dog.",
        ModelIdentity("m", "1"),
        Sampling(),
        visitor,
        now(),  # what is older than an hour and not corrected is gone on a Space
    )
    services.store.add_answer(answer)
    if save:
        services.corrections.save(actor, answer.id, answer.text, [Edit(2, 5, "blue", "attribute")])


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A running Space of the organisation `lab`. Two visitors have made a pair each; Eve has one more answer."""
    place = tmp_path_factory.mktemp("space")
    # Without the folder `spaces` beside it, which a Space does not get.
    (place / "app").mkdir()
    shutil.copy(ROOT / "app.py", place / "app")
    (place / "app" / "rlhfv").symlink_to(ROOT / "rlhfv")
    services = build_services(Settings(data_dir=place / "data", single_user=False))
    correct(services, EVE, 1)
    correct(services, EVE, 2, save=False)
    correct(services, OTHER, 3)
    port = free_port()
    with Hub(place / "hub") as hub:
        for name in ("eve", "ann", "bob"):
            hub.user(name)
        hub.organization("lab", ann="admin", bob="write")
        environment = hub.environment(None, place / "home") | {
            "GRADIO_TEMP_DIR": str(place / "gradio"),
            "AUTHLIB_INSECURE_TRANSPORT": "1",
            "SYSTEM": "spaces",
            "SPACE_ID": "lab/studio",
            "SPACE_AUTHOR_NAME": "lab",
            "OPENID_PROVIDER_URL": hub.endpoint,
            "HF_TOKEN": hub.user("lab-owner"),  # the Space's own, which no visitor's push may use
            **hub.openid.app(f"http://127.0.0.1:{port}/login/callback"),
        }
        process = start_app(place / "data", port, place / "app", environment)
        try:
            wait_until_ready(port, process)
            yield SimpleNamespace(
                address=f"http://127.0.0.1:{port}/", place=place, hub=hub, key=read_key(place / "data")
            )
        finally:
            process.terminate()
            process.wait(30)
        assert hub.crashes == [] and hub.unknown == [] and hub.leaks == []


@pytest.fixture
def visit(space, browser):
    """`visit(visitor, tab)` opens the page in the browser of this visitor. Gradio's own bar of a Space asks the Hub
    about it and has fonts of its own; any other foreign address, and any error of the page, fails the test."""
    contexts, problems = [], []

    def answer(route) -> None:
        url = route.request.url
        if re.match(r"https://huggingface\.co/api/(spaces|users|organizations)/lab", url):
            route.fulfill(json={"id": "lab/studio", "author": "lab", "likes": 0, "avatarUrl": ""})
        elif url.startswith("https://fonts.googleapis.com/"):
            route.fulfill(body="", content_type="text/css")
        else:
            problems.append(f"request to another host: {url}")
            route.abort()

    def listen(message) -> None:
        # What Gradio says about streams that a page has left.
        if message.type == "error" and not any(sign in message.text for sign in LEFT_BEHIND):
            problems.append(f"console error: {message.text} ({message.location.get('url')})")

    def visit(visitor: str, tab: str, **options):
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), answer)
        context.on("console", listen)
        context.on("weberror", lambda error: problems.append(f"page error: {error.error}"))
        context.add_cookies([{"name": COOKIE, "value": sign(visitor, space.key), "url": space.address}])
        page = context.new_page()
        page.goto(f"{space.address}?tab={tab}")
        page.locator("body[data-ready]").wait_for()
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


def go(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def sign_in(page, decision: str = "Authorize", within: str = "#hub-sign-in-there") -> None:
    page.locator(within).click()
    page.get_by_role("button", name=decision).click()


def push(page) -> None:
    page.locator("#publish-push").click()


def test_publish_in_ones_own_name(space, visit):
    hub, message = space.hub, "#publish-message"
    hub.openid.person = "eve"
    page = visit(EVE, "correct")

    # Half done: a question, and a word that is being corrected.
    page.locator("#editor [contenteditable]").get_by_text("red").dblclick()
    page.keyboard.type("gree")
    page.locator("#editor .popover").wait_for()
    go(page, "Chat")
    page.locator("#question textarea").fill("And what is behind the dog?")
    go(page, "Publish")
    session = page.locator("#hub-session")
    session.get_by_text("1 row waits until then").wait_for()
    session.get_by_text("contribute-repos").wait_for()
    assert not page.locator("#hub-token").is_visible(), "no token is pasted into a public page"
    push(page)
    page.locator(message).get_by_role("alert").get_by_text("You are not signed in to the Hub.").wait_for()

    sign_in(page, "Cancel")
    page.get_by_role("heading", name="You are not signed in").wait_for()
    back = page.get_by_role("link", name="Back to the studio").get_attribute("href")
    assert back == "/?tab=publish" and hub.openid.issued == []
    page.get_by_role("link", name="Sign in after all").click()
    page.get_by_role("button", name="Authorize").click()
    session.get_by_text("In the name of eve.").wait_for()
    page.locator("#person").get_by_text("Signed in as eve").wait_for()
    go(page, "Chat")
    expect(page.locator("#question textarea")).to_have_value("And what is behind the dog?")
    go(page, "Correct")
    page.locator("#editor [contenteditable] ins").get_by_text("gree").wait_for()

    go(page, "Publish")
    push(page)
    page.locator(message).get_by_text("Pushed: 1 added").wait_for()
    repo = "eve/rlhfv-corrections"
    assert hub.commits(repo)[0].author == "eve" and hub.repo(repo).private

    # The sign-in ends while the page is open.
    (first,) = hub.openid.issued
    hub.people.expire(first)
    push(page)
    session.get_by_text("Your sign-in has ended. Sign in again.").wait_for()
    page.locator(message).get_by_role("alert").get_by_text("Sign in again, then try again").wait_for()
    expect(page.locator("#person")).not_to_contain_text("Signed in")
    sign_in(page)
    session.get_by_text("In the name of eve.").wait_for()
    push(page)
    page.locator(message).get_by_text("Nothing to push").wait_for()

    shown = what_the_page_holds(page)
    page.locator("#person").get_by_role("button", name="Sign out").click()
    session.get_by_text("Sign in to publish.").wait_for()
    assert not page.locator("#person").get_by_text("eve").is_visible()
    shown += what_the_page_holds(page) + str(page.context.cookies())
    for token in hub.openid.issued:
        assert token not in shown and files_with(space.place, token) == []
    made = {request.person for request in hub.requests if request.method == "POST" and request.path.startswith("/api")}
    assert made == {"eve"}


@pytest.mark.slow
def test_members_of_the_spaces_organisation_have_their_roles(space, visit):
    space.hub.openid.person = "ann"
    page = visit("a" * 32, "train")
    tabs = page.get_by_role("tab")
    assert "Tasks" not in tabs.all_inner_texts() and "Publish" in tabs.all_inner_texts()
    page.get_by_label("A job of the Hub").click()
    page.locator("#away-session").get_by_text("Sign in to train on your own account.").wait_for()
    sign_in(page, within="#away-sign-in-there")
    page.locator("#person").get_by_text(re.compile("Signed in as ann, owner")).wait_for()
    page.locator("#away-session").get_by_text("Signed in to the Hub as ann").wait_for()
    expect(page.locator("#away-repo").get_by_role("textbox")).to_have_value("ann/rlhfv-runs")
    assert "Tasks" in tabs.all_inner_texts()


@pytest.mark.slow
def test_a_job_from_the_sign_in_to_its_adapter(space, visit):
    """Nothing is stood in for: the job installs this package as any machine would, and trains the visitor's pair."""
    hub = space.hub
    hub.openid.person = "eve"
    page = visit(EVE, "train")
    message, heading = page.locator("#train-message"), page.locator("#run-heading")
    page.get_by_label("A job of the Hub").click()
    page.get_by_role("button", name="Choose a machine").click()
    message.get_by_role("alert").get_by_text("You are not signed in to the Hub.").wait_for()
    assert not [repo for repo in hub.storage.repos if repo.endswith("/rlhfv-runs")], "nothing was sent"

    sign_in(page, within="#away-sign-in-there")
    page.locator("#away-session").get_by_text("Signed in to the Hub as eve").wait_for()
    expect(page.locator("#away-repo").get_by_role("textbox")).to_have_value("eve/rlhfv-runs")
    page.get_by_role("button", name="Choose a machine").click()
    offer = message.get_by_role("listitem").filter(has_text="Nvidia T4 - small")
    expect(offer).to_contain_text(re.compile(r"\$0\.\d\d"))
    expect(offer).to_contain_text("at most")
    assert hub.jobs.all == [], "the price is told before anything is started"
    offer.get_by_role("button").click()

    heading.get_by_text(re.compile(r"Step \d+ of \d+|starting|Starting|job", re.IGNORECASE)).first.wait_for()
    heading.get_by_role("button", name="Chat with it").wait_for(timeout=300_000)
    (job,) = hub.jobs.all
    assert job.spec["flavor"] == "t4-small" and list(job.secrets) == ["HF_TOKEN"]
    assert job.owner == "eve" and hub.repo("eve/rlhfv-runs", "model").private
    assert page.locator("#plot-0 canvas, #plot-0 svg").count(), "its curve is drawn"
    shown = what_the_page_holds(page)
    assert not any(token in shown or files_with(space.place / "data", token) for token in hub.openid.issued)
    heading.get_by_role("button", name="Chat with it").click()
    page.locator("#right-voice input").wait_for()
    assert "1 pair" in page.locator("#right-voice input").input_value()
