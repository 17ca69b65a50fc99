import json
from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import ModelIdentity, Prompt
from rlhfv.corrections.edits import KINDS, Edit
from rlhfv.corrections.reviews import Person
from rlhfv.corrections.store import Store
from rlhfv.corrections.tasks import NewTask

TEXT = "There's a red fork, and two 猫 on the table."
OTHER = ModelIdentity("other", "1", "mine@2")


@pytest.fixture
def judge(store, make_answer, make_pair, make_judgement):
    """Judges an answer, made where it is new, by edits of the kinds given."""
    numbers = iter(range(1000))

    def judge(id, *kinds, outcome="corrected", annotator="ann", model=None, seconds=0.0):
        try:
            answer = store.answer(id)
        except Exception:
            answer = make_answer(id, TEXT)
            answer = replace(answer, model=model) if model else answer
            store.add_answer(answer)
        edits = tuple(Edit(3 * place, 3 * place + 2, "new", kind) for place, kind in enumerate(kinds))
        pair = None
        if outcome == "corrected":
            pair = make_pair(answer, "x", annotator)
            pair = replace(pair, edits=edits)
            pair = replace(pair, chosen=pair.corrected_answer.corrected)
        judgement = make_judgement(
            f"j{next(numbers)}", id, outcome=outcome, annotator=annotator, active_seconds=seconds
        )
        return store.save(judgement, pair).pair

    return judge


def test_an_empty_store_has_figures_without_a_division_by_zero(store):
    found = store.statistics()
    assert found.total.answers == found.total.judged == found.preferred == 0
    assert found.total.nothing_wrong == found.total.words_per_answer == found.total.seconds_per_correction == 0
    assert set(found.total.kinds) == set(KINDS) and set(found.total.response_rates) == {*KINDS, "any"}
    assert found.annotators == found.models == () and found.states == {}


def test_every_figure_by_hand(store, judge, make_answer, make_pair):
    judge("a1", "object", "object", "number", seconds=30)
    judge("a2", "object", seconds=10)
    judge("a3", "action", annotator="bob", model=OTHER)
    judge("a4", outcome="faithful")
    judge("a5", outcome="faithful", annotator="bob", model=OTHER)
    judge("a6", outcome="skipped")
    store.add_pairs([replace(make_pair(make_answer("import"), "No."), edits=(Edit(0, 33, "No.", "other"),))])
    found = store.statistics()
    total = found.total
    assert (total.answers, total.corrections, total.judged) == (4, 6, 5)
    assert total.kinds == {"object": 3, "position": 0, "number": 1, "attribute": 0, "action": 1, "other": 1}
    assert total.words_per_answer == pytest.approx((3 * 10 + 8) / 4)
    assert total.corrections_per_answer == pytest.approx(6 / 4)
    assert total.seconds_per_answer == 20 and total.seconds_per_correction == 10
    assert total.nothing_wrong == pytest.approx(2 / 5)
    rates = {kind: total.response_rates[kind] for kind in ("object", "number", "action", "other", "any")}
    assert rates == {"object": 0.4, "number": 0.2, "action": 0.2, "other": 0, "any": 0.6}  # the import was not judged
    ann, bob = found.annotators
    assert (ann.name, ann.answers, ann.judged, bob.name, bob.answers, bob.judged) == ("ann", 3, 3, "bob", 1, 2)
    assert bob.nothing_wrong == 0.5 and bob.kinds["action"] == 1 and bob.seconds_per_answer == 0
    assert [(model.name, model.answers, model.judged) for model in found.models] == [
        ("demo@" + "a" * 64, 3, 3),
        (str(OTHER), 1, 2),
    ]
    assert found.states == {"accepted": 4}


def test_the_last_judgement_counts_and_the_longest_sitting(store, judge):
    judge("a1", "object", seconds=20)
    judge("a1", "object", "number", seconds=35)
    judge("a1", "number", seconds=5)
    total = store.statistics().total
    assert (total.answers, total.corrections, total.judged, total.seconds_per_answer) == (1, 1, 1, 35)
    judge("a1", outcome="faithful")
    total = store.statistics().total
    assert (total.answers, total.judged, total.nothing_wrong) == (0, 1, 1)


def test_what_was_deleted_undone_superseded_or_gold_counts_nowhere(tmp_path, make_answer, make_pair, make_judgement):
    store = Store(tmp_path / "team.db", team=True)
    gold, asked = (
        NewTask(prompt, answer=make_answer(id, TEXT, prompt=prompt), gold=known)
        for id, known, prompt in (("g", (), Prompt("g?")), ("a", None, Prompt("a?")))
    )
    store.add_tasks([gold, asked])
    made = []
    for number, (visitor, answer) in enumerate([("ann", "g"), ("ann", "a"), ("bob", "a")]):
        pair = make_pair(store.answer(answer), f"Nothing {visitor}.", visitor)
        made.append(store.save(make_judgement(f"j{number}", answer, annotator=visitor), pair, visitor).pair)
    assert (store.statistics().total.answers, store.statistics().total.judged) == (2, 2)
    store.adjudicate(made[1].id, made[2].id, Person("ray", "Ray"))
    found = store.statistics()
    assert (found.total.answers, found.total.judged) == (1, 1)
    assert found.states == {"accepted": 1, "superseded": 1, "gold": 1}
    for _ in range(2):
        store.undo_review(made[1].id, Person("ray", "Ray"), True, 9e9)
    found = store.statistics()
    assert [figures.name for figures in found.annotators] == ["bob"] and found.total.judged == 1
    store.delete(made[2].id, "bob", "bob")
    assert store.statistics().total.answers == store.statistics().total.judged == 0


def test_one_visitors_own_figures(store, judge, make_answer, make_pair, make_judgement):
    judge("a1", "object")
    mine = make_answer("mine", TEXT, visitor="v2")
    store.add_answer(mine)
    store.save(make_judgement("m1", "mine", outcome="faithful"))
    assert store.statistics("v2").total.judged == 1 and store.statistics("v2").total.answers == 0
    assert store.statistics("visitor-1").total.answers == 1
    assert store.statistics("nobody").total.judged == 0


def test_preferred_pairs_are_counted_beside(store, make_answer, make_pair, make_judgement):
    one, two = make_answer("one"), make_answer("two", "There is a spoon.")
    store.add_answer(one)
    store.add_answer(two)
    pair = make_pair(one, two.text, outcome="preferred", edits=())
    store.save(make_judgement("j", "two", "one", outcome="preferred"), pair)
    found = store.statistics()
    assert (found.preferred, found.total.answers, found.total.judged) == (1, 0, 0)


def test_figures_follow_every_revision(store, judge):
    pair = judge("a1", "object", "number")
    assert store.statistics().total.corrections == 2
    judge("a1", "object")
    assert store.statistics().total.corrections == 1
    store.restore(pair.id, 1, "ann")
    assert store.statistics().total.corrections == 2
    store.delete(pair.id, "ann")
    assert store.statistics().total.corrections == 0
    rows = store._connection.execute("SELECT count(*) FROM pair_figures").fetchone()[0]
    assert rows == 0 and json.dumps(vars(store.statistics().total))
