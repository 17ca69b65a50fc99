"""Two annotators, a reviewer and an owner in four browsers: submit, return, a blind second correction, merge, push."""

import json
import socket
from types import SimpleNamespace

import pytest

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.tasks import EVERYBODY, NewTask
from rlhfv.errors import InvalidData
from rlhfv.services.people import People
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings
from rlhfv.studio.visitor import HEADER
from tests.services.fakes import ScriptedModel, scripted_entry

pytestmark = pytest.mark.browser
PASSWORD = "four words are long"
TEXT = "A red dog sits beside two cats."


@pytest.fixture
def team(tmp_path, monkeypatch, connect):
    """A studio of four people, with one answer of the queue that two annotators correct, and a Hub to push to."""
    connect()
    import io

    from PIL import Image

    from rlhfv.services import build_services
    from rlhfv.studio.app import launch

    people = People(tmp_path / "users.json")
    for name, role in (("Ann", "annotator"), ("Bo", "annotator"), ("Ray", "reviewer"), ("Olga", "owner")):
        people.add(name, role, PASSWORD)
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())
    settings = Settings(tmp_path / "data", model="scripted", single_user=False, team=True, auth=people.path)
    services = build_services(settings)
    services.host._model = ScriptedModel()
    owner = people.actor("Olga")
    services.queue.change_settings(owner, second_share=1.0, gold_share=0.0)
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24), "teal").save(buffer, "PNG")
    prompt = Prompt("What is there?", (services.corrections.shelf.intake(buffer.getvalue()).name,))
    answer = Answer(
        "answer-1", prompt, TEXT, ModelIdentity("scripted", "0"), Sampling(), EVERYBODY, "2026-11-22T10:00:00"
    )
    services.queue.add(owner, [NewTask(prompt, answer=answer)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch(services, prevent_thread_lock=True, server_port=port, quiet=True)
    yield SimpleNamespace(address=f"http://127.0.0.1:{port}/", services=services, people=people)


def sign_in(open_page, team, name: str, tab: str):
    page = open_page(team.address)
    page.get_by_label("username").fill(name)
    page.get_by_label("password").fill(PASSWORD)
    page.get_by_role("button", name="Login").click()
    page.locator("#tabs").wait_for()
    open_page.reload(page, f"{team.address}?tab={tab}")
    page.locator("body[data-ready]").wait_for()
    return page


WORD = """(word) => {
  const walker = document.createTreeWalker(
    document.querySelector('#editor [contenteditable=true]'), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const at = walker.currentNode.data.indexOf(word);
    if (at < 0) continue;
    const range = document.createRange();
    range.setStart(walker.currentNode, at);
    range.setEnd(walker.currentNode, at + word.length);
    const {x, y, width, height} = range.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  }
}"""


def replace_word(page, word: str, replacement: str) -> None:
    page.locator("#editor [contenteditable=true]").get_by_text(word).first.wait_for()
    page.mouse.dblclick(*page.evaluate(WORD, word))
    page.keyboard.type(replacement)
    page.get_by_role("dialog").get_by_role("textbox").wait_for()
    page.keyboard.press("Enter")
    page.locator("#editor ins").get_by_text(replacement).first.wait_for()


def save(page, first_time: bool) -> None:
    page.keyboard.press("Control+Enter")
    if first_time:
        page.locator("#consent").get_by_role("checkbox").check()
        page.locator("#terms-agree").click()
    page.locator("#correct-message").get_by_text("Saved").wait_for()


def tabs_of(page) -> list[str]:
    return [tab.inner_text().strip() for tab in page.get_by_role("tab").all() if tab.is_visible()]


def choose(page, tab: str) -> None:
    page.get_by_role("tab", name=tab, exact=True).click()


def test_two_annotators_and_a_reviewer(team, hub, open_page):
    reviewing, who = team.services.reviewing, team.people.actor
    ann = sign_in(open_page, team, "Ann", "correct")
    assert ann.locator("#person").get_by_text("Signed in as Ann, annotator").is_visible()
    assert tabs_of(ann) == ["Chat", "Correct", "Pairs", "Statistics"]
    replace_word(ann, "red", "blue")
    save(ann, first_time=True)

    ray = sign_in(open_page, team, "Ray", "review")
    assert tabs_of(ray) == ["Chat", "Correct", "Review", "Pairs", "Publish", "Statistics"]
    ray.locator("#review-list").get_by_text("Ann").wait_for()
    ray.locator("#review-comment").get_by_role("textbox").fill("It is green.")
    ray.locator("#review-return").click()
    ray.locator("#review-status").get_by_text("Sent back").wait_for()

    open_page.reload(ann, f"{team.address}?tab=correct")
    ann.locator("#correct-bar").get_by_text("It is green.").wait_for()
    replace_word(ann, "two", "three")
    save(ann, first_time=False)

    bo = sign_in(open_page, team, "Bo", "correct")
    bo.locator("#editor [contenteditable=true]").get_by_text("red").wait_for()
    assert bo.locator("#editor ins").count() == 0, "a second correction is made blind"
    bo.locator("#nothing-wrong").click()
    bo.locator("#correct-message").get_by_text("Noted: nothing wrong").wait_for()
    bo.locator("#correct-message").get_by_role("button", name="Undo").click()
    bo.locator("#correct-message").get_by_text("yours to judge again").wait_for()
    replace_word(bo, "red", "green")
    save(bo, first_time=True)

    open_page.reload(ray, f"{team.address}?tab=review")
    ray.locator("#review-list").get_by_text("two corrections").first.wait_for()
    ray.locator("#review-compared").get_by_text("three").wait_for()
    ray.locator("#review-rival-heading").get_by_text("agree on 67 % of their spans exactly").wait_for()
    ray.set_viewport_size({"width": 390, "height": 844})
    assert ray.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"
    ray.set_viewport_size({"width": 1100, "height": 800})
    ray.locator("#review-holding").get_by_label("green").check()
    ray.locator("#review-merge").click()
    ray.locator("#review-status").get_by_text("Merged and accepted").wait_for()
    owner = who("Olga")
    states = {
        pair.chosen: reviewing.state(owner, pair.id) for pair in team.services.corrections.find(owner, limit=10).pairs
    }
    assert states == {
        "A green dog sits beside three cats.": "accepted",
        "A green dog sits beside two cats.": "superseded",
    }

    choose(ray, "Publish")
    token = hub.user("ray")
    ray.locator("#hub-token input").fill(token)
    ray.locator("#hub-token input").press("Enter")
    ray.locator("#hub-session").get_by_text("Signed in as ray").wait_for()
    ray.locator("#publish-repo").get_by_role("textbox").fill("ray/pairs")
    ray.locator("#publish-push").click()
    ray.locator("#publish-message").get_by_text("Pushed: 1 added").wait_for()
    assert hub.commits("ray/pairs")[0].author == "ray" and not hub.leaks

    olga = sign_in(open_page, team, "Olga", "tasks")
    olga.locator("#tasks-quality").get_by_text("Over 1 answer that two people judged").wait_for()
    choose(olga, "Statistics")
    olga.locator("#statistics").get_by_text("Over everybody's work.").wait_for()

    choose(ray, "Pairs")
    ray.locator("#pairs-list").get_by_text("three").first.click()
    ray.locator("#pair-heading").get_by_text("accepted").wait_for()
    ray.locator("#pair-heading").get_by_role("button", name="Open in Review").click()
    ray.locator("#review-story").get_by_text("Ray").first.wait_for()
    ray.locator("#review-story").get_by_role("button", name="Undo the last of it").click()
    ray.locator("#review-status").get_by_text("Undone").wait_for()
    assert {reviewing.state(owner, pair.id) for pair in team.services.corrections.find(owner).pairs} == {"submitted"}


def test_signing_out_ends_it(team, open_page):
    page = sign_in(open_page, team, "Olga", "people")
    page.locator("#people-list").get_by_text("Ray").wait_for()
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "the page scrolls sideways"
    page.locator("#person").get_by_role("button", name="Sign out").click()
    page.get_by_label("password").wait_for()
    assert page.locator("#tabs").count() == 0


def test_without_signing_in_nothing_is_served(team, open_page):
    page = open_page(team.address)
    page.get_by_label("password").wait_for()
    assert page.locator("#tabs").count() == 0
    name = team.services.queue.tasks(team.people.actor("Olga"))[0].prompt.images[0]
    assert page.request.get(f"{team.address}images/{name}").status == 404


# An event of the page, as somebody sends it who knows Gradio: whose cookie it has is all that the server goes by.
FORGE = """async ([elem, event, data, eventData, headers]) => {
  const config = window.gradio_config;
  const part = config.components.find((each) => each.props.elem_id === elem);
  const target = ([id, name]) => id === part.id && name === event;
  const found = config.dependencies.find((each) => each.targets.some(target) && each.backend_fn);
  const session_hash = Math.random().toString(36).slice(2);
  const body = { data, fn_index: found.id, session_hash, event_data: eventData, trigger_id: part.id };
  await fetch("gradio_api/queue/join", {
    method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body) });
  const answer = await (await fetch(`gradio_api/queue/data?session_hash=${session_hash}`, { headers })).text();
  return JSON.parse(answer.split("\\n\\n").find((line) => line.includes("process_completed")).slice(5));
}"""


def test_forged_roles_ids_and_states_are_refused(team, open_page):
    services, who = team.services, team.people.actor
    item = services.queue.next_item(who("Ann"))
    services.corrections.set_terms(who("Ann"), Terms(consent=True))
    pair = services.corrections.save(who("Ann"), item.answer_id, TEXT, [Edit(2, 5, "blue", "attribute")]).pair_id
    olga = who("Olga")
    forged = {HEADER: json.dumps([olga.visitor, olga.name, sorted(olga.rights)])}
    bo = sign_in(open_page, team, "Bo", "correct")

    def send(elem_id: str, event: str, data: list, event_data: dict | None = None) -> dict:
        return bo.evaluate(FORGE, [elem_id, event, data, event_data, forged])

    undo = {"act": "undo", "ref": pair}
    for sent, said in (
        (send("queue-save", "click", [1, 1, 1, "Forged."]), "the right"),
        (send("people-list", "select", [], {"act": "disable", "ref": "Ray"}), "the right"),
        (send("people-add", "click", ["Eve", "owner", PASSWORD]), "the right"),
        (send("review-status", "select", [None], undo), "not one of yours"),
        (send("pairs-status", "edit", [None, "", "", "", "", ""], {"act": "erase", "ref": pair}), "the right"),
        (send("review-list", "select", [None], {"act": "open", "ref": pair}), "Reviews are for reviewers"),
    ):
        assert said in json.dumps(sent), sent
    # Ids that a page holds for itself are the server's own: a forged one is not even looked at.
    assert 'success": false' in json.dumps(send("review-accept", "click", [pair, 1, 0]))
    ray = who("Ray")
    assert services.reviewing.state(ray, pair) == "submitted"
    with pytest.raises(InvalidData):
        services.reviewing.withdraw(ray, pair)
    assert [user.name for user in team.people.users() if user.enabled] == ["Ann", "Bo", "Ray", "Olga"]
    assert services.queue.settings(olga).second_share == 1.0
    assert services.corrections.pair(ray, pair).chosen == "A blue dog sits beside two cats."
