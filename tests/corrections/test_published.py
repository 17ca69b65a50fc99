"""What waits for the Hub, where it is placed, and who is named: the store's side, without a Hub."""

from dataclasses import replace

import pytest

from rlhfv.corrections.conversation import Sampling
from rlhfv.corrections.erasing import Eraser
from rlhfv.corrections.published import (
    SHARD_ROWS,
    Attempt,
    LeaseLost,
    Placed,
    Published,
    Remote,
    Waiting,
)

REPO = "ann/pairs"


@pytest.fixture
def published(store):
    return Published(store.path)


@pytest.fixture
def save(store, make_answer, make_pair):
    def save(*ids, **fields):
        changes = {name: fields.pop(name) for name in ("licence", "consent", "annotator") if name in fields}
        pairs = [make_pair(make_answer(), f"There is a {fields.get('colour', 'blue')} fork.", id=id) for id in ids]
        store.add_pairs([replace(pair, provenance=replace(pair.provenance, **changes)) for pair in pairs])

    return save


@pytest.fixture
def publish(published):
    """Freezes and records, as a push does that works at once."""

    def publish(repo=REPO, image_bytes=lambda name: 10):
        batch = published.freeze(repo, image_bytes)
        assert published.take_lease(repo, "me", 60)
        published.record(repo, "me", Remote(head="h"), batch.changes)
        return batch

    return publish


def test_what_waits_is_counted_per_repository(store, published, save, publish):
    save("a", "b")
    assert published.waiting(REPO) == Waiting(added=2)
    publish()
    assert published.waiting(REPO).total == 0 and published.waiting("ann/other") == Waiting(added=2)
    save("a", colour="green")
    store.delete("b", "ann")
    save("c")
    assert published.waiting(REPO) == Waiting(added=1, changed=1, removed=1)
    publish()
    store.undo("b", "ann")
    assert published.waiting(REPO) == Waiting(added=1)


def test_what_changes_during_a_push_waits_again(store, published, save):
    save("a")
    batch = published.freeze(REPO, lambda name: 10)
    save("a", colour="green")
    published.take_lease(REPO, "me", 60)
    published.record(REPO, "me", Remote(head="h"), batch.changes)
    assert published.waiting(REPO) == Waiting(changed=1)


def test_shards_are_bounded_by_rows(published, save, publish):
    ids = [f"p{number:04}" for number in range(2 * SHARD_ROWS + 1)]
    save(*ids)
    batch = publish()
    assert {key: len(rows) for key, rows in batch.shards.items()} == {
        ("pairs", 0): SHARD_ROWS,
        ("pairs", 1): SHARD_ROWS,
        ("pairs", 2): 1,
    }
    save("later")
    assert [one.shard for one in published.freeze(REPO, lambda name: 10).changes] == [2]


def test_shards_are_bounded_by_bytes(store, published, publish, make_answer, make_pair):
    names = [f"{number:064x}.png" for number in range(5)]
    store.add_pairs(
        [make_pair(make_answer(images=[name]), "There is a blue fork.", id=f"p{name[60:64]}") for name in names]
    )
    sizes = dict(zip(names, (30, 30, 30, 200, 1), strict=True))
    batch = publish(image_bytes=lambda name: sizes[name] * 2**20)
    assert [one.shard for one in batch.changes] == [0, 0, 1, 2, 3]


def test_a_shard_holds_all_its_rows_by_id(store, published, save, publish):
    save("c", "a", "b")
    publish()
    save("b", colour="green")
    (rows,) = published.freeze(REPO, lambda name: 10).shards.values()
    assert [(row.item, row.revision) for row in rows] == [("a", 1), ("b", 2), ("c", 1)]
    store.delete("a", "ann")
    store.delete("b", "ann")
    store.delete("c", "ann")
    batch = published.freeze(REPO, lambda name: 10)
    assert batch.shards == {("pairs", 0): ()} and {one.revision for one in batch.changes} == {0}


def test_pairs_without_their_picture_are_left_out(store, published, make_answer, make_pair):
    name = "a" * 64 + ".png"
    store.add_pairs([make_pair(make_answer(images=[name]), "There is a blue fork.", id="a")])
    batch = published.freeze(REPO, lambda name: None)
    assert batch.changes == () and batch.left_out == (("a", f"its picture {name} is not here"),)


def test_reasons_to_stay_here(store, published, save):
    save("a")
    save("b", consent=False)
    save("c", licence="")
    save("d", licence="not to be published")
    for number, state in enumerate(("submitted", "returned", "superseded", "gold")):
        save(f"s{number}")
        with store._transaction() as connection:
            connection.execute("UPDATE pairs SET state = ? WHERE id = ?", (state, f"s{number}"))
    published.withhold(["e"])
    save("e")
    assert published.waiting(REPO) == Waiting(added=1)
    assert published.unpublishable() == {
        "no consent to publication": 1,
        "no licence": 1,
        "not to be published": 1,
        "not accepted yet": 2,
        "not meant for the data set": 2,
        "withheld for good": 1,
    }


def test_an_edit_under_review_leaves_the_accepted_row_and_a_taken_back_one_goes(store, published, save, publish):
    def set_state(id, state):
        with store._transaction() as connection:
            connection.execute("UPDATE pairs SET state = ? WHERE id = ?", (state, id))

    save("a", "b")
    publish()
    save("a", colour="green")
    for state in ("submitted", "returned"):
        set_state("a", state)
        assert published.waiting(REPO).total == 0
    set_state("b", "returned")
    assert published.waiting(REPO) == Waiting(removed=1)
    publish()
    save("b", colour="green")
    set_state("b", "submitted")
    assert published.waiting(REPO).total == 0
    set_state("a", "accepted")
    set_state("b", "accepted")
    assert published.waiting(REPO) == Waiting(added=1, changed=1)


def test_erased_rows_wait_to_be_taken_out(store, published, save, publish):
    save("a", "b")
    publish()
    eraser = Eraser(store.path)
    eraser.erase(eraser.find(["a"], []))
    assert published.waiting(REPO) == Waiting(removed=2)  # both correct the same answer
    assert publish().shards == {("pairs", 0): ()}


@pytest.fixture
def judge(store, make_answer, make_judgement):
    for id in "xyz":
        store.add_answer(make_answer(id))

    def judge(id, *answers, **fields):
        store.save(make_judgement(id, *answers, **{"licence": "cc-by-4.0", "consent": True, **fields}))

    return judge


@pytest.mark.parametrize(
    ("later", "wanted"),
    [
        (("x",), {"j2"}),
        (("y",), {"j1", "j2"}),
    ],
)
def test_the_last_judgement_of_an_answer_counts(published, judge, later, wanted):
    judge("j1", "x", outcome="skipped")
    judge("j2", *later, outcome="faithful")
    assert {one.item for one in published.freeze(REPO, lambda name: 10).changes} == wanted


def test_votes_on_the_same_two_answers_replace_one_another(published, judge):
    judge("j1", "x", "y", outcome="tie")
    judge("j2", "x", "z", outcome="tie")
    judge("j3", "x", outcome="faithful")
    judge("j4", "y", "x", outcome="both_bad")
    judge("j5", "x", "y", outcome="tie", annotator="somebody else")
    judge("j6", "z", outcome="faithful", consent=False)
    changes = published.freeze(REPO, lambda name: 10).changes
    assert {one.item for one in changes} == {"j2", "j3", "j4", "j5"}
    assert {one.part for one in changes} == {"judgements"}


def test_what_is_said_of_a_gold_item_is_not_published(store, published, judge):
    judge("j1", "x", outcome="faithful")
    judge("j2", "y", outcome="faithful")
    with store._transaction() as connection:
        connection.execute(
            "INSERT INTO tasks (id, fingerprint, created, document, answer, gold, lot)"
            " VALUES ('t', 'f', '2026', '{}', 'x', '[]', 0)"
        )
    assert [one.item for one in published.freeze(REPO, lambda name: 10).changes] == ["j2"]


def test_pseudonyms_are_stable_and_say_nothing(published, save, publish):
    save("a", "b", annotator="Ann Lee")
    save("c", annotator="oracle")
    shown = {one.item: one.shown for one in publish().changes}
    assert shown["a"] == shown["b"] != "Ann Lee" and "ann" not in shown["a"].removeprefix("annotator").lower()
    assert shown["c"] == "oracle"
    assert published.shown_names(["Ann Lee", ""]) == {"Ann Lee": shown["a"], "": ""}
    assert published.local_name(shown["a"]) == "Ann Lee" and published.local_name("somebody") == "somebody"
    published.set_named("Ann Lee", True)
    assert published.waiting(REPO) == Waiting(changed=2)
    assert {one.shown for one in publish().changes} == {"Ann Lee"}
    published.set_named("Ann Lee", False)
    assert {one.shown for one in publish().changes} == {shown["a"]}


def test_attempts_are_kept_once_and_settled_by_a_record(published, save):
    attempt = Attempt({"data/train-00000.parquet": ["sha256:1"]}, (Placed("pairs", "a", 0, 1, "x", 10, new=True),))
    published.add_attempt(REPO, attempt)
    published.add_attempt(REPO, attempt)
    published.add_attempt(REPO, replace(attempt, url="http://hub/1"))
    assert published.attempts(REPO) == [replace(attempt, url="http://hub/1"), attempt]
    published.take_lease(REPO, "me", 60)
    published.record(REPO, "me", Remote("h", {"data/x": ["git:1"]}, "card"), open_attempts=[attempt])
    assert published.attempts(REPO) == [attempt] and published.attempts("ann/other") == []
    assert published.remote(REPO) == Remote("h", {"data/x": ["git:1"]}, "card")
    assert published.remote("ann/other") == Remote() and published.remotes() == [REPO]


def test_leases(published):
    assert published.take_lease(REPO, "one", 60) and published.take_lease(REPO, "one", 60)
    assert not published.take_lease(REPO, "two", 60) and published.take_lease("ann/other", "two", 60)
    with pytest.raises(LeaseLost):
        published.record(REPO, "two", Remote("h"))
    published.give_lease_back(REPO, "two")
    assert not published.take_lease(REPO, "two", 60)
    published.give_lease_back(REPO, "one")
    assert published.take_lease(REPO, "two", 0) and published.take_lease(REPO, "three", 60)


def test_which_items_stand_there(published, save, publish, store):
    save("a", "b")
    publish()
    store.delete("b", "ann")
    publish()
    assert published.placed(REPO, ["a", "b", "c"]) == {"a"}


def test_a_pair_that_begins_at_a_later_revision_can_be_undone(store, published, make_answer, make_pair):
    pair = make_pair(make_answer(), "There is a blue fork.", id="p", revision=7)
    assert published.merge_pairs(REPO, [(pair, "2026-01-01T00:00:00", 0, 10)]) == ["new"]
    assert store.pair("p").revision == 7 and store.history("p")[0].created == "2026-01-01T00:00:00"
    store.add_pairs([replace(pair, provenance=replace(pair.provenance, sampling=Sampling(seed=9)))])
    assert store.undo("p", "ann").pair.provenance.sampling == pair.provenance.sampling
    fresh = make_pair(make_answer(), "There is a blue fork.", id="q", revision=7)
    published.merge_pairs(REPO, [(fresh, "", 0, 10)])
    assert store.undo("q", "ann").pair is None
