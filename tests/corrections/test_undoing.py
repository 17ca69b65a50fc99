"""Reviews: everything can be undone, and a history reads as a story."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfv.corrections.reviews import TRANSITIONS, Person
from rlhfv.corrections.story import tell_story
from rlhfv.errors import Forbidden, InvalidData, NotFound, StudioError
from tests.corrections.team import ANN, BOB, RAY, UNTIL


@pytest.mark.parametrize(
    ("action", "before"),
    [
        ("returned", ()),
        ("accepted", ()),
        ("resubmitted", ("returned",)),
        ("withdrawn", ("accepted",)),
    ],
)
def test_each_review_can_be_undone(team, action, before):
    pair = team.save(ANN)
    for earlier in (*before, action):
        team.store.review(pair.id, earlier, RAY, "no")
    undone = team.undo(pair)
    assert (undone.action, undone.before, undone.after) == (
        "undone",
        TRANSITIONS[action][1],
        TRANSITIONS[action][0][0],
    )
    assert team.state(pair) == TRANSITIONS[action][0][0]
    assert team.store.pair(pair.id).revision == 1  # no text was touched


def test_undoing_a_save_gives_the_work_back_to_its_author(team):
    pair = team.save(ANN)
    team.store.review(pair.id, "returned", RAY, "no")
    team.save(ANN, "A green cup on a big table.")
    assert team.store.draft("v-ann", "a0") is None
    team.undo(pair, ANN, others=False)
    assert team.state(pair) == "returned" and team.store.pair(pair.id).chosen == pair.chosen
    assert team.store.draft("v-ann", "a0")["edits"][0]["replacement"] == "green"
    assert team.store.task_of_answer("a0").due == "second"  # the first save still stands
    team.undo(pair)  # the return
    assert team.state(pair) == "submitted"
    team.undo(pair, ANN, others=False)
    with pytest.raises(NotFound):
        team.store.pair(pair.id)
    assert team.store.judgements("a0") == [] and team.store.task_of_answer("a0").due == "first"
    work = team.store.next_work("v-ann", 0.0, UNTIL)
    assert (work.answer_id, work.reason) == ("a0", "reserved")
    assert team.store.draft("v-ann", "a0")["edits"][0]["replacement"] == "green"  # what was begun later stays
    with pytest.raises(InvalidData, match="nothing left"):
        team.undo(pair)
    again = team.save(ANN)
    assert (again.id, team.state(again)) == (pair.id, "submitted")


def test_a_choice_is_undone_for_both(team, both):
    one, other = both
    team.store.adjudicate(one.id, other.id, RAY)
    team.undo(other)
    assert (team.state(one), team.state(other)) == ("submitted", "submitted")
    assert team.texts(one)[-1] == team.texts(other)[-1] == "Ray undid the choice"


def test_a_merge_is_undone_with_its_text(team, both):
    one, other = both
    team.store.adjudicate(one.id, other.id, RAY, (*one.edits, *other.edits))
    team.undo(one)
    assert (team.state(one), team.state(other)) == ("submitted", "submitted")
    assert replace(team.store.pair(one.id), revision=1) == one
    assert team.store.rivals(one.id) == [other.id]
    team.store.adjudicate(other.id, one.id, RAY)


def test_half_a_choice_is_never_undone(team, both):
    one, other = both
    team.store.adjudicate(one.id, other.id, RAY)
    team.save(BOB, "A red cup on a tiny table.")
    with pytest.raises(InvalidData, match="since"):
        team.undo(one)
    team.undo(other)
    team.undo(other)
    assert (team.state(one), team.state(other)) == ("submitted", "submitted")


def test_a_deletion_and_a_restored_revision_are_undone_too(team):
    pair = team.save(ANN)
    team.save(ANN, "A green cup on a big table.")
    team.store.review(pair.id, "accepted", RAY)
    team.store.restore(pair.id, 1, "Ray", "v-ray")
    assert team.state(pair) == "submitted"
    team.undo(pair)
    assert team.state(pair) == "accepted" and "green" in team.store.pair(pair.id).chosen
    team.store.delete(pair.id, "Ray", "v-ray")
    team.undo(pair)
    assert team.state(pair) == "accepted" and "green" in team.store.pair(pair.id).chosen


def test_everybody_undoes_their_own_and_only_reviewers_what_others_did(team):
    pair = team.save(ANN)
    with pytest.raises(Forbidden, match="Ann"):
        team.undo(pair, BOB, others=False)
    team.store.review(pair.id, "accepted", RAY)
    with pytest.raises(Forbidden, match="Ray"):
        team.undo(pair, ANN, others=False)
    team.undo(pair, RAY)
    team.undo(pair, ANN, others=False)


def test_a_revision_that_came_past_the_reviews_is_not_undone(team):
    from rlhfv.corrections.revisions import add_revision

    pair = team.save(ANN)
    with team.store._transaction() as connection:
        add_revision(connection, pair.id, "elsewhere", "saved", replace(pair, chosen="A dog.", edits=()))
    with pytest.raises(InvalidData, match="since"):
        team.undo(pair)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.sampled_from(["save", "returned", "resubmitted", "accepted", "withdrawn", "delete"]), max_size=8)
)
def test_undoing_everything_leads_back_through_every_state(team, steps):
    id = f"p{next(team.number)}"
    team.add(id)
    pair = team.save(ANN, answer=id)

    def here():
        head = team.store.find_pairs(text=f"{id}?").pairs
        return (team.state(pair), head[0].chosen) if head else None

    states = [here()]
    for step in steps:
        try:
            if step == "save":
                team.save(ANN, f"A cup {next(team.number)}.", answer=id)
            elif step == "delete":
                team.store.delete(pair.id, "Ray", "v-ray")
            else:
                team.store.review(pair.id, step, RAY, "no")
        except StudioError:
            continue
        states.append(here())
    while len(states) > 1:
        assert here() == states.pop()
        team.undo(pair)
    assert here() == states[0]
    team.undo(pair)
    assert here() is None


# ---- the story


def test_a_history_reads_as_a_story(team):
    pair = team.save(ANN, "A blue cup near a big chair.")
    team.store.review(pair.id, "returned", RAY, "the cup is blue")
    team.save(ANN, "A blue cup near a big table.")
    team.store.review(pair.id, "accepted", RAY)
    with team.store._transaction() as connection:
        for repo, revision in (("org/data", 2), ("org/old", 0)):
            connection.execute(
                "INSERT INTO published VALUES (?, 'pairs', ?, 0, ?, 'Ann', 10)", (repo, pair.id, revision)
            )
    team.save(ANN, "A blue cup near a big table.")
    team.store.review(pair.id, "returned", RAY, "why?")
    team.store.review(pair.id, "resubmitted", ANN, "a mistake")
    team.undo(pair, ANN)
    assert team.texts(pair) == [
        "Ann corrected 3 spans",
        "Ray returned it: 'the cup is blue'",
        "Ann changed 1 correction",
        "Ray accepted it",
        "pushed to org/data as revision 2",
        "Ann saved it again unchanged",
        "Ray returned it: 'why?'",
        "Ann submitted it again: 'a mistake'",
        "Ann undid the second submission",
        "taken out of org/old",
    ]
    lines = tell_story(team.store.history(pair.id), team.store.reviews(pair.id))
    assert [line.who for line in lines[:4]] == ["Ann", "Ray", "Ann", "Ray"]
    assert [line.when for line in lines] == sorted(line.when for line in lines) and lines[0].when


def test_the_story_of_what_was_undone_deleted_and_brought_back(team):
    pair = team.save(ANN, "A blue cup on a big table.")
    team.save(Person("v-ann", ""), "A green cup on a big table.")
    team.undo(pair, ANN)
    team.store.restore(pair.id, 2, "Ann", "v-ann")
    team.store.delete(pair.id, "Ann", "v-ann")
    team.store.restore(pair.id, 1, "Ann", "v-ann")
    assert team.texts(pair) == [
        "Ann corrected 1 span",
        "Somebody changed 1 correction",
        "Ann undid the last change",
        "Ann went back to an earlier revision",
        "Ann deleted it",
        "Ann brought it back",
    ]


def test_a_pair_from_before_the_reviews_has_a_story_too(saved):
    store, pair = saved
    store._connection.execute("DELETE FROM reviews")
    assert [line.text for line in tell_story(store.history(pair.id), store.reviews(pair.id))] == [
        "ann corrected 1 span",
        "ann changed 1 correction",
    ]
    with pytest.raises(InvalidData, match="nothing left"):
        store.undo_review(pair.id, RAY, True, UNTIL)
