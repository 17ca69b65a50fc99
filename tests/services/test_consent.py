"""Terms before a correction is kept: asked once for each version, kept with time, shown by every pair."""

import json
import threading
from dataclasses import replace

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.errors import InvalidData
from rlhfv.services import Actor, build_services
from rlhfv.services.consent import MAX_TEXT, SPACE_TERMS, ConsentMissing
from rlhfv.services.limits import DEEDS, Limits, TooMany
from rlhfv.services.terms import Terms, TermsMissing
from rlhfv.settings import Settings, Space
from tests.services.fakes import ScriptedModel, scripted_entry

STRANGER = frozenset({"chat", "correct", "train"})
WHO = Actor("c" * 32, rights=STRANGER)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts the studio of one data folder, each time with other settings."""
    monkeypatch.setattr("rlhfv.services.model_host.find_entry", lambda *_: scripted_entry())

    def start(**settings):
        settings = {"single_user": False, "space": Space("a/b", "a"), **settings}
        services = build_services(Settings(data_dir=tmp_path / "data", model="scripted", **settings))
        services.host._model = ScriptedModel()
        return services

    return start


def answer(services, picture, who=WHO, question="What is it?"):
    services.chat.set_images(who, (services.chat.add_image(who, picture).name,))
    *_, state = services.chat.ask(who, question, threading.Event())
    return services.store.answer(state.turns[-1].left.answer_id)


def save(services, asked, who=WHO, word="One"):
    return services.corrections.save(who, asked.id, asked.text, [Edit(0, 8, word, "object")])


def test_nothing_is_kept_on_a_space_before_somebody_agreed(start, picture):
    services = start()
    asked = answer(services, picture)
    services.corrections.set_terms(WHO, Terms(consent=True))
    with pytest.raises(ConsentMissing) as refused:
        save(services, asked)
    assert refused.value.terms.text == SPACE_TERMS and refused.value.terms.version in refused.value.fix
    assert not services.corrections.mine(WHO) and not services.store.judgements()
    services.consent.agree(WHO, refused.value.terms.version)
    pair = save(services, asked).pair_id
    kept = services.store.agreement_of_pair(pair)
    assert kept.version == services.consent.house.version and kept.agreed.endswith("+00:00")
    assert services.store.terms_text(kept.version) == SPACE_TERMS
    assert services.consent.missing(WHO) is None, "asked once"


def test_the_licence_is_asked_besides(start, picture):
    services = start()
    asked = answer(services, picture)
    services.consent.agree(WHO, services.consent.house.version)
    with pytest.raises(TermsMissing, match="licence"):
        save(services, asked)


def test_an_import_is_kept_under_the_same_terms(start, tmp_path):
    services, file = start(), tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"question": "?", "chosen": "a b", "rejected": "a c", "image": ""}) + "\n")
    with pytest.raises(ConsentMissing):
        services.corrections.import_from(WHO, file)


def test_other_terms_are_asked_again_and_old_pairs_show_the_old_ones(start, picture, tmp_path, monkeypatch):
    file = tmp_path / "terms.md"
    file.write_text("Be kind.\n")
    services = start(terms=file)
    assert services.consent.house.text == "Be kind."
    services.corrections.set_terms(WHO, Terms(consent=True))
    first = services.consent.agree(WHO, services.consent.house.version)
    old = save(services, answer(services, picture)).pair_id
    file.write_text("Be kinder.\n")
    services = start(terms=file)
    assert services.consent.missing(WHO).text == "Be kinder."
    asked = answer(services, picture, question="And what is that?")
    with pytest.raises(ConsentMissing):
        save(services, asked)
    monkeypatch.setattr("rlhfv.services.consent.now", lambda: "2099-01-01T00:00:00+00:00")
    services.consent.agree(WHO, services.consent.house.version)
    save(services, asked)
    assert services.store.agreement_of_pair(old) == first
    assert services.store.terms_text(first.version) == "Be kind."


def test_agreeing_to_another_text_is_no_consent(start):
    services = start()
    for version in ("", "0" * 12):
        with pytest.raises(InvalidData, match="not the present ones"):
            services.consent.agree(WHO, version)
    assert services.consent.missing(WHO) is not None
    assert services.consent.missing(Actor("d" * 32, rights=STRANGER)) is not None


def test_agreeing_twice_keeps_the_first_time(start, monkeypatch):
    services = start()
    first = services.consent.agree(WHO, services.consent.house.version)
    monkeypatch.setattr("rlhfv.services.consent.now", lambda: "2099-01-01T00:00:00+00:00")
    assert services.consent.agree(WHO, first.version) == first


def test_on_a_laptop_there_are_none(start, picture):
    services = start(space=None, single_user=True)
    assert services.consent.house is None and services.consent.missing(WHO) is None
    services.corrections.set_terms(WHO, Terms())
    pair = save(services, answer(services, picture)).pair_id
    assert services.store.agreement_of_pair(pair) is None


def test_a_team_has_those_that_its_owner_wrote(start, tmp_path):
    file = tmp_path / "terms.md"
    file.write_text("Ours.")
    assert start(space=None, team=True).consent.house is None
    assert start(space=None, team=True, terms=file).consent.house.text == "Ours."


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\xff", b"x" * (MAX_TEXT + 1)])
def test_a_file_that_is_no_text_is_told_at_the_start(start, tmp_path, content):
    file = tmp_path / "terms.md"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidData, match=r"terms\.md cannot be used"):
        start(terms=file)


def test_corrections_are_limited(start, picture):
    services = start(space=None)
    services.corrections.set_terms(WHO, Terms())
    asked = answer(services, picture)
    services.corrections.limits = Limits(1, 0)
    for number in range(3):
        save(services, asked, word=f"One{number}")
    with pytest.raises(TooMany, match="corrections"):
        save(services, asked)
    assert len(services.store.history(services.store.pair_of_answer(asked.id).id)) == 3
    save_draft = replace(Edit(0, 8, "x", "object"))
    services.corrections.save_draft(WHO, asked.id, [save_draft])


def two_answers(services, picture):
    answer(services, picture)
    turn = services.chat.open(WHO).turns[-1]
    return turn.left.answer_id, turn.right.answer_id


def test_nothing_is_judged_before_somebody_agreed_and_all_can_be_taken_back_without(start, picture):
    services = start()
    chat, corrections, version = services.chat, services.corrections, services.consent.house.version
    left, right = two_answers(services, picture)
    calls = [
        *(lambda vote=vote: chat.vote(WHO, vote) for vote in ("left", "tie", "both_bad")),
        *(lambda do=do: do(WHO, left) for do in (chat.faithful, corrections.faithful)),
        lambda: corrections.skip(WHO, left, "not sure"),
    ]
    for call in calls:
        with pytest.raises(ConsentMissing):
            call()
    assert not services.store.judgements() and not services.store.find_pairs().total
    services.consent.agree(WHO, version)
    for call in calls:
        call()
    assert len(services.store.judgements()) == len(calls)
    corrections.set_terms(WHO, Terms(consent=True))
    pair = save(services, services.store.answer(right)).pair_id
    newer = start(terms=None, space=Space("a/b", "a"))
    newer.consent.house = replace(newer.consent.house, version="another")
    newer.corrections.undo(WHO, pair)
    newer.corrections.undelete(WHO, pair)
    newer.corrections.delete(WHO, pair)
    assert not newer.corrections.mine(WHO)


def test_the_same_vote_again_keeps_nothing_more_and_a_changed_mind_does(start, picture):
    services = start(space=None)
    two_answers(services, picture)
    turn = services.chat.open(WHO).turns[-1]
    other = replace(services.store.answer(turn.right.answer_id), id="other", text="Something else.")
    services.store.add_answer(other)
    state = services.chat.open(WHO)
    turn = replace(turn, right=replace(turn.right, answer_id="other", text=other.text))
    services.chat._keep(WHO, replace(state, turns=(turn,)))
    for _ in range(20):
        services.chat.vote(WHO, "left")
    [pair] = services.store.find_pairs().pairs
    assert len(services.store.history(pair.id)) == len(services.store.judgements()) == 1
    services.chat.vote(WHO, "right")
    services.chat.vote(WHO, "right")
    assert len(services.store.history(pair.id)) == 2
    services.corrections.delete(WHO, pair.id)
    services.chat.vote(WHO, "right")
    assert services.store.pair(pair.id).rejected == turn.left.text, "what was deleted is voted anew"
    for _ in range(3):
        services.chat.vote(WHO, "tie")
    assert len(services.store.history(pair.id)) == 5 and services.store.find_pairs().total == 0


def test_judgements_and_changes_are_limited(start, picture):
    services = start(space=None)
    left, _ = two_answers(services, picture)
    services.corrections.set_terms(WHO, Terms(consent=True))
    pair = save(services, services.store.answer(left)).pair_id
    services.chat.limits = services.corrections.limits = Limits(1, 0)

    def count(*calls) -> int:
        done = 0
        with pytest.raises(TooMany):
            while done < 100:
                calls[done % len(calls)]()
                done += 1
        return done

    corrections = services.corrections
    assert count(
        lambda: services.chat.vote(WHO, "tie"),
        lambda: services.chat.faithful(WHO, left),
        lambda: corrections.skip(WHO, left, ""),
        lambda: corrections.faithful(WHO, left),
    ) == int(DEEDS["judgement"][0])
    assert count(
        lambda: corrections.undelete(WHO, pair),
        lambda: corrections.delete(WHO, pair),
        lambda: corrections.restore(WHO, pair, 1),
        lambda: corrections.undo(WHO, pair),
    ) == int(DEEDS["change"][0])
