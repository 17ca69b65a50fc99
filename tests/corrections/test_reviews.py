"""Reviews: which state follows which, and two corrections of one answer."""

import pytest

from rlhfv.corrections.edits import Edit
from rlhfv.corrections.reviews import STATES, TRANSITIONS
from rlhfv.errors import InvalidCorrection, InvalidData, NotFound, StudioError
from tests.corrections.team import ANN, BOB, RAY, UNTIL

# ---- states


def test_what_is_saved_waits_in_a_team_and_counts_at_once_alone(team, store, make_answer, make_pair, make_judgement):
    assert team.state(team.save(ANN)) == "submitted"
    store.add_answer(make_answer())
    pair = store.save(make_judgement("j", "answer-1"), make_pair(make_answer(), "No.")).pair
    assert store.pair_states([pair.id]) == ["accepted"]
    store.add_pairs([make_pair(make_answer("import"), "No.")])
    team.store.add_pairs([make_pair(make_answer("import"), "No.")])
    team.store.add_pairs([make_pair(make_answer("known"), "No.")], state="accepted")
    assert store.pair_states(["import"]) == ["accepted"]
    assert team.store.pair_states(["import", "known"]) == ["submitted", "accepted"]


def test_a_pair_goes_back_and_forth_until_it_is_accepted(team):
    pair = team.save(ANN)
    review = team.store.review(pair.id, "returned", RAY, "the cup is blue")
    assert (review.before, review.after, review.comment, review.revision) == (
        *("submitted", "returned", "the cup is blue"),
        1,
    )
    assert team.state(pair) == "returned"
    team.store.review(pair.id, "resubmitted", ANN, "it is")
    team.store.review(pair.id, "returned", RAY, "no")
    team.save(ANN, "A green cup on a big table.")
    assert team.state(pair) == "submitted"
    team.store.review(pair.id, "accepted", RAY, revision=2)
    assert team.state(pair) == "accepted"
    team.store.review(pair.id, "withdrawn", RAY)
    team.store.review(pair.id, "accepted", RAY)
    team.save(ANN, "A white cup on a big table.")
    assert team.state(pair) == "submitted"  # what was changed is looked at again
    actions = [(review.action, review.name) for review in team.store.reviews(pair.id)]
    assert actions == [
        *(("saved", "Ann"), ("returned", "Ray"), ("resubmitted", "Ann"), ("returned", "Ray"), ("saved", "Ann")),
        *(("accepted", "Ray"), ("withdrawn", "Ray"), ("accepted", "Ray"), ("saved", "Ann")),
    ]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("action", ["returned", "resubmitted", "accepted", "withdrawn"])
def test_only_what_the_table_allows_happens(team, state, action):
    pair = team.save(ANN)
    team.store._connection.execute("UPDATE pairs SET state = ?", (state,))
    if state in TRANSITIONS[action][0]:
        team.store.review(pair.id, action, RAY, "because")
        assert team.state(pair) == TRANSITIONS[action][1]
    else:
        with pytest.raises(NotFound if state == "gold" else InvalidData) as caught:
            team.store.review(pair.id, action, RAY, "because")
        assert "gold" not in str(caught.value)
        assert team.state(pair) == state
        assert len(team.store.reviews(pair.id)) == 1


@pytest.mark.parametrize("forged", ["", "nobody", "' OR 1=1 --", "\ud800", None, 7, "x" * 10**5])
def test_forged_ids_and_actions_are_refused_with_a_reason(team, forged):
    pair = team.save(ANN)
    calls = [
        lambda: team.store.review(forged, "accepted", RAY),
        lambda: team.store.review(pair.id, forged, RAY),
        lambda: team.store.adjudicate(forged, pair.id, RAY),
        lambda: team.store.adjudicate(pair.id, forged, RAY),
        lambda: team.store.undo_review(forged, RAY, True, UNTIL),
        lambda: team.store.pair_states([forged]),
    ]
    for call in calls:
        with pytest.raises((NotFound, InvalidData)) as caught:
            call()
        assert len(str(caught.value)) < 1000
    for action in ("saved", "chosen", "superseded", "undone", "gold"):
        with pytest.raises(InvalidData):
            team.store.review(pair.id, action, RAY)
    assert team.state(pair) == "submitted"


def test_a_review_of_what_has_changed_or_is_gone_is_refused(team):
    pair = team.save(ANN)
    team.save(ANN, "A green cup on a big table.")
    with pytest.raises(InvalidData, match="revision 2"):
        team.store.review(pair.id, "accepted", RAY, revision=1)
    with pytest.raises(InvalidData, match="comment"):
        team.store.review(pair.id, "returned", RAY, " ")
    with pytest.raises(StudioError):
        team.store.review(pair.id, "returned", RAY, "x" * 5000)
    team.store.delete(pair.id, "Ann", "v-ann")
    with pytest.raises(NotFound):
        team.store.review(pair.id, "accepted", RAY)


def test_an_imported_pair_cannot_go_back_to_an_author_who_has_no_answer(team, make_answer, make_pair):
    team.store.add_pairs([make_pair(make_answer("import"), "No.")], "v-ann")
    with pytest.raises(InvalidData, match="made here"):
        team.store.review("import", "returned", RAY, "no")
    team.store.review("import", "accepted", RAY)
    assert team.store.next_work("v-ann", 0.0, 1.0).reason == "open"


def test_a_preference_is_accepted_or_left_but_not_sent_back(team, make_answer, make_pair, make_judgement):
    one, two = make_answer("one", visitor="v-ann"), make_answer("two", "There is a spoon.", visitor="v-ann")
    team.store.add_answer(one)
    team.store.add_answer(two)
    pair = make_pair(one, two.text, outcome="preferred", edits=())
    saved = team.store.save(make_judgement("j", "two", "one", outcome="preferred"), pair).pair
    assert team.state(saved) == "submitted"
    with pytest.raises(InvalidData, match="made here"):
        team.store.review(saved.id, "returned", RAY, "no")
    team.undo(saved, ANN, others=False)
    team.undo(team.store.save(make_judgement("k", "two", "one", outcome="preferred"), pair).pair)
    assert team.store.draft("v-ann", "one") is None and team.texts(saved)[0] == "ann preferred one of two answers"


def test_who_found_nothing_wrong_is_told_beside_a_correction(team):
    pair = team.save(ANN)
    assert team.store.found_faithful(pair.id) == []
    team.save(BOB, outcome="faithful")
    assert team.store.found_faithful(pair.id) == ["Bob"]
    team.save(BOB, "A red cup on a small table.")
    assert team.store.found_faithful(pair.id) == []


def test_what_is_made_of_a_gold_item_stays_gold(team):
    team.add("g0", gold=())
    pair = team.save(ANN, answer="g0")
    assert team.state(pair) == "gold"
    team.save(ANN, "A green cup on a big table.", answer="g0")
    team.store.restore(pair.id, 1, "Ann", "v-ann")
    team.save(ANN, answer="g0", outcome="faithful")
    team.store.restore(pair.id, 1, "Ann", "v-ann")
    assert team.state(pair) == "gold"
    team.undo(pair, ANN, others=False)
    team.undo(pair, ANN, others=False)
    assert team.state(pair) == "gold" and team.store.pair(pair.id)
    assert team.store.find_pairs(state="accepted").total == team.store.find_pairs(state="submitted").total == 0


def test_two_corrections_of_one_answer_are_rivals_and_neither_is_accepted_alone(team, both):
    one, other = both
    assert team.store.rivals(one.id) == [other.id] and team.store.rivals(other.id) == [one.id]
    with pytest.raises(InvalidData, match="another correction"):
        team.store.review(one.id, "accepted", RAY)
    team.store.review(other.id, "returned", RAY, "no")
    assert team.store.rivals(one.id) == []
    team.store.review(one.id, "accepted", RAY)


def test_the_chosen_one_is_accepted_and_the_other_superseded(team, both):
    one, other = both
    assert team.store.adjudicate(other.id, one.id, RAY) == other
    assert (team.state(one), team.state(other)) == ("superseded", "accepted")
    assert team.store.rivals(other.id) == []
    with pytest.raises(InvalidData):
        team.store.adjudicate(one.id, other.id, RAY)
    assert team.texts(other)[-1] == "Ray chose it over Ann's correction"
    assert team.texts(one)[-1] == "Ray put it behind Bob's correction"
    assert [pair.id for pair in team.store.all_pairs(state="accepted")] == [other.id]


def test_an_accepted_first_correction_can_still_lose(team):
    one = team.save(ANN)
    team.store.review(one.id, "accepted", RAY)
    other = team.save(BOB, "A red cup on a small table.")
    team.store.adjudicate(other.id, one.id, RAY)
    assert (team.state(one), team.state(other)) == ("superseded", "accepted")


def test_a_merge_is_a_revision_by_the_reviewer(team, both):
    one, other = both
    merged = team.store.adjudicate(one.id, other.id, RAY, (*one.edits, *other.edits))
    assert merged.chosen == "A blue cup on a small table." and merged.revision == 2 and merged.id == one.id
    assert (team.state(one), team.state(other)) == ("accepted", "superseded")
    last = team.store.history(one.id)[-1]
    assert (last.action, last.annotator, last.pair) == ("merged", "Ray", merged)
    assert merged.provenance.consent and merged.provenance.annotator == "Ann"
    assert team.texts(one)[-1] == "Ray merged it with Bob's correction"
    assert team.texts(other)[-1] == "Ray merged it into Ann's correction"
    [double] = team.store.double_work()
    assert double.edits == (one.edits, other.edits)  # as they made them, not as it was merged


@pytest.mark.parametrize("terms", [{"consent": False}, {"licence": "cc0-1.0"}])
def test_a_merge_is_publishable_only_where_both_agreed_alike(team, terms):
    one = team.save(ANN)
    other = team.save(BOB, "A red cup on a small table.", **terms)
    assert not team.store.adjudicate(one.id, other.id, RAY, (*one.edits, *other.edits)).provenance.consent


def test_what_cannot_be_merged_changes_nothing(team, both):
    one, other = both
    team.add("a1")
    elsewhere = team.save(BOB, answer="a1")
    for winner, loser, edits in [
        (one, other, ()),
        (one, other, (Edit(0, 5, "x", "object"), Edit(3, 8, "y", "object"))),
        (one, other, (Edit(0, 999, "x", "object"),)),
    ]:
        with pytest.raises(InvalidCorrection):
            team.store.adjudicate(winner.id, loser.id, RAY, edits)
    for loser in (elsewhere, one):
        with pytest.raises(InvalidData, match="same answer"):
            team.store.adjudicate(one.id, loser.id, RAY)
    assert [team.state(pair) for pair in (one, other, elsewhere)] == ["submitted"] * 3
    assert team.store.pair(one.id) == one
