"""Reviews as a team does them: who may what, what happens to a pair, and what can be read about it afterwards."""

import json

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.errors import Forbidden, InvalidCorrection, InvalidData, NotFound
from rlhfv.services import Actor, build_services
from rlhfv.services.people import ROLES, User
from rlhfv.services.terms import Terms
from rlhfv.settings import Settings

TEXT = "A red cup on a big table."
CUP, TABLE = Edit(2, 5, "blue", "attribute"), Edit(15, 18, "small", "attribute")
GREEN = Edit(2, 5, "green", "attribute")
USERS = {"ann": "annotator", "bob": "annotator", "ray": "reviewer", "ola": "owner"}


def write_users(path, **users):
    rows = [{"name": name, "role": role, "password": "", "enabled": True} for name, role in users.items()]
    path.write_text(json.dumps({"v": 1, "users": rows}))


def person(name):
    return Actor(User(name, "", "").visitor, name.title(), ROLES[USERS[name]])


ANN, BOB, RAY, OLA = map(person, USERS)


@pytest.fixture
def team(tmp_path, picture):
    """A team of four and three open tasks, all of which get a second correction."""
    write_users(tmp_path / "users.json", **USERS)
    services = build_services(Settings(tmp_path / "data", single_user=False, team=True, auth=tmp_path / "users.json"))
    (tmp_path / "one.png").write_bytes(picture)
    rows = [{"image": "one.png", "question": f"q{index}?", "answer": TEXT} for index in range(3)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    services.queue.add_files(OLA, tmp_path / "tasks.jsonl")
    services.queue.change_settings(OLA, second_share=1.0)
    for actor in (ANN, BOB, RAY, OLA):
        services.corrections.set_terms(actor, Terms("cc-by-4.0", True))
    return services


@pytest.fixture
def save(team):
    def save(actor, *edits, question="q0?"):
        [answer] = [task.answer_id for task in team.store.tasks() if task.prompt.question == question]
        return team.corrections.save(actor, answer, TEXT, edits or (CUP,)).pair_id

    return save


def states(team, *pairs):
    return [team.reviewing.state(OLA, pair) for pair in pairs]


def test_from_the_queue_to_the_data_and_back(team, save):
    pair = save(ANN)
    assert [item.pair.id for item in team.reviewing.waiting(RAY).items] == [pair]
    team.reviewing.send_back(RAY, pair, "the cup is green", revision=1)
    assert team.reviewing.waiting(RAY).total == 0
    team.reviewing.resubmit(ANN, pair, "look again")
    team.reviewing.send_back(RAY, pair, "no")
    assert save(ANN, GREEN) == pair
    with pytest.raises(InvalidData):
        team.reviewing.accept(RAY, pair, revision=1)
    team.reviewing.accept(RAY, pair, revision=2)
    assert states(team, pair) == ["accepted"] and len(team.corrections.mine(OLA, "accepted")) == 1
    team.reviewing.withdraw(RAY, pair)
    assert states(team, pair) == ["submitted"] and team.corrections.mine(OLA, "accepted") == []
    team.reviewing.undo(RAY, pair)
    assert states(team, pair) == ["accepted"]
    assert [line.text for line in team.reviewing.story(ANN, pair)] == [
        "Ann corrected 1 span",
        "Ray returned it: 'the cup is green'",
        "Ann submitted it again: 'look again'",
        "Ray returned it: 'no'",
        "Ann changed 1 correction",
        "Ray accepted it",
        "Ray took the acceptance back",
        "Ray undid the withdrawal of the acceptance",
    ]


def test_nobody_accepts_their_own_unless_nobody_else_could(team, save, tmp_path):
    pair = save(RAY)
    team.corrections.faithful(BOB, team.store.tasks()[0].answer_id)
    [item] = team.reviewing.waiting(RAY).items
    assert item.own and item.faithful_to == ("Bob",)
    with pytest.raises(Forbidden, match="own"):
        team.reviewing.accept(RAY, pair)
    team.reviewing.accept(OLA, pair)
    team.reviewing.withdraw(OLA, pair)
    write_users(tmp_path / "users.json", ray="reviewer", ann="annotator")
    assert team.reviewing.accept(RAY, pair).after == "accepted"
    other = save(ANN)
    write_users(tmp_path / "users.json", **USERS)
    team.reviewing.withdraw(RAY, pair)
    for winner, loser in ((pair, other), (other, pair)):
        with pytest.raises(Forbidden, match="own"):
            team.reviewing.choose(RAY, winner, loser)
    team.reviewing.choose(OLA, pair, other)


def test_without_a_file_of_users_nobody_is_taken_for_the_only_one(tmp_path, picture, team, save):
    pair = save(RAY)
    unknown = build_services(Settings(team.settings.data_dir, single_user=False, team=True))
    with pytest.raises(Forbidden):
        unknown.reviewing.accept(RAY, pair)
    alone = build_services(Settings(team.settings.data_dir))
    assert alone.reviewing.accept(Actor("local"), pair).after == "accepted"


def test_two_corrections_side_by_side(team, save):
    one, other = save(ANN, CUP, TABLE), save(BOB, GREEN, TABLE)
    assert [item.rivals for item in team.reviewing.waiting(RAY).items] == [(other,), (one,)]
    with pytest.raises(InvalidData, match="another correction"):
        team.reviewing.accept(RAY, one)
    compared = team.reviewing.compare(RAY, one, other)
    assert (compared.first.id, compared.second.id, compared.states) == (one, other, ("submitted", "submitted"))
    assert compared.edits.shared == (TABLE,) and compared.edits.conflicts == ((CUP, GREEN),)
    assert compared.agreement.exact_f1 == 1.0 and compared.agreement.kappa == 1.0
    with pytest.raises(InvalidCorrection) as caught:
        team.reviewing.merge(RAY, one, other)
    assert "blue" in caught.value.what and "green" in caught.value.what
    merged = team.reviewing.merge(RAY, one, other, (GREEN, TABLE))
    assert merged.chosen == "A green cup on a small table." and merged.revision == 2
    assert states(team, one, other) == ["accepted", "superseded"]
    assert team.reviewing.undo(RAY, other).pair == other
    assert states(team, one, other) == ["submitted", "submitted"]
    assert team.corrections.pair(ANN, one).edits == (CUP, TABLE)
    team.reviewing.choose(RAY, other, one)
    assert states(team, one, other) == ["superseded", "accepted"]


def test_what_does_not_contradict_is_merged_at_once(team, save):
    one, other = save(ANN, CUP), save(BOB, TABLE)
    assert team.reviewing.merge(RAY, other, one).chosen == "A blue cup on a small table."
    assert states(team, one, other) == ["superseded", "accepted"]
    with pytest.raises(InvalidData):
        team.reviewing.compare(RAY, one, save(ANN, question="q1?"))


def test_an_undone_save_comes_back_to_its_author_as_a_draft(team, save):
    pair = save(ANN)
    with pytest.raises(NotFound):
        team.reviewing.undo(BOB, pair)
    team.reviewing.undo(ANN, pair)
    with pytest.raises(NotFound):
        team.corrections.pair(ANN, pair)
    item = team.queue.next_item(ANN)
    assert item.question == "q0?" and team.corrections.open(ANN, item.answer_id).edits == (CUP,)
    assert save(ANN) == pair
    team.reviewing.accept(RAY, pair)
    with pytest.raises(Forbidden, match="Ray"):
        team.reviewing.undo(ANN, pair)


def test_everybody_sees_what_their_role_allows(team, save):
    one, other = save(ANN), save(BOB, question="q1?")
    assert {pair.id for pair in team.corrections.find(RAY).pairs} == {one, other}
    assert [pair.id for pair in team.corrections.find(ANN).pairs] == [one]
    assert team.corrections.filter_choices(ANN)["annotators"] == ["Ann"]
    assert team.corrections.filter_choices(RAY)["annotators"] == ["Ann", "Bob"]
    assert team.reviewing.statistics(ANN).total.answers == 1
    assert team.reviewing.statistics(RAY).total.answers == 2
    for call in (team.reviewing.story, team.reviewing.state, team.reviewing.undo, team.corrections.history):
        with pytest.raises(NotFound):
            call(ANN, other)
    with pytest.raises(NotFound):
        team.reviewing.resubmit(RAY, one)


def test_the_text_of_a_pair_is_its_authors_until_it_is_accepted(team, save):
    pair = save(ANN)
    save(ANN, GREEN)
    with pytest.raises(Forbidden):
        team.corrections.delete(RAY, pair)
    team.corrections.restore(ANN, pair, 1)
    team.reviewing.accept(RAY, pair)
    for call in (lambda: team.corrections.delete(ANN, pair), lambda: team.corrections.restore(ANN, pair, 2)):
        with pytest.raises(Forbidden):
            call()
    with pytest.raises(Forbidden):
        team.corrections.faithful(ANN, team.store.tasks()[0].answer_id)
    team.corrections.delete(OLA, pair)
    team.reviewing.undo(OLA, pair)
    assert states(team, pair) == ["accepted"]


def test_training_and_exports_take_accepted_pairs_only(team, save, tmp_path):
    pair, _ = save(ANN), save(BOB, question="q1?")
    assert team.training.counts(OLA).own == 0
    assert team.corrections.export_to(OLA, tmp_path / "none", "jsonl") == 0
    team.reviewing.accept(RAY, pair)
    assert team.training.counts(OLA).own == 1
    assert team.corrections.export_to(OLA, tmp_path / "out", "jsonl") == 1
    assert team.corrections.import_from(BOB, tmp_path / "none").pairs == 0
    elsewhere = build_services(Settings(tmp_path / "else", single_user=False, team=True))
    elsewhere.corrections.set_terms(ANN, Terms())
    elsewhere.corrections.import_from(ANN, tmp_path / "out")
    assert elsewhere.reviewing.state(OLA, pair) == "submitted"
    owned = build_services(Settings(tmp_path / "owned", single_user=False, team=True))
    owned.corrections.import_from(OLA, tmp_path / "out")
    assert owned.reviewing.state(OLA, pair) == "accepted"


def test_every_call_needs_its_right(team, save):
    pair, other = save(ANN), save(BOB, TABLE)
    calls = {
        "review": [
            lambda who: team.reviewing.waiting(who),
            lambda who: team.reviewing.accept(who, pair),
            lambda who: team.reviewing.send_back(who, pair, "no"),
            lambda who: team.reviewing.withdraw(who, pair),
            lambda who: team.reviewing.compare(who, pair, other),
            lambda who: team.reviewing.choose(who, pair, other),
            lambda who: team.reviewing.merge(who, pair, other),
            lambda who: team.reviewing.merge(who, pair, other, (CUP,)),
        ],
        "correct": [
            lambda who: team.reviewing.resubmit(who, pair),
            lambda who: team.reviewing.undo(who, pair),
            lambda who: team.reviewing.story(who, pair),
            lambda who: team.reviewing.state(who, pair),
            lambda who: team.reviewing.statistics(who),
        ],
    }
    for right, needing in calls.items():
        for call in needing:
            for rights in (ROLES["owner"] - {right}, frozenset(), frozenset({"reviewer", "owner", f"{right} "})):
                with pytest.raises(Forbidden) as caught:
                    call(Actor(ANN.visitor, "Ann", rights))
                assert caught.value.what and caught.value.why and caught.value.fix
    assert states(team, pair, other) == ["submitted", "submitted"]


@pytest.mark.parametrize("forged", ["", "nobody", "\ud800", "../x", "' OR 1=1", None])
def test_forged_ids_are_refused_with_a_reason(team, save, forged):
    pair = save(ANN)
    calls = [
        lambda: team.reviewing.accept(RAY, forged),
        lambda: team.reviewing.send_back(RAY, forged, "no"),
        lambda: team.reviewing.withdraw(RAY, forged),
        lambda: team.reviewing.resubmit(ANN, forged),
        lambda: team.reviewing.undo(RAY, forged),
        lambda: team.reviewing.compare(RAY, pair, forged),
        lambda: team.reviewing.compare(RAY, forged, pair),
        lambda: team.reviewing.choose(RAY, pair, forged),
        lambda: team.reviewing.merge(RAY, forged, pair),
        lambda: team.reviewing.story(RAY, forged),
        lambda: team.reviewing.state(RAY, forged),
    ]
    for call in calls:
        with pytest.raises((NotFound, InvalidData)) as caught:
            call()
        assert caught.value.what and caught.value.why and caught.value.fix and len(str(caught.value)) < 1000
    assert states(team, pair) == ["submitted"]


def test_the_waiting_list_is_paged_oldest_first(team, save):
    pairs = [save(ANN, question=f"q{index}?") for index in range(3)]
    pages = [team.reviewing.waiting(RAY, offset, 2) for offset in (0, 2, 4, -1)]
    assert [[item.pair.id for item in page.items] for page in pages] == [pairs[:2], pairs[2:], [], pairs[:2]]
    assert {page.total for page in pages} == {3}
