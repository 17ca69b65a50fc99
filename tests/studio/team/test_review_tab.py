"""What reviewers do, through the events of the page, in a studio where people sign in."""

import gradio as gr
import pytest

from rlhfv.corrections.conversation import Answer, ModelIdentity, Prompt, Sampling
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.tasks import EVERYBODY, NewTask
from rlhfv.errors import Forbidden
from rlhfv.services.terms import Terms
from tests.studio.conftest import texts

TEXT = "A red dog sits beside two cats."


@pytest.fixture
def work(services, olga, picture):
    """One answer of the queue that goes to two annotators."""
    services.queue.change_settings(olga, second_share=1.0, gold_share=0.0)
    name = services.corrections.shelf.intake(picture).name
    prompt = Prompt("What is there?", (name,))
    model = ModelIdentity("scripted", "0")
    answer = Answer("answer-1", prompt, TEXT, model, Sampling(), EVERYBODY, "2026-11-22")
    services.queue.add(olga, [NewTask(prompt, answer=answer)])


def correct(services, who, *edits: Edit) -> str:
    item = services.queue.next_item(who)
    services.corrections.set_terms(who, Terms(consent=True))
    return services.corrections.save(who, item.answer_id, item.original, edits).pair_id


BLUE = Edit(2, 5, "blue", "attribute")
GREEN = Edit(2, 5, "green", "attribute")
THREE = Edit(22, 25, "three", "number")


def test_a_submitted_correction_is_accepted_and_undone(page, services, ann, ray, work):
    pair = correct(services, ann, BLUE)
    shown = page.fire("tab-review", "select", ray, "")
    assert shown["review-editor"].original == TEXT and "Ann" in texts(shown["review-list"])
    seen = services.corrections.pair(ray, pair).revision
    done = page.fire("review-accept", "click", ray, pair, seen, 0)
    assert "Accepted" in texts(done["review-status"]) and "Nothing waits" in texts(done["review-list"])
    assert services.reviewing.state(ray, pair) == "accepted"
    back = page.fire("review-status", "select", ray, 0, data={"act": "undo", "ref": pair})
    assert "Undone" in texts(back["review-status"]) and services.reviewing.state(ray, pair) == "submitted"


def test_sent_back_with_a_comment_it_comes_first_to_its_author(page, services, ann, ray, work):
    pair = correct(services, ann, BLUE)
    seen = services.corrections.pair(ray, pair).revision
    page.fire("review-return", "click", ray, pair, seen, " It is green. ", 0)
    item = services.queue.next_item(ann)
    assert (item.reason, item.comment, item.reviewer) == ("returned", "It is green.", "Ray")
    told = texts(page.fire("review-list", "select", ray, 0, data={"act": "open", "ref": pair})["review-story"])
    assert "It is green." in told and "Ann" in told


def test_two_corrections_are_compared_and_merged(page, services, ann, bo, ray, work):
    first, second = correct(services, ann, BLUE), correct(services, bo, GREEN, THREE)
    shown = page.fire("review-list", "select", ray, 0, data={"act": "open", "ref": first})
    assert shown["review-rival"]["visible"] and not shown["review-acts"]["visible"]
    assert shown["review-rival-editor"].original == TEXT
    assert "three" in texts(shown["review-compared"])
    keys = [key for label, key in shown["review-holding"]["choices"]]
    assert len(keys) == 2, "red becomes blue or green"
    green = next(key for key in keys if "green" in key)
    page.fire("review-merge", "click", ray, first, second, [green], 0)
    assert services.corrections.pair(ray, first).chosen == "A green dog sits beside three cats."
    assert services.reviewing.state(ray, first) == "accepted"
    assert services.reviewing.state(ray, second) == "superseded"


@pytest.mark.parametrize(("button", "accepted"), [("review-first", 0), ("review-second", 1)])
def test_one_of_two_is_picked(page, services, ann, bo, ray, work, button, accepted):
    pairs = [correct(services, ann, BLUE), correct(services, bo, THREE)]
    page.fire(button, "click", ray, *pairs, 0)
    assert services.reviewing.state(ray, pairs[accepted]) == "accepted"
    assert services.reviewing.state(ray, pairs[1 - accepted]) == "superseded"


def test_annotators_see_why_there_is_nothing_for_them(page, services, ann, work):
    pair = correct(services, ann, BLUE)
    shown = page.fire("tab-review", "select", ann, "")
    assert "reviewers" in texts(shown["review-status"]) and not shown["review-desk"]["visible"]
    with pytest.raises(gr.Error, match="does not have it"):
        page.fire("review-accept", "click", ann, pair, 1, 0)
    with pytest.raises(Forbidden):
        services.reviewing.accept(ann, pair)
