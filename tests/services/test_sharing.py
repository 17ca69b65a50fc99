"""Public links: what they show, to whom, and that they go when their maker or an erasure says so."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from rlhfv.corrections.edits import Edit
from rlhfv.errors import Forbidden, InvalidData, NotFound
from rlhfv.services import Actor
from rlhfv.services.actor import RIGHTS
from rlhfv.services.sharing import MAX_LINKS, Correction
from rlhfv.services.terms import Terms
from rlhfv.studio.shared import routes

ANNA, OLGA = (Actor(name * 32, rights=RIGHTS) for name in "ab")
QUESTION = "what is <b>on</b> the table?"


@pytest.fixture
def asked(services, picture):
    """A visitor's conversation of one answered question."""
    services.chat.set_images(ANNA, (services.chat.add_image(ANNA, picture).name,))
    *_, state = services.chat.ask(ANNA, QUESTION, threading.Event())
    return state.turns[-1]


def publish(services, who=ANNA):
    return services.sharing.publish(who, services.sharing.comparison(who).mark)


def test_a_link_shows_question_picture_and_both_answers_to_anybody(services, asked):
    link = publish(services)
    shown = services.sharing.open_link(link)
    assert (shown.question, shown.image) == (QUESTION, asked.images[0])
    assert [said.text for said in shown.said] == [asked.left.text, asked.right.text]
    assert [said.voice for said in shown.said] == [asked.left.voice_title, asked.right.voice_title]
    assert services.sharing.open_picture(link).is_file()
    assert shown.correction is None
    assert ANNA.visitor not in repr(shown)


def test_a_correction_is_part_of_it(services, asked):
    text = asked.right.text
    word = text.split()[0]
    services.corrections.set_terms(ANNA, Terms("cc-by-4.0", True, "Anna"))
    services.corrections.save(ANNA, asked.right.answer_id, text, [Edit(0, len(word), "Two 😀", "object")])
    correction = services.sharing.comparison(ANNA).correction
    assert correction.side == 1
    assert correction.parts[:2] == ((word, "del"), ("Two 😀", "ins"))
    assert "".join(part for part, kind in correction.parts if kind != "ins") == text


@pytest.mark.parametrize("gone", ["delete", "undo", "faithful"])
def test_a_correction_that_was_taken_back_leaves_the_link_and_comes_back_with_its_pair(services, asked, gone):
    text, corrections = asked.right.text, services.corrections
    corrections.set_terms(ANNA, Terms("cc-by-4.0", True, "Anna"))
    pair = corrections.save(ANNA, asked.right.answer_id, text, [Edit(0, 3, "SECRET", "object")]).pair_id
    link = publish(services)
    assert "SECRET" in repr(services.sharing.open_link(link))
    getattr(corrections, gone)(ANNA, asked.right.answer_id if gone == "faithful" else pair)
    shown = services.sharing.open_link(link)
    assert shown.correction is None and shown.question == QUESTION and "SECRET" not in repr(shown)
    with TestClient(Starlette(routes=routes(services))) as browser:
        assert "SECRET" not in browser.get(f"/shared/{link}").text
    corrections.undelete(ANNA, pair)
    assert "SECRET" in repr(services.sharing.open_link(link))


def test_without_consent_or_answers_nothing_becomes_public(services, asked):
    with pytest.raises(InvalidData, match="Nothing was made public"):
        services.sharing.publish(ANNA, "")
    with pytest.raises(InvalidData, match="no comparison to share"):
        services.sharing.publish(OLGA, services.sharing.comparison(ANNA).mark)
    assert services.sharing.links(ANNA) == []


def test_what_was_agreed_to_is_what_becomes_public(services, asked):
    agreed = services.sharing.comparison(ANNA).mark
    list(services.chat.ask(ANNA, "and now something private?", threading.Event()))
    with pytest.raises(InvalidData, match="Nothing was made public"):
        services.sharing.publish(ANNA, agreed)
    assert services.sharing.links(ANNA) == []


def test_in_a_team_only_who_may_publish_makes_links_and_its_owner_withdraws_any(services, asked):
    services.sharing.team = True
    annotator = replace(ANNA, rights=frozenset({"chat", "correct"}))
    assert not services.sharing.may_publish(annotator)
    with pytest.raises(Forbidden):
        publish(services, annotator)
    link = publish(services)
    services.sharing.withdraw(replace(OLGA, rights=RIGHTS), link)
    with pytest.raises(NotFound):
        services.sharing.open_link(link)
    assert services.sharing.links(ANNA) == []


def test_links_of_two_tabs_are_all_listed(services, asked):
    with ThreadPoolExecutor(8) as tabs:
        made = set(tabs.map(lambda _: publish(services), range(24)))
    assert {link.id for link in services.sharing.links(ANNA)} == made


def test_only_its_maker_withdraws_a_link(services, asked):
    kept, gone = (publish(services) for _ in range(2))
    with pytest.raises(NotFound):
        services.sharing.withdraw(replace(OLGA, rights=frozenset({"chat"})), gone)
    services.sharing.withdraw(ANNA, gone)
    with pytest.raises(NotFound, match="nothing under this link"):
        services.sharing.open_link(gone)
    assert [link.id for link in services.sharing.links(ANNA)] == [kept]
    assert services.sharing.links(OLGA) == []


@pytest.mark.parametrize("link", ["", "x", "../../etc/passwd", "a" * 22, "links of " + "a" * 32])
def test_what_is_no_link_shows_nothing(services, link):
    with pytest.raises(NotFound):
        services.sharing.open_link(link)


def test_there_is_an_end_to_the_links_of_one_visitor(services, asked):
    for _ in range(MAX_LINKS):
        publish(services)
    with pytest.raises(InvalidData, match=f"You have {MAX_LINKS} public links"):
        publish(services)


def test_an_erased_picture_takes_its_links_along(services, asked):
    link = publish(services)
    services.erasing.erase(ANNA, (), asked.images)
    with pytest.raises(NotFound):
        services.sharing.open_link(link)
    assert services.sharing.links(ANNA) == []
    assert services.store.recall(f"shared/{link}") is None


def test_nothing_that_was_said_becomes_markup(services, asked, monkeypatch):
    monkeypatch.setattr(services.store, "is_live", lambda pair: True)
    hostile = "</title><script>alert(1)</script>"
    comparison = services.sharing.comparison(ANNA)
    said = tuple(
        replace(each, text=hostile + str(number), voice=hostile) for number, each in enumerate(comparison.said)
    )
    correction = Correction(0, "p", ((hostile, ""), (hostile, "del"), (hostile, "ins")))
    made = replace(comparison, question=hostile, said=said, correction=correction)
    services.store.remember("shared/" + "a" * 22, asdict(made))
    with TestClient(Starlette(routes=routes(services))) as guest:
        page, picture = guest.get("/shared/" + "a" * 22), guest.get(f"/shared/{'a' * 22}/picture")
        nothing = guest.get("/shared/" + "b" * 22)
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;alert(1)") == 10  # title, question, three names, two answers, three parts
    assert page.text.count("</title>") == 1
    assert (picture.status_code, nothing.status_code) == (200, 404)
    for answer in (page, picture, nothing):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-robots-tag"] == "noindex"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
