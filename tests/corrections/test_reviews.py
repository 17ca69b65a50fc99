import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhfv.corrections.conversation import Prompt
from rlhfv.corrections.edits import Edit
from rlhfv.corrections.reviews import STATES, TRANSITIONS, Person
from rlhfv.corrections.store import Store
from rlhfv.corrections.story import tell_story
from rlhfv.corrections.tasks import NewTask
from rlhfv.errors import Forbidden, InvalidCorrection, InvalidData, NotFound, StudioError

ANN, BOB, RAY = Person("v-ann", "Ann"), Person("v-bob", "Bob"), Person("v-ray", "Ray")
UNTIL = 2_000_000_000.0
TEXT = "A red cup on a big table."


@pytest.fixture
def team(tmp_path, make_answer, make_pair, make_judgement):
    """A team's store with one open task, the answer "a0", and shortcuts."""

    class Team:
        def __init__(self):
            self.store, self.number = Store(tmp_path / "team.db", team=True), itertools.count()
            self.add("a0")

        def add(self, id, gold=None):
            prompt = Prompt(f"{id}?")
            self.store.add_tasks([NewTask(prompt, answer=make_answer(id, TEXT, prompt=prompt), gold=gold)])

        def save(self, who, chosen="A blue cup on a big table.", answer="a0", outcome="corrected", **provenance):
            judgement = make_judgement(f"j{next(self.number)}", answer, outcome=outcome, annotator=who.name)
            pair = None
            if outcome == "corrected":
                pair = make_pair(self.store.answer(answer), chosen, who.name)
                pair = replace(pair, provenance=replace(pair.provenance, **provenance))
            return self.store.save(judgement, pair, who.visitor).pair

        def state(self, pair):
            return self.store.pair_states([pair.id])[0]

        def undo(self, pair, who=RAY, others=True):
            return self.store.undo_review(pair.id, who, others, UNTIL)

        def texts(self, pair):
            parts = self.store.history, self.store.reviews, self.store.pushes, self.store.others_in_deeds
            return [line.text for line in tell_story(*(part(pair.id) for part in parts))]

    return Team()


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


# ---- two corrections of one answer


@pytest.fixture
def both(team):
    return (
        team.save(ANN, "A blue cup on a big table."),
        team.save(BOB, "A red cup on a small table."),
    )


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


# ---- undo


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
